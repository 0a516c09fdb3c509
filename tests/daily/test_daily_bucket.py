"""The rain model against its equations and a linear filter."""

import numpy as np
from made_series import BUCKET, RESIDUAL
from scipy.signal import lfilter

from kgsm_infer.daily.bucket import day_of_year, run_bucket, unknown
from kgsm_infer.daily.parameters import Bucket, SoilStore

RNG = np.random.default_rng(3)
RAIN = np.where(RNG.random((400, 3)) < 0.3, RNG.exponential(9.0, (400, 3)), 0.0)


def by_the_equations(bucket, rain, first_day):
    wetness = [store.mean for store in bucket.stores]
    out = []
    for t, mm in enumerate(rain):
        year = np.datetime64(int(first_day) + t, "D")
        doy = int((year - year.astype("datetime64[Y]")).astype(int)) + 1
        factor = np.exp(bucket.season * np.cos(2 * np.pi * (doy - bucket.peak_day) / 365.25))
        total = bucket.dry
        for j, store in enumerate(bucket.stores):
            left = np.exp(-store.loss_per_day * factor)
            if np.isnan(mm):
                wetness[j] = store.mean + (wetness[j] - store.mean) * left
            else:
                wetness[j] = min(1.0, wetness[j] * left + mm / store.capacity_mm)
            total += store.range * wetness[j] ** store.power
        out.append(total)
    return np.array(out)


def test_equations():
    rain = RAIN.copy()
    rain[40:60, 1] = np.nan
    made = run_bucket(BUCKET, rain, 17000 + np.arange(400))
    for i in range(3):
        np.testing.assert_allclose(
            made[:, i], by_the_equations(BUCKET, rain[:, i], 17000), rtol=1e-12
        )


def test_without_a_capacity_it_is_a_recursive_filter():
    store = SoilStore(1e6, 0.1, 1.0, 1.0, 0.0)
    made = run_bucket(Bucket(0.0, (store,), 1e-12, 15.0, 1.0), RAIN, np.arange(400))
    wanted = lfilter([1.0], [1.0, -np.exp(-0.1)], RAIN / 1e6, axis=0)
    np.testing.assert_allclose(made, wanted, rtol=1e-9)


def test_missing_rain_is_not_a_dry_day():
    rain = RAIN[:, :1].copy()
    rain[100:] = np.nan
    dry = RAIN[:, :1].copy()
    dry[100:] = 0.0
    made, dried = (run_bucket(BUCKET, r, np.arange(400)) for r in (rain, dry))
    assert abs(made[-1, 0] - BUCKET.mean) < 0.01  # an average season
    assert dried[-1, 0] < made[-1, 0] - 0.03
    variance = 0.0
    for q in unknown(BUCKET, RESIDUAL, np.ones(400)):
        variance = RESIDUAL.common_phi**2 * variance + q
    np.testing.assert_allclose(variance, BUCKET.variance, rtol=1e-6)


def test_irrigation_is_water_even_where_rain_is_missing():
    rain = np.full((30, 1), np.nan)
    water = np.zeros((30, 1))
    water[10] = 20.0
    wet = run_bucket(BUCKET, rain, np.arange(30), irrigation_mm=water)
    plain = run_bucket(BUCKET, rain, np.arange(30))
    assert wet[10, 0] > plain[10, 0] + 0.05 and (wet[:10] == plain[:10]).all()


def test_other_hemisphere_is_half_a_year_later():
    january, july = np.arange(10), np.arange(10) + 182
    one = run_bucket(BUCKET, RAIN[:10], january)
    other = run_bucket(BUCKET, RAIN[:10], july, opposite=True)
    np.testing.assert_allclose(one, other, atol=2e-3)


def test_day_of_year_of_a_leap_year():
    days = np.datetime64("2024-12-31").astype(np.int64)
    assert day_of_year([days]).tolist() == [366.0]
