"""Values of paddocks from a table of points, pixels or paddocks that name their paddock."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..maps.options import LAST_ACQUISITION, RetrievalOptions
from ..scenes.outlines import Outlines, Reason
from ..tables.dates import find_acquisition
from ..tables.keys import canonical_id, canonical_name
from ..tables.passes import pass_starts
from ..tables.table import Table
from .summary import MIN_VALID, Members, Paddock, PaddockDate, summarise, without_number

if TYPE_CHECKING:
    from ..model.model import Model


def paddocks_of_table(
    model: Model,
    table: Table,
    outlines: Outlines,
    options: RetrievalOptions = LAST_ACQUISITION,
    *,
    column: str | None = None,
    min_valid: float = MIN_VALID,
) -> list[Paddock]:
    """Return one line per paddock (and date) of a table of points, pixels or paddocks.

    options: the last acquisition is each paddock's. Rows of the future count as any other; see
        :func:`kgsm_infer.tables.table.leave_out_future`.
    column: the table's column that holds the outlines' ids; by default ``field``, or
        ``site`` without it. Rows count alike.
    DataError where no row belongs to any paddock.
    """
    names = _join_column(table, column)
    known = set(outlines.ids)
    if not known & set(names.tolist()):
        raise DataError(
            f"{table.source}: none of its {column or 'field or site'} values "
            f"({', '.join(sorted(set(names.tolist()))[:3])}, ...) is a paddock of "
            f"{outlines.source} ({', '.join(outlines.ids[:3])}, ...); say which property with --id "
            "and which column with --column"
        )
    result = model.predict(table, hold_vegetation_days=options.hold_vegetation_days)
    rows_of = _by_name(names)
    found = []
    start, date = pass_starts(table.date), options.date
    for name in outlines.ids:
        rows = rows_of.get(name, np.empty(0, np.int64))
        times = start[rows]
        if date is not None:
            rows = rows[times == find_acquisition(date, times, f"{table.source}: paddock {name}")]
            times = start[rows]
        if not len(rows):
            reason = Reason("no rows in the table" if date is None else f"no rows of {date}")
            found.append(
                without_number(PaddockDate(name, date or ""), reason, model.card.retrieves)
            )
            continue
        days = np.unique(times) if options.every else [times.max()]
        for day in days:
            there = rows[times == day]
            line = summarise(
                PaddockDate(name, table.date_text[there[0]]),
                Members.of_rows(result.take(there)),
                model.card,
                min_valid,
            )
            why = [table.contradicts[int(row)] for row in there if int(row) in table.contradicts]
            found.append(_contradicting(line, why[0]) if line.reason and why else line)
    return found


def _contradicting(line: Paddock, why: str) -> Paddock:
    return replace(line, reason=why, cause="its rows contradict each other")


def rows_without_outline(table: Table, outlines: Outlines, column: str | None = None) -> str:
    """Return a note about rows whose paddock no outline names, or ""."""
    rows_of = _by_name(_join_column(table, column))
    known = set(outlines.ids)
    strange = {name: len(rows) for name, rows in rows_of.items() if name not in known}
    if not strange:
        return ""
    first = ", ".join(list(strange)[:3]) + (", ..." if len(strange) > 3 else "")
    return (
        f"{table.source}: {sum(strange.values())} rows of {len(strange)} paddocks that no outline "
        f"of {outlines.source} names ({first}) were left out"
    )


def _by_name(names: NDArray[np.str_]) -> dict[str, NDArray[np.int64]]:
    """Return the rows of each name, ascending."""
    order = np.argsort(names, kind="stable")
    distinct, starts = np.unique(names[order], return_index=True)
    return dict(zip(distinct.tolist(), np.split(order, starts[1:]), strict=True))


def _join_column(table: Table, column: str | None) -> NDArray[np.str_]:
    if column is None:
        column = "field" if "field" in table.text or "field" in table.numbers else "site"
    column = canonical_name(column)
    cells: Sequence[Any]
    if column == "site":
        cells = table.site.tolist()
    elif column in table.text:
        cells = table.text[column]
    elif column in table.numbers:
        cells = table.numbers[column].tolist()
    else:
        have = ", ".join(["site", *table.text, *table.numbers])
        raise UsageError(f"{table.source}: no column {column!r}; it has {have}")
    names = {cell: canonical_id(cell) for cell in set(cells)}
    return np.asarray([names[cell] for cell in cells], np.str_)
