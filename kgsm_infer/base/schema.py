"""JSON read strictly, into frozen dataclasses: what a field's type does not allow is refused.

    @dataclass(frozen=True)
    class Channel:
        name: str
        mean: float

    typed(Channel, strict_json('{"name": "ndvi", "mean": 0.4}'))

A field may be str, bool, int, float (finite; a whole number is one too), ``X | None``,
``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[str, X]``, a dataclass, or Any, which is any JSON.
Fields with a default may be left out; names the dataclass does not have are refused.
"""

from __future__ import annotations

import dataclasses
import json
import math
import types
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

_T = TypeVar("_T")

#: Whole numbers beyond this are no count of anything; float64 would round them.
MOST = 2**53
#: Levels of lists and objects in each other.
DEEPEST = 20


def strict_json(text: str | bytes) -> Any:
    """The value of a JSON text; ValueError says why it is none.

    Refused beside broken JSON: NaN and Infinity, a name twice in an object, numbers beyond
    float64, more than DEEPEST levels.
    """
    try:
        value = json.loads(
            text, parse_constant=_no_constant, object_pairs_hook=_once, parse_float=_finite
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start})") from None
    _check_depth(value, DEEPEST)
    return value


def typed(kind: type[_T], value: Any, where: str = "") -> _T:
    """``value`` of plain JSON as ``kind``; ValueError names the place and what is wrong.

    >>> typed(tuple[float, float], [1, 2.5])
    (1.0, 2.5)
    >>> typed(Mapping[str, int], {"a": 2**60}, "counts")
    Traceback (most recent call last):
    ValueError: counts.a: 1152921504606846976 is too large
    """
    return _build(kind, value, where)  # type: ignore[no-any-return]


def _build(kind: Any, value: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        (some,) = (option for option in get_args(kind) if option is not types.NoneType)
        return None if value is None else _build(some, value, where)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, where)
    if origin is tuple:
        return _tuple(get_args(kind), value, where)
    if origin is Mapping:
        if not isinstance(value, dict):
            raise _unfit(where, value, "an object")
        of = get_args(kind)[1]
        return {name: _build(of, item, _at(where, name)) for name, item in value.items()}
    return _scalar(kind, value, where)


def _scalar(kind: Any, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        if abs(value) > MOST:
            raise ValueError(f"{where}: {_short(value)} is too large")
        value = float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        names = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
        raise _unfit(where, value, names[kind])
    if kind is int and abs(value) > MOST:
        raise ValueError(f"{where}: {_short(value)} is too large")
    if kind is float and not math.isfinite(value):
        raise ValueError(f"{where}: {value} is not finite")
    return value


def _tuple(kinds: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, list):
        raise _unfit(where, value, "a list")
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{where}: {len(value)} values, {len(kinds)} are expected")
    pairs = zip(kinds, value, strict=True)
    return tuple(_build(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(pairs))


def _dataclass(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _unfit(where, value, "an object")
    fields = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(set(value) - set(fields))
    if unknown:
        raise ValueError(f"{where or 'it'} has no {_short(unknown[0])}")
    hints = _hints(kind)
    given = {}
    for name, item in fields.items():
        if name in value:
            given[name] = _build(hints[name], value[name], _at(where, name))
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(f"{_at(where, name)} is missing")
    try:
        return kind(**given)
    except ValueError as error:  # what the dataclass itself asks of its values
        raise ValueError(f"{where}: {error}" if where else str(error)) from None


@cache
def _hints(kind: Any) -> dict[str, Any]:
    return get_type_hints(kind)


def _at(where: str, name: str) -> str:
    return f"{where}.{_short(name)}" if where else _short(name)


def _unfit(where: str, value: Any, what: str) -> ValueError:
    return ValueError(f"{where or 'it'} is {_short(value)}, expected {what}")


def _short(value: Any, most: int = 60) -> str:
    """A value in few printable characters, as JSON would have it."""
    if isinstance(value, (dict, list)):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**most:
        return "a number of many digits"
    text = value if isinstance(value, str) else json.dumps(value)
    text = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond float64")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{_short(twice)} stands there twice")
    return value


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError("nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)
