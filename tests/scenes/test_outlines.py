"""Outlines: what is read, what is refused and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_outlines import polygon, square, write_geojson

from kgsm_infer.errors import DataError, UsageError
from kgsm_infer.scenes.outlines import read_outlines


def test_lon_lat_and_a_named_crs_are_read(tmp_path: Path) -> None:
    shape = polygon([[5, 50], [5.1, 50], [5.1, 50.1], [5, 50]])
    assert read_outlines(write_geojson(tmp_path / "a.geojson", {"1": shape}, None)).crs == (
        "OGC:CRS84"
    )
    for name in ("EPSG:28355", "urn:ogc:def:crs:EPSG::28355", "urn:ogc:def:crs:EPSG:9.8:28355"):
        path = write_geojson(tmp_path / "b.geojson", {"1": polygon(square(0, 0, 1, 1))}, name)
        assert read_outlines(path).crs == "EPSG:28355"


@pytest.mark.parametrize(
    ("shape", "crs", "words"),
    [
        ({"type": "Point", "coordinates": [5, 50]}, None, "a: is a Point; a paddock is a Polygon"),
        (polygon(square(0, 0, 9, 9)), None, "is no longitude and latitude; are the coordinates"),
        (polygon(square(0, 0, 9, 9)), "moon", "its CRS 'moon' is not known"),
        ({"type": "Polygon", "coordinates": [[["x", 1]]]}, None, "are not numbers in rings"),
        ({"type": "Polygon", "coordinates": [[[float("nan"), 1]] * 4]}, None, "are not finite"),
    ],
)
def test_outlines_that_cannot_be_are_refused(
    tmp_path: Path, shape: Any, crs: str | None, words: str
) -> None:
    path = write_geojson(tmp_path / "f.geojson", {"a": shape}, crs)
    with pytest.raises(DataError) as refusal:
        read_outlines(path)
    assert words in str(refusal.value) and "f.geojson" in str(refusal.value)


def test_ids_are_named_not_guessed(tmp_path: Path) -> None:
    shapes = {"a": None, "b": None}
    path = write_geojson(tmp_path / "f.geojson", shapes)
    assert read_outlines(path).ids == ("a", "b")
    with pytest.raises(UsageError, match=r"feature 1 has no 'name'.*with --id: id, farm"):
        read_outlines(path, "name")
    with pytest.raises(DataError, match="paddock x stands there twice"):
        read_outlines(path, "farm")
    for content, words in (("{", "not readable GeoJSON"), ("[]", "not a GeoJSON Feature"),
                           ('{"features": []}', "holds no paddock")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            read_outlines(path)
