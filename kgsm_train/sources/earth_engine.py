"""Read exports of Sentinel-1 at points, such as Earth Engine's (design §3).

docs/earth_engine.md has the scripts that make the exports. Earth Engine's own names are
read (``VV`` and ``VH``, S1_GRD in dB, S1_GRD_FLOAT linear; ``angle`` in degrees;
``system:time_start`` in milliseconds), and every name of the contract (``vh_db``,
``vh_gamma0_linear``, ``angle_deg``, ``date`` ...). The collection is sigma0 on the ellipsoid's
ground range, terrain-corrected in place only, so it goes into ``vh_db`` without change.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.columns import (
    FILL_CAUSE,
    POLARISATIONS,
    RULES,
    Rule,
    find_forms,
    is_backscatter,
)
from kgsm_infer.tables.dates import is_day_only
from kgsm_infer.tables.duplicates import Rows, merge
from kgsm_infer.tables.keys import canonical_orbit
from kgsm_infer.tables.parsing import MISSING, CellParser
from kgsm_infer.tables.reading import Sheet, read_sheet
from kgsm_infer.tables.table import have, to_sigma0_db
from kgsm_infer.tables.text_column import TextColumn, texts_of

from .columns import Seconds, Sourced
from .join import IN_UTC, Join, NdviSeries, first_of, iso_dates, join_in_situ, with_ndvi
from .loggers import AS_IT_SAYS, Logger, read_in_situ

#: Accepted column names; the first that the export has is read.
SITE_NAMES = ("site", "sitename")
TIME_NAMES = ("time", "date")
MILLISECONDS_NAMES = ("system:time_start",)
ANGLE_NAMES = ("angle_deg", "angle")
PASS_NAMES = ("orbit", "orbit_pass", "orbitProperties_pass", "orbit_direction", "pass")
ORBIT_NAMES = ("relative_orbit", "relativeOrbitNumber_start")
PIXEL_NAMES = ("pixels",)
#: Text columns of the table format that are copied.
WORDS = ("field", "fold", "cluster")

_PIXELS = Rule(0.0, 1e9, "a number of pixels", lambda _: FILL_CAUSE)
#: A millisecond count that a spreadsheet rounded: 1.65E+12, or 1650000000000.
_ROUNDED = re.compile(r"[+-]?(\d+)(?:\.(\d*))?[eE]\+?(\d+)")
_LOST = (
    "is a rounded number: the time has lost its digits in a spreadsheet; export it again, "
    "and do not open it there"
)


def read_backscatter(path: str | Path, unit: str = "db", keep: str = "refuse") -> Sourced:
    """Read the acquisitions of an export.

    Columns: site, date (UTC), vh_db, vv_db, angle_deg, orbit, and other columns of the table
    format where the export has them.

    unit: of VV and VH, ``db`` (S1_GRD) or ``linear`` (S1_GRD_FLOAT); a value that cannot be
    of it is refused. keep: as in :func:`kgsm_infer.tables.table.read_table`. Rows without any
    backscatter (masked, outside the swath) are left out. Rows of one pass over a site, which
    the archive cuts into slices, become one: mean in linear power, weighted by ``pixels``
    where the export has them. In an export of days, rows of one day and no orbit are not
    merged: they may be an ascending and a descending one.
    """
    if unit not in ("db", "linear"):
        raise UsageError(f"unit {unit!r} is neither db nor linear")
    sheet = read_sheet(path)
    if not len(sheet):
        raise DataError(f"{path}: no rows, only a header")
    check = sheet.check
    place = place_and_time(sheet)
    site, time, by_day = place.site, place.time, place.by_day
    numbers, notes = _numbers(sheet, unit)
    text: dict[str, Any] = {"orbit": _orbits(sheet.columns, len(site))}
    text |= {name: texts_of(sheet.columns[name]) for name in WORDS if name in sheet.columns}
    pixels = np.ones(len(site))
    if (count := first_of(sheet.columns, PIXEL_NAMES)) is not None:
        values = check.numbers(count, sheet.columns[count], _PIXELS)
        pixels = np.maximum(np.nan_to_num(values), 1.0)

    radar = [numbers[f"{p}_db"] for p in POLARISATIONS if f"{p}_db" in numbers]
    seen = np.any([np.isfinite(values) for values in radar], axis=0)
    if not seen.any():
        raise DataError(f"{path}: no row has any backscatter; were the stations inside the swath?")
    notes += [place.note] if place.note else []
    if not seen.all():
        notes.append(f"{path}: {int((~seen).sum())} rows without backscatter left out")
    rows = Rows(
        str(path),
        site[seen],
        time[seen],
        {name: values[seen] for name, values in numbers.items()},
        {name: TextColumn.of(np.asarray(words)[seen].tolist()) for name, words in text.items()},
        sheet.row_number[seen],
    )
    by_day = by_day[seen]
    merged = merge(rows, keep, pixels[seen])
    if merged is not None:
        notes += merged.notes
        index = merged.index
        rows = replace(
            rows,
            site=rows.site[index],
            date=rows.date[index],
            numbers=merged.numbers,
            text=merged.text,
            row_number=rows.row_number[index],
        )
        by_day = by_day[index]
    if by_day.any():
        notes.append(f"{path}: its dates are days, without a time")
    orbit = np.asarray(rows.text["orbit"], np.str_)
    order = np.lexsort([orbit, rows.date.astype(np.int64), rows.site])
    table: dict[str, Any] = {"site": rows.site, "date": iso_dates(rows.date, by_day)}
    table |= {name: _rounded(name, values) for name, values in rows.numbers.items()}
    table |= {name: np.asarray(words, np.str_) for name, words in rows.text.items()}
    return Sourced({name: values[order] for name, values in table.items()}, tuple(notes))


def read_earth_engine(
    backscatter: str | Path,
    in_situ: str | Path | None = None,
    ndvi: str | Path | None = None,
    unit: str = "db",
    join: Join = IN_UTC,
    keep: str = "refuse",
    logger: Logger = AS_IT_SAYS,
) -> Sourced:
    """Join the exports to one table: acquisitions, their labels, their NDVI.

    in_situ: a table with site, date and sm, or a logger's own file (:mod:`.loggers`); None for
        acquisitions without labels.
    """
    table = read_backscatter(backscatter, unit, keep)
    if in_situ is not None:
        labels, notes = read_in_situ(in_situ, logger, keep)
        table = join_in_situ(table, labels, join)
        table = Sourced(table.columns, (*labels.notes, *notes, *table.notes))
    return table if ndvi is None else with_ndvi(table, ndvi_of(ndvi), join)


def ndvi_of(path: str | Path) -> NdviSeries:
    """Read the NDVI of an export, without rows that lack it."""
    sheet = read_sheet(path)
    name = first_of(sheet.columns, ("NDVI", "ndvi"))
    if name is None:
        raise DataError(f"{path}: no column 'NDVI'; {have(sheet.columns, 'ndvi')}")
    place = place_and_time(sheet)
    parsed = sheet.check.numbers_without_outliers(name, sheet.columns[name], RULES["ndvi"])
    seen = np.isfinite(parsed.values)
    if not seen.any():
        raise DataError(f"{path}: no row has an NDVI: column {name} is empty in all of them")
    notes = tuple(note for note in (place.note, parsed.note) if note)
    return NdviSeries(str(path), place.site[seen], place.time[seen], parsed.values[seen], notes)


@dataclass(frozen=True)
class PlaceAndTime:
    """(R,) site, UTC time, and True where the time is a date alone; note: on names, or ""."""

    site: NDArray[np.str_]
    time: Seconds
    by_day: NDArray[np.bool_]
    note: str


def place_and_time(sheet: Sheet) -> PlaceAndTime:
    """Return the place and time of each row of an export."""
    cells, check = sheet.columns, sheet.check
    column = first_of(cells, SITE_NAMES)
    if column is None:
        raise DataError(f"{sheet.source}: no column 'site'; {have(cells, 'site')}")
    named = check.names(cells[column], column)
    site, note = named.values, named.note
    written, counted = first_of(cells, TIME_NAMES), first_of(cells, MILLISECONDS_NAMES)
    if written is not None:
        texts = texts_of(cells[written])
        time = check.dates(texts, written)
        by_day = is_day_only(texts, site)
        if counted is None or not by_day.all():
            return PlaceAndTime(site, time, by_day, note)
    if counted is None:
        names = ", ".join(repr(item) for item in (*TIME_NAMES, *MILLISECONDS_NAMES))
        raise DataError(f"{sheet.source}: no column {names}; {have(cells, 'date')}")
    time = _from_milliseconds(check, counted, cells[counted])
    return PlaceAndTime(site, time, np.zeros(len(site), bool), note)


def _from_milliseconds(check: CellParser, name: str, cells: Any) -> Seconds:
    since_1970 = check.numbers(name, cells, None)
    texts = texts_of(cells)
    check.first(np.isnan(since_1970), name, texts, "empty; every row needs its time")
    lost = np.asarray([_digits_lost(text) for text in texts], np.bool_)
    # rounded in an earlier file: a multiple of a thousand seconds, but of no minute or day
    lost |= (since_1970 % 1e6 == 0) & (since_1970 % 60_000 != 0)
    lost |= (since_1970 % 1e8 == 0) & (since_1970 % 86_400_000 != 0)
    check.first(lost, name, texts, _LOST)
    low, high = 1e11, 4.2e12  # 1973 to 2103 in milliseconds
    reason = "is not a time in milliseconds since 1970"
    check.first((since_1970 < low) | (since_1970 > high), name, texts, reason)
    return (since_1970 // 1000).astype(np.int64).astype("datetime64[s]")


def _digits_lost(text: str) -> bool:
    """Return True if a count of milliseconds has fewer digits than a second needs.

    >>> [_digits_lost(text) for text in ("1.65E+12", "1.654838412345E+12", "1654838412345")]
    [True, False, False]
    """
    found = _ROUNDED.fullmatch(text)
    return bool(found) and int(found.group(3)) - len(found.group(2) or "") > 3  # type: ignore[union-attr]


def _numbers(sheet: Sheet, unit: str) -> tuple[dict[str, NDArray[np.float64]], list[str]]:
    """Parse the numeric columns of the table format, with notes; backscatter as sigma0 in dB."""
    cells, check = sheet.columns, sheet.check
    names = {name: name for name in cells if name in RULES and name != "sm"}
    for polarisation in POLARISATIONS:
        own = polarisation.upper()
        if own in cells:
            names[f"{polarisation}_{unit}"] = own
            if twice := find_forms(polarisation, cells):
                raise DataError(
                    f"{sheet.source}: columns {own} and {twice[0]} give one backscatter twice"
                )
    if "NDVI" in cells and "ndvi" not in cells:
        names["ndvi"] = "NDVI"
    angle = first_of(cells, ANGLE_NAMES)
    if not any(is_backscatter(name) and name.startswith("vh") for name in names):
        raise DataError(f"{sheet.source}: no column 'VH' or 'vh_db'; {have(cells, 'vh_db')}")
    if angle is None:
        raise DataError(f"{sheet.source}: no column 'angle' (degrees); {have(cells, 'angle_deg')}")
    names["angle_deg"] = angle
    parsed = {
        ours: check.numbers_without_outliers(own, cells[own], RULES[ours])
        for ours, own in names.items()
    }
    numbers = {ours: one.values for ours, one in parsed.items()}
    for polarisation in POLARISATIONS:
        given = [name for name in numbers if name.startswith(polarisation) and is_backscatter(name)]
        to_sigma0_db(polarisation, numbers, sheet.source)
        if given and "linear" in given[0]:
            own = names[given[0]]
            values = numbers[f"{polarisation}_db"]
            reason = "is not a backscatter in linear power; nodata? leave the cell empty"
            outside = RULES[f"{polarisation}_db"].outside(values)
            check.first(outside, own, texts_of(cells[own]), reason)
    return numbers, [one.note for one in parsed.values() if one.note]


def _rounded(name: str, values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Round backscatter to 0.0001 dB and angles to 0.001 degrees, but never to 0 dB."""
    digits = {"vh_db": 4, "vv_db": 4, "angle_deg": 3}.get(name)
    if digits is None:
        return values
    rounded = np.round(values, digits)
    return np.where(rounded == 0, values, rounded)


def _orbits(cells: Mapping[str, Any], rows: int) -> NDArray[np.str_]:
    """Return (R,) pass and relative orbit, such as DESCENDING-16; '' if absent."""
    parts = [
        cells[name] for name in (first_of(cells, PASS_NAMES), first_of(cells, ORBIT_NAMES)) if name
    ]
    words = [texts_of(part) for part in parts]
    known = [[word for word in row if word not in MISSING] for row in zip(*words, strict=True)]
    orbits = [canonical_orbit("-".join(row)) for row in known] if words else [""] * rows
    return np.asarray(orbits, np.str_)
