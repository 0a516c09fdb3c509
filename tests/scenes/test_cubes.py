"""Cubes: axes by what they are, in any order and direction, and times as CF has them."""

from __future__ import annotations

import errno
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, MissingError

xr = pytest.importorskip("xarray", reason="cubes need kgsm[raster]")
pytest.importorskip("rasterio", reason="cubes need kgsm[raster]")

from kgsm_infer.scenes.grid import Grid, Window  # noqa: E402
from kgsm_infer.scenes.manifest import scene_from  # noqa: E402
from kgsm_infer.scenes.opening import open_stack  # noqa: E402
from kgsm_infer.scenes.reader import Reader  # noqa: E402
from kgsm_infer.scenes.stack import Stack  # noqa: E402

DATES = ["2022-06-01T05:30:12", "2022-06-13T05:30:12", "2022-06-25T05:30:12"]
X, Y = 500005.0 + 10 * np.arange(4), 5599995.0 - 10 * np.arange(5)
#: (time, y, x), north up
VH = -20 + np.arange(60.0).reshape(3, 5, 4) / 10


def utm() -> dict[str, str]:
    from rasterio.crs import CRS

    return {"crs_wkt": CRS.from_epsg(32631).to_wkt(), "grid_mapping_name": "transverse_mercator"}


def cube(values: Any = VH, **attributes: Any) -> Any:
    return xr.Dataset(
        {
            "vh": (("time", "y", "x"), values, {"grid_mapping": "crs", **attributes}),
            "crs": ((), 0, utm()),
        },
        coords={"time": np.asarray(DATES, "datetime64[ns]"), "y": Y, "x": X},
    )


def opened(folder: Path, name: str, **keys: Any) -> Stack:
    layer = {"file": name, "variable": "vh", **keys}
    return open_stack(scene_from({"layers": {"vh_db": layer}}, "s", folder), "vh", [])


def read(stack: Stack) -> np.ndarray:
    grid = stack.grid
    with Reader(stack) as reader:
        window = Window(0, 0, grid.height, grid.width)
        return np.stack([reader.column("vh_db", k, window) for k in range(len(stack.dates))])


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    order=st.permutations(["time", "y", "x"]),
    flips=st.tuples(*[st.booleans()] * 3),
    suffix=st.sampled_from([".nc", "2.zarr", "3.zarr"]),
    packed=st.booleans(),
)
def test_any_order_and_direction_is_the_same_map(
    tmp_path_factory: pytest.TempPathFactory,
    order: list[str],
    flips: tuple[bool, ...],
    suffix: str,
    packed: bool,
) -> None:
    folder = tmp_path_factory.mktemp("cube")
    turned = cube().transpose(*order)
    for dim, flip in zip(order, flips, strict=True):
        turned = turned.isel({dim: slice(None, None, -1)}) if flip else turned
    path = folder / f"c{suffix}"
    encoding = {"scale_factor": 0.1, "add_offset": -20.0, "dtype": "int16", "_FillValue": -1}
    options = {"encoding": {"vh": encoding}} if packed else {}
    if suffix == ".nc":
        turned.to_netcdf(path, **options)
    else:
        turned.to_zarr(path, zarr_format=int(suffix[0]), **options)
    stack = opened(folder, path.name)
    assert stack.grid.orientation == "north-up"
    assert stack.grid.bounds == (500000.0, 5599950.0, 500040.0, 5600000.0)
    assert [str(date) for date in stack.dates] == DATES
    np.testing.assert_allclose(read(stack), VH, atol=1e-9)


def test_fill_values_and_the_valid_range_are_missing_and_unsigned_is_unsigned(
    tmp_path: Path,
) -> None:
    stored = np.full((3, 5, 4), 200, np.uint8)
    stored[0, 0, :3] = (255, 0, 250)
    data = cube(
        stored.view(np.int8),
        _Unsigned="true",
        valid_range=np.asarray([1, 249], np.uint8),
        scale_factor=-0.1,
    )
    data.vh.attrs["_FillValue"] = np.int8(-1)
    data.to_netcdf(tmp_path / "c.nc")
    values = read(opened(tmp_path, "c.nc"))
    assert np.isnan(values[0, 0, :3]).all() and np.allclose(values[0, 0, 3], -20)


@pytest.mark.parametrize(
    ("units", "numbers"),
    [
        ("microseconds since 2022-06-01 05:30:12.1234", [0, 12 * 86400000000, 24 * 86400000000]),
        ("hours since 2022-06-01 15:30:12 +10:00", [0, 288, 576]),
        ("days since 2022-06-01T05:30:12Z", [0.0, 12.0, 24.0]),
    ],
)  # fmt: skip
def test_times_in_any_cf_unit_are_utc_seconds(
    tmp_path: Path, units: str, numbers: list[float]
) -> None:
    data = cube().assign_coords(time=("time", numbers, {"units": units}))
    data.to_netcdf(tmp_path / "c.nc")
    assert [str(date) for date in opened(tmp_path, "c.nc").dates] == DATES


@pytest.mark.parametrize(
    ("attributes", "values", "cause"),
    [
        ({}, [0, 1, 2], "numbers without units"),
        ({"units": "days since 2022-06-01", "calendar": "noleap"}, [0, 1, 2], "noleap"),
        ({"units": "parsecs since 2022-06-01"}, [0, 1, 2], "cannot be decoded"),
    ],
)
def test_a_time_axis_that_cannot_be_told_is_refused_until_it_is_stated(
    tmp_path: Path, attributes: dict[str, str], values: list[int], cause: str
) -> None:
    cube().assign_coords(time=("time", values, attributes)).to_netcdf(tmp_path / "c.nc")
    with pytest.raises(DataError, match=cause + r".*; or write dates = \[...\]"):
        opened(tmp_path, "c.nc")
    stated = opened(tmp_path, "c.nc", dates=["2022-06-01", "2022-06-13", "2022-06-25"])
    np.testing.assert_allclose(read(stated), VH)


def test_latitude_and_longitude_are_a_crs_and_another_can_be_stated(tmp_path: Path) -> None:
    lon, lat = 3.0 + 1e-4 * np.arange(4), 50.5 - 1e-4 * np.arange(5)
    plain = cube().drop_vars("crs").rename(x="lon", y="lat").assign_coords(lon=lon, lat=lat)
    del plain.vh.attrs["grid_mapping"]
    plain.lon.attrs["units"], plain.lat.attrs["units"] = "degrees_east", "degrees_north"
    plain.to_netcdf(tmp_path / "g.nc")
    stack = opened(tmp_path, "g.nc")
    assert "4326" in stack.grid.crs and stack.grid.bounds[0] == pytest.approx(2.99995)
    np.testing.assert_allclose(read(stack), VH)

    nowhere = cube().drop_vars("crs")
    del nowhere.vh.attrs["grid_mapping"]
    nowhere.to_netcdf(tmp_path / "n.nc")
    with pytest.raises(DataError, match=r'has no CRS.*say crs = "EPSG:…" in its layer'):
        opened(tmp_path, "n.nc")
    stated = opened(tmp_path, "n.nc", crs="EPSG:32631")
    assert "UTM zone 31N" in stated.grid.crs
    with pytest.raises(DataError, match=r"layers.vh_db.crs: 'EPSG:moon' is not a CRS"):
        opened(tmp_path, "n.nc", crs="EPSG:moon")


def test_a_cube_is_brought_to_a_stated_grid(tmp_path: Path) -> None:
    """Half the pixels' size, a part of the extent, some of it beyond the cube."""
    cube().to_netcdf(tmp_path / "c.nc")
    raw = {
        "layers": {"vh_db": {"file": "c.nc", "variable": "vh", "resample": "nearest"}},
        "grid": {
            "crs": "EPSG:32631",
            "bounds": [500020, 5599960, 500060, 5600000],
            "resolution": 5,
        },
    }
    stack = open_stack(scene_from(raw, "s", tmp_path), "vh", [])
    assert isinstance(stack.grid, Grid) and (stack.grid.height, stack.grid.width) == (8, 8)
    fine = VH[:, :4, 2:].repeat(2, axis=1).repeat(2, axis=2)
    got = read(stack)
    np.testing.assert_allclose(got[:, :, :4], fine)
    assert np.isnan(got[:, :, 4:]).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d.assign_coords(x=X[[0, 1, 2, 2]]), "or repeat|evenly spaced"),
        (lambda d: d.assign_coords(x=X + np.asarray([0, 0, 3, 0])), "not evenly spaced"),
        (lambda d: d.rename(x="column", y="row"), "is a x axis"),
        (lambda d: d.expand_dims(depth=[0.0, 1.0]), r"a further dimension, depth \(2\)"),
        (lambda d: d.rename(vh="other"), "no variable 'vh'; name one, variable = …: other"),
        (lambda d: d.isel(x=[0]), "one pixel wide or high"),
    ],
)
def test_a_cube_that_cannot_be_placed_is_refused(tmp_path: Path, change: Any, words: str) -> None:
    change(cube()).to_netcdf(tmp_path / "c.nc")
    with pytest.raises(DataError, match=words):
        opened(tmp_path, "c.nc")


def test_what_is_no_cube_is_refused_in_a_line(tmp_path: Path) -> None:
    (tmp_path / "c.nc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    (tmp_path / "e.zarr").mkdir()
    for name in ("c.nc", "e.zarr"):
        with pytest.raises(DataError, match="cannot be opened"):
            opened(tmp_path, name)


def test_a_cause_in_the_machine_is_not_blamed_on_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grid mapping without WKT needs pyproj; units need memory; a pattern needs open files."""
    bare = cube()
    del bare.crs.attrs["crs_wkt"]
    bare.to_netcdf(tmp_path / "c.nc")
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pyproj", None)
        with pytest.raises(MissingError, match="a grid mapping needs pyproj"):
            opened(tmp_path, "c.nc")

    def fail(error: BaseException) -> Any:
        def raising(*_: Any, **__: Any) -> Any:
            raise error

        return raising

    cube().to_netcdf(tmp_path / "d.nc")
    with monkeypatch.context() as patch:
        patch.setattr(xr, "decode_cf", fail(MemoryError()))
        with pytest.raises(MissingError, match="not enough memory"):
            opened(tmp_path, "d.nc")
    raw = {"layers": {"vh_db": {"files": "*_20220601.tif"}}}
    (tmp_path / "a_20220601.tif").touch()
    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_file", fail(OSError(errno.EMFILE, "Too many open files")))
        with pytest.raises(MissingError, match="too many open files"):
            scene_from(raw, "s", tmp_path)


def test_the_only_variable_needs_no_name(tmp_path: Path) -> None:
    cube().to_netcdf(tmp_path / "c.nc")
    raw = {"layers": {"vh_db": {"file": "c.nc"}}}
    stack = open_stack(scene_from(raw, "s", tmp_path), "vh", [])
    np.testing.assert_allclose(read(stack), VH)


@pytest.mark.parametrize(
    "values", [[20220601, 20220613, 20220625], ["2022-06-01", "20220613", "2022-06-25T00:00Z"]]
)
def test_dates_written_as_yyyymmdd_or_iso_text_are_read(tmp_path: Path, values: list) -> None:
    cube().assign_coords(time=("time", values)).to_netcdf(tmp_path / "c.nc")
    stack = opened(tmp_path, "c.nc")
    days = [str(item.date)[:10] for item in stack.layers["vh_db"].slices]
    assert days == ["2022-06-01", "2022-06-13", "2022-06-25"]


@pytest.mark.parametrize(
    ("attributes", "cause"),
    [
        ({"scale_factor": "0.01"}, "scale_factor is '0.01'; expected a finite number"),
        ({"scale_factor": [0.01, 0.02]}, "expected a finite number"),
        ({"add_offset": float("nan")}, "add_offset is 'nan'; expected a finite number"),
        ({"scale_factor": 0.0}, "its scale is 0"),
        ({"scale_factor": 1.8e306}, "its scale is 1.8e+306"),
        ({"valid_range": "-60 0"}, "valid_range is '-60 0'; expected 2 numbers"),
        ({"valid_min": "low"}, "valid_min is 'low'; expected 1 numbers"),
    ],
)
def test_attributes_that_are_no_numbers_are_named(
    tmp_path: Path, attributes: dict[str, Any], cause: str
) -> None:
    cube(**attributes).to_netcdf(tmp_path / "c.nc")
    with pytest.raises(DataError) as refusal:
        read(opened(tmp_path, "c.nc"))
    assert cause in str(refusal.value) and str(refusal.value).isprintable()


def test_damaged_coordinates_and_names_are_one_line(tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="Zarr needs kgsm[cluster]")
    cube().assign_coords(orbit=("time", [22, 22, 22])).to_zarr(tmp_path / "c.zarr", zarr_format=2)
    stored = tmp_path / "c.zarr" / "orbit" / "0"
    stored.write_bytes(stored.read_bytes()[:5])
    with pytest.raises(DataError) as refusal:
        opened(tmp_path, "c.zarr")
    assert "cannot be opened" in str(refusal.value) and str(refusal.value).isprintable()


@pytest.mark.parametrize(
    ("dtype", "form"), [("f4", "NETCDF3_CLASSIC"), ("f8", "NETCDF4"), ("i2", "NETCDF4")]
)
def test_parts_that_were_never_written_are_missing(tmp_path: Path, dtype: str, form: str) -> None:
    """NetCDF fills them with a number, whether or not the variable names it."""
    netCDF4 = pytest.importorskip("netCDF4")
    cube().drop_vars("vh").to_netcdf(tmp_path / "a.nc", format=form)
    with netCDF4.Dataset(tmp_path / "a.nc", "a") as file:
        vh = file.createVariable("vh", dtype, ("time", "y", "x"))
        vh.grid_mapping = "crs"
        vh[0] = -20
    values = read(opened(tmp_path, "a.nc"))
    assert (values[0] == -20).all() and np.isnan(values[1:]).all()
