"""A scene from a STAC catalogue: radar passes and vegetation on one grid, with their manifests.

    catalogue ─► items ─► acquisitions ─► files at hand ─► on the grid ─► COGs ─► scene_022D.toml
                                                                       └► report.json

Each relative orbit gets a manifest of its own. An acquisition is finished when its COGs are in
place; the same call goes on after the last finished one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..base.errors import DataError
from ..base.files import whole
from ..scenes.gdal import gdal
from ..scenes.grid import Grid
from .catalogue import Found, flat_box, session
from .download import WHOLE_MB, Asset, Local, asset_of, at_hand
from .grids import Draft, finished, into_place, said_simulated, workshop
from .items import ItemGroup, asset_name, sort_items
from .manifests import write_pass_manifests
from .reflectance import PRODUCTS, landsat_clear, ndvi, reflectance, scl_clear
from .safe import Floats

Progress = Callable[[int, int], None]
Fetch = Callable[[Asset], Local]


@dataclass(frozen=True)
class SourceFile:
    """A file that was read, and what is known of it."""

    item: str
    collection: str
    href: str
    checked: bool
    bytes: int


@dataclass(frozen=True)
class Done:
    """One acquisition. share: of the grid's pixels with a number, by layer."""

    stem: str
    kind: str
    date: str
    files: tuple[str, ...]
    share: Mapping[str, float]
    taken: tuple[SourceFile, ...]
    kept: bool = False


@dataclass
class Report:
    """What was made, from where, and what was left out and why."""

    catalogue: str
    looked_at: int
    done: list[Done] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    manifests: list[str] = field(default_factory=list)
    form: str = ""


def prepare_stack(
    source: str | Path,
    found: Found,
    grid: Grid,
    folder: str | Path,
    *,
    radar: str | None = None,
    angle_deg: float | None = None,
    sign: Callable[[str], str] = lambda href: href,
    whole_mb: float = WHOLE_MB,
    vegetation_only: bool = False,
    progress: Progress | None = None,
) -> Report:
    """Put the items found on a grid, as COGs and manifests in a folder.

    radar: what the numbers of unknown radar collections are (manifests.FORMS). angle_deg: one
    incidence angle for items without their own. sign: makes an href fit to be fetched.
    whole_mb: remote files up to this size are fetched whole. vegetation_only: leave radar out.
    Stops at the first file that is not what its catalogue says, or cannot be had; what is
    finished stays. DataError where no radar pass has a number on the grid.
    """
    folder = Path(folder)
    wanted = sort_items(found.items, radar)
    report = Report(str(source), found.looked_at, left_out=dict(wanted.left_out))
    chosen = [one for one in wanted.acquisitions if not (vegetation_only and one.kind == "radar")]
    passes = [one for one in chosen if one.kind == "radar"]
    if not passes and not vegetation_only:
        raise DataError(f"{source}: {_no_radar(report.left_out)}")
    forms = sorted({one.form for one in passes})
    if len(forms) > 1:
        raise DataError(f"{source}: its radar items hold {' and '.join(forms)}; name a collection")
    fetch = partial(
        at_hand, cache=folder / ".cache", session=session(), sign=sign, whole_mb=whole_mb
    )
    for number, one in enumerate(chosen):
        done = _prepared(one, grid, folder, fetch)
        if any(done.share.values()) or done.kept:
            report.done.append(done)
        else:
            report.left_out[one.stem] = "has no number on the grid"
        if progress is not None:
            progress(number + 1, len(chosen))
    if passes and not any(done.kind == "radar" for done in report.done):
        raise DataError(f"{source}: no radar pass has a number on the grid")
    if passes:
        report.form = forms[0]
        paths = write_pass_manifests(folder, report.form, angle_deg)
        report.manifests = [path.name for path in paths]
    with whole(folder / "report.json") as file:
        json.dump(asdict(report), file, indent=1, ensure_ascii=False)
    return report


def planned(found: Found, radar: str | None) -> list[str]:
    """What would be made, one line each."""
    wanted = sort_items(found.items, radar)
    lines = []
    for one in wanted.acquisitions:
        sizes = [
            asset_of(item, asset_name(item, band)).size
            for item, bands in zip(one.items, one.bands, strict=True)
            for band in bands.values()
        ]
        known = [size for size in sizes if size is not None]
        size = f", {sum(known) / 1e6:.0f} MB of files" if known else ""
        layers = ", ".join(dict.fromkeys(name for bands in one.bands for name in bands))
        lines.append(f"{one.stem}: {len(one.items)} items, {layers}{size}")
    return [*lines, *(f"left out {name}: {why}" for name, why in wanted.left_out.items())]


def report_lines(report: Report, folder: Path) -> list[str]:
    """The report in words: what was taken from where, and what was left out."""
    lines = []
    for done in report.done:
        shares = ", ".join(f"{name} {share:.0%}" for name, share in done.share.items())
        checked = sum(taken.checked for taken in done.taken)
        files = f"{len(done.taken)} files, {checked} checked by checksum"
        what = "finished before, kept" if done.kept else f"{shares} of the grid; {files}"
        lines.append(f"{done.stem}: {what}")
    lines += [f"left out {name}: {why}" for name, why in report.left_out.items()]
    fetched = sum(taken.bytes for done in report.done for taken in done.taken)
    lines.append(f"{report.catalogue}: {fetched / 1e6:.1f} MB downloaded")
    return lines + [str(folder / name) for name in report.manifests]


def _prepared(one: ItemGroup, grid: Grid, folder: Path, fetch: Fetch) -> Done:
    """One acquisition's COGs in place; those of the same inputs are kept."""
    key = _key(one, grid)
    names = _file_names(one)
    date = str(one.time)
    if all(finished(folder / name, key) for name in names.values()):
        return Done(one.stem, one.kind, date, tuple(names.values()), {}, (), kept=True)
    taken: list[SourceFile] = []
    reasons: set[str] = set()
    share: dict[str, float] = {}
    with gdal(), workshop(folder) as part:
        values = _values(one, grid, fetch, taken, reasons)
        for layer, numbers in values.items():
            share[layer] = float(np.isfinite(numbers).mean())
        if not any(share[layer] for layer in share if layer != "angle"):
            return Done(one.stem, one.kind, date, (), dict.fromkeys(share, 0.0), tuple(taken))
        for layer, numbers in values.items():
            draft = Draft(part / f"{layer}.draft", grid)
            draft.write(numbers, 0, 0)
            tags = {
                "ITEMS": " ".join(item.id for item in one.items),
                "SOFTWARE": f"kgsm {__version__}",
                "KGSM_KEY": key,
                **({"SIMULATED": max(reasons)} if any(reasons) else {}),
            }
            draft.finish(part / names[layer], tags, layer)
        files = tuple(path.name for path in into_place(part, folder))
    return Done(one.stem, one.kind, date, files, share, tuple(taken))


def _file_names(one: ItemGroup) -> dict[str, str]:
    """Names as ``prepare sigma0`` and ``prepare ndvi`` give them, by layer."""
    if one.kind != "radar":
        day = one.time.astype("datetime64[D]")
        return {"ndvi": f"ndvi_{day}_{one.kind.replace('-', '')}.tif"}
    return {layer: f"{one.stem}_{layer}.tif" for layer in _layers(one)}


def _layers(one: ItemGroup) -> list[str]:
    if one.kind != "radar":
        return ["ndvi"]
    common = set.intersection(*(set(bands) for bands in one.bands))
    return [
        name if name == "angle" else f"{name}_{one.form}"
        for name in ("vh", "vv", "angle")
        if name in common
    ]


def _values(
    one: ItemGroup,
    grid: Grid,
    fetch: Fetch,
    taken: list[SourceFile],
    reasons: set[str],
) -> dict[str, Floats]:
    """Layers of an acquisition on the grid."""

    def read(name: str, resampling: str) -> Floats:
        bands = [bands[name] for bands in one.bands]
        places = {}
        for item, band in zip(one.items, bands, strict=True):
            asset = asset_of(item, asset_name(item, band))
            local = fetch(asset)
            places[asset.href] = local.path
            reasons.add(said_simulated(local.path))
            taken.append(_taken(item, asset, local))
        return _on_grid(one.items, bands, places, grid, resampling)

    if one.kind == "radar":
        found = {}
        for layer in _layers(one):
            name = layer.partition("_")[0]
            # decibels are only moved: their mean is not the decibel of the mean power
            decibels = one.form.endswith("db")
            values = read(name, "nearest" if decibels else "average")
            if name != "angle" and not decibels:
                values = np.where(values > 0, values, np.nan)
            found[layer] = values
        return found
    stored = {name: read(name, "nearest") for name in ("red", "nir", "quality")}
    product, add = PRODUCTS["landsat" if one.kind == "landsat" else "sentinel2"], 0.0
    if one.kind == "sentinel-2":
        add = _boa_offset(one.items[0])
    bands = {name: reflectance(product, stored[name], add) for name in ("red", "nir")}
    quality = np.nan_to_num(stored["quality"]).astype(np.int64)  # 0: no data, in both
    clear = landsat_clear(quality) if one.kind == "landsat" else scl_clear(quality)
    return {"ndvi": ndvi(bands, clear)}


def _boa_offset(item: Any) -> float:
    """BOA_ADD_OFFSET of a Sentinel-2 item, in stored numbers: -1000 since baseline 04.00, unless
    the archive has added it already (Earth Search says so)."""
    if item.properties.get("earthsearch:boa_offset_applied"):
        return 0.0
    said = item.properties.get("s2:processing_baseline", item.properties.get("processing:version"))
    try:
        return -1000.0 if float(str(said)) >= 4.0 else 0.0
    except ValueError:
        raise DataError(
            f"{item.id}: does not say its processing baseline (s2:processing_baseline), and the "
            "offset of its reflectance hangs on it"
        ) from None


def _on_grid(
    items: Sequence[Any],
    bands: Sequence[str],
    places: Mapping[str, str],
    grid: Grid,
    resampling: str,
) -> Floats:
    """(H, W) of a band of several items on the grid, the first with a number; odc-stac."""
    import rasterio
    from odc.geo.geobox import GeoBox
    from odc.stac import load

    box = GeoBox((grid.height, grid.width), rasterio.Affine(*grid.transform), grid.crs)
    merged = np.full((grid.height, grid.width), np.nan)
    for item, band in zip(items, bands, strict=True):
        try:
            found = load(
                [_with_footprint(item)],
                bands=[band],
                geobox=box,
                resampling=resampling,
                dtype="float32",
                nodata=float("nan"),
                patch_url=lambda href: places.get(href, href),
            )
        except rasterio.errors.RasterioError as error:
            why = " ".join(str(error).split())[:160]
            raise DataError(f"{item.id}: {band} cannot be read ({why}); half a download?") from None
        except ValueError as error:
            raise DataError(f"{item.id}: {band} cannot be read ({error})") from None
        if found.sizes.get("time", 0):
            values = found[band].values[0].astype(np.float64)
            merged = np.where(np.isfinite(merged), merged, values)
    return merged


def _with_footprint(item: Any) -> Any:
    """odc-stac wants a geometry; a box is one."""
    if item.geometry is not None:
        return item
    west, south, east, north = flat_box(item.bbox)
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    copy = item.clone()
    copy.geometry = {"type": "Polygon", "coordinates": [ring]}
    return copy


def _taken(item: Any, asset: Asset, local: Local) -> SourceFile:
    return SourceFile(item.id, item.collection_id or "", asset.href, local.checked, local.fetched)


def _key(one: ItemGroup, grid: Grid) -> str:
    """Digest of what an acquisition's files depend on."""
    said = [
        __version__,
        repr(grid),
        one.form,
        [
            [item.id, str(item.properties.get("updated")), sorted(bands.items())]
            + [asset_of(item, asset_name(item, band)).checksum for band in bands.values()]
            for item, bands in zip(one.items, one.bands, strict=True)
        ],
    ]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()


def _no_radar(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return "holds no radar item over the place and the days"
    name, why = next(iter(left_out.items()))
    return f"holds no radar item that can be used; {name}: {why}"
