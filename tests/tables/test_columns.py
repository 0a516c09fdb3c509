"""The data contract's arithmetic, and the past of a field as it grows date by date."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgsm_infer.base.errors import DataError
from kgsm_infer.context.definitions import HistoryRule, Typical, first_available, too_few
from kgsm_infer.context.from_tables import compute_context
from kgsm_infer.context.history import (
    History,
    Pass,
    PassRows,
    PlaceState,
    compare_with_past,
    replay,
    states_after,
)
from kgsm_infer.tables.columns import BACKSCATTER_FORMS, find_forms, make, origins, sigma0_db
from kgsm_infer.tables.table import Table


def test_every_form_of_one_backscatter_is_the_same_sigma0() -> None:
    angle_deg, sigma0 = 38.0, 0.0123
    gamma0 = sigma0 / np.cos(np.deg2rad(angle_deg))
    given_as = {"db": 10 * np.log10(sigma0), "linear": sigma0}
    given_as |= {"gamma0_db": 10 * np.log10(gamma0), "gamma0_linear": gamma0}
    assert tuple(given_as) == BACKSCATTER_FORMS
    for form, value in given_as.items():
        names = {f"vh_{form}": np.asarray([value]), "angle_deg": np.asarray([angle_deg])}
        needed = origins("vh_db", names)
        made = make("vh_db", {name: names[name] for name in needed})
        assert made == pytest.approx(10 * np.log10(sigma0), abs=1e-12)
    assert find_forms("vh", given_as) == []
    assert origins("vh_db", ["vh_gamma0_db"]) == ()
    with pytest.raises(ValueError, match="needs angle_deg"):
        sigma0_db("vh_gamma0_db", np.asarray([-17.0]))


def test_a_context_is_made_of_what_is_nearest_at_hand() -> None:
    assert first_available("vh_over_driest_db", ["vh_over_driest_db"]) == "vh_over_driest_db"
    assert first_available("vh_over_driest_db", ["vh_db"]) == "vh_db"
    assert first_available("ndvi_scene", []) == "ndvi"


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_history_is_what_a_plain_loop_over_the_dates_says(data: st.DataObject) -> None:
    places, dates = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 6))
    db = st.one_of(st.just(float("nan")), st.floats(-40, 0))
    value = np.asarray(
        data.draw(st.lists(db, min_size=places * dates, max_size=places * dates)), np.float64
    )
    place, order = np.tile(np.arange(places), dates), np.repeat(np.arange(dates), places)
    shuffled = np.asarray(data.draw(st.permutations(range(len(value)))))
    value, place, order = value[shuffled], place[shuffled], order[shuffled]
    typical = Typical(looks=3.0, usual_db=-17.0, swing_db=2.0)
    for name in ("vh_over_usual_db", "vh_over_driest_db", "vh_anomaly"):
        for span in ("past", "all"):
            rule = HistoryRule(span, {"vh": typical})
            compared, count = compare_with_past(name, PassRows(place, order, value), rule)
            for i in range(len(value)):
                seen = (place == place[i]) & ((order <= order[i]) | (span == "all"))
                known = value[seen & np.isfinite(value)]
                assert count[i] == len(known)
                if np.isnan(value[i]):
                    assert np.isnan(compared[i])
                elif "driest" in name:
                    assert compared[i] == value[i] - known.min()
                elif "usual" in name:
                    usual = 10 * np.log10(np.mean(10 ** (known / 10)))
                    assert compared[i] == pytest.approx(value[i] - usual, abs=1e-9)
                else:  # its own looks, and three of a typical place that swings about -17 dB
                    n = len(known)
                    usual = (known.sum() + 3 * -17.0) / (n + 3)
                    swing = np.sqrt((n * known.var() + 3 * 2.0**2) / (n + 3))
                    assert compared[i] == pytest.approx((value[i] - usual) / swing, abs=1e-6)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_the_states_after_each_pass_have_the_bits_of_a_replay(data: st.DataObject) -> None:
    lengths = data.draw(st.lists(st.integers(0, 20), min_size=1, max_size=6))
    place = np.repeat(np.arange(len(lengths)), lengths)
    db = st.one_of(st.just(float("nan")), st.floats(-40, 0))
    value_db = np.asarray(data.draw(st.lists(db, min_size=len(place), max_size=len(place))), float)
    start = [
        data.draw(st.sampled_from([None, PlaceState().add(-20.0).add(-11.3)])) for _ in lengths
    ]
    after = states_after(History.of(start), place, value_db)
    passes = (Pass(value_db[[at]], place[[at]]) for at in range(len(place)))
    for at, history in enumerate(replay(History.of(start), passes)):
        assert after.state(at) == history.state(int(place[at]))


def table_of(**columns: list[float]) -> Table:
    """Two sites on three dates, in date order."""
    dates = np.repeat(np.asarray(["2023-01-01", "2023-01-13", "2023-01-25"], "datetime64[s]"), 2)
    return Table(
        source="made",
        site=np.asarray(["a", "b"] * 3),
        date_text=tuple(dates.astype(str)),
        date=dates,
        numbers={name: np.asarray(values) for name, values in columns.items()},
        text={},
        row_number=np.arange(2, 8),
    )


def test_the_scene_s_anomaly_is_the_mean_of_the_rows_of_a_date() -> None:
    table = table_of(vh_db=[-20.0, -16.0, -18.0, -15.0, -14.0, -13.0])
    rule = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
    own, dates = compute_context(table, "vh_anomaly", rule)
    scene, rows = compute_context(table, "vh_anomaly_scene", rule)
    assert dates.tolist() == [1, 1, 2, 2, 3, 3]
    assert rows.tolist() == [2] * 6
    assert scene == pytest.approx(np.repeat(own.reshape(3, 2).mean(axis=1), 2))
    # one look of -20 dB beside three of -17, and a swing of its own that is still 0
    assert own[0] == pytest.approx((-20.0 - -17.75) / np.sqrt(3 * 4.0 / 4))


def test_a_later_date_changes_no_past() -> None:
    vh_db = [-20.0, -16.0, -18.0, -15.0, -14.0, -13.0]
    rule = HistoryRule("past", {"vh": Typical(3.0, -17.0, 2.0)})
    before, _ = compute_context(table_of(vh_db=vh_db), "vh_anomaly", rule)
    after, _ = compute_context(table_of(vh_db=[*vh_db[:4], -9.0, -30.0]), "vh_anomaly", rule)
    assert before[:4].tolist() == after[:4].tolist()
    assert (before[4:] != after[4:]).all()


def test_ndvi_over_scene_believes_a_scene_mean_that_is_given() -> None:
    ndvi = [0.2, 0.4, 0.3, 0.3, 0.5, 0.1]
    made, _ = compute_context(table_of(ndvi=ndvi), "ndvi_over_scene")
    assert made == pytest.approx([-0.1, 0.1, 0.0, 0.0, 0.2, -0.2])
    given, count = compute_context(table_of(ndvi=ndvi, ndvi_scene=[0.2] * 6), "ndvi_over_scene")
    assert given == pytest.approx(np.asarray(ndvi) - 0.2)
    assert not too_few("ndvi_over_scene", count).any()


def test_an_anomaly_without_a_typical_place_is_refused() -> None:
    with pytest.raises(DataError, match="typical place"):
        compute_context(table_of(vh_db=[-15.0] * 6), "vh_anomaly")


def test_a_history_knows_the_wettest_date_and_nothing_before_the_first() -> None:
    history = History.empty(2)
    assert np.isnan(history.reference_db("vh_over_usual_db")).all()
    history.add(np.asarray([-20.0, np.nan]))
    history.add(np.asarray([-14.0]), np.asarray([0]))
    assert history.wettest_db.tolist() == [-14.0, -np.inf]
    assert history.driest_db[0] == -20.0
    assert history.count.tolist() == [2, 0]
