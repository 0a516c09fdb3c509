"""Return memory that was freed to the system."""

from __future__ import annotations

import ctypes
from contextlib import suppress


def release_memory() -> None:
    """Return freed memory to the system, where the C library can (glibc).

    It would stay with the process otherwise.
    """
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
