"""Rain, where a user has it: a daily weather file becomes features of an acquisition.

The file has one row per place and day: ``date`` (a day), ``rain_mm`` (its total), optionally
``et0_mm`` (reference evapotranspiration); and ``site``, or ``cell`` where the
table has that column too, or neither where one series is used for all. A day counts up to and
including the acquisition's own, in the local day of ``utc_offset_hours``.

    rain_day_mm       the day's rain
    rain_api_kNN_mm   antecedent precipitation index with decay 0.NN a day:
                      API_t = k API_{t-1} + P_t                       (Kohler and Linsley 1951)
    rain_api_mm       the same with the decay that fits the labels best, in training; a model
                      names the one it was trained with
    rain_dry_days     days since the last with at least 1 mm, 60 at most
    rain_bucket_mm    water of a bucket of 30 mm that loses what it has at the rate of ET0:
                      W_t = min(30, W_{t-1} exp(-ET0_t / 30) + P_t)

Missing weather is missing, never zero: an index is NaN while more than 2 % of its weight lies
on days without a measurement, a dry spell while a day in it is missing, a bucket until an empty one
and a full one would hold the same.
"""

from __future__ import annotations

import re
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from .columns import FILL_CAUSE, Rule, rename_columns
from .dates import check_utc_offset, is_day_only, wall_clock
from .parsing import Names
from .reading import read_sheet
from .table import ReadOptions, Table, have, table_of
from .text_column import texts_of

FITTED = "rain_api_mm"
#: Decays a fit may choose, hundredths a day.
DECAYS = range(50, 99)
WET_MM = 1.0
LONGEST_SPELL = 60
BUCKET_MM = 30.0
#: Share of an index' weight, and of a bucket, that may be unknown.
UNKNOWN = 0.02
_API = re.compile(r"rain_api_k(\d\d)_mm")

_WEATHER_RULES = {
    "rain_mm": Rule(0.0, 2000.0, "a day's rain in mm (0 to 2000)", lambda _: FILL_CAUSE),
    "et0_mm": Rule(-2.0, 25.0, "a day's evapotranspiration in mm", lambda _: "of a month?"),
}
#: Nodata values that could be the rain of a day.
_RAIN_FILLS = (999.0, 999.9, 999.99)
#: A running total has at least this many rises, and this many for each fall.
_COUNTER_RISES = 10
#: Columns of a weather file.
WEATHER_COLUMNS = ("site", "cell", "date", "source", *_WEATHER_RULES)


@dataclass(frozen=True)
class Series:
    """One place's weather, every day from ``first`` on (days since 1970): (D,) each, NaN where
    nothing was measured.

    has_row: (D,) days that have a row in the file, empty or not; None if unknown.
    """

    first: int
    rain_mm: NDArray[np.float64]
    et0_mm: NDArray[np.float64]
    has_row: NDArray[np.bool_] | None = None


@dataclass(frozen=True)
class Weather:
    """A weather file. by: ``site``, ``cell``, or '' for one series for all places.

    note: on names of places that were spelt otherwise, or "".  simulated: the file says so.
    """

    source: str
    by: str
    places: Mapping[str, Series]
    utc_offset_hours: float = 0.0
    note: str = ""
    simulated: bool = False


@dataclass(frozen=True)
class WeatherFile:
    """A daily weather file. utc_offset_hours: of its days, from UTC."""

    path: str | Path
    utc_offset_hours: float = 0.0


def is_weather(name: str) -> bool:
    """Return True for a feature computed from a weather file.

    >>> [is_weather(name) for name in ("rain_api_k90_mm", "rain_dry_days", "rain_7d_mm")]
    [True, True, False]
    """
    return name in (FITTED, "rain_day_mm", "rain_dry_days", "rain_bucket_mm") or bool(
        _API.fullmatch(name)
    )


def read_weather(
    path: str | Path,
    utc_offset_hours: float = 0.0,
    columns: Mapping[str, str] = MappingProxyType({}),
) -> Weather:
    """Read a daily weather file, CSV or Parquet. DataError names file, row and cause.

    columns: name of the format -> name in the file, where the file has another.
    """
    check_utc_offset(utc_offset_hours)
    sheet = read_sheet(path)
    columns, check = rename_columns(sheet.columns, columns, WEATHER_COLUMNS), sheet.check
    for name in ("date", "rain_mm"):
        if name not in columns:
            raise DataError(f"{path}: no column {name!r}; {have(columns, name)}")
    if not len(sheet):
        raise DataError(f"{path}: no rows, only a header")
    by = next((name for name in ("cell", "site") if name in columns), "")
    names = check.names(columns[by], by) if by else Names(np.full(len(sheet), ""), "")
    place = names.values
    texts = texts_of(columns["date"])
    check.dates(texts)
    hours = ~is_day_only(texts, place)
    check.first(hours, "date", texts, "is not a day; give the total of each day, in one row")
    day = np.asarray([wall_clock(text) for text in texts], np.int64) // 86400
    values = {
        name: check.numbers(name, columns[name], rule)
        for name, rule in _WEATHER_RULES.items()
        if name in columns
    }
    check.first(
        np.isin(values["rain_mm"], _RAIN_FILLS), "rain_mm", columns["rain_mm"], f"is a {FILL_CAUSE}"
    )
    places, rows_of = {}, {}
    for name in np.unique(place).tolist():
        rows = np.flatnonzero(place == name)
        order = rows[np.argsort(day[rows], kind="stable")]
        twice = np.flatnonzero(np.diff(day[order]) == 0)
        if len(twice):
            one, other = sorted(int(sheet.row_number[order[twice[0] + i]]) for i in (0, 1))
            raise DataError(f"{path}: rows {one} and {other}: one day twice; keep one of them")
        rows_of[name] = order
        first, last = int(day[order[0]]), int(day[order[-1]])
        if last - first > 400 * 366:
            raise DataError(f"{path}: {name or 'its days'} reach over {last - first} days")
        dense = {item: np.full(last - first + 1, np.nan) for item in ("rain_mm", "et0_mm")}
        for item, series in dense.items():
            if item in values:
                series[day[order] - first] = values[item][order]
        has_row = np.zeros(last - first + 1, bool)
        has_row[day[order] - first] = True
        places[str(name)] = Series(first, dense["rain_mm"], dense["et0_mm"], has_row)
    for name, rows in rows_of.items():
        _check_daily_totals(f"{path}: {name or 'rain_mm'}", values["rain_mm"][rows])
    simulated = has_simulated_rows(columns)
    return Weather(str(path), by, places, utc_offset_hours, names.note, simulated)


def _check_daily_totals(place: str, rain_mm: NDArray[np.float64]) -> None:
    """Raise DataError for rain (D,) that is a running total: it rises and hardly ever falls.

    A day's rain falls after nearly every rise. A counter falls when it is reset.
    """
    change = np.diff(rain_mm[np.isfinite(rain_mm)])
    rises, falls = int((change > 0).sum()), int((change < 0).sum())
    if rises >= _COUNTER_RISES and rises >= _COUNTER_RISES * falls:
        raise DataError(
            f"{place}: rain rises on {rises} days and falls on {falls}; a running total? give the "
            "total of each day"
        )


def has_simulated_rows(columns: Mapping[str, Any]) -> bool:
    """Return True if the column ``source`` of a weather or irrigation file says ``simulated``.

    >>> has_simulated_rows({"source": ["gauge", "simulated"]}), has_simulated_rows({})
    (True, False)
    """
    return "source" in columns and "simulated" in set(texts_of(columns["source"]))


def table_with_weather(
    path: str | Path, options: ReadOptions, weather: WeatherFile | None
) -> Table:
    """Read a table; weather features come from the weather file, where there is one."""
    sheet, features = read_sheet(path), options.features
    if weather is None:
        return table_of(sheet, options)
    own = [name for name in features if not is_weather(name)]
    table = table_of(sheet, replace(options, features=own))
    return with_weather(table, read_weather(weather.path, weather.utc_offset_hours), features)


def with_weather(table: Table, weather: Weather, names: Sequence[str]) -> Table:
    """Add the weather features among ``names`` to a table; its own columns override them.

    FITTED names the index with every decay, one of which a fit then chooses.

    DataError where no place of it has any weather, or a feature needs what the file lacks.
    """
    if note := unused_note(weather, names, table.numbers):
        return replace(table, notes=(*table.notes, note))
    wanted = [name for name in names if is_weather(name) and name not in table.numbers]
    if FITTED in wanted:
        wanted.remove(FITTED)
        wanted += [name for name in _every_decay() if name not in wanted]
    place, day = _places(table, weather), local_day(table, weather)
    if not np.isin(place, list(weather.places)).any():
        raise DataError(
            f"{weather.source}: has no place of {table.source}; it has "
            f"{', '.join(sorted(weather.places)[:3])}, the table "
            f"{', '.join(sorted(set(place.tolist()))[:3])}"
        )
    made = {name: feature(weather, name, place, day) for name in wanted}
    without = int(np.any([np.isnan(values) for values in made.values()], axis=0).sum())
    lacking = f"{weather.source}: {without} of {len(table)} rows are without some of it"
    made_up = f"{weather.source}: holds simulated weather" if weather.simulated else ""
    notes = [note for note in (weather.note, lacking if without else "", made_up) if note]
    return replace(
        table,
        numbers={**table.numbers, **made},
        notes=(*table.notes, *notes),
        made_of_simulated=table.made_of_simulated or weather.simulated,
    )


def unused_note(weather: Weather, names: Sequence[str], given: Container[str]) -> str:
    """Return a note if a weather file has no effect, or "".

    names: features of a model.  given: columns or layers that override weather features.

    >>> unused_note(Weather("rain.csv", "", {}), ["ndvi"], ())
    'rain.csv: not used; the model reads no rain feature'
    """
    read = [name for name in names if is_weather(name)]
    if not read:
        return f"{weather.source}: not used; the model reads no rain feature"
    if all(name in given for name in read):
        return f"{weather.source}: not used; the input itself has {', '.join(read)}"
    return ""


def feature(
    weather: Weather, name: str, place: Sequence[str] | NDArray[np.str_], day: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return a weather feature (R,) at places (R,) on days (R,) since 1970, NaN where unknown."""
    if name == "rain_bucket_mm" and all(np.isnan(s.et0_mm).all() for s in weather.places.values()):
        raise DataError(f"{weather.source}: no column 'et0_mm', which {name} is made of")
    place, values = np.asarray(place, np.str_), np.full(len(day), np.nan)
    for key in np.unique(place).tolist():
        series = weather.places.get(key)
        if series is None:
            continue
        daily = daily_feature(series, name)
        rows = np.flatnonzero(place == key)
        at = day[rows] - series.first
        inside = (at >= 0) & (at < len(daily))
        values[rows[inside]] = daily[at[inside]]
    return values


def decay_of(name: str) -> float:
    """Return the decay that an index names; NaN for another name.

    >>> decay_of("rain_api_k90_mm")
    0.9
    """
    found = _API.fullmatch(name)
    return int(found.group(1)) / 100 if found else np.nan


def daily_feature(series: Series, name: str) -> NDArray[np.float64]:
    """Return a weather feature on every day of a series, (D,)."""
    if name == "rain_day_mm":
        return series.rain_mm
    if name == "rain_dry_days":
        return dry_days(series.rain_mm)
    if name == "rain_bucket_mm":
        return bucket_mm(series.rain_mm, series.et0_mm)
    if _API.fullmatch(name):
        return antecedent_mm(series.rain_mm, decay_of(name))
    raise UsageError(f"{name} is fitted in training; a model names its decay, as rain_api_k90_mm")


def antecedent_mm(rain_mm: NDArray[np.float64], decay: float) -> NDArray[np.float64]:
    """Return antecedent precipitation index on every day, mm: API_t = k API_{t-1} + P_t.

    NaN while more than UNKNOWN of its weight lies on days before the series or missing in it.

    >>> antecedent_mm(np.array([8.0, 0.0, 0.0]), 0.1).round(2).tolist()
    [nan, 0.8, 0.08]
    """
    index, total, unknown = np.empty(len(rain_mm)), 0.0, 1.0
    for day, rain in enumerate(rain_mm.tolist()):
        missing = rain != rain
        total = decay * total + (0.0 if missing else rain)
        unknown = decay * unknown + (1 - decay if missing else 0.0)
        index[day] = total if unknown <= UNKNOWN else np.nan
    return index


def dry_days(rain_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return days since the last wet one, LONGEST_SPELL at most.

    NaN where a day between is missing.

    >>> dry_days(np.array([0.0, 5.0, 0.0, 0.2, np.nan, 0.0, 3.0])).tolist()
    [nan, 0.0, 1.0, 2.0, nan, nan, 0.0]
    """
    spell, since, known = np.full(len(rain_mm), np.nan), 0, False
    for day, rain in enumerate(rain_mm.tolist()):
        if rain != rain:
            since, known = 0, False
            continue
        if rain >= WET_MM:
            since, known = 0, True
        else:
            since += 1
        if known or since >= LONGEST_SPELL:
            spell[day] = min(since, LONGEST_SPELL)
    return spell


def bucket_mm(rain_mm: NDArray[np.float64], et0_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the water of the bucket on every day, mm; NaN until its beginning is forgotten.

    >>> bucket_mm(np.array([40.0, 0.0, np.nan]), np.array([3.0, 3.0, 3.0])).round(3).tolist()
    [30.0, 27.145, nan]
    """
    water, low, high = np.full(len(rain_mm), np.nan), 0.0, BUCKET_MM
    for day, (rain, et0) in enumerate(zip(rain_mm.tolist(), et0_mm.tolist(), strict=True)):
        if rain != rain or et0 != et0:
            low, high = 0.0, BUCKET_MM
            continue
        left = np.exp(-max(et0, 0.0) / BUCKET_MM)
        low, high = (min(BUCKET_MM, item * left + rain) for item in (low, high))
        if high - low <= UNKNOWN * BUCKET_MM:
            water[day] = (low + high) / 2
    return water


def fitted_api(table: Table, sm: NDArray[np.floating[Any]], rows: NDArray[np.int64]) -> str:
    """Choose the index whose decay fits the labels of ``rows`` best, and return its name.

    table: with the index of every decay (:func:`with_weather`).  Best is the greatest
    correlation of SM with the root of the index, both as departures from their site's mean,
    so that sites that are wetter throughout say nothing of rain. UsageError where too few rows
    have a label and weather.
    """
    rows = rows[np.isfinite(sm[rows])]
    _, site = np.unique(table.site[rows], return_inverse=True)
    best, name = -np.inf, ""
    for candidate in _every_decay():
        index = np.sqrt(table.numbers[candidate][rows])
        known = np.isfinite(index)
        if known.sum() < 10:
            continue
        x, y = (_departures(v[known], site[known]) for v in (index, np.asarray(sm[rows], float)))
        norm = float(np.sqrt((x @ x) * (y @ y)))
        if norm > 0 and float(x @ y) / norm > best:
            best, name = float(x @ y) / norm, candidate
    if not name:
        raise UsageError(f"{table.source}: too few labels with weather to fit {FITTED} to")
    return name


def _every_decay() -> list[str]:
    return [f"rain_api_k{decay:02d}_mm" for decay in DECAYS]


def local_day(table: Table, weather: Weather) -> NDArray[np.int64]:
    """Return (R,) the day of each row on the weather's clock, days since 1970.

    A day is as written.
    """
    by_day = is_day_only(list(table.date_text), table.site)
    local = table.date.astype(np.int64) + round(weather.utc_offset_hours * 3600)
    written = np.asarray([wall_clock(text) for text in table.date_text], np.int64)
    return np.where(by_day, written, local) // 86400


def _places(table: Table, weather: Weather) -> NDArray[np.str_]:
    if not weather.by:
        return np.full(len(table), "")
    if weather.by == "site":
        return table.site
    if "cell" in table.text:
        return np.asarray(table.text["cell"], np.str_)
    raise DataError(f"{table.source}: no column 'cell', which {weather.source} goes by")


def _departures(values: NDArray[np.float64], site: NDArray[np.int64]) -> NDArray[np.float64]:
    count = np.maximum(np.bincount(site), 1)
    return values - (np.bincount(site, values) / count)[site]
