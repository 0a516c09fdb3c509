"""The grid of a scene: where its pixels lie, which way they run, and parts of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from .gdal import rasterio_or_reason, reason_of
from .manifest import Scene

#: More pixels than this are a mistake: a continent at 10 m has a tenth.
MAX_PIXELS = 1e11


class Window(NamedTuple):
    """A rectangle of the grid, pixels."""

    row: int
    col: int
    height: int
    width: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Its rows and columns, to index an array of the whole grid."""
        return (
            slice(self.row, self.row + self.height),
            slice(self.col, self.col + self.width),
        )

    def parts(self, rows: int, cols: int) -> Iterator[Window]:
        """Yield windows of at most (rows, cols) pixels that cover this one, row by row.

        >>> [tuple(part) for part in Window(1, 2, 3, 4).parts(2, 4)]
        [(1, 2, 2, 4), (3, 2, 1, 4)]
        """
        for row in range(0, self.height, rows):
            for col in range(0, self.width, cols):
                height, width = min(rows, self.height - row), min(cols, self.width - col)
                yield Window(self.row + row, self.col + col, height, width)

    def meets(self, other: Window) -> bool:
        """Return True where the two have a pixel in common."""
        return (
            self.row < other.row + other.height
            and other.row < self.row + self.height
            and self.col < other.col + other.width
            and other.col < self.col + self.width
        )


@dataclass(frozen=True)
class Grid:
    """crs: WKT.  transform: (a, b, c, d, e, f), x = a col + b row + c, y = d col + e row + f,
    of the corner between four pixels.  Sizes in pixels.

    >>> grid = Grid("", (10.0, 0.0, 600000.0, 0.0, -10.0, 5650000.0), width=3, height=2)
    >>> grid.bounds, grid.step, grid.orientation
    ((600000.0, 5649980.0, 600030.0, 5650000.0), (10.0, 10.0), 'north-up')
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int

    @property
    def window(self) -> Window:
        """All pixels of the grid."""
        return Window(0, 0, self.height, self.width)

    @property
    def step(self) -> tuple[float, float]:
        """Size of a pixel along x and y, in the CRS's unit; of a grid that is not rotated."""
        return abs(self.transform[0]), abs(self.transform[4])

    @property
    def orientation(self) -> str:
        """``north-up`` (x grows with columns, y falls with rows), ``mirrored`` or ``rotated``."""
        a, b, _, d, e, _ = self.transform
        if b or d:
            return "rotated"
        return "north-up" if a > 0 > e else "mirrored"

    @property
    def bounds(self) -> tuple[float, float, float, float]:
        """west, south, east, north of all pixels' edges, in the CRS."""
        a, b, c, d, e, f = self.transform
        x = [c + a * col + b * row for col in (0, self.width) for row in (0, self.height)]
        y = [f + d * col + e * row for col in (0, self.width) for row in (0, self.height)]
        return min(x), min(y), max(x), max(y)

    @property
    def x(self) -> NDArray[np.float64]:
        """(width,) of the columns' centres; of a grid that is not rotated."""
        return np.asarray(self.transform[2] + (np.arange(self.width) + 0.5) * self.transform[0])

    @property
    def y(self) -> NDArray[np.float64]:
        """(height,) of the rows' centres; of a grid that is not rotated."""
        return np.asarray(self.transform[5] + (np.arange(self.height) + 0.5) * self.transform[4])

    def north_up(self, plane: NDArray[Any]) -> NDArray[Any]:
        """Return a plane (height, width) turned so that north is above and east on the right; of a
        grid that is not rotated."""
        a, _, _, _, e, _ = self.transform
        return plane[:: 1 if e < 0 else -1, :: 1 if a > 0 else -1]

    @property
    def is_geographic(self) -> bool:
        """Coordinates are longitude and latitude."""
        return bool(rasterio_or_reason().crs.CRS.from_wkt(self.crs).is_geographic)

    def pixel_at(self, x: float, y: float) -> tuple[float, float]:
        """Return column and row of a point, fractions included.

        0, 0 is the corner of the first pixel.
        """
        a, b, c, d, e, f = self.transform
        size = a * e - b * d
        return (e * (x - c) - b * (y - f)) / size, (a * (y - f) - d * (x - c)) / size

    def moved(self, across: float) -> Grid:
        """Move the grid along x by ``across``, in the CRS's unit."""
        a, b, c, d, e, f = self.transform
        return Grid(self.crs, (a, b, c + across, d, e, f), self.width, self.height)

    def part(self, window: Window) -> Grid:
        """Return the grid of a window."""
        a, b, c, d, e, f = self.transform
        corner = (
            c + a * window.col + b * window.row,
            f + d * window.col + e * window.row,
        )
        return Grid(self.crs, (a, b, corner[0], d, e, corner[1]), window.width, window.height)

    def same_as(self, other: Grid) -> bool:
        """Return true for the same pixels, to a thousandth of one over the whole extent."""
        if (self.width, self.height) != (other.width, other.height):
            return False
        a, b, _, d, e, _ = self.transform
        size = max(abs(a) + abs(d), abs(b) + abs(e))
        difference = np.abs(np.subtract(self.transform, other.transform))
        span = np.asarray([self.width, self.height, 1] * 2)
        return bool(np.all(difference * span < 1e-3 * size)) and _same_crs(self.crs, other.crs)

    def same_crs_as(self, other: Grid) -> bool:
        """Return true for a grid in the same CRS, however it is written."""
        return _same_crs(self.crs, other.crs)

    def is_shifted_by_pixels(self, other: Grid) -> bool:
        """Return True where pixels are the same, shifted by whole pixels: no resampling."""
        here, there = self.transform, other.transform
        if here[1] or here[3] or there[1] or there[3]:
            return False
        across, down = here[0], here[4]
        extent = max(self.width, self.height, other.width, other.height)
        same_step = max(abs(here[0] - there[0]), abs(here[4] - there[4])) * extent < 1e-3 * abs(
            across
        )
        shift = np.asarray([(there[2] - here[2]) / across, (there[5] - here[5]) / down])
        whole = bool(np.all(np.abs(shift - np.round(shift)) < 1e-3))
        return same_step and whole and _same_crs(self.crs, other.crs)

    def window_of(self, other: Grid) -> Window | None:
        """Return the pixels shared with a grid a whole number of pixels apart; None without any."""
        col, row = map(round, self.pixel_at(other.transform[2], other.transform[5]))
        left, top = max(col, 0), max(row, 0)
        right, bottom = min(col + other.width, self.width), min(row + other.height, self.height)
        if left >= right or top >= bottom:
            return None
        return Window(top, left, bottom - top, right - left)

    def widened(self, others: Sequence[Grid]) -> Grid:
        """Return the smallest grid of these pixels that holds all of ``others`` too."""
        a, _, c, _, e, f = self.transform
        col = [round((other.transform[2] - c) / a) for other in (self, *others)]
        row = [round((other.transform[5] - f) / e) for other in (self, *others)]
        sizes = [(other.width, other.height) for other in (self, *others)]
        left, top = min(col), min(row)
        right = max(start + width for start, (width, _) in zip(col, sizes, strict=True))
        bottom = max(start + height for start, (_, height) in zip(row, sizes, strict=True))
        return self.part(Window(top, left, bottom - top, right - left))

    def in_words(self) -> str:
        """Return the size, step, corner and CRS, so that two grids that differ read differently."""
        crs = rasterio_or_reason().crs.CRS.from_wkt(self.crs)
        epsg = crs.to_epsg()
        name = f"EPSG:{epsg}" if epsg else crs.to_string()[:40]
        west, _, _, north = self.bounds
        turned = "" if self.orientation == "north-up" else f", {self.orientation}"
        return (
            f"{self.width} x {self.height} pixels of {self.step[0]:g} "
            f"from {west:.10g}, {north:.10g}{turned}, {name}"
        )


def crs_of(text: str, place: str) -> str:
    """Return a CRS, given by name, code or WKT, as WKT. DataError names ``place``."""
    rasterio = rasterio_or_reason()
    try:
        wkt = str(rasterio.crs.CRS.from_user_input(text).to_wkt())
        rasterio.crs.CRS.from_wkt(wkt)  # what is written is not always read
        return wkt
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise DataError(
            f"{place}: {text[:60]!r} is not a CRS ({reason_of(error)}); "
            "write one such as EPSG:32631"
        ) from None


def stated_grid(scene: Scene) -> Grid | None:
    """Read the grid a manifest states; None where it does not. DataError where it cannot be one."""
    if not scene.grid:
        return None
    rasterio = rasterio_or_reason()
    try:
        crs = rasterio.crs.CRS.from_user_input(scene.grid["crs"])
        west, south, east, north = (float(item) for item in scene.grid["bounds"])
        step = float(scene.grid["resolution"])
    except (rasterio.errors.RasterioError, TypeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{scene.source}: [grid]: {reason_of(error)}; crs is a name such as EPSG:32631, bounds "
            "are west, south, east, north and resolution one number, in its units"
        ) from None
    across, down = (east - west) / step if step > 0 else 0.0, (north - south) / step if step else 0
    if not (across >= 0.5 and down >= 0.5):  # NaN too
        raise DataError(f"{scene.source}: [grid]: bounds and resolution hold no pixel")
    if not across * down <= MAX_PIXELS:
        raise DataError(
            f"{scene.source}: [grid]: {across:.3g} x {down:.3g} pixels are more than any map can "
            f"have ({MAX_PIXELS:.0g}); is the resolution in the CRS's unit?"
        )
    width, height = round(across), round(down)
    return Grid(crs.to_wkt(), (step, 0.0, west, 0.0, -step, north), width, height)


def _same_crs(one: str, other: str) -> bool:
    if one == other:
        return True
    crs = rasterio_or_reason().crs.CRS
    return bool(crs.from_wkt(one) == crs.from_wkt(other))
