"""Outputs of the commands: result tables, counts of flags, descriptions of a model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.quantities import SOIL_MOISTURE
from ..context.definitions import looks_back
from ..kernels.wcm import Isolated
from ..model.card import Card
from ..model.onnx_reader import ModelFile
from ..model.result import Retrieval
from ..tables.table import Table, write_csv
from ..tables.text_column import TextColumn
from ..tables.vegetation import HELD_COLUMNS

if TYPE_CHECKING:
    from ..model.model import Model


def write_retrieval(
    path: Path,
    table: Table,
    result: Retrieval,
    *,
    simulated: bool = False,
    further: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write ``site,date,sm,sm_lower,sm_upper,soil_db,flags``, one row per row of the file read.

    Of an index it writes ``site,date,wetness,flags``.
    simulated: adds a column ``source`` with the value ``simulated``.  further: more columns.
    """
    columns: dict[str, ArrayLike] = {**result.columns()}
    if result.quantity is not SOIL_MOISTURE:
        columns = {result.quantity.column: result.sm}
    write_columns(path, table, {**columns, **(further or {})}, result.flags, simulated)


def write_isolated(path: Path, table: Table, soil: Isolated) -> None:
    """Write ``site,date,soil_db,soil_fraction,flags``, one row per row of the file read."""
    columns: dict[str, ArrayLike] = {
        "soil_db": soil.soil_db,
        "soil_fraction": soil.soil_fraction,
    }
    write_columns(path, table, columns, soil.flags)


def summary(value: NDArray[np.float32], mask: NDArray[np.uint16]) -> str:
    """Count rows with a number, and rows of each flag.

    >>> summary(np.float32([0.2, np.nan]), np.uint16([0, flags.MISSING_INPUT]))
    '2 rows, 1 with a number; missing_input 1'
    """
    counts = count_rows(value, mask)
    flagged = ", ".join(f"{name} {count}" for name, count in counts["flags"].items())
    return (
        f"{counts['rows']} rows, {counts['with_number']} with a number"
        f"{'; ' if flagged else ''}{flagged}"
    )


def count_rows(value: NDArray[np.float32], mask: NDArray[np.uint16]) -> dict[str, Any]:
    """Count ``rows``, those ``with_number``, and rows of each of ``flags`` that occurs."""
    return {
        "rows": len(value),
        "with_number": int(np.isfinite(value).sum()),
        "flags": {
            name: count
            for bit, name in enumerate(flags.NAMES)
            if (count := int(np.count_nonzero(mask & (1 << bit))))
        },
    }


def to_json(output: Path, counts: Mapping[str, Any], simulated: bool) -> str:
    """Return the counts of a result and its file as one line of JSON, for ``--json``."""
    return json.dumps({"output": str(output), **counts, "simulated": simulated})


def advice(model: Model, mask: NDArray[np.uint16], *, has_past: bool, holds: bool) -> list[str]:
    """Return remarks on options that would give more rows a value or a history.

    mask: (R,) flags of the rows.  has_past, holds: ``--past`` and ``--hold-vegetation`` are set.
    """
    remarks = []
    lacking = int(np.count_nonzero(mask & (flags.SHORT_HISTORY | flags.CONTEXT_MISSING)))
    missing = int(np.count_nonzero(mask & flags.MISSING_INPUT))
    if lacking and not has_past:
        remedy = "put earlier acquisitions into the table"
        if model.looks_back():
            remedy += ", or pass --past FILE on each call"
        remarks.append(f"{lacking} rows lack history: {remedy}")
    if missing and not holds and set(HELD_COLUMNS) & set(model.card.inputs.columns):
        remarks.append(
            f"{missing} rows lack an input; where it is the vegetation, --hold-vegetation DAYS "
            "uses an earlier one"
        )
    return remarks


def describe(file: ModelFile) -> str:
    """Describe a model as text: kind, inputs, physics, scores and training data."""
    card = file.card
    if card.quantity == "wetness":
        return _index_in_words(file)
    lines = [
        f"{(file.path.name if file.path else 'model')}: {card.kind}, {file.role} graph, "
        f"kgsm {card.kgsm_version}, {card.created}",
        f"reads: {_reads(card)}; windows of {card.steps} acquisitions",
        f"network: {card.members} LSTM of {card.hidden} hidden units, averaged",
    ]
    if card.wcm:
        wcm = card.wcm
        angle = f"{wcm.angle_ref_deg:g} degrees" if not wcm.needs_angle else wcm.angle_rule
        lines.append(
            f"water cloud model: A {wcm.a:.5f} (learnt), B {wcm.b:g}, E {wcm.e:g}, "
            f"VWC rule {wcm.vwc_rule}, angle {angle}"
        )
    lines += in_words(card)
    lines.append(f"validation: {_scores(card.validation)}")
    if card.no_skill:
        lines.append(f"NO SKILL: {card.no_skill}")
    lines.append("interval: none on the card; sm_lower and sm_upper stay empty")
    if card.interval:
        low, high, level = (card.interval[key] for key in ("lower", "upper", "level"))
        lines[-1] = f"interval: {level:.0%}, SM {low:+.3f} to {high:+.3f} m3/m3"
        field = card.interval.get("field")
        if field:
            lines[-1] += f"; of a field's mean {field['lower']:+.3f} to {field['upper']:+.3f}"
        names = [term["name"] for term in card.interval.get("terms", ())]
        if names:
            lines[-1] += f"; wider or narrower by {', '.join(names)}"
    data = card.training_data
    lines.append(
        f"trained on: {data.get('name')} ({data.get('samples')} samples, "
        f"{data.get('sites')} sites; licence: {data.get('licence')})"
    )
    if card.simulated:
        lines.append("SIMULATED: trained on simulated data; not for decisions on real fields")
    return "\n".join(lines)


def _index_in_words(file: ModelFile) -> str:
    """Describe the label-free index: nothing in it is fitted, so it has no validation scores."""
    card = file.card
    lines = [
        f"{file.path.name if file.path else 'model'}: wetness index, kgsm {card.kgsm_version}; "
        "nothing is fitted, no label was used",
        "gives: 0 (driest) to 1 (wettest), no unit: the normal distribution function of 1/2 z + "
        "1/2 z_scene",
        "  z: VH above the usual VH of the place, in swings of the place; z_scene: mean over the "
        "fields of the pass",
        "reads: VH sigma0 (dB); optional: field, orbit, ndvi or vwc_kg_m2 (flag "
        "dense_vegetation), temp_c, snow_cover (flag frozen_or_snow)",
    ]
    if card.head is not None and card.head.limits is not None:
        low, high = card.head.limits
        lines.append(f"limits: {low:g} to {high:g}")
    lines += _history_in_words(card)
    lines.append("fewer than five passes of a place: context_missing")
    variances = card.error_variances
    if variances:
        parts = ", ".join(f"{name} {variances[name]:.4f}" for name in ("date", "field", "point"))
        lines.append(f"error variances, index units squared: {parts} ({variances['source']})")
    lines.append(
        "m3/m3: only between limits that are stated, or given by texture: kgsm-infer wetness"
    )
    return "\n".join(lines)


def in_words(card: Card) -> list[str]:
    """Describe the physics head and the history, one line each."""
    lines = []
    head = card.head
    if head is not None:
        title = {"change": "change detection", "wcm": "the WCM", "index": "the index"}[head.kind]
        if head.limits is None:
            lines.append(f"physics: {title}; SM is {head.intercept:.3f} m3/m3")
        else:
            dry, wet = head.limits
            lines.append(
                f"physics: {title}; SM is {dry:.3f} + {wet - dry:.3f} Phi(x) m3/m3, x the sum of"
            )
        lines += [
            f"  {term.slope:+.3f} for each {_of_term(term.channel, term.lag)}"
            for term in head.terms
        ]
        lines.append(f"  {head.shrink:+.2f} of the LSTM's output")
    return [*lines, *_history_in_words(card)]


def _history_in_words(card: Card) -> list[str]:
    """Describe the passes that a place is compared with, and the typical place."""
    lines = []
    histories = [
        name for name in (*card.names("dynamic"), *card.names("static")) if looks_back(name)
    ]
    if histories:
        span = {
            "past": "its acquisitions up to the target",
            "all": "its whole archive, later acquisitions too",
        }[card.history.span]
        lines.append(f"history: a place is compared with {span}")
        for pol, typical in card.history.typical.items():
            if any(name.startswith(f"{pol}_anomaly") for name in histories):
                lines.append(
                    f"  {pol.upper()} of a typical place: {typical.usual_db:.1f} dB, swinging by "
                    f"{typical.swing_db:.1f} dB, weighted as {typical.looks:g} looks"
                )
    return lines


def _of_term(channel: str, lag: int) -> str:
    pol = channel[:2].upper()
    words = {
        "soil_db": "dB of the soil's backscatter below the vegetation",
        "ndvi_over_scene": "1.0 of NDVI over the scene's mean",
        "angle_deg": "degree of incidence angle",
        f"{channel[:2]}_anomaly": f"swing that the place's {pol} is over its usual level",
        f"{channel[:2]}_anomaly_scene": f"swing that {pol} is over usual, in the scene's mean",
    }.get(channel, f"unit of {channel}")
    return words + (" at the look before" if lag == 1 else f" {lag} looks before" * (lag > 1))


def _reads(card: Card) -> str:
    columns = card.inputs.columns[1:]
    return ", ".join([f"{card.polarisation.upper()} sigma0 (dB)", *columns])


def _scores(validation: Mapping[str, object]) -> str:
    if not validation:
        return "none on the card (run crossval before fit, into the same folder)"
    other = validation.get("other")
    regimes = {str(validation.get("regime", "new groups")): validation}
    if isinstance(other, Mapping):
        regimes |= other
    parts = [f"{name}: {_regime(one)}" for name, one in regimes.items()]
    if validation.get("note"):
        parts.append(f"no score on new dates: {validation['note']}")
    return "; ".join(parts)


def _regime(scores: Mapping[str, object]) -> str:
    """Format R and RMSE of rows and of field means, with their counts."""
    text = f"{_r_and_rmse(scores)}, n {scores.get('n')}, {scores.get('groups')} groups"
    if scores.get("dates"):
        text += f", {scores['dates']} dates"
    within = scores.get("within_dates")
    if isinstance(within, Mapping) and isinstance(within.get("r"), float):
        low = (within.get("interval_95") or (None,))[0]
        unable = isinstance(low, float) and low <= 0
        text += f", R within dates {within['r']:.2f}"
        text += " (cannot rank fields on one day)" if unable else ""
    mean = scores.get("group_mean")
    return f"{text}, group means {_r_and_rmse(mean)}" if isinstance(mean, Mapping) else text


def _r_and_rmse(scores: Mapping[str, object]) -> str:
    r, rmse = scores.get("r"), scores.get("rmse")
    return " ".join(
        f"{name} {value:.{digits}f}"
        for name, value, digits in (("R", r, 3), ("RMSE", rmse, 4))
        if isinstance(value, float)
    )


def write_columns(
    path: str | Path,
    table: Table,
    columns: Mapping[str, ArrayLike],
    mask: NDArray[np.uint16],
    simulated: bool = False,
) -> None:
    """Write ``site,date``, the columns (R,) and ``flags``, one row per row of the file read.

    simulated: adds ``source``, as a table with rows of simulated data does.
    """
    values, code = np.unique(table.to_file_rows(mask), return_inverse=True)
    words = TextColumn.of(flags.names(int(value)) for value in values).take(code)
    date_text = table.date_text if table.original is None else table.original.date_text
    written: dict[str, ArrayLike] = {"site": table.to_file_rows(table.site), "date": date_text}
    written |= {name: table.to_file_rows(values) for name, values in columns.items()}
    written["flags"] = words
    if simulated or table.simulated:
        written["source"] = TextColumn.of(["simulated"]).take(np.zeros(len(words), np.int64))
    write_csv(path, written)
