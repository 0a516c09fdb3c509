"""Find the commands and snippets that the pages print, and run them."""

from __future__ import annotations

import glob
import os
import re
import shlex
import subprocess
import sys
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
#: First words of lines that a reader types.
PROGRAMS = (
    *("kgsm-infer", "kgsm-train", "python", "python3", ".venv/bin/python", "pip", "make"),
    *("awk", "cp", "curl", "docker", "install", "journalctl", "mosquitto_pub", "psql", "systemctl"),
    *("git", "uv", "npm", "conda", "apt-get", "export", "source"),
)


@dataclass(frozen=True)
class Shown:
    """Something that a page prints. page: relative to the root.  line: its first, from 1.

    kind: ``command``, or the language of a block.
    """

    page: str
    line: int
    kind: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def is_command(line: str) -> bool:
    """Return True for a line that starts with a known program."""
    return line.split()[0] in PROGRAMS if line.split() else False


def without_comment(line: str) -> str:
    """Return a command without the comment that follows two spaces and #, or one after a space."""
    return re.sub(r"\s+# .*$", "", line).strip()


def blocks(page: Path) -> list[tuple[int, str, list[str]]]:
    """Return (first line, language, lines) of each fenced and each indented block of a page."""
    found: list[tuple[int, str, list[str]]] = []
    fence: str | None = None
    indented = False
    listed = False  # within a list, four spaces continue an item
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if fence is not None:
            if line.strip().startswith("```"):
                fence = None
            else:
                found[-1][2].append(line)
            continue
        if line.strip().startswith("```"):
            fence = line.strip()[3:].strip() or "text"
            found.append((number + 1, fence, []))
            indented = False
            continue
        depth = 8 if listed else 4
        if line.startswith(" " * depth) and line.strip():
            if not indented:
                found.append((number, "", []))
            found[-1][2].append(line[depth:])
            indented = True
        elif line.strip():
            indented = False
            if not line.startswith(" "):
                listed = bool(re.match(r"([-*]|\d+\.) ", line))
        else:
            indented = False
    return [item for item in found if any(line.strip() for line in item[2])]


def documented(page: Path) -> list[Shown]:
    """Return what a page prints, in order: each command, and each other block as a whole."""
    shown: list[Shown] = []
    name = str(page.relative_to(ROOT))
    for first, language, lines in blocks(page):
        if language and language not in ("sh", "bash", "console"):
            shown.append(Shown(name, first, language, textwrap.dedent("\n".join(lines) + "\n")))
            continue
        others: list[str] = []
        at = 0
        while at < len(lines):
            line, begin = lines[at], at
            if is_command(line):
                while line.endswith("\\"):
                    at += 1
                    line = line[:-1].rstrip() + " " + lines[at].strip()
                shown.append(Shown(name, first + begin, "command", without_comment(line)))
            elif line.strip():
                others.append(line)
            at += 1
        if others:
            shown.append(Shown(name, first, "listing", "\n".join(others) + "\n"))
    return shown


MODULES = {"kgsm-infer": "kgsm_infer.app.cli", "kgsm-train": "kgsm_train.cli"}


def not_run() -> dict[str, str]:
    """Return the commands and snippets that CONTRIBUTING.md lists as not run, with the reasons."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    table = text.partition("## Snippets that no test runs")[2].partition("\n## ")[0]
    return dict(re.findall(r"^\| `([^`]+)` \| (.+) \|$", table, re.M))


def is_run(item: Shown) -> bool:
    """Return False for a command or snippet that CONTRIBUTING.md lists."""
    return not any(start in item.text for start in not_run())


def in_process(item: Shown) -> str:
    """Run a command of kgsm in this process; return what it printed. It must succeed.

    An ellipsis in a file's name stands for the rest of the one name that fits.
    """
    from importlib import import_module

    from typer.testing import CliRunner

    program, *words = shlex.split(item.text)
    arguments = [
        name
        for word in words
        for name in (glob.glob(word.replace("…", "*")) if "…" in word else [word])
    ]
    assert len(arguments) == len(words), f"{item}: not one file for each name of {item.text}"
    if program == "kgsm-train" and arguments[0] in ("crossval", "experiments"):
        arguments += ["--jobs", "1"]
    done = CliRunner().invoke(import_module(MODULES[program]).app, arguments)
    assert done.exit_code == 0, f"{item}: {item.text}\n{done.output}\n{done.exception!r}"
    return done.output


def in_shell(item: Shown, folder: Path, command: str, **programs: str) -> str:
    """Run a line of a shell in a folder; return standard output. It must succeed.

    The commands of kgsm are on the path. programs: scripts for others that are not installed.
    """
    path = folder / ".programs"
    path.mkdir(exist_ok=True)
    ours = {
        name: f'#!/bin/sh\nexec {sys.executable} -m {module} "$@"\n'
        for name, module in MODULES.items()
    }
    for name, script in {**ours, **programs}.items():
        (path / name).write_text(script)
        (path / name).chmod(0o755)
    search = os.pathsep.join([str(path), str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=os.environ | {"PATH": search, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{item}: {item.text}\n{done.stdout}{done.stderr}"
    return done.stdout
