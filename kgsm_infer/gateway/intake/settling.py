"""Which files of the spool are whole: closed or renamed, or standing still for a while."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .spool import stamp, waiting


@dataclass
class Settling:
    """The spool as it was seen last. stable_s: how long a file stands still until it is whole."""

    spool: Path
    stable_s: float
    _stamps: dict[Path, tuple[tuple[int, int], float]] = field(default_factory=dict)
    _left: set[tuple[Path, tuple[int, int]]] = field(default_factory=set)

    def leave(self, path: Path, size: tuple[int, int] | None) -> None:
        """Do not look again at a file that was taken and cannot be removed, until it changes."""
        if size and path.exists():
            self._left.add((path, size))

    def whole(self, closed: Iterable[str], first: bool) -> tuple[list[Path], float | None]:
        """Files to be taken, and the seconds until one that still changes should be looked at.

        closed: names inotify called whole; first: after a start.
        """
        ready, again = [], None
        now = time.monotonic()
        present = waiting(self.spool)
        for path in present:
            size = stamp(path)
            if size is None or (path, size) in self._left:
                continue
            if path.name not in closed:
                before, since = self._stamps.get(path, (None, now))
                if before != size:
                    # what lay there before the start is as old as it says
                    age = time.time() - size[1] / 1e9 if first else 0.0
                    since = now - max(0.0, age)
                    self._stamps[path] = (size, since)
                left = self.stable_s - (now - since)
                if left > 0:
                    again = left if again is None else min(again, left)
                    continue
            ready.append(path)
        self._stamps = {path: kept for path, kept in self._stamps.items() if path in present}
        return ready, again
