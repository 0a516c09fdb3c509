"""Variants of one experiment side by side, and a choice among them that is not tuned.

A plan is a TOML file:

    base = "anand.toml"                    # what every variant starts from
    seeds = [0, 1]                         # of folds and weights; scores are over all
    reference = "context / kg-lstm"        # paired differences are to this one

    [variants.context]                     # sections and keys that differ from the base
    crossval.models = ["lstm", "kg-lstm"]
    inputs.features = ["ndvi", "vv_db"]

    [nested]                               # optional: choose without looking at the test fold
    model = "kg-lstm"
    candidates = ["paper", "context"]
    folds = 3

The nested choice is made anew in each outer fold, by cross-validation inside its training
groups; the score of what was chosen is the honest score of having chosen.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.errors import UsageError
from kgsm_infer.files import whole

from ..config import Config, read_config, read_toml
from ..learning.samples import read_source
from ..models import MODELS, title
from ..progress import PartProgress
from .crossval import Crossvalidation, crossvalidate, run_parts
from .folds import group_folds
from .metrics import block_bootstrap, number, paired_difference, scores
from .scoreboard import group_means, plain

Column = NDArray[np.float32]
#: A variant's name and one of its models.
Line = tuple[str, str]

CHOSEN = "chosen by nested CV"


@dataclass(frozen=True)
class Nested:
    """``[nested]``: which variants compete, by which model, on how many inner folds."""

    model: str
    candidates: tuple[str, ...]
    folds: int


@dataclass(frozen=True)
class Plan:
    """A plan as read. variants: (name, seed) -> the whole experiment."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: Mapping[tuple[str, int], Config]
    reference: str
    nested: Nested | None

    def trainings(self) -> int:
        """How many times a network is trained, to know before it is begun."""
        count = 0
        for (name, _), config in self.variants.items():
            folds = config.crossval.folds
            count += folds * sum(MODELS[model].network for model in config.crossval.models)
            if self.nested and name in self.nested.candidates:
                count += folds * self.nested.folds
        return count


def read_plan(path: str | Path, table: str | Path | None = None) -> Plan:
    """Read a plan; ``table`` takes the place of the base's. UsageError names file and key."""
    path = Path(path)
    raw = read_toml(path)
    for key in raw:
        if key not in ("base", "seeds", "reference", "variants", "nested"):
            raise UsageError(f"{path}: unknown key {key!r} in a plan")
    names = tuple(raw.get("variants", {}))
    if not names or not isinstance(raw.get("base"), str):
        raise UsageError(f'{path}: a plan needs base = "EXPERIMENT.toml" and [variants.NAME]')
    seeds = tuple(raw.get("seeds", [0]))
    variants = {}
    for name in names:
        for seed in seeds:
            changes = dict(raw["variants"][name])
            changes["training"] = {**changes.get("training", {}), "seed": seed}
            variants[name, seed] = read_config(path.parent / raw["base"], table, changes)
    nested = None
    if "nested" in raw:
        choice = raw["nested"]
        nested = Nested(
            choice.get("model", "kg-lstm"),
            tuple(choice.get("candidates", names)),
            int(choice.get("folds", 3)),
        )
        for name in nested.candidates:
            models = variants[name, seeds[0]].crossval.models if name in names else ()
            if nested.model not in models:
                raise UsageError(
                    f"{path}: [nested] candidate {name!r} is no variant with {nested.model}"
                )
    reference = raw.get("reference", f"{names[-1]} / kg-lstm")
    return Plan(names, seeds, variants, reference, nested)


def run_plan(
    plan: Plan, folder: Path, *, jobs: int = 1, progress: PartProgress | None = None
) -> dict[str, Any]:
    """Run every variant and the nested choice; write ``experiments.json`` and ``.md``.

    Finished parts are kept under ``folder``, so a plan that was stopped goes on.
    """
    runs: dict[tuple[str, int], Crossvalidation] = {}
    for (name, seed), config in plan.variants.items():
        part = folder / _slug(name) / f"seed{seed}"
        runs[name, seed] = crossvalidate(config, part, jobs=jobs, progress=progress)
    columns: dict[Line, list[Column]] = {}
    for (name, _), run in runs.items():
        for model, predicted in run.predicted.items():
            columns.setdefault((name, model), []).append(predicted)
    board: dict[str, Any] = {"choices": [], "simulated": _first(runs).source.simulated}
    if plan.nested is not None:
        chosen = [
            _nested(plan, plan.nested, seed, runs, folder, jobs, progress) for seed in plan.seeds
        ]
        columns[CHOSEN, plan.nested.model] = [sm for sm, _ in chosen]
        board["choices"] = [choice for _, choices in chosen for choice in choices]
    board |= _scores(plan, runs, columns)
    with whole(folder / "experiments.json") as out:
        out.write(json.dumps(board, indent=1, allow_nan=False) + "\n")
    with whole(folder / "experiments.md") as out:
        out.write(markdown(board))
    return board


def _nested(
    plan: Plan,
    nested: Nested,
    seed: int,
    runs: Mapping[tuple[str, int], Crossvalidation],
    folder: Path,
    jobs: int,
    progress: PartProgress | None,
) -> tuple[Column, list[dict[str, Any]]]:
    """SM of the candidate that won inside each outer fold, and how the choice went."""
    first = runs[nested.candidates[0], seed]
    sm = np.full(len(first.fold), np.nan, np.float32)
    choices = []
    for k, fold_name in enumerate(first.fold_names):
        inner: dict[str, Column] = {}
        hidden = np.where(first.fold == k, np.float32(np.nan), first.source.label)
        fold = group_folds(first.source.group, np.isfinite(hidden), nested.folds, seed)
        fold = np.where(first.fold == k, -1, fold)
        for name in nested.candidates:
            config = plan.variants[name, seed]
            config = dataclasses.replace(
                config, crossval=dataclasses.replace(config.crossval, models=(nested.model,))
            )
            # the test fold's labels are not there at all while the choice is made
            source = dataclasses.replace(read_source(config), label=hidden)
            parts = folder / _slug(name) / f"seed{seed}" / f"without-fold{k + 1}-in-{nested.folds}"
            done = run_parts(config, source, fold, parts, jobs=jobs, progress=progress)
            inner[name] = np.full(len(fold), np.nan, np.float32)
            for part in done.values():
                inner[name][part.index] = part.sm
        both = np.isfinite(hidden) & np.isfinite(np.stack(list(inner.values()))).all(axis=0)
        rmse = {name: scores(hidden[both], found[both]).rmse for name, found in inner.items()}
        best = min(rmse, key=lambda name: rmse[name])
        here = first.fold == k
        sm[here] = runs[best, seed].predicted[nested.model][here]
        choices.append({"seed": seed, "fold": fold_name, "chosen": best, "inner_rmse": rmse})
    return sm, choices


def _scores(
    plan: Plan,
    runs: Mapping[tuple[str, int], Crossvalidation],
    columns: Mapping[Line, list[Column]],
) -> dict[str, Any]:
    """Scores on the rows on which every variant and seed has a number."""
    run, config = _first(runs), next(iter(plan.variants.values()))
    source, seeds = run.source, len(plan.seeds)
    common = np.isfinite(source.label)
    for (_, model), found in columns.items():
        if not MODELS[model].reference:
            common &= np.isfinite(np.stack(found)).all(axis=0)
    names = {line: " / ".join(line) for line in columns}
    reference = next((line for line, name in names.items() if name == plan.reference), None)
    if reference is None:
        raise UsageError(f"reference {plan.reference!r} is none of: {', '.join(names.values())}")
    group = np.tile(source.group[common], seeds)
    observed = np.tile(source.label[common], seeds)
    stacked = {
        line: np.concatenate([sm[common] for sm in found]) for line, found in columns.items()
    }
    means = {
        line: [group_means(run, common, sm) for sm in found] for line, found in columns.items()
    }
    several = source.several_sites_a_group
    rows: list[dict[str, Any]] = []
    draws, seed = config.crossval.bootstrap, plan.seeds[0]
    for line, predicted in stacked.items():
        row: dict[str, Any] = {
            "variant": line[0],
            "model": line[1],
            "pooled": asdict(scores(observed, predicted)),
            "rmse_by_seed": [scores(source.label[common], sm[common]).rmse for sm in columns[line]],
            "interval_95": block_bootstrap(group, observed, predicted, draws, seed),
        }
        if several:
            row["group_mean"] = asdict(
                scores(
                    np.concatenate([m.observed for m in means[line]]),
                    np.concatenate([m.predicted for m in means[line]]),
                )
            )
        if line != reference:
            row["reference_minus_this"] = paired_difference(
                group, observed, stacked[reference], predicted, draws, seed
            )
        rows.append(plain(row))
    return {
        "rows": int(common.sum()),
        "groups": len(np.unique(source.group[common])),
        "group": config.data.group,
        "seeds": list(plan.seeds),
        "folds": len(run.fold_names),
        "paired_to": plan.reference,
        "variants": rows,
    }


def markdown(board: Mapping[str, Any]) -> str:
    """The table of a plan, the smallest RMSE first, and the nested choices."""
    group = board["group"]
    several = any("group_mean" in row for row in board["variants"])
    head = ["variant", "model", "RMSE", "95 %", "R"]
    head += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    head.append(f"RMSE of {board['paired_to']} minus this (95 %)")
    lines = [
        f"{board['rows']} rows common to all, {board['groups']} groups by {group}, "
        f"{board['folds']} folds, seeds {', '.join(map(str, board['seeds']))}"
        + (". **Simulated data.**" if board["simulated"] else ""),
        "",
        "| " + " | ".join(head) + " |",
        "|" + " --- |" * len(head),
    ]
    for row in sorted(board["variants"], key=lambda row: row["pooled"]["rmse"] or np.inf):
        low, high = row["interval_95"]["rmse"]
        cells = [row["variant"], title(row["model"]), number(row["pooled"]["rmse"], ".4f")]
        cells.append(f"{number(low, '.3f')}–{number(high, '.3f')}")
        cells.append(number(row["pooled"]["r"], ".3f"))
        if several:
            cells.append(number(row["group_mean"]["rmse"], ".4f"))
            cells.append(number(row["group_mean"]["r"], ".3f"))
        difference = row.get("reference_minus_this")
        if difference is None:
            cells.append("–")
        else:
            low, high = difference["interval"]
            gap = number(difference["difference"], "+.4f")
            cells.append(f"{gap} ({number(low, '+.4f')} to {number(high, '+.4f')})")
        lines.append("| " + " | ".join(cells) + " |")
    if board["choices"]:
        lines += ["", "Chosen inside each outer fold (RMSE of the inner folds):", ""]
        for choice in board["choices"]:
            inner = ", ".join(f"{name} {rmse:.4f}" for name, rmse in choice["inner_rmse"].items())
            lines.append(
                f"- seed {choice['seed']}, fold {choice['fold']}: **{choice['chosen']}** of {inner}"
            )
    return "\n".join(lines) + "\n"


def _first(runs: Mapping[tuple[str, int], Crossvalidation]) -> Crossvalidation:
    return next(iter(runs.values()))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
