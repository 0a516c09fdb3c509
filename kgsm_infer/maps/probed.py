"""Correct the passes of a map by soil moisture sensors (:mod:`kgsm_infer.probes`)."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
from numpy.typing import NDArray

from ..base.errors import UsageError
from ..model.date_effect import DateEffect
from ..probes import Retrieved, compare_passes
from ..scenes.gdal import rasterio_or_reason
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.table import Table
from .blocks import retrieve_block
from .context import make_context
from .plan import Plan

NO_EFFECT = DateEffect(0.0, 0.0, 0, 0)


def correct_plan(plan: Plan, probes: Table, threads: int) -> tuple[Plan, tuple[str, ...]]:
    """Return the plan with the effect of each mapped pass, and notes about unused sensors.

    A sensor is compared with the pixel it lies in; those of one ``field`` (else ``site``) count
    as one field. UsageError where the probes have no ``lat`` and ``lon``.
    """
    if not all(name in probes.numbers for name in ("lat", "lon")):
        raise UsageError(f"{probes.source}: probes on a map need columns lat and lon")
    names = probes.text.get("field", tuple(probes.site.tolist()))
    context = make_context(plan, threads)
    with Reader(plan.stack, plan.files) as reader:

        @cache
        def pixel(i: int) -> NDArray[np.float32] | None:
            """Return (K,) values of the pixel that probe ``i`` lies in."""
            window = _pixel_of(plan, probes, i)
            if window is None:
                return None
            return retrieve_block(plan, reader, window, context).sm[:, 0, 0]

        def retrieved_at(i: int, k: int) -> Retrieved | None:
            values = pixel(i)
            if values is None or not math.isfinite(float(values[k])):
                return None
            return Retrieved(str(names[i]), float(values[k]))

        found = compare_passes(plan.model.card, probes, plan.dates, retrieved_at, "pixel")
    if not any(effect.probes for effect in found.by_pass.values()):
        return plan, found.notes
    effects = tuple(found.by_pass.get(k, NO_EFFECT) for k in range(len(plan.targets)))
    return replace(plan, effects=effects), found.notes


def _pixel_of(plan: Plan, probes: Table, i: int) -> Window | None:
    """Return the pixel a sensor lies in, None outside the map."""
    lon, lat = float(probes.numbers["lon"][i]), float(probes.numbers["lat"][i])
    if not (math.isfinite(lon) and math.isfinite(lat)):
        return None
    grid = plan.stack.grid
    warp = rasterio_or_reason().warp
    (x,), (y,) = warp.transform("EPSG:4326", grid.crs, [lon], [lat])
    for turn in (0, 360, -360) if grid.is_geographic else (0,):
        col, row = map(math.floor, grid.pixel_at(x + turn, y))
        if 0 <= row < grid.height and 0 <= col < grid.width:
            return Window(row, col, 1, 1)
    return None
