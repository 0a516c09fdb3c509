"""vh_anomaly_fields: the mean over the fields of a pass of the mean anomaly within each field."""

from __future__ import annotations

import math

import numpy as np
import pytest

from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.context.from_tables import TableContext, compute_context
from kgsm_infer.tables.table import Table, table_from_columns

RULE = HistoryRule("past", {"vh": Typical(looks=3.0, usual_db=-16.8, swing_db=3.3)})


def made_table(with_field: bool = True, orbits: tuple[str, ...] = ("1", "2")) -> Table:
    """Fields of 1, 2 and 5 points on 4 dates of each orbit; some values missing."""
    rng = np.random.default_rng(3)
    rows = [
        (f"{field}{point}", field, f"2024-0{month}-0{1 + int(orbit)}", orbit)
        for month in range(1, 5)
        for orbit in orbits
        for field, points in (("a", 1), ("b", 2), ("c", 5))
        for point in range(points)
    ]
    vh_db = rng.uniform(-22, -11, len(rows)).round(3)
    vh_db[rng.random(len(rows)) < 0.2] = np.nan
    site, field, date, orbit = map(list, zip(*rows, strict=True))
    columns: dict[str, object] = {"site": site, "date": date, "orbit": orbit, "vh_db": vh_db}
    return table_from_columns({**columns, "field": field} if with_field else columns)


def by_hand(table: Table) -> list[float]:
    """The definition, one row after the other, in plain Python floats."""
    rows = range(len(table))
    orbit = table.text["orbit"]
    field = table.text["field"] if "field" in table.text else table.site.tolist()
    vh_db = table.numbers["vh_db"].tolist()

    def anomaly(row: int) -> float:
        past = [
            vh_db[i]
            for i in rows
            if table.site[i] == table.site[row]
            and orbit[i] == orbit[row]
            and table.date[i] <= table.date[row]
            and not math.isnan(vh_db[i])
        ]
        n, mean = len(past), sum(past) / len(past) if past else 0.0
        variance = sum((x - mean) ** 2 for x in past) / n if past else 0.0
        usual = (n * mean + 3 * -16.8) / (n + 3)
        return (vh_db[row] - usual) / math.sqrt((n * variance + 3 * 3.3**2) / (n + 3))

    found = []
    for row in rows:
        fields: dict[str, list[float]] = {}
        for i in rows:
            same = table.date[i] == table.date[row] and orbit[i] == orbit[row]
            if same and not math.isnan(vh_db[i]):
                fields.setdefault(field[i], []).append(anomaly(i))
        means = [sum(values) / len(values) for values in fields.values()]
        found.append(sum(means) / len(means))
    return found


@pytest.mark.parametrize("with_field", [True, False])
def test_it_is_the_mean_of_field_means(with_field: bool) -> None:
    table = made_table(with_field)
    values, fields = compute_context(table, "vh_anomaly_fields", RULE)
    np.testing.assert_allclose(values, by_hand(table), rtol=0, atol=1e-12)
    assert fields.max() == (3 if with_field else 8)


def test_points_weigh_as_much_as_their_field() -> None:
    """A field of five points counts once, so the value differs from the mean over rows."""
    table = made_table()
    fields, rows = (
        compute_context(table, f"vh_anomaly_{who}", RULE).values for who in ("fields", "scene")
    )
    assert np.abs(fields - rows).max() > 0.1


def test_one_field_is_a_scene_of_its_own() -> None:
    table = table_from_columns(
        {"site": ["p"] * 6, "date": [f"2024-01-{day:02d}" for day in range(1, 7)],
         "vh_db": [-18.0, -15.0, -17.5, -14.0, -16.0, -19.0]}
    )  # fmt: skip
    alone, own = (compute_context(table, f"vh_anomaly{who}", RULE) for who in ("_fields", ""))
    np.testing.assert_allclose(alone.values, own.values, rtol=0, atol=1e-12)
    assert not TableContext(table, RULE).missing(["vh_anomaly_fields"]).any()
    missing = TableContext(table, RULE).missing(["vh_anomaly", "vh_anomaly_fields"])
    assert missing.tolist() == [True] * 4 + [False] * 2
