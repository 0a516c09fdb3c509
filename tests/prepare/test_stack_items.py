"""Items of one day with different offsets, padding, levels and types: each by its own metadata."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

pystac = pytest.importorskip("pystac")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("pystac_client")

from kgsm_infer.base.errors import DataError  # noqa: E402
from kgsm_infer.prepare.catalogue import Found, time_of  # noqa: E402
from kgsm_infer.prepare.items import boa_offset_of, sort_items  # noqa: E402
from kgsm_infer.prepare.stack import StackOptions, prepare_stack  # noqa: E402
from kgsm_infer.scenes.grid import Grid  # noqa: E402

SIDE = 24
GRID = Grid(
    rasterio.crs.CRS.from_epsg(32633).to_wkt(), (10.0, 0, 500000.0, 0, -10.0, 5000000.0), SIDE, SIDE
)


def write(path: Path, values, nodata=None) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(
        path, "w", driver="GTiff", width=SIDE, height=SIDE, count=1, dtype=values.dtype,
        crs="EPSG:32633", transform=rasterio.Affine(*GRID.transform), nodata=nodata,
    ) as file:  # fmt: skip
        file.write(values[None])
    return str(path)


def make_item(name, when, assets, collection, **properties):
    west, south, east, north = 15.0, 45.14, 15.01, 45.16
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    box = {"type": "Polygon", "coordinates": [ring]}
    made = pystac.Item(name, box, [west, south, east, north], when, properties)
    made.collection_id = collection
    for key, path in assets.items():
        made.add_asset(key, pystac.Asset(path))
    return made


def sentinel2(folder, name, red, nir, *, rows=slice(None), nodata=0, dtype=np.uint16, **properties):
    """An item with numbers in some rows and 0 in the others."""
    assets = {}
    for band, value, kind in (("B04", red, dtype), ("B08", nir, dtype), ("SCL", 4, np.uint8)):
        values = np.zeros((SIDE, SIDE), kind)
        values[rows] = value
        assets[band] = write(folder / name / f"{band}.tif", values, nodata)
    when = datetime(2024, 3, 1, 10, tzinfo=UTC)
    return make_item(name, when, assets, "sentinel-2-l2a", platform="sentinel-2a", **properties)


def radar(folder, name="S1A", *, power=0.01, rows=slice(None), nodata=None, dtype=np.float32):
    values = np.zeros((SIDE, SIDE), dtype)
    values[rows] = power
    assets = {"vh": write(folder / name / "vh.tif", values, nodata)}
    orbit = {"sat:relative_orbit": 22, "sat:orbit_state": "descending", "platform": "sentinel-1a"}
    return make_item(
        name, datetime(2024, 3, 4, 5, 30, tzinfo=UTC), assets, "sentinel-1-rtc", **orbit
    )


def prepared(tmp_path, *items, **options):
    options = StackOptions(angle_deg=38.0, **options)
    return prepare_stack("made", Found(items, len(items), "made"), GRID, tmp_path / "out", options)


def read(tmp_path, pattern):
    (path,) = (tmp_path / "out").glob(pattern)
    with rasterio.open(path) as file:
        return file.read(1)


TOP, LOW = slice(None, SIDE // 2), slice(SIDE // 2, None)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"s2:processing_baseline": "05.10"}, {"s2:processing_baseline": "03.01"}),
        (
            {"s2:processing_baseline": "05.10"},
            {"s2:processing_baseline": "05.10", "earthsearch:boa_offset_applied": True},
        ),
        (
            {"processing:version": "05.00"},
            {"sentinel:processing_baseline": "04.00", "sentinel:boa_offset_applied": True},
        ),
    ],
)
@pytest.mark.parametrize("nodata", [0, None])
def test_every_item_has_its_own_offset_and_padding(tmp_path, first, second, nodata) -> None:
    with_offset = sentinel2(tmp_path, "A", 3000, 4000, rows=TOP, nodata=nodata, **first)
    without = sentinel2(tmp_path, "B", 2000, 3000, rows=LOW, nodata=nodata, **second)
    prepared(tmp_path, with_offset, without, radar(tmp_path))
    np.testing.assert_allclose(read(tmp_path, "ndvi_*.tif"), 0.2, atol=1e-6)


@pytest.mark.parametrize("nodata", [None, 0.0, -32768.0])
def test_zero_power_of_a_frame_does_not_hide_the_next(tmp_path, nodata) -> None:
    one = radar(tmp_path, "S1A_1", rows=TOP, nodata=nodata)
    two = radar(tmp_path, "S1A_2", power=0.02, rows=LOW, nodata=nodata)
    prepared(tmp_path, one, two)
    vh = read(tmp_path, "*_vh_gamma0.tif")
    np.testing.assert_allclose(vh[TOP], 0.01)
    np.testing.assert_allclose(vh[LOW], 0.02)


def test_an_item_without_a_baseline_is_left_out_and_the_rest_is_made(tmp_path) -> None:
    good = sentinel2(tmp_path, "A", 1800, 4200, **{"s2:processing_baseline": "03.01"})
    unknown = sentinel2(tmp_path, "B", 1800, 4200)
    report = prepared(tmp_path, good, unknown, radar(tmp_path))
    assert "--boa-offset" in report.left_out["B"]
    assert len(report.done) == 2
    assert boa_offset_of(unknown, -1000.0) == -1000.0
    assert not sort_items([unknown], boa_offset=0.0).left_out


def test_items_of_another_type_are_left_out_with_the_type(tmp_path) -> None:
    known = {"s2:processing_baseline": "03.01"}
    floats = sentinel2(tmp_path, "F", 0.18, 0.42, dtype=np.float32, **known)
    report = prepared(tmp_path, floats, radar(tmp_path))
    assert "float32" in report.left_out["F"]
    slc = radar(tmp_path, "S1A_slc", dtype=np.complex64)
    report = prepared(tmp_path, slc, radar(tmp_path))
    assert "complex64" in report.left_out["S1A_slc"]


def landsat_item(tmp_path, name, collection, **properties):
    values = np.full((SIDE, SIDE), 9000, np.uint16)
    assets = {key: write(tmp_path / name / f"{key}.tif", values) for key in ("red", "nir08")}
    assets["qa_pixel"] = write(tmp_path / name / "qa.tif", np.full_like(values, 21824))
    properties["platform"] = "landsat-8"
    return make_item(name, datetime(2024, 3, 2, 10, tzinfo=UTC), assets, collection, **properties)


@pytest.mark.parametrize(
    ("collection", "properties", "why"),
    [
        ("landsat-c2-l1", {}, "Level 1"),
        ("landsat", {"landsat:correction": "L1TP"}, "Level 1"),
        ("landsat", {}, "does not state its level"),
        ("landsat-c2-l2", {}, None),
        ("landsat", {"landsat:correction": "L2SP"}, None),
    ],
)
def test_landsat_is_read_at_level_2_only(tmp_path, collection, properties, why) -> None:
    left_out = sort_items([landsat_item(tmp_path, "X", collection, **properties)]).left_out
    assert (why is None and not left_out) or why in left_out["X"]


def test_an_item_with_an_offset_from_utc_is_of_its_utc_day(tmp_path) -> None:
    item = radar(tmp_path)
    item.datetime = datetime(2024, 3, 4, 6, tzinfo=timezone(timedelta(hours=10)))
    assert time_of(item) == np.datetime64("2024-03-03T20:00:00")
    item.datetime = datetime(2024, 3, 4, 6, tzinfo=UTC)
    assert time_of(item) == np.datetime64("2024-03-04T06:00:00")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("sat:relative_orbit", "x", "cannot be read"),
        ("sat:relative_orbit", float("inf"), "not a whole number from 1 to 175"),
        ("sat:relative_orbit", 22.5, "not a whole number from 1 to 175"),
        ("sat:relative_orbit", True, "not a whole number from 1 to 175"),
        ("sat:relative_orbit", 0, "not a whole number from 1 to 175"),
        ("platform", ["sentinel-1a"], "cannot be read"),
        ("file:size", "large", "cannot be read"),
        ("file:size", 10**400, "cannot be read"),
        ("file:size", 40.9, "cannot be read"),
        ("file:checksum", 7, "cannot be read"),
    ],
)
def test_malformed_metadata_cost_their_item_alone(tmp_path, key, value, why) -> None:
    bad, good = radar(tmp_path, "bad", power=0.5), radar(tmp_path, "good")
    if key.startswith("file:"):
        bad.assets["vh"].extra_fields[key] = value
    else:
        bad.properties[key] = value
    report = prepared(tmp_path, bad, good)
    assert why in report.left_out["bad"] and len(report.done) == 1
    np.testing.assert_allclose(read(tmp_path, "*_vh_gamma0.tif"), 0.01)


@pytest.mark.parametrize("damage", ["short box", "text box", "no box", "collection", "id"])
def test_malformed_items_of_a_catalogue_are_named(tmp_path, damage) -> None:
    import json

    from kgsm_infer.prepare.catalogue import Search, find

    catalogue = pystac.Catalog("home", "made")
    for one in (radar(tmp_path, "bad"), radar(tmp_path, "good")):
        one.collection_id = None
        catalogue.add_item(one)
    catalogue.normalize_hrefs(str(tmp_path / "c"))
    catalogue.save(pystac.CatalogType.SELF_CONTAINED)
    path = tmp_path / "c" / "bad" / "bad.json"
    content = json.loads(path.read_text())
    changes = {
        "short box": {"bbox": [15.0]},
        "no box": {"bbox": None, "geometry": None},
        "text box": {"bbox": ["w", "s", "e", "n"]},
        "id": {"id": {"a": 1}},
        "collection": {"collection": ["sentinel-1-rtc"]},
    }
    path.write_text(json.dumps({**content, **changes[damage]}))
    search = Search((15.0, 45.14, 15.01, 45.16), *np.asarray(["2024-03-01", "2024-03-31"], "M8[D]"))
    found = find(tmp_path / "c" / "catalog.json", search)
    left_out = {**found.left_out, **sort_items(found.items, "gamma0").left_out}
    assert ("{'a': 1}" if damage == "id" else "bad") in left_out and "good" not in left_out
    (tmp_path / "c" / "good" / "good.json").write_text(path.read_text())
    if damage not in ("collection", "id"):
        with pytest.raises(DataError, match=r"2 items, none over .*; bad "):
            find(tmp_path / "c" / "catalog.json", search)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("sat:orbit_state", "DESCENDING"),
        ("sat:orbit_state", "Descending "),
        ("sat:relative_orbit", 22.0),
        ("sat:relative_orbit", "22"),
        ("sat:relative_orbit", "022"),
        ("sat:relative_orbit", "22.0"),
    ],
)
def test_spellings_of_an_orbit_are_one_acquisition(tmp_path, key, value) -> None:
    one, other = radar(tmp_path, "one"), radar(tmp_path, "other")
    other.properties[key] = value
    found = sort_items([one, other])
    assert not found.left_out and len(found.acquisitions) == 1


@pytest.mark.parametrize(
    ("applied", "offset"),
    [(True, 0.0), ("true", 0.0), (1, 0.0), (False, -1000.0), ("False", -1000.0), (None, -1000.0)],
)
def test_the_offset_is_applied_only_where_the_item_says_so(tmp_path, applied, offset) -> None:
    item = sentinel2(tmp_path, "S", 2800, 5200, **{"s2:processing_baseline": "05.10"})
    item.properties["earthsearch:boa_offset_applied"] = applied
    assert boa_offset_of(item) == offset


@pytest.mark.parametrize("damage", ["cut", "absent", "text"])
@pytest.mark.parametrize("kind", ["radar", "optical"])
def test_a_file_that_cannot_be_read_costs_its_item(tmp_path, damage, kind) -> None:
    good = radar(tmp_path, "good")
    if kind == "radar":
        bad = radar(tmp_path, "bad")
        bad.datetime = datetime(2024, 3, 16, 5, 30, tzinfo=UTC)
    else:
        bad = sentinel2(tmp_path, "bad", 2800, 5200, **{"s2:processing_baseline": "05.10"})
    asset = next(iter(bad.assets.values()))
    file = Path(asset.href)
    if damage == "absent":
        file.unlink()
    else:
        whole = file.read_bytes()
        file.write_bytes(whole[:-60] if damage == "cut" else b"<html>busy</html>")
    report = prepared(tmp_path, good, bad)
    assert len(report.done) == 1 and len(report.left_out) == 1
    (why,) = report.left_out.values()
    assert "cannot be" in why or "is not there" in why


S2_NAME = "S2A_MSIL2A_20240301T100000_{baseline}_R022_T33TWN_{processed}"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (
            {"id": S2_NAME.format(baseline="N0301", processed="20240301T140000")},
            {"id": S2_NAME.format(baseline="N0510", processed="20240601T140000")},
        ),
        (
            {"id": S2_NAME.format(baseline="N0510", processed="20240301T140000")},
            {"id": S2_NAME.format(baseline="N0510", processed="20240601T140000")},
        ),
        ({"id": "B", "created": "2024-03-01T14:00Z"}, {"id": "A", "created": "2024-06-01T00:00Z"}),
        ({"id": "B", "updated": "2024-03-02T14:00Z"}, {"id": "A", "updated": "2024-06-01T00:00Z"}),
        ({"id": "B", "deprecated": True}, {"id": "A"}),
        ({"id": "S2A_33TWN_20240301_0"}, {"id": "S2A_33TWN_20240301_1", "s2:sequence": "1"}),
        (
            {"id": "A", "s2:processing_baseline": "05.09", "created": "2024-09-01T00:00:00Z"},
            {"id": "B", "s2:processing_baseline": "05.10", "created": "2024-03-01T00:00:00Z"},
        ),
        ({"id": "A", "processing:version": "9.0"}, {"id": "B", "processing:version": "10.0"}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kind", ["sentinel-2", "radar"])
def test_the_newest_version_of_a_scene_counts_and_the_other_is_named(
    tmp_path, old, new, kind
) -> None:
    made = []
    for value, given in ((1, old), (2, new)):
        facts = dict(given)
        name = facts.pop("id")
        if "processing:version" not in facts:
            facts.setdefault("s2:processing_baseline", "05.10")
        if kind == "radar":
            item = radar(tmp_path, name, power=0.01 * value)
        else:
            item = sentinel2(tmp_path, name, 2800, 2800 * value, **facts)
            item.properties["earthsearch:boa_offset_applied"] = True
        item.properties.update(facts)
        made.append(item)
    extra = [] if kind == "radar" else [radar(tmp_path)]
    for number, order in enumerate((made, made[::-1])):
        report = prepare_stack(
            "made", Found((*order, *extra), 2, "made"), GRID, tmp_path / f"out{number}"
        )
        pattern = "*_vh_gamma0.tif" if kind == "radar" else "ndvi_*.tif"
        (path,) = (tmp_path / f"out{number}").glob(pattern)
        with rasterio.open(path) as file:
            np.testing.assert_allclose(file.read(1), 0.02 if kind == "radar" else 1 / 3, rtol=1e-6)
            assert file.tags()["ITEMS"] == made[1].id
        assert report.left_out == {
            made[0].id: f"is an older version of {made[1].id}, which is used"
        }
        again = prepare_stack(
            "made", Found((*order, *extra), 2, "made"), GRID, tmp_path / f"out{number}"
        )
        assert all(done.kept for done in again.done) and again.left_out == report.left_out


def test_a_cloud_of_the_newest_version_hides_the_older_and_its_padding_does_not(tmp_path) -> None:
    old = sentinel2(tmp_path, "A", 2800, 5200, **{"s2:processing_baseline": "03.01"})
    new = sentinel2(tmp_path, "B", 2800, 5200, rows=TOP, **{"s2:processing_baseline": "05.10"})
    scl = np.zeros((SIDE, SIDE), np.uint8)
    scl[:6], scl[6:12] = 9, 4
    write(tmp_path / "B" / "SCL.tif", scl, 0)
    report = prepared(tmp_path, old, new, radar(tmp_path))
    ndvi = read(tmp_path, "ndvi_*.tif")
    assert np.isnan(ndvi[:6]).all() and not report.left_out
    np.testing.assert_allclose(ndvi[6:12], 0.4, rtol=1e-6)
    np.testing.assert_allclose(ndvi[12:], 0.3, rtol=1e-6)


def test_images_of_two_satellites_on_one_day_become_one(tmp_path) -> None:
    known = {"s2:processing_baseline": "03.01"}
    one = sentinel2(tmp_path, "A", 2000, 3000, rows=TOP, **known)
    two = sentinel2(tmp_path, "B", 1000, 3000, rows=LOW, **known)
    two.properties["platform"] = "sentinel-2b"
    two.datetime = datetime(2024, 3, 1, 10, 20, tzinfo=UTC)
    prepared(tmp_path, one, two, radar(tmp_path))
    ndvi = read(tmp_path, "ndvi_*.tif")
    np.testing.assert_allclose(ndvi[TOP], 0.2, rtol=1e-6)
    np.testing.assert_allclose(ndvi[LOW], 0.5, rtol=1e-6)


def test_an_item_with_padding_over_the_grid_is_named(tmp_path) -> None:
    empty = radar(tmp_path, "empty", power=0.0)
    report = prepared(tmp_path, empty, radar(tmp_path, "good"))
    assert report.left_out == {"empty": "has no number on the grid: only padding or missing values"}


def test_a_frame_without_vv_costs_its_vv_alone(tmp_path) -> None:
    one, two = radar(tmp_path, "S1A_1", rows=TOP), radar(tmp_path, "S1A_2", rows=LOW)
    values = np.full((SIDE, SIDE), 0.05, np.float32)
    one.add_asset("vv", pystac.Asset(write(tmp_path / "S1A_1" / "vv.tif", values)))
    prepared(tmp_path, one, two)
    assert np.isfinite(read(tmp_path, "*_vh_gamma0.tif")).all()
    assert np.isfinite(read(tmp_path, "*_vv_gamma0.tif")).all()


def test_a_frame_that_ends_early_costs_itself_alone(tmp_path) -> None:
    good, bad = radar(tmp_path, "good", rows=LOW), radar(tmp_path, "bad")
    path = tmp_path / "bad" / "vh.tif"
    path.write_bytes(path.read_bytes()[:-600])
    report = prepared(tmp_path, good, bad)
    assert list(report.left_out) == ["bad"] and "cannot be read" in report.left_out["bad"]
    vh = read(tmp_path, "*_vh_gamma0.tif")
    assert np.isnan(vh[TOP]).all() and np.isfinite(vh[LOW]).all()


def test_an_item_that_is_listed_twice_is_used_once(tmp_path) -> None:
    item = radar(tmp_path, "S1A_1")
    report = prepared(tmp_path, item, item)
    assert not report.left_out and len(report.done) == 1
    again = sentinel2(tmp_path, "S2", 2800, 5200, **{"s2:processing_baseline": "03.01"})
    newer = sentinel2(tmp_path / "n", "S2", 2800, 7200, **{"s2:processing_baseline": "05.10"})
    newer.collection_id = "sentinel-2-c1-l2a"
    report = prepared(tmp_path, item, again, newer)
    assert report.left_out == {
        "S2 of sentinel-2-l2a": "has the id of an item of sentinel-2-c1-l2a, which is used"
    }
    ndvi = (6200 - 1800) / (6200 + 1800)
    np.testing.assert_allclose(read(tmp_path, "ndvi_*.tif"), ndvi, rtol=1e-6)


def test_of_two_images_of_a_day_the_other_is_named(tmp_path) -> None:
    one = sentinel2(tmp_path, "S2", 2800, 5200, **{"s2:processing_baseline": "03.01"})
    other = landsat_item(tmp_path, "L8", "landsat-c2-l2")
    other.datetime = one.datetime
    report = prepared(tmp_path, one, other, radar(tmp_path))
    assert len(report.done) == 3 and report.left_out == {
        "ndvi_2024-03-01_landsat.tif": (
            "is of the same day as ndvi_2024-03-01_sentinel2.tif, which is used"
        )
    }
    scene = (tmp_path / "out" / "scene_022D.toml").read_text()
    assert "sentinel2" in scene and "landsat" not in scene


def test_the_kind_of_an_item_is_checked_by_level_type_and_values(tmp_path) -> None:
    known = {"s2:processing_baseline": "05.10"}
    level_1 = sentinel2(
        tmp_path, "S2A_MSIL1C_20240301T100000_N0510_R022_T33TWN", 2800, 5200, **known
    )
    counts = radar(tmp_path, "counts", power=500, dtype=np.uint16)
    unnamed = radar(tmp_path, "S1C_IW")
    unnamed.properties["platform"] = None
    unnamed.datetime = datetime(2024, 3, 16, 5, 30, tzinfo=UTC)
    report = prepared(tmp_path, level_1, counts, unnamed, radar(tmp_path))
    assert "Level 1C" in report.left_out[level_1.id] and "uint16" in report.left_out["counts"]
    assert [done.stem for done in report.done] == [
        "S1A_20240304T053000_022D", "S1C_20240316T053000_022D",
    ]  # fmt: skip
    with pytest.raises(DataError, match="holds only negative power; is it in decibels"):
        prepared(tmp_path / "b", radar(tmp_path / "b", "decibels", power=-15.0))


def test_the_scale_of_a_radar_file_is_applied(tmp_path) -> None:
    item = radar(tmp_path, "packed", power=100, dtype=np.uint16)
    with rasterio.open(item.assets["vh"].href, "r+") as file:
        file.scales, file.offsets = (1e-4,), (0.0,)
    prepared(tmp_path, item)
    np.testing.assert_allclose(read(tmp_path, "*_vh_gamma0.tif"), 0.01, rtol=1e-6)


@pytest.mark.parametrize(
    ("scale", "offset", "zero"),
    [(1e-4, -0.05, 500), (1e-4, -0.0029, 29), (float(np.float32(1e-4)), -0.0029, 29)],
)
def test_the_number_of_no_power_has_no_weight_whatever_the_offset(
    tmp_path, scale: float, offset: float, zero: int
) -> None:
    item = radar(tmp_path, "packed", power=zero + 100, dtype=np.uint16)
    with rasterio.open(item.assets["vh"].href, "r+") as file:
        values = file.read(1)
        values[::2] = zero  # decodes to a power of 0, but for rounding
        file.write(values, 1)
        file.scales, file.offsets = (scale,), (offset,)
    coarse = Grid(GRID.crs, (40.0, 0, 500000.0, 0, -40.0, 5000000.0), SIDE // 4, SIDE // 4)
    prepare_stack(
        "made", Found((item,), 1, "made"), coarse, tmp_path / "out", StackOptions(angle_deg=38.0)
    )
    np.testing.assert_allclose(read(tmp_path, "*_vh_gamma0.tif"), 0.01, rtol=1e-6)
