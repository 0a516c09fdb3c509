"""Intervals of new dates: coverage by date, and narrower where something is known beforehand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, stats

from kgsm_infer.model.interval import factor
from kgsm_train.evaluation.conformal import ErrorParts, Residuals, as_card, best_width, quantile_of


def residuals(spread, seed=0, dates=28, groups=20, points=2, of_date=0.0):
    """Residuals whose spread goes with ``level``, 0..1, by the function ``spread``.

    of_date: standard deviation of an error that all rows of a date share.
    """
    rng = np.random.default_rng(seed)
    date, group, _ = (x.ravel() for x in np.indices((dates, groups, points)))
    level = rng.uniform(0, 1, date.size)
    return Residuals(
        residual=rng.normal(0, 0.05, date.size) * spread(level)
        + of_date * rng.normal(0, 1, dates)[date],
        part=date // 4,
        fold=group % 4,
        group=group.astype(str),
        date=date + 19000,
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
    data = residuals(np.ones_like)
    found = best_width(data, CANDIDATES)
    assert found.width.terms == () and found.mean_width == found.constant_mean_width
    by_date = [data.residual[data.date == day] for day in np.unique(data.date)]
    shared = np.mean([np.mean(part) ** 2 for part in by_date])
    within = np.mean([np.var(part) for part in by_date])
    half = found.width.upper
    assert found.width.lower == -half and found.dates == 28
    assert found.date_variance == pytest.approx(shared / (shared + within), rel=1e-9)
    # 28 dates and 20 groups: the sum of two t, by integration over the date's error
    covered, _ = integrate.quad(
        lambda x: stats.t.pdf(x, 28) * stats.t.cdf((half - shared**0.5 * x) / within**0.5, 20),
        -60,
        60,
        limit=500,
    )
    assert covered == pytest.approx(0.95, abs=1e-6)


@pytest.mark.parametrize("probability", [0.6, 0.95, 0.995])
def test_the_quantile_has_its_closed_forms(probability):
    """Cauchy with one degree of freedom each, normal with many, Student where one part is 0."""
    normal = quantile_of(ErrorParts(0.3, 0.7, 10**7, 10**7), probability)
    assert normal == pytest.approx(stats.norm.ppf(probability), rel=1e-5)
    cauchy = quantile_of(ErrorParts(0.04, 0.25, 1, 1), probability)
    assert cauchy == pytest.approx(0.7 * stats.cauchy.ppf(probability), rel=1e-5)
    for parts in (ErrorParts(4.0, 0.0, 5, 9), ErrorParts(0.0, 4.0, 9, 5)):
        alone = quantile_of(parts, probability)
        assert alone == pytest.approx(2 * stats.t.ppf(probability, 5), rel=1e-9)


@pytest.mark.parametrize("narrow", [1e-9, 1e-6, 1e-4, 1e-2])
@pytest.mark.parametrize("degrees", [1, 3, 14, 60])
def test_a_narrow_part_widens_the_quantile_by_little(narrow, degrees):
    """It does whichever of the two parts is the narrow one."""
    alone = stats.t.ppf(0.95, degrees)
    of_row = quantile_of(ErrorParts(1.0, narrow**2, degrees, degrees), 0.95)
    of_date = quantile_of(ErrorParts(narrow**2, 1.0, degrees, degrees), 0.95)
    assert of_row == pytest.approx(of_date, rel=1e-8)
    # the sum of two Student's t is at most as wide as a Cauchy sum of their scales
    assert alone * (1 - 1e-8) <= of_row <= alone * (1 + narrow + 1e-8)


def test_no_error_has_no_width():
    assert quantile_of(ErrorParts(0.0, 0.0, 5, 5), 0.95) == 0.0


def test_unseen_dates_are_covered():
    """On new draws of the same process the interval covers its level."""
    found = best_width(residuals(lambda level: 0.3 + 1.4 * level), CANDIDATES)
    new = residuals(lambda level: 0.3 + 1.4 * level, seed=9)
    scale = factor(found.width, new.known)
    inside = np.abs(new.residual) <= found.width.upper * scale
    assert 0.85 <= inside.mean() <= 0.95


def test_errors_shared_by_a_date_widen_the_interval():
    """14 dates, as on Anand: coverage of new dates is 90 % on average over many tables."""
    covered, shares = [], []
    for seed in range(40):
        data = residuals(np.ones_like, seed, dates=14, of_date=0.06)
        found = best_width(data, [()])
        new = residuals(np.ones_like, 1000 + seed, dates=200, of_date=0.06)
        covered.append(np.mean(np.abs(new.residual) <= found.width.upper))
        shares.append(found.date_variance)
    assert 0.88 <= np.mean(covered) <= 0.95
    assert np.mean(shares) == pytest.approx(0.06**2 / (0.06**2 + 0.05**2), abs=0.08)


def test_a_date_counts_once_however_many_rows_it_has():
    data = residuals(np.ones_like, of_date=0.05)
    first = data.date == data.date.min()
    rows = np.concatenate([np.arange(len(first)), *[np.flatnonzero(first)] * 5])
    many = Residuals(
        *(getattr(data, name)[rows] for name in ("residual", "part", "fold", "group", "date")),
        {name: values[rows] for name, values in data.known.items()},
    )
    once, often = best_width(data, [()]).width, best_width(many, [()]).width
    assert often.upper == pytest.approx(once.upper, rel=1e-9)


def test_no_interval_is_scored_on_labels_it_was_made_from():
    """Errors of one date are outside, however large, because they widen only other intervals."""
    data = residuals(np.ones_like)
    worst = data.date == data.date.max()
    residual = np.where(worst, 5.0, data.residual)
    moved = Residuals(residual, data.part, data.fold, data.group, data.date, data.known)
    found = best_width(moved, CANDIDATES)
    last = max(found.by_date)
    assert found.by_date[last] == 0 and found.rows_by_date[last] == worst.sum()
    assert sum(found.rows_by_date.values()) == found.rows == len(residual)


def test_too_few_residuals_have_no_interval():
    few = residuals(np.ones_like, dates=8, groups=20)
    assert best_width(few, CANDIDATES) is None, "two blocks of dates"
    assert best_width(residuals(np.ones_like, dates=14, groups=1, points=1), CANDIDATES) is None


def test_the_card_holds_what_was_fitted():
    found = best_width(residuals(lambda level: 0.3 + 1.4 * level), CANDIDATES)
    entry = as_card(found)
    assert entry["terms"][0]["name"] == "sm" and entry["bounds"] == [0.5, 2.0]
    assert entry["upper"] == round(found.width.upper, 6)
