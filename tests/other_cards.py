"""Loaded models with something else on their card, as no file on the disk has it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any


def with_card(model: Any, **changes: Any) -> Any:
    """The model with these entries of its card changed; its engine runs what it ran."""
    return replace(model, file=replace(model.file, card=replace(model.card, **changes)))
