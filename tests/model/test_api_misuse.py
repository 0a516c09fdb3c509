"""Arguments of the Python API that do not fit: refused by the name of the argument, or read."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from made_models import card_of, network_of, write_pair

import kgsm_infer
from kgsm_infer.kernels.wcm import Wcm
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
    ],
)
def test_every_form_of_a_date_gives_the_same_numbers(model, days):
    expected = model.retrieve(SIGMA0, 0.3, days=DAYS)
    result = model.retrieve(SIGMA0, 0.3, days=days)
    np.testing.assert_array_equal(result.sm, expected.sm)
    np.testing.assert_array_equal(result.flags, expected.flags)


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
