"""Read the time series of paddocks from an output of ``daily``, ``predict`` or ``paddocks``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..base.quantities import RETRIEVED
from ..tables.dates import parse_day
from ..tables.keys import canonical_id
from ..tables.table import ReadOptions, Table, have, table_of
from .filter import Array
from .table import FORECAST
from .values import (
    RULE_OF,
    check_ends,
    check_one_quantity,
    check_range,
    named_sites,
    read_value_sheet,
    without_unseen,
)

#: Columns that may be drawn in place of the moisture, and their axis labels.
FARM_UNITS = {
    "available_percent": "plant-available water (%)",
    "refill_mm": "water to refill (mm)",
}


@dataclass(frozen=True)
class PaddockSeries:
    """Values of one paddock at T times, ascending; (T,) each, NaN where missing.

    time: datetime64[s].  value, lower, upper: of the quantity drawn.  passed: value of the pass on
    its day; in a file of passes, every value.  rain_mm.  irrigated: outlook with the planned
    irrigation.  drier_than: share of the paddock's passes so far that were wetter.  is_forecast:
    the day is after today.
    """

    name: str
    time: NDArray[np.datetime64]
    value: Array
    lower: Array
    upper: Array
    passed: Array
    rain_mm: Array
    irrigated: Array
    drier_than: Array
    is_forecast: NDArray[np.bool_]


@dataclass(frozen=True)
class SeriesFile:
    """Series of a file. label: quantity with its unit.  upper_end: of a colour scale from 0, NaN
    for the greatest value.  is_daily: every day has a value."""

    source: str
    label: str
    upper_end: float
    is_daily: bool
    simulated: bool
    paddocks: tuple[PaddockSeries, ...]
    notes: tuple[str, ...] = ()


def read_series(path: str | Path, column: str | None = None) -> SeriesFile:
    """Read the series of all paddocks of a CSV, Parquet or GeoJSON file.

    column: one of FARM_UNITS, in place of the moisture or index.
    DataError where the file has no value to draw; UsageError for an unknown column.
    """
    if column is not None and column not in FARM_UNITS:
        raise UsageError(f"--column {column!r} must be {' or '.join(FARM_UNITS)}")
    sheet = named_sites(read_value_sheet(path))
    found = [name for name in (RETRIEVED if column is None else [column]) if name in sheet.columns]
    if not found:
        raise DataError(
            f"{path}: no column {column or 'sm or wetness'}; {have(sheet.columns, column or 'sm')}"
            "; draw what daily, predict or paddocks wrote"
        )
    if column is None:
        check_one_quantity(sheet)
    drawn = found[0]
    sheet = without_unseen(sheet, drawn)
    names = {
        "lower": f"{drawn}_lower",
        "upper": f"{drawn}_upper",
        "passed": f"pass_{drawn}",
        "rain_mm": "rain_mm",
        "irrigated": f"{drawn}_irrigated",
        "drier_than": "drier_than",
    }
    there = [name for name in names.values() if name in sheet.columns]
    table = table_of(sheet, ReadOptions((drawn, *there), keep="empty", reads=(), option=""))
    if drawn in RULE_OF:
        check_range(sheet, table, drawn)
        ends = [names[end] for end in ("lower", "upper") if names[end] in sheet.columns]
        check_ends(sheet, table, drawn, ends)
    is_daily = "radar_weight" in sheet.columns
    numbers = {part: table.numbers.get(name) for part, name in names.items()}
    if not is_daily:
        numbers["passed"] = table.numbers[drawn]
    label = FARM_UNITS[column] if column else RETRIEVED[drawn].label
    end = np.nan if column == "refill_mm" else 100.0 if column else RETRIEVED[drawn].upper_end
    return SeriesFile(
        str(path),
        label,
        end,
        is_daily,
        table.simulated,
        _by_paddock(table, table.numbers[drawn], numbers),
        table.notes,
    )


@dataclass(frozen=True)
class DayValue:
    """Value of one paddock with its band, NaN where missing, and its day."""

    value: float
    lower: float
    upper: float
    day: np.datetime64


@dataclass(frozen=True)
class ValuesOfDay:
    """Newest values up to ``day`` of the paddocks that have one, by name."""

    day: np.datetime64
    paddocks: dict[str, DayValue]


def values_on(
    series: SeriesFile, paddocks: Sequence[PaddockSeries], day: str | None
) -> ValuesOfDay:
    """Return the newest value of each paddock up to a day.

    day: ISO day; None for the last day with a value that is not forecast. Of a daily file the value
    is that of the day itself. DataError where no paddock has one.
    """
    newest = {}
    for one in paddocks:
        known = np.isfinite(one.value) & (~one.is_forecast | (day is not None))
        if known.any():
            newest[one.name] = one.time[known].max().astype("datetime64[D]")
    if not newest:
        raise DataError(f"{series.source}: no paddock chosen has a value; nothing to draw")
    at = max(newest.values()) if day is None else parse_day(day)
    found = {}
    for one in paddocks:
        days = one.time.astype("datetime64[D]")
        rows = np.isfinite(one.value) & ((days == at) if series.is_daily else (days <= at))
        if rows.any():
            row = int(np.flatnonzero(rows)[-1])
            found[one.name] = DayValue(
                float(one.value[row]), float(one.lower[row]), float(one.upper[row]), days[row]
            )
    if not found:
        raise DataError(
            f"{series.source}: no paddock chosen has a value "
            f"{'on' if series.is_daily else 'up to'} {at}; the last is of {max(newest.values())}"
        )
    return ValuesOfDay(at, found)


def check_threshold(threshold: float | None, column: str | None) -> None:
    """Raise UsageError for a threshold outside the range of what is drawn."""
    if threshold is None:
        return
    most = 1.0 if column is None else 100.0 if column == "available_percent" else np.inf
    if not 0 <= threshold <= most:
        hint = "; in percent? divide by 100" if column is None else ""
        raise UsageError(f"--threshold {threshold:g} is not in the unit of the axis{hint}")


def select(series: SeriesFile, names: list[str]) -> tuple[PaddockSeries, ...]:
    """Return the named paddocks in the order asked for, or all; UsageError for an unknown one."""
    if not names:
        return series.paddocks
    known = {one.name: one for one in series.paddocks}
    names = [canonical_id(name) for name in names]
    for name in names:
        if name not in known:
            raise UsageError(f"--paddock {name!r} is not in {series.source}; {have(known, name)}")
    return tuple(known[name] for name in dict.fromkeys(names))


def _by_paddock(
    table: Table, value: Array, numbers: dict[str, Array | None]
) -> tuple[PaddockSeries, ...]:
    """Split the rows by paddock, in the order of the file, each by time."""
    missing = np.full(len(table), np.nan)
    columns = {name: missing if of is None else of for name, of in numbers.items()}
    forecast = np.asarray(
        [FORECAST in text.split(";") for text in table.text.get("flags", [""] * len(table))]
    )
    _, first, code = np.unique(table.site, return_index=True, return_inverse=True)
    found = []
    for paddock in np.argsort(first, kind="stable"):
        rows = np.flatnonzero(code == paddock)
        rows = rows[np.argsort(table.date[rows], kind="stable")]
        found.append(
            PaddockSeries(
                str(table.site[rows[0]]),
                table.date[rows],
                value[rows],
                is_forecast=forecast[rows],
                **{name: of[rows] for name, of in columns.items()},
            )
        )
    return tuple(found)
