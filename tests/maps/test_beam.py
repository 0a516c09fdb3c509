"""The Apache Beam example, run in an environment of its own, against the local run's bits.

apache-beam asks for older protobuf and pyarrow than the rest of kgsm is tested with: `make beam`
builds an environment for it and runs this with KGSM_BEAM_PYTHON naming its Python.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from kgsm_infer.xarray import retrieve

xarray = pytest.importorskip("xarray", reason="xarray is not installed")
pytest.importorskip("zarr", reason="zarr is not installed")

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("KGSM_BEAM_PYTHON")


def stack_of_pixels():
    """(time, y, x) of 4 looks at 7 by 5 pixels, one of them missing; clay is static."""
    rng = np.random.default_rng(3)
    looks = ("time", "y", "x")
    vh_linear = 10 ** rng.normal(-1.6, 0.1, (4, 7, 5))
    vh_linear[1, 2, 3] = np.nan
    return xarray.Dataset(
        {
            "vh_linear": (looks, vh_linear),
            "ndvi": (looks, rng.uniform(0.2, 0.7, (4, 7, 5))),
            "angle_deg": (looks, np.full((4, 7, 5), 38.0)),
            "clay": (("y", "x"), rng.uniform(20, 40, (7, 5))),
        },
        coords={
            "time": np.datetime64("2024-03-01", "ns") + np.arange(4) * np.timedelta64(12, "D"),
            "y": np.arange(7.0)[::-1],
            "x": np.arange(5.0),
        },
    )


@pytest.mark.skipif(not PYTHON, reason="needs Apache Beam in an environment of its own: make beam")
@pytest.mark.parametrize("stored", [{"time": -1, "y": 3, "x": 5}, {"time": 1, "y": 7, "x": 5}])
def test_the_pipeline_gives_the_local_runs_bits(tiny_model: Path, tmp_path: Path, stored):
    stack = stack_of_pixels()
    stack.chunk({k: v if v > 0 else stack.sizes[k] for k, v in stored.items()}).to_zarr(
        tmp_path / "stack.zarr", consolidated=True
    )
    model = tiny_model / "model.core.onnx"
    command = [PYTHON, ROOT / "examples/engines/beam.py", model, "stack.zarr", "maps.zarr"]
    done = subprocess.run(
        [*map(str, command), "--side", "3"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    wanted = retrieve(model, stack, every=True, engine="native")
    with xarray.open_zarr(tmp_path / "maps.zarr") as maps:
        for name in ("sm", "sm_lower", "sm_upper", "flags"):
            got = maps[name].transpose("time", "y", "x").values
            assert np.array_equal(got, wanted[name].values, equal_nan=True), name
        assert np.isfinite(maps.sm).any() and np.isnan(maps.sm.values[1, 2, 3])
