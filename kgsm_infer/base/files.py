"""Write outputs whole or not at all, and never over something else.

A file is written under a temporary name, synced to disk and renamed. :func:`preflight` checks
every output of a command before anything is computed: it must not be an input, a device, or
a folder kgsm did not make. ``-`` and ``/dev/stdout`` are standard output.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
import stat
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import MissingError, UsageError

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing swept
    fcntl = None  # type: ignore[assignment]

#: Marks a folder that a command of kgsm made, and may empty again.
MARKER = ".kgsm"
#: Do not wait for the other end of a pipe.
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
#: Files of a table of results.
RESULTS = (".csv", ".parquet", ".pq")


def is_stdout(path: str | Path) -> bool:
    """Return True if a path means standard output.

    >>> is_stdout("-"), is_stdout("/dev/stdout"), is_stdout("./-")
    (True, True, False)
    """
    return str(path) in ("-", "/dev/stdout")


@contextmanager
def write_whole(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing (``w``, UTF-8, or ``wb``) so that it appears only whole.

    The bytes go to a temporary file in the same folder, reach the disk, and are then
    renamed over ``path``, which keeps its permissions; of a symbolic link the target is
    written. On any error, and when the process is stopped, the old file, if there was one, is
    still there. ``-`` is standard output, written when all is there.

    UsageError for a path that cannot be a file, MissingError for a disk that is full or a
    folder that may not be written.
    """
    if is_stdout(path):
        yield from _standard_output(mode)
        return
    try:
        target = _target(Path(path))
        sweep(target.parent)
        part, file = _new_part(target.parent, mode)
    except OSError as error:
        raise _explained(Path(path), error) from None
    try:
        with file:
            yield file
            file.flush()
            os.fsync(file.fileno())
            if target.exists():
                shutil.copymode(target, part)
            os.replace(part, target)
        sync_folder(target.parent)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _explained(Path(path), error) from None
        raise


def preflight(
    outputs: Iterable[str | Path | None],
    inputs: Iterable[str | Path | None] = (),
    *,
    suffixes: Sequence[str] = (),
    what: str = "results",
) -> None:
    """Refuse outputs that would destroy something, before anything is computed.

    outputs, inputs: paths; None counts for nothing.  suffixes: those the first output may
    have (empty: any).  what: the first output in words.

    UsageError where an output is also read, is written twice, is no regular file (a device,
    a pipe, a folder), has another suffix, or where its folder is not there.
    """
    named = [Path(item) for item in outputs if item is not None]
    files = [item for item in named if not is_stdout(item)]
    if suffixes and named and not is_stdout(named[0]):
        _check_suffix(named[0], suffixes, what)
    read = {_identity(Path(item)): Path(item) for item in inputs if item is not None}
    written: dict[object, Path] = {}
    for file in files:
        try:
            _target(file)
        except OSError as error:
            raise _explained(file, error) from None
        identity = _identity(file)
        if identity in read:
            raise UsageError(f"{file}: is also read; name another file to write")
        if identity in written:
            raise UsageError(f"{file}: would be written twice; name another file")
        written[identity] = file


def own_folder(folder: str | Path, names: Sequence[str]) -> Path:
    """Make a folder for results, or go on in one that kgsm made; returns it.

    names: files and folders that will be written in it. UsageError where one of them is
    there already and the folder has no marker: kgsm did not make it.
    """
    folder = Path(folder)
    try:
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{folder}: is a file; name a folder for the results")
        folder.mkdir(parents=True, exist_ok=True)
        marker = folder / MARKER
        if not marker.is_file():
            taken = [name for name in names if (folder / name).exists()]
            if taken:
                raise UsageError(
                    f"{folder}: holds {taken[0]}, which would be replaced, and no {MARKER} file of "
                    f"ours; name another folder (or put an empty {MARKER} there if it is yours)"
                )
            marker.touch()
    except OSError as error:
        raise _explained(folder, error) from None
    return folder


@contextmanager
def workshop(folder: str | Path) -> Iterator[Path]:
    """Yield a hidden folder for unfinished files of ``folder``, which is made if needed.

    It is removed in any case; that of a killed process is removed by the next call. MissingError
    where the folder cannot be written, or a file in it cannot (a full disk).
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        part = folder / f".kgsm-{os.urandom(6).hex()}.parts"
        part.mkdir(mode=0o700)
        lock = open(part / _LOCK, "wb")  # noqa: SIM115  held as long as the folder
        _lock(lock)
    except OSError as error:
        raise _explained(folder / "results", error) from None
    try:
        yield part
    except OSError as error:
        if _is_of(error, part):
            raise _not_written(folder, error) from None
        raise
    finally:
        lock.close()
        shutil.rmtree(part, ignore_errors=True)


def check_room(workshop_folder: Path, needed_bytes: int) -> None:
    """Refuse to begin a file that the disk has no room for, with MissingError."""
    if shutil.disk_usage(workshop_folder).free < needed_bytes:
        raise MissingError(f"{workshop_folder.parent}: not written, the disk is full")


#: The file in a workshop whose lock says that its process is alive.
_LOCK = ".lock"
#: Seconds after which a workshop without a lock file was left by a killed process.
_NO_LOCK_S = 60.0


def sweep(folder: Path) -> None:
    """Remove temporary files and folders of dead processes: those whose lock is free."""
    for part in folder.glob(".kgsm-*.part"):
        with suppress(OSError), _held(part):
            part.unlink()
    for part in folder.glob(".kgsm-*.parts"):
        with suppress(OSError):
            if (part / _LOCK).is_file():
                with _held(part / _LOCK):
                    shutil.rmtree(part, ignore_errors=True)
            elif time.time() - part.stat().st_mtime > _NO_LOCK_S:
                shutil.rmtree(part, ignore_errors=True)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock of a regular file; OSError where another process holds it."""
    # neither a link nor a pipe may stop or mislead the sweep
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | _NONBLOCK)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        if fcntl is None:
            raise OSError(errno.ENOLCK, "no locks on this system")
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)


def _new_part(folder: Path, mode: str) -> tuple[Path, IO[Any]]:
    """Create and lock a temporary file.

    Between the two a sweep of another process may remove it; then the next name is tried.
    """
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    while True:
        part = folder / f".kgsm-{os.urandom(6).hex()}.part"  # short: names have a limit
        file = open(part, mode.replace("w", "x"), **text)  # type: ignore[call-overload]  # noqa: SIM115
        if _lock(file) and os.fstat(file.fileno()).st_nlink > 0:
            return part, file
        file.close()
        with suppress(OSError):
            part.unlink()


def _standard_output(mode: str) -> Iterator[IO[Any]]:
    buffer: IO[Any] = io.BytesIO() if "b" in mode else io.StringIO(newline="")
    yield buffer
    content = buffer.getvalue()  # type: ignore[attr-defined]
    raw = content if isinstance(content, bytes) else content.encode("utf-8")
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(raw)
        sys.stdout.buffer.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise _explained(Path("standard output"), error) from None


def _target(path: Path) -> Path:
    """Return the file that is really written: the target of a symbolic link.

    UsageError where that is there and no regular file, or its folder is not there.
    """
    try:
        target = Path(os.path.realpath(path))
    except ValueError:  # a zero byte
        raise UsageError(f"{str(path)!r}: cannot be the name of a file") from None
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        if not target.parent.is_dir():
            raise UsageError(
                f"{path}: the folder {path.parent} does not exist; make it first"
            ) from None
        return target
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise UsageError(f"{path}: is a symbolic link that leads in a circle") from None
        raise
    if stat.S_ISDIR(mode):
        if target.suffix != ".zarr":  # a Zarr store is a folder
            raise UsageError(f"{path}: is a folder; name a file to write")
    elif not stat.S_ISREG(mode):
        raise UsageError(f"{path}: is no regular file (a device or a pipe); name a file to write")
    return target


def _identity(path: Path) -> object:
    """Return one key for all paths to one file, links and mounts included."""
    try:
        found = os.stat(path)
        return (found.st_dev, found.st_ino)
    except (OSError, ValueError):
        return os.path.realpath(path) if "\0" not in str(path) else str(path)


def _check_suffix(path: Path, suffixes: Sequence[str], what: str) -> None:
    if path.suffix.lower() not in suffixes:
        *most, last = suffixes
        told = f"{', '.join(most)} or {last}" if most else last
        raise UsageError(f"{path}: {what} are written as {told}")


def _lock(file: IO[Any]) -> bool:
    """Lock a file as long as this process lives; False where another process holds it."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:  # a file system without locks: nothing is swept there either
        return True
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the file system can."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(path: Path, error: OSError) -> Exception:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    return _not_written(path, error)


def _not_written(path: Path, error: OSError) -> MissingError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MissingError(f"{path}: not written, the disk is full")
    return MissingError(f"{path}: not written ({error.strerror or error})")


def _is_of(error: OSError, folder: Path) -> bool:
    """Return True for an error of a file in a folder, or of a write to an open file."""
    if error.filename is not None:
        return folder in Path(os.fsdecode(error.filename)).parents
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


def write_at(file: int, content: bytes | memoryview, at: int) -> None:
    """Write content to an open file from byte ``at`` on, in as many calls as the system needs."""
    content = memoryview(content)
    while content:
        written = os.pwrite(file, content, at)
        content, at = content[written:], at + written
