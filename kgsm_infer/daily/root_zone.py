"""Water of the root zone from a daily balance, or from the surface by the exponential filter.

The balance follows the dual crop coefficient of FAO-56 (Allen et al. 1998). D_e is the depletion of
the evaporation layer, D_k that of soil layer k, TAW_k the available water of that layer; all in mm
below field capacity. z_k is the depth of the lower edge of layer k, Z_r the depth of the roots.

    K_cb  = initial, mid and end values with straight lines between      FAO-56 Fig. 34     (1)
    f_c   = ((K_cb - K_cb,ini) / (K_c,max - K_cb,ini))^(1 + h/2)         Eq. 76             (2)
    K_e   = min(K_r (K_c,max - K_cb), (1 - f_c) K_c,max)                 Eq. 71             (3)
    K_r   = (TEW - D_e) / (TEW - REW), within 0 and 1                    Eq. 74             (4)
    TEW   = (FC - WP/2) z_e                                              Eq. 73             (5)
    K_s,k = (TAW_k - D_k) / ((1 - p) TAW_k), within 0 and 1              Eq. 84             (6)
    p     = p_table + 0.04 (5 - (K_cb + K_e) ET0), within 0.1 and 0.8    Table 22           (7)
    b_k   = u_k (2 - u_k) - u_{k-1} (2 - u_{k-1}), u_k = min(z_k/Z_r, 1)  Prasad 1988        (8)
    K_s   = sum of b_k K_s,k                                                                (9)
    D_k   = D_k + b_k K_s,k K_cb ET0, and D_1 = D_1 + K_e ET0 - P - I    Eqs 85, 86        (10)

Water above field capacity drains into the next layer on the same day. Roots and height grow with
K_cb. Evaporation is that of the surface before the day's water, as in pyfao56. With one layer that
roots fill, (6) to (10) are the equations of FAO-56. With more, each layer limits its own part of
the uptake (Feddes et al. 1978), which falls linearly with depth. Water in deep soil then does not
make up for a dry upper soil, and results depend less on the stated root depth.

The exponential filter (Wagner et al. 1999; recursive form of Albergel et al. 2008) needs no crop:

    SWI_n = SWI_{n-1} + K_n (SM_n - SWI_{n-1}),  K_1 = 1,                                   (11)
    K_n   = K_{n-1} / (K_{n-1} + exp(-Δt / T))
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from .filter import Array

#: Upper limit of the crop coefficient at 2 m/s wind and 45 % humidity (FAO-56 Eq. 72).
KC_MAX = 1.2
#: Evaporation layer z_e, mm: the depth that the radar sees. FAO-56 has 100 to 150.
EVAPORATION_MM = 50.0
#: Readily evaporable water, mm. FAO-56 Table 19 has 2 to 12.
REW_MM = 4.0
#: Thickness of the soil layers, mm; the deepest root depth is divided evenly.
LAYER_MM = 100.0
#: Share of the difference by which a surface value corrects the evaporation layer.
SURFACE_GAIN = 0.5


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

    def __post_init__(self) -> None:
        if min(self.stage_days) <= 0:
            raise ValueError("stages must last longer than 0 days")
        if not 0 < self.kcb[0] < self.kcb[1] or self.kcb[2] <= 0:
            raise ValueError("kcb must be above 0 and rise from initial to mid")
        if not 0 < self.root_m[0] <= self.root_m[1]:
            raise ValueError("roots must be deeper than 0 m and not shrink")
        if self.height_m <= 0 or not 0 < self.depletion < 1:
            raise ValueError("height must be above 0 m, depletion within 0 to 1")

    @property
    def days(self) -> int:
        """Length of the season."""
        return round(sum(self.stage_days))


@dataclass(frozen=True)
class RootSoil:
    """Limits of the soil under N paddocks.

    wilting_point, field_capacity: (N,) m3 m-3.  evaporation_mm: depth of the evaporation layer.
    rew_mm: readily evaporable water (FAO-56 Table 19).  layer_mm: thickness of the layers.
    """

    wilting_point: Array
    field_capacity: Array
    evaporation_mm: float = EVAPORATION_MM
    rew_mm: float = REW_MM
    layer_mm: float = LAYER_MM


@dataclass(frozen=True)
class Water:
    """Input and demand on D days for N paddocks, (D, N) each, NaN where missing.

    first: days since 1970 of the first.
    """

    first: int
    rain_mm: Array
    et0_mm: Array
    irrigation_mm: Array


@dataclass(frozen=True)
class RootZone:
    """State at the end of D days for N paddocks, (D, N) each, NaN where unknown.

    depletion_mm: below field capacity in the zone with roots.  available_mm: between field
    capacity and wilting point there.  deep_depletion_mm: down to the greatest root depth.
    surface_depletion_mm: of the evaporation layer.  stress: K_s, 1 without.
    """

    depletion_mm: Array
    available_mm: Array
    deep_depletion_mm: Array
    surface_depletion_mm: Array
    stress: Array


@dataclass(frozen=True)
class RootStart:
    """Moisture before the first day, (N,) m3 m-3: of the zone and of the evaporation layer."""

    zone: Array
    surface: Array


def balance_root_zone(
    soil: RootSoil, crop: Crop, water: Water, start: RootStart, surface: Array | None = None
) -> RootZone:
    """Run the balance of one crop.

    surface: (D, N) moisture of the surface that corrects the evaporation layer, NaN on days
    without.
    From a day without rain or ET0 on the result is NaN: a balance does not recover from a gap.
    DataError where limits contradict.
    """
    wilting, capacity = soil.wilting_point, soil.field_capacity
    for i in np.flatnonzero(~(capacity > wilting))[:1]:
        raise DataError(
            f"paddock {i + 1}: field capacity {capacity[i]:g} is not above the wilting point "
            f"{wilting[i]:g}"
        )
    growth = _growth(crop, water.first + np.arange(len(water.rain_mm)))
    deepest = 1000 * crop.root_m[1]
    edges = np.linspace(0, deepest, max(round(deepest / soil.layer_mm), 1) + 1)
    thickness = edges[1]
    tew = (capacity - wilting / 2) * soil.evaporation_mm  # Eq 5
    rew = np.minimum(soil.rew_mm, 0.9 * tew)
    layer_taw = (capacity - wilting) * thickness
    de = np.clip((capacity - start.surface) * soil.evaporation_mm, 0, tew)
    depleted = np.clip((capacity - start.zone) * thickness, 0, layer_taw)
    depleted = np.repeat(depleted[None], len(edges) - 1, axis=0)
    made = np.full((5, *water.rain_mm.shape), np.nan)
    for t in range(len(growth.kcb)):
        kcb, roots = growth.kcb[t], growth.root_mm[t]
        demand, added = water.et0_mm[t], water.rain_mm[t] + water.irrigation_mm[t]
        kc_max = max(KC_MAX, kcb + 0.05)
        grown = max((kcb - crop.kcb[0]) / (kc_max - crop.kcb[0]), 0.0)
        bare = 1 - min(grown ** (1 + growth.height_m[t] / 2), 0.99)  # Eq 2
        kr = np.clip((tew - de) / (tew - rew), 0, 1)  # Eq 4
        ke = np.minimum(kr * (kc_max - kcb), bare * kc_max)  # Eq 3
        de = np.clip(np.maximum(de - added, 0) + ke * demand / bare, 0, tew)
        p = np.clip(crop.depletion + 0.04 * (5 - (ke + kcb) * demand), 0.1, 0.8)  # Eq 7
        layer_ks = np.clip((layer_taw - depleted) / ((1 - p) * layer_taw), 0, 1)  # Eq 6
        reached = np.minimum(edges / roots, 1)
        uptake = np.diff(reached * (2 - reached))[:, None] * layer_ks  # Eq 8
        depleted += uptake * kcb * demand  # Eq 10
        depleted[0] += ke * demand - added
        if surface is not None:
            seen = (capacity - surface[t]) * soil.evaporation_mm
            change = np.nan_to_num(SURFACE_GAIN * (np.clip(seen, 0, tew) - de))
            de = de + change
            depleted[0] += change
        depleted = _drain(depleted, layer_taw)
        rooted = np.diff(np.minimum(edges, roots)) / thickness
        zone = _total(depleted * rooted[:, None])
        taw = np.where(np.isnan(zone), np.nan, (capacity - wilting) * roots)
        made[:, t] = zone, taw, _total(depleted), de, _total(uptake)  # Eq 9
    return RootZone(made[0], made[1], made[2], made[3], made[4])


def _total(layers: Array) -> Array:
    """Add layers (L, N) from the top, so that a sum does not depend on the number of paddocks."""
    total: Array = np.cumsum(layers, axis=0)[-1]
    return total


def _drain(depleted: Array, layer_taw: Array) -> Array:
    """Return depletion (L, N) within 0 and ``layer_taw`` (N,).

    Water above field capacity drains into the next layer, and out of the last one. What a layer
    lacks below its wilting point is taken from the next.
    """
    made = np.empty_like(depleted)
    passed = np.zeros_like(layer_taw)
    for k, layer in enumerate(depleted):
        wanted = layer + passed
        made[k] = np.clip(wanted, 0, layer_taw)
        passed = wanted - made[k]
    return made


@dataclass(frozen=True)
class _Growth:
    """Basal crop coefficient, root depth in mm and height in m of a crop on days (D,)."""

    kcb: Array
    root_mm: Array
    height_m: Array


def _growth(crop: Crop, day: NDArray[np.int64]) -> _Growth:
    """Compute the state of a crop on days (D,); Eq 1."""
    ends = np.cumsum([0.0, *crop.stage_days])
    age = (day - crop.planted).astype(np.float64)
    first, mid, end = crop.kcb
    kcb = np.interp(age, ends, [first, first, mid, mid, end])
    grown = np.interp(age, ends[1:3], [0.0, 1.0])
    low, high = crop.root_m
    return _Growth(kcb, 1000 * (low + (high - low) * grown), crop.height_m * grown)


def exponential_filter(day: Array, sm: Array, days: float) -> Array:
    """Filter surface moisture (R,) at times (R,) in days with time constant ``days``; Eq 11.

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
