"""Results of a model: values with their quantity, interval and quality flags."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..base import flags
from ..base.errors import ModelError
from ..base.quantities import Quantity
from ..kernels.domain import Domain, outside
from ..kernels.wcm import apply_rules, isolate_to_fit
from .card import Card
from .interval import ends, interval_of, known_of
from .observations import Observations


@dataclass(frozen=True, eq=False)
class Retrieval:
    """N retrievals of one quantity. Where ``flags`` has a reason of NO_NUMBER, all numbers are NaN.

    sm, lower, upper: (N,) float32, values of ``quantity`` in its unit and the ends of their
        interval; lower and upper are NaN in a model whose card has no interval.
    soil_db: (N,) float32, sigma_soil of the target acquisition (of a plain LSTM: NaN).
    flags: (N,) uint16, bits of :mod:`kgsm_infer.base.flags`.
    quantity: soil moisture (m3 m-3) or the wetness index (no unit).
    """

    sm: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    soil_db: NDArray[np.float32]
    flags: NDArray[np.uint16]
    quantity: Quantity

    def __iter__(self) -> Iterator[NDArray[Any]]:
        """Iterate over the arrays: sm, lower, upper, soil_db, flags = model.predict(table)."""
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.sm)

    @property
    def arrays(self) -> tuple[NDArray[Any], ...]:
        """sm, lower, upper, soil_db and flags."""
        return self.sm, self.lower, self.upper, self.soil_db, self.flags

    def take(self, rows: Any) -> Retrieval:
        """Return the retrievals at ``rows``, an index array, a mask or a slice."""
        return Retrieval(
            sm=self.sm[rows],
            lower=self.lower[rows],
            upper=self.upper[rows],
            soil_db=self.soil_db[rows],
            flags=self.flags[rows],
            quantity=self.quantity,
        )

    @staticmethod
    def concatenate(parts: Sequence[Retrieval]) -> Retrieval:
        """Join retrievals. ValueError for an empty list, or for two quantities."""
        if len({part.quantity for part in parts}) != 1:
            raise ValueError("retrievals to join must be of one quantity, and at least one")
        return Retrieval(
            sm=np.concatenate([part.sm for part in parts]),
            lower=np.concatenate([part.lower for part in parts]),
            upper=np.concatenate([part.upper for part in parts]),
            soil_db=np.concatenate([part.soil_db for part in parts]),
            flags=np.concatenate([part.flags for part in parts]),
            quantity=parts[0].quantity,
        )

    def columns(self) -> dict[str, NDArray[np.float32]]:
        """Return the numbers by published name, after the quantity: ``sm``, ``sm_lower``, ..."""
        numbers = {
            "sm": self.sm,
            "sm_lower": self.lower,
            "sm_upper": self.upper,
            "soil_db": self.soil_db,
        }
        return {self.quantity.column_of(name): values for name, values in numbers.items()}

    def record(self, i: int) -> dict[str, Any]:
        """Return retrieval ``i`` as plain JSON values: None without a number, flags by name.

        >>> from kgsm_infer.base.quantities import WETNESS
        >>> one, nan = np.float32([0.25]), np.float32([np.nan])
        >>> found = Retrieval(one, nan, nan, nan, np.uint16([flags.SHORT_HISTORY]), WETNESS)
        >>> found.record(0)["wetness"], found.record(0)["unit"], found.record(0)["flags"]
        (0.25, '1', ['short_history'])
        """
        raised = flags.names(int(self.flags[i]))
        return {
            "quantity": self.quantity.name,
            "unit": self.quantity.unit,
            **{
                name: float(values[i]) if np.isfinite(values[i]) else None
                for name, values in self.columns().items()
            },
            "flags": raised.split(";") if raised else [],
        }


def finish(
    card: Card,
    raw: NDArray[np.float32],
    soil_db: NDArray[np.float32],
    mask: NDArray[np.uint16],
    dynamic: NDArray[np.float32] | None = None,
) -> Retrieval:
    """Apply limits, interval and NaN, the same after every engine.

    dynamic: (N, Fd) of the target acquisitions, which the interval may read.

    An engine may turn NaN inputs into finite numbers (onnxruntime's LSTM does), so what
    has no number is set to NaN here, whatever came back.
    """
    low, high = np.float32(card.limits.sm[0]), np.float32(card.limits.sm[1])
    without = (mask & flags.NO_NUMBER) != 0
    broken = ~np.isfinite(raw) & ~without
    if broken.any():  # an engine fault must not look like a missing input
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
    return Retrieval(
        sm=sm,
        lower=lower,
        upper=upper,
        soil_db=np.where(no_soil, nan, soil_db),
        flags=mask,
        quantity=card.retrieves,
    )


def outside_domain(
    card: Card,
    domain: Domain,
    observed: Observations,
    last: NDArray[np.int64],
    statics: NDArray[np.float32],
    channel_db: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """Return (N,) True where the targets ``last`` are outside the domain, for every engine alike.

    channel_db: (N,) the targets' backscatter channel, as the engine computed it.
    """
    layout, dynamic = card.layout, observed.dynamic[last]
    mean, inv_std = np.asarray(layout.mean[:-1], np.float32), layout.inv_std[:-1]
    x = np.empty((len(last), len(mean)), np.float32)
    ends = 1, 1 + layout.dynamic
    x[:, 0], x[:, ends[0] : ends[1]], x[:, ends[1] :] = channel_db, dynamic, statics
    x -= mean
    x *= inv_std

    def in_float64(some: NDArray[np.int64]) -> NDArray[np.float64]:
        rows = last[some]
        channel = observed.sigma0_db[rows].astype(np.float64)
        if card.wcm is not None and observed.vegetation is not None:
            # its soil fraction is above the limit, or there would be no number to doubt
            angle = 0.0 if observed.angle_deg is None else observed.angle_deg[rows]
            seen = apply_rules(card.wcm, channel, observed.vegetation[rows], angle)
            channel = isolate_to_fit(card.wcm, seen)[0]
        raw = np.column_stack([channel, dynamic[some], statics[some]])
        return (raw - mean.astype(np.float64)) * inv_std.astype(np.float64)

    return outside(domain, kernels.dissimilarity(domain, x), in_float64)
