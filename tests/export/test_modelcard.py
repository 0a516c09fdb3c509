"""MODEL_CARD.md and the STAC item: what the file's own card says, and nothing else."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math

import numpy as np
import pytest

from kgsm_infer.model.onnx_reader import read_model_file
from kgsm_train.config import read_config
from kgsm_train.export.modelcard import model_card, stac_item
from kgsm_train.learning.samples import read_source


@pytest.fixture(scope="module")
def item(tiny_model):
    return json.loads((tiny_model / "model.stac.json").read_text())


def test_the_item_is_one_to_stac_model(item):
    """By the extension's own package: its pydantic models, and pystac's reading of the item."""
    pystac = pytest.importorskip("pystac")
    stac_model = pytest.importorskip("stac_model.schema")
    read = pystac.Item.from_dict(item)
    properties = {k: v for k, v in item["properties"].items() if k.startswith("mlm:")}
    found = stac_model.MLModelProperties(**properties)
    assert found.architecture == "LSTM" and found.framework == "ONNX"
    assert [entry.name for entry in found.input] == [
        "sigma0_db",
        "ndvi",
        "angle_deg",
        "day",
        "features",
        "statics",
    ]
    assert stac_model.MLModelExtension.has_extension(read)
    assert read.datetime is None and read.properties["start_datetime"].endswith("Z")


def test_inputs_are_those_of_the_graph(item, tiny_model):
    onnx = pytest.importorskip("onnx")
    graph = onnx.load(tiny_model / "model.onnx").graph
    for entry, value in zip(item["properties"]["mlm:input"], graph.input, strict=True):
        dims = [d.dim_value or -1 for d in value.type.tensor_type.shape.dim]
        assert (entry["name"], entry["input"]["shape"]) == (value.name, dims)
    count = sum(math.prod(t.dims) for t in graph.initializer if t.name.startswith("member"))
    assert item["properties"]["mlm:total_parameters"] == count + 1  # and A


def test_assets_are_the_files(item, tiny_model):
    for asset in item["assets"].values():
        content = (tiny_model / asset["href"]).read_bytes()
        assert asset["file:size"] == len(content)
        assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()


def test_the_box_is_the_sites_or_nothing(tiny_model):
    config = read_config(tiny_model / "tiny.toml")
    source = read_source(config)
    card = read_model_file(tiny_model / "model.onnx").card
    numbers = dict(source.table.numbers)
    rows = len(source.table)
    for name in ("lat", "lon"):
        numbers.pop(name, None)
    table = dataclasses.replace(source.table, numbers=numbers)
    nowhere = stac_item(tiny_model, card, dataclasses.replace(source, table=table), "model")
    assert nowhere["geometry"] is None and "bbox" not in nowhere
    here = {**numbers, "lat": [-34.5] * (rows - 1) + [-35.0], "lon": [146.0] * (rows - 1) + [147.5]}
    table = dataclasses.replace(source.table, numbers=here)
    table = dataclasses.replace(table, numbers={k: np.asarray(v) for k, v in here.items()})
    placed = stac_item(tiny_model, card, dataclasses.replace(source, table=table), "model")
    assert placed["bbox"] == [146.0, -35.0, 147.5, -34.5]
    assert placed["geometry"]["coordinates"][0][0] == [146.0, -35.0]


def test_the_card_in_words(tiny_model):
    card = read_model_file(tiny_model / "model.onnx").card
    text = (tiny_model / "MODEL_CARD.md").read_text()
    assert text == model_card(card)
    assert "SIMULATED DATA" in text and "Not cross-validated" in text and "No interval" in text
    assert f"A = {card.wcm.a:.5f} (learnt)" in text and card.training_data["sha256"] in text
    scores = {
        "n": 10,
        "groups": 5,
        "folds": 2,
        "rmse": 0.05,
        "bias": 0.01,
        "ubrmse": 0.04,
        "r": 0.7,
    }
    interval = {
        "level": 0.9,
        "lower": -0.1,
        "upper": 0.1,
        "method": "group-conformal",
        "groups": 5,
        "cross_coverage": 0.91,
        "coverage_by_date": {"2022-06-16": 1.0, "2022-07-22": 0.64},
        "coverage_by_group": {"1": 0.75, "2": 0.97},
    }
    known = dataclasses.replace(card, validation=scores, interval=interval, simulated=False)
    text = model_card(known)
    assert "| 0.0500 | +0.0100 | 0.700 |" in text
    assert "91.0% of the labels, by date from 64% to 100%, by group from 75% to 97%." in text
    assert "SIMULATED" not in text
