"""The scores as text cells, for a terminal and for the report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from ..models import title
from .metrics import number


def ranked(board: Mapping[str, Any]) -> list[str]:
    """The models of a board, the smallest RMSE first."""

    def rmse(name: str) -> float:
        value = board["models"][name]["pooled"]["rmse"]
        return math.inf if value is None else float(value)

    return sorted(board["models"], key=rmse)


def table_rows(board: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The score table as text cells, a heading first, the smallest RMSE next.

    A model that reads labels of the day it predicts is marked as a reference.
    """
    group = board["group"]
    heading = ["model", "RMSE", "95 %", "R", "bias", "ubRMSE", f"median {group} RMSE"]
    models = [(name, board["models"][name]) for name in ranked(board)]
    several = any("group_mean" in model for _, model in models)
    heading += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    heading += ["coverage", "A by fold"]
    rows = [tuple(heading)]
    for name, model in models:
        pooled, interval = model["pooled"], model["interval_95"]["rmse"]
        cells = [
            title(name),
            number(pooled["rmse"], ".4f"),
            f"{number(interval[0], '.3f')}-{number(interval[1], '.3f')}",
            number(pooled["r"], ".3f"),
            number(pooled["bias"], "+.3f"),
            number(pooled["ubrmse"], ".4f"),
            number(model["by_group"]["rmse"]["median"], ".4f"),
        ]
        if several:
            mean = model["group_mean"]["pooled"]
            cells += [number(mean["rmse"], ".4f"), number(mean["r"], ".3f")]
        cells.append(f"{model['coverage']:.0%}")
        cells.append(_learnt_a(model["learnt"]))
        rows.append(tuple(cells))
    return rows


def _learnt_a(learnt: Sequence[Mapping[str, Any]]) -> str:
    """A of each fold; a star where it ended on its bound and means nothing."""
    return " ".join(
        f"{fold['a']:.4f}" + ("*" if "A" in fold.get("on_bound", ()) else "")
        for fold in learnt
        if "a" in fold
    )
