"""MQTT: what is stored goes to the broker, and all of the present state at every connect.

    TOPIC/NAME/status                 online or offline (the last will), retained
    TOPIC/NAME/paddock/ID/state       the present record, retained
    TOPIC/NAME/paddock/ID/record      every record once stored, revisions too
    TOPIC/NAME/probe/ID               readings, read from here where [mqtt] probes is true
    homeassistant/device/…/config     discovery (homeassistant.py)

A broker's acknowledgement does not mean that it will remember: killed, Mosquitto kept 50 of 1,051
acknowledged retained values. So an outbox entry is done at the acknowledgement, but retained
state and discovery are sent again at every connect and when Home Assistant says it started.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from ...base.errors import KgsmError, MissingError
from ...base.schema import parse_json
from ..config import Gateway
from ..farm import Paddocks
from ..keys import slug
from ..log import Log
from ..records import record_bytes
from ..store.database import Store
from ..store.failures import StoreBroken
from ..store.reader import StoreReader
from ..store.rows import Value
from ..update.models import quantities_of
from . import homeassistant

KEEP_ALIVE_S = 240
#: Records sent and not acknowledged at a time.
IN_FLIGHT = 200
FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 300.0


class MqttTeller:
    """The broker's side, in a thread of its own; it sleeps until there is something to do.

    broken: called where the database is damaged.  probed: called after a reading was stored.
    """

    def __init__(
        self,
        gateway: Gateway,
        paddocks: Paddocks,
        log: Log,
        broken: Callable[[], None],
        probed: Callable[[], None],
    ) -> None:
        try:
            import paho.mqtt.client
        except ImportError:
            raise MissingError("[mqtt] needs paho-mqtt: pip install 'kgsm[gateway]'") from None
        self._paho = paho.mqtt.client
        assert gateway.mqtt is not None
        self._gateway, self._mqtt = gateway, gateway.mqtt
        self._paddocks, self._log, self._broken, self._probed = paddocks, log, broken, probed
        self._root = homeassistant.topics(self._mqtt, gateway.name)
        self._reader = StoreReader(gateway.database)
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        self._stopping = False
        self._again = False  # all of the state and discovery
        self._connected = False
        self._refused = ""
        self._flying: dict[int, int] = {}  # message id -> outbox id
        self._acked: list[int] = []
        self._last = 0  # the newest outbox id sent in this connection
        self._thread = threading.Thread(target=self._run, name="mqtt", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def wake(self) -> None:
        """Something was stored."""
        with suppress(OSError):  # full: it is awake already
            self._write.send(b"x")

    def close(self) -> None:
        """Say offline, and end."""
        self._stopping = True
        self.wake()
        self._thread.join(10)

    # -- the thread ------------------------------------------------------------------------

    def _run(self) -> None:
        wait_s = FIRST_WAIT_S
        while not self._stopping:
            began = time.monotonic()
            client = self._client()
            try:
                client.connect(self._mqtt.host, self._mqtt.port, KEEP_ALIVE_S)
                reason = self._while_connected(client)
            except (OSError, ValueError) as error:
                reason = str(error) or type(error).__name__
            except StoreBroken as error:
                reason = str(error)
                self._broken()
            except KgsmError as error:
                reason = str(error)
            self._connected = False
            if self._stopping:
                break
            if time.monotonic() - began > 60:
                wait_s = FIRST_WAIT_S
            self._log("broker_lost", host=self._mqtt.host, reason=reason, wait_s=round(wait_s, 1))
            self._sleep(wait_s)
            # no two gateways come back to a broker in step
            wait_s = min(LONGEST_WAIT_S, wait_s * (1.5 + os.urandom(1)[0] / 256))
        self._reader.close()

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stopping and (left := until - time.monotonic()) > 0:
            select.select([self._read], [], [], left)
            self._drained()

    def _drained(self) -> bool:
        """Whether somebody woke us."""
        if not select.select([self._read], [], [], 0)[0]:
            return False
        self._read.recv(4096)
        return True

    def _client(self) -> Any:
        """A client for one connection: nothing of an earlier one is sent again by itself."""
        mqtt, paho = self._mqtt, self._paho
        client = paho.Client(
            paho.CallbackAPIVersion.VERSION2, client_id=f"kgsm-{self._gateway.name}",
            clean_session=True,
        )  # fmt: skip
        client.connect_timeout = 10.0
        client.max_inflight_messages_set(IN_FLIGHT)
        if mqtt.username is not None:
            client.username_pw_set(mqtt.username, mqtt.password)
        if mqtt.tls:
            context = ssl.create_default_context(
                cafile=None if mqtt.ca_file is None else str(mqtt.ca_file)
            )
            client.tls_set_context(context)
        client.will_set(f"{self._root}/status", b"offline", qos=1, retain=True)
        client.on_connect = self._on_connect
        client.on_publish = self._on_publish
        client.on_message = self._on_message
        self._flying, self._acked, self._last, self._refused = {}, [], 0, ""
        return client

    def _while_connected(self, client: Any) -> str:  # noqa: C901  one event of the loop after another
        """Read, write and tell until the connection ends; why it did."""
        paho = self._paho
        offline_until: float | None = None
        while True:
            channel = client.socket()
            if channel is None:
                return self._refused or "the connection ended"
            buffered = getattr(channel, "pending", lambda: 0)() > 0
            # an idle connection wakes once in a while for its keep-alive, a stop waits for acks
            wait = 0.0 if buffered else KEEP_ALIVE_S * 0.4 if offline_until is None else 0.2
            writable = [channel] if client.want_write() else []
            try:
                ready = select.select([channel, self._read], writable, [], wait)
            except (OSError, ValueError):
                return "the connection ended"
            results = [client.loop_misc()]
            if channel in ready[0] or buffered:
                results.append(client.loop_read())
            if ready[1]:
                results.append(client.loop_write())
            woken = self._drained()
            if any(code != paho.MQTT_ERR_SUCCESS for code in results):
                return self._refused or paho.error_string(max(results))
            if self._refused:
                return self._refused
            if self._connected:
                if self._again:
                    self._again = False
                    self._tell_all(client)
                self._settle()
                if woken or not self._last or len(self._flying) < IN_FLIGHT // 2:
                    self._tell_new(client)
            if self._stopping:
                if offline_until is None:
                    client.publish(f"{self._root}/status", b"offline", qos=1, retain=True)
                    offline_until = time.monotonic() + 2.0
                elif not client.want_write() or time.monotonic() > offline_until:
                    self._settle()
                    client.disconnect()
                    client.loop_write()
                    return "stopped"

    def _on_connect(self, client: Any, _: Any, __: Any, code: Any, ___: Any) -> None:
        if code.is_failure:
            self._refused = f"the broker refuses ({code})"
            return
        self._connected = self._again = True
        client.publish(f"{self._root}/status", b"online", qos=1, retain=True)
        if self._mqtt.discovery is not None:
            client.subscribe(f"{self._mqtt.discovery}/status", 1)
        if self._mqtt.probes:
            client.subscribe(f"{self._root}/probe/+", 1)
        self._log("broker_connected", host=self._mqtt.host, tls=self._mqtt.tls)

    def _on_publish(self, _: Any, __: Any, message: int, ___: Any, ____: Any) -> None:
        entry = self._flying.pop(message, None)
        if entry is not None:
            self._acked.append(entry)

    def _on_message(self, _: Any, __: Any, message: Any) -> None:
        if self._mqtt.discovery and message.topic == f"{self._mqtt.discovery}/status":
            self._again = self._again or message.payload == b"online"
            return
        from ..intake.probe_readings import readings_of

        sender = message.topic.removeprefix(f"{self._root}/probe/")
        try:
            raw = parse_json(message.payload[:10_000])
            known = {slug(name): name for name in self._names()}
            one = {"paddock": known.get(sender, sender), **raw}
            readings = readings_of({"readings": [one]}, self._paddocks)
            with Store(self._gateway.database) as store:
                store.put_probes(readings)
            self._probed()
        except (KgsmError, ValueError, TypeError) as error:
            self._log("probe_refused", topic=message.topic, reason=str(error)[:200])

    # -- telling ---------------------------------------------------------------------------

    def _names(self) -> dict[str, str]:
        """Every paddock there is, in the outlines or in the store, and what people call it."""
        store = self._reader.store()
        known = {} if store is None else {value.paddock: value.paddock for value in store.latest()}
        return {**known, **self._paddocks.titles}

    def _tell_all(self, client: Any) -> None:
        """Discovery and the present state of every paddock, retained."""
        count = 0
        names = self._names()
        for topic, content in homeassistant.discovery(
            *(self._mqtt, self._gateway.name, self._gateway.title, names),
            quantities_of(self._reader.store(), self._gateway, names),
        ):
            client.publish(topic, content, qos=1, retain=True)
        store = self._reader.store()
        for value in [] if store is None else store.latest():
            self._tell_state(client, value)
            count += 1
        self._log("told_all", states=count)

    def _tell_state(self, client: Any, value: Value) -> None:
        topic = homeassistant.state_topic(self._mqtt, self._gateway.name, value.paddock)
        client.publish(topic, record_bytes(value), qos=1, retain=True)

    def _tell_new(self, client: Any) -> None:
        """The outbox: each record, and the state of a paddock where it is the newest."""
        store = self._reader.store()
        if store is None:
            return
        room = IN_FLIGHT - len(self._flying)
        entries = store.unsent("mqtt", room, after=self._last)
        latest: dict[str, Value] = {}
        if entries:
            latest = {value.paddock: value for value in store.latest()}
        for entry, _, value in entries:
            topic = f"{self._root}/paddock/{slug(value.paddock)}/record"
            sent = client.publish(topic, record_bytes(value), qos=1)
            self._flying[sent.mid] = entry
            self._last = entry
            if latest.get(value.paddock) == value:
                self._tell_state(client, value)

    def _settle(self) -> None:
        """Entries that were acknowledged leave the outbox, many in one transaction."""
        if self._acked and (not self._flying or len(self._acked) >= IN_FLIGHT // 2):
            with Store(self._gateway.database) as store:
                store.mark_sent(self._acked)
            self._acked = []
