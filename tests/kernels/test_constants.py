"""What stands in csrc and elsewhere too: coefficients, constants, the version."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import kgsm_infer
from kgsm_infer.kernels import wcm

ROOT = Path(__file__).resolve().parents[2]
NUMBER = re.compile(r"-?0x[\da-f.]+p[+-]\d+f|-?\d+\.\d+f")


def _tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("polynomials", ROOT / "tools/polynomials.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["polynomials"] = module
    spec.loader.exec_module(module)
    return module


TOOL = _tool()


def shipped(file: str, function: str, count: int) -> list[float]:
    """The ``count`` coefficients that follow ``vf p =`` in a C function."""
    text = (ROOT / "csrc" / file).read_text(encoding="utf-8")
    body = text[re.search(rf"KGSM_INLINE vf {function}\(", text).end() :]  # type: ignore[union-attr]
    lines = [line for line in body[body.index("vf p = ") :].splitlines() if "p = " in line]
    found = [NUMBER.findall(line)[0] for line in lines[:count]]
    return [
        float.fromhex(text[:-1]) if "x" in text else float(np.float32(text[:-1])) for text in found
    ]


@pytest.mark.parametrize("item", TOOL.POLYNOMIALS, ids=lambda item: item.function)
def test_csrc_ships_what_the_tool_prints(item) -> None:
    expected = item.coefficients().astype(np.float64).tolist()
    assert shipped(item.file, item.function, item.degree + 1) == expected


@pytest.mark.parametrize("item", TOOL.POLYNOMIALS, ids=lambda item: item.function)
def test_no_polynomial_of_its_degree_has_a_smaller_error(item) -> None:
    """Chebyshev: the best one's error takes its largest size at degree + 2 points, in turn."""
    x = np.linspace(item.low, item.high, 20_001)
    fit = item.method(item.target, item.low, item.high, item.degree)
    error = np.polynomial.polynomial.polyval(x, fit) / item.target(x) - 1
    turns = np.split(error, np.flatnonzero(np.diff(np.sign(error))) + 1)
    heights = [np.abs(turn).max() for turn in turns]
    assert len(heights) == item.degree + 2
    assert min(heights) > 0.98 * max(heights)


def defined(file: str, name: str) -> str:
    text = (ROOT / "csrc" / file).read_text(encoding="utf-8")
    return re.search(rf"#define {name} (\S+)", text)[1]  # type: ignore[index]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VWC_NDVI2", wcm.VWC_NDVI2),
        ("VWC_ROOT", wcm.VWC_ROOT),
        ("VWC_ROOT_LOW", wcm.VWC_ROOT_LOW),
        ("DB_TO_NEPER", wcm.DB_TO_NEPER),
        ("NEPER_TO_DB", 10 / np.log(10)),
        ("NEPER_TO_BITS", 1 / np.log(2)),
        ("LOG2_10_TENTH", np.log2(10) / 10),
        ("LOG2_10_TENTH_LOW", np.log2(10) / 10 - float(np.float32(np.log2(10) / 10))),
        ("TEN_LOG10_2", 10 * np.log10(2)),
        ("RADIANS", np.pi / 180),
    ],
)
def test_constants_are_those_of_the_twin(name: str, value: float) -> None:
    text = defined("wcm_constants.h", name).strip("()").removesuffix("f")
    in_c = float.fromhex(text) if "x" in text else float(text)
    assert np.float32(in_c) == np.float32(value)


def test_no_constant_is_defined_twice() -> None:
    names = re.findall(
        r"#define (\w+) [-(]*[\d.]",
        "\n".join(f.read_text() for f in (ROOT / "csrc").glob("*.[ch]")),
    )
    twice = {name for name in names if names.count(name) > 1 and not name.startswith("KGSM_")}
    assert not twice


def test_the_header_carries_the_packages_version() -> None:
    assert defined("kgsm.h", "KGSM_VERSION").strip('"') == kgsm_infer.__version__
    core = pytest.importorskip("kgsm_infer.kernels._core", reason="the extension is not built")
    assert core.version() == kgsm_infer.__version__
