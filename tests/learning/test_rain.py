"""Rain from the configuration to the card, to predict and to a map: the same features."""

from __future__ import annotations

import csv
import subprocess
import sys

import numpy as np
import pytest
from made_scenes import make_pixels, write_scene

from kgsm_infer.base.errors import DataError
from kgsm_infer.model.model import load
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.rain import scene_with_weather
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.weather import decay_of, read_weather
from kgsm_train.config import read_config
from kgsm_train.evaluation.crossval import crossvalidate
from kgsm_train.fit import fit_and_export
from kgsm_train.sources.simulate import Twin, write_twin

CONFIG = """
[data]
table = "twin.csv"
weather = "rain.csv"
[inputs]
steps = 2
features = ["rain_api_mm", "rain_dry_days"]
[wcm]
angle_rule = "column"
[network]
hidden = 4
members = 1
[training]
epochs = 2
[crossval]
folds = 2
models = ["mean", "ridge-no-radar", "kg-lstm"]
bootstrap = 20
"""


def infer(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "kgsm_infer.app.cli", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def rainy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rainy")
    write_twin(folder / "twin.csv", Twin(sites=6, years=1, seed=1), folder / "rain.csv")
    (folder / "rainy.toml").write_text(CONFIG)
    fit_and_export(read_config(folder / "rainy.toml"), folder, kind="kg-lstm")
    return folder


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_the_card_names_the_decay_that_was_fitted(rainy):
    index, spell = load(rainy / "model.onnx").table_features()
    assert 0.5 <= decay_of(index) <= 0.98
    assert spell == "rain_dry_days"


def test_every_fold_fits_its_own_decay_and_keeps_it(rainy, tmp_path):
    done = crossvalidate(read_config(rainy / "rainy.toml"), tmp_path, jobs=1)
    for model in ("ridge-no-radar", "kg-lstm"):
        assert all(0.5 <= learnt.parameters["k"] <= 0.98 for learnt in done.learnt[model].values())
    assert all("k" not in learnt.parameters for learnt in done.learnt["mean"].values())


def test_predict_makes_the_features_of_a_weather_file(rainy, tmp_path):
    args = ("predict", rainy / "model.onnx", rainy / "twin.csv", "-o", "out.csv")
    without = infer(*args, cwd=tmp_path)
    assert without.returncode == 3 and "made of a weather file: --weather" in without.stderr
    done = infer(*args, "--weather", rainy / "rain.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = rows_of(tmp_path / "out.csv")
    assert sum(bool(row["sm"]) for row in rows) > 0.7 * len(rows)
    # a site without weather has no number, and says so
    lines = [row for row in rows_of(rainy / "rain.csv") if row["site"] != "sim001"]
    write_csv(tmp_path / "less.csv", {name: [row[name] for row in lines] for name in lines[0]})
    done = infer(*args, "--weather", "less.csv", cwd=tmp_path)
    assert "rows are without some of it" in done.stderr
    first = [row for row in rows_of(tmp_path / "out.csv") if row["site"] == "sim001"]
    assert {row["sm"] for row in first} == {""}
    assert all("missing_input" in row["flags"] for row in first)


def test_a_map_has_what_predict_gives_with_the_same_series(rainy, tmp_path):
    pytest.importorskip("rasterio", reason="maps need kgsm[raster]")
    import rasterio

    pixels = make_pixels(6, 8)
    scene = write_scene(tmp_path / "scene", pixels)
    days = np.arange(np.datetime64("2023-09-01"), np.datetime64("2024-05-01"))
    rain = np.random.default_rng(0).choice([0.0, 0.0, 12.0], len(days))
    write_csv(tmp_path / "rain.csv", {"date": np.datetime_as_string(days), "rain_mm": rain})
    write_csv(tmp_path / "pixels.csv", pixels.columns())
    weather = ("--weather", "rain.csv")
    table = infer("predict", rainy / "model.onnx", "pixels.csv", "-o", "o.csv", *weather,
                  cwd=tmp_path)  # fmt: skip
    assert table.returncode == 0, table.stderr
    mapped = infer("map", rainy / "model.onnx", scene, "-o", "m.tif", *weather, cwd=tmp_path)
    assert mapped.returncode == 0, mapped.stderr
    expected = [row["sm"] for row in rows_of(tmp_path / "o.csv")][-48:]
    with rasterio.open(tmp_path / "m.tif") as dataset:
        got = dataset.read(1).reshape(-1)
    np.testing.assert_array_equal(got, np.float32([sm or "nan" for sm in expected]))
    assert np.isfinite(got).any()
    xarray = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
    from kgsm_infer.maps.lazy import retrieve

    height, width = pixels.shape
    stack = xarray.Dataset(
        {name: (("time", "y", "x")[-plane.ndim :], plane) for name, plane in pixels.planes.items()},
        {
            "time": np.asarray(pixels.dates, "datetime64[ns]"),
            "y": np.arange(height),
            "x": np.arange(width),
        },
    )
    lazy = retrieve(rainy / "model.onnx", stack, weather=tmp_path / "rain.csv")
    np.testing.assert_allclose(lazy.sm.values.ravel(), got, rtol=0, atol=1e-6)
    with pytest.raises(DataError, match="the dataset has no rain"):
        retrieve(rainy / "model.onnx", stack)
    # simulated weather makes all of it simulated
    assert "weather" not in lazy.attrs["comment"]
    source = ["simulated"] * len(days)
    columns = {"date": np.datetime_as_string(days), "rain_mm": rain, "source": source}
    write_csv(tmp_path / "rain.csv", columns)
    lazy = retrieve(rainy / "model.onnx", stack, weather=tmp_path / "rain.csv")
    assert lazy.attrs["comment"].endswith("and the weather is simulated")
    mapped = infer("map", rainy / "model.onnx", scene, "-o", "m.tif", *weather, cwd=tmp_path)
    assert "this scene holds simulated data" in mapped.stderr
    with rasterio.open(tmp_path / "m.tif") as dataset:
        assert "SIMULATED: the scene holds simulated data" in dataset.tags()["title"]
    table = infer("predict", rainy / "model.onnx", "pixels.csv", "-o", "o.csv", *weather,
                  cwd=tmp_path)  # fmt: skip
    assert "rain.csv: holds simulated weather" in table.stderr
    assert "this table holds simulated data" in table.stderr


def test_a_scene_takes_the_day_of_its_acquisition(tmp_path):
    scene = read_scene(write_scene(tmp_path / "scene", make_pixels(4, 4)))
    days = np.arange(np.datetime64("2024-03-01"), np.datetime64("2024-04-15"))
    write_csv(tmp_path / "w.csv", {"date": np.datetime_as_string(days),
                                   "rain_mm": np.arange(len(days)) * 22.0 % len(days)})  # fmt: skip
    made = scene_with_weather(scene, read_weather(tmp_path / "w.csv", 10.0), ["rain_day_mm"])
    when, value = made.layers["rain_day_mm"].values[3]
    assert (str(when), value) == ("2024-03-04T01:59:59", 21.0)
    assert made.layers["rain_day_mm"].max_gap_days == 0.5
