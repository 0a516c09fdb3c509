"""Probes: the best linear unbiased prediction of a date's effect, and what it may touch."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from kgsm_infer.base import flags
from kgsm_infer.base.errors import UsageError
from kgsm_infer.base.quantities import SOIL_MOISTURE
from kgsm_infer.model.date_effect import Variances, date_effect, variances_of
from kgsm_infer.model.model import load
from kgsm_infer.model.result import Retrieval
from kgsm_infer.paddocks.probed import correct_paddocks
from kgsm_infer.paddocks.summary import Paddock, write_paddocks
from kgsm_infer.probes import correct_rows
from kgsm_infer.scenes.outlines import LON_LAT, Outlines
from kgsm_infer.tables.table import read_table, table_from_columns
from kgsm_train.evaluation.probed import variances

SPREAD = {"date": 0.004, "field": 0.003, "point": 0.005}


def test_the_effect_is_the_mixed_models():
    """Against Henderson's equations, solved as a whole: y = Z d + e, d ~ N(0, V_date)."""
    rng = np.random.default_rng(0)
    field = np.repeat(["a", "b", "c"], [1, 3, 5])
    residual = rng.normal(0.1, 0.1, 9)
    spread = Variances(**SPREAD)
    same = field[:, None] == field[None]
    covariance = spread.date + spread.field * same + spread.point * np.eye(9)
    expected = spread.date * np.ones(9) @ np.linalg.solve(covariance, residual)
    found = date_effect(spread, residual, field)
    assert found.correction == pytest.approx(expected, rel=1e-12)
    assert (found.probes, found.fields) == (9, 3) and 0 < found.weight < 1
    more = date_effect(spread, np.tile(residual, 20), np.arange(180).astype(str))
    assert more.weight > found.weight
    assert date_effect(spread, [np.nan], ["a"]) == date_effect(spread, [], [])


def test_variances_come_back():
    rng = np.random.default_rng(1)
    date, field, _ = (x.ravel() for x in np.indices((400, 12, 4)))
    spread = Variances(0.004, 0.002, 0.006)
    effect = rng.normal(0, spread.date**0.5, 400)
    spread = dataclasses.replace(spread, date=float((effect**2).mean()))
    residual = effect[date]
    residual = residual + rng.normal(0, spread.field**0.5, (400, 12))[date, field]
    residual += rng.normal(0, spread.point**0.5, residual.shape)
    found = variances(residual, field.astype(str), date)
    for name in ("date", "field", "point"):
        assert getattr(found, name) == pytest.approx(getattr(spread, name), rel=0.12)


@pytest.mark.parametrize("change", [{"date": None}, {"field": -1.0}, {"point": float("nan")}])
def test_impossible_variances_are_refused(change):
    with pytest.raises(ValueError, match="probes"):
        variances_of({**SPREAD, **change})


@pytest.fixture(scope="module")
def retrieved(tiny_model):
    model = load(tiny_model / "model.onnx")
    table = read_table(tiny_model / "twin.csv", features=model.table_features())
    data = {**model.card.training_data, "dates": [str(np.datetime64(table.date[0], "D"))]}
    card = dataclasses.replace(model.card, probes=SPREAD, training_data=data)
    return card, table, model.predict(table)


def probes_at(table, rows, sm):
    return table_from_columns(
        {
            "site": table.site[rows],
            "date": [table.date_text[i] for i in rows],
            "sm": sm,
        },
        require=("sm",),
    )


def test_the_level_of_one_date_is_corrected_and_nothing_else(retrieved):
    card, table, result = retrieved
    day = table.date.astype("datetime64[D]")
    row = int(np.flatnonzero(np.isfinite(result.sm) & (day != day[0]))[0])
    found = correct_rows(card, table, result, probes_at(table, [row], [result.sm[row] + 0.1]))
    here = (day == day[row]) & np.isfinite(result.sm)
    expected = 0.1 * SPREAD["date"] / sum(SPREAD.values())
    np.testing.assert_allclose((found.result.sm - result.sm)[here], expected, atol=1e-6)
    for name in ("sm", "lower", "upper", "soil_db", "flags"):
        before, after = getattr(result, name), getattr(found.result, name)
        assert np.array_equal(before[day != day[row]], after[day != day[row]], equal_nan=True)
    assert found.probes[here].tolist() == [1] * here.sum()
    assert found.weight[row] == pytest.approx(SPREAD["date"] / sum(SPREAD.values()))
    assert not found.notes
    assert np.isnan(found.result.sm[np.isnan(result.sm)]).all(), "a correction makes no number"


def test_each_pass_of_a_day_is_compared_with_the_reading_nearest_to_it(retrieved):
    card, *_ = retrieved
    times = ["2030-05-01T05:30", "2030-05-01T17:40"] * 2
    table = table_from_columns({"site": ["A", "A", "B", "B"], "date": times, "ndvi": [0.3] * 4})
    sm = np.float32([0.20, 0.30, 0.22, 0.28])
    nan = np.full(4, np.nan, np.float32)
    result = Retrieval(sm, nan, nan, nan, np.zeros(4, np.uint16), SOIL_MOISTURE)
    readings = {"2030-05-01T05:00": 0.30, "2030-05-01T11:00": 0.9, "2030-05-01T18:00": 0.25}
    probes = table_from_columns(
        {"site": ["A"] * 3, "date": [*readings], "sm": [*readings.values()]}, require=("sm",)
    )
    found = correct_rows(card, table, result, probes)
    weight = SPREAD["date"] / sum(SPREAD.values())
    order = np.argsort(table.date_text, kind="stable")
    morning, evening = order[:2], order[2:]
    np.testing.assert_allclose(found.correction[morning], 0.10 * weight, atol=1e-6)
    np.testing.assert_allclose(found.correction[evening], -0.05 * weight, atol=1e-6)
    assert found.probes.tolist() == [1] * 4 and not found.notes


def test_an_index_is_not_corrected_by_soil_moisture(retrieved):
    card, table, result = retrieved
    row = int(np.flatnonzero(np.isfinite(result.sm))[0])
    index = dataclasses.replace(card, quantity="wetness")
    with pytest.raises(UsageError, match=r"retrieves wetness \(unit 1\)"):
        correct_rows(index, table, result, probes_at(table, [row], [0.2]))


def test_dates_of_the_training_are_not_corrected(retrieved):
    card, table, result = retrieved
    row = int(np.flatnonzero(np.isfinite(result.sm))[0])
    known = {**card.training_data, "dates": [str(np.datetime64(table.date[row], "D"))]}
    card = dataclasses.replace(card, training_data=known)
    found = correct_rows(card, table, result, probes_at(table, [row], [0.9]))
    assert np.array_equal(found.result.sm, result.sm, equal_nan=True)
    assert "trained on that date" in found.notes[0]


def test_probes_that_belong_nowhere_are_told(retrieved):
    card, table, result = retrieved
    lost = table_from_columns({"site": ["x"], "date": ["1999-01-01"], "sm": [0.2]}, require=("sm",))
    found = correct_rows(card, table, result, lost)
    assert np.array_equal(found.result.sm, result.sm, equal_nan=True) and not found.probes.any()
    assert "1 probes not used" in found.notes[0]


def test_a_card_without_variances_cannot_weigh_probes(retrieved):
    card, table, result = retrieved
    row = int(np.flatnonzero(np.isfinite(result.sm))[0])
    bare = dataclasses.replace(card, probes=None)
    with pytest.raises(UsageError, match="no variances"):
        correct_rows(bare, table, result, probes_at(table, [row], [0.2]))


def square(x):
    return {"type": "Polygon", "coordinates": [[[x, 0], [x + 1, 0], [x + 1, 1], [x, 1], [x, 0]]]}


def test_paddocks_are_corrected_by_name_or_place(retrieved, tmp_path):
    card, *_ = retrieved
    places = tuple(square(x) for x in (0, 2, 4))
    outlines = Outlines("farm", LON_LAT, ("A", "B", "C"), ({}, {}, {}), places)
    lines = [
        Paddock(name, "2030-05-01", sm, sm, sm, sm, sm - 0.1, sm + 0.1, 1.0, 5.0, "", "")
        for name, sm in (("A", 0.2), ("B", 0.3), ("C", float("nan")))
    ]
    probes = table_from_columns(
        {
            "site": ["A", "probe 7"],
            "date": ["2030-05-01", "2030-05-01T10:00"],
            "sm": [0.3, 0.4],
            "lat": [None, 0.5],
            "lon": [None, 2.5],
        },
        require=("sm",),
    )
    found, said = correct_paddocks(card, outlines, lines, probes)
    effect = date_effect(variances_of(SPREAD), [0.1, 0.1], ["A", "B"])
    assert found[0].sm == pytest.approx(0.2 + effect.correction, abs=1e-6)
    assert found[1].sm_upper == pytest.approx(0.4 + effect.correction, abs=1e-6)
    assert (found[1].probes, found[1].probe_weight) == (2, round(effect.weight, 6))
    assert np.isnan(found[2].sm) and not said
    write_paddocks(tmp_path / "with.csv", outlines, found)
    assert "sm_correction,probe_weight,probes" in (tmp_path / "with.csv").read_text()
    write_paddocks(tmp_path / "without.csv", outlines, lines)
    assert "probe" not in (tmp_path / "without.csv").read_text()


def test_a_sensor_is_sought_in_outlines_around_it_only(retrieved, monkeypatch):
    """The work grows with the sensors, not with sensors times outlines times passes."""
    from kgsm_infer.paddocks import probed

    card, *_ = retrieved
    asked: list[float] = []
    plain = probed._inside

    def counted(geometry, x, y):
        asked.append(x)
        return plain(geometry, x, y)

    monkeypatch.setattr(probed, "_inside", counted)
    count, days = 40, ("2030-05-01", "2030-05-02", "2030-05-03")
    ids = tuple(f"p{at}" for at in range(count))
    outlines = Outlines("farm", LON_LAT, ids, ({},) * count, tuple(map(square, range(0, 80, 2))))
    lines = [
        Paddock(name, day, 0.2, 0.2, 0.2, 0.2, 0.1, 0.3, 1.0, 5.0, "", "")
        for name in ids
        for day in days
    ]
    columns = {
        "site": np.repeat([f"probe {at}" for at in range(count)], len(days)),
        "date": np.tile(days, count),
        "sm": np.full(count * len(days), 0.3),
        "lat": np.full(count * len(days), 0.5),
        "lon": np.repeat(np.arange(0, 80, 2) + 0.5, len(days)),
    }
    found, said = correct_paddocks(
        card, outlines, lines, table_from_columns(columns, require=("sm",))
    )
    assert all(line.probes == count for line in found) and not said
    assert len(asked) == count


def test_a_paddock_corrected_beyond_the_limits_is_flagged_as_a_row_is(retrieved):
    card, *_ = retrieved
    outlines = Outlines("farm", LON_LAT, ("A", "B"), ({}, {}), (square(0), square(2)))
    sms = (card.limits.sm[1] - 0.001, 0.3)
    lines = [
        Paddock(name, "2030-05-01", sm, sm, sm, sm, sm, sm, 1.0, 5.0, "short_history", "")
        for name, sm in zip("AB", sms, strict=True)
    ]
    probes = table_from_columns(
        {"site": ["B"], "date": ["2030-05-01"], "sm": [0.5]}, require=("sm",)
    )
    found, _ = correct_paddocks(card, outlines, lines, probes)
    assert found[0].sm == card.limits.sm[1]
    assert [line.flags for line in found] == ["short_history;sm_clipped", "short_history"]


@pytest.mark.parametrize("name", ["model.onnx", "model.core.onnx"])
def test_a_model_without_skill_says_so_in_every_line(tiny_model, name):
    model = load(tiny_model / name)
    table = read_table(tiny_model / "twin.csv", features=model.table_features())
    assert not (model.predict(table).flags & flags.NO_SKILL).any()
    card = dataclasses.replace(model.card, no_skill="There is no skill here.")
    from kgsm_infer.model.model import finish

    result = model.predict(table)
    dynamic = np.zeros((len(table), len(card.names("dynamic"))), np.float32)
    told = finish(card, np.nan_to_num(result.sm), result.soil_db, result.flags, dynamic)
    assert (told.flags & flags.NO_SKILL).all()
    assert flags.names(flags.NO_SKILL) == "no_skill"
