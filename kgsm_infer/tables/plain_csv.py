"""Fast path for plain CSV files: the C kernels of csrc/csv.c, in blocks of whole lines.

A file is plain where each line has the header's number of cells, quotes enclose whole cells and
hold no line end, and numbers have points. :mod:`kgsm_infer.tables.reading` reads and writes every
other file (and every file without the C core); both give the same columns, messages and bytes.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..kernels import text_core
from .text_column import TextColumn

BLOCK_BYTES = 1 << 22
_SEPARATORS = (",", ";", "\t", "|")


@dataclass(frozen=True)
class Header:
    """Header of a CSV file. above: lines above it.  names: of the columns.  separator: of cells."""

    above: int
    names: list[str]
    separator: str


#: Reads a header line; raises where it cannot be one.
HeaderReader = Callable[[IO[str]], Header]


@dataclass(frozen=True)
class PlainCsv:
    """Content of a plain CSV file. columns: in the order of the header, R cells each."""

    header: Header
    columns: list[TextColumn]

    @property
    def rows(self) -> int:
        """Number of rows, R."""
        return len(self.columns[0])


def read_plain(path: Path, read_header: HeaderReader) -> PlainCsv | None:
    """Read a plain CSV file; None where it is not plain, or the C core is missing."""
    if text_core() is None or not path.is_file():
        return None
    with open(path, "rb") as file:
        block = file.read(BLOCK_BYTES)
        if block[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in block:
            return None
        block = block.removeprefix(b"\xef\xbb\xbf")
        found = _header(block, read_header)
        if found is None:
            return None
        header, used = found
        reader = _Blocks(header)
        rest = block[used:]
        while True:
            more = file.read(BLOCK_BYTES)
            if not more:
                break
            end = rest.rfind(b"\n") + 1
            if not end or not reader.add(rest[:end]):
                return None
            rest = rest[end:] + more
        end = rest.rfind(b"\n") + 1
        for part in (rest[:end], rest[end:] + b"\n" if end < len(rest) else b""):
            if part and not reader.add(part):
                return None
    return PlainCsv(header, reader.done())


def _header(block: bytes, read_header: HeaderReader) -> tuple[Header, int] | None:
    """Read the header; returns it and the bytes up to the end of its line, or None."""
    start = block[: block.rfind(b"\n") + 1][: 1 << 20]
    start = start[: start.rfind(b"\n") + 1]
    if b"\r" in start.replace(b"\r\n", b""):
        return None
    try:
        file = io.StringIO(start.decode("utf-8"), newline="")
        header = read_header(file)
    except Exception:  # noqa: BLE001  the other path words the refusal
        return None
    if header.separator not in _SEPARATORS:
        return None
    return header, len(file.getvalue()[: file.tell()].encode())


class _Blocks:
    """Columns that grow by blocks of whole lines."""

    def __init__(self, header: Header) -> None:
        self._width, self._separator = len(header.names), header.separator
        self._parts: list[tuple[list[bytes], list[NDArray[np.int64]]]] = [
            ([], []) for _ in header.names
        ]

    def add(self, block: bytes) -> bool:
        """Add the lines of a block; False where they are not plain."""
        core = text_core()
        if self._separator != "," and b"," in block:  # decimal commas
            return False
        if not block.isascii():
            try:
                block.decode("utf-8")
            except UnicodeError:
                return False
        most = block.count(b"\n")
        begin = np.empty((most, self._width), np.int64)
        length = np.empty((most, self._width), np.int64)
        rows = core.csv_cells(block, ord(self._separator), begin, length)
        if rows < 0:
            return False
        for column, (raw, lengths) in enumerate(self._parts):
            own = length[:rows, column].copy()
            buffer = np.empty(int(own.sum()), np.uint8)
            core.csv_column(block, begin, length, rows, column, buffer)
            raw.append(buffer.tobytes())
            lengths.append(own)
        return True

    def done(self) -> list[TextColumn]:
        """Return the columns."""
        columns = []
        for raw, lengths in self._parts:
            ends = np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), dtype=np.int64)
            columns.append(TextColumn(b"".join(raw), ends))
            raw.clear()
        return columns


def plain_lines(columns: Sequence[TextColumn | NDArray[Any]]) -> str | None:
    """Write some rows of a CSV; None where a cell needs quotes or another care.

    columns: (N,) text columns, or arrays of numbers or strings. Floats get the shortest digits
    that read back exactly, NaN an empty cell.
    """
    core = text_core()
    if core is None or len(columns) < 2:
        return None
    texts = []
    for values in columns:
        text = values if isinstance(values, TextColumn) else _text_of(core, values)
        if text is None:
            return None
        is_text = isinstance(values, TextColumn) or values.dtype.kind == "U"
        if is_text and not core.text_is_plain(*text.packed):
            return None
        texts.append(text)
    lengths = np.sum([text.lengths() for text in texts], axis=0) + len(texts)
    ends = np.cumsum(lengths)
    out, at = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8), ends - lengths
    for number, text in enumerate(texts, start=1):
        core.csv_put(*text.packed, ord("\n" if number == len(texts) else ","), at, out)
    return out.tobytes().decode("utf-8")


def _text_of(core: Any, values: NDArray[Any]) -> TextColumn | None:
    """Return the cells of an array; None for another kind than numbers and strings."""
    if values.dtype == np.float32:
        values = np.ascontiguousarray(values)
        buffer = np.empty(len(values) * core.FLOAT_TEXT, np.uint8)
        ends, irregular = np.empty(len(values), np.int64), np.empty(len(values), np.uint8)
        core.float_text(values, buffer, ends, irregular)
        text = TextColumn(buffer[: int(ends[-1]) if len(ends) else 0].tobytes(), ends)
        if not irregular.any():
            return text
        at = np.flatnonzero(irregular)
        return text.replaced(at, values[at].astype(np.str_).tolist())
    if values.dtype.kind == "f":
        if values.dtype != np.float64:
            return None
        return TextColumn.of("" if item != item else repr(item) for item in values.tolist())
    if values.dtype.kind in "iu":
        return TextColumn.of(map(str, values.tolist()))
    return TextColumn.of_array(values) if values.dtype.kind == "U" else None


def header_cells(line: str, separator: str) -> list[str]:
    """Return the stripped cells of a header line; csv.Error where it is cut off."""
    reader = csv.reader([line], delimiter=separator, strict=True, skipinitialspace=True)
    return [cell.strip() for cell in next(reader)]
