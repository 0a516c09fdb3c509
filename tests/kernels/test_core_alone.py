"""The C core without Python: on this machine's tiers, and on 64-bit ARM under an emulator.

What the program in tests/c writes is held against the NumPy twins and the equations.
"""

from __future__ import annotations

import platform
import shutil
import subprocess
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from lstm_in_float64 import in_float64, random_weights, windows
from numpy.testing import assert_allclose, assert_array_equal
from on_engines import TIERS, fastest_tier, load_kernels

from kgsm_infer.kernels import wcm
from kgsm_infer.kernels.wcm import Wcm, default_limits

ROOT = Path(__file__).resolve().parents[2]
ROWS, WINDOWS = 5003, 67
#: tier -> compilers, emulators of its processor, the only machines that have it
X86 = ("x86_64", "AMD64")
BUILDS = {
    "portable": (("cc", "gcc", "clang"), (), None),
    "avx2": (("cc", "gcc", "clang"), (), X86),
    "avx512": (("cc", "gcc", "clang"), (), X86),
    "neon": (("aarch64-linux-gnu-gcc",), ("qemu-aarch64", "qemu-aarch64-static"), None),
    "portable on aarch64": (
        ("aarch64-linux-gnu-gcc",),
        ("qemu-aarch64", "qemu-aarch64-static"),
        None,
    ),
}


def found(names: tuple[str, ...]) -> str:
    """The first of these programs that is installed; skips, naming them, without."""
    for name in names:
        if path := shutil.which(name):
            return path
    return pytest.skip(f"none of {', '.join(names)} is installed")


@pytest.fixture(scope="session")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, bool], Path]:
    """Compile the program, once by each compiler."""

    @cache
    def compiled(compiler: str, static: bool) -> Path:
        program = tmp_path_factory.mktemp("core") / "run_kernels"
        sources = [ROOT / "tests" / "c" / "run_kernels.c", *sorted((ROOT / "csrc").glob("*.c"))]
        options = ["-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
        options += ["-static"] if static else []
        subprocess.run(
            [compiler, *options, f"-I{ROOT / 'csrc'}", *sources, "-lm", "-o", program], check=True
        )
        return program

    return compiled


@pytest.fixture(scope="session")
def outputs() -> dict[str, dict[str, np.ndarray]]:
    """Numbers by tier, of those that were run already."""
    return {}


@pytest.fixture(params=BUILDS)
def written(
    request: pytest.FixtureRequest,
    programs: Callable[[str, bool], Path],
    outputs: dict[str, dict[str, np.ndarray]],
    tmp_path: Path,
) -> dict[str, np.ndarray]:
    """Inputs and outputs of the program on one tier, by name."""
    if request.param in outputs:
        return outputs[request.param]
    compilers, emulators, machines = BUILDS[request.param]
    if machines and platform.machine() not in machines:
        pytest.skip(f"{request.param} is no tier of {platform.machine()}")
    emulator = [found(emulators)] if emulators else []
    # the emulator has no libraries of its own
    program = programs(found(compilers), bool(emulators))
    inputs = write_input(tmp_path / "in")
    tier = request.param.split()[0]
    done = subprocess.run(
        [*emulator, program, tier, tmp_path / "in", tmp_path / "out"],
        capture_output=True,
        text=True,
    )
    if "no such tier here" in done.stderr:
        pytest.skip(f"this processor has no {tier}")
    assert done.returncode == 0, done.stderr
    outputs[request.param] = inputs | read_output(tmp_path / "out") | {"tier": np.array(tier)}
    return outputs[request.param]


def write_input(path: Path) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    rows = {
        "sigma0_db": rng.normal(-18, 5, ROWS).astype(np.float32),
        "ndvi": rng.uniform(-0.1, 1, ROWS).astype(np.float32),
        "angle_deg": rng.uniform(20, 50, ROWS).astype(np.float32),
    }
    for values in rows.values():
        for bad in (np.nan, np.inf, -np.inf, 100.0, -100.0):
            values[rng.integers(ROWS, size=20)] = bad
    weights = random_weights(20, members=2, channels=7, steps=5)
    tile = windows(weights, WINDOWS)
    tile[:, :, 2:4] = tile[0, :, 2:4]
    tile[..., -1] = 1
    tile[:3, ::5] = 0
    tile[1, 8, 1] = np.nan
    sizes = np.uint32([ROWS, 5, WINDOWS, 7, 20, 2, 2, 2])
    parts = [sizes, *rows.values(), *weights[1:], tile]
    path.write_bytes(b"".join(np.ascontiguousarray(part).tobytes() for part in parts))
    return rows | {"expected": in_float64(weights, tile)}


def read_output(path: Path) -> dict[str, np.ndarray]:
    content, at = path.read_bytes(), 0
    out = {}
    names = ["linear", "db"]
    names += [f"{name}_{rule}" for rule in ("constant", "column") for name in ISOLATED]
    for name in [*names, "sm", "sm_alone"]:
        dtype = np.uint16 if name.startswith("flags") else np.float32
        out[name] = np.frombuffer(content, dtype, WINDOWS if name[:2] == "sm" else ROWS, at)
        at += out[name].nbytes
    assert at == len(content)
    return out


ISOLATED = ("soil_db", "soil_fraction", "flags")


def test_decibels_without_python(written: dict[str, np.ndarray]) -> None:
    with np.errstate(all="ignore"):
        exact = 10.0 ** (written["sigma0_db"].astype(np.float64) / 10)
        db = 10 * np.log10(written["linear"].astype(np.float64))
    assert_allclose(written["linear"], exact, rtol=2e-6, atol=0)
    assert_allclose(written["db"], db, rtol=3e-7, atol=1e-6)


@pytest.mark.parametrize("rule", ["constant", "column"])
def test_isolation_without_python(written: dict[str, np.ndarray], rule: str) -> None:
    p = Wcm(a=0.02, angle_rule=rule, limits=default_limits("foliage"))
    twin = wcm.isolate(p, written["sigma0_db"], written["ndvi"], written["angle_deg"])
    soil_db, fraction, mask = (written[f"{name}_{rule}"] for name in ISOLATED)
    clear = ~(np.abs(twin.soil_fraction - p.min_soil_fraction) < 1e-5)
    clear &= ~(np.abs(wcm.vwc_from_ndvi(written["ndvi"]) - 1) < 1e-6)
    assert clear.mean() > 0.99 and (mask == 0).mean() > 0.3
    assert_array_equal(mask[clear], twin.flags[clear])
    assert_allclose(soil_db[clear], twin.soil_db[clear], rtol=0, atol=1e-4)
    assert_array_equal(np.isnan(fraction), np.isnan(twin.soil_fraction))


def test_lstm_without_python(written: dict[str, np.ndarray]) -> None:
    assert_allclose(written["sm"], written["expected"], rtol=0, atol=2e-6)
    assert np.isnan(written["sm"]).sum() == 1
    assert_array_equal(written["sm"].view(np.uint32), written["sm_alone"].view(np.uint32))


def test_vector_tiers_give_the_same_numbers_to_the_last_bit(written: dict[str, np.ndarray]) -> None:
    """avx2, avx512 and neon do the same IEEE operations in the same order."""
    vectors = [tier for tier in TIERS if tier != "portable"]
    if written["tier"] == "portable" or not vectors:
        pytest.skip("the portable tier has the C library's functions, and other digits")
    kernels = load_kernels(vectors[0])
    try:
        assert_array_equal(written["linear"], kernels.db_to_linear(written["sigma0_db"]))
        assert_array_equal(written["db"], kernels.linear_to_db(written["linear"]))
        for rule in ("constant", "column"):
            p = Wcm(a=0.02, angle_rule=rule, limits=default_limits("foliage"))
            soil = kernels.isolate(p, written["sigma0_db"], written["ndvi"], written["angle_deg"])
            for name, mine in zip(ISOLATED, soil, strict=True):
                assert_array_equal(written[f"{name}_{rule}"], mine)
    finally:
        fastest_tier()
