"""Compare an observation with the training data: dissimilarity index, area of applicability.

Meyer & Pebesma (2021), *Predicting into unknown space? Estimating the area of
applicability of spatial prediction models*, Methods in Ecology and Evolution 12, as in the
R package CAST, with all predictors of equal weight:

    DI = distance to the nearest training point / mean distance between training points

in the scaled space of the target acquisition's channels (backscatter, dynamic, statics).
The area of applicability ends where DI passes the threshold: the upper whisker of the
training points' own DI, each measured to points of other folds only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Share of 1 + threshold that the indices of two engines may lie apart.
EDGE = 1e-3


@dataclass(frozen=True)
class Domain:
    """Reference of the training data.

    points: (P, K) float32, scaled.  mean_distance, threshold: floats > 0.
    """

    points: NDArray[np.float32]
    mean_distance: float
    threshold: float

    @cached_property
    def by_channel(self) -> NDArray[np.float32]:
        """Return the points channel by channel, (K, P), as the C core reads them."""
        return np.ascontiguousarray(self.points.T, np.float32)


def domain_of(raw: Mapping[str, Any], channels: int) -> Domain:
    """Read the domain reference of a model card; ValueError if it is invalid."""
    points = np.asarray(raw["points"], np.float32)
    if points.ndim != 2 or points.shape[1] != channels or not len(points):
        raise ValueError(f"domain points {points.shape} do not have {channels} channels")
    numbers = (float(raw["mean_distance"]), float(raw["threshold"]))
    if not (np.isfinite(points).all() and np.isfinite(numbers).all() and min(numbers) > 0):
        raise ValueError(
            "domain reference must have finite points, and mean_distance and threshold above 0"
        )
    return Domain(points, *numbers)


def outside(
    domain: Domain,
    index: NDArray[np.float32],
    scaled_in_float64: Callable[[NDArray[np.int64]], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """Return (N,) True where the dissimilarity index exceeds the threshold, or is NaN.

    index: (N,) from any engine. Engines differ in the last digits, so near the threshold the index
    is computed again in float64.
    scaled_in_float64: returns the channels (n, K) of the n points at an index (n,).

    >>> domain = Domain(np.float32([[0, 0], [4, 0]]), mean_distance=2.0, threshold=1.0)
    >>> points = np.asarray([[1.0, 0.0], [0.0, 2.0], [np.nan, 0.0]])
    >>> outside(domain, dissimilarity(domain, points), lambda some: points[some]).tolist()
    [False, False, True]
    """
    passed = ~(index <= np.float32(domain.threshold))
    edge = EDGE * (1 + domain.threshold)
    near = np.flatnonzero(np.abs(index - np.float32(domain.threshold)) <= edge)
    if len(near):
        scaled, points = scaled_in_float64(near), domain.by_channel.astype(np.float64)
        square = np.zeros((len(scaled), points.shape[1]))
        for channel, point in zip(scaled.T, points, strict=True):
            square += (channel[:, None] - point) ** 2
        nearest = np.sqrt(square.min(axis=1))
        passed[near] = ~(nearest / domain.mean_distance <= domain.threshold)
    return passed


def dissimilarity(domain: Domain, scaled: ArrayLike) -> NDArray[np.float32]:
    """Compute DI of scaled points (N, K), (N,) float32; NaN where a point has a NaN.

    |x - p|**2 is computed as |x|**2 - 2 x.p + |p|**2, as in the exported graph.

    >>> domain = Domain(np.float32([[0, 0], [4, 0]]), mean_distance=2.0, threshold=1.0)
    >>> dissimilarity(domain, [[1, 0], [4, 3]]).tolist()
    [0.5, 1.5]
    """
    x = np.asarray(scaled, np.float32)
    cross = (x @ domain.points.T) * np.float32(-2)
    square = (x * x).sum(axis=1, keepdims=True) + (cross + (domain.points**2).sum(axis=1))
    nearest = np.sqrt(np.maximum(square.min(axis=1), np.float32(0)))
    return np.asarray(nearest / np.float32(domain.mean_distance), np.float32)
