"""The C core against its NumPy twin, one thread, in one run: make bench.

Outputs are compared before anything is timed; times are shown, never asserted.
"""

from __future__ import annotations

import numpy as np
import pytest
from engines import ENGINES, load_kernels
from numpy.testing import assert_allclose, assert_array_equal
from pytest_benchmark.fixture import BenchmarkFixture

from kgsm_infer.wcm import Wcm

WCM = Wcm(a=0.02, angle_rule="column")
FRACTION_EDGE = 1e-5  # nearer than this to its limit a soil fraction may fall on either side


def observations(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """n rows as they come: VH in dB, NDVI and angle in degrees, one in fifty missing."""
    rng = np.random.default_rng(0)
    sigma0_db = rng.normal(-19.0, 3.0, n).astype(np.float32)
    sigma0_db[rng.random(n) < 0.02] = np.nan
    ndvi = rng.uniform(0.05, 0.9, n).astype(np.float32)
    angle_deg = rng.uniform(30.0, 46.0, n).astype(np.float32)
    return sigma0_db, ndvi, angle_deg


@pytest.mark.parametrize("rows", [1, 1_000, 1_000_000])
@pytest.mark.parametrize("engine", ENGINES)
def test_isolate(benchmark: BenchmarkFixture, engine: str, rows: int) -> None:
    benchmark.group = f"isolate, {rows:,} rows"
    inputs = observations(rows)
    soil = benchmark(load_kernels(engine).isolate, WCM, *inputs)

    twin = load_kernels("numpy").isolate(WCM, *inputs)
    clear = ~(np.abs(twin.soil_fraction - WCM.min_soil_fraction) < FRACTION_EDGE)
    assert_array_equal(soil.flags[clear], twin.flags[clear])
    assert_array_equal(np.isnan(soil.soil_db)[clear], np.isnan(twin.soil_db)[clear])
    assert_allclose(soil.soil_db[clear], twin.soil_db[clear], rtol=0, atol=1e-4)
