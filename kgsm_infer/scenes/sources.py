"""A layer's file as the reader sees it, whatever kind of file it is."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import numpy as np

from .cubes import open_cube
from .grid import Grid, Window
from .layers import cube_named
from .rasters import open_raster
from .tiles import TileStore
from .validity import Plane, Validity


class BandSource(Protocol):
    """A raster (:mod:`kgsm_infer.scenes.rasters`) or a variable of a cube
    (:mod:`kgsm_infer.scenes.cubes`): bands on a grid, which can be seen on another one.

    extent: the file's own grid, on whatever grid it is seen.  scaling: scale and offset of a
    band as the file says.  stored: (height, width) float64 of a window, missing is NaN, not
    yet scaled (:mod:`kgsm_infer.scenes.validity`).
    """

    @property
    def path(self) -> str: ...
    @property
    def grid(self) -> Grid: ...
    @property
    def extent(self) -> Grid: ...
    @property
    def tile(self) -> tuple[int, int]: ...
    @property
    def count(self) -> int: ...
    def band(self, band: int | str) -> int: ...
    def time(self, band: int) -> np.datetime64 | None: ...
    def scaling(self, band: int) -> tuple[float, float]: ...
    def stored(self, band: int, window: Window, rule: Validity) -> Plane: ...
    def on(self, grid: Grid, resampling: str) -> BandSource: ...
    def close(self) -> None: ...


def opened(path: str, crs: str | None = None, tiles: TileStore | None = None) -> BandSource:
    """Open a raster or a variable of a cube. DataError where it cannot be read.

    crs: of the manifest, for a file without one.  tiles: keeps its decoded tiles.
    """
    tiles = tiles or TileStore()
    cube = cube_named(path)
    if cube is not None and Path(cube[0]).exists():
        return open_cube(path, *cube, crs, tiles)
    return open_raster(path, crs, tiles, checked=True)  # with the manifest
