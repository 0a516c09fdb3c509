"""Wilting point and saturation against the paper's own table."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.tables.texture import dry_and_wet

#: Saxton & Rawls (2006), Table 3, at 2.5 % organic matter: sand, clay, wilting point and
#: saturation, all in percent.
TABLE_3 = {
    "sand": (88, 5, 5, 46),
    "loamy sand": (80, 5, 5, 46),
    "sandy loam": (65, 10, 8, 45),
    "loam": (40, 20, 14, 46),
    "silt loam": (20, 15, 11, 48),
    "silt": (10, 5, 6, 48),
    "sandy clay loam": (60, 25, 17, 43),
    "clay loam": (30, 35, 22, 48),
    "silty clay loam": (10, 35, 22, 51),
    "silty clay": (10, 45, 27, 52),
    "sandy clay": (50, 40, 25, 44),
    "clay": (25, 50, 30, 50),
}


@pytest.mark.parametrize("soil", TABLE_3)
def test_the_papers_own_table(soil: str) -> None:
    sand, clay, wilting, saturated = TABLE_3[soil]
    dry, wet = dry_and_wet(sand / 100, clay / 100)
    assert abs(100 * dry - wilting) <= 0.6 and abs(100 * wet - saturated) <= 0.6


def test_what_is_missing_or_beyond_the_equations_has_no_limits() -> None:
    dry, wet = dry_and_wet([0.4, np.nan, 0.1], [0.2, 0.2, 0.7])
    assert (
        np.isfinite([dry[0], wet[0]]).all() and np.isnan(dry[1:]).all() and np.isnan(wet[1:]).all()
    )


@pytest.mark.parametrize(("sand", "clay"), [(40, 20), (0.8, 0.4), (-0.1, 0.2)])
def test_percent_and_nonsense_are_refused(sand: float, clay: float) -> None:
    with pytest.raises(DataError, match="mass fraction"):
        dry_and_wet(sand, clay)
