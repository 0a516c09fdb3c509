"""The grid that prepared rasters lie on, and writing them: COGs that appear whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, MissingError, UsageError, is_out_of_memory
from ..base.files import check_room
from ..scenes.cubes import cube_attribute
from ..scenes.gdal import open_dataset, rasterio_or_reason, reason_of
from ..scenes.grid import Grid, Window
from ..scenes.layers import cube_named
from ..scenes.outlinefiles import LON_LAT, read_features
from ..scenes.polygons import joined_across_180, points_of, polygons_of

#: Side of a COG's tiles.
TILE = 512
#: Largest grid that is made, pixels: a whole Sentinel-1 frame at 10 m has 4·10⁸.
MAX_PIXELS = 2_000_000_000


def grid_of(
    bounds: Sequence[float],
    bounds_crs: str,
    resolution_m: float,
    crs: str | None = None,
) -> Grid:
    """Make a north-up grid that covers bounds, its corners on multiples of the resolution.

    bounds: west, south, east, north in bounds_crs.  crs: of the grid, in metres; None for the
    UTM zone of the middle.

    >>> grid = grid_of((12.45, 41.95, 12.55, 42.05), "EPSG:4326", 10)
    >>> grid.width, grid.height, grid.transform[:3]
    (861, 1136, (10.0, 0.0, 288640.0))
    """
    rasterio = rasterio_or_reason()
    west, south, east, north = (float(value) for value in bounds)
    if not (west < east and south < north) or not np.isfinite([west, south, east, north]).all():
        raise UsageError(f"bounds {tuple(bounds)} are not west, south, east, north")
    if not 1 <= resolution_m <= 1000:
        raise UsageError(f"a resolution of {resolution_m} m is not between 1 and 1000 m")
    try:
        lon, lat = _middle(rasterio, (west, south, east, north), bounds_crs)
        target = rasterio.crs.CRS.from_user_input(crs or utm_zone(lon, lat))
        box = rasterio.warp.transform_bounds(bounds_crs, target, west, south, east, north, 21)
    except (rasterio.errors.CRSError, rasterio.errors.RasterioError) as error:
        raise UsageError(f"{crs or bounds_crs}: not a CRS that fits the bounds ({error})") from None
    if target.is_geographic or not target.linear_units.lower().startswith("met"):
        raise UsageError(f"{crs}: the grid's resolution is in metres, so its CRS must be too (UTM)")
    if not np.isfinite(box).all():
        raise UsageError(f"{crs}: the bounds {tuple(bounds)} lie outside it")
    left, top = math.floor(box[0] / resolution_m), math.ceil(box[3] / resolution_m)
    width = math.ceil(box[2] / resolution_m) - left
    height = top - math.floor(box[1] / resolution_m)
    if width * height > MAX_PIXELS:
        raise UsageError(f"{height} × {width} pixels are too many; take a smaller box or less m")
    step = float(resolution_m)
    transform = (step, 0.0, left * step, 0.0, -step, top * step)
    return Grid(target.to_wkt(), transform, width, height)


def grid_of_option(
    fields: Path | None, bounds: str | None, resolution_m: float, crs: str | None
) -> Grid:
    """Return the grid of a command's options: outlines, or "west,south,east,north" in degrees."""
    if (fields is None) == (bounds is None):
        raise UsageError("name the place with --fields or with --bounds, one of them")
    if fields is not None:
        return grid_of(*fields_bounds(fields), resolution_m, crs)
    try:
        numbers = [float(value) for value in (bounds or "").split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != 4 or not (-180 <= numbers[0] <= 360 and -90 <= numbers[1] <= 90):
        raise UsageError(f"--bounds {bounds!r} is not west,south,east,north in degrees")
    if numbers[2] < 0 < numbers[0] and numbers[0] - numbers[2] > 180:  # across 180 degrees
        numbers[2] += 360
    return grid_of(numbers, "EPSG:4326", resolution_m, crs)


def lon_lat_box(grid: Grid) -> tuple[float, float, float, float]:
    """Return west, south, east, north of a grid, degrees."""
    rasterio = rasterio_or_reason()
    a, _, c, _, e, f = grid.transform
    corners = (c, f + e * grid.height, c + a * grid.width, f)
    west, south, east, north = rasterio.warp.transform_bounds(grid.crs, "EPSG:4326", *corners, 21)
    return float(west), float(south), float(east), float(north)


def utm_zone(lon_deg: float, lat_deg: float) -> str:
    """Return the EPSG code of the UTM zone, WGS 84.

    >>> utm_zone(12.5, 42.0), utm_zone(146.3, -34.8)
    ('EPSG:32633', 'EPSG:32755')
    """
    if not -80 <= lat_deg <= 84:
        raise UsageError(f"latitude {lat_deg:.1f} lies outside UTM; name a CRS with --crs")
    return f"EPSG:{32600 + (lat_deg < 0) * 100 + int((lon_deg + 180) // 6) % 60 + 1}"


def fields_bounds(path: str | Path) -> tuple[tuple[float, float, float, float], str]:
    """Return west, south, east, north of a file of outlines, and its CRS.

    East may be beyond 180 degrees. Features that are no polygons, such as gates, do not count.
    UsageError where the paddocks lie around the globe.
    """
    path = Path(path)
    features, crs = read_features(path)
    found = [polygons_of(feature.get("geometry"))[0] for feature in features]
    shapes = [shape for shape in found if shape is not None]
    if not shapes:
        raise DataError(f"{path}: holds no paddock outline")
    lon_lat = "EPSG:4326" if crs == LON_LAT else crs
    if rasterio_or_reason().crs.CRS.from_user_input(lon_lat).is_geographic:
        shapes = [shape for shape in joined_across_180(shapes) if shape is not None]
    points = np.asarray([point for shape in shapes for point in points_of(shape)])
    (west, south), (east, north) = points.min(axis=0), points.max(axis=0)
    if lon_lat == "EPSG:4326" and east - west > 180:
        raise UsageError(
            f"{path}: its paddocks lie {east - west:.0f} degrees of longitude apart; prepare each "
            "region by itself, or name a place with --bounds"
        )
    return (float(west), float(south), float(east), float(north)), lon_lat


def finer(grid: Grid, parts: int, window: Window, margin: int = 0) -> Grid:
    """Cut every pixel of a part of a grid into parts × parts; margin in fine pixels."""
    a, b, c, d, e, f = grid.transform
    x = c + window.col * a - margin * a / parts
    y = f + window.row * e - margin * e / parts
    return Grid(
        grid.crs,
        (a / parts, b, x, d, e / parts, y),
        window.width * parts + 2 * margin,
        window.height * parts + 2 * margin,
    )


class Draft:
    """A float32 raster that is written block by block, each once, then becomes a COG.

    The COG is read back: it has to hold as many numbers as were written. GDAL writes late and
    does not always say that a disk was full.
    """

    def __init__(self, path: Path, grid: Grid) -> None:
        self._rasterio = rasterio_or_reason()
        self._path = path
        self._numbers = 0
        # found out now: the TIFF library prints additional lines about a full disk
        tiles = math.ceil(grid.width / TILE) * math.ceil(grid.height / TILE)
        check_room(path.parent, tiles * TILE**2 * np.dtype(np.float32).itemsize)
        self._file = self._rasterio.open(
            path,
            "w",
            driver="GTiff",
            dtype="float32",
            count=1,
            nodata=np.nan,
            crs=grid.crs,
            transform=self._rasterio.Affine(*grid.transform),
            width=grid.width,
            height=grid.height,
            tiled=True,
            blockxsize=TILE,
            blockysize=TILE,
            bigtiff="if_safer",
        )

    def write(self, values: NDArray[np.float64], row: int, column: int) -> None:
        """Put a block in place."""
        height, width = values.shape
        window = self._rasterio.windows.Window(column, row, width, height)
        self._numbers += int(np.count_nonzero(np.isfinite(values)))
        with self._explain_errors():
            self._file.write(values.astype(np.float32), 1, window=window)

    def finish(self, target: Path, tags: Mapping[str, str], description: str) -> None:
        """Write the COG; overviews are means of the numbers (linear power, degrees)."""
        with self._explain_errors():
            self._file.update_tags(**tags)
            self._file.set_band_description(1, description)
            self.close()
            self._rasterio.shutil.copy(
                self._path,
                target,
                driver="COG",
                compress="deflate",
                predictor="yes",
                blocksize=TILE,
                overview_resampling="average",
                bigtiff="if_safer",
            )
            with self._rasterio.open(target) as made:
                held = sum(
                    int(np.count_nonzero(np.isfinite(made.read(1, window=window))))
                    for _, window in made.block_windows(1)
                )
        if held != self._numbers:
            raise MissingError(f"{target.name}: not written whole; is the disk full?")
        self._path.unlink()

    @contextmanager
    def _explain_errors(self) -> Iterator[None]:
        try:
            yield
        except (self._rasterio.errors.RasterioError, OSError) as error:
            folder = self._path.parent.parent  # of the results; the draft's own is hidden
            if is_out_of_memory(error):
                raise MissingError(f"{folder}: not written, not enough memory") from None
            raise MissingError(
                f"{folder}: not written ({reason_of(error)}); is the disk full?"
            ) from None

    def close(self) -> None:
        """Give up."""
        self._file.close()


def finished(file: Path, key: str) -> bool:
    """Return true for a complete file made from the inputs that ``key`` is a digest of."""
    rasterio = rasterio_or_reason()
    if not file.is_file():
        return False
    try:
        with open_dataset(file) as dataset:
            return bool(dataset.tags().get("KGSM_KEY") == key)
    except rasterio.errors.RasterioIOError:
        return False


def tags_of(file: Path) -> dict[str, str]:
    """Return the tags of a raster."""
    with open_dataset(file) as dataset:
        return dict(dataset.tags())


def simulated_note(path: str | Path) -> str:
    """Read what a raster or cube states of simulated numbers; "" where it states nothing."""
    rasterio = rasterio_or_reason()
    cube = cube_named(str(path))
    if cube is not None:
        return cube_attribute(*cube, "SIMULATED")
    try:
        with open_dataset(path) as dataset:
            return str(dataset.tags().get("SIMULATED", ""))
    except (rasterio.errors.RasterioIOError, UnicodeDecodeError):
        return ""  # reading it reports the cause


def into_place(part: Path, folder: Path) -> list[Path]:
    """Move finished files from the workshop to where they belong, all after all are whole."""
    moved = []
    for file in sorted(item for item in part.iterdir() if not item.name.startswith(".")):
        file.replace(folder / file.name)
        moved.append(folder / file.name)
    return moved


def _middle(rasterio: Any, box: tuple[float, ...], crs: str) -> tuple[float, float]:
    west, south, east, north = box
    lon, lat = rasterio.warp.transform(crs, "EPSG:4326", [(west + east) / 2], [(south + north) / 2])
    return float(lon[0]), float(lat[0])
