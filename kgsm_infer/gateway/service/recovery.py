"""Back up and restore the database, and delete what is older or larger than configured.

The archive of processed files is the log, so nothing is lost with a database: the newest sound
backup replaces it, and the arrivals that the backup lacks are processed again by their numbers.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ...base.files import sync_folder
from ...tables.passes import ONE_PASS_S
from ..config import Gateway, Keep
from ..intake.archive import free_mb, limit_folder, list_archive, remove_orphans
from ..log import Log
from ..store.database import Store
from ..store.failures import StoreBroken, explained
from ..store.lock import alone

#: Days before the newest passes after which readings of probes are dropped.
READINGS_DAYS = 90
#: Most readings kept of one paddock.
READINGS_PER_PADDOCK = 50_000
#: Most files kept in quarantine, reasons included.
QUARANTINED = 2000
#: Bytes kept free for the -wal and -shm files, which a start on a full disk needs.
RESERVE_BYTES = 262_144
_RESERVE = "reserve"
_BESIDE = ("", "-wal", "-shm")


def reserve(gateway: Gateway) -> None:
    """Keep some room for a start on a full disk, where there is room now."""
    with suppress(OSError):
        path = gateway.state / _RESERVE
        if not path.exists() and free_mb(gateway.state) > max(1.0, gateway.keep.free_mb):
            path.write_bytes(bytes(RESERVE_BYTES))


def release(gateway: Gateway) -> bool:
    """Give the reserved room free, for the files that SQLite needs; False if there was none."""
    try:
        (gateway.state / _RESERVE).unlink()
    except OSError:
        return False
    return True


def is_sound(path: Path) -> bool:
    """Return True if SQLite finds the structure of a database file sound."""
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return bool(db.execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
    except sqlite3.Error:
        return False


def back_up(store: Store, gateway: Gateway) -> Path:
    """Copy the running database to the backups; kept only if the copy is sound.

    StoreBroken where it is not: the database itself is damaged then.
    """
    number = max([_number(path) for path in backups(gateway)], default=0) + 1
    target = gateway.backups / f"{number:06d}.db"
    part = target.with_suffix(".part")
    with explained(gateway.database):
        with suppress(FileNotFoundError):
            part.unlink()
        with closing(sqlite3.connect(part)) as copy:
            store.db.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")  # one file without a -wal file
    if not is_sound(part):
        part.unlink()
        raise StoreBroken(f"{gateway.database}: its copy is damaged, and so is it")
    with part.open("rb") as file:
        os.fsync(file.fileno())
    os.replace(part, target)
    sync_folder(gateway.backups)
    for old in backups(gateway)[: -gateway.keep.backups]:
        with suppress(OSError):
            old.unlink()
    return target


def backups(gateway: Gateway) -> list[Path]:
    """Return the backups, oldest first."""
    return sorted(gateway.backups.glob("[0-9]*.db"), key=_number)


def restore(gateway: Gateway, log: Log) -> Path | None:
    """Move a damaged database aside and restore the newest sound backup.

    Returns the backup, or None if the store starts empty without one. MissingError if another
    process keeps the database open.
    """
    with alone(gateway.database):
        return _restored(gateway, log)


def _restored(gateway: Gateway, log: Log) -> Path | None:
    number = 1
    while (aside := gateway.quarantine / f"database-{number}").exists():
        number += 1
    aside.mkdir(parents=True)
    for ending in _BESIDE:
        path = gateway.database.with_name(gateway.database.name + ending)
        with suppress(FileNotFoundError):
            os.replace(path, aside / path.name)
    log("database_quarantined", folder=str(aside))
    for backup in reversed(backups(gateway)):
        if not is_sound(backup):
            log("backup_damaged", backup=backup.name)
            continue
        part = gateway.database.with_suffix(".part")
        part.write_bytes(backup.read_bytes())
        with part.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(part, gateway.database)
        sync_folder(gateway.state)
        log("database_restored", backup=backup.name)
        return backup
    sync_folder(gateway.state)
    log("database_begun_anew", reason="no sound backup")
    return None


def drop_old_values(store: Store, keep: Keep) -> int:
    """Drop values older than ``values_days`` before the newest passes; returns how many.

    The newest passes are a median (:meth:`Store.newest_passes_time`), so that one wrong date
    drops nothing. Present states and unsent values stay. Readings of probes are dropped after
    :data:`READINGS_DAYS`, used ones once no acquisition of their paddock and day can be retrieved
    again.
    """
    newest = store.newest_passes_time()
    store.limit_probes(
        None if newest is None else newest - int(min(READINGS_DAYS, keep.values_days) * 86400),
        READINGS_PER_PADDOCK,
    )
    if newest is None:
        return 0
    limit = newest - int(keep.values_days * 86400)
    with store.transaction():
        store.db.execute(
            "DELETE FROM used_probe WHERE at < ? AND NOT EXISTS (SELECT 1 FROM observation "
            "AS seen WHERE seen.paddock = used_probe.paddock "
            "AND acquired BETWEEN at - at % 86400 AND at - at % 86400 + ?)",
            (limit, 86400 + ONE_PASS_S),
        )
        return store.db.execute(
            "DELETE FROM value WHERE acquired < ? "
            "AND (paddock, acquired, orbit) NOT IN (SELECT paddock, acquired, orbit FROM latest) "
            "AND (paddock, acquired, orbit, revision) NOT IN "
            "(SELECT paddock, acquired, orbit, revision FROM outbox)",
            (limit,),
        ).rowcount


def limit_files(gateway: Gateway) -> dict[str, int]:
    """Keep archive and quarantine within their limits; returns how many files were deleted.

    The oldest are deleted first. What the newest backup does not know stays in the archive: a
    restore needs it.
    """
    keep = gateway.keep
    safe = _last_in(backups(gateway)[-1]) if backups(gateway) else 0
    every = list_archive(gateway.archive)
    pinned_mb = sum(item.path.stat().st_size for item in every if item.number > safe) / 1e6
    archive = limit_folder(
        [item.path for item in every if item.number <= safe], max(0.0, keep.archive_mb - pinned_mb)
    )
    remove_orphans(gateway.archive)
    bad = sorted(
        (path for path in gateway.quarantine.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_mtime_ns,
    )
    gone = limit_folder(bad, keep.quarantine_mb, QUARANTINED)
    return {"archived": len(archive), "quarantined": len(gone)}


def _last_in(backup: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{backup.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT coalesce(max(sequence), 0) FROM arrival").fetchone()[0])
    except sqlite3.Error:
        return 0


def _number(path: Path) -> int:
    return int(path.stem)
