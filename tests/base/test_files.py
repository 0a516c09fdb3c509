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
from kgsm_infer.base.files import write_whole


def test_an_error_half_way_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "out.csv"
    path.write_text("old")
    with pytest.raises(RuntimeError), write_whole(path) as file:
        file.write("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_the_new_file_replaces_the_old_one(tmp_path):
    path = tmp_path / "out.bin"
    path.write_bytes(b"old")
    with write_whole(path, "wb") as file:
        file.write(b"new\r\n")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new\r\n"
    assert os.listdir(tmp_path) == ["out.bin"]


def test_a_killed_process_leaves_no_half_file(tmp_path):
    path = tmp_path / "out.csv"
    script = (
        "import signal, sys, time; from kgsm_infer.base.files import write_whole\n"
        # a shell starts its background jobs with SIGINT ignored
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"with write_whole({str(path)!r}) as file:\n"
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
    with pytest.raises(UsageError, match="is a folder"), write_whole(tmp_path):
        pass
    absent = tmp_path / "no" / "out.csv"
    with pytest.raises(UsageError, match="does not exist; make it first"), write_whole(absent):
        pass


def test_a_full_disk_is_said(tmp_path, monkeypatch):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with (
        pytest.raises(MissingError, match="the disk is full"),
        write_whole(tmp_path / "a.csv") as file,
    ):
        file.write("x")
    assert os.listdir(tmp_path) == []


WRITER = """
import sys
from kgsm_infer.base.files import write_whole
for n in range(300):
    with write_whole(f"out{sys.argv[1]}.csv") as file:
        file.write("x" * 100)
"""


def test_processes_that_write_different_files_do_not_disturb_each_other(tmp_path):
    """A sweep may meet a part between its creation and its lock; then the writer tries again."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(n)], cwd=tmp_path, stderr=subprocess.PIPE, text=True
        )
        for n in range(4)
    ]
    assert [
        (writer.communicate(timeout=PATIENCE_S)[1], writer.returncode) for writer in writers
    ] == [("", 0)] * 4
    assert sorted(os.listdir(tmp_path)) == [f"out{n}.csv" for n in range(4)]


def test_a_part_swept_before_its_lock_is_made_again(tmp_path, monkeypatch):
    lock, swept = files._lock, []

    def late(file):
        if not swept:  # another process sweeps just now
            swept.append(file.name)
            files.sweep(tmp_path)
        return lock(file)

    monkeypatch.setattr(files, "_lock", late)
    with write_whole(tmp_path / "out.csv") as file:
        file.write("all")
    assert swept and (tmp_path / "out.csv").read_text() == "all"
    assert os.listdir(tmp_path) == ["out.csv"]


def test_a_pipe_or_a_link_named_like_a_part_stops_no_command(tmp_path):
    os.mkfifo(tmp_path / ".kgsm-000000000000.part")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / ".kgsm-111111111111.part").symlink_to(tmp_path / "mine.txt")
    with write_whole(tmp_path / "out.csv") as file:
        file.write("all")
    assert (tmp_path / "mine.txt").read_text() == "mine"
    assert (tmp_path / "out.csv").read_text() == "all"


KILLED = """
import os, signal, sys
from kgsm_infer.base.files import workshop
with workshop(sys.argv[1]) as part:
    (part / "half.tif").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_workshop_of_a_killed_process_goes_with_the_next_call(tmp_path):
    done = subprocess.run([sys.executable, "-c", KILLED, tmp_path], check=False)
    assert done.returncode == -signal.SIGKILL and os.listdir(tmp_path)
    with files.workshop(tmp_path) as mine, files.workshop(tmp_path) as another:
        assert mine.is_dir() and another.is_dir(), "a living one stays"
        assert len(os.listdir(tmp_path)) == 2
    assert os.listdir(tmp_path) == []
