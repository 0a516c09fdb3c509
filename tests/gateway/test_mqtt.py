"""Against a real Mosquitto, TLS and password: what is stored is told, and told again."""

from __future__ import annotations

import json
import socket
import threading
import urllib.request
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from made_brokers import Listener
from made_gateways import (
    Events,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    stored,
    write_outlines,
)
from running import PATIENCE_S, Running, wait_for

from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.publish.mqtt import MqttPublisher
from kgsm_infer.gateway.service import loop
from kgsm_infer.gateway.store.daily_rows import Alert, alerts, progress, put_alerts
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.threads import Task

SCHEMA = json.loads(
    (Path(__file__).parent / "schemas" / "home_assistant_device.json").read_text("utf-8")
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return made_model(tmp_path_factory.mktemp("model"))


def keys_of(messages):
    return [(r["paddock"], r["acquired_at"], r["orbit"], r["revision"]) for r in
            (json.loads(payload) for _, payload, _ in messages)]  # fmt: skip


def outbox_of(gateway) -> int:
    """Messages that are stored and not yet acknowledged by the broker."""
    with Store(gateway.database) as store:
        return store.counts()["outbox"]


def test_what_is_stored_is_told_and_the_state_is_the_newest(tmp_path, model, broker, listener):
    gateway = made_gateway(tmp_path, broker.toml, paddocks=4, model=model)
    with Running("watch", gateway.source) as watched:
        watched.until("broker_connected")
        for day in (0, 12, 6):  # the last one is late
            drop(gateway, columns_of(day), f"{day}.csv")
            watched.until("stored")
        listener.until(lambda seen: len(seen.of("/record")) >= 4 + 4 + 8)
        # a state that is past before it was told need not be told; the last one must
        last = {(f"p{at}", "2024-01-13T00:00:00Z", "", 2) for at in range(4)}
        listener.until(lambda seen: last <= set(keys_of(seen.of("/state"))))
        wait_for(lambda: outbox_of(gateway) == 0)
        assert watched.stop() == 0
        assert broker.password not in watched.text
    listener.until(lambda seen: seen.of("/status")[-1][1] == b"offline")
    records = listener.of("/record")
    with Store(gateway.database) as store:
        told = set(keys_of(records))
        known = {
            (v.paddock, v.acquired, v.revision)
            for p in ("p0", "p1", "p2", "p3")
            for v in store.series(p, revisions=True)
        }
        assert len(told) == len(known)
        assert store.counts()["outbox"] == 0
    by_key = {}
    for messages in (records, listener.of("/state")):
        for key, (_, payload, _) in zip(keys_of(messages), messages, strict=True):
            assert by_key.setdefault(key, payload) == payload  # equal keys, equal bytes
    # the late pass is told as a record, never as a state
    assert "2024-01-07T00:00:00Z" not in {key[1] for key in keys_of(listener.of("/state"))}
    assert "2024-01-07T00:00:00Z" in {key[1] for key in keys_of(records)}


def test_home_assistant_finds_a_device_per_paddock(tmp_path, model, broker, listener):
    gateway = made_gateway(tmp_path, broker.toml, paddocks=3, model=model)
    columns = columns_of(0, paddocks=3)
    columns["vh_db"][1] = ""
    drop(gateway, columns, "a.csv")
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        listener.until(lambda seen: len(seen.of("/config")) >= 4 and len(seen.of("/state")) >= 3)
        first = len(listener.of("/config"))
        listener.client.publish("homeassistant/status", b"online", qos=1)
        listener.until(lambda seen: len(seen.of("/config")) == 2 * first)
        watched.stop()
    configs = {topic: json.loads(payload) for topic, payload, _ in listener.of("/config")}
    paddock = configs["homeassistant/device/kgsm_farm_p1/config"]
    assert paddock["device"]["via_device"] == "kgsm_farm"
    hub = configs["homeassistant/device/kgsm_farm/config"]
    assert hub["device"]["identifiers"] == ["kgsm_farm"]
    moisture = paddock["components"]["moisture"]
    assert (moisture["device_class"], moisture["unit_of_measurement"]) == ("moisture", "%")
    states = {topic: json.loads(payload) for topic, payload, _ in listener.of("/state")}
    state = states[paddock["state_topic"]]
    assert state["sm"] is None and state["sm_percent"] is None  # missing input: never NaN
    other = states[configs["homeassistant/device/kgsm_farm_p0/config"]["state_topic"]]
    assert other["sm_percent"] == pytest.approx(100 * other["sm"], abs=0.006)
    assert {"acquired_at", "sm_lower_percent", "sm_upper_percent"} <= set(other)
    every = [item["unique_id"] for config in configs.values()
             for item in config["components"].values()]  # fmt: skip
    assert len(set(every)) == len(every) == 6 + 2 * 3


def test_a_broker_that_forgot_everything_is_told_again(tmp_path, model, broker):
    gateway = made_gateway(tmp_path, broker.toml, paddocks=4, model=model)
    with Running("watch", gateway.source) as watched:
        watched.until("broker_connected")
        drop(gateway, columns_of(0), "a.csv")
        watched.until("stored")
        wait_for(lambda: outbox_of(gateway) == 0)
        broker.kill()
        watched.until("broker_lost")
        drop(gateway, columns_of(6), "b.csv")  # no broker: it is stored and waits
        watched.until("stored")
        broker.start()
        watched.until("broker_connected")
        listener = Listener(broker)
        try:
            listener.until(lambda seen: len(seen.of("/state")) >= 4)
            listener.until(lambda seen: len(seen.of("/config")) >= 5)
            states = keys_of(listener.of("/state"))
        finally:
            listener.close()
        assert {key[1] for key in states} == {"2024-01-07T00:00:00Z"}
        wait_for(lambda: outbox_of(gateway) == 0)
        watched.stop()


def test_the_last_will_says_offline(tmp_path, model, broker, listener):
    gateway = made_gateway(tmp_path, broker.toml, model=model)
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        listener.until(lambda seen: seen.of("/status") and seen.of("/status")[-1][1] == b"online")
        watched.kill()
        listener.until(lambda seen: seen.of("/status")[-1][1] == b"offline")


def test_a_wrong_password_is_said_and_the_watch_goes_on(tmp_path, model, broker):
    gateway = made_gateway(tmp_path, broker.toml, model=model)
    (broker.folder / "password").write_text("not the farm's")
    with Running("watch", gateway.source) as watched:
        assert "refuses" in watched.until("broker_lost")["reason"]
        drop(gateway, columns_of(0), "a.csv")
        watched.until("stored")
        watched.stop()
        assert "not the farm's" not in watched.text
    assert len(stored(gateway)) == 4


def test_once_tells_before_it_ends(tmp_path, model, broker, listener, monkeypatch):
    monkeypatch.setattr(loop, "PUBLISH_S", PATIENCE_S)
    gateway = made_gateway(tmp_path, broker.toml, model=model)
    drop(gateway, columns_of(0), "a.csv")
    assert not loop.watch(gateway, once=True, log=Events())
    listener.until(lambda seen: len(seen.of("/record")) == 4)


def test_probes_by_mqtt_stand_beside_the_value(tmp_path, model, broker, listener):
    gateway = made_gateway(tmp_path, broker.toml + "probes = true\n", paddocks=4, model=model)
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        send = listener.client.publish
        send("kgsm/farm/probe/p1", json.dumps({"sm": 0.31, "at": "2024-01-01T04:00:00Z"}), qos=1)
        send("kgsm/farm/probe/p2", json.dumps({"sm": 31, "at": "2024-01-01T04:00:00Z"}), qos=1)
        send("kgsm/farm/probe/elsewhere", b"\xff", qos=1)
        refused = [watched.until("probe_refused") for _ in range(2)]
        assert [event["topic"].rpartition("/")[2] for event in refused] == ["p2", "elsewhere"]
        assert "in percent?" in refused[0]["reason"]
        watched.stop()
    with Store(gateway.database) as store:
        assert [row[0] for row in store.probes()] == ["p1"]


def test_rain_by_mqtt_and_today_in_home_assistant(tmp_path, model, broker, listener):
    limits = "wilting_point = 0.5\nfield_capacity = 0.95\nroot_depth_mm = 400\n"  # all are below
    text = f"{broker.toml}[weather]\nmqtt = true\n[daily]\n{limits}refill_percent = 50\n"
    gateway = made_gateway(tmp_path, text, paddocks=2, model=model)
    drop(gateway, columns_of(12, paddocks=2), "12.csv")
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        listener.until(lambda seen: len(seen.of("/daily")) == 2)
        first = {topic: json.loads(payload) for topic, payload, _ in listener.of("/daily")}
        assert all(one["date"] == "2024-01-13" for one in first.values())  # the data end there
        assert all("rain_missing" in one["flags"] for one in first.values())
        send = listener.client.publish
        send("kgsm/farm/rain/p1", b'{"date": "2024-01-13", "rain_mm": -3}', qos=1)
        watched.until("rain_refused")
        days = np.arange("2023-01-01", "2024-01-14", dtype="datetime64[D]")  # 16 kB
        rain = [{"date": str(day), "rain_mm": 9.0} for day in days]
        send("kgsm/farm/rain", json.dumps({"rain": rain}), qos=1)
        watched.until("rain_stored")
        send("kgsm/farm/rain/p1", json.dumps({"date": "2024-01-13", "rain_mm": 40.0}), qos=1)
        watched.until("rain_stored")

        def last(seen):
            return {topic: json.loads(payload) for topic, payload, _ in seen.of("/daily")}

        listener.until(
            lambda seen: (
                last(seen)["kgsm/farm/paddock/p1/daily"]["rain_mm"] == 40.0
                and last(seen)["kgsm/farm/paddock/p0/daily"]["rain_mm"] == 9.0
            )
        )
        with Store(gateway.database) as store, store.transaction():  # as a later day would
            put_alerts(store, [Alert("p0", store_today(store), 0.2, 0.25, 1)], [])
        send("kgsm/farm/rain", json.dumps({"date": "2024-01-13", "rain_mm": 8.0}), qos=1)
        listener.until(lambda seen: len(seen.of("/event")) == 1)
        wait_for(lambda: not unsent_alerts(gateway))
        send("kgsm/farm/rain", json.dumps({"date": "2024-01-13", "rain_mm": 7.0}), qos=1)
        listener.until(lambda seen: last(seen)["kgsm/farm/paddock/p0/daily"]["rain_mm"] == 7.0)
        send("kgsm/farm/irrigation/p1", json.dumps({"date": "2024-01-13", "mm": 12.5}), qos=1)
        watched.until("irrigation_stored")
        listener.until(
            lambda seen: last(seen)["kgsm/farm/paddock/p1/daily"].get("irrigation_mm") == 12.5
        )
        assert "irrigation_mm" not in last(listener)["kgsm/farm/paddock/p0/daily"]
        watched.stop()
    (event,) = listener.of("/event")
    assert event[0] == "kgsm/farm/paddock/p0/event"
    assert json.loads(event[1])["event_type"] == "below_threshold"
    configs = {topic: json.loads(payload) for topic, payload, _ in listener.of("/config")}
    components = configs["homeassistant/device/kgsm_farm_p1/config"]["components"]
    assert {"today", "available", "refill", "days_left", "threshold"} <= set(components)
    assert components["threshold"]["event_types"] == ["below_threshold"]
    for config in configs.values():
        jsonschema.validate(config, SCHEMA)


def store_today(store):
    return progress(store).today


def unsent_alerts(gateway):
    with Store(gateway.database, read_only=True) as store:
        return alerts(store, unsent=True)


def test_paddocks_that_appear_later_are_announced_and_removed_ones_withdrawn(
    tmp_path, model, broker, listener
):
    gateway = made_gateway(tmp_path, broker.toml, model=model)
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        drop(gateway, columns_of(0, paddocks=2), "a.csv")
        watched.until("stored")
        listener.until(
            lambda seen: any("farm_p1/config" in topic for topic, *_ in seen.of("/config"))
        )
        listener.until(lambda seen: seen.of("/health"))
        watched.stop()
    assert json.loads(listener.of("/health")[-1][1])["problem"] is False
    # p1 leaves the farm
    write_outlines(tmp_path / "paddocks.geojson", 1)
    text = gateway.source.read_text() + '\n[paddocks]\noutlines = "paddocks.geojson"\n'
    gateway.source.write_text(text)
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        for end in ("farm_p1/config", "p1/state"):
            listener.until(lambda seen, end=end: seen.of(end) and seen.of(end)[-1][1] == b"")
        watched.stop()
    assert listener.of("farm_p0/config")[-1][1] != b""


def test_two_gateways_of_one_name_are_noticed(tmp_path, model, broker, listener):
    first, second = (
        made_gateway(tmp_path / name, broker.toml, paddocks=2, model=model) for name in "ab"
    )
    with Running("watch", first.source) as one:
        one.until("states_published")
        wait_for(lambda: listener.of("/farm/health"), lambda: one.text)
        with Running("watch", second.source) as other:
            wait_for(lambda: "same_name" in one.text, lambda: one.text + other.text)
            other.stop()
        url = one.until("serving")["url"]

        def reason():  # of a thread, which goes on after it has logged the event
            with urllib.request.urlopen(f"{url}health", timeout=PATIENCE_S) as answer:
                health = json.loads(answer.read())
            return health["broker"]["reason"] if health["status"] == "degraded" else ""

        wait_for(lambda: "another gateway 'farm'" in reason(), lambda: one.text)
        one.stop()
    # one that takes the place of another, and one that starts again, are alone
    for gateway in (second, second):
        listener.catch_up()
        listener.messages.clear()
        with Running("watch", gateway.source) as alone:
            alone.until("states_published")
            listener.until(lambda seen: seen.of("/farm/health"))
            alone.stop()
        assert "same_name" not in alone.text


def test_the_id_of_another_instance_is_noticed_without_mqtt_5(tmp_path, model):
    gateway = made_gateway(tmp_path, '[mqtt]\nhost = "127.0.0.1"\ntls = false\n', model=model)
    gateway.state.mkdir()
    log = Events()
    made = MqttPublisher(gateway, load_paddocks(gateway), log, lambda: None)
    own, other = (json.dumps({"instance": name}).encode() for name in (made._instance, "b"))
    again = MqttPublisher(gateway, load_paddocks(gateway), log, lambda: None)
    assert again._instance == made._instance  # the state folder keeps it
    made._check_instance(other)  # of a gateway whose place this one takes
    made._held = True
    for message in (own, b"{}", b"[1]", b"\xff", b'{"instance": 7}', b"[" * 9000):
        made._check_instance(message)
    assert not log.named("same_name")
    made._check_instance(other)
    made._check_instance(other)
    assert len(log.named("same_name")) == 1
    assert "another gateway" in made._same_name()


@pytest.mark.parametrize("knows_5", [True, False])
def test_mqtt_3_is_tried_only_where_mqtt_5_never_worked(tmp_path, model, knows_5):
    """A broker that ends one connection early may be starting; MQTT 3 hides denied messages."""
    protocols = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            for accepts in (knows_5, False, False):
                connection, _ = server.accept()
                with connection:
                    head = connection.recv(4096)  # CONNECT: the name MQTT, then its level
                    protocols.append(head[head.index(b"MQTT") + 4])
                    if accepts:
                        connection.sendall(bytes([0x20, 3, 0, 0, 0]))  # CONNACK: success
                        connection.recv(4096)  # what the gateway sends then

        broker = threading.Thread(target=answer, daemon=True)
        broker.start()
        port = server.getsockname()[1]
        settings = f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\ntls = false\n'
        gateway = made_gateway(tmp_path, settings, model=model)
        scanned(gateway)
        made = MqttPublisher(gateway, load_paddocks(gateway), Events(), lambda: None)
        task = Task("mqtt", made.publish, Events())
        for _ in range(3):
            assert made.publish(task) is not None
        broker.join(PATIENCE_S)
    assert protocols == ([5, 5, 5] if knows_5 else [5, 4, 5])


class Message:
    """A message as paho gives it."""

    def __init__(self, topic, payload, retain=False):
        self.topic, self.payload, self.retain = f"kgsm/farm/{topic}", payload, retain


@pytest.mark.parametrize(
    ("topic", "payload", "why"),
    [
        ("probe/p1", b'{"sm":0.2,"at":"2024-01-01","paddock":"p2"}', "names another"),
        ("probe/p1", b"null", "expected a JSON object"),
        ("probe/p1", b"[1]", "expected a JSON object"),
        ("probe/p1", b"", "not JSON"),
        ("probe/p1", b'{"sm":NaN,"at":"2024-01-01"}', "NaN is not a JSON number"),
        ("rain/p1", b'{"date":"2024-01-01","rain_mm":1,"paddock":"p2"}', "names another"),
        ("rain/p1", b"[1]", "expected a JSON object"),
        ("rain", b'{"date":"2062-01-01","rain_mm":1}', "days ahead"),
        ("rain", b'{"rain":7}', "expected a list"),
        ("rain/p1", b'{"rain":7}', "expected a list"),
        ("rain/", b'{"date":"2024-01-01","rain_mm":1}', "paddock"),
        ("irrigation", b'{"date":"2024-01-01","mm":1}', "paddock"),
        ("irrigation/", b'{"date":"2024-01-01","mm":1}', "paddock"),
        ("irrigation/p1", b'{"date":"2024-01-01","mm":NaN}', "NaN is not a JSON number"),
        ("irrigation/p1", b'{"date":"2024-01-01","mm":true}', "mm"),
        ("irrigation/p1", b'{"date":"2024-01-01","mm":1}' + b" " * 1_000_000, "at most"),
        ("irrigation/p9", b'{"date":"2024-01-01","mm":1}', "no paddock 'p9'"),
        ("irrigation/p1", b'{"date":"2024-01-01","mm":-1}', "mm"),
        ("irrigation/p1", b'{"date":"2062-01-01","mm":1}', "days ahead"),
        ("irrigation/p1", b'{"date":"2024-01-01","mm":1,"paddock":"p2"}', "names another"),
    ],
)
def test_a_wrong_message_is_refused_with_its_reason(tmp_path, model, topic, payload, why):
    gateway = made_gateway(
        tmp_path, '[mqtt]\nhost = "127.0.0.1"\ntls = false\n', paddocks=3, model=model
    )
    gateway.spool.mkdir()
    gateway.state.mkdir()
    Store(gateway.database).close()
    log = Events()
    made = MqttPublisher(gateway, load_paddocks(gateway), log, lambda: None)
    made._on_message(None, None, Message(topic, payload))
    (refused,) = [event for event in log if event["event"].endswith("_refused")]
    assert why in refused["reason"]
    assert not list(gateway.spool.iterdir())
    with Store(gateway.database) as store:
        assert store.probes() == []
    made._on_message(
        None, None, Message("probe/p1", b'{"sm":0.2,"at":"2024-01-01","paddock":"p1"}')
    )
    with Store(gateway.database) as store:
        assert [reading.paddock for reading in store.probes()] == ["p1"]


@pytest.mark.parametrize(("kind", "column"), [("rain", "rain_mm"), ("irrigation", "mm")])
def test_a_retained_message_does_not_undo_its_correction(tmp_path, model, kind, column):
    """A broker sends it again at each connection."""
    settings = '[mqtt]\nhost = "127.0.0.1"\ntls = false\n[daily]\n'
    gateway = made_gateway(tmp_path, settings, paddocks=3, model=model)
    scanned(gateway)
    log = Events()
    made = MqttPublisher(gateway, load_paddocks(gateway), log, lambda: None)

    def receive(mm, retain):
        content = json.dumps({"date": "2024-01-03", column: mm}).encode()
        made._on_message(None, None, Message(f"{kind}/p1", content, retain))
        scanned(gateway)
        with Store(gateway.database) as store:
            (found,) = store.db.execute(f"SELECT {column} FROM {kind}").fetchall()
        return found[0]

    assert receive(20.0, retain=True) == 20.0
    assert receive(0.0, retain=False) == 0.0
    assert receive(20.0, retain=True) == 0.0
    assert receive(20.0, retain=False) == 20.0
    assert not log
