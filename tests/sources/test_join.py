"""Exports and loggers' files as people have them, joined by time, or day to day."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.table import table_from_columns
from kgsm_train.sources.columns import Sourced
from kgsm_train.sources.earth_engine import read_backscatter, read_earth_engine
from kgsm_train.sources.join import Join, join_in_situ
from kgsm_train.sources.loggers import Logger, read_in_situ

EE = {
    "site": ["p1", "p1"],
    "time": ["2022-06-10T17:30:00Z", "2022-06-22T17:30:00Z"],
    "VV": [-10.1, -10.5],
    "VH": [-17.0, -17.3],
    "angle": [38.2, 38.2],
}


def export(path, **columns):
    """An Earth Engine export; a column of None is left out."""
    merged = {name: values for name, values in (EE | columns).items() if values is not None}
    write_csv(path, merged)
    return path


def parquet(path, columns):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)
    return path


def radar(*dates):
    columns = {"site": ["p1"] * len(dates), "date": dates, "vh_db": np.full(len(dates), -17.0)}
    return Sourced({name: np.asarray(values) for name, values in columns.items()})


def labels(dates, sm):
    return table_from_columns({"site": ["p1"] * len(sm), "date": dates, "sm": sm})


# --- times that lost their digits


@pytest.mark.parametrize("time", ["1.65E+12", "1.65484E+12", "1.654882e+12", "1650000000000"])
def test_a_time_that_lost_its_digits_is_refused(tmp_path, time):
    path = export(tmp_path / "s1.csv", time=None, **{"system:time_start": [time, time]})
    with pytest.raises(DataError, match=r"row 2, column system:time_start: .* lost its digits"):
        read_backscatter(path)
    path = parquet(tmp_path / "s1.parquet", EE | {"system:time_start": [float(time)] * 2})
    with pytest.raises(DataError, match=r"row 1, column system:time_start: .* lost its digits"):
        read_backscatter(parquet(path, {k: v for k, v in EE.items() if k != "time"}
                                 | {"system:time_start": [float(time)] * 2}))  # fmt: skip


@pytest.mark.parametrize("time", ["1654882200000", "1.6548822E+12", "1654882200000.0"])
def test_a_time_with_its_digits_is_read(tmp_path, time):
    if "E" in time:
        time = "1.654882200000E+12"
    path = export(tmp_path / "s1.csv", time=None, **{"system:time_start": [time, "1655918100000"]})
    assert read_backscatter(path).columns["date"][0] == "2022-06-10T17:30:00Z"


# --- names, and passes of one day


def test_an_export_may_use_the_names_of_the_contract(tmp_path):
    contract = {
        "site": ["p1", "p1"],
        "date": ["20220610T173000Z", "2022-06-22T17:30+00"],
        "vh_gamma0_linear": [0.02, 0.03],
        "vv_linear": [0.1, None],
        "angle_deg": [60.0, 60.0],
        "ndvi": [0.3, 0.4],
        "orbit": ["A", "A"],
        "field": ["7", "7"],
    }
    columns = {k: np.asarray(v, float) if v[0] == 0.1 else v for k, v in contract.items()}
    write_csv(tmp_path / "s1.csv", columns)
    table = read_backscatter(tmp_path / "s1.csv").columns
    assert table["date"].tolist() == ["2022-06-10T17:30:00Z", "2022-06-22T17:30:00Z"]
    np.testing.assert_allclose(table["vh_db"], [-20.0, 10 * np.log10(0.015)], atol=1e-4)
    np.testing.assert_array_equal(table["vv_db"], [-10, np.nan])
    assert (table["ndvi"].tolist(), table["field"].tolist()) == ([0.3, 0.4], ["7", "7"])
    with pytest.raises(DataError, match="columns VH and vh_db give one backscatter twice"):
        read_backscatter(export(tmp_path / "twice.csv", vh_db=[-17, -17]))
    with pytest.raises(DataError, match="rename 'station' if that is what it is"):
        read_backscatter(export(tmp_path / "n.csv", site=None, station=["p1", "p1"]))


@pytest.mark.parametrize("value", [0.0, -9999.0, -1700.0, -3.4e38])
def test_an_unmasked_fill_is_no_backscatter(tmp_path, value):
    with pytest.raises(DataError, match=r"row 2, column VH: .* is not a backscatter in dB"):
        read_backscatter(export(tmp_path / "s1.csv", VH=[value, -17.0]))


@pytest.mark.parametrize("date", ["2022-06-10", "20220610", "2022-06-10T00:00:00"])
def test_ascending_and_descending_rows_of_a_day_are_not_averaged(tmp_path, date):
    day = {"time": [date, date], "angle": [38.2, 38.2]}
    with pytest.raises(DataError, match=r"site p1 twice at 2022-06-10.*with vh_db -17 and -17.3"):
        read_backscatter(export(tmp_path / "s1.csv", **day))
    for name in ("orbit", "orbitProperties_pass", "orbit_direction"):
        path = export(tmp_path / "s1.csv", **day, **{name: ["ASCENDING", "DESCENDING"]})
        table = read_backscatter(path)
        assert table.columns["vh_db"].tolist() == [-17.0, -17.3]
        assert table.columns["date"].tolist() == ["2022-06-10"] * 2
        assert any("its dates are days" in note for note in table.notes)
    kept = read_backscatter(export(tmp_path / "s1.csv", **day), keep="last")
    assert kept.columns["vh_db"].tolist() == [-17.3]


def test_a_time_is_preferred_to_a_day(tmp_path):
    stamps = ["1654882200000", "1655919000000"]
    path = export(tmp_path / "s1.csv", time=["2022-06-10", "2022-06-22"],
                  **{"system:time_start": stamps})  # fmt: skip
    assert read_backscatter(path).columns["date"][0] == "2022-06-10T17:30:00Z"


# --- days and clocks


def test_a_stated_offset_is_applied_to_local_times():
    there = labels(["2022-06-10 19:30", "2022-06-10 17:30"], [0.30, 0.10])
    acquired = radar("2022-06-10T17:30:00Z")
    stated = join_in_situ(acquired, there, Join(1, 2))
    assert stated.columns["sm"].tolist() == [0.30]
    assert any("taken as UTC+2 h, as stated" in note for note in stated.notes)
    silent = join_in_situ(acquired, there, Join(1))
    assert silent.columns["sm"].tolist() == [0.10]
    assert any("no --utc-offset-hours is stated" in note for note in silent.notes)
    zoned = labels(["2022-06-10T19:30+02", "2022-06-10T17:30+02"], [0.30, 0.10])
    assert join_in_situ(acquired, zoned, Join(1, 5)).columns["sm"].tolist() == [0.30]


DAYS = {
    "text": ["2022-06-10", "2022-06-11"],
    "basic": ["20220610", "20220611"],
    "midnights": ["2022-06-10T00:00:00", "2022-06-11T00:00:00"],
    "midnights of a zone": ["2022-06-10T00:00+10:00", "2022-06-11T00:00+10:00"],
    "timestamps": np.asarray(["2022-06-10", "2022-06-11"], "datetime64[ns]"),
    "dates": np.asarray(["2022-06-10", "2022-06-11"], "datetime64[D]"),
    "numbers": [20220610, 20220611],
}


@pytest.mark.parametrize("form", DAYS)
@pytest.mark.parametrize("tolerance", [1, 12])
def test_a_day_joins_the_day_whatever_its_form(form, tolerance):
    there = labels(DAYS[form], [0.10, 0.11])
    # 19:32 UTC is 05:32 of the next day in Yanco
    for offset, expected in ((None, 0.10), (0, 0.10), (10, 0.11)):
        table = join_in_situ(radar("2022-06-10T19:32:07Z"), there, Join(tolerance, offset))
        assert table.columns["sm"].tolist() == [expected]
        assert any("its dates are days" in note for note in table.notes)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_acquisitions_that_are_days_take_the_day_of_the_labels(tmp_path, kind):
    columns = EE | {"time": ["2022-06-10", "2022-06-22"]}
    path = tmp_path / f"s1.{kind}"
    if kind == "csv":
        write_csv(path, columns)
    else:
        parquet(path, columns | {"time": np.asarray(columns["time"], "datetime64[us]")})
    write_csv(tmp_path / "sm.csv", {
        "site": ["p1"] * 3,
        "date": ["2022-06-10 01:00", "2022-06-10 23:00", "2022-06-11 01:00"],
        "sm": [0.10, 0.20, 0.40],
    })  # fmt: skip
    table = read_earth_engine(path, tmp_path / "sm.csv")
    np.testing.assert_allclose(table.columns["sm"], [0.15, np.nan])  # the mean of the day
    assert table.columns["date"].tolist() == ["2022-06-10", "2022-06-22"]
    assert any("the mean of the day" in note for note in table.notes)
    write_csv(tmp_path / "days.csv", {"site": ["p1"], "date": ["2022-06-22"], "sm": [0.3]})
    table = read_earth_engine(path, tmp_path / "days.csv", join=Join(1, 10))
    np.testing.assert_array_equal(table.columns["sm"], [np.nan, 0.3])
    assert table.columns["sm_gap_hours"][1] == 0


def test_days_reach_further_only_where_the_tolerance_does():
    there = labels(["2022-06-09", "2022-06-30"], [0.1, 0.2])
    acquired = radar("2022-06-10T17:30:00Z")
    with pytest.raises(DataError, match="do the periods overlap"):
        join_in_situ(acquired, there, Join(24))
    assert join_in_situ(acquired, there, Join(36)).columns["sm"].tolist() == [0.1]


# --- loggers


TOA5 = """"TOA5","Site1","CR300","12345","CR300.Std.10","CPU:soil.CR300","1","Hourly"
"TIMESTAMP","RECORD","BattV_Min","VWC_5cm_Avg","T_5cm_Avg"
"TS","RN","Volts","{unit}","Deg C"
"","","Min","Avg","Avg"
"2022-06-10 17:00:00",1,12.9,{value},18.2
"2022-06-10 18:00:00",2,12.9,"NAN",18.2
"""
HOBO = (
    '\ufeff"Plot Title: Field A"\n"#","Date Time, GMT+10:00","Water Content, {unit}"\n'
    "1,06/10/22 11:00:00 PM,{value}\n2,06/13/22 12:10:00 AM,{value}\n"
)
ZENTRA = '"z6-1"\n"Records: 1","Port 1"\n"Timestamp"," {unit} Water Content"\n' + (
    "2022-06-10 17:00:00,{value}\n"
)


@pytest.mark.parametrize(("unit", "value"), [("m^3/m^3", "0.21"), ("%", "21"), ("m³/m³", "0.21")])
@pytest.mark.parametrize(("text", "site", "utc"), [
    (TOA5, "Site1", "2022-06-10T17:00:00"),
    (HOBO, "Field A", "2022-06-10T13:00:00"),
    (ZENTRA, "z6-1", "2022-06-10T17:00:00"),
])  # fmt: skip
def test_a_loggers_file_is_read_by_its_unit_line(tmp_path, text, site, utc, unit, value):
    path = tmp_path / "logger.csv"
    path.write_text(text.format(unit=unit, value=value), encoding="utf-8")
    table, notes = read_in_situ(path)
    assert table.site[0] == site
    assert str(table.date[0]) == utc
    assert table.numbers["sm"][0] == 0.21
    assert "header on line" in notes[0] and ("percent" in notes[0]) == (unit == "%")
    assert set(read_in_situ(path, Logger(site="p1"))[0].site) == {"p1"}


def test_what_a_loggers_file_leaves_open_is_asked_for(tmp_path):
    path = tmp_path / "logger.csv"
    path.write_text(HOBO.format(unit="m3/m3", value="0.2").replace("06/13/22", "06/11/22"))
    with pytest.raises(DataError, match=r"a HOBO file, header on line 2: line 3: .*--date-order"):
        read_in_situ(path)
    days = {
        order: str(read_in_situ(path, Logger(date_order=order))[0].date[0])[:10]
        for order in ("mdy", "dmy")
    }
    assert days == {"mdy": "2022-06-10", "dmy": "2022-10-06"}
    path.write_text(TOA5.format(unit="Volts", value="0.2"))
    with pytest.raises(DataError, match="no column states m3/m3 or percent of water as its unit"):
        read_in_situ(path)
    path.write_text(TOA5.format(unit="m^3/m^3", value="21"))
    with pytest.raises(DataError, match=r"row 5, column sm: 21 is not a soil moisture.*in percent"):
        read_in_situ(path)
    two = TOA5.replace("T_5cm_Avg", "VWC_10cm_Avg").replace("Deg C", "m^3/m^3")
    path.write_text(two.format(unit="m^3/m^3", value="0.2").replace("18.2", "0.3"))
    with pytest.raises(DataError, match="VWC_5cm_Avg, VWC_10cm_Avg may all be soil moisture"):
        read_in_situ(path)
    chosen, _ = read_in_situ(path, Logger(column="VWC_10cm_Avg"))
    assert chosen.numbers["sm"][0] == 0.3
    with pytest.raises(UsageError, match="ymd, mdy or dmy"):
        Logger(date_order="ydm")


def test_a_table_is_still_a_table(tmp_path):
    path = tmp_path / "sm.csv"
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([["site", "date", "sm"], ["p1", "2022-06-10", "0.2"]])
    assert read_in_situ(path)[0].numbers["sm"].tolist() == [0.2]
    with pytest.raises(UsageError, match="is a table"):
        read_in_situ(path, Logger(site="p1"))


BROKEN = [
    *("", "\n", '"TOA5"\n', '"TOA5","S"\n"TIMESTAMP","VWC"\n'),
    '"Plot Title: A"\n"#","Date Time","VWC, m3/m3"\n1,x,0.2\n',
]


@pytest.mark.parametrize("text", BROKEN)
def test_a_broken_loggers_file_ends_in_a_reason(tmp_path, text):
    path = tmp_path / "logger.csv"
    path.write_text(text)
    with pytest.raises(DataError, match="logger"):
        read_in_situ(path)


def test_labels_that_are_all_empty_are_named(tmp_path):
    with pytest.raises(DataError, match="no row has a label: column sm is empty"):
        join_in_situ(radar("2022-06-10"), labels(["2022-06-10"], [np.nan]))
    ndvi = tmp_path / "ndvi.csv"
    write_csv(ndvi, {"site": ["p1"], "time": ["2022-06-10"], "NDVI": [np.nan]})
    with pytest.raises(DataError, match=r"ndvi\.csv: no row has an NDVI: column NDVI is empty"):
        read_earth_engine(export(tmp_path / "s1.csv"), None, ndvi)


def test_an_outlier_of_an_export_costs_its_cell(tmp_path):
    many = {name: [values[0]] * 5 for name, values in EE.items()}
    many["time"] = [f"2022-06-1{day}T17:30:00Z" for day in range(5)]
    path = export(tmp_path / "s1.csv", **{**many, "VH": [0.8, -17.0, -17.0, -17.0, -17.0]})
    ndvi = tmp_path / "ndvi.csv"
    times = [f"2022-06-1{day}T10:00:00Z" for day in range(5)]
    write_csv(ndvi, {"site": ["p1"] * 5, "time": times, "NDVI": [1.02, 0.3, 0.3, 0.3, 0.4]})
    made = read_earth_engine(path, None, ndvi)
    np.testing.assert_array_equal(made.columns["vh_db"], [np.nan, -17, -17, -17, -17])
    np.testing.assert_array_equal(made.columns["ndvi"], [0.3, 0.3, 0.3, 0.3, 0.4])
    assert sum("row 2, column VH: 0.8 is not a backscatter" in note for note in made.notes) == 1
    assert sum("row 2, column NDVI: 1.02 is not an NDVI" in note for note in made.notes) == 1
    export(path, **{**many, "VH": [-9999.0, -17.0, -17.0, -17.0, -17.0]})
    with pytest.raises(DataError, match=r"row 2, column VH: -9999.0 .*nodata"):
        read_earth_engine(path)
