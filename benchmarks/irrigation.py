"""Judge possible irrigation: precision, recall and calibration of its probabilities.

    python benchmarks/irrigation.py twin                    simulated soil water with irrigations
    python benchmarks/irrigation.py oznet FOLDER            measured moisture, irrigations added
    python benchmarks/irrigation.py fields FILE.geoparquet  French fields: how often it fires

25 mm fall on each site every 32 days on average, so that 17 % of the times of 6 days between two
passes have an irrigation. Passes are simulated from the moisture every 6 days with the errors of
docs/daily.md (.06 of a site and pass, .03 of a site, .045 of a date), then with .04 in place of
.06; three seeds each.

twin: sites of `kgsm-train simulate`, whose water holds in 100 mm of soil; parameters are fitted to
40 other sites without irrigation. oznet: what each irrigation adds is the bucket's response, the
moisture, its noise and the rain are measured; parameters are fitted without the station's fold.
fields: the label-free index of 500 fields; a composite of ten days counts as a pass at its end and
its rain falls evenly. Irrigation there is not known.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from bench_sizes import SMOKE, full_or
from numpy.typing import NDArray

from kgsm_infer.daily.bucket import run_bucket
from kgsm_infer.daily.events import FLAG_FROM, PossibleIrrigation, find_irrigation
from kgsm_infer.daily.parameters import Parameters, PassErrors, read_parameters
from kgsm_infer.daily.run import drive
from kgsm_train.learning.daily import LIMITS, DataOrigin, Labelled, observations_of, simulate_passes

EVERY, SHARE, MM = 6, 0.17, 25.0
#: Mean days between two irrigations with which SHARE of the times have one.
BETWEEN = -EVERY / float(np.log(1 - SHARE))
SITES, YEARS = full_or((8, 2), (40, 3))
POINT, PERSISTENT, DATE = (0.06, 0.04), 0.03, 0.045
SEEDS = full_or((0,), (0, 1, 2))
RECALLS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8)
TENTHS = np.linspace(0, 1, 11)
#: Fewest times in a row of the calibration table.
FEWEST = 20


@dataclass(frozen=True)
class Judged:
    """Probabilities of K times between passes, and whether there was an irrigation in each."""

    probability: NDArray[np.float64]
    irrigated: NDArray[np.bool_]


def judge(
    labelled: Labelled, irrigation_mm: NDArray, parameters: Parameters, point: float, seed: int
) -> Judged:
    """Simulate passes over the moisture and look for the irrigations (D, S) between them."""
    variance = point**2 + PERSISTENT**2
    errors = PassErrors(variance**0.5, DATE, PERSISTENT**2 / variance)
    seen = simulate_passes(labelled.sm, EVERY, seed, errors)
    found = _find(labelled, parameters, errors, seen)
    total = np.vstack([np.zeros((1, seen.shape[1])), (irrigation_mm > 0).cumsum(0)])
    after, until = found.after - labelled.first, found.until - labelled.first
    had = total[until + 1, found.paddock] > total[after + 1, found.paddock]
    counted = until - after == EVERY
    return Judged(found.probability[counted], had[counted])


def _find(
    labelled: Labelled, parameters: Parameters, errors: PassErrors, seen: NDArray
) -> PossibleIrrigation:
    rain = drive(parameters, labelled.forcing)
    return find_irrigation(
        parameters, rain, labelled.forcing, observations_of(seen, errors), BETWEEN
    )


def show(title: str, runs: list[Judged]) -> None:
    """Print the curve of precision and recall, the flag's, and the calibration table."""
    p = np.concatenate([one.probability for one in runs])
    y = np.concatenate([one.irrigated for one in runs])
    order = np.argsort(-p)
    hits = y[order].cumsum()
    precision, recall = hits / np.arange(1, len(p) + 1), hits / y.sum()
    print(f"\n{title}: {len(p)} times between passes, {y.mean():.3f} with an irrigation")
    print("| recall | " + " | ".join(f"{one:.1f}" for one in RECALLS) + " |")
    print("| --- " * (len(RECALLS) + 1) + "|")
    at = [precision[np.searchsorted(recall, one)] for one in RECALLS]
    print("| precision | " + " | ".join(f"{one:.2f}" for one in at) + " |")
    flagged = p >= FLAG_FROM
    print(f"flag: precision {y[flagged].mean():.2f}, recall {y[flagged].sum() / y.sum():.2f}")
    print("| probability | observed | times |\n| --- | --- | --- |")
    for low, high in pairwise(TENTHS):
        here = (p >= low) & (p < high + (high == 1))
        if here.sum() >= FEWEST:
            print(f"| {p[here].mean():.2f} | {y[here].mean():.2f} | {here.sum()} |")


def twin() -> None:
    """Fit parameters to a twin without irrigation, and look for that of another."""
    from kgsm_infer.tables.reading import write_csv
    from kgsm_train.daily import read_labelled
    from kgsm_train.learning import daily
    from kgsm_train.sources.simulate import Twin, simulate_with_weather

    if SMOKE:
        daily.EVALUATIONS, daily.BUCKET_EVALUATIONS = 12, 4

    def series(seed: int, between: float) -> tuple[Labelled, NDArray]:
        twin = Twin(
            sites=SITES, years=YEARS, seed=seed, irrigated_every_days=between, irrigation_mm=MM
        )
        _, weather = simulate_with_weather(twin)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "twin.csv"
            columns = {name: weather[name] for name in ("site", "date", "rain_mm", "source")}
            write_csv(path, {**columns, "sm": weather["sm_true"]})
            labelled = read_labelled(path, path).labelled
        water = np.asarray(weather["irrigation_mm"]).reshape(len(labelled.sites), -1).T
        return labelled, water

    origin = DataOrigin("twin", "simulated", "simulated", "benchmarks/irrigation.py", "north", True)
    parameters = daily.fit_daily(series(1, 0.0)[0], origin)
    labelled, water = series(2, BETWEEN)
    for point in POINT:
        runs = [judge(labelled, water, parameters, point, seed) for seed in SEEDS]
        show(f"twin (simulated), error {point}", runs)


def oznet(folder: Path) -> None:
    """Add irrigations to measured moisture, and look for them."""
    from kgsm_train.daily import read_labelled
    from kgsm_train.evaluation.daily import by_fold, fit_splits
    from kgsm_train.sources.columns import write_source
    from kgsm_train.sources.oznet import Choice, read_oznet

    with tempfile.TemporaryDirectory() as scratch:
        table = Path(scratch) / "oznet.csv"
        write_source(table, read_oznet(folder, Choice(without=("y7", "y8", "y9"))))
        read = read_labelled(table, table)
    labelled = read.labelled
    origin = DataOrigin("oznet", "MIT", "Smith et al. 2012", "benchmarks/irrigation.py", "south")
    splits = by_fold(read.fold, len(labelled.sm))
    fitted = fit_splits(labelled, splits, origin)
    for point in POINT:
        runs = []
        for seed in SEEDS:
            rng = np.random.default_rng((seed, 1))
            water = np.where(rng.random(labelled.sm.shape) < 1 / BETWEEN, MM, 0.0)
            for split, parameters in zip(splits, fitted, strict=True):
                part = labelled.part(split.sites)
                mine = water[:, split.sites]
                bucket = parameters.bucket
                wet = run_bucket(bucket, part.rain_mm, part.day, irrigation_mm=mine)
                dry = run_bucket(bucket, part.rain_mm, part.day)
                sm = np.clip(part.sm + wet - dry, *LIMITS)
                whole = Labelled(part.first, part.sites, part.rain_mm, sm)
                runs.append(judge(whole, mine, parameters, point, seed))
        show(f"OzNet with irrigations added, error {point}", runs)


def fields(path: Path) -> None:
    """Count how often the index of real fields rises without rain."""
    import typical_place

    from kgsm_infer.base import flags
    from kgsm_infer.daily.daily import Settings, estimate_daily
    from kgsm_infer.daily.values import PassDeviations, errors_of_model, read_values
    from kgsm_infer.model.index import wetness_model
    from kgsm_infer.tables.reading import write_csv
    from kgsm_infer.tables.table import table_from_columns
    from kgsm_infer.tables.weather import read_weather

    data = typical_place.read(str(path))
    names = ("site", "date", "vh_db", "ndvi", "temp_c")
    columns = {name: data[name] for name in names}
    begin = data["date"].astype("datetime64[D]")
    # the third composite of a month lasts to its end
    following = begin + 10
    third = begin.astype(int) - begin.astype("datetime64[M]").astype("datetime64[D]").astype(int)
    end_of_month = (begin.astype("datetime64[M]") + 1).astype("datetime64[D]")
    following = np.where(third >= 20, end_of_month, following)
    with tempfile.TemporaryDirectory() as scratch:
        values, weather = Path(scratch) / "values.csv", Path(scratch) / "rain.csv"
        result = wetness_model().predict(table_from_columns(columns))
        write_csv(
            values,
            {
                "site": data["site"],
                "date": (following - 1).astype(str),
                "wetness": result.sm,
                "wetness_lower": result.lower,
                "wetness_upper": result.upper,
                "flags": [flags.names(int(mask)) for mask in result.flags],
            },
        )
        rain = {
            (site, day): mm / (after - first).astype(int)
            for site, first, after, mm in zip(
                data["site"], begin, following, data["rain_mm"], strict=True
            )
            for day in np.arange(first, after)
        }
        write_csv(
            weather,
            {
                "site": [site for site, _ in rain],
                "date": [str(day) for _, day in rain],
                "rain_mm": list(rain.values()),
            },
        )
        read = read_values(values)
        water = read_weather(weather)
        parameters = read_parameters("oznet")
        errors = errors_of_model(wetness_model().card, read, parameters, PassDeviations())
        for between in (36.0, 200.0):
            settings = Settings(errors=errors, north=True, irrigated_every_days=between)
            made = estimate_daily(read, water, parameters, settings)
            assert made.possible is not None
            _show_fields(made.possible, rain, read.paddocks, between)


def _show_fields(
    found: PossibleIrrigation, rain: dict, paddocks: tuple[str, ...], between: float
) -> None:
    fell = np.asarray(
        [
            sum(
                rain.get((paddocks[i], np.datetime64(int(day), "D")), np.nan)
                for day in range(after + 1, until + 1)
            )
            for i, after, until in zip(found.paddock, found.after, found.until, strict=True)
        ]
    )
    flagged = found.probability >= FLAG_FROM
    month = found.until.astype("datetime64[D]").astype("datetime64[M]").astype(int) % 12 + 1
    summer = (month >= 6) & (month <= 9)
    print(f"\nFrench fields, an irrigation every {between:g} days assumed, flagged from .5 on:")
    print("| rain between the passes | times | flagged |\n| --- | --- | --- |")
    for title, here in (
        ("below 2 mm", fell < 2),
        ("2 to 10 mm", (fell >= 2) & (fell < 10)),
        ("10 mm and more", fell >= 10),
        ("below 2 mm, June to September", (fell < 2) & summer),
        ("all", np.ones(len(fell), bool)),
    ):
        print(f"| {title} | {here.sum()} | {flagged[here].mean():.4f} |")


def main() -> None:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    commands.add_parser("twin").set_defaults(run=lambda args: twin())
    measured = commands.add_parser("oznet")
    measured.add_argument("folder", type=Path)
    measured.set_defaults(run=lambda args: oznet(args.folder))
    french = commands.add_parser("fields")
    french.add_argument("file", type=Path)
    french.set_defaults(run=lambda args: fields(args.file))
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
