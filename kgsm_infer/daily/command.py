"""Run ``kgsm-infer daily`` from files to a file."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from ..base.errors import UsageError
from ..model.card import Card
from ..model.index import NAME as INDEX
from ..model.model import load
from ..tables.table import ReadOptions, leave_out_future
from ..tables.weather import WeatherFile, is_weather, read_weather, table_with_weather
from .crops import read_crops, with_filtered_surface, with_root_zone
from .daily import Daily, Settings, estimate_daily
from .events import EVERY_DAYS, write_events
from .forcing import day_text, read_irrigation
from .parameters import HEMISPHERES, SHIPPED, read_parameters
from .table import write_daily
from .units import Stated, read_settings
from .values import (
    NoValues,
    PassDeviations,
    PassNumbers,
    Values,
    check_paddocks,
    errors_of_model,
    is_of_index,
    read_values,
    values_of,
)


@dataclass(frozen=True)
class Request:
    """The arguments of the command, by their names there."""

    values: Path
    output: Path
    weather: Path | None = None
    parameters: str = SHIPPED[0]
    model: Path | None = None
    sd_point: float | None = None
    sd_date: float | None = None
    irrigation: Path | None = None
    today: str | None = None
    utc_offset_hours: float = 0.0
    rain_day_ends: float = 24.0
    hemisphere: str | None = None
    smooth: bool = False
    settings: Path | None = None
    soil: Stated = field(default_factory=Stated)
    learn_limits: bool = False
    allow_future: bool = False
    irrigation_events: Path | None = None
    irrigated_every_days: float = EVERY_DAYS
    crop: Path | None = None
    root_zone_days: float | None = None


@dataclass(frozen=True)
class DailySummary:
    """Numbers of rows and paddocks written, first and last day, and remarks for the user."""

    rows: int
    paddocks: int
    first: str
    last: str
    notes: tuple[str, ...]


def run_daily(request: Request) -> DailySummary:
    """Read the files, estimate and write the table."""
    if request.hemisphere not in (None, *HEMISPHERES):
        raise UsageError(f"--hemisphere {request.hemisphere!r} must be south or north")
    parameters = read_parameters(request.parameters)
    read = _read(request)
    values = read.values
    weather = None
    if request.weather is not None:
        weather = read_weather(request.weather, request.utc_offset_hours)
    irrigation = None
    if request.irrigation is not None:
        irrigation = read_irrigation(request.irrigation, values.paddocks)
    stated = {} if request.settings is None else read_settings(request.settings)
    if request.settings is not None:
        check_paddocks(request.settings, stated, values.paddocks)
    settings = Settings(
        today=request.today,
        utc_offset_hours=request.utc_offset_hours,
        rain_day_ends=request.rain_day_ends,
        errors=errors_of_model(
            read.card, values, parameters, PassDeviations(request.sd_point, request.sd_date)
        ),
        north=None if request.hemisphere is None else request.hemisphere == "north",
        smooth=request.smooth,
        soil=request.soil,
        paddocks=stated,
        learn=request.learn_limits,
        irrigated_every_days=None
        if request.irrigation_events is None
        else request.irrigated_every_days,
    )
    crops = None if request.crop is None else read_crops(request.crop, values.paddocks)
    result = estimate_daily(values, weather, parameters, settings, irrigation)
    if crops is not None:
        result = with_root_zone(result, crops, weather)
    if request.root_zone_days is not None:
        result = with_filtered_surface(result, request.root_zone_days)
    rows = write_daily(request.output, result)
    remarks = _remarks(result, request)
    if others := sorted(set(stated) - set(values.paddocks)):
        remarks.append(
            f"{request.settings}: {len(others)} paddocks are not in the values: "
            f"{', '.join(others[:3])}"
        )
    if request.irrigation_events is not None and result.possible is not None:
        count = write_events(request.irrigation_events, result.possible, values.paddocks)
        remarks.append(
            f"{request.irrigation_events}: {count} times of possible irrigation, if a paddock is "
            f"irrigated every {request.irrigated_every_days:g} days on average"
        )
    period = result.forcing.period
    return DailySummary(
        rows,
        len(values.paddocks),
        str(day_text(int(values.day.min()))),
        str(day_text(period.last)),
        (*result.notes, *remarks),
    )


@dataclass(frozen=True)
class _Read:
    """Values of passes, and the card of the model where one is named."""

    values: Values
    card: Card | None


def _read(request: Request) -> _Read:
    """Read values, or a table and retrieve them with the model."""
    model = None if request.model is None else load(request.model)
    try:
        values = read_values(request.values, request.utc_offset_hours, request.allow_future)
        if model is None and is_of_index(values):
            return _Read(values, load(INDEX).card)
        return _Read(values, None if model is None else model.card)
    except NoValues:
        if model is None:
            raise
    features = model.table_features()
    options = ReadOptions(features, keep="empty", reads=model.columns_read(), option="")
    weather = None
    # of a model without rain the file drives the daily balance alone
    if request.weather is not None and any(map(is_weather, features)):
        weather = WeatherFile(request.weather, request.utc_offset_hours)
    table = table_with_weather(request.values, options, weather)
    if not request.allow_future:
        table = leave_out_future(table, drop=True)
    result = model.predict(table)
    masks = np.asarray(result.flags, np.int64)
    numbers = PassNumbers(result.sm, result.lower, result.upper, masks)
    values = values_of(table, model.card.quantity, numbers, request.utc_offset_hours)
    return _Read(replace(values, simulated=values.simulated or model.card.simulated), model.card)


def _remarks(result: Daily, request: Request) -> list[str]:
    """List remarks for the user: origin of parameters, errors used, simulated values."""
    remarks = []
    parameters, errors = result.parameters, result.errors
    if request.parameters in SHIPPED:
        remarks.append(
            f"parameters {parameters.name!r} were fitted on {parameters.citation}; fit your own "
            "with kgsm-train fit-daily"
        )
    if request.weather is None:
        remarks.append("no --weather: between passes the values go back to each paddock's mean")
    unit = parameters.bucket.span if result.values.quantity == "wetness" else 1.0
    remarks.append(
        f"error of a pass: {errors.point / unit:.3f} of a paddock, {errors.date / unit:.3f} shared "
        "by its date"
    )
    if errors.slope < 1:
        remarks.append(
            f"the model shrinks towards its mean (slope {errors.slope:.2f} on the truth); the "
            "passes are stretched by it"
        )
    if result.departure is not None:
        side = "below" if result.departure < 0 else "above"
        remarks.append(
            f"on days with a pass the values lie {abs(result.departure):.3f} {side} the passes on "
            f"average: parameters {parameters.name!r} do not fit this place; fit your own with "
            "kgsm-train fit-daily, or use the passes alone"
        )
    if request.crop is not None:
        unknown = "; without --irrigation its water is missing" * (request.irrigation is None)
        remarks.append(f"root zone: docs/daily.md has the measured error of the balance{unknown}")
    if result.simulated:
        remarks.append("the values come from simulated data")
    return remarks
