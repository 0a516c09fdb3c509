"""Variables of a map and their attributes (CF 1.11)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import __version__
from ..base.flags import FLAG_MASKS, FLAG_MEANINGS
from ..base.quantities import SOIL_MOISTURE, WETNESS, Quantity
from .plan import Plan

if TYPE_CHECKING:
    from ..model.card import Card

#: As they are stored, little-endian.
VARIABLES: Mapping[str, np.dtype[Any]] = {
    "sm": np.dtype("<f4"),
    "sm_lower": np.dtype("<f4"),
    "sm_upper": np.dtype("<f4"),
    "flags": np.dtype("<u2"),
}
LONG_NAMES: Mapping[str, str] = {
    "sm": "volumetric soil moisture, 0-5 cm",
    "sm_lower": "lower end of the soil moisture interval",
    "sm_upper": "upper end of the soil moisture interval",
    "flags": "quality flags: reasons for doubt or for a missing value",
}


#: Long names of the wetness index, which has no CF standard name.
_INDEX_NAMES: Mapping[str, str] = {
    "sm": "label-free wetness index: 0 driest, 1 wettest that the field has shown",
    "sm_lower": "lower end of the wetness index's interval",
    "sm_upper": "upper end of the wetness index's interval",
}

_TITLES: Mapping[Quantity, str] = {
    SOIL_MOISTURE: "Surface soil moisture",
    WETNESS: "Wetness index (no unit)",
}
_REFERENCES: Mapping[Quantity, str] = {
    SOIL_MOISTURE: "Yu, Filippi, Bishop: knowledge-guided deep learning of soil moisture",
    WETNESS: "Wagner, Lemoine, Rott 1999, Remote Sens. Environ. 70, 191",
}


def cf_attributes(name: str, card: Card) -> dict[str, Any]:
    """Return the CF attributes of one of VARIABLES, for every format."""
    if name == "flags":
        return {
            "long_name": LONG_NAMES[name],
            "standard_name": "quality_flag",
            "flag_masks": np.asarray(FLAG_MASKS, np.uint16),
            "flag_meanings": FLAG_MEANINGS,
        }
    if card.retrieves is not SOIL_MOISTURE:
        return {"long_name": _INDEX_NAMES[name], "units": "1"}
    return {
        "long_name": LONG_NAMES[name],
        "standard_name": "volume_fraction_of_condensed_water_in_soil",
        "units": "1",
    }


def global_attributes(plan: Plan) -> dict[str, Any]:
    """Return the attributes of the whole file. They hold no time of writing."""
    card = plan.model.card
    simulated = "SIMULATED: the model was trained on simulated data. " if card.simulated else ""
    if plan.stack.simulated:
        simulated += "SIMULATED: the scene holds simulated data. "
    name = plan.stack.title or Path(plan.stack.source).stem
    what = _TITLES[card.retrieves]
    interval = (
        "none on the model's card"
        if card.interval is None
        else f"{card.interval['level']:.0%} per pixel, from cross-validation residuals"
    )
    probes = {}
    if plan.effects:
        told = [
            f"{day}: {effect.correction:+.4f} m3 m-3, weight {effect.weight:.2f}, "
            f"{effect.probes} probes"
            for day, effect in zip(plan.dates.astype("datetime64[D]"), plan.effects, strict=True)
        ]
        probes = {"kgsm_probes": "; ".join(told)}
    return {
        **probes,
        "Conventions": "CF-1.11",
        "title": f"{simulated}{what}, {name}",
        "institution": "not stated",
        "source": f"kgsm {__version__}, {card.kind} on Sentinel-1 {card.polarisation.upper()}",
        "history": f"kgsm-infer map, kgsm {__version__}",
        "references": _REFERENCES[card.retrieves],
        "comment": f"interval: {interval}; see flags before use",
        "kgsm_quantity": card.retrieves.name,
        "kgsm_unit": card.retrieves.unit,
        "kgsm_model_sha256": str(card.graph_sha256.get(plan.model.role, "")),
        "kgsm_simulated": "true" if simulated else "false",
    }
