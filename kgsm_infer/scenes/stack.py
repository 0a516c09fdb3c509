"""The rasters of a scene, opened and read window by window (rasterio, GDAL underneath).

A :class:`Stack` is a scene that was looked at: one grid, the acquisitions' dates, and for
every column a model reads the layers it comes from. A :class:`Reader` belongs to one thread
and gives columns, as a table would hold them, for one acquisition and one window.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..columns import FROM_DATE, FROZEN_BY, POLARISATIONS, RULES, made_from, make, ndvi_of
from ..context import CONTEXT, first_given
from ..errors import DataError, MissingError
from .manifest import Layer, Scene, Slice

#: Datasets one reader keeps open; an archive has more files than a process may open.
OPEN_AT_ONCE = 64
#: MB of decoded blocks GDAL may keep, whatever the machine's memory (its default is 5 %).
GDAL_CACHE_MB = 64
#: Side of the windows in which a layer's unit is checked.
SAMPLE = 256

_SINCE = re.compile(r"(day|hour|minute|second)s? since (\d{4})-(\d{1,2})-(\d{1,2})(?:[T ](\S+))?")
_SECONDS = {"day": 86400, "hour": 3600, "minute": 60, "second": 1}
Plane = NDArray[np.float64]


class Window(NamedTuple):
    """A rectangle of the grid, pixels."""

    row: int
    col: int
    height: int
    width: int


@dataclass(frozen=True)
class Grid:
    """crs: WKT.  transform: (a, b, c, d, e, f), x = a col + b row + c.  Sizes in pixels."""

    crs: str
    transform: tuple[float, float, float, float, float, float]
    width: int
    height: int

    def same_as(self, other: Grid) -> bool:
        """The same pixels, to a thousandth of one over the whole extent."""
        if (self.width, self.height) != (other.width, other.height):
            return False
        a, b, _, d, e, _ = self.transform
        size = max(abs(a) + abs(d), abs(b) + abs(e))
        difference = np.abs(np.subtract(self.transform, other.transform))
        span = np.asarray([self.width, self.height, 1] * 2)
        return bool(np.all(difference * span < 1e-3 * size)) and _same_crs(self.crs, other.crs)


@dataclass(frozen=True)
class Stack:
    """A scene ready to be read. dates: (D,) of the acquisitions, ascending.

    layers: those of the scene, with the dates of cubes resolved.
    tile: (rows, columns) in which the backscatter is stored.
    files: every file that can be read, for a fingerprint of the input.
    """

    source: str
    title: str
    grid: Grid
    dates: NDArray[np.datetime64]
    layers: Mapping[str, Layer]
    tile: tuple[int, int]
    files: tuple[str, ...]

    def has(self, column: str) -> bool:
        """Whether a column can be read (or made) from the layers."""
        return bool(made_from(column, self.layers)) or column in FROM_DATE


def rasterio_or_reason() -> Any:
    """rasterio, or MissingError naming the extra."""
    try:
        import rasterio
        import rasterio.shutil
        import rasterio.vrt
        import rasterio.warp
    except ImportError:
        raise MissingError(
            "rasters need rasterio, which is not installed: pip install 'kgsm[raster]'"
        ) from None
    return rasterio


@contextmanager
def gdal() -> Iterator[Any]:
    """rasterio with a bounded block cache."""
    rasterio = rasterio_or_reason()
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB):
        yield rasterio


def open_stack(scene: Scene, polarisation: str, columns: Sequence[str]) -> Stack:
    """Look at a scene: dates, grid, what each of ``columns`` is made of, and its units.

    columns: as a model names them (``vh_db``, ``ndvi``, ``angle_deg``, features, statics);
    those made from date or context need no layer. DataError where one cannot be made, a
    file cannot be read, a grid differs although ``resample`` is "refuse", or the numbers of
    a layer cannot be of its unit.
    """
    rasterio = rasterio_or_reason()
    name = scene.backscatter(polarisation)
    wanted = [f"{polarisation}_db", *columns]
    wanted += [first_given(column, scene.layers) for column in wanted]
    wanted += [column for column in FROZEN_BY if column in scene.layers]
    layers: dict[str, Layer] = {}
    for column in dict.fromkeys(wanted):
        if column in FROM_DATE or (column in CONTEXT and column not in scene.layers):
            continue
        needed = made_from(column, scene.layers)
        if not needed:
            raise DataError(_no_layer(scene, column))
        for item in needed:
            layers.setdefault(item, scene.layers[item])
    files: dict[str, None] = {}
    for key, layer in layers.items():
        layers[key] = resolved = _with_dates(rasterio, scene.source, layer)
        files.update(dict.fromkeys(item.path for item in resolved.slices))
    backscatter = layers[name]
    dates = [item.date for item in backscatter.slices]
    if not dates or None in dates:
        raise DataError(
            f"{scene.source}: layers.{name} must be files with dates; they are the acquisitions"
        )
    with _opened(rasterio, backscatter.slices[-1].path) as dataset:
        tile = (int(dataset.block_shapes[0][0]), int(dataset.block_shapes[0][1]))
        grid = _explicit_grid(rasterio, scene) or _grid_of(dataset, backscatter.slices[-1].path)
    stack = Stack(
        scene.source,
        scene.title,
        grid,
        np.asarray(dates, "datetime64[s]"),
        layers,
        tile,
        tuple(files),
    )
    _check_grids_and_units(stack)
    return stack


def open_series(scene: Scene, column: str, grid: Grid | None = None) -> Stack:
    """A scene of one column and its own dates, ``ndvi`` from red and nir too, without backscatter.

    grid: to bring it to; None for the manifest's, else that of its last file. DataError as in
    :func:`open_stack`.
    """
    rasterio = rasterio_or_reason()
    needed = made_from(column, scene.layers)
    if not needed:
        raise DataError(_no_layer(scene, column))
    layers = {
        name: _with_dates(rasterio, scene.source, scene.layers[name])
        for name in dict.fromkeys(needed)
    }
    of_each = [{item.date for item in layer.slices} for layer in layers.values()]
    dates = set.intersection(*of_each)
    if not dates or None in dates:
        raise DataError(f"{scene.source}: {column} must be files with dates, one image for each")
    last = next(iter(layers.values())).slices[-1].path
    with _opened(rasterio, last) as dataset:
        tile = (int(dataset.block_shapes[0][0]), int(dataset.block_shapes[0][1]))
        own = _explicit_grid(rasterio, scene) or _grid_of(dataset, last)
    files = dict.fromkeys(item.path for layer in layers.values() for item in layer.slices)
    stack = Stack(
        scene.source,
        scene.title,
        grid or own,
        np.asarray(sorted(date for date in dates if date is not None), "datetime64[s]"),
        layers,
        tile,
        tuple(files),
    )
    _check_grids_and_units(stack)
    return stack


class Reader:
    """Columns of a stack by acquisition and window; of one thread only."""

    def __init__(self, stack: Stack) -> None:
        self._rasterio = rasterio_or_reason()
        self._stack = stack
        self._open: OrderedDict[str, Any] = OrderedDict()
        self._window: Window | None = None
        self._read: dict[tuple[str, str, int | str], Plane] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close every file."""
        while self._open:
            for dataset in self._open.popitem()[1]:
                dataset.close()

    def column(self, name: str, acquisition: int | None, window: Window) -> Plane:
        """(height, width) float64 of a column; missing is NaN.

        acquisition: index into the stack's dates; None for what has no date.
        """
        if window != self._window:
            self._window = window
            self._read.clear()
        shape = (window.height, window.width)
        when = None if acquisition is None else self._stack.dates[acquisition]
        if name not in self._stack.layers and name in FROM_DATE:
            return np.full(shape, float(FROM_DATE[name](self._stack.dates[acquisition or 0])))
        layers = [self._stack.layers[item] for item in made_from(name, self._stack.layers)]
        if name == "ndvi" and len(layers) == 2:  # of one date both, then matched
            red, nir = layers
            dates = sorted(
                {item.date for item in red.slices} & {item.date for item in nir.slices},
                key=lambda date: date or np.datetime64(0, "s"),
            )
            return _matched(red, dates, lambda date: self._ndvi(red, nir, date, window), when)
        return make(name, {layer.name: self._layer(layer, when, window) for layer in layers})

    def _ndvi(self, red: Layer, nir: Layer, date: np.datetime64 | None, window: Window) -> Plane:
        dark, bright = (
            self._slice(layer, next(item for item in layer.slices if item.date == date), window)
            for layer in (red, nir)
        )
        return ndvi_of(dark, bright)

    def _layer(self, layer: Layer, when: np.datetime64 | None, window: Window) -> Plane:
        if layer.value is not None:
            return np.full((window.height, window.width), layer.value)
        if layer.values:
            numbers = dict(layer.values)
            return _matched(
                layer,
                sorted(numbers),
                lambda date: np.full((window.height, window.width), numbers[date]),
                when,
            )
        slices = {item.date: item for item in layer.slices}
        return _matched(
            layer, list(slices), lambda date: self._slice(layer, slices[date], window), when
        )

    def _slice(self, layer: Layer, item: Slice, window: Window) -> Plane:
        """One band of one file on the grid, decoded; read once per window."""
        key = (layer.name, item.path, item.band)
        if key not in self._read:
            self._read[key] = self.decoded(layer, item, window)
        return self._read[key]

    def decoded(self, layer: Layer, item: Slice, window: Window) -> Plane:
        """One band of one file, decoded to the layer's unit; missing is NaN."""
        dataset, source = self.dataset(layer, item)
        band = _band_of(source, item)
        where = self._rasterio.windows.Window(window.col, window.row, window.width, window.height)
        try:
            if layer.nodata is None and _only_nan(dataset, band):
                value = np.asarray(dataset.read(band, window=where), np.float64)
            elif layer.nodata is None:
                stored = dataset.read(band, window=where, masked=True)
                value = np.ma.filled(stored.astype(np.float64), np.nan)
            else:
                stored = dataset.read(band, window=where)
                value = stored.astype(np.float64)
                value[stored == _as_stored(layer.nodata, stored.dtype)] = np.nan
        except self._rasterio.errors.RasterioError as error:
            raise DataError(
                f"{item.path}: cannot be read at rows {window.row}-{window.row + window.height}, "
                f"columns {window.col}-{window.col + window.width} ({_first(error)}); "
                "a truncated download?"
            ) from None
        if layer.amplitude_db is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(20 * np.log10(value) + layer.amplitude_db)
        scale = source.scales[band - 1] if layer.scale is None else layer.scale
        offset = source.offsets[band - 1] if layer.offset is None else layer.offset
        return value if (scale, offset) == (1.0, 0.0) else value * scale + offset

    def dataset(self, layer: Layer, item: Slice) -> tuple[Any, Any]:
        """A file on the stack's grid, and the file itself; kept open. DataError where not."""
        key = f"{item.path} {layer.nodata} {layer.resample}"
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key][0], self._open[key][-1]
        opened = [_opened(self._rasterio, item.path)]
        try:
            here = _grid_of(opened[0], item.path)
            if not here.same_as(self._stack.grid):
                opened.insert(0, self._aligned(opened[0], layer, item, here))
        except DataError:
            opened[-1].close()
            raise
        self._open[key] = opened
        if len(self._open) > OPEN_AT_ONCE:
            for dataset in self._open.popitem(last=False)[1]:
                dataset.close()
        return opened[0], opened[-1]

    def _aligned(self, dataset: Any, layer: Layer, item: Slice, here: Grid) -> Any:
        """The dataset as if it lay on the stack's grid; what it does not cover is missing."""
        grid = self._stack.grid
        if layer.resample == "refuse":
            raise DataError(
                f"{item.path}: lies on another grid than the scene ({_words(self._rasterio, here)}"
                f"; the scene: {_words(self._rasterio, grid)}); "
                'bring it there, or say resample = "nearest" (or bilinear, average)'
            )
        decibels = layer.name.endswith("_db")
        if decibels and layer.resample != "nearest":
            raise DataError(
                f'{self._stack.source}: layers.{layer.name}: resample = "{layer.resample}" would '
                'average decibels; give the layer in linear power, or use "nearest"'
            )
        return self._rasterio.vrt.WarpedVRT(
            dataset,
            crs=grid.crs,
            transform=self._rasterio.Affine(*grid.transform),
            width=grid.width,
            height=grid.height,
            resampling=self._rasterio.enums.Resampling[layer.resample],
            src_nodata=dataset.nodata if layer.nodata is None else layer.nodata,
            dtype="float64",  # so that what is not covered can be NaN in integers too
            nodata=np.nan,
        )


def nearest_date(layer: Layer, when: np.datetime64) -> tuple[np.datetime64, float] | None:
    """The date of a layer nearest to ``when`` and how many days off; None: it has no dates."""
    dates = [item.date for item in layer.slices if item.date is not None]
    dates += [date for date, _ in layer.values]
    if not dates:
        return None
    return min(((date, abs(_days(date, when))) for date in dates), key=lambda pair: pair[1])


def within_reach(layer: Layer, when: np.datetime64) -> bool:
    """Whether a layer has anything for ``when``, by its own matching rule."""
    nearest = nearest_date(layer, when)
    if nearest is None:
        return True
    if layer.match == "exact":
        return bool(nearest[0].astype("datetime64[D]") == when.astype("datetime64[D]"))
    return nearest[1] <= layer.max_gap_days


def to_outline_crs(stack: Stack, geometries: Sequence[Mapping[str, Any]], crs: str) -> list[Any]:
    """GeoJSON geometries of ``crs`` (WKT or EPSG:n) in the stack's CRS."""
    rasterio = rasterio_or_reason()
    try:
        return [
            dict(rasterio.warp.transform_geom(crs, stack.grid.crs, dict(geometry)))
            for geometry in geometries
        ]
    except (rasterio.errors.RasterioError, ValueError) as error:
        raise DataError(
            f"{stack.source}: the outlines cannot be brought from {crs} to the scene's CRS "
            f"({_first(error)})"
        ) from None


def _no_layer(scene: Scene, column: str) -> str:
    have = ", ".join(scene.layers)
    if column.endswith("_db") and column.removesuffix("_db") in POLARISATIONS:
        gamma = [name for name in scene.layers if name.startswith(column[:2] + "_gamma0")]
        if gamma:
            return (
                f"{scene.source}: layers.{gamma[0]} is gamma0; sigma0 = gamma0 cos(theta) needs "
                "[layers.angle_deg], a raster or value = 39.0"
            )
    hint = {
        "angle_deg": "; add [layers.angle_deg] with a raster, or value = 39.0",
        "ndvi": "; add [layers.ndvi], or [layers.red] and [layers.nir]",
    }.get(column, f"; add [layers.{column}]")
    return f"{scene.source}: no layer {column!r}, which the model reads; it has {have}{hint}"


def _matched(
    layer: Layer,
    dates: Sequence[np.datetime64 | None],
    read: Callable[[Any], Plane],
    when: np.datetime64 | None,
) -> Plane:
    """What a layer says at ``when``: its rule of matching, pixel by pixel.

    exact: the slice of the same day.  nearest: of the slices within max_gap_days, the
    nearest one with a value here, the earlier of two as near.  linear: between the nearest
    values before and after within max_gap_days each; where one side has none, the other.
    """
    if not dates:
        return np.empty(0)
    if list(dates) == [None]:
        return read(None)
    known = [date for date in dates if date is not None]
    if when is None:
        return read(known[-1])
    if layer.match == "exact":
        day = when.astype("datetime64[D]")
        same = [date for date in known if date.astype("datetime64[D]") == day]
        if not same:
            return np.full_like(read(known[0]), np.nan)
        return read(min(same, key=lambda date: abs(_days(date, when))))
    near = [date for date in known if abs(_days(date, when)) <= layer.max_gap_days]
    if layer.match == "nearest":
        near.sort(key=lambda date: (abs(_days(date, when)), date))
        found = _first_value([(date, read(date)) for date in _until_full(near, read)], when)
        return np.full_like(read(known[0]), np.nan) if found is None else found[0]
    before = sorted((date for date in near if date <= when), reverse=True)
    after = sorted(date for date in near if date > when)
    sides = [
        _first_value([(date, read(date)) for date in _until_full(side, read)], when)
        for side in (before, after)
    ]
    if sides[0] is None or sides[1] is None:
        one = sides[0] or sides[1]
        return np.full_like(read(known[0]), np.nan) if one is None else one[0]
    (early, early_gap), (late, late_gap) = sides[0], sides[1]
    with np.errstate(invalid="ignore"):
        between = early + (late - early) * (early_gap / (early_gap + late_gap))
    return np.where(np.isnan(early), late, np.where(np.isnan(late), early, between))


def _until_full(
    dates: Sequence[np.datetime64], read: Callable[[Any], Plane]
) -> Iterator[np.datetime64]:
    """Dates in order, until every pixel has found a value: what is not needed is not read."""
    lacking: NDArray[np.bool_] | None = None
    for date in dates:
        if lacking is not None and not lacking.any():
            return
        yield date
        empty = np.isnan(read(date))
        lacking = empty if lacking is None else lacking & empty


def _first_value(
    planes: Sequence[tuple[np.datetime64, Plane]], when: np.datetime64
) -> tuple[Plane, Plane] | None:
    """Per pixel the first value that is one, and its distance in days; None of no planes."""
    if not planes:
        return None
    value = planes[0][1].copy()
    gap = np.full(value.shape, abs(_days(planes[0][0], when)))
    for date, plane in planes[1:]:
        fill = np.isnan(value) & ~np.isnan(plane)
        value[fill] = plane[fill]
        gap[fill] = abs(_days(date, when))
    return value, gap


def _days(one: np.datetime64, other: np.datetime64) -> float:
    return float((one - other) / np.timedelta64(86400, "s"))


def _with_dates(rasterio: Any, source: str, layer: Layer) -> Layer:
    """The layer of a cube, with its bands' dates as its time axis tells."""
    if layer.cube is None:
        return layer
    with _opened(rasterio, layer.cube) as dataset:
        if dataset.count == 1 and not _time_of(dataset, 1):
            return replace(layer, cube=None, slices=(Slice(layer.cube),))
        slices = []
        for band in range(1, dataset.count + 1):
            told = _time_of(dataset, band)
            if told is None:
                raise DataError(
                    f"{layer.cube}: its time axis cannot be read; "
                    f"write dates = [...] in layers.{layer.name}"
                )
            slices.append(Slice(layer.cube, band, told))
    dates = [item.date for item in slices]
    if len(set(dates)) < len(dates):
        raise DataError(f"{source}: layers.{layer.name}: {layer.cube} has one date twice")
    ordered = sorted(slices, key=lambda item: item.date or np.datetime64(0, "s"))
    return replace(layer, cube=None, slices=tuple(ordered))


def _time_of(dataset: Any, band: int) -> np.datetime64 | None:
    """A band's time as GDAL's netCDF (NETCDF_DIM_t) and Zarr (DIM_t_VALUE) drivers tell it."""
    tags = dataset.tags(band)
    for key, value in tags.items():
        match = re.fullmatch(r"NETCDF_DIM_(\w+)|DIM_(\w+)_VALUE", key)
        if not match:
            continue
        name = match[1] or match[2]
        unit = tags.get(f"DIM_{name}_UNIT") or dataset.tags().get(f"{name}#units", "")
        since = _SINCE.match(unit)
        if since is None:
            continue
        clock = (since[5] or "00:00:00").rstrip("Z").split(".")[0].split("+")[0]
        try:
            start = np.datetime64(f"{since[2]}-{int(since[3]):02}-{int(since[4]):02}T{clock}", "s")
            return start + np.timedelta64(round(float(value) * _SECONDS[since[1]]), "s")
        except ValueError:
            return None
    return None


def _check_grids_and_units(stack: Stack) -> None:
    """Every file opens and lies where it should; the first and last of a layer are sampled."""
    with Reader(stack) as reader:
        for layer in stack.layers.values():
            for item in layer.slices:
                _band_of(reader.dataset(layer, item)[1], item)
            if layer.name in RULES:
                ends = {item.path + str(item.band): item for item in layer.slices}
                for item in [*ends.values()][:1] + [*ends.values()][-1:]:
                    _check_unit(stack, layer, item, reader)
                if layer.value is not None:
                    _median_fits(layer, f"{stack.source}: layers.{layer.name}", layer.value)


def _check_unit(stack: Stack, layer: Layer, item: Slice, reader: Reader) -> None:
    grid = stack.grid
    high, wide = min(SAMPLE, grid.height), min(SAMPLE, grid.width)
    sample = [
        reader.decoded(
            layer,
            item,
            Window(int((grid.height - high) * down), int((grid.width - wide) * across), high, wide),
        )
        for down, across in ((0.5, 0.5), (0.1, 0.1), (0.9, 0.9))
    ]
    values = np.concatenate([plane[np.isfinite(plane)] for plane in sample])
    if len(values):
        _median_fits(layer, f"{item.path}: layer {layer.name}", float(np.median(values)))


def _median_fits(layer: Layer, place: str, median: float) -> None:
    rule = RULES[layer.name]
    if not rule.low <= median <= rule.high:
        cause = (
            rule.cause(median)
            .replace("the column", "the layer")
            .replace("leave the cell empty", "name it: nodata = …")
        )
        raise DataError(f"{place}: the typical value {median:.6g} is not {rule.what}; {cause}")


def _only_nan(dataset: Any, band: int) -> bool:
    """Whether NaN is the only way in which a pixel of a band can be missing."""
    nodata = dataset.nodatavals[band - 1]
    if nodata is not None:
        return bool(np.isnan(nodata))
    return [flag.name for flag in dataset.mask_flag_enums[band - 1]] == ["all_valid"]


def _as_stored(nodata: float, dtype: np.dtype[Any]) -> float:
    """nodata as a float32 file rounds it; other types hold it exactly or never."""
    return float(np.float32(nodata)) if dtype == np.float32 else nodata


def _explicit_grid(rasterio: Any, scene: Scene) -> Grid | None:
    if not scene.grid:
        return None
    try:
        crs = rasterio.crs.CRS.from_user_input(scene.grid["crs"])
        west, south, east, north = (float(item) for item in scene.grid["bounds"])
        step = float(scene.grid["resolution"])
    except (rasterio.errors.RasterioError, TypeError, ValueError) as error:
        raise DataError(
            f"{scene.source}: [grid]: {_first(error)}; crs is a name such as EPSG:32631, bounds "
            "are west, south, east, north and resolution one number, in its units"
        ) from None
    width, height = round((east - west) / step) if step > 0 else 0, 0
    height = round((north - south) / step) if step > 0 else 0
    if width < 1 or height < 1:
        raise DataError(f"{scene.source}: [grid]: bounds and resolution hold no pixel")
    return Grid(crs.to_wkt(), (step, 0.0, west, 0.0, -step, north), width, height)


def _opened(rasterio: Any, path: str) -> Any:
    import warnings

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            return rasterio.open(path)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be opened as a raster ({_first(error)})") from None


def _grid_of(dataset: Any, path: str) -> Grid:
    if dataset.crs is None:
        raise DataError(
            f"{path}: has no CRS, so nobody can say where it lies; is it a product that was "
            "not terrain-corrected?"
        )
    return Grid(dataset.crs.to_wkt(), tuple(dataset.transform)[:6], dataset.width, dataset.height)


def _band_of(dataset: Any, item: Slice) -> int:
    if isinstance(item.band, int):
        if not 1 <= item.band <= dataset.count:
            raise DataError(f"{item.path}: has {dataset.count} bands, no band {item.band}")
        return item.band
    names = [str(name or "") for name in dataset.descriptions]
    if names.count(item.band) != 1:
        raise DataError(
            f"{item.path}: no band called {item.band!r}; it has "
            f"{', '.join(filter(None, names)) or f'{dataset.count} bands without names'}"
        )
    return names.index(item.band) + 1


def _same_crs(one: str, other: str) -> bool:
    if one == other:
        return True
    crs = rasterio_or_reason().crs.CRS
    return bool(crs.from_wkt(one) == crs.from_wkt(other))


def _words(rasterio: Any, grid: Grid) -> str:
    crs = rasterio.crs.CRS.from_wkt(grid.crs)
    epsg = crs.to_epsg()
    name = f"EPSG:{epsg}" if epsg else crs.to_string()[:40]
    step = abs(grid.transform[0])
    return f"{grid.width} x {grid.height} pixels of {step:g}, {name}"


def _first(error: BaseException) -> str:
    reason = str(error) or (str(error.__cause__) if error.__cause__ else "")
    return " ".join(reason.split())[:200] or type(error).__name__
