"""Fuse a fine image for a day that has only a coarse one: unbiased ESTARFM in NumPy.

Yu et al. (2023), Remote Sensing of Environment, doi 10.1016/j.rse.2023.113784; the rule reproduces
the published result to the bit. Two days k = 1, 2 have a fine image F and a coarse image C, the
third has the coarse image C_0. All images share one fine grid and one unit. For a pixel p, in
float64:

    valid   pixels of the window, +-radius around p and cut at the edges, with all five inputs
    Q       of those, q with |F_k(q) - F_k(p)| < sigma_k for both k
    b_k     mean_Q(C_k) - mean_Q(F_k);  G_k = F_k + b_k
    S       1 - 1/2 sum_k |(G_k - C_k) / (G_k + C_k)|, 1/2 outside [-1, 1]
    w       1 / ((1 - S) (1 + distance / radius) + 1e-7), of sum 1
    T_k     (1 / e_k) / (1 / e_1 + 1 / e_2), e_k = |mean over valid (C_0 - C_k)| + 1e-10
    fused   sum_k T_k (F_k(p) + b_k + sum_Q w (C_0 - C_k))
            and where that is outside the limits, sum_k T_k sum_Q w G_k

With fewer than six pixels in Q the whole window is used: m_k = mean over valid
(C_0 - C_k) + 1e-10, T_k from |m_k|, sum_k T_k (F_k(p) + mean over valid (C_k - F_k) + m_k).

ESTARFM (Zhu et al. 2010, doi 10.1016/j.rse.2010.05.032) is the same without the bias, b_k = 0,
and with C_0 - C_k multiplied by V, the slope of F_k on C_k over Q of both days: the rule
``regressed``; with V = 1, ``plain``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray

F64 = NDArray[np.float64]

RULES = ("unbiased", "plain", "regressed")
#: With fewer similar pixels than this the whole window is used.
ENOUGH = 6
#: Targets per step: (targets, window, window) doubles need about 10 MB each.
_TARGETS = 400


@dataclass(frozen=True)
class Fusion:
    """Parameters of a fusion.

    rule: ``unbiased``, ``plain`` or ``regressed``.
    radius: half the window, pixels.  patch: side of the squares over which sigma is computed,
    pixels.  low, high: exclusive limits of the quantity, in its unit; unlimited by default.
    """

    radius: int = 25
    patch: int = 200
    low: float = -np.inf
    high: float = np.inf
    rule: str = "unbiased"

    def __post_init__(self) -> None:
        if not 1 <= self.radius <= 1024:
            raise ValueError(f"the window's radius must be 1 to 1024 pixels, not {self.radius}")
        if self.patch < 1:
            raise ValueError(f"a patch must be at least one pixel wide, not {self.patch}")
        if self.rule not in RULES:
            raise ValueError(f"unsupported rule {self.rule!r}; expected {', '.join(RULES)}")
        if not self.low <= self.high:
            raise ValueError(f"limits must be in order, not {self.low} to {self.high}")


class Pair(NamedTuple):
    """Two days that have both images, each (rows, columns): float32, NaN where missing."""

    fine1: ArrayLike
    coarse1: ArrayLike
    fine2: ArrayLike
    coarse2: ArrayLike


@dataclass(frozen=True)
class FusionBlock:
    """Images of a block, and the rows of it that are fused.

    pair: images (rows, columns).  coarse: (days, rows, columns), C_0 of each day.
    sigma: (2, columns), sigma_k of the fused rows.  rows: those that are fused; the block has
    ``radius`` rows above and below them, as far as the image extends.
    """

    pair: Pair
    coarse: ArrayLike
    sigma: ArrayLike
    rows: range


def patch_sigma(fine: ArrayLike, patch: int = 200) -> F64:
    """Compute the sample standard deviation of each patch, (patches down, patches across).

    Missing pixels do not count. Patches at the right and lower edge may be smaller. NaN with fewer
    than two pixels.

    >>> patch_sigma([[1.0, 3.0, np.nan]], patch=2)
    array([[1.41421356,        nan]])
    """
    fine = np.asarray(fine, np.float64)
    rows, columns = fine.shape
    sigma = np.full((-(-rows // patch), -(-columns // patch)), np.nan)
    for i, j in np.ndindex(sigma.shape):
        part = fine[i * patch : (i + 1) * patch, j * patch : (j + 1) * patch]
        part = part[np.isfinite(part)]
        if part.size > 1:
            sigma[i, j] = part.std(ddof=1)
    return sigma


def fuse_rows(rule: Fusion, block: FusionBlock) -> NDArray[np.float32]:
    """Fuse rows of a block, (days, fused rows, columns); NaN where missing."""
    coarse = np.asarray(block.coarse, np.float32)
    sigma = np.asarray(block.sigma, np.float64)
    fused = np.full((len(coarse), len(block.rows), coarse.shape[2]), np.nan, np.float32)
    for day, image in enumerate(coarse):
        inputs = np.stack([np.asarray(x, np.float32) for x in (*block.pair, image)])
        windows = _Windows(rule, inputs)
        for at_row, row in enumerate(block.rows):
            for start in range(0, coarse.shape[2], _TARGETS):
                at = slice(start, start + _TARGETS)
                fused[day, at_row, at] = _fuse(rule, *windows.of(row, at), sigma[:, at])
    return fused


class _Windows:
    """Windows of a block: F_1, C_1, F_2, C_2 and C_0, NaN outside and where any is missing."""

    def __init__(self, rule: Fusion, inputs: NDArray[np.float32]) -> None:
        self.wide = 2 * rule.radius + 1
        gone = ~np.isfinite(inputs).all(axis=0)
        inputs = np.where(gone, np.nan, inputs)
        edge = (rule.radius, rule.radius)
        self.inputs = np.pad(inputs, ((0, 0), edge, edge), constant_values=np.nan)

    def of(self, row: int, columns: slice) -> tuple[F64, F64]:
        """Return windows (5, targets, window, window) and their central values (5, targets)."""
        lines = self.inputs[:, row : row + self.wide].astype(np.float64)
        windows = sliding_window_view(lines, self.wide, axis=2)[:, :, columns]
        windows = windows.transpose(0, 2, 1, 3)
        return windows, windows[:, :, self.wide // 2, self.wide // 2]


def _fuse(rule: Fusion, windows: F64, target: F64, sigma: F64) -> F64:
    """Fuse some targets of one row and one day."""
    fine, coarse, coarse0 = windows[[0, 2]], windows[[1, 3]], windows[4]
    fine_p = target[[0, 2]]
    valid = ~np.isnan(coarse0)
    with np.errstate(all="ignore"):  # NaN and infinity are replaced below
        near = np.abs(fine - fine_p[..., None, None]) < sigma[..., None, None]
        similar = valid & near.all(axis=0)
        change = coarse0 - coarse
        mean_change = _mean(change, valid)

        unbias = rule.rule == "unbiased"
        bias = _mean(coarse - fine, similar) if unbias else np.zeros_like(fine_p)
        gain = _slope(fine, coarse, similar) if rule.rule == "regressed" else 1.0
        unbiased = fine + bias[..., None, None]
        apart = np.abs((unbiased - coarse) / (unbiased + coarse)).sum(axis=0)
        likeness = 1 - apart / 2
        likeness = np.where((likeness >= -1) & (likeness <= 1), likeness, 0.5)
        offset = np.arange(-rule.radius, rule.radius + 1)
        distance = 1 + np.hypot(*np.meshgrid(offset, offset, indexing="ij")) / rule.radius
        weight = np.where(similar, 1 / ((1 - likeness) * distance + 1e-7), 0)
        weight = weight / weight.sum(axis=(-2, -1), keepdims=True)
        share = _shares(np.abs(mean_change) + 1e-10)
        fused = (share * (fine_p + bias + gain * _sum(weight * change, similar))).sum(axis=0)
        outside = (fused <= rule.low) | (fused >= rule.high)
        fused = np.where(outside, (share * _sum(weight * unbiased, similar)).sum(axis=0), fused)

        change_all = mean_change + 1e-10
        bias = _mean(coarse - fine, valid) if unbias else np.zeros_like(fine_p)
        of_window = fine_p + bias + change_all
        few = (_shares(np.abs(change_all)) * of_window).sum(axis=0)
        fused = np.where(similar.sum(axis=(-2, -1)) >= ENOUGH, fused, few)
        fused = np.where(np.isnan(target[4]), np.nan, fused)
        return np.where(np.isfinite(fused.astype(np.float32)), fused, np.nan)


def _slope(fine: F64, coarse: F64, similar: NDArray[np.bool_]) -> F64:
    """Fit V, the slope of fine on coarse over similar pixels of both days; 1 if insignificant."""
    n = 2 * similar.sum(axis=(-2, -1))
    middle = fine.shape[-1] // 2
    from_p = [image[0, :, middle, middle, None, None] for image in (coarse, fine)]
    x, y = coarse - from_p[0], fine - from_p[1]
    sx, sy = (_sum(value, similar).sum(axis=0) for value in (x, y))
    xx, xy, yy = (_sum(value, similar).sum(axis=0) for value in (x * x, x * y, y * y))
    sxx, sxy, syy = xx - sx * sx / n, xy - sx * sy / n, yy - sy * sy / n
    slope, free = sxy / sxx, n - 2.0
    critical = 1.959964 + 2.37227 / free + 2.8224 / free**2  # Student's t, 5 %, to 0.002
    significant = slope * sxy * free > critical**2 * np.maximum(syy - slope * sxy, 0)
    significant &= sxx > 1e-5 * xx  # coarse values equal up to rounding have no slope
    return np.where(significant & (slope >= 0) & (slope <= 5), slope, 1.0)


def _shares(change: F64) -> F64:
    """Compute T_k from e_k: more weight for the pair whose coarse image differs less."""
    return np.asarray((1 / change) / (1 / change).sum(axis=0))


def _sum(x: F64, where: NDArray[np.bool_]) -> F64:
    return np.asarray(np.sum(x, axis=(-2, -1), where=where))


def _mean(x: F64, where: NDArray[np.bool_]) -> F64:
    return np.asarray(_sum(x, where) / where.sum(axis=(-2, -1)))
