"""The past of places in a small file, so that no archive has to be at hand.

    kgsm-infer predict MODEL TODAY.csv -o OUT.csv --past past.csv

A line of it is what one site or field has shown in one column, by orbit: of how many
acquisitions, up to when, its usual, driest and wettest backscatter, and its mean and swing. It is
read before, and written anew with what the table adds. A row not later than what its place
already knows is compared with it and not counted again, so the same table may come twice.
The arithmetic is :class:`kgsm_infer.context.definitions.History`'s.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..tables.averaging import mean_of, to_power
from ..tables.passes import pass_starts
from ..tables.reading import read_sheet, write_csv
from ..tables.table import Table
from .definitions import CONTEXT, HistoryRule, SharedBy, first_given, needed, too_few
from .from_tables import compute_context, group_rows
from .history import History, PlaceState, compare_with_past

COLUMNS = (
    "kind", "name", "orbit", "column", "count", "last", "usual_db", "driest_db", "wettest_db",
    "mean_db", "swing_db",
)  # fmt: skip
#: What a site or field is called whose table knows no orbit.
NO_ORBIT = ""
_NEVER = np.datetime64("0001-01-01", "s")


class Key(NamedTuple):
    """Whose past. kind: ``site`` or ``field``.  column: ``vh_db`` or ``vv_db``."""

    kind: str
    name: str
    orbit: str
    column: str


@dataclass(frozen=True)
class Shown:
    """What a place has shown, dB. last: the latest acquisition, of ``count``."""

    count: int
    last: np.datetime64
    usual_db: float
    driest_db: float
    wettest_db: float
    mean_db: float
    swing_db: float


Past = Mapping[Key, Shown]


def read_past(path: str | Path) -> dict[Key, Shown]:
    """The past in a file; nothing where there is none yet. DataError names what cannot be."""
    if not Path(path).exists():
        return {}
    sheet = read_sheet(path)
    found = {}
    for i in range(len(sheet.row_number)):
        where = f"{sheet.source}: row {int(sheet.row_number[i])}"
        try:
            line = {name: str(sheet.columns[name][i]) for name in COLUMNS}
        except KeyError as error:
            raise DataError(
                f"{sheet.source}: no column {error}; a past has {', '.join(COLUMNS)}"
            ) from None
        try:
            numbers = [float(line[name]) for name in COLUMNS[6:]]
            shown = Shown(int(line["count"]), np.datetime64(line["last"], "s"), *numbers)
            _check(shown)
        except ValueError as error:
            raise DataError(f"{where}: not a past ({error})") from None
        key = Key(line["kind"], line["name"], line["orbit"], line["column"])
        if key in found:
            raise DataError(f"{where}: {key.kind} {key.name} has a past twice")
        found[key] = shown
    return found


def write_past(path: str | Path, past: Past) -> None:
    """Write the past, whole or not at all, in the order of the names."""
    items = sorted(past.items())
    columns: dict[str, list[object]] = {name: [] for name in COLUMNS}
    for key, shown in items:
        last = str(shown.last.astype("datetime64[s]"))
        cells = [*key, shown.count, last, *(repr(float(value)) for value in _numbers(shown))]
        for name, cell in zip(COLUMNS, cells, strict=True):
            columns[name].append(cell)
    write_csv(path, {name: np.asarray(cells, np.str_) for name, cells in columns.items()})


def with_past(
    table: Table, names: Sequence[str], rule: HistoryRule, past: Past
) -> tuple[Table, NDArray[np.bool_], dict[Key, Shown]]:
    """The table with the columns among ``names`` that look at a place's past.

    Returns it, (R,) True where such a past is short, and the past with the table's rows in it.
    UsageError for a model that looks at later dates too: of those a past knows nothing.
    """
    if rule.span != "past":
        raise UsageError(
            "this model compares a place with its whole archive, later dates too; a file of its "
            "past is for a model trained with [head] history = 'past'"
        )
    short, after, given = np.zeros(len(table), bool), dict(past), set(table.numbers)
    for name in needed(names, given.__contains__):
        if not CONTEXT[name].shared_by.is_past:
            continue
        values, count, shown = _compared(table, name, rule, past)
        after.update(shown)
        short |= np.asarray(too_few(name, count)) & (name in names)
        table = replace(table, numbers={**table.numbers, name: values})
    return table, short, after


def _compared(
    table: Table, name: str, rule: HistoryRule, past: Past
) -> tuple[NDArray[np.float64], NDArray[np.int64], dict[Key, Shown]]:
    """Compute context ``name`` (R,), the passes behind it, and the states after the table."""
    base, shared_by = CONTEXT[name].base, CONTEXT[name].shared_by
    if base in table.numbers:
        value_db = np.asarray(table.numbers[base], np.float64)
    else:
        value_db = compute_context(table, base, rule).values
    place = group_rows(table, shared_by)
    kind = "site" if shared_by is SharedBy.SITE_PAST else "field"
    keys = _keys(table, place, kind, first_given(name, ()))
    history = History.of([_state(past[key]) if key in past else None for key in keys])
    last = np.asarray([past[key].last if key in past else _NEVER for key in keys])
    when = pass_starts(table.date)
    newer = when > last[place]
    compared, count = compare_with_past(
        name, value_db, place, when.astype(np.int64), rule, start=history, counted=newer
    )
    counted = newer & np.isfinite(value_db)
    np.maximum.at(last, place[counted], when[counted])
    states = (history.state(at) for at in range(len(keys)))
    shown = {
        key: _line(state, last[at])
        for at, (key, state) in enumerate(zip(keys, states, strict=True))
        if state.count
    }
    return compared, count, shown


def _keys(table: Table, place: NDArray[np.int64], kind: str, column: str) -> list[Key]:
    """The key of each place of a table, by its number."""
    _, first = np.unique(place, return_index=True)
    names = list(table.site if kind == "site" else table.text["field"])
    orbits = table.text.get("orbit")
    return [
        Key(
            kind if names[i] else "site",
            str(names[i] or table.site[i]),
            NO_ORBIT if orbits is None else str(orbits[i]),
            column,
        )
        for i in first
    ]


def _state(shown: Shown) -> PlaceState:
    """Compute the sums of a line."""
    n = shown.count
    return PlaceState(
        count=n,
        power=n * float(to_power("vh_db", np.float64(shown.usual_db))),
        driest_db=shown.driest_db,
        wettest_db=shown.wettest_db,
        total_db=n * shown.mean_db,
        square_db2=n * (shown.swing_db**2 + shown.mean_db**2),
    )


def _line(state: PlaceState, last: np.datetime64) -> Shown:
    """Compute the line of a place's sums."""
    n = state.count
    mean_db = state.total_db / n
    return Shown(
        n,
        last,
        float(mean_of("vh_db", np.float64(state.power), n)),
        state.driest_db,
        state.wettest_db,
        mean_db,
        math.sqrt(max(state.square_db2 / n - mean_db**2, 0.0)),
    )


def _numbers(shown: Shown) -> tuple[float, ...]:
    return (shown.usual_db, shown.driest_db, shown.wettest_db, shown.mean_db, shown.swing_db)


def _check(shown: Shown) -> None:
    low, high = shown.driest_db, shown.wettest_db
    if shown.count < 1 or np.isnat(shown.last) or not all(map(math.isfinite, _numbers(shown))):
        raise ValueError("count, last and every dB must be there")
    if not (low <= shown.mean_db + 1e-6 and shown.mean_db <= high + 1e-6 and shown.swing_db >= 0):
        raise ValueError(f"a mean of {shown.mean_db:g} dB between {low:g} and {high:g}")
