"""What lies in an ISMN archive: its stations, through the ``ismn`` package.

A download is a zip or its extracted folder, NETWORK/STATION/*.stm below whatever a person put
on top of it; some give the folder of one network or one station. All of them are brought into
the one layout the package reads. A series the package cannot read costs itself, and no more.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from kgsm_infer.base.errors import DataError, MissingError
from kgsm_infer.tables.text_column import shown

#: What belongs to a station beside its series: its static variables.
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
    """The stations of one archive; their series can be read inside.

    MissingError without ``ismn``, DataError where this is no archive.
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
            for number, ((network, station), files) in enumerate(sorted(places.items())):
                root = Path(scratch) / str(number)
                _stage(path, root / network / station, files)
                found = _read(root, scratch)
                if isinstance(found, str):
                    unread.append(f"{network}/{station} ({found})")
                else:
                    stations += found
        except (OSError, zipfile.BadZipFile) as error:
            raise DataError(f"{path}: cannot be read ({error})") from None
        yield Archive(tuple(stations), series, tuple(unread))


def network_and_station(sensor: Any) -> tuple[str, str]:
    """Names of the folders the file lies in, NETWORK/STATION/file.stm in every archive."""
    parts = PurePosixPath(str(sensor.filehandler.file_path).replace("\\", "/")).parts
    return parts[-3], parts[-2]


def reason_of(error: Exception) -> str:
    """An exception of the package in a few words."""
    return shown(error, 80) or type(error).__name__


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Nothing of the package's progress on the terminal."""
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
    """(network, station) -> files, of a folder that is an archive, a network or a station."""
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
    """Put a file where it belongs: by the two folders it lies in, or else by its own name."""
    network, station = ("", "", *inside.parts)[-3:-1]
    if inside.suffix.lower() == ".stm" and f"_{station}_" not in inside.name:
        named = inside.name.split("_")  # CSE_NETWORK_STATION_variable_depths_sensor_dates.stm
        if len(named) > 3:
            network, station = named[1], named[2]
    if network in ("", "/") or station in ("", "/"):
        network, station = network.strip("/") or "unknown", station.strip("/") or "unknown"
    places.setdefault((network, station), []).append(file)


def _has_series(files: Sequence[str]) -> bool:
    return any(file.lower().endswith(".stm") for file in files)


def _stage(path: Path, target: Path, files: Sequence[str]) -> None:
    """A station's files in the package's layout: linked, or taken out of the zip."""
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
    """The stations below a root of the package's layout, or why they cannot be read."""
    index = tempfile.mkdtemp(dir=scratch)  # beside the archive otherwise
    try:
        with quiet():
            collection = _interface()(str(root), meta_path=index, temp_root=index).collection
        return [s for network in collection.networks.values() for s in network.stations.values()]
    except Exception as error:  # noqa: BLE001  what a broken series raises is anything
        return reason_of(error)


def _interface() -> Any:
    try:
        from ismn.interface import ISMN_Interface
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed; ISMN archives need: pip install 'kgsm[ismn]'"
        ) from None
    return ISMN_Interface
