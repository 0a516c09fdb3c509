"""Earth Engine point exports of Sentinel-1, joined with soil moisture in situ.

docs/earth_engine.md holds the scripts that make the exports. Earth Engine's own names are
read: ``VV`` and ``VH`` (S1_GRD in dB, S1_GRD_FLOAT linear), ``angle`` in degrees,
``system:time_start`` in milliseconds. The collection is sigma0 on the ellipsoid's ground
range, terrain-corrected in place only, so it goes into ``vh_db`` without change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.columns import RULES, Rule
from kgsm_infer.errors import DataError, UsageError
from kgsm_infer.refusal import MISSING, Refusal
from kgsm_infer.table import Table, read_table
from kgsm_infer.tablefile import read_sheet

from .columns import Columns, Seconds, Sourced, keep_rows, nearest, taken, used_once

#: Names an export may give; the first that is there is read.
SITE_NAMES = ("site", "sitename")
TIME_NAMES = ("time", "date")
MILLISECONDS_NAMES = ("system:time_start",)
PASS_NAMES = ("orbit_pass", "orbitProperties_pass")
ORBIT_NAMES = ("relative_orbit", "relativeOrbitNumber_start")
PIXEL_NAMES = ("pixels",)

#: Rows of one site and orbit closer than this are slices of one pass.
ONE_PASS_SECONDS = 600
HOUR = 3600.0
_NO_POWER = 1e-6  # -60 dB: nothing a radar measures
_PIXELS = Rule(0.0, 1e9, "a number of pixels", lambda _: "a nodata value? leave the cell empty")


@dataclass(frozen=True)
class Join:
    """How acquisitions and labels find each other.

    tolerance_hours: greatest gap between an acquisition and its label. 12 h on a label that
        is a day's mean reaches all of its day and no more.
    utc_offset_hours: of a label dated by day alone, whose time is then noon of that local
        day. Labels with a time of day are taken as they stand (UTC).
    ndvi_gap_days: greatest gap to an NDVI of a separate export.
    """

    tolerance_hours: float = 12.0
    utc_offset_hours: float = 0.0
    ndvi_gap_days: float = 16.0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance_hours <= 24 * 31:
            raise UsageError(f"a tolerance of {self.tolerance_hours:g} hours cannot be meant")
        if not -14 <= self.utc_offset_hours <= 14:
            raise UsageError(f"no clock is {self.utc_offset_hours:g} hours from UTC")
        if not 0 < self.ndvi_gap_days <= 366:
            raise UsageError(f"a gap of {self.ndvi_gap_days:g} days cannot be meant")


def read_backscatter(path: str | Path, unit: str = "db") -> Sourced:
    """Acquisitions of an export: site, date (UTC), vh_db, vv_db, angle_deg, orbit.

    unit: of VV and VH, ``db`` (S1_GRD) or ``linear`` (S1_GRD_FLOAT); a value that cannot be
    of it is refused. Rows without any backscatter (masked, outside the swath) are left out.
    Rows of one pass over a site, which the archive cuts into slices, become one: mean in
    linear power, weighted by ``pixels`` where the export has them.
    """
    if unit not in ("db", "linear"):
        raise UsageError(f"unit {unit!r} is neither db nor linear")
    path = Path(path)
    sheet = read_sheet(path)
    cells, row_number, check = sheet.columns, sheet.row_number, sheet.check
    if not len(row_number):
        raise DataError(f"{path}: no rows, only a header")
    site, time = _place_and_time(path, cells, check)
    power: Columns = {}
    for polarisation in ("vh", "vv"):
        name = polarisation.upper()
        if name in cells:
            values = check.numbers(name, cells[name], RULES[f"{polarisation}_{unit}"])
            if unit == "linear":
                reason = "is no backscatter in linear power; nodata? leave the cell empty"
                check.first(values < _NO_POWER, name, cells[name], reason)
                # Of a table's dB at most 0 are taken, and dB is what this becomes.
                reason = "is above 0 dB (1), brighter than any field; leave the cell empty"
                check.first(values > 1, name, cells[name], reason)
            power[polarisation] = 10 ** (values / 10) if unit == "db" else values
    if "vh" not in power:
        raise DataError(f"{path}: no column 'VH'; it has {', '.join(cells)}")
    if "angle" not in cells:
        raise DataError(f"{path}: no column 'angle' (degrees); it has {', '.join(cells)}")
    angle_deg = check.numbers("angle", cells["angle"], RULES["angle_deg"])
    orbit = _orbits(cells, len(site))
    pixels = np.ones(len(site))
    if (count := _first(cells, PIXEL_NAMES)) is not None:
        pixels = np.maximum(np.nan_to_num(check.numbers(count, cells[count], _PIXELS)), 1.0)

    seen = np.any([np.isfinite(values) for values in power.values()], axis=0)
    if not seen.any():
        raise DataError(f"{path}: no row has any backscatter; were the stations inside the swath?")
    columns: Columns = {"site": site, "orbit": orbit, "angle_deg": angle_deg, **power}
    columns, time, pixels = keep_rows(columns, seen), time[seen], pixels[seen]
    merged, time, slices = _one_row_a_pass(columns, time, pixels)
    notes = []
    if not seen.all():
        notes.append(f"{path}: {int((~seen).sum())} rows without backscatter left out")
    if slices:
        notes.append(f"{path}: {slices} rows are further slices of a pass and were averaged in")
    table: Columns = {"site": merged["site"], "date": _iso(time)}
    for polarisation in power:
        with np.errstate(divide="ignore"):
            table[f"{polarisation}_db"] = np.round(10 * np.log10(merged[polarisation]), 4)
    return Sourced(
        {**table, "angle_deg": np.round(merged["angle_deg"], 3), "orbit": merged["orbit"]},
        tuple(notes),
    )


def join_in_situ(acquisitions: Sourced, in_situ: Table, join: Join = Join()) -> Sourced:
    """Each acquisition with the label nearest in time; each label once.

    in_situ: a table with ``site`` and ``sm``. Its other columns come along: what does not
    change at a site (position, soil, fold, cluster) to every row of it, the rest from the
    row nearest within the tolerance, which several acquisitions may share. The label itself
    goes to the nearest acquisition only; the others stay, without one, as history.
    ``sm_gap_hours`` is label minus acquisition. Sites without labels are left out.
    """
    if "sm" not in in_situ.numbers:
        raise DataError(f"{in_situ.source}: no column 'sm' to join with")
    if clash := {"vh_db", "vv_db"} & set(in_situ.numbers):
        raise DataError(f"{in_situ.source}: holds backscatter already ({', '.join(sorted(clash))})")
    notes = list(acquisitions.notes)
    columns = acquisitions.columns
    known = np.isin(columns["site"], in_situ.site)
    if not known.any():
        raise DataError(
            f"{in_situ.source}: none of its sites is in the export; it has "
            f"{_some(in_situ.site)}, the export {_some(columns['site'])}"
        )
    if not known.all():
        left = sorted(set(columns["site"][~known]))
        notes.append(f"{len(left)} sites of the export have no labels, left out: {_some(left)}")
        columns = keep_rows(columns, known)
    site, time = columns["site"], _utc(columns["date"])
    other_time = _label_time(in_situ, join.utc_offset_hours)
    tolerance = join.tolerance_hours * HOUR

    table = dict(columns)
    near = nearest(site, time, in_situ.site, other_time, tolerance)
    anywhere = nearest(site, time, in_situ.site, other_time, np.inf)
    for name, values in _carried(in_situ):
        source = anywhere if _constant_at_sites(in_situ.site, values) else near
        if name not in table:
            table[name] = taken(values, source)

    labelled = np.flatnonzero(np.isfinite(in_situ.numbers["sm"]))
    label = nearest(site, time, in_situ.site[labelled], other_time[labelled], tolerance)
    gap = np.where(label >= 0, (other_time[labelled][label] - time).astype(np.float64), np.nan)
    once = used_once(label, abs(np.nan_to_num(gap)))
    if not (once >= 0).any():
        raise DataError(
            f"{in_situ.source}: no label lies within {join.tolerance_hours:g} hours of an "
            "acquisition; do the periods overlap?"
        )
    table["sm"] = taken(in_situ.numbers["sm"][labelled], once)
    table["sm_gap_hours"] = np.where(once >= 0, np.round(gap / HOUR, 3), np.nan)
    notes.append(
        f"{int((once >= 0).sum())} of {len(site)} acquisitions have a label; "
        f"{int(((label >= 0) & (once < 0)).sum())} more were near one that a nearer one has"
    )
    return Sourced(_ordered(table), tuple(notes))


def with_ndvi(table: Sourced, path: str | Path, join: Join = Join()) -> Sourced:
    """The table with ``ndvi`` from a separate export: nearest in time within the stated gap.

    Columns ``NDVI`` or ``ndvi``, the site, the time. It takes the place of an ``ndvi`` the
    table had; ``ndvi_gap_days`` is NDVI's date minus the acquisition's.
    """
    path = Path(path)
    sheet = read_sheet(path)
    cells, check = sheet.columns, sheet.check
    name = _first(cells, ("NDVI", "ndvi"))
    if name is None:
        raise DataError(f"{path}: no column 'NDVI'; it has {', '.join(cells)}")
    site, time = _place_and_time(path, cells, check)
    ndvi = check.numbers(name, cells[name], RULES["ndvi"])
    seen = np.isfinite(ndvi)
    site, time, ndvi = site[seen], time[seen], ndvi[seen]
    columns = dict(table.columns)
    at = _utc(columns["date"])
    index = nearest(columns["site"], at, site, time, join.ndvi_gap_days * 24 * HOUR)
    if not (index >= 0).any():
        raise DataError(
            f"{path}: no NDVI lies within {join.ndvi_gap_days:g} days of an acquisition at its "
            f"site; it has sites {_some(site)}, the table {_some(columns['site'])}"
        )
    days = np.full(len(at), np.nan)
    days[index >= 0] = (time[index[index >= 0]] - at[index >= 0]).astype(np.float64) / (24 * HOUR)
    notes = list(table.notes)
    if "ndvi" in columns:
        notes.append(f"the NDVI of {path} takes the place of the one in the table")
    notes.append(f"{int((index >= 0).sum())} of {len(at)} rows have an NDVI")
    columns["ndvi"], columns["ndvi_gap_days"] = taken(ndvi, index), np.round(days, 3)
    return Sourced(columns, tuple(notes))


def read_earth_engine(
    backscatter: str | Path,
    in_situ: str | Path,
    ndvi: str | Path | None = None,
    unit: str = "db",
    join: Join = Join(),
) -> Sourced:
    """The three files as one table of design §3."""
    table = join_in_situ(read_backscatter(backscatter, unit), read_table(in_situ), join)
    return table if ndvi is None else with_ndvi(table, ndvi, join)


def _place_and_time(
    path: Path, cells: Mapping[str, Any], check: Refusal
) -> tuple[NDArray[np.str_], Seconds]:
    name = _first(cells, SITE_NAMES)
    if name is None:
        raise DataError(f"{path}: no column 'site'; it has {', '.join(cells)}")
    site = np.asarray([str(cell).strip() for cell in cells[name]], np.str_)
    check.first(site == "", name, cells[name], "empty; every row needs its site")
    if (name := _first(cells, TIME_NAMES)) is not None:
        return site, check.dates([str(cell).strip() for cell in cells[name]], name)
    name = _first(cells, MILLISECONDS_NAMES)
    if name is None:
        raise DataError(
            f"{path}: no column 'time', 'date' or 'system:time_start'; it has {', '.join(cells)}"
        )
    since_1970 = check.numbers(name, cells[name], None)
    # Sentinel-1 flies since 2014; seconds, or days, would land in 1970
    bad = ~((since_1970 > 1.38e12) & (since_1970 < 4.1e12))
    check.first(bad, name, cells[name], "is not a time in milliseconds since 1970 after 2013")
    return site, (since_1970 // 1000).astype(np.int64).astype("datetime64[s]")


def _orbits(cells: Mapping[str, Any], rows: int) -> NDArray[np.str_]:
    """(R,) pass and relative orbit as one word, such as DESCENDING-16; '' where not given."""
    parts = [
        cells[name] for name in (_first(cells, PASS_NAMES), _first(cells, ORBIT_NAMES)) if name
    ]
    words = [[str(cell).strip().removesuffix(".0") for cell in part] for part in parts]
    known = [[word for word in row if word not in MISSING] for row in zip(*words, strict=True)]
    return np.asarray(["-".join(row) for row in known] if words else [""] * rows, np.str_)


def _one_row_a_pass(
    columns: Columns, time: Seconds, pixels: NDArray[np.float64]
) -> tuple[Columns, Seconds, int]:
    """Slices of one pass averaged, in order of site and time; and how many were averaged in."""
    order = np.lexsort([time.astype(np.int64), columns["orbit"], columns["site"]])
    columns, time, pixels = {k: v[order] for k, v in columns.items()}, time[order], pixels[order]
    new = np.ones(len(time), bool)
    new[1:] = np.diff(time).astype(np.int64) > ONE_PASS_SECONDS
    for name in ("site", "orbit"):
        new[1:] |= columns[name][1:] != columns[name][:-1]
    group = np.cumsum(new) - 1
    merged: Columns = {}
    for name, values in columns.items():
        if name in ("site", "orbit"):
            merged[name] = values[new]
            continue
        weight = np.where(np.isfinite(values), pixels, 0.0)
        total = np.bincount(group, weights=weight)
        summed = np.bincount(group, weights=weight * np.nan_to_num(values))
        with np.errstate(invalid="ignore"):
            merged[name] = summed / total
    order = np.lexsort([time[new].astype(np.int64), merged["site"]])
    return {k: v[order] for k, v in merged.items()}, time[new][order], int((~new).sum())


def _label_time(table: Table, utc_offset_hours: float) -> Seconds:
    """(R,) UTC; a label dated by day alone stands at noon of that local day."""
    by_day = np.asarray([len(text) == 10 for text in table.date_text])
    noon = np.timedelta64(round((12 - utc_offset_hours) * HOUR), "s")
    return np.where(by_day, table.date + noon, table.date)


def _carried(table: Table) -> list[tuple[str, NDArray[Any]]]:
    """Every column beside site, date and label."""
    numbers = [(name, values) for name, values in table.numbers.items() if name != "sm"]
    return numbers + [(name, np.asarray(words, np.str_)) for name, words in table.text.items()]


def _constant_at_sites(site: NDArray[np.str_], values: NDArray[Any]) -> bool:
    """True where every site has one value throughout."""
    _, first, code = np.unique(site, return_index=True, return_inverse=True)
    same = values == values[first][code]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[first][code])
    return bool(same.all())


def _ordered(table: Columns) -> Columns:
    """Contract columns first."""
    head = ("site", "date", "vh_db", "vv_db", "angle_deg", "orbit", "ndvi", "sm", "sm_gap_hours")
    return {name: table[name] for name in (*[h for h in head if h in table], *table)}


def _iso(time: Seconds) -> NDArray[np.str_]:
    return np.char.add(np.datetime_as_string(time.astype("datetime64[s]")), "Z")


def _utc(date: NDArray[np.str_]) -> Seconds:
    return np.char.rstrip(date, "Z").astype("datetime64[s]")


def _first(cells: Mapping[str, Any], names: Sequence[str]) -> str | None:
    return next((name for name in names if name in cells), None)


def _some(names: Any) -> str:
    distinct = sorted({str(name) for name in names})
    return ", ".join(distinct[:5]) + (", ..." if len(distinct) > 5 else "")
