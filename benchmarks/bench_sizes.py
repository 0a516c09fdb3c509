"""Choose the sizes of a benchmark run.

With ``KGSM_BENCH_SMOKE=1`` in the environment every benchmark runs on tiny inputs, once. Its times
mean nothing then; tests/house/test_benchmarks.py runs them so to see that they work.
"""

from __future__ import annotations

import os
from typing import TypeVar

SMOKE = os.environ.get("KGSM_BENCH_SMOKE") == "1"
Size = TypeVar("Size")


def full_or(tiny: Size, full: Size) -> Size:
    """Return ``full``, or ``tiny`` in a smoke run."""
    return tiny if SMOKE else full
