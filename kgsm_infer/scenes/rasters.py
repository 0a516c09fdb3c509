"""One raster file that GDAL reads, as :class:`kgsm_infer.scenes.sources.BandSource`."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, raise_if_machine
from .gdal import open_dataset, rasterio_or_reason, read_failure, reason_of
from .grid import Grid, Window
from .resampling import GridView, read_view
from .tiles import TileStore, unit_of
from .validity import Declared, Plane, Validity, check_scaling, masked

#: Tags that may name a band besides its description.
_BAND_NAMES = ("description", "band_name", "name", "long_name")


@dataclass(frozen=True)
class BandHeader:
    """Declarations of one band, read once.

    alpha: number of the alpha band, None without one.  has_mask: True with a mask of the file.
    tile: its rows and columns.  together: number of bands in one tile.
    """

    scale: float
    offset: float
    nodata: float | None
    alpha: int | None
    has_mask: bool
    tile: tuple[int, int]
    together: int


class RasterFile:
    """An open file that may be closed between reads; it is opened again when it is read.

    count: number of bands.  size: rows and columns.  names: numbers of bands found by name.
    """

    def __init__(self, opener: Callable[[], Any]) -> None:
        self._opener, self._dataset = opener, opener()
        self.count = int(self._dataset.count)
        self.size = (int(self._dataset.height), int(self._dataset.width))
        self.names: dict[str, int] = {}

    @property
    def dataset(self) -> Any:
        """The dataset of rasterio."""
        if self._dataset is None:
            self._dataset = self._opener()
        return self._dataset

    def close(self) -> None:
        """Close the file, and free what GDAL holds to decode it."""
        if self._dataset is not None:
            self._dataset.close()
        self._dataset = None


@dataclass(frozen=True)
class Raster:
    """A file that GDAL reads. file: open.  crs: of a file that does not declare it.

    view: the grid it is read on and the resampling, where that is another grid.
    tiles: keeps decoded tiles.  bands, grids: what was read of the file's header.
    """

    path: str
    file: RasterFile
    crs: str | None = None
    view: GridView | None = None
    tiles: TileStore = field(default_factory=TileStore)
    bands: dict[int, BandHeader] = field(default_factory=dict, compare=False, repr=False)
    grids: list[Grid] = field(default_factory=list, compare=False, repr=False)

    @property
    def dataset(self) -> Any:
        """The dataset of rasterio."""
        return self.file.dataset

    @property
    def grid(self) -> Grid:
        """The grid it is read on; DataError where the file has no CRS."""
        return self.extent if self.view is None else self.view.grid

    @property
    def extent(self) -> Grid:
        """The file's own grid."""
        if not self.grids:
            with self.tiles.lock:
                self.grids.append(_grid_of(self.dataset, self.path, self.crs))
        return self.grids[0]

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns in which it is stored."""
        height, width = self.dataset.block_shapes[0]
        return int(height), int(width)

    @property
    def count(self) -> int:
        """Number of bands."""
        return self.file.count

    def band(self, band: int | str) -> int:
        """Return the number of a band given by number or name; DataError where there is none."""
        if isinstance(band, int):
            if not 1 <= band <= self.count:
                raise DataError(f"{self.path}: has {self.count} bands, no band {band}")
            return band
        if band in self.file.names:
            return self.file.names[band]
        with self.tiles.lock:
            self.file.names[band] = self._named(band)
        return self.file.names[band]

    def _named(self, band: str) -> int:
        names = [self._name(number) for number in range(1, self.count + 1)]
        if names.count(band) != 1:
            raise DataError(
                f"{self.path}: no band called {band!r}; it has "
                f"{', '.join(filter(None, names)) or f'{self.count} bands without names'}"
            )
        return names.index(band) + 1

    def _name(self, number: int) -> str:
        """Return a band's description, or the metadata item that openEO writes instead."""
        try:
            description = self.dataset.descriptions[number - 1]
            if description:
                return str(description)
            tags = {key.lower(): text for key, text in self.dataset.tags(number).items()}
        except UnicodeDecodeError:
            raise DataError(f"{self.path}: the names of its bands are not UTF-8 text") from None
        return next((str(tags[key]) for key in _BAND_NAMES if tags.get(key)), "")

    def time(self, band: int) -> np.datetime64 | None:
        """Return None: the bands of a raster have no times."""
        return None

    def scaling(self, band: int) -> tuple[float, float]:
        """Scale and offset as the file states them."""
        declared = self._declared(band)
        return check_scaling(declared.scale, declared.offset, self.path)

    def _declared(self, band: int) -> BandHeader:
        if band not in self.bands:
            with self.tiles.lock:
                self.bands[band] = _band_of(self.dataset, band)
        return self.bands[band]

    def stored(self, band: int, window: Window, rule: Validity) -> Plane:
        """Read (height, width) float64 as stored, NaN where missing.

        DataError where the file cannot be read.
        """
        return read_view(self.extent, partial(self._values, band, rule), self.view, window)

    def _values(self, band: int, rule: Validity, window: Window) -> Plane:
        band_of = self._declared(band)
        stored = self._pixels(band, window)
        if stored.dtype.kind == "c":
            raise DataError(
                f"{self.path}: band {band} holds complex numbers ({stored.dtype}), a product in "
                "radar geometry; detected and terrain-corrected backscatter is read"
            )
        valid = None
        if band_of.alpha is not None:
            valid = self._pixels(band_of.alpha, window) > 0  # an alpha of NaN is none
        elif band_of.has_mask:
            valid = self._pixels(band, window, mask=True) != 0
        declared = Declared(() if band_of.nodata is None else (band_of.nodata,))
        return masked(stored, rule, declared, valid)

    def _pixels(self, band: int, window: Window, *, mask: bool = False) -> NDArray[Any]:
        """Read a window of a band or of its mask; DataError where the file cannot be read."""
        together = 1 if mask or not self.tiles.keeps else self._declared(band).together

        def decode(below: Window) -> Mapping[Hashable, NDArray[Any]]:
            planes = self._decode(band, below, mask=mask, together=together)
            self.tiles.free(self.file, sum(plane.nbytes for plane in planes.values()))
            return planes

        unit = unit_of(self._declared(band).tile, *self.file.size, depth=together)
        key = (self.path, band, mask)
        return self.tiles.read(key, unit, self.file.size, window, decode)

    def _decode(
        self, band: int, window: Window, *, mask: bool, together: int
    ) -> Mapping[Hashable, NDArray[Any]]:
        rasterio = rasterio_or_reason()
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        try:
            if mask:
                return {(self.path, band, True): self.dataset.read_masks(band, window=where)}
            if together == 1:
                return {(self.path, band, False): self.dataset.read(band, window=where)}
            bands = self.dataset.read(window=where)
        except rasterio.errors.RasterioError as error:
            place = (
                f"{self.path}: rows {window.row}-{window.row + window.height}, "
                f"columns {window.col}-{window.col + window.width}"
            )
            raise read_failure(place, error) from None
        return {(self.path, number, False): plane for number, plane in enumerate(bands, start=1)}

    def on(self, grid: Grid, resampling: str) -> Raster:
        """Read the same numbers on another grid, NaN where the file does not cover it."""
        return replace(self, view=GridView(grid, resampling))

    def close(self) -> None:
        """Close the file."""
        self.file.close()


def open_raster(
    path: str, crs: str | None = None, tiles: TileStore | None = None, *, checked: bool = False
) -> Raster:
    """Open a file with GDAL; DataError where that fails."""
    rasterio = rasterio_or_reason()

    def opener() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return open_dataset(path, checked=checked)

    try:
        return Raster(path, RasterFile(opener), crs, tiles=tiles or TileStore())
    except rasterio.errors.RasterioError as error:
        raise_if_machine(error, path)
        raise DataError(f"{path}: cannot be opened as a raster ({reason_of(error)})") from None


def _grid_of(dataset: Any, path: str, crs: str | None) -> Grid:
    stated = dataset.crs.to_wkt() if dataset.crs is not None else crs
    if stated is None:
        raise DataError(
            f"{path}: has no CRS, so its position is unknown; is it a product that was "
            'not terrain-corrected? If it is known, say crs = "EPSG:…" in its layer'
        )
    a, b, c, d, e, f = tuple(dataset.transform)[:6]
    if not math.isfinite(a + b + c + d + e + f) or a * e - b * d == 0:
        raise DataError(
            f"{path}: its pixels have no area or no place (transform {a:g}, {b:g}, {c:g}, {d:g}, "
            f"{e:g}, {f:g}); is its georeferencing damaged?"
        )
    return Grid(stated, (a, b, c, d, e, f), dataset.width, dataset.height)


def _band_of(dataset: Any, band: int) -> BandHeader:
    kinds = dataset.colorinterp
    alpha = rasterio_or_reason().enums.ColorInterp.alpha
    own_alpha = kinds.index(alpha) + 1 if alpha in kinds else None
    nodata = dataset.nodatavals[band - 1]
    by_pixel = dataset.interleaving == rasterio_or_reason().enums.Interleaving.pixel
    return BandHeader(
        scale=float(dataset.scales[band - 1]),
        offset=float(dataset.offsets[band - 1]),
        nodata=None if nodata is None else float(nodata),
        alpha=None if own_alpha == band else own_alpha,
        has_mask=any(flag.name == "per_dataset" for flag in dataset.mask_flag_enums[band - 1]),
        tile=(int(dataset.block_shapes[band - 1][0]), int(dataset.block_shapes[band - 1][1])),
        together=int(dataset.count) if by_pixel else 1,
    )
