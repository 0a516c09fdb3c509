"""A map's dates corrected by a few sensors (:mod:`kgsm_infer.probes`)."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ..base.errors import UsageError
from ..model.date_effect import DateEffect
from ..probes import Reading, effects
from ..scenes.gdal import rasterio_or_reason
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.table import Table
from .blocks import retrieve_block
from .context import make_context
from .plan import Plan

NOTHING = DateEffect(0.0, 0.0, 0, 0)


def corrected_plan(plan: Plan, probes: Table, threads: int) -> tuple[Plan, list[str]]:
    """The plan with the effect of each mapped date, and what must be told of probes not used.

    A probe is compared with the pixel it lies in; those of one ``field`` (else ``site``) count
    as one field. UsageError where the probes have no ``lat`` and ``lon``.
    """
    if not all(name in probes.numbers for name in ("lat", "lon")):
        raise UsageError(f"{probes.source}: probes on a map need columns lat and lon")
    days = plan.dates.astype("datetime64[D]")
    wanted = np.isfinite(probes.numbers["sm"])
    wanted &= np.isin(probes.date.astype("datetime64[D]"), days)
    names = probes.text.get("field", tuple(probes.site.tolist()))
    readings, said = [], []
    lost = int(np.isfinite(probes.numbers["sm"]).sum() - wanted.sum())
    context = make_context(plan, threads)
    with Reader(plan.stack) as reader:
        for i in np.flatnonzero(wanted):
            window = _pixel_of(plan, probes, int(i))
            if window is None:
                lost += 1
                continue
            sm = retrieve_block(plan, reader, window, context).sm[:, 0, 0]
            day = probes.date[i].astype("datetime64[D]")
            at = int(np.flatnonzero(days == day)[-1])
            if not math.isfinite(float(sm[at])):
                lost += 1
                continue
            observed = float(probes.numbers["sm"][i])
            readings.append(Reading(str(names[int(i)]), day, observed, float(sm[at])))
    found, told = effects(plan.model.card, readings)
    if lost:
        said.append(f"{lost} probes not used: no pixel with a number at their place on their day")
    corrections = tuple(found.get(str(day), NOTHING) for day in days)
    if not any(effect.probes for effect in corrections):
        return plan, [*told, *said]
    return replace(plan, effects=corrections), [*told, *said]


def _pixel_of(plan: Plan, probes: Table, i: int) -> Window | None:
    """The pixel a probe lies in, None outside the map."""
    lon, lat = float(probes.numbers["lon"][i]), float(probes.numbers["lat"][i])
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return None
    grid = plan.stack.grid
    warp = rasterio_or_reason().warp
    (x,), (y,) = warp.transform("EPSG:4326", grid.crs, [lon], [lat])
    a, b, c, d, e, f = grid.transform
    col, row = np.linalg.solve([[a, b], [d, e]], [x - c, y - f])
    col, row = math.floor(col), math.floor(row)
    inside = 0 <= row < grid.height and 0 <= col < grid.width
    return Window(row, col, 1, 1) if inside else None
