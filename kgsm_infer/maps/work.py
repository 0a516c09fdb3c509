"""Work files: every block is brought to the disk and marked, so that a stopped run goes on.

They lie beside the output in ``.NAME.work``. A run that is killed is continued by the same
call, and ends with the same bytes.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..errors import KgsmError, MissingError, UsageError
from ..scenes.grid import Window
from ..scenes.reader import Reader
from .attributes import VARIABLES
from .blocks import Block, retrieve_block
from .context import make_context
from .plan import Plan
from .threads import over_blocks

#: Finished blocks are brought to the disk and marked this often, s.
SYNC_EVERY_S = 2.0
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Work:
    """The result of a plan, finished, in files: (K, H, W) of each of VARIABLES.

    threads: how many may write them out.
    """

    folder: Path
    plan: Plan
    threads: int = 1

    def told(self, variable: str) -> str:
        """The variable's name in the output."""
        return self.plan.model.card.told(variable)

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
                for index, block in over_blocks(plan, todo, compute, threads):
                    writer.write(index, block)
                    if progress:
                        ready += plan.windows[index].height * plan.windows[index].width
                        progress(ready, sum(pixels))
        yield Work(folder, plan, threads)
        shutil.rmtree(folder)


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
        "effects": [asdict(effect) for effect in plan.effects],
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
