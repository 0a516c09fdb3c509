"""Measure how much the water cloud model changes the backscatter of a table.

For parameters A, B and E, and the vegetation and labels of a table:

    shift = |sigma_soil - sigma0|, dB                       median and 90 % quantile over the rows
    R     = correlation of backscatter with SM, before and after isolation, all rows and within
            groups (each group's mean subtracted)

A small shift means that isolation cannot change any score, whatever its worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.model.observations import isolate_observed

from ..config import Config
from ..learning.samples import Samples, Source, read_source, samples_of
from .metrics import number, scores

#: B of C-band in m2 kg-1 and E: the paper's, and values in use elsewhere.
B_TRIED, E_TRIED = (0.084, 0.12, 0.2), (0.0, 1.0)


@dataclass(frozen=True)
class Isolation:
    """Effect of one set of parameters. lost: share of rows whose soil signal is lost."""

    a: float
    b: float
    e: float
    shift_db: float
    shift_90_db: float
    lost: float
    r_before: float
    r_after: float
    within_before: float
    within_after: float


def isolation_effects(config: Config, source: Source | None = None) -> list[Isolation]:
    """Compute the effect of isolation for B_TRIED and E_TRIED, with the configuration's A."""
    source = source or read_source(
        replace(config, crossval=replace(config.crossval, models=("wcm",)))
    )
    samples = samples_of(source, config, "wcm")
    return [_effect(config, samples, b, e) for e in E_TRIED for b in B_TRIED]


def _effect(config: Config, samples: Samples, b: float, e: float) -> Isolation:
    options = replace(config.wcm, b=b, e=e)
    wcm, rows = options.with_a(options.a), np.flatnonzero(samples.labelled)
    observed = samples.observed.take(rows)
    before = observed.sigma0_db.astype(np.float64)
    after = isolate_observed(wcm, observed).soil_db.astype(np.float64)
    known = np.isfinite(after)
    shift, sm = np.abs(after - before)[known], samples.sm[rows].astype(np.float64)[known]
    group = np.unique(samples.group[rows][known], return_inverse=True)[1]

    def within(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(values - (np.bincount(group, values) / np.bincount(group))[group])

    return Isolation(
        wcm.a,
        b,
        e,
        float(np.median(shift)),
        float(np.quantile(shift, 0.9)),
        float(1 - known.mean()),
        scores(sm, before[known]).r,
        scores(sm, after[known]).r,
        scores(within(sm), within(before[known])).r,
        scores(within(sm), within(after[known])).r,
    )


def isolation_rows(found: Sequence[Isolation]) -> list[tuple[str, ...]]:
    """Return the effects as text cells, a heading first."""
    heading = ("A", "B", "E", "median shift (dB)", "90 % (dB)", "signal lost")
    rows: list[tuple[str, ...]] = [(*heading, "R before, after", "within groups")]
    rows += [
        (
            f"{one.a:g}",
            f"{one.b:g}",
            f"{one.e:g}",
            f"{one.shift_db:.2f}",
            f"{one.shift_90_db:.2f}",
            f"{one.lost:.0%}",
            f"{number(one.r_before, '.2f')}, {number(one.r_after, '.2f')}",
            f"{number(one.within_before, '.2f')}, {number(one.within_after, '.2f')}",
        )
        for one in found
    ]
    return rows
