"""The final model: trained on every labelled row, exported and proven."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from kgsm_infer.errors import DataError

from .config import Config, as_json
from .crossval import PartProgress
from .export import Exported, export
from .samples import Source, read_source, samples_of
from .training import train


def fit_and_export(
    config: Config,
    folder: Path,
    progress: PartProgress | None = None,
    *,
    kind: str = "kg-lstm",
) -> Exported:
    """Train ``kind`` on all labelled rows of the table and export it into ``folder``.

    The scores of a cross-validation of the same experiment in the same folder go on the
    card; without one the card says that there are none.
    """
    source = read_source(config)
    samples = samples_of(source, config, kind)

    def step(epoch: int, epochs: int, best: float) -> None:
        if progress is not None:
            progress(kind, epoch, epochs, best)

    trained = train(samples, config, kind, np.arange(len(samples.sm)), step)
    validation = crossvalidated_scores(folder, config, source, kind)
    return export(trained, config, source, folder, validation=validation)


def crossvalidated_scores(
    folder: Path, config: Config, source: Source, kind: str
) -> dict[str, Any]:
    """What ``metrics.json`` in ``folder`` says of this experiment, or nothing.

    Scores of another table or configuration would be false on this card, so they count
    as absent.
    """
    path = folder / "metrics.json"
    if not path.is_file():
        return {}
    try:
        board = json.loads(path.read_text(encoding="utf-8"))
        same = board["table_sha256"] == source.sha256
        ours, theirs = as_json(config), board["config"]
        for settings in (ours, theirs):
            settings["data"].pop("table")
            settings.pop("crossval")
        if not same or ours != theirs or kind not in board["models"]:
            return {}
        model = board["models"][kind]
        scores = {name: model["pooled"][name] for name in ("n", "bias", "rmse", "ubrmse", "r")}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the metrics of a cross-validation ({error})") from None
    if not all(value is None or math.isfinite(value) for value in scores.values()):
        raise DataError(f"{path}: scores that are not numbers")
    return {**scores, "groups": board["groups"], "folds": len(board["folds"])}
