"""Damaged databases, full and read-only disks, retention, migrations, models, clocks."""

from __future__ import annotations

import dataclasses
import os
import random
import shutil
import sqlite3
import subprocess
import threading
import time
from contextlib import suppress

import pytest
from made_gateways import Events, columns_of, drop, made_gateway, made_model, scanned, stored
from running import PATIENCE_S

from kgsm_infer.base.errors import MissingError, UsageError
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.intake import archive
from kgsm_infer.gateway.intake.archive import list_archive
from kgsm_infer.gateway.service import recovery
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import MIGRATIONS, Store
from kgsm_infer.gateway.store.failures import StoreFull
from kgsm_infer.gateway.update import models
from kgsm_infer.gateway.update.models import roll_back


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


def opened(gateway, log=None):
    watch = Watch(gateway, load_paddocks(gateway), Events() if log is None else log)
    watch.open()
    return watch


def damage(path, seed=0):
    """Random bytes over pages that are in use."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        for page in range(1, size // 4096):
            file.seek(page * 4096)
            file.write(random.Random(seed + page).randbytes(4096))


# -- damage --------------------------------------------------------------------------------


@pytest.mark.parametrize("with_backup", [True, False])
def test_a_damaged_database_is_put_aside_restored_and_caught_up(tmp_path, model, with_backup):
    gateway = made_gateway(tmp_path, model=model)
    for day in (0, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
        scanned(gateway)
    if with_backup:
        with Store(gateway.database) as store:
            recovery.back_up(store, gateway)
    for day in (18, 12):  # the backup does not know these; one was late
        drop(gateway, columns_of(day), f"{day}.csv")
        scanned(gateway)
    before = stored(gateway)
    damage(gateway.database)
    (gateway.state / "running").touch()
    events = scanned(gateway)
    assert events.named("database_quarantined")
    assert len(events.named("processing_again")) == (2 if with_backup else 4)
    assert stored(gateway) == before  # revisions too: files are retaken in their order
    assert (gateway.quarantine / "database-1" / "gateway.db").exists()


def test_damage_found_while_running_is_mended_without_a_stop(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    events = scanned(gateway)
    watch = opened(gateway, events)
    watch.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    damage(gateway.database)
    watch.store.close()
    watch.store = Store.__new__(Store)  # a connection without the old pages in its cache
    watch.store.path, watch.store._lock = gateway.database, None
    watch.store.db = sqlite3.connect(gateway.database, isolation_level=None)
    drop(gateway, columns_of(6), "b.csv")
    watch.guarded(watch.scan)
    watch.guarded(watch.scan)
    assert events.named("database_damaged")
    watch.close()
    assert len(stored(gateway)) == 8


def test_a_damaged_backup_is_passed_over(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    with Store(gateway.database) as store:
        recovery.back_up(store, gateway)
        newest = recovery.back_up(store, gateway)
    before = stored(gateway)
    damage(gateway.database)
    damage(newest)
    (gateway.state / "running").touch()
    events = scanned(gateway)
    assert [item["backup"] for item in events.named("backup_damaged")] == ["000002.db"]
    assert events.named("database_restored")[0]["backup"] == "000001.db"
    assert stored(gateway) == before


def test_a_restore_waits_until_nobody_may_write(tmp_path, model, monkeypatch):
    """Renamed under a writer, its log would stand beside the file that takes the place."""
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    held, done = threading.Event(), []

    def write():
        with Store(gateway.database) as store:
            held.set()
            time.sleep(0.5)
            store.put_probes([("p0", "", 0, 0.2)])
            done.append("written")

    writer = threading.Thread(target=write)
    writer.start()
    assert held.wait(PATIENCE_S)
    recovery.restore(gateway, lambda event, **_: done.append(event))
    writer.join()
    assert done[0] == "written"
    monkeypatch.setattr("kgsm_infer.gateway.store.lock.PATIENCE_S", 0.1)
    with Store(gateway.database), pytest.raises(MissingError, match="others keep it open"):
        recovery.restore(gateway, Events())
    assert gateway.database.exists()


def test_a_backup_of_a_damaged_database_is_not_kept(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    damage(gateway.database)
    watch = Watch(gateway, load_paddocks(gateway), Events())
    watch.store = Store.__new__(Store)
    watch.store.path, watch.store._lock = gateway.database, None
    watch.store.db = sqlite3.connect(gateway.database, isolation_level=None)
    watch.loaded = None
    with pytest.raises(MissingError):
        watch.keep_house()
    watch.store.close()
    assert recovery.backups(gateway) == []


# -- the disk ------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 3 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", place], capture_output=True
    )
    if done.returncode:
        pytest.skip("no right to mount a small file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def test_a_full_disk_stops_taking_and_not_telling(small_disk, model):
    gateway = made_gateway(small_disk / "g", "[keep]\nfree_mb = 0.5\n", model=model)
    drop(gateway, columns_of(0), "a.csv")
    events = scanned(gateway)
    watch = opened(gateway, events)
    drop(gateway, columns_of(6), "b.csv")
    filler = small_disk / "filler"
    filler.write_bytes(b"x" * int(shutil.disk_usage(small_disk).free - 300_000))
    watch.guarded(watch.scan)
    assert "less than 0.5 MB" in events.named("processing_stopped")[-1]["reason"]
    assert (gateway.spool / "b.csv").exists()
    assert len(watch.store.latest()) == 4  # it can still be told
    with Store(gateway.database) as reader:
        assert len(reader.latest()) == 4
    filler.unlink()
    watch.guarded(watch.scan)
    assert events.named("room_again")
    watch.close()
    assert len(stored(gateway)) == 8


def test_a_disk_that_fills_in_the_middle_stores_nothing_by_halves(small_disk, model):
    gateway = made_gateway(small_disk / "g", "[keep]\nfree_mb = 0\n", model=model)
    drop(gateway, columns_of(0), "a.csv")
    events = scanned(gateway)
    watch = opened(gateway, events)
    drop(gateway, columns_of(6, paddocks=400), "b.csv")
    filler = small_disk / "filler"
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while file.write(b"x" * 4096):
            pass
    watch.guarded(watch.scan)
    assert events.named("processing_stopped")
    assert watch.store.counts()["value"] == 4
    filler.unlink()
    watch.guarded(watch.scan)  # it is in the archive already: nothing new has to come
    watch.close()
    assert len(stored(gateway)) == 404
    assert {value.revision for value in stored(gateway).values()} == {1}


def test_a_spool_that_may_not_be_written_is_read_once(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    drop(gateway, columns_of(0), "a.csv")
    (gateway.spool / "bad.csv").write_text("x\n")
    done = subprocess.run(
        f"mount --bind {gateway.spool} {gateway.spool} && "
        f"mount -o remount,bind,ro {gateway.spool}", shell=True, capture_output=True,
    )  # fmt: skip
    if done.returncode:
        pytest.skip("no right to mount a folder read-only")
    try:
        events = Events()
        watch = opened(gateway, events)
        for _ in range(3):
            watch.guarded(watch.scan)
        watch.close()
        scanned(gateway, log=events)
        assert len(events.named("stored")) == 1
        assert len(events.named("seen_before")) <= 3
        assert len(stored(gateway)) == 4
    finally:
        subprocess.run(["umount", "-l", gateway.spool], check=True)
    assert scanned(gateway).named("stored") == []  # writable again: cleared, not taken again
    assert list(gateway.spool.iterdir()) == []


def test_errors_of_the_disk_are_told_from_damage(tmp_path, monkeypatch):
    store = Store(tmp_path / "a.db")
    store.db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(StoreFull, match="cannot be written"), store.transaction():
        for at in range(2000):
            store.put_arrival(at + 1, f"{at:064d}", "x" * 500, "table", [])
    assert store.counts()["value"] == 0
    store.close()


# -- keeping -------------------------------------------------------------------------------


def test_retention_keeps_the_present_and_what_a_restore_needs(tmp_path, model):
    gateway = made_gateway(
        tmp_path, "[keep]\nvalues_days = 10\narchive_mb = 0\nquarantine_mb = 0\n", model=model
    )
    for day in (0, 6, 12, 18):
        drop(gateway, columns_of(day), f"{day}.csv")
    (gateway.spool / "bad.csv").write_text("x\n")
    scanned(gateway)
    watch = opened(gateway)
    watch.keep_house()
    drop(gateway, columns_of(24), "24.csv")
    watch.scan()
    recovery.drop_old_values(watch.store, gateway.keep)
    recovery.limit_files(gateway)
    watch.close()
    days = {key[1] for key in stored(gateway)}
    assert len(days) == 4  # from 6 on: within ten days of 12, the median of the newest passes
    assert [item.name for item in list_archive(gateway.archive)] == ["24.csv"]  # not backed up
    assert list(gateway.quarantine.iterdir()) == []
    before = stored(gateway)
    damage(gateway.database)
    (gateway.state / "running").touch()
    watch = opened(gateway)
    watch.keep_house()
    watch.close()
    assert stored(gateway) == before


def test_backups_are_rotated(tmp_path, model):
    gateway = made_gateway(tmp_path, "[keep]\nbackups = 2\n", model=model)
    watch = opened(gateway)
    for _ in range(4):
        watch.keep_house()
    watch.close()
    assert [path.name for path in recovery.backups(gateway)] == ["000003.db", "000004.db"]


def test_an_older_database_is_migrated_and_a_newer_one_refused(tmp_path):
    path = tmp_path / "a.db"
    with sqlite3.connect(path) as db:
        db.executescript(MIGRATIONS[0])
        db.execute("PRAGMA user_version = 1")
        db.execute("INSERT INTO latest VALUES ('p', 1, '', 1)")
    with Store(path) as store:
        (version,) = store.db.execute("PRAGMA user_version").fetchone()
        assert version == len(MIGRATIONS)
        assert store.counts()["latest"] == 1
        store.db.execute("PRAGMA user_version = 99")
    with pytest.raises(MissingError, match="made by a newer kgsm"):
        Store(path)


def test_a_failed_migration_leaves_the_old_schema(tmp_path, monkeypatch):
    path = tmp_path / "a.db"
    Store(path).close()
    wrong = (*MIGRATIONS, "CREATE TABLE more (a); CREATE TABLE value (twice)")
    monkeypatch.setattr("kgsm_infer.gateway.store.database.MIGRATIONS", wrong)
    with pytest.raises(MissingError, match="already exists"):
        Store(path)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(MIGRATIONS),)
        assert not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'more'").fetchone()


def test_a_clock_that_jumps_changes_nothing(tmp_path, model, monkeypatch):
    import time

    real = time.time
    gateway, other = (made_gateway(tmp_path / name, model=model) for name in "ab")
    for at, day in enumerate((0, 6, 12)):
        shift = (0, -1.5e9, +2e9)[at]  # a start without a clock is in 1970 or so
        monkeypatch.setattr(time, "time", lambda shift=shift: real() + shift)
        drop(gateway, columns_of(day), f"{day}.csv")
        watch = opened(gateway)
        watch.scan()
        watch.keep_house()
        watch.close()
    monkeypatch.setattr(time, "time", real)
    for day in (0, 6, 12):
        drop(other, columns_of(day), f"{day}.csv")
        scanned(other)
    assert stored(gateway) == stored(other)


# -- models --------------------------------------------------------------------------------


def test_a_new_model_is_tried_and_swapped_and_says_so(tmp_path, model):
    gateway = made_gateway(tmp_path / "g", model=model)
    drop(gateway, columns_of(0), "a.csv")
    first = scanned(gateway).named("stored")
    assert first
    new = made_model(tmp_path / "new", steps=3)
    shutil.copy(new, gateway.spool / "better.onnx")
    events = scanned(gateway)
    assert events.named("model_in_use")
    assert not (gateway.spool / "better.onnx").exists()
    drop(gateway, columns_of(6), "b.csv")
    scanned(gateway)
    by_day = {}
    for value in stored(gateway).values():
        by_day.setdefault(value.acquired, set()).add(value.model)
    old, young = (by_day[day] for day in sorted(by_day))
    assert old == {archive.digest_of(model)[:16]}
    assert young == {archive.digest_of(new)[:16]}
    with Store(gateway.database) as store:
        assert {roll_back(store, gateway)} == old
    drop(gateway, columns_of(12), "c.csv")
    scanned(gateway)
    newest = max(stored(gateway).items(), key=lambda item: item[0][1])[1]
    assert {newest.model} == old
    with Store(gateway.database) as store:  # and forward again
        assert {roll_back(store, gateway)} == young


@pytest.mark.parametrize("wrong", ["truncated", "edited", "hungry", "blind", "same"])
def test_a_model_that_fails_its_trial_is_quarantined(tmp_path, model, wrong):
    gateway = made_gateway(tmp_path / "g", model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    new = {
        "hungry": lambda: made_model(tmp_path / "new", dynamic=("soil_temp_c",)),
        "blind": lambda: made_model(tmp_path / "new", statics=("clay",)),
    }.get(wrong, lambda: model)()
    content = new.read_bytes()
    if wrong == "truncated":
        content = content[: len(content) // 2]
    if wrong == "edited":
        content = content.replace(b"ai.onnx", b"ai.onny") + b"\x3a\x00"
    (gateway.spool / "new.onnx").write_bytes(content)
    events = scanned(gateway)
    assert not events.named("model_in_use")
    reason = (gateway.quarantine / "new.onnx.reason.txt").read_text()
    expected = {
        "hungry": "reads soil_temp_c, which no acquisition brings",
        "blind": "reads clay, which no acquisition brings",
        "same": "in use already",
    }
    assert expected.get(wrong, "onnx") in reason
    drop(gateway, columns_of(6), "b.csv")
    assert scanned(gateway).named("stored")


def test_a_model_in_use_that_is_lost_falls_back(tmp_path, model):
    gateway = made_gateway(tmp_path / "g", model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    shutil.copy(made_model(tmp_path / "new", steps=3), gateway.spool / "better.onnx")
    scanned(gateway)
    models.entries(gateway)[-1].path.write_bytes(b"")
    drop(gateway, columns_of(6), "b.csv")
    events = scanned(gateway)
    assert events.named("model_unusable")
    assert events.named("stored")


def test_a_configured_model_replaces_a_log_that_no_longer_loads(tmp_path, model):
    """As after an update of kgsm that reads older cards no more."""
    own = tmp_path / "model.onnx"
    shutil.copy(model, own)
    gateway = made_gateway(tmp_path / "g", model=own)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    for entry in models.entries(gateway):
        entry.path.write_bytes(b"of another time")
    shutil.copy(made_model(tmp_path / "new", steps=3), own)
    drop(gateway, columns_of(6), "b.csv")
    events = scanned(gateway)
    assert events.named("model_in_use")
    assert events.named("stored")


def test_nothing_to_roll_back_to(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    scanned(gateway)
    with Store(gateway.database) as store, pytest.raises(UsageError, match="nothing to go back"):
        roll_back(store, gateway)


def test_a_replay_uses_the_model_of_its_time(tmp_path, model):
    """A restored database gives each acquisition to the model that had it, not the newest."""
    gateway = made_gateway(tmp_path / "g", model=model)
    drop(gateway, columns_of(0), "a.csv")
    scanned(gateway)
    shutil.copy(made_model(tmp_path / "new", steps=3), gateway.spool / "better.onnx")
    drop(gateway, columns_of(6), "b.csv")
    scanned(gateway)
    before = stored(gateway)
    assert len({value.model for value in before.values()}) == 2
    damage(gateway.database)
    (gateway.state / "running").touch()
    scanned(gateway)
    assert stored(gateway) == before
    assert dataclasses.replace(gateway).models.exists()
    assert os.listdir(gateway.spool) == []
