"""The LSTM's equations in float64, and weights and windows to try them on."""

from __future__ import annotations

import numpy as np

from kgsm_infer.kernels.lstm import LstmWeights


def random_weights(
    hidden: int, members: int = 1, channels: int = 5, steps: int = 4, seed: int = 0
) -> LstmWeights:
    """As large as a trained network's, and a little larger."""
    rng = np.random.default_rng(seed)

    def uniform(*shape: int) -> np.ndarray:
        return rng.uniform(-0.6, 0.6, shape).astype(np.float32)

    return LstmWeights(
        steps,
        uniform(members, 4 * hidden, channels),
        uniform(members, 4 * hidden, hidden),
        uniform(members, 8 * hidden),
        uniform(members, hidden),
        uniform(members),
    )


def windows(weights: LstmWeights, n: int, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1.5, (weights.steps, n, weights.w.shape[2])).astype(np.float32)


def in_float64(weights: LstmWeights, tile: np.ndarray) -> np.ndarray:
    """The ONNX standard's equations, unit by unit of their definition, in float64."""
    estimates = []
    for w, r, b, head, bias in zip(
        *(np.asarray(part, np.float64) for part in weights[1:]), strict=True
    ):
        hidden = len(head)
        h = c = np.zeros((tile.shape[1], hidden))
        for x in tile.astype(np.float64):
            z = x @ w.T + h @ r.T + b[: 4 * hidden] + b[4 * hidden :]
            i, o, f = (1 / (1 + np.exp(-z[:, k * hidden : (k + 1) * hidden])) for k in range(3))
            c = f * c + i * np.tanh(z[:, 3 * hidden :])
            h = o * np.tanh(c)
        estimates.append(h @ head + bias)
    return np.mean(estimates, axis=0)
