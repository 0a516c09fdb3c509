"""State of a place over its passes, and the context columns that compare a pass with it.

A :class:`History` holds the states of places. Rasters (maps, lazy Datasets) add one pass at a time
with :func:`replay`. Rows (tables, state file, gateway) are compared in one step with
:func:`compare_with_past`. Both accumulate the same contributions in the same order: the bits agree.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..tables.averaging import mean_of, to_power
from ..tables.passes import in_one_pass
from .definitions import CONTEXT, WHOLE_ARCHIVE, HistoryRule, SharedBy, Typical


@dataclass(frozen=True)
class PlaceState:
    """State of one place and column after some passes; a new place by default.

    count: number of passes with a value.  power: sum of linear power.
    driest_db, wettest_db: lowest and highest backscatter, dB; infinite without a pass.
    total_db, square_db2: sums of dB and of its square.
    """

    count: int = 0
    power: float = 0.0
    driest_db: float = np.inf
    wettest_db: float = -np.inf
    total_db: float = 0.0
    square_db2: float = 0.0

    def add(self, value_db: float) -> PlaceState:
        """Return the state after one more pass.

        >>> PlaceState().add(-20.0).count, PlaceState().add(-20.0).add(-22.0).driest_db
        (1, -22.0)
        """
        history = History.of([self])
        history.add(np.asarray([value_db]))
        return history.state(0)


@dataclass(frozen=True)
class History:
    """States of P places, changed in place by :meth:`add`; fields as :class:`PlaceState`, (P,)."""

    count: NDArray[np.int64]
    power: NDArray[np.float64]
    driest_db: NDArray[np.float64]
    wettest_db: NDArray[np.float64]
    total_db: NDArray[np.float64]
    square_db2: NDArray[np.float64]

    @classmethod
    def empty(cls, places: int) -> History:
        """Create P places without a pass."""
        return cls(
            **{
                item.name: np.full(places, item.default, np.int64 if item.name == "count" else None)
                for item in fields(PlaceState)
            }
        )

    @classmethod
    def of(cls, states: Sequence[PlaceState | None]) -> History:
        """Create one place per state; None is a new place."""
        new, numbers = PlaceState(), attrgetter(*(item.name for item in fields(PlaceState)))
        rows = [numbers(new if state is None else state) for state in states]
        if not rows:
            return cls.empty(0)
        count, *others = zip(*rows, strict=True)
        return cls(np.asarray(count, np.int64), *np.asarray(others, np.float64))

    def state(self, at: int) -> PlaceState:
        """Return the state of place ``at``."""
        return PlaceState(
            **{item.name: getattr(self, item.name)[at].item() for item in fields(PlaceState)}
        )

    def add(self, value_db: NDArray[np.float64], place: Any = slice(None)) -> None:
        """Add one pass; NaN adds nothing.

        value_db: backscatter of the places ``place`` (N,), each once, or of all (P,), dB.
        """
        for name, value in _contributions(value_db).items():
            state = getattr(self, name)
            state[place] = _ACCUMULATE[name](state[place], value)

    def reference_db(self, name: str, place: Any = slice(None)) -> NDArray[np.float64]:
        """Return the usual (mean power) or driest backscatter that context ``name`` subtracts, dB.

        NaN without a pass. place: as in :meth:`add`.
        """
        count = self.count[place]
        if name.endswith("over_driest_db"):
            reference_db = self.driest_db[place]
        else:
            reference_db = mean_of(name, self.power[place], count)
        return np.where(count > 0, reference_db, np.nan)

    def usual_and_swing_db(
        self, typical: Typical, place: Any = slice(None)
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return mean and standard deviation, shrunk to ``typical`` (see :class:`Typical`), dB.

        NaN without a pass. place: as in :meth:`add`.
        """
        n, k = self.count[place], typical.looks
        with np.errstate(invalid="ignore", divide="ignore"):
            own_db = self.total_db[place] / n
            own_db2 = np.maximum(self.square_db2[place] / n - own_db**2, 0.0)
            usual_db = (n * own_db + k * typical.usual_db) / (n + k)
            swing_db = np.sqrt((n * own_db2 + k * typical.swing_db**2) / (n + k))
        return usual_db, np.where(swing_db > 0, swing_db, np.nan)

    def compared(
        self,
        name: str,
        value_db: NDArray[np.float64],
        rule: HistoryRule,
        place: Any = slice(None),
    ) -> NDArray[np.float64]:
        """Compute context ``name`` of backscatter ``value_db`` (N,) of ``place``, (N,)."""
        if CONTEXT[name].shared_by is SharedBy.SITE_PAST:
            usual_db, swing_db = self.usual_and_swing_db(rule.typical_of(name), place)
            return np.asarray((value_db - usual_db) / swing_db)
        if name.endswith("_between"):
            with np.errstate(invalid="ignore"):  # infinite without a pass
                swing_db = self.wettest_db[place] - self.driest_db[place]
                over_db = value_db - self.driest_db[place]
            between = np.full(len(swing_db), np.nan)
            np.divide(over_db, swing_db, out=between, where=swing_db > 0)
            return between
        return value_db - self.reference_db(name, place)


#: How the states before a pass and its contribution make the state after it.
_ACCUMULATE: Mapping[str, np.ufunc] = {
    "count": np.add,
    "power": np.add,
    "driest_db": np.minimum,
    "wettest_db": np.maximum,
    "total_db": np.add,
    "square_db2": np.add,
}


def _contributions(value_db: NDArray[np.float64]) -> dict[str, NDArray[Any]]:
    """Return what backscatter values (N,) add to each part of a state; NaN adds nothing."""
    there = np.isfinite(value_db)
    known_db = np.where(there, value_db, 0.0)
    return {
        "count": there.astype(np.int64),
        "power": np.where(there, to_power("vh_db", known_db), 0.0),
        "driest_db": np.where(there, value_db, np.inf),
        "wettest_db": np.where(there, value_db, -np.inf),
        "total_db": known_db,
        "square_db2": known_db**2,
    }


class Pass(NamedTuple):
    """Backscatter of one pass. value_db, place: as in :meth:`History.add`."""

    value_db: NDArray[np.float64]
    place: Any = slice(None)


def replay(history: History, passes: Iterable[Pass]) -> Iterator[History]:
    """Add passes one by one, in order; yield the same ``history`` after each."""
    for one in passes:
        history.add(one.value_db, one.place)
        yield history


def states_after(
    start: History, place: NDArray[np.int64], value_db: NDArray[np.float64]
) -> History:
    """Return the state of a place after each of its passes, (M,); same bits as :func:`replay`.

    start: (P,) states before the first pass.  place: (M,) of each pass, ascending.
    value_db: (M,) in order of time within a place.

    Places with about the same number of passes are padded to one length and accumulated
    together, so that the work grows with M alone.
    """
    after = History.empty(len(place))
    first = np.searchsorted(place, np.arange(len(start.count) + 1))
    passes = np.diff(first)
    added = _contributions(value_db)
    longest = np.frexp(passes)[1]  # passes < 2**longest
    for size in np.unique(longest[passes > 0]):
        some = np.flatnonzero(longest == size)
        width = int(passes[some].max())
        column = np.arange(width)
        there = column < passes[some][:, None]
        at = (first[some][:, None] + column)[there]
        for name, accumulate in _ACCUMULATE.items():
            padded = np.zeros((len(some), width + 1), added[name].dtype)
            padded[:, 0] = getattr(start, name)[some]
            padded[:, 1:][there] = added[name][at]
            accumulate.accumulate(padded, axis=1, out=padded)
            getattr(after, name)[at] = padded[:, 1:][there]
    return after


class ContextValues(NamedTuple):
    """A context column. values: (N,).  rows: (N,) rows (of a past: passes) behind each value."""

    values: NDArray[np.float64]
    rows: NDArray[np.int64]


@dataclass(frozen=True)
class PassRows:
    """Rows of passes: those of one place and time are one pass, whose first row counts.

    place: (N,) from 0.  time: (N,) whole numbers that ascend with the passes, such as seconds
    since 1970.  value_db: (N,) backscatter, dB.
    """

    place: NDArray[np.int64]
    time: NDArray[np.int64]
    value_db: NDArray[np.float64]

    def select(self, which: NDArray[np.bool_] | NDArray[np.int64]) -> PassRows:
        return PassRows(self.place[which], self.time[which], self.value_db[which])

    def join(self, other: PassRows) -> PassRows:
        return PassRows(
            np.concatenate([self.place, other.place]),
            np.concatenate([self.time, other.time]),
            np.concatenate([self.value_db, other.value_db]),
        )

    def in_order(self) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return the rows in order of place and time, and True for the first row of each pass."""
        order = np.lexsort([self.time, self.place])  # stable
        first = np.ones(len(order), bool)
        first[1:] = (np.diff(self.place[order]) != 0) | (np.diff(self.time[order]) != 0)
        return order, first

    def distinct(self) -> PassRows:
        """Return each pass of a place once, its first row, in order of place and time."""
        order, first = self.in_order()
        return self.select(order[first])

    def without(self, other: PassRows) -> PassRows:
        """Return the passes of which ``other`` has no frame."""
        other = other.distinct()
        span = np.int64(1) << 40  # longer than all times
        theirs, own = other.place * span + other.time, self.place * span + self.time
        after = np.searchsorted(theirs, own)
        found = np.zeros(len(own), bool)
        for neighbour in (after - 1, after):
            inside = (neighbour >= 0) & (neighbour < len(theirs))
            found[inside] |= in_one_pass(theirs[neighbour[inside]] - own[inside])
        return self.select(~found)


def compare_with_past(
    name: str,
    rows: PassRows,
    rule: HistoryRule = WHOLE_ARCHIVE,
    *,
    start: History | None = None,
    counted: NDArray[np.bool_] | None = None,
) -> ContextValues:
    """Compute context ``name`` of N rows against the passes of their places.

    start: states before the first row; None: no earlier pass.
    counted: (N,) rows whose backscatter enters the state; None: all.

    >>> rows = PassRows(np.zeros(3, np.int64), np.arange(3), np.asarray([-20.0, -22.0, -21.0]))
    >>> compare_with_past("vh_over_driest_db", rows, HistoryRule("past")).values.tolist()
    [0.0, 0.0, 1.0]
    """
    place, value_db = rows.place, rows.value_db
    if start is None:
        start = History.empty(int(place.max(initial=-1)) + 1)
    added_db = value_db if counted is None else np.where(counted, value_db, np.nan)
    order, first = rows.in_order()
    pass_of_row = np.empty(len(order), np.int64)
    pass_of_row[order] = np.cumsum(first) - 1
    place_of_pass = place[order[first]]
    states = states_after(start, place_of_pass, added_db[order[first]])
    if rule.span == "all":
        last = np.searchsorted(place_of_pass, np.arange(len(start.count)), "right") - 1
        pass_of_row = last[place]
    return ContextValues(
        states.compared(name, value_db, rule, pass_of_row), states.count[pass_of_row]
    )
