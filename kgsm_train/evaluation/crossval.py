"""Cross-validation: every model on the same folds, finished parts kept.

A part is one model on one fold. Each is written when it is done, so a run that was
stopped goes on where it was; parts of another configuration, table or version do not count.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import multiprocessing
import time
from collections.abc import Mapping
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from queue import Empty
from typing import Any

import numpy as np
from numpy.typing import NDArray

import kgsm_infer
from kgsm_infer.errors import DataError
from kgsm_infer.files import whole

from ..config import Config, as_json
from ..learning.baselines import BASELINES
from ..learning.samples import Source, read_source, samples_of, text_column
from ..learning.training import estimate, train
from ..models import MODELS
from ..progress import PartProgress
from .folds import Leak, find_leaks, given_folds, group_folds, refuse_leaks


@dataclass(frozen=True)
class Part:
    """One model on one fold: predictions of the test rows, and what was learnt.

    index: (K,) rows tested.  sm: (K,) float32, NaN where there is no number.
    learnt: plain JSON values (A, epochs, lost share ...).  seconds: what it took.
    """

    model: str
    fold: int
    index: NDArray[np.int64]
    sm: NDArray[np.float32]
    learnt: Mapping[str, Any]
    seconds: float


@dataclass(frozen=True)
class Crossvalidation:
    """All parts put together.

    fold: (R,) fold of each row.  predicted: model -> (R,) SM tested on unseen groups.
    learnt: model -> one JSON object a fold.  leaks: let pass on purpose.
    seconds: model -> what its parts took, added up over the processes.
    """

    source: Source
    fold: NDArray[np.int64]
    fold_names: tuple[str, ...]
    predicted: Mapping[str, NDArray[np.float32]]
    learnt: Mapping[str, tuple[Mapping[str, Any], ...]]
    leaks: tuple[Leak, ...]
    seconds: Mapping[str, float]


def crossvalidate(
    config: Config,
    run_folder: Path,
    *,
    jobs: int = 1,
    progress: PartProgress | None = None,
) -> Crossvalidation:
    """Train and test every model of the configuration on every fold.

    run_folder: finished parts are kept in its ``parts/``.  jobs: processes.
    """
    source = read_source(config)
    fold, fold_names, leaks = guarded_folds(source, config)
    done = run_parts(config, source, fold, run_folder / "parts", jobs=jobs, progress=progress)
    predicted, learnt, seconds = {}, {}, {}
    for model in config.crossval.models:
        values = np.full(len(fold), np.nan, np.float32)
        for k in range(len(fold_names)):
            values[done[model, k].index] = done[model, k].sm
        predicted[model] = values
        learnt[model] = tuple(done[model, k].learnt for k in range(len(fold_names)))
        seconds[model] = sum(done[model, k].seconds for k in range(len(fold_names)))
    return Crossvalidation(source, fold, fold_names, predicted, learnt, leaks, seconds)


def run_parts(
    config: Config,
    source: Source,
    fold: NDArray[np.int64],
    parts: Path,
    *,
    jobs: int = 1,
    progress: PartProgress | None = None,
) -> dict[tuple[str, int], Part]:
    """Every model of the configuration on every fold of ``fold`` (R,): (model, k) -> part.

    Rows of fold -1 are never tested. Finished parts are kept in the folder ``parts``.
    """
    parts.mkdir(parents=True, exist_ok=True)
    folds = range(int(fold.max()) + 1)
    todo = [(model, k) for model in config.crossval.models for k in folds]
    done: dict[tuple[str, int], Part] = {}
    for model, k in todo:
        part = _read_part(parts, model, k, part_key(config, source, model))
        if part is not None:
            done[model, k] = part
    todo = [item for item in todo if item not in done]
    # the slow ones first, so that two processes end together
    todo.sort(key=lambda item: not MODELS[item[0]].network)
    run = _run_here if jobs == 1 or len(todo) < 2 else _run_in_processes
    for part in run(config, source, fold, todo, jobs, progress):
        _write_part(parts, part, part_key(config, source, part.model))
        done[part.model, part.fold] = part
    return done


def plan(config: Config, run_folder: Path) -> str:
    """One line on what a cross-validation would train, and what is there already."""
    source = read_source(config)
    _, fold_names, _ = guarded_folds(source, config)
    kept = sum(
        _read_part(run_folder / "parts", model, k, part_key(config, source, model)) is not None
        for model in config.crossval.models
        for k in range(len(fold_names))
    )
    total = len(config.crossval.models) * len(fold_names)
    return (
        f"{source.table.source}: {len(source.table)} rows, "
        f"{int(np.isfinite(source.label).sum())} labels, {len(np.unique(source.group))} groups "
        f"by {config.data.group}; {len(fold_names)} folds x {len(config.crossval.models)} models"
        f" ({', '.join(config.crossval.models)}), {kept} of {total} parts kept from before"
    )


def folds_of(source: Source, config: Config) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """The fold of each row, from the table's own column or from its groups.

    Groups are dealt by their labels alone, so that models of other inputs are tested on
    the same folds.
    """
    if config.data.fold:
        fold = text_column(source.table, config.data.fold)
        return given_folds(fold, source.table.source)
    labelled = np.isfinite(source.label)
    names = np.unique(source.group[labelled])
    if config.crossval.folds == 0:  # one group at a time; one without labels tests nobody
        if len(names) < 2:
            raise DataError(f"{source.table.source}: two groups with labels are needed")
        number = np.searchsorted(names, source.group).clip(max=len(names) - 1)
        return number.astype(np.int64), tuple(names.tolist())
    count = config.crossval.folds
    fold_numbers = group_folds(source.group, labelled, count, config.training.seed)
    return fold_numbers, tuple(str(k + 1) for k in range(count))


def guarded_folds(
    source: Source, config: Config
) -> tuple[NDArray[np.int64], tuple[str, ...], tuple[Leak, ...]]:
    """Folds without leaks, or with those the configuration lets pass; else DataError.

    With leave-year-out every place is in every fold by design, so that is no leak.
    """
    fold, fold_names = folds_of(source, config)
    table, leaks = source.table, []
    if config.data.group != "year":
        leaks = find_leaks(table.site, source.group, table.day, source.label, fold, fold_names)
    refuse_leaks(leaks, config.crossval.allow, table.source)
    return fold, fold_names, tuple(leaks)


def run_part(
    config: Config,
    source: Source,
    fold: NDArray[np.int64],
    model: str,
    k: int,
    progress: PartProgress | None = None,
) -> Part:
    """Train ``model`` without fold ``k`` and predict fold ``k``."""
    begun = time.perf_counter()
    samples = samples_of(source, config, model)
    train_rows, test_rows = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
    if config.crossval.train_groups:
        train_rows = few_groups(source, train_rows, config.crossval.train_groups, seed=k)
    name = f"{model}, fold {k + 1}"

    def step(epoch: int, epochs: int, best: float) -> None:
        if progress is not None:
            progress(name, epoch, epochs, best)

    if MODELS[model].network:
        trained = train(samples, config, model, train_rows, step)
        sm = estimate(trained.network, samples, test_rows)
        learnt: dict[str, Any] = {
            "samples": trained.samples,
            "best_epoch": trained.best_epoch,
            "lost_share": trained.lost_share,
            "log": [dataclasses.asdict(line) for line in trained.log],
        }
        if trained.wcm is not None:
            learnt["a"] = trained.wcm.a
        else:
            for line in learnt["log"]:
                del line["a"]
    elif model == "oracle":  # what a simulated table says could be known from one look
        sm, learnt = source.table.numbers["sm_oracle"][test_rows].astype(np.float32), {}
        step(1, 1, math.nan)
    else:
        sm, learnt = BASELINES[model](config, samples, train_rows, test_rows)
        step(1, 1, math.nan)
    return Part(model, k, test_rows, sm, learnt, time.perf_counter() - begun)


def few_groups(source: Source, rows: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """The rows of ``count`` groups drawn from those that have labels among ``rows``."""
    labelled = rows[np.isfinite(source.label[rows])]
    names = np.random.default_rng(seed).permutation(np.unique(source.group[labelled]))
    return rows[np.isin(source.group[rows], names[:count])]


def _run_here(
    config: Config,
    source: Source,
    fold: NDArray[np.int64],
    todo: list[tuple[str, int]],
    jobs: int,
    progress: PartProgress | None,
) -> Any:
    for model, k in todo:
        yield run_part(config, source, fold, model, k, progress)


def _run_in_processes(
    config: Config,
    source: Source,
    fold: NDArray[np.int64],
    todo: list[tuple[str, int]],
    jobs: int,
    progress: PartProgress | None,
) -> Any:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as manager:
        events = manager.Queue()
        pool = ProcessPoolExecutor(min(jobs, len(todo)), mp_context=context)
        try:
            waiting = {
                pool.submit(_run_and_tell, config, source, fold, model, k, events)
                for model, k in todo
            }
            while waiting:
                finished, waiting = wait(waiting, timeout=0.2, return_when=FIRST_COMPLETED)
                _pass_on(events, progress)
                for future in finished:
                    yield future.result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _run_and_tell(
    config: Config, source: Source, fold: NDArray[np.int64], model: str, k: int, events: Any
) -> Part:
    return run_part(config, source, fold, model, k, lambda *event: events.put(event))


def _pass_on(events: Any, progress: PartProgress | None) -> None:
    while True:
        try:
            event = events.get_nowait()
        except Empty:
            return
        if progress is not None:
            progress(*event)


def part_key(config: Config, source: Source, model: str) -> str:
    """What a finished part depends on, as one hash: data, configuration, code version."""
    settings = as_json(config)
    settings["data"].pop("table")  # its content counts, not its name
    settings["crossval"] = {"folds": config.crossval.folds}
    if config.crossval.train_groups:
        settings["crossval"]["train_groups"] = config.crossval.train_groups
    what = [settings, source.sha256, kgsm_infer.__version__, model]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _part_path(parts: Path, model: str, k: int) -> Path:
    return parts / f"{model}-fold{k + 1}.npz"


def _write_part(parts: Path, part: Part, key: str) -> None:
    with whole(_part_path(parts, part.model, part.fold), "wb") as out:
        learnt = json.dumps(dict(part.learnt))
        np.savez(out, key=key, index=part.index, sm=part.sm, learnt=learnt, seconds=part.seconds)


def _read_part(parts: Path, model: str, k: int, key: str) -> Part | None:
    path = _part_path(parts, model, k)
    if not path.is_file():
        return None
    try:
        with np.load(path) as file:
            if str(file["key"]) != key:
                return None
            learnt = json.loads(str(file["learnt"]))
            return Part(model, k, file["index"], file["sm"], learnt, float(file["seconds"]))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"{path}: not a finished part ({error}); delete it") from None
