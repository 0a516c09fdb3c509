"""Processor time and memory of whole commands, at sizes a factor of ten apart.

    python benchmarks/end_to_end.py MODEL [--smoke] [--only NAME ...] [--page docs/performance.md]

Makes tables, stacks and outlines of random numbers (removed afterwards) and runs each command in a
separate process with one thread, next to the plain alternative on the same files:

    predict     CSV and Parquet: polars, NumPy windows, one onnxruntime session, polars
    past        predict --past, for a model that compares places with their past
    wetness     the label-free index: context of a table
    map         map --all-dates, 30 and 300 dates: rasterio, NumPy windows, onnxruntime, netCDF4
    outlines    paddocks on a table: no alternative
    paddocks    paddocks on a scene: exactextract, means of the same files and nothing else
    training    kgsm-train crossval of the LSTM: torch's layers and optimiser, member after member
    checks      share of the map's processor time in the history and the domain check

The alternatives check nothing, name no flags and give no interval. They are run for models that
read no context. MODEL is a complete graph, NAME.onnx. Prints processor time, peak memory and the
growth exponent, log(time ratio) / log(size ratio). --smoke runs everything at sizes that show
nothing; with KGSM_BENCH_SMOKE=1 (bench_sizes.py) the training is short too.
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
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_sizes import SMOKE as IS_SMOKE
from bench_sizes import full_or

ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "POLARS_MAX_THREADS"), "1")


#: Marks around this benchmark's table in a page.
MARKS = ("<!-- end to end -->", "<!-- end of end to end -->")


@dataclass(frozen=True)
class Run:
    """One measured process. processor_s: user and system time.  peak_mb: resident memory.

    rows: rows, retrievals or outlines.
    """

    name: str
    rows: int
    processor_s: float
    peak_mb: float


@dataclass(frozen=True)
class Sizes:
    """Small and large size of each part.

    rows: of a table.  dates, side: of a stack and its pixels.  outlines: on a table.  paddocks: on
    a scene of SIDE_PER_PADDOCK pixels each.
    """

    rows: tuple[int, int] = (100_000, 1_000_000)
    dates: tuple[int, int] = (30, 300)
    side: int = 256
    outlines: tuple[int, int] = (10_000, 100_000)
    paddocks: tuple[int, int] = (2_000, 20_000)
    sites: tuple[int, int] = (10, 100)


SMOKE = Sizes(
    rows=(60, 120), dates=(6, 12), side=24, outlines=(4, 8), paddocks=(4, 9), sites=(6, 12)
)
#: Experiment of the training part: two folds of sites, so two trainings of EPOCHS epochs.
EPOCHS, MEMBERS, HIDDEN = full_or((2, 2, 4), (30, 10, 32))
STEPS, BATCH = 5, 64
EXPERIMENT = f"""
[data]
table = "twin.csv"
[inputs]
steps = {STEPS}
features = ["ndvi", "angle_deg"]
[wcm]
angle_rule = "column"
[network]
hidden = {HIDDEN}
members = {MEMBERS}
dropout = 0.3
[training]
epochs = {EPOCHS}
patience = {EPOCHS}
batch = {BATCH}
[crossval]
folds = 2
date_blocks = 1
models = ["lstm"]
bootstrap = 10
"""
#: Side of the square of pixels around one paddock of a scene.
SIDE_PER_PADDOCK = 10


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
    """Predict by polars, NumPy and onnxruntime: no checks, no flags in words, no interval."""
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


def write_stack(folder: Path, side: int, dates: int) -> Path:
    """Write vh_db and ndvi of side x side pixels as one GeoTIFF per date, in one or more tiles."""
    import rasterio

    rng = np.random.default_rng(1)
    tile = min(512, -(-side // 16) * 16)
    profile = {
        "driver": "GTiff", "dtype": "float32", "count": 1, "width": side, "height": side,
        "crs": "EPSG:32631", "transform": rasterio.Affine(10, 0, 6e5, 0, -10, 5.65e6),
        "tiled": True, "blockxsize": tile, "blockysize": tile, "compress": "deflate",
        "predictor": 3,
    }  # fmt: skip
    for name, centre, spread, low, high in (("vh_db", -16, 2, -30, -5), ("ndvi", 0.4, 0.1, 0, 1)):
        (folder / name).mkdir(parents=True)
        for at in range(dates):
            day = np.datetime64("2015-01-01") + 6 * at
            values = centre + spread * rng.standard_normal((side, side), np.float32)
            with rasterio.open(folder / name / f"{day}.tif", "w", **profile) as dataset:
                dataset.write(values.clip(low, high).round(2), 1)
    lines = [f'[layers.{name}]\nfiles = "{name}/*.tif"\n' for name in ("vh_db", "ndvi")]
    (folder / "scene.toml").write_text("".join([*lines, "[layers.angle_deg]\nvalue = 39.0\n"]))
    return folder / "scene.toml"


def write_outlines(
    path: Path, count: int, crs: str, corner: tuple[float, float], step: float
) -> None:
    """Write square outlines in rows below a corner, each 0.8 steps wide; ids f000000, f000001, …"""
    along = math.ceil(count**0.5)
    features = []
    for at in range(count):
        x, y = corner[0] + step * (at % along + 0.1), corner[1] - step * (at // along + 0.1)
        ring = [[x, y], [x + 0.8 * step, y - 0.05 * step], [x + 0.8 * step, y - 0.8 * step],
                [x, y - 0.8 * step], [x, y]]  # fmt: skip
        features.append({
            "type": "Feature", "properties": {"id": f"f{at:06d}"},
            "geometry": {"type": "Polygon", "coordinates": [ring]},
        })  # fmt: skip
    named = {"type": "name", "properties": {"name": crs}}
    path.write_text(json.dumps({"type": "FeatureCollection", "crs": named, "features": features}))


def plain_map(model: Path, folder: Path, output: Path) -> None:
    """Map by rasterio, NumPy windows, onnxruntime and netCDF4: the whole stack in memory."""
    import netCDF4
    import onnxruntime
    import rasterio

    layers = {}
    for name in ("vh_db", "ndvi"):
        planes = []
        for path in sorted((folder / name).glob("*.tif")):
            with rasterio.open(path) as dataset:
                planes.append(dataset.read(1))
        layers[name] = np.stack(planes).reshape(len(planes), -1)
    layers["angle_deg"] = np.full_like(layers["vh_db"], 39.0)
    layers["sigma0_db"], layers["vegetation"] = layers.pop("vh_db"), layers["ndvi"]
    dates, pixels = layers["sigma0_db"].shape
    session = onnxruntime.InferenceSession(str(model))
    inputs = [item.name for item in session.get_inputs()]
    steps = session.get_inputs()[0].shape[1]
    side = round(pixels**0.5)
    with netCDF4.Dataset(output, "w") as file:
        for name, size in (("time", dates), ("y", side), ("x", side)):
            file.createDimension(name, size)
        variables = [
            file.createVariable(name, kind, ("time", "y", "x"), zlib=True, complevel=4)
            for name, kind in (("sm", "f4"), ("flags", "u2"))
        ]
        for target in range(dates):
            back = np.arange(target - steps + 1, target + 1)
            found: list[list[np.ndarray]] = [[], []]
            for first in range(0, pixels, 65536):
                some = slice(first, first + 65536)
                feed = {}
                for name in inputs:
                    if name == "day":
                        one = np.where(back >= 0, 6.0 * back, np.nan).astype(np.float32)
                        feed[name] = np.tile(one, (len(layers["ndvi"][0, some]), 1))
                    else:
                        values = layers[name][np.maximum(back, 0), some].T.copy()
                        values[:, back < 0] = np.nan
                        feed[name] = values
                sm, _, mask = session.run(None, feed)
                found[0].append(sm)
                found[1].append(mask)
            for variable, parts in zip(variables, found, strict=True):
                variable[target] = np.concatenate(parts).reshape(side, side)


def exactextract_alone(folder: Path, outlines: Path, output: Path) -> None:
    """Average each raster over each outline, with its exact shares."""
    import exactextract
    import rasterio
    from exactextract.raster import RasterioRasterSource

    files = sorted(folder.glob("*/*.tif"))
    rasters = [RasterioRasterSource(rasterio.open(path), name=str(path)) for path in files]
    read = json.loads(outlines.read_text())["features"]
    features = [{**feature, "id": feature["properties"]["id"]} for feature in read]
    found = exactextract.exact_extract(rasters, features, ["mean"], include_cols=["id"])
    output.write_text(json.dumps(found))


def map_with_checks(model: Path, scene: Path, output: Path) -> None:
    """Map all dates and print the share of the processor time in the two checks."""
    import time

    import kgsm_infer
    from kgsm_infer.maps.options import RetrievalOptions
    from kgsm_infer.maps.run import map_scene
    from kgsm_infer.model import model as module
    from kgsm_infer.scenes.manifest import read_scene

    spent = dict.fromkeys(("check_history_of_runs", "outside_domain"), 0.0)

    def timed(name: str) -> None:
        plain = getattr(module, name)

        def call(*arguments: object) -> object:
            began = time.thread_time()
            result = plain(*arguments)
            spent[name] += time.thread_time() - began
            return result

        setattr(module, name, call)

    for name in spent:
        timed(name)
    loaded = kgsm_infer.load(model)
    began = time.process_time()
    map_scene(loaded, read_scene(scene), output, RetrievalOptions(every=True))
    took = time.process_time() - began
    print(json.dumps({name: seconds / took for name, seconds in spent.items()}))


def train_member_by_member(table: Path, _: Path, output: Path) -> None:
    """Train the LSTM of EXPERIMENT with torch's layers and optimiser, for as many steps.

    Its windows are random numbers of the table's size: the time does not depend on the values.
    """
    import torch

    torch.set_num_threads(1)
    with open(table, encoding="utf-8") as file:
        windows = sum(1 for _ in file) // 2  # half of the sites in each of two trainings
    x, sm = torch.randn(STEPS, windows, 5), torch.rand(windows)
    keep = torch.nn.Dropout(0.3)
    for _ in range(2):
        for _ in range(MEMBERS):
            lstm, head = torch.nn.LSTM(5, HIDDEN), torch.nn.Linear(HIDDEN, 1)
            weights = [*lstm.parameters(), *head.parameters()]
            optimiser = torch.optim.AdamW(weights, lr=3e-3)
            for _ in range(EPOCHS):
                for index in torch.split(torch.randperm(windows), BATCH):
                    found = head(keep(lstm(keep(x[:, index]))[0][-1]))[:, 0]
                    optimiser.zero_grad()
                    torch.autograd.backward((found - sm[index]).square().mean())
                    torch.nn.utils.clip_grad_norm_(weights, 1.0)
                    optimiser.step()
                with torch.no_grad():
                    head(lstm(x)[0][-1])
    torch.save(head.state_dict(), output)


def training_runs(folder: Path, sites: int) -> list[Run]:
    """Measure a cross-validation of the LSTM on simulated sites; the size is the table's rows."""
    folder.mkdir(exist_ok=True)
    table, config = folder / "twin.csv", folder / "lstm.toml"
    config.write_text(EXPERIMENT)
    train = [sys.executable, "-m", "kgsm_train.cli"]
    simulated = [*train, "simulate", "-o", str(table), "--sites", str(sites), "--years", "2"]
    subprocess.run(simulated, check=True, capture_output=True)
    rows = len(table.read_text(encoding="utf-8").splitlines()) - 1
    command = [*train, "crossval", str(config), "-o", str(folder / "run"), "--jobs", "1"]
    return [
        measured("crossval of the LSTM", rows, command),
        measured(
            "torch, member by member", rows, plainly("training", table, table, folder / "t.pt")
        ),
    ]


PARTS = ("predict", "wetness", "map", "outlines", "paddocks", "training", "checks")


def runs_of(model: Path, sizes: Sizes, at: int, looks: int, only: Sequence[str]) -> list[Run]:
    """Measure the parts at the small (0) or the large size (1)."""
    runs: list[Run] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if {"predict", "wetness"} & set(only):
            runs += table_runs(model, folder, sizes.rows[at], looks, only)
        if "map" in only:
            runs += map_runs(model, folder / "stack", sizes.side, sizes.dates[at])
        if "outlines" in only:
            runs += outline_runs(model, folder, sizes.outlines[at])
        if "paddocks" in only:
            runs += paddock_runs(model, folder / "farm", sizes.paddocks[at])
        if "training" in only:
            runs += training_runs(folder / "training", sizes.sites[at])
    return runs


def kgsm(*words: str | Path) -> list[str]:
    """Return the command line of kgsm-infer."""
    return [sys.executable, "-m", "kgsm_infer.app.cli", *map(str, words)]


def plainly(*words: str | Path) -> list[str]:
    """Return the command line of a plain alternative, which is a function of this file."""
    return [sys.executable, __file__, "-", "--plain", *map(str, words)]


def reads_no_context(model: Path) -> bool:
    """Return true for a model that the alternatives can run."""
    import kgsm_infer

    card = kgsm_infer.load(model).card
    return not (card.names("dynamic") or card.names("static"))


def table_runs(model: Path, folder: Path, rows: int, looks: int, only: Sequence[str]) -> list[Run]:
    """Measure predict and wetness on the same random table."""
    import kgsm_infer

    runs = []
    write_tables(folder, rows, looks)
    out = folder / "out.csv"
    for suffix in (".csv", ".parquet") if "predict" in only else ():
        table = folder / f"rows{suffix}"
        command = kgsm("predict", model, table, "-o", out)
        runs.append(measured(f"predict {suffix}", rows, command))
        if suffix == ".csv" and kgsm_infer.load(model).looks_back():
            past = [*command, "--past", str(folder / "past.csv")]
            runs.append(measured("predict --past .csv", rows, past))
        if reads_no_context(model):
            plain = plainly("table", model, table, out)
            runs.append(measured(f"polars + onnxruntime {suffix}", rows, plain))
    if "wetness" in only:
        runs.append(measured("wetness .csv", rows, kgsm("wetness", folder / "rows.csv", "-o", out)))
    return runs


def map_runs(model: Path, folder: Path, side: int, dates: int) -> list[Run]:
    """Measure map --all-dates; the size is the number of retrievals."""
    scene, count = write_stack(folder, side, dates), side * side * dates
    command = kgsm("map", model, scene, "-o", folder / "m.nc", "--all-dates", "--threads", "1")
    runs = [measured("map --all-dates", count, command)]
    if reads_no_context(model):
        plain = plainly("map", model, folder, folder / "p.nc")
        runs.append(measured("rasterio + onnxruntime", count, plain))
        check_same(folder / "m.nc", folder / "p.nc")
    return runs


def check_same(ours: Path, plain: Path) -> None:
    """Stop where the two maps differ by more than engines may, or share no number."""
    import netCDF4

    compared = 0
    with netCDF4.Dataset(ours) as one, netCDF4.Dataset(plain) as other:
        for at in range(len(one["sm"])):
            apart = np.abs(one["sm"][at].filled(np.nan) - other["sm"][at].filled(np.nan))
            compared += np.count_nonzero(np.isfinite(apart))
            if np.nanmax(apart, initial=0.0) > 1e-4:
                raise SystemExit(f"{ours} and {plain} differ by {np.nanmax(apart):.2g} at {at}")
    if not compared:
        raise SystemExit(f"{ours} and {plain} have no number in common")


def outline_runs(model: Path, folder: Path, count: int) -> list[Run]:
    """Measure paddocks on a table of five looks of each."""
    write_tables(folder, 5 * count, 5)
    path = folder / "outlines.geojson"
    write_outlines(path, count, "urn:ogc:def:crs:OGC:1.3:CRS84", (4.0, 52.0), 0.001)
    out = folder / "out.geojson"
    return [
        measured(
            "paddocks on a table", count,
            kgsm("paddocks", model, folder / "rows.csv", path, "-o", out),
        )
    ]  # fmt: skip


def paddock_runs(model: Path, folder: Path, count: int) -> list[Run]:
    """Measure paddocks on a scene of five dates, and exactextract on its files."""
    side = SIDE_PER_PADDOCK * math.ceil(count**0.5)
    scene, path = write_stack(folder, side, 5), folder / "outlines.geojson"
    step = 10.0 * SIDE_PER_PADDOCK
    write_outlines(path, count, "urn:ogc:def:crs:EPSG::32631", (6e5, 5.65e6), step)
    command = kgsm("paddocks", model, scene, path, "-o", folder / "out.geojson", "--threads", "1")
    alone = plainly("exactextract", folder, path, folder / "means.json")
    return [
        measured("paddocks on a scene", count, command),
        measured("exactextract alone", count, alone),
    ]


def shares_of_checks(model: Path, sizes: Sizes) -> str:
    """Return a sentence with the shares of the two checks in a map's processor time."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "stack"
        scene = write_stack(folder, max(16, sizes.side // 2), sizes.dates[1])
        done = subprocess.run(
            plainly("checks", model, scene, folder / "m.nc"),
            capture_output=True, text=True, check=True, env=os.environ | ONE_THREAD,
        )  # fmt: skip
    shares = json.loads(done.stdout.splitlines()[-1])
    return (
        "Of the map's processor time, the history check takes "
        f"{shares['check_history_of_runs']:.1%} and "
        f"the domain check {shares['outside_domain']:.1%}."
    )


def table_of(runs: Sequence[Run]) -> list[str]:
    """Return the lines of a Markdown table; the exponent compares with the size before."""
    lines = [
        "| command | rows, retrievals or outlines | processor s | µs each | peak MB | exponent |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    before: dict[str, Run] = {}
    for run in runs:
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


PLAIN = {
    "table": plain_alternative,
    "map": plain_map,
    "exactextract": exactextract_alone,
    "training": train_member_by_member,
    "checks": map_with_checks,
}


def main() -> None:
    """Parse the arguments, run, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--rows", type=int, action="append", help="two sizes of the tables")
    parser.add_argument("--sites-have", type=int, default=50, help="looks of a site")
    parser.add_argument("--only", action="append", choices=PARTS)
    parser.add_argument("--smoke", action="store_true", default=IS_SMOKE)
    parser.add_argument("--page", type=Path, help="put the table between this benchmark's marks")
    parser.add_argument("--plain", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        name, *paths = options.plain
        PLAIN[name](*map(Path, paths))
        return
    sizes, only = SMOKE if options.smoke else Sizes(), options.only or list(PARTS)
    if options.rows:
        sizes = replace(sizes, rows=tuple(options.rows))
    by_size = [runs_of(options.model, sizes, at, options.sites_have, only) for at in (0, 1)]
    runs = [run for pair in zip(*by_size, strict=True) for run in pair]
    lines = table_of(runs)
    if "checks" in only:
        lines += ["", shares_of_checks(options.model, sizes)]
    print("\n".join(lines))
    if options.page:
        from report import put_into

        put_into(options.page, "\n".join(lines), MARKS)


if __name__ == "__main__":
    main()
