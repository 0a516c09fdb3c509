"""Find possible irrigation: rises between two passes that rain does not explain.

Each paddock carries HYPOTHESES about its past. One is that it was never irrigated; the others put
irrigations of some amount m on some day d between two of its passes. An irrigation adds wetness x
to the stores of the bucket, which dries as the rain does (:mod:`kgsm_infer.daily.bucket`):

    x_d = m / D,   x_t = min(x_{t-1} exp(-L_t), 1 - w_t)                                        (1)
    delta_t = sum over stores of range ((w_t + x_t)^p - w_t^p)                                  (2)

The filter (:mod:`kgsm_infer.daily.filter`) is linear, so a hypothesis shifts its residuals and its
state by known amounts and leaves all variances alone. With g and u the shifts of hub and leaf, a
pass has the residual

    rho = -delta - h_u u - s (g_c + g_k),   theta_b = theta + S (w_i / q_i) (-delta - h_u u)
                                                  - S sum_j (w_j / q_j) s_j (g_c + g_k)         (3)

and the likelihood of paddock i's value given the other paddocks of the pass, by the leverage
l_i = w_i S w_i^T / q_i, is normal with

    residual (r_i + rho - w_i theta_b) / (1 - l_i),   variance q_i / (1 - l_i)                  (4)

A rise that the other paddocks share is explained by hub and pass error, as rain is. At each pass
of a paddock its hypotheses branch: no irrigation since its last pass, or one, with the prior
probability 1 - exp(-days / every). The weight of the branches with one is the probability of an
irrigation between the two passes; HYPOTHESES of the branches remain (:func:`thin`). Passes after
the second one are not used: on OzNet with two more of them precision and recall were the same
within .03. Reid (1979) describes such trees of hypotheses.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..base.errors import UsageError
from ..tables.reading import write_csv
from .bucket import seasonal_loss, store_wetness
from .filter import HUB, LEAF, Array, Assimilation, Filter, Measurement
from .forcing import Forcing, day_text
from .parameters import Parameters
from .run import Drive, PassValues, passes_of_day

#: Amounts that are considered, mm, and their prior probabilities.
AMOUNTS_MM = (12.0, 25.0, 50.0)
AMOUNT_PRIOR = (0.3, 0.4, 0.3)
#: Places of the irrigation in the time between two passes.
PLACES = (0.25, 0.75)
#: Hypotheses a paddock carries.
HYPOTHESES = 24
#: Mean days between two irrigations of a paddock, unless stated.
EVERY_DAYS = 36.0
#: Longest time between two passes in which an irrigation is looked for, days.
LONGEST_GAP = 30
#: Probability from which a rise is flagged.
FLAG_FROM = 0.5
#: Least probability of a row in the file of events.
LISTED_FROM = 0.1
_AR = 2  # the leaf's state that decays


@dataclass(frozen=True)
class PossibleIrrigation:
    """Probabilities of K times between two passes of a paddock, (K,) each.

    paddock: index.  after, until: days since 1970 of the two passes; the irrigation lies after
    the first and not after the second.  probability: from passes up to ``until``.  mm: expected
    amount if there was one; lower_mm, upper_mm: least and greatest of AMOUNTS_MM that has a
    twentieth of the probability or more.
    """

    paddock: NDArray[np.int64]
    after: NDArray[np.int64]
    until: NDArray[np.int64]
    probability: Array
    mm: Array
    lower_mm: Array
    upper_mm: Array

    def __len__(self) -> int:
        return len(self.paddock)


def find_irrigation(
    parameters: Parameters,
    rain: Drive,
    forcing: Forcing,
    seen: PassValues,
    every_days: float = EVERY_DAYS,
) -> PossibleIrrigation:
    """Compute the probability of an irrigation between each two passes of each paddock.

    rain: the drive of the estimate, with the stated irrigation.  every_days: mean number of days
    between two irrigations of a paddock, from which the prior probability comes.
    UsageError unless it is at least 1.
    """
    if not 1 <= every_days < np.inf:
        raise UsageError(f"an irrigation every {every_days:g} days; give at least 1")
    state = Filter(parameters.residual, len(rain.series), seen.bias_var)
    state.forget_start(parameters.bucket.variance, rain.common)
    tree = _Tree(parameters, rain, forcing, every_days)
    bounds = np.searchsorted(seen.day, np.arange(len(rain.expected) + 1))
    last = int(seen.day[-1]) + 1 if len(seen) else 0
    for t in range(last):
        state.step(rain.unknown[t], rain.expected[t], rain.series, rain.common, t)
        tree.predict(t)
        for one in passes_of_day(rain, seen, t, slice(bounds[t], bounds[t + 1])):
            terms = state.update(one)
            tree.update(t, one, terms)
    return tree.finish()


@dataclass(frozen=True)
class Thinned:
    """Hypotheses that remain: index among all and probability, (n, count) each."""

    index: NDArray[np.int64]
    weight: Array


@dataclass(frozen=True)
class _Innovation:
    """Shift of the residual rho (n, branches, B) and of theta (3, n, branches, B), and the log
    likelihood of the pass (n, branches, B); Eqs 3 and 4."""

    rho: Array
    theta: Array
    log_likelihood: Array


class _Tree:
    """Hypotheses of N paddocks: B for each.

    weight: (N, B) log probability.  excess: (stores, N, B) wetness x.  shift: (6, N, B) of hub
    and leaf.  passed: (N,) day of the last pass, -1 before the first.
    """

    def __init__(
        self, parameters: Parameters, rain: Drive, forcing: Forcing, every_days: float
    ) -> None:
        count, bucket = len(rain.series), parameters.bucket
        self.bucket, self.residual, self.series = bucket, parameters.residual, rain.series
        self.first, self.every = rain.first, every_days
        day = rain.first + np.arange(len(rain.expected))
        water = store_wetness(bucket, forcing.rain_mm, day, rain.opposite, forcing.irrigation_mm)
        self.wetness = [wetness.astype(np.float32) for wetness in water]
        season = seasonal_loss(bucket, day, rain.opposite)
        self.keep = [np.exp(-store.loss_per_day * season) for store in bucket.stores]
        shape = (count, HYPOTHESES)
        self.weight = np.full(shape, -np.inf)
        self.weight[:, 0] = 0.0
        self.excess = np.zeros((len(bucket.stores), *shape))
        self.shift = np.zeros((HUB + LEAF, *shape))
        self.passed = np.full(count, -1)
        self.found: list[PossibleIrrigation] = []

    def predict(self, t: int) -> None:
        """Go one day on."""
        self.shift[0] *= self.residual.common_phi
        self.shift[HUB + _AR] *= self.residual.paddock_phi
        for x, wetness, keep in zip(self.excess, self.wetness, self.keep, strict=True):
            np.minimum(x * keep[t], (1 - wetness[t])[self.series][:, None], out=x)

    def update(self, t: int, seen: Measurement, terms: Assimilation) -> None:
        """Branch the hypotheses of the paddocks of a pass, weigh them and keep the best."""
        at = seen.paddock
        gap = t - self.passed[at]
        searched = (self.passed[at] >= 0) & (gap <= LONGEST_GAP) & (gap > 0)
        prior = np.where(searched, 1 - np.exp(-gap / self.every), 0.0)
        each = [(1 - prior, 0.0)]
        for amount, share in zip(AMOUNTS_MM, AMOUNT_PRIOR, strict=True):
            each += [(prior * share / len(PLACES), amount)] * len(PLACES)
        amount_mm = np.asarray([amount for _, amount in each])
        with np.errstate(divide="ignore"):
            chance = np.log(np.stack([one for one, _ in each], 1))
        excess = np.stack(
            [
                self._branch(k, t, at, np.minimum(gap, LONGEST_GAP))
                for k in range(len(self.bucket.stores))
            ]
        )
        logs = self.weight[at][:, None] + chance[:, :, None]
        shift = self.shift[:, at]
        new = self._innovation(t, at, excess, shift[:, :, None], terms)
        logs = (logs + new.log_likelihood).reshape(len(at), -1)
        weight = np.exp(logs - logs.max(1, keepdims=True))
        weight /= weight.sum(1, keepdims=True)
        branch_weight = weight.reshape(len(at), len(each), -1).sum(2)
        self._report(t, at, searched, branch_weight, amount_mm)
        thinned = thin(weight, HYPOTHESES)
        best, weight = thinned.index, thinned.weight
        branch, parent = np.divmod(best, HYPOTHESES)
        row = np.arange(len(at))[:, None]
        with np.errstate(divide="ignore"):
            self.weight[at] = np.log(weight)
        self.excess[:, at] = excess[:, row, branch, parent]
        moved = shift[:, row, parent]
        chosen = new.theta[:, row, branch, parent]
        moved[:HUB] += chosen[:HUB]
        moved[HUB:] += terms.leaf_gain[:, :, None] * new.rho[row, branch, parent]
        moved[HUB:] += np.einsum("jpn,pnb->jnb", terms.hub_gain, chosen)
        self.shift[:, at] = moved
        self.passed[at] = t

    def finish(self) -> PossibleIrrigation:
        """Return all probabilities, by paddock and time."""
        names = [part.name for part in fields(PossibleIrrigation)]
        if not self.found:
            none, nothing = np.zeros(0), np.zeros(0, np.int64)
            return PossibleIrrigation(nothing, nothing, nothing, none, none, none, none)
        columns = {n: np.concatenate([getattr(one, n) for one in self.found]) for n in names}
        order = np.lexsort((columns["until"], columns["paddock"]))
        return PossibleIrrigation(**{name: of[order] for name, of in columns.items()})

    def _branch(self, k: int, t: int, at: NDArray[np.int64], gap: NDArray[np.int64]) -> Array:
        """Return the excess of store ``k`` on day ``t`` in each branch, (n, branches, B); Eq 1."""
        store, series = self.bucket.stores[k], self.series[at]
        when = np.stack([t - gap + np.ceil(place * gap).astype(int) for place in PLACES])
        # the least room that an excess of each day meets, and what remains of it on day t
        room = 1 - self.wetness[k][t][series]
        left, remains = np.ones(len(at)), np.zeros((2, len(PLACES), len(at)))
        for day in range(t, max(t - int(gap.max(initial=0)), -1), -1):
            room = np.minimum(room, (1 - self.wetness[k][day][series]) * left)
            here = when == day
            remains[0][here] = np.broadcast_to(left, here.shape)[here]
            remains[1][here] = np.broadcast_to(room, here.shape)[here]
            left = left * self.keep[k][day]
        old = self.excess[k][at]
        made = [old]
        for amount in AMOUNTS_MM:
            for share, most in zip(*remains, strict=True):
                added = amount / store.capacity_mm * share
                made.append(np.minimum(old + added[:, None], most[:, None]))
        return np.stack(made, 1)

    def _innovation(
        self,
        t: int,
        at: NDArray[np.int64],
        excess: Array,
        shift: Array,
        terms: Assimilation,
    ) -> _Innovation:
        """Compute what every branch expects of the pass. excess: (stores, n, branches, B).  shift:
        (6, n, 1, B) before the pass."""
        delta = np.zeros(excess.shape[1:])
        for k, store in enumerate(self.bucket.stores):
            w = self.wetness[k][t][self.series[at]][:, None, None]
            delta += store.range * ((w + excess[k]) ** store.power - w**store.power)  # Eq 2
        w, q, s = terms.regressor, terms.variance, terms.hub_cov
        scale = terms.observed[0]
        hub = shift[:HUB].sum(0)
        own = -delta - np.einsum("jn,jncb->ncb", terms.observed, shift[HUB:])
        rho = own - scale[:, None, None] * hub
        alone, common = s @ (w / q), s @ ((w / q) @ scale)
        theta = alone[:, :, None, None] * own - common[:, None, None, None] * hub  # Eq 3
        leverage = np.minimum(np.einsum("pn,pn->n", w, alone), 1 - 1e-9)
        plain = terms.residual - np.einsum("pn,p->n", w, s @ ((w / q) @ terms.residual))
        residual = plain[:, None, None] + rho - np.einsum("pn,pncb->ncb", w, theta)
        weight = 1 / (q * (1 - leverage))  # Eq 4, squared residual over variance
        return _Innovation(rho, theta, -0.5 * residual**2 * weight[:, None, None])

    def _report(
        self,
        t: int,
        at: NDArray[np.int64],
        searched: NDArray[np.bool_],
        weight: Array,
        amount_mm: Array,
    ) -> None:
        """Note the probabilities of the time before the pass of day ``t``.

        searched: (n,) True where there may be one.  weight: (n, branches).  amount_mm: (branches,).
        """
        weight, at = weight[searched], at[searched]
        mm = np.asarray(AMOUNTS_MM)
        share = np.stack([weight[:, amount_mm == one].sum(1) for one in mm])
        total = share.sum(0)
        part = share / np.maximum(total, np.finfo(float).tiny)
        likely = part >= 0.05
        self.found.append(
            PossibleIrrigation(
                at,
                self.passed[at] + self.first,
                np.full(len(at), t + self.first),
                total,
                mm @ part,
                np.where(likely, mm[:, None], np.inf).min(0),
                np.where(likely, mm[:, None], -np.inf).max(0),
            )
        )


def thin(weight: Array, count: int) -> Thinned:
    """Keep ``count`` of the hypotheses (n, M) of each row, and their total probability at each end.

    weight: (n, M) probabilities, M > count. Those above a bound c are kept as they are; of the
    others every one is kept at which the sum passes a multiple of c, with weight c, where c makes
    ``count`` of both together (Fearnhead and Clifford 2003, with fixed places in place of random).
    The sum over any run of neighbours changes by less than c, so that many small weights keep
    their total, which the ``count`` greatest would not.

    >>> weight = np.array([[0.6, 0.1, 0.1, 0.1, 0.1]])
    >>> thin(weight, 3).weight.round(3).tolist()
    [[0.6, 0.2, 0.2]]
    """
    ranked = -np.sort(-weight, axis=1)
    rest = ranked[:, ::-1].cumsum(1)[:, ::-1]  # sum of this one and the smaller
    bound = rest[:, :count] / np.arange(count, 0, -1)
    whole = (ranked[:, :count] > bound).sum(1)  # those are kept as they are
    c = np.take_along_axis(bound, np.minimum(whole, count - 1)[:, None], 1)
    large = weight > np.where(
        whole[:, None] == count, ranked[:, count - 1 : count] * (1 - 1e-12), c
    )
    small = np.where(large, 0.0, weight).cumsum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        step = np.floor(np.nan_to_num(small / c) + 0.5)
    crossed = np.diff(step, axis=1, prepend=0.0) > 0
    value = np.where(large, weight, np.where(crossed, c, 0.0))
    index = np.argsort(-value, axis=1, kind="stable")[:, :count]
    found = np.take_along_axis(value, index, 1)
    return Thinned(index, found / found.sum(1, keepdims=True))


def write_events(path: str | Path, found: PossibleIrrigation, paddocks: Sequence[str]) -> int:
    """Write the times with a probability of at least LISTED_FROM; return their number.

    Columns: ``site,after,until,probability,mm,mm_lower,mm_upper``.
    """
    at = np.flatnonzero(found.probability >= LISTED_FROM)
    write_csv(
        path,
        {
            "site": np.asarray(paddocks)[found.paddock[at]],
            "after": day_text(found.after[at]),
            "until": day_text(found.until[at]),
            "probability": np.round(found.probability[at], 3),
            "mm": np.round(found.mm[at], 0),
            "mm_lower": found.lower_mm[at],
            "mm_upper": found.upper_mm[at],
        },
    )
    return len(at)
