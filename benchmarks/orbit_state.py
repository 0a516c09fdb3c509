"""Compare one state per relative orbit with one state after normalising the incidence angle.

    python benchmarks/orbit_state.py mni2017.csv

The table has VH of places from several relative orbits (site, date, orbit, vh_db, angle_deg). The
index of two looks less than 2.5 days apart should differ little. Its jitter is the root mean square
difference of such looks divided by the square root of two; the ratio to the standard deviation of
the index says how much of the index is the viewing geometry and speckle.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.model.index import wetness_of
from kgsm_infer.tables.table import Table, read_table

APART_DAYS, REFERENCE_DEG = 2.5, 40.0


def jitter(table: Table, index: NDArray[np.float64]) -> float:
    """Return root mean square difference of close looks of a site, over the square root of two."""
    squares = []
    for site in np.unique(table.site):
        rows = np.flatnonzero((table.site == site) & np.isfinite(index))
        rows = rows[np.argsort(table.day[rows])]
        close = np.diff(table.day[rows]) < APART_DAYS
        squares += (np.diff(index[rows])[close] ** 2).tolist()
    return float(np.sqrt(np.mean(squares) / 2))


def main(path: str) -> None:
    table = read_table(path, reads=())  # a VH that cannot be (-90 dB) is missing
    cos = np.cos(np.deg2rad(table.numbers["angle_deg"]))
    reference = np.cos(np.deg2rad(REFERENCE_DEG))
    merged = {name: cells for name, cells in table.text.items() if name != "orbit"}
    trials = {"one state per relative orbit": table}
    for power in (0, 1, 2, 3):
        vh_db = table.numbers["vh_db"] + 10 * power * np.log10(reference / cos)
        numbers = {"vh_db": vh_db}
        trials[f"one state, VH normalised by cos**{power}"] = replace(
            table, numbers=numbers, text=merged
        )
    print("| state | jitter | standard deviation | ratio |\n| --- | --- | --- | --- |")
    for name, one in trials.items():
        index = wetness_of(one).sm.astype(np.float64)
        sd = float(np.nanstd(index))
        print(f"| {name} | {jitter(one, index):.3f} | {sd:.3f} | {jitter(one, index) / sd:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1])
