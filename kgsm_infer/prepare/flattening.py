"""γ⁰ by terrain flattening: β⁰ over the area that the terrain turns to the radar.

Small, "Flattening Gamma", IEEE TGRS 49 (2011): a cell of the image holds the echo of all the
terrain that falls into it; its γ⁰ is β⁰ · (area of the cell in the slant plane) / Σ area of that
terrain across the line of sight. sarsen sums by nearest cell. Its bilinear sum takes hundreds
of times longer, and is not offered.
"""

from __future__ import annotations

import numpy as np

from .geometry import SPEED_OF_LIGHT, Orbit, Seen, sarsen_or_reason
from .safe import Floats, Product

#: Samples of the image along a cell's side: a cell then holds terrain pixels enough.
CELL = 3


def flattened(product: Product, orbit: Orbit, at: Seen) -> Floats:
    """Return β⁰ that terrain of γ⁰ = 1 would have, (H, W); γ⁰ is the measured β⁰ over it. NaN where
    the terrain is not known or not seen."""
    sarsen = sarsen_or_reason()
    import xarray

    known = np.isfinite(at.slant_range_m) & np.isfinite(at.time_s)
    height, width = known.shape
    coords = {"axis": [0, 1, 2], "y": np.arange(height), "x": np.arange(width)}
    points = xarray.DataArray(at.earth_fixed_m, dims=("axis", "y", "x"), coords=coords)
    sight = xarray.DataArray(at.sight, dims=("axis", "y", "x"), coords=coords)
    area = sarsen.radiometry.compute_gamma_area(points, sight)
    since = np.where(known, at.time_s, np.nanmin(at.time_s)) * 1e9
    times = orbit.epoch + since.astype("timedelta64[ns]")
    slant_s = np.where(known, at.slant_range_m, np.nanmin(at.slant_range_m)) * 2 / SPEED_OF_LIGHT
    spacing_m = product.pixel_spacing_m * CELL
    weights = sarsen.radiometry.gamma_weights_nearest(
        xarray.Dataset(
            {
                "gamma_area": (("y", "x"), np.nan_to_num(area.values)),
                "slant_range_time": (("y", "x"), slant_s),
                "azimuth_time": (("y", "x"), times),
            },
            coords={"y": coords["y"], "x": coords["x"]},
        ),
        slant_range_time0=float(slant_s.min()),
        azimuth_time0=times.min(),
        slant_range_time_interval_s=spacing_m * 2 / SPEED_OF_LIGHT,
        azimuth_time_interval_s=product.line_interval_s * CELL,
        slant_range_spacing_m=spacing_m,
        azimuth_spacing_m=_azimuth_spacing_m(product) * CELL,
    ).values
    return np.where(known & (weights > 0), weights, np.nan)


def _azimuth_spacing_m(product: Product) -> float:
    """Return metres on the ground between lines: the tie points' distance over their lines."""
    from .geometry import earth_fixed

    tie = product.tie_points
    ground = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, np.zeros_like(tie.lat_deg.values))
    middle = ground[:, :, ground.shape[2] // 2]
    lines = tie.lon_deg.lines
    return float(np.linalg.norm(middle[:, -1] - middle[:, 0]) / (lines[-1] - lines[0]))
