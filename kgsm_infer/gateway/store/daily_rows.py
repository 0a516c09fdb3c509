"""Store rain and daily values.

    rain          the rain of each place and local day: the newest file that has the day
    irrigation    the irrigation of each paddock and local day, as rain
    daily         value of each paddock and day up to today, one row per revision, never changed
    outlook       the days after today, replaced at each update
    daily_now     numbers of today that later days do not keep: days until the threshold
    daily_state   today at the last update, and the earliest day that changed since
    daily_outbox  days that ended and are not posted yet
    alert         paddocks below their threshold, and those crossings that were not published yet

Days are days since 1970, local days of the farm. The place '' is the whole farm.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any, NamedTuple

from .database import Store
from .failures import explained


class RainDay(NamedTuple):
    """Rain of a place on a local day.

    rain_mm: None where the file says that it is missing.  issued: local day on which the file
    arrived; before ``day`` for a forecast.  sequence: number of the arrival.  simulated: 1 where
    the file says so.
    """

    place: str
    day: int
    rain_mm: float | None
    issued: int
    sequence: int
    simulated: int = 0


class IrrigationDay(NamedTuple):
    """Irrigation of a paddock on a local day.

    sequence: number of the arrival.  simulated: 1 where the file says so.
    """

    place: str
    day: int
    mm: float
    sequence: int
    simulated: int = 0


@dataclass(frozen=True, slots=True)
class DailyValue:
    """The value of a paddock on a local day, in the unit of ``quantity``.

    value, lower, upper: None where nothing is known.  weight: share of the rain model's variance
    that the passes removed.  pass_age: days since the last pass with a value.  pass_value: of the
    day's passes.  rain_mm: None where missing.  available_percent, refill_mm: farm units, None
    without limits.  threshold: in the unit of the value.  drier_than: share of the paddock's
    passes so far that were wetter, None for fewer than ten.  irrigation_mm: None without any.
    irrigated, irrigated_lower, irrigated_upper: of a day of the outlook with the planned
    irrigation, None without a plan.
    """

    paddock: str
    day: int
    revision: int
    quantity: str
    value: float | None
    lower: float | None
    upper: float | None
    weight: float | None
    pass_age: float | None
    pass_value: float | None
    rain_mm: float | None
    available_percent: float | None
    refill_mm: float | None
    threshold: float | None
    flags: str
    simulated: int
    drier_than: float | None = None
    irrigation_mm: float | None = None
    irrigated: float | None = None
    irrigated_lower: float | None = None
    irrigated_upper: float | None = None

    @property
    def key(self) -> tuple[str, int, int]:
        """Paddock, day and revision."""
        return self.paddock, self.day, self.revision


class DaysLeft(NamedTuple):
    """The numbers of today only. days_left: until the threshold, None if beyond the horizon."""

    paddock: str
    days_left: float | None


class Alert(NamedTuple):
    """A paddock that went below its threshold. unsent: 1 until the crossing is published."""

    paddock: str
    day: int
    value: float
    threshold: float
    unsent: int


class Progress(NamedTuple):
    """today: of the last update, None before it.  due: earliest day that changed since."""

    today: int | None
    due: int | None


#: Rows that are in memory at a time, as objects of Python.
BLOCK_ROWS = 1_000
#: Rows of one transaction.
TRANSACTION_ROWS = 4_000
_COLUMNS = tuple(item.name for item in fields(DailyValue))
_RAIN, _IRRIGATION = ", ".join(RainDay._fields), ", ".join(IrrigationDay._fields)
_DAILY = ", ".join(_COLUMNS)
_row_of = attrgetter(*_COLUMNS)
_CURRENT = (
    f"SELECT {', '.join(f'one.{name}' for name in _COLUMNS)} FROM daily AS one WHERE {{}} "
    "AND revision = (SELECT max(revision) FROM daily AS other WHERE other.paddock = one.paddock "
    "AND other.day = one.day) ORDER BY paddock, day"
)


# -- rain ------------------------------------------------------------------------------------


def rain_since(store: Store, day: int) -> Iterator[list[RainDay]]:
    """Yield the stored rain from a day on, in blocks."""
    query = f"SELECT {_RAIN} FROM rain WHERE day >= ?"
    with explained(store.path):
        cursor = store.db.execute(query, (day,))
        while block := cursor.fetchmany(BLOCK_ROWS):
            yield [RainDay(*row) for row in block]


def rain_of(store: Store, place: str, since: int, until: int) -> dict[int, RainDay]:
    """Return the stored rain of a place by day, from ``since`` to ``until``."""
    query = f"SELECT {_RAIN} FROM rain WHERE place = ? AND day BETWEEN ? AND ?"
    return {row[1]: RainDay(*row) for row in _rows(store, query, place, since, until)}


def has_rain(store: Store) -> bool:
    """Return True if there is rain of any day."""
    return bool(_rows(store, "SELECT 1 FROM rain LIMIT 1"))


def newest_rain_day(store: Store, until: int) -> int | None:
    """Return the newest day up to ``until`` with a measurement, None without one."""
    query = (
        "SELECT day FROM rain INDEXED BY rain_by_day WHERE day <= ? AND rain_mm IS NOT NULL "
        "AND issued >= day ORDER BY day DESC LIMIT 1"
    )
    rows = _rows(store, query, until)
    return rows[0][0] if rows else None


def put_rain(store: Store, days: Sequence[RainDay]) -> None:
    """Store rain of one place where it is not older than the stored, and mark changed days as due.

    Inside a transaction.
    """
    before = _before(store, days)
    newer = [
        one
        for one in days
        if (last := before.get(one.day)) is None or last.sequence <= one.sequence
    ]
    store.db.executemany(f"INSERT OR REPLACE INTO rain ({_RAIN}) VALUES (?, ?, ?, ?, ?, ?)", newer)
    store.mark_due(one.day for one in newer if differs(before.get(one.day), one))


def would_change_rain(store: Store, days: Sequence[RainDay]) -> bool:
    """Return True if rain of one place differs from the stored."""
    before = _before(store, days)
    return any(differs(before.get(one.day), one) for one in days)


def _before(store: Store, days: Sequence[RainDay]) -> dict[int, RainDay]:
    if not days:
        return {}
    every = [one.day for one in days]
    return rain_of(store, days[0].place, min(every), max(every))


def differs(last: RainDay | None, one: RainDay) -> bool:
    """Return True if a day's rain or its origin is another: forecast, measured or simulated."""
    if last is None:
        return True
    forecast = (last.issued < last.day, one.issued < one.day)
    known = (last.rain_mm, last.simulated) == (one.rain_mm, one.simulated)
    return not known or forecast[0] != forecast[1]


# -- irrigation --------------------------------------------------------------------------------


def irrigation_since(store: Store, day: int) -> list[IrrigationDay]:
    """Return the stored irrigation from a day on."""
    query = f"SELECT {_IRRIGATION} FROM irrigation WHERE day >= ?"
    return [IrrigationDay(*row) for row in _rows(store, query, day)]


def put_irrigation(store: Store, days: Sequence[IrrigationDay]) -> None:
    """Store irrigation where it is not older than the stored, and mark changed days as due.

    Inside a transaction.
    """
    before = _irrigation_before(store, days)
    newer = [
        one
        for one in days
        if (last := before.get((one.place, one.day))) is None or last.sequence <= one.sequence
    ]
    store.db.executemany(
        f"INSERT OR REPLACE INTO irrigation ({_IRRIGATION}) VALUES (?, ?, ?, ?, ?)", newer
    )
    changed = (one for one in newer if _is_other(before.get((one.place, one.day)), one))
    store.mark_due(one.day for one in changed)


def would_change_irrigation(store: Store, days: Sequence[IrrigationDay]) -> bool:
    """Return True if irrigation differs from the stored."""
    before = _irrigation_before(store, days)
    return any(_is_other(before.get((one.place, one.day)), one) for one in days)


def _irrigation_before(
    store: Store, days: Sequence[IrrigationDay]
) -> dict[tuple[str, int], IrrigationDay]:
    if not days:
        return {}
    return {(one.place, one.day): one for one in irrigation_since(store, min(d.day for d in days))}


def _is_other(last: IrrigationDay | None, one: IrrigationDay) -> bool:
    """Return True if the amount is another, or water is simulated that was not, or was."""
    before = (0.0, 0) if last is None else (last.mm, last.simulated)
    return one.mm != before[0] or (one.mm > 0 and one.simulated != before[1])


# -- the state of the updates ------------------------------------------------------------------


def progress(store: Store) -> Progress:
    """Return how far the daily values are."""
    return Progress(*_rows(store, "SELECT today, due FROM daily_state")[0])


def put_progress(store: Store, today: int) -> None:
    """Note an update that left nothing due, inside its transaction."""
    store.db.execute("UPDATE daily_state SET today = ?, due = NULL", (today,))


# -- values ------------------------------------------------------------------------------------


def pass_rows(store: Store, since: int, quantity: str) -> Iterator[list[tuple[Any, ...]]]:
    """Yield the newest revision of each acquisition from ``since`` (seconds since 1970) on.

    Rows are (paddock, acquired, sm, sm_lower, sm_upper, flags, simulated) of one quantity, in
    blocks, ordered by time.
    """
    query = (
        "SELECT paddock, acquired, sm, sm_lower, sm_upper, flags, simulated, max(revision) "
        "FROM value INDEXED BY value_by_time WHERE acquired >= ? AND quantity = ? "
        "GROUP BY acquired, paddock, orbit"
    )
    with explained(store.path):
        cursor = store.db.execute(query, (since, quantity))
        while block := cursor.fetchmany(BLOCK_ROWS):
            yield block


def put_daily(store: Store, values: Iterable[DailyValue]) -> None:
    """Insert values, inside a transaction."""
    marks = ", ".join("?" * len(_COLUMNS))
    store.db.executemany(f"INSERT INTO daily VALUES ({marks})", map(_row_of, values))


def put_outlook(store: Store, values: Iterable[DailyValue], now: Iterable[DaysLeft]) -> None:
    """Replace the outlook and the numbers of today, inside a transaction."""
    marks = ", ".join("?" * len(_COLUMNS))
    store.db.execute("DELETE FROM outlook")
    store.db.executemany(f"INSERT INTO outlook VALUES ({marks})", map(_row_of, values))
    store.db.execute("DELETE FROM daily_now")
    store.db.executemany("INSERT INTO daily_now VALUES (?, ?)", now)


def daily_between(store: Store, since: int, until: int) -> dict[tuple[str, int], DailyValue]:
    """Return the newest revision of each paddock and day from ``since`` to ``until``."""
    query = _CURRENT.format("day BETWEEN ? AND ?")
    return {(row[0], row[1]): DailyValue(*row) for row in _rows(store, query, since, until)}


def daily_of(
    store: Store, paddock: str, since: int, limit: int, revisions: bool = False
) -> list[DailyValue]:
    """Return the newest ``limit`` values of a paddock up to today, oldest first."""
    today = progress(store).today
    if today is None:
        return []
    newest = (
        "AND revision = (SELECT max(revision) FROM daily AS other "
        "WHERE other.paddock = daily.paddock AND other.day = daily.day) "
    )
    only = "" if revisions else newest
    query = (
        f"SELECT {_DAILY} FROM daily WHERE paddock = ? AND day BETWEEN ? AND ? {only}"
        "ORDER BY day DESC, revision DESC LIMIT ?"
    )
    return [DailyValue(*row) for row in _rows(store, query, paddock, since, today, limit)][::-1]


def outlook_of(store: Store, paddocks: Iterable[str]) -> list[DailyValue]:
    """Return the days after today of paddocks, by paddock and day."""
    query = (
        f"SELECT {_DAILY} FROM outlook WHERE paddock IN (SELECT value FROM json_each(?)) "
        "ORDER BY paddock, day"
    )
    return [DailyValue(*row) for row in _rows(store, query, json.dumps(sorted(paddocks)))]


def outlook_by_paddock(store: Store) -> dict[str, list[DailyValue]]:
    """Return the days after today of all paddocks, in order."""
    found: dict[str, list[DailyValue]] = {}
    for row in _rows(store, f"SELECT {_DAILY} FROM outlook ORDER BY paddock, day"):
        found.setdefault(row[0], []).append(DailyValue(*row))
    return found


def days_left(store: Store) -> Mapping[str, float | None]:
    """Return the days until the threshold of each paddock that has a value today."""
    return dict(_rows(store, "SELECT paddock, days_left FROM daily_now"))


def drop_old_days(store: Store, daily_before: int, rain_before: int) -> int:
    """Delete daily values and rain from before days, inside a transaction; returns how many."""
    for table in ("rain", "irrigation"):
        store.db.execute(f"DELETE FROM {table} WHERE day < ?", (rain_before,))
    store.db.execute("DELETE FROM daily_outbox WHERE day < ?", (daily_before,))
    return store.db.execute("DELETE FROM daily WHERE day < ?", (daily_before,)).rowcount


# -- days to post ------------------------------------------------------------------------------


def queue_ended(store: Store, paddocks: Iterable[str], since: int, until: int) -> None:
    """Queue the newest revision of days from ``since`` to ``until``, inside a transaction."""
    store.db.execute(
        "INSERT INTO daily_outbox (paddock, day, revision) SELECT paddock, day, max(revision) "
        "FROM daily WHERE paddock IN (SELECT value FROM json_each(?)) AND day BETWEEN ? AND ? "
        "GROUP BY paddock, day ORDER BY day, paddock",
        (json.dumps(sorted(paddocks)), since, until),
    )


def unposted(store: Store, limit: int, after: int = 0) -> list[tuple[int, int, DailyValue]]:
    """Return (id, times tried, value) of queued days, oldest first, of ids beyond ``after``."""
    columns = ", ".join(f"daily.{name}" for name in _COLUMNS)
    query = (
        f"SELECT id, tried, {columns} FROM daily_outbox JOIN daily USING (paddock, day, revision) "
        "WHERE id > ? ORDER BY id LIMIT ?"
    )
    return [(row[0], row[1], DailyValue(*row[2:])) for row in _rows(store, query, after, limit)]


def mark_day_tried(store: Store, entry: int) -> None:
    """Note that a queued day is about to be posted."""
    with store.transaction():
        store.db.execute("UPDATE daily_outbox SET tried = tried + 1 WHERE id = ?", (entry,))


def mark_day_posted(store: Store, entry: int) -> None:
    """Remove a day from the queue."""
    with store.transaction():
        store.db.execute("DELETE FROM daily_outbox WHERE id = ?", (entry,))


# -- thresholds --------------------------------------------------------------------------------


def alerts(store: Store, unsent: bool = False) -> list[Alert]:
    """Return the paddocks below their threshold; unsent: crossings that wait to be published."""
    query = "SELECT paddock, day, value, threshold, unsent FROM alert"
    return [Alert(*row) for row in _rows(store, query + " WHERE unsent" * unsent)]


def put_alerts(store: Store, fresh: Iterable[Alert], over: Iterable[str]) -> None:
    """Add paddocks that went below their threshold, and remove those above it again."""
    store.db.executemany("DELETE FROM alert WHERE paddock = ?", [(name,) for name in over])
    store.db.executemany("INSERT OR REPLACE INTO alert VALUES (?, ?, ?, ?, ?)", fresh)


def mark_alert_sent(store: Store, paddocks: Iterable[str]) -> None:
    """Note that crossings were published."""
    with store.transaction():
        store.db.executemany(
            "UPDATE alert SET unsent = 0 WHERE paddock = ?", [(name,) for name in paddocks]
        )


def _rows(store: Store, query: str, *values: Any) -> list[tuple[Any, ...]]:
    with explained(store.path):
        return store.db.execute(query, values).fetchall()
