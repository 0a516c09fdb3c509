"""Fast path for plain CSV files: the C kernels of csrc/csv.c, in blocks of whole lines.

A line is plain where it has the header's number of cells, quotes enclose whole cells and hold no
line end, and numbers have points. Other lines are read by :mod:`kgsm_infer.tables.reading` with the
lines around them. It reads the whole file where a cell goes over the end of such a piece, where
something is refused, and without the C core. Both give the same columns, messages and bytes.
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
#: Lines around one that is not plain are read in Python, in pieces of at most this many bytes.
PIECE_BYTES = 1 << 16
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
class Records:
    """Rows of a piece of a file that is not plain.

    cells: of each column, stripped.  numbers: of the rows.  count: records, empty ones included.
    decimal_commas: True where a number proves them.
    """

    cells: list[list[str]]
    numbers: list[int]
    count: int
    decimal_commas: bool


#: Reads the text of whole lines, whose first record has the number given; raises to refuse.
RecordReader = Callable[[Header, str, int], Records]


@dataclass(frozen=True)
class PlainCsv:
    """Content of a CSV file. columns: in the order of the header, R cells each.

    row_number: (R,) row in the file.  decimal_commas: how its numbers are written.
    """

    header: Header
    columns: list[TextColumn]
    row_number: NDArray[np.int64]
    decimal_commas: bool


def read_plain(
    path: Path, read_header: HeaderReader, read_records: RecordReader
) -> PlainCsv | None:
    """Read a CSV file, plain lines in C; None where the file must be read as a whole.

    read_records: reads the lines that are not plain.
    """
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
        reader = _Blocks(header, read_records)
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
    return reader.done()


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

    def __init__(self, header: Header, read_records: RecordReader) -> None:
        self._header, self._read_records = header, read_records
        self._parts: list[tuple[list[bytes], list[NDArray[np.int64]]]] = [
            ([], []) for _ in header.names
        ]
        self._numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._next, self._decimal_commas = header.above + 2, False

    def add(self, block: bytes) -> bool:
        """Add the lines of a block; False where the file must be read as a whole.

        A block that is not plain is halved, so that few lines around the one that is not are read
        in Python. The left half is read first: a cell that goes over its end is refused there.
        """
        if self._add_plain(block):
            return True
        middle = len(block) // 2
        cut = block.rfind(b"\n", 0, middle) + 1 or block.find(b"\n", middle) + 1
        if len(block) > PIECE_BYTES and 0 < cut < len(block):
            return self.add(block[:cut]) and self.add(block[cut:])
        return self._add_records(block)

    def _add_plain(self, block: bytes) -> bool:
        """Add plain lines in C; False, and nothing is added, where they are not."""
        core, separator = text_core(), self._header.separator
        if separator != "," and b"," in block:  # decimal commas
            return False
        if not block.isascii():
            try:
                block.decode("utf-8")
            except UnicodeError:
                return False
        most, width = block.count(b"\n"), len(self._parts)
        begin = np.empty((most, width), np.int64)
        length = np.empty((most, width), np.int64)
        rows = core.csv_cells(block, ord(separator), begin, length)
        if rows < 0:
            return False
        for column, (raw, lengths) in enumerate(self._parts):
            own = length[:rows, column].copy()
            buffer = np.empty(int(own.sum()), np.uint8)
            core.csv_column(block, begin, length, rows, column, buffer)
            raw.append(buffer.tobytes())
            lengths.append(own)
        self._numbers.append(np.arange(self._next, self._next + rows))
        self._next += rows
        return True

    def _add_records(self, block: bytes) -> bool:
        """Add lines read in Python; False where they are refused (the other path says why)."""
        try:
            found = self._read_records(self._header, block.decode("utf-8"), self._next)
        except MemoryError:
            raise
        except Exception:  # noqa: BLE001  the other path words the refusal
            return False
        for cells, (raw, lengths) in zip(found.cells, self._parts, strict=True):
            encoded = [cell.encode("utf-8", "surrogatepass") for cell in cells]
            raw.append(b"".join(encoded))
            lengths.append(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        self._numbers.append(np.asarray(found.numbers, np.int64))
        self._next += found.count
        self._decimal_commas |= found.decimal_commas
        return True

    def done(self) -> PlainCsv:
        """Return the columns and the numbers of the rows."""
        columns = []
        for raw, lengths in self._parts:
            ends = np.cumsum(np.concatenate([np.zeros(0, np.int64), *lengths]), dtype=np.int64)
            columns.append(TextColumn(b"".join(raw), ends))
            raw.clear()
        numbers = np.concatenate(self._numbers)
        return PlainCsv(self._header, columns, numbers, self._decimal_commas)


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
