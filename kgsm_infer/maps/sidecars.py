"""Files beside a map: a STAC item, and of a GeoTIFF a style for QGIS and a colour table for GDAL.

QGIS applies ``NAME.qml`` when it opens ``NAME.tif``. ``gdaldem color-relief`` reads
``NAME.colours.txt``. ``NAME.stac.json`` is an Item of STAC 1.1 with the projection extension; the
asset's address is relative to it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np

from ..base.extras import optional
from ..base.files import write_whole
from ..base.quantities import Quantity
from ..scenes.datasets import netcdf_library
from ..scenes.gdal import rasterio_or_reason
from .cog import is_geotiff

#: ColorBrewer's YlGnBu in nine classes, from dry to wet; maps/picture.py draws the same colours.
COLOURS = (
    *("#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4"),
    *("#1d91c0", "#225ea8", "#253494", "#081d58"),
)
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"


def sidecar_paths(output: Path) -> tuple[Path, ...]:
    """Return the paths of the STAC item of a map, and of a GeoTIFF's style and colour table."""
    ends = (".stac.json", ".qml", ".colours.txt")
    stac, *others = (output.with_suffix(end) for end in ends)
    return (stac, *others) if is_geotiff(output) else (stac,)


def write_sidecars(output: Path, quantity: Quantity) -> None:
    """Write the files beside a finished map."""
    texts = (json.dumps(stac_item(output), indent=1), style(quantity), colour_table(quantity))
    for path, text in zip(sidecar_paths(output), texts, strict=False):
        with write_whole(path) as file:
            file.write(text + "\n")


def _steps(quantity: Quantity) -> list[tuple[float, str]]:
    """Return values and their colours, from 0 to the upper end of the scale."""
    last = len(COLOURS) - 1
    return [(quantity.upper_end * k / last, colour) for k, colour in enumerate(COLOURS)]


def style(quantity: Quantity) -> str:
    """Return the layer style of QGIS 3 for the first band."""
    items = "".join(
        f'<item value="{value:g}" label="{value:g}" color="{colour}" alpha="255"/>'
        for value, colour in _steps(quantity)
    )
    end = f"{quantity.upper_end:g}"
    return (
        "<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n"
        f'<qgis version="3.0" styleCategories="Symbology"><!-- {escape(quantity.label)} --><pipe>'
        '<rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" '
        f'classificationMin="0" classificationMax="{end}"><rastershader>'
        f'<colorrampshader colorRampType="INTERPOLATED" clip="0" minimumValue="0" '
        f'maximumValue="{end}" classificationMode="1">{items}</colorrampshader>'
        "</rastershader></rasterrenderer></pipe></qgis>"
    )


def colour_table(quantity: Quantity) -> str:
    """Return value, red, green and blue, one line for each step; ``nv`` is transparent."""
    lines = [
        " ".join([f"{value:g}", *(str(int(colour[i : i + 2], 16)) for i in (1, 3, 5)), "255"])
        for value, colour in _steps(quantity)
    ]
    return "\n".join([*lines, "nv 0 0 0 0"])


@dataclass(frozen=True)
class _Described:
    """Content of the STAC Item of a map. bounds: west, south, east, north in units of the CRS.

    times: of all acquisitions, ISO 8601.  tags: the map's metadata.  bands: name and unit.
    """

    crs: Any
    bounds: tuple[float, float, float, float]
    shape: tuple[int, int]
    times: tuple[str, ...]
    tags: Mapping[str, Any]
    bands: tuple[tuple[str, str], ...]
    media_type: str


def _of_geotiff(output: Path) -> _Described:
    rasterio = rasterio_or_reason()
    with rasterio.open(output) as dataset:
        tags = dataset.tags()
        return _Described(
            dataset.crs,
            tuple(dataset.bounds),
            dataset.shape,
            (tags["acquisition"],),
            tags,
            tuple(
                (name, unit or "")
                for name, unit in zip(dataset.descriptions, dataset.units, strict=True)
            ),
            "image/tiff; application=geotiff; profile=cloud-optimized",
        )


def _of_cube(output: Path) -> _Described:
    """Read the description of a NetCDF or Zarr map."""
    xarray = optional("xarray", what="the STAC item of a cube", extra="raster")
    crs = rasterio_or_reason().crs.CRS
    zarr = output.suffix.lower() == ".zarr"
    engine = "zarr" if zarr else "netcdf4"
    with netcdf_library(), xarray.open_dataset(output, engine=engine) as cube:
        left, dx, _, top, _, dy = map(float, cube["crs"].attrs["GeoTransform"].split())
        height, width = cube.sizes["y"], cube.sizes["x"]
        times = np.datetime_as_string(cube["time"].values.astype("datetime64[s]"), timezone="UTC")
        return _Described(
            crs.from_wkt(cube["crs"].attrs["crs_wkt"]),
            (left, top + dy * height, left + dx * width, top),
            (height, width),
            tuple(str(time) for time in times),
            cube.attrs,
            tuple(
                (str(name), str(item.attrs.get("units", "")))
                for name, item in cube.data_vars.items()
                if item.dims == ("time", "y", "x")
            ),
            "application/vnd.zarr" if zarr else "application/netcdf",
        )


def stac_item(output: Path) -> dict[str, Any]:
    """Return the STAC Item of a map, from its grid, bands and metadata."""
    rasterio_or_reason()
    from rasterio.warp import transform_bounds

    found = _of_geotiff(output) if is_geotiff(output) else _of_cube(output)
    crs, (left, bottom, right, top), (height, width) = found.crs, found.bounds, found.shape
    west, south, east, north = transform_bounds(crs, "EPSG:4326", left, bottom, right, top)
    epsg = crs.to_epsg()
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    several = len(found.times) > 1
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [PROJECTION],
        "id": output.stem,
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": None if several else found.times[0],
            **(
                {"start_datetime": found.times[0], "end_datetime": found.times[-1]}
                if several
                else {}
            ),
            "title": found.tags["title"],
            "proj:code": None if epsg is None else f"EPSG:{epsg}",
            **({} if epsg is not None else {"proj:wkt2": crs.to_wkt()}),
            "proj:shape": [height, width],
            "proj:transform": [
                (right - left) / width,
                0.0,
                left,
                0.0,
                (bottom - top) / height,
                top,
            ],
            "kgsm:quantity": found.tags["kgsm_quantity"],
            "kgsm:simulated": found.tags["kgsm_simulated"] == "true",
            "kgsm:model_sha256": found.tags["kgsm_model_sha256"],
        },
        "links": [],
        "assets": {
            "map": {
                "href": f"./{output.name}",
                "type": found.media_type,
                "roles": ["data"],
                "bands": [
                    {"name": name, **({"unit": unit} if unit else {})} for name, unit in found.bands
                ],
            }
        },
    }
