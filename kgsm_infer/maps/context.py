"""Context columns of a map's pixels.

The equations are those of :mod:`kgsm_infer.context.definitions`. One pass over the raster computes
the means of observed columns. A second one computes the scene means of columns that compare a
pixel with its past.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..context.definitions import CONTEXT, ENOUGH, HistoryRule, SharedBy, first_available, too_few
from ..context.from_tables import average_fields
from ..context.history import History, Pass, replay
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.averaging import mean_of, sums_by_group, to_power
from ..tables.columns import possible
from ..tables.vegetation import HeldValues, hold_values
from .hold import Hold
from .labels import PaddockLabels
from .plan import Plan
from .threads import over_blocks

Values = NDArray[np.float64]
Means = tuple[Values, NDArray[np.int64]]


@dataclass(frozen=True)
class Context:
    """Means of the scene and of paddocks (see :mod:`kgsm_infer.context.definitions`).

    scenes, fields: name -> (mean, count), of shape (D,) and (D, paddocks).
    labels: the paddock of each pixel; None without field context.
    """

    scenes: Mapping[str, Means] = field(default_factory=dict)
    fields: Mapping[str, Means] = field(default_factory=dict)
    labels: PaddockLabels | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Pixels:
    """N pixels and the source of their columns.

    has: returns True for a column that is read, not computed.  column: (name, acquisition) ->
    (N,) values.  remembered: the acquisitions that make histories, ascending.
    orbits: relative orbit of each acquisition; each has a separate past. () where all share one.
    hold: fills gaps of vegetation; None leaves them.
    labels: (N,) index of the paddock each pixel lies in, -1 in none; None without field context.
    """

    count: int
    has: Callable[[str], bool]
    column: Callable[[str, int], Values]
    rule: HistoryRule
    remembered: Sequence[int]
    orbits: Sequence[str] = ()
    hold: Hold | None = None
    labels: NDArray[np.int64] | None = None


def make_context(plan: Plan, threads: int = 1) -> Context:
    """Compute the means of the scene and of the paddocks that the model reads and no layer gives.

    Backscatter is averaged in linear power, anything else as it is, over the pixels with a value
    on that date: all of the scene's, or those whose centre lies in the paddock. A mean over
    fields is over the paddocks, or over all pixels of a plan without paddocks.
    """

    def shared_by(*kinds: SharedBy) -> list[str]:
        return [name for name in plan.contexts if CONTEXT[name].shared_by in kinds]

    over_fields = shared_by(SharedBy.FIELDS) if plan.paddocks else []
    names = [n for n in shared_by(SharedBy.SCENE, SharedBy.FIELDS) if n not in over_fields]
    plain = [name for name in names if _observed(plan, name)]
    made = [name for name in names if name not in plain]
    fields = shared_by(SharedBy.FIELD) if plan.paddocks else []
    bases = {CONTEXT[name].base for name in plan.contexts if CONTEXT[name].shared_by.is_past}
    own = {name: plan.remembered if name in bases else plan.acquisitions for name in fields}
    labels = PaddockLabels(plan.paddocks, plan.stack.grid) if fields or over_fields else None
    first = _means(
        plan, dict.fromkeys(plain, plan.acquisitions), own, Context(labels=labels), threads
    )
    if not made and not over_fields:
        return first
    second = _means(
        plan,
        dict.fromkeys(made, plan.acquisitions),
        dict.fromkeys(over_fields, plan.acquisitions),
        first,
        threads,
    )
    averaged = {name: _over_fields(name, *second.fields[name]) for name in over_fields}
    return Context({**first.scenes, **second.scenes, **averaged}, first.fields, labels)


def _over_fields(name: str, mean: Values, count: NDArray[np.int64]) -> Means:
    """Average paddock means, both (D, paddocks), over the paddocks of each acquisition, (D,)."""
    days, paddocks = mean.shape
    there = np.where(count > 0, 1, 0)
    power = np.where(count > 0, to_power(CONTEXT[name].base, mean), 0.0)
    scene = np.repeat(np.arange(days), paddocks)
    return average_fields(CONTEXT[name].base, power.ravel(), there.ravel(), scene)


def _observed(plan: Plan, name: str) -> bool:
    """Return True where a context's base is observed or given as a layer."""
    return CONTEXT[name].base not in CONTEXT or plan.stack.has(CONTEXT[name].base)


def _means(
    plan: Plan,
    scenes: Mapping[str, Sequence[int]],
    fields: Mapping[str, Sequence[int]],
    known: Context,
    threads: int,
) -> Context:
    """Compute the means of contexts' bases in one pass over the raster.

    scenes, fields: the acquisitions to average of each context, over the scene or each paddock.
    known: means that the bases are made of.
    """
    days = {**scenes, **fields}
    if not days:
        return known
    sizes = {**dict.fromkeys(scenes, 1), **dict.fromkeys(fields, len(plan.paddocks))}
    shape = len(plan.stack.dates)
    total = {name: np.zeros((shape, sizes[name])) for name in days}
    count = {name: np.zeros((shape, sizes[name]), np.int64) for name in days}

    def sums(reader: Reader, window: Window) -> list[_BlockSums]:
        """Sum the columns of a block over the scene or the paddocks in it."""
        block = BlockContext(pixels_of(plan, reader, window, known), known)
        whole = PixelGroups(np.zeros(1, np.int64), np.zeros(window.height * window.width, np.int64))
        in_paddocks = whole if known.labels is None else _groups(known.labels.of(window))
        found = []
        for name, acquisitions in days.items():
            column, groups = CONTEXT[name].base, in_paddocks if name in fields else whole
            if not len(groups.present):
                continue
            for acquisition in acquisitions:
                value = possible(column, block.column(column, acquisition))
                power, number = sums_by_group(column, value, groups.code, len(groups.present))
                found.append(_BlockSums(name, acquisition, groups.present, power, number))
        return found

    for _, parts in over_blocks(plan, range(len(plan.windows)), sums, threads):
        for part in parts:  # always in the blocks' order
            total[part.name][part.acquisition, part.groups] += part.power
            count[part.name][part.acquisition, part.groups] += part.count
    mean = {name: mean_of(CONTEXT[name].base, total[name], count[name]) for name in days}
    return Context(
        scenes={name: (mean[name][:, 0], count[name][:, 0]) for name in scenes},
        fields={name: (mean[name], count[name]) for name in fields},
        labels=known.labels,
    )


@dataclass(frozen=True)
class _BlockSums:
    """Sums of a context's base over a block in one acquisition.

    groups: (M,) the scene, 0, or numbers of paddocks.  power: (M,) as :func:`to_power`.
    count: (M,) pixels with a value.
    """

    name: str
    acquisition: int
    groups: NDArray[np.int64]
    power: Values
    count: NDArray[np.int64]


@dataclass(frozen=True)
class PixelGroups:
    """Groups of a block's pixels. present: (M,) their numbers.  code: (N,) index into it, or -1."""

    present: NDArray[np.int64]
    code: NDArray[np.int64]


def _groups(labels: NDArray[np.int64]) -> PixelGroups:
    inside = labels >= 0
    present = np.unique(labels[inside])
    return PixelGroups(present, np.where(inside, np.searchsorted(present, labels), -1))


def pixels_of(plan: Plan, reader: Reader, window: Window, context: Context) -> Pixels:
    """Read the pixels of one block of a scene."""
    labelled = bool(plan.paddocks) and any(
        CONTEXT[name].shared_by is SharedBy.FIELD for name in plan.contexts
    )
    return Pixels(
        count=window.height * window.width,
        has=plan.stack.has,
        column=lambda name, acquisition: reader.column(name, acquisition, window).ravel(),
        rule=plan.model.card.history,
        remembered=plan.remembered,
        orbits=plan.stack.orbits,
        hold=plan.hold,
        labels=context.labels.of(window) if labelled and context.labels else None,
    )


class BlockContext:
    """Context columns of one block; each pixel outside all paddocks is a separate field."""

    def __init__(self, pixels: Pixels, context: Context) -> None:
        self._pixels, self._context = pixels, context
        self._histories: dict[tuple[str, str], _Replayed] = {}

    @property
    def pixels(self) -> int:
        """Number of pixels, N."""
        return self._pixels.count

    def has(self, name: str) -> bool:
        """Return True for a column that is read, not made."""
        return self._pixels.has(name)

    def column(self, name: str, acquisition: int) -> Values:
        """Return a column (N,), computed where the pixels lack it."""
        if name in CONTEXT and not self._pixels.has(name):
            return self.value(name, acquisition)[0]
        return self._filled(name, acquisition).values

    def held(self, acquisition: int) -> NDArray[np.bool_]:
        """Find the pixels with vegetation of an earlier acquisition, (N,)."""
        found = np.zeros(self.pixels, bool)
        hold = self._pixels.hold
        for name in () if hold is None else hold.columns:
            found |= self._filled(name, acquisition).held
        return found

    def _filled(self, name: str, acquisition: int) -> HeldValues:
        """Read a column (N,); vegetation with its gaps filled."""
        own, hold = self._pixels.column(name, acquisition), self._pixels.hold
        none = np.zeros(own.size, bool)
        if hold is None or name not in hold.columns or not np.isnan(own).any():
            return HeldValues(own, none)
        since = range(hold.since(acquisition), acquisition + 1)
        values = np.stack([_marked(name, self._pixels.column(name, day)) for day in since], axis=1)
        filled = hold_values(
            values.ravel(),
            np.tile(hold.days[since.start : since.stop], own.size),
            np.tile(np.arange(len(since)) == 0, own.size),
            hold.most_days,
        )
        values = filled.values.reshape(own.size, -1)[:, -1]
        held = filled.held.reshape(own.size, -1)[:, -1]
        return HeldValues(np.where(held, values, own), held)

    def value(self, name: str, acquisition: int) -> tuple[Values, NDArray[np.bool_]]:
        """Compute a context (N,), and (N,) True where it has too few rows."""
        base = CONTEXT[name].base
        match CONTEXT[name].shared_by:
            case SharedBy.SCENE | SharedBy.FIELDS:
                value, count = self._of_scene(name, acquisition)
            case SharedBy.DEPARTURE:
                mean, count = self._of_scene(base, acquisition)
                value = self._filled(first_available(name, ()), acquisition).values - mean
            case SharedBy.FIELD:
                value, count = self._of_field(name, acquisition)
            case SharedBy.FIELD_PAST | SharedBy.SITE_PAST:
                own_db = _marked(base, self.column(base, acquisition))
                history = self._history(base, acquisition)
                value, count = history.compared(name, own_db, self._pixels.rule), history.count
        return value, np.asarray(too_few(name, count), np.bool_)

    def _of_scene(self, name: str, acquisition: int) -> Means:
        pixels = self._pixels
        if pixels.has(name):
            enough = np.full(pixels.count, ENOUGH)
            return self._filled(name, acquisition).values, enough
        mean, count = self._context.scenes[name]
        return np.full(pixels.count, mean[acquisition]), np.full(pixels.count, count[acquisition])

    def _of_field(self, name: str, acquisition: int) -> Means:
        base = CONTEXT[name].base
        own = possible(base, self._filled(base, acquisition).values)
        labels, alone = self._pixels.labels, np.ones(own.size, np.int64)
        if labels is None or name not in self._context.fields:
            return own, alone
        inside, at = labels >= 0, np.maximum(labels, 0)
        mean, count = (part[acquisition][at] for part in self._context.fields[name])
        return np.where(inside, mean, own), np.where(inside, count, alone)

    def _history(self, base: str, acquisition: int) -> History:
        """Return each pixel's state in column ``base``: after that acquisition, or after all."""
        orbit = self._orbit(acquisition)
        days = self._of_orbit(orbit)
        wanted = len(days)
        if self._pixels.rule.span == "past":
            wanted = sum(day <= acquisition for day in days)
        replayed = self._histories.get((base, orbit))
        if replayed is None or replayed.passes > wanted:  # an earlier date than the last one
            replayed = self._histories[base, orbit] = _Replayed.start(self, base, orbit)
        return replayed.forward(wanted)

    def _orbit(self, acquisition: int) -> str:
        return self._pixels.orbits[acquisition] if self._pixels.orbits else ""

    def _of_orbit(self, orbit: str) -> list[int]:
        """List the remembered acquisitions of a relative orbit."""
        return [day for day in self._pixels.remembered if self._orbit(day) == orbit]

    def passes(self, base: str, orbit: str = "") -> Iterator[Pass]:
        """Yield the pixels' values of column ``base`` in each past acquisition of an orbit."""
        for day in self._of_orbit(orbit):
            yield Pass(possible(base, self.column(base, day)))


@dataclass
class _Replayed:
    """A past replayed so far. passes: number of acquisitions in ``history``."""

    history: History
    states: Iterator[History]
    passes: int = 0

    @classmethod
    def start(cls, block: BlockContext, base: str, orbit: str) -> _Replayed:
        history = History.empty(block.pixels)
        return cls(history, replay(history, block.passes(base, orbit)))

    def forward(self, passes: int) -> History:
        """Return the state after ``passes`` acquisitions."""
        for _ in range(passes - self.passes):
            next(self.states)
        self.passes = passes
        return self.history


def _marked(name: str, values: Values) -> Values:
    """Replace values outside the range of their column by infinity, as tables do; NaN stays."""
    return np.where(np.isnan(possible(name, values)) & ~np.isnan(values), np.inf, values)
