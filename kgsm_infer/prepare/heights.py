"""Heights over the ellipsoid, from a DEM and a geoid.

A radar's geometry needs heights over the WGS 84 ellipsoid; most DEMs hold heights over a geoid,
h = H + N. The undulation N is 48 m at Rome, and taken for nothing it shifts the image by as
much. So a DEM must say (or its user must) what its heights are, and a vertical transformation
that PROJ can only guess ("ballpark": N = 0) is refused.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, MissingError, UsageError
from ..scenes.gdal import open_dataset, rasterio_or_reason, read_failure
from ..scenes.grid import Grid, Window
from ..scenes.rasters import Raster, open_raster
from ..scenes.resampling import MOST_PIXELS, covering, halves
from ..scenes.validity import Validity
from .safe import Floats

#: Length of a degree of latitude on the sphere of 6,371 km, m.
DEGREE_M = 111_195.0
#: Names a user may give; EPSG codes of the vertical systems.
GEOIDS = {"egm96": 5773, "egm2008": 3855}
#: No geoid on Earth lies further from the ellipsoid, m.
MAX_UNDULATION_M = 120.0
#: No height on Earth lies beyond these, m over the ellipsoid or a geoid.
HEIGHTS_M = (-600.0, 9000.0)


@dataclass(frozen=True)
class Terrain:
    """DEMs and what their heights are over.

    system: "ellipsoid", "egm96", "egm2008", or None: as the files say. geoid: a raster of the
    undulation N in metres, which then is used instead.
    """

    dems: tuple[Path, ...]
    system: str | None = None
    geoid: Path | None = None


@dataclass(frozen=True)
class Surface:
    """A checked terrain. undulations: the source of N for each DEM: nothing to add
    (ellipsoid), a raster, or a transformer of PROJ. how: in words."""

    terrain: Terrain
    undulations: tuple[Any, ...]
    how: str


def surface_of(terrain: Terrain) -> Surface:
    """Look at DEMs and geoid. UsageError where the options contradict the files, DataError
    where a file says nothing, MissingError where PROJ lacks the geoid."""
    rasterio = rasterio_or_reason()
    if not terrain.dems:
        raise UsageError("name a DEM with --dem; the terrain decides where a pixel lies")
    if terrain.system not in (None, "ellipsoid", *GEOIDS):
        names = ", ".join(("ellipsoid", *GEOIDS))
        raise UsageError(f"--heights {terrain.system!r} is not one of {names}")
    if terrain.geoid is not None:
        with _opened(rasterio, terrain.geoid) as dataset:
            if dataset.crs is None:
                raise DataError(f"{terrain.geoid}: has no CRS; a geoid file has one")
    ways: list[Any] = []
    words = []
    for path in terrain.dems:
        with _opened(rasterio, path) as dataset:
            own = _vertical(dataset.crs, path)
        meaning = _meaning(terrain, own, path)
        if meaning == "ellipsoid":
            ways.append(None)
            words.append("ellipsoidal heights")
        elif terrain.geoid is not None:
            ways.append(terrain.geoid)
            words.append(f"geoid of {terrain.geoid.name}")
        else:
            ways.append(_geoid_of_proj(meaning, path))
            words.append(f"{meaning.name}, by PROJ")
    return Surface(terrain, tuple(ways), "; ".join(dict.fromkeys(words)))


def ellipsoid_heights(surface: Surface, grid: Grid) -> Floats:
    """Return (H, W) metres over the ellipsoid at the pixel centres of a grid, bilinear.

    Of several DEMs the first with a number counts; NaN where none has one.
    """
    found = np.full((grid.height, grid.width), np.nan)
    for path, way in zip(surface.terrain.dems, surface.undulations, strict=True):
        values = _on_grid(path, grid, HEIGHTS_M)
        if way is not None and np.isfinite(values).any():
            values = values + _undulation(way, grid, np.isfinite(values))
        found = np.where(np.isfinite(found), found, values)
    return found


def lon_lat(grid: Grid) -> tuple[Floats, Floats]:
    """Return (H, W) longitude and latitude of pixel centres, degrees WGS 84."""
    import pyproj

    a, b, c, d, e, f = grid.transform
    y, x = np.mgrid[0 : grid.height, 0 : grid.width] + 0.5
    to = pyproj.Transformer.from_crs(grid.crs, "EPSG:4326", always_xy=True)
    lon, lat = to.transform(a * x + b * y + c, d * x + e * y + f)
    return np.asarray(lon), np.asarray(lat)


def _opened(rasterio: Any, path: Path) -> Any:
    if not path.exists():
        raise DataError(f"{path}: no such file; name a DEM (GeoTIFF, VRT) with --dem")
    try:
        return open_dataset(path)
    except rasterio.errors.RasterioIOError as error:
        raise read_failure(str(path), error) from None


def _vertical(crs: Any, path: Path) -> Any:
    """Return the vertical CRS of a file, "ellipsoid", or None where it says nothing."""
    import pyproj

    if crs is None:
        raise DataError(f"{path}: has no CRS; a DEM without georeference?")
    full = pyproj.CRS.from_wkt(crs.to_wkt())
    for part in full.sub_crs_list:
        if part.is_vertical:
            return part
    return "ellipsoid" if len(full.axis_info) == 3 else None


def _meaning(terrain: Terrain, own: Any, path: Path) -> Any:
    """Return "ellipsoid" or a vertical CRS: of the user, unless the file says another thing."""
    import pyproj

    if terrain.geoid is not None:
        if own == "ellipsoid" or terrain.system == "ellipsoid":
            raise UsageError(f"{path}: heights over the ellipsoid need no --geoid; leave it away")
        return own or pyproj.CRS.from_epsg(GEOIDS[terrain.system or "egm96"])
    if own is None and terrain.system is None:
        raise DataError(
            f"{path}: does not say what its heights are over, and the geoid lies up to 100 m "
            "from the ellipsoid; Copernicus DEM: --heights egm2008, SRTM: --heights egm96, an "
            "ellipsoidal one: --heights ellipsoid, any: --geoid FILE"
        )
    asked = terrain.system
    if asked is None:
        return own
    said = own if own is None or isinstance(own, str) else (own.to_epsg() or own.name)
    wanted = "ellipsoid" if asked == "ellipsoid" else GEOIDS[asked]
    if said not in (None, wanted):
        raise UsageError(
            f"{path}: says its heights are {getattr(own, 'name', own)}, not {asked}; "
            "leave --heights away"
        )
    return wanted if isinstance(wanted, str) else pyproj.CRS.from_epsg(wanted)


def _undulation(way: Any, grid: Grid, needed: NDArray[np.bool_]) -> Floats:
    """Return N = h − H, metres (H, W), of a raster or of PROJ."""
    if isinstance(way, Path):
        values = _on_grid(way, grid, (-np.inf, np.inf))
    else:
        lon, lat = lon_lat(grid)
        values = np.asarray(way.transform(lon, lat, np.zeros_like(lon))[2])
    if not np.isfinite(values[needed]).all():
        raise DataError(f"{way}: does not cover the grid asked for")
    largest = float(np.abs(values[needed]).max())
    if largest > MAX_UNDULATION_M:
        raise DataError(
            f"{way}: says the geoid lies {largest:.0f} m from the ellipsoid; nowhere is it more "
            "than 110 m: not a geoid file in metres?"
        )
    return values


def _geoid_of_proj(vertical: Any, path: Path) -> Any:
    """Return a transformer (lon, lat, H) -> (lon, lat, h); MissingError where PROJ would guess."""
    from pyproj.crs import CompoundCRS
    from pyproj.transformer import TransformerGroup

    source = CompoundCRS("WGS 84 and a geoid", ["EPSG:4326", vertical])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a missing grid, reported below
        group = TransformerGroup(source, "EPSG:4979", always_xy=True, allow_ballpark=False)
    wanted = [grid for way in group.unavailable_operations for grid in way.grids]
    missing = [grid for grid in wanted if not grid.available]
    usable = [way for way in group.transformers if "ballpark" not in way.description.lower()]
    if usable:
        return usable[0]
    if not missing:
        raise MissingError(
            f"{path}: PROJ knows no way from {vertical.name} to the ellipsoid; "
            "give the undulation with --geoid FILE"
        )
    name = missing[0].short_name
    raise MissingError(
        f"{path}: heights are {vertical.name}, and PROJ lacks the grid {name} (it would take the "
        f"geoid for the ellipsoid, up to 100 m off); get it with: pyproj sync --file {name} (or "
        f"{missing[0].url or 'https://cdn.proj.org/' + name}), or give --geoid FILE"
    )


def _on_grid(path: Path, grid: Grid, plausible_m: tuple[float, float]) -> Floats:
    """Return band 1 on a grid, metres, bilinear; NaN where it has no number or no possible one.

    plausible_m: the lowest and highest possible value; voids without a nodata value lie outside.
    """
    import pyproj

    raster = open_raster(str(path))
    try:
        flat = pyproj.CRS.from_wkt(raster.extent.crs).to_2d()
        if flat.is_compound:  # GDAL would shift heights by a geoid it chooses
            flat = next(part for part in flat.sub_crs_list if not part.is_vertical)
        own = replace(raster.extent, crs=flat.to_wkt())
        return _heights_on(raster, own, grid, plausible_m)
    finally:
        raster.close()


def _heights_on(raster: Raster, own: Grid, grid: Grid, plausible_m: tuple[float, float]) -> Floats:
    """Read band 1 on a grid, by parts where the raster is much finer. own: its grid."""
    below = covering(own, grid)
    if below is None:
        return np.full((grid.height, grid.width), np.nan)
    if below.height * below.width > MOST_PIXELS and grid.height * grid.width > 1:
        parts, axis = halves(grid.window)
        return np.concatenate(
            [_heights_on(raster, own, grid.part(part), plausible_m) for part in parts], axis
        )
    scale, offset = raster.scaling(1)
    values = raster.stored(1, below, Validity()) * scale + offset
    values[(values < plausible_m[0]) | (values > plausible_m[1])] = np.nan
    return _bilinear(values, own.part(below), grid)


def _bilinear(values: Floats, own: Grid, grid: Grid) -> Floats:
    """Return (H, W) values of a grid from those of another; missing ones have no weight."""
    rasterio = rasterio_or_reason()
    profile = {"driver": "GTiff", "count": 1, "dtype": "float64", "nodata": np.nan}
    profile |= {"width": own.width, "height": own.height}
    profile |= {"crs": own.crs, "transform": rasterio.Affine(*own.transform)}
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as file:
            file.write(values, 1)
        with (
            memory.open() as file,
            rasterio.vrt.WarpedVRT(
                file,
                crs=grid.crs,
                transform=rasterio.Affine(*grid.transform),
                width=grid.width,
                height=grid.height,
                resampling=rasterio.enums.Resampling.bilinear,
                tolerance=1e-3,  # pixels; else a point moves with the block it is computed in
                nodata=np.nan,
                **_kernel_scale(own, grid),
            ) as warped,
        ):
            return np.asarray(warped.read(1), np.float64)


def _kernel_scale(own: Grid, grid: Grid) -> dict[str, float]:
    """Return GDAL's warp options that fix the reach of the kernel below coarser pixels.

    GDAL computes it for each block, so that neighbouring blocks differ. {} where GDAL does not
    widen the kernel.
    """
    centre = grid.part(Window(grid.height // 2, grid.width // 2, 1, 1))
    # a whole degree, so that a degree of longitude has one length in all blocks of a place
    lat_deg = float(np.clip(np.rint(lon_lat(centre)[1][0, 0]), -89, 89))
    fine, coarse = _steps_m(own, lat_deg), _steps_m(grid, lat_deg)
    if fine[0] >= coarse[0] or fine[1] >= coarse[1]:
        return {}
    return {"XSCALE": fine[0] / coarse[0], "YSCALE": fine[1] / coarse[1]}


def _steps_m(grid: Grid, lat_deg: float) -> tuple[float, float]:
    """Return the width and height of a grid's pixels at a latitude, m."""
    dx, dy = (abs(step) for step in grid.step)
    if grid.is_geographic:
        return dx * DEGREE_M * math.cos(math.radians(lat_deg)), dy * DEGREE_M
    unit_m = rasterio_or_reason().crs.CRS.from_wkt(grid.crs).linear_units_factor[1]
    return dx * unit_m, dy * unit_m
