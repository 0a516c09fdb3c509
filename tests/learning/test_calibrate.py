"""The WCM baseline: known parameters come back, bad rows do not poison, profiles tell."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.kernels.wcm import smooth_floor as wcm_floor
from kgsm_train.evaluation.metrics import scores
from kgsm_train.learning.calibrate import (
    BOUNDS,
    Calibration,
    LabelledAcquisitions,
    calibrate,
    predict_sm,
    profile,
)

A, B, C, D = 0.03, 0.084, -21.0, 18.0


def clean(rows=400, seed=0, ndvi=(0.1, 0.95), b=B, e=0.0):
    """Noise-free acquisitions, by Eqs 1-5 in float64."""
    rng = np.random.default_rng(seed)
    sm, ndvi = rng.uniform(0.05, 0.45, rows), rng.uniform(*ndvi, rows)
    angle = rng.uniform(31, 45, rows)
    vwc = np.maximum(0, 1.9134 * ndvi**2 - 0.3215 * ndvi)
    cos = np.cos(np.radians(angle))
    gamma2 = np.exp(-2 * b * vwc / cos)
    total = A * vwc**e * cos * (1 - gamma2) + gamma2 * 10 ** ((C + D * sm) / 10)
    return 10 * np.log10(total), ndvi, sm, angle


def start(**changes):
    return Wcm(**{"a": 0.005, "b": B, "angle_rule": "column", **changes})


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
@pytest.mark.parametrize("e", [0.0, 1.0])
def test_noise_free_parameters_come_back(residual, e):
    found = calibrate(start(e=e), LabelledAcquisitions(*clean(e=e)), residual=residual)
    assert found.wcm.a == pytest.approx(A, rel=1e-3)
    assert found.c_db == pytest.approx(C, rel=1e-3)
    assert found.d_db == pytest.approx(D, rel=1e-3)
    assert found.on_bound == ()
    assert (found.samples, found.left_out, found.lost_share) == (400, 0, 0.0)
    assert found.residual == residual
    assert found.wcm == dataclasses.replace(start(e=e), a=found.wcm.a)


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_b_comes_back_when_asked(residual):
    found = calibrate(
        start(b=0.05), LabelledAcquisitions(*clean(b=0.2)), residual=residual, fit_b=True
    )
    assert found.wcm.b == pytest.approx(0.2, rel=0.01)
    assert found.wcm.a == pytest.approx(A, rel=0.01)


def test_other_ways_to_read_the_inputs():
    vh_db, ndvi, sm, angle = clean()
    vwc = np.maximum(0, 1.9134 * ndvi**2 - 0.3215 * ndvi)
    found = calibrate(start(vwc_rule="column"), LabelledAcquisitions(vh_db, vwc, sm, angle))
    assert found.wcm.a == pytest.approx(A, rel=1e-3)
    # seen at 40 degrees, then tilted by the rule that normalisation undoes
    cos, ref = np.cos(np.radians(angle)), math.cos(math.radians(40))
    gamma2 = np.exp(-2 * B * vwc / ref)
    at_ref = A * ref * (1 - gamma2) + gamma2 * 10 ** ((C + D * sm) / 10)
    tilted_db = 10 * np.log10(at_ref * (cos / ref) ** 2)
    for residual in ("sm", "sigma0"):
        found = calibrate(
            start(angle_rule="normalise"),
            LabelledAcquisitions(tilted_db, ndvi, sm, angle),
            residual=residual,
        )
        assert found.wcm.a == pytest.approx(A, rel=1e-3)
        back, _ = predict_sm(found, tilted_db, ndvi, angle)
        np.testing.assert_allclose(back, sm, atol=2e-4)
    found = calibrate(
        start(angle_rule="constant"), LabelledAcquisitions(10 * np.log10(at_ref), ndvi, sm)
    )
    assert found.wcm.a == pytest.approx(A, rel=1e-3)


def test_prediction_is_the_inversion_in_float64():
    vh_db, ndvi, sm, angle = clean()
    found = calibrate(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle))
    estimated, mask = predict_sm(found, vh_db, ndvi, angle)
    assert estimated.dtype == np.float32
    assert not mask.any()
    np.testing.assert_allclose(estimated, sm, atol=2e-4)


def test_prediction_has_no_number_without_a_reason():
    found = Calibration(Wcm(a=0.05), -20.0, 20.0, "sm", 0.0, (), 10, 0, 0.0)
    sm, mask = predict_sm(
        found, [-15.0, np.nan, -15.0, -25.0, 99.0, 0.0], [0.5] * 2 + [np.nan, 0.9, 0.5, 0.1]
    )
    names = [flags.names(one) for one in mask]
    assert names[1:] == [
        "missing_input",
        "missing_input",
        "soil_signal_lost",
        "input_out_of_range",
        "",
    ]
    assert np.isnan(sm[1:5]).all()
    assert np.isfinite(sm[0])
    assert sm[5] == pytest.approx(1.0, abs=1e-6)  # (0 - -20) / 20, and it is not clipped
    assert predict_sm(found, [5.0], [0.1])[0][0] == pytest.approx(1.25, abs=1e-6)


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_missing_and_impossible_rows_are_left_out_and_counted(residual):
    whole = clean()
    broken = [np.concatenate([column, np.full(6, column[0])]) for column in whole]
    for k, column in enumerate(broken):
        column[400 + k] = np.nan
    broken[0][404] = 30.0  # dB
    broken[2][405] = 1.4  # m3 m-3
    found = calibrate(start(), LabelledAcquisitions(*broken), residual=residual)
    assert (found.samples, found.left_out) == (400, 6)
    assert found.wcm.a == pytest.approx(
        calibrate(start(), LabelledAcquisitions(*whole), residual=residual).wcm.a
    )


def test_too_few_rows():
    vh_db, ndvi, sm, angle = clean()
    sm[9:] = np.nan
    with pytest.raises(DataError, match="9 of 400 rows"):
        calibrate(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle))
    with pytest.raises(DataError, match="0 of 0 rows"):
        calibrate(start(), LabelledAcquisitions([], [], [], []))


def test_wrong_calls():
    columns = clean()
    with pytest.raises(ValueError, match="residual"):
        calibrate(start(), LabelledAcquisitions(*columns), residual="db")
    with pytest.raises(ValueError, match="starts"):
        calibrate(start(), LabelledAcquisitions(*columns), starts=0)
    with pytest.raises(ValueError, match="needs angle_deg"):
        calibrate(start(), LabelledAcquisitions(*columns[:3]))
    with pytest.raises(ValueError, match=r"\(R,\)"):
        calibrate(start(), LabelledAcquisitions(columns[0][:5], *columns[1:]))
    with pytest.raises(ValueError, match="rising"):
        profile(start(), LabelledAcquisitions(*columns), log_a=[-1, -2, -3])


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_a_few_bad_labels_do_not_rule(residual):
    vh_db, ndvi, sm, angle = clean()
    sm = sm.copy()
    sm[:8] = 0.95
    found = calibrate(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle), residual=residual)
    assert found.wcm.a == pytest.approx(A, rel=0.1)
    assert found.d_db == pytest.approx(D, rel=0.1)


def test_lost_rows_stay_finite_and_are_counted():
    vh_db, ndvi, sm, angle = clean()
    vh_db[:20], ndvi[:20] = -27.0, 0.95  # darker than the canopy alone
    found = calibrate(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle), residual="sigma0")
    assert all(math.isfinite(x) for x in (found.wcm.a, found.c_db, found.d_db, found.cost))
    estimated, mask = predict_sm(found, vh_db, ndvi, angle)
    lost = (mask & flags.SOIL_SIGNAL_LOST) != 0
    assert lost[:20].all()
    assert found.lost_share == pytest.approx(lost.mean())
    assert np.isnan(estimated[lost]).all()


def test_the_floor_is_that_of_the_network():
    torch = pytest.importorskip("torch", reason="the network's floor is in torch")
    from kgsm_train.learning.network import smooth_floor

    fraction = np.linspace(-50, 1, 301)
    np.testing.assert_allclose(
        wcm_floor(fraction, 0.1), smooth_floor(torch.tensor(fraction), 0.1), rtol=1e-12
    )


def test_without_vegetation_a_is_not_identified():
    rng = np.random.default_rng(1)
    vh_db, ndvi, sm, angle = clean(ndvi=(0.0, 0.16))  # the foliage rule gives 0
    vh_db = vh_db + rng.normal(0, 0.4, len(sm))
    seen = profile(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle), residual="sigma0")
    assert seen.flat
    assert seen.interval == pytest.approx(BOUNDS["A"])


@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_with_vegetation_the_profile_has_its_lowest_at_the_fit(residual):
    rng = np.random.default_rng(1)
    vh_db, ndvi, sm, angle = clean()
    vh_db = vh_db + rng.normal(0, 0.4, len(sm))
    fitted = calibrate(start(), LabelledAcquisitions(vh_db, ndvi, sm, angle), residual=residual)
    grid = np.log(fitted.wcm.a) + np.linspace(-2, 2, 81)
    seen = profile(
        start(), LabelledAcquisitions(vh_db, ndvi, sm, angle), residual=residual, log_a=grid
    )
    assert not seen.flat
    assert seen.a[seen.cost.argmin()] == pytest.approx(fitted.wcm.a)
    assert seen.cost.min() == pytest.approx(fitted.cost, rel=1e-6)
    low, high = seen.interval
    assert low < fitted.wcm.a < high
    if residual == "sigma0":  # the one that noise in the backscatter does not bias
        assert low < A < high


def test_a_fit_on_a_bound_says_so():
    vh_db, ndvi, sm, angle = clean()
    hardly_varying = 0.2 + 1e-6 * sm  # a slope of 1.8e7 dB per m3 m-3
    found = calibrate(start(), LabelledAcquisitions(vh_db, ndvi, hardly_varying, angle))
    assert "D" in found.on_bound


def test_same_seed_same_result():
    columns = clean()
    columns[0][:] += np.random.default_rng(2).normal(0, 1, 400)
    assert calibrate(start(), LabelledAcquisitions(*columns), seed=3) == calibrate(
        start(), LabelledAcquisitions(*columns), seed=3
    )


@pytest.mark.realdata
@pytest.mark.parametrize("residual", ["sm", "sigma0"])
def test_anand(shared_data, residual):
    pandas = pytest.importorskip("pandas", reason="reads the real table independently")
    table = pandas.read_csv(shared_data / "anand" / "dev.csv")
    table = table[table["sm_copied"].astype(str) != "True"]
    wcm = Wcm(a=0.02)
    given = [table[name].to_numpy(float) for name in ("vh_db", "ndvi", "sm")]
    found = calibrate(wcm, LabelledAcquisitions(*given), residual=residual)
    assert found.samples + found.left_out == len(table)
    for name, value in zip("ACD", (found.wcm.a, found.c_db, found.d_db), strict=True):
        low, high = BOUNDS[name]
        assert low <= value <= high
    sm, mask = predict_sm(found, given[0], given[1])
    assert (
        np.isfinite(sm)
        == ((mask & (flags.MISSING_INPUT | flags.INPUT_OUT_OF_RANGE | flags.SOIL_SIGNAL_LOST)) == 0)
    ).all()
    score = scores(given[2], sm)
    assert score.n > 900
    # no A of a fine grid does better than the one found
    seen = profile(wcm, LabelledAcquisitions(*given), residual=residual)
    assert np.isfinite(seen.cost).all()
    assert found.cost <= seen.cost.min() * (1 + 1e-9)
