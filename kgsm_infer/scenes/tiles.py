"""Keep decoded tiles of rasters in a temporary file, so that each is decoded once.

A block of a long stack is smaller than a stored tile. Reading it alone decodes the whole tile again
for each block. The tiles of a part of the scene are therefore decoded once, written to a temporary
file without compression, and read from there block by block. Memory stays that of one tile.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Hashable, Iterator, Mapping
from pathlib import Path
from threading import RLock
from typing import IO, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from ..base.files import write_at
from .grid import Window

#: Pixels decoded at once where tiles are smaller: 512 x 512.
UNIT_SIDE = 512
#: Most bytes of the temporary file.
MOST_BYTES = 4 << 30

#: Decoded bytes of the files that stay open between reads; GDAL holds about as much for them.
OPEN_BYTES = 64_000_000


class Closable(Protocol):
    """A file that opens again when it is read."""

    def close(self) -> None: ...


Decode = Callable[[Window], Mapping[Hashable, NDArray[Any]]]


class _Slot(NamedTuple):
    """Place of a decoded tile in the file."""

    key: Hashable
    start: int
    shape: tuple[int, int]
    dtype: np.dtype[Any]

    @property
    def stop(self) -> int:
        return self.start + self.shape[0] * self.shape[1] * self.dtype.itemsize


def unit_of(tile: tuple[int, int], height: int, width: int, depth: int = 1) -> tuple[int, int]:
    """Return the rows and columns decoded at once: whole tiles, about UNIT_SIDE x UNIT_SIDE.

    depth: bands that are decoded together; they share the number of pixels.

    >>> unit_of((256, 256), 10980, 10980), unit_of((1024, 1024), 10980, 10980)
    ((512, 512), (1024, 1024))
    >>> unit_of((1, 10980), 10980, 10980), unit_of((64, 64), 100, 100)
    ((23, 10980), (100, 100))
    """
    most = max(1, UNIT_SIDE * UNIT_SIDE // depth)
    side = max(1, min(UNIT_SIDE, int(most**0.5)))
    cols = min(width, tile[1] * max(1, side // tile[1]))
    rows = min(height, tile[0] * max(1, min(most // cols, side) // tile[0]))
    return rows, cols


class TileStore:
    """A ring of decoded tiles in a temporary file; the oldest are overwritten. Thread-safe.

    It keeps nothing until :meth:`keep` is called; each window is then decoded as it is asked for.
    """

    def __init__(self) -> None:
        self.lock = RLock()
        self._file: IO[bytes] | None = None
        self._most = 0
        self._next = 0
        self._slots: dict[Hashable, _Slot] = {}
        self._in_order: deque[_Slot] = deque()
        self._open: set[Closable] = set()
        self._open_bytes = 0

    @property
    def keeps(self) -> bool:
        """Return true where decoded tiles are kept."""
        return self._file is not None

    def keep(self, folder: Path, needed: int) -> None:
        """Keep tiles from now on, in a file of ``folder`` that is gone when it is closed.

        needed: bytes of the tiles that are read over and over. Nothing is kept where they would
        fill more than a quarter of the disk's free room.
        """
        try:
            most = min(MOST_BYTES, shutil.disk_usage(folder).free // 4)
            if needed <= most:
                self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115
                self._most = min(most, 4 * needed)
        except OSError:  # a folder that cannot be written: the caller's output says so
            self._file = None

    def free(self, file: Closable, size: int) -> None:
        """Close a file whose tile of ``size`` bytes is kept now, unless few are open.

        GDAL keeps the memory it decoded a tile in until the file is closed.
        """
        if not self.keeps or file in self._open:
            return
        if self._open_bytes + size > OPEN_BYTES:
            file.close()
            return
        self._open.add(file)
        self._open_bytes += size

    def close(self) -> None:
        """Remove the file."""
        with self.lock:
            if self._file is not None:
                self._file.close()
            self._file = None
            self._slots.clear()
            self._in_order.clear()

    def read(
        self,
        key: tuple[Hashable, ...],
        unit: tuple[int, int],
        size: tuple[int, int],
        window: Window,
        decode: Decode,
    ) -> NDArray[Any]:
        """Read a window of one band, (height, width) of the band's type.

        key: file and band.  unit: rows and columns decoded at once.  size: of the band.
        decode: returns the bands of a window by key, ``key`` among them.
        """
        if not self.keeps:
            with self.lock:
                return decode(window)[key]
        out: NDArray[Any] | None = None
        for tile in _tiles(unit, size, window):
            part = self._tile(key, tile, window, decode)
            if part.shape == (window.height, window.width):
                return part
            if out is None:
                out = np.empty((window.height, window.width), part.dtype)
            row, col = max(tile.row, window.row), max(tile.col, window.col)
            at = Window(row - window.row, col - window.col, *part.shape)
            out[at.slices] = part
        assert out is not None, "a window has pixels"
        return out

    def _tile(
        self, key: tuple[Hashable, ...], tile: Window, window: Window, decode: Decode
    ) -> NDArray[Any]:
        """Return the part of a tile that lies in the window."""
        top, left = max(tile.row, window.row), max(tile.col, window.col)
        bottom = min(tile.row + tile.height, window.row + window.height)
        right = min(tile.col + tile.width, window.col + window.width)
        rows, cols = (
            slice(top - tile.row, bottom - tile.row),
            slice(left - tile.col, right - tile.col),
        )
        with self.lock:
            slot = self._slots.get((key, tile))
            if slot is not None:
                return self._part(slot, rows, cols)
            planes = decode(tile)
            for name, plane in planes.items():
                self._put((name, tile), plane)
            return planes[key][rows, cols]

    def _part(self, slot: _Slot, rows: slice, cols: slice) -> NDArray[Any]:
        """Read rows and columns of a slot; whole rows unless the columns are few."""
        assert self._file is not None, "a slot is in the file"
        file, width, item = self._file.fileno(), slot.shape[1], slot.dtype.itemsize
        height = rows.stop - rows.start
        if 4 * (cols.stop - cols.start) >= width:
            start = slot.start + rows.start * width * item
            raw = os.pread(file, height * width * item, start)
            return np.frombuffer(raw, slot.dtype).reshape(height, width)[:, cols]
        count = cols.stop - cols.start
        lines = [
            os.pread(file, count * item, slot.start + (row * width + cols.start) * item)
            for row in range(rows.start, rows.stop)
        ]
        return np.frombuffer(b"".join(lines), slot.dtype).reshape(height, count)

    def _put(self, key: Hashable, plane: NDArray[Any]) -> None:
        """Write a decoded tile over the oldest ones; a full disk ends the keeping."""
        if self._file is None or plane.nbytes > self._most or key in self._slots:
            return
        start = self._next if self._next + plane.nbytes <= self._most else 0
        slot = _Slot(key, start, (plane.shape[0], plane.shape[1]), plane.dtype)
        while self._in_order and self._must_go(self._in_order[0], slot):
            del self._slots[self._in_order.popleft().key]
        try:
            write_at(self._file.fileno(), np.ascontiguousarray(plane).tobytes(), start)
        except OSError:
            self.close()
            return
        self._slots[key] = slot
        self._in_order.append(slot)
        self._next = slot.stop

    def _must_go(self, oldest: _Slot, new: _Slot) -> bool:
        """Return true where the oldest slot is overwritten or lies between the last and the end."""
        skipped = new.start < self._next <= oldest.start
        return skipped or (oldest.start < new.stop and new.start < oldest.stop)


def _tiles(unit: tuple[int, int], size: tuple[int, int], window: Window) -> Iterator[Window]:
    """Yield the units of a band that a window touches, cut at the band's edge."""
    rows, cols = unit
    for row in range(window.row // rows * rows, window.row + window.height, rows):
        for col in range(window.col // cols * cols, window.col + window.width, cols):
            yield Window(row, col, min(rows, size[0] - row), min(cols, size[1] - col))
