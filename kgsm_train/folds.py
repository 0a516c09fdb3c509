"""Which rows test which model: folds by group from the data, never by row."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.errors import DataError


def group_folds(
    group: NDArray[np.str_], labelled: NDArray[np.bool_], folds: int, seed: int
) -> NDArray[np.int64]:
    """(R,) fold of each row, 0..folds-1; every group whole in one fold.

    Groups are shuffled, then each goes to the fold with the fewest labelled rows, so
    folds are of like size. DataError where there are fewer labelled groups than folds.

    >>> group_folds(np.array(["a", "a", "b", "c"]), np.ones(4, bool), folds=2, seed=0).tolist()
    [0, 0, 1, 1]
    """
    names, code = np.unique(group, return_inverse=True)
    count = np.bincount(code, weights=labelled, minlength=len(names))
    if np.count_nonzero(count) < folds:
        raise DataError(
            f"{np.count_nonzero(count)} groups with labels cannot make {folds} folds; "
            "ask for fewer folds, or group by a column with more groups"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-count[order], kind="stable")]
    fold_of, load = np.zeros(len(names), np.int64), np.zeros(folds)
    for name in order:
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += count[name]
    return fold_of[code]


def given_folds(
    fold: NDArray[np.str_], group: NDArray[np.str_], source: str
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The authors' folds of a column: (R,) numbers, and the names they stand for.

    DataError where a group stands in two folds: it would be tested on itself.
    """
    names, number = np.unique(fold, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{source}: the fold column holds only {names.tolist()}; two are needed")
    for name in np.unique(group):
        inside = np.unique(number[group == name])
        if len(inside) > 1:
            raise DataError(
                f"{source}: group {name} stands in folds {names[inside[0]]} and "
                f"{names[inside[1]]}; a place may not be tested on itself"
            )
    return number.astype(np.int64), tuple(names.tolist())
