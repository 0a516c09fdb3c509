"""Weather services against stand-ins on the loopback that answer in the services' formats."""

import csv
import json

import numpy as np
import pytest
from made_weather import days_of, rain_of, serving

from kgsm_infer.base.errors import DataError, MissingError, UsageError
from kgsm_infer.prepare.weather_services import (
    SERVICES,
    Place,
    WeatherRequest,
    places_of,
    prepare_weather,
    service_named,
)
from kgsm_infer.scenes.outlines import read_outlines
from kgsm_infer.tables.weather import read_weather

TODAY = np.datetime64("2024-06-30")
HERE, NEAR, FAR = Place(146.31, -34.81), Place(146.32, -34.82), Place(147.41, -35.22)


def wanted(places, start="2024-06-01", end="2024-06-20", **more):
    days = np.datetime64(start), np.datetime64(end)
    return WeatherRequest(places, *days, **{"email": "a@b.example", "today": TODAY, **more})


@pytest.mark.parametrize("name", SERVICES)
def test_a_weather_file_of_each_service(name, tmp_path):
    with serving(name) as (service, _):
        done = prepare_weather(
            tmp_path / "w.csv", service, wanted({"a": HERE, "b": FAR}), tmp_path / "cache"
        )
    assert (done.rows, done.cells) == (40, 2)
    weather = read_weather(tmp_path / "w.csv")
    assert weather.by == "site" and set(weather.places) == {"a", "b"}
    days = days_of("2024-06-01", "2024-06-20")
    assert weather.places["b"].rain_mm.tolist() == [rain_of(day) for day in days]
    et0 = weather.places["a"].et0_mm
    assert np.isnan(et0).all() if name == "power" else (et0 == 4.5).all()
    with open(tmp_path / "w.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert service.terms in row["source"] and any(service.terms in note for note in done.notes)
    assert float(row["temp_c"]) == {"open-meteo": 15, "power": 12.5, "silo": 15}[name]


def test_places_of_one_cell_share_a_request_and_a_series(tmp_path):
    with serving("open-meteo") as (service, asked):
        done = prepare_weather(
            tmp_path / "w.csv", service, wanted({"a": HERE, "b": NEAR}), tmp_path / "cache"
        )
    assert done.cells == 1 and len(asked) == 1
    assert read_weather(tmp_path / "w.csv").by == ""


def test_forecast_follows_the_archive_and_missing_rain_stays_missing(tmp_path):
    with serving("open-meteo") as (service, asked):
        done = prepare_weather(
            tmp_path / "w.csv", service, wanted({"a": HERE}, "2023-12-30", "2024-07-05"), tmp_path
        )
    assert [(path, query["start_date"], query["end_date"]) for path, query in asked] == [
        ("/archive", "2023-12-30", "2023-12-31"),
        ("/archive", "2024-01-01", "2024-06-23"),
        ("/forecast", "2024-06-24", "2024-07-05"),
    ]
    series = read_weather(tmp_path / "w.csv").places[""]
    assert len(series.rain_mm) == 189 and np.isnan(series.rain_mm).sum() == 1
    assert any("1 of 189 days" in note for note in done.notes)
    assert any("--utc-offset-hours 10" in note for note in done.notes)


def test_fill_values_are_missing(tmp_path):
    with serving("power") as (service, _):
        prepare_weather(
            tmp_path / "w.csv", service, wanted({"a": HERE}, "2024-06-25", "2024-06-30"), tmp_path
        )
    rain = read_weather(tmp_path / "w.csv").places[""].rain_mm
    assert np.isfinite(rain).tolist() == [True] * 3 + [False] * 3


def test_gauge_days_end_at_nine(tmp_path):
    with serving("silo") as (service, _):
        done = prepare_weather(tmp_path / "w.csv", service, wanted({"a": HERE}), tmp_path)
    assert any("--rain-day-ends 9" in note for note in done.notes)


def test_settled_years_come_from_the_cache(tmp_path):
    years = wanted({"a": HERE}, "2021-01-01", "2024-06-20")
    with serving("silo") as (service, _):
        first = prepare_weather(tmp_path / "1.csv", service, years, tmp_path / "cache")
        again = prepare_weather(tmp_path / "2.csv", service, years, tmp_path / "cache")
        damaged = next((tmp_path / "cache").iterdir())
        damaged.write_text("{")
        third = prepare_weather(tmp_path / "3.csv", service, years, tmp_path / "cache")
    assert (first.requests, again.requests, again.cached) == (4, 1, 3)
    assert (third.requests, third.cached) == (2, 2)
    made = [(tmp_path / f"{number}.csv").read_bytes() for number in (1, 2, 3)]
    assert made[0] == made[1] == made[2]
    assert "a@b" not in "".join(path.read_text() for path in (tmp_path / "cache").iterdir())


def test_busy_servers_are_asked_again(tmp_path):
    with serving("power", statuses=(503, 429)) as (service, asked):
        prepare_weather(tmp_path / "w.csv", service, wanted({"a": HERE}), tmp_path)
    assert len(asked) == 3


def test_reason_of_a_refusal_is_shown(tmp_path):
    with (
        serving("open-meteo", statuses=(400,)) as (service, _),
        pytest.raises(MissingError, match="400 not today"),
    ):
        prepare_weather(tmp_path / "w.csv", service, wanted({"a": HERE}), tmp_path)
    assert not (tmp_path / "w.csv").exists()


def test_a_place_that_cannot_be_fetched_is_left_out_and_gets_no_other_rain(tmp_path):
    with serving("open-meteo", statuses=(404,)) as (service, _):
        done = prepare_weather(
            tmp_path / "w.csv", service, wanted({"a": HERE, "b": FAR}), tmp_path / "cache"
        )
    assert any("left out a: " in note and "404" in note for note in done.notes)
    weather = read_weather(tmp_path / "w.csv")
    assert weather.by == "site" and set(weather.places) == {"b"}


def test_unreachable_service(tmp_path):
    with serving("power") as (service, _):
        pass
    with pytest.raises(MissingError, match="offline"):
        prepare_weather(tmp_path / "w.csv", service, wanted({"a": HERE}), tmp_path)


def without(*keys):
    def change(answer):
        inner = answer
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return answer

    return change


def inches(answer):
    answer["daily_units"]["precipitation_sum"] = "inch"
    return answer


def shorter(answer):
    answer["daily"]["precipitation_sum"].pop()
    return answer


def negative(answer):
    answer["daily"]["precipitation_sum"][2] = -9.9
    return answer


def words(answer):
    answer["daily"]["precipitation_sum"][2] = "trace"
    return answer


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("open-meteo", without("daily", "precipitation_sum"), "not in the format of Open-Meteo"),
        ("open-meteo", inches, "not in the format"),
        ("open-meteo", shorter, "not in the format"),
        ("open-meteo", negative, "rain_mm of day 3 is -9.9"),
        ("open-meteo", words, "rain_mm of day 3 is 'trace'"),
        ("open-meteo", lambda _: b"<html>log in</html>", "not JSON"),
        ("power", without("header"), "not in the format of NASA POWER"),
        ("silo", lambda _: {"data": []}, "not in the format of SILO"),
        ("silo", lambda _: [1], "not in the format of SILO"),
    ],
)
def test_answers_in_another_format_are_refused(name, change, message, tmp_path):
    with serving(name, change) as (service, _), pytest.raises(DataError, match=message):
        prepare_weather(tmp_path / "w.csv", service, wanted({"a": HERE}), tmp_path)
    assert not (tmp_path / "w.csv").exists()


@pytest.mark.parametrize(
    ("name", "ask", "message"),
    [
        ("silo", wanted({"a": Place(2.0, 48.0)}), "lies outside SILO"),
        ("silo", wanted({"a": HERE}, email=""), "--email"),
        ("power", wanted({"a": HERE}, end="2024-07-01"), "up to 2024-06-30"),
        ("open-meteo", wanted({"a": HERE}, end="2024-08-01"), "up to 2024-07-15"),
        ("power", wanted({"a": HERE}, end="2024-05-01"), "lies after"),
        ("power", wanted({}), "no paddock"),
    ],
)
def test_what_no_service_can_answer(name, ask, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        prepare_weather(tmp_path / "w.csv", SERVICES[name], ask, tmp_path)


def test_unknown_service():
    with pytest.raises(UsageError, match="open-meteo, power, silo"):
        service_named("bom")


def test_middle_of_outlines_in_metres(tmp_path):
    ring = [[500000, 6000000], [500200, 6000000], [500200, 6000100], [500000, 6000000]]
    features = [
        {
            "type": "Feature",
            "id": "a",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        }
    ]
    crs = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32755"}}
    path = tmp_path / "f.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": crs, "features": features}))
    place = places_of(read_outlines(path))["a"]
    assert place.lon == pytest.approx(147.0011, abs=2e-4)  # 100 m east of the meridian of zone 55
    assert place.lat == pytest.approx(-36.1469, abs=5e-3)
