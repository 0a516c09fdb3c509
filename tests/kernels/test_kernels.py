"""The kernels against the paper's equations in float64, on C and on the NumPy twin.

The reference below is written out here, from design §4, and shares nothing with the code.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from on_engines import TIERS, fastest_tier, load_kernels
from running import wait_for

from kgsm_infer.base import flags
from kgsm_infer.kernels import wcm
from kgsm_infer.kernels.domain import Domain
from kgsm_infer.kernels.wcm import Limits, Wcm

TEN_OVER_LN10 = 4.342944819032518
MISSING, OUTSIDE = flags.MISSING_INPUT, flags.INPUT_OUT_OF_RANGE
LOST, DENSE = flags.SOIL_SIGNAL_LOST, flags.DENSE_VEGETATION


@pytest.fixture(scope="module", params=[*TIERS, "numpy"])
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    """``kgsm_infer.kernels`` on every tier of the C core, and on the twin."""
    yield load_kernels(request.param)
    fastest_tier()


@pytest.fixture(scope="session")
def c_kernels() -> ModuleType:
    """``kgsm_infer.kernels`` on C, for what only C has."""
    return load_kernels("c")


def paper(p: Wcm, sigma0_db: Any, vegetation: Any, angle_deg: Any = None) -> SimpleNamespace:
    """Eqs 1, 2, 4, 5, 12 in float64: soil_db, fraction and vwc; inputs as float32 sees them."""
    sigma0_db = np.asarray(sigma0_db, np.float32).astype(np.float64)
    vegetation = np.asarray(vegetation, np.float32).astype(np.float64)
    with np.errstate(all="ignore"):
        if p.vwc_rule == "foliage":
            vwc = np.maximum(0.0, 1.9134 * vegetation**2 - 0.3215 * vegetation) + p.stem_kg_m2
        else:
            vwc = vegetation
        sigma0 = 10.0 ** (sigma0_db / 10.0)
        cos_ref = np.cos(p.angle_ref_deg * np.pi / 180.0)
        if p.angle_rule == "constant":
            cos_theta = cos_ref
        else:
            theta = np.asarray(angle_deg, np.float32).astype(np.float64) * np.pi / 180.0
            cos_theta = np.cos(theta)
        if p.angle_rule == "normalise":
            sigma0 = sigma0 * (cos_ref / cos_theta) ** p.angle_exponent
            cos_theta = cos_ref
        tau = p.b * vwc
        sigma_veg = p.a * vwc**p.e * cos_theta * -np.expm1(-2.0 * tau / cos_theta)
        # 10 log10(x / gamma2), the exponential undone by hand so that it cannot underflow
        soil_db = 10.0 * np.log10(sigma0 - sigma_veg) + TEN_OVER_LN10 * 2.0 * tau / cos_theta
        return SimpleNamespace(
            soil_db=soil_db, fraction=(sigma0 - sigma_veg) / sigma0, vwc=vwc, sigma_veg=sigma_veg
        )


SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45, 3.4e38, -3.4e38]


def numbers(low: float, high: float) -> st.SearchStrategy[float]:
    """Mostly inside [low, high], and everything a float32 can be."""
    low, high = float(np.float32(low)), float(np.float32(high))
    inside = st.floats(low, high, width=32)
    edges = [low, high, float(np.nextafter(np.float32(low), np.float32(-np.inf)))]
    edges.append(float(np.nextafter(np.float32(high), np.float32(np.inf))))
    return st.one_of(inside, inside, inside, st.sampled_from(SPECIAL + edges), st.floats(width=32))


models = st.builds(
    Wcm,
    a=st.one_of(st.just(0.0), st.floats(1e-4, 3.0)),
    b=st.one_of(st.just(0.0), st.floats(1e-3, 0.2)),
    e=st.sampled_from([0.0, 1.0, 0.5, 2.0, 1.7]),
    vwc_rule=st.sampled_from(["foliage", "column"]),
    stem_kg_m2=st.sampled_from([0.0, 0.35, 6.0]),
    angle_rule=st.sampled_from(["constant", "column", "normalise"]),
    angle_ref_deg=st.floats(20.0, 50.0),
    angle_exponent=st.sampled_from([1.0, 2.0, 1.5]),
    min_soil_fraction=st.sampled_from([0.1, 0.1, 0.3]),
)
columns = st.lists(
    st.tuples(
        numbers(-60, 10),
        st.one_of(numbers(-1, 1), numbers(0, 50), st.sampled_from([0.168, 0.1680255])),
        numbers(5, 75),
    ),
    max_size=40,
).map(lambda lines: np.asarray(lines, np.float32).reshape(-1, 3).T)


def near_threshold(p: Wcm, fraction: Any) -> Any:
    return np.abs(fraction - p.min_soil_fraction) < 1e-5


# ---- decibels


def test_decibels(kernels: ModuleType) -> None:
    db = np.linspace(-60, 10, 50_001, dtype=np.float32)
    exact = 10.0 ** (db.astype(np.float64) / 10.0)
    linear = kernels.db_to_linear(db)
    assert linear.dtype == np.float32
    assert_allclose(linear, exact, rtol=1.1e-6, atol=0)
    back = kernels.linear_to_db(linear)
    assert back.dtype == np.float32
    assert_allclose(back, 10.0 * np.log10(linear.astype(np.float64)), rtol=3e-7, atol=1e-6)
    assert_allclose(back, db, atol=1e-5)


def test_decibels_of_what_is_no_number(kernels: ModuleType) -> None:
    assert_array_equal(
        kernels.db_to_linear([np.nan, -np.inf, np.inf, 0.0]), [np.nan, 0.0, np.inf, 1.0]
    )
    assert_array_equal(
        kernels.linear_to_db([np.nan, 0.0, -0.0, -1.0, np.inf, 1.0]),
        [np.nan, -np.inf, -np.inf, np.nan, np.inf, 0.0],
    )


def test_decibels_keep_the_shape(kernels: ModuleType) -> None:
    for shape in [(), (0,), (2, 0), (2, 3)]:
        assert kernels.db_to_linear(np.zeros(shape)).shape == shape
        assert kernels.linear_to_db(np.ones(shape)).shape == shape
    grid = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert_array_equal(kernels.db_to_linear(grid.T), kernels.db_to_linear(grid).T)
    assert_array_equal(kernels.db_to_linear(grid[:, ::2]), kernels.db_to_linear(grid)[:, ::2])


# ---- isolation


def test_isolation_by_hand(kernels: ModuleType) -> None:
    # NDVI 0.5: V = 1.9134/4 - 0.3215/2 = 0.3176; theta 40: cos = 0.7660444
    # two tau / cos = 2 0.084 0.3176 / 0.7660444 = 0.0696524; gamma2 = 0.9327180
    # sigma_veg = 0.02 0.7660444 (1 - gamma2) = 0.0010308; sigma0 = 10**-1.5 = 0.0316228
    # left 0.0305920, fraction 0.9674026; soil 10 log10(left / gamma2) = -14.841431 dB
    soil = kernels.isolate(Wcm(a=0.02), [-15.0], [0.5])
    assert_allclose(soil.soil_db, [-14.841431], atol=5e-6)
    assert_allclose(soil.soil_fraction, [0.9674026], atol=3e-7)
    assert soil.flags.tolist() == [0]
    assert [part.dtype for part in soil] == [np.float32, np.float32, np.uint16]


@settings(max_examples=300, deadline=None)
@given(p=models, inputs=columns)
def test_isolation_follows_the_paper_on_any_input(kernels: ModuleType, p: Wcm, inputs: Any) -> None:
    sigma0_db, vegetation, angle_deg = inputs
    soil_db, fraction, mask = kernels.isolate(p, sigma0_db, vegetation, angle_deg)

    ranges = [(sigma0_db, -60, 10)]
    ranges.append((vegetation, -1, 1) if p.vwc_rule == "foliage" else (vegetation, 0, 50))
    if p.angle_rule != "constant":
        ranges.append((angle_deg, 5, 75))
    missing = np.any([np.isnan(x) for x, _, _ in ranges], axis=0)
    outside = np.any([(x < low) | (x > high) for x, low, high in ranges], axis=0)
    assert_array_equal((mask & MISSING) != 0, missing)
    assert_array_equal((mask & OUTSIDE) != 0, outside)

    good = ~(missing | outside)
    assert_array_equal(np.isfinite(fraction), good)
    assert_array_equal(np.isnan(soil_db), (mask & flags.NO_NUMBER) != 0)
    assert not np.isinf(soil_db).any()
    assert not (mask & ~np.uint16(MISSING | OUTSIDE | LOST | DENSE)).any()
    assert not (mask[~good] & (LOST | DENSE)).any()

    exact = paper(p, sigma0_db, vegetation, angle_deg)
    kept = (mask & flags.NO_NUMBER) == 0
    sure = good & ~near_threshold(p, exact.fraction)
    assert_array_equal(kept[sure], exact.fraction[sure] >= p.min_soil_fraction)
    error_db = np.abs(soil_db[kept] - exact.soil_db[kept])
    assert (error_db <= 1e-4).all(), (error_db.max(), p)
    veg_share = np.abs(1 - exact.fraction[good])
    assert (np.abs(fraction - exact.fraction)[good] <= 4e-6 * veg_share + 1e-7).all()
    plain = good & (np.abs(exact.vwc - 5.0) > 1e-5)
    assert_array_equal((mask[plain] & DENSE) != 0, exact.vwc[plain] > 5.0)


@pytest.mark.parametrize("rule", ["foliage", "column"])
def test_accuracy_where_the_soil_is_nearly_lost(kernels: ModuleType, rule: str) -> None:
    """1e-4 dB at the worst place: soil fractions from 0.1 up, weak signals, NDVI near 0.168."""
    rng = np.random.default_rng(7)
    n = 200_000
    p = Wcm(a=1.5, vwc_rule=rule, angle_rule="column")
    angle_deg = rng.uniform(5, 75, n).astype(np.float32)
    spread = 10 ** rng.uniform(-6, -0.1, n)
    vegetation = (0.16802551 + spread if rule == "foliage" else 40 * spread).astype(np.float32)
    sigma_veg = paper(p, -10.0, vegetation, angle_deg).sigma_veg
    sigma0_db = 10 * np.log10(sigma_veg / rng.uniform(0.5, 0.9, n))
    sigma0_db = np.clip(sigma0_db, -60, 10).astype(np.float32)
    exact = paper(p, sigma0_db, vegetation, angle_deg)
    soil_db = kernels.isolate(p, sigma0_db, vegetation, angle_deg).soil_db
    kept = (exact.fraction >= 0.1) & ~near_threshold(p, exact.fraction)
    assert kept.mean() > 0.8
    assert np.abs(soil_db - exact.soil_db)[kept].max() <= 1e-4
    assert np.isnan(soil_db[(exact.fraction < 0.1) & ~near_threshold(p, exact.fraction)]).all()


@pytest.mark.parametrize("e", [0.0, 1.0])
def test_bare_soil_keeps_its_backscatter(kernels: ModuleType, e: float) -> None:
    p = Wcm(a=0.05, e=e, vwc_rule="column")
    soil = kernels.isolate(p, [-60.0, -15.0, 10.0], 0.0)
    assert_allclose(soil.soil_db, [-60.0, -15.0, 10.0], atol=1e-5)
    assert soil.soil_fraction.tolist() == [1.0, 1.0, 1.0]
    assert soil.flags.tolist() == [0, 0, 0]
    # NDVI 0.1 and 0 have no foliage either; below 0 the formula counts it again
    p = Wcm(a=0.05, e=e)
    soil = kernels.isolate(p, -15.0, [0.0, 0.1, -0.5])
    assert_allclose(soil.soil_db[:2], -15.0, atol=1e-5)
    assert_allclose(soil.soil_db, paper(p, [-15.0] * 3, [0.0, 0.1, -0.5]).soil_db, atol=1e-4)


def test_the_edges_of_the_soil_fraction(kernels: ModuleType) -> None:
    p = Wcm(a=0.02, vwc_rule="column")
    sigma_veg = paper(p, -10.0, 2.0).sigma_veg
    wanted = np.array([-0.5, 0.0, 0.0999, 0.1001, 0.5])
    sigma0_db = 10 * np.log10(sigma_veg / (1 - wanted))
    soil = kernels.isolate(p, sigma0_db, 2.0)
    assert_allclose(soil.soil_fraction, wanted, atol=5e-6)
    assert soil.flags.tolist() == [LOST, LOST, LOST, 0, 0]
    assert np.isnan(soil.soil_db).tolist() == [True, True, True, False, False]
    gamma2 = np.exp(-2 * 0.084 * 2.0 / np.cos(np.deg2rad(40.0)))
    left = wanted[3:] * sigma_veg / (1 - wanted[3:])
    assert_allclose(soil.soil_db[3:], 10 * np.log10(left / gamma2), atol=1e-4)


def test_every_reason_is_told(kernels: ModuleType) -> None:
    nan, inf = np.nan, np.inf
    p = Wcm(a=0.02, vwc_rule="column", angle_rule="column")
    lines = [
        (-15.0, 1.0, 40.0, 0),
        (nan, 1.0, 40.0, MISSING),
        (-15.0, nan, 40.0, MISSING),
        (-15.0, 1.0, nan, MISSING),
        (inf, 1.0, 40.0, OUTSIDE),
        (-15.0, -inf, 40.0, OUTSIDE),
        (-15.0, 1.0, inf, OUTSIDE),
        (15.0, nan, 40.0, MISSING | OUTSIDE),
        (-15.0, -0.001, 40.0, OUTSIDE),
        (-15.0, 1.0, 0.7, OUTSIDE),
        (-30.0, 1.0, 40.0, LOST),
        (-15.0, 5.0, 40.0, 0),
        (-15.0, 5.001, 40.0, DENSE),
        (-30.0, 5.001, 40.0, LOST | DENSE),
    ]
    sigma0_db, vegetation, angle_deg, expected = zip(*lines, strict=True)
    soil = kernels.isolate(p, sigma0_db, vegetation, angle_deg)
    assert soil.flags.tolist() == list(expected)
    # the angle is not looked at where the model has one of its own
    soil = kernels.isolate(replace(p, angle_rule="constant"), -15.0, 1.0, nan)
    assert soil.flags == 0 and np.isfinite(soil.soil_db)


def test_limits_are_the_models(kernels: ModuleType) -> None:
    limits = Limits(
        sigma0_db=(-20.0, -10.0), ndvi=(0.0, 0.9), angle_deg=(30.0, 45.0), dense_vwc_kg_m2=0.5
    )
    p = Wcm(a=0.02, angle_rule="normalise", limits=limits)
    soil = kernels.isolate(
        p,
        [-20.0, -20.01, -9.99, -15.0, -15.0, -15.0, -15.0],
        [0.3, 0.3, 0.3, -0.01, 0.91, 0.3, 0.7],
        [40.0, 40.0, 40.0, 40.0, 40.0, 29.9, 45.0],
    )
    assert soil.flags.tolist() == [0, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, OUTSIDE, DENSE]


@settings(max_examples=200, deadline=None)
@given(p=models, inputs=columns)
def test_no_limits_no_made_up_number(kernels: ModuleType, p: Wcm, inputs: Any) -> None:
    """Where the card limits nothing, what cannot be computed is still flagged."""
    everything = (-np.inf, np.inf)
    limits = Limits(everything, everything, everything, everything)
    soil_db, _, mask = kernels.isolate(replace(p, limits=limits), *inputs)
    assert not (mask & OUTSIDE).any()
    without = (mask & flags.NO_NUMBER) != 0
    assert np.isnan(soil_db[without]).all() and np.isfinite(soil_db[~without]).all()


@settings(max_examples=100, deadline=None)
@given(
    p=models,
    sm=st.floats(0.0, 0.6),
    vegetation=st.floats(0.0, 1.0, width=32),
    angle_deg=st.floats(20.0, 50.0, width=32),
)
def test_the_way_back(
    kernels: ModuleType, p: Wcm, sm: float, vegetation: float, angle_deg: float
) -> None:
    """Forward WCM (Eqs 1-3) in float64, then isolation and inversion, gives SM again."""
    p = replace(p, stem_kg_m2=0.0)
    c_db, d_db = -22.0, 28.0
    bare = replace(p, angle_rule="column")
    theta = p.angle_ref_deg if p.angle_rule != "column" else angle_deg
    exact = paper(bare, -10.0, vegetation, theta)
    cos_theta = np.cos(np.deg2rad(np.float64(np.float32(theta))))
    gamma2 = np.exp(-2 * p.b * exact.vwc / cos_theta)
    sigma0 = exact.sigma_veg + gamma2 * 10 ** ((c_db + d_db * sm) / 10)
    if p.angle_rule == "normalise":  # what the radar saw at its own angle
        own = np.cos(np.deg2rad(np.float64(np.float32(angle_deg))))
        sigma0 = sigma0 * (own / np.cos(np.deg2rad(p.angle_ref_deg))) ** p.angle_exponent
    soil = kernels.isolate(p, 10 * np.log10(sigma0), vegetation, angle_deg)
    back = kernels.invert(soil.soil_db, c_db, d_db)
    if soil.flags & flags.NO_NUMBER:
        assert np.isnan(back)
    else:
        # float32 decibels of sigma0, ten-fold at a soil fraction of 0.1
        assert abs(back - sm) <= 1.5e-4 / d_db


@settings(max_examples=100, deadline=None)
@given(p=models, vegetation=st.floats(0.0, 1.0, width=32), angle_deg=st.floats(20.0, 50.0))
def test_more_backscatter_is_more_from_the_soil(
    kernels: ModuleType, p: Wcm, vegetation: float, angle_deg: float
) -> None:
    sigma0_db = np.arange(-60, 10.001, 0.05, dtype=np.float32)
    soil = kernels.isolate(p, sigma0_db, vegetation, angle_deg)
    kept = ~np.isnan(soil.soil_db)
    assert (np.diff(kept.astype(int)) >= 0).all()  # lost below, kept above
    assert (np.diff(soil.soil_db[kept]) > 0).all()


@settings(max_examples=300, deadline=None)
@given(p=models, inputs=columns)
def test_c_and_its_twin_agree(c_kernels: ModuleType, p: Wcm, inputs: Any) -> None:
    mine, twin = c_kernels.isolate(p, *inputs), wcm.isolate(p, *inputs)
    near = near_threshold(p, twin.soil_fraction) | near_threshold(p, mine.soil_fraction)
    assert_array_equal(mine.flags[~near], twin.flags[~near])
    assert_allclose(mine.soil_db[~near], twin.soil_db[~near], rtol=1e-6, atol=1e-4)
    far = 4e-6 * np.abs(1 - np.nan_to_num(twin.soil_fraction)) + 1e-7
    same = np.isnan(mine.soil_fraction) & np.isnan(twin.soil_fraction)
    assert (same | (np.abs(mine.soil_fraction - twin.soil_fraction) <= far)).all()


def test_isolation_broadcasts(kernels: ModuleType) -> None:
    p = Wcm(a=0.02, angle_rule="column")
    sigma0_db = np.linspace(-20, -5, 6, dtype=np.float64).reshape(2, 3)
    ndvi = np.array([[0.3], [0.6]])
    soil = kernels.isolate(p, sigma0_db, ndvi, [30.0, 35.0, 40.0])
    assert [part.shape for part in soil] == [(2, 3)] * 3
    for i in range(2):
        for j in range(3):
            one = kernels.isolate(p, sigma0_db[i, j], ndvi[i, 0], [30.0, 35.0, 40.0][j])
            assert [np.shape(part) for part in one] == [()] * 3
            assert one.soil_db == soil.soil_db[i, j]
    for shape in [(0,), (2, 0)]:
        empty = kernels.isolate(p, np.zeros(shape), 0.5, 40.0)
        assert [part.shape for part in empty] == [shape] * 3
    backwards = kernels.isolate(p, sigma0_db[:, ::-1], ndvi, [40.0, 35.0, 30.0])
    assert_array_equal(backwards.soil_db, soil.soil_db[:, ::-1])


def test_isolation_leaves_its_inputs_alone(kernels: ModuleType) -> None:
    inputs = np.array([[-15.0, np.nan], [0.5, 0.5], [40.0, 90.0]], np.float32)
    inputs.flags.writeable = False
    kernels.isolate(Wcm(a=0.02, angle_rule="normalise"), *inputs)
    kernels.screen(inputs[0])
    kernels.invert(inputs[0], -20.0, 20.0)
    assert_array_equal(inputs, np.array([[-15.0, np.nan], [0.5, 0.5], [40.0, 90.0]]))


def test_isolation_refuses(kernels: ModuleType) -> None:
    p = Wcm(a=0.02, angle_rule="column")
    with pytest.raises(ValueError, match="needs angle_deg"):
        kernels.isolate(p, [-15.0], [0.5])
    with pytest.raises(ValueError):
        kernels.isolate(p, [-15.0, -14.0], [0.5, 0.5, 0.5], 40.0)
    with pytest.raises(ValueError):
        kernels.isolate(p, [-15.0, -14.0], 0.5, [40.0, 40.0, 40.0])


@pytest.mark.parametrize(
    "wrong",
    [
        {"a": np.nan}, {"a": -1.0}, {"b": np.inf}, {"b": -0.1}, {"e": -1.0}, {"e": np.nan},
        {"stem_kg_m2": np.nan}, {"stem_kg_m2": -1.0}, {"vwc_rule": "leaves"},
        {"angle_rule": "guess"}, {"angle_ref_deg": 90.0}, {"angle_ref_deg": np.nan},
        {"angle_exponent": np.inf}, {"min_soil_fraction": 0.0}, {"min_soil_fraction": 1e-60},
        {"min_soil_fraction": np.nan}, {"min_soil_fraction": 1.0},
    ],
    ids=str,
)  # fmt: skip
def test_parameters_that_cannot_be_are_refused(wrong: dict[str, Any], request: Any) -> None:
    with pytest.raises(ValueError):
        Wcm(**{"a": 0.02, **wrong})
    # and again behind the door, whoever calls it
    core = request.getfixturevalue("c_kernels")._core
    sound = vars(Wcm(a=0.02, angle_rule="column"))
    one = np.full(1, -15, np.float32)
    out = np.full(1, 7, np.float32), np.full(1, 7, np.float32), np.full(1, 7, np.uint16)
    with pytest.raises((ValueError, KeyError)):
        core.isolate(SimpleNamespace(**{**sound, **wrong}), one, one, one, *out)
    assert [part[0] for part in out] == [7, 7, 7]  # nothing was written


@pytest.mark.parametrize(
    "wrong",
    [
        {"sigma0_db": (10.0, -60.0)}, {"angle_deg": (np.nan, 75.0)}, {"ndvi": (0.0, np.nan)},
        {"vwc_kg_m2": (1.0, 0.0)}, {"sm": (1.0, 0.0)}, {"dense_vwc_kg_m2": np.nan},
    ],
    ids=str,
)  # fmt: skip
def test_limits_that_cannot_be_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Limits(**wrong)


# ---- screening and inversion


@settings(max_examples=200, deadline=None)
@given(values=st.lists(numbers(-60, 10), max_size=30))
def test_screening(kernels: ModuleType, values: list[float]) -> None:
    sigma0_db = np.asarray(values, np.float32)
    screened, mask = kernels.screen(sigma0_db)
    outside = (sigma0_db < -60) | (sigma0_db > 10)
    assert_array_equal(screened, np.where(outside, np.nan, sigma0_db))
    assert_array_equal(mask, np.isnan(sigma0_db) * MISSING + outside * OUTSIDE)
    assert screened.dtype == np.float32 and mask.dtype == np.uint16


def test_screening_with_limits_and_shapes(kernels: ModuleType) -> None:
    screened, mask = kernels.screen([[-20.0, -5.0]], Limits(sigma0_db=(-10.0, 0.0)))
    assert_array_equal(screened, [[np.nan, -5.0]])
    assert mask.tolist() == [[OUTSIDE, 0]]
    assert kernels.screen(np.zeros((0, 3)))[0].shape == (0, 3)


@settings(max_examples=100, deadline=None)
@given(
    soil_db=st.floats(-60, 60, width=32),
    c_db=st.floats(-40, 0),
    d_db=st.one_of(st.floats(1, 60), st.floats(-60, -1)),
)
def test_inversion(kernels: ModuleType, soil_db: float, c_db: float, d_db: float) -> None:
    sm = kernels.invert([soil_db], c_db, d_db)
    assert sm.dtype == np.float32
    assert_allclose(sm, [(soil_db - c_db) / d_db], rtol=3e-7, atol=3e-6 / abs(d_db))


def test_inversion_keeps_missing_and_refuses(kernels: ModuleType) -> None:
    assert_array_equal(kernels.invert([np.nan, -20.0], -20.0, 25.0), [np.nan, 0.0])
    assert kernels.invert(np.zeros((2, 0)), -20.0, 25.0).shape == (2, 0)
    for c_db, d_db in [(np.nan, 25.0), (-20.0, 0.0), (-20.0, 1e-60), (np.inf, 25.0), (0, np.nan)]:
        with pytest.raises(ValueError, match="D="):
            kernels.invert([-15.0], c_db, d_db)


# ---- the switch, the door, threads


def test_the_switch(kernels: ModuleType) -> None:
    assert kernels.engine_name() == ("numpy" if kernels._core is None else "c")


def in_new_python(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_the_environment_chooses(c_kernels: ModuleType) -> None:
    code = "from kgsm_infer import kernels; print(kernels.engine_name())"
    assert in_new_python(code, KGSM_PURE="1") == "numpy"
    assert in_new_python(code, KGSM_PURE="0") == "c"
    assert in_new_python(code, KGSM_PURE="") == "c"


def test_without_the_extension_the_twin_serves() -> None:
    code = """
import importlib.abc, sys
class NotBuilt(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name == "kgsm_infer.kernels._core":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, NotBuilt())
from kgsm_infer import kernels
print(kernels.engine_name())
"""
    assert in_new_python(code, KGSM_PURE="0") == "numpy"


def test_the_environment_lowers_the_tier(c_kernels: ModuleType) -> None:
    code = "from kgsm_infer import kernels; print(kernels.tier_name())"
    for tier in c_kernels._core.tiers():
        assert in_new_python(code, KGSM_TIER=tier, KGSM_PURE="0") == tier
    assert in_new_python(code, KGSM_TIER="", KGSM_PURE="0") == c_kernels._core.tiers()[-1]
    assert in_new_python(code, KGSM_PURE="1") == "numpy"
    code = "import kgsm_infer.kernels"
    with pytest.raises(subprocess.CalledProcessError) as caught:
        in_new_python(code, KGSM_TIER="sse9", KGSM_PURE="0")
    assert "KGSM_TIER=sse9 must be one of portable" in caught.value.stderr
    with pytest.raises(ValueError, match="no tier of that name"):
        c_kernels._core.choose_tier("sse9")


def test_the_door_is_light(c_kernels: ModuleType) -> None:
    """The extension itself loads no numpy: it is found without the package around it."""
    code = (
        "import sys; from importlib.machinery import ExtensionFileLoader as Loader; "
        f"core = Loader('_core', {c_kernels._core.__file__!r}).load_module(); "
        "print(core.tier(), 'numpy' in sys.modules)"
    )
    assert in_new_python(code) == "portable False"


def test_c_and_python_name_the_same_bits(c_kernels: ModuleType) -> None:
    bits = c_kernels._core.FLAG_BITS
    assert {name: 1 << i for i, name in enumerate(flags.NAMES)} == bits
    assert c_kernels._core.NO_NUMBER == flags.NO_NUMBER


def test_the_door_checks_buffers(c_kernels: ModuleType) -> None:
    core = c_kernels._core
    three, two = np.zeros(3, np.float32), np.zeros(2, np.float32)
    bits, p = np.zeros(3, np.uint16), Wcm(a=0.02, angle_rule="column")
    with pytest.raises(ValueError, match="dtype"):
        core.db_to_linear(np.zeros(3), three)
    with pytest.raises(ValueError, match="contiguous"):
        core.db_to_linear(np.zeros(6, np.float32)[::2], three)
    with pytest.raises(ValueError, match="dimensions"):
        core.db_to_linear(np.zeros((1, 3), np.float32), three)
    with pytest.raises(ValueError, match="linear has 2 elements, expected 3"):
        core.db_to_linear(three, two)
    with pytest.raises(ValueError, match="db has 2"):
        core.linear_to_db(three, two)
    with pytest.raises(ValueError, match="sm has 2"):
        core.invert(0.0, 1.0, three, two)
    with pytest.raises(ValueError, match="screened_db has 2"):
        core.screen((-60, 10), three, two, bits)
    with pytest.raises(ValueError, match="outside what it may be"):
        core.screen((10, -60), three, three.copy(), bits)
    with pytest.raises(ValueError, match="read-only"):
        fixed = np.zeros(3, np.float32)
        fixed.flags.writeable = False
        core.db_to_linear(three, fixed)
    for k, name in enumerate(["vegetation", "angle_deg", "soil_db", "soil_fraction"]):
        arrays = [np.zeros(3, np.float32) for _ in range(4)]
        arrays[k] = two
        with pytest.raises(ValueError, match=f"{name} has 2"):
            core.isolate(p, three, *arrays, bits)
    with pytest.raises(ValueError, match="needs angle_deg"):
        core.isolate(p, three, three, None, three.copy(), three.copy(), bits)
    with pytest.raises(TypeError):
        core.db_to_linear(None, three)


def test_threads_get_the_same_numbers(kernels: ModuleType) -> None:
    rng = np.random.default_rng(1)
    sigma0_db = rng.uniform(-30, 0, 200_000).astype(np.float32)
    ndvi = rng.uniform(0, 1, 200_000).astype(np.float32)
    p = Wcm(a=0.02)
    alone = kernels.isolate(p, sigma0_db, ndvi)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(kernels.isolate, p, sigma0_db, ndvi) for _ in range(8)]
        for call in calls:
            for got, expected in zip(call.result(), alone, strict=True):
                assert_array_equal(got, expected)


def test_c_lets_go_of_the_gil(c_kernels: ModuleType) -> None:
    """Another thread gets a turn while C computes.

    With the switch interval this long Python itself hands nothing over, so the main
    thread, woken just before the call, can see it unfinished only if C let go.
    """
    n = 2_000_000
    inputs = np.full(n, -15, np.float32), np.full(n, 0.5, np.float32), None
    out = np.empty(n, np.float32), np.empty(n, np.float32), np.empty(n, np.uint16)

    def seen_unfinished() -> bool:
        started, finished = threading.Event(), []

        def work() -> None:
            started.set()
            c_kernels._core.isolate(Wcm(a=0.02), *inputs, *out)
            finished.append(True)

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        seen = not finished
        thread.join()
        return seen

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1000)
    try:
        wait_for(seen_unfinished)  # a busy machine may wake the main thread late
    finally:
        sys.setswitchinterval(interval)


@pytest.mark.parametrize("count", [1, 3, 15, 16, 17, 100])
@pytest.mark.parametrize("channels", [1, 3, 20])
def test_dissimilarity_is_the_distance_to_the_nearest_point(
    kernels: ModuleType, count: int, channels: int
) -> None:
    rng = np.random.default_rng(count)
    points = rng.normal(size=(count, channels)).astype(np.float32)
    tile = rng.normal(size=(2, 101, channels + 3)).astype(np.float32)
    scaled = tile[-1, :, :channels]  # lines that lie apart, as in a tile
    scaled[7, channels // 2] = np.nan
    scaled[9] = points[-1]
    apart = scaled[:, None].astype(np.float64) - points
    expected = np.sqrt((apart**2).sum(axis=-1)).min(axis=1) / 1.7
    found = kernels.dissimilarity(Domain(points, 1.7, 1.0), scaled)
    assert_allclose(found, expected, rtol=2e-5, atol=2e-3)  # the twin takes squares apart
    if kernels.engine_name() == "c":
        assert_allclose(found, expected, rtol=1e-6, atol=0)
        alone = kernels.dissimilarity(Domain(points, 1.7, 1.0), scaled[40:41])
        assert_array_equal(alone, found[40:41])
    assert np.isnan(found[7]) and np.isnan(found).sum() == 1
    assert kernels.dissimilarity(Domain(points, 1.7, 1.0), scaled[:0]).shape == (0,)
    one = kernels.dissimilarity(Domain(points, 1.7, 1.0), scaled[40][None])  # of no stride
    assert_allclose(one, expected[40:41], rtol=2e-5, atol=2e-3)


def test_the_door_to_the_nearest_point_checks_buffers(c_kernels: ModuleType) -> None:
    core = c_kernels._core
    x, points, out = (np.zeros(shape, np.float32) for shape in ((4, 2), (2, 5), 4))
    for wrong, reason in [
        ((x, points[:1], out), "points has 1"),
        ((x, points, out[:3]), "distance has 3"),
        ((x[:, ::-1], points, out), "side by side"),
        ((x[::-1], points, out), "side by side"),
        ((np.broadcast_to(x[:1], (4, 2)), points, out), "side by side"),
        ((x, points[:, :0], out), "size is 0"),
    ]:
        with pytest.raises(ValueError, match=reason):
            core.nearest(*(np.asarray(part) for part in wrong))
