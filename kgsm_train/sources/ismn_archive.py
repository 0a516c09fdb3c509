"""Read the stations of an ISMN archive with the ``ismn`` package.

A download is a zip or its extracted folder, NETWORK/STATION/*.stm below any
number of folders; the folder of one network or one station is accepted too. All are linked into
the layout that the package reads. A series that the package cannot read is left out and named.
"""

from __future__ import annotations

import contextlib
import io
import logging
import re
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kgsm_infer.base.errors import DataError, MissingError, raise_if_machine
from kgsm_infer.tables.keys import canonical_id
from kgsm_infer.tables.text_column import shorten

#: Static variables of a station.
_KINDS = (".stm", ".csv")


@dataclass(frozen=True)
class Archive:
    """stations: of the ``ismn`` package.  files: how many series there are.
    unread: stations that cannot be read, and why."""

    stations: tuple[Any, ...]
    files: int
    unread: tuple[str, ...]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Archive]:
    """Open the stations of one archive; their series are readable inside the context.

    MissingError without ``ismn``, DataError if the path is not an archive.
    """
    _interface()
    if not path.exists():
        raise DataError(f"{path}: no such file")
    if path.is_file() and path.suffix.lower() == ".stm":
        raise DataError(f"{path}: is one series; give its station's folder")
    if path.is_file() and not zipfile.is_zipfile(path):
        raise DataError(f"{path}: not a zip file; a download that was cut off?")
    with tempfile.TemporaryDirectory(prefix="kgsm-ismn-") as scratch:
        try:
            places = _of_zip(path) if path.is_file() else _of_folder(path)
            if not places:
                raise DataError(f"{path}: holds no series (*.stm); is it an ISMN archive?")
            series = sum(f.lower().endswith(".stm") for files in places.values() for f in files)
            stations, unread = [], []
            parts = [
                (place, part)
                for place, files in sorted(places.items())
                for part in _one_file_a_sensor(files)
            ]
            for number, ((network, station), files) in enumerate(parts):
                root = Path(scratch) / str(number)
                _stage(path, root / network / station, files)
                found = _read(root, scratch)
                if isinstance(found, str):
                    unread.append(f"{network}/{station} ({found})")
                else:
                    stations += found
        except (OSError, zipfile.BadZipFile) as error:
            raise_if_machine(error, str(path))
            raise DataError(f"{path}: cannot be read ({error})") from None
        yield Archive(tuple(stations), series, tuple(unread))


def network_and_station(sensor: Any) -> tuple[str, str]:
    """Return the names of a file's two folders, NETWORK and STATION."""
    parts = PurePosixPath(str(sensor.filehandler.file_path).replace("\\", "/")).parts
    return parts[-3], parts[-2]


def reason_of(error: Exception) -> str:
    """Shorten an exception of the package."""
    if "No objects to concatenate" in str(error):  # of pandas, where every file was refused
        return "no series of it has a header and a first reading in ISMN's format"
    return shorten(error, 80) or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the package's progress output."""
    logger = logging.getLogger()
    level = logger.level
    silent = io.StringIO()
    with contextlib.redirect_stdout(silent), contextlib.redirect_stderr(silent):
        logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            logger.setLevel(level)


Places = dict[tuple[str, str], list[str]]


def _of_folder(folder: Path) -> Places:
    """Return (network, station) -> files of an archive's, network's or station's folder."""
    places: Places = {}
    # the folders above count too: what is given may be a network's or a station's
    for file in sorted(folder.resolve().rglob("*")):
        if file.suffix.lower() in _KINDS and not file.name.startswith(".") and file.is_file():
            _add(places, PurePosixPath(file.as_posix()), str(file))
    return {place: files for place, files in places.items() if _has_series(files)}


def _of_zip(path: Path) -> Places:
    places: Places = {}
    with zipfile.ZipFile(path) as content:
        for name in sorted(content.namelist()):
            inside = PurePosixPath(name.replace("\\", "/"))
            hidden = inside.name.startswith(".") or "__MACOSX" in inside.parts
            if inside.suffix.lower() in _KINDS and not hidden:
                _add(places, inside, name)
    return {place: files for place, files in places.items() if _has_series(files)}


def _add(places: Places, inside: PurePosixPath, file: str) -> None:
    """Assign a file to a station by its two folders, or else by its name."""
    folders = map(canonical_id, ("", "", *inside.parts)[-3:-1])
    (network, station), name = folders, canonical_id(inside.name)
    if inside.suffix.lower() == ".stm" and f"_{station}_" not in name:
        named = name.split("_")  # CSE_NETWORK_STATION_variable_depths_sensor_dates.stm
        if len(named) > 3:
            network, station = named[1], named[2]
    if network in ("", "/") or station in ("", "/"):
        network, station = network.strip("/") or "unknown", station.strip("/") or "unknown"
    places.setdefault((network, station), []).append(file)


def _one_file_a_sensor(files: Sequence[str]) -> list[list[str]]:
    """Split a station's files so that no part has two files of one sensor.

    ``ismn`` keeps one file of a sensor; downloads of several periods have more. The first part
    also has the static variables.

    >>> [len(part) for part in _one_file_a_sensor(["A_sm_20150101_20151231.stm",
    ...     "A_sm_20160101_20161231.stm", "A_ts_20150101_20151231.stm", "A_static.csv"])]
    [3, 1]
    """
    parts: list[list[str]] = [[]]
    seen: dict[str, int] = {}
    for file in sorted(files):
        if not file.lower().endswith(".stm"):
            parts[0].append(file)
            continue
        sensor = re.sub(r"_\d{8}_\d{8}$", "", PurePosixPath(file.replace("\\", "/")).stem)
        at = seen[sensor] = seen.get(sensor, -1) + 1
        if at == len(parts):
            parts.append([])
        parts[at].append(file)
    return parts


def _has_series(files: Sequence[str]) -> bool:
    return any(file.lower().endswith(".stm") for file in files)


def _stage(path: Path, target: Path, files: Sequence[str]) -> None:
    """Link or extract a station's files into the package's layout."""
    target.mkdir(parents=True)
    if path.is_dir():
        for file in files:
            (target / Path(file).name).with_suffix(Path(file).suffix.lower()).symlink_to(file)
        return
    with zipfile.ZipFile(path) as content:
        for name in files:
            own = PurePosixPath(name.replace("\\", "/"))
            place = (target / own.name).with_suffix(own.suffix.lower())
            place.write_bytes(content.read(name))


def _read(root: Path, scratch: str) -> list[Any] | str:
    """Open the stations below a root; DataError with the reason if that fails."""
    index = tempfile.mkdtemp(dir=scratch)  # the package would write next to the archive otherwise
    try:
        with quiet():
            collection = _interface()(str(root), meta_path=index, temp_root=index).collection
        return [s for network in collection.networks.values() for s in network.stations.values()]
    except Exception as error:  # noqa: BLE001  what a broken series raises is anything
        raise_if_machine(error, scratch)
        return reason_of(error)


def _interface() -> Any:
    try:
        from ismn.interface import ISMN_Interface
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed; ISMN archives need: pip install 'kgsm[ismn]'"
        ) from None
    return ISMN_Interface
