"""The native LSTM engine: against float64, onnxruntime and itself, on every tier."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lstm_in_float64 import in_float64, random_weights, windows
from on_engines import TIERS, fastest_tier, load_kernels

from kgsm_infer.base import flags
from kgsm_infer.base.errors import ModelError, UsageError
from kgsm_infer.model.card import Card
from kgsm_infer.model.model import TILE, load
from kgsm_infer.model.onnx_reader import ModelFile, read_model_file
from kgsm_infer.model.weights import read_weights
from kgsm_infer.tables.table import read_table


@pytest.fixture(scope="module", params=[*TIERS, "numpy"])
def kernels(request: pytest.FixtureRequest) -> Iterator[ModuleType]:
    yield load_kernels(request.param)
    fastest_tier()


@pytest.mark.parametrize("hidden", [1, 3, 4, 8, 16, 17, 32, 64])
@pytest.mark.parametrize("members", [1, 3])
def test_against_the_equations_in_float64(kernels: ModuleType, hidden: int, members: int) -> None:
    weights = random_weights(hidden, members)
    tile = windows(weights, 67)
    sm = kernels.lstm_runner(weights)(tile)
    assert sm.dtype == np.float32 and np.ptp(sm) > 0.05
    np.testing.assert_allclose(sm, in_float64(weights, tile), rtol=0, atol=2e-6)


def test_saturated_gates_stay_right(kernels: ModuleType) -> None:
    """Inputs far outside: gates at 0 and 1, cells that count up; still the equations."""
    weights = random_weights(8, steps=30)
    for scale in (30.0, 1e4, 1e30):
        tile = windows(weights, 20) * np.float32(scale)
        with np.errstate(over="ignore"):
            expected = in_float64(weights, tile)
        np.testing.assert_allclose(kernels.lstm_runner(weights)(tile), expected, rtol=0, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(
    hidden=st.sampled_from([1, 6, 16, 33]),
    first=st.integers(0, 3),
    statics=st.integers(1, 4),
    n=st.integers(1, 70),
    seed=st.integers(0, 99),
)
def test_statics_worked_out_once(hidden, first, statics, n, seed) -> None:
    """As pack makes them: the same in valid steps, 0 where valid is 0; on every tier."""
    from kgsm_infer import kernels

    if kernels.engine_name() != "c":
        pytest.skip("the NumPy twin treats statics as any other input")
    weights = random_weights(hidden, 2, channels=first + statics + 2, seed=seed)
    tile = windows(weights, n, seed)
    at = slice(first, first + statics)
    tile[:, :, at] = tile[0, :, at]
    valid = np.random.default_rng(seed).random(tile.shape[:2]) < 0.7
    tile[..., -1] = 1
    tile[~valid] = 0
    hole = tile.copy()
    hole[:, 0, at] = np.nan
    try:
        for tier in kernels._core.tiers():
            kernels._core.choose_tier(tier)
            run = kernels.lstm_runner(weights, first, statics)
            sm = run(tile)
            np.testing.assert_allclose(sm, in_float64(weights, tile), rtol=0, atol=2e-6)
            assert np.array_equal(run(tile[:, n // 2 :]), sm[n // 2 :])
            assert np.isnan(run(hole)[0]) or not valid[:, 0].any()
            assert np.array_equal(run(hole)[1:], sm[1:])
    finally:
        kernels._core.choose_tier(None)


def test_statics_that_cannot_be_are_refused() -> None:
    core = load_kernels(TIERS[-1])._core
    for first, statics in [(0, 5), (4, 1), (5, 0), (3, 2), (2**63, 1)]:
        assert core.lstm_sizes(4, 5, 8, 1, first, statics) == (0, 0)
    assert min(core.lstm_sizes(4, 5, 8, 1, 1, 3)) > 0


@settings(deadline=None, max_examples=40)
@given(
    n=st.integers(1, 150),
    hidden=st.sampled_from([1, 5, 16, 32]),
    members=st.integers(1, 2),
    seed=st.integers(0, 99),
)
def test_a_windows_bits_do_not_depend_on_its_batch(n, hidden, members, seed) -> None:
    """Alone, in part, in another order: the same bits, on every tier there is."""
    from kgsm_infer import kernels

    if kernels.engine_name() != "c":
        pytest.skip("the NumPy twin's matrix product depends on the size of a batch")
    weights = random_weights(hidden, members, seed=seed)
    tile = windows(weights, n, seed)
    rng = np.random.default_rng(seed)
    try:
        for tier in kernels._core.tiers():
            kernels._core.choose_tier(tier)
            run = kernels.lstm_runner(weights)
            whole = run(tile)
            order = rng.permutation(n)
            assert np.array_equal(run(tile[:, order]), whole[order])
            one = int(rng.integers(n))
            assert np.array_equal(run(tile[:, one : one + 1]), whole[one : one + 1])
            some = rng.choice(n, size=int(rng.integers(1, n + 1)), replace=False)
            assert np.array_equal(run(tile[:, some]), whole[some])
    finally:
        kernels._core.choose_tier(None)


def test_nan_gives_nan_and_only_there(kernels: ModuleType) -> None:
    weights = random_weights(16, 2)
    tile = windows(weights, 40)
    run = kernels.lstm_runner(weights)
    clean = run(tile)
    for step in range(weights.steps):
        for channel in range(weights.w.shape[2]):
            holed = tile.copy()
            holed[step, 7, channel] = np.nan
            sm = run(holed)
            assert np.isnan(sm[7])
            others = np.arange(40) != 7
            assert np.array_equal(sm[others], clean[others])


def test_nothing_in_nothing_out_and_wrong_shapes(kernels: ModuleType) -> None:
    weights = random_weights(4)
    run = kernels.lstm_runner(weights)
    assert run(np.empty((weights.steps, 0, 5), np.float32)).shape == (0,)
    for shape in ((3, 2, 5), (4, 2, 6)):
        with pytest.raises(ValueError, match=r"expected a tile \(4, N, 5\)"):
            run(np.zeros(shape, np.float32))


@pytest.mark.parametrize("name", ["model.onnx", "model.core.onnx"])
def test_weights_are_those_onnx_reads(tiny_model: Path, name: str) -> None:
    onnx = pytest.importorskip("onnx")
    from onnx import numpy_helper

    weights = read_weights(read_model_file(tiny_model / name))
    graph = onnx.load(tiny_model / name).graph
    of_onnx = {item.name: numpy_helper.to_array(item) for item in graph.initializer}
    for m in range(2):
        for part, values in (
            ("w", weights.w),
            ("r", weights.r),
            ("b", weights.b),
            ("head_weight", weights.head),
        ):
            assert np.array_equal(of_onnx[f"member{m}_{part}"][0], values[m])
        assert of_onnx[f"member{m}_head_bias"][0] == weights.head_bias[m]


def test_a_card_that_does_not_fit_the_weights_is_refused(tiny_model: Path) -> None:
    file = read_model_file(tiny_model / "model.core.onnx")

    def with_card(**changes: int) -> ModelFile:
        card: Card = dataclasses.replace(file.card, **changes)
        return dataclasses.replace(file, card=card)

    with pytest.raises(ModelError, match="has no member2_w"):
        read_weights(with_card(members=3))
    with pytest.raises(ModelError, match=r"member0_w has shape .*, its card says \(1, 20,"):
        read_weights(with_card(hidden=5))
    with pytest.raises(ModelError, match="truncated one"):
        read_weights(dataclasses.replace(file, content=file.content[:2000]))


@pytest.mark.parametrize("name", ["model.onnx", "model.core.onnx"])
def test_engines_agree_on_a_table(tiny_model: Path, name: str) -> None:
    """Numbers to 1e-6, NaN and flags exactly; holes of every kind are in the twin."""
    other = load(tiny_model / name, engine="onnxruntime")
    native = load(tiny_model / name, engine="native")
    assert (native.engine, other.engine) == ("native", "onnxruntime")
    table = read_table(tiny_model / "twin.csv", features=native.table_features())
    a, b = native.predict(table), other.predict(table)
    assert np.isnan(a.sm).any() and np.isfinite(a.sm).sum() > 100
    assert np.array_equal(np.isnan(a.sm), np.isnan(b.sm)) and np.array_equal(a.flags, b.flags)
    number = np.isfinite(a.sm)
    assert np.abs(a.sm - b.sm)[number].max() <= 1e-6
    np.testing.assert_allclose(a.soil_db, b.soil_db, atol=1e-4)


def test_threads_and_batches_change_no_bit(tiny_model: Path) -> None:
    rng = np.random.default_rng(0)
    n = 3 * TILE + 11
    given_arrays = {
        "sigma0_db": rng.uniform(-20, -9, (n, 3)).astype(np.float32),
        "ndvi": rng.uniform(0.1, 0.8, (n, 3)).astype(np.float32),
        "angle_deg": np.full((n, 3), 38.0, np.float32),
        "statics": rng.uniform(0.1, 0.4, (n, 1)).astype(np.float32),
        "days": np.datetime64("2024-03-01") + np.arange(3) * np.timedelta64(12, "D"),
    }
    one = load(tiny_model / "model.core.onnx", engine="native").retrieve(**given_arrays)
    two = load(tiny_model / "model.core.onnx", engine="native", threads=2).retrieve(**given_arrays)
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a, b, equal_nan=True)
    assert np.isfinite(one.sm).all()


def test_the_engine_is_the_users_to_choose(tiny_model: Path) -> None:
    with pytest.raises(
        UsageError, match="engine 'gpu' is unknown; choose auto, native, onnxruntime"
    ):
        load(tiny_model / "model.onnx", engine="gpu")
    from kgsm_infer import kernels

    expected = "native" if kernels.tier_name() not in ("portable", "numpy") else "onnxruntime"
    assert load(tiny_model / "model.onnx").engine == expected


def test_native_needs_no_onnxruntime(tiny_model: Path) -> None:
    """A Python in which onnxruntime cannot be imported still predicts, and says so if asked."""
    code = f"""
import sys
sys.modules["onnxruntime"] = None
import importlib.util
find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, *a: None if name == "onnxruntime" else find_spec(name, *a)
import kgsm_infer
from kgsm_infer.base.errors import MissingError
model = kgsm_infer.load({str(tiny_model / "model.onnx")!r})
table = kgsm_infer.read_table({str(tiny_model / "twin.csv")!r}, features=model.table_features())
print(model.engine, int((model.predict(table).sm > 0).sum()))
try:
    kgsm_infer.load({str(tiny_model / "model.onnx")!r}, engine="onnxruntime")
except MissingError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("native ") and int(first.split()[1]) > 100
    assert second.startswith("onnxruntime cannot be imported")


def test_a_flagged_window_has_no_number_in_the_native_engine(tiny_model: Path) -> None:
    model = load(tiny_model / "model.core.onnx", engine="native")
    result = model.retrieve(
        np.float32([[-15.0, -15.0, np.nan], [-15.0, np.nan, -15.0]]),
        ndvi=0.3,
        angle_deg=38.0,
        statics={"clay": [0.2, 0.2]},
        days=np.datetime64("2024-03-01") + np.arange(3) * np.timedelta64(12, "D"),
    )
    assert np.isnan(result.sm[0]) and np.isfinite(result.sm[1])
    assert result.flags[0] & flags.MISSING_INPUT and result.flags[1] & flags.SHORT_HISTORY
