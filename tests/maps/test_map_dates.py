"""Layers on other dates than the radar."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_scenes import with_layer, write_tif

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


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
    stack = open_stack(read_scene(with_layer(scene, "ndvi", text)), "vh", ["ndvi"])
    with Reader(stack) as reader:
        plane = reader.column("ndvi", 3, Window(0, 0, 20, 30))
        np.testing.assert_allclose(plane, value, rtol=1e-6)
        far = reader.column("ndvi", 0, Window(0, 0, 20, 30))
        assert np.isnan(far).all()


def test_the_nearest_value_is_sought_pixel_by_pixel(scene: Path, tmp_path: Path) -> None:
    text = _layer_at(scene, {"2024-04-01": 0.3, "2024-04-08": 0.5}, match="nearest", max_gap_days=9)
    cloudy = np.full((20, 30), 0.5)
    cloudy[:, :7] = np.nan
    write_tif(scene.parent / "n" / "2024-04-08.tif", cloudy)
    stack = open_stack(read_scene(with_layer(scene, "ndvi", text)), "vh", ["ndvi"])
    with Reader(stack) as reader:
        plane = reader.column("ndvi", 3, Window(2, 3, 5, 10))
    np.testing.assert_allclose(plane[:, :4], 0.3, rtol=1e-6)
    np.testing.assert_allclose(plane[:, 4:], 0.5, rtol=1e-6)


def test_no_ndvi_near_the_mapped_date_is_refused(model: Model, scene: Path, tmp_path: Path) -> None:
    text = _layer_at(scene, {"2024-03-28": 0.4}, match="nearest", max_gap_days=5)
    with_layer(scene, "ndvi", text)
    with pytest.raises(DataError, match="ndvi has nothing for 2024-04-09; the nearest date is 202"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date="2024-03-28"))
    with pytest.raises(DataError, match="no acquisition of 2024-04-10; the nearest of its 4 is"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date="2024-04-10"))
    with pytest.raises(UsageError, match="is not a date"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date="April"))


def test_a_missing_layer_is_named(model: Model, scene: Path, tmp_path: Path) -> None:
    for layer, words in (
        ("angle_deg", "no layer 'angle_deg'.*value = 39.0"),
        ("clay", "no layer 'clay', which the model reads"),
        ("vh_db", "no layer vh_db"),
    ):
        text = scene.read_text()
        with_layer(scene, layer, "")
        with pytest.raises(DataError, match=words):
            map_scene(model, read_scene(scene), tmp_path / "m.tif")
        scene.write_text(text)
