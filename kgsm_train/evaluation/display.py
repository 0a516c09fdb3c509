"""What a person sees while training runs: bars, and the score table at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..models import MODELS, title
from ..progress import PartProgress
from .board import Board
from .tables import difference_rows, heading_text, learnt_rows, notes, probed_rows, table_rows


@contextmanager
def bars() -> Iterator[PartProgress]:
    """A progress bar for each part that is being trained, on stderr; gone when it is done."""
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
    """What the parts took, the slowest model first; of parts kept from before, then."""
    total = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    text = ", ".join(f"{title(name)} {took / max(total, 1e-9):.0%}" for name, took in shares[:5])
    print(f"time, added up over processes and earlier runs: {total:.0f} s, of it {text}")


def print_scores(board: Board) -> None:
    """The score table of a cross-validation, on stdout."""
    table = Table(title=heading_text(board))
    heading, *rows = table_rows(board)
    for name in heading:
        table.add_column(name, justify="left" if name == "model" else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)
    if any(MODELS[name].reference for name in board.first.models):
        print("(reference): knows what no model may, labels of that day or the simulator's truth")
    for model, text in learnt_rows(board):
        print(f"learnt by {model}: {text}")
    if any(learnt.on_bound for by_split in board.learnt.values() for learnt in by_split.values()):
        print("* on its bound: the data do not determine it")
    for regime in board.regimes.values():
        print(f"{regime.title}:")
        for sentence in difference_rows(board, regime):
            print(f"  {sentence}")
    for sentence in (*probed_rows(board), *notes(board)):
        print(sentence)
