"""Kernels of retrieval: the C core, or the same in NumPy.

Only this module chooses between the two. It uses the C core if ``kgsm_infer.kernels._core`` is
built and ``KGSM_PURE=1`` is not set when the module is first imported. The C core runs the fastest
tier of the processor, or the one that ``KGSM_TIER`` names (``portable``, ``avx2``, ``avx512``,
``neon``).

The NumPy modules (:mod:`kgsm_infer.kernels.wcm`, :mod:`kgsm_infer.kernels.window` and the others)
document functions, arguments and results. Packing gives the same bits in both. Isolated
backscatter agrees within 1e-4 dB with the other and with float64. NaN and flags are the same,
except where a soil fraction lies within 1e-5 of its limit.
"""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from ..base.errors import SlowWarning, UsageError, refuse_free_threading
from . import domain as _domain
from . import fusion as _fusion
from . import head as _head
from . import lstm as _lstm
from . import wcm as _wcm
from . import window as _window
from .domain import Domain
from .fusion import Fusion, FusionBlock
from .head import Readout
from .lstm import LstmWeights
from .wcm import Isolated, Limits, Wcm
from .window import Acquisitions, Layout


def _find_core() -> Any:
    """Import the C extension; None if it is not built, ImportError if it is broken."""
    refuse_free_threading(sys.version)
    if os.environ.get("KGSM_PURE", "0") not in ("", "0"):
        return None
    try:
        core = import_module("kgsm_infer.kernels._core")
    except ModuleNotFoundError as error:
        if error.name != "kgsm_infer.kernels._core":
            raise
        warnings.warn(
            "the C core of kgsm is not installed; NumPy runs at about a tenth of its speed. "
            "Install a wheel of this platform or a C compiler, or set KGSM_PURE=1 to accept it",
            SlowWarning,
            stacklevel=2,
        )
        return None
    tier = os.environ.get("KGSM_TIER") or None
    if tier is not None and tier not in core.tiers():
        raise UsageError(f"KGSM_TIER={tier} must be one of {', '.join(core.tiers())} here")
    core.choose_tier(tier)
    return core


#: tile (T, N, F) -> SM (N,), m3 m-3, neither clipped nor masked.
LstmRunner = Callable[[NDArray[np.float32]], NDArray[np.float32]]

_core = _find_core()
_LIMITS = Limits()


def engine_name() -> str:
    """Return ``c`` or ``numpy``."""
    return "numpy" if _core is None else "c"


def tier_name() -> str:
    """Return ``portable``, ``avx2``, ``avx512`` or ``neon``; ``numpy`` without the C core."""
    return "numpy" if _core is None else str(_core.tier())


def text_core() -> Any:
    """Return the C kernels for separated text (csrc/csv.c), or None without the C core.

    Without them :mod:`kgsm_infer.tables.reading` and :mod:`kgsm_infer.tables.parsing` read cell
    by cell, with the same result.
    """
    return _core


def in_use() -> str:
    """Return engine and tier as text; results of two tiers agree to 1e-5, not to the bit."""
    return f"{engine_name()} {tier_name()}"


def db_to_linear(db: ArrayLike) -> NDArray[np.float32]:
    """Convert decibels of any shape to power; see :func:`kgsm_infer.kernels.wcm.db_to_linear`."""
    if _core is None:
        return _wcm.db_to_linear(db)
    db = np.asarray(db, np.float32)
    linear = np.empty(db.shape, np.float32)
    _core.db_to_linear(_line(db), linear.reshape(-1))
    return linear


def linear_to_db(linear: ArrayLike) -> NDArray[np.float32]:
    """Convert power of any shape to decibels; see :func:`kgsm_infer.kernels.wcm.linear_to_db`."""
    if _core is None:
        return _wcm.linear_to_db(linear)
    linear = np.asarray(linear, np.float32)
    db = np.empty(linear.shape, np.float32)
    _core.linear_to_db(_line(linear), db.reshape(-1))
    return db


def isolate(
    wcm: Wcm,
    sigma0_db: ArrayLike,
    vegetation: ArrayLike,
    angle_deg: ArrayLike | None = None,
) -> Isolated:
    """Compute the soil's backscatter; see :func:`kgsm_infer.kernels.wcm.isolate`."""
    if _core is None:
        return _wcm.isolate(wcm, sigma0_db, vegetation, angle_deg)
    sigma0_db, vegetation = np.broadcast_arrays(
        np.asarray(sigma0_db, np.float32), np.asarray(vegetation, np.float32)
    )
    shape, angle = sigma0_db.shape, None
    if wcm.needs_angle:
        if angle_deg is None:
            raise ValueError(f"angle rule {wcm.angle_rule!r} needs angle_deg")
        angle = _line(np.broadcast_to(np.asarray(angle_deg, np.float32), shape))
    soil = Isolated(
        np.empty(shape, np.float32), np.empty(shape, np.float32), np.empty(shape, np.uint16)
    )
    out = [part.reshape(-1) for part in soil]
    _core.isolate(wcm, _line(sigma0_db), _line(vegetation), angle, *out)
    return soil


def screen(
    sigma0_db: ArrayLike, limits: Limits = _LIMITS
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Screen backscatter by its range; see :func:`kgsm_infer.kernels.wcm.screen`."""
    if _core is None:
        return _wcm.screen(sigma0_db, limits)
    sigma0_db = np.asarray(sigma0_db, np.float32)
    screened_db = np.empty(sigma0_db.shape, np.float32)
    mask = np.empty(sigma0_db.shape, np.uint16)
    _core.screen(limits.sigma0_db, _line(sigma0_db), screened_db.reshape(-1), mask.reshape(-1))
    return screened_db, mask


def invert(soil_db: ArrayLike, c_db: float, d_db: float) -> NDArray[np.float32]:
    """Compute SM of the WCM baseline; see :func:`kgsm_infer.kernels.wcm.invert`."""
    if _core is None:
        return _wcm.invert(soil_db, c_db, d_db)
    soil_db = np.asarray(soil_db, np.float32)
    sm = np.empty(soil_db.shape, np.float32)
    try:
        _core.invert(c_db, d_db, _line(soil_db), sm.reshape(-1))
    except ValueError as error:
        raise ValueError(f"{error}: C={c_db!r}, D={d_db!r}") from None
    return sm


def pack(
    layout: Layout,
    rows: ArrayLike,
    acquisitions: Acquisitions,
    statics: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Pack windows into a tile (T, N, F) and flags (N,); see
    :func:`kgsm_infer.kernels.window.pack`.
    """
    if _core is None:
        return _window.pack(layout, rows, acquisitions, statics)
    rows = _dense(rows, np.int64)
    n, steps = rows.shape
    if steps != layout.steps:
        raise ValueError(f"windows have {steps} steps, the layout {layout.steps}")
    channel_db = _dense(acquisitions.channel_db, np.float32)
    r, dynamic = len(channel_db), acquisitions.dynamic
    dynamic = _dense(np.zeros((r, 0)) if dynamic is None else dynamic, np.float32)
    statics = _dense(np.zeros((n, 0)) if statics is None else statics, np.float32)
    if dynamic.shape != (r, layout.dynamic) or statics.shape != (n, layout.statics):
        raise ValueError(
            f"expected dynamic {(r, layout.dynamic)} and statics {(n, layout.statics)}, "
            f"got {dynamic.shape} and {statics.shape}"
        )
    tile = np.empty((steps, n, layout.channels), np.float32)
    window_flags = np.empty(n, np.uint16)
    _core.pack(
        _dense(layout.mean, np.float32),
        layout.inv_std,
        rows,
        channel_db,
        _dense(acquisitions.step_flags, np.uint16),
        _dense(acquisitions.day, np.float64),
        dynamic,
        statics,
        tile,
        window_flags,
    )
    return tile, window_flags


def lstm_runner(
    weights: LstmWeights,
    first_static: int = 0,
    statics: int = 0,
    readout: Readout | None = None,
) -> LstmRunner:
    """Prepare the LSTM of ``weights``: tile (T, N, F) -> SM (N,).

    readout: physics head, whose SM is added to that of the LSTM.

    statics: number of channels from ``first_static`` on that are the same in every valid step of
    a window and 0 in the others, as :func:`pack` writes them. C computes their contribution once.
    In C the result of a window has the same bits in any batch and in any thread.
    See :func:`kgsm_infer.kernels.lstm.run`.
    """
    lstm = _lstm_alone(weights, first_static, statics)
    if readout is None:
        return lstm

    def run_with_head(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        return read_out(readout, tile) + lstm(tile)

    return run_with_head


def _lstm_alone(weights: LstmWeights, first_static: int, statics: int) -> LstmRunner:
    if _core is None:
        return partial(_lstm.run, weights)
    steps, channels = weights.steps, weights.w.shape[2]
    members, hidden = weights.head.shape
    floats, scratch_floats = _core.lstm_sizes(
        steps, channels, hidden, members, first_static, statics
    )
    prepared = _aligned(floats)
    arrays = (_dense(a, np.float32) for a in weights[1:])
    _core.lstm_prepare(steps, first_static, statics, *arrays, prepared)

    def run(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        tile = _dense(tile, np.float32)
        if tile.shape[0] != steps or tile.shape[2] != channels:
            raise ValueError(f"expected a tile ({steps}, N, {channels}), got {tile.shape}")
        sm = np.empty(tile.shape[1], np.float32)
        scratch = _aligned(scratch_floats)
        _core.lstm_run(hidden, members, first_static, statics, prepared, tile, scratch, sm)
        return sm

    return run


def read_out(readout: Readout, tile: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute SM (N,) of the head alone; see :func:`kgsm_infer.kernels.head.read_out`."""
    if _core is None:
        return _head.read_out(readout, tile)
    tile = _dense(tile, np.float32)
    sm = np.empty(tile.shape[1], np.float32)
    weight, bias = _dense(readout.weight, np.float32), float(readout.bias)
    _core.readout(weight, bias, readout.limits, tile, sm)
    return sm


def dissimilarity(domain: Domain, scaled: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute DI (N,) of scaled points (N, K); see
    :func:`kgsm_infer.kernels.domain.dissimilarity`.
    """
    if _core is None:
        return _domain.dissimilarity(domain, scaled)
    distance = np.empty(len(scaled), np.float32)
    _core.nearest(scaled, domain.by_channel, distance)
    return distance / np.float32(domain.mean_distance)


def fuse_rows(rule: Fusion, block: FusionBlock, threads: int = 1) -> NDArray[np.float32]:
    """Fuse rows of a block, (days, fused rows, columns).

    In C the result of a pixel has the same bits in any block, and with any number of threads.
    See :func:`kgsm_infer.kernels.fusion.fuse_rows`.
    """
    if _core is None:
        return _fusion.fuse_rows(rule, block)
    coarse = _dense(block.coarse, np.float32)
    days, rows, columns = coarse.shape
    floats, scratch_floats = _core.fusion_sizes(rows, columns, days, rule.radius)
    prepared = _aligned(floats)
    images = (_dense(image, np.float32) for image in block.pair)
    _core.fusion_prepare(rule.radius, *images, coarse, prepared)
    fused = np.empty(coarse.shape, np.float32)
    sigma = _dense(block.sigma, np.float64)

    def run(some: range) -> None:
        scratch = _aligned(scratch_floats)
        _core.fusion_run(rule, prepared, some.start, len(some), sigma, scratch, fused)

    # several parts per thread balance threads of unequal speed
    count = len(block.rows)
    step = count if threads == 1 else max(1, -(-count // (4 * threads)))
    parts = [block.rows[i : i + step] for i in range(0, count, step or 1)]
    if threads == 1:
        for part in parts:
            run(part)
    else:
        from concurrent.futures import ThreadPoolExecutor  # only fusion pays for this import

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(run, parts))
    return fused[:, block.rows.start : block.rows.stop]


def _aligned(floats: int) -> NDArray[np.float32]:
    """Allocate float32 values from the start of a cache line on, so no vector crosses two."""
    room = np.empty(floats + 16, np.float32)
    skip = -room.ctypes.data % 64 // 4
    return room[skip : skip + floats]


def _dense(x: ArrayLike, dtype: DTypeLike) -> NDArray[Any]:
    return np.require(x, dtype, ("C", "ALIGNED"))  # C needs aligned addresses


def _line(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return x as one contiguous vector, as C reads it."""
    return _dense(x, x.dtype).reshape(-1)
