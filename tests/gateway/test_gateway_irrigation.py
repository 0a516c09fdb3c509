"""Irrigation in, and ranks among the passes out: as ``kgsm-infer daily --irrigation`` has them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from made_daily import FIRST, everything, farm, rain_columns, stored_values
from made_gateways import Events, columns_of, drop, scanned
from starlette.testclient import TestClient

from kgsm_infer.base.errors import DataError
from kgsm_infer.daily.daily import Settings, estimate_daily
from kgsm_infer.daily.forcing import read_irrigation
from kgsm_infer.daily.parameters import read_parameters
from kgsm_infer.daily.percentiles import FEWEST_PASSES, drier_than
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http.api import Api
from kgsm_infer.gateway.http.page import render_page
from kgsm_infer.gateway.http.queries import Queries
from kgsm_infer.gateway.intake.irrigation_files import drop_irrigation_file, write_irrigation
from kgsm_infer.gateway.intake.rain_files import names_in_file
from kgsm_infer.gateway.intake.tables import TableRules
from kgsm_infer.gateway.publish.homeassistant import daily_message
from kgsm_infer.gateway.records import daily_record
from kgsm_infer.gateway.store import daily_rows
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.weather import read_weather


def irrigation(*rows):
    """An irrigation file of (paddock, days after 2024-01-01, mm)."""
    dates = [str(np.datetime64("2024-01-01") + day) for _, day, _ in rows]
    return {"paddock": [row[0] for row in rows], "date": dates, "mm": [row[2] for row in rows]}


def stored(gateway):
    """Everything that irrigation changes."""
    with Store(gateway.database, read_only=True) as store:
        return {
            **everything(gateway),
            "irrigation": store.db.execute("SELECT * FROM irrigation ORDER BY 1, 2").fetchall(),
        }


def days_and_outlook(gateway, paddock):
    with Store(gateway.database, read_only=True) as store:
        days = daily_rows.daily_of(store, paddock, 0, 10_000)
        return days, daily_rows.outlook_of(store, [paddock])


def watered_farm(folder, today, *rows):
    """A farm with three passes, rain and a forecast, and these rows of irrigation."""
    gateway = farm(folder)
    for day in (0, 6, 12):
        drop(gateway, columns_of(day), f"{day}.csv")
    drop(gateway, rain_columns(-60, [float(i % 7 == 0) * 6 for i in range(78)]), "rain.csv")
    if rows:
        drop(gateway, irrigation(*rows), "irrigation.csv")
    return gateway, scanned(gateway)


def of_library(gateway, names):
    """Run ``kgsm_infer.daily`` on the archived rain and irrigation and the stored passes."""
    files = {path.read_bytes().split(b"\r\n")[0]: path for path in gateway.archive.glob("*.csv")}
    return estimate_daily(
        stored_values(gateway),
        read_weather(files[b"date,rain_mm"]),
        read_parameters("oznet"),
        Settings(today="2024-01-14", look_ahead=True),
        read_irrigation(files[b"paddock,date,mm"], names),
    )


def test_irrigation_counts_as_in_the_command(tmp_path, today):
    rows = (("p1", 3, 12.5), ("p1", 3, 7.5), ("p2", 9, 30.0), ("p1", 15, 25.0))
    gateway, log = watered_farm(tmp_path, today, *rows)
    assert log.named("irrigation_stored")[0]["days"] == 3  # rows of one day add up
    assert not log.named("days_failed"), log
    names = ["p0", "p1", "p2", "p3"]
    made = of_library(gateway, names)
    first = FIRST - made.forcing.period.first
    for i, name in enumerate(names):
        days, outlook = days_and_outlook(gateway, name)
        mean = np.r_[[one.value for one in (*days, *outlook)]]
        assert mean == pytest.approx(made.mean[first:, i], abs=1e-5)
        planned = [one.irrigated for one in outlook]
        assert planned == pytest.approx(made.irrigated.mean[-4:, i], abs=1e-5)
        assert all(one.irrigated is None for one in days)
    days, outlook = days_and_outlook(gateway, "p1")
    assert [one.irrigation_mm for one in days] == [20.0 if day == 3 else None for day in range(14)]
    assert [one.irrigation_mm for one in outlook] == [None, 25.0, None, None]
    assert outlook[1].irrigated > outlook[1].value
    assert daily_record(outlook[1])["sm_irrigated"] == outlook[1].irrigated
    assert "sm_irrigated" not in daily_record(days[-1])
    assert "irrigation_mm" not in daily_record(days[-1])


def test_the_file_that_arrived_last_counts_and_zero_withdraws(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today)
    dry = everything(gateway)["daily"]
    drop(gateway, irrigation(("p1", 8, 25.0), ("p9", 8, 5.0)), "a.csv")
    assert scanned(gateway).named("irrigation_stored")
    wet, _ = days_and_outlook(gateway, "p1")
    assert [one.revision for one in wet[7:]] == [1] + [2] * 6
    drop(gateway, irrigation(("p1", 8, 0.0), ("p9", 8, 0.0)), "b.csv")
    scanned(gateway)
    again, _ = days_and_outlook(gateway, "p1")
    before = [row for row in dry if row[0] == "p1"]
    assert [one.value for one in again] == pytest.approx([row[4] for row in before], abs=2e-5)
    drop(gateway, irrigation(("p1", 8, 0.0), ("p9", 8, 0.0)), "c.csv")
    assert scanned(gateway).named("seen_before")
    drop(gateway, irrigation(("p1", 8, 25.0), ("p9", 8, 5.0)), "a.csv")
    scanned(gateway)
    last, _ = days_and_outlook(gateway, "p1")
    assert [one.value for one in last] == pytest.approx([one.value for one in wet], abs=2e-5)


def test_irrigation_changes_no_day_before_it(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today)
    names = ("p0", "p1", "p2", "p3")
    before = {name: days_and_outlook(gateway, name)[0] for name in names}
    drop(gateway, irrigation(("p1", 8, 25.0)), "irrigation.csv")
    scanned(gateway)
    after = {name: days_and_outlook(gateway, name)[0] for name in names}
    for name in names:
        assert after[name][:8] == before[name][:8]
    assert after["p1"][8].value > before["p1"][8].value
    # of the other paddocks a pass after it changes, by the error that its paddocks share
    assert after["p0"][:12] == before["p0"][:12]


def test_a_lost_database_has_the_irrigation_again(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today, ("p1", 3, 12.5), ("p1", 15, 20.0))
    today(16)
    drop(gateway, irrigation(("p1", 15, 0.0), ("p2", 16, 9.0)), "later.csv")
    scanned(gateway)
    before = stored(gateway)
    assert len(before["irrigation"]) == 3
    for lost in (
        ("gateway.db*", "backups/*"),
        ("gateway.db*", "backups/*", "archive/*.about.json"),
    ):
        for path in (path for name in lost for path in gateway.state.glob(name)):
            path.unlink()
        log = scanned(gateway)
        assert not log.named("quarantined"), log
        after = stored(gateway)
        if len(lost) == 2:
            assert after == before
        # without its sidecars the archive has not the clocks of the arrivals
        assert (after["irrigation"], len(after["rain"])) == (
            before["irrigation"], len(before["rain"]),
        )  # fmt: skip


def test_names_of_columns_and_paddocks_are_the_gateways(tmp_path, today):
    gateway = farm(tmp_path, '[daily]\n[columns]\npaddock = "Schlag"\nmm = "Menge"\n', paddocks=3)
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(-9, [1.0] * 22), "rain.csv")
    columns = irrigation(("p2", 4, 11.0), ("elsewhere", 4, 5.0), ("p1", 40, 5.0))
    renamed = {{"paddock": "Schlag", "mm": "Menge"}.get(k, k): v for k, v in columns.items()}
    drop(gateway, renamed, "w.csv")
    log = scanned(gateway)
    assert log.named("not_the_farms")[0]["paddocks"] == ["elsewhere"]
    (reason,) = log.named("rows_refused")[0]["reasons"]
    assert "p1" in reason
    assert "2024-02-10" in reason
    assert stored(gateway)["irrigation"] == [("p2", FIRST + 4, 11.0, 2, 0)]


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([("p1", 3, "")], "is missing"),
        ([("p1", 3, -4.0)], "not an irrigation in mm"),
        ([("p1", 3, 12000.0)], "a volume?"),
        ([("", 3, 4.0)], "empty"),
        ([("p1", 99, 4.0)], "days ahead"),
        ([("p1", 3, "1e400")], "mm"),
        ([("p1", 3, 600.0), ("p1", 3, 600.0)], "add up to 1200 mm"),
    ],
)
def test_a_wrong_irrigation_file_goes_to_quarantine(tmp_path, today, rows, why):
    gateway, _ = watered_farm(tmp_path, today)
    before = everything(gateway)
    drop(gateway, irrigation(*rows), "irrigation.csv")
    (bad,) = scanned(gateway).named("quarantined")
    assert why in bad["reason"]
    assert "irrigation.csv" in bad["reason"]
    assert everything(gateway) == before


def test_a_file_of_rain_and_irrigation_is_refused(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today)
    columns = irrigation(("p1", 3, 10.0))
    drop(gateway, {**columns, "rain_mm": [4.0]}, "both.csv")
    (bad,) = scanned(gateway).named("quarantined")
    assert "two files" in bad["reason"]


@pytest.mark.parametrize(
    ("settings", "amount"), [("", "mm"), ('[columns]\nmm = "Menge"\n', "Menge")]
)
def test_irrigation_in_a_weather_file_is_never_left_out(tmp_path, today, settings, amount):
    gateway = farm(tmp_path, f"[daily]\n{settings}")
    columns = irrigation(("p1", 3, 10.0))
    columns[amount] = columns.pop("mm")
    drop(gateway, {**columns, "rain_mm": [4.0]}, "both.csv")
    log = scanned(gateway)
    assert "two files" in log.named("quarantined")[0]["reason"]
    assert not log.named("rain_stored")


def test_simulated_irrigation_says_so_until_it_is_replaced(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today)
    columns = irrigation(("p1", 8, 25.0))
    drop(gateway, {**columns, "source": ["simulated"]}, "made up.csv")
    scanned(gateway)
    days, outlook = days_and_outlook(gateway, "p1")
    assert [one.simulated for one in days] == [0] * 8 + [1] * 6
    assert daily_record(outlook[0])["source"] == "simulated"
    drop(gateway, columns, "measured.csv")
    scanned(gateway)
    days, outlook = days_and_outlook(gateway, "p1")
    assert not any(one.simulated for one in (*days, *outlook))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "cp1252"])
@pytest.mark.parametrize(
    ("column", "there"),
    [("mm", True), ("Höhe mm", True), ("Mm", False), ("rain_3d_mm", False), ("commas", False)],
)
def test_a_name_is_found_in_any_encoding(tmp_path, encoding, column, there):
    path = tmp_path / "a.csv"
    path.write_text(f"paddock,date,{column}\np1,2024-01-04,3\n", encoding=encoding)
    assert names_in_file(path, {"mm", "Höhe mm"}) is there


def test_a_name_is_found_in_a_large_parquet_file(tmp_path):
    days = np.arange(50_000)
    rain = np.random.default_rng(1).random(len(days))
    write_csv(tmp_path / "a.parquet", {"place": days.astype(str), "rain_mm": rain, "mm": rain})
    write_csv(tmp_path / "b.parquet", {"place": days.astype(str), "rain_mm": rain})
    assert (tmp_path / "b.parquet").stat().st_size > 300_000
    for name, there in (("a.parquet", True), ("b.parquet", False)):
        assert names_in_file(tmp_path / name, {"mm"}) is there
        assert names_in_file(tmp_path / name, {"rain_mm"})


def test_rain_may_be_called_mm(tmp_path, today):
    gateway = farm(tmp_path, '[daily]\n[columns]\nrain_mm = "mm"\n')
    drop(gateway, {"date": ["2024-01-03"], "mm": [4.0]}, "rain.csv")
    assert scanned(gateway).named("rain_stored")
    assert [row[:3] for row in stored(gateway)["rain"]] == [("", FIRST + 2, 4.0)]


@pytest.mark.parametrize("settings", ['mm = "Menge"', 'rain_mm = "mm"\nmm = "Menge"'])
def test_posted_irrigation_is_never_rain(tmp_path, today, settings):
    gateway = farm(tmp_path, f"[daily]\n[columns]\n{settings}\n", paddocks=4)
    rules = TableRules(load_paddocks(gateway), gateway.columns)
    message = {"irrigation": [{"paddock": "p1", "date": "2024-01-03", "mm": 20.0}]}
    assert write_irrigation(message, rules, gateway.spool) == 1
    assert scanned(gateway).named("irrigation_stored")
    assert stored(gateway)["rain"] == []
    assert [row[:3] for row in stored(gateway)["irrigation"]] == [("p1", FIRST + 2, 20.0)]


def test_irrigation_is_refused_where_its_column_is_rain(tmp_path, today):
    gateway = farm(tmp_path, '[daily]\n[columns]\nrain_mm = "mm"\n', paddocks=4)
    rules = TableRules(load_paddocks(gateway), gateway.columns)
    message = {"irrigation": [{"paddock": "p1", "date": "2024-01-03", "mm": 20.0}]}
    with pytest.raises(DataError, match="mm is rain by"):
        write_irrigation(message, rules, gateway.spool)
    with pytest.raises(DataError, match="mm is rain by"):
        drop_irrigation_file(b"paddock,date,mm\np1,2024-01-03,20\n", rules, gateway.spool)
    assert not gateway.spool.exists()


def test_a_renamed_source_says_that_irrigation_is_simulated(tmp_path, today):
    gateway = farm(tmp_path, '[daily]\n[columns]\nsource = "Quelle"\n', paddocks=4)
    drop(gateway, {**irrigation(("p1", 8, 25.0)), "Quelle": ["simulated"]}, "made up.csv")
    scanned(gateway)
    assert stored(gateway)["irrigation"] == [("p1", FIRST + 8, 25.0, 1, 1)]


@pytest.mark.parametrize(
    "content",
    [
        "", "{", "[]", "null", "7", '{"name":1,"kind":"irrigation"}', '{"name":"x","kind":"zebra"}',
        '{"kind":"irrigation","clock_s":1e400}', '{"kind":"rain","clock_s":1e300}',
        '{"kind":"rain","clock_s":-1}', '{"stamp":5}', '{"kind":"rain","batch":"one"}',
    ],
)  # fmt: skip
def test_a_damaged_sidecar_loses_no_arrival(tmp_path, today, content):
    gateway, _ = watered_farm(tmp_path, today, ("p1", 3, 12.5), ("p1", 15, 20.0))
    before = stored(gateway)
    for path in gateway.archive.glob("*.about.json"):
        path.write_text(content)
    for name in ("gateway.db*", "backups/*"):
        for path in gateway.state.glob(name):
            path.unlink()
    log = scanned(gateway)
    assert not log.named("fault"), log
    assert not log.named("quarantined"), log
    after = stored(gateway)
    assert after["irrigation"] == before["irrigation"]
    assert [row[:3] for row in after["rain"]] == [row[:3] for row in before["rain"]]
    assert len(after["daily"]) == len(before["daily"])


@pytest.mark.parametrize("name", ["rules", "daily-settings"])
@pytest.mark.parametrize("content", [b"\xff\xfe\x00\xd8", b"[", b"[]", b"{}", b"7", b"\0" * 9])
def test_a_damaged_file_of_the_state_stops_nothing(tmp_path, today, name, content):
    gateway, _ = watered_farm(tmp_path, today, ("p1", 3, 12.5))
    before = stored(gateway)
    (gateway.state / name).write_bytes(content)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    log = scanned(gateway)
    assert not log.named("fault"), log
    assert not log.named("step_failed"), log
    assert stored(gateway)["irrigation"] == before["irrigation"]
    assert len(stored(gateway)["daily"]) == len(before["daily"])
    assert not scanned(gateway).named("rules_changed")  # the file is whole again


def test_a_strange_number_in_the_archive_stops_nothing(tmp_path, today):
    gateway, _ = watered_farm(tmp_path, today)
    path = next(gateway.archive.glob("*.csv"))
    (gateway.archive / f"{'9' * 20}-{path.name[7:]}").write_bytes(path.read_bytes())
    drop(gateway, irrigation(("p1", 3, 12.5)), "irrigation.csv")
    log = scanned(gateway)
    assert not log.named("fault"), log
    assert log.named("irrigation_stored")


def test_irrigation_is_posted_and_read_back(tmp_path, today):
    gateway = farm(tmp_path, paddocks=4)
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, rain_columns(-9, [1.0] * 26), "rain.csv")
    scanned(gateway)
    with TestClient(Api(gateway, load_paddocks(gateway), Events()).application()) as client:
        one = {"paddock": "p1", "date": "2024-01-06", "mm": 14.0}
        assert client.post("/v1/irrigation", json={"irrigation": [one]}).json() == {"rows": 1}
        text = "paddock,date,mm\np2,2024-01-16,20\n"
        head = {"content-type": "text/csv"}
        answer = client.post("/v1/irrigation", content=text, headers=head)
        assert (answer.status_code, answer.json()) == (202, {"rows": 1})
        for bad in (
            {"irrigation": []},
            {"irrigation": [{**one, "mm": -1}]},
            {"irrigation": [{**one, "paddock": "p7"}]},
            {"irrigation": [{**one, "date": "tomorrow"}]},
            {"irrigation": [{**one, "date": "2062-01-01"}]},
            {"irrigation": [{**one, "date": "0001-01-01"}]},
            {"irrigation": [{**one, "mm": 600}, {**one, "mm": 600}]},
            {"rain": [one]},
        ):
            assert client.post("/v1/irrigation", json=bad).status_code == 422
        bad = "paddock,date,mm,vh_db\np2,2024-01-16,20,-15\n"
        assert client.post("/v1/irrigation", content=bad, headers=head).status_code == 422
        scanned(gateway)
        values = client.get("/v1/daily?paddock=p1").json()["values"]
        assert {v["date"]: v["irrigation_mm"] for v in values if "irrigation_mm" in v} == {
            "2024-01-06": 14.0
        }
        values = client.get("/v1/daily?paddock=p2").json()["values"]
        (plan,) = [v for v in values if "irrigation_mm" in v]
        assert plan["date"] == "2024-01-16"
        assert plan["sm_irrigated_percent"] == pytest.approx(100 * plan["sm_irrigated"], abs=0.01)
        table = client.get("/v1/daily.csv?paddock=p2").text.splitlines()
        assert "irrigation_mm" in table[0]


def test_a_rank_needs_ten_passes_and_is_the_librarys(tmp_path, today):
    gateway = farm(tmp_path)
    for at in range(FEWEST_PASSES + 2):
        columns = columns_of(3 * at)
        if at > 4:  # the last paddock is seen five times
            columns = {name: cells[:3] for name, cells in columns.items()}
        drop(gateway, columns, f"{at}.csv")
    drop(gateway, rain_columns(-30, [float(i % 6 == 0) * 7 for i in range(66)]), "rain.csv")
    today(35)
    scanned(gateway)
    for name in ("p0", "p1", "p2"):
        days, _ = days_and_outlook(gateway, name)
        passed = np.asarray([one.pass_value is not None for one in days])
        expected = drier_than(np.asarray([one.value for one in days]), passed)
        found = np.asarray([np.nan if v.drier_than is None else v.drier_than for v in days])
        assert np.isnan(found[: 3 * (FEWEST_PASSES - 1)]).all()
        assert np.isfinite(found[3 * (FEWEST_PASSES - 1) :]).all()
        assert found == pytest.approx(expected, abs=0.051, nan_ok=True)  # ties of 5 digits
    few, _ = days_and_outlook(gateway, "p3")
    assert {one.drier_than for one in few} == {None}
    assert "drier_than" not in daily_record(few[-1])
    message = json.loads(daily_message(days[-1], None))
    assert message["drier_than"] == days[-1].drier_than
    page = render_page(Queries(gateway, load_paddocks(gateway)), "en").decode()
    assert page.count("of 10 passes here.") == 3
