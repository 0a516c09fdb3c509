"""The interval's one formula, and what a card may say of it."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer.base import flags
from kgsm_infer.model.interval import Width, WidthTerm, ends, factor, interval_of, known_of

GOOD = {"level": 0.9, "lower": -0.1, "upper": 0.2}


def test_offsets_are_scaled_by_a_line_within_bounds():
    terms = (WidthTerm("sm", 2.0), WidthTerm("short_history", 0.5))
    width = Width(-0.1, 0.2, 0.5, terms, (0.6, 1.5))
    sm = np.float32([0.0, 0.1, 0.3, 0.9, np.nan])
    mask = np.uint16([0, flags.SHORT_HISTORY, 0, 0, 0])
    given = known_of(mask, None, ())
    expected = [0.6, 0.5 + 0.2 + 0.5, 0.5 + 0.6, 1.5, 1.5]
    np.testing.assert_allclose(factor(width, {**given, "sm": sm}), expected, rtol=1e-6)
    lower, upper = ends(width, sm, given, (0.0, 1.0))
    np.testing.assert_allclose(lower, np.clip(sm - 0.1 * np.array(expected), 0, 1), rtol=1e-5)
    np.testing.assert_allclose(upper, np.clip(sm + 0.2 * np.array(expected), 0, 1), rtol=1e-5)
    assert np.isnan(lower[4]) and lower.dtype == np.float32


def test_a_channel_of_the_target_can_be_read():
    width = interval_of(
        {**GOOD, "terms": [{"name": "ndvi", "slope": 1.0}], "bounds": [0.1, 3]}, ["ndvi"]
    )
    given = known_of(np.uint16([0, 0]), np.float32([[0.2], [np.nan]]), ["ndvi"])
    assert factor(width.point, {**given, "sm": 0.2}).tolist() == pytest.approx([1.2, 3.0])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"level": 1.5}, "level"),
        ({"lower": 0.1}, "lower is 0.1"),
        ({"upper": float("nan")}, "upper is nan"),
        ({"upper": "wide"}, "interval.upper is wide"),
        ({"upper": 2**40}, "upper is 1099511627776"),
        ({"terms": [{"name": "lai", "slope": 1.0}]}, "interval reads lai"),
        ({"terms": [{"name": "sm"}]}, "terms.0..slope"),
        ({"terms": {"sm": 1}}, "terms is"),
        ({"bounds": [2.0, 1.0]}, "not a range"),
        ({"bounds": [1.0]}, "bounds has 1 values, expected 2"),
        ({"field": [1]}, "field"),
        ({"field": {**GOOD, "terms": [{"name": "ndvi", "slope": 1.0}]}}, "field reads ndvi"),
    ],
)
def test_impossible_intervals_are_refused(change, said):
    with pytest.raises(ValueError, match=said):
        interval_of({**GOOD, **change}, ["ndvi"])
