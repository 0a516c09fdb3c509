"""Hostile files, clocks, messages and disks: each costs itself and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections import Counter
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_brokers import MOSQUITTO, free_port, listens
from made_gateways import (
    DAY,
    Events,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    stored,
    write_outlines,
)
from running import PATIENCE_S, Running, wait_for

from kgsm_infer.base.errors import DataError, MissingError
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.intake import archive
from kgsm_infer.gateway.intake.archive import digest_of, list_archive
from kgsm_infer.gateway.intake.settling import UNCLOSED_S, FolderEvents
from kgsm_infer.gateway.intake.spool import has_its_end, is_temporary
from kgsm_infer.gateway.keys import device_id, escape_name, paddock_key, slug
from kgsm_infer.gateway.log import log_line
from kgsm_infer.gateway.publish.homeassistant import PaddockDevice, discovery
from kgsm_infer.gateway.service import recovery, watch
from kgsm_infer.gateway.service.loop import remove_acquisition
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.failures import StoreBroken, StoreFull
from kgsm_infer.gateway.store.rows import Sensed
from kgsm_infer.gateway.threads import Backoff, Task
from kgsm_infer.gateway.update import arrival, past, retrieval
from kgsm_infer.gateway.update.arrival import Updater
from kgsm_infer.tables import parsing

NEW_YEAR = 1704067200


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


def opened(gateway, log=None):
    made = Watch(gateway, load_paddocks(gateway), Events() if log is None else log)
    made.open()
    return made


def closed(*names):
    return FolderEvents(tuple((name, True) for name in names))


def text_of(columns) -> bytes:
    rows = [
        ",".join(columns),
        *(",".join(map(str, row)) for row in zip(*columns.values(), strict=True)),
    ]
    return "\n".join(rows).encode() + b"\n"


def numbers_of(gateway, paddock, day):
    with Store(gateway.database, read_only=True) as store:
        (row,) = [
            row for row in store.observations([paddock]) if row.acquired == NEW_YEAR + day * DAY
        ]
        return row.numbers


# -- what is stored is what was hashed -------------------------------------------------------


def test_a_file_renamed_over_one_that_is_being_processed_is_stored_itself(
    tmp_path, model, monkeypatch
):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    corrected = {**columns_of(0), "vh_db": [-12.0] * 4}
    move = watch.move_to_archive

    def late(path, *rest):
        (gateway.spool / ".new").write_bytes(text_of(corrected))
        os.replace(gateway.spool / ".new", path)
        return move(path, *rest)

    monkeypatch.setattr(watch, "move_to_archive", late)
    scanned(gateway)
    monkeypatch.undo()
    assert numbers_of(gateway, "p0", 0)["vh_db"] == -12.0
    (item,) = list_archive(gateway.archive)
    assert digest_of(item.path) == item.digest
    drop(gateway, columns_of(0), "a.csv")  # the older version again: the last one counts
    assert scanned(gateway).named("stored")
    assert numbers_of(gateway, "p0", 0)["vh_db"] == columns_of(0)["vh_db"][0]


def test_original_correction_original_again(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    original, correction = columns_of(0), {**columns_of(0), "vh_db": [-12.0] * 4}
    revisions = []
    for columns in (original, correction, original, original):
        drop(gateway, columns, "a.csv")
        events = scanned(gateway)
        revisions.append(stored(gateway)["p0", NEW_YEAR, ""].revision)
    assert events.named("seen_before")  # the fourth changes nothing
    assert revisions == [1, 2, 3, 3]
    before = stored(gateway)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert stored(gateway) == before


def test_an_archived_file_that_changes_is_read_again(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    path = drop(gateway, columns_of(0), "a.csv")
    with path.open("ab") as late:  # a writer that has the file open across the move
        made = opened(gateway)
        made.scan(closed("a.csv"))
        late.write(text_of(columns_of(6)).split(b"\n", 1)[1])
    made.check_archive()
    made.close()
    assert made.log.named("archive_changed")
    assert len(stored(gateway)) == 8
    assert [item.number for item in list_archive(gateway.archive)] == [2]
    before = stored(gateway)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert {key: value.sm for key, value in stored(gateway).items()} == {
        key: value.sm for key, value in before.items()
    }


def test_a_stalled_upload_waits_until_it_is_closed(tmp_path, model):
    gateway = made_gateway(tmp_path, "rescan_s = 1.0\n", model=model)
    text = gateway.source.read_text()  # a scan may meet the file before its first byte
    gateway.source.write_text(text.replace("stable_s = 0.0", "stable_s = 60.0"))
    content = text_of(columns_of(0, paddocks=20))
    with Running("watch", gateway.source) as watched:
        watched.until("ready")
        with (gateway.spool / "upload.csv").open("wb", buffering=0) as file:
            file.write(content[: len(content) // 2])
            drop(gateway, columns_of(6), "other.csv")
            assert watched.until("waiting")["file"] == "upload.csv"
            assert watched.until("stored")["file"] == "other.csv"
            for day in (12, 18):  # each is found by another scan
                drop(gateway, columns_of(day), f"{day}.csv")
                assert watched.until("stored")["file"] == f"{day}.csv"
            assert "upload.csv" not in [
                e.get("file") for e in watched.lines if e["event"] == "stored"
            ]
            file.write(content[len(content) // 2 :])
        assert watched.until("stored")["file"] == "upload.csv"
        watched.stop()
    assert len([key for key in stored(gateway) if key[1] == NEW_YEAR]) == 20
    assert all(digest_of(item.path) == item.digest for item in list_archive(gateway.archive))


@pytest.mark.parametrize("cut", [1, 30])
def test_a_file_without_its_end_waits_for_a_stated_time(tmp_path, model, cut):
    gateway = made_gateway(tmp_path, model=model)
    gateway.spool.mkdir()
    path = gateway.spool / "a.csv"
    path.write_bytes(text_of(columns_of(0))[:-cut])
    made = opened(gateway)
    made.scan(first=True)
    assert path.exists()
    assert f"{UNCLOSED_S:g} s" in made.log.named("waiting")[0]["reason"]
    made.scan()
    assert len(made.log.named("waiting")) == 1
    old = time.time() - UNCLOSED_S - 1
    os.utime(path, (old, old))
    made.scan(first=True)
    made.close()
    assert not path.exists()


# -- dates ------------------------------------------------------------------------------------


def test_a_mistyped_year_costs_its_row_alone_on_every_clock(tmp_path, model, monkeypatch):
    gateway = made_gateway(tmp_path, "[keep]\nvalues_days = 3650\n", model=model)
    for year in range(2018, 2026):
        columns = {**columns_of(0), "date": [f"{year}-03-01"] * 4}
        drop(gateway, columns, f"{year}.csv")
    bad = {**columns_of(6), "date": ["2062-03-13", *["2026-03-13"] * 3]}
    drop(gateway, bad, "typo.csv")
    events = scanned(gateway)
    (refused,) = events.named("rows_refused")
    assert (refused["file"], refused["count"]) == ("typo.csv", 1)
    assert "row 2" in refused["reasons"][0] and "2062-03-13" in refused["reasons"][0]
    made = opened(gateway)
    made.keep_house()
    made.close()
    assert len(stored(gateway)) == 4 * 8 + 3
    before = stored(gateway)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    monkeypatch.setattr(time, "time", lambda: 3.2e9)  # 2071: the decision is in the archive
    scanned(gateway)
    assert stored(gateway) == before


def test_a_box_without_a_clock_accepts_new_passes(tmp_path, model, monkeypatch):
    gateway = made_gateway(tmp_path, model=model)
    monkeypatch.setattr(time, "time", lambda: 3600.0)
    columns = {**columns_of(0), "date": ["2027-06-01", "2027-06-01", "2027-06-01", "2099-06-01"]}
    drop(gateway, columns, "a.csv")
    events = scanned(gateway)
    assert len(stored(gateway)) == 3
    assert events.named("rows_refused")[0]["count"] == 1


def test_an_acquisition_is_removed_and_stays_removed(tmp_path):
    model = made_model(tmp_path / "m", dynamic=("vh_over_driest_db",))
    gateway, other = (made_gateway(tmp_path / name, model=model) for name in "ab")
    for day in (0, 6, 12, 18):
        columns = columns_of(day)
        if day == 6:
            columns["vh_db"][0] = -29.0
        drop(gateway, columns, f"{day}.csv")
        if day == 6:
            columns = {key: cells[1:] for key, cells in columns.items()}
        drop(other, columns, f"{day}.csv")
    scanned(gateway)
    scanned(other)
    remove_acquisition(gateway, "p0", "2024-01-07")
    events = scanned(gateway)
    assert events.named("removed")[0]["revisions"] >= 1
    expected = {key: value.sm for key, value in stored(other).items()}
    assert {key: value.sm for key, value in stored(gateway).items()} == pytest.approx(
        expected, abs=2e-6
    )
    remove_acquisition(gateway, "p0", "2024-01-19T00:00:00Z")  # the present one
    scanned(gateway)
    with Store(gateway.database) as store:
        assert store.latest_of("p0").acquired == NEW_YEAR + 12 * DAY
    before = stored(gateway)
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert stored(gateway).keys() == before.keys()


# -- rules that change ------------------------------------------------------------------------


def test_an_outline_added_later_reads_the_archive_again(tmp_path, model):
    gateway = made_gateway(tmp_path, paddocks=2, model=model)
    for day in (0, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
    corrected = {**columns_of(0), "vh_db": [-15.0] * 4}
    drop(gateway, corrected, "corrected.csv")
    scanned(gateway)
    before = stored(gateway)
    assert {key[0] for key in before} == {"p0", "p1"}
    write_outlines(tmp_path / "paddocks.geojson", 3)
    events = scanned(gateway)
    assert events.named("rules_changed")
    after = stored(gateway)
    assert {key[0] for key in after} == {"p0", "p1", "p2"}
    assert {key: after[key] for key in before} == before  # no revision of what did not change
    assert numbers_of(gateway, "p2", 0)["vh_db"] == -15.0
    assert not scanned(gateway).named("rules_changed")


def test_a_lost_database_repeats_the_outlines_of_each_time(tmp_path, model):
    """Paddocks leave and return; a store built again has the same revisions and bytes."""
    probes = {"date": 0.004, "field": 0.002, "point": 0.001}
    model = made_model(tmp_path / "m", dynamic=("vh_over_usual_db",), probes=probes)
    gateway = made_gateway(tmp_path, paddocks=4, model=model)
    for at, count in enumerate((4, 2, 3, 1, 4, 4)):
        write_outlines(tmp_path / "paddocks.geojson", count)
        drop(gateway, columns_of(6 * at), f"{at}.csv")
        scanned(gateway)
        with Store(gateway.database) as store:  # used at the next start, by other outlines
            store.put_probes([Sensed("p0", "", NEW_YEAR + 6 * at * DAY + 60, 0.4)])
    late = columns_of(6)
    late["vh_db"] = [-14.0] * 4
    drop(gateway, late, "late.csv")
    scanned(gateway)

    def revisions():
        with Store(gateway.database, read_only=True) as store:
            return {
                value.key: value
                for paddock in ("p0", "p1", "p2", "p3")
                for value in store.series(paddock, revisions=True)
            }

    before = revisions()
    assert len({key[0] for key in before}) == 4 and max(key[3] for key in before) > 2
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert revisions() == before
    assert not scanned(gateway).named("rules_changed")


@pytest.mark.parametrize("again", [4, 2])
def test_a_change_of_rules_that_was_interrupted_is_repeated(tmp_path, model, again):
    gateway = made_gateway(tmp_path, paddocks=2, model=model)
    for day in range(0, 30, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
    scanned(gateway)
    write_outlines(tmp_path / "paddocks.geojson", 4)
    made = Watch(gateway, load_paddocks(gateway), Events())
    made.may_go_on = lambda: len(made.log.named("stored")) < 2
    made.open()
    made.close()
    assert len(made.log.named("stored")) == 2
    write_outlines(tmp_path / "paddocks.geojson", again)  # before the first change is done
    events = scanned(gateway)
    assert len(events.named("rules_changed")) == (1 if again == 4 else 2)
    before = stored(gateway)
    assert {key[0] for key in before} == {"p0", "p1", "p2", "p3"}
    assert len(before) == 20
    assert not scanned(gateway).named("rules_changed")
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    scanned(gateway)
    assert stored(gateway) == before


def test_contradictions_chosen_later_read_the_archive_again(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    twice = columns_of(0)
    for name, cells in twice.items():
        cells.append(round(cells[0] + 2, 3) if name == "angle_deg" else cells[0])
    drop(gateway, twice, "a.csv")
    scanned(gateway)
    assert stored(gateway)["p0", NEW_YEAR, ""].sm is None
    scanned(made_gateway(tmp_path, 'contradictions = "first"\n', model=model))
    assert stored(gateway)["p0", NEW_YEAR, ""].sm is not None


# -- names -----------------------------------------------------------------------------------

NAMES = [
    b"paddock_\xe9.csv",
    b"a\nb.csv",
    b"x" * 186 + b".csv",
    b"\xff" * 251 + b".csv",
    b"back\\slash.csv",
    "höhe ☂.csv".encode(),
    b"000007-" + b"0" * 64 + b"-a.csv",
    b"000007-" + b"0" * 64 + b".csv",
]


@pytest.mark.parametrize("bad", [False, True])
def test_no_name_of_a_file_costs_more_than_the_file(tmp_path, model, bad, capsysbinary):
    gateway = made_gateway(tmp_path, model=model)
    gateway.spool.mkdir()
    for at, name in enumerate(NAMES):
        content = b"site\nx\n" if bad else text_of(columns_of(6 * at))
        (gateway.spool / os.fsdecode(name)).write_bytes(content)
    events = Events()

    def both(event, **details):
        events(event, **details)
        log_line(event, **details)

    scanned(gateway, log=both)
    done = events.named("quarantined" if bad else "stored")
    assert {item["file"] for item in done} == {escape_name(name) for name in NAMES}
    assert os.listdir(gateway.spool) == []
    lines = capsysbinary.readouterr().err.splitlines()
    assert all(json.loads(line.decode("utf-8"))["event"] for line in lines)
    if not bad:
        names = {item.name for item in list_archive(gateway.archive)}
        assert names == {escape_name(name) for name in NAMES}
        before = stored(gateway)
        for path in gateway.state.glob("gateway.db*"):
            path.unlink()
        scanned(gateway)
        assert stored(gateway).keys() == before.keys()


def test_an_archive_of_an_earlier_version_is_read(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    before = stored(gateway)
    (item,) = list_archive(gateway.archive)
    item.path.rename(gateway.archive / f"000001-{item.digest}-pass of monday.csv")
    item.sidecar.unlink()
    for path in gateway.state.glob("gateway.db*"):
        path.unlink()
    assert scanned(gateway).named("stored")[0]["file"] == "pass of monday.csv"
    assert stored(gateway) == before


def test_entries_left_alone_are_reported_once(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    (gateway.spool / "2024").mkdir(parents=True)
    drop(gateway, columns_of(0), "real.csv").rename(tmp_path / "real.csv")
    (gateway.spool / "link.csv").symlink_to(tmp_path / "real.csv")
    (gateway.spool / "t.zip").write_bytes(b"PK\x03\x04")
    os.mkfifo(gateway.spool / "pipe.csv")
    made = opened(gateway)
    for _ in range(3):
        made.scan()
    made.close()
    reasons = {item["file"]: item["reason"] for item in made.log.named("ignored")}
    assert len(made.log.named("ignored")) == len(reasons) == 4
    assert "folder" in reasons["2024"] and "symbolic link" in reasons["link.csv"]
    assert "manifest" in reasons["t.zip"] and "regular file" in reasons["pipe.csv"]
    assert made.left_behind == 4


@pytest.mark.parametrize(
    "name",
    [
        *("a.csv.part", "a.csv.partial", "a.csv.crdownload", "a.csv.!sync", "a.csv~", "a.csv.tmp"),
        *("a.csv.filepart", ".a.csv.AbC123", ".syncthing.a.csv.tmp", "~syncthing~a.csv.tmp"),
        *("a.csv.ocTransferId123.part", ".a.csv.~1a2b", "a.csv.~1a2b", "~$a.csv", "A.CSV.PART"),
    ],
)
def test_unfinished_files_of_other_programs_are_left(name):
    assert is_temporary(name)
    assert not is_temporary("a.csv")


def test_the_end_of_a_file(tmp_path):
    ends = {b"a\n": True, b"a\r\n": True, b"a": False, b"": True, "a\n".encode("utf-16"): True}
    for content, whole in ends.items():
        (tmp_path / "a.csv").write_bytes(content)
        assert has_its_end(tmp_path / "a.csv") is whole
    (tmp_path / "a.parquet").write_bytes(b"PAR1....PAR1")
    assert has_its_end(tmp_path / "a.parquet")
    (tmp_path / "a.parquet").write_bytes(b"PAR1....")
    assert not has_its_end(tmp_path / "a.parquet")


# -- keys ------------------------------------------------------------------------------------

_IDS = st.one_of(
    st.text(max_size=12),
    st.text(alphabet="abcdef0123456789_-/ ", max_size=40),
    st.sampled_from(["back paddock/2", "north_1", "1", "7", "7.0"]),
)


@settings(deadline=None)
@given(_IDS, _IDS)
def test_different_paddocks_have_different_slugs(one, other):
    found = slug(one), slug(other), slug(slug(one))
    assert (found[0] == found[1]) == (one == other)
    assert found[2] == found[0] or one != slug(one)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
               and 0 < len(name) <= 64 for name in found if name)  # fmt: skip


@settings(deadline=None)
@given(_IDS)
def test_no_paddock_is_named_like_the_slug_of_another(one):
    other = slug(one)
    if other != one:
        assert slug(other) != other


_GATEWAYS = st.text(alphabet="ab01_-", min_size=1, max_size=8)


@settings(deadline=None)
@given(st.tuples(_GATEWAYS, st.none() | _IDS), st.tuples(_GATEWAYS, st.none() | _IDS))
def test_no_two_devices_share_an_id(one, other):
    assert (device_id(*one) == device_id(*other)) == (one == other)


def test_the_devices_of_the_issue_differ(tmp_path, model):
    topics = []
    for name, paddock in (("farm", "north_1"), ("farm_north", "1"), ("farm", "north")):
        gateway = made_gateway(tmp_path / name, '[mqtt]\nhost = "h"\n', model=model)
        devices = {paddock: PaddockDevice(paddock)}
        topics += [topic for topic, _ in discovery(gateway.mqtt, name, "", devices)]
    assert len(set(topics)) == 5  # two gateways and three paddocks
    assert device_id("farm", "north_1") != device_id("farm_north", "1")
    assert device_id("farm_north") != device_id("farm", "north")
    assert slug("back_paddock_2_9d5c5b04") != slug("back paddock/2")


@pytest.mark.parametrize("cells", [["7.0", "8.0"], ["7", "8"], [7.0, 8.0]])
def test_a_paddock_written_as_a_decimal_is_the_whole_number(tmp_path, model, cells):
    assert paddock_key("7.0") == "7"
    gateway = made_gateway(tmp_path, paddocks=2, model=model)
    raw = json.loads((tmp_path / "paddocks.geojson").read_text())
    for at, feature in enumerate(raw["features"]):
        feature["id"] = 7 + at
    (tmp_path / "paddocks.geojson").write_text(json.dumps(raw))
    drop(gateway, {**columns_of(0, paddocks=2), "site": cells}, "a.csv")
    points = columns_of(6, paddocks=2)
    drop(gateway, {**points, "field": cells, "site": ["x", "y"]}, "b.csv")
    scanned(gateway)
    assert {key[0] for key in stored(gateway)} == {"7", "8"}


# -- one watch, threads, disks ----------------------------------------------------------------


def test_a_second_watch_of_one_state_folder_is_refused(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    first = opened(gateway)
    with pytest.raises(MissingError, match="another watch"):
        opened(gateway)
    first.close()
    opened(gateway).close()


def test_a_thread_that_fails_or_is_killed_is_started_again():
    events, runs = Events(), []

    def run(task):
        runs.append(task.name)
        if len(runs) == 1:
            raise SystemExit("killed")
        if len(runs) == 2:
            raise RecursionError
        if len(runs) == 3:
            return "not yet"
        return None

    task = Task("t", run, events, Backoff(0.01, 0.02))
    task.start()
    wait_for(lambda: len(runs) >= 4 and not task.reason)
    assert [item["thread"] for item in events.named("fault")] == ["t", "t"]
    assert task.is_well() and task.status()["state"] == "ok" and task.status()["restarts"] == 2
    task.stop()
    assert not task._thread.is_alive()


def test_a_thread_that_breaks_its_promise_is_not_well():
    ended = threading.Event()
    task = Task("t", lambda task: ended.wait(PATIENCE_S) and None, Events())
    task.start()
    task.expect(-1.0)
    assert not task.is_well() and task.status()["state"] == "stuck"
    ended.set()
    task.stop()


def test_a_stop_ends_a_backlog_between_files_and_blocks(tmp_path, model, monkeypatch):
    gateway = made_gateway(tmp_path, model=model)
    monkeypatch.setattr(arrival, "BLOCK_ROWS", 8)
    many = {name: [] for name in columns_of(0)}
    for day in range(0, 60, 6):
        for name, cells in columns_of(day).items():
            many[name] += cells
    drop(gateway, many, "a.csv")
    drop(gateway, columns_of(66), "b.csv")
    made = opened(gateway)
    beats = []

    def beat():
        beats.append(len(stored(gateway)))
        return beats[-1] < 16

    made.may_go_on = beat
    made.guarded(made.scan)
    made.close()
    part = stored(gateway)
    assert len(part) == 16
    # beats while the first file is read, and in each block
    assert beats == [0] * beats.count(0) + [8] * beats.count(8) + [16]
    assert beats.count(0) >= 5 and beats.count(8) >= 2
    assert (gateway.spool / "b.csv").exists()
    scanned(gateway)
    whole = made_gateway(tmp_path / "whole", model=model)
    drop(whole, many, "a.csv")
    drop(whole, columns_of(66), "b.csv")
    scanned(whole)
    assert {k: (v.sm, v.revision) for k, v in stored(gateway).items()} == {
        k: (v.sm, v.revision) for k, v in stored(whole).items()
    }


@pytest.mark.parametrize("fault", [None, "full", "broken"])
def test_a_file_that_fails_after_a_block_is_recorded_once(tmp_path, model, monkeypatch, fault):
    """Its first block stays; a full or damaged store when that is recorded loses nothing."""
    gateway = made_gateway(tmp_path, "[keep]\nfree_mb = 0\n", model=model)
    monkeypatch.setattr(arrival, "BLOCK_ROWS", 8)
    many = {name: [] for name in columns_of(0)}
    for day in range(0, 36, 6):
        for name, cells in columns_of(day).items():
            many[name] += cells
    plain, record = arrival.retrieved, Updater.record

    def retrieved(loaded, inputs, targets, beat):
        if max(key[1] for key in targets) >= NEW_YEAR + 18 * DAY:
            raise DataError("made to fail")
        return plain(loaded, inputs, targets, beat)

    faults = [{"full": StoreFull, "broken": StoreBroken}[fault]("made to fail")] if fault else []

    def recorded(self, item):
        if faults:
            raise faults.pop()
        record(self, item)

    monkeypatch.setattr(arrival, "retrieved", retrieved)
    monkeypatch.setattr(Updater, "record", recorded)
    drop(gateway, many, "a.csv")
    drop(gateway, columns_of(12), "b.csv")
    made = opened(gateway)
    made.guarded(lambda: made.scan(closed("a.csv", "b.csv")))
    made.guarded(lambda: made.scan(closed("b.csv")))
    made.close()
    assert len(made.log.named("partly_stored")) == (2 if fault else 1)
    assert len(made.log.named("processing_stopped")) == (fault == "full")
    assert len(made.log.named("database_damaged")) == (fault == "broken")
    assert len(stored(gateway)) == 12  # two days of the first block, and the other file
    assert os.listdir(gateway.spool) == []
    assert not scanned(gateway).named("processing_again")


def test_a_late_file_reads_no_more_values_than_its_own(tmp_path, model, monkeypatch):
    """A store of ten years does not fit into memory; inputs of the newest passes alone do."""
    gateway = made_gateway(tmp_path, "[keep]\nsteps = 8\n", model=model)
    for day in range(0, 600, 6):
        drop(gateway, columns_of(day), f"{day:03d}.csv")
    scanned(gateway)
    made = opened(gateway)
    read = []
    plain = Store._all
    monkeypatch.setattr(Store, "_all", lambda *all: read.append(len(found := plain(*all))) or found)
    for day, revisions in ((0, 0), (576, 16)):  # of pruned inputs, and of stored ones
        columns = columns_of(day)
        columns["vh_db"][0] -= 2
        drop(gateway, columns, "late.csv")
        read.clear()
        made.scan(closed("late.csv"))
        assert made.log.named("stored")[-1]["too_old"] == (0 if revisions else 4)
        assert sum(read) < 120  # 400 values are stored
    made.close()


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 4 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], capture_output=True
    )
    if done.returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


@pytest.mark.parametrize("clean", [True, False])
def test_a_start_on_a_full_disk_serves_what_is_stored(tmp_path, small_disk, model, clean):
    gateway = made_gateway(
        tmp_path, f'state = "{small_disk / "state"}"\n[keep]\nfree_mb = 0\n', model=model
    )
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    later = text_of(columns_of(6, paddocks=300))
    made = opened(gateway)
    path = gateway.spool / "b.csv"
    path.write_bytes(later)
    from kgsm_infer.gateway.intake.archive import About, move_to_archive

    move_to_archive(path, gateway.archive, 2, digest_of(path), About("b.csv"))
    if clean:
        made.close()
    with (small_disk / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    if not clean:
        os.close(made._lock)  # as if it had been killed
        made._lock = None
    with Running("watch", gateway.source) as watched:
        watched.until("serving")
        assert watched.process.poll() is None
        assert any(e["event"] == "processing_stopped" for e in watched.lines)
        with Store(gateway.database, read_only=True) as store:
            assert len(store.latest()) >= 4
        (small_disk / "fill").unlink()
        watched.stop()
    made.close()
    scanned(gateway)
    assert len(stored(gateway)) == 304


# -- the broker ------------------------------------------------------------------------------

POISON = [
    b'{"at":"2024-01-07","sm":1' + b"0" * 400 + b"}",
    b"[" * 9000,
    b'{"a":' * 2000 + b"1" + b"}" * 2000,
    b"\xff\xfe",
    b"null",
    b'{"at":["2024"],"sm":{}}',
    b'{"at":"2024-01-07T00:00:00Z","sm":NaN}',
    b'{"at":"2099-01-07","sm":0.3}',
    b"",
]


def test_no_message_ends_the_connection(tmp_path, model, broker, listener):
    gateway = made_gateway(tmp_path, broker.toml + "probes = true\n", model=model)
    drop(gateway, columns_of(0), "a.csv")
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        for content in POISON:
            listener.client.publish("kgsm/farm/probe/p0", content, qos=1, retain=True)
        for _ in POISON:
            watched.until("probe_refused")
        good = json.dumps({"sm": 0.31, "at": "2024-01-01T04:00:00Z"})
        listener.client.publish("kgsm/farm/probe/p1", good, qos=1)
        drop(gateway, columns_of(6), "b.csv")
        listener.until(lambda seen: len(seen.of("/record")) >= 8)
        wait_for(lambda: probed(gateway) == ["p1"], lambda: watched.text)
        assert not [e for e in watched.lines if e["event"] in ("fault", "broker_lost")]
        watched.stop()
    assert probed(gateway) == ["p1"]


def probed(gateway):
    """Return the paddocks of the stored readings."""
    with Store(gateway.database, read_only=True) as store:
        return [row.paddock for row in store.probes()]


def test_a_certificate_that_comes_later_is_used(tmp_path, model, broker):
    gateway = made_gateway(tmp_path, broker.toml, model=model)
    text = gateway.source.read_text()
    later = tmp_path / "later.pem"
    gateway.source.write_text(text.replace(str(broker.folder / "cert.pem"), str(later)))
    with Running("watch", gateway.source) as watched:
        assert "later.pem" in watched.until("certificate_unusable")["reason"]
        assert "later.pem" in watched.until("broker_lost")["reason"]
        later.write_text("no certificate")
        watched.until("broker_lost")
        shutil.copy(broker.folder / "cert.pem", later)
        watched.until("broker_connected")
        assert watched.stop() == 0


def test_a_message_the_broker_denies_is_not_published(tmp_path, model):
    if MOSQUITTO is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    port, folder = free_port(), tmp_path / "broker"
    folder.mkdir()
    (folder / "acl").write_text("topic readwrite kgsm/+/status\n")
    (folder / "acl").chmod(0o644)
    (folder / "conf").write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nacl_file {folder / 'acl'}\nuser root\n"
    )
    broker = subprocess.Popen([MOSQUITTO, "-c", folder / "conf"], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: listens(port))
        gateway = made_gateway(
            tmp_path, f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\ntls = false\n', model=model
        )
        drop(gateway, columns_of(0), "a.csv")
        with Running("watch", gateway.source) as watched:
            watched.until("stored")
            assert "uthor" in watched.until("publish_refused")["reason"]  # Not authorized
            watched.stop()
        with Store(gateway.database) as store:
            assert store.unsent_counts() == {"mqtt": 4}
    finally:
        broker.kill()
        broker.wait()


# -- the tenth year ---------------------------------------------------------------------------


def counted(gateway, columns, name):
    """The SQL statements and the rows read that one arrival costs."""
    made = counted.made
    drop(gateway, columns, name)
    statements = []
    made.store.db.set_trace_callback(statements.append)
    read = []
    plain = json.loads
    arrival_loads = __import__("kgsm_infer.gateway.store.database", fromlist=["json"]).json
    arrival_loads.loads = lambda text: read.append(1) or plain(text)
    try:
        made.scan(closed(name))
    finally:
        arrival_loads.loads = plain
        made.store.db.set_trace_callback(None)
    return len(statements), len(read)


@pytest.mark.parametrize("dynamic", [("doy_sin",), ("vh_over_usual_db",), ("vh_scene_db",)])
def test_an_arrival_costs_the_same_after_many(tmp_path, dynamic):
    model = made_model(tmp_path / "m", dynamic=dynamic, steps=3)
    gateway = made_gateway(tmp_path, "[keep]\nsteps = 20\n", model=model)
    counted.made = opened(gateway)
    try:
        costs = [counted(gateway, columns_of(6 * at, paddocks=8), f"{at}.csv") for at in range(32)]
    finally:
        counted.made.close()
    early, late = costs[6], costs[-3:]  # of three arrivals one prunes what all brought
    assert sorted(late) == sorted(costs[-6:-3])
    assert sum(read for _, read in late) <= 3 * (early[1] + 1)
    assert sum(statements for statements, _ in late) <= 3 * (early[0] + 8 * 5)


def test_the_watchdog_beats_between_the_values_of_a_block(tmp_path, model, monkeypatch):
    monkeypatch.setattr(retrieval, "BEAT_VALUES", 4)
    gateway = made_gateway(tmp_path, model=model)
    made, seen, beats = opened(gateway), [], []
    value_of = retrieval._value
    monkeypatch.setattr(retrieval, "_value", lambda *given: seen.append(1) or value_of(*given))
    made.may_go_on = lambda: beats.append(len(seen)) or True
    drop(gateway, columns_of(0, paddocks=20), "0.csv")
    made.scan(closed("0.csv"))
    made.close()
    assert set(range(0, 20, 4)) <= set(beats)


def test_the_kept_past_and_the_archive_add_no_work_to_an_arrival(tmp_path, monkeypatch):
    model = made_model(tmp_path / "m", dynamic=("vh_over_usual_db",), steps=3)
    gateway = made_gateway(tmp_path, "[keep]\nsteps = 90\n", model=model)
    counts = Counter()
    for module, name in (
        (past, "PlaceState"),
        (past, "_values"),
        (archive, "Archived"),
        (retrieval, "_value"),
        (parsing, "canonical_id"),
    ):
        plain = getattr(module, name)

        def counting(*values, plain=plain, name=name):
            counts[name] += 1
            return plain(*values)

        monkeypatch.setattr(module, name, counting)
    made, costs = opened(gateway), []
    for at in range(40):
        counts.clear()
        drop(gateway, columns_of(6 * at, paddocks=8), f"{at}.csv")
        made.scan(closed(f"{at}.csv"))
        costs.append(dict(counts))
    made.close()
    assert costs[5]["_values"] == costs[5]["_value"] == 8  # one of each paddock
    assert costs[5] == costs[-1]


@pytest.mark.parametrize(
    "dynamic",
    [
        ("doy_sin",),
        ("vh_over_usual_db", "vh_over_driest_db"),
        ("vh_scene_db", "vh_field_db"),
        ("vh_over_usual_db", "vh_scene_db"),
    ],
)
@pytest.mark.parametrize("points", [1, 2])
def test_new_passes_give_what_the_whole_store_gives(tmp_path, monkeypatch, dynamic, points):
    model = made_model(tmp_path / "m", dynamic=dynamic, steps=4)
    text = "[keep]\nsteps = 6\n"
    fast, slow = (made_gateway(tmp_path / name, text, model=model) for name in "ab")
    dice = np.random.default_rng(3)
    one, other = opened(fast), opened(slow)
    for day in range(0, 90, 6):
        columns = columns_of(day, paddocks=5, points=points)
        some = np.flatnonzero(dice.random(5 * points) < 0.8)  # sites that are not in every pass
        if 30 <= day < 84:  # the last paddock stays away while the others are pruned
            some = some[some < 4 * points]
        columns = {key: [cells[at] for at in some] for key, cells in columns.items()}
        for gateway in (fast, slow):
            drop(gateway, columns, f"{day}.csv")
        one.scan(closed(f"{day}.csv"))
        with monkeypatch.context() as patch:
            patch.setattr(Updater, "_newest_rows", lambda *_: None)
            other.scan(closed(f"{day}.csv"))
    one.close()
    other.close()
    assert stored(fast) == stored(slow)
    with Store(fast.database) as first, Store(slow.database) as second:
        assert first.bases() == second.bases()


def test_the_newest_readings_are_found_by_an_index(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    with Store(gateway.database) as store:
        store.put_probes(
            Sensed("p0", sensor, NEW_YEAR + 900 * at, at / 1e4)
            for at in range(3000)
            for sensor in "ab"
        )
        plans = []
        run = store._all
        store._all = lambda query, *values: (
            plans.extend(store.db.execute(f"EXPLAIN QUERY PLAN {query}", values).fetchall())
            or run(query, *values)
        )
        assert store.newest_probes(["p0"])["p0"] == (NEW_YEAR + 900 * 2999, 0.2999, 2)
        assert store.newest_probes().keys() == {"p0"}
        store._all = run
        details = [plan[3] for plan in plans]
        assert not [text for text in details if text.startswith("SCAN probe")]
        recovery.drop_old_values(store, gateway.keep)
        store.limit_probes(None, 100)
        assert len(store.probes()) == 100


def test_quarantine_is_bounded_by_count(tmp_path, model, monkeypatch):
    gateway = made_gateway(tmp_path, model=model)
    monkeypatch.setattr(recovery, "QUARANTINED", 6)
    made = opened(gateway)
    for at in range(5):
        (gateway.spool / "bad.csv").write_bytes(b"x%d\n" % at)
        made.scan(closed("bad.csv"))
    assert len(os.listdir(gateway.quarantine)) == 10
    made.keep_house()
    made.close()
    assert len(os.listdir(gateway.quarantine)) == 6
