"""A file of the spool becomes rows: tables as they are, scenes as the means of their paddocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import DataError
from ...tables.columns import FROZEN_BY, RULES
from ...tables.reading import read_sheet
from ...tables.table import Table, table_from_columns
from ..farm import Paddocks
from ..store.rows import Observed

#: Columns that are never inputs, whatever they hold.
_NAMES = ("site", "date", "field", "orbit")


@dataclass(frozen=True)
class FileRows:
    """What a file holds. left_out: paddocks it names that are not the farm's.

    notes: what was made of rows that stand for one acquisition.
    """

    rows: tuple[Observed, ...]
    left_out: tuple[str, ...]
    notes: tuple[str, ...] = ()

    @property
    def times(self) -> list[int]:
        """The acquisitions in it, oldest first."""
        return sorted({row.acquired for row in self.rows})


def rows_of_table(
    path: Path,
    source: str,
    paddocks: Paddocks,
    columns: Mapping[str, str],
    needed: Sequence[str] = (),
    statics: Sequence[str] = (),
    keep: str = "empty",
) -> FileRows:
    """The rows of a table. columns: our name -> the file's.  needed: what the model reads.
    keep: of rows that contradict each other, as for :func:`kgsm_infer.tables.table.read_table`.

    A table with a ``field`` column holds points of its paddocks; without one each row is its
    paddock's mean. A static the table lacks is taken from the outline's properties.
    DataError names file, row, column and value.
    """
    sheet = read_sheet(path)
    return rows_of_columns(
        *(sheet.columns, source, paddocks, columns, needed, statics),
        keep=keep,
        row_number=sheet.row_number,
    )


def rows_of_columns(
    cells: Mapping[str, Any],
    source: str,
    paddocks: Paddocks,
    columns: Mapping[str, str],
    needed: Sequence[str] = (),
    statics: Sequence[str] = (),
    keep: str = "empty",
    row_number: Any = None,
) -> FileRows:
    """As :func:`rows_of_table`, from columns in memory."""
    cells = _renamed(cells, columns, source)
    extra = [
        name
        for name, values in cells.items()
        if name not in _NAMES and name not in RULES and _all_numbers(values)
    ]
    table = table_from_columns(
        cells,
        source,
        features=extra,
        keep=keep,
        row_number=row_number,
        reads=(*needed, *statics, *FROZEN_BY) if needed else None,
    )
    named = _paddock_of_rows(table)
    properties = paddocks.properties
    outside = tuple(sorted({name for name in named if not paddocks.known(name)}))
    if len(outside) == len(set(named)):
        raise DataError(
            f"{source}: none of its paddocks ({', '.join(outside[:3])}) is one of "
            f"{paddocks.outlines.source if paddocks.outlines else 'the farm'}"
        )
    have = set(table.numbers) | {
        name for name in statics if all(name in own for own in properties.values()) and properties
    }
    for name in needed:
        if name not in have:
            raise DataError(f"{source}: no column {name!r}, which the model reads; it has "
                            f"{', '.join(table.numbers)}")  # fmt: skip
    orbit = table.text.get("orbit", ("",) * len(table))
    means = "field" not in table.text and "field" not in table.numbers
    rows = []
    seconds = table.date.astype(np.int64)
    for at, paddock in enumerate(named):
        if not paddocks.known(paddock):
            continue
        numbers = {
            name: float(values[at])
            for name, values in table.numbers.items()
            if math.isfinite(values[at])
        }
        for name in statics:
            given = properties.get(paddock, {}).get(name)
            if name not in numbers and isinstance(given, (int, float)) and math.isfinite(given):
                numbers[name] = float(given)
        key = (paddock, int(seconds[at]), orbit[at], str(table.site[at]))
        rows.append(Observed(*key, means, numbers, table.contradicts.get(at, "")))
    return FileRows(tuple(rows), outside, table.notes)


def table_columns(rows: Sequence[Observed]) -> dict[str, Any]:
    """Rows as columns to write: what the archive keeps of a scene."""
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
    if "field" in table.numbers:  # 7.0 where every cell was a number
        return [f"{value:g}" for value in table.numbers["field"]]
    cells = table.text.get("field")
    if cells is None:
        return [str(name) for name in table.site]
    return [cell or str(name) for cell, name in zip(cells, table.site, strict=True)]


def _renamed(cells: Mapping[str, Any], columns: Mapping[str, str], source: str) -> dict[str, Any]:
    found = dict(cells)
    for ours, theirs in columns.items():
        if theirs not in found:
            continue  # a table that follows the contract already
        if ours in found and ours != theirs:
            raise DataError(f"{source}: has both {ours!r} and {theirs!r}, which [columns] makes it")
        found[ours] = found.pop(theirs)
    return found


def _all_numbers(values: Any) -> bool:
    """Whether a column beyond the contract holds numbers, so that it may be an input."""
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "fiu"
    there = [str(item).strip() for item in values if str(item).strip()]
    try:
        return bool(there) and all(math.isfinite(float(item)) for item in there)
    except ValueError:
        return False
