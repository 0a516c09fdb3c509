"""A map without a number says why; files that are not used are named."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio")

from kgsm_infer.maps.options import Execution, RetrievalOptions  # noqa: E402
from kgsm_infer.maps.run import map_scene  # noqa: E402
from kgsm_infer.scenes.manifest import read_scene  # noqa: E402


def overwrite(path: Path, value: float, **profile) -> None:
    """Fill a raster with one value."""
    with rasterio.open(path) as dataset:
        old, shape = dataset.profile, dataset.shape
    with rasterio.open(path, "w", **{**old, **profile}) as dataset:
        dataset.write(np.full((old["count"], *shape), value, old["dtype"]))


def test_an_empty_layer_is_named_with_its_dates(model, scene: Path, tmp_path: Path) -> None:
    for path in (scene.parent / "ndvi").glob("*.tif"):
        overwrite(path, np.nan)
    heard: list[str] = []
    counts = map_scene(
        model, read_scene(scene), tmp_path / "m.tif", execution=Execution(tell=heard.append)
    )
    assert counts.numbers == 0
    assert any("layer ndvi has no valid value on 2024-" in line for line in heard), heard


def test_paddocks_without_a_number_name_the_layer(model, scene: Path, tmp_path: Path) -> None:
    pytest.importorskip("exactextract")
    from made_outlines import every_kind, write_geojson

    from kgsm_infer.paddocks.of_scene import paddocks_of_scene
    from kgsm_infer.scenes.outlines import read_outlines

    for path in (scene.parent / "ndvi").glob("*.tif"):
        overwrite(path, np.nan)
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", every_kind()))
    heard: list[str] = []
    paddocks_of_scene(
        model,
        read_scene(scene),
        outlines,
        tmp_path / "o.csv",
        RetrievalOptions(every=True),
        execution=Execution(tell=heard.append),
    )
    assert any(
        "no paddock has a number: layer ndvi has no valid value on 2024-" in line for line in heard
    ), heard


def test_lost_pixels_are_counted_by_flag(model, scene: Path, tmp_path: Path) -> None:
    for path in (scene.parent / "vh_db").glob("*.tif"):
        overwrite(path, -45.0)
    for path in (scene.parent / "ndvi").glob("*.tif"):
        overwrite(path, 0.7)
    heard: list[str] = []
    counts = map_scene(
        model, read_scene(scene), tmp_path / "m.tif", execution=Execution(tell=heard.append)
    )
    assert counts.numbers == 0
    assert any("soil_signal_lost" in line for line in heard), heard


def test_a_date_without_a_number_is_named_among_others(model, scene: Path, tmp_path: Path) -> None:
    """One date without NDVI, and one on which the soil's signal is lost."""
    overwrite(sorted((scene.parent / "ndvi").glob("*.tif"))[-1], np.nan)
    overwrite(sorted((scene.parent / "vh_db").glob("*.tif"))[-2], -45.0)
    overwrite(sorted((scene.parent / "ndvi").glob("*.tif"))[-2], 0.7)
    heard: list[str] = []
    counts = map_scene(
        model,
        read_scene(scene),
        tmp_path / "m.nc",
        RetrievalOptions(every=True),
        execution=Execution(tell=heard.append),
    )
    assert counts.numbers > 0
    said = [line for line in heard if "has a number" in line]
    assert len(said) == 2
    assert all(
        re.match(r"no pixel of 2024-\d\d-\d\d and 1 more date has a number: ", one) for one in said
    )
    assert "layer ndvi has no valid value on 2024-" in said[0]
    assert re.search(r"soil_signal_lost \d+, .* on 2024-", said[1])


def test_a_file_that_lies_elsewhere_is_named(model, scene: Path, tmp_path: Path) -> None:
    away = sorted((scene.parent / "ndvi").glob("*.tif"))[0]
    overwrite(away, 0.4, transform=rasterio.Affine(10, 0, 700000, 0, -10, 5650000))
    heard: list[str] = []
    map_scene(model, read_scene(scene), tmp_path / "m.tif", execution=Execution(tell=heard.append))
    assert any(away.name in line and "does not lie over the scene" in line for line in heard)
