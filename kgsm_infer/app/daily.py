"""``kgsm-infer daily``: parse, call :func:`kgsm_infer.daily.command.run_daily`, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.command import notes, say
from ..base.files import RESULTS, preflight


def daily(
    values: Annotated[
        Path,
        typer.Argument(
            help="what predict, paddocks --all-dates or wetness wrote; or a table with --model",
            metavar="VALUES",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help=".csv or .parquet")],
    weather: Annotated[
        Path | None, typer.Option("--weather", help="daily file: date, rain_mm (site)")
    ] = None,
    parameters: Annotated[
        str, typer.Option(help="shipped set, or a file that kgsm-train fit-daily wrote")
    ] = "oznet",
    model: Annotated[
        Path | None, typer.Option(help="model whose card has the errors of a pass")
    ] = None,
    sd_point: Annotated[
        float | None, typer.Option(help="error of one paddock in one pass, m3/m3")
    ] = None,
    sd_date: Annotated[
        float | None, typer.Option(help="error that all paddocks of a pass share, m3/m3")
    ] = None,
    irrigation: Annotated[
        Path | None, typer.Option("--irrigation", help="paddock,date,mm; past and planned")
    ] = None,
    today: Annotated[
        str | None, typer.Option(help="later weather is forecast; the local date by default")
    ] = None,
    utc_offset_hours: Annotated[float, typer.Option(help="of local days")] = 0.0,
    rain_day_ends: Annotated[
        float, typer.Option(help="local hour at which a rain day ends; 9 for SILO")
    ] = 24.0,
    hemisphere: Annotated[
        str | None, typer.Option(help="south or north; that of the parameters by default")
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="for archives: use later passes too")
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option("--settings", help="limits of each paddock: CSV, or outlines' properties"),
    ] = None,
    wilting_point: Annotated[float | None, typer.Option(help="m3/m3")] = None,
    field_capacity: Annotated[float | None, typer.Option(help="m3/m3")] = None,
    root_depth_mm: Annotated[float | None, typer.Option(help="for millimetres to refill")] = None,
    refill_percent: Annotated[
        float | None, typer.Option(help="threshold of available water, for days left")
    ] = None,
    sand: Annotated[float | None, typer.Option(help="mass fraction, 0 to 1")] = None,
    clay: Annotated[float | None, typer.Option(help="mass fraction, 0 to 1")] = None,
    learn_limits: Annotated[
        bool, typer.Option("--learn-limits", help="limits from a year of the paddock's values")
    ] = False,
    allow_future: Annotated[
        bool, typer.Option("--allow-future", help="accept passes later than tomorrow")
    ] = False,
) -> None:
    """Soil moisture of every paddock on every day, from passes and rain.

    Days after the last weather row, and all days without --weather, go back to the paddock's mean
    with a widening band. See docs/daily.md.
    """
    from ..daily.command import Request, run_daily
    from ..daily.units import Stated

    preflight([output], [values, weather, irrigation, settings, model], suffixes=RESULTS)
    done = run_daily(
        Request(
            values,
            output,
            weather,
            parameters,
            model,
            sd_point,
            sd_date,
            irrigation,
            today,
            utc_offset_hours,
            rain_day_ends,
            hemisphere,
            smooth,
            settings,
            Stated(wilting_point, field_capacity, root_depth_mm, refill_percent, sand, clay),
            learn_limits,
            allow_future,
        )
    )
    notes(done.notes)
    say(
        f"{output}: {done.rows} rows of {done.paddocks} paddocks, {done.first} to {done.last}",
        output,
    )
