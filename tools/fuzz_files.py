"""Kinds of damaged files for tools/fuzz.py: rasters, cubes, STAC items, state files, ISMN folders.

Their headers and masks carry no checksum, so a damaged one may still be a file. What is read of it
must be what an independent reading has: rasterio and netCDF4 with their own masks and scaling, the
csv and json modules, a few lines of text. A value more, or another value, is a fault.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import rasterio
import xarray as xr
from numpy.typing import NDArray

from kgsm_infer.base.errors import KgsmError
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.context.state_file import compare_table, read_past, write_past
from kgsm_infer.prepare.catalogue import Search, find
from kgsm_infer.prepare.items import sort_items
from kgsm_infer.prepare.stack import planned
from kgsm_infer.scenes.gdal import gdal
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import scene_from
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader
from kgsm_infer.tables.dates import utc_seconds
from kgsm_infer.tables.table import table_from_columns
from kgsm_train.sources.ismn import read_ismn

Kind = tuple[str, str, bytes, Callable[[Path], None]]

#: Pixels read of a raster, however large its header says it is.
SIDE = 24
GOOD = "good_2024-05-01"


class OtherNumber(Exception):
    """A value that the independent reading does not have."""


def file_kinds(folder: Path) -> Iterator[Kind]:
    """Yield name, suffix, an intact file, and the check of a damaged one."""
    folder.mkdir()
    yield from _geotiffs(folder)
    yield from _cubes(folder)
    yield from _zarrs(folder)
    yield from _items(folder)
    yield from _states(folder)
    yield from _series(folder)


def _packed() -> NDArray[np.int16]:
    """Return packed decibels with a fill value, hundredths."""
    rng = np.random.default_rng(1)
    stored = rng.integers(-2500, -900, (SIDE, SIDE)).astype(np.int16)
    stored[rng.random(stored.shape) < 0.1] = -32768
    return stored


def _read(layer: dict[str, Any], folder: Path) -> NDArray[np.float64]:
    """Read the upper left corner of a layer's first date."""
    with gdal():
        scene = scene_from({"layers": {"vh_db": layer}}, "fuzz", folder)
        stack = open_stack(scene, "vh", [], ())
        size = min(SIDE, stack.grid.height), min(SIDE, stack.grid.width)
        with Reader(stack) as reader:
            return reader.column("vh_db", 0, Window(0, 0, *size))


def _among(found: NDArray[np.float64], known: NDArray[np.float64]) -> None:
    """Raise OtherNumber where a value that was read is not among the known ones, or is infinite."""
    values = found[~np.isnan(found)]
    known = np.sort(known[np.isfinite(known)].astype(np.float64).ravel())
    if not len(values):
        return
    if not len(known):
        raise OtherNumber(f"{values[0]} where the independent reading has no value")
    at = np.clip(np.searchsorted(known, values), 1, max(len(known) - 1, 1))
    near = np.minimum(
        np.abs(known[at - 1] - values), np.abs(known[np.minimum(at, len(known) - 1)] - values)
    )
    wrong = ~(near <= 1e-5 * np.maximum(1, np.abs(values)))
    if wrong.any():
        raise OtherNumber(f"{values[np.argmax(wrong)]} is not a value of the independent reading")


def _of_whole_tiles(dataset: Any, path: Path, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return False for pixels of tiles whose deflate stream is damaged or of another size.

    libtiff reads such a tile without an error where the stream gives enough bytes, and what it
    gives changes from one reading to the next: it depends on what memory held before.
    """
    whole = np.ones(shape, bool)
    if dataset.compression != rasterio.enums.Compression.deflate:
        return whole
    content, (height, width) = path.read_bytes(), dataset.block_shapes[0]
    expected = height * width * np.dtype(dataset.dtypes[0]).itemsize
    for (row, col), _ in dataset.block_windows(1):
        if row * height >= shape[0] or col * width >= shape[1]:
            continue
        start, size = (
            int(dataset.get_tag_item(f"BLOCK_{key}_{col}_{row}", "TIFF", bidx=1) or 0)
            for key in ("OFFSET", "SIZE")
        )
        stream = zlib.decompressobj()
        try:
            found = stream.decompress(content[start : start + size])
            is_whole = size == 0 or (stream.eof and len(found) == expected)
        except zlib.error:
            is_whole = False
        whole[row * height : (row + 1) * height, col * width : (col + 1) * width] &= is_whole
    return whole


def _geotiffs(folder: Path) -> Iterator[Kind]:
    profile: dict[str, Any] = {
        "driver": "GTiff", "height": SIDE, "width": SIDE, "crs": "EPSG:32631",
        "transform": rasterio.Affine(10, 0, 6e5, 0, -10, 5.6e6),
    }  # fmt: skip

    def check(path: Path) -> None:
        try:
            found = _read({"files": {"2024-05-01": path.name}}, path.parent)
        except KgsmError:
            raise
        with gdal(), rasterio.open(path) as dataset:
            size = min(SIDE, dataset.height), min(SIDE, dataset.width)
            window = rasterio.windows.Window(0, 0, size[1], size[0])
            values = dataset.read(1, window=window, masked=True).astype(np.float64)
            decoded = values * dataset.scales[0] + dataset.offsets[0]
            found = np.where(_of_whole_tiles(dataset, path, found.shape), found, np.nan)
            _among(found, decoded.filled(np.nan))

    with rasterio.open(
        folder / "packed.tif", "w", dtype="int16", count=1, nodata=-32768, tiled=True,
        blockxsize=16, blockysize=16, compress="deflate", **profile,
    ) as dataset:  # fmt: skip
        dataset.write(_packed(), 1)
        dataset.scales, dataset.offsets = (0.01,), (0.0,)
    yield "GeoTIFF", ".tif", (folder / "packed.tif").read_bytes(), check
    with (
        rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True),
        rasterio.open(folder / "masked.tif", "w", dtype="float32", count=1, **profile) as dataset,
    ):
        stored = _packed()
        dataset.write(stored.astype(np.float32) / 100, 1)
        dataset.write_mask(stored > -32768)
    yield "masks", ".tif", (folder / "masked.tif").read_bytes(), check


def _dataset() -> xr.Dataset:
    """Make a cube of two dates in packed decibels."""
    stored = np.stack([_packed(), _packed()[::-1]])
    attributes = {"scale_factor": 0.01, "add_offset": 0.0, "grid_mapping": "crs"}
    attributes |= {"_FillValue": np.int16(-32768), "valid_min": np.int16(-6000)}
    crs = rasterio.crs.CRS.from_epsg(32631).to_wkt()
    return xr.Dataset(
        {
            "vh": (("time", "y", "x"), stored, attributes),
            "crs": ((), np.int32(0), {"crs_wkt": crs}),
        },
        {
            "time": ("time", [19844, 19856], {"units": "days since 1970-01-01"}),
            "orbit": ("time", [22, 22]),
            "y": (
                "y",
                5.6e6 - 10.0 * np.arange(SIDE),
                {"standard_name": "projection_y_coordinate"},
            ),
            "x": ("x", 6e5 + 10.0 * np.arange(SIDE), {"standard_name": "projection_x_coordinate"}),
        },
    )


def _cubes(folder: Path) -> Iterator[Kind]:
    import netCDF4

    def check(path: Path) -> None:
        found = _read({"file": path.name, "variable": "vh"}, path.parent)
        with netCDF4.Dataset(path) as dataset, warnings.catch_warnings(record=True) as notes:
            warnings.simplefilter("always")
            values = np.ma.asarray(dataset["vh"][:]).astype(np.float64)
            if any("_FillValue not used" in str(note.message) for note in notes):
                # it then masks the default fill value, which for bytes is a value like any other
                dataset.set_auto_mask(False)
                values = np.ma.asarray(dataset["vh"][:]).astype(np.float64)
            _among(found, values.filled(np.nan))

    for name, kind in (("NetCDF", "NETCDF4"), ("NetCDF3", "NETCDF3_CLASSIC")):
        path = folder / f"{kind}.nc"
        made = _dataset().assign_coords(orbit=("time", np.asarray([22, 22], np.int32)))
        made.to_netcdf(path, format=kind)
        yield name, ".nc", path.read_bytes(), check


def _zarrs(folder: Path) -> Iterator[Kind]:
    """Make the consolidated metadata of a Zarr store, and one chunk of its mask."""
    for version, metadata in ((2, ".zmetadata"), (3, "zarr.json")):
        store = folder / f"v{version}.zarr"
        _dataset().to_zarr(store, zarr_format=version, consolidated=True)

        def check(path: Path, store: Path = store, metadata: str = metadata) -> None:
            damaged = store.with_name(f"damaged-{store.name}")
            shutil.rmtree(damaged, ignore_errors=True)
            shutil.copytree(store, damaged)
            (damaged / metadata).write_bytes(path.read_bytes())
            found = _read({"file": damaged.name, "variable": "vh"}, damaged.parent)
            try:
                with xr.open_zarr(damaged, decode_times=False) as dataset:
                    known = dataset["vh"].values
            except Exception:  # noqa: BLE001  xarray's decoding of other attributes fails
                return
            _among(found, known)

        yield f"Zarr{version}", ".json", (store / metadata).read_bytes(), check


def _items(folder: Path) -> Iterator[Kind]:
    """Make a static catalogue of two radar items and an image; one item is damaged."""
    catalogue = pystac.Catalog("home", "made")
    box = [15.0, 45.0, 15.1, 45.1]
    ring = [[15.0, 45.0], [15.1, 45.0], [15.1, 45.1], [15.0, 45.1], [15.0, 45.0]]
    extent = pystac.Extent(pystac.SpatialExtent([box]), pystac.TemporalExtent([[None, None]]))
    facts = {"sat:relative_orbit": 22, "sat:orbit_state": "descending", "platform": "sentinel-1a"}
    optical = {"platform": "sentinel-2b", "s2:processing_baseline": "05.10"}
    for collection_id, name, properties, assets in (
        ("sentinel-1-rtc", "one", facts, ("vh", "vv")),
        ("sentinel-1-rtc", "two", facts, ("vh", "vv")),
        ("sentinel-2-l2a", "image", optical, ("B04", "B08", "SCL")),
    ):
        collection = catalogue.get_child(collection_id)
        if collection is None:
            collection = pystac.Collection(collection_id, "made", extent)
            catalogue.add_child(collection)
        day = {"one": 4, "two": 16, "image": 10}[name]
        when = np.datetime64(f"2024-03-{day:02d}T05:30:00").item()
        item = pystac.Item(
            name, {"type": "Polygon", "coordinates": [ring]}, box, when, dict(properties)
        )
        for key in assets:
            extra = {"file:size": 10, "file:checksum": "1220" + "0" * 64}
            item.add_asset(key, pystac.Asset(f"./{name}/{key}.tif", extra_fields=extra))
        collection.add_item(item)
    catalogue.normalize_hrefs(str(folder / "stac"))
    catalogue.save(pystac.CatalogType.SELF_CONTAINED)
    search = Search(
        (15.0, 45.0, 15.1, 45.1), np.datetime64("2024-03-01"), np.datetime64("2024-04-01")
    )

    def check_of(place: Path) -> Callable[[Path], None]:
        intact = place.read_bytes()

        def check(path: Path) -> None:
            place.write_bytes(path.read_bytes())
            try:
                found = find(folder / "stac" / "catalog.json", search)
                planned(found)
                try:
                    raw = json.loads(path.read_bytes())
                except (ValueError, RecursionError):
                    raw = None
                if isinstance(raw, dict):
                    _check_item(raw, sort_items(found.items))
                elif not any(name.endswith(place.name) for name in found.left_out):
                    raise OtherNumber("an item that is no JSON object is not named")
            finally:
                place.write_bytes(intact)

        return check

    for name in ("one", "image"):
        (place,) = (folder / "stac").rglob(f"{name}.json")
        kind = "STAC radar" if name == "one" else "STAC image"
        yield kind, ".json", place.read_bytes(), check_of(place)


def _check_item(raw: Any, wanted: Any) -> None:
    """Raise OtherNumber where an acquisition has another time or orbit than the item's JSON."""
    for group in wanted.acquisitions:
        for item in group.items:
            if item.id != raw.get("id"):
                continue
            own = raw["properties"]
            text = own.get("datetime") or own.get("start_datetime")
            if utc_seconds(str(text)) not in (None, int(item.datetime.timestamp())):
                raise OtherNumber(f"{item.id}: {text} read as {item.datetime}")
            if group.kind == "radar" and f"_{int(own['sat:relative_orbit']):03d}" not in group.stem:
                raise OtherNumber(f"{item.id}: orbit {own['sat:relative_orbit']} in {group.stem}")


def _states(folder: Path) -> Iterator[Kind]:
    rng = np.random.default_rng(2)
    sites, passes = 3, 25
    table = table_from_columns(
        {
            "site": np.repeat([f"s{i}" for i in range(sites)], passes),
            "orbit": np.tile(np.where(np.arange(passes) % 2, "44", "117"), sites),
            "date": np.tile(
                np.arange("2023-01-01", "2023-01-26", dtype="M8[D]").astype(str), sites
            ),
            "vh_db": rng.uniform(-24, -12, sites * passes),
        }
    )
    rule = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
    write_past(folder / "past.csv", compare_table(table, ["vh_anomaly"], rule, {}, 2).past)

    def check(path: Path) -> None:
        past = read_past(path).past
        rows = list(csv.DictReader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
        if len(rows) != len(past):
            raise OtherNumber(f"{len(past)} places of {len(rows)} rows")
        counts = sorted(int(float(row["count"] or 0)) for row in rows)
        looks = sorted(
            float(look.partition("=")[2]) for row in rows for look in (row["recent"] or "").split()
        )
        if counts != sorted(record.older.count for record in past.values()):
            raise OtherNumber("other counts than the file's")
        if looks != sorted(look.value_db for record in past.values() for look in record.recent):
            raise OtherNumber("other recent passes than the file's")
        again = path.with_name("again.csv")
        write_past(again, past)
        if (second := read_past(again).past).keys() != past.keys():
            raise OtherNumber("a state that was read cannot be written")
        for key, record in past.items():
            if second[key].recent != record.recent or second[key].count != record.count:
                raise OtherNumber(f"{key}: changes when it is written")

    yield "states", ".csv", (folder / "past.csv").read_bytes(), check


_SERIES = "{net}_{net}_{name}_sm_0.050000_0.050000_Probe-A_20150101_20151231.stm"


def _series(folder: Path) -> Iterator[Kind]:
    """Make an ISMN folder of two stations, the series of one damaged."""
    lines = "".join(
        f"2015/12/{1 + at // 4:02d} {at % 4 * 6:02d}:00 {0.2 + at / 1000:.4f} G OK\n"
        for at in range(16)
    )
    for name in ("St1", "St2"):
        place = folder / "ismn" / "NETX" / name
        place.mkdir(parents=True)
        header = f"NETX NETX {name} 50.00000 10.00000 100.00 0.05 0.05 Probe-A\n"
        (place / _SERIES.format(net="NETX", name=name)).write_text(header + lines)
    place = folder / "ismn" / "NETX" / "St1" / _SERIES.format(net="NETX", name="St1")
    expected = read_ismn([folder / "ismn"]).columns
    intact = expected["sm"][expected["station"] == "NETX_St2"]

    def check(path: Path) -> None:
        raw = path.read_bytes()
        place.write_bytes(raw)
        table = read_ismn([folder / "ismn"]).columns
        of_other = table["station"] == "NETX_St2"
        if not np.array_equal(table["sm"][of_other], intact):
            raise OtherNumber("the other station has other values")
        days: dict[str, list[float]] = {}
        for line in raw.decode("utf-8", "replace").splitlines()[1:]:
            cells = line.split()
            if len(cells) >= 4 and cells[3] == "G":
                with contextlib.suppress(ValueError):
                    year, month, day = map(int, cells[0].split("/"))
                    if np.isfinite(number := float(cells[2])):
                        days.setdefault(f"{year}-{month:02d}-{day:02d}", []).append(number)
        for date, value in zip(table["date"][~of_other], table["sm"][~of_other], strict=True):
            known = days.get(str(date), [])
            if not known or not min(known) - 1e-5 <= value <= max(known) + 1e-5:
                raise OtherNumber(f"{date}: {value}, the file has {known}")

    yield "ISMN", ".stm", place.read_bytes(), check
