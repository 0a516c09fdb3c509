"""The past of a paddock as the store remembers it, made into the columns a model reads.

A gateway has no future: usual, driest, wettest and swing are over the acquisitions up to and
including the one asked for, of one orbit (context.History has the arithmetic). Acquisitions
still in the store are counted one by one; those pruned from it have left a
:class:`~kgsm_infer.gateway.store.Base` behind. A row that brings a context itself is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace

import numpy as np
from numpy.typing import NDArray

from ..context.definitions import CONTEXT, HistoryRule, too_few
from ..context.from_tables import context_of
from ..context.history import History
from ..tables.averaging import mean_of, to_power
from ..tables.table import Table
from .store import Base, Observed

#: Columns whose past is kept when an acquisition is pruned.
KEPT = ("vh_db", "vv_db")

#: (paddock, orbit, site, column) -> what is left; site '' is the paddock's mean.
Bases = Mapping[tuple[str, str, str, str], Base]


def with_context(
    table: Table, rows: Sequence[Observed], names: Sequence[str], bases: Bases, rule: HistoryRule
) -> tuple[Table, NDArray[np.bool_]]:
    """The table with the context columns among ``names``, and (R,) True where one is too thin.

    table: of ``rows``, in their order, without context columns.  rule: of the card; its span is
    taken as ``past``.
    """
    rule = replace(rule, span="past")
    thin = np.zeros(len(rows), bool)
    means = np.asarray([row.means for row in rows], bool)
    for name in _in_order(names):
        column, who = CONTEXT[name]
        if who in ("history", "place"):
            whole = who == "history"
            value_db = np.asarray(table.numbers[column], np.float64)
            values, count = compared_with_past(name, rows, value_db, bases, rule, whole=whole)
            few = too_few(name, count)
        else:
            values, count = context_of(table, name, rule)
            few = too_few(name, count)
            if who == "field":
                few = few & ~(means & (count > 0))  # a mean of its pixels is made of many
        brought = np.asarray([row.numbers.get(name, np.nan) for row in rows], np.float64)
        believed = np.isfinite(brought)
        made = {**table.numbers, name: np.where(believed, brought, values)}
        table = replace(table, numbers=made)
        if name in names:
            thin |= few & ~believed
    return table, thin


def compared_with_past(
    name: str,
    rows: Sequence[Observed],
    value_db: NDArray[np.float64],
    bases: Bases,
    rule: HistoryRule,
    *,
    whole: bool,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Context ``name`` of each row against its own past, and of how many acquisitions; (R,).

    value_db: (R,). whole: the past is the paddock's (whose mean all its rows share), else the
    site's.
    """
    places: dict[tuple[str, str, str], int] = {}
    place = np.asarray(
        [
            places.setdefault((row.paddock, row.orbit, "" if whole else row.site), len(places))
            for row in rows
        ]
    )
    history = History.empty(len(places))
    for key, at in places.items():
        base = bases.get((*key, f"{name[:2]}_db"))
        if base is not None:
            for item in fields(Base):
                getattr(history, item.name)[at] = getattr(base, item.name)
    acquired = np.asarray([row.acquired for row in rows])
    compared = np.full(len(rows), np.nan)
    count = np.zeros(len(rows), np.int64)
    by_time = np.argsort(acquired, kind="stable")
    for now in np.split(by_time, np.flatnonzero(np.diff(acquired[by_time])) + 1):
        there, first = np.unique(place[now], return_index=True)
        history.add(value_db[now[first]], there)
        compared[now] = history.compared(name, value_db[now], rule, place[now])
        count[now] = history.count[place[now]]
    return compared, count


def left_behind(rows: Sequence[Observed], bases: Bases) -> dict[tuple[str, str, str, str], Base]:
    """What the rows of one paddock's acquisition leave behind, added to what was left before."""
    paddock, orbit = rows[0].paddock, rows[0].orbit
    found = {}
    for column in KEPT:
        own = {row.site: row.numbers[column] for row in rows if column in row.numbers}
        field = f"{column[:2]}_field_db"
        brought = [row.numbers[field] for row in rows if field in row.numbers]
        power = to_power(column, np.asarray(list(own.values())))
        if brought or own:
            own[""] = brought[0] if brought else float(mean_of(column, power.sum(), len(own)))
        for site, value_db in own.items():
            key = (paddock, orbit, site, column)
            found[key] = added(bases.get(key), value_db)
    return found


def added(base: Base | None, value_db: float) -> Base:
    """A past with one more acquisition.

    >>> added(None, -20.0).count, added(added(None, -20.0), -22.0).driest_db
    (1, -22.0)
    """
    history = History.empty(1)
    if base is not None:
        history = History(**{
            item.name: np.asarray([getattr(base, item.name)]) for item in fields(Base)
        })  # fmt: skip
    history.add(np.asarray([value_db]))
    return Base(**{item.name: getattr(history, item.name)[0].item() for item in fields(Base)})


def _in_order(names: Sequence[str]) -> Iterator[str]:
    """The contexts among ``names``, each after the contexts it is made of."""
    done: dict[str, None] = {}

    def add(name: str) -> None:
        if name in CONTEXT and name not in done:
            add(CONTEXT[name][0])
            done[name] = None

    for name in names:
        add(name)
    yield from done
