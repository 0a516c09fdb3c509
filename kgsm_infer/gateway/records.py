"""A stored value as every reader gets it: one record, the same bytes for the same key.

Nothing in a record depends on when or by which process it was made, so whoever gets
(paddock, acquisition, revision) twice gets the same bytes twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from .store.rows import Value

#: What each flag means to somebody who farms. The tests hold the names against flags.NAMES.
WORDS: Mapping[str, str] = {
    "missing_input": "The satellite data for this paddock are incomplete.",
    "input_out_of_range": "The satellite data for this paddock hold impossible values.",
    "soil_signal_lost": "The crop hides the soil from the radar.",
    "dense_vegetation": "The crop is too dense for the radar to see the soil well.",
    "frozen_or_snow": "The soil is frozen or under snow; the radar cannot tell that from dry soil.",
    "outside_domain": "Conditions here are unlike any the model was trained on.",
    "short_history": "There are few earlier passes of the satellite to compare with.",
    "context_missing": "There is too little to compare this paddock with yet.",
    "no_skill": "Where it was tried, this model was no better than a plain average.",
    "sm_clipped": "The estimate ran past the possible range and was cut off there.",
}


def words(flag: str) -> str:
    """A flag in plain words; one that is newer than this list by its name.

    >>> words("soil_signal_lost"), words("new_flag")
    ('The crop hides the soil from the radar.', 'Doubt: new flag.')
    """
    return WORDS.get(flag, f"Doubt: {flag.replace('_', ' ')}.")


def corrected_by(found: Mapping[str, Any]) -> str:
    """What probes did to a record's number, in plain words; empty where nothing.

    >>> corrected_by({"probes": 2, "sm_correction": 0.0312}), corrected_by({})
    ('Corrected by 2 probes, +3.1 % of volume.', '')
    """
    if "probes" not in found:
        return ""
    count = found["probes"]
    return (
        f"Corrected by {count} probe{'' if count == 1 else 's'}, "
        f"{100 * found['sm_correction']:+.1f} % of volume."
    )


def iso(seconds: int) -> str:
    """Seconds since 1970 as ISO 8601, UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def record(value: Value) -> dict[str, Any]:
    """A value as JSON: soil moisture in m3 m-3 and in percent, None where there is none.

    ``sm_correction`` and ``probes`` stand in it only where probes of the pass moved it.
    """
    found: dict[str, Any] = {
        "paddock": value.paddock,
        "acquired_at": iso(value.acquired),
        "orbit": value.orbit,
        "revision": value.revision,
        "sm": value.sm,
        "sm_lower": value.sm_lower,
        "sm_upper": value.sm_upper,
        "unit": "m3 m-3",
        "sm_percent": _percent(value.sm),
        "sm_lower_percent": _percent(value.sm_lower),
        "sm_upper_percent": _percent(value.sm_upper),
        "valid_share": value.valid_share,
        "flags": value.flags.split(";") if value.flags else [],
        "reason": value.reason,
        "model": value.model,
    }
    if value.probes:
        found["sm_correction"], found["probes"] = value.sm_correction, value.probes
    if value.simulated:
        found["source"] = "simulated"
    return found


def record_bytes(value: Value) -> bytes:
    """The record as it goes over the wire."""
    return canonical(record(value))


def canonical(content: Any) -> bytes:
    """JSON in one spelling: sorted keys, no spaces, UTF-8; NaN is an error, never a token."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _percent(sm: float | None) -> float | None:
    return None if sm is None else round(100 * sm, 2)
