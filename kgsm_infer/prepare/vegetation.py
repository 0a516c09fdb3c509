"""Vegetation water content from NDVI and land cover.

    VWC = 1.9134 N**2 - 0.3215 N + stem (N_ref - N_min) / (1 - N_min)          kg m-2

Chan et al. (2013), SMAP Ancillary Data Report: Vegetation Water Content (JPL D-53061): the
foliage rule of :mod:`kgsm_infer.kernels.wcm` and a stem factor for each land cover. N_ref is
the year's largest NDVI, but the day's own in grassland and cropland, whose stems come and go;
N_min the year's smallest.

B of the water cloud model (Eq 5) by land cover: Bindlish & Barros (2001), Remote Sensing of
Environment 76, C band with VWC as the vegetation descriptor: pasture 0.084 (the paper's
default), winter wheat 0.138, rangeland 0.032, all land uses 0.091.

ESA WorldCover's classes are wider than those the numbers were made for (IGBP; four land uses):
each class takes the nearest, named below.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..kernels.wcm import vwc_from_ndvi

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Cover:
    """A WorldCover class. b: m2 kg-1, NaN where radar does not see soil.

    stem_kg_m2: factor of the stem term.  own_stem: N_ref is the day's NDVI, not the year's.
    nearest: the IGBP class and the land use its numbers are from.
    """

    code: int
    name: str
    stem_kg_m2: float
    b: float
    own_stem: bool
    nearest: str


WORLDCOVER: tuple[Cover, ...] = (
    Cover(10, "tree cover", 12.77, np.nan, False, "mixed forest; soil not seen in C band"),
    Cover(20, "shrubland", 1.50, 0.032, False, "open shrubland; rangeland"),
    Cover(30, "grassland", 1.50, 0.084, True, "grassland; pasture"),
    Cover(40, "cropland", 3.50, 0.138, True, "cropland; winter wheat"),
    Cover(50, "built-up", 6.49, np.nan, False, "urban; soil not seen"),
    Cover(60, "bare or sparse vegetation", 0.0, 0.091, False, "barren; all land uses"),
    Cover(70, "snow and ice", 0.0, np.nan, False, "snow; soil not seen"),
    Cover(80, "permanent water", 0.0, np.nan, False, "water; no soil"),
    Cover(90, "herbaceous wetland", 4.00, np.nan, False, "wetland; standing water"),
    Cover(95, "mangroves", 19.15, np.nan, False, "evergreen broadleaf forest; soil not seen"),
    Cover(100, "moss and lichen", 0.0, 0.091, False, "barren; all land uses"),
)


def of_cover(worldcover: ArrayLike, what: str) -> Floats:
    """Return ``stem_kg_m2`` or ``b`` of each pixel of a WorldCover map; NaN for an unknown class.

    >>> of_cover([30, 40, 0], "b").tolist()
    [0.084, 0.138, nan]
    """
    worldcover = np.asarray(worldcover)
    found = np.full(worldcover.shape, np.nan)
    for cover in WORLDCOVER:
        found[worldcover == cover.code] = getattr(cover, what)
    return found


def vwc_of(ndvi: ArrayLike, n_max: ArrayLike, n_min: ArrayLike, worldcover: ArrayLike) -> Floats:
    """Return VWC, kg m-2, of one day; n_max, n_min: of the year.  NaN where any is missing.

    >>> vwc_of(0.5, 0.8, 0.1, 40).round(3).tolist()  # 0.318 + 3.5 * 0.4 / 0.9
    1.873
    """
    ndvi, n_max, n_min = (np.asarray(x, np.float64) for x in (ndvi, n_max, n_min))
    own = np.isin(worldcover, [cover.code for cover in WORLDCOVER if cover.own_stem])
    low = np.maximum(n_min, 0.0)  # the least NDVI of vegetation is not water's or snow's
    with np.errstate(invalid="ignore", divide="ignore"):
        share = np.clip((np.where(own, ndvi, n_max) - low) / (1 - low), 0, 1)
        stem = of_cover(worldcover, "stem_kg_m2") * share
    return np.asarray(vwc_from_ndvi(ndvi) + stem, np.float64)
