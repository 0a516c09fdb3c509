"""Several rows of one acquisition: frames of a pass, rows that complete, repeat or contradict."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.tables.passes import ONE_PASS_S
from kgsm_infer.tables.reading import write_csv
from kgsm_infer.tables.table import read_table, table_from_columns

FRAMES = {
    "site": ["p1"] * 4,
    "date": [f"2022-06-{day}T05:30:{second}Z" for day in ("01", "13") for second in ("12", "37")],
    "vh_db": [-14.0, -20.0, -16.0, -16.0],
    "angle_deg": [38.2, 38.4, 38.2, 38.2],
    "ndvi": [0.3, 0.3, 0.4, None],
    "crop": ["", "wheat", "wheat", "wheat"],
}


def twins(**columns):
    """Two rows of one site and day, and one of another site."""
    base = {"site": ["a", "a", "b"], "date": ["2024-05-01"] * 3, "ndvi": [0.3, 0.3, 0.1]}
    return base | columns


@pytest.mark.parametrize("kind", ["csv", "parquet", "memory"])
def test_frames_of_one_pass_are_one_acquisition_averaged_in_linear_power(tmp_path, kind):
    if kind == "memory":
        table = table_from_columns(FRAMES)
    else:
        if kind == "parquet":
            pytest.importorskip("pyarrow", reason="Parquet needs pyarrow")
        path = tmp_path / f"t.{kind}"
        write_csv(path, {k: np.asarray(v, float) if k == "ndvi" else v for k, v in FRAMES.items()})
        table = read_table(path)
    assert [str(date) for date in table.date] == ["2022-06-01T05:30:12", "2022-06-13T05:30:12"]
    expected = 10 * np.log10((10**-1.4 + 10**-2.0) / 2)
    np.testing.assert_allclose(table.numbers["vh_db"], [expected, -16.0], rtol=1e-12)
    assert table.numbers["vh_db"][1] == -16.0  # equal values keep their bits
    np.testing.assert_allclose(table.numbers["angle_deg"], [38.3, 38.2])
    assert table.numbers["ndvi"].tolist() == [0.3, 0.4]
    assert table.text["crop"] == ("wheat", "wheat")
    assert table.to_file_rows(table.numbers["vh_db"])[[2, 3]].tolist() == [-16.0, -16.0]
    assert table.original is not None and len(table.original.date_text) == 4
    assert "2 rows are further frames of a pass" in table.notes[0]


def test_a_frame_that_saw_nothing_takes_no_place_in_the_history():
    table = table_from_columns(FRAMES | {"vh_db": [-14.0, None, None, -16.0]})
    assert table.numbers["vh_db"].tolist() == [-14.0, -16.0]


def test_other_orbits_passes_and_probes_are_not_frames():
    apart = FRAMES | {"orbit": ["9", "118", "9", "9"]}
    assert len(table_from_columns(apart)) == 3
    later = [*FRAMES["date"][:3], "2022-06-13T05:40:13Z"]
    assert np.datetime64(later[3][:-1]) - np.datetime64(later[2][:-1]) > ONE_PASS_S
    assert len(table_from_columns(FRAMES | {"date": later})) == 3
    # a probe's readings every five minutes, and a radar series as dense as no satellite's
    dense = [f"2022-06-01T{5 + k // 12:02d}:{k % 12 * 5:02d}Z" for k in range(40)]
    sm = {"site": ["p"] * 40, "date": dense, "sm": np.linspace(0.1, 0.3, 40)}
    assert len(table_from_columns(sm)) == 40
    assert len(table_from_columns(sm | {"vh_db": np.full(40, -15.0)})) == 40
    with_one = np.full(40, np.nan)
    with_one[7] = -15.0
    assert len(table_from_columns(sm | {"vh_db": with_one})) == 40


def test_rows_that_complete_each_other_are_merged_and_equal_ones_left_out():
    table = table_from_columns(
        twins(vh_db=[-15.0, None, -17.0], vv_db=[None, -9.0, -8.0], crop=["", "rye", ""])
    )
    assert table.site.tolist() == ["a", "b"]
    assert table.numbers["vh_db"].tolist() == [-15, -17]
    assert table.numbers["vv_db"].tolist() == [-9, -8]
    assert table.text["crop"] == ("rye", "")
    assert "1 rows complete another row" in table.notes[0]
    table = table_from_columns(twins(**{"system:index": ["0", "1", "2"]}))
    assert len(table) == 2
    assert "1 rows repeat another row" in table.notes[0]
    assert not table.contradicts


def test_contradicting_rows_are_refused_or_chosen_and_cost_only_their_own():
    columns = twins(vh_db=[-15.0, -18.0, -17.0], field=["1", "2", "3"])
    with pytest.raises(DataError, match=r"rows 1 and 2: site a twice at .* with vh_db -15 and -18"):
        table_from_columns(columns)
    expected = {"first": -15.0, "last": -18.0, "mean": 10 * np.log10((10**-1.5 + 10**-1.8) / 2)}
    for keep, value in expected.items():
        table = table_from_columns(columns, keep=keep)
        np.testing.assert_allclose(table.numbers["vh_db"], [value, -17], rtol=1e-12)
        assert table.text["field"] == ({"last": "2"}.get(keep, "1"), "3")
        assert "site a twice" in table.notes[0]
    table = table_from_columns(columns, keep="empty")
    np.testing.assert_array_equal(table.numbers["vh_db"], [np.nan, -17])
    assert table.numbers["ndvi"].tolist() == [0.3, 0.1]
    assert table.text["field"] == ("", "3")
    assert list(table.contradicts) == [0]
    with pytest.raises(UsageError, match="--keep 'best' must be first, last or mean"):
        table_from_columns(columns, keep="best")


def test_ascending_and_descending_rows_of_a_day_are_not_one():
    day = {"site": ["a"] * 2, "date": ["2024-05-01"] * 2, "vh_db": [-15.0, -18.0]}
    with pytest.raises(DataError, match="give times or an orbit column"):
        table_from_columns(day)
    assert len(table_from_columns(day | {"orbit": ["ASCENDING", "DESCENDING"]})) == 2
    assert len(table_from_columns(day, once=False)) == 2


def test_rows_are_numbered_and_ordered_by_their_first():
    table = table_from_columns(
        {
            "site": ["b", "a", "b", "a", "c"],
            "date": ["2024-05-01", "2024-05-02", "2024-05-01", "2024-05-01", "2024-05-01"],
            "ndvi": [0.1, 0.2, 0.1, 0.3, 0.4],
        }
    )
    assert table.site.tolist() == ["b", "a", "a", "c"]
    assert table.row_number.tolist() == [1, 2, 4, 5]
    assert table.to_file_rows(table.numbers["ndvi"]).tolist() == [0.1, 0.2, 0.1, 0.3, 0.4]


def test_a_table_without_twins_is_left_as_it_is():
    table = table_from_columns({"site": ["a", "b"], "date": ["2024-05-01"] * 2, "ndvi": [0.1, 0.2]})
    assert table.original is None and table.notes == ()


def test_the_rows_of_one_site_do_not_cost_172_others_theirs():
    columns = {
        "site": [f"p{i}" for i in range(172)] + ["bad", "bad"],
        "date": ["2024-05-01"] * 174,
        "vh_db": [-15.0] * 173 + [-18.0],
    }
    table = table_from_columns(columns, keep="empty")
    assert np.isfinite(table.numbers["vh_db"]).sum() == 172
    assert "site bad twice" in table.contradicts[172]


@pytest.mark.realdata
def test_one_bad_paddock_does_not_cost_the_others_theirs(shared_data):
    path = shared_data / "boort/boort.csv"
    with pytest.raises(DataError, match="rows 25 and 26: site 11 twice at 2022-01-21"):
        read_table(path)
    table = read_table(path, keep="empty")
    assert len(table) == 388
    assert np.isnan(table.numbers["angle_deg"]).sum() == 60
    assert np.isfinite(table.numbers["vh_db"]).all()  # the two rows complete each other
    assert len(table.contradicts) == 60
    assert np.isfinite(read_table(path, keep="mean").numbers["angle_deg"]).all()


@pytest.mark.parametrize("other", ["69.0", "069", " 69 "])
def test_spellings_of_one_orbit_are_one_acquisition(other):
    columns = {
        "site": ["a", "a"],
        "date": ["2024-05-01T05:30", "2024-05-01T05:30"],
        "orbit": ["69", other],
        "vh_db": [-15.0, -15.0],
    }
    table = table_from_columns(columns)
    assert len(table) == 1
    assert list(table.text["orbit"]) == ["69"]


def test_orbit_words_in_either_case_are_one_and_noted():
    columns = {
        "site": ["a", "b"],
        "date": ["2024-05-01", "2024-05-01"],
        "orbit": ["DESCENDING", "descending"],
        "vh_db": [-15.0, -15.0],
    }
    table = table_from_columns(columns)
    assert len(set(table.text["orbit"])) == 1
    assert "table: column orbit: descending is read as DESCENDING" in table.notes
