"""The walls of the house: who may import whom, lazy imports included.

Between our own modules import-linter holds the contracts of pyproject.toml. Here stand the
walls around other people's packages, and around the tests.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("kgsm_infer", "kgsm_train")
#: Package of others -> the wings and modules that may import it.
MAY_IMPORT: Mapping[str, tuple[str, ...]] = {
    "torch": ("kgsm_train.cli", "kgsm_train.fit", "kgsm_train.learning", "kgsm_train.evaluation",
              "kgsm_train.export"),
    "onnx": ("kgsm_train.cli", "kgsm_train.export"),
    "sklearn": ("kgsm_train.learning", "kgsm_train.estimators"),
    "scipy": ("kgsm_train.cli", "kgsm_train.estimators", "kgsm_train.learning",
              "kgsm_train.evaluation"),
    "matplotlib": ("kgsm_infer.daily.chart", "kgsm_infer.maps", "kgsm_infer.paddocks",
                   "kgsm_infer.scenes", "kgsm_infer.prepare", "kgsm_train.evaluation"),
    "rasterio": ("kgsm_infer.scenes", "kgsm_infer.maps", "kgsm_infer.prepare",
                 "kgsm_train.sources"),
    "shapely": ("kgsm_infer.scenes", "kgsm_infer.paddocks", "kgsm_infer.prepare"),
    "pyogrio": ("kgsm_infer.scenes", "kgsm_infer.prepare"),
    "exactextract": ("kgsm_infer.paddocks",),
    "xarray": ("kgsm_infer.scenes", "kgsm_infer.maps", "kgsm_infer.prepare"),
    "dask": ("kgsm_infer.maps", "kgsm_infer.prepare"),
    "zarr": ("kgsm_infer.scenes", "kgsm_infer.maps"),
    "netCDF4": ("kgsm_infer.scenes", "kgsm_infer.maps"),
    "onnxruntime": ("kgsm_infer.model.engines",),
    "typer": ("kgsm_infer.app", "kgsm_infer.base.help", "kgsm_infer.prepare.cli",
              "kgsm_infer.gateway.cli", "kgsm_train.cli", "kgsm_train.sources.cli"),
    "sqlite3": ("kgsm_infer.gateway",),
    "paho": ("kgsm_infer.gateway",),
    "starlette": ("kgsm_infer.gateway",),
    "hypercorn": ("kgsm_infer.gateway",),
    "pystac_client": ("kgsm_infer.prepare",),
    "sarsen": ("kgsm_infer.prepare",),
    "xarray_sentinel": ("kgsm_infer.prepare",),
    # clients of the network: inputs are downloaded in two places, and told to others in one
    "requests": ("kgsm_infer.base.network", "kgsm_infer.prepare", "kgsm_infer.gateway.publish",
                 "kgsm_train.sources.oznet_download"),
    "urllib3": ("kgsm_infer.base.network", "kgsm_infer.prepare", "kgsm_infer.gateway.publish"),
    "http": (),
    "httpx": (),
    "urllib": ("kgsm_infer.prepare.download", "kgsm_infer.gateway.publish"),  # urllib.parse
    "socket": ("kgsm_infer.gateway",),
}  # fmt: skip


def modules() -> Iterator[tuple[str, Path]]:
    for package in PACKAGES:
        for file in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
            yield name.removesuffix(".__init__"), file


@cache
def parsed(file: Path) -> ast.Module:
    """Parse a file once for all tests of this module."""
    return ast.parse(file.read_text(encoding="utf-8"))


@cache
def imported(file: Path) -> set[str]:
    """Return the top names of a file's absolute imports, also those inside functions.

    Imports under ``if TYPE_CHECKING`` never run and do not count.
    """
    found: set[str] = set()
    waiting: list[ast.AST] = [parsed(file)]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            waiting += node.orelse
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and node.args:
            first = node.args[0]
            if _last_name(node.func) in ("import_module", "optional") and isinstance(
                first, ast.Constant
            ):
                found.add(str(first.value).partition(".")[0])
        waiting += ast.iter_child_nodes(node)
    return found


def _last_name(called: ast.expr) -> str:
    """Return ``c`` of ``c(...)`` and of ``a.b.c(...)``; empty for other calls."""
    if isinstance(called, ast.Attribute):
        return called.attr
    return called.id if isinstance(called, ast.Name) else ""


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_other_peoples_packages_stay_in_their_wings(package: str) -> None:
    strangers = [
        name
        for name, file in modules()
        if package in imported(file)
        and not any(name == home or name.startswith(f"{home}.") for home in MAY_IMPORT[package])
    ]
    assert not strangers, f"{package} is imported in {', '.join(strangers)}"


def test_each_class_name_is_used_once() -> None:
    """Count nested and private classes too: a name means one thing in both packages."""
    found: dict[str, list[str]] = {}
    for module, file in modules():
        for node in ast.walk(parsed(file)):
            if isinstance(node, ast.ClassDef):
                found.setdefault(node.name, []).append(f"{module}:{node.lineno}")
    repeated = {name: places for name, places in found.items() if len(places) > 1}
    assert not repeated, f"classes of one name: {repeated}"


def test_our_own_modules_keep_to_their_contracts() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from importlinter.cli import lint_imports_command as c; c()"],
        cwd=ROOT, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[done.stdout.find("Contracts") :] + done.stderr


def test_no_test_imports_another_test_module() -> None:
    files = [*(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").glob("*.py")]
    assert not [file for file in files if any(n.startswith("test_") for n in imported(file))]
