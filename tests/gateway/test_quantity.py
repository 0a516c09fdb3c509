"""An index is published under its own name and unit by every formatter, and never joins a series
of soil moisture."""

from __future__ import annotations

import dataclasses
import json
import shutil
import sqlite3

import pytest
from made_gateways import Events, columns_of, drop, made_gateway, made_model, scanned, stored

from kgsm_infer.base.quantities import UNKNOWN, WETNESS
from kgsm_infer.gateway.config import Mqtt
from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http import page
from kgsm_infer.gateway.http.map_drawing import draw_outlines
from kgsm_infer.gateway.http.metrics import exposition
from kgsm_infer.gateway.http.openapi import document
from kgsm_infer.gateway.http.queries import Queries, as_csv
from kgsm_infer.gateway.publish import farmos, homeassistant
from kgsm_infer.gateway.publish.ngsi_ld import agri_parcel_record
from kgsm_infer.gateway.publish.sensorthings import thing
from kgsm_infer.gateway.records import record, record_bytes
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.migrations import MIGRATIONS
from kgsm_infer.gateway.store.rows import Value
from kgsm_infer.gateway.update import models
from kgsm_infer.model.onnx_reader import SHIPPED

SQUARE = {"type": "Polygon", "coordinates": [[[0, 0], [1, 0], [1, 1], [0, 0]]]}
INDEX = Value("p 1", 1704067200, "", 2, 0.6, 0.5, 0.7, 1.0, 1.0, "short_history", "",
              "0123456789abcdef", 0, 7, quantity="wetness")  # fmt: skip
LOST = dataclasses.replace(INDEX, quantity="unknown")
MQTT = Mqtt("broker", 8883, True, None, None, None)
#: Signs that a number is taken for a water content, in any of the formats.
WATER = ("m3", "percent", '"%"', " %", "60.0", "soil moisture", "soilMoisture", '"sm', "sm_lower",
         "json.sm", "moisture", "volume_fraction", "of its volume")  # fmt: skip


def discovery(quantity):
    devices = {"p 1": homeassistant.PaddockDevice("north", quantity)}
    messages = homeassistant.discovery(MQTT, "farm", "Farm", devices)
    return b"".join(content for _, content in messages).decode()


FORMATS = {
    "record": lambda value, _: record_bytes(value).decode(),
    "csv": lambda value, _: as_csv([record(value)]).decode(),
    "ngsi_ld": lambda value, _: json.dumps(agri_parcel_record(value, "farm", SQUARE, "north")),
    "sensorthings": lambda value, _: json.dumps(thing(value, SQUARE, "north")),
    "farmos": lambda value, _: farmos.message("index", value).decode(),
    "discovery": lambda _, quantity: discovery(quantity),
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(("value", "quantity"), [(INDEX, WETNESS), (LOST, UNKNOWN)])
def test_no_format_publishes_an_index_as_a_water_content(name, value, quantity):
    text = FORMATS[name](value, quantity)
    corrected = text.replace("sm_correction", "")  # a column of the CSV, empty
    assert not [sign for sign in WATER if sign.lower() in corrected.lower()], text
    assert quantity.name in corrected.lower()
    assert ("0.6" in text) == (name != "discovery" and (quantity is WETNESS or name in PLAIN))


#: Formats that show the number of a value of unknown quantity, marked as such.
PLAIN = ("record", "csv")


def test_a_number_keeps_its_unit_in_each_format():
    assert (record(INDEX)["unit"], record(INDEX)["wetness"]) == ("1", 0.6)
    assert record(INDEX)["quantity"] == "wetness"
    assert (record(LOST)["unit"], record(LOST)["value"]) == ("unknown", 0.6)
    assert agri_parcel_record(INDEX, "farm", SQUARE, "n")["kgsmWetness"]["value"] == 0.6
    stream = thing(INDEX, None, "n")["Datastreams"][0]
    assert (stream["unitOfMeasurement"]["symbol"], stream["Observations"][0]["result"]) == (
        "1",
        0.6,
    )
    assert thing(LOST, None, "n")["Datastreams"][0]["Observations"] == []
    assert json.loads(farmos.message("index", INDEX))["index"] == 0.6
    assert farmos.number_posted(LOST) is None


@pytest.fixture(scope="module")
def index_farm(tmp_path_factory):
    gateway = made_gateway(tmp_path_factory.mktemp("index"), paddocks=4, model=SHIPPED["wetness"])
    for day in range(0, 36, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
    scanned(gateway)
    return gateway


def test_a_gateway_with_the_index_says_so_everywhere(index_farm):
    values = stored(index_farm).values()
    assert {value.quantity for value in values} == {"wetness"}
    assert any(value.sm is not None for value in values)
    queries = Queries(index_farm, load_paddocks(index_farm))
    try:
        assert all(found["unit"] == "1" and "sm" not in found for found in queries.latest())
        shown = page.View(index_farm, queries.states(), "en", draw_outlines({}))
        shown = "".join((*shown.header(), shown.map(), shown.list()))
        metrics = exposition(queries, {})[0].decode()
        names = ["p0", "nowhere"]
        assert models.quantities_of(queries.reader.store(), index_farm, names) == {
            "p0": WETNESS,
            "nowhere": WETNESS,
        }
    finally:
        queries.reader.close()
    assert "Wetness index" in shown
    assert " %" not in shown and "percent of" not in shown
    assert "index 0." in shown or "index 1." in shown
    assert 'kgsm_quantity{quantity="wetness",unit="1"} 4.0' in metrics


def test_the_openapi_document_ties_each_unit_to_its_quantity():
    jsonschema = pytest.importorskip("jsonschema")
    schema = document("farm")["components"]["schemas"]["Record"]
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(record(INDEX))
    validator.validate(record(LOST))
    validator.validate(record(dataclasses.replace(INDEX, quantity="soil_moisture")))
    for wrong in ({"unit": "m3 m-3"}, {"quantity": "soil_moisture"}, {"quantity": "rain"}):
        with pytest.raises(jsonschema.ValidationError):
            validator.validate({**record(INDEX), **wrong})


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


def test_an_index_does_not_join_a_series_of_soil_moisture(tmp_path, model):
    gateway = made_gateway(tmp_path, model=model)
    for day in (0, 6):
        drop(gateway, columns_of(day), f"{day}.csv")
    scanned(gateway)
    before = models.entries(gateway)
    shutil.copy(SHIPPED["wetness"], gateway.spool / "wetness.onnx")
    log = scanned(gateway)
    (refused,) = log.named("quarantined")
    assert "wetness (unit 1)" in refused["reason"]
    assert "soil_moisture (unit m3 m-3)" in refused["reason"]
    assert not log.named("model_in_use") and models.entries(gateway) == before
    # nor does one that the configuration names
    (tmp_path / "gateway.toml").write_text(
        (tmp_path / "gateway.toml").read_text().replace(str(model), str(SHIPPED["wetness"]))
    )
    from kgsm_infer.gateway.config import read_gateway

    log = scanned(read_gateway(tmp_path / "gateway.toml"))
    assert "a series holds one quantity" in log.named("model_refused")[0]["reason"]
    assert {value.quantity for value in stored(gateway).values()} == {"soil_moisture"}


def test_values_of_an_older_store_get_the_quantity_of_their_model(tmp_path, model):
    gateway = made_gateway(tmp_path, model=SHIPPED["wetness"])
    drop(gateway, columns_of(0), "0.csv")
    scanned(gateway)
    used = models.entries(gateway)[0].hash
    # the store as schema 4 had it, with a value of a model that was kept and of one that is gone
    older = MIGRATIONS[:4]
    gateway.database.unlink()
    with sqlite3.connect(gateway.database) as db:
        for script in older:
            db.executescript(script)
        db.execute(f"PRAGMA user_version = {len(older)}")
        for at, hash_ in enumerate((used, "0" * 16)):
            row = ("p0", at, "", 1, 0.6, 0.5, 0.7, 1, 1, "", "", hash_, 0, 1, 0, 0)
            db.execute(f"INSERT INTO value VALUES ({', '.join('?' * len(row))})", row)
            db.execute("INSERT OR REPLACE INTO latest VALUES ('p0', ?, '', 1)", (at,))
    with Store(gateway.database) as store:
        log = Events()
        models.label_quantities(store, gateway, log)
        first, second = store.series("p0")
        assert (first.quantity, second.quantity) == ("wetness", "unknown")
        assert log.named("quantities_labelled")[0]["unknown"] == ["0" * 16]
        assert record(second)["quantity"] == "unknown" and "sm" not in record(second)
        log.clear()
        models.label_quantities(store, gateway, log)
        assert not log, "values are labelled once"
