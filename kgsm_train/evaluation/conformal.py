"""Prediction intervals from residuals on new dates, for points and for field means.

Conformal (Vovk et al. 2005; normalised scores: Papadopoulos et al. 2008): with a score
u = (observed - predicted) / factor, the shortest range that holds the share ``level`` of all u
makes the offsets. Errors on new dates are not symmetric: a dry guess after unseen rain is far
off. The factor is a straight line in what is known beforehand, fitted to |residual|, within
bounds. Which line is chosen by the mean width at equal coverage, every score from a factor
fitted without the row's own fold and block of dates.

Dates and groups are few, so the coverage told is measured: the share of labels inside when
both range and factor come from the other folds and blocks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.model.interval import Width, WidthTerm, factor

Array = NDArray[np.float64]
#: The factor may halve or double the usual width, no more.
BOUNDS = (0.5, 2.0)
#: What an x must narrow the interval by to be read.
WORTH = 0.02
#: Fewest residuals, and fewest parts to leave out in turn, that make an interval.
LEAST_ROWS, LEAST_PARTS = 30, 3


@dataclass(frozen=True)
class Residuals:
    """What an interval is made of, all (R,), finite.

    residual: predicted - observed.  part: what is left out together with a row: its block of
    dates (its fold, where new dates are not scored).  fold: of groups.  group: for the
    coverage by group.  known: name of x -> values.
    """

    residual: Array
    part: NDArray[np.int64]
    fold: NDArray[np.int64]
    group: NDArray[np.str_]
    known: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Fitted:
    """A width, and how it did: coverage on rows it was made without, pooled and by group."""

    width: Width
    rows: int
    coverage: float
    mean_width: float
    constant_mean_width: float
    by_group: Mapping[str, float]


def best_width(
    data: Residuals, candidates: Sequence[Sequence[str]], level: float = 0.9
) -> Fitted | None:
    """The width that is narrowest at equal coverage; None where residuals are too few.

    candidates: sets of names to read; the empty set is one constant.
    """
    if len(data.residual) < LEAST_ROWS or len(np.unique(data.part)) < LEAST_PARTS:
        return None
    tried = {tuple(names): _without_own(data, tuple(names)) for names in candidates}
    mean = {names: _mean_width(data, scale, level) for names, scale in tried.items()}
    names = min(mean, key=lambda item: mean[item] * (1 + WORTH * len(item)))
    scale = tried[names]
    score = -data.residual / scale
    inside = np.zeros(len(score), bool)
    for here, others in _left_out(data):
        low, high = _shortest(score[others], level)
        inside[here] = (score[here] >= low) & (score[here] <= high)
    lower, upper = _shortest(score, level)
    width = _line(data, names, np.ones(len(score), bool))
    return Fitted(
        width=Width(lower, upper, width.intercept, width.terms, width.bounds),
        rows=len(score),
        coverage=float(inside.mean()),
        mean_width=mean[names],
        constant_mean_width=_mean_width(data, np.ones(len(score)), level),
        by_group={
            str(name): float(inside[data.group == name].mean()) for name in np.unique(data.group)
        },
    )


def as_card(fitted: Fitted) -> dict[str, Any]:
    """A width as the card writes it."""
    width = fitted.width
    return {
        "lower": round(width.lower, 6),
        "upper": round(width.upper, 6),
        "intercept": round(width.intercept, 6),
        "terms": [{"name": t.name, "slope": round(t.slope, 6)} for t in width.terms],
        "bounds": list(width.bounds),
        "rows": fitted.rows,
        "cross_coverage": fitted.coverage,
        "mean_width": fitted.mean_width,
    }


def _left_out(data: Residuals) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """(rows of one part and fold, rows of other parts and other folds) in turn."""
    found = []
    for part in np.unique(data.part):
        for fold in np.unique(data.fold[data.part == part]):
            here = (data.part == part) & (data.fold == fold)
            others = (data.part != part) & (data.fold != fold)
            if not others.any():  # where parts are folds, or pairs leave nothing over
                others = data.part != part
            found.append((here, others))
    return found


def _without_own(data: Residuals, names: tuple[str, ...]) -> Array:
    """(R,) the factor of each row, fitted on other parts and folds."""
    scale = np.ones(len(data.residual))
    if not names:
        return scale
    for here, others in _left_out(data):
        line = _line(data, names, others)
        scale[here] = factor(line, {name: data.known[name][here] for name in names})
    return scale


def _line(data: Residuals, names: tuple[str, ...], rows: NDArray[np.bool_]) -> Width:
    """|residual| over its mean as a straight line in ``names``, least squares."""
    if not names:
        return Width(-1.0, 1.0)
    x = np.column_stack([np.ones(rows.sum()), *(data.known[name][rows] for name in names)])
    y = np.abs(data.residual[rows])
    # a little ridge: a flag that hardly varies tells nothing
    centre, spread = x[:, 1:].mean(axis=0), np.maximum(x[:, 1:].std(axis=0), 1e-6)
    z = (x[:, 1:] - centre) / spread
    y = y / max(float(y.mean()), 1e-9)
    slope = np.linalg.solve(z.T @ z + 0.05 * len(y) * np.eye(len(names)), z.T @ (y - 1)) / spread
    terms = tuple(WidthTerm(name, float(b)) for name, b in zip(names, slope, strict=True))
    return Width(-1.0, 1.0, float(1 - slope @ centre), terms, BOUNDS)


def _mean_width(data: Residuals, scale: Array, level: float) -> float:
    low, high = _shortest(-data.residual / scale, level)
    return float((high - low) * scale.mean())


def _shortest(score: Array, level: float) -> tuple[float, float]:
    """The shortest range that holds ``level`` of the scores, one row more being still to come.

    0 is always inside: a number lies in its own interval.
    """
    ordered = np.sort(score)
    count = min(int(np.ceil(level * (len(ordered) + 1))), len(ordered))
    widths = ordered[count - 1 :] - ordered[: len(ordered) - count + 1]
    first = int(widths.argmin())
    return min(float(ordered[first]), 0.0), max(float(ordered[first + count - 1]), 0.0)
