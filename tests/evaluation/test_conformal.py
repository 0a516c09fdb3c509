"""Intervals of new dates: covered as promised, narrower where something is known beforehand."""

from __future__ import annotations

import numpy as np

from kgsm_infer.model.interval import factor
from kgsm_train.evaluation.conformal import Residuals, as_card, best_width


def residuals(spread, seed=0, dates=28, groups=20, points=2):
    """Residuals whose spread goes with ``level``, 0..1, by the function ``spread``."""
    rng = np.random.default_rng(seed)
    date, group, _ = (x.ravel() for x in np.indices((dates, groups, points)))
    level = rng.uniform(0, 1, date.size)
    return Residuals(
        residual=rng.normal(0, 0.05, date.size) * spread(level),
        part=date // 4,
        fold=group % 4,
        group=group.astype(str),
        known={"sm": level.astype(np.float32), "noise": rng.uniform(0, 1, date.size)},
    )


CANDIDATES = [(), ("sm",), ("noise",), ("sm", "noise")]


def test_what_is_known_beforehand_narrows_the_interval_at_equal_coverage():
    found = best_width(residuals(lambda level: 0.3 + 1.4 * level), CANDIDATES)
    assert "sm" in [term.name for term in found.width.terms]
    assert 0.85 <= found.coverage <= 0.93
    assert found.mean_width < 0.95 * found.constant_mean_width
    wide = factor(found.width, {"sm": np.float32([0.1, 0.9]), "noise": np.float32([0.5, 0.5])})
    assert wide[1] > 1.8 * wide[0]


def test_nothing_is_read_that_does_not_help():
    found = best_width(residuals(np.ones_like), CANDIDATES)
    assert found.width.terms == () and found.mean_width == found.constant_mean_width
    error = np.sort(-residuals(np.ones_like).residual)
    count = int(np.ceil(0.9 * (len(error) + 1)))
    shortest = min(error[i + count - 1] - error[i] for i in range(len(error) - count + 1))
    np.testing.assert_allclose(found.width.upper - found.width.lower, shortest, rtol=1e-9)
    held = (error >= found.width.lower) & (error <= found.width.upper)
    assert held.sum() == count


def test_unseen_dates_are_covered():
    """On new draws of the same process the interval covers what it says."""
    found = best_width(residuals(lambda level: 0.3 + 1.4 * level), CANDIDATES)
    new = residuals(lambda level: 0.3 + 1.4 * level, seed=9)
    scale = factor(found.width, new.known)
    inside = -new.residual >= found.width.lower * scale
    inside &= -new.residual <= found.width.upper * scale
    assert 0.85 <= inside.mean() <= 0.94


def test_too_few_residuals_have_no_interval():
    few = residuals(np.ones_like, dates=8, groups=20)
    assert best_width(few, CANDIDATES) is None, "two blocks of dates"
    assert best_width(residuals(np.ones_like, dates=14, groups=1, points=1), CANDIDATES) is None


def test_the_card_holds_what_was_fitted():
    found = best_width(residuals(lambda level: 0.3 + 1.4 * level), CANDIDATES)
    entry = as_card(found)
    assert entry["terms"][0]["name"] == "sm" and entry["bounds"] == [0.5, 2.0]
    assert entry["upper"] == round(found.width.upper, 6)
