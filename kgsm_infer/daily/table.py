"""The daily table: one row per paddock and day."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..tables.reading import write_csv
from .daily import Daily
from .events import FLAG_FROM
from .forcing import day_text
from .percentiles import drier_than

#: Reasons for doubt that a daily row adds to those of the retrieval.
NO_PASS = "no_pass"
RAIN_MISSING = "rain_missing"
FORECAST = "forecast"
DIGITS = 5


def write_daily(path: str | Path, result: Daily) -> int:
    """Write the table as CSV or Parquet, whole or not at all; return the number of rows."""
    columns = daily_columns(result)
    write_csv(path, columns)
    return len(columns["site"])


def daily_columns(
    result: Daily, since: int | None = None, until: int | None = None, ranked: bool = True
) -> dict[str, Any]:
    """Return the columns of the table, (R,) each, by paddock and then by day.

    A paddock's rows begin with its first row in the values and end with the period.
    ``site,date`` and the quantity with its band come first, then ``radar_weight``,
    ``pass_age_days``, ``pass_…`` (the value of a pass on its day), ``rain_mm``, farm units,
    ``drier_than`` and ``flags``.

    since, until: first and last day of the rows, since 1970; None for all.  ranked: with
    ``drier_than``.
    """
    values, period = result.values, result.forcing.period
    start = np.full(len(values.paddocks), period.count, np.int64)
    np.minimum.at(start, values.paddock, values.day - period.first)
    if since is not None:
        start = np.maximum(start, since - period.first)
    stop = period.count if until is None else until - period.first + 1
    paddock, day = _rows(np.minimum(start, stop), stop)
    name = values.quantity

    def of(array: NDArray[Any]) -> NDArray[Any]:
        return np.round(array[day, paddock].astype(np.float64), DIGITS)

    seen = result.seen
    columns: dict[str, Any] = {
        "site": np.asarray(values.paddocks)[paddock],
        "date": day_text(day + period.first),
        name: of(result.mean),
        f"{name}_lower": of(result.lower),
        f"{name}_upper": of(result.upper),
        "radar_weight": np.round(result.weight[day, paddock].astype(np.float64), 3),
        "pass_age_days": _age(result, day, paddock),
        f"pass_{name}": of(seen),
        "rain_mm": result.forcing.rain_mm[day, result.forcing.series[paddock]],
    }
    if result.irrigated is not None:
        columns |= {
            f"{name}_irrigated": of(result.irrigated.mean),
            f"{name}_irrigated_lower": of(result.irrigated.lower),
            f"{name}_irrigated_upper": of(result.irrigated.upper),
        }
    if result.root_zone_filtered is not None:
        columns[f"root_zone_{name}"] = of(result.root_zone_filtered)
    if result.root_zone_mm is not None and result.root_zone_percent is not None:
        columns["root_zone_mm"] = np.round(result.root_zone_mm[day, paddock], 1)
        columns["root_zone_percent"] = np.round(result.root_zone_percent[day, paddock], 1)
    if result.water is not None and result.water.known:
        low = int(day.min(initial=period.count))
        mean = result.mean[low : int(day.max(initial=0)) + 1]
        columns["available_percent"] = np.round(
            result.water.available(mean)[day - low, paddock].astype(np.float64), 1
        )
        if np.isfinite(result.water.root_depth_mm).any():
            columns["refill_mm"] = np.round(
                result.water.refill_mm(mean)[day - low, paddock].astype(np.float64), 1
            )
        if result.days_left is not None:
            at = day + period.first == period.today
            columns["days_left"] = np.where(at, result.days_left[paddock], np.nan)
    if ranked:
        columns["drier_than"] = _drier_than(result, day, paddock)
    columns["flags"] = _flags(result, day, paddock)
    if result.simulated:
        columns["source"] = np.full(len(day), "simulated")
    return columns


def _rows(start: NDArray[np.int64], count: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return paddock and day of each row."""
    length = count - start
    paddock = np.repeat(np.arange(len(start)), length)
    first = np.cumsum(length) - length
    return paddock, np.arange(int(length.sum())) - first[paddock] + start[paddock]


def _age(result: Daily, day: NDArray[np.int64], paddock: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return days since the last pass with a value, NaN before the first."""
    age = day - result.last_pass[day, paddock]
    return np.where(np.isfinite(age), age, np.nan)


def _drier_than(result: Daily, day: NDArray[np.int64], paddock: NDArray[np.int64]) -> ArrayLike:
    share = np.full(result.mean.shape, np.nan)
    for i in range(len(result.values.paddocks)):
        passed = np.isfinite(result.seen[:, i])
        share[:, i] = drier_than(result.mean[:, i].astype(np.float64), passed)
    return np.round(share[day, paddock], 3)


def _flags(result: Daily, day: NDArray[np.int64], paddock: NDArray[np.int64]) -> list[str]:
    """Return the flags of a day's pass, and those of the day itself."""
    period = result.forcing.period
    mask = result.pass_flags[day, paddock]
    if result.possible is not None:
        rose = result.possible.probability >= FLAG_FROM
        at_pass = result.possible.until[rose] - period.first
        unexplained = np.zeros(result.mean.shape, bool)
        unexplained[at_pass, result.possible.paddock[rose]] = True
        mask |= np.where(unexplained[day, paddock], flags.WET_WITHOUT_RAIN, 0)
    before = np.isnan(_age(result, day, paddock))
    dry = np.isnan(result.forcing.rain_mm)[day, result.forcing.series[paddock]]
    ahead = day + period.first > period.today
    code = mask * 8 + before * 1 + dry * 2 + ahead * 4
    texts = {int(value): _text(int(value)) for value in np.unique(code)}
    return [texts[value] for value in code.tolist()]


def _text(code: int) -> str:
    own: Mapping[int, str] = {1: NO_PASS, 2: RAIN_MISSING, 4: FORECAST}
    names = [name for bit, name in own.items() if code & bit]
    return ";".join([*filter(None, [flags.names(code // 8)]), *names])
