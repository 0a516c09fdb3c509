"""Scene manifests of what was prepared: one for each relative orbit, never mixed."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import whole

#: ``S1B_20211223T051122_022D_vv_sigma0.tif``
_PASS_FILE = re.compile(r"S1[A-D]_\d{8}T\d{6}_(\d{3}[AD])_(\w+)\.tif")
#: A file's layer, and the manifest's name of it.
_LAYERS = {
    **{f"{p}_sigma0": f"{p}_linear" for p in ("vh", "vv")},
    **{f"{p}_gamma0": f"{p}_gamma0_linear" for p in ("vh", "vv")},
    "angle": "angle_deg",
    "local_angle": "local_angle_deg",
}
_OTHER = {"sigma0": "_gamma0", "gamma0": "_sigma0"}


def manifest_text(title: str, layers: Mapping[str, Mapping[str, Any]], **top: Any) -> str:
    """A manifest in TOML; values are text, numbers, or tables of dates and names.

    >>> print(manifest_text("Home", {"vh_linear": {"files": "*_vh.tif"}}), end="")
    title = "Home"
    <BLANKLINE>
    [layers.vh_linear]
    files = "*_vh.tif"
    """
    lines = [f"title = {_toml(title)}", *(f"{key} = {_toml(value)}" for key, value in top.items())]
    for name, keys in layers.items():
        lines += ["", f"[layers.{name}]", *(f"{key} = {_toml(v)}" for key, v in keys.items())]
    return "\n".join(lines) + "\n"


def write_pass_manifests(folder: Path, kind: str, simulated: bool) -> list[Path]:
    """``scene_022D.toml`` and so on, for every relative orbit with files in a folder.

    kind: "sigma0" or "gamma0"; files of the other are not named.
    """
    orbits: dict[str, set[str]] = {}
    for file in sorted(folder.glob("S1*.tif")):
        found = _PASS_FILE.fullmatch(file.name)
        if found and found[2] in _LAYERS and not found[2].endswith(_OTHER[kind]):
            orbits.setdefault(found[1], set()).add(found[2])
    written = []
    for orbit, layers in orbits.items():
        way = {"A": "ascending", "D": "descending"}[orbit[-1]]
        title = f"Sentinel-1 {kind}, relative orbit {int(orbit[:-1])}, {way}"
        path = folder / f"scene_{orbit}.toml"
        named = {
            _LAYERS[layer]: {"files": f"S1*_{orbit}_{layer}.tif"}
            for layer in _LAYERS
            if layer in layers
        }
        with whole(path) as out:
            out.write(manifest_text(f"SIMULATED {title}" if simulated else title, named))
        written.append(path)
    return written


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML's basic strings and numbers are JSON's
