"""Vegetation held from an earlier acquisition, as a loop over the rows fills it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.tables.table import table_from_columns
from kgsm_infer.tables.vegetation import hold_vegetation

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b"]),
        st.integers(0, 40),
        st.one_of(st.none(), st.floats(0.1, 0.9)),
    ),
    min_size=1,
    max_size=12,
    unique_by=lambda row: row[:2],
)


def table_of(rows):
    return table_from_columns(
        {
            "site": [site for site, _, _ in rows],
            "date": [str(np.datetime64("2024-05-01") + day) for _, day, _ in rows],
            "vh_db": [-15.0] * len(rows),
            "ndvi": [np.nan if value is None else value for _, _, value in rows],
        }
    )


@given(ROWS, st.integers(0, 30))
def test_the_last_value_of_the_site_within_the_gap_is_held(rows, most_days) -> None:
    filled = hold_vegetation(table_of(rows), most_days)
    for at, (site, day, value) in enumerate(rows):
        past = [(d, v) for s, d, v in rows if s == site and d < day and v is not None]
        expected, held = value, False
        if value is None and past and most_days > 0 and day - max(past)[0] <= most_days:
            expected, held = max(past)[1], True
        got = filled.table.numbers["ndvi"][at]
        assert bool(filled.held[at]) == held
        assert (np.isnan(got) and expected is None) or got == expected


def test_held_rows_have_the_number_of_the_filled_table_and_a_flag(model, tiny_model) -> None:
    table = kgsm_infer.read_table(tiny_model / "twin.csv", features=model.table_features())
    gap = np.zeros(len(table), bool)
    gap[1::7] = True
    ndvi = np.where(gap, np.nan, table.numbers["ndvi"])
    from dataclasses import replace

    cloudy = replace(table, numbers={**table.numbers, "ndvi": ndvi})
    without, with_it = model.predict(cloudy), model.predict(cloudy, hold_vegetation_days=60)
    filled = hold_vegetation(cloudy, 60)
    by_hand = model.predict(filled.table)
    assert np.array_equal(with_it.sm, by_hand.sm, equal_nan=True)
    assert np.array_equal((with_it.flags & flags.VEGETATION_OLD) > 0, filled.held)
    assert (
        np.isnan(without.sm[filled.held]).all()
        and np.isfinite(with_it.sm).sum() > np.isfinite(without.sm).sum()
    )
