"""Engines against each other, and windows that must not know of each other."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import card_of, network_of, write_pair
from on_engines import load_kernels

from kgsm_infer import engines, flags
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model import load
from kgsm_infer.table import table_from_columns

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


VALUE = st.sampled_from([np.nan, np.inf, -np.inf, -9999.0, 30.0, 0.0, -12.5, 1e9, 19730.5])


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
