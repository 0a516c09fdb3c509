"""Read the rows of a table, and the rows that a scene was reduced to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import DataError
from ...tables.columns import FROZEN_BY, RULES
from ...tables.dates import is_future
from ...tables.keys import canonical_name
from ...tables.reading import read_sheet
from ...tables.table import Table, table_from_columns
from ..farm import Paddocks
from ..store.rows import SIMULATED, Observed

#: Columns that are never inputs, whatever they hold.
_NAMES = ("site", "date", "field", "orbit")


@dataclass(frozen=True)
class TableRules:
    """Rules for reading tables.

    columns: contract name -> name in the file.  needed: columns that the model reads.
    statics: columns that outlines may provide.  contradictions: what to do with rows of one
    acquisition that differ (:func:`kgsm_infer.tables.table.read_table`, ``keep``).
    """

    paddocks: Paddocks
    columns: Mapping[str, str]
    needed: Sequence[str] = ()
    statics: Sequence[str] = ()
    contradictions: str = "empty"


@dataclass(frozen=True)
class FileRows:
    """Rows of a file. left_out: paddocks in it that do not belong to the farm.

    notes: rows that were merged.  refused: rows that were left out, each with the reason.
    """

    rows: tuple[Observed, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def times(self) -> list[int]:
        """The acquisition times, oldest first."""
        return sorted({row.acquired for row in self.rows})


def rows_of_table(path: Path, source: str, rules: TableRules, now: int | None = None) -> FileRows:
    """Read the rows of a table file; DataError names file, row, column and value.

    A table with a ``field`` column holds points of its paddocks; without one each row is its
    paddock's mean. A static the table lacks is taken from the outline's properties.
    now: time of the date guard, seconds since 1970; None: the clock.
    """
    sheet = read_sheet(path)
    return rows_of_columns(sheet.columns, source, rules, now, sheet.row_number)


def rows_of_columns(
    cells: Mapping[str, Any],
    source: str,
    rules: TableRules,
    now: int | None = None,
    row_number: Any = None,
) -> FileRows:
    """Read rows from columns in memory; as :func:`rows_of_table`."""
    cells = _renamed(cells, rules.columns, source)
    extra = [
        name
        for name, values in cells.items()
        if name not in _NAMES and name not in RULES and _all_numbers(values)
    ]
    table = table_from_columns(
        cells,
        source,
        features=extra,
        keep=rules.contradictions,
        option="contradictions =",  # a key of gateway.toml
        row_number=row_number,
        reads=(*rules.needed, *rules.statics, *FROZEN_BY) if rules.needed else None,
    )
    table, refused = without_future(table, now)
    named = _paddock_of_rows(table)
    paddocks, properties = rules.paddocks, rules.paddocks.properties
    outside = tuple(sorted({name for name in named if not paddocks.known(name)}))
    if len(outside) == len(set(named)):
        raise DataError(
            f"{source}: none of its paddocks ({', '.join(outside[:3])}) is in "
            f"{paddocks.outlines.source if paddocks.outlines else 'the farm'}"
        )
    have = set(table.numbers) | {
        name
        for name in rules.statics
        if all(name in own for own in properties.values()) and properties
    }
    for name in rules.needed:
        if name not in have:
            raise DataError(
                f"{source}: no column {name!r}, which the model reads; it has "
                f"{', '.join(table.numbers)}"
            )
    orbit = table.text.get("orbit", ("",) * len(table))
    means = "field" not in table.text
    rows = []
    seconds = table.date.astype(np.int64)
    # an outlier is infinite, and flagged so (kgsm_infer.tables.parsing)
    there = {name: ~np.isnan(values) for name, values in table.numbers.items()}
    for at, paddock in enumerate(named):
        if not paddocks.known(paddock):
            continue
        numbers = {
            name: float(values[at]) for name, values in table.numbers.items() if there[name][at]
        }
        for name in rules.statics:
            given = properties.get(paddock, {}).get(name)
            if name not in numbers and isinstance(given, (int, float)) and math.isfinite(given):
                numbers[name] = float(given)
        if table.simulated:
            numbers[SIMULATED] = 1.0
        key = (paddock, int(seconds[at]), orbit[at], str(table.site[at]))
        rows.append(Observed(*key, means, numbers, table.contradicts.get(at, "")))
    return FileRows(tuple(rows), outside, table.notes, refused)


def without_future(table: Table, now: int | None) -> tuple[Table, tuple[str, ...]]:
    """Leave out rows later than tomorrow, each with a reason; DataError if none is left."""
    when = None if now is None else np.datetime64(now, "s")
    future = is_future(table.date, now=when)
    if not future.any():
        return table, ()
    reasons = [
        f"{table.source}: row {table.row(int(at))}, column date: {table.date_text[int(at)]}: is "
        "later than tomorrow; correct the date and drop the file again"
        for at in np.flatnonzero(future)
    ]
    if future.all():
        raise DataError(f"{reasons[0]} (as every row of it)")
    return table.select(np.flatnonzero(~future)), tuple(reasons)


def table_columns(rows: Sequence[Observed]) -> dict[str, Any]:
    """Return rows as the columns of a table; the archive holds a scene in this form."""
    names = sorted({name for row in rows for name in row.numbers})
    found: dict[str, Any] = {
        "site": [row.site for row in rows],
        "date": np.datetime_as_string(
            np.asarray([row.acquired for row in rows]).astype("datetime64[s]"), timezone="UTC"
        ).tolist(),
    }
    for name in names:
        found[name] = np.asarray([row.numbers.get(name, np.nan) for row in rows])
    return found


def _paddock_of_rows(table: Table) -> list[str]:
    cells = table.text.get("field")
    if cells is None:
        return [str(name) for name in table.site]
    return [cell or str(name) for cell, name in zip(cells, table.site, strict=True)]


def _renamed(cells: Mapping[str, Any], columns: Mapping[str, str], source: str) -> dict[str, Any]:
    found = dict(cells)
    for ours, written in columns.items():
        theirs = canonical_name(written)
        if theirs not in found:
            continue  # a table that follows the contract already
        if ours in found and ours != theirs:
            raise DataError(
                f"{source}: has both {ours!r} and {theirs!r}, and [columns] renames {theirs!r} to "
                f"{ours!r}; remove one"
            )
        found[ours] = found.pop(theirs)
    return found


def _all_numbers(values: Any) -> bool:
    """Return True if a column beyond the contract holds numbers, so that it may be an input."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiu"
    there = [str(item).strip() for item in values if str(item).strip()]
    try:
        return bool(there) and all(math.isfinite(float(item)) for item in there)
    except ValueError:
        return False
