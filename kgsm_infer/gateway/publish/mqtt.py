"""Publish to an MQTT broker: each stored record, and the present state of every paddock.

    TOPIC/NAME/status                 online or offline (the last will), retained
    TOPIC/NAME/paddock/ID/state       the present record, retained
    TOPIC/NAME/paddock/ID/record      every record once stored, revisions too
    TOPIC/NAME/paddock/ID/daily       today's value, retained
    TOPIC/NAME/paddock/ID/event       the paddock went below its threshold
    TOPIC/NAME/health                 health of the gateway, retained
    TOPIC/NAME/probe/ID               readings of probes, subscribed to if [mqtt] probes is true
    TOPIC/NAME/rain, …/rain/ID        rain, subscribed to if [weather] mqtt is true
    TOPIC/NAME/irrigation, …/ID       irrigation, as rain
    homeassistant/device/…/config     discovery (homeassistant.py)

A message leaves the outbox when the broker acknowledged it. MQTT 5 brokers say in it whether they
accepted the message; of one that the access rules deny, MQTT 3.1.1 brokers say nothing.
Two gateways of one name have one client id, so the broker ends the connection of one when the other
connects. MQTT 5 states the reason. The retained health has the id of the instance that sent it
(``state/instance``): one that finds another id there after its own was acknowledged is not alone.
A broker may forget what it acknowledged: killed, Mosquitto kept 50 of 1,051 acknowledged retained
values. So present states and discovery are sent again at every connect, and when Home Assistant
reports its start.
"""

from __future__ import annotations

import json
import select
import ssl
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ...base.errors import DataError, KgsmError, MissingError
from ...base.files import write_whole
from ...base.schema import parse_json
from ..config import Gateway
from ..farm import Paddocks
from ..health import Process, health_of
from ..intake.irrigation_files import write_irrigation
from ..intake.probe_readings import readings_of
from ..intake.rain_files import write_rain
from ..intake.tables import TableRules
from ..keys import paddock_key, slug
from ..log import Log
from ..records import record_bytes
from ..store.daily_rows import alerts, daily_between, days_left, mark_alert_sent, progress
from ..store.database import Store
from ..store.reader import StoreReader
from ..store.rows import Value
from ..threads import Backoff, Task
from ..update.models import quantities_of
from . import homeassistant

KEEP_ALIVE_S = 240
CONNECT_S = 10.0
#: Records sent and not acknowledged at a time.
IN_FLIGHT = 200
#: Largest message of a probe, and of rain or irrigation (10,000 days), bytes.
MOST_BYTES, MOST_WATER_BYTES = 10_000, 1_000_000
#: Kinds of water that are read, by the name of their topic, and the functions that write them.
WATER: Mapping[str, Callable[[Any, TableRules, Path, Callable[[str], bool] | None], int]] = {
    "rain": write_rain,
    "irrigation": write_irrigation,
}
#: Seconds after which messages that the broker denied are sent again.
DENIED_S = 300.0
#: Seconds for which a second gateway of the same name is reported after it was noticed.
SAME_NAME_S = 600.0
#: Reason code of MQTT 5: another client of the same id has connected.
TAKEN_OVER = 142
#: Seconds between looks at the health of the gateway, if nothing is stored.
HEALTH_S = 60.0


class MqttPublisher:
    """Publish to a broker over a connection that is kept.

    probed: called after a reading of a probe was stored.  status: of the process, for its health.
    """

    name = "mqtt"
    waits_event = "broker_lost"

    def __init__(
        self,
        gateway: Gateway,
        paddocks: Paddocks,
        log: Log,
        probed: Callable[[], None],
        status: Callable[[], Process] = Process,
    ) -> None:
        try:
            import paho.mqtt.client
        except ImportError:
            raise MissingError("[mqtt] needs paho-mqtt: pip install 'kgsm[gateway]'") from None
        self._paho = paho.mqtt.client
        assert gateway.mqtt is not None
        self._gateway, self._mqtt = gateway, gateway.mqtt
        self._paddocks, self._log, self._probed = paddocks, log, probed
        self._status = status
        self._task: Task | None = None
        self.backoff = Backoff()
        self._root = homeassistant.topics(self._mqtt, gateway.name)
        self._status_topic = homeassistant.status_topic(self._mqtt, gateway.name)
        self._version = self._paho.MQTTv5
        self._knows_5 = False  # the broker has accepted a connection of MQTT 5
        self._instance = _instance_of(gateway.state)
        self._held = False  # the broker has acknowledged health of this instance
        self._same_name_until: float | None = None
        self._begin()
        try:
            self._tls()
        except MissingError as error:
            log("certificate_unusable", reason=str(error))

    def _begin(self) -> None:
        """Forget the connection before."""
        # a new one for this thread: SQLite's connections belong to the thread that opened them
        self._reader = StoreReader(self._gateway.database)
        self._all_due = False  # all present states and discovery
        self._connected = False
        self._refused = ""
        self._health = b""  # as sent last
        self._health_due = 0.0
        self._all_sent = False
        self._days_sent = False
        self._announced: set[str] = set()
        self._denied: dict[str, str] = {}  # kind of message -> the broker's reason
        self._denied_at = 0.0
        self._topics: dict[int, str] = {}  # of all messages not acknowledged, by message id
        self._flying: dict[int, int] = {}  # outbox ids of those that have one
        self._acked: list[int] = []
        self._days: dict[str, bytes] = {}  # as sent last
        self._parts: dict[str, frozenset[str]] = {}  # of the daily values, as announced
        self._events: dict[int, str] = {}  # paddocks of events not acknowledged, by message id
        self._events_acked: list[str] = []
        self._last = 0  # the newest outbox id sent in this connection
        self._more = True  # the outbox may hold more than was sent

    def publish(self, task: Task) -> str | None:
        """Keep a connection and publish over it until it ends; returns why it did."""
        self._begin()
        self._task = task
        client = self._client()
        task.expect(3 * CONNECT_S + 60)
        try:
            client.connect(self._mqtt.host, self._mqtt.port, KEEP_ALIVE_S)
            reason = self._while_connected(client, task)
            if self._same_name():
                return self._same_name()
            # perhaps the broker does not know MQTT 5; without it a denied message looks accepted
            if not (self._connected or self._refused or self._knows_5):
                paho = self._paho
                self._version = paho.MQTTv311 if self._version == paho.MQTTv5 else paho.MQTTv5
            return reason
        finally:
            with suppress(Exception):
                client.disconnect()
            self._reader.close()

    def _tls(self) -> ssl.SSLContext | None:
        """Return the TLS settings; MissingError if the certificate file cannot be used."""
        if not self._mqtt.tls:
            return None
        ca_file = self._mqtt.ca_file
        try:
            return ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        except (OSError, ssl.SSLError) as error:
            why = error.strerror or str(error)
            raise MissingError(f"mqtt.ca_file: {ca_file} is not a certificate ({why})") from None

    def _client(self) -> Any:
        """Create a client for one connection, which sends nothing of an earlier one again."""
        mqtt, paho = self._mqtt, self._paho
        clean = {} if self._version == paho.MQTTv5 else {"clean_session": True}
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2,
            client_id=f"kgsm-{self._gateway.name}",
            protocol=self._version,
            **clean,
        )
        client.connect_timeout = CONNECT_S
        client.max_inflight_messages_set(IN_FLIGHT)
        if mqtt.username is not None:
            client.username_pw_set(mqtt.username, mqtt.password)
        context = self._tls()
        if context is not None:
            client.tls_set_context(context)
        client.will_set(self._status_topic, b"offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_publish = self._on_publish
        client.on_disconnect = self._on_disconnect
        client.on_message = self._on_message
        return client

    def _while_connected(self, client: Any, task: Task) -> str:  # noqa: C901  one event after another
        """Read, write and publish until the connection ends; returns why it did."""
        paho = self._paho
        offline_until: float | None = None
        while True:
            channel = client.socket()
            if channel is None:
                return self._refused or "the connection ended"
            buffered = getattr(channel, "pending", lambda: 0)() > 0
            # an idle connection wakes once in a while for its keep-alive, a stop waits for acks
            wait_s = 0.0 if buffered else KEEP_ALIVE_S * 0.4 if offline_until is None else 0.2
            writable = [channel] if client.want_write() else []
            task.expect(wait_s + 120)
            try:
                ready = select.select([channel, task.signal], writable, [], wait_s)
            except (OSError, ValueError):
                return "the connection ended"
            results = [client.loop_misc()]
            if channel in ready[0] or buffered:
                results.append(client.loop_read())
            if ready[1]:
                results.append(client.loop_write())
            woken = task.signal.clear()
            if any(code != paho.MQTT_ERR_SUCCESS for code in results):
                return self._refused or paho.error_string(max(results))
            if self._refused:
                return self._refused
            if self._connected:
                if self._all_due:
                    self._all_due = False
                    self._publish_all(client)
                self._settle()
                self._retry_denied()
                if woken or (self._more and len(self._flying) < IN_FLIGHT // 2):
                    self._publish_new(client)
                if woken or not self._days_sent:
                    self._days_sent = True
                    self._publish_days(client)
                if woken or time.monotonic() >= self._health_due:
                    self._health_due = time.monotonic() + HEALTH_S
                    self._publish_health(client)
                task.failures = 0
                task.reason = self._same_name() or self._denial()
            if task.stopping:
                if offline_until is None:
                    self._send(client, self._status_topic, b"offline", retain=True)
                    offline_until = time.monotonic() + 2.0
                elif not self._topics or time.monotonic() > offline_until:
                    self._settle(all_of_them=True)
                    client.disconnect()
                    client.loop_write()
                    return "stopped"

    def _send(
        self, client: Any, topic: str, content: bytes, *, retain: bool, entry: int | None = None
    ) -> None:
        sent = client.publish(topic, content, qos=1, retain=retain)
        self._topics[sent.mid] = topic
        if entry is not None:
            self._flying[sent.mid] = entry

    # -- events ----------------------------------------------------------------------------

    def _on_connect(self, client: Any, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            if self._version == self._paho.MQTTv5 and "version" in str(code).lower():
                self._version, self._knows_5 = self._paho.MQTTv311, False
            self._refused = f"the broker refuses ({code})"
            return
        self._connected = True
        self._knows_5 = self._version == self._paho.MQTTv5
        self._send(client, self._status_topic, b"online", retain=True)
        topics = [f"{self._mqtt.discovery}/status"] if self._mqtt.discovery is not None else []
        topics += [f"{self._root}/probe/+"] if self._mqtt.probes else []
        if self._gateway.weather.mqtt:
            for kind in WATER:
                topics += [f"{self._root}/{kind}", f"{self._root}/{kind}/+"]
        health = homeassistant.health_topic(self._mqtt, self._gateway.name)
        client.subscribe([(topic, 1) for topic in (health, *topics)])
        self._log("broker_connected", host=self._mqtt.host, tls=self._mqtt.tls)

    def _on_subscribe(self, _: Any, __: Any, ___: Any, codes: Any, ____: Any) -> None:
        self._all_due = True
        for code in codes[1:]:  # without its own health it works as well
            if code.is_failure:
                self._log("subscription_refused", reason=str(code))

    def _on_disconnect(self, _: Any, __: Any, ___: Any, code: Any, ____: Any) -> None:
        if getattr(code, "value", None) == TAKEN_OVER:
            self._notice_same_name()

    def _on_publish(self, _: Any, __: Any, message: int, code: Any, ___: Any) -> None:
        entry, topic = self._flying.pop(message, None), self._topics.pop(message, "")
        event = self._events.pop(message, None)
        if code is not None and code.is_failure:
            self._deny(topic, str(code))
            return
        if self._task is not None:
            self._task.facts["acknowledged_at"] = round(time.time())
        self._held |= topic == homeassistant.health_topic(self._mqtt, self._gateway.name)
        if entry is not None:
            self._acked.append(entry)
        if event is not None:
            self._events_acked.append(event)

    def _deny(self, topic: str, why: str) -> None:
        """Keep a message that the broker denied, and log the first of its kind."""
        kind = topic.rpartition("/")[2]
        if kind not in self._denied:
            self._log("publish_refused", topic=topic, reason=why)
        self._denied[kind] = why
        self._denied_at = self._denied_at or time.monotonic()

    def _denial(self) -> str:
        if not self._denied:
            return ""
        kinds = ", ".join(sorted(self._denied))
        return f"the broker denies messages ({kinds}): {next(iter(self._denied.values()))}"

    def _notice_same_name(self) -> None:
        if not self._same_name():
            self._log("same_name", reason=self._same_name_reason)
        self._same_name_until = time.monotonic() + SAME_NAME_S

    @property
    def _same_name_reason(self) -> str:
        name = self._gateway.name
        return f"another gateway {name!r} uses this broker; give each its own name"

    def _same_name(self) -> str:
        """Return the reason while another gateway of this name is there, else ""."""
        if self._same_name_until is None or time.monotonic() > self._same_name_until:
            return ""
        return self._same_name_reason

    def _check_instance(self, content: bytes) -> None:
        """Notice another gateway's health under this one's name."""
        with suppress(KgsmError, ValueError):
            found = parse_json(content)
            other = found.get("instance") if isinstance(found, dict) else None
            if isinstance(other, str) and other not in ("", self._instance) and self._held:
                self._notice_same_name()

    def _retry_denied(self) -> None:
        if self._denied and time.monotonic() - self._denied_at > DENIED_S and not self._flying:
            self._denied, self._denied_at, self._last, self._all_due = {}, 0.0, 0, True
            self._days, self._days_sent, self._more = {}, False, True

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        try:
            self._receive(message)
        except Exception as error:  # noqa: BLE001  no message may end the connection
            reason = str(error) if isinstance(error, KgsmError) else repr(error)
            kind = message.topic.removeprefix(f"{self._root}/").partition("/")[0]
            self._log(f"{kind}_refused", topic=message.topic[:200], reason=reason[:200])

    def _receive(self, message: Any) -> None:
        if self._mqtt.discovery and message.topic == f"{self._mqtt.discovery}/status":
            self._all_due = self._all_due or message.payload == b"online"
            return
        if message.topic == homeassistant.health_topic(self._mqtt, self._gateway.name):
            self._check_instance(message.payload[:MOST_BYTES])
            return
        kind, slash, sender = message.topic.removeprefix(f"{self._root}/").partition("/")
        if kind in WATER:
            self._receive_water(kind, sender if slash else None, message)
            return
        reading = self._of_paddock(sender, _content(message, MOST_BYTES))
        readings = readings_of({"readings": [reading]}, self._paddocks)
        with Store(self._gateway.database) as store:
            store.put_probes(readings)
        self._probed()

    def _of_paddock(self, sender: str, content: Any) -> dict[str, Any]:
        """Add the paddock that a topic names; DataError where the message names another."""
        if not isinstance(content, dict):
            raise DataError("expected a JSON object with named values")
        known = {slug(name): name for name in self._names()}
        paddock = known.get(sender, sender)
        if "paddock" in content and paddock_key(content["paddock"]) != paddock:
            raise DataError(f"the topic is of paddock {paddock!r}, the message names another")
        return {**content, "paddock": paddock}

    def _receive_water(self, kind: str, sender: str | None, message: Any) -> None:
        """Write rain or irrigation of a message into the spool.

        A message has one day, or several in a list under the name of its kind. sender: paddock of
        the topic, None without. A broker sends retained messages again at each connection; one that
        arrived before does not count again, since a correction may have followed it.
        """
        raw = _content(message, MOST_WATER_BYTES)
        days = raw[kind] if isinstance(raw, dict) and kind in raw else [raw]
        if not isinstance(days, list):
            raise DataError(f"{kind}: expected a list of days")
        if sender is not None:
            days = [self._of_paddock(sender, day) for day in days]
        rules = TableRules(self._paddocks, self._gateway.columns)
        is_known = self._has_arrived if message.retain else None
        WATER[kind]({kind: days}, rules, self._gateway.spool, is_known)

    def _has_arrived(self, digest: str) -> bool:
        store = self._reader.store()
        return store is not None and bool(store.sequences_of(digest))

    # -- messages --------------------------------------------------------------------------

    def _stored(self) -> list[Value]:
        """Return the present values of the paddocks of the farm."""
        store = self._reader.store()
        values = [] if store is None else store.latest()
        return [value for value in values if self._paddocks.known(value.paddock)]

    def _names(self) -> dict[str, str]:
        """Return every paddock of the farm and the name people use."""
        known = {value.paddock: value.paddock for value in self._stored()}
        return {**known, **self._paddocks.titles}

    def _publish_all(self, client: Any) -> None:
        """Send discovery and the present state of every paddock, retained."""
        self._all_sent = True
        self._withdraw(client)
        self._announce(client, self._names())
        values = self._stored()
        for value in values:
            self._publish_state(client, value)
        self._log("states_published", states=len(values))

    def _announce(self, client: Any, names: Mapping[str, str]) -> None:
        """Send the discovery messages of the gateway and of these paddocks."""
        self._announced |= set(names)
        gateway = self._gateway
        quantities = quantities_of(self._reader.store(), gateway, names)
        devices = {
            name: homeassistant.PaddockDevice(title, quantities[name], self._parts.get(name, ()))
            for name, title in names.items()
        }
        expire_after_s = int(gateway.page.stale_days * 86400)
        for topic, content in homeassistant.discovery(
            self._mqtt, gateway.name, gateway.title, devices, expire_after_s
        ):
            self._send(client, topic, content, retain=True)
        self._remember({*self._announced})

    @property
    def _memory(self) -> Path:
        """The file of the paddocks that were announced to the broker."""
        return self._gateway.state / "announced.json"

    def _remember(self, paddocks: Iterable[str]) -> None:
        with suppress(OSError, KgsmError), write_whole(self._memory) as file:
            file.write(json.dumps(sorted(paddocks)))

    def _withdraw(self, client: Any) -> None:
        """Remove the devices and states of paddocks that left the farm from the broker."""
        announced: set[str] = set()
        with suppress(OSError, ValueError, TypeError):
            announced = {str(name) for name in json.loads(self._memory.read_bytes())}
        store = self._reader.store()
        announced |= {value.paddock for value in ([] if store is None else store.latest())}
        names = self._names()
        kept = {slug(name) for name in names}
        for paddock in sorted(announced - set(names)):
            if slug(paddock) in kept:
                continue
            if self._mqtt.discovery is not None:
                topic = homeassistant.config_topic(self._mqtt, self._gateway.name, paddock)
                self._send(client, topic, b"", retain=True)
            for topic_of in (homeassistant.state_topic, homeassistant.daily_topic):
                topic = topic_of(self._mqtt, self._gateway.name, paddock)
                self._send(client, topic, b"", retain=True)

    def _publish_health(self, client: Any) -> None:
        """Send the health of the gateway if it changed."""
        newest = max((value.acquired for value in self._stored()), default=None)
        health = health_of(self._gateway, self._reader.store(), newest, self._status())
        message = homeassistant.health_message(health, self._instance)
        if message != self._health:
            self._health = message
            topic = homeassistant.health_topic(self._mqtt, self._gateway.name)
            self._send(client, topic, message, retain=True)

    def _publish_state(self, client: Any, value: Value) -> None:
        topic = homeassistant.state_topic(self._mqtt, self._gateway.name, value.paddock)
        self._send(client, topic, record_bytes(value), retain=True)

    def _publish_new(self, client: Any) -> None:
        """Send queued records, and the state of a paddock where a record is its newest."""
        store = self._reader.store()
        if store is None:
            return
        room = max(0, IN_FLIGHT - len(self._flying))
        entries = store.unsent(self.name, room, after=self._last)
        self._more = len(entries) == room
        latest: dict[str, Value] = {}
        if entries:
            latest = {value.paddock: value for value in store.latest()}
        for entry, _, value in entries:
            topic = f"{self._root}/paddock/{slug(value.paddock)}/record"
            self._send(client, topic, record_bytes(value), retain=False, entry=entry)
            self._last = entry
            if latest.get(value.paddock) == value and self._paddocks.known(value.paddock):
                if self._all_sent and value.paddock not in self._announced:
                    self._announce(client, self._names())
                self._publish_state(client, value)

    def _publish_days(self, client: Any) -> None:
        """Send the values of today that changed, and crossings of thresholds."""
        store = self._reader.store()
        today = None if store is None else progress(store).today
        if store is None or today is None:
            return
        left, name = days_left(store), self._gateway.name
        values = {
            paddock: value
            for (paddock, _), value in daily_between(store, today, today).items()
            if self._paddocks.known(paddock)
        }
        parts = {paddock: homeassistant.daily_parts(value) for paddock, value in values.items()}
        if parts != self._parts:
            self._parts = parts
            self._announce(client, self._names())
        for paddock, value in values.items():
            message = homeassistant.daily_message(value, left.get(paddock))
            if self._days.get(paddock) != message:
                self._days[paddock] = message
                topic = homeassistant.daily_topic(self._mqtt, name, paddock)
                self._send(client, topic, message, retain=True)
        waiting = {*self._events.values(), *self._events_acked}
        for alert in alerts(store, unsent=True):
            if alert.paddock in waiting:
                continue
            if alert.day < today - 1 or not self._paddocks.known(alert.paddock):
                self._events_acked.append(alert.paddock)  # too old to be news
                continue
            topic = homeassistant.event_topic(self._mqtt, name, alert.paddock)
            content = homeassistant.crossing_message(alert)
            sent = client.publish(topic, content, qos=1, retain=False)
            self._topics[sent.mid] = topic
            self._events[sent.mid] = alert.paddock

    def _settle(self, *, all_of_them: bool = False) -> None:
        """Remove acknowledged messages from the outbox, many in one transaction."""
        enough = all_of_them or not self._flying or len(self._acked) >= IN_FLIGHT // 2
        if self._events_acked:
            with Store(self._gateway.database) as store:
                mark_alert_sent(store, self._events_acked)
            self._events_acked = []
        if self._acked and enough:
            with Store(self._gateway.database) as store:
                store.mark_sent(self._acked)
            self._acked = []


def _instance_of(state: Path) -> str:
    """Return the id of this gateway, which its state folder keeps; a new one each time if not."""
    path = state / "instance"
    with suppress(OSError, UnicodeDecodeError):
        if found := path.read_text().strip()[:64]:
            return found
    made = uuid.uuid4().hex
    with suppress(OSError, KgsmError), write_whole(path) as file:
        file.write(made)
    return made


def _content(message: Any, most: int) -> Any:
    """Read a message as JSON; DataError for another one, or of more than ``most`` bytes."""
    if len(message.payload) > most:
        raise DataError(f"message of {len(message.payload)} bytes; send at most {most}")
    try:
        return parse_json(message.payload)
    except ValueError as error:
        raise DataError(f"not JSON ({error})") from None
