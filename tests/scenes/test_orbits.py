"""Relative orbits of acquisitions: stated, in a cube, in products' names, or refused."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import CRS, NORTH, STEP, WEST, write_tif

import kgsm_infer
from kgsm_infer.base.errors import DataError
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.maps.plan import plan_map
from kgsm_infer.scenes.manifest import Scene, scene_from
from kgsm_infer.scenes.orbits import orbit_in, read_orbits, relative_orbit, several_clocks

pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
xr = pytest.importorskip("xarray", reason="cubes need kgsm[cluster]")

INDEX = kgsm_infer.load("wetness")
#: Two orbits, two passes on the second day.
TIMES = ("20240301T053012", "20240307T053012", "20240307T170244")


@pytest.mark.parametrize(
    ("name", "orbit"),
    [
        ("S1B_20211223T051122_022D_vv_sigma0.tif", "22D"),
        ("a/OPERA_L2_RTC-S1_T069-147170-IW1_20220610T004812Z_20220611T000000Z_S1A_30_v1.0_VH.tif",
         "69"),
        ("S1A_IW_GRDH_1SDV_20220610T004812_20220610T004837_043598_05349E_rtc/measurement/vh.tif",
         "126"),
        ("S1B_IW_SLC__1SDV_20210810T044826_20210810T044859_028179_035C9B_6C5A.SAFE", "153"),
        ("S1C_IW_GRDH_1SDV_20250401T224512_20250401T224537_001700_000001_ABCD.tif", "129"),
        ("S1C_IW_GRDH_1SDV_20260801T224512_20260801T224537_009000_000001_ABCD.tif", ""),
        ("S1D_IW_GRDH_1SDV_20260110T224512_20260110T224537_003000_000001_ABCD.tif", ""),
        ("S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_VH.tif", ""),
        ("2024-03-04/vh.tif", ""),
    ],
)  # fmt: skip
def test_products_name_their_orbit(name: str, orbit: str) -> None:
    """From the number in the name, or from the absolute orbit: (43598 - 73) mod 175 + 1 = 126."""
    assert orbit_in(name) == orbit


def test_relative_orbits_count_from_1_to_175() -> None:
    found = [relative_orbit("S1A", absolute) for absolute in range(73, 73 + 350)]
    assert found == [*range(1, 176)] * 2


@pytest.mark.parametrize(
    ("variables", "orbits"),
    [
        ({"orbit": ["069", "69.0", "117"]}, ("69", "69", "117")),
        ({"relative_orbit": [69.0, 69.0, np.nan]}, ("69", "69", "")),
        ({"sat:relative_orbit": [69, 69, 117], "sat:orbit_state": ["descending"] * 3},
         ("DESCENDING-69", "DESCENDING-69", "DESCENDING-117")),
        ({"orbit": np.asarray([b"22D", b"22D", b"117A"])}, ("22D", "22D", "117A")),
        ({"orbit_state": ["descending"] * 3}, ()),
        ({}, ()),
    ],
)  # fmt: skip
def test_variables_of_a_dataset_name_orbits(variables: Any, orbits: tuple[str, ...]) -> None:
    stack = xr.Dataset({name: ("time", cells) for name, cells in variables.items()})
    assert read_orbits(stack.variables, "time", 3, "x") == orbits


@pytest.mark.parametrize(
    ("cells", "attributes"),
    [
        (np.asarray([69, -1, 69], np.int16), {"_FillValue": np.int16(-1)}),
        (np.asarray([69, 0, 69], np.uint8), {"missing_value": np.uint8(0)}),
        (np.asarray([69, -9999, 69]), {}),
        (np.asarray(["69", "none seen", "69"], object), {"_FillValue": "none seen"}),
    ],
)
def test_a_fill_value_is_no_orbit(cells: Any, attributes: Any) -> None:
    """A file read without masks has fill values; a Dataset that xarray masks has NaN."""
    stack = xr.Dataset({"relative_orbit": ("time", cells, attributes)})
    assert read_orbits(stack.variables, "time", 3, "x") == ("69", "", "69")


def test_one_orbit_for_each_time() -> None:
    one = xr.Dataset({"orbit": 69})
    assert read_orbits(one.variables, "time", 2, "x") == ("69", "69")
    for dims in (("y",), ("time", "y")):
        raster = xr.Dataset({"orbit": (dims, np.ones((2, 3)[: len(dims)]))})
        with pytest.raises(DataError, match="give one orbit for each time"):
            read_orbits(raster.variables, "time", 2, "x")


def scene(folder: Path, names: Any, **keys: Any) -> Scene:
    for at, name in enumerate(names):
        write_tif(folder / name, np.full((3, 4), -15.0 - at))
    raw = {"layers": {"vh_db": {"files": "S1*.tif", **keys}}}
    return scene_from(raw, "s.toml", folder)


def test_names_and_stated_orbits_reach_the_stack(tmp_path: Path) -> None:
    orbits = ("022D", "022D", "117A")
    names = [f"S1A_{time}_{o}_vh.tif" for time, o in zip(TIMES, orbits, strict=True)]
    plan = plan_map(INDEX, scene(tmp_path, names), RetrievalOptions(every=True))
    assert plan.stack.orbits == ("22D", "22D", "117A") and not plan.notes
    stated = {"2024-03-01": 5, "2024-03-07T05:30:12": "5.0"}
    plan = plan_map(INDEX, scene(tmp_path, names, orbits=stated), RetrievalOptions(every=True))
    assert plan.stack.orbits == ("5", "5", "117A")
    with pytest.raises(DataError, match=r"layers\.vh_db\.orbits: no acquisition of 2024-03-02"):
        scene(tmp_path, names, orbits={"2024-03-02": 5})


def test_orbits_of_some_passes_only_are_refused(tmp_path: Path) -> None:
    names = [f"S1A_{TIMES[0]}_022D_vh.tif", f"S1A_{TIMES[1]}_vh.tif"]
    with pytest.raises(DataError, match=r"orbit of the acquisition of 2024-03-07T05:30:12 is not"):
        plan_map(INDEX, scene(tmp_path, names))


def test_sidecars_are_no_acquisitions(tmp_path: Path) -> None:
    """QGIS and GDAL write statistics, masks and overviews beside a raster."""
    name = f"S1A_{TIMES[0]}_022D_vh.tif"
    for end in (".aux.xml", ".ovr", ".msk", ".AUX.XML"):
        (tmp_path / f"{name}{end}").write_text("<PAMDataset/>")
    write_tif(tmp_path / name, np.full((3, 4), -15.0))
    raw = {"layers": {"vh_db": {"files": "S1A*vh.tif*"}}}
    assert len(scene_from(raw, "s.toml", tmp_path).layers["vh_db"].slices) == 1


def test_two_orbits_in_one_pass_are_refused(tmp_path: Path) -> None:
    names = [f"S1A_{TIMES[0]}_022D_vh.tif", "S1A_20240301T053037_117A_vh.tif"]
    with pytest.raises(DataError, match=r"of one pass .* and of two orbits"):
        scene(tmp_path, names)


def test_passes_that_cannot_be_told_apart_are_noted(tmp_path: Path) -> None:
    names = [f"S1A_{time}_vh.tif" for time in TIMES]
    assert "compared as one orbit" in plan_map(INDEX, scene(tmp_path / "a", names)).notes[0]
    assert not plan_map(INDEX, scene(tmp_path / "b", names[:2])).notes
    around_midnight = np.asarray(["2024-03-01T23:59:50", "2024-03-13T00:00:10"], "M8[s]")
    assert not several_clocks(around_midnight)


def stack(orbits: Any = None) -> Any:
    times = ["2024-03-01T05:30:12", "2024-03-07T05:30:12", "2024-03-07T17:02:44"]
    coords = {"time": np.asarray(times, "M8[ns]")}
    if orbits is not None:
        coords["relative_orbit"] = ("time", orbits)
    vh_db = np.arange(-18.0, -15.0)[:, None, None] * np.ones((3, 2, 2))
    return xr.Dataset({"vh_db": (("time", "y", "x"), vh_db)}, coords)


def test_a_dataset_says_so_too() -> None:
    from kgsm_infer.maps.lazy import retrieve

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        apart = retrieve("wetness", stack([22, 22, 117]), every=True).wetness.values
    with pytest.warns(UserWarning, match="compared as one orbit"):
        together = retrieve("wetness", stack(), every=True).wetness.values
    np.testing.assert_array_equal(apart[:2], together[:2])
    assert (apart[2] != together[2]).all()
    with pytest.raises(DataError, match="give a coordinate orbit"):
        retrieve("wetness", stack([22, np.nan, 117]))
    frames = stack([22, 22, 117]).isel(time=[0, 1])
    frames = frames.assign_coords(time=frames.time[0].values + np.asarray([0, 25], "m8[s]"))
    assert retrieve("wetness", frames).sizes["time"] == 1
    with pytest.raises(DataError, match="is of another orbit"):
        retrieve("wetness", frames.assign_coords(relative_orbit=("time", [22, 117])))


@pytest.mark.parametrize("lazily", [False, True])
def test_orbits_leave_no_coordinate_in_the_result(lazily: bool) -> None:
    from kgsm_infer.maps.lazy import retrieve

    given = stack([22, 22, 117])
    if lazily:
        pytest.importorskip("dask", reason="lazy arrays need kgsm[cluster]")
        given = given.chunk({"x": 1})
    for every in (False, True):
        assert set(retrieve("wetness", given, every=every).load().coords) == {"time"}


def test_a_cube_names_its_orbits(tmp_path: Path) -> None:
    cube = stack(["22D", "22D", "117A"]).assign_coords(
        y=NORTH - STEP * np.arange(2), x=WEST + STEP * np.arange(2)
    )
    cube.to_netcdf(tmp_path / "c.nc")
    layer = {"file": "c.nc", "variable": "vh_db", "crs": CRS}
    plan = plan_map(INDEX, scene_from({"layers": {"vh_db": layer}}, "s.toml", tmp_path))
    assert plan.stack.orbits == ("22D", "22D", "117A")


@pytest.mark.parametrize("transform", [(10, 10, 6e5, 10, 10, 5.6e6), (5, 0, 6e5, 7, 0, 5.6e6)])
def test_pixels_without_an_area_are_refused(tmp_path: Path, transform: Any) -> None:
    import rasterio

    name = f"S1A_{TIMES[0]}_022D_vh.tif"
    write_tif(tmp_path / name, np.full((4, 5), -15.0), transform=rasterio.Affine(*transform))
    raw = {"layers": {"vh_db": {"files": name}}}
    with pytest.raises(DataError, match="its pixels have no area or no place"):
        plan_map(INDEX, scene_from(raw, "s.toml", tmp_path))
