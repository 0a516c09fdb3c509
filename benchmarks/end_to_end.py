"""Processor time and memory of ``kgsm-infer predict``, end to end, at sizes a factor of ten apart.

    python benchmarks/end_to_end.py MODEL [--rows 100000 --rows 1000000] [--sites-have 50]

Makes tables of random acquisitions (removed afterwards), as CSV and Parquet, and runs each command
in a separate process: predict, predict --past (for a model that compares places with their past),
and the plain alternative, which reads with polars, makes windows with NumPy, calls onnxruntime and
writes with polars. The alternative is run for models that read no context. MODEL is a complete
graph, NAME.onnx. Prints processor time, peak memory, their ratio, and the growth exponent,
log(time ratio) / log(size ratio).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


@dataclass(frozen=True)
class Run:
    """One measured process. processor_s: user and system time.  peak_mb: resident memory."""

    name: str
    rows: int
    processor_s: float
    peak_mb: float


def write_tables(folder: Path, rows: int, looks: int) -> None:
    """Write the same random table as ``rows.csv`` and ``rows.parquet``."""
    import polars

    rng = np.random.default_rng(0)
    sites = max(1, rows // looks)
    start = np.datetime64("2015-01-01T05:30:12")
    dates = start + np.arange(looks) * np.timedelta64(12, "D")
    count = sites * looks
    vh_db = rng.normal(-17, 2, count).clip(-30, -8).round(4)
    frame = polars.DataFrame(
        {
            "site": np.tile([f"f{at:06d}" for at in range(sites)], looks),
            "date": np.repeat(np.datetime_as_string(dates), sites),
            "vh_db": vh_db,
            "vv_db": (vh_db + 7).clip(-25, -1).round(4),
            "ndvi": rng.uniform(0.1, 0.8, count).round(4),
            "angle_deg": rng.uniform(30, 45, count).round(3),
        }
    )
    frame.write_csv(folder / "rows.csv")
    frame.with_columns(polars.col("date").str.to_datetime()).write_parquet(folder / "rows.parquet")


def plain_alternative(model: Path, table: Path, output: Path) -> None:
    """polars, NumPy and onnxruntime: no checks, no flags in words, no interval."""
    import onnxruntime
    import polars

    read = polars.read_csv if table.suffix == ".csv" else polars.read_parquet
    frame = read(table)
    if table.suffix == ".csv":
        frame = frame.with_columns(polars.col("date").str.to_datetime())
    frame = frame.with_row_index("row").sort("site", "date")
    session = onnxruntime.InferenceSession(str(model))
    steps = session.get_inputs()[0].shape[1]
    code = frame["site"].rle_id().to_numpy()
    first = np.flatnonzero(np.r_[True, np.diff(code) != 0])[code]
    at = np.arange(len(frame))[:, None] + np.arange(1 - steps, 1)
    rows = np.where(at >= first[:, None], at, -1)
    names = {"sigma0_db": "vh_db"}
    day = frame["date"].dt.epoch("s").to_numpy() / 86400
    columns = {
        item.name: np.r_[
            (day if item.name == "day" else frame[names.get(item.name, item.name)].to_numpy()),
            np.nan,
        ].astype(np.float32)
        for item in session.get_inputs()
    }
    parts = []
    for start in range(0, len(rows), 65536):
        some = rows[start : start + 65536]
        parts.append(session.run(None, {name: values[some] for name, values in columns.items()}))
    sm, soil_db, flags = (np.concatenate(part) for part in zip(*parts, strict=True))
    frame = frame.select("row", "site", "date").with_columns(
        polars.Series("sm", sm), polars.Series("soil_db", soil_db.reshape(len(sm), -1)[:, -1]),
        polars.Series("flags", flags),
    ).sort("row").drop("row")  # fmt: skip
    frame.write_csv(output)


def measured(name: str, rows: int, command: Sequence[str]) -> Run:
    """Run a command; its processor time and peak memory."""
    child = (
        "import json, resource, subprocess, sys;"
        "done = subprocess.run(json.loads(sys.argv[1]), stdout=subprocess.DEVNULL, "
        "stderr=subprocess.PIPE, text=True);"
        "used = resource.getrusage(resource.RUSAGE_CHILDREN);"
        "print(json.dumps([done.returncode, done.stderr[-300:], used.ru_utime + used.ru_stime, "
        "used.ru_maxrss / 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", child, json.dumps(list(command))],
        capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD,
    )  # fmt: skip
    code, reason, seconds, peak_mb = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{name}: {reason}")
    return Run(name, rows, seconds, peak_mb)


def runs_of(model: Path, rows: int, looks: int) -> list[Run]:
    """Measure every command on tables of one size."""
    import kgsm_infer

    loaded = kgsm_infer.load(model)
    plain = not (loaded.card.names("dynamic") or loaded.card.names("static"))
    predict = [sys.executable, "-m", "kgsm_infer.app.cli", "predict", str(model)]
    runs = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tables(folder, rows, looks)
        for suffix in (".csv", ".parquet"):
            table = str(folder / f"rows{suffix}")
            out = ["-o", str(folder / "out.csv")]
            runs.append(measured(f"predict {suffix}", rows, [*predict, table, *out]))
            if suffix == ".csv" and loaded.looks_back():
                past = ["--past", str(folder / "past.csv")]
                runs.append(measured("predict --past .csv", rows, [*predict, table, *out, *past]))
            if plain:
                code = [sys.executable, __file__, str(model), "--alternative", table, out[1]]
                runs.append(measured(f"polars + onnxruntime {suffix}", rows, code))
    return runs


def table_of(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a Markdown table; the exponent compares with the size before."""
    lines = [
        "| command | rows | processor s | us a row | peak MB | exponent |",
        "|---|---|---|---|---|---|",
    ]
    before: dict[str, Run] = {}
    for run in sorted(runs, key=lambda run: (run.name, run.rows)):
        last, exponent = before.get(run.name), ""
        if last is not None:
            ratio = run.processor_s / last.processor_s
            exponent = f"{math.log(ratio) / math.log(run.rows / last.rows):.2f}"
        before[run.name] = run
        lines.append(
            f"| {run.name} | {run.rows} | {run.processor_s:.2f} | "
            f"{1e6 * run.processor_s / run.rows:.2f} | {run.peak_mb:.0f} | {exponent} |"
        )
    return lines


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, action="append")
    parser.add_argument("--sites-have", type=int, default=50, help="looks of a site")
    parser.add_argument("--alternative", nargs=2, type=Path, metavar=("TABLE", "OUT"))
    given = parser.parse_args()
    if given.alternative:
        plain_alternative(given.model, *given.alternative)
        return
    runs = [
        run
        for rows in given.rows or (100_000, 1_000_000)
        for run in runs_of(given.model, rows, given.sites_have)
    ]
    print("\n".join(table_of(runs)))


if __name__ == "__main__":
    main()
