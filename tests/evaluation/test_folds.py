"""Folds never split a group."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError
from kgsm_train.evaluation.folds import (
    Partition,
    date_blocks,
    find_leaks,
    find_repeats,
    group_folds,
    read_folds,
    refuse_leaks,
)


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
    folds = read_folds(np.asarray(["II", "I", "II"]), "t")
    assert folds.number.tolist() == [1, 0, 1] and folds.names == ("I", "II")
    with pytest.raises(DataError, match="two are needed"):
        read_folds(np.asarray(["I", "I"]), "t")


def leaks_of(site, day, sm, fold, group=None):
    site, fold = np.asarray(site), np.asarray(fold)
    group = site if group is None else np.asarray(group)
    day, sm = np.asarray(day, np.float64), np.asarray(sm, np.float32)
    return find_leaks(site, group, day, sm, Partition(fold, ("I", "II", "III", "IV")))


def test_a_site_or_group_in_two_folds_is_a_leak():
    found = leaks_of(["a", "b", "a"], [1, 1, 2], [0.1, 0.2, 0.3], [0, 1, 1])
    assert [leak.kind for leak in found] == ["site-in-two-folds"]
    assert found[0].text == "site a stands in folds I, II"
    found = leaks_of(["a", "b"], [1, 1], [0.1, 0.2], [0, 2], group=["field", "field"])
    assert [leak.text for leak in found] == ["group field stands in folds I, III"]
    with pytest.raises(DataError, match=r"t\.csv: group field .* allow = \[.site-in-two-folds.\]"):
        refuse_leaks(found, (), "t.csv")
    refuse_leaks(found, ("site-in-two-folds",), "t.csv")


@given(st.integers(0, 1000), st.floats(0, 0.001), st.booleans())
def test_copied_series_are_found_in_two_folds_and_only_there(seed, noise, same_fold):
    rng = np.random.default_rng(seed)
    days = np.arange(20.0)
    series = rng.uniform(0.05, 0.4, (3, 20))
    series[2] = series[0] + noise
    site = np.repeat(["a", "b", "c"], 20)
    fold = np.repeat([0, 1, 0 if same_fold else 1], 20)
    found = leaks_of(site, np.tile(days, 3), series.ravel(), fold)
    assert len(found) == (0 if same_fold else 1)
    if found:
        assert "sites a (fold I) and c (fold II)" in found[0].text
        assert "20 of 20 common days" in found[0].text


def test_a_dry_season_at_one_reading_is_no_copy():
    site, day = np.repeat(["a", "b"], 10), np.tile(np.arange(10.0), 2)
    assert leaks_of(site, day, np.full(20, 0.05), np.repeat([0, 1], 10)) == []


@given(st.lists(st.integers(0, 60), min_size=3, max_size=80), st.integers(0, 9))
def test_blocks_are_runs_of_neighbouring_dates(days, blocks):
    day = np.asarray(days, float)
    found = date_blocks(day, np.ones(len(day), bool), blocks)
    block, names = found.number, found.names
    dates = len(np.unique(day))
    expected = dates if dates <= 7 else min(7, dates // 2)
    assert len(names) == min(blocks or expected, dates) == len(np.unique(block))
    order = np.argsort(day, kind="stable")
    assert (np.diff(block[order]) >= 0).all(), "a later date is in no earlier block"
    for d in np.unique(day):
        assert len(np.unique(block[day == d])) == 1
    sizes = [len(np.unique(day[block == b])) for b in range(len(names))]
    assert max(sizes) - min(sizes) <= 1


def test_anands_fourteen_dates_make_seven_blocks_of_two():
    day = np.repeat(np.arange(14) * 12.0, 20)
    blocks = date_blocks(day, np.ones(len(day), bool), 0)
    assert blocks.number.tolist() == np.repeat(np.arange(7), 40).tolist()
    assert blocks.names[0] == "1970-01-01 to 1970-01-13"


def test_labels_that_repeat_another_date_or_group_are_named():
    rng = np.random.default_rng(0)
    site = np.asarray([f"{f}{p}" for f in "abc" for p in "12345"])
    first, second = rng.uniform(0.05, 0.4, 15), rng.uniform(0.05, 0.4, 15)

    def repeats(*series):
        days = np.repeat(np.arange(len(series)) * 10.0, 15)
        sites = np.tile(site, len(series))
        groups = np.asarray([name[0] for name in sites])
        return find_repeats(sites, groups, days, np.concatenate(series))

    assert repeats(first, second) == ()
    copied = repeats(first, second, first + 0.0005)
    assert "labels of 1970-01-01 and 1970-01-21 are the same at 15 of 15 sites" in copied[0]
    pasted = second.copy()
    pasted[5:10] = first[:5]  # field b on the second date carries field a's of the first
    assert repeats(first, pasted) == ("labels of b on 1970-01-11 repeat those of a on 1970-01-01",)
    dry = np.full(15, 0.06)
    assert repeats(dry, dry) == (), "a dry season at one reading is no copy"


@pytest.mark.realdata
def test_anands_copied_labels_are_found(shared_data):
    """What the column sm_copied says is seen in the labels themselves, where they repeat."""
    with open(shared_data / "anand" / "dev.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["sm"]]
    day = np.asarray([np.datetime64(row["date"], "D").astype(int) for row in rows], float)
    columns = [np.asarray([row[name] for row in rows]) for name in ("site", "field")]
    found = find_repeats(*columns, day, np.asarray([float(row["sm"]) for row in rows]))
    assert len(found) == 4 and all("2022-08-27" in text for text in found)
    kept = np.asarray([row["sm_copied"] != "True" for row in rows])
    sm = np.where(kept, [float(row["sm"]) for row in rows], np.nan)
    assert find_repeats(*columns, day, sm) == ()


@pytest.mark.realdata
def test_the_published_oznet_folds_hold_one_series_three_times(shared_data):
    """y7, y8 and y9 carry one series in folds 4, 1 and 2; it must be refused."""
    folder = shared_data / "oznet" / "0_ancillary"
    with open(folder / "OzNet_study_sites.csv", newline="", encoding="utf-8-sig") as file:
        stations = list(csv.DictReader(file))
    rows = []
    for station in stations:
        name = station["sitename"]
        path = folder / "OzNet_cleaned_data" / f"OzNet_{name}_cleaned_data.csv"
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                day = np.datetime64(row["time"], "D").astype(int)
                rows.append(
                    (
                        name,
                        day,
                        row["insitu_sm"].replace("NA", "nan"),
                        int(station["iteration"]) - 1,
                    )
                )
    site, day, sm, fold = zip(*rows, strict=True)
    found = leaks_of(site, day, sm, fold)
    pairs = [(leak.text.split()[1], leak.text.split()[5]) for leak in found]
    assert pairs == [("y7", "y8"), ("y7", "y9"), ("y8", "y9")]
