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
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..base.errors import DataError, UsageError
from ..tables.columns import POLARISATIONS, forms_given
from .gdal import check_local
from .layers import Layer, as_named, check_keys, cube_named, layer_from
from .presets import PRESETS

#: No manifest is larger than this.
MAX_BYTES = 8_000_000
#: Addresses, and GDAL's names of files behind them, chained ones too.
_NETWORK = re.compile(r"://|/vsi(curl|s3|gs|az|adls|oss|swift|hdfs|webhdfs)", re.IGNORECASE)


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
        slices = [item for layer in self.layers.values() for item in layer.slices]
        named = [frame.path for item in slices for frame in item.frames]
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
_GRID = {"crs", "bounds", "resolution"}


def read_scene(path: str | Path, *, allow_network: bool = False) -> Scene:
    """Read a manifest (``.toml`` or ``.json``); DataError names the key that is wrong.

    Paths in it are relative to the manifest's folder. allow_network: files may be addresses;
    else nothing a manifest names is fetched.
    """
    path = Path(path)
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path}: not a scene manifest in TOML or JSON (it is too large)")
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise DataError(f"{path}: is a folder; name a scene manifest (TOML or JSON)") from None
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path}: not a scene manifest in TOML or JSON ({error}); a raster is named in one"
        ) from None
    try:
        raw = json.loads(text) if path.suffix.lower() == ".json" else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a scene manifest in TOML or JSON ({error})") from None
    if not isinstance(raw, dict):
        raise DataError(f"{path}: a scene manifest is a table with [layers]")
    scene = scene_from(raw, str(path), path.parent)
    if not allow_network:
        _refuse_network(scene)
    return scene


def scene_from(raw: Mapping[str, Any], source: str, folder: str | Path = ".") -> Scene:  # noqa: C901  one key after another
    """A scene from a manifest's content; paths are relative to ``folder``.

    >>> scene = scene_from({"layers": {"vh_db": {"value": -17.0}}}, "example")
    >>> scene.layers["vh_db"].value
    -17.0
    """
    check_keys(raw, _TOP, source, "")
    layers: dict[str, dict[str, Any]] = {}
    if "preset" in raw:
        if not isinstance(raw["preset"], str) or raw["preset"] not in PRESETS:
            raise DataError(
                f"{source}: preset {raw['preset']!r} is unknown; choose {', '.join(PRESETS)}"
            )
        if not isinstance(raw.get("files"), str):
            raise DataError(f'{source}: preset {raw["preset"]!r} needs files = "folder/pattern"')
        for name, keys in PRESETS[raw["preset"]].items():
            layers[name] = {
                key: value.replace("{files}", raw["files"]) if isinstance(value, str) else value
                for key, value in keys.items()
            }
    elif "files" in raw:
        raise DataError(f"{source}: files belongs in a layer, or to a preset")
    given = raw.get("layers", {})
    if not isinstance(given, Mapping):
        raise DataError(f"{source}: layers must be tables, [layers.vh_db] and so on")
    for name, keys in given.items():
        if not isinstance(keys, Mapping):
            raise DataError(f"{source}: layers.{name} must be a table")
        base = layers.get(name, {})
        if _where(keys):  # a layer's files replace those of the preset
            base = {key: value for key, value in base.items() if key not in _where(base)}
        layers[name] = {**base, **keys}
    for polarisation in POLARISATIONS:
        twice = forms_given(polarisation, layers)
        if len(twice) > 1:
            raise DataError(f"{source}: layers {' and '.join(twice)} give one backscatter twice")
    if not layers:
        raise DataError(f"{source}: names no layers; add [layers.vh_db] and the others")
    grid = raw.get("grid", {})
    if not isinstance(grid, Mapping):
        raise DataError(f"{source}: grid must be a table, [grid]")
    if grid:
        check_keys(grid, _GRID, source, "grid.")
        if set(grid) != _GRID:
            raise DataError(f"{source}: [grid] needs crs, bounds and resolution")
    resample = raw.get("resample", "refuse")
    built: dict[str, Layer] = {}
    preset = PRESETS.get(raw.get("preset", ""), {})
    for name, keys in layers.items():
        layer = layer_from(name, {"resample": resample, **keys}, source, Path(folder))
        if layer is None and name in preset and name not in given:
            continue  # a preset names more than everybody downloads
        if layer is None:
            raise DataError(f"{source}: layers.{name}: no file matches {keys['files']!r}")
        layer = as_named(layer, source, of_preset=name in preset and name not in given)
        built[layer.name] = layer
    if not built:
        raise DataError(f"{source}: no file matches {raw.get('files')!r}")
    simulated = raw.get("simulated", False)
    if not isinstance(simulated, bool):
        raise DataError(f"{source}: simulated is true or false, not {simulated!r}")
    return Scene(source, built, str(raw.get("title", "")), dict(grid), simulated)


def _refuse_network(scene: Scene) -> None:
    for name in scene.files():
        if _NETWORK.search(name):
            raise UsageError(
                f"{scene.source}: names {name}, which is fetched from a network; "
                "allow it with --allow-network, or download it"
            )
        check_local(name, scene.source)


def _where(keys: Mapping[str, Any]) -> set[str]:
    return {"files", "file", "variable", "value", "values"} & set(keys)
