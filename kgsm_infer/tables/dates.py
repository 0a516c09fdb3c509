"""Dates as files write them: ISO 8601, extended or basic, as UTC seconds.

A date without a time is a day. It stays the day as written, in no time zone, and joins other days
(:func:`is_day_only`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from datetime import date

import numpy as np
from numpy.typing import NDArray

from ..base.errors import UsageError

#: Years of radar and probe measurements.
YEARS = (1900, 2100)
#: Day this version was made; a clock that is earlier is wrong.
RELEASED = np.datetime64("2026-11-30", "s")
WRITE = "write 2022-06-16 or 2022-06-16T05:30:00Z"

_DAY = r"(\d{4})(?:-(\d{2})-(\d{2})|(\d{2})(\d{2}))"
_TIME = r"(\d{2})(?::(\d{2})(?::(\d{2})(?:[.,]\d+)?)?|(\d{2})(?:(\d{2})(?:[.,]\d+)?)?)"
_ZONE = r" ?(Z|[+-]\d{2}(?::?\d{2})?)"
_DATE = re.compile(rf"{_DAY}(?:[T ]{_TIME}(?:{_ZONE})?)?", re.ASCII)
_EPOCH = date(1970, 1, 1).toordinal()


def utc_seconds(text: str) -> int | None:
    """Parse an ISO 8601 date to seconds since 1970; None for other text or a year outside YEARS.

    A day alone is its midnight, and a time without a zone is UTC.

    >>> utc_seconds("20220610") == utc_seconds("2022-06-10T02:00+02") == 1654819200
    True
    >>> utc_seconds("2022-02-30"), utc_seconds("0001-01-01T00:00+10:00")
    (None, None)
    """
    found = _DATE.fullmatch(text)
    if not found:
        return None
    year, *rest = found.groups()
    month, day = (rest[0] or rest[2]), (rest[1] or rest[3])
    hour, minute, second = int(rest[4] or 0), int(rest[5] or rest[7] or 0), rest[6] or rest[8]
    try:
        days = date(int(year), int(month), int(day)).toordinal() - _EPOCH
    except ValueError:
        return None
    offset = _offset_seconds(rest[9])
    if offset is None or hour > 23 or minute > 59 or int(second or 0) > 59:
        return None
    if not YEARS[0] <= int(year) <= YEARS[1]:
        return None
    return days * 86400 + hour * 3600 + minute * 60 + int(second or 0) - offset


def states_zone(text: str) -> bool:
    """Return True for a date with a time zone.

    >>> states_zone("2022-06-10T05:30Z"), states_zone("2022-06-10 05:30"), states_zone("2022-06-10")
    (True, False, False)
    """
    found = _DATE.fullmatch(text)
    return bool(found and found.group(11))


def is_day(text: str) -> bool:
    """Return True for a date without a time.

    >>> is_day("2022-06-10"), is_day("20220610"), is_day("2022-06-10T00:00")
    (True, True, False)
    """
    return _time_parts(text) == ()


def is_day_only(texts: Iterable[str], site: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Return (R,) dates that mean a day: written as one, or 00:00:00 throughout a site's series.

    Spreadsheets and Parquet write a day as its midnight. A series of at least three dates of
    one site, or a whole table, that is midnight throughout was no clock's.

    >>> is_day_only(["2022-06-10T00:00", "2022-06-22T00:00"], np.array(["a", "a"])).tolist()
    [True, True]
    >>> is_day_only(["2022-06-10", "2022-06-10T17:30"], np.array(["a", "a"])).tolist()
    [True, False]
    """
    parts = [_time_parts(text) for text in texts]
    day = np.asarray([time == () for time in parts], np.bool_)
    midnight = np.asarray([time is not None and not any(map(_digits, time)) for time in parts])
    if midnight.all():
        return np.ones(len(day), bool)
    _, code = np.unique(site, return_inverse=True)
    count = np.bincount(code)
    throughout = (np.bincount(code, weights=midnight) == count) & (count >= 3)
    return np.asarray(day | throughout[code], bool)


def wall_clock(text: str) -> int | None:
    """Return the seconds since 1970 of a date as written, without its zone.

    >>> wall_clock("2022-06-10T01:00+10:00") == utc_seconds("2022-06-10T01:00")
    True
    """
    found = _DATE.fullmatch(text)
    if not found or not found.group(11):
        return utc_seconds(text)
    return utc_seconds(text[: found.start(11)].rstrip())


def parse_day(text: str) -> np.datetime64:
    """Parse the day of an option; UsageError for other text.

    >>> parse_day("2024-03-04"), parse_day("20240304")
    (np.datetime64('2024-03-04'), np.datetime64('2024-03-04'))
    """
    seconds = utc_seconds(text) if is_day(text) else None
    if seconds is None:
        raise UsageError(f"{text!r} is not a date; write 2024-03-04")
    return np.datetime64(seconds // 86400, "D")


def find_acquisition(text: str, times: NDArray[np.datetime64], source: str) -> np.datetime64 | None:
    """Find the acquisition that an option names by its day, or its time to the minute or second.

    times: (N,) UTC of all acquisitions.  Returns None where none matches. UsageError where ``text``
    cannot be parsed, or where the day has several acquisitions and ``text`` has no time.

    >>> passes = np.asarray(["2024-03-04T05:30:12", "2024-03-04T17:02:40"], "datetime64[s]")
    >>> find_acquisition("2024-03-04T17:02", passes, "t.csv")
    np.datetime64('2024-03-04T17:02:40')
    """
    seconds = utc_seconds(text)
    if seconds is None:
        raise UsageError(f"{text!r} is not a date; write 2024-03-04, or 2024-03-04T05:30")
    unit = {0: "D", 1: "m", 2: "m"}.get(len(_time_parts(text) or ()), "s")
    wanted = np.datetime64(seconds, "s").astype(f"datetime64[{unit}]")
    found = np.unique(times[times.astype(f"datetime64[{unit}]") == wanted])
    if len(found) > 1:
        times_of_day = ", ".join(f"{str(time)[11:]}" for time in found)
        raise UsageError(
            f"{source}: {len(found)} acquisitions on {text}, at {times_of_day}; name one: "
            f"--date {str(found[0])[:16]}"
        )
    return found[0] if len(found) else None


def is_future(
    times: NDArray[np.datetime64] | np.datetime64, *, now: np.datetime64 | None = None
) -> NDArray[np.bool_]:
    """Find acquisition times that cannot be: later than tomorrow, (N,).

    Every command leaves such acquisitions out (``--allow-future`` accepts them): one mistyped year
    in a past would hide all later passes. Forecast rows of a weather file are not acquisitions.
    now: UTC; by default the clock, or RELEASED where the clock of a small computer is earlier.

    >>> now = np.datetime64("2027-01-01T12:00")
    >>> is_future(np.asarray(["2027-01-02T11:59", "2027-01-02T12:01"], "datetime64[s]"), now=now)
    array([False,  True])
    """
    if now is None:
        now = max(np.datetime64(int(time.time()), "s"), RELEASED)
    return np.asarray(times > now + np.timedelta64(1, "D"), np.bool_)


def why_no_date(text: str) -> str:
    """Explain why a cell is not a date."""
    if not text:
        return f"empty; every row needs its date; {WRITE}"
    found = _DATE.fullmatch(text)
    if found and not YEARS[0] <= int(found.group(1)) <= YEARS[1]:
        return f"is of the year {int(found.group(1))}, of which nothing was measured; {WRITE}"
    if re.fullmatch(r"\d+([.,]\d+)?E\+?\d+", text, re.IGNORECASE):
        return f"is a number that a spreadsheet has rounded: the time has lost its digits; {WRITE}"
    if re.fullmatch(r"\d{12,13}(\.0)?|\d{9,10}(\.0)?", text):
        return f"is not an ISO 8601 date but a count of seconds or milliseconds; {WRITE}"
    if re.fullmatch(r"[2-6]\d{4}([.,]\d+)?", text):
        return f"is not an ISO 8601 date but a spreadsheet's day number; {WRITE}"
    return f"is not an ISO 8601 date; {WRITE}"


def _offset_seconds(zone: str | None) -> int | None:
    if zone is None or zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    hours, minutes = int(digits[:2]), int(digits[2:])
    if hours > 15 or minutes > 59:
        return None
    return (hours * 3600 + minutes * 60) * (1 if zone[0] == "+" else -1)


def _time_parts(text: str) -> tuple[str, ...] | None:
    """Return hour, minute and second of a date as written; () for a day, None for other text."""
    found = _DATE.fullmatch(text)
    return None if found is None else tuple(part for part in found.groups()[5:10] if part)


def _digits(part: str) -> bool:
    """Return True where a part of a time is not zero."""
    return part.strip("0") != ""


def check_utc_offset(hours: float) -> None:
    """Raise UsageError for an offset from UTC that no clock has."""
    if not -14 <= hours <= 14:
        raise UsageError(f"UTC offset {hours:g} h must be within ±14 h")
