"""Against a stand-in that keeps what farmOS's Basic data stream keeps: every POST."""

from __future__ import annotations

import pytest
from made_gateways import columns_of, drop, made_gateway, made_model
from running import Running, wait_for

from kgsm_infer.gateway.store.database import Store


@pytest.fixture
def gateway(tmp_path, streams):
    streams.keys = {"uuid-0": "key-0", "uuid-1": "key-1"}
    (tmp_path / "keys.toml").write_text('p0 = "key-0"\np1 = "key-1"\n')
    return made_gateway(
        tmp_path,
        f'[farmos]\nurl = "http://127.0.0.1:{streams.server_port}/api/data_stream/{{stream}}/data"\n'
        'keys_file = "keys.toml"\n[farmos.streams]\np0 = "uuid-0"\np1 = "uuid-1"\n'
        "[serve]\nport = 0\n",
        model=made_model(tmp_path / "m"),
    )


def wait_until_sent(watched, gateway):
    def sent():
        with Store(gateway.database) as store:
            return not store.unsent_counts()

    wait_for(sent, lambda: watched.text)


def test_each_value_reaches_its_stream_once(gateway, streams):
    with Running("watch", gateway.source) as watched:
        watched.until("ready")
        for day in (0, 6):
            columns = columns_of(day)
            columns["vh_db"][1] = "" if day else columns["vh_db"][1]
            drop(gateway, columns, f"{day}.csv")
            watched.until("stored")
        wait_until_sent(watched, gateway)
        watched.stop()
        assert "key-0" not in watched.text
    assert [item["timestamp"] for item in streams.kept["uuid-0"]] == [1704067200, 1704585600]
    assert len(streams.kept["uuid-1"]) == 1  # no number is not a number
    with Store(gateway.database) as store:
        assert streams.kept["uuid-0"][1]["soil moisture"] == pytest.approx(
            100 * store.latest_of("p0").sm, abs=0.006
        )


def test_each_day_reaches_its_stream_once_it_has_ended(tmp_path, streams):
    streams.keys = {"uuid-0": "key-0", "day-0": "key-d"}
    (tmp_path / "keys.toml").write_text('p0 = "key-0"\n')
    (tmp_path / "daily.toml").write_text('p0 = "key-d"\n')
    gateway = made_gateway(
        tmp_path,
        f'[farmos]\nurl = "http://127.0.0.1:{streams.server_port}/api/data_stream/{{stream}}/data"\n'
        'keys_file = "keys.toml"\ndaily_keys_file = "daily.toml"\n'
        '[farmos.streams]\np0 = "uuid-0"\n[farmos.daily_streams]\np0 = "day-0"\n'
        "[daily]\n[serve]\nport = 0\n",
        model=made_model(tmp_path / "m"),
    )

    def rain(dates, mm):
        drop(gateway, {"date": dates, "rain_mm": mm}, f"rain-{dates[-1]}-{mm[-1]}.csv")

    drop(gateway, columns_of(12), "12.csv")
    with Running("watch", gateway.source) as watched:  # the data end with the 13th: it is today
        watched.until("days_updated")
        wait_until_sent(watched, gateway)
        rain(["2024-01-14", "2024-01-15"], [2.0, 0.0])  # today is the 15th
        wait_for(lambda: len(streams.kept.get("day-0", [])) == 2, lambda: watched.text)
        rain(["2024-01-14"], [30.0])  # a revision of a day that was posted
        wait_for(lambda: len(streams.kept["day-0"]) == 3, lambda: watched.text)
        wait_until_sent(watched, gateway)
        watched.stop()
    kept = streams.kept["day-0"]
    ends = [1704067200 + day * 86400 - 1 for day in (13, 14, 14)]  # of the 13th and the 14th
    assert [item["timestamp"] for item in kept] == ends
    assert kept[1]["daily soil moisture"] < kept[2]["daily soil moisture"]
    assert len(streams.kept["uuid-0"]) == 1


def test_a_lost_answer_is_not_posted_twice(gateway, streams):
    streams.fail_after_keeping = 1
    drop(gateway, columns_of(0), "a.csv")
    with Running("watch", gateway.source) as watched:
        watched.until("farmos_waits")
        watched.stop()
    with Running("watch", gateway.source) as watched:  # it asks first what was tried
        wait_until_sent(watched, gateway)
        watched.stop()
    assert [len(kept) for kept in streams.kept.values()] == [1, 1]


def test_a_farmos_that_is_down_is_waited_for(gateway, streams):
    streams.down = True
    drop(gateway, columns_of(0), "a.csv")
    with Running("watch", gateway.source) as watched:
        assert "503" in watched.until("farmos_waits")["reason"]
        watched.stop()
        assert "key-0" not in watched.text
    streams.down = False
    with Running("watch", gateway.source) as watched:
        wait_until_sent(watched, gateway)
        watched.stop()
    assert set(streams.kept) == {"uuid-0", "uuid-1"}
