"""Model files that are not what they should be: one line, and never another number."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from made_models import card_of, network_of, write_pair
from onnx import TensorProto, helper, numpy_helper

from kgsm_infer.base.errors import ModelError, UsageError
from kgsm_infer.base.schema import build, parse_json
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.card import CARD_KEY, Card, card_from_json, graph_inputs
from kgsm_infer.model.model import load
from kgsm_infer.model.onnx_reader import OPERATORS, read_model_file, sealed
from kgsm_train.export.files import with_card
from kgsm_train.export.graph import complete_graph, core_graph

ROLES = ("complete", "core")


@pytest.fixture(scope="module")
def network():
    return network_of(Wcm(a=0.05), steps=3, dynamic=1, statics=1)


@pytest.fixture
def paths(network, tmp_path):
    return write_pair(tmp_path, network, card_of(network))


def rewritten(path: Path, change, **of_card) -> bytes:
    """The file after ``change(model)``, with a card that names the changed graph: what somebody
    else's exporter could write, whole and sealed."""
    model = onnx.load(path)
    change(model)
    (text,) = (entry.value for entry in model.metadata_props if entry.key == CARD_KEY)
    raw = {**json.loads(text), **of_card}
    digest = hashlib.sha256(model.graph.SerializeToString()).hexdigest()
    raw["graph_sha256"] = {"complete": "0" * 64, "core": digest}
    del model.metadata_props[:]
    helper.set_model_props(model, {CARD_KEY: json.dumps(raw)})
    return sealed(model.SerializeToString())


def refused(content: bytes, match: str) -> None:
    for engine in ("native", "onnxruntime"):
        with pytest.raises(ModelError, match=match) as error:
            load(content, engine=engine)
        assert "\n" not in str(error.value) and len(str(error.value)) < 800


def test_any_flipped_bit_is_noticed(paths):
    content = paths["core"].read_bytes()
    rng = np.random.default_rng(0)
    for at in rng.integers(0, len(content) * 8, 2000):
        flipped = bytearray(content)
        flipped[at // 8] ^= 1 << at % 8
        with pytest.raises(ModelError):
            read_model_file(bytes(flipped))


def test_a_changed_card_is_noticed_though_it_still_makes_sense(paths):
    content = paths["core"].read_bytes()
    for was, becomes in [(b'"b": 0.084', b'"b": 0.094'), (b'"mean": 0.3', b'"mean": 0.4')]:
        assert was in content
        refused(content.replace(was, becomes, 1), "not as it was exported")


def test_two_graphs_in_one_file_are_refused(paths, network):
    other = network_of(Wcm(a=0.05), steps=3, dynamic=1, statics=1, sm_std=9.0)
    model = core_graph(other, card_of(other))
    doubled = onnx.ModelProto()
    doubled.graph.CopyFrom(model.graph)
    refused(doubled.SerializeToString() + paths["core"].read_bytes(), "field 7 occurs twice")
    refused(paths["core"].read_bytes() + doubled.SerializeToString(), "field 7 occurs twice")


def test_a_weight_given_twice_or_in_another_form_is_refused(paths):
    def twice(model):
        model.graph.initializer.append(model.graph.initializer[0])

    def elsewhere(model):
        tensor = model.graph.initializer[0]
        tensor.data_location = TensorProto.EXTERNAL
        tensor.external_data.add(key="location", value="/etc/passwd")
        tensor.ClearField("raw_data")

    def as_floats(model):
        tensor = model.graph.initializer[0]
        tensor.float_data.extend(numpy_helper.to_array(tensor).ravel().tolist())
        tensor.ClearField("raw_data")

    def sparse(model):
        model.graph.sparse_initializer.add()

    refused(rewritten(paths["core"], twice), "twice")
    refused(rewritten(paths["core"], elsewhere), "not one that kgsm writes")
    refused(rewritten(paths["core"], as_floats), "not one that kgsm writes")
    refused(rewritten(paths["core"], sparse), "not one that kgsm writes")


def test_operators_that_are_not_kgsms_are_refused(paths):
    def endless(model):
        body = helper.make_graph([], "body", [], [])
        model.graph.node.append(helper.make_node("Loop", ["", ""], ["x"], body=body))

    def foreign(model):
        model.graph.node[0].domain = "com.microsoft"

    def function(model):
        model.functions.add(name="Add", domain="x")

    refused(rewritten(paths["core"], endless), "kgsm")
    refused(rewritten(paths["core"], foreign), "operator .* is not supported")
    refused(rewritten(paths["core"], function), "not one that kgsm writes")


def test_kgsm_writes_no_other_operators():
    for wcm in (Wcm(a=0.02), Wcm(a=0.1, e=1, vwc_rule="column", angle_rule="normalise"), None):
        network = network_of(wcm)
        card = dataclasses.replace(
            card_of(network),
            interval={"level": 0.9, "lower": -0.1, "upper": 0.1},
            domain={"points": [[0.0] * 4], "mean_distance": 1.0, "threshold": 1.0},
        )
        for graph in (complete_graph(network, card), core_graph(network, card)):
            assert {node.op_type for node in graph.graph.node} <= OPERATORS


def test_weights_that_are_not_finite_are_refused_by_every_engine(paths):
    for bad in (np.nan, np.inf):

        def spoil(model, bad=bad):
            (tensor,) = (t for t in model.graph.initializer if t.name == "member0_w")
            values = numpy_helper.to_array(tensor).copy()
            values[0, 0, 0] = bad
            tensor.CopyFrom(numpy_helper.from_array(values, "member0_w"))

        refused(rewritten(paths["core"], spoil), "member0_w of its graph is not finite")


@pytest.mark.parametrize("role", ROLES)
def test_a_card_of_another_shape_than_its_graph_is_refused(network, role):
    card = card_of(network)
    graph = {"complete": complete_graph, "core": core_graph}[role](network, card)
    digest = hashlib.sha256(graph.graph.SerializeToString()).hexdigest()
    digests = {"complete": digest, "core": "0" * 64}
    if role == "core":
        digests = {"complete": "0" * 64, "core": digest}
    other = [c for c in card.channels if c.role != "static"]
    for change in ({"steps": 4}, {"channels": tuple(other)}):
        wrong = dataclasses.replace(card, graph_sha256=digests, **change)
        refused(with_card(graph, wrong), "its card says")
    for change in ({"hidden": 7}, {"members": 1}, {"members": 3}):
        wrong = dataclasses.replace(card, graph_sha256=digests, **change)
        refused(with_card(graph, wrong), "its card|member")


def card_text(network) -> dict:
    card = dataclasses.replace(
        card_of(network), graph_sha256={"complete": "a", "core": "b"}, validation={"n": 3}
    )
    return json.loads(card.to_json())


CHANGES = {
    "a list for a number": (("steps",), [3]),
    "text for a number": (("hidden",), "6"),
    "true for a number": (("members",), True),
    "a fraction for a count": (("steps",), 3.5),
    "none for text": (("created",), None),
    "an object for text": (("polarisation",), {}),
    "hidden too large": (("hidden",), 2**40),
    "steps too large": (("steps",), 2**40),
    "members negative": (("members",), -1),
    "a number too large": (("wcm", "a"), 10**400),
    "A negative": (("wcm", "a"), -1.0),
    "a limit of one": (("limits", "ndvi"), [0.0]),
    "limits swapped": (("limits", "sm"), [1.0, 0.0]),
    "text in a limit": (("limits", "sm"), ["0", 1.0]),
    "channels an object": (("channels",), {}),
    "a channel a number": (("channels", 0), 1),
    "std zero": (("channels", 0, "std"), 0),
    "range gone": (("channels", 1, "low"), None),
    "range swapped": (("channels", 1, "low"), 1e6),
    "a role unknown": (("channels", 1, "role"), "oracle"),
    "a name twice": (("channels", 1, "name"), "s0"),
    "interval above": (("interval",), {"level": 0.9, "lower": 0.1, "upper": 0.2}),
    "interval below": (("interval",), {"level": 0.9, "lower": -0.2, "upper": -0.1}),
    "interval without": (("interval",), {"level": 0.9, "lower": -0.2}),
    "interval text": (("interval",), {"level": 0.9, "lower": "-0.2", "upper": 0.1}),
    "domain empty": (("domain",), {}),
    "domain ragged": (("domain",), {"points": [[0], [0, 1]], "mean_distance": 1, "threshold": 1}),
    "domain text": (("domain",), {"points": [["0", 1, 2]], "mean_distance": 1, "threshold": 1}),
    "a field unknown": (("colour",), "red"),
    "digests a list": (("graph_sha256",), ["a", "b"]),
}


@pytest.mark.parametrize("case", CHANGES)
def test_cards_that_cannot_be(network, case):
    (*path, last), value = CHANGES[case]
    raw = card_text(network)
    place = raw
    for step in path:
        place = place[step]
    place[last] = value
    with pytest.raises(ModelError, match=r"inconsistent|not JSON") as error:
        card_from_json(json.dumps(raw), "m.onnx")
    assert "\n" not in str(error.value) and len(str(error.value)) < 330


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[" * 100_000, "nested too deeply"),
        ('{"format": 2, "validation": ' + '{"a": ' * 30 + "1" + "}" * 31, "nested too deeply"),
        ("{}", "no format number"),
        ('{"format": true}', "no format number"),
        ('{"format": 2, "format": 2}', "duplicate key format"),
        ('{"format": NaN}', "NaN"),
        ('{"format": 1e999}', "beyond"),
        ('{"format": ' + "9" * 5000 + "}", "not JSON"),
        ("\x00", "not JSON"),
        ("null", "no format number"),
        (" " * (5 * 2**20), "larger than"),
    ],
)
def test_texts_that_are_no_card(text, match):
    with pytest.raises(ModelError, match=match) as error:
        card_from_json(text, "m.onnx")
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_a_card_reads_back_as_itself(network):
    card = dataclasses.replace(card_of(network), graph_sha256={"complete": "a", "core": "b"})
    assert card_from_json(card.to_json(), "m") == card
    assert [item.name for item in graph_inputs(card, "core")] == ["tile"]
    assert build(Card, parse_json(card.to_json())) == card


def test_what_is_no_file_is_refused(tmp_path):
    for path in ("/dev/zero", tmp_path, tmp_path / "none", "a\0b", tmp_path / ("n" * 300)):
        if str(path) == "/dev/zero" and not os.path.exists(path):
            continue
        with pytest.raises(ModelError, match=r"cannot read|not a regular file"):
            read_model_file(path)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(ModelError, match="not a regular file"):
        read_model_file(tmp_path / "fifo")


def test_a_file_far_too_large_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("kgsm_infer.model.onnx_reader.MOST_BYTES", 1 << 20)
    with open(tmp_path / "big.onnx", "wb") as out:
        out.truncate(2 << 20)
    with pytest.raises(ModelError, match="larger than 1 MiB"):
        read_model_file(tmp_path / "big.onnx")


def test_a_model_from_bytes(paths):
    content = paths["complete"].read_bytes()
    assert load(content) == load(paths["complete"]) and load(content).path is None
    with pytest.raises(ModelError, match="the model given as bytes"):
        load(content[:-1])


@pytest.mark.parametrize("threads", [0, -1, True, 1.5, "2"])
def test_threads_that_cannot_be(paths, threads):
    with pytest.raises(UsageError, match="threads is"):
        load(paths["core"], threads=threads)
