"""Passes: the frames (slices, bursts) of one overpass are one acquisition.

This is the only definition of a pass. Rows of a table, dates of a scene, times of a Dataset,
items of a catalogue and records of the gateway are grouped with it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Seconds from the first frame of a pass to its last, at most. A slice is 25 s long; the next
#: satellite on the same orbit comes a day later or more.
ONE_PASS_S = 600


def pass_starts(times: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """Return the start of the pass that each time belongs to, (N,) datetime64[s].

    times: (N,) in any order. A pass starts with its earliest frame and ends ONE_PASS_S later.

    >>> times = ["2022-06-01T17:02:00", "2022-06-01T05:30:37", "2022-06-01T05:30:12"]
    >>> pass_starts(np.asarray(times, "datetime64[s]")).astype(str).tolist()
    ['2022-06-01T17:02:00', '2022-06-01T05:30:12', '2022-06-01T05:30:12']
    """
    seconds = times.astype("datetime64[s]").astype(np.int64)
    distinct, inverse = np.unique(seconds, return_inverse=True)
    start = distinct.copy()
    near = np.diff(distinct, prepend=distinct[:1] - ONE_PASS_S - 1) <= ONE_PASS_S
    at = 0
    for begin in np.flatnonzero(near) - 1:  # passes of several times; all others start themselves
        if begin >= at:
            at = int(np.searchsorted(distinct, distinct[begin] + ONE_PASS_S, "right"))
            start[begin:at] = distinct[begin]
    return start[inverse].astype("datetime64[s]")


def number_passes(times: NDArray[np.datetime64]) -> NDArray[np.int64]:
    """Number the pass of each time, from 0, in order of time, (N,).

    >>> number_passes(np.asarray(["2022-06-01T05:30:37", "2022-06-01T05:30:12"], "datetime64[s]"))
    array([0, 0])
    """
    return np.unique(pass_starts(times), return_inverse=True)[1].astype(np.int64)


def in_one_pass(seconds: Any) -> Any:
    """Return True where frames ``seconds`` apart can belong to one pass."""
    return abs(seconds) <= ONE_PASS_S
