"""Readings of sensors in the ground: checked, and kept in the archive before they are used.

Every reading is shown beside the value. Those of the day of a pass also correct it
(:mod:`kgsm_infer.gateway.update.correction`); of these the archive gets an arrival of their own,
``000124-DIGEST-probes.json``, numbered like every other.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...base.errors import DataError, MissingError
from ...base.files import whole
from ...tables.parsing import Refusal
from ..farm import Paddocks
from ..records import canonical, iso
from ..store.rows import Sensed
from .spool import PROBES, Archived, sync_folder

#: Most readings of one message.
MOST = 10_000


def readings_of(content: Any, paddocks: Paddocks) -> list[Sensed]:
    """The readings of ``{"readings": [...]}``.

    DataError names the reading that cannot be one.
    """
    items = content.get("readings") if isinstance(content, dict) else None
    if not isinstance(items, list) or not 1 <= len(items) <= MOST:
        raise DataError(f'probes: send {{"readings": [1 to {MOST} of them]}}')
    return [_reading(item, f"probes: reading {at}", paddocks) for at, item in enumerate(items, 1)]


def keep(readings: Iterable[Sensed], number: int, archive: Path) -> Archived:
    """Write readings into the archive under a number, durably, before they are used.

    The number stands in the file too: the same readings may come again, after others.
    """
    items = [{**reading._asdict(), "at": iso(reading.at)} for reading in readings]
    content = canonical({"number": number, "readings": items})
    digest = hashlib.sha256(content).hexdigest()
    target = archive / f"{number:06d}-{digest}-{PROBES}"
    with whole(target, "wb") as file:
        file.write(content)
    sync_folder(archive)
    return Archived(target, number, digest, PROBES)


def kept(item: Archived) -> list[Sensed]:
    """The readings of an arrival; DataError where the file is not what was written."""
    try:
        content = json.loads(item.path.read_bytes())
    except OSError as error:
        raise MissingError(f"{item.path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{item.path}: not the readings it was written with ({error})") from None
    return readings_of(content, Paddocks())


def _reading(item: Any, place: str, paddocks: Paddocks) -> Sensed:
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
    return Sensed(paddock, sensor or "", int(when.astype(np.int64)), float(sm))
