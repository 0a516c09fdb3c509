"""All mapped dates as a cube: CF NetCDF 4 or Zarr, chunk by chunk from the work files."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import UsageError
from ..base.extras import optional
from ..scenes.datasets import netcdf_library
from ..scenes.gdal import rasterio_or_reason
from ..scenes.grid import Grid
from .attributes import VARIABLES, cf_attributes, global_attributes
from .proof import CHUNK, chunk_windows, into_place, not_written, prove
from .work import Work


def write_netcdf(work: Work, output: Path) -> None:
    """Write every mapped date as CF-1.11 NetCDF 4: (time, y, x), flags with their meanings."""
    netcdf = optional("netCDF4", what="NetCDF")
    part = work.folder / "map.nc"
    part.unlink(missing_ok=True)
    try:
        with netcdf_library(), netcdf.Dataset(part, "w", format="NETCDF4") as file:
            file.setncatts(global_attributes(work.plan))
            for name, size in dimensions(work).items():
                file.createDimension(name, size)
            for name, (dims, values, attributes) in coordinates(work).items():
                variable = file.createVariable(name, values.dtype, dims)
                variable.setncatts(attributes)
                variable[...] = values
            for name, dtype in VARIABLES.items():
                variable = file.createVariable(
                    work.name_of(name),
                    dtype,
                    ("time", "y", "x"),
                    zlib=True,
                    complevel=4,
                    shuffle=True,
                    chunksizes=_chunks(work),
                    fill_value=np.float32(np.nan) if dtype.kind == "f" else False,
                )
                variable.setncatts(attributes_of(work, name))
                variable.set_auto_maskandscale(False)
                _hold_one_chunk(variable)
                for k, window in chunk_windows(work):
                    variable[(k, *window.slices)] = work.read(name, k, window)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        with netcdf_library(), netcdf.Dataset(part) as file:
            file.set_auto_maskandscale(False)
            for name in VARIABLES:
                _hold_one_chunk(file[work.name_of(name)])
            prove(
                work, output, lambda name, k, window: file[work.name_of(name)][(k, *window.slices)]
            )
    except (RuntimeError, OSError) as error:
        raise not_written(output, error) from None
    into_place(part, output)


def write_zarr(work: Work, output: Path) -> None:
    """Write every mapped date as Zarr (format 2, which GDAL and xarray read), CF attributes."""
    zarr = optional("zarr", what="Zarr")
    part = work.folder / "map.zarr"
    shutil.rmtree(part, ignore_errors=True)
    try:
        group = zarr.open_group(part, mode="w", zarr_format=2)
        group.attrs.update(_json(global_attributes(work.plan)))
        for name, (dims, values, attributes) in coordinates(work).items():
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, fill_value=None
            )
            array[...] = values
            array.attrs.update({**_json(attributes), "_ARRAY_DIMENSIONS": list(dims)})
        size = dimensions(work)
        for name, dtype in VARIABLES.items():
            array = group.create_array(
                work.name_of(name),
                shape=(size["time"], size["y"], size["x"]),
                dtype=dtype,
                chunks=_chunks(work),
                fill_value=np.float32(np.nan) if dtype.kind == "f" else None,
            )
            array.attrs.update(
                {**_json(attributes_of(work, name)), "_ARRAY_DIMENSIONS": ["time", "y", "x"]}
            )
            for k, window in chunk_windows(work):
                array[(k, *window.slices)] = work.read(name, k, window)
        zarr.consolidate_metadata(part, zarr_format=2)
        group = zarr.open_group(part, mode="r")
        prove(work, output, lambda name, k, window: group[work.name_of(name)][(k, *window.slices)])
    except (RuntimeError, OSError, ValueError) as error:
        raise not_written(output, error) from None
    into_place(part, output)


def dimensions(work: Work) -> dict[str, int]:
    """Return sizes by name, in the order of the variables' axes; bounds last."""
    grid = work.plan.stack.grid
    return {"time": len(work.plan.targets), "y": grid.height, "x": grid.width, "bounds": 2}


def coordinates(work: Work) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]]:
    """Return coordinate variables: dimensions, values, CF attributes.

    UsageError on a rotated grid.
    """
    rasterio = rasterio_or_reason()
    grid = work.plan.stack.grid
    if grid.orientation == "rotated":
        raise UsageError("NetCDF and Zarr need a north-up grid, this one is rotated; write .tif")
    crs = rasterio.crs.CRS.from_wkt(grid.crs)
    if crs.is_geographic:
        names = (("latitude", "degrees_north"), ("longitude", "degrees_east"))
    else:
        units = {"metre": "m", "meter": "m"}.get(crs.linear_units, crs.linear_units)
        names = (("projection_y_coordinate", units), ("projection_x_coordinate", units))
    seconds = work.plan.dates.astype("datetime64[s]").astype(np.int64)
    day = seconds.astype(np.float64) / 86400
    return {
        "time": (
            ("time",),
            day,
            {
                "standard_name": "time",
                "long_name": "Sentinel-1 acquisition",
                "units": "days since 1970-01-01T00:00:00Z",
                "calendar": "standard",
                "units_metadata": "leap_seconds: none",
                "axis": "T",
            },
        ),
        "y": (
            ("y",),
            grid.y,
            {"standard_name": names[0][0], "units": names[0][1], "axis": "Y"},
        ),
        "x": (
            ("x",),
            grid.x,
            {"standard_name": names[1][0], "units": names[1][1], "axis": "X"},
        ),
        "depth": (
            (),
            np.float64(0.025),  # type: ignore[dict-item]
            {
                "standard_name": "depth",
                "long_name": "depth below the soil surface",
                "units": "m",
                "positive": "down",
                "axis": "Z",
                "bounds": "depth_bounds",
            },
        ),
        "depth_bounds": (("bounds",), np.asarray([0.0, 0.05]), {}),
        "crs": ((), np.int32(0), _grid_mapping(grid)),  # type: ignore[dict-item]
    }


def attributes_of(work: Work, name: str) -> dict[str, Any]:
    """Return CF attributes of one of VARIABLES."""
    attributes = {
        **cf_attributes(name, work.plan.model.card),
        "grid_mapping": "crs",
        "coordinates": "depth",
    }
    if name == "flags":
        return attributes
    if name == "sm":
        attributes["ancillary_variables"] = " ".join(
            map(work.name_of, ("sm_lower", "sm_upper", "flags"))
        )
    low, high = work.plan.model.card.limits.sm
    return {**attributes, "valid_range": np.asarray([low, high], np.float32)}


def _grid_mapping(grid: Grid) -> dict[str, Any]:
    """Return CF attributes of the CRS, and the names GDAL and xarray's tools read."""
    crs = optional("pyproj", what="NetCDF and Zarr").CRS.from_wkt(grid.crs)
    a, b, c, d, e, f = grid.transform
    mapping = {key: value for key, value in crs.to_cf().items() if value is not None}
    return {
        **mapping,
        "spatial_ref": mapping["crs_wkt"],
        "GeoTransform": f"{c} {a} {b} {f} {d} {e}",
    }


def _hold_one_chunk(variable: Any) -> None:
    """Let the NetCDF library hold one decoded chunk of a variable; each is used once.

    By default it holds up to 64 MB of each variable until the file is closed.
    """
    size = variable.dtype.itemsize * math.prod(variable.chunking())
    variable.set_var_chunk_cache(size, 1, 1.0)


def _chunks(work: Work) -> tuple[int, int, int]:
    grid = work.plan.stack.grid
    return (1, min(CHUNK, grid.height), min(CHUNK, grid.width))


def _json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }
