"""A gateway interrupted again and again under a stream of files, then held against a calm one.

Half of the interruptions are ``kill -9``, half simulated power cuts: after the kill, what had not
reached the disk is taken away. WAL frames are cut off or one of their blocks lost (never frames
a checkpoint had already copied, which SQLite syncs first), the newest move into the archive is
undone where its transaction had not begun to be written, and the next start has a clock of 1970.
Between them the broker is killed and stays away for a while, and now and then pages of the
database are damaged. Every third pass has a probe, whose readings come before or after it and
once again at the end: what no pass has used yet is only as safe as the database.

Some writers stall: they write part of a table into the spool, hold the file open over one or more
interruptions, and go on wherever it is by then. Paddocks leave the outlines and come back. In some
runs threads of the gateway are killed.
"""

from __future__ import annotations

import calendar
import json
import os
import random
import shutil
import sqlite3
import struct
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from made_gateways import (
    DAY,
    columns_of,
    drop,
    made_gateway,
    made_model,
    scanned,
    stored,
    write_outlines,
)
from running import Running, wait_for

from kgsm_infer.base.errors import MissingError
from kgsm_infer.gateway.intake.archive import list_archive
from kgsm_infer.gateway.records import record_bytes
from kgsm_infer.gateway.store.database import Store
from kgsm_infer.gateway.store.used_readings import unused

#: Variances on the card of the models here, by which probes are weighed.
SPREAD = {"date": 0.004, "field": 0.002, "point": 0.001}
IN_THE_CHILD = """
import ctypes, os, random, threading, time
if os.environ.get("KGSM_TEST_CLOCK"):
    _start, _real = float(os.environ["KGSM_TEST_CLOCK"]), time.monotonic
    _zero = _real()
    time.time = lambda: _start + _real() - _zero
if os.environ.get("KGSM_TEST_KILL"):
    _dice = random.Random(int(os.environ["KGSM_TEST_KILL"]))

    def _kill():
        while True:
            time.sleep(_dice.uniform(0, 0.3))
            for thread in threading.enumerate():
                if thread.name in ("mqtt", "http") and _dice.random() < 0.5:
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(
                        ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
                    )

    threading.Thread(target=_kill, name="killer", daemon=True).start()
"""


@dataclass
class Outcome:
    """What came of it; every list is empty where all held."""

    interruptions: int
    kinds: dict[str, int] = field(default_factory=dict)
    files: int = 0
    acquisitions: int = 0
    lost: list[Any] = field(default_factory=list)
    different: list[Any] = field(default_factory=list)
    told_not_stored: list[Any] = field(default_factory=list)
    stored_not_told: list[Any] = field(default_factory=list)
    two_faces: list[Any] = field(default_factory=list)
    seconds: float = 0.0

    def count(self, kind: str) -> None:
        self.kinds[kind] = self.kinds.get(kind, 0) + 1

    @property
    def held(self) -> bool:
        return not (
            self.lost or self.different or self.told_not_stored or self.stored_not_told
            or self.two_faces
        )  # fmt: skip


def interrupted(  # noqa: C901  one way to die after another
    folder: Path, broker: Any, listen: Callable[[Any], Any], count: int, *, paddocks: int = 12,
    seed: int = 1, say: Callable[[str], None] = lambda text: None,
) -> Outcome:  # fmt: skip
    """Interrupt a gateway ``count`` times. listen: makes a subscriber of a broker."""
    began, dice = time.monotonic(), random.Random(seed)
    outcome = Outcome(count)
    model = made_model(folder / "m", probes=SPREAD)
    days = _stream(count, dice)
    readings = [_reading(day) for day in days[::3]]
    keep = "[keep]\nsteps = 1000\n"  # a reading finds its pass, however late it comes
    calm = made_gateway(folder / "calm", keep, paddocks=paddocks, model=model)
    for at, day in enumerate(days):
        drop(calm, columns_of(day, paddocks=paddocks), f"{at:04d}.csv")
        if at % 8 == 7:
            scanned(calm)
    scanned(calm)  # readings need a store
    _sense(calm, readings)
    scanned(calm)
    text = broker.toml + "[serve]\nport = 0\n" + keep
    gateway = made_gateway(folder / "hurt", text, paddocks=paddocks, model=model)
    site = folder / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(IN_THE_CHILD)
    path = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    listener, messages = listen(broker), []
    waiting = list(enumerate(days))
    clockless = False
    stalled: list[Stalled] = []
    for turn in range(count):
        environment = {**os.environ, "PYTHONPATH": path}
        if clockless:
            environment["KGSM_TEST_CLOCK"] = "3600"
        if dice.random() < 0.3:
            environment["KGSM_TEST_KILL"] = str(turn)
            outcome.count("threads")
        if turn % 11 == 5:  # a paddock leaves the outlines, or all are there again
            gone = dice.choice([0, 1, 2])
            write_outlines(folder / "hurt" / "paddocks.geojson", paddocks - gone)
            outcome.count("outlines")
        with Running("watch", gateway.source, env=environment) as watched:
            if waiting and dice.random() < 0.85:
                at, day = waiting.pop(0)
                columns = columns_of(day, paddocks=paddocks)
                if dice.random() < 0.2:
                    stalled.append(Stalled.begin(gateway, columns, f"{at:04d}.csv", dice))
                    outcome.count("stalled")
                else:
                    drop(gateway, columns, f"{at:04d}.csv")
            if stalled and dice.random() < 0.4:
                stalled.pop(0).end()
            if dice.random() < 0.6:
                watched.until("ready")
                if dice.random() < 0.6:
                    with suppress(AssertionError):  # not stored yet: all the better
                        watched.until("stored", dice.uniform(0.05, 1.5))
            time.sleep(dice.uniform(0, 0.4))
            watched.kill()
        kind = "kill" if turn % 2 else dice.choice(["cut", "block", "move", "page"])
        if kind == "page" and dice.random() < 0.7:
            kind = "cut"
        clockless = kind not in ("kill",) and dice.random() < 0.5
        outcome.count(kind)
        _harm(gateway, kind, dice)
        if stalled and dice.random() < 0.3:
            stalled.pop(0).end()
        if dice.random() < 0.6:
            _sense(gateway, dice.sample(readings, min(2, len(readings))))
        if turn % 25 == 12:  # the broker dies between runs, and one run sees no broker
            listener.catch_up()
            messages += listener.messages
            listener.close()
            broker.kill()
            outcome.count("broker")
            with Running("watch", gateway.source) as watched:
                watched.until("broker_lost")
                watched.kill()
            broker.start()
            listener = listen(broker)
        if turn % 20 == 19:
            say(f"{turn + 1} of {count} interruptions, {len(days) - len(waiting)} files dropped")
    for one in stalled:
        one.end()
    write_outlines(folder / "hurt" / "paddocks.geojson", paddocks)
    for at, day in waiting:
        drop(gateway, columns_of(day, paddocks=paddocks), f"{at:04d}.csv")
    with Running("watch", gateway.source) as watched:  # it mends what is damaged
        watched.until("states_published")
        watched.stop()
    _sense(gateway, readings)
    with Running("watch", gateway.source) as watched:
        watched.until("states_published")
        wait_for(lambda: _settled(gateway), lambda: watched.text)
        watched.stop()
    listener.catch_up()
    messages += listener.messages
    listener.close()
    _compare(outcome, calm, gateway, messages)
    outcome.files, outcome.seconds = len(days), time.monotonic() - began
    return outcome


@dataclass
class Stalled:
    """A table that is written in two parts. rest: its second one."""

    file: IO[str]
    rest: str

    @classmethod
    def begin(cls, gateway: Any, columns: Any, name: str, dice: random.Random) -> Stalled:
        """Write the first part into the spool: up to a line's end, or into a cell."""
        rows = [columns, *zip(*columns.values(), strict=True)]
        lines = [",".join(map(str, row)) + "\n" for row in rows]
        text, lines_written = "".join(lines), dice.randint(2, len(lines) - 1)
        cut = len("".join(lines[:lines_written])) - dice.choice([0, 0, 1, 3])
        gateway.spool.mkdir(parents=True, exist_ok=True)
        file = (gateway.spool / name).open("w")
        file.write(text[:cut])
        file.flush()
        return cls(file, text[cut:])

    def end(self) -> None:
        """Write the rest, wherever the file was moved meanwhile, and close it."""
        self.file.write(self.rest)
        self.file.close()


def _settled(gateway: Any) -> bool:
    """Whether every file is stored, every message acknowledged and every reading used."""
    with Store(gateway.database) as store:
        done = store.counts()["outbox"] == 0 and not unused(store)
    return done and not [path for path in gateway.spool.iterdir() if path.suffix == ".csv"]


def _stream(count: int, dice: random.Random) -> list[int]:
    """Days of passes in the order they arrive: mostly in theirs, some late."""
    days = [6 * at for at in range(max(4, count * 2 // 3))]
    for at in range(2, len(days) - 1, 7):
        other = min(len(days) - 1, at + dice.randint(1, 3))
        days[at], days[other] = days[other], days[at]
    return days


def _reading(day: int) -> tuple[str, str, int, float]:
    """What a probe says on the day of a pass, the same for the same day."""
    return f"p{day % 5}", "", 1704067200 + day * DAY + 5 * 3600, 0.05 + 0.01 * (day % 37)


def _sense(gateway: Any, readings: list[tuple[str, str, int, float]]) -> None:
    """Store readings as ``serve`` in a process of its own does; a damaged database takes none."""
    with suppress(MissingError), Store(gateway.database) as store:
        store.put_probes(readings)


def _harm(gateway: Any, kind: str, dice: random.Random) -> None:
    """Take from the disk what a power cut can."""
    database, wal = gateway.database, gateway.database.with_name("gateway.db-wal")
    # the folder is synced before the transaction: only without it can a move still be lost
    written = _known(database)
    if kind in ("cut", "block", "move") and wal.exists() and wal.stat().st_size > 32:
        page = struct.unpack(">I", wal.read_bytes()[8:12])[0] + 24
        size, safe = wal.stat().st_size, 32 + page * _copied(gateway)
        if safe < size:
            at = dice.randint(safe, size)
            with wal.open("r+b") as file:
                if kind == "block":
                    file.seek(at // 4096 * 4096 if at // 4096 * 4096 >= safe else safe)
                    file.write(bytes(min(4096, size - file.tell())))
                else:
                    file.truncate(at)
        shm = gateway.database.with_name("gateway.db-shm")
        shm.unlink(missing_ok=True)  # memory: gone with the power
    if kind == "move":
        items = list_archive(gateway.archive) if gateway.archive.is_dir() else []
        last = items[-1] if items else None
        if last and last.number not in written and last.kind == "probes":
            last.path.unlink()  # it was never anywhere else
        elif last and last.number not in written:
            last.path.rename(gateway.spool / last.name)
    if kind == "page" and database.exists() and database.stat().st_size > 8192:
        pages = database.stat().st_size // 4096
        with database.open("r+b") as file:
            for _ in range(3):
                file.seek(4096 * dice.randint(1, pages - 1))
                file.write(dice.randbytes(4096))
        wal.unlink(missing_ok=True)
        database.with_name("gateway.db-shm").unlink(missing_ok=True)
        (gateway.state / "running").touch()


def _known(database: Path) -> set[int]:
    """The arrivals a database and its log know, looked up in a copy: a look must not change it."""
    with tempfile.TemporaryDirectory() as folder:
        for path in database.parent.glob(f"{database.name}*"):
            if not path.name.endswith("-shm"):
                shutil.copy(path, folder)
        try:
            with closing(sqlite3.connect(Path(folder) / database.name)) as db:
                return {row[0] for row in db.execute("SELECT sequence FROM arrival")}
        except sqlite3.Error:
            return set()


def _copied(gateway: Any) -> int:
    """Frames a checkpoint has copied or begun to, of the WAL index (wal.c, WalCkptInfo)."""
    shm = gateway.database.with_name("gateway.db-shm")
    if not shm.exists() or shm.stat().st_size < 136:
        return 1 << 40
    content = shm.read_bytes()
    return max(struct.unpack_from("=I", content, at)[0] for at in (96, 128))


def _compare(outcome: Outcome, calm: Any, hurt: Any, messages: list[Any]) -> None:
    expected, found = stored(calm), stored(hurt)
    outcome.acquisitions = len(expected)
    outcome.lost = sorted(expected.keys() ^ found.keys())
    for key in expected.keys() & found.keys():
        one, other = expected[key], found[key]
        near = one.sm == other.sm or (
            one.sm is not None and other.sm is not None and abs(one.sm - other.sm) < 2e-6
        )
        if not near or (one.flags, one.probes) != (other.flags, other.probes):
            outcome.different.append((key, one.sm, other.sm, one.flags, other.flags))
    with Store(hurt.database) as store:
        bytes_of = {
            value.key: record_bytes(value)
            for paddock in {key[0] for key in found}
            for value in store.series(paddock, revisions=True)
        }
    told: dict[tuple[Any, ...], bytes] = {}
    for topic, payload, _ in messages:
        if not topic.endswith(("/record", "/state")) or not payload:
            continue
        raw = json.loads(payload)
        seconds = calendar.timegm(time.strptime(raw["acquired_at"], "%Y-%m-%dT%H:%M:%SZ"))
        key = (raw["paddock"], seconds, raw["orbit"], raw["revision"])
        if told.setdefault(key, payload) != payload:
            outcome.two_faces.append(key)
        if bytes_of.get(key) != payload:
            outcome.told_not_stored.append(key)
    outcome.stored_not_told = sorted(bytes_of.keys() - told.keys())


def cleared(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
