"""Bring planes of one grid to another: decoded validity first, then GDAL's warper."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .gdal import rasterio_or_reason
from .grid import Grid, Window
from .validity import Plane

#: Pixels of a source read at once; a larger cover is read in parts.
MOST_PIXELS = 4_000_000
#: Reach of the widest kernel (cubic), in pixels of the coarser grid, and a margin.
_REACH = 4


class GridView(NamedTuple):
    """Another grid that a source is read on. resampling: as GDAL names it."""

    grid: Grid
    resampling: str


def read_view(
    own: Grid, read: Callable[[Window], Plane], view: GridView | None, window: Window
) -> Plane:
    """Read a window of a source on its own grid, or on that of a view, as :func:`plane_on`."""
    if view is None:
        return read(window)
    return plane_on(own, read, view.grid, window, view.resampling)


def plane_on(
    own: Grid,
    read: Callable[[Window], Plane],
    target: Grid,
    window: Window,
    resampling: str,
) -> Plane:
    """Read a window of ``target`` from a source on grid ``own``; NaN where it has no value.

    read: (height, width) float64 of a window of the source, NaN where missing. Missing pixels
    have no weight. Grids a whole number of pixels apart are read without resampling. Longitudes
    a full turn apart are the same place.
    """
    out = np.full((window.height, window.width), np.nan)
    part = target.part(window)
    for turn in _turns(own):
        seen = own.moved(turn)
        if target.is_shifted_by_pixels(seen):
            _copy(seen, read, part, out)
            continue
        below = covering(seen, part)
        if below is None:
            continue
        if below.height * below.width > MOST_PIXELS and window.height * window.width > 1:
            return _in_parts(own, read, target, window, resampling)
        _warp(read(below), seen.part(below), part, out, resampling)
    return out


def _copy(seen: Grid, read: Callable[[Window], Plane], part: Grid, out: Plane) -> None:
    """Read the same pixels of a grid shifted by whole pixels; fill what ``out`` lacks."""
    there = seen.window_of(part)
    here = part.window_of(seen)
    if there is not None and here is not None:
        lacking = out[here.slices]
        np.copyto(lacking, read(there), where=np.isnan(lacking))


def _in_parts(
    own: Grid, read: Callable[[Window], Plane], target: Grid, window: Window, resampling: str
) -> Plane:
    """Read the halves of a window, so that what is read of the source stays small."""
    parts, axis = halves(window)
    return np.concatenate(
        [plane_on(own, read, target, half, resampling) for half in parts], axis=axis
    )


def halves(window: Window) -> tuple[tuple[Window, Window], int]:
    """Halve a window along its longer side; return the halves and the axis they lie along."""
    if window.height >= window.width:
        first = window.height // 2
        return (
            window._replace(height=first),
            window._replace(row=window.row + first, height=window.height - first),
        ), 0
    first = window.width // 2
    return (
        window._replace(width=first),
        window._replace(col=window.col + first, width=window.width - first),
    ), 1


def _warp(values: Plane, own: Grid, part: Grid, out: Plane, resampling: str) -> None:
    """Warp ``values`` on grid ``own`` onto ``part``; fill what ``out`` lacks."""
    rasterio = rasterio_or_reason()
    here = np.full(out.shape, np.nan)
    rasterio.warp.reproject(
        values,
        here,
        src_transform=rasterio.Affine(*own.transform),
        src_crs=own.crs,
        src_nodata=np.nan,
        dst_transform=rasterio.Affine(*part.transform),
        dst_crs=part.crs,
        dst_nodata=np.nan,
        resampling=rasterio.enums.Resampling[resampling],
    )
    np.copyto(out, here, where=np.isnan(out))


def _turns(own: Grid) -> tuple[float, ...]:
    """Return shifts of a grid's longitudes that may bring it over a place; (0,) in other CRSs."""
    return (0.0, -360.0, 360.0) if own.is_geographic else (0.0,)


def lies_over(own: Grid, target: Grid) -> bool:
    """Return true where a source on grid ``own`` covers some of ``target``."""

    def meets(seen: Grid) -> bool:
        if target.is_shifted_by_pixels(seen):
            return target.window_of(seen) is not None
        return covering(seen, target, margin=0) is not None

    return any(meets(own.moved(turn)) for turn in _turns(own))


def part_over(own: Grid, target: Grid, margin: int) -> Grid | None:
    """Return the pixels of ``own`` below ``target`` and a margin around them, as a grid, or None.

    Longitudes are those of ``target``, a full turn away where the source's are.
    """
    for turn in _turns(own):
        seen = own.moved(turn)
        window = covering(seen, target, margin)
        if window is not None and covering(seen, target, margin=0) is not None:
            return seen.part(window)
    return None


def needs_resampling(own: Grid, target: Grid) -> bool:
    """Return false where the grids are a whole number of pixels apart, or so after a full turn."""
    return not any(target.is_shifted_by_pixels(own.moved(turn)) for turn in _turns(own))


def covering(own: Grid, part: Grid, margin: int | None = None) -> Window | None:
    """Return the pixels of ``own`` below ``part`` of another grid, or None.

    margin: in pixels; None for the reach of the widest kernel.
    """
    rasterio = rasterio_or_reason()
    west, south, east, north = rasterio.warp.transform_bounds(
        part.crs, own.crs, *part.bounds, densify_pts=21
    )
    if own.is_geographic and west > east:  # across the antimeridian
        west, east = (west - 360.0, east) if own.bounds[0] < 0 else (west, east + 360.0)
    if not np.isfinite([west, south, east, north]).all():
        return None
    corners = [own.pixel_at(x, y) for x in (west, east) for y in (south, north)]
    cols, rows = [col for col, _ in corners], [row for _, row in corners]
    if margin is None:  # a kernel's reach grows with the ratio of the steps
        steps = ((max(cols) - min(cols)) / part.width, (max(rows) - min(rows)) / part.height)
        margin = int(np.ceil(_REACH * max(1.0, *steps)))
    left, right = int(np.floor(min(cols))) - margin, int(np.ceil(max(cols))) + margin
    top, bottom = int(np.floor(min(rows))) - margin, int(np.ceil(max(rows))) + margin
    left, top = max(0, left), max(0, top)
    right, bottom = min(own.width, right), min(own.height, bottom)
    if left >= right or top >= bottom:
        return None
    return Window(top, left, bottom - top, right - left)
