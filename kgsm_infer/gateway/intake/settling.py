"""Decide which files of the spool are complete.

A file is complete when it was closed after writing or renamed into the spool (inotify reports
both). Of writes over NFS or SMB no event arrives: such a file is complete when its size and time
have not changed for ``stable_s``. A file that was modified and not closed, or that lacks its end
(:func:`~kgsm_infer.gateway.intake.spool.has_its_end`), waits for :data:`UNCLOSED_S` instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .archive import Stamp, stamp_of
from .spool import Listing, has_its_end, list_spool

#: Seconds without a change after which a file that was not closed is processed all the same.
UNCLOSED_S = 900.0


@dataclass(frozen=True)
class FolderEvents:
    """Events of inotify in their order: (name, True for closed or renamed into the folder)."""

    events: tuple[tuple[str, bool], ...] = ()
    overflow: bool = False

    @property
    def closed(self) -> bool:
        """True if a file was closed or renamed into the folder."""
        return any(is_closed for _, is_closed in self.events)


NO_EVENTS = FolderEvents()


@dataclass(frozen=True)
class ReadyFiles:
    """Files to process, in the order of their names.

    again_s: seconds until a file that still changes should be checked again, or None.
    waiting: name -> reason, of files that wait to be closed.
    """

    files: tuple[Path, ...]
    ignored: dict[str, str]
    again_s: float | None = None
    waiting: dict[str, str] = field(default_factory=dict)


@dataclass
class Settling:
    """The spool as it was seen last."""

    spool: Path
    stable_s: float
    _seen: dict[Path, tuple[Stamp, float]] = field(default_factory=dict)  # stamp, seen since
    _closed: dict[Path, Stamp] = field(default_factory=dict)
    _open: set[Path] = field(default_factory=set)
    _left: set[tuple[Path, Stamp]] = field(default_factory=set)

    def leave(self, path: Path, stamp: Stamp | None) -> None:
        """Ignore a file that was processed and cannot be removed, until it changes."""
        if stamp and path.exists():
            self._left.add((path, stamp))

    def hear(self, events: FolderEvents) -> None:
        """Note which files were modified, closed or renamed into the spool."""
        for name, is_closed in events.events:
            path = self.spool / name
            if not is_closed:
                self._open.add(path)
                continue
            self._open.discard(path)
            stamp = stamp_of(path)
            if stamp is not None:
                self._closed[path] = stamp

    def look(self, first: bool) -> ReadyFiles:
        """List the spool and choose the complete files. first: after a start."""
        listing = list_spool(self.spool)
        ready, waiting = [], {}
        again_s: float | None = None
        for path in listing.files:
            stamp = stamp_of(path)
            if stamp is None or (path, stamp) in self._left:
                continue
            if self._closed.get(path) == stamp and path not in self._open:
                ready.append(path)
                continue
            still_s = self._still_s(path, stamp, first)
            reason = ""
            if path in self._open:
                reason = "its writer has not closed it"
            elif not has_its_end(path):
                reason = "its end is missing: the last line break of a CSV, the footer of a Parquet"
            left_s = (UNCLOSED_S if reason else self.stable_s) - still_s
            if left_s <= 0:
                ready.append(path)
            elif reason:
                waiting[path.name] = f"{reason}; processed after {UNCLOSED_S:g} s without a change"
            else:
                again_s = left_s if again_s is None else min(again_s, left_s)
        self._forget(listing)
        return ReadyFiles(tuple(ready), listing.ignored, again_s, waiting)

    def _still_s(self, path: Path, stamp: Stamp, first: bool) -> float:
        """Return the seconds for which a file has not changed."""
        now = time.monotonic()
        before, since = self._seen.get(path, (None, now))
        if before != stamp:
            # a file that was there before the start is as old as its time says
            age_s = time.time() - stamp.mtime_ns / 1e9 if first else 0.0
            since = now - max(0.0, age_s)
            self._seen[path] = (stamp, since)
        return now - since

    def _forget(self, listing: Listing) -> None:
        present: Iterable[Path] = set(listing.files)
        self._seen = {path: seen for path, seen in self._seen.items() if path in present}
        self._closed = {path: stamp for path, stamp in self._closed.items() if path in present}
        self._open = {path for path in self._open if path in present}
