"""Baselines: models scored on the same rows and folds as the network.

    mean              site-blind mean of the training labels
    same-date-mean    mean of the training labels of that very date: it reads labels of the
                      day it predicts, so it is a reference and no model
    wcm               the water cloud model alone (Eqs 1-6)
    index             the index head alone, limits fitted (:mod:`kgsm_train.learning.head`)
    change            change detection alone
    ridge-radar       ridge regression on the target's backscatter and nothing else
    ridge             ridge on all the network sees, the window laid flat
    forest            random forest on the same
    extra-trees       extremely randomised trees on the same
    ridge-no-radar    ridge and forest without any backscatter
    forest-no-radar

Every baseline is a function of (config, samples, train rows, test rows) that returns the SM
of the test rows, NaN where it has none, and what was learnt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.window import Layout

from ..config import Config
from .calibrate import Calibration, predict_sm
from .head import FittedHead, alone, calibrated, fit_change, fit_index, readout_for
from .learnt import Learnt
from .network import raw_tile
from .samples import Samples, batch_of
from .scaling import scaling

if TYPE_CHECKING:  # a second to import; networks do without
    from sklearn.ensemble import ExtraTreesRegressor, RandomForestRegressor

Rows = NDArray[np.int64]
Predicted = tuple[NDArray[np.float32], Learnt]
Baseline = Callable[[Config, Samples, Rows, Rows], Predicted]

#: Ridge penalties tried, per training row and on unit-variance inputs; the best by RMSE on
#: held-out groups of the training rows.
RIDGE_PENALTIES = tuple(float(10.0**power) for power in range(-4, 3))

#: Fewest training rows of a class for a separate WCM.
MIN_CLASS = 30


def mean_of_labels(
    config: Config, samples: Samples, train_rows: Rows, test_rows: Rows
) -> Predicted:
    """Predict the site-blind mean, which a useful model must beat. It needs no input."""
    mean = float(np.nanmean(samples.sm[train_rows]))
    return np.full(len(test_rows), mean, np.float32), Learnt({"mean": mean})


def mean_of_date(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Average the labels of the other groups on the same day; NaN without any."""
    day = np.floor(samples.observed.day).astype(np.int64)
    known = train_rows[np.isfinite(samples.sm[train_rows])]
    days, code = np.unique(day[known], return_inverse=True)
    means = np.bincount(code, samples.sm[known]) / np.bincount(code)
    at = np.searchsorted(days, day[test_rows]).clip(max=len(days) - 1)
    there = days[at] == day[test_rows]
    return np.where(there, means[at], np.nan).astype(np.float32), Learnt(facts={"dates": len(days)})


def water_cloud(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Calibrate the WCM alone: A, C, D on the training rows (Eqs 1-6), class by class.

    A class with too few training rows takes the calibration of all classes together.
    """
    known = train_rows[samples.labelled[train_rows]]
    observed = samples.observed.take(test_rows)
    if observed.vegetation is None:
        raise ValueError("the WCM needs the vegetation, which was not read")
    sm = np.full(len(test_rows), np.nan, np.float32)
    together = calibrated(config, samples, known)
    by_class: dict[str, dict[str, float]] = {}
    for name in np.unique(samples.wcm_class[test_rows]):
        rows = known[samples.wcm_class[known] == name]
        fitted = together
        if len(rows) < len(known) and len(rows) >= MIN_CLASS:
            fitted = calibrated(config, samples, rows)
            by_class[str(name)] = _parameters(fitted)
        found, _ = predict_sm(fitted, observed.sigma0_db, observed.vegetation, observed.angle_deg)
        sm = np.where(samples.wcm_class[test_rows] == name, found, sm)
    learnt = Learnt(
        parameters=_parameters(together),
        on_bound=together.on_bound,
        by_class=by_class,
        facts={"samples": together.samples, "lost_share": together.lost_share},
    )
    return np.where(samples.complete[test_rows], np.clip(sm, 0, 1), np.float32(np.nan)), learnt


def change_detection(
    config: Config, samples: Samples, train_rows: Rows, test_rows: Rows
) -> Predicted:
    """Fit the change-detection head alone to the training rows."""
    rows = train_rows[samples.labelled[train_rows]]
    layout = scaling(samples, samples.observed.sigma0_db, rows)
    fitted = fit_change(config, samples, layout, rows)
    return _head_alone(fitted, samples, layout, test_rows)


def fitted_index(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Predict with the index head alone, its limits fitted to the training rows."""
    rows = train_rows[samples.labelled[train_rows]]
    layout = scaling(samples, samples.observed.sigma0_db, rows)
    fitted = fit_index(config, samples, layout, rows)
    return _head_alone(fitted, samples, layout, test_rows)


def _head_alone(fitted: FittedHead, samples: Samples, layout: Layout, test_rows: Rows) -> Predicted:
    sm = alone(readout_for(fitted.head, samples, layout), samples, layout, test_rows)
    return sm, Learnt(fitted.parameters, fitted.on_bound, facts={"samples": fitted.samples})


def _parameters(fitted: Calibration) -> dict[str, float]:
    return {"A": fitted.wcm.a, "C": fitted.c_db, "D": fitted.d_db}


def ridge(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Fit ridge regression on the flat window.

    The penalty is chosen on held-out training groups.
    """
    rows = _training_rows(samples, train_rows, groups=2)
    return _ridge(flat_windows(samples, rows), rows, samples, test_rows)


def ridge_radar(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Fit ridge regression on the target's backscatter alone: the empirical radar model."""
    rows = _training_rows(samples, train_rows, groups=2)
    return _ridge(lambda index: samples.observed.sigma0_db[index, None], rows, samples, test_rows)


def forest(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Fit a random forest on the flat window."""
    from sklearn.ensemble import RandomForestRegressor

    return _trees(RandomForestRegressor, config, samples, train_rows, test_rows)


def extra_trees(config: Config, samples: Samples, train_rows: Rows, test_rows: Rows) -> Predicted:
    """Fit extremely randomised trees on the flat window."""
    from sklearn.ensemble import ExtraTreesRegressor

    return _trees(ExtraTreesRegressor, config, samples, train_rows, test_rows)


#: Baselines by name; for their inputs see :data:`kgsm_train.models.MODELS`.
BASELINES: Mapping[str, Baseline] = {
    "mean": mean_of_labels,
    "same-date-mean": mean_of_date,
    "wcm": water_cloud,
    "index": fitted_index,
    "change": change_detection,
    "ridge-radar": ridge_radar,
    "ridge": ridge,
    "ridge-no-radar": ridge,
    "forest": forest,
    "extra-trees": extra_trees,
    "forest-no-radar": forest,
}


def flat_windows(samples: Samples, rows: Rows) -> Callable[[Rows], NDArray[np.float32]]:
    """Flatten the network's input to (K, T F), scaled as over ``rows``; 0 in unusable steps."""
    layout = scaling(samples, samples.observed.sigma0_db, rows)

    def flat(index: Rows) -> NDArray[np.float32]:
        batch = batch_of(samples, index)
        tile = raw_tile(layout, batch.sigma0_db, batch.observed, batch)
        return np.asarray(tile.transpose(0, 1).reshape(len(index), -1).numpy())

    return flat


def _training_rows(samples: Samples, train_rows: Rows, groups: int) -> Rows:
    """Return the labelled rows (K,); DataError where they are of fewer than ``groups`` groups."""
    rows = train_rows[samples.labelled[train_rows]]
    found = len(np.unique(samples.group[rows]))
    if found < groups:
        raise DataError(
            f"{len(rows)} labelled rows with all inputs, of {found} groups, are left to train a "
            f"model on; {groups} groups are needed: add labels, or compare other models"
        )
    return rows


def _ridge(
    inputs: Callable[[Rows], NDArray[np.float32]], rows: Rows, samples: Samples, test_rows: Rows
) -> Predicted:
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV, GroupKFold

    group = samples.group[rows]
    folds = GroupKFold(min(5, len(np.unique(group))))
    search = GridSearchCV(
        Ridge(),
        {"alpha": [penalty * len(rows) for penalty in RIDGE_PENALTIES]},
        scoring="neg_mean_squared_error",
        cv=folds,
    ).fit(inputs(rows), samples.sm[rows], groups=group)
    sm = _clip_complete(search.best_estimator_, inputs, samples, test_rows)
    penalty = search.best_params_["alpha"] / len(rows)
    return sm, Learnt(facts={"samples": len(rows), "penalty": penalty})


def _trees(
    ensemble: type[RandomForestRegressor] | type[ExtraTreesRegressor],
    config: Config,
    samples: Samples,
    train_rows: Rows,
    test_rows: Rows,
) -> Predicted:
    """Fit an ensemble of fixed size: 300 trees, leaves of 5 rows, a third of the inputs a split."""
    rows = _training_rows(samples, train_rows, groups=1)
    inputs = flat_windows(samples, rows)
    trees = ensemble(
        n_estimators=300, min_samples_leaf=5, max_features=1 / 3, random_state=config.training.seed
    ).fit(inputs(rows), samples.sm[rows])
    return _clip_complete(trees, inputs, samples, test_rows), Learnt(
        facts={"samples": len(rows), "trees": 300}
    )


def _clip_complete(
    fitted: Any,
    inputs: Callable[[Rows], NDArray[np.float32]],
    samples: Samples,
    test_rows: Rows,
) -> NDArray[np.float32]:
    """Return SM clipped to 0..1 where the target has every input, else NaN."""
    whole = samples.complete & np.isfinite(samples.observed.statics).all(axis=1)
    index = test_rows[whole[test_rows]]
    sm = np.full(len(test_rows), np.nan, np.float32)
    if len(index):
        sm[whole[test_rows]] = np.clip(fitted.predict(inputs(index)), 0, 1)
    return sm
