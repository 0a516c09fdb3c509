"""Check windows passed as arrays: days, features and statics in the card's order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..tables.columns import FROM_DATE

#: Largest distance of a day from its origin: 27,000 years.
MOST_DAYS = 1e7


def filled(values: Any, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Numbers with NaN where they are missing: masked, or a data frame's own NA."""
    if np.ma.isMaskedArray(values):
        return np.asarray(np.ma.filled(values.astype(dtype), np.nan))
    if hasattr(values, "to_numpy") and hasattr(values, "isna"):  # pandas
        return np.asarray(values.to_numpy(dtype=dtype, na_value=np.nan))
    return np.asarray(values, dtype)


def days_given(
    days: ArrayLike | None, shape: tuple[int, int]
) -> tuple[dict[str, ArrayLike | None], NDArray[np.float64]]:
    """The features made from dates, and days as they are, (N, T) on any one origin."""
    if days is None:
        if shape[1] > 1:
            raise ValueError("days is needed: the day of each acquisition, (T,) or (N, T)")
        return {}, np.zeros(shape)
    value = np.asarray(days)
    if np.ma.isMaskedArray(days):
        value = (
            np.ma.filled(days, np.datetime64("NaT"))
            if value.dtype.kind == "M"
            else filled(days, np.float64)
        )
    made: dict[str, ArrayLike | None] = {}
    if value.dtype.kind == "M":
        made = {name: make(value) for name, make in FROM_DATE.items()}
        day = (value - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    else:
        day = value.astype(np.float64)
        known = np.abs(day[np.isfinite(day)])
        if known.size and known.min() > MOST_DAYS:
            raise ValueError(
                f"days from {known.min():g} on look like seconds; divide by 86,400, or give dates"
            )
    return made, np.broadcast_to(day, shape)


def blocks_given(
    values: ArrayLike | Mapping[str, ArrayLike] | None,
    names: tuple[str, ...],
    shape: tuple[int, ...],
    what: str,
    given: Mapping[str, ArrayLike | None],
) -> Callable[[slice], NDArray[np.float32]]:
    """Named or ordered features of a block of windows, (block, *shape[1:], len(names)).

    An array is handed on as it is; a mapping is put into the card's order.
    """
    if values is None or isinstance(values, Mapping):
        named = {**given, **(values or {})}
        for name in names:
            if named.get(name) is None:
                raise ValueError(f"this model reads {what} {', '.join(names)}; {name} is not given")
        if names:
            views = [np.broadcast_to(filled(named[name]), shape) for name in names]
            return lambda some: np.stack([view[some] for view in views], axis=-1)
        array = np.zeros((*shape, 0), np.float32)
    else:
        array = filled(values)
    if array.shape != (*shape, len(names)):
        raise ValueError(
            f"{what} must be {(*shape, len(names))} for {', '.join(names) or 'no names'}, "
            f"got {array.shape}"
        )
    return lambda some: array[some]
