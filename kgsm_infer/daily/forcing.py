"""Rain and irrigation on the days of the estimate.

A row of the weather file belongs to its date, the local day in which its rain day ends. Rows after
today are forecast: 7 days at most, each counting as missing to a share that grows with its lead.
Irrigation counts as rain of one paddock; that after today is the plan of the outlook.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..tables.columns import Rule, rename_columns
from ..tables.dates import is_day_only, parse_day
from ..tables.reading import read_sheet
from ..tables.table import have
from ..tables.text_column import texts_of
from ..tables.weather import Weather, has_simulated_rows
from .filter import EVERY_DAY, Array, CommonRain
from .parameters import Parameters
from .values import SECONDS_PER_DAY, Values, check_paddocks, named_sites

_EPOCH = date(1970, 1, 1).toordinal()
_FAR = 2**40
#: Days after today of which a forecast is used.
LONGEST_FORECAST = 7
#: Days of rain before the first pass that are used to fill the bucket, at most.
SPIN_UP = 730
#: A file whose last pass and last rain are older than this is an archive: it ends with them.
RECENT = 60
_MM = Rule(0.0, 1000.0, "an irrigation in mm (0 to 1000)", lambda _: "a volume? divide by the area")


@dataclass(frozen=True)
class Irrigation:
    """M irrigations. paddock: names (M,).  day: (M,) since 1970.  mm: (M,).

    simulated: the file says so.
    """

    source: str
    paddock: tuple[str, ...]
    day: NDArray[np.int64]
    mm: Array
    simulated: bool = False


@dataclass(frozen=True)
class Period:
    """Days since 1970: of the first day, of today, and of the last day, which may be forecast."""

    first: int
    today: int
    last: int

    @property
    def count(self) -> int:
        """Days from first to last, both included."""
        return self.last - self.first + 1


@dataclass(frozen=True)
class Forcing:
    """Water on D days for S series, and the series of each of N paddocks.

    rain_mm: (D, S), NaN where missing.  missing: (D, S) share of a day's rain that is unknown.
    irrigation_mm: (D, S) up to today.  planned_mm: (D, S) after today.  series: (N,).
    without: names of paddocks the weather file does not have.  common: days whose missing
    rain is common to all paddocks.
    """

    period: Period
    rain_mm: Array
    missing: Array
    irrigation_mm: Array
    planned_mm: Array
    series: NDArray[np.int64]
    without: tuple[str, ...] = ()
    common: CommonRain = EVERY_DAY

    @classmethod
    def of_rain(cls, first: int, rain_mm: Array, series: NDArray[np.int64]) -> Forcing:
        """Take rain (D, S) from day ``first`` on without irrigation; the last day is today.

        series: (N,) rain series of each paddock.
        """
        last = first + len(rain_mm) - 1
        none, missing = np.zeros(rain_mm.shape), np.isnan(rain_mm).astype(np.float64)
        period = Period(first, last, last)
        common = common_rain(rain_mm, series)
        return cls(period, rain_mm, missing, none, none, series, common=common)

    def with_plan(self) -> Forcing:
        """Count the planned irrigation as given."""
        return replace(self, irrigation_mm=self.irrigation_mm + self.planned_mm)

    def then_dry(self, days: int) -> Forcing:
        """Add days without rain and irrigation at the end."""
        none = np.zeros((days, self.rain_mm.shape[1]))
        return replace(
            self,
            period=replace(self.period, last=self.period.last + days),
            rain_mm=np.vstack([self.rain_mm, none]),
            missing=np.vstack([self.missing, none]),
            irrigation_mm=np.vstack([self.irrigation_mm, none]),
            planned_mm=np.vstack([self.planned_mm, none]),
        )


#: Columns of an irrigation file; ``site`` and ``id`` are read as ``paddock``.
IRRIGATION_COLUMNS = ("paddock", "date", "mm")
#: These, other names of the paddock, and the column that marks simulated rows.
IRRIGATION_NAMES = (*IRRIGATION_COLUMNS, "site", "id", "source")


def read_irrigation(
    path: str | Path, paddocks: Sequence[str] | None, columns: Mapping[str, str] = {}
) -> Irrigation:
    """Read ``paddock,date,mm``; DataError names a row with an unknown paddock or value.

    paddocks: the known ones; None for any.  columns: name of the format -> in the file.
    """
    sheet = read_sheet(path)
    own = rename_columns(sheet.columns, columns, IRRIGATION_NAMES)
    sheet = named_sites(replace(sheet, columns=own))
    name = "paddock" if "paddock" in sheet.columns else "site"
    for column in (name, "date", "mm"):
        if column not in sheet.columns:
            raise DataError(f"{path}: no column {column!r}; {have(sheet.columns, column)}")
    if not len(sheet):
        raise DataError(f"{path}: no rows, only a header")
    check = sheet.check
    paddock = check.names(sheet.columns[name], name).values
    if paddocks is not None:
        check.first(
            ~np.isin(paddock, list(paddocks)),
            name,
            paddock,
            f"is not a paddock of the values, which have {', '.join(list(paddocks)[:3])}",
        )
    mm = check.numbers("mm", sheet.columns["mm"], _MM)
    check.first(np.isnan(mm), "mm", mm, "is missing; delete the row or give the amount")
    texts = texts_of(sheet.columns["date"])
    day = check.dates(texts).astype("datetime64[D]").astype(np.int64)
    hours = ~is_day_only(texts, paddock)
    check.first(hours, "date", texts, "is not a day; give the local day of the irrigation")
    simulated = has_simulated_rows(sheet.columns)
    return Irrigation(str(path), tuple(paddock.tolist()), day, mm, simulated)


def period_of(
    values: Values, weather: Weather | None, today: str | None, utc_offset_hours: float
) -> Period:
    """Decide on the days of the estimate.

    today: ISO day, or None for the local date of the clock. Where the newest value and the newest
    rain are more than RECENT days before the clock's date, today is the newest of them.
    """
    days = values.day
    clock = datetime.now(UTC) + timedelta(hours=utc_offset_hours)
    now = clock.date().toordinal() - _EPOCH
    at = None if today is None else int(parse_day(today).astype(np.int64))
    places = [] if weather is None else list(weather.places.values())
    rained = [one.first + np.flatnonzero(np.isfinite(one.rain_mm)) for one in places]
    latest = (now if at is None else at) + LONGEST_FORECAST  # a later row is a mistyped year
    newest_rain = max((int(d[d <= latest].max(initial=-_FAR)) for d in rained), default=-_FAR)
    oldest_rain = min((int(d.min(initial=_FAR)) for d in rained), default=_FAR)
    if at is None:
        at = choose_today(now, max(int(days.max()), newest_rain))
    if at < int(days.min()):
        raise UsageError(f"{values.source}: every value is after today; check --today")
    first = min(int(days.min()), max(oldest_rain, int(days.min()) - SPIN_UP))
    last = max(at, min(newest_rain, at + LONGEST_FORECAST))
    return Period(first, at, last)


def choose_today(now: int, newest: int) -> int:
    """Return today: the clock's date, or the newest data's where these are an archive.

    now: local date of the clock.  newest: day of the newest value or rain.  Days since 1970.
    """
    return now if newest >= now - RECENT else newest


def forcing_of(
    values: Values,
    period: Period,
    weather: Weather | None,
    irrigation: Irrigation | None,
    parameters: Parameters,
) -> Forcing:
    """Lay rain and irrigation on the days of ``period``; equal series are kept once."""
    paddocks = values.paddocks
    found = _rain(paddocks, period, weather)
    rain, series, without = found.rain_mm, found.series, found.without
    start = np.full(len(paddocks), period.count, np.int64)
    np.minimum.at(start, values.paddock, values.day - period.first)
    common = common_rain(rain, series, start)
    lead = np.maximum(np.arange(period.count) - (period.today - period.first), 0)
    missing = np.where(
        np.isnan(rain), 1.0, np.minimum(parameters.forecast_unknown * lead, 1.0)[:, None]
    )
    if irrigation is None:
        none = np.zeros_like(rain)
        return Forcing(period, rain, missing, none, none, series, without, common)
    # each paddock with irrigation gets a separate series
    place = {name: i for i, name in enumerate(paddocks)}
    column: dict[int, int] = {}
    for name in dict.fromkeys(irrigation.paddock):
        column[place[name]] = rain.shape[1] + len(column)
    own = np.asarray(list(column), np.int64)
    rain = np.hstack([rain, rain[:, series[own]]])
    missing = np.hstack([missing, missing[:, series[own]]])
    series = series.copy()
    series[own] = [column[int(i)] for i in own]
    water, plan = np.zeros_like(rain), np.zeros_like(rain)
    for name, day, mm in zip(irrigation.paddock, irrigation.day, irrigation.mm, strict=True):
        if period.first <= day <= period.last:
            to = water if day <= period.today else plan
            to[day - period.first, column[place[name]]] += mm
    return Forcing(period, rain, missing, water, plan, series, without, common)


@dataclass(frozen=True)
class _PaddockRain:
    """Rain (D, S), the series of each paddock (N,), and the paddocks without any."""

    rain_mm: Array
    series: NDArray[np.int64]
    without: tuple[str, ...] = ()


def _rain(paddocks: Sequence[str], period: Period, weather: Weather | None) -> _PaddockRain:
    """Lay the rain of the paddocks on the days of a period."""
    one = np.zeros(len(paddocks), np.int64)
    if weather is None:
        return _PaddockRain(np.full((period.count, 1), np.nan), one)
    if weather.by == "cell":
        raise DataError(
            f"{weather.source}: has a column cell; name it site, with the names of the paddocks, "
            "or give one series without either"
        )
    if not weather.by:
        return _PaddockRain(_days(period, weather, "")[:, None], one)
    check_paddocks(weather.source, weather.places, paddocks)
    without = tuple(name for name in paddocks if name not in weather.places)
    found: dict[bytes, int] = {}
    columns: list[Array] = []
    series = np.empty(len(paddocks), np.int64)
    for i, name in enumerate(paddocks):
        days = _days(period, weather, name)
        key = days.tobytes()
        if key not in found:
            found[key] = len(columns)
            columns.append(days)
        series[i] = found[key]
    return _PaddockRain(np.stack(columns, axis=1), series, without)


def common_rain(
    rain_mm: Array, series: NDArray[np.int64], start: NDArray[np.int64] | None = None
) -> CommonRain:
    """Find the days until which all paddocks have had the same rain.

    rain_mm: (D, S).  series: (N,) of each paddock.  start: (N,) day of its first row; None for the
    first day. A paddock counts from then on, so that a row of a later day, of values or of rain,
    changes nothing before it.

    >>> rain = np.array([[0.0, 0.0], [5.0, 5.0], [0.0, 3.0]])
    >>> common_rain(rain, np.array([0, 1])).days, common_rain(rain, np.array([1, 1])).days
    (2, None)
    """
    start = np.zeros(len(series), np.int64) if start is None else start.copy()
    earliest = np.flatnonzero(start == start.min())
    start[earliest] = 0
    reference = rain_mm[:, [series[earliest[0]]]]
    same = (rain_mm == reference) | (np.isnan(rain_mm) & np.isnan(reference))
    until = np.where(same.all(axis=0), len(rain_mm), np.argmin(same, axis=0))
    days = int(np.maximum(start, until[series]).min())
    return CommonRain(None if days >= len(rain_mm) else days, earliest)


def _days(period: Period, weather: Weather, name: str) -> Array:
    """Return rain of one place on the days of the period (D,)."""
    days = np.full(period.count, np.nan)
    series = weather.places.get(name)
    if series is None:
        return days
    start, stop = series.first, series.first + len(series.rain_mm)
    low, high = max(start, period.first), min(stop, period.last + 1)
    if low < high:
        days[low - period.first : high - period.first] = series.rain_mm[low - start : high - start]
    return days


def day_text(day: NDArray[np.int64] | int) -> NDArray[np.str_]:
    """Return ISO dates of days since 1970."""
    seconds = np.asarray(day, np.int64) * SECONDS_PER_DAY
    return np.datetime_as_string(seconds.astype("datetime64[s]").astype("datetime64[D]"))
