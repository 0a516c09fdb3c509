"""Quality flags: one bit each. Names and bits are stable (design §3).

:data:`FLAGS` is the one list. The C header, the README's table, the JavaScript example and the
gateway's sentences are tested against it. In tables flags are names joined with ``;``, in
rasters the bit mask itself.

>>> names(MISSING_INPUT | SHORT_HISTORY)
'missing_input;short_history'
>>> names(0)
''
>>> mask_of('dense_vegetation;sm_clipped') == DENSE_VEGETATION | SM_CLIPPED
True
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Flag:
    """A quality flag. meaning: one line for users.  withheld: no value is given with it."""

    name: str
    meaning: str
    withheld: bool = False


#: Every flag, in the order of its bits. New ones are appended.
FLAGS = (
    Flag("missing_input", "an input of this acquisition is missing", withheld=True),
    Flag(
        "input_out_of_range",
        "an input is outside its range: physical, or what training has seen with as much again",
        withheld=True,
    ),
    Flag(
        "soil_signal_lost",
        "σ_obs ≤ σ_veg, or less than a tenth of the signal comes from the soil",
        withheld=True,
    ),
    Flag(
        "dense_vegetation",
        "the crop is too dense for the radar to see the soil well (VWC above the card's limit)",
    ),
    Flag(
        "frozen_or_snow",
        "`temp_c` ≤ 0 or `snow_cover` > 0, where the table has these columns",
        withheld=True,
    ),
    Flag(
        "outside_domain",
        "unlike anything in training (dissimilarity index above the card's threshold, or a "
        "longer gap)",
    ),
    Flag("short_history", "an earlier acquisition of the window is missing or unusable"),
    Flag("context_missing", "the field, scene or past of a row has too few rows to compare with"),
    Flag("sm_clipped", "the model left its physical limits (0 to 1 m³/m³) and was clipped"),
    Flag("no_skill", "in cross-validation this model did no better than a mean"),
    Flag("vegetation_old", "the vegetation was observed too many days before the acquisition"),
    Flag("wet_without_rain", "the value rose although no rain was recorded"),
)

NAMES: tuple[str, ...] = tuple(flag.name for flag in FLAGS)
_BITS = {name: 1 << bit for bit, name in enumerate(NAMES)}

MISSING_INPUT = _BITS["missing_input"]
INPUT_OUT_OF_RANGE = _BITS["input_out_of_range"]
SOIL_SIGNAL_LOST = _BITS["soil_signal_lost"]
DENSE_VEGETATION = _BITS["dense_vegetation"]
FROZEN_OR_SNOW = _BITS["frozen_or_snow"]
OUTSIDE_DOMAIN = _BITS["outside_domain"]
SHORT_HISTORY = _BITS["short_history"]
CONTEXT_MISSING = _BITS["context_missing"]
SM_CLIPPED = _BITS["sm_clipped"]
NO_SKILL = _BITS["no_skill"]
VEGETATION_OLD = _BITS["vegetation_old"]
WET_WITHOUT_RAIN = _BITS["wet_without_rain"]

#: Attributes of rasters (CF section 3.5).
FLAG_MASKS: tuple[int, ...] = tuple(_BITS.values())
FLAG_MEANINGS = " ".join(NAMES)

#: With any of these bits the value and its interval are NaN.
NO_NUMBER = sum(_BITS[flag.name] for flag in FLAGS if flag.withheld)


def names(mask: int) -> str:
    """Return the names of the bits set in ``mask``, lowest first, joined with ``;``."""
    return ";".join(name for bit, name in enumerate(NAMES) if int(mask) >> bit & 1)


def mask_of(text: str) -> int:
    """Return the bit mask of ``;``-joined names; ValueError names an unknown one."""
    mask = 0
    for name in filter(None, text.split(";")):
        if name not in NAMES:
            raise ValueError(f"unknown flag {name!r}; known: {', '.join(NAMES)}")
        mask |= _BITS[name]
    return mask
