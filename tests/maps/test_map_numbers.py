"""A map holds what predict gives on the same values."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from made_scenes import DATES, make_pixels, write_scene
from map_checks import assert_equal_to_predict, predicted, read_map
from other_cards import with_card

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.base.errors import UsageError
from kgsm_infer.maps.options import Execution, RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes.manifest import read_scene

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


@pytest.mark.parametrize("role", ["model.onnx", "model.core.onnx"])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.usefixtures("small_blocks")
def test_pixels_equal_predict(
    tiny_model: Path, scene: Path, tmp_path: Path, role: str, threads: int
) -> None:
    model = kgsm_infer.load(tiny_model / role)
    map_scene(model, read_scene(scene), tmp_path / "m.tif", execution=Execution(threads=threads))
    expected = predicted(model, make_pixels())
    assert 0.5 < np.isfinite(expected.sm).mean() < 1.0
    for reason in (flags.MISSING_INPUT, flags.SOIL_SIGNAL_LOST, flags.SHORT_HISTORY):
        assert (expected.flags & reason).any()
    assert_equal_to_predict(tmp_path / "m.tif", expected)


def test_an_interval_is_mapped(model: Model, scene: Path, tmp_path: Path) -> None:
    interval = {"level": 0.9, "lower": -0.05, "upper": 0.07}
    model = with_card(model, interval=interval)
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
    map_scene(
        model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(date=pixels.dates[date])
    )
    assert_equal_to_predict(tmp_path / "m.tif", predicted(model, pixels, date))


@pytest.mark.usefixtures("small_blocks")
def test_every_date_at_once_is_each_date_alone(model: Model, scene: Path, tmp_path: Path) -> None:
    xarray = pytest.importorskip("xarray", reason="reads the map back")
    pixels = make_pixels()
    map_scene(model, read_scene(scene), tmp_path / "m.nc", RetrievalOptions(every=True))
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


def test_one_date_or_all_not_both(model: Model, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one date or all dates, not both"):
        map_scene(
            model,
            read_scene(scene),
            tmp_path / "m.nc",
            RetrievalOptions(date="2024-03-28", every=True),
        )


def test_one_date_per_cog_and_known_extensions(model: Model, scene: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="a COG holds one date"):
        map_scene(model, read_scene(scene), tmp_path / "m.tif", RetrievalOptions(every=True))
    with pytest.raises(UsageError, match=r"written as .tif \(COG\), .nc"):
        map_scene(model, read_scene(scene), tmp_path / "m.png")
    with pytest.raises(UsageError, match="does not exist; make it first"):
        map_scene(model, read_scene(scene), tmp_path / "none" / "m.tif")
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_an_old_output_is_replaced(model: Model, scene: Path, tmp_path: Path) -> None:
    for suffix in (".tif", ".nc", ".zarr"):
        path = tmp_path / f"m{suffix}"
        for date in ("2024-03-28", "2024-04-09"):
            map_scene(model, read_scene(scene), path, RetrievalOptions(date=date))
        assert path.exists()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m.nc", "m.tif", "m.zarr", "scene"]


def test_each_acquisition_is_isolated_once_however_many_dates_are_mapped(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kgsm_infer import kernels
    from kgsm_infer.model import observations

    isolated: list[int] = []

    def counted(wcm: Any, sigma0_db: Any, *others: Any) -> Any:
        isolated.append(len(sigma0_db))
        return kernels.isolate(wcm, sigma0_db, *others)

    monkeypatch.setattr(observations, "kernels", SimpleNamespace(isolate=counted))
    map_scene(model, read_scene(scene), tmp_path / "all.nc", RetrievalOptions(every=True))
    height, width = make_pixels().shape
    assert sum(isolated) == len(DATES) * height * width


def test_the_history_of_a_date_is_checked_once_for_all_its_pixels(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kgsm_infer.kernels import window

    checked: list[int] = []
    plain = window.check_history

    def counted(rows: Any, *others: Any) -> Any:
        checked.append(len(rows))
        return plain(rows, *others)

    monkeypatch.setattr(window, "check_history", counted)
    map_scene(model, read_scene(scene), tmp_path / "all.nc", RetrievalOptions(every=True))
    assert checked == [len(DATES)], "one block of pixels, one window for each date"
