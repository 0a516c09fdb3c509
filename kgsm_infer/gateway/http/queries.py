"""Answer queries of the API and the page from the store; answers are empty without a store."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ...base.quantities import SOIL_MOISTURE, quantity_named
from ...base.schema import as_plain
from ...tables.reading import guard_formula
from ..config import Gateway
from ..farm import Paddocks
from ..health import NO_PROCESS, Process, health_of
from ..records import canonical, daily_record, number_of, record
from ..store.daily_rows import (
    daily_between,
    daily_of,
    days_left,
    outlook_by_paddock,
    outlook_of,
    progress,
)
from ..store.reader import StoreReader
from ..store.rows import Value


def csv_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of the CSV form: a record's keys, each quantity's numbers in its own."""
    names = dict.fromkeys(str(found["quantity"]) for found in records)
    columns = ["paddock", "acquired_at", "orbit", "revision", "quantity", "unit"]
    for quantity in map(quantity_named, names or [SOIL_MOISTURE.name]):
        own = [quantity.column_of(name) for name in ("sm", "sm_lower", "sm_upper")]
        columns += own + ([f"{name}_percent" for name in own] if quantity.in_percent else [])
    columns += ["valid_share", "flags", "reason", "model", "source"]
    return [*columns, "sm_correction", "probes"]


@dataclass(frozen=True)
class PaddockState:
    """The state of a paddock, as records.

    newest: of the newest pass, with or without a number.  value: the newest with a number.
    before: the one with a number before ``value``, of the same quantity.  probe: the newest
    reading of its probes.  today: daily value of today.  week_before: that of 7 days before.
    Each may be None.
    """

    paddock: str
    title: str
    newest: Mapping[str, Any] | None
    value: Mapping[str, Any] | None
    before: Mapping[str, Any] | None
    probe: Mapping[str, Any] | None
    today: Mapping[str, Any] | None = None
    week_before: Mapping[str, Any] | None = None

    @property
    def shown(self) -> Mapping[str, Any] | None:
        """The record whose number is shown: of today, else of the newest pass with one."""
        if self.today is not None and number_of(self.today) is not None:
            return self.today
        return self.value

    @property
    def acquired(self) -> int | None:
        """The time of the newest pass, seconds since 1970."""
        if self.newest is None:
            return None
        return int(datetime.fromisoformat(self.newest["acquired_at"]).timestamp())

    @property
    def change(self) -> float | None:
        """The change in 7 days, else since the pass before: percent of volume, or of the index."""
        last, before = self.value, self.before
        if self.today is not None and self.shown is self.today:
            last, before = self.today, self.week_before
        if last is None or before is None:
            return None
        now, then = number_of(last), number_of(before)
        return None if now is None or then is None else now - then


@dataclass
class Queries:
    """Answers from the store for the API and the page; of one thread."""

    gateway: Gateway
    paddocks: Paddocks
    reader: StoreReader = field(init=False)

    def __post_init__(self) -> None:
        self.reader = StoreReader(self.gateway.database)

    def present(self) -> list[Value]:
        """Return the present value of each paddock of the farm that has one."""
        store = self.reader.store()
        values = [] if store is None else store.latest()
        return [value for value in values if self.paddocks.known(value.paddock)]

    def latest(self, paddock: str | None = None) -> list[dict[str, Any]]:
        """Present states as records, each with the newest reading of its probes."""
        store = self.reader.store()
        if store is None:
            return []
        if paddock is None:
            values = self.present()
        else:
            one = store.latest_of(paddock)
            values = [] if one is None else [one]
        probes = store.newest_probes(None if paddock is None else [paddock])
        return [record(value, probes.get(value.paddock)) for value in values]

    def states(self) -> list[PaddockState]:
        """Return the state of every paddock of the farm, in order of their names."""
        titles = self.paddocks.titles
        found = {each["paddock"]: each for each in self.latest()}
        names = sorted({*titles, *found}, key=lambda name: sort_key(titles.get(name, name)))
        store = self.reader.store()
        today = {each["paddock"]: each for each in self.daily_today()}
        week_before = self._daily_on(today, 7)
        states = []
        for name in names:
            newest = found.get(name)
            recent = [] if store is None or newest is None else store.newest_numbers(name, 2)
            value = record(recent[0]) if recent else None
            before = record(recent[1]) if len(recent) > 1 else None
            if before is not None and value is not None:
                before = before if before["quantity"] == value["quantity"] else None
            probe = None if newest is None else newest.get("probe")
            title, day = titles.get(name, name), today.get(name)
            states.append(
                PaddockState(name, title, newest, value, before, probe, day, week_before.get(name))
            )
        return states

    def history(self, paddock: str, since: int, limit: int, revisions: bool) -> list[Value]:
        store = self.reader.store()
        if store is None:
            return []
        return store.series(paddock, since=since, limit=limit, revisions=revisions)

    def daily_today(self) -> list[dict[str, Any]]:
        """Return today's value of each paddock of the farm as records, with ``days_left``."""
        store = self.reader.store()
        today = None if store is None else progress(store).today
        if store is None or today is None:
            return []
        left, outlook = days_left(store), outlook_by_paddock(store)
        return [
            {
                **daily_record(value, left.get(name), present=True),
                "outlook": [daily_record(one) for one in outlook.get(name, ())],
            }
            for (name, _), value in sorted(daily_between(store, today, today).items())
            if self.paddocks.known(name)
        ]

    def _daily_on(self, paddocks: Collection[str], ago: int) -> dict[str, dict[str, Any]]:
        """Return the records of some days before today, by paddock."""
        store = self.reader.store()
        today = None if store is None or not paddocks else progress(store).today
        if store is None or today is None:
            return {}
        values = daily_between(store, today - ago, today - ago).values()
        return {one.paddock: daily_record(one) for one in values if one.paddock in paddocks}

    def daily_series(
        self, paddock: str, since: int, limit: int, revisions: bool
    ) -> list[dict[str, Any]]:
        """Return the days of a paddock up to today as records, oldest first, then its outlook."""
        store = self.reader.store()
        if store is None:
            return []
        values = daily_of(store, paddock, since, limit, revisions)
        return [daily_record(value) for value in (*values, *outlook_of(store, [paddock]))]

    def known(self, paddock: str) -> bool:
        """Return True for a paddock in the outlines or, without outlines, in the store."""
        if self.paddocks.outlines is not None:
            return self.paddocks.known(paddock)
        store = self.reader.store()
        return store is not None and store.latest_of(paddock) is not None

    def health(self, status: Process | None = None) -> dict[str, Any]:
        """Return the health of the gateway as JSON (:class:`~kgsm_infer.gateway.health.Health`)."""
        store, newest = self.reader.store(), self.newest()
        found: dict[str, Any] = as_plain(
            health_of(self.gateway, store, newest, status or NO_PROCESS)
        )
        return found

    def newest(self) -> int | None:
        """Return the newest acquisition, seconds since 1970."""
        return max((value.acquired for value in self.present()), default=None)

    def geojson(self, records: Sequence[Mapping[str, Any]]) -> bytes:
        """Return records as features with their outlines: RFC 7946, or with a crs member where the
        outlines are not in longitude and latitude."""
        from ...scenes.outlines import crs_member

        outlines = self.paddocks.outlines
        geometries: Mapping[str, Any] = (
            {} if outlines is None else dict(zip(outlines.ids, outlines.geometries, strict=True))
        )
        content: dict[str, Any] = {
            "type": "FeatureCollection",
            "features": [
                {
                    "type": "Feature",
                    "id": found["paddock"],
                    "properties": found,
                    "geometry": geometries.get(found["paddock"]),
                }
                for found in records
            ],
        }
        if outlines is not None:
            content |= crs_member(outlines.crs)
        return canonical(content)


def daily_csv_columns(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns of daily records in CSV; the outlook of a record is left out."""
    names = dict.fromkeys(name for found in records for name in found if name != "outlook")
    end = [name for name in ("flags", "source") if name in names]
    return [*(name for name in names if name not in end), *end]


def as_csv(records: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None) -> bytes:
    """Return records as CSV: flags joined with ``;``, an empty cell without a number.

    columns: None for those of the values of passes.

    Text that a spreadsheet would run as a formula gets an apostrophe, as in written tables.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    columns = csv_columns(records) if columns is None else columns
    writer.writerow(columns)
    for found in records:
        cells = {**found, "flags": ";".join(found["flags"])}
        row = ["" if cells.get(name) is None else cells[name] for name in columns]
        writer.writerow([guard_formula(cell) if isinstance(cell, str) else cell for cell in row])
    return text.getvalue().encode()


def sort_key(name: str) -> list[tuple[int, str]]:
    """Return a key that orders names by the numbers in them.

    >>> sorted(["Paddock 10", "Paddock 9", "7", "north"], key=sort_key)
    ['7', 'north', 'Paddock 9', 'Paddock 10']
    """
    parts = re.findall(r"[0-9]+|[^0-9]+", name.casefold())
    return [
        (int(part), "") if part.isascii() and part.isdigit() else (1 << 62, part) for part in parts
    ]
