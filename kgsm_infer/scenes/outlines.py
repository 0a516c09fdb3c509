"""Outlines of paddocks: read from GeoJSON in pure Python, from other files through pyogrio."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import DataError, UsageError
from ..extras import optional
from .gdal import rasterio_or_reason, reason_of
from .grid import Grid

LON_LAT = "OGC:CRS84"


@dataclass(frozen=True)
class Outlines:
    """P paddocks as read. geometries: GeoJSON, or None; crs: of their coordinates, x first."""

    source: str
    crs: str
    ids: tuple[str, ...]
    properties: tuple[Mapping[str, Any], ...]
    geometries: tuple[Mapping[str, Any] | None, ...]


class Reason(NamedTuple):
    """Why a paddock has no number: what it comes down to, to be counted, and in full."""

    cause: str
    in_full: str = ""

    @property
    def text(self) -> str:
        """In full, or the cause where that is all."""
        return self.in_full or self.cause


def read_outlines(path: str | Path, id_property: str | None = None) -> Outlines:
    """Read paddock outlines: GeoJSON in pure Python, GeoPackage and others through pyogrio.

    id_property: the property that names a paddock; by default the feature's ``id``.
    DataError where the file, a geometry or an id cannot be what it should.
    """
    path = Path(path)
    if path.suffix.lower() in (".geojson", ".json"):
        features, crs = _geojson(path)
    else:
        features, crs = _other(path)
    if not features:
        raise DataError(f"{path}: holds no paddock")
    ids, properties, geometries = [], [], []
    for number, feature in enumerate(features, start=1):
        own = feature.get("properties") or {}
        name = own.get(id_property) if id_property else feature.get("id", own.get("id"))
        if name is None or str(name).strip() == "":
            raise UsageError(
                f"{path}: feature {number} has no {id_property or 'id'!r}; name the property "
                f"that identifies a paddock with --id: {', '.join(own) or 'it has none'}"
            )
        ids.append(plain_id(name))
        properties.append(own)
        geometries.append(_geometry(feature.get("geometry"), crs, f"{path}: paddock {ids[-1]}"))
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: paddock {twice[0]} stands there twice; ids must differ")
    return Outlines(str(path), crs, tuple(ids), tuple(properties), tuple(geometries))


def on_grid(outlines: Outlines, grid: Grid, source: str) -> list[dict[str, Any] | Reason]:
    """Each outline as a GeoJSON geometry in the grid's CRS, or why it cannot be used.

    source: of the grid, for messages. DataError where no outline can be brought there.
    """
    shapely = optional("shapely", "geometry", what="outlines on rasters")
    rasterio = rasterio_or_reason()
    crs = "EPSG:4326" if outlines.crs == LON_LAT else outlines.crs
    found: list[dict[str, Any] | Reason] = []
    for geometry in outlines.geometries:
        if geometry is None:
            found.append(Reason("it has no outline"))
            continue
        shape = shapely.geometry.shape(geometry)
        if not shape.is_valid:
            why = shapely.is_valid_reason(shape)
            found.append(Reason("its outline is invalid", f"its outline is invalid: {why}"))
            continue
        try:
            found.append(dict(rasterio.warp.transform_geom(crs, grid.crs, dict(geometry))))
        except (rasterio.errors.RasterioError, ValueError) as error:
            raise DataError(
                f"{source}: the outlines cannot be brought from {crs} to the scene's CRS "
                f"({reason_of(error)})"
            ) from None
    return found


def plain_id(value: Any) -> str:
    """An id as text; 7 of GeoJSON and the 7.0 a table makes of a number column are one."""
    text = str(value).strip()
    return text.split(".")[0] if re.fullmatch(r"-?\d+\.0+", text) else text


def _geojson(path: Path) -> tuple[list[dict[str, Any]], str]:
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not readable GeoJSON ({error})") from None
    if isinstance(raw, dict) and raw.get("type") == "Feature":
        raw = {"type": "FeatureCollection", "features": [raw]}
    if not isinstance(raw, dict) or not isinstance(raw.get("features"), list):
        raise DataError(f"{path}: not a GeoJSON FeatureCollection")
    if not all(isinstance(feature, dict) for feature in raw["features"]):
        raise DataError(f"{path}: features must be objects")
    return raw["features"], _crs_of(raw.get("crs"), path)


def _crs_of(raw: Any, path: Path) -> str:
    """RFC 7946 says lon, lat; a ``crs`` member of older GeoJSON may say otherwise."""
    if raw is None:
        return LON_LAT
    try:
        name = str(raw["properties"]["name"])
    except (TypeError, KeyError):
        raise DataError(f"{path}: its crs member names no CRS") from None
    if "CRS84" in name:
        return LON_LAT
    match = re.search(r"EPSG:+(?:[\d.]*:)?(\d+)$", name)
    if not match:
        raise DataError(f"{path}: its CRS {name!r} is not known; write EPSG:n, or lon and lat")
    return LON_LAT if match[1] == "4326" else f"EPSG:{match[1]}"


def _other(path: Path) -> tuple[list[dict[str, Any]], str]:
    """GeoPackage, Shapefile, ...: read by GDAL's vector half."""
    pyogrio = optional("pyogrio", what=f"{path}: outlines other than GeoJSON")
    shapely = optional("shapely", what=f"{path}: outlines other than GeoJSON")
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        meta, fids, geometry, columns = pyogrio.raw.read(path, return_fids=True)
    except pyogrio.errors.DataSourceError as error:
        raise DataError(f"{path}: cannot be read as outlines ({error})") from None
    if not meta["crs"]:
        raise DataError(f"{path}: has no CRS, so nobody can say where the paddocks lie")
    crs = "EPSG:4326" if "CRS84" in meta["crs"] else meta["crs"]
    features = []
    for row, fid in enumerate(fids):
        shape = shapely.from_wkb(geometry[row]) if geometry[row] is not None else None
        features.append(
            {
                "properties": {
                    "id": int(fid),
                    **{
                        str(name): json_value(
                            values[row].item() if hasattr(values[row], "item") else values[row]
                        )
                        for name, values in zip(meta["fields"], columns, strict=True)
                    },
                },
                "geometry": None if shape is None else json.loads(shapely.to_geojson(shape)),
            }
        )
    return features, LON_LAT if crs == "EPSG:4326" else str(crs)


def _geometry(raw: Any, crs: str, place: str) -> Mapping[str, Any] | None:
    """Polygons only, of finite coordinates, in lon and lat where that is what they are."""
    if raw is None:
        return None
    if not isinstance(raw, dict) or raw.get("type") not in ("Polygon", "MultiPolygon"):
        kind = raw.get("type") if isinstance(raw, dict) else raw
        raise DataError(f"{place}: is a {kind}; a paddock is a Polygon or MultiPolygon")
    coordinates: Any = raw.get("coordinates")
    polygons = [coordinates] if raw["type"] == "Polygon" else coordinates
    try:
        points = np.asarray(
            [point[:2] for polygon in polygons for ring in polygon for point in ring], np.float64
        )
    except (TypeError, ValueError, IndexError):
        raise DataError(f"{place}: its coordinates are not numbers in rings") from None
    if len(points) == 0:
        return None
    if not np.isfinite(points).all():
        raise DataError(f"{place}: its coordinates are not finite")
    if crs == LON_LAT and (np.abs(points) > [360, 90]).any():
        x, y = points[np.argmax(np.abs(points).sum(axis=1))]
        raise DataError(
            f"{place}: {x:g}, {y:g} is no longitude and latitude; are the coordinates projected? "
            "then the file must say so in a crs member"
        )
    return raw


def json_value(value: Any) -> Any:
    """A property as JSON has it: what is no number is null."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
