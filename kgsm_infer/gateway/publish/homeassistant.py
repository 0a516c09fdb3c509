"""Home Assistant's device-based MQTT discovery: a device per paddock, behind the gateway's own.

One retained message on ``homeassistant/device/ID/config`` declares a device and its sensors.
``device_class: moisture`` is in percent, and for soil moisture only: a wetness index has no unit.
Where a record has no number the template gives
``None``, which Home Assistant shows as unknown; NaN is never sent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ... import __version__
from ...base.quantities import SOIL_MOISTURE, UNKNOWN, Quantity
from ..config import Mqtt
from ..keys import device_id, slug
from ..records import canonical

#: Seconds after which a value that was not sent again becomes unavailable, if not set.
EXPIRE_AFTER_S = 14 * 86400
_ORIGIN = {"name": "kgsm", "sw_version": __version__}


def topics(mqtt: Mqtt, name: str) -> str:
    """Return the root of all topics of a gateway."""
    return f"{mqtt.topic}/{name}"


def state_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the topic of the retained present state of a paddock."""
    return f"{topics(mqtt, name)}/paddock/{slug(paddock)}/state"


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


def health_message(health: Mapping[str, Any]) -> bytes:
    """Return the health of a gateway as its diagnostic entities read it.

    Equal for equal health: ages are left out, and free space is rounded to 100 MB.
    """
    error, disk = health["last_error"], health["disk"]
    return canonical(
        {
            "problem": bool(health["status"] == "degraded" or health["quarantined"]),
            "status": health["status"],
            "quarantined": health["quarantined"],
            "last_error": "none" if error is None else error["reason"],
            "newest_acquisition": health["newest_acquisition"],
            "disk_free_mb": None if disk is None else round(disk["free_mb"], -2),
            "version": health["version"],
        }
    )


def discovery(
    mqtt: Mqtt,
    name: str,
    title: str,
    paddocks: Mapping[str, str],
    quantities: Mapping[str, Quantity],
    expire_after_s: int = EXPIRE_AFTER_S,
) -> Iterator[tuple[str, bytes]]:
    """Return (topic, message) of the gateway and of each paddock.

    paddocks: id -> name for people.  quantities: id -> quantity of its value; a paddock of
    unknown quantity gets no sensor for the value.  expire_after_s: seconds after which a value
    that was not sent again becomes unavailable.
    """
    if mqtt.discovery is None:
        return
    gateway = device_id(name)
    status = f"{topics(mqtt, name)}/status"
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
                        "state_topic": status,
                    },
                    **_diagnostics(gateway, health_topic(mqtt, name)),
                },
                "qos": 1,
            }
        ),
    )
    for paddock, said in paddocks.items():
        device = device_id(name, paddock)
        state = state_topic(mqtt, name, paddock)
        yield f"{mqtt.discovery}/device/{device}/config", canonical(_paddock(
            device, said, gateway, state, status, quantities.get(paddock, UNKNOWN), expire_after_s
        ))  # fmt: skip


def _value_sensor(
    device: str, state: str, quantity: Quantity, expire_after_s: int
) -> dict[str, Any]:
    """Return the component of a paddock's value, by its name; nothing of an unknown quantity."""
    if quantity is UNKNOWN:
        return {}
    sensor: dict[str, Any] = {
        "platform": "sensor",
        "state_class": "measurement",
        "name": quantity.title,
        "json_attributes_topic": state,
        "expire_after": expire_after_s,
    }
    if quantity is SOIL_MOISTURE:
        return {
            "moisture": {
                **sensor,
                "device_class": "moisture",
                "unit_of_measurement": "%",
                "suggested_display_precision": 1,
                "unique_id": f"{device}_moisture",
                "value_template": "{{ value_json.sm_percent }}",
            }
        }
    return {
        quantity.name: {
            **sensor,
            "suggested_display_precision": 2,
            "unique_id": f"{device}_{quantity.name}",
            "value_template": f"{{{{ value_json.{quantity.column} }}}}",
        }
    }


def _paddock(
    device: str,
    said: str,
    gateway: str,
    state: str,
    status: str,
    quantity: Quantity,
    expire_after_s: int,
) -> dict[str, Any]:
    return {
        "device": {
            "identifiers": [device],
            "name": said,
            "manufacturer": "kgsm",
            "model": f"{quantity.title} from Sentinel-1",
            "via_device": gateway,
        },
        "origin": _ORIGIN,
        "components": {
            **_value_sensor(device, state, quantity, expire_after_s),
            "acquired": {
                "platform": "sensor",
                "device_class": "timestamp",
                "entity_category": "diagnostic",
                "name": "Last satellite pass",
                "unique_id": f"{device}_acquired",
                "value_template": "{{ value_json.acquired_at }}",
            },
        },
        "state_topic": state,
        "availability": [{"topic": status}],
        "qos": 1,
    }
