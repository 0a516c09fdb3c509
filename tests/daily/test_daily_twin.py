"""End to end on the simulated twin: radar, retrieval and daily values against the true state."""

from dataclasses import dataclass, replace

import numpy as np
import pytest

pytest.importorskip("scipy", reason="needs kgsm[train]")

from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.daily import Settings, estimate_daily
from kgsm_infer.daily.parameters import Parameters, PassErrors, Residual
from kgsm_infer.daily.values import PASS_CORRELATION, PassNumbers, values_of
from kgsm_infer.tables.table import table_from_columns
from kgsm_infer.tables.weather import Series, Weather
from kgsm_train.learning.daily import Labelled, fit_bucket
from kgsm_train.sources.simulate import Twin, oracle, simulate_with_weather


@dataclass(frozen=True)
class Simulated:
    """A twin's daily truth and rain (D, S), and its radar retrieved by the oracle (R,)."""

    labelled: Labelled
    table: dict
    retrieved: np.ndarray


def simulated(seed, sites=15):
    twin = Twin(sites=sites, years=2, looks=4.0, seed=seed)
    table, daily = simulate_with_weather(twin)
    names = tuple(dict.fromkeys(daily["site"].tolist()))
    rain, sm = (
        np.asarray(daily[column]).reshape(len(names), -1).T for column in ("rain_mm", "sm_true")
    )
    first = int(np.datetime64(daily["date"][0]).astype(int))
    return Simulated(Labelled(first, names, rain, sm), table, oracle(twin, table))


@pytest.fixture(scope="module")
def train():
    return simulated(1)


@pytest.fixture(scope="module")
def parameters(train):
    bucket = fit_bucket(train.labelled, north=True)
    apart = train.labelled.sm - run_bucket(bucket, train.labelled.rain_mm, train.labelled.day)
    offset = apart.mean(0)
    within = float((apart - offset).var())
    residual = Residual(
        mean=bucket.mean, gamma=0.5, common_var=within / 4, common_phi=0.97,
        common_offset_var=0.0004, offset_var=float(offset.var()), gain_var=0.01,
        paddock_var=within, paddock_phi=0.97, noise_var=1e-5,
    )  # fmt: skip
    return Parameters(
        "twin", bucket, residual, PassErrors(0.06, 0.04), (0.0, 0.6), 1.0, "north", "simulated",
        "simulated", "a test", True,
    )  # fmt: skip


@dataclass(frozen=True)
class Scored:
    rmse: float
    bias: float
    coverage: float


def daily_of(new, parameters, errors):
    table = table_from_columns({**new.table, "sm": new.retrieved}, require=("sm",), keep="empty")
    nan = np.full(len(table), np.nan)
    numbers = PassNumbers(table.numbers["sm"], nan, nan, np.zeros(len(nan), np.int64))
    values = values_of(table, "sm", numbers)
    labelled = new.labelled
    places = {
        name: Series(labelled.first, labelled.rain_mm[:, i], np.full(len(labelled.rain_mm), np.nan))
        for i, name in enumerate(labelled.sites)
    }
    return estimate_daily(
        values, Weather("rain", "site", places), parameters, Settings(errors=errors)
    )


def score(new, made):
    begin = made.forcing.period.first - new.labelled.first
    truth = new.labelled.sm[begin : begin + len(made.mean)]
    made_sites = [new.labelled.sites.index(name) for name in made.values.paddocks]
    truth = truth[:, made_sites]
    since = np.isfinite(made.seen).cumsum(0) > 0
    error = (made.mean - truth)[since]
    inside = ((truth >= made.lower) & (truth <= made.upper))[since]
    return Scored(float(np.sqrt(np.mean(error**2))), float(error.mean()), float(inside.mean()))


def test_radar_and_rain_together_follow_the_true_state(train, parameters):
    """Retrieval, its errors as a card has them, and daily values, all on sites of another seed."""
    truth = np.asarray(train.table["sm_true"], float)
    known = np.isfinite(train.retrieved)
    error = (truth - train.retrieved)[known]
    r = float(np.corrcoef(truth[known], train.retrieved[known])[0, 1])
    spread = PassErrors(float(error.std()), 0.01, 0.2)
    card = replace(spread, slope=r**2, correlation=PASS_CORRELATION)
    new = simulated(2)
    made = daily_of(new, parameters, card)
    assert made.simulated
    found = score(new, made)
    held = np.where(np.isfinite(made.seen), np.arange(len(made.seen))[:, None], 0)
    held = np.take_along_axis(made.seen, np.maximum.accumulate(held, axis=0), axis=0)
    last = score(new, replace(made, mean=held.astype(np.float32)))
    rain = score(new, replace(made, mean=daily_of_rain(new, parameters, made)))
    # a conditional mean that is taken for the truth with noise costs accuracy and coverage
    plain = score(new, daily_of(new, parameters, spread))
    assert found.rmse < rain.rmse and found.rmse < 0.6 * last.rmse
    assert abs(found.bias) < 0.02 < abs(plain.bias)
    assert 0.85 < found.coverage < 0.97
    assert plain.rmse > found.rmse and plain.coverage < found.coverage


def daily_of_rain(new, parameters, made):
    """The rain model alone on the days of the estimate."""
    begin = made.forcing.period.first - new.labelled.first
    model = run_bucket(parameters.bucket, new.labelled.rain_mm, new.labelled.day)
    return model[begin : begin + len(made.mean)].astype(np.float32)
