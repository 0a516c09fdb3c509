"""Fitting the physics head: change detection, or the WCM, as a bounded straight line.

    SM = b0 + b1 z + b2 z_scene + b3 (ndvi - ndvi_scene) + b4 z_before                  (change)
    SM = (sigma_soil - C) / D                                            (wcm; Eqs 3 and 6)

z is ``vh_anomaly`` of :mod:`kgsm_infer.context.definitions`: how far a place's backscatter is over
what is
usual there, in its own swings; z_scene is its mean over the scene, which carries the weather all
places share. b1, b2 >= 0, because wet soil is bright. NDVI enters as its departure from the
scene's: between dates its level tells the season, and of seasons a table knows few.

The fit is least squares within BOUNDS, on the labelled rows it is given and nothing else.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import lsq_linear

from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.head import Head, Readout, Term, readout_of
from kgsm_infer.kernels.window import Layout

from ..config import Config
from .calibrate import Calibration, calibrate
from .network import on_tile, raw_tile
from .samples import Samples, batch_of

Rows = NDArray[np.int64]

#: What a slope may be, m3 m-3 per unit of its channel.
ANOMALY, LOOK_BEFORE, BACKSCATTER_DB, OTHER = (0.0, 0.3), (-0.1, 0.1), (0.0, 0.1), (-1.0, 1.0)
#: Fewest labelled rows a head is fitted to.
MIN_SAMPLES = 10
#: A slope nearer to a bound than this share of the range is on it.
_NEAR = 1e-3


@dataclass(frozen=True)
class FittedHead:
    """A head and how its fit went. on_bound: terms whose slope ended on a bound.

    samples: rows it was fitted to.
    """

    head: Head
    on_bound: tuple[str, ...]
    samples: int

    @property
    def parameters(self) -> dict[str, float]:
        """The numbers by name, for the record of every fold."""
        return {
            "intercept": self.head.intercept,
            **{label(term): term.slope for term in self.head.terms},
        }


def label(term: Term) -> str:
    """A term as one name.

    >>> label(Term("vh_anomaly", 1, 0.1)), label(Term("vh_anomaly", 0, 0.1))
    ('vh_anomaly before', 'vh_anomaly')
    """
    return term.channel + (" before" if term.lag == 1 else f" {term.lag} before" * (term.lag > 1))


def fit_change(config: Config, samples: Samples, layout: Layout, rows: Rows) -> FittedHead:
    """Change detection fitted to the labelled ``rows``; its shrink is still 1.

    A look before that is not there counts as an average one, as in every engine.
    DataError for fewer than MIN_SAMPLES rows.
    """
    if len(rows) < MIN_SAMPLES:
        raise DataError(f"{len(rows)} labelled rows are too few for a head of change detection")
    batch = batch_of(samples, rows)
    tile = raw_tile(layout, batch.sigma0_db, batch.observed, batch).numpy().astype(np.float64)
    terms, columns, low, high = config.head_terms(), [], [], []
    for name, lag in terms:
        at = samples.channels.index(name)
        columns.append(tile[layout.steps - 1 - lag, :, at] * layout.std[at] + layout.mean[at])
        bounds = _bounds(name, lag)
        low.append(bounds[0])
        high.append(bounds[1])
    design = np.stack([np.ones(len(rows)), *columns], axis=1)
    found = lsq_linear(design, samples.sm[rows].astype(np.float64), ([-1, *low], [2, *high])).x
    fitted = tuple(
        Term(name, lag, float(slope)) for (name, lag), slope in zip(terms, found[1:], strict=True)
    )
    on_bound = tuple(
        label(term)
        for term, least, most in zip(fitted, low, high, strict=True)
        if min(term.slope - least, most - term.slope) < _NEAR * (most - least)
    )
    return FittedHead(Head("change", float(found[0]), fitted, 1.0), on_bound, len(rows))


def calibrated(config: Config, samples: Samples, rows: Rows) -> Calibration:
    """The WCM calibrated on the labelled ``rows`` (Eqs 1-6)."""
    observed = samples.observed.take(rows)
    return calibrate(
        config.wcm.with_a(config.wcm.a),
        observed.sigma0_db,
        np.zeros(0) if observed.vegetation is None else observed.vegetation,
        samples.sm[rows],
        observed.angle_deg,
        residual=config.wcm.residual,
        seed=config.training.seed,
    )


def head_of_wcm(found: Calibration) -> FittedHead:
    """The calibrated WCM as a line on the soil's backscatter: SM = (sigma_soil - C) / D."""
    line = Term("soil_db", 0, 1.0 / found.d_db)
    head = Head("wcm", -found.c_db / found.d_db, (line,), 1.0)
    return FittedHead(head, found.on_bound, found.samples)


def alone(readout: Readout, samples: Samples, layout: Layout, rows: Rows) -> NDArray[np.float32]:
    """SM of the change-detection head alone, clipped to 0..1; NaN where a row has no number."""
    whole = samples.complete[rows] & np.isfinite(samples.observed.statics[rows]).all(axis=1)
    batch = batch_of(samples, rows)
    tile = raw_tile(layout, batch.sigma0_db, batch.observed, batch)
    sm = on_tile(readout, tile).clamp(0.0, 1.0).numpy()
    return np.where(whole, sm, np.float32(np.nan)).astype(np.float32)


def readout_for(head: Head, samples: Samples, layout: Layout) -> Readout:
    """The head on the scaled tile of these samples."""
    return readout_of(head, layout, samples.channels)


def _bounds(name: str, lag: int) -> tuple[float, float]:
    if lag > 0:
        return LOOK_BEFORE
    if "_anomaly" in name:
        return ANOMALY
    return BACKSCATTER_DB if name.endswith("_db") else OTHER
