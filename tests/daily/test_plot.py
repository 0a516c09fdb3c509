"""Charts of paddocks: what is read from each output, and what is drawn."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.chart import MOST_CHARTS, draw_series, rank_text
from kgsm_infer.daily.series import check_threshold, read_series, select

DAILY = """site,date,sm,sm_lower,sm_upper,radar_weight,pass_age_days,pass_sm,rain_mm,\
sm_irrigated,available_percent,flags
north,2024-01-01,0.2,0.1,0.3,0.5,0,0.21,0,0.2,40,
north,2024-01-02,0.3,0.2,0.4,0.4,1,,25,0.3,80,
north,2024-01-03,0.25,0.15,0.35,0.3,2,,0,0.35,60,forecast
<south>,2024-01-02,0.22,0.12,0.32,0.5,0,0.19,25,0.22,50,rain_missing
"""
VALUES = """site,date,sm,sm_lower,sm_upper,soil_db,flags
north,2024-01-12T05:00:00Z,0.2,0.1,0.3,-12,
north,2024-01-01T05:00:00Z,,,,,missing_input
"""


@pytest.fixture
def daily(tmp_path):
    path = tmp_path / "daily.csv"
    path.write_text(DAILY)
    return path


def test_daily_file_has_days_passes_rain_and_outlook(daily):
    series = read_series(daily)
    assert series.is_daily and not series.simulated
    assert series.label == "soil moisture, 0-5 cm (m³/m³)"
    north, south = series.paddocks
    assert (north.name, south.name) == ("north", "<south>")
    assert north.value.tolist() == [0.2, 0.3, 0.25]
    assert north.rain_mm.tolist() == [0, 25, 0]
    assert north.is_forecast.tolist() == [False, False, True]
    np.testing.assert_array_equal(north.passed, [0.21, np.nan, np.nan])


def test_file_of_passes_is_sorted_and_keeps_missing_values(tmp_path):
    path = tmp_path / "values.csv"
    path.write_text(VALUES)
    (north,) = read_series(path).paddocks
    np.testing.assert_array_equal(north.passed, [np.nan, 0.2])
    assert np.isnan(north.rain_mm).all()


def test_index_is_named_and_simulated_values_say_so(tmp_path):
    path = tmp_path / "w.csv"
    path.write_text("site,date,wetness,flags,source\na,2024-01-01,0.4,,simulated\n")
    series = read_series(path)
    assert series.simulated and "wetness index" in series.label
    draw_series(tmp_path / "w.html", series, series.paddocks)
    assert "Simulated data." in (tmp_path / "w.html").read_text()
    draw_series(tmp_path / "w.svg", series, series.paddocks)
    assert "SIMULATED" in (tmp_path / "w.svg").read_text()


def test_paddocks_of_geojson(tmp_path):
    features = [
        {
            "type": "Feature",
            "id": 7,
            "geometry": None,
            "properties": {"id": 7, "date": date, "sm": sm, "flags": "", "shape": {"a": 1}},
        }
        for date, sm in (("2024-01-01", 0.2), ("2024-01-07", None), ("", None))
    ]
    path = tmp_path / "paddocks.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    (paddock,) = read_series(path).paddocks
    assert paddock.name == "7"
    np.testing.assert_array_equal(paddock.value, [0.2, np.nan])


@pytest.mark.parametrize("suffix", ["png", "svg", "html"])
def test_same_file_gives_the_same_picture(daily, tmp_path, suffix):
    series = read_series(daily)
    made = []
    for number in range(2):
        path = tmp_path / f"{number}.{suffix}"
        draw_series(path, series, series.paddocks, 0.15)
        made.append(path.read_bytes())
    assert made[0] == made[1]


def test_svg_holds_every_part(daily, tmp_path):
    series = read_series(daily)
    draw_series(tmp_path / "c.svg", series, select(series, ["north"]), 0.15)
    text = " ".join(ET.parse(tmp_path / "c.svg").getroot().itertext())
    for part in (
        "90 % band",
        "each day",
        "outlook",
        "outlook with the planned irrigation",
        "radar pass",
        "threshold 0.15",
        "rain (mm)",
        "soil moisture, 0-5 cm (m³/m³)",
        "north",
    ):
        assert part in text


def test_html_is_one_file_with_escaped_names(daily, tmp_path):
    series = read_series(daily)
    draw_series(tmp_path / "c.html", series, select(series, ["<south>"]))
    page = (tmp_path / "c.html").read_text()
    assert "&lt;south&gt;" in page and "<south>" not in page
    assert not re.search(r"<(script|link|img)|url\(http|src=", page)


def test_farm_units(daily):
    series = read_series(daily, "available_percent")
    assert series.label == "plant-available water (%)"
    assert series.paddocks[0].value.tolist() == [40, 80, 60]
    with pytest.raises(DataError, match="refill_mm"):
        read_series(daily, "refill_mm")
    with pytest.raises(UsageError, match="--column 'sand'"):
        read_series(daily, "sand")


def test_what_cannot_be_drawn(daily, tmp_path):
    series = read_series(daily)
    with pytest.raises(UsageError, match="--paddock 'nort'"):
        select(series, ["nort"])
    with pytest.raises(DataError, match="--paddock"):
        draw_series(tmp_path / "c.png", series, series.paddocks * MOST_CHARTS)
    (tmp_path / "none.csv").write_text("site,date,sm\na,2024-01-01,\n")
    empty = read_series(tmp_path / "none.csv")
    with pytest.raises(DataError, match="nothing to draw"):
        draw_series(tmp_path / "c.png", empty, empty.paddocks)
    (tmp_path / "other.csv").write_text("site,date,vh_db\na,2024-01-01,-15\n")
    with pytest.raises(DataError, match="no column sm or wetness"):
        read_series(tmp_path / "other.csv")
    assert not (tmp_path / "c.png").exists()


def test_command(daily, tmp_path):
    command = [sys.executable, "-m", "kgsm_infer.app.cli", "plot", str(daily)]
    done = subprocess.run([*command, "-o", "c.png"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"c.png: 2 paddocks of {daily}"
    assert (tmp_path / "c.png").read_bytes().startswith(b"\x89PNG")
    done = subprocess.run([*command, "-o", "c.pdf"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2 and ".png, .svg" in done.stderr


@pytest.mark.parametrize(
    ("share", "text"),
    [
        ("0.9", " – drier than 9 of 10 passes here"),
        ("0.98", " – drier than 9 of 10 passes here"),
        ("1.0", " – drier than 10 of 10 passes here"),
        ("0.02", " – wetter than 9 of 10 passes here"),
        ("0.5", " – drier than 5 of 10 passes here"),
        ("", ""),
    ],
)
def test_rank_of_the_last_day_is_in_the_title(tmp_path, share, text):
    """The rank is of the day before the forecast; a rank short of all is not shown as all."""
    (tmp_path / "d.csv").write_text(
        "site,date,sm,radar_weight,drier_than,flags\n"
        "a,2024-01-01,0.2,0.5,0.3,\n"
        f"a,2024-01-02,0.1,0.5,{share},\n"
        "a,2024-01-03,0.3,0.5,0.1,forecast\n"
    )
    series = read_series(tmp_path / "d.csv")
    assert rank_text(series.paddocks[0]) == text
    draw_series(tmp_path / "d.svg", series, series.paddocks)
    assert f"a{text}" in ["".join(e.itertext()) for e in ET.parse(tmp_path / "d.svg").iter()]


def test_moisture_in_percent_is_refused(tmp_path):
    path = tmp_path / "percent.csv"
    path.write_text("site,date,sm\na,2024-01-01,21.5\n")
    with pytest.raises(DataError, match=r"row 2, column sm: 21.5 is not .* in percent"):
        read_series(path)


@pytest.mark.parametrize(
    ("threshold", "column"),
    [(20, None), (-0.1, None), (float("nan"), None), (120, "available_percent")],
)
def test_a_threshold_lies_on_the_axis(threshold, column):
    with pytest.raises(UsageError, match="is not in the unit of the axis"):
        check_threshold(threshold, column)
    check_threshold(0.2 if column is None else 60, column)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("0.2,0.3,0.1,", "row 2, column sm_lower: 0.3 is above sm"),
        ("0.2,0.1,30,", "row 2, column sm_upper: 30.* in percent"),
    ],
)
def test_crossed_intervals_and_those_of_another_unit_are_refused(tmp_path, row, what):
    path = tmp_path / "values.csv"
    path.write_text(f"site,date,sm,sm_lower,sm_upper,flags\nnorth,2024-01-12,{row}\n")
    with pytest.raises(DataError, match=what):
        read_series(path)
