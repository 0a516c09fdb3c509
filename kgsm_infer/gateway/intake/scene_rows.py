"""Read a scene manifest as one row per paddock and date: the averages of its pixels.

:mod:`kgsm_infer.paddocks.averages` has the rule. A paddock of which less than half is covered by
valid pixels of a layer has no value of that layer, so its row gets ``missing_input``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...base.errors import DataError
from ...tables.dates import is_future
from ..store.rows import SIMULATED, Observed
from .tables import FileRows

if TYPE_CHECKING:
    from ...scenes.manifest import Scene
    from ...scenes.outlines import Outlines
    from ..update.retrieval import Loaded


def rows_of_scene(
    path: Path,
    outlines: Outlines | None,
    loaded: Loaded,
    statics: Sequence[str],
    now: int | None = None,
) -> FileRows:
    """Read one row per paddock and date of a scene; the date guard is at ``now``.

    MissingError without kgsm[raster], DataError if the scene cannot be read.
    """
    from ...scenes.manifest import read_scene

    if outlines is None:
        raise DataError(f"{path}: a scene needs paddocks; set outlines in [paddocks]")
    scene = read_scene(path)
    rows = _means(path, scene, outlines, loaded, statics)
    times = np.asarray([row.acquired for row in rows]).astype("datetime64[s]")
    future = is_future(times, now=None if now is None else np.datetime64(now, "s"))
    refused = tuple(
        f"{path.name}: date {when} is later than tomorrow; correct it and drop the scene again"
        for when in np.unique(times[future]).astype("datetime64[s]").tolist()
    )
    if future.all():
        raise DataError(refused[0])
    return FileRows(
        tuple(row for row, late in zip(rows, future, strict=True) if not late), refused=refused
    )


def rasters_beside(path: Path, spool: Path) -> list[Path]:
    """Return the rasters of a manifest that lie in the spool and leave it with the manifest."""
    from ...scenes.manifest import read_scene

    named = read_scene(path).files()
    root = spool.resolve()
    return [
        place
        for name in named
        for place in [Path(name).resolve()]
        if root in place.parents and place.is_file()
    ]


def _means(
    path: Path, scene: Scene, outlines: Outlines, loaded: Loaded, statics: Sequence[str]
) -> list[Observed]:
    from ...paddocks.averages import average_paddocks
    from ...paddocks.of_scene import Coverage, coverage
    from ...scenes.gdal import gdal
    from ...scenes.opening import open_stack
    from ...scenes.outlines import Reason, on_grid
    from ...scenes.reader import Reader

    polarisation = loaded.model.card.polarisation
    known = {name for own in outlines.properties for name in own}
    columns = [name for name in loaded.columns if name not in statics or name not in known]
    with gdal():
        stack = open_stack(scene, polarisation, columns, loaded.model.card.optional_columns)
        covers = {
            paddock: cover
            for paddock, shape in zip(
                outlines.ids, on_grid(outlines, stack.grid, stack.source), strict=True
            )
            for cover in [shape if isinstance(shape, Reason) else coverage(stack.grid, shape)]
            if isinstance(cover, Coverage)  # not off the scene, and not smaller than a pixel
        }
        names = [
            name
            for name in (*loaded.inputs, *loaded.model.card.optional_columns)
            if stack.has(name)
        ]
        with Reader(stack) as reader:
            averages = average_paddocks(reader, covers, names, range(len(stack.dates)))
    rows = []
    for paddock, own in zip(outlines.ids, outlines.properties, strict=True):
        if paddock not in averages:
            continue
        given = {
            name: float(own[name]) for name in statics if isinstance(own.get(name), (int, float))
        }
        given |= {SIMULATED: 1.0} if stack.simulated else {}
        for at, when in enumerate(stack.dates.astype(np.int64).tolist()):
            numbers = {
                name: float(values[at])
                for name, values in averages[paddock].numbers.items()
                if np.isfinite(values[at])
            }
            orbit = stack.orbits[at] if stack.orbits else ""
            rows.append(Observed(paddock, when, orbit, paddock, True, {**given, **numbers}))
    if not rows:
        raise DataError(f"{path}: no paddock of {outlines.source} lies on the scene")
    return rows
