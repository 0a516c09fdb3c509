"""Read the crops of paddocks, and balance their root zones from daily estimates.

The file has one row per crop and paddock, or one row without a paddock for all of them:
``planted`` (a day), ``initial_days``, ``development_days``, ``mid_days``, ``late_days``,
``kcb_initial``, ``kcb_mid``, ``kcb_end``, ``root_initial_m``, ``root_m``, ``height_m`` and
``depletion`` (FAO-56 Tables 11, 12, 17 and 22). ``start_sm`` is optional: moisture measured at
planting, m3 m-3, mean of the soil down to ``root_m``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..tables.columns import Rule
from ..tables.reading import read_sheet
from ..tables.table import have
from ..tables.weather import Weather
from .daily import Daily
from .filter import Array
from .root_zone import Crop, RootSoil, RootStart, Water, balance_root_zone, exponential_filter
from .values import named_sites

#: Time constant of the filter that gives the moisture of the zone at planting, days.
START_DAYS = 20.0
_DAYS = Rule(1.0, 500.0, "a stage in days (1 to 500)", lambda _: "in months?")
_KCB = Rule(0.01, 1.6, "a basal crop coefficient (0.01 to 1.6)", lambda _: "in percent?")
_METRES = Rule(0.01, 5.0, "a depth or height in m (0.01 to 5)", lambda _: "in cm or mm?")
_OVERLAP = "is within the season of another crop of its paddock; keep one, or correct its stages"
_START = "start_sm"
_MOISTURE = Rule(0.01, 0.7, "soil moisture in m3 m-3 (0.01 to 0.7)", lambda _: "in percent?")
_PART = Rule(0.01, 0.99, "a share (0.01 to 0.99)", lambda _: "in percent?")
COLUMNS: Mapping[str, Rule] = {
    "initial_days": _DAYS,
    "development_days": _DAYS,
    "mid_days": _DAYS,
    "late_days": _DAYS,
    "kcb_initial": _KCB,
    "kcb_mid": _KCB,
    "kcb_end": _KCB,
    "root_initial_m": _METRES,
    "root_m": _METRES,
    "height_m": _METRES,
    "depletion": _PART,
}


@dataclass(frozen=True)
class PaddockCrop:
    """A crop of one paddock.

    paddock: its name, or "" for all.  start_sm: moisture of the zone measured at planting, NaN
    without.
    """

    paddock: str
    crop: Crop
    start_sm: float = math.nan


def read_crops(path: str | Path, paddocks: Sequence[str]) -> tuple[PaddockCrop, ...]:
    """Read the crops; DataError names file, row, column, value and cause."""
    sheet = named_sites(read_sheet(path))
    for column in ("planted", *COLUMNS):
        if column not in sheet.columns:
            raise DataError(f"{path}: no column {column!r}; {have(sheet.columns, column)}")
    check = sheet.check
    name = next((one for one in ("paddock", "site") if one in sheet.columns), None)
    names = [""] * len(sheet)
    if name is not None:
        own = check.names(sheet.columns[name], name).values
        names = own.tolist()
        check.first(
            ~np.isin(own, list(paddocks)),
            name,
            own,
            f"is not a paddock of the values, which have {', '.join(list(paddocks)[:3])}",
        )
    day = check.dates(sheet.columns["planted"]).astype("datetime64[D]").astype(np.int64)
    numbers = {
        column: check.numbers(column, sheet.columns[column], COLUMNS[column]) for column in COLUMNS
    }
    for column, values in numbers.items():
        check.first(np.isnan(values), column, values, "is missing; give the number of FAO-56")
    start = np.full(len(sheet), np.nan)
    if _START in sheet.columns:
        start = check.numbers(_START, sheet.columns[_START], _MOISTURE)
    found = []
    for i in range(len(sheet)):
        n = {column: float(values[i]) for column, values in numbers.items()}
        try:
            crop = Crop(
                int(day[i]),
                (n["initial_days"], n["development_days"], n["mid_days"], n["late_days"]),
                (n["kcb_initial"], n["kcb_mid"], n["kcb_end"]),
                (n["root_initial_m"], n["root_m"]),
                n["height_m"],
                n["depletion"],
            )
        except ValueError as error:
            raise DataError(f"{path}: row {sheet.row_number[i]}: {error}") from None
        found.append(PaddockCrop(str(names[i]), crop, float(start[i])))
    check.first(_overlaps(found), "planted", sheet.columns["planted"], _OVERLAP)
    return tuple(found)


def _overlaps(crops: Sequence[PaddockCrop]) -> NDArray[np.bool_]:
    """Find the crops that are planted before the season of another of their paddock ends, (M,)."""
    found = np.zeros(len(crops), bool)
    for i, one in enumerate(crops):
        for other in crops:
            age = one.crop.planted - other.crop.planted
            if one is not other and one.paddock == other.paddock and 0 <= age < other.crop.days:
                found[i] = True
    return found


def with_root_zone(daily: Daily, crops: Sequence[PaddockCrop], weather: Weather | None) -> Daily:
    """Return the estimate with the water of its root zones on the days of the crops.

    Depletion in mm and percent of the available water, NaN outside a season, without limits, and
    from a day without rain or ET0 on. A pass corrects the evaporation layer by the estimate of
    its day. The season begins with the measured moisture, else with the filtered surface moisture
    of the day before it, or of its first day with an estimate. A measured start above the field
    capacity raises that: water that stayed until planting does not drain. UsageError for an index,
    and where ET0 or limits are missing.
    """
    if daily.values.quantity != "sm":
        raise UsageError(f"{daily.values.source}: --crop needs soil moisture, not an index")
    limits = daily.water
    if limits is None or not limits.known:
        raise UsageError("--crop needs --wilting-point and --field-capacity, or --sand and --clay")
    et0 = _et0(daily, weather)
    period, shape = daily.forcing.period, daily.mean.shape
    mm, percent = np.full(shape, np.nan), np.full(shape, np.nan)
    rain = daily.forcing.rain_mm[:, daily.forcing.series]
    irrigation = daily.forcing.irrigation_mm[:, daily.forcing.series]
    days = np.arange(period.count, dtype=np.float64)
    for one in crops:
        first = max(one.crop.planted - period.first, 0)
        stop = max(one.crop.planted + one.crop.days - period.first, 0)
        beginning: dict[int, list[int]] = {}
        for i, name in enumerate(daily.values.paddocks):
            known = np.flatnonzero(np.isfinite(daily.mean[first:stop, i]))
            limited = limits.field_capacity[i] > limits.wilting_point[i]
            if one.paddock in ("", name) and limited and len(known):
                beginning.setdefault(first + int(known[0]), []).append(i)
        for begin, at in beginning.items():
            rows, past = slice(begin, stop), slice(0, max(begin, 1))
            sm = daily.mean[:, at].astype(np.float64)
            before = np.array(
                [exponential_filter(days[past], v, START_DAYS)[-1] for v in sm[past].T]
            )
            zone = np.where(np.isnan(before), sm[begin], before)
            capacity = limits.field_capacity[at]
            if not math.isnan(one.start_sm):
                zone = np.full(len(at), one.start_sm)
                capacity = np.maximum(capacity, zone)
            made = balance_root_zone(
                RootSoil(limits.wilting_point[at], capacity),
                one.crop,
                Water(period.first + begin, rain[rows, at], et0[rows, at], irrigation[rows, at]),
                RootStart(zone, sm[begin]),
                np.where(np.isfinite(daily.seen[rows, at]), sm[rows], np.nan),
            )
            mm[rows, at] = made.depletion_mm
            percent[rows, at] = 100 * (1 - made.depletion_mm / made.available_mm)
    return replace(daily, root_zone_mm=mm, root_zone_percent=percent)


def with_filtered_surface(daily: Daily, time_constant_days: float) -> Daily:
    """Return the estimate with the exponential filter of each paddock's surface moisture.

    UsageError for a time constant outside 1 to 100 days.
    """
    if not 1 <= time_constant_days <= 100:
        raise UsageError(f"--root-zone-days {time_constant_days:g} must lie in 1 to 100")
    days = np.arange(len(daily.mean), dtype=np.float64)
    filtered = [
        exponential_filter(days, sm, time_constant_days) for sm in daily.mean.T.astype(np.float64)
    ]
    return replace(daily, root_zone_filtered=np.stack(filtered, 1))


def _et0(daily: Daily, weather: Weather | None) -> Array:
    """Return ET0 of each paddock (D, N) mm, NaN where missing.

    UsageError where there is none at all.
    """
    period, names = daily.forcing.period, daily.values.paddocks
    made = np.full((period.count, len(names)), np.nan)
    for i, name in enumerate(names):
        series = None if weather is None else weather.places.get(name if weather.by else "")
        if series is None:
            continue
        low = max(series.first, period.first)
        high = min(series.first + len(series.et0_mm), period.last + 1)
        if low < high:
            made[low - period.first : high - period.first, i] = series.et0_mm[
                low - series.first : high - series.first
            ]
    if not np.isfinite(made).any():
        raise UsageError("--crop needs a weather file with the column et0_mm (--weather)")
    return made
