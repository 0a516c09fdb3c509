"""Readings of probes correct the passes of their day: which, by how much, once, and again."""

from __future__ import annotations

import csv
import dataclasses
import json
import random
import shutil
import sqlite3
import subprocess
import time
import urllib.request

import numpy as np
import pytest
from made_gateways import DAY, Events, columns_of, drop, made_gateway, made_model, scanned, stored
from running import COMMAND, PATIENCE_S, Running

from kgsm_infer import load
from kgsm_infer.base import flags
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.intake.archive import list_archive
from kgsm_infer.gateway.intake.tables import TableRules, rows_of_columns
from kgsm_infer.gateway.records import record, record_bytes
from kgsm_infer.gateway.service import recovery, watch
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.migrations import MIGRATIONS
from kgsm_infer.gateway.store.rows import Sensed
from kgsm_infer.gateway.update.arrival import Updater, retrieve_without_storing
from kgsm_infer.gateway.update.correction import corrected
from kgsm_infer.tables.table import table_from_columns

SPREAD = {"date": 0.004, "field": 0.002, "point": 0.001}
FIRST = 1704067200  # 2024-01-01


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"), probes=SPREAD)


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("plain"))


def at(day, hour=5.0):
    return FIRST + day * DAY + int(3600 * hour)


def put(gateway, *readings):
    gateway.state.mkdir(exist_ok=True)
    with Store(gateway.database) as store:
        store.put_probes((name, sensor, int(when), sm) for name, sensor, when, sm in readings)


def opened(gateway):
    made = Watch(gateway, load_paddocks(gateway), Events())
    made.open()
    return made


def every_revision(gateway):
    """key -> bytes of every record."""
    with Store(gateway.database, read_only=True) as store:
        return {
            value.key: record_bytes(value)
            for paddock in {key[0] for key in store.current()}
            for value in store.series(paddock, revisions=True)
        }


def effect_of(residuals):
    """Henderson's mixed model equations for one random effect, solved as a system, float64.

    residuals: field -> of its probes.
    """
    fields = sorted(residuals)
    rows = [(name, r) for name in fields for r in residuals[name]]
    design = np.asarray([[1.0, *(name == other for other in fields)] for name, _ in rows])
    inverse = np.diag([1 / SPREAD["date"], *[1 / SPREAD["field"]] * len(fields)])
    normal = design.T @ design / SPREAD["point"] + inverse
    return float(np.linalg.solve(normal, design.T @ [r for _, r in rows] / SPREAD["point"])[0])


def uncorrected(model, days, **options):
    tables = [columns_of(day, **options) for day in days]
    table = table_from_columns({k: [c for t in tables for c in t[k]] for k in tables[0]})
    result = load(model).predict(table)
    seconds = table.date.astype(np.int64)
    return {
        (str(table.site[i]), int(seconds[i])): float(result.sm[i]) for i in range(len(table.site))
    }


# -- what it comes to ----------------------------------------------------------------------


@pytest.mark.parametrize("late", [True, False])
def test_probes_of_a_day_correct_all_paddocks_of_its_pass(tmp_path, model, late):
    gateway = made_gateway(tmp_path, model=model)
    readings = [
        ("p0", "a", at(6, 4), 0.31), ("p0", "b", at(6, 4), 0.27), ("p2", "", at(6, 22), 0.35),
        ("p2", "", at(5), 0.9), ("p3", "z", at(7), 0.9),  # other days: no pass
    ]  # fmt: skip
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    if not late:
        put(gateway, *readings)
    drop(gateway, columns_of(6), "6.csv")
    events = scanned(gateway)
    if late:
        put(gateway, *readings)
        events = scanned(gateway)
    (used,) = events.named("probes_used")
    assert used["rows"] == 3
    bare, found = uncorrected(model, (0, 6)), stored(gateway)
    moved = effect_of({
        "p0": [0.31 - bare["p0", at(6, 0)], 0.27 - bare["p0", at(6, 0)]],
        "p2": [0.35 - bare["p2", at(6, 0)]],
    })  # fmt: skip
    assert abs(moved) > 0.005
    for (paddock, acquired, _), value in found.items():
        here = moved if acquired == at(6, 0) else 0.0
        assert value.sm == pytest.approx(np.clip(bare[paddock, acquired] + here, 0, 1), abs=2e-6)
        assert value.sm_lower == pytest.approx(max(0, value.sm - 0.05), abs=2e-6)
        assert value.probes == (3 if here else 0)
        assert value.sm_correction == pytest.approx(here, abs=2e-6)
        assert value.revision == (2 if late and here else 1)
    assert not scanned(gateway).named("probes_used")


def test_of_a_sensor_the_reading_nearest_to_the_pass_counts_once(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    columns = columns_of(0)
    columns["date"] = ["2024-01-01T08:00:00Z"] * 4
    drop(gateway, columns, "a.csv")
    stream = [("p1", "a", at(0, 7 + q / 4), round(0.2 + q / 100, 2)) for q in range(12)]
    put(gateway, *stream)
    (used,) = scanned(gateway).named("probes_used")
    assert used["rows"] == 1
    with Store(gateway.database) as store:
        assert store.db.execute("SELECT at, sm FROM used_probe").fetchall() == [(at(0, 8), 0.24)]
    put(gateway, *stream)  # again
    put(gateway, ("p1", "a", at(0, 11), 0.9), ("p1", "a", at(0, 3), 0.9))
    before = every_revision(gateway)
    assert not scanned(gateway).named("probes_used")
    assert every_revision(gateway) == before
    numbers = []
    for sm in (0.33, 0.24):  # corrected, and back: each is an arrival of its own
        put(gateway, ("p1", "a", at(0, 8), sm))
        assert len(scanned(gateway).named("probes_used")) == 1
        numbers.append(stored(gateway)["p0", at(0, 8), ""])
    assert [value.revision for value in numbers] == [2, 3]
    first = json.loads(before["p0", at(0, 8), "", 1])
    assert numbers[1].sm == first["sm"] != numbers[0].sm


def test_two_passes_of_a_day_are_corrected_each_by_its_own_reading(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    for name, hour, orbit in (("a", 5, "ascending"), ("b", 18, "descending")):
        columns = {**columns_of(hour), "orbit": [orbit] * 4}
        columns["date"] = [f"2024-01-01T{hour:02d}:00:00Z"] * 4
        drop(gateway, columns, f"{name}.csv")
    scanned(gateway)
    bare = stored(gateway)
    put(gateway, ("p0", "", at(0, 6), 0.5), ("p0", "", at(0, 17), 0.1))
    (used,) = scanned(gateway).named("probes_used")
    assert used["rows"] == 2  # each pass has a nearest reading of its own
    for (paddock, acquired, orbit), value in stored(gateway).items():
        sm, hour = (0.5, 5) if orbit == "ASCENDING" else (0.1, 18)
        moved = effect_of({"p0": [sm - bare["p0", at(0, hour), orbit].sm]})
        assert value.sm == pytest.approx(
            np.clip(bare[paddock, acquired, orbit].sm + moved, 0, 1), abs=2e-6
        )


@pytest.mark.parametrize("orbits", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_frames_of_a_pass_share_one_correction(tmp_path, model, orbits, late):
    """Two frames 25 s apart on both sides of midnight, and a pass of the evening before."""
    gateway = made_gateway(tmp_path, model=model)
    frames = {"evening": (0, 18), "first": (0, 24 - 12 / 3600), "second": (1, 13 / 3600)}
    for number, (name, (day, hour)) in enumerate(frames.items()):
        columns = columns_of(number, paddocks=6)
        columns["date"] = [str(np.datetime64(at(day, hour), "s")) + "Z"] * 6
        if orbits:
            columns["orbit"] = ["ASCENDING" if name == "evening" else "DESCENDING"] * 6
        half = {"first": slice(0, 3), "second": slice(3, 6)}.get(name, slice(0, 6))
        drop(gateway, {key: cells[half] for key, cells in columns.items()}, f"{name}.csv")
    readings = [
        ("p1", "", at(0, 23), 0.5), ("p4", "", at(0, 23.5), 0.4),  # of the day the pass starts on
        ("p4", "", at(1, 0.01), 0.01),  # nearer to the second frame, but of another day
        ("p2", "", at(0, 17), 0.1),
    ]  # fmt: skip
    if not late:
        put(gateway, *readings)
    scanned(gateway)
    if late:
        put(gateway, *readings)
        scanned(gateway)
    found = {key[:2]: value for key, value in stored(gateway).items()}
    bare = {key: value.sm - value.sm_correction for key, value in found.items()}
    first, second, evening = (at(*frames[name]) for name in ("first", "second", "evening"))
    measured = {"p1": 0.5, "p2": 0.1, "p4": 0.4}  # of the day on which both passes start
    expected = {
        evening: effect_of({name: [sm - bare[name, evening]] for name, sm in measured.items()}),
        first: effect_of({
            name: [sm - bare[name, second if name == "p4" else first]]
            for name, sm in measured.items()
        }),
    }  # fmt: skip
    for (_, acquired), value in found.items():
        of_pass = expected[evening if acquired == evening else first]
        assert value.sm_correction == pytest.approx(of_pass, abs=2e-6)
        assert value.probes == 3


def test_without_variances_nothing_changes_and_it_is_said_once(tmp_path, plain):
    one, other = (made_gateway(tmp_path / name, model=plain) for name in "ab")
    for gateway in (one, other):
        drop(gateway, columns_of(0), "0.csv")
        scanned(gateway)
    put(one, ("p0", "", at(0), 0.4))
    work = opened(one)
    for _ in range(3):
        work.scan()
    drop(one, columns_of(6), "6.csv")
    work.scan()
    work.close()
    assert len(work.log.named("probes_not_used")) == 1
    drop(other, columns_of(6), "6.csv")
    scanned(other)
    assert every_revision(one) == every_revision(other)
    assert len(list_archive(one.archive)) == 2
    with Store(one.database) as store:
        assert store.newest_probes()["p0"].sm == 0.4  # it still stands beside the value


def test_a_later_model_with_variances_uses_what_is_kept(tmp_path, plain, model):
    gateway = made_gateway(tmp_path, model=plain)
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    put(gateway, ("p0", "", at(0), 0.4))
    assert not scanned(gateway).named("probes_used")
    shutil.copy(model, gateway.spool / "better.onnx")
    events = scanned(gateway)
    assert [item["event"] for item in events if item["event"] != "ready"] == [
        "model_in_use", "probes_used",
    ]  # fmt: skip
    before = every_revision(gateway)
    assert {value.probes for value in stored(gateway).values()} == {1}
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert every_revision(gateway) == before


def test_a_date_of_the_training_is_not_corrected_and_says_so(tmp_path, model):

    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "0.csv")
    work = opened(gateway)
    card = work.loaded.model.card
    data = {**card.training_data, "dates": ["2024-01-01"]}
    work.scan()
    values = stored(gateway)
    found, said = corrected(
        dataclasses.replace(card, training_data=data), values, [Sensed("p0", "", at(0), 0.4)]
    )
    work.close()
    assert found == values
    assert "trained on that date" in said[0]


def test_what_runs_past_the_limits_is_cut_off_and_flagged(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    values = stored(gateway)
    card = load(model).card
    low = dataclasses.replace(card, limits=dataclasses.replace(card.limits, sm=(0.0, 0.45)))
    readings = [Sensed("p0", str(n), at(0), 1.0) for n in range(9)]
    found, _ = corrected(low, values, readings)
    cut = [value for value in found.values() if "sm_clipped" in value.flags]
    assert cut
    for key, value in found.items():
        beyond = values[key].sm + value.sm_correction > 0.45
        assert (value.sm == 0.45) == beyond
        assert bool(flags.mask_of(value.flags) & flags.SM_CLIPPED) == beyond
        assert value.sm_upper <= 0.45


def test_a_value_without_a_number_gets_none(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    columns = columns_of(0)
    columns["vh_db"][1] = ""
    drop(gateway, columns, "a.csv")
    put(gateway, ("p0", "", at(0), 0.4), ("p1", "", at(0), 0.4))
    scanned(gateway)
    found = {key[0]: value for key, value in stored(gateway).items()}
    assert found["p1"].sm is None
    assert (found["p1"].probes, found["p0"].probes) == (0, 1)


# -- whatever the order --------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dynamic", [("doy_sin",), ("vh_over_usual_db", "vh_scene_db")])
def test_the_end_is_the_same_in_whatever_order_all_of_it_came(tmp_path, dynamic, seed):
    """Parts of passes, late ones, and readings before, between and after."""
    model = made_model(tmp_path / "m", dynamic=dynamic, probes=SPREAD)
    dice = random.Random(seed)
    steps = []
    for day in (0, 6, 12, 18):
        columns = columns_of(day, paddocks=5)
        for name, some in (("north", [0, 1]), ("south", [2, 3, 4])):
            part = {key: [cells[i] for i in some] for key, cells in columns.items()}
            steps.append(lambda g, c=part, n=f"{day}{name}.csv": drop(g, c, n))
        for paddock in ("p1", "p3"):
            one = (paddock, "s", at(day, dice.uniform(0, 24)), dice.uniform(0.05, 0.5))
            steps.append(lambda g, one=one: put(g, one))
    calm, wild = (made_gateway(tmp_path / name, model=model) for name in "ab")
    opened(calm).close()
    for step in steps:
        step(calm)
    scanned(calm)
    dice.shuffle(steps)
    opened(wild).close()
    for step in steps:
        step(wild)
        if dice.random() < 0.7:
            scanned(wild)
    scanned(wild)
    one, other = stored(calm), stored(wild)
    assert one.keys() == other.keys()
    assert sum(value.probes == 2 for value in one.values()) >= 10
    for key, value in one.items():
        assert other[key].sm == pytest.approx(value.sm, abs=4e-6)
        assert (other[key].probes, other[key].flags) == (value.probes, value.flags)


def test_a_probe_whose_pass_was_pruned_still_counts_for_the_rest_of_it(tmp_path, model):
    """p0 has newer passes and its inputs are gone; a correction of p1 finds the pass's level."""
    short = made_gateway(tmp_path / "a", "[keep]\nsteps = 4\n", model=model)
    long = made_gateway(tmp_path / "b", model=model)

    def only(day, paddocks):
        columns = columns_of(day, paddocks=3)
        return {key: [cells[i] for i in paddocks] for key, cells in columns.items()}

    for gateway in (short, long):
        drop(gateway, columns_of(0, paddocks=3), "0.csv")
        scanned(gateway)
        put(gateway, ("p0", "", at(0), 0.45))
        scanned(gateway)
        for day in range(6, 48, 6):
            drop(gateway, only(day, [0]), f"{day}.csv")
        scanned(gateway)
        columns = only(0, [1])
        columns["vh_db"][0] -= 1.5
        drop(gateway, columns, "corrected.csv")
        assert scanned(gateway).named("stored")[0]["revisions"] == 1
    with Store(short.database) as store:
        assert len(store.observations(["p0"])) == 4
    one, other = (stored(gateway)["p1", at(0, 0), ""] for gateway in (short, long))
    assert one.revision == other.revision == 3
    assert one.probes == other.probes == 1
    assert one.sm == pytest.approx(other.sm, abs=4e-6)


# -- it survives ---------------------------------------------------------------------------


@pytest.mark.parametrize("backup", [None, "early", "late"])
def test_a_lost_database_comes_to_the_same_keys_and_bytes(tmp_path, model, backup):
    gateway = made_gateway(tmp_path, model=model)

    def keep(when):
        if backup == when:
            with Store(gateway.database) as store:
                recovery.back_up(store, gateway)

    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    put(gateway, ("p0", "a", at(0), 0.4))
    scanned(gateway)
    keep("early")
    put(gateway, ("p0", "a", at(0), 0.3))  # a corrected reading
    scanned(gateway)
    put(gateway, ("p2", "", at(6), 0.2))  # earlier than its pass
    drop(gateway, columns_of(6), "6.csv")
    scanned(gateway)
    keep("late")
    drop(gateway, {k: v[:2] for k, v in columns_of(3).items()}, "3.csv")
    put(gateway, ("p3", "", at(3), 0.9))  # no pass of p3 that day
    scanned(gateway)
    before = every_revision(gateway)
    assert {json.loads(content).get("probes", 0) for content in before.values()} == {0, 1}
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    if backup:
        recovery.restore(gateway, Events())
    events = scanned(gateway)
    assert len(events.named("probes_used")) == {None: 3, "early": 2, "late": 0}[backup]
    assert every_revision(gateway) == before
    assert not scanned(gateway).named("probes_used")  # nor is an older reading used again
    assert every_revision(gateway) == before


@pytest.mark.parametrize(
    ("owner", "where"),
    [(Updater, "store_probes"), (watch, "move_to_archive"), (Updater, "store_rows")],
)
def test_killed_between_the_readings_and_their_pass(tmp_path, model, monkeypatch, owner, where):
    calm, hurt = (made_gateway(tmp_path / name, model=model) for name in "ab")
    for gateway in (calm, hurt):
        opened(gateway).close()
        put(gateway, ("p0", "", at(0), 0.4))
        drop(gateway, columns_of(0), "0.csv")
    scanned(calm)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, where, killed)
        scanned(hurt)
    assert [path.name[:6] for path in hurt.archive.glob("*.probes")] == ["000001"]
    scanned(hurt)
    assert every_revision(hurt) == every_revision(calm)
    assert sorted(p.name for p in hurt.archive.iterdir()) == sorted(
        p.name for p in calm.archive.iterdir()
    )


def test_readings_that_cannot_be_used_do_not_come_round_for_ever(tmp_path, model, monkeypatch):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "0.csv")
    work = opened(gateway)
    work.scan()
    put(gateway, ("p0", "", at(0), 0.4))

    def faulty(*_, **__):
        raise ZeroDivisionError

    monkeypatch.setattr(Updater, "store_probes", faulty)
    for _ in range(3):
        work.scan()
    assert len(work.log.named("fault")) == 1
    assert len(list(gateway.quarantine.glob("*probes.json"))) == 1
    monkeypatch.undo()
    drop(gateway, columns_of(6), "6.csv")
    work.scan()
    assert len(work.log.named("stored")) == 2
    work.close()
    assert len(scanned(gateway).named("probes_used")) == 1  # a start tries once more


def test_an_older_database_is_read_by_who_only_reads(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as db:
        for script in MIGRATIONS[:2]:
            db.executescript(script)
        db.execute("PRAGMA user_version = 2")
        db.execute("INSERT INTO value VALUES ('p', 1, '', 1, .2, .1, .3, 1, 1, '', '', 'm', 0, 1)")
        db.execute("INSERT INTO latest VALUES ('p', 1, '', 1)")
        db.execute("INSERT INTO probe VALUES ('p', '', 1, .2)")
    with Store(path, read_only=True) as store:
        (value,) = store.latest()
    assert (value.sm_correction, value.probes) == (0, 0)
    assert "probes" not in record(value)  # the bytes it was told with


def test_readings_go_at_the_age_of_values(tmp_path, model):
    gateway = made_gateway(tmp_path, "[keep]\nvalues_days = 10\nsteps = 4\n", model=model)
    for day in range(0, 48, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
        opened(gateway).close()
        put(gateway, ("p0", "", at(day), 0.3))
    scanned(gateway)
    with Store(gateway.database) as store:
        recovery.drop_old_values(store, gateway.keep)
        # ten days before 18, the median of the passes
        assert [row[2] for row in store.probes()] == [at(day) for day in range(12, 48, 6)]
        used = [row[0] for row in store.db.execute("SELECT at FROM used_probe ORDER BY at")]
    assert used == [at(day) for day in range(12, 48, 6)]


# -- asked and told ------------------------------------------------------------------------


def test_retrieve_on_post_says_what_the_arrival_would(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    put(gateway, ("p0", "", at(6), 0.45), ("p1", "", at(0), 0.1))
    scanned(gateway)
    work = opened(gateway)
    for day, some in ((6, [0, 1, 2, 3]), (0, [2])):  # the second: its probe is not in the table
        columns = {key: [cells[i] for i in some] for key, cells in columns_of(day).items()}
        intake = rows_of_columns(
            columns, "posted", TableRules(work.paddocks, {}, work.loaded.inputs)
        )
        tried = retrieve_without_storing(work.store, work.loaded, intake.rows)
        drop(gateway, columns, f"{day}-again.csv")
        work.scan()
        found = stored(gateway)
        assert len(tried) == len(some)
        for key, value in tried.items():
            assert value.probes == 1
            assert (value.sm, value.sm_correction) == (found[key].sm, found[key].sm_correction)
    work.close()


@pytest.mark.parametrize("given", [None, "simulated"])
def test_a_table_of_simulated_data_gives_simulated_values(tmp_path, model, given):
    gateway = made_gateway(tmp_path, model=model)
    columns = columns_of(0)
    extra = {"source": [given] * len(columns["site"])} if given else {}
    drop(gateway, {**columns, **extra}, "0.csv")
    scanned(gateway)
    before = load(model).card.simulated
    assert {value.simulated for value in stored(gateway).values()} == {int(before or bool(given))}


def test_probes_by_mqtt_and_http_correct_what_is_told(tmp_path, model, broker, listener):
    text = broker.toml + "probes = true\n[serve]\nport = 0\n"
    gateway = made_gateway(tmp_path, text, paddocks=4, model=model)
    bare = uncorrected(model, (0,))
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        url = watched.until("serving")["url"]
        drop(gateway, columns_of(0), "0.csv")
        watched.until("stored")
        one = {"sm": 0.31, "at": "2024-01-01T04:00:00Z"}
        listener.client.publish("kgsm/farm/probe/p1", json.dumps(one), qos=1)
        assert watched.until("probes_used")["revisions"] == 4
        body = {"readings": [{"paddock": "p2", "sensor": "b", "at": "2024-01-01", "sm": 0.05}]}
        request = urllib.request.Request(
            f"{url}v1/probes", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        assert urllib.request.urlopen(request, timeout=PATIENCE_S).status == 201
        assert watched.until("probes_used")["revisions"] == 4
        listener.until(lambda seen: len(seen.of("/record")) >= 12)
        # a state that is past before it was published is left out; the last one is not
        listener.until(
            lambda seen: {json.loads(m[1])["revision"] for m in last_states(seen)} == {3}
        )
        page = urllib.request.urlopen(url, timeout=PATIENCE_S).read().decode()
        watched.stop()
    records = [json.loads(payload) for _, payload, _ in listener.of("/record")]
    told = {(found["paddock"], found["revision"]): found for found in records}
    assert len(told) == 12
    moved = effect_of({"p1": [0.31 - bare["p1", FIRST]], "p2": [0.05 - bare["p2", FIRST]]})
    for paddock in ("p0", "p1", "p2", "p3"):
        last = told[paddock, 3]
        assert last["probes"] == 2
        assert last["sm_correction"] == pytest.approx(moved, abs=2e-6)
        assert last["sm"] == pytest.approx(np.clip(bare[paddock, FIRST] + moved, 0, 1), abs=2e-6)
        assert "probes" not in told[paddock, 1]
    assert f"Corrected with probes (2): {100 * moved:+.1f} % of volume." in page


def last_states(listener):
    """Return the last message of each topic of a present state."""
    return {message[0]: message for message in listener.of("/state")}.values()


def test_who_serves_alone_leaves_it_to_the_watch(tmp_path, model):
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n", model=model)
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    with Running("serve", gateway.source) as serving:
        url = serving.until("serving")["url"]
        body = {"readings": [{"paddock": "p2", "at": "2024-01-01", "sm": 0.05}]}
        request = urllib.request.Request(
            f"{url}v1/probes", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        assert urllib.request.urlopen(request, timeout=PATIENCE_S).status == 201
        time.sleep(0.2)
        serving.stop()
    assert {value.probes for value in stored(gateway).values()} == {0}
    scanned(gateway)
    assert {value.probes for value in stored(gateway).values()} == {1}


@pytest.mark.realdata
def test_boort_is_corrected_as_predict_corrects_it(tmp_path, model, shared_data):
    """Real paddocks, made-up sensors: `predict --probes` on the same table gives the same."""
    with (shared_data / "boort" / "boort.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["date"] != "2022-01-21"]
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    outlines = f'[paddocks]\nid = "polygon_id"\noutlines = "{shared_data}/boort/paddocks.geojson"\n'
    gateway = made_gateway(tmp_path, outlines, model=model)
    table = drop(gateway, columns, "boort.csv")
    shutil.copy(table, tmp_path / "boort.csv")
    probes = [("3", "2021-08-06", 0.31), ("40", "2021-08-06", 0.26), ("7", "2022-06-02", 0.12)]
    seconds = {d: int(np.datetime64(d, "s").astype(np.int64)) for _, d, _ in probes}
    put(gateway, *((name, "", seconds[day] + 9 * 3600, sm) for name, day, sm in probes))
    scanned(gateway)
    lines = ["site,date,sm", *(f"{name},{day},{sm}" for name, day, sm in probes)]
    (tmp_path / "probes.csv").write_text("\n".join(lines) + "\n")
    subprocess.run(
        [*COMMAND, "predict", model, "boort.csv", "--probes", "probes.csv", "-o", "out.csv"],
        cwd=tmp_path, check=True, capture_output=True,
    )  # fmt: skip
    found = {(key[0], key[1]): value for key, value in stored(gateway).items()}
    with (tmp_path / "out.csv").open() as file:
        expected = list(csv.DictReader(file))
    assert len(expected) == len(found) == 173 + 155
    for row in expected:
        value = found[row["site"], seconds[row["date"][:10]]]
        assert (value.sm is None) == (row["sm"] == "")
        if row["sm"]:
            assert value.sm == pytest.approx(float(row["sm"]), abs=3e-6)
            assert value.sm_correction == pytest.approx(float(row["sm_correction"]), abs=3e-6)
            assert value.probes == int(row["probes"]) > 0
