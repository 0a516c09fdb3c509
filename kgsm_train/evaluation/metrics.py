"""Scores of estimated against observed SM: bias, RMSE, ubRMSE, R, and how sure they are.

Differences are predicted - observed, in the unit of the input (m3 m-3); R is Pearson's.
Intervals come from resampling whole groups (sites, fields), because rows of one group are
not independent (Gruber et al. 2020). Rows where a value is missing do not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
NAMES = ("bias", "rmse", "ubrmse", "r")
#: A variance below this share of the mean square is rounding: the values are constant.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Scores:
    """n rows scored; bias, rmse, ubrmse in m3 m-3; r.  NaN where there is no number.

    r needs two rows and some variance on both sides; the others need one row.
    """

    n: int
    bias: float
    rmse: float
    ubrmse: float
    r: float


def number(value: float | None, form: str) -> str:
    """Format a score as text, a dash where there is none.

    >>> number(0.08712, ".4f"), number(None, ".4f")
    ('0.0871', '–')
    """
    return "–" if value is None else format(value, form)


def scores(observed: ArrayLike, predicted: ArrayLike) -> Scores:
    """Compute the scores over the rows where both are finite.

    observed, predicted: (R,).  ValueError for two lengths.

    >>> found = scores([0.1, 0.2, 0.3, float("nan")], [0.2, 0.2, 0.5, 0.4])
    >>> found.n, round(found.bias, 4), round(found.rmse, 4), round(found.r, 4)
    (3, 0.1, 0.1291, 0.866)
    """
    observed, predicted = _columns(observed, predicted)
    kept = np.isfinite(observed) & np.isfinite(predicted)
    rows, centre = _row_sums(observed[kept], predicted[kept])
    return _one(_of_sums(rows.sum(axis=0, keepdims=True), centre), 0)


def by_group(group: ArrayLike, observed: ArrayLike, predicted: ArrayLike) -> dict[str, Any]:
    """Score each group, and sum up by median and quartiles over the groups.

    group, observed, predicted: (R,).  Returns JSON values: ``n``, group -> rows scored;
    and for each of bias, rmse, ubrmse, r: ``groups`` (how many have a number), ``median``
    and ``iqr`` [q25, q75], None where no group has one.

    >>> found = by_group(["a", "a", "b"], [0.1, 0.2, 0.3], [0.2, 0.3, 0.6])
    >>> found["n"], found["r"]["groups"], round(found["bias"]["median"], 3)
    ({'a': 2, 'b': 1}, 1, 0.2)
    """
    observed, predicted = _columns(observed, predicted)
    names, member = _groups(group, observed)
    kept = np.isfinite(observed) & np.isfinite(predicted)
    rows, centre = _row_sums(observed[kept], predicted[kept])
    each = _of_sums(_add_up(rows, member[kept], len(names)), centre)
    counts = {str(name): int(n) for name, n in zip(names, each.n, strict=True)}
    summary: dict[str, Any] = {"n": counts}
    for name in NAMES:
        values = getattr(each, name)
        values = values[np.isfinite(values)]
        quartiles: list[float] | list[None] = [None, None, None]
        if values.size:
            quartiles = np.quantile(values, [0.25, 0.5, 0.75]).tolist()
        low, median, high = quartiles
        summary[name] = {"groups": int(values.size), "median": median, "iqr": [low, high]}
    return summary


@dataclass(frozen=True)
class Bootstrap:
    """Number of draws, seed, and the inner share of the draws that an interval covers."""

    draws: int = 1000
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.level < 1:
            raise ValueError(
                f"need draws >= 1 and level in (0, 1), got {self.draws!r} and {self.level!r}"
            )


@dataclass(frozen=True)
class DrawnBlocks:
    """Group and date of R rows, which a bootstrap draws whole, (R,) each.

    date: draws dates as well, independently of the groups, and a row counts as often as both were
    drawn: what is asked then is another set of groups on another set of dates.
    """

    group: ArrayLike
    date: ArrayLike | None = None


def block_bootstrap(
    blocks: DrawnBlocks,
    observed: ArrayLike,
    predicted: ArrayLike,
    bootstrap: Bootstrap = Bootstrap(),
) -> dict[str, tuple[float, float]]:
    """Compute the percentile interval of each score, drawing whole blocks with replacement.

    observed, predicted: (R,).  Groups without a usable row are not drawn. With fewer than two
    groups nothing is known about the spread: (NaN, NaN). A draw in which r has no number does not
    count for r. Returns bias, rmse, ubrmse, r -> (low, high).
    """
    observed, predicted = _columns(observed, predicted)
    names, member = _groups(blocks.group, observed)
    kept = np.isfinite(observed) & np.isfinite(predicted)
    rows, centre = _row_sums(observed[kept], predicted[kept])
    cells = _cells(rows, member[kept], len(names), _dates_of(blocks.date, kept))
    boot = _of_sums(_drawn(cells, bootstrap), centre)
    return {name: _interval(getattr(boot, name), bootstrap.level) for name in NAMES}


def paired_difference(
    blocks: DrawnBlocks,
    observed: ArrayLike,
    predicted_a: ArrayLike,
    predicted_b: ArrayLike,
    bootstrap: Bootstrap = Bootstrap(),
) -> dict[str, Any]:
    """Compute RMSE of a minus RMSE of b on the rows both have, and its interval.

    All (R,). The same blocks are drawn for both, so what they share cancels.
    Returns ``difference`` and ``interval`` (low, high): below 0, a is the better one.
    NaN for no common row, and for the interval with fewer than two groups.

    >>> found = paired_difference(DrawnBlocks(["x", "y"]), [0.1, 0.2], [0.1, 0.2], [0.2, 0.3])
    >>> round(found["difference"], 9)
    -0.1
    """
    observed, predicted_a = _columns(observed, predicted_a)
    observed, predicted_b = _columns(observed, predicted_b)
    names, member = _groups(blocks.group, observed)
    kept = np.isfinite(observed) & np.isfinite(predicted_a) & np.isfinite(predicted_b)
    squares = np.stack(
        [kept, (predicted_a - observed) ** 2, (predicted_b - observed) ** 2], axis=1
    )[kept]
    difference = _rmse_difference(squares.sum(axis=0, keepdims=True))[0]
    cells = _cells(squares, member[kept], len(names), _dates_of(blocks.date, kept))
    return {
        "difference": float(difference),
        "interval": _interval(_rmse_difference(_drawn(cells, bootstrap)), bootstrap.level),
    }


@dataclass(frozen=True)
class WithinDates:
    """R within dates, and the K differences from the date's mean that it is of.

    r_centred: R when each group's own mean is subtracted as well.
    """

    dates: int
    r: float
    r_centred: float
    group: NDArray[np.intp]
    date: NDArray[np.intp]
    observed: Array
    predicted: Array


def within_date(
    group: ArrayLike, date: ArrayLike, observed: ArrayLike, predicted: ArrayLike
) -> WithinDates:
    """Compute R of differences from the date's mean: the skill in ranking groups on one day.

    All (K,), one value a group and date. Dates with fewer than three groups do not count.

    >>> found = within_date(list("abcabc"), [1, 1, 1, 2, 2, 2], [1, 2, 3, 6, 7, 8.0],
    ...                     [0, 1, 2, 0, 1, 2.0])
    >>> found.dates, round(found.r, 6), found.r_centred
    (2, 1.0, nan)
    """
    observed, predicted = _columns(observed, predicted)
    kept = np.isfinite(observed) & np.isfinite(predicted)
    _, code, count = np.unique(np.asarray(date), return_inverse=True, return_counts=True)
    count = np.bincount(code, kept, minlength=len(count))
    kept &= count[code] >= 3
    member = np.unique(np.asarray(group), return_inverse=True)[1][kept]
    code = np.unique(code[kept], return_inverse=True)[1]
    o, p = (_less_mean(values[kept], code) for values in (observed, predicted))
    own = scores(*(_less_mean(values, member) for values in (o, p)))
    dates = int(code.max(initial=-1)) + 1
    return WithinDates(dates, scores(o, p).r, own.r, member, code, o, p)


def _less_mean(values: Array, member: NDArray[np.intp]) -> Array:
    """Return (K,) values less the mean of those they belong with."""
    if not len(values):
        return values
    mean = np.bincount(member, values) / np.maximum(np.bincount(member), 1)
    left = values - mean[member]
    # what is left of nothing but group means is rounding
    return np.where(np.abs(left) > 1e-12 * np.abs(values).max(), left, 0.0)


class _Many(NamedTuple):
    """Scores of K sets of rows, each (K,)."""

    n: Array
    bias: Array
    rmse: Array
    ubrmse: Array
    r: Array


def _one(many: _Many, k: int) -> Scores:
    n, *values = (float(column[k]) for column in many)
    return Scores(int(n), *values)


def _columns(observed: ArrayLike, predicted: ArrayLike) -> tuple[Array, Array]:
    observed, predicted = np.asarray(observed, np.float64), np.asarray(predicted, np.float64)
    if observed.ndim != 1 or observed.shape != predicted.shape:
        raise ValueError(
            f"observed {observed.shape} and predicted {predicted.shape} must be two columns "
            "of one length"
        )
    return observed, predicted


def _groups(group: ArrayLike, observed: Array) -> tuple[NDArray[Any], NDArray[np.intp]]:
    """Return the names of the groups, and the group of each row (R,)."""
    group = np.asarray(group)
    if group.shape != observed.shape:
        raise ValueError(f"{len(group)} group names for {len(observed)} rows")
    names, member = np.unique(group, return_inverse=True)
    return names, member


def _row_sums(observed: Array, predicted: Array) -> tuple[Array, float]:
    """Return (R, 7) what a row adds to the sums the scores are made of, and the centre taken off.

    1, o, p, o2, p2, o p and (p - o)2. All are near 0, so that their sums keep their digits.
    """
    centre = float(observed.mean()) if observed.size else 0.0
    o, p = observed - centre, predicted - centre
    return np.stack([np.ones_like(o), o, p, o * o, p * p, o * p, (p - o) ** 2], axis=1), centre


def _add_up(rows: Array, member: NDArray[np.intp], groups: int) -> Array:
    """Return (G, K) sums of the rows of each group."""
    sums = np.zeros((groups, rows.shape[1]))
    np.add.at(sums, member, rows)
    return sums


def _of_sums(sums: Array, centre: float) -> _Many:
    """Return scores from the (K, 7) sums of :func:`_row_sums`; NaN where there is no number."""
    with np.errstate(divide="ignore", invalid="ignore"):
        n = sums[:, 0]
        o, p, oo, pp, op, dd = (sums[:, 1:] / n[:, None]).T
        bias = p - o
        variance_o, variance_p = oo - o * o, pp - p * p
        # rounding left by a constant far from the centre, and by one at it
        varies = (n >= 2) & (variance_o > _ROUNDING * oo) & (variance_p > _ROUNDING * pp)
        varies &= np.minimum(oo, pp) > (_ROUNDING * centre) ** 2
        r = np.where(varies, (op - o * p) / np.sqrt(variance_o * variance_p), np.nan)
        ubrmse = np.sqrt(np.maximum(dd - bias * bias, 0))
        return _Many(n, bias, np.sqrt(dd), ubrmse, np.clip(r, -1, 1))


def _rmse_difference(sums: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.sqrt(sums[:, 1] / sums[:, 0]) - np.sqrt(sums[:, 2] / sums[:, 0])


def _dates_of(date: ArrayLike | None, kept: NDArray[np.bool_]) -> NDArray[np.intp] | None:
    return None if date is None else np.unique(np.asarray(date)[kept], return_inverse=True)[1]


def _cells(
    rows: Array, member: NDArray[np.intp], groups: int, date: NDArray[np.intp] | None
) -> Array:
    """Add up rows (R, K) by group and date: (G, D, K), D = 1 without dates."""
    dates = 1 if date is None else int(date.max(initial=-1)) + 1
    code = member if date is None else member * dates + date
    cells = _add_up(rows, code, groups * dates).reshape(groups, dates, rows.shape[1])
    drawable = (cells[..., 0].sum(axis=1) > 0) & (date is None or dates > 1)
    return np.asarray(cells[drawable])


def _drawn(cells: Array, bootstrap: Bootstrap) -> Array:
    """Draw (draws, K) sums of cells (G, D, K): groups with replacement, and dates if D > 1.

    No draw with fewer than 2 groups.
    """
    groups, dates, width = cells.shape
    if groups < 2:
        return np.empty((0, width))
    share = np.full(groups, 1 / groups)
    times = np.random.default_rng(bootstrap.seed).multinomial(groups, share, size=bootstrap.draws)
    by_group = np.asarray(times @ cells.reshape(groups, -1), np.float64)
    if dates == 1:
        return by_group
    times = np.random.default_rng([bootstrap.seed, 1]).multinomial(
        dates, np.full(dates, 1 / dates), size=bootstrap.draws
    )
    return np.asarray(np.einsum("nd,ndk->nk", times, by_group.reshape(-1, dates, width)))


def _interval(values: Array, level: float) -> tuple[float, float]:
    values = values[np.isfinite(values)]
    if not values.size:
        return (float("nan"), float("nan"))
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return (float(low), float(high))
