"""Rain beside a table: what the features are, and that missing weather is missing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.table import table_from_columns
from kgsm_infer.tables.weather import (
    BUCKET_MM,
    DECAYS,
    FITTED,
    antecedent_mm,
    bucket_mm,
    decay_of,
    dry_days,
    fitted_api,
    read_weather,
    with_weather,
)

DAYS = 120
FIRST = np.datetime64("2022-01-01")
NAMES = ("rain_day_mm", "rain_api_k80_mm", "rain_dry_days", "rain_bucket_mm")


def weather_file(path, place="site", names=("a", "b"), rain=None, **columns):
    days = np.datetime_as_string(FIRST + np.arange(DAYS))
    rng = np.random.default_rng(0)
    amounts = rng.choice([0.0, 0.0, 0.0, 8.0, 20.0], DAYS * len(names)) if rain is None else rain
    table = {
        **({place: np.repeat(names, DAYS)} if place else {}),
        "date": np.tile(days, len(names)),
        "rain_mm": amounts,
        "et0_mm": np.full(DAYS * len(names), 4.0),
        **columns,
    }
    write_csv(path, table)
    return table


def observations(*dates, site="a", **columns):
    return table_from_columns(
        {"site": [site] * len(dates), "date": list(dates), "ndvi": [0.3] * len(dates), **columns}
    )


def test_the_features_are_what_their_definitions_say(tmp_path):
    rain = weather_file(tmp_path / "w.csv")["rain_mm"][:DAYS]
    table = with_weather(observations("2022-04-20"), read_weather(tmp_path / "w.csv"), NAMES)
    day = 109  # 2022-04-20
    assert table.numbers["rain_day_mm"].tolist() == [rain[day]]
    api = sum(rain[day - lag] * 0.8**lag for lag in range(day + 1))
    np.testing.assert_allclose(table.numbers["rain_api_k80_mm"], [api], rtol=1e-12)
    wet = np.flatnonzero(rain[: day + 1] >= 1)[-1]
    assert table.numbers["rain_dry_days"].tolist() == [day - wet]
    water = BUCKET_MM / 2
    for amount in rain[: day + 1]:
        water = min(BUCKET_MM, water * np.exp(-4 / BUCKET_MM) + amount)
    np.testing.assert_allclose(table.numbers["rain_bucket_mm"], [water], atol=0.3)
    assert table.notes == ()


def test_missing_weather_is_missing_and_never_zero(tmp_path):
    table = weather_file(tmp_path / "w.csv")
    rain = table["rain_mm"].copy()
    rain[100] = np.nan
    weather_file(tmp_path / "w.csv", rain=rain)
    weather = read_weather(tmp_path / "w.csv")
    for when in ("2021-12-01", "2022-01-02", "2022-04-12", "2022-06-01"):  # before, gap, after
        made = with_weather(observations(when), weather, NAMES)
        assert np.isnan(made.numbers["rain_api_k80_mm"]).all()
        assert "1 of 1 rows are without some of it" in made.notes[0]
    nowhere = observations("2022-04-20", site="c")
    with pytest.raises(DataError, match="has no place of table; it has a, b, the table c"):
        with_weather(nowhere, weather, NAMES)
    assert np.isnan(dry_days(np.zeros(10))).all()  # how long before, nobody knows
    assert dry_days(np.zeros(100))[-1] == 60


def test_the_local_day_counts_where_a_clock_is_stated(tmp_path):
    rain = np.arange(DAYS) * 53.0 % DAYS  # each amount once, rising and falling
    weather_file(tmp_path / "w.csv", place="", names=("",), rain=rain)
    for offset, expected in ((0.0, rain[109]), (10.0, rain[110])):
        weather = read_weather(tmp_path / "w.csv", offset)
        table = with_weather(observations("2022-04-20T19:30Z"), weather, ["rain_day_mm"])
        assert table.numbers["rain_day_mm"].tolist() == [expected]
        table = with_weather(observations("2022-04-20"), weather, ["rain_day_mm"])
        assert table.numbers["rain_day_mm"].tolist() == [rain[109]]  # a day is the day as written


def test_places_by_site_by_cell_or_one_for_all(tmp_path):
    weather_file(tmp_path / "w.csv", place="cell", rain=np.repeat([1.0, 2.0], DAYS))
    weather = read_weather(tmp_path / "w.csv")
    table = observations("2022-04-20", cell=["b"])
    assert with_weather(table, weather, ["rain_day_mm"]).numbers["rain_day_mm"].tolist() == [2]
    with pytest.raises(DataError, match=r"no column 'cell', which .* goes by"):
        with_weather(observations("2022-04-20"), weather, ["rain_day_mm"])
    own = table_from_columns(
        {"site": ["a"], "date": ["2022-04-20"], "rain_day_mm": [7.0]}, features=["rain_day_mm"]
    )
    assert with_weather(own, weather, ["rain_day_mm"]).numbers["rain_day_mm"].tolist() == [7]


@pytest.mark.parametrize(
    ("columns", "says"),
    [
        ({"date": ["2022-01-01"], "rain": [1.0]}, "no column 'rain_mm'"),
        ({"date": ["2022-01-01"], "rain_mm": [-9999.0]}, "nodata value"),
        ({"date": ["2022-01-01T05:00"], "rain_mm": [1.0]}, "is not a day; give the total"),
        ({"date": ["2022-01-01"] * 2, "rain_mm": [1.0, 2.0]}, "rows 2 and 3: one day twice"),
        ({"date": ["1900-01-01"], "rain_mm": [3000.0]}, "is not a day's rain in mm"),
        ({"date": ["yesterday"], "rain_mm": [1.0]}, "is not an ISO 8601 date"),
    ],
)
def test_a_file_that_is_no_daily_weather_is_refused(tmp_path, columns, says):
    write_csv(tmp_path / "w.csv", columns)
    with pytest.raises(DataError, match=says):
        read_weather(tmp_path / "w.csv")


def test_a_bucket_needs_evapotranspiration(tmp_path):
    write_csv(tmp_path / "w.csv", {"date": ["2022-01-01"], "rain_mm": [1.0]})
    with pytest.raises(DataError, match="no column 'et0_mm', which rain_bucket_mm is made of"):
        with_weather(
            observations("2022-01-01"), read_weather(tmp_path / "w.csv"), ["rain_bucket_mm"]
        )
    with pytest.raises(UsageError, match="UTC offset 600 h must be within ±14 h"):
        read_weather(tmp_path / "w.csv", 600)


@pytest.mark.parametrize("decay", [0.75, 0.9])
def test_the_fit_finds_the_decay_the_labels_were_made_with(tmp_path, decay):
    rain = weather_file(tmp_path / "w.csv")["rain_mm"]
    days = np.arange(60, DAYS)
    dates = np.datetime_as_string(FIRST + days).tolist()
    table = table_from_columns({"site": ["a"] * 60 + ["b"] * 60, "date": dates * 2})
    api = np.concatenate([antecedent_mm(rain[:DAYS], decay), antecedent_mm(rain[DAYS:], decay)])
    level = np.repeat([0.1, 0.3], 60)
    sm = level + 0.01 * np.sqrt(np.concatenate([api[days], api[DAYS + days]]))
    weather = read_weather(tmp_path / "w.csv")
    rows = np.arange(120)
    with_all = with_weather(table, weather, [FITTED])
    assert decay_of(fitted_api(with_all, sm, rows)) == pytest.approx(decay, abs=0.011)
    assert int(100 * decay) in DECAYS
    with pytest.raises(UsageError, match="too few labels with weather"):
        fitted_api(with_all, np.full(120, np.nan), rows)


@given(st.lists(st.floats(0, 200) | st.just(np.nan), min_size=1, max_size=80))
def test_an_index_never_makes_up_rain(rain):
    rain_mm, et0_mm = np.asarray(rain), np.full(len(rain), 3.0)
    index, water = antecedent_mm(rain_mm, 0.8), bucket_mm(rain_mm, et0_mm)
    known = np.isfinite(index)
    assert (index[known] >= 0).all() and (index[known] <= 200 / (1 - 0.8) + 1e-9).all()
    assert not known[: min(17, len(rain))].any()  # 0.8**17 is above 2 %
    assert (np.isnan(water) | ((water >= 0) & (water <= BUCKET_MM))).all()
    spell = dry_days(rain_mm)
    assert np.isnan(spell[np.isnan(rain_mm)]).all()
    assert (spell[rain_mm >= 1] == 0).all()


def test_weather_without_effect_is_noted(tmp_path):
    weather_file(tmp_path / "w.csv")
    weather = read_weather(tmp_path / "w.csv")
    unread = with_weather(observations("2022-04-20"), weather, ["ndvi", "vh_anomaly"])
    assert unread.notes == (f"{tmp_path}/w.csv: not used; the model reads no rain feature",)
    own = with_weather(
        observations("2022-04-20", rain_day_mm=[7.0]), weather, ["rain_day_mm", "ndvi"]
    )
    assert own.notes == ()  # not read as a number: no feature of this table
    given = table_from_columns(
        {"site": ["a"], "date": ["2022-04-20"], "rain_day_mm": [7.0]}, features=["rain_day_mm"]
    )
    noted = with_weather(given, weather, ["rain_day_mm"])
    assert noted.notes == (f"{tmp_path}/w.csv: not used; the input itself has rain_day_mm",)
    assert noted.numbers["rain_day_mm"].tolist() == [7.0]


@pytest.mark.parametrize("command", ["predict", "map", "paddocks table", "paddocks scene"])
def test_every_command_notes_weather_that_a_model_does_not_read(tmp_path, command):
    pytest.importorskip("rasterio", reason="maps need kgsm[raster]")
    from made_outlines import every_kind, write_geojson
    from made_scenes import make_pixels, write_scene
    from typer.testing import CliRunner

    from kgsm_infer.app.cli import app

    weather_file(tmp_path / "w.csv", place="", names=("",))
    pixels = make_pixels(6, 8)
    columns = pixels.columns()
    write_csv(tmp_path / "t.csv", {**columns, "field": ["whole"] * len(columns["site"])})
    table, scene = str(tmp_path / "t.csv"), str(write_scene(tmp_path / "scene", pixels))
    fields = str(write_geojson(tmp_path / "f.geojson", every_kind()))
    inputs = {
        "predict": ["predict", "wetness", table],
        "map": ["map", "wetness", scene],
        "paddocks table": ["paddocks", "wetness", table, fields],
        "paddocks scene": ["paddocks", "wetness", scene, fields],
    }[command]
    output = str(tmp_path / ("o.tif" if command == "map" else "o.csv"))
    call = [*inputs, "-o", output, "--weather", str(tmp_path / "w.csv")]
    done = CliRunner().invoke(app, call)
    assert done.exit_code == 0, done.output
    assert "w.csv: not used; the model reads no rain feature" in done.output


def test_a_cell_of_a_column_not_read_never_refuses_the_file(tmp_path):
    weather_file(tmp_path / "w.csv", temp_c=["290"] * (2 * DAYS), station=["-9999"] * (2 * DAYS))
    assert set(read_weather(tmp_path / "w.csv").places) == {"a", "b"}
    weather_file(tmp_path / "w.csv", et0_mm=["-9999"] * (2 * DAYS))
    with pytest.raises(DataError, match="row 2, column et0_mm: -9999"):
        read_weather(tmp_path / "w.csv")


def test_simulated_weather_makes_the_table_simulated(tmp_path):
    from kgsm_infer.app.output import write_columns

    weather_file(tmp_path / "w.csv", source=["simulated"] * (2 * DAYS))
    weather = read_weather(tmp_path / "w.csv")
    made = with_weather(observations("2022-04-20"), weather, ["rain_day_mm"])
    assert made.simulated and not observations("2022-04-20").simulated
    assert made.select(np.asarray([0])).simulated
    assert f"{tmp_path}/w.csv: holds simulated weather" in made.notes
    unread = with_weather(observations("2022-04-20"), weather, ["ndvi"])
    assert not unread.simulated
    write_columns(tmp_path / "o.csv", made, {"sm": np.asarray([0.2])}, np.zeros(1, np.uint16))
    assert (tmp_path / "o.csv").read_text().splitlines()[1].endswith("simulated")


def test_a_running_total_is_refused_and_its_reset_too(tmp_path):
    """Rain of a counter rises and never falls, but for a reset once a year."""
    path, rng = tmp_path / "w.csv", np.random.default_rng(3)
    daily = np.where(rng.random(120) < 0.3, rng.exponential(8.0, 120), 0.0).round(1)
    for reset in (120, 60):
        counter = np.concatenate([daily[:reset].cumsum(), daily[reset:].cumsum()])
        write_weather(path, counter.round(1))
        with pytest.raises(DataError, match=r"w\.csv: .*falls on [01]; a running total\?"):
            read_weather(path)
    write_weather(path, daily)
    assert read_weather(path).places[""].rain_mm.tolist() == daily.tolist()


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("999", "999 is a nodata value"),
        ("999.9", "999.9 is a nodata value"),
        ("T", "T is not a number; write 0 for a trace"),
        ("0.0T", "0.0T is not a number; write 0 for a trace"),
        ("<0.1", "<0.1 is not a number; write 0 for a trace"),
        ("0.2 mm", "0.2 mm is not a number; write it without its unit"),
    ],
)
def test_what_observers_write_for_rain_is_no_amount(tmp_path, cell, what):
    (tmp_path / "w.csv").write_text(f"date,rain_mm\n2022-01-01,0.2\n2022-01-02,{cell}\n")
    with pytest.raises(DataError, match=f"row 3, column rain_mm: {what}"):
        read_weather(tmp_path / "w.csv")


def write_weather(path, rain):
    days = np.datetime64("2022-01-01") + np.arange(len(rain))
    lines = [f"{day},{mm}" for day, mm in zip(days, rain, strict=True)]
    path.write_text("date,rain_mm\n" + "\n".join(lines) + "\n")
