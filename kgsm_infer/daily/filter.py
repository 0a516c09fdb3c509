"""Combine the rain model with the passes: one Kalman filter for all paddocks.

The truth y of paddock i on day t is the bucket's value f plus a residual, and a pass observes it
with errors:

    y_it = f_it + s_it (c_t + k + o_i + a_it) + g_i (f_it - m),   s_it = (f_it / m)^gamma      (1)
    z_it = y_it + b_i + s_ip e_p + v_it,   s_ip = s_it / sqrt(mean_i s_it^2)                    (2)

    c    residual common to all paddocks, AR(1)         k    constant offset common to all
    o    constant offset of a paddock                   a    residual of a paddock, AR(1)
    g    gain of a paddock                              b    persistent error of the retrieval there
    e    error shared by all paddocks of one pass p     v    error of one paddock in one pass

AR(1): x_t = phi x_{t-1} + q_t with Var(q) = Var(x) (1 - phi^2). s makes the residual grow with
moisture: on OzNet its standard deviation is .04 on the driest eighth of days, .09 on the wettest.
The error of a pass has the same shape. Were it the same in all paddocks, the contrast between wet
and dry paddocks of a pass would tell c + k from e_p; where the passes have another contrast than
the bucket, as the index has, many paddocks would then draw the level away from their own passes.

A dense filter of N paddocks has 2 + 4 N states and does not scale. Here the state is split into
a hub x = (c, k) and a leaf u_i = (o, g, a, b) of each paddock. The covariance of each leaf with
the hub is kept; two leaves are taken to be independent given the hub. With B = Cov(u, x) P_x^-1
and Q = P_u - B Cov(u, x)^T a pass observes, for every paddock in it,

    r_i = z_i - E z_i = (h_x + h_u B_i) dx + s_ip e + noise of variance q_i,
    q_i = h_u Q_i h_u^T + R_i                                                                   (3)

so that hub and pass error have the normal equations of a regression with three unknowns, and
each leaf follows given them:

    S = (diag(P_x, D)^-1 + sum_i w_i w_i^T / q_i)^-1,   w_i = (h_x + h_u B_i, s_ip)            (4)
    u_i' = u_i + K_i r_i + G_i theta,   K_i = Q_i h_u / q_i,   G_i = (B_i, 0) - K_i w_i^T       (5)
    P_u' = Q_i - K_i K_i^T q_i + G_i S G_i^T,   Cov(u_i, x)' = G_i S_x                          (6)

(3)-(6) are exact for one paddock. Kalman (1960); for the split, the conditional independence of
a two-level random-effects model (Laird and Ware 1982). Missing rain adds variance to c where all
paddocks share one rain series, else to a (:mod:`kgsm_infer.daily.bucket`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .parameters import Residual

Array = NDArray[np.float64]

HUB = 2
LEAF = 4
_OFFSET, _GAIN, _AR, _BIAS = range(LEAF)
#: Rain values below this part of the mean do not shrink the residual further.
LEAST_SCALE = 0.1


@dataclass(frozen=True)
class Measurement:
    """One radar pass: the paddocks it saw.

    paddock: (n,) index of each.  value: (n,) m3 m-3 or index.  expected: (n,) the bucket's value
    at the time of the pass.  error_var: (n,) variance of the error of one paddock.  date_var:
    variance of the error that all of them share, in the mean over the paddocks.
    """

    paddock: NDArray[np.int64]
    value: Array
    expected: Array
    error_var: Array
    date_var: float


@dataclass(frozen=True)
class CommonRain:
    """Days on which missing rain is common to all paddocks, because their rain is the same.

    days: number of them, from the first day on; None for all.  paddocks: those with the mean scale
    that the common variance has; None for all.
    """

    days: int | None = None
    paddocks: NDArray[np.int64] | None = None

    def on(self, day: int) -> bool:
        """Return True if the missing rain of ``day`` is common."""
        return self.days is None or day < self.days


#: Missing rain is common on every day.
EVERY_DAY = CommonRain()


@dataclass(frozen=True)
class Assimilation:
    """Terms of one update (Eqs 3 to 5), for the n paddocks that the pass saw.

    residual: (n,) r.  regressor: (3, n) w.  variance: (n,) q.  hub_cov: (3, 3) S.  leaf_gain:
    (4, n) K.  hub_gain: (4, 3, n) G.  observed: (4, n) h_u.
    """

    residual: Array
    regressor: Array
    variance: Array
    hub_cov: Array
    leaf_gain: Array
    hub_gain: Array
    observed: Array


@dataclass(frozen=True)
class Day:
    """The estimate at the end of one day: mean and variance (N,), and the share of the variance
    that the passes removed, 0 to 1."""

    mean: Array
    variance: Array
    weight: Array


class Filter:
    """State of all paddocks; :meth:`predict` one day, then :meth:`update` with each pass.

    count: N paddocks.  bias_var: (N,) or a number, variance of b.
    """

    def __init__(self, residual: Residual, count: int, bias_var: Array | float) -> None:
        r = self.residual = residual
        self.hub_mean = np.zeros(HUB)
        self.hub_cov = np.diag([r.common_var, r.common_offset_var])
        self.mean = np.zeros((LEAF, count))
        self.cov = np.zeros((LEAF, LEAF, count))
        for j, variance in enumerate((r.offset_var, r.gain_var, r.paddock_var, bias_var)):
            self.cov[j, j] = variance
        self.cross = np.zeros((LEAF, HUB, count))
        # variance of the residual had there been no pass
        self._common_prior, self._paddock_prior = r.common_var, np.full(count, r.paddock_var)

    def forget_start(self, variance: float, common: CommonRain) -> None:
        """Add the variance of a bucket whose first wetness is not known."""
        if common.on(0):
            self.hub_cov[0, 0] += variance
            self._common_prior += variance
        else:
            self.cov[_AR, _AR] += variance
            self._paddock_prior += variance

    def step(
        self,
        unknown: Array,
        expected: Array,
        series: NDArray[np.int64],
        common: CommonRain,
        day: int,
    ) -> None:
        """Go on to ``day``, with the variance (S,) that each series' missing rain adds.

        expected: (S,) moisture of the bucket. The variance is of moisture, whatever the scale.
        common: where all paddocks have the same rain, the variance is that of c.
        """
        scale, _ = self.regressors(expected)
        added = (unknown / scale**2)[series]
        if common.on(day):
            of = added if common.paddocks is None else added[common.paddocks]
            self.predict(missing_common=float(of.mean()))
        else:
            self.predict(missing_own=added)

    def predict(self, missing_common: float = 0.0, missing_own: Array | float = 0.0) -> None:
        """Go one day on. missing_common, missing_own: variance that missing rain adds to c, a."""
        r = self.residual
        c, a = r.common_phi, r.paddock_phi
        grow_c = r.common_var * (1 - c**2) + missing_common
        grow_a = r.paddock_var * (1 - a**2) + missing_own
        self.hub_mean[0] *= c
        self.hub_cov[0] *= c
        self.hub_cov[:, 0] *= c
        self.hub_cov[0, 0] += grow_c
        self.mean[_AR] *= a
        self.cov[_AR] *= a
        self.cov[:, _AR] *= a
        self.cov[_AR, _AR] += grow_a
        self.cross[_AR] *= a
        self.cross[:, 0] *= c
        self._common_prior = c**2 * self._common_prior + grow_c
        self._paddock_prior = a**2 * self._paddock_prior + grow_a

    def update(self, seen: Measurement) -> Assimilation:
        """Assimilate one pass; Eqs 3 to 6. Return the terms of the update."""
        at = seen.paddock
        scale, gain = self.regressors(seen.expected)
        # B = Cov(u, x) P_x^-1 and Q = P_u - B Cov(u, x)^T
        slope = np.einsum("jpn,pq->jqn", self.cross, np.linalg.inv(self.hub_cov))
        own = self.cov - np.einsum("jpn,kpn->jkn", slope, self.cross)
        h_u = np.stack([scale, gain, scale, np.ones(len(at))])
        own_h = np.einsum("jkn,kn->jn", own[:, :, at], h_u)
        q = np.einsum("jn,jn->n", own_h, h_u) + seen.error_var
        w = np.empty((HUB + 1, len(at)))
        w[HUB] = scale / np.sqrt((scale**2).mean())
        w[:HUB] = scale + np.einsum("jn,jpn->pn", h_u, slope[:, :, at])
        r = seen.value - seen.expected - scale * self.hub_mean.sum()
        r -= np.einsum("jn,jn->n", h_u, self.mean[:, at])
        precision = np.zeros((HUB + 1, HUB + 1))
        precision[:HUB, :HUB] = np.linalg.inv(self.hub_cov)
        precision[HUB, HUB] = 1 / seen.date_var
        s = np.linalg.inv(precision + (w / q) @ w.T)
        theta = s @ ((w / q) @ r)
        # every leaf follows the hub; those in the pass follow their own value too
        change = np.zeros((LEAF, HUB + 1, self.mean.shape[1]))
        change[:, :HUB] = slope
        k = own_h / q
        change[:, :, at] -= k[:, None] * w
        self.mean += np.einsum("jpn,p->jn", change, theta)
        self.mean[:, at] += k * r
        own[:, :, at] -= own_h[:, None] * k
        spread = np.einsum("jpn,pq->jqn", change, s)
        self.cov = own + np.einsum("jqn,kqn->jkn", spread, change)
        self.cross = spread[:, :HUB]
        self.hub_mean += theta[:HUB]
        self.hub_cov = s[:HUB, :HUB]
        return Assimilation(r, w, q, s, k, change[:, :, at], h_u)

    def estimate(self, expected: Array) -> Day:
        """Return mean and variance of the truth (N,) where the bucket holds ``expected``."""
        r = self.residual
        scale, gain = self.regressors(expected)
        mean = expected + scale * (self.hub_mean.sum() + self.mean[_OFFSET] + self.mean[_AR])
        mean += gain * self.mean[_GAIN]
        cov, cross = self.cov, self.cross
        level = cov[_OFFSET, _OFFSET] + cov[_AR, _AR] + 2 * cov[_OFFSET, _AR]
        level += self.hub_cov.sum() + 2 * (cross[_OFFSET] + cross[_AR]).sum(0)
        mixed = cov[_OFFSET, _GAIN] + cov[_AR, _GAIN] + cross[_GAIN].sum(0)
        variance = scale**2 * level + 2 * scale * gain * mixed + gain**2 * cov[_GAIN, _GAIN]
        variance += r.noise_var * scale**2
        prior = self._common_prior + r.common_offset_var + self._paddock_prior + r.offset_var
        prior = scale**2 * (prior + r.noise_var) + gain**2 * r.gain_var
        return Day(mean, variance, np.clip(1 - variance / prior, 0.0, 1.0))

    def regressors(self, expected: Array) -> tuple[Array, Array]:
        """Return s and f - m of Eq 1, each (N,)."""
        r = self.residual
        ratio = np.maximum(expected / r.mean, LEAST_SCALE)
        scale = np.sqrt(ratio) if r.gamma == 0.5 else ratio**r.gamma
        return scale, expected - r.mean
