"""Cross-validation: every model on the same splits, finished parts kept."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.model.index import SoilLimits, wetness_of

from ..config import Config
from ..learning.baselines import BASELINES
from ..learning.learnt import Learnt
from ..learning.rain import with_fitted_rain
from ..learning.samples import Source, read_source, samples_of
from ..learning.training import estimate, train
from ..models import MODELS
from ..progress import PartProgress
from .parts import Part, part_key, read_part, write_part
from .processes import share
from .splits import LEAST_LABELS, Design, Split, SplitExperiment, design_of

#: What the label-free index is scored between: round numbers that fit most soils.
WETNESS_LIMITS = SoilLimits(0.05, 0.40, "stated")

#: A model and the split it is trained on.
Task = tuple[str, Split]


@dataclass(frozen=True)
class Crossvalidation:
    """All parts of an experiment put together.

    regimes: regime -> model -> (R,) SM, NaN where there is none; the headline first.
    learnt: model -> split's name -> what it learnt there.
    seconds: model -> what its parts took, added up over the processes.
    """

    experiment: SplitExperiment
    regimes: Mapping[str, Mapping[str, NDArray[np.float32]]]
    learnt: Mapping[str, Mapping[str, Learnt]]
    seconds: Mapping[str, float]

    @property
    def source(self) -> Source:
        """The table as read."""
        return self.experiment.source

    @property
    def config(self) -> Config:
        """The configuration of the experiment."""
        return self.experiment.config

    @property
    def design(self) -> Design:
        """The split of its rows."""
        return self.experiment.design

    @property
    def headline(self) -> str:
        """The regime that comes first: new groups on new dates, where there are any."""
        return next(iter(self.regimes))

    @property
    def predicted(self) -> Mapping[str, NDArray[np.float32]]:
        """Model -> (R,) SM of the headline."""
        return self.regimes[self.headline]


def crossvalidate(
    config: Config,
    run_folder: Path,
    *,
    jobs: int = 1,
    progress: PartProgress | None = None,
) -> Crossvalidation:
    """Train and test every model of the configuration on every split.

    run_folder: finished parts are kept in its ``parts/``.  jobs: processes.
    """
    experiment = SplitExperiment.of(config)
    return run_experiment(experiment, run_folder / "parts", jobs=jobs, progress=progress)


def join_parts(experiment: SplitExperiment, done: Mapping[Task, Part]) -> Crossvalidation:
    """Join the predictions of each regime, each row from the training that left it out."""
    config, design = experiment.config, experiment.design
    regimes: dict[str, dict[str, NDArray[np.float32]]] = {}
    for regime in design.regimes:
        regimes[regime] = {}
        for model in config.crossval.models:
            values = np.full(len(design.fold), np.nan, np.float32)
            for split in design.splits:
                part = done[model, split]
                due = design.counts(regime, split)[part.index]
                values[part.index[due]] = part.sm[due]
            regimes[regime][model] = values
    learnt = {
        model: {split.name: done[model, split].learnt for split in design.splits}
        for model in config.crossval.models
    }
    seconds = {
        model: sum(done[model, split].seconds for split in design.splits)
        for model in config.crossval.models
    }
    return Crossvalidation(experiment, regimes, learnt, seconds)


def run_experiment(
    experiment: SplitExperiment, parts: Path, *, jobs: int = 1, progress: PartProgress | None = None
) -> Crossvalidation:
    """Run every model of an experiment on every split.

    Finished parts are kept in the folder ``parts``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    done = find_parts(experiment, parts)
    todo = [task for task in _tasks(experiment) if task not in done]
    # the slow ones first, so that two processes end together
    todo.sort(key=lambda task: not MODELS[task[0]].network)
    work = partial(_run_task, experiment)
    shared = jobs > 1 and len(todo) > 1
    for part in share(work, todo, jobs, progress) if shared else _one_by_one(work, todo, progress):
        write_part(parts, part, part_key(experiment, part.model, part.split))
        done[part.model, part.split] = part
    return join_parts(experiment, done)


def find_parts(experiment: SplitExperiment, parts: Path) -> dict[Task, Part]:
    """Find the finished parts of this experiment in a folder."""
    found = {}
    for model, split in _tasks(experiment):
        key = part_key(experiment, model, split)
        part = read_part(parts, model, split, key, experiment.design.test_rows(split))
        if part is not None:
            found[model, split] = part
    return found


def plan(config: Config, run_folder: Path, tell: Callable[[str], None] = lambda _: None) -> str:
    """Describe in one line what a cross-validation would train, and what is there already.

    tell: receives each note on how the table was read.
    """
    source = read_source(config)
    for line in source.table.notes:
        tell(line)
    design = design_of(source, config)
    experiment = SplitExperiment(config, source, design)
    kept = len(find_parts(experiment, run_folder / "parts"))
    models, folds, blocks = config.crossval.models, design.fold_names, design.block_names
    later = sum(split.past for split in design.splits)
    pairs = len(design.splits) - len(folds) - later
    dates = (
        f"; {pairs} pairs of a fold and one of {len(blocks)} blocks of dates, {later} forward"
        if blocks
        else f"; no score on new dates: {design.without_new_dates}"
    )
    return (
        f"{source.table.source}: {len(source.table)} rows, "
        f"{int(np.isfinite(source.label).sum())} labels, {len(np.unique(source.group))} groups "
        f"by {config.data.group}; {len(folds)} folds{dates}; {len(models)} models "
        f"({', '.join(models)}), {kept} of {len(_tasks(experiment))} parts kept from before"
    )


def run_part(
    experiment: SplitExperiment, model: str, split: Split, progress: PartProgress | None = None
) -> Part:
    """Train ``model`` without what ``split`` leaves out, and predict its test rows."""
    begun = time.perf_counter()
    config, source, design = experiment.config, experiment.source, experiment.design
    train_rows, test_rows = design.train_rows(split), design.test_rows(split)
    if config.crossval.train_groups:
        count = config.crossval.train_groups
        train_rows = few_groups(source, train_rows, count, seed=split.fold)
    config, decay = with_fitted_rain(config, source.table, source.weather, source.label, train_rows)
    samples = samples_of(source, config, model, train_rows)
    name = f"{model}, {split.name}"

    def step(epoch: int, epochs: int, best: float) -> None:
        if progress is not None:
            progress(name, epoch, epochs, best)

    usable = samples.labelled[train_rows].sum()
    if split.past and MODELS[model].reads != "nothing" and usable < LEAST_LABELS:
        # the past holds labels, but too few with every input of this model
        sm, learnt = np.full(len(test_rows), np.nan, np.float32), Learnt()
        step(1, 1, math.nan)
    elif MODELS[model].network:
        trained = train(samples, config, model, train_rows, step)
        sm, learnt = estimate(trained.network, samples, test_rows), trained.learnt
    elif model == "wetness":  # the shipped index, past only, between fixed limits
        sm = wetness_of(source.table, WETNESS_LIMITS).sm[test_rows]
        learnt = Learnt()
        step(1, 1, math.nan)
    elif model == "oracle":  # what a simulated table says could be known from one look
        sm, learnt = source.table.numbers["sm_oracle"][test_rows].astype(np.float32), Learnt()
        step(1, 1, math.nan)
    else:
        # no label of the test rows is there at all while something is fitted
        hidden = np.full(len(samples.sm), np.nan, np.float32)
        hidden[train_rows] = samples.sm[train_rows]
        blind = dataclasses.replace(samples, sm=hidden)
        sm, learnt = BASELINES[model](config, blind, train_rows, test_rows)
        step(1, 1, math.nan)
    if MODELS[model].reads != "nothing":
        learnt = dataclasses.replace(learnt, parameters={**learnt.parameters, **decay})
    return Part(model, split, test_rows, sm, learnt, time.perf_counter() - begun)


def few_groups(source: Source, rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Draw ``count`` groups from those with labels among ``rows``, and return their rows."""
    labelled = rows[np.isfinite(source.label[rows])]
    names = np.random.default_rng(seed).permutation(np.unique(source.group[labelled]))
    return rows[np.isin(source.group[rows], names[:count])]


def _tasks(experiment: SplitExperiment) -> list[Task]:
    models, splits = experiment.config.crossval.models, experiment.design.splits
    return [(model, split) for model in models for split in splits]


def _run_task(experiment: SplitExperiment, task: Task, progress: PartProgress | None) -> Part:
    model, split = task
    return run_part(experiment, model, split, progress)


def _one_by_one(
    work: partial[Part], todo: list[Task], progress: PartProgress | None
) -> Iterator[Part]:
    for task in todo:
        yield work(task, progress)
