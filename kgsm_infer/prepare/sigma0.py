"""σ⁰ (or γ⁰) and incidence angles on a grid, from Sentinel-1 GRD products.

    annotation ─► calibration, noise ─┐
    orbit + DEM ─► line, pixel ───────┴► power, sampled ─► mean of looks × looks ─► COGs

Work goes block by block of the output grid (sampling.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..base.errors import DataError, UsageError
from ..base.files import workshop
from ..base.fingerprint import code_digest, file_stamp, fingerprint
from ..scenes.gdal import GDAL_CACHE_BYTES, rasterio_or_reason
from ..scenes.grid import Grid
from ..tables.passes import in_one_pass
from . import CODE
from .grids import Draft, finished, into_place, tags_of
from .heights import Surface, Terrain, surface_of
from .safe import Extent, Product, read_product
from .sampling import Frame, Options, PassSampling, Tally, block_of, open_frame

#: Side of a block, in parts of pixels; about 150 MB at work.
BLOCK = 768
#: Two frames whose first lines are less apart, seconds, are versions of one; frames are 25 s long.
VERSION_S = 2.0
#: Metres between samples of a GRD image of high resolution.
SAMPLE_M = 10.0

Progress = Callable[[int, int], None]
#: A named bar: a context that gives what counts pixels, or None.
Bar = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True)
class PassReport:
    """Result of one pass. share: of the grid's pixels with a number, by polarisation;
    below_noise: of the pixels seen, those whose mean is not above zero."""

    pass_id: str
    files: tuple[Path, ...]
    kept: bool
    notes: tuple[str, ...]
    share: Mapping[str, float]
    below_noise: Mapping[str, float]


@dataclass(frozen=True)
class FoundPasses:
    """Passes in order of time, each its frames.  left_out: product and why it is not used."""

    passes: tuple[tuple[Product, ...], ...]
    left_out: Mapping[str, str]


def passes_of(paths: Sequence[str | Path]) -> FoundPasses:
    """Read products and group their frames by pass; the newest version of a frame counts.

    A product that cannot be read is left out. UsageError for one given twice, DataError where none
    can be read.
    """
    if not paths:
        raise UsageError("name at least one SAFE folder")
    products: list[Product] = []
    errors: dict[str, DataError] = {}
    for path in paths:
        try:
            products.append(read_product(path))
        except DataError as error:
            errors[str(path)] = error
    if not products:
        raise next(iter(errors.values()))
    left_out = {path: str(error).removeprefix(f"{path}: ") for path, error in errors.items()}
    groups: dict[tuple[str, int], list[Product]] = {}
    for product in sorted(products, key=lambda item: item.first_line):
        groups.setdefault((product.mission, product.absolute_orbit), []).append(product)
    found: list[tuple[Product, ...]] = []
    for group in groups.values():
        run = [group[0]]
        for one in group[1:]:
            gap_s = (one.first_line - run[-1].first_line) / np.timedelta64(1, "s")
            if gap_s < VERSION_S:
                if one.name == run[-1].name:
                    raise UsageError(f"{one.path} and {run[-1].path}: one frame, given twice")
                older, newer = sorted(
                    (run[-1], one), key=lambda item: (item.ipf_version, item.name)
                )
                left_out[str(older.path)] = f"is an older version of {newer.name}, which is used"
                run[-1] = newer
                continue
            if not in_one_pass(gap_s):
                found.append(tuple(run))
                run = []
            run.append(one)
        found.append(tuple(run))
    return FoundPasses(tuple(found), left_out)


def looks_of(grid: Grid, sample_m: float = SAMPLE_M) -> int:
    """Return parts along a pixel's side, each of about the image's own spacing.

    >>> [looks_of(Grid("", (step, 0, 0, 0, -step, 0), 9, 9)) for step in (10.0, 20.0, 30.0)]
    [1, 2, 3]
    """
    return max(1, round(grid.step[0] / sample_m))


def prepare_pass(
    frames: Sequence[Product],
    terrain: Terrain,
    grid: Grid,
    folder: str | Path,
    options: Options | None = None,
    progress: Progress | None = None,
) -> PassReport:
    """Write σ⁰, incidence angle and local angle of one pass on a grid, as COGs in a folder.

    A frame whose annotation cannot be read is left out with a note if there are others.
    Files: ``{mission}_{time}_{orbit}{A|D}_{layer}.tif``, layer ``vv_sigma0`` (or ``vv_gamma0``),
    ``angle``, ``local_angle``. Finished files of the same inputs are kept. DataError where the
    frames do not see the grid, or their measurement holds nothing.
    """
    rasterio = rasterio_or_reason()
    folder = Path(folder)
    options = options or Options()
    polarisations = _polarisations(frames, options)
    kind = "gamma0" if options.gamma0 else "sigma0"
    layers = {name: f"{name}_{kind}" for name in polarisations}
    layers["angle"] = "angle"
    if options.local_angle:
        layers["local_angle"] = "local_angle"
    pass_id = frames[0].pass_id
    files = {name: folder / f"{pass_id}_{layer}.tif" for name, layer in layers.items()}
    key = _key(frames, terrain, grid, options, polarisations)
    if all(finished(file, key) for file in files.values()):
        notes = tuple(json.loads(tags_of(files["angle"]).get("NOTES", "[]")))
        return PassReport(pass_id, tuple(files.values()), True, notes, {}, {})
    looks, surface = looks_of(grid, frames[0].pixel_spacing_m), surface_of(terrain)
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_BYTES), workshop(folder) as part:
        opened, unread = _opened_frames(rasterio, frames, polarisations)
        used = [frame.product for frame in opened]
        key = _key(used, terrain, grid, options, polarisations)
        notes = (*unread, *_notes(opened, options), *_unused(used, polarisations))
        drafts = {name: Draft(part / f"{name}.draft", grid) for name in files}
        sampling = PassSampling(opened, surface, grid, looks, options)
        tally, done, step = Tally(), 0, max(1, BLOCK // looks)
        try:
            for window in grid.window.parts(step, step):
                found = block_of(sampling, window, tally)
                for name, draft in drafts.items():
                    draft.write(found[name], window.row, window.col)
                done += window.height * window.width
                if progress is not None:
                    progress(done, grid.width * grid.height)
            _something(used, surface, tally)
            tags = _tags(sampling, key)
            tags["NOTES"] = json.dumps(notes, ensure_ascii=False)
            for name, draft in drafts.items():
                own = {**tags, **_layer_tags(name, kind, tally)}
                draft.finish(part / files[name].name, own, layers[name])
        finally:
            for draft in drafts.values():
                draft.close()
            for frame in opened:
                for dataset in frame.datasets.values():
                    dataset.close()
        into_place(part, folder)
    return PassReport(
        pass_id,
        tuple(files.values()),
        False,
        notes,
        {name: tally.numbers.get(name, 0) / max(tally.pixels, 1) for name in polarisations},
        {name: tally.lost.get(name, 0) / max(tally.seen.get(name, 0), 1) for name in polarisations},
    )


def prepare_each(
    passes: Sequence[tuple[Product, ...]], prepare: Callable[..., PassReport], bar: Bar
) -> Iterator[str]:
    """Prepare passes one by one; yields their results line by line. DataError where all fail.

    prepare: :func:`prepare_pass` of the frames of a pass, with its other arguments; it is called
    with ``progress``.
    """
    errors: list[DataError] = []
    for frames in passes:
        try:
            with bar(frames[0].pass_id) as progress:
                report = prepare(frames, progress=progress)
        except DataError as error:
            errors.append(error)
            yield f"left out {frames[0].pass_id}: {error}"
            continue
        yield from pass_lines(report)
    if errors and len(errors) == len(passes):
        raise errors[0]


def pass_lines(report: PassReport) -> Iterator[str]:
    """Describe the result of a pass."""
    if report.kept:
        yield f"{report.pass_id}: finished before, kept"
    for name, share in report.share.items():
        lost = report.below_noise[name]
        yield f"{report.pass_id}: {name} on {share:.1%} of the grid, {lost:.2%} below the noise"
    for note in report.notes:
        yield f"note: {note}"


def _opened_frames(
    rasterio: Any, frames: Sequence[Product], polarisations: Sequence[str]
) -> tuple[list[Frame], list[str]]:
    """Open the frames of a pass that can be read, and say why others cannot."""
    opened, errors = [], []
    for product in frames:
        try:
            opened.append(open_frame(rasterio, product, polarisations))
        except DataError as error:
            errors.append(error)
    if not opened:
        raise errors[0]
    return opened, [f"left out {error}" for error in errors]


def _unused(frames: Sequence[Product], polarisations: Sequence[str]) -> Iterator[str]:
    """Yield a note on each polarisation of a frame that others lack."""
    for frame in frames:
        for name in ("vv", "vh"):
            lacking = [other.name for other in frames if name not in other.channels]
            if name in frame.channels and name not in polarisations and lacking:
                yield f"{frame.name}: its {name} is not used, since {lacking[0]} has none"


def _polarisations(frames: Sequence[Product], options: Options) -> tuple[str, ...]:
    """Return the requested polarisations, or those of every frame."""
    common = [name for name in ("vv", "vh") if all(name in frame.channels for frame in frames)]
    for name in options.polarisations:
        for frame in frames:
            if name not in frame.channels:
                raise DataError(f"{frame.path}: has no {name}; it has {', '.join(frame.channels)}")
    if not common:
        held = ", ".join(dict.fromkeys(name for frame in frames for name in frame.channels))
        raise DataError(
            f"{frames[0].path}: holds {held}, and vv or vh is needed in every frame of its pass"
        )
    return options.polarisations or tuple(common)


def _something(frames: Sequence[Product], surface: Surface, tally: Tally) -> None:
    """Refuse a result without a number, with the reason."""
    names = ", ".join(frame.name for frame in frames)
    if not tally.heights:
        dems = ", ".join(str(path) for path in surface.terrain.dems)
        raise DataError(f"{dems}: has no height on the grid asked for; does it cover the place?")
    if not tally.stored:
        raise DataError(f"{names}: does not see the grid asked for; it lies outside the image")
    for name, count in tally.stored.items():
        if not count:
            raise DataError(
                f"{names}: the {name} measurement is 0 wherever it was read: a product without "
                "its pixels, or a place in its black border"
            )


def _key(
    frames: Sequence[Product],
    terrain: Terrain,
    grid: Grid,
    options: Options,
    polarisations: Sequence[str],
) -> str:
    """Return the key of a result: code, measurements, terrain, grid and options."""
    files = [frame.channels[name].measurement for frame in frames for name in polarisations]
    files += [*terrain.dems, *([terrain.geoid] if terrain.geoid else [])]
    stamps = [[file.name, file_stamp(file)] for file in files]
    return fingerprint(code_digest(*CODE), stamps, terrain.system, repr(grid), repr(options))


def _tags(sampling: PassSampling, key: str) -> dict[str, str]:
    """Return the tags of a file."""
    frames, looks, surface = sampling.frames, sampling.looks, sampling.surface
    first = frames[0].product
    denoised = sampling.options.denoise and all(
        calibration.noise.removed for f in frames for calibration in f.calibrations.values()
    )
    tags = {
        "PRODUCTS": " ".join(frame.product.name for frame in frames),
        "IPF": first.ipf,
        "RELATIVE_ORBIT": str(first.relative_orbit),
        "PASS": {"A": "ascending", "D": "descending"}.get(first.pass_, first.pass_),
        "THERMAL_NOISE": "removed" if denoised else "not removed",
        "LOOKS": f"{looks} x {looks} samples of {first.pixel_spacing_m:g} m, mean of linear power",
        "DEM": " ".join(path.name for path in surface.terrain.dems),
        "HEIGHTS": surface.how,
        "SOFTWARE": f"kgsm {__version__}",
        "KGSM_KEY": key,
    }
    reason = next((f.product.simulated for f in frames if f.product.simulated), "")
    return {**tags, "SIMULATED": reason} if reason else tags


def _layer_tags(name: str, kind: str, tally: Tally) -> dict[str, str]:
    if name == "angle":
        return {"LONG_NAME": "incidence angle on the ellipsoid", "UNITS": "degree"}
    if name == "local_angle":
        return {"LONG_NAME": "angle between line of sight and terrain normal", "UNITS": "degree"}
    return {
        "LONG_NAME": f"{name} {kind}, linear power",
        "UNITS": "1",
        "POLARISATION": name.upper(),
        "BELOW_NOISE": f"{tally.lost.get(name, 0)} of {tally.seen.get(name, 0)} pixels",
    }


def _notes(frames: Sequence[Frame], options: Options) -> Iterator[str]:
    """Yield notes for the person who ran it."""
    for frame in frames:
        product = frame.product
        size = (product.lines, product.samples)
        if product.simulated:
            yield product.simulated
        yield from _short(
            product.name, "geolocation grid", product.tie_points.angle_deg.extent, size
        )
        for name, calibration in frame.calibrations.items():
            yield from _short(product.name, f"{name} calibration", calibration.sigma.extent, size)
            if not calibration.noise.removed:
                yield f"{product.name}: its {name} noise vectors are all 0, none was removed"
                continue
            yield from _short(product.name, f"{name} noise", calibration.noise.range_.extent, size)
            lacking = calibration.noise.uncovered(product.lines, product.samples)
            if lacking:
                yield (
                    f"{product.name}: the {name} azimuth noise does not cover {lacking} of "
                    f"{product.lines} lines; the nearest block was used there"
                )
    if not options.denoise:
        yield "thermal noise was left in, as asked"


def _short(name: str, what: str, extent: Extent, size: tuple[int, int]) -> Iterator[str]:
    """Yield a note where annotation ends before the image does; its end is then held."""
    lines, samples = (
        int(max(first, 0) + max(count - 1 - last, 0))
        for (first, last), count in zip((extent.lines, extent.samples), size, strict=True)
    )
    for lacking, count, axis in ((lines, size[0], "lines"), (samples, size[1], "samples")):
        if lacking:
            yield (
                f"{name}: the {what} does not cover {lacking} of {count} {axis}; the nearest value "
                "was used there"
            )
