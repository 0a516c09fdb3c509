"""The export of docs/earth_engine.md is a table that every command reads."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from kgsm_infer.app.cli import app
from kgsm_infer.tables.table import read_table

DOCS = Path(__file__).parents[2] / "docs/earth_engine.md"


def selectors() -> list[str]:
    """The columns that the script of the documentation selects, in its order."""
    line = re.search(r"selectors: \[(.*'VV'.*)\]", DOCS.read_text(encoding="utf-8"))
    assert line is not None
    return re.findall(r"'(\w+)'", line[1])


def write_export(path: Path) -> list[dict[str, object]]:
    rng = np.random.default_rng(4)
    rows: list[dict[str, object]] = [
        {"site": site, "time": f"2024-{month:02d}-05T19:12:{second:02d}Z", "VV": -9.5,
         "VH": round(float(rng.uniform(-20, -12)), 6), "angle": 38.2, "orbit_pass": "DESCENDING",
         "relative_orbit": 45, "pixels": 78}
        for month in range(1, 8)
        for second, site in enumerate(("a", "b"))
    ]  # fmt: skip
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, selectors())
        writer.writeheader()
        writer.writerows(rows)
    return rows


def test_its_columns_have_the_names_of_the_contract(tmp_path: Path) -> None:
    rows = write_export(tmp_path / "kgsm_s1.csv")
    table = read_table(tmp_path / "kgsm_s1.csv")
    np.testing.assert_allclose(table.numbers["vh_db"], [row["VH"] for row in rows])
    assert set(table.text["orbit"]) == {"DESCENDING-45"}
    assert table.numbers["angle_deg"].tolist() == [38.2] * 14
    assert str(table.date[0]) == "2024-01-05T19:12:00"


def test_wetness_and_predict_read_it(tmp_path: Path) -> None:
    write_export(tmp_path / "kgsm_s1.csv")
    found = []
    for number, command in enumerate((["wetness"], ["predict", "wetness"])):
        out = tmp_path / f"{number}.csv"
        arguments = [*command, str(tmp_path / "kgsm_s1.csv"), "-o", str(out)]
        done = CliRunner().invoke(app, arguments, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        with open(out, newline="") as file:
            found.append([row["wetness"] for row in csv.DictReader(file)])
    assert found[0] == found[1] and all(found[0])


def test_data_gee_needs_no_labels(tmp_path: Path) -> None:
    from kgsm_train.sources.earth_engine import read_earth_engine

    write_export(tmp_path / "kgsm_s1.csv")
    table = read_earth_engine(tmp_path / "kgsm_s1.csv")
    assert len(table.columns["site"]) == 14 and "sm" not in table.columns
