"""Score the label-free index on a labelled table, for several typical places.

    kgsm-train index-score TABLE --dry 0.05 --wet 0.40

Rows are taken in order of time: each value uses the passes of its place up to its own, VH alone.
The shipped typical place comes from other data (``benchmarks/typical_place.py``); the others show
how much of the score depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.model.date_effect import Variances
from kgsm_infer.model.index import wetness_model
from kgsm_infer.model.model import with_card
from kgsm_infer.tables.table import Table, read_table

from .metrics import number, scores
from .probed import shows_date_errors, variances

#: Typical places besides the shipped one: usual_db, swing_db.
OTHERS = ((-16.5, 1.6), (-15.5, 2.2), (-16.5, 2.7), (-16.5, 3.5), (-18.0, 2.9), (-18.0, 3.3))


@dataclass(frozen=True)
class IndexScore:
    """Score of one typical place on N labels.

    r, rmse, bias: of SM between the limits, m3 m-3; r is NaN where labels or index are constant.
    error: variances of observed minus index, in index units; None where no date has two fields.
    left_out: labels without an index.  dates_left_out: dates with such labels alone.
    """

    typical: Typical
    labels: int
    dates: int
    r: float
    rmse: float
    bias: float
    error: Variances | None
    left_out: int = 0
    dates_left_out: tuple[str, ...] = ()


def score_index(
    path: str | Path, dry: float, wet: float, drop: Sequence[str] = ()
) -> list[IndexScore]:
    """Score the shipped typical place, then those of OTHERS.

    drop: columns of true and false; a row with true has no label. DataError where the table lacks
    ``sm``, ``vh_db`` or fewer than three labels have a value.
    """
    table = read_table(path, require=("vh_db", "sm"), reads=("vh_db", "sm"), option="")
    label = _labels(table, drop)
    shipped = wetness_model().card.history.typical["vh"]
    others = [Typical(shipped.looks, *one) for one in OTHERS]
    return [_score(table, label, dry, wet, typical) for typical in (shipped, *others)]


def _labels(table: Table, drop: Sequence[str]) -> NDArray[np.float64]:
    """Return soil moisture (R,), m3 m-3; NaN where a column of ``drop`` is true."""
    label = table.numbers["sm"].copy()
    for name in drop:
        if name not in table.text:
            raise DataError(f"{table.source}: no column {name!r} of true and false")
        label[[cell.strip().lower() in ("1", "true", "yes") for cell in table.text[name]]] = np.nan
    return label


def _score(
    table: Table, label: NDArray[np.float64], dry: float, wet: float, typical: Typical
) -> IndexScore:
    model = wetness_model()
    card = replace(model.card, history=HistoryRule("past", {"vh": typical}))
    only_vh = replace(table, numbers={"vh_db": table.numbers["vh_db"]})
    index = with_card(model, card, "native").predict(only_vh).sm.astype(np.float64)
    labelled = np.isfinite(label)
    scored = np.isfinite(index) & labelled
    if scored.sum() < 3:
        raise DataError(f"{table.source}: {int(scored.sum())} labels have a value; 3 are needed")
    index, sm = index[scored], label[scored]
    estimated = dry + (wet - dry) * index
    found = scores(sm, estimated)
    field = table.text["field"] if "field" in table.text else table.site.tolist()
    day_of_row = table.date.astype("datetime64[D]")
    day, group = day_of_row[scored].astype(np.int64), np.asarray(field, np.str_)[scored]
    error = None
    if shows_date_errors(group, day):
        error = variances((sm - estimated) / (wet - dry), group, day)
    without = np.setdiff1d(day_of_row[labelled], day_of_row[scored])
    return IndexScore(
        typical=typical,
        labels=int(scored.sum()),
        dates=len(np.unique(day)),
        r=found.r,
        rmse=found.rmse,
        bias=found.bias,
        error=error,
        left_out=int((labelled & ~scored).sum()),
        dates_left_out=tuple(np.datetime_as_string(without).tolist()),
    )


def as_text(made: Sequence[IndexScore], dry: float, wet: float) -> str:
    """Format the scores as a Markdown table, the shipped typical place first."""
    lines = [
        f"VH alone, pass by pass, between {dry:g} and {wet:g} m3/m3: {made[0].labels} labels on "
        f"{made[0].dates} dates",
        "",
        "| typical place | usual dB | swing dB | R | RMSE | bias |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for at, one in enumerate(made):
        name = "shipped" if at == 0 else "other"
        lines.append(
            f"| {name} | {one.typical.usual_db:.1f} | {one.typical.swing_db:.1f} | "
            f"{number(one.r if np.isfinite(one.r) else None, '.3f')} | "
            f"{one.rmse:.4f} | {one.bias:+.3f} |"
        )
    error = made[0].error
    if error is None:
        known = "not known; two dates, and two fields on one of them, are needed"
    else:
        known = f"date {error.date:.4f}, field {error.field:.4f}, point {error.point:.4f}"
    lines += ["", f"error variances of the shipped one, index units squared: {known}"]
    if made[0].left_out:
        lines.append(f"left out: {made[0].left_out} labels without an index{_dates_text(made[0])}")
    return "\n".join(lines)


def _dates_text(score: IndexScore) -> str:
    dates = score.dates_left_out
    return f", all of {', '.join(dates)} among them" if dates else ""
