"""Averaged LSTMs as nodes, one LSTM node per member."""

from __future__ import annotations

import math

import numpy as np
from onnx import helper

from kgsm_infer.kernels.head import Readout

from ..learning.network import KnowledgeGuidedLSTM
from .nodes import Graph


def lstm_members(graph: Graph, network: KnowledgeGuidedLSTM, output: str) -> str:
    """Add M LSTM nodes, their heads and the mean: tile (T, N, F) to SM (N,)."""
    estimates = []
    for m in range(network.members.count):
        prefix = f"member{m}"
        weights = {name: weight.numpy() for name, weight in network.members.of(m).items()}
        # torch orders the gates i, f, g, o; ONNX i, o, f, c
        w, r, b_w, b_r = (
            _onnx_gates(weights[name])
            for name in ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
        )
        names = [
            # what only the physics head reads has no weight here
            graph.constant(f"{prefix}_w", (w * network.seen.numpy())[None]),
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
        # fold scale and offset of the labels, and the weight of the LSTM, into its head
        scale = network.scale
        weight = weights["weight"].astype(np.float64) * scale.std * network.shrink
        bias = weights["bias"].astype(np.float64) * scale.std + scale.mean
        bias = bias * network.shrink
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
    if network.readout is None:
        return graph.node("ReduceMean", [together], output, axes=[1], keepdims=0)
    sm = graph.node("ReduceMean", [together], "sm_of_lstm", axes=[1], keepdims=0)
    return graph.node("Add", [physics_head(graph, network.readout), sm], output)


def physics_head(graph: Graph, readout: Readout) -> str:
    """Add the nodes of the physics head: tile (T, N, F) to SM (N,), one product per step read."""
    total = graph.constant("physics_intercept", [readout.bias])
    channel_axis = graph.constant("channel_axis", [1], np.int64)
    for step in np.flatnonzero(readout.weight.any(axis=1))[::-1]:
        back = len(readout.weight) - 1 - step
        name = "physics_now" if back == 0 else f"physics_{back}_before"
        at = graph.constant(f"{name}_step", step, np.int64)
        channels = graph.node("Gather", ["tile", at], f"{name}_channels", axis=0)  # (N, F)
        slopes = graph.constant(f"{name}_slopes", readout.weight[step][:, None])
        part = graph.node("MatMul", [channels, slopes], f"{name}_column")
        line = graph.node("Squeeze", [part, channel_axis], name)
        total = graph.node("Add", [total, line], f"{name}_and_before")
    return total if readout.limits is None else _between_limits(graph, total, readout.limits)


def _between_limits(graph: Graph, line: str, limits: tuple[float, float]) -> str:
    """Add the nodes of the index: SM = low (1 - p) + high p, p = (1 + erf(line / sqrt 2)) / 2."""
    node, constant = graph.node, graph.constant
    scaled = node("Mul", [line, constant("sqrt_half", math.sqrt(0.5))], "physics_line_scaled")
    erf = node("Erf", [scaled], "physics_erf")
    half = node("Mul", [erf, constant("half", 0.5)], "physics_half_erf")
    p = node("Add", [half, constant("half", 0.5)], "physics_index")
    rest = node("Sub", [constant("one", 1.0), p], "physics_index_rest")
    dry, wet = constant("head_low", limits[0]), constant("head_high", limits[1])
    dry_part, wet_part = (
        node("Mul", [dry, rest], "physics_dry"),
        node("Mul", [wet, p], "physics_wet"),
    )
    between = node("Add", [dry_part, wet_part], "physics_between_limits")
    return node("Clip", [between, dry, wet], "physics_in_limits")


def _onnx_gates(torch_gates: np.ndarray) -> np.ndarray:
    i, f, g, o = np.split(torch_gates, 4)
    return np.concatenate([i, o, f, g])
