"""Name the layers that leave a scene without a value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from .grid import Window
from .open_files import OpenFiles
from .reader import Reader
from .stack import Stack

#: Side of the windows sampled, and how many of them along each axis.
_SIDE, _ALONG = 256, 3


def empty_layers(
    stack: Stack, acquisitions: Iterable[int], files: OpenFiles | None = None
) -> dict[str, list[int]]:
    """Find the acquisitions at which a layer has no valid value, by layer; others are absent.

    acquisitions: indices into the stack's dates.  files: those that are open already; a NetCDF file
    that several threads have read must not be opened once more. Windows spread over the grid are
    sampled, all of it where it is small.
    """
    windows, wanted = _windows(stack), list(acquisitions)
    found = {}
    with Reader(stack, files) as reader:
        for layer in stack.layers.values():
            if layer.value is not None:
                continue
            empty = [
                at
                for at in wanted
                if not any(
                    np.isfinite(reader.layer_at(layer, at, window)).any() for window in windows
                )
            ]
            if empty:
                found[layer.name] = empty
    return found


def _windows(stack: Stack) -> list[Window]:
    grid = stack.grid
    high, wide = min(_SIDE, grid.height), min(_SIDE, grid.width)
    rows = {round((grid.height - high) * part / (_ALONG - 1)) for part in range(_ALONG)}
    cols = {round((grid.width - wide) * part / (_ALONG - 1)) for part in range(_ALONG)}
    return [Window(row, col, high, wide) for row in sorted(rows) for col in sorted(cols)]
