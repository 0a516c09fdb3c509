"""A stored value as every reader gets it: one record, the same bytes for the same key.

Nothing in a record depends on when or by which process it was made, so a reader that gets
(paddock, acquisition, revision) twice gets the same bytes twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from ..base.flags import NAMES
from ..base.quantities import RETRIEVED, UNKNOWN, Quantity, quantity_named
from ..base.schema import Choices, Help, Pattern, Range
from .store.daily_rows import DailyValue
from .store.rows import NewestReading, Value

_EPOCH = date(1970, 1, 1)


def iso(seconds: int) -> str:
    """Return seconds since 1970 as ISO 8601, UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


#: An acquisition time, ISO 8601 in UTC.
Time = Annotated[str, Pattern(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z", "a time in UTC")]
#: A local day of the farm.
Day = Annotated[str, Pattern(r"\d{4}-\d{2}-\d{2}", "a day")]
_QUANTITIES = (*RETRIEVED.values(), UNKNOWN)


@dataclass(frozen=True)
class ProbeRecord:
    """The newest reading of a paddock, in its present state: the mean of its sensors, m3 m-3."""

    at: Time
    sm: float
    sensors: Annotated[int, Range(1)]


@dataclass(frozen=True)
class Record:
    """One paddock at one acquisition. A missing number is null, never NaN.

    The value and the ends of its interval are further fields, named after the quantity. Fields
    with a default are left out where they have no value.
    """

    paddock: str
    acquired_at: Time
    orbit: str
    revision: Annotated[int, Range(0)]
    quantity: Annotated[
        str, Choices(item.name for item in _QUANTITIES), Help("the numbers are named after it")
    ]
    unit: Annotated[str, Choices(item.unit for item in _QUANTITIES)]
    valid_share: Annotated[float, Range(0, 1)]
    flags: Annotated[
        tuple[str, ...], Help(f"reasons to doubt it: {', '.join(NAMES)}; new ones may be added")
    ]
    reason: Annotated[str, Help("why the number is missing; empty where it is not")]
    model: Annotated[str, Help("the first 16 digits of the model file's sha256")]
    sm_correction: (
        Annotated[float, Help("what probes of this pass moved it by, within the limits, m3 m-3")]
        | None
    ) = None
    probes: Annotated[int, Range(1), Help("how many probes corrected it")] | None = None
    source: Annotated[str, Choices(("simulated",))] | None = None
    probe: ProbeRecord | None = None


@dataclass(frozen=True)
class DailyRecord:
    """One paddock on one local day of the farm. A missing number is null, never NaN.

    The value of the day, the ends of its interval and the value of its passes are named after the
    quantity and follow these fields; in the outlook also the value and the ends with the planned
    irrigation. Fields with a default are left out where they have no value.
    """

    paddock: str
    date: Day
    revision: Annotated[int, Range(0), Help("0 in the outlook, which is replaced each time")]
    quantity: Annotated[str, Choices(item.name for item in RETRIEVED.values())]
    unit: Annotated[str, Choices(item.unit for item in RETRIEVED.values())]
    radar_weight: Annotated[float, Range(0, 1), Help("share of variance passes removed")] | None
    pass_age_days: Annotated[float, Range(0), Help("since the last pass with a value")] | None
    rain_mm: Annotated[float, Range(0), Help("null where missing, which is not zero")] | None
    available_percent: Annotated[float, Range(0, 100), Help("plant-available water")] | None
    refill_mm: Annotated[float, Range(0), Help("water to field capacity")] | None
    threshold: Annotated[float, Help("in the unit of the value")] | None
    flags: tuple[str, ...]
    drier_than: (
        Annotated[float, Range(0, 1), Help("share of passes here so far that were wetter")] | None
    ) = None
    irrigation_mm: Annotated[float, Range(0), Help("after today: planned")] | None = None
    source: Annotated[str, Choices(("simulated",))] | None = None


def flags_of(value: Value | DailyValue) -> tuple[str, ...]:
    """Return the flags of a value by name."""
    return tuple(value.flags.split(";")) if value.flags else ()


def _source_of(value: Value | DailyValue) -> str | None:
    return "simulated" if value.simulated else None


def _percentages(quantity: Quantity, numbers: Mapping[str, float | None]) -> dict[str, Any]:
    """Return the numbers in percent of volume by their names; none of an index."""
    if not quantity.in_percent:
        return {}
    return {
        f"{name}_percent": None if number is None else round(100 * number, 2)
        for name, number in numbers.items()
    }


def numbers_named(quantity: Quantity) -> dict[str, str]:
    """Return the fields of a record with numbers: sm, sm_lower, sm_upper -> name in the record."""
    return {name: quantity.column_of(name) for name in ("sm", "sm_lower", "sm_upper")}


def record(value: Value, probe: NewestReading | None = None) -> dict[str, Any]:
    """Return a value as JSON, named after its quantity and in its unit; None without a number.

    Soil moisture is ``sm`` in m3 m-3, and ``sm_percent``; an index is ``wetness`` without a
    percentage. ``sm_correction`` and ``probes`` are present where probes of the pass moved it.
    """
    quantity = quantity_named(value.quantity)
    head = Record(
        paddock=value.paddock,
        acquired_at=iso(value.acquired),
        orbit=value.orbit,
        revision=value.revision,
        quantity=quantity.name,
        unit=quantity.unit,
        valid_share=value.valid_share,
        flags=flags_of(value),
        reason=value.reason,
        model=value.model,
        sm_correction=value.sm_correction if value.probes else None,
        probes=value.probes or None,
        source=_source_of(value),
        probe=None
        if probe is None
        else ProbeRecord(iso(probe.at), round(probe.sm, 6), probe.sensors),
    )
    numbers = {"sm": value.sm, "sm_lower": value.sm_lower, "sm_upper": value.sm_upper}
    found = {name: item for name, item in vars(head).items() if item is not None}
    found["flags"] = list(head.flags)
    if head.probe is not None:
        found["probe"] = vars(head.probe)
    found |= {name: numbers[key] for key, name in numbers_named(quantity).items()}
    return found | _percentages(quantity, numbers)


def day_of(day: int) -> str:
    """Return days since 1970 as ISO 8601.

    >>> day_of(19723)
    '2024-01-01'
    """
    return (_EPOCH + timedelta(days=day)).isoformat()


def end_of_day(day: int, timezone: str | None) -> int:
    """Return the last second of a local day, seconds since 1970.

    >>> end_of_day(19723, None), end_of_day(19723, "Australia/Sydney")
    (1704153599, 1704113999)
    """
    zone = UTC if timezone is None else ZoneInfo(timezone)
    after = datetime.combine(_EPOCH + timedelta(days=day + 1), time(), zone)
    return int(after.timestamp()) - 1


#: The numbers of a day of the outlook with the planned irrigation.
PLANNED = ("sm_irrigated", "sm_irrigated_lower", "sm_irrigated_upper")


def _planned(value: DailyValue) -> tuple[float | None, ...]:
    return value.irrigated, value.irrigated_lower, value.irrigated_upper


def daily_record(
    value: DailyValue, days_left: float | None = None, *, present: bool = False
) -> dict[str, Any]:
    """Return the value of a day as JSON, named after its quantity and in its unit.

    days_left: of today.  present: the record is of today, so it has ``days_left``.
    """
    quantity = quantity_named(value.quantity)
    head = DailyRecord(
        paddock=value.paddock,
        date=day_of(value.day),
        revision=value.revision,
        quantity=quantity.name,
        unit=quantity.unit,
        radar_weight=value.weight,
        pass_age_days=value.pass_age,
        rain_mm=value.rain_mm,
        available_percent=value.available_percent,
        refill_mm=value.refill_mm,
        threshold=value.threshold,
        flags=flags_of(value),
        drier_than=value.drier_than,
        irrigation_mm=value.irrigation_mm,
        source=_source_of(value),
    )
    numbers = {"sm": value.value, "sm_lower": value.lower, "sm_upper": value.upper}
    if value.irrigated is not None:
        numbers |= dict(zip(PLANNED, _planned(value), strict=True))
    names = ("paddock", "date", "revision", "quantity", "unit")
    found: dict[str, Any] = {name: getattr(head, name) for name in names}
    found |= {quantity.column_of(name): number for name, number in numbers.items()}
    found[f"pass_{quantity.column}"] = value.pass_value
    found |= {**vars(head), "flags": list(head.flags)}
    for name in ("drier_than", "irrigation_mm", "source"):
        if found[name] is None:
            del found[name]
    found |= _percentages(quantity, numbers)
    return {**found, "days_left": days_left} if present else found


def number_of(found: Mapping[str, Any], end: str = "") -> float | None:
    """Return a record's number in the unit for people: percent of volume, or the index itself.

    end: ``_lower`` or ``_upper`` for an end of its interval.

    >>> number_of({"quantity": "soil_moisture", "sm": 0.25, "sm_percent": 25.0})
    25.0
    >>> number_of({"quantity": "wetness", "wetness": 0.6, "wetness_lower": None}, "_lower")
    """
    quantity = quantity_named(found["quantity"])
    percent = "_percent" if quantity.in_percent else ""
    number: float | None = found[f"{quantity.column}{end}{percent}"]
    return number


def record_bytes(value: Value) -> bytes:
    """Return the record as it is sent."""
    return canonical(record(value))


def canonical(content: Any) -> bytes:
    """Return JSON in one spelling: sorted keys, no spaces, UTF-8.

    NaN is an error, never a token.
    """
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()
