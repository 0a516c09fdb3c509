"""Who may write a file, and who may put another in its place: a lock file beside it.

A database that is renamed while somebody may write to it leaves that writer's log beside the file
that takes its place. So writers share ``NAME.lock``, and who renames holds it alone.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...base.errors import MissingError

#: Seconds to wait until all others let go: a post to farmOS may hang about that long.
PATIENCE_S = 60.0


def shared(path: Path) -> int | None:
    """A descriptor that shares the lock of ``path`` until it is closed; waits for who is alone.

    None where there can be no lock: on a disk that is full or read-only nobody writes.
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
    """With nobody else sharing the lock; MissingError where one does not let go in PATIENCE_S."""
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
