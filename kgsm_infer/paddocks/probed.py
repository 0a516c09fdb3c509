"""Paddocks with the level of their date corrected by a few sensors (:mod:`kgsm_infer.probes`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..base import flags
from ..model.card import Card
from ..probes import Reading, effects
from ..scenes.outlines import LON_LAT, Outlines
from ..tables.table import Table
from .summary import Paddock


def correct_paddocks(
    card: Card, outlines: Outlines, paddocks: Sequence[Paddock], probes: Table
) -> tuple[list[Paddock], list[str]]:
    """The lines, each date's level corrected, and what must be told of probes not used.

    A probe belongs to the paddock that its ``field`` or ``site`` names, or whose outline it
    lies in. What it is compared with is the paddock's mean.
    """
    readings, lost = [], 0
    for i in np.flatnonzero(np.isfinite(probes.numbers["sm"])):
        name, day = _paddock_of(outlines, probes, int(i)), probes.date[i].astype("datetime64[D]")
        there = [
            line
            for line in paddocks
            if line.id == name and math.isfinite(line.sm) and _day(line) == day
        ]
        if not there:
            lost += 1
            continue
        predicted = float(np.mean([line.sm for line in there]))
        readings.append(Reading(str(name), day, float(probes.numbers["sm"][i]), predicted))
    found, said = effects(card, readings)
    if lost:
        said.append(f"{lost} probes not used: no paddock with a number at their place on their day")
    low, high = card.limits.sm
    corrected = []
    for line in paddocks:
        effect = found.get(str(_day(line))) if line.date else None
        if effect is None or not math.isfinite(line.sm):
            corrected.append(line)
            continue
        names = ("sm", "sm_median", "sm_p10", "sm_p90", "sm_lower", "sm_upper")
        moved: dict[str, Any] = {
            name: round(min(max(getattr(line, name) + effect.correction, low), high), 6)
            for name in names
            if math.isfinite(getattr(line, name))
        }
        beside: dict[str, Any] = {
            "sm_correction": round(effect.correction, 6),
            "probes": effect.probes,
        }
        beside["probe_weight"] = round(effect.weight, 6)
        if not low <= line.sm + effect.correction <= high:
            beside["flags"] = flags.names(flags.mask_of(line.flags) | flags.SM_CLIPPED)
        corrected.append(replace(line, **moved, **beside))
    return corrected, said


def _day(line: Paddock) -> np.datetime64:
    return np.datetime64(line.date[:10], "D")


def _paddock_of(outlines: Outlines, probes: Table, i: int) -> str | None:
    """The id of the paddock a probe is in, None where that cannot be told."""
    named = [probes.text["field"][i]] if "field" in probes.text else []
    for name in (*named, str(probes.site[i])):
        if name in outlines.ids:
            return name
    if outlines.crs != LON_LAT or not all(key in probes.numbers for key in ("lat", "lon")):
        return None
    lon, lat = probes.numbers["lon"][i], probes.numbers["lat"][i]
    for name, geometry in zip(outlines.ids, outlines.geometries, strict=True):
        if geometry is not None and _inside(geometry, float(lon), float(lat)):
            return name
    return None


def _inside(geometry: Mapping[str, Any], x: float, y: float) -> bool:
    """Whether a point lies in a (multi)polygon: a ray crosses its rings an odd number of times."""
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
