"""Name the failures of the database file: damaged, full, or not usable."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...base.errors import MissingError

#: SQLite's own codes (extended codes carry the plain one in their low byte).
_FULL, _CORRUPT, _NOT_A_DATABASE, _READ_ONLY, _IO = 13, 11, 26, 8, 10


class StoreBroken(MissingError):
    """The database file itself is damaged: restore it."""


class StoreFull(MissingError):
    """The disk is full or may not be written: nothing was stored, nothing is lost."""


@contextmanager
def explained(path: Path) -> Iterator[None]:
    """Explain SQLite's errors: what is damaged, what is full, what is in the way."""
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code in (_CORRUPT, _NOT_A_DATABASE):
            raise StoreBroken(f"{path}: the database is damaged ({error})") from error
        if code in (_FULL, _READ_ONLY, _IO):
            raise StoreFull(f"{path}: cannot be written ({error})") from error
        raise MissingError(f"{path}: {error}") from error
