"""The gateway's Dockerfile: its instructions are checked, and its steps run in an environment."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
import typer
from building import ROOT, Built, must, need_registry

from kgsm_infer.app.cli import app

FILE = ROOT / "packaging/gateway/Dockerfile"


def instructions() -> list[tuple[str, str]]:
    """Return instruction and argument of each line, with continued lines joined."""
    text = re.sub(r"\\\n", " ", FILE.read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.split()[0], line.partition(" ")[2]) for line in lines]


def argument(name: str) -> str:
    """Return the argument of the one instruction of this name."""
    (found,) = [text for word, text in instructions() if word == name]
    return found


def test_it_is_pinned_runs_without_rights_and_copies_what_exists() -> None:
    assert re.fullmatch(r"python:3\.1[1-3]-slim", argument("FROM"))
    assert instructions()[0][0] == "FROM"
    assert int(argument("USER")) > 0
    sources = argument("COPY").split()[:-1]
    assert (ROOT / sources[0]).is_file()
    assert sources[1] == "dist/kgsm-*manylinux*.whl"  # make wheels writes it
    assert "--no-cache-dir" in argument("RUN") and "--require-hashes" in argument("RUN")


def test_its_command_is_one_of_kgsm_infer() -> None:
    assert json.loads(argument("ENTRYPOINT")) == ["kgsm-infer"]
    name, *words = json.loads(argument("CMD"))
    command = typer.main.get_command(app).commands[name]
    assert command.make_context(name, words).params
    gateway = (ROOT / "examples/farm/gateway.toml").read_text()
    assert argument("EXPOSE") in gateway


@pytest.mark.slow
def test_its_steps_install_a_gateway(built: Built, tmp_path: Path) -> None:
    """Run the two installations in an environment, then the command."""
    need_registry(tmp_path)
    must(sys.executable, "-m", "venv", tmp_path / "venv", cwd=tmp_path)
    pip = [tmp_path / "venv/bin/python", "-m", "pip", "install", "-q"]
    must(*pip, "--require-hashes", "-r", ROOT / "requirements-edge.txt", cwd=tmp_path)
    found = ["--no-index", "--find-links", built.wheel.parent]
    must(*pip, "--no-deps", *found, "kgsm", cwd=tmp_path)
    shown = must(tmp_path / "venv/bin/kgsm-infer", "watch", "--help", cwd=tmp_path)
    assert "--behind-proxy" in shown
