"""A stored value as every reader gets it: one record, the same bytes for the same key.

Nothing in a record depends on when or by which process it was made, so a reader that gets
(paddock, acquisition, revision) twice gets the same bytes twice.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from ..base.quantities import quantity_named
from .store.daily_rows import DailyValue
from .store.rows import Value

_EPOCH = date(1970, 1, 1)


def iso(seconds: int) -> str:
    """Seconds since 1970 as ISO 8601, UTC.

    >>> iso(0)
    '1970-01-01T00:00:00Z'
    """
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def record(value: Value) -> dict[str, Any]:
    """Return a value as JSON, named after its quantity and in its unit; None without a number.

    Soil moisture is ``sm`` in m3 m-3, and ``sm_percent``; an index is ``wetness`` without a
    percentage. ``sm_correction`` and ``probes`` are present where probes of the pass moved it.
    """
    quantity = quantity_named(value.quantity)
    numbers = {"sm": value.sm, "sm_lower": value.sm_lower, "sm_upper": value.sm_upper}
    found: dict[str, Any] = {
        "paddock": value.paddock,
        "acquired_at": iso(value.acquired),
        "orbit": value.orbit,
        "revision": value.revision,
        "quantity": quantity.name,
        "unit": quantity.unit,
        **{quantity.column_of(name): number for name, number in numbers.items()},
        "valid_share": value.valid_share,
        "flags": value.flags.split(";") if value.flags else [],
        "reason": value.reason,
        "model": value.model,
    }
    if quantity.in_percent:
        found |= {f"{name}_percent": _percent(number) for name, number in numbers.items()}
    if value.probes:
        found["sm_correction"], found["probes"] = value.sm_correction, value.probes
    if value.simulated:
        found["source"] = "simulated"
    return found


def day_of(day: int) -> str:
    """Days since 1970 as ISO 8601.

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


def daily_record(value: DailyValue) -> dict[str, Any]:
    """Return the value of a day as JSON, named after its quantity and in its unit.

    No number is None. ``available_percent`` and ``refill_mm`` need the paddock's limits.
    """
    quantity = quantity_named(value.quantity)
    numbers = {"sm": value.value, "sm_lower": value.lower, "sm_upper": value.upper}
    found: dict[str, Any] = {
        "paddock": value.paddock,
        "date": day_of(value.day),
        "revision": value.revision,
        "quantity": quantity.name,
        "unit": quantity.unit,
        **{quantity.column_of(name): number for name, number in numbers.items()},
        f"pass_{quantity.column}": value.pass_value,
        "radar_weight": value.weight,
        "pass_age_days": value.pass_age,
        "rain_mm": value.rain_mm,
        "available_percent": value.available_percent,
        "refill_mm": value.refill_mm,
        "threshold": value.threshold,
        "flags": value.flags.split(";") if value.flags else [],
    }
    if quantity.in_percent:
        found |= {
            f"{quantity.column_of(name)}_percent": _percent(number)
            for name, number in numbers.items()
        }
    if value.simulated:
        found["source"] = "simulated"
    return found


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
    """JSON in one spelling: sorted keys, no spaces, UTF-8; NaN is an error, never a token."""
    return json.dumps(
        content, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def _percent(sm: float | None) -> float | None:
    return None if sm is None else round(100 * sm, 2)
