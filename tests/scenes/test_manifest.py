"""Manifests: what is read, what is refused and in which words. Needs no raster library."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, KgsmError
from kgsm_infer.scenes.layers import date_in
from kgsm_infer.scenes.manifest import read_scene, scene_from
from kgsm_infer.scenes.presets import PRESETS


def _touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def test_toml_and_json_say_the_same(tmp_path: Path) -> None:
    raw = {
        "title": "t",
        "layers": {"vh_db": {"file": "a.tif", "dates": ["2024-03-04"]}, "clay": {"value": 12}},
    }
    (tmp_path / "s.json").write_text(json.dumps(raw))
    (tmp_path / "s.toml").write_text(
        'title = "t"\n[layers.vh_db]\nfile = "a.tif"\ndates = [2024-03-04]\n'
        "[layers.clay]\nvalue = 12\n"
    )
    one, other = read_scene(tmp_path / "s.json"), read_scene(tmp_path / "s.toml")
    assert one.layers == other.layers
    assert one.layers["vh_db"].slices[0].path == str(tmp_path / "a.tif")
    assert one.layers["vh_db"].slices[0].date == np.datetime64("2024-03-04")


def test_a_relative_manifest_names_files_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _touch(tmp_path, "sub/s1/20240304.tif", "sub/20240304.tif")
    monkeypatch.chdir(tmp_path)
    for files in ('"s1/*.tif"', '["s1/20240304.tif"]', '{2024-03-04 = "s1/20240304.tif"}'):
        Path("sub/s.toml").write_text(f"[layers.vh_db]\nfiles = {files}\n")
        (item,) = read_scene("sub/s.toml").layers["vh_db"].slices
        assert Path(item.path) == Path("sub/s1/20240304.tif")


def test_files_come_in_date_order_whatever_their_names(tmp_path: Path) -> None:
    _touch(tmp_path, "b_20240304T053012_VH.tif", "a_20240316T053012_VH.tif")
    scene = scene_from({"layers": {"vh_db": {"files": "*.tif"}}}, "s", tmp_path)
    dates = [item.date for item in scene.layers["vh_db"].slices]
    assert dates == [np.datetime64("2024-03-04T05:30:12"), np.datetime64("2024-03-16T05:30:12")]


@pytest.mark.parametrize(
    ("name", "date"),
    [
        ("S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_VH.tif", "2018-01-28T16:12:01"),
        (
            "OPERA_L2_RTC-S1_T012-023790-IW1_20230609T123456Z_20230610T010203Z_S1A_30_v1.0_VH.tif",
            "2023-06-09T12:34:56",
        ),
        ("S1A_IW_GRDH_1SDV_20220101T001122_20220101T001147_rtc/iw-vh.rtc.tiff",
         "2022-01-01T00:11:22"),
        ("s1-grd-sigma0-asc-weekly_2024-03-04_2024-03-10_VV-VH_last.tif", "2024-03-04"),
    ],
)  # fmt: skip
def test_the_first_date_of_a_name_is_the_acquisition(name: str, date: str) -> None:
    assert date_in(name) == np.datetime64(date)


@pytest.mark.parametrize("name", ["vh.tif", "20241399.tif", "v1234567890.tif", "2024-1-5.tif"])
def test_what_is_no_date_is_not_taken_for_one(name: str) -> None:
    assert date_in(name) is None


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ({}, "names no layers"),
        ({"layer": {}}, "layer is not a known key; did you mean layers?"),
        ({"layers": {"vh_db": {"value": 1, "file": "x"}}}, "give one of files, file, value"),
        (
            {"layers": {"vh_db": {"valu": 1}}},
            "layers.vh_db.valu is not a known key; did you mean value?",
        ),
        ({"layers": {"vh_db": {"files": "*.nothing"}}}, "no file matches '*.nothing'"),
        ({"layers": {"vh_db": {"files": "."}}}, "files: '.' is a folder; name its files"),
        ({"layers": {"vh_db": {"files": "./"}}}, "files: './' is a folder; name its files"),
        ({"layers": {"vh_db": {"files": "a**"}}}, "files: 'a**' is not a pattern of files"),
        ({"layers": {"vh_db": {"files": "///x"}}}, "files: '///x' is not a pattern of files"),
        ({"layers": {"vh_db": {"files": ["vh.tif"]}}}, "no date in the name of "),
        (
            {"layers": {"vh_db": {"files": ["a/20240304.tif", "b/20240304.tif"]}}},
            "two files of 2024-03-04",
        ),
        ({"layers": {"vh_db": {"value": 1}, "vh_linear": {"value": 1}}}, "one backscatter twice"),
        ({"layers": {"ndvi": {"file": "n.tif", "match": "nearest"}}}, "needs max_gap_days"),
        (
            {"layers": {"ndvi": {"file": "n.tif", "match": "closest"}}},
            "layers.ndvi.match is closest, expected one of exact, nearest, linear",
        ),
        (
            {"layers": {"ndvi": {"file": "n.tif", "resample": "lanczos"}}},
            "layers.ndvi.resample is lanczos, expected one of refuse, nearest",
        ),
        (
            {"layers": {"ndvi": {"file": "n.tif", "scale": "1e-4"}}},
            "layers.ndvi.scale is 1e-4, expected a number",
        ),
        (
            {"layers": {"ndvi": {"file": "n.tif", "dates": ["4 March"]}}},
            "layers.ndvi.dates[0] is 4 March, expected a date such as 2024-03-04",
        ),
        ({"layers": {"vh_linear": {"file": "n.tif", "amplitude_db": -83}}}, "must end in _db"),
        ({"preset": "sentinel"}, "preset is sentinel, expected one of earthengine-grd"),
        ({"preset": "cdse"}, 'needs files = "folder/pattern"'),
        ({"preset": "cdse", "files": "*.none"}, "no file matches '*.none'"),
        (
            {"layers": {"vh_db": {"value": 1}}, "grid": {"crs": "EPSG:4326"}},
            "grid.bounds is missing, expected a list of 4 values",
        ),
    ],
)
def test_a_wrong_manifest_is_refused_by_its_key(
    tmp_path: Path, raw: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError) as refusal:
        scene_from(raw, "scene.toml", tmp_path)
    assert str(refusal.value).startswith("scene.toml") and words in str(refusal.value)


@pytest.mark.parametrize("content", ["[layers", "not toml at all", "\0\1"])
def test_what_is_no_manifest_is_refused(tmp_path: Path, content: str) -> None:
    (tmp_path / "s.toml").write_text(content)
    with pytest.raises(DataError, match="not a scene manifest in TOML"):
        read_scene(tmp_path / "s.toml")


def test_presets_say_unit_and_files(tmp_path: Path) -> None:
    _touch(
        tmp_path,
        "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_VH.tif",
        "S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_inc_map_ell.tif",
    )
    scene = scene_from({"preset": "hyp3-rtc", "files": ""}, "s", tmp_path)
    assert set(scene.layers) == {"vh_gamma0_linear", "angle_deg"}  # no VV was downloaded
    assert scene.layers["angle_deg"].scale == pytest.approx(57.29578)
    assert scene.backscatter("vh") == "vh_gamma0_linear"


def test_a_layer_changes_the_preset_and_its_files_replace_the_presets(tmp_path: Path) -> None:
    raw = {
        "preset": "worldcereal",
        "files": "w.nc",
        "layers": {"red": {"match": "linear", "max_gap_days": 40}, "nir": {"value": 0.3}},
    }
    scene = scene_from(raw, "s", tmp_path)
    assert scene.layers["red"].cube == f'netcdf:"{tmp_path}/w.nc":S2-L2A-B04'
    assert (scene.layers["red"].match, scene.layers["red"].scale) == ("linear", 1e-4)
    assert (scene.layers["nir"].value, scene.layers["nir"].cube) == (0.3, None)


def test_every_preset_is_a_manifest(tmp_path: Path) -> None:
    _touch(tmp_path, "20240304_VH.tif", "20240304_VV.tif", "20240304vh.rtc.tif",
           "20240304_inc_map_ell.tif")  # fmt: skip
    for name in PRESETS:
        files = "*_VH.tif" if name in ("earthengine-grd", "cdse", "worldcereal") else ""
        scene = scene_from({"preset": name, "files": files}, "s", tmp_path)
        assert scene.backscatter("vh").startswith("vh_")


@pytest.mark.parametrize(
    ("bounds", "resolution", "words"),
    [
        ([0, 0, 1e7, 1e7], 1e-3, "pixels are more than any map can have"),
        ([0, 0, 1, 1], 10**400, "resolution"),
        ([0, 0, float("inf"), 1], 1, "grid.bounds[2] is inf, expected a finite number"),
        ([0, 0, float("nan"), 1], 1, "grid.bounds[2] is nan, expected a finite number"),
        ([0, 0, 0, 1], 1, "hold no pixel"),
        (3, "x", "grid.bounds is 3, expected a list of 4 values"),
    ],
)
def test_a_grid_that_cannot_be_is_refused_at_once(
    tmp_path: Path, bounds: object, resolution: object, words: str
) -> None:
    pytest.importorskip("rasterio", reason="grids need kgsm[raster]")
    from kgsm_infer.scenes.grid import stated_grid

    grid = {"crs": "EPSG:32631", "bounds": bounds, "resolution": resolution}
    raw = {"layers": {"vh_db": {"value": -17.0}}, "grid": grid}
    with pytest.raises(DataError) as refusal:
        stated_grid(scene_from(raw, "scene.toml", tmp_path))
    assert words in str(refusal.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    | st.sampled_from(["*.tif", "2024-03-04", "nearest", 10**400, "", "**a", "\0", "~"]),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip
KEYS = st.sampled_from(["files", "file", "variable", "band", "dates", "date", "value", "values",
                        "nodata", "scale", "offset", "amplitude_db", "match", "max_gap_days",
                        "resample", "crs"])  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(
    layers=st.dictionaries(
        st.sampled_from(["vh_db", "vh_linear", "ndvi", "clay"]),
        JSON | st.dictionaries(KEYS, JSON, max_size=4),
        max_size=3,
    )
    | JSON,
    top=st.dictionaries(st.sampled_from(["preset", "files", "resample", "grid", "title"]), JSON),
)
def test_no_manifest_ends_in_a_traceback(layers: object, top: dict[str, object]) -> None:
    with suppress(KgsmError):
        scene_from({"layers": layers, **top}, "scene.toml", "/nonexistent")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "a = " + "[" * 100_000])
def test_a_manifest_of_any_depth_is_refused_in_a_line(tmp_path: Path, text: str) -> None:
    for name in ("s.json", "s.toml"):
        (tmp_path / name).write_text(text)
        with pytest.raises(DataError, match="not a scene manifest"):
            read_scene(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "date"),
    [("NDVI_2024_03_04.tif", "2024-03-04"), ("a_20240304T05_30_12.tif", "2024-03-04T05:30:12")],
)
def test_dates_with_underscores(name: str, date: str) -> None:
    assert date_in(name) == np.datetime64(date)


def test_an_integer_of_hundreds_of_digits_is_refused_in_one_line() -> None:
    """It does not fit a float: `make fuzz` found it as scale = 1000…0."""
    for key in ("scale", "nodata", "max_gap_days", "value"):
        layer = {key: 10**400} if key == "value" else {"files": "*.tif", key: 10**400}
        with pytest.raises(DataError, match="is a number of many digits, which is too large"):
            scene_from({"layers": {"vh_db": layer}}, "huge")
