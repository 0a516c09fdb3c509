"""State file: the past of places between calls, instead of an archive.

    kgsm-infer predict MODEL TODAY.csv -o OUT.csv --past past.csv

A CSV (or Parquet) file with one row per place, orbit and column. The numbers of a row describe
the older passes of the place; ``recent`` lists its newest passes one by one. With them, a pass
that a later table repeats (the earlier steps of a window) is compared with the passes up to its
own date only, as with the whole archive.

    format                 number of this layout, 2
    kind, name             ``site`` or ``field``, and its name
    orbit                  as in the table; empty without an ``orbit`` column
    column                 ``vh_db`` or ``vv_db``
    count, last            number of older passes, and the time of the latest of them
    usual_db               their mean in linear power, dB
    driest_db, wettest_db  their lowest and highest backscatter, dB
    mean_db, swing_db      their mean and standard deviation, dB
    recent                 ``TIME=DB TIME=DB ...``, ascending

A file of format 1 (no ``format`` and ``recent`` columns) is converted when it is read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from ..tables.averaging import mean_of, to_power
from ..tables.columns import POLARISATIONS, RULES
from ..tables.dates import is_future, utc_seconds
from ..tables.keys import canonical_id, canonical_orbit
from ..tables.passes import in_one_pass, pass_starts
from ..tables.reading import Sheet, read_sheet, write_csv
from ..tables.table import Table
from ..tables.text_column import shorten
from .definitions import CONTEXT, HistoryRule, SharedBy, first_available, needed, too_few
from .from_tables import compute_context, group_rows
from .history import History, PassRows, PlaceState, compare_with_past, states_after

FORMAT = 2
_FORMAT_1 = (
    "kind", "name", "orbit", "column", "count", "last", "usual_db", "driest_db", "wettest_db",
    "mean_db", "swing_db",
)  # fmt: skip
COLUMNS = ("format", *_FORMAT_1, "recent")
_NUMBERS = ("usual_db", "driest_db", "wettest_db", "mean_db", "swing_db")
#: Name of the orbit of tables without an ``orbit`` column.
NO_ORBIT = ""
#: A place keeps at least this many of its newest passes one by one.
LEAST_RECENT = 8
_NEVER = np.datetime64("0001-01-01", "s")


class Key(NamedTuple):
    """Place of a row. kind: ``site`` or ``field``.  column: ``vh_db`` or ``vv_db``."""

    kind: str
    name: str
    orbit: str
    column: str


class Look(NamedTuple):
    """One pass of a place. time: start of the pass, UTC.  value_db: backscatter."""

    time: np.datetime64
    value_db: float


@dataclass(frozen=True)
class PlaceRecord:
    """Past of one place: the state after its older passes, and its newest passes one by one.

    last: time of the latest older pass; a date before all measurements without one.
    recent: ascending, each later than ``last``.
    """

    older: PlaceState = field(default_factory=PlaceState)
    last: np.datetime64 = _NEVER
    recent: tuple[Look, ...] = ()

    @property
    def count(self) -> int:
        """Number of passes."""
        return self.older.count + len(self.recent)

    @property
    def state(self) -> PlaceState:
        """State after all passes."""
        state = self.older
        for look in self.recent:
            state = state.add(look.value_db)
        return state


Past = Mapping[Key, PlaceRecord]


@dataclass(frozen=True)
class StateFile:
    """Content of a state file. notes: what a conversion from an older format lacks."""

    past: Past
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Compared:
    """A table compared with the past.

    table: with the past's context columns.  missing: (R,) rows with too short a past, or of a
    pass that the past no longer lists.  past: the past with the table's passes added.
    """

    table: Table
    missing: NDArray[np.bool_]
    past: Past


def read_past(path: str | Path, *, allow_future: bool = False) -> StateFile:
    """Read a state file; an empty past where the file does not exist.

    DataError names file, row, column and value that cannot be of a state file, or the format
    where it is newer than this program.
    """
    if not Path(path).exists():
        return StateFile({})
    sheet = read_sheet(path)
    converted = _check_columns(sheet)
    past: dict[Key, PlaceRecord] = {}
    for at in range(len(sheet)):
        row = _Row(sheet, at, allow_future)
        key = row.key()
        if key in past:
            raise row.error("name", f"{key.kind} {shorten(key.name)} also occurs in an earlier row")
        past[key] = row.record()
    notes = []
    if converted and past:
        notes.append(
            f"{path}: converted from format 1, which lists no single passes: rows of passes that "
            "it already holds are compared with all of them and flagged context_missing"
        )
    return StateFile(past, tuple(notes))


def write_past(path: str | Path, past: Past) -> None:
    """Write a state file, whole or not at all, sorted by place."""
    columns: dict[str, list[str]] = {name: [] for name in COLUMNS}
    for key, record in sorted(past.items()):
        for name, cell in zip(COLUMNS, _cells(key, record), strict=True):
            columns[name].append(cell)
    write_csv(path, {name: np.asarray(cells, np.str_) for name, cells in columns.items()})


def compare_table(
    table: Table, names: Sequence[str], rule: HistoryRule, past: Past, steps: int = 1
) -> Compared:
    """Add the columns among ``names`` that compare a place with its past.

    steps: length T of the model's windows; the past lists twice as many passes of each place.
    A pass that the past lists is compared with the passes up to its own, and a value of the
    table replaces the listed one. UsageError for a model that compares with later dates too.
    """
    if rule.span != "past":
        raise UsageError(
            "this model compares a place with its whole archive, later dates too; --past is for "
            "a model trained with [head] history = 'past'"
        )
    recent = max(2 * steps, LEAST_RECENT)
    missing, after, given = np.zeros(len(table), bool), dict(past), set(table.numbers)
    for name in needed(names, given.__contains__):
        if not CONTEXT[name].shared_by.is_past:
            continue
        one = _compare(table, name, rule, past, recent)
        after.update(one.past)
        missing |= one.missing & (name in names)
        table = one.table
    return Compared(table, missing, after)


def _compare(table: Table, name: str, rule: HistoryRule, past: Past, recent: int) -> Compared:
    """Compute context ``name``; ``past`` of the result holds the places of the table alone."""
    base, shared_by = CONTEXT[name].base, CONTEXT[name].shared_by
    if base in table.numbers:
        value_db = np.asarray(table.numbers[base], np.float64)
    else:
        value_db = compute_context(table, base, rule).values
    place, time = group_rows(table, shared_by), pass_starts(table.date).astype(np.int64)
    kind = "site" if shared_by is SharedBy.SITE_PAST else "field"
    keys = _keys(table, place, kind, first_available(name, ()))
    records = [past.get(key, PlaceRecord()) for key in keys]
    last = np.asarray([record.last for record in records]).astype(np.int64)
    listed = _listed(records)
    rows = PassRows(place, time, value_db)
    older = (time <= last[place]) | in_one_pass(time - last[place])
    listed = listed.without(rows.select(np.isfinite(value_db) & ~older))
    every = listed.join(rows)
    counted = np.concatenate([np.ones(len(listed.place), bool), ~older])
    start = History.of([record.older for record in records])
    values, count = compare_with_past(name, every, rule, start=start, counted=counted)
    here = slice(len(listed.place), None)
    known = every.select(counted & np.isfinite(every.value_db)).distinct()
    return Compared(
        replace(table, numbers={**table.numbers, name: values[here]}),
        np.asarray(too_few(name, count[here]), bool) | older,
        dict(_records(keys, records, known, recent)),
    )


def _listed(records: Sequence[PlaceRecord]) -> PassRows:
    """Return the recent passes of all records."""
    looks = [look for record in records for look in record.recent]
    return PassRows(
        np.repeat(np.arange(len(records)), np.asarray([len(one.recent) for one in records], int)),
        np.asarray([look.time for look in looks], "datetime64[s]").astype(np.int64),
        np.asarray([look.value_db for look in looks], np.float64),
    )


def _records(
    keys: Sequence[Key], records: Sequence[PlaceRecord], known: PassRows, recent: int
) -> Iterator[tuple[Key, PlaceRecord]]:
    """Yield the record of each place with a pass: its newest ``recent`` passes, older ones summed.

    known: passes later than ``last`` of the records, in order of place and time.
    """
    start = History.of([record.older for record in records])
    states = states_after(start, known.place, known.value_db)
    ends = np.searchsorted(known.place, np.arange(len(keys)), "right").tolist()
    times, values_db = known.time.astype("datetime64[s]"), known.value_db.tolist()
    begin = 0
    for key, record, end in zip(keys, records, ends, strict=True):
        cut = max(begin, end - recent)
        looks = tuple(map(Look, times[cut:end], values_db[cut:end]))
        if cut > begin:
            yield key, PlaceRecord(states.state(cut - 1), times[cut - 1], looks)
        elif record.older.count or looks:
            yield key, PlaceRecord(record.older, record.last, looks)
        begin = end


def _keys(table: Table, place: NDArray[np.int64], kind: str, column: str) -> list[Key]:
    """Return the key of each place of a table, by its number."""
    _, first = np.unique(place, return_index=True)
    names = table.site if kind == "site" else table.text["field"]
    orbits = table.text.get("orbit")
    return [
        Key(
            kind if names[i] else "site",
            str(names[i] or table.site[i]),
            NO_ORBIT if orbits is None else str(orbits[i]),
            column,
        )
        for i in first.tolist()
    ]


def _cells(key: Key, record: PlaceRecord) -> list[str]:
    """Return the cells of a row of the file."""
    older, n = record.older, record.older.count
    last, numbers = "", [""] * len(_NUMBERS)
    if n:
        mean_db = older.total_db / n
        swing_db = math.sqrt(max(older.square_db2 / n - mean_db**2, 0.0))
        usual_db = float(mean_of("vh_db", np.float64(older.power), n))
        last = str(record.last.astype("datetime64[s]"))
        numbers = [
            repr(float(value))
            for value in (usual_db, older.driest_db, older.wettest_db, mean_db, swing_db)
        ]
    recent = " ".join(f"{look.time}={look.value_db!r}" for look in record.recent)
    return [str(FORMAT), *key, str(n), last, *numbers, recent]


def _check_columns(sheet: Sheet) -> bool:
    """Return True for a file of format 1. DataError for any other file."""
    wanted = COLUMNS if "format" in sheet.columns else _FORMAT_1
    if lacking := [name for name in wanted if name not in sheet.columns]:
        raise DataError(
            f"{sheet.source}: no column {lacking[0]!r}; a state file has {', '.join(COLUMNS)}"
        )
    formats = {str(cell) for cell in sheet.columns.get("format", ())}
    if other := sorted(formats - {str(FORMAT)}):
        raise DataError(
            f"{sheet.source}: state file of format {shorten(other[0])!r}; this kgsm reads 1 and "
            f"{FORMAT}; read it with the kgsm that wrote it, or start with a new file"
        )
    if unknown := [name for name in sheet.columns if name not in wanted]:
        raise DataError(
            f"{sheet.source}: unknown column {shorten(unknown[0])!r}; a state file has "
            f"{', '.join(wanted)}"
        )
    return wanted is _FORMAT_1


@dataclass(frozen=True)
class _Row:
    """One row of a state file, checked cell by cell."""

    sheet: Sheet
    at: int
    allow_future: bool

    def cell(self, name: str) -> str:
        return str(self.sheet.columns[name][self.at]) if name in self.sheet.columns else ""

    def error(self, name: str, reason: str) -> DataError:
        row = int(self.sheet.row_number[self.at])
        value = shorten(self.cell(name))
        return DataError(f"{self.sheet.source}: row {row}, column {name}: {value!r}: {reason}")

    def key(self) -> Key:
        kind, column = self.cell("kind"), self.cell("column")
        if kind not in ("site", "field"):
            raise self.error("kind", "must be site or field")
        if column not in (columns := [f"{pol}_db" for pol in POLARISATIONS]):
            raise self.error("column", f"must be {' or '.join(columns)}")
        if not self.cell("name"):
            raise self.error("name", f"the {kind} has no name")
        return Key(
            kind, canonical_id(self.cell("name")), canonical_orbit(self.cell("orbit")), column
        )

    def record(self) -> PlaceRecord:
        count = self.count()
        recent = self.recent()
        if not count:
            if not recent:
                raise self.error("count", "must be 1 or more without recent passes")
            filled = [name for name in ("last", *_NUMBERS) if self.cell(name)]
            if filled:
                raise self.error(filled[0], "must be empty where count is 0")
            return PlaceRecord(recent=recent)
        last = self.time("last", self.cell("last"))
        if recent and recent[0].time <= last:
            raise self.error("recent", "its passes must be later than the time in column last")
        usual_db, driest_db, wettest_db, mean_db = (self.db(name) for name in _NUMBERS[:4])
        swing_db = self.number("swing_db", self.cell("swing_db"))
        for name, value in (("usual_db", usual_db), ("mean_db", mean_db)):
            if not driest_db - 1e-6 <= value <= wettest_db + 1e-6:
                raise self.error(
                    name, f"must be from driest_db to wettest_db ({driest_db:g} to {wettest_db:g})"
                )
        if not 0 <= swing_db <= (wettest_db - driest_db) / 2 + 1e-5:
            raise self.error("swing_db", "must be from 0 to half of wettest_db less driest_db")
        older = PlaceState(
            count=count,
            power=count * float(to_power("vh_db", np.float64(usual_db))),
            driest_db=driest_db,
            wettest_db=wettest_db,
            total_db=count * mean_db,
            square_db2=count * (swing_db**2 + mean_db**2),
        )
        return PlaceRecord(older, last, recent)

    def count(self) -> int:
        text = self.cell("count")
        if not (text.isascii() and text.isdigit() and len(text) <= 9):
            raise self.error("count", "must be a whole number of passes")
        return int(text)

    def time(self, name: str, text: str) -> np.datetime64:
        seconds = utc_seconds(text)
        if seconds is None:
            raise self.error(name, f"{shorten(text)!r} is not a date")
        time = np.datetime64(seconds, "s")
        if not self.allow_future and is_future(time):
            raise self.error(
                name,
                f"{shorten(text)} is in the future, so that no later pass would count; correct or "
                "remove the row, or pass --allow-future",
            )
        return time

    def number(self, name: str, text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not math.isfinite(value):
            raise self.error(name, "missing or not a finite number")
        return value

    def db(self, name: str, text: str | None = None) -> float:
        value = self.number(name, self.cell(name) if text is None else text)
        rule = RULES["vh_db"]
        if rule.outside(value):
            raise self.error(name, f"{value:g} is not {rule.what}; {rule.why(value)}")
        return value

    def recent(self) -> tuple[Look, ...]:
        looks: list[Look] = []
        for text in self.cell("recent").split():
            time, equals, value = text.partition("=")
            if not equals:
                raise self.error("recent", f"{shorten(text)!r} is not TIME=DB")
            look = Look(self.time("recent", time), self.db("recent", value))
            if looks and look.time <= looks[-1].time:
                raise self.error("recent", "its times must ascend")
            looks.append(look)
        return tuple(looks)
