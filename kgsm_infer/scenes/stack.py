"""An opened scene: one grid, its dates and the layer of each column."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ..tables.columns import FROM_DATE, origins
from .grid import Grid
from .layers import Layer


@dataclass(frozen=True)
class Stack:
    """A scene ready to be read. dates: (D,) of the acquisitions, ascending.

    layers: those of the scene, with the dates of cubes resolved.
    tile: (rows, columns) in which the backscatter is stored.
    files: every file that can be read, for a fingerprint of the input.
    simulated: as the scene says.
    notes: files that were found and are not used, with the reason.
    orbits: (D,) relative orbit of each acquisition, "" where not known; () where none is.
    """

    source: str
    title: str
    grid: Grid
    dates: NDArray[np.datetime64]
    layers: Mapping[str, Layer]
    tile: tuple[int, int]
    files: tuple[str, ...]
    simulated: bool = False
    notes: tuple[str, ...] = ()
    orbits: tuple[str, ...] = ()

    def select(self, which: NDArray[np.bool_]) -> Stack:
        """Return the stack with the acquisitions where ``which`` (D,) is True."""
        orbits = tuple(orbit for orbit, wanted in zip(self.orbits, which, strict=False) if wanted)
        return replace(self, dates=self.dates[which], orbits=orbits)

    def has(self, column: str) -> bool:
        """Return True for a column that can be read or computed from the layers."""
        return bool(origins(column, self.layers)) or column in FROM_DATE
