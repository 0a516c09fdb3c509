"""Farm units against Saxton and Rawls' own table, and thresholds."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_series import RAIN, ROWS, SET, today, values_of, weather_of

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.daily import estimate_daily
from kgsm_infer.daily.percentiles import drier_than, drier_than_on
from kgsm_infer.daily.table import daily_columns
from kgsm_infer.daily.units import Stated, learn_limits, read_settings, soil_water
from kgsm_infer.tables.texture import water_limits


@pytest.mark.parametrize(
    ("sand", "clay", "wilting", "capacity", "saturation"),
    [  # Saxton & Rawls 2006, Table 3, organic matter 2.5 %
        (0.88, 0.05, 0.05, 0.10, 0.46),
        (0.65, 0.10, 0.08, 0.18, 0.45),
        (0.40, 0.20, 0.14, 0.28, 0.46),
        (0.20, 0.15, 0.11, 0.31, 0.48),
        (0.10, 0.35, 0.22, 0.38, 0.51),
        (0.25, 0.50, 0.30, 0.42, 0.50),
    ],
)
def test_texture(sand, clay, wilting, capacity, saturation):
    made = water_limits(sand, clay)
    found = [float(part) for part in (made.wilting_point, made.field_capacity, made.saturation)]
    np.testing.assert_allclose(found, [wilting, capacity, saturation], atol=0.0101)


def test_available_water_and_refill():
    water = soil_water(("a", "b"), {"b": {"field_capacity": 0.4}}, Stated(0.1, 0.3, 500.0))
    sm = np.array([[0.2, 0.2], [0.05, 0.5]], np.float32)
    np.testing.assert_allclose(water.available(sm), [[50, 100 / 3], [0, 100]], rtol=1e-5)
    np.testing.assert_allclose(water.refill_mm(sm), [[50, 100], [125, 0]], rtol=1e-5)


def test_days_left():
    water = soil_water(("a", "b"), {}, Stated(0.1, 0.3, refill_percent=50.0))
    ahead = np.array([[0.25, 0.3], [0.21, 0.3], [0.19, 0.3]], np.float32)
    np.testing.assert_array_equal(water.days_left(ahead), [2, np.nan])


def test_limits_that_contradict():
    with pytest.raises(DataError, match="paddock a: field capacity"):
        soil_water(("a",), {}, Stated(0.3, 0.1))
    with pytest.raises(UsageError, match="--root-depth-mm 5 "):
        soil_water(("a",), {}, Stated(0.1, 0.3, 5.0))


def test_learnt_limits_need_a_year():
    water = soil_water(("a",), {}, Stated())
    year = np.linspace(0.1, 0.3, 365, dtype=np.float32)[:, None]
    assert not learn_limits(water, year[:-1]).known
    learnt = learn_limits(water, year)
    np.testing.assert_allclose(
        [learnt.wilting_point[0], learnt.field_capacity[0]], [0.102, 0.298], atol=1e-3
    )


def test_limits_are_not_learnt_from_the_rain_before_the_first_pass():
    """Two years of rain and one pass at their end are no year of the paddock's own values."""
    rain = np.tile(RAIN, 1 + 730 // len(RAIN))[:731]
    weather, settings = weather_of(rain), replace(today(730), learn=True)
    with pytest.raises(UsageError, match="from a year of values"):
        estimate_daily(values_of([(0, 729, 0.2)]), weather, SET, settings)
    made = estimate_daily(values_of([(0, 300, 0.2)]), weather, SET, settings)
    low, high = np.nanquantile(made.mean[made.last_pass[:, 0] >= 0, 0], [0.01, 0.99])
    assert [made.water.wilting_point[0], made.water.field_capacity[0]] == [low, high]


def test_settings_files(tmp_path):
    path = tmp_path / "settings.csv"
    path.write_text("id,wilting_point,root_depth_mm\na,0.1,\nb,,600\n")
    assert read_settings(path) == {"a": {"wilting_point": 0.1}, "b": {"root_depth_mm": 600.0}}
    path.write_text("id,wilting_point\na,12\n")
    with pytest.raises(DataError, match="row 2, column wilting_point: 12"):
        read_settings(path)
    path.write_text("id,refill_percent\na,0.4\n")
    with pytest.raises(DataError, match=r"row 2, column refill_percent: 0.4 .* a fraction"):
        read_settings(path)
    path.write_text("id,wilting_point,field_capacity\na,0.1,0.3\na,,0.3\na,0.1,0.4\n")
    with pytest.raises(DataError, match=r"row 4, column field_capacity: 0.4 differs from another"):
        read_settings(path)
    path.write_text("id,colour\na,red\n")
    with pytest.raises(DataError, match="has none of the columns"):
        read_settings(path)
    outlines = tmp_path / "fields.geojson"
    ring = [[[0, 0], [0, 1], [1, 1], [0, 0]]]
    feature = {
        "type": "Feature",
        "id": "a",
        "properties": {"refill_percent": 40, "name": "x"},
        "geometry": {"type": "Polygon", "coordinates": ring},
    }
    outlines.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    assert read_settings(outlines) == {"a": {"refill_percent": 40.0}}


def test_columns_of_farm_units():
    soil = Stated(0.05, 0.35, 400.0, 60.0)
    rain = RAIN.copy()
    rain[61:] = 0
    made = estimate_daily(values_of(ROWS), weather_of(rain), SET, replace(today(60), soil=soil))
    columns = daily_columns(made)
    now = columns["date"] == today(60).today
    assert np.isfinite(columns["days_left"][now]).all()
    assert np.isnan(columns["days_left"][~now]).all()
    left = int(columns["days_left"][now][0])
    percent = columns["available_percent"][columns["site"] == "a"]
    if 0 < left <= 7:
        assert percent[60 + left] < 60 <= percent[60 + left - 1]


def test_percentile_against_counting():
    rng = np.random.default_rng(2)
    estimate, passed = rng.random(200), rng.random(200) < 0.3
    found = drier_than(estimate, passed)
    for t in range(200):
        before = estimate[: t + 1][passed[: t + 1]]
        if len(before) < 10:
            assert np.isnan(found[t])
        else:
            equal = (before == estimate[t]).sum()
            wanted = ((before > estimate[t]).sum() + equal / 2) / len(before)
            assert found[t] == pytest.approx(wanted)


def test_percentile_of_some_days_is_that_of_all():
    random = np.random.default_rng(4)
    estimate = np.round(random.uniform(0.1, 0.4, (90, 7)), 2).astype(np.float32)  # with ties
    estimate[random.random(estimate.shape) < 0.1] = np.nan
    passed = random.random(estimate.shape) < 0.3
    every = np.stack(
        [drier_than(estimate[:, i].astype(float), passed[:, i]) for i in range(7)], axis=1
    )
    days = [0, 5, 31, 60, 89]
    assert np.array_equal(drier_than_on(estimate, passed, days), every[days], equal_nan=True)
    assert np.isfinite(every[89]).any()
