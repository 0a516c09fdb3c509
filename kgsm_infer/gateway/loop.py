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
from functools import partial
from typing import Any

from ..errors import MissingError
from . import models
from .config import Gateway
from .log import Log, log_line
from .notify import notify, watchdog_s
from .spool import make_folders
from .store import Store
from .watch import Watch, load_paddocks


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
        if not once and gateway.serve.with_watch:
            _serving(gateway, work, stack, counted, behind_proxy)
        counted("ready", name=gateway.name, model=work.loaded.hash, sinks=list(work.sinks))
        notify("READY=1\nSTATUS=watching")
        if once:
            _once(work, wake)
        else:
            _forever(work, wake, folder)
        counted("stopping")
        notify("STOPPING=1")
    return bad


def _once(work: Watch, wake: int) -> None:
    again = work.guarded(lambda: work.scan(first=True))
    while again is not None and not select.select([wake], [], [], again)[0]:
        again = work.guarded(work.scan)
    work.guarded(work.keep_house)


def _forever(work: Watch, wake: int, folder: Any) -> None:
    gateway = work.gateway
    beat = watchdog_s()
    due: dict[str, float] = {
        "rescan": 0.0,
        "backup": time.monotonic() + 60.0,  # soon after a start: the box may not live a day
        "beat": time.monotonic() + beat if beat else float("inf"),
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
        if beat and now >= due["beat"]:
            notify("WATCHDOG=1")
            due["beat"] = time.monotonic() + beat
        wait = max(0.0, min(due.values()) - time.monotonic())
        sources = [wake] if folder is None else [wake, folder]
        if wake in select.select(sources, [], [], wait)[0]:
            return


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


@contextmanager
def _woken_by_signals() -> Iterator[int]:
    """A descriptor that becomes readable at SIGTERM or SIGINT."""
    read, write = os.pipe()
    os.set_blocking(write, False)

    def stop(*_: object) -> None:
        with suppress(OSError):
            os.write(write, b"x")

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield read
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _serving(gateway: Gateway, work: Watch, stack: ExitStack, log: Log, behind: bool) -> None:
    """The HTTP side in a thread of this process; without its packages the watch goes on alone."""
    from .serve import Server

    server = Server(gateway, work.paddocks, log, behind_proxy=behind)
    stack.callback(server.close)
    server.start()


def serve(gateway: Gateway, *, behind_proxy: bool = False, log: Log = log_line) -> None:
    """The API and the page alone, until SIGTERM or SIGINT."""
    from .serve import Server

    with _woken_by_signals() as wake:
        server = Server(gateway, load_paddocks(gateway), log, behind_proxy=behind_proxy)
        server.start()
        notify("READY=1")
        select.select([wake], [], [])
        notify("STOPPING=1")
        server.close()


def roll_back_model(gateway: Gateway) -> str:
    """Put the model before back in use; returns its name."""
    with Store(gateway.database) as store:
        return models.roll_back(store, gateway)
