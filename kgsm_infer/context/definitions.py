"""Definitions of context: columns of a row computed from its field, its scene and its past.

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
    vh_anomaly_fields, vv_anomaly_fields     mean over the fields of one date of the mean of
                                             vh_anomaly within each field
    ndvi_over_scene                          ndvi less its mean over the scene

A :class:`HistoryRule` sets the passes that make a past: those up to the row's own, as in
operation, or all of the table, later ones too. A model needs the archive of a field, or its
state file, with the newest acquisition.

A context column in a table overrides the computed one; a gateway that sees one paddock at a
time, or a raster whose pixels were averaged before, can provide it. Values computed from fewer
rows than ``ContextColumn.minimum_rows`` are flagged ``context_missing``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

from ..base.errors import DataError


class SharedBy(Enum):
    """The rows that share one value of a context column."""

    #: All points of one field in one pass.
    FIELD = "field"
    #: All rows of one pass (and orbit).
    SCENE = "scene"
    #: All fields of one pass (and orbit): the mean over fields of each field's mean. Without
    #: fields every site, or every pixel, is a field.
    FIELDS = "fields"
    #: As SCENE; the value is the row's own minus the scene's.
    DEPARTURE = "departure"
    #: All passes of one field (and orbit).
    FIELD_PAST = "field past"
    #: All passes of one site (and orbit).
    SITE_PAST = "site past"

    @property
    def is_past(self) -> bool:
        """True for a comparison with other passes of the same place."""
        return self in (SharedBy.FIELD_PAST, SharedBy.SITE_PAST)

    @property
    def is_scene(self) -> bool:
        """True for a mean that other fields of the pass contribute to."""
        return self in (SharedBy.SCENE, SharedBy.FIELDS, SharedBy.DEPARTURE)


@dataclass(frozen=True)
class ContextColumn:
    """Definition of a context column.

    base: the column it is computed from.
    shared_by: the rows that contribute to one value.
    minimum_rows: with fewer rows (of a past: passes) the value is flagged ``context_missing``.
    """

    base: str
    shared_by: SharedBy
    minimum_rows: int


_MINIMUM_ROWS: Mapping[SharedBy, int] = {
    SharedBy.FIELD: 2,
    SharedBy.SCENE: 10,
    SharedBy.FIELDS: 1,
    SharedBy.DEPARTURE: 10,
    SharedBy.FIELD_PAST: 5,
    SharedBy.SITE_PAST: 5,
}


def _column(base: str, shared_by: SharedBy) -> ContextColumn:
    return ContextColumn(base, shared_by, _MINIMUM_ROWS[shared_by])


#: Definition of every context column, by name.
CONTEXT: Mapping[str, ContextColumn] = {
    "vh_field_db": _column("vh_db", SharedBy.FIELD),
    "vv_field_db": _column("vv_db", SharedBy.FIELD),
    "ndvi_field": _column("ndvi", SharedBy.FIELD),
    "vh_scene_db": _column("vh_db", SharedBy.SCENE),
    "vv_scene_db": _column("vv_db", SharedBy.SCENE),
    "ndvi_scene": _column("ndvi", SharedBy.SCENE),
    "vh_over_usual_db": _column("vh_field_db", SharedBy.FIELD_PAST),
    "vv_over_usual_db": _column("vv_field_db", SharedBy.FIELD_PAST),
    "vh_over_driest_db": _column("vh_field_db", SharedBy.FIELD_PAST),
    "vv_over_driest_db": _column("vv_field_db", SharedBy.FIELD_PAST),
    "vh_between": _column("vh_field_db", SharedBy.FIELD_PAST),
    "vv_between": _column("vv_field_db", SharedBy.FIELD_PAST),
    "vh_between_scene": _column("vh_between", SharedBy.SCENE),
    "vv_between_scene": _column("vv_between", SharedBy.SCENE),
    "vh_anomaly": _column("vh_db", SharedBy.SITE_PAST),
    "vv_anomaly": _column("vv_db", SharedBy.SITE_PAST),
    "vh_anomaly_scene": _column("vh_anomaly", SharedBy.SCENE),
    "vv_anomaly_scene": _column("vv_anomaly", SharedBy.SCENE),
    "vh_anomaly_fields": _column("vh_anomaly", SharedBy.FIELDS),
    "vv_anomaly_fields": _column("vv_anomaly", SharedBy.FIELDS),
    "ndvi_over_scene": _column("ndvi_scene", SharedBy.DEPARTURE),
}

#: A count that satisfies every context column, for columns that the input provides.
ENOUGH = max(column.minimum_rows for column in CONTEXT.values())

#: Passes that enter a place's past: those up to the row's own, or all of the input.
SPANS = ("past", "all")


@dataclass(frozen=True)
class Typical:
    """Typical place of a region; it replaces a place's own past where that is short.

    looks: weight of the typical place, in acquisitions (k below).
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
    """Passes and typical places that a place is compared with.

    span: ``past``, the acquisitions up to the one asked for, which is all that a user has in
        operation, or ``all`` of the input.
    typical: polarisation (``vh``, ``vv``) -> the typical place of the training data, which
        the anomalies need.
    """

    span: str = "all"
    typical: Mapping[str, Typical] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.span not in SPANS:
            raise ValueError(f"history {self.span!r} is neither past nor all")

    def typical_of(self, name: str) -> Typical:
        """Return the typical place for context ``name``; DataError without one."""
        if name[:2] not in self.typical:
            raise DataError(
                f"{name} needs the typical place of a training table, and the rule has none"
            )
        return self.typical[name[:2]]


def needed(names: Sequence[str], given: Callable[[str], bool]) -> list[str]:
    """List the contexts among ``names`` that are not given, and their bases, bases first.

    >>> needed(["ndvi_over_scene", "vv_db"], given=lambda name: name == "ndvi")
    ['ndvi_scene', 'ndvi_over_scene']
    """
    found: dict[str, None] = {}
    for name in names:
        chain = []
        while name in CONTEXT and not given(name):
            chain.append(name)
            name = CONTEXT[name].base
        found.update(dict.fromkeys(reversed(chain)))
    return [*found]


#: Rule of models whose card names none.
WHOLE_ARCHIVE = HistoryRule()


def looks_back(name: str) -> bool:
    """Return True for a column computed, directly or not, from other passes of a place.

    >>> [looks_back(name) for name in ("vh_anomaly_scene", "vh_over_usual_db", "vh_scene_db")]
    [True, True, False]
    """
    while name in CONTEXT:
        if CONTEXT[name].shared_by.is_past:
            return True
        name = CONTEXT[name].base
    return False


def first_available(name: str, names: Container[str]) -> str:
    """Return the first of ``names`` that a context is computed from, or its observed column.

    >>> first_available("vh_over_usual_db", ["vh_field_db"])
    'vh_field_db'
    >>> first_available("vh_over_usual_db", [])
    'vh_db'
    """
    while name in CONTEXT and name not in names:
        name = CONTEXT[name].base
    return name


def too_few(name: str, count: Any) -> Any:
    """Return True where ``count`` rows (of a past: passes) are too few for a context."""
    return count < CONTEXT[name].minimum_rows
