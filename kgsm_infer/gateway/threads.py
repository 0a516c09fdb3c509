"""Threads that are never lost: each is restarted after any exception, and watched.

The main loop asks :meth:`Task.is_well` before each beat of systemd's watchdog, so a process in
which a thread hangs is restarted; ``/health`` shows :meth:`Task.status`.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from .log import Log, place_of


class Signal:
    """A flag that one thread sets and another waits for, together with other descriptors."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._read.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable while the flag is set, for select."""
        return self._read.fileno()

    def set(self) -> None:
        """Set the flag."""
        with suppress(OSError):  # the buffer is full: it is set
            self._write.send(b"x")

    def clear(self) -> bool:
        """Clear the flag; returns True if it was set."""
        was_set = False
        with suppress(OSError):
            while self._read.recv(4096):
                was_set = True
        return was_set

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the flag is set, at most ``seconds``; returns True if it is."""
        return bool(select.select([self._read], [], [], seconds)[0])


@dataclass(frozen=True)
class Backoff:
    """Seconds to wait after failures: ``first_s``, then about ``factor`` times as long each time.

    The wait is drawn at random near these, so that many gateways do not return in step.
    """

    first_s: float = 1.0
    longest_s: float = 300.0
    factor: float = 2.0

    def wait_s(self, failures: int) -> float:
        """Return the wait after that many failures in a row, at least 1."""
        plain = self.first_s * self.factor ** min(failures - 1, 30)
        return min(self.longest_s, plain) * (0.75 + os.urandom(1)[0] / 512)


#: A run that lasted this long was a success; its failure starts the waits again.
LONG_RUN_S = 60.0
#: Seconds until a thread that said nothing about itself must show a sign of life.
PATIENCE_S = 180.0


@dataclass
class Task:
    """A function in a thread, called again after it failed or was killed.

    run: called with the task. It returns None when there is nothing more to do until
    :meth:`wake`, or the reason why it must be called again after a wait; exceptions count as
    reasons.  failed: called with the reason and the wait, to log it.
    """

    name: str
    run: Callable[[Task], str | None]
    log: Log
    backoff: Backoff = field(default_factory=Backoff)
    failed: Callable[[str, float], None] | None = None
    signal: Signal = field(default_factory=Signal)
    stopping: bool = False
    reason: str = ""  # of the last failure, empty after a success
    failures: int = 0  # in a row
    restarts: int = 0  # after exceptions, in all
    facts: dict[str, Any] = field(default_factory=dict)  # more that /health shows
    _thread: threading.Thread | None = None
    _due: float = float("inf")

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._guarded, name=self.name, daemon=True)
        self.expect(PATIENCE_S)
        self._thread.start()

    def ensure(self) -> None:
        """Start the thread again if it is gone."""
        if not self.stopping and self._thread is not None and not self._thread.is_alive():
            self.restarts += 1
            self.log("thread_restarted", thread=self.name)
            self.start()

    def wake(self) -> None:
        """Tell the thread that there is something to do."""
        self.signal.set()

    def stop(self, seconds: float = 15.0) -> None:
        """Ask the thread to end and wait for it."""
        self.stopping = True
        self.signal.set()
        if self._thread is not None:
            self._thread.join(seconds)

    def expect(self, seconds: float) -> None:
        """Expect a sign of life within ``seconds``."""
        self._due = time.monotonic() + seconds

    def succeeded(self) -> None:
        """Note that the work is done or under way."""
        self.reason, self.failures = "", 0

    def is_well(self) -> bool:
        """Return True if the thread lives and kept its promise."""
        alive = self._thread is None or self._thread.is_alive()
        return self.stopping or (alive and time.monotonic() <= self._due)

    def status(self) -> dict[str, Any]:
        """Return what ``/health`` shows."""
        if not self.is_well():
            state = "stuck" if self._thread is not None and self._thread.is_alive() else "dead"
        else:
            state = "failing" if self.reason else "ok"
        return {"state": state, "reason": self.reason, "restarts": self.restarts, **self.facts}

    def _guarded(self) -> None:
        while not self.stopping:
            began = time.monotonic()
            try:
                reason = self.run(self)
            except BaseException as error:  # noqa: BLE001  the last catch of a thread
                reason = f"{type(error).__name__}: {error}"[:500]
                self.restarts += 1
                self.log("fault", thread=self.name, error=reason, at=place_of(error))
            try:
                self._wait(reason, time.monotonic() - began)
            except BaseException as error:  # noqa: BLE001  killed while it waited
                self.log("fault", thread=self.name, error=repr(error), at=place_of(error))

    def _wait(self, reason: str | None, lasted_s: float) -> None:
        if self.stopping:
            return
        if reason is None:
            self.succeeded()
            self._due = float("inf")
            self.signal.wait()
        else:
            self.failures = 1 if lasted_s > LONG_RUN_S else self.failures + 1
            self.reason = reason
            wait_s = self.backoff.wait_s(self.failures)
            self.expect(wait_s + PATIENCE_S)
            if self.failed is not None:
                self.failed(reason, wait_s)
            until = time.monotonic() + wait_s
            while not self.stopping and (left_s := until - time.monotonic()) > 0:
                self.signal.wait(left_s)
                self.signal.clear()
            self.signal.set()  # what was queued meanwhile is not forgotten
        self.expect(PATIENCE_S)
