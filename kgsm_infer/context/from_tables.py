"""Context columns of a table's rows.

:mod:`kgsm_infer.context.definitions` defines the columns and their equations.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.averaging import mean_of, sums_by_group
from ..tables.passes import pass_starts
from ..tables.text_column import first_rows
from .definitions import (
    CONTEXT,
    ENOUGH,
    WHOLE_ARCHIVE,
    HistoryRule,
    SharedBy,
    first_available,
    too_few,
)
from .history import ContextValues, PassRows, compare_with_past

if TYPE_CHECKING:
    from ..tables.table import Table


class TableContext:
    """Context columns of one table; each column, group and pass is computed once.

    rule: how a place is compared with its past.
    """

    def __init__(self, table: Table, rule: HistoryRule = WHOLE_ARCHIVE) -> None:
        self._table, self._rule = table, rule
        self._columns: dict[str, ContextValues] = {}
        self._groups: dict[SharedBy, NDArray[np.int64]] = {}

    def column(self, name: str) -> ContextValues:
        """Return context column ``name`` of every row.

        A row whose own value is missing gets the mean of the others. NaN with 0 rows where
        no row has a value. DataError where the table lacks the base column or ``field``.
        """
        if name not in self._columns:
            self._columns[name] = self._compute(name)
        return self._columns[name]

    def missing(self, names: Sequence[str]) -> NDArray[np.bool_]:
        """Find the rows where a context among ``names`` is computed from too few rows, (R,)."""
        missing = np.zeros(len(self._table), bool)
        for name in names:
            if name in CONTEXT and name not in self._table.numbers:
                missing |= too_few(name, self.column(name).rows)
        return missing

    def groups(self, shared_by: SharedBy) -> NDArray[np.int64]:
        """Number the groups of rows that share one value, from 0, (R,).

        Each row without a field is a separate field. With an ``orbit`` column, rows of two orbits
        share nothing. DataError where a field context has no ``field`` column.
        """
        if shared_by not in self._groups:
            keys = [] if shared_by.is_past else [self._pass]
            if shared_by is SharedBy.SITE_PAST:
                keys.append(self._table.codes("site"))
            if shared_by in (SharedBy.FIELD, SharedBy.FIELD_PAST):
                keys.append(self._fields())
            if "orbit" in self._table.text:
                keys.append(self._table.codes("orbit"))
            self._groups[shared_by] = _combine(keys)
        return self._groups[shared_by]

    @cached_property
    def _start(self) -> NDArray[np.int64]:
        """Start of each row's pass, seconds since 1970, (R,)."""
        return pass_starts(self._table.date).astype(np.int64)

    @cached_property
    def _pass(self) -> NDArray[np.int64]:
        """Number of each row's pass, from 0, (R,)."""
        return np.unique(self._start, return_inverse=True)[1].astype(np.int64)

    def _fields(self) -> NDArray[np.int64]:
        """Number the fields, from 0, (R,)."""
        table = self._table
        if "field" not in table.text:
            raise DataError(
                f"{table.source}: no column 'field', which the model's field context needs; "
                "give it, or the context columns themselves"
            )
        code, site = table.codes("field"), table.codes("site")
        cells = table.text["field"]
        first = first_rows(code)
        empty = np.asarray([not cells[int(row)] for row in first], bool)[code]
        return np.where(empty, len(first) + site, code) if empty.any() else code

    def _compute(self, name: str) -> ContextValues:
        column = CONTEXT[name]
        match column.shared_by:
            case SharedBy.FIELD_PAST:
                return self._compare(name, self._read_or_compute(column.base).values)
            case SharedBy.SITE_PAST:
                return self._compare(name, self._numbers(name))
            case SharedBy.DEPARTURE:
                mean, rows = self._read_or_compute(column.base)
                return ContextValues(self._numbers(name) - mean, rows)
            case SharedBy.FIELDS:
                return self._mean_over_fields(name)
            case SharedBy.FIELD | SharedBy.SCENE:
                return self._mean(name)

    def _read_or_compute(self, name: str) -> ContextValues:
        """Return a column of the table, or compute it if it is a context the table lacks."""
        if name in self._table.numbers or name not in CONTEXT:
            return ContextValues(self._numbers(name), np.full(len(self._table), ENOUGH))
        return self.column(name)

    def _numbers(self, name: str) -> NDArray[np.float64]:
        """Return the observed column that ``name`` is computed from."""
        table = self._table
        column = name if name in table.numbers else first_available(name, ())
        if column not in table.numbers:
            raise DataError(
                f"{table.source}: no column {column!r}, which the context of the model needs"
            )
        return np.asarray(table.numbers[column], np.float64)

    def _mean(self, name: str) -> ContextValues:
        base, group = CONTEXT[name].base, self.groups(CONTEXT[name].shared_by)
        values = self._read_or_compute(base).values
        total, count = sums_by_group(base, values, group, int(group.max(initial=-1)) + 1)
        return ContextValues(np.asarray(mean_of(base, total, count))[group], count[group])

    def _mean_over_fields(self, name: str) -> ContextValues:
        """Average over the fields of each pass the mean of each field's rows.

        Every site is a field where the table has no column ``field``.
        """
        base, scene = CONTEXT[name].base, self.groups(SharedBy.FIELDS)
        if "field" in self._table.text:
            field = self.groups(SharedBy.FIELD)
        else:
            field = _combine([scene, self._table.codes("site")])
        values = self._read_or_compute(base).values
        scene_of_field = np.zeros(int(field.max(initial=-1)) + 1, np.int64)
        scene_of_field[field] = scene
        of_field = sums_by_group(base, values, field, len(scene_of_field))
        means = average_fields(base, *of_field, scene_of_field)
        return ContextValues(means.values[scene], means.rows[scene])

    def _compare(self, name: str, value_db: NDArray[np.float64]) -> ContextValues:
        """Compare each pass of a place with the place's other passes."""
        place = self.groups(CONTEXT[name].shared_by)
        return compare_with_past(name, PassRows(place, self._start, value_db), self._rule)


def compute_context(table: Table, name: str, rule: HistoryRule = WHOLE_ARCHIVE) -> ContextValues:
    """Compute one context column of a table; as :meth:`TableContext.column`."""
    return TableContext(table, rule).column(name)


def group_rows(table: Table, shared_by: SharedBy) -> NDArray[np.int64]:
    """Number the groups of rows that share one value; as :meth:`TableContext.groups`."""
    return TableContext(table).groups(shared_by)


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


def _combine(keys: Sequence[NDArray[np.int64]]) -> NDArray[np.int64]:
    """Number the distinct combinations of keys from 0, (R,); each key counts from 0."""
    code, *others = keys
    for key in others:
        code = code * (int(key.max(initial=0)) + 1) + key
        code = np.unique(code, return_inverse=True)[1].astype(np.int64)
    return code
