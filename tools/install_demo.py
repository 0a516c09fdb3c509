"""Install kgsm with the extras of a demo into this Python (``make demo``, ``make demo-real``).

uv is used where it is on the path, else pip. On Linux PyPI's wheel of torch brings CUDA libraries
of about 3 GB. Where the installer would choose it, the CPU build comes from PyTorch's own index
(``TORCH_INDEX``). An installer that finds a CPU build elsewhere asks no other index.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TORCH_INDEX = "https://download.pytorch.org/whl/cpu"


def installer(python: str = sys.executable) -> list[str]:
    """Return the command that installs into a Python. Nothing is compiled to bytecode: pip would
    write 235 MB of it, which Python writes itself for the modules that are imported."""
    uv = shutil.which("uv")
    if uv:
        return [uv, "pip", "install", "--python", python]
    return [python, "-m", "pip", "install", "--no-compile"]


def chosen_torch(install: list[str], env: dict[str, str]) -> str:
    """Return what the installer would install for torch, in its own words; empty where it fails."""
    pip = "pip" in install[1:3] and install[0] == sys.executable
    report = ["--quiet", "--ignore-installed", "--report", "-"] if pip else []
    command = [*install, "--dry-run", "--no-deps", *report, "torch", "-c", "constraints.txt"]
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    return done.stdout + done.stderr if done.returncode == 0 else ""


def brings_cuda(choice: str, platform: str = sys.platform) -> bool:
    """Return True unless the choice is a CPU build. Only wheels for Linux have CUDA.

    >>> brings_cuda(" + torch==2.13.0", "linux"), brings_cuda(" + torch==2.13.0+cpu", "linux")
    (True, False)
    >>> brings_cuda('"url": "file:///opt/torch-2.13.0%2Bcpu-cp311.whl"', "linux")
    False
    """
    return platform == "linux" and "+cpu" not in choice.replace("%2B", "+")


def main(extras: str) -> None:
    """Install torch if an extra needs it, then kgsm. extras: comma-separated."""
    env = dict(os.environ)
    if "PIP_FIND_LINKS" in env:  # uv reads no setting of pip
        env.setdefault("UV_FIND_LINKS", env["PIP_FIND_LINKS"])
    install = installer()
    print(f"installing kgsm with the extras {extras} into {sys.prefix}", flush=True)
    if "train" in extras.split(",") and brings_cuda(chosen_torch(install, env)):
        index = os.environ.get("TORCH_INDEX", TORCH_INDEX)
        print(f"torch: the CPU build of {index}", flush=True)
        command = [*install, "--no-deps", "--index-url", index, "torch", "-c", "constraints.txt"]
        if subprocess.run(command, cwd=ROOT, env=env).returncode != 0:
            print(f"torch: {index} has no build for this Python; PyPI's is used", flush=True)
    command = [*install, "-e", f".[{extras}]", "-c", "constraints.txt"]
    sys.exit(subprocess.run(command, cwd=ROOT, env=env).returncode)


if __name__ == "__main__":
    main(sys.argv[1])
