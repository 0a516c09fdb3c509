"""One arrival: its rows join the past, what depends on them is retrieved, all in one transaction.

A value depends on the acquisitions of its window and, where the model compares a paddock with
its past or with the scene, on those too. So an arrival redoes every stored acquisition from its
own on that can have changed; one whose number did not change gets no new revision. Readings of
probes redo the passes of their day. The result is the same in whatever order all of it came.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from ...context.history import PlaceState
from ...tables.passes import ONE_PASS_S
from ..intake.spool import Archived
from ..intake.tables import FileRows
from ..store.database import Store
from ..store.rows import Observed, Sensed, Value
from ..store.used_readings import bears, day_of, known_on, put_used, used_since
from .correction import corrected, whole_passes
from .history import Bases, left_behind
from .retrieval import Key, Loaded, retrieved

#: Numbers closer than this are the same number: engines may differ in the last digits.
SAME = 2e-6


@dataclass(frozen=True)
class Taken:
    """What an arrival did. values: those it stored; of them, revisions are not the first.

    too_old: acquisitions that were pruned before and came again; they stay as they were.
    said: what must be told of probes that were not used.
    """

    values: tuple[Value, ...]
    too_old: int = 0
    said: tuple[str, ...] = ()

    @property
    def revisions(self) -> int:
        return sum(value.revision > 1 for value in self.values)


def store_arrival(
    store: Store,
    loaded: Loaded,
    intake: FileRows,
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


def store_probes(
    store: Store,
    loaded: Loaded,
    readings: Sequence[Sensed],
    item: Archived,
    sinks: Sequence[str],
    *,
    again: bool = False,
) -> Taken:
    """Mark readings as used, and store what becomes of the passes of their days, or nothing.

    again: worked out again from the archive.
    """
    with store.transaction():
        if store.sequence_of(item.digest) is not None:
            return Taken(())
        put_used(store, readings, item.number, again=again)
        taken = Taken(())
        if bears(store, readings):  # else they are earlier than their pass: it will find them
            taken = _passes_redone(store, loaded, {day_of(r.at) for r in readings}, item.number)
        store.put_arrival(item.number, item.digest, item.name, item.kind,
                          [reading.at for reading in readings])  # fmt: skip
        store.put_values(taken.values, sinks)
        return taken


def tried_out(store: Store, loaded: Loaded, intake: FileRows) -> dict[Key, Value]:
    """What an arrival would give, with nothing stored: the acquisitions of the intake alone."""
    paddocks = {row.paddock for row in intake.rows}
    days = {day_of(row.acquired) for row in intake.rows}
    everyone = loaded.shares_scene or loaded.model.card.probes is not None
    rows = _merged(store.observations(None if everyone else paddocks), intake.rows)
    readings = known_on(store, {row.paddock for row in rows}, days) if everyone else []
    asked = {(row.paddock, row.acquired, row.orbit) for row in intake.rows}
    found = retrieved(loaded, rows, whole_passes(rows, asked, readings), store.bases())
    found, _ = corrected(loaded.model.card, found, readings)
    return {key: found[key] for key in asked}


def _worked_out(
    store: Store, loaded: Loaded, intake: FileRows, sequence: int, keep_steps: int
) -> Taken:
    paddocks, since = {row.paddock for row in intake.rows}, day_of(intake.times[0] - ONE_PASS_S)
    scene, readings = loaded.shares_scene, used_since(store, since)
    everyone = scene or bool(readings)  # a probe elsewhere moves a paddock's number
    before = store.observations(None if everyone else paddocks)
    bases = store.bases()
    known = store.current(None if everyone else paddocks, since=since)
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
    targets = whole_passes(rows, _dependents(rows, new, scene), readings)
    targets -= _cut_short(rows, new, steps, bases)
    taken = _changed(loaded, rows, targets, bases, known, readings, sequence)
    _prune(store, rows, max(keep_steps, steps), bases)
    return replace(taken, too_old=too_old)


def _passes_redone(store: Store, loaded: Loaded, days: set[int], sequence: int) -> Taken:
    """Values of the stored acquisitions of some days, with all readings used by now."""
    rows, bases, first = store.observations(), store.bases(), min(days)
    targets = {(r.paddock, r.acquired, r.orbit) for r in rows if day_of(r.acquired) in days}
    targets -= _cut_short(rows, (), loaded.model.card.steps, bases)
    known, readings = store.current(since=first), used_since(store, first)
    return _changed(loaded, rows, targets, bases, known, readings, sequence)


def _changed(
    loaded: Loaded,
    rows: Sequence[Observed],
    targets: set[Key],
    bases: Bases,
    known: Mapping[Key, Value],
    readings: Sequence[Sensed],
    sequence: int,
) -> Taken:
    """The targets' values that are not what is known of them, as revisions."""
    found = retrieved(loaded, rows, targets, bases)
    found, said = corrected(loaded.model.card, found, readings, known)
    values = []
    for key, value in found.items():
        last = known.get(key)
        if last is None or not _same(last, value):
            revision = 1 if last is None else last.revision + 1
            values.append(replace(value, revision=revision, sequence=sequence))
    return Taken(tuple(sorted(values, key=lambda value: value.key)), said=tuple(said))


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
    if scene:  # the context is of a pass, which may have begun before the first new row
        since = min(first.values()) - ONE_PASS_S
        return {(r.paddock, r.acquired, r.orbit) for r in rows if r.acquired >= since}
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


def _same(one: Value, other: Value) -> bool:
    """Whether a value made again says what it said, whichever model says it."""
    had = (one.sm, one.sm_lower, one.sm_upper)
    has = (other.sm, other.sm_lower, other.sm_upper)
    said, says = ((v.flags, v.reason, v.probes) for v in (one, other))
    return said == says and all(
        a == b or (a is not None and b is not None and abs(a - b) < SAME)
        for a, b in zip(had, has, strict=True)
    )


def _prune(store: Store, rows: Sequence[Observed], keep_steps: int, bases: Bases) -> None:
    """Keep the newest acquisitions of each paddock; older ones leave their base behind."""
    left: dict[tuple[str, str, str, str], PlaceState] = {}
    for paddock, group in groupby(rows, key=lambda row: row.paddock):
        times = [(k, list(own)) for k, own in groupby(group, key=lambda r: (r.acquired, r.orbit))]
        for (acquired, orbit), own in times[: max(0, len(times) - keep_steps)]:
            left.update(left_behind(own, ChainMap(left, dict(bases))))
            store.drop_acquisition(paddock, acquired, orbit)
    store.put_bases(left)
