"""Home Assistant's own schemas accept every discovery message.

homeassistant pins its own dependencies: `make home-assistant` builds an environment for it and
runs this with KGSM_HOME_ASSISTANT_PYTHON naming its Python.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from kgsm_infer.base.quantities import SOIL_MOISTURE, UNKNOWN, WETNESS
from kgsm_infer.gateway.config import Mqtt
from kgsm_infer.gateway.health import Disk, Health, LastError
from kgsm_infer.gateway.publish.homeassistant import (
    PaddockDevice,
    daily_message,
    daily_parts,
    daily_topic,
    discovery,
    health_message,
    health_topic,
    state_topic,
)
from kgsm_infer.gateway.records import record_bytes
from kgsm_infer.gateway.store.daily_rows import DailyValue
from kgsm_infer.gateway.store.rows import Value

PYTHON = os.environ.get("KGSM_HOME_ASSISTANT_PYTHON")
SCRIPT = Path(__file__).parents[1] / "home_assistant_validation.py"
MQTT = Mqtt("localhost", tls=False)
QUANTITIES = {
    "7": SOIL_MOISTURE, "north field/ü": WETNESS, "old": UNKNOWN, "no number": SOIL_MOISTURE,
}  # fmt: skip
HEALTH = Health(
    "degraded", "farm", "1", "2024-01-07T00:00:00Z", 2.5, {}, {}, 3, None, Disk(1234, 50.0), None,
    {}, "ok", 0, LastError("quarantined", "x" * 400, "2024-01-07T00:00:00Z"), None,
)  # fmt: skip


def state_of(paddock, quantity):
    sm = None if paddock == "no number" else 0.231
    numbers = (sm, None if sm is None else 0.2, None if sm is None else 0.3)
    return Value(
        paddock, 1704067200, "", 1, *numbers, 1.0, 1.0, "", "", "0" * 16, 0, 1,
        quantity=quantity.name,
    )  # fmt: skip


def day_of(paddock, quantity):
    return DailyValue(
        paddock, 19723, 1, quantity.name, 0.231, 0.2, 0.3, 0.8, 2.0, 0.23, 1.5, 61.0, 14.0, 0.2,
        "", 0,
    )  # fmt: skip


def messages():
    """The discovery messages of a farm, and the messages that their entities read."""
    devices = {
        name: PaddockDevice(
            f"Paddock {name}",
            quantity,
            daily_parts(day_of(name, quantity)) if quantity is not UNKNOWN else (),
        )
        for name, quantity in QUANTITIES.items()
    }
    found = discovery(MQTT, "farm", "Farm 1", devices, 86400)
    states = {health_topic(MQTT, "farm"): health_message(HEALTH)}
    for name, quantity in QUANTITIES.items():
        states[state_topic(MQTT, "farm", name)] = record_bytes(state_of(name, quantity))
        states[daily_topic(MQTT, "farm", name)] = daily_message(day_of(name, quantity), None)
    return {
        "configs": {topic: json.loads(content) for topic, content in found},
        "states": {topic: json.loads(content) for topic, content in states.items()},
    }


def validated(content):
    return subprocess.run(
        [PYTHON, SCRIPT], input=json.dumps(content), text=True, capture_output=True
    )


needs_home_assistant = pytest.mark.skipif(
    PYTHON is None, reason="KGSM_HOME_ASSISTANT_PYTHON is not set (make home-assistant)"
)


@needs_home_assistant
def test_every_discovery_message_is_valid():
    done = validated(messages())
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    healthy = replace(HEALTH, last_error=None, disk=None, newest_acquisition=None, quarantined=0)
    content = messages()
    content["states"][health_topic(MQTT, "farm")] = json.loads(health_message(healthy))
    assert validated(content).returncode == 0


@needs_home_assistant
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"unit_of_measurement": "m3 m-3"}, "unit"),
        ({"device_class": "wetness"}, "device_class"),
        ({"expire_after": -1}, "expire_after"),
        ({"expires_after": 5}, "key expires_after is unknown"),
        ({"platform": "gauge"}, "unknown platform"),
        ({"value_template": "{{ value_json.nothing_of_it }}"}, "is not a state"),
    ],
)
def test_a_wrong_message_is_found(change, reason):
    content = copy.deepcopy(messages())
    topic = "homeassistant/device/kgsm_farm_7/config"
    content["configs"][topic]["components"]["moisture"] |= change
    done = validated(content)
    assert done.returncode == 1
    assert f"{topic}: moisture" in done.stdout and reason in done.stdout
