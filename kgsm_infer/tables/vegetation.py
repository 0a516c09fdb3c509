"""Hold the vegetation of an earlier acquisition where clouds hid the crop.

    v(t) = v(t0),   t0 the site's last acquisition with a value, t - t0 <= a stated gap

Later acquisitions are never used, so a value does not change when the next image arrives. Rows are
marked, because a crop can change within the gap.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from .table import Table

#: Columns of vegetation that are held.
HELD_COLUMNS = ("ndvi", "vwc_kg_m2", "lai")


@dataclass(frozen=True)
class HeldVegetation:
    """A table with filled vegetation.  held: (R,) True where a value was filled."""

    table: Table
    held: NDArray[np.bool_]


@dataclass(frozen=True)
class HeldValues:
    """values: (R,) filled.  held: (R,) True where a value was filled."""

    values: NDArray[np.float64]
    held: NDArray[np.bool_]


def hold_values(
    value: NDArray[np.float64],
    day: NDArray[np.float64],
    first: NDArray[np.bool_],
    most_days: float,
) -> HeldValues:
    """Fill NaN from the last finite value of the place; infinite values do not take part.

    value, day: (R,) in order of place and time.  first: (R,) True at the first row of a place.

    >>> value, day = np.asarray([0.4, np.nan, np.nan]), np.asarray([0.0, 12.0, 36.0])
    >>> hold_values(value, day, np.asarray([True, False, False]), 30).values.tolist()
    [0.4, 0.4, nan]
    """
    place = np.arange(len(value))
    start = np.maximum.accumulate(np.where(first, place, 0))
    last = np.maximum.accumulate(np.where(np.isfinite(value), place, -1))
    age_days = day - day[np.maximum(last, 0)]
    fill = np.isnan(value) & (last >= start) & (age_days <= most_days)
    return HeldValues(np.where(fill, value[np.maximum(last, 0)], value), fill)


def held_columns(names: Collection[str], most_days: float) -> tuple[str, ...]:
    """Return the columns among ``names`` that are held; none where ``most_days`` is 0."""
    return tuple(name for name in HELD_COLUMNS if name in names and most_days > 0)


def hold_vegetation(
    table: Table, most_days: float, columns: Collection[str] = HELD_COLUMNS
) -> HeldVegetation:
    """Fill missing vegetation from the site's last acquisition that has it.

    most_days: largest age of a value that is used; 0 fills nothing.  columns: those to fill.
    """
    held = np.zeros(len(table), bool)
    numbers = dict(table.numbers)
    order = np.lexsort((table.day, table.site))
    first = np.r_[True, table.site[order][1:] != table.site[order][:-1]][: len(order)]
    for name in held_columns(columns, most_days):
        if name not in numbers or not len(order):
            continue
        value = np.asarray(numbers[name], np.float64)[order]
        filled = hold_values(value, table.day[order], first, most_days)
        column = np.empty(len(order))
        column[order] = filled.values
        numbers[name] = column
        held[order[filled.held]] = True
    return HeldVegetation(replace(table, numbers=numbers), held)
