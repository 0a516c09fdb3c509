"""Outputs appear whole or not at all: written beside, then renamed."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from .errors import MissingError, UsageError


@contextmanager
def whole(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing (``w``, UTF-8, or ``wb``) so that it appears only whole.

    The bytes go to a temporary file in the same folder, reach the disk, and are then
    renamed over ``path``. On any error, and when the process is stopped, the old file,
    if there was one, is still there. UsageError for a path that cannot be a file,
    MissingError for a disk that is full or a folder that may not be written.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: is a folder; name a file to write")
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
    text = {} if "b" in mode else {"encoding": "utf-8", "newline": ""}
    try:
        with open(part, mode.replace("w", "x"), **text) as file:  # type: ignore[call-overload]
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException as error:
        with suppress(OSError):
            part.unlink()
        if isinstance(error, OSError):
            raise _explained(path, error) from None
        raise


def _explained(path: Path, error: OSError) -> Exception:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return UsageError(f"{path}: the folder {path.parent} does not exist; make it first")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return MissingError(f"{path}: not written, the disk is full")
    return MissingError(f"{path}: not written ({error.strerror or error})")
