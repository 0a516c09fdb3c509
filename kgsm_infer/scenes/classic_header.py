"""Check the header of a classic NetCDF file (NetCDF 3) before a library opens it.

The NetCDF library ends the process where a damaged header announces more than memory holds: four of
10,000 damaged files did so (``tools/fuzz.py``, seed 7). The header is read here by its grammar
(NetCDF User's Guide, appendix "File format specifications"), and every count is compared with the
size of the file.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from ..base.errors import DataError
from ..tables.text_column import shorten

#: Version byte after ``CDF`` -> bytes of a count and of an offset.
_WIDTHS = {1: (4, 4), 2: (4, 8), 5: (8, 8)}
#: Bytes of one value, by its type: byte, char, short, int, float, double; CDF-5 has five more.
_VALUE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 4, 6: 8, 7: 1, 8: 2, 9: 4, 10: 8, 11: 8}
_DIMENSIONS, _VARIABLES, _ATTRIBUTES = 10, 11, 12
#: A name of the library has at most so many bytes (NC_MAX_NAME).
_LONGEST_NAME = 256


def check_classic(path: str | Path) -> None:
    """Raise DataError where a file is classic NetCDF and its header is damaged.

    Files of another kind, and files that cannot be opened, are left to the caller.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115  closed below
    except (OSError, ValueError):
        return
    with file:
        magic = file.read(4)
        if magic[:3] != b"CDF" or len(magic) < 4:
            return
        if magic[3] not in _WIDTHS:
            raise DataError(f"{path}: is classic NetCDF of the unknown version {magic[3]}")
        _HeaderFile(str(path), file, Path(path).stat().st_size, *_WIDTHS[magic[3]]).check()


@dataclass(frozen=True)
class _HeaderVariable:
    name: str
    is_record: bool
    size_bytes: int
    begin: int


@dataclass(frozen=True)
class _HeaderFile:
    """A header that is being read. size: of the file, bytes."""

    path: str
    file: IO[bytes]
    size: int
    count_bytes: int
    offset_bytes: int

    def check(self) -> None:
        """Read the header to its end, then compare each variable with the size of the file."""
        records = self._number(self.count_bytes)
        is_streamed = records == 256**self.count_bytes - 1  # its number is not known
        dimensions = [
            (self._name(), self._number(self.count_bytes))[1] for _ in self._list(_DIMENSIONS)
        ]
        self._attributes()
        variables = [self._variable(dimensions) for _ in self._list(_VARIABLES)]
        end = self.file.tell()
        steps = [one.size_bytes for one in variables if one.is_record]
        step = sum(_padded(one) for one in steps) if len(steps) > 1 else sum(steps)
        for one in variables:
            if one.begin < end:
                raise self._damaged(f"variable {shorten(one.name)} begins in the header")
            if one.is_record and (is_streamed or records == 0):
                continue
            before = (records - 1) * step if one.is_record else 0
            if one.begin + before + one.size_bytes > self.size:
                raise DataError(
                    f"{self.path}: ends at byte {self.size}, before the end of variable "
                    f"{shorten(one.name)}; a truncated download?"
                )

    def _variable(self, dimensions: Sequence[int]) -> _HeaderVariable:
        name = self._name()
        axes = [self._number(self.count_bytes) for _ in range(self._count(self.count_bytes))]
        if any(axis >= len(dimensions) for axis in axes):
            raise self._damaged(f"variable {shorten(name)} has a dimension that does not exist")
        lengths = [dimensions[axis] for axis in axes]
        if 0 in lengths[1:]:
            raise self._damaged(f"variable {shorten(name)} has no length along a dimension")
        self._attributes()
        value_bytes = self._value_bytes()
        self._number(self.count_bytes)  # the stated size, which overflows for large variables
        begin = self._number(self.offset_bytes)
        is_record = bool(lengths) and lengths[0] == 0
        size = value_bytes * math.prod(lengths[1:] if is_record else lengths)
        return _HeaderVariable(name, is_record, size, begin)

    def _attributes(self) -> None:
        for _ in self._list(_ATTRIBUTES):
            self._name()
            value_bytes = self._value_bytes()
            self._skip(value_bytes * self._count(value_bytes))

    def _list(self, tag: int) -> range:
        """Return a range over the entries of a list."""
        found, count = self._number(4), self._count(self.count_bytes)
        if found not in (0, tag) or (found == 0 and count != 0):
            raise self._damaged(f"the list with tag {tag} has tag {found}")
        return range(count)

    def _name(self) -> str:
        length = self._count(1)
        if not 0 < length <= _LONGEST_NAME:
            raise self._damaged(f"a name of {length} bytes")
        name = self.file.read(length)
        self.file.seek(_padded(length) - length, 1)
        return name.decode("utf-8", "replace")

    def _value_bytes(self) -> int:
        kind = self._number(4)
        if kind not in _VALUE_BYTES:
            raise self._damaged(f"values of the unknown type {kind}")
        return _VALUE_BYTES[kind]

    def _count(self, each_bytes: int) -> int:
        """Read a count of entries with at least so many bytes each, which must be in the file."""
        count = self._number(self.count_bytes)
        if count * each_bytes > self.size - self.file.tell():
            raise self._damaged(f"{count} entries in a file of {self.size} bytes")
        return count

    def _skip(self, size_bytes: int) -> None:
        self.file.seek(_padded(size_bytes), 1)

    def _number(self, width: int) -> int:
        found = self.file.read(width)
        if len(found) < width:
            raise DataError(f"{self.path}: ends within its header; a truncated download?")
        return int.from_bytes(found, "big")

    def _damaged(self, what: str) -> DataError:
        return DataError(
            f"{self.path}: its NetCDF header is damaged at byte {self.file.tell()} ({what}); "
            "a truncated download?"
        )


def _padded(size_bytes: int) -> int:
    """Round up to the four bytes on which entries begin.

    >>> [_padded(size) for size in (0, 1, 4, 5)]
    [0, 4, 4, 8]
    """
    return -(-size_bytes // 4) * 4
