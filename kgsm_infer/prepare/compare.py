"""Compare methods of fusion: leave a fine image out, predict it from the others, score it.

An image with fine neighbours on both sides is made from those two. Where there are only two
fine images each is made from the other alone, given as both days of the pair; that is an
extrapolation, and the result says one-sided.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..base.files import write_whole
from ..kernels.fusion import FusionBlock, Pair
from ..scenes.gdal import gdal
from .fuse import LEAST_PRESENT, Run, present_shares
from .methods import METHODS, FusionScore, blocks_of, fuse_block, needs_coarse, score, sigma_of
from .pairs import Images, Pairs

#: Images are held whole here; larger ones are cut out first.
MOST_PIXELS = 40_000_000


@dataclass(frozen=True)
class LeftOut:
    """One image made again by one method. sides: two-sided or one-sided."""

    day: str
    method: str
    sides: str
    before: str
    after: str
    score: FusionScore


def leave_one_out(
    pairs: Pairs,
    run: Run,
    chosen: Sequence[str] = METHODS,
    detail_radius: int = 25,
    progress: Callable[[int, int], None] | None = None,
) -> list[LeftOut]:
    """Score every method on every fine image that can be left out."""
    if pairs.grid.width * pairs.grid.height > MOST_PIXELS:
        raise UsageError(
            f"{pairs.source}: {pairs.grid.height} x {pairs.grid.width} pixels are more than "
            f"{MOST_PIXELS}; cut a part out to compare methods on"
        )
    fine, coarse = pairs.fine_days, pairs.coarse_days
    shares = present_shares(pairs)
    usable = [i for i in range(len(fine)) if shares[i] >= LEAST_PRESENT and fine[i] in coarse]
    if len(usable) < 2:
        raise DataError(
            f"{pairs.source}: leaving one out needs two days with both images or more, "
            f"there are {len(usable)}"
        )
    trios = [(usable[k - 1], usable[k], usable[k + 1]) for k in range(1, len(usable) - 1)]
    sides = "two-sided"
    if not trios:
        one, other = usable
        trios, sides = [(one, other, one), (other, one, other)], "one-sided"
    found = []
    total, pixels = len(trios) * len(chosen), pairs.grid.width * pairs.grid.height
    whole_image = slice(0, pairs.grid.height)
    with gdal(), Images(pairs) as images:
        for before, left, after in trios:
            span = (fine[after] - fine[before]).astype(float)
            when = (fine[left] - fine[before]).astype(float) / span if span else 0.0
            at = [int(np.searchsorted(coarse, fine[i])) for i in (before, left, after)]
            seen = [images.coarse(i, whole_image) for i in at]
            truth = images.fine(left, whole_image)
            pair = Pair(
                images.fine(before, whole_image), seen[0], images.fine(after, whole_image), seen[2]
            )
            for method in chosen:
                fused = fuse_day(pairs, replace(run, method=method), pair, seen[1], when)
                if needs_coarse(method):  # judged over the same pixels
                    truth_here = truth
                else:
                    truth_here = np.where(np.isfinite(sum(seen)), truth, np.float32(np.nan))
                name = (str(fine[left]), method, sides, str(fine[before]), str(fine[after]))
                found.append(LeftOut(*name, score(fused, truth_here, detail_radius)))
                if progress is not None:
                    progress(len(found) * pixels, total * pixels)
    return found


def fuse_day(
    pairs: Pairs, run: Run, pair: Pair, coarse: NDArray[np.float32], when: float
) -> NDArray[np.float32]:
    """Fuse one day of one pair, an image held whole, in the blocks a long run takes."""
    rule = run.rule(pairs)
    parts = []
    for outer, rows in blocks_of(pairs.grid.height, rule, run.method):
        part = Pair(*(np.asarray(image)[outer] for image in pair))
        block = FusionBlock(part, coarse[None, outer], sigma_of(part, rows, rule), rows)
        parts.append(fuse_block(run.method, rule, block, np.asarray([when]), run.threads)[0])
    return np.concatenate(parts)


def by_method(found: Sequence[LeftOut]) -> dict[str, dict[str, float]]:
    """Return the mean of each score over the images left out; of bias the mean of its size."""
    names = [item.name for item in fields(FusionScore)]
    table = {}
    for method in dict.fromkeys(item.method for item in found):
        scores = [item.score for item in found if item.method == method]
        scores = [item for item in scores if np.isfinite(item.rmse)]
        values = {
            name: [abs(getattr(s, name)) if name == "bias" else getattr(s, name) for s in scores]
            for name in names
        }
        table[method] = {name: float(np.mean(v)) if v else np.nan for name, v in values.items()}
        table[method]["images"] = len(scores)
    return table


def report_text(pairs: Pairs, found: Sequence[LeftOut]) -> str:
    """Format the table that a command prints."""
    lines = []
    if pairs.made is not None:
        side = pairs.made.block_mean
        lines.append(
            f"SIMULATED coarse images: means of {side} x {side} fine "
            f"pixels, noise {pairs.made.noise:g}, bias {pairs.made.bias:g}"
        )
    elif pairs.simulated:
        lines.append("SIMULATED images")
    if found[0].sides == "one-sided":
        lines.append("one-sided: two fine images only, each made from the other alone")
    lines.append(
        f"{'method':16} {'images':>6} {'|bias|':>8} {'RMSE':>8} {'R':>6} {'detail kept':>12} "
        f"{'detail R':>9}"
    )
    for method, s in by_method(found).items():
        lines.append(
            f"{method:16} {s['images']:6.0f} {s['bias']:8.4f} {s['rmse']:8.4f} {s['r']:6.3f} "
            f"{s['detail_kept']:12.2f} {s['detail_r']:9.3f}"
        )
    return "\n".join(lines)


def write_scores(path: str | Path, pairs: Pairs, found: Sequence[LeftOut]) -> None:
    """Write every score of every image as CSV."""
    with write_whole(path) as out:
        table = csv.writer(out, lineterminator="\n")
        scores = [item.name for item in fields(FusionScore)]
        table.writerow(["day", "method", "sides", "before", "after", *scores, "simulated"])
        for item in found:
            row = [item.day, item.method, item.sides, item.before, item.after]
            table.writerow([*row, *asdict(item.score).values(), str(pairs.simulated).lower()])
