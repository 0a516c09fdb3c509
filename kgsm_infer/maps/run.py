"""Maps: a scene through a model, block by block, in memory that does not grow with it.

    scene ──> blocks ──> columns of each acquisition ──> Model.estimate ──> work files
                                                                            │ all blocks done
                                          proved by reading back  <── COG, NetCDF or Zarr

A pixel is a site, an acquisition a row of its table: a map holds what ``predict`` gives on
the same values. The work files lie beside the output in ``.NAME.work``; each block is
written there, brought to the disk, and only then marked as done. A run that is killed is
continued by the same call, and ends with the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from threading import local
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import __version__
from ..columns import FROZEN_BY, frozen_or_snow
from ..context import CONTEXT, History, mean_of, sums_by_group, too_few
from ..errors import DataError, KgsmError, MissingError, UsageError
from ..observations import Observations
from ..scenes.manifest import Scene
from ..scenes.stack import Reader, Stack, Window, gdal, nearest_date, open_stack, within_reach
from ..table import asked_day

if TYPE_CHECKING:
    from ..model import Model, Retrieval
    from ..paddocks.summary import Outlines

#: Numbers (pixels x acquisitions) of one column that a block may hold.
BLOCK_NUMBERS = 1 << 20
#: Longest side of a block, pixels.
BLOCK_SIDE = 512
#: Finished blocks are brought to the disk and marked this often, s.
SYNC_EVERY_S = 2.0

VARIABLES: Mapping[str, np.dtype[Any]] = {
    "sm": np.dtype("<f4"),
    "sm_lower": np.dtype("<f4"),
    "sm_upper": np.dtype("<f4"),
    "flags": np.dtype("<u2"),
}
Progress = Callable[[int, int], None]
Column = Callable[[str, int], tuple[NDArray[np.float64], ArrayLike]]


class Block(NamedTuple):
    """What a model says of a window: (K, height, width) of each of VARIABLES."""

    sm: NDArray[np.float32]
    sm_lower: NDArray[np.float32]
    sm_upper: NDArray[np.float32]
    flags: NDArray[np.uint16]


Means = tuple[NDArray[np.float64], NDArray[np.int64]]


@dataclass(frozen=True)
class Context:
    """What pixels take from their scene and their paddock (see :mod:`kgsm_infer.context`).

    scenes, fields: name -> (mean, count), of shape (D,) and (D, paddocks).
    """

    scenes: Mapping[str, Means] = field(default_factory=dict)
    fields: Mapping[str, Means] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """A model on a stack: which acquisitions are mapped, and in which blocks.

    targets: indices into the stack's dates, ascending.  windows: all blocks, in order.
    paddocks: GeoJSON geometries in the stack's CRS, for field context; or empty.
    """

    model: Model
    stack: Stack
    targets: tuple[int, ...]
    windows: tuple[Window, ...]
    paddocks: tuple[Mapping[str, Any], ...] = ()

    @property
    def dates(self) -> NDArray[np.datetime64]:
        """(K,) of the mapped acquisitions."""
        return self.stack.dates[list(self.targets)]

    @property
    def acquisitions(self) -> range:
        """Those that are read: the targets and what their windows look back on."""
        return range(max(0, self.targets[0] - self.model.card.steps + 1), self.targets[-1] + 1)


@dataclass(frozen=True)
class Work:
    """The result of a plan, finished, in files: (K, H, W) of each of VARIABLES.

    threads: how many may write them out.
    """

    folder: Path
    plan: Plan
    threads: int = 1

    def read(self, variable: str, k: int, window: Window) -> NDArray[Any]:
        """A window of one variable and target."""
        grid, dtype = self.plan.stack.grid, VARIABLES[variable]
        rows = np.empty((window.height, window.width), dtype)
        with open(self.folder / variable, "rb") as file:
            for i in range(window.height):
                at = ((k * grid.height + window.row + i) * grid.width + window.col) * dtype.itemsize
                file.seek(at)
                rows[i] = np.frombuffer(file.read(window.width * dtype.itemsize), dtype)
        return rows


def plan_map(
    model: Model,
    scene: Scene,
    *,
    date: str | None = None,
    every: bool = False,
) -> Plan:
    """Look at a scene and decide what to do; nothing is computed yet.

    date: ISO date of the acquisition to map; None for the last. every: all of them. Not both.
    DataError as :func:`kgsm_infer.scenes.stack.open_stack`, and where a layer has nothing within
    its max_gap_days of the acquisition.
    """
    if every and date is not None:
        raise UsageError("one date or all dates, not both")
    card = model.card
    stack = open_stack(scene, card.polarisation, model_columns(model))
    if every:
        targets: tuple[int, ...] = tuple(range(len(stack.dates)))
    elif date is None:
        targets = (len(stack.dates) - 1,)
    else:
        targets = (_target(stack, date),)
    if not every:
        _all_within_reach(stack, targets[0])
    grid = stack.grid
    plan = Plan(model, stack, targets, ())
    past = any(CONTEXT[name][1] == "history" for name in _contexts(plan))
    read = len(stack.dates) if past else len(plan.acquisitions)
    windows = tuple(blocks(grid.height, grid.width, stack.tile, read))
    return replace(plan, windows=windows)


def model_columns(model: Model) -> list[str]:
    """The columns a model reads beside its backscatter."""
    card = model.card
    return [
        *([card.wcm.vegetation_name] if card.wcm else []),
        *(["angle_deg"] if card.wcm and card.wcm.needs_angle else []),
        *card.names("dynamic"),
        *card.names("static"),
    ]


def blocks(height: int, width: int, tile: tuple[int, int], acquisitions: int) -> Iterator[Window]:
    """Windows that cover the grid once, row by row, made of whole stored tiles if they can be.

    >>> [tuple(block) for block in blocks(100, 700, (64, 64), 1)]
    [(0, 0, 100, 512), (0, 512, 100, 188)]
    >>> [tuple(block) for block in blocks(2500, 4000, (1, 4000), 8)][:2]
    [(0, 0, 32, 4000), (32, 0, 32, 4000)]
    """
    pixels = max(1, min(BLOCK_NUMBERS // acquisitions, BLOCK_SIDE**2))
    if tile[1] >= width and width * tile[0] <= pixels:  # stored in strips: read whole strips
        rows, cols = tile[0] * (pixels // (width * tile[0])), width
    else:
        side = int(pixels**0.5)
        rows = cols = max(16, side // 64 * 64 or side)
    rows, cols = min(rows, height), min(cols, width)
    for row in range(0, height, rows):
        for col in range(0, width, cols):
            yield Window(row, col, min(rows, height - row), min(cols, width - col))


def retrieve_block(plan: Plan, reader: Reader, window: Window, context: Context) -> Block:
    """One block of the map: (K, height, width)."""
    shared = _Shared(plan, reader, window, context)

    def column(name: str, acquisition: int) -> tuple[NDArray[np.float64], ArrayLike]:
        if name in CONTEXT and not plan.stack.has(name):
            return shared.value(name, acquisition)
        return reader.column(name, acquisition, window).ravel(), False

    parts = retrieve_columns(
        plan.model,
        plan.stack.dates,
        plan.targets,
        window.height * window.width,
        column,
        [name for name in FROZEN_BY if name in plan.stack.layers],
    )
    shape = (len(plan.targets), window.height, window.width)
    return Block(
        *(
            np.concatenate([getattr(part, name) for part in parts]).reshape(shape)
            for name in ("sm", "lower", "upper", "flags")
        )
    )


def retrieve_columns(
    model: Model,
    dates: NDArray[np.datetime64],
    targets: Sequence[int],
    pixels: int,
    column: Column,
    frozen_by: Sequence[str] = (),
) -> list[Retrieval]:
    """Retrievals of N pixels at each of ``targets``, indices into ``dates`` (D,), ascending.

    column: of a name and an index into dates, (N,) values as a table has them, and where
    (N,) a context among them is made of too little. Each is asked for once, isolation is
    done once per acquisition, however many targets look back on it.
    frozen_by: ``temp_c`` or ``snow_cover`` where column has them.
    """
    card = model.card
    acquisitions = range(max(0, targets[0] - card.steps + 1), targets[-1] + 1)
    count = len(acquisitions) * pixels
    lacking = np.zeros((len(acquisitions), pixels), bool)

    def acquired(name: str) -> NDArray[np.float32]:
        """(A * N,) of one column, one acquisition after the other."""
        out = np.empty((len(acquisitions), pixels), np.float32)
        for a, acquisition in enumerate(acquisitions):
            out[a], too_little = column(name, acquisition)
            lacking[a] |= too_little
        return out.reshape(-1)

    frozen = np.zeros(count, bool)
    for name in frozen_by:
        frozen |= frozen_or_snow(name, acquired(name))
    since = (dates - dates[0]) / np.timedelta64(86400, "s")
    dynamic = [acquired(name) for name in card.names("dynamic")]
    statics = [acquired(name) for name in card.names("static")]
    observed = Observations(
        site=np.empty(0, np.str_),  # windows are given, no site is looked at
        day=np.repeat(since[list(acquisitions)], pixels),
        sigma0_db=acquired(f"{card.polarisation}_db"),
        vegetation=acquired(card.wcm.vegetation_name) if card.wcm else None,
        angle_deg=acquired("angle_deg") if card.wcm and card.wcm.needs_angle else None,
        dynamic=np.stack(dynamic, axis=1) if dynamic else np.zeros((count, 0), np.float32),
        statics=np.stack(statics, axis=1) if statics else np.zeros((count, 0), np.float32),
        frozen=frozen,
        context_missing=lacking.reshape(-1),
    )
    parts = []
    for target in targets:
        back = np.arange(target - card.steps + 1, target + 1) - acquisitions[0]
        rows = np.where(back >= 0, back * pixels + np.arange(pixels)[:, None], -1)
        parts.append(model.estimate(observed, rows, observed.statics[rows[:, -1]]))
    return parts


def make_context(plan: Plan, threads: int = 1) -> Context:
    """The scene's and the paddocks' means, where the model reads them and no layer gives them.

    Backscatter in linear power, NDVI as it is, over the pixels with a value on that date:
    all of the scene's, or those whose centre lies in the paddock. The same arithmetic as
    :mod:`kgsm_infer.context` does on the rows of a table.
    """
    asked = _contexts(plan)
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

    for _, parts in _in_order(plan, range(len(plan.windows)), sums, threads):
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


@contextmanager
def worked_out(
    plan: Plan,
    output: Path,
    *,
    threads: int = 1,
    windows: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> Iterator[Work]:
    """Compute every block of a plan into work files beside ``output``, or go on where a
    run before ended; the work files are removed when the body is done.

    windows: indices of the blocks that are wanted; None for all.
    MissingError where the disk cannot hold them, UsageError where another run is at it.
    """
    if output.is_dir() and output.suffix != ".zarr":
        raise UsageError(f"{output}: is a folder; name a file to write")
    if not output.parent.is_dir():
        raise UsageError(f"{output}: the folder {output.parent} does not exist; make it first")
    wanted = list(range(len(plan.windows)) if windows is None else windows)
    folder = output.parent / f".{output.name}.work"
    with _explained(output, folder), _locked(folder, output):
        done = _begin(plan, folder, wanted)
        todo = [index for index in wanted if not done[index]]
        pixels = [plan.windows[i].height * plan.windows[i].width for i in wanted]
        ready = sum(plan.windows[i].height * plan.windows[i].width for i in wanted if done[i])
        if progress:
            progress(ready, sum(pixels))
        if todo:
            context = make_context(plan, threads)

            def compute(reader: Reader, window: Window) -> Block:
                return retrieve_block(plan, reader, window, context)

            with _Writer(plan, folder) as writer:
                for index, block in _in_order(plan, todo, compute, threads):
                    writer.write(index, block)
                    if progress:
                        ready += plan.windows[index].height * plan.windows[index].width
                        progress(ready, sum(pixels))
        yield Work(folder, plan, threads)
        shutil.rmtree(folder)


def map_scene(
    model: Model,
    scene: Scene,
    output: str | Path,
    *,
    date: str | None = None,
    every: bool = False,
    threads: int = 1,
    outlines: Outlines | None = None,
    progress: Progress | None = None,
    quicklook: str | Path | None = None,
) -> dict[str, int]:
    """Map a scene to a COG (.tif), CF NetCDF (.nc) or Zarr (.zarr) file.

    date, every: as :func:`plan_map`.  threads: blocks worked on at a time.
    outlines: paddocks, for a model that takes context from fields and for the quick look.
    quicklook: a PNG of the last mapped date.  Returns pixels, pixels with a number and
    dates. The output appears whole or not at all; a stopped run is continued by the same
    call.
    """
    from .cube import writer_for

    output = Path(output)
    write = writer_for(output)
    with gdal():
        plan = plan_map(model, scene, date=date, every=every)
        if outlines is not None:
            from ..paddocks.of_scene import on_stack

            usable = (item for item in on_stack(plan.stack, outlines) if isinstance(item, dict))
            plan = replace(plan, paddocks=tuple(usable))
        if output.suffix.lower() in (".tif", ".tiff") and len(plan.targets) > 1:
            raise UsageError(f"{output}: a COG holds one date; name a .nc or .zarr file for all")
        with worked_out(plan, output, threads=threads, progress=progress) as work:
            write(work, output)
            if quicklook is not None:
                from .picture import draw_map

                draw_map(quicklook, work)
            return _counts(work)


def _counts(work: Work) -> dict[str, int]:
    plan = work.plan
    numbers = sum(
        int(np.isfinite(work.read("sm", k, window)).sum())
        for k in range(len(plan.targets))
        for window in plan.windows
    )
    grid = plan.stack.grid
    return {
        "dates": len(plan.targets),
        "pixels": len(plan.targets) * grid.height * grid.width,
        "numbers": numbers,
    }


def _target(stack: Stack, date: str) -> int:
    wanted = asked_day(date)
    found = np.flatnonzero(stack.dates.astype("datetime64[D]") == wanted)
    if not len(found):
        nearest = stack.dates[np.argmin(np.abs(stack.dates - wanted.astype("datetime64[s]")))]
        raise DataError(
            f"{stack.source}: no acquisition of {date}; the nearest of its {len(stack.dates)} is "
            f"{np.datetime_as_string(nearest, 'D')}"
        )
    return int(found[-1])


def _all_within_reach(stack: Stack, target: int) -> None:
    """DataError where a layer has nothing for the mapped date: the map would be empty."""
    when = stack.dates[target]
    for layer in stack.layers.values():
        if within_reach(layer, when):
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


def _labels(plan: Plan, window: Window) -> NDArray[np.int64]:
    """(pixels,) index of the paddock each pixel's centre lies in, the first of several; -1."""
    labels = np.full((window.height, window.width), -1, np.int64)
    if plan.paddocks:
        from rasterio import Affine
        from rasterio.features import rasterize

        transform = Affine(*plan.stack.grid.transform) @ Affine.translation(window.col, window.row)
        backwards = list(enumerate(plan.paddocks))[::-1]  # what is burnt last stands
        rasterize(
            [(geometry, index) for index, geometry in backwards], out=labels, transform=transform
        )
    return labels.ravel()


def _contexts(plan: Plan) -> list[str]:
    """The contexts a model reads that no layer gives."""
    card = plan.model.card
    names = (*card.names("dynamic"), *card.names("static"))
    return [name for name in names if name in CONTEXT and not plan.stack.has(name)]


class _Shared:
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


def _in_order(
    plan: Plan,
    indices: Sequence[int],
    work: Callable[[Reader, Window], Any],
    threads: int,
) -> Iterator[tuple[int, Any]]:
    """Work on blocks in threads, at most two per thread at hand; results in their order."""
    mine = local()
    readers: list[Reader] = []

    def one(index: int) -> Any:
        if not hasattr(mine, "reader"):
            mine.reader = Reader(plan.stack)
            readers.append(mine.reader)
        with gdal():  # of this thread: GDAL's warnings go to the log, not to the terminal
            return work(mine.reader, plan.windows[index])

    if threads == 1:
        try:
            for index in indices:
                yield index, one(index)
        finally:
            for reader in readers:
                reader.close()
        return
    rest = iter(indices)
    pool = ThreadPoolExecutor(threads)
    pending: list[tuple[int, Future[Any]]] = [
        (index, pool.submit(one, index)) for index in islice(rest, 2 * threads)
    ]
    try:
        while pending:
            index, future = pending.pop(0)
            result = future.result()
            pending += [(following, pool.submit(one, following)) for following in islice(rest, 1)]
            yield index, result
    finally:
        for _, future in pending:
            future.cancel()
        pool.shutdown(wait=True)
        for reader in readers:
            reader.close()


class _Writer:
    """Writes blocks to the work files; marks them done only when they are on the disk."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._files = {name: os.open(folder / name, os.O_RDWR) for name in VARIABLES}
        self._done = os.open(folder / "done", os.O_RDWR)
        self._unmarked: list[int] = []
        self._synced = time.monotonic()

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            self._mark()
        finally:
            for file in (*self._files.values(), self._done):
                os.close(file)

    def write(self, index: int, block: Block) -> None:
        grid, window = self._plan.stack.grid, self._plan.windows[index]
        for name, dtype in VARIABLES.items():
            values = np.ascontiguousarray(getattr(block, name), dtype)
            for k in range(len(values)):
                for i in range(window.height):
                    at = (k * grid.height + window.row + i) * grid.width + window.col
                    _write_at(self._files[name], values[k, i].tobytes(), at * dtype.itemsize)
        self._unmarked.append(index)
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._mark()

    def _mark(self) -> None:
        for file in self._files.values():
            os.fsync(file)
        for index in self._unmarked:
            _write_at(self._done, b"\1", index)
        os.fsync(self._done)
        self._unmarked.clear()
        self._synced = time.monotonic()


def _write_at(file: int, content: bytes, at: int) -> None:
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written


def _begin(plan: Plan, folder: Path, wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Make the work files, or take up those of the same job; which blocks are done."""
    grid = plan.stack.grid
    pixels = len(plan.targets) * grid.height * grid.width
    job, count = fingerprint(plan, wanted), len(plan.windows)
    known = folder / "job"
    if known.is_file() and known.read_text(encoding="utf-8") == job:
        done = np.frombuffer((folder / "done").read_bytes(), np.uint8)
        sizes = [(folder / name).stat().st_size for name in VARIABLES]
        if len(done) == count and sizes == [pixels * d.itemsize for d in VARIABLES.values()]:
            return np.asarray(done == 1)
    known.unlink(missing_ok=True)
    for item in folder.iterdir():
        if item.name != "lock":
            shutil.rmtree(item) if item.is_dir() else item.unlink()
    try:
        for name, size in [
            *((name, pixels * dtype.itemsize) for name, dtype in VARIABLES.items()),
            ("done", count),
        ]:
            with open(folder / name, "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found out now
                else:
                    file.truncate(size)
                os.fsync(file.fileno())
    except OSError:
        for name in (*VARIABLES, "done"):
            (folder / name).unlink(missing_ok=True)
        raise
    part = folder / "job.part"
    part.write_text(job, encoding="utf-8")
    os.replace(part, known)
    return np.zeros(count, bool)


def fingerprint(plan: Plan, wanted: Sequence[int]) -> str:
    """What a run depends on; a work folder of any other job is not continued."""
    inputs = []
    for name in plan.stack.files:
        match = name.split('"')[1] if '"' in name else name
        with suppress(OSError):
            stat = os.stat(match)
            inputs.append([name, stat.st_size, stat.st_mtime_ns])
    content = {
        "kgsm": __version__,
        "model": [plan.model.role, dict(plan.model.card.graph_sha256), plan.model.card.to_json()],
        "grid": [plan.stack.grid.crs, plan.stack.grid.transform],
        "size": [plan.stack.grid.height, plan.stack.grid.width],
        "dates": [str(date) for date in plan.dates],
        "layers": {name: repr(layer) for name, layer in plan.stack.layers.items()},
        "inputs": inputs,
        "blocks": [tuple(plan.windows[index]) for index in wanted],
        "paddocks": plan.paddocks,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """The work folder, for one process at a time; the kernel lets go when it dies."""
    import fcntl

    new = not folder.exists()
    folder.mkdir(exist_ok=True)
    with open(folder / "lock", "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UsageError(f"{output}: another kgsm-infer is writing it") from None
        try:
            yield
        except BaseException:
            begun = (folder / "job").exists()
            if new and not begun:  # nothing that could be continued
                shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _explained(output: Path, folder: Path) -> Iterator[None]:
    """An OSError of the work files in one line."""
    try:
        yield
    except KgsmError:
        raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise MissingError(
                f"{output}: not written, the disk is full; make room and run the same command "
                f"again (what is done is kept in {folder.name})"
                if (folder / "job").exists()
                else f"{output}: not written, the disk is too full for it"
            ) from None
        raise MissingError(f"{output}: not written ({error.strerror or error})") from None
