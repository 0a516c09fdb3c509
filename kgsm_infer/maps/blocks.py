"""A model on one block: columns of each acquisition in, soil moisture and flags out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..context.definitions import CONTEXT
from ..model.observations import Observations, dense_vegetation
from ..probes import shift
from ..scenes.grid import Window
from ..scenes.reader import Reader
from ..tables.columns import FROZEN_BY, VEGETATION, frost_of, made_from
from .context import BlockContext, Context, pixels_of
from .plan import Plan

if TYPE_CHECKING:
    from ..model.model import Model
    from ..model.result import Retrieval

Column = Callable[[str, int], tuple[NDArray[np.float64], ArrayLike]]


class Block(NamedTuple):
    """What a model says of a window: (K, height, width) of each of VARIABLES."""

    sm: NDArray[np.float32]
    sm_lower: NDArray[np.float32]
    sm_upper: NDArray[np.float32]
    flags: NDArray[np.uint16]


def retrieve_block(plan: Plan, reader: Reader, window: Window, context: Context) -> Block:
    """One block of the map: (K, height, width)."""
    shared = BlockContext(pixels_of(plan, reader, window), context)

    def column(name: str, acquisition: int) -> tuple[NDArray[np.float64], ArrayLike]:
        if name in CONTEXT and not plan.stack.has(name):
            return shared.value(name, acquisition)
        return reader.column(name, acquisition, window).ravel(), False

    parts = retrieve_columns(
        plan.model,
        plan.stack.dates,
        plan.targets,
        window.height * window.width,
        column,
        [name for name in plan.model.card.optional_columns if made_from(name, plan.stack.layers)],
    )
    if plan.effects:
        parts = [
            shift(plan.model.card, part, np.full(len(part.sm), effect.correction, np.float32))
            for part, effect in zip(parts, plan.effects, strict=True)
        ]
    shape = (len(plan.targets), window.height, window.width)
    return Block(
        *(
            np.concatenate([getattr(part, name) for part in parts]).reshape(shape)
            for name in ("sm", "lower", "upper", "flags")
        )
    )


def retrieve_columns(
    model: Model,
    dates: NDArray[np.datetime64],
    targets: Sequence[int],
    pixels: int,
    column: Column,
    optional: Sequence[str] = (),
) -> list[Retrieval]:
    """Retrievals of N pixels at each of ``targets``, indices into ``dates`` (D,), ascending.

    column: of a name and an index into dates, (N,) values as a table has them, and where
    (N,) a context among them is made of too little. Each is asked for once, isolation is
    done once per acquisition, however many targets look back on it.
    optional: those of the card's optional columns that ``column`` has.
    """
    card = model.card
    acquisitions = range(max(0, targets[0] - card.steps + 1), targets[-1] + 1)
    count = len(acquisitions) * pixels
    lacking = np.zeros((len(acquisitions), pixels), bool)

    def acquired(name: str) -> NDArray[np.float32]:
        """(A * N,) of one column, one acquisition after the other."""
        out = np.empty((len(acquisitions), pixels), np.float32)
        for a, acquisition in enumerate(acquisitions):
            out[a], too_little = column(name, acquisition)
            lacking[a] |= too_little
        return out.reshape(-1)

    frozen, frost_unknown = frost_of(
        {name: acquired(name) for name in optional if name in FROZEN_BY}, count
    )
    since = (dates - dates[0]) / np.timedelta64(86400, "s")
    dynamic = [acquired(name) for name in card.names("dynamic")]
    statics = [acquired(name) for name in card.names("static")]
    observed = Observations(
        site=np.empty(0, np.str_),  # windows are given, no site is looked at
        day=np.repeat(since[list(acquisitions)], pixels),
        sigma0_db=acquired(f"{card.polarisation}_db"),
        vegetation=acquired(card.wcm.vegetation_name) if card.wcm else None,
        angle_deg=acquired("angle_deg") if card.wcm and card.wcm.needs_angle else None,
        dynamic=np.stack(dynamic, axis=1) if dynamic else np.zeros((count, 0), np.float32),
        statics=np.stack(statics, axis=1) if statics else np.zeros((count, 0), np.float32),
        frozen=frozen,
        frost_unknown=frost_unknown,
        context_missing=lacking.reshape(-1),
        dense=dense_vegetation({name: acquired(name) for name in optional if name in VEGETATION}),
    )
    parts = []
    for target in targets:
        back = np.arange(target - card.steps + 1, target + 1) - acquisitions[0]
        rows = np.where(back >= 0, back * pixels + np.arange(pixels)[:, None], -1)
        parts.append(model.estimate(observed, rows, observed.statics[rows[:, -1]]))
    return parts
