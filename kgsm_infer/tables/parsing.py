"""Parse cells to numbers and dates; errors name file, row, column, value and likely cause."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..kernels import text_core
from .columns import FILL_CAUSE, Rule, is_fill
from .dates import utc_seconds, why_no_date
from .keys import canonical_id, spelling_note
from .text_column import NAME_LENGTH, TextColumn, column_of, shorten, texts_of

MISSING = (
    *("", "NA", "N/A", "n/a", "NaN", "nan", "NAN", "null", "NULL", "None", "none"),
    *("#N/A", "#NA", "<NA>", "NaT"),
)

#: Characters that spreadsheets and word processors write for a minus sign.
_MINUS = str.maketrans(dict.fromkeys("\u2212\u2010\u2011\u2012\u2013\ufe63\uff0d", "-"))
_DECIMAL_COMMA = re.compile(r"[+-]?\d*,\d+(?:[eE][+-]?\d+)?", re.ASCII)
_THOUSANDS = re.compile(r"[+-]?\d{1,3}([, '\u00a0\u202f\u2009.]\d{3})+([.,]\d+)?")
_WITH_UNIT = re.compile(
    r"[+-]?\d+([.,]\d+)?\s*(dB|°|deg|degrees|%|m3/m3|m³/m³|kg/m2|mm|cm|in)", re.I
)
#: A trace of rain as observers write it, or a value below the limit of an instrument.
_TRACE = re.compile(r"(\d+([.,]\d+)?\s*)?(T|trace)|<\s*\d+([.,]\d+)?", re.I)
_NO_NUMBER = "is not a number; leave the cell empty where it is missing"


@dataclass(frozen=True)
class Names:
    """values: (R,) names in canonical form.  note: on names that were spelt otherwise, or ""."""

    values: NDArray[np.str_]
    note: str


@dataclass(frozen=True)
class WithoutOutliers:
    """values: (R,) NaN at outliers too.  note: on the outliers, or ""."""

    values: NDArray[np.float64]
    note: str


@dataclass(frozen=True)
class CellParser:
    """Parser of a table's columns; errors name the first invalid row.

    row_number: (R,) row in the file of each row.  decimal_commas: the file is separated by
    something else and writes -15,5.
    """

    source: str
    row_number: NDArray[np.int64]
    decimal_commas: bool = False

    def first(
        self,
        bad: NDArray[np.bool_],
        column: str,
        cells: Sequence[Any] | NDArray[Any],
        why: str | Callable[[int], str],
    ) -> None:
        """Raise DataError for the first row of ``bad``, with the number of other rows."""
        where = np.flatnonzero(bad)
        if not len(where):
            return
        at = int(where[0])
        reason = why if isinstance(why, str) else why(at)
        others = f" (and {len(where) - 1} more rows)" if len(where) > 1 else ""
        cell = shorten(cells[at])
        place = f"{self.source}: row {int(self.row_number[at])}, column {shorten(column)}"
        raise DataError(f"{place}: {cell}{' ' if cell else ''}{reason}{others}")

    def numbers(self, name: str, cells: Any, rule: Rule | None) -> NDArray[np.float64]:
        """Parse a column to float64; refuse text, infinities, nodata and values out of range.

        cells: an array of numbers, :class:`TextColumn`, or any column in memory.
        """
        column = column_of(cells)
        values = self._finite(name, column)
        if rule is None:
            self.first(is_fill(values), name, column, f"is no measurement; {FILL_CAUSE}")
            return values
        self.first(
            rule.outside(values),
            name,
            column,
            lambda at: f"is not {rule.what}; {rule.why(values[at])}",
        )
        return values

    def numbers_with_outliers(self, name: str, cells: Any, rule: Rule) -> NDArray[np.float64]:
        """Parse a column as :meth:`numbers`; a single physical outlier becomes infinite.

        Every engine flags an infinite input ``input_out_of_range``, and no mean or past contains
        it. DataError for fill values, for values of another unit, and where more than half of the
        cells with a value are outside the range.
        """
        column = column_of(cells)
        values = self._finite(name, column)
        outlier, outside = rule.is_outlier(values), rule.outside(values)
        most = 2 * np.count_nonzero(outside) > np.count_nonzero(~np.isnan(values))
        refused = outside if most else outside & ~outlier
        self.first(refused, name, column, lambda at: f"is not {rule.what}; {rule.why(values[at])}")
        return np.where(outlier, np.inf, values)

    def numbers_without_outliers(self, name: str, cells: Any, rule: Rule) -> WithoutOutliers:
        """Parse a column as :meth:`numbers`; a single physical outlier is left empty, and noted."""
        values = self.numbers_with_outliers(name, cells, rule)
        outlier = np.isinf(values)
        note = self.outlier_note(name, cells, rule, outlier, "left empty")
        return WithoutOutliers(np.where(outlier, np.nan, values), note)

    def outlier_note(
        self, name: str, cells: Any, rule: Rule, outlier: NDArray[np.bool_], becomes: str
    ) -> str:
        """Describe the single outliers (R,) of a column, and what becomes of them; "" for none."""
        if not outlier.any():
            return ""
        at, count = int(np.argmax(outlier)), int(outlier.sum())
        whose = "this row is" if count == 1 else f"{count} such rows are"
        return (
            f"{self.source}: row {int(self.row_number[at])}, column {shorten(name)}: "
            f"{shorten(column_of(cells)[at])} is not {rule.what}; {whose} {becomes}"
        )

    def numbers_or_missing(self, cells: Any, rule: Rule | None) -> NDArray[np.float64]:
        """Parse a column that the model does not read; a cell without a possible value is NaN."""
        column = column_of(cells)
        if isinstance(column, TextColumn):
            values = self._parsed("", column, refuse=False)
        else:
            values = np.asarray(column, np.float64)
        outside = is_fill(values) if rule is None else rule.outside(values)
        return np.where(np.isfinite(values) & ~outside, values, np.nan)

    def _finite(self, name: str, column: Any) -> NDArray[np.float64]:
        """Parse a column of cells or numbers; DataError for text and infinities."""
        if isinstance(column, TextColumn):
            values = self._parsed(name, column)
        else:
            values = np.asarray(column, np.float64)
        self.first(
            np.isinf(values), name, column, "is infinite; leave the cell empty where missing"
        )
        return values

    def dates(self, cells: Any, name: str = "date") -> NDArray[np.datetime64]:
        """Parse ISO 8601 dates to UTC seconds, (R,)."""
        texts = texts_of(cells)
        known: dict[str, int | None] = {}
        found = np.zeros(len(texts), np.int64)
        bad, left = np.zeros(len(texts), bool), np.ones(len(texts), np.uint8)
        if (core := text_core()) is not None:
            core.text_dates(*texts.packed, found, left)
        rows = np.flatnonzero(left)
        for i, text in zip(rows.tolist(), texts.take(rows), strict=True):
            if text not in known:
                if len(known) > 100_000:  # of a file of as many different times
                    known.clear()
                known[text] = utc_seconds(text)
            seconds = known[text]
            bad[i] = seconds is None
            found[i] = seconds or 0
        self.first(bad, name, texts, lambda at: why_no_date(texts[at]))
        return found.astype("datetime64[s]")

    def names(self, cells: Any, name: str = "site") -> Names:
        """Return the names in canonical form; refuse empty and very long ones."""
        written = texts_of(cells, f"{self.source}: column {shorten(name)}")
        texts = written.changed(lambda cell: canonical_id(cell, self.decimal_commas))
        lengths = texts.lengths()
        self.first(lengths == 0, name, texts, f"empty; every row needs its {name}")
        self.first(
            lengths > 4 * NAME_LENGTH,
            name,
            texts,
            f"is not a name: it has more than {NAME_LENGTH} characters; an unclosed quote?",
        )
        note = spelling_note(f"{self.source}: column {shorten(name)}", written, texts)
        return Names(texts.names(), note)

    def _parsed(self, name: str, cells: TextColumn, refuse: bool = True) -> NDArray[np.float64]:
        if not self.decimal_commas and (core := text_core()) is not None:
            return self._parsed_fast(core, name, cells, refuse)
        values = np.empty(len(cells), np.float64)
        start = 0
        for block in cells.blocks():
            for i, cell in enumerate(block, start):
                values[i] = np.nan if cell in MISSING else self._number(cell)
            start += len(block)
        if not refuse:
            return values
        bad = np.isnan(values) & _neither(cells, values)
        self.first(bad, name, cells, lambda at: self._why_not(cells[at]))
        return values

    def _parsed_fast(
        self, core: Any, name: str, cells: TextColumn, refuse: bool
    ) -> NDArray[np.float64]:
        """Parse as :meth:`_parsed`: plain numbers in C, irregular cells in Python."""
        values, irregular = np.empty(len(cells), np.float64), np.empty(len(cells), np.uint8)
        core.text_floats(*cells.packed, values, irregular)
        at = np.flatnonzero(irregular)
        if not len(at):
            return values
        texts = cells.take(at)
        codes = texts.codes()
        first = np.full(int(codes.max()) + 1, len(at), np.int64)
        np.minimum.at(first, codes, np.arange(len(at)))
        distinct = list(texts.take(first))
        made = np.asarray([np.nan if c in MISSING else self._number(c) for c in distinct])
        refused = np.asarray([c.lower() not in _MISSING for c in distinct]) & np.isnan(made)
        values[at] = made[codes]
        if not refuse:
            return values
        bad = np.zeros(len(cells), bool)
        bad[at] = refused[codes]
        self.first(bad, name, cells, lambda i: self._why_not(cells[i]))
        return values

    def _number(self, cell: str) -> float:
        """Parse a cell; NaN for other text, which :func:`_neither` finds."""
        return _float(self._plain(cell))

    def _plain(self, cell: str) -> str:
        cell = cell if cell.isascii() else cell.translate(_MINUS)
        if not self.decimal_commas or ("." not in cell and "," not in cell):
            return cell
        if "." in cell:  # thousands, or a decimal point among decimal commas: ambiguous
            return "?"
        return cell.replace(",", ".") if _DECIMAL_COMMA.fullmatch(cell) else "?"

    def _why_not(self, cell: str) -> str:
        plain = cell.translate(_MINUS)
        if self.decimal_commas and "." in plain:
            return "has a point in a file of decimal commas: write all numbers one way"
        comma, thousands = _DECIMAL_COMMA.fullmatch(plain), _THOUSANDS.fullmatch(plain)
        if comma:
            other = ", or a thousands separator" if thousands else ""
            return f"is not a number; a decimal comma{other}? write a point"
        if thousands:
            return "is not a number; a thousands separator? write the digits alone"
        if _TRACE.fullmatch(plain):
            return "is not a number; write 0 for a trace of rain, and leave any other cell empty"
        if _WITH_UNIT.fullmatch(plain):
            return "is not a number; write it without its unit"
        if plain.startswith("#"):
            return "is not a number but a spreadsheet's error; leave the cell empty"
        if "_" in plain or plain.startswith("'"):
            return "is not a number; write digits, a point and a minus sign alone"
        return _NO_NUMBER


def _float(cell: str) -> float:
    """Parse a number as people write one: not Python's 1_5, and not the word infinity alone."""
    if "_" in cell:
        return np.nan
    try:
        return float(cell)
    except ValueError:
        return np.nan


def _neither(cells: TextColumn, values: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return (R,) cells without a number that are not written as missing ones."""
    neither = np.zeros(len(cells), bool)
    start = 0
    for block in cells.blocks():
        some = values[start : start + len(block)]
        if np.isnan(some).any():
            neither[start : start + len(block)] = [
                number != number and cell.lower() not in _MISSING
                for cell, number in zip(block, some.tolist(), strict=True)
            ]
        start += len(block)
    return neither


_MISSING = frozenset(("+nan", "-nan", *(word.lower() for word in MISSING)))
