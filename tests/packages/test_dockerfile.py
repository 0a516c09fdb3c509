"""The gateway's Dockerfile: its instructions are checked, and its steps run in an environment."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path

import pytest
import typer
from building import ROOT, Built, must, need_registry, run
from documented import documented

from kgsm_infer.app.cli import app

FILE = ROOT / "packaging/gateway/Dockerfile"


#: The gateway's Dockerfile, and the one that docs/integrate.md prints.
FILES = {
    "gateway": FILE.read_text(),
    "page": next(
        item.text for item in documented(ROOT / "docs/integrate.md") if item.kind == "dockerfile"
    ),
}


def instructions(text: str = FILES["gateway"]) -> list[tuple[str, str]]:
    """Return instruction and argument of each line, with continued lines joined."""
    text = re.sub(r"\\\n", " ", text)
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


def run_steps(text: str, root: Path, wheel: Path) -> Path:
    """Run COPY and RUN of a Dockerfile below ``root``; return the folder of its programs.

    ``pip`` is that of an environment there, /tmp is a folder there, and ``useradd``, which
    changes the machine, is not run.
    """
    context, prefix = root / "context", root / "image"
    (context / "dist").mkdir(parents=True)
    shutil.copy(ROOT / "requirements-edge.txt", context)
    shutil.copy(wheel, context / "dist" / re.sub(r"linux_", "manylinux_2_17_", wheel.name))
    (prefix / "tmp").mkdir(parents=True)
    must(sys.executable, "-m", "venv", prefix / "venv", cwd=root)
    path = f"{prefix / 'venv/bin'}:{os.environ['PATH']}"
    for word, argument in instructions(text):
        if word == "COPY":
            *sources, target = argument.split()
            names = [name for source in sources for name in sorted(context.glob(source))]
            assert len(names) >= len(sources)
            for name in names:
                shutil.copy(name, prefix / target.lstrip("/"))
        elif word == "RUN":
            for command in argument.split(" && "):
                if command.strip().startswith("useradd"):
                    continue
                local = command.replace("/tmp", str(prefix / "tmp"))
                done = run("bash", "-c", local, cwd=root, PATH=path)
                assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return prefix / "venv/bin"


@pytest.mark.wheels
@pytest.mark.parametrize("text", FILES.values(), ids=FILES)
def test_its_steps_install_a_gateway(built: Built, tmp_path: Path, text: str) -> None:
    """Run the steps, then the entry point with the command's help."""
    need_registry(tmp_path)
    programs = run_steps(text, tmp_path, built.wheel)
    (entry,) = [json.loads(words) for word, words in instructions(text) if word == "ENTRYPOINT"]
    shown = must(programs / entry[0], "watch", "--help", cwd=tmp_path)
    assert "--behind-proxy" in shown
    if text is FILES["gateway"]:
        assert not list((tmp_path / "image/tmp").iterdir())  # RUN removes what COPY brought
