"""The files a map is written to: Cloud Optimised GeoTIFF, CF NetCDF, Zarr.

Each is made from finished work files in one pass of bounded memory, beside the output; it is
read back and compared with them, number by number, and only then renamed into place.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import KgsmError, MissingError, UsageError
from ..flags import FLAG_MASKS, FLAG_MEANINGS
from ..scenes.stack import Grid, Window, rasterio_or_reason
from .run import VARIABLES, Work

#: Side of a COG's tiles, and of a cube's chunks.
CHUNK = 512
LONG_NAMES = {
    "sm": "volumetric soil moisture, 0-5 cm",
    "sm_lower": "lower end of the soil moisture interval",
    "sm_upper": "upper end of the soil moisture interval",
    "flags": "reasons to doubt, or why there is no number",
}
Write = Callable[[Work, Path], None]


def writer_for(output: Path) -> Write:
    """The writer of an extension, its library at hand; UsageError for another extension."""
    suffix = output.suffix.lower()
    if suffix in (".tif", ".tiff"):
        rasterio_or_reason()
        return write_cog
    if suffix == ".nc":
        _module("netCDF4", "NetCDF")
        return write_netcdf
    if suffix == ".zarr":
        _module("zarr", "Zarr")
        return write_zarr
    raise UsageError(f"{output}: maps are written as .tif (COG), .nc (CF NetCDF) or .zarr")


def write_cog(work: Work, output: Path) -> None:
    """One date as a COG of four float32 bands: sm, sm_lower, sm_upper, flags.

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
            _proved(
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
        raise _not_written(output, error) from None
    _into_place(part, output)


def write_netcdf(work: Work, output: Path) -> None:
    """Every mapped date as CF-1.11 NetCDF 4: (time, y, x), flags with their meanings."""
    netcdf = _module("netCDF4", "NetCDF")
    part = work.folder / "map.nc"
    part.unlink(missing_ok=True)
    try:
        with netcdf.Dataset(part, "w", format="NETCDF4") as file:
            file.setncatts(global_attributes(work))
            for name, size in dimensions(work).items():
                file.createDimension(name, size)
            for name, (dims, values, attributes) in coordinates(work).items():
                variable = file.createVariable(name, values.dtype, dims)
                variable.setncatts(attributes)
                variable[...] = values
            for name, dtype in VARIABLES.items():
                variable = file.createVariable(
                    name,
                    dtype,
                    ("time", "y", "x"),
                    zlib=True,
                    complevel=4,
                    shuffle=True,
                    chunksizes=_chunks(work),
                    fill_value=np.float32(np.nan) if dtype.kind == "f" else False,
                )
                variable.setncatts(attributes_of(work, name))
                variable.set_auto_maskandscale(False)
                for k, window in _windows(work):
                    variable[(k, *_slices(window))] = work.read(name, k, window)
        with open(part, "rb") as written:
            os.fsync(written.fileno())
        with netcdf.Dataset(part) as file:
            file.set_auto_maskandscale(False)
            _proved(work, output, lambda name, k, window: file[name][(k, *_slices(window))])
    except (RuntimeError, OSError) as error:
        raise _not_written(output, error) from None
    _into_place(part, output)


def write_zarr(work: Work, output: Path) -> None:
    """Every mapped date as Zarr (format 2, which GDAL and xarray read), CF attributes."""
    zarr = _module("zarr", "Zarr")
    part = work.folder / "map.zarr"
    shutil.rmtree(part, ignore_errors=True)
    try:
        group = zarr.open_group(part, mode="w", zarr_format=2)
        group.attrs.update(_json(global_attributes(work)))
        for name, (dims, values, attributes) in coordinates(work).items():
            array = group.create_array(
                name, shape=values.shape, dtype=values.dtype, fill_value=None
            )
            array[...] = values
            array.attrs.update({**_json(attributes), "_ARRAY_DIMENSIONS": list(dims)})
        size = dimensions(work)
        for name, dtype in VARIABLES.items():
            array = group.create_array(
                name,
                shape=(size["time"], size["y"], size["x"]),
                dtype=dtype,
                chunks=_chunks(work),
                fill_value=np.float32(np.nan) if dtype.kind == "f" else None,
            )
            array.attrs.update(
                {**_json(attributes_of(work, name)), "_ARRAY_DIMENSIONS": ["time", "y", "x"]}
            )
            for k, window in _windows(work):
                array[(k, *_slices(window))] = work.read(name, k, window)
        zarr.consolidate_metadata(part, zarr_format=2)
        group = zarr.open_group(part, mode="r")
        _proved(work, output, lambda name, k, window: group[name][(k, *_slices(window))])
    except (RuntimeError, OSError, ValueError) as error:
        raise _not_written(output, error) from None
    _into_place(part, output)


def global_attributes(work: Work) -> dict[str, Any]:
    """Of the whole file: what it is, of what, and by what. Nothing that changes by the hour."""
    card = work.plan.model.card
    simulated = "SIMULATED: the model was trained on simulated data. " if card.simulated else ""
    name = work.plan.stack.title or Path(work.plan.stack.source).stem
    interval = (
        "none on the model's card"
        if card.interval is None
        else f"{card.interval['level']:.0%} per pixel, from cross-validation residuals"
    )
    return {
        "Conventions": "CF-1.11",
        "title": f"{simulated}Surface soil moisture, {name}",
        "institution": "not stated",
        "source": f"kgsm {__version__}, {card.kind} on Sentinel-1 {card.polarisation.upper()}",
        "history": f"kgsm-infer map, kgsm {__version__}",
        "references": "Yu, Filippi, Bishop: knowledge-guided deep learning of soil moisture",
        "comment": f"interval: {interval}; see flags before use",
        "kgsm_model_sha256": str(card.graph_sha256.get(work.plan.model.role, "")),
        "kgsm_simulated": "true" if card.simulated else "false",
    }


def dimensions(work: Work) -> dict[str, int]:
    """Sizes by name, in the order of the variables' axes; bounds last."""
    grid = work.plan.stack.grid
    return {"time": len(work.plan.targets), "y": grid.height, "x": grid.width, "bounds": 2}


def coordinates(work: Work) -> dict[str, tuple[tuple[str, ...], NDArray[Any], dict[str, Any]]]:
    """Coordinate variables: dimensions, values, CF attributes. UsageError on a rotated grid."""
    rasterio = rasterio_or_reason()
    grid = work.plan.stack.grid
    a, b, c, d, e, f = grid.transform
    if b or d:
        raise UsageError("NetCDF and Zarr need a north-up grid, this one is rotated; write .tif")
    crs = rasterio.crs.CRS.from_wkt(grid.crs)
    if crs.is_geographic:
        names = (("latitude", "degrees_north"), ("longitude", "degrees_east"))
    else:
        units = {"metre": "m", "meter": "m"}.get(crs.linear_units, crs.linear_units)
        names = (("projection_y_coordinate", units), ("projection_x_coordinate", units))
    seconds = work.plan.dates.astype("datetime64[s]").astype(np.int64)
    day = seconds.astype(np.float64) / 86400
    return {
        "time": (
            ("time",),
            day,
            {
                "standard_name": "time",
                "long_name": "Sentinel-1 acquisition",
                "units": "days since 1970-01-01T00:00:00Z",
                "calendar": "standard",
                "units_metadata": "leap_seconds: none",
                "axis": "T",
            },
        ),
        "y": (
            ("y",),
            f + (np.arange(grid.height) + 0.5) * e,
            {"standard_name": names[0][0], "units": names[0][1], "axis": "Y"},
        ),
        "x": (
            ("x",),
            c + (np.arange(grid.width) + 0.5) * a,
            {"standard_name": names[1][0], "units": names[1][1], "axis": "X"},
        ),
        "depth": (
            (),
            np.float64(0.025),  # type: ignore[dict-item]
            {
                "standard_name": "depth",
                "long_name": "depth below the soil surface",
                "units": "m",
                "positive": "down",
                "axis": "Z",
                "bounds": "depth_bounds",
            },
        ),
        "depth_bounds": (("bounds",), np.asarray([0.0, 0.05]), {}),
        "crs": ((), np.int32(0), _grid_mapping(grid)),  # type: ignore[dict-item]
    }


def attributes_of(work: Work, name: str) -> dict[str, Any]:
    """CF attributes of one of VARIABLES."""
    shared = {"long_name": LONG_NAMES[name], "grid_mapping": "crs", "coordinates": "depth"}
    if name == "flags":
        return {
            **shared,
            "standard_name": "quality_flag",
            "flag_masks": np.asarray(FLAG_MASKS, np.uint16),
            "flag_meanings": FLAG_MEANINGS,
        }
    soil = {**shared, "standard_name": "volume_fraction_of_condensed_water_in_soil", "units": "1"}
    if name == "sm":
        soil["ancillary_variables"] = "sm_lower sm_upper flags"
    low, high = work.plan.model.card.limits.sm
    return {**soil, "valid_range": np.asarray([low, high], np.float32)}


def _grid_mapping(grid: Grid) -> dict[str, Any]:
    """CF attributes of the CRS, and the names GDAL and xarray's tools read."""
    crs = _module("pyproj", "NetCDF and Zarr").CRS.from_wkt(grid.crs)
    a, b, c, d, e, f = grid.transform
    mapping = {key: value for key, value in crs.to_cf().items() if value is not None}
    return {
        **mapping,
        "spatial_ref": mapping["crs_wkt"],
        "GeoTransform": f"{c} {a} {b} {f} {d} {e}",
    }


def _write_vrt(work: Work) -> Path:
    """The work files, and every second pixel of them down to one tile, as a GDAL dataset."""
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
    """Every second row and column of a raw file, in bounded memory."""
    rows = 2 * max(1, CHUNK * CHUNK // width)
    with open(source, "rb") as wide, open(target, "wb") as narrow:
        while len(some := np.fromfile(wide, dtype, rows * width)):
            narrow.write(np.ascontiguousarray(some.reshape(-1, width)[::2, ::2]).tobytes())


def _vrt(work: Work, level: int, size: tuple[int, int], overviews: Iterable[int]) -> str:
    """One level of the work files as a GDAL dataset, without a copy."""
    height, width = size
    date = np.datetime_as_string(work.plan.dates[0], "s")
    tags = {
        **global_attributes(work),
        "acquisition": f"{date}Z",
        "flag_masks": " ".join(map(str, FLAG_MASKS)),
        "flag_meanings": FLAG_MEANINGS,
        "AREA_OR_POINT": "Area",
    }
    items = "".join(f"<MDI key={quoteattr(k)}>{_text(v)}</MDI>" for k, v in tags.items())
    bands = []
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
                f"<Description>{name}</Description><UnitType>m3 m-3</UnitType>"
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
        f"<SRS>{_text(work.plan.stack.grid.crs)}</SRS>"
        f"<GeoTransform>{c!r},{a * step!r},{b * step!r},{f!r},{d * step!r},{e * step!r}"
        f"</GeoTransform><Metadata>{items}</Metadata>{''.join(bands)}</VRTDataset>"
    )


def _text(value: Any) -> str:
    from xml.sax.saxutils import escape

    return escape(str(value))


def _proved(work: Work, output: Path, read: Callable[[str, int, Window], NDArray[Any]]) -> None:
    """MissingError where what was written is not what was computed: a full or broken disk."""
    for k, window in _windows(work):  # one after another, since a COG's tile holds all variables
        for name, dtype in VARIABLES.items():
            if not np.array_equal(
                np.asarray(read(name, k, window), dtype),
                work.read(name, k, window),
                equal_nan=dtype.kind == "f",
            ):
                raise MissingError(
                    f"{output}: not written, {name} does not read back as it was computed "
                    "(a full or failing disk?); run the same command again"
                )


def _windows(work: Work) -> Iterator[tuple[int, Window]]:
    """Chunk by chunk, every date: each chunk is written once."""
    grid = work.plan.stack.grid
    for k in range(len(work.plan.targets)):
        for row in range(0, grid.height, CHUNK):
            for col in range(0, grid.width, CHUNK):
                yield (
                    k,
                    Window(row, col, min(CHUNK, grid.height - row), min(CHUNK, grid.width - col)),
                )


def _chunks(work: Work) -> tuple[int, int, int]:
    grid = work.plan.stack.grid
    return (1, min(CHUNK, grid.height), min(CHUNK, grid.width))


def _slices(window: Window) -> tuple[slice, slice]:
    return (
        slice(window.row, window.row + window.height),
        slice(window.col, window.col + window.width),
    )


def _json(attributes: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: value.tolist() if isinstance(value, np.ndarray) else value
        for key, value in attributes.items()
    }


def _into_place(part: Path, output: Path) -> None:
    """Rename over the output; a Zarr folder that is there already is moved aside first."""
    if output.is_dir():
        aside = part.with_name("old.zarr")
        shutil.rmtree(aside, ignore_errors=True)
        os.replace(output, aside)
    if part.is_file():
        with open(part, "rb") as file:
            os.fsync(file.fileno())
    os.replace(part, output)


def _not_written(output: Path, error: BaseException) -> MissingError:
    cause = error.__cause__ or error
    return MissingError(
        f"{output}: not written ({' '.join(str(cause).split())[:200]}); a full disk? "
        "make room and run the same command again"
    )


def _module(name: str, what: str) -> Any:
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError:
        raise MissingError(
            f"{what} needs {name}, which is not installed: pip install 'kgsm[raster]'"
        ) from None
