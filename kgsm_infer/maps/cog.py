"""One date as a Cloud Optimised GeoTIFF, made by GDAL from the work files without a copy."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from ..base.errors import KgsmError
from ..base.flags import FLAG_MASKS, FLAG_MEANINGS
from ..scenes.gdal import rasterio_or_reason
from .attributes import VARIABLES, global_attributes
from .proof import CHUNK, into_place, not_written, prove
from .work import Work


def is_geotiff(path: Path) -> bool:
    """Return True for the name of a GeoTIFF."""
    return path.suffix.lower() in (".tif", ".tiff")


def write_cog(work: Work, output: Path) -> None:
    """Write one date as a COG of four float32 bands: sm, sm_lower, sm_upper, flags.

    A GeoTIFF has one type for all bands; flags are whole numbers below 2**16, which
    float32 holds exactly, and are never NaN. NaN is the nodata value of the others.
    Overviews take every second pixel, so they too hold only numbers that were computed.
    """
    rasterio = rasterio_or_reason()
    vrt = _write_vrt(work)
    part = work.folder / "map.tif"
    try:
        rasterio.shutil.copy(
            str(vrt),
            str(part),
            driver="COG",
            COMPRESS="DEFLATE",
            LEVEL=1,  # a third of the time of the default for a seventh more bytes
            PREDICTOR="YES",
            BLOCKSIZE=CHUNK,
            OVERVIEWS="FORCE_USE_EXISTING",  # GDAL's own take three times as long as the rest
            BIGTIFF="IF_SAFER",
            NUM_THREADS=work.threads,  # of the compression; the bytes are the same
        )
        with rasterio.open(part) as dataset:
            prove(
                work,
                output,
                lambda name, _, window: dataset.read(
                    [*VARIABLES].index(name) + 1,
                    window=rasterio.windows.Window(
                        window.col, window.row, window.width, window.height
                    ),
                ),
            )
    except KgsmError:
        raise
    except Exception as error:  # noqa: BLE001  GDAL's write errors share no public base
        raise not_written(output, error) from None
    into_place(part, output)


def _write_vrt(work: Work) -> Path:
    """Return the work files, and every second pixel of them down to one tile, as a GDAL dataset."""
    grid = work.plan.stack.grid
    sizes = [(grid.height, grid.width)]
    while max(sizes[-1]) > CHUNK:
        height, width = sizes[-1]
        for name, dtype in VARIABLES.items():
            _every_second(
                work.folder / f"{name}{_level(len(sizes) - 1)}",
                work.folder / f"{name}{_level(len(sizes))}",
                dtype,
                width,
            )
        sizes.append(((height + 1) // 2, (width + 1) // 2))
    for level in reversed(range(len(sizes))):
        overviews = range(1, len(sizes)) if level == 0 else range(0)
        text = _vrt(work, level, sizes[level], overviews)
        (work.folder / f"map{_level(level)}.vrt").write_text(text, encoding="utf-8")
    return work.folder / "map.vrt"


def _level(level: int) -> str:
    return f".{2**level}" if level else ""


def _every_second(source: Path, target: Path, dtype: np.dtype[Any], width: int) -> None:
    """Keep every second row and column of a raw file, in bounded memory."""
    rows = 2 * max(1, CHUNK * CHUNK // width)
    with open(source, "rb") as wide, open(target, "wb") as narrow:
        while len(some := np.fromfile(wide, dtype, rows * width)):
            narrow.write(np.ascontiguousarray(some.reshape(-1, width)[::2, ::2]).tobytes())


def _vrt(work: Work, level: int, size: tuple[int, int], overviews: Iterable[int]) -> str:
    """Return one level of the work files as a GDAL dataset, without a copy."""
    height, width = size
    date = np.datetime_as_string(work.plan.dates[0], "s")
    tags = {
        **global_attributes(work.plan),
        "acquisition": f"{date}Z",
        "flag_masks": " ".join(map(str, FLAG_MASKS)),
        "flag_meanings": FLAG_MEANINGS,
        "AREA_OR_POINT": "Area",
    }
    items = "".join(f"<MDI key={quoteattr(k)}>{escape(str(v))}</MDI>" for k, v in tags.items())
    card, bands = work.plan.model.card, []
    unit = card.retrieves.unit
    for number, (name, dtype) in enumerate(VARIABLES.items(), start=1):
        raw = (
            f'<SourceFilename relativeToVRT="1">{name}{_level(level)}</SourceFilename>'
            f"<PixelOffset>{dtype.itemsize}</PixelOffset>"
            f"<LineOffset>{dtype.itemsize * width}</LineOffset><ByteOrder>LSB</ByteOrder>"
        )
        smaller = "".join(
            f'<Overview><SourceFilename relativeToVRT="1">map{_level(k)}.vrt</SourceFilename>'
            f"<SourceBand>{number}</SourceBand></Overview>"
            for k in overviews
        )
        if dtype.kind == "f":
            bands.append(
                f'<VRTRasterBand dataType="Float32" band="{number}" subClass="VRTRawRasterBand">'
                f"<Description>{card.retrieves.column_of(name)}</Description><UnitType>{unit}</UnitType>"
                f"<NoDataValue>nan</NoDataValue>{smaller}{raw}</VRTRasterBand>"
            )
            continue
        inner = work.folder / f"{name}{_level(level)}.vrt"
        inner.write_text(
            f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
            f'<VRTRasterBand dataType="UInt16" band="1" subClass="VRTRawRasterBand">{raw}'
            "</VRTRasterBand></VRTDataset>",
            encoding="utf-8",
        )
        bands.append(
            f'<VRTRasterBand dataType="Float32" band="{number}">'
            f"<Description>{name}</Description><NoDataValue>nan</NoDataValue>{smaller}"
            f'<SimpleSource><SourceFilename relativeToVRT="1">{inner.name}</SourceFilename>'
            "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand>"
        )
    a, b, c, d, e, f = work.plan.stack.grid.transform
    step = 2**level
    return (
        f'<VRTDataset rasterXSize="{width}" rasterYSize="{height}">'
        f"<SRS>{escape(work.plan.stack.grid.crs)}</SRS>"
        f"<GeoTransform>{c!r},{a * step!r},{b * step!r},{f!r},{d * step!r},{e * step!r}"
        f"</GeoTransform><Metadata>{items}</Metadata>{''.join(bands)}</VRTDataset>"
    )
