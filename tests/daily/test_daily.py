"""Estimates from values and weather: what happens on each kind of day."""

from dataclasses import replace

import numpy as np
import pytest
from made_series import ERRORS, FIRST, RAIN, ROWS, SET, today, values_of, weather_of

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.daily import Settings, estimate_daily
from kgsm_infer.daily.forcing import LONGEST_FORECAST, Irrigation, read_irrigation
from kgsm_infer.daily.table import daily_columns
from kgsm_infer.daily.units import Stated


def width(result):
    return result.upper - result.lower


def test_past_only():
    early = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(30))
    late = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(60))
    np.testing.assert_array_equal(early.mean[:31], late.mean[:31])
    assert any("after today are left out" in note for note in early.notes)


def test_a_smoothed_archive_has_a_narrower_band():
    plain = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(54))
    smoothed = estimate_daily(
        values_of(ROWS), weather_of(RAIN), SET, replace(today(54), smooth=True)
    )
    np.testing.assert_allclose(smoothed.mean[-1], plain.mean[-1], atol=1e-6)
    assert (width(smoothed)[:50] <= width(plain)[:50] + 1e-6).all()
    assert (smoothed.weight >= plain.weight - 1e-5).all()


def test_a_gap_in_the_rain_widens_the_band_and_is_no_dry_spell():
    gap, dry = RAIN.copy(), RAIN.copy()
    gap[60:] = np.nan
    dry[60:] = 0.0
    made, dried, full = (
        estimate_daily(values_of(ROWS), weather_of(r), SET, today(99)) for r in (gap, dry, RAIN)
    )
    assert (width(made)[70:] > width(full)[70:] + 0.02).all()
    assert (np.diff(width(made)[60:], axis=0) > -1e-3).all()
    assert (made.mean[99] > dried.mean[99] + 0.02).all()
    columns = daily_columns(made)
    at = columns["date"] >= str(np.datetime64(FIRST + 60, "D"))
    assert all(("rain_missing" in f) == g for f, g in zip(columns["flags"], at, strict=True))
    assert np.isnan(columns["rain_mm"][at]).all()


def test_without_weather_values_go_back_to_the_paddocks_own_mean():
    rng = np.random.default_rng(0)
    rows = [
        (i, d, m + rng.normal(0, 0.05)) for d in range(0, 1500, 6) for i, m in ((0, 0.1), (1, 0.3))
    ]
    rows += [(0, 1500, 0.3), (1, 1500, 0.3)]
    made = estimate_daily(values_of(rows), None, SET, today(1700))
    assert made.mean[1500, 0] > made.mean[1490, 0] + 0.05
    assert made.mean[1700, 0] == pytest.approx(0.1, abs=0.03)  # a part is the retrieval's bias
    assert made.mean[1700, 1] == pytest.approx(0.3, abs=0.06)
    half = made.upper - made.mean  # the lower end may be cut off at 0
    assert (np.diff(half[1501:], axis=0) >= -1e-6).all()


def test_a_paddock_before_its_first_pass_and_without_any():
    rows = [(0, 10, 0.2), (1, 20, np.nan), (0, 40, 0.2)]
    made = estimate_daily(values_of(rows), weather_of(RAIN), SET, today(50))
    columns = daily_columns(made)
    b = columns["site"] == "b"
    assert columns["date"][b][0] == str(np.datetime64(FIRST + 20, "D"))
    assert all("no_pass" in f for f, is_b in zip(columns["flags"], b, strict=True) if is_b)
    assert np.isfinite(columns["sm"][b]).all() and np.isnan(columns["pass_age_days"][b]).all()
    alone = estimate_daily(values_of(rows), None, SET, today(50))
    assert np.isnan(alone.mean[:, 1]).all() and np.isnan(alone.lower[:, 1]).all()
    assert np.isfinite(alone.mean[10:, 0]).all()


def test_one_pass_moves_and_narrows():
    made = estimate_daily(
        values_of([(0, 50, 0.35)], paddocks=("a",)), weather_of(RAIN), SET, today(99)
    )
    assert made.mean[50, 0] > made.mean[49, 0] + 0.02
    assert width(made)[50, 0] < width(made)[49, 0]
    assert made.weight[49, 0] < 1e-6 and 0.1 < made.weight[50, 0] < 0.9
    assert daily_columns(made)["pass_age_days"].tolist() == list(range(50))


def test_flags_of_a_pass_stand_on_its_day_and_no_skill_stays():
    rows = [(0, 0, 0.2), (0, 6, 0.2), (0, 12, 0.2)]
    values = values_of(rows, paddocks=("a",), flags=[8, 512, 0])
    flags = daily_columns(estimate_daily(values, weather_of(RAIN), SET, today(13)))["flags"]
    flags = [flag.replace("forecast", "").strip(";") for flag in flags][:14]
    assert flags[0] == "dense_vegetation" and flags[1] == "" and flags[6:] == ["no_skill"] * 8


def test_outlook_widens_and_ends_after_a_week():
    settings = today(60)
    made = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, settings)
    assert len(made.mean) == 61 + LONGEST_FORECAST
    known = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(67))
    assert (np.diff((width(made) - width(known)[:68])[60:], axis=0) > 0).all()
    columns = daily_columns(made)
    ahead = columns["date"] > settings.today
    assert [("forecast" in f) for f in columns["flags"]] == ahead.tolist()
    past = estimate_daily(values_of(ROWS), weather_of(RAIN[:61]), SET, settings)
    np.testing.assert_array_equal(made.mean[:61], past.mean)
    np.testing.assert_array_equal(width(made)[:61], width(past))


def test_outlook_with_and_without_the_next_irrigation():
    plan = Irrigation("i.csv", ("a", "a"), FIRST + np.array([40, 63]), np.array([25.0, 25.0]))
    made = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(60), plan)
    dry = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(60))
    assert made.mean[40, 0] > dry.mean[40, 0] + 0.03  # irrigation of the past is water
    more = made.irrigated.mean - made.mean
    assert (more[:63] == 0).all() and (more[63:, 0] > 0.02).all() and (more[:, 1] == 0).all()
    assert "sm_irrigated_upper" in daily_columns(made)


def test_irrigation_files(tmp_path):
    path = tmp_path / "irrigation.csv"
    path.write_text("paddock,date,mm\na,2024-05-01,25\nzz,2024-05-02,10\n")
    with pytest.raises(DataError, match="row 3, column paddock: zz is not a paddock"):
        read_irrigation(path, ("a", "b"))
    path.write_text("paddock,date,mm\na,2024-05-01,\n")
    with pytest.raises(DataError, match="row 2, column mm"):
        read_irrigation(path, ("a", "b"))
    path.write_text("paddock,date,mm\na,2024-05-01,25000\n")
    with pytest.raises(DataError, match="a volume"):
        read_irrigation(path, ("a", "b"))
    path.write_text("paddock,date,mm\na,2024-05-01T22:00:00-05:00,25\n")
    with pytest.raises(DataError, match=r"row 2, column date: .* is not a day"):
        read_irrigation(path, ("a", "b"))
    path.write_text("paddock,date,mm\n")
    with pytest.raises(DataError, match="no rows"):
        read_irrigation(path, ("a", "b"))


def test_a_late_revision_of_rain_is_as_if_it_had_been_there():
    revised = RAIN.copy()
    revised[50:55] = 30.0
    before = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(60))
    after = estimate_daily(values_of(ROWS), weather_of(revised), SET, today(60))
    np.testing.assert_array_equal(before.mean[:50], after.mean[:50])
    assert (after.mean[54] > before.mean[54] + 0.05).all()


def test_two_passes_on_a_day_are_two_errors():
    one = values_of([(0, 30, 0.3)], paddocks=("a",))
    two = replace(values_of([(0, 30, 0.3), (0, 30, 0.3)], paddocks=("a",)), passed=np.array([0, 1]))
    single, double = (estimate_daily(v, weather_of(RAIN), SET, today(40)) for v in (one, two))
    assert double.mean[30, 0] > single.mean[30, 0] and width(double)[30, 0] < width(single)[30, 0]


def test_rain_by_site():
    wet = weather_of(RAIN, by="site", names=("a",))
    made = estimate_daily(values_of(ROWS), wet, SET, today(50))
    assert "1 paddocks have no rain" in " ".join(made.notes)
    assert width(made)[50, 1] > width(made)[50, 0]
    other = weather_of(RAIN, by="site", names=("x",))
    with pytest.raises(DataError, match="has none of the paddocks"):
        estimate_daily(values_of(ROWS), other, SET, today(50))
    same = estimate_daily(
        values_of(ROWS), weather_of(RAIN, by="site", names=("a", "b")), SET, today(50)
    )
    shared = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(50))
    np.testing.assert_array_equal(same.mean, shared.mean)


def test_index():
    rows = [(i, d, 0.3 + 0.2 * i) for d in range(0, 60, 6) for i in (0, 1)]
    made = estimate_daily(values_of(rows, "wetness"), weather_of(RAIN), SET, today(60))
    assert (made.lower >= 0).all() and (made.upper <= 1).all()
    assert (made.mean[60, 1] > made.mean[60, 0]) and "wetness_lower" in daily_columns(made)
    with pytest.raises(UsageError, match="not an index"):
        estimate_daily(
            values_of(rows, "wetness"),
            weather_of(RAIN),
            SET,
            replace(today(60), soil=Stated(0.1, 0.3)),
        )


def test_today_before_every_value():
    with pytest.raises(UsageError, match="every value is after today"):
        estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(-1))


def test_an_archive_ends_with_its_data():
    made = estimate_daily(values_of(ROWS), weather_of(RAIN), SET, Settings(errors=ERRORS))
    assert made.forcing.period.today == FIRST + 99


def test_a_mistyped_year_in_the_rain_moves_no_day():
    rain = np.full(40000, np.nan)
    rain[: len(RAIN)] = RAIN
    rain[-1] = 3.0
    made = estimate_daily(values_of(ROWS), weather_of(rain), SET, Settings(errors=ERRORS))
    assert made.forcing.period.today == FIRST + 99 and len(made.mean) == 100


def test_first_columns():
    columns = list(daily_columns(estimate_daily(values_of(ROWS), weather_of(RAIN), SET, today(60))))
    assert columns[:5] == ["site", "date", "sm", "sm_lower", "sm_upper"]
    assert columns[-1] == "flags"
