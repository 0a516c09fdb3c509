"""Small scenes written as GeoTIFF, and the same pixels as a table, for the tests of maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

DATES = ("2024-03-04", "2024-03-16", "2024-03-28", "2024-04-09")
WEST, NORTH, STEP = 600000.0, 5650000.0, 10.0
CRS = "EPSG:32631"


@dataclass(frozen=True)
class Pixels:
    """planes: name -> (dates, height, width), or (height, width) of a static; NaN missing."""

    planes: Mapping[str, NDArray[np.float64]]
    dates: Sequence[str]

    @property
    def shape(self) -> tuple[int, int]:
        first = next(iter(self.planes.values()))
        return first.shape[-2], first.shape[-1]

    def columns(self) -> dict[str, Any]:
        """One row per pixel and date, sites numbered row by row."""
        height, width = self.shape
        n = height * width
        out: dict[str, Any] = {
            "site": [f"p{i}" for _ in self.dates for i in range(n)],
            "date": [date for date in self.dates for _ in range(n)],
        }
        for name, plane in self.planes.items():
            full = np.broadcast_to(plane, (len(self.dates), height, width))
            out[name] = full.reshape(-1).copy()
        return out


def make_pixels(height: int = 20, width: int = 30, *, seed: int = 1) -> Pixels:
    """Plausible float32 values with gaps: lost, missing and out-of-range pixels among them."""
    rng = np.random.default_rng(seed)
    shape = (len(DATES), height, width)
    vh = rng.normal(-16, 2, shape)
    vh[rng.random(shape) < 0.03] = np.nan
    ndvi = rng.uniform(0.1, 0.8, shape)
    ndvi[rng.random(shape) < 0.03] = np.nan
    vh[rng.random(shape) < 0.02] = -26.0
    planes = {
        "vh_db": vh,
        "ndvi": ndvi,
        "angle_deg": rng.uniform(30, 45, shape),
        "clay": rng.uniform(0.05, 0.5, (height, width)),
    }
    return Pixels({name: p.astype("f4").astype("f8") for name, p in planes.items()}, DATES)


def write_tif(path: Path, bands: Any, *, names: Sequence[str] = (), **profile: Any) -> Path:
    """One GeoTIFF, (bands, height, width) or (height, width), tiled 64 x 64."""
    import rasterio

    bands = np.asarray(bands)
    bands = bands[None] if bands.ndim == 2 else bands
    settings: dict[str, Any] = {
        "driver": "GTiff",
        "dtype": "float32",
        "count": len(bands),
        "height": bands.shape[1],
        "width": bands.shape[2],
        "crs": CRS,
        "transform": rasterio.Affine(STEP, 0, WEST, 0, -STEP, NORTH),
        "tiled": True,
        "blockxsize": 64,
        "blockysize": 64,
        **profile,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", **settings) as dataset:
        dataset.write(bands.astype(settings["dtype"]))
        for band, name in enumerate(names, start=1):
            dataset.set_band_description(band, name)
    return path


def write_scene(folder: Path, pixels: Pixels) -> Path:
    """The manifest of a scene that reads vh_db, ndvi, angle_deg by date and clay once."""
    lines = ['title = "made up"']
    for name, plane in pixels.planes.items():
        if plane.ndim == 2:
            write_tif(folder / f"{name}.tif", plane)
            lines += [f"[layers.{name}]", f'file = "{name}.tif"']
            continue
        for date, values in zip(pixels.dates, plane, strict=True):
            write_tif(folder / name / f"{date}.tif", values)
        lines += [f"[layers.{name}]", f'files = "{name}/*.tif"']
    manifest = folder / "scene.toml"
    manifest.write_text("\n".join(lines) + "\n")
    return manifest


def with_layer(scene: Path, layer: str, text: str) -> Path:
    """A manifest of :func:`write_scene` with one layer put differently."""
    parts = scene.read_text().split("[layers.")
    kept = [part for part in parts if not part.startswith(f"{layer}]")]
    scene.write_text("[layers.".join(kept) + text)
    return scene
