"""The process around the watch: signals, inotify, timers, and those who tell and serve.

Nothing ticks: the loop sleeps until the folder, a signal or the nearest timer wakes it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from ...base.errors import MissingError
from ..config import Gateway
from ..farm import load_paddocks
from ..intake.spool import make_folders
from ..log import Log, log_line
from ..store.database import Store
from ..update import models
from .systemd import notify, watchdog_s
from .watch import Watch

#: Readings come in bunches, one message a sensor: seconds until a bunch is used.
BUNCH_S = 0.5
#: Seconds ``--once`` waits for the broker and farmOS.
TOLD_S = 30.0


def watch(
    gateway: Gateway, *, once: bool = False, behind_proxy: bool = False, log: Log = log_line
) -> int:
    """Watch until SIGTERM or SIGINT; with ``once`` until everything whole is taken and told.

    Returns the number of files that went to quarantine. KgsmError where it cannot begin.
    """
    bad = 0

    def counted(event: str, **details: Any) -> None:
        nonlocal bad
        bad += event == "quarantined"
        log(event, **details)

    with ExitStack() as stack:
        wake = stack.enter_context(_woken_by_signals())
        work = Watch(gateway, load_paddocks(gateway), counted)
        folder = _folder_events(gateway, stack)
        work.open()
        stack.callback(work.close)
        _tellers(gateway, work, stack, counted, wake)
        if not once and gateway.serve.with_watch:
            _serving(gateway, work, stack, counted, wake, behind_proxy)
        counted("ready", name=gateway.name, model=work.loaded.hash, sinks=list(work.sinks))
        notify("READY=1\nSTATUS=watching")
        if once:
            _once(work, wake)
            _all_told(work, wake)
        else:
            _forever(work, wake, folder)
        counted("stopping")
        notify("STOPPING=1")
    return bad


def _once(work: Watch, wake: Wake) -> None:
    again = work.guarded(lambda: work.scan(first=True))
    while again is not None and STOP not in wake.heard(again):
        again = work.guarded(work.scan)
    work.guarded(work.keep_house)


def _all_told(work: Watch, wake: Wake) -> None:
    """Give those who tell a while to be done; what is left stays in the outbox."""
    until = time.monotonic() + TOLD_S
    while work.sinks and any(work.store.unsent_counts().values()) and time.monotonic() < until:
        words = wake.heard(0.05)
        if STOP in words:
            return
        if PROBES in words:
            work.guarded(work.use_probes)


def _forever(work: Watch, wake: Wake, folder: Any) -> None:
    gateway = work.gateway
    beat = watchdog_s()
    due: dict[str, float] = {
        "rescan": 0.0,
        "backup": time.monotonic() + 60.0,  # soon after a start: the box may not live a day
        "beat": time.monotonic() + beat if beat else float("inf"),
        "probes": float("inf"),
    }
    first = True
    while True:
        closed, overflow = _whole_names(folder)
        now = time.monotonic()
        if closed or overflow or now >= due["rescan"]:
            soon = work.guarded(partial(work.scan, closed=closed, first=first))
            first = False
            due["rescan"] = time.monotonic() + min(
                gateway.rescan_s, float("inf") if soon is None else soon
            )
        if now >= due["backup"]:
            work.guarded(work.keep_house)
            due["backup"] = time.monotonic() + gateway.keep.backup_hours * 3600
        if now >= due["probes"]:
            due["probes"] = float("inf")
            work.guarded(work.use_probes)
        if beat and now >= due["beat"]:
            notify("WATCHDOG=1")
            due["beat"] = time.monotonic() + beat
        wait = max(0.0, min(due.values()) - time.monotonic())
        sources = [wake.read] if folder is None else [wake.read, folder]
        if wake.read in select.select(sources, [], [], wait)[0]:
            words = wake.heard()
            if STOP in words:
                return
            if DOUBT in words:
                work.guarded(work.check)
            if PROBES in words:
                due["probes"] = min(due["probes"], time.monotonic() + BUNCH_S)


def _whole_names(folder: Any) -> tuple[list[str], bool]:
    """Names inotify calls whole since last asked, and whether it lost some."""
    if folder is None:
        return [], False
    from inotify_simple import flags

    events = folder.read(timeout=0)
    whole = [
        event.name
        for event in events
        if event.mask & (flags.CLOSE_WRITE | flags.MOVED_TO) and not event.mask & flags.ISDIR
    ]
    return whole, any(event.mask & flags.Q_OVERFLOW for event in events)


def _folder_events(gateway: Gateway, stack: ExitStack) -> Any:
    """inotify on the spool, begun before the first scan; None where the kernel has none."""
    make_folders(gateway.spool)
    try:
        from inotify_simple import INotify, flags
    except ImportError:
        raise MissingError(
            "watch needs inotify_simple: pip install 'kgsm[gateway]' (Linux)"
        ) from None
    try:
        folder = INotify()
        folder.add_watch(str(gateway.spool), flags.CLOSE_WRITE | flags.MOVED_TO)
    except OSError:  # too many watches, or a file system without: the rescan does it alone
        return None
    stack.callback(folder.close)
    return folder


STOP, DOUBT, PROBES = b"s", b"d", b"p"


@dataclass(frozen=True)
class Wake:
    """What wakes the loop besides the folder: a signal to stop, a thread's doubt, readings."""

    read: int
    write: int

    def stop(self, *_: object) -> None:
        """End the loop."""
        self._say(STOP)

    def doubt(self) -> None:
        """Have the database looked at: a thread found it damaged."""
        self._say(DOUBT)

    def probed(self) -> None:
        """Have readings used that a thread has stored."""
        self._say(PROBES)

    def heard(self, wait_s: float = 0.0) -> bytes:
        """The words said since last asked; empty where none is said in ``wait_s`` seconds."""
        if not select.select([self.read], [], [], wait_s)[0]:
            return b""
        return os.read(self.read, 4096)

    def _say(self, word: bytes) -> None:
        with suppress(OSError):
            os.write(self.write, word)


@contextmanager
def _woken_by_signals() -> Iterator[Wake]:
    """A wake that SIGTERM and SIGINT stop."""
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


def _tellers(gateway: Gateway, work: Watch, stack: ExitStack, log: Log, wake: Wake) -> None:
    """Those who tell, each in a thread of its own, woken after each commit."""
    tellers: list[Any] = []
    if gateway.mqtt is not None:
        from ..publish.mqtt import MqttTeller

        tellers.append(MqttTeller(gateway, work.paddocks, log, wake.doubt, wake.probed))
    if gateway.farmos is not None:
        from ..publish.farmos import FarmosTeller

        tellers.append(FarmosTeller(gateway, log, wake.doubt))
    for teller in tellers:
        stack.callback(teller.close)
        teller.start()

    def told() -> None:
        for teller in tellers:
            teller.wake()

    work.told = told


def _serving(
    gateway: Gateway, work: Watch, stack: ExitStack, log: Log, wake: Wake, behind: bool
) -> None:
    """The HTTP side in a thread of this process."""
    from ..http.serve import Server

    server = Server(gateway, work.paddocks, log, behind_proxy=behind, probed=wake.probed)
    stack.callback(server.close)
    server.start()


def serve(gateway: Gateway, *, behind_proxy: bool = False, log: Log = log_line) -> None:
    """The API and the page alone, until SIGTERM or SIGINT."""
    from ..http.serve import Server

    with _woken_by_signals() as wake:
        server = Server(gateway, load_paddocks(gateway), log, behind_proxy=behind_proxy)
        server.start()
        notify("READY=1")
        select.select([wake.read], [], [])
        notify("STOPPING=1")
        server.close()


def roll_back_model(gateway: Gateway) -> str:
    """Put the model before back in use; returns its name."""
    with Store(gateway.database) as store:
        return models.roll_back(store, gateway)
