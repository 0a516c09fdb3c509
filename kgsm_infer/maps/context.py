"""What the pixels of a map take from their scene, their paddock and their past.

The arithmetic is that of :mod:`kgsm_infer.context.definitions`, as on the rows of a table; here
are only
the passes over the raster that bring the values to it: one for the means of what was observed,
and, where a scene's mean is of something that is itself made of a past, one more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.extras import optional
from ..context.definitions import CONTEXT, ENOUGH, HISTORIES, HistoryRule, first_given, too_few
from ..context.history import History
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.averaging import mean_of, sums_by_group
from ..tables.columns import possible
from .plan import Plan
from .threads import over_blocks

Values = NDArray[np.float64]
Means = tuple[Values, NDArray[np.int64]]


@dataclass(frozen=True)
class Context:
    """What pixels take from their scene and their paddock (see
    :mod:`kgsm_infer.context.definitions`).

    scenes, fields: name -> (mean, count), of shape (D,) and (D, paddocks).
    """

    scenes: Mapping[str, Means] = field(default_factory=dict)
    fields: Mapping[str, Means] = field(default_factory=dict)


@dataclass(frozen=True)
class Pixels:
    """N pixels and where their columns come from.

    has: whether a column is there, and need not be made.  column: (name, acquisition) ->
    (N,) values.  remembered: the acquisitions that make histories, ascending.
    labels: (N,) index of the paddock each pixel lies in, -1 in none; None: nobody asked.
    """

    count: int
    has: Callable[[str], bool]
    column: Callable[[str, int], Values]
    rule: HistoryRule
    remembered: Sequence[int]
    labels: NDArray[np.int64] | None = None


def make_context(plan: Plan, threads: int = 1) -> Context:
    """The scene's and the paddocks' means, where the model reads them and no layer gives them.

    Backscatter in linear power, anything else as it is, over the pixels with a value on that
    date: all of the scene's, or those whose centre lies in the paddock.
    """
    names = [name for name in plan.contexts if CONTEXT[name][1] == "scene"]
    plain = [name for name in names if _observed(plan, name)]
    made = [name for name in names if name not in plain]
    fields = [name for name in plan.contexts if CONTEXT[name][1] == "field"]
    fields = fields if plan.paddocks else []
    bases = {CONTEXT[name][0] for name in plan.contexts if CONTEXT[name][1] in HISTORIES}
    days = {name: plan.remembered if name in bases else plan.acquisitions for name in fields}
    first = _means(plan, plain, fields, {**dict.fromkeys(plain, plan.acquisitions), **days},
                   Context(), threads)  # fmt: skip
    if not made:
        return first
    second = _means(plan, made, [], dict.fromkeys(made, plan.acquisitions), first, threads)
    return Context({**first.scenes, **second.scenes}, first.fields)


def _observed(plan: Plan, name: str) -> bool:
    """Whether a context is made of a column that was observed, or is given as a layer."""
    return CONTEXT[name][0] not in CONTEXT or plan.stack.has(CONTEXT[name][0])


def _means(
    plan: Plan,
    scenes: Sequence[str],
    fields: Sequence[str],
    days: Mapping[str, Sequence[int]],
    known: Context,
    threads: int,
) -> Context:
    """One pass over the raster: means of the bases of ``scenes`` and ``fields``."""
    names = [*scenes, *fields]
    if not names:
        return Context()
    sizes = {**dict.fromkeys(scenes, 1), **dict.fromkeys(fields, len(plan.paddocks))}
    shape = len(plan.stack.dates)
    total = {name: np.zeros((shape, sizes[name])) for name in names}
    count = {name: np.zeros((shape, sizes[name]), np.int64) for name in names}

    def sums(reader: Reader, window: Window) -> list[tuple[str, int, Any, Any]]:
        block = BlockContext(pixels_of(plan, reader, window), known)
        labels = _labels(plan, window) if fields else np.empty(0, np.int64)
        found = []
        for name in names:
            column = CONTEXT[name][0]
            code = labels if name in fields else np.zeros(window.height * window.width, np.int64)
            for acquisition in days[name]:
                value = possible(column, block.column(column, acquisition))
                sums = sums_by_group(column, value, code, sizes[name])
                found.append((name, acquisition, *sums))
        return found

    for _, parts in over_blocks(plan, range(len(plan.windows)), sums, threads):
        for name, acquisition, power, n in parts:  # always in the blocks' order: same sums
            total[name][acquisition] += power
            count[name][acquisition] += n
    mean = {name: mean_of(CONTEXT[name][0], total[name], count[name]) for name in names}
    return Context(
        scenes={name: (mean[name][:, 0], count[name][:, 0]) for name in scenes},
        fields={name: (mean[name], count[name]) for name in fields},
    )


def pixels_of(plan: Plan, reader: Reader, window: Window) -> Pixels:
    """The pixels of one block of a scene."""
    labelled = bool(plan.paddocks) and any(CONTEXT[name][1] == "field" for name in plan.contexts)
    return Pixels(
        count=window.height * window.width,
        has=plan.stack.has,
        column=lambda name, acquisition: reader.column(name, acquisition, window).ravel(),
        rule=plan.model.card.history,
        remembered=plan.remembered,
        labels=_labels(plan, window) if labelled else None,
    )


class BlockContext:
    """Context columns of one block; a pixel in no paddock is a field of its own."""

    def __init__(self, pixels: Pixels, context: Context) -> None:
        self._pixels, self._context = pixels, context
        self._histories: dict[str, tuple[History, int]] = {}

    def column(self, name: str, acquisition: int) -> Values:
        """(N,) of any column, made where it is not there."""
        if name in CONTEXT and not self._pixels.has(name):
            return self.value(name, acquisition)[0]
        return self._pixels.column(name, acquisition)

    def value(self, name: str, acquisition: int) -> tuple[Values, NDArray[np.bool_]]:
        """(N,) of a context, and where it is made of too little."""
        base, who = CONTEXT[name]
        if who == "scene":
            value, count = self._of_scene(name, acquisition)
        elif who == "departure":
            value, count = self._of_scene(base, acquisition)
            value = self._pixels.column(first_given(name, ()), acquisition) - value
        elif who == "field":
            value, count = self._of_field(name, acquisition)
        else:
            own_db = possible(base, self.column(base, acquisition))
            history = self._history(name, acquisition)
            value, count = history.compared(name, own_db, self._pixels.rule), history.count
        return value, np.asarray(too_few(name, count), np.bool_)

    def _of_scene(self, name: str, acquisition: int) -> Means:
        pixels = self._pixels
        if pixels.has(name):
            enough = np.full(pixels.count, max(ENOUGH.values()))
            return pixels.column(name, acquisition), enough
        mean, count = self._context.scenes[name]
        return np.full(pixels.count, mean[acquisition]), np.full(pixels.count, count[acquisition])

    def _of_field(self, name: str, acquisition: int) -> Means:
        own = self._pixels.column(CONTEXT[name][0], acquisition)
        labels, alone = self._pixels.labels, np.ones(own.size, np.int64)
        if labels is None or name not in self._context.fields:
            return own, alone
        inside, at = labels >= 0, np.maximum(labels, 0)
        mean, count = (part[acquisition][at] for part in self._context.fields[name])
        return np.where(inside, mean, own), np.where(inside, count, alone)

    def _history(self, name: str, acquisition: int) -> History:
        """What each pixel's field, or itself, has shown: by that date, or ever."""
        base, wanted = CONTEXT[name][0], self._pixels.remembered
        if self._pixels.rule.span == "past":
            wanted = [day for day in wanted if day <= acquisition]
        history, done = self._histories.get(base, (History.empty(self._pixels.count), 0))
        if done > len(wanted):  # asked for an earlier date than before
            history, done = History.empty(self._pixels.count), 0
        for day in wanted[done:]:
            history.add(possible(base, self.column(base, day)))
        self._histories[base] = history, len(wanted)
        return history


def _labels(plan: Plan, window: Window) -> NDArray[np.int64]:
    """(pixels,) index of the paddock each pixel's centre lies in, the first of several; -1."""
    labels = np.full((window.height, window.width), -1, np.int64)
    if plan.paddocks:
        rasterio = optional("rasterio", "features", what="field context")
        backwards = list(enumerate(plan.paddocks))[::-1]  # what is burnt last stands
        rasterio.features.rasterize(
            [(geometry, index) for index, geometry in backwards],
            out=labels,
            transform=rasterio.Affine(*plan.stack.grid.part(window).transform),
        )
    return labels.ravel()
