"""Validate discovery messages with Home Assistant's own schemas; run by its Python.

    PYTHON tests/home_assistant_validation.py < MESSAGES.json

MESSAGES: {"configs": {topic: message}, "states": {topic: message}}. Prints one line per fault and
ends with 1 if there is one. Home Assistant removes keys it does not know without a word, so a key
that its schema removes is a fault here.

The newest Home Assistant for Python 3.11 (2024.3) has no device discovery. Its keys are listed
here by hand: ``components`` holds the entities, each with its ``platform``, and the other keys of
the message are shared by all of them (2024.12,
https://www.home-assistant.io/integrations/mqtt/#device-discovery-payload).
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

import voluptuous
from homeassistant.components.mqtt import binary_sensor, event, sensor
from homeassistant.components.mqtt.mixins import MQTT_ORIGIN_INFO_SCHEMA
from homeassistant.components.sensor.const import DEVICE_CLASS_STATE_CLASSES, DEVICE_CLASS_UNITS
from jinja2.sandbox import ImmutableSandboxedEnvironment

SCHEMAS = {
    "sensor": sensor.DISCOVERY_SCHEMA,
    "binary_sensor": binary_sensor.DISCOVERY_SCHEMA,
    "event": event.DISCOVERY_SCHEMA,
}
#: Keys of a device discovery message (2024.12) beside the shared keys of its entities.
OF_DEVICE = ("device", "origin", "components")
SHARED = ("availability", "state_topic", "qos")
TOPIC = re.compile(r"homeassistant/device/[a-zA-Z0-9_-]+/config")
_TEMPLATES = ImmutableSandboxedEnvironment()


def faults_of(topic: str, message: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a discovery message."""
    if not TOPIC.fullmatch(topic):
        yield "the topic is not homeassistant/device/OBJECT_ID/config"
    for key in message.keys() - {*OF_DEVICE, *SHARED}:
        yield f"key {key} is not one of a device"
    try:
        MQTT_ORIGIN_INFO_SCHEMA(message["origin"])
    except voluptuous.Invalid as error:
        yield f"origin: {error}"
    shared = {key: message[key] for key in SHARED if key in message}
    for name, component in message["components"].items():
        own = dict(component)
        schema = SCHEMAS.get(own.pop("platform", ""))
        if schema is None:
            yield f"{name}: unknown platform"
            continue
        config = {**shared, **own, "device": message["device"]}
        if "unique_id" not in config:
            yield f"{name}: no unique_id"
        try:
            valid = schema(config)
        except voluptuous.Invalid as error:
            yield f"{name}: {error}"
            continue
        yield from (f"{name}: key {key} is unknown" for key in config.keys() - valid.keys())
        if component["platform"] == "sensor":
            yield from (f"{name}: {fault}" for fault in _sensor_faults(valid))


def _sensor_faults(config: Mapping[str, Any]) -> Iterator[str]:
    """Yield what Home Assistant's sensor entity refuses or warns of when it is added."""
    kind, unit = config.get("device_class"), config.get("unit_of_measurement")
    if kind in DEVICE_CLASS_UNITS and unit not in DEVICE_CLASS_UNITS[kind]:
        yield f"unit {unit!r} is not one of {kind}"
    state_class = config.get("state_class")
    if state_class is not None and state_class not in DEVICE_CLASS_STATE_CLASSES.get(
        kind, {state_class}
    ):
        yield f"state class {state_class} is not one of {kind}"


def unreadable_states(message: Mapping[str, Any], states: Mapping[str, Any]) -> Iterator[str]:
    """Yield the entities whose template gives no state from the message of their topic."""
    for name, component in message["components"].items():
        topic = component.get("state_topic", message.get("state_topic"))
        if topic not in states or "value_template" not in component:
            continue
        template = _TEMPLATES.from_string(component["value_template"])
        found = template.render(value_json=states[topic])
        kind = component.get("device_class")
        try:
            if found == "None":
                continue
            if kind == "timestamp":
                datetime.fromisoformat(found)
            elif component.get("state_class") == "measurement":
                float(found)
            elif not 0 < len(found) <= 255:
                raise ValueError
        except ValueError:
            yield f"{name}: {found!r} is not a state of {kind or 'a sensor'}"


def main() -> int:
    read = json.load(sys.stdin)
    faults = [
        f"{topic}: {fault}"
        for topic, message in read["configs"].items()
        for fault in (*faults_of(topic, message), *unreadable_states(message, read["states"]))
    ]
    print("\n".join(faults) or f"{len(read['configs'])} messages are valid")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
