"""Read the database of a running gateway from another thread."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from .database import Store


@dataclass
class StoreReader:
    """A read-only connection of one thread that follows the file.

    A restore puts another file in the place of the database; the reader then opens that one.
    """

    database: Path
    _store: Store | None = None
    _inode: int = 0
    _version: tuple[int, int] = (-1, -1)
    _cache: dict[str, bytes] = field(default_factory=dict)

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
        self._store, self._inode, self._version = None, 0, (-1, -1)
        self._cache.clear()

    def cached(self, key: str, make: Callable[[], bytes]) -> bytes:
        """Return ``make()``, called once until the store changes."""
        store = self.store()
        version = (-1, -1) if store is None else store.version()
        if version != self._version:
            self._cache.clear()
            self._version = version
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]
