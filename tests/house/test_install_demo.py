"""The installer of make demo: uv or pip, and the CPU build of torch."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

FILE = Path(__file__).resolve().parents[2] / "tools/install_demo.py"
spec = importlib.util.spec_from_file_location("install_demo", FILE)
install_demo = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install_demo)
PIP_CPU = '{"url": "https://index/torch-2.13.0%2Bcpu-cp311-cp311-manylinux_2_28_x86_64.whl"}'
PIP_CUDA = '{"url": "https://index/torch-2.13.0-cp311-cp311-manylinux_2_28_x86_64.whl"}'


@pytest.fixture
def ran(monkeypatch):
    """Record the commands; the first answers with what the installer would choose."""
    commands: list[list[str]] = []
    answers = {"choice": PIP_CUDA, "fails": ""}

    def run(command, **_):
        commands.append([str(word) for word in command])
        failed = bool(answers["fails"]) and answers["fails"] in commands[-1]
        return subprocess.CompletedProcess(command, int(failed), answers["choice"], "")

    monkeypatch.setattr(install_demo.subprocess, "run", run)
    monkeypatch.setattr(install_demo.sys, "platform", "linux")
    monkeypatch.delenv("TORCH_INDEX", raising=False)
    return commands, answers


def installed(ran, monkeypatch, uv: str | None) -> list[list[str]]:
    """Run the installer; return its commands after the question for torch."""
    monkeypatch.setattr(install_demo.shutil, "which", lambda name: uv)
    with pytest.raises(SystemExit) as end:
        install_demo.main("train,gateway")
    assert end.value.code == 0
    commands, _ = ran
    assert "--dry-run" in commands[0] and commands[0][-3:] == ["torch", "-c", "constraints.txt"]
    return commands[1:]


@pytest.mark.parametrize("uv", [None, "/usr/bin/uv"])
def test_a_cpu_build_that_is_found_asks_no_other_index(ran, monkeypatch, uv) -> None:
    ran[1]["choice"] = PIP_CPU if uv is None else " + torch==2.13.0+cpu\n"
    (last,) = installed(ran, monkeypatch, uv)
    start = [uv, "pip", "install"] if uv else [sys.executable, "-m", "pip", "install"]
    assert last[: len(start)] == start
    assert last[-4:] == ["-e", ".[train,gateway]", "-c", "constraints.txt"]


@pytest.mark.parametrize("uv", [None, "/usr/bin/uv"])
def test_the_cpu_build_of_pytorch_replaces_that_with_cuda(ran, monkeypatch, capsys, uv) -> None:
    first, last = installed(ran, monkeypatch, uv)
    assert first[-5:] == ["--index-url", install_demo.TORCH_INDEX, "torch", "-c", "constraints.txt"]
    assert "-e" in last and "CPU build" in capsys.readouterr().out


def test_an_index_that_cannot_be_reached_is_named(ran, monkeypatch, capsys) -> None:
    monkeypatch.setenv("TORCH_INDEX", "https://nowhere.example")
    ran[1]["fails"] = "https://nowhere.example"
    first, last = installed(ran, monkeypatch, None)
    assert "https://nowhere.example" in first and "-e" in last
    assert "https://nowhere.example has no build" in capsys.readouterr().out


def test_torch_is_installed_for_training_alone(ran, monkeypatch) -> None:
    monkeypatch.setattr(install_demo.shutil, "which", lambda name: None)
    with pytest.raises(SystemExit):
        install_demo.main("raster,parquet")
    (only,) = ran[0]
    assert only[-4:] == ["-e", ".[raster,parquet]", "-c", "constraints.txt"]


def test_other_systems_have_no_cuda() -> None:
    assert not install_demo.brings_cuda(PIP_CUDA, "darwin")
    assert install_demo.brings_cuda("", "linux")  # the question failed: ask PyTorch's index
