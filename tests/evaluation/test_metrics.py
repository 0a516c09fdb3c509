"""Metrics against hand-computed numbers, pytesmo, and a plain-loop bootstrap."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from kgsm_train.evaluation.metrics import (
    Bootstrap,
    DrawnBlocks,
    block_bootstrap,
    by_group,
    paired_difference,
    scores,
    within_date,
)

NAN = math.nan


@pytest.fixture
def rows():
    rng = np.random.default_rng(3)
    group = np.repeat([f"site {k}" for k in range(8)], rng.integers(5, 30, 8))
    observed = rng.uniform(0.05, 0.45, len(group))
    predicted = 0.1 + 0.6 * observed + rng.normal(0, 0.04, len(group))
    predicted[::7] = NAN
    observed[3::11] = NAN
    return group, observed, predicted


def test_hand_computed():
    # differences 0.1, 0.0, 0.2: mean 0.1, mean square 0.05 / 3, variance 0.02 / 3
    found = scores([0.1, 0.2, 0.3], [0.2, 0.2, 0.5])
    assert found.n == 3
    assert found.bias == pytest.approx(0.1)
    assert found.rmse == pytest.approx(math.sqrt(0.05 / 3))
    assert found.ubrmse == pytest.approx(math.sqrt(0.02 / 3))
    # cov = (-0.1 * -0.1 + 0 + 0.1 * 0.2) / 3, variances 0.02 / 3 and 0.06 / 3
    assert found.r == pytest.approx(0.03 / math.sqrt(0.02 * 0.06))


def test_pytesmo_agrees(rows):
    pytesmo = pytest.importorskip("pytesmo.metrics", reason="pytesmo is the reference here")
    _, observed, predicted = rows
    kept = np.isfinite(observed) & np.isfinite(predicted)
    o, p = observed[kept], predicted[kept]
    found = scores(observed, predicted)
    assert found.n == kept.sum()
    assert found.bias == pytest.approx(pytesmo.bias(p, o), rel=1e-12)
    assert found.rmse == pytest.approx(pytesmo.rmsd(p, o), rel=1e-12)
    assert found.ubrmse == pytest.approx(pytesmo.ubrmsd(p, o), rel=1e-12)
    assert found.r == pytest.approx(pytesmo.pearson_r(p, o), rel=1e-12)


@pytest.mark.parametrize(
    ("observed", "predicted"),
    [
        ([0.3], [0.2]),
        ([0.3, 0.3, 0.3], [0.1, 0.2, 0.3]),
        ([0.1, 0.2, 0.3], [0.7, 0.7, 0.7]),
        ([0.1, 0.1, 0.1], [0.1, 0.1, 0.1]),
        ([0.0, 0.0], [0.0, 0.0]),
    ],
)
def test_no_variance_no_r(observed, predicted):
    found = scores(observed, predicted)
    assert math.isnan(found.r)
    assert found.rmse == pytest.approx(
        math.sqrt(np.mean(np.subtract(predicted, observed) ** 2)), abs=1e-12
    )


def test_nothing_to_score():
    found = scores([NAN, 0.2], [0.1, NAN])
    assert found.n == 0
    assert all(math.isnan(x) for x in (found.bias, found.rmse, found.ubrmse, found.r))


def test_missing_rows_do_not_count(rows):
    _, observed, predicted = rows
    kept = np.isfinite(observed) & np.isfinite(predicted)
    assert scores(observed, predicted) == scores(observed[kept], predicted[kept])
    infinite = np.where(np.isnan(predicted), np.inf, predicted)
    assert scores(observed, infinite) == scores(observed, predicted)


def test_a_small_spread_far_from_zero_keeps_its_r():
    observed = 0.4 + 1e-4 * np.arange(5)
    assert scores(observed, observed + 1e-3).r == pytest.approx(1.0, abs=1e-9)


def test_two_lengths_are_refused():
    with pytest.raises(ValueError, match="one length"):
        scores([0.1, 0.2], [0.1])
    with pytest.raises(ValueError, match="group names"):
        by_group(["a"], [0.1, 0.2], [0.1, 0.2])


def test_by_group_is_the_scores_of_each(rows):
    group, observed, predicted = rows
    observed = np.where(group == "site 2", NAN, observed)
    found = by_group(group, observed, predicted)
    each = {g: scores(observed[group == g], predicted[group == g]) for g in np.unique(group)}
    assert found["n"] == {g: one.n for g, one in each.items()}
    assert found["n"]["site 2"] == 0
    for name in ("bias", "rmse", "ubrmse", "r"):
        values = [getattr(one, name) for one in each.values() if one.n]
        assert found[name]["groups"] == 7
        assert found[name]["median"] == pytest.approx(np.median(values), rel=1e-9)
        assert found[name]["iqr"] == pytest.approx(np.percentile(values, [25, 75]), rel=1e-9)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_by_group_without_a_number_is_null():
    found = by_group(["a", "b"], [NAN, 0.1], [0.1, 0.2])
    assert found["r"] == {"groups": 0, "median": None, "iqr": [None, None]}
    assert found["bias"]["median"] == pytest.approx(0.1)


def test_bootstrap_is_that_of_a_plain_loop(rows):
    group, observed, predicted = rows
    found = block_bootstrap(DrawnBlocks(group), observed, predicted, Bootstrap(400, seed=5))
    names = np.unique(group)
    times = np.random.default_rng(5).multinomial(len(names), [1 / len(names)] * len(names), 400)
    index = [np.flatnonzero(group == name) for name in names]
    draws = []
    for line in times:
        drawn = np.concatenate([np.tile(index[k], count) for k, count in enumerate(line)])
        draws.append(scores(observed[drawn], predicted[drawn]))
    for name, interval in found.items():
        expected = np.percentile([getattr(one, name) for one in draws], [2.5, 97.5])
        assert interval == pytest.approx(expected, rel=1e-9)
    whole = scores(observed, predicted)
    for name, (low, high) in found.items():
        assert low < getattr(whole, name) < high


def test_bootstrap_same_seed_same_interval(rows):
    group, *columns = rows
    first, again, other = (
        block_bootstrap(DrawnBlocks(group), *columns, Bootstrap(50, seed)) for seed in (1, 1, 2)
    )
    assert first == again != other


def test_bootstrap_takes_groups_whole():
    # one number per group, many copies: copies must not narrow the interval
    rng = np.random.default_rng(0)
    observed, predicted = rng.uniform(0, 0.5, (2, 10))
    few = block_bootstrap(DrawnBlocks(np.arange(10)), observed, predicted)
    many = block_bootstrap(
        DrawnBlocks(np.repeat(np.arange(10), 20)),
        np.repeat(observed, 20),
        np.repeat(predicted, 20),
    )
    assert many["rmse"] == pytest.approx(few["rmse"], rel=1e-9)


def test_one_group_has_no_interval():
    found = block_bootstrap(DrawnBlocks(["a"] * 3), [0.1, 0.2, 0.3], [0.2, 0.2, 0.3])
    assert all(math.isnan(x) for interval in found.values() for x in interval)
    pair = paired_difference(DrawnBlocks(["a"] * 2), [0.1, 0.2], [0.1, 0.3], [0.2, 0.2])
    assert all(math.isnan(x) for x in pair["interval"])
    assert pair["difference"] == pytest.approx(0.0)


@pytest.mark.parametrize("wrong", [{"draws": 0}, {"level": 1.0}, {"level": 0.0}])
def test_bootstrap_refuses_what_makes_no_interval(wrong):
    with pytest.raises(ValueError, match="draws"):
        Bootstrap(**wrong)


def test_paired_difference_on_common_rows(rows):
    group, observed, predicted = rows
    other = observed + 0.02
    other[::5] = NAN
    common = np.isfinite(observed) & np.isfinite(predicted) & np.isfinite(other)
    found = paired_difference(
        DrawnBlocks(group), observed, predicted, other, Bootstrap(300, seed=4)
    )
    expected = (
        scores(observed[common], predicted[common]).rmse
        - scores(observed[common], other[common]).rmse
    )
    assert found["difference"] == pytest.approx(expected, rel=1e-12)
    low, high = found["interval"]
    assert low < found["difference"] < high
    swapped = paired_difference(
        DrawnBlocks(group), observed, other, predicted, Bootstrap(300, seed=4)
    )
    assert swapped["interval"] == pytest.approx((-high, -low), rel=1e-9)


def test_paired_difference_of_the_same_is_zero(rows):
    group, observed, predicted = rows
    found = paired_difference(DrawnBlocks(group), observed, predicted, predicted)
    assert found == {"difference": 0.0, "interval": (0.0, 0.0)}


def test_paired_difference_without_common_rows():
    found = paired_difference(DrawnBlocks(["a", "b"]), [0.1, 0.2], [NAN, 0.2], [0.1, NAN])
    assert math.isnan(found["difference"])
    assert all(math.isnan(x) for x in found["interval"])


def test_dates_are_drawn_as_well_as_groups():
    """Against the definition: a row counts as often as its group and its date were drawn."""
    rng = np.random.default_rng(4)
    group = np.repeat(list("abcdef"), 8)
    date = np.tile(np.arange(8), 6)
    shared = rng.normal(0, 0.1, 8)[date]
    observed = rng.uniform(0.1, 0.4, 48)
    predicted = observed + shared + rng.normal(0, 0.01, 48)
    by_group = block_bootstrap(DrawnBlocks(group), observed, predicted, Bootstrap(2000))["rmse"]
    both = block_bootstrap(DrawnBlocks(group, date), observed, predicted, Bootstrap(2000))["rmse"]
    assert both[1] - both[0] > 3 * (by_group[1] - by_group[0]), "the dates' errors are shared"
    values = []
    for _ in range(2000):
        g, d = (np.bincount(rng.integers(0, n, n), minlength=n) for n in (6, 8))
        times = g[np.searchsorted(list("abcdef"), group)] * d[date]
        values.append(np.sqrt(np.average((predicted - observed) ** 2, weights=times)))
    assert both == pytest.approx(np.quantile(values, [0.025, 0.975]), rel=0.1)
    other = observed + shared
    gap = paired_difference(DrawnBlocks(group, date), observed, predicted, other, Bootstrap(500))
    low, high = gap["interval"]
    assert low <= gap["difference"] <= high and high - low < (both[1] - both[0]) / 3


def test_r_within_dates_does_not_know_the_weather():
    rng = np.random.default_rng(1)
    date, group = np.repeat(np.arange(10), 6), np.tile(np.arange(6), 10)
    weather = rng.uniform(0, 0.4, 10)[date]
    own = rng.normal(0, 0.05, 60)
    found = within_date(group, date, weather + own, weather + rng.normal(0, 0.05, 60))
    dates, r = found.dates, found.r
    assert dates == 10 and abs(r) < 0.35, "the weather is all that is known"
    found = within_date(group, date, weather + own, own)
    r, centred = found.r, found.r_centred
    assert r == pytest.approx(1) and centred == pytest.approx(1)
    field = rng.normal(0, 0.05, 6)[group]
    found = within_date(group, date, weather + field + own, field)
    r, centred = found.r, found.r_centred
    assert r > 0.3 and np.isnan(centred), "the field's own level is taken off as well"
