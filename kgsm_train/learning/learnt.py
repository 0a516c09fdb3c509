"""Learnt parameters of a model, as in a finished part and ``metrics.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One line of a training log. RMSE in m3 m-3; a and b are None in a plain LSTM."""

    epoch: int
    train_rmse: float
    boundary: float
    validation_rmse: float
    a: float | None = None
    b: float | None = None


@dataclass(frozen=True)
class Learnt:
    """Learnt parameters of one model on the training rows of one split.

    parameters: of the equations, by their symbol: A, B, C, D, slopes.
    on_bound: those of them that ended on a bound, and so are not determined.
    by_class: class -> parameters, where the WCM is calibrated class by class.
    facts: further results: samples, best_epoch, lost_share, penalty ...
    log: of a network's training.
    """

    parameters: Mapping[str, float] = field(default_factory=dict)
    on_bound: tuple[str, ...] = ()
    by_class: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)
    log: tuple[Epoch, ...] = ()
