"""A few sensors on the farm correct the level of the same date, and nothing else.

Which rows a probe belongs to, and what becomes of the numbers; the statistics are
:mod:`kgsm_infer.model.date_effect`'s. On dates the model was trained on there is nothing to
correct, and nothing is: the card knows them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .base import flags
from .base.errors import DataError, UsageError
from .model.card import Card
from .model.date_effect import DateEffect, date_effect, variances_of
from .model.result import Retrieval
from .tables.table import Table, read_table

#: A probe's coordinates mean a row no farther than this, metres.
NEAR_M = 100.0
_M_PER_DEGREE = 111_320.0


@dataclass(frozen=True)
class Reading:
    """One probe on one day: which field it is in, what it measured, what was predicted there."""

    field: str
    day: np.datetime64
    observed: float
    predicted: float


def effects(card: Card, readings: Sequence[Reading]) -> tuple[dict[str, DateEffect], list[str]]:
    """The effect of each day with probes (ISO), and what must be said about others.

    UsageError where the card has no variances: the model was fitted without a
    cross-validation that scores new dates.
    """
    if card.probes is None:
        raise UsageError(
            "this model's card has no variances to weigh probes by; fit it again after a "
            "cross-validation with scores on new dates, into the same folder"
        )
    variances, trained = variances_of(card.probes), set(card.training_data.get("dates", ()))
    found, said = {}, []
    for day in sorted({str(reading.day.astype("datetime64[D]")) for reading in readings}):
        here = [r for r in readings if str(r.day.astype("datetime64[D]")) == day]
        if day in trained:
            said.append(f"{len(here)} probes of {day} not used: the model was trained on that date")
            continue
        residual = [reading.observed - reading.predicted for reading in here]
        found[day] = date_effect(variances, residual, [reading.field for reading in here])
    return found, said


def read_probes(path: str | Path) -> Table:
    """``site,date,sm`` of a few sensors, and ``field``, ``lat``, ``lon`` where known.

    DataError names file, row, column and value of what cannot be.
    """
    probes = read_table(path, require=("sm",), once=False)
    if not np.isfinite(probes.numbers["sm"]).any():
        raise DataError(f"{path}: no probe has a reading in column sm")
    return probes


@dataclass(frozen=True)
class Corrected:
    """Retrievals with the date's level corrected, and beside each (N,) how.

    correction: m3 m-3, 0 where none.  weight: of the probes.  probes: how many were used.
    said: what must be told about probes that were not.
    """

    result: Retrieval
    correction: NDArray[np.float32]
    weight: NDArray[np.float32]
    probes: NDArray[np.int64]
    said: tuple[str, ...]

    def columns(self) -> dict[str, ArrayLike]:
        """What stands beside each number in a table."""
        return {
            "sm_correction": self.correction,
            "probe_weight": self.weight,
            "probes": self.probes,
        }


def correct_rows(card: Card, table: Table, result: Retrieval, probes: Table) -> Corrected:
    """The retrievals of ``table``'s rows, each date's level corrected by its probes.

    A probe belongs to the rows of its site on that day; else to those of its field; else to
    the nearest row within NEAR_M. Where it belongs to none with a number it is not used.
    """
    day = table.date.astype("datetime64[D]")
    fields = np.asarray(table.text.get("field", table.site), np.str_)
    readings, lost = [], 0
    for i in np.flatnonzero(np.isfinite(probes.numbers["sm"])):
        at = _rows_of_probe(table, fields, day, np.isfinite(result.sm), probes, int(i))
        if not len(at):
            lost += 1
            continue
        readings.append(
            Reading(
                field=str(fields[at[0]]),
                day=day[at[0]],
                observed=float(probes.numbers["sm"][i]),
                predicted=float(result.sm[at].mean()),
            )
        )
    found, said = effects(card, readings)
    if lost:
        said.append(f"{lost} probes not used: no row with a number at their place on their day")
    n = len(result.sm)
    correction, weight = np.zeros(n, np.float32), np.zeros(n, np.float32)
    used = np.zeros(n, np.int64)
    for name, effect in found.items():
        here = day == np.datetime64(name)
        correction[here], weight[here], used[here] = (
            effect.correction,
            effect.weight,
            effect.probes,
        )
    return Corrected(shift(card, result, correction), correction, weight, used, tuple(said))


def shift(card: Card, result: Retrieval, correction: NDArray[np.float32]) -> Retrieval:
    """Retrievals moved by (N,) corrections within the limits; where it is 0 no bit changes."""
    low, high = np.float32(card.limits.sm[0]), np.float32(card.limits.sm[1])
    moved = correction != 0

    def add(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.where(moved, np.clip(values + correction, low, high), values)

    beyond = moved & ((result.sm + correction < low) | (result.sm + correction > high))
    return result._replace(
        sm=add(result.sm),
        lower=add(result.lower),
        upper=add(result.upper),
        flags=result.flags | beyond * np.uint16(flags.SM_CLIPPED),
    )


def _rows_of_probe(
    table: Table,
    fields: NDArray[np.str_],
    day: NDArray[np.datetime64],
    number: NDArray[np.bool_],
    probes: Table,
    i: int,
) -> NDArray[np.int64]:
    """Rows of ``table`` with a number where and when probe ``i`` measured."""
    here = number & (day == probes.date[i].astype("datetime64[D]"))
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
