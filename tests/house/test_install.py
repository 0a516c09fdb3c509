"""The distribution as users get it: built, installed with the base dependencies only, run.

Nothing here imports kgsm into the test process; every check runs in the environment it is about,
away from the source tree.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from email.parser import HeaderParser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BASE = {"numpy", "typer"}
NEEDS_TRAIN = "pip install 'kgsm[train]'"
IN_THE_TREE_ONLY = ("*.so", "*.pyd", "*.egg-info", ".*", "__pycache__", "build", "dist")
INTEGER_OR_REAL = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A command in a clean environment: no KGSM_PURE, no PYTHONPATH, no coverage."""
    hidden = ("KGSM_", "PYTHON", "COV_", "COVERAGE_", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=env, capture_output=True, text=True
    )


def must(*command: str | Path, cwd: Path) -> str:
    """The command's standard output; a failure shows both streams."""
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
    """wheel: from the source tree.  sdist, and wheel_of_sdist: built from its unpacked files."""

    wheel: Path
    sdist: Path
    wheel_of_sdist: Path


@dataclass(frozen=True)
class Environment:
    """A virtual environment with the wheel and its base dependencies."""

    bin: Path
    home: Path

    def python(self, code: str) -> str:
        """What ``python -c code`` prints there."""
        return must(self.bin / "python", "-c", code, cwd=self.home).strip()


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """Both distributions, from a copy of the tree that has nothing built in it."""
    folder = tmp_path_factory.mktemp("built")
    need_registry(folder)
    source = folder / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(*IN_THE_TREE_ONLY, "demo-out", "runs")
    )
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


def only(folder: Path, pattern: str) -> Path:
    """The one file there."""
    (path,) = folder.glob(pattern)
    return path


@pytest.fixture(scope="session")
def base(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel made from the sdist, as ``pip install kgsm`` would, in the versions tested."""
    home = tmp_path_factory.mktemp("base")
    venv.create(home / "venv", with_pip=True, clear=True)
    bin_folder = home / "venv" / ("Scripts" if os.name == "nt" else "bin")
    constraints = ROOT / "constraints.txt"
    pip = [bin_folder / "python", "-m", "pip"]
    must(*pip, "install", "-q", "-c", constraints, built.wheel_of_sdist, cwd=home)
    return Environment(bin_folder, home)


def metadata(wheel: Path) -> list[tuple[str, str]]:
    """The headers of METADATA."""
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))
        return HeaderParser().parsestr(archive.read(name).decode()).items()


def test_one_wheel_serves_every_python(built: Built) -> None:
    for wheel in (built.wheel, built.wheel_of_sdist):
        assert wheel.name.startswith("kgsm-"), wheel.name
        assert "-cp311-abi3-" in wheel.name


def test_wheel_has_the_packages_and_no_sources(built: Built) -> None:
    for wheel in (built.wheel, built.wheel_of_sdist):
        with zipfile.ZipFile(wheel) as archive:
            names = set(archive.namelist())
        top = {name.split("/")[0] for name in names if ".dist-info/" not in name}
        assert top == {"kgsm_infer", "kgsm_train"}
        endings = {Path(name).suffix for name in names if ".dist-info/" not in name}
        # beside the modules: the extension, the marker of types, the shipped model, the page
        assert endings - {".so", ".pyd"} == {".py", ".typed", ".onnx", ".json", ".css", ".js"}
        shipped = ("model/wetness.onnx", "daily/oznet.json", "gateway/http/page.js")
        assert {f"kgsm_infer/{name}" for name in shipped} <= names
        expected = {
            f"{package}/{path.name}"
            for package in ("kgsm_infer", "kgsm_train")
            for path in (ROOT / package).iterdir()
            if path.suffix in (".py", ".typed")
        }
        assert expected <= names
        assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_sdist_has_every_source(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {
        f"csrc/{path.name}" for path in (ROOT / "csrc").iterdir() if path.suffix in (".c", ".h")
    }
    assert sources and sources <= names
    assert {"setup.py", "pyproject.toml", "LICENSE", "kgsm_infer/kernels/_core.pyx"} <= names
    assert not [name for name in names if name.endswith((".so", ".pyd", "_core.c"))]


def test_base_dependencies_are_three(built: Built) -> None:
    required = [value for name, value in metadata(built.wheel) if name == "Requires-Dist"]
    always = {re.split(r"[^\w-]", line)[0] for line in required if "extra ==" not in line}
    assert always == BASE
    assert any(line.startswith("torch") and 'extra == "train"' in line for line in required)
    # a build that wants numpy's headers would tie the wheel to a numpy
    assert "numpy" not in (ROOT / "pyproject.toml").read_text().split("[project]")[0].lower()


def test_version_is_the_packages(built: Built, base: Environment) -> None:
    version = base.python("import kgsm_infer; print(kgsm_infer.__version__)")
    assert dict(metadata(built.wheel))["Version"] == version
    assert must(base.bin / "kgsm-infer", "--version", cwd=base.home).strip() == version


@pytest.mark.parametrize(
    "name", ["torch", "onnx", "pandas", "scipy", "matplotlib", "pyarrow", "pydantic"]
)
def test_base_install_is_light(base: Environment, name: str) -> None:
    code = f"import importlib.util as u; print(u.find_spec({name!r}) is None)"
    assert base.python(code) == "True", f"{name} is importable in the base install"


def test_it_is_the_installed_package_on_the_c_core(base: Environment) -> None:
    code = "from kgsm_infer import kernels as k; print(k.__file__); print(k.engine_name())"
    where, engine = base.python(code).splitlines()
    assert Path(where).is_relative_to(base.home / "venv")
    assert engine == "c"


IMPORT = "import sys, kgsm_infer"
HELP = """
import contextlib, io, sys
from kgsm_infer.app.cli import main
sys.argv = ["kgsm-infer", "--help"]
shown = io.StringIO()
with contextlib.redirect_stdout(shown):
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
assert "predict" in shown.getvalue(), shown.getvalue()
"""


@pytest.mark.parametrize(
    ("code", "also"), [(IMPORT, {"typer"}), (HELP, set())], ids=["import", "help"]
)
def test_a_blink_loads_nothing_heavy(base: Environment, code: str, also: set[str]) -> None:
    asked = "import json; print(json.dumps(sorted({m.split('.')[0] for m in sys.modules})))"
    loaded = set(json.loads(base.python(f"{code}\n{asked}")))
    assert "kgsm_infer" in loaded
    assert not loaded & {"numpy", "onnxruntime", "kgsm_train", "pydantic", *also}


def test_commands_show_help(base: Environment) -> None:
    shown = must(base.bin / "kgsm-infer", "--help", cwd=base.home)
    for command in ("predict", "isolate", "invert", "info"):
        assert command in shown
        assert "--help" in must(base.bin / "kgsm-infer", command, "--help", cwd=base.home)


@pytest.mark.parametrize(
    "arguments",
    [("simulate", "-o", "twin.csv"), ("crossval", "none.toml", "-o", "r"), ("fit", "--help")],
    ids=" ".join,
)
def test_training_says_what_to_install(base: Environment, arguments: tuple[str, ...]) -> None:
    done = run(base.bin / "kgsm-train", *arguments, cwd=base.home)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("kgsm-train: ") and NEEDS_TRAIN in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout
    assert not (base.home / "twin.csv").exists()


@pytest.mark.parametrize("name", ["model.onnx", "model.core.onnx"])
def test_predict_gives_the_same_numbers(
    base: Environment, tiny_model: Path, tmp_path: Path, name: str
) -> None:
    arguments = ["predict", tiny_model / name, tiny_model / "twin.csv", "-o"]
    must(base.bin / "kgsm-infer", *arguments, tmp_path / "base.csv", cwd=base.home)
    # the full environment, which may run the sources in place
    must(sys.executable, "-m", "kgsm_infer.app.cli", *arguments, tmp_path / "full.csv", cwd=ROOT)
    light, full = rows_of(tmp_path / "base.csv"), rows_of(tmp_path / "full.csv")
    assert light[0] == full[0] and {"site", "date", "sm", "soil_db", "flags"} <= set(light[0])
    assert len(light) == len(full) == len(rows_of(tiny_model / "twin.csv")) > 1
    numbers = 0
    for line, (there, here) in enumerate(zip(light, full, strict=True), start=1):
        for a, b in zip(there, here, strict=True):
            if INTEGER_OR_REAL.fullmatch(a) and INTEGER_OR_REAL.fullmatch(b):
                numbers += 1
                assert math.isclose(float(a), float(b), rel_tol=0, abs_tol=1e-4), (line, a, b)
            else:
                assert a == b, (line, a, b)
    column = light[0].index("sm")
    sm = [float(row[column]) for row in light[1:] if row[column]]
    assert numbers > len(sm) > 0 and all(0 <= value <= 1 for value in sm)


def rows_of(path: Path) -> list[list[str]]:
    """The table as text; a line that starts with # is a remark."""
    with path.open(newline="", encoding="utf-8") as file:
        return [row for row in csv.reader(file) if row and not row[0].startswith("#")]


def test_the_small_machines_packages_are_pinned_by_hash() -> None:
    """Each line of requirements-edge.txt names one version and its files' hashes, and the base
    install's packages are among them."""
    text = (ROOT / "requirements-edge.txt").read_text(encoding="utf-8")
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    pins = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert all("==" in pin for pin in pins)
    assert all("--hash=sha256:" in line for line in lines if line and not line.startswith(" "))
    assert {"numpy", "onnxruntime", "typer"} <= {pin.partition("==")[0] for pin in pins}
