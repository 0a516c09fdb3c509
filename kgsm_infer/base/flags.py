"""The reasons beside every number: one bit each, names stable (design §3).

In tables flags are names joined with ``;``, in rasters the bit mask itself.

>>> names(MISSING_INPUT | SHORT_HISTORY)
'missing_input;short_history'
>>> names(0)
''
>>> mask_of('dense_vegetation;sm_clipped') == DENSE_VEGETATION | SM_CLIPPED
True
"""

from __future__ import annotations

MISSING_INPUT = 1  # an input of this acquisition is missing: no number
INPUT_OUT_OF_RANGE = 2  # an input outside its physical range: no number
SOIL_SIGNAL_LOST = 4  # sigma0 <= sigma_veg, or soil fraction below the limit: no number
DENSE_VEGETATION = 8  # VWC above the card's limit: a number, less to be trusted
FROZEN_OR_SNOW = 16  # the soil is frozen or under snow: no number
OUTSIDE_DOMAIN = 32  # unlike anything in the training data
SHORT_HISTORY = 64  # fewer than T valid acquisitions in the window
CONTEXT_MISSING = 128  # the field's or scene's context was not there
SM_CLIPPED = 256  # the network left the physical limits and was clipped to them
NO_SKILL = 512  # the model was no better than a mean where it was tried: the card says so

NAMES: tuple[str, ...] = (
    "missing_input",
    "input_out_of_range",
    "soil_signal_lost",
    "dense_vegetation",
    "frozen_or_snow",
    "outside_domain",
    "short_history",
    "context_missing",
    "sm_clipped",
    "no_skill",
)

#: What rasters say of them (CF section 3.5).
FLAG_MASKS: tuple[int, ...] = tuple(1 << bit for bit in range(len(NAMES)))
FLAG_MEANINGS = " ".join(NAMES)

#: With any of these there is no number: SM, its interval and nothing else is NaN.
NO_NUMBER = MISSING_INPUT | INPUT_OUT_OF_RANGE | SOIL_SIGNAL_LOST | FROZEN_OR_SNOW


def names(mask: int) -> str:
    """Names of the bits set in ``mask``, lowest first, joined with ``;``."""
    return ";".join(name for bit, name in enumerate(NAMES) if int(mask) >> bit & 1)


def mask_of(text: str) -> int:
    """The bit mask of ``;``-joined names; ValueError names an unknown one."""
    mask = 0
    for name in filter(None, text.split(";")):
        if name not in NAMES:
            raise ValueError(f"unknown flag {name!r}; known: {', '.join(NAMES)}")
        mask |= 1 << NAMES.index(name)
    return mask
