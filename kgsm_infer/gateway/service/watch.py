"""Process the files of the spool in order: archive, read, store.

One thread does this. Publishers and the HTTP server run in other threads; they read what is stored
and never delay it.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from ...base.errors import DataError, KgsmError, MissingError, ModelError
from ...base.files import write_whole
from ..config import Gateway
from ..farm import Paddocks
from ..health import UnreadScenes
from ..intake.archive import (
    About,
    Archived,
    digest_of,
    free_mb,
    list_archive,
    make_folders,
    move_to_archive,
    move_to_quarantine,
    next_number,
    numbers_of,
    reason_of,
    rename_by_digest,
    stamp_of,
)
from ..intake.faults import contained
from ..intake.irrigation_files import IrrigationRows, irrigation_of_file, is_irrigation_file
from ..intake.probe_readings import MOST, archive_readings, read_archived_readings
from ..intake.rain_files import RainRows, is_rain_file, rain_of_file
from ..intake.removals import read_removal
from ..intake.rules import (
    RulesChange,
    log_change,
    logged_rules,
    read_changes,
    rules_at,
    rules_text,
)
from ..intake.settling import NO_EVENTS, FolderEvents, Settling
from ..intake.spool import KINDS, in_processing_order, written_order
from ..intake.tables import FileRows, TableRules, rows_of_table, table_columns
from ..keys import escape_name
from ..log import Log, place_of
from ..store.database import Store
from ..store.failures import StoreBroken, StoreFull
from ..store.lock import hold
from ..store.rows import Observed, Sensed
from ..store.used_readings import unused
from ..update import models
from ..update.arrival import Interrupted, Outcome, Updater
from ..update.daily import DailyUpdater, store_days, would_change_days
from ..update.retrieval import Loaded, load_model
from . import recovery
from .clock import guard_time
from .memory import release_memory

_T = TypeVar("_T")
#: Kinds of files with water of local days.
DAYS = ("rain", "irrigation")
#: Newest archived files that are compared with their size and time at a start.
RECENT = 100


#: Why scenes give no values of paddocks whose outlines are new.
NOT_READ_AGAIN = (
    "the archive holds the means of their paddocks, not their rasters; "
    "drop the scenes again for paddocks whose outlines are new"
)


@dataclass
class Watch:
    """A gateway at work.

    published: called after each commit, to wake the publishers.
    may_go_on: called between files and blocks of a file, with the watchdog's beat; False stops.
    """

    gateway: Gateway
    paddocks: Paddocks
    log: Log
    store: Store = field(init=False)
    loaded: Loaded = field(init=False)
    published: Callable[[], None] = lambda: None
    may_go_on: Callable[[], bool] = lambda: True
    short: str = ""  # why nothing is processed now: no room on the disk
    left_behind: int = 0  # files that stayed in the spool at the last scan
    unread_scenes: UnreadScenes | None = None  # of paddocks that were added later
    _updater: Updater = field(init=False)
    _daily: DailyUpdater = field(init=False)
    _clock_s: int = 0  # of the files that are processed together
    _batch: int = 0  # the number of the first of them
    _entry: models.Entry | None = None
    _spool: Settling = field(init=False)
    _lock: int | None = None
    _reported: dict[str, str] = field(default_factory=dict)  # name -> why it is left alone
    _refused: set[Sensed] = field(default_factory=set)  # readings that could not be used
    _days_failed: str = ""  # why the daily values could not be computed
    _changes: list[RulesChange] = field(default_factory=list)  # of the rules, in the archive
    _unweighed: str = ""  # the model without variances that was reported

    def __post_init__(self) -> None:
        self._spool = Settling(self.gateway.spool, self.gateway.stable_s)
        self._daily = DailyUpdater(self.gateway, self.paddocks)

    @property
    def sinks(self) -> tuple[str, ...]:
        """The publishers that get a message for each value."""
        gateway = self.gateway
        own = (name for name in ("mqtt", "farmos") if getattr(gateway, name) is not None)
        return (*own, *gateway.publishers)

    # -- beginning and end -----------------------------------------------------------------

    def open(self) -> None:
        """Lock the state folder, open the store, sound or restored, and load the model.

        MissingError if another watch has the folder. A full disk keeps the gateway from
        processing files, not from publishing and serving.
        """
        gateway = self.gateway
        make_folders(
            gateway.spool,
            gateway.state,
            gateway.archive,
            gateway.quarantine,
            gateway.backups,
            gateway.models,
        )
        self._lock = hold(gateway.state / "watch")
        running = gateway.state / "running"
        if running.exists() and gateway.database.exists():
            self.log("unclean_stop")
            if not recovery.is_sound(gateway.database):
                recovery.restore(gateway, self.log)
        with suppress(OSError):  # a full or read-only disk
            running.touch()
        try:
            self._open_store()
        except StoreBroken as error:
            self._restore(error)
        except StoreFull as error:
            if not recovery.release(gateway):
                raise
            self._stop_processing(str(error))
            self._open_store()
        recovery.reserve(gateway)
        self.guarded(partial(self._daily.follow_settings, self.store))
        self.follow_model()
        self.guarded(self.catch_up)

    def _open_store(self) -> None:
        self.store = Store(self.gateway.database)
        self._updater = Updater(
            self.store, self.sinks, self.gateway.keep.steps, lambda: self.may_go_on()
        )
        self._daily = DailyUpdater(self.gateway, self.paddocks)
        models.begin(self.store, self.gateway, self.log)

    def close(self) -> None:
        """Close the store and release the folder; the marker of a running gateway goes last."""
        with suppress(AttributeError):
            with suppress(KgsmError):
                self.store.checkpoint()
            self.store.close()
            with suppress(OSError):
                (self.gateway.state / "running").unlink()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _restore(self, error: StoreBroken) -> None:
        self.log("database_damaged", reason=str(error))
        with suppress(AttributeError):
            self.store.close()
        recovery.restore(self.gateway, self.log)
        self._open_store()

    def guarded(self, step: Callable[[], _T]) -> _T | None:
        """Run a step and contain its failure; returns None if it failed.

        A damaged database is restored, a full disk waited for, anything else logged.
        """
        try:
            return step()
        except StoreBroken as error:
            try:
                self._restore(error)
                self.catch_up()
                self.published()
            except Interrupted:
                pass
            except StoreFull as full:
                self._stop_processing(str(full))
            except (KgsmError, OSError) as again:
                self.log("restore_failed", reason=str(again))
        except StoreFull as error:
            self._stop_processing(str(error))
        except Interrupted:
            pass
        except (KgsmError, OSError) as error:
            self.log("step_failed", reason=str(error))
        except Exception as error:  # noqa: BLE001  the main loop goes on
            text = f"{type(error).__name__}: {error}"[:500]
            self.log("fault", error=text, at=place_of(error))
        return None

    def _stop_processing(self, reason: str) -> None:
        if not self.short:
            self.log("processing_stopped", reason=reason)
        self.short = reason

    def check(self) -> None:
        """Check the structure of the database; StoreBroken if it is damaged."""
        if not recovery.is_sound(self.gateway.database):
            raise StoreBroken(f"{self.gateway.database}: the database is damaged")

    # -- the archive -----------------------------------------------------------------------

    def catch_up(self) -> None:
        """Process archived files that the store does not know, in their order."""
        batch = None
        items = list_archive(self.gateway.archive)
        self._changes = read_changes(items)
        for item in items:
            if self.store.has_arrival(item.number):
                continue
            self._continue()
            if not item.path.exists():
                continue
            item = self._verified(item)
            about = item.about
            if about.clock_s is not None and (about.batch is None or about.batch != batch):
                self.update_days(about.clock_s)  # as they were before this arrival
            batch = about.batch
            self.log("processing_again", file=item.name, number=item.number)
            self._use(models.entry_for(models.entries(self.gateway), item.number))
            self._store(item)
        self.follow_model()
        self._follow_rules()
        self._note_unread_scenes()
        self.update_days()

    def _verified(self, item: Archived) -> Archived:
        """Give an archived file its own digest: a writer may have gone on after the move."""
        stamp = stamp_of(item.path)
        if item.earlier_name is not None or (stamp is not None and stamp == item.about.stamp):
            return item
        return rename_by_digest(item, item.number)

    def check_archive(self, names: Iterable[str] | None = None) -> None:
        """Process archived files that changed after they were stored, as corrections.

        names: of files that were written to; None compares size and time of the newest
        :data:`RECENT`: a writer that stalls may go on while the gateway is down.
        """
        items = list_archive(self.gateway.archive)
        wanted = {item.path.name for item in items[-RECENT:]} if names is None else set(names)
        for item in items:
            if item.path.name not in wanted:
                continue
            if item.earlier_name is not None or item.about.stamp in (None, stamp_of(item.path)):
                continue
            if not self.store.has_arrival(item.number) or digest_of(item.path) == item.digest:
                self._verified(item)
                continue
            number = next_number(self.store, self.gateway.archive)
            changed = rename_by_digest(item, number)
            self.log("archive_changed", file=item.name, before=item.number, number=number)
            self._store(changed)

    def _follow_rules(self) -> None:
        """Log a change of outlines, columns or contradictions, and read the tables again."""
        text, known = rules_text(self._rules), self._known_rules()
        after, before = json.loads(text), logged_rules(self._changes, known)
        is_same = before == after or known == hashlib.sha256(text.encode()).hexdigest()
        if known and not is_same:
            number = next_number(self.store, self.gateway.archive)
            item = log_change(before, after, number, self.gateway.archive)
            self._changes = read_changes(list_archive(self.gateway.archive))
            self._store(item)
            self.follow_model()
        if known != text:
            with write_whole(self.gateway.state / "rules") as file:
                file.write(text)

    def _note_unread_scenes(self, scenes: int | None = None) -> None:
        """Note the paddocks without a value whose outlines are newer than archived scenes.

        scenes: number of those scenes if it is known; counting reads every sidecar.
        """
        self.unread_scenes = None
        outlines = self.paddocks.outlines
        if outlines is None or not self._changes:
            return
        have = {value.paddock for value in self.store.latest()}
        added = [name for name in outlines.ids if name not in have]
        if not added:
            return
        if scenes is None:
            last = max(change.number for change in self._changes)
            items = [item for item in list_archive(self.gateway.archive) if item.number < last]
            scenes = sum(item.kind == "scene" for item in items)
        if scenes:
            self.unread_scenes = UnreadScenes(scenes, tuple(added[:20]), NOT_READ_AGAIN)

    def _known_rules(self) -> str:
        """Return the content of the state's file of rules, '' without one."""
        path = self.gateway.state / "rules"
        return path.read_text("utf-8", "replace").strip() if path.exists() else ""

    def _read_again(self, change: Archived) -> None:
        """Read the tables before a change of the rules by the rules after it."""
        self.log(
            "rules_changed",
            reason="outlines, columns or contradictions; the archived tables are read again",
            number=change.number,
        )
        log_of_models = models.entries(self.gateway)
        items = [item for item in list_archive(self.gateway.archive) if item.number < change.number]
        for item in items:
            self._continue()
            if item.kind in ("table", *DAYS) and self.store.has_arrival(item.number):
                self._use(models.entry_for(log_of_models, item.number))
                self._store(item, again=True, rules_of=change.number)
        if scenes := [item for item in items if item.kind == "scene"]:
            self.log(
                "scenes_not_read_again",
                count=len(scenes),
                first=scenes[0].name,
                reason=NOT_READ_AGAIN,
            )
        self._use(models.entry_for(log_of_models, change.number))
        self._updater.record(change)

    def _continue(self) -> None:
        """Beat, and raise Interrupted after a request to stop."""
        if not self.may_go_on():
            raise Interrupted

    # -- models ----------------------------------------------------------------------------

    def follow_model(self) -> None:
        """Use the newest model of the log, which a roll-back may have entered."""
        have = models.entries(self.gateway)
        if self._entry is None or not have or have[-1].path != self._entry.path:
            self._entry, self.loaded = models.newest(self.gateway, self.log)
            self._updater.windows.clear()

    def _use(self, entry: models.Entry) -> None:
        if self._entry is not None and entry.path == self._entry.path:
            return
        self._updater.windows.clear()
        try:
            self.loaded, self._entry = load_model(entry.path, self.gateway.engine), entry
        except KgsmError as error:
            self.log("model_unusable", model=entry.path.name, reason=str(error))
            self._entry, self.loaded = models.newest(self.gateway, self.log)

    def _take_model(self, path: Path) -> None:
        name = escape_name(path.name)
        try:
            with contained(self.log, name):
                tried = models.try_model(path, self.store, self.loaded, self.gateway.engine)
        except KgsmError as error:
            self._quarantine(path, error, name)
            return
        before = self.loaded.hash
        number = next_number(self.store, self.gateway.archive)
        models.activate_model(path, tried, self.gateway, number)
        self.follow_model()
        self._remove(path)
        self.log("model_in_use", model=self.loaded.hash, before=before)
        self.published()

    # -- the spool -------------------------------------------------------------------------

    def scan(self, events: FolderEvents = NO_EVENTS, *, first: bool = False) -> float | None:
        """Process the complete files. first: after a start.

        Returns the seconds until a file that still changes should be checked again.
        """
        self._spool.hear(events)
        if self.short:
            self._has_room()
        found = self._spool.look(first)
        self._report(found.ignored, found.waiting)
        self.follow_model()
        if first:
            self.check_archive()
        self._process(found.files)
        self.use_probes()
        self.update_days()
        if self.unread_scenes is not None:
            self._note_unread_scenes(self.unread_scenes.scenes)
        return found.again_s

    def hear(self, events: FolderEvents) -> None:
        """Note what inotify reported, without a scan."""
        self._spool.hear(events)

    def _report(self, ignored: dict[str, str], waiting: dict[str, str]) -> None:
        """Log each entry that is left alone once, and again when the reason changes."""
        now = {**ignored, **waiting}
        for name, reason in now.items():
            if self._reported.get(name) != reason:
                event = "ignored" if name in ignored else "waiting"
                self.log(event, file=escape_name(name), reason=reason)
        self._reported = now
        self.left_behind = len(now)

    def _has_room(self) -> bool:
        """Return True if the disk has room; first process what it had no room for."""
        free = self.gateway.keep.free_mb
        if free_mb(self.gateway.state) < free:
            self._stop_processing(f"less than {free:g} MB are free")
            return False
        if self.short:
            self.log("room_again")
            self.short = ""
            self.catch_up()
        return True

    def use_probes(self, arriving: Iterable[Observed] = ()) -> None:
        """Archive and use the readings that count for a stored or an arriving acquisition."""
        arriving = list(arriving)
        while readings := [r for r in unused(self.store, arriving) if r not in self._refused][
            :MOST
        ]:
            if self.loaded.model.card.probes is None:
                if self._unweighed != self.loaded.hash:
                    self.log(
                        "probes_not_used",
                        reason="the model's card has no variances to weigh them by",
                        model=self.loaded.hash,
                    )
                self._unweighed = self.loaded.hash
                return
            if not self._has_room():
                return
            number, clock_s = next_number(self.store, self.gateway.archive), guard_time(self.store)
            self.update_days(clock_s)
            item = archive_readings(readings, number, self.gateway.archive, clock_s)
            if not self._store(item, readings=readings):
                self._refused.update(readings)
            self.update_days(clock_s)

    def _process(self, paths: Iterable[Path]) -> None:
        """Process models, then rain and irrigation, then tables and scenes in their order."""
        paths = list(paths)
        if paths and not self._has_room():
            self.left_behind += len(paths)
            return
        if paths:
            self._clock_s = guard_time(self.store)
            self._batch = next_number(self.store, self.gateway.archive)
            self.update_days(self._clock_s)
        kinds = {path: self._kind_of(path) for path in paths}
        rest = [path for path in paths if kinds[path] not in ("model", *DAYS)]
        if len(rest) > 1:
            rest = in_processing_order(rest)
        # of two weather files the one written later counts, whatever days it has
        water = sorted((path for path in paths if kinds[path] in DAYS), key=written_order)
        for path in [*(path for path in paths if kinds[path] == "model"), *water, *rest]:
            self._continue()
            if kinds[path] == "model":
                self._take_model(path)
            else:
                self._process_one(path, kinds[path])
        if paths:
            self.update_days(self._clock_s)

    def _kind_of(self, path: Path) -> str:
        """Return what a file is: by its name, and of a table by its columns."""
        kind = KINDS.get(path.suffix.lower(), "unknown")
        if kind == "table":
            with suppress(Exception):  # what is wrong with it is reported when it is processed
                kind = self._kind_of_table(path)
        return kind

    def _kind_of_table(self, path: Path) -> str:
        """Return ``rain``, ``irrigation`` or ``table``."""
        if is_rain_file(path, self.gateway.columns):
            return "rain"
        return "irrigation" if is_irrigation_file(path, self.gateway.columns) else "table"

    def _process_one(self, path: Path, kind: str) -> None:
        """Process one file; whatever is wrong with it costs this file alone."""
        name = escape_name(path.name)
        try:
            with contained(self.log, name):
                self._take(path, kind)
        except (StoreBroken, StoreFull):
            raise
        except (DataError, ModelError) as error:
            self._quarantine(path, error, name)
        except MissingError as error:
            if not path.exists():
                return  # it was removed or renamed meanwhile
            if free_mb(self.gateway.state) < max(1.0, self.gateway.keep.free_mb):
                raise StoreFull(str(error)) from error
            self.log("cannot_process", file=name, reason=reason_of(error, path, name))
            self._quarantine(path, error, name)
        except OSError as error:
            self.log("cannot_process", file=name, reason=error.strerror or str(error))
            self.left_behind += 1

    def _take(self, path: Path, kind: str) -> None:
        """Archive a complete file and store what is in it."""
        name, archive = escape_name(path.name), self.gateway.archive
        if kind == "unknown":
            known = ", ".join(KINDS)
            raise DataError(f"{name}: is not a table, scene or model; known endings: {known}")
        about = About(name, kind, clock_s=self._clock_s, batch=self._batch)
        rasters: list[Path] = []
        found: FileRows | None = None
        if kind == "scene":
            from ..intake.scene_rows import rasters_beside

            rasters = [path, *rasters_beside(path, self.gateway.spool)]
            found = self._read_scene(path, about)
            path = self._as_table(found)
        digest, stamp = digest_of(path), stamp_of(path)
        self._continue()
        rows: FileRows | None = None
        changes: Callable[[], bool] | None = None
        if kind in DAYS:
            days = self._read_days(path, about, kind, next_number(self.store, archive), self._rules)
            changes = partial(would_change_days, self.store, days)
        elif kind != "removal":
            rows = found or self._read(path, about, self._rules)
            changes = partial(self._updater.would_change, rows.rows)
        self._continue()
        if self._is_known(path, digest, about, changes):
            self._remove(path, *rasters)
            self._spool.leave(path, stamp)
            return
        if rows is not None:
            self.use_probes(rows.rows)
        number = next_number(self.store, archive)
        item = move_to_archive(path, archive, number, digest, about)
        self._remove(*rasters)
        # another file may have been renamed over this one: what is stored is what was hashed
        self._store(item, rows if item.digest == digest else None)

    def _is_known(
        self, path: Path, digest: str, about: About, changes: Callable[[], bool] | None
    ) -> bool:
        """Return True for a file that arrived before and changes nothing now.

        changes: return True if its content differs from the store; None where it acts each time.

        The last of several versions counts, so an earlier version may arrive again.
        """
        archive = self.gateway.archive
        stored = self.store.sequences_of(digest)
        archived = numbers_of(archive, digest)
        if not stored and not archived:
            return False
        if stored and not archived:  # its move into the archive was lost with the power
            move_to_archive(path, archive, stored[-1], digest, about)
        elif all(number in stored for number in archived) and (changes is None or changes()):
            return False
        self.log("seen_before", file=about.name, number=max([*stored, *archived]))
        return True

    def _store(
        self,
        item: Archived,
        rows: FileRows | None = None,
        *,
        readings: list[Sensed] | None = None,
        again: bool = False,
        rules_of: int | None = None,
    ) -> bool:
        """Store an archived file and its effects; returns False if it went to quarantine.

        rows, readings: its content if that is known.  again: it was stored before, by other rules.
        rules_of: the arrival by whose rules it is read; its own by default.
        """
        rules_of = item.number if rules_of is None else rules_of
        began = time.monotonic()
        count, outcome = 0, Outcome()
        try:
            with contained(self.log, item.name):
                if item.kind == "probes":
                    known = read_archived_readings(item) if readings is None else readings
                    count = len(known)
                    outcome = self._updater.store_probes(
                        self.loaded, known, item, again=readings is None
                    )
                elif rows is None and (kind := self._days_kind(item)):
                    days = self._read_days(
                        item.path, item.about, kind, item.number, self._rules_at(rules_of)
                    )
                    self._report_rows(item.name, days)
                    store_days(self.store, days, item, kind)
                    self.log(
                        f"{kind}_stored",
                        file=item.name,
                        number=item.number,
                        days=len(days),
                        seconds=round(time.monotonic() - began, 3),
                    )
                    return True
                elif item.kind == "rules":
                    self._read_again(item)
                    return True
                elif item.kind == "removal":
                    removal = read_removal(item.path, item.name)
                    outcome = self._updater.store_removal(self.loaded, removal, item)
                else:
                    if rows is None:
                        item, rows = self._read_archived(item, self._rules_at(rules_of))
                        self._continue()
                    self._report_rows(item.name, rows)
                    count = len(rows.rows)
                    outcome = self._updater.store_rows(self.loaded, rows.rows, item)
        except (DataError, ModelError) as error:
            if again or self.store.has_part(item.number):
                self.log("partly_stored", file=item.name, number=item.number, reason=str(error))
                self._updater.record(item)
                return False
            self._quarantine(item.path, error, item.name)
            item.remove()
            return False
        event = {"probes": "probes_used", "removal": "removed"}.get(item.kind, "stored")
        self.log(
            event,
            file=item.name,
            number=item.number,
            rows=count,
            values=outcome.values,
            with_number=outcome.with_number,
            revisions=outcome.revisions,
            too_old=outcome.too_old,
            seconds=round(time.monotonic() - began, 3),
        )
        for reason in outcome.unused:
            self.log("probes_not_used", reason=reason)
        self.published()
        return True

    # -- reading ---------------------------------------------------------------------------

    @property
    def _rules(self) -> TableRules:
        gateway, loaded = self.gateway, self.loaded
        return TableRules(
            self.paddocks, gateway.columns, loaded.inputs, loaded.statics, gateway.contradictions
        )

    def _rules_at(self, number: int) -> TableRules:
        """Return the rules for an archived file, by its number."""
        return rules_at(number, self._changes, self._known_rules(), self._rules)

    def _read(self, path: Path, about: About, rules: TableRules) -> FileRows:
        """Read the rows of a table; KgsmError says what is wrong with it."""
        if about.kind == "scene":  # rows of this gateway's own: by the contract
            rules = replace(rules, columns={})
        return rows_of_table(path, about.name, rules, about.clock_s)

    def _days_kind(self, item: Archived) -> str:
        """Return ``rain`` or ``irrigation`` for such an archived file, "" for another.

        A file whose sidecar was lost is recognised by its columns.
        """
        kind = item.kind
        if kind == "table":
            kind = self._kind_of_table(item.path)
        return kind if kind in DAYS else ""

    def _read_days(
        self, path: Path, about: About, kind: str, number: int, rules: TableRules
    ) -> RainRows | IrrigationRows:
        """Read a weather or an irrigation file. number: of its arrival."""
        clock_s, stamp = about.clock_s, stamp_of(path)
        if clock_s is None:
            clock_s = guard_time(self.store) if stamp is None else stamp.mtime_ns // 10**9
        issued = self._daily.local_day(clock_s)
        read = irrigation_of_file if kind == "irrigation" else rain_of_file
        return read(path, about.name, rules, issued, number)

    def _read_archived(self, item: Archived, rules: TableRules) -> tuple[Archived, FileRows]:
        """Read an archived table so that its digest is of what was read."""
        while True:
            found = self._read(item.path, item.about, rules)
            checked = item
            if item.earlier_name is None:
                checked = rename_by_digest(item, item.number)
            if checked.digest == item.digest:
                return checked, found
            item = checked  # a writer went on meanwhile

    def _read_scene(self, path: Path, about: About) -> FileRows:
        from ..intake.scene_rows import rows_of_scene

        outlines = self.paddocks.outlines
        return rows_of_scene(path, outlines, self.loaded, self.loaded.statics, about.clock_s)

    def _report_rows(self, name: str, found: FileRows | RainRows | IrrigationRows) -> None:
        """Log what of a file was left out, merged or refused."""
        if found.left_out:
            names = list(found.left_out[:20])
            self.log("not_the_farms", file=name, paddocks=names, count=len(found.left_out))
        if isinstance(found, FileRows) and found.notes:
            self.log("rows_merged", file=name, notes=list(found.notes))
        if found.refused:
            reasons = list(found.refused[:20])
            self.log("rows_refused", file=name, reasons=reasons, count=len(found.refused))

    def _as_table(self, found: FileRows) -> Path:
        """Write a scene's rows as the table that the archive keeps."""
        from ...tables.table import write_csv

        target = self.gateway.archive / f".scene-{os.getpid()}.csv"
        write_csv(target, table_columns(found.rows))
        return target

    def _remove(self, *paths: Path) -> None:
        for path in paths:
            with suppress(OSError):
                path.unlink()

    def _quarantine(self, path: Path, error: KgsmError, name: str) -> None:
        reason = reason_of(error, path, name)
        stamp = stamp_of(path)
        try:
            place = move_to_quarantine(path, self.gateway.quarantine, name, reason)
        except (MissingError, OSError) as failure:
            self.log("cannot_quarantine", file=name, reason=reason, because=str(failure))
            self.left_behind += 1
            return
        self.log("quarantined", file=name, reason=reason, place=place.name)
        self._spool.leave(path, stamp)

    # -- daily values ----------------------------------------------------------------------

    def seconds_to_midnight(self) -> int:
        """Return the seconds until the farm's next day begins, by the clock."""
        return self._daily.seconds_to_midnight(int(time.time()))

    def update_days(self, clock_s: int | None = None) -> None:
        """Compute the daily values that are due. clock_s: time of the update; None for now."""
        began, card = time.monotonic(), self.loaded.model.card
        if clock_s is None:
            clock_s = guard_time(self.store)
        try:
            done = self._daily.update(self.store, clock_s, card, self._continue)
        except (StoreBroken, StoreFull, Interrupted):
            raise
        except Exception as error:  # noqa: BLE001  the values of the passes go on
            text = f"{type(error).__name__}: {error}"[:500]
            if text != self._days_failed:
                self.log("days_failed", reason=text, at=place_of(error))
            self._days_failed = text
            return
        self._days_failed = ""
        if done is not None:
            self.release_memory()
            self.log(
                "days_updated",
                today=done.date,
                values=done.values,
                revisions=done.revisions,
                crossings=done.crossings,
                seconds=round(time.monotonic() - began, 3),
            )
            self.published()

    # -- memory ----------------------------------------------------------------------------

    def version(self) -> tuple[int, int]:
        """Return the version of the store, which changes with each commit of any thread."""
        return self.store.version()

    def release_memory(self) -> None:
        """Empty the cache of the database and return freed memory to the system."""
        self.store.shrink()
        release_memory()

    # -- housekeeping ----------------------------------------------------------------------

    def keep_house(self) -> None:
        """Drop what is too old, back up, then keep the files within their limits."""
        values = recovery.drop_old_values(self.store, self.gateway.keep)
        days = self._daily.drop_old(self.store)
        self._continue()
        backup = recovery.back_up(self.store, self.gateway)
        self._continue()
        gone = recovery.limit_files(self.gateway)
        recovery.reserve(self.gateway)
        self.log("backed_up", backup=backup.name, dropped={"values": values, "days": days, **gone})
