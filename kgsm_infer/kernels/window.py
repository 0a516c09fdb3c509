"""Look-back windows and the LSTM's input tile, the same as ``kgsm_pack`` of the C core.

A *row* is one acquisition of one site. A *window* is a row and the T - 1 rows of the same site
before it. Where the site has fewer rows, the window begins with padding, -1.

Channels of the tile, F = 1 + Fd + Fs + 2, in this order:

    backscatter   sigma_soil (KG-LSTM) or sigma0 (plain LSTM), dB, scaled
    dynamic       Fd auxiliaries of each acquisition, scaled
    statics       Fs properties of the site, scaled, repeated at each valid step
    gap_days      days since the previous step of the window, scaled; 0 where unknown
    valid         1 where the step has all its inputs, else 0

Scaled means (x - mean) / std, computed as (x - mean) * (1 / std) in float32. A step
that lacks an input (any flag of NO_NUMBER, a dynamic auxiliary or its day) is all zeros, so it has
no effect on the LSTM. A window whose last step or any static is missing gives NaN; its tile is
still finite, and its flags give the reason.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags


@dataclass(frozen=True)
class Layout:
    """Sizes and scaling of the tile.

    steps: T.  dynamic: Fd.  statics: Fs.
    mean, std: of the 1 + Fd + Fs + 1 scaled channels, in channel order.
    """

    steps: int
    dynamic: int
    statics: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        scaled = 1 + self.dynamic + self.statics + 1
        if self.steps < 1 or self.dynamic < 0 or self.statics < 0:
            raise ValueError(f"a window needs at least one step: {self}")
        if len(self.mean) != scaled or len(self.std) != scaled:
            raise ValueError(
                f"{scaled} scaled channels need as many means and stds, "
                f"got {len(self.mean)} and {len(self.std)}"
            )
        if not (np.isfinite(self.mean).all() and np.isfinite(self.std).all()):
            raise ValueError("scaling must be finite")
        with np.errstate(all="ignore"):  # overflow in float32 is checked below
            mean, inv_std = np.asarray(self.mean, np.float32), self.inv_std
        if not (np.all(np.asarray(self.std) > 0) and np.all(inv_std > 0)):
            raise ValueError("every std must be > 0 and in float32's range")
        if not (np.isfinite(mean).all() and np.isfinite(inv_std).all()):
            raise ValueError("every mean and 1 / std must be in float32's range")

    @property
    def channels(self) -> int:
        """Number of channels F, with the unscaled ``valid`` channel."""
        return len(self.mean) + 1

    @property
    def inv_std(self) -> NDArray[np.float32]:
        """Compute 1 / std of the scaled channels in float32."""
        return np.asarray(np.float32(1) / np.asarray(self.std, np.float32))


def window_rows(site: ArrayLike, day: ArrayLike, steps: int) -> NDArray[np.int64]:
    """Find the rows of each row's window: (R, T) indices, -1 for padding.

    site: (R,) of any sortable type.  day: (R,) numbers or datetime64.  Rows of one site at one
    time keep their order in the table.

    >>> window_rows(["a", "b", "a"], [2, 1, 1], steps=2).tolist()
    [[2, 0], [-1, 1], [-1, 2]]
    """
    site, day = np.asarray(site), np.asarray(day)
    n = len(site)
    code = np.unique(site, return_inverse=True)[1]
    order = np.lexsort((day, code))  # stable
    starts = np.flatnonzero(np.r_[True, np.diff(code[order]) != 0]) if n else np.empty(0, int)
    first = np.repeat(starts, np.diff(np.r_[starts, n]))  # where each row's site begins
    place = np.arange(n)[:, None] - np.arange(steps - 1, -1, -1)
    rows = np.full((n, steps), -1, np.int64)
    rows[order] = np.where(place >= first[:, None], order[np.maximum(place, 0)], -1)
    return rows


def bounded(
    values: NDArray[np.float32], low: NDArray[np.float32], high: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Set values (..., k) outside [low, high] (k,) to infinity, without a copy if there are none.

    :func:`pack` flags infinite values ``input_out_of_range``.

    >>> low, high = np.float32([0, 0]), np.float32([1, 9])
    >>> bounded(np.float32([[0.5, -9999], [np.nan, 2]]), low, high).tolist()
    [[0.5, inf], [nan, 2.0]]
    """
    outside = (values < low) | (values > high)
    return np.where(outside, np.float32(np.inf), values) if outside.any() else values


def check_history(
    rows: NDArray[np.int64], day: NDArray[np.float64], longest_gap_days: float = np.inf
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Remove steps that cannot be the history of a window, and find windows with too long a gap.

    rows: (N, T), -1 is padding.  day: (R,).  Returns rows in which a step is padding if it is
    not before the target, further back than T - 1 of the longest gaps, or not before the step
    that follows it; and (N,) True where two steps lie further apart than the longest gap.

    >>> day = np.asarray([0.0, 12.0, 9000.0, 9012.0])
    >>> rows = np.asarray([[2, 1, 3], [3, 0, 1]])
    >>> [part.tolist() for part in check_history(rows, day, 100.0)]
    [[[2, -1, 3], [-1, 0, 1]], [False, False]]
    """
    steps, none = rows.shape[1], np.zeros(len(rows), bool)
    if not len(day):
        return rows, none
    when = np.take(day, rows, mode="wrap")  # padding, -1, takes some day
    with np.errstate(invalid="ignore"):
        gaps = when[:, 1:] - when[:, :-1]
        regular = not gaps.size or (gaps.min() > 0 and gaps.max() <= longest_gap_days)
        if regular and rows.min() >= 0:
            return rows, none  # the common case
        when = np.where(rows < 0, np.nan, when)
        gaps = np.diff(when, axis=1)
        if (((gaps > 0) & (gaps <= longest_gap_days)) | (rows[:, :-1] < 0)).all():
            return rows, none
        age = when[:, -1:] - when
        senseless = (age <= 0) | (age > (steps - 1) * longest_gap_days)
        senseless[:, -1] = False
        known = np.where(senseless, np.nan, when)
        senseless[:, :-1] |= known[:, :-1] >= known[:, 1:]
        gaps = np.diff(np.where(senseless, np.nan, when), axis=1)
        too_long = np.asarray((gaps > longest_gap_days).any(axis=1))
        return np.where(senseless, -1, rows), too_long


def check_history_of_runs(
    rows: NDArray[np.int64],
    day: NDArray[np.float64],
    longest_gap_days: float,
    alike: int,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Check the history of windows as :func:`check_history` does, once for each run of windows.

    alike: number of neighbouring windows whose steps have the same days and the same padding, as
    the pixels of one date have; a divisor of N.

    >>> day = np.asarray([0.0, 0.0, 9000.0, 9000.0])
    >>> rows = np.asarray([[-1, 0], [-1, 1], [0, 2], [1, 3]])
    >>> [part.tolist() for part in check_history_of_runs(rows, day, 100.0, 2)]
    [[[-1, 0], [-1, 1], [-1, 2], [-1, 3]], [False, False, False, False]]
    """
    first = rows[::alike]
    whole, far = check_history(first, day, longest_gap_days)
    removed = whole != first
    if removed.any():
        rows = np.where(np.repeat(removed, alike, axis=0), -1, rows)
    return rows, np.repeat(far, alike)


def days_apart(rows: NDArray[np.int64], day: NDArray[np.float64]) -> NDArray[np.float32]:
    """Compute the days of each step since the last day of its window, (N, T), NaN in padding.

    Engines compute gaps from it in float32, which keeps seconds only for small numbers of days.

    >>> days_apart(np.asarray([[-1, 0, 1]]), np.asarray([19723.25, 19735.5])).tolist()
    [[nan, -12.25, 0.0]]
    """
    when = np.where(rows < 0, np.nan, day[rows])
    last = np.where(np.isfinite(when), when, -np.inf).max(axis=1, keepdims=True)
    with np.errstate(invalid="ignore", over="ignore"):
        return (when - np.where(np.isfinite(last), last, 0.0)).astype(np.float32)


@dataclass(frozen=True)
class Acquisitions:
    """R acquisitions that windows are packed from.

    channel_db: (R,) float32, the backscatter channel; a NaN without a flag of NO_NUMBER counts as
    missing.  step_flags: (R,) uint16.  day: (R,) float64, days since any origin; NaN makes the
    step invalid.  dynamic: (R, Fd) float32; None where the layout has none.
    """

    channel_db: ArrayLike
    step_flags: ArrayLike
    day: ArrayLike
    dynamic: ArrayLike | None = None


def pack(
    layout: Layout,
    rows: ArrayLike,
    acquisitions: Acquisitions,
    statics: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Pack N windows into the input tile (T, N, F) float32 and flags (N,).

    rows: (N, T) int64, from :func:`window_rows` (-1 is padding).
    statics: (N, Fs) float32, one row per *window*.

    A window's flags are its last row's step_flags, ``missing_input`` or
    ``input_out_of_range`` (NaN or infinite) for its last row's dynamic, day and its
    statics, and ``short_history`` where any other step is invalid.
    """
    rows = np.asarray(rows, np.int64)
    n, steps = rows.shape
    if steps != layout.steps:
        raise ValueError(f"windows have {steps} steps, the layout {layout.steps}")
    channel_db = np.asarray(acquisitions.channel_db, np.float32)
    step_flags = np.asarray(acquisitions.step_flags, np.uint16)
    day = np.asarray(acquisitions.day, np.float64)
    r = len(channel_db)
    dynamic = acquisitions.dynamic
    dynamic = np.zeros((r, 0), np.float32) if dynamic is None else np.asarray(dynamic, np.float32)
    statics = np.zeros((n, 0), np.float32) if statics is None else np.asarray(statics, np.float32)
    if channel_db.shape != (r,) or step_flags.shape != (r,) or day.shape != (r,):
        raise ValueError(
            f"channel_db, step_flags and day must each be ({r},), "
            f"got {channel_db.shape}, {step_flags.shape} and {day.shape}"
        )
    if dynamic.shape != (r, layout.dynamic) or statics.shape != (n, layout.statics):
        raise ValueError(
            f"expected dynamic {(r, layout.dynamic)} and statics {(n, layout.statics)}, "
            f"got {dynamic.shape} and {statics.shape}"
        )
    if n and not (rows.min() >= -1 and rows.max() < r):
        raise ValueError(f"window rows must lie in -1..{r - 1}, got {rows.min()}..{rows.max()}")

    # backscatter that is NaN without a flag is missing
    unexplained = np.where(step_flags & flags.NO_NUMBER, 0, _lacking(channel_db[:, None]))
    step_flags = step_flags | unexplained.astype(np.uint16)
    step_flags = step_flags | _lacking(dynamic) | _lacking(day[:, None])
    valid_row = (step_flags & flags.NO_NUMBER) == 0
    pad = rows < 0
    if r == 0:  # padding only: pack one missing row
        missing = Acquisitions([np.nan], [0], [0.0], np.zeros((1, layout.dynamic)))
        return pack(layout, rows, missing, statics)
    at = np.where(pad, 0, rows)  # padding reads row 0 and is masked below
    valid = valid_row[at] & ~pad

    mean = np.asarray(layout.mean, np.float32)
    inv_std = layout.inv_std
    fd, fs = layout.dynamic, layout.statics
    static_flags = _lacking(statics)
    scaled = np.zeros((n, steps, layout.channels), np.float32)
    gap = np.zeros((n, steps), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):
        # in float64, where days since 1970 keep their seconds
        gap[:, 1:] = day[at[:, 1:]] - day[at[:, :-1]]
        gap[:, 1:][pad[:, :-1]] = 0
        gap[~np.isfinite(gap)] = 0
        scaled[..., 0] = (channel_db[at] - mean[0]) * inv_std[0]
        scaled[..., 1 : 1 + fd] = (dynamic[at] - mean[1 : 1 + fd]) * inv_std[1 : 1 + fd]
        # static_flags marks missing statics; the tile stays finite
        scaled[..., 1 + fd : 1 + fd + fs] = np.where(
            np.isfinite(statics),
            (statics - mean[1 + fd : 1 + fd + fs]) * inv_std[1 + fd : 1 + fd + fs],
            np.float32(0),
        )[:, None, :]
        scaled[..., 1 + fd + fs] = (gap - mean[-1]) * inv_std[-1]
    scaled[..., -1] = 1
    scaled[~valid] = 0

    last = rows[:, -1]
    window_flags = np.full(n, flags.MISSING_INPUT, np.uint16)  # of a target that is padding
    real = last >= 0
    window_flags[real] = step_flags[last[real]]
    window_flags |= static_flags
    short = ~valid[:, :-1].all(axis=1)
    window_flags |= short * np.uint16(flags.SHORT_HISTORY)
    return np.ascontiguousarray(scaled.transpose(1, 0, 2)), window_flags


def _lacking(x: NDArray[np.floating]) -> NDArray[np.uint16]:
    """Flag each row of x (n, k): missing for any NaN, out of range for any infinity."""
    return np.asarray(
        np.isnan(x).any(axis=1) * np.uint16(flags.MISSING_INPUT)
        | np.isinf(x).any(axis=1) * np.uint16(flags.INPUT_OUT_OF_RANGE),
        np.uint16,
    )
