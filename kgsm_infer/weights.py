"""The LSTM's weights out of a model file, without the ``onnx`` package or any engine.

Both files of a model hold them, as initializers kgsm-train named: ``member0_w``,
``member0_r``, ``member0_b``, ``member0_head_weight``, ``member0_head_bias``, ``member1_w`` ...
The graph's hash stands on the card and was checked when the file was read, so that what
is here is what kgsm-train wrote.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from .errors import ModelError
from .kernels.lstm import LstmWeights
from .onnxfile import GRAPH, ModelFile, message_fields, message_numbers

# field numbers of onnx.proto3: GraphProto, then TensorProto
_INITIALIZER = 5
_DIMS, _DATA_TYPE, _NAME, _RAW_DATA = 1, 2, 8, 9
_FLOAT = 1


def read_weights(file: ModelFile) -> LstmWeights:
    """The weights of all members; ModelError where the file does not hold them."""
    found = _initializers(file)
    card = file.card
    members, hidden, channels = card.members, card.hidden, card.layout.channels
    shapes = {
        "w": (1, 4 * hidden, channels),
        "r": (1, 4 * hidden, hidden),
        "b": (1, 8 * hidden),
        "head_weight": (1, hidden),
        "head_bias": (1,),
    }
    stacked = []
    for part, shape in shapes.items():
        arrays = []
        for m in range(members):
            name = f"member{m}_{part}"
            if name not in found:
                raise ModelError(f"{file.path}: its graph has no {name}; use engine onnxruntime")
            if found[name].shape != shape:
                raise ModelError(
                    f"{file.path}: {name} has shape {found[name].shape}, its card says {shape}"
                )
            arrays.append(found[name].reshape(shape[1:]) if len(shape) > 1 else found[name][0])
        stacked.append(np.asarray(np.stack(arrays), np.float32))
    return LstmWeights(card.steps, *stacked)


def _initializers(file: ModelFile) -> dict[str, NDArray[np.float32]]:
    """Float initializers with raw data, by name."""
    found = {}
    try:
        graph = next(value for field, value in message_fields(file.content) if field == GRAPH)
        for field, tensor in message_fields(graph):
            if field != _INITIALIZER:
                continue
            parts = dict(message_fields(tensor))
            numbers = message_numbers(tensor)
            if numbers.get(_DATA_TYPE) != [_FLOAT] or _RAW_DATA not in parts:
                continue
            dims = numbers.get(_DIMS, [])
            values = np.frombuffer(parts[_RAW_DATA], "<f4")
            found[bytes(parts[_NAME]).decode()] = values.reshape(dims)
    except (IndexError, KeyError, StopIteration, ValueError) as error:
        raise ModelError(f"{file.path}: cannot read the weights in its graph ({error})") from None
    return found
