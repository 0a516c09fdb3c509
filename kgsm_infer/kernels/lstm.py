"""LSTM of a model file in NumPy, the same as ``kgsm_lstm_run`` of the C core.

Shapes: T steps, N windows, F channels, H hidden units, M members.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F32 = NDArray[np.float32]


class LstmWeights(NamedTuple):
    """Weights of M members, float32, gates in ONNX's order i, o, f, c.

    steps: T.  w: (M, 4H, F).  r: (M, 4H, H).  b: (M, 8H), input biases, then recurrent biases.
    head: (M, H).  head_bias: (M,).
    """

    steps: int
    w: F32
    r: F32
    b: F32
    head: F32
    head_bias: F32


def run(weights: LstmWeights, tile: F32) -> F32:
    """Compute SM (N,) of a tile (T, N, F): mean of the members, neither clipped nor masked.

    NaN in a window gives NaN. ValueError for a tile of another shape.
    """
    members, hidden = weights.head.shape
    if tile.ndim != 3 or tile.shape[0] != weights.steps or tile.shape[2] != weights.w.shape[2]:
        raise ValueError(
            f"expected a tile ({weights.steps}, N, {weights.w.shape[2]}), got {tile.shape}"
        )
    estimates = []
    for m in range(members):
        w, r = weights.w[m].T, weights.r[m].T
        bias = weights.b[m, : 4 * hidden] + weights.b[m, 4 * hidden :]
        h = np.zeros((tile.shape[1], hidden), np.float32)
        cell = np.zeros_like(h)
        for x in tile:
            # i, o, f, c = W x + R h + Wb + Rb
            i, o, f, c = np.split(x @ w + h @ r + bias, 4, axis=1)
            # C = sigmoid(f) C + sigmoid(i) tanh(c)
            cell = sigmoid(f) * cell + sigmoid(i) * np.tanh(c)
            # h = sigmoid(o) tanh(C)
            h = sigmoid(o) * np.tanh(cell)
        estimates.append(h @ weights.head[m] + weights.head_bias[m])
    return np.asarray(np.mean(estimates, axis=0), np.float32)


def sigmoid(z: F32) -> F32:
    """Compute 1 / (1 + exp(-z)) through tanh, so that no z overflows."""
    return np.asarray(0.5 + 0.5 * np.tanh(0.5 * z), np.float32)
