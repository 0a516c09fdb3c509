"""Lazy retrieval: the same numbers as predict, in chunks, and when a worker is lost."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_scenes import Pixels, make_pixels
from running import PATIENCE_S, wait_for

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError, KgsmError, ModelError
from kgsm_infer.model.model import Retrieval
from kgsm_infer.tables.table import table_from_columns

pandas = pytest.importorskip("pandas", reason="lazy retrieval needs kgsm[cluster]")
xr = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
pytest.importorskip("dask.array", reason="lazy retrieval needs kgsm[cluster]")

from kgsm_infer.maps.lazy import retrieve  # noqa: E402  only where xarray is


def dataset(pixels: Pixels) -> Any:
    """The pixels as an xarray Dataset of float32 variables."""
    height, width = pixels.shape
    return xr.Dataset(
        {
            name: (("time", "y", "x")[-plane.ndim :], plane.astype(np.float32))
            for name, plane in pixels.planes.items()
        },
        coords={
            "time": np.asarray(pixels.dates, "datetime64[ns]"),
            "y": np.arange(height)[::-1] * 10.0,
            "x": np.arange(width) * 10.0,
        },
    )


def predicted(path: Path, pixels: Pixels, date: int) -> Retrieval:
    model = kgsm_infer.load(path)
    table = table_from_columns(pixels.columns(), features=model.table_features())
    rows = np.flatnonzero(table.date == np.datetime64(pixels.dates[date]))
    return model.predict(table).take(rows)


def assert_same(cube: Any, k: int, expected: Retrieval) -> None:
    np.testing.assert_array_equal(cube.flags.values[k].ravel(), expected.flags)
    np.testing.assert_allclose(cube.sm.values[k].ravel(), expected.sm, rtol=0, atol=1e-6)


@pytest.mark.parametrize("chunks", [None, {"y": 7, "x": 11}, {"time": 1, "y": 20, "x": 30}])
def test_chunks_of_any_size_equal_predict(tiny_model: Path, chunks: dict[str, int] | None) -> None:
    pixels, path = make_pixels(), tiny_model / "model.core.onnx"
    stack = dataset(pixels) if chunks is None else dataset(pixels).chunk(chunks)
    lazy = retrieve(path, stack, every=True)
    assert (lazy.sm.chunks is None) == (chunks is None)
    cube = lazy.compute()
    assert cube.sm.dtype == np.float32 and cube.flags.dtype == np.uint16
    for k in range(4):
        assert_same(cube, k, predicted(path, pixels, k))
    last = retrieve(path, stack).compute()
    assert last.sizes["time"] == 1 and str(last.time.values[0])[:10] == "2024-04-09"
    assert_same(last, 0, predicted(path, pixels, 3))
    assert "SIMULATED" in last.attrs["comment"]


def test_units_and_frozen_soil_are_those_of_a_table(tiny_model: Path) -> None:
    pixels, path = make_pixels(), tiny_model / "model.core.onnx"
    cold = np.where(np.arange(30) < 10, -2.0, 5.0) * np.ones((4, 20, 1))
    pixels = replace(pixels, planes={**pixels.planes, "temp_c": cold})
    expected = predicted(path, pixels, 3)
    stack = dataset(pixels).astype(np.float64)
    cos = np.cos(np.deg2rad(stack.angle_deg))
    stack["vh_gamma0_linear"] = 10 ** (stack.vh_db / 10) / cos
    cube = retrieve(path, stack.drop_vars("vh_db").chunk(y=8)).compute()
    assert_same(cube, 0, expected)
    assert (cube.flags.values[0, :, :10] & flags.FROZEN_OR_SNOW).all()


def test_zarr_in_zarr_out(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("zarr", reason="needs kgsm[cluster]")
    pixels, path = make_pixels(), tiny_model / "model.core.onnx"
    dataset(pixels).to_zarr(tmp_path / "in.zarr", zarr_format=2)
    stack = xr.open_zarr(tmp_path / "in.zarr").chunk(time=-1, y=10, x=10)
    retrieve(path, stack, every=True).to_zarr(tmp_path / "out.zarr", zarr_format=2)
    with xr.open_zarr(tmp_path / "out.zarr") as cube:
        assert_same(cube, 2, predicted(path, pixels, 2))


def test_what_is_missing_or_out_of_order_is_named(tiny_model: Path) -> None:
    path, stack = tiny_model / "model.core.onnx", dataset(make_pixels())
    for name in ("vh_db", "clay", "ndvi", "angle_deg"):
        with pytest.raises(DataError, match=name):
            retrieve(path, stack.drop_vars(name))
    with pytest.raises(DataError, match="times must be ascending"):
        retrieve(path, stack.isel(time=[1, 0, 2, 3]))
    with pytest.raises(DataError, match="needs dimensions time, y and x"):
        retrieve(path, stack.rename(y="lat"))


@pytest.mark.slow
def test_a_killed_worker_loses_nothing(tiny_model: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="needs kgsm[cluster]")
    pixels, path = make_pixels(300, 300), tiny_model / "model.core.onnx"
    stack = dataset(pixels).chunk(y=30, x=30)
    alone = retrieve(path, stack, every=True).compute(scheduler="synchronous")

    def hold_last(block, block_id):
        """Keep the last chunk waiting, so that the run cannot end before a worker is killed."""
        if block_id == (0, 9, 9):
            distributed.Event("killed").wait()
        return block

    gated = stack.vh_db.data.map_blocks(hold_last, dtype=stack.vh_db.dtype)
    held = stack.assign(vh_db=stack.vh_db.copy(data=gated))
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        future = client.compute(retrieve(path, held, every=True))
        victims = client.run(os.getpid)
        wait_for(lambda: len(client.who_has()) >= 20)
        assert not future.done()
        os.kill(next(iter(victims.values())), signal.SIGKILL)
        distributed.Event("killed", client=client).set()
        cube = future.result(timeout=PATIENCE_S)
    for name in ("sm", "sm_lower", "sm_upper", "flags"):
        np.testing.assert_array_equal(cube[name].values, alone[name].values)


def test_a_model_file_that_changed_is_read_again(tiny_model: Path, tmp_path: Path) -> None:
    path, stack = tmp_path / "model.core.onnx", dataset(make_pixels())
    path.write_bytes((tiny_model / "model.core.onnx").read_bytes())
    assert np.isfinite(retrieve(path, stack).sm.values).any()
    path.write_bytes(b"not a model")
    os.utime(path, ns=(1, 1))  # whatever the clock's grain
    with pytest.raises(ModelError, match=r"model\.core\.onnx"):
        retrieve(path, stack)
    path.unlink()
    with pytest.raises(KgsmError, match=r"model\.core\.onnx"):
        retrieve(path, stack)


DAYS = ("2024-01-01", "2024-01-13", "2024-01-25", "2024-02-06")


def plain_stack(times: Any = None) -> Any:
    """Four acquisitions of 4 x 4 pixels; every date has another backscatter."""
    vh_db = np.broadcast_to(-16 + 0.4 * np.arange(4.0)[:, None, None], (4, 4, 4))
    return xr.Dataset(
        {
            "vh_db": (("time", "y", "x"), vh_db.copy()),
            "ndvi": (("time", "y", "x"), np.full((4, 4, 4), 0.4)),
            "clay": ((), 25.0),
            "angle_deg": ((), 38.0),
        },
        {
            "time": np.asarray(DAYS, "datetime64[ns]") if times is None else times,
            "y": np.arange(4.0)[::-1],
            "x": np.arange(4.0),
        },
    )


@pytest.mark.parametrize(
    "times",
    [
        [20240101, 20240113, 20240125, 20240206],
        list(DAYS),
        [f"{day}T00:00:00Z" for day in DAYS],
        ("time", [0, 12, 24, 36], {"units": "days since 2024-01-01"}),
        [day.encode() for day in DAYS],
        [float(day.replace("-", "")) for day in DAYS],
        [f"{day}T10:00:00+10:00" for day in DAYS],
        pandas.PeriodIndex(DAYS, freq="D"),
        pandas.DatetimeIndex(DAYS).tz_localize("UTC").astype(object),
        [day.date() for day in pandas.DatetimeIndex(DAYS)],
    ],
)
def test_times_as_numbers_and_text_give_the_same_maps(tiny_model: Path, times: Any) -> None:
    path = tiny_model / "model.core.onnx"
    right = retrieve(path, plain_stack(), every=True)
    xr.testing.assert_equal(retrieve(path, plain_stack(times), every=True), right)


@pytest.mark.parametrize(
    ("times", "cause"),
    [
        ([19723, 19735, 19747, 19759], "numbers without units"),
        ([int(np.datetime64(day, "ns").astype(np.int64)) for day in DAYS], "numbers without units"),
        ([0.0, 288.0, 576.0, 864.0], "numbers without units"),
        (["2024-01-01", "2024-01-13", "then", "2024-02-06"], "'then' is not an ISO 8601 date"),
        (np.asarray([*DAYS[:3], "NaT"], "datetime64[ns]"), "time 4 is missing"),
        ([True, False, True, False], "numbers without units"),
        ([*DAYS[:3], ""], "time 4 is missing"),
        (np.asarray([*DAYS[:3], None], object), "time 4 is missing"),
        (pandas.PeriodIndex(DAYS, freq="M"), "is not an ISO 8601 date"),
    ],
)
def test_times_that_cannot_be_read_are_refused(tiny_model: Path, times: Any, cause: str) -> None:
    with pytest.raises(DataError, match=cause):
        retrieve(tiny_model / "model.core.onnx", plain_stack(times))


def unknown_chunks(stack: Any) -> Any:
    """Select rows by a lazy condition, so that dask does not know how many there are."""
    import dask.array

    plane = dask.array.from_array(stack.vh_db.values, chunks=(4, 2, 2))
    found = plane[:, plane[0, :, 0] < 0]
    return xr.Dataset(
        {
            "vh_db": (("time", "y", "x"), found),
            **{name: ((), value) for name, value in (("clay", 25.0), ("ndvi", 0.4))},
            "angle_deg": ((), 38.0),
        },
        {"time": stack["time"]},
    )


def test_other_objects_and_axes_are_refused_by_name(tiny_model: Path) -> None:
    path, stack = tiny_model / "model.core.onnx", plain_stack()
    for wrong, cause in (
        (stack.drop_vars("time"), "no time coordinate"),
        (stack.to_array("band"), "DataArray"),
        ({"vh_db": 1}, "is a dict"),
        (
            stack.assign(vh_db=stack.vh_db.expand_dims(band=["VH", "VV"])),
            r"vh_db also has band \(2\)",
        ),
        (stack.rename(y="lat", x="lon"), r"vh_db also has lat \(4\), lon \(4\); rename them to y"),
        (stack.stack(pixel=("y", "x")), r"also has pixel \(16\); rename them to y and x"),
        (stack.assign(vh_db=stack.vh_db[0].drop_vars("time")), "vh_db has no dimension time"),
        (stack.assign(vh_db=((), -15.0)), "vh_db has no dimension time"),
        (stack.assign(vh_db=stack.vh_db.astype(complex)), "vh_db is of type complex128"),
        (stack.assign(vh_db=stack.vh_db > -17), "vh_db is of type bool"),
        (stack.assign(ndvi=stack.ndvi.astype(str)), r"ndvi is of type <U\d+; expected real"),
        (stack.assign(ndvi=stack.ndvi.astype(object)), r"astype\(float\)"),
        (unknown_chunks(stack), "chunks of unknown size along y; call compute_chunk_sizes"),
        (stack.isel(x=slice(0)), "no pixel"),
        (stack.isel(time=slice(0)), "no acquisition"),
        (stack.isel(time=[0, 2, 1, 3]), "2024-01-13T00:00:00 follows 2024-01-25"),
    ):
        with pytest.raises(DataError, match=cause):
            retrieve(path, wrong)


@pytest.mark.parametrize("which", ["differ", "one lazy", "static lazy", "band axis", "coordinates"])
def test_chunks_may_differ_between_variables(tiny_model: Path, which: str) -> None:
    path, stack = tiny_model / "model.core.onnx", plain_stack()
    right = retrieve(path, stack, every=True)
    some = stack.vh_db.chunk(time=1, y=2, x=2)
    changed = {
        "differ": {"vh_db": some, "ndvi": stack.ndvi.chunk(time=4, y=3, x=4)},
        "one lazy": {"vh_db": some},
        "static lazy": {"ndvi": stack.ndvi[0].drop_vars("time").chunk(y=1)},
        "band axis": {"vh_db": some.expand_dims(band=["VH"])},
        "coordinates": {
            "vh_db": some,
            "platform": ("time", list("abcd")),
            "lon": (("y", "x"), np.ones((4, 4))),
            "spatial_ref": 0,
        },
    }[which]
    lazy = retrieve(path, stack.assign(changed).set_coords([*{*changed} - {*stack}]), every=True)
    assert lazy.sm.chunks is not None
    xr.testing.assert_equal(lazy.compute(), right)


@pytest.mark.parametrize("padding", [0.0, 12.0, -np.inf, np.nan])
@pytest.mark.parametrize("lazy", [False, True])
def test_padding_of_a_frame_does_not_hide_the_next(padding: float, lazy: bool) -> None:
    stack = plain_stack()[["vh_db"]]
    right = retrieve("wetness", stack, every=True)
    frames = stack.isel(time=[0, 0, 1, 2, 3]).copy(deep=True)
    frames.vh_db[0, :2], frames.vh_db[1, 2:] = padding, padding
    times = frames.time.values.copy()
    times[1] += np.timedelta64(25, "s")
    frames = frames.assign_coords(time=times)
    found = retrieve("wetness", frames.chunk(y=3) if lazy else frames, every=True)
    xr.testing.assert_equal(found.compute(scheduler="synchronous"), right)


def test_0_db_is_no_measurement_in_a_dataset_either(tiny_model: Path) -> None:
    stack = plain_stack()
    stack.vh_db[3, 0, 0], stack.vh_db[2, 0, 1] = 0.0, 8.0
    last = retrieve(tiny_model / "model.core.onnx", stack).isel(time=0)
    assert np.isnan(last.sm[0, 0]) and int(last["flags"][0, 0]) & flags.INPUT_OUT_OF_RANGE
    assert np.isfinite(last.sm[0, 1]) and int(last["flags"][0, 1]) & flags.SHORT_HISTORY


@pytest.mark.parametrize("kind", ["NETCDF4", "NETCDF3_CLASSIC", "zarr"])
@pytest.mark.parametrize("chunks", [None, {"time": 1, "y": 3}])
@pytest.mark.parametrize(
    ("attributes", "hole"),
    [
        ({"valid_range": np.asarray([-6000, 1000], np.int16)}, -7000),
        ({"valid_min": np.int16(-6000)}, -7000),
        ({"valid_range": np.asarray([-60.0, 10.0])}, -7000),
        ({"_FillValue": np.int16(-32768)}, -32768),
        ({"missing_value": np.int16(-9999)}, -9999),
    ],
)
def test_a_datasets_own_validity_counts_as_in_a_map(
    tmp_path: Path, kind: str, chunks: Any, attributes: dict[str, Any], hole: int
) -> None:
    stack = plain_stack()[["vh_db"]]
    right = retrieve("wetness", stack.where(stack.x != stack.x[0]), every=True)
    stored = np.rint(stack.vh_db.values * 100).astype(np.int16)
    stored[..., 0] = hole
    attributes = {**attributes, "scale_factor": 0.01, "add_offset": 0.0}
    packed = stack.assign(vh_db=(stack.vh_db.dims, stored, attributes))
    path = tmp_path / "stack"
    if kind == "zarr":
        packed.to_zarr(path)
    else:
        packed.to_netcdf(path, format=kind)
    options = {"engine": "zarr" if kind == "zarr" else "netcdf4", "chunks": chunks}
    with xr.open_dataset(path, **options) as decoded:
        found = retrieve("wetness", decoded, every=True).compute(scheduler="synchronous")
    assert np.isnan(found.wetness[..., 0]).all()
    np.testing.assert_array_equal(np.isfinite(found.wetness), np.isfinite(right.wetness))
    with (
        xr.open_dataset(path, **{**options, "mask_and_scale": False}) as raw,
        pytest.raises(DataError, match="attribute scale_factor, so its numbers may be packed"),
    ):
        retrieve("wetness", raw)


@pytest.mark.parametrize("scale", [0.0, 1e-40, 1e35])
def test_numbers_lost_by_their_scale_are_refused_as_in_a_map(tmp_path: Path, scale: float) -> None:
    stack = plain_stack()[["vh_db"]]
    stored = np.full(stack.vh_db.shape, 3, np.int16)
    packed = (stack.vh_db.dims, stored, {"scale_factor": scale, "add_offset": -15.0})
    stack.assign(vh_db=packed).to_netcdf(tmp_path / "stack.nc")
    with (
        xr.open_dataset(tmp_path / "stack.nc") as decoded,
        pytest.raises(DataError, match=r"vh_db: its scale is .* so its numbers are lost"),
    ):
        retrieve("wetness", decoded)


@pytest.mark.parametrize(
    ("attributes", "encoding", "reason"),
    [
        ({"valid_range": "low, high"}, {"dtype": "int16"}, "expected 2 numbers"),
        ({"valid_range": [0]}, {"dtype": "int16"}, "expected 2 numbers"),
        ({"valid_max": []}, {}, "expected 1 numbers"),
        ({}, {"scale_factor": "1e-4"}, "expected a finite number"),
        ({}, {"add_offset": None}, "expected a finite number"),
        ({}, {"scale_factor": [1e-4, 1.0]}, "expected a finite number"),
    ],
)
def test_validity_that_is_not_made_of_numbers_is_refused(
    attributes: dict[str, Any], encoding: dict[str, Any], reason: str
) -> None:
    """In the words of a map of the same file."""
    stack = plain_stack()[["vh_db"]]
    stack.vh_db.attrs.update(attributes)
    stack.vh_db.encoding.update(encoding)
    with pytest.raises(DataError, match=rf"the dataset's vh_db: .*{reason}"):
        retrieve("wetness", stack)


def test_a_fill_value_that_was_not_decoded_is_missing() -> None:
    """rioxarray leaves it among the attributes by default, and in the numbers."""
    stack = plain_stack()[["vh_db"]]
    filled = stack.vh_db.copy(deep=True)
    filled[..., 0] = -5.0
    filled.attrs |= {"_FillValue": -5.0, "scale_factor": 1.0, "add_offset": 0.0}
    found = retrieve("wetness", stack.assign(vh_db=filled), every=True)
    assert np.isnan(found.wetness[..., 0]).all() and np.isfinite(found.wetness[-1, :, 1:]).all()
