"""Run every benchmark on tiny inputs, to see that it works; its times are not looked at."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "benchmarks"

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> str:
    """Run Python on a benchmark; return its output, and fail with both streams."""
    path = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    # a pytest below this one is no worker of it
    inherited = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    done = subprocess.run(
        [sys.executable, *map(str, command)],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": path, "KGSM_BENCH_SMOKE": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def test_every_script_is_tested_here() -> None:
    text = Path(__file__).read_text()
    scripts = [path.name for path in BENCHMARKS.glob("*.py") if "__main__" in path.read_text()]
    assert len(scripts) >= 5
    assert not [name for name in scripts if f'BENCHMARKS / "{name}"' not in text]


def test_timings_and_their_report(tmp_path: Path) -> None:
    pytest.importorskip("pytest_benchmark", reason="pytest-benchmark is not installed ([bench])")
    pytest.importorskip("threadpoolctl", reason="threadpoolctl is not installed ([bench])")
    result = tmp_path / "bench.json"
    few = ["--benchmark-max-time=0.001", "--benchmark-min-rounds=1", "--benchmark-warmup=off"]
    plain = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    run("-m", "pytest", BENCHMARKS, f"--rootdir={ROOT}", *plain, *few,
        f"--benchmark-json={result}", cwd=tmp_path)  # fmt: skip
    page = tmp_path / "page.md"
    page.write_text(
        "before\n<!-- tables of the run -->\nearlier run\n<!-- end of tables -->\nafter\n"
    )
    printed = run(BENCHMARKS / "report.py", result, tmp_path / "bench.png", page, cwd=tmp_path)
    for group in ("isolation", "inversion", "LSTM", "retrieval", "scaling", "fusion", "scene"):
        assert f"### {group}" in printed
    text = page.read_text()
    assert text.startswith("before\n") and text.endswith("after\n") and "earlier run" not in text
    assert printed.strip() in text
    assert (tmp_path / "bench.png").stat().st_size > 10_000


def test_map_memory(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
    model = tiny_model / "model.core.onnx"
    out = run(BENCHMARKS / "map_memory.py", model, "--side", "40", "--threads", "1", cwd=tmp_path)
    assert out.splitlines()[1].startswith("1,600 ")


def test_cluster(tiny_model: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs kgsm[cluster]")
    model = tiny_model / "model.core.onnx"
    out = run(BENCHMARKS / "cluster.py", model, "--side", "8", "--dates", "4", cwd=tmp_path)
    assert out.count("retrievals/s") == 4
    assert "Australia at 100 m, 304 dates" in out


@pytest.mark.realdata
def test_sigma0(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("sarsen", reason="needs kgsm[prepare]")
    product = next((shared_data / "sentinel1_safe/tests/data").glob("*.SAFE"))
    out = run(BENCHMARKS / "sigma0.py", product, "--side", "60", cwd=tmp_path)
    rows = {line.split("|")[1].strip(): line.split("|") for line in out.splitlines() if "|" in line}
    for method in ("sarsen", "sigma0", "gamma0"):
        assert method in rows
    assert abs(float(rows["sigma0"][4]) + 17.0) < 0.5  # dB; the truth varies by 1.5 dB


def test_gateway(tmp_path: Path) -> None:
    from made_brokers import MOSQUITTO

    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    out = run(BENCHMARKS / "gateway.py", "--smoke", cwd=tmp_path)
    for figure in ("published, 12 paddocks", "requests, a history", "idle, wake-ups",
                   "acquisitions lost or doubled"):  # fmt: skip
        assert figure in out


def test_end_to_end(tmp_path: Path) -> None:
    pytest.importorskip("polars", reason="the plain alternative")
    from made_models import card_of, network_of, write_pair

    from kgsm_infer.kernels.wcm import Wcm

    network = network_of(Wcm(a=0.02), dynamic=0, statics=0)
    model = write_pair(tmp_path, network, card_of(network))["complete"]
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- end to end -->\nold\n<!-- end of end to end -->\nafter\n")
    parts = ["predict", "wetness", "outlines"]
    for module, more in (
        ("rasterio", ["map", "checks"]),
        ("exactextract", ["paddocks"]),
        ("torch", ["training"]),
    ):
        if find_spec(module) is not None:
            parts += more
    only = [word for part in parts for word in ("--only", part)]
    out = run(BENCHMARKS / "end_to_end.py", model, "--smoke", *only, "--page", page, cwd=tmp_path)
    rows = {line.split("|")[1].strip() for line in out.splitlines() if line.startswith("| ")}
    assert {"predict .csv", "wetness .csv", "paddocks on a table"} <= rows
    if "map" in parts:
        assert {"map --all-dates", "rasterio + onnxruntime"} <= rows
        assert "the history check takes" in out
    if "training" in parts:
        assert {"crossval of the LSTM", "torch, member by member"} <= rows
    text = page.read_text()
    assert "| predict .csv | 120 |" in text and "old" not in text and text.endswith("after\n")


def test_daily(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="needs kgsm[train]")
    assert run(BENCHMARKS / "daily.py", "split", cwd=tmp_path).count("split and dense") == 2


@pytest.mark.realdata
def test_typical_place_and_orbit_state(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="needs kgsm[parquet]")
    fields = next((shared_data / "worldcereal_fields").glob("*.geoparquet"))
    out = run(BENCHMARKS / "typical_place.py", fields, cwd=tmp_path)
    assert "typical place: usual -16.80 dB" in out
    out = run(BENCHMARKS / "orbit_state.py", shared_data / "mni2017/mni2017.csv", cwd=tmp_path)
    assert "one state per relative orbit" in out


def test_irrigation(tmp_path: Path) -> None:
    pytest.importorskip("scipy", reason="needs kgsm[train]")
    out = run(BENCHMARKS / "irrigation.py", "twin", cwd=tmp_path)
    assert out.count("| precision |") == 2


@pytest.mark.realdata
def test_root_zone(shared_data: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyfao56", reason="the oracle of the root zone")
    options = ("--most", "2", "--sources")
    out = run(BENCHMARKS / "root_zone.py", shared_data / "cotton2018", *options, cwd=tmp_path)
    assert "balance, fitted" in out
    assert "irrigation times 0.7 to 1.3" in out
