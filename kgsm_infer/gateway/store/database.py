"""Store inputs, values and messages to publish in one SQLite file.

A transaction is on the disk when it returns (WAL, synchronous FULL), so nothing is published that
a power cut could take back. Each thread opens its own :class:`Store`. Writers share a lock file,
which a restore holds alone (:mod:`~kgsm_infer.gateway.store.lock`).

    arrival       the catalogue: every processed file, by sequence number and digest
    observation   the inputs of the newest acquisitions of each site (JSON; Infinity: an outlier)
    base          the folded past of older acquisitions: usual, driest, wettest, count
    removed       acquisitions that were removed by request
    value         soil moisture, one row per (paddock, acquisition, revision), never changed
    latest        the present state of each paddock: its newest acquisition's highest revision
    outbox        messages that are not published yet, per publisher
    probe         readings of soil moisture probes
    used_probe    of those, the ones that correct the pass of their day
    rain, daily, outlook, …   :mod:`~kgsm_infer.gateway.store.daily_rows`
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Any

from ...base.errors import MissingError
from ...context.history import PlaceState
from .failures import explained
from .lock import shared
from .migrations import MIGRATIONS
from .rows import NewestReading, Observed, Sensed, Value

#: A value as a row; dataclasses.astuple copies deeply, a tenth of an arrival's time.
_row_of_value = attrgetter(*(item.name for item in fields(Value)))
_row_of_state = attrgetter(*(item.name for item in fields(PlaceState)))
_OBSERVED = "paddock, acquired, orbit, site, means, numbers, why, sequence"
_place_of_row = attrgetter("paddock", "acquired", "orbit", "site")
_VALUE = ", ".join(item.name for item in fields(Value))
_PREFIXED = ", ".join(f"value.{item.name}" for item in fields(Value))


class Store:
    """A connection to the database of one thread; use as a context manager."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = path
        self._lock = None if read_only else shared(path)
        try:
            with explained(path):
                self.db = sqlite3.connect(
                    f"{path.resolve().as_uri()}?mode={'ro' if read_only else 'rwc'}",
                    uri=True,
                    isolation_level=None,
                )
                self.db.execute("PRAGMA busy_timeout = 20000")
                if read_only and self._schema() < len(MIGRATIONS):
                    Store(path).close()  # the first start after an update of kgsm
                if not read_only:
                    self.db.execute("PRAGMA journal_mode = WAL")
                    self.db.execute("PRAGMA synchronous = FULL")
                    self.db.execute("PRAGMA cache_size = -16000")
                    self._migrate()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file and release its lock."""
        with suppress(AttributeError):  # it never opened
            self.db.close()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _schema(self) -> int:
        return int(self.db.execute("PRAGMA user_version").fetchone()[0])

    def _migrate(self) -> None:
        version = self._schema()
        if version > len(MIGRATIONS):
            raise MissingError(
                f"{self.path}: made by a newer kgsm (schema {version}, this one knows "
                f"{len(MIGRATIONS)}); update kgsm, or move the file away"
            )
        for number in range(version, len(MIGRATIONS)):
            # executescript would commit by itself; each version is one transaction
            self.db.execute("BEGIN IMMEDIATE")
            if self._schema() != number:
                self.db.execute("ROLLBACK")  # another thread was first
                continue
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    self.db.execute(statement)
            self.db.execute(f"PRAGMA user_version = {number + 1}")
            self.db.execute("COMMIT")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all or nothing; what is committed is on the disk when the block ends."""
        with explained(self.path):
            self.db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.db.execute("COMMIT")
            except BaseException:
                if self.db.in_transaction:
                    self.db.execute("ROLLBACK")
                raise

    def _all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with explained(self.path):
            return self.db.execute(query, values).fetchall()

    # -- the catalogue ---------------------------------------------------------------------

    def sequences_of(self, digest: str) -> list[int]:
        """Return the numbers under which a file arrived, by its sha256, oldest first."""
        query = "SELECT sequence FROM arrival WHERE digest = ? ORDER BY sequence"
        return [row[0] for row in self._all(query, digest)]

    def has_arrival(self, sequence: int) -> bool:
        """Return True if an arrival is stored."""
        return bool(self._all("SELECT 1 FROM arrival WHERE sequence = ?", sequence))

    def sequences(self) -> set[int]:
        """Return the numbers of the stored arrivals."""
        return {row[0] for row in self._all("SELECT sequence FROM arrival")}

    def last_sequence(self) -> int:
        """Return the highest number of a stored arrival, 0 without one."""
        return int(self._all("SELECT coalesce(max(sequence), 0) FROM arrival")[0][0])

    def put_arrival(
        self, sequence: int, digest: str, name: str, kind: str, times: Sequence[int]
    ) -> None:
        self.db.execute(
            "INSERT OR REPLACE INTO arrival VALUES (?, ?, ?, ?, ?, ?, ?)",
            (
                *(sequence, digest, name, kind, len(times)),
                *(min(times, default=None), max(times, default=None)),
            ),
        )

    def arrivals(self, limit: int = 50) -> list[dict[str, Any]]:
        """List the newest files that were read, newest first."""
        keys = ("sequence", "digest", "name", "kind", "rows", "first", "last")
        rows = self._all(
            f"SELECT {', '.join(keys)} FROM arrival ORDER BY sequence DESC LIMIT ?", limit
        )
        return [dict(zip(keys, row, strict=True)) for row in rows]

    # -- inputs ----------------------------------------------------------------------------

    def observations(self, paddocks: Iterable[str] | None = None) -> list[Observed]:
        """Return stored inputs in order of paddock and time; of all paddocks, or of some."""
        order = "ORDER BY paddock, acquired, orbit, site"
        if paddocks is None:
            return _observed(self._all(f"SELECT {_OBSERVED} FROM observation {order}"))
        query = (
            f"SELECT {_OBSERVED} FROM observation "
            f"WHERE paddock IN (SELECT value FROM json_each(?)) {order}"
        )
        return _observed(self._all(query, json.dumps(sorted(paddocks))))

    def observations_of(self, ranges: Iterable[tuple[str, int, int]]) -> list[Observed]:
        """Return the stored inputs of (paddock, since, until), in order; ``until`` is excluded."""
        query = (
            f"SELECT {_OBSERVED} FROM (SELECT json_extract(value, '$[0]') AS name, "
            "json_extract(value, '$[1]') AS since, json_extract(value, '$[2]') AS until "
            "FROM json_each(?)) CROSS JOIN observation "
            "ON paddock = name AND acquired >= since AND acquired < until"
        )
        found = _observed(self._all(query, json.dumps(sorted(ranges))))
        found.sort(key=_place_of_row)
        return found

    def paddocks(self) -> list[str]:
        """Return the paddocks with stored inputs."""
        query = (
            "WITH RECURSIVE found(name) AS (SELECT min(paddock) FROM observation UNION ALL "
            "SELECT (SELECT min(paddock) FROM observation WHERE paddock > name) FROM found "
            "WHERE name IS NOT NULL) SELECT name FROM found WHERE name IS NOT NULL"
        )
        return [row[0] for row in self._all(query)]

    def acquisition_before(self, paddocks: Iterable[str], count: int) -> dict[str, tuple[int, str]]:
        """Return (acquired, orbit) of the newest acquisition but ``count`` of each paddock.

        Paddocks with inputs of no more than ``count`` acquisitions are left out.
        """
        query = (
            "SELECT value, (SELECT acquired || ' ' || orbit FROM observation "
            "WHERE paddock = value GROUP BY acquired, orbit "
            "ORDER BY acquired DESC, orbit DESC LIMIT 1 OFFSET ?) FROM json_each(?)"
        )
        rows = self._all(query, count, json.dumps(sorted(paddocks)))
        found = {name: text.partition(" ") for name, text in rows if text is not None}
        return {name: (int(acquired), orbit) for name, (acquired, _, orbit) in found.items()}

    def acquisitions_of(self, paddocks: Iterable[str]) -> dict[str, list[tuple[int, str]]]:
        """Return (acquired, orbit) of all stored inputs of each paddock, in order of time."""
        found: dict[str, list[tuple[int, str]]] = {name: [] for name in paddocks}
        query = (
            "SELECT DISTINCT paddock, acquired, orbit FROM json_each(?) CROSS JOIN observation "
            "ON paddock = value ORDER BY paddock, acquired, orbit"
        )
        for name, acquired, orbit in self._all(query, json.dumps(sorted(found))) if found else ():
            found[name].append((acquired, orbit))
        return found

    def has_older(self, paddock: str, site: str, before: int) -> bool:
        """Return True if a site has stored inputs from before a time."""
        query = "SELECT 1 FROM observation WHERE paddock = ? AND acquired < ? AND site = ? LIMIT 1"
        return bool(self._all(query, paddock, before, site))

    def put_observations(self, observed: Iterable[Observed], sequence: int = 0) -> None:
        """Insert or replace inputs that came with the arrival ``sequence``."""
        self.db.executemany(
            "INSERT OR REPLACE INTO observation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    *(row.paddock, row.acquired, row.orbit, row.site, int(row.means)),
                    json.dumps(row.numbers, sort_keys=True),
                    row.why,
                    sequence,
                )
                for row in observed
            ),
        )

    def drop_acquisitions(self, keys: Iterable[tuple[str, int, str]]) -> None:
        """Delete the inputs of acquisitions (paddock, acquired, orbit)."""
        self.db.executemany(
            "DELETE FROM observation WHERE paddock = ? AND acquired = ? AND orbit = ?", keys
        )

    # -- removed acquisitions --------------------------------------------------------------

    def keys_of(self, paddock: str, since: int, until: int) -> list[tuple[str, int, str]]:
        """Return the acquisitions of a paddock with a value, from ``since`` to before ``until``."""
        query = (
            "SELECT DISTINCT paddock, acquired, orbit FROM value "
            "WHERE paddock = ? AND acquired >= ? AND acquired < ?"
        )
        return [(row[0], row[1], row[2]) for row in self._all(query, paddock, since, until)]

    def remove(self, keys: Sequence[tuple[str, int, str]], sequence: int) -> None:
        """Delete acquisitions with values and messages; earlier arrivals cannot add them again."""
        self.mark_due(_first_local_day(key[1]) for key in keys)
        for table in ("observation", "value", "outbox"):
            self.db.executemany(
                f"DELETE FROM {table} WHERE paddock = ? AND acquired = ? AND orbit = ?", keys
            )
        self.db.executemany(
            "INSERT OR REPLACE INTO removed VALUES (?, ?, ?, ?)",
            [(*key, sequence) for key in keys],
        )
        names = sorted({key[0] for key in keys})
        self.db.executemany("DELETE FROM latest WHERE paddock = ?", [(name,) for name in names])
        self.db.executemany(
            "INSERT INTO latest SELECT paddock, acquired, orbit, revision FROM value "
            "WHERE paddock = ? ORDER BY acquired DESC, orbit DESC, revision DESC LIMIT 1",
            [(name,) for name in names],
        )

    def removed(self, paddocks: Iterable[str]) -> dict[tuple[str, int, str], int]:
        """Return removed acquisitions of paddocks with the number of their removal."""
        query = (
            "SELECT paddock, acquired, orbit, sequence FROM removed "
            "WHERE paddock IN (SELECT value FROM json_each(?))"
        )
        rows = self._all(query, json.dumps(sorted(paddocks)))
        return {(row[0], row[1], row[2]): row[3] for row in rows}

    def queue_latest(self, paddocks: Iterable[str], sinks: Sequence[str]) -> None:
        """Queue the present states of paddocks to be published."""
        self.db.executemany(
            "INSERT INTO outbox (sink, paddock, acquired, orbit, revision) "
            "SELECT ?, paddock, acquired, orbit, revision FROM latest WHERE paddock = ?",
            [(sink, name) for name in paddocks for sink in sinks],
        )

    # -- the past of pruned acquisitions ---------------------------------------------------

    def bases(
        self, paddocks: Iterable[str] | None = None
    ) -> dict[tuple[str, str, str, str], PlaceState]:
        """Return (paddock, orbit, site, column) -> what the pruned acquisitions left."""
        numbers = ", ".join(item.name for item in fields(PlaceState))
        some = "" if paddocks is None else "WHERE paddock IN (SELECT value FROM json_each(?))"
        wanted = [] if paddocks is None else [json.dumps(sorted(paddocks))]
        query = f"SELECT paddock, orbit, site, column, {numbers} FROM base {some}"
        rows = self._all(query, *wanted)
        return {(row[0], row[1], row[2], row[3]): PlaceState(*row[4:]) for row in rows}

    def put_bases(self, bases: Mapping[tuple[str, str, str, str], PlaceState]) -> None:
        marks = ", ".join("?" * (4 + len(fields(PlaceState))))
        self.db.executemany(
            f"INSERT OR REPLACE INTO base VALUES ({marks})",
            [(*key, *_row_of_state(base)) for key, base in bases.items()],
        )

    def mark_due(self, days: Iterable[int]) -> None:
        """Mark daily values as due from the first of these days on, inside a transaction."""
        day = min(days, default=None)
        if day is not None:
            self.db.execute("UPDATE daily_state SET due = min(coalesce(due, ?), ?)", (day, day))

    # -- what came out ---------------------------------------------------------------------

    def put_values(self, values: Sequence[Value], sinks: Sequence[str]) -> None:
        """Insert values, move the present state where one is newer, and queue their messages.

        Daily values from their day on are marked as due.
        """
        self.mark_due(_first_local_day(value.acquired) for value in values)
        marks = ", ".join("?" * len(fields(Value)))
        self.db.executemany(f"INSERT INTO value VALUES ({marks})", map(_row_of_value, values))
        self.db.executemany(
            "INSERT INTO latest VALUES (?, ?, ?, ?) ON CONFLICT (paddock) DO UPDATE SET "
            "acquired = excluded.acquired, orbit = excluded.orbit, revision = excluded.revision "
            "WHERE (excluded.acquired, excluded.orbit, excluded.revision) "
            "> (acquired, orbit, revision)",
            [value.key for value in values],
        )
        self.db.executemany(
            "INSERT INTO outbox (sink, paddock, acquired, orbit, revision) VALUES (?, ?, ?, ?, ?)",
            [(sink, *value.key) for value in values for sink in sinks],
        )

    def current(
        self, since: int = -(2**62), until: int = 2**62
    ) -> dict[tuple[str, int, str], Value]:
        """Return the highest revision of every acquisition, by (paddock, acquired, orbit).

        since, until: of the acquisitions, seconds since 1970; ``until`` is excluded.
        """
        rows = self._all(
            f"SELECT {_VALUE} FROM value WHERE acquired >= ? AND acquired < ? "
            "ORDER BY paddock, acquired, orbit, revision",
            since,
            until,
        )
        return {(row[0], row[1], row[2]): Value(*row) for row in rows}

    def values_of(self, keys: Iterable[tuple[str, int, str]]) -> dict[tuple[str, int, str], Value]:
        """Return the highest revision of some acquisitions; those without a value are left out."""
        rows = self._all(
            f"SELECT {_PREFIXED} FROM json_each(?) AS asked CROSS JOIN value ON "
            "value.paddock = json_extract(asked.value, '$[0]') "
            "AND value.acquired = json_extract(asked.value, '$[1]') "
            "AND value.orbit = json_extract(asked.value, '$[2]') ORDER BY value.revision",
            json.dumps(sorted(set(keys))),
        )
        return {(row[0], row[1], row[2]): Value(*row) for row in rows}

    def acquisition_times(self) -> list[int]:
        """Return the distinct times of all acquisitions with a value, ascending."""
        rows = self._all(
            "WITH RECURSIVE pass(at) AS (SELECT min(acquired) FROM value UNION ALL "
            "SELECT (SELECT min(acquired) FROM value WHERE acquired > at) FROM pass "
            "WHERE at IS NOT NULL) SELECT at FROM pass WHERE at IS NOT NULL"
        )
        return [row[0] for row in rows]

    def newest_value_time(self) -> int:
        """Return the time of the newest acquisition with a value; long ago without one."""
        return int(self._all("SELECT coalesce(max(acquired), ?) FROM value", -(2**62))[0][0])

    def newest_passes_time(self) -> int | None:
        """Return the median time of the newest 9 days with a pass, None without one.

        A pass with a wrong date moves it by no more than one pass.
        """
        rows = self._all(
            "WITH RECURSIVE pass(at, n) AS (SELECT max(acquired), 1 FROM value UNION ALL "
            "SELECT (SELECT max(acquired) FROM value WHERE acquired < at - at % 86400), n + 1 "
            "FROM pass WHERE at IS NOT NULL AND n < 9) "
            "SELECT at FROM pass WHERE at IS NOT NULL ORDER BY at"
        )
        return rows[(len(rows) - 1) // 2][0] if rows else None

    def has_part(self, sequence: int) -> bool:
        """Return True if inputs of an arrival are stored."""
        return bool(self._all("SELECT 1 FROM observation WHERE sequence = ? LIMIT 1", sequence))

    def checkpoint(self) -> None:
        """Copy the write-ahead log into the database."""
        with explained(self.path):
            self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def shrink(self) -> None:
        """Free the memory of cached pages."""
        with explained(self.path):
            self.db.execute("PRAGMA shrink_memory")

    def latest(self) -> list[Value]:
        """Return the present state of every paddock that has one, by paddock."""
        rows = self._all(
            f"SELECT {_PREFIXED} FROM latest JOIN value USING (paddock, acquired, orbit, revision) "
            "ORDER BY paddock"
        )
        return [Value(*row) for row in rows]

    def latest_of(self, paddock: str) -> Value | None:
        rows = self._all(
            f"SELECT {_PREFIXED} FROM latest JOIN value USING (paddock, acquired, orbit, revision) "
            "WHERE latest.paddock = ?",
            paddock,
        )
        return Value(*rows[0]) if rows else None

    def series(
        self, paddock: str, *, since: int = -(2**62), revisions: bool = False, limit: int = 10_000
    ) -> list[Value]:
        """Return a paddock's newest ``limit`` values, oldest first; revisions: earlier ones too."""
        rows = self._all(
            f"SELECT {_VALUE} FROM value WHERE paddock = ? AND acquired >= ? "
            "ORDER BY acquired DESC, orbit DESC, revision DESC LIMIT ?",
            paddock,
            since,
            limit,
        )
        found, seen = [], set()
        for row in rows:
            if revisions or (row[1], row[2]) not in seen:
                seen.add((row[1], row[2]))
                found.append(Value(*row))
        return found[::-1]

    def newest_numbers(self, paddock: str, limit: int) -> list[Value]:
        """Return the newest acquisitions of a paddock that have a number, newest first.

        An acquisition counts by its highest revision.
        """
        rows = self._all(
            f"SELECT {_VALUE} FROM value AS own WHERE paddock = ? AND sm IS NOT NULL "
            "AND NOT EXISTS (SELECT 1 FROM value AS later WHERE later.paddock = own.paddock "
            "AND later.acquired = own.acquired AND later.orbit = own.orbit "
            "AND later.revision > own.revision) ORDER BY acquired DESC, orbit DESC LIMIT ?",
            paddock,
            limit,
        )
        return [Value(*row) for row in rows]

    def value(self, key: tuple[str, int, str, int]) -> Value | None:
        rows = self._all(
            f"SELECT {_VALUE} FROM value "
            "WHERE paddock = ? AND acquired = ? AND orbit = ? AND revision = ?",
            *key,
        )
        return Value(*rows[0]) if rows else None

    def models_without_quantity(self) -> list[str]:
        """Return the models of values that an older kgsm stored without a quantity."""
        return [row[0] for row in self._all("SELECT DISTINCT model FROM value WHERE quantity = ''")]

    def set_quantities(self, names: Mapping[str, str]) -> None:
        """Name the quantity of values that have none. names: of the quantity, by model."""
        with self.transaction():
            self.db.executemany(
                "UPDATE value SET quantity = ? WHERE quantity = '' AND model = ?",
                [(name, model) for model, name in names.items()],
            )

    def quantity_counts(self) -> dict[str, int]:
        """Return how many values there are of each quantity."""
        return dict(self._all("SELECT quantity, count(*) FROM value GROUP BY quantity"))

    # -- messages to publish -----------------------------------------------------------------

    def unsent(self, sink: str, limit: int, after: int = 0) -> list[tuple[int, int, Value]]:
        """Return (outbox id, times tried, value), oldest first, of ids beyond ``after``."""
        rows = self._all(
            f"SELECT outbox.id, outbox.tried, {_PREFIXED} FROM outbox "
            "JOIN value USING (paddock, acquired, orbit, revision) "
            "WHERE sink = ? AND outbox.id > ? ORDER BY outbox.id LIMIT ?",
            sink,
            after,
            limit,
        )
        return [(row[0], row[1], Value(*row[2:])) for row in rows]

    def unsent_counts(self) -> dict[str, int]:
        query = (
            "SELECT sink, sum(n) FROM (SELECT sink, count(*) AS n FROM outbox GROUP BY sink "
            "UNION ALL SELECT 'farmos', count(*) FROM daily_outbox) WHERE n GROUP BY sink"
        )
        return dict(self._all(query))

    def mark_tried(self, ids: Iterable[int]) -> None:
        with self.transaction():
            self.db.executemany(
                "UPDATE outbox SET tried = tried + 1 WHERE id = ?", [(item,) for item in ids]
            )

    def mark_sent(self, ids: Iterable[int]) -> None:
        with self.transaction():
            self.db.executemany("DELETE FROM outbox WHERE id = ?", [(item,) for item in ids])

    # -- probe readings -------------------------------------------------------------------

    def put_probes(self, readings: Iterable[Sensed]) -> None:
        """Store rows (paddock, sensor, at, sm); a reading sent again replaces itself."""
        with self.transaction():
            self.db.executemany("INSERT OR REPLACE INTO probe VALUES (?, ?, ?, ?)", readings)

    def newest_probes(self, paddocks: Iterable[str] | None = None) -> dict[str, NewestReading]:
        """Return the newest reading of paddocks: the mean of its sensors at their newest time.

        paddocks: None for all with a present state.
        """
        names = (
            "SELECT paddock AS name FROM latest"
            if paddocks is None
            else "SELECT value AS name FROM json_each(?)"
        )
        wanted = [] if paddocks is None else [json.dumps(sorted(paddocks))]
        rows = self._all(
            "SELECT name, at, avg(sm), count(*) FROM (SELECT name, (SELECT max(at) FROM probe AS p "
            f"INDEXED BY probe_by_time WHERE p.paddock = name) AS newest FROM ({names})) "
            "CROSS JOIN probe INDEXED BY probe_by_time ON paddock = name AND at = newest "
            "GROUP BY name",
            *wanted,
        )
        return {row[0]: NewestReading(row[1], row[2], row[3]) for row in rows}

    def limit_probes(self, before: int | None, most: int) -> None:
        """Drop readings from before a time, and all but the newest ``most`` of each paddock."""
        with self.transaction():
            if before is not None:
                self.db.execute("DELETE FROM probe WHERE at < ?", (before,))
            for (name,) in self.db.execute("SELECT DISTINCT paddock FROM probe").fetchall():
                self.db.execute(
                    "DELETE FROM probe WHERE paddock = ? AND at <= (SELECT at FROM probe "
                    "WHERE paddock = ? ORDER BY at DESC LIMIT 1 OFFSET ?)",
                    (name, name, most),
                )

    def has_probes(self) -> bool:
        """Return True if there is a reading."""
        return bool(self._all("SELECT 1 FROM probe LIMIT 1"))

    def probes(self) -> list[Sensed]:
        return [Sensed(*row) for row in self._all("SELECT * FROM probe ORDER BY at")]

    def counts(self) -> dict[str, int]:
        """Return the number of rows of each table."""
        names = ("arrival", "observation", "value", "latest", "outbox", "probe")
        return {name: self._all(f"SELECT count(*) FROM {name}")[0][0] for name in names}

    def version(self) -> tuple[int, int]:
        """Return a version that changes whenever any connection has committed."""
        with explained(self.path):
            (data,) = self.db.execute("PRAGMA data_version").fetchone()
        return data, self.db.total_changes


def _observed(rows: Iterable[tuple[Any, ...]]) -> list[Observed]:
    rows = list(rows)
    numbers = json.loads(f"[{','.join([row[5] for row in rows])}]")  # one call for all is faster
    return [
        Observed(row[0], row[1], row[2], row[3], row[4] == 1, own, row[6], row[7])
        for row, own in zip(rows, numbers, strict=True)
    ]


def _first_local_day(seconds: int) -> int:
    """Return the earliest local day, since 1970, that a time has anywhere west of Greenwich."""
    return seconds // 86400 - 1
