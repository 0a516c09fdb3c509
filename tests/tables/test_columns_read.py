"""What a cell costs: nothing in a column not read, its row as an outlier, else the table."""

from __future__ import annotations

import numpy as np
import pytest

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError
from kgsm_infer.tables.table import Table, table_from_columns

READS = ("vh_db", "ndvi", "angle_deg", "temp_c")


def table(**cells: object) -> Table:
    columns: dict[str, object] = {
        "site": ["a"] * 8,
        "date": [f"2024-03-{day:02d}" for day in range(1, 9)],
        "vh_db": ["-15"] * 8,
    }
    return table_from_columns({**columns, **cells}, reads=READS)


def column(good: object, *bad: object) -> list[object]:
    return [*bad, *[good] * (8 - len(bad))]


@pytest.mark.parametrize("bad", ["0.8", "-9999", "-150", "ten", "inf", "0", "1e20"])
def test_a_cell_of_a_column_not_read_never_refuses(bad: str) -> None:
    found = table(vv_db=column("-9", bad), sm=column("0.2", bad), lat=column("52", "north"))
    assert np.isnan(found.numbers["vv_db"][0]) and found.numbers["vv_db"][1] == -9
    assert found.notes == ()


@pytest.mark.parametrize(
    ("name", "good", "bad"),
    [("vh_db", "-15", "0.8"), ("vh_db", "-15", "12"), ("ndvi", "0.4", "1.02"),
     ("angle_deg", "38", "95")],
)  # fmt: skip
def test_a_single_outlier_is_infinite_and_noted(name: str, good: str, bad: str) -> None:
    found = table(**{name: column(good, bad)})
    assert found.numbers[name][0] == np.inf and np.isfinite(found.numbers[name][1:]).all()
    assert len(found.notes) == 1 and f"column {name}: {bad}" in found.notes[0]
    assert "this row is flagged input_out_of_range" in found.notes[0]


@pytest.mark.parametrize("bad", ["1.2", "-0.003"])
def test_an_outlier_of_linear_power_is_out_of_range(bad: str) -> None:
    columns = {"site": ["a"] * 4, "date": [f"2024-03-0{i}" for i in range(1, 5)]}
    found = table_from_columns({**columns, "vh_linear": [bad, "0.02", "0.02", "0.02"]}, reads=READS)
    assert np.isinf(found.numbers["vh_db"][0]) and np.isfinite(found.numbers["vh_db"][1:]).all()


@pytest.mark.parametrize(
    ("name", "good", "bad", "cause"),
    [
        ("vh_db", "-15", ["-9999"], "nodata"),
        ("vh_db", "-15", ["-99"], "nodata"),
        ("vh_db", "-15", ["0"], "fill value"),
        ("vh_db", "-15", ["-150"], "scaled by 10"),
        ("vh_db", "-15", ["-1500"], "scaled by 100"),
        ("vh_db", "-15", ["-150000"], "nodata"),
        ("vh_db", "-15", ["0.8"] * 5, "and 4 more rows"),
        ("vh_db", "-15", ["ten"], "not a number"),
        ("ndvi", "0.4", ["40"], "percent"),
        ("ndvi", "0.4", ["4500"], "10,000"),
        ("ndvi", "0.4", ["1.5"] * 5, "and 4 more rows"),
        ("angle_deg", "38", ["0.66"], "radians"),
        ("temp_c", "9", ["285"], "kelvin"),
    ],
)
def test_fill_values_and_other_units_refuse_the_table(
    name: str, good: str, bad: list[str], cause: str
) -> None:
    with pytest.raises(DataError, match=cause):
        table(**{name: column(good, *bad)})


def test_a_building_costs_its_own_row_in_a_prediction() -> None:
    """It is in no past and in no mean of the pass: other rows are as if it were missing."""
    rng = np.random.default_rng(1)
    names = [f"p{i}" for i in range(6)]
    columns: dict[str, object] = {
        "site": names * 8,
        "date": [f"2024-03-{day:02d}" for day in range(1, 9) for _ in names],
        "vh_db": rng.uniform(-20, -12, 48).tolist(),
        "vv_db": [0.8] * 48,
    }
    model = kgsm_infer.load("wetness")
    columns["vh_db"][7] = 0.8  # type: ignore[index]
    building = model.predict(columns)
    columns["vh_db"][7] = None  # type: ignore[index]
    missing = model.predict(columns)
    np.testing.assert_array_equal(building.sm, missing.sm)
    assert building.flags[7] & flags.INPUT_OUT_OF_RANGE
    assert not building.flags[7] & flags.MISSING_INPUT
    others = np.arange(48) != 7
    np.testing.assert_array_equal(building.flags[others], missing.flags[others])


@pytest.mark.parametrize("bad", ["-9999", "north"])
def test_other_readers_do_not_refuse_for_a_column_they_do_not_read(tmp_path, bad):
    """Probes, values of daily and of charts, labels of fit-daily, the index' score, isolation."""
    from kgsm_infer.app.wcm_commands import read_rows
    from kgsm_infer.daily.series import read_series
    from kgsm_infer.daily.values import read_values
    from kgsm_infer.probes import read_probes
    from kgsm_train.evaluation.index_score import score_index
    from kgsm_train.starter import write_starter

    rows = [
        f"{site},2024-05-{day:02d},-{day + 9},0.4,0.{day},{bad}"
        for site in "ab" for day in range(1, 9)
    ]  # fmt: skip
    path = tmp_path / "t.csv"
    path.write_text("\n".join(["site,date,vh_db,ndvi,sm,vv_db", *rows]) + "\n")
    assert len(read_probes(path)) == len(read_values(path)) == 16
    assert len(read_series(path).paddocks) == 2
    assert len(read_rows(path, "vh", "ndvi")) == 16
    assert score_index(path, 0.05, 0.4)
    assert write_starter(path, tmp_path / "e.toml").data.table == "t.csv"
