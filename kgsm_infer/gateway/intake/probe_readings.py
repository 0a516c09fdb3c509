"""Check readings of soil moisture probes, and archive those that correct a pass.

The newest reading of a paddock is part of its present state. Readings of the day of a pass also
correct it (:mod:`kgsm_infer.gateway.update.correction`); these are archived as an arrival of their
own, ``000124-DIGEST.probes``, before they are used.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ...base.errors import DataError, MissingError
from ...base.schema import Help, Length, Parse, Range, parse_json, read
from ...tables.dates import is_future, utc_seconds
from ..farm import Paddocks
from ..keys import paddock_key
from ..records import canonical, iso
from ..store.rows import Sensed
from .archive import About, Archived, write_to_archive

#: Most readings of one message.
MOST = 10_000


def _time(value: Any) -> int:
    """Return the seconds since 1970 of an ISO 8601 time."""
    seconds = utc_seconds(value.strip()) if isinstance(value, str) else None
    if seconds is None:
        raise ValueError("not an ISO 8601 time")
    return seconds


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


def readings_of(content: Any, paddocks: Paddocks) -> list[Sensed]:
    """Return the readings of ``{"readings": [...]}``; DataError names a reading that is wrong.

    Readings of unknown paddocks and readings later than tomorrow are refused.
    """
    found = _sensed(read(ProbeMessage, content, "probes"))
    future = is_future(np.asarray([reading.at for reading in found]).astype("datetime64[s]"))
    for at, reading in enumerate(found):
        if not paddocks.known(reading.paddock):
            raise DataError(f"probes: readings[{at}].paddock: no paddock {reading.paddock[:64]!r}")
        if future[at]:
            raise DataError(f"probes: readings[{at}].at: {iso(reading.at)} is later than tomorrow")
    return found


def archive_readings(
    readings: Iterable[Sensed], number: int, archive: Path, clock_s: int | None = None
) -> Archived:
    """Write readings into the archive under a number, durably, before they are used.

    The number is part of the content, so that equal readings sent again are another arrival.
    """
    items = [{**reading._asdict(), "at": iso(reading.at)} for reading in readings]
    content = canonical({"number": number, "readings": items})
    return write_to_archive(
        content, archive, number, About("probes.json", "probes", clock_s=clock_s)
    )


def read_archived_readings(item: Archived) -> list[Sensed]:
    """Read the readings of an arrival; DataError if the file was changed since."""
    try:
        content = parse_json(item.path.read_bytes())
    except OSError as error:
        raise MissingError(f"{item.path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise DataError(f"{item.path}: not readings as they were archived ({error})") from None
    return _sensed(read(ArchivedReadings, content, "probes"))


def _sensed(message: ProbeMessage) -> list[Sensed]:
    return [
        Sensed(paddock_key(item.paddock), item.sensor or "", item.at, item.sm)
        for item in message.readings
    ]
