"""Quick look of paddocks: their outlines in the colour of their value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..base.quantities import SOIL_MOISTURE
from ..maps.picture import (
    COLOURS,
    NO_NUMBER_GREY,
    finish,
    matplotlib_or_reason,
    new_figure,
    rings_of,
)
from ..scenes.outlines import LON_LAT, Outlines
from ..scenes.polygons import joined_across_180
from .summary import Paddock


def draw_paddocks(
    path: str | Path,
    outlines: Outlines,
    paddocks: Sequence[Paddock],
    *,
    simulated: bool = False,
) -> None:
    """Draw outlines in the colour of their value (of several dates the last); grey has none."""
    matplotlib = matplotlib_or_reason()
    figure, axes = new_figure()
    last = {paddock.id: paddock for paddock in sorted(paddocks, key=lambda item: item.date)}
    shapes, values = [], []
    outline = matplotlib.path.Path
    geometries = outlines.geometries
    if outlines.crs == LON_LAT:
        geometries = tuple(joined_across_180(geometries))
    for name, geometry in zip(outlines.ids, geometries, strict=True):
        if geometry is not None:
            rings = [outline(ring, closed=True) for ring in rings_of(geometry)]
            shapes.append(outline.make_compound_path(*rings))
            values.append(last[name].sm if name in last else math.nan)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NO_NUMBER_GREY)
    patches = [matplotlib.patches.PathPatch(shape) for shape in shapes]
    filled = matplotlib.collections.PatchCollection(
        patches, cmap=colours, edgecolor="black", linewidth=0.6
    )
    filled.set_array(np.ma.masked_invalid(np.asarray(values, np.float64)))
    quantity = paddocks[0].quantity if paddocks else SOIL_MOISTURE
    filled.set_clim(0.0, quantity.upper_end)
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
    finish(path, figure, axes, filled, f"Paddocks, {told}".rstrip(", "), simulated, quantity)
