"""A loaded model: windows, shapes, tables, threads, and no number where none is due."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from made_models import card_of, network_of, write_pair
from running import PATIENCE_S

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.base.errors import DataError, ModelError
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.model import TILE, finish, load
from kgsm_infer.tables.table import table_from_columns

ROLES = ("complete", "core")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    network = network_of(Wcm(a=0.05), steps=4, dynamic=1, statics=1, sm_std=0.1)
    return write_pair(tmp_path_factory.mktemp("model"), network, card_of(network))


def sequences(n, steps=4, seed=0):
    rng = np.random.default_rng(seed)
    return {
        "sigma0_db": rng.uniform(-17, -8, (n, steps)).astype(np.float32),
        "ndvi": rng.uniform(0.1, 0.7, (n, steps)).astype(np.float32),
        "features": rng.uniform(0, 1, (n, steps, 1)).astype(np.float32),
        "statics": rng.uniform(2, 8, (n, 1)).astype(np.float32),
        "days": 12.0 * np.arange(steps),
    }


@pytest.mark.parametrize("role", ROLES)
def test_results_do_not_depend_on_batch_or_order(paths, role):
    model = load(paths[role])
    given = sequences(2 * TILE + 3)
    whole = model.retrieve(**given)
    assert np.isfinite(whole.sm).all() and not whole.flags.any()
    assert np.isnan(whole.lower).all() and np.isnan(whole.upper).all()  # no interval on the card
    assert np.ptp(whole.sm) > 0.05, "the test network must react to its input"
    order = np.random.default_rng(1).permutation(len(whole.sm))[:50]
    some = {k: v if k == "days" else v[order] for k, v in given.items()}
    assert np.abs(model.retrieve(**some).sm - whole.sm[order]).max() <= 1e-6
    one = {k: v if k == "days" else v[:1] for k, v in given.items()}
    assert np.abs(model.retrieve(**one).sm - whole.sm[:1]).max() <= 1e-6


@pytest.mark.parametrize("role", ROLES)
def test_one_model_serves_many_threads(paths, role):
    model = load(paths[role])
    given = [sequences(200, seed=seed) for seed in range(8)]
    alone = [model.retrieve(**values).sm for values in given]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda values: model.retrieve(**values).sm, given))
    for a, b in zip(alone, together, strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("role", ROLES)
def test_a_short_sequence_is_padded_and_a_long_one_cut(paths, role):
    model = load(paths[role])
    given = sequences(5, steps=6)
    cut = {k: v if k == "statics" else v[2:] if k == "days" else v[:, 2:] for k, v in given.items()}
    assert np.array_equal(model.retrieve(**given).sm, model.retrieve(**cut).sm)
    short = {
        k: v if k == "statics" else v[4:] if k == "days" else v[:, 4:] for k, v in given.items()
    }
    result = model.retrieve(**short)
    assert (result.flags == flags.SHORT_HISTORY).all() and np.isfinite(result.sm).all()


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["sigma0_db", "ndvi", "features", "statics"])
def test_nan_first_last_and_everywhere(paths, role, name):
    model = load(paths[role])
    given = sequences(3)
    given["days"] = np.tile(given["days"], (3, 1))
    given[name][0].flat[0] = np.nan  # of statics: the target itself
    given[name][1].flat[-1] = np.nan
    given[name][2] = np.nan
    result = model.retrieve(**given)
    assert np.isnan(result.sm[1:]).all() and np.isnan(result.soil_db[1:]).all()
    assert (result.flags[1:] & flags.MISSING_INPUT).all()
    if name != "statics":
        assert np.isfinite(result.sm[0]) and result.flags[0] == flags.SHORT_HISTORY


@pytest.mark.parametrize("role", ROLES)
def test_reasons(paths, role):
    model = load(paths[role])
    given = sequences(4)
    given["sigma0_db"][0, -1] = 30.0
    given["sigma0_db"][1, -1], given["ndvi"][1, -1] = -26.0, 0.9
    given["frozen"] = np.zeros((4, 4), bool)
    given["frozen"][2, -1] = True
    given["features"][3, -1] = np.inf
    result = model.retrieve(**given)
    assert [flags.names(mask) for mask in result.flags] == [
        "input_out_of_range",
        "soil_signal_lost",
        "frozen_or_snow",
        "input_out_of_range",
    ]
    assert np.isnan(result.sm).all() and np.isnan(result.soil_db).all()


def test_both_files_give_the_same_table(paths):
    rng = np.random.default_rng(2)
    n = 300
    table = table_from_columns(
        {
            "site": [f"s{i % 7}" for i in range(n)],
            "date": [str(np.datetime64("2024-01-01") + 6 * (i // 7)) for i in range(n)],
            "vh_db": np.where(rng.random(n) < 0.1, np.nan, rng.uniform(-24, -8, n)),
            "ndvi": np.where(rng.random(n) < 0.1, np.nan, rng.uniform(0, 0.9, n)),
            "d0": rng.uniform(0, 1, n),
            "s0": [float(i % 7) for i in range(n)],
            "temp_c": np.where(rng.random(n) < 0.05, -3.0, 12.0),
        },
        "memory",
        features=("d0", "s0"),
    )
    results = [load(paths[role]).predict(table) for role in ROLES]
    assert len(results[0].sm) == n
    assert np.array_equal(results[0].flags, results[1].flags)
    for a, b in zip(results[0].arrays[:4], results[1].arrays[:4], strict=True):
        assert np.array_equal(np.isnan(a), np.isnan(b))
        assert np.nanmax(np.abs(a - b), initial=0) <= 1e-4  # soil_db in dB; SM far closer
    assert np.nanmax(np.abs(results[0].sm - results[1].sm)) <= 1e-5
    seen = flags.names(int(np.bitwise_or.reduce(results[0].flags)))
    for reason in ("missing_input", "soil_signal_lost", "frozen_or_snow", "short_history"):
        assert reason in seen


def test_a_table_without_a_column_is_refused(paths):
    table = table_from_columns(
        {"site": ["a"], "date": ["2024-01-01"], "vh_db": [-15.0], "ndvi": [0.3]}, "memory"
    )
    with pytest.raises(DataError, match="no column 'd0', which the model reads; it has"):
        load(paths["core"]).predict(table)


def test_calls_that_do_not_fit(paths):
    model = load(paths["complete"])
    given = sequences(2)
    for change, match in [
        ({"sigma0_db": given["sigma0_db"][0]}, r"must be \(N, T\)"),
        ({"days": None}, "days is needed"),
        ({"ndvi": None}, "this model reads ndvi"),
        ({"features": None}, "d0 is not given"),
        ({"features": given["ndvi"]}, r"features must be \(2, 4, 1\)"),
        ({"statics": given["ndvi"]}, r"statics must be \(2, 1\)"),
    ]:
        with pytest.raises(ValueError, match=match):
            model.retrieve(**{**given, **change})


def test_features_by_name_and_dates(paths):
    model = load(paths["core"])
    given = sequences(3)
    by_name = {
        **given,
        "features": {"d0": given["features"][..., 0]},
        "statics": {"s0": given["statics"][:, 0]},
        "days": np.datetime64("2024-05-01") + given["days"].astype(int),
    }
    assert np.array_equal(model.retrieve(**by_name).sm, model.retrieve(**given).sm)


def test_an_engine_fault_does_not_pass_for_missing_input(paths):
    card = load(paths["core"]).card
    nan = np.float32([np.nan])
    with pytest.raises(ModelError, match="no finite number for 1 valid windows"):
        finish(card, nan, nan, np.uint16([0]))


def test_outside_the_limits_is_clipped_and_said(paths):
    card = load(paths["core"]).card
    raw = np.float32([-0.2, 0.3, 1.4])
    result = finish(card, raw, raw, np.zeros(3, np.uint16))
    assert result.sm.tolist() == [0.0, np.float32(0.3), 1.0]
    assert result.flags.tolist() == [flags.SM_CLIPPED, 0, flags.SM_CLIPPED]


def test_the_package_offers_what_the_readme_uses(paths):
    assert isinstance(kgsm_infer.load(paths["core"]), kgsm_infer.Model)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kgsm_infer.nothing  # noqa: B018


def test_blocks_are_seams_nobody_sees_and_memory_stays_small(paths):
    """Time-major strided views, several blocks: as one call on copies; little memory beside."""
    import tracemalloc

    from kgsm_infer.model.model import BLOCK

    model = load(paths["core"], engine="native")
    n = 2 * BLOCK + 5
    given = sequences(n)
    cube = {
        name: np.ascontiguousarray(np.moveaxis(given[name], 0, 1)) for name in ("sigma0_db", "ndvi")
    }
    views = {**given, **{name: values.T for name, values in cube.items()}}
    assert not views["sigma0_db"].flags.c_contiguous
    whole = model.retrieve(**views)
    for start in (0, BLOCK - 3, BLOCK, n - 7):
        some = slice(start, start + 7)
        part = {k: v if k == "days" else v[some] for k, v in given.items()}
        for a, b in zip(model.retrieve(**part), whole, strict=True):
            assert np.array_equal(a, b[some], equal_nan=True)

    def peak_beside_results(count):
        some = {k: v if k == "days" else v[:count] for k, v in views.items()}
        tracemalloc.start()
        result = model.retrieve(**some)
        peak = tracemalloc.get_traced_memory()[1] - sum(values.nbytes for values in result)
        tracemalloc.stop()
        return peak

    one, two = peak_beside_results(BLOCK), peak_beside_results(2 * BLOCK)
    # results of blocks stand beside their concatenation; 18 bytes a window
    assert two - one < 2 * BLOCK * 18 + 100_000


def test_a_mask_is_missing_data_not_its_fill(paths):
    model = load(paths["core"])
    given = sequences(2)
    for name in ("sigma0_db", "ndvi", "features", "statics"):
        masked = np.ma.masked_array(given[name].copy(), np.zeros(given[name].shape, bool))
        masked[0].reshape(-1)[-1] = np.ma.masked
        masked.data[0].reshape(-1)[-1] = 0.3  # what lies below the mask is a plausible number
        result = model.retrieve(**{**given, name: masked})
        assert np.isnan(result.sm[0]) and result.flags[0] == flags.MISSING_INPUT, name
        assert np.isfinite(result.sm[1]), name
    days = np.ma.masked_array(np.tile(given["days"], (2, 1)), np.zeros((2, 4), bool))
    days[0, -1] = np.ma.masked
    result = model.retrieve(**{**given, "days": days})
    assert result.flags.tolist() == [flags.MISSING_INPUT, 0]
    dates = np.datetime64("2024-01-01") + given["days"].astype("timedelta64[D]")
    dates = np.ma.masked_array(np.tile(dates, (2, 1)), days.mask)
    assert model.retrieve(**{**given, "days": dates}).flags.tolist() == result.flags.tolist()
    frozen = np.ma.masked_array(np.zeros((2, 4), bool), days.mask)
    result = model.retrieve(**{**given, "frozen": frozen})
    assert result.flags.tolist() == [flags.MISSING_INPUT, 0]


def test_seconds_given_as_days_are_refused(paths):
    model = load(paths["core"])
    given = sequences(1)
    for origin in (1.7e9, 1.7e12):  # since 1970, in seconds and milliseconds
        with pytest.raises(ValueError, match="look like seconds; divide by 86,400"):
            model.retrieve(**{**given, "days": origin + given["days"] * 86400})


@pytest.mark.parametrize("role", ROLES)
def test_frost_that_is_not_told_is_missing(paths, role):
    """A column that is there and empty in a row does not say "not frozen"."""
    columns = {
        "site": list("abcdef"),
        "date": ["2024-01-01"] * 6,
        "vh_db": [-15.0] * 6,
        "ndvi": [0.3] * 6,
        "d0": [0.5] * 6,
        "s0": [5.0] * 6,
        "temp_c": [9.0, None, -1.0, 9.0, None, -1.0],
        "snow_cover": [0.0, 0.0, 0.0, None, 0.4, None],
    }
    engine = "native" if role == "core" else "onnxruntime"
    result = load(paths[role], engine=engine).predict(
        table_from_columns(columns, features=("d0", "s0"))
    )
    why = [flags.names(int(mask) & ~flags.SHORT_HISTORY) for mask in result.flags]
    frozen, missing = "frozen_or_snow", "missing_input"
    assert why == ["", missing, frozen, missing, frozen, frozen]
    assert np.isfinite(result.sm).tolist() == [True, *[False] * 5]


def test_pickles_copies_compares_and_says_what_it_is(paths, tmp_path):
    import copy
    import pickle

    model = load(paths["core"], engine="native")
    again = pickle.loads(pickle.dumps(model))
    given = sequences(3)
    assert again == model and hash(again) == hash(model) and again is not model
    assert np.array_equal(again.retrieve(**given).sm, model.retrieve(**given).sm)
    assert len(pickle.dumps(model)) < 1000, "its path, not its weights"
    assert copy.copy(model) == copy.deepcopy(model) == model
    assert model != load(paths["complete"], engine="native") and model != "m.onnx"
    assert len(repr(model)) < 200 and "kg-lstm" in repr(model)
    content = paths["core"].read_bytes()
    assert pickle.loads(pickle.dumps(load(content, engine="native"))) == model
    # another file in its place is another model
    moved = tmp_path / "m.onnx"
    moved.write_bytes(content)
    pickled = pickle.dumps(load(moved))
    moved.write_bytes(paths["complete"].read_bytes())
    with pytest.raises(ModelError, match="not the file it was"):
        pickle.loads(pickled)


def _sm_of(model, given):
    return model.retrieve(**given).sm


@pytest.mark.parametrize("start", ["spawn", "fork"])
@pytest.mark.parametrize("engine", ["native", "onnxruntime"])
def test_a_model_survives_a_pool_of_processes(paths, start, engine):
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    if start not in multiprocessing.get_all_start_methods():
        pytest.skip(f"this system cannot {start}")
    model, given = load(paths["core"], engine=engine), sequences(3)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context(start)) as pool:
        there, here = pool.submit(_sm_of, model, given).result(PATIENCE_S), _sm_of(model, given)
    # the NumPy twin's BLAS may round differently in another process, the C core may not
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-6)
