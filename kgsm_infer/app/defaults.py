"""Defaults of options from a TOML file: ``kgsm-infer --defaults farm.toml COMMAND ...``.

    [map]
    fields = "paddocks.geojson"
    threads = 4

    [prepare]
    catalogue = "https://example.org/stac"
    collection = ["sentinel-1-grd", "sentinel-2-l2a"]

A table has the name of a command, a key that of an option without the dashes. An option on the
command line overrides the file. Paths are relative to the file.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UsageError
from ..base.schema import decode_text, parse_toml


@dataclass(frozen=True)
class _Kind:
    """TOML types that an option accepts, and their description for messages."""

    types: tuple[type, ...]
    what: str


_TEXT = _Kind((str,), "text")
#: Kinds of options by the name of their type in typer; the others are text.
_KINDS = {
    "boolean": _Kind((bool,), "true or false"),
    "int": _Kind((int,), "a whole number"),
    "float": _Kind((int, float), "a number"),
}


def read_defaults(path: Path, group: Any) -> dict[str, dict[str, Any]]:
    """Read defaults for the commands of ``group``, by command and parameter name.

    UsageError names file, command, key and the nearest name where one is unknown.
    """
    try:
        tables = parse_toml(decode_text(path.read_bytes()))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return _of_group(path, tables, group, "")


def _of_group(path: Path, tables: Mapping[str, Any], group: Any, above: str) -> dict[str, Any]:
    defaults: dict[str, Any] = {}
    for name, keys in tables.items():
        command = group.commands.get(name)
        if command is not None and not isinstance(keys, dict):
            raise UsageError(f"{path}: {above}{name} is a command; write its options in a table")
        if command is None:
            hint = _nearest(name, group.commands)
            raise UsageError(f"{path}: {above}{name} is not a command of kgsm-infer{hint}")
        defaults[name] = _of_command(path, keys, command, f"{above}{name}")
    return defaults


def _of_command(path: Path, keys: Mapping[str, Any], command: Any, name: str) -> dict[str, Any]:
    options = {
        word.removeprefix("--"): param
        for param in command.params
        if param.param_type_name == "option"
        for word in param.opts
        if word.startswith("--") and word != "--help"
    }
    found: dict[str, Any] = {}
    below = getattr(command, "commands", {})
    for key, value in keys.items():
        if key in below and isinstance(value, dict):
            found |= _of_group(path, {key: value}, command, f"{name}.")
            continue
        param = options.get(key)
        if param is None:
            raise UsageError(f"{path}: {name} has no option {key}{_nearest(key, options)}")
        values = value if isinstance(value, list) else [value]
        if isinstance(value, list) and not param.multiple:
            raise UsageError(f"{path}: {name}.{key} takes one value, the file has a list")
        kind = _KINDS.get(param.type.name.removesuffix(" range"), _TEXT)
        if not all(type(one) in kind.types for one in values):
            raise UsageError(f"{path}: {name}.{key} must be {kind.what}")
        if param.type.name == "path":
            values = [one if one == "-" else str(path.parent / one) for one in values]
        found[param.name] = values if param.multiple else values[0]
    return found


def _nearest(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]}?" if near else ""
