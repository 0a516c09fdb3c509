"""Columns of a scene, read by acquisition and window, as a table would hold them."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.columns import (
    FROM_DATE,
    LAYER_RULES,
    first_possible,
    is_backscatter,
    make,
    ndvi_of,
    origins,
    possible,
)
from .grid import Window
from .layers import Layer, Slice
from .match import matched
from .open_files import OpenFiles
from .resampling import lies_over, needs_resampling
from .sources import BandSource
from .stack import Stack
from .validity import Plane, Validity, stored_zero


class Reader:
    """Columns of a stack by acquisition and window; of one thread only.

    files: shared with other readers; None for private files, closed with it.
    """

    def __init__(self, stack: Stack, files: OpenFiles | None = None) -> None:
        self.stack = stack
        self._files = OpenFiles() if files is None else files
        self._owns_files = files is None
        self._views: dict[tuple[str, str, str | None], str | None] = {}
        self._slices: dict[str, dict[np.datetime64 | None, Slice]] = {}
        self._dates: dict[str, NDArray[np.datetime64] | None] = {}
        self._window: Window | None = None
        self._read: dict[tuple[str, str, int | str], Plane] = {}

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the files opened by this reader."""
        if self._owns_files:
            self._files.close()

    def column(self, name: str, acquisition: int | None, window: Window) -> Plane:
        """Return (height, width) float64 of a column; missing is NaN.

        acquisition: index into the stack's dates; None for what has no date.
        """
        self._keep(window)
        shape = (window.height, window.width)
        when = None if acquisition is None else self.stack.dates[acquisition]
        if name not in self.stack.layers and name in FROM_DATE:
            return np.full(shape, float(FROM_DATE[name](self.stack.dates[acquisition or 0])))
        layers = [self.stack.layers[item] for item in origins(name, self.stack.layers)]
        if name == "ndvi" and len(layers) == 2:  # of one date both, then matched
            red, nir = layers
            both = self._dated(red).keys() & self._dated(nir).keys()
            dates = _in_order(both)
            return matched(red, dates, lambda date: self._ndvi(red, nir, date, window), when)
        return make(name, {layer.name: self._layer(layer, when, window) for layer in layers})

    def layer_at(self, layer: Layer, acquisition: int, window: Window) -> Plane:
        """Return (height, width) float64 of one layer at an acquisition; missing is NaN."""
        self._keep(window)
        return self._layer(layer, self.stack.dates[acquisition], window)

    def _keep(self, window: Window) -> None:
        """Forget what was read of another window."""
        if window != self._window:
            self._window = window
            self._read.clear()

    def _ndvi(self, red: Layer, nir: Layer, date: np.datetime64 | None, window: Window) -> Plane:
        dark, bright = (
            self._slice(layer, self._dated(layer)[date], window) for layer in (red, nir)
        )
        return ndvi_of(dark, bright)

    def _layer(self, layer: Layer, when: np.datetime64 | None, window: Window) -> Plane:
        if layer.value is not None:
            return np.full((window.height, window.width), layer.value)
        if layer.values:
            numbers = dict(layer.values)
            return matched(
                layer,
                _in_order(numbers),
                lambda date: np.full((window.height, window.width), numbers[date]),
                when,
            )
        slices = self._dated(layer)
        if layer.name not in self._dates:
            self._dates[layer.name] = _in_order(slices)
        return matched(
            layer,
            self._dates[layer.name],
            lambda date: self._slice(layer, slices[date], window),
            when,
        )

    def _dated(self, layer: Layer) -> dict[np.datetime64 | None, Slice]:
        """Return the slices of a layer by date."""
        if layer.name not in self._slices:
            self._slices[layer.name] = {item.date: item for item in layer.slices}
        return self._slices[layer.name]

    def _slice(self, layer: Layer, item: Slice, window: Window) -> Plane:
        """Read one pass of a layer on the grid, decoded; once per window."""
        key = (layer.name, item.path, item.band)
        if key not in self._read:
            value = self.decoded(layer, item, window)
            for frame in item.also:
                if np.isfinite(possible(layer.name, value)).all():
                    break
                value = first_possible(layer.name, value, self.decoded(layer, frame, window))
            self._read[key] = value
        return self._read[key]

    def decoded(self, layer: Layer, item: Slice, window: Window) -> Plane:
        """Decode one band of one file to the layer's unit; missing is NaN."""
        source = self.source(layer, item)
        band = source.band(item.band)
        scale, offset = _scaling(layer, source, band)
        validity = _validity(layer, scale, offset)
        if self._views[item.path, layer.resample, layer.crs] not in (None, "nearest"):
            validity = _possible_alone(layer, validity, scale, offset)
        value = source.stored(band, window, validity)
        if layer.amplitude_db is not None:
            with np.errstate(divide="ignore", invalid="ignore"):
                return np.asarray(20 * np.log10(value) + layer.amplitude_db)
        return value if (scale, offset) == (1.0, 0.0) else value * scale + offset

    def source(self, layer: Layer, item: Slice) -> BandSource:
        """Return a file on the stack's grid; DataError where it cannot be brought there."""
        source = self._files.open(item.path, layer.crs)
        key = (item.path, layer.resample, layer.crs)
        if key not in self._views:
            self._views[key] = self._resampling_of(source, layer)
        resampling = self._views[key]
        return source if resampling is None else source.on(self.stack.grid, resampling)

    def covers(self, source: BandSource) -> bool:
        """Return true where a file covers some of the stack's grid."""
        return lies_over(source.extent, self.stack.grid)

    def _resampling_of(self, source: BandSource, layer: Layer) -> str | None:
        """Return how a file is brought to the stack's grid, None where it lies on it."""
        grid = self.stack.grid
        if source.grid.same_as(grid):
            return None
        if not needs_resampling(source.grid, grid):
            return "nearest"
        if layer.resample == "refuse":
            raise DataError(
                f"{source.path}: lies on another grid than the scene ({source.grid.in_words()}"
                f"; the scene: {grid.in_words()}); "
                'bring it there, or say resample = "nearest" (or bilinear, average)'
            )
        if layer.name.endswith("_db") and layer.resample != "nearest":
            raise DataError(
                f'{self.stack.source}: layers.{layer.name}: resample = "{layer.resample}" would '
                'average decibels; give the layer in linear power, or use "nearest"'
            )
        return layer.resample


def _in_order(dates: Collection[np.datetime64 | None]) -> NDArray[np.datetime64] | None:
    """Return dates ascending; None for a layer without dates."""
    return None if set(dates) == {None} else np.sort(np.asarray([*dates], "datetime64[s]"))


def _scaling(layer: Layer, source: BandSource, band: int) -> tuple[float, float]:
    """Scale and offset of a band: the layer's own, else the file's."""
    scale, offset = source.scaling(band)
    return (
        scale if layer.scale is None else layer.scale,
        offset if layer.offset is None else layer.offset,
    )


def _possible_alone(layer: Layer, validity: Validity, scale: float, offset: float) -> Validity:
    """Add the range of possible values to the rule of a layer that is averaged.

    Power is left as it is: less noise it may be below 0, and that belongs into the mean.
    """
    rule = LAYER_RULES.get(layer.name)
    if rule is None or is_backscatter(layer.name) or not scale:
        return validity
    ends = np.sort([(end - offset) / scale for end in rule.outlier or (rule.low, rule.high)])
    slack = 1e-6 * np.maximum(1, np.abs(ends))  # of the rounding of a scale such as 1e-4
    return replace(validity, low=float(ends[0] - slack[0]), high=float(ends[1] + slack[1]))


def _validity(layer: Layer, scale: float, offset: float) -> Validity:
    """Return the rule that separates measurements from fill values of a layer."""
    if layer.amplitude_db is not None:
        return Validity(layer.nodata, no_power=0.0)
    if is_backscatter(layer.name) and layer.name.endswith("_linear") and scale:
        return Validity(layer.nodata, no_power=stored_zero(scale, offset))
    return Validity(layer.nodata)
