"""Driest and wettest soil moisture of a soil's texture, for fields without measured limits.

Saxton & Rawls (2006), *Soil Water Characteristic Estimates by Texture and Organic Matter for
Hydrologic Solutions*, Soil Science Society of America Journal 70, 1569-1578, equations 1-5 of its
Table 1: a regression on 1,722 samples of US soils. S and C are mass fractions of sand and clay
(0-1), OM is organic matter in percent of mass; all water contents are m3 m-3.

The wilting point (1500 kPa) represents the driest a field's top 5 cm becomes, saturation for the
wettest. The top dries below the wilting point in a long drought and rarely saturates: these are
limits of a kind, not measurements.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.errors import DataError

NAME = "Saxton & Rawls (2006)"
#: Organic matter where none is stated: the 2.5 % the paper's Table 3 is made with.
ORGANIC_MATTER_PERCENT = 2.5
#: The regression was made of soils with less clay than this.
MOST_CLAY = 0.6

Array = NDArray[np.float64]


@dataclass(frozen=True)
class WaterLimits:
    """Wilting point (1500 kPa), field capacity (33 kPa) and saturation, m3 m-3, of one shape."""

    wilting_point: Array
    field_capacity: Array
    saturation: Array


def dry_and_wet(
    sand: ArrayLike, clay: ArrayLike, organic_matter_percent: ArrayLike = ORGANIC_MATTER_PERCENT
) -> tuple[Array, Array]:
    """Return wilting point and saturation, m3 m-3; inputs and errors as :func:`water_limits`.

    >>> dry, wet = dry_and_wet(sand=0.40, clay=0.20)     # loam, Table 3: 14 % and 46 %
    >>> float(dry.round(2)), float(wet.round(2))
    (0.14, 0.46)
    """
    limits = water_limits(sand, clay, organic_matter_percent)
    return limits.wilting_point, limits.saturation


def water_limits(
    sand: ArrayLike, clay: ArrayLike, organic_matter_percent: ArrayLike = ORGANIC_MATTER_PERCENT
) -> WaterLimits:
    """Return the water limits of a texture, of the shape the inputs broadcast to.

    sand, clay: mass fractions, 0-1. NaN gives NaN, and so does clay above MOST_CLAY, for which
    the equations were not made. DataError for what cannot be a fraction (30 for 30 %).

    >>> float(water_limits(sand=0.40, clay=0.20).field_capacity.round(2))     # Table 3: 28 %
    0.28
    """
    s, c, om = np.broadcast_arrays(
        *(np.asarray(part, np.float64) for part in (sand, clay, organic_matter_percent))
    )
    for name, values in (("sand", s), ("clay", c), ("sand and clay together", s + c)):
        bad = np.isfinite(values) & ((values < 0) | (values > 1 + 1e-9))
        if bad.any():
            value = values[bad].flat[0]
            cause = "; in percent? divide by 100" if 1 < value <= 100 else ""
            raise DataError(f"{name}: {value:g} is not a mass fraction (0 to 1){cause}")
    known = c <= MOST_CLAY
    # theta_1500t, then theta_1500                                                    (1)
    first = -0.024 * s + 0.487 * c + 0.006 * om + 0.005 * s * om - 0.013 * c * om
    first = first + 0.068 * s * c + 0.031
    wilting_point = first + (0.14 * first - 0.02)
    # theta_33t, then theta_33                                                        (2)
    first = -0.251 * s + 0.195 * c + 0.011 * om + 0.006 * s * om - 0.027 * c * om
    first = first + 0.452 * s * c + 0.299
    field_capacity = first + (1.283 * first**2 - 0.374 * first - 0.015)
    # theta_(S-33)t, then theta_(S-33)                                                (3)
    first = 0.278 * s + 0.034 * c + 0.022 * om - 0.018 * s * om - 0.027 * c * om
    first = first - 0.584 * s * c + 0.078
    above_capacity = first + (0.636 * first - 0.107)
    # theta_S = theta_33 + theta_(S-33) - 0.097 S + 0.043                             (5)
    saturation = field_capacity + above_capacity - 0.097 * s + 0.043
    nan = np.float64(np.nan)
    return WaterLimits(
        *(np.where(known, part, nan) for part in (wilting_point, field_capacity, saturation))
    )
