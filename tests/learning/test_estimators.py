"""The scikit-learn estimators: scikit-learn's own checks, and values from another solver."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import nnls
from sklearn.model_selection import GroupKFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import kgsm_infer
from kgsm_infer.model.index import wetness_of
from kgsm_train.estimators import ChangeDetection, WetnessIndex


@parametrize_with_checks([ChangeDetection(), ChangeDetection(lower=None), WetnessIndex()])
def test_scikit_learns_checks(estimator, check):
    check(estimator)


def test_change_detection_is_non_negative_least_squares():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(200, 3))
    sm = 0.2 + x @ [0.05, 0.02, -0.04] + rng.normal(0, 0.01, 200)
    fitted = ChangeDetection().fit(x, sm)
    # an independent solver: the intercept as a difference of two non-negative numbers
    ones = np.ones((200, 1))
    other, _ = nnls(np.hstack([ones, -ones, x]), sm)
    np.testing.assert_allclose(fitted.coef_, other[2:], atol=1e-6)
    assert fitted.intercept_ == pytest.approx(other[0] - other[1], abs=1e-6)
    assert fitted.coef_[2] == pytest.approx(0, abs=1e-6)
    free = ChangeDetection(lower=(0, 0, -np.inf)).fit(x, sm)
    np.testing.assert_allclose(free.coef_, [0.05, 0.02, -0.04], atol=0.005)


def test_wrong_bounds_are_refused():
    x, sm = np.eye(4)[:, :2], np.full(4, 0.2)
    with pytest.raises(ValueError, match="lower needs 1 or 2 values, got 3"):
        ChangeDetection(lower=(0, 0, 0)).fit(x, sm)
    with pytest.raises(ValueError, match="lower must be below upper"):
        ChangeDetection(lower=(0, np.nan)).fit(x, sm)
    with pytest.raises(ValueError, match="lower must be below upper"):
        ChangeDetection(lower=1, upper=0).fit(x, sm)


def test_the_index_is_that_of_the_shipped_model():
    """One field per site: the columns are z and its mean over the sites of a pass."""
    rng = np.random.default_rng(8)
    rows = [(f"s{s}", f"2023-01-{1 + 12 * d:02d}" if d < 3 else f"2023-0{d - 1}-05", v)
            for d in range(8) for s, v in enumerate(rng.normal(-17, 2, 4))]  # fmt: skip
    site, date, vh = zip(*rows, strict=True)
    table = kgsm_infer.table_from_columns({"site": site, "date": date, "vh_db": list(vh)})
    wanted = wetness_of(table).sm
    usual, swing, looks = -16.8, 3.3, 3.0  # the typical place of the shipped index
    z = np.empty(len(rows))
    for i, (name, day, value) in enumerate(rows):
        past = np.array([v for n, d, v in rows if n == name and d <= day])
        n = len(past)
        mean = (n * past.mean() + looks * usual) / (n + looks)
        spread = np.sqrt((n * past.var() + looks * swing**2) / (n + looks))
        z[i] = (value - mean) / spread
    scene = np.array([z[[d == day for _, d, _ in rows]].mean() for _, day, _ in rows])
    index = WetnessIndex().fit_transform(np.stack([z, scene], axis=1))
    np.testing.assert_allclose(index[:, 0], wanted, atol=0.02)


def test_they_work_in_a_pipeline_with_dates_as_groups():
    rng = np.random.default_rng(4)
    date = np.repeat(np.arange(10), 20)
    z = rng.normal(size=(200, 1)) * 0.3 + rng.normal(size=10)[date][:, None]
    sm = 0.2 + 0.05 * z[:, 0] + rng.normal(0, 0.005, 200)
    chain = make_pipeline(WetnessIndex(), ChangeDetection())
    scores = cross_val_score(chain, z, sm, groups=date, cv=GroupKFold(5))
    assert scores.mean() > 0.8
