"""Damaged tables by the thousand: each is read right, or refused in one line.

    python tests/damaged_tables.py 10000 [--seed 0]

What "read right" means comes from an independent reading: Python's csv module and float, cell
by cell. Exit 1, with the seed of the damaged file, where anything but a KgsmError ends a
reading, where its message has more than one line, or where a number is another one.
"""

from __future__ import annotations

import argparse
import csv
import io
import math
import random
import sys
import tempfile
from pathlib import Path

from kgsm_infer.base.errors import KgsmError
from kgsm_infer.tables.table import Table, read_table

COLUMNS = ("vh_db", "angle_deg", "ndvi", "sm", "clay")
ODD = (
    *("-9999", "-99", "1e20", "3.4e38", "0", "inf", "-inf", "nan", "NA", "1e400", "0x1p3", "1_5"),
    *("\u221217.5", "-17,5", "1,234", '"', '""', "'", ";", "\t", "\0", "\x1b[31m", "=1+1", ","),
    *("\n", "\r", "\r\n", "\ufeff", "\u202e", "\u0664\u0662", "2022-06-10", "20220610", "1.65E+12"),
    *("0001-01-01T00:00+10:00", "9999-12-31T23:59-14:00", "24:00", "sep=;", "#N/A", "true"),
    *("x" * 3000, "9" * 400, "\u00fc", "\U0001f33e", "site", "date", "vh_db", "-17.0 dB"),
)
BYTES = (b"\xff", b"\xfe\xff", b"\xff\xfe", b"\x80", b"\xc3", b"PK\x03\x04", b"\x1f\x8b", b"PAR1")


def good_table(rng: random.Random) -> str:
    """A table of some rows that reads without a word."""
    rows = ["site,date," + ",".join(COLUMNS)]
    for at in range(rng.randint(1, 12)):
        cells = [f"s{at % 4}", f"2022-{1 + at % 12:02d}-{1 + at:02d}T05:30:{at:02d}Z"]
        cells += [f"{rng.uniform(-25, -8):.3f}", f"{rng.uniform(30, 45):.2f}"]
        cells += [f"{rng.uniform(0, 0.9):.3f}", f"{rng.uniform(0, 0.5):.3f}", f"{rng.random():.2f}"]
        rows.append(",".join("" if rng.random() < 0.05 else cell for cell in cells))
    return "\n".join(rows) + "\n"


def damaged(seed: int) -> bytes:
    """The damaged table of a seed."""
    rng = random.Random(seed)
    raw = bytearray(good_table(rng).encode())
    for _ in range(rng.choice((1, 1, 1, 2, 3, 6))):
        at, kind = rng.randrange(len(raw) + 1), rng.choice((0, 0, 1, 2, 3, 4, 5, 5, 5, 5, 5, 6, 7))
        if kind == 0:
            raw[at:at] = rng.choice(ODD).encode()
        elif kind == 1:
            raw[at:at] = rng.choice(BYTES)
        elif kind == 2:
            del raw[at : at + rng.randint(1, 20)]
        elif kind == 3:
            raw[at : at + 1] = bytes([rng.randrange(256)])
        elif kind == 4:
            del raw[at:]
        else:
            raw = _one_cell(raw, rng) if kind < 7 else _one_line(raw, rng)
    return bytes(raw)


def _one_cell(raw: bytearray, rng: random.Random) -> bytearray:
    lines = raw.split(b"\n")
    cells = lines[(at := rng.randrange(len(lines)))].split(b",")
    cells[rng.randrange(len(cells))] = rng.choice(ODD).encode()
    lines[at] = b",".join(cells)
    return bytearray(b"\n").join(lines)


def _one_line(raw: bytearray, rng: random.Random) -> bytearray:
    lines = raw.split(b"\n")
    at = rng.randrange(len(lines))
    lines.insert(rng.randrange(len(lines) + 1), lines[at])
    if rng.random() < 0.5:
        lines.pop(rng.randrange(len(lines)))
    return bytearray(b"\n").join(lines)


def fault(path: Path, raw: bytes) -> str:
    """What is wrong with how a file is read; '' where nothing is."""
    path.write_bytes(raw)
    try:
        table = read_table(path, features=["clay"], once=False)
    except KgsmError as error:
        text = str(error)
        return "" if text.isprintable() and len(text) < 2000 else f"says {text[:200]!r}"
    except Exception as error:  # noqa: BLE001  that is what is looked for
        return f"{type(error).__name__}: {error}"
    return _other_number(table, raw)


def _other_number(table: Table, raw: bytes) -> str:
    """The first number that an independent reading has otherwise."""
    encoding = "utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = raw.decode(encoding)
    if text.lstrip("\ufeff").lower().startswith(("sep=", '"sep=')) or table.notes:
        return ""  # another separator: not this reader's business
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(c.strip() for c in row)]
    if any("\t" in cell or ";" in cell for cell in rows[0]):
        return ""
    header = [cell.strip() for cell in rows[0]]
    if len(rows) - 1 != len(table):
        return f"{len(table)} rows of {len(rows) - 1}"
    for name in COLUMNS:
        if name not in header:
            continue
        at = header.index(name)
        for row, value in zip(rows[1:], table.numbers[name].tolist(), strict=True):
            expected = _number(row[at])
            if not (value == expected or (math.isnan(value) and math.isnan(expected))):
                return f"{name}: {row[at][:40]!r} read as {value}"
    return ""


def _number(cell: str) -> float:
    cell = cell.strip().removeprefix("'").replace("\u2212", "-")
    try:
        return float(cell)
    except ValueError:
        return math.nan  # only what stands for missing may be read at all


def main() -> int:
    """Read so many damaged tables; the number of faults becomes the exit code."""
    parser = argparse.ArgumentParser(description="damaged tables are read right or refused")
    parser.add_argument("count", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    faults = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.csv"
        for seed in range(options.seed, options.seed + options.count):
            if what := fault(path, damaged(seed)):
                faults += 1
                print(f"seed {seed}: {what}", file=sys.stderr)
    print(f"{options.count} damaged tables, {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
