"""Sealed models whose card or graph cannot be one: refused in one line before any engine runs."""

from __future__ import annotations

import copy
import hashlib
import json

import numpy as np
import onnx
import pytest
from made_models import card_of, network_of, write_pair
from onnx import helper, numpy_helper

import kgsm_infer
from kgsm_infer.base.errors import ModelError
from kgsm_infer.kernels.head import Head, Term
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.card import CARD_KEY
from kgsm_infer.model.onnx_reader import read_model_file, sealed


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    head = Head("wcm", 0.1, (Term("soil_db", 0, 0.01),), 0.5)
    network = network_of(Wcm(a=0.02), head=head)
    return write_pair(tmp_path_factory.mktemp("pair"), network, card_of(network, head))


def rebuilt(path, change_card=None, change_graph=None):
    """The content of a model file with another card or graph, hashed and sealed again."""
    model = onnx.load(path)
    card = json.loads({p.key: p.value for p in model.metadata_props}[CARD_KEY])
    role = read_model_file(path).role
    if change_graph is not None:
        change_graph(model.graph)
    if change_card is not None:
        change_card(card)
    card["graph_sha256"][role] = hashlib.sha256(model.graph.SerializeToString()).hexdigest()
    del model.metadata_props[:]
    entry = model.metadata_props.add()
    entry.key, entry.value = CARD_KEY, json.dumps(card)
    return sealed(model.SerializeToString())


def put(*keys, value):
    def change(card):
        for key in keys[:-1]:
            card = card[key]
        card[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (put("wcm", "a", value=1e300), r"wcm\.a is 1e\+300"),
        (put("wcm", "b", value=1e300), r"wcm\.b is 1e\+300"),
        (put("wcm", "limits", "sigma0_db", value=[-1e30, 1e30]), r"wcm\.limits\.sigma0_db"),
        (put("head", "terms", 0, "slope", value=1e300), "slope is 1e"),
        (put("head", "intercept", value=-1e308), "intercept is -1e"),
        (put("limits", "sm", value=[5.0, 9.0]), r"limits\.sm 5 to 9"),
        (put("limits", "sm", value=[0.0, 1.5]), r"limits\.sm 0 to 1\.5"),
        (put("channels", 1, "high", value=1e308), "range of d0"),
        (put("validation", value={"other": {"new dates": 5}}), r"validation\.other"),
    ],
)
def test_a_number_that_no_model_has_is_refused(pair, change, cause):
    for path in pair.values():
        with pytest.raises(ModelError, match=cause):
            kgsm_infer.load(rebuilt(path, change))


def after_input(operator, repeats, more_inputs=None, **attributes):
    """Put a chain of nodes that may grow between the backscatter and what reads it."""

    def change(graph):
        chain, name = [], "sigma0_db"
        for k in range(repeats):
            inputs = [name, name] if more_inputs is None else [name, *more_inputs]
            chain.append(helper.make_node(operator, inputs, [f"grown{k}"], **attributes))
            name = f"grown{k}"
        graph.initializer.append(numpy_helper.from_array(np.int64([0, 0, 0, 2**31]), "pads"))
        graph.initializer.append(numpy_helper.from_array(np.int64([0] * 64), "copies"))
        graph.initializer.append(numpy_helper.from_array(np.int64([2]), "another_axis"))
        nodes = [*chain, *copy.deepcopy(list(graph.node))]
        del graph.node[:]
        graph.node.extend(nodes)

    return change


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (after_input("Concat", 34, axis=1), "too many Concat"),
        (after_input("Pad", 1, ["pads"]), "Pad by other than one step"),
        (after_input("Gather", 5, ["copies"], axis=1), "too many Gather"),
        (after_input("Unsqueeze", 5, ["another_axis"]), "too many Unsqueeze"),
        (after_input("MatMul", 5), "too many MatMul"),
        (after_input("Neg", 60_000, []), "nodes; at most"),
        (lambda graph: graph.output.pop(), "its outputs are sm, soil_db; expected"),
        (lambda graph: graph.node.reverse(), "before it is defined"),
        (lambda graph: graph.node.append(graph.node[0]), "is defined twice"),
    ],
)
def test_a_graph_that_grows_or_lacks_a_tensor_is_refused(pair, change, cause):
    with pytest.raises(ModelError, match=cause):
        kgsm_infer.load(rebuilt(pair["complete"], change_graph=change))


def test_metadata_and_fields_are_counted(pair):
    content = pair["core"].read_bytes()
    with pytest.raises(ModelError, match="more than 16 metadata entries"):
        kgsm_infer.load(sealed(b"\x72\x04\x0a\x00\x12\x00" * 2_000_000 + content))
    with pytest.raises(ModelError, match="more than 100000 fields"):
        kgsm_infer.load(sealed(b"\x42\x00" * 2_000_000 + content))


def test_an_untouched_pair_is_still_read(pair):
    for path in pair.values():
        assert kgsm_infer.load(rebuilt(path)).card.head is not None
    many = network_of(None, members=20, hidden=3)
    for path in write_pair(pair["core"].parent, many, card_of(many)).values():
        assert kgsm_infer.load(path).card.members == 20
