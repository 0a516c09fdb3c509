"""Minimal, strict ONNX reader: checks a model file before any engine reads it.

An ONNX file is one protobuf message (ModelProto of onnx.proto3): field 7 holds the graph,
each field 14 a metadata entry (key = 1, value = 2). Its top level and the graph's are walked
without the ``onnx`` package, strictly: fields that kgsm-train does not write are refused.
So no engine ever sees a second graph (a parser may merge two), another operator (a loop may
never end), a nested graph, or weights that lie in another file.

The last entry is a seal, the sha256 of every byte before it, so a flipped bit is found anywhere
in the file.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ModelError
from ..base.files import RESULTS
from ..base.quantities import RETRIEVED, UNKNOWN, Quantity
from ..base.schema import parse_json
from .card import CARD_KEY, Card, card_from_json, graph_inputs, graph_outputs

SEAL_KEY = "kgsm.sha256"
#: Models that come with the package, by name.
SHIPPED = {"wetness": Path(__file__).with_name("wetness.onnx")}
#: Upper limit of a model file; models of kgsm are far smaller.
MOST_BYTES = 256 * 2**20

#: Operators of kgsm's graphs. A head that needs another operator adds it here.
OPERATORS = frozenset(
    name
    for line in (
        "Add And Cast Clip Concat Div Equal Erf Exp Gather Gemm Greater GreaterOrEqual Identity",
        "IsInf IsNaN LSTM Less LessOrEqual Log MatMul Max Min Mul Neg Not Or Pad Pow ReduceMax",
        "ReduceMean ReduceMin ReduceSum Sin Slice Sqrt Squeeze Sub Tanh Transpose Unsqueeze Where",
    )
    for name in line.split()
)

#: Operators whose output can be larger than their inputs, and how many of each may follow one
#: another on a path through kgsm's graphs. More could double a tensor until memory ends.
_MOST_ON_A_PATH: Mapping[str, int] = {
    "Concat": 2,
    "Gather": 3,
    "Gemm": 1,
    "LSTM": 1,
    "MatMul": 2,
    "Pad": 3,
    "Transpose": 1,
    "Unsqueeze": 2,
}
#: Upper limits of a message's fields, of metadata entries, and of nodes besides those of members
#: and channels.
_MOST_FIELDS, _MOST_METADATA, _MOST_NODES = 100_000, 16, 1000

# field numbers of onnx.proto3, and the fields allowed in each message
_GRAPH, _METADATA, _OPSET = 7, 14, 8
_NODE, _INITIALIZER, _INPUT, _OUTPUT = 1, 5, 11, 12
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_MODEL_FIELDS = {1, 2, 3, 4, 5, 6, _GRAPH, _OPSET, _METADATA}
_GRAPH_LISTS = {_NODE, _INITIALIZER, _INPUT, _OUTPUT, 13}
_GRAPH_FIELDS = {*_GRAPH_LISTS, 2, 10}
_NODE_FIELDS = {1, 2, 3, 4, 5, 6, 7}
_NODE_INPUT, _NODE_OUTPUT, _NODE_OP, _NODE_ATTRIBUTE, _NODE_DOMAIN = 1, 2, 4, 5, 7
#: no tensor, graph or type among an attribute's values
_ATTRIBUTE_FIELDS = {1, 2, 3, 4, 7, 8, 9, 13, 20}
#: data in raw form only: not in another file, not in another field
_TENSOR_FIELDS = {_DIMS, _DATA_TYPE, _NAME, _RAW_DATA, 12}
_TYPES = {1: "<f4", 6: "<i4", 7: "<i8"}

Value = int | memoryview


@dataclass(frozen=True)
class ModelFile:
    """A checked model file. role: ``complete`` or ``core``, by its graph's sha256.

    path: None where the model was given as bytes.  sha256: of the content.
    """

    path: Path | None
    role: str
    card: Card
    content: bytes
    sha256: str

    @property
    def name(self) -> str:
        """The path for messages, or a phrase for a model given as bytes."""
        return str(self.path) if self.path is not None else "the model given as bytes"

    @property
    def graph(self) -> memoryview:
        """The graph's bytes."""
        return card_and_graph(self.content, self.name)[1]


def read_model_file(source: str | Path | bytes) -> ModelFile:
    """Read a model file or its content, and verify it against its card.

    ``wetness``, where no file has that name, is the one of SHIPPED.

    The card must be there and readable, the graph must be the one the card names and of its
    shapes, and nothing may have changed since export. Each file is complete by itself; see
    :func:`other_sibling` for the second one. ModelError says what is wrong.
    """
    if not isinstance(source, str | bytes | os.PathLike):
        kind = type(source).__name__
        hint = "; pass bytes(...)" if isinstance(source, bytearray | memoryview) else ""
        hint = "; pass its getvalue()" if hasattr(source, "getvalue") else hint
        raise TypeError(f"source must be the path or the bytes of a model, not {kind}{hint}")
    path = None if isinstance(source, bytes) else _shipped_or(Path(source))
    content = source if isinstance(source, bytes) else _content(_shipped_or(Path(source)))
    name = "the model given as bytes" if path is None else str(path)
    if path is not None and path.suffix.lower() in RESULTS:
        raise ModelError(
            f"{name}: is a table, not a model; name the model (.onnx) before the table"
        )
    card_text, graph = card_and_graph(content, name)
    if card_text is None:
        raise ModelError(f"{name}: no model card; not a model exported by kgsm-train")
    card = card_from_json(card_text, name)
    digest = hashlib.sha256(graph).hexdigest()
    roles = [role for role, known in card.graph_sha256.items() if known == digest]
    if not roles:
        raise ModelError(
            f"{name}: its graph is not the one its card describes; the file was changed "
            "after export, copy it again"
        )
    if sealed(content[: _before_seal(content)]) != content:
        raise ModelError(
            f"{name}: its card or another part is not as it was exported; copy the file again"
        )
    try:
        check_graph(graph, card, roles[0])
    except (IndexError, KeyError, ValueError) as error:
        raise ModelError(f"{name}: not a graph of kgsm ({error})") from None
    return ModelFile(path, roles[0], card, content, hashlib.sha256(content).hexdigest())


def read_quantity(path: Path) -> Quantity:
    """Read the quantity of a model file, whatever the format of its card.

    A card without the entry is of an older kgsm and its model retrieves soil moisture. UNKNOWN
    where the file cannot be read.
    """
    try:
        card_text, _ = card_and_graph(_content(path), str(path))
        raw = parse_json(card_text or "")
        return RETRIEVED[raw.get("quantity", "sm")]
    except (ModelError, ValueError, KeyError, TypeError, AttributeError):
        return UNKNOWN


def sibling_path(path: Path, role: str) -> Path:
    """Return the path of the other file of the model: NAME.onnx or NAME.core.onnx."""
    stem = path.name.removesuffix(".onnx").removesuffix(".core")
    return path.with_name(f"{stem}.core.onnx" if role == "complete" else f"{stem}.onnx")


def other_sibling(file: ModelFile) -> str:
    """Name the model's second file where it is of another export, or damaged; "" where it is not.

    An export that was stopped between its two files leaves such a pair; each file still works.
    """
    if file.path is None:
        return ""
    sibling = sibling_path(file.path, file.role)
    if not sibling.is_file():
        return ""
    try:
        card_text, _ = card_and_graph(_content(sibling), str(sibling))
        same = card_text is not None and card_from_json(card_text, str(sibling)) == file.card
    except ModelError:
        same = False
    return "" if same else sibling.name


def sealed(content: bytes) -> bytes:
    """Return a serialised model with its seal as the last metadata entry."""
    digest = hashlib.sha256(content).hexdigest().encode()
    key = SEAL_KEY.encode()
    entry = b"\x0a%c%s\x12%c%s" % (len(key), key, len(digest), digest)
    return content + b"%c%c%s" % (_METADATA << 3 | 2, len(entry), entry)


def card_and_graph(content: bytes, source: str) -> tuple[str | None, memoryview]:
    """Return the card's text (None without a card) and the graph's bytes."""
    card_text, graph, entries = None, None, 0
    try:
        for field, value in once(content, _MODEL_FIELDS, {_OPSET, _METADATA}):
            if field == _GRAPH:
                graph = _bytes(value)
            elif field == _METADATA:
                entries += 1
                if entries > _MOST_METADATA:
                    raise ValueError(f"more than {_MOST_METADATA} metadata entries")
                entry = dict(once(_bytes(value), {1, 2}))
                key, text = (bytes(_bytes(entry.get(i, memoryview(b"")))).decode() for i in (1, 2))
                if key == CARD_KEY and card_text is not None:
                    raise ValueError("it has two model cards")
                card_text = text if key == CARD_KEY else card_text
    except (IndexError, ValueError) as error:
        raise ModelError(f"{source}: not an ONNX file, or a truncated one ({error})") from None
    if graph is None:
        raise ModelError(f"{source}: not an ONNX file, or a truncated one (no graph in it)")
    return card_text, graph


def check_graph(graph: memoryview, card: Card, role: str) -> None:
    """Check the operators, order, growth, inputs and outputs of a graph.

    ValueError where an operator is not one of OPERATORS, a node reads a tensor that is not defined
    before it, tensors could grow without bound, or inputs and outputs are not those of the card.
    """
    constants = initializers(graph)
    inputs: dict[str, tuple[int | str, ...]] = {}
    outputs: list[str] = []
    nodes: list[_Node] = []
    for field, value in once(graph, _GRAPH_FIELDS, _GRAPH_LISTS):
        if field == _NODE:
            nodes.append(_checked_node(_bytes(value)))
        elif field == _INPUT:
            name, shape = _input_shape(_bytes(value))
            inputs[name] = shape
        elif field == _OUTPUT:
            outputs.append(text_of(dict(once(_bytes(value), {1, 2, 3}))[1]))
    expected = {item.name: item.shape for item in graph_inputs(card, role)}
    if inputs != expected:
        raise ValueError(f"it reads {inputs}, its card says {expected}")
    ends = graph_outputs(card, role)
    if tuple(outputs) != ends:
        raise ValueError(f"its outputs are {', '.join(outputs)[:80]}; expected {', '.join(ends)}")
    most = _MOST_NODES + 32 * (card.members + len(card.channels))
    if len(nodes) > most:
        raise ValueError(f"it has {len(nodes)} nodes; at most {most} are expected")
    _check_order_and_growth(nodes, constants, [*inputs], outputs, card)


def _check_order_and_growth(
    nodes: Sequence[_Node],
    constants: Mapping[str, NDArray[Any]],
    inputs: Sequence[str],
    outputs: Sequence[str],
    card: Card,
) -> None:
    """Raise ValueError where a tensor is used before or defined twice, or can grow too far.

    A tensor's depth is the number of growing operators on the longest path to it, by operator.
    """
    most_inputs = max(card.members, len(card.channels) + 1)
    depth: dict[str, Mapping[str, int]] = {name: {} for name in (*constants, *inputs, "")}
    for node in nodes:
        unknown = [name for name in node.inputs if name not in depth]
        if unknown:
            raise ValueError(f"{node.operator} reads {unknown[0][:40]!r} before it is defined")
        before: dict[str, int] = {}
        for name in node.inputs:
            for operator, count in depth[name].items():
                before[operator] = max(before.get(operator, 0), count)
        if node.operator in _MOST_ON_A_PATH:
            before[node.operator] = before.get(node.operator, 0) + 1
            if before[node.operator] > _MOST_ON_A_PATH[node.operator]:
                raise ValueError(f"too many {node.operator} follow one another")
        _check_sizes(node, constants, most_inputs)
        for name in filter(None, node.outputs):
            if name in depth:
                raise ValueError(f"{name[:40]!r} is defined twice")
            depth[name] = before
    if undefined := [name for name in outputs if name not in depth]:
        raise ValueError(f"output {undefined[0][:40]!r} is not defined")


def _check_sizes(node: _Node, constants: Mapping[str, NDArray[Any]], most_inputs: int) -> None:
    """Raise ValueError where a node joins more tensors, or pads by more, than kgsm's graphs do."""
    if node.operator == "Concat" and len(node.inputs) > most_inputs:
        raise ValueError(f"Concat of {len(node.inputs)} tensors; at most {most_inputs}")
    if node.operator == "Pad":
        pads = constants.get(node.inputs[1]) if len(node.inputs) > 1 else None
        if pads is None or not ((pads >= 0) & (pads <= 1)).all():
            raise ValueError("Pad by other than one step")


def initializers(graph: memoryview) -> dict[str, NDArray[Any]]:
    """Return the constants of a graph by name; ValueError for one not whole in the file itself."""
    found: dict[str, NDArray[Any]] = {}
    for field, tensor in once(graph, _GRAPH_FIELDS, _GRAPH_LISTS):
        if field != _INITIALIZER:
            continue
        dims: list[int] = []
        parts: dict[int, Value] = {}
        for number, value in once(_bytes(tensor), _TENSOR_FIELDS, {_DIMS}):
            if number == _DIMS:
                dims.append(_number(value))
            else:
                parts[number] = value
        name = text_of(parts[_NAME])
        if name in found:
            raise ValueError(f"{name} occurs twice")
        kind = _TYPES.get(_number(parts[_DATA_TYPE]))
        if kind is None:
            raise ValueError(f"{name} is of a type kgsm does not write")
        found[name] = np.frombuffer(_bytes(parts[_RAW_DATA]), kind).reshape(dims)
    return found


def once(
    message: bytes | memoryview, allowed: Collection[int], repeated: Collection[int] = ()
) -> Iterator[tuple[int, Value]]:
    """Return (field number, value) of a protobuf message that holds nothing but ``allowed`` fields,
    and all but ``repeated`` ones once: what parsers make of more is their own affair."""
    seen = set()
    for field, value, _ in _walk(message):
        if field not in allowed:
            raise ValueError(f"field {field} is not one that kgsm writes")
        if field in seen and field not in repeated:
            raise ValueError(f"field {field} occurs twice")
        seen.add(field)
        yield field, value


def _shipped_or(path: Path) -> Path:
    shipped = SHIPPED.get(str(path))
    return path if shipped is None or path.exists() else shipped


def _content(path: Path) -> bytes:
    """Read a file. ModelError where it is not a regular file, or far too large."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise ModelError(f"{path}: not a regular file; no model can be read from it")
        with open(path, "rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from None
    except ValueError as error:  # a name no file can have
        raise ModelError(f"{path!s:.60}: cannot read the model ({error})") from None
    if len(content) > MOST_BYTES:
        raise ModelError(f"{path}: larger than {MOST_BYTES >> 20} MiB; not a model of kgsm")
    return content


def _before_seal(content: bytes) -> int:
    """Return the offset of the last top-level field."""
    return max((start for _, _, start in _walk(content)), default=0)


@dataclass(frozen=True)
class _Node:
    """A node of a graph and the names of its tensors."""

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def _checked_node(node: memoryview) -> _Node:
    """Read a node; ValueError where its operator or an attribute is not one that kgsm writes."""
    parts: dict[int, Value] = {}
    names: dict[int, list[str]] = {_NODE_INPUT: [], _NODE_OUTPUT: []}
    for field, value in once(node, _NODE_FIELDS, {*names, _NODE_ATTRIBUTE}):
        parts[field] = value
        if field in names:
            names[field].append(text_of(value))
        if field == _NODE_ATTRIBUTE:
            for _ in once(_bytes(value), _ATTRIBUTE_FIELDS, {7, 8, 9}):
                pass
    operator = text_of(parts.get(_NODE_OP, memoryview(b"")))
    if operator not in OPERATORS or text_of(parts.get(_NODE_DOMAIN, memoryview(b""))):
        raise ValueError(f"operator {operator[:40]!r} is not supported")
    return _Node(operator, tuple(names[_NODE_INPUT]), tuple(names[_NODE_OUTPUT]))


def _input_shape(value_info: memoryview) -> tuple[str, tuple[int | str, ...]]:
    """Name and shape of a float input; a free dimension is its name."""
    parts: Mapping[int, Value] = dict(once(value_info, {1, 2, 3}))
    tensor: Mapping[int, Value] = dict(once(_bytes(dict(once(_bytes(parts[2]), {1}))[1]), {1, 2}))
    if tensor[1] != 1:
        raise ValueError("an input is not float32")
    shape: list[int | str] = []
    for _, dim in once(_bytes(tensor[2]), {1}, {1}):
        ((_, size),) = once(_bytes(dim), {1, 2})
        shape.append(size if isinstance(size, int) else text_of(size))
    return text_of(parts[1]), tuple(shape)


def text_of(value: Value) -> str:
    """Decode a length-delimited field as text."""
    return bytes(_bytes(value)).decode()


def _number(value: Value) -> int:
    if not isinstance(value, int):
        raise ValueError("a message where a number should be")
    return value


def _bytes(value: Value) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message should be")
    return value


def _walk(message: bytes | memoryview) -> Iterator[tuple[int, Value, int]]:
    """Return (field, value, where it begins): varints and length-delimited fields in their order.

    Numbers of fixed size are passed over as 0.
    """
    view, at, count = memoryview(message), 0, 0
    while at < len(view):
        start, count = at, count + 1
        if count > _MOST_FIELDS:
            raise ValueError(f"more than {_MOST_FIELDS} fields in a message")
        key, at = _varint(view, at)
        field, wire = key >> 3, key & 7
        if wire == 0:  # varint
            value, at = _varint(view, at)
            yield field, value, start
        elif wire == 2:  # length-delimited
            size, at = _varint(view, at)
            if at + size > len(view):
                raise ValueError("a field runs past the end of the file")
            yield field, view[at : at + size], start
            at += size
        elif wire in (1, 5):  # fixed 64 and 32 bits
            at += 8 if wire == 1 else 4
            if at > len(view):
                raise ValueError("a field runs past the end of the file")
            yield field, 0, start
        else:
            raise ValueError(f"unknown wire type {wire}")


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
