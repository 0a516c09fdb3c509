"""Home Assistant's device-based MQTT discovery: a device per paddock, behind the gateway's own.

One retained message on ``homeassistant/device/ID/config`` declares a device and its sensors.
``device_class: moisture`` is in percent, and for soil moisture only: a wetness index has no unit.
Where a record has no number the template gives
``None``, which Home Assistant shows as unknown; NaN is never sent.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ... import __version__
from ...base.quantities import SOIL_MOISTURE, UNKNOWN, Quantity
from ..config import Mqtt
from ..health import Health
from ..keys import device_id, slug
from ..records import canonical, daily_record, day_of
from ..store.daily_rows import Alert, DailyValue

#: Seconds after which a value that was not sent again becomes unavailable, if not set.
EXPIRE_AFTER_S = 14 * 86400
#: The same for values of today, which change every day.
DAILY_EXPIRE_S = 2 * 86400
#: Type of the event of a paddock that went below its threshold.
BELOW = "below_threshold"
_ORIGIN = {"name": "kgsm", "sw_version": __version__}


def topics(mqtt: Mqtt, name: str) -> str:
    """Return the root of all topics of a gateway."""
    return f"{mqtt.topic}/{name}"


def state_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the topic of the retained present state of a paddock."""
    return f"{topics(mqtt, name)}/paddock/{slug(paddock)}/state"


def daily_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the topic of a paddock's value of today, retained."""
    return f"{topics(mqtt, name)}/paddock/{slug(paddock)}/daily"


def event_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the topic of a paddock's events, not retained."""
    return f"{topics(mqtt, name)}/paddock/{slug(paddock)}/event"


def status_topic(mqtt: Mqtt, name: str) -> str:
    """Return the topic on which the gateway is online or offline, retained."""
    return f"{topics(mqtt, name)}/status"


def health_topic(mqtt: Mqtt, name: str) -> str:
    """Return the topic of the gateway's health, retained."""
    return f"{topics(mqtt, name)}/health"


def config_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the discovery topic of a paddock; an empty message removes its device."""
    return f"{mqtt.discovery}/device/kgsm_{name}_{slug(paddock)}/config"


def _diagnostics(gateway: str, topic: str) -> dict[str, Any]:
    """Return the diagnostic entities of the gateway by name; their state is its health."""
    common = {"entity_category": "diagnostic", "state_topic": topic}
    sensor = {**common, "platform": "sensor"}
    return {
        "problem": {
            **common,
            "platform": "binary_sensor",
            "device_class": "problem",
            "name": "Problem",
            "unique_id": f"{gateway}_problem",
            "value_template": "{{ 'ON' if value_json.problem else 'OFF' }}",
            "json_attributes_topic": topic,
        },
        "quarantined": {
            **sensor,
            "name": "Files in quarantine",
            "state_class": "measurement",
            "unique_id": f"{gateway}_quarantined",
            "value_template": "{{ value_json.quarantined }}",
        },
        "newest": {
            **sensor,
            "device_class": "timestamp",
            "name": "Newest satellite pass",
            "unique_id": f"{gateway}_newest",
            "value_template": "{{ value_json.newest_acquisition }}",
        },
        "last_error": {
            **sensor,
            "name": "Last error",
            "unique_id": f"{gateway}_last_error",
            "value_template": "{{ value_json.last_error[:250] }}",
        },
        "disk_free": {
            **sensor,
            "device_class": "data_size",
            "unit_of_measurement": "MB",
            "name": "Free disk space",
            "unique_id": f"{gateway}_disk_free",
            "value_template": "{{ value_json.disk_free_mb }}",
        },
    }


def health_message(health: Health, instance: str = "") -> bytes:
    """Return the health of a gateway as its diagnostic entities read it.

    Equal for equal health: ages are left out, and free space is rounded to 100 MB. instance: of
    the gateway, by which it detects another one of its name.
    """
    error, disk = health.last_error, health.disk
    return canonical(
        {
            "problem": health.status == "degraded" or health.quarantined > 0,
            "status": health.status,
            "quarantined": health.quarantined,
            "last_error": "none" if error is None else error.reason,
            "newest_acquisition": health.newest_acquisition,
            "disk_free_mb": None if disk is None else round(disk.free_mb, -2),
            "version": health.version,
            "instance": instance,
        }
    )


@dataclass(frozen=True)
class PaddockDevice:
    """A paddock as a device of Home Assistant.

    title: name for people.  quantity: of its value; an unknown one gets no sensor for the value.
    parts: of its daily value (:func:`daily_parts`); each gets an entity.
    """

    title: str
    quantity: Quantity = UNKNOWN
    parts: Collection[str] = ()


def discovery(
    mqtt: Mqtt,
    name: str,
    title: str,
    paddocks: Mapping[str, PaddockDevice],
    expire_after_s: int = EXPIRE_AFTER_S,
) -> Iterator[tuple[str, bytes]]:
    """Return (topic, message) of the gateway and of each paddock.

    title: of the gateway, for people.  paddocks: by id.  expire_after_s: seconds after which a
    value that was not sent again becomes unavailable.
    """
    if mqtt.discovery is None:
        return
    gateway = device_id(name)
    yield (
        f"{mqtt.discovery}/device/{gateway}/config",
        canonical(
            {
                "device": {
                    "identifiers": [gateway],
                    "name": title,
                    "manufacturer": "kgsm",
                    "model": "Field gateway",
                    "sw_version": __version__,
                },
                "origin": _ORIGIN,
                "components": {
                    "connected": {
                        "platform": "binary_sensor",
                        "device_class": "connectivity",
                        "entity_category": "diagnostic",
                        "name": "Connected",
                        "unique_id": f"{gateway}_connected",
                        "payload_on": "online",
                        "payload_off": "offline",
                        "state_topic": status_topic(mqtt, name),
                    },
                    **_diagnostics(gateway, health_topic(mqtt, name)),
                },
                "qos": 1,
            }
        ),
    )
    for paddock, device in paddocks.items():
        content = _paddock(mqtt, name, paddock, device, expire_after_s)
        yield f"{mqtt.discovery}/device/{device_id(name, paddock)}/config", canonical(content)


def daily_message(value: DailyValue, days_left: float | None) -> bytes:
    """Return today's value of a paddock as its entities read it."""
    return canonical(daily_record(value, days_left, present=True))


def daily_parts(value: DailyValue) -> frozenset[str]:
    """Return which entities of today a paddock has: ``today``, ``available_percent``, …"""
    numbers = {
        "today": value.value,
        "available_percent": value.available_percent,
        "refill_mm": value.refill_mm,
        "threshold": value.threshold,
    }
    return frozenset(name for name, number in numbers.items() if number is not None)


def crossing_message(alert: Alert) -> bytes:
    """Return the event of a paddock that went below its threshold."""
    return canonical(
        {
            "event_type": BELOW,
            "paddock": alert.paddock,
            "date": day_of(alert.day),
            "value": alert.value,
            "threshold": alert.threshold,
        }
    )


def _daily_sensors(
    device: str, topic: str, quantity: Quantity, parts: Collection[str]
) -> dict[str, Any]:
    """Return the components of a paddock's value of today."""
    sensor: dict[str, Any] = {
        "platform": "sensor",
        "state_topic": topic,
        "expire_after": DAILY_EXPIRE_S,
    }
    measured = {**sensor, "state_class": "measurement"}
    found: dict[str, Any] = {}
    if "today" in parts:
        found["today"] = {
            **measured,
            "name": f"{quantity.title} today",
            "unique_id": f"{device}_today",
            "json_attributes_topic": topic,
            **_in_unit(quantity),
        }
    if "available_percent" in parts:
        found["available"] = {
            **measured,
            "name": "Plant-available water",
            "unit_of_measurement": "%",
            "suggested_display_precision": 0,
            "unique_id": f"{device}_available",
            "value_template": "{{ value_json.available_percent }}",
        }
    if "refill_mm" in parts:
        found["refill"] = {
            **measured,
            "name": "Water to refill",
            "unit_of_measurement": "mm",
            "suggested_display_precision": 0,
            "unique_id": f"{device}_refill",
            "value_template": "{{ value_json.refill_mm }}",
        }
    if "threshold" in parts:
        found["days_left"] = {
            **measured,
            "name": "Days until the threshold",
            "device_class": "duration",
            "unit_of_measurement": "d",
            "suggested_display_precision": 0,
            "unique_id": f"{device}_days_left",
            "value_template": "{{ value_json.days_left }}",
        }
    return found


def _event(device: str, topic: str) -> dict[str, Any]:
    """Return the component of the crossings of a threshold."""
    return {
        "threshold": {
            "platform": "event",
            "name": "Threshold",
            "event_types": [BELOW],
            "state_topic": topic,
            "unique_id": f"{device}_threshold",
        }
    }


def _value_sensor(
    device: str, state: str, quantity: Quantity, expire_after_s: int
) -> dict[str, Any]:
    """Return the component of a paddock's value, by its name; nothing of an unknown quantity."""
    if quantity is UNKNOWN:
        return {}
    name = "moisture" if quantity is SOIL_MOISTURE else quantity.name
    return {
        name: {
            "platform": "sensor",
            "state_class": "measurement",
            "name": quantity.title,
            "json_attributes_topic": state,
            "expire_after": expire_after_s,
            "unique_id": f"{device}_{name}",
            **_in_unit(quantity),
        }
    }


def _in_unit(quantity: Quantity) -> dict[str, Any]:
    """Return the template and the unit of a value: percent of volume, or the index itself."""
    if not quantity.in_percent:
        return {
            "suggested_display_precision": 2,
            "value_template": f"{{{{ value_json.{quantity.column} }}}}",
        }
    return {
        "device_class": "moisture",
        "unit_of_measurement": "%",
        "suggested_display_precision": 1,
        "value_template": f"{{{{ value_json.{quantity.column}_percent }}}}",
    }


def _paddock(
    mqtt: Mqtt, name: str, paddock: str, device: PaddockDevice, expire_after_s: int
) -> dict[str, Any]:
    """Return the discovery message of a paddock."""
    own_id, state = device_id(name, paddock), state_topic(mqtt, name, paddock)
    quantity, daily = device.quantity, daily_topic(mqtt, name, paddock)
    threshold = "threshold" in device.parts
    return {
        "device": {
            "identifiers": [own_id],
            "name": device.title,
            "manufacturer": "kgsm",
            "model": f"{quantity.title} from Sentinel-1",
            "via_device": device_id(name),
        },
        "origin": _ORIGIN,
        "components": {
            **_value_sensor(own_id, state, quantity, expire_after_s),
            "acquired": {
                "platform": "sensor",
                "device_class": "timestamp",
                "entity_category": "diagnostic",
                "name": "Last satellite pass",
                "unique_id": f"{own_id}_acquired",
                "value_template": "{{ value_json.acquired_at }}",
            },
            **_daily_sensors(own_id, daily, quantity, device.parts),
            **(_event(own_id, event_topic(mqtt, name, paddock)) if threshold else {}),
        },
        "state_topic": state,
        "availability": [{"topic": status_topic(mqtt, name)}],
        "qos": 1,
    }
