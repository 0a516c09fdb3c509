"""Layers of known products, as keys of a manifest."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

from ..base.plugins import Provided

_OWN: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # COPERNICUS/S1_GRD exported as GeoTIFF: sigma0 in dB, with the angle; masked is 0
    "earthengine-grd": {
        "vh_db": {"files": "{files}", "band": "VH", "nodata": 0},
        "vv_db": {"files": "{files}", "band": "VV", "nodata": 0},
        "angle_deg": {"files": "{files}", "band": "angle", "nodata": 0},
    },
    # ASF HyP3 RTC, gamma0 in power (its default); the incidence angle maps are in radians
    "hyp3-rtc": {
        "vh_gamma0_linear": {"files": "{files}*_VH.tif", "nodata": 0},
        "vv_gamma0_linear": {"files": "{files}*_VV.tif", "nodata": 0},
        "angle_deg": {"files": "{files}*_inc_map_ell.tif", "nodata": 0, "scale": 180 / math.pi},
    },
    # OPERA_L2_RTC-S1, gamma0 linear; the angle is in the burst's STATIC product, degrees
    "opera-rtc-s1": {
        "vh_gamma0_linear": {"files": "{files}*_VH.tif"},
        "vv_gamma0_linear": {"files": "{files}*_VV.tif"},
    },
    # sentinel-1-rtc of Planetary Computer: gamma0 linear, the date in the item's folder
    "planetary-rtc": {
        "vh_gamma0_linear": {"files": "{files}*vh.rtc.tif*", "nodata": -32768},
        "vv_gamma0_linear": {"files": "{files}*vv.rtc.tif*", "nodata": -32768},
    },
    # Copernicus Data Space openEO / Sentinel Hub: sigma0 ellipsoid, linear; empty is 0 or NaN
    "cdse": {
        "vh_linear": {"files": "{files}", "band": "VH", "nodata": 0},
        "vv_linear": {"files": "{files}", "band": "VV", "nodata": 0},
    },
    # WorldCereal preprocessed inputs (NetCDF, uint16): dB = 20 log10(DN) - 83, S2 x 10,000
    "worldcereal": {
        "vh_db": {
            "file": "{files}",
            "variable": "S1-SIGMA0-VH",
            "amplitude_db": -83.0,
            "nodata": 65535,
        },
        "vv_db": {
            "file": "{files}",
            "variable": "S1-SIGMA0-VV",
            "amplitude_db": -83.0,
            "nodata": 65535,
        },
        "red": {"file": "{files}", "variable": "S2-L2A-B04", "scale": 1e-4, "nodata": 65535},
        "nir": {"file": "{files}", "variable": "S2-L2A-B08", "scale": 1e-4, "nodata": 65535},
    },
}


def _not_layers(content: Any) -> str:
    """Return the reason why an object is not a preset; empty for one that is."""
    if not isinstance(content, Mapping) or not content:
        return "not a mapping of layers"
    for name, keys in content.items():
        if not isinstance(name, str) or not isinstance(keys, Mapping) or not keys:
            return f"layer {name!r} is not a mapping of keys"
    return ""


#: Product -> layer -> the layer's keys. ``{files}`` is the manifest's own ``files``; its
#: layers may be changed or added to by ``[layers.…]``. Other packages add to them.
PRESETS = Provided("kgsm.presets", _not_layers, _OWN)

#: In a HyP3 product's name: gamma0 or sigma0; power, amplitude or decibel; water mask, filter, ...
_HYP3 = re.compile(r"_([gs])([pad])[uw][nf][ec][dm]_[0-9A-F]{4}(?=[_.]|$)", re.IGNORECASE)
_RADIOMETRY = {"g": "gamma0_", "s": ""}
_SCALE = {"p": "linear", "d": "db", "a": "amplitude"}


def form_in_name(path: str) -> str | None:
    """Return the form of backscatter by a product's name; None where the name does not say.

    One of BACKSCATTER_FORMS, or ``amplitude`` or ``gamma0_amplitude``, whose square is linear.

    >>> form_in_name("S1A_IW_20180128T161201_DVP_RTC30_G_sduned_FD6A_VH.tif")
    'db'
    >>> form_in_name("S1A_IW_20180128T161201_DVP_RTC30_G_gauned_FD6A/a_VH.tif")
    'gamma0_amplitude'
    """
    for part in reversed(PurePath(path).parts):
        found = _HYP3.search(part)
        if found:
            return _RADIOMETRY[found[1].lower()] + _SCALE[found[2].lower()]
    return None
