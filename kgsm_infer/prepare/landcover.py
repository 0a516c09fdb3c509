"""Vegetation water content and B as rasters, from daily NDVI and a land-cover map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..base.errors import DataError
from ..base.files import workshop
from ..scenes.gdal import open_dataset, rasterio_or_reason
from ..scenes.grid import Grid
from .grids import Draft, into_place, simulated_note
from .vegetation import of_cover, vwc_of


def write_vwc(
    product: str,
    images: Mapping[str, Path],
    folder: Path,
    worldcover: Path,
    grid: Grid,
) -> None:
    """Write VWC of every day, and B, on a grid; N_max and N_min are those of the days given.

    images: each day's NDVI on the grid, by day, ascending.
    """
    rasterio = rasterio_or_reason()
    cover = land_cover(rasterio, worldcover, grid)
    n_max, n_min = np.full(cover.shape, np.nan), np.full(cover.shape, np.nan)
    for image in images.values():
        with rasterio.open(image) as dataset:
            values = dataset.read(1).astype(np.float64)
        n_max, n_min = np.fmax(n_max, values), np.fmin(n_min, values)
    days = [np.datetime64(day) for day in images]
    span = (days[-1] - days[0]).astype(int) + 1
    tags = {
        "SOFTWARE": f"kgsm {__version__}",
        "LANDCOVER": worldcover.name,
        "NDVI_RANGE": f"largest and smallest of {len(days)} days in {span}; the rule asks a year's",
    }
    reasons = {simulated_note(file) for file in (*images.values(), worldcover)} - {""}
    if reasons:
        tags["SIMULATED"] = max(reasons)
    with workshop(folder) as part:
        for day, image in images.items():
            with rasterio.open(image) as dataset:
                values = vwc_of(dataset.read(1), n_max, n_min, cover)
            name = f"vwc_kg_m2_{day}_{product}"
            draft = Draft(part / f"{name}.draft", grid)
            draft.write(values, 0, 0)
            draft.finish(part / f"{name}.tif", {**tags, "UNITS": "kg m-2"}, "vwc_kg_m2")
        draft = Draft(part / "b.draft", grid)
        draft.write(of_cover(cover, "b"), 0, 0)
        draft.finish(part / "b_m2_kg.tif", {**tags, "UNITS": "m2 kg-1"}, "b_m2_kg")
        into_place(part, folder)


def land_cover(rasterio: Any, path: Path, grid: Grid) -> NDArray[np.uint8]:
    """Return the most frequent WorldCover class of each pixel of a grid."""
    cover = np.zeros((grid.height, grid.width), np.uint8)
    try:
        with open_dataset(path) as source:
            rasterio.warp.reproject(
                rasterio.band(source, 1),
                cover,
                dst_transform=rasterio.Affine(*grid.transform),
                dst_crs=grid.crs,
                resampling=rasterio.enums.Resampling.mode,
            )
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be read as a land-cover map ({error})") from None
    known = np.isfinite(of_cover(cover, "stem_kg_m2"))
    if not known.any():
        raise DataError(f"{path}: no WorldCover class (10, 20, … 100) on the grid asked for")
    return cover
