"""The generator of damaged tables finds what it looks for, and nothing in the reader."""

from __future__ import annotations

import math

import damaged_tables
import numpy as np

from kgsm_infer.tables.table import Table


def test_damaged_tables_are_read_right_or_refused(tmp_path):
    path = tmp_path / "t.csv"
    faults = {seed: damaged_tables.fault(path, damaged_tables.damaged(seed)) for seed in range(600)}
    assert not {seed: what for seed, what in faults.items() if what}


def test_another_number_a_traceback_and_a_long_line_are_found(tmp_path, monkeypatch):
    path = tmp_path / "t.csv"
    raw = b"site,date,vh_db,clay\na,2022-06-10,-17.5,0.2\n"
    assert damaged_tables.fault(path, raw) == ""
    read = damaged_tables.read_table

    def other(*args, **options) -> Table:
        table = read(*args, **options)
        table.numbers["vh_db"][0] += 0.25
        return table

    monkeypatch.setattr(damaged_tables, "read_table", other)
    assert damaged_tables.fault(path, raw) == "vh_db: '-17.5' read as -17.25"

    def broken(*args, **options) -> Table:
        raise ValueError("x")

    monkeypatch.setattr(damaged_tables, "read_table", broken)
    assert damaged_tables.fault(path, raw) == "ValueError: x"


def test_damage_is_the_same_for_a_seed_and_varied():
    made = [damaged_tables.damaged(seed) for seed in range(50)]
    assert made == [damaged_tables.damaged(seed) for seed in range(50)]
    assert len(set(made)) == 50
    assert math.isfinite(float(np.mean([len(raw) for raw in made])))
