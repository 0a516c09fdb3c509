"""Check the geometry of one outline: a polygon of finite coordinates, or the reason it is not.

Heights and measures are left out; an open ring is closed. A single invalid outline does not
refuse the file: its paddock has no value, with the reason.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

Polygon = list[list[list[float]]]


class NotNumbers(ValueError):
    """Coordinates that are not numbers, which refuses the file."""


def polygons_of(raw: Any) -> tuple[dict[str, Any] | None, str]:
    """A GeoJSON geometry as Polygon or MultiPolygon of (x, y), or None and why.

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
    """Every corner of what :func:`polygons_of` gives."""
    polygons = geometry["coordinates"]
    for polygon in [polygons] if geometry["type"] == "Polygon" else polygons:
        for ring in polygon:
            yield from ring


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
