"""Training one model on given groups, with early stopping on held-out groups.

Each of the M members holds other groups out for its early stopping, so that together
they see every group; they share A, of which there is one per model.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kgsm_infer.errors import DataError
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.kernels.window import Layout
from kgsm_infer.observations import isolate_observed

from ..config import Config
from .learnt import Epoch, Learnt
from .network import ForwardLine, KnowledgeGuidedLSTM, bounded_loss, falling
from .samples import Batch, Samples, batch_of

#: Called with the epochs done, their limit, and the best validation RMSE so far.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class Trained:
    """A trained network. lost_share: of the labelled training samples, by soil signal."""

    network: KnowledgeGuidedLSTM
    log: tuple[Epoch, ...]
    best_epoch: int
    samples: int
    lost_share: float

    @property
    def wcm(self) -> Wcm | None:
        """The learnt WCM, None of a plain LSTM."""
        isolation = self.network.isolation
        return isolation.learnt if isolation is not None else None

    @property
    def learnt(self) -> Learnt:
        """What is worth keeping: every parameter of the equations, and how training went."""
        isolation = self.network.isolation
        return Learnt(
            parameters=isolation.parameters_learnt if isolation is not None else {},
            facts={
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
    fit = config.training
    sm = samples.sm[rows]
    channel_db = samples.observed.sigma0_db
    if kind == "kg-lstm":
        wcm = config.wcm.with_a(config.wcm.a)
        channel_db = isolate_observed(wcm, samples.observed).soil_db
    layout = scaling(samples, channel_db, rows)
    with seeded(fit.seed):
        network = KnowledgeGuidedLSTM(
            config.wcm.with_a(config.wcm.a) if kind == "kg-lstm" else None,
            layout,
            hidden=config.network.hidden,
            members=config.network.members,
            dropout=config.network.dropout,
            sm_mean=float(sm.mean()),
            sm_std=float(sm.std()) or 1.0,
            learn_b="b" in config.wcm.learn,
        )
        held_out = held_out_groups(groups, config.network.members, fit.validation_share, fit.seed)
        held = np.stack([np.isin(samples.group[rows], names) for names in held_out], axis=1)
        return _optimise(
            network,
            batch_of(samples, rows),
            torch.from_numpy(sm),
            torch.from_numpy(held),
            config,
            progress,
        )


def _optimise(
    network: KnowledgeGuidedLSTM,
    batch: Batch,
    sm: Tensor,
    held: Tensor,
    config: Config,
    progress: Progress | None,
) -> Trained:
    """held: (R, M) True where a sample is for a member's validation only."""
    fit = config.training
    weights = [p for name, p in network.named_parameters() if not name.startswith("isolation.")]
    groups = [{"params": weights, "lr": fit.learning_rate, "weight_decay": fit.weight_decay}]
    line = None
    if fit.sigma0_weight > 0:
        channel_db, valid = network.channel(batch)
        line = ForwardLine(channel_db[valid[:, -1], -1], sm[valid[:, -1]])
    for physics in (network.isolation, line):
        if physics is not None:
            learnt = list(physics.parameters())
            groups.append({"params": learnt, "lr": fit.learning_rate_a, "weight_decay": 0.0})
    optimiser = torch.optim.AdamW(groups)
    log: list[Epoch] = []
    best, best_epoch, best_state = math.inf, 0, network.state_dict()
    for epoch in range(1, fit.epochs + 1):
        squared, boundary, count = 0.0, 0.0, 0.0
        network.train()
        for index in torch.split(torch.randperm(len(sm)), fit.batch):
            some, rng = batch.take(index), torch.get_rng_state()
            predicted, numbered = network(some)
            weight = (~held[index] & numbered[:, None]).float()
            loss = bounded_loss(predicted, sm[index], weight, fit.physics_weight)
            total, share = loss.total, weight / weight.sum().clamp(min=1.0)
            if fit.monotone_weight > 0:
                falls = falling(network, some, predicted, rng)
                total = total + fit.monotone_weight * (share * falls).sum()
            if line is not None:
                soil_db = network.channel(some)[0][:, -1]
                misfit = (share * line.misfit(soil_db, predicted)).sum()
                total = total + fit.sigma0_weight * misfit
            optimiser.zero_grad()
            torch.autograd.backward(total)
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimiser.step()
            if network.isolation is not None:
                network.isolation.keep_in_range()
            n = float(weight.sum())
            squared, boundary = squared + n * loss.mse.item(), boundary + n * loss.boundary.item()
            count += n
        rmse = validation_rmse(network, batch, sm, held)
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
        lost = 1.0 - network.channel(batch)[1][:, -1].float().mean().item()
    return Trained(network, tuple(log), best_epoch, len(sm), lost)


def validation_rmse(network: KnowledgeGuidedLSTM, batch: Batch, sm: Tensor, held: Tensor) -> float:
    """RMSE of the members, each on the groups it holds out.

    A sample whose soil signal is lost counts with the error of the training mean:
    otherwise an A that loses the hard samples would look better than it is.
    """
    network.eval()
    with torch.no_grad():
        predicted, numbered = network(batch)
        predicted = torch.where(numbered[:, None], predicted, network.sm_mean)
        error = (predicted - sm[:, None])[held]
    return float(error.square().mean().sqrt())


def estimate(
    network: KnowledgeGuidedLSTM, samples: Samples, index: NDArray[np.int64]
) -> NDArray[np.float32]:
    """SM of the samples in ``index``, the members' mean clipped to 0..1; NaN where none."""
    network.eval()
    with torch.no_grad():
        predicted, numbered = network(batch_of(samples, index))
        mean = predicted.mean(dim=1).clamp(0.0, 1.0)
    target = samples.rows[index, -1]
    whole = numbered.numpy() & np.isfinite(samples.observed.statics[target]).all(axis=1)
    return np.where(whole, mean.numpy(), np.float32(np.nan)).astype(np.float32)


def scaling(samples: Samples, channel_db: NDArray[np.float32], rows: NDArray[np.int64]) -> Layout:
    """Mean and standard deviation of each channel over the complete training rows.

    channel_db: (R,) the backscatter channel of all rows.
    """
    observed = samples.observed
    gaps = np.diff(observed.day[samples.rows[rows]], axis=1)[samples.rows[rows][:, :-1] >= 0]
    columns = [
        channel_db[rows],
        *observed.dynamic[rows].T,
        *observed.statics[rows].T,
        gaps,
    ]
    mean, std = [], []
    for values in columns:
        values = values[np.isfinite(values)].astype(np.float64)
        mean.append(float(values.mean()) if len(values) else 0.0)
        spread = float(values.std()) if len(values) else 0.0
        std.append(spread if spread > 1e-6 * max(1.0, abs(mean[-1])) else 1.0)
    return Layout(
        steps=samples.rows.shape[1],
        dynamic=observed.dynamic.shape[1],
        statics=observed.statics.shape[1],
        # float32 as every engine will read them
        mean=tuple(float(np.float32(value)) for value in mean),
        std=tuple(float(np.float32(value)) for value in std),
    )


def held_out_groups(
    groups: NDArray[np.str_], members: int, share: float, seed: int
) -> list[NDArray[np.str_]]:
    """For each member the groups kept for its early stopping, taken in turn round the list.

    >>> held_out_groups(np.array(["a", "b", "c", "d"]), members=3, share=0.25, seed=0)
    [array(['c'], dtype='<U1'), array(['a'], dtype='<U1'), array(['b'], dtype='<U1')]
    """
    order = np.random.default_rng(seed).permutation(groups)
    size = min(max(1, round(share * len(groups))), len(groups) - 1)
    return [np.take(order, range(m * size, (m + 1) * size), mode="wrap") for m in range(members)]


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """torch's random numbers from ``seed``; the state before is restored afterwards.

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
