"""Rain in, daily values out: files, posts, revisions, gaps, clocks and restores."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import jsonschema
import numpy as np
import pytest
from made_daily import FIRST, days_of, everything, farm, rain_columns, stored_values
from made_gateways import DAY, Events, columns_of, drop, made_gateway, scanned
from made_weather import serving
from running import wait_for
from starlette.testclient import TestClient

from kgsm_infer.base.errors import DataError, MissingError, UsageError
from kgsm_infer.daily.daily import Settings, estimate_daily
from kgsm_infer.daily.parameters import read_parameters
from kgsm_infer.daily.values import PassDeviations, errors_of_model
from kgsm_infer.gateway.config import read_gateway
from kgsm_infer.gateway.farm import Paddocks, load_paddocks
from kgsm_infer.gateway.health import ThreadHealth
from kgsm_infer.gateway.http.api import Api
from kgsm_infer.gateway.http.page import render_page
from kgsm_infer.gateway.http.queries import Queries
from kgsm_infer.gateway.intake.settling import FolderEvents
from kgsm_infer.gateway.records import day_of
from kgsm_infer.gateway.service import weather
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store import daily_rows
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.update import daily
from kgsm_infer.model.index import wetness_model
from kgsm_infer.model.onnx_reader import SHIPPED
from kgsm_infer.prepare.weather_services import SERVICES
from kgsm_infer.tables.weather import read_weather

WATER = "wilting_point = 0.1\nfield_capacity = 0.35\nroot_depth_mm = 500\nrefill_percent = 50\n"


def test_a_rain_file_becomes_daily_values(tmp_path, today):
    gateway = farm(tmp_path, f"[daily]\n{WATER}")
    for day in (0, 6, 12):
        drop(gateway, columns_of(day), f"{day}.csv")
    scanned(gateway)
    rain = [float(i % 5 == 0) * 8 for i in range(74)]
    drop(gateway, rain_columns(-60, rain), "rain.csv")
    log = scanned(gateway)
    assert log.named("rain_stored")[0]["days"] == 74
    found = days_of(gateway)
    assert [one.day - FIRST for one in found] == list(range(14))
    assert found[-1].pass_age == 1.0
    assert [one.pass_value is not None for one in found] == [d in (0, 6, 12) for d in range(14)]
    # the library on the same numbers
    archived = next(path for path in gateway.archive.glob("*.csv") if b"rain" in path.read_bytes())
    made = estimate_daily(
        stored_values(gateway),
        read_weather(archived),
        read_parameters("oznet"),
        Settings(today="2024-01-14"),
    )
    expected = made.mean[FIRST - made.forcing.period.first :, 0]
    assert [one.value for one in found] == pytest.approx(expected, abs=1e-5)
    share = 100 * (found[-1].value - 0.1) / 0.25
    assert found[-1].available_percent == pytest.approx(np.clip(share, 0, 100), abs=0.05)
    assert found[-1].refill_mm == pytest.approx(max(0, (0.35 - found[-1].value) * 500), abs=0.06)
    assert found[-1].threshold == pytest.approx(0.225)


def test_daily_values_of_an_index_have_the_errors_on_its_card(tmp_path, today):
    gateway = made_gateway(tmp_path, "[daily]\n", paddocks=1, model=SHIPPED["wetness"])
    for day in (0, 6, 12):
        date = str(np.datetime64("2024-01-01") + day)
        drop(gateway, {"site": ["p0"], "date": [date], "vh_db": [-17.0 + day / 4]}, f"{day}.csv")
    scanned(gateway)
    drop(gateway, rain_columns(-60, [float(i % 5 == 0) * 8 for i in range(74)]), "rain.csv")
    scanned(gateway)
    archived = next(path for path in gateway.archive.glob("*.csv") if b"rain" in path.read_bytes())
    parameters, values = read_parameters("oznet"), stored_values(gateway)
    errors = errors_of_model(
        wetness_model().card, replace(values, quantity="wetness"), parameters, PassDeviations()
    )
    made = estimate_daily(
        replace(values, quantity="wetness"),
        read_weather(archived),
        parameters,
        Settings(today="2024-01-14", errors=errors),
    )
    found = [one.value for one in days_of(gateway)]
    np.testing.assert_allclose(found, made.mean[-len(found) :, 0], atol=1e-5)


def test_a_lost_database_is_the_same_again(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(0), "0.csv")
    today(1)
    scanned(gateway)
    drop(gateway, rain_columns(-20, [3.0] * 22), "a.csv")
    scanned(gateway)
    for day, name in ((6, "6.csv"), (12, "12.csv")):
        today(day + 1)
        drop(gateway, columns_of(day), name)
        scanned(gateway)
    drop(gateway, rain_columns(2, [0.0, None, 9.0, 1.0] + [0.5] * 10), "b.csv")  # a revision
    drop(gateway, rain_columns(4, [2.0] * 3, "p1"), "c.csv")  # of one paddock
    scanned(gateway)
    today(14)
    scanned(gateway)
    before = everything(gateway)
    assert max(row[2] for row in before["daily"]) > 1
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    for path in gateway.backups.glob("*"):
        path.unlink()
    scanned(gateway)
    assert everything(gateway) == before


def test_the_later_file_counts_and_missing_is_never_zero(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(-100, [0.0] * 114), "dry.csv")
    scanned(gateway)
    dry = days_of(gateway)
    drop(gateway, rain_columns(8, [20.0]), "late.csv")
    scanned(gateway)
    wet = days_of(gateway)
    assert [one.revision for one in wet] == [1] * 8 + [2] * 6  # from the revised day on
    assert wet[8].value > dry[8].value
    drop(gateway, rain_columns(8, [None]), "withdrawn.csv")
    scanned(gateway)
    unknown = days_of(gateway)
    assert unknown[8].rain_mm is None
    assert "rain_missing" in unknown[8].flags
    assert "rain_missing" not in dry[8].flags
    assert unknown[8].upper - unknown[8].lower > dry[8].upper - dry[8].lower
    assert dry[8].value < unknown[8].value < wet[8].value
    events = scanned(gateway)
    assert not events.named("days_updated")
    drop(gateway, rain_columns(8, [None]), "withdrawn.csv")
    assert scanned(gateway).named("seen_before")


def test_of_two_files_that_wait_the_later_written_counts(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(3, [5.0] * 5), "a first.csv")
    correction = drop(gateway, rain_columns(-2, [1.0] * 8), "0 second.csv")  # earlier days too
    os.utime(correction, ns=(2 * 10**18, 2 * 10**18))
    scanned(gateway)
    rain = {one.day - FIRST: one.rain_mm for one in days_of(gateway)}
    assert [rain[day] for day in (2, 3, 5, 6, 7)] == [1.0, 1.0, 1.0, 5.0, 5.0]


def test_columns_of_rain_may_have_other_names(tmp_path, today):
    names = {"site": "Schlag", "date": "Datum", "rain_mm": "Niederschlag_mm"}
    text = "".join(f'{name} = "{theirs}"\n' for name, theirs in names.items())
    gateway = farm(tmp_path, f"[columns]\n{text}")
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(2, [5.0], "p2"), "own.csv")  # by the contract
    renamed = {names[name]: cells for name, cells in rain_columns(3, [7.0, 8.0], "p1").items()}
    drop(gateway, renamed, "b.csv")
    log = scanned(gateway)
    assert [item["file"] for item in log.named("rain_stored")] == ["own.csv", "b.csv"]
    assert not log.named("quarantined")
    with Store(gateway.database) as store:
        stored = [one for block in daily_rows.rain_since(store, 0) for one in block]
    rain = {(one.place, one.day - FIRST): one.rain_mm for one in stored}
    assert rain == {("p1", 3): 7.0, ("p1", 4): 8.0, ("p2", 2): 5.0}  # none of the whole farm


def test_simulated_rain_makes_simulated_values(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(0), "0.csv")
    rain = rain_columns(-5, [3.0] * 19)
    drop(gateway, {**rain, "source": ["a gauge"] * 18 + ["simulated"]}, "a.csv")
    scanned(gateway)
    values = days_of(gateway)
    assert values
    assert all(one.simulated for one in values)
    page = render_page(Queries(gateway, load_paddocks(gateway)), "en").decode()
    assert '<p class="sim">' in page
    for path in gateway.state.glob("gateway.db*"):  # built again from the archive
        path.unlink()
    scanned(gateway)
    assert days_of(gateway) == values
    drop(gateway, {**rain, "source": ["a gauge"] * 19}, "b.csv")  # the same rain, measured
    scanned(gateway)
    assert not any(one.simulated for one in days_of(gateway))


def test_hostile_rain_files_cost_themselves_alone(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(12), "12.csv")
    for name, content in (
        ("a.csv", b"date,rain_mm\n" + b"\xff\xfe,1\n"),
        ("b.parquet", b"PAR1rain_mmPAR1"),
        ("c.csv", b"rain_mm\n1\n"),
        ("d.csv", b"date,rain_mm\n"),
        ("e.csv", b"date,rain_mm,rain_mm\n2024-01-01,1,2\n"),
        ("f.csv", b"date,rain_mm\n9999-12-31,1\n"),
        ("g.csv", b"date,rain_mm\n2024-01-01,inf\n"),
        ("h.csv", b"date,rain_mm\n0001-01-01,1\n2024-01-01,1\n"),
    ):
        (gateway.spool / name).write_bytes(content)
    log = scanned(gateway)
    gone = {event["file"] for event in log.named("quarantined")}
    assert gone >= {"a.csv", "b.parquet", "c.csv", "d.csv", "e.csv", "f.csv", "g.csv", "h.csv"}
    assert days_of(gateway)[-1].day - FIRST == 13
    assert not log.named("fault")


def test_without_rain_a_gap_widens_the_interval(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(0), "0.csv")
    today(30)
    scanned(gateway)
    found = days_of(gateway)
    width = np.asarray([one.upper - one.lower for one in found])
    assert len(found) == 31
    assert width[30] > width[3] > width[0]
    assert all(one.rain_mm is None and "rain_missing" in one.flags for one in found)
    # no rain and no [daily]: no daily values
    other = farm(tmp_path / "other", "")
    drop(other, columns_of(0), "0.csv")
    scanned(other)
    assert days_of(other) == []


def test_forecasts_are_an_outlook_and_never_become_measurements(tmp_path, today):
    gateway = farm(tmp_path)
    drop(gateway, columns_of(12), "12.csv")
    today(13)
    drop(gateway, rain_columns(-60, [1.0] * 74 + [30.0] * 10), "rain.csv")
    scanned(gateway)
    with Store(gateway.database, read_only=True) as store:
        outlook = daily_rows.outlook_of(store, ["p0"])
    assert [one.day - FIRST for one in outlook] == list(range(14, 21))
    assert all("forecast" in one.flags for one in outlook)
    width = [one.upper - one.lower for one in outlook]
    assert width == sorted(width)
    today(15)
    scanned(gateway)
    found = {one.day - FIRST: one for one in days_of(gateway)}
    assert found[13].rain_mm == 1.0
    assert found[14].rain_mm is None and found[15].rain_mm is None  # were forecast only
    drop(gateway, rain_columns(14, [4.0]), "measured.csv")
    scanned(gateway)
    found = {one.day - FIRST: one for one in days_of(gateway)}
    assert found[14].rain_mm == 4.0
    assert found[15].rain_mm is None


@pytest.mark.parametrize("jump", [-20_000, 3000, 20])
def test_a_clock_that_jumps_changes_no_day(tmp_path, today, jump):
    gateway, straight = farm(tmp_path / "a"), farm(tmp_path / "b")
    for one in (gateway, straight):
        today(13)
        for day in (0, 6, 12):
            drop(one, columns_of(day), f"{day}.csv")
        drop(one, rain_columns(-60, [2.0] * 74), "rain.csv")
        scanned(one)
    today(13 + jump)
    scanned(gateway)
    found = days_of(gateway)
    if abs(jump) > 60:  # the values end with the data
        assert found[-1].day - FIRST == 13
    else:  # as if the days had passed: without rain, so the interval grows
        assert found[-1].day - FIRST == 33
        assert found[-1].upper - found[-1].lower > found[13].upper - found[13].lower
    for one in (gateway, straight):
        today(14)
        scanned(one)
    assert days_of(gateway)[-1].day - FIRST == 14  # later days are not shown
    for one in (gateway, straight):
        today(15)
        drop(one, rain_columns(14, [5.0, 1.0]), "more.csv")
        scanned(one)
    newest = [[replace(v, revision=0) for v in days_of(one)] for one in (gateway, straight)]
    assert newest[0] == newest[1]


def test_several_days_at_once_are_as_day_by_day(tmp_path, today):
    found = []
    for name, steps in (("a", [375]), ("b", range(364, 376))):  # 2024 has 366 days
        gateway = farm(tmp_path / name)
        today(363)
        for day in (0, 350, 356, 362):
            drop(gateway, columns_of(day), f"{day}.csv")
        drop(gateway, rain_columns(-60, [2.0] * 424), "rain.csv")
        scanned(gateway)
        for step in steps:
            today(step)
            scanned(gateway)
        found.append(everything(gateway)["daily"])
    assert found[0] == found[1]


def test_one_event_when_a_threshold_is_crossed(tmp_path, today):
    gateway = farm(tmp_path, "[daily.paddocks.p0]\nthreshold = 0.2\n")
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(-60, [30.0] * 74), "wet.csv")
    crossings = []
    for day in range(14, 40):
        log = scanned(gateway)
        crossings += [one["crossings"] for one in log.named("days_updated")]
        today(day)
        drop(gateway, rain_columns(day, [0.0]), f"{day}.csv")
    below = [one.value < 0.2 for one in days_of(gateway)]
    assert not below[13] and below[-1]
    assert sum(crossings) == 1
    with Store(gateway.database, read_only=True) as store:
        (alert,) = daily_rows.alerts(store)
        assert daily_rows.days_left(store)["p0"] == 0
        assert daily_rows.days_left(store)["p1"] is None
    assert alert.paddock == "p0" and alert.unsent and alert.threshold == 0.2
    assert alert.day - FIRST == below.index(True)


def test_rain_is_posted_and_read_back(tmp_path, today):
    gateway = farm(tmp_path, paddocks=4)
    drop(gateway, columns_of(12), "12.csv")
    scanned(gateway)
    with TestClient(Api(gateway, load_paddocks(gateway), Events()).application()) as client:
        check_posts(gateway, client)


def check_posts(gateway, client):
    rain = [{"date": "2024-01-13", "rain_mm": 4.0}, {"date": "2024-01-14", "rain_mm": None},
            {"date": "2024-01-13", "rain_mm": 9.0, "paddock": "p2"}]  # fmt: skip
    assert client.post("/v1/rain", json={"rain": rain}).json() == {"days": 3}
    table = "date,rain_mm\n2024-01-12,1.5\n"
    sent = client.post("/v1/rain", content=table, headers={"content-type": "text/csv"})
    assert (sent.status_code, sent.json()) == (202, {"days": 1})
    scanned(gateway)
    answer = client.get("/v1/daily").json()["values"]
    document = client.get("/openapi.json").json()
    for path in ("/v1/daily", "/health"):
        schema = document["paths"][path]["get"]["responses"]["200"]["content"]
        schema = {**schema["application/json"]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(client.get(path).json())
    assert client.get("/health").json()["daily"] == {
        "today": "2024-01-14", "rain_until": "2024-01-13", "rain_age_days": 1,
    }  # fmt: skip
    assert "kgsm_rain_age_days 1.0" in client.get("/metrics").text
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"values": [{**answer[0], "rain_mm": -1}]}, {
            **document["paths"]["/v1/daily"]["get"]["responses"]["200"]["content"]
            ["application/json"]["schema"], "components": document["components"],
        })  # fmt: skip
    assert [one["paddock"] for one in answer] == ["p0", "p1", "p2", "p3"]
    assert {one["date"] for one in answer} == {"2024-01-14"}
    series = client.get("/v1/daily?paddock=p2&since=2024-01-13").json()["values"]
    assert [one["rain_mm"] for one in series] == [9.0, None]
    assert [one["rain_mm"] for one in client.get("/v1/daily?paddock=p0").json()["values"]] == [
        4.0, None,
    ]  # fmt: skip
    lines = client.get("/v1/daily.csv?paddock=p2").text.splitlines()
    assert lines[0].startswith("paddock,date,revision,quantity,unit,sm,sm_lower,sm_upper,")
    assert len(lines) == 3
    for wrong in (
        {"rain": [{"date": "2024-01-13", "rain_mm": -1}]},
        {"rain": [{"date": "13.1.2024", "rain_mm": 1}]},
        {"rain": [{"date": "2024-01-13", "rain_mm": 1, "paddock": "elsewhere"}]},
        {"rain": [{"date": "2024-01-13", "rain_mm": 1}, {"date": "2024-01-13", "rain_mm": 2}]},
        {"rain": []},
    ):
        assert client.post("/v1/rain", json=wrong).status_code == 422
    table = "site,date,vh_db\np0,2024-01-12,-15\n"
    sent = client.post("/v1/rain", content=table, headers={"content-type": "text/csv"})
    assert sent.status_code == 422
    good, far = {"date": "2024-01-12", "rain_mm": 1.0}, {"date": "2062-01-01", "rain_mm": 1.0}
    for rain in ([good, {**far, "paddock": "p0"}], [{**good, "paddock": "p0"}, far]):
        assert client.post("/v1/rain", json={"rain": rain}).status_code == 422
    assert not list(gateway.spool.iterdir())  # of a refused message nothing is taken


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        (rain_columns(0, [-3.0]), "rain_mm"),
        (rain_columns(0, ["wet"]), "rain_mm"),
        ({"date": ["2024-01-01", "2024-01-01"], "rain_mm": [1, 2]}, "twice"),
        ({"date": ["2024-01-01T06:00"], "rain_mm": [1]}, "is not a day"),
        (rain_columns(40, [1.0]), "days ahead"),
        (rain_columns(0, [1.0], "elsewhere"), "none of its sites"),
        ({"cell": ["a"], **rain_columns(0, [1.0])}, "cell"),
    ],
)
def test_a_wrong_rain_file_goes_to_quarantine(tmp_path, today, columns, why):
    gateway = farm(tmp_path, paddocks=4)
    drop(gateway, columns, "rain.csv")
    (event,) = scanned(gateway).named("quarantined")
    assert why in event["reason"]
    with Store(gateway.database, read_only=True) as store:
        assert list(daily_rows.rain_since(store, 0)) == []


def test_limits_come_from_outlines_and_wrong_ones_stop_the_start(tmp_path, today):
    import json

    gateway = farm(tmp_path, "[daily]\n[daily.paddocks.p1]\nfield_capacity = 0.4\n", paddocks=4)
    shapes = json.loads(gateway.outlines.read_text())
    shapes["features"][1]["properties"] |= {"wilting_point": 0.12, "field_capacity": 0.3}
    gateway.outlines.write_text(json.dumps(shapes))
    drop(gateway, columns_of(12), "12.csv")
    scanned(gateway)
    one = days_of(gateway, "p1")[-1]
    share = 100 * (one.value - 0.12) / (0.4 - 0.12)
    assert one.available_percent == pytest.approx(np.clip(share, 0, 100), abs=0.05)
    assert days_of(gateway, "p0")[-1].available_percent is None
    shapes["features"][1]["properties"]["wilting_point"] = 12
    gateway.outlines.write_text(json.dumps(shapes))
    with pytest.raises(DataError, match="wilting_point"):
        scanned(gateway)
    with pytest.raises(UsageError, match="refill_percent"):
        read_gateway(farm(tmp_path / "b", "[daily]\nrefill_percent = 150\n").source)


def test_changed_settings_count_from_today_on(tmp_path, today):
    gateway = farm(tmp_path, "[daily]\nthreshold = 0.2\n")
    drop(gateway, columns_of(12), "12.csv")
    scanned(gateway)
    assert not scanned(gateway).named("days_updated")
    text = gateway.source.read_text()
    gateway.source.write_text(text.replace("0.2", "0.3"))
    scanned(read_gateway(gateway.source))
    assert [one.threshold for one in days_of(gateway)] == [0.2, 0.3]
    assert [one.revision for one in days_of(gateway)] == [1, 2]


def test_old_days_are_dropped_and_rain_stays_for_the_window(tmp_path, today):
    gateway = farm(tmp_path, "[daily]\nkeep_days = 8\n")
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(-800, [1.0] * 814), "rain.csv")
    scanned(gateway)
    assert len(days_of(gateway)) == 8
    today(15)
    watch = Watch(gateway, load_paddocks(gateway), Events())
    watch.open()
    watch.keep_house()
    watch.close()
    assert [one.day - FIRST for one in days_of(gateway)] == list(range(8, 16))
    with Store(gateway.database, read_only=True) as store:
        assert min(daily_rows.rain_of(store, "", 0, 99999)) == FIRST - 365 - 366


def test_rain_is_fetched_into_the_spool(tmp_path, today, monkeypatch):
    text = '[weather]\nservice = "open-meteo"\n[page]\ntimezone = "Australia/Melbourne"\n'
    gateway = farm(tmp_path, text, paddocks=2)
    drop(gateway, columns_of(12), "12.csv")
    scanned(gateway)
    now = (FIRST + 13) * DAY + 43200
    monkeypatch.setattr(weather.time, "time", lambda: now)
    asked = []
    with serving("open-meteo", lambda answer: asked.append(1) or answer) as (service, _):
        log = Events()
        fetcher = weather.RainFetcher(gateway, load_paddocks(gateway), log, service)
        task = fetcher.task()
        task.start()
        wait_for(lambda: log.named("weather_fetched"))
        task.stop()
        assert ThreadHealth(**task.status()).state == "ok"
        assert ThreadHealth(**task.status()).fetched_at == now
    found = scanned(gateway)
    assert found.named("rain_stored")
    with Store(gateway.database, read_only=True) as store:
        rain = [one for block in daily_rows.rain_since(store, 0) for one in block]
        outlook = daily_rows.outlook_of(store, ["p0"])
    assert {one.day - FIRST for one in rain} >= set(range(-300, 14))
    assert len(outlook) == 7
    assert all(one.rain_mm is not None for one in rain)  # a day that the service lacks is left out


def test_a_service_that_fails_is_tried_again_and_seen(tmp_path, today, monkeypatch):
    gateway = farm(tmp_path, '[weather]\nservice = "power"\n', paddocks=2)
    scanned(gateway)
    monkeypatch.setattr(weather, "FIRST_WAIT_S", 0.01)
    dead = replace(SERVICES["power"], urls={"archive": "http://127.0.0.1:9/none"})
    log = Events()
    fetcher = weather.RainFetcher(gateway, load_paddocks(gateway), log, dead)
    monkeypatch.setattr(fetcher, "fetch", failing(fetcher.fetch))
    task = fetcher.task()
    task.start()
    wait_for(lambda: len(log.named("weather_waits")) >= 2)
    assert task.status()["state"] == "failing"
    task.stop()
    for name, why in (("bom", "must be one of"), ("silo", "weather.email")):
        text = f'[weather]\nservice = "{name}"\n'
        other = read_gateway(farm(tmp_path / name, text, paddocks=2).source)
        with pytest.raises(UsageError, match=why):
            weather.RainFetcher(other, load_paddocks(other), log)
    with pytest.raises(UsageError, match="outlines"):
        weather.RainFetcher(gateway, Paddocks(), log, dead)


def failing(fetch):
    """Fail as a service that cannot be reached does, without its retries."""

    def fail():
        raise MissingError("no answer")

    return fail


def test_a_rain_file_costs_no_more_than_it_can_change(tmp_path, today, monkeypatch):
    gateway = farm(tmp_path)
    for day in range(0, 60, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
    drop(gateway, rain_columns(-300, [1.0] * 360), "rain.csv")
    today(60)
    watch = Watch(gateway, load_paddocks(gateway), log := Events())
    watch.open()

    def scan(name):
        before = len(log.named("days_updated"))
        watch.scan(FolderEvents(((name, True),)), first=name == "rain.csv")
        return log.named("days_updated")[before:]

    scan("rain.csv")
    read = {"pass_rows": 0, "rain_since": 0, "estimate_daily": 0, "put_daily": 0}

    def counted(name):
        original = getattr(daily, name)

        def call(*given, **named):
            found = original(*given, **named)
            if name in ("pass_rows", "rain_since"):
                found = list(found)
                read[name] += sum(map(len, found))
            else:
                read[name] += 1 if name == "estimate_daily" else len(given[1])
            return found

        monkeypatch.setattr(daily, name, call)

    for name in read:
        counted(name)
    drop(gateway, rain_columns(58, [7.0, 3.0]), "late.csv")
    (event,) = scan("late.csv")
    assert event["values"] == 4 * 3  # of four paddocks from the 58th day to the 60th
    assert read == {"pass_rows": 0, "rain_since": 2, "estimate_daily": 1, "put_daily": 12}
    drop(gateway, rain_columns(58, [7.0]), "same.csv")
    assert scan("same.csv") == []
    assert read["estimate_daily"] == 1
    watch.close()


def test_an_interrupted_update_is_finished_at_the_next_start(tmp_path, today, monkeypatch):
    found = []
    for name in ("straight", "interrupted"):
        gateway = farm(tmp_path / name)
        drop(gateway, columns_of(0), "0.csv")
        drop(gateway, rain_columns(-60, [2.0] * 74), "rain.csv")
        if name == "interrupted":
            monkeypatch.setattr(daily, "BLOCK_ROWS", 8)
            monkeypatch.setattr(daily, "TRANSACTION_ROWS", 8)
            put, blocks = daily.put_daily, []

            def counted(store, rows, put=put, blocks=blocks):
                put(store, rows)
                blocks.append(len(rows))

            monkeypatch.setattr(daily, "put_daily", counted)
            watch = Watch(gateway, load_paddocks(gateway), Events())
            watch.open()
            watch.may_go_on = lambda blocks=blocks: len(blocks) < 3
            events = FolderEvents((("0.csv", True), ("rain.csv", True)))
            watch.guarded(lambda watch=watch, events=events: watch.scan(events, first=True))
            watch.close()
            assert blocks == [8, 8, 8]
            assert days_of(gateway) == []  # today is not known yet
        scanned(gateway)
        found.append(everything(gateway))
    assert found[0] == found[1]


def test_dates_are_written_as_iso():
    assert day_of(FIRST) == "2024-01-01"
    assert time.gmtime(FIRST * DAY)[:3] == (2024, 1, 1)
