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

The nested choice is made anew in each outer training, by cross-validation inside its training
rows, on new groups and new dates there; the score of what was chosen is the honest score of
having chosen.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import UsageError
from kgsm_infer.base.files import write_whole
from kgsm_infer.base.schema import Choices, Length, Range, SettingsFile, as_plain, read

from ..config import Config, read_config
from ..learning.samples import read_source
from ..models import MODELS, title
from ..progress import PartProgress
from .crossval import Crossvalidation, crossvalidate, run_experiment
from .folds import date_blocks, group_folds
from .means import days_of, group_means
from .metrics import (
    Bootstrap,
    DrawnBlocks,
    block_bootstrap,
    number,
    paired_difference,
    scores,
)
from .scoreboard import regime_title
from .splits import Design, Split, SplitExperiment

Column = NDArray[np.float32]
#: A variant's name and one of its models.
Line = tuple[str, str]

CHOSEN = "chosen by nested CV"
_FILE = SettingsFile("plan", UsageError)


@dataclass(frozen=True)
class Nested:
    """``[nested]``: variants that compete, the model compared, the number of inner folds.

    candidates: empty for all variants.
    """

    model: Annotated[str, Choices(MODELS)] = "kg-lstm"
    candidates: tuple[str, ...] = ()
    folds: Annotated[int, Range(2)] = 3


@dataclass(frozen=True)
class _PlanFile:
    """The keys of a plan. variants: name -> sections that replace those of the base."""

    base: Annotated[str, Length(1)]
    variants: Mapping[str, Mapping[str, Mapping[str, Any]]]
    seeds: Annotated[tuple[Annotated[int, Range(0, 2**31)], ...], Length(1)] = (0,)
    reference: str = ""
    nested: Nested | None = None

    def __post_init__(self) -> None:
        if not self.variants:
            raise ValueError("variants is empty, expected [variants.NAME]")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("seeds names a seed twice")


@dataclass(frozen=True)
class ExperimentPlan:
    """A plan as read. variants: (name, seed) -> the whole experiment."""

    names: tuple[str, ...]
    seeds: tuple[int, ...]
    variants: Mapping[tuple[str, int], Config]
    reference: str
    nested: Nested | None

    def trainings(self) -> int:
        """Count the trainings of networks before they start."""
        count = 0
        for (name, _), config in self.variants.items():
            design = SplitExperiment.of(config).design
            networks = sum(MODELS[model].network for model in config.crossval.models)
            count += len(design.splits) * networks
            if self.nested and name in self.nested.candidates:
                pairs = sum(split.block >= 0 and not split.past for split in design.splits)
                outer = pairs or len(design.fold_names)
                inner = max(self.nested.folds, len(design.block_names))
                count += outer * inner * MODELS[self.nested.model].network
        return count


def read_plan(path: str | Path, table: str | Path | None = None) -> ExperimentPlan:
    """Read a plan; ``table`` replaces the base's. UsageError names file, key and value."""
    path = Path(path)
    plan = read(_PlanFile, _FILE.load(path), path, UsageError)
    names = tuple(plan.variants)
    variants = {}
    for name, sections in plan.variants.items():
        for seed in plan.seeds:
            changes = {
                **sections,
                "crossval": {"forward": False, **sections.get("crossval", {})},
                "training": {**sections.get("training", {}), "seed": seed},
            }
            try:
                variants[name, seed] = read_config(path.parent / plan.base, table, changes)
            except UsageError as error:
                raise UsageError(f"{path}: variants.{name}: {error}") from None
    nested = plan.nested
    if nested is not None:
        nested = replace(nested, candidates=nested.candidates or names)
        for at, name in enumerate(nested.candidates):
            models = variants[name, plan.seeds[0]].crossval.models if name in names else ()
            if nested.model not in models:
                raise UsageError(
                    f"{path}: nested.candidates[{at}] is {name}, expected a variant with the "
                    f"model {nested.model} (variants: {', '.join(names)})"
                )
    reference = plan.reference or f"{names[-1]} / kg-lstm"
    lines = [
        f"{name} / {model}"
        for name in names
        for model in variants[name, plan.seeds[0]].crossval.models
    ]
    lines += [f"{CHOSEN} / {nested.model}"] if nested is not None else []
    if reference not in lines:
        raise UsageError(f"{path}: reference is {reference}, expected one of {', '.join(lines)}")
    return ExperimentPlan(names, plan.seeds, variants, reference, nested)


def run_plan(
    plan: ExperimentPlan, folder: Path, *, jobs: int = 1, progress: PartProgress | None = None
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
        for seed in plan.seeds:
            of_seed = {name: runs[name, seed] for name in plan.nested.candidates}
            found = _nested(plan.nested, of_seed, folder, jobs=jobs, progress=progress)
            columns.setdefault((CHOSEN, plan.nested.model), []).append(found.sm)
            board["choices"] += found.choices
    board |= _scores(plan, runs, columns)
    with write_whole(folder / "experiments.json") as out:
        out.write(json.dumps(board, indent=1, allow_nan=False) + "\n")
    with write_whole(folder / "experiments.md") as out:
        out.write(markdown(board))
    return board


@dataclass(frozen=True)
class NestedChoice:
    """SM (R,) by the candidate that each outer training chose, and these choices."""

    sm: Column
    choices: list[dict[str, Any]]


def _nested(
    nested: Nested,
    runs: Mapping[str, Crossvalidation],
    folder: Path,
    *,
    jobs: int,
    progress: PartProgress | None,
) -> NestedChoice:
    """Predict SM by the candidate that won inside each outer training, and count the choices.

    The choice is made on what the score is of: new groups on new dates inside the training
    rows, where the outer splits are such.

    runs: candidate -> its cross-validation, all of one seed.
    """
    first = runs[nested.candidates[0]]
    seed = first.config.training.seed
    sm = np.full(len(first.source.label), np.nan, np.float32)
    choices = []
    for outer in first.design.splits:
        due = first.design.counts(first.headline, outer)
        if not due.any():
            continue
        inner = inner_experiment(first.experiment, outer, nested.folds)
        label, found = inner.source.label, {}
        for name in nested.candidates:
            config = runs[name].config
            config = replace(config, crossval=replace(config.crossval, models=(nested.model,)))
            # the labels of what is left out are not there at all while the choice is made
            candidate = SplitExperiment(
                config, replace(read_source(config), label=label), inner.design
            )
            parts = folder / _slug(name) / f"seed{seed}" / f"without-{outer.name}"
            run = run_experiment(candidate, parts, jobs=jobs, progress=progress)
            found[name] = run.regimes[inner.design.regimes[0]][nested.model]
        both = np.isfinite(label) & np.isfinite(np.stack(list(found.values()))).all(axis=0)
        rmse = {name: scores(label[both], sm_[both]).rmse for name, sm_ in found.items()}
        best = min(rmse, key=lambda name: rmse[name])
        sm[due] = runs[best].predicted[nested.model][due]
        choices.append({"seed": seed, "split": outer.name, "chosen": best, "inner_rmse": rmse})
    return NestedChoice(sm, choices)


def inner_experiment(experiment: SplitExperiment, outer: Split, folds: int) -> SplitExperiment:
    """Split the training rows of ``outer`` once more, in a table with no other label.

    Each inner fold of groups is paired with one inner block of dates after the other.
    """
    config, source, design = experiment.config, experiment.source, experiment.design
    train = np.zeros(len(source.label), bool)
    train[design.train_rows(outer)] = True
    label = np.where(train, source.label, np.float32(np.nan))
    blind = replace(source, label=label)
    labelled = np.isfinite(label)
    fold = np.where(train, group_folds(source.group, labelled, folds, config.training.seed), -1)
    fold_names = tuple(str(k + 1) for k in range(folds))
    if outer.block < 0:
        alone = tuple(Split(k) for k in range(folds))
        none = np.full(len(fold), -1, np.int64)
        return SplitExperiment(config, blind, Design(fold, fold_names, none, (), alone))
    day = np.floor(source.table.day)
    found = date_blocks(day, labelled, config.crossval.date_blocks)
    block = np.where(train, found.number, -1)
    count = len(found.names)
    pairs = tuple(Split(i % folds, i % count) for i in range(max(folds, count)))
    return SplitExperiment(config, blind, Design(fold, fold_names, block, found.names, pairs))


def _scores(
    plan: ExperimentPlan,
    runs: Mapping[tuple[str, int], Crossvalidation],
    columns: Mapping[Line, list[Column]],
) -> dict[str, Any]:
    """Score the rows on which every variant and seed has a number."""
    run, config = _first(runs), next(iter(plan.variants.values()))
    source, seeds = run.source, len(plan.seeds)
    common = np.isfinite(source.label)
    for (_, model), found in columns.items():
        if not MODELS[model].reference:
            common &= np.isfinite(np.stack(found)).all(axis=0)
    names = {line: " / ".join(line) for line in columns}
    reference = next(line for line, name in names.items() if name == plan.reference)
    group = np.tile(source.group[common], seeds)
    date = np.tile(days_of(run.source)[common], seeds) if run.design.block_names else None
    blocks = DrawnBlocks(group, date)
    known = _on_known_dates(plan, runs, common)
    observed = np.tile(source.label[common], seeds)
    stacked = {
        line: np.concatenate([sm[common] for sm in found]) for line, found in columns.items()
    }
    means = {
        line: [group_means(run.source, common, sm) for sm in found]
        for line, found in columns.items()
    }
    several = source.several_sites_a_group
    rows: list[dict[str, Any]] = []
    bootstrap = Bootstrap(config.crossval.bootstrap, plan.seeds[0])
    for line, predicted in stacked.items():
        row: dict[str, Any] = {
            "variant": line[0],
            "model": line[1],
            "pooled": asdict(scores(observed, predicted)),
            "rmse_by_seed": [scores(source.label[common], sm[common]).rmse for sm in columns[line]],
            "interval_95": block_bootstrap(blocks, observed, predicted, bootstrap),
            "known_dates": known.get(line),
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
                blocks, observed, stacked[reference], predicted, bootstrap
            )
        rows.append(as_plain(row))
    return {
        "rows": int(common.sum()),
        "groups": len(np.unique(source.group[common])),
        "group": config.data.group,
        "seeds": list(plan.seeds),
        "folds": len(run.design.fold_names),
        "regime": regime_title(run.headline, config.data.group),
        "dates": len(np.unique(days_of(run.source)[common])),
        "paired_to": plan.reference,
        "variants": rows,
    }


def _on_known_dates(
    plan: ExperimentPlan, runs: Mapping[tuple[str, int], Crossvalidation], common: NDArray[np.bool_]
) -> dict[Line, Any]:
    """Score each line on known dates, over all seeds; empty where the headline is that."""
    run = _first(runs)
    if run.headline == "new-groups":
        return {}
    observed = np.tile(run.source.label[common], len(plan.seeds))
    found = {}
    for name in plan.names:
        for model in runs[name, plan.seeds[0]].predicted:
            each = [runs[name, seed].regimes["new-groups"][model][common] for seed in plan.seeds]
            found[name, model] = asdict(scores(observed, np.concatenate(each)))
    return found


def markdown(board: Mapping[str, Any]) -> str:
    """Format the table of a plan and the nested choices."""
    lines = [
        f"{board['regime']}: {board['rows']} rows common to all, {board['groups']} groups by "
        f"{board['group']}, {board['dates']} dates, "
        f"{board['folds']} folds, seeds {', '.join(map(str, board['seeds']))}"
        + (". **Simulated data.**" if board["simulated"] else ""),
        "",
        variant_table(board),
    ]
    if board["choices"]:
        lines += ["", "Chosen inside each outer training (RMSE of its inner folds):", ""]
        for choice in board["choices"]:
            inner = ", ".join(f"{name} {rmse:.4f}" for name, rmse in choice["inner_rmse"].items())
            lines.append(
                f"- seed {choice['seed']}, {choice['split']}: **{choice['chosen']}** of {inner}"
            )
    return "\n".join(lines) + "\n"


def variant_table(board: Mapping[str, Any]) -> str:
    """Format the scores of the variants of a plan, the smallest RMSE first."""
    group = board["group"]
    several = any("group_mean" in row for row in board["variants"])
    head = ["variant", "model", "RMSE", "95 %", "R"]
    head += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    known = any(row["known_dates"] for row in board["variants"])
    head += ["known dates: R, RMSE"] if known else []
    head.append(f"RMSE of {board['paired_to']} minus this (95 %)")
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    for row in sorted(board["variants"], key=lambda row: row["pooled"]["rmse"] or np.inf):
        low, high = row["interval_95"]["rmse"]
        cells = [row["variant"], title(row["model"]), number(row["pooled"]["rmse"], ".4f")]
        cells.append(f"{number(low, '.3f')}–{number(high, '.3f')}")
        cells.append(number(row["pooled"]["r"], ".3f"))
        if several:
            cells.append(number(row["group_mean"]["rmse"], ".4f"))
            cells.append(number(row["group_mean"]["r"], ".3f"))
        if known:
            of = row["known_dates"] or {"r": None, "rmse": None}
            cells.append(f"{number(of['r'], '.3f')}, {number(of['rmse'], '.4f')}")
        difference = row.get("reference_minus_this")
        if difference is None:
            cells.append("–")
        else:
            low, high = difference["interval"]
            gap = number(difference["difference"], "+.4f")
            cells.append(f"{gap} ({number(low, '+.4f')} to {number(high, '+.4f')})")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _first(runs: Mapping[tuple[str, int], Crossvalidation]) -> Crossvalidation:
    return next(iter(runs.values()))


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())
