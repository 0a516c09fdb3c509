"""No command writes an index as a water content, in any format."""

from __future__ import annotations

import csv
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outlines import polygon, square, write_geojson
from made_scenes import make_pixels, write_scene
from typer.testing import CliRunner

import kgsm_infer
from kgsm_infer.app.cli import app
from kgsm_infer.model.onnx_reader import SHIPPED

pytest.importorskip("rasterio", reason="maps need kgsm[raster]")
xr = pytest.importorskip("xarray", reason="NetCDF and Zarr need kgsm[cluster]")

#: Signs of a water content in names, attributes and text.
WATER = re.compile(
    r"\bsm\b|\bsm_|m3[ /]?m-?3|m³|soil[ _]?moisture|volume_fraction|condensed_water|percent\b"
    r"|\d ?%|of its volume",
    re.IGNORECASE,
)
#: Words of the messages that are true of an index too.
HARMLESS = ("sm_clipped", "soil moisture only between limits", "90 % band")
FIELDS = {"a": polygon(square(2, 3, 12, 9)), "b": polygon(square(15, 10, 25, 18))}


def signs(text: str) -> list[str]:
    for words in HARMLESS:
        text = text.replace(words, "")
    return WATER.findall(text)


def run(*arguments: Any) -> str:
    """Run a command; return what it says."""
    done = CliRunner().invoke(app, [str(item) for item in arguments])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of two paddocks over a year, a scene, outlines and rain."""
    made = tmp_path_factory.mktemp("index")
    rng = np.random.default_rng(1)
    days = np.arange("2023-01-01", "2023-12-20", 12, dtype="M8[D]").astype(str)
    with (made / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["site", "field", "date", "vh_db"])
        for name in FIELDS:
            writer.writerows([name, name, day, f"{rng.normal(-17, 2):.3f}"] for day in days)
    with (made / "rain.csv").open("w", newline="") as file:
        every = np.arange("2022-06-01", "2023-12-20", dtype="M8[D]").astype(str)
        rain = np.where(rng.random(len(every)) < 0.2, rng.gamma(1, 9, len(every)), 0)
        csv.writer(file).writerows([["date", "rain_mm"], *zip(every, rain.round(1), strict=True)])
    write_scene(made, make_pixels())
    write_geojson(made / "f.geojson", FIELDS)
    return made


def texts_of(path: Path) -> str:
    """Names, attributes and text of an output, without its numbers."""
    if path.suffix in (".nc", ".zarr"):
        opened = xr.open_zarr(path) if path.suffix == ".zarr" else xr.open_dataset(path)
        with opened as cube:
            parts = [str(cube.attrs), *map(str, cube.variables)]
            return "\n".join([*parts, *(str(item.attrs) for item in cube.variables.values())])
    if path.suffix == ".tif":
        import rasterio

        with rasterio.open(path) as bands:
            own = [str(bands.tags(band)) for band in range(bands.count + 1)]
            return "\n".join([str(bands.descriptions), str(bands.units), *own])
    if path.suffix in (".parquet", ".pq"):
        parquet = pytest.importorskip("pyarrow.parquet", reason="Parquet needs kgsm[parquet]")
        table = parquet.read_table(path)
        return "\n".join([str(table.schema), *map(str, table.to_pylist())])
    return path.read_text(encoding="utf-8")


#: Command, its inputs, and the formats it writes.
WRITERS: dict[str, tuple[list[str], tuple[str, ...]]] = {
    "predict": (["wetness", "t.csv"], (".csv", ".parquet")),
    "map": (["wetness", "scene.toml"], (".tif", ".nc", ".zarr")),
    "paddocks": (
        ["wetness", "t.csv", "f.geojson", "--all-dates"],
        (".csv", ".geojson", ".parquet"),
    ),
    "wetness": (["t.csv"], (".csv", ".parquet")),
}


@pytest.mark.parametrize(
    ("command", "suffix"), [(name, end) for name, (_, ends) in WRITERS.items() for end in ends]
)
def test_no_file_holds_an_index_as_a_water_content(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, suffix: str
) -> None:
    monkeypatch.chdir(folder)
    output = tmp_path / f"out{suffix}"
    said = run(command, *WRITERS[command][0], "-o", output)
    text = texts_of(output)
    assert "wetness" in text
    assert not signs(text), text[:2000]
    assert not signs(said), said


def test_a_scene_s_index_and_paddocks_of_it(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    for arguments in (
        ("wetness", "scene.toml", "-o", tmp_path / "w.tif"),
        ("paddocks", "wetness", "scene.toml", "f.geojson", "-o", tmp_path / "p.geojson"),
        ("paddocks", "wetness", "scene.toml", "f.geojson", "-o", tmp_path / "p.csv"),
    ):
        said = run(*arguments)
        text = texts_of(Path(arguments[-1]))
        assert "wetness" in text and not signs(text) and not signs(said), (text, said)
    own = json.loads((tmp_path / "p.geojson").read_text())["features"][0]["properties"]
    assert (own["quantity"], own["unit"]) == ("wetness", "1")


def test_daily_values_charts_and_pages(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    passes = tmp_path / "w.csv"
    run("predict", "wetness", "t.csv", "-o", passes)
    for suffix in (".csv", ".parquet"):
        output = tmp_path / f"daily{suffix}"
        said = run("daily", passes, "--weather", "rain.csv", "--today", "2023-12-19", "-o", output)
        assert not signs(texts_of(output)) and not signs(said), said
    pytest.importorskip("matplotlib", reason="charts need matplotlib")
    for suffix in (".svg", ".html"):
        output = tmp_path / f"chart{suffix}"
        said = run("plot", tmp_path / "daily.csv", "-o", output)
        # text between tags, and the comments in which an SVG holds the text of its outlines
        found = re.findall(r"<!--(.*?)-->|>([^<>]*\w[^<>]*)<", output.read_text(), re.DOTALL)
        words = "\n".join(comment or text for comment, text in found if "{" not in text)
        assert "wetness index" in words.lower()
        assert not signs(words) and not signs(said), words[:1000]


def test_pictures_and_descriptions(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PNG has no text to search: what is written into it is."""
    pytest.importorskip("matplotlib", reason="pictures need kgsm[raster]")
    import matplotlib.text

    monkeypatch.chdir(folder)
    drawn: list[str] = []
    draw = matplotlib.text.Text.draw

    def note(text: Any, renderer: Any, *more: Any) -> Any:
        drawn.append(text.get_text())
        return draw(text, renderer, *more)

    monkeypatch.setattr(matplotlib.text.Text, "draw", note)
    picture = ("--quicklook", tmp_path / "q.png")
    run("map", "wetness", "scene.toml", "-o", tmp_path / "m.tif", *picture)
    run("paddocks", "wetness", "t.csv", "f.geojson", "-o", tmp_path / "p.csv", *picture)
    assert "wetness index" in " ".join(drawn).lower() and not signs(" ".join(drawn)), drawn
    said = run("info", "wetness")
    assert "wetness" in said.lower()


def test_results_in_python(folder: Path) -> None:
    model = kgsm_infer.load(SHIPPED["wetness"])
    with (folder / "t.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    result = model.predict(columns)
    for record in (result.record(0), *model.newest(columns)):
        assert record["quantity"] == "wetness" and record["unit"] == "1"
        assert not {"sm", "sm_lower", "sm_upper"} & set(record)
        assert math.isfinite(record["wetness"])
        assert not signs(json.dumps(record))
    assert not signs(repr(model))
