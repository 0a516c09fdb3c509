"""Domain and context: against formulas written out once more."""

from __future__ import annotations

import numpy as np
import pytest

from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError
from kgsm_infer.context.definitions import CONTEXT
from kgsm_infer.context.from_tables import TableContext, compute_context
from kgsm_infer.kernels.domain import Domain, dissimilarity, domain_of
from kgsm_infer.model.model import load
from kgsm_infer.tables.table import read_table, table_from_columns
from kgsm_train.evaluation.trust import training_domain

RNG = np.random.default_rng(5)


def test_dissimilarity_is_the_papers():
    """Meyer & Pebesma (2021), Eqs 1-3, by brute force in float64."""
    points = RNG.normal(size=(60, 3)).astype(np.float32)
    fold = np.repeat(np.arange(4), 15)
    domain, own = training_domain(points, fold)
    wide = points.astype(np.float64)
    pair = np.sqrt(((wide[:, None] - wide[None]) ** 2).sum(-1))
    mean_distance = pair[np.triu_indices(60, 1)].mean()
    assert domain.mean_distance == pytest.approx(mean_distance, rel=1e-9)
    pair[fold[:, None] == fold[None]] = np.inf
    expected = pair.min(axis=1) / mean_distance
    assert np.allclose(own, expected, atol=1e-4)
    low, high = np.percentile(expected, [25, 75])
    whisker = expected[expected <= high + 1.5 * (high - low)].max()
    assert domain.threshold == pytest.approx(whisker, abs=1e-4)
    new = RNG.normal(size=(40, 3)) * 3
    distance = np.sqrt(((new[:, None] - wide[None]) ** 2).sum(-1)).min(axis=1) / mean_distance
    assert np.allclose(dissimilarity(domain, new), distance, atol=1e-3)


def test_many_points_are_covered_by_few():
    points = RNG.normal(size=(3000, 2)).astype(np.float32)
    domain, own = training_domain(points, np.arange(3000) % 4)
    assert len(domain.points) == 256
    assert np.nanmax(own) < 1.0


@pytest.mark.parametrize(
    ("points", "said"), [(0, "0 labelled samples in 0 folds"), (9, "in 1 fold")]
)
def test_points_of_fewer_than_two_folds_are_refused(points, said):
    with pytest.raises(DataError, match=said):
        training_domain(np.ones((points, 2), np.float32), np.zeros(points, np.int64))


@pytest.mark.parametrize(
    "change",
    [{"points": [[0.0]]}, {"points": []}, {"threshold": 0.0}, {"mean_distance": float("nan")}],
)
def test_impossible_domain_references_are_refused(change):
    good = {"points": [[0.0, 1.0]], "mean_distance": 1.0, "threshold": 0.5}
    assert isinstance(domain_of(good, 2), Domain)
    with pytest.raises(ValueError, match="domain"):
        domain_of({**good, **change}, 2)


@pytest.mark.parametrize("name", ["model.onnx", "model.core.onnx"])
def test_points_moved_out_of_the_training_range_are_flagged(tiny_model, name):
    model = load(tiny_model / name)
    table = read_table(tiny_model / "twin.csv", features=model.table_features())
    usual = model.predict(table)
    number = np.isfinite(usual.sm)
    outside = (usual.flags & flags.OUTSIDE_DOMAIN) != 0
    assert outside[number].mean() < 0.2
    assert not outside[~number].any(), "no number, nothing to be trusted or not"

    def predict(clay):
        columns = {"site": table.site, "date": table.date_text, **table.numbers, "clay": clay}
        return model.predict(table_from_columns(columns, features=("clay",)))

    clay = table.numbers["clay"]
    far = predict(clay + 0.99 * np.ptp(clay))
    assert np.isfinite(far.sm).sum() == number.sum(), "it is flagged, not hidden"
    assert ((far.flags & flags.OUTSIDE_DOMAIN) != 0)[number].mean() > 2 * outside[number].mean()
    # farther than as much again beyond what training saw: no clay content, and so no number
    farther = predict(clay + 3 * np.ptp(clay))
    assert np.isnan(farther.sm).all()
    assert ((farther.flags & flags.INPUT_OUT_OF_RANGE) != 0).all()


def context_table(**more):
    n = 12
    columns = {
        "site": [f"s{i}" for i in range(n)],
        "date": ["2024-05-01"] * n,
        "field": ["A", "A", "A", "B", "B", "C", "", "D", "D", "D", "D", "D"],
        "vh_db": [-10.0, -20.0, None, -13.0, -13.0, -15.0, -12.0, *[-11.0] * 5],
        "ndvi": [0.2, 0.4, 0.6, None, None, 0.3, 0.3, *[0.5] * 5],
    }
    return table_from_columns({**columns, **more})


def test_context_is_the_mean_power_of_field_and_scene():
    table = context_table()
    field, count = compute_context(table, "vh_field_db")
    assert field[0] == pytest.approx(10 * np.log10((0.1 + 0.01) / 2))
    assert count[:3].tolist() == [2, 2, 2] and field[2] == field[0]
    assert count[5] == 1 and field[5] == -15.0 and field[6] == -12.0
    ndvi, _ = compute_context(table, "ndvi_field")
    assert ndvi[:3].tolist() == pytest.approx([0.4] * 3) and np.isnan(ndvi[3])
    scene, count = compute_context(table, "vh_scene_db")
    power = 10 ** (table.numbers["vh_db"][[0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11]] / 10)
    assert np.allclose(scene, 10 * np.log10(power.mean())) and (count == 11).all()


def test_a_context_of_too_few_is_flagged_unless_the_table_brings_it():
    table = context_table()
    missing = TableContext(table).missing(["vh_field_db", "ndvi"])
    assert missing.tolist() == [False] * 5 + [True] * 2 + [False] * 5
    minimum = {"vh_field_db": 2, "vh_scene_db": 10, "vh_over_usual_db": 5}
    assert all(CONTEXT[name].minimum_rows == rows for name, rows in minimum.items())
    assert not TableContext(table).missing(["vh_scene_db"]).any()
    brought = context_table(vh_field_db=[-14.0] * 12)
    assert not TableContext(brought).missing(["vh_field_db"]).any()


def test_dates_and_orbits_do_not_mix():
    table = context_table(date=["2024-05-01"] * 6 + ["2024-05-02"] * 6, orbit=["asc", "desc"] * 6)
    scene, count = compute_context(table, "vh_scene_db")
    assert count.tolist() == [2, 3, 2, 3, 2, 3, 3, 3, 3, 3, 3, 3]
    assert scene[0] == pytest.approx(10 * np.log10((0.1 + 10**-1.3) / 2))


def test_context_without_its_columns_is_refused():
    table = table_from_columns({"site": ["a"], "date": ["2024-05-01"], "vh_db": [-12.0]})
    with pytest.raises(DataError, match="no column 'field', which the model's field context"):
        compute_context(table, "vh_field_db")
    with pytest.raises(DataError, match="no column 'vv_db', which the context of the model needs"):
        compute_context(table, "vv_scene_db")


def test_a_fields_history_is_its_usual_and_its_driest_state():
    """Against the definition, row by row; orbits and fields keep to themselves."""
    rng = np.random.default_rng(5)
    dates = [f"2024-05-{day:02d}" for day in (1, 7, 13, 19, 25, 31)]
    rows = [
        (f"{field}{point}", date, field, orbit, float(rng.uniform(-25, -12)))
        for field in "ab"
        for orbit in ("asc", "desc")
        for point in range(3)
        for date in dates
        if (field, date) != ("b", dates[0])
    ]
    site, date, field, orbit, vh_db = (list(column) for column in zip(*rows, strict=True))
    vh_db[0] = np.nan
    table = table_from_columns(
        {"site": site, "date": date, "field": field, "orbit": orbit, "vh_db": vh_db}
    )
    usual, count = compute_context(table, "vh_over_usual_db")
    driest, _ = compute_context(table, "vh_over_driest_db")
    assert set(count[np.asarray(field) == "a"]) == {6} and set(count[np.asarray(field) == "b"]) == {
        5
    }
    assert not TableContext(table).missing(["vh_over_usual_db"]).any()
    power = 10 ** (np.asarray(vh_db) / 10)
    for i, (_, when, where, which, _) in enumerate(rows):
        of_date = [
            np.nanmean([power[j] for j, row in enumerate(rows) if row[1:4] == (day, where, which)])
            for day in dates
            if any(row[1:4] == (day, where, which) for row in rows)
        ]
        here = np.nanmean(
            [power[j] for j, row in enumerate(rows) if row[1:4] == (when, where, which)]
        )
        assert usual[i] == pytest.approx(10 * np.log10(here / np.mean(of_date)), abs=1e-9)
        assert driest[i] == pytest.approx(10 * np.log10(here / min(of_date)), abs=1e-9)


def test_a_short_history_of_a_field_is_flagged():
    table = context_table(date=["2024-05-01"] * 6 + ["2024-05-02"] * 6)
    assert TableContext(table).missing(["vh_over_driest_db"]).all()
