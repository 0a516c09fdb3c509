"""Surface reflectance of optical products: what their numbers mean and which pixels to trust.

Arrays in, arrays out. Missing, masked and impossible is NaN: reflectance outside 0 .. 1, which
atmospheric correction leaves over dark water, bright cloud and saturated pixels.

Sources, by product
    Landsat 4-9 Collection 2 Level 2: USGS, Landsat 8-9 and 4-7 Collection 2 Level 2 Science
        Product Guides (LSDS-1619, LSDS-1618): scale and offset of SR bands, QA_PIXEL bits
    Landsat NBAR(T) of Digital Earth Australia (ga_ls*_ard_3): product pages; fmask classes
    Sentinel-2 Level 2A: ESA, Products Definition Document; BOA_ADD_OFFSET of processing
        baseline 04.00 (from 2022-01-25); scene classification (SCL) of the L2A ATBD
    MODIS MCD43A4 v061: LP DAAC product page and user guide: scale, fill, mandatory quality;
        snow from MCD43A2
Albedo, broadband shortwave, from narrow bands
    Liang (2001), Remote Sensing of Environment 76: Landsat and MODIS
    Bonafoni & Sekertekin (2020), IEEE Geoscience and Remote Sensing Letters 17(9): Sentinel-2
    They were made for spectral albedos; on reflectance seen from one side they are an estimate.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..tables.columns import ndvi_of

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Optical:
    """A product. reflectance = scale * stored + offset; fill and what is outside low .. high
    of the stored numbers is missing. albedo: weight of each band, and a constant under ``""``.
    """

    name: str
    title: str
    scale: float
    offset: float
    low: int
    high: int
    albedo: Mapping[str, float]
    citation: str


_LIANG_LANDSAT = {
    "blue": 0.356, "red": 0.130, "nir": 0.373, "swir1": 0.085, "swir2": 0.072, "": -0.0018,
}  # fmt: skip
_LIANG_MODIS = {
    "red": 0.160, "nir": 0.291, "blue": 0.243, "green": 0.116, "nir2": 0.112, "swir2": 0.081,
    "": -0.0015,
}  # fmt: skip
_BONAFONI_S2 = {
    "blue": 0.2266, "green": 0.1236, "red": 0.1573, "nir": 0.3417, "swir1": 0.1170,
    "swir2": 0.0338, "": 0.0,
}  # fmt: skip

PRODUCTS: Mapping[str, Optical] = {
    product.name: product
    for product in (
        Optical("landsat", "Landsat Collection 2 Level 2", 2.75e-5, -0.2, 1, 65535,
                _LIANG_LANDSAT, "Liang (2001)"),
        Optical("nbar", "Landsat NBAR, Digital Earth Australia", 1e-4, 0.0, 1, 10000,
                _LIANG_LANDSAT, "Liang (2001)"),
        # the offset is the scene's own: BOA_ADD_OFFSET / 10000
        Optical("sentinel2", "Sentinel-2 Level 2A", 1e-4, 0.0, 1, 65534,
                _BONAFONI_S2, "Bonafoni & Sekertekin (2020)"),
        Optical("modis", "MODIS MCD43A4 NBAR", 1e-4, 0.0, 0, 32766,
                _LIANG_MODIS, "Liang (2001)"),
    )
}  # fmt: skip

#: QA_PIXEL bits that spoil a pixel: fill, dilated cloud, cirrus, cloud, cloud shadow.
_LANDSAT_BAD = 0b11111
_LANDSAT_SNOW = 1 << 5
#: SCL: no data, saturated, cloud shadow, cloud (medium, high), thin cirrus; and snow.
_SCL_BAD = (0, 1, 3, 8, 9, 10)
_SCL_SNOW = 11
#: fmask: no data, cloud, cloud shadow; and snow. 1 is clear land, 5 water.
_FMASK_BAD = (0, 2, 3)
_FMASK_SNOW = 4


def reflectance(product: Optical, stored: ArrayLike, add: float = 0.0) -> Floats:
    """Convert stored numbers to surface reflectance, 0 .. 1; NaN where missing.

    add: offset of the scene in stored numbers, BOA_ADD_OFFSET of Sentinel-2 (-1000 from
    baseline 04.00 on).

    >>> reflectance(PRODUCTS["landsat"], [0, 7273, 18000]).round(4).tolist()
    [nan, 0.0, 0.295]
    >>> reflectance(PRODUCTS["sentinel2"], [0, 3000], add=-1000).tolist()
    [nan, 0.2]
    """
    stored = np.asarray(stored, np.float64)
    with np.errstate(invalid="ignore"):
        present = (stored >= product.low) & (stored <= product.high)
        value = product.scale * (stored + add) + product.offset
        return np.where(present & (value >= 0) & (value <= 1), value, np.nan)


def landsat_clear(qa_pixel: ArrayLike, snow: bool = False) -> Bools:
    """Return true for usable Landsat Collection 2 pixels. snow: keep snow too.

    >>> landsat_clear([1, 1 << 3, 1 << 4, 1 << 5, 1 << 6]).tolist()
    [False, False, False, False, True]
    """
    qa = np.asarray(qa_pixel, np.int64)
    bad = (qa & (_LANDSAT_BAD if snow else _LANDSAT_BAD | _LANDSAT_SNOW)) != 0
    return np.asarray((qa != 0) & ~bad)  # no pixel of a scene is 0: even clear ones have bits


def fmask_clear(fmask: ArrayLike, snow: bool = False) -> Bools:
    """Return true for usable pixels of a Landsat NBAR of Digital Earth Australia."""
    return ~np.isin(fmask, _FMASK_BAD if snow else (*_FMASK_BAD, _FMASK_SNOW))


def scl_clear(scl: ArrayLike, snow: bool = False) -> Bools:
    """Return true for usable Sentinel-2 pixels, by their scene classification.

    >>> scl_clear([0, 3, 4, 5, 9, 11]).tolist()
    [False, False, True, True, False, False]
    """
    return ~np.isin(scl, _SCL_BAD if snow else (*_SCL_BAD, _SCL_SNOW))


def modis_clear(
    quality: ArrayLike, snow_flag: ArrayLike | None = None, snow: bool = False, best: bool = False
) -> Bools:
    """Return true for usable MCD43A4 pixels, by a band's mandatory quality.

    quality: 0 is a full BRDF inversion, 1 a magnitude inversion (kept unless ``best``), 255
    fill.  snow_flag: Snow_BRDF_Albedo of MCD43A2, 1 is snow; without it snow is not known.
    """
    quality = np.asarray(quality)
    clear = quality == 0 if best else quality <= 1
    if snow_flag is not None:
        flag = np.asarray(snow_flag)
        clear &= (flag == 0) | (snow & (flag == 1))
    return np.asarray(clear, bool)


def ndvi(bands: Mapping[str, Floats], clear: Bools) -> Floats:
    """Return (nir - red) / (nir + red) of reflectances; NaN where masked."""
    return np.where(clear, ndvi_of(bands["red"], bands["nir"]), np.nan)


def albedo(product: Optical, bands: Mapping[str, Floats], clear: Bools) -> Floats:
    """Return broadband shortwave albedo, 0 .. 1; NaN where masked, or where a band is missing."""
    weights: dict[str, Any] = dict(product.albedo)
    parts = (weight * bands[band] for band, weight in weights.items() if band)
    total = sum(parts, start=np.float64(weights[""]))
    with np.errstate(invalid="ignore"):
        return np.where(clear & (total >= 0) & (total <= 1), total, np.nan)
