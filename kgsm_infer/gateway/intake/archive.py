"""The archive of processed files, which is the log of the gateway.

``archive/000123-DIGEST.csv`` is the arrival with number 123: the file itself, renamed out of the
spool. Its sidecar ``000123-DIGEST.about.json`` holds what the file lacks: its original name
(escaped), the kind of file it was made from, its size and time, and the decisions that depended
on the clock. Both are on the disk before anything is stored, so an arrival that the database does
not know is processed again, in the order of the numbers and with the same decisions.

Archives of earlier versions (``000123-DIGEST-NAME``) are read too.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from ...base.errors import KgsmError, MissingError
from ...base.files import sync_folder, write_whole
from ...base.schema import Choices, Range, build, parse_json
from ..keys import escape_name

if TYPE_CHECKING:
    from ..store.database import Store

#: Kind of an archived file by its suffix.
KINDS = {
    ".csv": "table",
    ".parquet": "table",
    ".pq": "table",
    ".probes": "probes",
    ".removal": "removal",
    ".rules": "rules",
}
#: Number (SQLite stores 18 digits) and digest, then the kind, or the original name in archives of
#: earlier versions.
_NAME = re.compile(r"(\d{6,18})-([0-9a-f]{64})(?:\.[a-z]+|-(.+))", re.DOTALL)
_EARLIER_PROBES = "probes.json"
_ABOUT = ".about.json"
_ARRIVALS = ("table", "scene", "rain", "irrigation", "probes", "removal", "rules", "unknown")
_YEAR_10000_S = 253_402_300_800
#: Errors of a folder that cannot be written, as opposed to a file that is gone.
READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)


@dataclass(frozen=True)
class Stamp:
    """Size in bytes and time of the last write, ns: equal while a file is not written to."""

    size: int
    mtime_ns: int


@dataclass(frozen=True)
class About:
    """Properties of an archived file that it does not contain.

    name: original name, escaped.  kind: table, scene, rain, irrigation, probes, removal or rules.
    stamp: of the archived file, None if unknown.
    clock_s: time of the date guard, seconds since 1970; rows later than a day after it were
        refused. None: unknown.
    batch: number of the first arrival that was processed together with it; daily values were
        computed after the last one.
    """

    name: str
    kind: Annotated[str, Choices(_ARRIVALS)] = "table"
    stamp: Stamp | None = None
    clock_s: Annotated[int, Range(0, below=_YEAR_10000_S)] | None = None
    batch: Annotated[int, Range(0)] | None = None


@dataclass(frozen=True)
class Archived:
    """A file of the archive. number: its place in the order of arrival."""

    path: Path
    number: int
    digest: str
    earlier_name: str | None = field(default=None, compare=False)

    @cached_property
    def about(self) -> About:
        """The content of the sidecar; defaults without one, or where it is damaged."""
        if self.earlier_name is not None:
            kind = KINDS.get(self.path.suffix.lower(), "unknown")
            kind = "probes" if self.earlier_name == _EARLIER_PROBES else kind
            return About(escape_name(self.earlier_name), kind)
        plain = About(self.path.name, KINDS.get(self.path.suffix, "unknown"))
        try:
            raw = {"name": plain.name, "kind": plain.kind, **parse_json(self.sidecar.read_bytes())}
            stamp = raw.pop("stamp", None)  # its ns are beyond the whole numbers of settings
            about = build(About, raw)
            return replace(about, stamp=Stamp(**stamp)) if stamp else about
        except (KgsmError, OSError, ValueError, TypeError):
            return plain

    @property
    def sidecar(self) -> Path:
        """The path of the sidecar."""
        return self.path.with_name(f"{self.number:06d}-{self.digest}{_ABOUT}")

    @property
    def name(self) -> str:
        """The original name, escaped."""
        return self.about.name

    @property
    def kind(self) -> str:
        """table, scene, rain, irrigation, probes, removal, or unknown."""
        return self.about.kind

    def write_about(self, about: About) -> Archived:
        """Write the sidecar, durably; returns the file with it."""
        content = {key: value for key, value in asdict(about).items() if value is not None}
        with write_whole(self.sidecar) as file:
            json.dump(content, file, ensure_ascii=True, sort_keys=True)
        return Archived(self.path, self.number, self.digest)

    def remove(self) -> None:
        """Remove the file and its sidecar; errors of the folder are ignored."""
        for path in (self.path, self.sidecar):
            with suppress(OSError):
                path.unlink()


def list_archive(archive: Path) -> list[Archived]:
    """List the archive in the order of arrival; MissingError if it cannot be read."""
    return sorted(
        (_archived(archive, name) for name in _names(archive)), key=lambda item: item.number
    )


def numbers_of(archive: Path, digest: str) -> list[int]:
    """Return the numbers under which a file is archived, ascending. digest: its sha256."""
    items = (_archived(archive, name) for name in _names(archive) if digest in name)
    return sorted(item.number for item in items if item.digest == digest)


def next_number(store: Store, archive: Path) -> int:
    """Return the number of the next arrival."""
    return max([store.last_sequence(), *(int(name.split("-")[0]) for name in _names(archive))]) + 1


def _names(archive: Path) -> list[str]:
    """Return the names of the archived files; MissingError if the folder cannot be read."""
    try:
        names = os.listdir(archive)
    except OSError as error:
        raise MissingError(f"{archive}: cannot be read ({error.strerror})") from None
    return [name for name in names if not name.endswith(_ABOUT) and _NAME.fullmatch(name)]


def _archived(archive: Path, name: str) -> Archived:
    match = _NAME.fullmatch(name)
    assert match is not None, name
    return Archived(archive / name, int(match[1]), match[2], match[3])


def move_to_archive(path: Path, archive: Path, number: int, digest: str, about: About) -> Archived:
    """Move a file of the spool into the archive under its number, durably.

    The digest is verified after the move, because another file may have been renamed over
    ``path`` since it was computed: the archived file always carries its own digest.
    A spool that cannot be written, or is another file system, is copied from; the file that
    stays behind is recognised by its digest.
    """
    item = Archived(archive / f"{number:06d}-{digest}{_suffix(path, about)}", number, digest)
    item = item.write_about(about)
    try:
        os.rename(path, item.path)
    except OSError as error:
        if error.errno not in (*READ_ONLY, errno.EXDEV):
            raise MissingError(f"{path}: cannot be moved ({error.strerror})") from None
        with write_whole(item.path, "wb") as copy, path.open("rb") as file:
            shutil.copyfileobj(file, copy)
        with suppress(OSError):
            path.unlink()
    sync_folder(archive)
    sync_folder(path.parent)
    return rename_by_digest(item, number)


def rename_by_digest(item: Archived, number: int) -> Archived:
    """Rename an archived file whose content has another digest; returns it with its stamp.

    number: what it is renamed to. A file that a process still writes to is renamed again later.
    """
    before = stamp_of(item.path)
    digest = digest_of(item.path)
    about = replace(item.about, stamp=before)
    if digest == item.digest and number == item.number and item.earlier_name is None:
        return item if item.about == about else item.write_about(about)
    target = item.path.with_name(f"{number:06d}-{digest}{_suffix(item.path, about)}")
    renamed = Archived(target, number, digest).write_about(about)
    os.rename(item.path, target)
    with suppress(OSError):
        item.sidecar.unlink()
    sync_folder(target.parent)
    return renamed


def write_to_archive(content: bytes, archive: Path, number: int, about: About) -> Archived:
    """Write an arrival that the gateway made itself (probe readings), durably."""
    digest = hashlib.sha256(content).hexdigest()
    item = Archived(archive / f"{number:06d}-{digest}.{about.kind}", number, digest)
    item = item.write_about(about)
    with write_whole(item.path, "wb") as file:
        file.write(content)
    sync_folder(archive)
    return item


def move_to_quarantine(path: Path, folder: Path, name: str, reason: str) -> Path:
    """Move a bad file to ``folder``, and before it write ``NAME.reason.txt`` there.

    name: original name, escaped. It is shortened where a file system could not hold it.
    """
    target = _free_name(folder, name)
    with write_whole(target.with_name(target.name + ".reason.txt")) as file:
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


def stamp_of(path: Path) -> Stamp | None:
    """Return size and time of a file, None if it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return Stamp(status.st_size, status.st_mtime_ns)


def digest_of(path: Path) -> str:
    """Return the sha256 of a file; MissingError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise MissingError(f"{path}: cannot be read ({error.strerror})") from None


def make_folders(*folders: Path) -> None:
    """Create the folders of a gateway; MissingError if one cannot be created."""
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MissingError(f"{folder}: cannot be created ({error.strerror})") from None


def free_mb(folder: Path) -> float:
    """Return the free space of the disk of a folder, MB."""
    return shutil.disk_usage(folder).free / 1e6


def limit_folder(
    paths: Iterable[Path], limit_mb: float, limit_count: int | None = None
) -> list[Path]:
    """Delete files from the first on until the rest is within the limits; returns the deleted."""
    sizes = [(path, stamp.size if (stamp := stamp_of(path)) else 0) for path in paths]
    over = sum(size for _, size in sizes) - limit_mb * 1e6
    many = 0 if limit_count is None else len(sizes) - limit_count
    gone: list[Path] = []
    for path, size in sizes:
        if over <= 0 and len(gone) >= many:
            break
        with suppress(OSError):
            path.unlink()
            gone.append(path)
            over -= size
    return gone


def remove_orphans(archive: Path) -> None:
    """Remove sidecars whose file is gone."""
    names = set(os.listdir(archive))
    stems = {name.rsplit(".", 1)[0] for name in names if not name.endswith(_ABOUT)}
    for name in names:
        if name.endswith(_ABOUT) and name.removesuffix(_ABOUT) not in stems:
            with suppress(OSError):
                (archive / name).unlink()


def reason_of(error: KgsmError, path: Path, name: str) -> str:
    """Return an error's text on one line with the file's original name."""
    return " ".join(escape_name(str(error).replace(str(path), name)).split())


def _suffix(path: Path, about: About) -> str:
    if about.kind in ("probes", "removal", "rules"):
        return f".{about.kind}"
    return path.suffix.lower()


def _free_name(folder: Path, name: str) -> Path:
    """Return a path that is free, with its reason's, and short enough for any file system."""
    stem, dot, suffix = name.replace("/", "_").rpartition(".")
    suffix = f"{dot}{suffix[:16]}" if stem else ""
    short = (stem or name).encode()[: 200 - len(suffix)].decode(errors="ignore")
    number, target = 1, folder / f"{short}{suffix}"
    if os.path.lexists(target):
        used = set(os.listdir(folder))  # one listing: thousands of files may have one name
        while f"{number}-{short}{suffix}" in used or number == 1:
            number += 1
        target = folder / f"{number}-{short}{suffix}"
    return target
