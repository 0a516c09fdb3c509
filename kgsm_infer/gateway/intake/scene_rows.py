"""A scene manifest becomes one row per paddock and date: the means of its pixels.

Backscatter is averaged in linear power, each pixel by its exact share inside the outline, as in
the model's field context; NDVI, angle and the rest as they are. A paddock of which less than
half is covered has no value of that layer, so the row says ``missing_input``.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...base.errors import DataError
from ...tables.averaging import mean_of, to_power
from ..store.rows import Observed

if TYPE_CHECKING:
    from ...paddocks.of_scene import Coverage
    from ...scenes.manifest import Scene
    from ...scenes.outlines import Outlines
    from ..update.retrieval import Loaded

#: Least share of a paddock that must be covered by valid pixels.
MIN_COVERED = 0.5
#: What a scene may bring beyond what the model reads.
FROZEN = ("temp_c", "snow_cover")


def rows_of_scene(
    path: Path, outlines: Outlines | None, loaded: Loaded, statics: Sequence[str]
) -> list[Observed]:
    """Rows of every date of a scene. MissingError without kgsm[raster], DataError as it is read."""
    from ...scenes.manifest import read_scene

    if outlines is None:
        raise DataError(f"{path}: a scene needs paddocks; set outlines in [paddocks]")
    scene = read_scene(path)
    return _means(path, scene, outlines, loaded, statics)


def rasters_beside(path: Path, spool: Path) -> list[Path]:
    """The rasters a manifest names that lie in the spool itself: gone with it when it is taken."""
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
    from ...paddocks.of_scene import Coverage, coverage
    from ...scenes.gdal import gdal
    from ...scenes.opening import open_stack
    from ...scenes.outlines import Reason, on_grid
    from ...scenes.reader import Reader

    polarisation = loaded.model.card.polarisation
    known = {name for own in outlines.properties for name in own}
    columns = [name for name in loaded.columns if name not in statics or name not in known]
    with gdal():
        stack = open_stack(scene, polarisation, columns)
        covers = [
            item if isinstance(item, Reason) else coverage(stack.grid, item)
            for item in on_grid(outlines, stack.grid, stack.source)
        ]
        names = [name for name in (*loaded.inputs, *FROZEN) if stack.has(name)]
        rows = []
        with Reader(stack) as reader:
            for paddock, own, cover in zip(outlines.ids, outlines.properties, covers, strict=True):
                if not isinstance(cover, Coverage):
                    continue  # off the scene, or smaller than a pixel: no pass was seen of it
                for at, when in enumerate(stack.dates.astype(np.int64).tolist()):
                    numbers = {
                        name: value
                        for name in names
                        for value in [_mean(name, reader.column(name, at, cover.window), cover)]
                        if np.isfinite(value)
                    }
                    given = {name: float(own[name]) for name in statics
                             if isinstance(own.get(name), (int, float))}  # fmt: skip
                    rows.append(Observed(paddock, when, "", paddock, True, {**given, **numbers}))
    if not rows:
        raise DataError(f"{path}: no paddock of {outlines.source} lies on the scene")
    return rows


def _mean(name: str, values: NDArray[np.float64], cover: Coverage) -> float:
    """Mean over a paddock's pixels, NaN where too few have a value."""
    there = np.isfinite(values) & (cover.share > 0)
    weight = cover.share[there]
    if weight.sum() < MIN_COVERED * cover.area:
        return float("nan")
    return float(mean_of(name, np.sum(to_power(name, values[there]) * weight), weight.sum()))
