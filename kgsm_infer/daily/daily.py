"""Estimate moisture on every day from values of passes and rain: the room's one entrance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..base import flags
from ..base.errors import UsageError
from ..tables.weather import Weather
from .events import PossibleIrrigation, find_irrigation
from .filter import Array
from .forcing import Forcing, Irrigation, Period, day_text, forcing_of, period_of
from .parameters import Parameters, PassErrors
from .run import Drive, Estimates, Floats, PassValues, drive, estimate
from .smoother import smooth
from .units import HORIZON, SoilWaterLimits, Stated, learn_limits, soil_water
from .values import Values, errors_of_values, observations


@dataclass(frozen=True)
class Settings:
    """Settings of an estimate.

    today: ISO day; None for the local date.  utc_offset_hours: of local days.  rain_day_ends:
    local hour, 24 or 9 for SILO.  errors: of a pass, m3 m-3; None for those of the file.  north:
    the paddocks are on the northern hemisphere; None for that of the parameters.  smooth: use
    later passes too.  soil: numbers for all paddocks; paddocks: those of each.  learn: learn
    missing limits from the paddock's own values.  irrigated_every_days: look for irrigation, with
    this many days between two irrigations of a paddock on average; None not to look.
    limits_required: refuse to go on where no paddock has limits.  look_ahead: return
    :attr:`Daily.ahead`.
    """

    today: str | None = None
    utc_offset_hours: float = 0.0
    rain_day_ends: float = 24.0
    errors: PassErrors | None = None
    north: bool | None = None
    smooth: bool = False
    soil: Stated = field(default_factory=Stated)
    paddocks: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    learn: bool = False
    irrigated_every_days: float | None = None
    limits_required: bool = True
    look_ahead: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.rain_day_ends <= 24:
            raise UsageError(f"rain day ends at {self.rain_day_ends:g} h; give above 0 to 24")


#: Days of a pass that are enough to compare their level with that of the estimates.
FEWEST_PASSES = 10


@dataclass(frozen=True)
class Daily:
    """Estimates of N paddocks on D days, in the quantity of the values.

    mean, lower, upper, weight: (D, N) float32, NaN without a pass and without rain.
    seen: (D, N) mean value of a day's passes, NaN without.  irrigated: with the planned irrigation
    too, or None.  water: limits of the farm units, or None.  days_left: (N,) from today, or None.
    possible: rises that rain does not explain, or None.
    ahead: (HORIZON + 1, N) mean of today and the days after it, with the rain of the forecast and
    none after it; None where neither days left nor ``look_ahead`` ask for it.
    root_zone_mm, root_zone_percent: (D, N) depletion and available water of the root zone, or None
    (:mod:`kgsm_infer.daily.crops`).  root_zone_filtered: (D, N) exponential filter, or None.
    """

    values: Values
    forcing: Forcing
    parameters: Parameters
    errors: PassErrors
    mean: Floats
    lower: Floats
    upper: Floats
    weight: Floats
    seen: Array
    irrigated: Estimates | None = None
    water: SoilWaterLimits | None = None
    days_left: Array | None = None
    notes: tuple[str, ...] = ()
    possible: PossibleIrrigation | None = None
    ahead: Floats | None = None
    root_zone_mm: Array | None = None
    root_zone_percent: Array | None = None
    root_zone_filtered: Array | None = None

    @cached_property
    def last_pass(self) -> Array:
        """Day of the newest pass with a value up to each day (D, N), from the period's first;
        -inf before the first."""
        number = np.arange(len(self.seen), dtype=np.float64)[:, None]
        return np.maximum.accumulate(np.where(np.isnan(self.seen), -np.inf, number), axis=0)

    @cached_property
    def pass_flags(self) -> NDArray[np.int64]:
        """Flags of each day's passes (D, N), bit masks; ``no_skill`` stays."""
        values, period = self.values, self.forcing.period
        mask = np.zeros(self.mean.shape, np.int64)
        inside = (values.day >= period.first) & (values.day <= period.last)
        at = (values.day[inside] - period.first, values.paddock[inside])
        np.bitwise_or.at(mask, at, values.flags[inside])
        return mask | np.bitwise_or.accumulate(mask & flags.NO_SKILL, axis=0)

    @cached_property
    def departure(self) -> float | None:
        """Mean of (estimate - pass) over the days of a pass, each day its mean over paddocks.

        None for fewer than FEWEST_PASSES days, and where it is within three of its standard
        errors or within the shared error of one pass. Otherwise the parameters do not fit the
        place: the filter corrects for days after a pass, not for a level that stays.
        """
        both = np.isfinite(self.seen) & np.isfinite(self.mean)
        days = both.any(axis=1)
        gap = np.where(both, self.mean - np.where(both, self.seen, 0), 0)[days].sum(axis=1)
        gap = gap / both[days].sum(axis=1)
        if len(gap) < FEWEST_PASSES:
            return None
        found, error = float(gap.mean()), float(gap.std(ddof=1) / np.sqrt(len(gap)))
        unit = self.parameters.bucket.span if self.values.quantity == "wetness" else 1.0
        return None if abs(found) <= max(3 * error, self.errors.date / unit) else found

    @property
    def simulated(self) -> bool:
        """Do the values come from simulated data?"""
        return self.values.simulated or self.parameters.simulated


def estimate_daily(
    values: Values,
    weather: Weather | None,
    parameters: Parameters,
    settings: Settings = Settings(),
    irrigation: Irrigation | None = None,
) -> Daily:
    """Estimate every paddock on every day.

    UsageError without a value up to today, or farm units are requested for an index.
    """
    if any(one is not None and one.simulated for one in (weather, irrigation)):
        values = replace(values, simulated=True)
    period = period_of(values, weather, settings.today, settings.utc_offset_hours)
    notes = list(values.notes)
    later = int((values.day > period.today).sum())
    if later:
        notes.append(f"{values.source}: {later} values after today are left out")
    forcing = forcing_of(values, period, weather, irrigation, parameters)
    if forcing.without:
        few = ", ".join(forcing.without[:3])
        notes.append(f"{len(forcing.without)} paddocks have no rain in the weather file: {few}")
    notes += filter(None, (_gap_note(values, weather, forcing), _unused_note(irrigation, period)))
    errors = settings.errors or errors_of_values(values, parameters)
    seen = observations(values, settings.errors, parameters, period.first, settings.rain_day_ends)
    seen = up_to(seen, period.today - period.first)
    if not len(seen):
        raise UsageError(_why_no_value(values, period))
    water = _stated_limits(values, settings)
    dry_days = HORIZON if settings.look_ahead or _has_threshold(water) else 0
    rain = drive(parameters, forcing.then_dry(dry_days), settings.north)
    made = in_quantity(_run(parameters, rain, seen, settings), values, parameters)
    ahead = None
    if dry_days:
        today = period.today - period.first
        ahead = made.mean[today : today + HORIZON + 1]
    possible = None
    if settings.irrigated_every_days is not None:
        every = settings.irrigated_every_days
        known = rain.until(period.count)
        possible = find_irrigation(parameters, known, forcing, seen, every)
    irrigated = None
    if forcing.planned_mm.any():
        with_plan = drive(parameters, forcing.with_plan(), settings.north)
        irrigated = in_quantity(_run(parameters, with_plan, seen, settings), values, parameters)
    shown = _within(made, slice(period.count))
    _clear_unknown(shown, forcing, seen)
    passed = _mean_by_day(values, seen, forcing)
    if water is not None:
        since = np.logical_or.accumulate(np.isfinite(passed), axis=0)
        own = np.where(since, shown.mean, np.float32(np.nan))
        water = _complete_limits(water, forcing, settings, own)
    days_left = None
    if water is not None and ahead is not None and _has_threshold(water):
        days_left = water.days_left(ahead)
    return Daily(
        values,
        forcing,
        parameters,
        errors,
        shown.mean,
        shown.lower,
        shown.upper,
        shown.weight,
        passed,
        irrigated,
        water,
        days_left,
        tuple(notes),
        possible,
        ahead,
    )


def _why_no_value(values: Values, period: Period) -> str:
    """Describe a file without any value up to today."""
    rows = values.day <= period.today
    flagged = rows & ((values.flags & flags.NO_NUMBER) != 0)
    causes = [f"{int(flagged.sum())} of them flagged"] if flagged.any() else []
    notes = [note.removeprefix(f"{values.source}: ") for note in values.notes]
    why = "; ".join((", ".join([f"{int(rows.sum())} rows", *causes]), *notes))
    return f"{values.source}: no value up to {day_text(period.today)} ({why}); nothing to estimate"


def _gap_note(values: Values, weather: Weather | None, forcing: Forcing) -> str:
    """Count the days without rain between the first value and today; empty where there are none."""
    if weather is None:
        return ""
    period = forcing.period
    first = int(values.day.min())
    known = np.isfinite(forcing.rain_mm[first - period.first : period.today - period.first + 1])
    missing = int((~known.any(axis=1)).sum())
    if not missing:
        return ""
    begin, end = day_text(first), day_text(period.today)
    note = f"{weather.source}: {missing} of {len(known)} days from {begin} to {end} have no rain"
    if missing < len(known):
        return f"{note}; the band widens there"
    there = [
        one.first + np.flatnonzero(np.isfinite(one.rain_mm)) for one in weather.places.values()
    ]
    days = np.concatenate(there)
    if not len(days):
        return note
    return f"{note}; the file has {day_text(int(days.min()))} to {day_text(int(days.max()))}"


def _unused_note(irrigation: Irrigation | None, period: Period) -> str:
    """Name irrigations outside the days of the estimate; empty where there are none."""
    if irrigation is None:
        return ""
    outside = (irrigation.day < period.first) | (irrigation.day > period.last)
    if not outside.any():
        return ""
    return (
        f"{irrigation.source}: {outside.sum()} of {len(outside)} irrigations are not used: "
        f"they are outside {day_text(period.first)} to {day_text(period.last)}"
    )


def up_to(seen: PassValues, day: int) -> PassValues:
    """Keep the observations up to a day of the drive."""
    count = int(np.searchsorted(seen.day, day, "right"))
    rows = slice(0, count)
    return PassValues(
        seen.day[rows],
        seen.passed[rows],
        seen.paddock[rows],
        seen.value[rows],
        seen.error_var[rows],
        seen.date_var[rows],
        seen.elapsed[rows],
        seen.bias_var,
    )


def in_quantity(made: Estimates, values: Values, parameters: Parameters) -> Estimates:
    """Turn moisture into the index where the values are one: 0 is an empty bucket, 1 a full."""
    if values.quantity != "wetness":
        return made
    low, span = np.float32(parameters.bucket.dry), np.float32(parameters.bucket.span)
    mean = np.clip((made.mean - low) / span, 0, 1)
    return Estimates(mean, made.sd / span, made.weight, (0.0, 1.0))


def _run(parameters: Parameters, rain: Drive, seen: PassValues, settings: Settings) -> Estimates:
    return smooth(parameters, rain, seen) if settings.smooth else estimate(parameters, rain, seen)


def _clear_unknown(made: Estimates, forcing: Forcing, seen: PassValues) -> None:
    """Leave no number where a paddock has had neither a pass nor a day of rain, in place."""
    passed = np.zeros(made.mean.shape, bool)
    passed[seen.day, seen.paddock] = True
    rained = np.logical_or.accumulate(np.isfinite(forcing.rain_mm), axis=0)[:, forcing.series]
    nothing = ~(np.logical_or.accumulate(passed, axis=0) | rained)
    for part in (made.mean, made.sd):
        part[nothing] = np.nan


def _mean_by_day(values: Values, seen: PassValues, forcing: Forcing) -> Array:
    """Return the mean value of each day's passes (D, N) in the quantity of the file."""
    shape = (forcing.period.count, len(values.paddocks))
    total, count = np.zeros(shape), np.zeros(shape)
    day = values.day - forcing.period.first
    rows = np.isfinite(values.value) & (values.day <= forcing.period.today)
    at = (day[rows], values.paddock[rows])
    np.add.at(total, at, values.value[rows])
    np.add.at(count, at, 1)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _stated_limits(values: Values, settings: Settings) -> SoilWaterLimits | None:
    """Return the limits of the paddocks without learnt ones; None where not asked for."""
    if not (settings.learn or settings.paddocks or settings.soil != Stated()):
        return None
    if values.quantity != "sm":
        raise UsageError(
            f"{values.source}: farm units need soil moisture, not an index; run wetness with "
            "--dry and --wet, or --sand and --clay"
        )
    return soil_water(values.paddocks, settings.paddocks, settings.soil)


def _complete_limits(
    water: SoilWaterLimits, forcing: Forcing, settings: Settings, own: Floats
) -> SoilWaterLimits | None:
    """Add learnt limits to the stated ones; None where no limit is required and none is known.

    own: (D, N) daily values from each paddock's first pass on, NaN before.
    """
    if settings.learn:
        today = forcing.period.today - forcing.period.first
        water = learn_limits(water, own[: today + 1])
    if water.known:
        return water
    if not settings.limits_required:
        return None
    raise UsageError(
        "no paddock has a wilting point and a field capacity: state both, state sand and "
        "clay, or learn them from a year of values (--learn-limits)"
    )


def _has_threshold(water: SoilWaterLimits | None) -> bool:
    return water is not None and bool(np.isfinite(water.refill_percent).any())


def _within(made: Estimates, days: slice) -> Estimates:
    return Estimates(made.mean[days], made.sd[days], made.weight[days], made.limits)
