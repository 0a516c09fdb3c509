"""Layers on other grids than the radar."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_scenes import CRS, NORTH, STEP, WEST, make_pixels, with_layer, write_tif
from map_checks import assert_equal_to_predict, predicted, read_map

from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


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
        map_scene(model, read_scene(with_layer(scene, "clay", text)), tmp_path / "m.tif")
    with_layer(scene, "clay", text + 'resample = "nearest"\n')
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
    map_scene(model, read_scene(with_layer(scene, "clay", text)), tmp_path / "m.tif")
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
        map_scene(model, read_scene(with_layer(scene, "clay", text)), tmp_path / "m.tif")
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
