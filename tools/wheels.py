"""Build the wheels of Linux for two processors and two C libraries, a pure wheel and the sdist.

    python tools/wheels.py -o dist                     # everything
    python tools/wheels.py -o dist x86_64-linux-musl   # one target

Each wheel is built from the unpacked sdist. zig of the package index (ziglang) compiles for every
target on any machine, with a baseline processor and an old glibc. ``make wheels`` runs this in an
environment of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

#: Target of zig -> platform tag of the wheel (PEP 600, PEP 656).
PLATFORMS = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64",
    "x86_64-linux-musl": "musllinux_1_2_x86_64",
    "aarch64-linux-musl": "musllinux_1_2_aarch64",
}
SETTINGS = ("CC", "LDSHARED", "CFLAGS", "LDFLAGS", "KGSM_PURE", "KGSM_REQUIRE_C")


def build(source: Path, out: Path, *options: str, **settings: str) -> None:
    """Run ``python -m build`` on a source tree; ``settings`` are environment variables."""
    env = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    command = [sys.executable, "-m", "build", *options, "-o", str(out), str(source)]
    subprocess.run(command, env=env | settings, check=True)


def unpack(sdist: Path, folder: Path) -> Path:
    """Unpack an sdist into ``folder`` and return its root."""
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    (root,) = folder.iterdir()
    return root


def build_wheel(sdist: Path, out: Path, target: str) -> None:
    """Build the wheel of one target of :data:`PLATFORMS`, with its own tree of objects."""
    compiler = f"{sys.executable} -m ziglang cc -target {target}"
    settings = {"CC": compiler, "LDSHARED": f"{compiler} -shared", "LDFLAGS": "-s"}
    option = f"-C--build-option=--plat-name={PLATFORMS[target]}"
    with tempfile.TemporaryDirectory() as folder:
        source = unpack(sdist, Path(folder))
        build(source, out, "--wheel", option, **settings, KGSM_REQUIRE_C="1")


def build_pure_wheel(sdist: Path, out: Path) -> None:
    """Build the wheel without the C core (py3-none-any)."""
    with tempfile.TemporaryDirectory() as folder:
        build(unpack(sdist, Path(folder)), out, "--wheel", KGSM_PURE="1")


def main() -> None:
    """Build what the command line names."""
    parser = argparse.ArgumentParser(description="Build the sdist and the wheels of Linux.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(PLATFORMS))
    parser.add_argument("-o", "--output", type=Path, default=ROOT / "dist")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.targets) - set(PLATFORMS))
    if unknown:
        parser.error(f"unknown target {', '.join(unknown)}; known: {', '.join(PLATFORMS)}")
    with tempfile.TemporaryDirectory() as folder:
        build(ROOT, Path(folder), "--sdist")
        (sdist,) = Path(folder).glob("*.tar.gz")
        for target in arguments.targets or PLATFORMS:
            build_wheel(sdist, arguments.output, target)
        if not arguments.targets:
            build_pure_wheel(sdist, arguments.output)
            shutil.copy2(sdist, arguments.output)


if __name__ == "__main__":
    main()
