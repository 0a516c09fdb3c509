"""Convert ISMN archives to the table of design §3, with the package ``ismn``.

Both layouts of the archives are read by the ``ismn`` package (extra ``[ismn]``). Times are
UTC. ISMN's terms forbid passing the data on; cite Dorigo et al. 2021 and the networks.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError, UsageError, raise_if_machine
from kgsm_infer.tables.columns import RULES
from kgsm_infer.tables.dates import YEARS

from .columns import Columns, Seconds, Sourced
from .ismn_archive import network_and_station, opened, quiet, reason_of

DAY = 86400
#: Greatest gap between a reading and the requested time of day.
OVERPASS_SECONDS = 3 * 3600
#: Variables that are read, and the range of their values.
_RULES = {"soil_moisture": RULES["sm"], "soil_temperature": RULES["temp_c"]}


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


@dataclass(frozen=True)
class _Probe:
    """A soil moisture sensor. files: the readings of each of its files."""

    site: str
    network: str
    name: str
    lat_lon: tuple[float, float]
    depths_m: tuple[float, float]
    files: list[Readings] = field(default_factory=list)

    @property
    def station(self) -> str:
        """Network and station."""
        return f"{self.network}_{self.name}"


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
                _add_station(found, station, surface)
            read = sum(len(station.sensors) for station in content.stations)
            if read < content.files:
                left = content.files - read
                found.notes.append(
                    f"{archive}: {left} of {content.files} files could not be read by ismn"
                )
            found.unread += [f"{archive}: {why}" for why in content.unread]
    names = ", ".join(str(archive) for archive in archives)
    parts = _parts(found, surface)
    if not parts:
        _nothing(names, found, surface)
    if found.unread:
        more = ", ..." if len(found.unread) > 3 else ""
        found.notes.append(f"left out as unreadable: {', '.join(found.unread[:3])}{more}")
    if found.other_depths:
        found.notes.append(f"sensors at other depths left out: {_counts(found.other_depths)}")
    if found.other_flags:
        found.notes.append(f"readings with other flags left out: {_counts(found.other_flags)}")
    parts = sorted(parts, key=lambda part: str(part["site"][0]))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if np.isnan(table["temp_c"]).all():
        del table["temp_c"]
        found.notes.append(
            "no soil temperature in these depths: frozen soil cannot be distinguished from dry soil"
        )
    return Sourced(table, tuple(found.notes))


@dataclass
class _Found:
    """Series read so far.

    probes: site -> its sensor, and the readings of each of its files.  warm: station -> the
    readings of its soil temperature sensors.
    """

    probes: dict[str, _Probe] = field(default_factory=dict)
    warm: dict[str, list[Readings]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    unread: list[str] = field(default_factory=list)
    other_depths: Counter[str] = field(default_factory=Counter)
    other_flags: Counter[str] = field(default_factory=Counter)


def _add_station(found: _Found, station: Any, surface: SensorSelection) -> None:
    """Read the rows of a station's probes; leave out and count unreadable sensors."""
    moisture = [s for s in station.sensors.values() if s.variable == "soil_moisture"]
    found.other_depths.update(
        f"{item.depth.start:g}-{item.depth.end:g} m"
        for item in moisture
        if not _inside(item, surface)
    )
    for sensor in station.sensors.values():
        if not _inside(sensor, surface) or sensor.variable not in _RULES:
            continue
        moist = sensor.variable == "soil_moisture"
        others = found.other_flags if moist else Counter[str]()
        try:
            readings, notes = _good(sensor, surface, others)
            network, name = network_and_station(sensor)
            depth = f"{sensor.depth.start:g}-{sensor.depth.end:g}m"
            place = (float(station.lat), float(station.lon))
            depths = (float(sensor.depth.start), float(sensor.depth.end))
        except Exception as error:  # noqa: BLE001  what a broken series raises is anything
            raise_if_machine(error, _file(sensor))
            found.unread.append(f"{_file(sensor)} ({reason_of(error)})")
            continue
        found.notes += notes
        if not len(readings.time):
            continue
        if moist:
            site = f"{network}_{name}_{sensor.instrument}_{depth}"
            probe = _Probe(site, network, name, place, depths)
            found.probes.setdefault(site, probe).files.append(readings)
        else:
            found.warm.setdefault(f"{network}_{name}", []).append(readings)


def _parts(found: _Found, surface: SensorSelection) -> list[Columns]:
    """Build the rows of every sensor from all its files; add notes on readings left out."""
    parts = []
    for site, probe in found.probes.items():
        readings, note = _merged(probe.files, site)
        if note:
            found.notes.append(note)
        rows = _rows(probe, readings, found.warm.get(probe.station, ()), surface.when)
        if len(rows["site"]):
            parts.append(rows)
    return parts


def _merged(files: Sequence[Readings], site: str) -> tuple[Readings, str]:
    """Join readings of one sensor, one per time, and name what was left out.

    Equal readings of one time are one. Of a time with several values none is used: which one is
    right is not known.
    """
    time = np.concatenate([file.time for file in files])
    value = np.concatenate([file.value for file in files])
    pairs = np.unique(np.stack([time.astype(np.int64).astype(np.float64), value]), axis=1)
    _, first, count = np.unique(pairs[0], return_index=True, return_counts=True)
    once = first[count == 1]
    note = ""
    if (count > 1).any():
        at = first[count > 1][0]
        values = pairs[1][pairs[0] == pairs[0][at]]
        when = np.datetime64(int(pairs[0][at]), "s")
        note = (
            f"{site}: {int((count > 1).sum())} times with several values left out, the first "
            f"{when}Z with {', '.join(f'{v:g}' for v in values[:3])}"
        )
    times = pairs[0][once].astype(np.int64).astype("datetime64[s]")
    return Readings(times, pairs[1][once]), note


def _nothing(names: str, found: _Found, surface: SensorSelection) -> None:
    """Build the DataError that says why the archives gave no row."""
    if any("left out" in note for note in found.notes):
        raise DataError(f"{names}: no soil moisture reading can be used: {found.notes[0]}")
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


def _rows(probe: _Probe, readings: Readings, warm: Sequence[Readings], when: str) -> Columns:
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
    rows = len(date)
    return {
        "site": np.full(rows, probe.site),
        "date": date,
        "sm": np.round(sm, 5),
        "temp_c": np.round(_mean_at(time, warm, by_day=when == "daily"), 2),
        "readings": count,
        "lat": np.full(rows, probe.lat_lon[0]),
        "lon": np.full(rows, probe.lat_lon[1]),
        "depth_from_m": np.full(rows, probe.depths_m[0]),
        "depth_to_m": np.full(rows, probe.depths_m[1]),
        "station": np.full(rows, probe.station),
        "cluster": np.full(rows, probe.network),
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


def _good(
    sensor: Any, surface: SensorSelection, others: Counter[str]
) -> tuple[Readings, list[str]]:
    """Select a sensor's readings with a good flag and a possible value, and name the others.

    ``others`` counts readings by other flags.
    """
    with quiet(), warnings.catch_warnings():
        # pandas then guesses the date of each cell
        warnings.filterwarnings("error", "Could not infer format", UserWarning)
        frame = sensor.read_data()
    flag = frame[f"{sensor.variable}_flag"].to_numpy().astype(np.str_)
    kinds = {type(item) for item in frame[sensor.variable]}
    if kinds & {bool, np.bool_}:  # pandas reads "true" as a truth value
        raise ValueError("some of its readings are true or false, not numbers")
    value = frame[sensor.variable].to_numpy(np.float64)
    time = frame.index.to_numpy().astype("datetime64[s]")
    good = np.isin(flag, surface.flags) & np.isfinite(value)
    others.update(flag[~np.isin(flag, surface.flags)].tolist())
    rule = _RULES[sensor.variable]
    outside = good & rule.outside(value)
    notes = []
    if outside.any():
        at = int(np.argmax(outside))
        notes.append(
            f"{_file(sensor)}: {int(outside.sum())} readings left out, the first {time[at]}Z: "
            f"{value[at]:g} is not {rule.what}"
        )
    low, high = (np.datetime64(str(year), "Y") for year in (YEARS[0], YEARS[1] + 1))
    dated = ~np.isnat(time) & (time >= low) & (time < high)
    if not dated.all():
        notes.append(
            f"{_file(sensor)}: {int((~dated).sum())} readings left out, without a date from "
            f"{YEARS[0]} to {YEARS[1]}"
        )
    usable = good & ~outside & dated
    return Readings(time[usable], value[usable]), notes


def _inside(sensor: Any, surface: SensorSelection) -> bool:
    return bool(
        surface.min_depth_m <= sensor.depth.start and sensor.depth.end <= surface.max_depth_m
    )


def _counts(found: Counter[str]) -> str:
    common = [f"{name} ({count})" for name, count in found.most_common(6)]
    return ", ".join(common) + (", ..." if len(found) > 6 else "") if common else "none"
