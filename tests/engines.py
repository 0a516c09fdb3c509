"""Loads the kernels on one engine, so that a test can run on both."""

from __future__ import annotations

import importlib.util
import os
from types import ModuleType

import pytest

ENGINES = ("c", "numpy")


def load_kernels(engine: str) -> ModuleType:
    """A fresh copy of ``kgsm_infer.kernels`` on ``c`` or ``numpy``, by the users' switch.

    Skips where the C extension is not built; with KGSM_REQUIRE_C=1 that is a failure.
    """
    spec = importlib.util.find_spec("kgsm_infer.kernels")
    assert spec is not None and spec.loader is not None
    kernels = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGSM_PURE", "1" if engine == "numpy" else "0")
        spec.loader.exec_module(kernels)
    if kernels.engine_name() != engine:
        reason = "kgsm_infer._core is not built (python setup.py build_ext --inplace)"
        if os.environ.get("KGSM_REQUIRE_C") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return kernels
