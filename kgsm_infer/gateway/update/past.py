"""Fold stored acquisitions into the states that pruned acquisitions leave behind.

A model that compares a paddock with its past needs every acquisition of the paddock, but only the
newest ones row by row. The older ones are folded into a
:class:`~kgsm_infer.context.history.PlaceState` per (paddock, orbit, site, column); the site ``''``
is the mean of the paddock.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
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
_numbers = attrgetter(*(item.name for item in fields(PlaceState)))
#: (paddock, orbit, site, column); site '' is the paddock's mean.
PlaceKey = tuple[str, str, str, str]
Bases = Mapping[PlaceKey, PlaceState]
_LONG_AGO, _FAR_OFF = -(2**62), 2**62


def fold(rows: Sequence[Observed], states: Bases) -> dict[PlaceKey, PlaceState]:
    """Add acquisitions to the states of their places; returns the changed states.

    rows: in the store's order (paddock, acquired, orbit, site). The work is linear in the rows.
    """
    series: dict[PlaceKey, list[float]] = {}
    for key, own in groupby(rows, key=attrgetter("key")):
        for place, value_db in _values(key, list(own)):
            series.setdefault(place, []).append(value_db)
    if not series:
        return {}
    places = list(series)
    new = PlaceState()
    before = np.asarray([_numbers(states.get(place, new)) for place in places]).T.copy()
    history = History(before[0].astype(np.int64), *before[1:])
    for step in range(max(map(len, series.values()))):
        there = [at for at, place in enumerate(places) if len(series[place]) > step]
        values_db = np.asarray([series[places[at]][step] for at in there])
        history.add(values_db, slice(None) if len(there) == len(places) else np.asarray(there))
    columns = [column.tolist() for column in _numbers(history)]
    return {
        place: PlaceState(*state)
        for place, state in zip(places, zip(*columns, strict=True), strict=True)
    }


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
    _folded: dict[str, tuple[int, dict[PlaceKey, PlaceState]]] = field(default_factory=dict)
    _keys: dict[str, list[tuple[int, str]]] = field(default_factory=dict)  # of all stored rows
    _bases: dict[str, dict[PlaceKey, PlaceState]] = field(default_factory=dict)  # of pruned ones

    def clear(self) -> None:
        """Forget everything: stored inputs were changed."""
        for known in (self._rows, self._cuts, self._folded, self._keys, self._bases):
            known.clear()

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
        bases = self._past(store, cuts) if with_past else {}
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
            if name in self._folded and self._folded[name][0] <= end[0]:
                del self._folded[name]

    def _past(self, store: Store, cuts: Mapping[str, int]) -> dict[PlaceKey, PlaceState]:
        """Return the states of paddocks, folded from the rows before their ``cuts``."""
        fresh = [name for name, cut in cuts.items() if self._folded.get(name, (2**62,))[0] > cut]
        bases: dict[str, dict[PlaceKey, PlaceState]] = {name: {} for name in fresh}
        if fresh:
            for place, state in store.bases(fresh).items():
                bases[place[0]][place] = state
        rows: list[Observed] = []
        ranges: list[tuple[str, int, int]] = []
        known: dict[PlaceKey, PlaceState] = {}
        for name, cut in cuts.items():
            since, states = (_LONG_AGO, bases[name]) if name in bases else self._folded[name]
            known.update(states)
            if since < cut and self._cuts[name] <= since:  # they left the window just now
                rows += [row for row in self._rows[name] if since <= row.acquired < cut]
            elif since < cut:
                ranges.append((name, since, cut))
            self._folded[name] = (cut, states)
        rows += store.observations_of(ranges)
        for place, state in fold(rows, known).items():
            self._folded[place[0]][1][place] = state
        found: dict[PlaceKey, PlaceState] = {}
        for name in cuts:
            found.update(self._folded[name][1])
        return found
