"""Cross-compile with zig and run what an emulator or node can run (``make wheels``).

Deselected unless ``-m wheels`` is passed: zig builds a C library for each target at first.
"""

from __future__ import annotations

import importlib.util
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from building import ROOT, Built, must, only

pytestmark = [pytest.mark.wheels, pytest.mark.slow, pytest.mark.timeout(1800)]
zig = pytest.mark.skipif(
    importlib.util.find_spec("ziglang") is None, reason="ziglang is not installed ([wheels])"
)

#: Target -> the command that runs its programs. ``{}`` is the program.
RUN_WITH = {
    "x86_64-linux-musl": "{}",
    "aarch64-linux-musl": "qemu-aarch64 {}",
    "arm-linux-musleabihf": "qemu-arm {}",
    "riscv64-linux-musl": "qemu-riscv64 {}",
    "wasm32-wasi": "node {}",
}
COMPILED_ONLY = (
    "x86_64-windows-gnu",
    "aarch64-windows-gnu",
    "x86_64-macos",
    "aarch64-macos",
    "x86-linux-musl",
)
WASI = """
const { WASI } = require("node:wasi"), fs = require("node:fs");
const wasi = new WASI({ version: "preview1", args: ["check", "/in"], returnOnExit: true,
                        preopens: { "/in": process.argv[3] } });
WebAssembly.instantiate(fs.readFileSync(process.argv[2]), wasi.getImportObject())
  .then(({ instance }) => process.exit(wasi.start(instance)));
"""


def compile_check(target: str, program: Path) -> None:
    """Compile the C core and its check (tests/native/check.c) with every warning an error."""
    sources = [ROOT / "tests/native/check.c", *sorted((ROOT / "csrc").glob("*.c"))]
    # on targets without vector instructions clang does not unroll a loop that asks for it
    options = ["-std=c11", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]
    options += ["-Wno-pass-failed", f"-I{ROOT / 'csrc'}"]
    maths = [] if "windows" in target else ["-lm"]
    command = [sys.executable, "-m", "ziglang", "cc", "-target", target, *options]
    must(*command, *sources, *maths, "-o", program, cwd=program.parent)


@pytest.fixture(scope="module")
def fixtures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the inputs and expected values of the check."""
    folder = tmp_path_factory.mktemp("fixtures")
    subprocess.run([sys.executable, ROOT / "tests/native/fixtures.py", folder], check=True)
    return folder


@zig
@pytest.mark.parametrize("target", RUN_WITH)
def test_the_core_passes_its_own_check(target: str, fixtures: Path, tmp_path: Path) -> None:
    runner = RUN_WITH[target].split()[0]
    if runner == "{}" and platform.machine() != "x86_64":
        pytest.skip("this machine is not x86-64")
    if runner != "{}" and shutil.which(runner) is None:
        pytest.skip(f"{runner} is not installed")
    program = tmp_path / "check"
    compile_check(target, program)
    command: list[str | Path] = [program] if runner == "{}" else [runner, program]
    if runner == "node":
        (tmp_path / "wasi.js").write_text(WASI)
        command = ["node", "--no-warnings", tmp_path / "wasi.js", program]
    done = must(*command, fixtures, cwd=tmp_path)
    assert "portable: ok" in done and "FAILED" not in done, done


@zig
@pytest.mark.parametrize("target", COMPILED_ONLY)
def test_the_core_compiles(target: str, tmp_path: Path) -> None:
    compile_check(target, tmp_path / "check")
    assert (tmp_path / "check").stat().st_size > 10_000


@zig
@pytest.mark.parametrize(
    "target",
    [
        "x86_64-linux-gnu.2.17",
        "aarch64-linux-gnu.2.17",
        "x86_64-linux-musl",
        "aarch64-linux-musl",
    ],
)
def test_wheels_of_linux_have_the_tag_that_they_fit(
    built: Built, target: str, tmp_path: Path
) -> None:
    """auditwheel derives the tag from the symbols of the C library that the wheel uses."""
    wheel = cross_wheel(built, target, tmp_path)
    tag = wheel.stem.rpartition("-")[2]
    must(Path(sys.executable).with_name("abi3audit"), "--strict", wheel, cwd=tmp_path)
    if "musl" in target:  # auditwheel reads musl's version from the machine it runs on
        return
    shown = must(sys.executable, "-m", "auditwheel", "show", wheel, cwd=tmp_path)
    assert "requires no external shared libraries" in shown and tag.startswith("manylinux_2_17")
    versions = [int(minor) for minor in re.findall(r"GLIBC_2\.(\d+)", shown)]
    assert versions and max(versions) <= 17


@zig
def test_the_aarch64_wheel_runs_under_qemu(built: Built, tiny_model: Path, tmp_path: Path) -> None:
    if shutil.which("qemu-aarch64") is None or shutil.which("dpkg-deb") is None:
        pytest.skip("qemu-aarch64 or dpkg-deb is not installed")
    root = ROOT / "build/aarch64"
    if not (root / "usr/bin/python3.11").exists():
        script = [sys.executable, ROOT / "tools/aarch64_python.py", root]
        if subprocess.run(script, capture_output=True).returncode != 0:
            pytest.skip("Debian's packages for arm64 cannot be fetched")
    wheel = cross_wheel(built, "aarch64-linux-gnu.2.17", tmp_path)
    pip = [sys.executable, "-m", "pip", "install", "-q", "--only-binary=:all:"]
    pip += ["--platform=manylinux_2_17_aarch64", "--platform=manylinux_2_27_aarch64"]
    pip += ["--platform=manylinux_2_28_aarch64", "--python-version=3.11"]
    must(*pip, "-c", ROOT / "constraints.txt", "--target", tmp_path / "site", wheel, cwd=tmp_path)
    code = (
        "import sys; sys.path.insert(0, sys.argv.pop(1)); from kgsm_infer import kernels; "
        "print(kernels.in_use()); from kgsm_infer.app.cli import main; main()"
    )
    emulated = ["qemu-aarch64", "-L", root, root / "usr/bin/python3.11", "-c", code]
    predict = ["predict", tiny_model / "model.core.onnx", tiny_model / "twin.csv", "-o"]
    said = must(*emulated, tmp_path / "site", *predict, tmp_path / "arm.csv", cwd=tmp_path)
    assert said.startswith("c neon\n")
    here = [sys.executable, "-m", "kgsm_infer.app.cli", *predict, tmp_path / "here.csv"]
    must(*here, cwd=ROOT)
    arm, native = ((tmp_path / name).read_text() for name in ("arm.csv", "here.csv"))
    column = arm.splitlines()[0].split(",").index("sm")
    values = [[line.split(",")[column] for line in text.splitlines()[1:]] for text in (arm, native)]
    assert [value == "" for value in values[0]] == [value == "" for value in values[1]]
    pairs = [(float(a), float(b)) for a, b in zip(*values, strict=True) if a]
    assert pairs and max(abs(a - b) for a, b in pairs) < 1e-5


def cross_wheel(built: Built, target: str, folder: Path) -> Path:
    """Build the wheel of a target from the sdist with tools/wheels.py."""
    code = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import wheels; "
        "wheels.build_wheel(Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4])"
    )
    must(
        sys.executable,
        "-c",
        code,
        ROOT / "tools",
        built.sdist,
        folder / "wheel",
        target,
        cwd=folder,
    )
    return only(folder / "wheel", "*.whl")
