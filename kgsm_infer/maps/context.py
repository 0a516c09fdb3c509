"""What the pixels of a map take from their scene, their paddock and their past.

The arithmetic is that of :mod:`kgsm_infer.context`, as on the rows of a table; here are only
the passes over the raster that bring the values to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..context import CONTEXT, History, mean_of, sums_by_group, too_few
from ..extras import optional
from ..scenes.grid import Window
from ..scenes.reader import Reader
from .plan import Plan
from .threads import over_blocks

Means = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Context:
    """What pixels take from their scene and their paddock (see :mod:`kgsm_infer.context`).

    scenes, fields: name -> (mean, count), of shape (D,) and (D, paddocks).
    """

    scenes: Mapping[str, Means] = field(default_factory=dict)
    fields: Mapping[str, Means] = field(default_factory=dict)


def make_context(plan: Plan, threads: int = 1) -> Context:
    """The scene's and the paddocks' means, where the model reads them and no layer gives them.

    Backscatter in linear power, NDVI as it is, over the pixels with a value on that date:
    all of the scene's, or those whose centre lies in the paddock.
    """
    asked = plan.contexts
    names = [name for name in asked if CONTEXT[name][1] != "history"]
    histories = [name for name in asked if CONTEXT[name][1] == "history"]
    names += [base for base in (CONTEXT[name][0] for name in histories) if base not in names]
    names = [name for name in dict.fromkeys(names) if not plan.stack.has(name)]
    sizes = {"scene": 1, "field": len(plan.paddocks)}
    names = [name for name in names if sizes[CONTEXT[name][1]]]
    if not names:
        return Context()
    days = len(plan.stack.dates)
    total = {name: np.zeros((days, sizes[CONTEXT[name][1]])) for name in names}
    count = {name: np.zeros((days, sizes[CONTEXT[name][1]]), np.int64) for name in names}
    bases = {CONTEXT[name][0] for name in histories}

    def sums(reader: Reader, window: Window) -> list[tuple[str, int, Any, Any]]:
        found = []
        labels = _labels(plan, window)
        for name in names:
            column, who = CONTEXT[name]
            code = labels if who == "field" else np.zeros(labels.size, np.int64)
            for acquisition in range(days) if name in bases else plan.acquisitions:
                value = reader.column(column, acquisition, window).ravel()
                found.append((name, acquisition, *sums_by_group(column, value, code, sizes[who])))
        return found

    for _, parts in over_blocks(plan, range(len(plan.windows)), sums, threads):
        for name, acquisition, power, n in parts:  # always in the blocks' order: same sums
            total[name][acquisition] += power
            count[name][acquisition] += n
    means: dict[str, Means] = {
        name: (mean_of(CONTEXT[name][0], total[name], count[name]), count[name]) for name in names
    }
    own = {who: {n: m for n, m in means.items() if CONTEXT[n][1] == who} for who in sizes}
    return Context(
        scenes={name: (mean[:, 0], n[:, 0]) for name, (mean, n) in own["scene"].items()},
        fields=own["field"],
    )


class BlockContext:
    """Context columns of one block; a pixel in no paddock is a field of its own."""

    def __init__(self, plan: Plan, reader: Reader, window: Window, context: Context) -> None:
        self._plan, self._reader, self._window, self._context = plan, reader, window, context
        self._labels = _labels(plan, window) if context.fields else None
        self._own: dict[str, Means] = {}

    def value(self, name: str, acquisition: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """(pixels,) of a context, and where it is made of too little."""
        base, who = CONTEXT[name]
        pixels = self._window.height * self._window.width
        if who == "scene":
            mean, count = self._context.scenes[name]
            few = too_few(name, count[acquisition])
            return np.full(pixels, mean[acquisition]), np.full(pixels, few)
        if who == "field":
            return self._field(name, acquisition)
        if name not in self._own:
            self._own[name] = self._reference(name)
        reference, dates = self._own[name]
        return self._of_field(base, acquisition) - reference, too_few(name, dates)

    def _field(self, name: str, acquisition: int) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        own = self._reader.column(CONTEXT[name][0], acquisition, self._window).ravel()
        if self._labels is None:
            return own, np.ones(own.size, bool)
        inside, at = self._labels >= 0, np.maximum(self._labels, 0)
        mean, count = (part[acquisition][at] for part in self._context.fields[name])
        return np.where(inside, mean, own), np.asarray(~inside | too_few(name, count))

    def _of_field(self, base: str, acquisition: int) -> NDArray[np.float64]:
        if self._plan.stack.has(base):
            return self._reader.column(base, acquisition, self._window).ravel()
        return self._field(base, acquisition)[0]

    def _reference(self, name: str) -> Means:
        """The usual or driest date of each pixel's field over the whole stack."""
        history = History.empty(self._window.height * self._window.width)
        for acquisition in range(len(self._plan.stack.dates)):
            history.add(self._of_field(CONTEXT[name][0], acquisition))
        return history.reference_db(name), history.count


def _labels(plan: Plan, window: Window) -> NDArray[np.int64]:
    """(pixels,) index of the paddock each pixel's centre lies in, the first of several; -1."""
    labels = np.full((window.height, window.width), -1, np.int64)
    if plan.paddocks:
        rasterio = optional("field context", "rasterio", "features")
        backwards = list(enumerate(plan.paddocks))[::-1]  # what is burnt last stands
        rasterio.features.rasterize(
            [(geometry, index) for index, geometry in backwards],
            out=labels,
            transform=rasterio.Affine(*plan.stack.grid.part(window).transform),
        )
    return labels.ravel()
