"""Ways to make a fine image for a day that has only a coarse one, and how well they do.

Two days, 1 and 2, have a fine image F and a coarse one C; day 0 lies between with C_0 alone.
t = (day 0 - day 1) / (day 2 - day 1). All arrays lie on the fine grid; missing is NaN and
stays missing.

    linear           F_1 + t (F_2 - F_1); reads no coarse image
    linear-anomaly   linear + C_0 - (C_1 + t (C_2 - C_1)): what the coarse day adds to the line
    estarfm          ESTARFM, Zhu et al. (2010), V regressed over the similar pixels
    estarfm-v1       the same with V = 1
    unbiased         unbiased ESTARFM, Yu et al. (2023): the paper's; V = 1, the fine images
                     brought to the mean of the coarse ones over the similar pixels
    unbiased-window  the same over the whole window, without classes: sum_k T_k
                     (F_k + mean(C_k - F_k) + mean(C_0 - C_k)), T_k as in ``unbiased``

docs/fusion.md says what each was measured to be worth.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from ..kernels import fuse_rows
from ..kernels.fusion import Fusion, FusionBlock, Pair, patch_sigma

METHODS = ("linear", "linear-anomaly", "estarfm", "estarfm-v1", "unbiased", "unbiased-window")
#: Chosen by what was measured: docs/fusion.md.
DEFAULT_METHOD = "linear-anomaly"
_KERNEL_RULES = {"estarfm": "regressed", "estarfm-v1": "plain", "unbiased": "unbiased"}

Image = NDArray[np.float32]


def reach(method: str, rule: Fusion) -> int:
    """Return the rows above and below that a method looks at."""
    return 0 if method.startswith("linear") else rule.radius


def needs_coarse(method: str) -> bool:
    """Return true for a method that reads coarse images."""
    return method != "linear"


def fuse_block(
    method: str, rule: Fusion, block: FusionBlock, when: NDArray[np.float64], threads: int = 1
) -> Image:
    """Fuse the rows of a block, (days, fused rows, columns), by one of :data:`METHODS`.

    when: (days,), t of each.
    """
    if method in _KERNEL_RULES:
        return fuse_rows(replace(rule, rule=_KERNEL_RULES[method]), block, threads)
    at, coarse = slice(block.rows.start, block.rows.stop), np.asarray(block.coarse, np.float32)
    if method == "unbiased-window":
        return np.stack([_by_window(rule, block.pair, image, at) for image in coarse])
    if method not in METHODS:
        raise ValueError(f"method {method!r} is not one of {', '.join(METHODS)}")
    fine1, coarse1, fine2, coarse2 = (np.asarray(image, np.float32)[at] for image in block.pair)
    t = when.astype(np.float32)[:, None, None]
    fused = fine1 + t * (fine2 - fine1)
    if method == "linear-anomaly":
        fused = fused + (coarse[:, at] - (coarse1 + t * (coarse2 - coarse1)))
    return np.where(np.isfinite(fused), fused, np.float32(np.nan))


def sigma_of(pair: Pair, rows: range, rule: Fusion) -> NDArray[np.float64]:
    """Return sigma_k of the rows' columns, (2, columns): over the patches of that line."""
    at = slice(rows.start, rows.stop)
    fine = [np.asarray(image)[at] for image in (pair.fine1, pair.fine2)]
    columns = fine[0].shape[1]
    return np.stack(
        [patch_sigma(image, rule.patch)[0].repeat(rule.patch)[:columns] for image in fine]
    )


def blocks_of(height: int, rule: Fusion, method: str) -> Iterator[tuple[slice, range]]:
    """Return lines of patches: the rows to read, and which of them are wanted."""
    around = reach(method, rule)
    for rows in bands(height, rule.patch):
        outer = slice(max(0, rows.start - around), min(height, rows.stop + around))
        yield outer, range(rows.start - outer.start, rows.stop - outer.start)


def bands(height: int, step: int) -> Iterator[slice]:
    for start in range(0, height, step):
        yield slice(start, min(start + step, height))


def _by_window(rule: Fusion, pair: Pair, coarse0: Image, at: slice) -> Image:
    images = np.stack([np.asarray(image, np.float64) for image in (*pair, coarse0)])
    valid = np.isfinite(images).all(axis=0)
    fine1, coarse1, fine2, coarse2, now = np.where(valid, images, np.nan)
    n = box_sum(np.asarray(valid, np.float64), rule.radius)
    sides = []
    with np.errstate(all="ignore"):
        for fine, seen in ((fine1, coarse1), (fine2, coarse2)):
            change = box_sum(np.where(valid, now - seen, 0), rule.radius) / n + 1e-10
            bias = box_sum(np.where(valid, seen - fine, 0), rule.radius) / n
            sides.append((1 / np.abs(change), fine + bias + change))
        (e1, one), (e2, other) = sides
        fused = (e1 * one + e2 * other) / (e1 + e2)
    return np.asarray(fused[at], np.float32)


def box_sum(x: NDArray[np.float64], radius: int) -> NDArray[np.float64]:
    """Sum over the window of +-radius around each pixel, cut at the edges."""
    for axis in (0, 1):
        edge = [(0, 0), (0, 0)]
        edge[axis] = (radius, radius)
        x = sliding_window_view(np.pad(x, edge), 2 * radius + 1, axis=axis).sum(axis=-1)
    return x


def detail(image: NDArray[np.floating], radius: int) -> NDArray[np.float64]:
    """Subtract a fine image's mean over +-radius pixels; NaN where it is missing."""
    image = np.asarray(image, np.float64)
    present = np.isfinite(image)
    n = box_sum(present.astype(np.float64), radius)
    with np.errstate(all="ignore"):
        return np.where(present, image - box_sum(np.where(present, image, 0), radius) / n, np.nan)


@dataclass(frozen=True)
class FusionScore:
    """Scores of a fused image against the one left out, over their common pixels.

    bias, rmse: in the quantity's unit.  r: Pearson's.  detail_kept: standard deviation of the
    fused image's detail (see :func:`detail`) over that of the true one; 1 is all of it.
    detail_r: correlation of the two details, so that noise does not pass for detail.
    """

    pixels: int
    bias: float
    rmse: float
    r: float
    detail_kept: float
    detail_r: float


def score(fused: Image, truth: Image, radius: int = 25) -> FusionScore:
    """Score one image; detail is what it adds to its mean over +-radius pixels."""
    both = np.isfinite(fused) & np.isfinite(truth)
    if both.sum() < 2:
        return FusionScore(int(both.sum()), *[float("nan")] * 5)
    guess, real = (np.where(both, image, np.nan) for image in (fused, truth))
    fine_guess, fine_real = (detail(image, radius)[both] for image in (guess, real))
    error = guess[both].astype(np.float64) - real[both]
    return FusionScore(
        pixels=int(both.sum()),
        bias=float(error.mean()),
        rmse=float(np.sqrt((error**2).mean())),
        r=_pearson(guess[both], real[both]),
        detail_kept=float(fine_guess.std() / fine_real.std()) if fine_real.std() else float("nan"),
        detail_r=_pearson(fine_guess, fine_real),
    )


def _pearson(x: NDArray[np.floating], y: NDArray[np.floating]) -> float:
    x, y = np.asarray(x, np.float64) - x.mean(), np.asarray(y, np.float64) - y.mean()
    spread = np.sqrt((x * x).sum() * (y * y).sum())
    return float((x * y).sum() / spread) if spread else float("nan")
