"""Correct paddocks by soil moisture sensors (:mod:`kgsm_infer.probes`)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..model.card import Card
from ..model.date_effect import DateEffect
from ..probes import Retrieved, compare_passes, shift_paddock
from ..scenes.outlines import LON_LAT, Outlines
from ..scenes.polygons import points_of, unwrapped
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

    paddocks_of = _paddocks_of(outlines, probes)

    def retrieved_at(i: int, p: int) -> Retrieved | None:
        name = paddocks_of[i]
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
    shifted = shift_paddock(card, numbers, line.flags, effect)
    moved: dict[str, Any] = dict(shifted.numbers)
    return replace(
        line,
        **moved,
        flags=shifted.flags,
        sm_correction=shifted.correction,
        probe_weight=round(effect.weight, 6),
        probes=effect.probes,
    )


def _paddocks_of(outlines: Outlines, probes: Table) -> list[str | None]:
    """Return the id of the paddock that each row's sensor is in, None where it is in none."""
    ids = set(outlines.ids)
    fields = probes.text.get("field", ("",) * len(probes))
    placed = outlines.crs == LON_LAT and all(key in probes.numbers for key in ("lat", "lon"))
    lon, lat = (
        np.asarray(probes.numbers[key] if placed else np.full(len(probes), np.nan), np.float64)
        for key in ("lon", "lat")
    )
    found: list[str | None] = []
    at_place: dict[tuple[float, float], str | None] = {}
    shapes = _shapes_of(outlines) if placed else None
    for field, site, x, y in zip(fields, probes.site, lon.tolist(), lat.tolist(), strict=True):
        name = next((one for one in (field, str(site)) if one in ids), None)
        if name is None and shapes is not None and math.isfinite(x) and math.isfinite(y):
            if (x, y) not in at_place:
                at_place[x, y] = shapes.holding(x, y)
            name = at_place[x, y]
        found.append(name)
    return found


@dataclass(frozen=True)
class _Shapes:
    """Outlines in longitude and latitude.  bounds: (N, 4) west, south, east and north of each."""

    ids: tuple[str, ...]
    geometries: tuple[Mapping[str, Any], ...]
    bounds: NDArray[np.float64]

    def holding(self, lon: float, lat: float) -> str | None:
        """Return the id of the first outline that a point lies in; None where it is in none."""
        west, south, east, north = self.bounds.T
        turns = (lon, lon + 360, lon - 360)
        near = (south <= lat) & (lat <= north)
        near &= np.any([(west <= x) & (x <= east) for x in turns], axis=0)
        for at in np.flatnonzero(near).tolist():
            if any(_inside(self.geometries[at], x, lat) for x in turns):
                return self.ids[at]
        return None


def _shapes_of(outlines: Outlines) -> _Shapes:
    """Bring each outline together across 180 degrees, and find its bounds."""
    pairs = zip(outlines.ids, outlines.geometries, strict=True)
    shapes = [(name, unwrapped(shape)) for name, shape in pairs if shape is not None]
    corners = [np.asarray([point[:2] for point in points_of(shape)]) for _, shape in shapes]
    bounds = [(*points.min(axis=0), *points.max(axis=0)) for points in corners]
    return _Shapes(
        ids=tuple(name for name, _ in shapes),
        geometries=tuple(shape for _, shape in shapes),
        bounds=np.asarray(bounds, np.float64).reshape(-1, 4),
    )


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
