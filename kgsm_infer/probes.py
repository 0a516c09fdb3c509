"""Correct retrievals by a few soil moisture sensors: shift all values of a pass alike.

The shift of a pass is a random effect estimated from its sensors
(:mod:`kgsm_infer.model.date_effect`). On dates the model was trained on nothing is corrected; the
card lists them. Rows of a table, pixels of a map, paddocks and the gateway use this module:

    1. nearest_readings   of each sensor, the readings that count for a pass
    2. compare_passes     each of them with the value retrieved at its place in that pass
    3. estimate_effects   the shift of each pass
    4. shift_numbers      value and interval moved by it, within the model's limits
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import flags
from .base.errors import DataError, UsageError
from .base.quantities import SOIL_MOISTURE
from .model.card import Card
from .model.date_effect import DateEffect, date_effect, variances_of
from .model.result import Retrieval
from .tables.passes import pass_starts
from .tables.table import Table, read_table

#: Longest distance between a sensor and the row its coordinates select, metres.
NEAR_M = 100.0
#: Decimals of a paddock's numbers.
DECIMALS = 6
_M_PER_DEGREE = 111_320.0
DAY_S = 86400

Pass = TypeVar("Pass", bound=Hashable)


@dataclass(frozen=True)
class Comparison:
    """One sensor in one pass: measured and retrieved soil moisture, m3 m-3.

    day: UTC day of the pass.  field: sensors of one field share the field's error.
    """

    day: np.datetime64
    field: str
    observed: float
    predicted: float


@dataclass(frozen=True)
class Retrieved:
    """The value retrieved at a sensor's place in a pass, m3 m-3, and the field it lies in."""

    field: str
    sm: float


@dataclass(frozen=True)
class Effects(Generic[Pass]):
    """The effect of each pass with sensors, and notes about sensors that were not used."""

    by_pass: Mapping[Pass, DateEffect]
    notes: tuple[str, ...] = ()


def nearest_readings(sensors: Sequence[str], seconds: Sequence[int], at: int) -> list[int]:
    """Return the indices of the readings that count for a pass at ``at``, ascending.

    Of each sensor the reading nearest in time on the UTC day of the pass counts, and of two
    equally near the earlier one. Several readings of one sensor at that instant all count.
    sensors, seconds: (N,) of each reading; seconds and ``at`` are seconds since 1970.

    >>> nearest_readings(["a", "a", "b", "a"], [50, 90, 60, 86400], 70)
    [0, 2]
    """
    nearest: dict[str, tuple[int, int]] = {}
    for sensor, second in zip(sensors, seconds, strict=True):
        if second // DAY_S == at // DAY_S:
            distance = (abs(second - at), second)
            nearest[sensor] = min(distance, nearest.get(sensor, distance))
    return [
        i
        for i, (sensor, second) in enumerate(zip(sensors, seconds, strict=True))
        if second // DAY_S == at // DAY_S and nearest[sensor][1] == second
    ]


def estimate_effects(card: Card, passes: Mapping[Pass, Sequence[Comparison]]) -> Effects[Pass]:
    """Estimate the effect of each pass from its comparisons.

    UsageError where the card has no variances (the model was fitted without a cross-validation
    that scores new dates), or where the model does not retrieve soil moisture.
    """
    if card.retrieves is not SOIL_MOISTURE:
        raise UsageError(
            f"sensors measure soil moisture, and this model retrieves {card.retrieves.name} "
            f"(unit {card.retrieves.unit}); run it without probes"
        )
    if card.probes is None:
        raise UsageError(
            "this model's card has no variances to weigh probes by; fit it again after a "
            "cross-validation with scores on new dates, into the same folder"
        )
    variances, trained = variances_of(card.probes), set(card.training_data.get("dates", ()))
    found: dict[Pass, DateEffect] = {}
    unused: dict[str, int] = {}
    for key, comparisons in passes.items():
        if not comparisons:
            continue
        day = str(comparisons[0].day.astype("datetime64[D]"))
        if day in trained:
            unused[day] = max(unused.get(day, 0), len(comparisons))
            continue
        residual = [one.observed - one.predicted for one in comparisons]
        found[key] = date_effect(variances, residual, [one.field for one in comparisons])
    notes = [
        f"{count} probes of {day} not used: the model was trained on that date"
        for day, count in sorted(unused.items())
    ]
    return Effects(found, tuple(notes))


def compare_passes(
    card: Card,
    probes: Table,
    times: NDArray[np.datetime64],
    retrieved_at: Callable[[int, int], Retrieved | None],
    place: str,
) -> Effects[int]:
    """Estimate the effect of each of P passes from a file of sensors.

    probes: as :func:`read_probes` returns it; a ``site`` is one sensor.  times: (P,) of the
    passes.  retrieved_at: (row of probes, pass) -> the value at that place, None without a
    number.  place: row, pixel or paddock, for the note about sensors that match none.
    """
    known = np.flatnonzero(np.isfinite(probes.numbers["sm"]))
    sensors = [str(probes.site[i]) for i in known]
    seconds = probes.date[known].astype("datetime64[s]").astype(np.int64).tolist()
    passes: dict[int, list[Comparison]] = {}
    matched: set[int] = set()
    days = {second // DAY_S for second in seconds}
    for p, at in enumerate(times.astype("datetime64[s]").astype(np.int64).tolist()):
        if at // DAY_S not in days:
            continue
        for one in nearest_readings(sensors, seconds, at):
            i = int(known[one])
            value = retrieved_at(i, p)
            if value is None:
                continue
            matched.add(i)
            day, observed = times[p].astype("datetime64[D]"), float(probes.numbers["sm"][i])
            passes.setdefault(p, []).append(Comparison(day, value.field, observed, value.sm))
    effects = estimate_effects(card, passes)
    used = {sensors[at] for at, i in enumerate(known) if int(i) in matched}
    lost = len(set(sensors) - used)
    if not lost:
        return effects
    note = f"{lost} probes not used: no {place} with a number at their place on their day"
    return Effects(effects.by_pass, (*effects.notes, note))


@dataclass(frozen=True)
class Shifted:
    """Numbers after a correction. clipped: where the value went beyond the model's limits."""

    numbers: Mapping[str, NDArray[np.floating]]
    clipped: NDArray[np.bool_]


def shift_numbers(card: Card, numbers: Mapping[str, ArrayLike], correction: ArrayLike) -> Shifted:
    """Add a correction to values and keep them within the limits of the card.

    numbers: arrays of one shape by name, ``sm`` among them; NaN stays NaN.  correction: of that
    shape or one number; where it is 0 no bit of a number changes.
    """
    low, high = card.limits.sm
    step = np.asarray(correction)
    moved = step != 0

    def add(values: ArrayLike) -> NDArray[np.floating]:
        before = np.asarray(values)
        kind = before.dtype.type
        return np.where(moved, np.clip(before + step.astype(kind), kind(low), kind(high)), before)

    sm = np.asarray(numbers["sm"])
    after = sm + step.astype(sm.dtype)
    clipped = moved & ((after < sm.dtype.type(low)) | (after > sm.dtype.type(high)))
    return Shifted({name: add(values) for name, values in numbers.items()}, clipped)


def shift(card: Card, result: Retrieval, correction: NDArray[np.float32]) -> Retrieval:
    """Shift N retrievals by (N,) corrections, m3 m-3."""
    numbers = {"sm": result.sm, "lower": result.lower, "upper": result.upper}
    shifted = shift_numbers(card, numbers, correction)
    mask = result.flags | shifted.clipped * np.uint16(flags.SM_CLIPPED)
    moved: dict[str, Any] = dict(shifted.numbers)
    return replace(result, **moved, flags=mask)


@dataclass(frozen=True)
class ShiftedPaddock:
    """Numbers of a paddock after a correction, rounded, and its flags, joined with ``;``."""

    numbers: Mapping[str, float]
    flags: str
    correction: float


def shift_paddock(
    card: Card, numbers: Mapping[str, float], flag_names: str, effect: DateEffect
) -> ShiftedPaddock:
    """Shift the numbers of a paddock, ``sm`` among them, by the effect of its pass.

    flag_names: its flags, joined with ``;``.
    """
    shifted = shift_numbers(card, numbers, effect.correction)
    mask = flags.mask_of(flag_names) | int(shifted.clipped) * flags.SM_CLIPPED
    return ShiftedPaddock(
        {name: round(float(value), DECIMALS) for name, value in shifted.numbers.items()},
        flags.names(mask),
        round(effect.correction, DECIMALS) + 0.0,  # no -0.0
    )


def read_probes(path: str | Path) -> Table:
    """Read ``site,date,sm`` of sensors, with ``field``, ``lat``, ``lon`` where known.

    DataError names file, row, column and value of an invalid cell.
    """
    probes = read_table(path, require=("sm",), once=False, reads=("sm", "lat", "lon"))
    if not np.isfinite(probes.numbers["sm"]).any():
        raise DataError(f"{path}: no probe has a reading in column sm")
    return probes


@dataclass(frozen=True)
class Corrected:
    """Corrected retrievals of N rows, and the correction of each.

    correction: m3 m-3, 0 without one.  weight: of the sensors, 0 to 1.  probes: how many were
    used.  notes: about sensors that were not.
    """

    result: Retrieval
    correction: NDArray[np.float32]
    weight: NDArray[np.float32]
    probes: NDArray[np.int64]
    notes: tuple[str, ...]

    def columns(self) -> dict[str, ArrayLike]:
        """Return the columns a table gains by the correction."""
        return {
            "sm_correction": self.correction,
            "probe_weight": self.weight,
            "probes": self.probes,
        }


def correct_rows(card: Card, table: Table, result: Retrieval, probes: Table) -> Corrected:
    """Correct the retrievals of a table's rows, pass by pass.

    A sensor belongs to the rows of its site in the pass; else to those of its field; else to the
    nearest row within NEAR_M. A sensor without such a row with a number is not used.
    """
    starts, number = np.unique(pass_starts(table.date), return_inverse=True)
    fields = np.asarray(table.text.get("field", table.site), np.str_)

    def retrieved_at(i: int, p: int) -> Retrieved | None:
        rows = _rows_of_probe(table, fields, np.isfinite(result.sm) & (number == p), probes, i)
        if not len(rows):
            return None
        return Retrieved(str(fields[rows[0]]), float(result.sm[rows].mean()))

    found = compare_passes(card, probes, starts, retrieved_at, "row")
    n = len(result)
    correction, weight = np.zeros(n, np.float32), np.zeros(n, np.float32)
    used = np.zeros(n, np.int64)
    for p, effect in found.by_pass.items():
        here = number == p
        correction[here] = effect.correction
        weight[here] = effect.weight
        used[here] = effect.probes
    return Corrected(shift(card, result, correction), correction, weight, used, found.notes)


def _rows_of_probe(
    table: Table,
    fields: NDArray[np.str_],
    here: NDArray[np.bool_],
    probes: Table,
    i: int,
) -> NDArray[np.int64]:
    """Return the rows among ``here`` (R,) at the place of probe ``i``."""
    names = [(table.site, str(probes.site[i])), (fields, str(probes.site[i]))]
    if "field" in probes.text:
        names.append((fields, probes.text["field"][i]))
    for column, name in names:
        rows = np.flatnonzero(here & (column == name)) if name else np.empty(0, np.int64)
        if len(rows):
            return rows
    if not all(key in one.numbers for key in ("lat", "lon") for one in (table, probes)):
        return np.empty(0, np.int64)
    lat, lon = probes.numbers["lat"][i], probes.numbers["lon"][i]
    north = (table.numbers["lat"] - lat) * _M_PER_DEGREE
    east = (table.numbers["lon"] - lon) * _M_PER_DEGREE * math.cos(math.radians(float(lat)))
    distance = np.where(here, np.hypot(north, east), np.inf)
    nearest = int(np.nanargmin(np.where(np.isnan(distance), np.inf, distance)))
    return np.asarray([nearest] if distance[nearest] <= NEAR_M else [], np.int64)
