"""Score the daily model on labelled series with simulated passes.

Every site is scored with parameters that its fold had no part in. Passes are simulated from the
labels (:func:`kgsm_train.learning.daily.simulate_passes`), and every labelled day from a site's
first pass on is scored, for each seed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.daily.bucket import day_of_year, run_bucket
from kgsm_infer.daily.parameters import Parameters
from kgsm_infer.daily.run import Estimates, drive, estimate

from ..learning.daily import (
    SPIN_UP,
    DataOrigin,
    Labelled,
    fit_daily,
    observations_of,
    simulate_passes,
)
from .metrics import scores

Array = NDArray[np.float64]

#: Methods in the order of the table.
METHODS = ("on pass days", "hold", "linear", "season", "rain", "daily")
#: Ages of the last pass with fewer labelled days than this have no coverage.
FEWEST = 200


@dataclass(frozen=True)
class MethodScore:
    """Correlation, RMSE (m3 m-3), bias and number of days of one method, mean over seeds."""

    r: float
    rmse: float
    bias: float
    n: float


@dataclass(frozen=True)
class RevisitScores:
    """Scores of one interval between passes.

    scores: by method.  coverage: share of days inside the 90 % band.  by_age: the same for each
    age of the last pass, days.  width: mean of the band, m3 m-3.
    """

    every: int
    scores: dict[str, MethodScore]
    coverage: float
    by_age: dict[int, float]
    width: float


@dataclass(frozen=True)
class SiteDaySplit:
    """Sites and days that are scored with one fit, (S,) and (D,)."""

    sites: NDArray[np.bool_]
    days: NDArray[np.bool_]


def by_fold(fold: Sequence[str], days: int) -> list[SiteDaySplit]:
    """Split by sites: each fold is scored on all days."""
    names = np.asarray(fold)
    return [SiteDaySplit(names == name, np.ones(days, bool)) for name in np.unique(names)]


def by_fold_and_years(
    fold: Sequence[str], labelled: Labelled, blocks: int = 2
) -> list[SiteDaySplit]:
    """Split by sites and by blocks of whole years with about as many labels each."""
    year = labelled.day.astype("datetime64[D]").astype("datetime64[Y]").astype(int)
    count = np.asarray([np.isfinite(labelled.sm[year == one]).sum() for one in np.unique(year)])
    done = (np.cumsum(count) - count / 2) / count.sum()
    block = np.minimum((done * blocks).astype(int), blocks - 1)[year - year.min()]
    return [
        SiteDaySplit(part.sites, block == one)
        for part in by_fold(fold, len(labelled.sm))
        for one in range(blocks)
    ]


def fit_splits(
    labelled: Labelled,
    splits: Sequence[SiteDaySplit],
    source: DataOrigin,
    stores: int = 2,
    tell: Callable[[str], None] = lambda text: None,
) -> list[Parameters]:
    """Fit parameters for each split, without its sites and without labels of its days.

    A split of all days leaves only its sites out.
    """
    fitted = []
    for number, split in enumerate(splits, 1):
        days = None if split.days.all() else ~split.days
        fitted.append(fit_daily(labelled.part(~split.sites, days), source, stores))
        tell(f"fit {number} of {len(splits)}")
    return fitted


def score_daily(
    labelled: Labelled,
    splits: Sequence[SiteDaySplit],
    fitted: Sequence[Parameters],
    every: int,
    seeds: Sequence[int] = (0, 1, 2),
) -> RevisitScores:
    """Score all methods with passes every ``every`` days."""
    sites, days = len(labelled.sites), len(labelled.sm)
    rain, season = np.full((days, sites), np.nan), np.full((days, sites), np.nan)
    for split, parameters in zip(splits, fitted, strict=True):
        cell = np.ix_(split.days, split.sites)
        rain[cell] = run_bucket(parameters.bucket, labelled.rain_mm[:, split.sites], labelled.day)[
            split.days
        ]
        part = labelled.part(~split.sites, None if split.days.all() else ~split.days)
        season[cell] = seasonal_mean(part)[split.days, None]
    per_seed, inside, widths, ages = [], [], [], []
    for seed in seeds:
        seen = simulate_passes(labelled.sm, every, seed)
        asked = np.isfinite(labelled.sm) & (np.isfinite(seen).cumsum(0) > 0)
        mean, lower, upper = (np.full((days, sites), np.nan) for _ in range(3))
        for split, parameters in zip(splits, fitted, strict=True):
            cell = np.ix_(split.days, split.sites)
            made = _estimate(parameters, labelled, seen)
            mean[cell], lower[cell], upper[cell] = (
                part[cell] for part in (made.mean, made.lower, made.upper)
            )
        held = hold(seen)
        values = dict(zip(METHODS, (seen, held, linear(seen), season, rain, mean), strict=True))
        per_seed.append(
            {name: scores(labelled.sm[asked], of[asked]) for name, of in values.items()}
        )
        inside.append(((labelled.sm >= lower) & (labelled.sm <= upper))[asked])
        widths.append((upper - lower)[asked])
        ages.append(age_of(seen)[asked])
    mean_scores = {
        name: MethodScore(
            *(
                float(np.mean([getattr(one[name], key) for one in per_seed]))
                for key in ("r", "rmse", "bias", "n")
            )
        )
        for name in METHODS
    }
    hit, age = np.concatenate(inside), np.concatenate(ages)
    by_age = {
        int(one): float(hit[age == one].mean())
        for one in np.unique(age)
        if (age == one).sum() >= FEWEST
    }
    return RevisitScores(
        every, mean_scores, float(hit.mean()), by_age, float(np.concatenate(widths).mean())
    )


def age_of(seen: Array) -> Array:
    """Return days since the last pass (D, S), NaN before the first.

    >>> age_of(np.array([[np.nan], [0.2], [np.nan]]))[:, 0].tolist()
    [nan, 0.0, 1.0]
    """
    day = np.arange(len(seen), dtype=np.float64)[:, None]
    return day - hold(np.where(np.isfinite(seen), day, np.nan))


def hold(seen: Array) -> Array:
    """Repeat the last pass (D, S) until the next."""
    last = np.maximum.accumulate(
        np.where(np.isfinite(seen), np.arange(len(seen))[:, None], -1), axis=0
    )
    held = np.take_along_axis(seen, np.maximum(last, 0), axis=0)
    return np.where(last >= 0, held, np.nan)


def linear(seen: Array) -> Array:
    """Interpolate between passes (D, S), which needs the next one; hold the last."""
    day = np.arange(len(seen))
    made = np.full(seen.shape, np.nan)
    for i in range(seen.shape[1]):
        known = np.flatnonzero(np.isfinite(seen[:, i]))
        if len(known):
            made[known[0] :, i] = np.interp(day[known[0] :], known, seen[known, i])
    return made


def seasonal_mean(labelled: Labelled) -> Array:
    """Return the mean of the labels by day of the year (D,): two harmonics, least squares."""
    phase = 2 * np.pi * day_of_year(labelled.day) / 365.25
    waves = np.stack(
        [np.ones(len(phase)), np.cos(phase), np.sin(phase), np.cos(2 * phase), np.sin(2 * phase)], 1
    )
    known = np.isfinite(labelled.sm)
    known[:SPIN_UP] = False
    day, _ = np.nonzero(known)
    coefficient, *_ = np.linalg.lstsq(waves[day], labelled.sm[known], rcond=None)
    return np.asarray(waves @ coefficient)


def markdown(boards: Sequence[RevisitScores]) -> str:
    """Format the boards as one table, and the coverage of the band."""
    lines = ["| every | " + " | ".join(METHODS) + " |", "| --- " * (len(METHODS) + 1) + "|"]
    for board in boards:
        cells = [f"{board.scores[name].r:.3f} / {board.scores[name].rmse:.4f}" for name in METHODS]
        lines.append(f"| {board.every} days | " + " | ".join(cells) + " |")
    lines.append("")
    for board in boards:
        ages = " ".join(f"{share:.3f}" for share in board.by_age.values())
        lines.append(
            f"every {board.every} days: 90 % band covers {board.coverage:.3f}, width "
            f"{board.width:.3f}; by age of the pass from 0 days on: {ages}"
        )
    return "\n".join(lines)


def _estimate(parameters: Parameters, labelled: Labelled, seen: Array) -> Estimates:
    """Return daily values of all sites from the passes of all sites."""
    rain = drive(parameters, labelled.forcing)
    return estimate(parameters, rain, observations_of(seen))
