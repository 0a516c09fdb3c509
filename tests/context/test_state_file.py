"""The past of places in a small file: what an archive would have said, without one."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.context.from_tables import compute_context
from kgsm_infer.context.state_file import COLUMNS, read_past, with_past, write_past
from kgsm_infer.tables.table import table_from_columns

NAMES = ("vh_anomaly", "vh_over_driest_db", "vh_over_usual_db")
RULE = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})


def rows(days, seed=0):
    """Two fields of two points on some of ten dates, from two orbits."""
    rng = np.random.default_rng(seed)
    vh_db = rng.uniform(-24, -12, (10, 4))
    vh_db[3, 1] = np.nan
    days = np.asarray(days)
    return table_from_columns(
        {
            "site": np.tile(["1A", "1B", "2A", "2B"], len(days)),
            "field": np.tile(["1", "1", "2", "2"], len(days)),
            "date": np.repeat(np.datetime64("2023-01-01") + 6 * days, 4).astype(str),
            "orbit": np.repeat(np.where(days % 2, "44", "117"), 4),
            "vh_db": vh_db[days].ravel(),
        }
    )


def test_day_by_day_through_the_file_it_says_what_the_archive_says(tmp_path):
    path, whole = tmp_path / "past.csv", rows(range(10))
    expected = {name: compute_context(whole, name, RULE)[0].reshape(10, 4) for name in NAMES}
    for day in range(10):
        table, short, after = with_past(rows([day]), NAMES, RULE, read_past(path))
        for name in NAMES:
            np.testing.assert_allclose(table.numbers[name], expected[name][day], atol=1e-6)
        assert short.all() == (day < 8), "five looks of one of two orbits"
        write_past(path, after)
    shown = {tuple(key): value for key, value in read_past(path).items()}
    own = whole.numbers["vh_db"].reshape(10, 4)[1::2, 0]
    place = shown["site", "1A", "44", "vh_db"]
    assert place.count == 5
    assert place.driest_db == own.min() and place.wettest_db == own.max()
    assert place.mean_db == pytest.approx(own.mean())
    assert place.swing_db == pytest.approx(own.std(), abs=1e-6)
    assert str(place.last) == "2023-02-24T00:00:00"


def test_the_same_table_may_come_twice(tmp_path):
    path = tmp_path / "past.csv"
    _, _, after = with_past(rows(range(4)), NAMES, RULE, {})
    write_past(path, after)
    _, _, again = with_past(rows(range(4)), NAMES, RULE, read_past(path))
    for key, place in again.items():
        assert (place.count, place.last) == (after[key].count, after[key].last)
        assert place.mean_db == pytest.approx(after[key].mean_db, abs=1e-9)


def test_places_that_are_not_in_the_table_keep_their_past():
    _, _, after = with_past(rows(range(2)), NAMES, RULE, {})
    one = rows([2])
    only = table_from_columns(
        {"site": ["1A"], "field": ["1"], "date": [one.date_text[0]], "orbit": ["117"],
         "vh_db": [-15.0]}
    )  # fmt: skip
    _, _, later = with_past(only, NAMES, RULE, after)
    assert set(later) == set(after)
    changed = {key for key in after if later[key] != after[key]}
    assert {(key.kind, key.name) for key in changed} == {("site", "1A"), ("field", "1")}


def test_a_column_the_table_has_is_believed():
    table = rows([0])
    given = table_from_columns(
        {"site": list(table.site), "date": list(table.date_text),
         "vh_db": table.numbers["vh_db"], "vh_anomaly": [0.5] * 4}
    )  # fmt: skip
    read, short, after = with_past(given, ["vh_anomaly"], RULE, {})
    assert read.numbers["vh_anomaly"].tolist() == [0.5] * 4
    assert not short.any() and not after


def test_a_model_that_knows_the_future_has_no_use_for_a_past():
    with pytest.raises(UsageError, match="later dates too"):
        with_past(rows([0]), NAMES, HistoryRule("all"), {})


GOOD = {
    "kind": "site", "name": "1A", "orbit": "", "column": "vh_db", "count": "3",
    "last": "2023-01-01T00:00:00", "usual_db": "-16.5", "driest_db": "-20", "wettest_db": "-14",
    "mean_db": "-17", "swing_db": "2",
}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"count": "0"}, "row 2: not a past"),
        ({"count": "three"}, "row 2: not a past"),
        ({"last": "yesterday"}, "row 2: not a past"),
        ({"usual_db": "nan"}, "every dB must be there"),
        ({"mean_db": "-30"}, "a mean of -30 dB between -20 and -14"),
        ({"swing_db": "-1"}, "a mean of -17 dB"),
    ],
)
def test_a_file_that_is_no_past_is_refused(tmp_path, change, reason):
    path = tmp_path / "past.csv"
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS)
        out.writeheader()
        out.writerow({**GOOD, **change})
    with pytest.raises(DataError, match=reason):
        read_past(path)


def test_a_table_is_not_taken_for_a_past(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("site,date,vh_db\na,2023-01-01,-17\n")
    with pytest.raises(DataError, match="no column 'kind'; a past has"):
        read_past(path)


def test_a_place_twice_is_refused(tmp_path):
    path = tmp_path / "past.csv"
    with open(path, "w", newline="") as file:
        out = csv.DictWriter(file, COLUMNS)
        out.writeheader()
        out.writerows([GOOD, GOOD])
    with pytest.raises(DataError, match="row 3: site 1A has a past twice"):
        read_past(path)
