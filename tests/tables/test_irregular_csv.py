"""Lines that are not plain fall back alone; the result is that of the slow path."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from kgsm_infer.base.errors import DataError
from kgsm_infer.kernels import text_core
from kgsm_infer.tables import plain_csv, reading

pytestmark = pytest.mark.skipif(text_core() is None, reason="the C core")

PLAIN = ("a", "f 7", "-12.5", "", "2024-03-04", "0.25", "caf\u00e9", '"b"', '"x y"')
ODD = (
    '"say ""so"""', '"two\nlines"', '"two\r\nlines"', "'=1+1", "\u00a0c", "1,5", '"1,5"', 'a"b',
    '"open', '"a"b', "\t", "\x0b", '"one\ntwo\nthree"',
)  # fmt: skip
LINES = ("\n", "\r\n", "", " \n", ",,\n", ";;\n", "a,b\n", "a;b\n", "a,b,c,d\n", "a;b;c;;\n")


def _text(chance: random.Random) -> str:
    separator = chance.choice(",,;\t")
    ends = chance.choice(("\n", "\n", "\r\n"))
    out = [chance.choice(("", "\ufeff", "\n", "sep=;\n" if separator == ";" else ""))]
    out.append(separator.join(("site", "date", "vh_db")) + ends)
    odd = chance.choice((0.0, 0.02, 0.1))
    for _ in range(chance.randrange(60)):
        cells = [chance.choice(ODD if chance.random() < odd else PLAIN) for _ in range(3)]
        out.append(separator.join(cells) + ends)
        if chance.random() < odd / 2:
            out.append(chance.choice(LINES))
    return "".join(out).rstrip("\n") if chance.random() < 0.3 else "".join(out)


def _outcome(path: Path) -> Any:
    try:
        sheet = reading.read_sheet(path)
    except DataError as error:
        return str(error)
    columns = {name: list(column) for name, column in sheet.columns.items()}
    return columns, sheet.row_number.tolist(), sheet.decimal_commas


def test_any_file_is_read_as_by_the_slow_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_csv, "BLOCK_BYTES", 300)
    monkeypatch.setattr(plain_csv, "PIECE_BYTES", 60)
    fast, path, partly = reading.read_plain, tmp_path / "t.csv", 0
    plain = plain_csv._Blocks._add_records

    def counting(self: Any, block: bytes) -> bool:
        nonlocal partly
        partly += 1
        return plain(self, block)

    monkeypatch.setattr(plain_csv._Blocks, "_add_records", counting)
    for seed in range(600):
        path.write_bytes(_text(random.Random(seed)).encode())
        found = _outcome(path)
        monkeypatch.setattr(reading, "read_plain", lambda *_: None)
        assert found == _outcome(path), f"seed {seed}"
        monkeypatch.setattr(reading, "read_plain", fast)
    assert partly > 300


def test_one_quote_costs_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 2 MB, at most 64 KB around the quote are read in Python."""
    line = "f1,2024-03-04,-16.25\n"
    lines = [line] * 100_000
    lines[70_000] = '"say ""so""",2024-03-04,-16.25\n'
    path, seen = tmp_path / "t.csv", []
    path.write_text("site,date,vh_db\n" + "".join(lines))
    plain = reading._records_of

    def counting(source: str, header: Any, text: str, number: int) -> Any:
        seen.append((len(text), number))
        return plain(source, header, text, number)

    monkeypatch.setattr(reading, "_records_of", counting)
    sheet = reading.read_sheet(path)
    assert len(sheet) == 100_000 and sheet.columns["site"][70_000] == 'say "so"'
    ((size, number),) = seen
    assert size <= plain_csv.PIECE_BYTES and 2 < number <= 70_002
