"""Readings of sensors in the ground: checked, kept, and shown beside the value.

They do not change a value: the correction by probes is the model's (``--probes``).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..errors import DataError
from ..refusal import Refusal
from .intake import Paddocks

#: Most readings of one message.
MOST = 10_000


def readings_of(content: Any, paddocks: Paddocks) -> list[tuple[str, str, int, float]]:
    """(paddock, sensor, seconds since 1970, m3 m-3) of ``{"readings": [...]}``.

    DataError names the reading that cannot be one.
    """
    items = content.get("readings") if isinstance(content, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MOST:
        raise DataError(f'probes: send {{"readings": [1 to {MOST} of them]}}')
    return [_reading(item, f"probes: reading {at}", paddocks) for at, item in enumerate(items, 1)]


def _reading(item: Any, place: str, paddocks: Paddocks) -> tuple[str, str, int, float]:
    if not isinstance(item, dict):
        raise DataError(f"{place}: not an object")
    unknown = sorted(set(item) - {"paddock", "at", "sm", "sensor"})
    if unknown:
        raise DataError(f"{place}: {str(unknown[0])[:64]!r} is not a key of a reading")
    paddock, sensor, at, sm = (item.get(key) for key in ("paddock", "sensor", "at", "sm"))
    if not isinstance(paddock, str) or not 1 <= len(paddock) <= 256:
        raise DataError(f"{place}: paddock must be a text")
    if not paddocks.known(paddock):
        raise DataError(f"{place}: no paddock {paddock[:64]!r}")
    if sensor is not None and (not isinstance(sensor, str) or not len(sensor) <= 256):
        raise DataError(f"{place}: sensor must be a text")
    if isinstance(sm, bool) or not isinstance(sm, (int, float)) or not math.isfinite(sm):
        raise DataError(f"{place}: sm must be a number, m3/m3")
    if not 0 <= sm <= 1:
        raise DataError(f"{place}: sm {sm:g} is not a soil moisture in m3/m3 (0 to 1); in percent?")
    if not isinstance(at, str):
        raise DataError(f"{place}: at must be an ISO 8601 time")
    when = Refusal(place, np.ones(1, np.int64)).dates([at], "at")[0]
    return paddock, sensor or "", int(when.astype(np.int64)), float(sm)
