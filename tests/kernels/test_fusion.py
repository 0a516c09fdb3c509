"""Fusion of fine and coarse images: the C core against float64 and against the authors' file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from on_engines import TIERS, fastest_tier, load_kernels

from kgsm_infer.kernels import fusion
from kgsm_infer.kernels.fusion import Fusion, FusionBlock, Pair

LST = Fusion(low=250.0, high=350.0)


@pytest.fixture(autouse=True)
def _afterwards():
    yield
    fastest_tier()


def ulps(one: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.int64]:
    """How many floats apart, for positive numbers; 0 where both are NaN, huge where one is."""
    apart = np.abs(one.view(np.int32).astype(np.int64) - other.view(np.int32))
    apart[np.isnan(one) & np.isnan(other)] = 0
    return apart


def scene(seed: int, rows: int, columns: int, days: int, missing: float = 0.03) -> tuple[Any, ...]:
    """Fields of a few values with texture, seen finely and coarsely, in K, with gaps."""
    rng = np.random.default_rng(seed)
    land = rng.integers(0, 4, (rows // 5 + 1, columns // 5 + 1)).repeat(5, 0).repeat(5, 1)
    land = land[:rows, :columns]
    warm = np.asarray([300.0, 304.0, 309.0, 312.0])[land]
    images = []
    for day in range(4 + days):
        image = warm + rng.normal(0, 0.8, warm.shape) + 0.7 * day
        if day % 2 or day >= 4:
            image = np.round(image, 1) - 2.5  # coarse: rounded, and biased
        image[rng.random(image.shape) < missing] = np.nan
        images.append(image.astype(np.float32))
    return Pair(*images[:4]), np.stack(images[4:])


def sigma_of(pair: Pair) -> NDArray[np.float64]:
    """One sigma of each fine image for all columns."""
    columns = np.shape(pair.fine1)[1]
    fine = (pair.fine1, pair.fine2)
    return np.stack([np.full(columns, fusion.patch_sigma(image, 10**6)[0, 0]) for image in fine])


def read(path: Path) -> NDArray[np.float32]:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(path) as dataset:
        return dataset.read(1, masked=True).filled(np.nan).astype(np.float32)


@pytest.fixture(scope="module")
def yanco(shared_data: Path) -> tuple[Pair, NDArray[np.float32], NDArray[np.float64], Any]:
    """The authors' pair, the day between, sigma of the upper patches, and their rows 0-199."""
    folder = shared_data / "ubestarfm"
    names = [
        f"{what}_LST_cloudrm_{day}"
        for day in ("20160205", "20160308")
        for what in ("Landsat", "MOD11A1")
    ]
    pair = Pair(*(read(folder / f"{name}.tif") for name in names))
    coarse = read(folder / "MOD11A1_LST_cloudrm_20160218.tif")[None]
    sigma = np.stack([fusion.patch_sigma(f)[0].repeat(200) for f in (pair.fine1, pair.fine2)])
    return pair, coarse, sigma, read(folder / "fused_result_rows_0_200.tif")


@pytest.mark.realdata
def test_the_twin_is_the_authors_file_to_the_bit(yanco):
    pair, coarse, sigma, authors = yanco
    for row in (0, 13, 111, 199):  # the upper edge, where the window is cut, and the patch's end
        fused = fusion.fuse_rows(LST, FusionBlock(pair, coarse, sigma, range(row, row + 1)))
        np.testing.assert_array_equal(fused[0, 0], authors[row])


@pytest.mark.realdata
@pytest.mark.parametrize("tier", TIERS)
def test_every_tier_is_within_one_ulp_of_the_authors_file(yanco, tier):
    pair, coarse, sigma, authors = yanco
    fused = load_kernels(tier).fuse_rows(
        LST, FusionBlock(pair, coarse, sigma, range(200)), threads=2
    )
    assert ulps(fused[0], authors).max() <= 1


@pytest.mark.parametrize("rule", fusion.RULES)
@pytest.mark.parametrize("tier", TIERS)
def test_surface_temperature_is_within_one_ulp_of_float64(tier, rule):
    pair, coarse = scene(1, 23, 70, days=3)
    rule = Fusion(radius=7, low=250, high=350, rule=rule)
    expected = fusion.fuse_rows(rule, FusionBlock(pair, coarse, sigma_of(pair), range(23)))
    fused = load_kernels(tier).fuse_rows(rule, FusionBlock(pair, coarse, sigma_of(pair), range(23)))
    assert np.isnan(expected).any()
    assert ulps(fused, expected).max() <= 1


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    rows=st.integers(1, 12),
    columns=st.integers(1, 40),
    days=st.integers(1, 9),
    radius=st.integers(1, 6),
    missing=st.sampled_from([0.0, 0.02, 0.3, 0.9]),
    low=st.sampled_from([-np.inf, 0.35]),
    rule=st.sampled_from(fusion.RULES),
    tier=st.sampled_from(TIERS),
)
def test_small_images_of_ndvi_follow_float64(
    seed, rows, columns, days, radius, missing, low, rule, tier
):
    """Any shape, any gaps, differences no float holds, values on both sides of zero."""
    pair, coarse = scene(seed, rows, columns, days, missing)
    pair = Pair(*((image - 302) / np.float32(15) for image in pair))
    coarse = (coarse - 302) / np.float32(15)
    coarse[..., 0] = np.inf if seed % 3 == 0 else coarse[..., 0]
    rule = Fusion(radius=radius, low=low, high=1.2, rule=rule)
    expected = fusion.fuse_rows(rule, FusionBlock(pair, coarse, sigma_of(pair), range(rows)))
    fused = load_kernels(tier).fuse_rows(
        rule, FusionBlock(pair, coarse, sigma_of(pair), range(rows))
    )
    np.testing.assert_array_equal(np.isnan(fused), np.isnan(expected))
    # a value at the limit, or an S of -1, may fall on either side; nothing else may differ
    apart = np.abs(fused - expected)
    assert np.nanmax(apart, initial=0) < 0.5
    assert (apart > 2e-6).mean() <= 0.01


@pytest.mark.parametrize("tier", TIERS)
def test_one_pixel_has_one_value(tier):
    """The same bits alone or with other days, in a block or the whole, in one thread or more."""
    kernels = load_kernels(tier)
    pair, coarse = scene(2, 40, 53, days=8, missing=0.001)
    assert np.isnan(coarse).any(axis=(1, 2)).any()
    rule, sigma = Fusion(radius=5), sigma_of(pair)
    whole = kernels.fuse_rows(rule, FusionBlock(pair, coarse, sigma, range(40)))
    for day in range(8):
        alone = kernels.fuse_rows(rule, FusionBlock(pair, coarse[day : day + 1], sigma, range(40)))
        np.testing.assert_array_equal(alone[0], whole[day])
    np.testing.assert_array_equal(
        kernels.fuse_rows(rule, FusionBlock(pair, coarse, sigma, range(40)), threads=3), whole
    )
    block = Pair(*(image[11:33] for image in pair))
    part = kernels.fuse_rows(rule, FusionBlock(block, coarse[:, 11:33], sigma, range(5, 17)))
    np.testing.assert_array_equal(part, whole[:, 16:28])
    right = Pair(*(image[:, 20:] for image in pair))
    part = kernels.fuse_rows(rule, FusionBlock(right, coarse[:, :, 20:], sigma[:, 20:], range(40)))
    np.testing.assert_array_equal(part[:, :, 5:], whole[:, :, 25:])


@pytest.mark.skipif(len(TIERS) < 3, reason="this machine has no two vector tiers to compare")
def test_vector_tiers_give_the_same_bits():
    pair, coarse = scene(3, 20, 50, days=2)
    one, other = (
        load_kernels(tier).fuse_rows(
            Fusion(radius=6), FusionBlock(pair, coarse, sigma_of(pair), range(20))
        )
        for tier in TIERS[-2:]
    )
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("engine", [*TIERS, "numpy"])
def test_worked_by_hand(engine):
    """All alike: b = C - F, the change is C_0's, and the nearer day counts for more."""
    ones = np.ones((9, 9), np.float32)
    pair = Pair(0.5 * ones, 0.4 * ones, 0.7 * ones, 0.8 * ones)
    sigma = np.full((2, 9), 0.1)
    fused = load_kernels(engine).fuse_rows(
        Fusion(radius=2), FusionBlock(pair, 0.5 * ones[None], sigma, range(9))
    )
    np.testing.assert_allclose(fused, 0.5, rtol=1e-6)  # both sides: C_k + (C_0 - C_k)
    # sigma 0: not even the target is similar; the window's mean stands for it, the same here
    fused = load_kernels(engine).fuse_rows(
        Fusion(radius=2), FusionBlock(pair, 0.5 * ones[None], 0 * sigma, range(9))
    )
    np.testing.assert_allclose(fused, 0.5, rtol=1e-6)


@pytest.mark.parametrize("engine", [*TIERS, "numpy"])
def test_what_is_missing_stays_missing(engine):
    pair, coarse = scene(4, 12, 30, days=2, missing=0.0)
    coarse[0, 3, 4] = np.nan
    pair.fine2[5, 6] = np.inf
    fused = load_kernels(engine).fuse_rows(
        Fusion(radius=3), FusionBlock(pair, coarse, sigma_of(pair), range(12))
    )
    gone = [tuple(at) for at in np.argwhere(np.isnan(fused)).tolist()]
    assert gone == [(0, 3, 4), (0, 5, 6), (1, 5, 6)]


def test_a_rule_that_cannot_be_is_refused():
    for wrong in (
        {"radius": 0},
        {"patch": 0},
        {"low": 2.0, "high": 1.0},
        {"low": np.nan},
        {"rule": "?"},
    ):
        with pytest.raises(ValueError):
            Fusion(**wrong)


def test_the_door_refuses_what_does_not_fit():
    kernels = load_kernels("c")
    pair, coarse = scene(5, 8, 20, days=1)
    with pytest.raises(ValueError, match="sigma, second axis has 19"):
        kernels.fuse_rows(
            Fusion(radius=2), FusionBlock(pair, coarse, sigma_of(pair)[:, 1:], range(8))
        )
    with pytest.raises(ValueError, match="fine1"):
        kernels.fuse_rows(
            Fusion(radius=2),
            FusionBlock(pair._replace(fine1=coarse[0, 1:]), coarse, sigma_of(pair), range(8)),
        )
    with pytest.raises(ValueError, match="too large"):
        kernels.fuse_rows(Fusion(radius=2), FusionBlock(pair, coarse, sigma_of(pair), range(4, 13)))
