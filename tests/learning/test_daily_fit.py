"""fit-daily on series whose parameters are known, its protocol and its scores."""

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize, stats

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.parameters import Bucket, SoilStore, read_parameters
from kgsm_train.daily import read_labelled
from kgsm_train.evaluation import daily as evaluation
from kgsm_train.learning import daily as learning

TRUE = Bucket(0.06, (SoilStore(40.0, 0.06, 0.3, 1.0, 0.4),), 0.6, 15.0, 0.006)
SOURCE = learning.DataOrigin("made", "MIT", "made", "a test", "south", simulated=True)


def labelled(sites=6, days=900, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    rain = np.where(rng.random((days, 1)) < 0.2, rng.exponential(9.0, (days, 1)), 0.0)
    rain = rain * rng.gamma(8.0, 1 / 8, (days, sites))
    sm = run_bucket(TRUE, rain, 17000 + np.arange(days))
    wave = rng.normal(0, noise, (days, sites))
    for t in range(1, days):
        wave[t] = 0.95 * wave[t - 1] + wave[t] * 0.3
    sm = np.clip(sm + wave + rng.normal(0, 0.03, sites), 0, 0.6)
    return learning.Labelled(17000, tuple(f"s{i}" for i in range(sites)), rain, sm)


@pytest.fixture
def few_evaluations(monkeypatch):
    monkeypatch.setattr(learning, "EVALUATIONS", 12)


def test_the_bucket_is_found_again():
    series = labelled()
    exact = replace(series, sm=run_bucket(TRUE, series.rain_mm, series.day))
    found = learning.fit_bucket(exact, stores=1)
    store, true = found.stores[0], TRUE.stores[0]
    np.testing.assert_allclose(
        [found.dry, found.season, store.capacity_mm, store.loss_per_day, store.range, store.power],
        [TRUE.dry, TRUE.season, true.capacity_mm, true.loss_per_day, true.range, true.power],
        rtol=0.02,
    )


def test_soft_l1_is_that_of_scipy():
    labels = np.array([0.001, -0.04, 0.2, -0.5])
    fitted = optimize.least_squares(
        lambda x: x - labels, [0.1] * 4, loss="soft_l1", f_scale=learning.ROBUST_SCALE, max_nfev=1
    )
    mine = learning._soft_l1(0.1 - labels)
    assert 0.5 * np.sum(mine**2) == pytest.approx(fitted.cost)


@pytest.mark.parametrize("stores", [1, 2])
def test_few_independent_labels_leave_the_bucket_at_its_prior(stores, monkeypatch):
    series = labelled(days=500)
    error = np.random.default_rng(0).normal(0, 0.05, series.sm.shape)
    noisy = replace(series, sm=run_bucket(TRUE, series.rain_mm, series.day) + error)

    def capacity(labels):
        monkeypatch.setattr(learning, "LABELS_PER_INDEPENDENT", labels)
        return learning.fit_bucket(noisy, stores).stores[0].capacity_mm

    prior = np.exp(learning.PRIOR_MEAN[2])
    assert capacity(1e9) == pytest.approx(prior, rel=1e-3)
    assert abs(capacity(1e5) - prior) < abs(capacity(1) - prior)


def test_the_lower_of_two_minima_counts():
    # from the prior alone the search ends 0.037 m3 m-3 from these stores, with one at its bound
    stores = SoilStore(100.0, 0.01, 0.25, 1.0, 0.5), SoilStore(15.0, 0.3, 0.2, 1.0, 0.22)
    series = labelled(days=800)
    true = run_bucket(replace(TRUE, stores=stores, season=-1.0), series.rain_mm, series.day)
    error = np.random.default_rng(0).normal(0, 0.02, true.shape)
    bucket = learning.fit_bucket(replace(series, sm=true + error), 2)
    made = run_bucket(bucket, series.rain_mm, series.day)
    assert np.sqrt(np.mean((made - true)[learning.SPIN_UP :] ** 2)) < 0.01


def test_residual_is_fitted_at_sites_that_the_bucket_has_not_seen(monkeypatch):
    series = labelled(sites=3, days=800, noise=0.05)
    seen = []
    monkeypatch.setattr(
        learning, "fit_residual", lambda labels, parameters, rain: seen.append(rain) or parameters
    )
    fitted = learning.fit_daily(series, SOURCE, stores=1)
    for site in range(3):
        others = series.part(np.arange(3) != site)
        bucket = learning.fit_bucket(others, 1, near=fitted.bucket)
        alone = run_bucket(bucket, series.rain_mm[:, [site]], series.day)
        np.testing.assert_allclose(seen[0].expected[:, [site]], alone, atol=1e-12)


@pytest.mark.parametrize("half", [slice(0, 500), slice(500, 1000), slice(0)])
def test_a_site_without_labels_in_the_other_half_is_fitted_to_what_there_is(half, few_evaluations):
    """The second site has labels in one half, or none."""
    series = labelled(sites=2, days=1000, noise=0.05)
    sm = np.full_like(series.sm, np.nan)
    sm[:, 0], sm[half, 1] = series.sm[:, 0], series.sm[half, 1]
    series = replace(series, sm=sm)
    fitted = learning.fit_daily(series, SOURCE, stores=1)
    of_all = run_bucket(fitted.bucket, series.rain_mm, series.day)
    expected = learning.cross_fitted(series, fitted).expected
    assert np.isfinite(expected).all() and 0.3 < fitted.band_scale < 3
    is_other = np.any(expected[:, 0] != of_all[:, 0])
    assert is_other == np.isfinite(sm[learning.SPIN_UP :, 1]).any()


@pytest.mark.parametrize(("days", "is_halved"), [(729, False), (730, True)])
def test_two_years_are_halved(days, is_halved):
    series = labelled(sites=1, days=days, noise=0.05)
    bucket = learning.fit_bucket(series, stores=1)
    parameters = replace(read_parameters("oznet"), bucket=bucket)
    whole = run_bucket(bucket, series.rain_mm, series.day)
    assert np.any(learning.cross_fitted(series, parameters).expected != whole) == is_halved
    assert np.all(learning.cross_fitted(series, parameters, halves=False).expected == whole)


def test_fit_covers_and_beats_hold(few_evaluations):
    series = labelled(noise=0.05)
    splits = evaluation.by_fold(["0", "1"] * 3, len(series.sm))
    fitted = evaluation.fit_splits(series, splits, SOURCE, stores=1)
    board = evaluation.score_daily(series, splits, fitted, 12, seeds=(0, 1))
    assert board.scores["daily"].rmse < 0.8 * board.scores["hold"].rmse
    assert board.scores["daily"].rmse < board.scores["rain"].rmse
    assert 0.8 < board.coverage < 0.97
    text = evaluation.markdown([board])
    assert "| 12 days |" in text and "90 % band covers" in text


def test_simulated_passes():
    series = labelled(sites=400, days=200)
    series = replace(series, sm=np.full_like(series.sm, 0.3))
    seen = learning.simulate_passes(series.sm, 6, seed=0)
    at = np.flatnonzero(np.isfinite(seen[:, 0]))
    assert at[0] >= 60 and (np.diff(at) == 6).all()
    error = seen[at] - 0.3
    by_date, persistent = error.mean(1), error.mean(0)
    own = error - by_date[:, None] - persistent + error.mean()
    for values, sd in ((own.ravel(), 0.06), (persistent, np.hypot(0.03, 0.06 / np.sqrt(len(at))))):
        assert stats.chi2.cdf(len(values) * values.var() / sd**2, len(values)) > 1e-4
        assert stats.chi2.sf(len(values) * values.var() / sd**2, len(values)) > 1e-4
    again = learning.simulate_passes(series.sm, 6, seed=0)
    np.testing.assert_array_equal(seen, again)


def test_splits_leave_sites_and_years_out():
    series = labelled(sites=4, days=1200)
    splits = evaluation.by_fold_and_years(["a", "a", "b", "b"], series)
    cover = np.zeros(series.sm.shape, int)
    for split in splits:
        cover[np.ix_(split.days, split.sites)] += 1
    assert (cover == 1).all() and len(splits) == 4
    year = series.day.astype("datetime64[D]").astype("datetime64[Y]")
    assert all(not set(year[s.days]) & set(year[~s.days]) for s in splits)


def test_baselines_against_pandas():
    import pandas

    seen = np.where(np.random.default_rng(0).random((50, 3)) < 0.2, 0.3, np.nan)
    seen += np.arange(50)[:, None] / 100
    frame = pandas.DataFrame(seen)
    np.testing.assert_array_equal(evaluation.hold(seen), frame.ffill().to_numpy())
    np.testing.assert_allclose(
        evaluation.linear(seen), frame.interpolate(limit_area="inside").ffill().to_numpy()
    )


def test_too_few_labels():
    series = labelled(sites=1, days=300)
    with pytest.raises(UsageError, match="365 are needed"):
        learning.fit_daily(series, SOURCE)


def test_labels_and_rain_that_say_nothing_are_refused():
    """No rain in the file, a gauge that is stuck at 0, a probe that is stuck."""
    series = labelled(sites=2, days=600)
    nothing = np.full(series.rain_mm.shape, np.nan)
    for rain in (nothing, nothing * 0, np.zeros(series.rain_mm.shape)):
        with pytest.raises(UsageError, match="0 days with rain are too few to fit"):
            learning.fit_daily(replace(series, rain_mm=rain), SOURCE)
    with pytest.raises(UsageError, match="labels hardly vary"):
        learning.fit_daily(replace(series, sm=np.full(series.sm.shape, 0.2)), SOURCE)


def test_a_search_that_leaves_the_ranges_writes_numbers_that_are_read(monkeypatch):
    """Of Nelder-Mead only the last point is replaced, by one far outside."""
    found = optimize.OptimizeResult(x=np.full(8, 50.0))
    monkeypatch.setattr(learning, "minimize", lambda *_, **__: found)
    series = labelled(sites=2, days=400)
    parameters = read_parameters("oznet")
    rain = learning.cross_fitted(series, parameters, halves=False)
    residual = learning.fit_residual(series, parameters, rain).residual
    assert residual.gamma == 10.0 and residual.offset_var == 10.0 and residual.common_phi < 1


def write_table(path, series, **columns):
    dates = np.datetime_as_string(series.day.astype("datetime64[D]"))
    with open(path, "w") as out:
        out.write(",".join(["site", "date", "sm", "rain_mm", *columns]) + "\n")
        for i, site in enumerate(series.sites):
            extra = "".join(f",{values[i]}" for values in columns.values())
            out.writelines(
                f"{site},{day},{sm:.5f},{rain:.3f}{extra}\n"
                for day, sm, rain in zip(dates, series.sm[:, i], series.rain_mm[:, i], strict=True)
            )


def test_tables(tmp_path):
    series = labelled(sites=3, days=100)
    write_table(tmp_path / "t.csv", series, fold=["x", "y", "x"])
    read = read_labelled(tmp_path / "t.csv", tmp_path / "t.csv")
    assert read.fold == ("x", "y", "x") and read.labelled.sites == series.sites
    np.testing.assert_allclose(read.labelled.sm, series.sm, atol=1e-5)
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "rain.csv").write_text(text.replace("s1,", "other,"))
    with pytest.raises(DataError, match="no rain of site s1"):
        read_labelled(tmp_path / "t.csv", tmp_path / "rain.csv")


def test_simulated_rain_marks_the_parameters(tmp_path):
    series = labelled(sites=2, days=100)
    write_table(tmp_path / "t.csv", series)
    assert not read_labelled(tmp_path / "t.csv", tmp_path / "t.csv").simulated
    write_table(tmp_path / "rain.csv", series, source=["simulated"] * 2)
    assert read_labelled(tmp_path / "t.csv", tmp_path / "rain.csv").simulated


def test_the_command(tmp_path):
    series = labelled(sites=4, days=500, noise=0.05)
    write_table(tmp_path / "t.csv", series)
    code = (
        "from kgsm_train.learning import daily; daily.EVALUATIONS = 10; "
        "daily.BUCKET_EVALUATIONS = 4; "
        "from kgsm_train.cli import main; main()"
    )
    command = [sys.executable, "-c", code, "fit-daily", "t.csv", "--weather", "t.csv"]
    done = subprocess.run(
        [*command, "-o", "own.json", "--licence", "CC0"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    made = read_parameters(tmp_path / "own.json")
    assert made.name == "own" and made.licence == "CC0"
    assert made.scores["every"]["12"]["daily"]["rmse"] > 0
    assert made.provenance == "kgsm-train fit-daily t.csv --weather t.csv"
    assert json.loads((tmp_path / "own.json").read_text())["format"] == 1


@pytest.mark.realdata
def test_the_shipped_set_on_oznet(shared_data):
    """Fitted on these stations, so no score; new stations are benchmarks/daily.py's."""
    from kgsm_train.sources.oznet import Choice, read_oznet

    folder = shared_data / "oznet"
    if not folder.is_dir():
        pytest.skip(f"{folder} is not there")
    table = read_oznet(folder, Choice(without=("y7", "y8", "y9")))
    site, sm = np.asarray(table.columns["site"]), np.asarray(table.columns["sm"], float)
    names = tuple(dict.fromkeys(site.tolist()))
    rain = np.stack([np.asarray(table.columns["rain_mm"], float)[site == n] for n in names], 1)
    truth = np.stack([sm[site == n] for n in names], 1)
    first = np.datetime64(table.columns["date"][0]).astype("datetime64[D]").astype(int)
    series = learning.Labelled(int(first), names, rain, truth)
    parameters = read_parameters("oznet")
    splits = evaluation.by_fold(["all"] * len(names), len(truth))
    board = evaluation.score_daily(series, splits, [parameters], 12, seeds=(0,))
    assert board.scores["daily"].rmse < 0.055 and board.scores["daily"].r > 0.85
    assert 0.86 < board.coverage < 0.94
    shipped = parameters.scores["every"]["12"]
    assert shipped["daily"]["rmse"] <= 0.055 and shipped["daily"]["r"] >= 0.85
    assert 0.88 <= shipped["coverage"] <= 0.92
