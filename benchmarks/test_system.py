"""Time one window, a scene, two threads and a cold start through the public API.

``scene`` is 80 km x 80 km at 100 m: 640,000 pixels x 10 dates, from time-major arrays as rasters
are read, through ``Model.retrieve``. ``cold start`` starts a new process each time. Its peak
memory (largest resident set, MB) is in ``extra_info`` and in the report. A small parent process
measures it, because a process inherits the peak of the one that started it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bench_sizes import full_or
from made_models import card_of, network_of, write_pair
from pytest_benchmark.fixture import BenchmarkFixture

from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.model import load
from kgsm_infer.tables.table import write_csv

STEPS, PIXELS = 10, full_or(2_000, 640_000)


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    network = network_of(
        Wcm(a=0.02), steps=STEPS, dynamic=1, statics=0, members=1, hidden=64, sm_std=0.1
    )
    return write_pair(tmp_path_factory.mktemp("system"), network, card_of(network))


def cube(pixels: int) -> dict[str, np.ndarray]:
    """Draw time-major layers (T, pixels) and return views (pixels, T)."""
    rng = np.random.default_rng(0)
    return {
        "sigma0_db": rng.uniform(-20, -9, (STEPS, pixels)).astype(np.float32).T,
        "ndvi": rng.uniform(0.1, 0.8, (STEPS, pixels)).astype(np.float32).T,
        "features": rng.uniform(0, 1, (STEPS, pixels)).astype(np.float32).T[..., None],
        "days": 12.0 * np.arange(STEPS),
    }


@pytest.mark.parametrize("name", ["native", "onnxruntime"])
def test_one_window(benchmark: BenchmarkFixture, paths: dict[str, Path], name: str) -> None:
    benchmark.group = "one window through Model.retrieve"
    benchmark.extra_info["items"] = 1
    model = load(paths["core"], engine=name)
    given = cube(1)
    assert np.isfinite(benchmark(lambda: model.retrieve(**given)).sm).all()


@pytest.mark.parametrize(
    "name", ["native", "native, 2 threads", "onnxruntime", "onnxruntime, 2 threads"]
)
def test_scene(benchmark: BenchmarkFixture, paths: dict[str, Path], name: str) -> None:
    benchmark.group = f"scene of {PIXELS:,} pixels x {STEPS} dates"
    benchmark.extra_info["items"] = PIXELS
    model = load(paths["core"], engine=name.split(",")[0], threads=2 if "2" in name else 1)
    given = cube(PIXELS)
    result = benchmark.pedantic(
        lambda: model.retrieve(**given), rounds=full_or(1, 5), warmup_rounds=1
    )
    some = slice(PIXELS // 5, PIXELS // 5 + 4)
    few = {k: v if k == "days" else v[some] for k, v in given.items()}
    np.testing.assert_allclose(result.sm[some], model.retrieve(**few).sm, rtol=0, atol=1e-6)


COLD = {
    "python -c 'import numpy'": ["-c", "import numpy"],
    "python -c 'import numpy, onnxruntime'": ["-c", "import numpy, onnxruntime"],
    "native: kgsm-infer predict, one site": ["native"],
    "onnxruntime: kgsm-infer predict, one site": ["onnxruntime"],
}


#: Run the arguments as a command and print its largest resident set, KiB.
PEAK = """
import resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


@pytest.mark.parametrize("name", COLD)
def test_cold_start(
    benchmark: BenchmarkFixture, paths: dict[str, Path], tmp_path: Path, name: str
) -> None:
    benchmark.group = "cold start of one process"
    benchmark.extra_info["items"] = 1
    rng = np.random.default_rng(0)
    rows = 20
    write_csv(
        tmp_path / "site.csv",
        {
            "site": ["a"] * rows,
            "date": [f"2024-{1 + i // 2:02d}-{1 + 12 * (i % 2):02d}" for i in range(rows)],
            "vh_db": rng.uniform(-20, -12, rows),
            "ndvi": rng.uniform(0.1, 0.8, rows),
            "d0": rng.uniform(0, 1, rows),
        },
    )
    arguments = COLD[name]
    if len(arguments) == 1:
        out = str(tmp_path / "sm.csv")
        arguments = ["-m", "kgsm_infer.app.cli", "predict", "--engine", *arguments]
        arguments += [str(paths["core"]), str(tmp_path / "site.csv"), "-o", out]
    command = [sys.executable, *arguments]
    # an installed package has its byte code; a shell that forbids writing it has none here
    compiled = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    compiled["PYTHONPYCACHEPREFIX"] = str(tmp_path / "bytecode")

    def run() -> None:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=compiled)

    benchmark.pedantic(run, rounds=full_or(1, 15), warmup_rounds=full_or(0, 2))
    peak = subprocess.run(
        [sys.executable, "-c", PEAK, *command], check=True, capture_output=True, text=True
    )
    benchmark.extra_info["peak_mb"] = round(int(peak.stdout) / 1024)
    if "predict" in name:
        assert (tmp_path / "sm.csv").read_text().count("\n") == rows + 1
