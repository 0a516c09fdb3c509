"""Water cloud model in NumPy, the same as the kernel of the C core.

Equation numbers are those of Yu, Filippi and Bishop's paper. Symbols:

=============  ====================================================  =========
sigma0         total backscatter (dB, or linear where stated)
V              vegetation water content, VWC                         kg m-2
theta          incidence angle                                       degrees
A, B, E        vegetation parameters of the water cloud model        -, m2 kg-1, -
gamma2         two-way transmissivity of the vegetation              -
sigma_veg      the vegetation's share of the backscatter             linear
sigma_soil     the soil's backscatter below the vegetation           dB
soil fraction  (sigma0 - sigma_veg) / sigma0, all linear             -
=============  ====================================================  =========

Functions of inference read and return float32, as the C kernel does; missing values are NaN and
stay NaN. ``forward_db`` and the functions for fitting use float64 and serve training. ``csrc/``,
the torch layer and the exported ONNX graph implement the same physics;
``tests/kernels/test_four_engines.py`` compares them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags

#: VWC of foliage from NDVI, kg m-2 (SMAP ancillary report, Chan et al. 2013).
VWC_NDVI2 = 1.9134
VWC_NDVI1 = -0.3215
#: NDVI where that is 0, as two float32: 0.1680255 in full.
VWC_ROOT = np.float32(-VWC_NDVI1 / VWC_NDVI2)
VWC_ROOT_LOW = np.float32(-VWC_NDVI1 / VWC_NDVI2 - float(VWC_ROOT))

#: float32 at inference, as in the C kernel; float64 where something is fitted or simulated.
Real = TypeVar("Real", np.float32, np.float64)

DB_TO_NEPER = np.log(10.0) / 10.0  # 1 dB of power in natural-log units


@dataclass(frozen=True)
class Limits:
    """Valid ranges of the inputs; a value outside gives NaN with ``input_out_of_range``.

    Ranges are closed. Above ``dense_vwc_kg_m2`` the flag ``dense_vegetation`` is raised: 5 kg m-2
    is SMAP's limit. With the foliage rule VWC never exceeds 1.6, and C-band loses the soil signal
    near NDVI 0.8, so training writes 1.0 there.
    """

    sigma0_db: tuple[float, float] = (-60.0, 10.0)
    angle_deg: tuple[float, float] = (5.0, 75.0)
    ndvi: tuple[float, float] = (-1.0, 1.0)
    vwc_kg_m2: tuple[float, float] = (0.0, 50.0)
    dense_vwc_kg_m2: float = 5.0
    sm: tuple[float, float] = (0.0, 1.0)

    def __post_init__(self) -> None:
        for name in ("sigma0_db", "angle_deg", "ndvi", "vwc_kg_m2", "sm"):
            low, high = getattr(self, name)
            if not low <= high:
                raise ValueError(f"limits of {name} must be low <= high, got {low!r}, {high!r}")
        if np.isnan(self.dense_vwc_kg_m2):
            raise ValueError("dense_vwc_kg_m2 must be a number, got nan")


def default_limits(vwc_rule: str) -> Limits:
    """Return the limits with the ``dense_vwc_kg_m2`` of a VWC rule.

    >>> default_limits("foliage").dense_vwc_kg_m2, default_limits("column").dense_vwc_kg_m2
    (1.0, 5.0)
    """
    return Limits(dense_vwc_kg_m2=1.0) if vwc_rule == "foliage" else Limits()


@dataclass(frozen=True)
class Wcm:
    """Parameters of the water cloud model and rules for its inputs.

    a: A of Eq 2, linear power, > 0.
    b: B of Eq 5, m2 kg-1, >= 0.
    e: E of Eq 2, 0 in the paper, 1 is common.
    vwc_rule: ``foliage`` (from NDVI) or ``column`` (a VWC column).
    stem_kg_m2: constant added to the foliage, stem * (Nmax - Nmin) / (1 - Nmin).
    angle_rule: ``constant`` (``angle_ref_deg`` for all), ``column`` (the angle of
        each acquisition) or ``normalise`` (sigma0 is normalised to ``angle_ref_deg``
        by (cos ref / cos theta) ** angle_exponent, then ref is used).
    min_soil_fraction: below it the flag ``soil_signal_lost`` is raised.
    """

    a: float
    b: float = 0.084
    e: float = 0.0
    vwc_rule: str = "foliage"
    stem_kg_m2: float = 0.0
    angle_rule: str = "constant"
    angle_ref_deg: float = 40.0
    angle_exponent: float = 2.0
    min_soil_fraction: float = 0.1
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        if not (np.isfinite(self.a) and self.a >= 0):
            raise ValueError(f"A must be a finite number >= 0, got {self.a!r}")
        if not (np.isfinite(self.b) and self.b >= 0):
            raise ValueError(f"B must be a finite number >= 0, got {self.b!r}")
        if not (np.isfinite(self.e) and self.e >= 0):
            raise ValueError(f"E must be a finite number >= 0, got {self.e!r}")
        if not (np.isfinite(self.stem_kg_m2) and self.stem_kg_m2 >= 0):
            raise ValueError(f"stem_kg_m2 must be a finite number >= 0, got {self.stem_kg_m2!r}")
        if self.vwc_rule not in ("foliage", "column"):
            raise ValueError(f"vwc_rule must be 'foliage' or 'column', got {self.vwc_rule!r}")
        if self.angle_rule not in ("constant", "column", "normalise"):
            raise ValueError(
                f"angle_rule must be 'constant', 'column' or 'normalise', got {self.angle_rule!r}"
            )
        if not 0 < self.angle_ref_deg < 90:
            raise ValueError(f"angle_ref_deg must lie in (0, 90), got {self.angle_ref_deg!r}")
        if not np.isfinite(self.angle_exponent):
            raise ValueError(f"angle_exponent must be finite, got {self.angle_exponent!r}")
        if not 0 < np.float32(self.min_soil_fraction) < 1:
            raise ValueError(
                f"min_soil_fraction must lie in (0, 1), got {self.min_soil_fraction!r}"
            )

    def replace_a(self, a: float) -> Wcm:
        """Return the same parameters with another A."""
        return replace(self, a=a)

    @property
    def vegetation_name(self) -> str:
        """Name the table column of the vegetation: ``ndvi`` or ``vwc_kg_m2``."""
        return "ndvi" if self.vwc_rule == "foliage" else "vwc_kg_m2"

    @property
    def needs_angle(self) -> bool:
        """True if the model reads the angle of each acquisition."""
        return self.angle_rule != "constant"


class Isolated(NamedTuple):
    """Result of isolation per acquisition, each array of the input's shape.

    soil_db: float32, sigma_soil of Eq 12; NaN where ``flags`` gives the reason.
    soil_fraction: float32; NaN where an input is missing or out of range, and the
        (small or negative) fraction itself where the soil signal is lost.
    flags: uint16, bits of :mod:`kgsm_infer.base.flags`.
    """

    soil_db: NDArray[np.float32]
    soil_fraction: NDArray[np.float32]
    flags: NDArray[np.uint16]


def db_to_linear(db: ArrayLike) -> NDArray[np.float32]:
    """Convert decibels to power, 10 ** (db / 10).

    >>> db_to_linear([-10.0, 0.0]).round(6).tolist()
    [0.10000000149011612, 1.0]
    """
    return np.asarray(np.exp(np.asarray(db, np.float32) * np.float32(DB_TO_NEPER)), np.float32)


def linear_to_db(linear: ArrayLike) -> NDArray[np.float32]:
    """Convert power to decibels, 10 * log10(linear); 0 gives -inf, below 0 gives NaN.

    >>> linear_to_db([0.1, 1.0]).tolist()
    [-10.0, 0.0]
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.float32(10.0) * np.log10(np.asarray(linear, np.float32))


def vwc_from_ndvi(ndvi: ArrayLike, stem_kg_m2: float = 0.0) -> NDArray[np.float32]:
    """Compute vegetation water content, kg m-2: max(0, 1.9134 N**2 - 0.3215 N) + stem.

    >>> vwc_from_ndvi([0.1, 0.8]).round(4).tolist()
    [0.0, 0.9674000144004822]
    """
    return _vwc(np.asarray(ndvi, np.float32), stem_kg_m2)


def _vwc(n: NDArray[Real], stem_kg_m2: float) -> NDArray[Real]:
    """Compute VWC by the foliage rule in the precision of ``n``."""
    real = n.dtype.type
    # as 1.9134 N (N - root): near the root the plain form cancels, which costs up
    # to 0.03 dB of a weak soil signal
    foliage = real(VWC_NDVI2) * n * ((n - real(VWC_ROOT)) - real(VWC_ROOT_LOW))
    return np.asarray(np.maximum(foliage, real(0)) + real(stem_kg_m2))


def _vegetation(
    wcm: Wcm, vwc: NDArray[Real], cos_theta: NDArray[Real]
) -> tuple[NDArray[Real], NDArray[Real]]:
    """Compute 2 tau / cos theta and sigma_veg in the precision of ``vwc``."""
    real = vwc.dtype.type
    # gamma2 = exp(-2 tau / cos theta), tau = B V                                (4) (5)
    two_tau = real(2 * wcm.b) * vwc / cos_theta
    # sigma_veg = A V**E cos theta (1 - gamma2)                                      (2)
    return two_tau, real(wcm.a) * vwc ** real(wcm.e) * cos_theta * -np.expm1(-two_tau)


def isolate(
    wcm: Wcm,
    sigma0_db: ArrayLike,
    vegetation: ArrayLike,
    angle_deg: ArrayLike | None = None,
) -> Isolated:
    """Compute the soil's backscatter below the vegetation (Eqs 1, 2, 4, 5, 12).

    sigma0_db, vegetation (NDVI, or VWC in kg m-2 with the ``column`` rule) and angle_deg (degrees;
    only with the ``column`` and ``normalise`` rules) have one shape or broadcast to it.

    >>> soil = isolate(Wcm(a=0.02), [-15.0, -25.0, np.nan], [0.5, 0.9, 0.5])
    >>> soil.soil_db.astype(float).round(3).tolist()
    [-14.841, nan, nan]
    >>> [flags.names(mask) for mask in soil.flags]
    ['', 'soil_signal_lost', 'missing_input']
    """
    limits = wcm.limits
    sigma0_db, vegetation = np.broadcast_arrays(
        np.asarray(sigma0_db, np.float32), np.asarray(vegetation, np.float32)
    )
    low, high = limits.ndvi if wcm.vwc_rule == "foliage" else limits.vwc_kg_m2
    missing = np.isnan(sigma0_db) | np.isnan(vegetation)
    outside = _outside(sigma0_db, *limits.sigma0_db) | _outside(vegetation, low, high)
    if wcm.needs_angle:
        if angle_deg is None:
            raise ValueError(f"angle rule {wcm.angle_rule!r} needs angle_deg")
        theta_deg = np.broadcast_to(np.asarray(angle_deg, np.float32), sigma0_db.shape)
        missing = missing | np.isnan(theta_deg)
        outside = outside | _outside(theta_deg, *limits.angle_deg)
    else:
        theta_deg = None
    cos_ref = np.float32(np.cos(np.deg2rad(wcm.angle_ref_deg)))

    with np.errstate(all="ignore"):
        vwc = vwc_from_ndvi(vegetation, wcm.stem_kg_m2) if wcm.vwc_rule == "foliage" else vegetation
        cos_theta = cos_ref if theta_deg is None else _cos_deg(theta_deg)
        sigma0 = db_to_linear(sigma0_db)
        if wcm.angle_rule == "normalise":
            sigma0 = sigma0 * (cos_ref / cos_theta) ** np.float32(wcm.angle_exponent)
            cos_theta = cos_ref
        two_tau, sigma_veg = _vegetation(wcm, vwc, np.asarray(cos_theta, np.float32))
        # sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)              (1) (12)
        left = sigma0 - sigma_veg
        soil_fraction = left / sigma0
        soil_db = np.asarray(linear_to_db(left) + two_tau / np.float32(DB_TO_NEPER), np.float32)

    bad = missing | outside
    soil_fraction = np.where(bad, np.float32(np.nan), soil_fraction)
    # soil_db is infinite only with limits so wide that float32 overflows
    kept = (soil_fraction >= np.float32(wcm.min_soil_fraction)) & np.isfinite(soil_db)
    lost = ~bad & ~kept
    dense = ~bad & (vwc > np.float32(limits.dense_vwc_kg_m2))
    mask = (
        missing * np.uint16(flags.MISSING_INPUT)
        | outside * np.uint16(flags.INPUT_OUT_OF_RANGE)
        | lost * np.uint16(flags.SOIL_SIGNAL_LOST)
        | dense * np.uint16(flags.DENSE_VEGETATION)
    )
    soil_db = np.where(bad | lost, np.float32(np.nan), soil_db)
    return Isolated(soil_db, soil_fraction, np.asarray(mask, np.uint16))


def screen(
    sigma0_db: ArrayLike, limits: Limits = Limits()
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Screen the backscatter of a model without a water cloud model (the plain LSTM).

    Returns sigma0_db, NaN where out of range, and its flags, both of its shape.
    """
    sigma0_db = np.asarray(sigma0_db, np.float32)
    missing, outside = np.isnan(sigma0_db), _outside(sigma0_db, *limits.sigma0_db)
    mask = missing * np.uint16(flags.MISSING_INPUT) | outside * np.uint16(flags.INPUT_OUT_OF_RANGE)
    return np.where(outside, np.float32(np.nan), sigma0_db), np.asarray(mask, np.uint16)


def invert(soil_db: ArrayLike, c_db: float, d_db: float) -> NDArray[np.float32]:
    """Compute SM (m3 m-3) of the WCM baseline, (sigma_soil[dB] - C) / D (Eqs 3, 6).

    c_db: soil backscatter at SM = 0, dB.  d_db: its change per m3 m-3, dB, not 0.
    The result is not clipped.

    >>> invert([-15.0, np.nan], c_db=-20.0, d_db=25.0).round(6).tolist()
    [0.20000000298023224, nan]
    """
    if not (np.isfinite(c_db) and np.isfinite(d_db) and np.float32(d_db) != 0):
        raise ValueError(f"C and D must be finite and D not 0, got C={c_db!r}, D={d_db!r}")
    return (np.asarray(soil_db, np.float32) - np.float32(c_db)) / np.float32(d_db)


class EquationInputs(NamedTuple):
    """Inputs of the equations after the rules, all float64 and of one shape.

    sigma0_db: at ``angle_ref_deg`` under the ``normalise`` rule.  angle_deg: theta of Eqs 2 and 4.
    """

    sigma0_db: NDArray[np.float64]
    vwc_kg_m2: NDArray[np.float64]
    angle_deg: NDArray[np.float64]


def apply_rules(
    wcm: Wcm, sigma0_db: ArrayLike, vegetation: ArrayLike, angle_deg: ArrayLike
) -> EquationInputs:
    """Apply the rules of vegetation and angle in float64, for simulation and fitting.

    Arguments as in :func:`isolate`; every value must be present and in range.
    """
    db, vwc, angle = np.broadcast_arrays(
        *(np.asarray(column, np.float64) for column in (sigma0_db, vegetation, angle_deg))
    )
    if wcm.vwc_rule == "foliage":
        vwc = _vwc(vwc, wcm.stem_kg_m2)
    if wcm.angle_rule == "normalise":
        ratio = np.cos(np.deg2rad(wcm.angle_ref_deg)) / np.cos(np.deg2rad(angle))
        db = db + 10 * wcm.angle_exponent * np.log10(ratio)
    if wcm.angle_rule != "column":
        angle = np.full(db.shape, wcm.angle_ref_deg)
    return EquationInputs(db, vwc, angle)


def isolate_to_fit(
    wcm: Wcm, seen: EquationInputs
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute soil_db and soil_fraction in float64, as :func:`isolate`, for a fit.

    They are finite also where the soil signal is lost: :func:`smooth_floor` keeps the soil fraction
    positive, so that a fit still has a gradient there.
    """
    two_tau, sigma_veg = _vegetation(wcm, seen.vwc_kg_m2, np.cos(np.deg2rad(seen.angle_deg)))
    fraction = 1.0 - sigma_veg / 10 ** (seen.sigma0_db / 10)
    # sigma_soil[dB] = 10 log10((sigma0 - sigma_veg) / gamma2)                  (1) (12)
    kept = smooth_floor(fraction, wcm.min_soil_fraction)
    return seen.sigma0_db + 10 * np.log10(kept) + two_tau / DB_TO_NEPER, fraction


def smooth_floor(fraction: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """Replace fractions below the limit by limit**2 / (2 limit - fraction), which is > 0.

    >>> smooth_floor(np.array([0.5, 0.1, -0.3]), 0.1).round(4).tolist()
    [0.5, 0.1, 0.02]
    """
    below = limit**2 / (2 * limit - np.minimum(fraction, limit))
    return np.where(fraction >= limit, fraction, below)


def forward_db(
    wcm: Wcm, sm: ArrayLike, vwc_kg_m2: ArrayLike, angle_deg: ArrayLike, c_db: float, d_db: float
) -> NDArray[np.float64]:
    """Compute the total backscatter in dB (Eqs 1-5), float64, for simulation only."""
    vwc = np.asarray(vwc_kg_m2, np.float64)
    cos_theta = np.cos(np.deg2rad(np.asarray(angle_deg, np.float64)))
    two_tau, sigma_veg = _vegetation(wcm, vwc, cos_theta)
    sigma_soil = 10.0 ** ((c_db + d_db * np.asarray(sm, np.float64)) / 10.0)
    return np.asarray(10.0 * np.log10(sigma_veg + np.exp(-two_tau) * sigma_soil))


def _outside(x: NDArray[np.float32], low: float, high: float) -> NDArray[np.bool_]:
    """Return True where x lies outside [low, high]; NaN is missing, not outside."""
    return (x < np.float32(low)) | (x > np.float32(high))


def _cos_deg(angle_deg: NDArray[np.float32]) -> NDArray[np.float32]:
    """Compute cos(angle) as the sine of the complement, which float32 represents exactly.

    At 75 degrees the cosine of a rounded angle has four times the relative error.
    """
    return np.asarray(np.sin(np.deg2rad(np.float32(90) - angle_deg, dtype=np.float32)))
