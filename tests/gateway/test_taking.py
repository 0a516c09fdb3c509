"""What arrives is taken whole, once, in order; late and bad files are what they are."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest
from made_gateways import (
    DAY,
    Events,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    stored,
)

from kgsm_infer import load
from kgsm_infer.base import flags
from kgsm_infer.base.errors import MissingError
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.context.history import PlaceState
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.intake.settling import FolderEvents
from kgsm_infer.gateway.service import watch
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.rows import Observed
from kgsm_infer.gateway.update.arrival import Updater
from kgsm_infer.gateway.update.history import compared_with_past
from kgsm_infer.gateway.update.past import StoredInputs
from kgsm_infer.tables.table import table_from_columns

DAYS = (0, 6, 12, 18, 24, 30)
NEW_YEAR = 1704067200


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


def joined(days, **options):
    tables = [columns_of(day, **options) for day in days]
    return {name: [cell for table in tables for cell in table[name]] for name in tables[0]}


def test_values_are_those_of_the_whole_archive(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    for day in DAYS:
        drop(gateway, columns_of(day), f"{day}.csv")
        scanned(gateway)
    whole = table_from_columns(joined(DAYS))
    expected = load(model).predict(whole)
    found = stored(gateway)
    assert len(found) == len(whole)
    for at in range(len(whole)):
        value = found[str(whole.site[at]), int(whole.date[at].astype(np.int64)), ""]
        assert value.sm == pytest.approx(float(expected.sm[at]), abs=2e-6)
        assert value.sm_lower == pytest.approx(float(expected.lower[at]), abs=2e-6)
        assert flags.mask_of(value.flags) == expected.flags[at]
        assert value.revision == 1


@pytest.mark.parametrize("day", [0, 6])  # the correction begins earlier, or with the same day
def test_of_two_tables_that_wait_the_later_written_counts(tmp_path, model, day):
    gateway = made_gateway(tmp_path, model=model)
    correction = drop(gateway, joined((day, 6, 12) if day < 6 else (6, 12), seed=1), "a.csv")
    original = drop(gateway, columns_of(6), "b.csv")
    newest = drop(gateway, columns_of(18), "0.csv")
    for age_s, path in enumerate((correction, original, newest)):
        os.utime(path, (10**9 - age_s, 10**9 - age_s))
    events = scanned(gateway)
    assert [item["file"] for item in events.named("stored")] == ["b.csv", "a.csv", "0.csv"]
    with Store(gateway.database) as store:
        rows = {row.key: row for row in store.observations()}
    expected = columns_of(6, seed=1)["vh_db"]
    found = [rows[f"p{i}", NEW_YEAR + 6 * DAY, ""].numbers["vh_db"] for i in range(4)]
    assert found == expected


def test_a_late_arrival_gives_what_order_would_have_given(tmp_path, model):
    in_order, late = (
        made_gateway(tmp_path / "a", model=model),
        made_gateway(tmp_path / "b", model=model),
    )
    for day in DAYS:
        drop(in_order, columns_of(day), f"{day}.csv")
        scanned(in_order)
    for day in (0, 6, 18, 24, 30, 12):
        drop(late, columns_of(day), f"{day}.csv")
        events = scanned(late)
    first, second = stored(in_order), stored(late)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key].sm == pytest.approx(value.sm, abs=2e-6)
        assert second[key].flags == value.flags
    (event,) = events.named("stored")
    assert event["revisions"] > 0
    with Store(late.database) as store:
        newest = store.latest()
    assert {value.acquired for value in newest} == {max(key[1] for key in first)}
    assert all(value.revision == 2 for value in newest)  # its window holds the late one


def test_files_found_together_are_taken_by_acquisition(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    for name, day in (("a", 18), ("b", 0), ("c", 12), ("d", 6)):
        drop(gateway, columns_of(day), f"{name}.csv")
    events = scanned(gateway)
    assert [item["file"] for item in events.named("stored")] == ["b.csv", "d.csv", "c.csv", "a.csv"]
    assert all(value.revision == 1 for value in stored(gateway).values())


def test_the_same_file_and_the_same_rows_are_taken_once(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    drop(gateway, columns_of(0), "again.csv")
    assert scanned(gateway).named("seen_before")
    columns = columns_of(0)
    columns["remark"] = ["other bytes"] * 4
    drop(gateway, columns, "other.csv")
    (event,) = scanned(gateway).named("stored")
    assert event["values"] == 0
    with Store(gateway.database) as store:
        assert store.counts()["value"] == 4


def test_a_corrected_table_is_a_revision(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    columns = columns_of(0)
    columns["vh_db"][2] -= 1.0
    drop(gateway, columns, "corrected.csv")
    scanned(gateway)
    with Store(gateway.database) as store:
        revisions = {p: [v.revision for v in store.series(p, revisions=True)] for p in ("p1", "p2")}
    assert revisions == {"p1": [1], "p2": [1, 2]}


def test_points_of_a_field_make_one_value(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0, points=5), "a.csv")
    scanned(gateway)
    result = load(model).predict(table_from_columns(columns_of(0, points=5)))
    found = stored(gateway)
    assert len(found) == 4
    value = found["p1", int(np.datetime64("2024-01-01", "s").astype(np.int64)), ""]
    assert value.sm == pytest.approx(float(result.sm[5:10].mean()), abs=2e-6)
    assert value.rows == 5


@pytest.mark.parametrize(
    "dynamic",
    [
        ("vh_over_usual_db", "vh_over_driest_db"),
        ("vh_anomaly",),
        ("vh_anomaly_scene", "ndvi_over_scene"),
        ("vh_field_db", "vh_scene_db", "doy_cos"),
    ],
)
@pytest.mark.parametrize("points", [1, 3])
def test_contexts_are_those_the_library_makes_of_the_whole_archive(tmp_path, dynamic, points):
    """In whatever order acquisitions came, and with most of them pruned."""
    history = HistoryRule("past", {"vh": Typical(3.0, -18.0, 2.0)})
    model = made_model(tmp_path / "m", dynamic=dynamic, history=history)
    gateway = made_gateway(tmp_path, "[keep]\nsteps = 6\n", model=model)
    days = [6 * at for at in range(12)]
    for day in [*days[:3], *days[4:6], days[3], *days[6:]]:
        drop(gateway, columns_of(day, paddocks=4, points=points), f"{day}.csv")
        scanned(gateway)
    whole = joined(days, paddocks=4, points=points)
    whole.setdefault("field", whole["site"])
    table = table_from_columns(whole)
    if points == 1:  # a row is its paddock's mean, of many pixels
        table = dataclasses.replace(
            table, numbers={**table.numbers, "vh_field_db": table.numbers["vh_db"]}
        )
    expected = load(model).predict(table)
    found = stored(gateway)
    fields = np.asarray(table.text["field"])
    assert len(found) == len(days) * 4
    with_number = 0
    for (paddock, acquired, _), value in found.items():
        here = (fields == paddock) & (table.date.astype(np.int64) == acquired)
        assert here.sum() == points
        there = here & np.isfinite(expected.sm)
        if there.sum() < points / 2:
            assert value.sm is None
            continue
        with_number += 1
        assert value.sm == pytest.approx(float(expected.sm[there].mean()), abs=3e-6)
        assert flags.mask_of(value.flags) & flags.CONTEXT_MISSING == (
            np.bitwise_or.reduce(expected.flags[there]) & flags.CONTEXT_MISSING
        )
    assert with_number > len(found) / 4


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"site,date\n", "no rows"),
        (b"\xff\xfe\x00", "not a UTF-8 text file"),
        (b"", "the file is empty"),
        (
            b"site,date,vh_db,ndvi,angle_deg\na,2024-01-01,3,.2,40\n",
            "row 2, column vh_db: 3 is not",
        ),
        (b"site,date,vh_db,angle_deg\na,2024-01-01,-13,40\n", "no column 'ndvi', which the model"),
        (b"site,date,vh_db,ndvi,angle_deg\na,2024-01-01,-13,.2\n", "4 cells, the header has 5"),
    ],
)
def test_a_bad_table_goes_to_quarantine_with_its_reason(tmp_path, model, content, reason):
    gateway = made_gateway(tmp_path, model=model)
    gateway.spool.mkdir()
    (gateway.spool / "bad.csv").write_bytes(content)
    drop(gateway, columns_of(0), "good.csv")
    events = scanned(gateway)
    assert reason in (gateway.quarantine / "bad.csv.reason.txt").read_text()
    assert (gateway.quarantine / "bad.csv").read_bytes() == content
    assert not list(gateway.spool.iterdir())
    assert len(events.named("stored")) == 1
    assert str(tmp_path) not in events.named("quarantined")[0]["reason"]


def test_rows_that_contradict_each_other_cost_their_paddock_alone(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    twice = columns_of(12)
    for name, cells in twice.items():
        cells.append(round(cells[0] + 2, 3) if name == "angle_deg" else cells[0])
    drop(gateway, columns_of(0), "0.csv")
    drop(gateway, twice, "12.csv")
    events = scanned(gateway)
    (note,) = events.named("rows_merged")[0]["notes"]
    assert "left empty; choose with contradictions = first, last or mean" in note
    assert "--" not in note
    second = {key[0]: value for key, value in stored(gateway).items() if value.acquired > NEW_YEAR}
    assert [name for name, value in second.items() if value.sm is None] == ["p0"]
    assert "angle_deg" in second["p0"].reason and "missing_input" in second["p0"].flags
    drop(gateway, columns_of(6), "late.csv")  # done again from the store, it says the same
    assert scanned(gateway).named("stored")
    assert stored(gateway)[("p0", NEW_YEAR + 12 * DAY, "")].reason == second["p0"].reason
    drop(gateway, columns_of(12), "corrected.csv")
    scanned(gateway)
    corrected = stored(gateway)[("p0", NEW_YEAR + 12 * DAY, "")]
    assert (corrected.sm is None, corrected.reason, corrected.revision) == (False, "", 2)


def test_a_refused_contradiction_names_the_key_of_the_gateway(tmp_path, model):
    gateway = made_gateway(tmp_path, 'contradictions = "refuse"\n', model=model)
    twice = columns_of(12)
    for name, cells in twice.items():
        cells.append(round(cells[0] + 2, 3) if name == "angle_deg" else cells[0])
    drop(gateway, twice, "12.csv")
    reason = scanned(gateway).named("quarantined")[0]["reason"]
    assert "choose with contradictions = first, last or mean" in reason and "--" not in reason


@pytest.mark.parametrize(("owner", "where"), [(watch, "rows_of_table"), (Updater, "store_rows")])
def test_a_fault_of_ours_costs_one_file_and_not_the_gateway(
    tmp_path, model, monkeypatch, owner, where
):
    gateway = made_gateway(tmp_path, model=model)
    whole = getattr(owner, where)

    def faulty(*given, **more):
        if "6.csv" in (given[1], getattr(given[-1], "name", "")):
            raise ZeroDivisionError("made for the test")
        return whole(*given, **more)

    monkeypatch.setattr(owner, where, faulty)
    for day in (0, 6, 12):
        drop(gateway, columns_of(day), f"{day}.csv")
    events = scanned(gateway)
    assert [item["file"] for item in events.named("stored")] == ["0.csv", "12.csv"]
    assert (
        "a fault of kgsm (ZeroDivisionError"
        in (gateway.quarantine / "6.csv.reason.txt").read_text()
    )
    assert events.named("fault")[0]["file"] == "6.csv"
    monkeypatch.undo()
    assert not scanned(gateway).named("fault")  # a start finds nothing half done
    (gateway.quarantine / "6.csv").rename(gateway.spool / "6.csv")
    assert len(scanned(gateway).named("stored")) == 1


def test_a_foreign_file_and_an_unknown_paddock_are_refused(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model, paddocks=2)
    gateway.spool.mkdir()
    (gateway.spool / "notes.docx").write_bytes(b"x")
    (gateway.spool / "half.csv.part").write_bytes(b"site")
    columns = columns_of(0)
    columns["site"] = ["q"] * 4
    columns["date"] = ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04"]
    drop(gateway, columns, "elsewhere.csv")
    drop(gateway, columns_of(0), "ours.csv")
    events = scanned(gateway)
    reasons = {item["file"]: item["reason"] for item in events.named("quarantined")}
    assert "not a table, scene or model" in reasons["notes.docx"]
    assert "none of its paddocks (q) is in" in reasons["elsewhere.csv"]
    assert [path.name for path in gateway.spool.iterdir()] == ["half.csv.part"]
    assert events.named("not_the_farms")[0]["count"] == 2
    assert {key[0] for key in stored(gateway)} == {"p0", "p1"}


def test_a_file_still_growing_is_left_until_it_stands_still(tmp_path, model):
    gateway = dataclasses.replace(made_gateway(tmp_path, model=model), stable_s=0.3)
    watch = Watch(gateway, load_paddocks(gateway), Events())
    watch.open()
    path = drop(gateway, columns_of(0), "a.csv")
    assert 0 < watch.scan() <= 0.3
    os.utime(path, (1, 1))  # it changed
    assert 0 < watch.scan() <= 0.3
    assert watch.scan(FolderEvents((("a.csv", True),))) is None  # inotify says it is whole
    assert not path.exists()
    watch.close()


def test_statics_come_from_the_outlines(tmp_path):
    model = made_model(tmp_path / "m", statics=("clay",))
    gateway = made_gateway(tmp_path, paddocks=4, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    columns = {**columns_of(0), "clay": [20.0, 21.0, 22.0, 23.0]}
    expected = load(model).predict(table_from_columns(columns, features=["clay"]))
    found = [value.sm for _, value in sorted(stored(gateway).items())]
    assert found == pytest.approx(expected.sm.astype(float).tolist(), abs=2e-6)


def test_missing_and_frozen_have_no_number_and_say_why(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    columns = columns_of(0)
    columns["vh_db"][0] = ""
    columns["temp_c"] = [4.0, -2.0, 4.0, 4.0]
    drop(gateway, columns, "a.csv")
    scanned(gateway)
    found = {key[0]: value for key, value in stored(gateway).items()}
    assert found["p0"].sm is None
    assert found["p0"].flags.split(";")[0] == "missing_input"
    assert found["p1"].sm is None
    assert "frozen_or_snow" in found["p1"].flags
    assert found["p0"].reason
    assert found["p2"].sm is not None


@pytest.mark.parametrize("dynamic", [("doy_sin",), ("vh_scene_db",)])
def test_an_outlier_has_the_flag_that_predict_gives_it(tmp_path, dynamic):
    model = made_model(tmp_path / "m", dynamic=dynamic)
    gateway = made_gateway(tmp_path, model=model)
    tables = []
    for day in range(0, 42, 6):
        columns = columns_of(day)
        if day in (12, 36):
            columns["vh_db"][1], columns["ndvi"][2], columns["angle_deg"][3] = 3.0, 1.7, 120.0
        drop(gateway, columns, f"{day}.csv")
        tables.append(columns)
    assert not scanned(gateway).named("quarantined")
    table = table_from_columns(
        {name: [cell for own in tables for cell in own[name]] for name in tables[0]},
        reads=load(model).columns_read(),
    )
    result = load(model).predict(table)
    found, outside = stored(gateway), 0
    for at, seconds in enumerate(table.date.astype(np.int64).tolist()):
        value = found[str(table.site[at]), seconds, ""]
        assert value.flags == flags.names(int(result.flags[at]))
        assert (value.sm is None) == bool(np.isnan(result.sm[at]))
        outside += "input_out_of_range" in value.flags
        if value.sm is not None:
            assert value.sm == pytest.approx(float(result.sm[at]), abs=2e-6)
    assert outside == 6
    expected = {key: value.key for key, value in found.items()}
    for path in gateway.state.glob("gateway.db*"):  # built again from the archive
        path.unlink()
    scanned(gateway)
    assert {key: value.key for key, value in stored(gateway).items()} == expected


def test_columns_may_have_other_names(tmp_path, model):
    gateway = made_gateway(tmp_path, '[columns]\nsite = "paddock_no"\nvh_db = "VH"\n', model=model)
    columns = columns_of(0)
    columns["paddock_no"], columns["VH"] = columns.pop("site"), columns.pop("vh_db")
    drop(gateway, columns, "a.csv")
    drop(gateway, columns_of(6), "b.csv")  # the contract's own names still pass
    assert len(scanned(gateway).named("stored")) == 2


def test_what_was_taken_but_not_stored_is_worked_out_at_the_next_start(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    drop(gateway, columns_of(6), "b.csv")
    scanned(gateway)
    before = stored(gateway)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()  # the power took the database, the names in the archive stayed
    events = scanned(gateway)
    assert [item["number"] for item in events.named("processing_again")] == [1, 2]
    assert stored(gateway) == before


def test_a_lost_move_into_the_archive_is_made_again(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    (kept,) = gateway.archive.glob("*.csv")
    kept.rename(gateway.spool / "a.csv")  # stored, but the power took the new name
    assert scanned(gateway).named("seen_before")
    assert kept.exists()
    assert len(stored(gateway)) == 4


def test_no_other_file_of_the_spool_is_touched_when_the_store_cannot_be_made(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    gateway.state.write_text("a file where the folder should be")
    with pytest.raises(MissingError, match="cannot be created"):
        scanned(gateway)
    assert (gateway.spool / "a.csv").exists()


def test_pruned_acquisitions_leave_their_past_and_change_nothing_later(tmp_path):
    model = made_model(tmp_path / "m", dynamic=("vh_over_usual_db", "vh_over_driest_db"))
    short = made_gateway(tmp_path / "a", "[keep]\nsteps = 5\n", model=model)
    long = made_gateway(tmp_path / "b", model=model)
    days = [6 * at for at in range(14)]
    for gateway in (short, long):
        for day in days:
            drop(gateway, columns_of(day), f"{day}.csv")
        scanned(gateway)
    with Store(short.database) as store:
        assert store.counts()["observation"] == 5 * 4
    one, other = stored(short), stored(long)
    assert one.keys() == other.keys()
    for key, value in other.items():
        assert one[key].sm == pytest.approx(value.sm, abs=2e-6)
        assert one[key].revision == 1
    # a correction of what was pruned is refused, a late pass before it redoes nothing wrongly
    drop(short, {**columns_of(0), "vh_db": [-20.0] * 4}, "corrected.csv")
    assert scanned(short).named("stored")[0]["too_old"] == 4
    drop(short, columns_of(1), "late.csv")
    scanned(short)
    kept = stored(short)
    assert all(kept[key].flags == value.flags for key, value in one.items())


def test_the_past_is_that_of_the_equations():
    rows = [Observed("a", at * DAY, "", "a", True, {}) for at in range(4)]
    before, power = np.asarray([0.005, 0.095]), np.asarray([0.02, 0.01, 0.04, 0.03])
    first_db, second_db = 10 * np.log10(before)
    past = PlaceState().add(first_db).add(second_db)
    inputs = StoredInputs(rows, {("a", "", site, "vh_db"): past for site in ("", "a")})
    own_db, rule = 10 * np.log10(power), HistoryRule("past", {"vh": Typical(3.0, -16.0, 2.0)})
    over = {
        name: compared_with_past(name, inputs, own_db, rule)
        for name in ("vh_over_usual_db", "vh_over_driest_db", "vh_anomaly")
    }
    every = np.asarray([*before, *power])
    running = [every[: at + 3].mean() for at in range(4)]
    assert over["vh_over_usual_db"][0] == pytest.approx(own_db - 10 * np.log10(running))
    assert over["vh_over_driest_db"][0] == pytest.approx(own_db - 10 * np.log10(0.005))
    assert over["vh_over_usual_db"][1].tolist() == [3, 4, 5, 6]
    for at in range(4):  # the formulas of context.Typical
        past = 10 * np.log10(every[: at + 3])
        usual = (past.sum() + 3 * -16.0) / (len(past) + 3)
        swing = np.sqrt((len(past) * past.var() + 3 * 2.0**2) / (len(past) + 3))
        assert over["vh_anomaly"][0][at] == pytest.approx((own_db[at] - usual) / swing)


def test_a_short_past_is_flagged(tmp_path):
    model = made_model(tmp_path / "m", dynamic=("vh_over_usual_db",), steps=2)
    gateway = made_gateway(tmp_path, model=model)
    for at in range(6):
        drop(gateway, columns_of(6 * at), f"{at}.csv")
    scanned(gateway)
    with Store(gateway.database) as store:
        missing = ["context_missing" in value.flags for value in store.series("p0")]
    assert missing == [True] * 4 + [False] * 2  # five passes make a past


def test_a_scene_context_is_of_all_paddocks_in_whatever_files(tmp_path):
    model = made_model(tmp_path / "m", dynamic=("vh_scene_db",), steps=2)
    one, two = made_gateway(tmp_path / "a", model=model), made_gateway(tmp_path / "b", model=model)
    whole = columns_of(0, paddocks=12)
    drop(one, whole, "a.csv")
    scanned(one)
    for part, name in ((slice(0, 5), "a"), (slice(5, 12), "b")):
        drop(two, {key: values[part] for key, values in whole.items()}, f"{name}.csv")
        scanned(two)
    first, second = stored(one), stored(two)
    assert first.keys() == second.keys()
    for key, value in first.items():
        assert second[key].sm == pytest.approx(value.sm, abs=2e-6)
        assert "context_missing" not in second[key].flags
