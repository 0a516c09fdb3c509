"""Make the interval of every model of a cross-validation from its residuals in the headline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..learning.samples import samples_of
from ..models import MODELS
from .conformal import FittedWidth, Residuals, as_card, best_width
from .crossval import Crossvalidation
from .means import days_of, group_means

LEVEL = 0.9
#: Vegetation columns; the first that the model reads is tried as a term.
VEGETATION = ("ndvi", "vwc_kg_m2", "lai", "ndvi_field")
METHOD = (
    "quantile of the sum of two Student's t, one for the error that the rows of a date share (one "
    "degree of freedom per date), one for the error within a date (one per group), with variances "
    "from residuals on {title}; scaled by a line in values known beforehand, chosen by the mean "
    "width at equal level"
)


def intervals(result: Crossvalidation, title: str) -> dict[str, dict[str, Any]]:
    """Return model -> its ``interval`` as the card writes it; none for too few residuals.

    title: the regime the residuals are of, in words.
    """
    found = {}
    for name, predicted in result.predicted.items():
        model = MODELS[name]
        if model.reference or model.reads == "nothing":
            continue
        points = _points(result, name, predicted)
        fitted = best_width(points, _candidates(points), LEVEL)
        if fitted is None:
            continue
        entry = {
            "level": LEVEL,
            "method": METHOD.format(title=title),
            "groups": len(np.unique(points.group)),
            "coverage_by_group": dict(fitted.by_group),
            "coverage_by_date": dict(fitted.by_date),
            "rows_by_date": dict(fitted.rows_by_date),
            **as_card(fitted),
        }
        field = _of_means(result, predicted)
        if field is not None:
            entry["field"] = as_card(field)
        found[name] = entry
    return found


def _points(result: Crossvalidation, name: str, predicted: NDArray[np.float32]) -> Residuals:
    config, source, design = result.config, result.source, result.design
    samples = samples_of(source, config, name)
    rows = np.flatnonzero(np.isfinite(source.label) & np.isfinite(predicted))
    known: dict[str, NDArray[np.float32]] = {"sm": predicted[rows]}
    features = config.dynamic(name) if MODELS[name].reads in ("radar", "soil") else ()
    for column in VEGETATION:
        if column in features:
            at = features.index(column)
            known[column] = np.asarray(samples.observed.dynamic[rows, at])
            break
    before = samples.rows[rows, :-1]
    if before.shape[1]:
        lacking = (before < 0) | ~samples.complete[before]
        known["short_history"] = np.asarray(lacking.any(axis=1), np.float32)
    block = design.block if design.block_names else design.fold
    return Residuals(
        residual=(predicted - source.label)[rows].astype(np.float64),
        part=block[rows],
        fold=design.fold[rows],
        group=source.group[rows],
        date=days_of(source)[rows],
        known=known,
    )


def _candidates(points: Residuals) -> list[Sequence[str]]:
    """Return no term, each term alone, ``sm`` with each other, and all."""
    others = [name for name in points.known if name != "sm"]
    alone: list[Sequence[str]] = [(name,) for name in points.known]
    return [(), *alone, *(("sm", name) for name in others), tuple(points.known)]


def _of_means(result: Crossvalidation, predicted: NDArray[np.float32]) -> FittedWidth | None:
    """Fit the width of a field's mean; None where a group is one site."""
    source, design = result.source, result.design
    if not source.several_sites_a_group:
        return None
    rows = np.isfinite(source.label) & np.isfinite(predicted)
    means = group_means(source, rows, predicted)
    block = design.block if design.block_names else design.fold
    data = Residuals(
        residual=means.predicted - means.observed,
        part=block[rows][means.first],
        fold=design.fold[rows][means.first],
        group=means.group,
        date=means.date,
        known={"sm": means.predicted.astype(np.float32)},
    )
    return best_width(data, [(), ("sm",)], LEVEL)
