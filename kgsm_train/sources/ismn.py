"""International Soil Moisture Network archives as the table of design §3, through ``ismn``.

Both layouts of the archives are read by the ``ismn`` package (extra ``[ismn]``). Times are
UTC. ISMN's terms forbid passing the data on; cite Dorigo et al. 2021 and the networks.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.errors import DataError, MissingError, UsageError

from .columns import Columns, Seconds, Sourced

DAY = 86400
#: A reading stands for a time of day when it is at most this far from it.
OVERPASS_SECONDS = 3 * 3600


@dataclass(frozen=True)
class Surface:
    """Which sensors and readings to take.

    min_depth_m, max_depth_m: the whole sensor lies between; 0.051 m because probes at two
        inches (0.0508 m) are the 5 cm probes of North America.
    flags: ISMN quality flags that count as good. ``G`` alone by default; an archive of 2019
        at hand has no G at all, and U where no check objected.
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
    """One sensor's good readings, in order of time: (R,) each."""

    time: Seconds
    value: NDArray[np.float64]


def read_ismn(archives: Sequence[str | Path], surface: Surface = Surface()) -> Sourced:
    """One row per sensor and day (or reading).

    Columns: site (network_station_instrument_depths, the same in every archive), date, sm,
    temp_c (mean over the station's soil temperature sensors in the same depths, at the same
    times; absent where there is none at all), readings (how many the row stands on), lat,
    lon, depth_from_m, depth_to_m, station (the group: sensors of a station are not
    independent) and cluster (the network).
    """
    parts: list[Columns] = []
    notes: list[str] = []
    other_depths: Counter[str] = Counter()
    other_flags: Counter[str] = Counter()
    seen: dict[str, str] = {}
    for archive in archives:
        stations = _stations(Path(archive))
        files, read = _files(Path(archive)), sum(len(item.sensors) for item in stations)
        if read < files:
            notes.append(f"{archive}: {files - read} of {files} files could not be read by ismn")
        for station in stations:
            sensors = [item for item in station.sensors.values() if _inside(item, surface)]
            probes = [item for item in sensors if item.variable == "soil_moisture"]
            other_depths.update(
                f"{item.depth.start:g}-{item.depth.end:g} m"
                for item in station.sensors.values()
                if item.variable == "soil_moisture" and not _inside(item, surface)
            )
            warm = [
                _good(item, surface, Counter())
                for item in sensors
                if item.variable == "soil_temperature"
            ]
            for probe in probes:
                readings = _good(probe, surface, other_flags)
                if not len(readings.time):
                    continue
                part = _rows(station, probe, readings, warm, surface.when)
                site = str(part["site"][0])
                if site in seen:
                    raise DataError(f"{site} stands in {seen[site]} and in {archive}; give one")
                seen[site] = str(archive)
                parts.append(part)
    names = ", ".join(str(archive) for archive in archives)
    if not parts and other_flags:
        raise DataError(
            f"{names}: no soil moisture reading is flagged {' or '.join(surface.flags)}; flags "
            f"there: {_counts(other_flags)}; take others with --flag"
        )
    if not parts:
        raise DataError(
            f"{names}: no soil moisture sensor lies within {surface.min_depth_m:g} to "
            f"{surface.max_depth_m:g} m; there are {_counts(other_depths)}"
        )
    if other_depths:
        notes.append(f"sensors at other depths left out: {_counts(other_depths)}")
    if other_flags:
        notes.append(f"readings with other flags left out: {_counts(other_flags)}")
    parts.sort(key=lambda part: str(part["site"][0]))
    table = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    if np.isnan(table["temp_c"]).all():
        del table["temp_c"]
        notes.append("no soil temperature in these depths: frozen soil cannot be told from dry")
    return Sourced(table, tuple(notes))


def daily_mean(readings: Readings) -> tuple[Seconds, NDArray[np.float64], NDArray[np.int64]]:
    """UTC days (D,), the mean of each day's readings, and how many they were.

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
    """Index of each day's reading nearest to a UTC time, where one is within three hours.

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
    """The rows of one sensor."""
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
    network, name = _network_and_station(probe)
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
    """(R,) mean over sensors of what they read at ``time`` (or on that day); NaN for nothing."""
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


def _good(sensor: Any, surface: Surface, others: Counter[str]) -> Readings:
    """A sensor's readings with a good flag, one per time; ``others`` counts the rest."""
    frame = sensor.read_data()
    flag = frame[f"{sensor.variable}_flag"].to_numpy().astype(np.str_)
    value = frame[sensor.variable].to_numpy(np.float64)
    time = frame.index.to_numpy().astype("datetime64[s]")
    good = np.isin(flag, surface.flags) & np.isfinite(value)
    others.update(flag[~np.isin(flag, surface.flags)].tolist())
    time, first = np.unique(time[good], return_index=True)
    return Readings(time, value[good][first])


def _inside(sensor: Any, surface: Surface) -> bool:
    return bool(
        surface.min_depth_m <= sensor.depth.start and sensor.depth.end <= surface.max_depth_m
    )


def _network_and_station(sensor: Any) -> tuple[str, str]:
    """Names of the folders the file lies in, NETWORK/STATION/file.stm in every archive.

    The package takes the first folder for the network, which a folder above it misleads.
    """
    parts = PurePosixPath(str(sensor.filehandler.file_path).replace("\\", "/")).parts
    return parts[-3], parts[-2]


def _stations(archive: Path) -> list[Any]:
    """The stations of one archive (zip or folder). MissingError without ``ismn``."""
    try:
        from ismn.interface import ISMN_Interface
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed; ISMN archives need: pip install 'kgsm[ismn]'"
        ) from None
    if not archive.exists():
        raise DataError(f"{archive}: no such file")
    if archive.is_file() and not zipfile.is_zipfile(archive):
        raise DataError(f"{archive}: not a zip file; a download that was cut off?")
    if not _files(archive):
        raise DataError(f"{archive}: holds no series (*.stm); is it an ISMN archive?")
    # the package writes its index beside the archive unless told otherwise, and prints
    with tempfile.TemporaryDirectory(prefix="kgsm-ismn-") as index, _quiet():
        try:
            interface = ISMN_Interface(str(archive), meta_path=index, temp_root=index)
        except (OSError, ValueError, KeyError, IndexError, zipfile.BadZipFile) as error:
            raise DataError(f"{archive}: not an ISMN archive ({error})") from None
    networks = interface.collection.networks.values()
    return [station for network in networks for station in network.stations.values()]


def _files(archive: Path) -> int:
    """How many series the archive holds."""
    if archive.is_dir():
        return len(list(archive.rglob("*.stm")))
    with zipfile.ZipFile(archive) as content:
        return sum(name.endswith(".stm") for name in content.namelist())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing of the package's progress on the terminal."""
    logger = logging.getLogger()
    level = logger.level
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


def _counts(found: Counter[str]) -> str:
    common = [f"{name} ({count})" for name, count in found.most_common(6)]
    return ", ".join(common) + (", ..." if len(found) > 6 else "") if common else "none"
