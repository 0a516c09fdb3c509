"""The two ONNX graphs of a model, built node by node.

Building them by hand keeps them what design §3 asks: one LSTM node per member, named
nodes and tensors, no shape arithmetic, a dynamic batch N, and the same flags and NaN as
the C core. Opset and IR version are pinned, so old runtimes can read them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from kgsm_infer import flags
from kgsm_infer.card import Card, card_domain
from kgsm_infer.kernels.domain import Domain
from kgsm_infer.kernels.wcm import DB_TO_NEPER, VWC_NDVI2, VWC_ROOT, VWC_ROOT_LOW, Wcm

from ..learning.network import KnowledgeGuidedLSTM

OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and constants under construction, for windows of ``steps`` acquisitions.

    Every tensor is named by its maker.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append one node named after its output; returns the output's name."""
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=f"{output}/{op}", **attributes)
        )
        return output

    def constant(self, name: str, value: ArrayLike, dtype: type = np.float32) -> str:
        """A named constant; returns its name."""
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def any_of(self, output: str, names: Sequence[str]) -> str:
        """Logical or of boolean tensors."""
        result = names[0]
        for i, name in enumerate(names[1:], start=1):
            result = self.node(
                "Or", [result, name], f"{output}_{i}" if i < len(names) - 1 else output
            )
        return result if len(names) > 1 else self.node("Identity", [result], output)

    def outside(self, name: str, low: float, high: float) -> str:
        """True where a tensor is a number outside [low, high]."""
        below = self.node("Less", [name, self.constant(f"{name}_low", low)], f"{name}_below")
        above = self.node("Greater", [name, self.constant(f"{name}_high", high)], f"{name}_above")
        return self.node("Or", [below, above], f"{name}_outside")

    def any_channel(self, flag: str) -> str:
        """Logical or over the last axis of a boolean tensor."""
        number = self.node("Cast", [flag], f"{flag}_number", to=TensorProto.FLOAT)
        most = self.node("ReduceMax", [number], f"{flag}_any_number", axes=[-1], keepdims=0)
        return self.node("Cast", [most], f"{flag}_any", to=TensorProto.BOOL)

    def scale(self, name: str, mean: ArrayLike, std: ArrayLike) -> str:
        """(x - mean) * (1 / std), float32."""
        inv_std = np.float32(1) / np.asarray(std, np.float32)
        centred = self.node("Sub", [name, self.constant(f"{name}_mean", mean)], f"{name}_centred")
        return self.node(
            "Mul", [centred, self.constant(f"{name}_inv_std", inv_std)], f"{name}_scaled"
        )

    def last(self, name: str) -> str:
        """The target acquisition of an (N, T) tensor, (N,)."""
        index = self.constant("target_step", self.steps - 1, np.int64)
        return self.node("Gather", [name, index], f"{name}_at_target", axis=1)


def core_graph(network: KnowledgeGuidedLSTM, card: Card) -> onnx.ModelProto:
    """Packed tile (T, N, F) in, SM (N,) out, neither clipped nor masked."""
    graph = Graph(card.steps)
    _lstm_members(graph, network, "sm")
    tile = helper.make_tensor_value_info(
        "tile", TensorProto.FLOAT, [card.steps, "N", card.layout.channels], "packed LSTM input"
    )
    sm = helper.make_tensor_value_info("sm", TensorProto.FLOAT, ["N"], "m3 m-3, unclipped")
    return _model(graph, f"kgsm {card.kind} core", [tile], [sm])


def complete_graph(network: KnowledgeGuidedLSTM, card: Card) -> onnx.ModelProto:
    """Raw observations in; SM, soil backscatter and flags out, NaN where no number is due."""
    graph = Graph(card.steps)
    node, constant = graph.node, graph.constant
    layout, wcm = card.layout, card.wcm
    fd, fs = layout.dynamic, layout.statics
    plane: list[str | int] = ["N", card.steps]
    inputs = [helper.make_tensor_value_info("sigma0_db", TensorProto.FLOAT, plane, "dB")]

    def add_input(name: str, shape: Sequence[str | int], unit: str) -> None:
        inputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, unit))

    # the backscatter channel and what can be wrong with it
    missing = [node("IsNaN", ["sigma0_db"], "sigma0_db_missing")]
    outside = [graph.outside("sigma0_db", *card.limits.sigma0_db)]
    if wcm is not None:
        name = wcm.vegetation_name
        limits = wcm.limits.ndvi if name == "ndvi" else wcm.limits.vwc_kg_m2
        add_input(name, plane, "1" if name == "ndvi" else "kg m-2")
        missing.append(node("IsNaN", [name], f"{name}_missing"))
        outside.append(graph.outside(name, *limits))
        if wcm.needs_angle:
            add_input("angle_deg", plane, "degrees, incidence")
            missing.append(node("IsNaN", ["angle_deg"], "angle_deg_missing"))
            outside.append(graph.outside("angle_deg", *wcm.limits.angle_deg))
    add_input("day", plane, "days, any origin; NaN is padding")
    is_missing = graph.any_of("backscatter_missing", missing)
    is_outside = graph.any_of("backscatter_outside", outside)
    lost = dense = None
    channel = "sigma0_db"
    if wcm is not None:
        channel, fraction, vwc = _isolation(graph, wcm)
        limit = constant("min_soil_fraction", wcm.min_soil_fraction)
        kept = node("GreaterOrEqual", [fraction, limit], "soil_signal_kept")
        bad = node("Or", [is_missing, is_outside], "backscatter_bad")
        not_bad = node("Not", [bad], "backscatter_good")
        not_kept = node("Not", [kept], "soil_signal_not_kept")
        lost = node("And", [not_bad, not_kept], "soil_signal_lost")
        limit = constant("dense_vwc_kg_m2", wcm.limits.dense_vwc_kg_m2)
        denser = node("Greater", [vwc, limit], "vwc_above_limit")
        dense = node("And", [not_bad, denser], "dense_vegetation")

    # what else an acquisition needs
    step_missing = [is_missing, node("IsNaN", ["day"], "day_missing")]
    step_outside = [is_outside, node("IsInf", ["day"], "day_infinite")]
    if fd:
        add_input("features", [*plane, fd], ", ".join(card.names("dynamic")))
        step_missing.append(graph.any_channel(node("IsNaN", ["features"], "features_missing")))
        step_outside.append(graph.any_channel(node("IsInf", ["features"], "features_infinite")))
    step_missing_all = graph.any_of("step_missing", step_missing)
    step_outside_all = graph.any_of("step_outside", step_outside)
    step_bad = graph.any_of(
        "step_bad", [step_missing_all, step_outside_all, *([lost] if lost else [])]
    )
    valid = node("Not", [step_bad], "valid")

    # the tile: scaled channels, all zero in a step that is not valid
    last_axis = constant("last_axis", [2], np.int64)
    valid3 = node("Unsqueeze", [valid, last_axis], "valid_step")
    zero = constant("zero", 0.0)
    mean, std = np.asarray(layout.mean, np.float32), np.asarray(layout.std, np.float32)
    channels = [
        node("Unsqueeze", [graph.scale(channel, mean[0], std[0]), last_axis], "backscatter_channel")
    ]
    if fd:
        channels.append(graph.scale("features", mean[1 : 1 + fd], std[1 : 1 + fd]))
    static_bad: list[str] = []
    if fs:
        add_input("statics", ["N", fs], ", ".join(card.names("static")))
        at = slice(1 + fd, 1 + fd + fs)
        nan, inf = (
            node("IsNaN", ["statics"], "statics_missing"),
            node("IsInf", ["statics"], "statics_infinite"),
        )
        either = node("Or", [nan, inf], "statics_bad")
        finite = node(
            "Where", [either, zero, graph.scale("statics", mean[at], std[at])], "statics_finite"
        )
        middle = constant("middle_axis", [1], np.int64)
        channels.append(node("Unsqueeze", [finite, middle], "statics_channel"))
        static_bad = [graph.any_channel(nan), graph.any_channel(inf)]
    channels.append(
        node(
            "Unsqueeze",
            [graph.scale(_gap_days(graph), mean[-1], std[-1]), last_axis],
            "gap_channel",
        )
    )
    masked = [node("Where", [valid3, name, zero], f"{name}_masked") for name in channels]
    masked.append(node("Cast", [valid3], "valid_channel", to=TensorProto.FLOAT))
    by_site = node("Concat", masked, "tile_by_site", axis=2)
    node("Transpose", [by_site], "tile", perm=[1, 0, 2])  # (N, T, F) -> (T, N, F)
    raw = _lstm_members(graph, network, "sm_unclipped")

    # flags of the target acquisition
    bits = [
        (
            flags.MISSING_INPUT,
            graph.any_of("missing_input", [graph.last(step_missing_all), *static_bad[:1]]),
        ),
        (
            flags.INPUT_OUT_OF_RANGE,
            graph.any_of("input_out_of_range", [graph.last(step_outside_all), *static_bad[1:]]),
        ),
    ]
    if lost and dense:
        bits.append((flags.SOIL_SIGNAL_LOST, graph.last(lost)))
    without = graph.any_of("no_number", [name for _, name in bits])
    if lost and dense:
        bits.append((flags.DENSE_VEGETATION, graph.last(dense)))
    if card.steps > 1:
        number = node("Cast", [valid], "valid_number", to=TensorProto.FLOAT)
        before = _steps(graph, number, 0, card.steps - 1, "valid_before_target")
        least = node("ReduceMin", [before], "valid_before_least", axes=[1], keepdims=0)
        bits.append(
            (flags.SHORT_HISTORY, node("Less", [least, constant("half", 0.5)], "short_history"))
        )
    low, high = constant("sm_low", card.limits.sm[0]), constant("sm_high", card.limits.sm[1])
    beyond = node(
        "Or",
        [node("Less", [raw, low], "sm_below"), node("Greater", [raw, high], "sm_above")],
        "sm_outside",
    )
    with_number = node("Not", [without], "with_number")
    domain = card_domain(card)
    if domain is not None:
        outside_domain = node("And", [with_number, _dissimilar(graph, domain)], "outside_domain")
        bits.append((flags.OUTSIDE_DOMAIN, outside_domain))
    bits.append((flags.SM_CLIPPED, node("And", [with_number, beyond], "sm_clipped")))
    _sum_of_bits(graph, bits, "flags")

    # numbers, NaN where none is due
    nan_value = constant("nan", np.nan)
    clipped = node("Clip", [raw, low, high], "sm_in_limits")
    node("Where", [without, nan_value, clipped], "sm")
    if wcm is not None:
        node("Where", [without, nan_value, graph.last(channel)], "soil_db")
    else:
        node("Mul", [raw, nan_value], "soil_db")
    outputs = [
        helper.make_tensor_value_info("sm", TensorProto.FLOAT, ["N"], "m3 m-3"),
        helper.make_tensor_value_info("soil_db", TensorProto.FLOAT, ["N"], "dB"),
        helper.make_tensor_value_info(
            "flags", TensorProto.INT32, ["N"], "bits: " + " ".join(flags.NAMES)
        ),
    ]
    if card.interval is not None:
        for name in ("lower", "upper"):
            offset = constant(f"sm_{name}_offset", card.interval[name])
            moved = node("Add", [clipped, offset], f"sm_{name}_moved")
            kept_in = node("Clip", [moved, low, high], f"sm_{name}_in_limits")
            node("Where", [without, nan_value, kept_in], f"sm_{name}")
            outputs.append(
                helper.make_tensor_value_info(f"sm_{name}", TensorProto.FLOAT, ["N"], "m3 m-3")
            )
    return _model(graph, f"kgsm {card.kind} complete", inputs, outputs)


def _isolation(graph: Graph, wcm: Wcm) -> tuple[str, str, str]:
    """Eqs 1, 2, 4, 5 and 12 as nodes: names of soil_db, soil_fraction and vwc."""
    node, constant = graph.node, graph.constant
    vwc = "vwc_kg_m2"
    if wcm.vwc_rule == "foliage":  # max(0, 1.9134 N**2 - 0.3215 N) + stem
        # as 1.9134 N (N - root), the root in two floats: see VWC_ROOT
        steep = node("Mul", ["ndvi", constant("vwc_ndvi2", VWC_NDVI2)], "ndvi_times_vwc_ndvi2")
        above = node("Sub", ["ndvi", constant("vwc_root", VWC_ROOT)], "ndvi_above_root_rounded")
        above = node("Sub", [above, constant("vwc_root_low", VWC_ROOT_LOW)], "ndvi_above_root")
        foliage = node("Mul", [steep, above], "foliage_unbounded")
        foliage = node("Max", [foliage, constant("zero", 0.0)], "foliage_kg_m2")
        vwc = node("Add", [foliage, constant("stem_kg_m2", wcm.stem_kg_m2)], "vwc")
    neper = node("Mul", ["sigma0_db", constant("db_to_neper", DB_TO_NEPER)], "sigma0_neper")
    sigma0 = node("Exp", [neper], "sigma0")
    if wcm.angle_rule != "column":
        cos_theta = constant("cos_ref", math.cos(math.radians(wcm.angle_ref_deg)))
    if wcm.needs_angle:
        # the sine of the complement, which is exact, keeps the digits of a steep angle
        complement = node("Sub", [constant("right_angle", 90.0), "angle_deg"], "complement_deg")
        per_degree = constant("radians_per_deg", math.pi / 180)
        cos_angle = node("Sin", [node("Mul", [complement, per_degree], "complement")], "cos_angle")
        if wcm.angle_rule == "normalise":
            ratio = node("Div", [cos_theta, cos_angle], "cos_ratio")
            power = node(
                "Pow", [ratio, constant("angle_exponent", wcm.angle_exponent)], "to_ref_angle"
            )
            sigma0 = node("Mul", [sigma0, power], "sigma0_at_ref")
        else:
            cos_theta = cos_angle
    # gamma2 = exp(-2 tau / cos theta), tau = B V                                (4) (5)
    two_b_v = node("Mul", [vwc, constant("two_b", 2 * wcm.b)], "two_b_vwc")
    two_tau = node("Div", [two_b_v, cos_theta], "two_tau")
    # sigma_veg = A V**E cos theta (1 - gamma2)                                      (2)
    # with 1 - exp(-x) = 2 t / (1 + t), t = tanh(x / 2): thin vegetation keeps its digits
    half = node("Tanh", [node("Mul", [two_tau, constant("half", 0.5)], "tau")], "tanh_tau")
    twice = node("Add", [half, half], "two_tanh_tau")
    above = node("Add", [half, constant("one", 1.0)], "one_plus_tanh_tau")
    absorbed = node("Div", [twice, above], "one_minus_gamma2")
    a_cos = node("Mul", [constant("a", wcm.a), cos_theta], "a_cos_theta")
    sigma_veg = node("Mul", [a_cos, absorbed], "sigma_veg" if wcm.e == 0 else "sigma_veg_per_vwc_e")
    if wcm.e != 0:
        v_e = node("Pow", [vwc, constant("e", wcm.e)], "vwc_to_e")
        sigma_veg = node("Mul", [sigma_veg, v_e], "sigma_veg")
    # sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)                  (1) (12)
    left = node("Sub", [sigma0, sigma_veg], "sigma0_minus_veg")
    fraction = node("Div", [left, sigma0], "soil_fraction")
    neper_soil = node("Add", [node("Log", [left], "log_left"), two_tau], "soil_neper")
    soil_db = node("Mul", [neper_soil, constant("neper_to_db", 1 / DB_TO_NEPER)], "soil_db_of_step")
    return soil_db, fraction, vwc


def _dissimilar(graph: Graph, domain: Domain) -> str:
    """True where the dissimilarity index passes the threshold (kgsm_infer.kernels.domain)."""
    node, constant = graph.node, graph.constant
    target = graph.last("tile_by_site")  # (N, F)
    kept = constant("domain_channels", np.arange(domain.points.shape[1]), np.int64)
    x = node("Gather", [target, kept], "domain_target", axis=1)
    # |x - p|**2 = |x|**2 - 2 x.p + |p|**2, against (threshold * mean distance)**2
    cross = node("MatMul", [x, constant("domain_points", -2 * domain.points.T)], "domain_cross")
    own = constant("domain_points_square", (domain.points**2).sum(axis=1))
    towards = node("Add", [cross, own], "domain_towards")
    nearest = node("ReduceMin", [towards], "domain_nearest", axes=[1], keepdims=0)
    square = node("Mul", [x, x], "domain_target_square")
    axis = constant("step_axis", [1], np.int64)
    norm = node("ReduceSum", [square, axis], "domain_target_norm", keepdims=0)
    distance = node("Add", [nearest, norm], "domain_distance_square")
    limit = constant("domain_limit", (domain.threshold * domain.mean_distance) ** 2)
    return node("Greater", [distance, limit], "domain_passed")


def _gap_days(graph: Graph) -> str:
    """Days since the previous step of the window, 0 where unknown: (N, T)."""
    if graph.steps == 1:
        nothing = graph.node("Sub", ["day", "day"], "no_gap")
    else:
        later = _steps(graph, "day", 1, graph.steps, "day_later")
        earlier = _steps(graph, "day", 0, graph.steps - 1, "day_earlier")
        between = graph.node("Sub", [later, earlier], "days_between")
        pads = graph.constant("one_step_in_front", [0, 1, 0, 0], np.int64)
        nothing = graph.node("Pad", [between, pads], "gap_or_nan")
    unknown = graph.node("IsNaN", [nothing], "gap_nan")
    endless = graph.node("IsInf", [nothing], "gap_infinite")
    either = graph.node("Or", [unknown, endless], "gap_unknown")
    return graph.node("Where", [either, graph.constant("zero", 0.0), nothing], "gap_days")


def _steps(graph: Graph, name: str, start: int, stop: int, output: str) -> str:
    """Steps start..stop of an (N, T) tensor."""
    bounds = [
        graph.constant(f"{output}_start", [start], np.int64),
        graph.constant(f"{output}_stop", [stop], np.int64),
        graph.constant("step_axis", [1], np.int64),
    ]
    return graph.node("Slice", [name, *bounds], output)


def _lstm_members(graph: Graph, network: KnowledgeGuidedLSTM, output: str) -> str:
    """Tile (T, N, F) to SM (N,): M LSTM nodes, their heads, and the mean of them."""
    estimates = []
    for m, (lstm, head) in enumerate(zip(network.lstms, network.heads, strict=True)):
        prefix = f"member{m}"
        of_lstm, of_head = _arrays(lstm), _arrays(head)
        # torch orders the gates i, f, g, o; ONNX i, o, f, c
        w, r, b_w, b_r = (
            _onnx_gates(of_lstm[name])
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        names = [
            graph.constant(f"{prefix}_w", w[None]),
            graph.constant(f"{prefix}_r", r[None]),
            graph.constant(f"{prefix}_b", np.concatenate([b_w, b_r])[None]),
        ]
        graph.nodes.append(
            helper.make_node(
                "LSTM",
                ["tile", *names],
                ["", f"{prefix}_last_hidden"],
                name=f"{prefix}/LSTM",
                hidden_size=network.hidden,
            )
        )
        first_axis = graph.constant("first_axis", [0], np.int64)
        hidden = graph.node("Squeeze", [f"{prefix}_last_hidden", first_axis], f"{prefix}_hidden")
        # the labels' mean and spread are folded into the head
        weight = of_head["weight"].astype(np.float64) * network.sm_std
        bias = of_head["bias"].astype(np.float64) * network.sm_std + network.sm_mean
        estimates.append(
            graph.node(
                "Gemm",
                [
                    hidden,
                    graph.constant(f"{prefix}_head_weight", weight),
                    graph.constant(f"{prefix}_head_bias", bias),
                ],
                f"{prefix}_sm",
                transB=1,
            )
        )
    together = graph.node("Concat", estimates, "sm_of_members", axis=1)
    return graph.node("ReduceMean", [together], output, axes=[1], keepdims=0)


def _arrays(layer: nn.Module) -> dict[str, NDArray[np.float32]]:
    """A layer's parameters by name."""
    return {name: value.detach().numpy() for name, value in layer.named_parameters()}


def _onnx_gates(torch_gates: np.ndarray) -> np.ndarray:
    i, f, g, o = np.split(torch_gates, 4)
    return np.concatenate([i, o, f, g])


def _sum_of_bits(graph: Graph, bits: Sequence[tuple[int, str]], output: str) -> str:
    """Disjoint bits added to one int32 mask."""
    numbers = []
    for bit, name in bits:
        one = graph.node("Cast", [name], f"{name}_int", to=TensorProto.INT32)
        value = graph.constant(f"bit_{bit}", bit, np.int32)
        numbers.append(graph.node("Mul", [one, value], f"{name}_bit"))
    total = numbers[0]
    for i, name in enumerate(numbers[1:], start=1):
        last = i == len(numbers) - 1
        total = graph.node("Add", [total, name], output if last else f"{output}_{i}")
    return total


def _model(
    graph: Graph,
    name: str,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """A checked model: full check and strict shape inference both pass, or they raise."""
    proto = helper.make_graph(graph.nodes, name, inputs, outputs, list(graph.constants.values()))
    model = helper.make_model(
        proto,
        producer_name="kgsm",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
    )
    onnx.checker.check_model(model, full_check=True)
    onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    return model
