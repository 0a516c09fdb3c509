"""Fold stored acquisitions into the states that pruned acquisitions leave behind.

A model that compares a paddock with its past needs every acquisition of the paddock, but only the
newest ones row by row. The older ones are folded into a
:class:`~kgsm_infer.context.history.PlaceState` per (paddock, orbit, site, column); the site ``''``
is the mean of the paddock.
"""

from __future__ import annotations

import math
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
        field_column = f"{column[:2]}_field_db"
        brought = [
            row.numbers[field_column]
            for row in rows
            if math.isfinite(row.numbers.get(field_column, math.nan))
        ]
        if brought or own:
            yield (paddock, orbit, "", column), brought[0] if brought else mean_db
        for site, value_db in own.items():
            yield (paddock, orbit, site, column), value_db


@dataclass
class Windows:
    """The newest inputs of paddocks and the folded past before them, kept between arrivals.

    An arrival that is newer than everything stored needs no more than these, so its cost does
    not grow with the acquisitions that are kept.
    """

    _folded: dict[str, tuple[int, dict[PlaceKey, PlaceState]]] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget everything: stored inputs were changed."""
        self._folded.clear()

    def rows(
        self, store: Store, paddocks: Iterable[str], count: int, *, aligned: bool
    ) -> tuple[list[Observed], dict[str, int]]:
        """Return the rows of the newest ``count`` >= 1 acquisitions of each paddock, in order.

        Returns with them the time of each paddock's first row: all older rows are left out.
        aligned: one time for all paddocks, for models that compare paddocks of one pass.
        """
        first = store.acquisition_before(paddocks, count - 1)
        cuts = {name: first[name][0] if name in first else _LONG_AGO for name in sorted(paddocks)}
        if aligned and cuts:
            earliest = min(cuts.values())
            cuts = dict.fromkeys(cuts, earliest)
        return store.observations_of((name, cut, _FAR_OFF) for name, cut in cuts.items()), cuts

    def past(self, store: Store, cuts: Mapping[str, int]) -> dict[PlaceKey, PlaceState]:
        """Return the states of paddocks, folded from the rows before their ``cuts``."""
        found: dict[PlaceKey, PlaceState] = {}
        fresh = [name for name, cut in cuts.items() if self._folded.get(name, (2**62,))[0] > cut]
        bases: dict[str, dict[PlaceKey, PlaceState]] = {name: {} for name in fresh}
        if fresh:
            for place, state in store.bases(fresh).items():
                bases[place[0]][place] = state
        ranges: list[tuple[str, int, int]] = []
        known: dict[PlaceKey, PlaceState] = {}
        for name, cut in cuts.items():
            since, states = (_LONG_AGO, bases[name]) if name in bases else self._folded[name]
            known.update(states)
            if since < cut:
                ranges.append((name, since, cut))
            self._folded[name] = (cut, states)
        rows = store.observations_of(ranges)
        for place, state in fold(rows, known).items():
            self._folded[place[0]][1][place] = state
        for name in cuts:
            found.update(self._folded[name][1])
        return found
