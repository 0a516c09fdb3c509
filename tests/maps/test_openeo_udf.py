"""The openEO example, run by openEO's own runner, against the same call without it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from kgsm_infer.xarray import retrieve

xarray = pytest.importorskip("xarray", reason="xarray is not installed")
pytest.importorskip("openeo", reason="openeo is not installed")

UDF = Path(__file__).resolve().parents[2] / "examples/engines/openeo_udf.py"


def cube() -> xarray.DataArray:
    """(bands, t, y, x) as a back end gives it: its own band names, a gap, a static as a band."""
    rng = np.random.default_rng(3)
    shape = (4, 6, 5)
    bands = {
        "VH": 10 ** rng.normal(-1.6, 0.1, shape),
        "ndvi": rng.uniform(0.2, 0.7, shape),
        "angle_deg": np.full(shape, 38.0),
        "clay": np.broadcast_to(rng.uniform(20, 40, shape[1:]), shape),
    }
    bands["VH"][1, 2, 3] = np.nan
    times = np.datetime64("2024-03-01", "ns") + np.arange(4) * np.timedelta64(12, "D")
    return xarray.DataArray(
        np.stack(list(bands.values())),
        dims=("bands", "t", "y", "x"),
        coords={"bands": list(bands), "t": times, "y": np.arange(6.0)[::-1], "x": np.arange(5.0)},
    )


def test_the_udf_gives_the_local_runs_bits(tiny_model: Path):
    from openeo.udf import UdfData, XarrayDataCube
    from openeo.udf.run_code import run_udf_code

    model, given = tiny_model / "model.core.onnx", cube()
    context = {"model": str(model), "bands": {"VH": "vh_linear"}}
    data = UdfData(datacube_list=[XarrayDataCube(given)], user_context=context)
    (made,) = run_udf_code(UDF.read_text(), data).get_datacube_list()
    maps = made.get_array()
    inputs = given.rename(t="time").to_dataset("bands").rename(VH="vh_linear")
    wanted = retrieve(model, inputs, every=True, engine="native")
    for name in ("sm", "sm_lower", "sm_upper", "flags"):
        got = maps.sel(bands=name).values
        assert np.array_equal(got, wanted[name].values.astype("float32"), equal_nan=True), name
    assert np.isfinite(maps.sel(bands="sm")).any()
    assert np.isnan(maps.sel(bands="sm").values[1, 2, 3])


def test_nothing_but_numpy_and_xarray_is_shipped(tiny_model: Path):
    """With onnxruntime and rasterio hidden the UDF still runs."""
    script = (
        "import sys; sys.modules.update(dict.fromkeys(['onnxruntime', 'rasterio', 'dask']))\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "import test_openeo_udf as t\n"
        "space = {}\n"
        "exec(t.UDF.read_text(), space)\n"
        "context = {'model': sys.argv[2], 'bands': {'VH': 'vh_linear'}}\n"
        "print(space['apply_datacube'](t.cube(), context).shape)\n"
    )
    command = [sys.executable, "-c", script, str(Path(__file__).parent)]
    command.append(str(tiny_model / "model.core.onnx"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "(4, 4, 6, 5)", done.stderr
