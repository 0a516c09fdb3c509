"""Fit the daily model: the bucket to labels and rain, the residual to simulated passes.

1. The bucket's numbers x by bounded, robust least squares (soft L1) of its moisture on the labels,
   with a normal prior (PRIOR_MEAN m, PRIOR_SD d):

       sum rho(f - y) + v a sum ((x - m) / d)^2                                               (1)

   v is the mean square of f - y at the best numbers without the prior. Residuals of successive days
   are correlated, so that n labels are worth n / a independent ones; a = (1 + phi) / (1 - phi),
   about 100 at a decay phi of .98 a day. Without the prior a few years of one climate fit numbers
   that fail in other years. Eq 1 has several minima: the search begins at m and at the best numbers
   without the prior, and the lower minimum counts.
2. The residual's variances and decays by the log score of the filter on the labels, with passes
   simulated from them (:func:`simulate_passes`): the sum of log Var + (y - mean)^2 / Var over
   all labelled days, by Nelder and Mead (1965). The rain model at each site comes from a bucket
   that was fitted to other sites (:func:`cross_fitted`).
3. The factor on the band, so that 90 % of the labels lie inside at sites and in years that the
   bucket was not fitted to (in turns of INNER groups of sites and halves of the series).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, minimize

from kgsm_infer.base.errors import UsageError
from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.forcing import Forcing
from kgsm_infer.daily.parameters import Bucket, Parameters, PassErrors, Residual, SoilStore
from kgsm_infer.daily.run import Z90, Drive, PassValues, drive, estimate

Array = NDArray[np.float64]

#: The errors of a pass in the protocol of docs/daily.md: .06 a paddock and pass, .03 a paddock,
#: .045 a date.
ERRORS = PassErrors(point=(0.06**2 + 0.03**2) ** 0.5, date=0.045, persistent_share=0.2)
#: Days at the beginning that only fill the bucket.
SPIN_UP = 60
#: Days between the simulated passes that the residual is fitted with.
FIT_EVERY = 12
#: Seed of those passes; scores use 0, 1 and 2.
FIT_SEED = 1000
#: Seeds of the passes that the band's factor is fitted with.
BAND_SEEDS = (1001, 1002, 1003)
LIMITS = (0.0, 0.6)
#: Variance of an offset that all paddocks of a farm share; no network alone can tell it.
COMMON_OFFSET_VAR = 0.02**2
#: Most evaluations of the residual's score, and of the bucket (with a Jacobian each).
EVALUATIONS = 100
BUCKET_EVALUATIONS = 40
#: Groups of sites left out in turn (:func:`cross_fitted`).
INNER = 3
#: Years of labels from which the halves of the series are left out in turn too.
YEARS_TO_HALVE = 2
#: Scale of the robust loss, m3 m-3.
ROBUST_SCALE = 0.05
#: Successive labels a that are worth one independent label; Eq 1.
LABELS_PER_INDEPENDENT = 100
#: Days with rain that a fit needs.
FEWEST_WET_DAYS = 10
#: Least standard deviation of the labels, m3 m-3; the resolution of probes is about 0.001.
LEAST_SPREAD = 0.002
#: Range of the residual's exponent and variances, and greatest decay, within those that
#: :class:`kgsm_infer.daily.parameters.Residual` reads.
_GAMMA_RANGE, _VARIANCE_RANGE, _LARGEST_PHI = (0.01, 10.0), (1e-8, 10.0), 1 - 1e-6


@dataclass(frozen=True)
class Labelled:
    """A daily series of S sites: rain in mm and moisture (D, S), NaN where missing.

    first: days since 1970 of day 0.
    """

    first: int
    sites: tuple[str, ...]
    rain_mm: Array
    sm: Array

    @property
    def day(self) -> NDArray[np.int64]:
        """(D,) days since 1970."""
        return self.first + np.arange(len(self.sm))

    @property
    def fitted(self) -> NDArray[np.bool_]:
        """(D, S) True for the labels that the bucket is fitted to."""
        known = np.isfinite(self.sm)
        known[:SPIN_UP] = False
        return known

    @property
    def forcing(self) -> Forcing:
        """Rain of each site, without irrigation."""
        return Forcing.of_rain(self.first, self.rain_mm, np.arange(len(self.sites)))

    def part(self, sites: NDArray[np.bool_], days: NDArray[np.bool_] | None = None) -> Labelled:
        """Keep some sites, and the labels of some days."""
        sm = self.sm[:, sites]
        if days is not None:
            sm = np.where(days[:, None], sm, np.nan)
        names = tuple(np.asarray(self.sites)[sites].tolist())
        return Labelled(self.first, names, self.rain_mm[:, sites], sm)


@dataclass(frozen=True)
class DataOrigin:
    """Origin of a parameter set, as its file states it."""

    name: str
    licence: str
    citation: str
    provenance: str
    hemisphere: str
    simulated: bool = False


def fit_daily(labelled: Labelled, source: DataOrigin, stores: int = 2) -> Parameters:
    """Fit a parameter set to a labelled daily series; ``scores`` is left empty.

    UsageError where there are fewer than 365 labels, or labels or rain hardly vary.
    """
    count = int(labelled.fitted.sum())
    if count < 365:
        raise UsageError(f"{count} labelled days with rain are too few to fit; 365 are needed")
    wet = int((labelled.rain_mm > 0).sum())
    if wet < FEWEST_WET_DAYS:
        raise UsageError(
            f"{wet} days with rain are too few to fit; {FEWEST_WET_DAYS} are needed; rain of other "
            "days, or an empty column?"
        )
    spread = float(np.std(labelled.sm[labelled.fitted]))
    if spread < LEAST_SPREAD:
        raise UsageError(
            f"the labels hardly vary (standard deviation {spread:.4f} m3/m3); a stuck probe?"
        )
    bucket = fit_bucket(labelled, stores, north=source.hemisphere == "north")
    first = Residual(
        mean=bucket.mean,
        gamma=0.5,
        common_var=0.0004,
        common_phi=0.98,
        common_offset_var=COMMON_OFFSET_VAR,
        offset_var=0.0015,
        gain_var=0.08,
        paddock_var=0.002,
        paddock_phi=0.975,
        noise_var=0.0001,
    )
    parameters = Parameters(
        source.name,
        bucket,
        first,
        ERRORS,
        LIMITS,
        1.0,
        source.hemisphere,
        source.licence,
        source.citation,
        source.provenance,
        source.simulated,
    )
    fitted = fit_residual(labelled, parameters, cross_fitted(labelled, parameters, halves=False))
    return replace(fitted, band_scale=band_scale(labelled, fitted, cross_fitted(labelled, fitted)))


#: Prior of the bucket's numbers, mean and standard deviation: dry, season, then log capacity, log
#: loss, range and power of the first store, and the first three of the second.
PRIOR_MEAN = np.array(
    [0.05, 0.5, np.log(45.0), np.log(0.08), 0.25, 1.0, np.log(150.0), np.log(0.015), 0.15]
)
PRIOR_SD = np.array([0.03, 0.3, 0.5, 0.5, 0.1, 0.3, 0.5, 0.5, 0.1])
_LOW = np.array([-0.1, -3.0, np.log(2.0), np.log(5e-4), 0.01, 0.3])
_HIGH = np.array([0.3, 3.0, np.log(500.0), np.log(2.0), 0.9, 3.0])


def fit_bucket(
    labelled: Labelled, stores: int = 2, north: bool = False, near: Bucket | None = None
) -> Bucket:
    """Fit the bucket's 6 numbers (one store) or 9 (two) to the labels.

    The greatest loss is put on 15 January, in the north on 16 July.  near: begin with its numbers
    and mean wetness alone, and take v of Eq 1 at them. This is for a fit to a part of its labels.
    """
    if stores not in (1, 2):
        raise UsageError(f"{stores} stores are not supported; 1 or 2")
    peak = near.peak_day if near is not None else 15.0 + (365.25 / 2 if north else 0.0)
    known = labelled.fitted
    y = labelled.sm[known]
    count = 6 if stores == 1 else 9
    prior, sd = PRIOR_MEAN[:count], PRIOR_SD[:count]
    low, high = (np.concatenate([end, end[2:5]])[:count] for end in (_LOW, _HIGH))

    def bucket_of(x: Array, means: Sequence[float]) -> Bucket:
        parts = [(*x[2:6].tolist(), means[0])]
        if stores == 2:
            parts.append((*x[6:9].tolist(), 1.0, means[1]))
        made = tuple(
            SoilStore(float(np.exp(d)), float(np.exp(loss)), reach, power, mean)
            for d, loss, reach, power, mean in parts
        )
        return Bucket(float(x[0]), made, float(x[1]), peak, 1.0)

    def residual(x: Array, means: Sequence[float]) -> Array:
        made = run_bucket(bucket_of(x, means), labelled.rain_mm, labelled.day)
        return made[known] - y

    def search(start: Array, means: Sequence[float], v: float, rounds: int = 2) -> _Minimum:
        """Minimise Eq 1; v = 0 is without the prior."""
        pull = np.sqrt(v * LABELS_PER_INDEPENDENT) / sd
        x = start
        for _ in range(rounds):  # again with the mean wetness that the first fit found
            found = least_squares(
                lambda x, means: np.append(_soft_l1(residual(x, means)), pull * (x - prior)),
                x,
                args=(means,),
                bounds=(low, high),
                x_scale="jac",
                max_nfev=BUCKET_EVALUATIONS,
            )
            x = found.x
            bucket = _with_means(bucket_of(x, means), labelled)
            means = [store.mean for store in bucket.stores]
        return _Minimum(float(found.cost), x, bucket)

    if near is not None:
        means = [store.mean for store in near.stores]
        start = np.clip(_numbers(near), low + 1e-6, high - 1e-6)
        return search(start, means, float(np.mean(residual(start, means) ** 2)), rounds=1).bucket
    means = [0.3] * stores
    free = search(prior, means, 0.0)
    free_means = [store.mean for store in free.bucket.stores]
    v = float(np.mean(residual(free.x, free_means) ** 2))
    minima = search(prior, means, v), search(free.x, free_means, v)
    return min(minima, key=lambda minimum: minimum.cost).bucket


@dataclass(frozen=True)
class _Minimum:
    """A minimum of Eq 1: half its value, the numbers x, and the bucket they make."""

    cost: float
    x: Array
    bucket: Bucket


def _numbers(bucket: Bucket) -> Array:
    """Return the numbers of a bucket in the order of the prior."""
    numbers = [bucket.dry, bucket.season]
    for store in bucket.stores:
        numbers += [np.log(store.capacity_mm), np.log(store.loss_per_day), store.range]
        numbers += [store.power] if store is bucket.stores[0] else []
    return np.asarray(numbers)


def _soft_l1(residual: Array) -> Array:
    """Return numbers whose squares are the soft L1 loss of the residuals.

    >>> _soft_l1(np.array([0.001, -0.5])).round(4).tolist()
    [0.001, -0.2127]
    """
    root = np.sqrt(1 + (residual / ROBUST_SCALE) ** 2)
    return np.asarray(np.sign(residual) * ROBUST_SCALE * np.sqrt(2 * (root - 1)))


def _with_means(bucket: Bucket, labelled: Labelled) -> Bucket:
    """Set the stores' mean wetness and the variance of the moisture to those of the series."""
    stores = []
    for store in bucket.stores:
        alone = replace(bucket, dry=0.0, stores=(replace(store, range=1.0, power=1.0),))
        wetness = run_bucket(alone, labelled.rain_mm, labelled.day)[SPIN_UP:]
        stores.append(replace(store, mean=float(wetness.mean())))
    bucket = replace(bucket, stores=tuple(stores))
    moisture = run_bucket(bucket, labelled.rain_mm, labelled.day)[SPIN_UP:]
    return replace(bucket, variance=float(moisture.var()))


def simulate_passes(
    sm: Array,
    every: int,
    seed: int,
    errors: PassErrors = ERRORS,
    limits: tuple[float, float] = LIMITS,
) -> Array:
    """Simulate passes over labelled sites; (D, S), NaN on days without a pass.

    A pass is the label plus an error per pass and site, one shared by the date and a persistent
    one per site, clipped to the limits, every ``every`` days from a random start, from day 60 on.
    """
    rng = np.random.default_rng(seed)
    own = errors.point * np.sqrt(1 - errors.persistent_share)
    bias = rng.normal(0, errors.point * np.sqrt(errors.persistent_share), sm.shape[1])
    seen = np.full(sm.shape, np.nan)
    for t in range(SPIN_UP + int(rng.integers(every)), len(sm), every):
        shared, error = rng.normal(0, errors.date), rng.normal(0, own, sm.shape[1])
        seen[t] = np.clip(sm[t] + bias + shared + error, *limits)
    return seen


def observations_of(seen: Array, errors: PassErrors = ERRORS) -> PassValues:
    """Return values (D, S) of passes that all saw every site, as observations."""
    day, site = np.nonzero(np.isfinite(seen))
    share = errors.persistent_share
    return PassValues(
        day,
        day,
        site,
        seen[day, site],
        np.full(len(day), errors.point**2 * (1 - share)),
        np.full(len(day), errors.date**2),
        np.ones(len(day)),
        np.full(seen.shape[1], errors.point**2 * share),
    )


def fit_residual(labelled: Labelled, parameters: Parameters, rain: Drive) -> Parameters:
    """Fit the residual's numbers with simulated passes.

    rain: the rain model, fitted to other sites.
    """
    seen = simulate_passes(labelled.sm, FIT_EVERY, FIT_SEED)
    observed = observations_of(seen)
    asked = np.isfinite(labelled.sm) & (np.isfinite(seen).cumsum(0) > 0)
    y = labelled.sm[asked]
    base = parameters.residual

    def residual_of(x: Array) -> Residual:
        value = np.clip(np.exp(x), *_VARIANCE_RANGE)
        phi = np.minimum(1 / (1 + np.exp(-x)), _LARGEST_PHI)
        return replace(
            base,
            gamma=float(np.clip(value[0], *_GAMMA_RANGE)),
            common_var=float(value[1]),
            common_phi=float(phi[2]),
            offset_var=float(value[3]),
            gain_var=float(value[4]),
            paddock_var=float(value[5]),
            paddock_phi=float(phi[6]),
            noise_var=float(value[7]),
        )

    def score(x: Array) -> float:
        made = estimate(replace(parameters, residual=residual_of(x)), rain, observed)
        variance = made.sd[asked].astype(np.float64) ** 2
        return float(np.mean(np.log(variance) + (y - made.mean[asked]) ** 2 / variance))

    def logit(p: float) -> float:
        return float(np.log(p / (1 - p)))

    start = np.array(
        [
            np.log(base.gamma),
            np.log(base.common_var),
            logit(base.common_phi),
            np.log(base.offset_var),
            np.log(base.gain_var),
            np.log(base.paddock_var),
            logit(base.paddock_phi),
            np.log(base.noise_var),
        ]
    )
    simplex = np.vstack([start, start + 0.4 * np.eye(len(start))])
    found = minimize(
        score,
        start,
        method="Nelder-Mead",
        options={"maxfev": EVALUATIONS, "initial_simplex": simplex, "xatol": 0.01, "fatol": 1e-4},
    )
    return replace(parameters, residual=residual_of(found.x))


def band_scale(labelled: Labelled, parameters: Parameters, rain: Drive) -> float:
    """Return the factor on the standard deviation with which the 90 % band covers 90 %.

    The passes are others than those that the residual was fitted with.
    """
    plain, ratios = replace(parameters, band_scale=1.0), []
    for seed in BAND_SEEDS:
        seen = simulate_passes(labelled.sm, FIT_EVERY, seed)
        asked = np.isfinite(labelled.sm) & (np.isfinite(seen).cumsum(0) > 0)
        made = estimate(plain, rain, observations_of(seen))
        ratios.append(np.abs(labelled.sm[asked] - made.mean[asked]) / made.sd[asked])
    return float(np.quantile(np.concatenate(ratios), 0.9) / Z90)


def cross_fitted(labelled: Labelled, parameters: Parameters, halves: bool = True) -> Drive:
    """Run the rain model on each site and half of the labels with a bucket fitted to neither.

    Sites are left out in INNER groups. The halves are before and after the middle of the labels;
    a series with less than YEARS_TO_HALVE is not halved, one site alone is not left out. Where the
    other sites have no label in the other half, the bucket is fitted to both of their halves; where
    they have none at all, it is that of all labels.
    halves: False to leave out sites only.
    """
    whole = drive(parameters, labelled.forcing)
    group = np.arange(len(labelled.sites)) % INNER
    count = np.isfinite(labelled.sm).sum(1).cumsum()
    half = (count > count[-1] / 2).astype(int)
    labels = np.flatnonzero(np.diff(count, prepend=0))
    if not halves or labels[-1] - labels[0] + 1 < YEARS_TO_HALVE * 365:
        half[:] = 0
    expected = whole.expected.copy()
    for mine in (group == one for one in np.unique(group)):
        for days in (half == one for one in np.unique(half)):
            others, rest = ~mine, None if days.all() else ~days
            if mine.all():
                others = mine
            if mine.all() and rest is None:
                continue
            parts = [labelled.part(others, rest), labelled.part(others)]
            part = next((one for one in parts if one.fitted.any()), None)
            if part is None:
                continue
            bucket = fit_bucket(part, len(parameters.bucket.stores), near=parameters.bucket)
            made = run_bucket(bucket, labelled.rain_mm[:, mine], labelled.day)
            expected[np.ix_(days, mine)] = made[days]
    return replace(whole, expected=expected)
