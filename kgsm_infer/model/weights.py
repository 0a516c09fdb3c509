"""Read the LSTM's weights from a model file, without the ``onnx`` package or any engine.

Both files of a model hold them, as initializers kgsm-train named: ``member0_w``,
``member0_r``, ``member0_b``, ``member0_head_weight``, ``member0_head_bias``, ``member1_w`` ...
The card holds the graph's hash, which was checked when the file was read, so these are the
weights kgsm-train wrote.
"""

from __future__ import annotations

import numpy as np

from ..base.errors import ModelError
from ..kernels.lstm import LstmWeights
from .onnx_reader import ModelFile, initializers

#: The one constant that is NaN on purpose.
NOT_A_NUMBER = "nan"


def read_weights(file: ModelFile) -> LstmWeights:
    """Return the weights of all members; ModelError where the file lacks them, or a constant
    of its graph is not finite: an engine might make plausible numbers of that."""
    try:
        found = initializers(file.graph)
    except (KeyError, ValueError) as error:
        raise ModelError(f"{file.name}: cannot read the weights in its graph ({error})") from None
    for name, values in found.items():
        if name != NOT_A_NUMBER and not np.isfinite(values).all():
            raise ModelError(f"{file.name}: {name} of its graph is not finite; train it again")
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
                raise ModelError(f"{file.name}: its graph has no {name}, which its card speaks of")
            if found[name].shape != shape:
                raise ModelError(
                    f"{file.name}: {name} has shape {found[name].shape}, its card says {shape}"
                )
            arrays.append(found[name].reshape(shape[1:]) if len(shape) > 1 else found[name][0])
        stacked.append(np.asarray(np.stack(arrays), np.float32))
    if f"member{members}_w" in found:
        raise ModelError(f"{file.name}: its graph has more members than the {members} of its card")
    return LstmWeights(card.steps, *stacked)
