"""Average the inputs of a paddock before the retrieval: one row per paddock and acquisition.

A retrieval is not linear in the backscatter, and speckle makes single pixels noisy. So the mean of
retrievals differs from the retrieval of the mean. The value of a paddock is the latter:
backscatter is averaged in linear power over the paddock's pixels, each weighted by its exact share
inside the outline, other columns as they are, and the model runs on the averaged row.
``paddocks`` on a scene and the scene intake of the gateway both call this module.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..scenes.reader import Reader
from ..tables.averaging import mean_of, to_power
from ..tables.columns import possible
from .summary import MIN_VALID

if TYPE_CHECKING:
    from ..scenes.stack import Stack
    from .of_scene import Coverage


@dataclass(frozen=True)
class Averages:
    """Averaged columns of one paddock. numbers: (A,) of each column, NaN where too few pixels."""

    numbers: Mapping[str, NDArray[np.float64]]


def average_paddocks(
    stack: Stack,
    covers: Mapping[str, Coverage],
    names: Sequence[str],
    acquisitions: Sequence[int],
    min_valid: float = MIN_VALID,
) -> dict[str, Averages]:
    """Average columns of a scene over each paddock, for A acquisitions.

    covers: by id of the paddock.  names: columns of the scene.  min_valid: least share of a
    paddock's area whose pixels have a value of a column on a date.
    """
    found = {}
    with Reader(stack) as reader:
        for paddock, cover in covers.items():
            found[paddock] = Averages(
                {
                    name: np.asarray(
                        [
                            average_pixels(
                                name, reader.column(name, at, cover.window), cover, min_valid
                            )
                            for at in acquisitions
                        ],
                        np.float64,
                    )
                    for name in names
                }
            )
    return found


def average_pixels(
    name: str, values: NDArray[np.float64], cover: Coverage, min_valid: float = MIN_VALID
) -> float:
    """Average one column over the pixels of a paddock; NaN where too little of it is covered.

    values: (height, width) of the cover's window. Impossible values do not count.
    """
    known = possible(name, values)
    there = np.isfinite(known) & (cover.share > 0)
    weight = cover.share[there]
    if not weight.size or weight.sum() < min_valid * cover.area:
        return float("nan")
    return float(mean_of(name, np.sum(to_power(name, known[there]) * weight), weight.sum()))
