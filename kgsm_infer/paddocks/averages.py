"""Average the inputs of a paddock before the retrieval: one row per paddock and acquisition.

A retrieval is not linear in the backscatter, and speckle makes single pixels noisy. So the mean of
retrievals differs from the retrieval of the mean. The value of a paddock is the latter:
backscatter is averaged in linear power over the paddock's pixels, each weighted by its exact share
inside the outline, other columns as they are, and the model runs on the averaged row.
``paddocks`` on a scene and the scene intake of the gateway both call this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..maps.plan import block_windows
from ..scenes.grid import Window
from ..tables.averaging import mean_of, to_power
from ..tables.columns import possible
from .summary import MIN_VALID

if TYPE_CHECKING:
    from ..scenes.reader import Reader
    from ..scenes.stack import Stack
    from .of_scene import Coverage


@dataclass(frozen=True)
class Averages:
    """Averaged columns of one paddock. numbers: (A,) of each column, NaN where too few pixels."""

    numbers: Mapping[str, NDArray[np.float64]]


def average_paddocks(
    reader: Reader,
    covers: Mapping[str, Coverage],
    names: Sequence[str],
    acquisitions: Sequence[int],
    min_valid: float = MIN_VALID,
) -> dict[str, Averages]:
    """Average columns of a scene over each paddock, for A acquisitions.

    The scene is read block by block, each block once for all paddocks in it.

    reader: of the scene.  covers: by id of the paddock.  names: columns of the scene.
    min_valid: least share of a paddock's area whose pixels have a value of a column on a date.
    """
    area = np.asarray([cover.area for cover in covers.values()], np.float64)
    shape = (len(names), len(acquisitions), len(covers))
    total, weight = np.zeros(shape), np.zeros(shape)
    for part in _parts(reader.stack, covers, len(acquisitions)):
        for n, name in enumerate(names):
            for a, at in enumerate(acquisitions):
                values = reader.column(name, at, part.window).ravel()[part.pixel]
                known = possible(name, values)
                share = np.where(np.isfinite(known), part.share, 0.0)
                power = np.where(share > 0, to_power(name, known) * share, 0.0)
                count = len(part.paddocks)
                total[n, a, part.paddocks] += np.bincount(part.code, power, count)
                weight[n, a, part.paddocks] += np.bincount(part.code, share, count)
    enough = (weight > 0) & (weight >= min_valid * area)
    averages = {
        name: np.where(enough[n], mean_of(name, total[n], weight[n]), np.nan)
        for n, name in enumerate(names)
    }
    return {
        paddock: Averages({name: averages[name][:, at] for name in names})
        for at, paddock in enumerate(covers)
    }


@dataclass(frozen=True)
class _Part:
    """Pixels of paddocks in one block.

    window: around them.  paddocks: (M,) indices of the paddocks.  code: (N,) index into
    ``paddocks`` of each entry.  pixel: (N,) its pixel in the window, row by row.  share: (N,).
    """

    window: Window
    paddocks: NDArray[np.int64]
    code: NDArray[np.int64]
    pixel: NDArray[np.int64]
    share: NDArray[np.float64]


def _parts(stack: Stack, covers: Mapping[str, Coverage], acquisitions: int) -> Iterator[_Part]:
    """Yield the paddocks' pixels block by block; blocks without a paddock are left out."""
    grid = stack.grid
    boxes = np.asarray([tuple(cover.window) for cover in covers.values()], np.int64).reshape(-1, 4)
    top, left = boxes[:, 0], boxes[:, 1]
    bottom, right = top + boxes[:, 2], left + boxes[:, 3]
    all_covers = list(covers.values())
    for block in block_windows(grid.height, grid.width, stack.tile, max(1, acquisitions)):
        ends = (block.row + block.height, block.col + block.width)
        inside = np.flatnonzero(
            (top < ends[0]) & (bottom > block.row) & (left < ends[1]) & (right > block.col)
        )
        if not len(inside):
            continue
        first = Window(
            max(block.row, int(top[inside].min())), max(block.col, int(left[inside].min())), 0, 0
        )
        window = first._replace(
            height=min(ends[0], int(bottom[inside].max())) - first.row,
            width=min(ends[1], int(right[inside].max())) - first.col,
        )
        found = [_pixels_in(window, all_covers[at]) for at in inside]
        yield _Part(
            window=window,
            paddocks=inside,
            code=np.repeat(np.arange(len(inside)), [len(pixel) for pixel, _ in found]),
            pixel=np.concatenate([pixel for pixel, _ in found]),
            share=np.concatenate([share for _, share in found]),
        )


def _pixels_in(window: Window, cover: Coverage) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the pixels of a paddock that lie in a window, and their shares."""
    own = cover.window
    row, col = max(window.row, own.row), max(window.col, own.col)
    part = cover.share[
        row - own.row : window.row + window.height - own.row,
        col - own.col : window.col + window.width - own.col,
    ]
    rows, cols = np.nonzero(part > 0)
    pixel = (rows + row - window.row) * window.width + cols + col - window.col
    return pixel, part[rows, cols]
