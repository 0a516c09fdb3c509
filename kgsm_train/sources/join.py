"""Join acquisitions and labels: by time if both have one, else by day.

A daily mean has no time of day. If either side is a date alone, days are joined, in the local time
of ``utc_offset_hours`` if it is stated. The notes report each decision.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.dates import is_day_only, states_zone, utc_seconds, wall_clock
from kgsm_infer.tables.table import Table
from kgsm_infer.tables.text_column import NAME_LENGTH, TextColumn

from .columns import Columns, Seconds, Sourced, keep_nearest, keep_rows, nearest, take_rows

HOUR = 3600.0
DAY = 86400


@dataclass(frozen=True)
class Join:
    """Tolerances of the join of acquisitions and labels.

    tolerance_hours: greatest gap between an acquisition and its label, where both have a
        time. Where either is a day, the day itself, and beyond 12 h a day more for each 24 h.
    utc_offset_hours: local time of the labels, for times without a zone and for days.
        None means UTC, and the notes report it.
    ndvi_gap_days: greatest gap to an NDVI of a separate export.
    """

    tolerance_hours: float = 12.0
    utc_offset_hours: float | None = None
    ndvi_gap_days: float = 16.0

    def __post_init__(self) -> None:
        if not 0 < self.tolerance_hours <= 24 * 31:
            raise UsageError(
                f"tolerance must be above 0 and at most 744 hours, not {self.tolerance_hours:g}"
            )
        if self.utc_offset_hours is not None and not -14 <= self.utc_offset_hours <= 14:
            raise UsageError(f"UTC offset must be within ±14 h, not {self.utc_offset_hours:g}")
        if not 0 < self.ndvi_gap_days <= 366:
            raise UsageError(
                f"NDVI gap must be above 0 and at most 366 days, not {self.ndvi_gap_days:g}"
            )

    @property
    def offset_seconds(self) -> int:
        """UTC offset in seconds; 0 if none is stated."""
        return round((self.utc_offset_hours or 0.0) * HOUR)

    @property
    def days(self) -> int:
        """Greatest distance between label and acquisition when days are joined."""
        return int(max(self.tolerance_hours - 12, 0) // 24)


IN_UTC = Join()


@dataclass(frozen=True)
class SiteTimes:
    """(R,) site.  utc: seconds since 1970; a day is at its local noon.  day: the local
    day, days since 1970.  by_day: where nothing but the day is known."""

    site: NDArray[np.str_]
    utc: NDArray[np.int64]
    day: NDArray[np.int64]
    by_day: NDArray[np.bool_]

    def take(self, rows: NDArray[np.int64]) -> SiteTimes:
        """Return the rows at an index."""
        return SiteTimes(self.site[rows], self.utc[rows], self.day[rows], self.by_day[rows])


def join_in_situ(acquisitions: Sourced, in_situ: Table, join: Join = IN_UTC) -> Sourced:
    """Join labels to acquisitions; each label is used once.

    in_situ: a table with ``site`` and ``sm``. Its other columns come along: what does not
    change at a site (position, soil, fold, cluster) to every row of it, the rest from the
    row that is near, which several acquisitions may share. The label itself goes to the
    nearest acquisition only; the others stay, without one, as history. Of acquisitions that
    are only days, the label is the mean of the day's readings. ``sm_gap_hours`` is label
    minus acquisition (a day's is its noon). Sites without labels are left out.
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
            f"{some(in_situ.site)}, the export {some(columns['site'])}"
        )
    if not known.all():
        left = sorted(set(columns["site"][~known]))
        notes.append(f"{len(left)} sites of the export have no labels, left out: {some(left)}")
        columns = keep_rows(columns, known)
    site = np.asarray(columns["site"], np.str_)
    here = _acquisition_times(columns["date"], site, join)
    there = _label_times(in_situ, join)
    notes += _decided(in_situ, here, there, join)

    table = dict(columns)
    near = _match(here, there, join)
    anywhere = nearest(site, _seconds(here.utc), there.site, _seconds(there.utc), np.inf)
    for name, values in _carried(in_situ):
        source = anywhere if _constant_at_sites(in_situ.site, values) else near
        if name not in table:
            table[name] = take_rows(values, source)

    sm = in_situ.numbers["sm"]
    labelled = np.flatnonzero(np.isfinite(sm))
    if not len(labelled):
        raise DataError(f"{in_situ.source}: no row has a label: column sm is empty in all of them")
    of_labels = there.take(labelled)
    label = _match(here, of_labels, join)
    gap = np.where(label >= 0, (of_labels.utc[label] - here.utc).astype(np.float64), np.nan)
    gap[(label >= 0) & here.by_day] = 0.0
    once = keep_nearest(label, abs(np.nan_to_num(gap)))
    if not (once >= 0).any():
        raise DataError(
            f"{in_situ.source}: no label lies within {join.tolerance_hours:g} hours of an "
            "acquisition, or on its day; do the periods overlap?"
        )
    table["sm"] = _labels(here, of_labels, sm[labelled], once)
    table["sm_gap_hours"] = np.where(once >= 0, np.round(gap / HOUR, 3), np.nan)
    notes.append(
        f"{int((once >= 0).sum())} of {len(site)} acquisitions have a label; "
        f"{int(((label >= 0) & (once < 0)).sum())} more were near one that a nearer one has"
    )
    return Sourced(_ordered(table), tuple(notes))


@dataclass(frozen=True)
class NdviSeries:
    """(Q,) site, UTC time and NDVI of an export.  notes: on how it was read."""

    source: str
    site: NDArray[np.str_]
    time: Seconds
    ndvi: NDArray[np.float64]
    notes: tuple[str, ...] = ()


def with_ndvi(table: Sourced, series: NdviSeries, join: Join = IN_UTC) -> Sourced:
    """Add ``ndvi`` from a separate export: the nearest in time within the stated gap.

    It replaces an ``ndvi`` of the table; ``ndvi_gap_days`` is NDVI's date minus the acquisition's.
    """
    source, site, time, ndvi = series.source, series.site, series.time, series.ndvi
    columns = dict(table.columns)
    at = _seconds(np.asarray([utc_seconds(text) for text in columns["date"]], np.int64))
    index = nearest(columns["site"], at, site, time, join.ndvi_gap_days * 24 * HOUR)
    if not (index >= 0).any():
        raise DataError(
            f"{source}: no NDVI lies within {join.ndvi_gap_days:g} days of an acquisition at its "
            f"site; it has sites {some(site)}, the table {some(columns['site'])}"
        )
    days = np.full(len(at), np.nan)
    days[index >= 0] = (time[index[index >= 0]] - at[index >= 0]).astype(np.float64) / DAY
    notes = [*table.notes, *series.notes]
    if "ndvi" in columns:
        notes.append(f"the NDVI of {source} replaces the one in the table")
    notes.append(f"{int((index >= 0).sum())} of {len(at)} rows have an NDVI")
    columns["ndvi"], columns["ndvi_gap_days"] = take_rows(ndvi, index), np.round(days, 3)
    return Sourced(columns, tuple(notes))


def _acquisition_times(dates: Sequence[str], site: NDArray[np.str_], join: Join) -> SiteTimes:
    """Return the times of acquisitions: UTC if no zone is stated; days as written."""
    texts = [str(text) for text in dates]
    by_day = is_day_only(texts, site)
    utc = np.asarray([utc_seconds(text) for text in texts], np.int64)
    local = utc + join.offset_seconds
    written = np.asarray([wall_clock(text) for text in texts], np.int64)
    day = np.where(by_day, written, local) // DAY
    return SiteTimes(site, np.where(by_day, _noon(day, join), utc), day, by_day)


def _label_times(table: Table, join: Join) -> SiteTimes:
    """Return the times of labels: local if no zone is stated; days as written."""
    texts = list(table.date_text)
    by_day = is_day_only(texts, table.site)
    zoned = np.asarray([states_zone(text) for text in texts], np.bool_)
    utc = table.date.astype(np.int64) - np.where(zoned, 0, join.offset_seconds)
    written = np.asarray([wall_clock(text) for text in texts], np.int64)
    day = np.where(by_day, written, utc + join.offset_seconds) // DAY
    return SiteTimes(table.site, np.where(by_day, _noon(day, join), utc), day, by_day)


def _noon(day: NDArray[np.int64], join: Join) -> NDArray[np.int64]:
    return np.asarray(day * DAY + DAY // 2 - join.offset_seconds, np.int64)


def _match(here: SiteTimes, there: SiteTimes, join: Join) -> NDArray[np.int64]:
    """Return (R,) the index of each acquisition's label or -1; labels with a time first."""
    site, other = here.site, there.site
    found = np.full(len(site), -1, np.int64)
    timed, of_time = np.flatnonzero(~here.by_day), np.flatnonzero(~there.by_day)
    mine_at, theirs_at = _seconds(here.utc[timed]), _seconds(there.utc[of_time])
    near = nearest(site[timed], mine_at, other[of_time], theirs_at, join.tolerance_hours * HOUR)
    found[timed[near >= 0]] = of_time[near[near >= 0]]
    # days join days: those of an acquisition without a time, or of a label without one
    for mine, theirs in (
        (np.flatnonzero(found < 0), np.flatnonzero(there.by_day)),
        (np.flatnonzero((found < 0) & here.by_day), of_time),
    ):
        mine = mine[found[mine] < 0]
        mine_at, theirs_at = _seconds(here.day[mine] * DAY), _seconds(there.day[theirs] * DAY)
        near = nearest(site[mine], mine_at, other[theirs], theirs_at, join.days * DAY)
        found[mine[near >= 0]] = theirs[near[near >= 0]]
    return found


def _labels(
    here: SiteTimes,
    there: SiteTimes,
    sm: NDArray[np.float64],
    label: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return (R,) the label of each acquisition: one reading, or the mean of a day."""
    values = np.where(label >= 0, sm[label], np.nan)
    days = (label >= 0) & here.by_day
    for row in np.flatnonzero(days & ~there.by_day[label]).tolist():
        same = (there.site == here.site[row]) & (there.day == there.day[label[row]])
        values[row] = sm[same].mean()
    return values


def _decided(in_situ: Table, here: SiteTimes, there: SiteTimes, join: Join) -> list[str]:
    """Report each assumption about times in one line."""
    clock = (
        "UTC, as no --utc-offset-hours is stated"
        if join.utc_offset_hours is None
        else f"UTC{join.utc_offset_hours:+g} h, as stated"
    )
    notes = []
    if there.by_day.any():
        whose = "" if there.by_day.all() else f" {int(there.by_day.sum())} of"
        notes.append(f"{in_situ.source}:{whose} its dates are days; they join the days of {clock}")
    unzoned = ~there.by_day & ~np.asarray([states_zone(t) for t in in_situ.date_text], np.bool_)
    if unzoned.any():
        notes.append(f"{in_situ.source}: times without a zone are taken as {clock}")
    if here.by_day.any():
        notes.append(
            "acquisitions that are only days join the labels of their day, as written"
            + ("" if there.by_day.all() else "; of labels with times, the mean of the day")
        )
    return notes


def _carried(table: Table) -> list[tuple[str, NDArray[Any]]]:
    """Return all columns except site, date and label, without long texts."""
    numbers = [(name, values) for name, values in table.numbers.items() if name != "sm"]
    words = [
        (name, np.asarray(cells, np.str_))
        for name, cells in table.text.items()
        if not (isinstance(cells, TextColumn) and (cells.lengths() > NAME_LENGTH).any())
    ]
    return numbers + words


def _constant_at_sites(site: NDArray[np.str_], values: NDArray[Any]) -> bool:
    """Return True if every site has one constant value."""
    _, first, code = np.unique(site, return_index=True, return_inverse=True)
    same = values == values[first][code]
    if values.dtype.kind == "f":
        same |= np.isnan(values) & np.isnan(values[first][code])
    return bool(same.all())


def _ordered(table: Columns) -> Columns:
    """Put the columns of the table format first."""
    head = ("site", "date", "vh_db", "vv_db", "angle_deg", "orbit", "ndvi", "sm", "sm_gap_hours")
    return {name: table[name] for name in (*[h for h in head if h in table], *table)}


def iso_dates(time: Seconds, by_day: NDArray[np.bool_]) -> NDArray[np.str_]:
    """Format (R,) ISO 8601 in UTC, days as dates."""
    seconds = np.char.add(np.datetime_as_string(time.astype("datetime64[s]")), "Z")
    return np.where(by_day, np.datetime_as_string(time.astype("datetime64[D]")), seconds)


def first_of(cells: Mapping[str, Any], names: Sequence[str]) -> str | None:
    """Return the first of ``names`` that is a column, or None."""
    return next((name for name in names if name in cells), None)


def some(names: Any) -> str:
    """Format the first five distinct names."""
    distinct = sorted({str(name) for name in names})
    return ", ".join(distinct[:5]) + (", ..." if len(distinct) > 5 else "")


def _seconds(values: NDArray[np.int64]) -> Seconds:
    return values.astype("datetime64[s]")
