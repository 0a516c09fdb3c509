"""Files beside a GeoTIFF map: a style for QGIS, a colour table for GDAL, and a STAC item.

QGIS applies ``NAME.qml`` when it opens ``NAME.tif``. ``gdaldem color-relief`` reads
``NAME.colours.txt``. ``NAME.stac.json`` is an Item of STAC 1.1 with the projection extension; the
asset's address is relative to it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from ..base.files import whole
from ..base.quantities import Quantity
from ..scenes.gdal import rasterio_or_reason

#: ColorBrewer's YlGnBu in nine classes, from dry to wet; maps/picture.py draws the same colours.
COLOURS = (
    *("#ffffd9", "#edf8b1", "#c7e9b4", "#7fcdbb", "#41b6c4"),
    *("#1d91c0", "#225ea8", "#253494", "#081d58"),
)
PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"


def sidecar_paths(output: Path) -> tuple[Path, Path, Path]:
    """Return the paths of style, colour table and STAC item of a map."""
    qml, colours, stac = (output.with_suffix(end) for end in (".qml", ".colours.txt", ".stac.json"))
    return qml, colours, stac


def write_sidecars(output: Path, quantity: Quantity) -> None:
    """Write the three files of a finished GeoTIFF map."""
    texts = (style(quantity), colour_table(quantity), json.dumps(stac_item(output), indent=1))
    for path, text in zip(sidecar_paths(output), texts, strict=True):
        with whole(path) as file:
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


def stac_item(output: Path) -> dict[str, Any]:
    """Return the STAC Item of a GeoTIFF map, from its grid, bands and metadata."""
    rasterio = rasterio_or_reason()
    from rasterio.warp import transform_bounds

    with rasterio.open(output) as dataset:
        tags, crs = dataset.tags(), dataset.crs
        west, south, east, north = transform_bounds(crs, "EPSG:4326", *dataset.bounds)
        bands = [
            {"name": name, **({"unit": unit} if unit else {})}
            for name, unit in zip(dataset.descriptions, dataset.units, strict=True)
        ]
        shape, transform = list(dataset.shape), list(dataset.transform)[:6]
    epsg = crs.to_epsg()
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    return {
        "type": "Feature",
        "stac_version": "1.1.0",
        "stac_extensions": [PROJECTION],
        "id": output.stem,
        "bbox": [west, south, east, north],
        "geometry": {"type": "Polygon", "coordinates": [ring]},
        "properties": {
            "datetime": tags["acquisition"],
            "title": tags["title"],
            "proj:code": None if epsg is None else f"EPSG:{epsg}",
            **({} if epsg is not None else {"proj:wkt2": crs.to_wkt()}),
            "proj:shape": shape,
            "proj:transform": transform,
            "kgsm:quantity": tags["kgsm_quantity"],
            "kgsm:simulated": tags["kgsm_simulated"] == "true",
            "kgsm:model_sha256": tags["kgsm_model_sha256"],
        },
        "links": [],
        "assets": {
            "map": {
                "href": f"./{output.name}",
                "type": "image/tiff; application=geotiff; profile=cloud-optimized",
                "roles": ["data"],
                "bands": bands,
            }
        },
    }
