"""Rows of the store as Python values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

#: A number of each row that comes from simulated data, 1.
SIMULATED = "simulated"


@dataclass(frozen=True)
class Value:
    """One row of ``value``.

    sm, sm_lower, sm_upper: of the row's ``quantity``, in its unit; None without a number.

    acquired: seconds since 1970, UTC.  orbit: '' where the table names none.
    valid_share, rows: as of a paddock's line (kgsm_infer.paddocks.summary).
    model: sha256 of the model file, its first 16 digits.
    sm_correction: what probes of the pass moved it by, within the limits.  probes: how many.
    quantity: a name of :mod:`kgsm_infer.base.quantities`; '' in a row of an older kgsm until
    :func:`kgsm_infer.gateway.update.models.label_quantities` has read its model.
    """

    paddock: str
    acquired: int
    orbit: str
    revision: int
    sm: float | None
    sm_lower: float | None
    sm_upper: float | None
    valid_share: float
    rows: float
    flags: str
    reason: str
    model: str
    simulated: int
    sequence: int
    sm_correction: float = 0.0
    probes: int = 0
    quantity: str = ""

    @property
    def key(self) -> tuple[str, int, str, int]:
        return self.paddock, self.acquired, self.orbit, self.revision


@dataclass(frozen=True, slots=True)
class Observed:
    """The inputs of one site at one acquisition.

    means: True if the row is its paddock's mean (a scene, or a table of one row each).
    why: reason of a gap that the table did not have: rows of the table contradict each other.
    sequence: number of the arrival it is from; 0 if unknown.
    """

    paddock: str
    acquired: int
    orbit: str
    site: str
    means: bool
    numbers: Mapping[str, float]
    why: str = ""
    sequence: int = field(default=0, compare=False)

    @property
    def key(self) -> tuple[str, int, str]:
        """The acquisition of its paddock: (paddock, acquired, orbit)."""
        return self.paddock, self.acquired, self.orbit


class Sensed(NamedTuple):
    """One reading. sensor: '' where it has no name.  at: seconds since 1970.  sm: m3 m-3."""

    paddock: str
    sensor: str
    at: int
    sm: float


class NewestReading(NamedTuple):
    """The newest reading of a paddock: the mean of its sensors. at: seconds since 1970."""

    at: int
    sm: float
    sensors: int
