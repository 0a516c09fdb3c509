"""Command ``kgsm-infer daily``: parse, call :func:`kgsm_infer.daily.command.run_daily`, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..base.command import notes, say
from ..base.files import RESULTS, preflight

#: Titles of groups of options.
OUTPUTS, WEATHER, MODEL = "Outputs", "Weather and days", "Model of daily values"
UNITS, ROOT_ZONE = "Farm units", "Root zone"


def daily(
    values: Annotated[
        Path,
        typer.Argument(
            help="output of predict, paddocks --all-dates or wetness; or a table with --model",
            metavar="VALUES",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help=".csv or .parquet", rich_help_panel=OUTPUTS)
    ],
    weather: Annotated[
        Path | None,
        typer.Option("--weather", help="daily file: date, rain_mm (site)", rich_help_panel=WEATHER),
    ] = None,
    parameters: Annotated[
        str,
        typer.Option(
            help="shipped parameter set (oznet), or an output file of kgsm-train fit-daily",
            rich_help_panel=MODEL,
        ),
    ] = "oznet",
    model: Annotated[
        Path | None,
        typer.Option(help="model whose card gives the errors of a pass", rich_help_panel=MODEL),
    ] = None,
    sd_point: Annotated[
        float | None,
        typer.Option(
            help="standard deviation of the error of one paddock in one pass, m3/m3",
            rich_help_panel=MODEL,
        ),
    ] = None,
    sd_date: Annotated[
        float | None,
        typer.Option(
            help="standard deviation of the error shared by all paddocks of a pass, m3/m3",
            rich_help_panel=MODEL,
        ),
    ] = None,
    irrigation: Annotated[
        Path | None,
        typer.Option(
            "--irrigation", help="paddock,date,mm; past and planned", rich_help_panel=WEATHER
        ),
    ] = None,
    today: Annotated[
        str | None,
        typer.Option(
            help="date after which weather is forecast; default: the local date",
            rich_help_panel=WEATHER,
        ),
    ] = None,
    utc_offset_hours: Annotated[
        float, typer.Option(help="UTC offset of local days", rich_help_panel=WEATHER)
    ] = 0.0,
    rain_day_ends: Annotated[
        float,
        typer.Option(
            help="local hour at which a rain day ends; 9 for SILO", rich_help_panel=WEATHER
        ),
    ] = 24.0,
    hemisphere: Annotated[
        str | None,
        typer.Option(help="south or north; default: that of the parameters", rich_help_panel=MODEL),
    ] = None,
    smooth: Annotated[
        bool,
        typer.Option("--smooth", help="also use later passes, for archives", rich_help_panel=MODEL),
    ] = False,
    settings: Annotated[
        Path | None,
        typer.Option(
            "--settings",
            help="limits of each paddock: CSV, or outlines' properties",
            rich_help_panel=UNITS,
        ),
    ] = None,
    wilting_point: Annotated[
        float | None, typer.Option(help="wilting point, m3/m3", rich_help_panel=UNITS)
    ] = None,
    field_capacity: Annotated[
        float | None, typer.Option(help="field capacity, m3/m3", rich_help_panel=UNITS)
    ] = None,
    root_depth_mm: Annotated[
        float | None,
        typer.Option(
            help="depth of the root zone, for millimetres to refill", rich_help_panel=UNITS
        ),
    ] = None,
    refill_percent: Annotated[
        float | None,
        typer.Option(help="threshold of available water, for days left", rich_help_panel=UNITS),
    ] = None,
    sand: Annotated[
        float | None, typer.Option(help="mass fraction of sand, 0 to 1", rich_help_panel=UNITS)
    ] = None,
    clay: Annotated[
        float | None, typer.Option(help="mass fraction of clay, 0 to 1", rich_help_panel=UNITS)
    ] = None,
    learn_limits: Annotated[
        bool,
        typer.Option(
            "--learn-limits",
            help="learn limits from a year of values of each paddock",
            rich_help_panel=UNITS,
        ),
    ] = False,
    allow_future: Annotated[
        bool,
        typer.Option(
            "--allow-future", help="accept passes later than tomorrow", rich_help_panel=MODEL
        ),
    ] = False,
    irrigation_events: Annotated[
        Path | None,
        typer.Option(
            "--irrigation-events",
            help="file to write: rises that rain does not explain",
            rich_help_panel=OUTPUTS,
        ),
    ] = None,
    irrigated_every_days: Annotated[
        float,
        typer.Option(
            help="mean days between irrigations of a paddock, for their probability",
            rich_help_panel=MODEL,
        ),
    ] = 36.0,
    crop: Annotated[
        Path | None,
        typer.Option(
            "--crop",
            help="crops of the paddocks, for the water of their root zones",
            rich_help_panel=ROOT_ZONE,
        ),
    ] = None,
    root_zone_days: Annotated[
        float | None,
        typer.Option(
            help="time constant of the exponential filter, for a root zone without crop",
            rich_help_panel=ROOT_ZONE,
        ),
    ] = None,
) -> None:
    """Estimate daily soil moisture from passes and rain.

    After the last weather row, and without --weather, estimates return to the mean of the paddock
    and the band widens. See docs/daily.md.

    Example: kgsm-infer daily paddocks.csv -o daily.csv --weather rain.csv
    """
    from ..daily.command import Request, run_daily
    from ..daily.units import Stated

    outputs = [output] if irrigation_events is None else [output, irrigation_events]
    preflight(outputs, [values, weather, irrigation, settings, model, crop], suffixes=RESULTS)
    done = run_daily(
        Request(
            values=values,
            output=output,
            weather=weather,
            parameters=parameters,
            model=model,
            sd_point=sd_point,
            sd_date=sd_date,
            irrigation=irrigation,
            today=today,
            utc_offset_hours=utc_offset_hours,
            rain_day_ends=rain_day_ends,
            hemisphere=hemisphere,
            smooth=smooth,
            settings=settings,
            soil=Stated(wilting_point, field_capacity, root_depth_mm, refill_percent, sand, clay),
            learn_limits=learn_limits,
            allow_future=allow_future,
            irrigation_events=irrigation_events,
            irrigated_every_days=irrigated_every_days,
            crop=crop,
            root_zone_days=root_zone_days,
        )
    )
    notes(done.notes)
    say(
        f"{output}: {done.rows} rows of {done.paddocks} paddocks, {done.first} to {done.last}",
        output,
    )
