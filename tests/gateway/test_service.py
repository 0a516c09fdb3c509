"""The systemd unit, held against systemd itself, and what it is told."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from made_gateways import made_gateway
from running import PATIENCE_S, Running

from kgsm_infer.gateway.health import ErrorMemory
from kgsm_infer.gateway.service import loop
from kgsm_infer.gateway.service.loop import Service, Wake

UNIT = Path(__file__).parents[2] / "examples" / "farm" / "kgsm-gateway.service"
analyze = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


@analyze
def test_the_unit_is_valid(tmp_path):
    command = tmp_path / "kgsm-infer"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/kgsm/bin/kgsm-infer", str(command)))
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    mine = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, mine) == (0, [])


@analyze
def test_the_unit_exposes_little():
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--threshold=25", UNIT],
        capture_output=True, text=True,
    )  # fmt: skip
    level = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert level, done.stdout + done.stderr
    assert float(level[1]) <= 2.5
    assert done.returncode == 0


def test_systemd_is_told_ready_alive_and_stopping(tmp_path):
    gateway = made_gateway(tmp_path, "[serve]\nport = 0\n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.bind(str(tmp_path / "notify"))
        channel.settimeout(PATIENCE_S)
        environment = {
            **os.environ,
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "400000",
        }
        with Running("watch", gateway.source, env=environment) as watched:
            said = [channel.recv(1000).decode() for _ in range(3)]
            watched.process.send_signal(15)
            while said[-1] != "STOPPING=1":
                said.append(channel.recv(1000).decode())
            assert watched.process.wait(PATIENCE_S) == 0
    assert said[0].startswith("READY=1")
    assert set(said[1:-1]) == {"WATCHDOG=1"}


class Committing:
    """A watch whose store has the versions of a list, one a look."""

    def __init__(self, versions):
        self.versions, self.released = iter(versions), 0

    def guarded(self, step):
        return step()

    def version(self):
        return next(self.versions), 0

    def release_memory(self):
        self.released += 1


def test_memory_is_returned_once_nothing_commits(monkeypatch):
    monkeypatch.setattr(loop, "REST_S", 0.0)
    work = Committing([1, 1, 1, 2, 3, 3, 3])
    service = Service(work, Wake(0, 0), None, lambda *_, **__: None, ErrorMemory(print))
    released = []
    for _ in range(7):
        service._release_memory()
        released.append(work.released)
    assert released == [0, 1, 1, 1, 1, 2, 2]
