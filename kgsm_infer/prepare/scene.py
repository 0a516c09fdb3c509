"""A scene in one go: backscatter, vegetation and soil over a place and some days.

    SAFE folders ─► sigma0 ─┐
    catalogue ────► stack ──┼─► one folder, one grid ─► scene_022D.toml for map and paddocks
    optical ──────► ndvi ───┤
    coarse optical ► fuse ──┘

Each part is the command of its name with the same grid and folder; none is needed but a source
of backscatter.
"""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..base.errors import DataError, UsageError
from ..base.files import write_whole
from ..scenes.grid import Grid
from .catalogue import Search, find, signer
from .fuse import Run, fuse_series, make_plan, present_shares
from .grids import lon_lat_box, simulated_note
from .heights import Terrain
from .manifests import DAILY, clear_images, manifest_text, unused_images, write_pass_manifests
from .ndvi import Wanted, prepare_ndvi, summary
from .pairs import read_pairs
from .products import OpticalImage, find_products
from .safe import Product
from .sampling import Options
from .sigma0 import Bar, FoundPasses, passes_of, prepare_each, prepare_pass
from .stack import StackOptions, planned, prepare_stack, report_lines

#: Folder of coarse images, below the scene's.
COARSE = "coarse"


@dataclass(frozen=True)
class Sources:
    """Sources of a scene's parts.

    safes: SAFE folders, with their terrain.  catalogue: a STAC API or a static catalogue; its
    radar is left out where there are SAFE folders.  optical, coarse: folders of optical
    products; coarse ones (MODIS) make the days between the others.  statics: rasters without a
    date, by layer.  radar: what the numbers of unknown radar collections are.
    """

    safes: tuple[Path, ...] = ()
    terrain: Terrain | None = None
    catalogue: str | None = None
    collections: tuple[str, ...] = ()
    optical: tuple[Path, ...] = ()
    coarse: tuple[Path, ...] = ()
    statics: Mapping[str, Path] = field(default_factory=dict)
    radar: str | None = None
    angle_deg: float | None = None
    gamma0: bool = False


def statics_of(given: list[str]) -> dict[str, Path]:
    """Read ``clay=clay.tif`` by name; UsageError where it is not of that form."""
    found = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not (name and equals and path):
            raise UsageError(f"--static {text!r} is not of the form clay=clay.tif")
        if not Path(path).is_file():
            raise DataError(f"{path}: no such file (--static {name})")
        found[name] = Path(path)
    return found


@dataclass(frozen=True)
class Target:
    """Place, days and folder of a scene. days: the first and the last."""

    grid: Grid
    days: tuple[np.datetime64, np.datetime64]
    folder: Path


def prepare_scene(
    sources: Sources, target: Target, bar: Bar, dry_run: bool = False
) -> Iterator[str]:
    """Make a scene; yields what was taken from where, line by line, manifests last.

    UsageError where no source of backscatter is named. A part that fails ends the run with its
    reason; what was finished stays and is kept by the next run.
    """
    if not sources.safes and sources.catalogue is None:
        raise UsageError("name a source of backscatter: --safe FOLDER or --catalogue URL")
    if sources.safes and sources.terrain is None:
        raise UsageError("--safe needs heights: --dem FILE")
    passes = yield from _passes_in(sources, target)
    images = yield from _images_in(sources, target)
    if dry_run:
        yield from (f"{frames[0].pass_id}: {len(frames)} frames" for frames in passes)
        chosen = (*images.optical, *images.coarse)
        yield from (f"{one.day} {one.product.title}: {one.name}" for one in chosen)
    else:
        yield from prepare_each(
            passes,
            partial(
                prepare_pass,
                terrain=sources.terrain or Terrain(()),
                grid=target.grid,
                folder=target.folder,
                options=Options(gamma0=sources.gamma0),
            ),
            bar,
        )
    form = "gamma0" if sources.gamma0 else "sigma0"
    if sources.catalogue is not None:
        options = StackOptions(
            sources.radar, angle_deg=sources.angle_deg, vegetation_only=bool(passes)
        )
        search = Search(lon_lat_box(target.grid), *target.days, sources.collections)
        found = find(sources.catalogue, search)
        yield f"{sources.catalogue}: {len(found.items)} of {found.looked_at} items, {found.how}"
        if dry_run:
            yield from planned(found, options)
            return
        options = replace(options, sign=signer(sources.catalogue))
        with bar("catalogue") as progress:
            report = prepare_stack(
                sources.catalogue, found, target.grid, target.folder, options, progress
            )
        form = report.form or form
        report.manifests = []  # written below, with all the rest
        for name in unused_images(target.folder):
            report.left_out.pop(name, None)
        yield from report_lines(report, target.folder)
    if dry_run:
        return
    yield from _prepare_vegetation(images, target, bar)
    for path in write_pass_manifests(target.folder, form, sources.angle_deg, sources.statics):
        yield str(path)
    yield from (f"left out {name}: {why}" for name, why in unused_images(target.folder).items())


def _passes_in(sources: Sources, target: Target) -> Generator[str, None, list[tuple[Product, ...]]]:
    """Return the passes of the days; yields what is left out."""
    safes = passes_of(sources.safes) if sources.safes else FoundPasses((), {})
    yield from (f"left out {name}: {why}" for name, why in safes.left_out.items())
    first, last = target.days
    passes = []
    for frames in safes.passes:
        if first <= frames[0].first_line.astype("datetime64[D]") <= last:
            passes.append(frames)
        else:
            yield f"left out {frames[0].name}: is not of {first} to {last}"
    if sources.safes and not passes:
        raise DataError(f"none of {len(sources.safes)} SAFE folders is of {first} to {last}")
    return passes


@dataclass(frozen=True)
class _Images:
    """Optical images of a scene's days, and coarse ones to make the days between them."""

    optical: list[OpticalImage]
    coarse: list[OpticalImage]


def _images_in(sources: Sources, target: Target) -> Generator[str, None, _Images]:
    """Return the images of the days; yields what is left out."""
    searched = [find_products(folders) for folders in (sources.optical, sources.coarse)]
    images = _Images(*(_of_days(search.images, target.days) for search in searched))
    for search, used in zip(searched, (images.optical, images.coarse), strict=True):
        yield from (f"left out {name}: {why}" for name, why in search.left_out.items())
        others = [image.name for image in search.images if image not in used]
        if others:
            more = f" and {len(others) - 1} more" if len(others) > 1 else ""
            first, last = target.days
            yield f"left out {others[0]}{more}: not of {first} to {last}, nor next to it"
    return images


def _prepare_vegetation(images: _Images, target: Target, bar: Bar) -> Iterator[str]:
    """Write NDVI of the images, and of the days between; yields the results."""
    for some, folder in ((images.optical, target.folder), (images.coarse, target.folder / COARSE)):
        if some:
            left_out: list[str] = []
            with bar("vegetation") as progress:
                made = prepare_ndvi(some, folder, Wanted(target.grid), progress, left_out.append)
            yield from (*left_out, *(summary(day) for day in made))
    if images.coarse:
        yield _fused(target, bar)


def _of_days(
    found: Sequence[OpticalImage], days: tuple[np.datetime64, np.datetime64]
) -> list[OpticalImage]:
    """Select the images of the days, the last before and the first after them.

    Interpolation and fusion need both ends.
    """
    inside = [one for one in found if days[0] <= np.datetime64(one.day) <= days[1]]
    before = [one.day for one in found if np.datetime64(one.day) < days[0]]
    after = [one.day for one in found if np.datetime64(one.day) > days[1]]
    ends = {max(before, default=""), min(after, default="")}
    return [one for one in found if one in inside or one.day in ends]


def _fused(target: Target, bar: Bar) -> str:
    """Return daily images between the clear ones, where there are two pairs; else why not."""
    folder, (first, last) = target.folder, target.days
    fine = clear_images(folder)
    coarse = clear_images(folder / COARSE)
    made_up = any(simulated_note(file) for file in (*fine.values(), *coarse.values()))
    with write_whole(folder / "pairs.toml") as out:
        out.write(f'quantity = "ndvi"\nsimulated = {str(made_up).lower()}\n')
        for name, files in (("fine", fine), ("coarse", coarse)):
            named = {day: os.path.relpath(file, folder) for day, file in files.items()}
            text = manifest_text("", {name: {"files": named}})
            out.write(text.partition("[layers.")[2].join(("\n[", "")))
    run = Run(start=first, end=last)
    try:
        pairs = read_pairs(folder / "pairs.toml")
        plan = make_plan(pairs, run, present_shares(pairs))
    except DataError as reason:
        return f"note: no days were fused; {reason}"
    with bar(DAILY) as progress:
        made = fuse_series(pairs, folder / DAILY, run, plan, progress)
    fused = sum(day.source == "fused" for day in made)
    return f"{folder / DAILY}: {fused} days fused by {run.method}, {len(made) - fused} measured"
