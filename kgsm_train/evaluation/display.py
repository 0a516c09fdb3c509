"""What a person sees while training runs: bars, and the score table at the end."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..models import title
from ..progress import PartProgress
from .metrics import number
from .tables import table_rows


@contextmanager
def bars() -> Iterator[PartProgress]:
    """A progress bar for each part that is being trained, on stderr."""
    console = Console(stderr=True)
    columns = [
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("epoch {task.completed}/{task.total}  {task.fields[best]}"),
        TimeElapsedColumn(),
    ]
    with Progress(*columns, console=console) as progress:
        tasks: dict[str, Any] = {}

        def update(name: str, epoch: int, epochs: int, best: float) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=epochs, best="")
            text = "" if math.isnan(best) else f"best RMSE {best:.4f}"
            progress.update(tasks[name], completed=epoch, total=epochs, best=text)

        yield update


def print_times(seconds: Mapping[str, float]) -> None:
    """What the parts took, the slowest model first; of parts kept from before, then."""
    total = sum(seconds.values())
    shares = sorted(seconds.items(), key=lambda item: -item[1])
    text = ", ".join(f"{title(name)} {took / total:.0%}" for name, took in shares[:5])
    print(f"time, added up over processes and earlier runs: {total:.0f} s, of it {text}")


def print_scores(board: Mapping[str, Any]) -> None:
    """The score table of a cross-validation, on stdout."""
    simulated = "  SIMULATED DATA" if board["simulated"] else ""
    table = Table(
        title=f"{board['common']} rows common to all models, {board['groups']} groups, "
        f"{len(board['folds'])} folds{simulated}"
    )
    heading, *rows = table_rows(board)
    for name in heading:
        table.add_column(name, justify="left" if name in ("model", "A by fold") else "right")
    for row in rows:
        table.add_row(*row)
    Console(width=150).print(table)
    if board["reference"]:
        print("(reference): knows what no model may, labels of that day or the simulator's truth")
    if any("*" in row[-1] for row in rows):
        print("* on its bound: the data do not determine A, and the WCM takes nothing away")
    for leak in board["leaks"]:
        print(f"LEAK let pass on purpose ({leak['kind']}): {leak['text']}")
    for name, difference in board["rmse_kg_lstm_minus"].items():
        low, high = difference["interval"]
        gap, low, high = (number(value, "+.4f") for value in (difference["difference"], low, high))
        print(f"RMSE of KG-LSTM minus {title(name)}: {gap} (95 % interval {low} to {high})")
