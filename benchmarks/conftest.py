"""Record the BLAS and the kernels of each benchmark run."""

from __future__ import annotations

import os
from typing import Any

import numpy  # noqa: F401  load the BLAS of NumPy
from threadpoolctl import threadpool_info

from kgsm_infer import kernels

#: Pins an older kernel of a BLAS on some machines; ``make bench`` runs without them.
PINS = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_CBWR", "MKL_ENABLE_INSTRUCTIONS")


def pytest_benchmark_update_machine_info(config: object, machine_info: dict[str, Any]) -> None:
    """Add the BLAS kernel, its pins and kgsm's tier: a pinned BLAS gives no valid bound."""
    machine_info["blas"] = [
        f"{item.get('internal_api')} {item.get('version')}, kernel {item.get('architecture')}, "
        f"{item.get('num_threads')} threads"
        for item in threadpool_info()
        if item.get("user_api") == "blas"
    ]
    machine_info["pins"] = {name: os.environ[name] for name in PINS if name in os.environ}
    machine_info["kgsm_tier"] = kernels.tier_name()
