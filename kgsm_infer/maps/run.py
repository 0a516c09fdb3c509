"""Maps: a scene through a model, block by block, in memory that does not grow with it.

    scene ──> blocks ──> columns of each acquisition ──> Model.estimate ──> work files
                                                                            │ all blocks done
                                          proved by reading back  <── COG, NetCDF or Zarr

A pixel is a site, an acquisition a row of its table: a map holds what ``predict`` gives on
the same values.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..base import flags
from ..base.errors import UsageError
from ..base.extras import optional
from ..scenes.gdal import rasterio_or_reason
from ..scenes.manifest import Scene
from ..scenes.outlines import Outlines, on_grid
from .attributes import VARIABLES
from .causes import days_of, layers_without_value
from .cog import is_geotiff, write_cog
from .cube import write_netcdf, write_zarr
from .options import LAST_ACQUISITION, ONE_THREAD, Execution, RetrievalOptions
from .plan import Plan, planned_map
from .work import Work, compute_map

if TYPE_CHECKING:
    from ..model.model import Model
    from ..tables.table import Table


@dataclass(frozen=True)
class MapCounts:
    """Counts of a map: its dates, its pixels on all dates, and those of them with a number."""

    dates: int
    pixels: int
    numbers: int


def map_scene(
    model: Model,
    scene: Scene,
    output: str | Path,
    options: RetrievalOptions = LAST_ACQUISITION,
    *,
    execution: Execution = ONE_THREAD,
    outlines: Outlines | None = None,
    probes: Table | None = None,
    quicklook: str | Path | None = None,
) -> MapCounts:
    """Map a scene to a COG (.tif), CF NetCDF (.nc) or Zarr (.zarr) file.

    outlines: paddocks, for a model that takes context from fields and for the quick look.
    probes: sensors that correct the pass they measured in.
    quicklook: a PNG of the last mapped date.
    The output appears whole or not at all; a stopped run is continued by the same call.
    """
    output = Path(os.path.realpath(output))  # a link is written through to its target
    write = _writer_for(output)
    with planned_map(model, scene, options, output.parent, execution) as plan:
        if outlines is not None:
            plan = plan.with_paddocks(on_grid(outlines, plan.stack.grid, plan.stack.source))
        if is_geotiff(output) and len(plan.targets) > 1:
            raise UsageError(f"{output}: a COG holds one date; name a .nc or .zarr file for all")
        if probes is not None:
            from .probed import correct_plan

            plan, notes = correct_plan(plan, probes, execution.threads)
            for note in notes:
                execution.tell(note)
        room = _bytes_at_most(plan, output)
        with compute_map(plan, output, execution, room=room) as work:
            write(work, output)
            if quicklook is not None:
                from .picture import draw_map

                draw_map(quicklook, work)
            numbers = _numbers(work)
            silent = [k for k, count in enumerate(numbers) if count == 0]
            for sentence in _causes(work, silent):
                execution.tell(sentence)
            grid = plan.stack.grid
            dates = len(plan.targets)
            return MapCounts(dates, dates * grid.height * grid.width, sum(numbers))


def _writer_for(output: Path) -> Callable[[Work, Path], None]:
    """Return the writer of an extension.

    UsageError for an unknown one, MissingError without its library.
    """
    suffix = output.suffix.lower()
    if is_geotiff(output):
        rasterio_or_reason()
        return write_cog
    if suffix == ".nc":
        optional("netCDF4", what="NetCDF")
        return write_netcdf
    if suffix == ".zarr":
        optional("zarr", what="Zarr")
        return write_zarr
    raise UsageError(f"{output}: maps are written as .tif (COG), .nc (CF NetCDF) or .zarr")


def _bytes_at_most(plan: Plan, output: Path) -> int:
    """Return the bytes the output needs besides the work files if nothing can be compressed."""
    pixels = len(plan.targets) * plan.stack.grid.height * plan.stack.grid.width
    stored = sum(dtype.itemsize for dtype in VARIABLES.values())
    if is_geotiff(output):  # float32 flags, and both with overviews
        return (4 * len(VARIABLES) + stored // 3 + 4 * len(VARIABLES) // 3 + 2) * pixels
    return stored * pixels


def _numbers(work: Work) -> list[int]:
    """Count the pixels with a number of each mapped date."""
    return [
        sum(int(np.isfinite(work.read("sm", k, window)).sum()) for window in work.plan.windows)
        for k in range(len(work.plan.targets))
    ]


def _causes(work: Work, silent: Sequence[int]) -> list[str]:
    """Say why dates have no number: layers without a value on them, else the flags raised.

    silent: positions among the mapped dates.
    """
    if not silent:
        return []
    plan = work.plan
    whole = len(silent) == len(plan.targets)
    empty = layers_without_value(plan, silent)
    found, others = [*empty.sentences], empty.others
    if others:
        counts = dict.fromkeys(flags.NAMES, 0)
        for k in others:
            for window in plan.windows:
                mask = work.read("flags", k, window)
                for bit, name in enumerate(flags.NAMES):
                    counts[name] += int(np.count_nonzero(mask & (1 << bit)))
        raised = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
        found.append(raised if whole else f"{raised} on {days_of(plan, others)}")
    start = (
        "no pixel has a number" if whole else f"no pixel of {days_of(plan, silent)} has a number"
    )
    return [f"{start}: {sentence}" for sentence in found]
