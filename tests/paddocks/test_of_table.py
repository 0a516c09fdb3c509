"""Paddocks of a table, without any raster library."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_outlines import polygon, write_geojson

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.maps.options import RetrievalOptions
from kgsm_infer.model.model import Model
from kgsm_infer.paddocks.of_table import paddocks_of_table, rows_without_outline
from kgsm_infer.paddocks.summary import (
    Paddock,
    paddock_summary,
    write_paddocks,
)
from kgsm_infer.scenes.outlines import Outlines, read_outlines
from kgsm_infer.tables.table import read_table, table_from_columns

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def points() -> dict[str, Any]:
    """Two fields of three points, two dates; one point of field 2 has no backscatter."""
    n = 12
    rng = np.random.default_rng(5)
    vh = rng.normal(-15, 1, n)
    vh[11] = np.nan
    return {
        "site": ["a", "b", "c", "d", "e", "f"] * 2,
        "date": ["2024-03-04"] * 6 + ["2024-03-16"] * 6,
        "field": [1, 1, 1, 2, 2, 2] * 2,
        "vh_db": vh,
        "ndvi": rng.uniform(0.2, 0.5, n),
        "angle_deg": [39.0] * n,
        "clay": [0.2] * n,
    }


def _outlines(*names: str) -> Outlines:
    return Outlines("f", "OGC:CRS84", names, tuple({"k": n} for n in names), (None,) * len(names))


def test_points_of_a_field_make_its_line(interval_model: Model, points: dict[str, Any]) -> None:
    table = table_from_columns(points, features=["clay"])
    rows = interval_model.predict(table)
    one, two, three = paddocks_of_table(interval_model, table, _outlines("1", "2", "3"))
    assert one.date == "2024-03-16" and one.pixels == 3
    assert one.sm == pytest.approx(float(rows.sm[6:9].mean()), abs=2e-6)
    assert one.sm_median == pytest.approx(float(np.median(rows.sm[6:9])), abs=2e-6)
    assert two.sm == pytest.approx(float(rows.sm[9:11].mean()), abs=2e-6)
    assert two.valid_share == pytest.approx(2 / 3, abs=1e-6)
    assert np.isnan(three.sm) and three.reason == "no rows in the table"
    everything = paddocks_of_table(
        interval_model, table, _outlines("1", "2"), RetrievalOptions(every=True)
    )
    assert [(p.id, p.date) for p in everything] == [
        ("1", "2024-03-04"), ("1", "2024-03-16"), ("2", "2024-03-04"), ("2", "2024-03-16"),
    ]  # fmt: skip
    (day, *_) = paddocks_of_table(
        interval_model, table, _outlines("1"), RetrievalOptions(date="2024-03-04")
    )
    assert day.sm == pytest.approx(float(rows.sm[:3].mean()), abs=2e-6)
    (none, *_) = paddocks_of_table(
        interval_model, table, _outlines("1"), RetrievalOptions(date="2024-03-05")
    )
    assert none.reason == "no rows of 2024-03-05"
    with pytest.raises(UsageError, match="one date or all dates, not both"):
        paddocks_of_table(
            interval_model, table, _outlines("1"), RetrievalOptions(date="2024-03-04", every=True)
        )


def test_the_join_is_by_field_else_by_site_else_as_said(
    interval_model: Model, points: dict[str, Any]
) -> None:
    table = table_from_columns(points, features=["clay"])
    (site,) = paddocks_of_table(interval_model, table, _outlines("d"), column="site")
    assert site.pixels == 1 and np.isfinite(site.sm)
    with pytest.raises(DataError, match=r"values \(1, 2, \.\.\.\) is a paddock of f"):
        paddocks_of_table(interval_model, table, _outlines("d"))
    with pytest.raises(UsageError, match="no column 'paddock'; it has site, field"):
        paddocks_of_table(interval_model, table, _outlines("d"), column="paddock")
    alone = {key: value for key, value in points.items() if key != "field"}
    (site,) = paddocks_of_table(
        interval_model, table_from_columns(alone, features=["clay"]), _outlines("d")
    )
    assert site.pixels == 1


def test_geojson_keeps_outlines_and_properties_and_csv_is_empty_where_there_is_nothing(
    tmp_path: Path, interval_model: Model, points: dict[str, Any]
) -> None:
    shapes = {"1": polygon([[5, 50], [5.1, 50], [5.1, 50.1], [5, 50]]), "9": None}
    outlines = read_outlines(write_geojson(tmp_path / "f.geojson", shapes, None))
    found = paddocks_of_table(
        interval_model, table_from_columns(points, features=["clay"]), outlines
    )
    write_paddocks(tmp_path / "o.geojson", outlines, found, simulated=True)
    first, second = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert first["geometry"] == shapes["1"] and first["id"] == "1"
    assert first["properties"]["farm"] == "x" and first["properties"]["source"] == "simulated"
    assert first["properties"]["sm"] == found[0].sm
    assert (first["properties"]["quantity"], first["properties"]["unit"]) == (
        "soil_moisture", "m3 m-3")  # fmt: skip
    assert second["properties"]["sm"] is None and second["geometry"] is None
    again = read_outlines(tmp_path / "o.geojson")
    assert again.ids == outlines.ids
    write_paddocks(tmp_path / "o.csv", outlines, found)
    with (tmp_path / "o.csv").open() as file:
        records = list(csv.DictReader(file))
    probed = ("sm_correction", "probe_weight", "probes")  # there where probes are
    names = [
        name for name in Paddock.__dataclass_fields__ if name not in ("cause", "quantity", *probed)
    ]
    assert list(records[0]) == names
    assert float(records[0]["sm"]) == found[0].sm
    assert (records[1]["sm"], records[1]["reason"]) == ("", "no rows in the table")
    with pytest.raises(UsageError, match=r"written as .geojson, .csv or .parquet"):
        write_paddocks(tmp_path / "o.shp", outlines, found)
    assert paddock_summary(found) == "2 paddocks, 1 with a number; no rows in the table 1"


def test_ids_keep_their_type_and_properties_that_are_no_json_are_null(
    tmp_path: Path, interval_model: Model, points: dict[str, Any]
) -> None:
    ring = [[5.0, 50.0], [5.1, 50.0], [5.1, 50.1], [5.0, 50.0]]
    features = [
        {"type": "Feature", "id": 1, "geometry": polygon(ring),
         "properties": {"area": float("nan"), "deep": {"x": [float("inf")]}, "big": 10**400}},
        {"type": "Feature", "id": "2", "geometry": polygon(ring[:2]), "properties": None},
    ]  # fmt: skip
    (tmp_path / "f.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    outlines = read_outlines(tmp_path / "f.geojson")
    found = paddocks_of_table(
        interval_model, table_from_columns(points, features=["clay"]), outlines
    )
    assert all(np.isfinite(paddock.sm) for paddock in found)  # a table needs no outline
    write_paddocks(tmp_path / "o.geojson", outlines, found)
    first, second = json.loads((tmp_path / "o.geojson").read_text())["features"]
    assert first["id"] == first["properties"]["id"] == 1 and second["id"] == "2"
    assert first["properties"]["area"] is None and first["properties"]["deep"] == {"x": [None]}
    assert first["properties"]["big"] == 10**400 and second["geometry"] is None


def test_rows_that_no_outline_names_are_mentioned(points: dict[str, Any]) -> None:
    table = table_from_columns(points, features=["clay"])
    assert rows_without_outline(table, _outlines("1", "2", "3")) == ""
    told = rows_without_outline(table, _outlines("1"))
    assert told == "table: 6 rows of 1 paddocks that no outline of f names (2) were left out"


def test_two_passes_of_a_day_are_told_apart(interval_model: Model, points: dict[str, Any]) -> None:
    passes = ["2024-03-16T05:30:12Z"] * 6 + ["2024-03-16T17:12:40Z"] * 6
    table = table_from_columns({**points, "date": passes}, features=["clay"])
    with pytest.raises(UsageError, match=r"paddock 1: 2 acquisitions on 2024-03-16, at 05:30:12"):
        paddocks_of_table(
            interval_model, table, _outlines("1", "2"), RetrievalOptions(date="2024-03-16")
        )
    (line, _) = paddocks_of_table(
        interval_model, table, _outlines("1", "2"), RetrievalOptions(date="2024-03-16T05:30")
    )
    assert line.date == "2024-03-16T05:30:12Z"


def test_a_table_needs_no_raster_library(
    tiny_model: Path, tmp_path: Path, points: dict[str, Any]
) -> None:
    """And a scene without them ends with exit 5, which names the extra."""
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(points)
        writer.writerows(zip(*points.values(), strict=True))
    fields = write_geojson(tmp_path / "f.geojson", {"1": None, "2": None})
    hidden = ("rasterio", "exactextract", "shapely", "pyogrio", "netCDF4", "zarr", "matplotlib",
              "rich", "xarray", "pyproj", "pandas")  # fmt: skip
    driver = (
        f"import sys; sys.modules.update(dict.fromkeys({hidden!r})); "
        "from kgsm_infer.app.cli import main; main()"
    )

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", driver, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    model = str(tiny_model / "model.core.onnx")
    output = tmp_path / "o.geojson"
    done = run("paddocks", model, str(tmp_path / "t.csv"), str(fields), "-o", str(output))
    assert done.returncode == 0, done.stderr
    assert "2 paddocks, 2 with a number" in done.stdout and output.exists()
    scene = tmp_path / "s.toml"
    scene.write_text('[layers.vh_db]\nfile = "vh.tif"\ndates = [2024-03-04]\n')
    for arguments in (
        ("paddocks", model, str(scene), str(fields), "-o", str(tmp_path / "p.csv")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.tif")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.nc")),
        ("map", model, str(scene), "-o", str(tmp_path / "m.zarr")),
    ):
        refused = run(*arguments)
        assert refused.returncode == 5, refused.stderr
        assert "pip install 'kgsm[raster]'" in refused.stderr
        assert len(refused.stderr.splitlines()) == 1
    assert {path.name for path in tmp_path.iterdir()} == {
        "t.csv",
        "f.geojson",
        "o.geojson",
        "s.toml",
    }


@pytest.mark.realdata
def test_boort_paddocks_from_their_table(
    shared_data: Path, tmp_path: Path, interval_model: Model
) -> None:
    """173 real outlines; one row per paddock and date, so a paddock's line is its row."""
    with (shared_data / "boort" / "boort.csv").open() as file:
        rows = list(csv.DictReader(file))
    once = {(row["site"], row["date"]): row for row in rows}  # some stand twice on a date
    with (tmp_path / "t.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], "clay"])
        writer.writeheader()
        writer.writerows({**row, "clay": 0.2} for row in once.values())
    table = read_table(tmp_path / "t.csv", features=["clay"])
    outlines = read_outlines(shared_data / "boort" / "paddocks.geojson", "polygon_id")
    found = paddocks_of_table(interval_model, table, outlines)
    assert len(found) == len(outlines.ids)
    result = interval_model.predict(table)
    checked = 0
    for paddock in found:
        mine = np.flatnonzero(table.site == paddock.id)
        if not len(mine):
            assert paddock.reason == "no rows in the table"
            continue
        last = mine[np.argmax(table.date[mine])]
        np.testing.assert_allclose(paddock.sm, result.sm[last], atol=1e-6)
        checked += bool(np.isfinite(paddock.sm))
    assert checked > 100
