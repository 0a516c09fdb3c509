"""Write the results of a cross-validation: metrics, predictions, figures, the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from kgsm_infer.tables.table import write_csv

from .board import Board, write_board
from .crossval import Crossvalidation
from .figures import learnt_a, scatter_by_fold
from .report import write_report
from .scoreboard import common_rows, scoreboard


def write_run(folder: Path, result: Crossvalidation, probes: Sequence[int] = ()) -> Board:
    """Write ``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``.

    probes: numbers of probed fields whose worth is tried.
    """
    board = scoreboard(result, probes)
    write_board(folder / "metrics.json", board)
    _write_predictions(folder / "predictions.csv", result)
    _draw_models(folder / "figures", result)
    write_report(folder, board, result)
    return board


def _write_predictions(path: Path, result: Crossvalidation) -> None:
    """Write every row of the table with the SM each model predicted for it in each regime.

    ``sm_MODEL`` is of the headline, ``sm_MODEL__REGIME`` of the others.
    """
    table, design = result.source.table, result.design
    columns: dict[str, Any] = {
        "site": table.site,
        "date": table.date_text,
        "group": result.source.group,
        "fold": [design.fold_names[k] for k in design.fold],
    }
    if design.block_names:
        columns["dates"] = [design.block_names[b] for b in design.block]
    columns["sm"] = result.source.label
    for regime, predictions in result.regimes.items():
        suffix = "" if regime == result.headline else f"__{regime.replace('-', '_')}"
        columns |= {f"sm_{n.replace('-', '_')}{suffix}": sm for n, sm in predictions.items()}
    if result.source.simulated:
        columns["source"] = ["simulated"] * len(table)
    write_csv(path, columns)


def _draw_models(folder: Path, result: Crossvalidation) -> None:
    """Draw a scatter of every model in the headline, and the paths of A."""
    folder.mkdir(exist_ok=True)
    common = common_rows(result, result.headline)
    note = "simulated data" if result.source.simulated else ""
    for name in result.predicted:
        scatter_by_fold(folder / f"scatter-{name}.png", result, name, common, note)
    paths = {
        f"{name}, {split.name}": [line.a for line in by_split[split.name].log if line.a]
        for name, by_split in result.learnt.items()
        for split in result.design.splits
        if split.block < 0
    }
    paths = {name: path for name, path in paths.items() if path}
    if paths:
        learnt_a(folder / "learnt-a.png", paths, note)
