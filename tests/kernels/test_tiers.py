"""The tiers' elementary functions against float64, over every float there is to try.

The ULPs asserted here are those csrc/kgsm.h states.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from on_engines import TIERS, fastest_tier, load_kernels

#: Floats tried at a time.
CHUNK = 1 << 22
#: What csrc/kgsm.h states of the vector tiers; the C library's own in the portable one.
LINEAR_TO_DB_ULP, DB_TO_LINEAR_ULP, PORTABLE_ULP = 2.5, 1.3, 70.0
SMALLEST_NORMAL = np.float32(2.0**-126)


@pytest.fixture(scope="module", params=TIERS)
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield load_kernels(request.param)
    fastest_tier()


def every_float(low: float, high: float, step: int) -> Iterator[np.ndarray]:
    """All (or each step-th) positive floats from ``low`` to ``high``, in chunks."""
    first, last = (int(np.float32(x).view(np.uint32)) for x in (low, high))
    for start in range(first, last + 1, CHUNK * step):
        bits = np.arange(start, min(start + CHUNK * step, last + 1), step, dtype=np.uint32)
        yield bits.view(np.float32)


def worst_ulp(kernel, exact, chunks) -> tuple[float, float]:
    """The largest error in units of the last place of the exact result, and its x."""
    worst, at = 0.0, np.nan
    for x in chunks:
        expected = exact(x.astype(np.float64))
        with np.errstate(over="ignore"):
            place = np.spacing(np.maximum(np.abs(expected), SMALLEST_NORMAL).astype(np.float32))
        error = np.abs(kernel(x).astype(np.float64) - expected) / place
        i = int(np.argmax(error))
        if error[i] > worst:
            worst, at = float(error[i]), float(x[i])
    return worst, at


# Every 61st float in the usual run (61 is prime, so no pattern of the bits is missed), all
# with `pytest -m exhaustive`, which takes minutes.
STEPS = [pytest.param(61, id="sampled"), pytest.param(1, id="all", marks=pytest.mark.exhaustive)]


@pytest.mark.parametrize("step", STEPS)
def test_decibels_of_power(kernels: ModuleType, step: int) -> None:
    """10 log10(x) over all positive floats, subnormal ones too."""
    chunks = every_float(1e-45, 3.4028234e38, step)
    worst, at = worst_ulp(kernels.linear_to_db, lambda x: 10 * np.log10(x), chunks)
    # near 1 the result crosses 0; there the last place of 10 log10(x) is tiny
    assert worst <= LINEAR_TO_DB_ULP, f"{worst:.3f} ULP at {at!r}"


@pytest.mark.parametrize("step", STEPS)
def test_power_of_decibels(kernels: ModuleType, step: int) -> None:
    """10**(db / 10) where the result is a normal number."""
    for sign, high in ((1, 385.3), (-1, 379.2)):
        chunks = (sign * x for x in every_float(1e-9, high, step))
        worst, at = worst_ulp(kernels.db_to_linear, lambda db: 10 ** (db / 10), chunks)
        limit = DB_TO_LINEAR_ULP if kernels.tier_name() != "portable" else PORTABLE_ULP
        assert worst <= limit, f"{worst:.3f} ULP at {at!r}"


def test_the_ends_of_both(kernels: ModuleType) -> None:
    nan, inf = np.nan, np.inf
    given = np.asarray([0.0, -0.0, 1.0, 10.0, inf, -1e-45, -1.0, -inf, nan], np.float32)
    expected = np.asarray([-inf, -inf, 0.0, 10.0, inf, nan, nan, nan, nan], np.float32)
    np.testing.assert_array_equal(kernels.linear_to_db(given), expected)
    given = np.asarray([0.0, 10.0, -10.0, inf, -inf, 400.0, 1e30, -1e30, nan], np.float32)
    expected = np.asarray([1.0, 10.0, 0.1, inf, 0.0, inf, inf, 0.0, nan], np.float32)
    np.testing.assert_allclose(kernels.db_to_linear(given), expected, rtol=2e-7)
    subnormal = kernels.db_to_linear(np.float32([-400.0, -440.0, -449.0, -460.0]))
    np.testing.assert_allclose(subnormal, [1e-40, 1e-44, 1.4e-45, 0.0], atol=1.5e-45)


def test_a_result_does_not_depend_on_its_place(kernels: ModuleType) -> None:
    """Main loop and tail, any lane: the same bits."""
    x = np.random.default_rng(0).uniform(-60, 0, 75).astype(np.float32)
    whole = kernels.db_to_linear(x)
    for start in range(0, 40, 7):
        for length in (1, 2, 7, 15, 16, 17, 31, 33):
            part = kernels.db_to_linear(x[start : start + length])
            assert np.array_equal(part, whole[start : start + length])
