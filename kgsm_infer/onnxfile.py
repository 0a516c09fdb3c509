"""The little of an ONNX file the light side must see for itself: its metadata and graph.

An ONNX file is one protobuf message (ModelProto of onnx.proto3): field 7 holds the
graph, each field 14 a metadata entry (key = 1, value = 2). Walking the top level is
enough to find the card and to hash the graph, without the ``onnx`` package and before
any engine touches the file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .card import CARD_KEY, Card, card_from_json
from .errors import ModelError

GRAPH, _METADATA = 7, 14


@dataclass(frozen=True)
class ModelFile:
    """A checked model file. role: ``complete`` or ``core``, by its graph's sha256."""

    path: Path
    role: str
    card: Card
    content: bytes


def read_model_file(path: str | Path) -> ModelFile:
    """Read a model and hold it against its card; ModelError says what is wrong.

    The card must be there and readable, the graph must be the one the card names,
    and a sibling beside it, if there is one, must carry the same card.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from None
    card_text, graph_sha256 = card_and_graph(content, str(path))
    if card_text is None:
        raise ModelError(f"{path}: no model card; not a model exported by kgsm-train")
    card = card_from_json(card_text, str(path))
    roles = [role for role, digest in card.graph_sha256.items() if digest == graph_sha256]
    if not roles:
        raise ModelError(
            f"{path}: its graph is not the one its card describes; the file was changed "
            "after export, copy it again"
        )
    sibling = sibling_path(path, roles[0])
    if sibling.is_file():
        other, _ = card_and_graph(sibling.read_bytes(), str(sibling))
        if other != card_text:
            raise ModelError(
                f"{path}: {sibling.name} beside it belongs to another model; "
                "copy both files from one export"
            )
    return ModelFile(path, roles[0], card, content)


def sibling_path(path: Path, role: str) -> Path:
    """Where the other file of the model would be: NAME.onnx and NAME.core.onnx."""
    stem = path.name.removesuffix(".onnx").removesuffix(".core")
    return path.with_name(f"{stem}.core.onnx" if role == "complete" else f"{stem}.onnx")


def card_and_graph(content: bytes, source: str) -> tuple[str | None, str]:
    """The card's text (None where there is none) and the graph's sha256."""
    card_text, graph = None, None
    try:
        for field, value in message_fields(content):
            if field == GRAPH:
                graph = value
            elif field == _METADATA:
                entry = dict(message_fields(value))
                if bytes(entry.get(1, b"")).decode() == CARD_KEY:
                    card_text = bytes(entry.get(2, b"")).decode()
    except (IndexError, ValueError) as error:
        raise ModelError(f"{source}: not an ONNX file, or a truncated one ({error})") from None
    if graph is None:
        raise ModelError(f"{source}: not an ONNX file, or a truncated one (no graph in it)")
    return card_text, hashlib.sha256(graph).hexdigest()


def message_numbers(message: bytes | memoryview) -> dict[int, list[int]]:
    """Field number -> the varints it holds, unpacked as the ``onnx`` package writes them."""
    numbers: dict[int, list[int]] = {}
    for field, value in _walk(message):
        if isinstance(value, int):
            numbers.setdefault(field, []).append(value)
    return numbers


def message_fields(message: bytes | memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, bytes) of each length-delimited field of a protobuf message."""
    for field, value in _walk(message):
        if not isinstance(value, int):
            yield field, value


def _walk(message: bytes | memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Varints and length-delimited fields in their order; what else there is is passed over."""
    view, at = memoryview(message), 0
    while at < len(view):
        key, at = _varint(view, at)
        field, wire = key >> 3, key & 7
        if wire == 0:  # varint
            value, at = _varint(view, at)
            yield field, value
        elif wire == 2:  # length-delimited
            size, at = _varint(view, at)
            if at + size > len(view):
                raise ValueError("a field runs past the end of the file")
            yield field, view[at : at + size]
            at += size
        elif wire in (1, 5):  # fixed 64 and 32 bits
            at += 8 if wire == 1 else 4
        else:
            raise ValueError(f"unknown wire type {wire}")
    if at > len(view):
        raise ValueError("a field runs past the end of the file")


def _varint(view: memoryview, at: int) -> tuple[int, int]:
    value, shift = 0, 0
    while True:
        if at >= len(view):
            raise ValueError("the file ends inside a number")
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than 64 bits")
