"""Probes on a map: the level of the date moves everywhere alike, and nothing else does."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from made_scenes import CRS, NORTH, STEP, WEST, make_pixels
from other_cards import with_card

from kgsm_infer.base.errors import UsageError
from kgsm_infer.maps.options import Execution
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.date_effect import date_effect, variances_of
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.tables.table import table_from_columns

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")
SPREAD = {"date": 0.004, "field": 0.003, "point": 0.005}


@pytest.fixture
def probed(interval_model):
    data = {**interval_model.card.training_data, "dates": []}
    # the made-up scene's values lie beyond those of the tiny model's training
    channels = tuple(
        item if item.role == "backscatter" else replace(item, low=-1e6, high=1e6)
        for item in interval_model.card.channels
    )
    return with_card(interval_model, probes=SPREAD, training_data=data, channels=channels)


def read(path):
    with rasterio.open(path) as dataset:
        return dataset.read(), dataset.tags()


def probe(rows, cols, day, sm):
    x = [WEST + (col + 0.5) * STEP for col in cols]
    y = [NORTH - (row + 0.5) * STEP for row in rows]
    lon, lat = rasterio.warp.transform(CRS, "EPSG:4326", x, y)
    columns = {"site": [f"p{i}" for i in range(len(rows))], "date": [day] * len(rows), "sm": sm}
    return table_from_columns({**columns, "lat": lat, "lon": lon}, require=("sm",))


@pytest.mark.usefixtures("small_blocks")
def test_a_maps_level_is_corrected_by_the_probes_of_its_date(probed, scene, tmp_path):
    map_scene(probed, read_scene(scene), tmp_path / "plain.tif")
    before, tags = read(tmp_path / "plain.tif")
    assert "kgsm_probes" not in tags
    row, col = (int(item[0]) for item in np.nonzero((before[0] > 0.05) & (before[0] < 0.6)))
    day = _last_day()
    sensors = probe([row], [col], day, [before[0, row, col] + 0.2])
    map_scene(probed, read_scene(scene), tmp_path / "m.tif", probes=sensors)
    after, tags = read(tmp_path / "m.tif")
    effect = date_effect(variances_of(SPREAD), [0.2], ["p0"])
    there = np.isfinite(before[0])
    assert np.array_equal(np.isfinite(after[0]), there)
    expected = np.clip(before[0] + effect.correction, 0, 1)
    np.testing.assert_allclose(after[0][there], expected[there], atol=1e-5)
    assert (
        f"{effect.correction:+.4f} m3 m-3, weight {effect.weight:.2f}, 1 probes"
        in tags["kgsm_probes"]
    )


def test_probes_of_other_days_or_places_change_no_bit_and_are_told(probed, scene, tmp_path):
    map_scene(probed, read_scene(scene), tmp_path / "plain.tif")
    far = probe([0, -500], [0, 0], "1999-01-01", [0.2, 0.2])
    said = []
    map_scene(
        probed,
        read_scene(scene),
        tmp_path / "m.tif",
        execution=Execution(tell=said.append),
        probes=far,
    )
    assert (tmp_path / "m.tif").read_bytes() == (tmp_path / "plain.tif").read_bytes()
    assert any("2 probes not used" in text for text in said)


def test_probes_on_a_map_need_a_place(probed, scene, tmp_path):
    sensors = table_from_columns(
        {"site": ["a"], "date": ["2024-01-01"], "sm": [0.2]}, require=("sm",)
    )
    with pytest.raises(UsageError, match="lat and lon"):
        map_scene(probed, read_scene(scene), tmp_path / "m.tif", probes=sensors)


def _last_day():
    return str(np.datetime64(make_pixels().dates[-1][:10], "D"))
