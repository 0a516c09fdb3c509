"""Faults of our own: nobody looks after the box, so one on a file costs that file alone."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...base.errors import DataError, KgsmError
from ..log import Log


@contextmanager
def contained(log: Log, name: str) -> Iterator[None]:
    """What nobody foresaw at a file becomes a DataError, and is logged with its place."""
    try:
        yield
    except (KgsmError, OSError):
        raise
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        what = f"{type(error).__name__}: {error}"
        log("fault", file=name, error=what, at=f"{Path(at.filename).name}:{at.lineno}")
        raise DataError(
            f"{name}: a fault of kgsm ({what}); report it, and drop the file in again later"
        ) from error
