"""Reading a map back, and what it has to equal: shared by the tests of maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_scenes import Pixels
from numpy.typing import NDArray

from kgsm_infer.model.model import Model, Retrieval
from kgsm_infer.tables.table import table_from_columns


def read_map(path: Path) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """sm, lower, upper (3, H, W), and flags."""
    import rasterio

    with rasterio.open(path) as dataset:
        assert dataset.descriptions == ("sm", "sm_lower", "sm_upper", "flags")
        bands = dataset.read()
    return bands[:3], bands[3].astype(np.uint16)


def predicted(model: Model, pixels: Pixels, date: int = -1) -> Retrieval:
    """predict on the same values, the rows of one date."""
    table = table_from_columns(pixels.columns(), features=model.table_features())
    rows = np.flatnonzero(table.date == np.datetime64(pixels.dates[date]))
    return model.predict(table).take(rows)


def assert_equal_to_predict(path: Path, expected: Retrieval) -> None:
    numbers, mask = read_map(path)
    np.testing.assert_array_equal(mask.ravel(), expected.flags)
    for band, part in zip(numbers, (expected.sm, expected.lower, expected.upper), strict=True):
        np.testing.assert_allclose(band.ravel(), part, rtol=0, atol=1e-6)
