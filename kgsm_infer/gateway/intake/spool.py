"""List the spool: files to process, and entries that are left alone with the reason."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable
from dataclasses import dataclass
from graphlib import TopologicalSorter
from heapq import heappop, heappush
from pathlib import Path

from ...base.errors import MissingError
from ...base.files import RESULTS
from ...tables.dates import utc_seconds

#: Kind of a file by the suffix of its name; files of other kinds go to quarantine.
KINDS = {
    ".csv": "table",
    ".parquet": "table",
    ".pq": "table",
    ".toml": "scene",
    ".json": "scene",
    ".onnx": "model",
    ".removal": "removal",
}
#: Rasters stay in the spool until the manifest that names them is processed.
RASTERS = (".tif", ".tiff", ".nc", ".zip", ".vrt", ".aux.xml")
#: Endings of names that programs give to files they have not finished: browsers, rsync and scp
#: clients, FTP clients, BitTorrent clients, editors, Resilio, Syncthing, Nextcloud.
TEMPORARY = (
    *(".part", ".partial", ".tmp", ".temp", ".filepart", ".crdownload", ".download", ".opdownload"),
    *(".!sync", ".bts", ".!ut", ".!qb", ".aria2", ".swp", ".swx", ".lock", ".upload", ".uploading"),
    *("~", ".bak", ".in.progress", ".inprogress", ".incomplete", ".unfinished"),
)
_NEXTCLOUD = re.compile(r"\.~[0-9a-z]+|\.octransferid\d+(\.part)?|\.ocupload.*", re.IGNORECASE)
#: Seconds after which a temporary file is reported.
ABANDONED_S = 3600.0
_DATE = re.compile(rb"(?<!\d)(?:19|20)\d\d-?[01]\d-?[0-3]\d(?!\d)")


@dataclass(frozen=True)
class Listing:
    """The spool at one time. ignored: name -> reason, of entries that are not processed."""

    files: tuple[Path, ...]
    ignored: dict[str, str]


def list_spool(spool: Path) -> Listing:
    """List a spool by name; MissingError if it cannot be read."""
    try:
        entries = sorted(os.scandir(spool), key=lambda entry: entry.name)
    except OSError as error:
        raise MissingError(f"{spool}: cannot be read ({error.strerror})") from None
    files, ignored = [], {}
    for entry in entries:
        reason = _why_ignored(entry)
        if reason is None:
            files.append(Path(entry.path))
        elif reason:
            ignored[entry.name] = reason
    return Listing(tuple(files), ignored)


def is_temporary(name: str) -> bool:
    """Return True for a name that a program gives to a file it has not finished.

    >>> [is_temporary(name) for name in ("a.csv.part", ".a.csv", "a.csv~", "a.!sync", "a.csv")]
    [True, True, True, True, False]
    """
    lower = name.lower()
    return (
        lower.startswith((".", "~"))
        or lower.endswith(TEMPORARY)
        or ".syncthing." in lower
        or _NEXTCLOUD.search(lower) is not None
    )


def in_processing_order(paths: Iterable[Path]) -> list[Path]:
    """Sort tables and scenes by their first date; of two with a common date the older file first.

    The one written later counts for their common rows, so it is processed later, whatever other
    dates it has. Files without dates in their text (Parquet) are sorted by time of writing.
    """
    dates = {path: _dates(path) for path in paths}
    written = {path: (_modified_ns(path), min(dates[path], default=0), path.name) for path in dates}
    newest: dict[int, Path] = {}
    earlier: dict[Path, set[Path]] = {}
    for path in sorted(dates, key=written.__getitem__):
        earlier[path] = {newest[day] for day in dates[path] if day in newest}
        newest |= dict.fromkeys(dates[path], path)
    sorter = TopologicalSorter(earlier)
    sorter.prepare()
    found: list[Path] = []
    ready: list[tuple[int, tuple[int, int, str], Path]] = []
    while sorter.is_active():
        for path in sorter.get_ready():
            heappush(ready, (min(dates[path], default=0), written[path], path))
        found.append(heappop(ready)[2])
        sorter.done(found[-1])
    return found


def written_order(path: Path) -> tuple[int, str]:
    """Return the key that sorts files by their time of writing, then by name."""
    return _modified_ns(path), path.name


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:  # it was removed meanwhile
        return 0


def _dates(path: Path) -> set[int]:
    """Return the dates in the beginning of a file, seconds since 1970.

    Only the order of processing depends on them, so the text is searched and not parsed.
    """
    try:
        with path.open("rb") as file:
            head = file.read(65536)
    except OSError:
        return set()
    dates = (utc_seconds(text.decode()) for text in set(_DATE.findall(head)))
    return {seconds for seconds in dates if seconds is not None}


def has_its_end(path: Path) -> bool:
    """Return False for a file that lacks its end: the last line break, or Parquet's last bytes.

    A writer that stalls leaves such a file, in which the last cell may be cut.
    """
    suffix = path.suffix.lower()
    if suffix not in RESULTS:
        return True
    try:
        with path.open("rb") as file:
            if not file.seek(0, os.SEEK_END):
                return suffix == ".csv"
            file.seek(-min(4, file.tell()), os.SEEK_END)
            end = file.read()
    except OSError:
        return True
    if suffix == ".csv":
        return end.endswith((b"\n", b"\r", b"\n\x00", b"\r\x00"))
    return end in (b"PAR1", b"PARE")


def _why_ignored(entry: os.DirEntry[str]) -> str | None:
    """Return the reason to leave an entry alone, '' for one that is not reported, else None."""
    if is_temporary(entry.name):
        try:
            age_s = time.time() - entry.stat(follow_symlinks=False).st_mtime
        except OSError:
            return ""
        if age_s < ABANDONED_S or entry.name.startswith(".kgsm"):
            return ""
        return "is named like a file that is not finished; rename it if it is"
    if entry.is_symlink():
        return "is a symbolic link; copy the file itself into the spool"
    if entry.is_dir(follow_symlinks=False):
        return "is a folder; put its files into the spool itself"
    if not entry.is_file(follow_symlinks=False):
        return "is not a regular file"
    if entry.name.lower().endswith(RASTERS):
        return "waits for the manifest of a scene that names it; tables are not read from it"
    return None
