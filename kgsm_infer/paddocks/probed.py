"""Correct paddocks by soil moisture sensors (:mod:`kgsm_infer.probes`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..base import flags
from ..model.card import Card
from ..model.date_effect import DateEffect
from ..probes import Retrieved, compare_passes, shift_numbers
from ..scenes.outlines import LON_LAT, Outlines
from ..scenes.polygons import unwrapped
from ..tables.dates import utc_seconds
from ..tables.passes import pass_starts
from ..tables.table import Table
from .summary import Paddock


def correct_paddocks(
    card: Card, outlines: Outlines, paddocks: Sequence[Paddock], probes: Table
) -> tuple[list[Paddock], tuple[str, ...]]:
    """Return the lines corrected pass by pass, and notes about sensors that were not used.

    A sensor belongs to the paddock that its ``field`` or ``site`` names, or whose outline it
    lies in, and is compared with the paddock's value.
    """
    dated = [line for line in paddocks if line.date]
    times = np.asarray([utc_seconds(line.date) or 0 for line in dated]).astype("datetime64[s]")
    starts, number = np.unique(pass_starts(times), return_inverse=True)
    values: dict[tuple[str, int], list[float]] = {}
    for line, p in zip(dated, number.tolist(), strict=True):
        if math.isfinite(line.sm):
            values.setdefault((line.id, p), []).append(line.sm)

    def retrieved_at(i: int, p: int) -> Retrieved | None:
        name = _paddock_of(outlines, probes, i)
        found = values.get((name, p)) if name is not None else None
        return None if not found else Retrieved(str(name), float(np.mean(found)))

    found = compare_passes(card, probes, starts, retrieved_at, "paddock")
    effect_of = {
        id(line): found.by_pass[p]
        for line, p in zip(dated, number.tolist(), strict=True)
        if p in found.by_pass and math.isfinite(line.sm)
    }
    corrected = [
        _shifted(card, line, effect_of[id(line)]) if id(line) in effect_of else line
        for line in paddocks
    ]
    return corrected, found.notes


def _shifted(card: Card, line: Paddock, effect: DateEffect) -> Paddock:
    names = ("sm", "sm_median", "sm_p10", "sm_p90", "sm_lower", "sm_upper")
    numbers = {name: getattr(line, name) for name in names}
    shifted = shift_numbers(card, numbers, effect.correction)
    mask = flags.mask_of(line.flags) | int(shifted.clipped) * flags.SM_CLIPPED
    moved: dict[str, Any] = {
        name: round(float(value), 6) for name, value in shifted.numbers.items()
    }
    return replace(
        line,
        **moved,
        flags=flags.names(mask),
        sm_correction=round(effect.correction, 6),
        probe_weight=round(effect.weight, 6),
        probes=effect.probes,
    )


def _paddock_of(outlines: Outlines, probes: Table, i: int) -> str | None:
    """Return the id of the paddock a sensor is in, None where it is in none."""
    named = [probes.text["field"][i]] if "field" in probes.text else []
    for name in (*named, str(probes.site[i])):
        if name in outlines.ids:
            return name
    if outlines.crs != LON_LAT or not all(key in probes.numbers for key in ("lat", "lon")):
        return None
    lon, lat = probes.numbers["lon"][i], probes.numbers["lat"][i]
    for name, geometry in zip(outlines.ids, outlines.geometries, strict=True):
        if geometry is None:
            continue
        shape = unwrapped(geometry)
        if any(_inside(shape, float(lon) + turn, float(lat)) for turn in (0, 360, -360)):
            return name
    return None


def _inside(geometry: Mapping[str, Any], x: float, y: float) -> bool:
    """Return True for a point in a (multi)polygon, by the parity of ring crossings."""
    polygons = geometry["coordinates"]
    if geometry["type"] == "Polygon":
        polygons = [polygons]
    crossings = 0
    for polygon in polygons:
        for ring in polygon:
            points = np.asarray([point[:2] for point in ring], np.float64)
            first, second = points[:-1], points[1:]
            spans = (first[:, 1] > y) != (second[:, 1] > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                share = (y - first[:, 1]) / (second[:, 1] - first[:, 1])
                at = first[:, 0] + share * (second[:, 0] - first[:, 0])
            crossings += int((spans & (x < at)).sum())
    return crossings % 2 == 1
