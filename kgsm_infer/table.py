"""Tables of observations: read and refused, or written whole (design §3).

One row per site and acquisition. Names carry units and nothing is guessed: a value that
cannot be of the declared unit is refused with file, row, column, value and likely cause;
missing stays missing.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .columns import (
    OTHER_NAMES,
    POLARISATIONS,
    RULES,
    Rule,
    forms_given,
    is_backscatter,
    made_from,
    make,
)
from .errors import DataError, MissingError, UsageError
from .files import whole

MISSING = ("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None", "none")

_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")


@dataclass(frozen=True)
class Table:
    """R rows as read. Missing numbers are NaN, missing text is ''.

    source: the file's name, for messages.  site: (R,).  date_text: as written.
    date: (R,) datetime64[s], UTC.  numbers: contract columns and named features, (R,)
    float64; backscatter is always ``vh_db``/``vv_db``, sigma0 in dB.  text: every other
    column as written.  row_number: (R,) row in the file; a CSV's header is row 1.
    """

    source: str
    site: NDArray[np.str_]
    date_text: tuple[str, ...]
    date: NDArray[np.datetime64]
    numbers: Mapping[str, NDArray[np.float64]]
    text: Mapping[str, tuple[str, ...]]
    row_number: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.site)

    def row(self, i: int) -> int:
        """The row of the file that table row ``i`` came from."""
        return int(self.row_number[i])

    @property
    def day(self) -> NDArray[np.float64]:
        """Days since 1970-01-01, (R,)."""
        return (self.date - np.datetime64("1970-01-01", "s")) / np.timedelta64(86400, "s")


def read_table(
    path: str | Path,
    *,
    features: Sequence[str] = (),
    require: Sequence[str] = (),
    once: bool = True,
) -> Table:
    """Read a CSV or Parquet table.

    features: columns beyond the contract's that must be there and numeric.
    require: contract columns that must be there (backscatter by its canonical name).
    once: refuse a site that stands twice at one time (and orbit): in a window the order
        of two such rows would be guesswork. Row by row (isolation) they do no harm.
    DataError names file, row, column, value and likely cause.
    """
    columns, row_number = read_columns(path)
    return _table(columns, str(path), row_number, features, require, once)


def read_columns(path: str | Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """The cells of a CSV or Parquet file as they stand, and (R,) their rows in the file.

    For files that are not tables of the contract yet; :class:`Refusal` checks their columns.
    DataError where the file itself is not what it says.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        return _read_parquet(path)
    return _read_csv(path)


def table_from_columns(
    columns: Mapping[str, Any],
    source: str = "table",
    *,
    features: Sequence[str] = (),
    require: Sequence[str] = (),
    once: bool = True,
    row_number: NDArray[np.int64] | None = None,
) -> Table:
    """A table from arrays or lists in memory, checked as a file is.

    row_number: (R,) the rows messages name; from 1 where not given.

    >>> columns = {"site": ["a"], "date": ["2024-05-01"], "vh_linear": [0.01], "ndvi": [None]}
    >>> table = table_from_columns(columns)
    >>> table.numbers["vh_db"].tolist(), table.numbers["ndvi"].tolist()
    ([-20.0], [nan])
    """
    plain = {str(name): _cells(values) for name, values in columns.items()}
    lengths = {name: len(values) for name, values in plain.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{source}: columns of different lengths: {lengths}")
    count = next(iter(lengths.values()), 0)
    if row_number is None:
        row_number = np.arange(1, count + 1)
    return _table(plain, source, row_number, features, require, once)


def write_csv(path: str | Path, columns: Mapping[str, Any]) -> None:
    """Write columns of equal length as CSV (Parquet with that suffix), whole or not at all.

    Floats are written with the digits that bring them back exactly; NaN is an empty cell.
    """
    path = Path(path)
    if path.suffix.lower() in (".parquet", ".pq"):
        _write_parquet(path, columns)
        return
    cells = [_written(values) for values in columns.values()]
    with whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(zip(*cells, strict=True))


def _read_csv(path: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: not a UTF-8 text file (byte {error.start}); save it as CSV, UTF-8"
        ) from None
    if "\0" in text:
        raise DataError(f"{path}: not a text file (it holds zero bytes); is it really a CSV?")
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[list[str]] = []
    numbers: list[int] = []
    try:
        for number, record in enumerate(reader, start=1):
            if record:  # a blank line is no record
                records.append(record)
                numbers.append(number)
    except csv.Error as error:
        raise DataError(f"{path}: line {reader.line_num}: not valid CSV ({error})") from None
    if not records:
        raise DataError(f"{path}: the file is empty")
    header = [name.strip() for name in records[0]]
    for separator, name in ((";", "semicolons"), ("\t", "tabs")):
        if len(header) == 1 and separator in header[0]:
            raise DataError(f"{path}: separated by {name}; save it separated by commas")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise DataError(f"{path}: row 1: column {twice[0]!r} stands there twice")
    for number, record in zip(numbers[1:], records[1:], strict=True):
        if len(record) != len(header):
            raise DataError(
                f"{path}: row {number}: {len(record)} cells, the header has {len(header)}; "
                "an unquoted comma, or a truncated file?"
            )
    columns = (
        dict(zip(header, zip(*records[1:], strict=True), strict=True))
        if records[1:]
        else dict.fromkeys(header, ())
    )
    return columns, np.asarray(numbers[1:], np.int64)


def _read_parquet(path: Path) -> tuple[dict[str, Any], NDArray[np.int64]]:
    parquet = _pyarrow(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        content = parquet.read_table(path)
        columns = {name: _cells(content[name].to_pylist()) for name in content.column_names}
    except Exception as error:  # noqa: BLE001  pyarrow's own types share no other base
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise DataError(f"{path}: not a readable Parquet file ({reason})") from None
    return columns, np.arange(1, content.num_rows + 1)


def _write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    parquet = _pyarrow(path)
    import pyarrow

    arrays = {}
    for name, values in columns.items():
        array = np.asarray(values)
        nan_is_null = array.dtype.kind == "f"
        arrays[name] = pyarrow.array(
            array if array.dtype.kind in "fiu" else [str(item) for item in array],
            from_pandas=nan_is_null,
        )
    with whole(path, "wb") as file:
        parquet.write_table(pyarrow.table(arrays), file)


def _pyarrow(path: Path) -> Any:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingError(
            f"{path}: Parquet needs pyarrow: pip install 'kgsm[parquet]', or use CSV"
        ) from None
    return pyarrow.parquet


def _table(
    columns: Mapping[str, Any],
    source: str,
    row_number: NDArray[np.int64],
    features: Sequence[str],
    require: Sequence[str],
    once: bool,
) -> Table:
    """Check the columns and give them their meaning."""
    check = Refusal(source, row_number)
    for name in ("site", "date"):
        if name not in columns:
            raise DataError(f"{source}: no column {name!r}; {_have(columns, name)}")
    if len(row_number) == 0:
        raise DataError(f"{source}: no rows, only a header")
    numbers: dict[str, NDArray[np.float64]] = {}
    for name in (*RULES, *features):
        if name in columns and name not in numbers:
            numbers[name] = check.numbers(name, columns[name], RULES.get(name))
    for polarisation in POLARISATIONS:
        _to_sigma0_db(polarisation, numbers, source)
    for name in (*features, *require):
        if name not in numbers:
            raise DataError(f"{source}: no column {name!r}; {_have(columns, name)}")
    site = np.asarray([str(cell).strip() for cell in columns["site"]], np.str_)
    check.first(site == "", "site", columns["site"], "empty; every row needs its site")
    date_text = tuple(str(cell).strip() for cell in columns["date"])
    date = check.dates(date_text)
    text = {
        name: tuple("" if str(cell).strip() in MISSING else str(cell).strip() for cell in cells)
        for name, cells in columns.items()
        if name not in ("site", "date") and name not in numbers and not is_backscatter(name)
    }
    if once:
        check.no_twins(site, date, text.get("orbit"))
    return Table(source, site, date_text, date, numbers, text, row_number)


@dataclass(frozen=True)
class Refusal:
    """Finds the first offending row of a column and words the refusal."""

    source: str
    row_number: NDArray[np.int64]

    def first(
        self,
        bad: NDArray[np.bool_],
        column: str,
        cells: Sequence[Any],
        why: str | Callable[[int], str],
    ) -> None:
        """DataError at the first row of ``bad``; how many more there are."""
        where = np.flatnonzero(bad)
        if not len(where):
            return
        at = int(where[0])
        reason = why if isinstance(why, str) else why(at)
        others = f" (and {len(where) - 1} more rows)" if len(where) > 1 else ""
        cell = "" if str(cells[at]).strip() == "" else f"{str(cells[at]).strip()} "
        place = f"{self.source}: row {int(self.row_number[at])}, column {column}"
        raise DataError(f"{place}: {cell}{reason}{others}")

    def numbers(self, name: str, cells: Sequence[Any], rule: Rule | None) -> NDArray[np.float64]:
        """The column as float64, checked: text, infinities, and what the unit forbids."""
        if isinstance(cells, np.ndarray):  # numbers already
            values = cells
        else:
            stripped = np.asarray([str(cell).strip() for cell in cells], np.str_)
            stripped = np.where(np.isin(stripped, MISSING), "nan", stripped)
            try:
                values = stripped.astype(np.float64)
            except ValueError:
                bad = np.asarray([not _is_number(cell) for cell in stripped])
                comma = re.compile(r"-?\d+,\d+")

                def why(at: int) -> str:
                    if comma.fullmatch(stripped[at]):
                        return "is not a number; a decimal comma? write a point"
                    return "is not a number; leave the cell empty where it is missing"

                self.first(bad, name, cells, why)
                raise
        self.first(np.isinf(values), name, cells, "is infinite; leave the cell empty where missing")
        if rule is not None:
            low, high, what = rule.low, rule.high, rule.what
            with np.errstate(invalid="ignore"):
                bad = (values < low) | (values > high)
            self.first(bad, name, cells, lambda at: f"is not {what}; {rule.cause(values[at])}")
        return values

    def dates(self, cells: Sequence[str], name: str = "date") -> NDArray[np.datetime64]:
        """ISO 8601 dates as UTC seconds; each distinct text is parsed once."""
        distinct, code = np.unique(np.asarray(cells, np.str_), return_inverse=True)
        parsed = [_parse_date(str(cell)) for cell in distinct]
        bad = np.asarray([value is None for value in parsed])[code]
        self.first(
            bad, name, cells, "is not an ISO 8601 date; write 2022-06-16 or 2022-06-16T05:30:00Z"
        )
        return np.asarray(parsed, "datetime64[s]")[code]

    def no_twins(
        self,
        site: NDArray[np.str_],
        date: NDArray[np.datetime64],
        orbit: Sequence[str] | None,
    ) -> None:
        """A site stands once at one time (and orbit)."""
        codes = [np.unique(site, return_inverse=True)[1], date.astype(np.int64)]
        if orbit is not None:
            codes.append(np.unique(np.asarray(orbit), return_inverse=True)[1])
        order = np.lexsort(codes)
        same = np.ones(len(site) - 1, bool)
        for code in codes:
            same &= code[order][1:] == code[order][:-1]
        if same.any():
            at = int(np.flatnonzero(same)[0])
            one, other = sorted(int(self.row_number[order[at + i]]) for i in (0, 1))
            raise DataError(
                f"{self.source}: rows {one} and {other}: site {site[order[at]]} twice at "
                f"{date[order[at]]}; give times or an orbit column, or keep one of them"
            )


def _to_sigma0_db(polarisation: str, numbers: dict[str, NDArray[np.float64]], source: str) -> None:
    """Bring the one form that was given to sigma0 in dB, under ``vh_db``/``vv_db``."""
    given = forms_given(polarisation, numbers)
    if len(given) > 1:
        raise DataError(f"{source}: columns {' and '.join(given)} give one backscatter twice")
    if not given:
        return
    column = f"{polarisation}_db"
    names = made_from(column, numbers)
    if not names:
        raise DataError(
            f"{source}: column {given[0]} is gamma0; sigma0 = gamma0 cos(theta) needs angle_deg"
        )
    made = make(column, {name: numbers[name] for name in names})
    del numbers[given[0]]
    numbers[column] = made


def asked_day(text: str) -> np.datetime64:
    """The day somebody asks for; UsageError where it is none.

    >>> asked_day("2024-03-04")
    np.datetime64('2024-03-04')
    """
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            return np.datetime64(text, "D")
    except ValueError:
        pass
    raise UsageError(f"{text!r} is not a date; write 2024-03-04")


def _have(columns: Iterable[str], missing: str) -> str:
    """What a file has instead of a missing column, and a likely other name."""
    have = list(columns)
    likely = [
        name
        for name in have
        if name.lower() == missing.lower() or name.lower() in OTHER_NAMES.get(missing, ())
    ]
    hint = f"; rename {likely[0]!r} if that is what it is" if likely else ""
    return f"it has {', '.join(have) or 'none'}{hint}"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return "_" not in cell


def _parse_date(cell: str) -> datetime | None:
    if not _DATE.fullmatch(cell):
        return None
    try:
        value = datetime.fromisoformat(cell)
    except ValueError:
        return None
    return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value


def _cells(values: Any) -> Any:
    """Numbers as float64, everything else as a list; None is an empty cell."""
    array = values if isinstance(values, np.ndarray) else None
    if array is None:
        items = ["" if item is None else item for item in values]
        if any(isinstance(item, (bool, np.bool_)) for item in items) or not all(
            isinstance(item, (int, float, np.number)) or item == "" for item in items
        ):
            return [item.isoformat() if hasattr(item, "isoformat") else str(item) for item in items]
        return np.asarray([np.nan if item == "" else item for item in items], np.float64)
    if array.dtype.kind in "fiu":
        return array.astype(np.float64)
    if array.dtype.kind == "M":
        return np.datetime_as_string(array.astype("datetime64[s]")).tolist()
    return _cells(array.tolist())


def _written(values: ArrayLike) -> Sequence[str]:
    """Cells of a column: shortest digits that read back the same, NaN empty."""
    array = np.asarray(values)
    if array.dtype.kind != "f":
        return [str(item) for item in array.tolist()]
    cells = array.astype(np.str_)
    return list(np.where(np.isnan(array), "", cells))
