"""Print progress bars and score tables to the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..models import MODELS, title
from ..progress import PartProgress
from .board import Board
from .tables import (
    coverage_rows,
    date_rows,
    difference_rows,
    heading_text,
    learnt_rows,
    left_out_rows,
    notes,
    probed_rows,
    ranking_text,
    subset_rows,
    table_rows,
)


@contextmanager
def bars() -> Iterator[PartProgress]:
    """Show a progress bar on stderr for each part in training, until it is done."""
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed}/{task.total}  {task.fields[best]}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console, transient=True) as progress:
        tasks: dict[str, Any] = {}

        def update(name: str, epoch: int, epochs: int, best: float) -> None:
            if name not in tasks:
                for old in [t for t in progress.tasks if t.finished]:
                    progress.remove_task(old.id)
                tasks[name] = progress.add_task(name, total=epochs, best="")
            text = "" if math.isnan(best) else f"best RMSE {best:.4f}"
            if tasks[name] in progress.task_ids:
                progress.update(tasks[name], completed=epoch, total=epochs, best=text)

        yield update


def print_times(seconds: Mapping[str, float]) -> None:
    """Print the time of all parts, kept ones included, the slowest models first."""
    total = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    text = ", ".join(f"{title(name)} {took / max(total, 1e-9):.0%}" for name, took in shares[:5])
    print(f"time, added up over processes and earlier runs: {total:.0f} s, of it {text}")


def print_scores(board: Board) -> None:
    """Print the score tables of a cross-validation to stdout."""
    _print_table(table_rows(board), heading_text(board))
    _print_table(subset_rows(board), f"{board.first.title}: subsets of rows, and other regimes")
    _print_table(date_rows(board), f"{title(board.ours)} on {board.first.title}, by date")
    if any(MODELS[name].reference for name in board.first.models):
        print("(reference): reads labels of that day, or the simulator's truth")
    for model, text in learnt_rows(board):
        print(f"learnt by {model}: {text}")
    if any(learnt.on_bound for by_split in board.learnt.values() for learnt in by_split.values()):
        print("* on its bound: the data do not determine it")
    for regime in board.regimes.values():
        print(f"{regime.title}:")
        for sentence in difference_rows(board, regime):
            print(f"  {sentence}")
    ranking = [ranking_text(board, name) for name in board.first.models if name in board.intervals]
    for sentence in (
        *coverage_rows(board),
        *filter(None, ranking),
        *probed_rows(board),
        *left_out_rows(board),
        *notes(board),
    ):
        print(sentence)


def _print_table(rows: Sequence[tuple[str, ...]], heading: str) -> None:
    first, *others = rows
    table = Table(title=heading)
    for k, name in enumerate(first):
        table.add_column(name, justify="right" if k else "left")
    for row in others:
        table.add_row(*row)
    Console(width=150).print(table)
