"""Layers of a scene: the files and numbers behind one quantity, from a manifest's words."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date as calendar_date
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ..base.errors import DataError, raise_if_machine
from ..base.schema import Choices, Length, Option, Parse, Pattern, Range, read
from ..tables.columns import is_backscatter
from ..tables.dates import utc_seconds, why_no_date
from ..tables.keys import canonical_orbit
from ..tables.passes import number_passes
from .orbits import orbit_in
from .presets import form_in_name

MATCHES = ("exact", "nearest", "linear")
#: How a layer on another grid may be brought to the scene's; "refuse" is the default.
RESAMPLINGS = ("refuse", "nearest", "bilinear", "cubic", "average")

#: Files whose axes say what their bands are.
CUBES = (".nc", ".nc4", ".zarr")

#: Processing baseline of Sentinel-2 in a name: N0510, N05.10.
_BASELINE = re.compile(r"(?:^|_)N(\d\d)\.?(\d\d)(?=_|\.|$)")
#: 2024-03-04, 2024_03_04, 20240304, 20240304T053012, with no digit on either side.
_DATE = re.compile(
    r"(?<!\d)(\d{4})([-_]?)(0[1-9]|1[0-2])\2([0-2]\d|3[01])"
    r"(?:T(\d{2})[:_-]?(\d{2})[:_-]?(\d{2})(?:\.\d+)?)?(?!\d)"
)


@dataclass(frozen=True)
class Slice:
    """One band of one file; band: number from 1, or its name; date: None where static.

    also: further frames of the same pass, in time order; where one has no value the next is
    read.  orbit: relative orbit in canonical form; "" where not known.
    """

    path: str
    band: int | str = 1
    date: np.datetime64 | None = None
    also: tuple[Slice, ...] = ()
    orbit: str = ""

    @property
    def frames(self) -> tuple[Slice, ...]:
        """The slice itself and the further frames of its pass."""
        return (self, *self.also)


@dataclass(frozen=True)
class Layer:
    """One quantity of the stack: its files (or numbers) and how they are decoded.

    A stored number becomes ``scale * stored + offset`` (None: as the file declares), or
    20 log10(stored) + amplitude_db where that is given. nodata: None as the file declares.
    slices: what to read; ``cube``: a file that holds its dates, not opened yet.
    crs: of files without one.
    value, values: numbers instead of files, for all dates or by date.
    orbits: relative orbit by time or day, as the manifest states them.
    """

    name: str
    slices: tuple[Slice, ...] = ()
    cube: str | None = None
    value: float | None = None
    values: tuple[tuple[np.datetime64, float], ...] = ()
    nodata: float | None = None
    scale: float | None = None
    offset: float | None = None
    amplitude_db: float | None = None
    match: str = "exact"
    max_gap_days: float = 0.0
    resample: str = "refuse"
    crs: str | None = None
    orbits: tuple[tuple[np.datetime64, str], ...] = ()


def _date(value: Any) -> np.datetime64:
    text = value.isoformat() if isinstance(value, calendar_date) else str(value)
    seconds = utc_seconds(text)
    if seconds is None:
        raise ValueError(why_no_date(text))
    return np.datetime64(seconds, "s")


Day = Annotated[np.datetime64, Parse(_date, "a date such as 2024-03-04")]
FileName = Annotated[str, Pattern(r"(?s)(?=.*\S)[^\0]+", "the name of a file")]


@dataclass(frozen=True)
class LayerKeys:
    """A layer as a manifest states it; :class:`Layer` has the meaning of the keys.

    files: a pattern, a list of names with their dates in them, or date -> name.
    orbits: time or day of an acquisition -> its relative orbit.
    """

    files: FileName | tuple[FileName, ...] | Mapping[Day, FileName] | None = None
    file: FileName | None = None
    variable: str | None = None
    band: Annotated[int, Range(1)] | str = 1
    dates: tuple[Day, ...] | None = None
    date: Day | None = None
    value: float | None = None
    values: Annotated[Mapping[Day, float], Length(1)] | None = None
    nodata: Annotated[float | None, Option.ANY_FLOAT] = None
    scale: float | None = None
    offset: float | None = None
    amplitude_db: float | None = None
    match: Annotated[str, Choices(MATCHES)] = "exact"
    max_gap_days: Annotated[float, Range(0)] | None = None
    resample: Annotated[str, Choices(RESAMPLINGS)] = "refuse"
    crs: str | None = None
    orbits: Mapping[Day, int | str] | None = None

    def __post_init__(self) -> None:
        ways = (self.files, self.file, self.value, self.values)
        if sum(way is not None for way in ways) != 1 or self.files == {}:
            raise ValueError("give one of files, file, value or values")
        if self.match != "exact" and self.max_gap_days is None:
            raise ValueError(f"match = {self.match} needs max_gap_days")


def layer_from(name: str, raw: Mapping[str, Any], source: str, folder: Path) -> Layer | None:
    """Return one layer of a manifest; None where a pattern matches no file.

    DataError names the source, the key and the value.
    """
    place = f"{source}: layers.{name}"
    keys = read(LayerKeys, raw, source, where=f"layers.{name}")
    if keys.amplitude_db is not None and not name.endswith("_db"):
        raise DataError(f"{place}: amplitude_db makes dB, so the layer's name must end in _db")
    layer = Layer(
        name,
        value=keys.value,
        values=tuple((keys.values or {}).items()),
        nodata=keys.nodata,
        scale=keys.scale,
        offset=keys.offset,
        amplitude_db=keys.amplitude_db,
        match=keys.match,
        max_gap_days=keys.max_gap_days or 0.0,
        resample=keys.resample,
        crs=keys.crs,
        orbits=tuple((when, canonical_orbit(str(o))) for when, o in (keys.orbits or {}).items()),
    )
    if keys.file is not None:
        return _single(layer, keys, place, folder)
    if keys.files is None:
        return layer
    if isinstance(keys.files, Mapping):
        slices = [Slice(_path(folder, item), keys.band, when) for when, item in keys.files.items()]
        return with_slices(layer, slices, place)
    if isinstance(keys.files, str):
        names = _matching(folder, keys.files, place)
        if not names:
            return None
    else:
        names = [_path(folder, item) for item in keys.files]
    slices = [Slice(item, keys.band, _date_of_file(item, folder, place)) for item in names]
    return with_slices(layer, slices, place)


def _date_of_file(path: str, folder: Path, place: str) -> np.datetime64:
    """Return the date in a file's name; DataError where it has none."""
    when = date_in(os.path.relpath(path, folder))
    if when is None:
        raise DataError(
            f'{place}: no date in the name of {path}; write files = {{2024-03-04 = "name", ...}}'
        )
    return when


def _single(layer: Layer, keys: LayerKeys, place: str, folder: Path) -> Layer:
    """Return a layer in one file: static, of stated dates by band, or a cube with its dates."""
    path = _path(folder, keys.file or "")
    cube = keys.variable is not None or Path(path).suffix.lower() in CUBES
    if cube:
        opener = "ZARR" if path.rstrip("/").endswith(".zarr") else "netcdf"
        variable = (keys.variable or "").lstrip("/")
        path = f'{opener}:"{path}":{"/" if opener == "ZARR" else ""}{variable}'
    if keys.dates is not None:
        slices = [Slice(path, number, when) for number, when in enumerate(keys.dates, start=1)]
        return with_slices(layer, slices, place)
    if keys.date is not None:
        return with_slices(layer, [Slice(path, keys.band, keys.date)], place)
    return replace(layer, cube=path) if cube else replace(layer, slices=(Slice(path, keys.band),))


def with_slices(layer: Layer, slices: Sequence[Slice], place: str) -> Layer:
    """Return the layer with its files in passes, each with its relative orbit.

    An orbit that the manifest states overrides that of the cube, which overrides that of the
    product's name. DataError as :func:`in_passes`, and where a stated orbit has no acquisition.
    """
    stated, used = dict(layer.orbits), set()
    named = []
    for item in slices:
        orbit = item.orbit or orbit_in(item.path)
        if item.date is not None:
            for when in (item.date, item.date.astype("datetime64[D]").astype("datetime64[s]")):
                if when in stated:
                    orbit = stated[when]
                    used.add(when)
                    break
        named.append(replace(item, orbit=orbit))
    if spare := [when for when in stated if when not in used]:
        raise DataError(f"{place}.orbits: no acquisition of {spare[0]}")
    if is_backscatter(layer.name):
        _check_once(named, place)
    return replace(layer, slices=in_passes(named, place))


def _check_once(slices: Sequence[Slice], place: str) -> None:
    """Raise DataError where one band of one file is listed for two acquisitions."""
    seen: dict[tuple[str, int | str], Slice] = {}
    for item in slices:
        first = seen.setdefault((item.path, item.band), item)
        if first.date != item.date:
            raise DataError(
                f"{place}: {item.path} is named for {first.date} and for {item.date}; each "
                "acquisition has its own backscatter"
            )


def in_passes(slices: Sequence[Slice], place: str) -> tuple[Slice, ...]:
    """Group slices into passes, ascending; frames of a pass follow each other within seconds.

    DataError where two files have the same day and no time: they may
    be two frames or two passes; and where frames of a pass are of two orbits.
    """
    ordered = sorted(slices, key=lambda item: item.date or np.datetime64(0, "s"))
    if any(item.date is None for item in ordered):
        return tuple(ordered)
    times = np.asarray([item.date for item in ordered], "datetime64[s]")
    for at in np.flatnonzero(np.diff(times) == np.timedelta64(0, "s")):
        if times[at] == times[at].astype("datetime64[D]"):
            one, other = ordered[at], ordered[at + 1]
            raise DataError(
                f"{place}: two files of {times[at].astype('datetime64[D]')}, which may be two "
                f"passes: {one.path} and {other.path}; name one of them, a VRT of both, or files "
                "with their times"
            )
    passes: list[list[Slice]] = []
    for item, number in zip(ordered, number_passes(times), strict=True):
        if number == len(passes):
            passes.append([])
        elif item.orbit != (first := passes[number][0]).orbit:
            raise DataError(
                f"{place}: {first.path} and {item.path} are of one pass ({first.date}, "
                f"{item.date}) and of two orbits ({first.orbit or 'unknown'}, "
                f"{item.orbit or 'unknown'}); correct their times or orbits"
            )
        passes[number].append(item)
    return tuple(replace(frames[0], also=tuple(frames[1:])) for frames in passes)


#: Ends of files that GDAL and QGIS write beside a raster; a pattern does not match them.
SIDECARS = (".aux.xml", ".ovr", ".msk", ".hdr", ".prj", ".tfw", ".tifw", ".wld")


def _matching(folder: Path, pattern: str, place: str) -> list[str]:
    root = Path(pattern).anchor
    base, below = Path(root) if root else folder, pattern[len(root) :]
    if below.startswith("/"):
        raise DataError(f"{place}.files: {pattern!r} is not a pattern of files (begin with one /)")
    if not Path(below).parts:  # glob of "." raises IndexError or AttributeError
        raise DataError(f"{place}.files: {pattern!r} is a folder; name its files, such as *.tif")
    try:
        found = base.glob(below)
        return sorted(
            str(item)
            for item in found
            if item.is_file() and not item.name.lower().endswith(SIDECARS)
        )
    except ValueError as error:  # "**" beside other characters
        raise DataError(f"{place}.files: {pattern!r} is not a pattern of files ({error})") from None
    except OSError as error:
        raise_if_machine(error, f"{place}.files")
        raise DataError(f"{place}.files: {pattern!r} cannot be looked up ({error})") from None


def _path(folder: Path, name: str) -> str:
    return name if "://" in name or name.startswith("/vsi") else str(folder / name)


def as_named(layer: Layer, source: str, *, of_preset: bool) -> Layer:
    """Complete the layer by its products' names: a preset's changes, one that is stated must be
    that. DataError where files of several kinds are mixed, or the manifest contradicts them."""
    if not is_backscatter(layer.name):
        return layer
    paths = [frame.path for item in layer.slices for frame in item.frames]
    said = {form: path for path in paths if (form := form_in_name(path)) is not None}
    if not said:
        return layer
    if len(said) > 1:
        raise DataError(
            f"{source}: layers.{layer.name}: mixes {' and '.join(sorted(said))} by their names: "
            f"{', '.join(said.values())}"
        )
    (form, path), *_ = said.items()
    polarisation = layer.name.partition("_")[0]
    amplitude = form.endswith("amplitude")
    name = f"{polarisation}_{form.replace('amplitude', 'db')}"
    if of_preset:
        return replace(layer, name=name, amplitude_db=0.0 if amplitude else None)
    if layer.name != name or (amplitude and layer.amplitude_db is None):
        how = " with amplitude_db = 0" if amplitude else ""
        raise DataError(
            f"{path}: is {form.replace('_', ' ')} by its name, and not {layer.name}; "
            f"name the layer {name}{how}"
        )
    return layer


def date_in(name: str) -> np.datetime64 | None:
    """Find the first date in a file's path, from its name back to its folders.

    >>> date_in("S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_VH.tif")
    np.datetime64('2018-01-28T16:12:01')
    >>> date_in("2024-03-04/vh.tif"), date_in("vh.tif")
    (np.datetime64('2024-03-04T00:00:00'), None)
    """
    for part in reversed(Path(name).parts):
        for year, _, month, day, *time in (match.groups() for match in _DATE.finditer(part)):
            clock = f"T{':'.join(time)}" if time[0] else "T00:00:00"
            try:
                return np.datetime64(f"{year}-{month}-{day}{clock}", "s")
            except ValueError:
                continue
    return None


def baseline_in(name: str) -> int | None:
    """Find the processing baseline of Sentinel-2 in a file's path: 510 for ``_N0510_``.

    None without one, and for 99.99 of test products, which have any offset.

    >>> baseline_in("S2A_MSIL2A_20240304T001101_N0510_R073.SAFE/B04.jp2"), baseline_in("a.tif")
    (510, None)
    """
    for part in reversed(Path(name).parts):
        if (match := _BASELINE.search(part)) and match[1] + match[2] != "9999":
            return int(match[1] + match[2])
    return None


def cube_named(path: str) -> tuple[str, str] | None:
    """Return file and variable where a layer's path names a variable of a cube.

    >>> cube_named('netcdf:"a/cube.nc":ndvi'), cube_named("a/b.tif")
    (('a/cube.nc', 'ndvi'), None)
    """
    found = re.fullmatch(r'(?:netcdf|ZARR):"(.+)":/?(.*)', path, re.IGNORECASE)
    return None if found is None else (found[1], found[2])


def file_of(path: str) -> str:
    """Return the file that a layer's path names, of a cube's variable the cube.

    >>> file_of('netcdf:"a/cube.nc":ndvi'), file_of("a/b.tif")
    ('a/cube.nc', 'a/b.tif')
    """
    cube = cube_named(path)
    return path if cube is None else cube[0]
