"""Find the probe readings that correct stored passes, and mark those already used.

A reading belongs to the passes of its paddock that start on its UTC day
(:mod:`kgsm_infer.tables.passes`). Of each sensor the reading nearest in time counts, so a sensor
that reports all day corrects a pass once. A reading is written into the archive before it is marked
(:mod:`kgsm_infer.gateway.intake.probe_readings`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable

import numpy as np

from ...tables.passes import ONE_PASS_S, pass_starts
from .database import Store
from .failures import explained
from .rows import Observed, Sensed

DAY_S = 86400

#: Of two readings equally near the earlier counts, here as in correction.nearest.
_UNUSED = """
    WITH acquisition AS (
        SELECT DISTINCT paddock, acquired FROM observation WHERE paddock IN (
            SELECT paddock FROM latest
            WHERE EXISTS (SELECT 1 FROM probe WHERE probe.paddock = latest.paddock))
        UNION SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(?)),
    later AS (
        SELECT json_extract(value, '$[0]') AS acquired, json_extract(value, '$[1]') AS start
        FROM json_each(?)),
    pass AS (
        SELECT DISTINCT paddock, coalesce(start, acquired) AS start
        FROM acquisition LEFT JOIN later USING (acquired)),
    counting AS (
        SELECT paddock, sensor, at, sm, min(2 * abs(at - start) + (at > start))
        FROM pass JOIN probe USING (paddock)
        WHERE at BETWEEN start - start % 86400 AND start - start % 86400 + 86399
        GROUP BY paddock, start, sensor)
    SELECT DISTINCT paddock, sensor, at, counting.sm
    FROM counting LEFT JOIN used_probe AS used USING (paddock, sensor, at)
    WHERE used.sm IS NOT counting.sm ORDER BY at, paddock, sensor
"""


def day_of(seconds: int) -> int:
    """Return the beginning of a time's UTC day.

    >>> day_of(86401)
    86400
    """
    return seconds // DAY_S * DAY_S


def starts_of(times: Iterable[int]) -> dict[int, int]:
    """Return the start of the pass of each acquisition time, seconds since 1970.

    >>> starts_of([86405, 86390, 90000])
    {86390: 86390, 86405: 86390, 90000: 90000}
    """
    distinct = np.unique(np.fromiter(times, np.int64))
    starts = pass_starts(distinct.astype("datetime64[s]")).astype(np.int64)
    return dict(zip(distinct.tolist(), starts.tolist(), strict=True))


def unused(store: Store, arriving: Iterable[Observed] = ()) -> list[Sensed]:
    """Return readings that count for a stored or an arriving pass and were not used for it yet."""
    if not store.has_probes():
        return []
    acquisitions = sorted({(row.paddock, row.acquired) for row in arriving})
    starts = starts_of([*store.acquisition_times(), *(at for _, at in acquisitions)])
    later = [pair for pair in starts.items() if pair[0] != pair[1]]
    wanted = (json.dumps(acquisitions), json.dumps(later))
    with explained(store.path):
        return [Sensed(*row) for row in store.db.execute(_UNUSED, wanted)]


def read_used(store: Store, since: int) -> list[Sensed]:
    """Return used readings from a time on."""
    query = "SELECT paddock, sensor, at, sm FROM used_probe WHERE at >= ? ORDER BY at, sensor"
    with explained(store.path):
        return [Sensed(*row) for row in store.db.execute(query, (since,))]


def known_on(store: Store, paddocks: Iterable[str], days: Iterable[int]) -> list[Sensed]:
    """Return all readings of some paddocks on some days, used or not."""
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


def mark_used(
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
    """Return True if a reading may count for a stored acquisition: of its paddock and day."""
    query = "SELECT 1 FROM observation WHERE paddock = ? AND acquired BETWEEN ? AND ? LIMIT 1"
    places = {(reading.paddock, day_of(reading.at)) for reading in readings}
    with explained(store.path):
        return any(
            store.db.execute(query, (paddock, day, day + DAY_S + ONE_PASS_S)).fetchone()
            for paddock, day in places
        )
