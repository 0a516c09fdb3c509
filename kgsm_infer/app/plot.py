"""``kgsm-infer plot``: parse, read the series, draw, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.command import notes, say
from ..base.files import preflight


def plot(
    values: Annotated[
        Path,
        typer.Argument(help="what daily, predict or paddocks wrote", metavar="VALUES"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=".png, .svg or .html")],
    paddock: Annotated[
        list[str] | None, typer.Option("--paddock", help="id; again for several; all by default")
    ] = None,
    column: Annotated[
        str | None,
        typer.Option("--column", help="available_percent or refill_mm instead of the moisture"),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="line to draw, in the unit of the axis")
    ] = None,
) -> None:
    """Draw the chart of a paddock, or a sheet of all.

    Days are a line with a band, passes dots, rain bars, the outlook dashed. See docs/daily.md.
    """
    from ..daily.chart import SUFFIXES, draw_series
    from ..daily.series import read_series, select

    preflight([output], [values], suffixes=SUFFIXES, what="charts")
    series = read_series(values, column)
    chosen = select(series, paddock or [])
    notes(series.notes)
    draw_series(output, series, chosen, threshold)
    said = "1 paddock" if len(chosen) == 1 else f"{len(chosen)} paddocks"
    simulated = "; the values come from simulated data" if series.simulated else ""
    say(f"{output}: {said} of {values}{simulated}", output)
