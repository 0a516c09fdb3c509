"""Shared parts of the data sources: a table with notes, checked before it is written.

A source (:mod:`.oznet`, :mod:`.ismn`, :mod:`.earth_engine`) converts published files to the table
of design §3. Findings that a user must know (copied series, rows left out, unused labels) are
notes; the command prints them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kgsm_infer.tables.columns import RULES
from kgsm_infer.tables.table import table_from_columns, write_csv

Columns = dict[str, Any]
Seconds = NDArray[np.datetime64]


@dataclass(frozen=True)
class Sourced:
    """columns: name -> (R,) values of the table.  notes: what the user must know, one line each."""

    columns: Columns
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.columns["site"])


def write_source(path: str | Path, sourced: Sourced) -> int:
    """Write the table atomically and return its number of rows.

    The table first passes the checks of every reader. DataError names row, column, value and
    cause.
    """
    features = [
        name
        for name, values in sourced.columns.items()
        if np.asarray(values).dtype.kind in "fiu" and name not in RULES
    ]
    table_from_columns(sourced.columns, f"{path} (not written)", features=features)
    write_csv(path, sourced.columns)
    return len(sourced)


def nearest(
    site: Sequence[str] | NDArray[np.str_],
    time: Seconds,
    other_site: Sequence[str] | NDArray[np.str_],
    other_time: Seconds,
    tolerance_seconds: float,
) -> NDArray[np.int64]:
    """Return (R,) the index of the nearest other row of the same site, -1 where none is near.

    site, time: (R,).  other_site, other_time: (Q,), any order.  A gap of exactly the
    tolerance is near; of two others equally near the earlier is taken.

    >>> day = np.array(["2020-01-01", "2020-01-05"], "datetime64[s]")
    >>> nearest(["a", "b"], day, ["a", "a"], day + 3600, 7200).tolist()
    [0, -1]
    """
    names, code = np.unique(
        np.concatenate([np.asarray(site, np.str_), np.asarray(other_site, np.str_)]),
        return_inverse=True,
    )
    here, there = code[: len(time)], code[len(time) :]
    at, other_at = time.astype("datetime64[s]"), other_time.astype("datetime64[s]")
    found = np.full(len(at), -1, np.int64)
    for number in range(len(names)):
        mine = np.flatnonzero(here == number)
        others = np.flatnonzero(there == number)
        if not len(mine) or not len(others):
            continue
        others = others[np.argsort(other_at[others], kind="stable")]
        sorted_at = other_at[others]
        after = np.searchsorted(sorted_at, at[mine])
        before = np.clip(after - 1, 0, len(others) - 1)
        after = np.clip(after, 0, len(others) - 1)
        gap_before = abs(at[mine] - sorted_at[before]).astype(np.int64)
        gap_after = abs(at[mine] - sorted_at[after]).astype(np.int64)
        best = np.where(gap_after < gap_before, after, before)
        near = np.minimum(gap_before, gap_after) <= tolerance_seconds
        found[mine] = np.where(near, others[best], -1)
    return found


def keep_nearest(index: NDArray[np.int64], gap_seconds: ArrayLike) -> NDArray[np.int64]:
    """Keep each label only at the acquisition with the smallest gap; return -1 elsewhere.

    index: (R,) of :func:`nearest`.  gap_seconds: (R,) >= 0.  One label belongs to one
    acquisition; of two equally near the first row has it.

    >>> keep_nearest(np.array([3, 3, -1]), [60.0, 10.0, 0.0]).tolist()
    [-1, 3, -1]
    """
    order = np.lexsort([np.asarray(gap_seconds, np.float64), index])
    first = np.ones(len(order), bool)
    first[1:] = index[order][1:] != index[order][:-1]
    kept = np.full(len(order), -1, np.int64)
    kept[order[first]] = index[order[first]]
    return kept


def take_rows(values: ArrayLike, index: NDArray[np.int64]) -> NDArray[Any]:
    """Return (R,) ``values[index]``; NaN or '' where the index is -1.

    >>> take_rows([0.1, 0.2], np.array([1, -1])).tolist()
    [0.2, nan]
    >>> take_rows(["u", "v"], np.array([-1, 0])).tolist()
    ['', 'u']
    """
    array = np.asarray(values)
    missing: Any = ""
    if array.dtype.kind in "fiu":
        array, missing = array.astype(np.float64), np.nan
    else:
        array = array.astype(np.str_)
    return np.where(index >= 0, array[np.maximum(index, 0)], missing)


def keep_rows(columns: Mapping[str, Any], keep: NDArray[np.bool_]) -> Columns:
    """Select the rows where ``keep`` is true, in every column."""
    return {name: np.asarray(values)[keep] for name, values in columns.items()}
