"""Run a model on one block of pixels: columns of each acquisition in, one plane per date out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..base import flags
from ..context.definitions import CONTEXT
from ..model.date_effect import DateEffect
from ..model.observations import Observations, dense_vegetation
from ..model.result import Retrieval
from ..probes import shift
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.columns import FROZEN_BY, VEGETATION, frost_of, origins
from .attributes import VARIABLES
from .context import BlockContext, Context, pixels_of
from .plan import Plan

if TYPE_CHECKING:
    from ..model.model import Model

#: Windows of several targets that are retrieved together, so that calls cost little. A window takes
#: about 16 bytes per step meanwhile.
TOGETHER = 128 * 960


@dataclass(frozen=True)
class PixelBlock:
    """N pixels on D dates, of a scene or of a chunk of a Dataset.

    context: their columns.  dates: (D,) ascending.  targets: indices into dates to retrieve,
    ascending.  optional: those of the card's optional columns that are there.
    effects: a correction by probes for each target, or empty.
    """

    context: BlockContext
    dates: NDArray[np.datetime64]
    targets: Sequence[int]
    optional: tuple[str, ...] = ()
    effects: tuple[DateEffect, ...] = ()


@dataclass(frozen=True)
class Block:
    """Results of a window of a scene: (K, height, width) of each of VARIABLES."""

    sm: NDArray[np.float32]
    sm_lower: NDArray[np.float32]
    sm_upper: NDArray[np.float32]
    flags: NDArray[np.uint16]


def retrieve_block(plan: Plan, reader: Reader, window: Window, context: Context) -> Block:
    """Retrieve one block of a map."""
    block = PixelBlock(
        context=BlockContext(pixels_of(plan, reader, window, context), context),
        dates=plan.stack.dates,
        targets=plan.targets,
        optional=tuple(
            name for name in plan.model.card.optional_columns if origins(name, plan.stack.layers)
        ),
        effects=plan.effects,
    )
    shape = (len(plan.targets), window.height, window.width)
    found = retrieve_pixels(plan.model, block)
    return Block(**{name: plane.reshape(shape) for name, plane in found.items()})


def retrieve_pixels(model: Model, block: PixelBlock) -> dict[str, NDArray[Any]]:
    """Retrieve a block of pixels on its target dates: (K, N) of each of VARIABLES.

    Block map and lazy map both end here. Each column of an acquisition is read once, and each
    acquisition is checked and isolated once, however many targets look back on it.
    """
    acquisitions = range(max(0, block.targets[0] - model.card.steps + 1), block.targets[-1] + 1)
    pixels = block.context.pixels
    observed = _observe_pixels(model, block, acquisitions)
    retrieve = model.over(observed, alike=pixels)
    effects = block.effects or [None] * len(block.targets)
    together = max(1, TOGETHER // pixels)
    parts: list[Retrieval] = []
    for first in range(0, len(block.targets), together):
        targets = np.asarray(block.targets[first : first + together])
        back = targets[:, None] + np.arange(1 - model.card.steps, 1) - acquisitions[0]
        at = back[:, None, :] * pixels + np.arange(pixels)[:, None]
        rows = np.where(back[:, None, :] >= 0, at, -1).reshape(-1, model.card.steps)
        found = retrieve(rows, observed.statics[rows[:, -1]])
        for k, target in enumerate(targets.tolist()):
            part = found.take(slice(k * pixels, (k + 1) * pixels))
            old = block.context.held(target) * np.uint16(flags.VEGETATION_OLD)
            part = replace(part, flags=part.flags | old)
            effect = effects[first + k]
            if effect is not None:
                part = shift(model.card, part, np.full(pixels, effect.correction, np.float32))
            parts.append(part)
    fields = dict(zip(VARIABLES, ("sm", "lower", "upper", "flags"), strict=True))
    return {
        name: np.stack([getattr(part, field) for part in parts]) for name, field in fields.items()
    }


def _observe_pixels(model: Model, block: PixelBlock, acquisitions: range) -> Observations:
    """Return A acquisitions of N pixels as A * N observations, one acquisition after another."""
    pixels, inputs = block.context.pixels, model.card.inputs
    count = len(acquisitions) * pixels
    lacking = np.zeros((len(acquisitions), pixels), bool)

    def acquired(name: str) -> NDArray[np.float32]:
        out = np.empty((len(acquisitions), pixels), np.float32)
        for a, acquisition in enumerate(acquisitions):
            if name in CONTEXT and not block.context.has(name):
                out[a], too_little = block.context.value(name, acquisition)
                lacking[a] |= too_little
            else:
                out[a] = block.context.column(name, acquisition)
        return out.reshape(-1)

    def matrix(names: Sequence[str]) -> NDArray[np.float32]:
        columns = [acquired(name) for name in names]
        return np.stack(columns, axis=1) if columns else np.zeros((count, 0), np.float32)

    assert inputs.backscatter is not None, "every card names its backscatter"
    frozen, frost_unknown = frost_of(
        {name: acquired(name) for name in block.optional if name in FROZEN_BY}, count
    )
    since = (block.dates - block.dates[0]) / np.timedelta64(86400, "s")
    return Observations(
        site=np.empty(0, np.str_),  # the windows are known, no site is read
        day=np.repeat(since[list(acquisitions)], pixels),
        sigma0_db=acquired(inputs.backscatter),
        vegetation=acquired(inputs.vegetation) if inputs.vegetation else None,
        angle_deg=acquired(inputs.angle) if inputs.angle else None,
        dynamic=matrix(inputs.dynamic),
        statics=matrix(inputs.statics),
        frozen=frozen,
        frost_unknown=frost_unknown,
        context_missing=lacking.reshape(-1),
        dense=dense_vegetation(
            {name: acquired(name) for name in block.optional if name in VEGETATION}
        ),
    )
