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

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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


def first_given(name: str, names: Container[str]) -> str:
    """The column a context is made of that is at hand, or the plain one it comes from.

    >>> first_given("vh_over_usual_db", ["vh_field_db"]), first_given("vh_over_usual_db", [])
    ('vh_field_db', 'vh_db')
    """
    while name in CONTEXT and name not in names:
        name = CONTEXT[name][0]
    return name


def to_power(name: str, values: Any) -> Any:
    """What may be averaged of a column: linear power of dB, other values as they are.

    values: float64, an array or what NumPy's functions know (xarray).
    """
    with np.errstate(over="ignore"):
        return np.exp(values * DB_TO_NEPER) if name.endswith("_db") else values


def sums_by_group(
    name: str, values: NDArray[np.float64], group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count over the (N,) values of each group that are numbers, both (groups,).

    name: of the column.  group: (N,) from 0; values of group -1 belong to none. Sums of
    parts may be added up before :func:`mean_of`.
    """
    there = np.isfinite(values) & (group >= 0)
    among = group[there]
    total = np.bincount(among, to_power(name, values[there]), groups)
    return np.asarray(total, np.float64), np.bincount(among, minlength=groups)


def mean_of(name: str, total: Any, count: Any) -> Any:
    """The mean of a column, in its own unit; NaN of nothing.

    total: sum of :func:`to_power` over ``count`` values, both arrays as there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return np.log(mean) / DB_TO_NEPER if name.endswith("_db") else mean


@dataclass(frozen=True)
class History:
    """What P fields have shown up to a date, one value a date; changed in place by ``add``.

    power: (P,) sum of linear power.  driest_db, wettest_db: (P,) lowest and highest
    backscatter, dB, infinite while there is none.  count: (P,) of how many dates.
    """

    power: NDArray[np.float64]
    driest_db: NDArray[np.float64]
    wettest_db: NDArray[np.float64]
    count: NDArray[np.int64]

    @classmethod
    def empty(cls, places: int) -> History:
        """Fields of which nothing is known yet."""
        infinite = np.full(places, np.inf)
        return cls(np.zeros(places), infinite, -infinite, np.zeros(places, np.int64))

    def add(self, value_db: NDArray[np.float64], place: Any = slice(None)) -> None:
        """The backscatter of one more date; NaN says nothing.

        value_db: of the fields ``place`` (N,), each once, or of all (P,).
        """
        there = np.isfinite(value_db)
        known_db = np.where(there, value_db, np.nan)
        self.power[place] += np.where(there, to_power("vh_db", known_db), 0.0)
        self.driest_db[place] = np.fmin(self.driest_db[place], known_db)
        self.wettest_db[place] = np.fmax(self.wettest_db[place], known_db)
        self.count[place] += there

    def reference_db(self, name: str, place: Any = slice(None)) -> NDArray[np.float64]:
        """What context ``name`` compares with: the usual (mean power) or driest state; NaN
        while nothing is known. Of the fields ``place``, or of all."""
        count = self.count[place]
        if name.endswith("over_driest_db"):
            reference_db = self.driest_db[place]
        else:
            reference_db = mean_of(name, self.power[place], count)
        return np.where(count > 0, reference_db, np.nan)


def history_of(
    name: str,
    value_db: NDArray[np.float64],
    place: NDArray[np.int64],
    order: NDArray[np.int64],
    *,
    past_only: bool = False,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """The reference of context ``name`` and how many dates it is made of, both (N,).

    value_db: (N,) of fields ``place`` (from 0), each once a date.  order: (N,) of the dates.
    past_only: of the dates up to each value's own; otherwise of all dates, later ones too.

    >>> value_db, place = np.asarray([-20.0, -22.0, -21.0]), np.zeros(3, np.int64)
    >>> order = np.arange(3)
    >>> history_of("vh_over_driest_db", value_db, place, order, past_only=True)[0].tolist()
    [-20.0, -22.0, -22.0]
    """
    history = History.empty(int(place.max(initial=-1)) + 1)
    reference_db = np.empty(len(value_db))
    count = np.empty(len(value_db), np.int64)
    by_date = np.argsort(order, kind="stable")
    for one_date in np.split(by_date, np.flatnonzero(np.diff(order[by_date])) + 1):
        history.add(value_db[one_date], place[one_date])
        if past_only:
            reference_db[one_date] = history.reference_db(name, place[one_date])
            count[one_date] = history.count[place[one_date]]
    if past_only:
        return reference_db, count
    return history.reference_db(name, place), history.count[place]


def too_few(name: str, count: Any) -> Any:
    """Where a context of ``count`` rows (of a history: dates) is none."""
    return count < ENOUGH[CONTEXT[name][1]]


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
    total, count = sums_by_group(
        column, table.numbers[column], shared, int(shared.max(initial=-1)) + 1
    )
    return np.asarray(mean_of(column, total, count))[shared], count[shared]


def _over_history(table: Table, name: str) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Backscatter of the field over its usual (mean power) or its driest date, dB."""
    field_column = CONTEXT[name][0]
    if field_column in table.numbers:
        field_db = np.asarray(table.numbers[field_column], np.float64)
    else:
        field_db, _ = _mean(table, field_column)
    # one value a date, however many points a field has
    _, first, date = np.unique(shared_code(table, "field"), return_index=True, return_inverse=True)
    place, day = shared_code(table, "history"), table.date.astype("datetime64[D]")
    reference_db, count = history_of(
        name, field_db[first], place[first], day[first].astype(np.int64)
    )
    return field_db - reference_db[date], count[date]


def context_missing(table: Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """(R,) True where a context among ``names`` was made of too few rows."""
    missing = np.zeros(len(table), bool)
    for name in names:
        if name in CONTEXT and name not in table.numbers:
            _, count = context_of(table, name)
            missing |= too_few(name, count)
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
