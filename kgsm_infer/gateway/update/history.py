"""Context columns of a paddock from the store's acquisitions.

A paddock is compared with its acquisitions up to the target, of one orbit. Those in the store
are counted one by one; pruned ones are summed in a
:class:`~kgsm_infer.context.history.PlaceState`.
A context column in a row overrides the computed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from ...context.definitions import CONTEXT, HistoryRule, SharedBy, needed, too_few
from ...context.from_tables import compute_context
from ...context.history import ContextValues, PassRows, compare_with_past
from ...tables.passes import pass_starts
from ...tables.table import Table
from .past import StoredInputs, history_of


def with_context(
    table: Table, inputs: StoredInputs, names: Sequence[str], rule: HistoryRule
) -> tuple[Table, NDArray[np.bool_]]:
    """Add the context columns among ``names``; also return (R,) True for too few rows.

    table: of the rows of ``inputs``, in their order, without context columns.  rule: of the card;
    its span is taken as ``past``.
    """
    rows, rule = inputs.rows, replace(rule, span="past")
    thin = np.zeros(len(rows), bool)
    means = np.asarray([row.means for row in rows], bool)
    for name in needed(names, lambda _: False):
        shared_by = CONTEXT[name].shared_by
        if shared_by.is_past:
            value_db = np.asarray(table.numbers[CONTEXT[name].base], np.float64)
            values, count = compared_with_past(name, inputs, value_db, rule)
            few = too_few(name, count)
        else:
            values, count = compute_context(table, name, rule)
            few = too_few(name, count)
            if shared_by is SharedBy.FIELD:
                few = few & ~(means & (count > 0))  # a mean of its pixels is made of many
        brought = np.asarray([row.numbers.get(name, np.nan) for row in rows], np.float64)
        believed = np.isfinite(brought)
        made = {**table.numbers, name: np.where(believed, brought, values)}
        table = replace(table, numbers=made)
        if name in names:
            thin |= few & ~believed
    return table, thin


def compared_with_past(
    name: str, inputs: StoredInputs, value_db: NDArray[np.float64], rule: HistoryRule
) -> ContextValues:
    """Compute context ``name`` of each row against the past of its place, (R,).

    value_db: (R,).  The place is the paddock, whose mean all its rows share, or the row's site.
    """
    places: dict[tuple[str, ...], int] = {}
    whole = CONTEXT[name].shared_by is SharedBy.FIELD_PAST
    key_of = attrgetter("paddock", "orbit") if whole else attrgetter("paddock", "orbit", "site")
    place = np.asarray([places.setdefault(key, len(places)) for key in map(key_of, inputs.rows)])
    column = f"{name[:2]}_db"
    history = history_of(
        inputs.bases, [(key[0], key[1], "".join(key[2:]), column) for key in places]
    )
    acquired = np.asarray([row.acquired for row in inputs.rows]).astype("datetime64[s]")
    order = pass_starts(acquired).astype(np.int64)
    compared = PassRows(place, order, value_db)
    return compare_with_past(name, compared, rule, start=history)
