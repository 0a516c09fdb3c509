"""A scene from a STAC catalogue: radar passes and vegetation on one grid, with their manifests.

    catalogue ─► items ─► acquisitions ─► local files ─► on the grid ─► COGs ─► scene_022D.toml
                                                                       └► report.json

Each relative orbit gets one manifest. An acquisition is finished when its COGs are in place;
calling again continues after the last finished one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..base.errors import DataError, KgsmError, MissingError
from ..base.files import workshop, write_whole
from ..base.fingerprint import code_digest, fingerprint
from ..base.network import open_session
from ..scenes.gdal import gdal
from ..scenes.grid import Grid, Window
from ..scenes.rasters import Raster, open_raster
from ..scenes.validity import Validity, stored_zero
from . import CODE
from .catalogue import Found, ServerError, unsigned
from .download import WHOLE_MB, Asset, Local, asset_of, at_hand
from .grids import Draft, finished, into_place, simulated_note, tags_of
from .items import ItemGroup, asset_name, nodata_of, sort_items
from .manifests import unused_images, write_pass_manifests
from .reflectance import PRODUCTS, landsat_clear, ndvi, reflectance, scl_clear
from .safe import Floats

#: Rows read, merged and written at a time.
BLOCK = 512

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
class PreparedAcquisition:
    """One acquisition. share: of the grid's pixels with a number, by layer.

    unusable: item id and why nothing of it was used. not_fetched: ids of those whose files could
    not be downloaded; another run tries again.
    """

    stem: str
    kind: str
    date: str
    files: tuple[str, ...]
    share: Mapping[str, float]
    taken: tuple[SourceFile, ...]
    kept: bool = False
    unusable: Mapping[str, str] = field(default_factory=dict)
    not_fetched: tuple[str, ...] = ()


@dataclass
class Report:
    """Result of a run: files made, their sources, and items left out with the reason."""

    catalogue: str
    looked_at: int
    done: list[PreparedAcquisition] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    manifests: list[str] = field(default_factory=list)
    form: str = ""


@dataclass(frozen=True)
class StackOptions:
    """Options of a run.

    radar: what the numbers of unknown radar collections are (manifests.FORMS).  boa_offset: of
    Sentinel-2 items that do not state their processing baseline.  angle_deg: one incidence angle
    for items without one.  sign: signs an href for download.  whole_mb: remote files up to this
    size are fetched whole.  vegetation_only: leave radar out.
    """

    radar: str | None = None
    boa_offset: float | None = None
    angle_deg: float | None = None
    sign: Callable[[str], str] = unsigned
    whole_mb: float = WHOLE_MB
    vegetation_only: bool = False


#: Nothing beyond what the items state.
AS_STATED = StackOptions()


def prepare_stack(
    source: str | Path,
    found: Found,
    grid: Grid,
    folder: str | Path,
    options: StackOptions = AS_STATED,
    progress: Progress | None = None,
) -> Report:
    """Put the items found on a grid, as COGs and manifests in a folder.

    An item with a file that cannot be downloaded, or that differs from what its catalogue states,
    is left out with the reason. DataError where no radar pass has a number on the grid;
    MissingError where a download is the cause.
    """
    folder = Path(folder)
    wanted = sort_items(found.items, options.radar, options.boa_offset)
    report = Report(str(source), found.looked_at, left_out={**found.left_out, **wanted.left_out})
    chosen = [
        one for one in wanted.acquisitions if not (options.vegetation_only and one.kind == "radar")
    ]
    passes = [one for one in chosen if one.kind == "radar"]
    if not passes and not options.vegetation_only:
        raise DataError(f"{source}: {_no_radar(report.left_out)}")
    forms = sorted({one.form for one in passes})
    if len(forms) > 1:
        raise DataError(f"{source}: its radar items hold {' and '.join(forms)}; name a collection")
    fetch = partial(
        at_hand,
        cache=folder / ".cache",
        session=open_session("prepare stack"),
        sign=options.sign,
        whole_mb=options.whole_mb,
    )
    not_fetched: list[str] = []
    for number, one in enumerate(chosen):
        done = _prepared(one, grid, folder, fetch)
        report.left_out |= done.unusable
        not_fetched += done.not_fetched
        if any(done.share.values()) or done.kept:
            report.done.append(done)
        if progress is not None:
            progress(number + 1, len(chosen))
    if passes and not any(done.kind == "radar" for done in report.done):
        raise _no_pass(source, passes, report.left_out, not_fetched)
    if passes:
        report.form = forms[0]
        paths = write_pass_manifests(folder, report.form, options.angle_deg)
        report.manifests = [path.name for path in paths]
        report.left_out |= unused_images(folder)
    with write_whole(folder / "report.json") as file:
        json.dump(asdict(report), file, indent=1, ensure_ascii=False)
    return report


def _no_pass(
    source: str | Path,
    passes: Sequence[ItemGroup],
    left_out: Mapping[str, str],
    not_fetched: Sequence[str],
) -> KgsmError:
    """Return the error of a run without a radar pass, with the reason of one of its items."""
    names = [item.id for one in passes for item in one.items if item.id in left_out]
    failed = [name for name in names if name in not_fetched]
    name = next(iter([*failed, *names, *left_out]), None)
    why = f"; {name}: {left_out[name]}" if name is not None else ""
    kind = MissingError if failed else DataError
    return kind(f"{source}: no radar pass has a number on the grid{why}")


def planned(found: Found, options: StackOptions = AS_STATED) -> list[str]:
    """Return what would be made, one line each."""
    wanted = sort_items(found.items, options.radar, options.boa_offset)
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
    left_out = {**found.left_out, **wanted.left_out}
    return [*lines, *(f"left out {name}: {why}" for name, why in left_out.items())]


def report_lines(report: Report, folder: Path) -> list[str]:
    """Describe the report in words: what was read from where, and what was left out."""
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


class _BrokenItem(Exception):
    """An item whose files cannot be read to their end."""

    def __init__(self, name: str, error: KgsmError) -> None:
        super().__init__(name)
        self.name, self.error = name, error


def _prepared(one: ItemGroup, grid: Grid, folder: Path, fetch: Fetch) -> PreparedAcquisition:
    """Prepare one acquisition's COGs; those of the same inputs are kept."""
    names = tuple(_file_names(one).values())
    key = _key(one, grid)
    if all(finished(folder / name, key) for name in names):
        idle = dict(json.loads(tags_of(folder / names[0]).get("LEFT_OUT", "{}")))
        return PreparedAcquisition(
            one.stem, one.kind, str(one.time), names, {}, (), kept=True, unusable=idle
        )
    failed: dict[str, KgsmError] = {}
    while True:  # once more without each item that ends early, which is found while it is read
        try:
            return _write_acquisition(one, grid, folder, fetch, failed)
        except _BrokenItem as broken:
            failed[broken.name] = broken.error


def _write_acquisition(
    one: ItemGroup, grid: Grid, folder: Path, fetch: Fetch, failed: dict[str, KgsmError]
) -> PreparedAcquisition:
    """Write an acquisition of all items but the failed ones; adds those that cannot be opened."""
    names = _file_names(one)
    with gdal(), ExitStack() as opened:
        read = _opened(one, grid, fetch, opened, failed)
        done = PreparedAcquisition(
            one.stem,
            one.kind,
            str(one.time),
            (),
            dict.fromkeys(names, 0.0),
            tuple(file for item in read for file in item.files),
            unusable={name: str(error) for name, error in failed.items()},
            not_fetched=tuple(n for n, error in failed.items() if isinstance(error, ServerError)),
        )
        if not read:
            return done
        part = opened.enter_context(workshop(folder))
        drafts = {layer: Draft(part / f"{layer}.draft", grid) for layer in names}
        for draft in drafts.values():
            opened.callback(draft.close)
        counts, tally = dict.fromkeys(drafts, 0), _PixelTally.of(read)
        for window in grid.window.parts(BLOCK, grid.width):
            for layer, numbers in _block(one, read, window, tally).items():
                drafts[layer].write(numbers, window.row, 0)
                counts[layer] += int(np.isfinite(numbers).sum())
        share = {layer: count / (grid.height * grid.width) for layer, count in counts.items()}
        idle = tally.unused(one.kind)
        if not any(share[layer] for layer in share if layer != "angle"):
            return replace(done, unusable={**done.unusable, **idle})
        idle |= {
            f"{one.stem} {layer}": "has no number on the grid: its items hold only missing values"
            for layer, found in share.items()
            if not found
        }
        simulated = max(item.simulated for item in read)
        tags = {
            "ITEMS": " ".join(item.name for item in read if item.name not in idle),
            "LEFT_OUT": json.dumps(idle, ensure_ascii=False),
            "SOFTWARE": f"kgsm {__version__}",
            "KGSM_KEY": _key(one, grid, failed),
            **({"SIMULATED": simulated} if simulated else {}),
        }
        for layer, draft in drafts.items():
            draft.finish(part / names[layer], tags, layer)
        files = tuple(path.name for path in into_place(part, folder))
    return replace(done, files=files, share=share, unusable={**done.unusable, **idle})


def _file_names(one: ItemGroup) -> dict[str, str]:
    """Return names as ``prepare sigma0`` and ``prepare ndvi`` give them, by layer."""
    if one.kind != "radar":
        day = one.time.astype("datetime64[D]")
        return {"ndvi": f"ndvi_{day}_{one.kind.replace('-', '')}.tif"}
    return {layer: f"{one.stem}_{layer}.tif" for layer in _layers(one)}


def _layers(one: ItemGroup) -> list[str]:
    if one.kind != "radar":
        return ["ndvi"]
    found = set[str]().union(*one.bands)
    return [
        name if name == "angle" else f"{name}_{one.form}"
        for name in ("vh", "vv", "angle")
        if name in found
    ]


@dataclass(frozen=True)
class _OpenBand:
    """One band of a file on the grid. number: in the file.  rule: which stored numbers count."""

    source: Raster
    number: int
    rule: Validity

    def read(self, window: Window) -> Floats:
        """Return (H, W) float64 as stored; missing is NaN."""
        return self.source.stored(self.number, window, self.rule)

    def read_scaled(self, window: Window) -> Floats:
        """Read (H, W) float64 with the scale and offset that the file declares."""
        scale, offset = self.source.scaling(self.number)
        return self.read(window) * scale + offset


@dataclass(frozen=True)
class _OpenItem:
    """An item's bands on the grid. add: to stored numbers, BOA_ADD_OFFSET of Sentinel-2.

    scene: items that share it are versions of one another.
    """

    name: str
    scene: str
    bands: Mapping[str, _OpenBand]
    files: tuple[SourceFile, ...]
    simulated: str
    add: float


def _opened(
    one: ItemGroup, grid: Grid, fetch: Fetch, opened: ExitStack, failed: dict[str, KgsmError]
) -> list[_OpenItem]:
    """Fetch and open an acquisition's items; adds those that cannot be read to ``failed``."""
    items = []
    for number, item in enumerate(one.items):
        if item.id in failed:
            continue
        try:
            items.append(_open_item(one, number, grid, fetch, opened))
        except (DataError, ServerError) as error:
            failed[item.id] = error
    return items


def _bands_read(one: ItemGroup, number: int) -> dict[str, str]:
    """Return the bands of an item that are read, by name."""
    names = {"red", "nir", "quality"}
    if one.kind == "radar":
        names = {layer.partition("_")[0] for layer in _layers(one)}
    bands = one.bands[number]
    return {name: bands[name] for name in sorted(names & bands.keys())}


def _open_item(
    one: ItemGroup, number: int, grid: Grid, fetch: Fetch, opened: ExitStack
) -> _OpenItem:
    """Fetch and open the files of an item; DataError where one is missing or of another kind."""
    read, files, simulated = {}, [], ""
    item = one.items[number]
    # decibels are only moved: their mean is not the decibel of the mean power
    average = one.kind == "radar" and not one.form.endswith("db")
    for name, band in _bands_read(one, number).items():
        asset = asset_of(item, asset_name(item, band))
        local = fetch(asset)
        files.append(_source_file(item, asset, local))
        simulated = max(simulated, simulated_note(local.path))
        source = open_raster(local.path)
        opened.callback(source.close)
        place = source.band(_band_number(item, band))
        if why := _other_kind(source, place, one.kind):
            raise DataError(why)
        declared = source.dataset.nodatavals[place - 1]
        scale, offset = source.scaling(place)
        rule = Validity(
            nodata_of(item, band) if declared is None else None,
            no_power=stored_zero(scale, offset) if average and name != "angle" else None,
        )
        view = source.on(grid, "average" if average else "nearest")
        read[name] = _OpenBand(view, place, rule)
    return _OpenItem(
        item.id, one.scenes[number], read, tuple(files), simulated, one.offsets[number]
    )


def _band_number(item: Any, band: str) -> int:
    """Return 2 of ``file.2``; 1 of an asset with one band."""
    return 1 if band in item.assets else int(band.rpartition(".")[2])


def _other_kind(source: Raster, number: int, kind: str) -> str:
    """Return why a band's numbers are not what a collection's are; "" where they may be."""
    dtype = str(source.dataset.dtypes[number - 1])
    if dtype.startswith("complex"):
        return (
            f"holds complex numbers ({dtype}), a product in radar geometry; detected power is read"
        )
    if kind == "radar" and not dtype.startswith("float") and source.scaling(number) == (1.0, 0.0):
        return f"holds {dtype}, perhaps amplitude or digital numbers; power or decibels are read"
    if kind != "radar" and dtype.startswith("float"):
        return f"holds {dtype}, perhaps reflectance from 0 to 1; stored integers are read"
    return ""


@dataclass(frozen=True)
class _PixelTally:
    """Pixels of the items of an acquisition: with a number, used, and with negative power."""

    items: Sequence[_OpenItem]
    valid: list[int]
    used: list[int]
    negative: list[int]

    @classmethod
    def of(cls, items: Sequence[_OpenItem]) -> _PixelTally:
        """Begin at 0 for each item."""
        return cls(items, *([0] * len(items) for _ in range(3)))

    def unused(self, kind: str) -> dict[str, str]:
        """Return the name of each item without a pixel in the result, and why."""
        cause = "padding" if kind == "radar" else "clouds"
        found = {}
        for number, item in enumerate(self.items):
            newer = [one.name for one in self.items[:number] if one.scene == item.scene]
            others = [one.name for one, used in zip(self.items, self.used, strict=True) if used]
            if self.used[number]:
                continue
            if not self.valid[number] and self.negative[number]:
                found[item.name] = (
                    "holds only negative power; is it in decibels? --radar gamma0_db or sigma0_db"
                )
            elif not self.valid[number]:
                found[item.name] = f"has no number on the grid: only {cause} or missing values"
            elif newer:
                found[item.name] = f"is an older version of {newer[0]}, which is used"
            else:
                found[item.name] = f"has no pixel of its own on the grid: {others[0]} covers them"
        return found


def _block(
    one: ItemGroup, items: Sequence[_OpenItem], window: Window, tally: _PixelTally
) -> dict[str, Floats]:
    """Return layers of an acquisition on a window: items masked, then merged, the first counts.

    A pixel that the newest version of a scene saw, under a cloud or not, is left to that version.
    """
    missing = np.full((window.height, window.width), np.nan)
    merged: dict[str, Floats] = dict.fromkeys(_layers(one), missing)
    seen: dict[str, NDArray[np.bool_]] = {}
    for number, item in enumerate(items):
        try:
            found = _radar_layers(one, item, window, tally, number) if one.kind == "radar" else None
            view = None if found is not None else _view_of(one, item, window)
        except DataError as error:
            raise _BrokenItem(item.name, error) from None
        if view is not None:
            hidden = seen.get(item.scene, np.zeros_like(view.seen))
            seen[item.scene] = hidden | view.seen
            tally.valid[number] += int(np.isfinite(view.ndvi).sum())
            found = {"ndvi": np.where(hidden, np.nan, view.ndvi)}
        for layer, values in (found or {}).items():
            have = np.isfinite(merged[layer])
            if layer != "angle":
                tally.valid[number] += int(np.isfinite(values).sum()) if view is None else 0
                tally.used[number] += int((np.isfinite(values) & ~have).sum())
            merged[layer] = np.where(have, merged[layer], values)
    return merged


def _radar_layers(
    one: ItemGroup, item: _OpenItem, window: Window, tally: _PixelTally, number: int
) -> dict[str, Floats]:
    layers = {}
    for layer in _layers(one):
        name = layer.partition("_")[0]
        if name not in item.bands:
            continue
        values = item.bands[name].read_scaled(window)
        if name != "angle" and not one.form.endswith("db"):
            with np.errstate(invalid="ignore"):
                tally.negative[number] += int((values < 0).sum())
                values = np.where(values > 0, values, np.nan)
        layers[layer] = values
    return layers


@dataclass(frozen=True)
class _OpticalView:
    """An optical item on a window. seen: where it holds data, clear or not."""

    ndvi: Floats
    seen: NDArray[np.bool_]


def _view_of(one: ItemGroup, item: _OpenItem, window: Window) -> _OpticalView:
    product = PRODUCTS["landsat" if one.kind == "landsat" else "sentinel2"]
    bands = {
        name: reflectance(product, item.bands[name].read(window), item.add)
        for name in ("red", "nir")
    }
    # 0: no data, in both
    quality = np.nan_to_num(item.bands["quality"].read(window)).astype(np.int64)
    clear = landsat_clear(quality) if one.kind == "landsat" else scl_clear(quality)
    # the first bit of Landsat's quality is set in its fill
    seen = (quality & 1 == 0) & (quality != 0) if one.kind == "landsat" else quality != 0
    return _OpticalView(ndvi(bands, clear), seen)


def _source_file(item: Any, asset: Asset, local: Local) -> SourceFile:
    return SourceFile(item.id, item.collection_id or "", asset.href, local.checked, local.fetched)


def _key(one: ItemGroup, grid: Grid, failed: Collection[str] = ()) -> str:
    """Return the key of an acquisition's files: code, items that were read, and grid."""
    return fingerprint(
        code_digest(*CODE),
        repr(grid),
        one.form,
        [
            [item.id, str(item.properties.get("updated")), sorted(bands.items())]
            + [asset_of(item, asset_name(item, band)).checksum for band in bands.values()]
            for item, bands in zip(one.items, one.bands, strict=True)
            if item.id not in failed
        ],
    )


def _no_radar(left_out: Mapping[str, str]) -> str:
    if not left_out:
        return "holds no radar item over the place and the days"
    name, why = next(iter(left_out.items()))
    return f"holds no radar item that can be used; {name}: {why}"
