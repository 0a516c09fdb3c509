"""Check the geometry of one outline: a polygon of finite coordinates, or the reason it is not.

Heights and measures are left out; an open ring is closed. A single invalid outline does not
refuse the file: its paddock has no value, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

Polygon = list[list[list[float]]]


class NotNumbers(ValueError):
    """Coordinates that are not numbers, which refuses the file."""


def polygons_of(raw: Any) -> tuple[dict[str, Any] | None, str]:
    """Convert a GeoJSON geometry to a Polygon or MultiPolygon of (x, y), or None and the reason.

    >>> square = [[0, 0, 9], [1, 0, 9], [1, 1, 9], [0, 0, 9]]
    >>> polygons_of({"type": "Polygon", "coordinates": [square]})[0]["coordinates"]
    [[[0.0, 0.0], [1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]]
    >>> polygons_of({"type": "Point", "coordinates": [0, 0]})
    (None, 'is a Point; a paddock is a Polygon or MultiPolygon')
    """
    if raw is None:
        return None, ""
    if not isinstance(raw, Mapping):
        return None, "is no geometry"
    try:
        found = list(_all(raw))
    except _Bad as bad:
        return None, str(bad)
    if not found:
        kind = raw.get("type")
        empty = kind in ("Polygon", "MultiPolygon", "GeometryCollection")
        if empty:
            return None, "is empty"
        return None, f"is a {str(kind)[:40]}; a paddock is a Polygon or MultiPolygon"
    if len(found) == 1:
        return {"type": "Polygon", "coordinates": found[0]}, ""
    return {"type": "MultiPolygon", "coordinates": found}, ""


def points_of(geometry: Mapping[str, Any]) -> Iterator[list[float]]:
    """Return every corner of what :func:`polygons_of` gives."""
    for polygon in polygon_list(geometry):
        for ring in polygon:
            yield from ring


def polygon_list(geometry: Mapping[str, Any]) -> list[Polygon]:
    """Return the polygons of what :func:`polygons_of` gives."""
    polygons = geometry["coordinates"]
    return [polygons] if geometry["type"] == "Polygon" else list(polygons)


def turned(geometry: Mapping[str, Any], turn_deg: float) -> dict[str, Any]:
    """Move a geometry in longitude and latitude along x, by a full turn or none."""
    return _mapped(geometry, lambda ring: [[x + turn_deg, y] for x, y in ring])


def unwrapped(geometry: Mapping[str, Any]) -> dict[str, Any]:
    """Join rings that jump across 180 degrees, so that they lie beyond it.

    An edge of more than 180 degrees of longitude is the short way round.

    >>> ring = [[179.9, 1], [-179.9, 1], [-179.9, 2], [179.9, 1]]
    >>> unwrapped({"type": "Polygon", "coordinates": [ring]})["coordinates"]
    [[[179.9, 1], [180.1, 1], [180.1, 2], [179.9, 1]]]
    """
    return _mapped(geometry, _unwrapped_ring)


def joined_across_180(
    geometries: Sequence[Mapping[str, Any] | None],
) -> list[dict[str, Any] | None]:
    """Bring geometries on both sides of 180 degrees of longitude together.

    Longitudes go beyond 180 degrees where that makes their extent smaller; each is a MultiPolygon.
    """
    parts = [
        (at, polygon)
        for at, geometry in enumerate(geometries)
        if geometry is not None
        for polygon in polygon_list(unwrapped(geometry))
    ]
    extents = []
    for _, polygon in parts:
        x = [point[0] for ring in polygon for point in ring]
        extents.append((min(x), max(x)))
    found: dict[int, list[Polygon]] = {}
    for (at, polygon), turn in zip(parts, turns_together(extents), strict=True):
        one = {"type": "Polygon", "coordinates": polygon}
        found.setdefault(at, []).append(turned(one, turn)["coordinates"])
    return [
        {"type": "MultiPolygon", "coordinates": found[at]} if at in found else None
        for at in range(len(geometries))
    ]


def turns_together(extents: Sequence[tuple[float, float]]) -> list[float]:
    """Return for each extent in longitude (west, east) the turn that brings all closest: 0 or 360.

    >>> turns_together([(179.8, 179.9), (-179.9, -179.7)]), turns_together([(10, 11), (-5, 2)])
    ([0.0, 360.0], [0.0, 0.0])
    """
    none = [0.0] * len(extents)
    turns = [360.0 if west + east < 0 else 0.0 for west, east in extents]

    def span_deg(moved: Sequence[float]) -> float:
        west = min(extent[0] + turn for extent, turn in zip(extents, moved, strict=True))
        return max(extent[1] + turn for extent, turn in zip(extents, moved, strict=True)) - west

    return turns if extents and span_deg(none) > 180 and span_deg(turns) < span_deg(none) else none


def _mapped(
    geometry: Mapping[str, Any], change: Callable[[list[list[float]]], list[list[float]]]
) -> dict[str, Any]:
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        return {"type": "Polygon", "coordinates": [change(ring) for ring in polygons]}
    rings = [[change(ring) for ring in polygon] for polygon in polygons]
    return {"type": "MultiPolygon", "coordinates": rings}


def _unwrapped_ring(ring: list[list[float]]) -> list[list[float]]:
    points = [ring[0]]
    for x, y in ring[1:]:
        while x - points[-1][0] > 180:
            x -= 360
        while x - points[-1][0] < -180:
            x += 360
        points.append([round(x, 12), y])
    if points[0] != points[-1]:  # around a pole: as it was
        return ring
    west = min(point[0] for point in points)
    return [[x + 360, y] for x, y in points] if west < -180 else points


class _Bad(Exception):
    pass


def _all(raw: Mapping[str, Any]) -> Iterator[Polygon]:
    kind, coordinates = raw.get("type"), raw.get("coordinates")
    if kind == "Polygon":
        yield from _polygon(coordinates)
    elif kind == "MultiPolygon":
        if not isinstance(coordinates, (list, tuple)):
            raise NotNumbers
        for polygon in coordinates:
            yield from _polygon(polygon)
    elif kind == "GeometryCollection":  # KML's MultiGeometry: its polygons are the paddock
        parts = raw.get("geometries")
        for part in parts if isinstance(parts, (list, tuple)) else ():
            if isinstance(part, Mapping):
                yield from _all(part)


def _polygon(raw: Any) -> Iterator[Polygon]:
    if not isinstance(raw, (list, tuple)):
        raise NotNumbers
    if len(raw):
        yield [_ring(ring) for ring in raw]


def _ring(raw: Any) -> list[list[float]]:
    if not isinstance(raw, (list, tuple)):
        raise NotNumbers
    ring = [_point(point) for point in raw]
    if not ring:
        raise _Bad("has an empty ring")
    if ring[0] != ring[-1]:
        ring.append(list(ring[0]))
    if len(ring) < 4:
        raise _Bad(f"has a ring of {len(ring) - 1} points")
    return ring


def _point(raw: Any) -> list[float]:
    if not isinstance(raw, (list, tuple)) or len(raw) < 2:
        raise NotNumbers
    point = []
    for value in raw[:2]:
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise NotNumbers
        try:
            point.append(float(value))
        except OverflowError:
            raise _Bad("has coordinates that are not finite") from None
    if not all(map(math.isfinite, point)):
        raise _Bad("has coordinates that are not finite")
    return point
