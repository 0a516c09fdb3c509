"""Average columns: backscatter in linear power, other quantities as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernels.wcm import DB_TO_NEPER


def to_power(name: str, values: Any) -> Any:
    """Convert a column to the quantity that is averaged: dB to linear power, others unchanged.

    values: float64, an array or what NumPy's functions know (xarray).
    """
    with np.errstate(over="ignore"):
        return np.exp(values * DB_TO_NEPER) if name.endswith("_db") else values


def sums_by_group(
    name: str, values: NDArray[np.float64], group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count over the (N,) values of each group that are numbers, both (groups,).

    name: of the column.  group: (N,) from 0; values of group -1 belong to none. Sums of
    parts may be added up before :func:`mean_of`.
    """
    there = np.isfinite(values) & (group >= 0)
    among = group[there]
    total = np.bincount(among, to_power(name, values[there]), groups)
    return np.asarray(total, np.float64), np.bincount(among, minlength=groups)


def mean_of(name: str, total: Any, count: Any) -> Any:
    """Compute the mean of a column in its own unit; NaN where the count is 0.

    total: sum of :func:`to_power` over ``count`` values, both arrays as there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return np.log(mean) / DB_TO_NEPER if name.endswith("_db") else mean
