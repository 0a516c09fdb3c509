"""The page a farmer reads: a map and a list of the same paddocks, made here, no build step.

The map is plain SVG, coloured in six steps; the list says the same in words, so that a screen
reader, a keyboard and a phone lose nothing. ``page.js`` adds zoom, a filter and the history of a
paddock; without it the page still says every present value.
"""

from __future__ import annotations

import html
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from itertools import pairwise
from typing import Any

from ...base.quantities import SOIL_MOISTURE, UNKNOWN, WETNESS, Quantity, quantity_named
from ..records import WORDS, corrected_by, number_of, number_text, words
from ..update.models import quantity_in_use
from .queries import Queries

#: Where one colour ends and the next begins, in percent of volume or in units of the index;
#: what lies outside is clamped.
STEPS: Mapping[Quantity, tuple[float, ...]] = {
    SOIL_MOISTURE: (10, 15, 20, 25, 30),
    WETNESS: (0.2, 0.35, 0.5, 0.65, 0.8),
    UNKNOWN: (),
}
#: The first sentence of the page, by the quantity of the values.
INTRODUCTION: Mapping[Quantity, str] = {
    SOIL_MOISTURE: "Water in the top 5 cm of the soil, percent of its volume, from satellite "
    "radar.",
    WETNESS: "Wetness index of each paddock from satellite radar: 0 is the driest and 1 the "
    "wettest it has shown. It has no unit and is not a water content.",
    UNKNOWN: "Values of unknown quantity: the model that made them is gone.",
}
SCALE: Mapping[Quantity, str] = {
    SOIL_MOISTURE: "percent of volume",
    WETNESS: "index from 0 to 1",
    UNKNOWN: "unknown quantity",
}
#: The longer side of the map, in the units its corners are rounded to.
SIDE = 8000


def page(queries: Queries) -> bytes:
    """The page as it stands now, UTF-8."""
    names = queries.paddocks.titles
    records = {found["paddock"]: found for found in queries.latest()}
    paddocks = sorted({*names, *records}, key=lambda name: _in_order(names.get(name, name)))
    shapes = drawn(
        {name: shape for name, shape in queries.paddocks.outlines_lon_lat.items() if shape}
    )
    newest = max((found["acquired_at"] for found in records.values()), default=None)
    simulated = any("source" in found for found in records.values())
    quantity = _quantity_of(queries, records)
    body = [
        "<header><h1>",
        html.escape(queries.gateway.title),
        f"</h1><p>{INTRODUCTION[quantity]} ",
        f"Last pass: {_time(newest)}." if newest else "No pass has been taken yet.",
        "</p>",
        '<p class="sim"><strong>Simulated.</strong> These values come from a model trained on '
        "simulated data; do not decide on them.</p>"
        if simulated
        else "",
        "</header><main>",
        _map(paddocks, records, shapes, quantity),
        _list(paddocks, names, records, quantity),
        "</main>",
        '<dialog aria-labelledby="dt"><form method="dialog"><button class="close" '
        'aria-label="Close">×</button></form><h2 id="dt"></h2><div id="dd"></div></dialog>',
        f'<script type="application/json" id="words">{json.dumps(WORDS)}</script>',
        "<noscript><p>Without scripts the history of a paddock is not shown.</p></noscript>",
    ]
    title = html.escape(queries.gateway.title)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width,initial-scale=1">'
        '<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,">'
        f'<title>{title}</title><link rel="stylesheet" href="page.css">'
        f'<script src="page.js" defer></script></head><body>{"".join(body)}</body></html>'
    ).encode()


def asset(name: str) -> bytes:
    """``page.css`` or ``page.js``."""
    return files(__package__).joinpath(name).read_bytes()


def _quantity_of(queries: Queries, records: Mapping[str, Mapping[str, Any]]) -> Quantity:
    """Return the quantity most present states have; without any that of the model in use."""
    if not records:
        return quantity_in_use(queries.gateway)
    names = [found["quantity"] for found in records.values()]
    return quantity_named(max(sorted(set(names)), key=names.count))


def step(number: float | None, quantity: Quantity = SOIL_MOISTURE) -> str:
    """Return the class of a colour step, ``c0`` (dry) to ``c5`` (wet), or ``x`` for no value.

    >>> step(-3.0), step(10.0), step(99.0), step(None), step(0.5, WETNESS), step(0.5, UNKNOWN)
    ('c0', 'c1', 'c5', 'x', 'c3', 'x')
    """
    bounds = STEPS[quantity]
    return "x" if number is None or not bounds else f"c{sum(number >= bound for bound in bounds)}"


def _step_of(found: Mapping[str, Any] | None) -> str:
    return "x" if found is None else step(number_of(found), quantity_named(found["quantity"]))


def drawn(shapes: Mapping[str, Mapping[str, Any]]) -> tuple[dict[str, str], tuple[int, int]]:
    """SVG paths of outlines in longitude and latitude, and the size of the picture.

    Equirectangular at the middle latitude: a farm is small. Corners are rounded to units.
    """
    if not shapes:
        return {}, (0, 0)
    rings = {name: list(_rings(shape)) for name, shape in shapes.items()}
    corners = [corner for some in rings.values() for ring in some for corner in ring]
    west, east = (pick(corner[0] for corner in corners) for pick in (min, max))
    south, north = (pick(corner[1] for corner in corners) for pick in (min, max))
    squeeze = math.cos(math.radians((south + north) / 2))
    width, height = (east - west) * squeeze, north - south
    scale = (SIDE - 160) / (max(width, height) or 1.0)
    size = (round(width * scale) + 160, round(height * scale) + 160)

    def unit(corner: Sequence[float]) -> tuple[int, int]:
        x = 80 + (corner[0] - west) * squeeze * scale
        return round(x), round(80 + (north - corner[1]) * scale)

    return {name: "".join(_path(map(unit, r)) for r in some) for name, some in rings.items()}, size


def _rings(shape: Mapping[str, Any]) -> Iterable[Sequence[Sequence[float]]]:
    polygons = shape["coordinates"]
    for polygon in [polygons] if shape["type"] == "Polygon" else polygons:
        yield from polygon


def _path(corners: Iterable[tuple[int, int]]) -> str:
    """A closed ring, corner by corner from the one before; shorter than absolute numbers.

    >>> _path([(1, 2), (4, 2), (4, 2), (4, 6), (1, 2)])
    'M1 2l3 0 0 4z'
    """
    (x, y), *rest = corners
    moves = []
    at = (x, y)
    for corner in rest[:-1]:
        if corner != at:
            moves.append(f"{corner[0] - at[0]} {corner[1] - at[1]}")
            at = corner
    return f"M{x} {y}l{' '.join(moves)}z".replace(" -", "-") if moves else f"M{x} {y}z"


def _map(
    paddocks: Sequence[str],
    records: Mapping[str, Mapping[str, Any]],
    drawing: tuple[Mapping[str, str], tuple[int, int]],
    quantity: Quantity,
) -> str:
    shapes, (width, height) = drawing
    if not shapes:
        return ""
    paths = "".join(
        f'<path class="{_step_of(records.get(name))}" data-i="{at}" d="{shapes[name]}"/>'
        for at, name in enumerate(paddocks)
        if name in shapes
    )
    bounds = STEPS[quantity]
    labels = [f"under {bounds[0]}", *(f"{a}–{b}" for a, b in pairwise(bounds)),
              f"{bounds[-1]} and over"] if bounds else []  # fmt: skip
    legend = "".join(f'<li><i class="k c{at}"></i>{text}</li>' for at, text in enumerate(labels))
    return (
        '<section aria-label="Map"><div class="map">'
        '<div class="zoom"><button data-z="2" aria-label="Zoom in">+</button>'
        '<button data-z=".5" aria-label="Zoom out">−</button>'
        '<button data-z="0" aria-label="Whole farm">⤢</button></div>'
        f'<svg id="map" viewBox="0 0 {width} {height}" aria-hidden="true">'
        '<defs><pattern id="h" width="6" height="6" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate(45) scale({max(width, height) / 800:.3g})">'
        '<path class="h" d="M0 0V6"/></pattern></defs>'
        f"{paths}</svg></div>"
        f'<ul class="legend" aria-label="Colours of the map, {SCALE[quantity]}">'
        f'{legend}<li><i class="k x"></i>no value</li></ul></section>'
    )


def _list(
    paddocks: Sequence[str],
    names: Mapping[str, str],
    records: Mapping[str, Mapping[str, Any]],
    quantity: Quantity,
) -> str:
    rows = []
    for at, paddock in enumerate(paddocks):
        found = records.get(paddock)
        number = None if found is None else number_of(found)
        said, low, high = "no value", "", ""
        if found is not None and number is not None:
            said = number_text(found, number)
            ends = [number_of(found, end) for end in ("_lower", "_upper")]
            digits = 0 if quantity_named(found["quantity"]).in_percent else 2
            low, high = ("" if end is None else f"{end:.{digits}f}" for end in ends)
        if found is None:
            remarks = ["No satellite pass has been taken of it yet."]
        else:
            remarks = [words(flag) for flag in found["flags"]]
            if number is None and not remarks:
                remarks = [f"{found['reason'][:1].upper()}{found['reason'][1:]}."]
            remarks.append(corrected_by(found))
            if "probe" in found:
                remarks.append(f"Probe: {100 * found['probe']['sm']:.0f} %.")
        rows.append(
            f'<tr data-i="{at}" data-p="{html.escape(paddock)}" '
            f'data-v="{"" if number is None else number}"><th scope="row">'
            f"<button>{html.escape(names.get(paddock, paddock))}</button></th>"
            f'<td><i class="k {_step_of(found)}"></i>{said}</td>'
            f"<td>{f'{low}–{high}' if low else ''}</td>"
            f"<td>{_time(found['acquired_at']) if found else ''}</td>"
            f"<td>{html.escape(' '.join(filter(None, remarks)))}</td></tr>"
        )
    return (
        '<section aria-label="Paddocks"><div class="tools">'
        '<label>Find <input type="search" id="find" autocomplete="off"></label>'
        '<label>Order <select id="order"><option value="i">by name</option>'
        '<option value="v">driest first</option><option value="-v">wettest first</option>'
        "</select></label></div>"
        f"<table><thead><tr><th>Paddock</th><th>{quantity.title}</th>"
        f"<th>Likely range{', %' if quantity.in_percent else ''}</th>"
        f"<th>Satellite pass</th><th>Remarks</th></tr></thead><tbody>{''.join(rows)}</tbody>"
        "</table></section>"
    )


def _time(acquired_at: str) -> str:
    """A date that ``page.js`` says the age of."""
    return f'<time datetime="{acquired_at}">{acquired_at[:10]}</time>'


def _in_order(name: str) -> list[tuple[int, str]]:
    """Names as people order them: numbers in them by their size.

    >>> sorted(["Paddock 10", "Paddock 9", "7", "north"], key=_in_order)
    ['7', 'north', 'Paddock 9', 'Paddock 10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [
        (int(part), "") if part.isascii() and part.isdigit() else (1 << 62, part) for part in parts
    ]
