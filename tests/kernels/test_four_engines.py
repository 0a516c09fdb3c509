"""The water cloud model and the physics head stand in four places; here they are held together.

The C kernel, its NumPy twin, the torch layer and the exported graph's nodes are compared
with the paper's equations in float64, written out once more below.
"""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
import torch
from made_models import card_of, network_of
from onnx import TensorProto, helper
from scipy.stats import norm

from kgsm_infer import kernels
from kgsm_infer.kernels import head, wcm
from kgsm_infer.kernels.head import Head, Term, readout_of
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.kernels.window import Acquisitions, Layout
from kgsm_train.export.graph import complete_graph
from kgsm_train.export.lstm_nodes import physics_head
from kgsm_train.export.nodes import Graph, checked_model
from kgsm_train.learning.network import WcmIsolation, on_tile

CASES = {
    "paper": Wcm(a=0.05),  # larger than the paper's 0.019, so that signals do get lost
    "e1-column-angle": Wcm(a=0.05, e=1.0, vwc_rule="column", angle_rule="column"),
    "normalised-stem": Wcm(a=0.05, e=0.5, stem_kg_m2=0.4, angle_rule="normalise"),
}


def soil_db_float64(model, sigma0_db, vegetation, angle_deg):
    """Eqs 1, 2, 4, 5, 12 as printed, in float64: (soil_db, soil fraction)."""
    sigma0 = 10 ** (sigma0_db / 10)
    theta = np.full_like(sigma0_db, np.deg2rad(model.angle_ref_deg))
    if model.angle_rule == "column":
        theta = np.deg2rad(angle_deg)
    if model.angle_rule == "normalise":
        ratio = np.cos(theta) / np.cos(np.deg2rad(angle_deg))
        sigma0 = sigma0 * ratio**model.angle_exponent
    vwc = vegetation
    if model.vwc_rule == "foliage":
        foliage = 1.9134 * vegetation**2 - 0.3215 * vegetation
        vwc = np.maximum(0, foliage) + model.stem_kg_m2
    gamma2 = np.exp(-2 * model.b * vwc / np.cos(theta))
    sigma_veg = model.a * vwc**model.e * np.cos(theta) * (1 - gamma2)
    fraction = (sigma0 - sigma_veg) / sigma0
    with np.errstate(invalid="ignore"):
        return 10 * np.log10((sigma0 - sigma_veg) / gamma2), fraction


def in_torch(model, sigma0_db, vegetation, angle_deg):
    layer = WcmIsolation(model)
    with torch.no_grad():
        soil_db, fraction = layer(*map(torch.from_numpy, (sigma0_db, vegetation, angle_deg)))
    kept = (fraction >= model.min_soil_fraction).numpy()
    return np.where(kept, soil_db.numpy(), np.nan)


def in_graph(model, sigma0_db, vegetation, angle_deg):
    network = network_of(model, steps=1, dynamic=0, statics=0)
    session = ort.InferenceSession(
        complete_graph(network, card_of(network)).SerializeToString(),
        providers=["CPUExecutionProvider"],
    )
    feed = {"sigma0_db": sigma0_db, model.vegetation_name: vegetation, "angle_deg": angle_deg}
    feed["day"] = np.zeros_like(sigma0_db)
    wanted = {item.name for item in session.get_inputs()}
    columns = {name: value[:, None] for name, value in feed.items() if name in wanted}
    return session.run(["soil_db"], columns)[0]


def in_fit(model, sigma0_db, vegetation, angle_deg):
    """As the calibration of the WCM baseline sees it: a lost signal is finite there."""
    soil_db, fraction = wcm.isolate_to_fit(
        model, wcm.apply_rules(model, sigma0_db, vegetation, angle_deg)
    )
    assert np.isfinite(soil_db).all()
    return np.where(fraction >= model.min_soil_fraction, soil_db, np.nan)


ENGINES = {
    "kernel": lambda model, *x: kernels.isolate(model, *x).soil_db,
    "twin": lambda model, *x: wcm.isolate(model, *x).soil_db,
    "torch": in_torch,
    "graph": in_graph,
    "calibration": in_fit,
}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("case", CASES)
def test_isolation_is_the_papers_in_every_engine(engine, case):
    model = CASES[case]
    rng = np.random.default_rng(1)
    sigma0_db = rng.uniform(-24, -6, 20_000).astype(np.float32)
    high = 0.95 if model.vwc_rule == "foliage" else 5.0
    vegetation = rng.uniform(0, high, sigma0_db.size).astype(np.float32)
    angle_deg = rng.uniform(29, 46, sigma0_db.size).astype(np.float32)
    wide = [x.astype(np.float64) for x in (sigma0_db, vegetation, angle_deg)]
    expected, fraction = soil_db_float64(model, *wide)

    got = ENGINES[engine](model, sigma0_db, vegetation, angle_deg)

    clear = np.abs(fraction - model.min_soil_fraction) > 1e-5  # beside it, rounding decides
    kept = fraction >= model.min_soil_fraction
    assert 0.02 < (~kept).mean() < 0.9, "the case must lose some soil signals and keep others"
    assert np.array_equal(np.isnan(got)[clear], ~kept[clear])
    assert np.abs(got - expected)[kept & clear].max() <= 1e-4


HEAD = Head(
    "change",
    0.19,
    (
        Term("vh_anomaly", 0, 0.04),
        Term("vh_anomaly_scene", 0, 0.07),
        Term("ndvi_over_scene", 0, 0.12),
        Term("vh_anomaly", 1, -0.01),
    ),
    shrink=0.0,
)
LAYOUT = Layout(3, 3, 0, mean=(-17.0, 0.1, -0.2, 0.05, 12.0), std=(3.0, 1.1, 0.8, 0.2, 9.0))
CHANNELS = ("vh_db", "vh_anomaly", "vh_anomaly_scene", "ndvi_over_scene", "gap_days")


def head_in_graph(readout, tile):
    graph = Graph(LAYOUT.steps)
    graph.node("Identity", [physics_head(graph, readout)], "sm")
    into = helper.make_tensor_value_info("tile", TensorProto.FLOAT, [3, "N", 6])
    out = helper.make_tensor_value_info("sm", TensorProto.FLOAT, ["N"])
    model = checked_model(graph, "head", [into], [out])
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(["sm"], {"tile": tile})[0]


HEADS = {
    "kernel": kernels.read_out,
    "twin": head.read_out,
    "torch": lambda readout, tile: on_tile(readout, torch.from_numpy(tile)).numpy(),
    "graph": head_in_graph,
}


@pytest.mark.parametrize("engine", HEADS)
def test_the_head_is_the_line_on_its_card_in_every_engine(engine):
    rng = np.random.default_rng(2)
    n = 500
    dynamic = rng.normal(0, 1.5, (3 * n, 3)).astype(np.float32)
    rows = np.arange(3 * n).reshape(n, 3)
    channel_db = rng.uniform(-25, -8, 3 * n).astype(np.float32)
    nothing, day = np.zeros(3 * n, np.uint16), np.arange(3.0 * n)
    tile, _ = kernels.pack(LAYOUT, rows, Acquisitions(channel_db, nothing, day, dynamic))
    now, before = (dynamic[rows[:, k]].astype(np.float64) for k in (2, 1))
    expected = 0.19 + now @ [0.04, 0.07, 0.12] - 0.01 * before[:, 0]

    got = HEADS[engine](readout_of(HEAD, LAYOUT, CHANNELS), tile)

    assert np.abs(got - expected).max() <= 1e-6


@pytest.mark.parametrize("engine", HEADS)
@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.05, 0.40)])
def test_the_index_is_the_normal_distribution_function_in_every_engine(engine, limits):
    rng = np.random.default_rng(3)
    tile = rng.normal(0, 1.5, (3, 2000, 6)).astype(np.float32)
    terms = (Term("vh_anomaly", 0, 0.5), Term("vh_anomaly_scene", 0, 0.5))
    head_of_index = Head("index", 0.0, terms, 0.0, limits)
    z, z_scene = tile[2, :, 1] * 1.1 + 0.1, tile[2, :, 2] * 0.8 - 0.2
    expected = limits[0] + (limits[1] - limits[0]) * norm.cdf(0.5 * z + 0.5 * z_scene)

    got = HEADS[engine](readout_of(head_of_index, LAYOUT, CHANNELS), tile)

    assert got.dtype == np.float32
    assert np.abs(got - expected).max() <= 1e-6
    assert (got >= np.float32(limits[0])).all() and (got <= np.float32(limits[1])).all()


def test_torch_gradient_of_log_a_is_the_finite_difference():
    model = CASES["paper"]
    layer = WcmIsolation(model).double()
    x = [torch.tensor(v, dtype=torch.float64) for v in ([-16.0, -19.0], [0.6, 0.9], [40.0, 40.0])]
    layer(*x)[0].sum().backward()
    step = 1e-6
    values = []
    for sign in (-1, 1):
        moved = WcmIsolation(model.replace_a(model.a * np.exp(sign * step))).double()
        moved.log_a.data = torch.tensor(np.log(model.a) + sign * step, dtype=torch.float64)
        values.append(moved(*x)[0].sum().item())
    assert layer.log_a.grad.item() == pytest.approx((values[1] - values[0]) / (2 * step), rel=1e-6)
    assert layer.log_a.grad.item() < 0  # more vegetation leaves less soil


def test_lost_soil_signal_stays_finite_with_a_live_gradient():
    layer = WcmIsolation(CASES["paper"].replace_a(0.4))
    soil_db, fraction = layer(*(torch.tensor([v]) for v in (-25.0, 0.9, 40.0)))
    soil_db.sum().backward()
    assert fraction.item() < 0
    assert np.isfinite(soil_db.item())
    assert np.isfinite(layer.log_a.grad.item()) and layer.log_a.grad.item() != 0
