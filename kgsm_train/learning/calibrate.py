"""The WCM baseline: A, C, D (and B if asked) fitted to labelled acquisitions.

Bounded least squares from several starts, with a soft-L1 loss so that a few bad rows do
not rule. The residual is in SM, as the paper inverts (Eqs 3, 6), or in backscatter, as the
model is written (Eqs 1-5). With noise in the backscatter the two differ: the SM residual
shrinks SM towards its mean (D comes out too large), the sigma0 residual does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import OptimizeResult, least_squares

from kgsm_infer import kernels
from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.wcm import EquationInputs, Wcm, apply_rules, forward_db, isolate_to_fit
from kgsm_infer.model.observations import Observations

Array = NDArray[np.float64]

#: What the parameters may be: A linear power, B m2 kg-1, C dB, D dB per m3 m-3.
BOUNDS = {"A": (1e-4, 0.5), "B": (0.01, 0.5), "C": (-40.0, 0.0), "D": (1.0, 100.0)}
RESIDUALS = ("sm", "sigma0")
#: Where a residual begins to count as an outlier: m3 m-3, dB.
OUTLIER = {"sm": 0.1, "sigma0": 1.0}
MIN_SAMPLES = 10
#: A parameter nearer to a bound than this share of the range is on it.
_NEAR = 1e-3
#: 95 % point of chi square with one degree of freedom.
_CHI2_95 = 3.841458820694124
_NO_NOISE = {"sm": 1e-6, "sigma0": 1e-5}


@dataclass(frozen=True)
class LabelledAcquisitions:
    """R acquisitions as the water cloud model reads them, with their labels; missing is NaN.

    sigma0_db: dB.  vegetation: NDVI or VWC (kg m-2), as ``wcm.vwc_rule`` says.  sm: m3 m-3.
    angle_deg: degrees, only where ``wcm.angle_rule`` needs it.  All (R,).
    """

    sigma0_db: ArrayLike
    vegetation: ArrayLike
    sm: ArrayLike
    angle_deg: ArrayLike | None = None

    @classmethod
    def of(cls, observed: Observations, sm: ArrayLike) -> LabelledAcquisitions:
        """Take the inputs of the model from acquisitions (R,); sm: (R,) their labels."""
        vegetation = np.zeros(0) if observed.vegetation is None else observed.vegetation
        return cls(observed.sigma0_db, vegetation, sm, observed.angle_deg)


@dataclass(frozen=True)
class Calibration:
    """A fitted WCM baseline.

    wcm: with the A (and B) found.  c_db, d_db: of Eq 3, dB and dB per m3 m-3.
    cost: soft-L1 cost at the optimum, in squared units of the residual.
    on_bound: parameters (``A`` ``B`` ``C`` ``D``) that ended on a bound: not identified.
    samples, left_out: rows used, and rows with a missing or impossible value.
    lost_share: share of the rows used whose soil signal is lost at the A found.
    """

    wcm: Wcm
    c_db: float
    d_db: float
    residual: str
    cost: float
    on_bound: tuple[str, ...]
    samples: int
    left_out: int
    lost_share: float


@dataclass(frozen=True)
class Profile:
    """The cost along A, with C and D refitted at each (identifiability of A).

    a, cost: (K,).  interval: where 2 ln L is within the 95 % point of the best,
    n ln(cost / lowest) <= 3.84.  flat: the interval reaches an end of the grid, or its
    ends differ by more than a factor of 4: then A is not identified. Rows of one site are
    not independent, so the true interval is wider than this one: a profile that is flat
    by this rule is flat, one that is not may still be.
    """

    a: Array
    cost: Array
    interval: tuple[float, float]
    flat: bool


@dataclass(frozen=True)
class _Forward:
    """The water cloud model and the line of its soil, sigma_soil[dB] = C + D SM (Eqs 1-5)."""

    wcm: Wcm
    c_db: float
    d_db: float


@dataclass(frozen=True)
class _UsableRows:
    """The usable rows, float64, all (n,)."""

    seen: EquationInputs
    sm: Array
    left_out: int


def calibrate(
    wcm: Wcm,
    acquisitions: LabelledAcquisitions,
    *,
    residual: str = "sm",
    seed: int = 0,
    starts: int = 8,
    fit_b: bool = False,
) -> Calibration:
    """Fit A, C, D to labelled acquisitions; ``wcm`` gives everything else and the first start.

    Rows with a value missing or out of ``wcm.limits`` are left out and counted. ``starts``
    beginnings, the first at ``wcm.a``, the others drawn with ``seed``; the lowest cost wins.

    DataError for fewer than 10 usable rows, ValueError for a wrong option.
    """
    if residual not in RESIDUALS:
        raise ValueError(f"residual must be 'sm' or 'sigma0', got {residual!r}")
    if starts < 1:
        raise ValueError(f"starts must be >= 1, got {starts!r}")
    rows = _usable(wcm, acquisitions)
    rng = np.random.default_rng(seed)
    names = ("A", "C", "D", "B") if fit_b else ("A", "C", "D")

    def model(x: Array) -> _Forward:
        b = math.exp(x[3]) if fit_b else wcm.b
        return _Forward(replace(wcm, a=math.exp(x[0]), b=b), x[1], x[2])

    best: OptimizeResult | None = None
    for start in range(starts):
        a = wcm.a if start == 0 else _draw(rng, "A")
        b = wcm.b if start == 0 or not fit_b else _draw(rng, "B")
        begin = [math.log(a), *_line(replace(wcm, a=a, b=b), rows)]
        begin += [math.log(b)] if fit_b else []
        found = _least_squares(
            lambda x: _residuals(model(x), rows, residual), names, begin, residual
        )
        if best is None or found.cost < best.cost:
            best = found
    assert best is not None  # starts >= 1
    fitted = model(best.x)
    fraction = isolate_to_fit(fitted.wcm, rows.seen)[1]
    return Calibration(
        wcm=fitted.wcm,
        c_db=float(fitted.c_db),
        d_db=float(fitted.d_db),
        residual=residual,
        cost=float(best.cost),
        on_bound=_on_bound(names, best.x),
        samples=len(rows.sm),
        left_out=rows.left_out,
        lost_share=float((fraction < wcm.min_soil_fraction).mean()),
    )


def predict_sm(
    calibration: Calibration,
    sigma0_db: ArrayLike,
    vegetation: ArrayLike,
    angle_deg: ArrayLike | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return SM (m3 m-3, float32) of the baseline and its flags, both of the input's shape.

    Not clipped. NaN, with a reason in the flags, where an input is missing or out of
    range or the soil signal is lost.
    """
    soil = kernels.isolate(calibration.wcm, sigma0_db, vegetation, angle_deg)
    return kernels.invert(soil.soil_db, calibration.c_db, calibration.d_db), soil.flags


def profile(
    wcm: Wcm,
    acquisitions: LabelledAcquisitions,
    *,
    residual: str = "sm",
    log_a: ArrayLike | None = None,
) -> Profile:
    """Compute the cost along A with C and D refitted at each; see :class:`Profile`.

    log_a: (K,) natural logarithms of A, rising; 61 over the bounds of A when not given.
    The rest as in :func:`calibrate`.
    """
    if residual not in RESIDUALS:
        raise ValueError(f"residual must be 'sm' or 'sigma0', got {residual!r}")
    log_a = np.linspace(*_range("A"), 61) if log_a is None else log_a
    a = np.exp(np.asarray(log_a, np.float64))
    if a.ndim != 1 or len(a) < 3 or not (np.diff(a) > 0).all():
        raise ValueError("log_a must be at least 3 rising numbers")
    rows = _usable(wcm, acquisitions)
    cost = np.array([_cost_at(replace(wcm, a=value), rows, residual) for value in a])
    n = len(rows.sm)
    # below what rounding of the inputs leaves, costs do not differ
    floor = n * _NO_NOISE[residual] ** 2
    inside = np.flatnonzero(n * np.log((cost + floor) / (cost.min() + floor)) <= _CHI2_95)
    first, last = int(inside[0]), int(inside[-1])
    low, high = float(a[first]), float(a[last])
    flat = first == 0 or last == len(a) - 1 or high / low > 4
    return Profile(a, cost, (low, high), flat)


def _cost_at(wcm: Wcm, rows: _UsableRows, residual: str) -> float:
    found = _least_squares(
        lambda x: _residuals(_Forward(wcm, x[0], x[1]), rows, residual),
        ("C", "D"),
        _line(wcm, rows),
        residual,
    )
    return float(found.cost)


def _usable(wcm: Wcm, acquisitions: LabelledAcquisitions) -> _UsableRows:
    """Return the rows with every input there and in range. DataError for fewer than 10."""
    given = [acquisitions.sigma0_db, acquisitions.vegetation, acquisitions.sm]
    if wcm.needs_angle:
        if acquisitions.angle_deg is None:
            raise ValueError(f"angle rule {wcm.angle_rule!r} needs angle_deg")
        given.append(acquisitions.angle_deg)
    columns = [np.asarray(column, np.float64) for column in given]
    if any(column.ndim != 1 or column.shape != columns[0].shape for column in columns):
        shapes = ", ".join(str(column.shape) for column in columns)
        raise ValueError(f"sigma0_db, vegetation, sm, angle_deg must be (R,), got {shapes}")
    db, vegetation, sm = columns[:3]
    angle = columns[3] if wcm.needs_angle else np.full(db.shape, wcm.angle_ref_deg)
    # with A = 0 no soil signal is lost: NaN is a missing or impossible input
    kept = np.isfinite(kernels.isolate(wcm.replace_a(0.0), db, vegetation, angle).soil_db)
    low, high = wcm.limits.sm
    kept &= (sm >= low) & (sm <= high)
    left_out = int((~kept).sum())
    if kept.sum() < MIN_SAMPLES:
        raise DataError(
            f"{int(kept.sum())} of {len(kept)} rows can be used to calibrate the water cloud "
            f"model, {MIN_SAMPLES} are needed: the others miss SM, backscatter, vegetation or "
            "angle, or are out of range"
        )
    db, vegetation, sm, angle = db[kept], vegetation[kept], sm[kept], angle[kept]
    return _UsableRows(apply_rules(wcm, db, vegetation, angle), sm, left_out)


def _residuals(model: _Forward, rows: _UsableRows, residual: str) -> Array:
    """Return (n,) modelled - observed, in m3 m-3 or dB."""
    wcm, c_db, d_db = model.wcm, model.c_db, model.d_db
    if residual == "sm":
        # SM = (sigma_soil - C) / D                                              (3) (6)
        return (isolate_to_fit(wcm, rows.seen)[0] - c_db) / d_db - rows.sm
    # sigma0 = sigma_veg + gamma2 sigma_soil                                       (1-5)
    seen = rows.seen
    expected_db = forward_db(wcm, rows.sm, seen.vwc_kg_m2, seen.angle_deg, c_db, d_db)
    return expected_db - seen.sigma0_db


def _line(wcm: Wcm, rows: _UsableRows) -> tuple[float, float]:
    """Return C and D to begin with: the straight line of soil backscatter on SM, within bounds."""
    soil_db = isolate_to_fit(wcm, rows.seen)[0]
    off = rows.sm - rows.sm.mean()
    spread = float(off @ off)
    slope = float(off @ soil_db) / spread if spread > 0 else 0.0
    d_db = _inside("D", slope)
    return _inside("C", float(soil_db.mean() - d_db * rows.sm.mean())), d_db


def _least_squares(
    residuals: Callable[[Array], Array],
    names: Sequence[str],
    begin: Sequence[float],
    residual: str,
) -> OptimizeResult:
    low, high = np.array([_range(name) for name in names]).T
    return least_squares(
        residuals,
        np.clip(begin, low + 1e-6 * (high - low), high - 1e-6 * (high - low)),
        bounds=(low, high),
        x_scale=[{"A": 0.5, "B": 0.5, "C": 2.0, "D": 5.0}[name] for name in names],
        method="trf",
        loss="soft_l1",
        f_scale=OUTLIER[residual],
        ftol=1e-12,
        xtol=1e-12,
        gtol=1e-12,
    )


def _range(name: str) -> tuple[float, float]:
    """Return the bounds in the terms of the fit: A and B as logarithms."""
    low, high = BOUNDS[name]
    return (math.log(low), math.log(high)) if name in ("A", "B") else (low, high)


def _inside(name: str, value: float) -> float:
    """Move a value slightly inside its bounds, where a fit can begin."""
    low, high = BOUNDS[name]
    return min(max(value, low + 0.01 * (high - low)), high - 0.01 * (high - low))


def _draw(rng: np.random.Generator, name: str) -> float:
    return math.exp(rng.uniform(*_range(name)))


def _on_bound(names: Sequence[str], x: Array) -> tuple[str, ...]:
    found = []
    for name, value in zip(names, x, strict=True):
        low, high = _range(name)
        if min(value - low, high - value) < _NEAR * (high - low):
            found.append(name)
    return tuple(found)
