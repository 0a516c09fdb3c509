"""Weather features in training: the decay of the rain index is fitted where labels are seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import UsageError
from kgsm_infer.tables.table import Table
from kgsm_infer.tables.weather import FITTED, Weather, decay_of, fitted_api

from ..config import Config


def with_fitted_rain(
    config: Config,
    table: Table,
    weather: Weather | None,
    label: NDArray[np.float32],
    rows: NDArray[np.int64] | None = None,
) -> tuple[Config, Mapping[str, float]]:
    """Return the configuration with ``rain_api_mm`` named by the decay that fits the labels of
    ``rows`` (all of them where not given), and that decay as a learnt parameter."""
    features = config.inputs.features
    if FITTED not in features or FITTED in table.numbers:
        return config, {}
    if weather is None:
        raise UsageError(f"{config.source}: the feature {FITTED} needs a file in [data] weather")
    seen = np.arange(len(table)) if rows is None else rows
    name = fitted_api(table, label, seen)
    named = tuple(name if item == FITTED else item for item in features)
    fitted = replace(config, inputs=replace(config.inputs, features=named))
    return fitted, {"k": decay_of(name)}
