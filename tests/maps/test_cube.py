"""NetCDF and Zarr: decoded by others, and read as a scene again."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import CRS, NORTH, WEST, make_pixels
from map_checks import predicted

from kgsm_infer.base import flags
from kgsm_infer.maps import attributes, cube
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.model import Model
from kgsm_infer.scenes import datasets
from kgsm_infer.scenes.manifest import read_scene, scene_from
from kgsm_infer.scenes.opening import open_stack

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


@pytest.mark.parametrize("suffix", [".nc", ".zarr"])
def test_cubes_decode_by_cf(model: Model, scene: Path, tmp_path: Path, suffix: str) -> None:
    xarray = pytest.importorskip("xarray", reason="independent reader")
    pytest.importorskip("cf_xarray", reason="independent reader of CF flags")
    path = tmp_path / f"m{suffix}"
    map_scene(model, read_scene(scene), path, RetrievalOptions(every=True))
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

    map_scene(model, read_scene(scene), tmp_path / "m.nc", RetrievalOptions(every=True))
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
        map_scene(model, read_scene(scene), path, RetrievalOptions(every=True))
        raw = {"layers": {"vh_db": {"file": str(path), "variable": "sm", "offset": -20}}}
        stack = open_stack(scene_from(raw, "again"), "vh", [])
        assert [str(date)[:10] for date in stack.dates] == list(make_pixels().dates)


def test_a_written_cube_holds_one_chunk_of_a_variable_in_memory(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library's default is 64 MB for each variable, written and read back."""
    held: list[tuple[str, int, int]] = []
    plain = cube._hold_one_chunk

    def watched(variable: Any) -> None:
        plain(variable)
        size, count, _ = variable.get_var_chunk_cache()
        held.append((variable.name, size, count))

    monkeypatch.setattr(cube, "_hold_one_chunk", watched)
    map_scene(model, read_scene(scene), tmp_path / "m.nc", RetrievalOptions(every=True))
    height, width = make_pixels().shape
    expected = [
        (name, height * width * dtype.itemsize, 1) for name, dtype in attributes.VARIABLES.items()
    ]
    assert held == 2 * expected


def test_no_thread_reads_netcdf_while_a_map_is_written(
    model: Model, scene: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HDF5 is not safe in threads: a reader in another thread ended the process."""
    plain, others = cube._hold_one_chunk, ThreadPoolExecutor(1)
    was_free: list[bool] = []

    def watched(variable: Any) -> None:
        plain(variable)
        was_free.append(others.submit(datasets._LIBRARY.acquire, blocking=False).result())

    monkeypatch.setattr(cube, "_hold_one_chunk", watched)
    map_scene(model, read_scene(scene), tmp_path / "m.nc", RetrievalOptions(every=True))
    assert was_free == [False] * 2 * len(attributes.VARIABLES)
    others.shutdown()
