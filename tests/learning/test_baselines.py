"""Baselines against their definitions; a model without radar that never sees radar."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.files import write_whole
from kgsm_train.config import read_config
from kgsm_train.evaluation.crossval import crossvalidate, few_groups, run_part
from kgsm_train.evaluation.splits import Design, Split, SplitExperiment, check_leaks, folds_of
from kgsm_train.learning.baselines import BASELINES, RIDGE_PENALTIES, flat_windows
from kgsm_train.learning.calibrate import LabelledAcquisitions, calibrate
from kgsm_train.learning.samples import read_source, samples_of
from kgsm_train.models import MODELS


@pytest.fixture(scope="module")
def experiment(tiny_model):
    config = read_config(
        tiny_model / "tiny.toml", changes={"crossval": {"models": list(MODELS), "folds": 2}}
    )
    source = read_source(config)
    fold = folds_of(source, config).number
    return config, source, np.flatnonzero(fold != 0), np.flatnonzero(fold == 0)


def one_fold(fold):
    """A design that scores known dates only."""
    return Design(fold, ("1", "2"), np.full(len(fold), -1), (), (Split(0), Split(1)))


def predicted(experiment, model):
    config, source, train_rows, test_rows = experiment
    samples = samples_of(source, config, model)
    return samples, *BASELINES[model](config, samples, train_rows, test_rows)


def test_the_means_are_means_of_training_labels(experiment):
    _, source, train_rows, test_rows = experiment
    label = source.label.astype(np.float64)
    _, sm, learnt = predicted(experiment, "mean")
    assert set(sm) == {np.float32(learnt.parameters["mean"])}
    assert learnt.parameters["mean"] == pytest.approx(np.nanmean(label[train_rows]), rel=1e-6)
    _, sm, _ = predicted(experiment, "same-date-mean")
    date = source.table.date.astype("datetime64[D]")
    for i, row in enumerate(test_rows):
        same = label[train_rows[date[train_rows] == date[row]]]
        same = same[np.isfinite(same)]
        assert np.isnan(sm[i]) if not len(same) else sm[i] == pytest.approx(same.mean(), rel=1e-5)


@pytest.mark.parametrize("model", ["ridge", "ridge-radar", "ridge-no-radar"])
def test_ridge_is_its_closed_form(experiment, model):
    _, _, train_rows, test_rows = experiment
    samples, sm, learnt = predicted(experiment, model)
    rows = train_rows[samples.labelled[train_rows]]
    inputs = flat_windows(samples, rows)
    if model == "ridge-radar":

        def inputs(index):
            return samples.observed.sigma0_db[index, None]

    assert learnt.facts["penalty"] in [pytest.approx(penalty) for penalty in RIDGE_PENALTIES]
    x, y = inputs(rows).astype(np.float64), samples.sm[rows].astype(np.float64)
    centred = x - x.mean(axis=0)
    normal = centred.T @ centred + learnt.facts["penalty"] * len(rows) * np.eye(x.shape[1])
    slope = np.linalg.solve(normal, centred.T @ (y - y.mean()))
    expected = y.mean() + (inputs(test_rows) - x.mean(axis=0)) @ slope
    known = np.isfinite(sm)
    assert known.sum() > 50
    np.testing.assert_allclose(sm[known], np.clip(expected[known], 0, 1), atol=2e-4)


def test_no_number_where_an_input_is_missing(experiment):
    config, source, train_rows, test_rows = experiment
    for model in ("ridge", "forest", "extra-trees", "wcm"):
        samples = samples_of(source, config, model)
        holes = samples.observed.sigma0_db.copy()
        holes[test_rows[:5]] = np.nan
        observed = dataclasses.replace(samples.observed, sigma0_db=holes)
        complete = samples.complete & np.isfinite(holes)
        damaged = dataclasses.replace(samples, observed=observed, complete=complete)
        sm, _ = BASELINES[model](config, damaged, train_rows, test_rows)
        assert np.isnan(sm[:5]).all() and np.isfinite(sm[5:]).any(), model


@pytest.mark.parametrize("model", ["ridge-no-radar", "forest-no-radar", "lstm-no-radar"])
def test_a_model_without_radar_needs_none(experiment, tiny_model, tmp_path, model):
    """The same numbers come from a table that has no backscatter at all."""
    config, source, *_ = experiment
    with open(tiny_model / "twin.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    with write_whole(tmp_path / "dark.csv") as out:
        names = [name for name in rows[0] if not name.startswith(("vh_", "vv_"))]
        writer = csv.DictWriter(out, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    only = dataclasses.replace(config.crossval, models=(model,))
    dark = dataclasses.replace(config, folder=tmp_path, crossval=only)
    dark = dataclasses.replace(dark, data=dataclasses.replace(config.data, table="dark.csv"))
    fold = folds_of(source, config).number
    design = one_fold(fold)
    with_radar = run_part(SplitExperiment(config, source, design), model, Split(0))
    without = run_part(SplitExperiment(dark, read_source(dark), design), model, Split(0))
    assert np.isfinite(without.sm).sum() > 50
    assert np.array_equal(with_radar.sm, without.sm, equal_nan=True)
    if model == "lstm-no-radar":
        with pytest.raises(DataError, match="no column 'vh_db'"):
            read_source(dataclasses.replace(dark, crossval=config.crossval))


def test_the_wcm_can_be_calibrated_class_by_class(tiny_model):
    """Two classes of sites: each gets the calibration it would have alone."""
    config = read_config(tiny_model / "tiny.toml", changes={"wcm": {"by": "site"}})
    source = read_source(config)
    samples = samples_of(source, config, "kg-lstm")
    sites = np.unique(source.table.site)
    halves = np.where(np.isin(source.table.site, sites[:3]), "first", "second")
    samples = dataclasses.replace(samples, wcm_class=halves)
    rows = np.arange(len(samples.sm))
    _, learnt = BASELINES["wcm"](config, samples, rows, rows)
    for name in ("first", "second"):
        here = rows[samples.labelled & (halves == name)]
        observed = samples.observed.take(here)
        alone = calibrate(
            config.wcm.with_a(config.wcm.a),
            LabelledAcquisitions(
                observed.sigma0_db, observed.vegetation, samples.sm[here], observed.angle_deg
            ),
            residual=config.wcm.residual,
            seed=config.training.seed,
        )
        assert learnt.by_class[name]["A"] == pytest.approx(alone.wcm.a)
        assert learnt.by_class[name]["D"] == pytest.approx(alone.d_db)


def test_leave_year_out_and_one_group_at_a_time(tiny_model):
    config = read_config(tiny_model / "tiny.toml", changes={"crossval": {"folds": 0}})
    source = read_source(config)
    folds = folds_of(source, config)
    assert list(folds.names) == sorted(set(source.table.site))
    assert not check_leaks(source, config, folds)
    for k, name in enumerate(folds.names):
        assert set(source.table.site[folds.number == k]) == {name}
    config = read_config(tiny_model / "tiny.toml", changes={"data": {"group": "year"}})
    source = read_source(config)
    year = source.table.date.astype("datetime64[Y]").astype(str)
    assert np.array_equal(source.group, year)


def test_a_copied_series_is_refused_and_let_pass_only_by_name(tiny_model, tmp_path):
    with open(tiny_model / "twin.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    sites = sorted({row["site"] for row in rows})
    copied = [{**row, "site": "copy"} for row in rows if row["site"] == sites[0]]
    folds = {site: str(1 + i % 2) for i, site in enumerate(sites)} | {"copy": "2"}
    with write_whole(tmp_path / "twin.csv") as out:
        writer = csv.DictWriter(out, [*rows[0], "fold"])
        writer.writeheader()
        writer.writerows({**row, "fold": folds[row["site"]]} for row in rows + copied)
    (tmp_path / "tiny.toml").write_bytes((tiny_model / "tiny.toml").read_bytes())
    changes = {"data": {"fold": "fold"}, "crossval": {"models": ["mean"]}}
    config = read_config(tmp_path / "tiny.toml", changes=changes)
    with pytest.raises(
        DataError, match=r"carry the same soil moisture.*identical-series"
    ) as caught:
        crossvalidate(config, tmp_path)
    assert "copy (fold 2)" in str(caught.value) and f"{sites[0]} (fold 1)" in str(caught.value)
    changes["crossval"]["allow"] = ["identical-series"]
    result = crossvalidate(read_config(tmp_path / "tiny.toml", changes=changes), tmp_path)
    assert [leak.kind for leak in result.design.leaks] == ["identical-series"]


def test_every_model_has_a_baseline_or_is_a_network():
    assert set(MODELS) == {*BASELINES, "oracle", "wetness"} | {
        name for name, model in MODELS.items() if model.network
    }


def test_few_groups_train_and_all_are_tested(experiment):
    config, source, train_rows, test_rows = experiment
    few = few_groups(source, train_rows, 2, seed=0)
    kept = set(source.group[few])
    assert len(kept) == 2 and kept < set(source.group[train_rows])
    assert set(few) == {row for row in train_rows if source.group[row] in kept}
    less = dataclasses.replace(config.crossval, train_groups=2)
    fold = np.where(np.isin(np.arange(len(source.label)), test_rows), 0, 1)
    of_few = SplitExperiment(dataclasses.replace(config, crossval=less), source, one_fold(fold))
    part = run_part(of_few, "mean", Split(0))
    assert part.learnt.parameters["mean"] == pytest.approx(np.nanmean(source.label[few]), rel=1e-6)
    assert np.array_equal(part.index, test_rows)
