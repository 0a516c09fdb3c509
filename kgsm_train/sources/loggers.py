"""Read in-situ soil moisture from a table or a logger's file.

Loggers write titles above the header, and units in the header or in the line below:

    Campbell Scientific TOA5     "TOA5","Site1",... / names / units / processing / data
    Onset HOBO                   "Plot Title: A" / "Date Time, GMT+10:00","Water Content, m3/m3"
    METER ZENTRA                 device / ports / "Timestamp"," m3/m3 Water Content" / data

The site is the file's title unless one is named. The column is the one with percent or m3/m3 as
its unit. If several columns qualify, one has to be named.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.columns import RULES
from kgsm_infer.tables.parsing import MISSING
from kgsm_infer.tables.reading import open_text
from kgsm_infer.tables.table import Table, read_table, table_from_columns
from kgsm_infer.tables.text_column import shorten

#: Number of lines in which the header is searched.
TITLE_LINES = 12
_TIME = re.compile(r"(date\W*time|timestamps?|time\W*stamp|date|time)\b", re.IGNORECASE)
_ZONE = re.compile(r"(?:GMT|UTC)\s*([+-]\d{1,2})(?::?(\d{2}))?", re.IGNORECASE)
_CUBIC = re.compile(r"m(\^?3|³)\s*/\s*m(\^?3|³)|m3\s*m-3", re.IGNORECASE)
_PERCENT = re.compile(r"%|percent", re.IGNORECASE)
_MOIST = re.compile(r"vwc|water.?content|moist|\bsm\b|\btheta\b|swc", re.IGNORECASE)
_PAIRS = re.compile(
    r"(\d{1,4})[/.-](\d{1,2})[/.-](\d{1,4})[ T,]+(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([AaPp][Mm])?"
)
#: Order of the date's three numbers.
ORDERS = ("", "ymd", "mdy", "dmy")


@dataclass(frozen=True)
class Logger:
    """Answers to what a logger's file may leave open.

    site: name; the file's title if empty.  column: name of the soil moisture column.
    date_order: ``mdy`` or ``dmy`` for 06/10/22.
    """

    site: str = ""
    column: str = ""
    date_order: str = ""

    def __post_init__(self) -> None:
        if self.date_order not in ORDERS:
            raise UsageError(f"a date's order is ymd, mdy or dmy, not {self.date_order!r}")


AS_IT_SAYS = Logger()


@dataclass(frozen=True)
class _Head:
    """Lines above the data. line: of the header.  units: one per column, '' if none."""

    kind: str
    title: str
    line: int
    names: list[str]
    units: list[str]


def read_in_situ(
    path: str | Path, logger: Logger = AS_IT_SAYS, keep: str = "refuse"
) -> tuple[Table, tuple[str, ...]]:
    """Read a table with ``sm``, and notes on how it was read.

    DataError names the file, and the header's line in a logger's file.
    """
    path = Path(path)
    if path.suffix.lower() not in (".parquet", ".pq", ".xlsx") and path.is_file():
        with open_text(path) as file:
            lines = list(_records(file))
        head = _head(lines, path)
        if head is not None:
            return _read_logger(path, lines, head, logger, keep)
    if logger != AS_IT_SAYS:
        raise UsageError(f"{path}: is a table, not a logger's file; omit the options for loggers")
    return read_table(path, require=["sm"], keep=keep), ()


def _records(lines: Iterator[str]) -> Iterator[tuple[int, list[str]]]:
    """Split lines at commas, semicolons or tabs; yield line numbers and cells."""
    for number, line in enumerate(lines, start=1):
        text = line.strip("\r\n")
        if not text.strip():
            continue
        separator = max(",;\t", key=text.count)
        try:
            cells = next(csv.reader([text], delimiter=separator, skipinitialspace=True))
        except (csv.Error, StopIteration):
            continue
        yield number, [cell.strip().strip("\ufeff") for cell in cells]


def _head(lines: Sequence[tuple[int, list[str]]], path: Path) -> _Head | None:
    """Find the header of a logger's file; return None for any other file."""
    if not lines or {"site", "date"} <= set(lines[0][1]):
        return None
    for at, (number, cells) in enumerate(lines[:TITLE_LINES]):
        if len(cells) < 2 or not any(_TIME.match(cell) for cell in cells):
            continue
        below = lines[at + 1][1] if at + 1 < len(lines) else []
        units = _units(cells, below)
        if at == 0 and not any(_CUBIC.search(unit) for unit in units):
            return None
        first = lines[0][1]
        kind = (
            "a Campbell Scientific file (TOA5)"
            if first[0] == "TOA5"
            else "a HOBO file"
            if first[0].startswith("Plot Title")
            else "a logger's file"
        )
        title = first[1] if first[0] == "TOA5" and len(first) > 1 else first[0]
        title = title.removeprefix("Plot Title:").strip() if at else ""
        return _Head(kind, title, number, cells, units)
    return None


def _units(names: Sequence[str], below: Sequence[str]) -> list[str]:
    """Return the unit of each column, from its name or from a line of units below."""
    has_units = len(below) == len(names) and not any(re.search(r"\d{4}|\d+:\d+", c) for c in below)
    return [
        f"{name} {unit}" if has_units else name
        for name, unit in zip(names, below if has_units else names, strict=True)
    ]


def _read_logger(
    path: Path,
    lines: Sequence[tuple[int, list[str]]],
    head: _Head,
    logger: Logger,
    keep: str,
) -> tuple[Table, tuple[str, ...]]:
    what = f"{path}: {head.kind}, header on line {head.line}"
    at_time = next(i for i, name in enumerate(head.names) if _TIME.match(name))
    at_sm, percent = _moisture(what, head, logger.column)
    site = logger.site or head.title
    if not site:
        raise DataError(f"{what}: no site name in the file; pass --site")
    data = [
        (number, cells)
        for number, cells in lines
        if number > head.line
        and len(cells) > max(at_time, at_sm)
        and re.match(r"\d", cells[at_time])
        and cells[at_sm] not in (*MISSING, "NAN")
    ]
    if not data:
        raise DataError(f"{what}: no reading below it")
    dates = _dates(what, [(number, cells[at_time]) for number, cells in data], logger.date_order)
    zone = _ZONE.search(head.names[at_time])
    if zone:
        offset = f"{int(zone.group(1)):+03d}:{zone.group(2) or '00'}"
        dates = [f"{text}{offset}" for text in dates]
    rule = "sm_percent" if percent else "sm"
    table = table_from_columns(
        {"site": [site] * len(data), "date": dates, rule: [cells[at_sm] for _, cells in data]},
        str(path),
        features=[rule],
        keep=keep,
        row_number=np.asarray([number for number, _ in data], np.int64),
    )
    if percent:
        share = table.numbers["sm_percent"] / 100
        outside = RULES["sm"].outside(share)
        if outside.any():
            worst = share[outside][0] * 100
            raise DataError(f"{what}: {worst:g} percent is not a soil moisture")
        table = replace(table, numbers={"sm": share})
    unit = "percent" if percent else "m3/m3"
    note = (
        f"{what}: site {shorten(site)}, soil moisture from {shorten(head.names[at_sm])!r} in {unit}"
    )
    return table, (note,)


def _moisture(what: str, head: _Head, wanted: str) -> tuple[int, bool]:
    """Return the index of the soil moisture column, and True if it is in percent."""
    cubic = [i for i, unit in enumerate(head.units) if _CUBIC.search(unit)]
    percent = [
        i
        for i, unit in enumerate(head.units)
        if _PERCENT.search(unit) and _MOIST.search(unit) and i not in cubic
    ]
    found = cubic + percent
    if wanted:
        named = [i for i, name in enumerate(head.names) if name == wanted]
        if not named:
            raise DataError(
                f"{what}: no column {wanted!r}; it has {shorten(', '.join(head.names), 300)}"
            )
        if named[0] not in found:
            raise DataError(
                f"{what}: column {wanted!r} states neither m3/m3 nor percent as its unit"
            )
        found = named
    names = shorten(", ".join(head.names[i] for i in found or range(len(head.names))), 300)
    if not found:
        raise DataError(
            f"{what}: no column states m3/m3 or percent of water as its unit; it has {names}"
        )
    if len(found) > 1:
        raise DataError(
            f"{what}: {names} may all be soil moisture; choose one with --in-situ-column"
        )
    return found[0], found[0] not in cubic


def _dates(what: str, cells: Sequence[tuple[int, str]], order: str) -> list[str]:
    """Convert a logger's times to ISO 8601; DataError if a date is ambiguous."""
    found = [_PAIRS.match(text) for _, text in cells]
    if not all(found):
        number, text = next(cell for cell, one in zip(cells, found, strict=True) if not one)
        raise DataError(f"{what}: line {number}: {shorten(text)} is not a date and time")
    parts = [one.groups() for one in found if one]
    if not order:
        order = _order(what, parts, cells)
    dates = []
    for (number, text), (a, b, c, hour, minute, second, half) in zip(cells, parts, strict=True):
        year, month, day = {"ymd": (a, b, c), "mdy": (c, a, b), "dmy": (c, b, a)}[order]
        full = int(year) + (2000 if len(year) <= 2 else 0)
        hours = int(hour) % 12 + (12 if half.lower() == "pm" else 0) if half else int(hour)
        moment = f"{full:04d}-{int(month):02d}-{int(day):02d}T{hours:02d}:{minute}:{second or '00'}"
        try:
            np.datetime64(moment)
        except ValueError:
            raise DataError(
                f"{what}: line {number}: {shorten(text)} is not a date and time"
            ) from None
        dates.append(moment)
    return dates


def _order(
    what: str, parts: Sequence[tuple[str | None, ...]], cells: Sequence[tuple[int, str]]
) -> str:
    """Determine the order of year, month and day from the whole series."""
    firsts, seconds = ([int(part[i] or 0) for part in parts] for i in (0, 1))
    if all(len(part[0] or "") == 4 for part in parts):
        return "ymd"
    month_first, day_first = max(firsts) <= 12, max(seconds) <= 12
    if month_first and day_first and len(parts) > 1:  # a series is in order of time, in one of them
        year = [int(part[2] or 0) for part in parts]
        mdy = list(zip(year, firsts, seconds, strict=True))
        dmy = list(zip(year, seconds, firsts, strict=True))
        month_first, day_first = mdy == sorted(mdy), dmy == sorted(dmy)
    if month_first == day_first:
        number, text = cells[0]
        raise DataError(
            f"{what}: line {number}: {shorten(text)} may have the day or the month first; pass "
            "--date-order dmy or mdy"
        )
    return "mdy" if month_first else "dmy"
