"""Scenes in the spool: a paddock's row is the mean of its pixels, and the archive keeps rows."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from made_gateways import Events, made_gateway, made_model, scanned, stored
from made_scenes import DATES, NORTH, STEP, WEST, make_pixels, write_scene

from kgsm_infer import load
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.health import Process, health_of
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.paddocks.of_scene import paddocks_of_scene
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.table import table_from_columns

pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")


def square(left, top, width, height):
    """A polygon of pixel edges, in the scene's CRS."""
    west, north = WEST + STEP * left, NORTH - STEP * top
    east, south = west + STEP * width, north - STEP * height
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {"type": "Polygon", "coordinates": [ring]}


def outlines(path, shapes):
    features = [
        {"type": "Feature", "id": name, "properties": {"clay": 20.0}, "geometry": shape}
        for name, shape in shapes.items()
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32631"}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))


@pytest.fixture
def gateway(tmp_path):
    model = made_model(tmp_path / "m")
    outlines(
        tmp_path / "fields.geojson",
        {"a": square(2, 3, 8, 6), "b": square(15, 5, 6, 10), "off": square(500, 500, 4, 4)},
    )
    text = '[paddocks]\noutlines = "fields.geojson"\n'
    gateway = made_gateway(tmp_path, text, model=model)
    gateway.spool.mkdir()
    return gateway


def test_a_scene_is_the_means_of_its_paddocks(gateway):
    pixels = make_pixels()
    manifest = write_scene(gateway.spool, pixels)
    lines = paddocks_of_scene(
        load(gateway.model),
        read_scene(manifest),
        read_outlines(gateway.outlines),
        gateway.spool.parent / "lines.csv",
        RetrievalOptions(every=True),
    )
    events = scanned(gateway)
    assert events.named("stored"), events
    rows = {"site": [], "date": [], "vh_db": [], "ndvi": [], "angle_deg": []}
    for name, (rows_of, cols) in {"a": (slice(3, 9), slice(2, 10)),
                                  "b": (slice(5, 15), slice(15, 21))}.items():  # fmt: skip
        for at, date in enumerate(DATES):
            rows["site"].append(name)
            rows["date"].append(date)
            for column in ("vh_db", "ndvi", "angle_deg"):
                values = pixels.planes[column][at, rows_of, cols]
                power = 10 ** (values / 10) if column == "vh_db" else values
                mean = float(np.nanmean(power))
                rows[column].append(10 * np.log10(mean) if column == "vh_db" else mean)
    expected = load(gateway.model).predict(table_from_columns(rows))
    found = stored(gateway)
    assert {key[0] for key in found} == {"a", "b"}
    for at, (name, date) in enumerate(zip(rows["site"], rows["date"], strict=True)):
        key = (name, int(np.datetime64(date, "s").astype(np.int64)), "")
        assert found[key].sm == pytest.approx(float(expected.sm[at]), abs=5e-6)
    for line in lines:  # the command gives the same value as the gateway
        if line.id == "off":
            assert np.isnan(line.sm)
            continue
        key = (line.id, int(np.datetime64(line.date, "s").astype(np.int64)), "")
        assert found[key].sm == pytest.approx(line.sm, abs=1e-6)
        assert found[key].sm_lower == pytest.approx(line.sm_lower, abs=1e-6)
        assert line.sm_p10 < line.sm_p90
    # the manifest and its rasters are gone from the spool; the archive is enough
    assert not manifest.exists()
    assert not list(gateway.spool.rglob("*.tif"))
    (kept,) = gateway.archive.glob("*.csv")
    with kept.open() as file:
        assert len(list(csv.DictReader(file))) == 8
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    assert scanned(gateway).named("processing_again")
    again = stored(gateway)
    assert {key: value.sm for key, value in again.items()} == pytest.approx(
        {key: value.sm for key, value in found.items()}, abs=2e-6
    )


def test_a_paddock_mostly_without_pixels_has_no_number(gateway):
    pixels = make_pixels()
    planes = {name: plane.copy() for name, plane in pixels.planes.items()}
    planes["vh_db"][-1, 3:9, 2:8] = np.nan  # three quarters of a on the last date
    write_scene(gateway.spool, type(pixels)(planes, pixels.dates))
    scanned(gateway)
    last = int(np.datetime64(DATES[-1], "s").astype(np.int64))
    value = stored(gateway)["a", last, ""]
    assert value.sm is None
    assert "missing_input" in value.flags


def test_scenes_are_not_read_again_by_new_outlines_and_the_log_says_so(gateway, monkeypatch):
    write_scene(gateway.spool, make_pixels())
    scanned(gateway)
    before = stored(gateway)
    path = gateway.outlines
    outlines(path, {"a": square(2, 3, 8, 6), "b": square(15, 5, 6, 10), "c": square(3, 12, 6, 5)})
    (event,) = scanned(gateway).named("scenes_not_read_again")
    assert event["count"] == 1 and "drop the scenes again" in event["reason"]
    assert stored(gateway) == before
    assert not scanned(gateway).named("scenes_not_read_again")
    watch = Watch(gateway, load_paddocks(gateway), Events())
    watch.open()  # at every start until the paddock has a value
    noted = watch.unread_scenes
    assert (noted.scenes, noted.paddocks) == (1, ("c",))
    assert (
        health_of(gateway, watch.store, None, Process(unread_scenes=noted)).unread_scenes is noted
    )
    with monkeypatch.context() as patched:  # a scan reads no sidecars for it
        patched.setattr("kgsm_infer.gateway.service.watch.list_archive", None)
        watch.scan()
    assert watch.unread_scenes == noted
    write_scene(gateway.spool, make_pixels())  # dropped again, the new paddock counts
    watch.scan(first=True)
    assert watch.unread_scenes is None
    watch.close()
    assert {key[0] for key in stored(gateway)} == {"a", "b", "c"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("x = [", "not a scene manifest"),
        ('[layers.vh_db]\nfiles = "none*.tif"\n', "no file matches"),
        ("[layers.vh_db]\nvalue = -17.0\n", "no layer 'ndvi', which the model reads"),
    ],
)
def test_a_bad_manifest_goes_to_quarantine(gateway, content, reason):
    (gateway.spool / "scene.toml").write_text(content)
    scanned(gateway)
    assert reason in (gateway.quarantine / "scene.toml.reason.txt").read_text()


def test_a_scene_without_outlines_is_refused(tmp_path):
    gateway = made_gateway(tmp_path)
    gateway.spool.mkdir()
    write_scene(gateway.spool, make_pixels())
    events = scanned(gateway)
    assert "a scene needs paddocks" in events.named("quarantined")[0]["reason"]


@pytest.mark.realdata
def test_worldcereal(tmp_path, shared_data):
    """A year of real monthly composites: one manifest outside the data, three made outlines."""
    import rasterio

    (source,) = sorted((shared_data / "worldcereal").glob("*.nc"))[:1]
    with rasterio.open(f'netcdf:"{source}":S1-SIGMA0-VH') as data:
        west, south, east, _ = data.bounds
        crs = data.crs.to_epsg()
    step = (east - west) / 4
    shapes = {
        f"w{at}": {"type": "Polygon", "coordinates": [[
            [west + step * at + 20, south + 100], [west + step * at + 220, south + 100],
            [west + step * at + 220, south + 300], [west + step * at + 20, south + 300],
            [west + step * at + 20, south + 100],
        ]]} for at in range(3)
    }  # fmt: skip
    outlines(tmp_path / "fields.geojson", shapes)
    text = (tmp_path / "fields.geojson").read_text().replace("32631", str(crs))
    (tmp_path / "fields.geojson").write_text(text)
    gateway = made_gateway(
        tmp_path, '[paddocks]\noutlines = "fields.geojson"\n', model=made_model(tmp_path / "m")
    )
    gateway.spool.mkdir()
    (gateway.spool / "year.toml").write_text(
        f'preset = "worldcereal"\nfiles = "{source}"\n[layers.angle_deg]\nvalue = 39.0\n'
    )
    events = scanned(gateway)
    assert events.named("stored"), events
    found = stored(gateway)
    assert {key[0] for key in found} == set(shapes)
    assert len(found) == 36
    assert source.exists()  # data elsewhere are never touched
    assert sum(value.sm is not None for value in found.values()) > 20
