"""Style, colour table and STAC item beside a map, read by independent readers."""

from __future__ import annotations

import os
import subprocess
import sys
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from made_scenes import make_pixels, write_scene

pytest.importorskip("rasterio", reason="rasterio is not installed ([raster])")

from kgsm_infer.base.quantities import SOIL_MOISTURE
from kgsm_infer.maps import picture, sidecars


def infer(*words, cwd):
    command = [sys.executable, "-m", "kgsm_infer.app.cli", *map(str, words)]
    return subprocess.run(command, cwd=cwd, env=os.environ, capture_output=True, text=True)


@pytest.fixture
def mapped(tmp_path):
    """Map a made-up scene with the label-free index and its sidecars."""
    scene = write_scene(tmp_path, make_pixels())
    done = infer("map", "wetness", scene, "-o", "m.tif", "--sidecars", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    return tmp_path


def test_the_stac_item_has_the_maps_place_time_and_bands(mapped):
    import pystac
    import rasterio.warp

    item = pystac.Item.from_file(str(mapped / "m.stac.json"))
    with rasterio.open(mapped / "m.tif") as dataset:
        assert item.properties["proj:shape"] == [dataset.height, dataset.width]
        assert item.properties["proj:code"] == f"EPSG:{dataset.crs.to_epsg()}"
        assert item.datetime.isoformat().startswith(dataset.tags()["acquisition"][:19])
        names = [band["name"] for band in item.assets["map"].extra_fields["bands"]]
        assert names == list(dataset.descriptions)
        corner = rasterio.warp.transform(
            dataset.crs, "EPSG:4326", [dataset.bounds.left], [dataset.bounds.bottom]
        )
    assert item.bbox[0] == pytest.approx(corner[0][0], abs=1e-3)
    assert item.bbox[1] == pytest.approx(corner[1][0], abs=1e-3)
    href = item.assets["map"].get_absolute_href()
    assert os.path.samefile(href, mapped / "m.tif")


def test_the_style_and_the_colour_table_have_the_colours_of_the_pictures(mapped):
    colormaps = pytest.importorskip("matplotlib").colormaps
    root = ElementTree.parse(mapped / "m.qml").getroot()
    items = root.findall(".//colorrampshader/item")
    lines = (mapped / "m.colours.txt").read_text().splitlines()
    assert len(items) == len(lines) - 1 == 9 and lines[-1].startswith("nv ")
    for item, line in zip(items, lines, strict=False):
        value, *rgb, alpha = line.split()
        assert float(item.get("value")) == pytest.approx(float(value)) and alpha == "255"
        drawn = np.array(colormaps[picture.COLOURS](float(value))[:3]) * 255  # an index ends at 1
        assert np.abs(drawn - [int(part) for part in rgb]).max() <= 2
        assert item.get("color") == "#" + "".join(f"{int(part):02x}" for part in rgb)
    assert root.find(".//rasterrenderer").get("band") == "1"


def test_soil_moisture_ends_where_the_pictures_end():
    last = sidecars.colour_table(SOIL_MOISTURE).splitlines()[-2]
    assert float(last.split()[0]) == SOIL_MOISTURE.upper_end


@pytest.mark.parametrize("name", ["m.nc", "m.zarr"])
def test_a_cube_has_an_item_with_the_place_of_the_geotiff(mapped, name):
    import pystac

    words = ["map", "wetness", "scene.toml", "-o", name, "--all-dates", "--sidecars"]
    (mapped / "m.stac.json").rename(mapped / "tif.json")
    done = infer(*words, cwd=mapped)
    assert done.returncode == 0, done.stderr
    item = pystac.Item.from_file(str(mapped / "m.stac.json"))
    whole = pystac.Item.from_file(str(mapped / "tif.json"))
    assert item.bbox == pytest.approx(whole.bbox, abs=1e-9)
    assert item.properties["proj:transform"] == pytest.approx(whole.properties["proj:transform"])
    for key in ("proj:shape", "proj:code", "kgsm:quantity", "kgsm:model_sha256"):
        assert item.properties[key] == whole.properties[key]
    assert item.datetime is None
    assert item.properties["start_datetime"].startswith("2024-03-04")
    assert item.properties["end_datetime"].startswith("2024-04-09")
    bands, named = (one.assets["map"].extra_fields["bands"] for one in (item, whole))
    assert {band["name"] for band in bands} == {band["name"] for band in named}
    assert os.path.exists(item.assets["map"].get_absolute_href())
