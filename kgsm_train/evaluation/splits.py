"""What is left out, and what is asked of it: the three regimes of a cross-validation.

A user asks about a field and a date that no model has seen. So besides the folds of groups
there are blocks of neighbouring dates, and three scores stand side by side:

    both-new      new groups on new dates: the headline
    new-dates     groups of the training data on new dates
    new-groups    new groups on dates of the training data

A training leaves out one fold (``new-groups``), or one fold and one block together; the
latter is tested on the block's rows: those of its fold are both new, the others are of known
groups. Each row counts once in a regime, from a training fixed beforehand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError

from ..config import Config
from ..learning.samples import Source, text_column
from .folds import (
    Leak,
    date_blocks,
    find_leaks,
    find_repeats,
    given_folds,
    group_folds,
    refuse_leaks,
)

#: In the order they are told in, the headline first.
REGIMES = ("both-new", "new-dates", "new-groups")
#: Fewer dates with labels than this make no score on new dates.
LEAST_DATES = 3
#: Labels a pair of fold and block holds on average from which on pairs are enough.
ENOUGH_IN_A_PAIR = 100


@dataclass(frozen=True)
class Split:
    """One training: the fold left out, and the block of dates, -1 for none."""

    fold: int
    block: int = -1

    @property
    def name(self) -> str:
        """As files of parts and progress bars write it.

        >>> Split(1).name, Split(0, 4).name
        ('fold2', 'fold1-dates5')
        """
        return f"fold{self.fold + 1}" + (f"-dates{self.block + 1}" if self.block >= 0 else "")


@dataclass(frozen=True)
class Design:
    """Which rows train and which test.

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
        """The regimes that are scored, the headline first."""
        return REGIMES if self.block_names else REGIMES[-1:]

    def train_rows(self, split: Split) -> NDArray[np.int64]:
        """Rows that may be learnt from: no row of the fold, none of the block's dates."""
        kept = (self.fold != split.fold) & (self.fold >= 0)
        if split.block >= 0:
            kept &= self.block != split.block
        return np.flatnonzero(kept)

    def test_rows(self, split: Split) -> NDArray[np.int64]:
        """Rows to predict: the fold's, or all of the block's dates."""
        if split.block >= 0:
            return np.flatnonzero((self.block == split.block) & (self.fold >= 0))
        return np.flatnonzero(self.fold == split.fold)

    def counts(self, regime: str, split: Split) -> NDArray[np.bool_]:
        """(R,) rows whose number in ``regime`` comes from ``split``."""
        if regime == "new-groups":
            return np.asarray((self.fold == split.fold) & (split.block < 0))
        here = (self.block == split.block) & (self.fold >= 0) & (split.block >= 0)
        of = self.fold if regime == "both-new" else self._witness(split.block)
        return np.asarray(here & (of == split.fold))

    def _witness(self, block: int) -> NDArray[np.int64]:
        """(R,) for each row of a known group the fold whose training tells of it: the next."""
        folds = np.asarray([split.fold for split in self.splits if split.block == block])
        count = len(self.fold_names)
        found = np.full(len(self.fold), -1, np.int64)
        for k in range(count):
            others = folds[folds != k]
            if len(others):
                found[self.fold == k] = others[np.argmin((others - k) % count)]
        return found


def design_of(source: Source, config: Config) -> Design:
    """Folds, blocks and trainings of an experiment, without leaks or with those let pass.

    DataError for a leak that the configuration does not name.
    """
    fold, fold_names, leaks = guarded_folds(source, config)
    table = source.table
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
    block, block_names = date_blocks(day, np.isfinite(source.label), config.crossval.date_blocks)
    pairs = _pairs(config, len(fold_names), len(block_names), int(np.isfinite(source.label).sum()))
    return Design(fold, fold_names, block, block_names, (*alone, *pairs), leaks, repeats)


def _pairs(config: Config, folds: int, blocks: int, labels: int) -> list[Split]:
    """Each fold with each block; where labels are plenty, each with one after the other."""
    every = config.crossval.date_pairs == "all"
    if config.crossval.date_pairs == "auto":
        every = labels < ENOUGH_IN_A_PAIR * folds * blocks
    if every:
        return [Split(k, b) for b in range(blocks) for k in range(folds)]
    return sorted(
        {Split(i % folds, i % blocks) for i in range(max(folds, blocks))},
        key=lambda split: (split.block, split.fold),
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
