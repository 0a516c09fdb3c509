"""Paddocks and scenes on both sides of 180 degrees, and on longitudes from 0 to 360."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outlines import polygon, write_geojson
from made_scenes import write_tif

import kgsm_infer
from kgsm_infer.base.errors import UsageError
from kgsm_infer.paddocks.of_scene import Coverage, coverage, paddocks_of_scene
from kgsm_infer.paddocks.of_table import paddocks_of_table
from kgsm_infer.paddocks.picture import draw_paddocks
from kgsm_infer.prepare.catalogue import meet_in_longitude
from kgsm_infer.prepare.grids import fields_bounds, grid_of_option, lon_lat_box
from kgsm_infer.prepare.weather_services import places_of
from kgsm_infer.scenes.grid import Grid, crs_of
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import on_grid, read_outlines
from kgsm_infer.tables.table import table_from_columns

rasterio = pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")


def box(west: float, south: float, east: float, north: float) -> list[list[float]]:
    return [[west, south], [east, south], [east, north], [west, north], [west, south]]


#: Four paddocks of Taveuni, each of 100 or 200 pixels of .001 degrees.
SHAPES = {
    "west": polygon(box(179.95, -17, 179.96, -16.99)),
    "east": polygon(box(-179.97, -17, -179.96, -16.99)),
    "one ring": polygon(box(179.995, -17, -179.995, -16.99)),
    "two parts": {
        "type": "MultiPolygon",
        "coordinates": [[box(179.99, -17.05, 180, -17.04)], [box(-180, -17.05, -179.99, -17.04)]],
    },
}


@pytest.fixture
def taveuni(tmp_path: Path) -> Path:
    return write_geojson(tmp_path / "f.geojson", SHAPES, None)


def test_the_place_of_paddocks_is_the_short_way_round(taveuni: Path) -> None:
    box_deg, crs = fields_bounds(taveuni)
    assert box_deg == pytest.approx((179.95, -17.05, 180.04, -16.99)) and crs == "EPSG:4326"
    grid = grid_of_option(taveuni, None, 10, None)
    assert 900 < grid.width < 1000 and 600 < grid.height < 700  # .09 by .06 degrees
    same = grid_of_option(None, "179.95,-17.05,-179.96,-16.99", 10, None)
    assert same == grid


def test_paddocks_around_the_globe_are_refused(tmp_path: Path) -> None:
    far = {name: polygon(box(west, 1, west + 0.01, 1.01)) for name, west in (("a", -100), ("b", 20),
                                                                          ("c", 150))}  # fmt: skip
    with pytest.raises(UsageError, match=r"lie 2\d\d degrees of longitude apart"):
        fields_bounds(write_geojson(tmp_path / "g.geojson", far, None))


@pytest.mark.parametrize("west", [179.9, -180.1])
def test_outlines_lie_on_a_grid_across_180(taveuni: Path, west: float) -> None:
    outlines = read_outlines(taveuni)
    grid = Grid(crs_of("EPSG:4326", ""), (0.001, 0, west, 0, -0.001, -16.9), 300, 200)
    for name, shape in zip(outlines.ids, on_grid(outlines, grid, "s"), strict=True):
        cover = coverage(grid, shape)
        assert isinstance(cover, Coverage)
        area = 200 if name == "two parts" else 100
        assert cover.share.sum() == pytest.approx(area, abs=1e-6)
        assert cover.area == pytest.approx(area, abs=1e-6)


def test_a_table_of_paddocks_across_180_is_drawn(taveuni: Path, tmp_path: Path) -> None:
    model = kgsm_infer.load("wetness")
    table = table_from_columns(
        {"site": [*SHAPES], "date": ["2024-03-01"] * 4, "vh_db": [-15.0, -16.0, -17.0, -18.0]}
    )
    outlines = read_outlines(taveuni)
    found = paddocks_of_table(model, table, outlines)
    assert np.isfinite([paddock.sm for paddock in found]).all()
    pytest.importorskip("matplotlib", reason="pictures need kgsm[raster]")
    draw_paddocks(tmp_path / "p.png", outlines, found)
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_weather_is_that_of_the_paddock(taveuni: Path) -> None:
    places = places_of(read_outlines(taveuni))
    assert {name: round(place.lon, 6) for name, place in places.items()} == {
        "west": 179.955, "east": -179.965, "one ring": 180.0, "two parts": 180.0
    }  # fmt: skip


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        ((179.95, -179.96), (-180.0, -179.0), True),
        ((179.95, -179.96), (179.0, -179.99), True),
        ((179.95, -179.96), (178.0, 179.9), False),
        ((354.0, 355.0), (-6.5, -5.5), True),
        ((-180.0, 180.0), (12.0, 13.0), True),
        ((12.0, 13.0), (14.0, 15.0), False),
        ((12.0, 13.0), (13.0, 15.0), True),
    ],
)
def test_ranges_of_longitude_meet_whatever_their_turn(
    one: tuple[float, float], other: tuple[float, float], meet: bool
) -> None:
    assert meet_in_longitude(one, other) is meet is meet_in_longitude(other, one)


@pytest.mark.parametrize("radar", [-6.0, 354.0])
@pytest.mark.parametrize(
    ("ndvi", "step"), [(-6.0, 0.001), (354.0, 0.001), (353.9995, 0.0005), (354.0, 0.0007)]
)
def test_layers_on_354_degrees_east_are_at_6_degrees_west(
    tmp_path: Path, tiny_model: Path, radar: float, ndvi: float, step: float
) -> None:
    """Values rise to the east, so another turn or place gives other numbers."""

    def raster(name: str, west: float, resolution: float, values: Any) -> str:
        transform = rasterio.Affine(resolution, 0, west, 0, -resolution, 40.0)
        write_tif(tmp_path / f"{name}.tif", values, crs="EPSG:4326", transform=transform)
        return f"{name}.tif"

    across = np.arange(20) * np.ones((10, 1))
    fine = 0.2 + 20 * np.arange(round(0.021 / step)) * step
    layers = {
        "vh_db": {"files": {"2024-03-01": raster("vh", radar, 0.001, -18 + 0.1 * across)}},
        "ndvi": {"file": raster("ndvi", ndvi, step, fine * np.ones((round(0.01 / step), 1)))},
        "angle_deg": {"value": 38.0},
        "clay": {"value": 25.0},
    }
    manifest = tmp_path / "s.json"
    manifest.write_text(json.dumps({"resample": "nearest", "layers": layers}))
    shapes = {"a": polygon(box(-5.998, 39.992, -5.994, 39.996))}
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", shapes, None))
    model = kgsm_infer.load(tiny_model / "model.core.onnx")
    (found,) = paddocks_of_scene(model, read_scene(manifest), outlines, tmp_path / "o.csv")
    assert found.valid_share == 1 and found.pixels == pytest.approx(16)
    power = (10 ** ((-18 + 0.1 * np.arange(2, 6)) / 10)).mean()
    columns = {
        "site": ["a"], "date": ["2024-03-01"], "vh_db": [10 * np.log10(power)],
        "ndvi": [0.2 + 0.02 * 3.5], "angle_deg": [38.0], "clay": [25.0],
    }  # fmt: skip
    table = table_from_columns(columns, features=model.table_features())
    assert found.sm == pytest.approx(float(model.predict(table).sm[0]), abs=2e-3)


@pytest.mark.parametrize("west", [354.0, -6.0])
@pytest.mark.parametrize("kind", ["geojson", "kml", "gpkg"])
def test_bounds_of_every_kind_of_file_are_those_of_its_outlines(
    tmp_path: Path, west: float, kind: str
) -> None:
    ring = [[west, 40.0], [west + 0.02, 40.0], [west + 0.02, 40.02], [west, 40.02], [west, 40.0]]
    path = tmp_path / f"f.{kind}"
    if kind == "kml":
        corners = " ".join(f"{x},{y}" for x, y in ring)
        path.write_text(
            '<?xml version="1.0"?><kml xmlns="http://www.opengis.net/kml/2.2"><Document>'
            '<Placemark><ExtendedData><Data name="id"><value>a</value></Data></ExtendedData>'
            f"<Polygon><outerBoundaryIs><LinearRing><coordinates>{corners}</coordinates>"
            "</LinearRing></outerBoundaryIs></Polygon></Placemark></Document></kml>"
        )
    elif kind == "geojson":
        shape = {"type": "Polygon", "coordinates": [ring]}
        point = {"type": "Point", "coordinates": [0, 0]}
        gate = {"type": "Feature", "properties": {}, "geometry": point}
        field = {"type": "Feature", "id": "a", "properties": {}, "geometry": shape}
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [field, gate]}))
    else:
        shapely = pytest.importorskip("shapely")
        pyogrio = pytest.importorskip("pyogrio")
        geometry = np.asarray([shapely.to_wkb(shapely.Polygon(ring))], object)
        values = [np.asarray(["a"], object)]
        pyogrio.raw.write(path, geometry, values, ["id"], geometry_type="Polygon", crs="EPSG:4326")
    grid = grid_of_option(path, None, 20.0, None)
    assert (grid.width, grid.height) == (90, 115)
    assert lon_lat_box(grid) == pytest.approx((-6.0, 40.0, -5.98, 40.02), abs=2e-3)
