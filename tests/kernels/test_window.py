"""Look-back windows, and the LSTM's input tile on C and on the NumPy twin."""

from __future__ import annotations

import math
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.testing import assert_allclose, assert_array_equal
from on_engines import ENGINES, load_kernels

from kgsm_infer.base import flags
from kgsm_infer.kernels import window
from kgsm_infer.kernels.window import Acquisitions, Layout, window_rows

NAN, INF = np.nan, np.inf
MISSING, OUTSIDE = flags.MISSING_INPUT, flags.INPUT_OUT_OF_RANGE
LOST, FROZEN = flags.SOIL_SIGNAL_LOST, flags.FROZEN_OR_SNOW
DENSE, SHORT = flags.DENSE_VEGETATION, flags.SHORT_HISTORY
NO_NUMBER = MISSING | OUTSIDE | LOST | FROZEN


@pytest.fixture(scope="session", params=ENGINES)
def kernels(request: pytest.FixtureRequest) -> ModuleType:
    """``kgsm_infer.kernels``, once on C and once on the twin."""
    return load_kernels(request.param)


@pytest.fixture(scope="session")
def c_kernels() -> ModuleType:
    """``kgsm_infer.kernels`` on C, for what only C has."""
    return load_kernels("c")


# ---- window_rows


def test_windows_stay_within_a_site() -> None:
    rows = window_rows(["b", "a", "b", "a", "b"], [3, 1, 1, 2, 2], steps=3)
    assert rows.tolist() == [[2, 4, 0], [-1, -1, 1], [-1, -1, 2], [-1, 1, 3], [-1, 2, 4]]
    assert rows.dtype == np.int64


def test_windows_of_few_rows() -> None:
    assert window_rows([], [], steps=4).shape == (0, 4)
    assert window_rows(["a"], [5.0], steps=1).tolist() == [[0]]
    assert window_rows(["a"], [5.0], steps=3).tolist() == [[-1, -1, 0]]


def test_windows_by_date_and_ties_keep_the_tables_order() -> None:
    day = np.array(["2022-01-13", "2022-01-01", "2022-01-13"], "datetime64[D]")
    assert window_rows([7, 7, 7], day, steps=3).tolist() == [[-1, 1, 0], [-1, -1, 1], [1, 0, 2]]


@settings(max_examples=200, deadline=None)
@given(
    table=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 5)), max_size=25),
    steps=st.integers(1, 5),
)
def test_windows_as_one_would_look_them_up(table: list[tuple[str, int]], steps: int) -> None:
    got = window_rows([site for site, _ in table], [day for _, day in table], steps)
    assert got.shape == (len(table), steps)
    for i, (site, day) in enumerate(table):
        history = [
            j for j, (s, d) in enumerate(table) if s == site and (d, j) <= (day, i)
        ]  # fmt: skip
        history.sort(key=lambda j: (table[j][1], j))
        assert got[i].tolist() == ([-1] * steps + history)[-steps:]


# ---- the layout


def test_a_layout_that_cannot_be_is_refused() -> None:
    for steps, dynamic, statics in [(0, 0, 0), (1, -1, 1), (1, 1, -1)]:
        with pytest.raises(ValueError, match="at least one step"):
            Layout(steps, dynamic, statics, mean=(0.0, 0.0), std=(1.0, 1.0))
    for mean, std in [((0.0,), (1.0, 1.0)), ((0.0, 0.0), (1.0, 1.0, 1.0))]:
        with pytest.raises(ValueError, match="2 scaled channels"):
            Layout(1, 0, 0, mean, std)
    for bad in [0.0, -1.0, NAN, INF, 1e-60, 1e60, 1e-40]:
        with pytest.raises(ValueError):
            Layout(1, 0, 0, (0.0, 0.0), (1.0, bad))
    for bad in [NAN, INF, 1e60]:
        with pytest.raises(ValueError):
            Layout(1, 0, 0, (bad, 0.0), (1.0, 1.0))


# ---- the tile

#: T 3, one dynamic, one static: backscatter, dynamic, static, gap, valid
LAYOUT = Layout(3, 1, 1, mean=(-10.0, 0.5, 20.0, 6.0), std=(2.0, 0.25, 10.0, 12.0))


def pack(
    kernels: Any,
    layout: Layout,
    rows: Any,
    channel_db: Any,
    step_flags: Any,
    day: Any,
    dynamic: Any = None,
    statics: Any = None,
) -> tuple[Any, Any]:
    """Pack acquisitions given one by one."""
    acquisitions = Acquisitions(channel_db, step_flags, day, dynamic)
    return kernels.pack(layout, rows, acquisitions, statics)


def test_packing_by_hand(kernels: ModuleType) -> None:
    tile, mask = pack(
        kernels,
        LAYOUT,
        [[0, 1, 2], [-1, 0, 1]],
        channel_db=[-12.0, -9.0, -10.0],
        step_flags=[0, 0, DENSE],
        day=[0.0, 6.0, 30.0],
        dynamic=[[0.5], [0.75], [0.0]],
        statics=[[30.0], [15.0]],
    )
    assert tile.shape == (3, 2, 5)
    assert tile.dtype == np.float32 and mask.dtype == np.uint16
    assert tile.flags.c_contiguous
    # first window: rows 0, 1, 2; gaps 0 (unknown), 6, 24 days
    assert tile[0, 0].tolist() == [-1.0, 0.0, 1.0, -0.5, 1.0]
    assert tile[1, 0].tolist() == [0.5, 1.0, 1.0, 0.0, 1.0]
    assert tile[2, 0].tolist() == [0.0, -2.0, 1.0, 1.5, 1.0]
    # second: padding, then row 0 whose gap is unknown, then row 1
    assert tile[0, 1].tolist() == [0.0] * 5
    assert tile[1, 1].tolist() == [-1.0, 0.0, -0.5, -0.5, 1.0]
    assert tile[2, 1].tolist() == [0.5, 1.0, -0.5, 0.0, 1.0]
    assert mask.tolist() == [DENSE, SHORT]


def one(kernels: ModuleType, **change: Any) -> tuple[Any, int]:
    """Rows 0, 1, 2 of one site in one window, with something changed."""
    inputs: dict[str, Any] = {
        "channel_db": [-12.0, -9.0, -10.0],
        "step_flags": [0, 0, 0],
        "day": [0.0, 6.0, 30.0],
        "dynamic": [[0.5], [0.75], [0.0]],
        "statics": [[30.0]],
    }
    tile, mask = pack(kernels, LAYOUT, [[0, 1, 2]], **{**inputs, **change})
    assert np.isfinite(tile).all()
    return tile[:, 0], int(mask[0])


def test_what_lacks_at_the_last_step_is_the_windows_reason(kernels: ModuleType) -> None:
    cases: list[tuple[dict[str, Any], int]] = [
        ({"channel_db": [-12.0, -9.0, NAN]}, MISSING),
        ({"channel_db": [-12.0, -9.0, INF]}, OUTSIDE),
        ({"day": [0.0, 6.0, NAN]}, MISSING),
        ({"day": [0.0, 6.0, -INF]}, OUTSIDE),
        ({"dynamic": [[0.5], [0.75], [NAN]]}, MISSING),
        ({"dynamic": [[0.5], [0.75], [INF]]}, OUTSIDE),
        ({"channel_db": [-12.0, -9.0, NAN], "step_flags": [0, 0, LOST]}, LOST),
        ({"channel_db": [-12.0, -9.0, NAN], "step_flags": [0, 0, DENSE]}, MISSING | DENSE),
        ({"step_flags": [0, 0, FROZEN]}, FROZEN),
    ]
    for change, reason in cases:
        tile, mask = one(kernels, **change)
        assert mask == reason, change
        assert tile[2].tolist() == [0.0] * 5, change
        assert tile[:2, 4].tolist() == [1.0, 1.0]


def test_what_lacks_before_is_a_short_history(kernels: ModuleType) -> None:
    cases: list[dict[str, Any]] = [
        {"channel_db": [-12.0, NAN, -10.0]},
        {"day": [0.0, NAN, 30.0]},
        {"dynamic": [[0.5], [INF], [0.0]]},
        {"step_flags": [0, FROZEN, 0]},
    ]
    for change in cases:
        tile, mask = one(kernels, **change)
        assert mask == SHORT, change
        assert tile[1].tolist() == [0.0] * 5
        assert tile[2, :3].tolist() == [0.0, -2.0, 1.0] and tile[2, 4] == 1.0
        # 24 days since a step that lacks only its number; unknown if it lacks its day
        assert tile[2, 3] == (-0.5 if "day" in change else 1.5)


def test_a_lacking_static_leaves_a_finite_tile_and_a_reason(kernels: ModuleType) -> None:
    for value, reason in [(NAN, MISSING), (INF, OUTSIDE), (-INF, OUTSIDE)]:
        tile, mask = one(kernels, statics=[[value]])
        assert mask == reason
        assert tile[:, 2].tolist() == [0.0] * 3
        assert tile[:, 4].tolist() == [1.0] * 3


def test_padding_at_the_last_step_and_nothing_at_all(kernels: ModuleType) -> None:
    layout = Layout(2, 0, 0, mean=(0.0, 0.0), std=(1.0, 1.0))
    tile, mask = pack(kernels, layout, [[-1, -1], [0, -1]], [-10.0], [0], [0.0])
    assert mask.tolist() == [MISSING | SHORT, MISSING]
    assert tile[0, 1].tolist() == [-10.0, 0.0, 1.0] and not tile[1].any()
    # no acquisitions at all
    tile, mask = pack(kernels, layout, [[-1, -1]], [], [], [])
    assert not tile.any() and mask.tolist() == [MISSING | SHORT]
    # no windows
    tile, mask = pack(kernels, layout, np.zeros((0, 2)), [-10.0], [0], [0.0])
    assert tile.shape == (2, 0, 3) and mask.shape == (0,)
    # one step has no history to be short of
    layout = Layout(1, 0, 0, mean=(0.0, 0.0), std=(1.0, 1.0))
    assert pack(kernels, layout, [[0]], [-10.0], [0], [0.0])[1].tolist() == [0]


def test_a_table_of_two_sites_end_to_end(kernels: ModuleType) -> None:
    """The first windows of a site see padding, not the other site."""
    layout = Layout(2, 0, 0, mean=(0.0, 0.0), std=(1.0, 1.0))
    rows = window_rows(["a", "b", "a", "b"], [0, 0, 6, 12], steps=2)
    tile, mask = pack(kernels, layout, rows, [-1.0, -2.0, -3.0, -4.0], [0] * 4, [0, 0, 6, 12])
    assert tile[0, :, 0].tolist() == [0.0, 0.0, -1.0, -2.0]
    assert tile[1, :, 0].tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert tile[1, :, 1].tolist() == [0.0, 0.0, 6.0, 12.0]
    assert mask.tolist() == [SHORT, SHORT, 0, 0]


def test_packing_refuses(kernels: ModuleType) -> None:
    layout = Layout(2, 1, 1, mean=(0.0,) * 4, std=(1.0,) * 4)
    right: dict[str, Any] = {
        "rows": [[0, 1]],
        "channel_db": [-1.0, -2.0],
        "step_flags": [0, 0],
        "day": [0.0, 1.0],
        "dynamic": [[0.0], [0.0]],
        "statics": [[0.0]],
    }
    pack(kernels, layout, **right)
    for bad in [2, -2, 2**62, -(2**62)]:
        with pytest.raises(ValueError, match=r"window rows must lie in -1\.\.1"):
            pack(kernels, layout, **{**right, "rows": [[0, bad]]})
    for name, value, message in [
        ("rows", [[0, 1, 1]], "3 steps"),
        ("rows", [0, 1], None),
        ("channel_db", [-1.0], "channel_db|dynamic"),
        ("channel_db", [[-1.0], [-2.0]], None),
        ("step_flags", [0], "step_flags"),
        ("day", [0.0], "day"),
        ("day", [0.0, 1.0, 2.0], "day"),
        ("dynamic", None, "dynamic"),
        ("dynamic", [[0.0, 0.0], [0.0, 0.0]], "dynamic"),
        ("statics", None, "statics"),
        ("statics", [[0.0], [0.0]], "statics"),
    ]:
        with pytest.raises(ValueError, match=message):
            pack(kernels, layout, **{**right, name: value})


def test_nothing_is_written_before_the_rows_are_checked(c_kernels: ModuleType) -> None:
    two = np.zeros(2, np.float32)
    tile, mask = np.full((1, 2, 3), 7, np.float32), np.full(2, 7, np.uint16)
    table = two, np.zeros(2, np.uint16), np.zeros(2), np.zeros((2, 0), np.float32)
    statics, ones = np.zeros((2, 0), np.float32), np.ones(2, np.float32)
    core = c_kernels._core
    with pytest.raises(ValueError, match="window 1 step 0 is 2"):
        core.pack(two, ones, np.array([[0], [2]]), *table, statics, tile, mask)
    for mean, inv_std in [(two, two), (two + np.float32(NAN), ones), (two, ones * np.float32(INF))]:
        with pytest.raises(ValueError, match="mean"):
            core.pack(mean, inv_std, np.array([[0], [1]]), *table, statics, tile, mask)
    with pytest.raises(ValueError, match="size is 0"):
        empty = np.zeros((0, 2, 3), np.float32)
        core.pack(two, ones, np.zeros((2, 0), np.int64), *table, statics, empty, mask)
    with pytest.raises(ValueError, match="last axis"):
        wide = np.zeros((1, 2, 4), np.float32)
        core.pack(two, ones, np.array([[0], [1]]), *table, statics, wide, mask)
    assert (tile == 7).all() and (mask == 7).all()


# ---- the tile on anything


def plain_pack(  # noqa: C901  plain on purpose: the oracle
    layout: Layout, rows: Any, channel: Any, step_flags: Any, day: Any, dynamic: Any, statics: Any
) -> tuple[Any, Any]:
    """What the module says, one number at a time, in float64."""
    n, fd, fs = len(rows), layout.dynamic, layout.statics
    tile = np.zeros((layout.steps, n, layout.channels))
    mask = np.zeros(n, int)

    def why(values: Any) -> int:
        reasons = 0
        for value in values:
            reasons |= MISSING if math.isnan(value) else OUTSIDE if math.isinf(value) else 0
        return reasons

    def reasons_of(row: int) -> int:
        if row < 0:
            return MISSING
        reasons = int(step_flags[row])
        if not reasons & NO_NUMBER:
            reasons |= why([channel[row]])
        return reasons | why(dynamic[row]) | why([day[row]])

    for i in range(n):
        for t, row in enumerate(rows[i]):
            if reasons_of(row) & NO_NUMBER:
                if t < layout.steps - 1:
                    mask[i] |= SHORT
                continue
            gap = 0.0
            if t and rows[i][t - 1] >= 0 and math.isfinite(day[rows[i][t - 1]]):
                gap = float(day[row]) - float(day[rows[i][t - 1]])
            values = [channel[row], *dynamic[row], *statics[i], gap]
            for c, value in enumerate(values):
                if 1 + fd <= c < 1 + fd + fs and not math.isfinite(value):
                    continue
                tile[t, i, c] = (float(value) - layout.mean[c]) / layout.std[c]
            tile[t, i, -1] = 1.0
        mask[i] |= reasons_of(rows[i][-1]) | why(statics[i])
    return tile, mask


value = st.one_of(
    st.floats(-1000, 1000, width=32),
    st.floats(-1000, 1000, width=32),
    st.sampled_from([NAN, INF, -INF, 0.0, 1e-45]),
)


@st.composite
def tables(draw: st.DrawFn) -> tuple[Any, ...]:
    n, r = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    steps, fd, fs = draw(st.integers(1, 4)), draw(st.integers(0, 3)), draw(st.integers(0, 2))
    scaled = fd + fs + 2
    layout = Layout(
        steps,
        fd,
        fs,
        mean=tuple(draw(st.lists(st.floats(-100, 100), min_size=scaled, max_size=scaled))),
        std=tuple(draw(st.lists(st.floats(0.01, 100), min_size=scaled, max_size=scaled))),
    )

    def floats(*shape: int) -> Any:
        return draw(hnp.arrays(np.float32, shape, elements=value))

    rows = draw(hnp.arrays(np.int64, (n, steps), elements=st.integers(-1, r - 1)))
    bits = st.sampled_from([0, 0, 0, DENSE, LOST, MISSING, OUTSIDE, FROZEN, 32, 128, 256])
    step_flags = draw(hnp.arrays(np.uint16, (r,), elements=bits))
    return layout, rows, floats(r), step_flags, floats(r), floats(r, fd), floats(n, fs)


@settings(max_examples=300, deadline=None)
@given(table=tables())
def test_packing_anything(kernels: ModuleType, table: Any) -> None:
    before = [np.copy(part) for part in table[1:]]
    tile, mask = pack(kernels, *table)
    expected, reasons = plain_pack(*table)
    assert_array_equal(mask, reasons)
    # float32: x - mean loses up to 1e-7 of the larger, then divided by std
    assert_allclose(tile, expected, rtol=1e-6, atol=2e-4 / min(table[0].std))
    assert_array_equal(tile[..., -1], expected[..., -1])
    for part, was in zip(table[1:], before, strict=True):
        assert_array_equal(part, was)


@settings(max_examples=300, deadline=None)
@given(table=tables())
def test_c_and_its_twin_pack_the_same_bits(c_kernels: ModuleType, table: Any) -> None:
    packed = pack(c_kernels, *table), pack(window, *table)
    mine: Any
    twin: Any
    for mine, twin in zip(*packed, strict=True):
        assert mine.shape == twin.shape and mine.dtype == twin.dtype
        assert_array_equal(mine, twin)


def test_strided_inputs_and_wide_types(kernels: ModuleType) -> None:
    """A view, a list or float64 gives what dense float32 gives."""
    rng = np.random.default_rng(3)
    layout = Layout(4, 2, 1, mean=tuple(rng.normal(size=5)), std=tuple(rng.uniform(1, 2, 5)))
    rows = rng.integers(-1, 9, (5, 4))
    wide = rng.normal(size=(9, 8)).astype(np.float32)
    statics = rng.normal(size=(1, 5)).astype(np.float32).T
    view = wide[:, 1], np.zeros(9, np.int64), wide[:, 3], wide[:, 4:8:2], statics
    dense = [np.ascontiguousarray(part, np.float64) for part in view]
    dense[1] = np.zeros(9, np.uint16)
    got = pack(kernels, layout, rows.T.copy().T, *view)
    expected = pack(kernels, layout, rows.tolist(), *dense)
    assert_array_equal(got[0], expected[0])
    assert_array_equal(got[1], expected[1])
    assert_allclose(got[0], plain_pack(layout, rows, *view)[0], atol=1e-6)


@given(
    st.lists(st.integers(0, 40), min_size=1, max_size=6),
    st.integers(1, 4),
    st.integers(1, 4),
    st.sampled_from([5.0, 12.0, math.inf]),
    st.randoms(use_true_random=False),
)
def test_the_history_of_runs_is_that_of_each_window(
    dates: list[int], pixels: int, steps: int, longest: float, random: Any
) -> None:
    """D dates of P pixels, one acquisition after another, as a map lays them out."""
    day = np.repeat(np.asarray(dates, np.float64), pixels)
    back = np.asarray([[random.randrange(-1, len(dates)) for _ in range(steps)] for _ in range(5)])
    back[:, -1] = np.maximum(back[:, -1], 0)
    at = back[:, None, :] * pixels + np.arange(pixels)[:, None]
    rows = np.where(back[:, None, :] >= 0, at, -1).reshape(-1, steps)
    expected = window.check_history(rows, day, longest)
    found = window.check_history_of_runs(rows, day, longest, pixels)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)
