"""Scenes: a small manifest names the rasters of a time stack, and what is in them.

A manifest is TOML or JSON. Nothing is guessed: each layer is named as a table's column is,
unit included, and files, band, dates, nodata and scaling are stated here or by the file.

    title = "Flanders, March 2024"
    resample = "refuse"                 # or how layers on another grid are brought to it

    [layers.vh_linear]                  # vh_db, vh_linear, vh_gamma0_db, vh_gamma0_linear; vv_...
    files = "s1/*.tif"                  # the date is read in each name; or a list, or
    band = "VH"                         # files = {2024-03-04 = "a.tif", 2024-03-11 = "b.tif"}

    [layers.ndvi]                       # or red and nir, which make it
    file = "ndvi.nc"
    variable = "ndvi"                   # dates from the file's time axis, or dates = [...]
    match = "nearest"                   # exact (default), nearest or linear, within max_gap_days
    max_gap_days = 10

    [layers.angle_deg]
    value = 39.0                        # one number for all; a raster: file = "angle.tif"

This module reads manifests only; :mod:`kgsm_infer.scenes.opening` opens what they name.
"""

from __future__ import annotations

import json
import math
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date as calendar_date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from ..columns import POLARISATIONS, forms_given
from ..errors import DataError
from .presets import PRESETS

MATCHES = ("exact", "nearest", "linear")
#: How a layer on another grid may be brought to the scene's; "refuse" is the default.
RESAMPLINGS = ("refuse", "nearest", "bilinear", "cubic", "average")

#: Files whose axes say what their bands are.
CUBES = (".nc", ".nc4", ".zarr")

#: 2024-03-04, 20240304, 20240304T053012, with no digit on either side.
_DATE = re.compile(
    r"(?<!\d)(\d{4})(-?)(0[1-9]|1[0-2])\2([0-2]\d|3[01])(?:T(\d{2}):?(\d{2}):?(\d{2}))?(?!\d)"
)


@dataclass(frozen=True)
class Slice:
    """One band of one file; band: number from 1, or its name; date: None where static."""

    path: str
    band: int | str = 1
    date: np.datetime64 | None = None


@dataclass(frozen=True)
class Layer:
    """One quantity of the stack: its files (or numbers) and how they are decoded.

    A stored number becomes ``scale * stored + offset`` (None: as the file declares), or
    20 log10(stored) + amplitude_db where that is given. nodata: None as the file declares.
    slices: what to read; ``cube``: a file whose dates stand in it, not resolved yet.
    crs: of files that do not say it themselves.
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


@dataclass(frozen=True)
class Scene:
    """A manifest as read. grid: the ``[grid]`` table, or empty for the backscatter's own.

    simulated: its numbers were made, not measured; whatever is made from them says so.
    """

    source: str
    layers: Mapping[str, Layer]
    title: str = ""
    grid: Mapping[str, Any] = field(default_factory=dict)
    simulated: bool = False

    def files(self) -> tuple[str, ...]:
        """Every file the layers name, without the driver and variable around some names."""
        named = [item.path for layer in self.layers.values() for item in layer.slices]
        named += [layer.cube for layer in self.layers.values() if layer.cube]
        return tuple(dict.fromkeys((cube_named(name) or (name, ""))[0] for name in named))

    def backscatter(self, polarisation: str) -> str:
        """The layer that holds a polarisation, in whichever of its forms; DataError if none."""
        given = forms_given(polarisation, self.layers)
        if not given:
            raise DataError(
                f"{self.source}: no layer {polarisation}_db (or _linear, _gamma0_db, "
                f"_gamma0_linear); it has {', '.join(self.layers)}"
            )
        return given[0]


_TOP = {"title", "simulated", "preset", "files", "resample", "grid", "layers"}
_LAYER = {
    *("files", "file", "variable", "band", "dates", "date", "value", "values", "nodata"),
    *("scale", "offset", "amplitude_db", "match", "max_gap_days", "resample", "crs"),
}
_GRID = {"crs", "bounds", "resolution"}


def read_scene(path: str | Path) -> Scene:
    """Read a manifest (``.toml`` or ``.json``); DataError names the key that is wrong.

    Paths in it are relative to the manifest's folder.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name a scene manifest (TOML or JSON)") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a scene manifest in TOML or JSON ({error}); a raster is named in one"
        ) from None
    try:
        raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except ValueError as error:
        raise DataError(f"{path}: not a scene manifest in TOML or JSON ({error})") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: a scene manifest is a table with [layers]")
    return scene_from(raw, str(path), path.parent)


def scene_from(raw: Mapping[str, Any], source: str, folder: str | Path = ".") -> Scene:
    """A scene from a manifest's content; paths are relative to ``folder``.

    >>> scene = scene_from({"layers": {"vh_db": {"value": -17.0}}}, "example")
    >>> scene.layers["vh_db"].value
    -17.0
    """
    _known(raw, _TOP, source, "")
    layers: dict[str, dict[str, Any]] = {}
    if "preset" in raw:
        if raw["preset"] not in PRESETS:
            raise DataError(f"{source}: preset {raw['preset']!r} is none of {', '.join(PRESETS)}")
        if not isinstance(raw.get("files"), str):
            raise DataError(f'{source}: preset {raw["preset"]!r} needs files = "folder/pattern"')
        for name, keys in PRESETS[raw["preset"]].items():
            layers[name] = {
                key: value.replace("{files}", raw["files"]) if isinstance(value, str) else value
                for key, value in keys.items()
            }
    elif "files" in raw:
        raise DataError(f"{source}: files stands in a layer, or beside a preset")
    given = raw.get("layers", {})
    if not isinstance(given, Mapping):
        raise DataError(f"{source}: layers must be tables, [layers.vh_db] and so on")
    for name, keys in given.items():
        if not isinstance(keys, Mapping):
            raise DataError(f"{source}: layers.{name} must be a table")
        base = layers.get(name, {})
        if _where(keys):  # a layer's own files stand instead of the preset's
            base = {key: value for key, value in base.items() if key not in _where(base)}
        layers[name] = {**base, **keys}
    for polarisation in POLARISATIONS:
        twice = forms_given(polarisation, layers)
        if len(twice) > 1:
            raise DataError(f"{source}: layers {' and '.join(twice)} give one backscatter twice")
    if not layers:
        raise DataError(f"{source}: names no layers; add [layers.vh_db] and the others")
    grid = raw.get("grid", {})
    if grid:
        _known(grid, _GRID, source, "grid.")
        if set(grid) != _GRID:
            raise DataError(f"{source}: [grid] needs crs, bounds and resolution")
    resample = raw.get("resample", "refuse")
    built: dict[str, Layer] = {}
    preset = PRESETS.get(raw.get("preset", ""), {})
    for name, keys in layers.items():
        layer = _layer(name, {"resample": resample, **keys}, source, Path(folder))
        if layer is None and name in preset and name not in given:
            continue  # a preset names more than everybody downloads
        if layer is None:
            raise DataError(f"{source}: layers.{name}: no file matches {keys['files']!r}")
        built[name] = layer
    if not built:
        raise DataError(f"{source}: no file matches {raw.get('files')!r}")
    simulated = raw.get("simulated", False)
    if not isinstance(simulated, bool):
        raise DataError(f"{source}: simulated is true or false, not {simulated!r}")
    return Scene(source, built, str(raw.get("title", "")), dict(grid), simulated)


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


def _where(keys: Mapping[str, Any]) -> set[str]:
    return {"files", "file", "variable", "value", "values"} & set(keys)


def _known(raw: Mapping[str, Any], known: set[str], source: str, where: str) -> None:
    unknown = sorted(set(raw) - known)
    if unknown:
        raise DataError(
            f"{source}: {where}{unknown[0]} is not a key of a scene manifest; "
            f"known here: {', '.join(sorted(known))}"
        )


def _layer(name: str, keys: Mapping[str, Any], source: str, folder: Path) -> Layer | None:
    """One layer; None where a pattern matches no file."""
    place = f"{source}: layers.{name}"
    _known(keys, _LAYER, source, f"layers.{name}.")
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
            raise DataError(f"{place}.match: {keys['match']!r} is none of {', '.join(MATCHES)}")
        if keys["match"] != "exact" and "max_gap_days" not in keys:
            raise DataError(f"{place}: match = {keys['match']!r} needs max_gap_days")
    if keys["resample"] not in RESAMPLINGS:
        raise DataError(
            f"{place}.resample: {keys['resample']!r} is none of {', '.join(RESAMPLINGS)}"
        )
    if "crs" in keys:
        if not isinstance(keys["crs"], str):
            raise DataError(f"{place}.crs: {keys['crs']!r} is no name of a CRS such as EPSG:32631")
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
        slices = [Slice(_path(folder, str(item)), band, when) for when, item in pairs]
    else:
        if isinstance(files, str):
            names = _matching(folder, files)
            if not names:
                return None
        elif isinstance(files, Sequence):
            names = [_path(folder, str(item)) for item in files]
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
    return Layer(slices=_ascending(slices, place), **options)


def _single(
    keys: Mapping[str, Any], place: str, folder: Path, band: int | str, options: dict[str, Any]
) -> Layer:
    """A layer in one file: static, of stated dates by band, or a cube that knows its dates."""
    path = _path(folder, str(keys["file"]))
    cube = "variable" in keys or Path(path).suffix.lower() in CUBES
    if cube:
        opener = "ZARR" if path.rstrip("/").endswith(".zarr") else "netcdf"
        variable = str(keys.get("variable", "")).lstrip("/")
        path = f'{opener}:"{path}":{"/" if opener == "ZARR" else ""}{variable}'
    if "dates" in keys:
        dates = [_date(item, f"{place}.dates") for item in keys["dates"]]
        slices = [Slice(path, number, when) for number, when in enumerate(dates, start=1)]
        return Layer(slices=_ascending(slices, place), **options)
    if "date" in keys:
        return Layer(slices=(Slice(path, band, _date(keys["date"], f"{place}.date")),), **options)
    if cube:
        return Layer(cube=path, **options)
    return Layer(slices=(Slice(path, band),), **options)


def _ascending(slices: Sequence[Slice], place: str) -> tuple[Slice, ...]:
    ordered = sorted(slices, key=lambda item: item.date or np.datetime64(0, "s"))
    for one, other in pairwise(ordered):
        if one.date == other.date:
            raise DataError(
                f"{place}: two files of {one.date}: {one.path} and {other.path}; "
                "kgsm does not mosaic: name one of them, or a VRT of both"
            )
    return tuple(ordered)


def _matching(folder: Path, pattern: str) -> list[str]:
    root = Path(pattern).anchor
    base = Path(root) if root else folder
    relative = pattern[len(root) :]
    return sorted(str(item) for item in base.glob(relative) if item.is_file())


def _path(folder: Path, name: str) -> str:
    return name if "://" in name else str(folder / name)


def _by_date(raw: Any, place: str) -> list[tuple[np.datetime64, Any]]:
    if not isinstance(raw, Mapping) or not raw:
        raise DataError(f"{place}: must be a table of dates, {{2024-03-04 = …}}")
    return [(_date(key, place), item) for key, item in raw.items()]


def _date(value: Any, place: str) -> np.datetime64:
    text = value.isoformat() if isinstance(value, calendar_date) else str(value)
    if re.fullmatch(r"\d{4}-\d{2}-\d{2}(T\d{2}:\d{2}:\d{2})?Z?", text):
        try:
            return np.datetime64(text.rstrip("Z"), "s")
        except ValueError:
            pass
    raise DataError(f"{place}: {text!r} is not a date; write 2024-03-04 or 2024-03-04T05:30:00")


def _number(value: Any, place: str, finite: bool = True) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise DataError(f"{place}: {value!r} is not a number")
    if finite and not math.isfinite(value):
        raise DataError(f"{place}: {value!r} is not a finite number")
    return float(value)
