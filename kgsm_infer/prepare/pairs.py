"""Fine and coarse images to be fused, named in a small manifest.

    quantity = "ndvi"                  # ndvi, albedo or lst_k; another with its own limits
    simulated = false                  # true where the images are; every output then says so

    [fine]                             # keys of a layer in a scene manifest (docs/maps.md), or
    files = "landsat/*_ndvi.tif"       # layers and preset of one: red and nir make ndvi

    [coarse]
    files = "modis/*_ndvi.tif"
    resample = "bilinear"              # to the fine grid

    # [coarse]                         # or made from the fine images, to try methods out:
    # block_mean = 10                  # pixels; with noise = 0.02 and bias = 0.03 if wished

The grid is that of the fine images; days are whole days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..base.schema import Range, SettingsFile, read
from ..scenes.grid import Grid, Window
from ..scenes.manifest import Scene, refuse_network, scene_from
from ..scenes.opening import open_series
from ..scenes.reader import Reader
from ..scenes.stack import Stack
from .grids import simulated_note

#: What a quantity can be, exclusive, in its unit (K for lst_k). Surface temperature: the
#: limits of the authors of unbiased ESTARFM.
LIMITS: Mapping[str, tuple[float, float]] = {
    "ndvi": (-1.0, 1.0),
    "albedo": (0.0, 1.0),
    "lst_k": (250.0, 350.0),
}

Days = NDArray[np.datetime64]


@dataclass(frozen=True)
class SimulatedCoarse:
    """A coarse image as the mean of block × block fine pixels, plus bias and Gaussian noise.

    noise, bias: in the quantity's unit; the noise is one number for each block.
    """

    block_mean: Annotated[int, Range(2)]
    noise: Annotated[float, Range(0)] = 0.0
    bias: float = 0.0


@dataclass(frozen=True)
class _PairsFile:
    """The keys of a manifest of pairs."""

    quantity: str
    fine: Mapping[str, Any]
    coarse: Mapping[str, Any]
    limits: tuple[float, float] | None = None
    simulated: bool = False

    def __post_init__(self) -> None:
        if self.limits is None and self.quantity not in LIMITS:
            raise ValueError(
                f"quantity is {self.quantity}, expected one of {', '.join(LIMITS)}; state the "
                "range of another quantity with limits = [low, high]"
            )
        if self.limits is not None and not self.limits[0] < self.limits[1]:
            raise ValueError(f"limits is {list(self.limits)}, expected [low, high], low < high")


_FILE = SettingsFile("manifest of pairs", hint="name a manifest of pairs (docs/fusion.md)")


@dataclass(frozen=True)
class Pairs:
    """A manifest as opened. coarse: None where it is simulated from the fine images."""

    source: str
    quantity: str
    limits: tuple[float, float]
    fine: Stack
    coarse: Stack | None
    made: SimulatedCoarse | None
    simulated: bool

    @property
    def grid(self) -> Grid:
        """The fine images' grid."""
        return self.fine.grid

    @property
    def fine_days(self) -> Days:
        """Days with a fine image, ascending."""
        return self.fine.dates.astype("datetime64[D]")

    @property
    def coarse_days(self) -> Days:
        """Days with a coarse image, ascending."""
        return (self.coarse or self.fine).dates.astype("datetime64[D]")


def read_pairs(path: str | Path) -> Pairs:
    """Read and open a manifest of pairs; DataError names what is wrong."""
    path = Path(path)
    source = str(path)
    keys = read(_PairsFile, _FILE.load(path), path)
    quantity = keys.quantity
    fine = open_series(_scene(keys.fine, quantity, f"{source} [fine]", path.parent), quantity)
    made = coarse = None
    if "block_mean" in keys.coarse:
        made = read(SimulatedCoarse, keys.coarse, source, where="coarse")
    else:
        scene = _scene(keys.coarse, quantity, f"{source} [coarse]", path.parent)
        coarse = open_series(scene, quantity, fine.grid)
    for side, stack in (("fine", fine), ("coarse", coarse)):
        days = [] if stack is None else stack.dates.astype("datetime64[D]").tolist()
        twice = sorted({str(day) for day in days if days.count(day) > 1})
        if twice:
            raise DataError(f"{source}: [{side}] has two images of {twice[0]}; keep one for a day")
    simulated = keys.simulated or made is not None
    simulated |= any(_says_so(stack) for stack in (fine, coarse) if stack is not None)
    limits = keys.limits or LIMITS[quantity]
    return Pairs(source, quantity, limits, fine, coarse, made, simulated)


class Images:
    """Reads the images of both kinds, block by block; of one thread only."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs
        self._fine = Reader(pairs.fine)
        self._coarse = None if pairs.coarse is None else Reader(pairs.coarse)

    def __enter__(self) -> Images:
        return self

    def __exit__(self, *_: object) -> None:
        self._fine.close()
        if self._coarse is not None:
            self._coarse.close()

    def fine(self, index: int, rows: slice) -> NDArray[np.float32]:
        """Return whole rows of a fine image, by its index in ``fine_days``."""
        return self._plausible(self._fine.column(self._pairs.quantity, index, self._window(rows)))

    def coarse(self, index: int, rows: slice) -> NDArray[np.float32]:
        """Return whole rows of a coarse image on the fine grid, by its index in ``coarse_days``."""
        if self._coarse is not None:
            window = self._window(rows)
            return self._plausible(self._coarse.column(self._pairs.quantity, index, window))
        made = self._pairs.made
        assert made is not None
        block, height = made.block_mean, self._pairs.grid.height
        first = rows.start // block * block
        last = min(-(-rows.stop // block) * block, height)
        fine = self.fine(index, slice(first, last)).astype(np.float64)
        day = int(self._pairs.fine_days[index].astype(int))
        return _blocks_of(fine, made, day, first // block)[rows.start - first :][
            : rows.stop - rows.start
        ]

    def _window(self, rows: slice) -> Window:
        return Window(rows.start, 0, rows.stop - rows.start, self._pairs.grid.width)

    def _plausible(self, image: NDArray[np.float64]) -> NDArray[np.float32]:
        """Set values outside the limits to missing: fill that the manifest does not declare."""
        low, high = self._pairs.limits
        with np.errstate(invalid="ignore"):
            return np.where((image >= low) & (image <= high), image, np.nan).astype(np.float32)


def _blocks_of(
    fine: NDArray[np.float64], made: SimulatedCoarse, day: int, first_line: int
) -> NDArray[np.float32]:
    """Return block means of what is present; noise depends on day and place only."""
    block, (height, width) = made.block_mean, fine.shape
    lines, across = -(-height // block), -(-width // block)
    padded = np.full((lines * block, across * block), np.nan)
    padded[:height, :width] = fine
    cells = padded.reshape(lines, block, across, block)
    present = np.isfinite(cells)
    with np.errstate(invalid="ignore"):
        mean = np.where(present, cells, 0).sum(axis=(1, 3)) / present.sum(axis=(1, 3))
    for line in range(lines):
        rng = np.random.default_rng([abs(day), first_line + line])
        mean[line] += made.bias + rng.normal(0, made.noise, across)
    return np.asarray(mean.repeat(block, 0).repeat(block, 1)[:height, :width], np.float32)


def _scene(raw: Mapping[str, Any], quantity: str, source: str, folder: Path) -> Scene:
    if "layers" not in raw and "preset" not in raw:
        raw = {"layers": {quantity: raw}}
    scene = scene_from(raw, source, folder)
    refuse_network(scene, option="")
    return scene


def _says_so(stack: Stack) -> bool:
    """Return true where a stack, or one of its files, is simulated."""
    return stack.simulated or any(simulated_note(file) for file in stack.files)
