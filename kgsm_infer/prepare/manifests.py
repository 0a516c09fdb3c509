"""Scene manifests of what was prepared: one for each relative orbit, never mixed."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..base.files import write_whole
from .grids import simulated_note

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
NDVI_GAP_DAYS = 16
#: Fused days, in a folder below the scene's.
DAILY = "daily"
#: Of two images of one day the first in this order is used.
_PREFERRED = ("sentinel2", "nbar", "landsat", "modis")
_IMAGE = re.compile(r"ndvi_(\d{4}-\d{2}-\d{2})_(\w+)\.tif")


def manifest_text(title: str, layers: Mapping[str, Mapping[str, Any]], **top: Any) -> str:
    """Write a manifest in TOML; values are text, numbers, or tables of dates and names.

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
    folder: Path,
    form: str,
    angle_deg: float | None = None,
    statics: Mapping[str, Path] | None = None,
) -> list[Path]:
    """Write ``scene_022D.toml`` and so on for every relative orbit with files in a folder.

    form: of FORMS; backscatter of another form is not named. angle_deg: one angle for passes
    without rasters of it. statics: rasters of layers without a date, by the layer's name. NDVI
    in the folder goes into every manifest. A scene with a file that says SIMULATED says so.
    """
    names = {f"{p}_{form}": f"{p}_{FORMS[form]}" for p in ("vh", "vv")} | _ANGLES
    orbits: dict[str, dict[str, list[Path]]] = {}
    for file in sorted(folder.glob("S1*.tif")):
        found = _PASS_FILE.fullmatch(file.name)
        if found and found[2] in names:
            orbits.setdefault(found[1], {}).setdefault(found[2], []).append(file)
    vegetation, images = _ndvi(folder)
    written = []
    for orbit, layers in orbits.items():
        if set(layers) <= set(_ANGLES):
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
        if vegetation:
            named["ndvi"] = vegetation
        for name, file in (statics or {}).items():
            where = os.path.relpath(file, folder)
            named[name] = {"file": where, "resample": "nearest"}
        used = [*(file for files in layers.values() for file in files), *images]
        made_up = any(simulated_note(file) for file in (*used, *(statics or {}).values()))
        top = {"simulated": True} if made_up else {}
        path = folder / f"scene_{orbit}.toml"
        with write_whole(path) as out:
            out.write(manifest_text(f"SIMULATED {title}" if made_up else title, named, **top))
        written.append(path)
    return written


def _ndvi(folder: Path) -> tuple[dict[str, Any], list[Path]]:
    """Return the NDVI layer of a folder, and its files: fused days where there are any, else the
    clear images, straight lines between them."""
    daily = sorted((folder / DAILY).glob("ndvi_*.tif"))
    if daily:
        return {"files": f"{DAILY}/ndvi_*.tif", "match": "nearest", "max_gap_days": 1}, daily
    by_day = clear_images(folder)
    if not by_day:
        return {}, []
    files = {day: file.name for day, file in by_day.items()}
    layer = {"files": files, "match": "linear", "max_gap_days": NDVI_GAP_DAYS}
    return layer, list(by_day.values())


def clear_images(folder: Path) -> dict[str, Path]:
    """Return NDVI rasters of a folder by day, one a day, in order of time."""
    by_day: dict[str, Path] = {}
    found = [(_IMAGE.fullmatch(file.name), file) for file in sorted(folder.glob("ndvi_*.tif"))]
    for product in _PREFERRED:
        for name, file in found:
            if name and name[2] == product:
                by_day.setdefault(name[1], file)
    return dict(sorted(by_day.items()))


def unused_images(folder: Path) -> dict[str, str]:
    """Return the NDVI rasters of a folder that its manifests do not use, and why.

    Fused days stand in for all images; of two images of one day one is used.
    """
    images = {file.name: file for file in sorted(folder.glob("ndvi_*.tif"))}
    if any((folder / DAILY).glob("ndvi_*.tif")):
        return {}
    chosen = clear_images(folder)
    found = {}
    for name in images:
        match = _IMAGE.fullmatch(name)
        used = chosen.get(match[1]) if match else None
        if used is not None and used.name != name:
            found[name] = f"is of the same day as {used.name}, which is used"
    return found


def _toml(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return json.dumps(value, ensure_ascii=False)  # TOML's basic strings and numbers are JSON's
