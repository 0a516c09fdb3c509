"""Run the gateway: signals, inotify, timers, the publishers and the HTTP server.

Nothing ticks: the loop sleeps until the folder, a signal or the nearest timer wakes it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...base.errors import MissingError
from ..config import Gateway
from ..farm import load_paddocks
from ..health import ErrorMemory, Process, ThreadHealth
from ..intake.archive import make_folders
from ..intake.removals import write_removal
from ..intake.settling import FolderEvents
from ..log import Log, log_line
from ..store.database import Store
from ..threads import Task
from ..update import models
from .systemd import notify, watchdog_s
from .watch import Watch

#: Readings come in bunches, one message a sensor: seconds until a bunch is used.
BUNCH_S = 0.5
#: Seconds ``--once`` waits for the publishers.
PUBLISH_S = 30.0
#: Seconds between looks at the threads.
THREADS_S = 60.0
#: Seconds without a commit after which freed memory is returned to the system.
REST_S = 5.0


@dataclass(frozen=True)
class Remains:
    """Unfinished work of a watch: files in quarantine and in the spool, messages not sent.

    short: the reason why processing stopped, empty if it did not.
    """

    quarantined: int
    left_behind: int
    unsent: int
    short: str

    def __bool__(self) -> bool:
        return bool(self.quarantined or self.left_behind or self.unsent or self.short)


def watch(
    gateway: Gateway, *, once: bool = False, behind_proxy: bool = False, log: Log = log_line
) -> Remains:
    """Watch until SIGTERM or SIGINT; with ``once`` until all complete files are published.

    Returns what stayed behind. KgsmError if it cannot start.
    """
    bad = 0
    log = memory = ErrorMemory(log)

    def counted(event: str, **details: Any) -> None:
        nonlocal bad
        bad += event == "quarantined"
        log(event, **details)

    with ExitStack() as stack:
        wake = stack.enter_context(_woken_by_signals())
        work = Watch(gateway, load_paddocks(gateway), counted)
        stack.callback(work.close)
        folder = _folder_events(gateway, stack)
        service = Service(work, wake, folder, counted, memory)
        work.may_go_on = service.pulse
        work.open()
        _start_publishers(service, stack)
        _start_weather(service, stack, once)
        if not once and gateway.serve.with_watch:
            _start_server(service, stack, behind_proxy)
        counted("ready", name=gateway.name, model=work.loaded.hash, sinks=list(work.sinks))
        notify("READY=1\nSTATUS=watching")
        if once:
            service.run_once()
        else:
            service.run()
        remains = service.remains(bad)
        counted("stopping")
        notify("STOPPING=1")
    return remains


STOP, DOUBT, PROBES = b"s", b"d", b"p"


@dataclass
class Wake:
    """Messages to the main loop from signal handlers and threads, through a pipe."""

    read: int
    write: int
    stopped: bool = False
    _pending: bytes = b""

    def stop(self, *_: object) -> None:
        """Ask the loop to end."""
        self._send(STOP)

    def doubt(self) -> None:
        """Ask for a check of the database, which a thread found damaged."""
        self._send(DOUBT)

    def probed(self) -> None:
        """Announce readings that a thread has stored."""
        self._send(PROBES)

    def poll(self, wait_s: float = 0.0) -> None:
        """Read the pipe, after at most ``wait_s`` seconds; messages stay until :meth:`take`."""
        if select.select([self.read], [], [], max(0.0, wait_s))[0]:
            self._pending += os.read(self.read, 4096)
        self.stopped = self.stopped or STOP in self._pending

    def take(self) -> bytes:
        """Return the pending messages."""
        found, self._pending = self._pending, b""
        return found

    def _send(self, word: bytes) -> None:
        with suppress(OSError):
            os.write(self.write, word)


@dataclass
class Watched:
    """inotify descriptors of the spool and of the archive."""

    notifier: Any
    spool: int
    archive: int

    def fileno(self) -> int:
        """Return the descriptor that is readable when an event waits."""
        return int(self.notifier.fileno())


@dataclass
class Service:
    """The main loop. tasks: the threads of the publishers and of the HTTP server."""

    work: Watch
    wake: Wake
    folder: Watched | None
    log: Log
    memory: ErrorMemory
    tasks: list[Task] = field(default_factory=list)
    _beat_s: float | None = field(default_factory=watchdog_s)
    _due: dict[str, float] = field(default_factory=dict)
    _unwell: set[str] = field(default_factory=set)
    _version: tuple[int, int] | None = None  # of the store at the last look

    def __post_init__(self) -> None:
        now = time.monotonic()
        self._due = {
            "rescan": 0.0,
            "backup": now + 60.0,  # soon after a start: the box may not live a day
            "beat": now + self._beat_s if self._beat_s else float("inf"),
            "probes": float("inf"),
            "threads": now + THREADS_S,
            "day": now,
            "rest": now + REST_S,
        }

    def status(self) -> Process:
        """Return the state of this process, for its health."""
        return Process(
            {task.name: ThreadHealth(**task.status()) for task in self.tasks},
            self.work.short or "ok",
            self.work.left_behind,
            self.memory.last,
            self.work.unread_scenes,
        )

    def remains(self, quarantined: int) -> Remains:
        """Return what is not finished. quarantined: files that went to quarantine."""
        work = self.work
        unsent = (work.guarded(work.store.unsent_counts) or {}) if work.sinks else {}
        return Remains(quarantined, work.left_behind, sum(unsent.values()), work.short)

    def pulse(self) -> bool:
        """Beat if a beat is due; returns False after a request to stop."""
        now = time.monotonic()
        if now >= self._due["threads"]:
            self._due["threads"] = now + THREADS_S
            self._look_after_threads()
        if self._beat_s and now >= self._due["beat"]:
            self._due["beat"] = now + self._beat_s
            if not self._unwell or self._look_after_threads():
                notify("WATCHDOG=1")
        self.wake.poll()
        return not self.wake.stopped

    def _look_after_threads(self) -> bool:
        """Start threads that are gone again; returns True if all are well."""
        for task in self.tasks:
            task.ensure()
        unwell = {task.name for task in self.tasks if not task.is_well()}
        for name in unwell - self._unwell:
            self.log("thread_stuck", thread=name)
        self._unwell = unwell
        return not unwell

    def run_once(self) -> None:
        """Process what is complete, publish it, and keep house."""
        work, wake = self.work, self.wake
        again_s = work.guarded(lambda: work.scan(self._events(), first=True))
        while again_s is not None and not wake.stopped:
            wake.poll(again_s)
            again_s = work.guarded(lambda: work.scan(self._events()))
        work.guarded(work.keep_house)
        until = time.monotonic() + PUBLISH_S
        while (
            work.sinks
            and any((work.guarded(work.store.unsent_counts) or {}).values())
            and time.monotonic() < until
            and not wake.stopped
        ):
            wake.poll(0.05)
            if PROBES in wake.take():
                work.guarded(work.use_probes)

    def run(self) -> None:
        """Work until a signal requests the end."""
        work, wake, due = self.work, self.wake, self._due
        first = True
        while True:
            events = self._events()
            now = time.monotonic()
            if first or events.closed or events.overflow or now >= due["rescan"]:
                is_first, first = first, False
                again_s = work.guarded(lambda: work.scan(events, first=is_first))  # noqa: B023
                due["rescan"] = time.monotonic() + min(
                    work.gateway.rescan_s, float("inf") if again_s is None else again_s
                )
            else:
                work.hear(events)
            if now >= due["backup"]:
                work.guarded(work.keep_house)
                due["backup"] = time.monotonic() + work.gateway.keep.backup_hours * 3600
            if now >= due["day"]:
                work.guarded(work.update_days)
                due["day"] = time.monotonic() + work.seconds_to_midnight() + 1
            if now >= due["probes"]:
                due["probes"] = float("inf")
                work.guarded(work.use_probes)
            if not self.pulse():
                return
            words = wake.take()
            if DOUBT in words:
                work.guarded(work.check)
            self._release_memory()
            if PROBES in words:
                due["probes"] = min(due["probes"], time.monotonic() + BUNCH_S)
            sources: Sequence[Any] = (
                [wake.read] if self.folder is None else [wake.read, self.folder]
            )
            select.select(sources, [], [], max(0.0, min(due.values()) - time.monotonic()))

    def _release_memory(self) -> None:
        """Return freed memory to the system once neither this nor another thread commits."""
        version = self.work.guarded(self.work.version)
        if version != self._version:
            self._version = version
            self._due["rest"] = time.monotonic() + REST_S
        elif time.monotonic() >= self._due["rest"]:
            self._due["rest"] = float("inf")
            self.work.guarded(self.work.release_memory)

    def _events(self) -> FolderEvents:
        """Return the events of the spool since the last look, and handle those of the archive."""
        if self.folder is None:
            return FolderEvents()
        from inotify_simple import flags

        found, changed, overflow = [], [], False
        for event in self.folder.notifier.read(timeout=0):
            overflow = overflow or bool(event.mask & flags.Q_OVERFLOW)
            if event.mask & flags.ISDIR:
                continue
            is_closed = bool(event.mask & (flags.CLOSE_WRITE | flags.MOVED_TO))
            if event.wd == self.folder.spool:
                found.append((event.name, is_closed))
            elif event.wd == self.folder.archive and is_closed and not event.name.startswith("."):
                changed.append(event.name)
        if changed or overflow:
            self.work.guarded(lambda: self.work.check_archive(None if overflow else changed))
        return FolderEvents(tuple(found), overflow)


def _folder_events(gateway: Gateway, stack: ExitStack) -> Watched | None:
    """Watch spool and archive with inotify, before the first scan; None if the kernel has none."""
    make_folders(gateway.spool, gateway.archive)
    try:
        from inotify_simple import INotify, flags
    except ImportError:
        raise MissingError(
            "watch needs inotify_simple: pip install 'kgsm[gateway]' (Linux)"
        ) from None
    try:
        notifier = INotify()
        written = flags.CLOSE_WRITE | flags.MODIFY
        found = Watched(
            notifier,
            notifier.add_watch(str(gateway.spool), written | flags.MOVED_TO),
            notifier.add_watch(str(gateway.archive), flags.CLOSE_WRITE),
        )
    except OSError:  # too many watches, or a file system without: the rescan does it alone
        return None
    stack.callback(notifier.close)
    return found


@contextmanager
def _woken_by_signals() -> Iterator[Wake]:
    """Create a wake that SIGTERM and SIGINT stop."""
    wake = Wake(*os.pipe())
    os.set_blocking(wake.write, False)
    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, wake.stop) for number in signals}
    try:
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake.read)
        os.close(wake.write)


def _start_publishers(service: Service, stack: ExitStack) -> None:
    """Start the publishers, which wake after each commit."""
    work, wake, gateway = service.work, service.wake, service.work.gateway
    tasks: list[Task] = []
    if gateway.mqtt is not None:
        from ..publish.mqtt import MqttPublisher
        from ..publish.runner import run_publisher

        mqtt = MqttPublisher(gateway, work.paddocks, service.log, wake.probed, service.status)
        tasks.append(run_publisher(mqtt, service.log, wake.doubt))
    if gateway.farmos is not None:
        from ..publish.farmos import FarmosPublisher
        from ..publish.runner import run_publisher

        tasks.append(run_publisher(FarmosPublisher(gateway), service.log, wake.doubt))
    if gateway.publishers:
        from ..publish.provided import ProvidedPublisher
        from ..publish.runner import run_publisher

        for name in gateway.publishers:
            one = ProvidedPublisher(name, gateway)
            tasks.append(run_publisher(one, service.log, wake.doubt))
    for task in tasks:
        stack.callback(task.stop, 30.0)
        task.start()
    service.tasks += tasks

    def published() -> None:
        for task in tasks:
            task.wake()

    work.published = published


def _start_weather(service: Service, stack: ExitStack, once: bool) -> None:
    """Start the thread that fetches rain; with ``once``, fetch it now."""
    work = service.work
    if work.gateway.weather.service is None:
        return
    from .weather import RainFetcher

    fetcher = RainFetcher(work.gateway, work.paddocks, service.log)
    if once:
        work.guarded(fetcher.fetch)
        return
    task = fetcher.task()
    stack.callback(task.stop, 30.0)
    task.start()
    service.tasks.append(task)


def _start_server(service: Service, stack: ExitStack, behind_proxy: bool) -> None:
    """Start the HTTP server in a thread of this process."""
    from ..http.serve import Server

    work = service.work
    server = Server(
        work.gateway,
        work.paddocks,
        service.log,
        behind_proxy=behind_proxy,
        probed=service.wake.probed,
        status=service.status,
    )
    stack.callback(server.close)
    server.start()
    service.tasks.append(server.task)


def serve(gateway: Gateway, *, behind_proxy: bool = False, log: Log = log_line) -> None:
    """Serve the API and the page alone, until SIGTERM or SIGINT."""
    from ..http.serve import Server

    with _woken_by_signals() as wake:
        server = Server(gateway, load_paddocks(gateway), log, behind_proxy=behind_proxy)
        server.start()
        notify("READY=1")
        while not wake.stopped:
            wake.poll(THREADS_S)
            server.task.ensure()
        notify("STOPPING=1")
        server.close()


def roll_back_model(gateway: Gateway) -> str:
    """Use the previous model again; returns its name."""
    with Store(gateway.database) as store:
        return models.roll_back(store, gateway)


def remove_acquisition(gateway: Gateway, paddock: str, date: str) -> Path:
    """Ask the watch to remove an acquisition; returns the request in the spool."""
    make_folders(gateway.spool)
    return write_removal(gateway.spool, paddock, date)
