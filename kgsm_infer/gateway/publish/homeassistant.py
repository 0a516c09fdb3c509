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

_ORIGIN = {"name": "kgsm", "sw_version": __version__}


def topics(mqtt: Mqtt, name: str) -> str:
    """The root of all topics of a gateway."""
    return f"{mqtt.topic}/{name}"


def state_topic(mqtt: Mqtt, name: str, paddock: str) -> str:
    """Return the topic of the retained present state of a paddock."""
    return f"{topics(mqtt, name)}/paddock/{slug(paddock)}/state"


def discovery(
    mqtt: Mqtt,
    name: str,
    title: str,
    paddocks: Mapping[str, str],
    quantities: Mapping[str, Quantity],
) -> Iterator[tuple[str, bytes]]:
    """Return (topic, message) of the gateway and of each paddock.

    paddocks: id -> name for people.  quantities: id -> quantity of its value; a paddock of
    unknown quantity gets no sensor for the value.
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
                    }
                },
                "qos": 1,
            }
        ),
    )
    for paddock, said in paddocks.items():
        device = device_id(name, paddock)
        state = state_topic(mqtt, name, paddock)
        yield f"{mqtt.discovery}/device/{device}/config", canonical(_paddock(
            device, said, gateway, state, status, quantities.get(paddock, UNKNOWN)
        ))  # fmt: skip


def _value_sensor(device: str, state: str, quantity: Quantity) -> dict[str, Any]:
    """Return the component of a paddock's value, by its name; nothing of an unknown quantity."""
    if quantity is UNKNOWN:
        return {}
    sensor: dict[str, Any] = {
        "platform": "sensor",
        "state_class": "measurement",
        "name": quantity.title,
        "json_attributes_topic": state,
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
    device: str, said: str, gateway: str, state: str, status: str, quantity: Quantity
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
            **_value_sensor(device, state, quantity),
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
