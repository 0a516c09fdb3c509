"""Find the probe readings that correct stored passes, and mark those already used.

A reading belongs to the acquisitions of its paddock on its UTC day. Of each sensor the reading
nearest in time counts, so a sensor that reports all day corrects a pass once. A reading is written
into the archive before it is marked (:mod:`kgsm_infer.gateway.intake.probe_readings`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from .database import Store
from .failures import explained
from .rows import Observed, Sensed

DAY_S = 86400

#: Of two readings equally near the earlier counts, here as in correction.nearest.
_UNUSED = """
    WITH pass AS (
        SELECT DISTINCT paddock, acquired FROM observation WHERE paddock IN (
            SELECT paddock FROM latest
            WHERE EXISTS (SELECT 1 FROM probe WHERE probe.paddock = latest.paddock))
        UNION SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)),
    counting AS (
        SELECT paddock, sensor, at, sm, min(2 * abs(at - acquired) + (at > acquired))
        FROM pass JOIN probe USING (paddock)
        WHERE at BETWEEN acquired - acquired % 86400 AND acquired - acquired % 86400 + 86399
        GROUP BY paddock, acquired, sensor)
    SELECT DISTINCT paddock, sensor, at, counting.sm
    FROM counting LEFT JOIN used_probe AS used USING (paddock, sensor, at)
    WHERE used.sm IS NOT counting.sm ORDER BY at, paddock, sensor
"""


def day_of(seconds: int) -> int:
    """The beginning of a time's UTC day.

    >>> day_of(86401)
    86400
    """
    return seconds // DAY_S * DAY_S


def unused(store: Store, arriving: Iterable[Observed] = ()) -> list[Sensed]:
    """Readings that count for a stored or an arriving acquisition and were not used for it yet."""
    passes = sorted({(row.paddock, row.acquired) for row in arriving})
    with explained(store.path):
        return [Sensed(*row) for row in store.db.execute(_UNUSED, (json.dumps(passes),))]


def used_since(store: Store, since: int) -> list[Sensed]:
    """Used readings from a time on."""
    query = "SELECT paddock, sensor, at, sm FROM used_probe WHERE at >= ? ORDER BY at, sensor"
    with explained(store.path):
        return [Sensed(*row) for row in store.db.execute(query, (since,))]


def known_on(store: Store, paddocks: Iterable[str], days: Iterable[int]) -> list[Sensed]:
    """All readings of some paddocks on some days, used or not."""
    query = (
        "SELECT paddock, sensor, at, sm FROM json_each(?) AS name JOIN probe ON "
        "probe.paddock = name.value WHERE at BETWEEN ? AND ? ORDER BY at, sensor"
    )
    names = json.dumps(sorted(set(paddocks)))
    with explained(store.path):
        return [
            Sensed(*row)
            for day in sorted(set(days))
            for row in store.db.execute(query, (names, day, day + DAY_S - 1))
        ]


def put_used(
    store: Store, readings: Iterable[Sensed], sequence: int, *, again: bool = False
) -> None:
    """Mark readings as used, inside a transaction.

    again: they come from the archive, and a restored database need not have them.
    """
    readings = list(readings)
    store.db.executemany(
        "INSERT INTO used_probe VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
        "SET sm = excluded.sm, sequence = excluded.sequence WHERE excluded.sequence > sequence",
        [(*reading, sequence) for reading in readings],
    )
    if again:
        store.db.executemany("INSERT OR REPLACE INTO probe VALUES (?, ?, ?, ?)", readings)


def bears(store: Store, readings: Iterable[Sensed]) -> bool:
    """Return True if a reading is of the paddock and day of a stored acquisition."""
    query = "SELECT 1 FROM observation WHERE paddock = ? AND acquired BETWEEN ? AND ? LIMIT 1"
    places = {(reading.paddock, day_of(reading.at)) for reading in readings}
    with explained(store.path):
        return any(
            store.db.execute(query, (paddock, day, day + DAY_S - 1)).fetchone()
            for paddock, day in places
        )
