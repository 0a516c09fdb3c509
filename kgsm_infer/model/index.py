"""A number without a probe: how wet a paddock is between its driest and its wettest.

    between = (VH of the field - its driest) / (its wettest - its driest), in dB
    wetness = 1/2 between + 1/2 (mean of between over the scene)             0 driest, 1 wettest

Change detection (Wagner, Lemoine & Rott 1999, Remote Sens. Environ. 70, 191) with nothing
fitted: no label was seen. The field's half is what happened there; the scene's half what
happened to all fields, and steadier, since speckle averages out over it. It is a model file like
any other (``wetness.onnx``, made by :mod:`kgsm_train.export.wetness`): ``wetness`` is its name
where a command wants a model.

Soil moisture in m3 m-3 is made of it only between limits that somebody states, or that the
soil's texture gives:

    SM = dry + (wet - dry) wetness

What it is worth was measured where labels are: README, "A number without a probe".
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
    """The limits of somebody's options; None where there are none. UsageError for half of them.

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
    """Limits from the columns ``sand`` and ``clay`` (mass fractions), row by row; None without.

    DataError where they cannot be fractions.
    """
    columns: Mapping[str, NDArray[np.float64]] = table.numbers
    if "sand" not in columns or "clay" not in columns:
        return None
    dry, wet = dry_and_wet(columns["sand"], columns["clay"])
    return SoilLimits(dry, wet, PEDOTRANSFER)


def wetness_model(limits: SoilLimits | None = None) -> Model:
    """The shipped model; with limits (two numbers) it gives soil moisture between them.

    The limits stand in no file: the native engine makes its line of the card.
    """
    from .model import load, with_card

    model = load(SHIPPED[NAME])
    if limits is None:
        return model
    head, (dry, wet) = model.card.head, (float(limits.dry), float(limits.wet))
    assert head is not None, "the shipped model has a head"
    head = replace(
        head,
        intercept=dry + (wet - dry) * head.intercept,
        terms=tuple(replace(term, slope=(wet - dry) * term.slope) for term in head.terms),
    )
    bounds = replace(model.card.limits, sm=(dry, wet))
    card = replace(model.card, head=head, quantity="sm", limits=bounds)
    return with_card(model, card, "native")


def wetness_of(table: Table, limits: SoilLimits | None = None) -> Retrieval:
    """The index of each row (with limits: SM), and its flags.

    A table without the column ``field`` has fields of one site each.
    """
    if "field" not in table.text:
        table = replace(table, text={**table.text, "field": tuple(table.site.tolist())})
    return wetness_model(limits).predict(table)
