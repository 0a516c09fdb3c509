"""Read the database of a running gateway from another thread."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .database import Store


@dataclass(frozen=True)
class Answer:
    """A cached answer. version, arrival: of the store it was made from.  made_s: monotonic."""

    content: bytes
    version: tuple[int, int]
    arrival: int
    made_s: float


@dataclass
class StoreReader:
    """A read-only connection of one thread that follows the file.

    A restore puts another file in the place of the database; the reader then opens that one.
    """

    database: Path
    _store: Store | None = None
    _inode: int = 0
    _cache: dict[str, Answer] = field(default_factory=dict)

    def store(self) -> Store | None:
        """Return the present database, or None without a file."""
        try:
            inode = os.stat(self.database).st_ino
        except OSError:
            inode = 0
        if inode != self._inode:
            self.close()
            self._store = Store(self.database, read_only=True) if inode else None
            self._inode = inode
        return self._store

    def close(self) -> None:
        """Close the database and forget cached answers."""
        if self._store is not None:
            self._store.close()
        self._store, self._inode = None, 0
        self._cache.clear()

    def cached(self, key: str, make: Callable[[], bytes], hold_s: float = 0.0) -> bytes:
        """Return ``make()``, called once until the store changes.

        hold_s: seconds for which an answer stays if the store got no new arrival, so that a reading
        of a probe every second does not cost a page every second.
        """
        store = self.store()
        version = (-1, -1) if store is None else store.version()
        now, known = time.monotonic(), self._cache.get(key)
        if known is not None and known.version == version:
            return known.content
        arrival = 0 if store is None else store.last_sequence()
        if known is not None and now < known.made_s + hold_s and known.arrival == arrival:
            return known.content
        content = make()
        self._cache[key] = Answer(content, version, arrival, now)
        return content
