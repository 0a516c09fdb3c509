"""What a model says of a window: the number, its interval, and the reasons beside it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..base import flags
from ..base.errors import ModelError
from ..kernels.domain import Domain, outside
from ..kernels.wcm import in_own_terms, isolate_to_fit
from .card import Card
from .interval import ends, interval_of, known_of
from .observations import Observations


class Retrieval(NamedTuple):
    """N retrievals. Where ``flags`` has a reason of NO_NUMBER, all numbers are NaN.

    sm, lower, upper: (N,) float32, m3 m-3; lower and upper are NaN in a model whose
        card has no interval.
    soil_db: (N,) float32, sigma_soil of the target acquisition (of a plain LSTM: NaN).
    flags: (N,) uint16, bits of :mod:`kgsm_infer.base.flags`.
    """

    sm: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    soil_db: NDArray[np.float32]
    flags: NDArray[np.uint16]

    def record(self, i: int) -> dict[str, Any]:
        """Retrieval ``i`` as plain JSON values: None where there is no number, flags by name.

        >>> one, nan = np.float32([0.25]), np.float32([np.nan])
        >>> Retrieval(one, nan, nan, nan, np.uint16([flags.SHORT_HISTORY])).record(0)["flags"]
        ['short_history']
        """
        numbers = {
            "sm": self.sm,
            "sm_lower": self.lower,
            "sm_upper": self.upper,
            "soil_db": self.soil_db,
        }
        told: dict[str, Any] = {
            name: float(values[i]) if np.isfinite(values[i]) else None
            for name, values in numbers.items()
        }
        raised = flags.names(int(self.flags[i]))
        return {**told, "flags": raised.split(";") if raised else []}


def finish(
    card: Card,
    raw: NDArray[np.float32],
    soil_db: NDArray[np.float32],
    mask: NDArray[np.uint16],
    dynamic: NDArray[np.float32] | None = None,
) -> Retrieval:
    """Limits, interval and NaN, the same after every engine.

    dynamic: (N, Fd) of the target acquisitions, which the interval may read.

    An engine may turn NaN inputs into finite numbers (onnxruntime's LSTM does), so what
    has no number is set to NaN here, whatever came back.
    """
    low, high = np.float32(card.limits.sm[0]), np.float32(card.limits.sm[1])
    without = (mask & flags.NO_NUMBER) != 0
    broken = ~np.isfinite(raw) & ~without
    if broken.any():  # an engine fault must not pass for "missing input" without a word
        raise ModelError(
            f"the engine returned no finite number for {int(broken.sum())} valid windows; "
            "the model file or the runtime is broken"
        )
    clipped = ~without & ((raw < low) | (raw > high))
    mask = mask | clipped * np.uint16(flags.SM_CLIPPED)
    mask = mask | np.uint16(flags.NO_SKILL if card.no_skill else 0)
    nan = np.float32(np.nan)
    sm = np.where(without, nan, np.clip(raw, low, high))
    lower, upper = np.full_like(sm, nan), np.full_like(sm, nan)
    if card.interval is not None:
        channels = card.names("dynamic")
        width = interval_of(card.interval, channels).point
        lower, upper = ends(width, sm, known_of(mask, dynamic, channels), card.limits.sm)
    no_soil = without if card.wcm else np.ones_like(without)  # a plain LSTM sees no soil
    return Retrieval(sm, lower, upper, np.where(no_soil, nan, soil_db), mask)


def outside_domain(
    card: Card,
    domain: Domain,
    observed: Observations,
    last: NDArray[np.int64],
    statics: NDArray[np.float32],
    channel_db: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """(N,) where the targets ``last`` are unlike the training data, the same for all engines.

    channel_db: (N,) the targets' backscatter channel, as the engine at hand has it.
    """
    layout, dynamic = card.layout, observed.dynamic[last]
    mean, inv_std = np.asarray(layout.mean[:-1], np.float32), layout.inv_std[:-1]
    x = (np.column_stack([channel_db, dynamic, statics]) - mean) * inv_std

    def in_float64(some: NDArray[np.bool_]) -> NDArray[np.float64]:
        rows = last[some]
        channel = observed.sigma0_db[rows].astype(np.float64)
        if card.wcm is not None and observed.vegetation is not None:
            # its soil fraction is above the limit, or there would be no number to doubt
            angle = 0.0 if observed.angle_deg is None else observed.angle_deg[rows]
            seen = in_own_terms(card.wcm, channel, observed.vegetation[rows], angle)
            channel = isolate_to_fit(card.wcm, seen)[0]
        raw = np.column_stack([channel, dynamic[some], statics[some]])
        return (raw - mean.astype(np.float64)) * inv_std.astype(np.float64)

    return outside(domain, kernels.dissimilarity(domain, x), in_float64)
