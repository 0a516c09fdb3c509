"""Loads the kernels on one engine, so that a test can run on both."""

from __future__ import annotations

import importlib
import importlib.util
import os
from types import ModuleType

import pytest

ENGINES = ("c", "numpy")
#: The C core's tiers this processor has (portable alone where the extension is not built).
TIERS: tuple[str, ...] = ("portable",)
if importlib.util.find_spec("kgsm_infer.kernels._core") is not None:
    TIERS = importlib.import_module("kgsm_infer.kernels._core").tiers()


def load_kernels(engine: str) -> ModuleType:
    """A fresh copy of ``kgsm_infer.kernels`` on ``c``, ``numpy`` or a tier, by the users' switch.

    A tier is in use in the whole process until :func:`fastest_tier`. Skips where the C
    extension is not built; with KGSM_REQUIRE_C=1 that is a failure.
    """
    if engine in TIERS:
        return _load_tier(engine)
    spec = importlib.util.find_spec("kgsm_infer.kernels")
    assert spec is not None and spec.loader is not None
    kernels = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KGSM_PURE", "1" if engine == "numpy" else "0")
        spec.loader.exec_module(kernels)
    if kernels.engine_name() != engine:
        reason = "kgsm_infer.kernels._core is not built (python setup.py build_ext --inplace)"
        if os.environ.get("KGSM_REQUIRE_C") == "1":
            pytest.fail(reason)
        pytest.skip(reason)
    return kernels


def fastest_tier() -> None:
    """Back to what users get."""
    if importlib.util.find_spec("kgsm_infer.kernels._core") is not None:
        importlib.import_module("kgsm_infer.kernels._core").choose_tier(None)


def _load_tier(tier: str) -> ModuleType:
    kernels = load_kernels("c")
    kernels._core.choose_tier(tier)
    assert kernels.tier_name() == tier
    return kernels
