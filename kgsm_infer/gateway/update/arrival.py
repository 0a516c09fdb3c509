"""Update the store with one arrival: inputs, the values that depend on them, and messages.

A value depends on the acquisitions of its window and, where the model compares a paddock with its
past or with the scene, on those too. So an arrival retrieves every stored acquisition from its own
on that can have changed; an unchanged number gets no new revision. Readings of probes retrieve the
passes of their day. The result does not depend on the order of arrival, except that of two rows of
one site and acquisition the later arrival counts.

A long file is stored in blocks of whole days, each in one transaction; the arrival itself is
recorded with the last one, so that an interrupted file is processed again, without effect on what
is stored already.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from operator import attrgetter

from ...base.errors import KgsmError
from ...tables.passes import ONE_PASS_S
from ..intake.archive import Archived
from ..intake.removals import Removal
from ..store.database import Store
from ..store.rows import Observed, Sensed, Value
from ..store.used_readings import DAY_S, bears, day_of, known_on, mark_used, read_used, starts_of
from .correction import complete_passes, corrected
from .past import NewestInputs, StoredInputs, Windows, fold
from .retrieval import Key, Loaded, retrieved

#: Numbers closer than this are equal: engines may differ in the last digits.
SAME = 2e-6
#: Rows of one transaction, about; a day is never divided.
BLOCK_ROWS = 10_000


class Interrupted(KgsmError):
    """The gateway stops between two blocks of a file; the file is processed at the next start."""


@dataclass(frozen=True)
class Outcome:
    """Effects of an arrival.

    values: those stored.  too_old: acquisitions that were pruned before and did not change.
    unused: reasons why probe readings were not used.
    """

    values: int = 0
    with_number: int = 0
    revisions: int = 0
    too_old: int = 0
    unused: tuple[str, ...] = ()

    def plus(self, other: Outcome) -> Outcome:
        """Return the effects of both."""
        return Outcome(
            self.values + other.values,
            self.with_number + other.with_number,
            self.revisions + other.revisions,
            self.too_old + other.too_old,
            tuple(dict.fromkeys((*self.unused, *other.unused))),
        )


@dataclass
class Updater:
    """Update a store with arrivals, in the order of their numbers.

    sinks: publishers that get messages.  keep_steps: acquisitions of each paddock kept as inputs.
    may_go_on: called between the steps of a block; False stops after the block.
    """

    store: Store
    sinks: Sequence[str]
    keep_steps: int
    may_go_on: Callable[[], bool] = lambda: True
    windows: Windows = field(default_factory=Windows)

    # -- arrivals --------------------------------------------------------------------------

    def store_rows(self, loaded: Loaded, rows: Sequence[Observed], item: Archived) -> Outcome:
        """Store the rows of a file and the values that depend on them, block by block.

        Interrupted between two blocks if the gateway stops.
        """
        times = [row.acquired for row in rows]
        outcome = Outcome()
        blocks = list(_blocks(rows))
        for at, block in enumerate(blocks, 1):
            with self._transaction():
                outcome = outcome.plus(self._store_block(loaded, block, item.number))
                if at == len(blocks):
                    self.store.put_arrival(item.number, item.digest, item.name, item.kind, times)
            if at < len(blocks) and not self.may_go_on():
                raise Interrupted
        return outcome

    def store_probes(
        self, loaded: Loaded, readings: Sequence[Sensed], item: Archived, *, again: bool = False
    ) -> Outcome:
        """Mark readings as used and retrieve the passes of their days.

        again: they come from the archive, and a restored database need not have them.
        """
        with self._transaction():
            mark_used(self.store, readings, item.number, again=again)
            outcome = Outcome()
            if bears(self.store, readings):  # else their pass will find them when it arrives
                days = {day_of(reading.at) for reading in readings}
                outcome = self._passes_of(loaded, days, item.number)
            times = [reading.at for reading in readings]
            self.store.put_arrival(item.number, item.digest, item.name, item.kind, times)
        return outcome

    def store_removal(self, loaded: Loaded, removal: Removal, item: Archived) -> Outcome:
        """Remove acquisitions of a paddock and retrieve later ones that depended on them.

        What an acquisition added to the past of its paddock after it was pruned stays there.
        """
        with self._transaction():
            store = self.store
            keys = store.keys_of(removal.paddock, removal.since, removal.until)
            outcome = Outcome()
            if keys:
                self.windows.clear()
                everyone = loaded.shares_scene or loaded.model.card.probes is not None
                store.remove(keys, item.number)
                since = min(key[1] for key in keys) - ONE_PASS_S
                rows = store.observations(None if everyone else [removal.paddock])
                outcome = self._retrieve_again(loaded, rows, since, item.number)
                store.queue_latest([removal.paddock], self.sinks)
            times = sorted(key[1] for key in keys)
            store.put_arrival(item.number, item.digest, item.name, item.kind, times)
        return outcome

    def record(self, item: Archived) -> None:
        """Record an arrival without rows, such as one that failed, as done."""
        with self.store.transaction():
            self.store.put_arrival(item.number, item.digest, item.name, item.kind, [])

    def would_change(self, rows: Sequence[Observed]) -> bool:
        """Return True if rows differ from the stored ones."""
        before = {
            (*row.key, row.site): row
            for row in self.store.observations({row.paddock for row in rows})
        }
        fresh = [row for row in rows if before.get((*row.key, row.site)) != row]
        if not fresh:
            return False
        known = self.store.values_of(row.key for row in fresh)
        in_store = {key[:3] for key in before}
        return any(row.key in in_store or row.key not in known for row in fresh)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Commit all or nothing; after a failure nothing is remembered of what was not stored."""
        try:
            with self.store.transaction():
                yield
        except BaseException:
            self.windows.clear()
            raise

    # -- a block of rows -------------------------------------------------------------------

    def _store_block(self, loaded: Loaded, block: Sequence[Observed], sequence: int) -> Outcome:
        store = self.store
        since = day_of(min(row.acquired for row in block) - ONE_PASS_S)
        readings = read_used(store, since)
        # a probe elsewhere moves a paddock's number
        everyone = loaded.shares_scene or bool(readings)
        removed = store.removed({row.paddock for row in block})
        block = [row for row in block if removed.get(row.key, -1) < sequence]
        if not block:
            return Outcome()
        if store.newest_value_time() < since and (
            window := self._newest_rows(loaded, block, everyone)
        ):
            new, bases, too_old = list(block), window.bases, 0
            store.put_observations(new, sequence)
            rows = self.windows.add(new, window.cuts)  # all new rows are of new acquisitions
            targets = {row.key for row in new}
        else:
            self.windows.clear()
            paddocks = {row.paddock for row in block}
            before = store.observations(None if everyone else paddocks)
            bases = store.bases()
            in_store = {row.key for row in before}
            pruned = store.values_of({row.key for row in block} - in_store).keys()
            new, too_old = _changed_rows(block, before, pruned, sequence)
            if not new:
                return Outcome(too_old=too_old)
            store.put_observations(new, sequence)
            rows = _merged(before, new)
            dependent = _dependents(rows, new, loaded.shares_scene)
            targets = complete_passes(rows, dependent, readings)
            targets -= _cut_short(StoredInputs(rows, bases), loaded, new)
        inputs = StoredInputs(rows, bases)
        outcome = self._retrieve(loaded, inputs, targets, readings, sequence)
        self._prune({row.paddock for row in new}, max(self.keep_steps, loaded.model.card.steps))
        return replace(outcome, too_old=too_old)

    def _newest_rows(
        self, loaded: Loaded, block: Sequence[Observed], everyone: bool
    ) -> NewestInputs | None:
        """Return the rows and the past that an arrival newer than the store needs.

        None where a site has older rows than its paddock's newest acquisitions.
        """
        store, count = self.store, max(1, loaded.model.card.steps - 1)
        paddocks = {row.paddock for row in block}
        named = paddocks | set(store.paddocks()) if everyone else paddocks
        window = self.windows.newest(
            store, named, count, aligned=loaded.shares_scene, with_past=loaded.reads_past
        )
        there = Counter(map(attrgetter("paddock", "site"), window.rows))
        for paddock, site in {(row.paddock, row.site) for row in block}:
            if there[paddock, site] < count and store.has_older(
                paddock, site, window.cuts[paddock]
            ):
                return None
        return window

    def _passes_of(self, loaded: Loaded, days: set[int], sequence: int) -> Outcome:
        """Retrieve the stored acquisitions of some days, with all readings used by now."""
        inputs = StoredInputs(self.store.observations(), self.store.bases())
        times = [row.acquired for row in inputs.rows]
        start = starts_of([*self.store.acquisition_times(), *times])
        targets = {row.key for row in inputs.rows if day_of(start[row.acquired]) in days}
        targets -= _cut_short(inputs, loaded)
        readings = read_used(self.store, min(days))
        return self._retrieve(loaded, inputs, targets, readings, sequence)

    def _retrieve_again(
        self, loaded: Loaded, rows: Sequence[Observed], since: int, sequence: int
    ) -> Outcome:
        """Retrieve stored acquisitions from a time on."""
        inputs = StoredInputs(rows, self.store.bases())
        readings = read_used(self.store, day_of(since))
        targets = {row.key for row in rows if row.acquired >= since}
        targets -= _cut_short(inputs, loaded)
        return self._retrieve(loaded, inputs, targets, readings, sequence)

    def _retrieve(
        self,
        loaded: Loaded,
        inputs: StoredInputs,
        targets: set[Key],
        readings: Sequence[Sensed],
        sequence: int,
    ) -> Outcome:
        """Store the values of the targets that differ from the stored ones, as revisions."""
        self.may_go_on()  # a beat of the watchdog
        # of the targets and their passes alone: all values of ten years do not fit into memory
        known = self.store.values_of(targets)
        days = {day_of(at) for key in targets for at in (key[1], key[1] - ONE_PASS_S)}
        readings = [reading for reading in readings if day_of(reading.at) in days]
        for day in {day_of(reading.at) for reading in readings}:
            known |= self.store.current(since=day, until=day + DAY_S + ONE_PASS_S)
        found = retrieved(loaded, inputs, targets, self.may_go_on)
        self.may_go_on()
        found, unused = corrected(loaded.model.card, found, readings, known)
        values = []
        for key, value in found.items():
            last = known.get(key)
            if last is None or not _same(last, value):
                revision = 1 if last is None else last.revision + 1
                values.append(replace(value, revision=revision, sequence=sequence))
        values.sort(key=attrgetter("key"))
        self.store.put_values(values, self.sinks)
        return Outcome(
            len(values),
            sum(value.sm is not None for value in values),
            sum(value.revision > 1 for value in values),
            unused=tuple(unused),
        )

    def _prune(self, paddocks: Iterable[str], keep_steps: int) -> None:
        """Fold the inputs of all but the newest acquisitions into the past of their paddocks."""
        store = self.store
        last = self.windows.ends(store, paddocks, keep_steps)
        if not last:
            return
        ranges = [(name, -(2**62), acquired + 1) for name, (acquired, _) in last.items()]
        rows = [
            row
            for row in store.observations_of(ranges)
            if (row.acquired, row.orbit) <= last[row.paddock]
        ]
        keys = sorted({row.key for row in rows})
        bases = fold(rows, self.windows.bases(store, last))
        store.put_bases(bases)
        store.drop_acquisitions(keys)
        self.windows.prune(last, bases)


def retrieve_without_storing(
    store: Store, loaded: Loaded, new: Sequence[Observed]
) -> dict[Key, Value]:
    """Return the values of rows as an arrival would give them; nothing is stored."""
    paddocks = {row.paddock for row in new}
    days = {day_of(at) for row in new for at in (row.acquired, row.acquired - ONE_PASS_S)}
    everyone = loaded.shares_scene or loaded.model.card.probes is not None
    rows = _merged(store.observations(None if everyone else paddocks), new)
    readings = known_on(store, {row.paddock for row in rows}, days) if everyone else []
    asked = {row.key for row in new}
    inputs = StoredInputs(rows, store.bases())
    found = retrieved(loaded, inputs, complete_passes(rows, asked, readings))
    found, _ = corrected(loaded.model.card, found, readings)
    return {key: found[key] for key in asked}


def _blocks(rows: Sequence[Observed]) -> Iterator[list[Observed]]:
    """Divide rows into blocks of whole days, oldest first; one empty block without rows."""
    block: list[Observed] = []
    ordered = sorted(rows, key=attrgetter("acquired"))
    start = starts_of(row.acquired for row in ordered)
    for _, day in groupby(ordered, key=lambda row: day_of(start[row.acquired])):
        own = list(day)
        if block and len(block) + len(own) > BLOCK_ROWS:
            yield block
            block = []
        block += own
    yield block


def _changed_rows(
    block: Sequence[Observed],
    before: Sequence[Observed],
    pruned: Collection[Key],
    sequence: int,
) -> tuple[list[Observed], int]:
    """Return the rows that differ from stored ones, and how many came after they were pruned.

    A stored row of a later arrival stays.
    """
    stored = {(*row.key, row.site): row for row in before}
    new, too_old = [], 0
    for row in block:
        if row.key in pruned:
            too_old += 1
            continue
        last = stored.get((*row.key, row.site))
        if last is None or (last != row and last.sequence <= sequence):
            new.append(row)
    return new, too_old


def _merged(before: Iterable[Observed], new: Iterable[Observed]) -> list[Observed]:
    """Return stored and new rows in the store's order; a new row replaces a stored one."""
    rows = {(row.paddock, row.acquired, row.orbit, row.site): row for row in (*before, *new)}
    return [rows[key] for key in sorted(rows)]


def _dependents(rows: Sequence[Observed], new: Sequence[Observed], scene: bool) -> set[Key]:
    """Return the acquisitions that can have changed: of a paddock with new rows, from the first on.

    scene: the model reads the scene's mean, so every paddock from the first new pass on.
    """
    first: dict[str, int] = {}
    for row in new:
        first[row.paddock] = min(row.acquired, first.get(row.paddock, row.acquired))
    if scene:  # the context is of a pass, which may have begun before the first new row
        since = min(first.values()) - ONE_PASS_S
        return {row.key for row in rows if row.acquired >= since}
    return {row.key for row in rows if row.paddock in first and row.acquired >= first[row.paddock]}


def _cut_short(inputs: StoredInputs, loaded: Loaded, new: Sequence[Observed] = ()) -> set[Key]:
    """Return stored acquisitions whose window reaches back to pruned ones; they do not change."""
    pruned, steps = {key[0] for key in inputs.bases}, loaded.model.card.steps
    fresh = {row.key for row in new}
    found: set[Key] = set()
    for paddock, group in groupby(inputs.rows, key=attrgetter("paddock")):
        if paddock in pruned:
            keys = sorted({row.key for row in group})
            found.update(set(keys[: steps - 1]) - fresh)
    return found


def _same(one: Value, other: Value) -> bool:
    """Return True if two values say the same, whichever models they are from."""
    numbers = ((one.sm, other.sm), (one.sm_lower, other.sm_lower), (one.sm_upper, other.sm_upper))
    return (one.flags, one.reason, one.probes) == (other.flags, other.reason, other.probes) and all(
        a == b or (a is not None and b is not None and abs(a - b) < SAME) for a, b in numbers
    )
