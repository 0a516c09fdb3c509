"""Layers of a scene: the files and numbers behind one quantity, from a manifest's words."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date as calendar_date
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import DataError
from ..tables.columns import is_backscatter
from ..tables.dates import utc_seconds, why_no_date
from ..tables.passes import number_passes
from .presets import form_in_name

MATCHES = ("exact", "nearest", "linear")
#: How a layer on another grid may be brought to the scene's; "refuse" is the default.
RESAMPLINGS = ("refuse", "nearest", "bilinear", "cubic", "average")

#: Files whose axes say what their bands are.
CUBES = (".nc", ".nc4", ".zarr")

#: 2024-03-04, 2024_03_04, 20240304, 20240304T053012, with no digit on either side.
_DATE = re.compile(
    r"(?<!\d)(\d{4})([-_]?)(0[1-9]|1[0-2])\2([0-2]\d|3[01])"
    r"(?:T(\d{2})[:_-]?(\d{2})[:_-]?(\d{2})(?:\.\d+)?)?(?!\d)"
)
_LAYER = {
    *("files", "file", "variable", "band", "dates", "date", "value", "values", "nodata"),
    *("scale", "offset", "amplitude_db", "match", "max_gap_days", "resample", "crs"),
}


@dataclass(frozen=True)
class Slice:
    """One band of one file; band: number from 1, or its name; date: None where static.

    also: further frames of the same pass, in time order; where one has no value the next is
    read.
    """

    path: str
    band: int | str = 1
    date: np.datetime64 | None = None
    also: tuple[Slice, ...] = ()

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


def layer_from(name: str, keys: Mapping[str, Any], source: str, folder: Path) -> Layer | None:  # noqa: C901  one key after another
    """One layer; None where a pattern matches no file."""
    place = f"{source}: layers.{name}"
    check_keys(keys, _LAYER, source, f"layers.{name}.")
    ways = [key for key in ("files", "file", "value", "values") if key in keys]
    if len(ways) != 1:
        raise DataError(f"{place}: give one of files, file, value or values")
    options: dict[str, Any] = {"name": name, "resample": keys["resample"]}
    for key in ("nodata", "scale", "offset", "amplitude_db", "max_gap_days"):
        if key in keys:
            options[key] = _number(keys[key], f"{place}.{key}", finite=key != "nodata")
    if "match" in keys:
        options["match"] = keys["match"]
        if keys["match"] not in MATCHES:
            raise DataError(
                f"{place}.match: {keys['match']!r} is unknown; choose {', '.join(MATCHES)}"
            )
        if keys["match"] != "exact" and "max_gap_days" not in keys:
            raise DataError(f"{place}: match = {keys['match']!r} needs max_gap_days")
    if keys["resample"] not in RESAMPLINGS:
        raise DataError(
            f"{place}.resample: {keys['resample']!r} is unknown; choose {', '.join(RESAMPLINGS)}"
        )
    if "crs" in keys:
        if not isinstance(keys["crs"], str):
            raise DataError(f"{place}.crs: {keys['crs']!r} is not a CRS such as EPSG:32631")
        options["crs"] = keys["crs"]
    if "amplitude_db" in keys and not name.endswith("_db"):
        raise DataError(f"{place}: amplitude_db makes dB, so the layer's name must end in _db")
    band = keys.get("band", 1)
    if not isinstance(band, (int, str)) or isinstance(band, bool):
        raise DataError(f"{place}.band: {band!r} is neither a number from 1 nor a name")
    if "value" in keys:
        return Layer(value=_number(keys["value"], f"{place}.value"), **options)
    if "values" in keys:
        pairs = _by_date(keys["values"], f"{place}.values")
        numbers = tuple((when, _number(item, f"{place}.values")) for when, item in pairs)
        return Layer(values=numbers, **options)
    if "file" in keys:
        return _single(keys, place, folder, band, options)
    files = keys["files"]
    if isinstance(files, Mapping):
        pairs = _by_date(files, f"{place}.files")
        slices = [Slice(_path(folder, item, place), band, when) for when, item in pairs]
    else:
        if isinstance(files, str):
            names = _matching(folder, files, place)
            if not names:
                return None
        elif isinstance(files, Sequence):
            names = [_path(folder, item, place) for item in files]
        else:
            raise DataError(f"{place}.files: a pattern, a list, or a table of dates and files")
        slices = []
        for item in names:
            when = date_in(os.path.relpath(item, folder))
            if when is None:
                raise DataError(
                    f"{place}: no date in the name of {item}; "
                    'write files = {2024-03-04 = "name", ...}'
                )
            slices.append(Slice(item, band, when))
    return Layer(slices=in_passes(slices, place), **options)


def _single(
    keys: Mapping[str, Any], place: str, folder: Path, band: int | str, options: dict[str, Any]
) -> Layer:
    """A layer in one file: static, of stated dates by band, or a cube that knows its dates."""
    path = _path(folder, keys["file"], place)
    cube = "variable" in keys or Path(path).suffix.lower() in CUBES
    if cube:
        opener = "ZARR" if path.rstrip("/").endswith(".zarr") else "netcdf"
        variable = str(keys.get("variable", "")).lstrip("/")
        path = f'{opener}:"{path}":{"/" if opener == "ZARR" else ""}{variable}'
    if "dates" in keys:
        if not isinstance(keys["dates"], (list, tuple)):
            raise DataError(f"{place}.dates: must be a list of dates, one for each band")
        dates = [_date(item, f"{place}.dates") for item in keys["dates"]]
        slices = [Slice(path, number, when) for number, when in enumerate(dates, start=1)]
        return Layer(slices=in_passes(slices, place), **options)
    if "date" in keys:
        return Layer(slices=(Slice(path, band, _date(keys["date"], f"{place}.date")),), **options)
    if cube:
        return Layer(cube=path, **options)
    return Layer(slices=(Slice(path, band),), **options)


def in_passes(slices: Sequence[Slice], place: str) -> tuple[Slice, ...]:
    """Group slices into passes, ascending; frames of a pass follow each other within seconds.

    DataError where two files have the same day and no time: they may
    be two frames or two passes.
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
        passes[number].append(item)
    return tuple(replace(frames[0], also=tuple(frames[1:])) for frames in passes)


def _matching(folder: Path, pattern: str, place: str) -> list[str]:
    root = Path(pattern).anchor
    base = Path(root) if root else folder
    try:
        found = base.glob(pattern[len(root) :])
        return sorted(str(item) for item in found if item.is_file())
    except (ValueError, NotImplementedError, OSError) as error:
        raise DataError(f"{place}.files: {pattern!r} is not a pattern of files ({error})") from None


def _path(folder: Path, name: Any, place: str) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise DataError(f"{place}: {name!r} is not a file name")
    return name if "://" in name or name.startswith("/vsi") else str(folder / name)


def _by_date(raw: Any, place: str) -> list[tuple[np.datetime64, Any]]:
    if not isinstance(raw, Mapping) or not raw:
        raise DataError(f"{place}: must be a table of dates, {{2024-03-04 = …}}")
    return [(_date(key, place), item) for key, item in raw.items()]


def _date(value: Any, place: str) -> np.datetime64:
    text = value.isoformat() if isinstance(value, calendar_date) else str(value)
    seconds = utc_seconds(text)
    if seconds is None:
        raise DataError(f"{place}: {text!r} {why_no_date(text)}")
    return np.datetime64(seconds, "s")


def _number(value: Any, place: str, finite: bool = True) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{place}: {value!r} is not a number")
    try:
        number = float(value)
    except OverflowError:  # an integer of hundreds of digits
        raise DataError(f"{place}: {str(value)[:20]}… does not fit a raster") from None
    if finite and not math.isfinite(number):
        raise DataError(f"{place}: {value!r} is not a finite number")
    return number


def as_named(layer: Layer, source: str, *, of_preset: bool) -> Layer:
    """The layer as its products' names say it is: a preset's changes, one that is stated must be
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
    """The first date in a file's path, from its name back to its folders.

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


def cube_named(path: str) -> tuple[str, str] | None:
    """File and variable where a layer's path names a variable of a cube.

    >>> cube_named('netcdf:"a/cube.nc":ndvi'), cube_named("a/b.tif")
    (('a/cube.nc', 'ndvi'), None)
    """
    found = re.fullmatch(r'(?:netcdf|ZARR):"(.+)":/?(.*)', path, re.IGNORECASE)
    return None if found is None else (found[1], found[2])


def check_keys(raw: Mapping[str, Any], known: set[str], source: str, where: str) -> None:
    unknown = sorted(set(raw) - known)
    if unknown:
        raise DataError(
            f"{source}: {where}{unknown[0]} is not a key of a scene manifest; "
            f"known here: {', '.join(sorted(known))}"
        )
