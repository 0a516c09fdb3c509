"""Write SAFE products of known σ⁰ from real annotation.

    DN = round(√(σ⁰ · A_σ² + noise))

The measurement is simulated, and everything made from it says SIMULATED.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import UsageError
from kgsm_infer.prepare.calibration import read_calibration
from kgsm_infer.prepare.safe import SIMULATED, Floats, read_product
from kgsm_infer.scenes.gdal import rasterio_or_reason

#: A box at Rome; the lines and samples of the product that are filled around it.
WEST, SOUTH, EAST, NORTH = 12.485, 41.988, 12.497, 41.997
FILLED = {"lines": (7950, 8400), "samples": (22000, 22450)}
#: Day -> σ⁰ of VH.
PASSES = {"20211211": 0.020, "20211223": 0.030, "20220104": 0.025}
UTM = "EPSG:32633"

#: Lines written at a time.
LINES = 1024

#: σ⁰, linear, at lines (L,) and samples (P,) of an image: (L, P) or a number; NaN for DN 0.
Truth = Callable[[Floats, Floats], NDArray[np.float64] | float]


def simulated_safe(
    source: str | Path,
    folder: str | Path,
    truth: Truth,
    lines: tuple[int, int] | None = None,
    samples: tuple[int, int] | None = None,
) -> Path:
    """Copy a product's annotation to a folder and write its measurement anew.

    Only ``lines`` and ``samples`` (first, last + 1) are filled, the rest is DN 0. Returns the
    new SAFE folder, which has the source's name. UsageError where it exists.
    """
    rasterio = rasterio_or_reason()
    product = read_product(source)
    target = Path(folder) / product.path.name
    if target.exists():
        raise UsageError(f"{target}: exists")
    shutil.copytree(
        product.path,
        target,
        ignore=shutil.ignore_patterns("*.tif", "*.tiff"),
        copy_function=shutil.copyfile,
    )
    for made in [target, *target.rglob("*")]:
        made.chmod(0o755 if made.is_dir() else 0o644)
    first, last = lines or (0, product.lines)
    left, right = samples or (0, product.samples)
    for channel in product.channels.values():
        calibration = read_calibration(channel)
        with rasterio.open(
            target / "measurement" / channel.measurement.name,
            "w",
            driver="GTiff",
            dtype="uint16",
            count=1,
            height=product.lines,
            width=product.samples,
            compress="deflate",
            zlevel=1,
            blockysize=1,
            sparse_ok=True,
        ) as dataset:
            dataset.update_tags(TIFFTAG_IMAGEDESCRIPTION=f"{SIMULATED} measurement, kgsm")
            pixels = np.arange(left, right, dtype=float)
            for top in range(first, last, LINES):
                rows = np.arange(top, min(top + LINES, last), dtype=float)
                sigma0 = np.broadcast_to(truth(rows, pixels), (len(rows), len(pixels)))
                scale = calibration.sigma.on(rows, pixels)
                power = sigma0 * scale**2 + calibration.noise.on(rows, pixels)
                number = np.rint(np.sqrt(np.nan_to_num(power, nan=0.0))).astype(np.uint16)
                window = rasterio.windows.Window(left, top, len(pixels), len(rows))
                dataset.write(number, 1, window=window)
    return target


def around(path: Path, values: np.ndarray, step: float) -> Path:
    """A raster of UTM metres over Rome."""
    rasterio = rasterio_or_reason()
    path.parent.mkdir(parents=True, exist_ok=True)
    transform = rasterio.Affine(step, 0, 290_000, 0, -step, 4_654_000)
    shape = {"height": values.shape[0], "width": values.shape[1], "crs": UTM}
    kind = {"driver": "GTiff", "count": 1, "dtype": values.dtype}
    with rasterio.open(path, "w", transform=transform, **kind, **shape) as dataset:
        dataset.write(values, 1)
    return path


def of_day(real: Path, folder: Path, day: str, sigma0: float) -> Path:
    """The product at hand, both polarisations, as if flown on another day; VH of known sigma0."""
    template = folder / "template" / real.name.replace("20211223", day)
    shutil.copytree(real, template, copy_function=shutil.copyfile)
    for path in [template, *template.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    dashed = f"{day[:4]}-{day[4:6]}-{day[6:]}"
    for path in [path for path in template.rglob("*") if path.is_file()]:
        if path.suffix in (".xml", ".safe"):
            text = path.read_text().replace("2021-12-23T", f"{dashed}T")
            path.write_text(text.replace("20211223t", f"{day}t"))
        own = path.rename(path.with_name(path.name.replace("20211223", day)))
        if "-vv-" in own.name:
            shutil.copyfile(own, own.with_name(own.name.replace("-vv-", "-vh-")))
    return simulated_safe(template, folder / "made", lambda *_: sigma0, **FILLED)


def landsat(folder: Path, day: str, ndvi: float) -> None:
    """Landsat 9 Collection 2 Level 2 over Rome, clear but for a cloud in the north."""
    shape = (150, 150)
    name = f"LC09_L2SP_191031_{day}_{day}_02_T1"
    for band, value in (("SR_B4", 0.2 * (1 - ndvi)), ("SR_B5", 0.2 * (1 + ndvi))):
        stored = np.full(shape, round((value + 0.2) / 2.75e-5), np.uint16)
        around(folder / name / f"{name}_{band}.TIF", stored, 30.0)
    quality = np.full(shape, 21824, np.uint16)
    quality[:5] = 22280
    around(folder / name / f"{name}_QA_PIXEL.TIF", quality, 30.0)


def outlines(path: Path) -> Path:
    features = []
    for name, west in (("a", WEST + 0.001), ("b", WEST + 0.006), ("off", WEST + 0.5)):
        east, south, north = west + 0.004, SOUTH + 0.001, SOUTH + 0.006
        ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
        geometry = {"type": "Polygon", "coordinates": [ring]}
        features.append({"type": "Feature", "id": name, "properties": {}, "geometry": geometry})
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path
