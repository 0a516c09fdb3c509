"""Smooth an archive: every day from the passes before and after it.

The filter runs forward and keeps, for each paddock, mean m and covariance P of its part
(c, k, o, g, a, b) of the state before and after the passes of each day. Rauch, Tung and Striebel
(1965) go back over them, with A the decay of c and a:

    J = P_t A (P-_{t+1})^-1,   m_t^s = m_t + J (m_{t+1}^s - m-_{t+1}),
    P_t^s = P_t + J (P_{t+1}^s - P-_{t+1}) J^T

The forward run keeps its state every SEGMENT days; going back, one segment at a time is run again
and its views are kept, so that the memory grows with paddocks and not with days.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np

from .filter import HUB, LEAF, Array, Filter
from .parameters import Parameters
from .run import Drive, Estimates, PassValues, finished, passes_of_day

STATES = HUB + LEAF
#: Index of the states that decay: c, then a.
_C, _A = 0, HUB + 2
SEGMENT = 32


def smooth(parameters: Parameters, rain: Drive, seen: PassValues) -> Estimates:
    """Estimate all days from all passes, as :func:`kgsm_infer.daily.run.estimate` does from the
    passes up to each."""
    days, count = rain.expected.shape[0], len(rain.series)
    state = Filter(parameters.residual, count, seen.bias_var)
    state.forget_start(parameters.bucket.variance, rain.common)
    bounds = np.searchsorted(seen.day, np.arange(days + 1))

    def advance(state: Filter, t: int, before: _Views | None = None) -> None:
        state.step(rain.unknown[t], rain.expected[t], rain.series, rain.common, t)
        if before is not None:
            before.keep(t % SEGMENT, state)
        for one in passes_of_day(rain, seen, t, slice(bounds[t], bounds[t + 1])):
            state.update(one)

    shape = (days, count)
    mean, variance, weight = (np.empty(shape, np.float32) for _ in range(3))
    starts = []
    for t in range(days):
        if t % SEGMENT == 0:
            starts.append(copy.deepcopy(state))
        advance(state, t)
        day = state.estimate(rain.expected[t][rain.series])
        weight[t] = day.variance / np.maximum(1 - day.weight, 1e-6)  # without any pass
    back = _Backward(parameters)
    before, after = _Views(SEGMENT, count), _Views(SEGMENT, count)
    for start in range(len(starts) - 1, -1, -1):
        again = starts.pop()
        segment = range(start * SEGMENT, min((start + 1) * SEGMENT, days))
        for t in segment:
            advance(again, t, before)
            after.keep(t % SEGMENT, again)
        for t in reversed(segment):
            i = t % SEGMENT
            own = back.step(before.day(i), after.day(i))
            expected = rain.expected[t][rain.series]
            scale, slope = state.regressors(expected)
            row = np.stack([scale, scale, scale, slope, scale, np.zeros(count)], axis=1)
            mean[t] = expected + np.einsum("ni,ni->n", row, own.mean)
            variance[t] = np.einsum("ni,nij,nj->n", row, own.cov, row)
            variance[t] += parameters.residual.noise_var * scale**2
    weight = np.clip(1 - variance / weight, 0, 1)
    return finished(parameters, mean, variance, weight)


@dataclass(frozen=True)
class _View:
    """Mean (N, 6) and covariance (N, 6, 6) of each paddock's own view on one day."""

    mean: Array
    cov: Array


class _Backward:
    """The recursion of Rauch, Tung and Striebel, from the last day on."""

    def __init__(self, parameters: Parameters) -> None:
        self.decay = np.ones(STATES)
        self.decay[_C] = parameters.residual.common_phi
        self.decay[_A] = parameters.residual.paddock_phi
        self.smoothed: _View | None = None
        self.next_before: _View | None = None

    def step(self, before: _View, after: _View) -> _View:
        """Smooth a day from its views before and after its passes."""
        mean, cov = after.mean.copy(), after.cov.copy()
        if self.smoothed is not None and self.next_before is not None:
            gain = np.linalg.solve(self.next_before.cov, after.cov * self.decay[:, None])
            gain = gain.swapaxes(1, 2)
            mean += np.einsum("nij,nj->ni", gain, self.smoothed.mean - self.next_before.mean)
            cov += gain @ (self.smoothed.cov - self.next_before.cov) @ gain.swapaxes(1, 2)
        self.smoothed = _View(mean, cov)
        self.next_before = _View(before.mean.copy(), before.cov.copy())
        return self.smoothed


class _Views:
    """Each paddock's own view of the state on some days: means (K, N, 6), covariances."""

    def __init__(self, days: int, count: int) -> None:
        self.mean: Array = np.empty((days, count, STATES))
        self.cov: Array = np.empty((days, count, STATES, STATES))

    def keep(self, i: int, state: Filter) -> None:
        """Keep the state as day ``i``."""
        self.mean[i, :, :HUB] = state.hub_mean
        self.mean[i, :, HUB:] = state.mean.T
        self.cov[i, :, :HUB, :HUB] = state.hub_cov
        self.cov[i, :, HUB:, HUB:] = state.cov.transpose(2, 0, 1)
        self.cov[i, :, HUB:, :HUB] = state.cross.transpose(2, 0, 1)
        self.cov[i, :, :HUB, HUB:] = state.cross.transpose(2, 1, 0)

    def day(self, i: int) -> _View:
        """Return the view of day ``i``."""
        return _View(self.mean[i], self.cov[i])
