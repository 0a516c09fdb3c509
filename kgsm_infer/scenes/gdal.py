"""GDAL, through rasterio: at hand or not, its cache, its reasons on one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ..base.extras import optional

#: MB of decoded blocks GDAL may keep, whatever the machine's memory (its default is 5 %).
GDAL_CACHE_MB = 64


def rasterio_or_reason() -> Any:
    """rasterio, or MissingError naming the extra."""
    return optional("rasterio", "shutil", "vrt", "warp", what="reading or writing rasters")


@contextmanager
def gdal() -> Iterator[Any]:
    """rasterio with a bounded block cache, in this thread."""
    rasterio = rasterio_or_reason()
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB):
        yield rasterio


def reason_of(error: BaseException) -> str:
    """What a library says went wrong, on one line."""
    reason = str(error) or (str(error.__cause__) if error.__cause__ else "")
    return " ".join(reason.split())[:200] or type(error).__name__
