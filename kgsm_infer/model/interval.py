"""Intervals around a retrieved value: offsets, scaled by what is known beforehand.

    sm_lower = sm + lower * factor,   sm_upper = sm + upper * factor
    factor   = intercept + slope_1 x_1 + ..., kept within bounds

Each x is known before any label: ``sm`` itself, a dynamic channel of the target acquisition
(``ndvi`` ...), or a flag (``short_history`` ...), 1 where it is raised. A point and the mean of a
field have separate offsets. The card holds the numbers; training estimates them
(:mod:`kgsm_train.evaluation.conformal`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.schema import Range, build, show

#: Largest size of a number in an interval.
MOST = 1e6
_Number = Annotated[float, Range(-MOST, MOST)]
_Bound = Annotated[float, Range(above=0, high=MOST)]


@dataclass(frozen=True)
class WidthTerm:
    """One x of the factor: its name and slope."""

    name: str
    slope: _Number


@dataclass(frozen=True)
class Width:
    """Offsets added to SM, m3 m-3, lower <= 0 <= upper, and what scales them."""

    lower: Annotated[float, Range(-MOST, 0)]
    upper: Annotated[float, Range(0, MOST)]
    intercept: _Number = 1.0
    terms: tuple[WidthTerm, ...] = ()
    bounds: tuple[_Bound, _Bound] = (1.0, 1.0)

    def __post_init__(self) -> None:
        """Check the order of the bounds."""
        if not self.bounds[0] <= self.bounds[1]:
            raise ValueError(f"bounds {self.bounds[0]:g} to {self.bounds[1]:g} are not a range")


@dataclass(frozen=True)
class Interval:
    """level: share of unseen values inside.  field: of field means; None where not known."""

    level: float
    point: Width
    field: Width | None = None


@dataclass(frozen=True)
class _Level:
    """The share of unseen values inside an interval, alone."""

    level: Annotated[float, Range(above=0, below=1)]


def interval_of(raw: Mapping[str, Any], channels: Sequence[str]) -> Interval:
    """Read the ``interval`` entry of a card. ValueError where it is invalid.

    channels: names of the card's dynamic channels, which a point's width may read.
    ``{"level": 0.9, "lower": -0.1, "upper": 0.1}`` is the least; ``intercept``, ``terms`` and
    ``bounds`` scale it, and ``field`` holds the same keys for field means. Other keys are
    evidence, which no number is made from.

    >>> interval_of({"level": 0.9, "lower": -0.1, "upper": 0.1}, ()).point.upper
    0.1
    """
    level = build(_Level, {"level": raw.get("level")}, "interval").level
    point = _width(raw, ("sm", *channels, *flags.NAMES), "interval")
    field = raw.get("field")
    return Interval(
        level, point, None if field is None else _width(field, ("sm",), "interval.field")
    )


def _width(raw: Any, known: Sequence[str], key: str) -> Width:
    """Read the keys of a width; ValueError for a term that is not among the known names."""
    if isinstance(raw, Mapping):
        raw = {name: value for name, value in raw.items() if name in Width.__dataclass_fields__}
    width = build(Width, raw, key)
    for term in width.terms:
        if term.name not in known:
            raise ValueError(f"{key} reads {show(term.name)}, which the model does not know")
    return width


def factor(width: Width, given: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
    """Return (N,) float32 what scales the offsets; the largest where an x is not known (NaN).

    given: name of x -> (N,) values.
    """
    total = np.asarray(width.intercept, np.float32)
    for term in width.terms:
        total = np.asarray(
            total + np.float32(term.slope) * np.asarray(given[term.name], np.float32)
        )
    low, high = (np.float32(end) for end in width.bounds)
    total = np.where(np.isnan(total), high, total)
    return np.asarray(np.clip(total, low, high), np.float32)


def ends(
    width: Width, sm: ArrayLike, given: Mapping[str, ArrayLike], limits: tuple[float, float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Lower and upper end (N,) around SM (N,), within the physical limits; NaN where SM is."""
    sm = np.asarray(sm, np.float32)
    scale = factor(width, {**given, "sm": sm})
    low, high = np.float32(limits[0]), np.float32(limits[1])
    lower = np.clip(sm + np.float32(width.lower) * scale, low, high)
    upper = np.clip(sm + np.float32(width.upper) * scale, low, high)
    return np.asarray(lower, np.float32), np.asarray(upper, np.float32)


def known_of(
    mask: NDArray[np.integer], dynamic: NDArray[np.float32] | None, channels: Sequence[str]
) -> dict[str, ArrayLike]:
    """Return what a width may read of N retrievals: flags as 0 and 1, and the target's channels.

    mask: (N,).  dynamic: (N, Fd) in the order of ``channels``, or None without any.
    """
    found: dict[str, ArrayLike] = {
        name: ((mask >> bit) & 1).astype(np.float32) for bit, name in enumerate(flags.NAMES)
    }
    if dynamic is not None:
        found |= {name: dynamic[:, i] for i, name in enumerate(channels)}
    return found
