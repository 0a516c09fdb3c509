"""The C path for plain CSV gives what the path in Python gives: columns, messages, bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from kgsm_infer.base.errors import KgsmError
from kgsm_infer.kernels import text_core
from kgsm_infer.tables import parsing, plain_csv, reading, text_column
from kgsm_infer.tables.dates import utc_seconds
from kgsm_infer.tables.table import read_table
from kgsm_infer.tables.text_column import TextColumn

pytestmark = pytest.mark.skipif(text_core() is None, reason="compares the C core")

WORDS = (
    *(
        "",
        " ",
        "NA",
        "nan",
        "NaN",
        "-nan",
        "inf",
        "null",
        "a",
        "é",
        "\u00a0",
        "x\u00a0",
        "'=1",
        "'",
    ),
    *('"', '"a"', '"a,b"', '"a"b', '""', '" a "', "1,5", "1.5", "-17.25", "+3", ".5", "5.", "1e-3"),
    *("1e400", "1_5", "\u22125", "0x1f", "9" * 25, "17.12345678901234567", "-0", "2024-05-01"),
    *(
        "2024-02-30",
        "20240501",
        "2024-05-01T05:30:12Z",
        "2024-05-01 05:30",
        "1899-01-01",
        "\t1",
        "b\t",
    ),
)
CELLS = st.one_of(
    st.sampled_from(WORDS),
    st.floats(allow_nan=False).map(repr),
    st.floats(-40, 0).map(lambda value: f"{value:.4f}"),
    st.text(st.sampled_from("ab1.-+eE \"',;\t\r\n\u00a0é"), max_size=6),
)


@contextmanager
def python_path() -> Iterator[None]:
    """Switch the C kernels for text off."""
    with (
        patch.object(plain_csv, "text_core", lambda: None),
        patch.object(parsing, "text_core", lambda: None),
        patch.object(text_column, "text_core", lambda: None),
    ):
        yield


def content(path: Path) -> object:
    """The table of a file, or the message that refuses it."""
    try:
        table = read_table(path, features=["clay"], keep="empty")
    except KgsmError as error:
        return type(error).__name__, str(error)
    return (
        table.site.tolist(), list(table.date_text), table.date.tolist(), table.row_number.tolist(),
        {name: values.tobytes() for name, values in table.numbers.items()},
        {name: list(cells) for name, cells in table.text.items()}, table.notes,
    )  # fmt: skip


def assert_same_content(path: Path) -> None:
    fast = content(path)
    with python_path():
        assert content(path) == fast


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_any_file_is_read_or_refused_alike(tmp_path_factory, data: st.DataObject) -> None:
    separator = data.draw(st.sampled_from([",", ",", ";", "\t"]))
    newline = data.draw(st.sampled_from(["\n", "\n", "\r\n"]))
    rows = data.draw(st.integers(0, 5))
    dates = st.one_of(st.sampled_from(["2024-05-01", "2024-05-13T05:30:12Z"]), CELLS)
    sites = st.one_of(st.sampled_from(["a", "b", '"c"']), CELLS)
    lines = ["site,date,vh_db,clay,crop".replace(",", separator)]
    for _ in range(rows):
        row = [data.draw(sites), data.draw(dates), *(data.draw(CELLS) for _ in range(3))]
        lines.append(separator.join(row[: data.draw(st.sampled_from([5, 5, 5, 5, 4]))]))
    text = newline.join(lines) + data.draw(st.sampled_from(["", newline, newline * 2]))
    path = tmp_path_factory.mktemp("t") / "t.csv"
    path.write_bytes(data.draw(st.sampled_from([b"", b"\xef\xbb\xbf"])) + text.encode())
    assert_same_content(path)


@pytest.mark.parametrize("block", [40, 100, 1 << 22])
def test_blocks_of_any_size_give_the_same_table(tmp_path, monkeypatch, block: int) -> None:
    monkeypatch.setattr(plain_csv, "BLOCK_BYTES", block)
    lines = [f"s{at % 3},2024-05-{at + 1:02},{-10 - at / 7!r},{at},é{at}" for at in range(20)]
    path = tmp_path / "t.csv"
    path.write_text("site,date,vh_db,clay,crop\n" + "\n".join(lines), encoding="utf-8")
    assert_same_content(path)
    table = read_table(path, features=["clay"])
    assert len(table) == 20 and table.text["crop"][19] == "é19" and table.row(19) == 21


def test_plain_files_take_the_fast_path(tmp_path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('"site","date","vh_db"\n"north, 1",2024-05-01,-15.5\nb,2024-05-02,NA\n')
    with patch.object(reading, "_read_csv") as slow:
        table = read_table(path)
    assert not slow.called and table.site.tolist() == ["north, 1", "b"]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.floats().map(repr), CELLS), min_size=1, max_size=30))
def test_numbers_have_the_bits_of_float(texts: list[str]) -> None:
    cells = TextColumn.of(texts)
    values, irregular = np.empty(len(cells)), np.empty(len(cells), np.uint8)
    text_core().text_floats(*cells.packed, values, irregular)
    for cell, value, unknown in zip(cells, values, irregular, strict=True):
        if not unknown and cell:
            assert value.tobytes() == np.float64(float(cell)).tobytes()
        assert unknown or cell or np.isnan(value)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.one_of(st.datetimes().map(lambda d: d.isoformat()), CELLS), max_size=30))
def test_dates_are_those_of_the_parser(texts: list[str]) -> None:
    cells = TextColumn.of(texts)
    seconds, irregular = np.empty(len(cells), np.int64), np.empty(len(cells), np.uint8)
    text_core().text_dates(*cells.packed, seconds, irregular)
    for cell, value, unknown in zip(cells, seconds, irregular, strict=True):
        assert unknown or value == utc_seconds(cell)


def float_texts(values: NDArray[np.float32]) -> tuple[list[str], NDArray[np.uint8]]:
    core, n = text_core(), len(values)
    buffer, ends = np.empty(n * core.FLOAT_TEXT, np.uint8), np.empty(n, np.int64)
    irregular = np.empty(n, np.uint8)
    core.float_text(values, buffer, ends, irregular)
    return list(TextColumn(buffer[: ends[-1]].tobytes(), ends)), irregular


def test_floats_get_the_text_of_numpy() -> None:
    rng = np.random.default_rng(0)
    parts = [
        rng.uniform(0, 1, 50_000), rng.normal(-12, 5, 50_000), rng.uniform(-1e6, 1e6, 20_000),
        np.round(rng.uniform(-20, 1, 20_000), 3), 10 ** rng.uniform(-6, 8, 20_000),
        rng.integers(-(2**31), 2**31, 50_000).astype(np.int32).view(np.float32),
        [0.0, -0.0, np.nan, np.inf, 1, 10, 0.1, 0.01, 1e-3, 2e-4, 1e6, 999999.94, 0.99999994],
    ]  # fmt: skip
    values = np.concatenate([np.asarray(part, np.float32) for part in parts])
    texts, irregular = float_texts(values)
    expected = np.where(np.isnan(values), "", values.astype(np.str_)).tolist()
    wrong = [
        (t, e) for t, e, no in zip(texts, expected, irregular, strict=True) if not no and t != e
    ]
    assert not wrong
    assert irregular[:100_000].mean() < 0.001


COLUMNS = st.one_of(
    st.lists(st.floats(width=32), min_size=4, max_size=4).map(lambda v: np.asarray(v, np.float32)),
    st.lists(st.floats(), min_size=4, max_size=4).map(lambda v: np.asarray(v, np.float64)),
    st.lists(st.integers(-99, 99), min_size=4, max_size=4).map(np.asarray),
    st.lists(CELLS, min_size=4, max_size=4).map(lambda v: np.asarray(v, np.str_)),
    st.lists(CELLS, min_size=4, max_size=4).map(TextColumn.of),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(COLUMNS, min_size=1, max_size=4))
def test_any_columns_are_written_to_the_same_bytes(tmp_path_factory, columns) -> None:
    folder = tmp_path_factory.mktemp("w")
    named = {f"c{at}": column for at, column in enumerate(columns)}
    reading.write_csv(folder / "fast.csv", named)
    with python_path():
        reading.write_csv(folder / "slow.csv", named)
    assert (folder / "fast.csv").read_bytes() == (folder / "slow.csv").read_bytes()


def test_a_header_of_many_columns_is_read_in_linear_time(tmp_path) -> None:
    """100,000 names; comparing each with each would take minutes."""
    names = ",".join(f"c{at}" for at in range(100_000))
    path = tmp_path / "wide.csv"
    path.write_text(f"site,date,{names}\na,2024-05-01,{',' * 99_999}\n")
    assert len(reading.read_sheet(path).columns) == 100_002
