"""Files as people have them: spreadsheets' habits, odd encodings, long cells, little memory."""

from __future__ import annotations

import csv
import os
import re
import resource
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, MissingError
from kgsm_infer.tables.reading import read_sheet, write_csv
from kgsm_infer.tables.table import read_table, table_from_columns
from kgsm_infer.tables.text_column import TextColumn, column_of, shorten

HEAD = "site,date,vh_db,angle_deg,ndvi"
ROW = "p1,2022-06-10,-17.0,38.2,0.3"


def written(tmp_path, content, name="t.csv"):
    path = tmp_path / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def parquet(path, columns):
    """Columns of any type as a Parquet file."""
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    from pyarrow.parquet import write_table

    write_table(pyarrow.table(columns), path)
    return path


# what a spreadsheet makes of the same table; all of them mean HEAD and ROW
HABITS = {
    "as it is": f"{HEAD}\n{ROW}\n",
    "byte order mark": f"\ufeff{HEAD}\n{ROW}\n",
    "empty columns at the end": f"{HEAD},,\n{ROW},,\n,,,,,,\n",
    "empty cells beyond the header": f"{HEAD}\n{ROW},,\n",
    "a line that names the separator": f"sep=,\n{HEAD}\n{ROW}\n",
    "quoted, and padded": f'"sep=;"\n{HEAD}\n{ROW}\n'.replace(",", ";"),
    "a minus sign that is one": f"{HEAD}\n{ROW}\n".replace("-17", "\u221217"),
    "a dash for a minus sign": f"{HEAD}\n{ROW}\n".replace("-17", "\u201317"),
    "semicolons": f"{HEAD}\n{ROW}\n".replace(",", ";"),
    "tabs": f"{HEAD}\n{ROW}\n".replace(",", "\t"),
    "semicolons and decimal commas": (
        f"{HEAD}\n{ROW}\n".replace(",", ";")
        .replace(".0", ",0")
        .replace("0.3", "0,3")
        .replace("38.2", "38,2")
    ),
    "UTF-16 with tabs": f"{HEAD}\n{ROW}\n".replace(",", "\t").encode("utf-16"),
    "quoted numbers": f"{HEAD}\n" + ",".join(f'"{cell}"' for cell in ROW.split(",")) + "\n",
    "a blank after each comma": f"{HEAD}\n{ROW}\n".replace(",", ", ").replace("-17.0", '"-17.0"'),
    "blank rows at the end and between": f"\r\n{HEAD}\r\n\r\n{ROW}\r\n,,,,\r\n\r\n",
    "a basic date": f"{HEAD}\n{ROW}\n".replace("2022-06-10", "20220610"),
    "a number marked as text": f"{HEAD}\n{ROW}\n".replace("-17.0", "'-17.0"),
    "an index without a name": f",{HEAD}\n0,{ROW}\n",
}


@pytest.mark.parametrize("habit", HABITS)
def test_what_spreadsheets_do_to_a_table_is_read(tmp_path, habit):
    table = read_table(written(tmp_path, HABITS[habit]))
    assert table.site.tolist() == ["p1"]
    assert str(table.date[0]) == "2022-06-10T00:00:00"
    got = [float(table.numbers[name][0]) for name in ("vh_db", "angle_deg", "ndvi")]
    assert got == [-17.0, 38.2, 0.3]


SEMICOLONS = f"{HEAD}\n".replace(",", ";")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        # never "leave the cell empty" for a good number
        (f'{HEAD}\np1,2022-06-10,"-17,0",38.2,0.3\n', "a decimal comma? write a point"),
        (f"{HEAD}\np1,2022-06-10,-17.0 dB,38.2,0.3\n", "write it without its unit"),
        (f"{HEAD}\np1,2022-06-10,-17.0,38.2,30%\n", "write it without its unit"),
        (f"{HEAD},m\np1,2022-06-10,-17.0,38.2,0.3,1 234\n", "a thousands separator?"),
        # in a file of decimal commas a point is thousands or a decimal point: nobody's guess
        (f"{SEMICOLONS}p1;2022-06-10;-17,5;38.2;0,3\n", "has a point in a file of decimal commas"),
        # and a comma that may be thousands proves nothing
        (
            f"{SEMICOLONS[:-1]};m\np1;2022-06-10;-17.5;38.2;0.3;1,234\n",
            "a decimal comma, or a thousands sep",
        ),
        (
            f"Site survey 2022\n{HEAD}\n{ROW}\n",
            "is row 1 a title? the header seems to be row",
        ),
        (f"{HEAD}\n{ROW}\np2,2022-06-11\n", "row 3: 2 cells, the header has 5"),
        (f"{HEAD},,\n{ROW},1,2\n", "two columns have cells but no name"),
        (
            '"TOA5","S","CR300"\n"TIMESTAMP","RECORD"\n',
            "a Campbell Scientific logger's file, its hea",
        ),
        (
            '\ufeff"Plot Title: A"\n"#","Date Time, GMT+10:00"\n',
            "a HOBO logger's file, its header is on",
        ),
        (b"PK\x03\x04\x14\x00\x06\x00", "not a text file but an Excel workbook"),
        (b"\x1f\x8b\x08\x00abc", "not a text file but compressed with gzip"),
        (b"PAR1abcd", "a Parquet file; name it .parquet"),
        (b"<!DOCTYPE html><html>", "not a table but HTML or XML"),
        (b'{"type": "FeatureCollection"}', "not a table but JSON"),
        ("site,date\nCa\u00f1\u00f3n,2024-01-01\n".encode("latin-1"), "not a UTF-8 text file"),
        ("site,date\na,b\n".encode("utf-16")[2:], "UTF-16 text without a byte order mark"),
        ("site,date\na,b\n".encode("utf-16")[:-1], "not a UTF-8 text file"),
    ],
)
def test_what_cannot_be_read_is_refused_by_what_it_is(tmp_path, content, says):
    path = written(tmp_path, content)
    with pytest.raises(DataError, match=re.escape(says)) as error:
        read_table(
            path, features=["m"] if "ndvi;m" in str(content) or "ndvi,m" in str(content) else []
        )
    assert str(error.value).startswith(f"{path}: ")
    assert "leave the cell empty" not in str(error.value)


def test_devices_and_folders_are_no_tables(tmp_path):
    for path in ("/dev/zero", "/dev/null", tmp_path):
        with pytest.raises(DataError, match="cannot be read"):
            read_table(path)


@pytest.mark.parametrize("value", [-9999, -99, -32768, 1e20, 9999, 3.4e38, -3.4028234663852886e38])
@pytest.mark.parametrize(
    "column", ["vh_db", "vh_linear", "angle_deg", "ndvi", "sm", "clay", "rain"]
)
@pytest.mark.parametrize("kind", ["csv", "parquet", "memory"])
def test_fill_values_are_refused_in_every_numeric_column(tmp_path, column, value, kind):
    columns = {"site": ["a", "b"], "date": ["2022-06-10", "2022-06-10"], column: [None, value]}
    columns[column] = np.asarray([np.nan, value])
    if kind == "csv":
        path = tmp_path / "t.csv"
        write_csv(path, columns)
    elif kind == "parquet":
        path = parquet(tmp_path / "t.parquet", columns)
    with pytest.raises(DataError, match=rf"column {column}: .*nodata value\? leave the cell empty"):
        if kind == "memory":
            table_from_columns(columns, features=[column])
        else:
            read_table(path, features=[column])


def test_a_polygon_of_180000_characters_is_read_and_not_needed(tmp_path):
    points = ",".join(f"[{10 + i * 1e-4:.10f},50.0]" for i in range(9000))
    geo = '"{""type"":""MultiPoint"",""coordinates"":[' + points + ']}"'
    table = read_table(written(tmp_path, f"{HEAD},.geo\n{ROW},{geo}\n"))
    assert len(table.text[".geo"][0]) > 180_000
    assert table.numbers["vh_db"].tolist() == [-17.0]


def test_one_long_cell_among_many_rows_takes_no_more_than_the_file(tmp_path):
    rows = "\n".join(f"s{i},2022-06-10,-17,38.2,0.3,x" for i in range(20_000))
    path = written(tmp_path, f"{HEAD},note\n{ROW},{'y' * 130_000}\n{rows}\n")
    tracemalloc.start()
    try:
        table = read_table(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(table) == 20_001
    assert peak < 40 * path.stat().st_size  # it was 13,000 times


@pytest.mark.parametrize("column", ["site", "field", "date", "vh_db", "orbit"])
def test_a_long_cell_where_a_name_or_number_stands_is_refused_in_one_short_line(tmp_path, column):
    row = {"site": "a", "date": "2022-06-10", "vh_db": "-17", "field": "1", "orbit": "7"}
    long = row | {column: "9" * 130_000}
    path = tmp_path / "t.csv"
    write_csv(path, {name: [row[name], long[name]] for name in row})
    with pytest.raises(DataError) as error:
        np.asarray(read_table(path).text["field"], np.str_)
    assert column in str(error.value)
    assert len(str(error.value)) < 500


@pytest.mark.slow
@pytest.mark.parametrize("megabytes", [250, 420])
def test_a_large_table_in_little_memory_is_read_or_ends_in_one_line(tmp_path, megabytes):
    path = tmp_path / "big.csv"
    with open(path, "w") as file:
        file.write(f"{HEAD},a,b\n")
        file.writelines(
            f"s{s},2023-{1 + d // 28:02d}-{1 + d % 28:02d},-15.123456,38.123456,0.3123456,1,2\n"
            for s in range(6000)
            for d in range(40)
        )
    program = (
        "import resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_AS, ({megabytes}_000_000, {megabytes}_000_000))\n"
        "from kgsm_infer.base.errors import KgsmError\n"
        "try:\n"
        "    from kgsm_infer.tables.table import read_table\n"
        f"    print(len(read_table({str(path)!r})))\n"
        "except KgsmError as error:\n"
        "    print(error)\n"
        "    sys.exit(error.exit_code)\n"
    )
    assert resource.RLIMIT_AS
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stderr == ""
    assert done.returncode in (0, 5)
    assert "240000" in done.stdout or "not enough memory" in done.stdout


def test_no_memory_is_a_missing_resource(tmp_path, monkeypatch):
    path = written(tmp_path, f"{HEAD}\n{ROW}\n")

    def exhausted(*_):
        raise MemoryError

    monkeypatch.setattr("kgsm_infer.tables.reading.read_plain", exhausted)
    with pytest.raises(MissingError, match="not enough memory"):
        read_table(path)


def test_text_of_a_file_stays_text(tmp_path):
    path = written(tmp_path, f"{HEAD}\np1,2022-06-10,\x1b]0;title\x07bad,38.2,0.3\n")
    with pytest.raises(DataError) as error:
        read_table(path)
    assert "\x1b" not in str(error.value) and "\x07" not in str(error.value)
    assert shorten("\x1b[2J\r\n\u202eabc") == r"\x1b[2J \u202eabc"


def test_formulas_are_written_as_text_and_read_back(tmp_path):
    cells = ["=1+1", "+A1", "-2+3", "@sum(a1)", "'=x", "-12.5", "+3e-2", "plain", "-", "it's"]
    path = tmp_path / "t.csv"
    write_csv(path, {"note": cells})
    with open(path, newline="") as file:
        raw = [row["note"] for row in csv.DictReader(file)]
    assert raw == [
        *("'=1+1", "'+A1", "'-2+3", "'@sum(a1)", "''=x", "-12.5", "+3e-2", "plain", "'-", "it's"),
    ]
    assert read_sheet(path).columns["note"] == cells


def test_standard_input_is_a_csv():
    program = "from kgsm_infer.tables.table import read_table\nprint(len(read_table('-')))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        input=f"{HEAD}\n{ROW}\n",
        text=True,
        capture_output=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr


def test_parquet_of_every_type(tmp_path):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
    import datetime as dt

    zone = dt.timezone(dt.timedelta(hours=10))
    path = parquet(
        tmp_path / "t.parquet",
        {
            "site": pyarrow.array([1, 2, 3]),
            "date": pyarrow.array(
                [dt.datetime(2022, 6, 10, 17, tzinfo=zone)] * 3, pyarrow.timestamp("us", "+10:00")
            ),
            "vh_db": pyarrow.array([-17.0, None, -18.0], pyarrow.float32()),
            "ndvi": pyarrow.array([1, None, 0], pyarrow.int8()),
            "field": pyarrow.array(["a", None, "b"]).dictionary_encode(),
            "day": pyarrow.array([dt.date(2022, 6, 10), None, None]),
            "flag": pyarrow.array([True, False, None]),
        },
    )
    table = read_table(path)
    assert table.site.tolist() == ["1", "2", "3"]
    assert str(table.date[0]) == "2022-06-10T07:00:00"
    np.testing.assert_array_equal(table.numbers["vh_db"], [-17, np.nan, -18])
    np.testing.assert_array_equal(table.numbers["ndvi"], [1, np.nan, 0])
    assert table.text["field"] == ("a", "", "b")
    assert table.text["day"] == ("2022-06-10", "", "")
    assert table.text["flag"] == ("True", "False", "")


def test_data_frames_of_pandas_with_nullable_types():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    frame = pandas.DataFrame(
        {
            "site": ["a", "a"],
            "date": pandas.to_datetime(["2024-01-01", "2024-01-13"]),
            "vh_db": [-15.0, None],
            "ndvi": [0.3, 0.3],
            "clay": [3, None],
            "crop": ["wheat", None],
        }
    )
    for given in (frame, frame.convert_dtypes(), frame.convert_dtypes(dtype_backend="pyarrow")):
        table = table_from_columns(given, features=["clay"])
        np.testing.assert_array_equal(table.numbers["vh_db"], [-15, np.nan])
        np.testing.assert_array_equal(table.numbers["clay"], [3, np.nan])
        assert table.text["crop"] == ("wheat", "")
        assert table.day.tolist() == [19723, 19735]


def test_data_frames_of_polars_and_pyarrow_and_masked_arrays():
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    columns = {"site": ["a", "a"], "date": ["2024-01-01", "2024-01-13"], "vh_db": [-15.0, None]}

    class Frame:  # what table_from_columns asks of polars.DataFrame
        def __init__(self):
            self.columns = list(columns)

        def __getitem__(self, name):
            return pyarrow.array(columns[name])

    masked = np.ma.MaskedArray([-15.0, 0.53], mask=[False, True])
    for given in (pyarrow.table(columns), Frame(), columns | {"vh_db": masked}):
        np.testing.assert_array_equal(table_from_columns(given).numbers["vh_db"], [-15, np.nan])


def test_polars():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    frame = polars.DataFrame({"site": ["a"], "date": ["2024-01-01"], "vh_db": [None], "ndvi": [1]})
    table = table_from_columns(frame)
    assert np.isnan(table.numbers["vh_db"]).all()
    assert table.numbers["ndvi"].tolist() == [1]


def test_whole_numbers_as_site_and_date():
    table = table_from_columns({"site": [1, 2], "date": [20220610, 20220611], "ndvi": [0.1, 0.2]})
    assert table.site.tolist() == ["1", "2"]
    assert str(table.date[0]) == "2022-06-10T00:00:00"


def test_cells_are_a_sequence():
    cells = TextColumn.of(["a", "", "\u00fc", "d" * 5000] * 3000)
    assert len(cells) == 12_000
    assert (cells[2], cells[-2], cells[11_999]) == ("\u00fc", "\u00fc", "d" * 5000)
    assert cells[1:3] == ("", "\u00fc")
    assert list(cells) == ["a", "", "\u00fc", "d" * 5000] * 3000
    with pytest.raises(IndexError):
        cells[12_000]
    assert column_of([2**70, 1]).tolist() == [float(2**70), 1.0]
