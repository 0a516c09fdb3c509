"""Plan a map before anything is computed: acquisitions, blocks and paddocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..context.definitions import CONTEXT, needed
from ..model.date_effect import DateEffect
from ..scenes.gdal import GDAL_CACHE_BYTES, gdal
from ..scenes.grid import Window
from ..scenes.manifest import Scene
from ..scenes.match import nearest_date, within_reach
from ..scenes.open_files import OpenFiles, shared_files
from ..scenes.opening import open_stack
from ..scenes.orbits import NO_ORBITS, check_orbits, several_clocks
from ..scenes.outlines import Reason
from ..scenes.stack import Stack
from ..scenes.tiles import unit_of
from ..tables.columns import VEGETATION, origins
from ..tables.dates import find_acquisition, is_future, utc_seconds
from .hold import Hold
from .options import LAST_ACQUISITION, Execution, RetrievalOptions

if TYPE_CHECKING:
    from ..model.card import Card
    from ..model.model import Model

#: Numbers (pixels x acquisitions) of one column that a block may hold.
BLOCK_NUMBERS = 1 << 20
#: Longest side of a block, pixels.
BLOCK_SIDE = 512
#: Fewest rows of a block; resampling reads a margin around it.
FEWEST_ROWS = 4


@dataclass(frozen=True)
class Plan:
    """A model on a stack: which acquisitions are mapped, and in which blocks.

    targets: indices into the stack's dates, ascending.  windows: all blocks, in order.
    paddocks: GeoJSON geometries in the stack's CRS, for field context; or empty.
    effects: what probes say of each target's date; or empty.
    notes: acquisitions that were left out, and why.
    files: open files for one thread, or for all while they keep tiles; None: each reader opens its
    own.
    hold_vegetation_days: largest age of vegetation that fills gaps; 0 fills none.
    """

    model: Model
    stack: Stack
    targets: tuple[int, ...]
    windows: tuple[Window, ...]
    paddocks: tuple[Mapping[str, Any], ...] = ()
    effects: tuple[DateEffect, ...] = ()
    notes: tuple[str, ...] = ()
    files: OpenFiles | None = field(default=None, compare=False, repr=False)
    hold_vegetation_days: float = 0.0

    @property
    def hold(self) -> Hold | None:
        """Return how gaps of vegetation are filled; None where they are not."""
        return Hold.of(self.model, self.stack.dates, self.hold_vegetation_days)

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """(K,) of the mapped acquisitions."""
        return self.stack.dates[list(self.targets)]

    @property
    def acquisitions(self) -> range:
        """Acquisitions that are read: the targets and the earlier steps of their windows."""
        return range(max(0, self.targets[0] - self.model.card.steps + 1), self.targets[-1] + 1)

    @property
    def first_read(self) -> int:
        """The first acquisition of which anything is read for the windows of the targets."""
        first = self.acquisitions.start
        return first if self.hold is None else self.hold.since(first)

    @property
    def contexts(self) -> list[str]:
        """The contexts the model reads that no layer gives, and what they are made of first."""
        return needed(_features(self.model.card), self.stack.has)

    @property
    def remembered(self) -> range:
        """The acquisitions that make histories; empty where the model reads none."""
        if not any(CONTEXT[name].shared_by.is_past for name in self.contexts):
            return range(0)
        past = self.model.card.history.span == "past"
        return range(self.targets[-1] + 1 if past else len(self.stack.dates))

    @property
    def depth(self) -> int:
        """Number of acquisitions that a block holds."""
        return max(len(self.remembered), self.targets[-1] + 1 - self.first_read)

    def with_paddocks(self, outlines: Sequence[Mapping[str, Any] | Reason]) -> Plan:
        """Return the plan with the paddocks of :func:`on_grid`; those without a geometry are not.

        outlines: a GeoJSON geometry in the stack's CRS of each, or why it has none.
        """
        usable = tuple(item for item in outlines if not isinstance(item, Reason))
        return replace(self, paddocks=usable)

    def keep_tiles(self, folder: Path, threads: int) -> None:
        """Keep decoded tiles in a temporary file of ``folder`` where blocks share them.

        In one thread GDAL's own cache is enough for a few acquisitions.
        """
        grid = self.stack.grid
        rows, cols = unit_of(self.stack.tile, grid.height, grid.width)
        if self.files is None or rows * cols <= max(w.height * w.width for w in self.windows):
            return
        slices = sum(min(len(layer.slices), self.depth) for layer in self.stack.layers.values())
        needed = rows * cols * np.dtype(np.float32).itemsize * slices
        if threads > 1 or needed > GDAL_CACHE_BYTES // 2:
            self.files.tiles.keep(folder, needed)


@contextmanager
def planned_map(
    model: Model,
    scene: Scene,
    options: RetrievalOptions,
    folder: Path,
    execution: Execution,
) -> Iterator[Plan]:
    """Plan a map, pass on its notes, and keep its files open for the computation.

    folder: for decoded tiles.
    """
    with gdal(), shared_files() as files:
        plan = plan_map(model, scene, options, files)
        plan.keep_tiles(folder, execution.threads)
        for sentence in (*plan.notes, *plan.stack.notes):
            execution.tell(sentence)
        yield plan


def plan_map(
    model: Model,
    scene: Scene,
    options: RetrievalOptions = LAST_ACQUISITION,
    files: OpenFiles | None = None,
) -> Plan:
    """Look at a scene and decide what to do; nothing is computed yet.

    files: left open for the computation; None to open and close them here.
    DataError as :func:`kgsm_infer.scenes.opening.open_stack`, and where a layer has nothing within
    its max_gap_days of the acquisition.
    """
    card = model.card
    columns = card.inputs.columns[1:]
    stack = open_stack(scene, card.polarisation, columns, card.optional_columns, files)
    notes: tuple[str, ...] = ()
    if not options.allow_future:
        stack, notes = _without_future(stack)
    looks_back = any(CONTEXT[n].shared_by.is_past for n in needed(_features(card), stack.has))
    if looks_back:
        notes += _check_orbits(stack, scene.backscatter(card.polarisation))
    if options.every:
        targets: tuple[int, ...] = tuple(range(len(stack.dates)))
    elif options.date is None:
        targets = (len(stack.dates) - 1,)
    else:
        targets = (_target(stack, options.date),)
    grid = stack.grid
    plan = Plan(
        model,
        stack,
        targets,
        windows=(),
        notes=notes,
        files=files,
        hold_vegetation_days=options.hold_vegetation_days,
    )
    if not options.every:
        _all_within_reach(plan, columns)
    windows = tuple(block_windows(grid.height, grid.width, stack.tile, plan.depth))
    return replace(plan, windows=windows)


def block_windows(
    height: int, width: int, tile: tuple[int, int], acquisitions: int
) -> Iterator[Window]:
    """Yield windows that cover the grid once.

    They are made of whole stored tiles, row by row. Where a tile is larger than a block, they are
    parts of it, tile by tile.

    >>> [tuple(block) for block in block_windows(100, 700, (64, 64), 1)]
    [(0, 0, 100, 512), (0, 512, 100, 188)]
    >>> [tuple(block) for block in block_windows(2500, 4000, (1, 4000), 8)][:2]
    [(0, 0, 32, 4000), (32, 0, 32, 4000)]
    >>> [tuple(block) for block in block_windows(1000, 1000, (512, 512), 300)][84:87]
    [(504, 0, 6, 512), (510, 0, 2, 512), (0, 512, 6, 488)]
    """
    whole = Window(0, 0, height, width)
    pixels = max(1, min(BLOCK_NUMBERS // acquisitions, BLOCK_SIDE**2))
    tall, wide = min(tile[0], height), min(tile[1], width)
    if tall * wide <= pixels:
        side = int(pixels**0.5)
        cols = width if wide == width else max(wide, side // wide * wide)
        rows = max(
            tall, (pixels if wide == width else min(side * cols, pixels)) // cols // tall * tall
        )
        yield from whole.parts(rows, cols)
        return
    unit = unit_of(tile, height, width)
    rows = max(min(pixels // unit[1], unit[0]), min(FEWEST_ROWS, unit[0], pixels))
    for part in whole.parts(*unit):
        yield from part.parts(rows, min(part.width, pixels // rows))


def _without_future(stack: Stack) -> tuple[Stack, tuple[str, ...]]:
    """Leave out acquisitions later than tomorrow; DataError where no other is left."""
    future = is_future(stack.dates)
    if not future.any():
        return stack, ()
    days = f"acquisition of {np.datetime_as_string(stack.dates[future][0], 'D')}"
    if future.all():
        raise DataError(f"{stack.source}: the {days} is of the future; --allow-future accepts it")
    note = (
        f"{stack.source}: the {days} is of the future and left out ({int(future.sum())} in all); "
        "--allow-future accepts it"
    )
    return stack.select(~future), (note,)


def _features(card: Card) -> list[str]:
    return [*card.names("dynamic"), *card.names("static")]


def _check_orbits(stack: Stack, layer: str) -> tuple[str, ...]:
    """Return a note where passes of several orbits cannot be distinguished.

    DataError where the orbit of some acquisitions only is known.
    """
    remedy = f"state orbits = {{time = orbit}} in layers.{layer}"
    try:
        check_orbits(stack.orbits, stack.dates, remedy)
    except DataError as error:
        raise DataError(f"{stack.source}: {error}") from None
    if not stack.orbits and several_clocks(stack.dates):
        return (f"{stack.source}: {NO_ORBITS}; {remedy}",)
    return ()


def _target(stack: Stack, date: str) -> int:
    found = find_acquisition(date, stack.dates, stack.source)
    if found is None:
        wanted = np.datetime64(utc_seconds(date) or 0, "s")
        nearest = stack.dates[np.argmin(np.abs(stack.dates - wanted))]
        raise DataError(
            f"{stack.source}: no acquisition of {date}; the nearest of its {len(stack.dates)} is "
            f"{np.datetime_as_string(nearest, 'D')}"
        )
    return int(np.flatnonzero(stack.dates == found)[0])


def _all_within_reach(plan: Plan, columns: Sequence[str]) -> None:
    """Refuse a date that a layer has nothing for: the map would be empty (DataError).

    columns: the inputs of the model. Vegetation that is none of them takes no number away, nor
    does vegetation that is held from an earlier acquisition.
    """
    stack, hold, (target,) = plan.stack, plan.hold, plan.targets
    when = stack.dates[target]
    held = {item for name in hold.columns for item in origins(name, stack.layers)} if hold else ()
    spare = {
        item for name in VEGETATION if name not in columns for item in origins(name, stack.layers)
    }
    for layer in stack.layers.values():
        if layer.name in spare or within_reach(layer, when):
            continue
        if layer.name in held and hold is not None:
            earlier = stack.dates[hold.since(target) : target]
            if any(within_reach(layer, date) for date in earlier):
                continue
        date, days = nearest_date(layer, when) or (when, 0.0)
        rule = (
            'say match = "nearest" and max_gap_days'
            if layer.match == "exact"
            else f"max_gap_days is {layer.max_gap_days:g}"
        )
        raise DataError(
            f"{stack.source}: layers.{layer.name} has nothing for "
            f"{np.datetime_as_string(when, 'D')}; the nearest date is "
            f"{np.datetime_as_string(date, 'D')}, {days:.0f} days off; {rule}"
        )
