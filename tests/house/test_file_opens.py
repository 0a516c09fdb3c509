"""Each input file is opened as often as the work needs it, however large the work is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from counting import opens, raster_opens
from made_scenes import make_pixels, write_scene
from typer.testing import CliRunner

import kgsm_infer
from kgsm_infer.app.cli import app
from kgsm_infer.maps.options import Execution


def test_a_model_and_a_table_are_opened_once(tiny_model: Path, tmp_path: Path) -> None:
    model, table = tiny_model / "model.core.onnx", tiny_model / "twin.csv"
    with opens() as count:
        loaded = kgsm_infer.load(model, engine="native")
        loaded.predict(kgsm_infer.read_table(table, features=loaded.table_features()))
    assert (count[model], count[table]) == (1, 1)
    command = ["predict", str(model), str(table), "-o", str(tmp_path / "out.csv")]
    with opens() as count:
        done = CliRunner().invoke(app, [*command, "--engine", "native"])
    assert done.exit_code == 0, done.output
    assert (count[model], count[table]) == (1, 1)


@pytest.mark.parametrize("threads", [1, 2])
def test_rasters_are_opened_once_per_thread_whatever_the_number_of_blocks(
    model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    """Once to check, once in each reading thread; the newest image also gives the grid."""
    pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
    from kgsm_infer.maps import plan
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.scenes.manifest import read_scene

    scene = write_scene(tmp_path / "scene", make_pixels(64, 64))
    layers = sorted((tmp_path / "scene").rglob("*.tif"))
    assert len(layers) == 3 * 4 + 1
    maps = {}
    for side in (64, 16):  # 1 block, then 16
        monkeypatch.setattr(plan, "BLOCK_SIDE", side)
        maps[side] = tmp_path / f"{side}.tif"
        with raster_opens() as count, opens() as others:
            map_scene(model, read_scene(scene), maps[side], execution=Execution(threads=threads))
        newest = max(count[path] for path in layers)
        assert newest <= 2 + threads
        assert sorted(count[path] for path in layers)[-2] <= 1 + threads
        assert min(count[path] for path in layers) >= 1
        assert others[scene] == 1
    import rasterio

    with rasterio.open(maps[64]) as one, rasterio.open(maps[16]) as other:
        assert np.array_equal(one.read(1), other.read(1), equal_nan=True)


def test_paddocks_open_each_raster_for_the_check_the_averages_and_the_pixels(
    scene: Path, model, tmp_path: Path
) -> None:
    """The number of paddocks does not matter."""
    pytest.importorskip("exactextract", reason="paddocks on rasters need kgsm[raster]")
    from made_outlines import polygon, square, write_geojson

    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.manifest import read_scene
    from kgsm_infer.scenes.outlines import read_outlines

    layers = sorted(scene.parent.rglob("*.tif"))
    for number in (1, 20):
        shapes = {f"p{at}": polygon(square(at, 2, at + 4, 9)) for at in range(number)}
        outlines = write_geojson(tmp_path / f"{number}.geojson", shapes)
        with raster_opens() as count, opens() as others:
            found = read_outlines(outlines)
            paddocks_of_scene(model, read_scene(scene), found, tmp_path / f"o{number}")
        assert sum(count[path] for path in layers) <= 3 * len(layers) + 1
        assert (others[outlines], others[scene]) == (1, 1)
