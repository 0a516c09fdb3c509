"""The final model: trained on every labelled row, exported and proven."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from kgsm_infer.base.schema import as_plain
from kgsm_infer.kernels.domain import Domain
from kgsm_infer.model.onnx_reader import read_model_file

from .config import Config, as_json
from .evaluation.board import Board, RegimeScores, read_board
from .evaluation.splits import folds_of
from .evaluation.trust import training_domain
from .export.files import Evidence, Exported, export
from .export.modelcard import write_model_card, write_stac_item
from .learning.rain import with_fitted_rain
from .learning.samples import Samples, Source, batch_of, read_source, samples_of
from .learning.training import Trained, train, train_head
from .progress import PartProgress


def fit_and_export(
    config: Config,
    folder: Path,
    progress: PartProgress | None = None,
    *,
    kind: str | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Exported:
    """Train on all labelled rows of the table and export into ``folder``, with
    ``MODEL_CARD.md`` and ``model.stac.json``.

    kind: the model to train; None for the one the configuration asks for.  tell: receives each
    note on how the table was read.

    The scores of a cross-validation of the same experiment in the same folder go on the
    card; without one the card states that it has no scores.
    """
    kind = kind or config.shipped
    crossval = replace(config.crossval, models=(kind,))
    source = read_source(replace(config, crossval=crossval))
    for line in source.table.notes:
        tell(line)
    asked = config  # as read; fitted settings are named below
    config, _ = with_fitted_rain(config, source.table, source.weather, source.label)
    samples = samples_of(source, config, kind)

    def step(epoch: int, epochs: int, best: float) -> None:
        if progress is not None:
            progress(kind, epoch, epochs, best)

    every = np.arange(len(samples.sm))
    if config.is_head_alone(kind):
        trained = train_head(samples, config, kind, every)
        step(1, 1, math.nan)
    else:
        trained = train(samples, config, kind, every, step)
    board = same_experiment(folder, asked, source, kind)
    domain = domain_of_training(trained, samples, source, config)
    evidence = replace(evidence_of(board, kind) if board else Evidence(), domain=domain)
    done = export(trained, config, source, evidence, folder)
    card = read_model_file(done.complete).card
    write_model_card(folder, card)
    write_stac_item(folder, card, source)
    return done


def domain_of_training(
    trained: Trained, samples: Samples, source: Source, config: Config
) -> Domain:
    """Make the domain reference: target-step channels of every sample learnt from, in its fold."""
    rows = np.flatnonzero(samples.labelled)
    with torch.no_grad():
        tile, valid = trained.network.tile(batch_of(samples, rows))
    known = valid[:, -1].numpy()
    scaled = tile[-1].numpy()[known, : trained.network.layout.channels - 2]
    fold = folds_of(source, config).number
    return training_domain(scaled, fold[rows[known]], config.training.seed)[0]


def same_experiment(folder: Path, config: Config, source: Source, kind: str) -> Board | None:
    """Return ``metrics.json`` in ``folder``, if it is of this very table and configuration.

    Scores of another experiment would be false on this card, so they count as absent.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return None
    board = read_board(path)
    ours, theirs = as_json(config), as_plain(board.config)
    for settings in (ours, theirs):
        settings.get("data", {}).pop("table", None)
        settings.pop("crossval", None)
    same = board.table_sha256 == source.sha256 and ours == theirs
    return board if same and kind in board.first.models else None


def evidence_of(board: Board, kind: str) -> Evidence:
    """Return the evidence of a cross-validation for a model's card."""
    return Evidence(
        validation=card_scores(board, kind),
        interval=board.intervals.get(kind),
        probes=board.variances.get(kind),
        no_skill=board.no_skill.get(kind, ""),
    )


def card_scores(board: Board, kind: str) -> dict[str, Any]:
    """Return a cross-validation's scores for the card, with the numbers of folds and blocks.

    The headline's first; those of the other regimes under ``other``.
    """
    first = board.first
    others = {
        regime.title: _scores(regime, kind) for regime in board.regimes.values() if regime != first
    }
    measured, model = board.measured.get(board.headline), first.models[kind]
    return {
        **_scores(first, kind),
        "measured_vegetation": None if measured is None else _scores(measured, kind),
        "unflagged": as_plain(model.unflagged),
        "five_looks": as_plain(model.settled),
        "regime": first.title,
        "folds": len(board.folds),
        "blocks": len(board.blocks),
        "note": board.without_new_dates,
        "other": others,
    }


def _scores(regime: RegimeScores, kind: str) -> dict[str, Any]:
    model = regime.models[kind]
    mean, within = model.group_mean, model.within_date
    return {
        **as_plain(model.pooled),
        "groups": regime.groups,
        "dates": regime.dates,
        "within_dates": {"r": within.r, "interval_95": as_plain(within.interval_95)},
        "with_number": model.with_number,
        "group_mean": None if mean is None else as_plain(mean.pooled),
    }
