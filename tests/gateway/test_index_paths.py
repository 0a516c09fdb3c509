"""The wetness index has the same values in predict, map, paddocks, lazy Datasets and gateway."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from made_gateways import drop, made_gateway, scanned, stored, write_outlines
from made_scenes import DATES, Pixels, write_scene
from typer.testing import CliRunner

import kgsm_infer
from kgsm_infer.app.cli import app
from kgsm_infer.base import flags
from kgsm_infer.maps import lazy
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.maps.run import map_scene
from kgsm_infer.model.onnx_reader import SHIPPED
from kgsm_infer.paddocks.of_table import paddocks_of_table
from kgsm_infer.scenes.manifest import read_scene
from kgsm_infer.scenes.outlines import read_outlines

rasterio = pytest.importorskip("rasterio", reason="maps need kgsm[raster]")


def made_pixels() -> Pixels:
    """Six paddocks of one pixel on four dates; one value missing. No vegetation is given."""
    vh_db = np.random.default_rng(11).uniform(-22, -12, (len(DATES), 2, 3)).astype("f4")
    vh_db[1, 0, 2] = np.nan
    return Pixels({"vh_db": vh_db.astype("f8")}, DATES)


def write_table(path: Path, columns: dict[str, list[object]], date: str) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        rows = zip(*columns.values(), strict=True)
        writer.writerows(row for row in rows if row[list(columns).index("date")] == date)


def test_five_paths_give_the_same_values(tmp_path: Path) -> None:
    pixels = made_pixels()
    columns = pixels.columns()
    model = kgsm_infer.load("wetness")
    whole = model.predict(columns)
    expected = whole.sm.reshape(4, 6)
    cells = {name: np.asarray(values).tolist() for name, values in columns.items()}
    cells["vh_db"] = ["" if np.isnan(x) else repr(x) for x in cells["vh_db"]]
    found: dict[str, np.ndarray] = {}

    passes = []
    for date in DATES:  # predict, pass by pass with a state file
        write_table(tmp_path / "day.csv", cells, date)
        arguments = ["predict", "wetness", "day.csv", "-o", "out.csv", "--past", "past.csv"]
        arguments = [str(tmp_path / x) if x.endswith(".csv") else x for x in arguments]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        with open(tmp_path / "out.csv", newline="") as file:
            passes.append([float(row["wetness"] or "nan") for row in csv.DictReader(file)])
    found["predict --past"] = np.asarray(passes)

    scene = read_scene(write_scene(tmp_path / "scene", pixels))
    maps = []
    for date in DATES:
        map_scene(model, scene, tmp_path / f"{date}.tif", RetrievalOptions(date=date))
        with rasterio.open(tmp_path / f"{date}.tif") as dataset:
            assert dataset.descriptions[0] == "wetness"
            maps.append(dataset.read(1).ravel())
    found["map"] = np.asarray(maps)

    write_outlines(tmp_path / "fields.geojson", 6)
    outlines = read_outlines(tmp_path / "fields.geojson", None)
    lines = paddocks_of_table(
        model, model.table_of(columns), outlines, RetrievalOptions(every=True)
    )
    by_name = {(line.id, str(line.date)[:10]): line.sm for line in lines}
    found["paddocks"] = np.asarray([[by_name[f"p{i}", date] for i in range(6)] for date in DATES])

    xarray = pytest.importorskip("xarray", reason="lazy retrieval needs kgsm[cluster]")
    cube = xarray.Dataset(
        {"vh_db": (("time", "y", "x"), pixels.planes["vh_db"])},
        coords={"time": np.asarray(DATES, "datetime64[ns]")},
    )
    made = lazy.retrieve(SHIPPED["wetness"], cube, every=True)
    found["lazy"] = made.wetness.values.reshape(4, 6)

    gateway = made_gateway(tmp_path / "farm", paddocks=6, model=SHIPPED["wetness"])
    for date in DATES:
        rows = [i for i, text in enumerate(columns["date"]) if text == date]
        one = {name: [values[i] for i in rows] for name, values in cells.items()}
        drop(gateway, one, f"{date}.csv")
        scanned(gateway)
    seen = {
        (key[0], str(np.datetime64(key[1], "s"))[:10]): value
        for key, value in stored(gateway).items()
    }
    found["gateway"] = np.asarray(
        [[np.nan if seen[f"p{i}", d].sm is None else seen[f"p{i}", d].sm for i in range(6)]
         for d in DATES]
    )  # fmt: skip

    for name, index in found.items():
        np.testing.assert_allclose(index, expected, rtol=0, atol=1e-6, err_msg=name)
    number = np.isfinite(whole.sm)
    assert number.sum() == 23 and (whole.flags[number] == flags.CONTEXT_MISSING).all()


def test_a_later_file_of_a_pass_makes_a_revision(tmp_path: Path) -> None:
    """A second paddock of the same acquisition changes the mean over its fields."""
    gateway = made_gateway(tmp_path, paddocks=2, model=SHIPPED["wetness"])
    for number, (site, vh_db) in enumerate((("p0", -14.0), ("p1", -19.0))):
        drop(gateway, {"site": [site], "date": ["2024-03-04"], "vh_db": [vh_db]}, f"{number}.csv")
        scanned(gateway)
        first = next(value for key, value in stored(gateway).items() if key[0] == "p0")
        assert first.revision == number + 1
    columns = {"site": ["p0", "p1"], "date": ["2024-03-04"] * 2, "vh_db": [-14.0, -19.0]}
    assert abs(first.sm - kgsm_infer.load("wetness").predict(columns).sm[0]) < 1e-6
