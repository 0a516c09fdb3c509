"""Daily estimates of all paddocks: rain model, passes and filter put together.

Days count from the first day of the drive. The filter sees the past only; the smoother
(:mod:`kgsm_infer.daily.smoother`) sees the later passes too.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .bucket import run_bucket, unknown
from .filter import EVERY_DAY, Array, CommonRain, Day, Filter, Measurement
from .parameters import Parameters

if TYPE_CHECKING:
    from .forcing import Forcing

#: Quantile of the normal distribution for the ends of a 90 % band.
Z90 = 1.6448536269514722
Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Drive:
    """The rain model on D days for S series of rain, and the series of each of N paddocks.

    first: days since 1970 of day 0.  expected: (D, S) moisture of the bucket, m3 m-3.
    unknown: (D, S) variance that missing rain adds.  series: (N,) index into S.  common:
    days whose missing rain is common to all paddocks.  opposite: the season of the parameters is
    shifted by half a year (:func:`is_opposite`).
    """

    first: int
    expected: Array
    unknown: Array
    series: NDArray[np.int64]
    common: CommonRain = EVERY_DAY
    opposite: bool = False

    def until(self, count: int) -> Drive:
        """Return the first ``count`` days."""
        return replace(self, expected=self.expected[:count], unknown=self.unknown[:count])


@dataclass(frozen=True)
class PassValues:
    """M values of passes, sorted by day and pass.

    day: (M,) day of the drive.  passed: (M,) number of the pass, ascending.  paddock: (M,).
    value: (M,) m3 m-3.  error_var: (M,) variance of the paddock's own error, without its
    persistent part.  date_var: (M,) variance shared in a pass.  elapsed: (M,) share of the day's
    rain that had fallen at the pass, 0 to 1.  bias_var: (N,) variance of the persistent error.
    """

    day: NDArray[np.int64]
    passed: NDArray[np.int64]
    paddock: NDArray[np.int64]
    value: Array
    error_var: Array
    date_var: Array
    elapsed: Array
    bias_var: Array

    def __len__(self) -> int:
        return len(self.day)


@dataclass(frozen=True)
class Estimates:
    """Moisture of N paddocks on D days: (D, N) float32 each, m3 m-3.

    mean.  sd: half the 90 % band divided by 1.645.  weight: share of the rain model's variance
    that the passes removed.  limits: of the mean and the band.
    """

    mean: Floats
    sd: Floats
    weight: Floats
    limits: tuple[float, float]

    @property
    def lower(self) -> Floats:
        """Lower end of the 90 % band, within the limits."""
        low, high = map(np.float32, self.limits)
        return np.clip(self.mean - np.float32(Z90) * self.sd, low, high)

    @property
    def upper(self) -> Floats:
        """Upper end of the 90 % band, within the limits."""
        low, high = map(np.float32, self.limits)
        return np.clip(self.mean + np.float32(Z90) * self.sd, low, high)


def drive(parameters: Parameters, forcing: Forcing, north: bool | None = None) -> Drive:
    """Run the rain model on rain and irrigation.

    north: the paddocks are on the northern hemisphere; None for that of the parameters.
    """
    first, rain_mm = forcing.period.first, forcing.rain_mm
    day, opposite = first + np.arange(len(rain_mm)), is_opposite(parameters, north)
    expected = run_bucket(parameters.bucket, rain_mm, day, opposite, forcing.irrigation_mm)
    added = unknown(parameters.bucket, parameters.residual, forcing.missing)
    return Drive(first, expected, added, forcing.series, forcing.common, opposite)


def is_opposite(parameters: Parameters, north: bool | None) -> bool:
    """Return True where the parameters' season must be shifted by half a year.

    north: the paddocks are on the northern hemisphere; None for that of the parameters.
    """
    return north is not None and north != (parameters.hemisphere == "north")


def filtered(parameters: Parameters, rain: Drive, seen: PassValues) -> Iterator[Day]:
    """Yield the estimate of every day in turn, each from passes up to that day."""
    state = Filter(parameters.residual, len(rain.series), seen.bias_var)
    state.forget_start(parameters.bucket.variance, rain.common)
    bounds = np.searchsorted(seen.day, np.arange(len(rain.expected) + 1))
    for t, expected in enumerate(rain.expected):
        state.step(rain.unknown[t], rain.expected[t], rain.series, rain.common, t)
        here = expected[rain.series]
        for one in passes_of_day(rain, seen, t, slice(bounds[t], bounds[t + 1])):
            state.update(one)
        yield state.estimate(here)


def passes_of_day(rain: Drive, seen: PassValues, t: int, rows: slice) -> Iterator[Measurement]:
    """Yield the passes of day ``t``, which are the observations ``rows``, in their order."""
    number = seen.passed[rows]
    if not len(number):
        return
    before = rain.expected[max(t - 1, 0)]
    for part in np.split(np.arange(rows.start, rows.stop), np.flatnonzero(np.diff(number)) + 1):
        paddock = seen.paddock[part]
        series, elapsed = rain.series[paddock], seen.elapsed[part]
        expected = (1 - elapsed) * before[series] + elapsed * rain.expected[t][series]
        yield Measurement(
            paddock, seen.value[part], expected, seen.error_var[part], float(seen.date_var[part[0]])
        )


def estimate(parameters: Parameters, rain: Drive, seen: PassValues) -> Estimates:
    """Estimate all days from the passes up to each (:func:`filtered`), as arrays."""
    shape = (len(rain.expected), len(rain.series))
    mean, sd, weight = (np.empty(shape, np.float32) for _ in range(3))
    for t, day in enumerate(filtered(parameters, rain, seen)):
        mean[t], sd[t], weight[t] = day.mean, day.variance, day.weight
    return finished(parameters, mean, sd, weight)


def finished(parameters: Parameters, mean: Floats, variance: Floats, weight: Floats) -> Estimates:
    """Clip means to the limits and turn variances into standard deviations, in place."""
    low, high = parameters.limits
    np.clip(mean, low, high, out=mean)
    np.sqrt(variance, out=variance)
    variance *= np.float32(parameters.band_scale)
    return Estimates(mean, variance, weight, parameters.limits)
