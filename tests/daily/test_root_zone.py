"""Root-zone balance against pyfao56, exponential filter against pytesmo."""

from dataclasses import replace

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.daily.root_zone import (
    Crop,
    SoilProfile,
    SurfaceValues,
    Water,
    balance_root_zone,
    exponential_filter,
)

DAYS, ET0 = 90, 6.0
BARE = Crop(0, (200, 1, 1, 1), (0.001, 0.002, 0.001), (1.0, 1.0), 0.1, 0.5)
GROWN = Crop(0, (10, 20, 40, 20), (0.15, 1.1, 0.5), (1.0, 1.0), 1.0, 0.55)
SOIL = SoilProfile(
    np.array([100.0, 400.0, 500.0]), np.full((3, 1), 0.1), np.full((3, 1), 0.25), np.ones(3), 8.0
)


def water(rain=None, irrigation=None):
    none = np.zeros(DAYS)
    return Water(
        1,
        none if rain is None else rain,
        np.full(DAYS, ET0),
        np.zeros((DAYS, 1)) if irrigation is None else irrigation,
    )


def run_pyfao56(crop, theta0, irrigation_mm=0.0):
    """Daily states of pyfao56 with one layer of 1 m, at 2 m/s wind and 45 % humidity."""
    pyfao56 = pytest.importorskip("pyfao56")
    import pandas as pd

    keys = [f"2021-{day:03d}" for day in range(1, DAYS + 1)]
    parameters = pyfao56.Parameters(
        Kcbini=crop.kcb[0],
        Kcbmid=crop.kcb[1],
        Kcbend=crop.kcb[2],
        Lini=crop.stage_days[0],
        Ldev=crop.stage_days[1],
        Lmid=crop.stage_days[2],
        Lend=crop.stage_days[3],
        hini=0.001,
        hmax=0.001,  # keeps its upper limit of the crop coefficient at 1.2
        thetaFC=0.25,
        thetaWP=0.1,
        theta0=theta0,
        Zrini=1.0,
        Zrmax=1.0,
        pbase=crop.depletion,
        Ze=0.1,
        REW=8.0,
    )
    weather = pyfao56.Weather()
    weather.rfcrp, weather.z, weather.lat, weather.wndht = "S", 100.0, 30.0, 2.0
    table = {name: np.full(DAYS, np.nan) for name in weather.cnames}
    table |= {"Rain": np.zeros(DAYS), "ETref": np.full(DAYS, ET0), "Wndsp": np.full(DAYS, 2.0)}
    table |= {"RHmin": np.full(DAYS, 45.0), "Tmax": np.full(DAYS, 30.0)}
    table |= {"Tmin": np.full(DAYS, 15.0), "Tdew": np.full(DAYS, 5.0)}
    frame = pd.DataFrame(table, index=keys)
    frame["MorP"] = "M"
    weather.wdata = frame[weather.cnames]
    irrigation = pyfao56.Irrigation()
    if irrigation_mm:
        irrigation.addevent(2021, 1, irrigation_mm, 1.0)
    model = pyfao56.Model(keys[0], keys[-1], parameters, weather, irr=irrigation)
    model.run()
    return model.odata


def test_evaporation_is_that_of_pyfao56():
    theirs = run_pyfao56(BARE, 0.2, 300.0)["De"].to_numpy(float)
    made = balance_root_zone(SOIL, BARE, water(), np.full((3, 1), 0.25))
    ours = 25.0 - made[:, 0, 0]
    # day 0 of theirs only fills the layer
    np.testing.assert_allclose(ours[:40], theirs[1:41], atol=0.2)
    assert ours[39] > 19


def test_transpiration_and_stress_are_those_of_pyfao56():
    start = np.array([[0.05], [0.22], [0.22]])  # no evaporation from a dry top
    depletion = 150.0 - 900 * 0.12
    theirs = run_pyfao56(GROWN, 0.25 - depletion / 1000)["Dr"].to_numpy(float)
    made = balance_root_zone(SOIL, GROWN, replace(water(), first=0), start)
    held = np.maximum(made[:, :, 0] - 0.1 * SOIL.thickness_mm, 0).sum(1)
    np.testing.assert_allclose(150.0 - held, theirs[: len(held)], atol=1.5)
    assert held[-1] < 20


@pytest.mark.parametrize("days", [3, 10, 40])
def test_filter_is_that_of_pytesmo(days):
    filters = pytest.importorskip("pytesmo.time_series.filters")
    rng = np.random.default_rng(1)
    day = np.cumsum(rng.integers(1, 9, 60)).astype(float)
    sm = rng.uniform(0.05, 0.4, 60)
    made = exponential_filter(day, sm, float(days))
    np.testing.assert_allclose(made, filters.exp_filter(sm, day, days), rtol=1e-6)


def test_filter_passes_over_missing_values():
    day, sm = np.arange(4.0), np.array([np.nan, 0.2, np.nan, 0.3])
    made = exponential_filter(day, sm, 5.0)
    assert np.isnan(made[0]) and made[1] == made[2] == 0.2
    only = exponential_filter(day[[1, 3]], sm[[1, 3]], 5.0)
    assert made[3] == only[1]


def test_water_is_neither_made_nor_lost():
    """With a bottom that does not drain, input minus storage is evapotranspiration."""
    rng = np.random.default_rng(2)
    rain = np.where(rng.random(DAYS) < 0.2, rng.gamma(1, 10, DAYS), 0)
    soil = replace(SOIL, drainage=np.array([0.5, 0.3, 0.0]))
    no_demand = replace(water(rain), et0_mm=np.zeros(DAYS))
    start = np.full((3, 1), 0.2)
    made = balance_root_zone(soil, GROWN, no_demand, start)
    np.testing.assert_allclose(made.sum(1)[:, 0], 200 + np.cumsum(rain), rtol=1e-12)
    used = balance_root_zone(soil, GROWN, water(rain), start)
    loss = -np.diff(used.sum(1)[:, 0]) + rain[1:]
    assert (loss >= -1e-9).all() and (loss <= 1.2 * ET0 + 1e-9).all()


def test_paddocks_do_not_influence_each_other():
    irrigation = np.zeros((DAYS, 2))
    irrigation[20, 1] = 60
    soil = replace(SOIL, wilting_point=np.full((3, 2), 0.1), field_capacity=np.full((3, 2), 0.25))
    made = balance_root_zone(soil, GROWN, water(irrigation=irrigation), np.full((3, 2), 0.2))
    alone = balance_root_zone(SOIL, GROWN, water(), np.full((3, 1), 0.2))
    np.testing.assert_array_equal(made[:, :, :1], alone)
    assert made[20, :, 1].sum() > made[20, :, 0].sum() + 50


def test_surface_values_correct_the_layers():
    value = np.full((DAYS, 1), np.nan)
    value[30] = 0.25
    start = np.full((3, 1), 0.2)
    without = balance_root_zone(SOIL, GROWN, water(), start)[30, :, 0]
    exact = SurfaceValues(value, 1e-6, 0.05, 1, 200.0)
    made = balance_root_zone(SOIL, GROWN, water(), start, exact)[30, :, 0]
    assert made[0] == pytest.approx(25.0, abs=1e-3)
    added = (made - without) / SOIL.thickness_mm
    np.testing.assert_allclose(added / added[0], np.exp([0, -0.5, -2.5]), rtol=1e-6)
    half = balance_root_zone(SOIL, GROWN, water(), start, replace(exact, error_sd=0.05))
    assert half[30, 0, 0] == pytest.approx((without[0] + 25.0) / 2)
    none = replace(exact, value=np.full((DAYS, 1), np.nan))
    np.testing.assert_array_equal(
        balance_root_zone(SOIL, GROWN, water(), start, none)[30, :, 0], without
    )


def test_missing_rain_and_wrong_limits_are_refused():
    rain = np.zeros(DAYS)
    rain[3] = np.nan
    with pytest.raises(DataError, match="rain_mm of day 4"):
        balance_root_zone(SOIL, GROWN, water(rain), np.full((3, 1), 0.2))
    wrong = replace(SOIL, field_capacity=np.full((3, 1), 0.1))
    with pytest.raises(DataError, match="layer 1 of paddock 1"):
        balance_root_zone(wrong, GROWN, water(), np.full((3, 1), 0.2))
