"""Paddocks on rasters: exact shares, every kind of outline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outlines import every_kind, polygon, write_geojson
from made_scenes import CRS, NORTH, STEP, WEST, Pixels, make_pixels

from kgsm_infer.base.errors import DataError
from kgsm_infer.maps.options import Execution
from kgsm_infer.model.model import Model
from kgsm_infer.paddocks.summary import paddock_summary
from kgsm_infer.scenes.grid import Grid
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.table import table_from_columns


def retrieved_mean(model: Model, pixels: Pixels, share: Any) -> float:
    """predict on one row per date: each column averaged over the pixels, dB in linear power."""
    columns: dict[str, Any] = {"site": ["a"] * 4, "date": list(pixels.dates)}
    for name, plane in pixels.planes.items():
        full = np.broadcast_to(plane, (4, *pixels.shape))
        power = 10 ** (full / 10) if name.endswith("_db") else full
        weight = np.where(np.isfinite(power), share, 0.0)
        mean = np.nansum(np.nan_to_num(power) * weight, axis=(1, 2)) / weight.sum(axis=(1, 2))
        columns[name] = 10 * np.log10(mean) if name.endswith("_db") else mean
    table = table_from_columns(columns, features=model.table_features())
    return float(model.predict(table).sm[-1])


def test_shares_of_pixels_are_the_areas_shapely_finds() -> None:
    shapely = pytest.importorskip("shapely", reason="independent areas")
    pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")
    from kgsm_infer.paddocks.of_scene import Coverage, coverage

    grid = Grid("", (STEP, 0.0, WEST, 0.0, -STEP, NORTH), 30, 20)
    tilted = polygon([[WEST + 33, NORTH - 41], [WEST + 187, NORTH - 22], [WEST + 160, NORTH - 171],
                      [WEST + 20, NORTH - 120], [WEST + 33, NORTH - 41]])  # fmt: skip
    for shape in (
        tilted,
        *(every_kind()[name] for name in ("partial", "hole", "multi", "half out")),
    ):
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


def test_every_kind_of_outline_on_a_raster(
    tmp_path: Path, interval_model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene

    scene, sm, _ = scene_and_map
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", every_kind()))
    found = {
        p.id: p
        for p in paddocks_of_scene(interval_model, read_scene(scene), outlines, tmp_path / "o")
    }
    assert list(found) == list(every_kind())

    def value_of(share: Any) -> Any:
        return pytest.approx(retrieved_mean(interval_model, make_pixels(), share), abs=2e-6)

    def rectangle(rows: slice, cols: slice) -> Any:
        share = np.zeros(sm.shape)
        share[rows, cols] = 1
        return share

    part = sm[3:9, 2:12]
    assert found["whole"].sm == value_of(rectangle(slice(3, 9), slice(2, 12)))
    assert found["whole"].pixels == 60
    assert found["whole"].valid_share == pytest.approx(np.isfinite(part).mean(), abs=1e-6)
    median = np.quantile(part[np.isfinite(part)].astype(float), 0.5, method="hazen")
    assert found["whole"].sm_median == pytest.approx(median, abs=1e-6)

    weight = np.outer([0.75, *[1] * 5, 0.5], [0.5, *[1] * 9, 0.75])
    share = np.zeros(sm.shape)
    share[3:10, 2:13] = weight
    assert found["partial"].sm == value_of(share)
    assert found["partial"].pixels == pytest.approx(weight.sum(), abs=1e-3)

    inside = np.zeros(sm.shape, bool)
    inside[2:12, 14:24] = True
    inside[4:10, 16:22] = False
    assert found["hole"].sm == value_of(inside.astype(float))
    assert found["hole"].pixels == 64
    both = rectangle(slice(12, 15), slice(1, 5)) + rectangle(slice(13, 18), slice(20, 25))
    assert found["multi"].sm == value_of(both)
    assert found["overlap"].sm == value_of(rectangle(slice(3, 9), slice(8, 18)))

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


def test_only_blocks_with_paddocks_are_computed(
    tmp_path: Path,
    interval_model: Model,
    scene_and_map: tuple[Path, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from kgsm_infer.maps import plan
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene

    monkeypatch.setattr(plan, "BLOCK_SIDE", 16)
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", {"a": every_kind()["whole"]}))
    told: list[tuple[int, int]] = []
    (found,) = paddocks_of_scene(
        interval_model,
        read_scene(scene_and_map[0]),
        outlines,
        tmp_path / "o",
        execution=Execution(progress=lambda *now: told.append(now)),
    )
    done, pixels = told[-1]
    assert done == pixels < 600  # not all blocks
    share = np.zeros((20, 30))
    share[3:9, 2:12] = 1
    expected = retrieved_mean(interval_model, make_pixels(), share)
    assert found.sm == pytest.approx(expected, abs=2e-6)


def test_a_block_that_only_the_bounds_of_a_paddock_meet_adds_nothing(
    tmp_path: Path,
    interval_model: Model,
    scene_and_map: tuple[Path, Any, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Blocks are 8 rows high; an outline that ends at row 16 has an empty row of pixels there."""
    from kgsm_infer.maps import plan
    from kgsm_infer.paddocks.of_scene import Coverage, coverage, paddocks_of_scene

    monkeypatch.setattr(plan, "BLOCK_SIDE", 16)

    def shape(*corners: tuple[float, float]) -> dict[str, Any]:
        ring = [[WEST + 10 * col, NORTH - 10 * row] for col, row in (*corners, corners[0])]
        return polygon(ring)

    shapes = {
        "square": shape((17, 17), (22, 17), (22, 19.5), (17, 19.5)),
        "slanting": shape((2, 2), (20, 2), (2, 16)),
    }
    for names in (["slanting"], ["square", "slanting"], ["slanting", "square"]):
        path = write_geojson(tmp_path / "f.geojson", {name: shapes[name] for name in names})
        scene = read_scene(scene_and_map[0])
        for paddock in paddocks_of_scene(
            interval_model, scene, read_outlines(path), tmp_path / "o"
        ):
            grid = Grid("", (STEP, 0.0, WEST, 0.0, -STEP, NORTH), 30, 20)
            cover = coverage(grid, shapes[paddock.id])
            assert isinstance(cover, Coverage)
            share = np.zeros((20, 30))
            share[cover.window.slices] = cover.share
            expected = retrieved_mean(interval_model, make_pixels(), share)
            assert paddock.sm == pytest.approx(expected, abs=2e-6)


def test_outlines_in_lon_lat_and_in_a_geopackage_fall_on_the_same_pixels(
    tmp_path: Path, interval_model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    pyogrio = pytest.importorskip("pyogrio", reason="GeoPackage needs kgsm[raster]")
    import shapely
    from rasterio.warp import transform_geom

    from kgsm_infer.paddocks.of_scene import paddocks_of_scene

    scene = read_scene(scene_and_map[0])
    shapes = {name: every_kind()[name] for name in ("whole", "hole", "multi")}
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
    first = paddocks_of_scene(interval_model, scene, projected, tmp_path / "o")
    for outlines in (geographic, packaged):
        for one, other in zip(
            first, paddocks_of_scene(interval_model, scene, outlines, tmp_path / "o"), strict=True
        ):
            assert one.sm == pytest.approx(other.sm, abs=1e-4)
            assert one.pixels == pytest.approx(other.pixels, abs=0.05)


def test_bad_outlines_cost_their_own_paddock_only(
    tmp_path: Path, interval_model: Model, scene: Path
) -> None:
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene

    whole = every_kind()["whole"]["coordinates"][0]
    shapes = {
        "good": polygon(whole),
        "measured": polygon([[*point, 120.5, 3] for point in whole]),
        "short": polygon(whole[:2]),
        "empty hole": polygon(whole, []),
        "gate": {"type": "Point", "coordinates": whole[0]},
    }
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", shapes))
    found = {
        line.id: line
        for line in paddocks_of_scene(interval_model, read_scene(scene), outlines, tmp_path / "o")
    }
    assert np.isfinite(found["good"].sm) and found["measured"].sm == found["good"].sm
    assert found["short"].reason == "its outline has a ring of 2 points"
    assert found["empty hole"].reason == "its outline has an empty ring"
    assert found["gate"].reason.startswith("its outline is a Point; a paddock is a Polygon")
    assert paddock_summary([*found.values()]) == (
        "5 paddocks, 2 with a number; its outline is not a polygon 3"
    )


def test_outlines_with_latitude_first_are_said_to_be_so(
    tmp_path: Path, interval_model: Model, scene: Path
) -> None:
    """At 51 degrees north and 4 east both ways round are places on Earth."""
    from rasterio.warp import transform_geom

    from kgsm_infer.paddocks.of_scene import paddocks_of_scene

    right = transform_geom(CRS, "EPSG:4326", every_kind()["whole"])
    turned = polygon([[y, x] for x, y in right["coordinates"][0]])
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", {"a": turned}, None))
    with pytest.raises(DataError, match="with latitude and longitude swapped they would"):
        paddocks_of_scene(interval_model, read_scene(scene), outlines, tmp_path / "o")
