"""The spool and the archive: files come whole, get a number, and stay until retention.

A file in the spool is whole when it was renamed into it or closed after writing (inotify says
so), or when its size and time have not changed for ``stable_s``: of writes over NFS or SMB no
event arrives. Names that begin with a dot or end in .part or .tmp are somebody's unfinished work.

Taking a file is renaming it to ``archive/000123-DIGEST-NAME`` with both folders synced. That
name is the log: it is there before anything is stored, and an arrival the database does not
know (its transaction was lost with the power) is worked out again, in the order of the numbers.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ...base.errors import KgsmError, MissingError
from ...base.files import whole

if TYPE_CHECKING:
    from ..store.database import Store

#: What kind of file a name says it is; anything else is refused into quarantine.
KINDS = {
    ".csv": "table",
    ".parquet": "table",
    ".pq": "table",
    ".toml": "scene",
    ".json": "scene",
    ".onnx": "model",
}
#: An arrival made here, of readings that correct a pass; nothing of this name comes in.
PROBES = "probes.json"
#: Rasters lie beside the manifest that names them and stay where they are until it is taken.
BESIDE = (".tif", ".tiff", ".nc", ".zip", ".vrt", ".aux.xml")

_ARCHIVED = re.compile(r"(\d{6,})-([0-9a-f]{64})-(.+)")
#: Errors of a folder that may not be written, as opposed to a file that is gone.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Archived:
    """A taken file. number: its place in the order of taking."""

    path: Path
    number: int
    digest: str
    name: str

    @property
    def kind(self) -> str:
        if self.name == PROBES:
            return "probes"
        return KINDS.get(self.path.suffix.lower(), "unknown")


def make_folders(*folders: Path) -> None:
    """Make the folders a gateway works in; MissingError where that cannot be."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MissingError(f"{folder}: cannot be made ({error.strerror})") from None


def waiting(spool: Path) -> list[Path]:
    """Files of the spool that are not somebody's unfinished work, oldest name first."""
    try:
        entries = sorted(os.scandir(spool), key=lambda entry: entry.name)
    except OSError as error:
        raise MissingError(f"{spool}: cannot be read ({error.strerror})") from None
    return [
        Path(entry.path)
        for entry in entries
        if entry.is_file(follow_symlinks=False)
        and not entry.name.startswith(".")
        and not entry.name.lower().endswith((".part", ".tmp", ".filepart", *BESIDE))
    ]


def stamp(path: Path) -> tuple[int, int] | None:
    """Size and time of a file, which stand still once it is whole; None where it is gone."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def digest_of(path: Path) -> str:
    """sha256 of a file; MissingError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from None


def archived(archive: Path) -> list[Archived]:
    """The archive in the order of taking."""
    found = []
    for entry in os.scandir(archive):
        match = _ARCHIVED.fullmatch(entry.name)
        if match:
            found.append(Archived(Path(entry.path), int(match[1]), match[2], match[3]))
    return sorted(found, key=lambda item: item.number)


def next_number(store: Store, archive: Path) -> int:
    """The number of the next file to be taken."""
    return max([item.number for item in archived(archive)] + [*store.sequences()], default=0) + 1


def take(path: Path, digest: str, number: int, archive: Path) -> Archived:
    """Move a file of the spool into the archive under its number, durably.

    Where the spool may not be written, or is another file system, the file is copied; what
    stays behind is known by its digest and not taken again.
    """
    target = archive / f"{number:06d}-{digest}-{path.name}"
    try:
        os.rename(path, target)
    except OSError as error:
        if error.errno not in (*READ_ONLY, errno.EXDEV):
            raise MissingError(f"{path}: cannot be taken ({error.strerror})") from None
        with whole(target, "wb") as copy, path.open("rb") as file:
            shutil.copyfileobj(file, copy)
        with suppress(OSError):
            path.unlink()
    sync_folder(archive)
    sync_folder(path.parent)
    return Archived(target, number, digest, path.name)


def quarantine(path: Path, folder: Path, reason: str) -> Path:
    """Move a bad file aside with ``NAME.reason.txt`` beside it; the reason is written first."""
    name = _ARCHIVED.sub(r"\3", path.name)
    target = _free_name(folder, name)
    with whole(target.with_name(target.name + ".reason.txt")) as file:
        file.write(reason + "\n")
    try:
        os.replace(path, target)
    except OSError as error:
        if error.errno not in (*READ_ONLY, errno.EXDEV):
            raise MissingError(f"{path}: cannot be moved ({error.strerror})") from None
        with suppress(OSError):
            shutil.copyfile(path, target)
            path.unlink()
    sync_folder(folder)
    return target


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    with suppress(OSError):  # a file system that cannot
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def free_mb(folder: Path) -> float:
    """Free space of the disk a folder is on, MB."""
    return shutil.disk_usage(folder).free / 1e6


def limit_folder(paths: Iterable[Path], limit_mb: float) -> list[Path]:
    """Delete the first of ``paths`` until the rest is within a limit; what was deleted."""
    sizes = [(path, (stamp(path) or (0, 0))[0]) for path in paths]
    over = sum(size for _, size in sizes) - limit_mb * 1e6
    gone = []
    for path, size in sizes:
        if over <= 0:
            break
        with suppress(OSError):
            path.unlink()
            gone.append(path)
            over -= size
    return gone


def reason_of(error: KgsmError, path: Path, name: str) -> str:
    """An error's line with the file called as its sender called it."""
    return " ".join(str(error).replace(str(path), name).split())


def _free_name(folder: Path, name: str) -> Path:
    number, target = 1, folder / name
    while target.exists():
        number += 1
        target = folder / f"{number}-{name}"
    return target
