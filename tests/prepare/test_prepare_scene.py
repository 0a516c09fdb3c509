"""From raw products to a line per paddock, by two commands; everything on the way says so."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
import pytest
from made_catalogue import static_catalogue
from made_safe import EAST, NORTH, PASSES, SOUTH, UTM, WEST, around, landsat, of_day, outlines
from numpy.testing import assert_allclose
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.base.errors import UsageError
from kgsm_infer.scenes.grid import Window
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.opening import open_stack
from kgsm_infer.scenes.reader import Reader

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")
pytest.importorskip("sarsen", reason="sarsen is not installed")


@pytest.mark.realdata
@pytest.mark.slow
def test_raw_products_to_paddocks(shared_data: Path, tiny_model: Path, tmp_path: Path):
    root = shared_data / "sentinel1_safe/tests/data"
    safes = [
        of_day(next(root.glob("*.SAFE")), tmp_path / day, day, sigma0)
        for day, sigma0 in PASSES.items()
    ]
    geoid = around(tmp_path / "geoid.tif", np.full((3, 3), 48.6, np.float32), 20_000.0)
    clay = around(tmp_path / "clay.tif", np.full((60, 60), 0.3, np.float32), 90.0)
    for day, ndvi in (("20211209", 0.3), ("20211225", 0.4), ("20220106", 0.5)):
        landsat(tmp_path / "landsat", day, ndvi)
    fields, out = outlines(tmp_path / "fields.geojson"), tmp_path / "scene"
    prepare = ["prepare", "--bounds", f"{WEST},{SOUTH},{EAST},{NORTH}", "--resolution", "20"]
    prepare += ["--from", "2021-12-10", "--to", "2022-01-05", "-o", str(out)]
    prepare += [word for safe in safes for word in ("--safe", str(safe))]
    prepare += ["--dem", str(root / "Rome-30m-DEM.tif"), "--geoid", str(geoid)]
    prepare += ["--optical", str(tmp_path / "landsat"), "--static", f"clay={clay}"]
    dry = CliRunner().invoke(app, [*prepare, "--dry-run"], catch_exceptions=False)
    assert "S1B_20211223T051122_022D: 1 frames" in dry.output
    assert not out.exists()
    result = CliRunner().invoke(app, prepare, catch_exceptions=False)
    assert result.exit_code == 0
    assert result.output.count("SIMULATED") == 3
    assert result.output.strip().endswith("scene_022D.toml")
    scene = read_scene(out / "scene_022D.toml")
    assert scene.simulated and scene.title.startswith("SIMULATED")
    stack = open_stack(scene, "vh", ["angle_deg", "ndvi", "clay"])
    with Reader(stack) as reader:
        window = Window(10, 10, 20, 20)
        for number, sigma0 in enumerate(PASSES.values()):
            wanted = 10 * np.log10(sigma0)
            got = reader.column("vh_db", number, window)
            assert abs(np.median(got) - wanted) < 0.08  # a constant scene rounds all alike
        assert_allclose(reader.column("ndvi", 1, window), 0.4 - 0.1 * 2 / 16, atol=8e-3)
        assert_allclose(reader.column("clay", None, window), 0.3, rtol=1e-6)
    made = tmp_path / "paddocks.csv"
    call = ["paddocks", str(tiny_model / "model.onnx"), str(out / "scene_022D.toml")]
    result = CliRunner().invoke(app, [*call, str(fields), "-o", str(made)], catch_exceptions=False)
    assert result.exit_code == 0
    assert "this scene holds simulated data" in result.output + result.stderr
    with open(made, newline="") as file:
        lines = {
            line["paddock"] if "paddock" in line else line["id"]: line
            for line in csv.DictReader(file)
        }
    assert {line["source"] for line in lines.values()} == {"simulated"}
    assert all(0 < float(lines[name]["sm"]) < 1 for name in "ab")
    assert lines["off"]["sm"] == "" and lines["off"]["reason"]
    again = CliRunner().invoke(app, prepare, catch_exceptions=False)
    assert again.output.count("finished before, kept") == 3 + 3  # passes, vegetation


def test_a_catalogue_and_coarse_images_in_one_go(tmp_path: Path):
    """Radar and clear images from the catalogue; the days between from made MODIS images."""
    catalogue = static_catalogue(tmp_path / "catalogue")
    transform = rasterio.Affine(500, 0, 499_500, 0, -500, 5_000_500)
    where = {"height": 4, "width": 4, "crs": UTM, "transform": transform}
    for doy, ndvi in ((61, 0.60), (64, 0.63), (70, 0.69), (72, 0.70), (76, 0.74)):
        red, nir = 2000 * (1 - ndvi), 2000 * (1 + ndvi)
        for name, value in (
            ("MCD43A4.061_Nadir_Reflectance_Band1", red),
            ("MCD43A4.061_Nadir_Reflectance_Band2", nir),
            ("MCD43A4.061_BRDF_Albedo_Band_Mandatory_Quality_Band1", 0),
            ("MCD43A4.061_BRDF_Albedo_Band_Mandatory_Quality_Band2", 0),
        ):
            path = tmp_path / "modis" / f"{name}_doy2024{doy:03d}_aid0001.tif"
            path.parent.mkdir(exist_ok=True)
            dtype = "uint8" if "Quality" in name else "int16"
            with rasterio.open(path, "w", driver="GTiff", count=1, dtype=dtype, **where) as file:
                file.write(np.full((4, 4), round(value), dtype), 1)
    out = tmp_path / "scene"
    call = ["prepare", "--bounds", "15.001,45.149,15.006,45.153", "--catalogue", str(catalogue)]
    call += ["--from", "2024-03-01", "--to", "2024-03-16", "-o", str(out)]
    call += ["--coarse", str(tmp_path / "modis")]
    result = CliRunner().invoke(app, call, catch_exceptions=False)
    assert result.exit_code == 0
    assert re.search(r"daily: \d+ days fused by linear-anomaly, 2 measured", result.output)
    scene = read_scene(out / "scene_022D.toml")
    assert not scene.simulated
    stack = open_stack(scene, "vh", ["ndvi", "angle_deg"])
    with Reader(stack) as reader:
        height, width = stack.grid.height, stack.grid.width
        ndvi = reader.column("ndvi", 0, Window(height - 5, 0, 5, width))
        assert_allclose(ndvi, 0.63, atol=0.01)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ([], "name the days"),
        (["--from", "2024-03-01", "--to", "2024-03-02", "-o", "x"], "name the place"),
        (
            ["--from", "2024-03-01", "--to", "2024-03-02", "-o", "x", "--bounds", "1,2,1.01,2.01"],
            "name a source of backscatter",
        ),
        (
            ["--static", "clay", "--from", "2024-03-01", "--to", "2024-03-02", "-o", "x"],
            "clay=clay",
        ),
    ],
)
def test_what_is_not_said(words, reason):
    result = CliRunner().invoke(app, ["prepare", "--resolution", "20", *words])
    assert isinstance(result.exception, UsageError)
    assert re.search(reason, str(result.exception))
