"""Define the splits of a cross-validation and its four regimes.

Users ask about fields and dates that no model has seen. So the design has folds of groups and
blocks of neighbouring dates, and reports four scores:

    both-new      new groups on new dates: the headline
    new-dates     groups of the training data on new dates
    new-groups    new groups on dates of the training data
    forward       new groups on later dates: trained on earlier dates alone

A training leaves out one fold (``new-groups``), or one fold and one block together (``both-new``
and ``new-dates``: the block's rows of the fold, and those of the other folds), or one fold, one
block and everything later (``forward``). Each row counts once in a regime, from a training
fixed beforehand.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError

from ..config import Config
from ..learning.samples import Source, read_source, text_column
from .folds import (
    Leak,
    Partition,
    date_blocks,
    find_leaks,
    find_repeats,
    group_folds,
    read_folds,
    refuse_leaks,
)

#: In the order of reports, the headline first.
REGIMES = ("both-new", "new-dates", "new-groups", "forward")
#: Fewer dates with labels than this make no score on new dates.
LEAST_DATES = 3
#: Fewest labels of a training on the past.
LEAST_LABELS = 30
#: Labels a pair of fold and block holds on average from which on pairs are enough.
ENOUGH_IN_A_PAIR = 100


@dataclass(frozen=True)
class Split:
    """One training: the fold left out, and the block of dates, -1 for none.

    past: train on earlier dates than the block's alone.
    """

    fold: int
    block: int = -1
    past: bool = False

    @property
    def name(self) -> str:
        """Return the name in files of parts and progress bars.

        >>> Split(1).name, Split(0, 4).name, Split(0, 4, past=True).name
        ('fold2', 'fold1-dates5', 'fold1-before5')
        """
        kind = "before" if self.past else "dates"
        return f"fold{self.fold + 1}" + (f"-{kind}{self.block + 1}" if self.block >= 0 else "")


@dataclass(frozen=True)
class Design:
    """Split of the rows into training and test.

    fold: (R,) fold of each row, -1 never tested and never trained on.  block: (R,) block of
    dates of each row, -1 throughout where new dates are not scored.
    splits: every training.  without_new_dates: why they are not scored, or empty.
    repeats: labels that look copied from another date or group.
    """

    fold: NDArray[np.int64]
    fold_names: tuple[str, ...]
    block: NDArray[np.int64]
    block_names: tuple[str, ...]
    splits: tuple[Split, ...]
    leaks: tuple[Leak, ...] = ()
    repeats: tuple[str, ...] = ()
    without_new_dates: str = ""

    @property
    def regimes(self) -> tuple[str, ...]:
        """Return the regimes that are scored, the headline first."""
        if not self.block_names:
            return ("new-groups",)
        forward = any(split.past for split in self.splits)
        return REGIMES if forward else REGIMES[:-1]

    def train_rows(self, split: Split) -> NDArray[np.int64]:
        """Return the training rows: no row of the fold, none of the block's dates or later."""
        kept = (self.fold != split.fold) & (self.fold >= 0)
        if split.past:
            kept &= self.block < split.block
        elif split.block >= 0:
            kept &= self.block != split.block
        return np.flatnonzero(kept)

    def test_rows(self, split: Split) -> NDArray[np.int64]:
        """Return the rows to predict: the fold's, all of the block's dates, or both."""
        if split.past:
            return np.flatnonzero((self.block == split.block) & (self.fold == split.fold))
        if split.block >= 0:
            return np.flatnonzero((self.block == split.block) & (self.fold >= 0))
        return np.flatnonzero(self.fold == split.fold)

    def counts(self, regime: str, split: Split) -> NDArray[np.bool_]:
        """Return (R,) True for rows whose prediction in ``regime`` comes from ``split``."""
        if (regime == "forward") != split.past:
            return np.zeros(len(self.fold), bool)
        if split.past:
            return np.asarray((self.block == split.block) & (self.fold == split.fold))
        if regime == "new-groups":
            return np.asarray((self.fold == split.fold) & (split.block < 0))
        here = (self.block == split.block) & (self.fold >= 0) & (split.block >= 0)
        of = self.fold if regime == "both-new" else self._witness(split.block)
        return np.asarray(here & (of == split.fold))

    def _witness(self, block: int) -> NDArray[np.int64]:
        """Return (R,) the fold whose training predicts a row of a known group: the next one."""
        folds = np.asarray(
            [split.fold for split in self.splits if split.block == block and not split.past]
        )
        count = len(self.fold_names)
        found = np.full(len(self.fold), -1, np.int64)
        for k in range(count):
            others = folds[folds != k]
            if len(others):
                found[self.fold == k] = others[np.argmin((others - k) % count)]
        return found


@dataclass(frozen=True)
class SplitExperiment:
    """A configuration, its table as read, and the split of its rows."""

    config: Config
    source: Source
    design: Design

    @classmethod
    def of(cls, config: Config) -> SplitExperiment:
        """Read the table of a configuration and split its rows.

        DataError for a table that cannot be used, or a leak that the configuration does not name.
        """
        source = read_source(config)
        return cls(config, source, design_of(source, config))


def design_of(source: Source, config: Config) -> Design:
    """Make folds, blocks and trainings of an experiment; check for leaks.

    DataError for a leak that the configuration does not name.
    """
    folds = folds_of(source, config)
    leaks = check_leaks(source, config, folds)
    fold, fold_names, table = folds.number, folds.names, source.table
    repeats = find_repeats(table.site, source.group, table.day, source.label)
    alone = tuple(Split(k) for k in range(len(fold_names)))
    day = np.floor(table.day)
    dates = len(np.unique(day[np.isfinite(source.label)]))
    why = ""
    if config.data.group == "year":
        why = "the folds are years: every test row is of a new date already"
    elif dates < LEAST_DATES:
        why = f"{dates} dates with labels are too few"
    elif config.crossval.date_blocks == 1:
        why = "the configuration asks for none (date_blocks = 1)"
    if why:
        none = np.full(len(fold), -1, np.int64)
        return Design(fold, fold_names, none, (), alone, leaks, repeats, why)
    blocks = date_blocks(day, np.isfinite(source.label), config.crossval.date_blocks)
    block, block_names = blocks.number, blocks.names
    pairs = _pairs(config, len(fold_names), len(block_names), int(np.isfinite(source.label).sum()))
    later = _forward(pairs, fold, block, day, source) if config.crossval.forward else ()
    splits = (*alone, *pairs, *later)
    return Design(fold, fold_names, block, block_names, splits, leaks, repeats)


def _forward(
    pairs: Sequence[Split],
    fold: NDArray[np.int64],
    block: NDArray[np.int64],
    day: NDArray[np.float64],
    source: Source,
) -> tuple[Split, ...]:
    """Return the pairs whose past has LEAST_DATES dates and LEAST_LABELS labels to train on."""
    found, labelled = [], np.isfinite(source.label)
    for pair in pairs:
        past = labelled & (block < pair.block) & (fold != pair.fold)
        enough = len(np.unique(day[past])) >= LEAST_DATES and past.sum() >= LEAST_LABELS
        if enough and len(np.unique(source.group[past])) > 1:
            found.append(Split(pair.fold, pair.block, past=True))
    return tuple(found)


def _pairs(config: Config, folds: int, blocks: int, labels: int) -> list[Split]:
    """Pair each fold with each block; where labels are plenty, with one after the other."""
    every = config.crossval.date_pairs == "all"
    if config.crossval.date_pairs == "auto":
        every = labels < ENOUGH_IN_A_PAIR * folds * blocks
    if every:
        return [Split(k, b) for b in range(blocks) for k in range(folds)]
    return sorted(
        {Split(i % folds, i % blocks) for i in range(max(folds, blocks))},
        key=lambda split: (split.block, split.fold),
    )


def folds_of(source: Source, config: Config) -> Partition:
    """Return the fold of each row, from the table's own column or from its groups.

    Groups are dealt by their labels alone, so that models of other inputs are tested on
    the same folds.
    """
    if config.data.fold:
        fold = text_column(source.table, config.data.fold)
        return read_folds(fold, source.table.source)
    labelled = np.isfinite(source.label)
    names = np.unique(source.group[labelled])
    if config.crossval.folds == 0:  # leave one group out; one without labels has nothing to score
        if len(names) < 2:
            raise DataError(f"{source.table.source}: two groups with labels are needed")
        number = np.searchsorted(names, source.group).clip(max=len(names) - 1)
        return Partition(number.astype(np.int64), tuple(names.tolist()))
    count = config.crossval.folds
    fold_numbers = group_folds(source.group, labelled, count, config.training.seed)
    return Partition(fold_numbers, tuple(str(k + 1) for k in range(count)))


def check_leaks(source: Source, config: Config, folds: Partition) -> tuple[Leak, ...]:
    """Return the leaks that the configuration allows; DataError for any other.

    With leave-year-out every place is in every fold by design, so that is not a leak.
    """
    table, leaks = source.table, []
    if config.data.group != "year":
        leaks = find_leaks(table.site, source.group, table.day, source.label, folds)
    refuse_leaks(leaks, config.crossval.allow, table.source)
    return tuple(leaks)
