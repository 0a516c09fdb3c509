"""Lock files: many processes write a database, one replaces it.

A process that still writes to a database after another file replaced it would leave its write-ahead
log with the new file. So writers share ``NAME.lock``, and a restore holds it alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...base.errors import MissingError

#: Seconds to wait for the other holders: a post to farmOS may take about that long.
PATIENCE_S = 60.0


def shared(path: Path) -> int | None:
    """Return a descriptor that shares the lock of ``path`` until it is closed, after a wait.

    None if no lock can be made: a disk that is full or read-only has no writers.
    """
    try:
        return _locked(path, fcntl.LOCK_SH)
    except OSError:
        return None


def hold(path: Path) -> int:
    """Return a descriptor that holds the lock of ``path`` alone until it is closed.

    MissingError if another process holds it, or where no lock can be made.
    """
    try:
        return _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise MissingError(
            f"{path.parent}: another watch uses this state folder; stop it, or name another state"
        ) from None
    except OSError as error:
        raise MissingError(f"{path.parent}: cannot be locked ({error.strerror})") from None


@contextmanager
def alone(path: Path) -> Iterator[None]:
    """Hold the lock alone; MissingError if another process keeps it for PATIENCE_S."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            lock = _locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > until:
                raise MissingError(f"{path}: others keep it open, so it stays") from None
            time.sleep(0.02)
        except OSError as error:
            raise MissingError(f"{path}: cannot be locked ({error.strerror})") from None
    try:
        yield
    finally:
        os.close(lock)


def _locked(path: Path, how: int) -> int:
    lock = os.open(path.with_suffix(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, how)
    except OSError:
        os.close(lock)
        raise
    return lock
