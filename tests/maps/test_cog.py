"""The COG: valid, self-describing, proved before it is let out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_scenes import CRS, WEST, make_pixels, write_scene
from other_cards import with_card

from kgsm_infer.base import flags
from kgsm_infer.base.errors import MissingError
from kgsm_infer.maps import cog as cog_files
from kgsm_infer.maps.options import Execution
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


def test_a_cog_is_valid_and_says_what_it_is(model: Model, tmp_path: Path) -> None:
    cogeo = pytest.importorskip("rio_cogeo.cogeo", reason="independent COG validator")
    scene = read_scene(write_scene(tmp_path / "s", make_pixels(600, 700)))
    map_scene(model, scene, tmp_path / "m.tif", execution=Execution(threads=2))
    valid, errors, warnings = cogeo.cog_validate(str(tmp_path / "m.tif"), strict=True)
    assert (valid, errors, warnings) == (True, [], [])
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert dataset.crs == CRS and dataset.transform.c == WEST and np.isnan(dataset.nodata)
        tags = dataset.tags()
        assert tags["flag_meanings"].split() == list(flags.NAMES)
        assert [int(mask) for mask in tags["flag_masks"].split()] == [
            1 << i for i in range(len(flags.NAMES))
        ]
        assert tags["acquisition"] == "2024-04-09T00:00:00Z" and "SIMULATED" in tags["title"]
        assert [dataset.overviews(band) for band in (1, 2, 3, 4)] == [[2]] * 4
        full, half = dataset.read(), dataset.read(out_shape=(4, 300, 350))
        np.testing.assert_array_equal(half, full[:, ::2, ::2])


def test_every_second_pixel_of_sizes_that_do_not_divide(tmp_path: Path) -> None:
    full = np.arange(1001 * 999, dtype="<f4").reshape(1001, 999)
    full.tofile(tmp_path / "full")
    cog_files._every_second(tmp_path / "full", tmp_path / "half", full.dtype, 999)
    half = np.fromfile(tmp_path / "half", "<f4").reshape(501, 500)
    np.testing.assert_array_equal(half, full[::2, ::2])


def test_an_output_that_does_not_read_back_is_not_let_out(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = cog_files._vrt
    monkeypatch.setattr(
        cog_files, "_vrt", lambda *of: real(*of).replace(">sm_upper</Source", ">sm</Source")
    )
    with pytest.raises(MissingError, match="sm_upper does not read back"):
        interval = {"level": 0.9, "lower": -0.05, "upper": 0.07}
        model = with_card(model, interval=interval)
        map_scene(model, read_scene(scene), tmp_path / "m.tif")
    assert not (tmp_path / "m.tif").exists()
