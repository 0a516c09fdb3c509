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
#: What a backscatter file's numbers are, and the end of the manifest's name of them.
FORMS = {
    "sigma0": "linear",
    "gamma0": "gamma0_linear",
    "sigma0_db": "db",
    "gamma0_db": "gamma0_db",
}
_ANGLES = {"angle": "angle_deg", "local_angle": "local_angle_deg"}
#: Days between two clear images over which vegetation is taken as a straight line.
NDVI_GAP_DAYS = 20


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


def write_pass_manifests(
    folder: Path, form: str, simulated: bool, angle_deg: float | None = None
) -> list[Path]:
    """``scene_022D.toml`` and so on, for every relative orbit with files in a folder.

    form: of FORMS; backscatter of another form is not named. angle_deg: one angle for passes
    without rasters of it. NDVI rasters in the folder (``*_ndvi.tif``) go into every manifest.
    """
    names = {f"{p}_{form}": f"{p}_{FORMS[form]}" for p in ("vh", "vv")} | _ANGLES
    orbits: dict[str, set[str]] = {}
    for file in sorted(folder.glob("S1*.tif")):
        found = _PASS_FILE.fullmatch(file.name)
        if found and found[2] in names:
            orbits.setdefault(found[1], set()).add(found[2])
    written = []
    for orbit, layers in orbits.items():
        if layers <= set(_ANGLES):
            continue
        way = {"A": "ascending", "D": "descending"}[orbit[-1]]
        title = f"Sentinel-1 {form}, relative orbit {int(orbit[:-1])}, {way}"
        named: dict[str, dict[str, Any]] = {
            name: {"files": f"S1*_{orbit}_{layer}.tif"}
            for layer, name in names.items()
            if layer in layers
        }
        if "angle_deg" not in named and angle_deg is not None:
            named["angle_deg"] = {"value": angle_deg}
        if any(folder.glob("*_ndvi.tif")):
            named["ndvi"] = {
                "files": "*_ndvi.tif",
                "match": "linear",
                "max_gap_days": NDVI_GAP_DAYS,
            }
        path = folder / f"scene_{orbit}.toml"
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
