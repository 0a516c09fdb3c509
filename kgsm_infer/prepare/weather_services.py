"""Fetch daily weather of paddocks from public services that need no key.

    open-meteo  archive (ERA5 and ECMWF) and forecast, world     CC BY 4.0, non-commercial use
    power       NASA POWER, reanalysis, world, no forecast       open data, acknowledgement asked
    silo        SILO Data Drill, Australia, interpolated gauges  CC BY 4.0; asks for an email

One request covers one grid cell of the service and at most one calendar year. Years that ended more
than SETTLED days ago are cached. A day the service does not have is missing, never zero.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, KgsmError, MissingError, UsageError
from ..base.files import write_whole
from ..base.network import open_session, reason_of
from ..scenes.gdal import rasterio_or_reason
from ..scenes.outlines import LON_LAT, Outlines
from ..scenes.polygons import joined_across_180, points_of
from ..tables.reading import write_csv
from .catalogue import check_days

#: Seconds to wait for an answer.
TIMEOUT_S = 60.0
#: Days after which a service changes a value no more.
SETTLED = 90
#: Days ahead of today that Open-Meteo forecasts.
FORECAST_DAYS = 15
#: Newest days that Open-Meteo's archive may not have yet; its forecast API has them.
ARCHIVE_DELAY = 7
COLUMNS = ("rain_mm", "et0_mm", "temp_c")

Query = Mapping[str, str]


@dataclass(frozen=True)
class Place:
    """A point in degrees, east and north positive."""

    lon: float
    lat: float


@dataclass(frozen=True)
class Days:
    """Weather of D days: day (D,) datetime64[D], and (D,) of each of COLUMNS, NaN where missing.

    utc_offset_hours: of the local days, None where the service does not state it.
    """

    day: NDArray[np.datetime64]
    values: Mapping[str, NDArray[np.float64]]
    utc_offset_hours: float | None = None


@dataclass(frozen=True)
class WeatherService:
    """A service. cell_deg: size of its grid.  terms: of use, for people.  rain_day_ends: local
    hour.  urls: by name, replaced in tests.  query: of a place and two days.  read: an answer."""

    name: str
    title: str
    terms: str
    cell_deg: float
    rain_day_ends: float
    urls: Mapping[str, str]
    query: Callable[[Place, np.datetime64, np.datetime64, str], Query]
    read: Callable[[str, Any], Days]
    box: tuple[float, float, float, float] = (-180.0, -90.0, 180.0, 90.0)


@dataclass(frozen=True)
class WeatherRequest:
    """Places by paddock, days (both included), email for SILO, and today for the forecast."""

    places: Mapping[str, Place]
    start: np.datetime64
    end: np.datetime64
    email: str = ""
    today: np.datetime64 = field(
        default_factory=lambda: np.datetime64(datetime.now(UTC).date().isoformat(), "D")
    )


@dataclass(frozen=True)
class Fetched:
    """Rows written, cells asked for, requests sent and answers from the cache, and remarks."""

    rows: int
    cells: int
    requests: int
    cached: int
    notes: tuple[str, ...]


def prepare_weather(
    path: str | Path, service: WeatherService, wanted: WeatherRequest, cache: Path | None = None
) -> Fetched:
    """Fetch the weather of all places and write it as a weather file, whole or not at all.

    The file has ``site`` unless all places lie in one cell, then ``date``, COLUMNS that the service
    has, and ``source``. A place whose weather cannot be fetched is left out with a note. UsageError
    for days or places outside the service; where no place has weather, DataError for an answer
    that is not in its format and MissingError where the service cannot be reached.
    """
    _check(service, wanted)
    cells = {name: _cell(service, place) for name, place in wanted.places.items()}
    asked = _Asked(service, wanted, cache or default_cache())
    series: dict[Place, Days] = {}
    failed: dict[Place, KgsmError] = {}
    for cell in dict.fromkeys(cells.values()):
        try:
            series[cell] = asked.fetch(cell)
        except (DataError, MissingError) as error:
            failed[cell] = error
    if not series:
        raise next(iter(failed.values()))
    columns: dict[str, list[Any]] = {name: [] for name in ("site", "date", *COLUMNS)}
    is_shared = len(series) == 1 and not failed
    names = [name for name, cell in cells.items() if cell in series][: 1 if is_shared else None]
    for name in names:
        days = series[cells[name]]
        columns["site"] += [name] * len(days.day)
        columns["date"] += np.datetime_as_string(days.day, "D").tolist()
        for item in COLUMNS:
            columns[item] += np.round(days.values[item], 3).tolist()
    if not np.isfinite(columns["rain_mm"]).any():
        raise DataError(f"{service.title}: has no rain for these days and places")
    for item in COLUMNS[1:]:
        if not np.isfinite(columns[item]).any():
            del columns[item]
    if is_shared:
        del columns["site"]
    rows = len(columns["date"])
    write_csv(path, {**columns, "source": [f"{service.title}; {service.terms}"] * rows})
    left_out = [
        f"left out {name}: {failed[cell]}" for name, cell in cells.items() if cell in failed
    ]
    notes = (*_notes(service, wanted, series.values()), *left_out)
    return Fetched(rows, len(series), asked.requests, asked.cached, notes)


def places_of(outlines: Outlines) -> dict[str, Place]:
    """Return the middle of each outline's bounds; outlines without a geometry are left out."""
    found: dict[str, Place] = {}
    for name, geometry in zip(outlines.ids, outlines.geometries, strict=True):
        if geometry is None:
            continue
        joined = joined_across_180([geometry])[0] if outlines.crs == LON_LAT else geometry
        points = np.asarray([point[:2] for point in points_of(joined or geometry)], np.float64)
        x, y = ((points.min(0) + points.max(0)) / 2).tolist()
        if outlines.crs == LON_LAT:
            x = x - 360 if x > 180 else x
        else:
            (x,), (y,) = rasterio_or_reason().warp.transform(outlines.crs, "EPSG:4326", [x], [y])
        found[name] = Place(float(x), float(y))
    return found


def default_cache() -> Path:
    """Return the folder of the user's cache for weather."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "kgsm" / "weather"


class _Asked:
    """Requests of one run, counted."""

    def __init__(self, service: WeatherService, wanted: WeatherRequest, cache: Path) -> None:
        self.service, self.wanted, self.cache = service, wanted, cache
        self.session = open_session("prepare weather")
        self.requests = self.cached = 0

    def fetch(self, cell: Place) -> Days:
        """Fetch all days of a cell, year by year."""
        parts = [
            self._part(cell, api, first, last)
            for api, first, last in _parts(self.service, self.wanted)
        ]
        day = np.concatenate([part.day for part in parts])
        values = {name: np.concatenate([part.values[name] for part in parts]) for name in COLUMNS}
        inside = (day >= self.wanted.start) & (day <= self.wanted.end)
        _, first_of = np.unique(day[inside], return_index=True)
        rows = np.flatnonzero(inside)[first_of]
        return Days(
            day[rows],
            {name: of[rows] for name, of in values.items()},
            next((p.utc_offset_hours for p in parts if p.utc_offset_hours is not None), None),
        )

    def _part(self, cell: Place, api: str, first: np.datetime64, last: np.datetime64) -> Days:
        url = self.service.urls[api]
        query = self.service.query(cell, first, last, self.wanted.email)
        public = {name: value for name, value in query.items() if name != "username"}
        key = hashlib.sha256(json.dumps([url, public], sort_keys=True).encode()).hexdigest()[:24]
        file = self.cache / f"{self.service.name}_{key}.json"
        settled = last < self.wanted.today - np.timedelta64(SETTLED, "D")
        if settled and file.is_file():
            try:
                days = self.service.read(url, json.loads(file.read_text(encoding="utf-8")))
            except (ValueError, OSError, DataError):
                pass  # a damaged cache is fetched again
            else:
                self.cached += 1
                return days
        answer = self._ask(url, query)
        days = self.service.read(url, answer)
        if settled:
            try:
                self.cache.mkdir(parents=True, exist_ok=True)
                with write_whole(file) as out:
                    json.dump(answer, out)
            except (OSError, MissingError):
                pass  # the weather is there; the next run asks again
        return days

    def _ask(self, url: str, query: Query) -> Any:
        import requests

        self.requests += 1
        try:
            answer = self.session.get(url, params=dict(query), timeout=TIMEOUT_S)
        except requests.RequestException as error:
            raise MissingError(f"{url}: no answer ({reason_of(error)}); offline?") from None
        try:
            content = answer.json()
        except ValueError:
            content = None
        if not answer.ok:
            why = _reason(content) or answer.reason
            raise MissingError(f"{url}: {answer.status_code} {why}")
        if content is None:
            text = " ".join(answer.text.split())[:160]
            raise DataError(f"{url}: the answer is not JSON but {text!r}")
        return content


def _parts(
    service: WeatherService, wanted: WeatherRequest
) -> list[tuple[str, np.datetime64, np.datetime64]]:
    """Split the days into calendar years, and those too new for the archive."""
    one = np.timedelta64(1, "D")
    recent = wanted.today - np.timedelta64(ARCHIVE_DELAY, "D")
    parts = []
    first = wanted.start
    while first <= wanted.end:
        year_end = np.datetime64(f"{str(first)[:4]}-12-31", "D")
        last, api = min(year_end, wanted.end), "archive"
        if "forecast" in service.urls:
            if first > recent:
                last, api = wanted.end, "forecast"
            else:
                last = min(last, recent)
        parts.append((api, first, last))
        first = last + one
    return parts


def _check(service: WeatherService, wanted: WeatherRequest) -> None:
    if not wanted.places:
        raise UsageError("no paddock has an outline")
    check_days(wanted.start, wanted.end)
    ahead = FORECAST_DAYS if "forecast" in service.urls else 0
    newest = wanted.today + np.timedelta64(ahead, "D")
    if wanted.end > newest:
        raise UsageError(f"--to {wanted.end}: {service.title} has days up to {newest}")
    west, south, east, north = service.box
    for name, place in wanted.places.items():
        if not (west <= place.lon <= east and south <= place.lat <= north):
            raise UsageError(
                f"paddock {name} at {place.lon:.3f}, {place.lat:.3f} lies outside {service.title}"
            )
    if service.name == "silo" and "@" not in wanted.email:
        raise UsageError("SILO asks for the email address of its users: --email")


def _cell(service: WeatherService, place: Place) -> Place:
    """Return the centre of the service's cell, so that paddocks of one cell share a request."""
    step = service.cell_deg
    return Place(*(round(round(x / step) * step, 4) for x in (place.lon, place.lat)))


def _notes(service: WeatherService, wanted: WeatherRequest, series: Any) -> tuple[str, ...]:
    notes = [f"{service.title}: {service.terms}"]
    days = list(series)
    count = int((wanted.end - wanted.start) / np.timedelta64(1, "D")) + 1
    missing = sum(count - int(np.isfinite(one.values["rain_mm"]).sum()) for one in days)
    if missing:
        notes.append(f"{missing} of {count * len(days)} days are without rain data")
    offsets = {one.utc_offset_hours for one in days if one.utc_offset_hours is not None}
    clock = f"--utc-offset-hours {min(offsets):g}" if offsets else ""
    if service.rain_day_ends != 24:
        clock = f"{clock} --rain-day-ends {service.rain_day_ends:g}".strip()
    if clock:
        notes.append(f"pass to kgsm-infer daily: {clock}")
    return tuple(notes)


def _reason(content: Any) -> str:
    """Return the message of an error answer, '' where there is none."""
    if not isinstance(content, Mapping):
        return ""
    for name in ("reason", "message", "detail", "messages"):
        if content.get(name):
            return str(content[name])[:200]
    return ""


def _numbers(url: str, name: str, values: Sequence[Any], fill: float | None = None) -> Any:
    """Turn an answer's values into (D,) float64; null and the fill value are NaN."""
    found = np.full(len(values), np.nan)
    for i, value in enumerate(values):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise DataError(f"{url}: {name} of day {i + 1} is {value!r}, not a number")
        found[i] = np.nan if fill is not None and value == fill else value
    low, high = _LIMITS[name]
    bad = np.flatnonzero((found < low) | (found > high))
    if len(bad):
        raise DataError(
            f"{url}: {name} of day {bad[0] + 1} is {found[bad[0]]:g}, not within {low:g} and "
            f"{high:g}"
        )
    return found


_LIMITS = {"rain_mm": (0.0, 2000.0), "et0_mm": (-2.0, 25.0), "temp_c": (-90.0, 60.0)}


def _days(url: str, texts: Sequence[Any], pattern: str = "") -> NDArray[np.datetime64]:
    try:
        dashed = [
            f"{t[:4]}-{t[4:6]}-{t[6:]}" if pattern == "yyyymmdd" else t for t in map(str, texts)
        ]
        return np.asarray(dashed, "datetime64[D]")
    except ValueError:
        raise DataError(f"{url}: a day of the answer is not a date") from None


def _not_in_format(url: str, service: str) -> DataError:
    return DataError(f"{url}: the answer is not in the format of {service}")


# Open-Meteo: https://open-meteo.com/en/docs/historical-weather-api
_OPEN_METEO = {
    "rain_mm": "precipitation_sum",
    "et0_mm": "et0_fao_evapotranspiration",
    "temp_c": "temperature_2m_mean",
}


def _ask_open_meteo(place: Place, first: np.datetime64, last: np.datetime64, email: str) -> Query:
    return {
        "latitude": f"{place.lat:g}",
        "longitude": f"{place.lon:g}",
        "start_date": str(first),
        "end_date": str(last),
        "daily": ",".join(_OPEN_METEO.values()),
        "timezone": "auto",
    }


def _read_open_meteo(url: str, answer: Any) -> Days:
    """Read ``{"utc_offset_seconds", "daily_units": {…}, "daily": {"time": […], name: […]}}``."""
    try:
        daily, units = answer["daily"], answer["daily_units"]
        time, offset = daily["time"], answer["utc_offset_seconds"] / 3600
        columns = {name: daily[theirs] for name, theirs in _OPEN_METEO.items()}
        units = {name: units[theirs] for name, theirs in _OPEN_METEO.items()}
        lengths = {len(time), *map(len, columns.values())}
    except (KeyError, TypeError):
        why = _reason(answer)
        raise DataError(f"{url}: {why}") if why else _not_in_format(url, "Open-Meteo") from None
    expected = {"rain_mm": "mm", "et0_mm": "mm", "temp_c": "°C"}
    if units != expected or len(lengths) > 1:
        raise _not_in_format(url, "Open-Meteo")
    values = {name: _numbers(url, name, of) for name, of in columns.items()}
    return Days(_days(url, time), values, offset)


# NASA POWER: https://power.larc.nasa.gov/docs/services/api/temporal/daily/
def _ask_power(place: Place, first: np.datetime64, last: np.datetime64, email: str) -> Query:
    return {
        "parameters": "PRECTOTCORR,T2M",
        "community": "AG",
        "longitude": f"{place.lon:g}",
        "latitude": f"{place.lat:g}",
        "start": str(first).replace("-", ""),
        "end": str(last).replace("-", ""),
        "format": "JSON",
        "time-standard": "LST",
    }


def _read_power(url: str, answer: Any) -> Days:
    """Read ``{"header": {"fill_value"}, "properties": {"parameter": {name: {day: value}}}}``."""
    try:
        found, fill = answer["properties"]["parameter"], float(answer["header"]["fill_value"])
        rain, temp = found["PRECTOTCORR"], found["T2M"]
        days = sorted(rain)
        unit = answer.get("parameters", {}).get("PRECTOTCORR", {}).get("units", "mm/day")
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _not_in_format(url, "NASA POWER") from None
    if unit != "mm/day":
        raise _not_in_format(url, "NASA POWER")
    values = {
        "rain_mm": _numbers(url, "rain_mm", [rain[day] for day in days], fill),
        "temp_c": _numbers(url, "temp_c", [temp.get(day) for day in days], fill),
        "et0_mm": np.full(len(days), np.nan),
    }
    return Days(_days(url, days, "yyyymmdd"), values)


# SILO: https://www.longpaddock.qld.gov.au/silo/api-documentation/
_SILO = {"rain_mm": "daily_rain", "et0_mm": "et_short_crop"}


def _ask_silo(place: Place, first: np.datetime64, last: np.datetime64, email: str) -> Query:
    return {
        "lat": f"{place.lat:.2f}",
        "lon": f"{place.lon:.2f}",
        "start": str(first).replace("-", ""),
        "finish": str(last).replace("-", ""),
        "format": "json",
        "comment": "RFXN",  # rain, FAO-56 reference evapotranspiration, temperatures
        "username": email,
        "password": "apirequest",
    }


def _read_silo(url: str, answer: Any) -> Days:
    """Read ``{"data": [{"date", "variables": [{"variable_code", "value"}]}]}``."""
    try:
        dates = [row["date"] for row in answer["data"]]
        rows = [
            {one["variable_code"]: one["value"] for one in row["variables"]}
            for row in answer["data"]
        ]
    except (KeyError, TypeError):
        raise _not_in_format(url, "SILO") from None
    if not rows or any("daily_rain" not in row for row in rows):
        raise _not_in_format(url, "SILO")
    values = {
        name: _numbers(url, name, [row.get(theirs) for row in rows])
        for name, theirs in _SILO.items()
    }
    high, low = (
        _numbers(url, "temp_c", [row.get(name) for row in rows])
        for name in ("max_temp", "min_temp")
    )
    return Days(_days(url, dates), {**values, "temp_c": (high + low) / 2})


SERVICES: Mapping[str, WeatherService] = {
    one.name: one
    for one in (
        WeatherService(
            "open-meteo",
            "Open-Meteo",
            "CC BY 4.0, free for non-commercial use, https://open-meteo.com/en/terms",
            0.1,
            24.0,
            {
                "archive": "https://archive-api.open-meteo.com/v1/archive",
                "forecast": "https://api.open-meteo.com/v1/forecast",
            },
            _ask_open_meteo,
            _read_open_meteo,
        ),
        WeatherService(
            "power",
            "NASA POWER",
            "open data, acknowledge NASA Langley Research Center POWER Project",
            0.5,
            24.0,
            {"archive": "https://power.larc.nasa.gov/api/temporal/daily/point"},
            _ask_power,
            _read_power,
        ),
        WeatherService(
            "silo",
            "SILO",
            "CC BY 4.0, State of Queensland, https://www.longpaddock.qld.gov.au/silo",
            0.05,
            9.0,
            {"archive": "https://www.longpaddock.qld.gov.au/cgi-bin/silo/DataDrillDataset.php"},
            _ask_silo,
            _read_silo,
            (112.0, -44.0, 154.0, -10.0),
        ),
    )
}


def service_named(name: str) -> WeatherService:
    """Return a service by name; UsageError for another."""
    if name not in SERVICES:
        raise UsageError(f"--service {name!r} must be one of {', '.join(SERVICES)}")
    return SERVICES[name]
