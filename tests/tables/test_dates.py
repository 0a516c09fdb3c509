"""Dates against the standard library's own reading, and what is no date."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kgsm_infer.tables.dates import is_day_only, states_zone, utc_seconds, wall_clock, why_no_date

moments = st.datetimes(datetime(1901, 1, 1), datetime(2099, 12, 31))  # noqa: DTZ001  clocks follow
zones = st.none() | st.integers(-15 * 60 + 1, 15 * 60 - 1)


@given(moments, zones, st.sampled_from(["T", " "]), st.booleans(), st.booleans())
def test_iso_dates_of_every_form_are_read_as_the_library_reads_them(
    moment, zone, between, basic, short
):
    moment = moment.replace(microsecond=0, second=0 if short else moment.second)
    form = ("%Y%m%d%%%H%M" if basic else "%Y-%m-%d%%%H:%M").replace("%%%", f"{between}%")
    text = moment.strftime(form + ("" if short else "%S" if basic else ":%S"))
    if zone is not None:
        sign, minutes = "-" if zone < 0 else "+", abs(zone)
        text += f"{sign}{minutes // 60:02d}" + (":" if not basic else "") + f"{minutes % 60:02d}"
    clock = UTC if zone is None else timezone(timedelta(minutes=zone))
    expected = moment.replace(tzinfo=clock).timestamp()
    if zone is not None and not 1900 <= moment.year <= 2100:
        return
    assert utc_seconds(text) == expected
    assert states_zone(text) == (zone is not None)
    assert wall_clock(text) == moment.replace(tzinfo=UTC).timestamp()


@given(st.text(max_size=30) | st.from_regex(r"\d{4}-?\d\d-?\d\d([T ]\d\d:?\d\d)?", fullmatch=True))
def test_no_text_ends_in_anything_but_a_date_or_a_reason(text):
    if utc_seconds(text) is None:
        assert why_no_date(text).startswith(("is ", "empty; "))
    else:
        assert isinstance(utc_seconds(text), int)


@pytest.mark.parametrize(
    "text",
    ["2022-6-1", "2022-02-30", "2022-06-10T24:00", "2022-06-10T23:60", "2022-06-10T1", "2022-0610",
     "2022-06-10T05:30+16", "1899-12-31", "2101-01-01", "\u0662022-06-10", "2022-06-10Z"],
)  # fmt: skip
def test_these_are_no_dates(text):
    assert utc_seconds(text) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2022-06-10T05:30+00", 1654839000), ("20220610T053000Z", 1654839000),
     ("2022-06-10 05:30:00.123+00:00", 1654839000), ("2022-06-10 05:30:00 +0000", 1654839000)],
)  # fmt: skip
def test_these_are(text, seconds):
    assert utc_seconds(text) == seconds


def test_a_midnight_among_hours_is_a_time_and_a_series_of_midnights_is_not():
    hours = [f"2022-06-10T{hour:02d}:00" for hour in range(4)]
    days = [f"2022-06-{day:02d}T00:00:00" for day in range(1, 5)]
    site = np.array(["hourly"] * 4 + ["daily"] * 4)
    assert is_day_only([*hours, *days], site).tolist() == [False] * 4 + [True] * 4
    assert is_day_only(hours[:1], site[:1]).tolist() == [True]
