"""One raster file that GDAL reads, as :class:`kgsm_infer.scenes.sources.BandSource`."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from .gdal import open_dataset, rasterio_or_reason, reason_of
from .grid import Grid, Window
from .resampling import plane_on
from .validity import Declared, Plane, Validity, masked

#: Tags that may name a band besides its description.
_BAND_NAMES = ("description", "band_name", "name", "long_name")


@dataclass(frozen=True)
class Raster:
    """A file that GDAL reads. dataset: of rasterio.  crs: of a file that does not declare it.

    view: the grid it is read on and the resampling, where that is another grid.
    """

    path: str
    dataset: Any
    crs: str | None = None
    view: tuple[Grid, str] | None = None

    @property
    def grid(self) -> Grid:
        """The grid it is read on; DataError where the file has no CRS."""
        return self.extent if self.view is None else self.view[0]

    @property
    def extent(self) -> Grid:
        """The file's own grid."""
        return _grid_of(self.dataset, self.path, self.crs)

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
        """Return the number of a band given by number or name; DataError where there is none."""
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
        """Return a band's description, or the metadata item that openEO writes instead."""
        description = self.dataset.descriptions[number - 1]
        if description:
            return str(description)
        tags = {key.lower(): text for key, text in self.dataset.tags(number).items()}
        return next((str(tags[key]) for key in _BAND_NAMES if tags.get(key)), "")

    def time(self, band: int) -> np.datetime64 | None:
        """Return None: the bands of a raster have no times."""
        return None

    def scaling(self, band: int) -> tuple[float, float]:
        """Scale and offset as the file states them."""
        return float(self.dataset.scales[band - 1]), float(self.dataset.offsets[band - 1])

    def stored(self, band: int, window: Window, rule: Validity) -> Plane:
        """Read (height, width) float64 as stored, NaN where missing.

        DataError where the file cannot be read.
        """
        if self.view is None:
            return self._values(band, window, rule)
        grid, resampling = self.view
        return plane_on(
            self.extent, lambda below: self._values(band, below, rule), grid, window, resampling
        )

    def _values(self, band: int, window: Window, rule: Validity) -> Plane:
        rasterio = rasterio_or_reason()
        where = rasterio.windows.Window(window.col, window.row, window.width, window.height)
        try:
            stored = self.dataset.read(band, window=where)
            valid = self._mask(band, where)
        except rasterio.errors.RasterioError as error:
            raise DataError(
                f"{self.path}: cannot be read at rows {window.row}-{window.row + window.height}, "
                f"columns {window.col}-{window.col + window.width} ({reason_of(error)}); "
                "a truncated download?"
            ) from None
        if stored.dtype.kind == "c":
            raise DataError(
                f"{self.path}: band {band} holds complex numbers ({stored.dtype}), a product in "
                "radar geometry; detected and terrain-corrected backscatter is read"
            )
        nodata = self.dataset.nodatavals[band - 1]
        declared = Declared(() if nodata is None else (float(nodata),))
        return masked(stored, rule, declared, valid)

    def _mask(self, band: int, where: Any) -> NDArray[np.bool_] | None:
        """Read the file's mask or alpha, of any type; None where it has neither."""
        kinds = self.dataset.colorinterp
        alpha = rasterio_or_reason().enums.ColorInterp.alpha
        if alpha in kinds and kinds.index(alpha) + 1 != band:
            return np.asarray(self.dataset.read(kinds.index(alpha) + 1, window=where) != 0)
        if any(flag.name == "per_dataset" for flag in self.dataset.mask_flag_enums[band - 1]):
            return np.asarray(self.dataset.read_masks(band, window=where) != 0)
        return None

    def on(self, grid: Grid, resampling: str) -> Raster:
        """Read the same numbers on another grid, NaN where the file does not cover it."""
        return replace(self, view=(grid, resampling))

    def close(self) -> None:
        """Close the file."""
        self.dataset.close()


def open_raster(path: str, crs: str | None = None) -> Raster:
    """Open a file with GDAL; DataError where that fails."""
    rasterio = rasterio_or_reason()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return Raster(path, open_dataset(path), crs)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be opened as a raster ({reason_of(error)})") from None


def _grid_of(dataset: Any, path: str, crs: str | None) -> Grid:
    stated = dataset.crs.to_wkt() if dataset.crs is not None else crs
    if stated is None:
        raise DataError(
            f"{path}: has no CRS, so its position is unknown; is it a product that was "
            'not terrain-corrected? If it is known, say crs = "EPSG:…" in its layer'
        )
    return Grid(stated, tuple(dataset.transform)[:6], dataset.width, dataset.height)
