"""``kgsm-train fit-daily``: fit a parameter set of the daily model and score it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.base.files import write_whole
from kgsm_infer.daily.parameters import HEMISPHERES, Parameters
from kgsm_infer.tables.table import Table, read_table
from kgsm_infer.tables.weather import Weather, local_day, read_weather

from .evaluation.daily import (
    RevisitScores,
    SiteDaySplit,
    by_fold,
    by_fold_and_years,
    fit_splits,
    score_daily,
)
from .learning.daily import DataOrigin, Labelled, fit_daily

#: Groups of sites where the table has no column ``fold``.
FOLDS = 4
SEEDS = (0, 1, 2)
#: Days between simulated passes.
EVERY = (6, 12, 24)


@dataclass(frozen=True)
class LabelledTable:
    """A labelled daily series, the fold of each of its sites, and whether it is simulated."""

    labelled: Labelled
    fold: tuple[str, ...]
    simulated: bool = False


@dataclass(frozen=True)
class DailyFit:
    """Parameters fitted on everything, with their scores, and the boards behind these."""

    parameters: Parameters
    boards: tuple[RevisitScores, ...]


def read_labelled(
    table: str | Path, weather: str | Path, utc_offset_hours: float = 0.0
) -> LabelledTable:
    """Read ``site,date,sm`` (optionally ``fold``) and the rain of its sites.

    DataError where a site has no rain, or two labels on one day.
    """
    read = read_table(table, require=("sm",), keep="empty", reads=("sm",), option="")
    rain = read_weather(weather, utc_offset_hours)
    if rain.by == "cell":
        raise DataError(f"{weather}: has a column cell; name it site, or give one series")
    day = local_day(read, rain)
    sites = tuple(sorted(set(read.site.tolist())))
    missing = [name for name in sites if (name if rain.by else "") not in rain.places]
    if missing:
        raise DataError(f"{weather}: no rain of site {missing[0]} of {table}")
    first, last = int(day.min()), int(day.max())
    sm = np.full((last - first + 1, len(sites)), np.nan)
    place = {name: i for i, name in enumerate(sites)}
    column = np.asarray([place[name] for name in read.site.tolist()])
    key = (day - first) * len(sites) + column
    if len(np.unique(key)) < len(key):
        raise DataError(f"{table}: a site has two labels on one day; fit-daily needs daily means")
    sm[day - first, column] = read.numbers["sm"]
    water = np.stack([_days(rain, name if rain.by else "", first, last) for name in sites], 1)
    simulated = read.simulated or rain.simulated
    return LabelledTable(Labelled(first, sites, water, sm), _folds(read, sites), simulated)


def fit_and_score(
    read: LabelledTable,
    source: DataOrigin,
    every: Sequence[int] = EVERY,
    tell: Callable[[str], None] = lambda text: None,
) -> DailyFit:
    """Fit on all sites; score with each fold's sites left out of its fit."""
    labelled = read.labelled
    source = replace(source, simulated=source.simulated or read.simulated)
    splits = by_fold(read.fold, len(labelled.sm))
    boards = boards_of(labelled, splits, source, every, tell=tell)
    parameters = fit_daily(labelled, source)
    scores = {
        "regime": "new sites",
        "folds": len(splits),
        "seeds": list(SEEDS),
        "passes": "simulated from the labels",
        "every": {
            str(board.every): {
                **{name: asdict(of) for name, of in board.scores.items()},
                "coverage": board.coverage,
            }
            for board in boards
        },
    }
    return DailyFit(replace(parameters, scores=_rounded(scores)), tuple(boards))


def boards_of(
    labelled: Labelled,
    splits: Sequence[SiteDaySplit],
    source: DataOrigin,
    every: Sequence[int],
    stores: int = 2,
    tell: Callable[[str], None] = lambda text: None,
) -> list[RevisitScores]:
    """Fit each split and score the methods for each interval between passes."""
    fitted = fit_splits(labelled, splits, source, stores, tell)
    return [score_daily(labelled, splits, fitted, one, SEEDS) for one in every]


def new_years(read: LabelledTable) -> list[SiteDaySplit]:
    """Return splits in which neither the sites nor the years were fitted."""
    return by_fold_and_years(read.fold, read.labelled)


def write_parameters(path: str | Path, parameters: Parameters) -> None:
    """Write the set as JSON, whole or not at all."""
    with write_whole(path) as file:
        file.write(parameters.to_json())


def source_of(
    name: str, licence: str, citation: str, hemisphere: str, table: Path, weather: Path
) -> DataOrigin:
    """Describe the origin of a set by the command's options; UsageError for another hemisphere."""
    if hemisphere not in HEMISPHERES:
        raise UsageError(f"--hemisphere {hemisphere!r} must be south or north")
    made = f"kgsm-train fit-daily {table.name} --weather {weather.name}"
    return DataOrigin(name, licence, citation, made, hemisphere)


def _days(rain: Weather, name: str, first: int, last: int) -> np.ndarray:
    """Return rain of one place from ``first`` to ``last``, NaN where missing."""
    series, days = rain.places[name], np.full(last - first + 1, np.nan)
    low, high = max(first, series.first), min(last + 1, series.first + len(series.rain_mm))
    if low < high:
        days[low - first : high - first] = series.rain_mm[low - series.first : high - series.first]
    return days


def _folds(read: Table, sites: Sequence[str]) -> tuple[str, ...]:
    """Return each site's fold: the table's column, else FOLDS groups by turns."""
    column = read.text.get("fold")
    if column is None:
        count = min(FOLDS, len(sites))
        if count < 2:
            raise UsageError(f"{read.source}: one site cannot be scored; give at least two")
        return tuple(str(i % count) for i in range(len(sites)))
    found = dict(zip(read.site.tolist(), column, strict=True))
    return tuple(found[name] for name in sites)


def _rounded(value: object) -> dict[str, object]:
    """Return scores with four decimals."""

    def short(item: object) -> object:
        if isinstance(item, dict):
            return {key: short(part) for key, part in item.items()}
        return round(item, 4) if isinstance(item, float) else item

    rounded = short(value)
    assert isinstance(rounded, dict)
    return rounded
