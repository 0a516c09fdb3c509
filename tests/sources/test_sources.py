"""Sources: other people's files as the table of design §3, on small copies of their layouts.

Numbers are checked against the files themselves, read with the csv module, or against
arithmetic done here. Real data take part where they stand beside the project.
"""

from __future__ import annotations

import csv
import os
import re
import socket
import subprocess
import sys
import threading
import zipfile
from datetime import UTC, date, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, MissingError, UsageError
from kgsm_infer.tables.table import read_table, table_from_columns
from kgsm_train.sources.columns import Sourced, keep_nearest, nearest, write_source
from kgsm_train.sources.earth_engine import ndvi_of, read_backscatter, read_earth_engine
from kgsm_train.sources.ismn import SensorSelection, read_ismn
from kgsm_train.sources.join import IN_UTC, Join, join_in_situ
from kgsm_train.sources.join import with_ndvi as joined_ndvi
from kgsm_train.sources.oznet import (
    SITES_FILE,
    STATION_FILE,
    Choice,
    read_oznet,
    simulate_backscatter,
    wilting_point,
    with_backscatter,
)
from kgsm_train.sources.oznet_download import CHECKSUMS, COMMIT, download_oznet
from kgsm_train.sources.simulate import Twin

# a deprecation inside the ismn package, of pandas
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword")

FIRST = date(2020, 1, 1)
DAYS = 40
# the header of the authors' station files
STATION_HEADER = (
    *("time", "lat", "lon", "insitu_sm", "dem", "awc", "clay", "silt", "sand", "lst_1km"),
    *("albedo_500m", "ndvi_500m", "lst_100m", "albedo_100m", "ndvi_100m", "et_100m", "tavg"),
    *("vpd", "srad", "rain", "lst_interp_1km", "lst_interp_100m"),
)


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def write_rows(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def station_rows(seed):
    """DAYS rows as the authors write them: NA for missing, rain 1 mm on day 1, 2 mm on day 2..."""
    rng = np.random.default_rng(seed)
    rows = []
    for k in range(DAYS):
        row = dict.fromkeys(STATION_HEADER, "0.2")
        row |= {
            "time": (FIRST + timedelta(days=k)).isoformat(),
            "insitu_sm": "NA" if k % 7 == 3 else f"{rng.uniform(0.02, 0.28):.3f}",
            "dem": "127.5",
            "awc": "8",
            "clay": "0.62",
            "silt": "0.06",
            "sand": "0.32",
            "lst_1km": "NA",
            "lst_100m": "300.5",
            "lst_interp_1km": "301.1",
            "lst_interp_100m": "301.2",
            "ndvi_100m": "0.7" if k == 5 else f"{0.2 + k / 100:.2f}",
            "ndvi_500m": "0.25",
            "tavg": "17.5",
            "vpd": "12.5",
            "srad": "20.25",
            "rain": str(k + 1),
        }
        rows.append(row)
    return rows


@pytest.fixture
def repository(tmp_path):
    """A repository of three stations; y7 and y8 carry one series, as in the real one."""
    sites = [
        {"sitename": "y5", "lat": "-34.7", "lon": "146.3", "iteration": "3", "cluster": "NA"},
        {"sitename": "y7", "lat": "-34.8", "lon": "146.1", "iteration": "4", "cluster": "A"},
        {"sitename": "y8", "lat": "-34.9", "lon": "146.4", "iteration": "1", "cluster": "A"},
    ]
    folder = tmp_path / "OzNet_AOA"
    write_rows(folder / SITES_FILE, sites)
    for site, seed in (("y5", 1), ("y7", 2), ("y8", 2)):
        write_rows(folder / STATION_FILE.format(site=site), station_rows(seed))
    return folder


def change(path, row, column, value):
    """Change one cell; ``row`` as a person counts, the header being row 1."""
    rows = rows_of(path)
    rows[row - 2][column] = value
    write_rows(path, rows)


# --- OzNet


def test_oznet_columns_are_the_cells_of_the_files(repository):
    table = read_oznet(repository).columns
    assert len(table["site"]) == 3 * DAYS
    assert dict(zip(table["site"], table["fold"], strict=True)) == {"y5": "3", "y7": "4", "y8": "1"}
    clusters = dict(zip(table["site"], table["cluster"], strict=True))
    assert clusters == {"y5": "y5", "y7": "A", "y8": "A"}
    cells = rows_of(repository / STATION_FILE.format(site="y5"))
    sm = [float(row["insitu_sm"]) if row["insitu_sm"] != "NA" else np.nan for row in cells]
    np.testing.assert_array_equal(table["sm"][:DAYS], sm)
    np.testing.assert_array_equal(table["ndvi"][:DAYS], [float(r["ndvi_100m"]) for r in cells])
    assert table["date"][:2].tolist() == ["2020-01-01", "2020-01-02"]
    assert (table["lat"][0], table["lon"][0]) == (-34.7, 146.3)
    last = {name: table[name][DAYS - 1] for name in table}
    assert last["lst_k"] == 300.5
    assert last["lst_interp_k"] == 301.2
    assert (last["clay_share"], last["silt_share"], last["sand_share"]) == (0.62, 0.06, 0.32)
    assert (last["dem_m"], last["awc_percent"]) == (127.5, 8)
    assert (last["air_temp_c"], last["vpd_hpa"], last["srad_mj_m2_day"]) == (17.5, 12.5, 20.25)
    assert "vh_db" not in table


def test_oznet_sums_rain_to_the_day_itself_and_marks_what_the_authors_drop(repository):
    table = read_oznet(repository).columns
    # rain is 1, 2, 3, ... mm: day k (from 0) has k + 1
    assert np.isnan(table["rain_3d_mm"][:2]).all()
    assert table["rain_3d_mm"][2] == 1 + 2 + 3
    assert table["rain_7d_mm"][10] == sum(range(5, 12))
    assert np.isnan(table["rain_30d_mm"][28])
    assert table["rain_30d_mm"][29] == sum(range(1, 31))
    # |0.7 - 0.25| > 0.4 on day 5 only
    assert np.flatnonzero(table["ndvi_conflict"][:DAYS] == "true").tolist() == [5]


def test_oznet_rain_sum_is_missing_where_a_day_of_it_is(repository):
    change(repository / STATION_FILE.format(site="y5"), 12, "rain", "NA")
    table = read_oznet(repository).columns
    assert np.isnan(table["rain_3d_mm"][10:13]).all()
    assert table["rain_3d_mm"][13] == 12 + 13 + 14


def test_oznet_thins_to_the_same_days_after_summing(repository):
    whole, thin = read_oznet(repository).columns, read_oznet(repository, Choice(6)).columns
    days = [set(thin["date"][thin["site"] == site]) for site in ("y5", "y7", "y8")]
    assert days[0] == days[1] == days[2]
    ordinals = sorted(date.fromisoformat(day).toordinal() for day in days[0])
    assert set(np.diff(ordinals)) == {6}
    at = whole["date"].tolist().index(thin["date"][3])
    assert thin["rain_7d_mm"][3] == whole["rain_7d_mm"][at]


def test_oznet_period_and_stations_can_be_chosen(repository):
    choice = Choice(since="2020-01-10", until="2020-01-12", without=("y7",))
    table = read_oznet(repository, choice).columns
    assert set(table["site"]) == {"y5", "y8"}
    assert sorted(set(table["date"])) == ["2020-01-10", "2020-01-11", "2020-01-12"]


def test_oznet_reports_identical_series_with_their_folds(repository):
    notes = read_oznet(repository).notes
    assert any("y7, y8 have the same series" in note and "folds 4, 1" in note for note in notes)
    notes = read_oznet(repository, Choice(without=("y8",))).notes
    assert not any("same series" in note for note in notes)
    change(repository / STATION_FILE.format(site="y8"), 2, "insitu_sm", "0.5")
    assert not any("same series" in note for note in read_oznet(repository).notes)


def test_oznet_points_out_swapped_texture_but_does_not_touch_it(repository):
    as_is = read_oznet(repository)
    assert any("look swapped" in note for note in as_is.notes)
    assert as_is.columns["clay_share"][0] == 0.62
    swapped = read_oznet(repository, Choice(swap_clay_sand=True))
    assert not any("look swapped" in note for note in swapped.notes)
    assert (swapped.columns["clay_share"][0], swapped.columns["sand_share"][0]) == (0.32, 0.62)


def test_oznet_says_from_when_on_few_stations_are_left(repository):
    assert not any("stations have labels" in note for note in read_oznet(repository).notes)
    for site in ("y7", "y8"):
        path = repository / STATION_FILE.format(site=site)
        rows = rows_of(path)
        write_rows(
            path, [row | ({"insitu_sm": "NA"} if k > 20 else {}) for k, row in enumerate(rows)]
        )
    notes = read_oznet(repository).notes
    assert any("after 2020-01-21 only 1 of 3 stations have labels" in note for note in notes)


def test_oznet_says_nothing_of_texture_where_it_fits(repository):
    for site in ("y5", "y7", "y8"):
        path = repository / STATION_FILE.format(site=site)
        rows = [row | {"clay": "0.10", "sand": "0.84"} for row in rows_of(path)]
        write_rows(path, rows)
    assert not any("swapped" in note for note in read_oznet(repository).notes)


# Saxton and Rawls 2006, Table 3: wilting point by texture class (at 2.5 % organic matter)
@pytest.mark.parametrize(
    ("clay", "sand", "published"),
    [(0.10, 0.65, 0.08), (0.20, 0.40, 0.14), (0.34, 0.32, 0.22), (0.50, 0.25, 0.30)],
)
def test_wilting_point_against_the_published_table(clay, sand, published):
    assert wilting_point(np.array([clay]), np.array([sand]))[0] == pytest.approx(
        published, abs=0.02
    )


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [
        ("insitu_sm", "23", "is not a soil moisture"),
        ("ndvi_100m", "4500", "is not an NDVI"),
        ("clay", "62", "in percent?"),
        ("lst_100m", "25.3", "in degrees Celsius?"),
        ("rain", "-9999", "nodata value?"),
        ("tavg", "290.4", "in kelvin?"),
        ("srad", "250", "in W/m2?"),
        ("albedo_100m", "x", "is not a number"),
        ("time", "2020/01/07", "is not an ISO 8601 date"),
        ("time", "2020-01-17", "is not the day after"),
    ],
)
def test_oznet_refuses_what_a_column_cannot_hold(repository, column, value, says):
    path = repository / STATION_FILE.format(site="y7")
    change(path, 8, column, value)
    with pytest.raises(DataError, match=says) as refusal:
        read_oznet(repository)
    assert f"{path}: row 8, column {column}: {value}" in str(refusal.value)


def test_oznet_refuses_another_folder_a_lost_station_and_a_lost_column(repository, tmp_path):
    with pytest.raises(DataError, match="no copy of the repository"):
        read_oznet(tmp_path)
    path = repository / STATION_FILE.format(site="y8")
    rows = [{k: v for k, v in row.items() if k != "albedo_100m"} for row in rows_of(path)]
    write_rows(path, rows)
    with pytest.raises(DataError, match="no column 'albedo_100m'"):
        read_oznet(repository)
    path.unlink()
    with pytest.raises(DataError, match=r"y8_cleaned_data\.csv: no such file"):
        read_oznet(repository)


@pytest.mark.parametrize(
    ("column", "value", "says"),
    [("iteration", "NA", "needs its fold"), ("sitename", "y5", "twice"), ("lat", "347", "swapped")],
)
def test_oznet_refuses_a_broken_list_of_stations(repository, column, value, says):
    change(repository / SITES_FILE, 3, column, value)
    with pytest.raises(DataError, match=says) as refusal:
        read_oznet(repository)
    assert f"row 3, column {column}" in str(refusal.value)


@pytest.mark.parametrize(
    "choice", [{"every_days": 0}, {"since": "1.1.2020"}, {"until": "2020-02-30"}]
)
def test_oznet_refuses_a_choice_that_cannot_be(choice):
    with pytest.raises(UsageError):
        Choice(**choice)


def test_oznet_refuses_to_leave_out_what_is_not_there_or_all(repository):
    with pytest.raises(UsageError, match="no station 'y6'; known: y5, y7, y8"):
        read_oznet(repository, Choice(without=("y6",)))
    with pytest.raises(UsageError, match="every station"):
        read_oznet(repository, Choice(without=("y5", "y7", "y8")))
    with pytest.raises(UsageError, match="no day"):
        read_oznet(repository, Choice(since="2030-01-01"))


def test_simulated_backscatter_says_so_in_every_row_and_follows_the_wcm(repository):
    table = simulate_backscatter(read_oznet(repository), seed=3)
    assert any("SIMULATED" in note for note in table.notes)
    assert set(table.columns["source"]) == {"simulated"}
    sm, ndvi, vh_db = (table.columns[name] for name in ("sm", "ndvi", "vh_db"))
    np.testing.assert_array_equal(np.isnan(vh_db), np.isnan(sm) | np.isnan(ndvi))
    # Eqs 1-5 by hand; what is left is speckle and roughness, both small
    twin = Twin()
    vwc = np.maximum(1.9134 * ndvi**2 - 0.3215 * ndvi, 0)
    cos = np.cos(np.deg2rad(40))
    gamma2 = np.exp(-2 * twin.b * vwc / cos)
    soil = 10 ** ((twin.c_db + twin.d_db * sm) / 10)
    expected_db = 10 * np.log10(twin.a * cos * (1 - gamma2) + gamma2 * soil)
    left = (vh_db - expected_db)[np.isfinite(vh_db)]
    speckle_db = 10 / np.log(10) / np.sqrt(twin.looks)
    assert abs(left.mean()) < 4 * twin.roughness_db
    assert left.std() == pytest.approx(np.hypot(speckle_db, twin.roughness_db), rel=0.5)
    again = simulate_backscatter(read_oznet(repository), seed=3).columns["vh_db"]
    np.testing.assert_array_equal(vh_db, again)


@pytest.mark.realdata
def test_real_oznet_table_holds_every_label_of_the_files(shared_data, tmp_path):
    folder = shared_data / "oznet"
    table = read_oznet(folder)
    written = write_source(tmp_path / "oznet.csv", table)
    expected = {
        (row["sitename"], line["time"]): line["insitu_sm"]
        for row in rows_of(folder / SITES_FILE)
        for line in rows_of(folder / STATION_FILE.format(site=row["sitename"]))
    }
    got = rows_of(tmp_path / "oznet.csv")
    assert written == len(got) == len(expected) == 28 * 2192
    for row in got:
        cell = expected[row["site"], row["date"]]
        assert row["sm"] == "" if cell == "NA" else float(row["sm"]) == float(cell)
    identical = [note for note in table.notes if "same series" in note]
    assert len(identical) == 1
    assert "y7, y8, y9 have the same series" in identical[0]
    assert "folds 4, 1, 2" in identical[0]
    assert any("look swapped" in note for note in table.notes)


# --- download


def test_download_refuses_other_bytes_and_keeps_nothing(tmp_path):
    asked = []

    def fetch(url):
        asked.append(url)
        return b"sitename,lat\n"

    with pytest.raises(DataError, match="not kept"):
        download_oznet(tmp_path, fetch=fetch)
    assert asked == [
        f"https://raw.githubusercontent.com/yuyi13/OzNet_AOA/{COMMIT}/0_ancillary/"
        "OzNet_study_sites.csv"
    ]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_download_without_network_is_a_missing_resource(tmp_path, monkeypatch):
    """A port nobody listens on; and a server that has no such file."""
    module = "kgsm_train.sources.oznet_download"
    monkeypatch.setattr("kgsm_infer.base.network.RETRIES", 0)
    with socket.socket() as closed:  # it keeps the port, so that no other process listens on it
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        monkeypatch.setattr(f"{module}.REPOSITORY", f"http://127.0.0.1:{port}")
        with pytest.raises(MissingError, match=r"cannot be reached \(Connection refused\)"):
            download_oznet(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(f"{module}.REPOSITORY", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(MissingError, match="the server says 404"):
            download_oznet(tmp_path)
        server.shutdown()


def test_download_refuses_a_commit_that_is_none(tmp_path):
    with pytest.raises(UsageError, match="40 hexadecimal"):
        download_oznet(tmp_path, commit="main")


@pytest.mark.realdata
def test_download_checksums_are_those_of_the_data_tested_with(shared_data, tmp_path):
    served = []

    def fetch(url):
        served.append(url)
        return (shared_data / "oznet" / url.split(f"{COMMIT}/")[1]).read_bytes()

    assert download_oznet(tmp_path, fetch=fetch) == (29, 0)
    assert len(CHECKSUMS) == len(served) == 29
    (tmp_path / STATION_FILE.format(site="y5")).write_text("broken")
    assert download_oznet(tmp_path, fetch=fetch) == (1, 28)
    got, expected = read_oznet(tmp_path).columns, read_oznet(shared_data / "oznet").columns
    np.testing.assert_array_equal(got["sm"], expected["sm"])


# --- joining in time


def brute_nearest(site, time, other_site, other_time, tolerance):
    found = []
    for s, t in zip(site, time, strict=True):
        gaps = [
            (abs(u - t), u, q)
            for q, (r, u) in enumerate(zip(other_site, other_time, strict=True))
            if r == s and abs(u - t) <= tolerance
        ]
        found.append(min(gaps)[2] if gaps else -1)
    return found


places = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 500)), min_size=1, max_size=12)


@given(here=places, there=places, tolerance=st.integers(0, 200))
def test_nearest_is_the_nearest_of_the_same_site(here, there, tolerance):
    site, time = zip(*here, strict=True)
    other_site, other_time = zip(*there, strict=True)

    def seconds(values):
        return np.asarray(values, np.int64).astype("datetime64[s]")

    got = nearest(site, seconds(time), other_site, seconds(other_time), tolerance)
    expected = brute_nearest(site, time, other_site, other_time, tolerance)
    # of equal times any will do: compare what was found, not which row of it
    assert [t if q < 0 else other_time[q] for q, t in zip(got, time, strict=True)] == [
        t if q < 0 else other_time[q] for q, t in zip(expected, time, strict=True)
    ]
    assert (got >= 0).tolist() == [q >= 0 for q in expected]
    gap = np.array(
        [abs(other_time[q] - t) if q >= 0 else 0 for q, t in zip(got, time, strict=True)]
    )
    once = keep_nearest(got, gap)
    for label in set(got.tolist()) - {-1}:
        holders = np.flatnonzero(once == label)
        assert len(holders) == 1
        assert gap[holders[0]] == gap[got == label].min()


# --- Earth Engine

EXPORT = {
    "system:index": "0",
    "site": "y5",
    "time": "2020-01-10T19:32:07Z",
    "VH": "-20",
    "VV": "-12",
    "angle": "38.2",
    "orbit_pass": "DESCENDING",
    "relative_orbit": "16",
    "pixels": "75",
    ".geo": "",
}


def export(path, *changes):
    return write_rows(path, [EXPORT | change for change in changes])


def with_ndvi(table, path, join=IN_UTC):
    return joined_ndvi(table, ndvi_of(path), join)


def in_situ(times, sm, site="y5", **columns):
    return table_from_columns({"site": [site] * len(sm), "date": times, "sm": sm, **columns})


def test_export_becomes_sigma0_in_db_with_orbit(tmp_path):
    table = read_backscatter(export(tmp_path / "s1.csv", {})).columns
    assert {name: values.tolist() for name, values in table.items()} == {
        "site": ["y5"],
        "date": ["2020-01-10T19:32:07Z"],
        "vh_db": [-20.0],
        "vv_db": [-12.0],
        "angle_deg": [38.2],
        "orbit": ["DESCENDING-16"],
    }


def test_the_scripts_in_the_docs_export_what_is_read(tmp_path):
    text = (Path(__file__).resolve().parents[2] / "docs" / "earth_engine.md").read_text("utf-8")
    radar, ndvi = (
        re.findall(r"'(\w+)'", names) for names in re.findall(r"selectors: \[(.*?)\]", text)
    )
    values = EXPORT | {"NDVI": "0.4", "sensor": "Landsat"}
    s1 = write_rows(tmp_path / "s1.csv", [{name: values[name] for name in radar}])
    n = write_rows(tmp_path / "n.csv", [{name: values[name] for name in ndvi}])
    table = with_ndvi(read_backscatter(s1), n).columns
    assert (table["orbit"][0], table["vv_db"][0], table["ndvi"][0]) == ("DESCENDING-16", -12, 0.4)
    for column in EXPORT.keys() - {"system:index", ".geo"}:
        assert column in radar


def test_export_reads_milliseconds_the_long_orbit_names_and_linear_power(tmp_path):
    time = datetime(2020, 1, 10, 19, 32, 7, tzinfo=UTC)
    row = {
        "site": "y5",
        "system:time_start": f"{time.timestamp() * 1000:.0f}",
        "VH": "0.01",
        "angle": "38.2",
        "orbitProperties_pass": "ASCENDING",
        "relativeOrbitNumber_start": "9.0",
    }
    table = read_backscatter(write_rows(tmp_path / "s1.csv", [row]), "linear").columns
    assert table["date"].tolist() == ["2020-01-10T19:32:07Z"]
    assert table["vh_db"].tolist() == [-20.0]
    assert table["orbit"].tolist() == ["ASCENDING-9"]
    assert "vv_db" not in table


def test_slices_of_a_pass_are_averaged_in_linear_power_by_pixels(tmp_path):
    path = export(
        tmp_path / "s1.csv",
        {"VH": "-10", "VV": "-8", "pixels": "30"},
        {"VH": "-20", "VV": "", "pixels": "10", "time": "2020-01-10T19:32:32Z"},
        {"VH": "-15", "time": "2020-01-10T19:32:07Z", "relative_orbit": "118"},
        {"VH": "", "VV": "", "angle": "", "pixels": "0", "time": "2020-01-16T19:32:07Z"},
    )
    sourced = read_backscatter(path)
    assert sourced.columns["orbit"].tolist() == ["DESCENDING-118", "DESCENDING-16"]
    expected_db = 10 * np.log10((0.1 * 30 + 0.01 * 10) / 40)
    assert sourced.columns["vh_db"][1] == pytest.approx(expected_db, abs=1e-4)
    assert sourced.columns["vv_db"][1] == -8  # the slice without VV has no say in it
    assert any("1 rows without backscatter" in note for note in sourced.notes)
    assert any("1 rows are further frames of a pass" in note for note in sourced.notes)


@pytest.mark.parametrize(
    ("column", "value", "unit", "says"),
    [
        ("VH", "0.012", "db", "linear power, or a lost minus sign?"),
        ("VH", "-20.5", "linear", "in dB?"),
        ("VV", "0", "linear", "nodata?"),
        ("angle", "0.67", "db", "radians?"),
        ("site", "", "db", "every row needs its site"),
        ("time", "10/01/2020", "db", "is not an ISO 8601 date"),
        ("VH", "--", "db", "is not a number"),
    ],
)
def test_export_refuses_what_a_column_cannot_hold(tmp_path, column, value, unit, says):
    good = {} if unit == "db" else {"VH": "0.01", "VV": "0.1"}
    bad = good | {column: value}  # most rows: a single one may be a physical outlier
    path = export(tmp_path / "s1.csv", good, bad, bad)
    with pytest.raises(DataError) as refusal:
        read_backscatter(path, unit)
    assert f"{path}: row 3, column {column}:" in str(refusal.value)
    assert says in str(refusal.value)


def outcome(call):
    """What a reader gives, or its reason; any other exception is a failure."""
    try:
        return call(), ""
    except DataError as refusal:
        return None, str(refusal)


cells = st.one_of(
    st.sampled_from(["", "NA", "nan", "inf", "-inf", "1e400", "0", "-0", "-20", "65535", "-9999"]),
    st.floats().map(str),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8),
)


@settings(deadline=None)
@given(
    column=st.sampled_from(sorted(EXPORT.keys() - {"system:index", ".geo"})),
    cell=cells,
    unit=st.sampled_from(["db", "linear"]),
)
@example(column="VH", cell="2", unit="linear")  # +3 dB, which no table may hold
@example(column="pixels", cell="1e306", unit="db")
@example(column="pixels", cell="-1", unit="db")
def test_export_with_any_cell_is_read_right_or_refused(tmp_path_factory, column, cell, unit):
    good = {} if unit == "db" else {"VH": "0.01", "VV": "0.1"}
    path = export(tmp_path_factory.mktemp("any") / "s1.csv", good | {column: cell})
    table, reason = outcome(lambda: read_backscatter(path, unit))
    if table is None:
        assert str(path) in reason
        return
    for name in ("vh_db", "vv_db"):
        value = table.columns[name]
        assert (np.isnan(value) | ((value <= 0) & (value >= -200))).all()
    write_source(path.with_name("out.csv"), table)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(column=st.sampled_from(STATION_HEADER), cell=cells)
def test_station_file_with_any_cell_is_read_right_or_refused(repository, column, cell):
    path = repository / STATION_FILE.format(site="y7")
    rows = station_rows(2)
    rows[9][column] = cell
    write_rows(path, rows)
    table, reason = outcome(lambda: read_oznet(repository, Choice(without=("y5", "y8"))))
    if table is None:
        assert f"{path}: " in reason
        return
    for values in table.columns.values():
        assert values.dtype.kind == "U" or not np.isinf(values).any()


def test_export_refuses_a_time_that_is_not_in_milliseconds(tmp_path):
    row = {k: v for k, v in EXPORT.items() if k != "time"} | {"system:time_start": "1578684727"}
    with pytest.raises(DataError, match="milliseconds"):
        read_backscatter(write_rows(tmp_path / "s1.csv", [row]))


@pytest.mark.parametrize(
    ("column", "says"),
    [("VH", "'VH'"), ("angle", "'angle'"), ("site", "'site'"), ("time", "'system:time_start'")],
)
def test_export_names_a_column_that_is_not_there(tmp_path, column, says):
    row = {name: value for name, value in EXPORT.items() if name != column}
    with pytest.raises(DataError, match=f"no column.*{says}"):
        read_backscatter(write_rows(tmp_path / "s1.csv", [row]))


def test_export_without_any_backscatter_or_any_row_is_refused(tmp_path):
    with pytest.raises(DataError, match="inside the swath"):
        read_backscatter(export(tmp_path / "s1.csv", {"VH": "", "VV": ""}))
    (tmp_path / "s1.csv").write_text(",".join(EXPORT) + "\n")
    with pytest.raises(DataError, match="no rows"):
        read_backscatter(tmp_path / "s1.csv")
    with pytest.raises(UsageError, match="neither db nor linear"):
        read_backscatter(tmp_path / "s1.csv", "power")


def acquisitions(*times, site="y5"):
    count = len(times)
    return Sourced(
        {
            "site": np.array([site] * count),
            "date": np.array(times),
            "vh_db": np.full(count, -20.0),
            "angle_deg": np.full(count, 38.0),
        }
    )


def test_join_takes_the_nearest_label_once(tmp_path):
    radar = acquisitions("2020-01-10T04:00:00Z", "2020-01-10T06:00:00Z", "2020-01-10T18:30:00Z")
    labels = in_situ(["2020-01-10T05:20:00Z", "2020-01-11T18:31:00Z"], [0.2, 0.3])
    table = join_in_situ(radar, labels, Join(tolerance_hours=2))
    np.testing.assert_array_equal(table.columns["sm"], [np.nan, 0.2, np.nan])
    np.testing.assert_array_equal(table.columns["sm_gap_hours"], [np.nan, -0.667, np.nan])
    assert any("1 of 3 acquisitions have a label; 1 more" in note for note in table.notes)


@pytest.mark.parametrize(
    ("offset", "time", "day"),
    [
        (0, "2020-01-10T19:32:07Z", "2020-01-10"),
        (10, "2020-01-10T19:32:07Z", "2020-01-11"),  # 05:32 of the next day in Yanco
        (10, "2020-01-10T08:41:07Z", "2020-01-10"),
        (-8, "2020-01-10T07:59:00Z", "2020-01-09"),
    ],
)
def test_join_gives_an_acquisition_the_local_day_it_falls_in(offset, time, day):
    days = ["2020-01-09", "2020-01-10", "2020-01-11"]
    labels = in_situ(days, [0.09, 0.10, 0.11])
    table = join_in_situ(acquisitions(time), labels, Join(12, offset))
    assert table.columns["sm"].tolist() == [labels.numbers["sm"][days.index(day)]]


def test_join_carries_what_is_constant_everywhere_and_the_rest_only_nearby():
    radar = acquisitions("2020-01-10T12:00:00Z", "2020-03-01T12:00:00Z")
    labels = in_situ(
        ["2020-01-10", "2020-01-11"],
        [0.2, 0.3],
        fold=["3", "3"],
        rain_mm=["5", "6"],
        lat=[1.0, 1.0],
    )
    table = join_in_situ(radar, labels).columns
    assert table["fold"].tolist() == ["3", "3"]
    assert table["lat"].tolist() == [1.0, 1.0]
    assert table["rain_mm"].tolist() == ["5", ""]
    np.testing.assert_array_equal(table["sm"], [0.2, np.nan])


def test_join_refuses_what_cannot_be_joined():
    radar = acquisitions("2020-01-10T12:00:00Z")
    with pytest.raises(
        DataError, match="none of its sites is in the export; it has b, the export y5"
    ):
        join_in_situ(radar, in_situ(["2020-01-10"], [0.2], site="b"))
    with pytest.raises(DataError, match="do the periods overlap"):
        join_in_situ(radar, in_situ(["2021-01-10"], [0.2]))
    with pytest.raises(DataError, match="no column 'sm'"):
        join_in_situ(radar, table_from_columns({"site": ["y5"], "date": ["2020-01-10"]}))
    with pytest.raises(DataError, match="holds backscatter already"):
        join_in_situ(radar, in_situ(["2020-01-10"], [0.2], vh_db=[-20.0]))


@pytest.mark.parametrize(
    "join", [{"tolerance_hours": 0}, {"utc_offset_hours": 600}, {"ndvi_gap_days": -1}]
)
def test_join_refuses_gaps_that_cannot_be_meant(join):
    with pytest.raises(UsageError):
        Join(**join)


def test_ndvi_is_the_nearest_within_the_gap(tmp_path):
    radar = acquisitions("2020-01-10T12:00:00Z", "2020-01-20T12:00:00Z", "2020-06-01T12:00:00Z")
    path = write_rows(
        tmp_path / "ndvi.csv",
        [
            {"site": "y5", "time": "2020-01-08T12:00:00Z", "NDVI": "0.31"},
            {"site": "y5", "time": "2020-01-15T18:00:00Z", "NDVI": "0.35"},
            {"site": "y5", "time": "2020-01-19T12:00:00Z", "NDVI": ""},
            {"site": "y7", "time": "2020-06-01T12:00:00Z", "NDVI": "0.9"},
        ],
    )
    table = with_ndvi(radar, path, Join(ndvi_gap_days=6))
    np.testing.assert_array_equal(table.columns["ndvi"], [0.31, 0.35, np.nan])
    np.testing.assert_array_equal(table.columns["ndvi_gap_days"], [-2.0, -4.75, np.nan])
    with pytest.raises(DataError, match="no NDVI lies within"):
        with_ndvi(acquisitions("2021-01-01T00:00:00Z"), path)
    change(path, 3, "NDVI", "3500")
    with pytest.raises(DataError, match=r"row 3, column NDVI: 3500 is not an NDVI.*10,000"):
        with_ndvi(radar, path)


def test_oznet_with_an_export_is_one_row_per_acquisition(repository, tmp_path):
    path = export(
        tmp_path / "s1.csv",
        {"time": "2020-01-10T19:32:07Z"},  # 11 January in Yanco
        {"time": "2020-01-22T19:32:07Z"},
        {"time": "2020-01-16T08:41:07Z", "orbit_pass": "ASCENDING", "relative_orbit": "9"},
        {"time": "2020-01-16T08:41:07Z", "site": "elsewhere"},
    )
    daily = read_oznet(repository)
    table = with_backscatter(daily, path)
    assert table.columns["site"].tolist() == ["y5"] * 3
    days = ["2020-01-11", "2020-01-16", "2020-01-23"]
    for row, day in enumerate(days):
        at = daily.columns["date"].tolist().index(day)
        for name in ("sm", "ndvi", "rain_7d_mm"):
            np.testing.assert_equal(float(table.columns[name][row]), daily.columns[name][at])
    assert set(table.columns["fold"]) == {"3"}
    rows = write_source(tmp_path / "out.csv", table)
    back = read_table(tmp_path / "out.csv", features=["rain_7d_mm"], require=["vh_db", "sm"])
    assert rows == len(back) == 3
    assert back.text["ndvi_conflict"] == ("false",) * 3


def test_three_files_become_one_table(tmp_path):
    radar = export(tmp_path / "s1.csv", {}, {"time": "2020-01-22T19:32:07Z", "VH": "-18"})
    labels = write_rows(
        tmp_path / "sm.csv", [{"site": "y5", "date": "2020-01-10T19:00:00Z", "sm": "0.21"}]
    )
    ndvi = write_rows(tmp_path / "n.csv", [{"site": "y5", "date": "2020-01-12", "NDVI": "0.4"}])
    table = read_earth_engine(radar, labels, ndvi)
    assert table.columns["sm"][0] == 0.21
    assert table.columns["ndvi"].tolist() == [0.4, 0.4]
    assert list(table.columns)[:6] == ["site", "date", "vh_db", "vv_db", "angle_deg", "orbit"]


def test_nothing_is_written_that_would_not_read_back(tmp_path):
    bad = acquisitions("2020-01-10T12:00:00Z", "2020-01-10T12:00:00Z")
    bad.columns["vh_db"][0] = -18.0
    with pytest.raises(DataError, match="twice at"):
        write_source(tmp_path / "out.csv", bad)
    assert not (tmp_path / "out.csv").exists()


# --- ISMN

STM = "{network}_{network}_{station}_{what}_{top:.6f}_{bottom:.6f}_{sensor}_20200101_20200131.stm"


def stm_lines(readings, head):
    """An ISMN series in the layout with one header line."""
    body = [f"{time:%Y/%m/%d %H:%M} {value:10.4f} {flag} M" for time, value, flag in readings]
    return "\n".join([head, *body]) + "\n"


def archive(path, series, above=""):
    """A zip of the header-values layout; series: (station, what, top, bottom, readings)."""
    with zipfile.ZipFile(path, "w") as content:
        for station, what, top, bottom, readings in series:
            name = STM.format(
                network="NET", station=station, what=what, top=top, bottom=bottom, sensor="Probe-X"
            )
            head = f"NET NET {station} 48.10000 16.20000 180.00 {top:.2f} {bottom:.2f} Probe-X"
            content.writestr(f"{above}NET/{station}/{name}", stm_lines(readings, head))
    return path


def at(day, hour, minute=0):
    return datetime(2020, 1, day, hour, minute)  # noqa: DTZ001  ISMN writes UTC without saying so


READINGS = [
    (at(1, 5), 0.20, "G"),
    (at(1, 12), 0.22, "G"),
    (at(1, 20), 0.60, "D05"),
    (at(2, 6), 0.30, "G"),
    (at(3, 12), 0.31, "C01,D03"),
    (at(4, 11), 0.24, "G"),
]
WARMTH = [
    (at(1, 5), -1.0, "G"),
    (at(1, 12), 4.0, "G"),
    (at(2, 6), 9.0, "D01"),
    (at(4, 11), 7.5, "G"),
]


@pytest.fixture
def ismn_zip(tmp_path):
    pytest.importorskip("ismn", reason="the extra [ismn] is not installed")
    series = [
        ("one", "sm", 0.05, 0.05, READINGS),
        ("one", "ts", 0.05, 0.05, WARMTH),
        ("one", "sm", 0.3, 0.3, READINGS),
        ("two", "sm", 0.0, 0.05, READINGS[:2]),
    ]
    return archive(tmp_path / "net.zip", series)


def test_ismn_daily_mean_of_good_surface_readings(ismn_zip, tmp_path):
    table = read_ismn([ismn_zip])
    columns = table.columns
    one = columns["site"] == "NET_one_Probe-X_0.05-0.05m"
    assert set(columns["site"][~one]) == {"NET_two_Probe-X_0-0.05m"}
    assert columns["date"][one].tolist() == ["2020-01-01", "2020-01-02", "2020-01-04"]
    np.testing.assert_allclose(columns["sm"][one], [0.21, 0.30, 0.24])
    assert columns["readings"][one].tolist() == [2, 1, 1]
    np.testing.assert_array_equal(columns["temp_c"][one], [1.5, np.nan, 7.5])
    assert np.isnan(columns["temp_c"][~one]).all()
    assert set(columns["cluster"]) == {"NET"}
    assert set(columns["station"]) == {"NET_one", "NET_two"}
    assert (columns["lat"][0], columns["lon"][0]) == (48.1, 16.2)
    assert any("0.3-0.3 m (1)" in note for note in table.notes)
    assert any("D05 (1)" in note for note in table.notes)
    assert write_source(tmp_path / "out.csv", table) == 4
    assert read_table(tmp_path / "out.csv", require=["sm", "temp_c"]).numbers["sm"][0] == 0.21


def test_ismn_reading_nearest_to_an_overpass_or_every_one(ismn_zip):
    every = read_ismn([ismn_zip], SensorSelection(when="every")).columns
    one = every["site"] == "NET_one_Probe-X_0.05-0.05m"
    good = [reading for reading in READINGS if reading[2] == "G"]
    assert every["date"][one].tolist() == [f"{time:%Y-%m-%dT%H:%M:%SZ}" for time, _, _ in good]
    near = read_ismn([ismn_zip], SensorSelection(when="06:30")).columns
    one = near["site"] == "NET_one_Probe-X_0.05-0.05m"
    # 11:00 on the 4th is further than three hours
    assert near["date"][one].tolist() == ["2020-01-01T05:00:00Z", "2020-01-02T06:00:00Z"]
    np.testing.assert_array_equal(near["temp_c"][one], [-1.0, np.nan])


def test_ismn_network_is_read_below_a_folder_on_top(ismn_zip, tmp_path):
    path = archive(tmp_path / "top.zip", [("one", "sm", 0.05, 0.05, READINGS)], above="Data_2020/")
    table = read_ismn([path])
    assert set(table.columns["cluster"]) == {"NET"}
    assert set(table.columns["site"]) == {"NET_one_Probe-X_0.05-0.05m"}
    assert "temp_c" not in table.columns
    assert any("frozen soil cannot be distinguished" in note for note in table.notes)


def test_ismn_extracted_folder_reads_as_the_zip(ismn_zip, tmp_path):
    with zipfile.ZipFile(ismn_zip) as content:
        content.extractall(tmp_path / "folder")
    before = sorted(tmp_path.rglob("*"))
    got, expected = read_ismn([tmp_path / "folder"]).columns, read_ismn([ismn_zip]).columns
    np.testing.assert_array_equal(got["sm"], expected["sm"])
    assert sorted(tmp_path.rglob("*")) == before  # no index left beside the data


def test_ismn_refusals_say_what_there_is(ismn_zip, tmp_path):
    with pytest.raises(DataError, match=r"within 1 to 2 m; there are .*0.05-0.05 m"):
        read_ismn([ismn_zip], SensorSelection(1, 2))
    with pytest.raises(DataError, match=r"flagged U; flags there: G \(6\)"):
        read_ismn([ismn_zip], SensorSelection(flags=("U",)))
    twice, once = read_ismn([ismn_zip, ismn_zip]).columns, read_ismn([ismn_zip]).columns
    assert all(np.array_equal(twice[name], once[name]) for name in ("site", "date", "sm"))
    with pytest.raises(DataError, match="no such file"):
        read_ismn([tmp_path / "none.zip"])
    (tmp_path / "cut.zip").write_bytes(ismn_zip.read_bytes()[:100])
    with pytest.raises(DataError, match="not a zip file"):
        read_ismn([tmp_path / "cut.zip"])
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as content:
        content.writestr("readme.txt", "nothing here")
    with pytest.raises(DataError, match=r"other\.zip"):
        read_ismn([tmp_path / "other.zip"])


@pytest.mark.parametrize(
    "surface", [{"min_depth_m": 0.1}, {"flags": ()}, {"when": "noon"}, {"when": "25:00"}]
)
def test_ismn_refuses_a_choice_that_cannot_be(surface):
    with pytest.raises(UsageError):
        SensorSelection(**surface)


def test_ismn_without_its_package_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ismn", None)
    monkeypatch.setitem(sys.modules, "ismn.interface", None)
    with pytest.raises(MissingError, match=r"pip install 'kgsm\[ismn\]'"):
        read_ismn([tmp_path / "any.zip"])


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "surface", "sites", "network"),
    [
        ("Data_header_values.zip", SensorSelection(flags=("U",)), 8, {"MAQU", "SCAN", "SOILSCAPE"}),
        ("Data_seperate_files_20170810_20180809.zip", SensorSelection(), 1, {"FR_Aqui"}),
        (
            "Data_seperate_files_header_20170810_20180809.zip",
            SensorSelection(max_depth_m=0.25),
            2,
            {"COSMOS"},
        ),
    ],
)
def test_real_ismn_archives_of_both_layouts(shared_data, name, surface, sites, network):
    pytest.importorskip("ismn", reason="the extra [ismn] is not installed")
    path = shared_data / "ismn" / name
    columns = read_ismn([path], surface).columns
    assert set(columns["cluster"]) == network
    assert len(set(columns["site"])) == sites
    # the same means, from the lines of the files
    expected: dict[tuple[str, str], list[float]] = {}
    with zipfile.ZipFile(path) as content:
        for file in (item for item in content.namelist() if item.endswith(".stm")):
            for line in content.read(file).decode().replace("\r", "\n").splitlines():
                words = line.split()
                if len(words) < 4 or "/" not in words[0]:
                    continue  # the header of a file
                # two times and nine columns of metadata, or time, value and flags alone
                value, flag = words[12:14] if "/" in words[2] else words[2:4]
                if flag in surface.flags:
                    station = "_".join(Path(file).parts[-3:-1])
                    expected.setdefault((station, words[0]), []).append(float(value))
    chosen = set(columns["station"])
    wanted = {key: np.mean(values) for key, values in expected.items() if key[0] in chosen}
    got = {
        (station, day.replace("-", "/")): sm
        for station, day, sm in zip(columns["station"], columns["date"], columns["sm"], strict=True)
    }
    assert got.keys() == wanted.keys()
    np.testing.assert_allclose([got[key] for key in wanted], list(wanted.values()), atol=1e-5)


# --- the command


def data(*args, cwd):
    done = subprocess.run(
        [sys.executable, "-m", "kgsm_train.cli", "data", *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env=dict(os.environ),
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_command_oznet_writes_a_table_and_its_notes(repository, tmp_path):
    code, out, err = data("oznet", repository, "-o", "t.csv", "--every", 6, cwd=tmp_path)
    assert (code, out) == (0, "t.csv: 21 rows of 3 sites\n"), err
    assert "note: y7, y8 have the same series" in err
    assert len(read_table(tmp_path / "t.csv", features=["rain_30d_mm"], require=["sm"])) == 21


def test_command_oznet_with_backscatter_and_simulated(repository, tmp_path):
    time = {"time": "2020-01-11T19:32:07Z"}
    export(tmp_path / "s1.csv", time, time | {"site": "y7"})
    code, out, err = data(
        "oznet", repository, "--backscatter", "s1.csv", "-o", "t.csv", cwd=tmp_path
    )
    assert (code, out) == (0, "t.csv: 2 rows of 2 sites\n"), err
    code, _, err = data(
        "oznet",
        repository,
        "--simulate-backscatter",
        "-o",
        "s.csv",
        "--without",
        "y7,y8",
        cwd=tmp_path,
    )
    assert code == 0
    assert "SIMULATED" in err
    assert {row["source"] for row in rows_of(tmp_path / "s.csv")} == {"simulated"}


def test_command_gee_joins(tmp_path):
    export(tmp_path / "s1.csv", {})
    write_rows(tmp_path / "sm.csv", [{"site": "y5", "date": "2020-01-11", "sm": "0.21"}])
    args = ("gee", "s1.csv", "--in-situ", "sm.csv", "-o", "t.csv", "--utc-offset-hours", 10)
    code, out, err = data(*args, cwd=tmp_path)
    assert (code, out) == (0, "t.csv: 1 rows of 1 sites\n"), err
    assert rows_of(tmp_path / "t.csv")[0]["sm"] == "0.21"


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (("oznet", ".", "-o", "t.csv"), 3),
        (("oznet", ".", "-o", "t.csv", "--backscatter", "s1.csv", "--every", "6"), 2),
        (("oznet", ".", "-o", "t.csv", "--commit", "0" * 40), 2),
        (("oznet", ".", "-o", "t.csv", "--download", "--commit", "main"), 2),
        (("gee", "none.csv", "--in-situ", "none.csv", "-o", "t.csv"), 3),
        (("gee", "none.csv", "--in-situ", "n.csv", "-o", "t.csv", "--tolerance-hours", "0"), 2),
        (("ismn", "none.zip", "-o", "t.csv", "--when", "noon"), 2),
    ],
)
def test_command_ends_with_one_line_the_code_and_no_file(tmp_path, args, code):
    got, out, err = data(*args, cwd=tmp_path)
    assert got == code
    assert out == ""
    assert err.startswith("kgsm-train: ")
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_command_needs_nothing_of_the_training_side(repository, tmp_path):
    program = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'scipy', 'pandas'):\n"
        "    sys.modules[name] = None\n"
        "from kgsm_train.cli import main\n"
        f"sys.argv = ['kgsm-train', 'data', 'oznet', {str(repository)!r}, '-o', 't.csv']\n"
        "main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert len(rows_of(tmp_path / "t.csv")) == 3 * DAYS
