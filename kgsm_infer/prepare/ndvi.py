"""NDVI, albedo and vegetation water content as rasters, from folders of optical products.

Masks and band maths are done on a product's own pixels, by blocks of rows; only then are
numbers brought to an asked grid, as the mean of the clear ones. A pixel with fewer clear ones
than half is missing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..base.errors import DataError, UsageError
from ..base.files import workshop, write_whole
from ..base.fingerprint import code_digest, file_stamp, fingerprint
from ..scenes.gdal import gdal, open_dataset
from ..scenes.grid import Grid, Window
from ..scenes.rasters import Raster, open_raster
from ..scenes.resampling import part_over, plane_on
from ..scenes.validity import Validity
from . import CODE
from .grids import Draft, finished, into_place, simulated_note
from .landcover import write_vwc
from .manifests import manifest_text
from .products import OpticalImage
from .reflectance import (
    Bools,
    Floats,
    albedo,
    fmask_clear,
    landsat_clear,
    modis_clear,
    ndvi,
    reflectance,
    scl_clear,
)

#: Rows worked on at a time.
BLOCK = 512
#: Share of an asked pixel that must be clear.
LEAST_CLEAR = 0.5
#: The grid that holds a day's images may have this many times their pixels.
MOST_EMPTY = 50

#: Pixels of a product read around an asked grid.
MARGIN = 2
#: Class of a mask's pixels without data, by product.
NO_DATA_CLASS = {"landsat": 1, "nbar": 0, "sentinel2": 0, "modis": 255}

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Wanted:
    """Options of a run. worldcover: a land-cover map, from which VWC and B are made too.

    grid: to bring it to; None for each product's own.  snow: keep pixels under snow.
    """

    grid: Grid | None = None
    albedo: bool = False
    worldcover: Path | None = None
    snow: bool = False

    @property
    def layers(self) -> list[str]:
        """Names of the layers made of each image."""
        return ["ndvi", *(["albedo"] if self.albedo else [])]


@dataclass(frozen=True)
class NdviDay:
    """One day of one product as written. clear: share of pixels with a number; kept: as an
    earlier run left it.
    """

    product: str
    day: str
    names: tuple[str, ...]
    files: tuple[Path, ...]
    clear: float
    note: str = ""
    kept: bool = False


def prepare_ndvi(
    found: Sequence[OpticalImage],
    folder: str | Path,
    wanted: Wanted,
    progress: Progress | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> list[NdviDay]:
    """Write ``{layer}_{day}_{product}.tif`` for every day, and a manifest for each product.

    Several images of one day and product become one, on the asked grid or on the one that holds
    them all; the first clear pixel counts. An image that cannot be read is left out, and so is an
    older version of one that can.
    tell: receives each image that is left out or has no pixel in the result, with the reason.
    DataError where no image can be used, or where the images of a day share no grid.
    """
    folder = Path(folder)
    unusable: dict[str, str] = {}
    if wanted.worldcover is not None and wanted.grid is None:
        raise UsageError("land cover needs a grid that all days share: --fields or --bounds")
    groups = groupby(found, lambda item: (item.product.name, item.day))
    days = [tuple(items) for _, items in groups]
    reports = []
    with gdal() as rasterio:
        sizes = [sum(_pixels(rasterio, item, wanted) for item in items) for items in days]
        for count, items in enumerate(days):
            made_of_day = _one_day(rasterio, items, folder, wanted, unusable)
            if made_of_day is not None:
                reports.append(made_of_day)
            if progress is not None:
                progress(sum(sizes[: count + 1]), sum(sizes))
        if not reports:
            raise DataError(next(iter(unusable.values())))
        for name, why in unusable.items():
            tell(f"left out {name}: {why}")
        layers = wanted.layers
        if wanted.worldcover is not None and wanted.grid is not None:
            for product in dict.fromkeys(report.product for report in reports):
                some = [report for report in reports if report.product == product]
                images = {report.day: report.files[0] for report in some}
                write_vwc(product, images, folder, wanted.worldcover, wanted.grid)
            layers.append("vwc_kg_m2")
    for product in dict.fromkeys(report.product for report in reports):
        named = {
            layer: {"files": f"{layer}_*_{product}.tif", "match": "linear", "max_gap_days": 16}
            for layer in layers
        }
        made = [report.files[0] for report in reports if report.product == product]
        top = {"simulated": True} if any(simulated_note(file) for file in made) else {}
        with write_whole(folder / f"vegetation_{product}.toml") as out:
            title = f"Vegetation of {product}; add these layers to a scene"
            out.write(manifest_text(title, named, **top))
    return reports


def _one_day(
    rasterio: Any,
    items: Sequence[OpticalImage],
    folder: Path,
    wanted: Wanted,
    unusable: dict[str, str],
) -> NdviDay | None:
    """Write one day; None where no image of it can be read. Adds such images to ``unusable``.

    items: the images of one product on one day.
    """
    product, day = items[0].product.name, items[0].day
    layers = wanted.layers
    files = [folder / f"{layer}_{day}_{product}.tif" for layer in layers]
    key = _key(items, wanted)
    if all(finished(file, key) for file in files):
        with open_dataset(files[0]) as dataset:
            share = float(dataset.tags()["CLEAR"])
            idle = dict(json.loads(dataset.tags().get("LEFT_OUT", "{}")))
        unusable |= idle
        names = tuple(item.name for item in items if item.name not in idle)
        return NdviDay(product, day, names, tuple(files), share, kept=True)
    with workshop(folder) as part:
        rough = _rough_images(items, part, wanted, unusable)
        if not rough.items:
            return None
        # the key of all images: those that cannot be read are tried again by the next run
        key = _key([item for item in items if item.name not in unusable], wanted)
        items = rough.items
        target = wanted.grid or _common_grid(rough.grids, items)
        clear, tally = 0, ImageTally([0] * len(items), [0] * len(items))
        for layer, file in zip(layers, files, strict=True):
            draft = Draft(part / f"{layer}.draft", target)
            sources = [paths[layer] for paths in rough.paths]
            for row, values in _mosaic(rasterio, sources, rough.grids, target, tally):
                draft.write(values, row, 0)
                clear += int(np.isfinite(values).sum()) if layer == "ndvi" else 0
            share = clear / (target.width * target.height)
            idle = rough.older | tally.unused(items)
            tags = {
                **_tags([item for item in items if item.name not in idle] or items, layer),
                "CLEAR": repr(share),
                "LEFT_OUT": json.dumps(idle, ensure_ascii=False),
                "KGSM_KEY": key,
            }
            draft.finish(part / file.name, tags, layer)
        for paths in rough.paths:
            for path in paths.values():
                path.unlink()
        into_place(part, folder)
    unusable |= idle
    names = tuple(item.name for item in items if item.name not in idle)
    return NdviDay(
        product, day, names or tuple(i.name for i in items), tuple(files), share, rough.note
    )


@dataclass(frozen=True)
class _RoughImages:
    """Layers of a day's images, each on its own grid.

    paths: file of each layer.  older: name of each older version, and why it is left out.
    """

    items: list[OpticalImage]
    grids: list[Grid]
    paths: list[dict[str, Path]]
    older: dict[str, str]
    note: str


def _rough_images(
    items: Sequence[OpticalImage], part: Path, wanted: Wanted, unusable: dict[str, str]
) -> _RoughImages:
    """Write the layers of a day's images; adds those that cannot be read to ``unusable``."""
    used: list[OpticalImage] = []
    grids, rough = [], []
    older: dict[str, str] = {}
    note = ""
    for number, item in enumerate(items):
        newer = next((one for one in used if item.is_older_than(one)), None)
        if newer is not None:
            older[item.name] = f"is an older version of {newer.name}, which is used"
            continue
        paths = {layer: part / f"{number}_{layer}.tif" for layer in wanted.layers}
        try:
            with _Bands(item, wanted) as bands:
                _write_rough(bands, paths)
        except DataError as error:
            unusable[item.name] = str(error)
            for path in paths.values():
                path.unlink(missing_ok=True)
            continue
        note = note or bands.note
        used.append(item)
        grids.append(bands.grid)
        rough.append(paths)
    return _RoughImages(used, grids, rough, older, note)


@dataclass(frozen=True)
class ImageTally:
    """Pixels of the images of a day on its grid: those that are clear, and those that were used."""

    clear: list[int]
    used: list[int]

    def unused(self, items: Sequence[OpticalImage]) -> dict[str, str]:
        """Return the name of each image without a pixel in the result, and why; {} without any."""
        first = next((one.name for one, used in zip(items, self.used, strict=True) if used), "")
        return {
            item.name: f"has no pixel of its own: {first} covers them"
            if clear
            else "has no pixel on the grid that is clear and within range"
            for item, clear, used in zip(items, self.clear, self.used, strict=True)
            if first and not used
        }


def _write_rough(bands: _Bands, paths: Mapping[str, Path]) -> None:
    """Write the layers of one image on its own grid. DataError where it cannot be read."""
    drafts = {layer: Draft(path, bands.grid) for layer, path in paths.items()}
    try:
        for row, made in bands.blocks():
            for layer, draft in drafts.items():
                draft.write(made[layer], row, 0)
    finally:
        for draft in drafts.values():
            draft.close()


def _pixels(rasterio: Any, item: OpticalImage, wanted: Wanted) -> int:
    if wanted.grid is not None:
        return wanted.grid.width * wanted.grid.height
    try:
        with open_dataset(item.files["red"]) as red:
            return int(red.width * red.height)
    except (rasterio.errors.RasterioError, DataError):
        return 0  # the reader names the cause


class _Bands:
    """The bands of an acquisition on its red band's pixels, read by blocks of rows."""

    def __init__(self, item: OpticalImage, wanted: Wanted) -> None:
        self._item, self._wanted = item, wanted
        self._names = ["red", "nir"]
        if wanted.albedo:
            self._names = list(dict.fromkeys([*self._names, *filter(None, item.product.albedo)]))
        for band in self._names:
            if band not in item.files:
                raise DataError(f"{item.name}: has no {band} band, which albedo needs")
        self.note = ""
        if item.product.name == "modis" and "snow" not in item.files:
            self.note = "no MCD43A2 snow layer in the folder: snow is not masked"
        self._open: dict[str, Raster] = {}
        self._stack = ExitStack()

    def __enter__(self) -> _Bands:
        red = self._opened("red")
        grid = red.extent
        if self._wanted.grid is not None:
            part = part_over(grid, self._wanted.grid, MARGIN)
            if part is None:
                raise DataError(f"{self._item.name}: does not cover the place asked for")
            grid = part
        self.grid = grid
        masks = [name for name in ("mask", "mask2", "snow") if name in self._item.files]
        for name in [*self._names, *masks]:
            source = red if name == "red" else self._opened(name)
            dtype = str(source.dataset.dtypes[0])
            if dtype.startswith(("float", "complex")):
                raise DataError(
                    f"{source.path}: holds {dtype}, perhaps reflectance from "
                    f"0 to 1; {self._item.product.title} is read as stored integers"
                )
            if not source.extent.same_crs_as(red.extent):
                raise DataError(f"{source.path}: has another CRS than the red band; of one image?")
            if not np.allclose(
                source.extent.bounds, red.extent.bounds, atol=2 * abs(source.extent.step[0])
            ):
                raise DataError(
                    f"{source.path}: covers {tuple(source.extent.bounds)}, the red band "
                    f"{tuple(red.extent.bounds)}; are they of one image?"
                )
            self._open[name] = source.on(self.grid, "nearest")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def blocks(self) -> Iterator[tuple[int, Mapping[str, Floats]]]:
        """Yield the first row of each block, and its layers."""
        for window in self.grid.window.parts(BLOCK, self.grid.width):
            stored = {name: self._read(name, window) for name in self._open}
            product = self._item.product
            bands = {
                name: reflectance(product, stored[name], self._item.add) for name in self._names
            }
            clear = self._clear(stored)
            made = {"ndvi": ndvi(bands, clear)}
            if self._wanted.albedo:
                made["albedo"] = albedo(product, bands, clear)
            yield window.row, made

    def _clear(self, stored: Mapping[str, Floats]) -> Bools:
        snow, name = self._wanted.snow, self._item.product.name
        classes = {
            band: np.nan_to_num(stored[band], nan=NO_DATA_CLASS[name]).astype(np.int64)
            for band in ("mask", "mask2", "snow")
            if band in stored
        }
        match name:
            case "landsat":
                return landsat_clear(classes["mask"], snow)
            case "nbar":
                return fmask_clear(classes["mask"], snow)
            case "sentinel2":
                return scl_clear(classes["mask"], snow)
        clear = modis_clear(classes["mask"], classes.get("snow"), snow)
        return clear & modis_clear(classes["mask2"]) if "mask2" in classes else clear

    def _read(self, name: str, window: Window) -> Floats:
        """Read stored numbers, NaN where the file, its mask or alpha says they are missing."""
        return self._open[name].stored(1, window, Validity())

    def _opened(self, name: str) -> Raster:
        source = open_raster(str(self._item.files[name]))
        self._stack.callback(source.close)
        return source


def _mosaic(
    rasterio: Any,
    sources: Sequence[Path],
    grids: Sequence[Grid],
    target: Grid,
    tally: ImageTally,
) -> Iterator[tuple[int, Floats]]:
    """Yield blocks of rows on the target grid: each source's mean of clear pixels, first wins."""
    with ExitStack() as stack:
        datasets = [stack.enter_context(open_dataset(path)) for path in sources]
        for window in target.window.parts(BLOCK, target.width):
            values = np.full((window.height, window.width), np.nan)
            for number, (dataset, grid) in enumerate(zip(datasets, grids, strict=True)):
                if grid.same_as(target):
                    part = rasterio.windows.Window(0, window.row, window.width, window.height)
                    here = dataset.read(1, window=part).astype(np.float64)
                else:
                    here = _averaged(dataset, target, window)
                lacking, known = np.isnan(values), np.isfinite(here)
                tally.clear[number] += int(known.sum())
                tally.used[number] += int((known & lacking).sum())
                values = np.where(lacking, here, values)
            yield window.row, values


def _averaged(dataset: Any, target: Grid, window: Window) -> Floats:
    """Return the mean of a raster's clear pixels on a window of another grid."""
    own = Grid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)

    def read(below: Window) -> Floats:
        rows, columns = below.slices
        part = ((rows.start, rows.stop), (columns.start, columns.stop))
        return np.asarray(dataset.read(1, window=part), np.float64)

    resampling = "average" if abs(dataset.transform.a) < abs(target.transform[0]) else "nearest"
    mean = plane_on(own, read, target, window, resampling)
    clear = plane_on(
        own, lambda below: np.isfinite(read(below)).astype(float), target, window, resampling
    )
    return np.where(clear >= LEAST_CLEAR, mean, np.nan)


def _common_grid(grids: Sequence[Grid], items: Sequence[OpticalImage]) -> Grid:
    """Return the grid that holds all images of a day; DataError where they share none."""
    first, *others = grids
    if all(first.is_shifted_by_pixels(other) for other in others):
        grid = first.widened(others)
        if grid.width * grid.height <= MOST_EMPTY * sum(one.width * one.height for one in grids):
            return grid
    raise DataError(
        f"{items[0].name} and {items[1].name} are of {items[0].day} and lie on several grids or "
        "far apart; name the place with --fields or --bounds, so that they become one image"
    )


def _key(items: Sequence[OpticalImage], wanted: Wanted) -> str:
    """Return the key of a day: code, images and settings."""
    files = [
        [
            item.name,
            item.add,
            [[name, file.name, file_stamp(file)] for name, file in sorted(item.files.items())],
        ]
        for item in items
    ]
    return fingerprint(code_digest(*CODE), repr(wanted.grid), wanted.albedo, wanted.snow, files)


def _tags(items: Sequence[OpticalImage], layer: str) -> dict[str, str]:
    product = items[0].product
    tags = {
        "PRODUCT": product.title,
        "SOURCES": " ".join(item.name for item in items),
        "SOFTWARE": f"kgsm {__version__}",
        "UNITS": "1",
    }
    if product.name == "sentinel2":
        tags["BOA_ADD_OFFSET"] = " ".join(f"{item.add:g}" for item in items)
    reasons = {simulated_note(file) for item in items for file in item.files.values()} - {""}
    if reasons:
        tags["SIMULATED"] = max(reasons)
    if layer == "albedo":
        tags["NARROW_TO_BROADBAND"] = product.citation
    return tags


def summary(report: NdviDay) -> str:
    """Describe a day in one line for people."""
    note = f"; {report.note}" if report.note else ""
    if report.clear == 0:
        note += f"; {', '.join(report.names)}: no pixel is clear and within range, nothing to use"
    note += "; finished before, kept" if report.kept else ""
    return f"{report.day} {report.product}: {report.clear:.1%} clear{note}"
