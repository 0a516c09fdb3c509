"""The contexts of a table's rows: who shares what, and the columns made of it.

What each context is, and the arithmetic, stand in :mod:`kgsm_infer.context.definitions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.averaging import mean_of, sums_by_group
from .definitions import CONTEXT, ENOUGH, WHOLE_ARCHIVE, HistoryRule, first_given, too_few
from .history import history_of

if TYPE_CHECKING:
    from ..tables.table import Table


def context_of(
    table: Table, name: str, rule: HistoryRule = WHOLE_ARCHIVE
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A context column, and how many rows (of a history: dates) it is made of, both (R,).

    A row without a value of its own still gets the mean of the others. NaN, and 0 rows,
    where nobody has a value. DataError where the table lacks the column or ``field``.
    """
    column, who = CONTEXT[name]
    if who == "history":
        return _over_history(table, name, rule)
    if who == "place":
        day = table.date.astype("datetime64[s]").astype(np.int64)
        return history_of(name, _numbers(table, name), shared_code(table, "place"), day, rule)
    if who == "departure":
        mean, count = _given_or_made(table, column, rule)
        return _numbers(table, name) - mean, count
    return _mean(table, name, rule)


def _given_or_made(
    table: Table, name: str, rule: HistoryRule
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A column that may itself be a context: believed where the table has it."""
    if name in table.numbers or name not in CONTEXT:
        return _numbers(table, name), np.full(len(table), max(ENOUGH.values()))
    return context_of(table, name, rule)


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """The plain column of a table that ``name`` is made of in the end."""
    column = name if name in table.numbers else first_given(name, ())
    if column not in table.numbers:
        raise DataError(
            f"{table.source}: no column {column!r}, which the context {name} is made of"
        )
    return np.asarray(table.numbers[column], np.float64)


def _mean(
    table: Table, name: str, rule: HistoryRule
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    column, who = CONTEXT[name]
    shared = shared_code(table, who)
    values, _ = _given_or_made(table, column, rule)
    total, count = sums_by_group(column, values, shared, int(shared.max(initial=-1)) + 1)
    return np.asarray(mean_of(column, total, count))[shared], count[shared]


def _over_history(
    table: Table, name: str, rule: HistoryRule
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Backscatter of the field over its usual (mean power) or its driest date, dB."""
    field_db, _ = _given_or_made(table, CONTEXT[name][0], rule)
    # one value a date, however many points a field has
    _, first, date = np.unique(shared_code(table, "field"), return_index=True, return_inverse=True)
    place, day = shared_code(table, "history"), table.date.astype("datetime64[D]")
    over_db, count = history_of(
        name, field_db[first], place[first], day[first].astype(np.int64), rule
    )
    return over_db[date], count[date]


def context_missing(
    table: Table, names: Sequence[str], rule: HistoryRule = WHOLE_ARCHIVE
) -> NDArray[np.bool_]:
    """(R,) True where a context among ``names`` was made of too few rows."""
    missing = np.zeros(len(table), bool)
    for name in names:
        if name in CONTEXT and name not in table.numbers:
            _, count = context_of(table, name, rule)
            missing |= too_few(name, count)
    return missing


def shared_code(table: Table, who: str) -> NDArray[np.int64]:
    """(R,) a number for each group of rows of one ``field`` and date, ``scene``, ``history``
    (a field on all dates) or ``place`` (a site on all dates)."""
    keys = []
    if who in ("field", "scene"):
        keys.append(table.date.astype("datetime64[D]").astype(str))
    if who == "place":
        keys.append(table.site)
    if who in ("field", "history"):
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
