"""Fit a physics head: the wetness index between fitted limits, change detection, or the WCM.

    SM = dry + (wet - dry) Phi(z/2 + z_fields/2 + sum_k c_k x_k)                 (index)
    SM = b0 + b1 z + b2 z_scene + b3 (ndvi - ndvi_scene) + b4 z_before           (change)
    SM = (sigma_soil - C) / D                                   (wcm; Eqs 3 and 6)

z is ``vh_anomaly`` of :mod:`kgsm_infer.context.definitions`, the backscatter above the usual
state of a place in units of its standard deviation. z_fields and z_scene are its means over the
fields and over the rows of an acquisition: the weather that all places share. x_k are further
channels, such as 1 in a paddy field.

Change detection is bounded least squares: b1, b2 >= 0, because wet soil is bright. NDVI enters
as its departure from the scene, because its level depends on the season.

The index has priors, because a table knows few dates: dry .05 +- .03, wet - dry .30 +- .05,
c_k 0 +- 1. The labels of one date share an error, and so do those of one field on one date, so
the misfit is weighted by the inverse covariance of

    error = date effect + field effect on the date + point          (generalised least squares)

with the variances of ERROR. The estimate is the mode of the posterior.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.optimize import least_squares, lsq_linear
from scipy.special import ndtr

from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.head import Head, Readout, Term, readout_of
from kgsm_infer.kernels.window import Layout
from kgsm_infer.model.date_effect import Variances

from ..config import Config
from .calibrate import Calibration, LabelledAcquisitions, calibrate
from .network import on_tile, raw_tile
from .samples import Samples, batch_of

Rows = NDArray[np.int64]

#: Prior mean and standard deviation, and bounds: dry and wet - dry (m3 m-3), c_k (per unit).
DRY, SPAN, SLOPE = (0.05, 0.03), (0.30, 0.05), (0.0, 1.0)
DRY_BOUNDS, SPAN_BOUNDS, SLOPE_BOUNDS = (0.0, 0.4), (0.05, 0.6), (-3.0, 3.0)
#: Error variances that weight the labels, (m3 m-3)**2: .05, .05 and .07 m3 m-3 squared.
ERROR = Variances(date=0.0025, field=0.0025, point=0.0049)
#: Bounds of a slope of change detection, m3 m-3 per unit of its channel.
ANOMALY, LOOK_BEFORE, BACKSCATTER_DB, OTHER = (0.0, 0.3), (-0.1, 0.1), (0.0, 0.1), (-1.0, 1.0)
#: Fewest labelled rows to fit a head to.
MIN_SAMPLES = 10
#: A parameter is on a bound if it is nearer than this share of the range.
_NEAR = 1e-3


@dataclass(frozen=True)
class FittedHead:
    """A fitted head.

    on_bound: parameters that ended on a bound.  samples: number of rows fitted to.
    """

    head: Head
    on_bound: tuple[str, ...]
    samples: int

    @property
    def parameters(self) -> dict[str, float]:
        """Return the parameters by name."""
        limits = self.head.limits
        first = {"intercept": self.head.intercept}
        if limits is not None:
            first = {"dry": limits[0], "wet": limits[1]}
        return {
            **first,
            **{label(term): term.slope for term in self.head.terms},
        }


def label(term: Term) -> str:
    """Return the name of a term.

    >>> label(Term("vh_anomaly", 1, 0.1)), label(Term("vh_anomaly", 0, 0.1))
    ('vh_anomaly before', 'vh_anomaly')
    """
    return term.channel + (" before" if term.lag == 1 else f" {term.lag} before" * (term.lag > 1))


def fit_head(kind: str, config: Config, samples: Samples, layout: Layout, rows: Rows) -> FittedHead:
    """Fit a head of kind ``index`` or ``change`` to the labelled ``rows``; its shrink is 1."""
    fit = {"index": fit_index, "change": fit_change}[kind]
    return fit(config, samples, layout, rows)


def fit_index(config: Config, samples: Samples, layout: Layout, rows: Rows) -> FittedHead:
    """Fit dry, wet and the slopes of further channels of the index to the labelled ``rows``.

    DataError for fewer than MIN_SAMPLES rows.
    """
    terms = config.head_terms("index")
    columns = _columns(samples, layout, rows, terms)
    z = 0.5 * columns[:, 0] + 0.5 * columns[:, 1]
    others, sm = columns[:, 2:], samples.sm[rows].astype(np.float64)
    priors = np.asarray([DRY, SPAN, *[SLOPE] * others.shape[1]])
    low, high = np.asarray([DRY_BOUNDS, SPAN_BOUNDS, *[SLOPE_BOUNDS] * others.shape[1]]).T
    whiten = Whitening.of(samples, rows)

    def misfit(parameters: NDArray[np.float64]) -> NDArray[np.float64]:
        dry, span, *slopes = parameters
        left = sm - dry - span * ndtr(z + others @ slopes)
        return np.concatenate([whiten(left), (parameters - priors[:, 0]) / priors[:, 1]])

    found = least_squares(misfit, priors[:, 0], bounds=(low, high), xtol=1e-10, ftol=1e-10).x
    names = ["dry", "wet", *(label(Term(name, lag, 0.0)) for name, lag in terms[2:])]
    dry, span, *slopes = found.tolist()
    fitted = tuple(
        Term(name, lag, slope)
        for (name, lag), slope in zip(terms, (0.5, 0.5, *slopes), strict=True)
    )
    head = Head("index", 0.0, fitted, 1.0, limits=(dry, min(dry + span, 1.0)))
    return FittedHead(head, _on_bound(names, found, low, high), len(rows))


@dataclass(frozen=True)
class Whitening:
    """Turns errors into independent ones of variance 1.

    blocks: for each date, its rows and the Cholesky factor of their error covariance.
    """

    blocks: tuple[tuple[Rows, NDArray[np.float64]], ...]

    @classmethod
    def of(cls, samples: Samples, rows: Rows) -> Whitening:
        """Compute the factors for labelled rows, with the variances ERROR."""
        day, blocks = np.floor(samples.observed.day[rows]), []
        for date in np.unique(day):
            here = np.flatnonzero(day == date)
            group = samples.group[rows[here]]
            covariance = ERROR.date + ERROR.field * (group[:, None] == group)
            covariance = covariance + ERROR.point * np.eye(len(here))
            blocks.append((here, np.linalg.cholesky(covariance)))
        return cls(tuple(blocks))

    def __call__(self, error: NDArray[np.float64]) -> NDArray[np.float64]:
        """Whiten errors (K,)."""
        found = np.empty(len(error))
        for here, factor in self.blocks:
            found[here] = solve_triangular(factor, error[here], lower=True)
        return found


def fit_change(config: Config, samples: Samples, layout: Layout, rows: Rows) -> FittedHead:
    """Fit change detection to the labelled ``rows``.

    A missing previous look counts as an average one, as in every engine.
    DataError for fewer than MIN_SAMPLES rows.
    """
    terms = config.head_terms("change")
    columns = _columns(samples, layout, rows, terms)
    low, high = np.asarray([(-1.0, 2.0), *(_bounds(name, lag) for name, lag in terms)]).T
    found = solve_change(columns, samples.sm[rows].astype(np.float64), low, high)
    fitted = tuple(
        Term(name, lag, float(slope)) for (name, lag), slope in zip(terms, found[1:], strict=True)
    )
    on_bound = _on_bound([label(term) for term in fitted], found[1:], low[1:], high[1:])
    return FittedHead(Head("change", float(found[0]), fitted, 1.0), on_bound, len(rows))


def solve_change(
    columns: NDArray[np.float64],
    sm: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Solve sm = b0 + columns b by bounded least squares; return (b0, b).

    columns: (K, M).  sm: (K,).  low, high: (M + 1,) bounds of b0 and b.
    """
    design = np.column_stack([np.ones(len(columns)), columns])
    solution: NDArray[np.float64] = lsq_linear(design, sm, (low, high)).x
    return solution


def _columns(
    samples: Samples, layout: Layout, rows: Rows, terms: Sequence[tuple[str, int]]
) -> NDArray[np.float64]:
    """Return the terms (K, number of terms) of ``rows`` in their own units."""
    if len(rows) < MIN_SAMPLES:
        raise DataError(
            f"{len(rows)} labelled rows are too few to fit a head; {MIN_SAMPLES} are needed"
        )
    batch = batch_of(samples, rows)
    tile = raw_tile(layout, batch.sigma0_db, batch.observed, batch).numpy().astype(np.float64)
    found = []
    for name, lag in terms:
        at = samples.channels.index(name)
        found.append(tile[layout.steps - 1 - lag, :, at] * layout.std[at] + layout.mean[at])
    return np.stack(found, axis=1)


def _on_bound(
    names: Sequence[str],
    values: NDArray[np.float64],
    low: NDArray[np.float64],
    high: NDArray[np.float64],
) -> tuple[str, ...]:
    near = np.minimum(values - low, high - values) < _NEAR * (high - low)
    return tuple(name for name, on in zip(names, near, strict=True) if on)


def calibrated(config: Config, samples: Samples, rows: Rows) -> Calibration:
    """Calibrate the WCM on the labelled ``rows`` (Eqs 1-6)."""
    return calibrate(
        config.wcm.with_a(config.wcm.a),
        LabelledAcquisitions.of(samples.observed.take(rows), samples.sm[rows]),
        residual=config.wcm.residual,
        seed=config.training.seed,
    )


def head_of_wcm(found: Calibration) -> FittedHead:
    """Turn a calibrated WCM into a line on the soil's backscatter: SM = (sigma_soil - C) / D."""
    line = Term("soil_db", 0, 1.0 / found.d_db)
    head = Head("wcm", -found.c_db / found.d_db, (line,), 1.0)
    return FittedHead(head, found.on_bound, found.samples)


def alone(readout: Readout, samples: Samples, layout: Layout, rows: Rows) -> NDArray[np.float32]:
    """Compute SM (K,) of a head alone, clipped to 0..1; NaN where an input is missing."""
    whole = samples.complete[rows] & np.isfinite(samples.observed.statics[rows]).all(axis=1)
    batch = batch_of(samples, rows)
    tile = raw_tile(layout, batch.sigma0_db, batch.observed, batch)
    sm = on_tile(readout, tile).clamp(0.0, 1.0).numpy()
    return np.where(whole, sm, np.float32(np.nan)).astype(np.float32)


def readout_for(head: Head, samples: Samples, layout: Layout) -> Readout:
    """Convert a head to the scaled tile of these samples."""
    return readout_of(head, layout, samples.channels)


def _bounds(name: str, lag: int) -> tuple[float, float]:
    if lag > 0:
        return LOOK_BEFORE
    if "_anomaly" in name:
        return ANOMALY
    return BACKSCATTER_DB if name.endswith("_db") else OTHER
