"""Fold stored acquisitions into the states that pruned acquisitions leave behind.

A model that compares a paddock with its past needs every acquisition of the paddock, but only the
newest ones row by row. The older ones are folded into a
:class:`~kgsm_infer.context.history.PlaceState` per (paddock, orbit, site, column); the site ``''``
is the mean of the paddock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

import numpy as np

from ...context.history import History, PlaceState
from ...tables.averaging import mean_of, to_power
from ..store.database import Store
from ..store.rows import Observed

#: Columns whose past is kept when an acquisition is pruned.
COLUMNS = ("vh_db", "vv_db")
#: The mean of a paddock that a row may bring, for each of them.
_FIELD_COLUMN = {"vh_db": "vh_field_db", "vv_db": "vv_field_db"}
_FIELD_COLUMNS = frozenset(_FIELD_COLUMN.values())

_place = attrgetter("paddock", "acquired", "orbit", "site")
#: (paddock, orbit, site, column); site '' is the paddock's mean.
PlaceKey = tuple[str, str, str, str]
Bases = Mapping[PlaceKey, PlaceState]
_LONG_AGO, _FAR_OFF = -(2**62), 2**62


@dataclass(frozen=True)
class StoredInputs:
    """Acquisitions of the store, and the past of their places.

    rows: in the store's order.  bases: states that pruned acquisitions left.
    """

    rows: Sequence[Observed]
    bases: Bases


class FoldedPast(Mapping[PlaceKey, PlaceState]):
    """States of places in columns, to which acquisitions are added in place."""

    def __init__(self, states: Mapping[PlaceKey, PlaceState] | None = None) -> None:
        self._at: dict[PlaceKey, int] = {}
        self._history = History.empty(0)
        self._extend((states or {}).items())

    def __getitem__(self, place: PlaceKey) -> PlaceState:
        return self._history.state(self._at[place])

    def __iter__(self) -> Iterator[PlaceKey]:
        return iter(self._at)

    def __len__(self) -> int:
        return len(self._at)

    def history(self, places: Iterable[PlaceKey]) -> History:
        """Return a copy of the states of places (P,); a place without any is new."""
        at = np.asarray([self._at.get(place, len(self._at)) for place in places], np.int64)
        empty = History.empty(1)
        return History(
            *(
                np.append(known, getattr(empty, name))[at]
                for name, known in vars(self._history).items()
            )
        )

    def set(self, paddocks: Iterable[str], states: Mapping[PlaceKey, PlaceState]) -> None:
        """Replace the states of paddocks by ``states`` of some of their places."""
        names = set(paddocks)
        stale = [at for place, at in self._at.items() if place[0] in names]
        if stale:
            new = PlaceState()
            for name, known in vars(self._history).items():
                known[stale] = getattr(new, name)
        self._extend(states.items())

    def add(self, rows: Sequence[Observed]) -> list[PlaceKey]:
        """Add acquisitions to the states of their places; returns the changed places.

        rows: in the store's order (paddock, acquired, orbit, site). The work is linear in the rows.
        """
        series: dict[PlaceKey, list[float]] = {}
        for key, own in groupby(rows, key=attrgetter("key")):
            for place, value_db in _values(key, list(own)):
                series.setdefault(place, []).append(value_db)
        new = PlaceState()
        self._extend((place, new) for place in series if place not in self._at)
        at = np.asarray([self._at[place] for place in series], np.int64)
        every = list(series.values())
        length = np.asarray([len(values) for values in every], np.int64)
        for step in range(int(length.max(initial=0))):
            there = np.flatnonzero(length > step)
            values_db = np.asarray([every[i][step] for i in there.tolist()])
            self._history.add(values_db, at[there])
        return list(series)

    def states(self, places: Iterable[PlaceKey]) -> dict[PlaceKey, PlaceState]:
        """Return the states of places that have one."""
        names = list(places)
        at = [self._at[place] for place in names]
        columns = [known[at].tolist() for known in vars(self._history).values()]
        return {
            place: PlaceState(*state)
            for place, state in zip(names, zip(*columns, strict=True), strict=True)
        }

    def _extend(self, states: Iterable[tuple[PlaceKey, PlaceState]]) -> None:
        """Set the states of places, which may be new."""
        known = list(states)
        if not known:
            return
        at = [self._at.setdefault(place, len(self._at)) for place, _ in known]
        more = History.empty(len(self._at) - len(self._history.count))
        grown = {
            name: np.concatenate([column, getattr(more, name)])
            for name, column in vars(self._history).items()
        }
        own = History.of([state for _, state in known])
        for name, column in grown.items():
            column[at] = getattr(own, name)
        self._history = History(**grown)


def fold(rows: Sequence[Observed], states: Bases) -> dict[PlaceKey, PlaceState]:
    """Add acquisitions to the states of their places; returns the changed states.

    rows: in the store's order (paddock, acquired, orbit, site). The work is linear in the rows.
    """
    past = FoldedPast(states)
    return past.states(past.add(rows))


def history_of(bases: Bases, places: Iterable[PlaceKey]) -> History:
    """Return the states of places (P,); a place without one is new."""
    if isinstance(bases, FoldedPast):
        return bases.history(places)
    return History.of([bases.get(place) for place in places])


def _values(
    key: tuple[str, int, str], rows: Sequence[Observed]
) -> Iterable[tuple[PlaceKey, float]]:
    """Yield the backscatter of each place of one acquisition, dB."""
    paddock, _, orbit = key
    if len(rows) == 1 and not rows[0].numbers.keys() & _FIELD_COLUMNS:  # as below, at less cost
        row = rows[0]
        for column in COLUMNS:
            value_db = row.numbers.get(column, math.nan)
            if math.isfinite(value_db):
                yield (paddock, orbit, "", column), value_db
                yield (paddock, orbit, row.site, column), value_db
        return
    for column in COLUMNS:
        own = {
            row.site: row.numbers[column]
            for row in rows
            if math.isfinite(row.numbers.get(column, math.nan))  # an outlier is infinite
        }
        if len(own) == 1:
            mean_db = next(iter(own.values()))
        elif own:
            power = to_power(column, np.asarray(list(own.values())))
            mean_db = float(mean_of(column, power.sum(), len(own)))
        field_column = _FIELD_COLUMN[column]
        brought = [
            row.numbers[field_column]
            for row in rows
            if math.isfinite(row.numbers.get(field_column, math.nan))
        ]
        if brought or own:
            yield (paddock, orbit, "", column), brought[0] if brought else mean_db
        for site, value_db in own.items():
            yield (paddock, orbit, site, column), value_db


@dataclass(frozen=True)
class NewestInputs:
    """Past that a new acquisition is compared with.

    rows: of the newest acquisitions of each paddock, in the store's order.  cuts: the time of
    each paddock's first row; all older rows are left out.  bases: the folded rows before the cut.
    """

    rows: list[Observed]
    cuts: Mapping[str, int]
    bases: Bases


@dataclass
class Windows:
    """The newest inputs of paddocks and the folded past before them, kept between arrivals.

    An arrival that is newer than everything stored needs no more than these, so its cost does
    not grow with the acquisitions that are kept.
    """

    _rows: dict[str, list[Observed]] = field(default_factory=dict)  # from the paddock's cut on
    _cuts: dict[str, int] = field(default_factory=dict)
    _folded: dict[str, int] = field(default_factory=dict)  # cut up to which _states has the rows
    _states: FoldedPast = field(default_factory=FoldedPast)
    _keys: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # of all stored rows
    _bases: dict[str, dict[PlaceKey, PlaceState]] = field(default_factory=dict)  # of pruned ones

    def clear(self) -> None:
        """Forget everything: stored inputs were changed."""
        for known in (self._rows, self._cuts, self._folded, self._keys, self._bases):
            known.clear()
        self._states = FoldedPast()

    def newest(
        self,
        store: Store,
        paddocks: Iterable[str],
        count: int,
        *,
        aligned: bool,
        with_past: bool,
    ) -> NewestInputs:
        """Return the newest ``count`` >= 1 acquisitions of each paddock.

        aligned: one time for all paddocks, for models that compare paddocks of one pass.
        with_past: fold the rows before.
        """
        names = sorted(paddocks)
        self._keys |= store.acquisitions_of(name for name in names if name not in self._keys)
        cuts = {
            name: keys[-count][0] if len(keys := self._keys[name]) >= count else _LONG_AGO
            for name in names
        }
        if aligned and cuts:
            cuts = dict.fromkeys(cuts, min(cuts.values()))
        unread = [name for name in names if self._cuts.get(name, _FAR_OFF) > cuts[name]]
        self._rows |= {name: [] for name in unread}
        for row in store.observations_of((name, cuts[name], _FAR_OFF) for name in unread):
            self._rows[row.paddock].append(row)
        self._cuts |= {name: cuts[name] for name in unread}
        bases: Bases = self._past(store, cuts) if with_past else {}
        for name in names:
            if self._cuts[name] < cuts[name]:
                self._rows[name] = [row for row in self._rows[name] if row.acquired >= cuts[name]]
        self._cuts |= cuts
        return NewestInputs([row for name in names for row in self._rows[name]], cuts, bases)

    def add(self, rows: Iterable[Observed], paddocks: Iterable[str]) -> list[Observed]:
        """Add stored rows that are newer than all others of their paddocks.

        Returns the newest rows of ``paddocks``, with the added ones, in the store's order.
        """
        for row in sorted(rows, key=_place):
            keys = self._keys.get(row.paddock)
            if keys is not None:
                self._rows[row.paddock].append(row)
                if not keys or keys[-1] != (row.acquired, row.orbit):
                    keys.append((row.acquired, row.orbit))
        return [row for name in sorted(paddocks) for row in self._rows[name]]

    def ends(self, store: Store, paddocks: Iterable[str], keep: int) -> dict[str, tuple[int, str]]:
        """Return the newest acquisition but ``keep`` of each paddock that has many more.

        An eighth more may stay, so that they are pruned together.
        """
        names, most = set(paddocks), keep + keep // 8
        many = store.acquisition_before(names - self._keys.keys(), most)
        found = store.acquisition_before(many, keep) if many else {}
        for name in names & self._keys.keys():
            if len(self._keys[name]) > most:
                found[name] = self._keys[name][-keep - 1]
        return found

    def bases(self, store: Store, paddocks: Iterable[str]) -> dict[PlaceKey, PlaceState]:
        """Return the stored states that the pruned acquisitions of paddocks left."""
        names = set(paddocks)
        unread = names - self._bases.keys()
        self._bases |= {name: {} for name in unread}
        for place, state in store.bases(unread).items() if unread else ():
            self._bases[place[0]][place] = state
        return {place: state for name in names for place, state in self._bases[name].items()}

    def prune(
        self, ends: Mapping[str, tuple[int, str]], bases: Mapping[PlaceKey, PlaceState]
    ) -> None:
        """Forget the acquisitions up to the end of each paddock, folded into new ``bases``."""
        for place, state in bases.items():
            self._bases[place[0]][place] = state
        for name, end in ends.items():
            if name in self._keys:
                keys = self._keys[name]
                del keys[: bisect_right(keys, end)]
            if self._cuts.get(name, _FAR_OFF) <= end[0]:
                self._cuts.pop(name)
            if self._folded.get(name, _FAR_OFF) <= end[0]:
                del self._folded[name]

    def _past(self, store: Store, cuts: Mapping[str, int]) -> FoldedPast:
        """Return the states of paddocks, folded from the rows before their ``cuts``."""
        fresh = {name for name, cut in cuts.items() if self._folded.get(name, 2**62) > cut}
        if fresh:
            self._states.set(fresh, store.bases(fresh))
        rows: list[Observed] = []
        ranges: list[tuple[str, int, int]] = []
        for name, cut in cuts.items():
            since = _LONG_AGO if name in fresh else self._folded[name]
            if since < cut and self._cuts[name] <= since:  # they left the window just now
                rows += [row for row in self._rows[name] if since <= row.acquired < cut]
            elif since < cut:
                ranges.append((name, since, cut))
            self._folded[name] = cut
        rows += store.observations_of(ranges)
        self._states.add(rows)
        return self._states
