"""kgsm inside other people's software: names, types, a frozen application, no telemetry."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import kgsm_infer
from kgsm_infer.model.model import load

ROOT = Path(__file__).resolve().parents[2]
#: What README writes.
TYPED = """
import kgsm_infer

model = kgsm_infer.load("model.onnx")
table = kgsm_infer.read_table("observations.csv", features=model.table_features())
again: kgsm_infer.Model = model
print(again.predict(table).sm, again.newest(table, site="north")[0]["sm"])
try:
    kgsm_infer.load(b"")
except kgsm_infer.KgsmError as error:
    print(error.exit_code)
reveal_type(kgsm_infer.load)
"""
FROZEN = """
import sys, kgsm_infer
from kgsm_infer import kernels
print(kgsm_infer.load(sys.argv[1]).engine, kernels.engine_name(), kernels.tier_name())
"""


def run(*command: str | Path, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **env},
        capture_output=True,
        text=True,
    )


def test_the_package_lists_what_there_is() -> None:
    assert {"load", "Model", "read_table", "table_from_columns", "KgsmError"} <= set(
        dir(kgsm_infer)
    )
    for name in kgsm_infer.__all__:
        assert getattr(kgsm_infer, name) is not None
    assert issubclass(kgsm_infer.ModelError, kgsm_infer.KgsmError)


def test_the_readmes_lines_pass_a_strict_type_checker(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    (tmp_path / "mine.py").write_text(TYPED)
    done = run(sys.executable, "-m", "mypy", "--strict", "mine.py", cwd=tmp_path)
    assert done.returncode == 0, done.stdout
    assert "kgsm_infer.model.model.Model" in done.stdout


def test_frames_and_mappings_are_read_and_answered_row_by_row(tiny_model: Path) -> None:
    pandas = pytest.importorskip("pandas")
    model = load(tiny_model / "model.onnx", engine="native")
    frame = pandas.read_csv(tiny_model / "twin.csv")
    table = kgsm_infer.read_table(tiny_model / "twin.csv", features=model.table_features())
    expected = model.predict(table)
    columns = {name: frame[name].to_numpy() for name in frame}
    for given in (frame, frame.convert_dtypes(), columns):
        got = model.predict(given)
        for a, b in zip(got, expected, strict=True):
            assert np.array_equal(a, b, equal_nan=True)
    some = np.asarray([5, 0])
    assert np.array_equal(model.predict(frame, some).flags, expected.flags[some])


def test_the_newest_of_every_site_as_plain_values(tiny_model: Path) -> None:
    model = load(tiny_model / "model.onnx", engine="native")
    table = kgsm_infer.read_table(tiny_model / "twin.csv", features=model.table_features())
    whole = model.predict(table)
    found = model.newest(table)
    assert [record["site"] for record in found] == sorted(set(table.site.tolist()))
    for record in found:
        rows = np.flatnonzero(table.site == record["site"])
        newest = rows[np.argmax(table.date[rows])]
        expected = whole.record(int(newest))
        assert record == {"site": record["site"], "date": table.date_text[newest], **expected}
        assert record["sm"] is None or isinstance(record["sm"], float)
        assert isinstance(record["flags"], list)
    site = found[0]["site"]
    assert model.newest(table, site=site) == found[:1]
    with pytest.raises(kgsm_infer.DataError, match="no site 'nowhere'"):
        model.newest(table, site="nowhere")


@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_nothing_is_written_in_home(tiny_model: Path, tmp_path: Path, engine: str) -> None:
    pytest.importorskip("onnxruntime")
    code = "import sys, time, kgsm_infer; kgsm_infer.load(*sys.argv[1:2], engine=sys.argv[2]); "
    code += "time.sleep(0.5)"
    model = tiny_model / "model.onnx"
    env = dict.fromkeys(("XDG_CACHE_HOME", "XDG_DATA_HOME"), "")
    done = run(sys.executable, "-c", code, model, engine, cwd=tmp_path, HOME=str(tmp_path), **env)
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert not list(tmp_path.rglob("*"))


def test_a_core_that_is_not_there_is_not_passed_over_in_silence(tmp_path: Path) -> None:
    code = """
import sys
sys.modules["kgsm_infer.kernels._core"] = None
import kgsm_infer.kernels as kernels
print(kernels.engine_name())
"""
    done = run(sys.executable, "-c", code, cwd=tmp_path)
    assert done.stdout.strip() == "numpy" and "C core of kgsm is not installed" in done.stderr
    done = run(sys.executable, "-c", code, cwd=tmp_path, KGSM_PURE="1")
    assert done.stdout.strip() == "numpy" and not done.stderr


OPTIONAL = [
    "kgsm_train",
    "torch",
    "onnx",
    "onnxruntime",
    "sklearn",
    "scipy",
    "pandas",
    "polars",
    "matplotlib",
    "rasterio",
    "pyproj",
    "pyogrio",
    "shapely",
    "exactextract",
    "netCDF4",
    "zarr",
    "xarray",
    "dask",
    "distributed",
    "pyarrow",
    "pystac",
    "pystac_client",
    "sarsen",
    "xarray_sentinel",
    "starlette",
    "hypercorn",
    "paho",
    "prometheus_client",
    "numba",
    "openeo",
    "geopandas",
    "requests",
    "jsonschema",
    "pytest",
    "hypothesis",
    "IPython",
    "PIL",
    "lxml",
]


@pytest.mark.wheels
def test_a_frozen_application_runs_on_the_c_core(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("PyInstaller")
    (tmp_path / "app.py").write_text(FROZEN)
    command = [sys.executable, "-m", "PyInstaller", "--onedir", "--log-level", "ERROR"]
    for optional in OPTIONAL:  # what an application does not use it leaves out, or it grows by GB
        command += ["--exclude-module", optional]
    # in the source tree there is no entry point to find the hook by
    command += ["--additional-hooks-dir", str(ROOT / "kgsm_infer" / "app" / "_pyinstaller")]
    done = run(*command, "app.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    app = run(tmp_path / "dist" / "app" / "app", tiny_model / "model.onnx", cwd=tmp_path)
    assert app.returncode == 0, app.stderr
    engine, core, tier = app.stdout.split()
    assert core == "c" and not app.stderr
    assert list((tmp_path / "dist").rglob("wetness.onnx")), "the shipped model comes along"
    assert engine == ("native" if tier != "portable" else engine)
