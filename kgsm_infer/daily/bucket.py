"""Soil moisture from rain alone: one or two stores that rain fills and the season empties.

    w_t = min(1, w_{t-1} exp(-L_t) + P_t / D)                                                  (1)
    L_t = L exp(season cos(2 pi (day of year - peak) / 365.25))                                 (2)
    f_t = dry + sum over stores of range w_t^p                                                  (3)

w is the wetness of a store (0 empty, 1 full), P a day's rain in mm, D the store's capacity. A
fast store follows the surface, a slow one the soil below. Loss proportional to the water held is
the antecedent precipitation index (Kohler and Linsley 1951) with a capacity.

A day without rain data is not a dry day. The wetness then goes to its mean at the rate of the
loss, as it would in an average season,

    w_t = mean + (w_{t-1} - mean) exp(-L_t)                                                     (4)

and :func:`unknown` adds variance to the residual until it has that of the climate.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .parameters import Bucket, Residual

Array = NDArray[np.float64]


def run_bucket(
    bucket: Bucket,
    rain_mm: ArrayLike,
    day: ArrayLike,
    opposite: bool = False,
    irrigation_mm: ArrayLike = 0.0,
) -> Array:
    """Compute the moisture of the bucket (D, S) at the end of each day, m3 m-3.

    rain_mm: (D, S) rain of each day and series, NaN where missing.  day: (D,) days since 1970.
    opposite: shift the season by half a year, for a set that was fitted on the other hemisphere.
    irrigation_mm: (D, S) or 0, water on top of the rain, never missing.

    >>> from kgsm_infer.daily.parameters import Bucket, SoilStore
    >>> one = Bucket(0.1, (SoilStore(10.0, 0.5, 0.3, 1.0, 0.2),), 1e-9, 15, 0.01)
    >>> run_bucket(one, [[10.0], [0.0], [np.nan]], [0, 1, 2]).round(3)[:, 0].tolist()
    [0.4, 0.282, 0.234]
    """
    total = np.full(np.shape(rain_mm), bucket.dry)
    for store, wetness in zip(
        bucket.stores, store_wetness(bucket, rain_mm, day, opposite, irrigation_mm), strict=True
    ):
        total += store.range * (wetness if store.power == 1 else wetness**store.power)
    return total


def store_wetness(
    bucket: Bucket,
    rain_mm: ArrayLike,
    day: ArrayLike,
    opposite: bool = False,
    irrigation_mm: ArrayLike = 0.0,
) -> Iterator[Array]:
    """Yield the wetness (D, S) of each store; Eqs 1 and 4. Arguments as for :func:`run_bucket`."""
    rain = np.asarray(rain_mm, np.float64)
    known = np.isfinite(rain)
    season = seasonal_loss(bucket, day, opposite)
    for store in bucket.stores:
        keep = np.exp(-store.loss_per_day * season)
        # (4) is (1) with the rain that holds the mean: w keep + mean (1 - keep)
        gain = np.where(known, rain / store.capacity_mm, store.mean * (1 - keep)[:, None])
        gain = gain + np.asarray(irrigation_mm, np.float64) / store.capacity_mm
        w = np.full(rain.shape[1], store.mean)
        wetness = np.empty(rain.shape)
        for t, left in enumerate(keep.tolist()):
            w = np.minimum(1.0, w * left + gain[t])
            wetness[t] = w
        yield wetness


def seasonal_loss(bucket: Bucket, day: ArrayLike, opposite: bool = False) -> Array:
    """Return the factor on the loss (D,) of each day since 1970; Eq 2."""
    peak = bucket.peak_day + (365.25 / 2 if opposite else 0.0)
    phase = 2 * np.pi * (day_of_year(day) - peak) / 365.25
    return np.asarray(np.exp(bucket.season * np.cos(phase)))


def day_of_year(day: ArrayLike) -> Array:
    """Return the day of the year from 1 on of days since 1970, the shape of ``day``.

    >>> day_of_year([0, 31, 365]).tolist()
    [1.0, 32.0, 1.0]
    """
    date = np.asarray(day, np.int64).astype("datetime64[D]")
    return np.asarray((date - date.astype("datetime64[Y]")).astype(np.float64) + 1)


def unknown(bucket: Bucket, residual: Residual, missing: ArrayLike) -> Array:
    """Return the variance (shape of ``missing``) that missing rain adds to the residual each day.

    missing: share of the day's rain that is not known, 0 to 1.  After many missing days the
    residual has the bucket's own variance on top: q = var(f) (1 - phi^2).
    """
    return np.asarray(missing, np.float64) * bucket.variance * (1 - residual.common_phi**2)
