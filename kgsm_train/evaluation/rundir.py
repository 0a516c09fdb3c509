"""What a cross-validation leaves in its folder: metrics, predictions, figures, the report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from kgsm_infer.files import whole
from kgsm_infer.table import write_csv

from ..config import Config
from .crossval import Crossvalidation
from .figures import learnt_a, scatter_by_fold
from .report import write_report
from .scoreboard import common_rows, scoreboard


def write_run(folder: Path, result: Crossvalidation, config: Config) -> dict[str, Any]:
    """Write ``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``."""
    board = scoreboard(result, config)
    with whole(folder / "metrics.json") as out:
        out.write(json.dumps(board, indent=1, allow_nan=False) + "\n")
    _write_predictions(folder / "predictions.csv", result)
    _draw_models(folder / "figures", result)
    write_report(folder, board, result, config)
    return board


def _write_predictions(path: Path, result: Crossvalidation) -> None:
    """Every row of the table with the SM each model predicted for it."""
    table = result.source.table
    columns: dict[str, Any] = {
        "site": table.site,
        "date": table.date_text,
        "group": result.source.group,
        "fold": [result.fold_names[k] for k in result.fold],
        "sm": result.source.label,
    }
    columns |= {f"sm_{name.replace('-', '_')}": sm for name, sm in result.predicted.items()}
    if result.source.simulated:
        columns["source"] = ["simulated"] * len(table)
    write_csv(path, columns)


def _draw_models(folder: Path, result: Crossvalidation) -> None:
    """A scatter of every model, and the paths of A."""
    folder.mkdir(exist_ok=True)
    label = np.where(common_rows(result), result.source.label, np.nan)
    note = "simulated data" if result.source.simulated else ""
    for name, predicted in result.predicted.items():
        path = folder / f"scatter-{name}.png"
        scatter_by_fold(path, name, label, predicted, result.fold, result.fold_names, note)
    if "kg-lstm" in result.learnt:
        paths = {
            fold: [line["a"] for line in learnt["log"]]
            for fold, learnt in zip(result.fold_names, result.learnt["kg-lstm"], strict=True)
        }
        learnt_a(folder / "learnt-a.png", paths, note)
