"""Files of outlines as features and a CRS: GeoJSON in pure Python, others through pyogrio."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import DataError
from ..base.extras import optional
from ..base.schema import decode_text

LON_LAT = "OGC:CRS84"
Features = list[dict[str, Any]]
#: What a zip file may hold.
_IN_ZIP = (".shp", ".gpkg", ".geojson", ".kml", ".fgb")

_HEAD_BYTES = 65536
#: Ending -> how the content begins.
_BEGINS = {
    ".gpkg": b"SQLite format 3\0",
    ".shp": b"\0\0\x27\x0a",
    ".fgb": b"fgb",
    ".kmz": b"PK",
    ".kml": b"",
}
#: The root element of XML: what declarations, comments and a document type precede.
_XML_ROOT = re.compile(rb"<(?![?!])(?:[\w.-]+:)?([\w.-]+)")
#: Root elements of XML that holds outlines itself.
_XML_KINDS = (b"kml", b"featurecollection", b"gml", b"gpx", b"osm")


def read_features(path: Path, layer: str | None = None) -> tuple[Features, str]:
    """Read GeoJSON features (properties, geometry, perhaps id) and the CRS of their coordinates.

    layer: of a file that holds several; a KML file's folders are read together. DataError
    where the file is not what it should be.
    """
    if path.suffix.lower() in (".geojson", ".json"):
        return _geojson(path)
    return _other(path, layer)


def json_value(value: Any) -> Any:
    """Convert a property to JSON; NaN and infinity become null, at any depth.

    >>> json_value({"a": [1.5, float("nan")], "b": np.int64(3)})
    {'a': [1.5, None], 'b': 3}
    """
    if isinstance(value, Mapping):
        return {str(key): json_value(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, np.ndarray)):
        return [json_value(item) for item in value]
    if isinstance(value, (np.datetime64, np.timedelta64)):
        return None if np.isnat(value) else str(value)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _geojson(path: Path) -> tuple[Features, str]:
    try:
        raw = json.loads(decode_text(path.read_bytes()))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable GeoJSON ({error})") from None
    if isinstance(raw, dict) and raw.get("type") == "Feature":
        raw = {**raw, "type": "FeatureCollection", "features": [raw]}
    if isinstance(raw, dict) and _is_esri(raw):
        raise DataError(f"{path}: is Esri JSON, not GeoJSON; export it as GeoJSON")
    if isinstance(raw, dict) and raw.get("type") == "Topology":
        raise DataError(f"{path}: is TopoJSON, not GeoJSON; export it as GeoJSON")
    if not isinstance(raw, dict) or not isinstance(raw.get("features"), list):
        raise DataError(f"{path}: not a GeoJSON FeatureCollection")
    if not all(isinstance(feature, dict) for feature in raw["features"]):
        raise DataError(f"{path}: features must be objects")
    return raw["features"], _crs_of(raw.get("crs"), path)


def _is_esri(raw: Mapping[str, Any]) -> bool:
    features = raw.get("features")
    first = features[0] if isinstance(features, list) and features else None
    return "spatialReference" in raw or (
        isinstance(first, dict) and "attributes" in first and "properties" not in first
    )


def _crs_of(raw: Any, path: Path) -> str:
    """Read the CRS of GeoJSON: lon, lat by RFC 7946; a ``crs`` member of older files may differ.

    EPSG codes as ``EPSG:n``, URN or URL, in upper or lower case.
    """
    if raw is None:
        return LON_LAT
    properties = raw.get("properties") if isinstance(raw, dict) else None
    if isinstance(properties, dict) and isinstance(properties.get("code"), int):
        name = f"EPSG:{properties['code']}"
    elif isinstance(properties, dict) and isinstance(properties.get("name"), str):
        name = properties["name"]
    else:
        raise DataError(f"{path}: its crs member names no CRS")
    if "CRS84" in name.upper():
        return LON_LAT
    match = re.search(r"EPSG(?::+|/)(?:[\d.]*[:/])?(\d{1,6})$", name.strip(), re.IGNORECASE)
    if not match:
        raise DataError(f"{path}: its CRS {name[:60]!r} is not known; write EPSG:n, or lon and lat")
    return LON_LAT if match[1] == "4326" else f"EPSG:{match[1]}"


def _other(path: Path, layer: str | None) -> tuple[Features, str]:
    """Read GeoPackage, Shapefile, KML and other outlines by GDAL's vector half."""
    pyogrio = optional("pyogrio", what=f"{path}: outlines other than GeoJSON")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    source = gdal_name(path)
    try:
        layers = [(str(name), kind) for name, kind in pyogrio.list_layers(source)]
        wanted = _layers(path, layers, layer)
        read = [
            pyogrio.raw.read(source, layer=name, return_fids=False, force_2d=True)
            for name in wanted
        ]
    except (RuntimeError, ValueError, OSError) as error:
        raise DataError(f"{path}: cannot be read as outlines ({str(error)[:200]})") from None
    crs = {str(meta["crs"] or "") for meta, *_ in read}
    if crs == {""}:
        raise DataError(f"{path}: has no CRS, so the position of the paddocks is unknown")
    if len(crs) > 1:
        raise DataError(f"{path}: its layers are of several CRS; name one with --layer")
    features = [feature for one in read for feature in _features(*one)]
    name = crs.pop()
    return features, LON_LAT if "CRS84" in name or name == "EPSG:4326" else name


def _layers(path: Path, layers: list[tuple[str, Any]], wanted: str | None) -> list[str]:
    """List the layers to read: the named one, the only one with outlines, or all of a KML."""
    names = [name for name, _ in layers]
    if wanted is not None:
        if wanted not in names:
            raise DataError(f"{path}: no layer {wanted!r}; it has {', '.join(names) or 'none'}")
        return [wanted]
    drawn = [name for name, kind in layers if kind is not None]
    areas = [name for name, kind in layers if kind is not None and "Polygon" in kind] or drawn
    if path.suffix.lower() in (".kml", ".kmz"):
        return drawn
    if len(areas) > 1:
        raise DataError(
            f"{path}: has several layers with outlines, {', '.join(areas)}; name one with --layer"
        )
    return areas


def gdal_name(path: Path) -> str:
    """Return GDAL's name of a file of outlines, also in a zip file.

    DataError for suspicious content.
    """
    source, head = _inside(path) if path.suffix.lower() == ".zip" else (str(path), _head(path))
    _check_content(path, source, head)
    return source


def _head(path: Path) -> bytes:
    """Read the first bytes of a file; empty for a folder."""
    if path.is_dir():
        return b""
    with path.open("rb") as file:
        return file.read(_HEAD_BYTES)


def _check_content(path: Path, source: str, head: bytes) -> None:
    """Refuse content that reads other files or addresses, or is of another kind than its name.

    GDAL goes by the content: a ``.kml`` that holds an OGR VRT fetches what it names.
    """
    expected = _BEGINS.get(Path(source).suffix.lower())
    if expected is not None and not head.startswith(expected):
        raise DataError(f"{path}: its content is no {Path(source).suffix.lower()[1:]} file")
    text = head.replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe").lstrip()
    root = _XML_ROOT.search(text) if text.startswith(b"<") else None
    if text.startswith(b"<") and (root is None or root[1].lower() not in _XML_KINDS):
        kind = root[1].decode("ascii", "replace") if root else "XML"
        raise DataError(
            f"{path}: holds {kind}, which is not a file of outlines; a file that refers to others "
            "or to addresses is not read"
        )


def _inside(path: Path) -> tuple[str, bytes]:
    """Return GDAL's name of the one file of outlines in a zip file, and its first bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [
                name
                for name in archive.namelist()
                if name.lower().endswith(_IN_ZIP) and not name.startswith("__MACOSX")
            ]
    except (OSError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a readable zip file ({error})") from None
    if len(names) != 1:
        told = f"several files of outlines, {', '.join(names)}" if names else "no file of outlines"
        raise DataError(f"{path}: holds {told}; unpack it and name one")
    with zipfile.ZipFile(path) as archive, archive.open(names[0]) as file:
        return f"/vsizip/{path}/{names[0]}", file.read(_HEAD_BYTES)


def _features(meta: Mapping[str, Any], _: Any, geometry: Any, columns: Any) -> Features:
    shapely = optional("shapely", what="outlines other than GeoJSON")
    shapes = shapely.from_wkb(geometry, on_invalid="ignore")
    found = []
    for row, shape in enumerate(shapes):
        properties = {
            str(name): json_value(values[row])
            for name, values in zip(meta["fields"], columns, strict=True)
        }
        outline: Any = None if geometry[row] is None else "unreadable"
        if shape is not None:
            outline = json.loads(shapely.to_geojson(shape))
        found.append({"properties": properties, "geometry": outline})
    return found
