"""Physics head: a bounded straight line, or a normal distribution function of one.

    line = intercept + sum_i slope_i channel_i[t - lag_i]

    SM = line                       + shrink * LSTM(window)         kinds ``change`` and ``wcm``
    SM = dry (1 - p) + wet p        + shrink * LSTM(window)         kind ``index``, p = Phi(line)

The terms are physical channels of the window. Change detection (Wagner et al. 1999, Remote Sens.
Environ. 70, 191) reads the backscatter above the usual state of a place, the mean of that over
the scene, vegetation and the previous look. The WCM head reads the soil's backscatter below the
vegetation (SM = (sigma_soil - C) / D, Eqs 3 and 6). The index reads standardised anomalies, whose
distribution function Phi is a rank between 0, the driest, and 1, the wettest; ``limits`` turn it
into soil moisture. A head has few parameters, so it cannot memorise dates. ``shrink`` weights what
the LSTM adds to it.

Parameters are in the units of the channels. The engines apply them to the scaled tile, where a
step that does not count is 0 throughout: a missing look counts as an average one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .window import Layout

KINDS = ("change", "wcm", "index")


@dataclass(frozen=True)
class Term:
    """One channel of the line.

    lag: 0 for the target acquisition, 1 for the look before it.
    slope: per unit of the channel; m3 m-3, or none in a head of kind ``index``.
    """

    channel: str
    lag: int
    slope: float


@dataclass(frozen=True)
class Head:
    """Parameters of a head.

    kind: one of KINDS.
    intercept: m3 m-3, or none in a head of kind ``index``.
    shrink: 0..1, the weight of the LSTM's estimate. The weights in a model file already include
        it; here it is for information.
    limits: (dry, wet) of kind ``index``, m3 m-3, or (0, 1) for the index itself. None otherwise.

    ValueError for values outside these ranges.
    """

    kind: str
    intercept: float
    terms: tuple[Term, ...]
    shrink: float
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"unsupported head {self.kind!r}; expected {', '.join(KINDS)}")
        numbers = (self.intercept, self.shrink, *(term.slope for term in self.terms))
        if not all(math.isfinite(value) for value in numbers):
            raise ValueError("a parameter of the head is not finite")
        if not 0 <= self.shrink <= 1:
            raise ValueError(f"shrink {self.shrink!r} is outside 0..1")
        if len({(term.channel, term.lag) for term in self.terms}) < len(self.terms):
            raise ValueError("duplicate term in the head")
        if (self.limits is None) != (self.kind != "index"):
            raise ValueError(f"head {self.kind!r} with limits {self.limits!r}")
        if self.limits is not None and not 0 <= self.limits[0] < self.limits[1] <= 1:
            raise ValueError(f"limits {self.limits!r} must be 0 <= dry < wet <= 1")


@dataclass(frozen=True, eq=False)
class Readout:
    """Head in terms of the scaled tile.

    weight: (T, F) float32, per scaled unit.  bias: float32.
    limits: (low, high) of a head of kind ``index``; None for the line itself.
    """

    weight: NDArray[np.float32]
    bias: np.float32
    limits: tuple[float, float] | None = None


def readout_of(head: Head, layout: Layout, channels: Sequence[str]) -> Readout:
    """Convert a head to the scaled tile.

    channels: names of the scaled channels, in the tile's order.

        slope x = slope std scaled + slope mean,  scaled = (x - mean) / std

    ValueError where the head names a channel that the tile lacks.
    """
    weight = np.zeros((layout.steps, layout.channels))
    bias = head.intercept
    for term in head.terms:
        if term.channel not in channels or not 0 <= term.lag < layout.steps:
            raise ValueError(
                f"the head reads {term.channel} {term.lag} looks back, which is not in a window "
                f"of {layout.steps} acquisitions of {', '.join(channels)}"
            )
        at = list(channels).index(term.channel)
        weight[layout.steps - 1 - term.lag, at] += term.slope * layout.std[at]
        bias += term.slope * layout.mean[at]
    return Readout(weight.astype(np.float32), np.float32(bias), head.limits)


def read_out(readout: Readout, tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute SM (N,) of the head alone from a tile (T, N, F), neither clipped nor masked.

    NaN in a channel that is read gives NaN. The line is summed in float64, as in ``kgsm_readout``.
    """
    if tile.ndim != 3 or (tile.shape[0], tile.shape[2]) != readout.weight.shape:
        raise ValueError(f"expected a tile {readout.weight.shape} with N between, got {tile.shape}")
    read = np.nonzero(readout.weight)
    line = np.full(tile.shape[1], np.float64(readout.bias))
    for step, channel in zip(*read, strict=True):
        line += np.float64(readout.weight[step, channel]) * tile[step, :, channel]
    if readout.limits is None:
        return line.astype(np.float32)
    low, high = (np.float32(limit) for limit in readout.limits)
    p = normal_cdf(line)
    return np.clip(low * (np.float32(1) - p) + high * p, low, high)


def normal_cdf(x: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute the standard normal distribution function, (1 + erf(x / sqrt 2)) / 2, float32.

    >>> normal_cdf(np.asarray([-np.inf, 0.0, 1.959964, np.nan])).round(4).tolist()
    [0.0, 0.5, 0.9750000238418579, nan]
    """
    # the standard library has erf and NumPy has not
    values = [0.5 + 0.5 * math.erf(value) for value in (x * math.sqrt(0.5)).tolist()]
    return np.asarray(values, np.float32)
