"""Context columns of a table's rows.

:mod:`kgsm_infer.context.definitions` defines the columns and their equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.averaging import mean_of, sums_by_group
from ..tables.passes import pass_starts
from .definitions import (
    CONTEXT,
    ENOUGH,
    WHOLE_ARCHIVE,
    HistoryRule,
    SharedBy,
    first_given,
    too_few,
)
from .history import ContextValues, compare_with_past

if TYPE_CHECKING:
    from ..tables.table import Table


def compute_context(table: Table, name: str, rule: HistoryRule = WHOLE_ARCHIVE) -> ContextValues:
    """Compute context column ``name`` for every row.

    A row without a value of its own still gets the mean of the others. NaN with count 0 where
    no row has a value. DataError where the table lacks the base column or ``field``.
    """
    column = CONTEXT[name]
    match column.shared_by:
        case SharedBy.FIELD_PAST:
            field_db, _ = _read_or_compute(table, column.base, rule)
            return _compare(table, name, field_db, rule)
        case SharedBy.SITE_PAST:
            return _compare(table, name, _numbers(table, name), rule)
        case SharedBy.DEPARTURE:
            mean, count = _read_or_compute(table, column.base, rule)
            return ContextValues(_numbers(table, name) - mean, count)
        case SharedBy.FIELDS:
            return _mean_over_fields(table, name, rule)
        case SharedBy.FIELD | SharedBy.SCENE:
            return _mean(table, name, rule)


def _read_or_compute(table: Table, name: str, rule: HistoryRule) -> ContextValues:
    """Return a column of the table, or compute it if it is a context the table lacks."""
    if name in table.numbers or name not in CONTEXT:
        return ContextValues(_numbers(table, name), np.full(len(table), ENOUGH))
    return compute_context(table, name, rule)


def _numbers(table: Table, name: str) -> NDArray[np.float64]:
    """Return the observed column that ``name`` is computed from."""
    column = name if name in table.numbers else first_given(name, ())
    if column not in table.numbers:
        raise DataError(
            f"{table.source}: no column {column!r}, which the context of the model needs"
        )
    return np.asarray(table.numbers[column], np.float64)


def _mean(table: Table, name: str, rule: HistoryRule) -> ContextValues:
    column = CONTEXT[name]
    group = group_rows(table, column.shared_by)
    values, _ = _read_or_compute(table, column.base, rule)
    total, count = sums_by_group(column.base, values, group, int(group.max(initial=-1)) + 1)
    return ContextValues(np.asarray(mean_of(column.base, total, count))[group], count[group])


def _mean_over_fields(table: Table, name: str, rule: HistoryRule) -> ContextValues:
    """Average over the fields of each pass the mean of each field's rows.

    Every site is a field where the table has no column ``field``.
    """
    column = CONTEXT[name]
    if "field" not in table.text:
        table = replace(table, text={**table.text, "field": tuple(table.site.tolist())})
    values, _ = _read_or_compute(table, column.base, rule)
    scene, field = group_rows(table, SharedBy.FIELDS), group_rows(table, SharedBy.FIELD)
    scene_of_field = np.zeros(int(field.max(initial=-1)) + 1, np.int64)
    scene_of_field[field] = scene
    of_field = sums_by_group(column.base, values, field, len(scene_of_field))
    means = average_fields(column.base, *of_field, scene_of_field)
    return ContextValues(means.values[scene], means.rows[scene])


def average_fields(
    base: str,
    total: NDArray[np.float64],
    count: NDArray[np.int64],
    scene: NDArray[np.int64],
) -> ContextValues:
    """Average the means of F fields over each of their S scenes.

    total, count: (F,) of column ``base``, as :func:`sums_by_group` returns them.  scene: (F,)
    from 0. Returns the means (S,), NaN without a field, and the number of fields with a value.
    """
    means = np.asarray(mean_of(base, total, count), np.float64)
    totals, fields = sums_by_group(base, means, scene, int(scene.max(initial=-1)) + 1)
    return ContextValues(np.asarray(mean_of(base, totals, fields)), fields)


def _compare(
    table: Table, name: str, value_db: NDArray[np.float64], rule: HistoryRule
) -> ContextValues:
    """Compare each pass of a place with the place's other passes."""
    place = group_rows(table, CONTEXT[name].shared_by)
    return compare_with_past(name, value_db, place, pass_starts(table.date).astype(np.int64), rule)


def find_missing_context(
    table: Table, names: Sequence[str], rule: HistoryRule = WHOLE_ARCHIVE
) -> NDArray[np.bool_]:
    """Find the rows where a context among ``names`` is computed from too few rows, (R,)."""
    missing = np.zeros(len(table), bool)
    for name in names:
        if name in CONTEXT and name not in table.numbers:
            _, count = compute_context(table, name, rule)
            missing |= too_few(name, count)
    return missing


def group_rows(table: Table, shared_by: SharedBy) -> NDArray[np.int64]:
    """Number the groups of rows that share one value, from 0, (R,).

    A row without a field is a field of its own. With an ``orbit`` column, rows of two orbits
    share nothing. DataError where a field context has no ``field`` column.
    """
    keys: list[NDArray[Any]] = []
    if not shared_by.is_past:
        keys.append(pass_starts(table.date).astype(np.int64))
    if shared_by is SharedBy.SITE_PAST:
        keys.append(table.site)
    if shared_by in (SharedBy.FIELD, SharedBy.FIELD_PAST):
        if "field" not in table.text:
            raise DataError(
                f"{table.source}: no column 'field', which the model's field context needs; "
                "give it, or the context columns themselves"
            )
        fields = np.asarray(table.text["field"], np.str_)
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
