"""Items of one day with different offsets, padding, levels and types: each by its own metadata."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest

pystac = pytest.importorskip("pystac")
rasterio = pytest.importorskip("rasterio")
pytest.importorskip("pystac_client")

from kgsm_infer.prepare.catalogue import Found, time_of  # noqa: E402
from kgsm_infer.prepare.items import boa_offset_of, sort_items  # noqa: E402
from kgsm_infer.prepare.stack import prepare_stack  # noqa: E402
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
    return prepare_stack(
        "made", Found(items, len(items), "made"), GRID, tmp_path / "out", angle_deg=38.0, **options
    )


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

    from kgsm_infer.base.errors import DataError
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
