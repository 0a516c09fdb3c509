"""The split filter against a dense one, and what it must do whatever the numbers."""

import numpy as np
import pytest
from dense_filter import dense_filter
from hypothesis import given, settings
from hypothesis import strategies as st
from made_series import BUCKET, ERRORS, SET, made, observations, with_residual

from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.forcing import common_rain
from kgsm_infer.daily.run import Drive, estimate, filtered
from kgsm_infer.daily.smoother import smooth

VARIANCES = (
    ERRORS.point**2 * (1 - ERRORS.persistent_share),
    ERRORS.date**2,
    ERRORS.point**2 * ERRORS.persistent_share,
)


def both(parameters, series, unknown=None):
    """Split and dense filter on one series."""
    count = series.seen.shape[1]
    missing = np.zeros(len(series.expected)) if unknown is None else unknown
    rain = Drive(0, series.expected, missing[:, None], np.zeros(count, np.int64))
    seen = observations(series.seen)
    split = list(filtered(parameters, rain, seen))
    dense = dense_filter(
        parameters.residual,
        np.broadcast_to(series.expected, series.seen.shape),
        series.seen,
        VARIANCES,
        missing,
        parameters.bucket.variance,
    )
    return rain, seen, split, dense


def rmse(a, b):
    return float(np.sqrt(np.mean((np.asarray(a) - np.asarray(b)) ** 2)))


def test_one_paddock_is_exact():
    series = made(paddocks=1)
    unknown = np.where(np.arange(120) % 17 < 3, 0.0004, 0.0)
    rain, seen, split, dense = both(SET, series, unknown)
    assert rmse([day.mean for day in split], dense.mean) < 1e-12
    assert rmse([day.variance for day in split], dense.variance) < 1e-12
    smoothed = smooth(SET, rain, seen)
    inside = (dense.smooth_mean > 0.001) & (dense.smooth_mean < 0.599)
    assert rmse(smoothed.mean[inside], dense.smooth_mean[inside]) < 1e-6
    assert rmse(smoothed.sd, np.sqrt(dense.smooth_variance)) < 1e-6


@pytest.mark.parametrize("orbits", [1, 2])
@pytest.mark.parametrize("paddocks", [2, 5, 25])
def test_split_follows_the_dense_filter(paddocks, orbits):
    series = made(paddocks=paddocks, orbits=orbits, seed=paddocks)
    rain, seen, split, dense = both(SET, series)
    assert rmse([day.mean for day in split], dense.mean) < 0.002
    assert rmse(np.sqrt([day.variance for day in split]), np.sqrt(dense.variance)) < 0.002
    smoothed = smooth(SET, rain, seen)
    # each paddock smooths its own view of the hub
    assert rmse(smoothed.mean, np.clip(dense.smooth_mean, 0, 0.6)) < 0.006
    assert rmse(smoothed.sd, np.sqrt(dense.smooth_variance)) < 0.006


def test_rain_corrects_the_level_of_a_date_for_all():
    # all paddocks of the last pass are .08 above the rain model: mostly the date's error
    series = made(paddocks=25, every=10, days=61)
    series.seen[:] = np.nan
    series.seen[60] = series.expected[60] + 0.08
    _, _, split, _ = both(SET, series)
    together = split[-1].mean - series.expected[60]
    # one paddock alone that far above the others: mostly its own
    series.seen[60] = series.expected[60]
    series.seen[60, 0] += 0.08
    _, _, split, _ = both(SET, series)
    alone = split[-1].mean[0] - series.expected[60]
    quiet = np.abs(split[-1].mean[1:] - series.expected[60])
    assert 0 < together.max() < 0.045
    assert alone[0] > 0 and quiet.max() < 0.01


@pytest.mark.parametrize("paddocks", [25, 400])
def test_many_paddocks_keep_the_level_of_their_passes(paddocks):
    # every paddock has rain of its own; the passes have the bucket's level, but not its contrast
    rng = np.random.default_rng(1)
    share = rng.uniform(0.1, 1.0, (1, paddocks))
    rain = np.where(rng.random((240, 1)) < 0.3, rng.exponential(9.0, (240, 1)), 0.0) * share
    expected = run_bucket(BUCKET, rain, np.arange(240))
    seen = np.full(expected.shape, np.nan)
    seen[::6] = expected[::6].mean(1, keepdims=True) + 0.02
    series = np.arange(paddocks)
    common = common_rain(rain, series)
    drive = Drive(0, expected, np.zeros(expected.shape), series, common)
    result = estimate(SET, drive, observations(seen))
    late = slice(120, None, 6)
    assert abs((result.mean[late] - seen[late]).mean()) < 0.02


def test_other_paddocks_without_a_pass_follow_the_common_part():
    parameters = with_residual(common_var=0.004)
    series = made(paddocks=6, days=40)
    series.seen[:] = np.nan
    series.seen[30, :5] = series.expected[30] + 0.1
    _, _, split, dense = both(parameters, series)
    assert split[-1].mean[5] > series.expected[-1, 0] + 0.005
    assert rmse(split[-1].mean, dense.mean[-1]) < 0.002


def test_weight_and_band_between_passes():
    series = made(paddocks=3, days=60)
    series.seen[21:] = np.nan
    rain = Drive(0, series.expected, np.zeros((60, 1)), np.zeros(3, np.int64))
    result = estimate(SET, rain, observations(series.seen))
    assert (result.weight[-1] < result.weight[21]).all()
    flat = Drive(0, np.full((60, 1), 0.2), np.zeros((60, 1)), np.zeros(3, np.int64))
    result = estimate(SET, flat, observations(series.seen))
    assert (np.diff(result.weight[21:], axis=0) <= 1e-6).all()
    assert (result.weight >= 0).all() and (result.weight <= 1).all()
    assert (result.lower <= result.mean).all() and (result.mean <= result.upper).all()


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    gamma=st.floats(0.05, 1.5),
    common=st.floats(1e-6, 0.02),
    gain=st.floats(1e-6, 0.5),
)
def test_any_numbers_give_finite_values_and_variances_above_0(seed, gamma, common, gain):
    parameters = with_residual(gamma=gamma, common_var=common, gain_var=gain)
    series = made(days=50, paddocks=4, every=3, seed=seed)
    rain = Drive(0, series.expected, np.zeros((50, 1)), np.zeros(4, np.int64))
    for day in filtered(parameters, rain, observations(series.seen)):
        assert np.isfinite(day.mean).all() and (day.variance > 0).all()


def test_order_of_paddocks_does_not_matter():
    series = made(paddocks=8)
    order = np.random.default_rng(1).permutation(8)
    rain = Drive(0, series.expected, np.zeros((120, 1)), np.zeros(8, np.int64))
    one = estimate(SET, rain, observations(series.seen))
    other = estimate(SET, rain, observations(series.seen[:, order]))
    np.testing.assert_allclose(one.mean[:, order], other.mean, atol=1e-6)
