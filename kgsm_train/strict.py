"""JSON files of this side into frozen dataclasses, or one line on what is wrong and where.

The types are held by :mod:`kgsm_infer.base.schema`; here its reasons get the file's name.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.schema import strict_json, typed

_Kind = TypeVar("_Kind")
#: Bytes a JSON file of ours may have.
MOST_BYTES = 256 * 2**20


def read_json(path: Path) -> Any:
    """The JSON value of a file; DataError where it cannot be read, is too large or is none."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than {MOST_BYTES >> 20} MB; not a file of kgsm")
        return parse_json(path.read_bytes(), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def parse_json(text: str | bytes, where: str) -> Any:
    """A JSON text; DataError where it is none, or nested deeper than any file of ours."""
    try:
        return strict_json(text)
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None


def build(kind: type[_Kind], value: Any, where: str) -> _Kind:
    """``value`` of plain JSON as a ``kind``; DataError names file and key."""
    try:
        return typed(kind, value)
    except ValueError as error:
        raise DataError(f"{where}: {error}") from None


def as_plain(value: Any) -> Any:
    """JSON values of dataclasses, mappings, sequences and NumPy scalars; NaN becomes null."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: as_plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
