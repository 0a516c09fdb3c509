"""Name the layers that leave dates of a map without a number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..scenes.coverage import empty_layers
from .plan import Plan


@dataclass(frozen=True)
class EmptyLayers:
    """Layers without a valid value.

    sentences: one for each, with its dates.  others: positions of dates that none explains.
    """

    sentences: tuple[str, ...]
    others: tuple[int, ...]


def layers_without_value(plan: Plan, silent: Sequence[int]) -> EmptyLayers:
    """Find the layers without a valid value on dates of a map. silent: their positions."""
    place = {plan.targets[k]: k for k in silent}
    empty = empty_layers(plan.stack, place, plan.files)
    sentences = [
        f"layer {name} has no valid value on {days_of(plan, [place[at] for at in dates])}"
        for name, dates in empty.items()
    ]
    explained = {place[at] for dates in empty.values() for at in dates}
    return EmptyLayers(tuple(sentences), tuple(k for k in silent if k not in explained))


def days_of(plan: Plan, positions: Sequence[int]) -> str:
    """Name the first of some mapped dates and count the others."""
    first = str(plan.dates[positions[0]].astype("datetime64[D]"))
    more = len(positions) - 1
    others = f" and {more} more {'date' if more == 1 else 'dates'}" if more else ""
    return f"{first}{others}"
