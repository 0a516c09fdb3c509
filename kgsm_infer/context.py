"""What a row takes from other rows: its field and its scene on that date, and its past.

Speckle averages out over a field, and the scene's level on a date carries what all fields
share (rain, dew, the sensor). A field's own usual and driest state take out what does not
change there (roughness, rows, slope), as in change detection. Backscatter is averaged in
linear power, before any logarithm or isolation; NDVI as it is.

    vh_field_db, vv_field_db, ndvi_field     mean over rows of one ``field`` and date
    vh_scene_db, vv_scene_db, ndvi_scene     mean over all rows of one date (and orbit)
    vh_over_usual_db, vv_over_usual_db       vh_field_db over its mean over all dates, dB
    vh_over_driest_db, vv_over_driest_db     vh_field_db over its lowest of all dates, dB
    vh_between, vv_between                   vh_field_db between the field's driest date, 0, and
                                             its wettest, 1; NaN where it has shown but one state
    vh_between_scene, vv_between_scene       mean of that over all rows of one date
    vh_anomaly, vv_anomaly                   the row's own vh_db over what is usual at its
                                             site, in its own swings (see :class:`Typical`)
    vh_anomaly_scene, vv_anomaly_scene       mean of that over all rows of one date
    ndvi_over_scene                          ndvi less its mean over the scene

Which dates make a history is a :class:`HistoryRule`: those up to the row's own date, as
in operation, or all of the table, later ones too. To be used as in training, give the
archive of a field with its newest acquisition.

A table that has such a column is believed, and so a gateway that sees one paddock at a
time, or a raster whose pixels are averaged elsewhere, brings its own. Otherwise the context
is made of the rows at hand. Fewer of them than training had the habit of seeing are flagged
``context_missing``: the number is then made with a context that is not one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .errors import DataError
from .kernels.wcm import DB_TO_NEPER

if TYPE_CHECKING:
    pass

#: Context column -> (the column it is made of, who shares it).
CONTEXT: Mapping[str, tuple[str, str]] = {
    "vh_field_db": ("vh_db", "field"),
    "vv_field_db": ("vv_db", "field"),
    "ndvi_field": ("ndvi", "field"),
    "vh_scene_db": ("vh_db", "scene"),
    "vv_scene_db": ("vv_db", "scene"),
    "ndvi_scene": ("ndvi", "scene"),
    "vh_over_usual_db": ("vh_field_db", "history"),
    "vv_over_usual_db": ("vv_field_db", "history"),
    "vh_over_driest_db": ("vh_field_db", "history"),
    "vv_over_driest_db": ("vv_field_db", "history"),
    "vh_between": ("vh_field_db", "history"),
    "vv_between": ("vv_field_db", "history"),
    "vh_between_scene": ("vh_between", "scene"),
    "vv_between_scene": ("vv_between", "scene"),
    "vh_anomaly": ("vh_db", "place"),
    "vv_anomaly": ("vv_db", "place"),
    "vh_anomaly_scene": ("vh_anomaly", "scene"),
    "vv_anomaly_scene": ("vv_anomaly", "scene"),
    "ndvi_over_scene": ("ndvi_scene", "departure"),
}

#: What makes a context: two points of a field, ten of a scene, five dates of a history.
ENOUGH: Mapping[str, int] = {"field": 2, "scene": 10, "departure": 10, "history": 5, "place": 5}

#: Those that compare with what a field, or the place itself, has shown on other dates.
HISTORIES = ("history", "place")
#: Which acquisitions make a history.
SPANS = ("past", "all")


@dataclass(frozen=True)
class Typical:
    """The typical place of a region, which stands in where a place's own past is short.

    looks: so many acquisitions of it stand before a place's own (k below).
    usual_db: mean backscatter, dB.  swing_db: standard deviation in time, dB, above 0.

    With n acquisitions of a place, of mean m and standard deviation s,

        usual_db = (n m + k usual_typical) / (n + k)
        swing_db = sqrt((n s**2 + k swing_typical**2) / (n + k))
        anomaly  = (value_db - usual_db) / swing_db

    which is the estimate of a place's own state that errs least where places differ by chance
    (empirical Bayes: Efron & Morris 1973, J. Am. Stat. Assoc. 68, 117).
    """

    looks: float
    usual_db: float
    swing_db: float

    def __post_init__(self) -> None:
        values = (self.looks, self.usual_db, self.swing_db)
        if not (all(map(math.isfinite, values)) and self.looks >= 0 and self.swing_db > 0):
            raise ValueError(f"not a typical place: {self}")


@dataclass(frozen=True)
class HistoryRule:
    """How a history is made.

    span: ``past``, the acquisitions up to the one asked for, which is all that a user has in
        operation, or ``all`` of those at hand.
    typical: polarisation (``vh``, ``vv``) -> the typical place of the training data, which
        the anomalies need.
    """

    span: str = "all"
    typical: Mapping[str, Typical] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.span not in SPANS:
            raise ValueError(f"history {self.span!r} is neither past nor all")

    def typical_of(self, name: str) -> Typical:
        """The typical place context ``name`` is compared with; DataError where none is known."""
        if name[:2] not in self.typical:
            raise DataError(
                f"{name} is made with the typical place of a training table, and none is given"
            )
        return self.typical[name[:2]]


def needed(names: Sequence[str], given: Callable[[str], bool]) -> list[str]:
    """The contexts among ``names`` that are not given, and those they are made of, bases first.

    >>> needed(["ndvi_over_scene", "vv_db"], given=lambda name: name == "ndvi")
    ['ndvi_scene', 'ndvi_over_scene']
    """
    found: dict[str, None] = {}
    for name in names:
        chain = []
        while name in CONTEXT and not given(name):
            chain.append(name)
            name = CONTEXT[name][0]
        found.update(dict.fromkeys(reversed(chain)))
    return [*found]


#: As models were before there was a choice.
WHOLE_ARCHIVE = HistoryRule()


def looks_back(name: str) -> bool:
    """Whether a column is made of other dates of a place, now or in the end.

    >>> [looks_back(name) for name in ("vh_anomaly_scene", "vh_over_usual_db", "vh_scene_db")]
    [True, True, False]
    """
    while name in CONTEXT:
        if CONTEXT[name][1] in ("history", "place"):
            return True
        name = CONTEXT[name][0]
    return False


def first_given(name: str, names: Container[str]) -> str:
    """The column a context is made of that is at hand, or the plain one it comes from.

    >>> first_given("vh_over_usual_db", ["vh_field_db"]), first_given("vh_over_usual_db", [])
    ('vh_field_db', 'vh_db')
    """
    while name in CONTEXT and name not in names:
        name = CONTEXT[name][0]
    return name


def to_power(name: str, values: Any) -> Any:
    """What may be averaged of a column: linear power of dB, other values as they are.

    values: float64, an array or what NumPy's functions know (xarray).
    """
    with np.errstate(over="ignore"):
        return np.exp(values * DB_TO_NEPER) if name.endswith("_db") else values


def sums_by_group(
    name: str, values: NDArray[np.float64], group: NDArray[np.int64], groups: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Sum and count over the (N,) values of each group that are numbers, both (groups,).

    name: of the column.  group: (N,) from 0; values of group -1 belong to none. Sums of
    parts may be added up before :func:`mean_of`.
    """
    there = np.isfinite(values) & (group >= 0)
    among = group[there]
    total = np.bincount(among, to_power(name, values[there]), groups)
    return np.asarray(total, np.float64), np.bincount(among, minlength=groups)


def mean_of(name: str, total: Any, count: Any) -> Any:
    """The mean of a column, in its own unit; NaN of nothing.

    total: sum of :func:`to_power` over ``count`` values, both arrays as there.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = total / count
        return np.log(mean) / DB_TO_NEPER if name.endswith("_db") else mean


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


def too_few(name: str, count: Any) -> Any:
    """Where a context of ``count`` rows (of a history: dates) is none."""
    return count < ENOUGH[CONTEXT[name][1]]
