"""Plans: variants on the same rows, and a nested choice that never sees its test fold."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

from kgsm_infer.errors import UsageError
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
    # 3 folds x 2 seeds x 3 networks, and 2 candidates x 3 outer x 2 inner folds x 2 seeds
    assert plan.trainings() == 18 + 24


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
    assert table.startswith(f"{board['rows']} rows common to all") and "Simulated data" in table
    assert table.count("\n| ") == 2 + 5, "a heading, its rule, and a line a variant"
    assert json.loads((plan_folder / "run" / "experiments.json").read_text()) == board


def test_the_choice_is_made_inside_each_outer_fold(board):
    expected = [(seed, fold) for seed in (0, 1) for fold in ("1", "2", "3")]
    assert [(choice["seed"], choice["fold"]) for choice in board["choices"]] == expected
    for choice in board["choices"]:
        assert choice["chosen"] == min(choice["inner_rmse"], key=choice["inner_rmse"].get)


def test_the_inner_folds_never_see_the_outer_labels(plan_folder, tmp_path, monkeypatch):
    seen = []
    run_part = crossval.run_part

    def watched(config, source, fold, model, k, progress=None):
        if (fold == -1).any():
            assert not np.isfinite(source.label[fold == -1]).any()
            groups = set(source.group[fold == -1])
            assert not groups & set(source.group[fold >= 0])
            seen.append(len(groups))
        return run_part(config, source, fold, model, k, progress)

    monkeypatch.setattr(crossval, "run_part", watched)
    run_plan(read_plan(plan_folder / "plan.toml"), tmp_path)
    assert len(seen) == 24 and min(seen) > 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("base =", "bass ="), "unknown key 'bass'"),
        (("folds = 2", 'candidates = ["none"]'), "candidate 'none' is no variant with kg-lstm"),
        (("network.hidden = 2", "network.hiden = 2"), r"\[network\] hiden: unknown key"),
    ],
)
def test_mistakes_in_a_plan_are_named(plan_folder, tmp_path, change, said):
    shutil.copy(plan_folder / "tiny.toml", tmp_path)
    (tmp_path / "plan.toml").write_text(PLAN.replace(*change))
    with pytest.raises(UsageError, match=said):
        read_plan(tmp_path / "plan.toml")
