"""The gateway's figures, each from a real process on this machine: one command prints them.

    PYTHONPATH=tests python benchmarks/gateway.py [--seconds 60] [--interruptions 200]

Needs mosquitto and the extras [gateway], [train] and [test] (for the made models). The broker,
the subscriber and the HTTP clients run beside the gateway and share the machine with it.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from interruptions import interrupted
from made_brokers import Broker, Listener
from made_gateways import DAY, columns_of, drop, made_gateway, made_model
from running import Running

from kgsm_infer.gateway.records import iso
from kgsm_infer.gateway.service.loop import BUNCH_S
from kgsm_infer.gateway.store.database import Store

PADDOCKS = 1000
#: Variances of a made model's card, by which probes are weighed.
SPREAD = {"date": 0.004, "field": 0.002, "point": 0.001}


def status(pid: int, key: str) -> int:
    """A number of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    """Resident memory (VmHWM: its peak), MB."""
    return status(pid, key) * 1024 / 1e6


def switches(pid: int) -> int:
    """Context switches of all threads: a wake-up is at least one."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def figure(what: str, found: str, asked: str) -> None:
    print(f"{what:<58} {found:>22}   {asked}", flush=True)


def time_to_ready(source: Path) -> tuple[float, float]:
    """Seconds from starting the command until it tells systemd it is ready, and of CPU till then.

    On a machine with other work the second says what a quiet one would take.
    """
    with tempfile.TemporaryDirectory() as folder:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        channel.bind(f"{folder}/notify")
        began = time.monotonic()
        with Running(
            "watch", source, env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"}
        ) as run:
            channel.settimeout(60)
            channel.recv(100)
            took = time.monotonic() - began
            fields = Path(f"/proc/{run.process.pid}/stat").read_text().rpartition(")")[2].split()
            cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
            run.stop()
        channel.close()
    return took, cpu


def tell_ready(what: str, source: Path) -> None:
    runs = [time_to_ready(source) for _ in range(7)]
    wall, cpu = (statistics.median(some) for some in zip(*runs, strict=True))
    figure(f"ready, median of 7, {what}", f"{wall:.2f} s, CPU {cpu:.2f} s", "<= .5 s")


def arrivals(gateway: Any, watched: Running, listener: Listener, days: range) -> list[float]:
    """Seconds from closing a file of 1,000 paddocks until the last of its records is read."""
    took = []
    for day in days:
        before = len(listener.of("/record"))
        columns = columns_of(day, paddocks=PADDOCKS)
        began = time.monotonic()
        drop(gateway, columns, f"{day}.csv")
        began = time.monotonic()
        listener.until(lambda seen, n=before: len(seen.of("/record")) >= n + PADDOCKS, 60)
        took.append(time.monotonic() - began)
    return took


def probed(gateway: Any, listener: Listener, days: range) -> list[float]:
    """Seconds from sending a reading until the last of its pass's new revisions is read."""
    took = []
    for day in days:
        acquired = 1704067200 + day * DAY
        with Store(gateway.database, read_only=True) as store:
            of_day = [v for v in store.current(since=acquired).values() if v.acquired == acquired]
        more = sum(value.sm is not None for value in of_day)
        before = len(listener.of("/record"))
        reading = json.dumps({"at": iso(acquired + 3600), "sm": 0.4})
        began = time.monotonic()
        listener.client.publish("kgsm/farm/probe/p7", reading, qos=1)
        listener.until(lambda seen, n=before + more: len(seen.of("/record")) >= n, 60)
        took.append(time.monotonic() - began)
    return took


def requests(port: int, path: str, seconds: float, connections: int = 8) -> tuple[float, float]:
    """Requests a second and the 99th percentile, ms, of keep-alive clients in a closed loop."""
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    chooser, took = selectors.DefaultSelector(), []
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(ask)
        chooser.register(client, selectors.EVENT_READ, [time.perf_counter(), b""])
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        for key, _ in chooser.select(1):
            key.data[1] += key.fileobj.recv(65536)
            head, found, body = key.data[1].partition(b"\r\n\r\n")
            if not found:
                continue
            size = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
            if len(body) < size:
                continue
            assert head.startswith(b"HTTP/1.1 200"), head
            now = time.perf_counter()
            took.append(now - key.data[0])
            key.data[:] = [now, b""]
            key.fileobj.sendall(ask)
    for key in list(chooser.get_map().values()):
        key.fileobj.close()
    return len(took) / seconds, 1000 * statistics.quantiles(took, n=100)[98]


def dribbled(port: int, count: int = 300) -> tuple[int, float, int, int]:
    """Clients cut, the longest that lasted, and how many of whose asked meanwhile were served."""
    begins = (
        b"GET / HT",
        b"POST /v1/probes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 900\r\n\r\n{",
    )
    clients = {}
    for at in range(count):
        client = socket.create_connection(("127.0.0.1", port))
        client.sendall(begins[at % 2])
        client.setblocking(False)
        clients[client] = time.monotonic()
    cut, longest, served, asked = 0, 0.0, 0, 0
    end = time.monotonic() + 15
    while clients and time.monotonic() < end:
        for client, began in list(clients.items()):
            try:
                client.send(b"x")
                gone = client.recv(4096) == b""
            except BlockingIOError:
                gone = False
            except OSError:
                gone = True
            if gone:
                cut, longest = cut + 1, max(longest, time.monotonic() - began)
                client.close()
                del clients[client]
        asked += 1
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            served += answer.status == 200
        time.sleep(0.2)
    return cut, longest, served, asked


def abused(port: int, seconds: float) -> dict[str, int]:
    """Oversize, malformed and traversing requests for a while; the answers by status."""
    bad = [
        b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"GET /%2e%2e%2fgateway.toml HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
        b"POST /v1/retrieve HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/csv\r\n"
        b"Content-Length: 99999999\r\n\r\n" + b"x" * 2000,
        b"POST /v1/probes HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Content-Length: 3\r\nConnection: close\r\n\r\n{{{",
        b"\x00\xff\x16\x03" * 100,
        b"GET /v1/latest HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
    ]
    answers: dict[str, int] = {}
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            try:
                client.sendall(random.choice(bad))
                said = client.recv(4096)
            except OSError:
                said = b""
        code = said[9:12].decode("latin-1") or "closed"
        answers[code] = answers.get(code, 0) + 1
    return answers


def in_thread(work: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    found: list[Any] = []
    thread = threading.Thread(target=lambda: found.append(work()))
    thread.start()
    return thread, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0, help="of idling and of abuse")
    parser.add_argument("--interruptions", type=int, default=200)
    given = parser.parse_args()
    print(f"{os.cpu_count()} processors, load before the start {os.getloadavg()[0]:.1f}")
    with a_broker() as (folder, broker):
        measured(folder, broker, given.seconds)
    if given.interruptions:
        # a broker of its own: it keeps what the other farm of this name told
        with a_broker() as (folder, broker):
            survived(folder / "interrupted", broker, given.interruptions)


@contextmanager
def a_broker() -> Iterator[tuple[Path, Broker]]:
    """A folder, and in it a broker that remembers nothing."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "broker").mkdir()
        broker = Broker(Path(place) / "broker")
        broker.start()
        try:
            yield Path(place), broker
        finally:
            broker.kill()


def measured(folder: Path, broker: Broker, seconds: float) -> None:
    model = made_model(folder / "m", steps=8, hidden=32, probes=SPREAD)
    text = broker.toml + "probes = true\n[serve]\nport = 0\n"
    gateway = made_gateway(folder / "g", text, paddocks=PADDOCKS, model=model)
    tell_ready("empty store", gateway.source)
    listener = Listener(broker)
    with Running("watch", gateway.source) as watched:
        pid = watched.process.pid
        port = int(watched.until("serving")["url"].rstrip("/").rpartition(":")[2])
        watched.until("states_published")
        took = arrivals(gateway, watched, listener, range(0, 60, 6))
        figure("file closed -> published, 1,000 paddocks, median of 10",
               f"{statistics.median(took):.2f} s", "<= 1 s")  # fmt: skip
        figure("  the slowest of them", f"{max(took):.2f} s", "")
        took = probed(gateway, listener, range(0, 60, 6))
        figure("a probe's reading -> its pass published, median of 10",
               f"{statistics.median(took):.2f} s", f"of it {BUNCH_S} s to gather")  # fmt: skip
        figure("  the slowest of them", f"{max(took):.2f} s", "")
        figure("working, peak memory", f"{memory_mb(pid, 'VmHWM'):.0f} MB", "<= 120 MB")
        rate, p99 = requests(port, "/v1/latest?paddock=p7", 8)
        figure("requests, one paddock", f"{rate:.0f}/s, p99 {p99:.1f} ms", ">= 2,000/s, <= 20 ms")
        rate, p99 = requests(port, "/v1/history?paddock=p7", 5)
        figure("requests, a history", f"{rate:.0f}/s, p99 {p99:.1f} ms", "")
        cut, longest, served, asked = dribbled(port)
        figure("dribbling clients cut", f"{cut} of 300, {longest:.1f} s", "300 within 10 s")
        figure("  others served meanwhile", f"{served} of {asked}", "all")
        thread, answers = in_thread(lambda: abused(port, seconds))
        time.sleep(min(10.0, seconds / 6))
        first = memory_mb(pid)
        thread.join()
        figure("bad requests", " ".join(f"{k}: {v}" for k, v in answers[0].items()), "no 200, 5xx")
        figure("memory under them, first and last",
               f"{first:.1f}, {memory_mb(pid):.1f} MB", "flat")  # fmt: skip
        time.sleep(8)
        watched.stop()
    tell_ready("10,000 values stored", gateway.source)
    listener.close()
    with Running("watch", gateway.source) as watched:
        pid = watched.process.pid
        watched.until("states_published")
        time.sleep(65)  # the first backup is over
        before, began = switches(pid), time.monotonic()
        time.sleep(seconds)
        rate = (switches(pid) - before) / (time.monotonic() - began)
        figure("idle, wake-ups (broker connected, serving)", f"{rate:.2f}/s", "<= .5/s")
        figure("idle, memory", f"{memory_mb(pid):.0f} MB", "<= 80 MB")
        watched.stop()
    farm = made_gateway(folder / "page", "[serve]\nport = 0\n", paddocks=174, model=model)
    for day in (0, 6, 12):
        drop(farm, columns_of(day, paddocks=174), f"{day}.csv")
    with Running("watch", farm.source) as watched:
        url = watched.until("serving")["url"]
        for _ in range(3):
            watched.until("stored")
        parts = [
            urllib.request.urlopen(
                urllib.request.Request(url + name, headers={"Accept-Encoding": "gzip"})
            ).read()
            for name in ("", "page.css", "page.js")
        ]
        assert all(gzip.decompress(part) for part in parts)
        figure("page of 174 paddocks, compressed", f"{sum(map(len, parts)) / 1000:.1f} kB",
               "<= 30 kB")  # fmt: skip
        watched.stop()


def survived(folder: Path, broker: Broker, count: int) -> None:
    folder.mkdir()
    outcome = interrupted(
        folder, broker, Listener, count, seed=7, say=lambda text: print(text, file=sys.stderr)
    )
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(outcome.kinds.items()))
    figure(f"interruptions in {outcome.seconds:.0f} s", str(count), kinds)
    figure("  acquisitions lost or doubled", str(len(outcome.lost)), f"of {outcome.acquisitions}")
    figure("  values unlike the calm run's", str(len(outcome.different)), "0")
    figure("  told, not stored", str(len(outcome.told_not_stored)), "0")
    figure("  stored, not told", str(len(outcome.stored_not_told)), "0")
    figure("  one key, two contents", str(len(outcome.two_faces)), "0")


if __name__ == "__main__":
    main()
