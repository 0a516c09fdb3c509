"""Match a layer in time to an acquisition of another date.

Rules, pixel by pixel:

    exact    the slice of the same day
    nearest  of the slices within max_gap_days the nearest one with a value here, the earlier
             of two as near
    linear   between the nearest values before and after within max_gap_days each; where one
             side has none, the other
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .layers import Layer
from .validity import Plane

Dates = NDArray[np.datetime64]
_DAY = np.timedelta64(86400, "s")


def nearest_date(layer: Layer, when: np.datetime64) -> tuple[np.datetime64, float] | None:
    """Find the date of a layer nearest to ``when``, and the days between; None without dates."""
    dates = [item.date for item in layer.slices if item.date is not None]
    dates += [date for date, _ in layer.values]
    if not dates:
        return None
    return min(((date, abs(_days(date, when))) for date in dates), key=lambda pair: pair[1])


def within_reach(layer: Layer, when: np.datetime64) -> bool:
    """Return True where a layer has a slice for ``when`` by its matching rule."""
    nearest = nearest_date(layer, when)
    if nearest is None:
        return True
    if layer.match == "exact":
        return bool(nearest[0].astype("datetime64[D]") == when.astype("datetime64[D]"))
    return nearest[1] <= layer.max_gap_days


def matched(
    layer: Layer,
    dates: Dates | None,
    read: Callable[[Any], Plane],
    when: np.datetime64 | None,
) -> Plane:
    """Return a layer's values at ``when`` by its matching rule.

    dates: (n,) of what there is to read, ascending; None for what has no date.
    """
    if dates is None:
        return read(None)
    if not len(dates):
        return np.empty(0)
    if when is None:
        return read(dates[-1])
    gap = np.abs((dates - when) / _DAY)
    if layer.match == "exact":
        same = np.flatnonzero(dates.astype("datetime64[D]") == when.astype("datetime64[D]"))
        if not len(same):
            return np.full_like(read(dates[0]), np.nan)
        return read(dates[same[np.argmin(gap[same])]])
    near = np.flatnonzero(gap <= layer.max_gap_days)
    if layer.match == "nearest":
        in_order = list(dates[near[np.argsort(gap[near], kind="stable")]])
        found = _first_value([(date, read(date)) for date in _until_full(in_order, read)], when)
        return np.full_like(read(dates[0]), np.nan) if found is None else found[0]
    before, after = dates[near[dates[near] <= when]][::-1], dates[near[dates[near] > when]]
    sides = [
        _first_value([(date, read(date)) for date in _until_full(list(side), read)], when)
        for side in (before, after)
    ]
    if sides[0] is None or sides[1] is None:
        one = sides[0] or sides[1]
        return np.full_like(read(dates[0]), np.nan) if one is None else one[0]
    (early, early_gap), (late, late_gap) = sides[0], sides[1]
    with np.errstate(invalid="ignore"):
        between = early + (late - early) * (early_gap / (early_gap + late_gap))
    return np.where(np.isnan(early), late, np.where(np.isnan(late), early, between))


def _until_full(
    dates: Sequence[np.datetime64], read: Callable[[Any], Plane]
) -> Iterator[np.datetime64]:
    """Yield dates in order until every pixel has a value: what is not needed is not read."""
    lacking: NDArray[np.bool_] | None = None
    for date in dates:
        if lacking is not None and not lacking.any():
            return
        yield date
        empty = np.isnan(read(date))
        lacking = empty if lacking is None else lacking & empty


def _first_value(
    planes: Sequence[tuple[np.datetime64, Plane]], when: np.datetime64
) -> tuple[Plane, Plane] | None:
    """Return each pixel's first value that is one, and its distance in days; None of no planes."""
    if not planes:
        return None
    value = planes[0][1].copy()
    gap = np.full(value.shape, abs(_days(planes[0][0], when)))
    for date, plane in planes[1:]:
        fill = np.isnan(value) & ~np.isnan(plane)
        value[fill] = plane[fill]
        gap[fill] = abs(_days(date, when))
    return value, gap


def _days(one: np.datetime64, other: np.datetime64) -> float:
    return float((one - other) / _DAY)
