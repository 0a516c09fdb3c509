"""Values of paddocks on a scene, with the spread of the pixels in each.

Shares are exact areas (exactextract), so a pixel on the fence counts by what is inside.

    hole            not part of the paddock        multipolygon   one paddock
    overlap         each paddock by itself; a shared pixel counts in both
    sliver          less than one pixel inside: no number, since its pixels belong to its neighbours
    off the scene   no number; partly off: that part has no number
    invalid         an outline that crosses itself: no number, and where it does
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..base.extras import optional
from ..context.definitions import CONTEXT, SharedBy
from ..maps.causes import layers_without_value
from ..maps.options import LAST_ACQUISITION, ONE_THREAD, Execution, RetrievalOptions
from ..maps.plan import Plan, planned_map
from ..maps.work import Work, compute_map
from ..scenes.grid import Grid, Window
from ..scenes.manifest import Scene
from ..scenes.outlines import Outlines, Reason, on_grid
from ..scenes.reader import Reader
from ..tables.table import table_from_columns
from .averages import average_paddocks
from .summary import MIN_VALID, Members, Paddock, PaddockDate, summarise_average, without_number

if TYPE_CHECKING:
    from ..model.model import Model
    from ..model.result import Retrieval

#: Smallest area of a paddock, pixels; a smaller one is a sliver.
MIN_PIXELS = 1.0
OUTSIDE = Reason("outside the scene")


class Coverage(NamedTuple):
    """Pixels of one paddock.

    window: around them.  share: (height, width) of each pixel that lies inside.
    area: of the whole paddock, on the scene or not, pixels.
    """

    window: Window
    share: NDArray[np.float64]
    area: float


def paddocks_of_scene(
    model: Model,
    scene: Scene,
    outlines: Outlines,
    output: str | Path,
    options: RetrievalOptions = LAST_ACQUISITION,
    *,
    execution: Execution = ONE_THREAD,
    min_valid: float = MIN_VALID,
) -> list[Paddock]:
    """Return one line per paddock and date. Only blocks with a paddock are computed.

    output: file the caller will write; the work files are in its folder, so a stopped run can be
    continued.
    """
    output = Path(output)
    with planned_map(model, scene, options, output.parent, execution) as plan:
        geometries = on_grid(outlines, plan.stack.grid, plan.stack.source)
        plan = plan.with_paddocks(geometries)
        covers = [
            item if isinstance(item, Reason) else coverage(plan.stack.grid, item)
            for item in geometries
        ]
        known = {
            name: cover
            for name, cover in zip(outlines.ids, covers, strict=True)
            if isinstance(cover, Coverage)
        }
        averages = retrieve_averages(plan, known, min_valid)
        wanted = _touched(plan, [cover.window for cover in known.values()])
        dates = range(len(plan.targets))
        found = []
        with compute_map(plan, output, execution, windows=wanted) as work:
            for name, cover in zip(outlines.ids, covers, strict=True):
                for k in dates:
                    key = PaddockDate(name, _date_text(plan.dates[k]))
                    if isinstance(cover, Reason):
                        line = without_number(key, cover, model.card.retrieves)
                    else:
                        members, average = _members(work, cover, k), averages[name, k]
                        line = summarise_average(key, average, members, model.card, min_valid)
                    found.append(line)
        silent = [
            k for k in dates if not any(np.isfinite(one.sm) for one in found[k :: len(dates)])
        ]
        if known and silent:
            for sentence in layers_without_value(plan, silent).sentences:
                execution.tell(f"no paddock has a number: {sentence}")
        return found


def retrieve_averages(
    plan: Plan, covers: Mapping[str, Coverage], min_valid: float = MIN_VALID
) -> dict[tuple[str, int], Retrieval]:
    """Retrieve each paddock's averaged inputs; by id and index of the target date.

    The rows are those the gateway stores for the scene, and the result is what ``predict`` gives
    on a table of them, each paddock one site and one field.
    """
    if not covers:
        return {}
    stack, model = plan.stack, plan.model
    first = 0 if len(plan.remembered) else plan.first_read
    acquisitions = range(first, max(plan.acquisitions.stop, plan.remembered.stop))
    names = [
        name for name in (*model.source_columns, *model.card.optional_columns) if stack.has(name)
    ]
    with Reader(stack, plan.files) as reader:
        averages = average_paddocks(reader, covers, names, acquisitions, min_valid)
    places = np.repeat([*covers], len(acquisitions))
    columns: dict[str, Any] = {
        "site": places,
        "field": places,
        "date": np.tile(stack.dates[list(acquisitions)].astype("datetime64[s]"), len(covers)),
    }
    if stack.orbits:
        columns["orbit"] = np.tile([stack.orbits[at] for at in acquisitions], len(covers))
    for name in names:
        columns[name] = np.concatenate([averages[place].numbers[name] for place in covers])
    for name, context in CONTEXT.items():  # an average is the mean of its field
        if context.shared_by is SharedBy.FIELD and context.base in columns:
            columns.setdefault(name, columns[context.base])
    text = ("site", "field", "date", "orbit")
    extra = [name for name in columns if name not in (*text, "vh_db", "vv_db")]
    table = table_from_columns(columns, stack.source, features=extra, once=False)
    found = {}
    for at, place in enumerate(covers):
        for k, target in enumerate(plan.targets):
            found[place, k] = at * len(acquisitions) + target - first
    result = model.predict(
        table,
        np.asarray([*found.values()], np.int64),
        hold_vegetation_days=plan.hold_vegetation_days,
    )
    return {key: result.take(slice(row, row + 1)) for row, key in enumerate(found)}


def coverage(grid: Grid, geometry: Mapping[str, Any]) -> Coverage | Reason:
    """Compute the share of each pixel inside a polygon of the grid's CRS.

    Returns the reason where no pixel is inside. DataError on a rotated grid.
    """
    exactextract = optional("exactextract", "raster", what="the share of a pixel in a paddock")
    shapely = optional("shapely", "geometry", what="outlines on rasters")
    if grid.orientation != "north-up":
        raise DataError("paddocks need a north-up raster; warp the scene with a [grid]")
    shape = shapely.geometry.shape(geometry)
    across, down = grid.step
    area = float(shape.area / (across * down))
    west, south, east, north = shape.bounds
    x0, _, _, y0 = grid.bounds
    left = max(0, int((west - x0) // across))
    right = min(grid.width, int((east - x0) // across) + 1)
    top, bottom = max(0, int((y0 - north) // down)), min(grid.height, int((y0 - south) // down) + 1)
    if left >= right or top >= bottom:
        return OUTSIDE
    window = Window(top, left, bottom - top, right - left)
    xmin, ymin, xmax, ymax = grid.part(window).bounds
    number = np.arange(window.height * window.width, dtype=np.float64)
    source = exactextract.raster.NumPyRasterSource(
        number.reshape(window.height, window.width), xmin=xmin, xmax=xmax, ymin=ymin, ymax=ymax
    )
    feature = {"type": "Feature", "properties": {}, "geometry": dict(geometry)}
    inside = exactextract.exact_extract(source, [feature], ["values", "coverage"])[0]["properties"]
    share = np.zeros(number.size)
    share[inside["values"].astype(np.int64)] = inside["coverage"]
    total = float(share.sum())
    if total == 0:
        return OUTSIDE
    if total < MIN_PIXELS and area < MIN_PIXELS:
        return Reason("smaller than a pixel", f"smaller than a pixel ({area:.2g} pixels)")
    return Coverage(window, share.reshape(window.height, window.width), area)


def _date_text(when: np.datetime64) -> str:
    """Write the time of an acquisition as ISO 8601; midnight as the day alone."""
    midnight = when == when.astype("datetime64[D]")
    return str(np.datetime_as_string(when, "D") if midnight else f"{when}Z")


def _members(work: Work, cover: Coverage, k: int) -> Members:
    """Read the retrievals of a paddock's pixels on a target date."""
    inside = cover.share > 0
    return Members(
        sm=work.read("sm", k, cover.window)[inside],
        flags=work.read("flags", k, cover.window)[inside],
        weight=cover.share[inside],
        area=cover.area,
    )


def _touched(plan: Plan, windows: Sequence[Window]) -> list[int]:
    """Return the indices of the plan's blocks that meet any of the windows."""
    return [
        index
        for index, block in enumerate(plan.windows)
        if any(block.meets(window) for window in windows)
    ]
