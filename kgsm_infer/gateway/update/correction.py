"""Values of a pass moved by the probes of that very day, as ``--probes`` moves a table's.

A pass is what was acquired on one UTC day in one orbit. What all paddocks of it are wrong by is
estimated from the paddocks with probes (:mod:`kgsm_infer.model.date_effect`) and added to every
one that has a number. So a pass is corrected whole, or a part of it by what is known of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from ...base import flags
from ...model.card import Card
from ...model.date_effect import DateEffect
from ...probes import Comparison, estimate_effects, nearest_readings, shift_numbers
from ..store.rows import Observed, Sensed, Value
from ..store.used_readings import day_of
from .retrieval import Key

Pass = tuple[int, str]  # day, orbit


def pass_of(key: Key) -> Pass:
    """The pass an acquisition belongs to."""
    return day_of(key[1]), key[2]


def whole_passes(
    rows: Iterable[Observed], targets: set[Key], readings: Iterable[Sensed]
) -> set[Key]:
    """The targets, and of days with readings the rest of their passes."""
    days = {day_of(reading.at) for reading in readings}
    touched = {pass_of(key) for key in targets if day_of(key[1]) in days}
    keys = {(row.paddock, row.acquired, row.orbit) for row in rows} if touched else set()
    return targets | {key for key in keys if pass_of(key) in touched}


def corrected(
    card: Card,
    values: Mapping[Key, Value],
    readings: Sequence[Sensed],
    known: Mapping[Key, Value] | None = None,
) -> tuple[dict[Key, Value], list[str]]:
    """Retrieved values, each pass corrected by its readings, and reasons for unused ones.

    known: stored values. Of a paddock whose inputs were pruned, it is what its probe is
    compared with, less the correction it got. Without variances on the card, or readings, no
    value changes.
    """
    found, said = dict(values), list[str]()
    by_paddock: dict[str, list[Sensed]] = {}
    for reading in readings:
        by_paddock.setdefault(reading.paddock, []).append(reading)
    days = {day_of(reading.at) for reading in readings}
    if card.probes is None or not days:
        return found, said
    passes: dict[Pass, dict[Key, Value]] = {}
    for key, value in {**_uncorrected(known or {}), **values}.items():
        if day_of(key[1]) in days:
            passes.setdefault(pass_of(key), {})[key] = value
    for _, own in sorted(passes.items()):
        moved = own.keys() & values.keys()
        if not moved:
            continue
        effects = estimate_effects(card, {None: _compared(own, by_paddock)})
        said += effects.notes
        for effect in effects.by_pass.values():
            found.update({key: _moved(own[key], effect, card) for key in moved})
    return found, list(dict.fromkeys(said))


def _uncorrected(values: Mapping[Key, Value]) -> dict[Key, Value]:
    return {
        key: replace(value, sm=value.sm - value.sm_correction)
        for key, value in values.items()
        if value.sm is not None
    }


def nearest(readings: Iterable[Sensed], acquired: int) -> list[Sensed]:
    """Return the readings that count for an acquisition, see kgsm_infer.probes.nearest_readings.

    >>> nearest([Sensed("p", "a", at, 0.2) for at in (50, 90, 86400)], 70)[0].at
    50
    """
    known = list(readings)
    seconds = [reading.at for reading in known]
    sensors = [reading.sensor for reading in known]
    return [known[i] for i in nearest_readings(sensors, seconds, acquired)]


def _compared(
    values: Mapping[Key, Value], readings: Mapping[str, Sequence[Sensed]]
) -> list[Comparison]:
    """Each sensor of a pass once: the mean over its paddock's acquisitions in it."""
    there: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for key in sorted(values):
        value = values[key]
        if value.sm is not None:
            for reading in nearest(readings.get(value.paddock, ()), value.acquired):
                place = (value.paddock, reading.sensor)
                there.setdefault(place, []).append((reading.sm, value.sm))
    day = np.datetime64(day_of(next(iter(values))[1]), "s").astype("datetime64[D]")
    return [
        Comparison(day, paddock, fmean(pair[0] for pair in pairs), fmean(pair[1] for pair in pairs))
        for (paddock, _), pairs in there.items()
    ]


def _moved(value: Value, effect: DateEffect, card: Card) -> Value:
    """A value moved within the limits; without a number, or probes, as it is."""
    if value.sm is None or not effect.probes:
        return value
    numbers = {"sm": value.sm, "sm_lower": value.sm_lower, "sm_upper": value.sm_upper}
    known = {name: number for name, number in numbers.items() if number is not None}
    shifted = shift_numbers(card, known, effect.correction)
    mask = flags.mask_of(value.flags) | int(shifted.clipped) * flags.SM_CLIPPED
    moved: dict[str, Any] = {
        name: round(float(number), 6) for name, number in shifted.numbers.items()
    }
    return replace(
        value,
        **moved,
        flags=flags.names(mask),
        sm_correction=round(effect.correction, 6) + 0.0,  # no -0.0
        probes=effect.probes,
    )
