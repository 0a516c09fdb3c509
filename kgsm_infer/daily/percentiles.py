"""Rank today's moisture among the passes of the same paddock: drier than 9 of 10 passes here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .filter import Array

#: Passes a rank needs.
FEWEST_PASSES = 10


class Rank(NamedTuple):
    """A share in tenths of the passes: drier than them, or wetter."""

    is_drier: bool
    tenths: int


def rank_of(share: float | None) -> Rank | None:
    """Return a share of :func:`drier_than` in tenths, None without one.

    0 and 10 are returned only where no or every pass was wetter.

    >>> rank_of(0.97), rank_of(0.02), rank_of(None)
    (Rank(is_drier=True, tenths=9), Rank(is_drier=False, tenths=9), None)
    """
    if share is None or not np.isfinite(share):
        return None
    tenths = round(10 * share) if share in (0.0, 1.0) else min(max(round(10 * share), 1), 9)
    return Rank(True, tenths) if tenths >= 5 else Rank(False, 10 - tenths)


def drier_than_on(
    estimate: NDArray[np.floating[Any]], passed: NDArray[np.bool_], days: Sequence[int]
) -> Array:
    """Return :func:`drier_than` of many paddocks on some days (M, N).

    estimate, passed: (D, N).  days: (M,) indices. The work is M x N x passes, so few days of many
    paddocks cost little; :func:`drier_than` is faster for all days.

    >>> estimate = np.r_[np.arange(10) / 100 + 0.1, 0.105, 0.3][:, None]
    >>> drier_than_on(estimate, (np.arange(12) < 10)[:, None], [8, 10, 11]).ravel().tolist()
    [nan, 0.9, 0.0]
    """
    passes = np.flatnonzero(passed.any(axis=1))
    ranked = np.where(passed[passes], estimate[passes], np.nan)
    count = np.cumsum(np.isfinite(ranked), axis=0)
    share = np.full((len(days), estimate.shape[1]), np.nan)
    for row, day in enumerate(days):
        until = int(np.searchsorted(passes, day, "right"))
        if until == 0:
            continue
        known, value = ranked[:until], estimate[day]
        at_most = ((known < value).sum(axis=0) + (known <= value).sum(axis=0)) / 2
        enough = (count[until - 1] >= FEWEST_PASSES) & np.isfinite(value)
        share[row, enough] = 1 - at_most[enough] / count[until - 1][enough]
    return share


def drier_than(estimate: Array, passed: Array) -> Array:
    """Return the share (D,) of passes up to each day that were wetter than the day.

    estimate: (D,) daily moisture of one paddock, NaN where unknown.  passed: (D,) True on days
    with a pass. A pass counts with the estimate of its day, which has less error than its own
    value; equal ones count half. NaN before FEWEST_PASSES.

    >>> passed = np.arange(12) < 10
    >>> drier_than(np.r_[np.arange(10) / 100 + 0.1, 0.105, 0.3], passed)[-2:].tolist()
    [0.9, 0.0]
    """
    share = np.full(len(estimate), np.nan)
    ranked: list[float] = []
    for t, (value, seen) in enumerate(zip(estimate.tolist(), passed.tolist(), strict=True)):
        if value != value:
            continue
        if seen:
            insort(ranked, value)
        if len(ranked) >= FEWEST_PASSES:
            at_most = (bisect_left(ranked, value) + bisect_right(ranked, value)) / 2
            share[t] = 1 - at_most / len(ranked)
    return share
