"""Cross-validation: parts kept and resumed, the same result twice, honest scores."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest

from kgsm_infer.errors import DataError
from kgsm_train.config import read_config
from kgsm_train.evaluation import crossval
from kgsm_train.evaluation.crossval import crossvalidate, plan
from kgsm_train.evaluation.metrics import scores
from kgsm_train.evaluation.rundir import write_run
from kgsm_train.evaluation.scoreboard import common_rows
from kgsm_train.evaluation.tables import table_rows


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    config = read_config(tiny_model / "tiny.toml")
    folder = tmp_path_factory.mktemp("run")
    result = crossvalidate(config, folder)
    return config, folder, result, write_run(folder, result, config)


def test_every_row_is_tested_once_on_a_group_never_trained_on(run):
    _, _, result, _ = run
    for k in range(2):
        test = set(result.source.group[result.fold == k])
        assert not test & set(result.source.group[result.fold != k])
    common = common_rows(result)
    assert common.sum() > 100
    for predicted in result.predicted.values():
        assert np.isfinite(predicted[common]).all()


def test_the_scores_are_those_of_the_predictions_file(run):
    _, folder, _, board = run
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"simulated"}
    names = {"mean": "sm_mean", "wcm": "sm_wcm", "lstm": "sm_lstm", "kg-lstm": "sm_kg_lstm"}
    values = {
        name: np.asarray([float(row[column] or "nan") for row in rows])
        for name, column in names.items()
    }
    sm = np.asarray([float(row["sm"] or "nan") for row in rows])
    common = np.isfinite(sm) & np.isfinite(np.stack(list(values.values()))).all(axis=0)
    for name, predicted in values.items():
        error = predicted[common] - sm[common]
        pooled = board["models"][name]["pooled"]
        assert pooled["n"] == common.sum() == board["common"]
        assert pooled["rmse"] == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
        assert pooled["bias"] == pytest.approx(error.mean(), rel=1e-4, abs=1e-7)
    assert json.loads((folder / "metrics.json").read_text()) == board
    assert board["simulated"] is True


def test_figures_are_pictures_of_every_model(run):
    _, folder, _, _ = run
    for name in ("scatter-mean", "scatter-wcm", "scatter-lstm", "scatter-kg-lstm", "learnt-a"):
        picture = (folder / "figures" / f"{name}.png").read_bytes()
        assert picture.startswith(b"\x89PNG") and len(picture) > 5000


def test_the_table_has_a_line_for_every_model(run):
    _, _, _, board = run
    heading, *rows = table_rows(board)
    assert sorted(row[0] for row in rows) == ["KG-LSTM", "LSTM", "Site-blind mean", "WCM"]
    assert [float(row[1]) for row in rows] == sorted(float(row[1]) for row in rows)
    assert all(len(row) == len(heading) for row in rows)
    assert set(board["rmse_kg_lstm_minus"]) == {"mean", "wcm", "lstm"}


def test_finished_parts_are_kept_and_others_done(run, tmp_path, monkeypatch):
    config, folder, result, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "kg-lstm-fold2.npz").unlink()
    assert "7 of 8 parts kept" in plan(config, tmp_path)
    done = []
    run_part = crossval.run_part

    def counted(config, source, fold, model, k, progress=None):
        done.append((model, k))
        return run_part(config, source, fold, model, k, progress)

    monkeypatch.setattr(crossval, "run_part", counted)
    again = crossvalidate(config, tmp_path)
    assert done == [("kg-lstm", 1)]
    for name, predicted in result.predicted.items():
        assert np.array_equal(predicted, again.predicted[name], equal_nan=True)


def test_a_stop_half_way_keeps_what_was_done(run, tmp_path, monkeypatch):
    config, _, result, _ = run
    run_part = crossval.run_part

    def stopped(config, source, fold, model, k, progress=None):
        if (model, k) == ("kg-lstm", 1):
            raise KeyboardInterrupt
        return run_part(config, source, fold, model, k, progress)

    monkeypatch.setattr(crossval, "run_part", stopped)
    with pytest.raises(KeyboardInterrupt):
        crossvalidate(config, tmp_path)
    kept = sorted(path.name for path in (tmp_path / "parts").iterdir())
    assert "lstm-fold1.npz" in kept and "kg-lstm-fold2.npz" not in kept
    monkeypatch.undo()
    again = crossvalidate(config, tmp_path)
    for name, predicted in result.predicted.items():
        assert np.array_equal(predicted, again.predicted[name], equal_nan=True)


@pytest.mark.slow
def test_processes_give_the_same_numbers_and_report_progress(run, tmp_path):
    config, _, result, _ = run
    seen = []
    again = crossvalidate(config, tmp_path, jobs=2, progress=lambda *event: seen.append(event))
    for name, predicted in result.predicted.items():
        assert np.array_equal(predicted, again.predicted[name], equal_nan=True)
    assert {name for name, *_ in seen} >= {"kg-lstm, fold 1", "lstm, fold 2"}


def test_parts_of_another_experiment_do_not_count(run, tmp_path):
    config, folder, _, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    text = (config.folder / "tiny.toml").read_text().replace("epochs = 3", "epochs = 2")
    other_path = tmp_path / "other.toml"
    other_path.write_text(text.replace('"twin.csv"', f'"{config.table}"'))
    assert "0 of 8 parts kept" in plan(read_config(other_path), tmp_path)


def test_a_broken_part_is_named(run, tmp_path):
    config, folder, _, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "wcm-fold1.npz").write_bytes(b"cut")
    with pytest.raises(DataError, match=r"wcm-fold1\.npz: not a finished part"):
        crossvalidate(config, tmp_path)


@pytest.mark.realdata
def test_anand_folds_hold_whole_fields(shared_data):
    from pathlib import Path

    from kgsm_train.evaluation.crossval import folds_of
    from kgsm_train.learning.samples import read_source

    config = read_config(Path(__file__).parents[2] / "examples/anand.toml")
    source = read_source(config)
    assert np.isfinite(source.label).sum() == 1104 - 25  # the copied labels are left out
    fold, names = folds_of(source, config)
    assert names == ("1", "2", "3", "4")
    assert [len(set(source.group[fold == k])) for k in range(4)] == [5, 5, 5, 5]


def test_scores_on_nothing_are_not_numbers():
    nothing = scores(np.asarray([]), np.asarray([]))
    assert nothing.n == 0 and np.isnan(nothing.rmse)
