"""Label-free wetness index: how wet a place is by its own past, from VH alone.

    z       = (vh_db - usual_db) / swing_db    usual and swing of the place's own passes so far
    index   = Phi(1/2 z + 1/2 z_scene)         0 driest, 1 wettest; Phi the normal distribution
    z_scene = mean over the fields of the pass of the mean z within each field

Usual and swing are shrunk to a typical place, which counts as three passes
(:class:`kgsm_infer.context.definitions.Typical`), so there is a value from the first pass on. With
fewer than five passes of a place it is flagged ``context_missing``. Later passes are never used.
For a single field z_scene is the field's own mean z.

This is change detection (Wagner, Lemoine & Rott 1999, Remote Sens. Environ. 70, 191) on a
standardised anomaly. Nothing is fitted and no label is used. The index is a model file like any
other (``wetness.onnx``, written by :mod:`kgsm_train.export.wetness`); ``wetness`` is its name where
a command takes a model.

Soil moisture in m3 m-3 follows only between limits that are stated, or given by soil texture:

    SM = dry (1 - index) + wet index

``kgsm-train index-score`` measures it against labels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ..base.errors import UsageError
from ..tables.texture import NAME as PEDOTRANSFER
from ..tables.texture import dry_and_wet
from .onnx_reader import SHIPPED

if TYPE_CHECKING:
    from ..tables.table import Table
    from .model import Model
    from .result import Retrieval

NAME = "wetness"


@dataclass(frozen=True)
class SoilLimits:
    """Driest and wettest soil moisture, m3 m-3, numbers or (R,); source: who says so."""

    dry: float | NDArray[np.float64]
    wet: float | NDArray[np.float64]
    source: str


def stated_limits(
    dry: float | None, wet: float | None, sand: float | None, clay: float | None
) -> SoilLimits | None:
    """Return the limits of a command's options, None without any; UsageError for half of them.

    >>> stated_limits(0.05, 0.40, None, None)
    SoilLimits(dry=0.05, wet=0.4, source='stated')
    """
    if (dry is None) != (wet is None) or (sand is None) != (clay is None):
        raise UsageError("limits come in pairs: --dry and --wet, or --sand and --clay")
    if dry is not None and sand is not None:
        raise UsageError("limits are stated (--dry, --wet) or made of texture, not both")
    if dry is not None and wet is not None:
        if not 0 <= dry < wet <= 1:
            raise UsageError(f"--dry {dry:g} and --wet {wet:g} must be m3/m3, 0 <= dry < wet <= 1")
        return SoilLimits(dry, wet, "stated")
    if sand is not None and clay is not None:
        low, high = dry_and_wet(sand, clay)
        if not np.isfinite(low):
            raise UsageError(f"{PEDOTRANSFER} was not made for clay above 0.6; state --dry, --wet")
        return SoilLimits(float(low), float(high), PEDOTRANSFER)
    return None


def limits_of_table(table: Table) -> SoilLimits | None:
    """Return limits from the columns ``sand`` and ``clay`` (mass fractions), row by row.

    None without these columns; DataError where they cannot be fractions.
    """
    columns: Mapping[str, NDArray[np.float64]] = table.numbers
    if "sand" not in columns or "clay" not in columns:
        return None
    dry, wet = dry_and_wet(columns["sand"], columns["clay"])
    return SoilLimits(dry, wet, PEDOTRANSFER)


def wetness_model(limits: SoilLimits | None = None) -> Model:
    """Load the shipped index; with limits (two numbers) it gives soil moisture between them.

    The limits replace those of the head on the card, which the native engine reads. The file
    itself stays as it is.
    """
    from .model import load, with_card

    model = load(SHIPPED[NAME])
    if limits is None:
        return model
    head, (dry, wet) = model.card.head, (float(limits.dry), float(limits.wet))
    assert head is not None, "the shipped model has a head"
    bounds = replace(model.card.limits, sm=(dry, wet))
    head = replace(head, limits=(dry, wet))
    card = replace(model.card, head=head, quantity="sm", limits=bounds)
    return with_card(model, card, "native")


def wetness_of(table: Table, limits: SoilLimits | None = None) -> Retrieval:
    """Compute the index of each row (with limits: SM), and its flags.

    Every site is a separate field in a table without the column ``field``.
    """
    return wetness_model(limits).predict(table)
