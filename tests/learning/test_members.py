"""Training of all members together, against torch's own layers, optimiser and clipping."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import numpy as np
import pytest
import torch

from kgsm_infer.kernels.window import Layout
from kgsm_train.config import Config, Data, HeadOptions, Inputs, Network, Training, WcmOptions
from kgsm_train.learning.adamw import AdamW, WeightGroup
from kgsm_train.learning.members import LstmMembers, last_state
from kgsm_train.learning.network import (
    KnowledgeGuidedLSTM,
    LabelScale,
    TrainingWindows,
    WcmIsolation,
)
from kgsm_train.learning.samples import batch_of, read_source, samples_of
from kgsm_train.learning.scaling import scaling
from kgsm_train.learning.training import (
    TrainingSet,
    Validation,
    chosen_shrink,
    clipped,
    estimate,
    train,
    validation_rmse,
)
from kgsm_train.sources.simulate import Twin, write_twin

CHANNELS, HIDDEN, COUNT, STEPS, N = 3, 4, 2, 3, 5


def layers_of(members: LstmMembers, member: int) -> tuple[torch.nn.LSTM, torch.nn.Linear]:
    """Load the weights of one member into torch's own layers."""
    weights = members.of(member)
    lstm = torch.nn.LSTM(CHANNELS, HIDDEN).double()
    head = torch.nn.Linear(HIDDEN, 1).double()
    for layer in (lstm, head):
        layer.load_state_dict({name: weights[name] for name in layer.state_dict()})
    return lstm, head


@pytest.fixture
def members():
    torch.manual_seed(0)
    return LstmMembers(CHANNELS, HIDDEN, COUNT).double()


def test_members_start_as_separate_layers_do():
    torch.manual_seed(7)
    together = LstmMembers(CHANNELS, HIDDEN, COUNT)
    torch.manual_seed(7)
    lstms = [torch.nn.LSTM(CHANNELS, HIDDEN) for _ in range(COUNT)]
    heads = [torch.nn.Linear(HIDDEN, 1) for _ in range(COUNT)]
    for m, layers in enumerate(zip(lstms, heads, strict=True)):
        expected = dict(layers[0].named_parameters()) | dict(layers[1].named_parameters())
        assert together.of(m).keys() == expected.keys()
        for name, weight in together.of(m).items():
            assert torch.equal(weight, expected[name]), name


def test_each_member_is_torchs_own_lstm_with_its_gradients(members):
    torch.manual_seed(1)
    windows = torch.randn(STEPS, COUNT, CHANNELS, N, dtype=torch.float64, requires_grad=True)
    found = members(windows)
    names = [name for name, _ in members.named_parameters()]
    (of_windows, *gradients) = torch.autograd.grad(
        found.square().sum(), [windows, *members.parameters()]
    )
    of_name = dict(zip(names, gradients, strict=True))
    for m in range(COUNT):
        lstm, head = layers_of(members, m)
        alone = windows.detach()[:, m].transpose(1, 2).clone().requires_grad_()
        out = head(lstm(alone)[0][-1])[:, 0]
        torch.testing.assert_close(found[m], out)
        out.square().sum().backward()
        torch.testing.assert_close(of_windows[:, m].transpose(1, 2), alone.grad)
        for layer in (lstm, head):
            for name, weight in layer.named_parameters():
                torch.testing.assert_close(of_name[name][m], weight.grad, msg=name)


def test_derivatives_are_those_of_finite_differences():
    torch.manual_seed(2)
    shapes = [(2, 2, 3, 3), (2, 8, 3), (2, 8, 2), (2, 8)]
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(last_state, inputs)


def test_adamw_makes_the_steps_of_torchs():
    torch.manual_seed(3)
    start = [torch.randn(3, 4), torch.randn(5), torch.randn(())]
    ours = [torch.nn.Parameter(weight.clone()) for weight in start]
    theirs = [torch.nn.Parameter(weight.clone()) for weight in start]
    optimiser = AdamW([WeightGroup(ours[:2], 3e-3, 0.1), WeightGroup(ours[2:], 1e-2)])
    reference = torch.optim.AdamW(
        [
            {"params": theirs[:2], "lr": 3e-3, "weight_decay": 0.1},
            {"params": theirs[2:], "lr": 1e-2, "weight_decay": 0.0},
        ]
    )
    for _ in range(50):
        for weights in (ours, theirs):
            loss = sum(((weight - 0.3) ** 4).sum() for weight in weights)
            if weights is ours:
                optimiser.step(optimiser.gradients(loss))
            else:
                reference.zero_grad()
                loss.backward()
                reference.step()
    for weight, expected, before in zip(ours, theirs, start, strict=True):
        torch.testing.assert_close(weight, expected, rtol=1e-6, atol=1e-7)
        assert not torch.equal(weight, before)


@pytest.mark.parametrize("size", [0.01, 10.0])
def test_clipping_is_torchs(size):
    gradient = size * torch.linspace(-1, 1, 11)
    weight = torch.nn.Parameter(torch.zeros(11))
    weight.grad = gradient.clone()
    torch.nn.utils.clip_grad_norm_([weight], 1.0)
    torch.testing.assert_close(clipped(gradient), weight.grad)


def test_dropout_is_drawn_member_after_member():
    layout = Layout(STEPS, CHANNELS - 3, 0, (0.0,) * 2, (1.0,) * 2)
    network = KnowledgeGuidedLSTM(
        None, layout, Network(hidden=HIDDEN, members=COUNT, dropout=0.4), LabelScale()
    )
    tile = torch.randn(STEPS, N, layout.channels)
    torch.manual_seed(4)
    found = network.members_on(tile)
    lstms = [torch.nn.LSTM(layout.channels, HIDDEN) for _ in range(COUNT)]
    torch.manual_seed(4)
    for m, lstm in enumerate(lstms):
        draws = [
            torch.rand(shape, dtype=torch.float64)
            for shape in ((N, STEPS, layout.channels), (N, HIDDEN))
        ]
        of_input, of_state = ((draw < 0.6).float() / 0.6 for draw in draws)
        weights = network.members.of(m)
        lstm.load_state_dict({name: weights[name] for name in lstm.state_dict()})
        last = lstm(tile * of_input.transpose(0, 1))[0][-1] * of_state
        expected = last @ weights["weight"][0] + weights["bias"]
        torch.testing.assert_close(found[:, m], expected, rtol=1e-5, atol=1e-6)


@pytest.fixture(scope="module")
def twin(tmp_path_factory):
    folder = tmp_path_factory.mktemp("members")
    write_twin(folder / "twin.csv", Twin(sites=8, years=1, looks=400.0, seed=3))
    return Config(
        data=Data("twin.csv"),
        inputs=Inputs(steps=3),
        wcm=WcmOptions(a=0.03, angle_rule="column"),
        network=Network(hidden=4, members=3, dropout=0.2),
        training=Training(epochs=3, batch=64),
        folder=folder,
    )


def network_and_batch(config, kind):
    samples = samples_of(read_source(config), config, kind)
    rows = np.flatnonzero(samples.labelled)
    wcm = config.wcm.with_a(0.4) if kind == "kg-lstm" else None
    network = KnowledgeGuidedLSTM(
        WcmIsolation(wcm, learn_b="b" in config.wcm.learn) if wcm else None,
        scaling(samples, samples.observed.sigma0_db, rows),
        Network(hidden=4, members=3, dropout=0.2),
        LabelScale(0.2, 0.1),
    )
    return network, batch_of(samples, rows), torch.from_numpy(samples.sm[rows])


@pytest.mark.parametrize("kind", ["lstm", "kg-lstm"])
@pytest.mark.parametrize("learn", [("a",), ("a", "b")])
def test_windows_computed_once_are_those_of_a_batch(twin, kind, learn):
    config = dataclasses.replace(twin, wcm=dataclasses.replace(twin.wcm, learn=learn, e=0.5))
    network, batch, _ = network_and_batch(config, kind)
    windows = TrainingWindows.of(network, batch)
    with torch.no_grad():
        for weight in network.isolation.parameters() if network.isolation else ():
            weight += 0.1  # a step of the training
    index = torch.randperm(len(batch.sigma0_db))[:50]
    tile, valid = windows.take(index)
    expected_tile, expected_valid = network.tile(batch.take(index))
    assert torch.equal(valid, expected_valid)
    torch.testing.assert_close(tile, expected_tile, rtol=1e-5, atol=1e-5)
    if kind == "kg-lstm":
        assert not valid[:, -1].all() and valid.any(), "some signals are lost"


@pytest.mark.parametrize("kind", ["lstm", "kg-lstm"])
def test_validation_is_over_the_samples_that_a_member_holds_out(twin, kind):
    network, batch, sm = network_and_batch(twin, kind)
    held = torch.rand(len(sm), 3) < torch.tensor([0.1, 0.3, 0.0])
    found = validation_rmse(network, TrainingWindows.of(network, batch), sm, Validation.of(held))
    with torch.no_grad():
        predicted, numbered = network.eval()(batch)
    filled = np.where(numbered.numpy()[:, None], predicted.numpy(), network.scale.mean)
    error = (filled.astype(np.float64) - sm.numpy()[:, None])[held.numpy()]
    assert found == pytest.approx(np.sqrt(np.mean(error**2)), rel=1e-5)


def test_the_network_runs_once_for_all_weights_of_a_shrink(twin, monkeypatch):
    network, batch, sm = network_and_batch(twin, "lstm")
    network.readout = _constant_readout(network.layout)
    runs, plain = [], KnowledgeGuidedLSTM.members_on

    def counted(self, tile):
        runs.append(tile.shape)
        return plain(self, tile)

    monkeypatch.setattr(KnowledgeGuidedLSTM, "members_on", counted)
    every = torch.ones(len(sm), 3, dtype=torch.bool)
    data = TrainingSet(batch, sm, sm, learnt_from=~every, held=every, unseen=every)
    options = HeadOptions(shrink=tuple(k / 20 for k in range(21)))
    assert chosen_shrink(network, data, options) in options.shrink
    assert len(runs) == 1


def _constant_readout(layout):
    from kgsm_infer.kernels.head import Readout

    return Readout(np.zeros((layout.steps, layout.channels), np.float32), np.float32(0.2), None)


def test_a_training_runs_each_batch_once_and_validates_on_what_is_held_out(twin, monkeypatch):
    sizes, plain = [], KnowledgeGuidedLSTM.members_on

    def counted(self, tile):
        sizes.append((self.training, tile.shape[-2]))
        return plain(self, tile)

    samples = samples_of(read_source(twin), twin, "lstm")
    monkeypatch.setattr(KnowledgeGuidedLSTM, "members_on", counted)
    trained = train(samples, twin, "lstm", np.arange(len(samples.sm)))
    labelled = int(samples.labelled.sum())
    assert sum(n for training, n in sizes if training) == len(trained.log) * labelled
    validated = [n for training, n in sizes if not training]
    assert len(validated) == len(trained.log)
    assert max(validated) < 0.5 * labelled
    assert np.isfinite(estimate(trained.network, samples, np.flatnonzero(samples.labelled))).all()


def test_a_training_without_a_soil_signal_learns_no_line(twin):
    """Every signal is lost; A and the weights stay finite."""
    changed = {"sigma0_weight": 0.1, "monotone_weight": 0.1}
    config = dataclasses.replace(twin, training=dataclasses.replace(twin.training, **changed))
    samples = samples_of(read_source(config), config, "kg-lstm")
    faint = np.full_like(samples.observed.sigma0_db, -40.0)
    dense = np.full_like(samples.observed.vegetation, 0.9)  # NDVI
    observed = dataclasses.replace(samples.observed, sigma0_db=faint, vegetation=dense)
    samples = dataclasses.replace(samples, observed=observed)
    trained = train(samples, config, "kg-lstm", np.arange(len(samples.sm)))
    assert trained.lost_share == 1.0
    assert np.isfinite(list(trained.network.isolation.parameters_learnt.values())).all()
    assert all(torch.isfinite(weight).all() for weight in trained.network.parameters())


def test_training_leaves_torchs_compiler_alone(twin):
    code = (
        "import sys; from kgsm_train.config import read_config;"
        "from kgsm_train.learning.samples import read_source, samples_of;"
        "from kgsm_train.learning.training import train; import numpy as np;"
        "config = read_config(sys.argv[1], sys.argv[2]);"
        "samples = samples_of(read_source(config), config, 'kg-lstm');"
        "train(samples, config, 'kg-lstm', np.arange(len(samples.sm)));"
        "print(*[name for name in ('torch._dynamo', 'sympy') if name in sys.modules])"
    )
    path = twin.folder / "c.toml"
    path.write_text(
        '[data]\ntable = "twin.csv"\n[wcm]\nangle_rule = "column"\n[inputs]\nsteps = 2\n'
        "[network]\nhidden = 2\nmembers = 1\n[training]\nepochs = 1\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(twin.folder / "twin.csv")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == ""
