"""Plans: variants on the same rows, and a nested choice that never sees its test fold."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from kgsm_infer.base.errors import UsageError
from kgsm_train.evaluation import crossval
from kgsm_train.evaluation.experiments import read_plan, run_plan

PLAN = """
base = "tiny.toml"
seeds = [0, 1]
reference = "wide / kg-lstm"
[variants.wide]
crossval.models = ["mean", "lstm", "kg-lstm"]
[variants."a narrow one"]
crossval.models = ["kg-lstm"]
network.hidden = 2
inputs.features = []
[nested]
folds = 2
"""


@pytest.fixture(scope="module")
def plan_folder(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    shutil.copy(tiny_model / "twin.csv", folder)
    tiny = (tiny_model / "tiny.toml").read_text()
    (folder / "tiny.toml").write_text(tiny.replace("folds = 2", "folds = 3"))
    (folder / "plan.toml").write_text(PLAN)
    return folder


@pytest.fixture(scope="module")
def board(plan_folder):
    return run_plan(read_plan(plan_folder / "plan.toml"), plan_folder / "run")


def test_a_plan_changes_only_what_it_says(plan_folder):
    plan = read_plan(plan_folder / "plan.toml")
    wide, narrow = plan.variants["wide", 1], plan.variants["a narrow one", 1]
    assert (wide.network.hidden, narrow.network.hidden) == (4, 2)
    assert narrow.inputs.features == () and wide.inputs.features == ("doy_sin",)
    assert wide.training.seed == 1 and narrow.inputs.steps == wide.inputs.steps == 3
    # (3 folds + 6 pairs) x 2 seeds x 3 networks; 2 candidates x 6 outer x 2 inner x 2 seeds
    assert plan.trainings() == 54 + 48


def test_scores_are_of_the_rows_all_variants_share(board, plan_folder):
    named = {f"{row['variant']} / {row['model']}": row for row in board["variants"]}
    rmse = {name: row["pooled"]["rmse"] for name, row in named.items()}
    assert set(rmse) == {
        "wide / mean",
        "wide / lstm",
        "wide / kg-lstm",
        "a narrow one / kg-lstm",
        "chosen by nested CV / kg-lstm",
    }
    for name, row in named.items():
        assert row["pooled"]["n"] == 2 * board["rows"]
        by_seed = np.sqrt(np.mean(np.square(row["rmse_by_seed"])))
        assert row["pooled"]["rmse"] == pytest.approx(by_seed, rel=1e-5)
        if name != "wide / kg-lstm":
            gap = row["reference_minus_this"]["difference"]
            assert gap == pytest.approx(rmse["wide / kg-lstm"] - rmse[name], abs=1e-6)
    table = (plan_folder / "run" / "experiments.md").read_text()
    assert (
        table.startswith(f"new sites, new dates: {board['rows']} rows common to all")
        and "Simulated data" in table
    )
    assert table.count("\n| ") == 2 + 5, "a heading, its rule, and a line a variant"
    assert json.loads((plan_folder / "run" / "experiments.json").read_text()) == board


def test_the_choice_is_made_inside_each_outer_fold(board):
    pairs = [f"fold{k}-dates{b}" for b in (1, 2) for k in (1, 2, 3)]
    expected = [(seed, split) for seed in (0, 1) for split in pairs]
    assert [(choice["seed"], choice["split"]) for choice in board["choices"]] == expected
    for choice in board["choices"]:
        assert choice["chosen"] == min(choice["inner_rmse"], key=choice["inner_rmse"].get)


def test_the_inner_folds_never_see_the_outer_labels(plan_folder, tmp_path, monkeypatch):
    seen = []
    run_part = crossval.run_part

    def watched(experiment, model, split, progress=None):
        source, design = experiment.source, experiment.design
        hidden = design.fold == -1
        if hidden.any():
            assert not np.isfinite(source.label[hidden]).any()
            train, day = design.train_rows(split), np.floor(source.table.day)
            test = np.flatnonzero(design.counts("both-new", split))
            assert not set(source.group[train]) & set(source.group[test])
            assert not set(day[train]) & set(day[test])
            assert not set(train) & set(np.flatnonzero(hidden))
            seen.append(len(train))
        return run_part(experiment, model, split, progress)

    monkeypatch.setattr(crossval, "run_part", watched)
    run_plan(read_plan(plan_folder / "plan.toml"), tmp_path)
    assert len(seen) == 48 and min(seen) > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("base =", "bass ="), "bass is not a known key; did you mean base"),
        (
            ("folds = 2", 'candidates = ["none"]'),
            "is none, expected a variant with the model kg-lstm",
        ),
        (
            ("network.hidden = 2", "network.hiden = 2"),
            r"network\.hiden is not a known key; did you mean hidden",
        ),
    ],
)
def test_mistakes_in_a_plan_are_named(plan_folder, tmp_path, change, said):
    shutil.copy(plan_folder / "tiny.toml", tmp_path)
    (tmp_path / "plan.toml").write_text(PLAN.replace(*change))
    with pytest.raises(UsageError, match=said):
        read_plan(tmp_path / "plan.toml")
