"""Write SAFE products of known σ⁰ from real annotation.

    DN = round(√(σ⁰ · A_σ² + noise))

The measurement is simulated, and everything made from it says SIMULATED.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import UsageError
from kgsm_infer.prepare.calibration import read_calibration
from kgsm_infer.prepare.safe import SIMULATED, Floats, read_product
from kgsm_infer.scenes.gdal import rasterio_or_reason

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
