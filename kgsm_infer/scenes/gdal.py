"""What is asked of GDAL, through rasterio: files opened, bands found, times and reasons told."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from ..errors import DataError
from ..extras import optional

#: MB of decoded blocks GDAL may keep, whatever the machine's memory (its default is 5 %).
GDAL_CACHE_MB = 64

_SINCE = re.compile(r"(day|hour|minute|second)s? since (\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\S+))?")
_SECONDS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}


def rasterio_or_reason() -> Any:
    """rasterio, or MissingError naming the extra."""
    return optional("reading or writing rasters", "rasterio", "shutil", "vrt", "warp")


@contextmanager
def gdal() -> Iterator[Any]:
    """rasterio with a bounded block cache, in this thread."""
    rasterio = rasterio_or_reason()
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB):
        yield rasterio


def opened(path: str) -> Any:
    """A raster, open; DataError where it is none."""
    rasterio = rasterio_or_reason()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be opened as a raster ({reason_of(error)})") from None


def band_of(dataset: Any, path: str, band: int | str) -> int:
    """The number of a band that is given by number or name; DataError where it has none such."""
    if isinstance(band, int):
        if not 1 <= band <= dataset.count:
            raise DataError(f"{path}: has {dataset.count} bands, no band {band}")
        return band
    names = [str(name or "") for name in dataset.descriptions]
    if names.count(band) != 1:
        raise DataError(
            f"{path}: no band called {band!r}; it has "
            f"{', '.join(filter(None, names)) or f'{dataset.count} bands without names'}"
        )
    return names.index(band) + 1


def time_of(dataset: Any, band: int) -> np.datetime64 | None:
    """A band's time as GDAL's netCDF (NETCDF_DIM_t) and Zarr (DIM_t_VALUE) drivers tell it."""
    tags = dataset.tags(band)
    for key, value in tags.items():
        match = re.fullmatch(r"NETCDF_DIM_(\w+)|DIM_(\w+)_VALUE", key)
        if not match:
            continue
        name = match[1] or match[2]
        unit = tags.get(f"DIM_{name}_UNIT") or dataset.tags().get(f"{name}#units", "")
        since = _SINCE.match(unit)
        if since is None:
            continue
        clock = (since[5] or "00:00:00").rstrip("Z").split(".")[0].split("+")[0]
        try:
            start = np.datetime64(f"{since[2]}-{int(since[3]):02}-{int(since[4]):02}T{clock}", "s")
            return start + np.timedelta64(round(float(value) * _SECONDS[since[1]]), "s")
        except ValueError:
            return None
    return None


def only_nan(dataset: Any, band: int) -> bool:
    """Whether NaN is the only way in which a pixel of a band can be missing."""
    nodata = dataset.nodatavals[band - 1]
    if nodata is not None:
        return bool(np.isnan(nodata))
    return [flag.name for flag in dataset.mask_flag_enums[band - 1]] == ["all_valid"]


def reason_of(error: BaseException) -> str:
    """What a library says went wrong, on one line."""
    reason = str(error) or (str(error.__cause__) if error.__cause__ else "")
    return " ".join(reason.split())[:200] or type(error).__name__
