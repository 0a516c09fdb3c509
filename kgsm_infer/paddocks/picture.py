"""Quick look of paddocks: their outlines in the colour of their value, with names and values."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..base.quantities import SOIL_MOISTURE
from ..daily.series import PaddockSeries, SeriesFile, ValuesOfDay, values_on
from ..maps.picture import (
    COLOURS,
    NO_NUMBER_GREY,
    Caption,
    finish,
    matplotlib_or_reason,
    new_axes,
    rings_of,
)
from ..scenes.outlines import LON_LAT, Outlines
from ..scenes.polygons import joined_across_180
from ..tables.keys import canonical_id
from .summary import Paddock

#: Font sizes of names and values, points; smaller ones are left out.
LEAST_POINTS, MOST_POINTS = 3.5, 9.0
#: Width of the map on the page, points, and of a letter in font sizes.
MAP_POINTS, LETTER = 430.0, 0.62
_BELOW = "#b03030"


@dataclass(frozen=True)
class PaddockColours:
    """Contents of a quick look. values, texts: by id; a paddock without a text shows its id alone.

    title.  label: of the colour bar.  upper_end: of the colours.  threshold: paddocks below it get
    a red outline; None for none.  table: HTML below the map.
    """

    values: Mapping[str, float]
    texts: Mapping[str, str]
    title: str
    label: str
    upper_end: float
    simulated: bool = False
    threshold: float | None = None
    table: str = ""


def draw_paddocks(
    path: str | Path,
    outlines: Outlines,
    paddocks: Sequence[Paddock],
    *,
    simulated: bool = False,
) -> None:
    """Draw outlines in the colour of their value (of several dates the last); grey has none."""
    last = {paddock.id: paddock for paddock in sorted(paddocks, key=lambda item: item.date)}
    dates = sorted({paddock.date for paddock in last.values() if paddock.date})
    days = "" if not dates else dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    quantity = paddocks[0].quantity if paddocks else SOIL_MOISTURE
    values = {name: paddock.sm for name, paddock in last.items()}
    look = PaddockColours(
        values,
        {name: f"{value:.2f}" for name, value in values.items() if math.isfinite(value)},
        f"Paddocks, {days}".rstrip(", "),
        quantity.label,
        quantity.upper_end,
        simulated,
    )
    draw_outlines(path, outlines, look)


def draw_series_map(
    path: str | Path,
    outlines: Outlines,
    series: SeriesFile,
    paddocks: Sequence[PaddockSeries],
    day: str | None = None,
    threshold: float | None = None,
) -> list[str]:
    """Draw the values of one day on the outlines; return remarks for the user.

    day: ISO day; None for the last that is not forecast.  threshold: paddocks below it get a red
    outline. DataError where no outline has the name of a paddock of the series.
    """
    found = values_on(series, paddocks, day)
    named = {canonical_id(name): one for name, one in found.paddocks.items()}
    if not named.keys() & set(outlines.ids):
        raise DataError(
            f"{outlines.source}: has no paddock of {series.source}; it has "
            f"{', '.join(outlines.ids[:3])}, the values {', '.join(list(named)[:3])}"
        )
    values = {name: one.value for name, one in named.items()}
    digits = 2 if max(values.values()) <= 1 else 0
    texts = {}
    for name, one in named.items():
        age = int((found.day - one.day).astype(int))
        texts[name] = f"{one.value:.{digits}f}" + (f" ({age} d)" if age else "")
    end = series.upper_end
    look = PaddockColours(
        values,
        texts,
        f"Paddocks, {found.day}",
        series.label,
        max(values.values()) or 1.0 if math.isnan(end) else end,
        series.simulated,
        threshold,
        _table_of(found, series.label, digits),
    )
    if len(paddocks) < len(series.paddocks):
        outlines = _only(outlines, {canonical_id(one.name) for one in paddocks})
    left_out = draw_outlines(path, outlines, look)
    remarks = _remarks(outlines, named, series)
    if left_out:
        remarks.append(
            f"{left_out} paddocks are too small on the map for their names; draw some with "
            "--paddock, or a page (.html), which lists all"
        )
    return remarks


def _only(outlines: Outlines, names: set[str]) -> Outlines:
    """Keep the outlines of some paddocks."""
    at = [i for i, name in enumerate(outlines.ids) if name in names]
    return replace(
        outlines,
        ids=tuple(outlines.ids[i] for i in at),
        properties=tuple(outlines.properties[i] for i in at),
        geometries=tuple(outlines.geometries[i] for i in at),
        problems=tuple(outlines.problems[i] for i in at) if outlines.problems else (),
        own_ids=tuple(outlines.own_ids[i] for i in at) if outlines.own_ids else (),
    )


def _remarks(outlines: Outlines, named: Mapping[str, object], series: SeriesFile) -> list[str]:
    """Say which paddocks have no outline, and how many outlines no value."""
    remarks = []
    without = [name for name in named if name not in outlines.ids]
    if without:
        few = ", ".join(without[:3])
        remarks.append(f"{len(without)} paddocks have no outline in {outlines.source}: {few}")
    empty = sum(name not in named for name in outlines.ids)
    if empty:
        remarks.append(f"{empty} outlines have no value in {series.source}; they are grey")
    return remarks


def _table_of(found: ValuesOfDay, label: str, digits: int) -> str:
    """Return the values as an HTML table."""
    rows = []
    for name, one in found.paddocks.items():
        band = ""
        if math.isfinite(one.lower) and math.isfinite(one.upper):
            band = f"{one.lower:.{digits}f} to {one.upper:.{digits}f}"
        cells = (html.escape(name), f"{one.value:.{digits}f}", band, str(one.day))
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{title}</th>" for title in ("paddock", html.escape(label), "90 % band", "day")
    )
    return "\n<table><tr>" + head + "</tr>\n" + "\n".join(rows) + "</table>\n"


def draw_outlines(path: str | Path, outlines: Outlines, look: PaddockColours) -> int:
    """Draw outlines in the colour of their values, with names and values where they fit.

    Return the number of names that do not fit.
    """
    matplotlib = matplotlib_or_reason()
    axes = new_axes()
    shapes, places = [], {}
    outline = matplotlib.path.Path
    geometries = outlines.geometries
    if outlines.crs == LON_LAT:
        geometries = tuple(joined_across_180(geometries))
    for name, geometry in zip(outlines.ids, geometries, strict=True):
        if geometry is not None:
            rings = list(rings_of(geometry))
            shapes.append(outline.make_compound_path(*[outline(r, closed=True) for r in rings]))
            places[name] = widest_chord(rings)
    values = np.asarray([look.values.get(name, math.nan) for name in places], np.float64)
    colours = matplotlib.colormaps[COLOURS].with_extremes(bad=NO_NUMBER_GREY)
    patches = [matplotlib.patches.PathPatch(shape) for shape in shapes]
    filled = matplotlib.collections.PatchCollection(
        patches, cmap=colours, edgecolor="black", linewidth=0.6
    )
    filled.set_array(np.ma.masked_invalid(values))
    filled.set_clim(0.0, look.upper_end)
    if look.threshold is not None:
        below = values < look.threshold
        filled.set_edgecolor(np.where(below, _BELOW, "black").tolist())
        filled.set_linewidth(np.where(below, 2.0, 0.6).tolist())
    axes.add_collection(filled)
    axes.autoscale_view()
    aspect = 1.0
    if outlines.crs == LON_LAT:
        middle = math.radians(sum(axes.get_ylim()) / 2)
        aspect = 1 / max(0.1, math.cos(middle))
        axes.set_xlabel("longitude (degrees)")
        axes.set_ylabel("latitude (degrees)")
    else:
        axes.set_xlabel(f"x ({outlines.crs})")
        axes.set_ylabel("y")
    axes.set_aspect(aspect)
    axes.ticklabel_format(useOffset=False, style="plain")
    left_out = _write_names(axes, look, places, aspect)
    extra = []
    if look.threshold is not None:
        line = matplotlib.lines.Line2D
        title = f"below {look.threshold:g}"
        extra = [line([], [], color=_BELOW, linewidth=2.0, label=title)]
    caption = Caption(look.title, look.label, look.simulated, extra)
    finish(path, axes, filled, caption, look.table)
    return left_out


@dataclass(frozen=True)
class Chord:
    """Middle of a text's place, its width there, and the height of the outline."""

    x: float
    y: float
    width: float
    height: float


def widest_chord(rings: Sequence[NDArray[np.float64]]) -> Chord:
    """Find the longest horizontal line inside an outline, at one of a few heights.

    rings: (K, 2) each, holes too. A line never crosses a hole or leaves a bent outline.

    >>> ring = np.array([[0.0, 0.0], [4.0, 0.0], [4.0, 2.0], [0.0, 2.0], [0.0, 0.0]])
    >>> widest_chord([ring])
    Chord(x=2.0, y=1.0, width=4.0, height=2.0)
    """
    low = min(float(ring[:, 1].min()) for ring in rings)
    high = max(float(ring[:, 1].max()) for ring in rings)
    best = Chord(float(rings[0][0, 0]), float(rings[0][0, 1]), 0.0, high - low)
    for share in (0.5, 0.4, 0.6, 0.3, 0.7):
        y = low + share * (high - low)
        crossings: list[float] = []
        for ring in rings:
            a, b = ring[:-1], ring[1:]
            cut = (a[:, 1] > y) != (b[:, 1] > y)
            t = (y - a[cut, 1]) / (b[cut, 1] - a[cut, 1])
            crossings += (a[cut, 0] + t * (b[cut, 0] - a[cut, 0])).tolist()
        crossings.sort()
        for left, right in zip(crossings[::2], crossings[1::2], strict=False):
            if right - left > best.width * 1.1:
                best = Chord((left + right) / 2, y, right - left, high - low)
    return best


def _write_names(
    axes: Any, look: PaddockColours, places: Mapping[str, Chord], aspect: float
) -> int:
    """Write names and values into the outlines; return the number of those too small to be read.

    places: by id.  aspect: length of a unit of y in units of x.
    """
    (west, east), (south, north) = axes.get_xlim(), axes.get_ylim()
    points = MAP_POINTS / max(east - west, (north - south) * aspect)
    left_out = 0
    for name, place in places.items():
        lines = [name, *([look.texts[name]] if name in look.texts else [])]
        longest = max(len(line) for line in lines)
        size = min(
            place.width * points / (LETTER * longest),
            place.height * points * aspect / (1.3 * len(lines) + 0.5),
            MOST_POINTS,
        )
        if size < LEAST_POINTS:
            left_out += 1
            continue
        value = look.values.get(name, math.nan)
        dark = math.isfinite(value) and value > 0.6 * look.upper_end
        axes.text(
            place.x,
            place.y,
            "\n".join(lines),
            ha="center",
            va="center",
            fontsize=size,
            color="white" if dark else "black",
            parse_math=False,
        )
    return left_out
