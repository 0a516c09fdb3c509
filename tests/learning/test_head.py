"""Fitting the physics head, and a network beside it."""

from __future__ import annotations

import csv
import dataclasses

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from scipy.special import ndtr

from kgsm_infer.app.output import describe
from kgsm_infer.base.errors import UsageError
from kgsm_infer.model.model import load
from kgsm_infer.model.onnx_reader import read_model_file
from kgsm_infer.tables.table import read_table
from kgsm_train.config import HeadOptions, read_config
from kgsm_train.fit import fit_and_export
from kgsm_train.learning.baselines import BASELINES
from kgsm_train.learning.head import fit_change, fit_index
from kgsm_train.learning.network import KnowledgeGuidedLSTM, LabelScale
from kgsm_train.learning.samples import batch_of, read_source, samples_of
from kgsm_train.learning.scaling import scaling
from kgsm_train.learning.training import TrainingSet, chosen_shrink, held_out_days, train

CONFIG = """
[data]
table = "table.csv"
group = "field"
[inputs]
steps = 3
features = ["ndvi"]
[head]
kind = "change"
{head}
[network]
hidden = 4
members = 4
dropout = 0.1
[training]
epochs = 4
[crossval]
folds = 2
models = ["change", "change-lstm"]
"""


@pytest.fixture
def experiment(tmp_path):
    """A table in which SM is what change detection says, of 8 fields of 2 points on 10 dates."""

    def make(head="", sign=1.0, noise=0.0):
        rng = np.random.default_rng(0)
        weather = rng.normal(0, 2.0, 10)
        with open(tmp_path / "table.csv", "w", newline="") as file:
            out = csv.writer(file)
            out.writerow(["site", "field", "date", "vh_db", "ndvi", "sm"])
            for field in range(8):
                for point in range(2):
                    usual = -16 + rng.normal(0, 1)
                    for k in range(10):
                        date = np.datetime64("2023-01-01") + 12 * k
                        vh_db = usual + weather[k] + rng.normal(0, 0.7)
                        ndvi = 0.4 + 0.1 * rng.random()
                        sm = 0.25 + sign * 0.03 * (vh_db + 16) + noise * rng.normal()
                        out.writerow([f"{field}{point}", field, date, vh_db, ndvi, sm])
        (tmp_path / "experiment.toml").write_text(CONFIG.format(head=head))
        config = read_config(tmp_path / "experiment.toml")
        return config, read_source(config)

    return make


def test_change_detection_finds_what_made_the_labels(experiment):
    config, source = experiment()
    samples = samples_of(source, config, "change")
    rows = np.flatnonzero(samples.labelled)
    sm, learnt = BASELINES["change"](config, samples, rows[::2], rows[1::2])
    assert np.corrcoef(sm, samples.sm[rows[1::2]])[0, 1] > 0.85
    both = learnt.parameters["vh_anomaly"] + learnt.parameters["vh_anomaly_scene"]
    assert both > 0.03
    assert set(learnt.parameters) == {
        "intercept",
        "vh_anomaly",
        "vh_anomaly_scene",
        "ndvi_over_scene",
        "vh_anomaly before",
    }


def test_sm_never_falls_with_backscatter_whatever_the_labels_say(experiment):
    config, source = experiment(sign=-1.0)
    samples = samples_of(source, config, "change")
    rows = np.flatnonzero(samples.labelled)
    fitted = fit_change(config, samples, scaling(samples, samples.observed.sigma0_db, rows), rows)
    slope = {(term.channel, term.lag): term.slope for term in fitted.head.terms}
    assert slope["vh_anomaly", 0] == pytest.approx(0, abs=1e-6)
    assert slope["vh_anomaly_scene", 0] == pytest.approx(0, abs=1e-6)
    assert {"vh_anomaly", "vh_anomaly_scene"} <= set(fitted.on_bound)


def test_what_is_typical_is_learnt_from_the_training_rows_alone(experiment):
    config, source = experiment()
    train_rows = np.arange(80)
    before = samples_of(source, config, "change", train_rows).history.typical["vh"]
    source.table.numbers["vh_db"][80:] -= 5.0
    after = samples_of(source, config, "change", train_rows).history.typical["vh"]
    assert before == after
    assert samples_of(source, config, "change").history.typical["vh"] != after


def test_labels_left_out_change_nothing(experiment):
    config, source = experiment()
    train_rows = np.arange(80)
    learnt = []
    for spoilt in (False, True):
        label = source.label.copy()
        label[80:] = 0.9 if spoilt else label[80:]
        samples = samples_of(
            dataclasses.replace(source, label=label), config, "change-lstm", train_rows
        )
        learnt.append(train(samples, config, "change-lstm", train_rows).learnt)
    assert learnt[0] == learnt[1]


def test_a_channel_only_the_head_reads_moves_the_head_alone(experiment):
    config, source = experiment()
    samples = samples_of(source, config, "change-lstm")
    assert samples.unseen == ("vh_anomaly", "vh_anomaly_scene", "ndvi_over_scene")
    trained = train(samples, config, "change-lstm", np.arange(len(samples.sm)))
    network, rows = trained.network, np.flatnonzero(samples.labelled)[:20]
    network.shrink = 1.0
    batch = batch_of(samples, rows)
    moved = dataclasses.replace(batch, dynamic=batch.dynamic.clone())
    at = samples.channels.index("ndvi_over_scene") - 1
    moved.dynamic[..., at] += 1.0
    with torch.no_grad():
        step = (network(moved)[0] - network(batch)[0]).numpy()
    slope = next(t.slope for t in trained.head.terms if t.channel == "ndvi_over_scene")
    assert step == pytest.approx(np.full_like(step, slope), abs=1e-5)


def test_a_network_that_knows_nothing_is_shrunk_away(experiment):
    config, source = experiment()
    samples = samples_of(source, config, "change-lstm")
    trained = train(samples, config, "change-lstm", np.arange(len(samples.sm)))
    network, rows = trained.network, np.flatnonzero(samples.labelled)
    batch, sm = batch_of(samples, rows), torch.from_numpy(samples.sm[rows])
    held = torch.ones((len(rows), 4), dtype=torch.bool)
    data = TrainingSet(batch, sm, sm, learnt_from=~held, held=held, unseen=held)
    network.scale = LabelScale(0.2, 10.0)  # what it says is far too large
    options = HeadOptions(shrink=(0.0, 0.5, 1.0))
    assert chosen_shrink(network, data, options) == 0.0
    network.scale = LabelScale(0.0, 0.0)  # it adds nothing: all weights are equally good
    assert chosen_shrink(network, data, options) == 0.0
    assert chosen_shrink(network, data, HeadOptions(shrink=(0.3,))) == 0.3


def test_members_leave_out_dates_and_groups_together():
    day = np.repeat(np.arange(10.0), 3)
    away = held_out_days(day, members=5)
    assert away.shape == (30, 5)
    assert (away.sum(axis=0) == 6).all()
    assert away.any(axis=1).all(), "every date is kept from somebody"
    assert held_out_days(day, members=1).sum() == 6, "one member still sees most dates"
    assert not held_out_days(day[:6], members=2).any(), "two dates are too few"


def test_within_dates_nothing_of_a_date_is_asked_of_the_network(experiment, monkeypatch):
    from kgsm_train.learning import training

    config, source = experiment("within_dates = true", noise=0.05)
    samples = samples_of(source, config, "change-lstm")
    asked = {}

    def instead(network, data, fit, progress):
        asked["target"], asked["network"], asked["batch"] = data.target, network, data.batch
        return training.Trained(network, (), 0, len(data.sm), 0.0)

    monkeypatch.setattr(training, "_optimise", instead)
    train(samples, config, "change-lstm", np.arange(len(samples.sm)))
    rows = np.flatnonzero(samples.labelled)
    network: KnowledgeGuidedLSTM = asked["network"]
    with torch.no_grad():
        tile, _ = network.tile(asked["batch"])
        left = (asked["target"] - training.on_tile(network.readout, tile)).numpy()
    day = samples.observed.day[rows]
    for one in np.unique(day):
        assert left[day == one].mean() == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("model", ["change-lstm", "change-kg-lstm", "wcm-lstm"])
def test_a_model_with_a_head_is_exported_proven_and_told_in_words(experiment, tmp_path, model):
    config, _ = experiment()
    done = fit_and_export(config, tmp_path / "run", kind=model)
    assert done.proof.worst_difference <= 1e-5
    file = read_model_file(done.complete)
    head = file.card.head
    assert head is not None and 0 <= head.shrink <= 1
    words = describe(file)
    assert ("the WCM" if model == "wcm-lstm" else "change detection") in words
    table = read_table(tmp_path / "table.csv", features=("ndvi",))
    native = load(done.core, engine="native").predict(table)
    complete = load(done.complete, engine="onnxruntime").predict(table)
    assert np.allclose(native.sm, complete.sm, atol=1e-5, equal_nan=True)
    assert np.isfinite(native.sm).sum() > 100
    if model == "change-lstm":
        assert file.card.history.span == "past"
        short = native.flags & 128 != 0  # context_missing: fewer than five looks of its own
        assert short.sum() == 16 * 4


def test_the_past_alone_is_asked_in_operation(experiment, tmp_path):
    """A number does not change when later acquisitions join the table."""
    config, _ = experiment()
    done = fit_and_export(config, tmp_path / "run", kind="change-lstm")
    model = load(done.core, engine="native")
    table = read_table(tmp_path / "table.csv", features=("ndvi",))
    with open(tmp_path / "table.csv") as file:
        lines = file.readlines()
    (tmp_path / "early.csv").write_text(
        lines[0] + "".join(line for line in lines[1:] if line.split(",")[2] < "2023-03-01")
    )
    early = model.predict(read_table(tmp_path / "early.csv", features=("ndvi",))).sm
    whole = model.predict(table).sm[table.date < np.datetime64("2023-03-01")]
    assert len(early) == 16 * 5
    assert early.tolist() == whole.tolist()


def test_a_gateway_needs_the_past_and_no_archive(experiment, tmp_path):
    from typer.testing import CliRunner

    from kgsm_infer.app.cli import app

    config, _ = experiment()
    done = fit_and_export(config, tmp_path / "run", kind="change-lstm")
    lines = (tmp_path / "table.csv").read_text().splitlines(keepends=True)
    dates = sorted({line.split(",")[2] for line in lines[1:]})
    given = {
        "archive": lines[1:],
        "before": [line for line in lines[1:] if line.split(",")[2] < dates[-1]],
        "window": [line for line in lines[1:] if line.split(",")[2] >= dates[-3]],
    }
    for name, some in given.items():
        (tmp_path / f"{name}.csv").write_text(lines[0] + "".join(some))

    def newest(table, *past):
        out = tmp_path / "out.csv"
        run = CliRunner().invoke(
            app, ["predict", str(done.core), str(tmp_path / table), "-o", str(out), *past]
        )
        assert run.exit_code == 0, run.output
        with open(out) as file:
            found = [row for row in csv.DictReader(file) if row["date"] == dates[-1]]
        return np.asarray([float(row["sm"]) for row in found]), [row["flags"] for row in found]

    past = ("--past", str(tmp_path / "past.csv"))
    newest("before.csv", *past)
    with_past, flagged = newest("window.csv", *past)
    expected, flags_of_archive = newest("archive.csv")
    without, _ = newest("window.csv")
    assert np.abs(with_past - expected).max() < 1e-6
    assert np.abs(without - expected).max() > 1e-3
    assert flagged == flags_of_archive
    assert (tmp_path / "past.csv").read_text().count("\n") == 1 + 16


@pytest.mark.parametrize(
    ("head", "reason"),
    [
        ('history = "future"', "head.history is future, expected one of past, all"),
        ("shrink = [0.0, 1.5]", r"head.shrink\[1\] is 1.5"),
        ("shrink = 'all'", "head.shrink.* expected a number from 0 to 1"),
        ("look_before = 1", "expected true or false"),
        ('others = ["sm"]', "a column other than the label sm"),
        ("typical_looks = -1", "head.typical_looks is -1"),
    ],
)
def test_a_head_section_that_cannot_be_is_refused(experiment, head, reason):
    with pytest.raises(UsageError, match=reason):
        experiment(head)


def test_the_index_head_finds_the_limits_that_made_the_labels(experiment):
    """With labels made of the index the fit returns its limits, and not the priors'."""
    config, source = experiment(head="others = []\nlook_before = false")
    samples = samples_of(source, config, "index")
    rows = np.flatnonzero(samples.labelled)
    layout = scaling(samples, samples.observed.sigma0_db, rows)
    dynamic = samples.observed.dynamic
    index = ndtr(0.5 * dynamic[:, 0] + 0.5 * dynamic[:, 1])
    noise = np.random.default_rng(0).normal(0, 0.01, len(index))
    made = dataclasses.replace(samples, sm=(0.10 + 0.35 * index + noise).astype(np.float32))
    found = fit_index(config, made, layout, rows)
    assert found.head.kind == "index" and found.on_bound == ()
    # GLS with a prior: half of the way from (.05, .35) at most
    assert found.head.limits == pytest.approx((0.10, 0.45), abs=0.02)
    assert [term.slope for term in found.head.terms] == [0.5, 0.5]


def test_the_index_head_is_the_mode_of_its_posterior(experiment):
    """An independent minimisation of the same density in float64 finds the same parameters."""
    config, source = experiment(head='others = ["ndvi"]\nlook_before = false', noise=0.05)
    samples = samples_of(source, config, "index")
    rows = np.flatnonzero(samples.labelled)[::2]
    layout = scaling(samples, samples.observed.sigma0_db, rows)
    found = fit_index(config, samples, layout, rows)
    z, scene, ndvi = samples.observed.dynamic[rows].astype(np.float64).T
    day, group = samples.observed.day[rows], samples.group[rows]
    same_day = np.floor(day)[:, None] == np.floor(day)
    covariance = 0.0025 * same_day + 0.0025 * (same_day & (group[:, None] == group))
    inverse = np.linalg.inv(covariance + 0.0049 * np.eye(len(rows)))

    def minus_log(p):
        left = samples.sm[rows] - p[0] - p[1] * ndtr(0.5 * z + 0.5 * scene + p[2] * ndvi)
        prior = ((p[0] - 0.05) / 0.03) ** 2 + ((p[1] - 0.30) / 0.05) ** 2 + p[2] ** 2
        return 0.5 * (left @ inverse @ left + prior)

    best = minimize(minus_log, [0.05, 0.3, 0.0], method="Nelder-Mead", tol=1e-10).x
    dry, wet = found.head.limits
    assert [dry, wet - dry, found.head.terms[2].slope] == pytest.approx(best, abs=1e-3)


def test_a_head_alone_is_exported_and_proven(experiment, tmp_path):
    config, source = experiment(head="network = false\nothers = []\nlook_before = false")
    config = dataclasses.replace(config, head=dataclasses.replace(config.head, kind="index"))
    assert config.shipped == "index" and config.steps("index") == 1
    done = fit_and_export(config, tmp_path / "out")
    model = load(done.complete)
    assert model.card.head.kind == "index" and model.card.steps == 1
    assert model.card.names("dynamic") == ("vh_anomaly", "vh_anomaly_fields")
    table = read_table(config.table)
    samples = samples_of(source, config, "index")
    rows = np.flatnonzero(samples.labelled)
    sm, _ = BASELINES["index"](config, samples, rows, rows)
    np.testing.assert_allclose(model.predict(table).sm[rows], sm, atol=1e-5)
