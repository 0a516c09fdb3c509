"""Possible irrigation against enumeration of all hypotheses with a dense filter."""

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest
from dense_filter import dense_likelihood
from hypothesis import given, settings
from hypothesis import strategies as st
from made_series import BUCKET, ERRORS, FIRST, SET, observations, values_of, weather_of

from kgsm_infer.base.errors import UsageError
from kgsm_infer.daily import events
from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.command import Request, run_daily
from kgsm_infer.daily.daily import Settings, estimate_daily
from kgsm_infer.daily.events import AMOUNT_PRIOR, AMOUNTS_MM, PLACES, find_irrigation, thin
from kgsm_infer.daily.forcing import Forcing
from kgsm_infer.daily.parameters import PassErrors
from kgsm_infer.daily.run import drive
from kgsm_infer.daily.table import daily_columns

EXACT = PassErrors(0.03, 0.03, 0.2)


def find(rain, seen, every=36.0, parameters=SET, errors=ERRORS):
    """Probabilities of paddocks (D, N) that share one rain series (D,)."""
    forcing = Forcing.of_rain(0, rain[:, None], np.zeros(seen.shape[1], np.int64))
    made = drive(parameters, forcing)
    return find_irrigation(parameters, made, forcing, observations(seen, errors), every)


def irrigated(rain, water):
    """Moisture of the bucket (D, N) with irrigation (D, N)."""
    return np.hstack(
        [
            run_bucket(BUCKET, rain[:, None], np.arange(len(rain)), irrigation_mm=water[:, [i]])
            for i in range(water.shape[1])
        ]
    )


def test_one_paddock_matches_the_enumeration_of_all_hypotheses(monkeypatch):
    """All branches of three passes are kept and weighed by the density of the whole series."""
    monkeypatch.setattr(events, "HYPOTHESES", 60)
    rng = np.random.default_rng(3)
    rain = np.where(rng.random(40) < 0.2, 9.0, 0.0)
    at = [20, 26, 34]
    # where the exponent is 0 the residual's scale does not depend on moisture
    parameters = replace(SET, residual=replace(SET.residual, gamma=1e-9, gain_var=1e-12))
    seen = np.full((40, 1), np.nan)
    seen[at, 0] = [0.16, 0.24, 0.21]
    choices = []
    for before, until in itertools.pairwise(at):
        gap = until - before
        prior = 1 - np.exp(-gap / 20.0)
        days = [before + int(np.ceil(place * gap)) for place in PLACES]
        one = [
            (day, mm, prior * share / len(days))
            for mm, share in zip(AMOUNTS_MM, AMOUNT_PRIOR, strict=True)
            for day in days
        ]
        choices.append([(0, 0.0, 1 - prior), *one])
    weights, had = [], []
    for first, second in itertools.product(*choices):
        water = np.zeros((40, 1))
        for day, mm, _ in (first, second):
            water[day, 0] += mm
        density = dense_likelihood(
            parameters.residual,
            irrigated(rain, water),
            seen,
            (ERRORS.point**2 * 0.8, ERRORS.date**2, ERRORS.point**2 * 0.2),
            parameters.bucket.variance,
        )
        weights.append(first[2] * second[2] * np.exp(density))
        had.append(second[1])
    weights, had = np.array(weights), np.array(had)
    weights /= weights.sum()
    found = find(rain, seen, 20.0, parameters)
    assert found.after.tolist() == at[:-1] and found.until.tolist() == at[1:]
    assert found.probability[1] == pytest.approx(weights[had > 0].sum(), abs=2e-3)
    assert found.mm[1] == pytest.approx(np.average(had, weights=weights * (had > 0)), abs=0.3)


def test_a_rise_of_one_paddock_counts_and_of_all_does_not():
    rng = np.random.default_rng(0)
    rain = np.zeros(80)
    rain[:30] = np.where(rng.random(30) < 0.3, 8.0, 0.0)
    water = np.zeros((80, 12))
    water[57, 0] = 50.0
    noise = rng.normal(0, 0.03, (80, 12))
    at = np.arange(2, 80, 6)
    seen = np.full((80, 12), np.nan)
    seen[at] = (irrigated(rain, water) + noise)[at]
    alone = find(rain, seen, errors=EXACT)
    mine = (alone.paddock == 0) & (alone.after < 57) & (alone.until >= 57)
    assert alone.probability[mine] > 0.7
    assert alone.probability[mine] == alone.probability.max()
    assert np.mean(alone.probability[~mine] >= 0.5) < 0.02
    assert alone.mm[mine] > 25
    water[57] = 50.0
    seen[at] = (irrigated(rain, water) + noise)[at]
    shared = find(rain, seen, errors=EXACT)
    same = (shared.after < 57) & (shared.until >= 57)
    assert shared.probability[same][0] < 0.5 and np.median(shared.probability[same]) < 0.1


def test_rain_explains_a_rise():
    rain = np.zeros(80)
    rain[57] = 50.0
    at = np.arange(2, 80, 6)
    seen = np.full((80, 1), np.nan)
    seen[at] = irrigated(rain, np.zeros((80, 1)))[at]
    assert find(rain, seen, errors=EXACT).probability.max() < 0.5
    dry = find(np.zeros(80), seen, errors=EXACT)
    assert dry.probability[(dry.after < 57) & (dry.until >= 57)] > 0.5


def test_missing_rain_explains_a_rise_better_than_none():
    known, missing = np.zeros(80), np.zeros(80)
    missing[52:58] = np.nan
    seen = np.full((80, 1), np.nan)
    seen[2:80:6, 0] = 0.1
    seen[62:80:6, 0] = 0.25
    at = np.flatnonzero(np.isfinite(seen[:, 0]))
    row = int(np.flatnonzero(at[1:] == 62)[0])
    assert find(missing, seen).probability[row] < find(known, seen).probability[row]


def test_probability_follows_the_base_rate():
    rng = np.random.default_rng(1)
    seen = np.full((120, 5), np.nan)
    seen[2::6] = rng.uniform(0.1, 0.25, seen[2::6].shape)
    rare, often = (find(np.zeros(120), seen, every).probability for every in (500.0, 20.0))
    assert (rare < often).all() and (rare < 0.9).all()


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 9), st.sampled_from([0.0, 3.0, 30.0]))
def test_thinned_weights_keep_the_total_of_neighbours(seed, count, spread):
    rng = np.random.default_rng(seed)
    weight = np.exp(spread * rng.normal(size=(4, 3 * count)))
    weight[0, rng.random(3 * count) < 0.5] = 0.0
    weight[0, 0] += 1.0
    weight /= weight.sum(1, keepdims=True)
    made = thin(weight, count)
    assert made.index.shape == made.weight.shape == (4, count)
    assert np.allclose(made.weight.sum(1), 1)
    for row in range(4):
        assert len(set(made.index[row].tolist())) == count
        kept = np.zeros(3 * count)
        kept[made.index[row]] = made.weight[row]
        smallest = kept[kept > 0].min()
        moved = np.abs(kept.cumsum() - weight[row].cumsum()).max()
        assert moved <= max(smallest, 1 / count) + 1e-9


def test_flag_stands_on_the_pass_from_half_on():
    rain = np.zeros(100)
    rows = [(0, d, 0.08 + 0.2 * (d >= 60)) for d in range(0, 100, 6)]
    rows += [(i, d, 0.08) for d in range(0, 100, 6) for i in (1, 2, 3)]
    names = ("a", "b", "c", "d")
    wanted = Settings(
        today=str(np.datetime64(FIRST + 99, "D")), errors=ERRORS, irrigated_every_days=36.0
    )
    made = estimate_daily(values_of(rows, paddocks=names), weather_of(rain), SET, wanted)
    columns = daily_columns(made)
    flagged = [
        (site, date)
        for site, date, flags in zip(
            columns["site"], columns["date"], columns["flags"], strict=True
        )
        if "wet_without_rain" in flags.split(";")
    ]
    rose = made.possible.probability >= 0.5
    assert flagged == [("a", str(np.datetime64(FIRST + 60, "D")))]
    assert made.possible.until[rose].tolist() == [FIRST + 60]
    plain = estimate_daily(
        values_of(rows, paddocks=names),
        weather_of(rain),
        SET,
        replace(wanted, irrigated_every_days=None),
    )
    assert plain.possible is None
    assert not any("wet_without_rain" in text for text in daily_columns(plain)["flags"])
    assert np.array_equal(plain.mean, made.mean)


def test_stated_irrigation_is_not_found_again(tmp_path):
    def wet(d):
        return 0.08 + (0.2 * np.exp(-(d - 60) / 15) if d >= 60 else 0.0)

    with open(tmp_path / "values.csv", "w") as out:
        out.write("site,date,sm\n")
        for d in range(0, 100, 6):
            day = np.datetime64("2024-01-01") + d
            out.write(f"a,{day},{wet(d)}\nb,{day},0.08\nc,{day},0.08\n")
    with open(tmp_path / "rain.csv", "w") as out:
        out.write("date,rain_mm\n")
        out.writelines(f"{np.datetime64('2024-01-01') + d},0\n" for d in range(100))
    (tmp_path / "irrigation.csv").write_text("paddock,date,mm\na,2024-02-28,50\n")

    def found(**changes):
        made = Request(
            tmp_path / "values.csv",
            tmp_path / "daily.csv",
            tmp_path / "rain.csv",
            sd_point=0.05,
            sd_date=0.03,
            today="2024-04-09",
            irrigation_events=tmp_path / "events.csv",
        )
        done = run_daily(replace(made, **changes))
        assert any("possible irrigation" in note for note in done.notes)
        with open(tmp_path / "events.csv", newline="") as file:
            return list(csv.DictReader(file))

    unknown = [row for row in found() if float(row["probability"]) >= 0.5]
    assert [(row["site"], row["after"], row["until"]) for row in unknown] == [
        ("a", "2024-02-24", "2024-03-01")
    ]
    assert float(unknown[0]["mm_lower"]) <= float(unknown[0]["mm"]) <= 50
    stated = found(irrigation=tmp_path / "irrigation.csv")
    assert not [row for row in stated if float(row["probability"]) >= 0.5]


@pytest.mark.parametrize("every", [0.5, np.inf, np.nan])
def test_a_base_rate_that_is_none_is_refused(every):
    with pytest.raises(UsageError, match="give at least 1"):
        find(np.zeros(20), np.full((20, 1), 0.1), every)
