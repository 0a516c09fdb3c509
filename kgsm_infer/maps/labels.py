"""Paddock of each pixel of a map: outlines are burned once per block."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.extras import optional
from ..scenes.grid import Grid, Window


class PaddockLabels:
    """Index of the paddock each pixel's centre lies in, by block. Thread-safe.

    A block burns the outlines that meet it, once; the result is kept compressed, about a hundredth
    of a byte per pixel, for the passes over the scene that follow.

    paddocks: GeoJSON geometries in the grid's CRS.
    """

    def __init__(self, paddocks: Sequence[Mapping[str, Any]], grid: Grid) -> None:
        self._paddocks, self._grid = paddocks, grid
        boxes = [_box(geometry, grid) for geometry in paddocks]
        self._boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        self._burned: dict[Window, bytes] = {}
        self._lock = Lock()

    def of(self, window: Window) -> NDArray[np.int64]:
        """Return (pixels,) indices of paddocks, the first of several; -1 in none."""
        with self._lock:
            if window not in self._burned:
                self._burned[window] = zlib.compress(self._burn(window).tobytes(), 1)
            burned = self._burned[window]
        return np.frombuffer(zlib.decompress(burned), np.int32).astype(np.int64)

    def _burn(self, window: Window) -> NDArray[np.int32]:
        labels = np.full((window.height, window.width), -1, np.int32)
        top, left, bottom, right = self._boxes.T
        meeting = np.flatnonzero(
            (top < window.row + window.height)
            & (bottom > window.row)
            & (left < window.col + window.width)
            & (right > window.col)
        )
        if len(meeting):
            rasterio = optional("rasterio", "features", what="field context")
            rasterio.features.rasterize(
                [(self._paddocks[at], int(at)) for at in meeting[::-1]],  # the last one wins
                out=labels,
                transform=rasterio.Affine(*self._grid.part(window).transform),
            )
        return labels


def _box(geometry: Mapping[str, Any], grid: Grid) -> tuple[float, float, float, float]:
    """Return top, left, bottom and right of a geometry in pixels, with a margin of one."""
    pixels = [grid.pixel_at(x, y) for x, y in _points(geometry["coordinates"])]
    cols, rows = [col for col, _ in pixels], [row for _, row in pixels]
    return min(rows) - 1, min(cols) - 1, max(rows) + 1, max(cols) + 1


def _points(coordinates: Any) -> Iterator[tuple[float, float]]:
    """Yield the points of nested GeoJSON coordinates."""
    if isinstance(coordinates[0], int | float):
        yield float(coordinates[0]), float(coordinates[1])
        return
    for part in coordinates:
        yield from _points(part)
