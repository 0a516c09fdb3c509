"""Outlines of paddocks: who they are by one rule for every format, and where they lie."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..base.errors import DataError, UsageError
from ..base.extras import optional
from ..tables.keys import canonical_id, canonical_name, name_note, spelling_note
from ..tables.text_column import TextColumn
from .gdal import rasterio_or_reason, reason_of
from .grid import Grid
from .outlinefiles import LON_LAT, json_value, read_features
from .polygons import NotNumbers, points_of, polygon_list, polygons_of, turned, unwrapped

__all__ = [
    "LON_LAT",
    "Outlines",
    "Reason",
    "json_value",
    "on_grid",
    "read_outlines",
]


@dataclass(frozen=True)
class Outlines:
    """P paddocks as read.

    crs: of the coordinates, x first.  ids: as text, to join by.  geometries: GeoJSON polygons
    of (x, y), or None.  problems: reason of a missing geometry, or "".  own_ids: as the
    file has them, numbers too.  notes: ids and names of properties that were changed to their
    canonical form.
    """

    source: str
    crs: str
    ids: tuple[str, ...]
    properties: tuple[Mapping[str, Any], ...]
    geometries: tuple[Mapping[str, Any] | None, ...]
    problems: tuple[str, ...] = ()
    own_ids: tuple[Any, ...] = ()
    notes: tuple[str, ...] = ()


class Reason(NamedTuple):
    """Why a paddock has no number: what it comes down to, to be counted, and in full."""

    cause: str
    in_full: str = ""

    @property
    def text(self) -> str:
        """In full, or the cause where that is all."""
        return self.in_full or self.cause


def read_outlines(
    path: str | Path, id_property: str | None = None, *, layer: str | None = None
) -> Outlines:
    """Read paddock outlines: GeoJSON, or what pyogrio reads (GeoPackage, Shapefile, KML, ...).

    id_property: the property that names a paddock; by default the feature's own id, else its
    property ``id``, in every format. Rows are never numbered. A feature without an outline
    and without an id (a gate, a track) is left out.
    layer: of a file with several.
    DataError where the file is invalid, an id occurs twice, or no outline can be used. A single
    invalid outline costs its paddock the value, with the reason.
    """
    path = Path(path)
    features, crs = read_features(path, layer)
    if not features:
        raise DataError(f"{path}: holds no paddock")
    names, properties, geometries, problems = [], [], [], []
    spelt: dict[str, str] = {}
    id_property = None if id_property is None else canonical_name(id_property)
    for number, feature in enumerate(features, start=1):
        own = feature.get("properties")
        own = own if isinstance(own, Mapping) else {}
        spelt |= {str(key): canonical_name(str(key)) for key in own if str(key) not in spelt}
        own = {spelt[str(key)]: value for key, value in own.items()}
        name = _id_of(feature, own, id_property)
        place = f"paddock {canonical_id(name)}" if name is not None else f"feature {number}"
        try:
            geometry, problem = polygons_of(feature.get("geometry"))
        except NotNumbers:
            raise DataError(f"{path}: {place}: its coordinates are not numbers in rings") from None
        if name is None:
            if problem.startswith("is a "):
                continue
            raise UsageError(f"{path}: feature {number} {_no_id(own, id_property)}")
        names.append(name)
        properties.append(own)
        geometries.append(geometry)
        problems.append(problem)
    ids = tuple(canonical_id(name) for name in names)
    told = [f"paddock {one}: {why}" for one, why in zip(ids, problems, strict=True) if why]
    if not ids or (told and not any(geometries)):
        raise DataError(f"{path}: {told[0] if told else 'holds no polygon with an id'}")
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: paddock {twice[0]} occurs twice; ids must differ")
    _check_degrees(path, crs, ids, geometries)
    texts = [name if isinstance(name, str) else one for name, one in zip(names, ids, strict=True)]
    notes = (
        name_note(str(path), spelt, "property"),
        spelling_note(f"{path}: paddock", TextColumn.of(texts), TextColumn.of(ids)),
    )
    return Outlines(
        str(path),
        crs,
        ids,
        tuple(properties),
        tuple(geometries),
        tuple(problems),
        tuple(names),
        tuple(filter(None, notes)),
    )


def crs_member(crs: str) -> dict[str, Any]:
    """Return the member ``crs`` of a GeoJSON file; {} for longitude and latitude.

    RFC 7946 has no other CRS; the member is of the version before it.

    >>> crs_member("EPSG:28355")
    {'crs': {'type': 'name', 'properties': {'name': 'urn:ogc:def:crs:EPSG::28355'}}}
    """
    if crs == LON_LAT:
        return {}
    name = crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::")
    return {"crs": {"type": "name", "properties": {"name": name}}}


def on_grid(outlines: Outlines, grid: Grid, source: str) -> list[dict[str, Any] | Reason]:
    """Return each outline as a GeoJSON geometry in the grid's CRS, or why it cannot be used.

    source: of the grid, for messages. DataError where no outline can be brought there, or
    where all lie outside the grid and would lie inside with latitude and longitude swapped.
    """
    shapely = optional("shapely", "geometry", what="outlines on rasters")
    found: list[dict[str, Any] | Reason] = []
    problems = outlines.problems or ("",) * len(outlines.ids)
    for geometry, problem in zip(outlines.geometries, problems, strict=True):
        if geometry is None:
            cause = "its outline is not a polygon" if problem else "it has no outline"
            found.append(Reason(cause, f"its outline {problem}" if problem else ""))
            continue
        shape = shapely.geometry.shape(geometry)
        if not shape.is_valid:
            why = shapely.is_valid_reason(shape)
            found.append(Reason("its outline is invalid", f"its outline is invalid: {why}"))
            continue
        found.append(_moved(outlines.crs, grid, geometry, source))
    usable = [item for item in found if isinstance(item, dict)]
    if outlines.crs == LON_LAT and usable and not any(_meets(grid, item) for item in usable):
        for geometry in outlines.geometries:
            if geometry is not None and _meets(
                grid, _moved(LON_LAT, grid, _swapped(geometry), source)
            ):
                raise DataError(
                    f"{outlines.source}: no outline lies on the scene, and with latitude and "
                    "longitude swapped they would; write longitude first"
                )
    return found


def _id_of(feature: Mapping[str, Any], own: Mapping[str, Any], id_property: str | None) -> Any:
    """Return the id of a paddock, or None."""
    if id_property is None:  # of ID and Id the first
        spelt = [value for key, value in own.items() if str(key).lower() == "id"]
        candidates = [feature.get("id"), own.get("id"), *spelt]
    else:
        candidates = [own.get(id_property)]
        candidates += [feature.get("id")] if id_property == "id" else []
    for name in candidates:
        known = isinstance(name, (str, int, float)) and not isinstance(name, bool)
        if known and str(name).strip() and str(name) != "nan":
            return name
    return None


def _no_id(own: Mapping[str, Any], id_property: str | None) -> str:
    have = ", ".join(map(str, own)) or "none"
    if id_property is None:
        return f"has no 'id'; name the property that identifies a paddock with --id: {have}"
    return f"has no {id_property!r}, the property that --id names; it has {have}"


def _check_degrees(
    path: Path, crs: str, ids: Sequence[str], geometries: Sequence[Mapping[str, Any] | None]
) -> None:
    """Raise DataError where longitude and latitude cannot be what the coordinates are."""
    if crs != LON_LAT:
        return
    for name, geometry in zip(ids, geometries, strict=True):
        if geometry is None:
            continue
        points = np.asarray(list(points_of(geometry)))
        if not (np.abs(points) > [360, 90]).any():
            continue
        x, y = points[np.argmax(np.abs(points).sum(axis=1))]
        swapped = (np.abs(points[:, ::-1]) <= [360, 90]).all()
        cause = (
            "are latitude and longitude swapped? write longitude first"
            if swapped
            else "are the coordinates projected? then the file must say so in a crs member"
        )
        raise DataError(
            f"{path}: paddock {name}: {x:g}, {y:g} is not a longitude and latitude; {cause}"
        )


def _moved(crs: str, grid: Grid, geometry: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Bring an outline to the grid's CRS; on longitudes to the turn that meets the grid."""
    rasterio = rasterio_or_reason()
    if crs == LON_LAT:
        crs, geometry = "EPSG:4326", unwrapped(geometry)
    try:
        moved = dict(rasterio.warp.transform_geom(crs, grid.crs, dict(geometry)))
        return _turned_onto(grid, unwrapped(moved)) if grid.is_geographic else moved
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise DataError(
            f"{source}: the outlines cannot be brought from {crs[:60]} to the scene's CRS "
            f"({reason_of(error)})"
        ) from None


def _turned_onto(grid: Grid, geometry: Mapping[str, Any]) -> dict[str, Any]:
    """Turn each polygon by 360 degrees of longitude where that brings it onto the grid."""
    found = []
    for polygon in polygon_list(geometry):
        here = {"type": "Polygon", "coordinates": polygon}
        turns = [turned(here, turn_deg) for turn_deg in (0.0, 360.0, -360.0)]
        found.append(next((item for item in turns if _meets(grid, item)), here)["coordinates"])
    of_one = geometry["type"] == "Polygon"
    return {"type": geometry["type"], "coordinates": found[0] if of_one else found}


def _meets(grid: Grid, geometry: Mapping[str, Any]) -> bool:
    """Return True where a geometry's bounds meet the grid's."""
    points = np.asarray([point[:2] for point in points_of(geometry)])
    west, south, east, north = grid.bounds
    (left, bottom), (right, top) = points.min(axis=0), points.max(axis=0)
    return bool(left < east and right > west and bottom < north and top > south)


def _swapped(geometry: Mapping[str, Any]) -> dict[str, Any]:
    def turned(item: Any) -> Any:
        if isinstance(item[0], (list, tuple)):
            return [turned(part) for part in item]
        return [item[1], item[0]]

    return {"type": geometry["type"], "coordinates": turned(geometry["coordinates"])}
