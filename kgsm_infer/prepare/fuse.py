"""Daily fine images from a few fine and many coarse ones, block by block.

A day between two fine images is fused from them (:mod:`kgsm_infer.prepare.methods`); a day
that has a fine image is that image, measured, its gaps left as they are. Days before the
first and after the last fine image are not made. Each day is one COG that appears whole and
names in its tags what it was made from; finished days of the same inputs are kept, so a
stopped run goes on where it was.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import __version__
from ..base.errors import DataError, UsageError
from ..base.files import workshop, write_whole
from ..base.fingerprint import code_digest, file_stamp, fingerprint
from ..kernels import in_use
from ..kernels.fusion import Fusion, FusionBlock, Pair
from ..scenes.gdal import gdal, open_dataset, rasterio_or_reason
from ..scenes.layers import file_of
from ..scenes.stack import Stack
from . import CODE
from .grids import Draft, into_place
from .manifests import manifest_text
from .methods import (
    DEFAULT_METHOD,
    METHODS,
    bands,
    blocks_of,
    fuse_block,
    needs_coarse,
    sigma_of,
)
from .pairs import Images, Pairs

#: Fused together at most; more days share the weights of their pair, and cost memory.
DAYS_TOGETHER = 32
#: What a block of images may take, bytes; a wide image is fused fewer days at a time.
MEMORY = 320 * 2**20
#: A fine image with a smaller share of valid pixels is not used for fusion.
LEAST_PRESENT = 0.05

Progress = Callable[[int, int], None]
Day = np.datetime64


@dataclass(frozen=True)
class Run:
    """Options of a fusion. start, end: first and last day; None for all."""

    method: str = DEFAULT_METHOD
    start: Day | None = None
    end: Day | None = None
    radius: int = 25
    patch: int = 200
    threads: int = 1

    def rule(self, pairs: Pairs) -> Fusion:
        """Return the rule of the fusion kernels; UsageError for what it cannot be."""
        if self.method not in METHODS:
            raise UsageError(f"--method {self.method!r} is not one of {', '.join(METHODS)}")
        try:
            return Fusion(self.radius, self.patch, *pairs.limits)
        except ValueError as error:
            raise UsageError(str(error)) from None


@dataclass(frozen=True)
class ImageGap:
    """Days between two fine images. before, after: their places in ``fine_days``."""

    before: int
    after: int
    days: tuple[Day, ...]


@dataclass(frozen=True)
class FusionPlan:
    """Days to make. measured: indices into ``fine_days``; skipped: why days are not made."""

    intervals: tuple[ImageGap, ...]
    measured: tuple[int, ...]
    skipped: tuple[str, ...]


@dataclass(frozen=True)
class FusedDay:
    """One day as written. source: fused or measured; kept: it was there from an earlier run."""

    day: str
    source: str
    before: str
    after: str
    pixels: int
    present: int
    missing: int
    kept: bool


def make_plan(pairs: Pairs, run: Run, present: Sequence[float]) -> FusionPlan:
    """Choose the fine images that each day is made from.

    present: share of pixels of each fine image, see :func:`present_shares`.
    """
    fine, coarse = pairs.fine_days, pairs.coarse_days
    skipped, partners = [], []
    for index, day in enumerate(fine):
        if present[index] < LEAST_PRESENT:
            skipped.append(
                f"{day}: its fine image has {present[index]:.1%} of its pixels; not used"
            )
        elif needs_coarse(run.method) and day not in coarse:
            skipped.append(f"{day}: has a fine image but no coarse one; no partner for fusion")
        else:
            partners.append(index)
    if len(partners) < 2:
        raise DataError(
            f"{pairs.source}: fusion needs two days with both images, there are {len(partners)}"
            + (f" ({skipped[0]})" if skipped else "")
        )
    first, last = fine[partners[0]], fine[partners[-1]]
    days = coarse if needs_coarse(run.method) else np.arange(first, last + 1)
    wanted = days[_inside(days, run)]
    beyond = int(((wanted < first) | (wanted > last)).sum())
    if beyond:
        skipped.append(f"{beyond} days before {first} or after {last}: no fine image on one side")
    inside = _inside(fine, run)
    measured = tuple(i for i in range(len(fine)) if inside[i] and present[i] >= LEAST_PRESENT)
    taken = set(fine[list(measured)].tolist())
    intervals = []
    for before, after in pairwise(partners):
        between = wanted[(wanted > fine[before]) & (wanted < fine[after])]
        between = [day for day in between if day.tolist() not in taken]
        if between:
            intervals.append(ImageGap(before, after, tuple(between)))
    if not intervals and not measured:
        raise DataError(f"{pairs.source}: no day between {first} and {last} is left to be made")
    return FusionPlan(tuple(intervals), measured, tuple(skipped))


def present_shares(pairs: Pairs) -> list[float]:
    """Return the share of pixels present in each fine image; reads them once."""
    height, width = pairs.grid.height, pairs.grid.width
    with gdal(), Images(pairs) as images:
        return [
            sum(int(np.isfinite(images.fine(i, rows)).sum()) for rows in bands(height, 200))
            / (height * width)
            for i in range(len(pairs.fine_days))
        ]


def fuse_series(
    pairs: Pairs, folder: str | Path, run: Run, plan: FusionPlan, progress: Progress | None = None
) -> list[FusedDay]:
    """Write every day of a plan: ``{quantity}_{day}.tif``, ``days.csv``, ``{quantity}.toml``."""
    folder, rule = Path(folder), run.rule(pairs)
    pixels = pairs.grid.height * pairs.grid.width
    total = pixels * (len(plan.measured) + sum(len(part.days) for part in plan.intervals))
    done = 0
    reports: list[FusedDay] = []

    def count(some: int) -> None:
        nonlocal done
        done += some
        if progress is not None:
            progress(done, total)

    with gdal(), Images(pairs) as images:
        for index in plan.measured:
            day = pairs.fine_days[index]
            work = _Days(pairs, run, folder, None, (day,), (index,), count)
            reports += work.copy(images)
        for interval in plan.intervals:
            together = days_together(pairs, run)
            for start in range(0, len(interval.days), together):
                days = interval.days[start : start + together]
                places = tuple(int(i) for i in np.searchsorted(pairs.coarse_days, np.asarray(days)))
                work = _Days(pairs, run, folder, interval, days, places, count)
                reports += work.fuse(images, rule)
    reports.sort(key=lambda report: report.day)
    _write_table(folder / "days.csv", reports)
    kind = "SIMULATED " if pairs.simulated else ""
    # by name: an earlier run by another method may have left other days
    files = {report.day: f"{pairs.quantity}_{report.day}.tif" for report in reports}
    layer = {"files": files, "match": "nearest", "max_gap_days": 1}
    with write_whole(folder / f"{pairs.quantity}.toml") as out:
        title = f"{kind}daily {pairs.quantity}, {run.method}; add this layer to a scene"
        top = {"simulated": True} if pairs.simulated else {}
        out.write(manifest_text(title, {pairs.quantity: layer}, **top))
    return reports


def days_together(pairs: Pairs, run: Run) -> int:
    """Return the number of days of an interval that fit into the memory of a block."""
    rows = min(run.patch + 2 * run.radius, pairs.grid.height)
    # of each pixel: the pair, its nine planes, and for each day image, plane and result, most of
    # them twice: one block is read while the last is written
    plane = 4 * rows * (pairs.grid.width + 2 * run.radius)
    return int(np.clip((MEMORY - 13 * plane) // (8 * plane), 1, DAYS_TOGETHER))


@dataclass(frozen=True)
class _Days:
    """Some days made together: of one interval, or one measured day (interval None)."""

    pairs: Pairs
    run: Run
    folder: Path
    interval: ImageGap | None
    days: tuple[Day, ...]
    places: tuple[int, ...]
    count: Callable[[int], None]

    def copy(self, images: Images) -> list[FusedDay]:
        """Return the measured image of a day."""

        def blocks(_: list[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            for rows in bands(self.pairs.grid.height, self.run.patch):
                yield rows.start, images.fine(self.places[0], rows)[None]

        return self._write(blocks)

    def fuse(self, images: Images, rule: Fusion) -> list[FusedDay]:
        """Return the fused images of the days."""
        assert self.interval is not None
        before, after = self.interval.before, self.interval.after
        fine_days = self.pairs.fine_days
        span = (fine_days[after] - fine_days[before]).astype(float)
        here = [int(np.searchsorted(self.pairs.coarse_days, fine_days[i])) for i in (before, after)]

        def blocks(wanted: list[int]) -> Iterator[tuple[int, NDArray[np.float32]]]:
            days = np.asarray([self.days[i] for i in wanted])
            when = (days - fine_days[before]).astype(float) / span
            for outer, rows in blocks_of(self.pairs.grid.height, rule, self.run.method):
                fine = [images.fine(i, outer) for i in (before, after)]
                if needs_coarse(self.run.method):
                    coarse = [images.coarse(i, outer) for i in here]
                    days_coarse = np.stack([images.coarse(self.places[i], outer) for i in wanted])
                else:
                    coarse, days_coarse = fine, np.stack([fine[0]] * len(wanted))
                pair = Pair(fine[0], coarse[0], fine[1], coarse[1])
                block = FusionBlock(pair, days_coarse, sigma_of(pair, rows, rule), rows)
                fused = fuse_block(self.run.method, rule, block, when, self.run.threads)
                yield outer.start + rows.start, fused

        return self._write(blocks)

    def _write(
        self, blocks: Callable[[list[int]], Iterator[tuple[int, NDArray[np.float32]]]]
    ) -> list[FusedDay]:
        grid = self.pairs.grid
        files = [self.folder / f"{self.pairs.quantity}_{day}.tif" for day in self.days]
        code = fingerprint(code_digest(*CODE, "kgsm_infer.kernels"), in_use())
        keys = [self._key(day, code) for day in self.days]
        found = [_present_in(file, key) for file, key in zip(files, keys, strict=True)]
        wanted = [i for i, present in enumerate(found) if present is None]
        self.count(grid.height * grid.width * (len(files) - len(wanted)))
        if wanted:
            counts = dict.fromkeys(wanted, 0)
            with workshop(self.folder) as part:
                drafts = [Draft(part / f"{files[i].name}.draft", grid) for i in wanted]
                try:
                    for row, fused in blocks(wanted):
                        for i, draft, image in zip(wanted, drafts, fused, strict=True):
                            draft.write(image.astype(np.float64), row, 0)
                            counts[i] += int(np.isfinite(image).sum())
                            self.count(image.size)
                    for i, draft in zip(wanted, drafts, strict=True):
                        tags = {**self._tags(), "PRESENT": str(counts[i]), "KGSM_KEY": keys[i]}
                        draft.finish(part / files[i].name, tags, self.pairs.quantity)
                finally:
                    for draft in drafts:
                        draft.close()
                into_place(part, self.folder)
            for i in wanted:
                found[i] = counts[i]
        fine_days, pixels = self.pairs.fine_days, grid.height * grid.width
        source, before, after = "measured", "", ""
        if self.interval is not None:
            ends = (self.interval.before, self.interval.after)
            source, (before, after) = "fused", (str(fine_days[i]) for i in ends)
        return [
            FusedDay(
                day=str(day),
                source=source,
                before=before,
                after=after,
                pixels=pixels,
                present=present or 0,
                missing=pixels - (present or 0),
                kept=i not in wanted,
            )
            for i, (day, present) in enumerate(zip(self.days, found, strict=True))
        ]

    def _tags(self) -> dict[str, str]:
        tags = {"SOFTWARE": f"kgsm {__version__}", "SOURCE": "measured fine image"}
        if self.interval is not None:
            ends = [
                str(self.pairs.fine_days[i]) for i in (self.interval.before, self.interval.after)
            ]
            tags |= {
                "SOURCE": "fused",
                "METHOD": self.run.method,
                "PAIR": " ".join(ends),
                "LIMITS": " ".join(f"{limit:g}" for limit in self.pairs.limits),
            }
        if self.pairs.simulated:
            tags["SIMULATED"] = "made from simulated images"
        return tags

    def _key(self, day: Day, code: str) -> str:
        """Return the key of a day: code, images, method and grid."""
        pairs, run = self.pairs, self.run
        said: list[object] = [code, str(day), pairs.limits, repr(pairs.made), repr(pairs.grid)]
        days = [day]
        if self.interval is not None:
            said += [run.method, run.radius, run.patch]
            days += [pairs.fine_days[i] for i in (self.interval.before, self.interval.after)]
        for stack in (pairs.fine, pairs.coarse):
            said.append(None if stack is None else _stamps(stack, days))
        return fingerprint(said)


def _inside(days: NDArray[np.datetime64], run: Run) -> NDArray[np.bool_]:
    inside = np.ones(len(days), bool)
    if run.start is not None:
        inside &= days >= run.start
    if run.end is not None:
        inside &= days <= run.end
    return inside


def _stamps(stack: Stack, days: Sequence[Day]) -> list[object]:
    """Return the stamps of the files of some days, and how they are read."""
    said: list[object] = []
    for layer in stack.layers.values():
        said.append([layer.name, layer.scale, layer.offset, repr(layer.nodata), layer.resample])
        said.extend(
            [item.path, str(item.band), file_stamp(file_of(item.path))]
            for item in layer.slices
            if item.date is not None and item.date.astype("datetime64[D]") in days
        )
    return said


def _present_in(file: Path, key: str) -> int | None:
    """Return the pixels present in a finished day of the same inputs, or None."""
    rasterio = rasterio_or_reason()
    if not file.is_file():
        return None
    try:
        with open_dataset(file) as dataset:
            tags = dataset.tags()
    except rasterio.errors.RasterioIOError:
        return None
    return int(tags.get("PRESENT", -1)) if tags.get("KGSM_KEY") == key else None


def _write_table(path: Path, reports: Sequence[FusedDay]) -> None:
    with write_whole(path) as out:
        names = [name for name in asdict(reports[0]) if name != "kept"]
        table = csv.DictWriter(out, names, extrasaction="ignore", lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(report) for report in reports)
