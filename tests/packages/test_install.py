"""Install the wheel with the base dependencies only, and run it."""

from __future__ import annotations

import csv
import json
import math
import os
import re
import shutil
import sys
import tarfile
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest
from building import ROOT, Built, Environment, install, must, run

BASE = {"numpy", "typer"}
NEEDS_TRAIN = "pip install 'kgsm[train]'"
INTEGER_OR_REAL = re.compile(r"[-+]?\d+(\.\d*)?(e[-+]?\d+)?", re.IGNORECASE)

pytestmark = pytest.mark.slow


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
    "arguments", [("crossval", "none.toml", "-o", "r"), ("fit", "--help")], ids=" ".join
)
def test_training_says_what_to_install(base: Environment, arguments: tuple[str, ...]) -> None:
    done = run(base.bin / "kgsm-train", *arguments, cwd=base.home)
    assert done.returncode == 5, done.stderr
    assert done.stderr.startswith("kgsm-train: ") and NEEDS_TRAIN in done.stderr
    assert len(done.stderr.splitlines()) == 1 and not done.stdout


def test_simulation_needs_no_torch(base: Environment) -> None:
    must(base.bin / "kgsm-train", "simulate", "--sites", "2", "-o", "twin.csv", cwd=base.home)
    assert (base.home / "twin.csv").read_text().startswith("site,")


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


PYTHONS = ("3.12", "3.13", "3.14")


def find_python(version: str) -> str | None:
    """Find a Python on the path or among those of pyenv; None without."""
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = sorted(root.glob(f"versions/{version}.*/bin/python{version}"))
    return str(found[-1]) if found else shutil.which(f"python{version}")


@pytest.mark.wheels
@pytest.mark.parametrize("version", PYTHONS)
def test_both_wheels_run_on_every_python_of_this_machine(
    built: Built, pure_wheel: Path, tiny_model: Path, tmp_path: Path, version: str
) -> None:
    python = find_python(version)
    if python is None or run(python, "--version", cwd=tmp_path).returncode != 0:
        pytest.skip(f"Python {version} is not installed; the forge's CI tests it")
    made = install(built.wheel_of_sdist, tmp_path, python)
    predict = ["predict", tiny_model / "model.core.onnx", tiny_model / "twin.csv", "-o"]
    engine = "from kgsm_infer import kernels; print(kernels.engine_name())"
    assert made.python(engine) == "c"
    must(made.bin / "kgsm-infer", *predict, tmp_path / "c.csv", cwd=tmp_path)
    pip = [made.bin / "python", "-m", "pip", "install", "-q", "--no-deps", "--force-reinstall"]
    must(*pip, pure_wheel, cwd=tmp_path)
    assert made.python(engine) == "numpy"
    must(made.bin / "kgsm-infer", *predict, tmp_path / "pure.csv", cwd=tmp_path)
    c, pure = (rows_of(tmp_path / name) for name in ("c.csv", "pure.csv"))
    column = c[0].index("sm")
    assert [row[column] != "" for row in c] == [row[column] != "" for row in pure]
    numbers = [(float(a[column]), float(b[column])) for a, b in zip(c[1:], pure[1:], strict=True)
               if a[column]]  # fmt: skip
    assert numbers and max(abs(a - b) for a, b in numbers) < 1e-5


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
