"""The scores as text cells and sentences, for a terminal, the report and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..learning.learnt import Learnt
from ..models import title
from .board import Board, ModelScores, Paired, RegimeScores
from .metrics import number


def ranked(regime: RegimeScores) -> list[str]:
    """The models of a regime, the smallest RMSE first."""

    def rmse(name: str) -> float:
        value = regime.models[name].pooled.rmse
        return math.inf if value is None else value

    return sorted(regime.models, key=rmse)


def table_rows(board: Board) -> list[tuple[str, ...]]:
    """The score table of the headline as text cells, a heading first, the smallest RMSE next.

    The other regimes follow in columns of their own, R and RMSE.
    """
    first, group = board.first, board.group
    beside = [regime for name, regime in board.regimes.items() if name != board.headline]
    several = any(model.group_mean is not None for model in first.models.values())
    heading = ["model", "RMSE", "95 %", "R", "bias"]
    heading += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    heading += ["R within dates", "coverage"]
    heading += [f"{regime.title}: R, RMSE" for regime in beside]
    rows = [tuple(heading)]
    for name in ranked(first):
        model = first.models[name]
        low, high = model.interval_95.rmse
        cells = [
            title(name),
            number(model.pooled.rmse, ".4f"),
            f"{number(low, '.3f')}-{number(high, '.3f')}",
            number(model.pooled.r, ".3f"),
            number(model.pooled.bias, "+.3f"),
        ]
        if several:
            mean = model.group_mean
            cells.append(number(mean.pooled.rmse if mean else None, ".4f"))
            cells.append(number(mean.pooled.r if mean else None, ".3f"))
        cells += [number(model.within_date.r, ".2f"), f"{model.coverage:.0%}"]
        cells += [_short(regime.models[name]) for regime in beside]
        rows.append(tuple(cells))
    return rows


def _short(model: ModelScores) -> str:
    return f"{number(model.pooled.r, '.3f')}, {number(model.pooled.rmse, '.4f')}"


def difference_rows(board: Board, regime: RegimeScores) -> list[str]:
    """What the compared model's RMSE is less every other's, a sentence each."""
    return [
        f"RMSE of {title(board.ours)} minus {title(name)}: {gap_text(gap)}"
        for name, gap in regime.ours_minus.items()
        if gap.difference is not None
    ]


def gap_text(gap: Paired) -> str:
    """A paired difference with its interval."""
    low, high = (number(value, "+.4f") for value in gap.interval)
    return f"{number(gap.difference, '+.4f')} (95 % interval {low} to {high})"


def learnt_rows(board: Board) -> list[tuple[str, str]]:
    """(model, what its equations learnt): every parameter's median and range over the splits."""
    found = []
    for model, by_split in board.learnt.items():
        text = learnt_text(by_split)
        if text:
            found.append((title(model), text))
    return found


def learnt_text(by_split: Mapping[str, Learnt]) -> str:
    """Every learnt parameter, ``A 0.0021 (0.0001* to 0.0044)``; * ended on its bound.

    >>> learnt_text({"fold1": Learnt({"A": 0.02}), "fold2": Learnt({"A": 0.04}, ("A",))})
    'A 0.03 (0.02 to 0.04*)'
    """
    told = []
    names = dict.fromkeys(name for learnt in by_split.values() for name in learnt.parameters)
    for name in names:
        pairs = [
            (learnt.parameters[name], "*" if name in learnt.on_bound else "")
            for learnt in by_split.values()
            if name in learnt.parameters
        ]
        low, high = min(pairs), max(pairs)
        median = float(np.median([value for value, _ in pairs]))
        told.append(f"{name} {median:.3g} ({low[0]:.3g}{low[1]} to {high[0]:.3g}{high[1]})")
    return ", ".join(told)


def learnt_by_split(board: Board) -> list[tuple[str, ...]]:
    """Every learnt parameter of every split: a heading (model, parameter, splits ...), rows."""
    splits: Sequence[str] = list(next(iter(board.learnt.values())))
    rows = [("model", "parameter", *splits)]
    for model, by_split in board.learnt.items():
        names = dict.fromkeys(name for learnt in by_split.values() for name in learnt.parameters)
        for name in names:
            cells = []
            for split in splits:
                learnt = by_split[split]
                star = "*" if name in learnt.on_bound else ""
                cells.append(number(learnt.parameters.get(name), ".4g") + star)
            rows.append((title(model), name, *cells))
    return rows


def heading_text(board: Board) -> str:
    """What the table's scores rest on, in one line."""
    first = board.first
    blocks = f", {len(board.blocks)} blocks of dates, {board.pairs} pairs" if board.blocks else ""
    return (
        f"{first.title}: {first.rows} rows common to all models, {first.groups} groups, "
        f"{first.dates} dates; {len(board.folds)} folds{blocks}"
        + ("  SIMULATED DATA" if board.simulated else "")
    )


def notes(board: Board) -> list[str]:
    """What must be said beside the scores: no new dates, leaks, labels that look copied."""
    said = []
    if board.without_new_dates:
        said.append(f"No score on new dates: {board.without_new_dates}.")
    said += [f"LEAK let pass on purpose ({leak.kind}): {leak.text}" for leak in board.leaks]
    said += [f"Look at these labels: {text}" for text in board.repeats[:5]]
    if len(board.repeats) > 5:
        said.append(f"... and {len(board.repeats) - 5} more labels that look copied")
    return said


def probed_rows(board: Board) -> list[str]:
    """What probes are worth, a sentence a model and number of probed fields."""
    return [
        f"{title(name)} with {count} probed field{'s' if count != '1' else ''}: R {one.r:.3f}, "
        f"RMSE {one.rmse:.4f}; without {one.r_without:.3f}, {one.rmse_without:.4f} (the other "
        f"fields of new dates; the probes' weight {one.weight:.2f})"
        for count, models in board.probed.items()
        for name, one in models.items()
    ]
