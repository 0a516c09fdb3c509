"""The table reader: what it takes, what it refuses and how it says so."""

from __future__ import annotations

import sys
from contextlib import suppress
from datetime import date

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError, KgsmError, MissingError, UsageError
from kgsm_infer.tables.dates import parse_day
from kgsm_infer.tables.keys import canonical_id
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.table import read_table, table_from_columns

GOOD = {
    "site": ["a", "a", "b"],
    "date": ["2024-05-01", "2024-05-13", "2024-05-01"],
    "vh_db": ["-15.5", "", "-20"],
    "angle_deg": ["38.5", "38.6", "NA"],
    "ndvi": ["0.4", "NaN", "-0.1"],
    "sm": ["0.2", "", "0.31"],
    "crop": ["wheat", "", "rice, wet"],
}


def write(path, columns):
    write_csv(path, columns)
    return path


def changed(column, row, value):
    return {**GOOD, column: [value if i == row else v for i, v in enumerate(GOOD[column])]}


def test_a_good_table(tmp_path):
    table = read_table(write(tmp_path / "t.csv", GOOD))
    assert len(table) == 3
    assert table.site.tolist() == ["a", "a", "b"]
    assert table.day.tolist() == [19844.0, 19856.0, 19844.0]
    assert table.numbers["vh_db"][[0, 2]].tolist() == [-15.5, -20.0]
    assert np.isnan(table.numbers["vh_db"][1]) and np.isnan(table.numbers["angle_deg"][2])
    assert table.text["crop"] == ("wheat", "", "rice, wet")
    assert [table.row(i) for i in range(3)] == [2, 3, 4]


# column, value in the second row, what the message must say after file and place
REFUSED = [
    (
        "vh_db",
        "3.2",
        "3.2 is not a backscatter in dB (-60 to below 0); linear power, or a lost minus",
    ),
    ("vh_db", "bright", "bright is not a number; leave the cell empty where it is missing"),
    ("vh_db", "-15,5", "-15,5 is not a number; a decimal comma? write a point"),
    ("vh_db", "inf", "inf is infinite; leave the cell empty where missing"),
    ("vh_db", "-9999", "-9999 is not a backscatter in dB (-60 to below 0); nodata value? leave"),
    ("vh_db", "-1700", "-1700 is not a backscatter in dB (-60 to below 0); scaled by 100?"),
    ("vh_db", "-170", "-170 is not a backscatter in dB (-60 to below 0); scaled by 10?"),
    ("vh_db", "0", "0 is not a backscatter in dB (-60 to below 0); an unmasked fill value?"),
    ("vh_db", "-1_5", "-1_5 is not a number; write digits"),
    ("vh_db", "1,234.5", "1,234.5 is not a number; a thousands separator?"),
    (
        "sm",
        "<0.05",
        "<0.05 is not a number; write 0 for a trace of rain, and leave any other cell empty",
    ),
    ("vh_db", "-15 dB", "-15 dB is not a number; write it without its unit"),
    ("vh_db", "#DIV/0!", "#DIV/0! is not a number but a spreadsheet's error"),
    ("vh_db", "\x1b[31mred\x1b[0m", "\\x1b[31mred\\x1b[0m is not a number"),
    ("angle_deg", "0.67", "0.67 is not an incidence angle in degrees (1.6 to 89.9); radians?"),
    ("angle_deg", "95", "95 is not an incidence angle in degrees"),
    ("ndvi", "4500", "4500 is not an NDVI (-1 to 1); scaled by 10,000?"),
    ("ndvi", "45", "45 is not an NDVI (-1 to 1); in percent?"),
    ("ndvi", "-9999", "-9999 is not an NDVI (-1 to 1); nodata value? leave the cell empty"),
    ("sm", "23", "23 is not a soil moisture in m3/m3 (0 to 1); in percent?"),
    ("sm", "-0.1", "-0.1 is not a soil moisture in m3/m3 (0 to 1); nodata value?"),
    ("date", "13/05/2024", "13/05/2024 is not an ISO 8601 date; write 2022-06-16"),
    ("date", "2.02405E+07", "2.02405E+07 is a number that a spreadsheet has rounded"),
    ("date", "45425", "45425 is not an ISO 8601 date but a spreadsheet's day number"),
    (
        "date",
        "1715558400000",
        "1715558400000 is not an ISO 8601 date but a count of seconds or mill",
    ),
    ("date", "0001-01-01T00:00+10:00", "0001-01-01T00:00+10:00 is of the year 1, of which nothing"),
    ("date", "2024-02-30", "2024-02-30 is not an ISO 8601 date"),
    ("date", "", "empty; every row needs its date"),
    ("site", "", "empty; every row needs its site"),
]


@pytest.mark.parametrize(("column", "value", "message"), REFUSED)
def test_refusals_name_file_row_column_value_and_cause(tmp_path, column, value, message):
    path = write(tmp_path / "t.csv", changed(column, 1, value))
    with pytest.raises(DataError) as error:
        read_table(path)
    assert str(error.value).startswith(f"{path}: row 3, column {column}: {message}")
    assert "\n" not in str(error.value)


def test_more_than_one_bad_row_is_counted(tmp_path):
    path = write(tmp_path / "t.csv", {**GOOD, "ndvi": ["4500", "3900", "0.2"]})
    with pytest.raises(DataError, match=r"row 2, column ndvi: 4500 .* \(and 1 more rows\)$"):
        read_table(path)


@pytest.mark.parametrize(
    ("name", "given_values", "expected_db"),
    [
        ("vh_linear", [0.01, None, 0.1], [-20, np.nan, -10]),
        # sigma0 = gamma0 cos(theta): cos 60 = 1/2 is -3.0103 dB
        ("vh_gamma0_db", [-10.0, None, -12.0], [-13.0103, np.nan, np.nan]),
        ("vh_gamma0_linear", [0.1, 0.1, 0.1], [-13.0103, -13.0103, np.nan]),
    ],
)
def test_every_form_of_backscatter_becomes_sigma0_db(name, given_values, expected_db):
    columns = {k: v for k, v in GOOD.items() if k != "vh_db"}
    columns |= {name: given_values, "angle_deg": [60.0, 60.0, None]}
    got = table_from_columns(columns).numbers["vh_db"]
    assert np.allclose(got, expected_db, atol=1e-4, equal_nan=True)


def test_no_power_at_all_is_minus_infinity_for_the_kernels_to_flag():
    columns = {**{k: v for k, v in GOOD.items() if k != "vh_db"}, "vh_linear": [0.0, 0.1, 0.1]}
    assert table_from_columns(columns).numbers["vh_db"][0] == -np.inf


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({**GOOD, "vh_linear": ["0.1"] * 3}, "columns vh_db and vh_linear give one backscatter"),
        (
            {"site": ["a"], "date": ["2024-01-01"], "vh_gamma0_db": [-12.0]},
            "column vh_gamma0_db is gamma0; sigma0 = gamma0 cos.theta. needs angle_deg",
        ),
        ({"site": ["a"], "date": ["2024-01-01"], "vh_linear": [-12.0]}, "negative power: in dB?"),
        ({"station": ["a"], "date": ["2024-01-01"]}, "no column 'site'; .*; rename 'station'"),
        (
            {**GOOD, "date": ["2024-05-01"] * 3},
            "rows 1 and 2: site a twice at 2024-05-01T00:00:00 with angle_deg 38.5 and 38.6",
        ),
        ({**GOOD, "sm": ["0.1"]}, "columns of different lengths"),
    ],
)
def test_tables_that_contradict_themselves(columns, message):
    with pytest.raises(DataError, match=message):
        table_from_columns(columns)


def test_one_site_twice_a_day_is_fine_with_times_orbits_or_row_by_row():
    columns = {**GOOD, "date": ["2024-05-01", "2024-05-01T18:30Z", "2024-05-01"]}
    assert table_from_columns(columns).day[1] == 19844 + 18.5 / 24
    columns = {**GOOD, "date": ["2024-05-01"] * 3, "orbit": ["asc", "desc", "asc"]}
    assert len(table_from_columns(columns)) == 3
    del columns["orbit"]
    assert len(table_from_columns(columns, once=False)) == 3


def test_times_become_utc():
    columns = {**GOOD, "date": ["2024-05-01T01:00:00+10:00", "2024-05-13T00:00:00Z", "2024-05-01"]}
    assert str(table_from_columns(columns).date[0]) == "2024-04-30T15:00:00"


def test_missing_and_named_columns(tmp_path):
    path = write(tmp_path / "t.csv", {**GOOD, "NDVI": ["1"] * 3, "clay": ["3", "", "5"]})
    with pytest.raises(DataError, match=r"no column 'elevation'; it has site, date, .*clay$"):
        read_table(path, features=("elevation",))
    with pytest.raises(DataError, match="row 2, column crop: wheat is not a number"):
        read_table(path, features=("crop",))
    with pytest.raises(DataError, match="no column 'vwc_kg_m2'; it has"):
        read_table(path, require=("vwc_kg_m2",))
    clay = read_table(path, features=("clay",)).numbers["clay"]
    assert clay[[0, 2]].tolist() == [3.0, 5.0] and np.isnan(clay[1])
    columns = {k: v for k, v in GOOD.items() if k != "ndvi"} | {"NDVI": ["0.1"] * 3}
    with pytest.raises(DataError, match="rename 'NDVI' if that is what it is"):
        read_table(write(path, columns), require=("ndvi",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"site,date,vh_db\n", "no rows, only a header"),
        (b"site,date,vh_db\na,2024-01-01\n", "row 2: 2 cells, the header has 3"),
        (b"site,date,date\na,2024-01-01,2024-01-01\n", "column 'date' is a duplicate"),
        (b"PK\x03\x04\x00\x00site,date\n", "not a text file"),
        ("site,date\nCañón,2024-01-01\n".encode("latin-1"), "not a UTF-8 text file"),
        (b'site,date\n"a,2024-01-01\n', "not valid CSV"),
    ],
)
def test_files_that_are_no_tables(tmp_path, content, message):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_table(path)
    assert str(error.value).startswith(f"{path}: ")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(DataError, match="cannot be read"):
        read_table(tmp_path)


def test_byte_order_mark_crlf_blank_lines_and_spaces(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"\xef\xbb\xbfsite, date ,vh_db\r\n a ,2024-01-01, -12 \r\n\r\nb,2024-01-02,9\r\n"
    )
    with pytest.raises(DataError, match="row 4, column vh_db: 9 is not a backscatter"):
        read_table(path)
    path.write_bytes(path.read_bytes().replace(b",9", b",-9"))
    assert read_table(path).numbers["vh_db"].tolist() == [-12.0, -9.0]


cells = st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1, max_size=8).filter(
    lambda cell: cell.strip() == cell and cell not in ("",)
)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            cells,
            st.dates(date(1900, 1, 1), date(2100, 12, 31)),
            st.floats(-60, 0, width=32, exclude_max=True) | st.just(float("nan")),
            st.sampled_from(["plain", 'say "x"', "a,b", "two\nlines", "ü", "=1+1", "'=1+1", "+x"]),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda row: canonical_id(row[0]),
    )
)
def test_what_is_written_is_read_back_exactly(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "t.csv"
    site, day, vh_db, note = zip(*rows, strict=True)
    vh_db = np.asarray(vh_db, np.float32)
    write_csv(path, {"site": site, "date": day, "vh_db": vh_db, "note": note})
    table = read_table(path)
    assert table.site.tolist() == [canonical_id(name) for name in site]
    assert table.date_text == tuple(map(str, day))
    assert np.array_equal(table.numbers["vh_db"].astype(np.float32), vh_db, equal_nan=True)
    assert table.text["note"] == note


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=60) | st.text("site,date\n\r\"'-0129.eN;\t vh_db", max_size=60))
def test_no_bytes_raise_anything_but_a_reason(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("bytes") / "t.csv"
    raw = content if isinstance(content, bytes) else b"site,date,vh_db\n" + content.encode()
    path.write_bytes(raw)
    with suppress(KgsmError):
        read_table(path)


def test_parquet(tmp_path, monkeypatch):
    pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    path = tmp_path / "t.parquet"
    sm = np.float32([0.2, np.nan, 0.31])
    write_csv(path, {**{k: v for k, v in GOOD.items() if k not in ("sm", "vh_db")}, "sm": sm})
    table = read_table(path)
    assert np.array_equal(table.numbers["sm"].astype(np.float32), sm, equal_nan=True)
    assert table.row(0) == 1
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_table(path)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingError, match=r"pip install 'kgsm\[parquet\]'"):
        read_table(path)


@pytest.mark.realdata
def test_real_tables(shared_data):
    anand = read_table(shared_data / "anand/dev.csv", require=("vh_db", "ndvi", "sm"))
    assert len(anand) == 1400
    assert np.isfinite(anand.numbers["sm"]).sum() == 1104
    assert np.isnan(anand.numbers["angle_deg"]).sum() == 100
    igik = read_table(shared_data / "igik/igik.csv")
    assert len(igik) == 806  # twenty rows stand there twice
    assert "20 rows repeat another row of the same site and time" in igik.notes[0]
    assert len(read_table(shared_data / "igik/igik.csv", once=False)) == 826
    assert len(read_table(shared_data / "boort/boort.csv", once=False)) == 448


@pytest.mark.parametrize(
    "text", ["", "today", "NaT", "2024", "2024-13-01", "04/03/2024", "2024-3-4"]
)
def test_a_day_that_is_none_is_refused(text):
    with pytest.raises(UsageError, match="is not a date; write 2024-03-04"):
        parse_day(text)
