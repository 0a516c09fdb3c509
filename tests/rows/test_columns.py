"""The data contract's arithmetic, and the past of a field as it grows date by date."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgsm_infer.columns import BACKSCATTER_FORMS, forms_given, made_from, make, sigma0_db
from kgsm_infer.context import History, first_given, history_of


def test_every_form_of_one_backscatter_is_the_same_sigma0() -> None:
    angle_deg, sigma0 = 38.0, 0.0123
    gamma0 = sigma0 / np.cos(np.deg2rad(angle_deg))
    given_as = {"db": 10 * np.log10(sigma0), "linear": sigma0}
    given_as |= {"gamma0_db": 10 * np.log10(gamma0), "gamma0_linear": gamma0}
    assert tuple(given_as) == BACKSCATTER_FORMS
    for form, value in given_as.items():
        names = {f"vh_{form}": np.asarray([value]), "angle_deg": np.asarray([angle_deg])}
        needed = made_from("vh_db", names)
        made = make("vh_db", {name: names[name] for name in needed})
        assert made == pytest.approx(10 * np.log10(sigma0), abs=1e-12)
    assert forms_given("vh", given_as) == []
    assert made_from("vh_db", ["vh_gamma0_db"]) == ()
    with pytest.raises(ValueError, match="needs angle_deg"):
        sigma0_db("vh_gamma0_db", np.asarray([-17.0]))


def test_a_context_is_made_of_what_is_nearest_at_hand() -> None:
    assert first_given("vh_over_driest_db", ["vh_over_driest_db"]) == "vh_over_driest_db"
    assert first_given("vh_over_driest_db", ["vh_db"]) == "vh_db"
    assert first_given("ndvi_scene", []) == "ndvi"


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
    for name in ("vh_over_usual_db", "vh_over_driest_db"):
        for past_only in (False, True):
            reference, count = history_of(name, value, place, order, past_only=past_only)
            for i in range(len(value)):
                seen = (place == place[i]) & ((order <= order[i]) | (not past_only))
                known = value[seen & np.isfinite(value)]
                assert count[i] == len(known)
                if not len(known):
                    assert np.isnan(reference[i])
                elif "driest" in name:
                    assert reference[i] == known.min()
                else:
                    usual = 10 * np.log10(np.mean(10 ** (known / 10)))
                    assert reference[i] == pytest.approx(usual, abs=1e-9)


def test_a_history_knows_the_wettest_date_and_nothing_before_the_first() -> None:
    history = History.empty(2)
    assert np.isnan(history.reference_db("vh_over_usual_db")).all()
    history.add(np.asarray([-20.0, np.nan]))
    history.add(np.asarray([-14.0]), np.asarray([0]))
    assert history.wettest_db.tolist() == [-14.0, -np.inf]
    assert history.driest_db[0] == -20.0
    assert history.count.tolist() == [2, 0]
