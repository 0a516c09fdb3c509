"""Build the distributions once for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest
from building import (
    Built,
    Environment,
    copy_sources,
    install,
    must,
    need_registry,
    only,
    run,
    unpack,
)


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Build both distributions from a copy of the tree that has nothing built in it.

    A second worker of pytest-xdist that builds fails: tests/conftest.py gives this folder to one.
    """
    folder = tmp_path_factory.mktemp("built")
    if "PYTEST_XDIST_WORKER" in os.environ:
        (tmp_path_factory.getbasetemp().parent / "distributions_built").touch(exist_ok=False)
    need_registry(folder)
    source = copy_sources(folder / "source")
    build = [sys.executable, "-m", "build"]
    must(*build, "--wheel", "-o", folder / "direct", source, cwd=folder)
    # without --wheel or --sdist: the sdist, then a wheel from it unpacked
    shutil.rmtree(source / "build")
    must(*build, "-o", folder / "by_sdist", source, cwd=folder)
    return Built(
        wheel=only(folder / "direct", "*.whl"),
        sdist=only(folder / "by_sdist", "*.tar.gz"),
        wheel_of_sdist=only(folder / "by_sdist", "*.whl"),
    )


@pytest.fixture(scope="session")
def base(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the wheel made from the sdist, as ``pip install kgsm`` does."""
    return install(built.wheel_of_sdist, tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="session")
def pure_wheel(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel from the sdist where the compiler is missing."""
    folder = tmp_path_factory.mktemp("pure")
    build = [sys.executable, "-m", "build", "--wheel", "-o", folder / "out"]
    done = run(*build, unpack(built.sdist, folder / "in"), cwd=folder, CC="/nonexistent/cc")
    assert done.returncode == 0, done.stdout + done.stderr
    return only(folder / "out", "*.whl")
