"""Rank today's moisture among the passes of the same paddock: drier than 9 of 10 passes here."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort

import numpy as np

from .filter import Array

#: Passes a rank needs.
FEWEST_PASSES = 10


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
