"""Time the fusion of fine and coarse images (unbiased ESTARFM): C core, NumPy and numba.

The pair is simulated, of the size the authors use (windows of 51 x 51 pixels), without gaps. Every
peer is compared with the NumPy twin before it is timed. numba runs the rule as plain loops over
float64. Times are per pixel and day: of one day alone, and of thirty days of a pair together,
which share the pair's weights. "two threads" is one day on two cores. NumPy gets a few rows, and
numba one day, since its loops take the same time for each.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from bench_sizes import full_or
from numpy.testing import assert_allclose
from on_engines import TIERS, fastest_tier, load_kernels
from pytest_benchmark.fixture import BenchmarkFixture

from kgsm_infer.kernels import fusion
from kgsm_infer.kernels.fusion import Fusion, FusionBlock, Pair

RULE = Fusion(low=250.0, high=350.0)
SIDE, ROWS, FEW, FURTHER = full_or((40, 8, 4, 2), (400, 400, 4, 30))
Call = Callable[[], Any]


@cache
def images(days: int) -> tuple[Pair, np.ndarray, np.ndarray]:
    """Simulate a temperature field: a fine and coarse pair, and coarse images of other days."""
    rng = np.random.default_rng(0)
    shape = (ROWS + 2 * RULE.radius, SIDE)
    field = rng.normal(305, 2.5, (60, 50)).repeat(8, 0).repeat(8, 1)[: shape[0], : shape[1]]

    def seen(step: float, coarse: bool) -> np.ndarray:
        image = field + step + rng.normal(0, 0.8, shape)
        if coarse:
            image = np.round(field - 2 + step + rng.normal(0, 0.4, shape), 1)
        return image.astype(np.float32)

    pair = Pair(seen(0, False), seen(0, True), seen(4, False), seen(4, True))
    coarse = np.stack([seen(4 * (day + 1) / (days + 1), True) for day in range(days)])
    sigma = [np.full(SIDE, np.std(image, ddof=1)) for image in (pair.fine1, pair.fine2)]
    return pair, coarse, np.stack(sigma)


def in_c(tier: str, days: int, threads: int = 1) -> Call:
    kernels = load_kernels(tier)
    pair, coarse, sigma = images(days)
    return lambda: kernels.fuse_rows(
        RULE, FusionBlock(pair, coarse, sigma, range(RULE.radius, RULE.radius + ROWS)), threads
    )


def in_numpy() -> Call:
    pair, coarse, sigma = images(1)
    return lambda: fusion.fuse_rows(
        RULE, FusionBlock(pair, coarse, sigma, range(RULE.radius, RULE.radius + FEW))
    )


@cache
def loops() -> Any:
    numba = pytest.importorskip("numba", reason="numba is not installed (extra [peers])")

    @numba.njit(error_model="numpy")
    def fuse(f1, f2, c1, c2, c0, sigma, r, first, out):  # type: ignore[no-untyped-def]
        height, width = f1.shape
        for y in range(first, first + out.shape[0]):
            for x in range(width):
                n, valid = 0, 0
                d1 = d2 = m1 = m2 = 0.0
                rows = (max(0, y - r), min(height, y + r + 1))
                columns = (max(0, x - r), min(width, x + r + 1))
                for j in range(*rows):
                    for i in range(*columns):
                        valid += 1
                        m1 += c0[j, i] - c1[j, i]
                        m2 += c0[j, i] - c2[j, i]
                        near = abs(f1[j, i] - f1[y, x]) < sigma[0, x]
                        if near and abs(f2[j, i] - f2[y, x]) < sigma[1, x]:
                            n += 1
                            d1 += c1[j, i] - f1[j, i]
                            d2 += c2[j, i] - f2[j, i]
                b1, b2 = d1 / n, d2 / n
                total = a1 = a2 = 0.0
                for j in range(*rows):
                    for i in range(*columns):
                        near = abs(f1[j, i] - f1[y, x]) < sigma[0, x]
                        if near and abs(f2[j, i] - f2[y, x]) < sigma[1, x]:
                            g1, g2 = f1[j, i] + b1, f2[j, i] + b2
                            apart = abs((g1 - c1[j, i]) / (g1 + c1[j, i]))
                            apart += abs((g2 - c2[j, i]) / (g2 + c2[j, i]))
                            distance = 1 + math.sqrt((j - y) ** 2 + (i - x) ** 2) / r
                            w = 1 / (apart / 2 * distance + 1e-7)
                            total += w
                            a1 += w * (c0[j, i] - c1[j, i])
                            a2 += w * (c0[j, i] - c2[j, i])
                e1, e2 = abs(m1 / valid) + 1e-10, abs(m2 / valid) + 1e-10
                t1 = (1 / e1) / (1 / e1 + 1 / e2)
                one, other = f1[y, x] + b1 + a1 / total, f2[y, x] + b2 + a2 / total
                out[y - first, x] = t1 * one + (1 - t1) * other

    return fuse


def in_numba() -> Call:
    pair, coarse, sigma = images(1)
    f1, c1, f2, c2 = (np.asarray(image, np.float64) for image in pair)
    c0, out, few = coarse[0].astype(np.float64), np.empty((ROWS, SIDE)), np.empty((1, SIDE))
    fuse = loops()
    fuse(f1, f2, c1, c2, c0, sigma, RULE.radius, RULE.radius, few)  # compiled before it is timed

    def run() -> np.ndarray:
        fuse(f1, f2, c1, c2, c0, sigma, RULE.radius, RULE.radius, out)
        return out[None]

    return run


@pytest.mark.parametrize(
    "name", [*(f"c {tier}" for tier in TIERS), "two threads", "numpy", "numba"]
)
def test_first_day(benchmark: BenchmarkFixture, name: str) -> None:
    if name.startswith("c "):
        call, rows = in_c(name.removeprefix("c "), 1), ROWS
    elif name == "two threads":
        call, rows = in_c(TIERS[-1], 1, threads=2), ROWS
    else:
        call, rows = (in_numpy(), FEW) if name == "numpy" else (in_numba(), ROWS)
    assert_allclose(call()[:, :FEW], in_numpy()(), rtol=2e-7)
    benchmark.group = "fusion, first day of a pair"
    benchmark.extra_info.update(items=rows * SIDE, label=name)
    benchmark.pedantic(call, rounds=3 if rows == ROWS else 2)
    fastest_tier()


@pytest.mark.parametrize("name", [f"c {tier}" for tier in TIERS])
def test_further_days(benchmark: BenchmarkFixture, name: str) -> None:
    """Time all days together, per pixel and day."""
    call = in_c(name.removeprefix("c "), FURTHER)
    benchmark.group = f"fusion, {FURTHER} days of a pair together"
    benchmark.extra_info.update(items=ROWS * SIDE * FURTHER, label=name)
    benchmark.pedantic(call, rounds=2)
    fastest_tier()
