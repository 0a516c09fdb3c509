"""Engines against each other, and windows that must not know of each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import card_of, network_of, write_pair
from on_engines import load_kernels

from kgsm_infer.base import flags
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model import engines
from kgsm_infer.model.model import load
from kgsm_infer.tables.table import table_from_columns

STEPS = 4
#: (file, engine): all the ways there are
WAYS = [("core", "native"), ("core", "onnxruntime"), ("complete", "onnxruntime")]


@pytest.fixture(scope="module")
def network():
    return network_of(Wcm(a=0.05), steps=STEPS, dynamic=1, statics=1, sm_std=0.1)


@pytest.fixture(scope="module")
def paths(network, tmp_path_factory):
    return write_pair(tmp_path_factory.mktemp("model"), network, card_of(network))


@pytest.fixture(params=WAYS, ids=" ".join)
def model(request, paths):
    role, engine = request.param
    return load(paths[role], engine=engine)


def sequences(n, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "sigma0_db": rng.uniform(-17, -8, (n, STEPS)).astype(np.float32),
        "ndvi": rng.uniform(0.1, 0.7, (n, STEPS)).astype(np.float32),
        "features": rng.uniform(0, 1, (n, STEPS, 1)).astype(np.float32),
        "statics": rng.uniform(2, 8, (n, 1)).astype(np.float32),
        "days": np.tile(19723.0 + 12.0 * np.arange(STEPS), (n, 1)),
    }


def same_bits(a, b):
    return all(np.array_equal(x, y, equal_nan=True) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("start", [-np.inf, np.inf, np.nan, -1e9, 1e9, 1e300, 16436.0])
def test_a_window_with_senseless_days_leaves_the_others_alone(model, start):
    given = sequences(7)
    alone = model.retrieve(**given)
    given["days"][3, 0] = start
    together = model.retrieve(**given)
    others = np.arange(7) != 3
    assert np.isfinite(together.sm[others]).all()
    assert same_bits([part[others] for part in alone], [part[others] for part in together])


def test_an_old_row_ahead_of_a_table_changes_no_other(model):
    """Days since the table's first in float32 would lose the minutes."""
    rng = np.random.default_rng(4)
    when = np.datetime64("2024-05-01T05:31:07") + np.arange(200) // 5 * np.timedelta64(12, "D")
    columns = {
        "site": [f"s{i % 5}" for i in range(200)],
        "date": when + rng.integers(0, 3000, 200),
        "vh_db": rng.uniform(-17, -8, 200),
        "ndvi": rng.uniform(0.1, 0.7, 200),
        "d0": rng.uniform(0, 1, 200),
        "s0": rng.uniform(2, 8, 200),
    }
    old = {
        "site": ["old"],
        "date": np.asarray(["2015-01-01T00:00:00"], "datetime64[s]"),
        **{
            name: np.asarray([values[0]])
            for name, values in columns.items()
            if name[1] != "i" and name != "date"
        },
    }

    def predict(given):
        return model.predict(table_from_columns(given, features=("d0", "s0")))

    alone = predict(columns)
    both = predict({name: [*old[name], *columns[name]] for name in columns})
    # what came from the window's own place in a batch of another size is onnxruntime's
    if model.engine == "native":
        assert same_bits(alone, [part[1:] for part in both])
    assert np.nanmax(np.abs(alone.sm - both.sm[1:])) <= 1e-6
    assert np.array_equal(alone.flags, both.flags[1:])


VALUE = st.sampled_from(
    [np.nan, np.inf, -np.inf, -9999.0, 30.0, 3.4e38, -3.4e38, 0.0, -12.5, 1e9, 19730.5]
)


@settings(max_examples=60, deadline=None)
@given(
    places=st.lists(
        st.tuples(
            st.sampled_from(["sigma0_db", "ndvi", "features", "statics", "days"]),
            st.integers(0, STEPS - 1),
            VALUE,
        ),
        max_size=6,
    ),
    way=st.sampled_from(WAYS),
)
def test_whatever_one_window_holds_the_others_keep_their_bits(paths, places, way):
    model = load(paths[way[0]], engine=way[1])
    given = sequences(5)
    alone = model.retrieve(**given)
    for name, step, value in places:
        given[name][2].reshape(-1)[step if given[name][2].size > 1 else 0] = value
    together = model.retrieve(**given)
    others = [0, 1, 3, 4]
    assert same_bits([part[others] for part in alone], [part[others] for part in together])


def test_native_windows_have_the_same_bits_in_any_batch(paths):
    model = load(paths["core"], engine="native")
    given = sequences(1000)
    whole = model.retrieve(**given)
    for some in ([999], [3, 1, 2], list(range(100, 117))):
        part = model.retrieve(**{name: values[some] for name, values in given.items()})
        assert same_bits(part, [values[some] for values in whole])


@pytest.mark.parametrize("wcm", [Wcm(a=0.05), None], ids=["kg-lstm", "lstm"])
def test_engines_agree_on_the_domain_to_the_last_row(tmp_path, monkeypatch, wcm):
    """The threshold is the very index of a row, so that rounding would decide it."""
    network = network_of(wcm, steps=STEPS, dynamic=1, statics=1, sm_std=0.1)
    points = np.random.default_rng(0).normal(0, 1, (30, 3)).round(4)
    given = sequences(500, seed=8)
    if wcm is None:
        del given["ndvi"]

    def results(threshold):
        domain = {"points": points.tolist(), "mean_distance": 1.7, "threshold": threshold}
        card = dataclasses.replace(card_of(network), domain=domain)
        written = write_pair(tmp_path, network, card)
        found = [load(written[role], engine=engine).retrieve(**given) for role, engine in WAYS]
        monkeypatch.setattr(engines.kernels, "_core", None)
        found.append(load(written["core"], engine="native").retrieve(**given))
        monkeypatch.undo()
        return found

    load_kernels("c")  # skips where the C core is not built
    # the index of each row in float64, from the threshold at which it passes
    model = load(write_pair(tmp_path, network, card_of(network))["core"])
    soil_db = model.retrieve(**given).soil_db if wcm else given["sigma0_db"][:, -1]
    layout = model.card.layout
    raw = np.column_stack([soil_db, given["features"][:, -1], given["statics"]])
    x = (raw.astype(float) - layout.mean[:3]) / np.asarray(layout.std[:3])
    index = np.sqrt(((x[:, None] - points) ** 2).sum(2).min(1)) / 1.7
    seen = set()
    for threshold in np.sort(index)[50:450:8]:
        masks = [result.flags & flags.OUTSIDE_DOMAIN for result in results(float(threshold))]
        for mask in masks[1:]:
            assert np.array_equal(masks[0], mask)
        assert abs(int((masks[0] > 0).sum()) - int((index > threshold).sum())) <= 1
        seen.add(int((masks[0] > 0).sum()))
    assert len(seen) > 40


@pytest.mark.parametrize("bad", [-9999.0, 3.4e38, -3.4e38, np.inf])
@pytest.mark.parametrize("name", ["sigma0_db", "ndvi", "features", "statics"])
def test_a_fill_value_is_never_a_number(model, name, bad):
    """In any channel, at the target or before it; the other windows keep theirs."""
    given = sequences(4)
    given[name][1].reshape(-1)[-1] = bad
    if name != "statics":
        given[name][2].reshape(-1)[0] = bad
    result = model.retrieve(**given)
    assert np.isfinite(result.sm[[0, 3]]).all() and not result.flags[[0, 3]].any()
    assert np.isnan(result.sm[1]) and result.flags[1] == flags.INPUT_OUT_OF_RANGE
    if name != "statics":
        assert np.isfinite(result.sm[2]) and result.flags[2] == flags.SHORT_HISTORY


def test_ranges_are_closed(model):
    """The card's own bounds are numbers, what lies beyond is none."""
    (low,), (high,) = model.card.ranges("dynamic")
    given = sequences(4)
    given["features"][:, -1, 0] = [low, high, np.nextafter(low, -np.inf), high + 1]
    out = (model.retrieve(**given).flags & flags.INPUT_OUT_OF_RANGE) > 0
    assert out.tolist() == [False, False, True, True]


#: days of a window, oldest first, and what must be said of it (the longest gap is 100)
HISTORIES = {
    "plain": ([0, 12, 24, 36], 0),
    "at the longest gap": ([0, 100, 200, 300], 0),
    "a gap beyond training's": ([0, 12, 24, 125], flags.OUTSIDE_DOMAIN),
    "decades": ([0, 3650, 10000, 16000], flags.SHORT_HISTORY),
    "decades, evenly": (list(range(0, 16000, 4000)), flags.SHORT_HISTORY),
    "old beyond reach": ([0, 12, 200, 320], flags.OUTSIDE_DOMAIN | flags.SHORT_HISTORY),
    "reversed": ([36, 24, 12, 0], flags.SHORT_HISTORY),
    "equal": ([36, 36, 36, 36], flags.SHORT_HISTORY),
    "one out of order": ([0, 30, 24, 36], flags.SHORT_HISTORY),
    "one out of reach": ([0, -90000, 24, 36], flags.SHORT_HISTORY),
    "two looks at once": ([0, 24, 24, 36], flags.SHORT_HISTORY),
    "after the target": ([0, 12, 40, 36], flags.SHORT_HISTORY),
}


@pytest.mark.parametrize("case", HISTORIES)
def test_senseless_history_is_flagged(model, case):
    days, reasons = HISTORIES[case]
    given = sequences(1)
    given["days"] = np.asarray([days], float) + 19000
    result = model.retrieve(**given)
    assert np.isfinite(result.sm).all()
    assert flags.names(result.flags[0]) == flags.names(reasons)


def test_a_senseless_history_is_as_none(model):
    """What cannot be before the target does not move its number."""
    given = sequences(1)
    alone = {k: v if k == "statics" else v[:, -1:] for k, v in given.items()}
    given["days"] = given["days"][:, ::-1].copy()
    assert np.array_equal(model.retrieve(**given).sm, model.retrieve(**alone).sm)


def test_the_graph_alone_says_the_same(paths):
    """Fed by another runtime, without what kgsm does before it."""
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(paths["complete"], providers=["CPUExecutionProvider"])
    model = load(paths["core"], engine="native")
    n = len(HISTORIES)
    given = sequences(n + 400)
    given["days"][:n] = [days for days, _ in HISTORIES.values()]
    rng = np.random.default_rng(5)
    for name in ("sigma0_db", "ndvi", "features", "statics"):
        values = given[name][n:]
        for bad in (np.nan, np.inf, -9999.0, 3.4e38, 30.0):
            values[rng.random(values.shape) < 0.02] = bad
    feed = {name: values.astype(np.float32) for name, values in given.items() if name != "days"}
    feed["day"] = given["days"].astype(np.float32)
    sm, _, mask = session.run(["sm", "soil_db", "flags"], feed)
    expected = model.retrieve(**given)
    assert np.array_equal(mask, expected.flags)
    assert np.array_equal(np.isnan(sm), np.isnan(expected.sm))
    assert np.nanmax(np.abs(sm - expected.sm)) < 1e-5
    assert {flags.names(int(m)) for m in mask} >= {"short_history", "input_out_of_range"}
