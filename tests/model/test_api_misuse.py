"""Arguments of the Python API that do not fit: refused by the name of the argument, or read."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_models import card_of, network_of, write_pair

import kgsm_infer
from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels.wcm import Wcm
from kgsm_infer.model.arrays import date_features, feature_block
from kgsm_infer.tables.table import table_from_columns

SIGMA0 = np.float32([[-14.0, -14.5, -15.0, -13.0]] * 3)
DATES = ["2024-01-01", "2024-01-13", "2024-01-25", "2024-02-06"]
DAYS = np.arange(4) * 12.0


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    network = network_of(Wcm(a=0.02), dynamic=0, statics=0)
    return kgsm_infer.load(
        write_pair(tmp_path_factory.mktemp("m"), network, card_of(network))["core"]
    )


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"ndvi": np.full(3, 0.3)}, r"ndvi has shape \(3,\)"),
        ({"ndvi": np.full((4, 3), 0.3)}, r"ndvi has shape \(4, 3\)"),
        ({"ndvi": "green"}, "ndvi is not numeric"),
        ({"days": DAYS[:3]}, r"days has shape \(3,\)"),
        ({"days": ["2024-01-01", "then", "2024-01-25", "2024-02-06"]}, "'then'.* not a date"),
        ({"days": 1.7e9 + DAYS * 86400}, "look like seconds"),
        ({"days": np.stack([DAYS, DAYS, 1.7e9 + DAYS * 86400])}, "look like seconds"),
        ({"days": [20240101, 20240113, 20240125, 20240206]}, "dates written as numbers"),
        ({"days": np.asarray(DATES, "datetime64[M]")}, "a month or a year is not a day"),
        ({"days": DAYS.astype("timedelta64[Y]")}, "a month or a year is not a day"),
        ({"days": "2024-01-01"}, "days is one value"),
        ({"days": 3.0}, "days is one value"),
        ({"sigma0_db": [[-14.0, -15.0], [-14.0]]}, "sigma0_db is not numeric"),
        ({"sigma0_db": None}, r"sigma0_db must be \(N, T\)"),
        ({"features": [["a"]]}, "features is not numeric"),
        ({"days": [True, False, True, False]}, "days is of type bool"),
        ({"frozen": [True, False]}, r"frozen has shape \(2,\)"),
        ({"sigma0_db": SIGMA0 + 0j}, "sigma0_db is complex"),
        ({"features": {"zzz": SIGMA0}}, "features has 'zzz'"),
        ({"statics": {"clay": [1, 2, 3]}}, "statics has 'clay'"),
    ],
)
def test_a_wrong_argument_is_named(model, changes, cause):
    given = {"sigma0_db": SIGMA0, "ndvi": 0.3, "days": DAYS}
    with pytest.raises(ValueError, match=cause):
        model.retrieve(**{**given, **changes})


@pytest.mark.parametrize(
    "days",
    [
        np.asarray(DATES, "datetime64[ns]"),
        DATES,
        [datetime.fromisoformat(day) for day in DATES],
        [datetime.fromisoformat(day).replace(tzinfo=UTC) for day in DATES],
        [datetime.fromisoformat(day).date() for day in DATES],
        [f"{day}T00:00:00Z" for day in DATES],
        np.asarray([timedelta(days=day) for day in DAYS], "timedelta64[s]"),
        [timedelta(days=day) for day in DAYS],
        [float(day) for day in DAYS],
    ],
)
def test_every_form_of_a_date_gives_the_same_numbers(model, days):
    expected = model.retrieve(SIGMA0, 0.3, days=DAYS)
    result = model.retrieve(SIGMA0, 0.3, days=days)
    np.testing.assert_array_equal(result.sm, expected.sm)
    np.testing.assert_array_equal(result.flags, expected.flags)


@pytest.mark.parametrize(
    "days",
    [
        DAYS,
        DAYS.astype(np.int64),
        (DAYS * 24).astype("timedelta64[h]"),
        np.asarray(DATES),
        np.asarray(DATES, "S"),
        np.asarray(DATES, "datetime64[h]"),
        np.asarray([datetime.fromisoformat(text) for text in DATES], object),
    ],
)
def test_a_masked_day_is_a_missing_one(model, days):
    """The unit of a duration holds under a mask too: 144 hours are 6 days."""
    expected = date_features(np.where([True, False, False, False], np.nan, DAYS), (3, 4))[1]
    found = date_features(np.ma.masked_array(days, [True, False, False, False]), (3, 4))[1]
    np.testing.assert_array_equal(found - found[:, 1:2], expected - expected[:, 1:2])
    result = model.retrieve(SIGMA0, 0.3, days=np.ma.masked_array(days, [False] * 4))
    np.testing.assert_array_equal(result.sm, model.retrieve(SIGMA0, 0.3, days=DAYS).sm)


def test_rows_are_read_as_columns_are(model):
    columns = {"site": ["a"] * 4, "date": DATES, "vh_db": SIGMA0[0].tolist(), "ndvi": [0.3] * 4}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    del rows[1]["ndvi"]
    columns["ndvi"][1] = None
    np.testing.assert_array_equal(model.predict(rows).sm, model.predict(columns).sm)
    assert np.isnan(table_from_columns(rows).numbers["ndvi"]).tolist() == [
        False,
        True,
        False,
        False,
    ]


def test_a_lazy_frame_is_refused_by_name_and_its_frame_is_read():
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame({"site": ["a"], "date": ["2024-01-01"], "vh_db": [-15.0]})
    assert len(table_from_columns(frame)) == 1
    with pytest.raises(TypeError, match="LazyFrame has no rows yet"):
        table_from_columns(frame.lazy())


# --- a table in memory: each form is read, or refused by name -----------------------------------

COLUMNS = {"site": ["a"] * 4, "date": DATES, "vh_db": SIGMA0[0].tolist(), "ndvi": [0.3] * 4}


def frames():
    """Every other form of COLUMNS that is read."""
    pandas = pytest.importorskip("pandas", reason="frames need kgsm[train]")
    frame = pandas.DataFrame(COLUMNS)
    forms = {
        "rows": frame.to_dict("records"),
        "tuple of rows": tuple(frame.to_dict("records")),
        "frame": frame,
        "nullable": frame.convert_dtypes(),
        "datetimes": frame.assign(date=pandas.to_datetime(frame.date)),
        "periods": frame.assign(date=pandas.PeriodIndex(frame.date, freq="D")),
        "categories": frame.astype({"site": "category"}),
        "structured": frame.to_records(),
        "iterators": {name: iter(values) for name, values in COLUMNS.items()},
        "bytes": {**COLUMNS, "site": [b"a"] * 4},
    }
    for package in ("polars", "pyarrow", "xarray"):
        try:
            module = __import__(package)
        except ImportError:
            continue
        forms[package] = {
            "polars": lambda m: m.DataFrame(COLUMNS),
            "pyarrow": lambda m: m.table(COLUMNS),
            "xarray": lambda m: m.Dataset({name: ("row", v) for name, v in COLUMNS.items()}),
        }[package](module)
    return forms


def test_read_table_and_predict_take_every_form_of_a_table(model):
    expected = model.predict(COLUMNS)
    for name, form in frames().items():
        table = kgsm_infer.read_table(form) if name != "iterators" else None
        read = model.predict(form if table is None else table)
        np.testing.assert_array_equal(read.sm, expected.sm, err_msg=name)
        np.testing.assert_array_equal(read.flags, expected.flags, err_msg=name)


class _Lazy:
    def collect(self):
        return None


class _Array:
    """As much of an xarray.DataArray as its look."""

    columns = ("x",)

    def to_dataset(self):
        return None


@pytest.mark.parametrize(
    ("table", "cause"),
    [
        (None, "not NoneType"),
        (3, "not int"),
        ("t.csv", r"not str; read a file with kgsm_infer\.read_table"),
        (b"t.csv", "not bytes"),
        ([], "not list; of rows"),
        ([["a", 1]], "not list; of rows"),
        ([{"site": "a"}, None], "not list; of rows"),
        ({"site", "date"}, "not set"),
        (_Lazy(), r"a _Lazy has no rows yet; pass its collect\(\)"),
        (_Array(), "_Array; pass a Dataset whose variables are columns"),
        (np.zeros((4, 3)), "not numpy.ndarray"),
    ],
)
def test_what_is_no_table_is_refused_by_name(model, table, cause):
    with pytest.raises(TypeError, match=cause):
        model.predict(table)
    if not isinstance(table, str):
        with pytest.raises(TypeError, match=cause):
            kgsm_infer.read_table(table)


def test_a_dataarray_is_refused_by_name(model):
    xarray = pytest.importorskip("xarray", reason="arrays need kgsm[raster]")
    array = xarray.DataArray(np.zeros((4, 2)), dims=("row", "band"))
    for refuse in (model.predict, kgsm_infer.read_table, model.newest):
        with pytest.raises(TypeError, match=r"xarray.*DataArray; pass a Dataset"):
            refuse(array)


def outcome(call):
    """The result of a call and "", or None and the reason of its refusal."""
    try:
        return call(), ""
    except (DataError, ValueError) as error:
        return None, str(error)


#: Objects that are no column of four rows.
NO_COLUMNS = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.booleans(),
    st.text(max_size=8),
    st.binary(max_size=8),
    st.sets(st.integers(), min_size=4, max_size=4),
    st.dictionaries(st.integers(), st.floats(), min_size=4, max_size=4),
    st.just(np.float64(3)),
    st.just(np.asarray(3.0)),
    st.just(np.zeros((4, 2))),
    st.datetimes(),
    st.just(object()),
    st.lists(st.floats(-30, -1), max_size=3),
)


@settings(deadline=None)
@given(st.sampled_from(list(COLUMNS)), NO_COLUMNS)
def test_what_is_no_column_is_refused_by_its_name(name, values):
    with pytest.raises(DataError, match=rf"column {name}: |columns of different lengths.*'{name}'"):
        table_from_columns({**COLUMNS, name: values})


#: Cells of any type; a column of them is read or refused with row and column.
CELLS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.complex_numbers(),
    st.text(max_size=5),
    st.binary(max_size=5),
    st.decimals(),
    st.fractions(),
    st.dates(),
    st.datetimes(timezones=st.none() | st.just(UTC)),
    st.timedeltas(),
    st.tuples(st.integers()),
    st.dictionaries(st.integers(), st.integers(), max_size=1),
)


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(list(COLUMNS)), st.lists(CELLS, min_size=4, max_size=4))
def test_cells_of_any_type_are_read_or_refused_with_their_column(name, cells):
    table, reason = outcome(lambda: table_from_columns({**COLUMNS, name: cells}, keep="empty"))
    if table is None:
        assert f"column {name}" in reason and "\n" not in reason, reason
        return
    if name in ("vh_db", "ndvi"):
        read = table.to_file_rows(table.numbers[name])
        for cell, value in zip(cells, read, strict=True):
            assert np.isnan(value) or (
                float(cell.decode() if isinstance(cell, bytes) else cell) == value
            )


@settings(deadline=None, max_examples=300)
@given(st.lists(CELLS, min_size=4, max_size=4))
def test_days_of_any_type_are_read_or_refused_by_name(days):
    made, reason = outcome(lambda: date_features(days, (3, 4)))
    if made is None:
        assert "days" in reason, reason
        return
    assert made[1].shape == (3, 4) and made[1].dtype == np.float64


@given(
    st.lists(st.lists(st.floats(0, 3e9), min_size=4, max_size=4), min_size=1, max_size=5),
)
def test_a_window_of_days_is_judged_alone(windows):
    """Days or seconds: the judgement of a window does not depend on the batch."""

    def refused(batch):
        return outcome(lambda: date_features(batch, (len(batch), 4)))[0] is None

    assert refused(windows) == any(refused([window]) for window in windows)


@given(st.text(min_size=1, max_size=8))
def test_an_unknown_feature_is_refused_by_name(name):
    with pytest.raises(ValueError, match=r"features has .*; it reads ndvi"):
        feature_block({"ndvi": 0.3, f"x{name}": 0.3}, ("ndvi",), (3, 4), "features", {})


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        (None, "source must be the path or the bytes of a model, not NoneType"),
        (3, "not int"),
        (bytearray(b"x"), r"not bytearray; pass bytes\(...\)"),
        (memoryview(b"x"), "not memoryview; pass bytes"),
        (io.BytesIO(b"x"), r"not BytesIO; pass its getvalue\(\)"),
        (["m.onnx"], "not list"),
    ],
)
def test_what_is_no_model_is_refused_by_name(source, cause):
    with pytest.raises(TypeError, match=cause):
        kgsm_infer.load(source)


def test_a_path_of_any_kind_is_read(model, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("site,date,vh_db,ndvi\na,2024-01-01,-14,0.3\n")
    assert len(kgsm_infer.read_table(str(path))) == len(kgsm_infer.read_table(path)) == 1


def test_other_arguments_are_refused_by_name(model):
    with pytest.raises(ValueError, match="only must be numbers of rows from 0 to 3"):
        model.predict(COLUMNS, only=np.asarray([4]))
    for argument in ("features", "require", "reads"):
        with pytest.raises(TypeError, match=f"{argument} must be a sequence of names"):
            kgsm_infer.read_table(COLUMNS, **{argument: "ndvi"})


@pytest.mark.parametrize("source", [None, 3, object()])
def test_a_lazy_retrieval_names_its_model(source):
    lazy = pytest.importorskip("kgsm_infer.maps.lazy", reason="lazy retrieval needs xarray")
    with pytest.raises(TypeError, match="model must be the path of a model file"):
        lazy.retrieve(source, None)
