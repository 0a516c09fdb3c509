"""Root-zone balance against pyfao56, exponential filter against pytesmo."""

from dataclasses import replace

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.daily.root_zone import (
    Crop,
    RootSoil,
    RootStart,
    Water,
    balance_root_zone,
    exponential_filter,
)

DAYS = 120
CROP = Crop(0, (20, 30, 40, 20), (0.15, 1.1, 0.5), (0.3, 1.0), 1.0, 0.55)
START = RootStart(np.array([0.2]), np.array([0.2]))
SOIL = RootSoil(np.array([0.1]), np.array([0.25]), 100.0, 8.0)


def water(seed=0, demand=6.0, irrigated=True, count=1):
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random(DAYS) < 0.15, rng.gamma(1, 12, DAYS), 0)
    irrigation = np.zeros((DAYS, 1))
    if irrigated:
        irrigation[30:100:14] = 40.0
    days = np.full((DAYS, count), demand)
    return Water(0, np.repeat(rain[:, None], count, 1), days, np.repeat(irrigation, count, 1))


def run_pyfao56(crop, theta0, given):
    """Daily states of pyfao56 with one layer to 1 m, at 2 m/s wind and 45 % humidity."""
    pyfao56 = pytest.importorskip("pyfao56")
    import pandas as pd

    keys = [f"2021-{day:03d}" for day in range(1, DAYS + 1)]
    parameters = pyfao56.Parameters(
        Kcbini=crop.kcb[0], Kcbmid=crop.kcb[1], Kcbend=crop.kcb[2], Lini=crop.stage_days[0],
        Ldev=crop.stage_days[1], Lmid=crop.stage_days[2], Lend=crop.stage_days[3],
        hini=0.0, hmax=crop.height_m, thetaFC=0.25, thetaWP=0.1, theta0=theta0,
        Zrini=crop.root_m[0], Zrmax=crop.root_m[1], pbase=crop.depletion, Ze=0.1, REW=8.0,
    )  # fmt: skip
    layers = pyfao56.SoilProfile()
    layers.sdata = pd.DataFrame(
        {"thetaFC": [0.25], "thetaWP": [0.1], "theta0": [theta0]}, index=[100]
    )
    weather = pyfao56.Weather()
    weather.rfcrp, weather.z, weather.lat, weather.wndht = "S", 100.0, 30.0, 2.0
    table = {name: np.full(DAYS, np.nan) for name in weather.cnames}
    table |= {"Rain": given.rain_mm[:, 0], "ETref": given.et0_mm[:, 0]}
    table |= {"Wndsp": np.full(DAYS, 2.0), "RHmin": np.full(DAYS, 45.0)}
    table |= {"Tmax": np.full(DAYS, 30.0), "Tmin": np.full(DAYS, 15.0), "Tdew": np.full(DAYS, 5.0)}
    frame = pd.DataFrame(table, index=keys)
    frame["MorP"] = "M"
    weather.wdata = frame[weather.cnames]
    irrigation = pyfao56.Irrigation()
    for t in np.flatnonzero(given.irrigation_mm[:, 0]):
        irrigation.addevent(2021, int(t) + 1, float(given.irrigation_mm[t, 0]), 1.0)
    model = pyfao56.Model(keys[0], keys[-1], parameters, weather, irr=irrigation, sol=layers)
    model.run()
    return model.odata


@pytest.mark.parametrize("theta0", [0.25, 0.17])
@pytest.mark.parametrize("irrigated", [True, False])
def test_balance_is_that_of_pyfao56(theta0, irrigated):
    given = water(irrigated=irrigated)
    theirs = run_pyfao56(CROP, theta0, given)
    made = balance_root_zone(SOIL, CROP, given, RootStart(np.array([theta0]), np.array([0.05])))
    pairs = {
        "De": made.surface_depletion_mm, "Dr": made.depletion_mm, "Drmax": made.deep_depletion_mm,
        "TAW": made.available_mm, "Ks": made.stress,
    }  # fmt: skip
    for name, ours in pairs.items():
        np.testing.assert_allclose(
            ours[:, 0], theirs[name].to_numpy(float), atol=0.6 if name != "Ks" else 0.01,
            err_msg=name,
        )  # fmt: skip


def test_a_gap_in_rain_or_demand_ends_the_balance():
    given = water()
    rain = given.rain_mm.copy()
    rain[50] = np.nan
    made = balance_root_zone(SOIL, CROP, replace(given, rain_mm=rain), START)
    assert np.isfinite(made.depletion_mm[:50]).all() and np.isnan(made.depletion_mm[50:]).all()
    assert np.isnan(made.available_mm[50:]).all()


def test_paddocks_do_not_influence_each_other():
    two = water(count=2)
    irrigation = two.irrigation_mm.copy()
    irrigation[20, 1] = 60
    soil = RootSoil(np.full(2, 0.1), np.full(2, 0.25), 100.0, 8.0)
    made = balance_root_zone(
        soil,
        CROP,
        replace(two, irrigation_mm=irrigation),
        RootStart(np.full(2, 0.2), np.full(2, 0.2)),
    )
    alone = balance_root_zone(SOIL, CROP, water(), START)
    np.testing.assert_array_equal(made.depletion_mm[:, :1], alone.depletion_mm)
    assert made.depletion_mm[20, 1] < made.depletion_mm[20, 0]


def test_surface_values_correct_layer_and_roots_alike():
    surface = np.full((DAYS, 1), np.nan)
    surface[60] = 0.2
    given = water(irrigated=False)
    without = balance_root_zone(SOIL, CROP, given, START)
    made = balance_root_zone(SOIL, CROP, given, START, surface)
    change = made.surface_depletion_mm[60] - without.surface_depletion_mm[60]
    assert change == pytest.approx(0.5 * (5.0 - without.surface_depletion_mm[60]))
    assert made.depletion_mm[60] - without.depletion_mm[60] == pytest.approx(change)
    none = balance_root_zone(SOIL, CROP, given, START, np.full((DAYS, 1), np.nan))
    np.testing.assert_array_equal(none.depletion_mm, without.depletion_mm)


def test_wrong_limits_and_crops_are_refused():
    wrong = replace(SOIL, field_capacity=np.array([0.1]))
    with pytest.raises(DataError, match="is not above the wilting point"):
        balance_root_zone(wrong, CROP, water(), START)
    for change in ({"kcb": (1.1, 0.5, 0.3)}, {"root_m": (1.0, 0.5)}, {"depletion": 1.5},
                   {"stage_days": (0, 1, 1, 1)}):  # fmt: skip
        with pytest.raises(ValueError):
            replace(CROP, **change)


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
