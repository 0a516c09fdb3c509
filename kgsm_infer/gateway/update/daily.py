"""Update the daily values: once a day, and after each arrival of passes or rain.

The rows of a day depend on the passes and the rain that arrived up to the update, never on a later
day, so an update after several days gives what one at each midnight would have given. Rain of a day
counts once a file that arrived on that day or later has it; a forecast counts in the outlook only.
The computation starts on 1 January of the year before today, whatever the store holds, so its cost
does not grow with the age of the store. :mod:`kgsm_infer.daily` has the rules of the estimate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from itertools import chain
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from ...base import flags
from ...base.files import write_whole
from ...base.quantities import RETRIEVED, SOIL_MOISTURE, Quantity
from ...daily.daily import Daily, Settings, estimate_daily
from ...daily.forcing import LONGEST_FORECAST, Irrigation, choose_today, day_text
from ...daily.parameters import SHIPPED, Parameters, read_parameters
from ...daily.percentiles import drier_than_on
from ...daily.table import daily_columns
from ...daily.units import COLUMNS, Stated, days_until, settings_of_properties, soil_water
from ...daily.values import Values, errors_of_card
from ...model.card import Card
from ...tables.columns import Rule
from ...tables.passes import number_passes
from ...tables.weather import Series, Weather
from ..config import DailySettings, Gateway, PaddockWater
from ..farm import Paddocks
from ..intake.archive import Archived
from ..intake.irrigation_files import IrrigationRows
from ..intake.rain_files import FORECAST_DAYS, RainRows
from ..store.daily_rows import (
    BLOCK_ROWS,
    TRANSACTION_ROWS,
    Alert,
    DailyValue,
    DaysLeft,
    IrrigationDay,
    alerts,
    daily_between,
    drop_old_days,
    has_rain,
    irrigation_since,
    newest_rain_day,
    pass_rows,
    progress,
    put_alerts,
    put_daily,
    put_irrigation,
    put_outlook,
    put_progress,
    put_rain,
    queue_ended,
    rain_since,
    would_change_irrigation,
    would_change_rain,
)
from ..store.database import Store

DAY_S = 86400
#: Days before today whose revisions are posted to farmOS, which keeps every post.
POSTED_DAYS = 14
#: Days of the window at most: two years, and the days that a file may be ahead.
WINDOW_DAYS = 2 * 366 + FORECAST_DAYS
#: Days of rain that are kept before the window.
DAYS_BEFORE_WINDOW = 366
#: Values closer than this are equal, m3 m-3 or of the index; farm units follow from the value.
SAME = 2e-5
#: A paddock counts as above its threshold again only from this much above it, so that a value near
#: the threshold gives one event.
HYSTERESIS = 0.01
_THRESHOLD = Rule(
    0.0, 1.0, "a threshold in the unit of the value (0 to 1)", lambda _: "in percent? divide by 100"
)
#: Properties of outlines that are read without being asked for; sand and clay may be percentages.
_PROPERTIES = {
    **{name: rule for name, rule in COLUMNS.items() if name not in ("sand", "clay")},
    "threshold": _THRESHOLD,
}


@dataclass(frozen=True)
class DailyOutcome:
    """Effects of an update. today: days since 1970.  values: rows stored, revisions among them."""

    today: int
    values: int
    revisions: int
    crossings: int

    @property
    def date(self) -> str:
        """Today as ISO 8601."""
        return str(day_text(self.today))


class Rain:
    """Rain of the window, kept in memory between the updates of one store.

    first: first day of the window.  mm: (P, D) rain of P places, NaN where missing.
    measured: (P, D) False for a forecast.  simulated: (P, D) True for simulated rain.
    """

    def __init__(self, first: int) -> None:
        self.first = first
        self.mm = np.empty((0, WINDOW_DAYS))
        self.measured = np.empty((0, WINDOW_DAYS), bool)
        self.simulated = np.empty((0, WINDOW_DAYS), bool)
        self._row: dict[str, int] = {}

    def read(self, store: Store, due: int) -> None:
        """Read the days that changed. due: earliest of them."""
        for block in rain_since(store, max(due, self.first)):
            self._grow({one.place for one in block})
            row = [self._row[one.place] for one in block]
            day = np.asarray([one.day for one in block]) - self.first
            inside = day < WINDOW_DAYS
            at = np.asarray(row)[inside], day[inside]
            self.mm[at] = np.asarray([one.rain_mm for one in block], np.float64)[inside]
            measured = np.asarray([one.issued >= one.day for one in block])
            self.measured[at] = measured[inside]
            self.simulated[at] = np.asarray([one.simulated for one in block], bool)[inside]

    def weather(self, names: Sequence[str], today: int) -> Weather | None:
        """Return the rain of each paddock: its own where there is some, else the farm's.

        A forecast is not a measurement, also when its day has passed.
        """
        ahead = np.arange(WINDOW_DAYS) > today - self.first
        mm = np.where(self.measured | ahead, self.mm, np.nan)
        if not np.isfinite(mm).any():
            return None
        simulated = bool((self.simulated & np.isfinite(mm)).any())
        empty = np.full(WINDOW_DAYS, np.nan)
        farm = mm[self._row[""]] if "" in self._row else empty
        own = {name: mm[self._row[name]] for name in names if name in self._row}
        if not own:
            whole_farm = {"": Series(self.first, farm, empty)}
            return Weather("the store", "", whole_farm, simulated=simulated)
        places = {
            name: Series(self.first, np.where(np.isnan(rain), farm, rain), empty)
            for name in names
            for rain in (own.get(name, farm),)
        }
        return Weather("the store", "site", places, simulated=simulated)

    def _grow(self, places: set[str]) -> None:
        fresh = sorted(places - set(self._row))
        if fresh:
            for name in fresh:
                self._row[name] = len(self._row)
            more = (len(fresh), WINDOW_DAYS)
            self.mm = np.vstack([self.mm, np.full(more, np.nan)])
            self.measured = np.vstack([self.measured, np.zeros(more, bool)])
            self.simulated = np.vstack([self.simulated, np.zeros(more, bool)])


class IrrigationMemory:
    """Irrigation of the window by paddock and day, kept between the updates of one store."""

    def __init__(self, first: int) -> None:
        self.first = first
        self._day: dict[tuple[str, int], IrrigationDay] = {}

    def read(self, store: Store, due: int) -> None:
        """Read the days that changed. due: earliest of them."""
        for one in irrigation_since(store, max(due, self.first)):
            self._day[one.place, one.day] = one

    def of(self, names: Collection[str]) -> Irrigation | None:
        """Return the irrigation of some paddocks, None without any."""
        some = sorted(one for one in self._day.values() if one.mm > 0 and one.place in names)
        if not some:
            return None
        return Irrigation(
            "the store",
            tuple(one.place for one in some),
            np.asarray([one.day for one in some], np.int64),
            np.asarray([one.mm for one in some]),
            any(one.simulated for one in some),
        )


class Passes:
    """Values of the passes of the window, kept in memory between the updates of one store.

    quantity: of the values.  first: first day of the window.  rain, irrigation: of the window.
    acquired: (R,) seconds since 1970.  numbers: (3, R) value, lower and upper, NaN without.
    flags: (R,) bit mask.  simulated: True if a value is.
    """

    def __init__(self, quantity: Quantity, first: int) -> None:
        self.quantity, self.first, self.rain = quantity, first, Rain(first)
        self.irrigation = IrrigationMemory(first)
        self.acquired = np.empty(0, np.int64)
        self.numbers = np.empty((3, 0))
        self.flags = np.empty(0, np.int64)
        self._code = np.empty(0, np.int32)
        self._simulated = np.empty(0, bool)
        self._names: dict[str, int] = {}

    @property
    def simulated(self) -> bool:
        """True if a value comes from simulated data."""
        return bool(self._simulated.any())

    def read(self, store: Store, due: int) -> None:
        """Read the passes that changed. due: earliest local day of a change, since 1970."""
        since = max(self.first, due - 1) * DAY_S
        keep = self.acquired < since
        parts = [
            _Block(
                self.acquired[keep],
                self.numbers[:, keep],
                self.flags[keep],
                self._code[keep],
                self._simulated[keep],
            )
        ]
        parts += [self._block(rows) for rows in pass_rows(store, since, self.quantity.name)]
        self.acquired = np.concatenate([part.acquired for part in parts])
        self.numbers = np.concatenate([part.numbers for part in parts], axis=1)
        self.flags = np.concatenate([part.flags for part in parts])
        self._code = np.concatenate([part.code for part in parts])
        self._simulated = np.concatenate([part.simulated for part in parts])

    def sorted_names(self) -> tuple[tuple[str, ...], NDArray[np.int64]]:
        """Return the paddocks with a pass (N,), sorted, and the index of each row's (R,)."""
        every = list(self._names)
        present = np.unique(self._code).tolist()
        order = sorted(present, key=lambda code: every[code])
        rank = np.zeros(len(every), np.int64)
        rank[order] = np.arange(len(order))
        return tuple(every[code] for code in order), rank[self._code]

    def _block(self, rows: Sequence[tuple[Any, ...]]) -> _Block:
        paddock, acquired, value, lower, upper, texts, simulated, _ = zip(*rows, strict=True)
        masks = {text: flags.mask_of(text) for text in set(texts)}
        names = self._names
        return _Block(
            np.asarray(acquired, np.int64),
            np.asarray([value, lower, upper], np.float64),
            np.asarray([masks[text] for text in texts], np.int64),
            np.asarray([names.setdefault(name, len(names)) for name in paddock], np.int32),
            np.asarray(simulated, bool),
        )


@dataclass(frozen=True)
class _Block:
    acquired: NDArray[np.int64]
    numbers: NDArray[np.float64]
    flags: NDArray[np.int64]
    code: NDArray[np.int32]
    simulated: NDArray[np.bool_]


@dataclass
class DailyUpdater:
    """Update the daily values of one store; UsageError or DataError where the settings are wrong.

    It keeps the passes of the store in memory: another store needs another updater.
    """

    gateway: Gateway
    paddocks: Paddocks
    _passes: Passes | None = None

    def __post_init__(self) -> None:
        self.settings = self.gateway.daily or DailySettings()
        _ = self.parameters, self.water  # wrong settings are reported at the start
        if self.water:
            names = sorted(self.water)
            soil_water(names, {name: _limits(self.water[name]) for name in names}, self._soil)

    @cached_property
    def parameters(self) -> Parameters:
        """The parameter set."""
        name = self.settings.parameters
        shipped = name in SHIPPED
        return read_parameters(name if shipped else self.gateway.source.resolve().parent / name)

    @cached_property
    def water(self) -> Mapping[str, Mapping[str, float]]:
        """Farm-unit numbers of paddocks: of the settings, else of the outlines' properties."""
        found: dict[str, dict[str, float]] = {}
        outlines = self.paddocks.outlines
        if outlines is not None:
            rules = {**_PROPERTIES, **(COLUMNS if self.settings.texture else {})}
            own = settings_of_properties(outlines.ids, outlines.properties, outlines.source, rules)
            found = {name: numbers for name, numbers in own.items() if numbers}
        for name, water in self.settings.paddocks.items():
            found[name] = {**found.get(name, {}), **_numbers(water)}
        return found

    @property
    def _soil(self) -> Stated:
        return Stated(**{name: getattr(self.settings, name) for name in COLUMNS})

    @cached_property
    def is_north(self) -> bool | None:
        """True on the northern hemisphere; None for the hemisphere of the parameters."""
        if self.settings.hemisphere is not None:
            return self.settings.hemisphere == "north"
        shapes = [shape for shape in self.paddocks.outlines_lon_lat.values() if shape]
        if not shapes:
            return None
        point = shapes[0]["coordinates"]
        while isinstance(point[0], (list, tuple)):
            point = point[0]
        return bool(point[1] > 0)

    # -- days ------------------------------------------------------------------------------

    def local_day(self, seconds: int) -> int:
        """Return the farm's day, since 1970, at a time."""
        return self._local(seconds) // DAY_S

    def _local(self, seconds: int) -> int:
        """Return the farm's wall clock at a time, seconds since 1970 without a zone."""
        name = self.gateway.page.timezone
        zone = UTC if name is None else ZoneInfo(name)
        offset = datetime.fromtimestamp(seconds, UTC).astimezone(zone).utcoffset()
        assert offset is not None
        return seconds + int(offset.total_seconds())

    def seconds_to_midnight(self, seconds: int) -> int:
        """Return the seconds from a time to the farm's next day; at most a day.

        Where the clock is moved in between, the update is late by an hour at most.
        """
        return DAY_S - self._local(seconds) % DAY_S

    def is_on(self, store: Store) -> bool:
        """Return True if the gateway has ``[daily]``, or rain."""
        return self.gateway.daily is not None or has_rain(store)

    def today(self, store: Store, clock_s: int) -> int | None:
        """Return today by a clock and the newest data; None without a pass."""
        passed = store.newest_passes_time()
        if passed is None:
            return None
        now = self.local_day(clock_s)
        newest_pass = min(store.newest_value_time(), clock_s + DAY_S)
        rain = newest_rain_day(store, now + LONGEST_FORECAST)
        newest = max(self.local_day(max(newest_pass, passed)), -(2**40) if rain is None else rain)
        return choose_today(now, newest)

    # -- keeping ---------------------------------------------------------------------------

    def follow_settings(self, store: Store) -> bool:
        """Mark today as due where the settings changed since the last start; True if they did.

        Values of earlier days stay as they were published.
        """
        outlined = {name: sorted(numbers.items()) for name, numbers in self.water.items()}
        page, digest = self.gateway.page, hashlib.sha256()
        for part in (
            self.settings,
            self._rain_day_ends,
            page.timezone,
            self.is_north,
            sorted(outlined.items()),
            self.parameters.to_json(),
        ):
            digest.update(repr(part).encode())
        known, now = self.gateway.state / "daily-settings", digest.hexdigest()
        before = known.read_text("utf-8", "replace").strip() if known.exists() else ""
        if before == now:
            return False
        today = progress(store).today
        if before and today is not None:
            with store.transaction():
                store.mark_due([today])
        with write_whole(known) as file:
            file.write(now)
        return bool(before)

    def drop_old(self, store: Store) -> int:
        """Delete values older than ``keep_days``, and rain no window needs; returns how many."""
        today = progress(store).today
        if today is None:
            return 0
        with store.transaction():
            oldest = today - self.settings.keep_days + 1
            return drop_old_days(store, oldest, window_start(today) - DAYS_BEFORE_WINDOW)

    # -- the update ------------------------------------------------------------------------

    def update(
        self,
        store: Store,
        clock_s: int,
        card: Card,
        beat: Callable[[], object] = lambda: None,
    ) -> DailyOutcome | None:
        """Compute what is due and store it; None where nothing is due.

        clock_s: time of the update.  card: of the model in use, with the errors of a pass.  beat:
        called between blocks of rows, each of which is a transaction; what it raises leaves the
        rest due.
        """
        if card.retrieves.column not in RETRIEVED or not self.is_on(store):
            return None
        today = self.today(store, clock_s)
        done = progress(store)
        if today is None or (done.due is None and done.today == today):
            return None
        outcome = None
        for day in _year_ends(done.today, today):
            outcome = self._update(store, day, card, beat)
        return outcome

    def _update(
        self,
        store: Store,
        today: int,
        card: Card,
        beat: Callable[[], object],
    ) -> DailyOutcome:
        done = progress(store)
        oldest = today - self.settings.keep_days + 1
        since = oldest if done.today is None else done.today + 1
        since = max(oldest, since if done.due is None else min(since, done.due))
        due, first = done.due, window_start(today)
        passes, quantity = self._passes, card.retrieves
        if passes is None or passes.quantity is not quantity or passes.first != first:
            passes = self._passes = Passes(quantity, first)
            due = first
        if due is not None:
            passes.read(store, due)
            passes.rain.read(store, due)
            passes.irrigation.read(store, due)
        made = self._estimate(store, today, passes, card)
        known: set[str] = set()
        if done.today is not None:
            known = {name for name, _ in daily_between(store, done.today, done.today)}
        count = revisions = crossed = 0
        ended = today - 1 if done.today is None else done.today
        paddocks = () if made is None else made.values.paddocks
        for start, last in _blocks(since, today, len(paddocks), TRANSACTION_ROWS):
            if made is None:
                break
            with store.transaction():  # what is left is due until all blocks are stored
                for part in self._parts(made, start, last):
                    fresh = self._put_changed(store, part)
                    self._queue_revised(store, fresh, ended)
                    count += len(fresh)
                    revisions += sum(one.revision > 1 for one in fresh)
            beat()
        with store.transaction():
            if made is None:
                put_outlook(store, (), ())
            else:
                if self.gateway.farmos is not None:
                    queue_ended(store, self.gateway.farmos.daily_streams, ended, today - 1)
                crossed = self._cross(store, self._rows(made, today, today), known)
                now = [
                    DaysLeft(*pair) for pair in zip(paddocks, self._days_left(made), strict=True)
                ]
                ahead = self._parts(made, today + 1, made.forcing.period.last)
                put_outlook(store, chain.from_iterable(ahead), now)
            put_progress(store, today)
        return DailyOutcome(today, count, revisions, crossed)

    def _parts(self, made: Daily, since: int, until: int) -> Iterator[list[DailyValue]]:
        """Yield the rows from a day to another, both included, in parts of whole days."""
        for first, last in _blocks(since, until, len(made.values.paddocks), BLOCK_ROWS):
            yield self._rows(made, first, last)

    def _put_changed(self, store: Store, rows: Sequence[DailyValue]) -> list[DailyValue]:
        """Store the rows that differ from the newest revision of their day, and return them."""
        if not rows:
            return []
        days = [one.day for one in rows]
        before = daily_between(store, min(days), max(days))
        fresh = []
        for one in rows:
            last = before.get((one.paddock, one.day))
            if last is None:
                fresh.append(one)
            elif not _same(last, one):
                fresh.append(replace(one, revision=last.revision + 1))
        put_daily(store, fresh)
        return fresh

    def _queue_revised(self, store: Store, fresh: Sequence[DailyValue], ended: int) -> None:
        """Queue revisions of recent days that were posted before. ended: first day not posted."""
        farmos = self.gateway.farmos
        if farmos is not None:
            names = farmos.daily_streams
            for one in fresh:
                if ended - POSTED_DAYS <= one.day < ended and one.paddock in names:
                    queue_ended(store, [one.paddock], one.day, one.day)

    def _cross(self, store: Store, now: Sequence[DailyValue], known: Container[str]) -> int:
        """Note which paddocks went below their threshold or came back; returns how many crossed.

        known: paddocks that had a value before; a first value below the threshold crosses nothing.
        """
        below = {one.paddock for one in alerts(store)}
        fresh, over = [], []
        for one in now:
            name = one.paddock
            if one.value is None or one.threshold is None:
                continue
            if one.value < one.threshold and name not in below:
                fresh.append(Alert(name, one.day, one.value, one.threshold, int(name in known)))
            elif name in below and one.value >= one.threshold + HYSTERESIS:
                over.append(name)
        put_alerts(store, fresh, over)
        return sum(one.unsent for one in fresh)

    def _estimate(self, store: Store, today: int, passes: Passes, card: Card) -> Daily | None:
        """Estimate all days of the window; None where no pass of it has a value."""
        values, quantity = self._values(passes), passes.quantity
        inside = (values.day <= today) & np.isfinite(values.value)
        if not inside.any():
            return None
        weather = passes.rain.weather(values.paddocks, today)
        soil = self._soil if quantity is SOIL_MOISTURE else Stated()
        own = self.water if quantity is SOIL_MOISTURE else {}
        limits = {name: _limits(own[name]) for name in values.paddocks if name in own}
        settings = Settings(
            today=str(day_text(today)),
            rain_day_ends=self._rain_day_ends,
            errors=errors_of_card(
                card.pass_variances, quantity.column, self.parameters, validation=card.validation
            ),
            north=self.is_north,
            soil=soil,
            paddocks={name: numbers for name, numbers in limits.items() if numbers},
            learn=self.settings.learn_limits and quantity is SOIL_MOISTURE,
            limits_required=False,
            look_ahead=True,
        )
        irrigation = passes.irrigation.of(set(values.paddocks))
        return estimate_daily(values, weather, self.parameters, settings, irrigation)

    @property
    def _rain_day_ends(self) -> float:
        weather = self.gateway.weather
        if weather.rain_day_ends is not None:
            return weather.rain_day_ends
        if weather.service is None:
            return 24.0
        from ...prepare.weather_services import service_named

        return service_named(weather.service).rain_day_ends

    def _values(self, passes: Passes) -> Values:
        """Return the passes of the window as the daily estimate reads them."""
        names, code = passes.sorted_names()
        distinct, at = np.unique(passes.acquired, return_inverse=True)
        wall = np.asarray([self._local(int(seconds)) for seconds in distinct], np.int64)
        # a table that gives a date alone is stored as midnight, UTC
        by_day = distinct % DAY_S == 0
        day = np.where(by_day, distinct, wall) // DAY_S
        hour = np.where(by_day, np.nan, wall % DAY_S / 3600)
        number = number_passes(distinct.astype("datetime64[s]"))
        return Values(
            source="the store",
            quantity=passes.quantity.column,
            paddocks=names,
            paddock=code,
            day=day[at].astype(np.int64),
            hour=hour[at],
            passed=number[at],
            value=passes.numbers[0],
            lower=passes.numbers[1],
            upper=passes.numbers[2],
            flags=passes.flags,
            simulated=passes.simulated,
        )

    # -- rows ------------------------------------------------------------------------------

    def _thresholds(self, made: Daily) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Return the threshold of each paddock (N,) in the unit of the value, NaN without one."""
        common = self.settings.threshold
        found = np.full(len(made.values.paddocks), np.nan if common is None else common)
        if made.water is not None:
            water = made.water
            percent = water.refill_percent / 100
            limit = water.wilting_point + percent * (water.field_capacity - water.wilting_point)
            found = np.where(np.isnan(limit), found, limit)
        for i, name in enumerate(made.values.paddocks):
            found[i] = self.water.get(name, {}).get("threshold", found[i])
        return found

    def _days_left(self, made: Daily) -> list[float | None]:
        """Return the days until the threshold of each paddock (N,)."""
        if made.ahead is None:
            return [None] * len(made.values.paddocks)
        return _or_none(days_until(made.ahead, self._thresholds(made)))

    def _rows(self, made: Daily, since: int, until: int) -> list[DailyValue]:
        """Return the rows from a day to another, both included, as revision 1; the outlook as 0."""
        columns = daily_columns(made, since, until, ranked=False)
        name, quantity = made.values.quantity, RETRIEVED[made.values.quantity]
        place = {paddock: i for i, paddock in enumerate(made.values.paddocks)}
        threshold = _or_none(self._thresholds(made).round(5))
        sites, today = columns["site"].tolist(), made.forcing.period.today
        count = len(sites)

        def numbers(key: str) -> list[float | None]:
            return _or_none(columns[key]) if key in columns else [None] * count

        days = np.asarray(columns["date"], "datetime64[D]").astype(np.int64).tolist()
        value, lower, upper = (numbers(f"{name}{end}") for end in ("", "_lower", "_upper"))
        weight, age, passed = map(numbers, ("radar_weight", "pass_age_days", f"pass_{name}"))
        rain, available, refill = map(numbers, ("rain_mm", "available_percent", "refill_mm"))
        planned = zip(
            *(numbers(f"{name}_irrigated{end}") for end in ("", "_lower", "_upper")), strict=True
        )
        with_plan = [
            one if day > today else (None,) * 3 for day, one in zip(days, planned, strict=True)
        ]
        period, forcing = made.forcing.period, made.forcing
        at = (
            np.asarray(days, np.int64) - period.first,
            np.asarray([place[site] for site in sites], np.int64),
        )
        water = (forcing.irrigation_mm + forcing.planned_mm)[at[0], forcing.series[at[1]]]
        irrigation = [mm if mm > 0 else None for mm in water.round(3).tolist()]
        wanted = np.unique(at[0])
        ranks = drier_than_on(made.mean, np.isfinite(made.seen), wanted.tolist()).round(3)
        drier = _or_none(ranks[np.searchsorted(wanted, at[0]), at[1]])
        return [
            DailyValue(
                paddock=site,
                day=days[i],
                revision=1 if days[i] <= today else 0,
                quantity=quantity.name,
                value=value[i],
                lower=lower[i],
                upper=upper[i],
                weight=weight[i],
                pass_age=age[i],
                pass_value=passed[i],
                rain_mm=rain[i],
                available_percent=available[i],
                refill_mm=refill[i],
                threshold=threshold[place[site]],
                flags=columns["flags"][i],
                simulated=int(made.simulated),
                drier_than=drier[i],
                irrigation_mm=irrigation[i],
                irrigated=with_plan[i][0],
                irrigated_lower=with_plan[i][1],
                irrigated_upper=with_plan[i][2],
            )
            for i, site in enumerate(sites)
        ]


def would_change_days(store: Store, rows: RainRows | IrrigationRows) -> bool:
    """Return True if the rain or the irrigation of a file differs from the stored."""
    if isinstance(rows, IrrigationRows):
        return would_change_irrigation(store, rows.days)
    return any(would_change_rain(store, days) for days in rows.by_place())


def store_days(store: Store, rows: RainRows | IrrigationRows, item: Archived, kind: str) -> None:
    """Store rain or irrigation of an arrival; of one place and day the later arrival counts."""
    with store.transaction():
        if isinstance(rows, IrrigationRows):
            put_irrigation(store, rows.days)
        else:
            for days in rows.by_place():
                put_rain(store, days)
        times = [day * DAY_S for day in rows.bounds]
        store.put_arrival(item.number, item.digest, item.name, kind, times)


def window_start(today: int) -> int:
    """Return 1 January of the year before today; days since 1970."""
    return int(np.datetime64(f"{_year(today) - 1}-01-01", "D").astype(np.int64))


def _blocks(since: int, until: int, paddocks: int, rows: int) -> Iterator[tuple[int, int]]:
    """Divide days into blocks of about ``rows`` rows: (first, last), both included."""
    days = max(1, rows // max(1, paddocks))
    for first in range(since, until + 1, days):
        yield first, min(first + days - 1, until)


def _year(day: int) -> int:
    return int(str(np.datetime64(day, "D"))[:4])


def _year_ends(before: int | None, today: int) -> list[int]:
    """Return the days of the updates from the last one to today: each end of a year, and today.

    The window starts with a year, so a day has the same value whichever update computes it.
    """
    if before is None:
        return [today]
    ends = [
        int(np.datetime64(f"{year}-12-31", "D").astype(np.int64))
        for year in range(_year(before), _year(today))
    ]
    return [*(end for end in ends if end > before), today]


def _numbers(water: PaddockWater) -> dict[str, float]:
    names = (*COLUMNS, "threshold")
    return {name: getattr(water, name) for name in names if getattr(water, name) is not None}


def _limits(numbers: Mapping[str, float]) -> dict[str, float]:
    return {name: value for name, value in numbers.items() if name in COLUMNS}


def _or_none(numbers: Any) -> list[float | None]:
    """Return (R,) numbers as a list with None in place of NaN."""
    return [None if number != number else number for number in np.asarray(numbers).tolist()]


def _same(last: DailyValue, one: DailyValue) -> bool:
    """Return True if two values of a day say the same."""
    pairs = ((last.value, one.value), (last.lower, one.lower), (last.upper, one.upper))
    close = all(a == b or (a is not None and b is not None and abs(a - b) < SAME) for a, b in pairs)
    exact = (
        "quantity",
        "pass_age",
        "pass_value",
        "rain_mm",
        "threshold",
        "flags",
        "simulated",
        "drier_than",
        "irrigation_mm",
    )
    return close and all(getattr(last, name) == getattr(one, name) for name in exact)
