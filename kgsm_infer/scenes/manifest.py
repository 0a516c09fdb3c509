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

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import DataError, UsageError
from ..base.schema import Choices, Range, SettingsFile, read
from ..tables.columns import POLARISATIONS, find_forms
from ..tables.keys import canonical_name
from .gdal import check_local
from .layers import RESAMPLINGS, Layer, as_named, file_of, layer_from
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
        """Return every file the layers name, without the driver and variable around some names."""
        slices = [item for layer in self.layers.values() for item in layer.slices]
        named = [frame.path for item in slices for frame in item.frames]
        named += [layer.cube for layer in self.layers.values() if layer.cube]
        return tuple(dict.fromkeys(map(file_of, named)))

    def backscatter(self, polarisation: str) -> str:
        """Find the layer of a polarisation, in any of its forms; DataError if there is none."""
        given = find_forms(polarisation, self.layers)
        if not given:
            raise DataError(
                f"{self.source}: no layer {polarisation}_db (or _linear, _gamma0_db, "
                f"_gamma0_linear); it has {', '.join(self.layers)}"
            )
        return given[0]


@dataclass(frozen=True)
class _GridKeys:
    """``[grid]``: bounds are west, south, east, north, in units of the CRS as resolution is."""

    crs: str
    bounds: tuple[float, float, float, float]
    resolution: Annotated[float, Range(above=0)]


@dataclass(frozen=True)
class _Manifest:
    """The keys of a manifest. files: of the preset's layers."""

    title: str = ""
    simulated: bool = False
    preset: str | None = None
    files: str | None = None
    resample: Annotated[str, Choices(RESAMPLINGS)] = "refuse"
    grid: _GridKeys | None = None
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset}, expected one of {', '.join(PRESETS)}")
        if self.preset is not None and self.files is None:
            raise ValueError(f'preset {self.preset} needs files = "folder/pattern"')
        if self.preset is None and self.files is not None:
            raise ValueError("files belongs into a layer, or goes with a preset")


_FILE = SettingsFile(
    "scene manifest", hint="name a scene manifest (docs/maps.md)", max_bytes=MAX_BYTES
)


def read_scene(path: str | Path, *, allow_network: bool = False) -> Scene:
    """Read a manifest (``.toml`` or ``.json``); DataError names the key that is wrong.

    Paths in it are relative to the manifest's folder. allow_network: files may be addresses;
    otherwise nothing a manifest names is fetched.
    """
    path = Path(path)
    scene = scene_from(_FILE.load(path), str(path), path.parent)
    if not allow_network:
        refuse_network(scene)
    return scene


def scene_from(raw: Mapping[str, Any], source: str, folder: str | Path = ".") -> Scene:
    """Return the scene of a manifest's content; paths are relative to ``folder``.

    >>> scene = scene_from({"layers": {"vh_db": {"value": -17.0}}}, "example")
    >>> scene.layers["vh_db"].value
    -17.0
    """
    keys = read(_Manifest, raw, source)
    preset = PRESETS[keys.preset] if keys.preset is not None else {}
    layers = {canonical_name(name): own for name, own in _with_preset(keys, preset).items()}
    for polarisation in POLARISATIONS:
        twice = find_forms(polarisation, layers)
        if len(twice) > 1:
            raise DataError(f"{source}: layers {' and '.join(twice)} give one backscatter twice")
    if not layers:
        raise DataError(f"{source}: names no layers; add [layers.vh_db] and the others")
    built: dict[str, Layer] = {}
    for name, of_layer in layers.items():
        of_preset = name in preset and name not in keys.layers
        layer = layer_from(name, {"resample": keys.resample, **of_layer}, source, Path(folder))
        if layer is None and of_preset:
            continue  # a preset names more layers than most downloads have
        if layer is None:
            raise DataError(f"{source}: layers.{name}: no file matches {of_layer['files']!r}")
        layer = as_named(layer, source, of_preset=of_preset)
        built[layer.name] = layer
    if not built:
        raise DataError(f"{source}: no file matches {keys.files!r}")
    grid = {} if keys.grid is None else asdict(keys.grid)
    return Scene(source, built, keys.title, grid, keys.simulated)


def _with_preset(
    keys: _Manifest, preset: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the keys of every layer: the preset's, replaced by those of the manifest."""
    layers: dict[str, dict[str, Any]] = {
        name: {
            key: value.replace("{files}", keys.files or "") if isinstance(value, str) else value
            for key, value in of_layer.items()
        }
        for name, of_layer in preset.items()
    }
    for name, of_layer in keys.layers.items():
        base = layers.get(name, {})
        if _where(of_layer):  # a layer's own files replace those of the preset
            base = {key: value for key, value in base.items() if key not in _where(base)}
        layers[name] = {**base, **of_layer}
    return layers


def refuse_network(scene: Scene, option: str = "--allow-network") -> None:
    """Refuse a scene that is not made of local files, with UsageError.

    option: of the command that allows addresses, for the message; "" where none does.
    """
    remedy = f"allow addresses with {option}, or download it" if option else "download it"
    for name in scene.files():
        if _NETWORK.search(name):
            raise UsageError(
                f"{scene.source}: names {name}, which is fetched from a network; {remedy}"
            )
        check_local(name, scene.source, remedy)


def _where(keys: Mapping[str, Any]) -> set[str]:
    return {"files", "file", "variable", "value", "values"} & set(keys)
