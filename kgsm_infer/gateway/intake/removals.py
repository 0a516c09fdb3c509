"""Requests to remove acquisitions: ``NAME.removal`` files of the spool.

A removal is an arrival like any file: it is archived under a number, so a store that is built
again from the archive removes the same acquisitions, and a later file may add them again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from ...base.errors import DataError, MissingError, UsageError
from ...base.files import write_whole
from ...base.schema import build, parse_json
from ...tables.dates import is_day, utc_seconds
from ..keys import paddock_key
from ..records import canonical


@dataclass(frozen=True)
class Removal:
    """Acquisitions of a paddock to remove: from ``since`` to before ``until``, s since 1970."""

    paddock: str
    since: int
    until: int


@dataclass(frozen=True)
class RemovalRequest:
    """The content of a request. date: a day or a time, ISO 8601."""

    paddock: str
    date: str


def read_removal(path: Path, name: str) -> Removal:
    """Read a request; DataError if the file is not one."""
    try:
        asked = build(RemovalRequest, parse_json(path.read_bytes()))
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(
            f'{name}: not a removal ({error}); write {{"paddock": "7", "date": "2024-01-07"}}'
        ) from None
    paddock, date = asked.paddock, asked.date
    found = _removal(paddock, date)
    if found is None:
        raise DataError(f"{name}: paddock {paddock!r}, date {date!r}: not a paddock and a date")
    return found


def write_removal(spool: Path, paddock: str, date: str) -> Path:
    """Write a request into the spool; UsageError if ``date`` is not a date.

    date: a day removes all acquisitions of the paddock on that UTC day, a time that one.
    """
    if _removal(paddock, date) is None:
        raise UsageError(f"{date!r} is not a date; write 2024-03-04, or 2024-03-04T05:30:12Z")
    content = canonical({"paddock": paddock, "date": date})
    target = spool / f"remove-{hashlib.sha256(content).hexdigest()[:16]}.removal"
    with write_whole(target, "wb") as file:
        file.write(content)
    return target


def _removal(paddock: str, date: str) -> Removal | None:
    seconds = utc_seconds(date.strip())
    if seconds is None:
        return None
    length = 86400 if is_day(date.strip()) else 1
    return Removal(paddock_key(paddock), seconds, seconds + length)
