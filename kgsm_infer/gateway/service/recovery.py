"""When the database is damaged, and before it is: backups, restoring, retention.

The archive of taken files is the log, so nothing is lost with a database: the last good backup
is put in its place and the arrivals it does not know are worked out again, by their numbers.
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ..config import Gateway, Keep
from ..intake.spool import archived, limit_folder, sync_folder
from ..log import Log
from ..store.database import Store
from ..store.failures import StoreBroken, explained
from ..store.lock import alone

_BESIDE = ("", "-wal", "-shm")


def is_sound(path: Path) -> bool:
    """Whether SQLite finds the structure of a database file whole."""
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
            copy.execute("PRAGMA journal_mode = DELETE")  # one file, no -wal beside it
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
    """The backups, oldest first."""
    return sorted(gateway.backups.glob("[0-9]*.db"), key=_number)


def restore(gateway: Gateway, log: Log) -> Path | None:
    """Put a damaged database aside and the newest sound backup in its place.

    Returns the backup, or None where there is none and the store begins empty.
    MissingError where somebody else keeps it open.
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
    """Drop values older than ``values_days`` before the newest acquisition; how many.

    Present states stay, and what has still to be told. Readings of probes go at the same age, and
    used ones once no acquisition of their paddock and day can be retrieved again.
    """
    with store.transaction():
        limit = "(SELECT max(acquired) FROM value) - ?"
        age = (int(keep.values_days * 86400),)
        store.db.execute(f"DELETE FROM probe WHERE at < {limit}", age)
        store.db.execute(
            f"DELETE FROM used_probe WHERE at < {limit} AND NOT EXISTS (SELECT 1 FROM observation "
            "AS seen WHERE seen.paddock = used_probe.paddock "
            "AND acquired / 86400 = at / 86400)",
            age,
        )
        return store.db.execute(
            f"DELETE FROM value WHERE acquired < {limit} "
            "AND (paddock, acquired, orbit) NOT IN (SELECT paddock, acquired, orbit FROM latest) "
            "AND (paddock, acquired, orbit, revision) NOT IN "
            "(SELECT paddock, acquired, orbit, revision FROM outbox)",
            age,
        ).rowcount


def limit_files(gateway: Gateway) -> dict[str, int]:
    """Keep archive and quarantine within their limits, oldest first out; how many went.

    What the newest backup does not know stays in the archive: a restore needs it.
    """
    keep = gateway.keep
    safe = _last_in(backups(gateway)[-1]) if backups(gateway) else 0
    every = archived(gateway.archive)
    pinned_mb = sum(item.path.stat().st_size for item in every if item.number > safe) / 1e6
    archive = limit_folder(
        [item.path for item in every if item.number <= safe], max(0.0, keep.archive_mb - pinned_mb)
    )
    bad = sorted(
        (path for path in gateway.quarantine.rglob("*") if path.is_file()),
        key=lambda path: path.stat().st_mtime_ns,
    )
    gone = limit_folder(bad, keep.quarantine_mb)
    return {"archived": len(archive), "quarantined": len(gone)}


def _last_in(backup: Path) -> int:
    try:
        with closing(sqlite3.connect(f"{backup.resolve().as_uri()}?mode=ro", uri=True)) as db:
            return int(db.execute("SELECT coalesce(max(sequence), 0) FROM arrival").fetchone()[0])
    except sqlite3.Error:
        return 0


def _number(path: Path) -> int:
    return int(path.stem)
