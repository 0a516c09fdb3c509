"""Progress bar on a terminal, with speed and remaining time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def pixels_bar(what: str) -> Iterator[Callable[[int, int], None] | None]:
    """Return a callback (pixels done, of how many) that draws a bar on stderr; None without rich.

    Nothing is drawn if stderr is not a terminal.
    """
    try:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
    except ImportError:
        yield None
        return
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:3.0f} %  {task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None, rate="")

        def progress(done: int, total: int) -> None:
            if bar.tasks[0].total is None:  # work of an earlier run does not count for the speed
                bar.reset(task, completed=done, total=total)
            speed = bar.tasks[0].speed
            rate = f"{speed / 1e3:,.0f} kpx/s" if speed else ""
            bar.update(task, completed=done, total=total, rate=rate)

        yield progress
