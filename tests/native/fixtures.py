"""Writes what tests/native/check.c reads: inputs, and what float64 or the twins make of them.

    python tests/native/fixtures.py FOLDER

A file holds arrays one after another: an int64 tag (4 float32, 2 uint16, 8 int64 or
float64), an int64 number of elements, and the elements; little-endian.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np

from kgsm_infer.kernels import fusion, lstm, wcm, window

TAGS = {np.dtype("<f4"): 4, np.dtype("<u2"): 2, np.dtype("<i8"): 8, np.dtype("<f8"): 8}


def write(path: Path, *arrays: np.ndarray) -> None:
    """The arrays of one case, in the order check.c reads them."""
    with open(path, "wb") as out:
        for array in arrays:
            array = np.ascontiguousarray(array)
            out.write(np.asarray([TAGS[array.dtype], array.size], "<i8").tobytes())
            out.write(array.tobytes())


def damaged(rng: np.random.Generator, values: np.ndarray) -> np.ndarray:
    """With NaN, infinities and huge numbers strewn in."""
    values = values.astype(np.float32)
    for bad in (np.nan, np.inf, -np.inf, 1e30, -1e30):
        values[rng.random(values.shape) < 0.02] = bad
    return values


def main(folder: Path) -> None:
    """Write every case. Lengths are no multiple of any vector, so tails are run too."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    n = 1003
    db = damaged(rng, rng.uniform(-60, 20, n))
    with np.errstate(all="ignore"):
        linear = (10 ** (db.astype(np.float64) / 10)).astype(np.float32)
        write(folder / "db_to_linear.bin", db, linear)
        power = damaged(rng, 10 ** rng.uniform(-6, 2, n))
        back = (10 * np.log10(power.astype(np.float64))).astype(np.float32)
        write(folder / "linear_to_db.bin", power, back)

    sigma0_db = damaged(rng, rng.uniform(-28, -8, n))
    ndvi = damaged(rng, rng.uniform(0, 0.95, n))
    angle_deg = damaged(rng, rng.uniform(20, 60, n))
    for rule in ("constant", "column", "normalise"):
        found = wcm.isolate(wcm.Wcm(a=0.02, angle_rule=rule), sigma0_db, ndvi, angle_deg)
        write(folder / f"isolate_{rule}.bin", sigma0_db, ndvi, angle_deg, *found)

    steps, fd, fs = 6, 3, 2
    layout = window.Layout(
        steps,
        fd,
        fs,
        tuple(rng.normal(0, 5, 1 + fd + fs + 1)),
        tuple(rng.uniform(0.5, 3, 1 + fd + fs + 1)),
    )
    rows = rng.integers(-1, n, (201, steps))
    flags = np.where(rng.random(n) < 0.1, 1, 0).astype(np.uint16)
    day = np.sort(rng.uniform(0, 900, n))
    dynamic = damaged(rng, rng.normal(0, 1, (n, fd)))
    statics = damaged(rng, rng.normal(0, 1, (201, fs)))
    channel_db = damaged(rng, rng.uniform(-25, -8, n))
    acquisitions = window.Acquisitions(channel_db, flags, day, dynamic)
    tile, window_flags = window.pack(layout, rows, acquisitions, statics)
    sizes = np.asarray([steps, fd, fs, *rows.shape[:1], n], "<i8")
    mean = np.asarray(layout.mean, np.float32)
    write(
        folder / "pack.bin",
        *(sizes, mean, layout.inv_std, rows.astype("<i8"), channel_db, flags, day),
        *(dynamic, statics, tile, window_flags),
    )

    for hidden in (1, 16, 33):
        steps, channels, members = 5, 7, 2
        weights = lstm.LstmWeights(
            steps,
            *(
                rng.uniform(-0.6, 0.6, shape).astype(np.float32)
                for shape in (
                    (members, 4 * hidden, channels),
                    (members, 4 * hidden, hidden),
                    (members, 8 * hidden),
                    (members, hidden),
                    (members,),
                )
            ),
        )
        tile = rng.normal(0, 1, (steps, 131, channels)).astype(np.float32)
        tile[2, 5, 3] = np.nan
        sizes = np.asarray([steps, channels, hidden, members, 131], "<i8")
        write(folder / f"lstm_{hidden}.bin", sizes, *weights[1:], tile, lstm.run(weights, tile))

    for count in (3, 16, 37):
        stride, channels = 6, 4
        x = damaged(rng, rng.normal(0, 1, (131, stride)))
        x[~np.isnan(x) & (np.abs(x) > 1e20)] = 0.0  # a square that overflows is another matter
        points = rng.normal(0, 1, (channels, count)).astype(np.float32)
        apart = x[:, :channels, None].astype(np.float64) - points
        distance = np.sqrt((apart**2).sum(axis=1).min(axis=1)).astype(np.float32)
        last = x.ravel()[: 130 * stride + channels]  # no byte beyond the last line's channels
        sizes = np.asarray([stride, channels, count], "<i8")
        write(folder / f"nearest_{count}.bin", sizes, last, points, distance)

    tile = damaged(rng, rng.normal(0, 1, (5, 37, 7)))
    weight = rng.normal(0, 0.05, (5, 7)).astype(np.float32)
    weight[rng.random(weight.shape) < 0.5] = 0  # of what is not looked at no NaN comes through
    with np.errstate(all="ignore"):
        looked_at = np.where(weight[:, None] != 0, tile.astype(np.float64), 0)
        line_sm = (0.2 + np.einsum("tf,tnf->n", weight.astype(np.float64), looked_at)).astype("f4")
    sizes = np.asarray(tile.shape, np.int64)
    phi = np.reshape([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in line_sm], line_sm.shape)
    index_sm = (0.05 + 0.35 * phi).astype("f4")
    write(folder / "readout.bin", sizes, weight, np.float32([0.2]), tile, line_sm, index_sm)

    for name, days, missing, which in (
        ("gaps", 3, 0.02, 0),
        ("days", 8, 0.0, 0),
        ("regressed", 2, 0.01, 2),
    ):
        rows, columns, radius = 17, 45, 5
        shape = (rows, columns)
        warm = 300 + 4 * rng.integers(0, 4, (9, 9)).repeat(5, 0).repeat(5, 1)[:rows]
        fine = [warm + rng.normal(0, 0.8, shape) for _ in range(2)]
        seen = [np.round(warm + rng.normal(0, 0.8, shape), 1) for _ in range(2 + days)]
        images = [image.astype(np.float32) for image in (fine[0], seen[0], fine[1], *seen[1:])]
        for image in images:
            image[rng.random(shape) < missing] = np.nan
        pair, coarse = fusion.Pair(*images[:4]), np.stack(images[4:])
        sigma = np.stack(
            [np.full(columns, fusion.patch_sigma(f)[0, 0]) for f in (pair.fine1, pair.fine2)]
        )
        rule = fusion.Fusion(radius, low=250, high=350, rule=fusion.RULES[which])
        fused = fusion.fuse_rows(rule, fusion.FusionBlock(pair, coarse, sigma, range(rows)))
        sizes = np.asarray([rows, columns, days, radius, which], "<i8")
        write(folder / f"fusion_{name}.bin", sizes, *pair, coarse, sigma, fused)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
