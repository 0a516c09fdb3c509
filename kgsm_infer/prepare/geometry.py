"""Locate points on the ground in a GRD image, and compute the incidence angle.

Guide to Sentinel-1 Geocoding, UZH-S1-GC-AD 1.10: the zero-Doppler time of a point is where
(X − S(t)) · V(t) = 0. sarsen fits the orbit (degree 5; residual of the state vectors below
1 mm) and solves it, by Newton; its time and slant range are then line and pixel by the
annotation's own polynomials.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base.extras import optional
from .safe import Floats, Product

SPEED_OF_LIGHT = 299_792_458.0  # m/s


@dataclass(frozen=True)
class Orbit:
    """sarsen's interpolator, and the epoch its times (s) count from."""

    interpolator: Any
    epoch: np.datetime64


@dataclass(frozen=True)
class Seen:
    """Points as the radar saw them; each (H, W). NaN where a point has no height.

    line, pixel: in the image, fractions kept.  slant_range_m.  time_s: since the epoch.
    local_angle_deg: between the line of sight and the normal of the terrain.
    """

    line: Floats
    pixel: Floats
    slant_range_m: Floats
    time_s: Floats
    local_angle_deg: Floats
    earth_fixed_m: Floats
    sight: Floats


def sarsen_or_reason() -> Any:
    """Import sarsen; MissingError names the extra."""
    return optional("sarsen", "geocoding", "orbit", "radiometry", what="sigma0")


def orbit_of(product: Product) -> Orbit:
    """Make the orbit of a product from its state vectors."""
    sarsen = sarsen_or_reason()
    import xarray

    times = product.state_times.astype("datetime64[ns]")
    positions = xarray.DataArray(
        product.state_positions_m.T,
        dims=("axis", "azimuth_time"),
        coords={"axis": [0, 1, 2], "azimuth_time": times},
    )
    fitted = sarsen.orbit.OrbitPolyfitInterpolator.from_position(positions)
    return Orbit(fitted, fitted.epoch)


def earth_fixed(lon_deg: Floats, lat_deg: Floats, height_m: Floats) -> Floats:
    """Return (3, H, W) metres, EPSG:4978, of WGS 84 longitude, latitude, ellipsoidal height."""
    import pyproj

    to = pyproj.Transformer.from_crs("EPSG:4979", "EPSG:4978", always_xy=True)
    flat = to.transform(lon_deg, lat_deg, np.where(np.isfinite(height_m), height_m, 0.0))
    return np.where(np.isfinite(height_m), np.asarray(flat), np.nan)


def locate(product: Product, orbit: Orbit, points_m: Floats) -> Seen:
    """Return image positions and local angles of a grid of points, (3, H, W) earth-fixed."""
    sarsen = sarsen_or_reason()
    import xarray

    _, height, width = points_m.shape
    array = xarray.DataArray(
        points_m,
        dims=("axis", "y", "x"),
        coords={"axis": [0, 1, 2], "y": np.arange(height), "x": np.arange(width)},
    )
    found = sarsen.geocoding.backward_geocode(
        array, orbit.interpolator, zero_doppler_distance=1e-4, method="newton"
    )
    sight = found.dem_distance.transpose("axis", "y", "x").values
    slant_range_m = np.sqrt(np.sum(sight**2, axis=0))
    times = found.azimuth_time.values
    missing = np.isnat(times) | ~np.isfinite(slant_range_m)
    one_second = np.timedelta64(1, "s")
    time_s = np.where(missing, np.nan, (times - orbit.epoch) / one_second)
    start_s = float((product.first_line.astype("datetime64[ns]") - orbit.epoch) / one_second)
    ground_m = ground_range(product, orbit, time_s, slant_range_m)
    sight = sight / slant_range_m
    return Seen(
        (time_s - start_s) / product.line_interval_s,
        ground_m / product.pixel_spacing_m,
        slant_range_m,
        time_s,
        local_angle(points_m, sight),
        points_m,
        sight,
    )


def ground_range(product: Product, orbit: Orbit, time_s: Floats, slant_range_m: Floats) -> Floats:
    """Return metres along the ground from pixel 0: Σ_k c_k (R − R0)^k, c linear in time.

    Sentinel-1 Product Specification §6.3.1.7, srgrCoefficients.
    """
    knots = (product.ground_times.astype("datetime64[ns]") - orbit.epoch) / np.timedelta64(1, "s")
    x = slant_range_m - np.interp(time_s, knots, product.ground_origin_m)
    total = np.zeros_like(x)
    for k in reversed(range(product.ground_coefficients.shape[1])):
        total = total * x + np.interp(time_s, knots, product.ground_coefficients[:, k])
    return np.where(np.isfinite(slant_range_m), total, np.nan)


def local_angle(points_m: Floats, sight: Floats) -> Floats:
    """Return degrees between the terrain's normal and the way back to the radar, (H, W).

    points_m: (3, H, W) earth-fixed; sight: unit vectors from the radar to the points. The
    normal is the cross product of central differences, turned outward. Above 90° the surface
    faces away: radar shadow.
    """
    along = np.stack([np.gradient(axis, axis=1) for axis in points_m])
    down = np.stack([np.gradient(axis, axis=0) for axis in points_m])
    normal = np.cross(along, down, axis=0)
    outward = np.sign(np.sum(normal * points_m, axis=0))
    with np.errstate(invalid="ignore", divide="ignore"):
        cosine = -np.sum(normal * outward * sight, axis=0) / np.sqrt(np.sum(normal**2, axis=0))
        return np.asarray(np.degrees(np.arccos(np.clip(cosine, -1, 1))))
