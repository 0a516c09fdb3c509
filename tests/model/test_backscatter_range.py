"""A backscatter outside the range of its column is no measurement, in every engine and path."""

import dataclasses

import numpy as np
import pytest
from made_models import card_of, network_of, write_pair

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.kernels.wcm import Wcm

ENGINES = ("native", "core", "complete")
DAYS = np.arange(4) * 12.0
GOOD = [-14.0, -14.5, -15.0, -13.0]


def loaded(folder, engine, *, dynamic=0):
    network = network_of(Wcm(a=0.02), dynamic=dynamic, statics=0)
    card = card_of(network)
    if dynamic:
        channels = [
            dataclasses.replace(c, name="vv_db", mean=-9.0, std=3.0, low=-60.0, high=0.0)
            if c.role == "dynamic"
            else c
            for c in card.channels
        ]
        card = dataclasses.replace(card, channels=tuple(channels))
    paths = write_pair(folder, network, card)
    path = paths["complete" if engine == "complete" else "core"]
    return kgsm_infer.load(path, engine="native" if engine == "native" else "onnxruntime")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [0.0, 0.04, 8.0, -60.5])
def test_a_target_out_of_range_has_no_number(tmp_path, engine, value):
    result = loaded(tmp_path, engine).retrieve([GOOD, [*GOOD[:3], value]], 0.3, days=DAYS)
    assert np.isfinite(result.sm[0]) and np.isnan(result.sm[1])
    assert result.flags[1] & flags.NO_NUMBER == flags.INPUT_OUT_OF_RANGE


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [0.0, 8.0])
def test_an_earlier_value_out_of_range_counts_as_a_missing_one(tmp_path, engine, value):
    windows = [[*GOOD[:2], np.nan, GOOD[3]], [*GOOD[:2], value, GOOD[3]]]
    result = loaded(tmp_path, engine).retrieve(windows, 0.3, days=DAYS)
    assert np.isfinite(result.sm).all() and result.sm[0] == result.sm[1]
    assert (result.flags & flags.SHORT_HISTORY != 0).all()


@pytest.mark.parametrize("engine", ENGINES)
def test_a_second_polarisation_has_the_same_range(tmp_path, engine):
    model = loaded(tmp_path, engine, dynamic=1)
    vv_db = [[-9.0, -8.0, -9.0, last] for last in (-9.0, 0.0, 3.0)]
    result = model.retrieve([GOOD] * 3, 0.3, features={"vv_db": vv_db}, days=DAYS)
    assert np.isfinite(result.sm).tolist() == [True, False, False]
    assert (result.flags[1:] & flags.NO_NUMBER == flags.INPUT_OUT_OF_RANGE).all()


@pytest.mark.parametrize("wcm", [Wcm(a=0.02), None])
def test_the_complete_graph_alone_refuses_0_db(tmp_path, wcm):
    onnxruntime = pytest.importorskip("onnxruntime")
    network = network_of(wcm, dynamic=0, statics=0)
    path = write_pair(tmp_path, network, card_of(network))["complete"]
    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    windows = np.float32([GOOD, [*GOOD[:3], 0.0], [*GOOD[:3], 8.0], [*GOOD[:3], -1e-3]])
    feed = {"sigma0_db": windows, "day": np.tile(np.float32(DAYS), (4, 1))}
    if wcm is not None:
        feed["ndvi"] = np.full((4, 4), 0.3, np.float32)
    sm, mask = session.run(["sm", "flags"], feed)
    assert np.isnan(sm).tolist() == [False, True, True, False]
    assert (mask & flags.INPUT_OUT_OF_RANGE != 0).tolist() == [False, True, True, False]
