"""Make the domain reference of a model from its training data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.domain import Domain, dissimilarity
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.observations import isolate_observed

from ..config import Config
from ..learning.samples import Samples
from ..learning.scaling import scaling

#: Points kept on the card: enough to cover the training data, few enough for a small file.
MOST_POINTS = 256


def training_domain(
    scaled: NDArray[np.float32], fold: NDArray[np.int64], seed: int = 0
) -> tuple[Domain, NDArray[np.float32]]:
    """Return the domain reference of (R, K) scaled training points, and their own DI (R,).

    The points kept are a farthest-point cover, so that the nearest of them is near the
    nearest of all. Each training point's DI is measured to points of other folds, and the
    threshold is the upper whisker of those (R's boxplot.stats, as CAST does).

    DataError where the points are of fewer than two folds.
    """
    folds = len(np.unique(fold))
    if folds < 2:
        raise DataError(
            f"{len(scaled)} labelled samples in {folds} folds have a signal of the soil; the "
            "domain of training needs 2 folds; check the units of backscatter and vegetation"
        )
    points = scaled.astype(np.float64)
    mean_distance = _mean_distance(points, seed)
    kept = _cover(points, MOST_POINTS)
    probe = Domain(points[kept].astype(np.float32), mean_distance, 1.0)
    own = np.full(len(points), np.nan, np.float32)
    for k in np.unique(fold):
        others = probe.points[fold[kept] != k]
        if len(others):
            here = fold == k
            own[here] = dissimilarity(Domain(others, mean_distance, 1.0), scaled[here])
    known = own[np.isfinite(own)]
    low, high = np.percentile(known, [25, 75])
    threshold = float(known[known <= high + 1.5 * (high - low)].max())
    rounded = np.round(probe.points.astype(np.float64), 4).astype(np.float32)
    return Domain(rounded, mean_distance, max(threshold, 1e-3)), own


@dataclass(frozen=True)
class HeldOutDomain:
    """Dissimilarity of rows to the training folds of a cross-validation.

    index: (K,) of the rows that have one.  threshold: above it a row is outside.
    """

    index: NDArray[np.float32]
    threshold: float

    @property
    def outside_share(self) -> float:
        """Share of the rows that lie outside."""
        return float((self.index > self.threshold).mean())


def held_out_domain(
    config: Config, samples: Samples, fold: NDArray[np.int64], wcm: Wcm | None
) -> HeldOutDomain | None:
    """Compute the dissimilarity of labelled rows of each fold to those of the other folds.

    None where rows with a signal of the soil are in fewer than two folds.

    wcm: as the network learnt it, None of a plain LSTM. The scaling is that of all
    labelled rows, as in the final model.
    """
    rows = np.flatnonzero(samples.labelled)
    channel_db = samples.observed.sigma0_db
    if wcm is not None:
        channel_db = isolate_observed(wcm, samples.observed).soil_db
    rows = rows[np.isfinite(channel_db[rows])]
    if len(np.unique(fold[rows])) < 2:
        return None
    layout = scaling(samples, channel_db, rows)
    count = layout.channels - 2  # without gap and valid
    observed = samples.observed
    columns = [channel_db[rows, None], observed.dynamic[rows], observed.statics[rows]]
    mean = np.asarray(layout.mean, np.float32)[:count]
    scaled = (np.hstack(columns).astype(np.float32) - mean) * layout.inv_std[:count]
    found, index = training_domain(scaled, fold[rows], config.training.seed)
    return HeldOutDomain(index[np.isfinite(index)], found.threshold)


def _mean_distance(points: NDArray[np.float64], seed: int, most: int = 2000) -> float:
    """Return the mean distance between pairs of points; of a seeded sample where there are many."""
    if len(points) > most:
        points = np.random.default_rng(seed).choice(points, most, replace=False)
    total = 0.0
    for i in range(1, len(points)):
        total += float(np.sqrt(((points[i] - points[:i]) ** 2).sum(axis=1)).sum())
    pairs = len(points) * (len(points) - 1) / 2
    return max(total / max(pairs, 1), 1e-6)


def _cover(points: NDArray[np.float64], most: int) -> NDArray[np.int64]:
    """Return indices of a farthest-point cover, starting at the point nearest the centre."""
    distance = np.full(len(points), np.inf)
    at = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())
    kept = []
    for _ in range(min(most, len(points))):
        kept.append(at)
        distance = np.minimum(distance, ((points - points[at]) ** 2).sum(axis=1))
        at = int(distance.argmax())
        if distance[at] <= 0:
            break
    return np.asarray(kept, np.int64)
