"""Units, radiometry, nodata and scaling of layers; layers that cannot be read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scenes import make_pixels, with_layer, write_scene, write_tif
from map_checks import assert_equal_to_predict, predicted, read_map

from kgsm_infer.base.errors import DataError
from kgsm_infer.maps.options import Execution
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


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
        with_layer(scene, last, text)
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
    with_layer(scene, "ndvi", '[layers.ndvi]\nfiles="a/*.tif"\nscale = 1e-4\nnodata = -9999\n')
    map_scene(model, read_scene(scene), tmp_path / "a.tif")
    with_layer(scene, "ndvi", '[layers.ndvi]\nfiles="b/*.tif"\n')
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
    map_scene(model, read_scene(with_layer(scene, "ndvi", text)), tmp_path / "m.tif")
    expected = predicted(model, replace(pixels, planes={**pixels.planes, "ndvi": ndvi}))
    assert_equal_to_predict(tmp_path / "m.tif", expected)


@pytest.mark.parametrize(
    ("layer", "change", "words"),
    [
        ("vh_db", lambda v: 10 ** (v / 10), "is not a backscatter in dB (-60 to below 0)"),
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
    with pytest.raises(DataError, match=r"2024-03-28.tif: rows .*: cannot be read .*truncated"):
        map_scene(
            model, read_scene(scene), tmp_path / "m.tif", execution=Execution(threads=threads)
        )
    assert not (tmp_path / "m.tif").exists()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"2024-03-28.tif: .*cannot be"):
        map_scene(
            model, read_scene(scene), tmp_path / "m.tif", execution=Execution(threads=threads)
        )
    path.unlink()
    raw = scene.read_text().replace('"vh_db/*.tif"', str([f"vh_db/{d}.tif" for d in pixels.dates]))
    scene.write_text(raw)
    with pytest.raises(DataError, match=r"2024-03-28.tif: cannot be opened as a raster"):
        map_scene(
            model, read_scene(scene), tmp_path / "m.tif", execution=Execution(threads=threads)
        )
