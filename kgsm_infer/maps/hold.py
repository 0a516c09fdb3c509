"""Vegetation of earlier acquisitions that fills the gaps of a map's pixels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..tables.vegetation import held_columns

if TYPE_CHECKING:
    from ..model.model import Model


@dataclass(frozen=True)
class Hold:
    """Vegetation of earlier acquisitions that fills gaps (:mod:`kgsm_infer.tables.vegetation`).

    days: (D,) of all acquisitions.  columns: those that are filled.  most_days: largest age.
    """

    days: NDArray[np.float64]
    columns: tuple[str, ...]
    most_days: float

    @classmethod
    def of(cls, model: Model, dates: NDArray[np.datetime64], most_days: float) -> Hold | None:
        """Return the rule for a model; None where it fills nothing."""
        columns = held_columns(model.card.inputs.columns, most_days)
        days = dates.astype("datetime64[s]").astype(np.int64) / 86400
        return cls(days, columns, most_days) if columns else None

    def since(self, acquisition: int) -> int:
        """Return the first acquisition whose vegetation is young enough for another."""
        return int(np.searchsorted(self.days, self.days[acquisition] - self.most_days))
