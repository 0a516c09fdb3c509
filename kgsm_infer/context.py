"""What a row takes from other rows: the mean of its field and of its scene on that date.

Speckle averages out over a field, and the scene's level on a date carries what all fields
share (rain, dew, the sensor). Backscatter is averaged in linear power, before any
logarithm or isolation; NDVI as it is.

    vh_field_db, vv_field_db, ndvi_field     mean over rows of one ``field`` and date
    vh_scene_db, vv_scene_db, ndvi_scene     mean over all rows of one date (and orbit)

A table that has such a column is believed, and so a gateway that sees one paddock at a
time, or a raster whose pixels are averaged elsewhere, brings its own. Otherwise the mean is
made of the rows at hand. Fewer of them than training had the habit of seeing are flagged
``context_missing``: the number is then made with a context that is not one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .wcm import DB_TO_NEPER

if TYPE_CHECKING:
    from .table import Table

#: Context column -> (the column it is the mean of, who shares it).
CONTEXT: Mapping[str, tuple[str, str]] = {
    "vh_field_db": ("vh_db", "field"),
    "vv_field_db": ("vv_db", "field"),
    "ndvi_field": ("ndvi", "field"),
    "vh_scene_db": ("vh_db", "scene"),
    "vv_scene_db": ("vv_db", "scene"),
    "ndvi_scene": ("ndvi", "scene"),
}

#: Rows with a value that make a context: two points of a field, ten of a scene.
ENOUGH: Mapping[str, int] = {"field": 2, "scene": 10}


def context_mean(table: Table, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A context column and how many rows each mean is of, both (R,).

    A row without a value of its own still gets the mean of the others. NaN, and 0 rows,
    where nobody has a value. DataError where the table lacks the column or ``field``.
    """
    column, who = CONTEXT[name]
    if column not in table.numbers:
        raise DataError(
            f"{table.source}: no column {column!r}, which the context {name} is made of"
        )
    shared = shared_code(table, who)
    value = table.numbers[column]
    there = np.isfinite(value)
    decibels = column.endswith("_db")
    with np.errstate(over="ignore"):
        power = np.exp(value * DB_TO_NEPER) if decibels else value
    count = np.bincount(shared, weights=there)
    total = np.bincount(shared, weights=np.where(there, power, 0.0))
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        mean = np.log(mean) / DB_TO_NEPER if decibels else mean
    return mean[shared], count[shared].astype(np.int64)


def context_missing(table: Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """(R,) True where a context among ``names`` was made of too few rows."""
    missing = np.zeros(len(table), bool)
    for name in names:
        if name in CONTEXT and name not in table.numbers:
            _, count = context_mean(table, name)
            missing |= count < ENOUGH[CONTEXT[name][1]]
    return missing


def shared_code(table: Table, who: str) -> NDArray[np.int64]:
    """(R,) a number for each group of rows that share a context."""
    keys = [table.date.astype("datetime64[D]").astype(str)]
    if who == "field":
        if "field" not in table.text:
            raise DataError(
                f"{table.source}: no column 'field', which the model's field context needs; "
                "give it, or the context columns themselves"
            )
        fields = np.asarray(table.text["field"], np.str_)
        # a row that names no field is a field of its own
        fields = np.where(fields == "", np.char.add("site ", table.site), fields)
        keys.append(fields)
    if "orbit" in table.text:
        keys.append(np.asarray(table.text["orbit"], np.str_))
    code = np.zeros(len(table), np.int64)
    for key in keys:
        code = np.unique(
            code * (len(key) + 1) + np.unique(key, return_inverse=True)[1], return_inverse=True
        )[1]
    return code
