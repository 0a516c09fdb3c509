"""Read OzNet, Yanco, from the authors' public repository (yuyi13/OzNet_AOA, MIT).

28 stations, daily 2016-2021: soil moisture of the top 5 cm with the authors' auxiliary
data (TERN soil, ANUClimate v2 weather, CMRSET evapotranspiration, 100 m fused NDVI,
albedo and surface temperature), and the authors' four folds. Cite Smith et al. 2012 for the
network. The repository has no radar: backscatter comes from an Earth Engine export
(docs/earth_engine.md), or is simulated and marked so in every row.

Two faults of the data are reported and not corrected. Stations y7, y8 and y9 have the same
series. The columns ``clay`` and ``sand`` look swapped; see :func:`swapped_clay_note`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.kernels.wcm import forward_db, vwc_from_ndvi
from kgsm_infer.tables.columns import RULES, Rule
from kgsm_infer.tables.parsing import MISSING
from kgsm_infer.tables.reading import read_sheet
from kgsm_infer.tables.table import table_from_columns

from .columns import Columns, Sourced, keep_rows
from .earth_engine import read_backscatter
from .join import Join, join_in_situ
from .simulate import Twin

SITES_FILE = "0_ancillary/OzNet_study_sites.csv"
STATION_FILE = "0_ancillary/OzNet_cleaned_data/OzNet_{site}_cleaned_data.csv"

#: Days over which rain is summed, the day itself included.
RAIN_DAYS = (3, 7, 30)
#: NDVI at 100 m and 500 m further apart than this is dropped by the authors (demo.R).
NDVI_CONFLICT = 0.4
#: Labels are means of local days; Yanco keeps UTC+10 (summer time left aside).
UTC_OFFSET_HOURS = 10.0
LOCAL_DAY = Join(utc_offset_hours=UTC_OFFSET_HOURS)
#: Angle given to simulated backscatter, the paper's constant.
SIMULATED_ANGLE_DEG = 40.0


def _rule(low: float, high: float, what: str, cause: str) -> Rule:
    return Rule(low, high, what, lambda _: cause)


_SHARE = _rule(0, 1, "a share (0 to 1)", "in percent? divide the column by 100")
_KELVIN = _rule(200, 360, "a surface temperature in kelvin (200 to 360)", "in degrees Celsius?")

#: Column of a station's file -> column of the table and what it can hold.
STATION_COLUMNS: dict[str, tuple[str, Rule]] = {
    "insitu_sm": ("sm", RULES["sm"]),
    "ndvi_100m": ("ndvi", RULES["ndvi"]),
    "albedo_100m": ("albedo", _rule(0, 1, "an albedo (0 to 1)", "in percent?")),
    "rain": ("rain_mm", _rule(0, 1000, "a day's rain in mm (0 to 1000)", "nodata value?")),
    "tavg": ("air_temp_c", RULES["temp_c"]),
    "vpd": ("vpd_hpa", _rule(-1, 150, "a vapour pressure deficit in hPa", "in Pa?")),
    "srad": ("srad_mj_m2_day", _rule(0, 45, "a day's radiation in MJ/m2", "in W/m2?")),
    "et_100m": ("et_mm_day", _rule(0, 25, "an evapotranspiration in mm/day", "mm per month?")),
    "lst_100m": ("lst_k", _KELVIN),
    "lst_interp_100m": ("lst_interp_k", _KELVIN),
    "clay": ("clay_share", _SHARE),
    "silt": ("silt_share", _SHARE),
    "sand": ("sand_share", _SHARE),
    "awc": ("awc_percent", _rule(0, 60, "an available water capacity in percent", "in mm?")),
    "dem": ("dem_m", _rule(-500, 9000, "a height in m", "nodata value?")),
}


@dataclass(frozen=True)
class Choice:
    """Selection of days and stations.

    every_days: keep every n-th day (the same days at all stations; antecedent rain is
        summed before). 1 keeps the daily series as it is; 6 or 12 look like Sentinel-1.
    since, until: first and last day, ISO, empty for no bound.
    without: stations to leave out.
    swap_clay_sand: exchange the two columns; otherwise they stay as published.
    """

    every_days: int = 1
    since: str = ""
    until: str = ""
    without: tuple[str, ...] = ()
    swap_clay_sand: bool = False

    def __post_init__(self) -> None:
        if self.every_days < 1:
            raise UsageError(f"every {self.every_days} days cannot be; give 1 or more")
        for name in ("since", "until"):
            try:
                date.fromisoformat(getattr(self, name) or "2000-01-01")
            except ValueError:
                raise UsageError(
                    f"{name} {getattr(self, name)!r} is not a day such as 2016-01-01"
                ) from None


def read_oznet(folder: str | Path, choice: Choice = Choice()) -> Sourced:
    """Read the daily table from a copy of the repository at ``folder``.

    Columns: site, date (a local day), sm, lat, lon, fold (the authors' ``iteration``),
    cluster, those of STATION_COLUMNS, ``rain_3d_mm`` ``rain_7d_mm`` ``rain_30d_mm`` (sums
    that end with the day itself, NaN where a day in them is missing; when the rain day
    ends is not stated there) and ``ndvi_conflict`` (true where the authors drop the row).
    A station outside the authors' two clusters is a separate cluster.

    DataError names file, row, column and value.
    """
    folder = Path(folder)
    sites = _read_sites(folder)
    unknown = [name for name in choice.without if name not in sites.name]
    if unknown:
        raise UsageError(f"no station {unknown[0]!r}; known: {', '.join(sites.name)}")
    stations = []
    for i, site in enumerate(sites.name):
        if site in choice.without:
            continue
        day, numbers = _read_station(folder / STATION_FILE.format(site=site))
        rows = len(day)
        columns: Columns = {
            "site": np.full(rows, site),
            "date": np.datetime_as_string(day),
            "lat": np.full(rows, sites.lat[i]),
            "lon": np.full(rows, sites.lon[i]),
            "fold": np.full(rows, sites.fold[i]),
            "cluster": np.full(rows, sites.cluster[i]),
            **numbers,
        }
        if choice.swap_clay_sand:
            columns["clay_share"], columns["sand_share"] = (
                numbers["sand_share"],
                numbers["clay_share"],
            )
        stations.append(keep_rows(columns, _chosen_days(day, choice)))
    if not stations:
        raise UsageError("every station is left out")
    table = {name: np.concatenate([part[name] for part in stations]) for name in stations[0]}
    if not len(table["site"]):
        raise UsageError(f"no day of {folder} lies between {choice.since} and {choice.until}")
    notes = [*identical_series_notes(table), *few_stations_note(table)]
    if not choice.swap_clay_sand:
        notes += swapped_clay_note(table)
    return Sourced(table, tuple(notes))


def identical_series_notes(columns: Columns) -> list[str]:
    """Report each group of sites with the same series of labels, with their folds."""
    site, sm = np.asarray(columns["site"]), np.asarray(columns["sm"], np.float64)
    day, fold = np.asarray(columns["date"]), np.asarray(columns["fold"])
    same: dict[bytes, list[str]] = {}
    for name in dict.fromkeys(site.tolist()):
        rows = (site == name) & np.isfinite(sm)
        if rows.any():
            content = "".join(day[rows].tolist()).encode() + sm[rows].tobytes()
            same.setdefault(hashlib.sha256(content).digest(), []).append(name)
    notes = []
    for names in same.values():
        if len(names) > 1:
            folds = [str(fold[site == name][0]) for name in names]
            notes.append(
                f"{', '.join(names)} have the same series of soil moisture, in folds "
                f"{', '.join(folds)}: a model tested on one has seen its labels at another; "
                "the original is unknown: leave them out with --without"
            )
    return notes


def few_stations_note(columns: Columns) -> list[str]:
    """Report a series that continues after most stations have ended.

    From there on a score is that of the few, whatever the fold.
    """
    labelled = np.isfinite(np.asarray(columns["sm"], np.float64))
    site, day = columns["site"][labelled], columns["date"][labelled]
    names = np.unique(site)
    if not len(names):
        return []
    last = sorted(max(day[site == name].tolist()) for name in names)
    # the day by which half of the stations have given their last label
    end = last[(len(last) - 1) // 2]
    after = np.unique(site[day > end])
    if 2 * len(after) >= len(names) or not len(after):
        return []
    return [
        f"after {end} only {len(after)} of {len(names)} stations have labels: --to {end} "
        "leaves that time out"
    ]


def swapped_clay_note(columns: Columns) -> list[str]:
    """Report labels that contradict the texture and fit it with clay and sand exchanged.

    A soil's surface dries below its wilting point, but not to half of it for most of the
    time. So the share of labels below half the wilting point (Saxton and Rawls 2006, Eq 1,
    1 % organic matter) is taken with the columns as they are and exchanged. Such evidence
    can point out a swap; it cannot prove one, so nothing is changed here.
    """
    sm = np.asarray(columns["sm"], np.float64)
    clay, sand = (np.asarray(columns[name], np.float64) for name in ("clay_share", "sand_share"))
    labelled = np.isfinite(sm) & np.isfinite(clay) & np.isfinite(sand)
    if not labelled.any():
        return []
    sm, clay, sand = sm[labelled], clay[labelled], sand[labelled]
    as_is = float(np.mean(sm < wilting_point(clay, sand) / 2))
    exchanged = float(np.mean(sm < wilting_point(sand, clay) / 2))
    if as_is <= 0.5 or exchanged >= as_is / 1.5:
        return []
    return [
        f"clay (mean {clay.mean():.2f}) and sand (mean {sand.mean():.2f}) look swapped: "
        f"{as_is:.0%} of the soil moisture lies below half the wilting point of such a clay, "
        f"{exchanged:.0%} if they are exchanged; they are left as published: --swap-clay-sand"
    ]


def wilting_point(
    clay_share: NDArray[np.float64], sand_share: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Compute soil moisture at 1500 kPa, m3 m-3 (Saxton and Rawls 2006, Eq 1, 1 % organic matter).

    >>> wilting_point(np.array([0.2]), np.array([0.4])).round(3).tolist()
    [0.128]
    """
    c, s, om = clay_share, sand_share, 1.0
    first = (
        -0.024 * s
        + 0.487 * c
        + 0.006 * om
        + 0.005 * s * om
        - 0.013 * c * om
        + 0.068 * s * c
        + 0.031
    )
    return np.asarray(first + (0.14 * first - 0.02), np.float64)


def simulate_backscatter(daily: Sourced, seed: int = 0) -> Sourced:
    """Simulate ``vh_db`` and ``angle_deg`` with the forward water cloud model.

    Real NDVI and labels, the parameters, speckle and roughness of
    :class:`kgsm_train.sources.simulate.Twin` as it comes, 40 degrees. ``source`` is "simulated" in
    every row; rows without NDVI or label have no backscatter.
    """
    twin, rng = Twin(seed=seed), np.random.default_rng(seed)
    table = dict(daily.columns)
    sm, ndvi = (np.asarray(table[name], np.float64) for name in ("sm", "ndvi"))
    _, code = np.unique(table["site"], return_inverse=True)
    roughness_db = twin.roughness_db * rng.standard_normal(int(code.max()) + 1)[code]
    speckle = rng.gamma(twin.looks, 1 / twin.looks, len(sm))
    vwc_kg_m2 = vwc_from_ndvi(ndvi)
    clean_db = forward_db(twin.wcm, sm, vwc_kg_m2, SIMULATED_ANGLE_DEG, twin.c_db, twin.d_db)
    table["vh_db"] = np.round(clean_db + roughness_db + 10 * np.log10(speckle), 4)
    table["angle_deg"] = np.full(len(sm), SIMULATED_ANGLE_DEG)
    table["source"] = np.full(len(sm), "simulated")
    note = (
        "backscatter is SIMULATED from the labels themselves (water cloud model forward, "
        f"A = {twin.a:g}, {twin.looks:g} looks): it says nothing about real radar"
    )
    return Sourced(table, (*daily.notes, note))


def with_backscatter(
    daily: Sourced, export: str | Path, unit: str = "db", join: Join = LOCAL_DAY
) -> Sourced:
    """Join the daily table to the acquisitions of an Earth Engine export, one row each.

    A day is placed at its local noon, so a tolerance of 12 h gives every acquisition its own
    day.
    """
    features = [name for name, v in daily.columns.items() if np.asarray(v).dtype.kind in "fiu"]
    in_situ = table_from_columns(daily.columns, "OzNet", features=features, require=["sm"])
    joined = join_in_situ(read_backscatter(export, unit), in_situ, join)
    return Sourced(joined.columns, (*daily.notes, *joined.notes))


def _chosen_days(day: NDArray[np.datetime64], choice: Choice) -> NDArray[np.bool_]:
    keep = day.astype(np.int64) % choice.every_days == 0
    if choice.since:
        keep &= day >= np.datetime64(choice.since)
    if choice.until:
        keep &= day <= np.datetime64(choice.until)
    return np.asarray(keep, bool)


@dataclass(frozen=True)
class _Sites:
    """List of stations: all (S,)."""

    name: list[str]
    lat: NDArray[np.float64]
    lon: NDArray[np.float64]
    fold: list[str]
    cluster: list[str]


def _read_sites(folder: Path) -> _Sites:
    path = folder / SITES_FILE
    if not path.is_file():
        raise DataError(
            f"{folder}: no copy of the repository OzNet_AOA ({SITES_FILE} is not there); "
            "give its top folder, or fetch it with --download"
        )
    sheet = read_sheet(path)
    cells, check = sheet.columns, sheet.check
    _need(path, cells, ("sitename", "lat", "lon", "iteration", "cluster"))
    site = [str(cell).strip() for cell in cells["sitename"]]
    check.first(np.asarray([not name for name in site]), "sitename", site, "empty")
    check.first(
        np.asarray([site.index(name) < i for i, name in enumerate(site)]),
        "sitename",
        site,
        "stands there twice",
    )
    fold = [str(cell).strip() for cell in cells["iteration"]]
    check.first(np.isin(fold, MISSING), "iteration", fold, "empty; every site needs its fold")
    cluster = [str(cell).strip() for cell in cells["cluster"]]
    return _Sites(
        name=site,
        lat=check.numbers("lat", cells["lat"], RULES["lat"]),
        lon=check.numbers("lon", cells["lon"], RULES["lon"]),
        fold=fold,
        cluster=[s if c in MISSING else c for s, c in zip(site, cluster, strict=True)],
    )


def _read_station(path: Path) -> tuple[NDArray[np.datetime64], Columns]:
    """Read one station's file: days (R,) in order, and its columns."""
    sheet = read_sheet(path)
    cells, check = sheet.columns, sheet.check
    _need(path, cells, ("time", "ndvi_500m", *STATION_COLUMNS))
    cells_of_time = [str(cell).strip() for cell in cells["time"]]
    day = check.dates(cells_of_time, "time").astype("datetime64[D]")
    late = np.zeros(len(day), bool)
    late[1:] = np.diff(day).astype(np.int64) != 1
    check.first(late, "time", cells["time"], "is not the day after the row above; a daily series?")
    numbers = {
        name: check.numbers(own, cells[own], rule) for own, (name, rule) in STATION_COLUMNS.items()
    }
    for days in RAIN_DAYS:
        numbers[f"rain_{days}d_mm"] = trailing_sum(numbers["rain_mm"], days)
    coarse = check.numbers("ndvi_500m", cells["ndvi_500m"], RULES["ndvi"])
    conflict = abs(numbers["ndvi"] - coarse) > NDVI_CONFLICT
    return day, {**numbers, "ndvi_conflict": np.where(conflict, "true", "false")}


def trailing_sum(values: NDArray[np.float64], days: int) -> NDArray[np.float64]:
    """Return (R,) the sum of a day and the ``days - 1`` before it; NaN if one is missing.

    >>> trailing_sum(np.array([1.0, 2.0, np.nan, 4.0, 5.0]), 2).tolist()
    [nan, 3.0, nan, nan, 9.0]
    """
    total = np.full(len(values), np.nan)
    if len(values) >= days:
        total[days - 1 :] = np.lib.stride_tricks.sliding_window_view(values, days).sum(axis=1)
    return np.round(total, 6)


def _need(path: Path, cells: Mapping[str, Any], names: tuple[str, ...]) -> None:
    missing = [name for name in names if name not in cells]
    if missing:
        raise DataError(f"{path}: no column {missing[0]!r}; it has {', '.join(cells)}")
