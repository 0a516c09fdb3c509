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
from ..scenes.grid import Grid, Window
from .calibration import BORDER, RadiometricCalibration, border, read_calibration
from .flattening import flattened
from .geometry import Orbit, Seen, earth_fixed, locate, orbit_of
from .grids import finer
from .heights import Surface, ellipsoid_heights, lon_lat
from .safe import Floats, Product, open_measurement

#: Parts of pixels around a block, for normals and for γ⁰'s sums over the terrain.
MARGIN = 64

Work = dict[str, Floats]


@dataclass(frozen=True)
class Options:
    """Options of a pass.

    polarisations: () for all that every frame has.  gamma0: terrain-flattened γ⁰ instead of σ⁰.
    denoise: subtract thermal noise.  local_angle: a layer of the terrain's own angle.
    """

    polarisations: tuple[str, ...] = ()
    gamma0: bool = False
    denoise: bool = True
    local_angle: bool = True

    @property
    def margin(self) -> int:
        """Parts of pixels that are computed around a block."""
        return MARGIN if self.gamma0 else 1


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
        {name: open_measurement(rasterio, product, channel) for name, channel in channels.items()},
    )


@dataclass(frozen=True)
class PassSampling:
    """A pass and the grid it is brought to. looks: parts along a pixel's side."""

    frames: Sequence[Frame]
    surface: Surface
    grid: Grid
    looks: int
    options: Options


def block_of(sampling: PassSampling, window: Window, tally: Tally) -> Work:
    """Sample all layers of a block of the grid, merged over frames: the first with a number."""
    frames, looks = sampling.frames, sampling.looks
    fine = finer(sampling.grid, looks, window, sampling.options.margin)
    heights_m = ellipsoid_heights(sampling.surface, fine)
    tally.heights += int(np.count_nonzero(np.isfinite(heights_m)))
    points = earth_fixed(*lon_lat(fine), heights_m)
    merged: Work = {}
    for frame in frames:
        positions = locate(frame.product, frame.orbit, points)
        layers = _of_frame(frame, positions, fine, sampling.options, tally)
        for name, values in layers.items():
            before = merged.get(name, values)
            merged[name] = np.where(np.isfinite(before), before, values)
    found = {name: _mean(values, looks) for name, values in merged.items()}
    tally.pixels += window.height * window.width
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


@dataclass(frozen=True)
class _Positions:
    """Positions in an image, fractions kept. usable: where the image is sampled; (H, W) each."""

    line: Floats
    pixel: Floats
    usable: NDArray[np.bool_]


def _of_frame(frame: Frame, at: Seen, fine: Grid, options: Options, tally: Tally) -> Work:
    """Sample the layers of one frame on the fine grid of a block, its margin cut off."""
    margin = options.margin
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
    positions = _Positions(line, pixel, inside & ~(local >= 90))
    weights = None
    if options.gamma0 and positions.usable.any():
        weights = flattened(product, frame.orbit, at)[inner]
    for name in frame.datasets:
        values = _sampled(frame, name, positions, options, tally)
        layers[name] = values if weights is None else values / weights
    return layers


def _sampled(
    frame: Frame, name: str, positions: _Positions, options: Options, tally: Tally
) -> Floats:
    """Sample σ⁰ (β⁰ for γ⁰) at image positions; only the lines and samples around them are read."""
    usable = positions.usable
    values = np.full(usable.shape, np.nan)
    if not usable.any():
        return values
    product, calibration = frame.product, frame.calibrations[name]
    row = np.rint(positions.line[usable]).astype(int)
    column = np.rint(positions.pixel[usable]).astype(int)
    lines, samples = _span(row, product.lines), _span(column, product.samples)
    dataset = frame.datasets[name]
    stored = _read(dataset, product.channels[name].measurement, lines, samples)
    line = np.arange(lines.start, lines.stop, dtype=float)
    pixel = np.arange(samples.start, samples.stop, dtype=float)
    intensity = stored.astype(np.float64) ** 2
    noise = calibration.noise.on(line, pixel)
    edges = (
        lines.start == 0,
        lines.stop == product.lines,
        samples.start == 0,
        samples.stop == product.samples,
    )
    nothing = (stored == 0) | border(intensity - noise, edges)
    if dataset.nodata is not None:
        nothing |= stored == dataset.nodata
    tally.stored[name] = tally.stored.get(name, 0) + int(np.count_nonzero(stored))
    scale = (calibration.beta if options.gamma0 else calibration.sigma).on(line, pixel)
    power = (intensity - noise if options.denoise else intensity) / scale**2
    power[nothing] = np.nan
    values[usable] = power[row - lines.start, column - samples.start]
    return values


def _read(dataset: Any, path: Path, lines: range, samples: range) -> NDArray[np.uint16]:
    rasterio = rasterio_or_reason()
    window = rasterio.windows.Window(samples.start, lines.start, len(samples), len(lines))
    try:
        return np.asarray(dataset.read(1, window=window))
    except rasterio.errors.RasterioError as error:
        raise read_failure(f"{path}: lines {lines.start}-{lines.stop}", error) from None


def _span(index: NDArray[np.int_], size: int) -> range:
    """Return the range of indices; out to the image's edge where border noise may reach it."""
    first, last = int(index.min()), int(index.max()) + 1
    return range(0 if first < BORDER else first, size if last > size - BORDER else last)


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
