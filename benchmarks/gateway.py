"""Measure the gateway in real processes on this machine and print every figure.

    PYTHONPATH=tests python benchmarks/gateway.py [--seconds 60] [--interruptions 200] [--smoke]

Needs mosquitto and the extras [gateway], [train] and [test] (for the models). The broker, the
subscriber and the HTTP clients share the machine with the gateway. ``--smoke`` takes a few paddocks
and seconds: it shows that the benchmark works, and its figures mean nothing.
"""

from __future__ import annotations

import argparse
import gc
import gzip
import json
import math
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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from interruptions import interrupted
from made_brokers import Broker, Listener
from made_gateways import DAY, columns_of, drop, made_gateway, made_model
from running import PATIENCE_S, Running, wait_for

from kgsm_infer.gateway.farm import load_paddocks
from kgsm_infer.gateway.http.queries import Queries
from kgsm_infer.gateway.intake.archive import move_to_quarantine
from kgsm_infer.gateway.intake.settling import FolderEvents
from kgsm_infer.gateway.records import iso
from kgsm_infer.gateway.service import recovery
from kgsm_infer.gateway.service.loop import BUNCH_S, REST_S
from kgsm_infer.gateway.service.watch import Watch
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.rows import Observed, Sensed
from kgsm_infer.gateway.update.past import fold

#: Variances on the model's card, by which probes are weighted.
SPREAD = {"date": 0.004, "field": 0.002, "point": 0.001}


@dataclass(frozen=True)
class Sizes:
    """Sizes of one run: paddocks, starts, passes, HTTP clients, and durations in seconds."""

    paddocks: int = 1000
    page_paddocks: int = 174
    starts: int = 7
    passes: int = 10
    rain_passes: int = 60
    requests_s: float = 8.0
    dribblers: int = 300
    idle_s: float = 60.0
    backup_s: float = 65.0
    settle_s: float = 8.0
    interruptions: int = 200

    @property
    def days(self) -> range:
        """Days of the passes, six apart."""
        return range(0, 6 * self.passes, 6)


SMOKE = Sizes(
    paddocks=12,
    page_paddocks=12,
    starts=1,
    passes=2,
    rain_passes=4,
    requests_s=0.5,
    dribblers=6,
    idle_s=1.0,
    backup_s=0.0,
    settle_s=0.0,
    interruptions=2,
)


def status(pid: int, key: str) -> int:
    """Return a number of /proc/PID/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1])
    raise KeyError(key)


def memory_mb(pid: int, key: str = "VmRSS") -> float:
    """Return the resident memory (VmHWM: its peak), MB."""
    return status(pid, key) * 1024 / 1e6


def switches(pid: int) -> int:
    """Count the context switches of all threads: a wake-up is at least one."""
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if "ctxt_switches" in line:
                total += int(line.split()[1])
    return total


def figure(what: str, found: str, asked: str) -> None:
    print(f"{what:<58} {found:>22}   {asked}", flush=True)


def spent_s(pid: int) -> float:
    """Return the processor time of a process, s."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def time_to_ready(source: Path) -> tuple[float, float]:
    """Return the wall and CPU seconds from the start until the readiness message to systemd.

    The CPU time is nearly that of a quiet machine, whatever else runs.
    """
    with tempfile.TemporaryDirectory() as folder:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        channel.bind(f"{folder}/notify")
        began = time.monotonic()
        with Running(
            "watch", source, env={**os.environ, "NOTIFY_SOCKET": f"{folder}/notify"}
        ) as run:
            channel.settimeout(PATIENCE_S)
            channel.recv(100)
            took = time.monotonic() - began
            cpu = spent_s(run.process.pid)
            run.stop()
        channel.close()
    return took, cpu


def print_ready(what: str, source: Path, starts: int) -> None:
    runs = [time_to_ready(source) for _ in range(starts)]
    wall, cpu = (statistics.median(some) for some in zip(*runs, strict=True))
    figure(f"ready, median of {starts}, {what}", f"{wall:.2f} s, CPU {cpu:.2f} s", "<= .5 s")


def arrivals(gateway: Any, listener: Listener, sizes: Sizes) -> list[float]:
    """Return the seconds from closing each file until the last of its records is received."""
    took = []
    for day in sizes.days:
        before = len(listener.of("/record"))
        columns = columns_of(day, paddocks=sizes.paddocks)
        drop(gateway, columns, f"{day}.csv")
        began = time.monotonic()
        listener.until(lambda seen, n=before: len(seen.of("/record")) >= n + sizes.paddocks)
        took.append(time.monotonic() - began)
    return took


def probed(gateway: Any, listener: Listener, days: range) -> list[float]:
    """Return the seconds from each probe reading until its pass's last revision is received."""
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
        listener.until(lambda seen, n=before + more: len(seen.of("/record")) >= n)
        took.append(time.monotonic() - began)
    return took


def requests(port: int, path: str, seconds: float, connections: int = 8) -> tuple[float, float]:
    """Return requests per second and their 99th percentile, ms, of keep-alive clients."""
    ask = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    chooser, took = selectors.DefaultSelector(), []
    for _ in range(connections):
        client = socket.create_connection(("127.0.0.1", port))
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(ask)
        chooser.register(client, selectors.EVENT_READ, [time.perf_counter(), b""])
    began = time.perf_counter()
    while time.perf_counter() < began + seconds or len(took) < connections:
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
    elapsed = time.perf_counter() - began
    for key in list(chooser.get_map().values()):
        key.fileobj.close()
    return len(took) / elapsed, 1000 * statistics.quantiles(took, n=100)[98]


@dataclass(frozen=True)
class Dribbled:
    """Slow clients that were cut, the longest of them in seconds, and other requests served."""

    cut: int
    longest_s: float
    served: int
    asked: int


def dribbled(port: int, count: int) -> Dribbled:
    """Open ``count`` clients that send a byte at a time, and ask for /health meanwhile."""
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
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/health", timeout=PATIENCE_S
        ) as answer:
            served += answer.status == 200
        time.sleep(0.2)
    return Dribbled(cut, longest, served, asked)


def abused(port: int, seconds: float) -> dict[str, int]:
    """Send oversize, malformed and traversing requests; count the answers by status."""
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
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as client:
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
    parser.add_argument("--old", action="store_true", help="only the costs of an old store")
    parser.add_argument("--days", action="store_true", help="only the costs of daily values")
    parser.add_argument("--interruptions", type=int, default=200)
    parser.add_argument("--smoke", action="store_true", help="tiny sizes; figures mean nothing")
    options = parser.parse_args()
    sizes = Sizes(idle_s=options.seconds, interruptions=options.interruptions)
    if options.smoke:
        sizes = SMOKE
    print(f"{os.cpu_count()} processors, load before the start {os.getloadavg()[0]:.1f}")
    if not options.days:
        with tempfile.TemporaryDirectory() as place:
            old_store(Path(place), sizes.paddocks, 100 if options.smoke else 1)
    if options.old:
        return
    with a_broker() as (folder, broker):
        rained(folder, broker, sizes)
    if options.days:
        return
    with a_broker() as (folder, broker):
        measured(folder, broker, sizes)
    if sizes.interruptions:
        # a second broker: the first has retained messages of a farm of the same name
        with a_broker() as (folder, broker):
            survived(folder / "interrupted", broker, sizes.interruptions)


@contextmanager
def a_broker() -> Iterator[tuple[Path, Broker]]:
    """Start a broker without retained messages in a temporary folder; yield both."""
    with tempfile.TemporaryDirectory() as place:
        (Path(place) / "broker").mkdir()
        broker = Broker(Path(place) / "broker")
        broker.start()
        try:
            yield Path(place), broker
        finally:
            broker.kill()


def measured(folder: Path, broker: Broker, sizes: Sizes) -> None:
    model = made_model(folder / "m", steps=8, hidden=32, probes=SPREAD)
    text = broker.toml + "probes = true\n[serve]\nport = 0\n"
    gateway = made_gateway(folder / "g", text, paddocks=sizes.paddocks, model=model)
    print_ready("empty store", gateway.source, sizes.starts)
    listener = Listener(broker)
    with Running("watch", gateway.source) as watched:
        pid = watched.process.pid
        port = int(watched.until("serving")["url"].rstrip("/").rpartition(":")[2])
        watched.until("states_published")
        took = arrivals(gateway, listener, sizes)
        figure(f"file closed -> published, {sizes.paddocks:,} paddocks, median of {sizes.passes}",
               f"{statistics.median(took):.2f} s", "<= 1 s")  # fmt: skip
        figure("  the slowest of them", f"{max(took):.2f} s", "")
        took = probed(gateway, listener, sizes.days)
        figure(f"a probe's reading -> its pass published, median of {sizes.passes}",
               f"{statistics.median(took):.2f} s", f"of it {BUNCH_S} s to gather")  # fmt: skip
        figure("  the slowest of them", f"{max(took):.2f} s", "")
        figure("working, peak memory", f"{memory_mb(pid, 'VmHWM'):.0f} MB", "<= 120 MB")
        rate, p99 = requests(port, "/v1/latest?paddock=p7", sizes.requests_s)
        figure("requests, one paddock", f"{rate:.0f}/s, p99 {p99:.1f} ms", ">= 2,000/s, <= 20 ms")
        rate, p99 = requests(port, "/v1/history?paddock=p7", sizes.requests_s * 5 / 8)
        figure("requests, a history", f"{rate:.0f}/s, p99 {p99:.1f} ms", "")
        slow, count = dribbled(port, sizes.dribblers), sizes.dribblers
        figure("dribbling clients cut", f"{slow.cut} of {count}, {slow.longest_s:.1f} s",
               f"{count} within 10 s")  # fmt: skip
        figure("  others served meanwhile", f"{slow.served} of {slow.asked}", "all")
        thread, answers = in_thread(lambda: abused(port, sizes.idle_s))
        time.sleep(min(10.0, sizes.idle_s / 6))
        first = memory_mb(pid)
        thread.join()
        codes = " ".join(f"{code}: {count}" for code, count in answers[0].items())
        figure("bad requests", f"{sum(answers[0].values()):,} ({codes})", "no 200, 5xx")
        figure("memory under them, first and last",
               f"{first:.1f}, {memory_mb(pid):.1f} MB", "flat")  # fmt: skip
        time.sleep(sizes.settle_s)
        watched.stop()
    print_ready(f"{sizes.paddocks * sizes.passes:,} values stored", gateway.source, sizes.starts)
    listener.close()
    with Running("watch", gateway.source) as watched:
        pid = watched.process.pid
        watched.until("states_published")
        time.sleep(sizes.backup_s)  # the first backup is over
        before, began = switches(pid), time.monotonic()
        time.sleep(sizes.idle_s)
        rate = (switches(pid) - before) / (time.monotonic() - began)
        figure("idle, wake-ups (broker connected, serving)", f"{rate:.2f}/s", "<= .5/s")
        figure("idle, memory", f"{memory_mb(pid):.0f} MB", "<= 80 MB")
        watched.stop()
    farm = made_gateway(
        folder / "page", "[serve]\nport = 0\n", paddocks=sizes.page_paddocks, model=model
    )
    for day in (0, 6, 12):
        drop(farm, columns_of(day, paddocks=sizes.page_paddocks), f"{day}.csv")
    with Running("watch", farm.source) as watched:
        url = watched.until("serving")["url"]
        for _ in range(3):
            watched.until("stored")
        request = urllib.request.Request(url, headers={"Accept-Encoding": "gzip"})
        page = urllib.request.urlopen(request).read()
        assert gzip.decompress(page)
        size = len(page) / 1000
        figure(f"page of {sizes.page_paddocks} paddocks, gzip", f"{size:.1f} kB", "<= 40 kB")
        watched.stop()


def rained(folder: Path, broker: Broker, sizes: Sizes) -> None:
    """Print the costs of a rain file: a year of passes and rain, then two days revised."""
    model = made_model(folder / "m", steps=8, hidden=32)
    limits = "wilting_point = 0.1\nfield_capacity = 0.4\nroot_depth_mm = 500\n"
    text = f"{broker.toml}[serve]\nport = 0\n[daily]\n{limits}refill_percent = 50\n"
    gateway = made_gateway(folder / "days", text, paddocks=sizes.paddocks, model=model)
    days = range(0, 6 * sizes.rain_passes, 6)
    dates = [str(np.datetime64("2024-01-01") + day) for day in range(days[-1] + 1)]
    for day in days:
        drop(gateway, columns_of(day, paddocks=sizes.paddocks), f"{day:04}.csv")
    rain = [float(6 * (at % 5 == 0)) for at in range(len(dates))]
    drop(gateway, {"date": dates, "rain_mm": rain}, "rain.csv")
    events: list[dict[str, Any]] = []
    watch = Watch(gateway, load_paddocks(gateway), lambda name, **more: events.append(more))
    watch.open()
    names = sorted(path.name for path in gateway.spool.iterdir())
    watch.scan(FolderEvents(tuple((name, True) for name in names)), first=True)
    watch.close()
    first = next(event for event in events if "crossings" in event)
    figure(f"the first {first['values']:,} daily values", f"{first['seconds']:.1f} s", "")
    listener = Listener(broker)
    with Running("watch", gateway.source) as watched:
        pid = watched.process.pid
        watched.until("states_published")
        listener.until(lambda seen: len(seen.of("/daily")) >= sizes.paddocks)
        wait_for(lambda: not waiting(gateway), seconds=600)  # the records of all passes
        took, spent = [], []
        for at in range(sizes.passes):
            before, cpu = len(listener.of("/daily")), spent_s(pid)
            drop(gateway, {"date": dates[-2:], "rain_mm": [1.0 + at, 3.0 + at]}, f"late{at}.csv")
            began = time.monotonic()
            listener.until(lambda seen, n=before: len(seen.of("/daily")) >= n + sizes.paddocks)
            took.append(time.monotonic() - began)
            time.sleep(sizes.settle_s / 8)
            spent.append(spent_s(pid) - cpu)
        figure(f"rain closed -> today's values published, median of {sizes.passes}",
               f"{statistics.median(took):.2f} s", "<= 1 s")  # fmt: skip
        figure("  processor time of the gateway", f"{statistics.median(spent):.2f} s", "<= 1 s")
        time.sleep(sizes.settle_s + REST_S)
        figure("  its memory, idle afterwards", f"{memory_mb(pid):.0f} MB", "<= 80 MB")
        figure("  and its peak", f"{memory_mb(pid, 'VmHWM'):.0f} MB", "<= 120 MB")
        watched.stop()
    listener.close()


def waiting(gateway: Any) -> int:
    """Return the number of messages that are not published yet."""
    with Store(gateway.database, read_only=True) as store:
        return sum(store.unsent_counts().values())


def processor_s(work: Callable[[], Any]) -> float:
    """Measure the processor time of this process for a call, s."""
    began = time.process_time()
    work()
    return time.process_time() - began


@contextmanager
def processed(gateway: Any) -> Iterator[Watch]:
    """Open a watch of a gateway in this process, without threads."""
    watch = Watch(gateway, load_paddocks(gateway), lambda *_, **__: None)
    watch.open()
    try:
        yield watch
    finally:
        watch.close()


def arrivals_cost(folder: Path, dynamic: str, paddocks: int, passes: int) -> tuple[float, float]:
    """Return the processor time of one of the first 3 arrivals, and of one of the last 8, s."""
    model = made_model(folder / "model", dynamic=(dynamic,), steps=8, hidden=32)
    gateway = made_gateway(folder, paddocks=paddocks, model=model)
    took = []
    with processed(gateway) as watch:
        for at in range(passes):
            name = f"{at}.csv"
            drop(gateway, columns_of(6 * at, paddocks=paddocks), name)
            events = FolderEvents(((name, True),))
            took.append(processor_s(lambda events=events: watch.scan(events)))
    return statistics.median(took[:3]), statistics.median(took[-8:])


def old_store(folder: Path, paddocks: int, shrink: int = 1) -> None:
    """Print the costs at the tenth year, as processor time, which other work hardly changes.

    shrink: divides passes, readings and files, for a smoke test.
    """
    for dynamic in ("doy_sin", "vh_over_usual_db"):
        runs = [
            arrivals_cost(folder / f"{dynamic} {at}", dynamic, paddocks, max(12, 52 // shrink))
            for at in range(1 if shrink > 1 else 3)
        ]
        first, late = (statistics.median(some) for some in zip(*runs, strict=True))
        ratio = statistics.median(late / first for first, late in runs)
        figure(
            f"an arrival with 40 kept over the first ({dynamic}), median of {len(runs)}",
            f"{ratio:.2f} ({first:.2f}, {late:.2f} s)",
            "<= 1.3",
        )
    gateway = made_gateway(folder / "readings", paddocks=paddocks)
    with processed(gateway) as watch:
        drop(gateway, columns_of(0, paddocks=paddocks), "0.csv")
        watch.scan(FolderEvents((("0.csv", True),)))
    count = 876_000 // shrink
    start = 1704067200 - count // 20 * 900  # until the day of the pass
    readings = [Sensed(f"p{at % 20}", "", start + at // 20 * 900, 0.2) for at in range(count)]
    with Store(gateway.database) as store:
        store.put_probes(readings)
    queries = Queries(gateway, load_paddocks(gateway))
    queries.latest("p3")
    took = [processor_s(lambda: queries.latest("p3")) for _ in range(50)]
    figure(
        "one paddock's state with 876,000 readings, processor",
        f"{1000 * statistics.median(took):.2f} ms",
        "<= 2 ms",
    )
    with Store(gateway.database) as store:
        recovery.drop_old_values(store, gateway.keep)
        figure("  readings kept after housekeeping", str(len(store.probes())), "bounded")
    queries.reader.close()
    del readings  # else the collector of garbage walks over them below
    costs = {}
    for count in (300, 6000):
        rows = [
            Observed(f"p{at:05d}", 1704067200 + day * DAY, "", "s", True, {"vh_db": -15.0})
            for at in range(count)
            for day in range(3)
        ]
        gc.collect()
        costs[count] = min(processor_s(lambda rows=rows: fold(rows, {})) for _ in range(7))
    exponent = math.log(costs[6000] / costs[300]) / math.log(20)
    figure("pruning 300 -> 6,000 paddocks, exponent", f"{exponent:.2f}", "1 (linear)")
    bad = folder / "quarantine"
    bad.mkdir()
    took = []
    for _ in range(2000 // shrink):
        path = folder / "bad.csv"
        path.write_bytes(b"x")
        took.append(processor_s(lambda path=path: move_to_quarantine(path, bad, "bad.csv", "bad")))
    figure(
        "a bad file among 1,000 of its name, processor",
        f"{1000 * statistics.median(took[-100:]):.1f} ms",
        "",
    )
    figure("  most files in quarantine", str(recovery.QUARANTINED), "bounded")


def survived(folder: Path, broker: Broker, count: int) -> None:
    folder.mkdir()
    outcome = interrupted(
        folder, broker, Listener, count, seed=7, say=lambda text: print(text, file=sys.stderr)
    )
    kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(outcome.kinds.items()))
    figure(f"interruptions in {outcome.seconds:.0f} s", str(count), kinds)
    figure("  acquisitions lost or doubled", str(len(outcome.lost)), f"of {outcome.acquisitions}")
    figure("  values unlike the calm run's", str(len(outcome.different)), "0")
    figure("  published, not stored", str(len(outcome.told_not_stored)), "0")
    figure("  stored, not published", str(len(outcome.stored_not_told)), "0")
    figure("  one key, two contents", str(len(outcome.two_faces)), "0")


if __name__ == "__main__":
    main()
