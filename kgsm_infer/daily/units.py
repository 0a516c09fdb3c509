"""Moisture in the units a farm uses: plant-available water, millimetres to refill, days left.

    available = 100 (SM - WP) / (FC - WP)                percent, within 0 and 100              (1)
    refill    = max(0, FC - SM) root depth               mm                                     (2)

WP is the wilting point, FC the field capacity (m3 m-3). They are stated, come from texture
(Saxton and Rawls 2006, :mod:`kgsm_infer.tables.texture`), or are learnt: the driest and the wettest
hundredth of a paddock's own daily values, from a year on. The surface (0-5 cm) represents the whole
root zone here, which overstates both drying and wetting below it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..base.errors import DataError, UsageError
from ..base.files import RESULTS
from ..scenes.outlines import read_outlines
from ..tables.columns import RULES, Rule
from ..tables.reading import Sheet, read_sheet, sheet_of
from ..tables.texture import water_limits
from .filter import Array
from .run import Floats
from .values import named_sites

#: Quantiles of a paddock's daily values that are its learnt limits.
LEARNT = (0.01, 0.99)
#: Daily values that learnt limits need.
FEWEST_DAYS = 365
#: Days ahead in which a threshold is looked for.
HORIZON = 60
_SM, _SHARE = RULES["sm"], Rule(0.0, 1.0, "a mass fraction (0 to 1)", lambda _: "in percent?")
_DEPTH = Rule(10.0, 5000.0, "a root depth in mm (10 to 5000)", lambda _: "in cm or m? give mm")
_PERCENT = Rule(
    1.0,
    100.0,
    "a percentage of plant-available water (1 to 100)",
    lambda value: "a fraction? multiply by 100" if 0 < value < 1 else "of the available water?",
)
COLUMNS: Mapping[str, Rule] = {
    "wilting_point": _SM,
    "field_capacity": _SM,
    "root_depth_mm": _DEPTH,
    "refill_percent": _PERCENT,
    "sand": _SHARE,
    "clay": _SHARE,
}


@dataclass(frozen=True)
class Stated:
    """Numbers that hold for every paddock whose own are not in the settings; None is unknown."""

    wilting_point: float | None = None
    field_capacity: float | None = None
    root_depth_mm: float | None = None
    refill_percent: float | None = None
    sand: float | None = None
    clay: float | None = None


@dataclass(frozen=True)
class SoilWaterLimits:
    """Limits of N paddocks, (N,) each, NaN where unknown.

    wilting_point, field_capacity: m3 m-3.  root_depth_mm.  refill_percent: threshold of
    plant-available water.  learnt: (N,) limits come from the paddock's own values.
    """

    wilting_point: Array
    field_capacity: Array
    root_depth_mm: Array
    refill_percent: Array
    learnt: Array

    @property
    def known(self) -> bool:
        """Does any paddock have limits?"""
        return bool(np.isfinite(self.field_capacity - self.wilting_point).any())

    def available(self, sm: Floats) -> Floats:
        """Return the percent of plant-available water of moisture (..., N); Eq 1."""
        share = (sm - self.wilting_point) / (self.field_capacity - self.wilting_point)
        return np.asarray(np.clip(100 * share, 0, 100), np.float32)

    def refill_mm(self, sm: Floats) -> Floats:
        """Return millimetres to field capacity of moisture (..., N); Eq 2."""
        depth = (self.field_capacity - sm) * self.root_depth_mm
        return np.asarray(np.maximum(depth, 0), np.float32)

    def days_left(self, ahead: Floats) -> Array:
        """Return days until the available water is below the threshold (N,), NaN where never.

        ahead: (K, N) moisture of today and the days after it.
        """
        return days_until(self.available(ahead), self.refill_percent)


def days_until(ahead: Floats, threshold: Array) -> Array:
    """Return the days until values fall below a threshold (N,), NaN where they never do.

    ahead: (K, N) values of today and the days after it.  threshold: (N,), NaN without one.
    """
    below = ahead < threshold
    return np.where(below.any(0), below.argmax(0), np.nan)


def soil_water(
    paddocks: Sequence[str], settings: Mapping[str, Mapping[str, float]], stated: Stated
) -> SoilWaterLimits:
    """Combine each paddock's settings with what is stated for all.

    Wilting point and field capacity go before texture. DataError where they contradict.
    """
    columns = {name: np.full(len(paddocks), np.nan) for name in COLUMNS}
    for name, values in columns.items():
        common = getattr(stated, name)
        if common is not None:
            _check(f"--{name.replace('_', '-')}", name, common)
            values[:] = common
        for i, paddock in enumerate(paddocks):
            values[i] = settings.get(paddock, {}).get(name, values[i])
    made = water_limits(columns["sand"], columns["clay"])
    wilting = _first(columns["wilting_point"], made.wilting_point)
    capacity = _first(columns["field_capacity"], made.field_capacity)
    for i in np.flatnonzero(capacity <= wilting)[:1]:
        raise DataError(
            f"paddock {paddocks[i]}: field capacity {capacity[i]:g} is not above the wilting point "
            f"{wilting[i]:g}"
        )
    return SoilWaterLimits(
        wilting,
        capacity,
        columns["root_depth_mm"],
        columns["refill_percent"],
        np.zeros(len(paddocks)),
    )


def learn_limits(water: SoilWaterLimits, sm: Floats) -> SoilWaterLimits:
    """Fill unknown limits with the quantiles LEARNT of each paddock's daily values (D, N)."""
    enough = np.isfinite(sm).sum(0) >= FEWEST_DAYS
    unknown = np.isnan(water.field_capacity - water.wilting_point) & enough
    if not unknown.any():
        return water
    low, high = np.nanquantile(sm[:, unknown], LEARNT, axis=0)
    wilting, capacity = water.wilting_point.copy(), water.field_capacity.copy()
    wilting[unknown], capacity[unknown] = low, high
    return replace(
        water, wilting_point=wilting, field_capacity=capacity, learnt=unknown.astype(float)
    )


def read_settings(path: str | Path) -> dict[str, dict[str, float]]:
    """Read the numbers of COLUMNS for each paddock: a CSV or Parquet with ``site`` or ``id``, or
    the properties of outlines (GeoJSON, GeoPackage). DataError names row, column and value."""
    if Path(path).suffix.lower() in RESULTS:
        sheet = named_sites(read_sheet(path))
        name = next((n for n in ("site", "paddock") if n in sheet.columns), None)
        if name is None:
            raise DataError(f"{path}: no column site, id or paddock")
        sites = sheet.check.names(sheet.columns[name], name).values.tolist()
        found = settings_of_sheet(sheet, sites)
    else:
        outlines = read_outlines(path)
        found = settings_of_properties(outlines.ids, outlines.properties, str(path))
    if not any(found.values()):
        raise DataError(f"{path}: has none of the columns {', '.join(COLUMNS)}")
    return found


def settings_of_properties(
    sites: Sequence[str],
    properties: Sequence[Mapping[str, Any]],
    source: str,
    rules: Mapping[str, Rule] = COLUMNS,
) -> dict[str, dict[str, float]]:
    """Return the numbers that paddocks have as properties, for each paddock.

    rules: of the properties to read, by name.  DataError names row, property and value.
    """
    columns = {
        name: [_number_or_none(one.get(name)) for one in properties]
        for name in rules
        if any(name in one for one in properties)
    }
    sheet = sheet_of({"site": list(sites), **columns}, source)
    return settings_of_sheet(sheet, list(sites), rules)


def settings_of_sheet(
    sheet: Sheet, sites: Sequence[str], rules: Mapping[str, Rule] = COLUMNS
) -> dict[str, dict[str, float]]:
    """Return the numbers in a sheet for each paddock; missing ones are left out.

    DataError for two rows of one paddock with different numbers.
    """
    found: dict[str, dict[str, float]] = {site: {} for site in sites}
    for name, rule in rules.items():
        if name in sheet.columns:
            values = sheet.check.numbers(name, sheet.columns[name], rule)
            differs = np.zeros(len(sites), bool)
            for i, (site, value) in enumerate(zip(sites, values.tolist(), strict=True)):
                if value == value:
                    differs[i] = found[site].setdefault(name, value) != value
            why = "differs from another row of its paddock; keep one of them"
            sheet.check.first(differs, name, values, why)
    return found


def _number_or_none(value: Any) -> Any:
    return None if value is None or value == "" else value


def _first(stated: Array, made: Array) -> Array:
    return np.where(np.isnan(stated), made, stated)


def _check(option: str, name: str, value: float) -> None:
    rule = COLUMNS[name]
    if not np.isfinite(value) or rule.outside(value):
        raise UsageError(f"{option} {value:g} is not {rule.what}; {rule.why(value)}")
