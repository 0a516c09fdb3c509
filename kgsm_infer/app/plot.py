"""Command ``kgsm-infer plot``: parse, read the series, draw, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.command import notes, say
from ..base.errors import UsageError
from ..base.files import preflight


def plot(
    values: Annotated[
        Path,
        typer.Argument(help="output of daily, predict or paddocks", metavar="VALUES"),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=".png, .svg or .html")],
    paddock: Annotated[
        list[str] | None,
        typer.Option("--paddock", help="id of a paddock; repeatable; default: all"),
    ] = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            help="column to draw: available_percent or refill_mm; default: soil moisture",
        ),
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="line to draw, in the unit of the axis")
    ] = None,
    outlines: Annotated[
        Path | None,
        typer.Option("--map", help="outlines of the paddocks: draw a map of one day instead"),
    ] = None,
    id_property: Annotated[
        str | None, typer.Option("--id", help="property of --map that names a paddock")
    ] = None,
    day: Annotated[
        str | None, typer.Option("--date", help="day of the map; default: the last with a value")
    ] = None,
) -> None:
    """Draw the chart of one paddock or of all, or a map of a day.

    Days are a line with a band, passes are dots, rain is bars, the outlook is dashed. See
    docs/daily.md.

    Example: kgsm-infer plot daily.csv -o daily.png --paddock north
    """
    from ..daily.chart import SUFFIXES, draw_series
    from ..daily.series import check_threshold, read_series, select

    preflight([output], [values, outlines], suffixes=SUFFIXES, what="charts")
    if outlines is None and (day or id_property):
        raise UsageError("--date and --id belong to a map; give its outlines with --map")
    check_threshold(threshold, column)
    series = read_series(values, column)
    chosen = select(series, paddock or [])
    notes(series.notes)
    if outlines is None:
        draw_series(output, series, chosen, threshold)
    else:
        from ..paddocks.picture import draw_series_map
        from ..scenes.outlines import read_outlines

        shapes = read_outlines(outlines, id_property)
        notes(shapes.notes)
        notes(draw_series_map(output, shapes, series, chosen, day, threshold))
    count = "1 paddock" if len(chosen) == 1 else f"{len(chosen)} paddocks"
    simulated = "; the values come from simulated data" if series.simulated else ""
    say(f"{output}: {count} of {values}{simulated}", output)
