"""Compare σ⁰ on a grid with sarsen's, on a product of known σ⁰. 10 × 10 km at 10 m.

    PYTHONPATH=tests python benchmarks/sigma0.py PRODUCT.SAFE [--side 1000] [--box WEST,NORTH]

The annotation is real and the measurement simulated from it. The ground is 100 m above the
ellipsoid with hills of ±60 m. Each method runs in a separate process. Time is CPU time, which a
busy machine disturbs less, and is printed as a ratio to sarsen's. sarsen returns β⁰ with noise.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

WAYS = ("sarsen", "sigma0", "gamma0")
TRUE = 0.02  # σ⁰, -17 dB


def make(product: Path, folder: Path, side: int, corner: tuple[float, float]) -> None:
    """Write the simulated product and a DEM on the target grid, as sarsen requires."""
    import rasterio
    from made_safe import simulated_safe

    from kgsm_infer.prepare.geometry import earth_fixed, locate, orbit_of
    from kgsm_infer.prepare.grids import grid_of
    from kgsm_infer.prepare.heights import lon_lat
    from kgsm_infer.prepare.safe import read_product
    from kgsm_infer.scenes.grid import Grid

    west, north = corner
    first = grid_of((west, north - 0.01, west + 0.01, north), "EPSG:4326", 10)
    transform = rasterio.Affine(*first.transform)
    y, x = np.mgrid[:side, :side]
    heights = (100 + 60 * np.sin(x / 60) * np.cos(y / 45)).astype(np.float32)
    options: dict[str, Any] = {"height": side, "width": side, "crs": first.crs}
    with rasterio.open(
        folder / "dem.tif", "w", "GTiff", count=1, dtype="float32", transform=transform, **options
    ) as file:
        file.write(heights, 1)
    opened, coarse = read_product(product), Grid(first.crs, first.transform, side, side)
    lon, lat = lon_lat(coarse)
    at = locate(opened, orbit_of(opened), earth_fixed(lon, lat, heights.astype(float)))
    spans = [
        (max(0, int(where.min()) - 50), min(size, int(where.max()) + 50))
        for where, size in ((at.line, opened.lines), (at.pixel, opened.samples))
    ]
    simulated_safe(product, folder, lambda _, p: TRUE * (1 + 0.3 * np.sin(p / 9)), *spans)


def facts(path: Path) -> None:
    """Print noise, tie points and angles of the product's annotation."""
    from kgsm_infer.prepare.calibration import read_calibration
    from kgsm_infer.prepare.geometry import earth_fixed, locate, orbit_of
    from kgsm_infer.prepare.safe import read_product

    product = read_product(path)
    calibration = read_calibration(next(iter(product.channels.values())))
    lines, pixels = np.arange(0, product.lines, 20.0), np.arange(0, product.samples, 20.0)
    noise, scale = calibration.noise.on(lines, pixels), calibration.sigma.on(lines, pixels)
    some = noise > 0
    floor = noise[some] / scale[some] ** 2
    for level_db in (-10, -15, -20):
        added = 10 * np.log10(1 + floor / 10 ** (level_db / 10))
        print(
            f"noise left in at {level_db} dB adds {np.median(added):.2f} dB in the median, "
            f"{added.max():.2f} at most"
        )
    block = calibration.noise.azimuth[0]
    first = np.interp(lines, block.lines, block.values)[:, None]
    other = (calibration.noise.range_.on(lines, pixels) * first)[some] / noise[some]
    print(f"the first azimuth vector for all swaths: {np.abs(10 * np.log10(other)).max():.2f} dB")
    tie, orbit = product.tie_points, orbit_of(product)
    points = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, tie.height_m.values)
    at = locate(product, orbit, points)
    line, pixel = np.meshgrid(tie.lon_deg.lines, tie.lon_deg.pixels, indexing="ij")
    off = np.abs(at.line - line).max(), np.abs(at.pixel - pixel).max()
    print(f"tie points by orbit: within {off[0]:.2f} lines, {off[1]:.2f} samples")
    raised = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, tie.height_m.values + 48.6)
    shift = np.abs(locate(product, orbit, raised).pixel - at.pixel) * product.pixel_spacing_m
    print(f"48.6 m of height move a point by {shift.min():.0f} to {shift.max():.0f} m")
    lon, lat = np.radians(tie.lon_deg.values), np.radians(tie.lat_deg.values)
    up = np.stack([np.cos(lat) * np.cos(lon), np.cos(lat) * np.sin(lon), np.sin(lat)])
    level = earth_fixed(tie.lon_deg.values, tie.lat_deg.values, np.full(line.shape, 50.0))
    low = locate(product, orbit, level)
    own = np.degrees(np.arccos(-(up * low.sight).sum(axis=0)))
    apart = np.abs(tie.angle_deg.at(low.line, low.pixel) - own).max()
    print(f"angle of the geolocation grid against the orbit's at 50 m: within {apart:.2f} degrees")


def run(way: str, folder: Path, side: int) -> None:
    """Run one method in this process; print CPU seconds, MB and the median of 10 log10 (σ⁰)."""
    import rasterio

    safe, dem = next(folder.glob("*.SAFE")), folder / "dem.tif"
    if way == "sarsen":
        import sarsen

        sarsen.terrain_correction(
            sarsen.Sentinel1SarProduct(str(safe), "IW/VV"),
            dem_urlpath=str(dem),
            output_urlpath=str(folder / "sarsen.tif"),
            convert_to_dem_ecef_kwargs={"source_crs": None},
        )
        made = folder / "sarsen.tif"
    else:
        from kgsm_infer.prepare.heights import Terrain
        from kgsm_infer.prepare.sampling import Options
        from kgsm_infer.prepare.sigma0 import passes_of, prepare_pass
        from kgsm_infer.scenes.grid import Grid

        with rasterio.open(dem) as file:
            grid = Grid(file.crs.to_wkt(), tuple(file.transform)[:6], file.width, file.height)
        (frames,) = passes_of([safe]).passes
        options = Options(gamma0=way == "gamma0")
        report = prepare_pass(frames, Terrain((dem,), "ellipsoid"), grid, folder / way, options)
        made = report.files[0]
    spent = resource.getrusage(resource.RUSAGE_SELF)
    with rasterio.open(made) as dataset:
        db = float(10 * np.log10(np.nanmedian(dataset.read(1))))
    found = {"cpu_s": spent.ru_utime + spent.ru_stime, "mb": spent.ru_maxrss / 1024, "db": db}
    print(json.dumps(found))


def main() -> None:
    """Simulate the product, run each method and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("product", type=Path)
    parser.add_argument("--side", type=int, default=1000)
    parser.add_argument("--box", default="12.45,42.05")
    parser.add_argument("--way")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    if asked.way:
        run(asked.way, asked.product, asked.side)
        return
    facts(asked.product)
    west, north = (float(value) for value in asked.box.split(","))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make(asked.product, folder, asked.side, (west, north))
        rows = {}
        for way in WAYS:
            command = [sys.executable, __file__, str(folder), "--side", str(asked.side)]
            done = subprocess.run(
                [*command, "--way", way],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"{way} failed: {done.stderr.strip().splitlines()[-1][:200]}")
            rows[way] = json.loads(done.stdout.splitlines()[-1])
    print("| way | CPU time, sarsen = 1 | peak MB | median, true σ⁰ is −17.0 dB |")
    print("| --- | --- | --- | --- |")
    for way, row in rows.items():
        share = row["cpu_s"] / rows["sarsen"]["cpu_s"]
        print(f"| {way} | {share:.2f} | {row['mb']:.0f} | {row['db']:.2f} |")


if __name__ == "__main__":
    main()
