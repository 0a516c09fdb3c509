"""Tools to build graphs: named nodes, constants, and the checked model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike
from onnx import TensorProto, helper, numpy_helper

OPSET, IR_VERSION = 17, 8


class Graph:
    """Nodes and constants under construction, for windows of ``steps`` acquisitions.

    Every tensor is named by its maker.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}
        self._made: set[str] = set()

    def node(self, op: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Append one node named after its output, unless it exists; returns the output's name."""
        if output in self._made:
            return output
        self._made.add(output)
        self.nodes.append(
            helper.make_node(op, list(inputs), [output], name=f"{output}/{op}", **attributes)
        )
        return output

    def constant(self, name: str, value: ArrayLike, dtype: type = np.float32) -> str:
        """Add a named constant; returns its name."""
        self.constants.setdefault(name, numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def any_of(self, output: str, names: Sequence[str]) -> str:
        """Add the logical or of boolean tensors."""
        result = names[0]
        for i, name in enumerate(names[1:], start=1):
            result = self.node(
                "Or", [result, name], f"{output}_{i}" if i < len(names) - 1 else output
            )
        return result if len(names) > 1 else self.node("Identity", [result], output)

    def outside(self, name: str, low: ArrayLike, high: ArrayLike) -> str:
        """Add a test for numbers outside [low, high] of each channel."""
        below = self.node("Less", [name, self.constant(f"{name}_low", low)], f"{name}_below")
        above = self.node("Greater", [name, self.constant(f"{name}_high", high)], f"{name}_above")
        return self.node("Or", [below, above], f"{name}_outside")

    def any_channel(self, flag: str) -> str:
        """Add the logical or over the last axis of a boolean tensor."""
        number = self.node("Cast", [flag], f"{flag}_number", to=TensorProto.FLOAT)
        most = self.node("ReduceMax", [number], f"{flag}_any_number", axes=[-1], keepdims=0)
        return self.node("Cast", [most], f"{flag}_any", to=TensorProto.BOOL)

    def scale(self, name: str, mean: ArrayLike, std: ArrayLike) -> str:
        """Add (x - mean) * (1 / std), float32."""
        inv_std = np.float32(1) / np.asarray(std, np.float32)
        centred = self.node("Sub", [name, self.constant(f"{name}_mean", mean)], f"{name}_centred")
        return self.node(
            "Mul", [centred, self.constant(f"{name}_inv_std", inv_std)], f"{name}_scaled"
        )

    def last(self, name: str) -> str:
        """Select the target acquisition of an (N, T) tensor, (N,)."""
        index = self.constant("target_step", self.steps - 1, np.int64)
        return self.node("Gather", [name, index], f"{name}_at_target", axis=1)

    def between(self, name: str, start: int, stop: int, output: str) -> str:
        """Select steps start..stop of an (N, T) tensor."""
        bounds = [
            self.constant(f"{output}_start", [start], np.int64),
            self.constant(f"{output}_stop", [stop], np.int64),
            self.constant("step_axis", [1], np.int64),
        ]
        return self.node("Slice", [name, *bounds], output)

    def sum_of_bits(self, bits: Sequence[tuple[int, str]], output: str) -> str:
        """Sum disjoint bits, each with its boolean tensor, to one int32 mask."""
        numbers = []
        for bit, name in bits:
            one = self.node("Cast", [name], f"{name}_int", to=TensorProto.INT32)
            value = self.constant(f"bit_{bit}", bit, np.int32)
            numbers.append(self.node("Mul", [one, value], f"{name}_bit"))
        total = numbers[0]
        for i, name in enumerate(numbers[1:], start=1):
            last = i == len(numbers) - 1
            total = self.node("Add", [total, name], output if last else f"{output}_{i}")
        return total


def checked_model(
    graph: Graph,
    name: str,
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """Make a model and check it: full check and strict shape inference, which raise."""
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
