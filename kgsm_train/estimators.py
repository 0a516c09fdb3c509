"""Change detection and the wetness index as scikit-learn estimators.

They take the columns that kgsm computes for each row, and fit into pipelines, searches and
cross-validation of scikit-learn. Use groups of dates there, as ``kgsm-train crossval`` does: a
random split of rows puts the same date into training and test.

>>> import numpy as np
>>> anomaly = np.array([[-1.0, -0.5], [0.0, 0.1], [1.0, 0.4], [2.0, 0.9]])
>>> WetnessIndex().fit_transform(anomaly).round(2).ravel().tolist()
[0.23, 0.52, 0.76, 0.93]
>>> fitted = ChangeDetection().fit(anomaly, [0.10, 0.18, 0.25, 0.33])
>>> bool((fitted.coef_ >= 0).all()), round(float(fitted.predict([[0.0, 0.1]])[0]), 2)
(True, 0.18)
"""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from .learning.head import solve_change

__all__ = ["ChangeDetection", "WetnessIndex"]


class ChangeDetection(RegressorMixin, BaseEstimator):  # type: ignore[misc]  # no type hints
    """Soil moisture by change detection: SM = b0 + sum_k b_k x_k, with bounds on b_k.

    Columns are usually ``vh_anomaly``, ``vh_anomaly_scene`` and ``ndvi_over_scene``. Source:
    Wagner, Lemoine & Rott 1999, Remote Sens. Environ. 70, 191; bounded least squares as in
    :mod:`kgsm_train.learning.head`.

    lower, upper: bounds of b_k, one for all columns or one for each; the default lower=0 states
        that wet soil is bright. None is no bound.

    After ``fit``: ``coef_`` (K,), ``intercept_`` in m3/m3, ``n_features_in_``.
    """

    def __init__(self, lower: Any = 0.0, upper: Any = None) -> None:
        self.lower = lower
        self.upper = upper

    def fit(self, X: Any, y: Any) -> Self:
        """Fit to X (N, K) and soil moisture y (N,), m3/m3; ValueError for invalid bounds."""
        X, y = validate_data(self, X, y, dtype=np.float64, y_numeric=True)
        columns = X.shape[1]
        low = self._bound("lower", self.lower, -np.inf, columns)
        high = self._bound("upper", self.upper, np.inf, columns)
        if not (low < high).all():  # NaN too
            raise ValueError("lower must be below upper in each column")
        free = np.concatenate([[-np.inf], low]), np.concatenate([[np.inf], high])
        solution = solve_change(X, y.astype(np.float64), *free)
        self.intercept_, self.coef_ = float(solution[0]), solution[1:]
        return self

    def predict(self, X: Any) -> NDArray[np.float64]:
        """Predict soil moisture (N,), m3/m3, of X (N, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(self.intercept_ + X @ self.coef_, np.float64)

    @staticmethod
    def _bound(name: str, value: Any, missing: float, columns: int) -> NDArray[np.float64]:
        """Return a bound for each column."""
        bound = np.asarray(missing if value is None else value, np.float64)
        if bound.ndim > 1 or bound.size not in (1, columns):
            raise ValueError(f"{name} needs 1 or {columns} values, got {bound.size}")
        return np.broadcast_to(bound, columns)


class WetnessIndex(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Label-free wetness index: Phi of the mean of the columns, 0 (driest) to 1 (wettest).

    Columns are ``vh_anomaly`` and ``vh_anomaly_fields``: the mean of two is 1/2 z + 1/2 z_scene
    (:mod:`kgsm_infer.model.index`). Nothing is fitted. The output has one column.
    """

    def fit(self, X: Any, y: object = None) -> Self:
        """Check X (N, K); y is ignored."""
        validate_data(self, X, dtype=np.float64)
        return self

    def transform(self, X: Any) -> NDArray[np.float64]:
        """Compute the index (N, 1) of X (N, K)."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, reset=False)
        return np.asarray(ndtr(X.mean(axis=1, keepdims=True)), np.float64)

    def get_feature_names_out(self, input_features: object = None) -> NDArray[np.object_]:
        """Return ``wetness``."""
        check_is_fitted(self)
        return np.asarray(["wetness"], object)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "n_features_in_")
