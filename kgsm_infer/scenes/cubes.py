"""Read one variable of a NetCDF or Zarr file, with its axes in any order.

xarray opens the file (NetCDF 3 and 4, Zarr 2 and 3) and decodes times. Axes are recognised by
their attributes and may run in either direction. Values are returned north up, x to the east,
one band per date.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, KgsmError, raise_if_machine
from ..base.extras import optional
from ..tables.text_column import shorten
from .datasets import Dataset, opened_dataset
from .gdal import read_failure, reason_of
from .grid import Grid, Window, crs_of
from .orbits import read_orbits
from .resampling import GridView, read_view
from .tiles import TileStore, unit_of
from .times import read_times
from .validity import (
    Plane,
    Validity,
    cf_declared,
    check_attributes,
    masked,
    read_scaling,
    unwritten,
)

#: Axis -> (CF standard names, usual names) of its coordinate.
_AXES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "x": (("projection_x_coordinate", "longitude"), ("x", "lon", "long", "longitude", "easting")),
    "y": (("projection_y_coordinate", "latitude"), ("y", "lat", "latitude", "northing")),
    "time": (("time",), ("time", "t", "date", "datetime")),
}
_DEGREES = {"x": ("degrees_east", "degree_east"), "y": ("degrees_north", "degree_north")}
#: Coordinates may stray this share of a step from even spacing: float32 in the file.
_UNEVEN = 0.02
_TILE = 512


@dataclass(frozen=True)
class Cube:
    """An open variable. array: (y, x) or (time, y, x), as stored but north up, lazily read.

    times: of its bands, None where they cannot be read; None alone without a time axis.
    view: the grid it is seen on, and how it is brought there, where that is another one.
    no_times: why ``times`` cannot be read; "" where they can.
    orbits: of its bands, as its variables say; () where they do not.
    tiles: keeps decoded tiles.
    """

    path: str
    file: Dataset
    array: Any
    own: Grid
    times: tuple[np.datetime64 | None, ...] | None
    view: GridView | None = None
    no_times: str = ""
    orbits: tuple[str, ...] = ()
    tiles: TileStore = field(default_factory=TileStore)
    is_zarr: bool = False

    @property
    def grid(self) -> Grid:
        """Grid of the values read: the file's, or that of the view."""
        return self.own if self.view is None else self.view.grid

    @property
    def extent(self) -> Grid:
        """Grid of the file itself, whatever the view."""
        return self.own

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns to read at a time."""
        return min(_TILE, self.grid.height), min(_TILE, self.grid.width)

    @property
    def count(self) -> int:
        """Number of dates, or 1."""
        return 1 if self.times is None else len(self.times)

    def band(self, band: int | str) -> int:
        """Return a date's number from 1; DataError where the file does not have it."""
        if not isinstance(band, int) or not 1 <= band <= self.count:
            raise DataError(f"{self.path}: has {self.count} dates, no band {band}")
        return band

    def time(self, band: int) -> np.datetime64 | None:
        """Return the time of a band; None without a time axis."""
        return None if self.times is None else self.times[band - 1]

    def scaling(self, band: int) -> tuple[float, float]:
        """Return scale_factor and add_offset."""
        return read_scaling(self.array.attrs, self.path)

    def stored(self, band: int, window: Window, rule: Validity) -> Plane:
        """Read (height, width) float64 as stored, NaN where missing.

        DataError where the file cannot be read.
        """
        return read_view(self.own, partial(self._values, band, rule), self.view, window)

    def on(self, grid: Grid, resampling: str) -> Cube:
        """Read the same numbers on another grid, NaN where the cube does not cover it."""
        return replace(self, view=GridView(grid, resampling))

    def close(self) -> None:
        """Close the file, unless another variable of it is open."""
        self.file.close()

    @property
    def _chunk(self) -> tuple[int, int, int]:
        """Dates, rows and columns of a stored chunk; 1 and the tile where it has none."""
        chunks = self.array.encoding.get("preferred_chunks") or {}
        sizes = [int(chunks.get(dim, 0)) for dim in self.array.dims]
        dates = max(1, sizes[0]) if self.times is not None else 1
        return dates, sizes[-2] or self.tile[0], sizes[-1] or self.tile[1]

    def _values(self, band: int, rule: Validity, window: Window) -> Plane:
        deep, *tile = self._chunk if self.tiles.keeps else (1, *self.tile)

        def decode(below: Window) -> Mapping[Hashable, NDArray[Any]]:
            return self._decode(band, below, deep)

        size = (self.own.height, self.own.width)
        unit = unit_of((tile[0], tile[1]), *size, depth=deep)
        stored = self.tiles.read((self.path, band), unit, size, window, decode)
        attributes = self.array.attrs
        # NetCDF 3 and THREDDS keep unsigned numbers in the signed type of the same size
        unsigned = {"true": "u", "false": "i"}.get(str(attributes.get("_Unsigned", "")).lower())
        if stored.dtype.kind in "iu" and unsigned is not None:
            stored = stored.astype(f"{unsigned}{stored.dtype.itemsize}")
        declared = cf_declared(attributes, stored.dtype, *self.scaling(band))
        if not self.is_zarr and not declared.fills:
            declared = replace(declared, fills=unwritten(stored.dtype))
        return masked(stored, rule, declared)

    def _decode(self, band: int, window: Window, deep: int) -> Mapping[Hashable, NDArray[Any]]:
        """Read a window of a band, and of the ``deep`` bands stored in one chunk with it."""
        first = (band - 1) // deep * deep
        rows = () if self.times is None else (slice(first, first + deep),)
        try:
            with self.file.reading():
                bands = self.array[(*rows, *window.slices)].values
            bands = bands[None] if self.times is None else bands
        except Exception as error:  # noqa: BLE001  the libraries underneath share no base
            place = f"{self.path}: rows {window.row}-{window.row + window.height}"
            raise read_failure(place, error, 2 * _chunk_bytes(self.array)) from None
        return {(self.path, number): plane for number, plane in enumerate(bands, first + 1)}


def cube_attribute(file: str, variable: str, name: str) -> str:
    """Return an attribute of a variable, else of its file; "" where neither has it."""
    group, _, variable = variable.rpartition("/")
    try:
        dataset = opened_dataset(file, group)
    except Exception:  # noqa: BLE001  the libraries underneath share no base
        return ""  # the reader names the cause
    with closing(dataset):
        content = dataset.content
        own = content[variable].attrs if variable in content.variables else {}
        return str(own.get(name, content.attrs.get(name, "")))


def _chunk_bytes(array: Any) -> int:
    """Return bytes of one chunk of a variable, which is decoded as a whole; 0 without chunks."""
    chunks = array.encoding.get("chunksizes") or array.encoding.get("chunks") or ()
    return math.prod(chunks) * array.dtype.itemsize if chunks else 0


def open_cube(
    path: str, file: str, variable: str, crs: str | None, tiles: TileStore | None = None
) -> Cube:
    """Open a variable of a NetCDF or Zarr file; an empty name selects the only one.

    path: for messages.  crs: of the manifest, where the file has none. DataError where
    an axis or the CRS is unknown, or the coordinates are uneven.
    """
    group, _, variable = variable.rpartition("/")
    try:
        dataset = opened_dataset(file, group)
    except KgsmError:
        raise
    except Exception as error:  # noqa: BLE001  the libraries underneath share no base
        raise _not_opened(path, error) from None
    try:
        with dataset.reading():
            found = _cube(dataset, path, variable, crs)
        return replace(found, tiles=tiles or TileStore(), is_zarr=dataset.is_zarr)
    except KgsmError:
        dataset.close()
        raise
    except Exception as error:  # noqa: BLE001  damaged coordinates raise anything
        dataset.close()
        raise _not_opened(path, error) from None


def _not_opened(path: str, error: Exception) -> KgsmError:
    raise_if_machine(error, path)
    return DataError(f"{path}: cannot be opened ({reason_of(error)})")


def _cube(file: Dataset, path: str, variable: str, crs: str | None) -> Cube:
    dataset = file.content
    array = _variable(dataset, path, variable)
    check_attributes(array.attrs, path)
    axes = {axis: _dimension(dataset, array, axis) for axis in _AXES}
    for axis in ("x", "y"):
        if axes[axis] is None:
            raise DataError(
                f"{path}: none of its dimensions {shorten(', '.join(map(str, array.dims)))} is a "
                f"{axis} axis (a coordinate with units and standard_name says it)"
            )
    others = [dim for dim in array.dims if dim not in axes.values()]
    long = [f"{dim} ({array.sizes[dim]})" for dim in others if array.sizes[dim] > 1]
    if long:
        raise DataError(
            f"{path}: has a further dimension, {shorten(', '.join(long))}; take one of it"
        )
    array = array.squeeze(others, drop=True) if others else array
    order = [axes["time"]] if axes["time"] is not None else []
    array = array.transpose(*order, axes["y"], axes["x"])
    x, y = (_positions(dataset, array, axes[axis], path) for axis in ("x", "y"))
    array = array.isel({axes["x"]: _forward(x), axes["y"]: _forward(-y)})
    x, y = np.sort(x), np.sort(y)[::-1]
    across, down = _spacing(x, path), _spacing(-y, path)
    grid = Grid(
        _crs(dataset, array, axes, path, crs),
        (across, 0.0, float(x[0] - across / 2), 0.0, -down, float(y[0] + down / 2)),
        len(x),
        len(y),
    )
    if axes["time"] is None:
        return Cube(path, file, array, grid, None)
    found, why = _times(dataset, axes["time"], path)
    times = (None,) * int(dataset.sizes[axes["time"]]) if found is None else tuple(found)
    orbits = read_orbits(dataset.variables, axes["time"], len(times), path)
    return Cube(path, file, array, grid, times, no_times=why, orbits=orbits)


def _variable(dataset: Any, path: str, variable: str) -> Any:
    usable = [str(name) for name, item in dataset.data_vars.items() if item.ndim >= 2]
    if not variable and len(usable) == 1:
        variable = usable[0]
    if variable not in dataset.variables:
        what = f"no variable {variable!r}" if variable else "several variables"
        names = shorten(", ".join(usable), 200) or "none"
        raise DataError(f"{path}: {what}; name one, variable = …: {names}")
    return dataset[variable]


def _dimension(dataset: Any, array: Any, axis: str) -> Any:
    """Find the dimension of an axis: by its coordinate's attributes, else by its name."""
    standard, usual = _AXES[axis]
    for dim in array.dims:
        attributes = dataset[dim].attrs if dim in dataset.variables else {}
        told = (
            attributes.get("standard_name") in standard
            or attributes.get("axis") == {"x": "X", "y": "Y", "time": "T"}[axis]
            or attributes.get("units") in _DEGREES.get(axis, ())
            or (axis == "time" and " since " in str(attributes.get("units", "")))
        )
        if told:
            return dim
    return next((dim for dim in array.dims if str(dim).lower() in usual), None)


def _positions(dataset: Any, array: Any, dim: Any, path: str) -> NDArray[np.float64]:
    if dim not in dataset.variables or dataset[dim].ndim != 1:
        raise DataError(f"{path}: has no coordinates along {dim}, so its position is unknown")
    positions = np.asarray(dataset[dim].values, np.float64)
    attributes = dataset[dim].attrs
    scale, offset = read_scaling(attributes, path)
    return np.asarray(positions * scale + offset)


def _forward(positions: NDArray[np.float64]) -> slice:
    """Return the slice that makes positions ascend; their spacing is checked later."""
    return slice(None, None, 1 if len(positions) < 2 or positions[1] > positions[0] else -1)


def _spacing(positions: NDArray[np.float64], path: str) -> float:
    """Return the step of ascending positions. DataError where they are too few or uneven."""
    if len(positions) < 2:
        raise DataError(f"{path}: is one pixel wide or high, so its pixel size is unknown")
    step = float((positions[-1] - positions[0]) / (len(positions) - 1))
    even = positions[0] + step * np.arange(len(positions))
    if not (np.isfinite(positions).all() and step > 0):
        raise DataError(f"{path}: its coordinates are not finite, or repeat")
    if np.abs(positions - even).max() > _UNEVEN * step:
        raise DataError(f"{path}: its coordinates are not evenly spaced; bring it to a grid first")
    return step


def _crs(dataset: Any, array: Any, axes: Mapping[str, Any], path: str, stated: str | None) -> str:
    """Return WKT: of the grid mapping, else of CF's latitude and longitude, else as stated."""
    named = array.attrs.get("grid_mapping")
    names = [str(named).split(":")[0].strip()] if named else ["spatial_ref", "crs"]
    for name in names:
        attributes = dataset[name].attrs if name in dataset.variables else {}
        for key in ("crs_wkt", "spatial_ref"):
            if attributes.get(key):
                return crs_of(str(attributes[key]), path)
        if "grid_mapping_name" in attributes:
            pyproj = optional("pyproj", what="a grid mapping")
            try:
                wkt = pyproj.CRS.from_cf(attributes).to_wkt()
            except Exception as error:  # noqa: BLE001  pyproj's CRSError and KeyError
                raise DataError(
                    f"{path}: its grid mapping {name} cannot be read ({reason_of(error)})"
                ) from None
            return crs_of(str(wkt), path)
    if stated is not None:
        return stated
    found = {axis: dataset[axes[axis]].attrs for axis in ("x", "y")}
    degrees = [
        found[axis].get("units") in _DEGREES[axis]
        or found[axis].get("standard_name") == {"x": "longitude", "y": "latitude"}[axis]
        for axis in ("x", "y")
    ]
    if all(degrees):
        return crs_of("EPSG:4326", path)
    raise DataError(
        f"{path}: has no CRS, so its position is unknown (no grid_mapping, no latitude and "
        'longitude); if it is known, say crs = "EPSG:…" in its layer'
    )


def _times(dataset: Any, dim: Any, path: str) -> tuple[NDArray[np.datetime64] | None, str]:
    """Read the times of the bands (UTC, to the second), or None and the reason."""
    if dim not in dataset.variables:
        return None, f"{path}: dimension {dim} has no coordinate"
    try:
        return read_times(dataset[dim], path), ""
    except DataError as error:
        return None, str(error)
