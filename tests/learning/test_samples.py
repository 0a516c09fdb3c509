"""Columns made for training: indicators of words, and held vegetation."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.tables.table import read_table
from kgsm_infer.tables.vegetation import hold_vegetation
from kgsm_train.learning.samples import with_indicators


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text(
        "site,date,vh_db,ndvi,crop\n"
        "a,2023-01-01,-15,0.5,Paddy\n"
        "a,2023-01-13,-15,,paddyy\n"
        "a,2023-03-13,-15,,wheat\n"
        "b,2023-01-13,-15,,\n"
        "b,2023-01-25,-15,0.3,fallow\n"
    )
    return read_table(path)


def test_an_indicator_is_1_where_the_text_begins_with_a_word(table):
    found = with_indicators(table, {"paddy": ("crop", "padd"), "dry": ("crop", "wh", "fa")})
    assert found.numbers["paddy"].tolist() == [1, 1, 0, 0, 0]
    assert found.numbers["dry"].tolist() == [0, 0, 1, 0, 1]
    with pytest.raises(DataError, match="no column 'soil'"):
        with_indicators(table, {"clay": ("soil", "clay")})


def test_vegetation_is_held_from_the_past_of_the_same_site_within_the_gap(table):
    filled = hold_vegetation(table, 60)
    found, held = filled.table, filled.held
    np.testing.assert_array_equal(found.numbers["ndvi"], [0.5, 0.5, np.nan, np.nan, 0.3])
    assert held.tolist() == [False, True, False, False, False]
    filled = hold_vegetation(table, 0)
    found, held = filled.table, filled.held
    np.testing.assert_array_equal(found.numbers["ndvi"], table.numbers["ndvi"])
    assert not held.any()
