"""Text columns packed in one buffer of UTF-8, about the size of the file.

A list of Python strings needs five times a file's size, and a NumPy array of strings the bytes of
the longest cell for every row: one cell of 130 kB among 20,000 rows needs 10 GB.
"""

from __future__ import annotations

import operator
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from itertools import pairwise
from typing import Any, overload

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..base.errors import DataError
from ..kernels import text_core

#: Longest name, word or date, characters.
NAME_LENGTH = 100
BLOCK = 4096


class TextColumn(Sequence[str]):
    """R cells of text, stripped of blanks around them.

    buffer: all cells in UTF-8.  ends: (R,) where each ends in it.  label: file and column,
    for messages. It compares equal to any sequence of the same strings.
    """

    def __init__(self, buffer: bytes, ends: NDArray[np.int64], label: str = "") -> None:
        self._buffer, self._ends, self.label = buffer, np.ascontiguousarray(ends), label

    @classmethod
    def of(cls, texts: Iterable[str], label: str = "") -> TextColumn:
        """Return TextColumn of any strings.

        >>> cells = TextColumn.of(["a", " b "])
        >>> list(cells), cells == ("a", "b"), cells[-1]
        (['a', 'b'], True, 'b')
        """
        packing = TextColumnBuilder()
        packing.add([text.strip() for text in texts])
        return packing.done(label)

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> TextColumn: ...
    def __getitem__(self, at: int | slice) -> str | TextColumn:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                return self.take(np.arange(len(self))[at])
            low = int(self._ends[start - 1]) if start else 0
            ends = self._ends[start : max(stop, start)] - low
            high = int(ends[-1]) if len(ends) else 0
            return TextColumn(self._buffer[low : low + high], ends, self.label)
        i = operator.index(at)
        i += len(self) if i < 0 else 0
        if not 0 <= i < len(self):
            raise IndexError(f"cell {at} of {len(self)}")
        start = int(self._ends[i - 1]) if i else 0
        return _text(self._buffer[start : int(self._ends[i])])

    def __iter__(self) -> Iterator[str]:
        for block in self.blocks():
            yield from block

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        first = ", ".join(repr(self[i]) for i in range(min(3, len(self))))
        return f"TextColumn({first}{', ...' if len(self) > 3 else ''})"

    def blocks(self) -> Iterator[list[str]]:
        """Yield the cells in order, some thousand at a time."""
        for start in range(0, len(self), BLOCK):
            ends = self._ends[start : start + BLOCK]
            low = int(self._ends[start - 1]) if start else 0
            raw = self._buffer[low : int(ends[-1])]
            if raw.isascii():
                text, places = raw.decode("ascii"), [0, *(ends - low).tolist()]
                yield [text[a:b] for a, b in pairwise(places)]
            else:
                places = [0, *(ends - low).tolist()]
                yield [_text(raw[a:b]) for a, b in pairwise(places)]

    def take(self, index: NDArray[np.int64]) -> TextColumn:
        """Return the cells of ``index`` (N,), not below 0, in its order."""
        index = np.asarray(index, np.int64)
        lengths = self.lengths()[index]
        ends = np.cumsum(lengths)
        shift = self._ends[index] - ends  # from a place in the result to one in the buffer
        at = np.arange(int(ends[-1]) if len(ends) else 0) + np.repeat(shift, lengths)
        return TextColumn(np.frombuffer(self._buffer, np.uint8)[at].tobytes(), ends, self.label)

    def replaced(self, at: NDArray[np.int64], texts: Sequence[str]) -> TextColumn:
        """Return the column with other cells at the rows ``at``, ascending."""
        index = np.arange(len(self))
        index[at] = len(self) + np.arange(len(at))
        other = TextColumn.of(texts)
        both = TextColumn(
            self._buffer + other._buffer,
            np.concatenate([self._ends, other._ends + len(self._buffer)]),
            self.label,
        )
        return both.take(index)

    @property
    def packed(self) -> tuple[bytes, NDArray[np.int64]]:
        """The buffer and the ends, as the kernels take them."""
        return self._buffer, self._ends

    @classmethod
    def of_array(cls, values: NDArray[np.str_], label: str = "") -> TextColumn:
        """Pack an array of strings (R,) as they are.

        >>> list(TextColumn.of_array(np.asarray(["a", "", "bcd"])))
        ['a', '', 'bcd']
        """
        wide = np.ascontiguousarray(values).view(np.uint32).reshape(len(values), -1)
        if wide.size and wide.max() > 127:
            packing = TextColumnBuilder()
            packing.add(values.tolist())
            return packing.done(label)
        filled = wide != 0
        if (filled[:, 1:] > filled[:, :-1]).any():  # a zero within the text
            filled = filled[:, ::-1].cumsum(axis=1)[:, ::-1] > 0
        lengths = np.count_nonzero(filled, axis=1)
        return cls(wide[filled].astype(np.uint8).tobytes(), np.cumsum(lengths), label)

    def codes(self) -> NDArray[np.int64]:
        """Number the distinct cells from 0, in order of first appearance, (R,)."""
        core, codes = text_core(), np.empty(len(self), np.int64)
        if core is None:
            known: dict[str, int] = {}
            return np.fromiter((known.setdefault(c, len(known)) for c in self), np.int64, len(self))
        table = np.empty(1 << (2 * len(self)).bit_length(), np.int64)
        core.text_codes(self._buffer, self._ends, table, codes)
        return codes

    def names(self) -> NDArray[np.str_]:
        """Return the cells as an array of strings, (R,)."""
        lengths = self.lengths()
        width = int(lengths.max(initial=0))
        if not self._buffer.isascii() or b"\0" in self._buffer or not width:
            return np.asarray(list(self), np.str_)
        wide = np.zeros((len(self), width), np.uint32)
        wide[np.arange(width) < lengths[:, None]] = np.frombuffer(self._buffer, np.uint8)
        return wide.view(f"U{width}").ravel()

    def changed(self, change: Callable[[str], str]) -> TextColumn:
        """Pass every cell through a function of text."""
        codes = self.codes()
        before = self.take(first_rows(codes))
        after = TextColumnBuilder()
        after.add([change(cell) for cell in before])
        distinct = after.done(self.label)
        return self if distinct == before else distinct.take(codes)

    def lengths(self) -> NDArray[np.int64]:
        """Return (R,) bytes of each cell."""
        return np.diff(self._ends, prepend=0)

    def __array__(self, dtype: DTypeLike | None = None, copy: bool | None = None) -> NDArray[Any]:
        """Return (R,) strings, for grouping. DataError where one of them is too long for a name."""
        self.check_lengths()
        return np.asarray(list(self), dtype or np.str_)

    def check_lengths(self) -> None:
        """Raise DataError where a cell is too long for a name."""
        long = np.flatnonzero(self.lengths() > 4 * NAME_LENGTH)
        if len(long):
            length = int(self.lengths()[long[0]])
            raise DataError(
                f"{self.label}: a cell of {length} bytes where a name or a word belongs "
                f"(at most {NAME_LENGTH} characters); an unclosed quote?"
            )


class TextColumnBuilder:
    """TextColumn on their way into a column, block by block."""

    def __init__(self) -> None:
        self._raw: list[bytes] = []
        self._lengths: list[NDArray[np.int32]] = []

    def add(self, texts: Sequence[str]) -> None:
        """Add more cells, stripped already."""
        joined = "".join(texts)
        raw = joined.encode("utf-8", "surrogatepass")
        one_each = len(raw) == len(joined)
        sizes = (len(t if one_each else t.encode("utf-8", "surrogatepass")) for t in texts)
        self._lengths.append(np.fromiter(sizes, np.int32, len(texts)))
        self._raw.append(raw)

    def done(self, label: str = "") -> TextColumn:
        """Return the column and release the parts."""
        lengths = np.concatenate(self._lengths) if self._lengths else np.zeros(0, np.int32)
        buffer = b"".join(self._raw)
        self._raw.clear()
        self._lengths.clear()
        return TextColumn(buffer, np.cumsum(lengths, dtype=np.int64), label)


def _of_rows(rows: Sequence[Mapping[Any, Any]]) -> dict[str, Any]:
    """Turn rows, a mapping each, into columns; a key that a row lacks is missing."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {_name(name): [row.get(name) for row in rows] for name in names}


def named_columns(columns: Any) -> dict[str, Any]:
    """Name -> values of a mapping or a data frame (pandas, polars, pyarrow, structured array).

    TypeError for another type, DataError for a duplicate name.
    """
    is_rows = isinstance(columns, (list, tuple)) and len(columns) > 0
    if is_rows and all(isinstance(row, Mapping) for row in columns):
        return _of_rows(columns)
    if hasattr(columns, "collect"):  # of polars: its columns are known only after the query
        raise TypeError(f"a {type(columns).__name__} has no rows yet; pass its collect()")
    if isinstance(columns, Mapping):
        return {_name(name): values for name, values in columns.items()}
    names = getattr(columns, "column_names", None)
    if names is None:
        names = getattr(columns, "columns", None)
    if names is None:
        names = getattr(getattr(columns, "dtype", None), "names", None)
    if names is None or hasattr(columns, "to_dataset"):
        raise TypeError(_not_columns(columns))
    labels = [_name(name) for name in names]
    for label, count in Counter(labels).items():
        if count > 1:
            raise DataError(f"table: column {label!r} is a duplicate")
    return {label: columns[name] for label, name in zip(labels, names, strict=True)}


def _not_columns(columns: Any) -> str:
    """Explain why an argument is not a table."""
    kind = f"{type(columns).__module__}.{type(columns).__name__}".removeprefix("builtins.")
    hint = ""
    if hasattr(columns, "to_dataset"):  # a DataArray
        hint = "; pass a Dataset whose variables are columns, such as to_dataset('band')"
    elif isinstance(columns, str | bytes | os.PathLike):
        hint = "; read a file with kgsm_infer.read_table(path)"
    elif isinstance(columns, list | tuple):
        hint = "; of rows, each must be a mapping from column to value"
    elif hasattr(columns, "to_frame"):
        hint = "; pass its to_frame() with named columns"
    return f"a mapping of columns, rows or a data frame is needed, not {kind}{hint}"


def column_of(values: Any, label: str = "") -> Any:
    """Return values in memory as a column: an array of numbers, or :class:`TextColumn`.

    Arrays, lists, masked arrays, and the columns of pandas (nullable types too), polars and
    pyarrow. None, NA, NaT and what a mask hides are empty cells; dates become ISO 8601.
    """
    if isinstance(values, TextColumn):
        return values
    if isinstance(values, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(values).tolist()
        return column_of(
            [None if h else v for h, v in zip(hidden, values.data, strict=True)], label
        )
    if hasattr(values, "to_pylist"):  # pyarrow
        values = values.to_pylist()
    array = np.asarray(values) if hasattr(values, "__array__") else None
    if array is not None:
        if array.ndim == 0:
            raise DataError(_not_a_column(array.item(), label))
        if array.ndim != 1:
            raise DataError(f"{label or 'a column'}: has {array.ndim} dimensions, not one")
        if array.dtype.kind in "fiu":
            return array
        if array.dtype.kind == "m":
            raise DataError(f"{label or 'a column'}: durations ({array.dtype}); divide by a unit")
        if array.dtype.kind == "M":
            distinct, code = np.unique(array, return_inverse=True)
            return TextColumn.of(_iso(distinct), label).take(code)
        values = array.tolist()
    if isinstance(values, str | bytes | Mapping | Set) or not isinstance(values, Iterable):
        raise DataError(_not_a_column(values, label))
    return _of_items([None if _is_missing(item) else item for item in values], label)


def _of_items(items: list[Any], label: str) -> Any:
    """Return numbers where every item is one or missing, else :class:`TextColumn`."""
    numbers = [item for item in items if item is not None and item != ""]
    if numbers and all(_is_number(item) for item in numbers):
        if len(numbers) == len(items) and all(isinstance(n, int | np.integer) for n in numbers):
            try:
                return np.asarray(items, np.int64)
            except OverflowError:
                pass
        return np.asarray([_as_float(item) for item in items], np.float64)
    if not numbers and all(item is None for item in items):
        return np.full(len(items), np.nan)
    return TextColumn.of((_written(item, label) for item in items), label)


def _not_a_column(values: Any, label: str) -> str:
    what = f"{label or 'a column'}: {shorten(repr(values), 40)} is"
    if isinstance(values, Mapping):
        return f"{what} a mapping; pass the values of each row in order, as a list or an array"
    if isinstance(values, Set):
        return f"{what} a set, which has no order; pass a list or an array"
    return f"{what} one value, not a column; repeat it for each row"


def decoded(value: bytes | bytearray | memoryview, label: str = "") -> str:
    """Return bytes as text, without the zeros of a fixed width.

    label: file and column, for the message. DataError where they are not UTF-8.

    >>> decoded(b"north\\0\\0")
    'north'
    """
    try:
        return bytes(value).rstrip(b"\0").decode("utf-8")
    except UnicodeDecodeError:
        place = f"{label}: " if label else ""
        raise DataError(
            f"{place}{shorten(bytes(value)[:40])} is not UTF-8 text; write the column as text"
        ) from None


def texts_of(column: Any, label: str = "") -> TextColumn:
    """Convert a column to text: whole numbers without a point, as ids and days are written.

    >>> list(texts_of(np.asarray([1.0, 20220610.0, np.nan])))
    ['1', '20220610', '']
    """
    if isinstance(column, TextColumn):
        return column
    if isinstance(column, np.ndarray) and column.dtype.kind in "fiu":
        return TextColumn.of(
            ("" if v != v else f"{int(v)}" if _is_whole(v) else repr(v) for v in column.tolist()),
            label,
        )
    made = column_of(column, label)
    return made if isinstance(made, TextColumn) else texts_of(made, label)


def first_rows(codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the first row of each code; codes (R,) are numbered from 0 without a gap.

    >>> first_rows(np.asarray([1, 0, 1, 2])).tolist()
    [1, 0, 3]
    """
    first = np.full(int(codes.max(initial=-1)) + 1, len(codes), np.int64)
    np.minimum.at(first, codes, np.arange(len(codes)))
    return first


def text_codes(values: Any) -> NDArray[np.int64]:
    """Number the distinct texts of a column of names from 0, (R,).

    values: :class:`TextColumn`, an array or a sequence of strings. DataError where a cell is
    too long for a name.

    >>> text_codes(["b", "a", "b"]).tolist()
    [0, 1, 0]
    """
    if isinstance(values, np.ndarray):
        values = TextColumn.of_array(values.astype(np.str_))
    elif not isinstance(values, TextColumn):
        packing = TextColumnBuilder()
        packing.add(list(values))
        values = packing.done()
    values.check_lengths()
    return np.asarray(values.codes(), np.int64)


def shorten(text: object, length: int = 60) -> str:
    """Return text for a message: one line, no control codes, shortened.

    >>> shorten("red \\x1b[31m\\n" + 80 * "x", 20)
    'red \\\\x1b[31m xxxx...'
    """
    words = " ".join(str(text)[: 4 * length].split())
    plain = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in words)
    return plain if len(plain) <= length else plain[: length - 3] + "..."


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogatepass")


def _iso(array: NDArray[Any]) -> list[str]:
    own = np.datetime_data(array.dtype)[0]
    unit = own if own in ("D", "M", "Y") else "s"  # a month or a year is not a day, and is refused
    text = np.datetime_as_string(array.astype(f"datetime64[{unit}]")).tolist()
    return ["" if cell == "NaT" else cell for cell in text]


def _is_missing(item: object) -> bool:
    """Return True for None, pandas' NA and NaT; a NaN stays a number."""
    return item is None or type(item).__name__ in ("NAType", "NaTType")


def _is_number(item: object) -> bool:
    if isinstance(item, bool | np.bool_):
        return False
    return isinstance(item, int | float | np.number) or type(item).__name__ == "Decimal"


def _as_float(item: Any) -> float:
    try:
        return np.nan if item is None or item == "" else float(item)
    except OverflowError:  # an integer no float reaches
        return np.inf if item > 0 else -np.inf
    except ValueError:  # a signalling NaN
        return np.nan


def _is_whole(value: float) -> bool:
    return isinstance(value, int) or (abs(value) < 2**53 and value == int(value))


def _name(name: Any) -> str:
    return decoded(name, "the name of a column") if isinstance(name, bytes) else str(name)


def _written(item: Any, label: str) -> str:
    if item is None:
        return ""
    if isinstance(item, bytes | bytearray | memoryview):
        return decoded(item, label)
    return str(item.isoformat()) if hasattr(item, "isoformat") else str(item)
