"""``kgsm-infer watch``: the loop that takes what arrives, in order, and survives.

One thread waits for the folder (inotify and a slow rescan), takes and stores. Telling (MQTT,
farmOS) and serving have threads of their own, read what is stored and never hold this one up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ...base.errors import DataError, KgsmError, MissingError, ModelError
from ..config import Gateway
from ..farm import Paddocks
from ..intake.faults import contained
from ..intake.probe_readings import MOST, keep, kept
from ..intake.settling import Settling
from ..intake.spool import (
    KINDS,
    Archived,
    archived,
    digest_of,
    free_mb,
    make_folders,
    next_number,
    quarantine,
    reason_of,
    stamp,
    take,
)
from ..intake.tables import FileRows, rows_of_table, table_columns
from ..log import Log
from ..store.database import Store
from ..store.failures import StoreBroken, StoreFull
from ..store.rows import Observed, Sensed
from ..store.used_readings import unused
from ..update import models
from ..update.arrival import store_arrival, store_probes
from ..update.retrieval import Loaded, load_model
from . import recovery

_T = TypeVar("_T")


@dataclass
class Watch:
    """A gateway at work. told: called after each commit, to wake those who tell."""

    gateway: Gateway
    paddocks: Paddocks
    log: Log
    store: Store = field(init=False)
    loaded: Loaded = field(init=False)
    told: Callable[[], None] = lambda: None
    _entry: models.Entry | None = None
    short: str = ""  # why nothing is taken now: no room on the disk
    _spool: Settling = field(init=False)
    _left: set[Sensed] = field(default_factory=set)  # readings that could not be used
    _unweighed: str = ""  # the model without variances that was told of

    def __post_init__(self) -> None:
        self._spool = Settling(self.gateway.spool, self.gateway.stable_s)

    @property
    def sinks(self) -> tuple[str, ...]:
        gateway = self.gateway
        return tuple(name for name in ("mqtt", "farmos") if getattr(gateway, name) is not None)

    # -- beginning and end -----------------------------------------------------------------

    def open(self) -> None:
        """Open the store, sound or restored, load the model, work out what was left undone."""
        gateway = self.gateway
        make_folders(
            *(gateway.spool, gateway.state, gateway.archive, gateway.quarantine),
            *(gateway.backups, gateway.models),
        )
        running = gateway.state / "running"
        if running.exists() and gateway.database.exists():
            self.log("unclean_stop")
            if not recovery.is_sound(gateway.database):
                recovery.restore(gateway, self.log)
        with suppress(OSError):  # a full or read-only disk must not keep it from telling
            running.touch()
        try:
            self.store = Store(gateway.database)
            models.begin(self.store, gateway, self.log)
        except StoreBroken as error:
            self._restore(error)
        self.catch_up()

    def close(self) -> None:
        """Leave nothing half done; the marker goes last."""
        with suppress(StoreBroken, StoreFull):
            self.store.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self.store.close()
        with suppress(OSError):
            (self.gateway.state / "running").unlink()

    def _restore(self, error: StoreBroken) -> None:
        self.log("database_damaged", reason=str(error))
        with suppress(AttributeError):
            self.store.close()
        recovery.restore(self.gateway, self.log)
        self.store = Store(self.gateway.database)
        models.begin(self.store, self.gateway, self.log)

    def guarded(self, step: Callable[[], _T]) -> _T | None:
        """Run a step; a damaged database is restored, a full disk waited for. None: it failed."""
        try:
            return step()
        except StoreBroken as error:
            self._restore(error)
            self.catch_up()
            self.told()
        except StoreFull as error:
            self._too_full(str(error))
        except MissingError as error:
            self.log("step_failed", reason=str(error))
        return None

    def _too_full(self, reason: str) -> None:
        if not self.short:
            self.log("taking_stopped", reason=reason)
        self.short = reason

    def check(self) -> None:
        """Look at the database's structure; StoreBroken where it is damaged."""
        if not recovery.is_sound(self.gateway.database):
            raise StoreBroken(f"{self.gateway.database}: the database is damaged")

    # -- taking ----------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Work out archived files the store does not know, in the order they were taken."""
        known = self.store.sequences()
        for item in archived(self.gateway.archive):
            if item.number not in known and self.store.sequence_of(item.digest) is None:
                self.log("retaking", file=item.name, number=item.number)
                self._use(models.entry_for(models.entries(self.gateway), item.number))
                self._store(item)
        self.follow_model()

    def follow_model(self) -> None:
        """Use the newest model of the log, which a roll-back may have entered."""
        have = models.entries(self.gateway)
        if self._entry is None or not have or have[-1].path != self._entry.path:
            self._entry, self.loaded = models.newest(self.gateway, self.log)

    def _use(self, entry: models.Entry) -> None:
        if self._entry is not None and entry.path == self._entry.path:
            return
        try:
            self.loaded, self._entry = load_model(entry.path, self.gateway.engine), entry
        except KgsmError as error:
            self.log("model_unusable", model=entry.path.name, reason=str(error))
            self._entry, self.loaded = models.newest(self.gateway, self.log)

    def scan(self, *, closed: Iterable[str] = (), first: bool = False) -> float | None:
        """Take what is whole. closed: names inotify called whole; first: after a start.

        Returns the seconds until a file that is still changing should be looked at again.
        """
        if self.short:
            self._room()
        ready, again = self._spool.whole(closed, first)
        self.follow_model()
        self._take_in_order(ready)
        self.use_probes()
        return again

    def _room(self) -> bool:
        """Whether the disk has room to take something; first of all what it had none for."""
        free = self.gateway.keep.free_mb
        if free_mb(self.gateway.state) < free:
            self._too_full(f"less than {free:g} MB are free")
            return False
        if self.short:
            self.log("room_again")
            self.short = ""
            self.catch_up()
        return True

    def use_probes(self, arriving: Iterable[Observed] = ()) -> None:
        """Readings that count for a stored or an arriving acquisition become an arrival."""
        while readings := [r for r in unused(self.store, arriving) if r not in self._left][:MOST]:
            if self.loaded.model.card.probes is None:
                if self._unweighed != self.loaded.hash:
                    self.log("probes_not_used", reason="the model's card has no variances to weigh "
                             "them by", model=self.loaded.hash)  # fmt: skip
                self._unweighed = self.loaded.hash
                return
            if not self._room():
                return
            number = next_number(self.store, self.gateway.archive)
            item = keep(readings, number, self.gateway.archive)
            if not self._store(item, readings=readings):
                self._left.update(readings)

    def _take_in_order(self, paths: list[Path]) -> None:
        """Models first, then tables and scenes by their first acquisition."""
        if paths and not self._room():
            return
        first: list[tuple[int, str, Path, FileRows | None]] = []
        for path in paths:
            kind = KINDS.get(path.suffix.lower())
            if kind == "model":
                self._take_model(path)
                continue
            try:
                with contained(self.log, path.name):
                    intake = self._read(path, path.name, kind)
            except MissingError as error:
                self.log("cannot_take", file=path.name, reason=reason_of(error, path, path.name))
                if not isinstance(error, StoreFull) and path.exists():
                    self._quarantine(path, error, path.name)
                continue
            except KgsmError as error:
                self._quarantine(path, error, path.name)
                continue
            times = intake.times
            # a farm's backlog may be long: what was read is kept only while it is short
            first.append((times[0] if times else 0, path.name, path,
                          intake if len(first) < 32 else None))  # fmt: skip
        for _, _, path, read in sorted(first, key=lambda item: item[:2]):
            try:
                with contained(self.log, path.name):
                    self._take(path, read)
            except (DataError, ModelError) as error:
                self._quarantine(path, error, path.name)

    def _read(self, path: Path, source: str, kind: str | None) -> FileRows:
        """The rows of a file. KgsmError says what is wrong with it."""
        if kind == "table":
            found = rows_of_table(
                path,
                source,
                self.paddocks,
                self.gateway.columns,
                self.loaded.inputs,
                self.loaded.statics,
                self.gateway.contradictions,
            )
        elif kind == "scene":
            from ..intake.scene_rows import rows_of_scene

            outlines = self.paddocks.outlines
            rows = rows_of_scene(path, outlines, self.loaded, self.loaded.statics)
            found = FileRows(tuple(rows), ())
        else:
            known = ", ".join(KINDS)
            raise DataError(f"{source}: not a table, scene or model; known: {known}")
        if found.left_out:
            self.log("not_the_farms", file=source, paddocks=list(found.left_out[:20]),
                     count=len(found.left_out))  # fmt: skip
        if found.notes:
            self.log("rows_merged", file=source, notes=list(found.notes))
        return found

    def _take(self, path: Path, intake: FileRows | None) -> None:
        kind = KINDS[path.suffix.lower()]
        beside: list[Path] = []
        if kind == "scene":
            from ..intake.scene_rows import rasters_beside

            scene = intake or self._read(path, path.name, kind)
            beside = [path, *rasters_beside(path, self.gateway.spool)]
            path, intake = self._as_table(path, scene), scene
        digest, size = digest_of(path), stamp(path)
        number = self.store.sequence_of(digest)
        kept = [item.number for item in archived(self.gateway.archive) if item.digest == digest]
        if number is not None or kept:
            self.log("seen_before", file=path.name, number=number or kept[0])
            if number is not None and not kept:  # its move into the archive was lost
                take(path, digest, number, self.gateway.archive)
            self._remove(path, *beside)
            self._spool.leave(path, size)
            return
        intake = intake or self._read(path, path.name, kind)
        self.use_probes(intake.rows)
        number = next_number(self.store, self.gateway.archive)
        item = take(path, digest, number, self.gateway.archive)
        self._remove(*beside)
        self._store(item, intake, kind)

    def _store(
        self,
        item: Archived,
        intake: FileRows | None = None,
        kind: str | None = None,
        readings: list[Sensed] | None = None,
    ) -> bool:
        """Store an archived file and what comes of it; False where it went to quarantine.

        intake, readings: what is in it, where that was read already.
        """
        began = time.monotonic()
        used = item.kind == "probes"
        try:
            with contained(self.log, item.name):
                if used:
                    known = kept(item) if readings is None else readings
                    rows, taken = len(known), store_probes(
                        *(self.store, self.loaded, known, item, self.sinks), again=readings is None
                    )  # fmt: skip
                else:
                    intake = intake or self._read(item.path, item.name, item.kind)
                    rows, taken = len(intake.rows), store_arrival(
                        *(self.store, self.loaded, intake, item, kind or item.kind),
                        *(self.sinks, self.gateway.keep.steps),
                    )  # fmt: skip
        except (DataError, ModelError) as error:
            self._quarantine(item.path, error, item.name)
            return False
        self.log(
            "probes_used" if used else "stored",
            file=item.name,
            number=item.number,
            rows=rows,
            values=len(taken.values),
            with_number=sum(value.sm is not None for value in taken.values),
            revisions=taken.revisions,
            too_old=taken.too_old,
            seconds=round(time.monotonic() - began, 3),
        )
        for reason in taken.said:
            self.log("probes_not_used", reason=reason)
        self.told()
        return True

    def _as_table(self, path: Path, intake: FileRows) -> Path:
        """A scene's rows as the table the archive keeps, beside its manifest."""
        from ...tables.table import write_csv

        target = self.gateway.archive / f".{path.stem}.scene.csv"
        write_csv(target, table_columns(intake.rows))
        final = target.with_name(f"{path.stem}.scene.csv")
        os.replace(target, final)
        return final

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink()

    def _quarantine(self, path: Path, error: KgsmError, name: str) -> None:
        reason = reason_of(error, path, name)
        size = stamp(path)
        place = quarantine(path, self.gateway.quarantine, reason)
        self.log("quarantined", file=name, reason=reason, place=place.name)
        self._spool.leave(path, size)

    def _take_model(self, path: Path) -> None:
        try:
            tried = models.try_model(path, self.store, self.loaded, self.gateway.engine)
        except KgsmError as error:
            self._quarantine(path, error, path.name)
            return
        before = self.loaded.hash
        number = next_number(self.store, self.gateway.archive)
        models.put_in_use(path, tried, self.gateway, number)
        self.follow_model()
        self._remove(path)
        self.log("model_in_use", model=self.loaded.hash, before=before)
        self.told()

    # -- now and then ----------------------------------------------------------------------

    def keep_house(self) -> None:
        """Drop what is too old, back up, then keep the files within their limits."""
        values = recovery.drop_old_values(self.store, self.gateway.keep)
        backup = recovery.back_up(self.store, self.gateway)
        gone = recovery.limit_files(self.gateway)
        self.log("backed_up", backup=backup.name, dropped={"values": values, **gone})
