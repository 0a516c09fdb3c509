"""GDAL through rasterio: which drivers may open a file, the block cache, reasons of errors.

GDAL identifies a file by its content, not by its name: a ``.tif`` may hold a virtual raster
(VRT) or a WMS description, which read other files or addresses. So only drivers that read the
file itself are allowed, and a VRT only under its own name and with local sources.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ..base.errors import DataError, KgsmError, MissingError, UsageError, raise_if_machine
from ..base.extras import optional
from ..tables.text_column import shorten
from .classic_header import check_classic

#: Drivers that read nothing but the file they are given.
DRIVERS = (
    *("GTiff", "COG", "JP2OpenJPEG", "HFA", "ENVI", "EHdr", "AAIGrid", "PNG", "SRTMHGT", "DTED"),
    *("USGSDEM", "GTX", "NTv2", "netCDF", "HDF4", "HDF4Image", "HDF5", "HDF5Image", "BAG"),
)
#: Files that GDAL opens with a raster, and the first bytes of a TIFF and a BigTIFF.
_SIDECARS = (".msk", ".MSK", ".ovr", ".OVR")
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
#: No virtual raster is larger than this.
_MOST_VRT_BYTES = 8_000_000
#: Elements of a VRT that name what it reads.
_SOURCES = ("SourceFilename", "SourceDataset", "LineCacheFile", "Filename")

#: Bytes of decoded blocks GDAL may keep, whatever the machine's memory (its default is 5 %).
#: rasterio passes the number on as bytes, while GDAL takes a small one in its environment as MB.
GDAL_CACHE_BYTES = 64_000_000


def rasterio_or_reason() -> Any:
    """Import rasterio; MissingError names the extra."""
    return optional("rasterio", "shutil", "vrt", "warp", what="reading or writing rasters")


@contextmanager
def gdal() -> Iterator[Any]:
    """Open rasterio with a bounded block cache, in this thread."""
    rasterio = rasterio_or_reason()
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES):
        yield rasterio


def open_dataset(path: str | Path, *, checked: bool = False) -> Any:
    """Open a raster with the drivers allowed for its name.

    checked: the caller has checked what a virtual raster reads (:func:`check_local`), or has
    allowed the network.

    RasterioIOError where no driver reads it, DataError for a virtual raster that reads anything
    but local files, for a pipe or a folder, and where a mask or overview file beside it is not a
    TIFF file. An address is opened by any driver: a caller has allowed it.
    """
    rasterio = optional("rasterio", "io", what="reading or writing rasters")
    if "://" in str(path) or str(path).startswith("/vsi"):
        return rasterio.open(path)
    if not checked and (found := _not_local(str(path))):
        raise DataError(f"{path}: {found}; download it and name the local file")
    if Path(path).exists() and not Path(path).is_file():
        raise DataError(f"{path}: is not a file (a folder, a pipe or a device)")
    _check_sidecars(str(path))
    check_classic(path)
    vrt = ("VRT",) if str(path).lower().endswith(".vrt") else ()
    try:
        with rasterio.Env():
            return rasterio.io.DatasetReader(str(path), driver=[*DRIVERS, *vrt])
    except UnicodeDecodeError:  # rasterio decodes the CRS and the tags as it opens a file
        raise DataError(f"{path}: its metadata are not UTF-8 text; a damaged download?") from None


def _check_sidecars(path: str) -> None:
    """Raise DataError where a file that GDAL opens with a raster is not the TIFF it should be.

    GDAL opens ``NAME.msk`` and ``NAME.ovr`` with any driver, so they could be virtual rasters that
    read addresses.
    """
    waiting = [path]
    while waiting:
        name = waiting.pop()
        for end in _SIDECARS:
            beside = Path(f"{name}{end}")
            if not beside.is_file():
                continue
            with beside.open("rb") as file:
                if file.read(4) not in _TIFF:
                    raise DataError(
                        f"{beside}: is not a TIFF file, so it cannot be the mask or overviews of "
                        f"{Path(path).name}; remove or rename it"
                    )
            waiting.append(str(beside))


def check_local(path: str, source: str, remedy: str) -> None:
    """Refuse a virtual raster that reads anything but local files, at any depth.

    source: who names the file, for the message. UsageError names the address or file; DataError a
    source that no allowed driver reads.
    """
    if found := _not_local(path):
        raise UsageError(f"{source}: {found}; {remedy}")


def _not_local(path: str) -> str:
    """Describe what a virtual raster reads besides local files, at any depth; "" for nothing."""
    if not path.lower().endswith(".vrt") or not Path(path).is_file():
        return ""
    waiting, seen = [Path(path)], set()
    while waiting:
        file = waiting.pop()
        if file.resolve() in seen:
            continue
        seen.add(file.resolve())
        for name, relative in _sources_of(file):
            target = file.parent / name if relative else Path(name)
            if not target.is_file():
                return f"{file} reads {name[:100]}, which is not a local file"
            if target.suffix.lower() == ".vrt":
                waiting.append(target)
            else:
                _check_content(target, file)
    return ""


def _check_content(file: Path, vrt: Path) -> None:
    """Raise DataError where a source of a virtual raster may be a document that reads others."""
    try:
        open_dataset(file).close()
    except rasterio_or_reason().errors.RasterioError as error:
        raise DataError(
            f"{file}: cannot be opened as a raster ({reason_of(error)}), and {vrt} reads it; "
            "convert it to a GeoTIFF"
        ) from None


def _sources_of(file: Path) -> list[tuple[str, bool]]:
    """Return names of what a VRT reads, and whether each is relative to the VRT.

    None is listed if the text is not XML.
    """
    if file.stat().st_size > _MOST_VRT_BYTES:
        raise UsageError(f"{file}: is too large for a virtual raster")
    try:
        tree = ElementTree.fromstring(file.read_bytes())
    except (ElementTree.ParseError, ValueError):
        return []  # GDAL will not read it either
    return [
        ((element.text or "").strip(), element.get("relativeToVRT") in ("1", "true"))
        for element in tree.iter()
        if element.tag in _SOURCES
    ]


def read_failure(place: str, error: BaseException, needed_bytes: int = 0) -> KgsmError:
    """Return the error for content that a library cannot read: DataError, or MissingError.

    place: file and rows.  needed_bytes: memory that reading takes. HDF5 reports a lack of memory
    as a damaged file, so an allocation of this size is tried.
    """
    raise_if_machine(error, place)
    if not _can_allocate(needed_bytes):
        return MissingError(
            f"{place}: not enough memory to read it; free some, or write smaller blocks (chunks)"
        )
    return DataError(f"{place}: cannot be read ({reason_of(error)}); a truncated download?")


def _can_allocate(count: int) -> bool:
    try:
        np.empty(count, np.uint8)  # reserved, not touched
    except (MemoryError, ValueError):  # more than there is, or than an array can be
        return False
    return True


def reason_of(error: BaseException) -> str:
    """Return the message of a library's error on one line."""
    reason = str(error)
    if (not reason or "previous exception" in reason) and error.__cause__:
        reason = str(error.__cause__)
    return shorten(reason, 200) or type(error).__name__
