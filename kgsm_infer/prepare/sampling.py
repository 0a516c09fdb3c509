"""One block of the output grid: what each frame saw there, as numbers.

Each pixel is cut into looks × looks parts of about the image's own 10 m; a part takes the sample
it lies on (nearest: every number is a measurement), and the parts' mean in linear power is the
pixel. Noise-corrected power below zero stays in that mean, since leaving it out would raise it;
a mean that is not above zero has no decibel and becomes NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..scenes.gdal import rasterio_or_reason, read_failure
from ..scenes.grid import Grid
from .calibration import BORDER, RadiometricCalibration, border, read_calibration
from .flattening import flattened
from .geometry import Orbit, Seen, earth_fixed, orbit_of, seen
from .grids import finer
from .heights import Surface, ellipsoid_heights, lon_lat
from .safe import Floats, Product, whole_measurement

#: Parts of pixels around a block, for γ⁰'s sums over the terrain.
MARGIN = 64

Work = dict[str, Floats]


@dataclass(frozen=True)
class Options:
    """polarisations: () for all that every frame has. gamma0: terrain-flattened γ⁰ instead of
    σ⁰. denoise: subtract thermal noise. local_angle: a layer of the terrain's own angle."""

    polarisations: tuple[str, ...] = ()
    gamma0: bool = False
    denoise: bool = True
    local_angle: bool = True


@dataclass(frozen=True)
class Frame:
    """A product opened for reading."""

    product: Product
    orbit: Orbit
    calibrations: Mapping[str, RadiometricCalibration]
    datasets: Mapping[str, Any]


@dataclass
class Tally:
    """Counts while a pass is worked on."""

    pixels: int = 0
    heights: int = 0
    seen: dict[str, int] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    lost: dict[str, int] = field(default_factory=dict)
    stored: dict[str, int] = field(default_factory=dict)


def open_frame(rasterio: Any, product: Product, polarisations: Sequence[str]) -> Frame:
    channels = {name: product.channels[name] for name in polarisations}
    return Frame(
        product,
        orbit_of(product),
        {name: read_calibration(channel) for name, channel in channels.items()},
        {name: whole_measurement(rasterio, product, channel) for name, channel in channels.items()},
    )


def block_of(
    frames: Sequence[Frame],
    surface: Surface,
    grid: Grid,
    looks: int,
    rows: slice,
    columns: slice,
    options: Options,
    tally: Tally,
) -> Work:
    """Sample all layers of a block of the grid, merged over frames: the first with a number."""
    margin = MARGIN if options.gamma0 else 1
    fine = finer(grid, looks, rows, columns, margin)
    heights_m = ellipsoid_heights(surface, fine)
    tally.heights += int(np.count_nonzero(np.isfinite(heights_m)))
    points = earth_fixed(*lon_lat(fine), heights_m)
    merged: Work = {}
    for frame in frames:
        positions = seen(frame.product, frame.orbit, points)
        layers = _of_frame(frame, positions, fine, options, margin, tally)
        for name, values in layers.items():
            before = merged.get(name, values)
            merged[name] = np.where(np.isfinite(before), before, values)
    found = {name: _mean(values, looks) for name, values in merged.items()}
    tally.pixels += (rows.stop - rows.start) * (columns.stop - columns.start)
    for name in frames[0].datasets:
        known = np.isfinite(found[name])
        lost = known & ~(found[name] > 0)
        found[name][lost] = np.nan
        for counts, number in (
            (tally.seen, known),
            (tally.lost, lost),
            (tally.numbers, known & ~lost),
        ):
            counts[name] = counts.get(name, 0) + int(np.count_nonzero(number))
    return found


def _of_frame(
    frame: Frame, at: Seen, fine: Grid, options: Options, margin: int, tally: Tally
) -> Work:
    """Sample the layers of one frame on the fine grid of a block, its margin cut off."""
    inner = (slice(margin, fine.height - margin), slice(margin, fine.width - margin))
    product = frame.product
    line, pixel = at.line[inner], at.pixel[inner]
    inside = (line >= -0.5) & (line < product.lines - 0.5)
    inside &= (pixel >= -0.5) & (pixel < product.samples - 0.5)
    angle = np.where(inside, product.tie_points.angle_deg.at(line, pixel), np.nan)
    local = np.where(inside, at.local_angle_deg[inner], np.nan)
    layers: Work = {"angle": angle}
    if options.local_angle:
        layers["local_angle"] = local
    usable = inside & ~(local >= 90)
    weights = None
    if options.gamma0 and usable.any():
        weights = flattened(product, frame.orbit, at)[inner]
    for name, dataset in frame.datasets.items():
        values = _sampled(frame, name, dataset, line, pixel, usable, options, tally)
        layers[name] = values if weights is None else values / weights
    return layers


def _sampled(
    frame: Frame,
    name: str,
    dataset: Any,
    line: Floats,
    pixel: Floats,
    usable: NDArray[np.bool_],
    options: Options,
    tally: Tally,
) -> Floats:
    """Sample σ⁰ (β⁰ for γ⁰) at image positions; only the lines and samples around them are read."""
    values = np.full(line.shape, np.nan)
    if not usable.any():
        return values
    product, calibration = frame.product, frame.calibrations[name]
    row, column = np.rint(line[usable]).astype(int), np.rint(pixel[usable]).astype(int)
    top, bottom = _span(row, product.lines)
    left, right = _span(column, product.samples)
    stored = _read(dataset, frame.product.channels[name].measurement, top, bottom, left, right)
    lines, pixels = np.arange(top, bottom, dtype=float), np.arange(left, right, dtype=float)
    intensity = stored.astype(np.float64) ** 2
    noise = calibration.noise.on(lines, pixels)
    edges = (top == 0, bottom == product.lines, left == 0, right == product.samples)
    nothing = (stored == 0) | border(intensity - noise, edges)
    if dataset.nodata is not None:
        nothing |= stored == dataset.nodata
    tally.stored[name] = tally.stored.get(name, 0) + int(np.count_nonzero(stored))
    scale = (calibration.beta if options.gamma0 else calibration.sigma).on(lines, pixels)
    power = (intensity - noise if options.denoise else intensity) / scale**2
    power[nothing] = np.nan
    values[usable] = power[row - top, column - left]
    return values


def _read(
    dataset: Any, path: Path, top: int, bottom: int, left: int, right: int
) -> NDArray[np.uint16]:
    rasterio = rasterio_or_reason()
    window = rasterio.windows.Window(left, top, right - left, bottom - top)
    try:
        return np.asarray(dataset.read(1, window=window))
    except rasterio.errors.RasterioError as error:
        raise read_failure(f"{path}: lines {top}-{bottom}", error) from None


def _span(index: NDArray[np.int_], size: int) -> tuple[int, int]:
    """Return the first and last + 1; out to the image's edge where border noise may reach it."""
    first, last = int(index.min()), int(index.max()) + 1
    return (0 if first < BORDER else first), (size if last > size - BORDER else last)


def _mean(values: Floats, looks: int) -> Floats:
    """Return the mean of looks × looks parts in linear numbers.

    NaN where less than half have one.
    """
    if looks == 1:
        return values
    height, width = values.shape
    parts = values.reshape(height // looks, looks, width // looks, looks)
    known = np.isfinite(parts)
    count = known.sum(axis=(1, 3))
    total = np.where(known, parts, 0.0).sum(axis=(1, 3))
    return np.where(2 * count >= looks**2, total / np.maximum(count, 1), np.nan)
