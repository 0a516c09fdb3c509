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

from .probed import variances

#: Typical places besides the shipped one: usual_db, swing_db.
OTHERS = ((-16.5, 1.6), (-15.5, 2.2), (-16.5, 2.7), (-16.5, 3.5), (-18.0, 2.9), (-18.0, 3.3))


@dataclass(frozen=True)
class IndexScore:
    """Score of one typical place on N labels.

    r, rmse, bias: of SM between the limits, m3 m-3.
    error: variances of observed minus index, in index units.
    """

    typical: Typical
    labels: int
    dates: int
    r: float
    rmse: float
    bias: float
    error: Variances


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
    scored = np.isfinite(index) & np.isfinite(label)
    if scored.sum() < 3:
        raise DataError(f"{table.source}: {int(scored.sum())} labels have a value; 3 are needed")
    index, sm = index[scored], label[scored]
    error = dry + (wet - dry) * index - sm
    field = table.text["field"] if "field" in table.text else table.site.tolist()
    day = table.date[scored].astype("datetime64[D]").astype(np.int64)
    group = np.asarray(field, np.str_)[scored]
    return IndexScore(
        typical=typical,
        labels=int(scored.sum()),
        dates=len(np.unique(day)),
        r=float(np.corrcoef(index, sm)[0, 1]),
        rmse=float(np.sqrt(np.mean(error**2))),
        bias=float(error.mean()),
        error=variances(-error / (wet - dry), group, day),
    )


def as_text(scores: Sequence[IndexScore], dry: float, wet: float) -> str:
    """Format the scores as a Markdown table, the shipped typical place first."""
    lines = [
        f"VH alone, pass by pass, between {dry:g} and {wet:g} m3/m3: {scores[0].labels} labels on "
        f"{scores[0].dates} dates",
        "",
        "| typical place | usual dB | swing dB | R | RMSE | bias |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for at, one in enumerate(scores):
        name = "shipped" if at == 0 else "other"
        lines.append(
            f"| {name} | {one.typical.usual_db:.1f} | {one.typical.swing_db:.1f} | {one.r:.3f} | "
            f"{one.rmse:.4f} | {one.bias:+.3f} |"
        )
    error = scores[0].error
    lines += [
        "",
        f"error variances of the shipped one, index units squared: date {error.date:.4f}, "
        f"field {error.field:.4f}, point {error.point:.4f}",
    ]
    return "\n".join(lines)
