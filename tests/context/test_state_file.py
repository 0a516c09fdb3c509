"""The state file gives the numbers of the whole archive, pass by pass."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.context.from_tables import compute_context
from kgsm_infer.context.state_file import (
    COLUMNS,
    LEAST_RECENT,
    Key,
    compare_table,
    read_past,
    write_past,
)
from kgsm_infer.tables.table import table_from_columns

NAMES = ("vh_anomaly", "vh_over_driest_db", "vh_over_usual_db", "vh_between")
RULE = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
START = np.datetime64("2023-01-01T05:30:12")


def rows(passes, seed=0, shift_s=0):
    """Two fields of two points in some of 40 passes, two a day, from two orbits."""
    rng = np.random.default_rng(seed)
    vh_db = rng.uniform(-24, -12, (40, 4))
    vh_db[3, 1] = vh_db[11, 0] = np.nan
    passes = np.asarray(passes)
    time = START + (passes // 2 * 6 * 86400 + passes % 2 * 43200 + shift_s).astype("m8[s]")
    return table_from_columns(
        {
            "site": np.tile(["1A", "1B", "2A", "2B"], len(passes)),
            "field": np.tile(["1", "1", "2", "2"], len(passes)),
            "date": np.repeat(time, 4).astype(str),
            "orbit": np.repeat(np.where(passes % 2, "44", "117"), 4),
            "vh_db": vh_db[passes].ravel(),
        }
    )


WHOLE = rows(range(40))
EXPECTED = {name: compute_context(WHOLE, name, RULE).values.reshape(40, 4) for name in NAMES}


def assert_equal_to_archive(table, passes):
    for name in NAMES:
        made = table.numbers[name].reshape(-1, 4)
        np.testing.assert_allclose(made, EXPECTED[name][list(passes)], atol=1e-6)


@pytest.mark.parametrize("steps", [1, 5, 12])
def test_pass_by_pass_every_step_of_a_window_equals_the_archive(tmp_path, steps):
    path = tmp_path / "past.csv"
    for newest in range(40):
        window = range(max(0, newest - steps + 1), newest + 1)
        compared = compare_table(rows(window), NAMES, RULE, read_past(path).past, steps)
        assert_equal_to_archive(compared.table, window)
        # five passes of one of two orbits make a past; two points have one value less
        short = np.asarray([number // 2 + 1 < 5 for number in window])
        missing = compared.missing.reshape(-1, 4)
        assert missing[short].all() and not missing[:, 2:][~short].any()
        write_past(path, compared.past)
    own = WHOLE.numbers["vh_db"].reshape(40, 4)[1::2, 0]
    own = own[np.isfinite(own)]
    place = read_past(path).past[Key("site", "1A", "44", "vh_db")]
    assert place.count == len(own)
    assert len(place.recent) == min(max(2 * steps, LEAST_RECENT), len(own))
    assert place.state.driest_db == own.min() and place.state.wettest_db == own.max()
    assert place.state.total_db == pytest.approx(own.sum())


def test_a_second_reading_changes_nothing_and_a_correction_replaces_the_pass(tmp_path):
    path, window = tmp_path / "past.csv", range(6, 10)
    write_past(path, compare_table(rows(range(10)), NAMES, RULE, {}, 5).past)
    again = compare_table(rows(window), NAMES, RULE, read_past(path).past, 5)
    assert_equal_to_archive(again.table, window)
    assert again.past == read_past(path).past
    # another frame of the passes came first: the same passes, some seconds later
    frame = compare_table(rows(window, shift_s=25), NAMES, RULE, read_past(path).past, 5)
    assert_equal_to_archive(frame.table, window)
    # the passes come with other values: as an archive that has the new ones
    new = rows(window, seed=1)
    corrected = compare_table(new, NAMES, RULE, read_past(path).past, 5)
    archive = rows(range(10))
    vh_db = archive.numbers["vh_db"].copy()
    vh_db[24:] = new.numbers["vh_db"]
    archive = replace(archive, numbers={"vh_db": vh_db})
    for name in NAMES:
        expected = compute_context(archive, name, RULE).values[24:]
        np.testing.assert_allclose(corrected.table.numbers[name], expected, atol=1e-6)


def test_a_late_pass_is_counted_where_the_file_still_lists_its_time():
    past = compare_table(rows([0, 2, 6, 8]), NAMES, RULE, {}, 5).past
    late = compare_table(rows([4]), NAMES, RULE, past, 5)
    assert late.past[Key("site", "1A", "117", "vh_db")].count == 5
    window = range(0, 9, 2)
    every = compare_table(rows(window), NAMES, RULE, late.past, 5)
    archive = rows(window)
    for name in NAMES:
        expected = compute_context(archive, name, RULE).values
        np.testing.assert_allclose(every.table.numbers[name], expected, atol=1e-6)


def test_a_pass_before_those_listed_is_flagged_and_not_counted():
    past = compare_table(rows(range(40)), NAMES, RULE, {}, 1).past
    old = compare_table(rows([1]), NAMES, RULE, past, 1)
    assert old.missing.all()
    assert old.past == past


def test_places_that_are_not_in_the_table_keep_their_past():
    after = compare_table(rows(range(2)), NAMES, RULE, {}).past
    one = rows([2])
    only = table_from_columns(
        {"site": ["1A"], "field": ["1"], "date": [one.date_text[0]], "orbit": ["117"],
         "vh_db": [-15.0]}
    )  # fmt: skip
    later = compare_table(only, NAMES, RULE, after).past
    assert set(later) == set(after)
    changed = {key for key in after if later[key] != after[key]}
    assert {(key.kind, key.name) for key in changed} == {("site", "1A"), ("field", "1")}


def test_a_column_of_the_table_overrides_the_computed_one():
    table = rows([0])
    given = table_from_columns(
        {"site": list(table.site), "date": list(table.date_text),
         "vh_db": table.numbers["vh_db"], "vh_anomaly": [0.5] * 4}
    )  # fmt: skip
    compared = compare_table(given, ["vh_anomaly"], RULE, {})
    assert compared.table.numbers["vh_anomaly"].tolist() == [0.5] * 4
    assert not compared.missing.any() and not compared.past


def test_a_model_of_the_whole_archive_cannot_use_a_state_file():
    with pytest.raises(UsageError, match="later dates too"):
        compare_table(rows([0]), NAMES, HistoryRule("all"), {})


GOOD = {
    "format": "2", "kind": "site", "name": "1A", "orbit": "", "column": "vh_db", "count": "3",
    "last": "2023-01-01T00:00:00", "usual_db": "-16.5", "driest_db": "-20", "wettest_db": "-14",
    "mean_db": "-17", "swing_db": "2",
    "recent": "2023-01-13T00:00:00=-15.5 2023-01-25T00:00:00=-16.0",
}  # fmt: skip
FORMAT_1 = {name: cell for name, cell in GOOD.items() if name not in ("format", "recent")}


def written(path, *records):
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, records[0])
        out.writeheader()
        out.writerows(records)
    return path


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": "0"}, "row 2, column last: '2023-01-01T00:00:00': must be empty where count"),
        ({"count": "three"}, "row 2, column count: 'three': must be a whole number"),
        ({"count": "-1"}, "column count"),
        ({"last": "yesterday"}, "row 2, column last: 'yesterday': 'yesterday' is not a date"),
        ({"last": "2099-06-01"}, "column last: .* is in the future"),
        ({"recent": "2023-01-13=-15 2099-01-13=-15"}, "column recent: .* is in the future"),
        ({"usual_db": "nan"}, "column usual_db: 'nan': missing or not a finite number"),
        ({"usual_db": "inf"}, "column usual_db: 'inf': missing or not a finite number"),
        ({"usual_db": ""}, "column usual_db: '': missing or not a finite number"),
        ({"usual_db": "500"}, "column usual_db: '500': 500 is not a backscatter in dB"),
        ({"usual_db": "-13"}, "column usual_db: '-13': must be from driest_db to wettest_db"),
        ({"mean_db": "-30"}, "column mean_db: '-30': must be from driest_db to wettest_db"),
        ({"swing_db": "-1"}, "column swing_db: '-1': must be from 0 to half"),
        ({"swing_db": "9"}, "column swing_db: '9': must be from 0 to half"),
        ({"kind": "farm"}, "column kind: 'farm': must be site or field"),
        ({"column": "hh_db"}, "column column: 'hh_db': must be vh_db or vv_db"),
        ({"name": ""}, "column name: '': the site has no name"),
        ({"recent": "2023-01-13"}, "'2023-01-13' is not TIME=DB"),
        ({"recent": "2023-01-13=7"}, "7 is not a backscatter in dB"),
        ({"recent": "2023-01-13=-15 2023-01-12=-15"}, "its times must ascend"),
        ({"recent": "2022-01-13=-15"}, "must be later than the time in column last"),
        ({"format": "3"}, "state file of format '3'; this kgsm reads 1 and 2"),
        ({"colour": "red"}, "unknown column 'colour'"),
    ],
)
def test_a_file_that_is_no_state_file_is_refused(tmp_path, change, reason):
    path = written(tmp_path / "past.csv", {**GOOD, **change})
    with pytest.raises(DataError, match=reason):
        read_past(path)
    assert set(read_past(written(path, GOOD)).past) == {Key("site", "1A", "", "vh_db")}


def test_a_file_of_format_1_is_converted_and_what_it_lacks_is_noted(tmp_path):
    path = written(tmp_path / "past.csv", FORMAT_1)
    state = read_past(path)
    assert "converted from format 1, which lists no single passes" in state.notes[0]
    record = state.past[Key("site", "1A", "", "vh_db")]
    assert record.count == 3 and not record.recent and record.older.driest_db == -20.0
    write_past(path, state.past)
    again = read_past(path)
    assert not again.notes and again.past.keys() == state.past.keys()
    table = table_from_columns(
        {"site": ["1A"] * 2, "date": ["2022-12-20", "2023-01-13"], "vh_db": [-19.0, -15.0]}
    )
    compared = compare_table(table, ["vh_anomaly"], RULE, state.past)
    assert compared.missing.tolist() == [True, True]  # held already; fewer than five passes
    assert compared.past[Key("site", "1A", "", "vh_db")].count == 4
    with pytest.raises(DataError, match="column swing_db"):
        read_past(written(path, {**FORMAT_1, "swing_db": "nan"}))


def test_a_table_is_no_state_file(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("site,date,vh_db\na,2023-01-01,-17\n")
    with pytest.raises(DataError, match=f"no column 'kind'; a state file has {COLUMNS[0]}"):
        read_past(path)


def test_a_place_twice_is_refused(tmp_path):
    path = written(tmp_path / "past.csv", GOOD, GOOD)
    with pytest.raises(
        DataError, match="row 3, column name: '1A': site 1A also occurs in an earlier"
    ):
        read_past(path)


def test_allow_future_reads_a_past_of_the_future(tmp_path):
    path = written(tmp_path / "past.csv", {**GOOD, "recent": "2099-01-13T00:00:00=-15.0"})
    (record,) = read_past(path, allow_future=True).past.values()
    assert record.count == 4
