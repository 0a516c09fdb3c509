"""Read the time coordinate of a NetCDF or Zarr variable, or of an xarray Dataset: UTC seconds.

One rule for the commands and for :mod:`kgsm_infer.xarray`. Decoded times, numbers with CF units
("days since 1970-01-01"), ISO 8601 text and whole numbers written YYYYMMDD are read. Other
numbers without units are refused: their unit and origin would be a guess.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, raise_if_machine
from ..base.extras import optional
from ..tables.dates import YEARS, utc_seconds, why_no_date
from ..tables.text_column import shorten

_REMEDY = "assign datetime64 times, or give the coordinate CF units (days since 1970-01-01)"
#: CF calendars whose days are those of UTC since 1900.
_CALENDARS = ("standard", "gregorian", "proleptic_gregorian")


def read_times(coordinate: Any, source: str) -> NDArray[np.datetime64]:
    """Return the times (T,) of a one-dimensional coordinate, datetime64[s] UTC, rounded.

    coordinate: an ``xarray.DataArray``, decoded or not.
    source: what has the coordinate, for messages.  DataError where a time is missing or cannot be
    read; the message names the cause.
    """
    place = f"{source}: time coordinate {coordinate.name}"
    if coordinate.ndim != 1:
        raise DataError(f"{place}: has {coordinate.ndim} dimensions; expected 1")
    values = coordinate.values
    if " since " in str(coordinate.attrs.get("units", "")) and values.dtype.kind in "iuf":
        values = _decoded(coordinate, place)
    if values.dtype.kind == "M":
        seconds = _rounded(values)
    elif values.dtype.kind in "OUS":
        seconds = np.asarray([_of_object(value, place) for value in values], "datetime64[s]")
    else:
        seconds = _of_numbers(values, place)
    if np.isnat(seconds).any():
        raise DataError(f"{place}: time {int(np.argmax(np.isnat(seconds))) + 1} is missing")
    low, high = (np.datetime64(str(year), "Y") for year in YEARS)
    year = seconds.astype("datetime64[Y]")
    if ((year < low) | (year > high)).any():
        at = int(np.argmax((year < low) | (year > high)))
        raise DataError(f"{place}: {seconds[at]} is outside {YEARS[0]}..{YEARS[1]}; wrong units?")
    return seconds


def _decoded(coordinate: Any, place: str) -> NDArray[Any]:
    """Decode numbers with CF units."""
    xarray = optional("xarray", what="NetCDF and Zarr")
    (dim,) = coordinate.dims
    raw = (
        coordinate.reset_coords(drop=True)
        .rename("when")
        .rename({dim: "n"})
        .drop_vars("n", errors="ignore")
    )
    try:
        return np.asarray(xarray.decode_cf(xarray.Dataset({"when": raw}))["when"].values)
    except Exception as error:  # noqa: BLE001  units, calendars and overflows raise their own
        raise_if_machine(error, place)
        units = shorten(coordinate.attrs.get("units", ""), 60)
        raise DataError(f"{place}: numbers in {units!r} cannot be decoded; {_REMEDY}") from None


def _rounded(values: NDArray[np.datetime64]) -> NDArray[np.datetime64]:
    """Round to the nearest second; NaT stays."""
    unit = np.datetime_data(values.dtype)[0]
    if unit not in ("ms", "us", "ns"):
        return values.astype("datetime64[s]")
    return (values + np.timedelta64(500, "ms")).astype("datetime64[s]")


def _of_object(value: Any, place: str) -> np.datetime64:
    """Convert text, a date of Python, or a date of cftime."""
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if hasattr(value, "freqstr"):  # a period of pandas; a month is refused as its text is
        value = str(value)
    if value is None or value != value or (isinstance(value, str) and not value.strip()):
        return np.datetime64("NaT")
    if isinstance(value, str):
        seconds = utc_seconds(value.strip())
        if seconds is None:
            raise DataError(f"{place}: {shorten(value)!r} {why_no_date(value)}")
        return np.datetime64(seconds, "s")
    calendar = getattr(value, "calendar", None)
    if isinstance(calendar, str):
        if calendar not in _CALENDARS:
            raise DataError(
                f"{place}: is of calendar {calendar!r}, whose days are not dates; {_REMEDY}"
            )
        return np.datetime64(value.isoformat(), "s")
    if isinstance(value, datetime):
        value = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo else value
    if isinstance(value, date):  # a datetime is a date too
        return np.datetime64(value.isoformat(), "s")
    if isinstance(value, np.datetime64):
        return np.datetime64(str(value), "s")
    raise DataError(f"{place}: {shorten(value)!r} is not a date; {_REMEDY}")


def _of_numbers(values: NDArray[Any], place: str) -> NDArray[np.datetime64]:
    """Convert whole numbers YYYYMMDD; DataError for others, which have no units."""
    whole = values.dtype.kind in "iu" or (
        values.dtype.kind == "f" and bool((values == np.floor(values)).all())
    )
    if whole and len(values):
        found = [utc_seconds(f"{int(value):08d}") for value in values]
        if None not in found:
            return np.asarray(found, "datetime64[s]")
    example = shorten(values[0]) if len(values) else "empty"
    raise DataError(f"{place}: numbers without units ({example}, ...); {_REMEDY}")
