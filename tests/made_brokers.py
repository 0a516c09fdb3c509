"""Start a Mosquitto broker, a subscriber and a substitute for farmOS's data streams."""

from __future__ import annotations

import json
import random
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as paho
from running import PATIENCE_S, wait_for

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


#: Sockets of :func:`free_port`, open until the process ends.
_claims: list[socket.socket] = []


def listens(port: int) -> bool:
    """Return true where a server of 127.0.0.1 accepts connections on this port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that no socket uses and the system gives to no other.

    A port of ``bind(0)`` comes from the range the system gives to outgoing connections. Between
    two starts of a broker, another test's connection could take it. Ports below 32768 are outside
    that range. On Linux an abstract socket keeps the port from other suites on this machine until
    this process ends.
    """
    for port in random.SystemRandom().sample(range(15000, 32000), 200):
        claim = socket.socket(socket.AF_UNIX)
        with socket.socket() as listener:
            try:
                if sys.platform == "linux":
                    claim.bind(f"\0kgsm-test-port-{port}")
                listener.bind(("127.0.0.1", port))
            except OSError:
                claim.close()
                continue
            _claims.append(claim)
            return port
    raise AssertionError("no free port between 15000 and 32000")


class Broker:
    """Mosquitto with TLS, a password and a folder of its own. Tests may kill and restart it."""

    username, password = "farm", "a secret of the farm"

    def __init__(self, folder):
        self.folder, self.port = folder, free_port()
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2",
             "-keyout", folder / "key.pem", "-out", folder / "cert.pem", "-subj", "/CN=localhost",
             "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"],
            check=True, capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["mosquitto_passwd", "-b", "-c", folder / "passwords", self.username, self.password],
            check=True, capture_output=True,
        )  # fmt: skip
        for name in ("key.pem", "passwords"):
            (folder / name).chmod(0o644)  # mosquitto gives up root
        (folder / "mosquitto.conf").write_text(
            f"listener {self.port} 127.0.0.1\ncertfile {folder / 'cert.pem'}\n"
            f"keyfile {folder / 'key.pem'}\nallow_anonymous false\n"
            f"password_file {folder / 'passwords'}\nuser root\nmax_queued_messages 0\n"
        )
        self.process = None

    def start(self):
        self.process = subprocess.Popen(
            [MOSQUITTO, "-c", self.folder / "mosquitto.conf"], stderr=subprocess.DEVNULL
        )
        wait_for(self._answers, lambda: f"mosquitto does not listen on port {self.port}")

    def _answers(self):
        assert self.process.poll() is None, f"mosquitto ended with {self.process.returncode}"
        return listens(self.port)

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def toml(self) -> str:
        """The [mqtt] section of a gateway that connects to this broker."""
        (self.folder / "password").write_text(self.password)
        return (
            f'[mqtt]\nhost = "localhost"\nport = {self.port}\nusername = "{self.username}"\n'
            f'password_file = "{self.folder / "password"}"\n'
            f'ca_file = "{self.folder / "cert.pem"}"\n'
        )


class Listener:
    """A subscriber that records every message as (topic, payload, retained)."""

    def __init__(self, broker):
        self.messages, self._caught_up = [], set()
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(broker.username, broker.password)
        self.client.tls_set_context(ssl.create_default_context(cafile=broker.folder / "cert.pem"))
        self.client.on_message = self._receive
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.connect("localhost", broker.port)
        self.client.subscribe("#", 1)
        self.client.loop_start()
        assert self.subscribed.wait(PATIENCE_S)

    def _receive(self, _client, _data, message):
        if message.topic.startswith("listener/"):
            self._caught_up.add(message.topic)
        else:
            self.messages.append((message.topic, bytes(message.payload), message.retain))

    def of(self, ending):
        return [item for item in list(self.messages) if item[0].endswith(ending)]

    def until(self, holds, seconds=PATIENCE_S):
        """Wait until ``holds(listener)`` is true."""
        wait_for(
            lambda: holds(self),
            lambda: f"{len(self.messages)} messages: {self.messages[-3:]}",
            seconds,
        )

    def catch_up(self):
        """Wait until every message the broker has accepted so far is in ``messages``.

        The broker keeps the order, so a message sent now arrives after all of them.
        """
        marker = f"listener/{uuid.uuid4().hex}"
        self.client.publish(marker, b"", qos=1)
        self.until(lambda seen: marker in seen._caught_up)

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Streams(ThreadingHTTPServer):
    """farmOS's Basic data streams: every POST is stored under its stream and timestamp."""

    def __init__(self):
        self.kept, self.keys, self.fail_after_keeping, self.down = {}, {}, 0, False
        super().__init__(("127.0.0.1", 0), _Stream)


class _Stream(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def _answer(self, status, body=b""):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self):
        url = urlsplit(self.path)
        asked, stream = parse_qs(url.query), url.path.split("/")[3]
        if self.server.down:
            self._answer(503)
        elif asked.get("private_key") != [self.server.keys.get(stream)]:
            self._answer(403)
        else:
            return stream, asked
        return None, None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        stream, _ = self._stream()
        if stream is None:
            return
        self.server.kept.setdefault(stream, []).append(body)
        if self.server.fail_after_keeping:
            self.server.fail_after_keeping -= 1
            self.close_connection = True  # kept, but the answer is lost
            return
        self._answer(201)

    def do_GET(self):
        stream, asked = self._stream()
        if stream is None:
            return
        low, high = int(asked["start"][0]), int(asked["end"][0])
        found = [
            {"timestamp": item["timestamp"], "soil moisture": item["soil moisture"]}
            for item in self.server.kept.get(stream, [])
            if low <= item["timestamp"] <= high
        ]
        self._answer(200, json.dumps(found).encode())

    def log_message(self, *_):
        pass
