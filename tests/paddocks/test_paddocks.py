"""Paddocks: outlines, statistics, tables without GDAL, shares of pixels on rasters."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_scenes import CRS, NORTH, STEP, WEST, make_pixels, write_scene

import kgsm_infer
from kgsm_infer import flags
from kgsm_infer.errors import DataError, UsageError
from kgsm_infer.model import Model
from kgsm_infer.paddocks.summary import (
    Outlines,
    Paddock,
    paddock_summary,
    paddocks_of_table,
    read_outlines,
    summarise,
    weighted_quantile,
    write_paddocks,
)
from kgsm_infer.table import read_table, table_from_columns

REPOSITORY = Path(__file__).resolve().parents[2]
INTERVAL = {"level": 0.9, "lower": -0.05, "upper": 0.07}


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    model = kgsm_infer.load(tiny_model / "model.core.onnx")
    return replace(model, card=replace(model.card, interval=INTERVAL))


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


# --- statistics ------------------------------------------------------------------------------


def _summary(model: Model, sm: Any, weight: Any, area: float, mask: Any = None) -> Paddock:
    sm = np.asarray(sm, np.float32)
    mask = np.where(np.isnan(sm), flags.MISSING_INPUT, 0) if mask is None else np.asarray(mask)
    return summarise("a", "2024-03-04", (sm, mask.astype(np.uint16)), weight, area, model.card)


def test_partial_pixels_count_by_their_share(model: Model) -> None:
    got = _summary(model, [0.1, 0.2, 0.4], [1.0, 0.5, 0.25], 1.75)
    assert got.sm == pytest.approx((0.1 + 0.1 + 0.1) / 1.75, abs=1e-6)
    assert (got.valid_share, got.pixels, got.reason) == (1.0, 1.75, "")


def test_the_interval_does_not_shrink_with_the_number_of_pixels(model: Model) -> None:
    for n in (1, 10, 1000):
        got = _summary(model, np.full(n, 0.2), np.ones(n), n)
        assert (got.sm_lower, got.sm_upper) == pytest.approx((0.15, 0.27), abs=1e-6)
    got = _summary(model, [0.01], [1], 1)
    assert got.sm_lower == 0.0  # cut at the card's limits as a point's is


def test_no_interval_on_the_card_none_here(model: Model) -> None:
    card = replace(model.card, interval=None)
    got = summarise("a", "d", (np.float32([0.2]), np.uint16([0])), [1], 1, card)
    assert np.isnan([got.sm_lower, got.sm_upper]).all() and got.sm == pytest.approx(0.2)


def test_less_than_half_with_a_number_is_no_number_and_says_why(model: Model) -> None:
    nan = np.nan
    mask = [0, 0, flags.SOIL_SIGNAL_LOST, flags.SOIL_SIGNAL_LOST, flags.MISSING_INPUT]
    got = _summary(model, [0.1, 0.2, nan, nan, nan], np.ones(5), 5, mask)
    assert np.isnan(got.sm) and got.valid_share == 0.4
    assert got.flags == "missing_input;soil_signal_lost"
    assert got.reason == ("only 40% of it has a number (missing_input 20%, soil_signal_lost 40%)")
    kept = _summary(model, [0.1, 0.2, nan], np.ones(3), 3)
    assert kept.sm == pytest.approx(0.15) and kept.flags == ""  # no NO_NUMBER flag on a number


def test_a_flag_stands_from_a_tenth_of_the_paddock_on(model: Model) -> None:
    mask = np.zeros(100)
    mask[:9] = flags.OUTSIDE_DOMAIN
    mask[:10] += flags.DENSE_VEGETATION
    got = _summary(model, np.full(100, 0.2), np.ones(100), 100, mask)
    assert got.flags == "dense_vegetation"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_equal_weights_give_numpys_hazen_quantile(values: list[float], q: float) -> None:
    (got,) = weighted_quantile(values, np.ones(len(values)), [q])
    assert got == pytest.approx(float(np.quantile(values, q, method="hazen")), abs=1e-9)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=40),
    st.floats(0.1, 10),
)
def test_quantiles_lie_in_order_and_do_not_depend_on_the_unit_of_weight(
    pairs: list[tuple[float, float]], unit: float
) -> None:
    values, weight = np.asarray(pairs).T
    low, middle, high = weighted_quantile(values, weight, [0.1, 0.5, 0.9])
    assert values.min() <= low <= middle <= high <= values.max()
    again = weighted_quantile(values, weight * unit, [0.1, 0.5, 0.9])
    assert again == pytest.approx((low, middle, high), abs=1e-9)


# --- outlines --------------------------------------------------------------------------------


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


# --- tables ----------------------------------------------------------------------------------


@pytest.fixture
def points() -> dict[str, Any]:
    """Two fields of three points, two dates; one point of field 2 has no backscatter."""
    n = 12
    rng = np.random.default_rng(5)
    vh = rng.normal(-15, 1, n)
    vh[11] = np.nan
    return {
        "site": ["a", "b", "c", "d", "e", "f"] * 2,
        "date": ["2024-03-04"] * 6 + ["2024-03-16"] * 6,
        "field": [1, 1, 1, 2, 2, 2] * 2,
        "vh_db": vh,
        "ndvi": rng.uniform(0.2, 0.5, n),
        "angle_deg": [39.0] * n,
        "clay": [20.0] * n,
    }


def _outlines(*names: str) -> Outlines:
    return Outlines("f", "OGC:CRS84", names, tuple({"k": n} for n in names), (None,) * len(names))


def test_points_of_a_field_make_its_line(model: Model, points: dict[str, Any]) -> None:
    table = table_from_columns(points, features=["clay"])
    rows = model.predict(table)
    one, two, three = paddocks_of_table(model, table, _outlines("1", "2", "3"))
    assert one.date == "2024-03-16" and one.pixels == 3
    assert one.sm == pytest.approx(float(rows.sm[6:9].mean()), abs=2e-6)
    assert one.sm_median == pytest.approx(float(np.median(rows.sm[6:9])), abs=2e-6)
    assert two.sm == pytest.approx(float(rows.sm[9:11].mean()), abs=2e-6)
    assert two.valid_share == pytest.approx(2 / 3, abs=1e-6)
    assert np.isnan(three.sm) and three.reason == "no rows in the table"
    everything = paddocks_of_table(model, table, _outlines("1", "2"), every=True)
    assert [(p.id, p.date) for p in everything] == [
        ("1", "2024-03-04"), ("1", "2024-03-16"), ("2", "2024-03-04"), ("2", "2024-03-16"),
    ]  # fmt: skip
    (day, *_) = paddocks_of_table(model, table, _outlines("1"), date="2024-03-04")
    assert day.sm == pytest.approx(float(rows.sm[:3].mean()), abs=2e-6)
    (none, *_) = paddocks_of_table(model, table, _outlines("1"), date="2024-03-05")
    assert none.reason == "no rows of 2024-03-05"
    with pytest.raises(UsageError, match="one date or all dates, not both"):
        paddocks_of_table(model, table, _outlines("1"), date="2024-03-04", every=True)


def test_the_join_is_by_field_else_by_site_else_as_said(
    model: Model, points: dict[str, Any]
) -> None:
    table = table_from_columns(points, features=["clay"])
    (site,) = paddocks_of_table(model, table, _outlines("d"), column="site")
    assert site.pixels == 1 and np.isfinite(site.sm)
    with pytest.raises(DataError, match=r"values \(1, 2, \.\.\.\) is a paddock of f"):
        paddocks_of_table(model, table, _outlines("d"))
    with pytest.raises(UsageError, match="no column 'paddock'; it has site, field"):
        paddocks_of_table(model, table, _outlines("d"), column="paddock")
    alone = {key: value for key, value in points.items() if key != "field"}
    (site,) = paddocks_of_table(model, table_from_columns(alone, features=["clay"]), _outlines("d"))
    assert site.pixels == 1


def test_geojson_keeps_outlines_and_properties_and_csv_is_empty_where_there_is_nothing(
    tmp_path: Path, model: Model, points: dict[str, Any]
) -> None:
    shapes = {"1": polygon([[5, 50], [5.1, 50], [5.1, 50.1], [5, 50]]), "9": None}
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", shapes, None))
    found = paddocks_of_table(model, table_from_columns(points, features=["clay"]), outlines)
    write_paddocks(tmp_path / "o.geojson", outlines, found, simulated=True)
    first, second = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert first["geometry"] == shapes["1"] and first["id"] == "1"
    assert first["properties"]["farm"] == "x" and first["properties"]["source"] == "simulated"
    assert first["properties"]["sm"] == found[0].sm
    assert second["properties"]["sm"] is None and second["geometry"] is None
    again = read_outlines(tmp_path / "o.geojson")
    assert again.ids == outlines.ids
    write_paddocks(tmp_path / "o.csv", outlines, found)
    with (tmp_path / "o.csv").open() as file:
        records = list(csv.DictReader(file))
    assert list(records[0]) == [*Paddock.__dataclass_fields__]
    assert float(records[0]["sm"]) == found[0].sm
    assert (records[1]["sm"], records[1]["reason"]) == ("", "no rows in the table")
    with pytest.raises(UsageError, match=r"written as .geojson, .csv or .parquet"):
        write_paddocks(tmp_path / "o.shp", outlines, found)
    assert paddock_summary(found) == "2 paddocks, 1 with a number; no rows in the table 1"


def test_a_table_needs_no_raster_library(
    tiny_model: Path, tmp_path: Path, points: dict[str, Any]
) -> None:
    """And a scene without them ends with exit 5, which names the extra."""
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(points)
        writer.writerows(zip(*points.values(), strict=True))
    fields = write_geojson(tmp_path / "f.geojson", {"1": None, "2": None})
    hidden = ("rasterio", "exactextract", "shapely", "pyogrio", "netCDF4", "zarr", "matplotlib",
              "rich", "xarray", "pyproj", "pandas")  # fmt: skip
    driver = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); "
        "from kgsm_infer.cli import main; main()"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", driver, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    model = str(tiny_model / "model.core.onnx")
    output = tmp_path / "o.geojson"
    done = run("paddocks", model, str(tmp_path / "t.csv"), str(fields), "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert "2 paddocks, 2 with a number" in done.stdout and output.exists()
    scene = tmp_path / "s.toml"
    scene.write_text('[layers.vh_db]\nfile = "vh.tif"\ndates = [2024-03-04]\n')
    for arguments in (
        ("paddocks", model, str(scene), str(fields), "-o", str(tmp_path / "p.csv")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.tif")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.nc")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.zarr")),
    ):
        refused = run(*arguments)
        assert refused.returncode == 5, refused.stderr
        assert "pip install 'kgsm[raster]'" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "t.csv",
        "f.geojson",
        "o.geojson",
        "s.toml",
    }


# --- rasters ---------------------------------------------------------------------------------


def _shapes() -> dict[str, Any]:
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


def test_shares_of_pixels_are_the_areas_shapely_finds() -> None:
    shapely = pytest.importorskip("shapely", reason="independent areas")
    pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")
    from kgsm_infer.paddocks.of_scene import Coverage, coverage
    from kgsm_infer.scenes.stack import Grid

    grid = Grid("", (STEP, 0.0, WEST, 0.0, -STEP, NORTH), 30, 20)
    tilted = polygon([[WEST + 33, NORTH - 41], [WEST + 187, NORTH - 22], [WEST + 160, NORTH - 171],
                      [WEST + 20, NORTH - 120], [WEST + 33, NORTH - 41]])  # fmt: skip
    for shape in (tilted, *(_shapes()[name] for name in ("partial", "hole", "multi", "half out"))):
        cover = coverage(grid, shape)
        assert isinstance(cover, Coverage)
        outline = shapely.geometry.shape(shape)
        assert cover.area == pytest.approx(outline.area / 100, rel=1e-9)
        for i in range(cover.window.height):
            for j in range(cover.window.width):
                x, y = WEST + 10 * (cover.window.col + j), NORTH - 10 * (cover.window.row + i)
                pixel = shapely.box(x, y - 10, x + 10, y)
                assert cover.share[i, j] == pytest.approx(
                    outline.intersection(pixel).area / 100, abs=1e-6
                )


@pytest.fixture
def scene_and_map(tmp_path: Path, model: Model) -> tuple[Path, Any, Any]:
    """A scene, and sm and flags of its map."""
    rasterio = pytest.importorskip("rasterio", reason="rasters need kgsm[raster]")
    pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.scenes.manifest import read_scene

    scene = write_scene(tmp_path / "scene", make_pixels())
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        return scene, dataset.read(1), dataset.read(4).astype(np.uint16)


def test_every_kind_of_outline_on_a_raster(
    tmp_path: Path, model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.manifest import read_scene

    scene, sm, _ = scene_and_map
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", _shapes()))
    found = {p.id: p for p in paddocks_of_scene(model, read_scene(scene), outlines, tmp_path / "o")}
    assert list(found) == list(_shapes())

    part = sm[3:9, 2:12]
    assert found["whole"].sm == pytest.approx(np.nanmean(part, dtype=float), abs=1e-6)
    assert found["whole"].pixels == 60
    assert found["whole"].valid_share == pytest.approx(np.isfinite(part).mean(), abs=1e-6)
    median = np.quantile(part[np.isfinite(part)].astype(float), 0.5, method="hazen")
    assert found["whole"].sm_median == pytest.approx(median, abs=1e-6)

    weight = np.outer([0.75, *[1] * 5, 0.5], [0.5, *[1] * 9, 0.75])
    part = sm[3:10, 2:13].astype(float)
    there = np.isfinite(part)
    assert found["partial"].sm == pytest.approx(
        np.average(part[there], weights=weight[there]), abs=1e-6
    )
    assert found["partial"].pixels == pytest.approx(weight.sum(), abs=1e-3)

    inside = np.zeros(sm.shape, bool)
    inside[2:12, 14:24] = True
    inside[4:10, 16:22] = False
    assert found["hole"].sm == pytest.approx(np.nanmean(sm[inside], dtype=float), abs=1e-6)
    assert found["hole"].pixels == 64
    both = np.r_[sm[12:15, 1:5].ravel(), sm[13:18, 20:25].ravel()]
    assert found["multi"].sm == pytest.approx(np.nanmean(both, dtype=float), abs=1e-6)
    assert found["overlap"].sm == pytest.approx(np.nanmean(sm[3:9, 8:18], dtype=float), abs=1e-6)

    reasons = {name: paddock.reason for name, paddock in found.items()}
    assert reasons["sliver"] == "smaller than a pixel (0.2 pixels)"
    assert reasons["outside"] == "outside the scene"
    assert (
        reasons["half out"].startswith("only ") and "outside the scene 60%" in reasons["half out"]
    )
    assert reasons["mostly in"] == ""
    assert found["mostly in"].valid_share == pytest.approx(
        np.isfinite(sm[3:9, :4]).sum() / 30, abs=1e-6
    )
    assert reasons["bow tie"].startswith("its outline is invalid: Self-intersection")
    assert reasons["none"] == "it has no outline"
    for name in ("sliver", "outside", "half out", "bow tie", "none"):
        assert np.isnan(found[name].sm) and np.isnan(found[name].sm_upper)


def test_outlines_in_lon_lat_and_in_a_geopackage_fall_on_the_same_pixels(
    tmp_path: Path, model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="GeoPackage needs kgsm[raster]")
    import shapely
    from rasterio.warp import transform_geom

    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.manifest import read_scene

    scene = read_scene(scene_and_map[0])
    shapes = {name: _shapes()[name] for name in ("whole", "hole", "multi")}
    projected = read_outlines(write_geojson(tmp_path / "p.geojson", shapes))
    lon_lat = {name: transform_geom(CRS, "EPSG:4326", shape) for name, shape in shapes.items()}
    geographic = read_outlines(write_geojson(tmp_path / "g.geojson", lon_lat, None))
    pyogrio.raw.write(
        tmp_path / "f.gpkg",
        shapely.to_wkb([shapely.geometry.shape(shape) for shape in shapes.values()]),
        [np.asarray([*shapes], object)],
        ["name"],
        geometry_type="Unknown",
        crs=CRS,
    )
    packaged = read_outlines(tmp_path / "f.gpkg", "name")
    assert packaged.crs == CRS and packaged.ids == ("whole", "hole", "multi")
    first = paddocks_of_scene(model, scene, projected, tmp_path / "o")
    for outlines in (geographic, packaged):
        for one, other in zip(
            first, paddocks_of_scene(model, scene, outlines, tmp_path / "o"), strict=True
        ):
            assert one.sm == pytest.approx(other.sm, abs=1e-4)
            assert one.pixels == pytest.approx(other.pixels, abs=0.05)


def test_only_blocks_with_paddocks_are_computed(
    tmp_path: Path,
    model: Model,
    scene_and_map: tuple[Path, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kgsm_infer.maps import run as maps
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.manifest import read_scene

    monkeypatch.setattr(maps, "BLOCK_SIDE", 16)
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", {"a": _shapes()["whole"]}))
    told: list[tuple[int, int]] = []
    (found,) = paddocks_of_scene(
        model,
        read_scene(scene_and_map[0]),
        outlines,
        tmp_path / "o",
        progress=lambda *now: told.append(now),
    )
    assert told[-1] == (256, 256)  # the first of four blocks
    expected = np.nanmean(scene_and_map[1][3:9, 2:12], dtype=float)
    assert found.sm == pytest.approx(expected, abs=1e-6)


def test_quick_looks_are_pictures(
    tmp_path: Path, model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    image = pytest.importorskip("matplotlib.image", reason="quick looks need kgsm[raster]")
    from kgsm_infer.maps.picture import draw_paddocks
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.manifest import read_scene

    scene = read_scene(scene_and_map[0])
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", _shapes()))
    found = paddocks_of_scene(model, scene, outlines, tmp_path / "o")
    draw_paddocks(tmp_path / "p.png", outlines, found)
    draw_paddocks(tmp_path / "again.png", outlines, found)
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    map_scene(model, scene, tmp_path / "n.tif", outlines=outlines, quicklook=tmp_path / "m.png")
    for name in ("p.png", "m.png"):
        pixels = image.imread(tmp_path / name)[..., :3]
        assert min(pixels.shape[:2]) > 200
        blue = pixels[..., 2] - pixels[..., 0] > 0.2  # the colours of soil moisture
        black = pixels.max(axis=-1) < 0.1  # outlines and words
        assert blue.mean() > 0.005 and black.mean() > 0.002


@pytest.mark.realdata
def test_boort_paddocks_from_their_table(shared_data: Path, tmp_path: Path, model: Model) -> None:
    """173 real outlines; one row per paddock and date, so a paddock's line is its row."""
    with (shared_data / "boort" / "boort.csv").open() as file:
        rows = list(csv.DictReader(file))
    once = {(row["site"], row["date"]): row for row in rows}  # some stand twice on a date
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "clay"])
        writer.writeheader()
        writer.writerows({**row, "clay": 20} for row in once.values())
    table = read_table(tmp_path / "t.csv", features=["clay"])
    outlines = read_outlines(shared_data / "boort" / "paddocks.geojson", "polygon_id")
    found = paddocks_of_table(model, table, outlines)
    assert len(found) == len(outlines.ids)
    result = model.predict(table)
    checked = 0
    for paddock in found:
        mine = np.flatnonzero(table.site == paddock.id)
        if not len(mine):
            assert paddock.reason == "no rows in the table"
            continue
        last = mine[np.argmax(table.date[mine])]
        np.testing.assert_allclose(paddock.sm, result.sm[last], atol=1e-6)
        checked += bool(np.isfinite(paddock.sm))
    assert checked > 100
