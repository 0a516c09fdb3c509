"""What a row takes from other rows: its field and its scene on that date, and its past.

Speckle averages out over a field, and the scene's level on a date carries what all fields
share (rain, dew, the sensor). A field's own usual and driest state take out what does not
change there (roughness, rows, slope), as in change detection. Backscatter is averaged in
linear power, before any logarithm or isolation; NDVI as it is.

    vh_field_db, vv_field_db, ndvi_field     mean over rows of one ``field`` and date
    vh_scene_db, vv_scene_db, ndvi_scene     mean over all rows of one date (and orbit)
    vh_over_usual_db, vv_over_usual_db       vh_field_db over its mean over all dates, dB
    vh_over_driest_db, vv_over_driest_db     vh_field_db over its lowest of all dates, dB

All dates are those of the table, later ones too: to be used as in training, give the
archive of a field with its newest acquisition.

A table that has such a column is believed, and so a gateway that sees one paddock at a
time, or a raster whose pixels are averaged elsewhere, brings its own. Otherwise the context
is made of the rows at hand. Fewer of them than training had the habit of seeing are flagged
``context_missing``: the number is then made with a context that is not one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .kernels.wcm import DB_TO_NEPER

if TYPE_CHECKING:
    from .table import Table

#: Context column -> (the column it is made of, who shares it).
CONTEXT: Mapping[str, tuple[str, str]] = {
    "vh_field_db": ("vh_db", "field"),
    "vv_field_db": ("vv_db", "field"),
    "ndvi_field": ("ndvi", "field"),
    "vh_scene_db": ("vh_db", "scene"),
    "vv_scene_db": ("vv_db", "scene"),
    "ndvi_scene": ("ndvi", "scene"),
    "vh_over_usual_db": ("vh_field_db", "history"),
    "vv_over_usual_db": ("vv_field_db", "history"),
    "vh_over_driest_db": ("vh_field_db", "history"),
    "vv_over_driest_db": ("vv_field_db", "history"),
}

#: What makes a context: two points of a field, ten of a scene, five dates of a history.
ENOUGH: Mapping[str, int] = {"field": 2, "scene": 10, "history": 5}


def context_of(table: Table, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A context column, and how many rows (of a history: dates) it is made of, both (R,).

    A row without a value of its own still gets the mean of the others. NaN, and 0 rows,
    where nobody has a value. DataError where the table lacks the column or ``field``.
    """
    return _over_history(table, name) if CONTEXT[name][1] == "history" else _mean(table, name)


def _mean(table: Table, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
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


def _over_history(table: Table, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Backscatter of the field over its usual (mean power) or its driest date, dB."""
    field_column = CONTEXT[name][0]
    if field_column in table.numbers:
        field_db = np.asarray(table.numbers[field_column], np.float64)
    else:
        field_db, _ = _mean(table, field_column)
    place = shared_code(table, "history")
    # one value a date, however many points a field has
    _, first = np.unique(np.stack([place, shared_code(table, "field")]), axis=1, return_index=True)
    first = first[np.isfinite(field_db[first])]
    count = np.bincount(place[first], minlength=place.max(initial=0) + 1)
    if name.endswith("over_driest_db"):
        reference_db = np.full(len(count), np.inf)
        np.minimum.at(reference_db, place[first], field_db[first])
    else:
        total = np.bincount(place[first], np.exp(field_db[first] * DB_TO_NEPER), len(count))
        with np.errstate(invalid="ignore", divide="ignore"):
            reference_db = np.log(total / count) / DB_TO_NEPER
    reference_db = np.where(count > 0, reference_db, np.nan)
    return field_db - reference_db[place], count[place].astype(np.int64)


def context_missing(table: Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """(R,) True where a context among ``names`` was made of too few rows."""
    missing = np.zeros(len(table), bool)
    for name in names:
        if name in CONTEXT and name not in table.numbers:
            _, count = context_of(table, name)
            missing |= count < ENOUGH[CONTEXT[name][1]]
    return missing


def shared_code(table: Table, who: str) -> NDArray[np.int64]:
    """(R,) a number for each group of rows that share a ``field``, ``scene`` or ``history``."""
    keys = []
    if who != "history":
        keys.append(table.date.astype("datetime64[D]").astype(str))
    if who != "scene":
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
