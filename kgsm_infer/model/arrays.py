"""Check windows passed as arrays: days, features and statics in the card's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..tables.columns import FROM_DATE
from ..tables.dates import utc_seconds

#: Largest distance of a day from its origin: 27,000 years.
MOST_DAYS = 1e7


def filled(values: Any, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Fill missing numbers with NaN: masked ones, or a data frame's own NA."""
    if np.ma.isMaskedArray(values):
        return np.asarray(np.ma.filled(values.astype(dtype), np.nan))
    if hasattr(values, "to_numpy") and hasattr(values, "isna"):  # pandas
        return np.asarray(values.to_numpy(dtype=dtype, na_value=np.nan))
    return np.asarray(values, dtype)


def spread(name: str, values: Any, shape: tuple[int, ...] | None = None) -> NDArray[np.float32]:
    """Return an argument as float32 of ``shape``, a view where it is broadcast; None: of its own.

    ValueError names the argument where its values are not real numbers or do not fit the shape.
    """
    try:
        is_complex = np.iscomplexobj(values)
        array = np.empty(0, np.float32) if is_complex else filled(values)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} is not numeric ({error}); missing is NaN") from None
    if is_complex:
        raise ValueError(f"{name} is complex; give the backscatter in dB")
    try:
        return np.broadcast_to(array, array.shape if shape is None else shape)
    except ValueError:
        raise ValueError(f"{name} has shape {array.shape}, which does not fit {shape}") from None


def _seconds(days: NDArray[Any]) -> NDArray[np.datetime64]:
    """Convert ISO text and date objects to datetime64[s]; ValueError names one that is neither."""
    found = np.empty(days.shape, "datetime64[s]")
    for at, value in np.ndenumerate(days):
        text = value.isoformat() if hasattr(value, "isoformat") else value
        if value is None or text in ("", "NaT"):
            found[at] = np.datetime64("NaT")
            continue
        seconds = utc_seconds(text) if isinstance(text, str) else None
        if seconds is None:
            raise ValueError(
                f"days has {str(value)[:40]!r}, which is not a date; give datetime64, ISO text "
                "or numbers of days"
            )
        found[at] = np.datetime64(seconds, "s")
    return found


def _as_array(days: Any) -> NDArray[Any]:
    """Return days as an array of dates, durations or numbers; ValueError for anything else."""
    try:
        value = np.asarray(days)
        if value.dtype.kind == "S":
            value = value.astype(np.str_)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"days is not an array of dates or numbers ({error})") from None
    if np.ma.isMaskedArray(days):
        value = _filled_days(value, np.ma.getmaskarray(days))
    if value.dtype.kind == "O":
        value = _of_objects(value)
    if value.dtype.kind == "U":
        value = _seconds(value)
    if value.dtype.kind in "Mm" and np.datetime_data(value.dtype)[0] in ("M", "Y"):
        raise ValueError(f"days is of type {value.dtype}; a month or a year is not a day")
    if value.dtype.kind not in "Mmiuf":
        raise ValueError(f"days is of type {value.dtype}; give datetime64 or numbers of days")
    return value


def _filled_days(values: NDArray[Any], mask: NDArray[np.bool_]) -> NDArray[Any]:
    """Replace masked days by NaT, NaN, or None among texts and objects."""
    kind = values.dtype.kind
    if kind in "iu":
        values = values.astype(np.float64)
    elif kind == "U":
        values = values.astype(object)
    empty: Any = values.dtype.type("NaT") if kind in "Mm" else None if kind in "UO" else np.nan
    return values if kind == "b" or not mask.any() else np.where(mask, empty, values)


def _of_objects(values: NDArray[Any]) -> NDArray[Any]:
    """Convert objects of one kind, None among them, to numbers, durations or dates."""
    known = [item for item in values.flat if item is not None]
    if known and all(isinstance(item, timedelta) for item in known):
        return values.astype("timedelta64[us]")
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in known)
    if not numbers:
        return _seconds(values)
    try:
        return np.asarray(values, np.float64)
    except OverflowError:
        raise ValueError("days has a number that no day can have") from None


def date_features(
    days: ArrayLike | None, shape: tuple[int, int]
) -> tuple[dict[str, ArrayLike | None], NDArray[np.float64]]:
    """Return the features computed from dates, and the days, (N, T) since any one origin."""
    if days is None:
        if shape[1] > 1:
            raise ValueError("days is needed: the day of each acquisition, (T,) or (N, T)")
        return {}, np.zeros(shape)
    value = _as_array(days)
    if value.ndim == 0 and shape[1] > 1:
        raise ValueError(f"days is one value; expected ({shape[1]},) or {shape}")
    made: dict[str, ArrayLike | None] = {}
    if value.dtype.kind == "m":
        value = value / np.timedelta64(1, "D")
    if value.dtype.kind == "M":
        made = {name: make(value) for name, make in FROM_DATE.items()}
        day = (value - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    else:
        day = value.astype(np.float64)
        # judged window by window: what a batch holds besides does not matter
        known, beyond = np.isfinite(day), np.abs(day) > MOST_DAYS
        in_seconds = known.any(axis=-1) & (beyond | ~known).all(axis=-1)
        if in_seconds.any():
            first = day[known & beyond][0]
            written = utc_seconds(f"{first:.0f}") is not None
            raise ValueError(
                f"days such as {first:.0f} look like dates written as numbers; give ISO text "
                "or datetime64"
                if written
                else f"days such as {first:g} look like seconds; divide by 86,400, or give dates"
            )
    try:
        return made, np.broadcast_to(day, shape)
    except ValueError:
        raise ValueError(
            f"days has shape {day.shape}; expected ({shape[1]},) or {shape}, as sigma0_db (N, T)"
        ) from None


def feature_block(
    values: ArrayLike | Mapping[str, ArrayLike] | None,
    names: tuple[str, ...],
    shape: tuple[int, ...],
    what: str,
    given: Mapping[str, ArrayLike | None],
) -> Callable[[slice], NDArray[np.float32]]:
    """Return a function that slices features of windows, (block, *shape[1:], len(names)).

    An array has its features in the card's order; a mapping is put into that order.
    """
    if values is None or isinstance(values, Mapping):
        unknown = [name for name in values or {} if name not in names and name not in given]
        if unknown:
            raise ValueError(
                f"{what} has {unknown[0]!r}, which the model does not read; it reads "
                f"{', '.join(names) or 'none'}"
            )
        named = {**given, **(values or {})}
        for name in names:
            if named.get(name) is None:
                raise ValueError(f"this model reads {what} {', '.join(names)}; {name} is not given")
        if names:
            views = [spread(name, named[name], shape) for name in names]
            return lambda some: np.stack([view[some] for view in views], axis=-1)
        array = np.zeros((*shape, 0), np.float32)
    else:
        array = spread(what, values, np.shape(values))
    if array.shape != (*shape, len(names)):
        raise ValueError(
            f"{what} must be {(*shape, len(names))} for {', '.join(names) or 'no names'}, "
            f"got {array.shape}"
        )
    return lambda some: array[some]
