"""The physics head: a bounded straight line that stands beside the LSTM.

    SM = intercept + sum_i slope_i channel_i[t - lag_i]  +  shrink * LSTM(window)

Its channels are physical channels of the window: how far the backscatter is over what is usual
at a place, the mean of that over the scene, vegetation, the look before (change detection:
Wagner et al. 1999, Remote Sens. Environ. 70, 191); or the soil's backscatter below the
vegetation (the WCM, SM = (sigma_soil - C) / D, Eqs 3 and 6). Change detection has few numbers and
does not learn dates by heart; what the LSTM finds beside it is added with a weight below 1.

The line is kept in the units of its channels. The engines read it off the scaled tile, where a
step that does not count is 0 throughout: a look that is missing stands for an average one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from .window import Layout

KINDS = ("change", "wcm")


@dataclass(frozen=True)
class Term:
    """One channel of the line.

    lag: 0 is the acquisition asked for, 1 the look before it.
    slope: m3 m-3 per unit of the channel.
    """

    channel: str
    lag: int
    slope: float


@dataclass(frozen=True)
class Head:
    """The line's numbers. kind: of KINDS.  intercept: m3 m-3.

    shrink: 0..1, what part of the LSTM's own estimate is added. It is already in the weights of
    a model file; here it is told.
    """

    kind: str
    intercept: float
    terms: tuple[Term, ...]
    shrink: float

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"head {self.kind!r} is none of {', '.join(KINDS)}")
        numbers = (self.intercept, self.shrink, *(term.slope for term in self.terms))
        if not all(math.isfinite(value) for value in numbers):
            raise ValueError("a number of the head is not finite")
        if not 0 <= self.shrink <= 1:
            raise ValueError(f"shrink {self.shrink!r} is not in 0..1")
        if len({(term.channel, term.lag) for term in self.terms}) < len(self.terms):
            raise ValueError("the head names a term twice")


class Readout(NamedTuple):
    """The line on the scaled tile. weight: (T, F) float32, m3 m-3 per scaled unit; bias: m3 m-3."""

    weight: NDArray[np.float32]
    bias: np.float32


def readout_of(head: Head, layout: Layout, channels: Sequence[str]) -> Readout:
    """The head as the engines apply it. ValueError where it names a channel the tile has not.

    channels: names of the scaled channels, in the tile's order.

        slope x = slope std scaled + slope mean,  scaled = (x - mean) / std
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
    return Readout(weight.astype(np.float32), np.float32(bias))


def read_out(readout: Readout, tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """SM (N,) of the head alone for a tile (T, N, F), neither clipped nor masked; NaN in a
    channel that is read gives NaN. Summed in float64: the readable twin of ``kgsm_readout``."""
    if tile.ndim != 3 or (tile.shape[0], tile.shape[2]) != readout.weight.shape:
        raise ValueError(f"expected a tile {readout.weight.shape} with N between, got {tile.shape}")
    read = np.nonzero(readout.weight)
    sm = np.full(tile.shape[1], np.float64(readout.bias))
    for step, channel in zip(*read, strict=True):
        sm += np.float64(readout.weight[step, channel]) * tile[step, :, channel]
    return sm.astype(np.float32)
