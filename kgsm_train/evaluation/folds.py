"""Folds of groups and blocks of dates, made from the data, never by row.

The leak check finds places that are tested on themselves, or on a copy of their labels under
another name, which makes every score wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base.errors import DataError

#: Two labels are one when they differ by no more (m3 m-3), and this many together make a copy.
SAME_LABEL, SAME_LABELS = 0.001, 3
#: When two label series are one: so close (m3 m-3), on this many common days, on this share.
SAME_SM, SAME_DAYS, SAME_SHARE = 0.0015, 5, 0.9


def group_folds(
    group: NDArray[np.str_], labelled: NDArray[np.bool_], folds: int, seed: int
) -> NDArray[np.int64]:
    """Return (R,) fold of each row, 0..folds-1; every group whole in one fold.

    Groups are shuffled, then each goes to the fold with the fewest labelled rows, so
    folds are of like size. DataError where there are fewer labelled groups than folds.

    >>> group_folds(np.array(["a", "a", "b", "c"]), np.ones(4, bool), folds=2, seed=0).tolist()
    [0, 0, 1, 1]
    """
    names, code = np.unique(group, return_inverse=True)
    count = np.bincount(code, weights=labelled, minlength=len(names))
    if np.count_nonzero(count) < folds:
        raise DataError(
            f"{np.count_nonzero(count)} groups with labels cannot make {folds} folds; "
            "ask for fewer folds, or group by a column with more groups"
        )
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-count[order], kind="stable")]
    fold_of, load = np.zeros(len(names), np.int64), np.zeros(folds)
    for name in order:
        fold_of[name] = int(np.argmin(load))
        load[fold_of[name]] += count[name]
    return fold_of[code]


@dataclass(frozen=True)
class Partition:
    """Rows divided into folds of groups, or into blocks of dates.

    number: (R,) of each row, from 0.  names: one for each number.
    """

    number: NDArray[np.int64]
    names: tuple[str, ...]


def read_folds(fold: NDArray[np.str_], source: str) -> Partition:
    """Read the authors' folds from a column; DataError for a single fold."""
    names, number = np.unique(fold, return_inverse=True)
    if len(names) < 2:
        raise DataError(f"{source}: the fold column holds only {names.tolist()}; two are needed")
    return Partition(number.astype(np.int64), tuple(names.tolist()))


def date_blocks(day: NDArray[np.float64], labelled: NDArray[np.bool_], blocks: int) -> Partition:
    """Divide rows into blocks of dates, named by first and last day.

    A block is a run of neighbouring dates; all blocks have about as many dates with labels.
    day: (R,) whole days since 1970.  blocks: how many; 0 for one a date up to 7 dates, for
    blocks of two up to 14, and for 7 blocks beyond.

    >>> days = np.array([10.0, 10, 16, 22, 28])
    >>> date_blocks(days, np.ones(5, bool), 2).number.tolist()
    [0, 0, 0, 1, 1]
    """
    dates = np.unique(day[labelled])
    if blocks == 0:
        blocks = len(dates) if len(dates) <= 7 else min(7, len(dates) // 2)
    blocks = min(blocks, len(dates))
    first = dates[[part[0] for part in np.array_split(np.arange(len(dates)), blocks)]]
    # a date without labels belongs to the block before it
    number = np.searchsorted(first, day, side="right").clip(min=1) - 1
    names = []
    for b in range(blocks):
        inside = day[number == b]
        ends = (inside.min(), inside.max())
        names.append(" to ".join(str(np.datetime64(int(d), "D")) for d in dict.fromkeys(ends)))
    return Partition(number.astype(np.int64), tuple(names))


def find_repeats(
    site: NDArray[np.str_],
    group: NDArray[np.str_],
    day: NDArray[np.float64],
    sm: NDArray[np.floating],
) -> tuple[str, ...]:
    """Find labels that look copied, a sentence each: from another date, or another group.

    All (R,). Two dates, where on SAME_SHARE of at least 5 common sites the labels are the same;
    and two groups (of one date or two) whose points carry the same series of labels. Labels
    that hardly vary (a dry season) are no copy.
    """
    series, names = _series(site, day, sm)
    days = np.unique(np.floor(day[np.isfinite(sm) & np.isfinite(day)]))
    found = []
    for i in range(len(days)):
        for j in range(i):
            gap = np.abs(series[:, i] - series[:, j])
            n, alike = int(np.isfinite(gap).sum()), int((gap <= SAME_LABEL).sum())
            if n >= SAME_DAYS and alike >= SAME_SHARE * n and _varies(series[gap <= SAME_LABEL, i]):
                dates = " and ".join(str(np.datetime64(int(days[d]), "D")) for d in (j, i))
                found.append(f"labels of {dates} are the same at {alike} of {n} sites")
    return (*found, *_repeated_groups(series, names, days, site, group))


def _repeated_groups(
    series: NDArray[np.float64],
    names: Sequence[str],
    days: NDArray[np.float64],
    site: NDArray[np.str_],
    group: NDArray[np.str_],
) -> list[str]:
    """Find groups of several points whose points carry, in order, another group's labels."""
    of_site = dict(zip(site.tolist(), group.tolist(), strict=True))
    owner = np.asarray([of_site[name] for name in names], np.str_)
    seen: dict[tuple[int, ...], list[tuple[str, str, NDArray[np.float64]]]] = {}
    found = []
    for name in np.unique(owner):
        points = series[owner == name]
        for d in np.flatnonzero(np.isfinite(points).sum(axis=0) >= SAME_LABELS):
            labels = points[np.isfinite(points[:, d]), d]
            if not _varies(labels):
                continue
            date = str(np.datetime64(int(days[d]), "D"))
            # near a rounding edge the neighbour's cell is looked into as well
            cell = int(np.floor(labels[0] / SAME_LABEL))
            for near in (cell - 1, cell, cell + 1):
                for other, when, theirs in seen.get((len(labels), near), []):
                    if np.abs(theirs - labels).max() <= SAME_LABEL + 1e-9:
                        found.append(
                            f"labels of {name} on {date} repeat those of {other} on {when}"
                        )
            seen.setdefault((len(labels), cell), []).append((str(name), date, labels))
    return found


def _varies(labels: NDArray[np.float64]) -> bool:
    return bool(labels.max() - labels.min() > 10 * SAME_LABEL)


@dataclass(frozen=True)
class Leak:
    """Two folds that share what they must not. kind: one of config.LEAKS."""

    kind: str
    text: str


def find_leaks(
    site: NDArray[np.str_],
    group: NDArray[np.str_],
    day: NDArray[np.float64],
    sm: NDArray[np.floating],
    folds: Partition,
) -> list[Leak]:
    """Find sites or groups in two folds, and label series that are the same in two folds.

    All (R,); day: any origin; sm: NaN without a label. Two series are the same when on
    SAME_SHARE or more of at least SAME_DAYS common days they differ by no more than
    SAME_SM, and they vary (dry season at one reading is no copy).
    """
    fold, fold_names, leaks = folds.number, folds.names, []
    for what, names in (("site", site), ("group", group)):
        code, number = np.unique(names, return_inverse=True)
        pairs = np.unique(np.stack([number, fold]), axis=1)
        twice = np.flatnonzero(np.bincount(pairs[0]) > 1)
        if what == "group" and np.array_equal(site, group):
            continue
        for i in twice.tolist():
            inside = [fold_names[k] for k in pairs[1][pairs[0] == i]]
            text = f"{what} {code[i]} stands in folds {', '.join(inside)}"
            leaks.append(Leak("site-in-two-folds", text))
    series, names_of = _series(site, day, sm)
    fold_of = {str(name): int(fold[np.flatnonzero(site == name)[0]]) for name in names_of}
    for i, first in enumerate(names_of):
        apart = np.asarray([fold_of[name] != fold_of[first] for name in names_of[i + 1 :]], bool)
        others = np.flatnonzero(apart) + i + 1
        gap = np.abs(series[others] - series[i])
        common = np.isfinite(gap)
        n = common.sum(axis=1)
        alike = (np.where(common, gap, np.inf) <= SAME_SM).sum(axis=1)
        for j in np.flatnonzero((n >= SAME_DAYS) & (alike >= SAME_SHARE * n)):
            here = series[i][common[j]]
            if here.max() - here.min() <= 10 * SAME_SM:
                continue
            other = names_of[others[j]]
            text = (
                f"sites {first} (fold {fold_names[fold_of[first]]}) and {other} "
                f"(fold {fold_names[fold_of[other]]}) carry the same soil moisture on "
                f"{alike[j]} of {n[j]} common days"
            )
            leaks.append(Leak("identical-series", text))
    return leaks


def refuse_leaks(leaks: Sequence[Leak], allow: Sequence[str], source: str) -> None:
    """Raise DataError for the first leak that is not allowed, with the number of all."""
    refused = [leak for leak in leaks if leak.kind not in allow]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        raise DataError(
            f"{source}: {refused[0].text}{more}: a test fold would be known from training. Put "
            "them in one fold or group, leave one out, or keep them on purpose with "
            f'[crossval] allow = ["{refused[0].kind}"]'
        )


def _series(
    site: NDArray[np.str_], day: NDArray[np.float64], sm: NDArray[np.floating]
) -> tuple[NDArray[np.float64], list[str]]:
    """Return (S, D) mean label of each labelled site and day, NaN where none; the sites' names."""
    known = np.isfinite(sm) & np.isfinite(day)
    names, row = np.unique(site[known], return_inverse=True)
    days, column = np.unique(np.floor(day[known]), return_inverse=True)
    cell = row * len(days) + column
    size = len(names) * len(days)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(cell, sm[known], size) / np.bincount(cell, minlength=size)
    return mean.reshape(len(names), len(days)), names.tolist()
