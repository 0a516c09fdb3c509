"""A real broker, a subscriber, and a stand-in for farmOS's data streams."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import paho.mqtt.client as paho

MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Broker:
    """Mosquitto with a TLS listener and a password, of its own file; it can be killed."""

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
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise AssertionError("mosquitto does not listen")

    def kill(self):
        self.process.kill()
        self.process.wait()

    @property
    def toml(self) -> str:
        """The [mqtt] section that reaches it."""
        (self.folder / "password").write_text(self.password)
        return (
            f'[mqtt]\nhost = "localhost"\nport = {self.port}\nusername = "{self.username}"\n'
            f'password_file = "{self.folder / "password"}"\n'
            f'ca_file = "{self.folder / "cert.pem"}"\n'
        )


class Listener:
    """A subscriber that remembers every message."""

    def __init__(self, broker):
        self.messages = []
        self.client = paho.Client(paho.CallbackAPIVersion.VERSION2)
        self.client.username_pw_set(broker.username, broker.password)
        self.client.tls_set_context(ssl.create_default_context(cafile=broker.folder / "cert.pem"))
        self.client.on_message = lambda _, __, message: self.messages.append(
            (message.topic, bytes(message.payload), message.retain)
        )
        self.subscribed = threading.Event()
        self.client.on_subscribe = lambda *_: self.subscribed.set()
        self.client.connect("localhost", broker.port)
        self.client.subscribe("#", 1)
        self.client.loop_start()
        assert self.subscribed.wait(10)

    def of(self, ending):
        return [item for item in list(self.messages) if item[0].endswith(ending)]

    def until(self, what, seconds=15.0):
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            if what(self):
                return
            time.sleep(0.02)
        raise AssertionError(f"not seen; {len(self.messages)} messages: {self.messages[-3:]}")

    def close(self):
        self.client.disconnect()
        self.client.loop_stop()


class Streams(ThreadingHTTPServer):
    """farmOS's data streams as its Basic type keeps them: every POST is kept, by timestamp."""

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
