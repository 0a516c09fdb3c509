"""Tables of observations, one row per site and acquisition (design §3).

Column names carry units. A value outside the range of its unit is refused with file, row, column,
value and likely cause; missing stays missing. :mod:`kgsm_infer.tables.reading` reads files,
:mod:`kgsm_infer.tables.parsing` parses cells, and :mod:`kgsm_infer.tables.duplicates` merges the
rows of one acquisition.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.errors import DataError, MissingError
from .columns import (
    OTHER_NAMES,
    POLARISATIONS,
    RULES,
    find_forms,
    is_backscatter,
    make,
    origins,
)
from .dates import is_future, parse_day
from .duplicates import Rows, check_keep, merge
from .earth_engine import under_contract_names
from .keys import KEY_COLUMNS, spelling_note
from .parsing import MISSING
from .reading import Sheet, read_sheet, sheet_of, write_csv
from .text_column import TextColumn, shorten, text_codes, texts_of

__all__ = [
    "MISSING",
    "Table",
    "parse_day",
    "read_table",
    "table_from_columns",
    "write_csv",
]


@dataclass(frozen=True)
class OriginalRows:
    """Rows of the file. row: (F,) of the table that each became.  date_text: (F,) as written."""

    row: NDArray[np.int64]
    date_text: Sequence[str]


@dataclass(frozen=True)
class Table:
    """R acquisitions. Missing numbers are NaN, missing text is ''.

    source: the file's name, for messages.  site: (R,).  date_text: as written.
    date: (R,) datetime64[s], UTC.  numbers: contract columns and named features, (R,)
    float64; backscatter is always ``vh_db``/``vv_db``, sigma0 in dB.  text: every other
    column as written.  row_number: (R,) row in the file; a CSV's header is row 1.
    original: the rows of the file, where several of them are one acquisition here.
    notes: what was decided in reading, for the person who gave the file.
    contradicts: row -> why it has empty cells, where rows of the file contradict each other.
    made_of_simulated: columns were computed from simulated data, such as simulated rain.
    """

    source: str
    site: NDArray[np.str_]
    date_text: Sequence[str]
    date: NDArray[np.datetime64]
    numbers: Mapping[str, NDArray[np.float64]]
    text: Mapping[str, Sequence[str]]
    row_number: NDArray[np.int64]
    original: OriginalRows | None = None
    notes: tuple[str, ...] = ()
    contradicts: Mapping[int, str] = field(default_factory=dict)
    made_of_simulated: bool = False

    def __len__(self) -> int:
        return len(self.site)

    def row(self, i: int) -> int:
        """Return the row of the file that table row ``i`` came from."""
        return int(self.row_number[i])

    @property
    def day(self) -> NDArray[np.float64]:
        """Days since 1970-01-01, (R,)."""
        return (self.date - np.datetime64("1970-01-01", "s")) / np.timedelta64(86400, "s")

    @property
    def simulated(self) -> bool:
        """True if the column ``source`` says ``simulated``, or columns were made of such data."""
        return self.made_of_simulated or "simulated" in set(self.text.get("source", ()))

    def codes(self, name: str) -> NDArray[np.int64]:
        """Number the distinct texts of ``site`` or a text column from 0, (R,); computed once."""
        if name not in self._codes:
            self._codes[name] = text_codes(self.site if name == "site" else self.text[name])
        return self._codes[name]

    @cached_property
    def _codes(self) -> dict[str, NDArray[np.int64]]:
        return {}

    def select(self, rows: NDArray[np.int64]) -> Table:
        """Return the table of some rows; ``original`` is left out."""
        return replace(
            self,
            site=self.site[rows],
            date_text=[self.date_text[i] for i in rows.tolist()],
            date=self.date[rows],
            numbers={name: values[rows] for name, values in self.numbers.items()},
            text={name: [cells[i] for i in rows.tolist()] for name, cells in self.text.items()},
            row_number=self.row_number[rows],
            original=None,
            contradicts={
                at: self.contradicts[row]
                for at, row in enumerate(rows.tolist())
                if row in self.contradicts
            },
        )

    def to_file_rows(self, values: ArrayLike) -> NDArray[Any]:
        """Return (F,) values of the table's rows, one for each row of the file, in its order.

        >>> rows = {"site": ["a"] * 2, "date": ["2024-05-01"] * 2, "ndvi": [0.3, None]}
        >>> table = table_from_columns(rows)
        >>> len(table), table.to_file_rows(table.numbers["ndvi"]).tolist()
        (1, [0.3, 0.3])
        """
        values = np.asarray(values)
        return values if self.original is None else values[self.original.row]


@dataclass(frozen=True)
class ReadOptions:
    """Columns that are read from a table, and how its duplicate rows are merged.

    option: where the user sets ``keep``, for messages; "" for nowhere.  Other fields as
    :func:`read_table`.
    TypeError for a text in place of a sequence of names, UsageError for an unknown ``keep``.
    """

    features: Sequence[str] = ()
    require: Sequence[str] = ()
    once: bool = True
    keep: str = "refuse"
    reads: Collection[str] | None = None
    option: str = "--keep"

    def __post_init__(self) -> None:
        check_keep(self.keep)
        named = {"features": self.features, "require": self.require, "reads": self.reads}
        for argument, names in named.items():
            if isinstance(names, str):
                raise TypeError(f"{argument} must be a sequence of names, such as [{names[:60]!r}]")

    @property
    def checked(self) -> Collection[str] | None:
        """Columns whose cells are checked; None for all."""
        return None if self.reads is None else {*self.reads, *self.features, *self.require}


def read_table(
    path: Any,
    *,
    features: Sequence[str] = (),
    require: Sequence[str] = (),
    once: bool = True,
    keep: str = "refuse",
    reads: Collection[str] | None = None,
    option: str = "--keep",
) -> Table:
    """Read a CSV or Parquet table, or columns in memory as :func:`table_from_columns`.

    path: ``-`` is standard input.
    features: columns beyond the contract's that must be there and numeric.
    require: contract columns that must be there (backscatter by its canonical name).
    once: merge the rows of one site, time and orbit. Windows need one row per acquisition; row by
        row (isolation) they do not matter.
    keep: how to resolve conflicting duplicate rows: ``refuse`` the table, leave differing cells
        ``empty``, or take the ``first``, ``last`` or ``mean``.
    reads: contract columns whose cells are checked, with ``features`` and ``require``; None for
        all. In a column read, a fill value or a wrong unit refuses the table, and a single
        physical outlier is infinite, with a note. A cell of any other column never refuses it.
    option: where the user sets ``keep``, for messages; "" for nowhere.
    DataError names file, row, column, value and likely cause.
    """
    options = ReadOptions(features, require, once, keep, reads, option)
    sheet = read_sheet(Path(path)) if isinstance(path, str | os.PathLike) else sheet_of(path)
    return table_of(sheet, options)


def table_from_columns(
    columns: Any,
    source: str = "table",
    *,
    features: Sequence[str] = (),
    require: Sequence[str] = (),
    once: bool = True,
    keep: str = "refuse",
    row_number: NDArray[np.int64] | None = None,
    reads: Collection[str] | None = None,
    option: str = "--keep",
) -> Table:
    """Check columns in memory as a file is checked.

    columns: a mapping of arrays or lists, a list of rows (a mapping each), or a data frame of
        pandas, polars or pyarrow. TypeError names another type, and a LazyFrame.
    row_number: (R,) the rows messages name; from 1 where not given.
    Other arguments as :func:`read_table`.

    >>> columns = {"site": ["a"], "date": ["2024-05-01"], "vh_linear": [0.01], "ndvi": [None]}
    >>> table = table_from_columns(columns)
    >>> table.numbers["vh_db"].tolist(), table.numbers["ndvi"].tolist()
    ([-20.0], [nan])
    """
    options = ReadOptions(features, require, once, keep, reads, option)
    return table_of(sheet_of(columns, source, row_number), options)


def leave_out_future(table: Table, *, drop: bool = False) -> Table:
    """Empty the numbers of acquisitions later than tomorrow (:func:`is_future`), with a note.

    drop: remove their rows instead. DataError where no other row is left.
    """
    future = is_future(table.date)
    if not future.any():
        return table
    at = int(np.argmax(future))
    place = f"{table.source}: row {table.row(at)}, column date: {shorten(table.date_text[at])}"
    if future.all():
        raise DataError(f"{place}: every row is of the future; --allow-future accepts them")
    rows = "1 row is" if future.sum() == 1 else f"{future.sum()} rows are"
    note = f"{place}: {rows} of the future and left out; --allow-future accepts them"
    table = replace(table, notes=(*table.notes, note))
    if drop:
        return table.select(np.flatnonzero(~future))
    numbers = {name: np.where(future, np.nan, values) for name, values in table.numbers.items()}
    return replace(table, numbers=numbers)


def table_of(sheet: Sheet, options: ReadOptions) -> Table:
    """Check the columns of a file and give them their meaning; as :func:`read_table`."""
    try:
        table = _checked(under_contract_names(sheet), options)
        return _merged(table, options) if options.once else table
    except MemoryError:
        raise MissingError(f"{sheet.source}: not enough memory for its {len(sheet)} rows") from None


def _checked(sheet: Sheet, options: ReadOptions) -> Table:
    source, columns, check = sheet.source, sheet.columns, sheet.check
    for name in ("site", "date"):
        if name not in columns:
            raise DataError(f"{source}: no column {name!r}; {have(columns, name)}")
    if len(sheet) == 0:
        raise DataError(f"{source}: no rows, only a header")
    numbers, notes = _numbers_of(sheet, options)
    for polarisation in POLARISATIONS:
        to_sigma0_db(polarisation, numbers, source)
    for name in (*options.features, *options.require):
        if name not in numbers:
            rain = "; it is made of a weather file: --weather" if name.startswith("rain_") else ""
            raise DataError(f"{source}: no column {name!r}; {have(columns, name)}{rain}")
    date_text = texts_of(columns["date"], f"{source}: column date")
    text = {
        name: _words(texts_of(cells, f"{source}: column {shorten(name)}"))
        for name, cells in columns.items()
        if name not in ("site", "date") and name not in numbers and not is_backscatter(name)
    }
    for name in [name for name in KEY_COLUMNS if name in text]:
        written = text[name]
        text[name] = written.changed(KEY_COLUMNS[name])
        notes.append(spelling_note(f"{source}: column {name}", written, text[name]))
    site = check.names(columns["site"])
    notes = [line for line in (sheet.name_note, *notes, site.note) if line]
    return Table(
        source,
        site.values,
        date_text,
        check.dates(date_text),
        numbers,
        text,
        sheet.row_number,
        notes=tuple(notes),
    )


def _numbers_of(
    sheet: Sheet, options: ReadOptions
) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Parse the numeric columns by name, with notes on what was decided."""
    columns, check, reads = sheet.columns, sheet.check, options.checked
    numbers: dict[str, NDArray[np.float64]] = {}
    notes = [f"{sheet.source}: decimal commas are read as points"] if sheet.decimal_commas else []
    for name in (*RULES, *options.features):
        if name not in columns or name in numbers:
            continue
        cells, rule = columns[name], RULES.get(name)
        if reads is None or (rule is None and name in reads):
            numbers[name] = check.numbers(name, cells, rule)
        elif rule is None or not _is_read(name, reads, columns):
            numbers[name] = check.numbers_or_missing(cells, rule)
        else:
            values = check.numbers_with_outliers(name, cells, rule)
            numbers[name] = values
            becomes = "flagged input_out_of_range"
            notes.append(check.outlier_note(name, cells, rule, np.isinf(values), becomes))
    return numbers, notes


def _is_read(name: str, reads: Collection[str], columns: Container[str]) -> bool:
    """Return true for a column of ``reads``, and for one that such a column is computed from."""
    return name in reads or any(
        name in origins(column, columns) for column in ("vh_db", "vv_db", "ndvi") if column in reads
    )


def _unread(table: Table, options: ReadOptions) -> set[str]:
    """Return the columns of a table that are not read; names of places always are."""
    if options.checked is None:
        return set()
    return {*table.numbers, *table.text}.difference(options.checked, KEY_COLUMNS)


def _merged(table: Table, options: ReadOptions) -> Table:
    """Return the table with one row per acquisition."""
    rows = Rows(
        table.source,
        table.site,
        table.date,
        table.numbers,
        table.text,
        table.row_number,
        table.codes("site"),
        options.option,
    )
    merged = merge(rows, options.keep, unread=_unread(table, options))
    if merged is None:
        return table
    index = merged.index
    texts = [table.date_text[int(i)] for i in index]
    return Table(
        source=table.source,
        site=table.site[index],
        date_text=TextColumn.of(texts),
        date=table.date[index],
        numbers=merged.numbers,
        text=merged.text,
        row_number=table.row_number[index],
        original=OriginalRows(merged.group, table.date_text),
        notes=(*table.notes, *merged.notes),
        contradicts=merged.contradicts,
    )


def to_sigma0_db(polarisation: str, numbers: dict[str, NDArray[np.float64]], source: str) -> None:
    """Convert the form of a backscatter to sigma0 in dB, under ``vh_db``/``vv_db``."""
    forms = find_forms(polarisation, numbers)
    if len(forms) > 1:
        raise DataError(f"{source}: columns {' and '.join(forms)} give one backscatter twice")
    if not forms:
        return
    column = f"{polarisation}_db"
    names = origins(column, numbers)
    if not names:
        raise DataError(
            f"{source}: column {forms[0]} is gamma0; sigma0 = gamma0 cos(theta) needs angle_deg"
        )
    made = make(column, {name: numbers[name] for name in names})
    del numbers[forms[0]]
    numbers[column] = made


def have(columns: Iterable[str], missing: str) -> str:
    """List the columns of a file that lacks one, and a likely other name."""
    names = [shorten(name) for name in columns]
    likely = [
        name
        for name in names
        if name.lower() == missing.lower() or name.lower() in OTHER_NAMES.get(missing, ())
    ]
    hint = f"; rename {likely[0]!r} if that is what it is" if likely else ""
    return f"it has {shorten(', '.join(names), 400) or 'none'}{hint}"


def _words(cells: TextColumn) -> TextColumn:
    """Return text with '' for what is written as missing."""
    missing = frozenset(MISSING)
    return cells.changed(lambda cell: "" if cell in missing else cell)
