"""Draw the outlines of paddocks as SVG paths, with places for their names and groups to zoom to."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

#: Longer side of the map in SVG units; corners are rounded to whole units.
SIDE = 8000
MARGIN = 80
#: Outlines nearer than this share of the map's side belong to one group.
GROUP_GAP = 0.035

Corner = tuple[int, int]


@dataclass(frozen=True)
class Box:
    """A rectangle in SVG units."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True)
class Shape:
    """A paddock on the map: path data, and the middle and the width of the room for its name."""

    path: str
    label_x: int
    label_y: int
    label_width: int
    box: Box


@dataclass(frozen=True)
class Group:
    """Neighbouring paddocks and the rectangle around them."""

    paddocks: tuple[str, ...]
    box: Box


@dataclass(frozen=True)
class Drawing:
    """The map. groups: two or more, largest first; empty if the farm is in one place."""

    width: int
    height: int
    shapes: Mapping[str, Shape]
    groups: tuple[Group, ...]


def draw_outlines(outlines: Mapping[str, Mapping[str, Any]]) -> Drawing:
    """Draw GeoJSON polygons in longitude and latitude.

    The projection is equirectangular at the middle latitude, which suits the size of a farm.
    """
    rings = {name: list(_rings(outline)) for name, outline in outlines.items()}
    corners = [corner for some in rings.values() for ring in some for corner in ring]
    if not corners:
        return Drawing(0, 0, {}, ())
    west, east = (pick(corner[0] for corner in corners) for pick in (min, max))
    south, north = (pick(corner[1] for corner in corners) for pick in (min, max))
    squeeze = math.cos(math.radians((south + north) / 2))
    width, height = (east - west) * squeeze, north - south
    scale = (SIDE - 2 * MARGIN) / (max(width, height) or 1.0)

    def to_units(corner: Sequence[float]) -> Corner:
        x = MARGIN + (corner[0] - west) * squeeze * scale
        return round(x), round(MARGIN + (north - corner[1]) * scale)

    shapes = {
        name: _shape([[to_units(c) for c in ring] for ring in r]) for name, r in rings.items()
    }
    return Drawing(
        round(width * scale) + 2 * MARGIN,
        round(height * scale) + 2 * MARGIN,
        shapes,
        _groups({name: shape.box for name, shape in shapes.items()}),
    )


def _rings(outline: Mapping[str, Any]) -> Iterable[Sequence[Sequence[float]]]:
    polygons = outline["coordinates"]
    for polygon in [polygons] if outline["type"] == "Polygon" else polygons:
        yield from polygon


def _shape(rings: Sequence[Sequence[Corner]]) -> Shape:
    xs = [x for ring in rings for x, _ in ring]
    ys = [y for ring in rings for _, y in ring]
    box = Box(min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys))
    runs = (_widest_run(rings, box.y + box.height * k / 10) for k in (5, 4, 6, 3, 7))
    run = max(runs, key=lambda run: run.length)
    middle = round((run.start + run.end) / 2)
    return Shape("".join(map(path_data, rings)), middle, round(run.y), round(run.length), box)


@dataclass(frozen=True)
class _Run:
    """A horizontal line inside an outline, from ``start`` to ``end`` at height ``y``."""

    start: float
    end: float
    y: float

    @property
    def length(self) -> float:
        return self.end - self.start


def _widest_run(rings: Sequence[Sequence[Corner]], y: float) -> _Run:
    """Return the longest horizontal run inside an outline at height y."""
    crossings = sorted(
        x0 + (y - y0) * (x1 - x0) / (y1 - y0)
        for ring in rings
        for (x0, y0), (x1, y1) in itertools.pairwise(ring)
        if (y0 <= y) != (y1 <= y)
    )
    runs = list(zip(crossings[::2], crossings[1::2], strict=False))
    start, end = max(runs, key=lambda run: run[1] - run[0], default=(rings[0][0][0],) * 2)
    return _Run(start, end, y)


def path_data(corners: Sequence[Corner]) -> str:
    """Return a closed ring as SVG path data with relative corners, which are shorter.

    >>> path_data([(1, 2), (4, 2), (4, 2), (4, 6), (1, 2)])
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


def _groups(boxes: Mapping[str, Box]) -> tuple[Group, ...]:
    """Join outlines whose rectangles are near each other.

    Each rectangle occupies cells of a grid; occupied cells that touch form a group. The work is
    linear in the number of outlines.
    """
    cell = SIDE * GROUP_GAP
    members: dict[tuple[int, int], list[str]] = {}
    for name, box in boxes.items():
        for column in range(int(box.x // cell), int((box.x + box.width) // cell) + 1):
            for row in range(int(box.y // cell), int((box.y + box.height) // cell) + 1):
                members.setdefault((column, row), []).append(name)
    found: list[list[str]] = []
    left = set(members)
    while left:
        names: dict[str, None] = {}
        stack = [left.pop()]
        while stack:
            column, row = stack.pop()
            names.update(dict.fromkeys(members[column, row]))
            near = {(column + i, row + j) for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
            left -= near
            stack += near
        found.append(list(names))
    if len(found) < 2:
        return ()
    found.sort(key=lambda names: (-len(names), min(names)))
    return tuple(Group(tuple(names), _around(boxes[name] for name in names)) for names in found)


def _around(boxes: Iterable[Box]) -> Box:
    some = list(boxes)
    x, y = min(box.x for box in some), min(box.y for box in some)
    return Box(
        x,
        y,
        max(box.x + box.width for box in some) - x,
        max(box.y + box.height for box in some) - y,
    )
