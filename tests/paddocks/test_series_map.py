"""Map of paddocks with names and values from a file of daily values or passes."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("matplotlib", reason="maps need kgsm[raster]")

from kgsm_infer.base.errors import DataError
from kgsm_infer.daily.series import read_series, select, values_on
from kgsm_infer.paddocks.picture import draw_series_map, widest_chord
from kgsm_infer.scenes.outlines import read_outlines

DAILY = """site,date,sm,sm_lower,sm_upper,radar_weight,pass_sm,flags
north,2024-01-01,0.2,0.1,0.3,0.5,0.21,
north,2024-01-02,0.31,0.2,0.4,0.4,,
north,2024-01-03,0.25,0.15,0.35,0.3,,forecast
<south>,2024-01-02,0.12,0.1,0.2,0.5,0.19,
gone,2024-01-01,0.3,0.2,0.4,0.5,0.3,
"""
PASSES = "site,date,sm\nnorth,2024-01-01,0.2\nnorth,2024-01-13,0.3\n<south>,2024-01-07,0.1\n"


def ring(left, bottom, right, top):
    return [[left, bottom], [right, bottom], [right, top], [left, top], [left, bottom]]


@pytest.fixture
def files(tmp_path):
    shapes = {
        "north": [ring(0, 1, 2, 2)],
        "<south>": [ring(0, 0, 2, 0.9), ring(0.5, 0.2, 0.7, 0.4)],
        "empty": [ring(2.2, 0, 3, 2)],
        "tiny": [ring(2.05, 0, 2.06, 0.01)],
    }
    features = [
        {
            "type": "Feature",
            "properties": {"id": name},
            "geometry": {"type": "Polygon", "coordinates": rings},
        }
        for name, rings in shapes.items()
    ]
    (tmp_path / "f.geojson").write_text(
        json.dumps({"type": "FeatureCollection", "features": features})
    )
    (tmp_path / "daily.csv").write_text(DAILY)
    (tmp_path / "passes.csv").write_text(PASSES)
    return tmp_path


def texts(path):
    root = ET.parse(path).getroot()
    return [text.strip() for text in root.itertext() if text.strip()]


def test_values_of_the_last_day_that_is_not_forecast(files):
    series = read_series(files / "daily.csv")
    found = values_on(series, series.paddocks, None)
    assert str(found.day) == "2024-01-02"
    assert {name: one.value for name, one in found.paddocks.items()} == {
        "north": 0.31,
        "<south>": 0.12,
    }
    ahead = values_on(series, series.paddocks, "2024-01-03")
    assert list(ahead.paddocks) == ["north"] and ahead.paddocks["north"].upper == 0.35
    with pytest.raises(DataError, match="no paddock chosen has a value on 2024-02-01"):
        values_on(series, series.paddocks, "2024-02-01")


def test_passes_show_the_newest_and_its_age(files):
    series = read_series(files / "passes.csv")
    draw_series_map(files / "m.svg", read_outlines(files / "f.geojson"), series, series.paddocks)
    shown = texts(files / "m.svg")
    assert "0.30" in shown and "0.10 (6 d)" in shown
    early = values_on(series, series.paddocks, "2024-01-08")
    assert early.paddocks["north"].value == 0.2


def test_map_has_names_values_and_a_threshold(files):
    series = read_series(files / "daily.csv")
    outlines = read_outlines(files / "f.geojson")
    remarks = draw_series_map(files / "m.svg", outlines, series, series.paddocks, threshold=0.2)
    shown = texts(files / "m.svg")
    for text in ("north", "0.31", "<south>", "0.12", "empty", "below 0.2", "Paddocks, 2024-01-02"):
        assert text in shown
    assert "tiny" not in shown
    assert remarks == [
        f"2 outlines have no value in {series.source}; they are grey",
        "1 paddocks are too small on the map for their names; draw some with --paddock, or a "
        "page (.html), which lists all",
    ]
    assert (files / "m.svg").read_text().count("#b03030") >= 1


def test_chosen_paddocks_alone_are_drawn(files):
    series = read_series(files / "daily.csv")
    draw_series_map(
        files / "m.svg", read_outlines(files / "f.geojson"), series, select(series, ["north"])
    )
    shown = texts(files / "m.svg")
    assert "north" in shown and "<south>" not in shown and "empty" not in shown


def test_page_lists_every_value_and_png_repeats(files):
    series, outlines = read_series(files / "daily.csv"), read_outlines(files / "f.geojson")
    draw_series_map(files / "m.html", outlines, series, series.paddocks)
    page = (files / "m.html").read_text()
    assert "<td>&lt;south&gt;</td><td>0.12</td><td>0.10 to 0.20</td><td>2024-01-02</td>" in page
    assert "<south>" not in page and not re.search(r"<(script|link|img)|url\(http", page)
    made = []
    for name in ("a.png", "b.png"):
        draw_series_map(files / name, outlines, series, series.paddocks)
        made.append((files / name).read_bytes())
    assert made[0] == made[1] and made[0].startswith(b"\x89PNG")


def test_outlines_of_another_farm_are_refused(files):
    (files / "daily.csv").write_text(DAILY.replace("north", "x").replace("<south>", "y"))
    series = read_series(files / "daily.csv")
    with pytest.raises(DataError, match="has no paddock of"):
        draw_series_map(
            files / "m.png", read_outlines(files / "f.geojson"), series, series.paddocks
        )
    assert not (files / "m.png").exists()


def test_command(files):
    command = [sys.executable, "-m", "kgsm_infer.app.cli", "plot", "daily.csv", "-o", "m.png"]
    done = subprocess.run(
        [*command, "--map", "f.geojson"], cwd=files, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (files / "m.png").stat().st_size > 10_000
    done = subprocess.run(
        [*command, "--date", "2024-01-01"], cwd=files, capture_output=True, text=True
    )
    assert done.returncode == 2 and "--map" in done.stderr


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(3, 12))
def test_a_name_lies_inside_its_outline(seed, corners):
    from matplotlib.path import Path

    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, corners))
    radius = rng.uniform(0.3, 3.0, corners)
    points = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 1)
    outer = np.vstack([points, points[:1]])
    found = widest_chord([outer])
    if found.width > 1e-6:
        assert Path(outer, closed=True).contains_point((found.x, found.y))
        for side in (-0.49, 0.49):
            assert Path(outer, closed=True).contains_point((found.x + side * found.width, found.y))
