"""Water of the root zone from a daily balance, or from the surface by the exponential filter.

The balance follows the dual crop coefficient of FAO-56 (Allen et al. 1998) over layers. Each day,
rain and irrigation enter the top layer, then evaporation leaves it, then transpiration leaves the
layers with roots, then water above field capacity drains down.

    K_cb  = initial, mid and end values with straight lines between      FAO-56 Fig. 34     (1)
    f_c   = ((K_cb - K_cb,ini) / (K_c,max - K_cb,ini))^(1 + h/2)         Eq. 76             (2)
    K_e   = min(K_r (K_c,max - K_cb), (1 - f_c) K_c,max)                 Eq. 71             (3)
    K_r   = (TEW - D_e) / (TEW - REW), within 0 and 1                    Eq. 74             (4)
    TEW   = (FC - WP/2) z_top                                            Eq. 73             (5)
    K_s   = (TAW - D_r) / ((1 - p) TAW), within 0 and 1                  Eq. 84             (6)
    p     = p_table + 0.04 (5 - K_cb ET0), within 0.1 and 0.8            Table 22           (7)
    drain = rate (S - FC z), per layer and day                                              (8)

Transpiration K_s K_cb ET0 is divided between the layers by their available water. The exponential
filter (Wagner et al. 1999; recursive form of Albergel et al. 2008) needs no crop:

    SWI_n = SWI_{n-1} + K_n (SM_n - SWI_{n-1}),  K_1 = 1,                                    (9)
    K_n   = K_{n-1} / (K_{n-1} + exp(-Δt / T))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from .filter import Array


@dataclass(frozen=True)
class Crop:
    """A crop's numbers of FAO-56 Tables 11, 12, 17 and 22.

    planted: day since 1970.  stage_days: initial, development, mid and late.  kcb: initial, mid and
    end.  root_m: first and greatest depth.  height_m: greatest.  depletion: p of Table 22.
    """

    planted: int
    stage_days: tuple[float, float, float, float]
    kcb: tuple[float, float, float]
    root_m: tuple[float, float]
    height_m: float
    depletion: float


@dataclass(frozen=True)
class SoilProfile:
    """L soil layers of N paddocks.

    thickness_mm: (L,), the first is the evaporation layer.  wilting_point, field_capacity: (L, N)
    m3 m-3.  drainage: (L,) share of the water above field capacity that drains in a day.
    rew_mm: readily evaporable water (FAO-56 Table 19).
    """

    thickness_mm: Array
    wilting_point: Array
    field_capacity: Array
    drainage: Array
    rew_mm: float


@dataclass(frozen=True)
class Water:
    """Input and demand on D days: rain_mm, et0_mm (D,), irrigation_mm (D, N); first: since 1970."""

    first: int
    rain_mm: Array
    et0_mm: Array
    irrigation_mm: Array


@dataclass(frozen=True)
class SurfaceValues:
    """Values of the surface on D days for N paddocks, that update the layers.

    value: (D, N) m3 m-3, NaN where there is none.  error_sd: m3 m-3.  model_sd: of the balance's
    surface, m3 m-3.  layers: number of upper layers that a value is the mean of.  reach_mm: depth
    over which the correction of the layers below falls to 1/e.
    """

    value: Array
    error_sd: float
    model_sd: float
    layers: int
    reach_mm: float


#: Upper limit of the crop coefficient at 2 m/s wind and 45 % humidity (FAO-56 Eq. 72).
KC_MAX = 1.2


def balance_root_zone(
    profile: SoilProfile,
    crop: Crop,
    water: Water,
    start: Array,
    surface: SurfaceValues | None = None,
) -> Array:
    """Run the balance; return the water of the layers at the end of each day, (D, L, N) mm.

    start: (L, N) moisture before the first day, m3 m-3.
    DataError where limits contradict, or rain or ET0 is missing: a balance would then be made up.
    """
    _check(profile, water)
    depth = profile.thickness_mm[:, None]
    dry, full = profile.wilting_point * depth, profile.field_capacity * depth
    bottom = np.cumsum(profile.thickness_mm)
    top = bottom - profile.thickness_mm
    stored = np.array(start * depth, np.float64)
    kcb, root_mm, height = _stages(crop, water.first + np.arange(len(water.rain_mm)))
    least = dry[0] / 2
    tew = full[0] - least  # Eq 5
    rew = np.minimum(profile.rew_mm, 0.9 * tew)
    made = np.empty((len(kcb), *stored.shape))
    for t, demand in enumerate(water.et0_mm):
        kc_max = max(KC_MAX, kcb[t] + 0.05)
        grown = max((kcb[t] - crop.kcb[0]) / (kc_max - crop.kcb[0]), 0.0)
        cover = min(grown ** (1 + height[t] / 2), 0.99)  # Eq 2
        stored[0] += water.rain_mm[t] + water.irrigation_mm[t]
        kr = np.clip((stored[0] - least) / (tew - rew), 0, 1)  # Eq 4, as D_e = full - stored
        ke = np.minimum(kr * (kc_max - kcb[t]), (1 - cover) * kc_max)  # Eq 3
        stored[0] -= np.minimum(ke * demand, np.maximum(stored[0] - least, 0))
        rooted = np.clip((root_mm[t] - top) / profile.thickness_mm, 0, 1)[:, None]
        available = np.maximum(stored - dry, 0) * rooted
        held, total = available.sum(0), ((full - dry) * rooted).sum(0)
        p = min(max(crop.depletion + 0.04 * (5 - kcb[t] * demand), 0.1), 0.8)  # Eq 7
        ks = np.clip(held / ((1 - p) * total), 0, 1)  # Eq 6, as D_r = TAW - held
        taken = np.minimum(ks * kcb[t] * demand / np.maximum(held, 1e-9), 1)
        stored -= available * taken
        for layer, rate in enumerate(profile.drainage):  # Eq 8
            excess = rate * np.maximum(stored[layer] - full[layer], 0)
            stored[layer] -= excess
            if layer + 1 < len(stored):
                stored[layer + 1] += excess
        if surface is not None:
            _update(stored, dry, depth, top, surface, surface.value[t])
        made[t] = stored
    return made


def exponential_filter(day: Array, sm: Array, days: float) -> Array:
    """Filter surface moisture (R,) at times (R,) in days with time constant ``days``; Eq 9.

    Missing values are passed over: their result is the filter's last, NaN before the first value.

    >>> exponential_filter(np.array([0.0, 5.0, 10.0]), np.array([0.1, 0.3, np.nan]), 5.0).round(4)
    array([0.1   , 0.2462, 0.2462])
    """
    made, swi, gain, last = np.full(len(sm), np.nan), np.nan, 1.0, np.nan
    for i, (now, value) in enumerate(zip(day.tolist(), sm.tolist(), strict=True)):
        if value == value:
            if last == last:
                gain = gain / (gain + np.exp(-(now - last) / days))
                swi += gain * (value - swi)
            else:
                swi = value
            last = now
        made[i] = swi
    return made


def _stages(crop: Crop, day: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Basal crop coefficient (Eq 1), root depth in mm and height in m on days (D,)."""
    ends = np.cumsum([0.0, *crop.stage_days])
    age = (day - crop.planted).astype(np.float64)
    first, mid, end = crop.kcb
    kcb = np.interp(age, ends, [first, first, mid, mid, end])
    root = np.interp(age, ends[1:3], [crop.root_m[0], crop.root_m[1]])
    height = np.interp(age, ends[1:3], [0.0, crop.height_m])
    return kcb, 1000 * root, height


def _update(
    stored: Array, dry: Array, depth: Array, top: Array, surface: SurfaceValues, value: Array
) -> None:
    """Correct the layers with one day's surface values (N,), in place."""
    n = surface.layers
    gain = surface.model_sd**2 / (surface.model_sd**2 + surface.error_sd**2)
    lag = np.nan_to_num(gain * (value - stored[:n].sum(0) / depth[:n].sum()))
    below = np.maximum(top - top[n - 1], 0)
    share = np.where(np.arange(len(top)) < n, 1.0, np.exp(-below / surface.reach_mm))
    stored += share[:, None] * depth * lag
    np.maximum(stored, np.where(np.arange(len(top))[:, None] == 0, dry / 2, dry), out=stored)


def _check(profile: SoilProfile, water: Water) -> None:
    bad = np.argwhere(~(profile.field_capacity > profile.wilting_point))
    if len(bad):
        layer, paddock = bad[0].tolist()
        raise DataError(
            f"layer {layer + 1} of paddock {paddock + 1}: field capacity "
            f"{profile.field_capacity[layer, paddock]:g} is not above the wilting point "
            f"{profile.wilting_point[layer, paddock]:g}"
        )
    for name, values in (("rain_mm", water.rain_mm), ("et0_mm", water.et0_mm)):
        missing = np.flatnonzero(~np.isfinite(values))
        if len(missing):
            raise DataError(
                f"{name} of day {missing[0] + 1} of the balance is missing; fill it or use the "
                "exponential filter"
            )
