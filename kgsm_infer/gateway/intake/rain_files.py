"""Read rain: a daily weather file of the spool, and rain that is posted or sent by MQTT.

A table is a weather file if it has a column ``rain_mm`` and no backscatter. Rain that comes as JSON
is written into the spool as such a file, so that all rain is archived and processed in one way.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from ...base.errors import DataError
from ...base.files import write_whole
from ...base.schema import Help, Length, Parse, Range, read
from ...daily.forcing import IRRIGATION_NAMES
from ...tables.columns import BACKSCATTER_FORMS, POLARISATIONS, rename_columns
from ...tables.reading import read_sheet, write_csv
from ...tables.weather import WEATHER_COLUMNS, Weather, read_weather
from ..keys import paddock_key
from ..store.daily_rows import RainDay
from .archive import make_folders
from .tables import TableRules

#: Days after its arrival that a file may state as forecast.
FORECAST_DAYS = 16
#: Most days of one message.
MOST = 10_000
#: Bytes that hold the header of a CSV, or the schema of a Parquet file.
_PEEK = 65536
BACKSCATTER = {f"{pol}_{form}" for pol in POLARISATIONS for form in BACKSCATTER_FORMS}


def parse_day(value: Any) -> str:
    """Return a day as ISO 8601; ValueError for anything else."""
    if not isinstance(value, str):
        raise ValueError("not a day")
    return date.fromisoformat(value.strip()).isoformat()


@dataclass(frozen=True)
class PostedRain:
    """The rain of a local day as it is sent. paddock: omitted for the whole farm."""

    date: Annotated[str, Parse(parse_day, "a day such as 2024-03-04")]
    rain_mm: Annotated[float, Range(0, 2000), Help("the day's total")] | None
    paddock: Annotated[str, Length(1, 256)] | None = None


@dataclass(frozen=True)
class RainMessage:
    """A message of rain."""

    rain: Annotated[tuple[PostedRain, ...], Length(1, MOST)]


@dataclass(frozen=True)
class PlaceRain:
    """Rain of a place on M days. day: (M,) since 1970.  rain_mm: (M,), NaN where withdrawn."""

    place: str
    day: NDArray[np.int64]
    rain_mm: NDArray[np.float64]


@dataclass(frozen=True)
class RainRows:
    """Rain of a file. issued: local day of its arrival.  number: of the arrival.

    left_out: places in it that are not paddocks of the farm.  refused: days that were left out,
    each with the reason.  simulated: the file says so.
    """

    places: tuple[PlaceRain, ...]
    issued: int
    number: int
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    simulated: bool = False

    def __len__(self) -> int:
        return sum(len(one.day) for one in self.places)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last day."""
        ends = [(one.day.min(), one.day.max()) for one in self.places if len(one.day)]
        return int(min(first for first, _ in ends)), int(max(last for _, last in ends))

    def by_place(self) -> Iterator[list[RainDay]]:
        """Yield the rows of each place."""
        for one in self.places:
            yield [
                RainDay(one.place, day, mm + 0.0, self.issued, self.number, int(self.simulated))
                if mm == mm
                else RainDay(one.place, day, None, self.issued, self.number)
                for day, mm in zip(one.day.tolist(), one.rain_mm.tolist(), strict=True)
            ]


def is_rain_table(columns: Mapping[str, Any], renamed: Mapping[str, str]) -> bool:
    """Return True for the columns of a weather file. renamed: as ``[columns]`` of the settings.

    >>> is_rain_table({"date": [], "rain_mm": []}, {}), is_rain_table({"rain_mm": []}, {})
    (True, True)
    >>> is_rain_table({"rain_mm": [], "VH": []}, {"vh_db": "VH"})
    False
    >>> is_rain_table({"date": [], "precipitation": []}, {"rain_mm": "precipitation"})
    True
    """
    theirs = {renamed.get(name, name) for name in BACKSCATTER} | BACKSCATTER
    own = rename_columns(columns, renamed, WEATHER_COLUMNS)
    return "rain_mm" in own and not theirs & set(columns)


def is_rain_file(path: Path, renamed: Mapping[str, str]) -> bool:
    """Return True for a weather file; false for a file that cannot be read as a table."""
    if not names_in_file(path, {"rain_mm", renamed.get("rain_mm", "rain_mm")}):
        return False
    try:
        return is_rain_table(read_sheet(path).columns, renamed)
    except DataError:
        return False


def names_in_file(path: Path, names: Iterable[str]) -> bool:
    """Return True if one of the names begins in the head or the end of a file, of any encoding.

    A longer name that ends with it (``rain_3d_mm``) is another name.
    """
    try:
        with path.open("rb") as file:
            head = file.read(_PEEK)
            file.seek(-min(_PEEK, file.seek(0, 2)), 2)
            text = (head + file.read()).replace(b"\0", b"")
    except OSError:
        return False
    return any(re.search(_pattern(name), text) for name in names)


def _has_irrigation(path: Path, renamed: Mapping[str, str]) -> bool:
    """Return True if a table has a column ``mm`` too; a peek comes first, which costs less."""
    if not names_in_file(path, {"mm", renamed.get("mm", "mm")}):
        return False
    # the rain may be called mm
    columns = rename_columns(read_sheet(path).columns, renamed, WEATHER_COLUMNS)
    return "mm" in rename_columns(columns, renamed, IRRIGATION_NAMES)


def _pattern(name: str) -> bytes:
    """Return a pattern that finds a name; of one beyond ASCII its longest part that is ASCII.

    The other characters differ with the encoding, so any byte may precede that part.
    """
    parts: list[str] = re.findall(r"[ -~]*", name)
    part = re.escape(max(parts, key=len)).encode()
    return rb"(?<![A-Za-z0-9_])" + part if name.isascii() else part


def rain_of_file(path: Path, source: str, rules: TableRules, issued: int, number: int) -> RainRows:
    """Read a weather file; DataError names file, row, column and value.

    issued: local day of its arrival.  number: of the arrival.
    """
    paddocks = rules.paddocks
    if _has_irrigation(path, rules.columns):
        raise DataError(f"{source}: has rain_mm and mm; write rain and irrigation into two files")
    try:
        weather = read_weather(path, columns=rules.columns)
    except DataError as error:
        raise DataError(str(error).replace(str(path), source)) from None
    if weather.by == "cell":
        raise DataError(
            f"{source}: has a column cell; name it site, with the ids of the paddocks, or give one "
            "series without either"
        )
    places = {paddock_key(name) if weather.by else "": name for name in weather.places}
    left_out = tuple(sorted(key for key in places if key and not paddocks.known(key)))
    if len(left_out) == len(places):
        raise DataError(
            f"{source}: none of its sites ({', '.join(left_out[:3])}) is in "
            f"{paddocks.outlines.source if paddocks.outlines else 'the farm'}"
        )
    found, refused = [], []
    for place, name in places.items():
        if place in left_out:
            continue
        one = _stated(weather, place, name)
        far = one.day > issued + FORECAST_DAYS
        refused += [day_refusal(source, place, day) for day in one.day[far].tolist()]
        found.append(PlaceRain(place, one.day[~far], one.rain_mm[~far]))
    if not any(len(one.day) for one in found):
        raise DataError(f"{refused[0]} (as every row of it)")
    return RainRows(tuple(found), issued, number, left_out, tuple(refused), weather.simulated)


def write_rain(
    content: Any, rules: TableRules, spool: Path, is_known: Callable[[str], bool] | None = None
) -> int:
    """Write ``{"rain": [...]}`` into the spool as a weather file; returns the number of days.

    is_known: of :func:`drop_file`.
    DataError names a day that is wrong, too far ahead or of an unknown paddock; nothing is written.
    """
    message = read(RainMessage, content, "rain")
    found: dict[tuple[str, str], float] = {}
    for at, one in enumerate(message.rain):
        place = "" if one.paddock is None else paddock_key(one.paddock)
        if place and not rules.paddocks.known(place):
            raise DataError(f"rain: rain[{at}].paddock: no paddock {place[:64]!r}")
        if (place, one.date) in found:
            raise DataError(f"rain: rain[{at}].date: {one.date} twice for one place")
        found[place, one.date] = np.nan if one.rain_mm is None else one.rain_mm
    contents = []
    for whole_farm in {not place for place, _ in found}:
        some = {key: mm for key, mm in found.items() if bool(key[0]) != whole_farm}
        columns: dict[str, Any] = {"date": [day for _, day in some]}
        if not whole_farm:
            columns = {"site": [place for place, _ in some], **columns}
        contents.append(_csv_of({**columns, "rain_mm": np.asarray(list(some.values()))}))
    for content in contents:
        _check_posted(content, "rain", rules)
    for content in contents:
        drop_file(content, spool, "rain", is_known)
    return len(found)


def drop_posted_rain(content: bytes, rules: TableRules, spool: Path) -> int:
    """Write a posted weather file into the spool; returns the number of its days.

    DataError says what is wrong with it, days too far ahead included.
    """
    days = _check_posted(content, "the table", rules)
    drop_rain_file(content, spool)
    return days


def _check_posted(content: bytes, source: str, rules: TableRules) -> int:
    """Return the number of days of a weather file; DataError if one would be left out."""
    with content_as_file(content) as path:
        if not is_rain_file(path, rules.columns):
            raise DataError(f"{source}: is not a weather file: date and rain_mm, no backscatter")
        rows = rain_of_file(path, source, rules, tomorrow(), 0)
    refuse_refused(rows.refused)
    return len(rows)


@contextmanager
def content_as_file(content: bytes) -> Iterator[Path]:
    """Write a posted CSV into a temporary file, which is removed at the end of the block."""
    with NamedTemporaryFile(suffix=".csv") as file:
        file.write(content)
        file.flush()
        yield Path(file.name)


def tomorrow() -> int:
    """Return the latest local day that it is anywhere by the clock, since 1970."""
    return int(time.time()) // 86400 + 1


def refuse_refused(refused: Sequence[str]) -> None:
    """Raise DataError where a post has days that would be left out: its sender can correct it."""
    if refused:
        raise DataError(refused[0])


def drop_rain_file(content: bytes, spool: Path) -> str:
    """Write a weather file into the spool under the name of its digest; returns the digest."""
    return drop_file(content, spool, "rain")


def drop_file(
    content: bytes, spool: Path, kind: str, is_known: Callable[[str], bool] | None = None
) -> str:
    """Write a CSV into the spool as ``KIND-DIGEST.csv``; returns its digest.

    is_known: returns True for the digest of a file that must not count a second time.
    """
    digest = hashlib.sha256(content).hexdigest()
    if is_known is not None and is_known(digest):
        return digest
    make_folders(spool)
    with write_whole(spool / f"{kind}-{digest[:16]}.csv", "wb") as file:
        file.write(content)
    return digest


def _csv_of(columns: Mapping[str, Any]) -> bytes:
    """Return columns as a CSV."""
    with content_as_file(b"") as path:
        write_csv(path, columns)
        return path.read_bytes()


def _stated(weather: Weather, place: str, name: str) -> PlaceRain:
    """Return the days of a place that have a row; an empty cell withdraws a day."""
    series = weather.places[name]
    rows = np.isfinite(series.rain_mm) if series.has_row is None else series.has_row
    at = np.flatnonzero(rows)
    return PlaceRain(place, series.first + at, series.rain_mm[at])


def day_refusal(source: str, place: str, day: int) -> str:
    """Return why a day too far ahead is left out. place: "" for the whole farm."""
    when = np.datetime64(day, "D")
    return (
        f"{source}: {place or 'the farm'}, column date: {when}: is more than {FORECAST_DAYS} days "
        "ahead; correct the date and drop the file again"
    )
