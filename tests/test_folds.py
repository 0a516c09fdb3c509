"""Folds never split a group."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.errors import DataError
from kgsm_train.folds import given_folds, group_folds


@given(
    st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=1, max_size=80),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_groups_stay_whole_and_every_fold_has_labels(rows, folds, seed):
    group = np.asarray([f"g{g}" for g, _ in rows])
    labelled = np.asarray([label for _, label in rows])
    if len(np.unique(group[labelled])) < folds:
        with pytest.raises(DataError, match="cannot make"):
            group_folds(group, labelled, folds, seed)
        return
    fold = group_folds(group, labelled, folds, seed)
    for name in np.unique(group):
        assert len(np.unique(fold[group == name])) == 1
    assert all(labelled[fold == k].any() for k in range(folds))
    assert np.array_equal(fold, group_folds(group, labelled, folds, seed))


def test_folds_are_of_like_size():
    group = np.repeat([f"g{i}" for i in range(20)], 70)
    fold = group_folds(group, np.ones(len(group), bool), 4, 0)
    assert np.bincount(fold).tolist() == [350] * 4


def test_the_authors_folds():
    number, names = given_folds(np.asarray(["II", "I", "II"]), np.asarray(["a", "b", "a"]), "t")
    assert number.tolist() == [1, 0, 1] and names == ("I", "II")
    with pytest.raises(DataError, match="group a stands in folds I and II"):
        given_folds(np.asarray(["II", "I", "I"]), np.asarray(["a", "b", "a"]), "t")
    with pytest.raises(DataError, match="two are needed"):
        given_folds(np.asarray(["I", "I"]), np.asarray(["a", "b"]), "t")
