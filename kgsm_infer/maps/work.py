"""Work files of a map: every finished block is synced and marked, so a stopped run can continue.

They are in ``.NAME.work`` in the folder of the output. The same call continues a run that was
killed, and the output has the same bytes.
"""

from __future__ import annotations

import errno
import os
import shutil
import stat
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..base.errors import KgsmError, MissingError, UsageError
from ..base.files import MARKER, write_at
from ..base.fingerprint import code_digest, file_stamp
from ..base.fingerprint import fingerprint as fingerprint_of
from ..scenes.grid import Grid, Window
from ..scenes.layers import file_of
from ..scenes.reader import Reader
from .attributes import VARIABLES
from .blocks import Block, retrieve_block
from .context import make_context
from .options import ONE_THREAD, Execution
from .plan import Plan
from .threads import over_blocks

#: Interval at which finished blocks are synced and marked, s.
SYNC_EVERY_S = 2.0
#: A block's entry in the file ``done``: 0, or a bit and its checksum.
_MARK = np.dtype("<u8")


@dataclass(frozen=True)
class Work:
    """The finished result of a plan in files: (K, H, W) of each of VARIABLES.

    threads: number of threads that may write the output.
    """

    folder: Path
    plan: Plan
    threads: int = 1

    def name_of(self, variable: str) -> str:
        """Return the variable's name in the output."""
        return self.plan.model.card.retrieves.column_of(variable)

    def read(self, variable: str, k: int, window: Window) -> NDArray[Any]:
        """Read a window of one variable and target."""
        grid, dtype = self.plan.stack.grid, VARIABLES[variable]
        with open(self.folder / variable, "rb", buffering=0) as file:
            parts = [
                os.pread(file.fileno(), size, at)
                for at, size in _spans(grid, window, k, dtype.itemsize)
            ]
        return np.frombuffer(b"".join(parts), dtype).reshape(window.height, window.width)


@contextmanager
def compute_map(
    plan: Plan,
    output: Path,
    execution: Execution = ONE_THREAD,
    *,
    windows: Sequence[int] | None = None,
    room: int = 0,
) -> Iterator[Work]:
    """Compute every block of a plan into work files, or continue an earlier run.

    The work files are removed when the body ends.

    windows: indices of the blocks that are wanted; None for all.  room: bytes the output needs.
    MissingError where the disk cannot hold them, UsageError where another run writes the same
    output.
    """
    output = Path(os.path.realpath(output))
    if output.is_dir() and output.suffix != ".zarr":
        raise UsageError(f"{output}: is a folder; name a file to write")
    if output.is_dir() and any(output.iterdir()) and not (output / MARKER).is_file():
        raise UsageError(
            f"{output}: is a folder without a {MARKER} file of ours, so it is not replaced; "
            "move it away"
        )
    if not output.parent.is_dir():
        raise UsageError(f"{output}: the folder {output.parent} does not exist; make it first")
    wanted = list(range(len(plan.windows)) if windows is None else windows)
    folder = output.parent / f".{output.name}.work"
    with _explained(output, folder), _locked(folder, output):
        done = _begin(plan, folder, wanted, room)
        todo = [index for index in wanted if not done[index]]
        pixels = [plan.windows[i].height * plan.windows[i].width for i in wanted]
        ready = sum(plan.windows[i].height * plan.windows[i].width for i in wanted if done[i])
        progress = execution.progress
        if progress:
            progress(ready, sum(pixels))
        if todo:
            context = make_context(plan, execution.threads)

            def compute(reader: Reader, window: Window) -> Block:
                return retrieve_block(plan, reader, window, context)

            with _Writer(plan, folder) as writer:
                for index, block in over_blocks(plan, todo, compute, execution.threads):
                    writer.write(index, block)
                    if progress:
                        ready += plan.windows[index].height * plan.windows[index].width
                        progress(ready, sum(pixels))
        _check_all(plan, folder, wanted, output)
        yield Work(folder, plan, execution.threads)
        shutil.rmtree(folder)


def _check_all(plan: Plan, folder: Path, wanted: Sequence[int], output: Path) -> None:
    """Raise MissingError where a block differs from what was computed.

    The next run computes it again.
    """
    marks = np.fromfile(folder / "done", _MARK)
    for index in wanted:
        if marks[index] != _mark_of(plan, folder, index):
            raise MissingError(
                f"{output}: not written, a work file does not read back as it was computed "
                "(a failing disk?); run the same command again"
            )


class _Writer:
    """Writes blocks to the work files; marks them done only when they are on the disk."""

    def __init__(self, plan: Plan, folder: Path) -> None:
        self._plan = plan
        self._files = {
            name: os.open(folder / name, os.O_RDWR | os.O_NOFOLLOW) for name in VARIABLES
        }
        self._done = os.open(folder / "done", os.O_RDWR)
        self._unmarked: list[tuple[int, np.uint64]] = []
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
        planes = {
            name: np.ascontiguousarray(getattr(block, name), dtype)
            for name, dtype in VARIABLES.items()
        }
        for name, dtype in VARIABLES.items():
            values = planes[name]
            for k in range(len(values)):
                content = memoryview(values[k].tobytes())
                for at, size in _spans(grid, window, k, dtype.itemsize):
                    write_at(self._files[name], content[:size], at)
                    content = content[size:]
        self._unmarked.append((index, _mark(planes)))
        if time.monotonic() - self._synced > SYNC_EVERY_S:
            self._mark()

    def _mark(self) -> None:
        for file in self._files.values():
            os.fsync(file)
        for index, mark in self._unmarked:
            write_at(self._done, mark.astype(_MARK).tobytes(), index * _MARK.itemsize)
        os.fsync(self._done)
        self._unmarked.clear()
        self._synced = time.monotonic()


def _spans(grid: Grid, window: Window, k: int, itemsize: int) -> list[tuple[int, int]]:
    """Return start and size in bytes of the pieces that hold a window of target ``k``."""
    first = (k * grid.height + window.row) * grid.width + window.col
    if window.width == grid.width:
        return [(first * itemsize, window.height * window.width * itemsize)]
    return [
        ((first + row * grid.width) * itemsize, window.width * itemsize)
        for row in range(window.height)
    ]


def _begin(plan: Plan, folder: Path, wanted: Sequence[int], room: int) -> NDArray[np.bool_]:
    """Make the work files, or take up those of the same job; which blocks are done.

    room: bytes that must be left for the output. Blocks whose checksum does not fit what the
    disk holds are not done.
    """
    grid = plan.stack.grid
    pixels = len(plan.targets) * grid.height * grid.width
    job, count = fingerprint(plan, wanted), len(plan.windows)
    sizes = {name: pixels * dtype.itemsize for name, dtype in VARIABLES.items()}
    sizes["done"] = count * _MARK.itemsize
    for item in folder.iterdir():  # nothing but our own files is followed or kept
        if item.name in (*sizes, "job", MARKER) and stat.S_ISREG(item.lstat().st_mode):
            continue
        _remove(item)
    known = folder / "job"
    if (
        known.is_file()
        and known.read_text(encoding="utf-8", errors="replace") == job
        and all((folder / name).is_file() for name in sizes)
        and {name: (folder / name).stat().st_size for name in sizes} == sizes
    ):
        marks = np.fromfile(folder / "done", _MARK)
        sound = [bool(marks[i]) and marks[i] == _mark_of(plan, folder, i) for i in range(count)]
        _leave_room(folder, room)
        return np.asarray(sound, bool)
    known.unlink(missing_ok=True)
    try:
        for name, size in sizes.items():
            with open(folder / name, "wb") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, size)  # a full disk is found out now
                else:
                    file.truncate(size)
                os.fsync(file.fileno())
        _leave_room(folder, room)
    except OSError:
        for name in sizes:
            (folder / name).unlink(missing_ok=True)
        raise
    part = folder / "job.part"
    part.write_text(job, encoding="utf-8")
    os.replace(part, known)
    return np.zeros(count, bool)


def _leave_room(folder: Path, room: int) -> None:
    """Raise OSError where less than ``room`` bytes are left on the disk."""
    if shutil.disk_usage(folder).free < room:
        raise OSError(errno.ENOSPC, "no room for the output")


def _remove(item: Path) -> None:
    """Remove a file, a link itself, or a folder and its content; no link is followed."""
    if item.is_dir() and not item.is_symlink():
        shutil.rmtree(item)
    else:
        item.unlink()


def _mark_of(plan: Plan, folder: Path, index: int) -> np.uint64:
    """Return the entry of ``done`` for a block as it is on the disk."""
    work, window = Work(folder, plan), plan.windows[index]
    planes = {
        name: np.stack([work.read(name, k, window) for k in range(len(plan.targets))])
        for name in VARIABLES
    }
    return _mark(planes)


def _mark(planes: Mapping[str, NDArray[Any]]) -> np.uint64:
    """Return a block's checksum, never 0, which is not done."""
    check = 0
    for name in VARIABLES:
        check = zlib.crc32(planes[name].tobytes(), check)
    return np.uint64(1 << 32 | check)


#: Rooms that compute a map.
CODE = tuple(
    f"kgsm_infer.{room}"
    for room in ("base", "kernels", "tables", "context", "model", "scenes", "probes", "maps")
)


def fingerprint(plan: Plan, wanted: Sequence[int]) -> str:
    """Return the key of a run; a work folder with another key is not continued."""
    content = {
        "code": code_digest(*CODE),
        "engine": engine_in_words(plan.model.engine),
        "model": [plan.model.role, dict(plan.model.card.graph_sha256), plan.model.card.to_json()],
        "grid": [plan.stack.grid.crs, plan.stack.grid.transform],
        "size": [plan.stack.grid.height, plan.stack.grid.width],
        "dates": [str(date) for date in plan.dates],
        "layers": {name: repr(layer) for name, layer in plan.stack.layers.items()},
        "inputs": [[name, *file_stamp(file_of(name))] for name in plan.stack.files],
        "blocks": [tuple(plan.windows[index]) for index in wanted],
        "paddocks": plan.paddocks,
        "hold": plan.hold_vegetation_days,
        "effects": [asdict(effect) for effect in plan.effects],
    }
    return fingerprint_of(content)


def engine_in_words(engine: str) -> str:
    """Return the engine, the C core's tier, and onnxruntime's version where it is used.

    They agree to 1e-5, not to the bit, so what one began no other may end.
    """
    words = f"{engine}, kernels {kernels.in_use()}"
    if engine == "onnxruntime":
        with suppress(PackageNotFoundError):
            words += f", onnxruntime {version('onnxruntime')}"
    return words


@contextmanager
def _locked(folder: Path, output: Path) -> Iterator[None]:
    """Lock the work folder for one process; the kernel releases the lock when it dies.

    The lock file is outside the folder, so removing the folder keeps it. UsageError where
    another process holds the lock, or where the folder was not made by kgsm.
    """
    lock = folder.with_suffix(".lock")
    with _held(lock, output):
        new = not os.path.lexists(folder)
        if new:
            folder.mkdir()
            (folder / MARKER).touch()
        elif folder.is_symlink() or not (folder / MARKER).is_file():
            raise UsageError(
                f"{output}: {folder.name} is where its work files would be, and "
                f"has no {MARKER} file of kgsm; move it away"
            )
        try:
            yield
        except BaseException:
            begun = (folder / "job").exists()
            if new and not begun:  # nothing that could be continued
                shutil.rmtree(folder, ignore_errors=True)
            raise


@contextmanager
def _held(path: Path, output: Path) -> Iterator[None]:
    """Hold a lock file, removed before its release: a waiting process checks it again."""
    import fcntl

    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        lock = os.open(path, flags, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(lock)
            raise UsageError(f"{output}: another kgsm-infer is writing it") from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(path), os.fstat(lock)):
                break
        os.close(lock)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(lock)


@contextmanager
def _explained(output: Path, folder: Path) -> Iterator[None]:
    """Describe an OSError of the work files in one line."""
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
