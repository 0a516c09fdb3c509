"""Messages in other people's formats, against schemas kept here; records in their own words."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.base import flags
from kgsm_infer.base.quantities import SOIL_MOISTURE, UNKNOWN, WETNESS
from kgsm_infer.gateway.config import Mqtt
from kgsm_infer.gateway.keys import slug
from kgsm_infer.gateway.publish import farmos, homeassistant
from kgsm_infer.gateway.publish.ngsi_ld import agri_parcel_record
from kgsm_infer.gateway.publish.sensorthings import thing
from kgsm_infer.gateway.records import record, record_bytes
from kgsm_infer.gateway.store.rows import Value

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
PLAIN = Value("p 1", 1704067200, "", 2, 0.2134, 0.1634, 0.2734, 1.0, 1.0, "short_history", "",
              "0123456789abcdef", 0, 7, quantity="soil_moisture")  # fmt: skip
NONE = replace(PLAIN, sm=None, sm_lower=None, sm_upper=None, flags="missing_input",
               reason="nothing of it has a number", valid_share=0.0)  # fmt: skip
share = st.one_of(st.none(), st.floats(0, 1))
values = st.builds(
    Value, paddock=st.text(min_size=1), acquired=st.integers(0, 2**32), orbit=st.text(),
    revision=st.integers(1, 99), sm=share, sm_lower=share, sm_upper=share,
    valid_share=st.floats(0, 1), rows=st.floats(0, 1e6),
    flags=st.lists(st.sampled_from(flags.NAMES), unique=True).map(";".join), reason=st.text(),
    model=st.text(), simulated=st.integers(0, 1), sequence=st.integers(1),
    sm_correction=st.floats(-1, 1), probes=st.integers(0, 9),
    quantity=st.sampled_from(["soil_moisture", "wetness", "unknown", ""]),
)  # fmt: skip


def checked(name, content):
    schema = json.loads((Path(__file__).parent / "schemas" / f"{name}.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    validator.validate(json.loads(json.dumps(content, allow_nan=False)))


@given(values)
def test_every_value_makes_messages_of_their_schemas(value):
    checked("agri_parcel_record", agri_parcel_record(value, "farm", SQUARE, "north"))
    checked("sensorthings_thing", thing(value, SQUARE, "north"))
    assert record_bytes(value) == record_bytes(replace(value))


def test_the_schemas_refuse_what_is_wrong():
    entity = agri_parcel_record(PLAIN, "farm", SQUARE, "north")
    for wrong in (
        {**entity, "soilMoistureVwc": {**entity["soilMoistureVwc"], "value": 21.3}},
        {**entity, "revision": {"type": "Property", "value": None}},
        {key: item for key, item in entity.items() if key != "location"},
    ):
        with pytest.raises(jsonschema.ValidationError):
            checked("agri_parcel_record", wrong)
    with pytest.raises(jsonschema.ValidationError):
        checked("sensorthings_thing", {**thing(PLAIN, None, "north"), "Datastreams": []})


def test_numbers_units_and_times_are_the_values():
    entity = agri_parcel_record(PLAIN, "farm", SQUARE, "north")
    assert entity["soilMoistureVwc"]["value"] == 0.2134
    assert entity["soilMoistureVwc"]["observedAt"] == "2024-01-01T00:00:00Z"
    assert "soilMoistureVwc" not in agri_parcel_record(NONE, "farm", SQUARE, "north")
    stream = thing(PLAIN, None, "north")["Datastreams"][0]
    assert stream["Observations"][0]["result"] == 0.2134
    assert stream["Observations"][0]["parameters"]["revision"] == 2
    assert thing(NONE, None, "north")["Datastreams"][0]["Observations"] == []
    assert json.loads(farmos.message("soil moisture", PLAIN)) == {
        "timestamp": 1704067200, "soil moisture": 21.34, "paddock": "p 1",
        "quantity": "soil_moisture", "unit": "%",
        "acquired_at": "2024-01-01T00:00:00Z", "revision": 2,
    }  # fmt: skip
    assert record(PLAIN)["sm_percent"] == 21.34
    assert (record(NONE)["sm"], record(NONE)["sm_percent"]) == (None, None)
    assert "source" not in record(PLAIN)
    assert record(replace(PLAIN, simulated=1))["source"] == "simulated"


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5))
def test_discovery_messages_are_of_their_schema(paddocks):
    mqtt = Mqtt("broker", 8883, True, None, None, None)
    kinds = cycle((SOIL_MOISTURE, WETNESS, UNKNOWN))
    devices = {
        paddock: homeassistant.PaddockDevice(title, kind)
        for (paddock, title), kind in zip(paddocks.items(), kinds, strict=False)
    }
    made = list(homeassistant.discovery(mqtt, "farm", "Soil moisture", devices))
    assert len({topic for topic, _ in made}) == len(made) == 1 + len(paddocks)
    for topic, content in made:
        assert not set("+#") & set(topic)
        checked("home_assistant_device", json.loads(content))


@given(st.text(), st.text())
def test_slugs_keep_paddocks_apart(one, other):
    assert slug(one) == slug(one)
    assert not set("+#/ \0") & set(slug(one))
    assert (slug(one) == slug(other)) == (one == other)
