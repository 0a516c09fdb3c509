"""Table files: CSV and Parquet into columns, and columns into files.

A CSV is read in blocks of rows, each column packed (:mod:`kgsm_infer.tables.text_column`), so that
memory is about the size of the file. Variants that spreadsheets write are read where they are
unambiguous: a byte order mark, UTF-16, ``sep=;``, semicolons or tabs with decimal commas, empty
columns and rows at the end. Other variants are refused with the cause. Plain files take a faster
way (:mod:`kgsm_infer.tables.plain_csv`).

Text that a spreadsheet would run as a formula is written with an apostrophe before it, the
spreadsheets' own sign for text, and read without it.
"""

from __future__ import annotations

import csv
import io
import re
import stat
import sys
from array import array
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, MissingError, is_out_of_memory, raise_if_machine
from ..base.files import write_whole
from .keys import canonical_name, name_note
from .parsing import CellParser
from .plain_csv import Header, PlainCsv, Records, header_cells, plain_lines, read_plain
from .text_column import TextColumn, TextColumnBuilder, column_of, named_columns, shorten

BLOCK_ROWS = 2048
#: Cells of Parquet columns that are decoded together, about 8 MB.
CELLS_AT_ONCE = 1 << 20
WRITTEN_ROWS = 1 << 16
#: Longest cell and line, characters (outlines of a .geo column are long).
LONGEST_CELL = 2**24
#: Most rows of a table that is read.
MOST_ROWS = 2**27

_COMMA_NUMBER = re.compile(r"[+\-\u2212]?\d*,\d+")
_THOUSANDS = re.compile(r"[+\-\u2212]?[1-9]\d{0,2},\d{3}")
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"''*[=+\-@\t\r]")
_PLAIN_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)

#: First bytes of other files -> their kind.
_OTHER_FILES = {
    b"PK\x03\x04": "an Excel workbook or another zip",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook",
    b"\x1f\x8b": "compressed with gzip",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x89HDF": "HDF5 or NetCDF",
    b"%PDF": "a PDF",
    b"SQLite": "an SQLite file or GeoPackage",
}
_NOT_TABLES = {"<": "HTML or XML, perhaps a page that asks to log in", "{": "JSON"}


@dataclass(frozen=True)
class Sheet:
    """Columns of a file, not yet checked against the contract.

    columns: name -> (R,) array of numbers, or :class:`TextColumn`.  row_number: (R,) row in the
    file; a CSV's header is row 1.  decimal_commas: how its numbers are written.  name_note: which
    names of columns were changed to their canonical form.
    """

    source: str
    columns: Mapping[str, Any]
    row_number: NDArray[np.int64]
    decimal_commas: bool = False
    name_note: str = ""

    def __len__(self) -> int:
        return len(self.row_number)

    @property
    def check(self) -> CellParser:
        """Parser of its cells."""
        return CellParser(self.source, self.row_number, self.decimal_commas)


def read_sheet(path: str | Path) -> Sheet:
    """Read the columns of a CSV or Parquet file; ``-`` is standard input, a CSV.

    DataError where the file is not what it says, MissingError where memory does not reach.
    """
    path = Path(path)
    if path.suffix.lower() == ".onnx":
        raise DataError(f"{path}: is a model, not a table; name the table after the model")
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return _read_parquet(path)
        source = str(path)
        plain = read_plain(
            path,
            lambda file: _header_of(source, file),
            lambda header, text, number: _records_of(source, header, text, number),
        )
        if plain is not None:
            return _sheet_of_plain(source, plain)
        with open_text(path) as file:
            return _read_csv(str(path), file)
    except MemoryError:
        raise MissingError(f"{path}: not enough memory to read it") from None
    except OSError as error:
        raise_if_machine(error, str(path))
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from None


def sheet_of(
    columns: Any, source: str = "table", row_number: NDArray[np.int64] | None = None
) -> Sheet:
    """Read columns in memory (a mapping, pandas, polars, pyarrow); rows count from 1."""
    plain = {
        name: column_of(values, f"{source}: column {name}")
        for name, values in named_columns(columns).items()
    }
    lengths = {name: len(values) for name, values in plain.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{source}: columns of different lengths: {lengths}")
    count = next(iter(lengths.values()), 0)
    return _sheet(source, plain, np.arange(1, count + 1) if row_number is None else row_number)


def _sheet(
    source: str,
    columns: Mapping[str, Any],
    row_number: NDArray[np.int64],
    decimal_commas: bool = False,
) -> Sheet:
    """Make a sheet with the canonical names of columns. DataError where two of them are one."""
    names = {name: canonical_name(name) for name in columns}
    count = Counter(names.values())
    if len(count) < len(names):
        old = next(name for name in names if count[names[name]] > 1)
        spelt = ", ".join(ascii(name) for name in names if names[name] == names[old])
        raise DataError(f"{source}: column {shorten(names[old])!r} is a duplicate ({spelt})")
    renamed = {names[name]: values for name, values in columns.items()}
    return Sheet(source, renamed, row_number, decimal_commas, name_note(source, names))


def write_csv(path: str | Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as CSV (Parquet with that suffix), whole or not at all.

    Floats are written with the digits that bring them back exactly; NaN is an empty cell.
    Text that a spreadsheet would run as a formula gets an apostrophe, which reading takes off.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        _write_parquet(path, columns)
        return
    values = [v if isinstance(v, TextColumn) else np.asarray(v) for v in columns.values()]
    lengths = {len(v) for v in values}
    if len(lengths) > 1:
        raise ValueError(f"columns of different lengths: {sorted(lengths)}")
    with write_whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([guard_formula(str(name)) for name in columns])
        for start in range(0, max(lengths, default=0), WRITTEN_ROWS):
            block = [v[start : start + WRITTEN_ROWS] for v in values]
            lines = plain_lines(block)
            if lines is not None:
                file.write(lines)
                continue
            for first in range(0, len(block[0]), BLOCK_ROWS):
                some = slice(first, first + BLOCK_ROWS)
                writer.writerows(zip(*[_written(v[some]) for v in block], strict=True))


@contextmanager
def open_text(path: Path) -> Iterator[IO[str]]:
    """Open a file of text, or standard input; DataError where that fails."""
    if str(path) == "-":
        yield sys.stdin
        return
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            kind = "is a folder" if stat.S_ISDIR(mode) else "is a device, not a file"
            raise DataError(f"{path}: cannot be read (it {kind})")
        raw: IO[bytes] = open(path, "rb")  # noqa: SIM115  closed with its text below
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({_reason(error)})") from None
    head = b"" if stat.S_ISFIFO(mode) else raw.peek(8)[:8]  # type: ignore[attr-defined]
    utf16 = head[:2] in (b"\xff\xfe", b"\xfe\xff")
    with io.TextIOWrapper(raw, "utf-16" if utf16 else "utf-8-sig", newline="") as text:
        other = [what for start, what in _OTHER_FILES.items() if head.startswith(start)]
        if other:
            raise DataError(f"{path}: not a text file but {other[0]}; save the table as CSV, UTF-8")
        if b"\0" in head[:2] or head[:4] == b"\xff\xfe\0\0":  # text in ASCII has no zero bytes
            raise DataError(
                f"{path}: UTF-16 text without a byte order mark, or UTF-32; save it as CSV, UTF-8"
            )
        yield text


def _header_of(source: str, file: IO[str]) -> Header:
    """Read the header's line; DataError where it cannot be one."""
    first = _first_line(source, iter(file.readline, ""))
    names = header_cells(first.text, first.separator)
    _check_header(source, first.above, names)
    return Header(first.above, names, first.separator)


def _sheet_of_plain(source: str, plain: PlainCsv) -> Sheet:
    above = plain.header.above
    columns = _named(source, above, plain.header.names, plain.columns)
    return _sheet(source, columns, plain.row_number, plain.decimal_commas)


def _records_of(source: str, header: Header, text: str, number: int) -> Records:
    """Read whole lines of a file; DataError or csv.Error where they are refused."""
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    reader = csv.reader(
        _lines(source, io.StringIO(text, newline="")),
        delimiter=header.separator,
        strict=True,
        skipinitialspace=True,
    )
    block = list(enumerate(reader, start=number))
    return _records(source, header, block)


def _records(source: str, header: Header, block: list[tuple[int, list[str]]]) -> Records:
    """Check and clean numbered records; empty ones are left out."""
    rows = list(_rows_of_width(source, len(header.names), header.above + 1, block))
    columns = list(zip(*(record for _, record in rows), strict=True)) or [()] * len(header.names)
    texts = [[cell.strip() for cell in cells] for cells in columns]
    commas = header.separator != "," and any(_proves_decimal_comma(t) for own in texts for t in own)
    cells = [[_unguarded(text) for text in own] for own in texts]
    return Records(cells, [number for number, _ in rows], len(block), commas)


def _named(
    source: str, above: int, header: list[str], cells: Sequence[TextColumn]
) -> dict[str, Any]:
    """Name -> column; empty columns without a name, which spreadsheets leave, are left out."""
    columns: dict[str, Any] = {}
    for name, column in zip(header, cells, strict=True):
        column.label = f"{source}: column {shorten(name) or 'without a name'}"
        if name == "" and not column.lengths().any():
            continue
        if name in columns:
            raise DataError(f"{source}: row {above + 1}: two columns have cells but no name")
        columns[name] = column
    return columns


def _read_csv(source: str, file: IO[str]) -> Sheet:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_CELL))
    lines = _lines(source, file)
    first = _first_line(source, lines)
    above = first.above
    reader = csv.reader(
        chain([first.text], lines), delimiter=first.separator, strict=True, skipinitialspace=True
    )
    try:
        header = [cell.strip() for cell in next(reader)]
        _check_header(source, above, header)
        packings = [TextColumnBuilder() for _ in header]
        rows, decimal_commas = array("q"), False
        records = enumerate(reader, start=above + 2)
        while block := list(islice(records, BLOCK_ROWS)):
            found = _records(source, Header(above, header, first.separator), block)
            rows.extend(found.numbers)
            for packing, cells in zip(packings, found.cells, strict=True):
                packing.add(cells)
            decimal_commas |= found.decimal_commas
    except csv.Error as error:
        raise DataError(
            f"{source}: line {reader.line_num + above}: not valid CSV ({error})"
        ) from None
    columns = _named(source, above, header, [packing.done() for packing in packings])
    return _sheet(source, columns, np.asarray(rows, np.int64), decimal_commas)


def _lines(source: str, file: IO[str]) -> Iterator[str]:
    """Read the lines of a text file; DataError where it is not text."""
    count = 0
    try:
        while line := file.readline(LONGEST_CELL):
            count += 1
            if len(line) == LONGEST_CELL:
                raise DataError(f"{source}: line {count} is longer than any table's; is it a CSV?")
            if "\0" in line:
                raise DataError(
                    f"{source}: not a text file (it holds zero bytes); is it really a CSV?"
                )
            yield line
    except UnicodeError:
        raise DataError(
            f"{source}: not a UTF-8 text file (after line {count}); save it as CSV, UTF-8"
        ) from None
    except OSError as error:
        raise DataError(f"{source}: cannot be read ({_reason(error)})") from None


@dataclass(frozen=True)
class _FirstLine:
    """First line of a header. above: number of lines above it."""

    above: int
    text: str
    separator: str


def _first_line(source: str, lines: Iterator[str]) -> _FirstLine:
    """Find the first line of the header; DataError where no table can begin with it."""
    declared = ""
    for above, line in enumerate(lines):
        text = line.strip("\r\n")
        if not text.strip().strip(" ,;\t\ufeff"):
            continue
        said = re.fullmatch(r'"?sep=(.)"?[,;\t]*', text)
        if said and not declared:
            declared = said.group(1)
            continue
        if text.lstrip()[0] in _NOT_TABLES:
            raise DataError(f"{source}: not a table but {_NOT_TABLES[text.lstrip()[0]]}")
        if declared not in ("", ",", ";", "\t", "|"):
            raise DataError(
                f"{source}: line {above}: no table is separated by {shorten(declared)!r}"
            )
        counts = {separator: text.count(separator) for separator in (",", ";", "\t")}
        likely = max(counts, key=lambda separator: counts[separator])
        return _FirstLine(above, line, declared or likely)
    raise DataError(f"{source}: the file is empty")


def _check_header(source: str, above: int, header: list[str]) -> None:
    """Raise DataError where this cannot be a table's header."""
    if header[0] in ("TOA5", "TOB1", "TOACI1") or header[0].startswith("Plot Title"):
        kind = "a HOBO" if header[0].startswith("Plot") else "a Campbell Scientific"
        raise DataError(
            f"{source}: {kind} logger's file, its header is on line {above + 2}; give it to "
            "kgsm-train data gee --in-situ, or make a table with site, date and sm of it"
        )
    twice = sorted(name for name, count in Counter(header).items() if name and count > 1)
    if twice:
        raise DataError(f"{source}: row {above + 1}: column {shorten(twice[0])!r} is a duplicate")


def _rows_of_width(
    source: str, width: int, header_row: int, block: list[tuple[int, list[str]]]
) -> Iterator[tuple[int, list[str]]]:
    """Return the rows of the header's width; empty ones and empty cells beyond it are left out."""
    for number, record in block:
        if len(record) > width and not any(cell.strip() for cell in record[width:]):
            record = record[:width]
        if not any(cell.strip() for cell in record):
            continue
        if len(record) != width:
            title = width < len(record) and number == header_row + 1
            why = (
                f"is row {header_row} a title? the header seems to be row {number}: delete "
                "what is above it"
                if title and width <= 2
                else "an unquoted comma, or a truncated file?"
            )
            raise DataError(
                f"{source}: row {number}: {len(record)} cells, the header has {width}; {why}"
            )
        yield number, record


def _read_parquet(path: Path) -> Sheet:
    parquet = _pyarrow(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    columns: dict[str, Any] = {}
    try:
        with parquet.ParquetFile(path) as file:
            rows = file.metadata.num_rows
            if rows > MOST_ROWS:
                raise DataError(f"{path}: {rows} rows are more than this reads")
            names = file.schema_arrow.names
            if twice := sorted(shorten(name) for name, n in Counter(names).items() if n > 1):
                raise DataError(f"{path}: column {twice[0]!r} is a duplicate")
            # some at a time: one by one is quadratic in their number, all at once needs the room
            step = max(1, CELLS_AT_ONCE // max(rows, 1))
            for first in range(0, len(names), step):
                content = file.read(columns=(some := names[first : first + step]))
                for name in some:
                    label = f"{path}: column {shorten(name)}"
                    columns[name] = _from_arrow(content.column(name), label)
    except (DataError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001  pyarrow's own types share no other base
        if is_out_of_memory(error):
            raise MissingError(f"{path}: not enough memory to read it") from None
        reason = shorten(error, 120) or type(error).__name__
        raise DataError(f"{path}: not a readable Parquet file ({reason})") from None
    return _sheet(str(path), columns, np.arange(1, rows + 1))


def _from_arrow(content: Any, label: str) -> Any:
    """Convert a Parquet column: numbers with NaN for null, dates as ISO 8601, the rest as text."""
    import pyarrow
    import pyarrow.types as kind

    of = content.type
    if kind.is_integer(of) or kind.is_floating(of):
        values = content.to_numpy(zero_copy_only=False)
        return values if values.dtype.kind in "iu" else values.astype(np.float64)
    if kind.is_date(of):
        return column_of(content.cast(pyarrow.date32()).to_numpy(), label)
    if kind.is_timestamp(of):
        values = column_of(content.to_numpy(), label)
        return values.changed(lambda cell: cell and f"{cell}Z") if of.tz else values
    if kind.is_dictionary(of):
        if kind.is_string(of.value_type) or kind.is_large_string(of.value_type):
            return _from_dictionary(content.unify_dictionaries(), label)
        return _from_arrow(content.cast(of.value_type), label)
    if kind.is_string(of) or kind.is_large_string(of):
        return _from_dictionary(content.dictionary_encode(), label)
    return column_of(content, label)


def _from_dictionary(content: Any, label: str) -> TextColumn:
    """Return the cells of a column of dictionary codes; null is an empty cell."""
    chunks = content.chunks
    words = chunks[0].dictionary.to_pylist() if chunks else []
    distinct = TextColumn.of(["" if word is None else word for word in (*words, None)], label)
    codes = [chunk.indices.fill_null(len(words)).to_numpy() for chunk in chunks]
    return distinct.take(np.concatenate([np.zeros(0, np.int64), *codes]))


def _write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    parquet = _pyarrow(path)
    import pyarrow

    arrays = {}
    for name, values in columns.items():
        if isinstance(values, TextColumn):
            arrays[name] = pyarrow.array(list(values))
            continue
        array = np.asarray(values)
        nan_is_null = array.dtype.kind == "f"
        arrays[name] = pyarrow.array(
            array if array.dtype.kind in "fiu" else [str(item) for item in array],
            from_pandas=nan_is_null,
        )
    with write_whole(path, "wb") as file:
        parquet.write_table(pyarrow.table(arrays), file)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingError(
            f"{path}: Parquet needs pyarrow: pip install 'kgsm[parquet]', or use CSV"
        ) from None
    return pyarrow.parquet


def _written(values: TextColumn | NDArray[Any]) -> list[str]:
    """Return TextColumn of a column: shortest digits that read back the same, NaN empty."""
    if isinstance(values, TextColumn):
        return [guard_formula(cell) for cell in values]
    if values.dtype.kind == "f":
        return list(np.where(np.isnan(values), "", values.astype(np.str_)))
    if values.dtype.kind in "iu":
        return [str(item) for item in values.tolist()]
    return [guard_formula(str(item)) for item in values.tolist()]


def guard_formula(cell: str) -> str:
    """Change text so that no spreadsheet runs it; numbers and everything else stay.

    >>> guard_formula("=1+1"), guard_formula("-12.5"), guard_formula("field 7"), _unguarded("'=1+1")
    ("'=1+1", '-12.5', 'field 7', '=1+1')
    """
    if not _FORMULA.match(cell) or _PLAIN_NUMBER.fullmatch(cell):
        return cell
    return f"'{cell}"


def _unguarded(cell: str) -> str:
    return cell[1:] if cell.startswith("'") and _GUARDED.match(cell) else cell


def _proves_decimal_comma(cell: str) -> bool:
    """Return true for a number that can only have a decimal comma; 1,234 may be thousands."""
    if "," not in cell:
        return False
    return bool(_COMMA_NUMBER.fullmatch(cell)) and not _THOUSANDS.fullmatch(cell)


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
