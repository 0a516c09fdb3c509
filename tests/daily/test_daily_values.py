"""Files of passes as predict, paddocks and wetness write them, and what people do to them."""

import json
from dataclasses import replace

import numpy as np
import pytest
from made_series import FIRST, SET, values_of

from kgsm_infer.base.errors import DataError, UsageError
from kgsm_infer.daily.parameters import PassErrors
from kgsm_infer.daily.values import (
    PASS_CORRELATION,
    NoValues,
    PassDeviations,
    errors_of_card,
    errors_of_model,
    errors_of_values,
    is_of_index,
    observations,
    read_values,
)
from kgsm_infer.model.index import wetness_model


@pytest.fixture
def write(tmp_path):
    def to(text, name="values.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return to


def test_predict(write):
    path = write(
        "site,date,sm,sm_lower,sm_upper,soil_db,flags\n"
        "b,2024-05-01,0.2,0.1,0.3,-12,\n"
        "a,2024-05-01,0.3,0.2,0.4,-11,dense_vegetation\n"
        "b,2024-05-13,,,,,soil_signal_lost\n"
    )
    values = read_values(path)
    assert values.paddocks == ("b", "a") and values.quantity == "sm"
    assert values.day.tolist() == [19844, 19844, 19856]
    assert np.isnan(values.value[2]) and values.flags.tolist() == [0, 8, 4]


def test_paddocks_with_id(write):
    path = write("id,date,sm,sm_lower,sm_upper,flags\n7,2024-05-01T09:10:00Z,0.2,0.1,0.3,\n")
    values = read_values(path, utc_offset_hours=10)
    assert values.paddocks == ("7",) and values.hour.tolist() == [19 + 10 / 60]


def test_local_day_of_an_evening_pass(write):
    path = write("site,date,sm\na,2024-05-01T19:30:00Z,0.2\n")
    assert read_values(path, 10).day.tolist() == [19845]
    assert read_values(path, 0).day.tolist() == [19844]
    with pytest.raises(UsageError, match="±14"):
        read_values(path, 15)


def test_paddocks_that_no_pass_has_seen_are_left_out(write):
    """``paddocks --all-dates`` writes them without a date, as CSV and as GeoJSON."""
    head = "id,date,sm,flags,reason\n"
    seen, unseen = "a,2024-05-01T05:00:00Z,0.2,dense_vegetation,\n", "b,,,,no rows in the table\n"
    values = read_values(write(head + seen + unseen))
    assert values.paddocks == ("a",) and "1 rows of paddocks" in values.notes[-1]
    with pytest.raises(DataError, match="row 3, column date: empty"):
        read_values(write(head + seen + unseen.replace("b,,,", "b,,0.3,")))
    with pytest.raises(DataError, match="no row has a date"):
        read_values(write(head + unseen))
    properties = [
        {"id": "a", "date": "2024-05-01T05:00:00Z", "sm": 0.2, "flags": "dense_vegetation"},
        {"id": "b", "date": None, "sm": None, "flags": "", "reason": "no rows in the table"},
    ]
    features = [{"type": "Feature", "properties": one, "geometry": None} for one in properties]
    path = write(json.dumps({"type": "FeatureCollection", "features": features}), "v.geojson")
    found = read_values(path)
    assert (found.paddocks, found.value.tolist(), found.flags.tolist()) == (("a",), [0.2], [8])


def test_names_that_differ_in_case_are_named(write):
    values = read_values(write("site,date,sm\nNorth,2024-05-01,0.2\nnorth,2024-05-13,0.3\n"))
    assert values.paddocks == ("North", "north")
    assert any("North and north are two paddocks" in note for note in values.notes)


def test_index_stays_an_index(write):
    path = write("site,date,wetness,flags\na,2024-05-01,1.0,\na,2024-05-13,0.0,\n")
    values = read_values(path)
    assert values.quantity == "wetness"
    seen = observations(values, SET.errors, SET, 19844, 24.0)
    wanted = [SET.bucket.dry + SET.bucket.span, SET.bucket.dry]
    np.testing.assert_allclose(seen.value, wanted)


@pytest.mark.parametrize("flag", ["frozen_or_snow", "missing_input", "soil_signal_lost"])
def test_a_flag_takes_the_value_away(write, flag):
    path = write(f"site,date,sm,flags\na,2024-05-01,0.2,{flag}\na,2024-05-02,0.2,sm_clipped\n")
    assert np.isnan(read_values(path).value).tolist() == [True, False]


def test_duplicate_rows(write):
    same = "site,date,sm\na,2024-05-01,0.2\na,2024-05-01,0.2\n"
    assert len(read_values(write(same))) == 1
    values = read_values(write(same.replace("01,0.2\n", "01,0.25\n", 1)))
    assert len(values) == 1 and np.isnan(values.value[0]) and values.notes


def test_two_passes_a_day(write):
    path = write("site,date,sm\na,2024-05-01T05:30Z,0.2\na,2024-05-01T17:30Z,0.3\n")
    seen = observations(read_values(path), SET.errors, SET, 19844, 24.0)
    assert seen.day.tolist() == [0, 0] and len(set(seen.passed.tolist())) == 2
    np.testing.assert_allclose(seen.elapsed, [5.5 / 24, 17.5 / 24])
    gauge = observations(read_values(path), SET.errors, SET, 19844, 9.0)
    np.testing.assert_allclose(gauge.elapsed, [20.5 / 24, 1.0])


def test_frames_of_one_overpass_share_their_error(write):
    path = write("site,date,sm\na,2024-05-01T05:30:00Z,0.2\nb,2024-05-01T05:30:25Z,0.3\n")
    seen = observations(read_values(path), SET.errors, SET, 19844, 24.0)
    assert len(set(seen.passed.tolist())) == 1


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("site,date,vh_db\na,2024-05-01,-12\n", "no column sm or wetness"),
        ("site,date,sm\na,2024-05-01,23\n", "row 2, column sm: 23"),
        ("site,date,wetness\na,2024-05-01,23\n", "column wetness: 23"),
        ("site,date,sm\na,2024-05-01,wet\n", "row 2, column sm: wet"),
        ("site,date,sm\n,2024-05-01,0.2\n", "row 2, column site"),
        ("site,date,sm,flags\na,2024-05-01,0.2,odd\n", "row 2, column flags: unknown flag 'odd'"),
        ("date,sm\n2024-05-01,0.2\n", "no column 'site'"),
        ("site,date,sm\n", "no rows"),
        ("site,date,sm,sm_upper\na,2024-05-01,0.2,30\n", "column sm_upper: 30.* in percent"),
        ("site,date,wetness\na,2024-05-01,20\n", "column wetness: 20.* divide by 100"),
        ("site,date,sm,radar_weight\na,2024-05-01,0.2,0.5\n", "has daily values already"),
        (
            "site,date,sm,wetness\na,2024-05-01,0.2,\na,2024-05-07,,0.4\n",
            "row 3, column wetness: 0.4 is an index, and other rows have sm alone",
        ),
    ],
)
def test_refusals(write, text, what):
    with pytest.raises(DataError, match=what):
        read_values(write(text))


def test_a_table_for_a_model_is_told_apart(write):
    with pytest.raises(NoValues):
        read_values(write("site,date,vh_db\na,2024-05-01,-12\n"))


def test_errors_of_the_interval(write):
    half = 1.6448536 * np.hypot(SET.errors.point, SET.errors.date)
    rows = [
        f"a,2024-05-{d:02d},{sm},{max(sm - half, 0)},{sm + half}" for d, sm in ((1, 0.05), (9, 0.3))
    ]
    values = read_values(write("site,date,sm,sm_lower,sm_upper\n" + "\n".join(rows) + "\n"))
    errors = errors_of_values(values, SET)
    np.testing.assert_allclose(
        [errors.point, errors.date], [SET.errors.point, SET.errors.date], rtol=1e-5
    )
    plain = read_values(write("site,date,sm\na,2024-05-01,0.2\n"))
    assert errors_of_values(plain, SET) == SET.errors


def test_an_index_with_limits_of_some_paddocks_is_read_as_moisture(write):
    """``wetness`` writes the index of all rows, and moisture where it knows the limits."""
    rows = "site,date,wetness,sm\na,2024-05-01,0.5,0.2\nb,2024-05-01,0.5,\n"
    values = read_values(write(rows))
    assert values.quantity == "sm" and np.isnan(values.value[1])


def test_each_pass_has_the_errors_of_its_own_intervals(write):
    """Half widths of 0.1 in the first pass and 0.2 in the second."""
    rows = "a,2024-05-01,0.3,0.2,0.4\nb,2024-05-01,0.3,0.1,0.4\na,2024-05-13,0.3,0.1,0.5\n"
    values = read_values(write("site,date,sm,sm_lower,sm_upper\n" + rows))
    made = observations(values, None, SET, 19844, 24.0)
    half = np.array([0.15, 0.15, 0.2]) / 1.6448536  # the median of 0.1 and 0.2 is 0.15
    share = SET.errors.persistent_share
    own = SET.errors.point**2 / SET.errors.variance
    np.testing.assert_allclose(made.error_var, half**2 * own * (1 - share), rtol=1e-6)
    np.testing.assert_allclose(made.date_var, half**2 * (1 - own), rtol=1e-6)
    np.testing.assert_allclose(made.bias_var, half[:2] ** 2 * own * share, rtol=1e-6)


def test_a_mistyped_year_is_left_out_with_a_note(write):
    values = read_values(write("site,date,sm\na,2024-05-01,0.2\na,2094-05-13,0.3\n"))
    assert values.day.tolist() == [19844] and any("2094" in note for note in values.notes)


def test_shrunk_values_are_stretched_about_their_mean_so_far():
    """A slope of 1/2 doubles the swing, and the variance of an error around the truth."""
    rows = [(0, 0, 0.2), (1, 0, 0.3), (0, 6, 0.1), (1, 6, 0.25)]
    shrunk = PassErrors(0.06, 0.04, 0.2, slope=0.5)
    made = observations(values_of(rows), shrunk, SET, FIRST, 24.0)
    middle = [0.25, 0.25, 0.2125, 0.2125]
    expected = [m + 2 * (z - m) for m, (_, _, z) in zip(middle, rows, strict=True)]
    assert made.value == pytest.approx(expected)
    assert made.error_var == pytest.approx(2 * 0.06**2 * 0.8)
    assert made.date_var == pytest.approx(2 * 0.04**2)
    assert made.bias_var == pytest.approx(2 * 0.06**2 * 0.2)
    # what later passes are does not change the earlier
    first = observations(values_of(rows[:2]), shrunk, SET, FIRST, 24.0)
    assert first.value.tolist() == made.value[:2].tolist()


def test_correlated_errors_count_as_more_variance():
    """Many AR(1) errors average like independent ones of (1 + r) / (1 - r) times the variance."""
    rows = [(0, 0, 0.2), (1, 0, 0.3)]
    made = observations(
        values_of(rows), PassErrors(0.06, 0.04, 0.2, correlation=0.5), SET, FIRST, 24.0
    )
    r = 0.5 ** np.abs(np.subtract.outer(np.arange(4000), np.arange(4000)))
    assert made.date_var == pytest.approx(0.04**2 * r.mean() * 4000, rel=1e-3)
    assert made.error_var == pytest.approx(0.06**2 * 0.8 * 3)
    assert made.bias_var == pytest.approx(0.06**2 * 0.2)


def test_errors_of_the_index_come_from_its_card(write):
    """Its variances are in index units; 1 is a full bucket, or the distance of the limits."""
    card, stated = wetness_model().card, PassDeviations()
    variances = {name: card.error_variances[name] for name in ("date", "field", "point")}
    date, point = variances["date"] ** 0.5, (variances["field"] + variances["point"]) ** 0.5
    index = read_values(write("site,date,wetness\na,2024-05-01,0.5\n"))
    made = errors_of_model(card, index, SET, stated)
    assert (made.date, made.point) == pytest.approx(
        (date * SET.bucket.span, point * SET.bucket.span)
    )
    text = "site,date,wetness,sm,sm_dry,sm_wet\na,2024-05-01,0.5,0.2,0.1,0.3\n"
    moisture = read_values(write(text))
    made = errors_of_model(card, moisture, SET, stated)
    assert (made.date, made.point) == pytest.approx((date * 0.2, point * 0.2))
    other = read_values(write("site,date,sm\na,2024-05-01,0.2\n"))
    assert [is_of_index(values) for values in (index, moisture, other)] == [True, True, False]
    with pytest.raises(UsageError, match="has soil moisture, and --model retrieves wetness index"):
        errors_of_model(card, other, SET, stated)
    trained = replace(card, quantity="sm", error_variances=None)
    with pytest.raises(UsageError, match="has wetness index, and --model retrieves soil moisture"):
        errors_of_model(trained, index, SET, stated)


def test_errors_of_a_card():
    probes = {"date": 0.0016, "field": 0.002, "point": 0.0005}
    made = errors_of_card(probes, "sm", SET, validation={"r": 0.7})
    assert (made.date, made.point) == pytest.approx((0.04, 0.05))
    assert made.slope == pytest.approx(0.49) and made.correlation == PASS_CORRELATION
    assert made.persistent_share == SET.errors.persistent_share
    for r in (None, 0.05, -0.3, float("nan")):
        assert errors_of_card(probes, "sm", SET, validation={"r": r}).slope == 1
    assert errors_of_card(None, "sm", SET, validation={"r": 0.7}) is None
    index = errors_of_card(probes, "wetness", SET, PassDeviations(point=0.1), {"r": 0.7})
    assert index.point == pytest.approx(0.1 * SET.bucket.span)
    assert index.date == pytest.approx(0.04 * SET.bucket.span)
