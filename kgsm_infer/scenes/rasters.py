"""One raster file that GDAL reads, as :class:`kgsm_infer.scenes.sources.Source`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.errors import DataError
from .gdal import rasterio_or_reason, reason_of
from .grid import Grid, Window
from .match import Plane

#: Where band names stand that are not the band's description.
_BAND_NAMES = ("description", "band_name", "name", "long_name")


@dataclass(frozen=True)
class Raster:
    """A file that GDAL reads. dataset: of rasterio.  source: the file where dataset is a view."""

    path: str
    dataset: Any
    crs: str | None = None
    source: Raster | None = None

    @property
    def grid(self) -> Grid:
        """DataError where nobody can say where it lies."""
        return _grid_of(self.dataset, self.path, self.crs)

    @property
    def extent(self) -> Grid:
        """Of the file itself, on whatever grid it is seen."""
        return (self.source or self).grid

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and columns in which it is stored."""
        height, width = self.dataset.block_shapes[0]
        return int(height), int(width)

    @property
    def count(self) -> int:
        """Number of bands."""
        return int(self.dataset.count)

    def band(self, band: int | str) -> int:
        """The number of a band given by number or name; DataError where it has none such."""
        if isinstance(band, int):
            if not 1 <= band <= self.count:
                raise DataError(f"{self.path}: has {self.count} bands, no band {band}")
            return band
        names = [self._name(number) for number in range(1, self.count + 1)]
        if names.count(band) != 1:
            raise DataError(
                f"{self.path}: no band called {band!r}; it has "
                f"{', '.join(filter(None, names)) or f'{self.count} bands without names'}"
            )
        return names.index(band) + 1

    def _name(self, number: int) -> str:
        """A band's description, or a metadata item that says the same (openEO writes one)."""
        description = self.dataset.descriptions[number - 1]
        if description:
            return str(description)
        tags = {key.lower(): text for key, text in self.dataset.tags(number).items()}
        return next((str(tags[key]) for key in _BAND_NAMES if tags.get(key)), "")

    def time(self, band: int) -> np.datetime64 | None:
        """A raster's bands have no times of their own."""
        return None

    def scaling(self, band: int) -> tuple[float, float]:
        """Scale and offset as the file states them."""
        file = (self.source or self).dataset
        return float(file.scales[band - 1]), float(file.offsets[band - 1])

    def stored(self, band: int, window: Window, nodata: float | None) -> Plane:
        """(height, width) float64 as stored, missing is NaN; DataError where it cannot be read.

        nodata: None as the file says.
        """
        rasterio = rasterio_or_reason()
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        try:
            if nodata is None and _only_nan(self.dataset, band):
                return np.asarray(self.dataset.read(band, window=where), np.float64)
            if nodata is None:
                masked = self.dataset.read(band, window=where, masked=True)
                return np.asarray(np.ma.filled(masked.astype(np.float64), np.nan))
            stored = self.dataset.read(band, window=where)
        except rasterio.errors.RasterioError as error:
            raise DataError(
                f"{self.path}: cannot be read at rows {window.row}-{window.row + window.height}, "
                f"columns {window.col}-{window.col + window.width} ({reason_of(error)}); "
                "a truncated download?"
            ) from None
        return without(stored, nodata)

    def on(self, grid: Grid, resampling: str, nodata: float | None) -> Raster:
        """The same numbers on another grid; what the file does not cover is missing."""
        rasterio = rasterio_or_reason()
        view = rasterio.vrt.WarpedVRT(
            self.dataset,
            src_crs=rasterio.crs.CRS.from_wkt(self.grid.crs),
            crs=grid.crs,
            transform=rasterio.Affine(*grid.transform),
            width=grid.width,
            height=grid.height,
            resampling=rasterio.enums.Resampling[resampling],
            src_nodata=self.dataset.nodata if nodata is None else nodata,
            dtype="float64",  # so that what is not covered can be NaN in integers too
            nodata=np.nan,
        )
        return Raster(self.path, view, grid.crs, self)

    def close(self) -> None:
        """Close the view and the file."""
        self.dataset.close()
        if self.source is not None:
            self.source.close()


def open_raster(path: str, crs: str | None = None) -> Raster:
    """A file that GDAL reads; DataError where it does not."""
    rasterio = rasterio_or_reason()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return Raster(path, rasterio.open(path), crs)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be opened as a raster ({reason_of(error)})") from None


def without(stored: Any, nodata: float) -> Plane:
    """Stored numbers as float64, NaN where they are ``nodata`` as their type rounds it."""
    values = np.asarray(stored, np.float64)
    as_stored = float(np.float32(nodata)) if stored.dtype == np.float32 else nodata
    return np.asarray(np.where(values == as_stored, np.nan, values))


def _grid_of(dataset: Any, path: str, crs: str | None) -> Grid:
    stated = dataset.crs.to_wkt() if dataset.crs is not None else crs
    if stated is None:
        raise DataError(
            f"{path}: has no CRS, so nobody can say where it lies; is it a product that was "
            'not terrain-corrected? If it is known, say crs = "EPSG:…" in its layer'
        )
    return Grid(stated, tuple(dataset.transform)[:6], dataset.width, dataset.height)


def _only_nan(dataset: Any, band: int) -> bool:
    """Whether NaN is the only way in which a pixel of a band can be missing."""
    nodata = dataset.nodatavals[band - 1]
    if nodata is not None:
        return bool(np.isnan(nodata))
    return [flag.name for flag in dataset.mask_flag_enums[band - 1]] == ["all_valid"]
