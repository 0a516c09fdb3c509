"""Dense Kalman filter and smoother in float64, written from the equations of Kalman (1960) and
Rauch, Tung and Striebel (1965) alone: the reference of the split filter."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Dense:
    """Filtered and smoothed mean and variance, (D, N) each."""

    mean: np.ndarray
    variance: np.ndarray
    smooth_mean: np.ndarray
    smooth_variance: np.ndarray


def dense_filter(residual, expected, seen, errors, missing=None, start=0.0):
    """State (c, k, then o, g, a, b of each paddock); every pass of a day at once.

    expected, seen: (D, N), NaN where no pass.  errors: (point variance, date variance, bias
    variance).  missing: (D,) variance added to c.  start: variance added to c at first.
    """
    days, count = expected.shape
    point, date, bias = errors
    size = 2 + 4 * count
    variance = np.zeros(size)
    variance[:2] = residual.common_var + start, residual.common_offset_var
    decay, noise = np.ones(size), np.zeros(size)
    decay[0] = residual.common_phi
    noise[0] = residual.common_var * (1 - residual.common_phi**2)
    for i in range(count):
        at = 2 + 4 * i
        variance[at : at + 4] = (
            residual.offset_var,
            residual.gain_var,
            residual.paddock_var,
            bias,
        )
        decay[at + 2] = residual.paddock_phi
        noise[at + 2] = residual.paddock_var * (1 - residual.paddock_phi**2)
    transition = np.diag(decay)
    x, cov = np.zeros(size), np.diag(variance)
    before, after, rows = [], [], []
    for t in range(days):
        x = transition @ x
        extra = np.zeros(size)
        scale = max(expected[t, 0] / residual.mean, 0.1) ** residual.gamma
        extra[0] = 0.0 if missing is None else missing[t] / scale**2
        cov = transition @ cov @ transition.T + np.diag(noise + extra)
        before.append((x, cov))
        row = np.zeros((count, size))
        for i in range(count):
            scale = max(expected[t, i] / residual.mean, 0.1) ** residual.gamma
            row[i, :2] = scale
            row[i, 2 + 4 * i : 5 + 4 * i] = scale, expected[t, i] - residual.mean, scale
        rows.append(row)
        at = np.flatnonzero(np.isfinite(seen[t]))
        if len(at):
            h = row[at].copy()
            h[np.arange(len(at)), 5 + 4 * at] = 1.0
            shape = row[at, 0] / np.sqrt((row[at, 0] ** 2).mean())
            noise_cov = point * np.eye(len(at)) + date * np.outer(shape, shape)
            s = h @ cov @ h.T + noise_cov
            gain = np.linalg.solve(s, h @ cov).T
            x = x + gain @ (seen[t, at] - expected[t, at] - h @ x)
            left = np.eye(size) - gain @ h
            cov = left @ cov @ left.T + gain @ noise_cov @ gain.T
        after.append((x, cov))
    smooth = [after[-1]]
    for t in range(days - 2, -1, -1):
        gain = np.linalg.solve(before[t + 1][1], transition @ after[t][1]).T
        smooth.append(
            (
                after[t][0] + gain @ (smooth[-1][0] - before[t + 1][0]),
                after[t][1] + gain @ (smooth[-1][1] - before[t + 1][1]) @ gain.T,
            )
        )
    smooth = smooth[::-1]

    def out(states):
        mean = np.stack([expected[t] + rows[t] @ states[t][0] for t in range(days)])
        var = np.stack([np.diag(rows[t] @ states[t][1] @ rows[t].T) for t in range(days)])
        scale = np.maximum(expected / residual.mean, 0.1) ** residual.gamma
        return mean, var + residual.noise_var * scale**2

    return Dense(*out(after), *out(smooth))


def dense_likelihood(residual, expected, seen, errors, start):
    """Log density of the values (D, 1) of one paddock's passes, up to a constant.

    The covariance of the values is written out: scale 1, no gain, one pass a day.
    """
    point, date, bias = errors
    at = np.flatnonzero(np.isfinite(seen[:, 0]))
    apart = np.abs(at[:, None] - at)
    since = np.minimum(at[:, None], at)
    common = residual.common_phi**apart * (
        residual.common_var + start * residual.common_phi ** (2 * (since + 1))
    )
    own = residual.paddock_var * residual.paddock_phi**apart
    constant = residual.common_offset_var + residual.offset_var + bias
    cov = common + own + constant + (point + date) * np.eye(len(at))
    r = seen[at, 0] - expected[at, 0]
    return -0.5 * r @ np.linalg.solve(cov, r)
