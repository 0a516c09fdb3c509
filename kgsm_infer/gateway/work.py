"""One arrival: its rows join the past, what depends on them is retrieved, all in one transaction.

A value depends on the acquisitions of its window and, where the model compares a paddock with
its past or with the scene, on those too. So an arrival redoes every stored acquisition from its
own on that can have changed; one whose number did not change gets no new revision. The result
is the same in whatever order acquisitions came.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from .history import Bases, left_behind
from .intake import Intake
from .retrieve import Key, Loaded, retrieved
from .spool import Archived
from .store import Base, Observed, Store, Value

#: Numbers closer than this are the same number: engines may differ in the last digits.
SAME = 2e-6


@dataclass(frozen=True)
class Taken:
    """What an arrival did. values: those it stored; of them, revisions are not the first.

    too_old: acquisitions that were pruned before and came again; they stay as they were.
    """

    values: tuple[Value, ...]
    too_old: int = 0

    @property
    def revisions(self) -> int:
        return sum(value.revision > 1 for value in self.values)


def store_arrival(
    store: Store,
    loaded: Loaded,
    intake: Intake,
    item: Archived,
    kind: str,
    sinks: Sequence[str],
    keep_steps: int,
) -> Taken:
    """Store a file's rows and what comes of them. Raises, with nothing stored, or does it all."""
    with store.transaction():
        if store.sequence_of(item.digest) is not None:
            return Taken(())
        taken = _worked_out(store, loaded, intake, item.number, keep_steps)
        store.put_arrival(item.number, item.digest, item.name, kind,
                          [row.acquired for row in intake.rows])  # fmt: skip
        store.put_values(taken.values, sinks)
        return taken


def tried_out(store: Store, loaded: Loaded, intake: Intake) -> dict[Key, Value]:
    """What an arrival would give, with nothing stored: the acquisitions of the intake alone."""
    paddocks = {row.paddock for row in intake.rows}
    everyone = loaded.shares_scene
    rows = _merged(store.observations(None if everyone else paddocks), intake.rows)
    targets = {(row.paddock, row.acquired, row.orbit) for row in intake.rows}
    return retrieved(loaded, rows, targets, store.bases())


def _worked_out(
    store: Store, loaded: Loaded, intake: Intake, sequence: int, keep_steps: int
) -> Taken:
    paddocks = {row.paddock for row in intake.rows}
    scene = loaded.shares_scene
    before = store.observations(None if scene else paddocks)
    bases = store.bases()
    known = store.current(None if scene else paddocks, since=_day(intake.times[0]))
    stored = {(row.paddock, row.acquired, row.orbit, row.site): row for row in before}
    in_store = {key[:3] for key in stored}
    new, too_old = [], 0
    for row in intake.rows:
        key = (row.paddock, row.acquired, row.orbit)
        if key in known and key not in in_store:
            too_old += 1
        elif stored.get((*key, row.site)) != row:
            new.append(row)
    if not new:
        return Taken((), too_old)
    store.put_observations(new)
    rows = _merged(before, new)
    steps = loaded.model.card.steps
    targets = _dependents(rows, new, scene) - _cut_short(rows, new, steps, bases)
    values = []
    for key, value in retrieved(loaded, rows, targets, bases).items():
        last = known.get(key)
        if last is None or not _same(last, value):
            revision = 1 if last is None else last.revision + 1
            values.append(replace(value, revision=revision, sequence=sequence))
    _prune(store, rows, max(keep_steps, steps), bases)
    return Taken(tuple(sorted(values, key=lambda value: value.key)), too_old)


def _merged(before: Iterable[Observed], new: Iterable[Observed]) -> list[Observed]:
    """Stored and new rows in the store's order; a new row takes the place of a stored one."""
    rows = {(row.paddock, row.acquired, row.orbit, row.site): row for row in (*before, *new)}
    return [rows[key] for key in sorted(rows)]


def _dependents(rows: Sequence[Observed], new: Sequence[Observed], scene: bool) -> set[Key]:
    """The acquisitions that can have changed: of a paddock that got rows, from the first on.

    Where the model reads the scene's mean, every paddock from the first new date on.
    """
    first: dict[str, int] = {}
    for row in new:
        first[row.paddock] = min(row.acquired, first.get(row.paddock, row.acquired))
    if scene:  # the context is of a day
        day = _day(min(first.values()))
        return {(r.paddock, r.acquired, r.orbit) for r in rows if r.acquired >= day}
    return {
        (row.paddock, row.acquired, row.orbit)
        for row in rows
        if row.paddock in first and row.acquired >= first[row.paddock]
    }


def _cut_short(
    rows: Sequence[Observed],
    new: Sequence[Observed],
    steps: int,
    bases: Bases,
) -> set[Key]:
    """Stored acquisitions whose window reaches back to pruned ones: they stay as they are."""
    pruned = {key[0] for key in bases}
    fresh = {(row.paddock, row.acquired, row.orbit) for row in new}
    found: set[Key] = set()
    for paddock, group in groupby(rows, key=lambda row: row.paddock):
        if paddock in pruned:
            keys = sorted({(row.paddock, row.acquired, row.orbit) for row in group})
            found.update(set(keys[: steps - 1]) - fresh)
    return found


def _day(acquired: int) -> int:
    return acquired // 86400 * 86400


def _same(one: Value, other: Value) -> bool:
    """Whether a value made again says what it said, whichever model says it."""
    had = (one.sm, one.sm_lower, one.sm_upper)
    has = (other.sm, other.sm_lower, other.sm_upper)
    return (one.flags, one.reason) == (other.flags, other.reason) and all(
        a == b or (a is not None and b is not None and abs(a - b) < SAME)
        for a, b in zip(had, has, strict=True)
    )


def _prune(store: Store, rows: Sequence[Observed], keep_steps: int, bases: Bases) -> None:
    """Keep the newest acquisitions of each paddock; older ones leave their base behind."""
    left: dict[tuple[str, str, str, str], Base] = {}
    for paddock, group in groupby(rows, key=lambda row: row.paddock):
        times = [(k, list(own)) for k, own in groupby(group, key=lambda r: (r.acquired, r.orbit))]
        for (acquired, orbit), own in times[: max(0, len(times) - keep_steps)]:
            left.update(left_behind(own, ChainMap(left, dict(bases))))
            store.drop_acquisition(paddock, acquired, orbit)
    store.put_bases(left)
