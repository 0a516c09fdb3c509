"""Maps: pixels equal predict, files open elsewhere, and no accident leaves a wrong one."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scenes import CRS, NORTH, STEP, WEST, Pixels, make_pixels, write_scene, write_tif
from numpy.typing import NDArray

import kgsm_infer
from kgsm_infer import flags
from kgsm_infer.card import Channel
from kgsm_infer.context import ENOUGH, context_of
from kgsm_infer.errors import DataError, MissingError, UsageError
from kgsm_infer.maps import run as maps
from kgsm_infer.maps.run import map_scene, plan_map
from kgsm_infer.model import Model, Retrieval
from kgsm_infer.scenes.manifest import read_scene, scene_from
from kgsm_infer.scenes.stack import Window, open_stack
from kgsm_infer.table import table_from_columns

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def model(tiny_model: Path) -> Model:
    return kgsm_infer.load(tiny_model / "model.core.onnx")


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    return write_scene(tmp_path / "scene", make_pixels())


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(maps, "BLOCK_SIDE", 16)


def read_map(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """sm, lower, upper (3, H, W), and flags."""
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("sm", "sm_lower", "sm_upper", "flags")
        bands = dataset.read()
    return bands[:3], bands[3].astype(np.uint16)


def predicted(model: Model, pixels: Pixels, date: int = -1) -> Retrieval:
    """predict on the same values, the rows of one date."""
    table = table_from_columns(pixels.columns(), features=model.table_features())
    rows = np.flatnonzero(table.date == np.datetime64(pixels.dates[date]))
    return Retrieval(*(part[rows] for part in model.predict(table)))


def assert_equal_to_predict(path: Path, expected: Retrieval) -> None:
    numbers, mask = read_map(path)
    np.testing.assert_array_equal(mask.ravel(), expected.flags)
    for band, part in zip(numbers, expected[:3], strict=True):
        np.testing.assert_allclose(band.ravel(), part, rtol=0, atol=1e-6)


# --- the same numbers as predict -------------------------------------------------------------


@pytest.mark.parametrize("role", ["model.onnx", "model.core.onnx"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("small_blocks")
def test_pixels_equal_predict(
    tiny_model: Path, scene: Path, tmp_path: Path, role: str, threads: int
) -> None:
    model = kgsm_infer.load(tiny_model / role)
    map_scene(model, read_scene(scene), tmp_path / "m.tif", threads=threads)
    expected = predicted(model, make_pixels())
    assert 0.5 < np.isfinite(expected.sm).mean() < 1.0
    for reason in (flags.MISSING_INPUT, flags.SOIL_SIGNAL_LOST, flags.SHORT_HISTORY):
        assert (expected.flags & reason).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


def test_an_interval_is_mapped(model: Model, scene: Path, tmp_path: Path) -> None:
    interval = {"level": 0.9, "lower": -0.05, "upper": 0.07}
    model = replace(model, card=replace(model.card, interval=interval))
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))
    (sm, lower, _), _ = read_map(tmp_path / "m.tif")
    inside = sm > 0.05
    np.testing.assert_allclose((sm - lower)[inside], 0.05, atol=1e-6)


@pytest.mark.parametrize("date", [0, 1])
def test_an_earlier_date_looks_back_only(
    model: Model, scene: Path, tmp_path: Path, date: int
) -> None:
    pixels = make_pixels()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", date=pixels.dates[date])
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, pixels, date))


@pytest.mark.usefixtures("small_blocks")
def test_every_date_at_once_is_each_date_alone(model: Model, scene: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="reads the map back")
    pixels = make_pixels()
    map_scene(model, read_scene(scene), tmp_path / "m.nc", every=True)
    with xarray.open_dataset(tmp_path / "m.nc") as cube:
        assert [str(date)[:10] for date in cube.time.values] == list(pixels.dates)
        for k in range(len(pixels.dates)):
            expected = predicted(model, pixels, k)
            np.testing.assert_array_equal(cube.flags.values[k].ravel(), expected.flags)
            np.testing.assert_allclose(cube.sm.values[k].ravel(), expected.sm, rtol=0, atol=1e-6)


def test_frozen_soil_has_no_number_as_in_a_table(model: Model, tmp_path: Path) -> None:
    pixels = make_pixels()
    cold = np.where(np.arange(30) < 10, -2.0, 5.0) * np.ones((4, 20, 1))
    pixels = replace(pixels, planes={**pixels.planes, "temp_c": cold})
    scene = read_scene(write_scene(tmp_path / "scene", pixels))
    map_scene(model, scene, tmp_path / "m.tif")
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, pixels))
    assert (read_map(tmp_path / "m.tif")[1][:, :10] & flags.FROZEN_OR_SNOW).all()


# --- units, radiometry, nodata, scaling ------------------------------------------------------


def _with_layer(scene: Path, layer: str, text: str) -> Path:
    """The manifest with one layer put differently."""
    parts = scene.read_text().split("[layers.")
    kept = [part for part in parts if not part.startswith(f"{layer}]")]
    scene.write_text("[layers.".join(kept) + text)
    return scene


def test_linear_power_integers_and_gamma0_become_the_same_sigma0(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    pixels, last = make_pixels(), "vh_db"
    expected = predicted(model, pixels)
    vh, angle = pixels.planes["vh_db"], pixels.planes["angle_deg"]
    linear = 10 ** (vh / 10)
    forms = {
        "vh_linear": (linear, {}),
        "vh_gamma0_linear": (linear / np.cos(np.deg2rad(angle)), {}),
        "vh_gamma0_db": (vh - 10 * np.log10(np.cos(np.deg2rad(angle))), {}),
    }
    for form, (planes, profile) in forms.items():
        for date, plane in zip(pixels.dates, planes, strict=True):
            write_tif(scene.parent / form / f"{date}.tif", plane, **profile)
        text = f'[layers.{form}]\nfiles = "{form}/*.tif"\n'
        _with_layer(scene, last, text)
        last = form
        map_scene(model, read_scene(scene), tmp_path / f"{form}.tif")
        numbers, mask = read_map(tmp_path / f"{form}.tif")
        np.testing.assert_array_equal(mask.ravel(), expected.flags)
        np.testing.assert_allclose(numbers[0].ravel(), expected.sm, atol=2e-5)  # float32 files


def test_scale_offset_and_nodata_of_the_file_and_of_the_manifest(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    pixels = make_pixels()
    stored = np.where(np.isnan(pixels.planes["ndvi"]), -9999, pixels.planes["ndvi"] * 1e4)
    ndvi = np.where(stored == -9999, np.nan, np.round(stored) * 1e-4)
    expected = predicted(model, replace(pixels, planes={**pixels.planes, "ndvi": ndvi}))
    for date, plane in zip(pixels.dates, np.round(stored), strict=True):
        write_tif(scene.parent / "a" / f"{date}.tif", plane, dtype="int16")
        path = write_tif(scene.parent / "b" / f"{date}.tif", plane, dtype="int16", nodata=-9999)
        with rasterio.open(path, "r+") as dataset:
            dataset.scales = (1e-4,)
    _with_layer(scene, "ndvi", '[layers.ndvi]\nfiles="a/*.tif"\nscale = 1e-4\nnodata = -9999\n')
    map_scene(model, read_scene(scene), tmp_path / "a.tif")
    _with_layer(scene, "ndvi", '[layers.ndvi]\nfiles="b/*.tif"\n')
    map_scene(model, read_scene(scene), tmp_path / "b.tif")
    for name in ("a.tif", "b.tif"):
        assert_equal_to_predict(tmp_path / name, expected)


def test_red_and_nir_make_ndvi(model: Model, scene: Path, tmp_path: Path) -> None:
    pixels = make_pixels()
    rng = np.random.default_rng(3)
    red = rng.uniform(0.02, 0.2, pixels.planes["ndvi"].shape).astype("f4").astype("f8")
    nir = rng.uniform(0.2, 0.5, red.shape).astype("f4").astype("f8")
    ndvi = (nir - red) / (nir + red)
    for i, date in enumerate(pixels.dates):
        write_tif(scene.parent / "s2" / f"{date}.tif", [red[i], nir[i]], names=("B04", "B08"))
    text = (
        '[layers.red]\nfiles = "s2/*.tif"\nband = "B04"\n'
        '[layers.nir]\nfiles = "s2/*.tif"\nband = "B08"\n'
    )
    map_scene(model, read_scene(_with_layer(scene, "ndvi", text)), tmp_path / "m.tif")
    expected = predicted(model, replace(pixels, planes={**pixels.planes, "ndvi": ndvi}))
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.parametrize(
    ("layer", "change", "words"),
    [
        ("vh_db", lambda v: 10 ** (v / 10), "is not a backscatter in dB (at most 0)"),
        ("ndvi", lambda v: v * 1e4, "scaled by 10,000?"),
        ("angle_deg", np.deg2rad, "radians? the layer is in degrees"),
    ],
)
def test_a_layer_in_another_unit_is_refused(
    model: Model, scene: Path, tmp_path: Path, layer: str, change: Callable[..., object], words: str
) -> None:
    pixels = make_pixels()
    for date, plane in zip(pixels.dates, change(pixels.planes[layer]), strict=True):  # type: ignore[call-overload]
        write_tif(scene.parent / layer / f"{date}.tif", plane)
    with pytest.raises(DataError) as refusal:
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert words in str(refusal.value) and f"{layer}/" in str(refusal.value)


# --- dates -----------------------------------------------------------------------------------


def _layer_at(scene: Path, days: dict[str, float], **keys: object) -> str:
    """An ndvi layer of constant planes with a hole in the first column; its manifest text."""
    for date, value in days.items():
        plane = np.full((20, 30), value)
        write_tif(scene.parent / "n" / f"{date}.tif", plane)
    options = "".join(f"{key} = {value!r}\n" for key, value in keys.items()).replace("'", '"')
    return f'[layers.ndvi]\nfiles = "n/*.tif"\n{options}'


@pytest.mark.parametrize(
    ("match", "value"),
    [("nearest", 0.6), ("linear", 0.4 + 0.2 * 6 / 8)],
)
def test_ndvi_between_dates(
    model: Model, scene: Path, tmp_path: Path, match: str, value: float
) -> None:
    """2024-04-09 lies 6 days after 04-03 (0.4) and 2 days before 04-11 (0.6)."""
    text = _layer_at(scene, {"2024-04-03": 0.4, "2024-04-11": 0.6}, match=match, max_gap_days=10)
    stack = open_stack(read_scene(_with_layer(scene, "ndvi", text)), "vh", ["ndvi"])
    with kgsm_infer.scenes.stack.Reader(stack) as reader:
        plane = reader.column("ndvi", 3, Window(0, 0, 20, 30))
        np.testing.assert_allclose(plane, value, rtol=1e-6)
        far = reader.column("ndvi", 0, Window(0, 0, 20, 30))
        assert np.isnan(far).all()


def test_the_nearest_value_is_sought_pixel_by_pixel(scene: Path, tmp_path: Path) -> None:
    text = _layer_at(scene, {"2024-04-01": 0.3, "2024-04-08": 0.5}, match="nearest", max_gap_days=9)
    cloudy = np.full((20, 30), 0.5)
    cloudy[:, :7] = np.nan
    write_tif(scene.parent / "n" / "2024-04-08.tif", cloudy)
    stack = open_stack(read_scene(_with_layer(scene, "ndvi", text)), "vh", ["ndvi"])
    with kgsm_infer.scenes.stack.Reader(stack) as reader:
        plane = reader.column("ndvi", 3, Window(2, 3, 5, 10))
    np.testing.assert_allclose(plane[:, :4], 0.3, rtol=1e-6)
    np.testing.assert_allclose(plane[:, 4:], 0.5, rtol=1e-6)


def test_no_ndvi_near_the_mapped_date_is_refused(model: Model, scene: Path, tmp_path: Path) -> None:
    text = _layer_at(scene, {"2024-03-28": 0.4}, match="nearest", max_gap_days=5)
    _with_layer(scene, "ndvi", text)
    with pytest.raises(DataError, match="ndvi has nothing for 2024-04-09; the nearest date is 202"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    map_scene(model, read_scene(scene), tmp_path / "m.tif", date="2024-03-28")
    with pytest.raises(DataError, match="no acquisition of 2024-04-10; the nearest of its 4 is"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", date="2024-04-10")
    with pytest.raises(UsageError, match="is not a date"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", date="April")


def test_a_missing_layer_is_named(model: Model, scene: Path, tmp_path: Path) -> None:
    for layer, words in (
        ("angle_deg", "no layer 'angle_deg'.*value = 39.0"),
        ("clay", "no layer 'clay', which the model reads"),
        ("vh_db", "no layer vh_db"),
    ):
        text = scene.read_text()
        _with_layer(scene, layer, "")
        with pytest.raises(DataError, match=words):
            map_scene(model, read_scene(scene), tmp_path / "m.tif")
        scene.write_text(text)


# --- grids -----------------------------------------------------------------------------------


def _coarse(scene: Path, **profile: object) -> str:
    """clay as 4 x 6 pixels of 50 m; the number says row and column."""
    values = np.arange(24.0).reshape(4, 6)
    transform = rasterio.Affine(5 * STEP, 0, WEST, 0, -5 * STEP, NORTH)
    write_tif(scene.parent / "coarse.tif", values, **{"transform": transform, **profile})
    return '[layers.clay]\nfile = "coarse.tif"\n'


def test_another_grid_is_refused_unless_a_method_is_stated(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    text = _coarse(scene)
    with pytest.raises(DataError, match=r"another grid than the scene \(6 x 4 pixels of 50"):
        map_scene(model, read_scene(_with_layer(scene, "clay", text)), tmp_path / "m.tif")
    _with_layer(scene, "clay", text + 'resample = "nearest"\n')
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    fine = np.arange(24.0).reshape(4, 6).repeat(5, axis=0).repeat(5, axis=1)
    pixels = make_pixels()
    expected = predicted(model, replace(pixels, planes={**pixels.planes, "clay": fine}))
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_what_another_grid_does_not_cover_is_missing_not_zero(
    model: Model, scene: Path, tmp_path: Path, dtype: str
) -> None:
    east = rasterio.Affine(5 * STEP, 0, WEST + 100, 0, -5 * STEP, NORTH)
    text = _coarse(scene, transform=east, dtype=dtype) + 'resample = "nearest"\n'
    map_scene(model, read_scene(_with_layer(scene, "clay", text)), tmp_path / "m.tif")
    _, mask = read_map(tmp_path / "m.tif")
    assert (mask[:, :10] & flags.MISSING_INPUT).all()
    assert not (mask[:, 10:] & flags.MISSING_INPUT).all()


def test_decibels_are_not_averaged_and_another_crs_is_refused(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    pixels = make_pixels()
    moved = rasterio.Affine(STEP, 0, WEST + 3, 0, -STEP, NORTH)
    write_tif(scene.parent / "vh_db" / "2024-03-16.tif", pixels.planes["vh_db"][1], transform=moved)
    scene.write_text('resample = "bilinear"\n' + scene.read_text())
    with pytest.raises(DataError, match="would average decibels"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    write_tif(scene.parent / "vh_db" / "2024-03-16.tif", pixels.planes["vh_db"][1])
    text = _coarse(scene, crs="EPSG:32755")
    scene.write_text(scene.read_text().replace('"bilinear"', '"refuse"'))
    with pytest.raises(DataError, match=r"EPSG:32755; the scene: 30 x 20 .*EPSG:32631"):
        map_scene(model, read_scene(_with_layer(scene, "clay", text)), tmp_path / "m.tif")
    write_tif(scene.parent / "coarse.tif", pixels.planes["clay"], crs=None)
    with pytest.raises(DataError, match=r"coarse.tif: has no CRS"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")


def test_an_explicit_grid_cuts_the_scene(model: Model, scene: Path, tmp_path: Path) -> None:
    map_scene(model, read_scene(scene), tmp_path / "all.tif")
    west, north = WEST + 50, NORTH - 30
    grid = (
        f'[grid]\ncrs = "{CRS}"\nresolution = 10\n'
        f"bounds = [{west}, {north - 100}, {west + 200}, {north}]\n"
    )
    scene.write_text(f'resample = "nearest"\n{scene.read_text()}{grid}')
    map_scene(model, read_scene(scene), tmp_path / "part.tif")
    whole, part = read_map(tmp_path / "all.tif"), read_map(tmp_path / "part.tif")
    np.testing.assert_array_equal(part[0], whole[0][:, 3:13, 5:25])
    np.testing.assert_array_equal(part[1], whole[1][3:13, 5:25])


# --- context ---------------------------------------------------------------------------------


def _reading(model: Model, name: str) -> Model:
    """The model, its dynamic feature renamed: what it reads is a context instead."""
    channels = tuple(
        Channel(name, "dB", "dynamic", -15.0, 3.0) if channel.role == "dynamic" else channel
        for channel in model.card.channels
    )
    return replace(model, card=replace(model.card, channels=channels))


@pytest.mark.usefixtures("small_blocks")
def test_the_scene_mean_is_that_of_a_table(model: Model, scene: Path, tmp_path: Path) -> None:
    model, pixels = _reading(model, "vh_scene_db"), make_pixels()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", threads=2)
    expected = predicted(model, pixels)
    assert not (expected.flags & flags.CONTEXT_MISSING).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


def _square(top: int, left: int, bottom: int, right: int) -> dict[str, object]:
    x0, x1, y0, y1 = (WEST + 10 * left, WEST + 10 * right, NORTH - 10 * bottom, NORTH - 10 * top)
    ring = [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]
    return {"type": "Polygon", "coordinates": [ring]}


@pytest.mark.parametrize("enough", [2, 5])
@pytest.mark.parametrize("name", ["vh_field_db", "vh_over_usual_db", "vh_over_driest_db"])
def test_a_fields_context_is_that_of_the_paddocks_pixels(
    model: Model, scene: Path, monkeypatch: pytest.MonkeyPatch, name: str, enough: int
) -> None:
    """enough: dates that make a history; the scene has four."""
    monkeypatch.setitem(ENOUGH, "history", enough)  # type: ignore[arg-type]
    monkeypatch.setattr(maps, "BLOCK_SIDE", 16)
    model, pixels = _reading(model, name), make_pixels()
    field = np.full((20, 30), "", object)
    field[2:9, 3:25], field[12:18, 10:20] = "a", "b"
    columns = {**pixels.columns(), "field": field.ravel().tolist() * 4}
    table = table_from_columns(columns, features=["clay"])
    last = table.date == np.datetime64("2024-04-09")
    expected = Retrieval(*(part[last] for part in model.predict(table)))
    few = (expected.flags & flags.CONTEXT_MISSING) != 0
    known = (field != "").ravel() if name == "vh_field_db" else np.full(600, enough < 4)
    assert not few[known & np.isfinite(expected.sm)].any()
    assert few[~known].sum() >= 0.9 * (~known).sum()

    plan = plan_map(model, read_scene(scene))
    plan = replace(plan, paddocks=(_square(2, 3, 9, 25), _square(12, 10, 18, 20)))
    context = maps.make_context(plan, threads=2)
    mean = context_of(table, "vh_field_db")[0].reshape(4, 20, 30)
    got = context.fields["vh_field_db"][0]
    np.testing.assert_allclose(got[3], [mean[3, 2, 3], mean[3, 12, 10]], rtol=1e-12)
    with kgsm_infer.scenes.stack.Reader(plan.stack) as reader:
        block = maps.retrieve_block(plan, reader, Window(0, 0, 20, 30), context)
    np.testing.assert_array_equal(block.flags.ravel(), expected.flags)
    np.testing.assert_allclose(block.sm.ravel(), expected.sm, rtol=0, atol=1e-6)


def test_a_field_context_without_outlines_is_flagged(
    model: Model, scene: Path, tmp_path: Path
) -> None:
    map_scene(_reading(model, "vh_field_db"), read_scene(scene), tmp_path / "m.tif")
    assert (read_map(tmp_path / "m.tif")[1] & flags.CONTEXT_MISSING).all()


def test_a_stated_context_is_believed(model: Model, scene: Path, tmp_path: Path) -> None:
    model, pixels = _reading(model, "vh_field_db"), make_pixels()
    values = ", ".join(f"{date} = {-15 - i}.0" for i, date in enumerate(pixels.dates))
    scene.write_text(scene.read_text() + f"[layers.vh_field_db]\nvalues = {{{values}}}\n")
    map_scene(model, read_scene(scene), tmp_path / "m.tif")
    stated = np.broadcast_to(-15.0 - np.arange(4)[:, None, None], (4, 20, 30))
    pixels = replace(pixels, planes={**pixels.planes, "vh_field_db": stated})
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, pixels))


# --- files other programs open ---------------------------------------------------------------


def test_a_cog_is_valid_and_says_what_it_is(model: Model, tmp_path: Path) -> None:
    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="independent COG validator")
    scene = read_scene(write_scene(tmp_path / "s", make_pixels(600, 700)))
    map_scene(model, scene, tmp_path / "m.tif", threads=2)
    valid, errors, warnings = cogeo.cog_validate(str(tmp_path / "m.tif"), strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.crs == CRS and dataset.transform.c == WEST and np.isnan(dataset.nodata)
        tags = dataset.tags()
        assert tags["flag_meanings"].split() == list(flags.NAMES)
        assert [int(mask) for mask in tags["flag_masks"].split()] == [1 << i for i in range(9)]
        assert tags["acquisition"] == "2024-04-09T00:00:00Z" and "SIMULATED" in tags["title"]
        assert [dataset.overviews(band) for band in (1, 2, 3, 4)] == [[2]] * 4
        full, half = dataset.read(), dataset.read(out_shape=(4, 300, 350))
        np.testing.assert_array_equal(half, full[:, ::2, ::2])


def test_every_second_pixel_of_sizes_that_do_not_divide(tmp_path: Path) -> None:
    from kgsm_infer.maps.cube import _every_second

    full = np.arange(1001 * 999, dtype="<f4").reshape(1001, 999)
    full.tofile(tmp_path / "full")
    _every_second(tmp_path / "full", tmp_path / "half", full.dtype, 999)
    half = np.fromfile(tmp_path / "half", "<f4").reshape(501, 500)
    np.testing.assert_array_equal(half, full[::2, ::2])


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_cubes_decode_by_cf(model: Model, scene: Path, tmp_path: Path, suffix: str) -> None:
    xarray = pytest.importorskip("xarray", reason="independent reader")
    pytest.importorskip("cf_xarray", reason="independent reader of CF flags")
    path = tmp_path / f"m{suffix}"
    map_scene(model, read_scene(scene), path, every=True)
    expected = predicted(model, make_pixels())
    with xarray.open_dataset(path) as cube:
        names = cube.cf.standard_names["volume_fraction_of_condensed_water_in_soil"]
        assert names == ["sm", "sm_lower", "sm_upper"] and cube.sm.attrs["units"] == "1"
        np.testing.assert_array_equal(cube.sm.values[-1].ravel(), expected.sm)
        lost = cube.flags.isel(time=-1).cf == "soil_signal_lost"
        np.testing.assert_array_equal(
            lost.values.ravel(), (expected.flags & flags.SOIL_SIGNAL_LOST) != 0
        )
        assert cube.depth_bounds.values.tolist() == [0.0, 0.05]
        assert cube.depth.attrs["bounds"] == "depth_bounds" and cube.depth.attrs["units"] == "m"
        np.testing.assert_allclose(cube.x.values[[0, -1]], [WEST + 5, WEST + 295])
        np.testing.assert_allclose(cube.y.values[[0, -1]], [NORTH - 5, NORTH - 195])
    with rasterio.open(f'{"ZARR" if suffix == ".zarr" else "netcdf"}:"{path}":'
                       f'{"/" if suffix == ".zarr" else ""}sm') as seen_by_gdal:  # fmt: skip
        assert seen_by_gdal.crs == CRS
        np.testing.assert_array_equal(seen_by_gdal.read(4).ravel(), expected.sm)


def test_a_checker_finds_the_netcdf_compliant(model: Model, scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("compliance_checker", reason="independent CF checker")
    from compliance_checker.runner import CheckSuite

    map_scene(model, read_scene(scene), tmp_path / "m.nc", every=True)
    CheckSuite.load_all_available_checkers()
    suite = CheckSuite()
    dataset = suite.load_dataset(str(tmp_path / "m.nc"))
    results, errors = suite.run_all(dataset, ["cf:1.11"])["cf:1.11"]
    assert errors == {}
    found = {
        message
        for result in results
        if isinstance(result.value, tuple) and result.value[0] < result.value[1]
        for message in result.msgs
    }
    # CF 7.1 lets a scalar coordinate have bounds of one dimension; the checker wants two
    assert {text for text in found if "depth_bounds" not in text} == set()


def test_a_map_is_a_scene_again(model: Model, scene: Path, tmp_path: Path) -> None:
    """A cube's own time axis is read: NetCDF and Zarr in."""
    for suffix in (".nc", ".zarr"):
        path = tmp_path / f"m{suffix}"
        map_scene(model, read_scene(scene), path, every=True)
        raw = {"layers": {"vh_db": {"file": str(path), "variable": "sm", "offset": -20}}}
        stack = open_stack(scene_from(raw, "again"), "vh", [])
        assert [str(date)[:10] for date in stack.dates] == list(make_pixels().dates)


def test_one_date_or_all_not_both(model: Model, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one date or all dates, not both"):
        map_scene(model, read_scene(scene), tmp_path / "m.nc", date="2024-03-28", every=True)


def test_one_date_per_cog_and_known_extensions(model: Model, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a COG holds one date"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", every=True)
    with pytest.raises(UsageError, match=r"written as .tif \(COG\), .nc"):
        map_scene(model, read_scene(scene), tmp_path / "m.png")
    with pytest.raises(UsageError, match="does not exist; make it first"):
        map_scene(model, read_scene(scene), tmp_path / "none" / "m.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


# --- accidents -------------------------------------------------------------------------------

DRIVER = (
    "import kgsm_infer.maps.run as maps; maps.BLOCK_SIDE = 32; maps.SYNC_EVERY_S = 0; "
    "from kgsm_infer.cli import main; main()"
)


def _command(tiny_model: Path, scene: Path, output: Path) -> list[str]:
    return [sys.executable, "-c", DRIVER, "map", str(tiny_model / "model.core.onnx"), str(scene),
            "-o", str(output)]  # fmt: skip


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}


def test_killed_at_random_moments_it_ends_with_the_same_bytes(
    tiny_model: Path, tmp_path: Path
) -> None:
    """KGSM_KILLS sets how many kills; docs/maps.md was written after 50."""
    scene = write_scene(tmp_path / "scene", make_pixels(200, 200))
    reference = tmp_path / "reference.tif"
    subprocess.run(_command(tiny_model, scene, reference), check=True, env=_environment())
    output = tmp_path / "m.tif"
    command = _command(tiny_model, scene, output)
    rng = random.Random(1)
    done_before = 0
    kills = int(os.environ.get("KGSM_KILLS", "4"))
    for _ in range(kills):
        process = subprocess.Popen(command, env=_environment(), stdout=subprocess.DEVNULL)
        try:
            process.wait(rng.uniform(0.1, 2.0))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if output.exists():  # it came through before the kill: whole, and again from nothing
            assert output.read_bytes() == reference.read_bytes()
            output.unlink()
            done_before = 0
            continue
        marks = output.parent / ".m.tif.work" / "done"
        done = marks.read_bytes().count(1) if marks.exists() else 0
        assert done >= done_before
        done_before = done
    subprocess.run(command, check=True, env=_environment())
    assert output.read_bytes() == reference.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.tif", "reference.tif", "scene"]


#: Counts calls that change the disk, in the file named first; before number STEP the process is
#: killed as by kill -9.
DYING = """
import os, shutil, signal, sys
count, step, log = 0, int(sys.argv.pop(1)), sys.argv.pop(1)
def dying(real):
    def call(*arguments, **options):
        global count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)
        with open(log, "w") as file:
            file.write(str(count))
        return real(*arguments, **options)
    return call
for module, names in ((os, ("pwrite", "fsync", "replace", "posix_fallocate")),
                      (shutil, ("rmtree",))):
    for name in names:
        setattr(module, name, dying(getattr(module, name)))
"""


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_killed_at_chosen_steps_it_ends_with_the_same_numbers(
    tiny_model: Path, tmp_path: Path, suffix: str
) -> None:
    """The first and last steps, where files are made and renamed, and some between."""
    scene = write_scene(tmp_path / "scene", make_pixels(64, 64))
    reference, output = tmp_path / f"reference{suffix}", tmp_path / f"m{suffix}"
    log = tmp_path / "log"

    def run(step: int, path: Path) -> int:
        plain = _command(tiny_model, scene, path)
        command = [
            plain[0],
            "-c",
            DYING + DRIVER,
            str(step),
            str(log),
            *plain[3:],
            "--threads",
            "1",
        ]
        done = subprocess.run(command, env=_environment(), capture_output=True, check=False)
        return done.returncode

    def content(path: Path) -> dict[str, bytes]:
        files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in files}

    assert run(0, reference) == 0
    steps = int(log.read_text())
    assert steps > 500
    for step in (2, steps // 3, steps - 2, steps - 1, steps):
        assert run(step, output) in (-signal.SIGKILL, 0)
        assert not output.exists() or content(output) == content(reference)
        if step % 2:  # another time what was done is lost, and it starts from nothing
            assert run(0, output) == 0
            assert content(output) == content(reference)
            assert not (tmp_path / f".m{suffix}.work").exists()
            shutil.rmtree(output) if output.is_dir() else output.unlink()
    assert run(0, output) == 0
    assert content(output) == content(reference)


@pytest.mark.usefixtures("small_blocks")
def test_only_what_is_left_is_computed_and_another_job_starts_afresh(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, seen = maps.retrieve_block, []

    def stopping(*args: object) -> maps.Block:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(maps, "retrieve_block", stopping)
    with pytest.raises(KeyboardInterrupt):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert not (tmp_path / "m.tif").exists()
    first = list(seen)
    told: list[tuple[int, int]] = []

    def counting(*args: object) -> maps.Block:
        seen.append(args[2])
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(maps, "retrieve_block", counting)
    shutil.copytree(tmp_path / ".m.tif.work", tmp_path / "kept")
    map_scene(model, read_scene(scene), tmp_path / "m.tif", progress=lambda *now: told.append(now))
    assert len(seen) == 4 and len(set(seen)) == 4 and told[0] == (480, 600)
    assert told[-1] == (600, 600) and first == seen[:2]
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels()))

    shutil.move(tmp_path / "kept", tmp_path / ".m.tif.work")
    seen.clear()
    map_scene(model, read_scene(scene), tmp_path / "m.tif", date="2024-03-28")
    assert len(seen) == 4
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, make_pixels(), -2))


@pytest.mark.parametrize("suffix", [".tif", ".nc", ".zarr"])
def test_a_write_that_fails_leaves_no_output_and_can_be_repeated(
    tiny_model: Path, tmp_path: Path, suffix: str
) -> None:
    """Files may not grow beyond a limit: the work files fit, the output does not."""
    scene = write_scene(tmp_path / "scene", make_pixels(128, 128))
    output = tmp_path / f"m{suffix}"
    command = _command(tiny_model, scene, output)
    limit = 4 * 128 * 128 + (100 if suffix != ".zarr" else 0)
    if suffix == ".zarr":  # its chunks are small: there the work files do not fit
        limit = 1000
    limited = [command[0], "-c", f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, "
               f"({limit}, {limit})); {DRIVER}", *command[3:]]  # fmt: skip
    # a coverage run writes a file of its own in every process, which would hit the limit too
    environment = {k: v for k, v in _environment().items() if not k.startswith("COV")}
    run = subprocess.run(limited, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 5, run.stderr
    assert "not written" in run.stderr.splitlines()[-1]  # libtiff says its own word before
    assert "Traceback" not in run.stderr
    assert not output.exists()
    subprocess.run(command, check=True, env=_environment())
    assert output.exists()


def test_a_full_disk_is_said_before_work_begins(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(MissingError, match=r"m.tif: not written, the disk is too full"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_an_output_that_does_not_read_back_is_not_let_out(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kgsm_infer.maps import cube as mapfiles

    real = mapfiles._vrt
    monkeypatch.setattr(
        mapfiles, "_vrt", lambda *of: real(*of).replace(">sm_upper</Source", ">sm</Source")
    )
    with pytest.raises(MissingError, match="sm_upper does not read back"):
        interval = {"level": 0.9, "lower": -0.05, "upper": 0.07}
        model = replace(model, card=replace(model.card, interval=interval))
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert not (tmp_path / "m.tif").exists()


@pytest.mark.parametrize("threads", [1, 2])
def test_an_unreadable_tile_is_named(model: Model, tmp_path: Path, threads: int) -> None:
    pixels = make_pixels(300, 300)
    scene = write_scene(tmp_path / "scene", pixels)
    path = tmp_path / "scene" / "vh_db" / "2024-03-28.tif"
    write_tif(path, pixels.planes["vh_db"][2], compress="deflate")
    with rasterio.open(path) as dataset:
        at = int(dataset.get_tag_item("BLOCK_OFFSET_3_3", "TIFF", bidx=1))
    content = bytearray(path.read_bytes())
    content[at : at + 100] = bytes(100)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"2024-03-28.tif: cannot be read at rows .*truncated"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", threads=threads)
    assert not (tmp_path / "m.tif").exists()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"2024-03-28.tif: cannot be"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", threads=threads)
    path.unlink()
    raw = scene.read_text().replace('"vh_db/*.tif"', str([f"vh_db/{d}.tif" for d in pixels.dates]))
    scene.write_text(raw)
    with pytest.raises(DataError, match=r"2024-03-28.tif: cannot be opened as a raster"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", threads=threads)


def test_two_runs_on_one_output_do_not_meet(model: Model, scene: Path, tmp_path: Path) -> None:
    plan = plan_map(model, read_scene(scene))
    output = tmp_path / "m.tif"
    with (
        maps.worked_out(plan, output),
        pytest.raises(UsageError, match="another kgsm-infer is writing it"),
        maps.worked_out(plan, output),
    ):
        pass


def test_an_old_output_is_replaced(model: Model, scene: Path, tmp_path: Path) -> None:
    for suffix in (".tif", ".nc", ".zarr"):
        path = tmp_path / f"m{suffix}"
        for date in ("2024-03-28", "2024-04-09"):
            map_scene(model, read_scene(scene), path, date=date)
        assert path.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.nc", "m.tif", "m.zarr", "scene"]


# --- real rasters ----------------------------------------------------------------------------


@pytest.mark.realdata
def test_flanders_linear_geotiffs(shared_data: Path, model: Model, tmp_path: Path) -> None:
    s1 = f"{shared_data}/flanders/s1-grd-sigma0-asc-weekly/*.tif"
    s2 = f"{shared_data}/flanders/s2-agri-weekly/*_mean.tif"
    raw = {
        "layers": {
            "vh_linear": {"files": s1, "band": "VH"},
            "red": {"files": s2, "band": "B04", "scale": 1e-4},
            "nir": {"files": s2, "band": "B08", "scale": 1e-4},
            "angle_deg": {"value": 39.0},
            "clay": {"value": 12.0},
        }
    }
    map_scene(model, scene_from(raw, "flanders"), tmp_path / "m.tif")
    columns: dict[str, list[object]] = {"site": [], "date": [], "vh_linear": [], "ndvi": []}
    for day in ("2024-03-04", "2024-03-11"):
        (radar,) = Path(s1).parent.glob(f"*_{day}_*.tif")
        (optical,) = Path(s2).parent.glob(f"*_{day}_*_mean.tif")
        with rasterio.open(radar) as one, rasterio.open(optical) as other:
            vh = one.read(2).astype(np.float64).ravel()
            red, nir = (other.read(band).astype(np.float64).ravel() * 1e-4 for band in (3, 4))
        columns["site"] += range(vh.size)
        columns["date"] += [day] * vh.size
        columns["vh_linear"] += vh.tolist()
        columns["ndvi"] += ((nir - red) / (nir + red)).tolist()
    full = {**columns, "angle_deg": [39.0] * 5408, "clay": [12.0] * 5408}
    result = model.predict(table_from_columns(full, features=["clay"]))
    expected = Retrieval(*(part[2704:] for part in result))
    assert np.isfinite(expected.sm).mean() > 0.9
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.realdata
def test_yanco_soil_raster_under_simulated_backscatter(
    shared_data: Path, model: Model, tmp_path: Path
) -> None:
    """A real static raster of 100 m with holes, read in the window the (made-up) radar covers."""
    path = shared_data / "oznet" / "0_ancillary" / "var_static" / "AWC_100m_resampled.tif"
    where = rasterio.windows.Window(120, 920, 60, 60)
    with rasterio.open(path) as dataset:
        awc = dataset.read(1, window=where, masked=True).astype(np.float64).filled(np.nan)
        place = {"crs": dataset.crs, "transform": dataset.window_transform(where)}
    assert 0.1 < np.isnan(awc).mean() < 0.5
    made_up = make_pixels(60, 60)
    pixels = replace(made_up, planes={**made_up.planes, "clay": awc})
    layers: dict[str, object] = {"clay": {"file": str(path), "resample": "nearest"}}
    for name in ("vh_db", "ndvi", "angle_deg"):
        for date, values in zip(pixels.dates, pixels.planes[name], strict=True):
            write_tif(tmp_path / name / f"{date}.tif", values, **place)
        layers[name] = {"files": f"{tmp_path / name}/*.tif"}
    map_scene(model, scene_from({"layers": layers}, "SIMULATED"), tmp_path / "m.tif")
    expected = predicted(model, pixels)
    assert np.isnan(expected.sm[np.isnan(awc).ravel()]).all() and np.isfinite(expected.sm).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.realdata
def test_worldcereal_uint16_netcdf(shared_data: Path, tmp_path: Path) -> None:
    """dB = 20 log10(DN) - 83, 65535 is missing, twelve dates from the file's time axis."""
    xarray = pytest.importorskip("xarray", reason="independent reader")
    path = shared_data / "worldcereal" / "worldcereal_preprocessed_inputs.nc"
    stack = open_stack(
        scene_from({"preset": "worldcereal", "files": str(path)}, "w"), "vh", ["ndvi", "vv_db"]
    )
    assert len(stack.dates) == 12 and str(stack.dates[0])[:10] == "2020-11-01"
    with xarray.open_dataset(path) as cube, kgsm_infer.scenes.stack.Reader(stack) as reader:
        window = Window(10, 20, 30, 40)
        for k in range(12):
            part = {"t": k, "y": slice(10, 40), "x": slice(20, 60)}
            dn = cube["S1-SIGMA0-VH"].isel(part).values.astype(np.float64)
            vh = reader.column("vh_db", k, window)
            np.testing.assert_allclose(vh, 20 * np.log10(dn) - 83, rtol=1e-12)
            red, nir = (
                cube[name].isel(part).values.astype(np.float64) for name in
                ("S2-L2A-B04", "S2-L2A-B08")
            )  # fmt: skip
            ndvi = np.where((red == 65535) | (nir == 65535), np.nan, (nir - red) / (nir + red))
            np.testing.assert_allclose(reader.column("ndvi", k, window), ndvi, rtol=1e-9)
        assert -25 < float(np.median(vh)) < -8  # the convention is plausible
