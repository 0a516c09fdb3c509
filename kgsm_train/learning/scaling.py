"""The scaling of the tile's channels, from the rows a model learns from."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.kernels.window import Layout

from .samples import Samples


def scaling(samples: Samples, channel_db: NDArray[np.float32], rows: NDArray[np.int64]) -> Layout:
    """Return the mean and standard deviation of each channel over the complete training rows.

    channel_db: (R,) the backscatter channel of all rows.
    """
    observed = samples.observed
    gaps = np.diff(observed.day[samples.rows[rows]], axis=1)[samples.rows[rows][:, :-1] >= 0]
    columns = [
        channel_db[rows],
        *observed.dynamic[rows].T,
        *observed.statics[rows].T,
        gaps,
    ]
    mean, std = [], []
    for values in columns:
        values = values[np.isfinite(values)].astype(np.float64)
        mean.append(float(values.mean()) if len(values) else 0.0)
        spread = float(values.std()) if len(values) else 0.0
        std.append(spread if spread > 1e-6 * max(1.0, abs(mean[-1])) else 1.0)
    return Layout(
        steps=samples.rows.shape[1],
        dynamic=observed.dynamic.shape[1],
        statics=observed.statics.shape[1],
        # float32 as every engine will read them
        mean=tuple(float(np.float32(value)) for value in mean),
        std=tuple(float(np.float32(value)) for value in std),
    )
