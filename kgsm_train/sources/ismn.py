"""Convert ISMN archives to the table of design §3, with the package ``ismn``.

Both layouts of the archives are read by the ``ismn`` package (extra ``[ismn]``). Times are
UTC. ISMN's terms forbid passing the data on; cite Dorigo et al. 2021 and the networks.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError, UsageError

from .columns import Columns, Seconds, Sourced
from .ismn_archive import network_and_station, opened, quiet, reason_of

DAY = 86400
#: Greatest gap between a reading and the requested time of day.
OVERPASS_SECONDS = 3 * 3600


@dataclass(frozen=True)
class SensorSelection:
    """Select sensors and readings.

    min_depth_m, max_depth_m: limits of the whole sensor; 0.051 m because probes at two
        inches (0.0508 m) are the 5 cm probes of North America.
    flags: ISMN quality flags that count as good. ``G`` alone by default; an archive of 2019
        has no G, and U where no check failed.
    when: ``daily`` (mean of the good readings of a UTC day), ``every`` (each good reading)
        or a UTC time such as ``19:30`` (each day's good reading nearest to it, within 3 h).
    """

    min_depth_m: float = 0.0
    max_depth_m: float = 0.051
    flags: tuple[str, ...] = ("G",)
    when: str = "daily"

    def __post_init__(self) -> None:
        if not self.min_depth_m <= self.max_depth_m:
            raise UsageError(f"no depth lies between {self.min_depth_m} and {self.max_depth_m} m")
        if not self.flags:
            raise UsageError("no quality flag is good; give at least one, such as G")
        if self.when not in ("daily", "every") and not re.fullmatch(
            r"([01]\d|2[0-3]):[0-5]\d", self.when
        ):
            raise UsageError(f"{self.when!r} is neither daily, every, nor a time such as 19:30")


@dataclass(frozen=True)
class Readings:
    """Good readings of one sensor, in order of time: (R,) each."""

    time: Seconds
    value: NDArray[np.float64]


def read_ismn(
    archives: Sequence[str | Path], surface: SensorSelection = SensorSelection()
) -> Sourced:
    """Read archives: one row per sensor and day (or reading).

    Columns: site (network_station_instrument_depths, the same in every archive), date, sm,
    temp_c (mean over the station's soil temperature sensors in the same depths, at the same
    times; absent where no station has one), readings (their number in the row), lat,
    lon, depth_from_m, depth_to_m, station (the group: sensors of a station are not
    independent) and cluster (the network).
    """
    found = _Found()
    for archive in archives:
        with opened(Path(archive)) as content:
            for station in content.stations:
                _add_station(found, station, str(archive), surface)
            read = sum(len(station.sensors) for station in content.stations)
            if read < content.files:
                left = content.files - read
                found.notes.append(
                    f"{archive}: {left} of {content.files} files could not be read by ismn"
                )
            found.unread += [f"{archive}: {why}" for why in content.unread]
    names = ", ".join(str(archive) for archive in archives)
    if not found.parts:
        _nothing(names, found, surface)
    if found.unread:
        more = ", ..." if len(found.unread) > 3 else ""
        found.notes.append(f"left out as unreadable: {', '.join(found.unread[:3])}{more}")
    if found.other_depths:
        found.notes.append(f"sensors at other depths left out: {_counts(found.other_depths)}")
    if found.other_flags:
        found.notes.append(f"readings with other flags left out: {_counts(found.other_flags)}")
    parts = sorted(found.parts, key=lambda part: str(part["site"][0]))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if np.isnan(table["temp_c"]).all():
        del table["temp_c"]
        found.notes.append(
            "no soil temperature in these depths: frozen soil cannot be distinguished from dry soil"
        )
    return Sourced(table, tuple(found.notes))


@dataclass
class _Found:
    """Series read so far. seen: site -> its archive."""

    parts: list[Columns] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    other_depths: Counter[str] = field(default_factory=Counter)
    other_flags: Counter[str] = field(default_factory=Counter)
    seen: dict[str, str] = field(default_factory=dict)


def _add_station(found: _Found, station: Any, archive: str, surface: SensorSelection) -> None:
    """Read the rows of a station's probes; leave out and count unreadable sensors."""
    moisture = [s for s in station.sensors.values() if s.variable == "soil_moisture"]
    found.other_depths.update(
        f"{item.depth.start:g}-{item.depth.end:g} m"
        for item in moisture
        if not _inside(item, surface)
    )
    warm = []
    for item in station.sensors.values():
        if item.variable == "soil_temperature" and _inside(item, surface):
            try:
                warm.append(_good(item, surface, Counter()))
            except Exception as error:  # noqa: BLE001  what a broken series raises is anything
                found.unread.append(f"{_file(item)} ({reason_of(error)})")
    for probe in moisture:
        if not _inside(probe, surface):
            continue
        try:
            readings = _good(probe, surface, found.other_flags)
            part = _rows(station, probe, readings, warm, surface.when)
        except Exception as error:  # noqa: BLE001  as above
            found.unread.append(f"{_file(probe)} ({reason_of(error)})")
            continue
        if not len(readings.time) or not len(part["site"]):
            continue
        site = str(part["site"][0])
        if site in found.seen:
            raise DataError(f"{site} stands in {found.seen[site]} and in {archive}; give one")
        found.seen[site] = archive
        found.parts.append(part)


def _nothing(names: str, found: _Found, surface: SensorSelection) -> None:
    """Build the DataError that says why the archives gave no row."""
    if found.other_flags:
        raise DataError(
            f"{names}: no soil moisture reading is flagged {' or '.join(surface.flags)}; flags "
            f"there: {_counts(found.other_flags)}; take others with --flag"
        )
    if found.unread:
        raise DataError(f"{names}: nothing in it can be read: {found.unread[0]}")
    raise DataError(
        f"{names}: no soil moisture sensor lies within {surface.min_depth_m:g} to "
        f"{surface.max_depth_m:g} m; there are {_counts(found.other_depths)}"
    )


def _file(sensor: Any) -> str:
    return PurePosixPath(str(sensor.filehandler.file_path)).name


def daily_mean(readings: Readings) -> tuple[Seconds, NDArray[np.float64], NDArray[np.int64]]:
    """Return UTC days (D,), the mean of each day's readings, and their number.

    >>> time = np.array(["2020-01-01T00:00", "2020-01-01T12:00", "2020-01-03T01:00"])
    >>> day, mean, count = daily_mean(Readings(time.astype("datetime64[s]"), np.array([1., 2, 5])))
    >>> day.astype("datetime64[D]").astype(str).tolist(), mean.tolist(), count.tolist()
    (['2020-01-01', '2020-01-03'], [1.5, 5.0], [2, 1])
    """
    day, code, count = np.unique(
        readings.time.astype("datetime64[D]"), return_inverse=True, return_counts=True
    )
    mean = np.bincount(code, weights=readings.value, minlength=len(day)) / count
    return day.astype("datetime64[s]"), mean, count.astype(np.int64)


def nearest_to(readings: Readings, time_of_day: str) -> NDArray[np.int64]:
    """Return the index of each day's reading nearest to a UTC time, within three hours.

    >>> time = np.array(["2020-01-01T05:00", "2020-01-01T07:30", "2020-01-02T12:00"])
    >>> nearest_to(Readings(time.astype("datetime64[s]"), np.zeros(3)), "06:00").tolist()
    [0]
    """
    hour, minute = (int(part) for part in time_of_day.split(":"))
    wanted = hour * 3600 + minute * 60
    # the day whose wanted time is closest, so that 23:30 also takes 00:10 of the next day
    since = readings.time.astype(np.int64) - wanted
    day = np.floor_divide(since + DAY // 2, DAY)
    gap = abs(since - day * DAY)
    order = np.lexsort([gap, day])
    first = np.ones(len(order), bool)
    first[1:] = day[order][1:] != day[order][:-1]
    best = order[first]
    return np.sort(best[gap[best] <= OVERPASS_SECONDS])


def _rows(
    station: Any, probe: Any, readings: Readings, warm: Sequence[Readings], when: str
) -> Columns:
    """Build the rows of one sensor."""
    if when == "daily":
        time, sm, count = daily_mean(readings)
        date = np.datetime_as_string(time, unit="D")
    else:
        index = np.arange(len(readings.time))
        if when != "every":
            index = nearest_to(readings, when)
        time, sm = readings.time[index], readings.value[index]
        count = np.ones(len(index), np.int64)
        date = np.char.add(np.datetime_as_string(time), "Z")
    network, name = network_and_station(probe)
    depth = f"{probe.depth.start:g}-{probe.depth.end:g}m"
    rows = len(date)
    return {
        "site": np.full(rows, f"{network}_{name}_{probe.instrument}_{depth}"),
        "date": date,
        "sm": np.round(sm, 5),
        "temp_c": np.round(_mean_at(time, warm, by_day=when == "daily"), 2),
        "readings": count,
        "lat": np.full(rows, float(station.lat)),
        "lon": np.full(rows, float(station.lon)),
        "depth_from_m": np.full(rows, float(probe.depth.start)),
        "depth_to_m": np.full(rows, float(probe.depth.end)),
        "station": np.full(rows, f"{network}_{name}"),
        "cluster": np.full(rows, network),
    }


def _mean_at(time: Seconds, warm: Sequence[Readings], by_day: bool) -> NDArray[np.float64]:
    """Return (R,) the mean over sensors at ``time`` (or on that day); NaN if there is none."""
    total, count = np.zeros(len(time)), np.zeros(len(time))
    for readings in warm:
        at, value = readings.time, readings.value
        if by_day:
            at, value, _ = daily_mean(readings)
        if not len(at):
            continue
        where = np.clip(np.searchsorted(at, time), 0, len(at) - 1)
        there = at[where] == time
        total += np.where(there, value[where], 0.0)
        count += there
    with np.errstate(invalid="ignore"):
        return np.asarray(total / count)


def _good(sensor: Any, surface: SensorSelection, others: Counter[str]) -> Readings:
    """Select a sensor's readings with a good flag, one per time; ``others`` counts the rest."""
    with quiet():
        frame = sensor.read_data()
    flag = frame[f"{sensor.variable}_flag"].to_numpy().astype(np.str_)
    value = frame[sensor.variable].to_numpy(np.float64)
    time = frame.index.to_numpy().astype("datetime64[s]")
    good = np.isin(flag, surface.flags) & np.isfinite(value)
    others.update(flag[~np.isin(flag, surface.flags)].tolist())
    time, first = np.unique(time[good], return_index=True)
    return Readings(time, value[good][first])


def _inside(sensor: Any, surface: SensorSelection) -> bool:
    return bool(
        surface.min_depth_m <= sensor.depth.start and sensor.depth.end <= surface.max_depth_m
    )


def _counts(found: Counter[str]) -> str:
    common = [f"{name} ({count})" for name, count in found.most_common(6)]
    return ", ".join(common) + (", ..." if len(found) > 6 else "") if common else "none"
