"""Intervals around a retrieved value: offsets, scaled by what is known beforehand.

    sm_lower = sm + lower * factor,   sm_upper = sm + upper * factor
    factor   = intercept + slope_1 x_1 + ..., kept within bounds

Each x is known before any label: ``sm`` itself, a dynamic channel of the target acquisition
(``ndvi`` ...), or a flag (``short_history`` ...), 1 where it is raised. A point and the mean of a
field have separate offsets. The card holds the numbers; training estimates them
(:mod:`kgsm_train.evaluation.conformal`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags


@dataclass(frozen=True)
class WidthTerm:
    """One x of the factor: its name and slope."""

    name: str
    slope: float


@dataclass(frozen=True)
class Width:
    """Offsets added to SM, m3 m-3, lower <= 0 <= upper, and what scales them."""

    lower: float
    upper: float
    intercept: float = 1.0
    terms: tuple[WidthTerm, ...] = ()
    bounds: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Interval:
    """level: share of unseen values inside.  field: of field means; None where not known."""

    level: float
    point: Width
    field: Width | None = None


def interval_of(raw: Mapping[str, Any], channels: Sequence[str]) -> Interval:
    """Read the ``interval`` entry of a card. ValueError where it is invalid.

    channels: names of the card's dynamic channels, which a point's width may read.
    ``{"level": 0.9, "lower": -0.1, "upper": 0.1}`` is the least; ``intercept``, ``terms`` and
    ``bounds`` scale it, and ``field`` holds the same keys for field means.

    >>> interval_of({"level": 0.9, "lower": -0.1, "upper": 0.1}, ()).point.upper
    0.1
    """
    level = _number(raw, "level")
    if not 0 < level < 1:
        raise ValueError(f"interval level {level!r} does not lie in (0, 1)")
    point = _width(raw, ("sm", *channels, *flags.NAMES))
    field = raw.get("field")
    if field is not None and not isinstance(field, Mapping):
        raise ValueError("interval field is not an object")
    return Interval(level, point, None if field is None else _width(field, ("sm",)))


def _width(raw: Mapping[str, Any], known: Sequence[str]) -> Width:
    lower, upper = _number(raw, "lower"), _number(raw, "upper")
    if not lower <= 0 <= upper:
        raise ValueError(f"interval {lower!r} to {upper!r} does not hold 0")
    listed, bounds = raw.get("terms", ()), raw.get("bounds", (1.0, 1.0))
    if not isinstance(listed, (list, tuple)) or not isinstance(bounds, (list, tuple)):
        raise ValueError("interval terms and bounds are lists")
    terms = []
    for item in listed:
        name = item.get("name") if isinstance(item, Mapping) else None
        if name not in known:
            raise ValueError(f"interval reads {str(name)[:40]!r}, which the model does not know")
        terms.append(WidthTerm(str(name), _number(item, "slope")))
    if len(bounds) != 2:
        raise ValueError("interval bounds are two numbers")
    ends = {"low": bounds[0], "high": bounds[1]}
    low, high = _number(ends, "low"), _number(ends, "high")
    if not 0 < low <= high:
        raise ValueError(f"interval bounds {low!r} to {high!r} are not a range above 0")
    intercept = _number(raw, "intercept") if "intercept" in raw else 1.0
    return Width(lower, upper, intercept, tuple(terms), (low, high))


def _number(raw: Mapping[str, Any], key: str) -> float:
    value = raw.get(key)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or abs(value) > 1e6:
        raise ValueError(f"interval {key} is not a number")
    if not math.isfinite(value):
        raise ValueError(f"interval {key} is not a finite number")
    return float(value)


def factor(width: Width, given: Mapping[str, ArrayLike]) -> NDArray[np.float32]:
    """(N,) float32 what scales the offsets; the largest where an x is not known (NaN).

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
