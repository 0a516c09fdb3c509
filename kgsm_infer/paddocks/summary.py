"""One number per paddock: outlines, statistics of the pixels or points in them, files.

Nothing here needs more than NumPy: with a table, GeoJSON and CSV this is all there is.
:mod:`kgsm_infer.paddocks.of_scene` does the same on rasters, with partly covered pixels weighted.

What a paddock's line says:

    sm              weighted mean of the pixels with a number
    sm_median, sm_p10, sm_p90   weighted quantiles of them: how the paddock varies
    sm_lower, sm_upper          interval of ``sm``: the card's offsets for one pixel around the
                    mean. Errors of pixels in one paddock go together (same pass, same
                    crop, same model), so nothing is gained from their number: no division by
                    the root of it. It errs to the wide side.
    valid_share     share of the paddock's area (or rows) that has a number
    pixels          how many pixels (sum of their shares inside), or rows
    flags           those on at least a tenth of what ``sm`` is the mean of; without
                    a number, the reasons on at least a tenth of the paddock
    reason          why there is no number, in words; empty where there is one
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import flags
from ..errors import DataError, MissingError, UsageError
from ..files import whole
from ..table import Table, asked_day, write_csv

if TYPE_CHECKING:
    from ..card import Card
    from ..model import Model, Retrieval

#: A flag stands for a paddock from this share of its pixels on.
FLAG_SHARE = 0.1
#: Less of a paddock than this with a number, and the paddock has none.
MIN_VALID = 0.5
LON_LAT = "OGC:CRS84"


@dataclass(frozen=True)
class Outlines:
    """P paddocks as read. geometries: GeoJSON, or None; crs: of their coordinates, x first."""

    source: str
    crs: str
    ids: tuple[str, ...]
    properties: tuple[Mapping[str, Any], ...]
    geometries: tuple[Mapping[str, Any] | None, ...]


@dataclass(frozen=True)
class Paddock:
    """One paddock on one date; the module's text says what each number is. NaN: none."""

    id: str
    date: str
    sm: float
    sm_median: float
    sm_p10: float
    sm_p90: float
    sm_lower: float
    sm_upper: float
    valid_share: float
    pixels: float
    flags: str
    reason: str


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
        ids.append(_plain(name))
        properties.append(own)
        geometries.append(_geometry(feature.get("geometry"), crs, f"{path}: paddock {ids[-1]}"))
    twice = [name for name, count in Counter(ids).items() if count > 1]
    if twice:
        raise DataError(f"{path}: paddock {twice[0]} stands there twice; ids must differ")
    return Outlines(str(path), crs, tuple(ids), tuple(properties), tuple(geometries))


def paddocks_of_table(
    model: Model,
    table: Table,
    outlines: Outlines,
    *,
    column: str | None = None,
    date: str | None = None,
    every: bool = False,
    min_valid: float = MIN_VALID,
) -> list[Paddock]:
    """One line per paddock (and date), from a table of points, pixels or paddocks.

    column: the table's column that holds the outlines' ids; by default ``field``, or
    ``site`` where there is none. date: the day; None for each paddock's last, ``every`` for
    all, not both. Rows count alike. DataError where no row belongs to any paddock.
    """
    if every and date is not None:
        raise UsageError("one date or all dates, not both")
    names = _join_column(table, column)
    known = set(outlines.ids)
    if not known & set(names.tolist()):
        raise DataError(
            f"{table.source}: none of its {column or 'field or site'} values "
            f"({', '.join(sorted(set(names.tolist()))[:3])}, ...) is a paddock of "
            f"{outlines.source} ({', '.join(outlines.ids[:3])}, ...); say which property with --id "
            "and which column with --column"
        )
    result = model.predict(table)
    wanted = None if date is None else asked_day(date)
    found = []
    for name in outlines.ids:
        rows = np.flatnonzero(names == name)
        times = table.date[rows]
        if wanted is not None:
            rows = rows[times.astype("datetime64[D]") == wanted]
            times = table.date[rows]
        if not len(rows):
            reason = "no rows in the table" if wanted is None else f"no rows of {date}"
            found.append(without_number(name, date or "", reason))
            continue
        days = np.unique(times) if every else [times.max()]
        found += [
            summarise(
                name,
                table.date_text[rows[times == day][0]],
                _rows_of(result, rows[times == day]),
                np.ones(int((times == day).sum())),
                float((times == day).sum()),
                model.card,
                min_valid,
            )
            for day in days
        ]
    return found


def summarise(
    name: str,
    date: str,
    result: tuple[NDArray[np.float32], NDArray[np.uint16]],
    weight: ArrayLike,
    area: float,
    card: Card,
    min_valid: float = MIN_VALID,
) -> Paddock:
    """One paddock's line from its pixels.

    result: sm and flags, (N,).  weight: (N,) share of each pixel inside, 0 to 1.
    area: of the whole paddock, in pixels; what lies off the scene counts as without a number.
    """
    sm, mask = result
    share = np.asarray(weight, np.float64)
    there = np.isfinite(sm)
    valid = float(share[there].sum() / area) if area > 0 else 0.0
    valid = round(min(valid, 1.0), 6)
    pixels = round(float(share.sum()), 3)
    if not there.any() or valid < min_valid:
        gaps = flag_shares(mask[~there], share[~there], area)
        stated = [f"{flag} {part:.0%}" for flag, part in gaps if part >= 0.005]
        off = max(0.0, 1 - float(share.sum()) / area)
        stated += [f"outside the scene {off:.0%}"] if off >= 0.005 else []
        has = "nothing" if not there.any() else f"only {valid:.0%}"
        return without_number(
            name,
            date,
            f"{has} of it has a number ({', '.join(stated) or 'no reason given'})",
            valid,
            pixels,
            ";".join(flag for flag, part in gaps if part >= FLAG_SHARE),
        )
    values = sm[there].astype(np.float64)
    inside = share[there]
    mean = float(np.average(values, weights=inside))
    low, high = card.limits.sm
    lower = upper = math.nan
    if card.interval is not None:
        lower = min(max(mean + float(card.interval["lower"]), low), high)
        upper = min(max(mean + float(card.interval["upper"]), low), high)
    middle, p10, p90 = weighted_quantile(values, inside, [0.5, 0.1, 0.9])
    doubts = flag_shares(mask[there], inside, float(inside.sum()))
    return Paddock(
        id=name,
        date=date,
        sm=round(mean, 6),
        sm_median=round(middle, 6),
        sm_p10=round(p10, 6),
        sm_p90=round(p90, 6),
        sm_lower=round(lower, 6),
        sm_upper=round(upper, 6),
        valid_share=valid,
        pixels=pixels,
        flags=";".join(flag for flag, part in doubts if part >= FLAG_SHARE),
        reason="",
    )


def without_number(
    name: str, date: str, reason: str, valid: float = 0.0, pixels: float = 0.0, mask: str = ""
) -> Paddock:
    """A paddock that has no number, and why."""
    nan = math.nan
    return Paddock(name, date, nan, nan, nan, nan, nan, nan, valid, pixels, mask, reason)


def weighted_quantile(
    values: ArrayLike, weight: ArrayLike, q: Sequence[float]
) -> tuple[float, ...]:
    """Quantiles of weighted values: linear between the middles of their weights.

    With equal weights this is Hazen's rule (``numpy.quantile(..., method="hazen")``).

    >>> weighted_quantile([1, 2, 3, 4], [1, 1, 1, 1], [0.5])
    (2.5,)
    >>> weighted_quantile([0.0, 4.0], [3, 1], [0.1, 0.5])
    (0.0, 1.0)
    """
    values, weight = np.asarray(values, np.float64), np.asarray(weight, np.float64)
    order = np.argsort(values, kind="stable")
    values, weight = values[order], weight[order]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    return tuple(float(item) for item in np.interp(q, middle, values))


def flag_shares(
    mask: NDArray[np.uint16], weight: NDArray[np.float64], whole_weight: float
) -> list[tuple[str, float]]:
    """Each flag raised anywhere and the share of ``whole_weight`` it is raised on."""
    shares = []
    for bit, name in enumerate(flags.NAMES):
        raised = (mask >> bit & 1).astype(bool)
        if raised.any():
            shares.append((name, float(weight[raised].sum() / whole_weight)))
    return shares


def write_paddocks(
    path: str | Path, outlines: Outlines, paddocks: Sequence[Paddock], *, simulated: bool = False
) -> None:
    """GeoJSON (outlines and their properties, ours added) or CSV/Parquet, whole or not at all."""
    path = Path(path)
    records = [asdict(paddock) for paddock in paddocks]
    if simulated:
        records = [{**record, "source": "simulated"} for record in records]
    if path.suffix.lower() not in (".geojson", ".json"):
        if path.suffix.lower() not in (".csv", ".parquet", ".pq"):
            raise UsageError(f"{path}: paddocks are written as .geojson, .csv or .parquet")
        write_csv(path, {key: [record[key] for record in records] for key in records[0]})
        return
    place = {name: index for index, name in enumerate(outlines.ids)}
    features = [
        {
            "type": "Feature",
            "id": record["id"],
            "properties": {
                **outlines.properties[place[record["id"]]],
                **{key: _json(value) for key, value in record.items()},
            },
            "geometry": outlines.geometries[place[record["id"]]],
        }
        for record in records
    ]
    content: dict[str, Any] = {"type": "FeatureCollection"}
    if outlines.crs != LON_LAT:  # RFC 7946 has lon, lat only; this older member says otherwise
        name = outlines.crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::")
        content["crs"] = {"type": "name", "properties": {"name": name}}
    with whole(path) as file:
        json.dump({**content, "features": features}, file, allow_nan=False)
        file.write("\n")


def paddock_summary(paddocks: Sequence[Paddock]) -> str:
    """Lines with and without a number, and the reasons of those without."""
    empty = [paddock.reason for paddock in paddocks if paddock.reason]
    reasons: dict[str, int] = {}
    for reason in empty:
        short = re.sub(r"^(?:nothing|only \d+%) of it has a number \((\w[\w ]*?)( \d+%.*)?\)$",
                       r"\1", reason)  # fmt: skip
        short = re.sub(r" \(.*", "", short)
        reasons[short] = reasons.get(short, 0) + 1
    told = ", ".join(f"{reason} {count}" for reason, count in sorted(reasons.items()))
    return (
        f"{len(paddocks)} paddocks, {len(paddocks) - len(empty)} with a number"
        f"{'; ' if told else ''}{told}"
    )


def _join_column(table: Table, column: str | None) -> NDArray[np.str_]:
    if column is None:
        column = "field" if "field" in table.text or "field" in table.numbers else "site"
    cells: Sequence[Any]
    if column == "site":
        cells = table.site.tolist()
    elif column in table.text:
        cells = table.text[column]
    elif column in table.numbers:
        cells = table.numbers[column].tolist()
    else:
        have = ", ".join(["site", *table.text, *table.numbers])
        raise UsageError(f"{table.source}: no column {column!r}; it has {have}")
    return np.asarray([_plain(cell) for cell in cells], np.str_)


def _rows_of(
    result: Retrieval, rows: NDArray[np.int64]
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    return result.sm[rows], result.flags[rows]


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
    try:
        import pyogrio
        import shapely
    except ImportError:
        raise MissingError(
            f"{path}: outlines other than GeoJSON need pyogrio: pip install 'kgsm[raster]'"
        ) from None
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
                        str(name): _json(
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


def _plain(value: Any) -> str:
    """An id as text; 7 of GeoJSON and the 7.0 a table makes of a number column are one."""
    text = str(value).strip()
    return text.split(".")[0] if re.fullmatch(r"-?\d+\.0+", text) else text


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
