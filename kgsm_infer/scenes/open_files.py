"""Open files of a scene, shared by all readers of one run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

from .sources import BandSource, opened
from .tiles import TileStore

#: Fewest files kept open, and the share of a process's limit that they may use.
_FEWEST, _SHARE = 64, 0.75
#: Most files kept open, whatever the limit: GDAL needs about 0.1 MB for each.
_MOST = 1024


class OpenFiles:
    """Open files by path and stated CRS, each opened once; and their decoded tiles.

    Readers in several threads may share it once :attr:`tiles` keeps tiles; without, it is of one
    thread. Above the number a process may open, the file opened last makes room: passes over
    a stack read all files in turn, so the others are needed first.
    """

    def __init__(self) -> None:
        self.tiles = TileStore()
        self._lock: RLock = self.tiles.lock
        self._open: dict[tuple[str, str | None], BandSource] = {}
        self._most = open_files_at_most()

    def open(self, path: str, crs: str | None) -> BandSource:
        """Return a file, opened where it is not yet. DataError where it cannot be read.

        crs: of the manifest, for a file without one.
        """
        with self._lock:
            key = (path, crs)
            if key not in self._open:
                if len(self._open) >= self._most:
                    self._open.popitem()  # closed with its last reference
                self._open[key] = opened(path, crs, self.tiles)
            return self._open[key]

    def close(self) -> None:
        """Close every file and forget the tiles."""
        while self._open:
            self._open.popitem()[1].close()
        self.tiles.close()


@contextmanager
def shared_files(files: OpenFiles | None = None) -> Iterator[OpenFiles]:
    """Yield ``files``; or new ones that are closed at the end."""
    if files is not None:
        yield files
        return
    own = OpenFiles()
    try:
        yield own
    finally:
        own.close()


def open_files_at_most() -> int:
    """Return how many files may be kept open: three quarters of this process's limit."""
    try:
        import resource
    except ImportError:  # Windows
        return _FEWEST
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _MOST
    return max(_FEWEST, min(_MOST, int(limit * _SHARE)))
