"""Outlines: what is read, what is refused and in which words."""

from __future__ import annotations

import json
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_outlines import polygon, square, write_geojson

from kgsm_infer.base.errors import DataError, KgsmError, UsageError
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
        (polygon(square(0, 0, 9, 9)), None, "is not a longitude and latitude; are the coordinates"),
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
    with pytest.raises(UsageError, match=r"feature 1 has no 'name', the property.*it has id, farm"):
        read_outlines(path, "name")
    with pytest.raises(DataError, match="paddock x occurs twice"):
        read_outlines(path, "farm")
    for content, words in (("{", "not readable GeoJSON"), ("[]", "not a GeoJSON Feature"),
                           ('{"features": []}', "holds no paddock")):  # fmt: skip
        path.write_text(content)
        with pytest.raises(DataError, match=words):
            read_outlines(path)


def _feature(geometry: Any, **members: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": {}, "geometry": geometry, **members}


def _write(path: Path, *features: Any, **members: Any) -> Path:
    path.write_text(
        json.dumps({"type": "FeatureCollection", **members, "features": list(features)})
    )
    return path


BOX = [[5.0, 50.0], [5.1, 50.0], [5.1, 49.9], [5.0, 49.9], [5.0, 50.0]]
GOOD = _feature(polygon(BOX), id="good")


@pytest.mark.parametrize(
    ("geometry", "why"),
    [
        (polygon(BOX[:2]), "has a ring of 2 points"),
        (polygon(BOX, []), "has an empty ring"),
        ({"type": "Polygon", "coordinates": []}, "is empty"),
        (polygon([[10**400, 50], *BOX]), "has coordinates that are not finite"),
        (polygon([[float("nan"), 50], *BOX]), "has coordinates that are not finite"),
        ({"type": "Point", "coordinates": [5, 50]}, "is a Point; a paddock is a Polygon"),
        ({"type": "LineString", "coordinates": BOX}, "is a LineString; a paddock is"),
        ("somewhere", "is no geometry"),
        ({"type": ["Polygon"]}, "a paddock is a Polygon"),
    ],
)
def test_a_bad_outline_costs_its_paddock_its_number_only(
    tmp_path: Path, geometry: Any, why: str
) -> None:
    path = _write(tmp_path / "f.geojson", _feature(geometry, id="bad"), GOOD)
    outlines = read_outlines(path)
    assert outlines.ids == ("bad", "good") and outlines.geometries[0] is None
    assert why in outlines.problems[0] and outlines.problems[1] == ""
    assert outlines.geometries[1] is not None


def test_heights_and_measures_are_left_out_and_open_rings_closed(tmp_path: Path) -> None:
    path = _write(
        tmp_path / "f.geojson",
        _feature(polygon([[*point, 120.5, 3.0] for point in BOX[:-1]]), id=1),
        _feature({"type": "GeometryCollection", "geometries": [
            {"type": "Point", "coordinates": [5, 50]}, polygon(BOX)]}, id=2),
    )  # fmt: skip
    outlines = read_outlines(path)
    assert [geometry["coordinates"] for geometry in outlines.geometries] == [[BOX], [BOX]]
    assert outlines.own_ids == (1, 2) and outlines.ids == ("1", "2")


def test_gates_without_an_id_are_no_paddocks(tmp_path: Path) -> None:
    gate = _feature({"type": "Point", "coordinates": [5, 50]})
    assert read_outlines(_write(tmp_path / "f.geojson", gate, GOOD, gate)).ids == ("good",)
    with pytest.raises(DataError, match="holds no polygon with an id"):
        read_outlines(_write(tmp_path / "g.geojson", gate))
    with pytest.raises(UsageError, match="feature 2 has no 'id'"):
        read_outlines(_write(tmp_path / "h.geojson", GOOD, _feature(polygon(BOX))))


@pytest.mark.parametrize(
    ("members", "found"),
    [
        ({"id": None, "properties": {"id": "7"}}, "7"),
        ({"id": 7, "properties": {"id": "8"}}, "7"),
        ({"properties": {"ID": 7.0}}, "7"),
        ({"properties": {"id": float("nan"), "Id": "x"}}, "x"),
    ],
)
def test_the_id_is_the_features_own_else_its_property(
    tmp_path: Path, members: dict[str, Any], found: str
) -> None:
    path = _write(tmp_path / "f.geojson", {**_feature(polygon(BOX)), **members})
    assert read_outlines(path).ids == (found,)


@pytest.mark.parametrize("name", [None, True, ["a"], {"a": 1}, " ", float("nan")])
def test_what_is_no_id_is_not_taken_for_one(tmp_path: Path, name: Any) -> None:
    path = _write(tmp_path / "f.geojson", _feature(polygon(BOX), id=name))
    with pytest.raises(UsageError, match=r"feature 1 has no 'id'; name the property .*--id: none"):
        read_outlines(path)


@pytest.mark.parametrize(
    ("crs", "read"),
    [
        ("http://www.opengis.net/def/crs/EPSG/0/28355", "EPSG:28355"),
        ("epsg:28355", "EPSG:28355"),
        ("urn:ogc:def:crs:epsg::28355", "EPSG:28355"),
        ("http://www.opengis.net/def/crs/OGC/1.3/CRS84", "OGC:CRS84"),
        ("https://www.opengis.net/def/crs/EPSG/0/4326", "OGC:CRS84"),
    ],
)
def test_a_crs_by_url_urn_or_code(tmp_path: Path, crs: str, read: str) -> None:
    member = {"type": "name", "properties": {"name": crs}}
    assert read_outlines(_write(tmp_path / "f.geojson", GOOD, crs=member)).crs == read
    old = {"type": "EPSG", "properties": {"code": 28355}}
    assert read_outlines(_write(tmp_path / "f.geojson", GOOD, crs=old)).crs == "EPSG:28355"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"features": [{"attributes": {}, "geometry": {"rings": []}}]}', "is Esri JSON"),
        ('{"spatialReference": {"wkid": 4326}, "features": []}', "is Esri JSON"),
        ('{"type": "Topology", "objects": {}}', "is TopoJSON"),
        ("[" * 100_000, "not readable GeoJSON"),
        ('{"type": "FeatureCollection", "features": [' + '{"a":' * 100_000, "not readable GeoJSON"),
        ('{"features": [3]}', "features must be objects"),
        ('{"type": "Polygon", "coordinates": []}', "not a GeoJSON FeatureCollection"),
        ("\x00\x01", "not readable GeoJSON"),
    ],
)
def test_what_is_no_geojson_is_said_as_what_it_is(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "f.geojson").write_text(text)
    with pytest.raises(DataError, match=words):
        read_outlines(tmp_path / "f.geojson")


def test_latitude_first_is_guessed_at_in_the_refusal_only(tmp_path: Path) -> None:
    turned = polygon([[y, x + 140] for x, y in BOX])
    with pytest.raises(DataError, match="are latitude and longitude swapped"):
        read_outlines(_write(tmp_path / "f.geojson", _feature(turned, id=1)))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
    | st.sampled_from([10**400, "Polygon", "MultiPolygon", "Point", "id"]),
    lambda inner: st.lists(inner, max_size=4)
    | st.dictionaries(
        st.sampled_from(["type", "id", "coordinates", "geometry", "properties", "geometries"]),
        inner, max_size=4,
    ),
    max_leaves=12,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(features=st.lists(JSON, max_size=3), crs=JSON, good=st.booleans())
def test_no_geojson_ends_in_a_traceback(
    tmp_path_factory: pytest.TempPathFactory, features: list[Any], crs: Any, good: bool
) -> None:
    path = tmp_path_factory.mktemp("f") / "f.geojson"
    with suppress(KgsmError):
        read_outlines(_write(path, *features, *([GOOD] if good else []), crs=crs))


# --- other formats ---------------------------------------------------------------------------


def _vector(path: Path, names: list[Any], field: str = "PADDOCK", **options: Any) -> Path:
    pyogrio = pytest.importorskip("pyogrio", reason="other formats need kgsm[raster]")
    shapely = pytest.importorskip("shapely", reason="other formats need kgsm[raster]")
    shapes = [shapely.box(149 + d, -35.01, 149.01 + d, -35) for d in 0.02 * np.arange(len(names))]
    pyogrio.raw.write(
        path, np.asarray([shapely.to_wkb(shape) for shape in shapes], object),
        [np.asarray(names)], [field], geometry_type="Polygon", crs="EPSG:4326", **options,
    )  # fmt: skip
    return path


@pytest.mark.parametrize("suffix", [".shp", ".gpkg", ".fgb"])
def test_rows_are_never_names(tmp_path: Path, suffix: str) -> None:
    path = _vector(tmp_path / f"farm{suffix}", [7, 8, 9])
    with pytest.raises(UsageError, match=r"feature 1 has no 'id'; name the property .*: PADDOCK"):
        read_outlines(path)
    outlines = read_outlines(path, "PADDOCK")
    assert sorted(outlines.ids) == ["7", "8", "9"] and outlines.crs == "OGC:CRS84"
    assert sorted(outlines.own_ids) == [7, 8, 9]
    path = _vector(tmp_path / f"other{suffix}", ["a", "b"], field="ID")
    assert sorted(read_outlines(path).ids) == ["a", "b"]


def test_several_layers_are_named_not_dropped(tmp_path: Path) -> None:
    path = _vector(tmp_path / "f.gpkg", ["a"], layer="north")
    _vector(path, ["b", "c"], layer="south", append=True)
    with pytest.raises(DataError, match="several layers with outlines, north, south; name one wi"):
        read_outlines(path, "PADDOCK")
    assert read_outlines(path, "PADDOCK", layer="south").ids == ("b", "c")
    with pytest.raises(DataError, match="no layer 'west'; it has north, south"):
        read_outlines(path, "PADDOCK", layer="west")


def test_folders_of_a_kml_are_read_together(tmp_path: Path) -> None:
    pytest.importorskip("pyogrio", reason="other formats need kgsm[raster]")

    def mark(name: str, x: float) -> str:
        ring = " ".join(
            f"{x + a},{b - 35},0" for a, b in ((0, 0), (0.01, 0), (0.01, -0.01), (0, 0))
        )
        return (
            f"<Placemark><name>{name}</name><Polygon><outerBoundaryIs><LinearRing><coordinates>"
            f"{ring}</coordinates></LinearRing></outerBoundaryIs></Polygon></Placemark>"
        )

    (tmp_path / "f.kml").write_text(
        '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
        f"<Folder><name>north</name>{mark('1', 149)}</Folder>"
        f"<Folder><name>south</name>{mark('2', 149.015)}</Folder></Document></kml>"
    )
    outlines = read_outlines(tmp_path / "f.kml", "Name")
    assert outlines.ids == ("1", "2") and all(outlines.geometries)
    with pytest.raises(UsageError, match="feature 1 has no 'id'"):
        read_outlines(tmp_path / "f.kml")


def test_a_zip_file_with_folders_is_opened(tmp_path: Path) -> None:
    _vector(tmp_path / "farm.shp", [1, 2])
    with zipfile.ZipFile(tmp_path / "z.zip", "w") as archive:
        for part in tmp_path.glob("farm.*"):
            archive.write(part, f"export/My Farm/{part.name}")
    assert read_outlines(tmp_path / "z.zip", "PADDOCK").ids == ("1", "2")
    with zipfile.ZipFile(tmp_path / "z.zip", "a") as archive:
        archive.write(tmp_path / "farm.shp", "other/farm.shp")
    with pytest.raises(DataError, match="holds several files of outlines, export/My Farm/farm"):
        read_outlines(tmp_path / "z.zip", "PADDOCK")
    (tmp_path / "z.zip").write_bytes(b"PK nothing")
    with pytest.raises(DataError, match="not a readable zip file"):
        read_outlines(tmp_path / "z.zip")
