"""Paddocks on rasters: which share of each pixel lies inside, and what the map says there.

Shares are exact areas (exactextract), so a pixel on the fence counts by what is inside.

    hole            not part of the paddock        multipolygon   one paddock
    overlap         each paddock by itself; a shared pixel counts in both
    sliver          less than one pixel inside: no number, for its pixels are its neighbours'
    off the scene   no number; partly off: that part counts as without a number
    invalid         an outline that crosses itself: no number, and where it does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import DataError, MissingError
from ..maps.run import Plan, Progress, Work, plan_map, worked_out
from ..scenes.manifest import Scene
from ..scenes.stack import Grid, Stack, Window, gdal, to_outline_crs
from .summary import LON_LAT, MIN_VALID, Outlines, Paddock, summarise, without_number

if TYPE_CHECKING:
    from ..model import Model

#: Less of a paddock than this inside pixels, and it is a sliver.
MIN_PIXELS = 1.0


class Coverage(NamedTuple):
    """The pixels of one paddock.

    window: around them.  share: (height, width) of each pixel that lies inside.
    area: of the whole paddock, on the scene or not, pixels.
    """

    window: Window
    share: NDArray[np.float64]
    area: float


def paddocks_of_scene(
    model: Model,
    scene: Scene,
    outlines: Outlines,
    output: str | Path,
    *,
    date: str | None = None,
    every: bool = False,
    threads: int = 1,
    min_valid: float = MIN_VALID,
    progress: Progress | None = None,
) -> list[Paddock]:
    """One line per paddock and date. Only blocks that hold a paddock are computed.

    output: what the caller will write; work files stand beside it, so that a run that is
    stopped can be continued.
    """
    with gdal():
        plan = plan_map(model, scene, date=date, every=every)
        geometries = on_stack(plan.stack, outlines)
        plan = replace(plan, paddocks=tuple(item for item in geometries if isinstance(item, dict)))
        covers: list[Coverage | str] = [
            item if isinstance(item, str) else coverage(plan.stack.grid, item)
            for item in geometries
        ]
        windows = [item.window for item in covers if isinstance(item, Coverage)]
        wanted = _touched(plan, windows)
        with worked_out(
            plan, Path(output), threads=threads, windows=wanted, progress=progress
        ) as work:
            return [
                _paddock(work, name, cover, k, min_valid)
                for name, cover in zip(outlines.ids, covers, strict=True)
                for k in range(len(plan.targets))
            ]


def on_stack(stack: Stack, outlines: Outlines) -> list[dict[str, Any] | str]:
    """Each outline in the stack's CRS, or why it cannot be used."""
    shapely = _shapely()
    found: list[dict[str, Any] | str] = []
    crs = "EPSG:4326" if outlines.crs == LON_LAT else outlines.crs
    for geometry in outlines.geometries:
        if geometry is None:
            found.append("it has no outline")
            continue
        shape = shapely.geometry.shape(geometry)
        if not shape.is_valid:
            found.append(f"its outline is invalid: {shapely.is_valid_reason(shape)}")
            continue
        (moved,) = to_outline_crs(stack, [geometry], crs)
        found.append(moved)
    return found


def coverage(grid: Grid, geometry: Mapping[str, Any]) -> Coverage | str:
    """The share of each pixel inside a polygon of the grid's CRS, or why there is none.

    DataError on a rotated grid.
    """
    try:
        from exactextract import exact_extract
        from exactextract.raster import NumPyRasterSource
    except ImportError:
        raise MissingError(
            "paddocks on rasters need exactextract: pip install 'kgsm[raster]'"
        ) from None
    a, b, c, d, e, f = grid.transform
    if b or d or a <= 0 or e >= 0:
        raise DataError("paddocks need a north-up raster; warp the scene with a [grid]")
    shape = _shapely().geometry.shape(geometry)
    area = float(shape.area / (a * -e))
    west, south, east, north = shape.bounds
    left, right = max(0, int((west - c) // a)), min(grid.width, int((east - c) // a) + 1)
    top, bottom = max(0, int((f - north) // -e)), min(grid.height, int((f - south) // -e) + 1)
    if left >= right or top >= bottom:
        return "outside the scene"
    window = Window(top, left, bottom - top, right - left)
    number = np.arange(window.height * window.width, dtype=np.float64)
    source = NumPyRasterSource(
        number.reshape(window.height, window.width),
        xmin=c + left * a,
        xmax=c + right * a,
        ymin=f + bottom * e,
        ymax=f + top * e,
    )
    feature = {"type": "Feature", "properties": {}, "geometry": dict(geometry)}
    inside = exact_extract(source, [feature], ["values", "coverage"])[0]["properties"]
    share = np.zeros(number.size)
    share[inside["values"].astype(np.int64)] = inside["coverage"]
    total = float(share.sum())
    if total == 0:
        return "outside the scene"
    if total < MIN_PIXELS and area < MIN_PIXELS:
        return f"smaller than a pixel ({area:.2g} pixels)"
    return Coverage(window, share.reshape(window.height, window.width), area)


def _paddock(work: Work, name: str, cover: Coverage | str, k: int, min_valid: float) -> Paddock:
    when = work.plan.dates[k]
    midnight = when == when.astype("datetime64[D]")
    date = np.datetime_as_string(when, "D") if midnight else f"{when}Z"
    if isinstance(cover, str):
        return without_number(name, str(date), cover)
    inside = cover.share > 0
    sm = work.read("sm", k, cover.window)[inside]
    mask = work.read("flags", k, cover.window)[inside]
    return summarise(
        name,
        str(date),
        (sm, mask),
        cover.share[inside],
        cover.area,
        work.plan.model.card,
        min_valid,
    )


def _touched(plan: Plan, windows: Sequence[Window]) -> list[int]:
    """Indices of the plan's blocks that any of the windows reaches into."""
    return [
        index
        for index, block in enumerate(plan.windows)
        if any(
            block.row < window.row + window.height
            and window.row < block.row + block.height
            and block.col < window.col + window.width
            and window.col < block.col + block.width
            for window in windows
        )
    ]


def _shapely() -> Any:
    try:
        import shapely
        import shapely.geometry
    except ImportError:
        raise MissingError("paddocks on rasters need shapely: pip install 'kgsm[raster]'") from None
    return shapely
