"""kgsm-train index-score on tables from which some of its scores cannot be computed."""

import numpy as np
import pytest

from kgsm_train.evaluation.index_score import as_text, score_index
from kgsm_train.evaluation.probed import shows_date_errors


@pytest.fixture
def write(tmp_path):
    """Write a table of sites f0, f1, ... on days 1, 7, ...; vh and sm: functions of both."""

    def to(sites, dates, vh=None, sm=None):
        rng = np.random.default_rng(4)
        rows = []
        for k in range(dates):
            for i in range(sites):
                vh_db = f"{-17 + rng.normal():.2f}" if vh is None else vh(i, k)
                label = f"{rng.uniform(0.1, 0.3):.3f}" if sm is None else sm(i, k)
                rows.append(f"f{i},2024-01-{1 + 6 * k:02d},{vh_db},{label}")
        path = tmp_path / "t.csv"
        path.write_text("\n".join(["site,date,vh_db,sm", *rows]) + "\n")
        return path

    return to


@pytest.mark.parametrize(("sites", "dates", "known"), [(3, 4, True), (1, 5, False), (6, 1, False)])
def test_error_variances_need_two_fields_on_a_date(write, sites, dates, known):
    """Of one field, and on one date, the error of a date and of a field are one number."""
    made = score_index(write(sites, dates), 0.05, 0.4)
    assert (made[0].error is not None) == known
    assert ("not known" in as_text(made, 0.05, 0.4)) != known


def test_fields_that_are_never_seen_together_share_no_date():
    assert not shows_date_errors(np.array(["a", "b", "a", "b"]), np.array([1, 2, 3, 4]))


def test_constant_labels_have_no_correlation(write):
    made = score_index(write(3, 4, sm=lambda i, k: "0.2"), 0.05, 0.4)
    assert all(np.isnan(one.r) and one.rmse > 0 for one in made)
    assert "| – |" in as_text(made, 0.05, 0.4)


def test_labels_and_dates_left_out_are_listed(write):
    """VH is missing on the second date, and at one site on the third."""
    path = write(3, 4, vh=lambda i, k: "" if k == 1 or (k, i) == (2, 0) else f"{-17 + i + k}")
    made = score_index(path, 0.05, 0.4)
    assert (made[0].labels, made[0].left_out) == (8, 4)
    text = as_text(made, 0.05, 0.4)
    assert "left out: 4 labels without an index, all of 2024-01-07 among them" in text
