"""The twin: its physics against the equations, its speckle, its honesty, its oracle."""

from __future__ import annotations

import csv
import json
from datetime import date

import numpy as np
import pytest

from kgsm_infer.base.errors import UsageError
from kgsm_train.evaluation.metrics import scores
from kgsm_train.learning.calibrate import LabelledAcquisitions, calibrate
from kgsm_train.sources.simulate import SM_RANGE, Twin, oracle, simulate, write_twin

SMALL = Twin(sites=6, years=1)


@pytest.fixture(scope="module")
def table():
    return simulate(Twin())


def equations(twin, sm, ndvi, angle_deg):
    """Eqs 1-5 in float64, by hand."""
    vwc = np.maximum(0.0, 1.9134 * ndvi**2 - 0.3215 * ndvi)
    cos = np.cos(np.radians(angle_deg))
    gamma2 = np.exp(-2 * twin.b * vwc / cos)
    sigma_veg = twin.a * vwc**twin.e * cos * (1 - gamma2)
    sigma_soil = 10 ** ((twin.c_db + twin.d_db * sm) / 10)
    return 10 * np.log10(sigma_veg + gamma2 * sigma_soil)


def test_size_and_ranges(table):
    rows = len(table["date"])
    assert all(len(values) == rows for values in table.values())
    assert len(np.unique(table["site"])) == 40
    assert 70 < rows / 40 < 110
    assert table["date"][0] >= "2021-01-01"
    assert max(table["date"]) <= "2022-12-31"
    sm = table["sm_true"]
    assert SM_RANGE[0] <= sm.min() < 0.06
    assert 0.35 < sm.max() <= SM_RANGE[1]
    assert np.nanmax(table["ndvi"]) <= 0.95
    assert np.nanmean(table["ndvi"] > 0.6) > 0.1
    assert 30.5 < table["angle_deg"].min() < 33
    assert 43 < table["angle_deg"].max() < 45.5
    assert ((table["clay"] >= 0.08) & (table["clay"] <= 0.5)).all()
    assert np.percentile(table["vh_noise_free_db"], 5) > -23
    assert np.percentile(table["vh_noise_free_db"], 95) < -12


def test_only_ndvi_is_ever_missing(table):
    for name in ("vh_db", "angle_deg", "clay", "sm", "sm_true", "vh_noise_free_db"):
        assert np.isfinite(table[name]).all(), name
    assert np.isnan(table["ndvi"]).mean() == pytest.approx(0.08, abs=0.02)


def test_dates_are_six_or_twelve_days_apart_with_gaps(table):
    day = np.array([date.fromisoformat(text).toordinal() for text in table["date"]])
    steps, gaps, sites = set(), 0, np.unique(table["site"])
    for site in sites:
        step = np.diff(day[table["site"] == site])
        assert (step > 0).all()
        revisit = int(step.min())
        steps.add(revisit)
        assert (step % revisit == 0).all()
        gaps += int((step > revisit).sum())
    assert steps == {6, 12}
    assert gaps / len(day) == pytest.approx(0.05, abs=0.02)


@pytest.mark.parametrize("e", [0.0, 1.0])
def test_the_forward_model_is_the_equations(e):
    twin = Twin(sites=8, e=e, roughness_db=0.0, cloud_share=0.0)
    table = simulate(twin)
    expected = equations(twin, table["sm_true"], table["ndvi"], table["angle_deg"])
    np.testing.assert_allclose(table["vh_noise_free_db"], expected, atol=1e-6)


def test_roughness_is_one_offset_of_the_soil_per_site():
    twin = Twin(sites=200, years=1, roughness_db=0.5, cloud_share=0.0)
    table = simulate(twin)
    bare = table["ndvi"] < 0.16  # no foliage: the soil itself is seen
    smooth = equations(twin, table["sm_true"], table["ndvi"], table["angle_deg"])
    offset = table["vh_noise_free_db"] - smooth
    each = []
    for site in np.unique(table["site"]):
        here = bare & (table["site"] == site)
        if here.any():
            assert np.ptp(offset[here]) < 1e-5
            each.append(offset[here][0])
    assert len(each) > 40
    assert np.std(each) == pytest.approx(0.5, rel=0.3)


@pytest.mark.parametrize("looks", [4.0, 100.0])
def test_speckle_moments(looks):
    table = simulate(Twin(sites=150, looks=looks))
    ratio = 10 ** ((table["vh_db"] - table["vh_noise_free_db"]) / 10)
    n = len(ratio)
    assert ratio.mean() == pytest.approx(1.0, abs=4 / np.sqrt(looks * n))
    assert ratio.var() == pytest.approx(1 / looks, rel=0.08)
    # third moment of a gamma: skewness 2 / sqrt(looks)
    skewness = ((ratio - ratio.mean()) ** 3).mean() / ratio.std() ** 3
    assert skewness == pytest.approx(2 / np.sqrt(looks), rel=0.35)


def test_rain_wets_at_once_and_soil_dries_slowly(table):
    change = np.concatenate(
        [np.diff(table["sm_true"][table["site"] == s]) for s in np.unique(table["site"])]
    )
    assert change.max() > 0.15
    assert (change < 0).mean() > 0.5
    wetting, drying = change[change > 0], -change[change < 0]
    assert wetting.mean() > 1.2 * drying.mean()
    each = [table["site"] == s for s in np.unique(table["site"])]
    clay = [table["clay"][here][0] for here in each]
    mean = [table["sm_true"][here].mean() for here in each]
    assert np.corrcoef(clay, mean)[0, 1] > 0.5  # clay holds water


def test_sites_share_the_weather(table):
    on = {}
    for site, day, sm in zip(table["site"], table["date"], table["sm_true"], strict=True):
        on.setdefault(site, {})[day[:7]] = sm
    first, *others = on.values()
    months = sorted(set(first).intersection(*others))
    series = np.array([[one[m] for m in months] for one in on.values()])
    assert np.median(np.corrcoef(series)[np.triu_indices(len(series), 1)]) > 0.3


def test_vegetation_is_not_the_same_signal_as_moisture(table):
    seen = np.isfinite(table["ndvi"])
    assert abs(np.corrcoef(table["ndvi"][seen], table["sm_true"][seen])[0, 1]) < 0.4


def test_labels_are_the_truth_with_the_probe_s_noise(table):
    noise = table["sm"] - table["sm_true"]
    assert abs(noise.mean()) < 5e-4
    assert noise.std() == pytest.approx(0.005, rel=0.05)


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_calibration_finds_the_truth_in_a_noise_free_twin(residual):
    twin = Twin(sites=10, looks=1e12, roughness_db=0.0, probe_noise=0.0)
    table = simulate(twin)
    found = calibrate(
        twin.wcm.replace_a(0.005),
        LabelledAcquisitions(table["vh_db"], table["ndvi"], table["sm_true"], table["angle_deg"]),
        residual=residual,
    )
    assert found.wcm.a == pytest.approx(twin.a, rel=0.01)
    assert found.c_db == pytest.approx(twin.c_db, rel=0.01)
    assert found.d_db == pytest.approx(twin.d_db, rel=0.01)
    assert found.left_out == np.isnan(table["ndvi"]).sum()


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_a_is_identified_with_speckle(table, residual):
    given = [table[name] for name in ("vh_db", "ndvi", "sm", "angle_deg")]
    found = calibrate(Twin().wcm.replace_a(0.005), LabelledAcquisitions(*given), residual=residual)
    assert found.wcm.a == pytest.approx(Twin().a, rel=0.1)


def test_same_seed_same_bytes(tmp_path):
    assert write_twin(tmp_path / "one.csv", SMALL) == write_twin(tmp_path / "two.csv", SMALL)
    assert (tmp_path / "one.csv").read_bytes() == (tmp_path / "two.csv").read_bytes()
    (tmp_path / "again").mkdir()
    write_twin(tmp_path / "again" / "one.csv", SMALL)
    for name in ("one.csv", "one.json"):
        assert (tmp_path / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
    write_twin(tmp_path / "other.csv", Twin(sites=6, years=1, seed=1))
    assert (tmp_path / "one.csv").read_bytes() != (tmp_path / "other.csv").read_bytes()


def test_both_files_say_simulated_and_hold_the_table(tmp_path):
    written = write_twin(tmp_path / "twin.csv", SMALL)
    with open(tmp_path / "twin.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == written
    assert {line["source"] for line in lines} == {"simulated"}
    assert "nan" not in (tmp_path / "twin.csv").read_text(encoding="utf-8").lower()
    table = simulate(SMALL)
    for name in ("vh_db", "ndvi", "sm", "sm_true", "clay", "angle_deg", "vh_noise_free_db"):
        read = [float(line[name]) if line[name] else np.nan for line in lines]
        np.testing.assert_array_equal(read, table[name])
    assert [line["date"] for line in lines] == table["date"]
    truth = json.loads((tmp_path / "twin.json").read_text(encoding="utf-8"))
    assert truth["simulated"] is True
    assert "imulated" in truth["statement"]
    assert truth["rows"] == written
    assert Twin(**truth["truth"]) == SMALL


def test_the_training_reader_takes_it_as_simulated(tmp_path):
    from kgsm_infer.tables.table import read_table

    written = write_twin(tmp_path / "twin.csv", SMALL)
    read = read_table(
        tmp_path / "twin.csv", features=("clay",), require=("sm", "vh_db", "ndvi", "angle_deg")
    )
    assert len(read) == written
    assert set(read.text["source"]) == {"simulated"}


def test_oracle_is_the_posterior_by_brute_force():
    """Against samples of the prior, weighted by the density of the row's backscatter."""
    twin = Twin(sites=5, years=1, looks=20.0, roughness_db=0.5)
    table = simulate(twin)
    found = oracle(twin, table)
    rng = np.random.default_rng(0)
    edges = np.linspace(*SM_RANGE, 121)
    count = np.histogram(table["sm_true"], edges)[0] + 0.5
    draws = 400_000
    sm = ((edges[1:] + edges[:-1]) / 2)[rng.choice(120, draws, p=count / count.sum())]
    rough = 0.5 * rng.standard_normal(draws)
    for row in np.flatnonzero(np.isfinite(table["ndvi"]))[::60]:
        ndvi, angle = np.full(draws, table["ndvi"][row]), table["angle_deg"][row]
        mean = 10 ** (equations(twin, sm + rough / twin.d_db, ndvi, angle) / 10)
        ratio = 10 ** (table["vh_db"][row] / 10) / mean
        weight = np.exp(20 * (np.log(ratio) - ratio + 1))
        assert found[row] == pytest.approx((weight * sm).sum() / weight.sum(), abs=2e-3)


def test_oracle_is_at_least_as_good_as_the_calibrated_wcm(table):
    from kgsm_train.learning.calibrate import predict_sm

    best = oracle(Twin(), table)
    assert np.array_equal(np.isnan(best), np.isnan(table["ndvi"]))
    given = [table[name] for name in ("vh_db", "ndvi", "sm_true", "angle_deg")]
    for residual in ("sm", "sigma0"):
        found = calibrate(Twin().wcm, LabelledAcquisitions(*given), residual=residual)
        sm, _ = predict_sm(found, table["vh_db"], table["ndvi"], table["angle_deg"])
        assert scores(table["sm_true"], best).rmse < scores(table["sm_true"], sm).rmse
    assert scores(table["sm_true"], best).rmse < 0.5 * np.std(table["sm_true"])


def test_oracle_of_a_clear_view_is_the_truth():
    twin = Twin(sites=4, years=1, looks=1e4, roughness_db=0.0, cloud_share=0.0)
    table = simulate(twin)
    assert scores(table["sm_true"], oracle(twin, table)).rmse < 0.004


def test_oracle_far_off_the_model_is_still_a_number():
    table = simulate(SMALL)
    table["vh_db"] = np.where(np.arange(len(table["vh_db"])) % 2, 5.0, -45.0)
    sm = oracle(SMALL, table)
    assert np.isfinite(sm[np.isfinite(table["ndvi"])]).all()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sites": 0},
        {"looks": 0.0},
        {"a": float("nan")},
        {"d_db": 0.0},
        {"gap_share": 1.0},
        {"start": "next year"},
        {"seed": -1},
    ],
)
def test_impossible_twins_are_refused(wrong):
    with pytest.raises(UsageError, match=next(iter(wrong))):
        Twin(**wrong)


def test_the_table_may_not_be_its_own_sidecar(tmp_path):
    with pytest.raises(UsageError, match="another suffix"):
        write_twin(tmp_path / "twin.json", SMALL)
    assert list(tmp_path.iterdir()) == []


def test_one_site_one_year():
    table = simulate(Twin(sites=1, years=1, gap_share=0.9))
    assert 1 <= len(table["date"]) < 30
