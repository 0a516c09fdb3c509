"""A NetCDF file is open once in a process, whoever reads it."""

from concurrent.futures import ThreadPoolExecutor
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest

xr = pytest.importorskip("xarray")
pytest.importorskip("netCDF4")

from kgsm_infer.scenes import datasets  # noqa: E402
from kgsm_infer.scenes.datasets import opened_dataset  # noqa: E402
from kgsm_infer.scenes.open_files import OpenFiles  # noqa: E402


@pytest.fixture
def file(tmp_path):
    """A file with text, whose handles the NetCDF library mixes up."""
    path = tmp_path / "cube.nc"
    xr.Dataset(
        {"vh": (("time", "x"), np.arange(12.0).reshape(6, 2)), "orbit": ("time", ["a"] * 6)},
        {"time": np.arange(6), "x": [0.0, 1.0]},
    ).to_netcdf(path)
    return str(path)


@pytest.fixture
def opens(monkeypatch):
    """Count the calls of xarray's open_dataset."""
    calls = []
    original = xr.open_dataset
    monkeypatch.setattr(xr, "open_dataset", lambda *a, **k: (calls.append(a), original(*a, **k))[1])
    return calls


def test_users_share_one_file_closed_in_any_order(file, opens):
    for order in permutations(range(3)):
        opens.clear()
        users = [opened_dataset(file) for _ in order]
        assert len(opens) == 1
        for at in order:
            with users[at].reading():
                assert users[at].content["vh"].values.sum() == 66
            users[at].close()
            users[at].close()  # a second call closes nobody else's
        again = opened_dataset(file)
        assert len(opens) == 2 and again.content["vh"].shape == (6, 2)
        again.close()


def test_threads_share_the_file_and_its_numbers(file, opens):
    first = opened_dataset(file)

    def read(row):
        own = opened_dataset(file)
        with own.reading():
            found = own.content["vh"][row].values.tolist()
        own.close()
        return found

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(read, list(range(6)) * 8))
    assert found == [[2.0 * row, 2.0 * row + 1] for row in range(6)] * 8 and len(opens) == 1
    first.close()


def test_a_file_that_was_replaced_is_opened_anew(file, opens):
    old = opened_dataset(file)
    xr.Dataset({"vh": ("x", [7.0])}).to_netcdf(file + ".new")
    Path(file + ".new").replace(file)
    new = opened_dataset(file)
    assert new.content["vh"].values.tolist() == [7.0] and len(opens) == 2
    assert old.content["vh"].shape == (6, 2)
    new.close()
    old.close()


def test_a_user_that_is_lost_releases_the_file(file):
    lost, kept = opened_dataset(file), opened_dataset(file)
    del lost
    assert [shared.users for shared in datasets._OPEN.values()] == [1]
    kept.close()
    assert not datasets._OPEN


def test_files_beyond_the_number_that_may_be_open_are_closed(tmp_path):
    axes = {
        "y": ("y", [1.0, 0.0], {"standard_name": "projection_y_coordinate"}),
        "x": ("x", [0.0, 1.0], {"standard_name": "projection_x_coordinate"}),
    }
    files = OpenFiles()
    files._most = 1
    for number in range(3):
        path = tmp_path / f"{number}.nc"
        xr.Dataset({"vh": (("y", "x"), np.ones((2, 2)))}, axes).to_netcdf(path)
        files.open(f'netcdf:"{path}":vh', "EPSG:32655")
        assert len(datasets._OPEN) == 1
    files.close()
    assert not datasets._OPEN
