"""Isolate unexpected errors to the file being processed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ...base.errors import DataError, KgsmError
from ..log import Log, place_of


@contextmanager
def contained(log: Log, name: str) -> Iterator[None]:
    """Turn an unexpected exception into a DataError, and log its place.

    OSError passes: the folder or the disk failed, and the file may be good.
    """
    try:
        yield
    except (KgsmError, OSError):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"[:500]
        log("fault", file=name, error=text, at=place_of(error))
        raise DataError(
            f"{name}: a fault of kgsm ({text}); report it, and drop the file again after an update"
        ) from error
