"""JSON into frozen dataclasses, or one line on what is wrong and where.

Numbers are finite, keys are known, nothing is converted from text. A missing key takes the
dataclass's default, or is an error where it has none.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from kgsm_infer.errors import DataError

_Kind = TypeVar("_Kind")
#: Bytes a JSON file of ours may have.
MOST_BYTES = 256 * 2**20


def read_json(path: Path) -> Any:
    """The JSON value of a file; DataError where it cannot be read, is too large or too deep."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise DataError(f"{path}: larger than {MOST_BYTES >> 20} MB; not a file of kgsm")
        return parse_json(path.read_text(encoding="utf-8"), str(path))
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: not JSON text (UTF-8)") from None


def parse_json(text: str, where: str) -> Any:
    """A JSON text; DataError where it is none, or nested deeper than any file of ours."""
    try:
        return json.loads(text)
    except RecursionError:
        raise DataError(f"{where}: not JSON of kgsm (nested too deep)") from None
    except ValueError as error:
        raise DataError(f"{where}: not JSON ({error})") from None


def build(kind: type[_Kind], value: Any, where: str) -> _Kind:
    """``value`` as a ``kind``, a frozen dataclass; DataError names file and key."""
    result: _Kind = _dataclass(kind, value, where)
    return result


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _wrong(where, "an object", value)
    hints, values = get_type_hints(kind), {}
    for key in value:
        if key not in hints:
            raise DataError(f"{where}: unknown key {key[:40]!r}")
    for item in dataclasses.fields(kind):
        needed = item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
        if item.name in value:
            inside = f"{where}: {item.name}" if ": " not in where else f"{where}.{item.name}"
            values[item.name] = _value(hints[item.name], value[item.name], inside)
        elif needed:
            raise DataError(f"{where}: no key {item.name!r}")
    return kind(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, inner = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        return _dataclass(hint, value, where)
    if origin in (Union, types.UnionType):  # X | None
        kind = next(item for item in inner if item is not type(None))
        return None if value is None else _value(kind, value, where)
    if origin is tuple:
        return _tuple(inner, value, where)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _wrong(where, "an object", value)
        return {key: _value(inner[1], item, f"{where}.{key[:40]}") for key, item in value.items()}
    return _plain(hint, value, where)


def _tuple(inner: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, "a list", value)
    if inner[-1] is Ellipsis:
        inner = (inner[0],) * len(value)
    if len(value) != len(inner):
        raise DataError(f"{where}: {len(value)} items where {len(inner)} are expected")
    return tuple(
        _value(kind, item, f"{where}[{i}]")
        for i, (kind, item) in enumerate(zip(inner, value, strict=True))
    )


def _plain(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > 2**53:
            raise _wrong(where, "a number", value)
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        words = {float: "a number", int: "a whole number", str: "text", bool: "true or false"}
        raise _wrong(where, words[hint], value)
    if hint is float and not math.isfinite(value):
        raise _wrong(where, "a finite number", value)
    return value


def _wrong(where: str, expected: str, value: Any) -> DataError:
    shown = repr(value) if isinstance(value, (str, float, bool)) else type(value).__name__
    return DataError(f"{where}: {shown[:60]} is not {expected}")


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
