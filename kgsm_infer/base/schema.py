"""Read TOML and JSON into frozen dataclasses, and describe them in JSON Schema.

The type of a field and its constraints state what it may hold:

    @dataclass(frozen=True)
    class Server:
        host: str
        port: Annotated[int, Range(1, 65535)] = 8480
        scheme: Annotated[str, Choices(("http", "https"))] = "https"

    build(Server, {"host": "localhost", "port": 70000})
    # ValueError: port is 70000, expected a whole number from 1 to 65535

Types: str, bool, int, float (finite; a whole number is accepted), Path, ``X | Y``, ``X | None``,
``tuple[X, ...]``, ``tuple[X, Y]``, ``Mapping[K, X]``, dataclasses, and Any (any value). Fields
with a default may be omitted; unknown keys are refused. Rules that join several fields belong
into ``__post_init__``, as ValueError.

Pure Python without dependencies; docs/design.md has the comparison with cattrs and dacite.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
import re
import types
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from .errors import DataError, KgsmError

_T = TypeVar("_T")

#: Largest whole number; float64 rounds larger ones.
LARGEST_INT = 2**53
#: Most levels of lists and objects inside each other.
MAX_DEPTH = 20
#: Largest settings file, bytes.
MAX_BYTES = 256 * 2**20
_SCALARS = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
_SCHEMA_TYPES = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "string"}


# -- constraints ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Range:
    """Bounds of a number: ``low`` and ``high`` are included, ``above`` and ``below`` are not."""

    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None

    def accepts(self, value: Any) -> bool:
        """Return True if a number lies inside the bounds; other values pass."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return True
        return not (
            (self.low is not None and not value >= self.low)
            or (self.high is not None and not value <= self.high)
            or (self.above is not None and not value > self.above)
            or (self.below is not None and not value < self.below)
        )

    def describe(self, kind: str) -> str:
        """Return the bounds in words, after the name of the type.

        >>> Range(1, 65535).describe("a whole number"), Range(above=0).describe("a number")
        ('a whole number from 1 to 65535', 'a number above 0')
        """
        if self.low is not None and self.high is not None:
            return f"{kind} from {self.low:.15g} to {self.high:.15g}"
        words = {
            "of at least": self.low,
            "above": self.above,
            "of at most": self.high,
            "below": self.below,
        }
        bounds = " and ".join(
            f"{word} {end:.15g}" for word, end in words.items() if end is not None
        )
        return f"{kind} {bounds}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema keywords."""
        ends = {
            "minimum": self.low,
            "maximum": self.high,
            "exclusiveMinimum": self.above,
            "exclusiveMaximum": self.below,
        }
        return {key: end for key, end in ends.items() if end is not None}


@dataclass(frozen=True, init=False)
class Choices:
    """The values a field may have."""

    values: tuple[str, ...]

    def __init__(self, values: Iterable[str]) -> None:
        object.__setattr__(self, "values", tuple(values))

    def accepts(self, value: Any) -> bool:
        """Return True for an allowed value."""
        return value in self.values

    def describe(self, kind: str) -> str:
        """Return the allowed values in words."""
        return f"one of {', '.join(self.values)}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema keywords."""
        return {"enum": list(self.values)}


@dataclass(frozen=True)
class Length:
    """Bounds of a text's characters or of a list's items, both included."""

    low: int = 0
    high: int | None = None

    def accepts(self, value: Any) -> bool:
        """Return True if the length of a text or list lies inside the bounds."""
        return self.low <= len(value) and (self.high is None or len(value) <= self.high)

    def describe(self, kind: str) -> str:
        """Return the bounds in words."""
        unit = "characters" if kind == "text" else "items"
        if self.high is None:
            return f"{kind} with at least {self.low} {unit}"
        return f"{kind} of {self.low} to {self.high} {unit}"

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema keywords of a text; those of a list replace Length by Items."""
        ends = {"minLength": self.low, "maxLength": self.high}
        return {key: end for key, end in ends.items() if end}


@dataclass(frozen=True)
class Pattern:
    """A regular expression the whole text must match; ``what`` describes it to the user."""

    expression: str
    what: str

    def accepts(self, value: Any) -> bool:
        """Return True if the whole text matches."""
        return re.fullmatch(self.expression, value) is not None

    def describe(self, kind: str) -> str:
        """Return the description."""
        return self.what

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema keywords."""
        return {"pattern": f"^(?:{self.expression})$", "description": self.what}


@dataclass(frozen=True)
class Parse:
    """Convert a plain value with ``convert``, which raises ValueError with the reason.

    what: the expected value, as in "is …, expected WHAT".
    """

    convert: Callable[[Any], Any]
    what: str


@dataclass(frozen=True)
class Secret:
    """A text kept outside the file: ``NAME_file`` holds its path or ``NAME_env`` its variable.

    parse: converts the text; raises ValueError. ``{credentials}`` in a path is the folder in
    which systemd passes secrets (``LoadCredential=``).
    """

    parse: Callable[[str], Any] = str


@dataclass(frozen=True)
class Help:
    """A description, for messages and for JSON Schema."""

    text: str


class Option(Enum):
    """Options of a field.

    ANY_FLOAT: NaN and infinity are accepted too.  ONE_OR_MANY: a single item is a list of one.
    """

    ANY_FLOAT = "any float"
    ONE_OR_MANY = "one or many"


_Constraint = Range | Choices | Length | Pattern


# -- values --------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Place:
    """Position of a value: its dotted key, and the folder its relative paths start from."""

    key: str = ""
    folder: Path | None = None

    def __str__(self) -> str:
        return self.key or "the document"

    def at(self, name: str) -> _Place:
        return _Place(f"{self.key}.{show(name)}" if self.key else show(name), self.folder)

    def item(self, index: int) -> _Place:
        return _Place(f"{self.key}[{index}]", self.folder)


def build(kind: type[_T], value: Any, where: str = "", folder: Path | None = None) -> _T:
    """Return plain JSON or TOML as ``kind``; ValueError names key, value and what is allowed.

    where: key of the value itself.  folder: relative paths in the value start there.

    >>> build(tuple[float, float], [1, 2.5])
    (1.0, 2.5)
    >>> build(Mapping[str, int], {"a": 2**60}, "counts")
    Traceback (most recent call last):
    ValueError: counts.a is 1152921504606846976, which is too large
    """
    return _build(kind, value, _Place(where, folder))  # type: ignore[no-any-return]


def read(
    kind: type[_T],
    value: Any,
    source: str | Path,
    error: type[KgsmError] = DataError,
    folder: Path | None = None,
    where: str = "",
) -> _T:
    """Return plain JSON or TOML as ``kind``; ``error`` names the source, then as :func:`build`."""
    try:
        return build(kind, value, where, folder)
    except ValueError as reason:
        raise error(f"{source}: {reason}") from None


def build_from_text(kind: type[_T], texts: Mapping[str, str]) -> _T:
    """Return a flat dataclass from texts, such as the parameters of a URL, as :func:`build`.

    >>> @dataclass(frozen=True)
    ... class Query:
    ...     limit: Annotated[int, Range(1, 10)] = 10
    >>> build_from_text(Query, {"limit": "11"})
    Traceback (most recent call last):
    ValueError: limit is 11, expected a whole number from 1 to 10
    """
    hints: dict[str, Any] = _hints(kind)  # type: ignore[arg-type]
    return build(
        kind, {name: _from_text(hints.get(name, str), text) for name, text in texts.items()}
    )


def _from_text(kind: Any, text: str) -> Any:
    """Return a number or truth value where the type wants one and the text is one."""
    kind, _ = _split(kind)
    options = [_split(option)[0] for option in _options(kind)]
    if bool in options and text in ("true", "false"):
        return text == "true"
    if int in options and re.fullmatch(r"-?[0-9]{1,16}", text):
        return int(text)
    if float in options and re.fullmatch(r"-?[0-9]{1,16}(\.[0-9]{1,20})?", text):
        return float(text)
    return text


def _split(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return a type without its metadata, and the metadata."""
    if get_origin(kind) is Annotated:
        base, *metadata = get_args(kind)
        return base, tuple(metadata)
    return kind, ()


def _options(kind: Any) -> tuple[Any, ...]:
    """Return the members of a union, of any other type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _build(kind: Any, value: Any, place: _Place, inherited: tuple[Option, ...] = ()) -> Any:
    kind, own = _split(kind)
    metadata = (*own, *inherited)
    for item in metadata:
        if isinstance(item, Parse):
            return _parsed(item, value, place)
    if Option.ONE_OR_MANY in metadata and not isinstance(value, (list, tuple)):
        value = [value]
    found = _of_type(kind, value, place, metadata)
    if found is not None:
        for item in metadata:
            if isinstance(item, _Constraint) and not item.accepts(found):
                raise _unfit(place, value, kind, metadata)
    return found


def _of_type(kind: Any, value: Any, place: _Place, metadata: tuple[Any, ...]) -> Any:
    if kind is Any:
        return value
    options = _options(kind)
    if len(options) > 1:
        return _union(options, value, place, metadata)
    if dataclasses.is_dataclass(kind):
        return _dataclass(kind, value, place)
    origin = get_origin(kind)
    if origin is tuple:
        return _tuple(get_args(kind), value, place)
    if origin is Mapping:
        if not isinstance(value, Mapping):
            raise _unfit(place, value, kind, metadata)
        key, of = get_args(kind)
        return _mapping(key, of, value, place)
    return _scalar(kind, value, place, metadata)


def _mapping(key: Any, of: Any, value: Mapping[Any, Any], place: _Place) -> dict[Any, Any]:
    """Build keys and values; ValueError where two keys are written differently and are the same."""
    found: dict[Any, Any] = {}
    written: dict[Any, Any] = {}
    for name, item in value.items():
        built = _build(key, name, place.at(name))
        if built in found:
            raise ValueError(
                f"{place} has {show(written[built])} and {show(name)}, which are the same"
            )
        found[built], written[built] = _build(of, item, place.at(name)), name
    return found


def _union(options: tuple[Any, ...], value: Any, place: _Place, metadata: tuple[Any, ...]) -> Any:
    """Return the value as the first member of its shape; reasons are those of that member."""
    if value is None and types.NoneType in options:
        return None
    fitting = [option for option in options if _same_shape(option, value)]
    if not fitting:
        raise _unfit(place, value, Union[options], metadata)  # noqa: UP007  made from a tuple
    return _build(fitting[0], value, place, tuple(m for m in metadata if isinstance(m, Option)))


def _same_shape(kind: Any, value: Any) -> bool:
    """Return True if a value has the outer type of ``kind``, whatever is inside."""
    kind, metadata = _split(kind)
    if any(isinstance(item, Parse) for item in metadata):
        return not isinstance(value, (Mapping, list, tuple))
    origin = get_origin(kind)
    if dataclasses.is_dataclass(kind) or origin is Mapping:
        return isinstance(value, Mapping)
    if origin is tuple:
        return isinstance(value, (list, tuple))
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    allowed: dict[Any, Any] = {float: (int, float), int: (int, float), str: str, Path: str}
    return kind in allowed and isinstance(value, allowed[kind])


def _scalar(kind: Any, value: Any, place: _Place, metadata: tuple[Any, ...]) -> Any:
    if kind is Path:
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise ValueError(f"{place} is {show(value)}, expected a path")
        return Path(value) if place.folder is None else place.folder / value
    if isinstance(value, int) and not isinstance(value, bool) and kind in (int, float):
        if abs(value) > LARGEST_INT and not (kind is float and Option.ANY_FLOAT in metadata):
            raise ValueError(f"{place} is {show(value)}, which is too large")
        try:
            value = kind(value)
        except OverflowError:
            raise ValueError(f"{place} is {show(value)}, which is too large") from None
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise _unfit(place, value, kind, metadata)
    if kind is float and not math.isfinite(value) and Option.ANY_FLOAT not in metadata:
        raise _unfit(place, value, kind, metadata)
    return value


def _tuple(kinds: tuple[Any, ...], value: Any, place: _Place) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _unfit(place, value, tuple[kinds])  # type: ignore[valid-type]
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(value) != len(kinds):
        raise ValueError(f"{place} has {len(value)} values, expected {len(kinds)}")
    pairs = zip(kinds, value, strict=True)
    return tuple(_build(kind, item, place.item(i)) for i, (kind, item) in enumerate(pairs))


def _parsed(parse: Parse, value: Any, place: _Place) -> Any:
    try:
        return parse.convert(value)
    except ValueError as error:
        raise ValueError(
            f"{place} is {show(value)}, expected {parse.what}"
            + (f" ({error})" if str(error) else "")
        ) from None


def _dataclass(kind: Any, value: Any, place: _Place) -> Any:
    if not isinstance(value, Mapping):
        raise _unfit(place, value, kind)
    hints = _hints(kind)
    fields = [item for item in dataclasses.fields(kind) if item.init]
    secrets = {item.name: secret for item in fields if (secret := _secret(hints[item.name]))}
    known = [item.name for item in fields if item.name not in secrets]
    known += [f"{name}_{way}" for name in secrets for way in ("file", "env")]
    for name in value:
        if name in secrets:
            raise ValueError(
                f"{place.at(name)}: secrets are not kept in this file; "
                f"name a file in {name}_file or an environment variable in {name}_env"
            )
        if name not in known:
            raise ValueError(f"{place.at(name)} is not a known key; {_suggest(name, known)}")
    values = {}
    for item in fields:
        if item.name in secrets:
            text = _read_secret(item.name, secrets[item.name], value, place)
            if text is not None:
                values[item.name] = text
        elif item.name in value:
            values[item.name] = _build(hints[item.name], value[item.name], place.at(item.name))
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise ValueError(
                f"{place.at(item.name)} is missing, expected {_words(hints[item.name])}"
            )
    try:
        return kind(**values)
    except ValueError as error:  # rules of the dataclass over several fields
        raise ValueError(f"{place.key}: {error}" if place.key else str(error)) from None


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _suggest(name: str, known: Iterable[str]) -> str:
    """Return the nearest known name and all known ones, in words."""
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(name, names, n=1)
    listed = f"known: {', '.join(names)}"
    return f"did you mean {near[0]}? {listed}" if near else listed


# -- secrets -------------------------------------------------------------------------------


def _secret(kind: Any) -> Secret | None:
    return next((item for item in _split(kind)[1] if isinstance(item, Secret)), None)


def _read_secret(name: str, secret: Secret, value: Mapping[str, Any], place: _Place) -> Any:
    """Return a secret from its file or environment variable; None where neither is named."""
    file = build(str | None, value.get(f"{name}_file"), place.at(f"{name}_file").key)  # type: ignore[arg-type]
    variable = build(str | None, value.get(f"{name}_env"), place.at(f"{name}_env").key)  # type: ignore[arg-type]
    if file is not None and variable is not None:
        raise ValueError(f"{place.at(name + '_file')} and {name}_env: give one of them")
    if variable is not None:
        key, text = place.at(f"{name}_env"), os.environ.get(variable, "").strip()
        if not text:
            raise ValueError(f"{key}: the environment variable {variable} is not set")
    elif file is not None:
        key, text = place.at(f"{name}_file"), _secret_text(file, place.at(f"{name}_file"))
    else:
        return None
    try:
        return secret.parse(text)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _secret_text(file: str, place: _Place) -> str:
    path = Path(file.replace("{credentials}", os.environ.get("CREDENTIALS_DIRECTORY", "")))
    try:
        text = decode_text(((place.folder or Path()) / path).read_bytes()).strip()
    except (OSError, ValueError) as error:
        raise ValueError(f"{place}: {file} cannot be read ({error})") from None
    if not text:
        raise ValueError(f"{place}: {file} is empty")
    return text


# -- words ---------------------------------------------------------------------------------


def _unfit(place: _Place, value: Any, kind: Any, metadata: tuple[Any, ...] = ()) -> ValueError:
    text = f"{place} is {show(value)}, expected {_words(kind, metadata)}"
    for item in metadata:
        if isinstance(item, Choices) and isinstance(value, str):
            near = _suggest(value, item.values)
            text += f"; {near.partition('?')[0]}?" if "?" in near else ""
    return ValueError(text)


def _words(kind: Any, metadata: tuple[Any, ...] = ()) -> str:
    """Return what a type and its constraints allow, in words."""
    kind, more = _split(kind)
    metadata = (*metadata, *more)
    options = [option for option in _options(kind) if option is not types.NoneType]
    text = " or ".join(dict.fromkeys(_type_words(option) for option in options))
    for item in metadata:
        if isinstance(item, Parse):
            return item.what
        if isinstance(item, _Constraint):
            text = item.describe(text)
        if isinstance(item, Help):
            text = f"{text} ({item.text})"
    if kind is float and Option.ANY_FLOAT not in metadata and not _has_bounds(metadata):
        text = "a finite number"
    return text


def _has_bounds(metadata: tuple[Any, ...]) -> bool:
    return any(isinstance(item, _Constraint) for item in metadata)


def _type_words(kind: Any) -> str:
    if get_origin(kind) is Annotated:
        return _words(kind)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is tuple:
        return f"a list of {len(inside)} values" if Ellipsis not in inside else _list_words(inside)
    if origin is Mapping or dataclasses.is_dataclass(kind):
        return "a table"
    return "a path" if kind is Path else _SCALARS.get(kind, "a value")


def _list_words(inside: tuple[Any, ...]) -> str:
    plural = {str: "texts", int: "whole numbers", float: "numbers", Path: "paths"}
    base, metadata = _split(inside[0])
    if any(isinstance(item, Choices) for item in metadata):
        return f"a list of {_words(inside[0]).removeprefix('one of ')}"
    return f"a list of {plural.get(base, 'tables')}"


def show(value: Any, most: int = 60) -> str:
    """Return a value as a short, printable text for messages.

    >>> show("x" * 100, 8), show({"a": 1}), show(2.5), show(True)
    ('xxxxxxx…', 'a table', '2.5', 'true')
    """
    if isinstance(value, (Mapping, list, tuple)):
        return "a table" if isinstance(value, Mapping) else "a list"
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > 10**most:
        return "a number of many digits"
    text = json.dumps(value) if isinstance(value, (bool, types.NoneType)) else str(value)
    text = "".join(c if c.isprintable() else "?" for c in text[: most + 1])
    return text if len(text) <= most else text[: most - 1] + "…"


# -- texts and files -----------------------------------------------------------------------


def decode_text(content: bytes) -> str:
    """Decode UTF-8 with or without a byte order mark; ValueError names another encoding.

    >>> decode_text(b"\\xef\\xbb\\xbfa = 1")
    'a = 1'
    >>> decode_text("a = 1".encode("utf-16"))
    Traceback (most recent call last):
    ValueError: UTF-16 text; save it as UTF-8
    """
    if content[:4] in (b"\xff\xfe\0\0", b"\0\0\xfe\xff"):
        raise ValueError("UTF-32 text; save it as UTF-8")
    # without a mark, one byte of each of the first two ASCII characters is zero
    if content[:2] in (b"\xff\xfe", b"\xfe\xff") or b"\0" in content[:2]:
        raise ValueError("UTF-16 text; save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 text (byte {error.start}); save it as UTF-8") from None


def parse_json(text: str | bytes, *, constants: bool = False) -> Any:
    """Return the value of a JSON text; ValueError states why it is invalid.

    Duplicate keys, numbers beyond float64 and more than MAX_DEPTH levels are refused, and so
    are NaN and Infinity unless ``constants`` is True.
    """
    text = decode_text(text) if isinstance(text, bytes) else text.removeprefix("\ufeff")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_unique_keys,
            parse_float=_finite,
            parse_constant=float if constants else _refuse_constant,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(value, MAX_DEPTH)
    return value


def parse_toml(text: str) -> dict[str, Any]:
    """Return the table of a TOML text; ValueError states why it is invalid."""
    import tomllib

    try:
        table = tomllib.loads(text.removeprefix("\ufeff"))
    except RecursionError:
        raise ValueError("nested too deeply") from None
    _check_depth(table, MAX_DEPTH)
    return table


@dataclass(frozen=True)
class SettingsFile:
    """A kind of settings file.

    what: such as "gateway configuration".  error: raised for anything wrong with the file.
    hint: what to do if the file is missing.  max_bytes: larger files are refused.
    """

    what: str
    error: type[KgsmError] = DataError
    hint: str = ""
    max_bytes: int = MAX_BYTES

    def load(self, path: str | Path) -> Any:
        """Return the plain value of a ``.json`` file, of any other as TOML."""
        path = Path(path)
        form = "JSON" if path.suffix.lower() == ".json" else "TOML"
        try:
            if path.stat().st_size > self.max_bytes:
                raise self.error(
                    f"{path}: larger than {self.max_bytes >> 20} MB; not a {self.what}"
                )
            text = decode_text(path.read_bytes())
            return parse_json(text, constants=True) if form == "JSON" else parse_toml(text)
        except FileNotFoundError:
            raise self.error(f"{path}: no such file{self.hint and '; '}{self.hint}") from None
        except IsADirectoryError:
            raise self.error(f"{path}: is a folder; name a {self.what} ({form})") from None
        except OSError as error:
            raise self.error(f"{path}: cannot be read ({error.strerror})") from None
        except ValueError as error:
            raise self.error(f"{path}: not a {self.what} in {form} ({error})") from None


def read_json(path: Path, error: type[KgsmError] = DataError) -> Any:
    """Return the JSON value of a file written by kgsm; ``error`` where it is not one."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise error(f"{path}: larger than {MAX_BYTES >> 20} MB; not a file of kgsm")
        return parse_json(path.read_bytes())
    except OSError as reason:
        raise error(f"{path}: cannot be read ({reason.strerror})") from None
    except ValueError as reason:
        raise error(f"{path}: not JSON ({reason})") from None


def as_plain(value: Any) -> Any:
    """Return JSON values of dataclasses, mappings, sequences and NumPy scalars; NaN is null."""
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


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]} is beyond float64")
    return value


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"duplicate key {show(twice)}")
    return value


def _check_depth(value: Any, left: int) -> None:
    if isinstance(value, (dict, list)):
        if left == 0:
            raise ValueError("nested too deeply")
        for item in value.values() if isinstance(value, dict) else value:
            _check_depth(item, left - 1)


# -- JSON Schema ---------------------------------------------------------------------------


def json_schema(kind: Any) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of what :func:`build` accepts for ``kind``.

    >>> json_schema(Annotated[int, Range(1, 9)])
    {'type': 'integer', 'minimum': 1, 'maximum': 9}
    """
    kind, metadata = _split(kind)
    found = _type_schema(kind)
    for item in metadata:
        if isinstance(item, Parse):
            found = {"type": "string", "description": item.what}
        elif isinstance(item, Length) and found.get("type") == "array":
            ends = {"minItems": item.low, "maxItems": item.high}
            found |= {key: end for key, end in ends.items() if end}
        elif isinstance(item, _Constraint):
            found |= item.schema()
        elif isinstance(item, Help):
            found["description"] = item.text
    return found


def _type_schema(kind: Any) -> dict[str, Any]:
    options = _options(kind)
    if kind is Any:
        return {}
    if len(options) > 1:
        null = [{"type": "null"}] if types.NoneType in options else []
        some = [json_schema(option) for option in options if option is not types.NoneType]
        if len(some) == 1 and isinstance(some[0].get("type"), str) and "enum" not in some[0]:
            return {**some[0], "type": [some[0]["type"], "null"]}
        return {"anyOf": some + null}
    if dataclasses.is_dataclass(kind):
        return _object_schema(kind)
    origin, inside = get_origin(kind), get_args(kind)
    if origin is tuple and Ellipsis in inside:
        return {"type": "array", "items": json_schema(inside[0])}
    if origin is tuple:
        items = [json_schema(item) for item in inside]
        return {"type": "array", "prefixItems": items, "minItems": len(items), "items": False}
    if origin is Mapping:
        return {"type": "object", "additionalProperties": json_schema(inside[1])}
    return {"type": _SCHEMA_TYPES[kind]}


def _object_schema(kind: Any) -> dict[str, Any]:
    fields, hints = dataclasses.fields(kind), _hints(kind)
    required = [
        item.name
        for item in fields
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    return {
        "type": "object",
        "properties": {item.name: json_schema(hints[item.name]) for item in fields},
        "required": required,
        "additionalProperties": False,
    }
