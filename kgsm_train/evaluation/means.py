"""Means over a group on a date: what "field scale" is scored on."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..learning.samples import Source


class GroupMeans(NamedTuple):
    """Means over the rows of one group and date: K of them. SM in m3 m-3.

    first: (K,) which of the rows given is the first of each.
    """

    group: NDArray[np.str_]
    date: NDArray[np.int64]
    observed: NDArray[np.float64]
    predicted: NDArray[np.float64]
    first: NDArray[np.int64]


def days_of(source: Source) -> NDArray[np.int64]:
    """Return (R,) the day of each row, since 1970."""
    return np.floor(source.table.day).astype(np.int64)


def group_means(
    source: Source, rows: NDArray[np.bool_], predicted: NDArray[np.floating]
) -> GroupMeans:
    """Return observed and predicted SM averaged over the ``rows`` (R,) of each group and date."""
    group, date = source.group[rows], days_of(source)[rows]
    names, member = np.unique(group, return_inverse=True)
    pairs, first, code = np.unique(
        np.stack([member, date]), axis=1, return_index=True, return_inverse=True
    )
    code = code.reshape(-1)
    n = np.bincount(code)
    observed = np.bincount(code, source.label[rows]) / n
    estimated = np.bincount(code, predicted[rows]) / n
    return GroupMeans(names[pairs[0]], pairs[1], observed, estimated, first)
