"""Simulate a labelled twin: a table whose truth is known.

Rain drives a bucket of soil water, NDVI follows crop seasons, the water cloud model's
forward direction (Eqs 1-5) with a known A makes the backscatter, and speckle of a chosen
number of looks disturbs it. Every row and the sidecar say ``simulated``.

Why these numbers. With C = -22 dB and D = 20 dB per m3 m-3, soils of SM 0.05-0.40 lie at
-21 to -14 dB, as VH does. The foliage rule gives at most about 1.4 kg m-2, so at A = 0.02,
B = 0.084 and 38 degrees a full canopy adds -24 dB: two fifths of the power over a dry soil,
an eighth over a wet one. Crop seasons fall on other days at each site, so that vegetation
is not the same signal as the wet season. Both together let A be identified. What is fitted
to SM still finds A a little low (4-8 % at 100 looks): it shrinks, as any regression on a
noisy input does, by about the share of the noise in the variance of single-date SM.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kgsm_infer.base.errors import UsageError
from kgsm_infer.base.files import write_whole
from kgsm_infer.kernels.wcm import Wcm, apply_rules, forward_db
from kgsm_infer.tables.table import write_csv

Array = NDArray[np.float64]
Columns = dict[str, Any]

#: SM never leaves this range, m3 m-3.
SM_RANGE = (0.02, 0.5)
STATEMENT = (
    "Simulated data: no value in this table was measured. Backscatter comes from the water "
    "cloud model's forward direction with the parameters given here."
)
_SPIN_UP_DAYS = 60


@dataclass(frozen=True)
class Twin:
    """Parameters of the simulated twin. Equal parameters give equal tables.

    sites, years, start: size, and the first day (ISO).  seed: of the random generator.
    a, b, e, c_db, d_db: the true WCM (Eqs 1-5).
    looks: equivalent number of looks; speckle is gamma with mean 1, variance 1 / looks.
    roughness_db: standard deviation of each site's own offset of C.
    gap_share: share of planned acquisitions that are missing.
    cloud_share: share of acquisitions without NDVI.
    probe_noise: standard deviation of the label around the true SM, m3 m-3.
    irrigated_every_days: mean days between two irrigations of a site, 0 for none.
    irrigation_mm: water of one.
    """

    sites: int = 40
    years: int = 2
    seed: int = 0
    start: str = "2021-01-01"
    a: float = 0.02
    b: float = 0.084
    e: float = 0.0
    c_db: float = -22.0
    d_db: float = 20.0
    looks: float = 100.0
    roughness_db: float = 0.2
    gap_share: float = 0.05
    cloud_share: float = 0.08
    probe_noise: float = 0.005
    irrigated_every_days: float = 0.0
    irrigation_mm: float = 25.0

    def __post_init__(self) -> None:
        rules = {
            "sites": self.sites >= 1,
            "years": self.years >= 1,
            "seed": self.seed >= 0,
            "a": 0 < self.a < math.inf,
            "b": 0 <= self.b < math.inf,
            "e": 0 <= self.e < math.inf,
            "c_db": -50 <= self.c_db <= 0,
            "d_db": 0 < self.d_db <= 100,
            "looks": 0 < self.looks < math.inf,
            "roughness_db": 0 <= self.roughness_db <= 5,
            "gap_share": 0 <= self.gap_share < 1,
            "cloud_share": 0 <= self.cloud_share < 1,
            "probe_noise": 0 <= self.probe_noise <= 0.1,
            "irrigated_every_days": self.irrigated_every_days == 0
            or 1 <= self.irrigated_every_days < math.inf,
            "irrigation_mm": 0 <= self.irrigation_mm <= 500,
        }
        for name, holds in rules.items():
            if not holds:
                raise UsageError(f"cannot simulate with {name} = {getattr(self, name)!r}")
        try:
            date.fromisoformat(self.start)
        except ValueError:
            raise UsageError(f"start {self.start!r} is not a day such as 2021-01-01") from None

    @property
    def wcm(self) -> Wcm:
        """True parameter set; uses the angle of each acquisition."""
        return Wcm(a=self.a, b=self.b, e=self.e, angle_rule="column")


def simulate(twin: Twin) -> Columns:
    """Simulate the table alone; see :func:`simulate_with_weather`."""
    return simulate_with_weather(twin)[0]


def simulate_with_weather(twin: Twin) -> tuple[Columns, Columns]:
    """Simulate the table, column -> (R,) values by site and date, and its weather.

    site, date (ISO text), vh_db, angle_deg, ndvi (NaN under cloud), clay (share),
    sm (the label), sm_true, vh_noise_free_db (with the site's roughness, without speckle),
    source ("simulated" in every row). The weather: site, date, rain_mm (of every day, from
    before the first acquisition on), irrigation_mm (not part of the rain), sm_true, source.
    """
    rng = np.random.default_rng(twin.seed)
    first = date.fromisoformat(twin.start)
    days = round(twin.years * 365.25)
    day_of_year = (first.timetuple().tm_yday - 1 + np.arange(-_SPIN_UP_DAYS, days)) % 365.25
    season = np.cos(2 * np.pi * (day_of_year - 196) / 365.25)  # 1 mid-July, -1 mid-January
    region = _Region(season, _rain_mm(rng, season))
    made = [_site(twin, rng, k, region) for k in range(twin.sites)]
    parts = [part for part, _ in made]
    columns: Columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    site = columns.pop("site")
    table: Columns = {"site": site, "date": _dates(first, columns.pop("day")), **columns}
    every_day = np.arange(-_SPIN_UP_DAYS, days)
    weather: Columns = {
        "site": np.repeat([part["site"][0] for part in parts], len(every_day)),
        "date": _dates(first, every_day) * len(parts),
        "rain_mm": np.round(np.concatenate([water.rain_mm for _, water in made]), 2),
        "irrigation_mm": np.concatenate([water.irrigation_mm for _, water in made]),
        "sm_true": np.round(np.concatenate([water.sm for _, water in made]), 5),
    }
    table["source"] = ["simulated"] * len(site)
    weather["source"] = ["simulated"] * len(weather["site"])
    return table, weather


def _dates(first: date, days: ArrayLike) -> list[str]:
    return [(first + timedelta(days=int(day))).isoformat() for day in np.asarray(days)]


def write_twin(path: str | Path, twin: Twin, weather: str | Path | None = None) -> int:
    """Write the table as CSV and its truth as JSON with the same stem; return the rows written.

    weather: optional file for the daily rain that drives the soil water.

    The file has one column more than :func:`simulate`: ``sm_oracle`` of :func:`oracle`, the
    reference for a model.
    UsageError for a name that ends in ``.json``, the name of the truth file.
    """
    path = Path(path)
    sidecar = path.with_suffix(".json")
    if sidecar == path:
        raise UsageError(f"{path}: the table needs another suffix; .json is the truth's file")
    columns, rain = simulate_with_weather(twin)
    columns["sm_oracle"] = oracle(twin, columns)
    truth = {
        "simulated": True,
        "statement": STATEMENT,
        "table": path.name,
        "rows": len(columns["date"]),
        "truth": asdict(twin),
        "vwc_rule": "foliage",
        "angle_rule": "column",
    }
    write_csv(path, columns)
    if weather is not None:
        write_csv(weather, rain)
    with write_whole(sidecar) as out:
        out.write(json.dumps(truth, indent=1, allow_nan=False) + "\n")
    return len(columns["date"])


def oracle(twin: Twin, columns: Columns) -> Array:
    """Return (R,) the best SM from one acquisition, given all but the site's own offsets.

    The posterior mean given the backscatter, NDVI and angle of the row, with the true WCM,
    the gamma density of the speckle, the roughness integrated out, and the SM of the whole
    table as prior, on a grid. NaN where the row has no NDVI.

    It is the least RMSE against ``sm_true`` of any method that sees one acquisition and no
    more. Its limits: it does not use the site's other dates (from which a window can learn
    the roughness and, SM being slow, average the speckle), nor clay or season, so a method
    that does may pass it; and its prior comes from the truth, which no method has.
    """
    vh_db, angle, ndvi = (np.asarray(columns[c], float) for c in ("vh_db", "angle_deg", "ndvi"))
    edges = np.linspace(SM_RANGE[0], SM_RANGE[1], 121)
    count, _ = np.histogram(columns["sm_true"], edges)
    grid = (edges[1:] + edges[:-1]) / 2
    prior = (count + 0.5) / (count + 0.5).sum()
    known = np.isfinite(vh_db) & np.isfinite(angle) & np.isfinite(ndvi)
    power = 10 ** (vh_db[known, None] / 10)
    vwc = apply_rules(twin.wcm, 0.0, ndvi[known, None], 40.0).vwc_kg_m2
    nodes, weights = np.polynomial.hermite_e.hermegauss(9 if twin.roughness_db else 1)
    likelihood = np.zeros((int(known.sum()), len(grid)))
    for node, weight in zip(nodes, weights / weights.sum(), strict=True):
        c_db = twin.c_db + twin.roughness_db * node
        mean_db = forward_db(twin.wcm, grid, vwc, angle[known, None], c_db, twin.d_db)
        ratio = power / 10 ** (mean_db / 10)
        # gamma density of the power around its mean; 0 in the logarithm at ratio 1
        likelihood += weight * np.exp(twin.looks * (np.log(ratio) - ratio + 1))
    # a row no SM explains, its density all underflowed, says nothing: the prior's mean
    posterior = (likelihood + np.finfo(float).tiny) * prior
    sm = np.full(vh_db.shape, np.nan)
    sm[known] = (posterior @ grid) / posterior.sum(axis=1)
    return sm


@dataclass(frozen=True)
class SoilWater:
    """Rain and irrigation in mm and moisture in m3 m-3 of one site on every day, (D,)."""

    rain_mm: Array
    irrigation_mm: Array
    sm: Array


@dataclass(frozen=True)
class _Region:
    """Weather that all sites share, on every day from the spin-up on, (D,).

    season: 1 in mid-July, -1 in mid-January.  rain_mm: before the sites' own variation.
    """

    season: Array
    rain_mm: Array


def _site(
    twin: Twin, rng: np.random.Generator, number: int, region: _Region
) -> tuple[Columns, SoilWater]:
    """Simulate the rows of one site, and its rain and moisture on every day."""
    days = len(region.season) - _SPIN_UP_DAYS
    clay = rng.uniform(0.08, 0.5)
    irrigation_mm = _irrigation_mm(twin, number, len(region.season))
    water = _soil_water(rng, region, clay, irrigation_mm)
    sm_day = water.sm[_SPIN_UP_DAYS:]
    ndvi_day = _crop_ndvi(rng, days)
    roughness_db = twin.roughness_db * rng.standard_normal()

    # 6 days of revisit from two satellites, or 12 from one; each pass has its own angle
    revisit = int(rng.choice([6, 12]))
    day = np.arange(rng.integers(revisit), days, revisit)
    pass_angle = rng.uniform(31.0, 45.0, size=2)
    angle = pass_angle[np.arange(len(day)) % 2] + rng.normal(0, 0.05, len(day))
    day_kept = rng.random(len(day)) >= twin.gap_share
    day_kept[0] = True  # a site has at least one acquisition
    cloudy = rng.random(len(day)) < twin.cloud_share
    speckle = rng.gamma(twin.looks, 1 / twin.looks, len(day))
    probe = twin.probe_noise * rng.standard_normal(len(day))

    # rounded before use, so that the file holds exactly what the model saw
    sm = np.round(sm_day[day], 5)
    ndvi = np.round(ndvi_day[day], 4)
    angle = np.round(angle, 3)
    vwc = apply_rules(twin.wcm, 0.0, ndvi, angle).vwc_kg_m2
    clean_db = forward_db(twin.wcm, sm, vwc, angle, twin.c_db + roughness_db, twin.d_db)
    columns: Columns = {
        "day": day,
        "site": np.full(len(day), f"sim{number + 1:03d}"),
        "vh_db": np.round(clean_db + 10 * np.log10(speckle), 4),
        "angle_deg": angle,
        "ndvi": np.where(cloudy, np.nan, ndvi),
        "clay": np.full(len(day), round(clay, 3)),
        "sm": np.round(np.clip(sm + probe, 0.0, 1.0), 4),
        "sm_true": sm,
        "vh_noise_free_db": np.round(clean_db, 6),
    }
    return {name: values[day_kept] for name, values in columns.items()}, water


def _rain_mm(rng: np.random.Generator, season: Array) -> Array:
    """Simulate daily rain of the region: a wet-dry chain, wetter in winter, exponential amounts."""
    wet = np.zeros(len(season), bool)
    before = False
    for day, warm in enumerate(season):
        chance = (0.35 if before else 0.10) - 0.05 * warm
        before = wet[day] = rng.random() < chance
    return np.where(wet, rng.exponential(7.0, len(season)), 0.0)


def _irrigation_mm(twin: Twin, number: int, days: int) -> Array:
    """Draw the irrigation of one site, not in the spin-up, from random numbers of its own."""
    made = np.zeros(days)
    if twin.irrigated_every_days:
        rng = np.random.default_rng((twin.seed, number))
        chance = 1 - math.exp(-1 / twin.irrigated_every_days)
        watered = rng.random(days - _SPIN_UP_DAYS) < chance
        made[_SPIN_UP_DAYS:] = np.where(watered, twin.irrigation_mm, 0.0)
    return made


def _soil_water(
    rng: np.random.Generator, region: _Region, clay: float, irrigation_mm: Array
) -> SoilWater:
    """Simulate rain and SM of the top 100 mm daily: exponential dry-down, quick drainage.

    Clay holds more water and gives it up more slowly (porosity, wilting point and field
    capacity rise with clay roughly as in Saxton and Rawls 2006).
    """
    season = region.season
    wilting, capacity = 0.03 + 0.2 * clay, 0.16 + 0.36 * clay
    porosity = min(0.4 + 0.15 * clay, SM_RANGE[1])
    local = rng.random(len(season)) >= 0.15
    rain_mm = region.rain_mm * local * rng.gamma(3.0, 1 / 3.0, len(season))
    sm = np.empty(len(season))
    water = capacity
    for day, warm in enumerate(season):
        drying = (0.04 - 0.026 * clay) * (1.0 + 0.5 * warm)
        water += (rain_mm[day] + irrigation_mm[day]) / 100.0
        water -= drying * max(water - 0.6 * wilting, 0.0)
        water -= 0.12 * max(water - capacity, 0.0)
        water = min(max(water, SM_RANGE[0]), porosity)
        sm[day] = water
    return SoilWater(rain_mm, irrigation_mm, sm)


def _crop_ndvi(rng: np.random.Generator, days: int) -> Array:
    """Simulate daily NDVI: a bare base, one crop a year on the site's own days, cut at harvest."""
    base = rng.uniform(0.12, 0.22)
    peak_day, width = rng.uniform(40.0, 320.0), rng.uniform(45.0, 75.0)
    day = np.arange(days, dtype=float)
    crop = np.zeros(days)
    for year in range(-1, math.ceil(days / 365.25) + 1):
        peak = 365.25 * year + peak_day + rng.normal(0, 12)
        harvest = peak + rng.uniform(20.0, 60.0)
        height = rng.uniform(0.45, 0.75)
        grown = height * np.exp(-(((day - peak) / width) ** 2))
        cut = np.exp(-np.maximum(day - harvest, 0.0) / 4.0)
        crop += grown * cut
    return np.clip(base + crop, 0.0, 0.95)
