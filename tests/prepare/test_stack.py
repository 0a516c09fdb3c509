"""prepare stack on a static catalogue made here, and on an API on the loopback that may fail."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from made_catalogue import BOX, CRS, LEFT, SIDE, STEP, TOP, Faults, raster, served, static_catalogue
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.base.errors import DataError, KgsmError, MissingError, UsageError
from kgsm_infer.base.network import open_session
from kgsm_infer.prepare.catalogue import Search, find, signer
from kgsm_infer.prepare.download import Asset, at_hand
from kgsm_infer.prepare.items import sort_items
from kgsm_infer.prepare.stack import StackOptions, prepare_stack, report_lines
from kgsm_infer.scenes.grid import Grid, Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("pystac_client", reason="pystac-client is not installed")

GRID = Grid(
    rasterio.crs.CRS.from_user_input(CRS).to_wkt(), (STEP, 0, LEFT, 0, -STEP, TOP), SIDE, SIDE
)
ALL = Search(BOX, np.datetime64("2024-03-01"), np.datetime64("2024-03-31"))


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    return static_catalogue(tmp_path / "catalogue")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries without waiting."""
    monkeypatch.setattr("urllib3.util.retry.Retry.get_backoff_time", lambda _: 0.0)


def band(path: Path) -> np.ndarray:
    with rasterio.open(path) as dataset:
        return dataset.read(1)


def check_scene(folder: Path) -> None:
    """Numbers, orbits and manifests of the made catalogue."""
    names = sorted(path.name for path in folder.glob("scene_*.toml"))
    assert names == ["scene_022D.toml", "scene_044A.toml"]
    vh = band(folder / "S1A_20240316T053000_022D_vh_gamma0.tif")
    assert_allclose(vh[6:], 0.014, rtol=1e-6)
    assert np.isnan(vh[:6]).all()  # the product's own nodata
    ndvi = band(folder / "ndvi_2024-03-01_sentinel2.tif")
    assert_allclose(ndvi[:20], 0.6, atol=2e-3)
    assert np.isnan(ndvi[20:30]).all()  # cloud
    assert_allclose(band(folder / "ndvi_2024-03-12_landsat.tif")[30:], 0.7, atol=2e-3)
    stack = open_stack(read_scene(folder / "scene_022D.toml"), "vh", ["ndvi", "angle_deg"])
    assert [str(date)[:10] for date in stack.dates] == ["2024-03-04", "2024-03-16"]
    with Reader(stack) as reader:
        window = Window(40, 0, 4, 4)
        sigma0 = reader.column("vh_db", 1, window)
        assert_allclose(sigma0, 10 * np.log10(0.014 * np.cos(np.radians(38))), atol=1e-4)
        # between 03-01 (.6) and 03-12 (.7), on 03-04
        assert_allclose(reader.column("ndvi", 0, window), 0.6 + 0.1 * 2.82 / 10.99, atol=5e-3)


def test_a_static_catalogue(catalogue, tmp_path):
    found = find(catalogue, ALL)
    assert found.how == "read item by item"
    report = prepare_stack(catalogue, found, GRID, tmp_path / "out")
    check_scene(tmp_path / "out")
    assert report.left_out == {}
    assert all(taken.checked for done in report.done for taken in done.taken)
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert {done["stem"] for done in said["done"]} >= {"S1A_20240310T165000_044A"}
    assert not [path for path in (tmp_path / "out").iterdir() if path.name.startswith(".part")]
    again = prepare_stack(catalogue, found, GRID, tmp_path / "out")
    assert all(done.kept for done in again.done)


def test_an_api_on_the_loopback(catalogue, tmp_path, quick):
    faults = Faults(busy=2)  # the first two answers are 503
    with served(catalogue, faults) as url:
        found = find(url, ALL)
        assert found.how == "asked its search"
        assert len(found.items) == 5  # three pages
        report = prepare_stack(url, found, GRID, tmp_path / "out")
    check_scene(tmp_path / "out")
    assert sum(taken.bytes for done in report.done for taken in done.taken) > 50_000
    assert all(taken.checked for done in report.done for taken in done.taken)


@pytest.mark.parametrize("ranges", [True, False])
def test_a_download_that_breaks_off_is_taken_up_again(catalogue, tmp_path, quick, ranges):
    file = next(catalogue.parent.rglob("vh.rtc.tif"))
    faults = Faults(cut=4000, cut_times=3, ranges=ranges)
    with served(catalogue, faults) as url:
        asset = Asset(url + str(file.relative_to(catalogue.parent)))
        local = at_hand(asset, tmp_path, open_session("a test"))
    assert Path(local.path).read_bytes() == file.read_bytes()
    again = [asked for asked in faults.asked if "bytes=" in asked]
    assert [asked.split("bytes=")[1] for asked in again] == (
        ["4000-", "8000-", "12000-"] if ranges else ["4000-", "4000-", "4000-"]
    )


def test_half_a_download_stays_and_goes_on_next_time(catalogue, tmp_path, quick):
    faults = Faults(cut=1000, cut_times=999)
    with served(catalogue, faults) as url:
        found = find(url, ALL)
        with pytest.raises(MissingError, match=r"broke off after .* call again to go on there"):
            prepare_stack(url, found, GRID, tmp_path / "out")
        left = sorted(path.name for path in (tmp_path / "out").iterdir())
        assert left == [".cache"]
        parts = sorted((tmp_path / "out" / ".cache").iterdir())
        had = parts[0].stat().st_size
        assert len(parts) == 5 and had >= 1000  # the first file of each item
        faults.cut_times = 0
        faults.asked.clear()
        prepare_stack(url, found, GRID, tmp_path / "out")
    assert any(f"bytes={had}-" in asked for asked in faults.asked)
    check_scene(tmp_path / "out")


@pytest.mark.parametrize("status", [404, 403, 500])
def test_an_item_that_cannot_be_downloaded_is_left_out(catalogue, tmp_path, quick, status):
    faults = Faults(refused={"S1A_22_2024-03-04/vh.rtc.tif": status})
    with served(catalogue, faults) as url:
        found = find(url, ALL)
        for _ in range(2):  # another run names it again
            report = prepare_stack(url, found, GRID, tmp_path / "out")
            assert list(report.left_out) == ["S1A_22_2024-03-04"]
            assert str(status) in report.left_out["S1A_22_2024-03-04"]
            assert str(status) in (tmp_path / "out" / "report.json").read_text()
            assert any("left out S1A_22" in line for line in report_lines(report, tmp_path))
            assert len(report.done) == 4
        faults.refused.clear()
        assert not prepare_stack(url, found, GRID, tmp_path / "out").left_out
    check_scene(tmp_path / "out")


def test_downloads_that_all_fail_are_an_error(catalogue, tmp_path, quick):
    why = r"no radar pass .*S1A_22.*vh\.rtc\.tif: 404"
    with (
        served(catalogue, Faults(refused={"vh.rtc.tif": 404})) as url,
        pytest.raises(MissingError, match=why),
    ):
        prepare_stack(url, find(url, ALL), GRID, tmp_path / "out")
    assert not list((tmp_path / "out").glob("scene*")) + list((tmp_path / "out").glob("report*"))


def test_a_damaged_file_is_left_out_by_its_checksum(catalogue, tmp_path):
    file = next(catalogue.parent.rglob("vh.rtc.tif"))

    def reason():
        report = prepare_stack(catalogue, find(catalogue, ALL), GRID, tmp_path / "out")
        assert report.done and report.manifests
        return " ".join(report.left_out.values())

    content = bytearray(file.read_bytes())
    content[-5] ^= 1
    file.write_bytes(content)
    assert "its checksum is not the catalogue's" in reason()
    file.write_bytes(content[:-100])
    assert re.search(r"its catalogue says \d+; half a download", reason())
    file.unlink()
    assert "is named in the catalogue and is not there" in reason()
    stem = "S1A_" + re.sub("-", "", file.parent.name[-10:])
    assert not list((tmp_path / "out").glob(f"{stem}*"))


def test_a_large_file_is_read_where_it_is(catalogue, tmp_path):
    """In a process of its own: GDAL waits for the server with Python's lock held."""
    call = ["--from", "2024-03-01", "--to", "2024-03-31", "--whole-mb", "0"]
    call += ["--bounds", ",".join(map(str, BOX)), "-o", str(tmp_path / "out")]
    with served(catalogue, Faults()) as url:
        command = [sys.executable, "-m", "kgsm_infer.app.cli", "prepare", "stack", url, *call]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "0.0 MB downloaded" in done.stdout
    (path,) = (tmp_path / "out").glob("S1A_20240304T053000_022D_vh_gamma0.tif")
    assert abs(np.nanmedian(band(path)) - 0.010) < 1e-6
    assert not (tmp_path / "out" / ".cache").exists()


def test_a_signed_address(catalogue, tmp_path):
    faults = Faults()
    with served(catalogue, faults) as url:
        sign = signer(url, url + "sign")
        assert sign("http://x/a.tif") == "http://x/a.tif?signed=yes"
        found = find(url, ALL)
        prepare_stack(url, found, GRID, tmp_path / "out", StackOptions(sign=sign))
        assert any("vh.rtc.tif" in asked for asked in faults.asked)
    check_scene(tmp_path / "out")


def test_frames_of_a_pass_become_one_image(tmp_path):
    """Two frames side by side, 25 s apart, and the same orbit twelve days later."""
    catalogue = static_catalogue(tmp_path / "catalogue")
    found = find(catalogue, ALL)
    radar = [item for item in found.items if item.collection_id == "sentinel-1-rtc"]
    first = radar[0]
    second = first.clone()
    second.id, second.datetime = "next", first.datetime.replace(second=25)
    other = np.full((SIDE, SIDE), 0.5, np.float32)
    for key in second.assets:
        path = raster(tmp_path / f"{key}.tif", other, left=LEFT + 200)
        second.assets[key].href = str(path)
        second.assets[key].extra_fields = {}
    grouped = sort_items([*found.items, second])
    assert [len(one.items) for one in grouped.acquisitions if one.kind == "radar"] == [2, 1, 1]
    wide = Grid(GRID.crs, GRID.transform, SIDE + 20, SIDE)
    both = found.__class__((*found.items, second), 6, "")
    prepare_stack(catalogue, both, wide, tmp_path / "out")
    vh = band(tmp_path / "out" / "S1A_20240304T053000_022D_vh_gamma0.tif")
    assert_allclose(vh[6:, :SIDE], 0.010, rtol=1e-6)  # the first frame's stand
    assert_allclose(vh[:, SIDE:], 0.5)
    assert_allclose(vh[:6, 20:], 0.5)  # where the first has none


def test_what_is_left_out_says_why(catalogue, tmp_path):
    found = find(catalogue, ALL)
    items = {item.id: item for item in found.items}
    one, two, three = (items[name] for name in sorted(items) if name.startswith("S1A"))
    one.collection_id = "unheard-of"
    del two.properties["sat:relative_orbit"]
    three.assets = {"thumbnail": three.assets["vh"]}
    wanted = sort_items(found.items)
    reasons = " ".join(wanted.left_out[item.id] for item in (one, two, three))
    assert re.search("--radar.*relative orbit and direction.*neither vh nor vv", reasons)
    with pytest.raises(DataError, match="holds no radar item that can be used; S1A"):
        prepare_stack(catalogue, found, GRID, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert len(sort_items([one], "sigma0_db").acquisitions) == 1
    with pytest.raises(UsageError, match="is not one of"):
        sort_items([one], "power")


def test_decibels_are_moved_and_never_averaged(tmp_path, catalogue):
    found = find(catalogue, ALL)
    radar = next(item for item in found.items if item.collection_id == "sentinel-1-rtc")
    stripes = np.where(np.arange(SIDE)[:, None] % 2, -10, -20) * np.ones((SIDE, SIDE), np.float32)
    for key in ("vh", "vv"):
        radar.assets[key].href = str(raster(tmp_path / f"{key}.tif", stripes.astype(np.float32)))
        radar.assets[key].extra_fields = {}
    radar.collection_id = "home-made"
    coarse = Grid(GRID.crs, (20, 0, LEFT, 0, -20, TOP), SIDE // 2, SIDE // 2)
    one = found.__class__((radar,), 1, "")
    prepare_stack(catalogue, one, coarse, tmp_path / "out", StackOptions(radar="sigma0_db"))
    (path,) = (tmp_path / "out").glob("*_vh_sigma0_db.tif")
    assert set(np.unique(band(path))) <= {-10.0, -20.0}
    assert "vh_db" in read_scene(tmp_path / "out" / "scene_022D.toml").layers


def test_simulated_rasters_say_so_in_the_scene(catalogue, tmp_path):
    found = find(catalogue, ALL)
    path = next(catalogue.parent.rglob("S1A_22_2024-03-04/vh.rtc.tif"))
    with rasterio.open(path, "r+") as dataset:
        dataset.update_tags(SIMULATED="SIMULATED by a test")
    for item in found.items:
        for asset in item.assets.values():
            asset.extra_fields = {}
    for _ in range(2):  # kept files say it too
        prepare_stack(catalogue, found, GRID, tmp_path / "out")
        scene = read_scene(tmp_path / "out" / "scene_022D.toml")
        assert scene.title.startswith("SIMULATED") and scene.simulated
        assert not read_scene(tmp_path / "out" / "scene_044A.toml").simulated


def nothing_there(catalogue: Path) -> str:
    shutil.rmtree(catalogue.parent)
    return str(catalogue)


def cut_json(catalogue: Path) -> str:
    catalogue.write_text(catalogue.read_text()[:100])
    return str(catalogue)


def cut_item(catalogue: Path) -> str:
    path = next(path for path in catalogue.parent.rglob("S1A*.json"))
    path.write_text(path.read_text()[:200])
    return str(catalogue)


def no_item(catalogue: Path) -> str:
    next(path for path in catalogue.parent.rglob("S1A*.json")).unlink()
    return str(catalogue)


def empty(catalogue: Path) -> str:
    content = json.loads(catalogue.read_text())
    content["links"] = [link for link in content["links"] if link["rel"] != "child"]
    catalogue.write_text(json.dumps(content))
    return str(catalogue)


def no_catalogue(catalogue: Path) -> str:
    catalogue.write_text('{"a": 1}')
    return str(catalogue)


@pytest.mark.parametrize(
    ("breaks", "reason"),
    [
        (nothing_there, "no such file; name a STAC catalogue"),
        (cut_json, "not whole JSON"),
        (empty, "holds no item over"),
        (no_catalogue, "not a STAC catalogue"),
        (lambda _: "http://127.0.0.1:9/", "offline"),
    ],
)
def test_a_broken_catalogue_is_one_line_and_leaves_nothing(
    catalogue, tmp_path, quick, breaks, reason
):
    call = ["prepare", "stack", breaks(catalogue), "--from", "2024-03-01", "--to", "2024-03-31"]
    call += ["--bounds", ",".join(map(str, BOX)), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert isinstance(result.exception, KgsmError), result.exception
    assert re.search(reason, str(result.exception)), result.exception
    assert "\n" not in str(result.exception)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("breaks", "reason"), [(cut_item, "not whole JSON"), (no_item, "which is not there")]
)
def test_an_item_of_a_catalogue_that_cannot_be_read_is_left_out(
    catalogue, tmp_path, breaks, reason
):
    call = ["prepare", "stack", breaks(catalogue), "--from", "2024-03-01", "--to", "2024-03-31"]
    call += ["--bounds", ",".join(map(str, BOX)), "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.exception
    assert re.search(rf"left out \S+S1A\S+json: .*{reason}", result.output), result.output
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert len(report["done"]) == 4
    assert [reason in why for why in report["left_out"].values()] == [True]


def test_a_catalogue_with_byte_order_marks_is_read(catalogue):
    for path in catalogue.parent.rglob("*.json"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = find(catalogue, ALL)
    assert len(found.items) == 5 and not found.left_out


def test_a_catalogue_with_links_back_up_is_read_once(catalogue):
    for path in catalogue.parent.rglob("collection.json"):
        collection = json.loads(path.read_text())
        for name in (path, catalogue):
            collection["links"].append({"rel": "child", "href": str(name)})
        path.write_text(json.dumps(collection))
    found = find(catalogue, ALL)
    assert (len(found.items), found.looked_at, found.left_out) == (5, 5, {})


def test_box_and_days_of_a_static_catalogue(catalogue):
    days = np.datetime64("2024-03-10"), np.datetime64("2024-03-10")
    assert [item.id for item in find(catalogue, Search(BOX, *days)).items] == ["S1A_44_2024-03-10"]
    with pytest.raises(DataError, match="holds 5 items, none over"):
        find(catalogue, Search((100.0, 10.0, 101.0, 11.0), ALL.start, ALL.end))
    with pytest.raises(DataError, match=r"has no collection x; it has landsat-c2-l2, "):
        find(catalogue, Search(BOX, *days, ("x",)))
    with pytest.raises(UsageError, match="lies after"):
        find(catalogue, Search(BOX, ALL.end, ALL.start))


def test_the_command_for_a_paddock_file(catalogue, tmp_path):
    west, south, east, north = BOX
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    feature = {"type": "Feature", "id": "a", "properties": {}, "geometry": geometry}
    fields = tmp_path / "fields.geojson"
    fields.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    call = ["prepare", "stack", str(catalogue), "--from", "2024-03-01", "--to", "2024-03-31"]
    call += ["--fields", str(fields), "-o", str(tmp_path / "out")]
    dry = CliRunner().invoke(app, [*call, "--dry-run"])
    assert dry.exit_code == 0, dry.output
    assert "S1A_20240310T165000_044A: 1 items, vh, vv, angle" in dry.output
    assert not (tmp_path / "out").exists()
    result = CliRunner().invoke(app, call)
    assert result.exit_code == 0, result.output
    assert "3 files, 3 checked by checksum" in result.output
    assert "scene_044A.toml" in result.output


def test_a_static_catalogue_on_a_server(catalogue, tmp_path, quick):
    with served(catalogue, Faults()) as url:
        found = find(url + "catalog.json", ALL)
        assert found.how == "read item by item"
        report = prepare_stack(url, found, GRID, tmp_path / "out")
    check_scene(tmp_path / "out")
    assert all(taken.href.startswith(url) for done in report.done for taken in done.taken)
