"""Readings of sensors in the ground: checked, and kept in the archive before they are used.

Every reading is shown beside the value. Those of the day of a pass also correct it
(:mod:`kgsm_infer.gateway.update.correction`); of these the archive gets an arrival of their own,
``000124-DIGEST-probes.json``, numbered like every other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ...base.errors import DataError, MissingError
from ...base.files import whole
from ...base.schema import Help, Length, Parse, Range, parse_json, read
from ...tables.parsing import CellParser
from ..farm import Paddocks
from ..records import canonical, iso
from ..store.rows import Sensed
from .spool import PROBES, Archived, sync_folder

#: Most readings of one message.
MOST = 10_000


def _time(value: Any) -> int:
    """Return the seconds since 1970 of an ISO 8601 time."""
    if not isinstance(value, str):
        raise ValueError("not text")
    try:
        when = CellParser("probes", np.ones(1, np.int64)).dates([value], "at")[0]
    except DataError as error:
        raise ValueError(str(error)) from None
    return int(when.astype(np.int64))


@dataclass(frozen=True)
class ProbeReading:
    """A reading as it is sent. at: seconds since 1970, sent as ISO 8601.  sm: m3 m-3."""

    paddock: Annotated[str, Length(1, 256)]
    at: Annotated[int, Parse(_time, "an ISO 8601 time")]
    sm: Annotated[float, Range(0, 1), Help("soil moisture in m3/m3; in percent?")]
    sensor: Annotated[str, Length(0, 256)] | None = None


@dataclass(frozen=True)
class ProbeMessage:
    """A message of readings."""

    readings: Annotated[tuple[ProbeReading, ...], Length(1, MOST)]


@dataclass(frozen=True)
class ArchivedReadings(ProbeMessage):
    """Readings as the archive holds them. number: of their arrival."""

    number: int = 0


def readings_of(
    content: Any, paddocks: Paddocks, kind: type[ProbeMessage] = ProbeMessage
) -> list[Sensed]:
    """Return the readings of ``{"readings": [...]}``; DataError names a reading that is wrong."""
    message = read(kind, content, "probes")
    for at, item in enumerate(message.readings):
        if not paddocks.known(item.paddock):
            raise DataError(f"probes: readings[{at}].paddock: no paddock {item.paddock[:64]!r}")
    return [Sensed(item.paddock, item.sensor or "", item.at, item.sm) for item in message.readings]


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
        content = parse_json(item.path.read_bytes())
    except OSError as error:
        raise MissingError(f"{item.path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{item.path}: not the readings it was written with ({error})") from None
    return readings_of(content, Paddocks(), ArchivedReadings)
