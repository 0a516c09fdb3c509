"""Correct the values of a pass by the probes of its day, as ``--probes`` corrects a table's.

The error that all paddocks of a pass (:mod:`kgsm_infer.tables.passes`) share is estimated from the
paddocks with probes (:mod:`kgsm_infer.model.date_effect`) and added to every one with a number. So
a pass is corrected whole, or a part of it by what is known of the rest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np

from ...model.card import Card
from ...model.date_effect import DateEffect
from ...probes import Comparison, estimate_effects, nearest_readings, shift_paddock
from ..store.rows import Observed, Sensed, Value
from ..store.used_readings import day_of, starts_of
from .retrieval import Key


def complete_passes(
    rows: Iterable[Observed], targets: set[Key], readings: Iterable[Sensed]
) -> set[Key]:
    """Return the targets, and of days with readings the rest of their passes."""
    days = {day_of(reading.at) for reading in readings}
    if not days:
        return targets
    keys = {row.key for row in rows}
    start = starts_of(key[1] for key in keys)
    touched = {start[key[1]] for key in targets if day_of(start[key[1]]) in days}
    return targets | {key for key in keys if start[key[1]] in touched}


def corrected(
    card: Card,
    values: Mapping[Key, Value],
    readings: Sequence[Sensed],
    known: Mapping[Key, Value] | None = None,
) -> tuple[dict[Key, Value], list[str]]:
    """Correct each pass of retrieved values by its readings.

    known: stored values. Of a paddock whose inputs were pruned, it is what its probe is
    compared with, less the correction it got. Without variances on the card, or readings, no
    value changes. Returns the values and the reasons for unused readings.
    """
    found, said = dict(values), list[str]()
    by_paddock: dict[str, list[Sensed]] = {}
    for reading in readings:
        by_paddock.setdefault(reading.paddock, []).append(reading)
    days = {day_of(reading.at) for reading in readings}
    if card.probes is None or not days:
        return found, said
    passes: dict[int, dict[Key, Value]] = {}
    every = {**_uncorrected(known or {}), **values}
    start_of = starts_of(key[1] for key in (known or {}).keys() | values.keys())
    for key, value in every.items():
        if day_of(start_of[key[1]]) in days:
            passes.setdefault(start_of[key[1]], {})[key] = value
    for start, own in sorted(passes.items()):
        moved = own.keys() & values.keys()
        if not moved:
            continue
        effects = estimate_effects(card, {start: _compared(own, by_paddock, start)})
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


def nearest(readings: Iterable[Sensed], start: int) -> list[Sensed]:
    """Return the readings that count for a pass, see kgsm_infer.probes.nearest_readings.

    >>> nearest([Sensed("p", "a", at, 0.2) for at in (50, 90, 86400)], 70)[0].at
    50
    """
    known = list(readings)
    seconds = [reading.at for reading in known]
    sensors = [reading.sensor for reading in known]
    return [known[i] for i in nearest_readings(sensors, seconds, start)]


def _compared(
    values: Mapping[Key, Value], readings: Mapping[str, Sequence[Sensed]], start: int
) -> list[Comparison]:
    """Compare each sensor of a pass once: with the mean of its paddock's acquisitions in it."""
    there: dict[tuple[str, str], list[tuple[float, float]]] = {}
    for key in sorted(values):
        value = values[key]
        if value.sm is not None:
            for reading in nearest(readings.get(value.paddock, ()), start):
                place = (value.paddock, reading.sensor)
                there.setdefault(place, []).append((reading.sm, value.sm))
    day = np.datetime64(start, "s").astype("datetime64[D]")
    return [
        Comparison(day, paddock, fmean(pair[0] for pair in pairs), fmean(pair[1] for pair in pairs))
        for (paddock, _), pairs in there.items()
    ]


def _moved(value: Value, effect: DateEffect, card: Card) -> Value:
    """Move a value within the limits; one without a number, or without probes, stays."""
    if value.sm is None or not effect.probes:
        return value
    numbers = {"sm": value.sm, "sm_lower": value.sm_lower, "sm_upper": value.sm_upper}
    known = {name: number for name, number in numbers.items() if number is not None}
    shifted = shift_paddock(card, known, value.flags, effect)
    moved: dict[str, Any] = dict(shifted.numbers)
    return replace(
        value,
        **moved,
        flags=shifted.flags,
        sm_correction=shifted.correction,
        probes=effect.probes,
    )
