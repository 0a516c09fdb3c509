"""Quick looks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_outlines import every_kind, write_geojson

from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines


def test_quick_looks_are_pictures(
    tmp_path: Path, interval_model: Model, scene_and_map: tuple[Path, Any, Any]
) -> None:
    image = pytest.importorskip("matplotlib.image", reason="quick looks need kgsm[raster]")
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.paddocks.picture import draw_paddocks

    scene = read_scene(scene_and_map[0])
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", every_kind()))
    found = paddocks_of_scene(interval_model, scene, outlines, tmp_path / "o")
    draw_paddocks(tmp_path / "p.png", outlines, found)
    draw_paddocks(tmp_path / "again.png", outlines, found)
    assert (tmp_path / "p.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    map_scene(
        interval_model, scene, tmp_path / "n.tif", outlines=outlines, quicklook=tmp_path / "m.png"
    )
    for name in ("p.png", "m.png"):
        pixels = image.imread(tmp_path / name)[..., :3]
        assert min(pixels.shape[:2]) > 200
        blue = pixels[..., 2] - pixels[..., 0] > 0.2  # the colours of soil moisture
        black = pixels.max(axis=-1) < 0.1  # outlines and words
        assert blue.mean() > 0.005 and black.mean() > 0.002
