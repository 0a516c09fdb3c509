"""Build the distributions once, and make environments to install them in.

Nothing here imports kgsm into the test process. Every check runs in the environment it is about,
away from the source tree.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
IN_THE_TREE_ONLY = ("*.so", "*.pyd", "*.egg-info", ".*", "__pycache__", "build", "dist")


def run(*command: str | Path, cwd: Path, **env_more: str) -> subprocess.CompletedProcess[str]:
    """Run a command without KGSM_PURE, PYTHONPATH and coverage, and with ``env_more``."""
    hidden = ("KGSM_", "PYTHON", "COV_", "COVERAGE_", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=env | env_more,
        capture_output=True,
        text=True,
    )


def must(*command: str | Path, cwd: Path) -> str:
    """Run a command that must succeed and return its standard output."""
    done = run(*command, cwd=cwd)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def need_registry(folder: Path) -> None:
    """Skip where pip cannot fetch even one small wheel."""
    done = run(
        sys.executable,
        "-m",
        "pip",
        "download",
        "-q",
        "--no-deps",
        "-d",
        folder,
        "typer",
        cwd=folder,
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        pytest.skip(f"the package registry cannot be reached: {reason}")


@dataclass(frozen=True)
class Built:
    """Built distributions.

    wheel: from the source tree.  wheel_of_sdist: from the unpacked sdist.
    """

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@dataclass(frozen=True)
class Environment:
    """Virtual environment with a wheel and its base dependencies."""

    bin: Path
    home: Path

    def python(self, code: str) -> str:
        """Run ``python -c code`` there and return its output."""
        return must(self.bin / "python", "-c", code, cwd=self.home).strip()


def tracked_files() -> list[str]:
    """List the files of the repository; empty outside a git checkout."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    names = listed.stdout.split("\0") if listed.returncode == 0 else []
    return [name for name in names if name and (ROOT / name).exists()]


def copy_sources(to: Path) -> Path:
    """Copy the files of the repository, or of the unpacked sdist, and nothing built."""
    names = tracked_files()
    for name in names:
        (to / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, to / name)
    if not names:
        ignore = shutil.ignore_patterns(*IN_THE_TREE_ONLY, "demo-out", "runs")
        shutil.copytree(ROOT, to, ignore=ignore)
    return to


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist and return its root."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return only(folder, "*")


def only(folder: Path, pattern: str) -> Path:
    """Return the one file that matches."""
    (path,) = folder.glob(pattern)
    return path


def install(wheel: Path, home: Path, python: str | Path = sys.executable) -> Environment:
    """Install a wheel and its base dependencies, in the versions tested, in a new environment."""
    must(python, "-m", "venv", home / "venv", cwd=home)
    made = Environment(home / "venv" / ("Scripts" if os.name == "nt" else "bin"), home)
    pip = [made.bin / "python", "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt"]
    must(*pip, wheel, cwd=home)
    return made
