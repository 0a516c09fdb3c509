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
#: Roots of one depth throughout: one layer is then the zone of FAO-56.
GROWN = replace(CROP, root_m=(1.0, 1.0))
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


def assert_same(made, theirs, *names):
    ours = {
        "De": made.surface_depletion_mm, "Dr": made.depletion_mm, "Drmax": made.deep_depletion_mm,
        "TAW": made.available_mm, "Ks": made.stress,
    }  # fmt: skip
    for name in names:
        np.testing.assert_allclose(
            ours[name][:, 0], theirs[name].to_numpy(float), atol=0.01 if name == "Ks" else 0.6,
            err_msg=name,
        )  # fmt: skip


@pytest.mark.parametrize("theta0", [0.25, 0.17])
@pytest.mark.parametrize("irrigated", [True, False])
def test_balance_of_one_layer_is_that_of_pyfao56(theta0, irrigated):
    given = water(irrigated=irrigated)
    theirs = run_pyfao56(GROWN, theta0, given)
    start = RootStart(np.array([theta0]), np.array([0.05]))
    made = balance_root_zone(replace(SOIL, layer_mm=1000.0), GROWN, given, start)
    assert_same(made, theirs, "De", "Dr", "Drmax", "TAW", "Ks")


def test_balance_without_stress_is_that_of_pyfao56_with_growing_roots():
    given = water(demand=3.0)
    given = replace(given, rain_mm=given.rain_mm + 2.5)
    theirs = run_pyfao56(CROP, 0.25, given)
    made = balance_root_zone(SOIL, CROP, given, RootStart(np.array([0.25]), np.array([0.05])))
    assert made.stress.min() == pytest.approx(1)
    assert_same(made, theirs, "De", "Drmax", "TAW", "Ks")


def integrate_layers(theirs, given, theta0):
    """Depletion of ten layers of 100 mm after each day, and the daily stress, by scalar loops.

    Evaporation, K_cb and p are those of pyfao56.
    """
    state, taw = [(0.25 - theta0) * 100] * 10, 15.0
    depletion, stress = [], []
    for t in range(DAYS):
        day, total = theirs.iloc[t], 0.0
        more = float(day["E"]) - given.rain_mm[t, 0] - given.irrigation_mm[t, 0]
        for k in range(10):
            density = 0.19 - 0.02 * k  # integral of 2 (1 - z) over a tenth
            ks = min(max((taw - state[k]) / ((1 - float(day["p"])) * taw), 0), 1)
            total += density * ks
            wanted = state[k] + density * ks * float(day["Kcb"]) * given.et0_mm[t, 0] + more
            state[k] = min(max(wanted, 0), taw)
            more = wanted - state[k]
        depletion.append(sum(state))
        stress.append(total)
    return np.array(depletion), np.array(stress)


@pytest.mark.parametrize("irrigated", [True, False])
def test_layers_share_the_uptake_by_linear_root_density(irrigated):
    given = water(irrigated=irrigated)
    made = balance_root_zone(SOIL, GROWN, given, RootStart(np.array([0.2]), np.array([0.05])))
    depletion, stress = integrate_layers(run_pyfao56(GROWN, 0.2, given), given, 0.2)
    np.testing.assert_allclose(made.depletion_mm[:, 0], depletion, atol=0.5)
    np.testing.assert_allclose(made.stress[:, 0], stress, atol=0.01)
    assert irrigated or stress.min() < 0.5


@pytest.mark.parametrize("layer_mm", [50.0, 100.0, 330.0, 5000.0])
def test_no_water_appears_or_is_lost_while_nothing_drains(layer_mm):
    dry = replace(water(irrigated=False), rain_mm=np.zeros((DAYS, 1)))
    soil = replace(SOIL, layer_mm=layer_mm)
    # the evaporation layer starts dry, so transpiration is the only loss
    made = balance_root_zone(soil, CROP, dry, RootStart(np.array([0.2]), np.array([0.05])))
    kcb = np.interp(np.arange(DAYS), [0, 20, 50, 90, 110], [0.15, 0.15, 1.1, 1.1, 0.5])
    used = np.cumsum(made.stress[:, 0] * kcb * dry.et0_mm[:, 0])
    np.testing.assert_allclose(made.deep_depletion_mm[:, 0], 50 + used, rtol=1e-9)


def test_deep_water_does_not_replace_that_of_a_dry_upper_soil():
    given = water(irrigated=False)
    layered = balance_root_zone(SOIL, GROWN, given, START)
    single = balance_root_zone(replace(SOIL, layer_mm=1000.0), GROWN, given, START)
    assert (layered.stress[1:25, 0] < single.stress[1:25, 0]).all()
    assert (layered.deep_depletion_mm[5:45, 0] < single.deep_depletion_mm[5:45, 0]).all()


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
