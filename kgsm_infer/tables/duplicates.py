"""Merge the rows of one acquisition.

Frames (slices, bursts) of one pass are some seconds apart, and a site in their overlap is in both:
they are averaged, in linear power. Exports repeat a site and time: rows that complete each other
are merged, equal ones dropped, and :data:`KEEP` resolves conflicting ones. The table's notes list
the changes.

A row with a label and without backscatter is a probe reading, never a frame.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError, UsageError
from .averaging import mean_of, to_power
from .columns import POLARISATIONS
from .passes import in_one_pass
from .text_column import TextColumn, first_rows, shorten, text_codes

#: How to resolve conflicting duplicate rows: refuse the table, leave the differing cells empty,
#: or take the first, the last or the mean.
KEEP = ("refuse", "empty", "first", "last", "mean")
#: Columns that number the rows of an export.
_ROW_LABELS = ("", "system:index", ".geo", "id", "index", "row", "fid", "ogc_fid")


@dataclass(frozen=True)
class Merged:
    """index: (M,) the first row of each acquisition, in the table's order.  group: (R,) which
    of them a row belongs to.  numbers: (M,) each.  text: (M,) each.  notes: what was done.
    contradicts: acquisition -> why it has empty cells."""

    index: NDArray[np.int64]
    group: NDArray[np.int64]
    numbers: dict[str, NDArray[np.float64]]
    text: dict[str, Any]
    notes: tuple[str, ...]
    contradicts: Mapping[int, str]


@dataclass(frozen=True)
class Rows:
    """R rows before they are merged.

    row_number: (R,) in the file.  site_code: (R,) a number for each site, where it is known.
    option: where the user sets one of KEEP, for messages; "" for nowhere.
    """

    source: str
    site: NDArray[np.str_]
    date: NDArray[np.datetime64]
    numbers: Mapping[str, NDArray[np.float64]]
    text: Mapping[str, Any]
    row_number: NDArray[np.int64]
    site_code: NDArray[np.int64] | None = None
    option: str = "--keep"


@dataclass(frozen=True)
class Groups:
    """Rows of M acquisitions.

    group: (R,) acquisition of each row, in order of first appearance.  first: (M,) first row of
    each.  seconds: (R,) time of each row, since 1970.
    """

    group: NDArray[np.int64]
    first: NDArray[np.int64]
    seconds: NDArray[np.int64]

    @cached_property
    def size(self) -> NDArray[np.int64]:
        """Rows of each acquisition, (M,)."""
        return np.bincount(self.group, minlength=len(self.first))

    @cached_property
    def one_pass(self) -> NDArray[np.bool_]:
        """True where rows of several times are frames of one pass, (M,)."""
        span = np.zeros(len(self.first), np.int64)
        np.maximum.at(span, self.group, self.seconds - self.seconds[self.first][self.group])
        return span > 0


@dataclass(frozen=True)
class Column:
    """Merged values of a column, one for each acquisition.

    differs: (M,) True where rows of one time contradict each other.  added: (M,) True where
    another row than the first has the value.
    """

    values: Any
    differs: NDArray[np.bool_]
    added: NDArray[np.bool_]


def check_keep(keep: str) -> None:
    """Raise UsageError where ``keep`` is not in KEEP."""
    if keep not in KEEP:
        raise UsageError(f"--keep {keep!r} must be first, last or mean")


def merge(
    rows: Rows,
    keep: str,
    weight: NDArray[np.float64] | None = None,
    unread: Collection[str] = (),
) -> Merged | None:
    """Merge rows to one per acquisition; None where every row is one already.

    weight: (R,) of each row in a mean, such as its pixels; equal by default.
    unread: columns that never refuse a table; their conflicting cells are left empty instead.
    DataError, with ``keep`` "refuse", where rows contradict each other.
    """
    check_keep(keep)
    groups = group_rows(rows)
    group, first = groups.group, groups.first
    if len(first) == len(group):
        return None
    weight = np.ones(len(group)) if weight is None else weight
    differing: dict[int, str] = {}
    ignored: dict[int, str] = {}  # as differing, of columns that are not read
    changed = np.zeros(len(first), bool)  # acquisitions to which other rows added something

    numbers = {}
    refuses = keep == "refuse"
    for name, values in rows.numbers.items():
        own = "empty" if refuses and name in unread else keep
        column = _number(name, values, groups, own, weight)
        numbers[name] = column.values
        changed |= column.added
        _note_difference(ignored if own != keep else differing, column.differs, name, values, group)
    text = {}
    for name, values in rows.text.items():
        own = "empty" if refuses and name in unread else keep
        column = _text(name, values, groups, own)
        text[name] = column.values
        changed |= column.added
        _note_difference(ignored if own != keep else differing, column.differs, name, values, group)

    words = {at: _place(rows, at, group, what) for at, what in sorted(differing.items())}
    if words and keep == "refuse":
        word = next(iter(words.values()))
        more = f" (and {len(words) - 1} more)" if len(words) > 1 else ""
        raise DataError(
            f"{rows.source}: {word}{more}; give times or an orbit column, or {_choice(rows.option)}"
        )
    notes = _notes(rows, groups, changed, words, keep)
    if ignored:
        at, what = min(ignored.items())
        notes = (*notes, f"{rows.source}: {_place(rows, at, group, what)}, which is not read")
    return Merged(first, group, numbers, text, notes, words if keep == "empty" else {})


def group_rows(rows: Rows) -> Groups:
    """Find the acquisitions of rows: one site, orbit and time, or frames of one pass."""
    seconds = rows.date.astype(np.int64)
    codes = [text_codes(rows.site) if rows.site_code is None else rows.site_code]
    if "orbit" in rows.text:
        codes.append(text_codes(rows.text["orbit"]))
    order = np.lexsort([seconds, *reversed(codes)])
    same_place = np.ones(max(len(order) - 1, 0), bool)
    for code in codes:
        same_place &= code[order][1:] == code[order][:-1]
    gap = np.diff(seconds[order])
    frame = _frames(rows)[order]
    near = same_place & ((gap == 0) | (in_one_pass(gap) & frame[1:] & frame[:-1]))
    starts = np.concatenate([[True], ~near]) if len(order) else np.zeros(0, bool)
    # a chain of rows longer than a pass is a series that is dense in time
    run = np.cumsum(starts) - 1
    begin = seconds[order][starts]
    too_long = np.zeros(len(begin), bool)
    too_long[run[~in_one_pass(seconds[order] - begin[run])]] = True
    if too_long.any():
        starts[1:] |= too_long[run[1:]] & (gap > 0)
        run = np.cumsum(starts) - 1
    of_row = np.empty(len(order), np.int64)
    of_row[order] = run
    # number them by their first row in the file
    first = first_rows(of_row)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return Groups(rank[of_row], np.sort(first), seconds)


def _frames(rows: Rows) -> NDArray[np.bool_]:
    """Return (R,) rows that can be a frame of a pass: with backscatter, or nothing measured."""
    radar = [rows.numbers[c] for p in POLARISATIONS if (c := f"{p}_db") in rows.numbers]
    if not radar:
        return np.zeros(len(rows.site), bool)
    seen = np.any([np.isfinite(values) for values in radar], axis=0)
    if "sm" in rows.numbers:
        return np.asarray(seen | ~np.isfinite(rows.numbers["sm"]), bool)
    return np.ones(len(rows.site), bool)


def _number(
    name: str,
    values: NDArray[np.float64],
    groups: Groups,
    keep: str,
    weight: NDArray[np.float64],
) -> Column:
    """Merge a column of numbers (R,)."""
    group, count = groups.group, len(groups.first)
    there = ~np.isnan(values)
    low, high = np.full(count, np.inf), np.full(count, -np.inf)
    np.minimum.at(low, group[there], values[there])
    np.maximum.at(high, group[there], values[there])
    known = np.bincount(group[there], minlength=count) > 0
    with np.errstate(invalid="ignore"):
        differs = known & (high > low)
    merged = np.where(known, low, np.nan)
    # a mean is taken of what differs only, so that equal values keep their bits
    power = to_power(name, np.where(there, values, 0.0))
    share = np.where(there, weight, 0.0)
    total = np.bincount(group, weights=np.where(share > 0, power * share, 0.0), minlength=count)
    mean = mean_of(name, total, np.bincount(group, weights=share, minlength=count))
    averaged = differs & groups.one_pass if keep != "mean" else differs
    merged = np.where(averaged, mean, merged)
    contradicts = differs & ~groups.one_pass
    if keep == "empty":
        merged = np.where(contradicts, np.nan, merged)
    elif keep in ("first", "last"):
        step = 1 if keep == "last" else -1
        chosen = np.full(count, np.nan)
        rows = np.flatnonzero(there)[::step]
        chosen[group[rows]] = values[rows]  # the last assignment wins
        merged = np.where(contradicts, chosen, merged)
    return Column(merged, contradicts, np.isnan(values[groups.first]) & known)


def _text(name: str, values: Any, groups: Groups, keep: str) -> Column:
    """Merge a column of text (R,); a conflict is two different words."""
    group, first = groups.group, groups.first
    several = np.flatnonzero(groups.size > 1)
    differs, added = np.zeros(len(first), bool), np.zeros(len(first), bool)
    words: dict[int, list[str]] = {int(at): [] for at in several}
    for row in np.flatnonzero(np.isin(group, several)).tolist():
        words[int(group[row])].append(values[row])
    chosen = {}
    for at, found in words.items():
        distinct = list(dict.fromkeys(word for word in found if word))
        chosen[at] = distinct[0] if distinct else ""
        added[at] = bool(distinct) and not found[0]
        if len(distinct) > 1 and not groups.one_pass[at] and name not in _ROW_LABELS:
            differs[at] = True
            given = [word for word in found if word]
            chosen[at] = {"empty": "", "last": given[-1]}.get(keep, given[0])
    texts = [chosen[i] if i in chosen else values[int(row)] for i, row in enumerate(first)]
    return Column(TextColumn.of(texts, getattr(values, "label", name)), differs, added)


def _note_difference(
    differing: dict[int, str],
    differ: NDArray[np.bool_],
    name: str,
    values: Any,
    group: NDArray[np.int64],
) -> None:
    """Remember for each acquisition the first column its rows contradict each other in."""
    new = [at for at in np.flatnonzero(differ).tolist() if at not in differing]
    if not new:
        return
    rows = np.flatnonzero(np.isin(group, new))
    seen: dict[int, list[str]] = {}
    for row in rows.tolist():
        value = values[row]
        if value != value:
            continue
        word = f"{value:g}" if isinstance(value, float) else shorten(value, 20)
        if word and word not in seen.setdefault(int(group[row]), []):
            seen[int(group[row])].append(word)
    for at in new:
        differing[at] = f"{shorten(name)} {' and '.join(seen[at][:2])}"


def _place(rows: Rows, at: int, group: NDArray[np.int64], what: str) -> str:
    """Return words for the rows of an acquisition that contradict each other."""
    there = np.flatnonzero(group == at)
    one, other = (int(rows.row_number[i]) for i in there[:2])
    return (
        f"rows {one} and {other}: site {shorten(rows.site[there[0]])} twice at "
        f"{rows.date[there[0]]} with {what}"
    )


def _choice(option: str) -> str:
    """Return what a user can do about rows that differ. option: as of :class:`Rows`."""
    return f"choose with {option} first, last or mean" if option else "delete all rows but one"


def _notes(
    rows: Rows, groups: Groups, changed: NDArray[np.bool_], words: Mapping[int, str], keep: str
) -> tuple[str, ...]:
    """Describe what was averaged, completed, left out and decided.

    changed: (M,) True where another row than the first added a value.  words: acquisition ->
    its contradiction.
    """
    group, size, one_pass = groups.group, groups.size, groups.one_pass
    notes = []
    contradicting = np.zeros(len(size), bool)
    contradicting[list(words)] = True
    kinds: Sequence[tuple[NDArray[np.bool_], str]] = (
        (
            (size > 1) & one_pass,
            "are further frames of a pass (within 10 minutes) and were averaged in, "
            "backscatter in linear power",
        ),
        (
            (size > 1) & ~one_pass & changed & ~contradicting,
            "complete another row of the same site and time and were merged with it",
        ),
        (
            (size > 1) & ~one_pass & ~changed & ~contradicting,
            "repeat another row of the same site and time and were left out",
        ),
    )
    for which, what in kinds:
        if which.any():
            further = int((size[which] - 1).sum())
            there = np.flatnonzero(group == int(np.flatnonzero(which)[0]))
            example = " and ".join(str(int(rows.row_number[i])) for i in there[:2])
            notes.append(f"{rows.source}: {further} rows {what} (rows {example} first)")
    if words:
        first = next(iter(words.values()))
        more = f", and {len(words) - 1} more acquisitions" if len(words) > 1 else ""
        done = {
            "empty": f"what differs is left empty; {_choice(rows.option)}",
            "first": "the first is kept",
            "last": "the last is kept",
            "mean": "their mean is kept",
        }[keep]
        notes.append(f"{rows.source}: {first}{more}: {done}")
    return tuple(notes)
