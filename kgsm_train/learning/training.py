"""Training one model on given groups, with early stopping on held-out groups.

Each of the M members holds other groups out for its early stopping, so that together
they see every group; they share A, of which there is one per model.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgsm_infer.base.errors import DataError
from kgsm_infer.context.definitions import WHOLE_ARCHIVE, HistoryRule
from kgsm_infer.kernels.head import Head
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.observations import isolate_observed

from ..config import Config, HeadOptions, Training
from ..models import MODELS
from .adamw import AdamW, WeightGroup
from .head import FittedHead, calibrated, fit_head, head_of_wcm, readout_for
from .learnt import Epoch, Learnt
from .network import (
    ForwardLine,
    KnowledgeGuidedLSTM,
    LabelScale,
    Loss,
    TrainingWindows,
    WcmIsolation,
    bounded_loss,
    falling,
    head_alone,
    on_tile,
)
from .samples import Batch, Samples, batch_of
from .scaling import scaling

#: Called with the epochs done, their limit, and the best validation RMSE so far.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Trained:
    """A trained network. lost_share: of the labelled training samples, by soil signal.

    physics: its head, None without one.  dynamic, statics: names of its features.
    history: how contexts among them were made.
    seen: lowest and highest value of each scaled channel's input in its windows.
    """

    network: KnowledgeGuidedLSTM
    log: tuple[Epoch, ...]
    best_epoch: int
    samples: int
    lost_share: float
    seen: tuple[tuple[float, float], ...] = ()
    physics: FittedHead | None = None
    dynamic: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()
    history: HistoryRule = WHOLE_ARCHIVE

    @property
    def head(self) -> Head | None:
        """Return the head, with the weight of the network; None without one."""
        if self.physics is None:
            return None
        return dataclasses.replace(self.physics.head, shrink=self.network.shrink)

    @property
    def wcm(self) -> Wcm | None:
        """The learnt WCM, None of a plain LSTM."""
        isolation = self.network.isolation
        return isolation.learnt if isolation is not None else None

    @property
    def learnt(self) -> Learnt:
        """Collect the learnt parameters of the equations and the training log."""
        isolation, physics = self.network.isolation, self.physics
        return Learnt(
            parameters={
                **(isolation.parameters_learnt if isolation is not None else {}),
                **(physics.parameters if physics is not None else {}),
            },
            on_bound=physics.on_bound if physics is not None else (),
            facts={
                **({"shrink": self.network.shrink} if physics is not None else {}),
                "samples": self.samples,
                "best_epoch": self.best_epoch,
                "lost_share": self.lost_share,
            },
            log=self.log,
        )


def train(
    samples: Samples,
    config: Config,
    kind: str,
    train_rows: NDArray[np.int64],
    progress: Progress | None = None,
) -> Trained:
    """Train a network (``lstm``, ``kg-lstm`` ...) on the labelled rows among ``train_rows``.

    The same configuration, data and seed give the same network on one machine.
    """
    rows = train_rows[samples.labelled[train_rows]]
    groups = np.unique(samples.group[rows])
    if len(groups) < 2 or len(rows) < 10:
        raise DataError(
            f"{len(rows)} labelled samples in {len(groups)} groups are too few to train on; "
            "at least 10 samples in 2 groups are needed"
        )
    wcm, physics = None, None
    if MODELS[kind].reads == "soil":
        wcm = config.wcm.with_a(config.wcm.a)
    if MODELS[kind].head == "wcm":  # the line is valid only with the A calibrated with it
        calibration = calibrated(config, samples, rows)
        wcm, physics = calibration.wcm, head_of_wcm(calibration)
    channel_db = samples.observed.sigma0_db
    if wcm is not None:
        channel_db = isolate_observed(wcm, samples.observed).soil_db
    layout = scaling(samples, channel_db, rows)
    if MODELS[kind].head in ("index", "change"):
        physics = fit_head(MODELS[kind].head, config, samples, layout, rows)
    with seeded(config.training.seed):
        network = KnowledgeGuidedLSTM(
            WcmIsolation(wcm, learn_b="b" in config.wcm.learn) if wcm is not None else None,
            layout,
            config.network,
            LabelScale.of(samples.sm[rows]),
            readout_for(physics.head, samples, layout) if physics is not None else None,
            samples.unseen_channels,
        )
        data = _training_set(network, samples, rows, config)
        if network.isolation is not None and MODELS[kind].head == "wcm":
            network.isolation.requires_grad_(False)
        trained = _optimise(network, data, config.training, progress)
    if physics is not None:
        network.shrink = chosen_shrink(network, data, config.head)
    return dataclasses.replace(
        trained,
        physics=physics,
        dynamic=config.dynamic(kind),
        statics=config.statics(kind),
        history=samples.history,
        seen=ranges_in_windows(samples, channel_db, rows),
    )


def train_head(
    samples: Samples, config: Config, kind: str, train_rows: NDArray[np.int64]
) -> Trained:
    """Fit a head without a network (``index``, ``change``), in the form of a trained network.

    Its network has one unit with weights of 0, so that every engine reads the file.
    """
    rows = train_rows[samples.labelled[train_rows]]
    channel_db = samples.observed.sigma0_db
    layout = scaling(samples, channel_db, rows)
    physics = fit_head(MODELS[kind].head, config, samples, layout, rows)
    network = head_alone(
        layout, readout_for(physics.head, samples, layout), samples.unseen_channels
    )
    return Trained(
        network,
        log=(),
        best_epoch=0,
        samples=len(rows),
        lost_share=0.0,
        seen=ranges_in_windows(samples, channel_db, rows),
        physics=physics,
        dynamic=config.dynamic(kind),
        statics=config.statics(kind),
        history=samples.history,
    )


@dataclass(frozen=True)
class TrainingSet:
    """R labelled windows, and what each of M members uses them for.

    sm: (R,) labels, m3 m-3.  target: (R,) labels as the members learn them
    (:func:`_target_beside_head`).
    learnt_from, held: (R, M) True where a member trains and where it validates on a sample. Where
    both are False the member does not use the sample.
    unseen: (R, M) True where a member trains on neither the sample's group nor, with a head, its
    date.
    """

    batch: Batch
    sm: Tensor
    target: Tensor
    learnt_from: Tensor
    held: Tensor
    unseen: Tensor


def _training_set(
    network: KnowledgeGuidedLSTM, samples: Samples, rows: NDArray[np.int64], config: Config
) -> TrainingSet:
    """Divide the labelled ``rows`` among the members; sets the scale of a network with a head."""
    count, fit, sm = config.network.members, config.training, samples.sm[rows]
    batch, group = batch_of(samples, rows), samples.group[rows]
    held_out = held_out_groups(np.unique(group), count, fit.validation_share, fit.seed)
    held = np.stack([np.isin(group, names) for names in held_out], axis=1)
    learnt_from, unseen, target = ~held, held, sm
    if network.readout is not None:
        day = np.floor(samples.observed.day[rows])
        away = held_out_days(day, count)
        # what of a member is added is judged on groups and dates it never saw
        held, learnt_from, unseen = held & ~away, learnt_from & ~away, held & away
        target = _target_beside_head(network, batch, sm, day if config.head.within_dates else None)
    return TrainingSet(
        batch=batch,
        sm=torch.from_numpy(sm),
        target=torch.from_numpy(target),
        learnt_from=torch.from_numpy(learnt_from),
        held=torch.from_numpy(held),
        unseen=torch.from_numpy(unseen),
    )


def _target_beside_head(
    network: KnowledgeGuidedLSTM,
    batch: Batch,
    sm: NDArray[np.float32],
    day: NDArray[np.floating] | None,
) -> NDArray[np.float32]:
    """Compute the labels (R,) that a network with a head learns; sets its scale.

    day: (R,) takes the mean over a date of what the head leaves out of the labels, so that no
    date can be learnt; None leaves them as they are.
    """
    with torch.no_grad():
        tile, valid = network.tile(batch)
        left = sm - on_tile(network.readout, tile).numpy() if network.readout else sm
    known, target = valid[:, -1].numpy(), sm
    if day is not None:
        _, date = np.unique(day, return_inverse=True)
        count = np.maximum(np.bincount(date, known), 1)
        of_date = (np.bincount(date, np.where(known, left, 0.0)) / count).astype(np.float32)
        target, left = sm - of_date[date], left - of_date[date]
    network.scale = LabelScale.of(left[known])
    return target.astype(np.float32)


def chosen_shrink(network: KnowledgeGuidedLSTM, data: TrainingSet, options: HeadOptions) -> float:
    """Choose the weight of the network: the smallest that is within the slack of the best.

    Weights are judged by the RMSE on groups and dates that a member has not seen. On such dates
    the network adds little, so the smallest is preferred. Without any unseen sample the smallest
    of ``options.shrink`` is returned.
    """
    if len(options.shrink) == 1 or not data.unseen.any():
        return min(options.shrink)
    network.eval()
    with torch.no_grad():
        found = network.separate(data.batch)
        counts = data.unseen & found.valid[:, None]
        if found.head is None or not counts.any():
            return min(options.shrink)
        rmse = {}
        for weight in options.shrink:
            predicted = found.head[:, None] + weight * found.members
            error = (predicted.clamp(0.0, 1.0) - data.sm[:, None])[counts]
            rmse[weight] = float(error.square().mean().sqrt())
    most = min(rmse.values()) * (1 + options.shrink_slack)
    return min(weight for weight, value in rmse.items() if value <= most)


@dataclass(frozen=True)
class BatchLoss:
    """Loss of a batch: Eq 10, its sum with the penalties, and the weight of the batch.

    total: scalar, what is minimised.  count: pairs of a sample and a member.
    """

    bounded: Loss
    total: Tensor
    count: float


@dataclass(frozen=True)
class Objective:
    """The loss of a training: Eq 10, and the penalties that the configuration gives a weight.

    line: learnt line of the misfit in backscatter (Eq 3); None where the misfit has no weight or
    no sample has a soil signal.
    """

    network: KnowledgeGuidedLSTM
    windows: TrainingWindows
    data: TrainingSet
    line: ForwardLine | None
    fit: Training

    @classmethod
    def of(cls, network: KnowledgeGuidedLSTM, data: TrainingSet, fit: Training) -> Objective:
        """Compute what stays the same in a training, and start the line."""
        line = _line(network, data.batch, data.target) if fit.sigma0_weight > 0 else None
        return cls(network, TrainingWindows.of(network, data.batch), data, line, fit)

    def weight_groups(self) -> list[WeightGroup]:
        """Return the weights that are learnt: first the members', then A (and B), C and D."""
        fit = self.fit
        weights = list(self.network.members.parameters())
        groups = [WeightGroup(weights, fit.learning_rate, fit.weight_decay)]
        for physics in (self.network.isolation, self.line):
            if physics is not None:
                learnt = [weight for weight in physics.parameters() if weight.requires_grad]
                groups += [WeightGroup(learnt, fit.learning_rate_a)] if learnt else []
        return groups

    def on(self, index: Tensor) -> BatchLoss:
        """Compute the loss of the samples in ``index``."""
        network, data, fit = self.network, self.data, self.fit
        rng = torch.get_rng_state()
        tile, valid = self.windows.take(index)
        predicted = network.on_tile(tile)
        weight = (data.learnt_from[index] & valid[:, -1:]).float()
        loss = bounded_loss(predicted, data.target[index], weight, fit.physics_weight)
        total, count = loss.total, float(weight.sum())
        share = weight / max(count, 1.0)
        if fit.monotone_weight > 0:
            falls = falling(network, data.batch.take(index), predicted, rng)
            total = total + fit.monotone_weight * (share * falls).sum()
        if self.line is not None:
            soil_db = network.channel(data.batch.take(index))[0][:, -1]
            misfit = (share * self.line.misfit(soil_db, predicted)).sum()
            total = total + fit.sigma0_weight * misfit
        return BatchLoss(loss, total, count)


def _optimise(
    network: KnowledgeGuidedLSTM, data: TrainingSet, fit: Training, progress: Progress | None
) -> Trained:
    """Train the members and the isolation; keep the state with the lowest validation RMSE."""
    objective = Objective.of(network, data, fit)
    optimiser, validation = AdamW(objective.weight_groups()), Validation.of(data.held)
    log: list[Epoch] = []
    best, best_epoch, best_state = math.inf, 0, network.state_dict()
    for epoch in range(1, fit.epochs + 1):
        squared, boundary, count = 0.0, 0.0, 0.0
        network.train()
        for index in torch.split(torch.randperm(len(data.target)), fit.batch):
            loss = objective.on(index)
            of_members, *others = optimiser.gradients(loss.total)
            optimiser.step([clipped(of_members), *others])
            if network.isolation is not None:
                network.isolation.keep_in_range()
            squared += loss.count * loss.bounded.mse.item()
            boundary += loss.count * loss.bounded.boundary.item()
            count += loss.count
        rmse = validation_rmse(network, objective.windows, data.target, validation)
        found = network.isolation.parameters_learnt if network.isolation is not None else {}
        count = max(count, 1.0)
        train_rmse, boundary = math.sqrt(squared / count), boundary / count
        log.append(Epoch(epoch, train_rmse, boundary, rmse, found.get("A"), found.get("B")))
        if rmse < best:
            best, best_epoch = rmse, epoch
            best_state = {name: value.clone() for name, value in network.state_dict().items()}
        if progress is not None:
            progress(epoch, fit.epochs, best)
        if epoch - best_epoch >= fit.patience:
            break
    network.load_state_dict(best_state)
    network.eval()
    with torch.no_grad():
        lost = 1.0 - network.channel(data.batch)[1][:, -1].float().mean().item()
    return Trained(network, tuple(log), best_epoch, len(data.target), lost)


def _line(network: KnowledgeGuidedLSTM, batch: Batch, sm: Tensor) -> ForwardLine | None:
    """Start the line of Eq 3; None without any signal of the soil, where it would be NaN."""
    channel_db, valid = network.channel(batch)
    seen = valid[:, -1]
    return ForwardLine(channel_db[seen, -1], sm[seen]) if seen.any() else None


def clipped(gradient: Tensor, most: float = 1.0) -> Tensor:
    """Scale a gradient (P,) so that its norm is at most ``most``."""
    factor: Tensor = most / (torch.linalg.vector_norm(gradient) + 1e-6)
    return gradient * factor.clamp(max=1.0)


@dataclass(frozen=True)
class Validation:
    """The samples that each member validates on.

    sample: (M, K) index of a sample.  counts: (M, K) False of a filler, where a member has fewer
    samples than another.
    """

    sample: Tensor
    counts: Tensor

    @classmethod
    def of(cls, held: Tensor) -> Validation:
        """Collect the samples of each member; held: (R, M)."""
        number = held.sum(dim=0)
        most = int(number.max())
        sample = torch.argsort(held.T, dim=1, descending=True, stable=True)[:, :most]
        return cls(sample, torch.arange(most) < number[:, None])


def validation_rmse(
    network: KnowledgeGuidedLSTM, windows: TrainingWindows, sm: Tensor, validation: Validation
) -> float:
    """Return RMSE of the members, each on the groups it holds out.

    A sample whose soil signal is lost counts with the error of the training mean:
    otherwise an A that loses the hard samples would look better than it is.
    """
    network.eval()
    sample = validation.sample
    with torch.no_grad():
        tile, valid = windows.take()
        predicted = network.members_on(tile[:, sample]).T
        if network.readout is not None:
            head = on_tile(network.readout, tile)
            predicted = head[sample] + network.shrink * predicted
        predicted = torch.where(valid[:, -1][sample], predicted, network.scale.mean)
        error = (predicted - sm[sample])[validation.counts]
    return float(error.square().mean().sqrt())


def estimate(
    network: KnowledgeGuidedLSTM, samples: Samples, index: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Return SM of the samples in ``index``, the members' mean clipped to 0..1; NaN where none."""
    network.eval()
    with torch.no_grad():
        predicted, numbered = network(batch_of(samples, index))
        mean = predicted.mean(dim=1).clamp(0.0, 1.0)
    target = samples.rows[index, -1]
    whole = numbered.numpy() & np.isfinite(samples.observed.statics[target]).all(axis=1)
    return np.where(whole, mean.numpy(), np.float32(np.nan)).astype(np.float32)


def ranges_in_windows(
    samples: Samples, channel_db: NDArray[np.float32], rows: NDArray[np.int64]
) -> tuple[tuple[float, float], ...]:
    """Return lowest and highest value of each scaled channel's input in the windows of ``rows``.

    channel_db: (R,) as in :func:`scaling`.
    """
    observed, windows = samples.observed, samples.rows[rows]
    used = np.unique(windows[windows >= 0])
    used = used[samples.complete[used]]
    gaps = np.diff(observed.day[windows], axis=1)[windows[:, :-1] >= 0]
    columns = [channel_db[used], *observed.dynamic[used].T, *observed.statics[rows].T, gaps]
    known = [values[np.isfinite(values)] for values in columns]
    return tuple(
        (float(values.min(initial=np.inf)), float(values.max(initial=-np.inf)))
        if len(values)
        else (0.0, 0.0)
        for values in known
    )


def held_out_groups(
    groups: NDArray[np.str_], members: int, share: float, seed: int
) -> list[NDArray[np.str_]]:
    """Return for each member the groups kept for its early stopping, taken in turn round the list.

    >>> held_out_groups(np.array(["a", "b", "c", "d"]), members=3, share=0.25, seed=0)
    [array(['c'], dtype='<U1'), array(['a'], dtype='<U1'), array(['b'], dtype='<U1')]
    """
    order = np.random.default_rng(seed).permutation(groups)
    size = min(max(1, round(share * len(groups))), len(groups) - 1)
    return [np.take(order, range(m * size, (m + 1) * size), mode="wrap") for m in range(members)]


def held_out_days(day: NDArray[np.floating], members: int) -> NDArray[np.bool_]:
    """Return (R, M) True where a date is kept from a member: neighbouring dates, a fifth of them
    or less, the next member the next ones. None is where there are fewer than three dates.

    >>> held_out_days(np.asarray([1.0, 2.0, 3.0, 4.0]), members=2)[:, 1].tolist()
    [False, True, False, False]
    """
    days, date = np.unique(day, return_inverse=True)
    if len(days) < 3:
        return np.zeros((len(day), members), bool)
    parts = min(max(members, 5), len(days))
    block = np.arange(len(days)) * parts // len(days)
    return np.stack([(block == m % parts)[date] for m in range(members)], axis=1)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch's random numbers; restore the state before afterwards.

    One thread: the networks are small, and sums in one order give one result.
    """
    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
