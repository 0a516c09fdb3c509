"""Prediction intervals from residuals on new dates, for points and for field means.

All rows of a date share an error: the weather that no model knows. So whole dates are drawn. A
score u = (predicted - observed) / factor of row i on date d is split into the mean of its date and
the rest. With K dates of n_d rows and G groups,

    s_d**2 = 1/K sum_d mean_i(u_di)**2                 error that the rows of a date share
    s_r**2 = 1/K sum_d mean_i(u_di**2) - s_d**2        error of a row within its date
    offset = q,  P(s_d T_K + s_r T_G <= q) = (1 + level) / 2                                (1)

T_n is Student's t of n degrees of freedom: s_d is known from K dates, and s_r from G groups,
because rows of a group share an error too. A sum of two independent scaled t has the distribution
of Behrens and Fisher (Fisher 1935, Annals of Eugenics 6, 391-398). It is the posterior prediction
under the priors 1/s_d and 1/s_r. Each date counts once, however many rows it has.
Hierarchical conformal prediction (Lee, Barber & Willett 2023, arXiv:2306.06342) needs the .97
quantile of 13 dates for 90 %, which is nearly the worst date and far too wide.
The factor is a line in values known beforehand, fitted to |residual| within bounds. The line is
chosen by the mean width at equal level, with factors fitted without a row's own fold and block.

Dates and groups are few, so *interval coverage* is measured: the share of labels inside intervals
that were made from other folds and other blocks of dates alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import stdtr, stdtrit

from kgsm_infer.model.interval import Width, WidthTerm, factor

Array = NDArray[np.float64]
#: Bounds of the factor.
BOUNDS = (0.5, 2.0)
#: Share by which a term must narrow the interval to be used. Few dates make slopes uncertain.
WORTH = 0.05
#: Fewest residuals, and fewest parts to leave out in turn, that make an interval.
LEAST_ROWS, LEAST_PARTS = 30, 3
#: Nodes of the integral over one of the two errors: sinh(y) for POINTS values of y within +-REACH.
POINTS, REACH = 2001, 20.0


@dataclass(frozen=True)
class Residuals:
    """Residuals of an interval, all (R,), finite.

    residual: predicted - observed.  part: block of dates of a row, left out together (its fold,
    where new dates are not scored).  fold: of groups.  group, date: of a row; date in days since
    1970.  known: name of a term -> values.
    """

    residual: Array
    part: NDArray[np.int64]
    fold: NDArray[np.int64]
    group: NDArray[np.str_]
    date: NDArray[np.int64]
    known: Mapping[str, NDArray[np.float32]]

    def take(self, rows: NDArray[np.bool_]) -> Residuals:
        """Select rows by a mask (R,)."""
        return Residuals(
            self.residual[rows],
            self.part[rows],
            self.fold[rows],
            self.group[rows],
            self.date[rows],
            {name: values[rows] for name, values in self.known.items()},
        )


@dataclass(frozen=True)
class ErrorParts:
    """Variances s_d**2 and s_r**2 of Eq 1, and the degrees of freedom K and G."""

    date: float
    row: float
    dates: int
    groups: int


@dataclass(frozen=True)
class WidthChoice:
    """The terms of a width, the factor (R,) of each row without its own part, and mean width."""

    names: tuple[str, ...]
    scale: Array
    mean_width: float


@dataclass(frozen=True)
class FittedWidth:
    """A width and its interval coverage, measured on rows that it was made without.

    dates: K.  date_variance: s_d**2 / (s_d**2 + s_r**2).
    by_group, by_date: coverage of each.  rows_by_date: number of labels.
    """

    width: Width
    rows: int
    dates: int
    date_variance: float
    coverage: float
    mean_width: float
    constant_mean_width: float
    by_group: Mapping[str, float]
    by_date: Mapping[str, float]
    rows_by_date: Mapping[str, int]


def best_width(
    data: Residuals, candidates: Sequence[Sequence[str]], level: float = 0.9
) -> FittedWidth | None:
    """Choose the width that is narrowest at equal level; None for too few residuals.

    candidates: sets of names to read; the empty set gives a constant width.
    """
    if len(data.residual) < LEAST_ROWS or len(np.unique(data.part)) < LEAST_PARTS:
        return None
    chosen = _choose(data, candidates, level)
    inside = np.zeros(len(data.residual), bool)
    for here, others in _left_out(data):
        # the terms, too, are chosen without the rows that are scored
        inner = data.take(others)
        names = _choose(inner, candidates, level).names if len(candidates) > 1 else chosen.names
        line = _line(data, names, others)
        offset = _offset(inner, _factor(inner, line), level)
        inside[here] = np.abs(data.residual[here]) <= offset * _factor(data.take(here), line)
    scale = chosen.scale
    offset = _offset(data, scale, level)
    width = _line(data, chosen.names, np.ones(len(scale), bool))
    days = {str(np.datetime64(int(day), "D")): data.date == day for day in np.unique(data.date)}
    return FittedWidth(
        width=Width(-offset, offset, width.intercept, width.terms, width.bounds),
        rows=len(scale),
        dates=len(days),
        date_variance=_shared(data, scale),
        coverage=float(inside.mean()),
        mean_width=chosen.mean_width,
        constant_mean_width=_mean_width(data, np.ones(len(scale)), level),
        by_group={
            str(name): float(inside[data.group == name].mean()) for name in np.unique(data.group)
        },
        by_date={day: float(inside[here].mean()) for day, here in days.items()},
        rows_by_date={day: int(here.sum()) for day, here in days.items()},
    )


def as_card(fitted: FittedWidth) -> dict[str, Any]:
    """Return a width as the card writes it."""
    width = fitted.width
    return {
        "lower": round(width.lower, 6),
        "upper": round(width.upper, 6),
        "intercept": round(width.intercept, 6),
        "terms": [{"name": t.name, "slope": round(t.slope, 6)} for t in width.terms],
        "bounds": list(width.bounds),
        "rows": fitted.rows,
        "dates": fitted.dates,
        "date_variance": round(fitted.date_variance, 4),
        "cross_coverage": fitted.coverage,
        "mean_width": fitted.mean_width,
    }


def _choose(data: Residuals, candidates: Sequence[Sequence[str]], level: float) -> WidthChoice:
    """Choose the terms with the smallest mean width; each term must narrow it by WORTH."""
    tried = []
    for names in map(tuple, candidates):
        scale = _crossfitted_factors(data, names)
        tried.append(WidthChoice(names, scale, _mean_width(data, scale, level)))
    return min(tried, key=lambda one: one.mean_width * (1 + WORTH * len(one.names)))


def _left_out(data: Residuals) -> list[tuple[NDArray[np.bool_], NDArray[np.bool_]]]:
    """Return (rows of one part and fold, rows of other parts and other folds) in turn."""
    found = []
    for part in np.unique(data.part):
        for fold in np.unique(data.fold[data.part == part]):
            here = (data.part == part) & (data.fold == fold)
            others = (data.part != part) & (data.fold != fold)
            if not others.any():  # where parts are folds, or pairs leave nothing over
                others = data.part != part
            found.append((here, others))
    return found


def _crossfitted_factors(data: Residuals, names: tuple[str, ...]) -> Array:
    """Return (R,) the factor of each row, fitted on other parts and folds."""
    scale = np.ones(len(data.residual))
    if not names:
        return scale
    for here, others in _left_out(data):
        scale[here] = _factor(data.take(here), _line(data, names, others))
    return scale


def _factor(data: Residuals, line: Width) -> Array:
    """Return the factor (R,) of every row."""
    found = factor(line, {term.name: data.known[term.name] for term in line.terms})
    return np.broadcast_to(np.asarray(found, np.float64), data.residual.shape)


def _line(data: Residuals, names: tuple[str, ...], rows: NDArray[np.bool_]) -> Width:
    """Fit |residual| over its mean as a line in ``names``; each date counts once."""
    if not names:
        return Width(-1.0, 1.0)
    x = np.column_stack([data.known[name][rows] for name in names]).astype(np.float64)
    y, weight = np.abs(data.residual[rows]), _weight(data.date[rows])
    centre = weight @ x
    spread = np.maximum(np.sqrt(weight @ (x - centre) ** 2), 1e-6)
    z = (x - centre) / spread
    y = y / max(float(weight @ y), 1e-9)
    # a small ridge: a flag that hardly varies has no slope
    normal = (z * weight[:, None]).T @ z + 0.05 * np.eye(len(names))
    slope = np.linalg.solve(normal, (z * weight[:, None]).T @ (y - 1)) / spread
    terms = tuple(WidthTerm(name, float(b)) for name, b in zip(names, slope, strict=True))
    return Width(-1.0, 1.0, float(1 - slope @ centre), terms, BOUNDS)


def _weight(date: NDArray[np.int64]) -> Array:
    """Return the weight of each row, (R,), of sum 1: all dates weigh the same."""
    _, code, count = np.unique(date, return_inverse=True, return_counts=True)
    return np.asarray(1 / count[code] / len(count))


def _parts(data: Residuals, scale: Array) -> ErrorParts:
    """Split the mean square of the score into the parts of Eq 1."""
    score = data.residual / scale
    dates, code, count = np.unique(data.date, return_inverse=True, return_counts=True)
    mean = np.bincount(code, score) / count
    shared, whole = float((mean**2).mean()), float(_weight(data.date) @ score**2)
    groups = len(np.unique(data.group))
    return ErrorParts(shared, max(whole - shared, 0.0), len(dates), groups)


def quantile_of(parts: ErrorParts, probability: float) -> float:
    """Compute q of Eq 1 for a probability above .5.

    With both parts of one degree of freedom it is a Cauchy distribution of scale s_d + s_r.

    >>> round(quantile_of(ErrorParts(date=0.36, row=0.16, dates=1, groups=1), 0.75), 6)
    1.0
    """
    # the integral is over the narrower part: the wider one's distribution is smooth between nodes
    (narrow, few), (wide, many) = sorted(
        [(math.sqrt(parts.date), parts.dates), (math.sqrt(parts.row), parts.groups)],
        key=lambda part: part[0],
    )
    alone = float(stdtrit(many, probability)) * wide
    if narrow == 0:
        return alone
    # trapezoid rule in y with T = sinh(y), whose tails then fall exponentially
    y = np.linspace(-REACH, REACH, POINTS)
    x = np.sinh(y)
    weight = (1 + x**2 / few) ** (-(few + 1) / 2) * np.cosh(y)
    weight /= weight.sum()

    def above(q: float) -> float:
        return float(weight @ stdtr(many, (q - narrow * x) / wide)) - probability

    most = 2 * (alone + float(stdtrit(few, probability)) * narrow)
    return float(brentq(above, 0.0, most, rtol=1e-9))


def _offset(data: Residuals, scale: Array, level: float) -> float:
    """Compute q of Eq 1."""
    return quantile_of(_parts(data, scale), (1 + level) / 2)


def _shared(data: Residuals, scale: Array) -> float:
    """Return the share of the mean square that the rows of a date have in common."""
    parts = _parts(data, scale)
    return parts.date / max(parts.date + parts.row, 1e-12)


def _mean_width(data: Residuals, scale: Array, level: float) -> float:
    return float(2 * _offset(data, scale, level) * scale.mean())
