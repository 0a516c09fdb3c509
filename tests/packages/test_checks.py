"""Check the distributions: contents, metadata, stable ABI, and the wheel without a compiler."""

from __future__ import annotations

import re
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from building import ROOT, Built, Environment, must, run, tracked_files, unpack

pytestmark = [pytest.mark.wheels, pytest.mark.slow]


def test_sdist_has_every_file_of_the_repository(built: Built) -> None:
    tracked = tracked_files()
    if not tracked:
        pytest.skip("not a git checkout")
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert not set(tracked) - names
    assert len(tracked) > 300


def test_tests_pass_from_the_sdist(built: Built, tmp_path: Path) -> None:
    """Collect all of them; run those of one module, on NumPy because nothing is built there."""
    root = unpack(built.sdist, tmp_path)
    pytest_command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    collected = run(*pytest_command, "--collect-only", cwd=root, KGSM_PURE="1")
    assert collected.returncode == 0, collected.stdout + collected.stderr
    assert int(re.search(r"(\d+)(/\d+)? tests collected", collected.stdout)[1]) > 1000
    done = run(*pytest_command, "tests/tables/test_table.py", cwd=root, KGSM_PURE="1")
    assert done.returncode == 0 and " passed" in done.stdout, done.stdout


@pytest.mark.parametrize("tool", ["twine", "check-wheel-contents", "abi3audit"])
def test_tools_of_the_package_index_find_no_fault(
    built: Built, pure_wheel: Path, tool: str
) -> None:
    pytest.importorskip(tool.replace("-", "_"), reason=f"{tool} is not installed ([test])")
    script = Path(sys.executable).with_name(tool)
    wheels = [built.wheel, built.wheel_of_sdist]
    commands = {
        "twine": ["check", "--strict", *wheels, pure_wheel, built.sdist],
        "check-wheel-contents": ["--config", ROOT / "pyproject.toml", *wheels, pure_wheel],
        "abi3audit": ["--strict", *wheels],
    }
    must(script, *commands[tool], cwd=ROOT)


def test_a_missing_compiler_is_an_error_where_c_is_required(built: Built, tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "-o", tmp_path / "out"]
    build.append(unpack(built.sdist, tmp_path / "in"))
    done = run(*build, cwd=tmp_path, CC="/nonexistent/cc", KGSM_REQUIRE_C="1")
    assert done.returncode != 0 and "/nonexistent/cc" in done.stdout + done.stderr


def test_the_pure_wheel_says_once_that_it_is_slow(
    base: Environment, pure_wheel: Path, tiny_model: Path, tmp_path: Path
) -> None:
    assert pure_wheel.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(pure_wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); "
        "from kgsm_infer.app.cli import main; main()"
    )
    predict = ["predict", tiny_model / "model.core.onnx", tiny_model / "twin.csv", "-o"]
    python = [base.bin / "python", "-c", code, tmp_path / "site"]
    done = run(*python, *predict, tmp_path / "pure.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    slow = [line for line in done.stderr.splitlines() if "a tenth of its speed" in line]
    assert len(slow) == 1 and slow[0].startswith("note: ")
    must(base.bin / "kgsm-infer", *predict, tmp_path / "c.csv", cwd=tmp_path)
    assert_same_soil_moisture(tmp_path / "pure.csv", tmp_path / "c.csv")


def assert_same_soil_moisture(one: Path, other: Path) -> None:
    """Compare the column ``sm`` of two results: the same gaps, and numbers within 1e-5."""
    numbers = 0
    first, second = (path.read_text().splitlines() for path in (one, other))
    column = first[0].split(",").index("sm")
    for a, b in zip(first[1:], second[1:], strict=True):
        a, b = a.split(",")[column], b.split(",")[column]
        assert bool(a) == bool(b)
        if a:
            numbers += 1
            assert abs(float(a) - float(b)) < 1e-5
    assert numbers
