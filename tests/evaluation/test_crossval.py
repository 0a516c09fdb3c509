"""Cross-validation: parts kept and resumed, the same result twice, honest scores."""

from __future__ import annotations

import csv
import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from multiprocessing.context import SpawnProcess
from pathlib import Path

import numpy as np
import pytest
from running import PATIENCE_S, wait_for

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.schema import as_plain
from kgsm_train.config import read_config
from kgsm_train.evaluation import crossval, parts, tables
from kgsm_train.evaluation.board import read_board
from kgsm_train.evaluation.crossval import crossvalidate, plan
from kgsm_train.evaluation.metrics import scores
from kgsm_train.evaluation.parts import part_key, read_part
from kgsm_train.evaluation.processes import share
from kgsm_train.evaluation.rundir import write_run
from kgsm_train.evaluation.scoreboard import common_rows, looks_so_far, no_skill, scoreboard
from kgsm_train.evaluation.splits import REGIMES, Split, folds_of
from kgsm_train.evaluation.tables import (
    coverage_rows,
    date_rows,
    learnt_by_split,
    left_out_rows,
    subset_rows,
    table_rows,
)
from kgsm_train.learning.baselines import BASELINES
from kgsm_train.learning.samples import read_source, samples_of

CHANGES = {"wcm": {"learn": ["a", "b"]}}


@pytest.fixture(scope="module")
def run(tiny_model, tmp_path_factory):
    config = read_config(tiny_model / "tiny.toml", changes=CHANGES)
    folder = tmp_path_factory.mktemp("run")
    result = crossvalidate(config, folder)
    return config, folder, result, write_run(folder, result)


def test_no_training_sees_what_it_is_tested_on(run):
    """Neither a group nor, on new dates, a day of the test rows is among the training rows."""
    _, _, result, _ = run
    design, source = result.design, result.source
    day = np.floor(source.table.day)
    assert len(design.splits) == 2 + 4 + 2
    for split in design.splits:
        train = design.train_rows(split)
        for regime in result.regimes:
            due = design.counts(regime, split)
            assert set(np.flatnonzero(due)) <= set(design.test_rows(split))
            if regime != "new-dates":
                assert not set(source.group[due]) & set(source.group[train])
            if regime != "new-groups":
                assert not set(day[due]) & set(day[train])
            if regime == "forward" and due.any():
                assert day[train].max() < day[due].min(), "trained on the past alone"
            if regime == "new-dates" and due.any():
                assert set(source.group[due]) <= set(source.group[train])


def test_every_row_counts_once_in_every_regime(run):
    _, _, result, _ = run
    assert tuple(result.regimes) == REGIMES and result.headline == "both-new"
    for regime, predictions in result.regimes.items():
        due = sum(result.design.counts(regime, split).astype(int) for split in result.design.splits)
        once = result.design.block > 0 if regime == "forward" else np.ones(len(due), bool)
        assert np.array_equal(due, once), "the first block has no past"
        common = common_rows(result, regime)
        assert common.sum() > 100
        for predicted in predictions.values():
            assert np.isfinite(predicted[common]).all()


def test_the_scores_are_those_of_the_predictions_file(run):
    _, folder, _, board = run
    with open(folder / "predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"simulated"}
    names = {"mean": "sm_mean", "wcm": "sm_wcm", "lstm": "sm_lstm", "kg-lstm": "sm_kg_lstm"}
    sm = np.asarray([float(row["sm"] or "nan") for row in rows])
    for regime, suffix in (("both-new", ""), ("new-groups", "__new_groups")):
        values = {
            name: np.asarray([float(row[column + suffix] or "nan") for row in rows])
            for name, column in names.items()
        }
        common = np.isfinite(sm) & np.isfinite(np.stack(list(values.values()))).all(axis=0)
        for name, predicted in values.items():
            error = predicted[common] - sm[common]
            pooled = board.regimes[regime].models[name].pooled
            assert pooled.n == common.sum() == board.regimes[regime].rows
            assert pooled.rmse == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)
            assert pooled.bias == pytest.approx(error.mean(), rel=1e-4, abs=1e-7)
    assert board.simulated is True


def test_the_metrics_file_reads_back_as_it_was(run):
    _, folder, _, board = run
    assert as_plain(read_board(folder / "metrics.json")) == as_plain(board)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (('"rows":', '"rwos":'), "rwos is not a known key"),
        (('"simulated": true', '"simulated": 1'), "simulated is 1, expected true or false"),
        (('"format": 3', '"format": 2'), "format: not the metrics"),
        (('"headline": "both-new"', '"headline": "other"'), "headline"),
        (('"folds": [', '"folds": [ 3,'), r"folds\[0\] is 3, expected text"),
        (('"groups": 6', '"groups": 1e400'), "metrics.json: not JSON"),
        (("{", "[" * 100_000), "nested too deeply"),
    ],
)
def test_damaged_metrics_are_refused_in_one_line(run, tmp_path, change, said):
    text = (run[1] / "metrics.json").read_text()
    assert change[0] in text
    path = tmp_path / "metrics.json"
    path.write_text(text.replace(*change, 1))
    with pytest.raises(DataError, match=said) as caught:
        read_board(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_every_learnt_parameter_of_every_training_is_recorded_and_shown(run):
    """A learnt B was lost: only A stood in the metrics."""
    config, folder, _, board = run
    assert config.wcm.learn == ("a", "b")
    for split, learnt in board.learnt["kg-lstm"].items():
        assert set(learnt.parameters) == {"A", "B"}, split
        assert learnt.parameters["B"] != config.wcm.b
    for learnt in board.learnt["wcm"].values():
        assert set(learnt.parameters) == {"A", "C", "D"}
    told = {(row[0], row[1]): row for row in learnt_by_split(board)}
    assert len(told["KG-LSTM", "B"]) == 2 + 8
    report = (folder / "report.html").read_text()
    value = board.learnt["kg-lstm"]["fold2-dates1"].parameters["B"]
    assert f"<td>{value:.4g}</td>" in report


def test_the_held_out_domain_isolates_with_the_learnt_b(run):
    config, _, _, board = run
    found = config.wcm.with_learnt(board.learnt["kg-lstm"]["fold1"].parameters)
    assert found.b == board.learnt["kg-lstm"]["fold1"].parameters["B"] != config.wcm.b


def test_scores_by_date_and_of_subsets_are_those_of_their_rows(run):
    _, _, result, board = run
    source, predicted = result.source, result.predicted["kg-lstm"]
    common, day = common_rows(result, "both-new"), np.floor(source.table.day)
    model = board.first.models["kg-lstm"]
    for date, found in model.by_date.items():
        here = common & (day == np.datetime64(date).astype(int))
        assert found.n == here.sum()
        assert found.rmse == pytest.approx(np.sqrt(np.mean((predicted - source.label)[here] ** 2)))
    looks = np.asarray(
        [
            np.sum((source.table.site == source.table.site[r]) & (day <= day[r]))
            for r in range(len(day))
        ]
    )
    assert np.array_equal(looks, looks_so_far(source, "vh_db"))
    expected = scores(source.label[common & (looks >= 5)], predicted[common & (looks >= 5)])
    assert (model.settled.n, model.settled.rmse) == (expected.n, pytest.approx(expected.rmse))
    assert model.unflagged.n < model.pooled.n, "the first looks have a short history"


def test_acquisitions_without_backscatter_are_no_looks(run):
    """Nor are those of another orbit, which has a past of its own."""
    source = run[2].source
    vh_db = source.table.numbers["vh_db"].copy()
    vh_db[::7] = np.nan
    orbit = np.resize(["A-1", "D-2"], len(vh_db))
    table = dataclasses.replace(
        source.table, numbers={"vh_db": vh_db}, text={**source.table.text, "orbit": orbit}
    )
    looks = [
        np.sum(
            (table.site == table.site[r])
            & (table.day <= table.day[r])
            & np.isfinite(vh_db)
            & (orbit == orbit[r])
        )
        for r in range(len(vh_db))
    ]
    assert looks_so_far(dataclasses.replace(source, table=table), "vh_db").tolist() == looks


def test_too_few_groups_or_rows_to_train_on_are_refused(run):
    """Ridge chooses its penalty on groups that are left out; trees need one row."""
    config, _, result, _ = run
    samples = samples_of(result.source, config, "ridge")
    group = samples.group
    one = np.flatnonzero(group == group[0])
    for model in ("ridge", "ridge-radar"):
        with pytest.raises(DataError, match="of 1 groups, are left to train"):
            BASELINES[model](config, samples, one, one)
    with pytest.raises(DataError, match="0 labelled rows with all inputs, of 0 groups"):
        BASELINES["forest"](config, samples, one[:0], one)


def test_held_vegetation_is_scored_with_and_without(tiny_model, tmp_path):
    """NDVI of one look a site is taken away and held; it is scored, marked, and left out again."""
    changes = {"crossval": {"models": ["mean", "wcm"]}, "data": {"hold_vegetation_days": 60}}
    with open(read_config(tiny_model / "tiny.toml").table, newline="") as file:
        rows = list(csv.DictReader(file))
    seen: dict[str, int] = {}
    lost = []
    for row in rows:
        seen[row["site"]] = seen.get(row["site"], 0) + 1
        if seen[row["site"]] == 5:
            row["ndvi"] = ""
            lost.append(row["date"][:10])
    with open(tmp_path / "holes.csv", "w", newline="") as file:
        out = csv.DictWriter(file, rows[0])
        out.writeheader()
        out.writerows(rows)
    config = read_config(tiny_model / "tiny.toml", tmp_path / "holes.csv", changes)
    result = crossvalidate(config, tmp_path)
    board = write_run(tmp_path, result)
    held = {one.date: one.held for one in board.dates if one.held}
    emptied = [k for k, row in enumerate(rows) if row["ndvi"] == ""]
    assert set(np.flatnonzero(result.source.held)) <= set(emptied) and held
    assert board.first.rows - board.measured[board.headline].rows == sum(held.values())
    assert "vegetation measured" in (tmp_path / "report.html").read_text()
    none = dataclasses.replace(
        config, data=dataclasses.replace(config.data, hold_vegetation_days=0.0)
    )
    board = scoreboard(crossvalidate(none, tmp_path))
    assert not board.measured and not any(one.held for one in board.dates)
    left = {one.date: one for one in board.dates if one.date in held}
    assert all(one.scored < one.labels for one in left.values())
    assert all("no number of WCM" in one.why for one in left.values())


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
    assert heading[-2:] == ("interval coverage", "rows with a number")
    heading, counts, *rows = subset_rows(board)
    others = ("known sites, new dates", "new sites, known dates", "new sites, later dates")
    assert heading == ("model: R, RMSE", "no flag", "five looks or more", *others)
    assert all(len(row) == len(heading) for row in (counts, *rows))
    heading, *rows = date_rows(board)
    assert sum(int(row[1]) for row in rows) == board.labelled
    assert sum(int(row[2]) for row in rows) == board.first.rows
    for regime in board.regimes.values():
        assert set(regime.ours_minus) == {"mean", "wcm", "lstm"}


def test_the_coverage_of_the_interval_is_given_by_date_and_by_group(run):
    _, _, _, board = run
    interval = {
        "cross_coverage": 0.928,
        "coverage_by_date": {"2022-06-16": 1.0, "2022-07-22": 0.64},
        "coverage_by_group": {"7": 0.97, "9": 0.75},
    }
    [said] = coverage_rows(dataclasses.replace(board, intervals={board.ours: interval}))
    assert "92.8% of the labels; by date from 64% to 100%, by site from 75% (site 9) to 97%" in said
    assert coverage_rows(dataclasses.replace(board, intervals={})) == []


def test_many_dates_are_summed_up_by_month(run, monkeypatch):
    _, _, _, board = run
    monkeypatch.setattr(tables, "MOST_PERIODS", 1000)
    _, *by_date = date_rows(board)
    assert not any(text.startswith("Not scored: ") for text in left_out_rows(board))
    monkeypatch.setattr(tables, "MOST_PERIODS", 20)
    heading, *by_month = date_rows(board)
    assert heading[0] == "month" and len(by_month) <= 20 < len(by_date)
    for column in (1, 2, 3):
        assert sum(int(row[column]) for row in by_month) == sum(int(row[column]) for row in by_date)
    here = [one for name, one in board.first.models["kg-lstm"].by_date.items() if "2021-07" in name]
    (month,) = [row for row in by_month if row[0] == "2021-07"]
    n = np.array([one.n for one in here])
    bias, rmse = (np.array([getattr(one, name) for one in here]) for name in ("bias", "rmse"))
    assert float(month[4]) == pytest.approx(np.average(bias, weights=n), abs=6e-4)
    assert float(month[5]) == pytest.approx(np.sqrt(np.average(rmse**2, weights=n)), abs=6e-4)
    said = left_out_rows(board)
    assert not any(text.startswith("Not scored on") for text in said)
    unscored = sum(count for one in board.dates for count in one.why.values())
    counted = [int(text.split()[2]) for text in said if text.startswith("Not scored: ")]
    assert sum(counted) == unscored == board.labelled - board.first.rows


def test_a_model_no_better_than_the_mean_has_no_skill(run):
    _, _, _, board = run
    first = board.first
    gap = dataclasses.replace(first.ours_minus["mean"], difference=-0.05, interval=(-0.06, -0.04))
    model = first.models["wcm"]
    assert model.interval_95.r[0] > 0
    assert no_skill(gap, model, first.title, "kg-lstm") == ""
    ends = dataclasses.replace(model.interval_95, r=(-0.3, 0.4))
    unrelated = dataclasses.replace(model, interval_95=ends)
    assert "R " in no_skill(gap, unrelated, first.title, "kg-lstm")
    gap = dataclasses.replace(gap, interval=(-0.06, 0.01))
    said = no_skill(gap, model, first.title, "kg-lstm")
    assert said.startswith("There is no skill here: on new sites, new dates KG-LSTM is not better")
    assert said in board.no_skill.values() or board.no_skill.keys() <= {"lstm", "kg-lstm", "wcm"}


def test_few_dates_have_no_score_on_new_dates_and_say_so(tiny_model, tmp_path):
    changes = {"crossval": {"models": ["mean"], "date_blocks": 1}}
    config = read_config(tiny_model / "tiny.toml", changes=changes)
    result = crossvalidate(config, tmp_path)
    assert tuple(result.regimes) == ("new-groups",)
    assert "no score on new dates: the configuration asks for none" in plan(config, tmp_path)
    source = read_source(config)
    two = np.unique(np.floor(source.table.day))[:2]
    label = np.where(np.isin(np.floor(source.table.day), two), source.label, np.nan)
    asked = dataclasses.replace(
        config, crossval=dataclasses.replace(config.crossval, date_blocks=0)
    )
    few = dataclasses.replace(source, label=label.astype(np.float32))
    try:
        design = crossval.design_of(few, asked)
    except DataError:
        pytest.skip("the two first days hold labels of one group only")
    assert design.without_new_dates == "2 dates with labels are too few"


def test_finished_parts_are_kept_and_others_done(run, tmp_path, monkeypatch):
    config, folder, result, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    (tmp_path / "parts" / "kg-lstm-fold2-dates1.npz").unlink()
    assert "31 of 32 parts kept" in plan(config, tmp_path)
    done = []
    run_part = crossval.run_part

    def counted(experiment, model, split, progress=None):
        done.append((model, split.name))
        return run_part(experiment, model, split, progress)

    monkeypatch.setattr(crossval, "run_part", counted)
    again = crossvalidate(config, tmp_path)
    assert done == [("kg-lstm", "fold2-dates1")]
    for regime, predictions in result.regimes.items():
        for name, predicted in predictions.items():
            assert np.array_equal(predicted, again.regimes[regime][name], equal_nan=True)


def test_parts_of_other_code_do_not_count(run, monkeypatch):
    """The version does not move with the code; a digest of the sources does."""
    result = run[2]
    args = (result.experiment, "wcm", Split(0))
    before = part_key(*args)
    asked = []
    monkeypatch.setattr(parts, "code_digest", lambda *rooms: asked.append(rooms) or "another")
    assert part_key(*args) != before
    assert {"kgsm_train.learning", "kgsm_infer.kernels", "kgsm_infer.model"} <= set(asked[0])
    monkeypatch.undo()
    assert part_key(*args) == before


def test_the_index_parts_depend_on_the_shipped_model_and_no_others_do(run, tmp_path, monkeypatch):
    result = run[2]
    keys = {}
    for shipped in (parts.SHIPPED["wetness"].read_bytes(), b"another"):
        (tmp_path / "wetness.onnx").write_bytes(shipped)
        monkeypatch.setattr(parts, "SHIPPED", {"wetness": tmp_path / "wetness.onnx"})
        for name in ("wetness", "wcm"):
            key = part_key(result.experiment, name, Split(0))
            keys.setdefault(name, set()).add(key)
    monkeypatch.undo()
    assert (len(keys["wetness"]), len(keys["wcm"])) == (2, 1)


def test_a_stop_half_way_keeps_what_was_done(run, tmp_path, monkeypatch):
    config, _, result, _ = run
    run_part = crossval.run_part

    def stopped(experiment, model, split, progress=None):
        if (model, split) == ("kg-lstm", Split(1)):
            raise KeyboardInterrupt
        return run_part(experiment, model, split, progress)

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
    assert {name for name, *_ in seen} >= {"kg-lstm, fold1", "lstm, fold2-dates1"}


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_leaves_no_process_behind(tiny_model, tmp_path, number):
    """Four processes with 979 MB stayed behind; SIGTERM ends with 143 and one line."""
    text = (tiny_model / "tiny.toml").read_text().replace("epochs = 3", "epochs = 100000")
    text = text.replace("batch = 64", "batch = 64\npatience = 100000")
    (tmp_path / "long.toml").write_text(text.replace('"twin.csv"', f'"{tiny_model / "twin.csv"}"'))
    command = [sys.executable, "-m", "kgsm_train.cli", "crossval", "long.toml", "-o", "out"]
    mark = {**os.environ, "KGSM_TEST_MARK": str(tmp_path)}
    run = subprocess.Popen(
        [*command, "--jobs", "2"],
        cwd=tmp_path,
        env=mark,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: len(_marked(tmp_path)) >= 3)
        run.send_signal(number)
        _, stderr = run.communicate(timeout=PATIENCE_S)
        wait_for(lambda: not _marked(tmp_path))
    finally:
        for pid in _marked(tmp_path):
            os.kill(pid, signal.SIGKILL)
    if number == signal.SIGTERM:
        assert run.returncode == 143
        told = [line for line in stderr.splitlines() if line.startswith("kgsm-train")]
        assert len(told) == 1 and "stopped" in told[0] and "Traceback" not in stderr


def test_a_stop_while_a_worker_starts_ends_it_too(monkeypatch):
    """The parent stopped between the start of a worker and its first task."""
    started = []
    start = SpawnProcess.start

    def stop_within(worker):
        os.kill(os.getpid(), signal.SIGTERM)
        start(worker)
        started.append(worker)

    def stop(number, frame):
        raise KeyboardInterrupt

    monkeypatch.setattr(SpawnProcess, "start", stop_within)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            list(share(_twice, [1, 2], 2, None))
        assert signal.getsignal(signal.SIGTERM) is stop
    finally:
        signal.signal(signal.SIGTERM, before)
    assert [worker.is_alive() for worker in started] == [False]


def _twice(number, progress):
    return 2 * number


def _marked(folder) -> list[int]:
    """Processes that carry this test's mark in their environment."""
    found = []
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            content = environ.read_bytes()
        except OSError:
            continue
        if f"KGSM_TEST_MARK={folder}".encode() in content:
            found.append(int(environ.parent.name))
    return found


def test_parts_of_another_experiment_do_not_count(run, tmp_path):
    config, folder, _, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    text = (config.folder / "tiny.toml").read_text().replace("epochs = 3", "epochs = 2")
    other_path = tmp_path / "other.toml"
    other_path.write_text(text.replace('"twin.csv"', f'"{config.table}"'))
    assert "0 of 32 parts kept" in plan(read_config(other_path), tmp_path)


def test_a_broken_part_is_named(run, tmp_path):
    config, folder, _, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    path = tmp_path / "parts" / "wcm-fold1.npz"
    whole = path.read_bytes()
    for cut in (b"cut", b"", whole[: len(whole) // 2], whole[:-40], whole[:200] + whole[260:]):
        path.write_bytes(cut)
        with pytest.raises(DataError, match=r"wcm-fold1\.npz: .*not a finished part") as caught:
            crossvalidate(config, tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "header", ["{'descr': (", "{'descr': '''", "  x\n y", "{'descr': '<M8[z]'}", "[" * 900]
)
def test_a_part_with_a_damaged_header_is_named(tmp_path, header):
    """The header of an array is Python text, whose errors share no base."""
    path = tmp_path / "mean-fold1.npz"
    start = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode()
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("key", "index", "sm", "learnt", "seconds"):
            archive.writestr(f"{name}.npy", start + bytes(64))
    with pytest.raises(DataError, match=r"mean-fold1\.npz: not a finished part"):
        read_part(tmp_path, "mean", Split(0), "key", np.arange(3))


def test_a_part_of_other_content_is_named(run, tmp_path):
    config, folder, _, _ = run
    shutil.copytree(folder / "parts", tmp_path / "parts")
    path = tmp_path / "parts" / "wcm-fold1.npz"
    with np.load(path) as file:
        good = {name: file[name] for name in file.files}
    for change, said in (
        (
            {"learnt": '{"parameters": {"A": "x"}}'},
            r"learnt: parameters\.A is x, expected",
        ),
        ({"learnt": "[" * 100_000}, "learnt: nested too deeply"),
        ({"sm": good["sm"][:-1]}, "sm: not a finished part"),
        ({"index": good["index"] + 1}, "sm: not a finished part"),
        ({"seconds": "soon"}, "seconds: not a finished part"),
    ):
        np.savez(path, **{**good, **change})
        with pytest.raises(DataError, match=said):
            crossvalidate(config, tmp_path)


@pytest.mark.realdata
def test_anand_folds_hold_whole_fields(shared_data):
    config = read_config(Path(__file__).parents[2] / "examples/anand.toml")
    source = read_source(config)
    assert np.isfinite(source.label).sum() == 1104 - 25  # the copied labels are left out
    folds = folds_of(source, config)
    assert folds.names == ("1", "2", "3", "4")
    assert [len(set(source.group[folds.number == k])) for k in range(4)] == [5, 5, 5, 5]


def test_scores_on_nothing_are_not_numbers():
    nothing = scores(np.asarray([]), np.asarray([]))
    assert nothing.n == 0 and np.isnan(nothing.rmse)
