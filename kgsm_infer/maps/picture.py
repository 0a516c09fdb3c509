"""Quick looks: a PNG with a legend and the paddocks' outlines, for the eye only (matplotlib)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingError
from ..files import whole
from ..paddocks.summary import LON_LAT, Outlines, Paddock

if TYPE_CHECKING:
    from .run import Work

#: Longest side of a drawn raster, pixels; larger ones are drawn from every n-th pixel.
SIDE = 1200
#: Colours from dry to wet, the same in every picture so that two can be compared.
COLOURS, DRY, WET = "YlGnBu", 0.0, 0.5
NO_NUMBER_GREY = "#d0d0d0"


def draw_map(path: str | Path, work: Work) -> None:
    """The last date of a finished map, with its paddocks' outlines."""
    plan = work.plan
    grid = plan.stack.grid
    figure, axes = _figure()
    k = len(plan.targets) - 1
    sm = _thinned(work, k)
    a, _, c, _, e, f = grid.transform
    image = axes.imshow(
        np.ma.masked_invalid(sm),
        cmap=COLOURS,
        vmin=DRY,
        vmax=WET,
        extent=(c, c + a * grid.width, f + e * grid.height, f),
        interpolation="nearest",
    )
    axes.set_facecolor(NO_NUMBER_GREY)
    for geometry in plan.paddocks:
        for ring in _rings(geometry):
            axes.plot(*ring.T, color="black", linewidth=0.8)
    axes.set_xlim(c, c + a * grid.width)
    axes.set_ylim(f + e * grid.height, f)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.set_xlabel("x (scene's CRS)")
    axes.set_ylabel("y")
    date = np.datetime_as_string(plan.dates[k], "D")
    title = f"{plan.stack.title or Path(plan.stack.source).stem}, {date}"
    _finish(path, figure, axes, image, title, plan.model.card.simulated)


def draw_paddocks(
    path: str | Path, outlines: Outlines, paddocks: Sequence[Paddock], *, simulated: bool = False
) -> None:
    """Outlines filled with their soil moisture (of several dates the last); grey has none."""
    matplotlib = _matplotlib()
    figure, axes = _figure()
    last = {paddock.id: paddock for paddock in sorted(paddocks, key=lambda item: item.date)}
    shapes, values = [], []
    outline = matplotlib.path.Path
    for name, geometry in zip(outlines.ids, outlines.geometries, strict=True):
        if geometry is not None:
            rings = [outline(ring, closed=True) for ring in _rings(geometry)]
            shapes.append(outline.make_compound_path(*rings))
            values.append(last[name].sm if name in last else math.nan)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NO_NUMBER_GREY)
    patches = [matplotlib.patches.PathPatch(shape) for shape in shapes]
    filled = matplotlib.collections.PatchCollection(
        patches, cmap=colours, edgecolor="black", linewidth=0.6
    )
    filled.set_array(np.ma.masked_invalid(np.asarray(values, np.float64)))
    filled.set_clim(DRY, WET)
    axes.add_collection(filled)
    axes.autoscale_view()
    if outlines.crs == LON_LAT:
        middle = math.radians(sum(axes.get_ylim()) / 2)
        axes.set_aspect(1 / max(0.1, math.cos(middle)))
        axes.set_xlabel("longitude (degrees)")
        axes.set_ylabel("latitude (degrees)")
    else:
        axes.set_aspect("equal")
        axes.set_xlabel(f"x ({outlines.crs})")
        axes.set_ylabel("y")
    axes.ticklabel_format(useOffset=False, style="plain")
    dates = sorted({paddock.date for paddock in last.values() if paddock.date})
    told = "" if not dates else dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    _finish(path, figure, axes, filled, f"Paddocks, {told}".rstrip(", "), simulated)


def _finish(
    path: str | Path, figure: Any, axes: Any, coloured: Any, title: str, simulated: bool
) -> None:
    bar = figure.colorbar(coloured, ax=axes, shrink=0.8, extend="max")
    bar.set_label("soil moisture, 0-5 cm (m³/m³)")
    axes.set_title(f"{'SIMULATED model: ' if simulated else ''}{title}")
    figure.legend(
        handles=[
            _matplotlib().patches.Patch(
                facecolor=NO_NUMBER_GREY, edgecolor="black", label="no number"
            ),
            _matplotlib().lines.Line2D([], [], color="black", linewidth=0.8, label="paddock"),
        ],
        loc="outside lower left",
        ncols=2,
        frameon=False,
    )
    with whole(path, "wb") as file:
        # no software or date tag: the same picture gives the same bytes
        figure.savefig(
            file, format="png", dpi=120, bbox_inches="tight", metadata={"Software": None}
        )


def _figure() -> tuple[Any, Any]:
    _matplotlib()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 7), layout="constrained")
    return figure, figure.add_subplot()


def _thinned(work: Work, k: int) -> NDArray[np.float32]:
    """Every n-th row and column, so that the picture stays small."""
    from ..scenes.stack import Window

    grid = work.plan.stack.grid
    step = max(1, math.ceil(max(grid.height, grid.width) / SIDE))
    rows = [
        work.read("sm", k, Window(row, 0, 1, grid.width))[0, ::step]
        for row in range(0, grid.height, step)
    ]
    return np.stack(rows)


def _rings(geometry: Mapping[str, Any]) -> Iterator[NDArray[np.float64]]:
    """Rings with outer ones turning left and holes right, so that holes stay empty."""
    polygons = geometry["coordinates"]
    for polygon in [polygons] if geometry["type"] == "Polygon" else polygons:
        for hole, ring in enumerate(polygon):
            points = np.asarray([point[:2] for point in ring], np.float64)
            x, y = (points - points[0]).T
            left = float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) > 0
            yield points if left == (hole == 0) else points[::-1]


def _matplotlib() -> Any:
    try:
        import matplotlib
        import matplotlib.collections
        import matplotlib.lines
        import matplotlib.patches
        import matplotlib.path
    except ImportError:
        raise MissingError("quick looks need matplotlib: pip install 'kgsm[raster]'") from None
    return matplotlib
