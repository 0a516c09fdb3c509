"""The head's straight line: the same numbers in units of its channels and on the scaled tile."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kgsm_infer import kernels as on_this_machine
from kgsm_infer.kernels import head as twin
from kgsm_infer.kernels.head import Head, Readout, Term, read_out, readout_of
from kgsm_infer.kernels.window import Acquisitions, Layout, pack

NAMES = ("vh_db", "vh_anomaly", "vh_anomaly_scene", "ndvi_over_scene", "gap_days")
LAYOUT = Layout(3, 3, 0, mean=(-17.0, 0.1, -0.2, 0.05, 12.0), std=(3.0, 1.1, 0.8, 0.2, 9.0))
HEAD = Head(
    "change",
    0.19,
    (
        Term("vh_anomaly", 0, 0.037),
        Term("vh_anomaly", 1, -0.01),
        Term("vh_anomaly_scene", 0, 0.074),
        Term("ndvi_over_scene", 0, 0.12),
    ),
    shrink=0.5,
)


def test_the_line_on_the_tile_is_the_line_in_the_channels_units() -> None:
    rng = np.random.default_rng(0)
    n = 50
    dynamic = rng.normal(0, 1, (n * 3, 3)).astype(np.float32)
    rows = np.arange(n * 3).reshape(n, 3)
    channel_db = rng.uniform(-25, -8, n * 3).astype(np.float32)
    no_flags, day = np.zeros(n * 3, np.uint16), np.arange(n * 3, dtype=np.float32)
    acquisitions = Acquisitions(channel_db, no_flags, day, dynamic)
    tile, _ = pack(LAYOUT, rows, acquisitions, np.zeros((n, 0), np.float32))
    now, before = dynamic[rows[:, -1]].astype(float), dynamic[rows[:, -2]].astype(float)
    expected = 0.19 + now @ [0.037, 0.074, 0.12] - 0.01 * before[:, 0]
    readout = readout_of(HEAD, LAYOUT, NAMES)
    assert np.abs(read_out(readout, tile) - expected).max() < 1e-6
    assert np.abs(on_this_machine.read_out(readout, tile) - expected).max() < 1e-6


@pytest.mark.parametrize("limits", [(0.0, 1.0), (0.05, 0.40), (0.3, 0.4)])
def test_the_index_is_the_normal_distribution_function_of_the_line(
    limits: tuple[float, float],
) -> None:
    norm = pytest.importorskip("scipy.stats").norm
    line = np.concatenate([np.linspace(-9, 9, 4001), [0.0, -40.0, 40.0, np.nan]])
    tile = np.zeros((1, len(line), 4), np.float32)
    tile[0, :, 1] = line
    head = Head("index", 0.0, (Term("vh_anomaly", 0, 1.0),), 0.0, limits)
    readout = readout_of(
        head, Layout(1, 1, 0, (0.0,) * 3, (1.0,) * 3), ("vh_db", "vh_anomaly", "g")
    )
    low, high = np.float32(limits)
    expected = limits[0] + (limits[1] - limits[0]) * norm.cdf(line.astype(np.float32))
    for read in (twin.read_out, on_this_machine.read_out):
        got = read(readout, tile)
        np.testing.assert_allclose(got, expected, rtol=0, atol=1.2e-7)
        assert np.nanmin(got) == low and np.nanmax(got) == high, "clipped by rounding"
        assert (np.diff(got[:4001]) >= -6e-8).all()


def test_a_look_that_is_missing_counts_as_an_average_one() -> None:
    tile = np.zeros((3, 1, 6), np.float32)
    tile[2, 0] = 1.0
    readout = readout_of(HEAD, LAYOUT, NAMES)
    scaled = (0.1 + 1.1, -0.2 + 0.8, 0.05 + 0.2)
    expected = 0.19 + np.dot(scaled, [0.037, 0.074, 0.12]) - 0.01 * 0.1
    assert read_out(readout, tile)[0] == pytest.approx(expected, abs=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_c_and_its_twin_agree(data: st.DataObject) -> None:
    steps, n, channels = (data.draw(st.integers(1, 5)) for _ in range(3))
    some = st.one_of(st.just(0.0), st.floats(-3, 3, width=32))
    seed = data.draw(st.integers(0, 99))
    rng = np.random.default_rng(seed)
    weight = np.asarray(
        data.draw(st.lists(some, min_size=steps * channels, max_size=steps * channels)), np.float32
    ).reshape(steps, channels)
    tile = rng.normal(0, 3, (steps, n, channels)).astype(np.float32)
    tile[rng.random(tile.shape) < 0.1] = np.nan
    limits = data.draw(st.sampled_from([None, (0.0, 1.0), (0.05, 0.4)]))
    readout = Readout(weight, np.float32(0.2), limits)
    ours, theirs = on_this_machine.read_out(readout, tile), twin.read_out(readout, tile)
    assert np.array_equal(np.isnan(ours), np.isnan(theirs))
    read = np.isnan(tile) & (weight != 0)[:, None, :]
    assert np.array_equal(np.isnan(theirs), read.any(axis=(0, 2)))
    assert np.allclose(ours, theirs, atol=1e-6, equal_nan=True)


def test_a_window_has_the_same_bits_wherever_it_stands() -> None:
    rng = np.random.default_rng(1)
    tile = rng.normal(0, 2, (3, 40, 6)).astype(np.float32)
    readout = readout_of(HEAD, LAYOUT, NAMES)
    whole = on_this_machine.read_out(readout, tile)
    for i in (0, 7, 39):
        alone = on_this_machine.read_out(readout, tile[:, i : i + 1])
        assert alone[0] == whole[i]


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "magic"},
        {"shrink": 1.5},
        {"intercept": float("nan")},
        {"terms": (Term("vh_anomaly", 0, 0.1), Term("vh_anomaly", 0, 0.2))},
        {"limits": (0.05, 0.4)},
        {"kind": "index"},
        {"kind": "index", "limits": (0.4, 0.05)},
        {"kind": "index", "limits": (0.0, 1.5)},
        {"kind": "index", "limits": (0.0, float("nan"))},
    ],
)
def test_a_head_that_cannot_be_is_refused(wrong: dict[str, Any]) -> None:
    right = {"kind": "change", "intercept": 0.2, "terms": HEAD.terms, "shrink": 0.5}
    with pytest.raises(ValueError):
        Head(**{**right, **wrong})


@pytest.mark.parametrize("term", [Term("rain_mm", 0, 0.1), Term("vh_anomaly", 3, 0.1)])
def test_a_head_that_reads_what_is_not_there_is_refused(term: Term) -> None:
    with pytest.raises(ValueError, match="looks back, which is not in a window"):
        readout_of(Head("change", 0.2, (term,), 0.5), LAYOUT, NAMES)


def test_the_door_checks_shapes_and_numbers() -> None:
    try:
        core: ModuleType = importlib.import_module("kgsm_infer.kernels._core")
    except ModuleNotFoundError:
        pytest.skip("the C core is not built")
    tile, sm = np.zeros((2, 3, 4), np.float32), np.zeros(3, np.float32)
    weight = np.zeros((2, 4), np.float32)
    for wrong in (weight[:1], np.zeros((2, 5), np.float32)):
        with pytest.raises(ValueError, match="tile"):
            core.readout(wrong, 0.2, None, tile, sm)
    weight[0, 0] = np.inf
    with pytest.raises(ValueError):
        core.readout(weight, 0.2, None, tile, sm)
    weight[0, 0] = 0.5
    with pytest.raises(ValueError):
        core.readout(weight, 0.2, (0.4, 0.4), tile, sm)
