"""The past of a paddock as the store remembers it, made into the columns a model reads.

    usual, driest, wettest     over the acquisitions up to and including the one asked for, of
                               one orbit (context.History has the arithmetic)

Acquisitions still in the store are counted one by one; those pruned from it have left a
:class:`~kgsm_infer.gateway.store.Base` behind. A row that brings such a column itself is believed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ..context import CONTEXT, History, context_of, mean_of, to_power, too_few
from ..table import Table
from .store import Base, Observed

#: Columns whose past is kept when an acquisition is pruned.
KEPT = ("vh_db", "vv_db")

_NONE = Base(0, 0.0, float("inf"), float("-inf"))


def context_columns(
    table: Table,
    rows: Sequence[Observed],
    names: Sequence[str],
    bases: Mapping[tuple[str, str, str], Base],
) -> tuple[dict[str, NDArray[np.float64]], NDArray[np.bool_]]:
    """The context columns among ``names`` for every row, and (R,) True where one is too thin.

    table: of ``rows``, in their order, without context columns of its own.
    """
    made: dict[str, NDArray[np.float64]] = {}
    thin = np.zeros(len(rows), bool)
    means = np.asarray([row.means for row in rows], bool)
    for name in names:
        if name not in CONTEXT:
            continue
        who = CONTEXT[name][1]
        if who == "history":
            field_db = _believed(rows, CONTEXT[name][0], context_of(table, CONTEXT[name][0])[0])
            reference_db, count = past_of(name, rows, field_db, bases)
            values, few = field_db - reference_db, too_few(name, count)
        else:
            values, count = context_of(table, name)
            few = too_few(name, count)
            if who == "field":
                few = few & ~(means & (count > 0))  # a mean of its pixels is made of many
        made[name] = _believed(rows, name, values)
        thin |= few & ~np.isfinite(_brought(rows, name))
    return made, thin


def past_of(
    name: str,
    rows: Sequence[Observed],
    field_db: NDArray[np.float64],
    bases: Mapping[tuple[str, str, str], Base],
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """What context ``name`` compares each row with, dB, and of how many acquisitions; (R,).

    field_db: (R,) the paddock's mean at that acquisition, the same for all its rows.
    """
    places: dict[tuple[str, str], int] = {}
    place = np.asarray([places.setdefault((r.paddock, r.orbit), len(places)) for r in rows])
    history = History.empty(len(places))
    for (paddock, orbit), at in places.items():
        base = bases.get((paddock, orbit, f"{name[:2]}_db"), _NONE)
        history.power[at], history.count[at] = base.power, base.count
        history.driest_db[at], history.wettest_db[at] = base.driest_db, base.wettest_db
    acquired = np.asarray([row.acquired for row in rows])
    reference_db = np.full(len(rows), np.nan)
    count = np.zeros(len(rows), np.int64)
    by_time = np.argsort(acquired, kind="stable")
    for now in np.split(by_time, np.flatnonzero(np.diff(acquired[by_time])) + 1):
        there, first = np.unique(place[now], return_index=True)
        history.add(field_db[now[first]], there)
        reference_db[now] = history.reference_db(name, place[now])
        count[now] = history.count[place[now]]
    return reference_db, count


def left_behind(rows: Sequence[Observed], base: Mapping[str, Base]) -> dict[str, Base]:
    """What the rows of one paddock's acquisition leave behind when they are pruned."""
    found = dict(base)
    for column in KEPT:
        brought = [row.numbers[f"{column[:2]}_field_db"] for row in rows
                   if f"{column[:2]}_field_db" in row.numbers]  # fmt: skip
        values = brought[:1] or [row.numbers[column] for row in rows if column in row.numbers]
        if values:
            power = float(np.mean(to_power(column, np.asarray(values))))
            mean_db = float(mean_of(column, np.float64(power), 1))
            before = found.get(column, _NONE)
            found[column] = Base(
                before.count + 1,
                before.power + power,
                min(before.driest_db, mean_db),
                max(before.wettest_db, mean_db),
            )
    return found


def _brought(rows: Sequence[Observed], name: str) -> NDArray[np.float64]:
    return np.asarray([row.numbers.get(name, np.nan) for row in rows], np.float64)


def _believed(
    rows: Sequence[Observed], name: str, made: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A context as made, but where a row brings its own."""
    brought = _brought(rows, name)
    return np.where(np.isfinite(brought), brought, made)
