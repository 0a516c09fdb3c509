"""Weather for a scene: one series for all of its pixels, as layers of numbers by date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.weather import Series, Weather, daily_feature, is_weather
from .layers import Layer
from .manifest import Scene


def scene_with_weather(scene: Scene, weather: Weather, names: Sequence[str]) -> Scene:
    """Return the scene with a layer for each weather feature among ``names`` that it lacks.

    A day's value is dated one second before its local noon and reaches half a day, so every
    acquisition of a day gets that day's value, also one dated without a time (midnight). Missing
    weather is NaN, and so is the map. Simulated weather makes the scene simulated. DataError where
    the file has several places.
    """
    wanted = [name for name in names if is_weather(name) and name not in scene.layers]
    if not wanted:
        return scene
    series = only_series(weather)
    made = {}
    for name in wanted:
        daily = daily_feature(series, name)
        noon = (series.first + np.arange(len(daily))) * 86400 + 43199
        when = (noon - round(weather.utc_offset_hours * 3600)).astype("datetime64[s]")
        values = tuple(zip(when, daily.tolist(), strict=True))
        made[name] = Layer(name=name, values=values, match="nearest", max_gap_days=0.5)
    simulated = scene.simulated or weather.simulated
    return replace(scene, layers={**scene.layers, **made}, simulated=simulated)


def only_series(weather: Weather) -> Series:
    """Return the series of a file with one place; DataError for several."""
    if len(weather.places) != 1:
        raise DataError(
            f"{weather.source}: has {len(weather.places)} places; a scene takes one series, so "
            "keep the rows of the place it is of"
        )
    return next(iter(weather.places.values()))


def weather_at(weather: Weather, name: str, times: NDArray[np.datetime64]) -> NDArray[np.float64]:
    """Return a weather feature at the times (T,) in UTC of a scene, NaN where unknown.

    The day is the local one, as in :func:`scene_with_weather`.
    """
    daily, first = daily_feature(only_series(weather), name), only_series(weather).first
    seconds = times.astype("datetime64[s]").astype(np.int64)
    at = (seconds + round(weather.utc_offset_hours * 3600)) // 86400 - first
    inside = (at >= 0) & (at < len(daily))
    return np.where(inside, daily[np.clip(at, 0, len(daily) - 1)], np.nan)
