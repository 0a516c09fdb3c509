"""Hold the vegetation of an earlier acquisition where clouds hid the crop.

    v(t) = v(t0),   t0 the site's last acquisition with a value, t - t0 <= a stated gap

Later acquisitions are never used, so a value does not change when the next image arrives. Rows are
marked, because a crop can change within the gap.
"""

from __future__ import annotations

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


def hold_vegetation(table: Table, most_days: float) -> HeldVegetation:
    """Fill missing vegetation from the site's last acquisition that has it.

    most_days: largest age of a value that is used; 0 fills nothing.
    """
    held = np.zeros(len(table), bool)
    numbers = dict(table.numbers)
    order = np.lexsort((table.day, table.site))
    first = np.r_[True, table.site[order][1:] != table.site[order][:-1]][: len(order)]
    place = np.arange(len(order))
    start = np.maximum.accumulate(np.where(first, place, 0))
    for name in HELD_COLUMNS:
        if name not in numbers or most_days <= 0 or not len(order):
            continue
        value = np.asarray(numbers[name], np.float64)[order]
        known = np.isfinite(value)
        last = np.maximum.accumulate(np.where(known, place, -1))
        age_days = table.day[order] - table.day[order][np.maximum(last, 0)]
        fill = np.isnan(value) & (last >= start) & (age_days <= most_days)
        column = np.empty(len(order))
        column[order] = np.where(fill, value[np.maximum(last, 0)], value)
        numbers[name] = column
        held[order[fill]] = True
    return HeldVegetation(replace(table, numbers=numbers), held)
