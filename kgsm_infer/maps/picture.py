"""Quick look of a map: a PNG with a legend and the outlines of the paddocks.

:mod:`kgsm_infer.paddocks.picture` uses the parts that all quick looks share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.extras import optional
from ..base.files import write_whole
from ..daily.chart import image_of, page_of
from ..scenes.grid import Window
from .work import Work

#: Longest side of a drawn raster, pixels; larger ones are drawn from every n-th pixel.
SIDE = 1200
#: Colours from dry to wet, the same in every picture so that two can be compared.
COLOURS = "YlGnBu"
NO_NUMBER_GREY = "#d0d0d0"


@dataclass(frozen=True)
class Caption:
    """Words of a picture. label: of the colour bar.  handles: further entries of the legend."""

    title: str
    label: str
    simulated: bool
    handles: Sequence[Any] = ()


def draw_map(path: str | Path, work: Work) -> None:
    """Draw the last date of a finished map, with its paddocks' outlines."""
    plan = work.plan
    west, south, east, north = plan.stack.grid.bounds
    axes = new_axes()
    k = len(plan.targets) - 1
    image = axes.imshow(
        np.ma.masked_invalid(plan.stack.grid.north_up(_thinned(work, k))),
        cmap=COLOURS,
        vmin=0.0,
        vmax=plan.model.card.retrieves.upper_end,
        extent=(west, east, south, north),
        interpolation="nearest",
    )
    axes.set_facecolor(NO_NUMBER_GREY)
    for geometry in plan.paddocks:
        for ring in rings_of(geometry):
            axes.plot(*ring.T, color="black", linewidth=0.8)
    axes.set_xlim(west, east)
    axes.set_ylim(south, north)
    axes.ticklabel_format(useOffset=False, style="plain")
    axes.set_xlabel("x (scene's CRS)")
    axes.set_ylabel("y")
    date = np.datetime_as_string(plan.dates[k], "D")
    title = f"{plan.stack.title or Path(plan.stack.source).stem}, {date}"
    simulated = plan.model.card.simulated or plan.stack.simulated
    caption = Caption(title, plan.model.card.retrieves.label, simulated)
    finish(path, axes, image, caption)


def finish(path: str | Path, axes: Any, coloured: Any, caption: Caption, below: str = "") -> None:
    """Draw colour bar, title and legend, then write the file, whole or not at all.

    path: .svg, .html, or PNG whatever its name.  below: HTML after the picture of a page.
    """
    _fit_height(axes)
    figure = axes.figure
    bar = figure.colorbar(coloured, cax=axes.inset_axes([1.03, 0.0, 0.04, 1.0]), extend="max")
    bar.set_label(caption.label)
    title = f"{'SIMULATED: ' if caption.simulated else ''}{caption.title}"
    axes.set_title(title)
    patch, line = matplotlib_or_reason().patches.Patch, matplotlib_or_reason().lines.Line2D
    figure.legend(
        handles=[
            patch(facecolor=NO_NUMBER_GREY, edgecolor="black", label="no number"),
            line([], [], color="black", linewidth=0.8, label="paddock"),
            *caption.handles,
        ],
        loc="outside lower left",
        ncols=2 + len(caption.handles),
        frameon=False,
    )
    suffix = Path(path).suffix.lower()
    kind = "svg" if suffix in (".svg", ".html") else "png"
    content = image_of(figure, kind, dpi=120, bbox_inches="tight")
    if suffix == ".html":
        content = page_of([content], title, caption.simulated, below)
    with write_whole(path, "wb") as file:
        file.write(content)


def _fit_height(axes: Any) -> None:
    """Set the figure's height to that of its map, so that no empty band is left."""
    aspect = axes.get_aspect()
    if aspect == "auto":
        return
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    tall = abs(top - bottom) / abs(right - left) * float(aspect)
    # 8 inches less axis labels and colour bar leave 6 for the map; title and legend take 1.6
    axes.figure.set_figheight(min(7.0, max(3.0, 6.0 * tall + 1.6)))


def new_axes() -> Any:
    """Return the axes of an empty figure."""
    figure = matplotlib_or_reason().figure.Figure(figsize=(8, 7), layout="constrained")
    return figure.add_subplot()


def matplotlib_or_reason() -> Any:
    """Import matplotlib; MissingError names the extra."""
    return optional(
        "matplotlib", "collections", "figure", "lines", "patches", "path", what="a quick look"
    )


def _thinned(work: Work, k: int) -> NDArray[np.float32]:
    """Keep every n-th row and column, so that the picture stays small."""
    grid = work.plan.stack.grid
    step = max(1, math.ceil(max(grid.height, grid.width) / SIDE))
    rows = [
        work.read("sm", k, Window(row, 0, 1, grid.width))[0, ::step]
        for row in range(0, grid.height, step)
    ]
    return np.stack(rows)


def rings_of(geometry: Mapping[str, Any]) -> Iterator[NDArray[np.float64]]:
    """Return rings with outer ones turning left and holes right, so that holes stay empty."""
    polygons = geometry["coordinates"]
    for polygon in [polygons] if geometry["type"] == "Polygon" else polygons:
        for hole, ring in enumerate(polygon):
            points = np.asarray([point[:2] for point in ring], np.float64)
            x, y = (points - points[0]).T
            left = float(x[:-1] @ y[1:] - x[1:] @ y[:-1]) > 0
            yield points if left == (hole == 0) else points[::-1]
