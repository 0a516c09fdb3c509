"""The past of a place: what it has shown so far, and the comparisons made with it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..tables.averaging import mean_of, to_power
from .definitions import CONTEXT, WHOLE_ARCHIVE, HistoryRule, Typical


@dataclass(frozen=True)
class History:
    """What P fields have shown up to a date, one value a date; changed in place by ``add``.

    power: (P,) sum of linear power.  total_db, square_db2: (P,) sums of dB and of its
    square.  driest_db, wettest_db: (P,) lowest and highest backscatter, dB, infinite while
    there is none.  count: (P,) of how many dates.
    """

    power: NDArray[np.float64]
    driest_db: NDArray[np.float64]
    wettest_db: NDArray[np.float64]
    count: NDArray[np.int64]
    total_db: NDArray[np.float64]
    square_db2: NDArray[np.float64]

    @classmethod
    def empty(cls, places: int) -> History:
        """Fields of which nothing is known yet."""
        infinite, none = np.full(places, np.inf), np.zeros(places, np.int64)
        power, total_db, square_db2 = np.zeros((3, places))
        return cls(power, infinite, -infinite, none, total_db, square_db2)

    def add(self, value_db: NDArray[np.float64], place: Any = slice(None)) -> None:
        """The backscatter of one more date; NaN says nothing.

        value_db: of the fields ``place`` (N,), each once, or of all (P,).
        """
        there = np.isfinite(value_db)
        known_db = np.where(there, value_db, np.nan)
        self.power[place] += np.where(there, to_power("vh_db", known_db), 0.0)
        self.driest_db[place] = np.fmin(self.driest_db[place], known_db)
        self.wettest_db[place] = np.fmax(self.wettest_db[place], known_db)
        self.count[place] += there
        self.total_db[place] += np.where(there, value_db, 0.0)
        self.square_db2[place] += np.where(there, value_db, 0.0) ** 2

    def reference_db(self, name: str, place: Any = slice(None)) -> NDArray[np.float64]:
        """What context ``name`` compares with: the usual (mean power) or driest state; NaN
        while nothing is known. Of the fields ``place``, or of all."""
        count = self.count[place]
        if name.endswith("over_driest_db"):
            reference_db = self.driest_db[place]
        else:
            reference_db = mean_of(name, self.power[place], count)
        return np.where(count > 0, reference_db, np.nan)

    def usual_and_swing_db(
        self, typical: Typical, place: Any = slice(None)
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The usual backscatter and its swing, dB, as :class:`Typical` tells; NaN while nothing
        is known. Of the fields ``place``, or of all."""
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
        """Context ``name``: backscatter (N,) of ``place`` against what the places have shown."""
        if CONTEXT[name][1] == "place":
            usual_db, swing_db = self.usual_and_swing_db(rule.typical_of(name), place)
            return np.asarray((value_db - usual_db) / swing_db)
        if name.endswith("_between"):
            with np.errstate(invalid="ignore"):  # infinite where nothing is known yet
                swing_db = self.wettest_db[place] - self.driest_db[place]
                over_db = value_db - self.driest_db[place]
            between = np.full(len(swing_db), np.nan)
            np.divide(over_db, swing_db, out=between, where=swing_db > 0)
            return between
        return value_db - self.reference_db(name, place)


def history_of(
    name: str,
    value_db: NDArray[np.float64],
    place: NDArray[np.int64],
    order: NDArray[np.int64],
    rule: HistoryRule = WHOLE_ARCHIVE,
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Context ``name`` of (N,) values, and how many dates it is made of, both (N,).

    value_db: (N,) of places ``place`` (from 0), each once a date.  order: (N,) of the dates.

    >>> value_db, place = np.asarray([-20.0, -22.0, -21.0]), np.zeros(3, np.int64)
    >>> order = np.arange(3)
    >>> history_of("vh_over_driest_db", value_db, place, order, HistoryRule("past"))[0].tolist()
    [0.0, 0.0, 1.0]
    """
    history = History.empty(int(place.max(initial=-1)) + 1)
    compared, count = np.empty(len(value_db)), np.empty(len(value_db), np.int64)
    by_date = np.argsort(order, kind="stable")
    for one_date in np.split(by_date, np.flatnonzero(np.diff(order[by_date])) + 1):
        here = place[one_date]
        history.add(value_db[one_date], here)
        if rule.span == "past":
            compared[one_date] = history.compared(name, value_db[one_date], rule, here)
            count[one_date] = history.count[here]
    if rule.span == "past":
        return compared, count
    return history.compared(name, value_db, rule, place), history.count[place]
