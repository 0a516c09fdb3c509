"""A paddock's line from its pixels."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.base import flags
from kgsm_infer.model.model import Model
from kgsm_infer.paddocks.summary import (
    Members,
    Paddock,
    PaddockDate,
    summarise,
    weighted_quantile,
)


def _summary(model: Model, sm: Any, weight: Any, area: float, mask: Any = None) -> Paddock:
    sm = np.asarray(sm, np.float32)
    mask = np.where(np.isnan(sm), flags.MISSING_INPUT, 0) if mask is None else np.asarray(mask)
    members = Members(sm, mask.astype(np.uint16), np.asarray(weight, np.float64), area)
    return summarise(PaddockDate("a", "2024-03-04"), members, model.card)


def test_partial_pixels_count_by_their_share(interval_model: Model) -> None:
    got = _summary(interval_model, [0.1, 0.2, 0.4], [1.0, 0.5, 0.25], 1.75)
    assert got.sm == pytest.approx((0.1 + 0.1 + 0.1) / 1.75, abs=1e-6)
    assert (got.valid_share, got.pixels, got.reason) == (1.0, 1.75, "")


def test_the_interval_does_not_shrink_with_the_number_of_pixels(interval_model: Model) -> None:
    for n in (1, 10, 1000):
        got = _summary(interval_model, np.full(n, 0.2), np.ones(n), n)
        assert (got.sm_lower, got.sm_upper) == pytest.approx((0.15, 0.27), abs=1e-6)
    got = _summary(interval_model, [0.01], [1], 1)
    assert got.sm_lower == 0.0  # cut at the card's limits as a point's is


def test_no_interval_on_the_card_none_here(interval_model: Model) -> None:
    card = replace(interval_model.card, interval=None)
    members = Members(np.float32([0.2]), np.uint16([0]), np.ones(1), 1)
    got = summarise(PaddockDate("a", "d"), members, card)
    assert np.isnan([got.sm_lower, got.sm_upper]).all() and got.sm == pytest.approx(0.2)


def test_less_than_half_with_a_number_is_no_number_and_says_why(interval_model: Model) -> None:
    nan = np.nan
    mask = [0, 0, flags.SOIL_SIGNAL_LOST, flags.SOIL_SIGNAL_LOST, flags.MISSING_INPUT]
    got = _summary(interval_model, [0.1, 0.2, nan, nan, nan], np.ones(5), 5, mask)
    assert np.isnan(got.sm) and got.valid_share == 0.4
    assert got.flags == "missing_input;soil_signal_lost"
    assert got.reason == ("only 40% of it has a number (missing_input 20%, soil_signal_lost 40%)")
    kept = _summary(interval_model, [0.1, 0.2, nan], np.ones(3), 3)
    assert kept.sm == pytest.approx(0.15) and kept.flags == ""  # no NO_NUMBER flag on a number


def test_a_flag_stands_from_a_tenth_of_the_paddock_on(interval_model: Model) -> None:
    mask = np.zeros(100)
    mask[:9] = flags.OUTSIDE_DOMAIN
    mask[:10] += flags.DENSE_VEGETATION
    got = _summary(interval_model, np.full(100, 0.2), np.ones(100), 100, mask)
    assert got.flags == "dense_vegetation"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0, 1))
def test_equal_weights_give_numpys_hazen_quantile(values: list[float], q: float) -> None:
    (got,) = weighted_quantile(values, np.ones(len(values)), [q])
    assert got == pytest.approx(float(np.quantile(values, q, method="hazen")), abs=1e-9)


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.01, 1)), min_size=1, max_size=40),
    st.floats(0.1, 10),
)
def test_quantiles_lie_in_order_and_do_not_depend_on_the_unit_of_weight(
    pairs: list[tuple[float, float]], unit: float
) -> None:
    values, weight = np.asarray(pairs).T
    low, middle, high = weighted_quantile(values, weight, [0.1, 0.5, 0.9])
    assert values.min() <= low <= middle <= high <= values.max()
    again = weighted_quantile(values, weight * unit, [0.1, 0.5, 0.9])
    assert again == pytest.approx((low, middle, high), abs=1e-9)
