"""Weather for a scene: one series for all of its pixels, as layers of numbers by date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ..base.errors import DataError
from ..tables.weather import Weather, daily_feature, is_weather
from .layers import Layer
from .manifest import Scene


def scene_with_weather(scene: Scene, weather: Weather, names: Sequence[str]) -> Scene:
    """Return the scene with a layer for each weather feature among ``names`` that it lacks.

    A day's value is dated one second before its local noon and reaches half a day, so every
    acquisition of a day gets that day's value, also one dated without a time (midnight). Missing
    weather is NaN, and so is the map. DataError where the file has several places.
    """
    wanted = [name for name in names if is_weather(name) and name not in scene.layers]
    if not wanted:
        return scene
    if len(weather.places) != 1:
        raise DataError(
            f"{weather.source}: has {len(weather.places)} places; a scene takes one series, so "
            "keep the rows of the place it is of"
        )
    series = next(iter(weather.places.values()))
    made = {}
    for name in wanted:
        daily = daily_feature(series, name)
        noon = (series.first + np.arange(len(daily))) * 86400 + 43199
        when = (noon - round(weather.utc_offset_hours * 3600)).astype("datetime64[s]")
        values = tuple(zip(when, daily.tolist(), strict=True))
        made[name] = Layer(name=name, values=values, match="nearest", max_gap_days=0.5)
    return replace(scene, layers={**scene.layers, **made})
