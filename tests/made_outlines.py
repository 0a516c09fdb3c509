"""Outlines in pixels of the test scene, and files of them, for the tests of paddocks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from made_scenes import CRS, NORTH, STEP, WEST


def square(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    """A ring in pixels of the test scene, from its upper left corner."""
    x, y = (WEST + STEP * left, WEST + STEP * right), (NORTH - STEP * bottom, NORTH - STEP * top)
    return [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]], [x[0], y[0]]]


def polygon(*rings: list[list[float]]) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": list(rings)}


def write_geojson(path: Path, shapes: dict[str, Any], crs: str | None = CRS) -> Path:
    content: dict[str, Any] = {
        "type": "FeatureCollection",
        "features": [
            {"type": "Feature", "properties": {"id": name, "farm": "x"}, "geometry": shape}
            for name, shape in shapes.items()
        ],
    }
    if crs:
        content["crs"] = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps(content))
    return path


def every_kind() -> dict[str, Any]:
    """One outline of each kind, by what it is."""
    return {
        "whole": polygon(square(2, 3, 12, 9)),
        "partial": polygon(square(2.5, 3.25, 12.75, 9.5)),
        "hole": polygon(square(14, 2, 24, 12), square(16, 4, 22, 10)[::-1]),
        "multi": {
            "type": "MultiPolygon",
            "coordinates": [[square(1, 12, 5, 15)], [square(20, 13, 25, 18)]],
        },
        "overlap": polygon(square(8, 3, 18, 9)),
        "sliver": polygon(square(5, 16, 5.1, 18)),
        "outside": polygon(square(100, 3, 120, 9)),
        "half out": polygon(square(-6, 3, 4, 9)),
        "mostly in": polygon(square(-1, 3, 4, 9)),
        "bow tie": polygon([[WEST, NORTH], [WEST + 50, NORTH - 50], [WEST + 50, NORTH],
                            [WEST, NORTH - 50], [WEST, NORTH]]),
        "none": None,
    }  # fmt: skip
