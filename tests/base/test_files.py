"""Outputs appear whole or not at all."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest
from running import PATIENCE_S

from kgsm_infer.base import files
from kgsm_infer.base.errors import MissingError, UsageError
from kgsm_infer.base.files import whole


def test_an_error_half_way_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), whole(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_the_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with whole(path, "wb") as file:
        file.write(b"new\r\n")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new\r\n"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_killed_process_leaves_no_half_file(tmp_path):
    path = tmp_path / "out.csv"
    script = (
        "import sys, time; from kgsm_infer.base.files import whole\n"
        f"with whole({str(path)!r}) as file:\n"
        "    file.write('half'); file.flush(); print('ready', flush=True); time.sleep(600)\n"
    )
    for stop in (signal.SIGKILL, signal.SIGINT):
        process = subprocess.Popen(
            [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(stop)
        process.wait(PATIENCE_S)
        process.stdout.close()
        assert not path.exists()


def test_paths_that_cannot_be_written(tmp_path):
    with pytest.raises(UsageError, match="is a folder"), whole(tmp_path):
        pass
    absent = tmp_path / "no" / "out.csv"
    with pytest.raises(UsageError, match="does not exist; make it first"), whole(absent):
        pass


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(MissingError, match="the disk is full"), whole(tmp_path / "a.csv") as file:
        file.write("x")
    assert os.listdir(tmp_path) == []
