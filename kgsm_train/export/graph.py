"""Build the two ONNX graphs of a model node by node.

Building them by hand keeps them what design §3 asks: one LSTM node per member, named
nodes and tensors, no shape arithmetic, a dynamic batch N, and the same flags and NaN as
the C core. Opset and IR version are pinned, so old runtimes can read them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from kgsm_infer.base import flags
from kgsm_infer.kernels.domain import Domain
from kgsm_infer.model.card import Card, card_domain, graph_inputs
from kgsm_infer.model.interval import Width, interval_of
from kgsm_infer.tables.columns import RULES

from ..learning.network import KnowledgeGuidedLSTM
from .lstm_nodes import lstm_members
from .nodes import Graph, checked_model
from .wcm_nodes import isolation

FLOAT = TensorProto.FLOAT


def core_graph(network: KnowledgeGuidedLSTM, card: Card) -> onnx.ModelProto:
    """Build the graph from packed tile (T, N, F) to SM (N,), neither clipped nor masked."""
    graph = Graph(card.steps)
    lstm_members(graph, network, "sm")
    sm = helper.make_tensor_value_info("sm", TensorProto.FLOAT, ["N"], "m3 m-3, unclipped")
    return checked_model(graph, f"kgsm {card.kind} core", _inputs(card, "core"), [sm])


def complete_graph(network: KnowledgeGuidedLSTM, card: Card) -> onnx.ModelProto:
    """Build the graph from observations to SM, soil backscatter and flags, NaN without a result."""
    graph = Graph(card.steps)
    seen = _backscatter(graph, card)
    steps = _usable_steps(graph, card, seen)
    window = _Window(seen, steps, _statics(graph, card))
    _tile(graph, card, window)
    raw = lstm_members(graph, network, "sm_unclipped")
    found = _flags(graph, card, window, raw)
    outputs = _numbers(graph, card, seen.channel, raw, found)
    return checked_model(graph, f"kgsm {card.kind} complete", _inputs(card, "complete"), outputs)


def _inputs(card: Card, role: str) -> list[onnx.ValueInfoProto]:
    """List the inputs of a graph according to the card."""
    return [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape, text)
        for name, shape, text in graph_inputs(card, role)
    ]


class _Backscatter(NamedTuple):
    """Names of (N, T) tensors: the channel in dB, and its possible flags.

    lost, dense: None in a plain LSTM, which removes no vegetation.
    """

    channel: str
    missing: str
    outside: str
    lost: str | None
    dense: str | None


def _backscatter(graph: Graph, card: Card) -> _Backscatter:
    """Add the backscatter channel: sigma0, or the soil backscatter below the vegetation."""
    node, constant, wcm = graph.node, graph.constant, card.wcm
    missing = [node("IsNaN", ["sigma0_db"], "sigma0_db_missing")]
    outside = [graph.outside("sigma0_db", *card.limits.sigma0_db)]
    end_db = RULES[f"{card.polarisation}_db"].high
    if card.limits.sigma0_db[1] >= end_db:  # the end itself is a fill value
        end = constant("backscatter_end_db", end_db)
        outside.append(node("GreaterOrEqual", ["sigma0_db", end], "sigma0_db_not_below_end"))
    if wcm is not None:
        name = wcm.vegetation_name
        limits = wcm.limits.ndvi if name == "ndvi" else wcm.limits.vwc_kg_m2
        missing.append(node("IsNaN", [name], f"{name}_missing"))
        outside.append(graph.outside(name, *limits))
        if wcm.needs_angle:
            missing.append(node("IsNaN", ["angle_deg"], "angle_deg_missing"))
            outside.append(graph.outside("angle_deg", *wcm.limits.angle_deg))
    is_missing = graph.any_of("backscatter_missing", missing)
    is_outside = graph.any_of("backscatter_outside", outside)
    if wcm is None:
        return _Backscatter("sigma0_db", is_missing, is_outside, None, None)
    channel, fraction, vwc = isolation(graph, wcm)
    limit = constant("min_soil_fraction", wcm.min_soil_fraction)
    kept = node("GreaterOrEqual", [fraction, limit], "soil_signal_kept")
    bad = node("Or", [is_missing, is_outside], "backscatter_bad")
    not_bad = node("Not", [bad], "backscatter_good")
    not_kept = node("Not", [kept], "soil_signal_not_kept")
    lost = node("And", [not_bad, not_kept], "soil_signal_lost")
    limit = constant("dense_vwc_kg_m2", wcm.limits.dense_vwc_kg_m2)
    denser = node("Greater", [vwc, limit], "vwc_above_limit")
    dense = node("And", [not_bad, denser], "dense_vegetation")
    return _Backscatter(channel, is_missing, is_outside, lost, dense)


class _Steps(NamedTuple):
    """Names of (N, T) boolean tensors: missing inputs of each acquisition, and its validity."""

    missing: str
    outside: str
    valid: str


def _usable_steps(graph: Graph, card: Card, seen: _Backscatter) -> _Steps:
    """Select acquisitions with all inputs: backscatter, day and dynamic features."""
    node = graph.node
    missing = [seen.missing, node("IsNaN", ["day"], "day_missing")]
    outside = [seen.outside, node("IsInf", ["day"], "day_infinite")]
    if card.steps > 1:
        outside.append(_no_history(graph, card))
    if card.names("dynamic"):
        missing.append(graph.any_channel(node("IsNaN", ["features"], "features_missing")))
        outside.append(graph.any_channel(graph.outside("features", *card.ranges("dynamic"))))
    all_missing = graph.any_of("step_missing", missing)
    all_outside = graph.any_of("step_outside", outside)
    lost = [seen.lost] if seen.lost else []
    bad = graph.any_of("step_bad", [all_missing, all_outside, *lost])
    return _Steps(all_missing, all_outside, node("Not", [bad], "valid"))


def _no_history(graph: Graph, card: Card) -> str:
    """Select steps (N, T) that cannot be the target's history
    (:func:`kgsm_infer.kernels.window.check_history`); makes ``known_day``, NaN there."""
    node, constant = graph.node, graph.constant
    target = graph.between("day", graph.steps - 1, graph.steps, "day_of_target")  # (N, 1)
    earlier = graph.between("day", 0, graph.steps - 1, "day_earlier")
    age = node("Sub", [target, earlier], "age_days")  # (N, T - 1)
    longest = constant("longest_history_days", (graph.steps - 1) * card.longest_gap_days)
    after = node("LessOrEqual", [age, constant("zero", 0.0)], "not_before_target")
    old = node("Greater", [age, longest], "too_old")
    out_of_reach = _of_all_steps(graph, node("Or", [after, old], "out_of_reach"))
    nan = constant("nan", np.nan)
    node("Where", [out_of_reach, nan, "day"], "day_in_reach")
    now = graph.between("day_in_reach", 0, graph.steps - 1, "day_in_reach_earlier")
    next_day = graph.between("day_in_reach", 1, graph.steps, "day_in_reach_later")
    out_of_order = _of_all_steps(graph, node("GreaterOrEqual", [now, next_day], "not_before_next"))
    node("Where", [out_of_order, nan, "day_in_reach"], "known_day")
    return node("Or", [out_of_reach, out_of_order], "no_history")


def _of_all_steps(graph: Graph, flag: str) -> str:
    """Append False for the target to a boolean tensor (N, T - 1) of the steps before it."""
    number = graph.node("Cast", [flag], f"{flag}_number", to=FLOAT)
    pads = graph.constant("one_step_behind", [0, 0, 0, 1], np.int64)
    padded = graph.node("Pad", [number, pads], f"{flag}_padded")
    return graph.node("Greater", [padded, graph.constant("half", 0.5)], f"{flag}_of_all")


class _Statics(NamedTuple):
    """Names of the statics' channel (N, 1, Fs) and of their flags, (N,) each."""

    channel: str
    missing: str
    outside: str


def _statics(graph: Graph, card: Card) -> _Statics | None:
    """Add the static properties of the site, scaled and finite; None if the model reads none."""
    fd, fs = card.layout.dynamic, card.layout.statics
    if not fs:
        return None
    node, constant = graph.node, graph.constant
    mean, std = np.asarray(card.layout.mean, np.float32), np.asarray(card.layout.std, np.float32)
    at = slice(1 + fd, 1 + fd + fs)
    nan = node("IsNaN", ["statics"], "statics_missing")
    beyond = graph.outside("statics", *card.ranges("static"))
    either = node("Or", [nan, beyond], "statics_bad")
    scaled = graph.scale("statics", mean[at], std[at])
    finite = node("Where", [either, constant("zero", 0.0), scaled], "statics_finite")
    middle = constant("middle_axis", [1], np.int64)
    channel = node("Unsqueeze", [finite, middle], "statics_channel")
    return _Statics(channel, graph.any_channel(nan), graph.any_channel(beyond))


class _Window(NamedTuple):
    """Names of the tensors of a window's inputs. statics: None if the model reads none."""

    backscatter: _Backscatter
    steps: _Steps
    statics: _Statics | None


def _tile(graph: Graph, card: Card, window: _Window) -> None:
    """Add the tensor ``tile`` (T, N, F): scaled channels, all zero in an invalid step."""
    node, fd = graph.node, card.layout.dynamic
    channel, statics = window.backscatter.channel, window.statics
    mean, std = np.asarray(card.layout.mean, np.float32), np.asarray(card.layout.std, np.float32)
    last_axis = graph.constant("last_axis", [2], np.int64)
    valid3 = node("Unsqueeze", [window.steps.valid, last_axis], "valid_step")
    zero = graph.constant("zero", 0.0)
    channels = [
        node("Unsqueeze", [graph.scale(channel, mean[0], std[0]), last_axis], "backscatter_channel")
    ]
    if fd:
        channels.append(graph.scale("features", mean[1 : 1 + fd], std[1 : 1 + fd]))
    if statics is not None:
        channels.append(statics.channel)
    gap = graph.scale(_gap_days(graph), mean[-1], std[-1])
    channels.append(node("Unsqueeze", [gap, last_axis], "gap_channel"))
    masked = [node("Where", [valid3, name, zero], f"{name}_masked") for name in channels]
    masked.append(node("Cast", [valid3], "valid_channel", to=TensorProto.FLOAT))
    by_site = node("Concat", masked, "tile_by_site", axis=2)
    node("Transpose", [by_site], "tile", perm=[1, 0, 2])  # (N, T, F) -> (T, N, F)


class _Flags(NamedTuple):
    """Names of (N,) boolean tensors: rows without a result, and each flag by its name."""

    without: str
    flags: Mapping[str, str]


def _flags(graph: Graph, card: Card, window: _Window, raw: str) -> _Flags:
    """Add the tensor ``flags`` (N,) of the target acquisition."""
    node, constant = graph.node, graph.constant
    seen, steps, statics = window.backscatter, window.steps, window.statics
    missing = [graph.last(steps.missing), *([statics.missing] if statics else [])]
    outside = [graph.last(steps.outside), *([statics.outside] if statics else [])]
    bits = [
        (flags.MISSING_INPUT, graph.any_of("missing_input", missing)),
        (flags.INPUT_OUT_OF_RANGE, graph.any_of("input_out_of_range", outside)),
    ]
    if seen.lost:
        bits.append((flags.SOIL_SIGNAL_LOST, graph.last(seen.lost)))
    without = graph.any_of("no_number", [name for _, name in bits])
    with_number = node("Not", [without], "with_number")
    if seen.dense:
        bits.append((flags.DENSE_VEGETATION, graph.last(seen.dense)))
    if card.steps > 1:
        bits.append((flags.SHORT_HISTORY, _short_history(graph, steps.valid)))
    unlike = [_long_gap(graph, card)] if card.steps > 1 else []
    domain = card_domain(card)
    if domain is not None:
        unlike.append(_dissimilar(graph, domain))
    if unlike:
        any_unlike = graph.any_of("unlike_training", unlike)
        bits.append(
            (flags.OUTSIDE_DOMAIN, node("And", [with_number, any_unlike], "outside_domain"))
        )
    low, high = constant("sm_low", card.limits.sm[0]), constant("sm_high", card.limits.sm[1])
    below, above = node("Less", [raw, low], "sm_below"), node("Greater", [raw, high], "sm_above")
    beyond = node("Or", [below, above], "sm_outside")
    bits.append((flags.SM_CLIPPED, node("And", [with_number, beyond], "sm_clipped")))
    if card.no_skill:  # of every window alike
        bits.append((flags.NO_SKILL, node("Or", [without, with_number], "no_skill")))
    graph.sum_of_bits(bits, "flags")
    return _Flags(without, {flags.names(bit): name for bit, name in bits})


def _short_history(graph: Graph, valid: str) -> str:
    """Select windows with an invalid acquisition before the target."""
    number = graph.node("Cast", [valid], "valid_number", to=TensorProto.FLOAT)
    before = graph.between(number, 0, graph.steps - 1, "valid_before_target")
    least = graph.node("ReduceMin", [before], "valid_before_least", axes=[1], keepdims=0)
    return graph.node("Less", [least, graph.constant("half", 0.5)], "short_history")


def _numbers(
    graph: Graph, card: Card, channel: str, raw: str, found: _Flags
) -> list[onnx.ValueInfoProto]:
    """Add SM and its interval within the limits, and the soil backscatter; NaN without a result."""
    node, constant = graph.node, graph.constant
    low, high = constant("sm_low", card.limits.sm[0]), constant("sm_high", card.limits.sm[1])
    nan_value, without = constant("nan", np.nan), found.without
    clipped = node("Clip", [raw, low, high], "sm_in_limits")
    node("Where", [without, nan_value, clipped], "sm")
    if card.wcm is not None:
        node("Where", [without, nan_value, graph.last(channel)], "soil_db")
    else:
        node("Mul", [raw, nan_value], "soil_db")
    bits = "bits: " + " ".join(flags.NAMES)
    outputs = [
        helper.make_tensor_value_info("sm", TensorProto.FLOAT, ["N"], "m3 m-3"),
        helper.make_tensor_value_info("soil_db", TensorProto.FLOAT, ["N"], "dB"),
        helper.make_tensor_value_info("flags", TensorProto.INT32, ["N"], bits),
    ]
    if card.interval is not None:
        width = interval_of(card.interval, card.names("dynamic")).point
        scale = _interval_factor(graph, card, width, clipped, found)
        for name, value in (("lower", width.lower), ("upper", width.upper)):
            offset = node("Mul", [scale, constant(f"{name}_offset", value)], f"sm_{name}_offset")
            moved = node("Add", [clipped, offset], f"sm_{name}_moved")
            kept_in = node("Clip", [moved, low, high], f"sm_{name}_in_limits")
            node("Where", [without, nan_value, kept_in], f"sm_{name}")
            outputs.append(
                helper.make_tensor_value_info(f"sm_{name}", TensorProto.FLOAT, ["N"], "m3 m-3")
            )
    return outputs


def _interval_factor(graph: Graph, card: Card, width: Width, clipped: str, found: _Flags) -> str:
    """Add the factor of the interval's offsets (:func:`kgsm_infer.model.interval.factor`)."""
    node, constant = graph.node, graph.constant
    total = constant("interval_intercept", width.intercept)
    for term in width.terms:
        if term.name == "sm":
            x = clipped
        elif term.name in card.names("dynamic"):
            at = constant(
                f"interval_{term.name}_at", card.names("dynamic").index(term.name), np.int64
            )
            x = node("Gather", [graph.last("features"), at], f"interval_{term.name}", axis=1)
        elif term.name in found.flags:
            x = node(
                "Cast", [found.flags[term.name]], f"interval_{term.name}", to=TensorProto.FLOAT
            )
        else:  # what the graph cannot know (frozen, context): not raised
            continue
        slope = constant(f"interval_slope_{term.name}", term.slope)
        share = node("Mul", [x, slope], f"interval_share_{term.name}")
        total = node("Add", [total, share], f"interval_with_{term.name}")
    low, high = (
        constant(f"interval_{end}", v)
        for end, v in zip(("least", "most"), width.bounds, strict=True)
    )
    unknown = node("IsNaN", [total], "interval_unknown")
    finite = node("Where", [unknown, high, total], "interval_finite")
    return node("Clip", [finite, low, high], "interval_factor")


def _dissimilar(graph: Graph, domain: Domain) -> str:
    """Select rows with a dissimilarity index above the threshold (kgsm_infer.kernels.domain)."""
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
    # NaN is outside too. On the very threshold float32 decides: rows whose index is within
    # 1e-3 of it may be flagged otherwise than by kgsm, which works those out in float64
    return node("Not", [node("LessOrEqual", [distance, limit], "domain_kept")], "domain_passed")


def _long_gap(graph: Graph, card: Card) -> str:
    """Select windows (N,) with a longer gap between steps than any in training."""
    node = graph.node
    longest = graph.constant("longest_gap_days", card.longest_gap_days)
    long = node("Greater", ["gap_days", longest], "gap_too_long")
    return graph.any_channel(long)


def _gap_days(graph: Graph) -> str:
    """Add the days since the previous step of the window, (N, T), 0 where unknown."""
    if graph.steps == 1:
        nothing = graph.node("Sub", ["day", "day"], "no_gap")
    else:
        later = graph.between("known_day", 1, graph.steps, "day_later")
        earlier = graph.between("known_day", 0, graph.steps - 1, "known_day_earlier")
        between = graph.node("Sub", [later, earlier], "days_between")
        pads = graph.constant("one_step_in_front", [0, 1, 0, 0], np.int64)
        nothing = graph.node("Pad", [between, pads], "gap_or_nan")
    unknown = graph.node("IsNaN", [nothing], "gap_nan")
    endless = graph.node("IsInf", [nothing], "gap_infinite")
    either = graph.node("Or", [unknown, endless], "gap_unknown")
    zero = graph.constant("zero", 0.0)
    return graph.node("Where", [either, zero, nothing], "gap_days")
