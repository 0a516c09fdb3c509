"""Frames of one pass, seconds apart, are one acquisition."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import NORTH, STEP, WEST, Pixels, make_pixels, write_tif
from map_checks import predicted

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.maps.plan import plan_map
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model, Retrieval
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import read_scene, scene_from
from kgsm_infer.scenes.opening import open_series, open_stack
from kgsm_infer.scenes.reader import Reader

rasterio = pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")

#: Rows of the upper frame; the lower one begins two rows before it ends.
UPPER = 12


def _frames(folder: Path, pixels: Pixels, lower: str = "T053037") -> dict[str, Any]:
    """Every VH date as two files of different extents, 25 s apart; the other layers whole."""
    for date, plane in zip(pixels.dates, pixels.planes["vh_db"], strict=True):
        day = date.replace("-", "")
        write_tif(folder / f"S1_{day}T053012_VH.tif", plane[:UPPER])
        down = rasterio.Affine(STEP, 0, WEST, 0, -STEP, NORTH - STEP * (UPPER - 2))
        write_tif(folder / f"S1_{day}{lower}_VH.tif", plane[UPPER - 2 :], transform=down)
    layers: dict[str, Any] = {"vh_db": {"files": "S1_*_VH.tif"}}
    for name in ("ndvi", "angle_deg"):
        for date, plane in zip(pixels.dates, pixels.planes[name], strict=True):
            write_tif(folder / name / f"{date}.tif", plane)
        layers[name] = {"files": f"{name}/*.tif"}
    write_tif(folder / "clay.tif", pixels.planes["clay"])
    layers["clay"] = {"file": "clay.tif"}
    return {"layers": layers}


def _whole(model: Model, pixels: Pixels) -> Retrieval:
    """predict on whole passes, at the time of their first frame."""
    return predicted(
        model, replace(pixels, dates=tuple(f"{date}T05:30:12" for date in pixels.dates))
    )


@pytest.mark.parametrize("padding", [0.0, 12.0, -np.inf])
def test_padding_of_a_frame_does_not_hide_the_next(
    model: Model, tmp_path: Path, padding: float
) -> None:
    """Decibels of 0 and above are no measurement, so the other frame's value counts."""
    pixels = make_pixels()
    scene = scene_from(_frames(tmp_path / "s", pixels), "s.toml", tmp_path / "s")
    for path in (tmp_path / "s").glob("S1_*T053012_VH.tif"):  # the upper frame, made whole
        with rasterio.open(path) as dataset:
            upper = dataset.read(1)
        whole = np.full(pixels.shape, padding, np.float32)
        whole[:UPPER] = upper
        write_tif(path, whole)
    map_scene(model, scene, tmp_path / "m.tif")
    expected = _whole(model, pixels)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        number = np.isfinite(expected.sm)
        flags = dataset.read(4).astype(np.uint16).ravel()
        np.testing.assert_array_equal(flags[number], expected.flags[number])
        np.testing.assert_allclose(dataset.read(1).ravel(), expected.sm, rtol=0, atol=1e-6)


@pytest.mark.parametrize("other", ["2024-03-01T00:00:00", "2024-03-01T02:00:00+02:00"])
def test_two_spellings_of_a_time_are_refused(tmp_path: Path, other: str) -> None:
    for name in ("a", "b"):
        write_tif(tmp_path / f"{name}.tif", np.full((3, 4), -15.0))
    for keys in (
        {"files": {"2024-03-01": "a.tif", other: "b.tif"}},
        {"files": {"2024-03-01": "a.tif"}, "orbits": {"2024-03-01": 22, other: 44}},
        {"values": {"2024-03-01": 0.3, other: 0.4}},
    ):
        with pytest.raises(DataError, match=r"2024-03-01'? and .*which are the same"):
            scene_from({"layers": {"vh_db": keys}}, "s.toml", tmp_path)


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_what_is_not_a_file_is_refused(tmp_path: Path, kind: str) -> None:
    """A pipe would be waited for without end."""
    path = tmp_path / "vh_20240301.tif"
    os.mkfifo(path) if kind == "pipe" else path.mkdir()
    scene = scene_from({"layers": {"vh_db": {"files": {"2024-03-01": path.name}}}}, "s", tmp_path)
    with pytest.raises(DataError, match="is not a file"):
        open_stack(scene, "vh", [])


def test_one_file_for_two_acquisitions_is_refused(tmp_path: Path) -> None:
    write_tif(tmp_path / "vh.tif", np.full((3, 4), -15.0))
    files = {"2024-03-01": "vh.tif", "2024-03-13": "vh.tif"}
    with pytest.raises(DataError, match=r"vh\.tif is named for 2024-03-01.* and for 2024-03-13"):
        scene_from({"layers": {"vh_db": {"files": files}}}, "s.toml", tmp_path)
    scene_from({"layers": {"ndvi": {"files": files}}}, "s.toml", tmp_path)


def test_two_frames_of_a_pass_map_as_the_whole_does(model: Model, tmp_path: Path) -> None:
    pixels = make_pixels()
    scene = scene_from(_frames(tmp_path / "s", pixels), "s.toml", tmp_path / "s")
    plan = plan_map(model, scene)
    assert len(plan.stack.dates) == 4
    assert str(plan.stack.dates[-1]) == "2024-04-09T05:30:12"
    assert (plan.stack.grid.height, plan.stack.grid.width) == pixels.shape  # of both frames
    map_scene(model, scene, tmp_path / "m.tif")
    expected = _whole(model, pixels)
    with rasterio.open(tmp_path / "m.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(4).astype(np.uint16).ravel(), expected.flags)
        np.testing.assert_allclose(dataset.read(1).ravel(), expected.sm, rtol=0, atol=1e-6)
    assert len(scene.files()) == 8 + 8 + 1


def test_an_ascending_and_a_descending_pass_are_two(model: Model, tmp_path: Path) -> None:
    scene = scene_from(_frames(tmp_path, make_pixels(), lower="T171240"), "s.toml", tmp_path)
    plan = plan_map(model, scene)
    assert len(plan.stack.dates) == 8
    with pytest.raises(UsageError, match=r"2 acquisitions on 2024-03-16, at 05:30:12, 17:12:40"):
        plan_map(model, scene, RetrievalOptions(date="2024-03-16"))
    assert plan_map(model, scene, RetrievalOptions(date="2024-03-16T05:30")).targets == (2,)
    assert plan_map(model, scene, RetrievalOptions(date="20240316T171240Z")).targets == (3,)


def test_one_acquisition_processed_twice_is_no_pair_of_frames(tmp_path: Path, model: Model) -> None:
    pixels = make_pixels()
    raw = _frames(tmp_path, pixels)
    write_tif(tmp_path / "S1_20240304T053012_v2_VH.tif", pixels.planes["vh_db"][0, :UPPER])
    with pytest.raises(DataError, match="of the same time and place as"):
        plan_map(model, scene_from(raw, "s.toml", tmp_path))


def test_frames_on_two_grids_want_a_stated_one(tmp_path: Path, model: Model) -> None:
    pixels = make_pixels()
    raw = _frames(tmp_path, pixels)
    off = rasterio.Affine(STEP, 0, WEST + 3, 0, -STEP, NORTH - STEP * (UPPER - 2))
    lower = pixels.planes["vh_db"][3, UPPER - 2 :]
    write_tif(tmp_path / "S1_20240409T053037_VH.tif", lower, transform=off)
    with pytest.raises(DataError, match=r"frames of its last pass lie on several grids .*600003"):
        plan_map(model, scene_from(raw, "s.toml", tmp_path))


def test_a_wider_layer_on_the_same_pixels_needs_no_resampling(tmp_path: Path, model: Model) -> None:
    pixels = make_pixels()
    raw = _frames(tmp_path, pixels)
    wide = np.pad(pixels.planes["clay"], 5, constant_values=99.0)
    around = rasterio.Affine(STEP, 0, WEST - 5 * STEP, 0, -STEP, NORTH + 5 * STEP)
    write_tif(tmp_path / "clay.tif", wide, transform=around)
    map_scene(model, scene_from(raw, "s.toml", tmp_path), tmp_path / "m.tif")
    with rasterio.open(tmp_path / "m.tif") as dataset:
        sm = dataset.read(1).ravel()
    np.testing.assert_allclose(sm, _whole(model, pixels).sm, rtol=0, atol=1e-6)


def test_a_dataset_of_frames_gives_the_same(tiny_model: Path, model: Model) -> None:
    xarray = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
    pytest.importorskip("dask.array", reason="lazy retrieval needs kgsm[cluster]")
    from kgsm_infer.maps.lazy import retrieve

    pixels = make_pixels()
    rows = np.arange(pixels.shape[0])[:, None]
    twice = {
        name: plane.repeat(2, axis=0) if plane.ndim == 3 else plane
        for name, plane in pixels.planes.items()
    }
    twice["vh_db"][0::2] = np.where(rows < UPPER, twice["vh_db"][0::2], np.nan)
    twice["vh_db"][1::2] = np.where(rows >= UPPER - 2, twice["vh_db"][1::2], np.nan)
    times = [np.datetime64(f"{day}T05:30:{s}", "ns") for day in pixels.dates for s in (12, 37)]
    data = xarray.Dataset(
        {name: (("time", "y", "x")[-plane.ndim :], plane) for name, plane in twice.items()},
        coords={"time": times},
    )
    expected = _whole(model, pixels)
    for stack in (data, data.chunk({"y": 7})):
        cube = retrieve(tiny_model / "model.core.onnx", stack)
        np.testing.assert_array_equal(cube.flags.values.ravel(), expected.flags)
        np.testing.assert_allclose(cube.sm.values.ravel(), expected.sm, rtol=0, atol=1e-6)


def test_a_network_is_asked_only_when_allowed(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    for name in (
        "https://example.org/vh.tif",
        "/vsicurl/http:/x/vh.tif",
        "/vsizip//vsis3/b/a.zip/v.tif",
    ):
        path.write_text(f'[layers.vh_db]\nfile = "{name}"\ndate = 2024-03-04\n')
        with pytest.raises(
            UsageError, match="fetched from a network; allow addresses with --allow-net"
        ):
            read_scene(path)
        assert read_scene(path, allow_network=True).files() == (name,)


def reflectance(folder: Path, series: list[tuple[str, str, int, float]]) -> None:
    """Red and NIR of Sentinel-2 with NDVI 0.2: (day, baseline, added, offset of the file)."""
    for day, baseline, added, offset in series:
        for band, value in (("B04", 2000), ("B08", 3000)):
            name = f"S2A_MSIL2A_{day}T100000_{baseline}_R022_T31UFS_{day}T120000_{band}.tif"
            path = write_tif(folder / name, np.full((4, 5), value + added), dtype="uint16")
            with rasterio.open(path, "r+") as file:
                file.scales, file.offsets = (1e-4,), (offset,)


@pytest.mark.parametrize(
    ("series", "keys", "cause"),
    [
        (
            [("20220101", "N0301", 0, 0.0), ("20220113", "N0400", 1000, 0.0)],
            {},
            "cannot serve both",
        ),
        (
            [("20220101", "N0301", 0, 0.0), ("20220113", "N0510", 1000, 0.0)],
            {"scale": 1e-4, "offset": -0.1},
            "cannot serve both",
        ),
        ([("20220101", "N0301", 0, 0.0), ("20220113", "N0400", 1000, -0.1)], {}, ""),
        ([("20220101", "N0510", 1000, 0.0), ("20220113", "N0400", 1000, 0.0)], {}, "offset = -0.1"),
        (
            [("20220101", "N0510", 1000, 0.0), ("20220113", "N0400", 1000, 0.0)],
            {"offset": -0.1},
            "",
        ),
        ([("20220101", "N0510", 0, 0.0), ("20220113", "N0400", 0, 0.0)], {"offset": 0.0}, ""),
        ([("20220101", "N0204", 0, 0.0), ("20220113", "N0301", 0, 0.0)], {}, ""),
        ([("20220101", "N9999", 0, 0.0), ("20220113", "N0301", 0, 0.0)], {}, ""),
    ],
)
def test_numbers_of_two_baselines_do_not_get_one_offset(
    tmp_path: Path, series: list, keys: dict, cause: str
) -> None:
    reflectance(tmp_path, series)
    layers = {
        "vh_db": {"values": {"2022-01-01": -17.0, "2022-01-13": -18.0}},
        "red": {"files": "S2A_*_B04.tif", **keys},
        "nir": {"files": "S2A_*_B08.tif", **keys},
    }
    scene = scene_from({"layers": layers}, "s.toml", tmp_path)
    if cause:
        with pytest.raises(DataError, match=cause):
            open_series(scene, "ndvi")
        return
    stack = open_series(scene, "ndvi")
    with Reader(stack) as reader:
        for at in range(2):
            ndvi = reader.column("ndvi", at, Window(0, 0, 4, 5))
            np.testing.assert_allclose(ndvi, 0.2, rtol=1e-5)
