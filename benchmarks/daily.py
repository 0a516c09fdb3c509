"""Score and time the daily model.

    python benchmarks/daily.py scores OZNET         a copy of the OzNet repository: the score table
    python benchmarks/daily.py speed                processor time on one core, two sizes
    python benchmarks/daily.py split                split filter against the dense one, 25 paddocks
    python benchmarks/daily.py twin                 end to end on the simulated twin

``scores`` leaves out stations y7, y8 and y9, which carry one series, simulates passes
every 6, 12 and 24 days with three seeds, and scores every labelled day from a station's first pass
on, with parameters fitted without the station's fold; then without the years as well.
Station data and rain are real, passes are simulated.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

EVERY = (6, 12, 24)
SHARED_SERIES = ("y7", "y8", "y9")
YEARS = 10
SIZES = (2_500, 10_000)


RUNS = ("sites", "years", "one-store")


def scores(folder: Path, wanted: list[str]) -> None:
    """Print the score table for new sites, new sites and years, and one store."""
    from kgsm_train.daily import boards_of, new_years, read_labelled
    from kgsm_train.evaluation.daily import by_fold, markdown
    from kgsm_train.learning.daily import DataOrigin
    from kgsm_train.sources.columns import write_source
    from kgsm_train.sources.oznet import Choice, read_oznet

    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "oznet.csv"
        write_source(table, read_oznet(folder, Choice(without=SHARED_SERIES)))
        read = read_labelled(table, table)
    source = DataOrigin("oznet", "MIT", "Smith et al. 2012", "benchmarks/daily.py", "south")
    sites = by_fold(read.fold, len(read.labelled.sm))
    runs = {
        "sites": ("new sites", sites, 2),
        "years": ("new sites, new years", new_years(read), 2),
        "one-store": ("new sites, one store", sites, 1),
    }
    for title, splits, stores in (runs[name] for name in wanted):
        print(f"\n{title}: R / RMSE in m3/m3, mean of three seeds\n")
        print(markdown(boards_of(read.labelled, splits, source, EVERY, stores)), flush=True)


def speed() -> None:
    """Print processor time of 10 years of daily estimates at two sizes, and its growth."""
    from kgsm_infer.daily.forcing import Forcing
    from kgsm_infer.daily.parameters import read_parameters
    from kgsm_infer.daily.run import PassValues, drive, estimate

    parameters = read_parameters("oznet")
    days = round(YEARS * 365.25)
    rng = np.random.default_rng(0)
    rain = np.where(rng.random((days, 1)) < 0.2, rng.exponential(7.0, (days, 1)), 0.0)
    seconds = []
    for count in SIZES:
        at = np.arange(3, days, 6)
        errors = parameters.errors
        many = len(at) * count
        seen = PassValues(
            np.repeat(at, count),
            np.repeat(at, count),
            np.tile(np.arange(count), len(at)),
            rng.uniform(0.05, 0.4, many),
            np.full(many, errors.point**2 * (1 - errors.persistent_share)),
            np.full(many, errors.date**2),
            np.ones(many),
            np.full(count, errors.point**2 * errors.persistent_share),
        )
        begin = time.process_time()
        series = np.zeros(count, np.int64)
        made = estimate(parameters, drive(parameters, Forcing.of_rain(0, rain, series)), seen)
        seconds.append(time.process_time() - begin)
        per = seconds[-1] / (days * count) * 1e9
        print(
            f"{count} paddocks, {YEARS} years, a pass every 6 days: {seconds[-1]:.1f} s of "
            f"processor time, {per:.0f} ns a paddock and day, mean {np.nanmean(made.mean):.3f}"
        )
    growth = math.log(seconds[1] / seconds[0]) / math.log(SIZES[1] / SIZES[0])
    print(f"growth exponent {growth:.2f}")


def split() -> None:
    """Print how far the split filter is from the dense one of the tests, at 25 paddocks."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "daily"))
    from dense_filter import dense_filter
    from made_series import ERRORS, SET, made, observations

    from kgsm_infer.daily.run import Drive, filtered

    share = ERRORS.persistent_share
    own = ERRORS.point**2
    for orbits in (1, 2):
        series = made(paddocks=25, orbits=orbits, days=365)
        rain = Drive(0, series.expected, np.zeros((365, 1)), np.zeros(25, np.int64))
        mean = [day.mean for day in filtered(SET, rain, observations(series.seen))]
        dense = dense_filter(
            SET.residual,
            np.broadcast_to(series.expected, series.seen.shape),
            series.seen,
            (own * (1 - share), ERRORS.date**2, own * share),
            start=SET.bucket.variance,
        )
        apart = float(np.sqrt(np.mean((np.asarray(mean) - dense.mean) ** 2)))
        print(f"{orbits} orbits: split and dense are {apart:.5f} m3/m3 RMSE apart")


TWIN = """
[data]
table = "train.csv"
licence = "simulated"

[inputs]
steps = 3
features = ["ndvi", "doy_sin", "doy_cos"]

[wcm]
angle_rule = "column"

[network]
hidden = 8
members = 2

[training]
epochs = 60

[crossval]
models = ["mean", "kg-lstm"]
folds = 3
date_blocks = 3
bootstrap = 50
"""


def twin() -> None:
    """Simulate radar, retrieve, estimate every day, and compare with the true state.

    A model and daily parameters come from 40 sites; 40 others are estimated. All by commands.
    """
    from kgsm_infer.tables.reading import read_sheet, write_csv
    from kgsm_train.evaluation.metrics import scores as score_of

    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for name, seed in (("train", 1), ("new", 2)):
            _command(
                folder,
                f"simulate --sites 40 --years 3 --looks 4 --seed {seed} -o {name}.csv "
                f"--weather {name}_rain.csv",
            )
        truth = read_sheet(folder / "train_rain.csv")
        labels = {name: truth.columns[name] for name in ("site", "date", "rain_mm", "source")}
        write_csv(folder / "labels.csv", {**labels, "sm": truth.columns["sm_true"]})
        _command(folder, "fit-daily labels.csv --weather labels.csv -o own.json")
        (folder / "twin.toml").write_text(TWIN)
        _command(folder, "crossval twin.toml -o run --jobs 1")
        _command(folder, "fit twin.toml -o run")
        _retrieval(folder / "run" / "predictions.csv")
        infer = "kgsm_infer.app.cli"
        _command(folder, "predict run/model.onnx new.csv -o values.csv", infer)
        _command(
            folder,
            "daily values.csv --weather new_rain.csv --parameters own.json --model run/model.onnx "
            "-o daily.csv",
            infer,
        )
        true = read_sheet(folder / "new_rain.csv")
        sm_true = true.check.numbers("sm_true", true.columns["sm_true"], None)
        pairs = zip(true.columns["site"], true.columns["date"], sm_true, strict=True)
        known = {(site, date): value for site, date, value in pairs}
        made = read_sheet(folder / "daily.csv")
        number = {
            name: made.check.numbers(name, made.columns[name], None)
            for name in ("sm", "sm_lower", "sm_upper", "pass_sm", "pass_age_days")
        }
        places = zip(made.columns["site"], made.columns["date"], strict=True)
        y = np.asarray([known.get(place, np.nan) for place in places])
        last = np.maximum.accumulate(np.where(np.isfinite(number["pass_sm"]), np.arange(len(y)), 0))
        methods = {
            "passes": number["pass_sm"],
            "hold": number["pass_sm"][last],
            "daily": number["sm"],
        }
        for name, values in methods.items():
            found = score_of(y, values)
            print(
                f"{name:8} R {found.r:.3f} RMSE {found.rmse:.4f} bias {found.bias:+.4f} n {found.n}"
            )
        asked = np.isfinite(y) & np.isfinite(number["sm"])
        inside = (y >= number["sm_lower"]) & (y <= number["sm_upper"])
        print(f"90 % band covers {inside[asked].mean():.3f} (simulated data)")


def _retrieval(path: Path) -> None:
    """Print slope on the truth and correlation of successive errors, on new sites and dates."""
    from kgsm_infer.tables.reading import read_sheet

    sheet = read_sheet(path)
    y, z = (sheet.check.numbers(name, sheet.columns[name], None) for name in ("sm", "sm_kg_lstm"))
    site = np.asarray(list(sheet.columns["site"]))
    known = np.isfinite(y) & np.isfinite(z)
    y, z, site = y[known], z[known], site[known]
    slope, r = np.polyfit(y, z, 1)[0], np.corrcoef(y, z)[0, 1]
    error = y - z
    for name in np.unique(site):
        error[site == name] -= error[site == name].mean()
    pair = site[1:] == site[:-1]
    lag = (error[1:] * error[:-1])[pair].mean() / (error**2).mean()
    print(f"retrieval, cross-validated: slope on the truth {slope:.3f}, R squared {r**2:.3f}, "
          f"correlation of successive errors {lag:.2f}")  # fmt: skip


def _command(folder: Path, text: str, module: str = "kgsm_train.cli") -> None:
    """Run a command of kgsm in ``folder``; its error ends the benchmark."""
    path = os.pathsep.join(
        [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    )
    subprocess.run(
        [sys.executable, "-m", module, *text.split()],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path},
        check=True,
        stdout=subprocess.DEVNULL,
    )


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    scored = commands.add_parser("scores")
    scored.add_argument("folder", type=Path)
    scored.add_argument("--only", choices=RUNS, help="one of the three tables")
    scored.set_defaults(run=lambda args: scores(args.folder, [args.only] if args.only else [*RUNS]))
    commands.add_parser("speed").set_defaults(run=lambda args: speed())
    commands.add_parser("twin").set_defaults(run=lambda args: twin())
    commands.add_parser("split").set_defaults(run=lambda args: split())
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
