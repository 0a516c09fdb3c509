"""Water of 0-120 cm at 64 neutron-probe tubes: ``python benchmarks/root_zone.py FOLDER``.

FOLDER is the cotton 2018 data of pyfao56's test 09 (CC0): neutronswc.geojson, waterlimits.csv,
irrigation.csv, cotton2018.wth. The first reading of each tube is the start, the other 1,244 are
scored. Readings were made in the morning (cotton2018.py of that test): they are the state at the
end of the day before. What is fitted is fitted on the tubes of twelve plots and scored on the four
others. ``--sources`` splits the error by its source.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from bench_sizes import full_or
from scipy.optimize import minimize

from kgsm_infer.daily.root_zone import (
    LAYER_MM,
    Crop,
    RootSoil,
    RootStart,
    Water,
    balance_root_zone,
    exponential_filter,
)

READ = (10, 30, 50, 70, 90, 110)  # cm, middles of layers of 20 cm
DEEP = (170, 190)  # cm, below the roots
#: Stated for cotton: crop of cotton2018.par of pyfao56, planted day 108. Roots to 1.0 m: FAO-56
#: Table 22 has 1.0 to 1.7 and names the smaller for irrigation scheduling. The 0.828 m of the file
#: are a fit to the readings of one of these tubes (cotton2018.py there).
STATED = np.array([0.15, 1.13, 0.52, 1.0, 0.65, 0.0, 50.0, 4.0])
ROOT, CAPACITY, KCB_MID = 3, 5, 1
#: Layer thickness that makes the zone with roots one layer, mm.
ONE_LAYER = 1e6
LOW = np.array([0.02, 0.8, 0.3, 0.3, 0.3, -0.03, 30.0, 1.0])
HIGH = np.array([0.3, 1.35, 0.9, 1.2, 0.8, 0.08, 150.0, 10.0])
NAMES = ["kcb_ini", "kcb_mid", "kcb_end", "root_m", "p", "capacity+", "ze_mm", "rew_mm"]
BEGIN = np.array([0.12, 1.05, 0.6, 0.8, 0.6, 0.01, 60.0, 5.0])


@dataclass(frozen=True)
class Data:
    """Tubes of a field: tube names (N,), observed moisture (D, 6, N), limits, water and days.

    deep: moisture (D, 2, N) at 170 and 190 cm.
    """

    tube: np.ndarray
    plot: np.ndarray
    seen: np.ndarray
    deep: np.ndarray
    wilting: np.ndarray
    capacity: np.ndarray
    water: Water

    @property
    def truth(self) -> np.ndarray:
        """Water of 0-120 cm (D, N) mm."""
        return 200 * self.seen.sum(1)

    @property
    def begin(self) -> int:
        """First day with readings."""
        return int(np.flatnonzero(np.isfinite(self.truth).any(1))[0])

    def select(self, tubes: np.ndarray) -> Data:
        """Return the data of the tubes of a mask (N,)."""
        w = self.water
        return Data(
            self.tube[tubes], self.plot[tubes], self.seen[:, :, tubes], self.deep[:, :, tubes],
            self.wilting[:, tubes], self.capacity[:, tubes],
            Water(w.first, w.rain_mm[:, tubes], w.et0_mm[:, tubes], w.irrigation_mm[:, tubes]),
        )  # fmt: skip


def read(folder: Path) -> Data:
    features = json.loads((folder / "neutronswc.geojson").read_text())["features"]
    features = features[:: full_or(8, 1)]
    tube = np.array(["p" + one["properties"]["tb_label"] for one in features])
    rows = [line.split() for line in (folder / "cotton2018.wth").read_text().splitlines()]
    rows = [row for row in rows if row and row[0].startswith("2018-")]
    day = np.array([int(row[0][5:]) for row in rows])
    rain, et0 = (np.array([float(row[i]) for row in rows]) for i in (9, 10))
    seen = np.full((len(day), len(READ) + len(DEEP), len(tube)), np.nan)
    for n, one in enumerate(features):
        for date, values in one["properties"]["SWLD"].items():
            for k, depth in enumerate(READ + DEEP):
                seen[int(date[4:]) - day[0] - 1, k, n] = values.get(str(depth), np.nan)
    with open(folder / "irrigation.csv", newline="") as file:
        irrigation = np.zeros((len(day), len(tube)))
        for row in csv.DictReader(file):
            irrigation[int(row["DOY"]) - day[0]] += [float(row[name] or 0) for name in tube]
    with open(folder / "waterlimits.csv", newline="") as file:
        limits = {row["PlotID"]: row for row in csv.DictReader(file)}
    ends = (40, 40, 80, 80, 120, 120)
    wilting, capacity = (
        np.array([[float(limits[name][f"{kind}{end:03d}"]) for name in tube] for end in ends])
        for kind in ("SLLL", "SDUL")
    )
    first = int(np.datetime64("2018-01-01").astype(int)) + int(day[0]) - 1
    plot = np.array([name.partition("-")[0] for name in tube])
    rain, et0 = (np.repeat(one[:, None], len(tube), 1) for one in (rain, et0))
    water = Water(first, rain, et0, irrigation)
    layers = len(READ)
    return Data(tube, plot, seen[:, :layers], seen[:, layers:], wilting, capacity, water)


def simulate(
    data: Data,
    x: np.ndarray,
    irrigated: bool = True,
    surface: np.ndarray | None = None,
    layer_mm: float = LAYER_MM,
    profile: bool = True,
) -> np.ndarray:
    """Run the balance from the first reading on; return the water of 0-120 cm (D, N).

    Below the roots the first reading stays. surface: (D, N) values of the surface. Without
    ``profile`` the start is the stated field capacity.
    """
    kcb_ini, kcb_mid, kcb_end, root, p, more, ze, rew = x
    begin = data.begin
    crop = Crop(
        data.water.first, (32, 47, 37, 35), (kcb_ini, kcb_mid, kcb_end), (0.18, root), 1.2, p
    )
    first = data.seen[begin] if profile else data.capacity
    first = np.where(np.isnan(first), np.nanmean(first, axis=0), first)
    # water that stayed through the weeks before the season is below field capacity
    capacity = np.maximum(data.capacity + more, first)
    share = np.clip((100 * root - np.arange(0, 120, 20)) / 20, 0, 1)[:, None]
    zone = share / share.sum()
    soil = RootSoil((zone * data.wilting).sum(0), (zone * capacity).sum(0), ze, rew, layer_mm)
    start = RootStart((zone * first).sum(0), first[0])
    w, rest = data.water, slice(begin + 1, None)
    irrigation = w.irrigation_mm if irrigated else np.zeros_like(w.irrigation_mm)
    water = Water(w.first + begin + 1, w.rain_mm[rest], w.et0_mm[rest], irrigation[rest])
    made = np.full(data.truth.shape, np.nan)
    state = balance_root_zone(soil, crop, water, start, None if surface is None else surface[rest])
    held = 200 * (share * capacity + (1 - share) * first).sum(0)
    made[rest] = held - state.deep_depletion_mm
    return made


def scored(data: Data) -> np.ndarray:
    """Return a mask (D, N) of the readings that count: all but the first day of readings."""
    rows = np.isfinite(data.truth)
    rows[data.begin] = False
    return rows


def rmse(data: Data, made: np.ndarray, rows: np.ndarray) -> float:
    return float(np.sqrt(np.mean((made - data.truth)[rows] ** 2)))


def fit(
    data: Data, most: int, layer_mm: float = LAYER_MM, surface: np.ndarray | None = None
) -> np.ndarray:
    """Fit the balance by least squares."""
    rows = scored(data)

    def inside(z: np.ndarray) -> np.ndarray:
        return LOW + (HIGH - LOW) / (1 + np.exp(-z))

    z = np.log((BEGIN - LOW) / (HIGH - BEGIN))
    simplex = np.vstack([z, z + np.diag(np.full(len(z), 0.7))])
    found = minimize(
        lambda v: rmse(data, simulate(data, inside(v), True, surface, layer_mm), rows),
        z,
        method="Nelder-Mead",
        options={"maxfev": most, "initial_simplex": simplex, "adaptive": True},
    )
    return inside(found.x)


def held_out(data: Data):
    """Yield masks (N,) of the tubes of four plots at a time."""
    plots = np.unique(data.plot)
    for fold in range(4):
        yield np.isin(data.plot, plots[fold::4])


def filtered(data: Data, value: np.ndarray, train: np.ndarray, test: np.ndarray):
    """Apply the exponential filter to the surface; T and the line to mm from the training tubes."""
    day, best = np.arange(len(value), dtype=float), None
    rows = scored(data)
    scale = data.truth[data.begin]
    for days in (5, 10, 15, 20, 30, 40, 60):
        swi = np.stack([exponential_filter(day, v, days) for v in value.T], axis=1)
        x = np.stack([np.ones(swi.shape), swi, np.broadcast_to(scale, swi.shape)], axis=-1)
        use = rows & train & np.isfinite(swi) & np.isfinite(scale)
        line = np.linalg.lstsq(x[use], data.truth[use], rcond=None)[0]
        error = float(np.sqrt(np.mean((x[use] @ line - data.truth[use]) ** 2)))
        if best is None or error < best[0]:
            best = (error, x @ line)
    return np.where(test, best[1], np.nan)


def pyfao56_water(data: Data) -> np.ndarray | None:
    """Run pyfao56 with the stated crop and each tube's limits; (D, N) mm.

    Field capacity is at least the first reading, as in the balance; below the roots the first
    reading stays.
    """
    try:
        import pyfao56
    except ImportError:
        return None
    import pandas as pd

    made = np.full(data.truth.shape, np.nan)
    begin = data.begin
    w, count = data.water, len(data.water.rain_mm)
    keys = [f"2018-{108 + i:03d}" for i in range(count)]
    for n in range(len(data.tube)):
        start, wilting = data.seen[begin, :, n], data.wilting[:, n]
        start = np.where(np.isnan(start), np.nanmean(start), start)
        capacity = np.maximum(data.capacity[:, n], start)
        layers = pyfao56.SoilProfile()
        layers.sdata = pd.DataFrame(
            {"thetaFC": capacity, "thetaWP": wilting, "theta0": start},
            index=[20, 40, 60, 80, 100, 120],
        )
        parameters = pyfao56.Parameters(
            Kcbini=0.15, Kcbmid=1.13, Kcbend=0.52, Lini=32, Ldev=47, Lmid=37, Lend=35, hini=0.05,
            hmax=1.2, thetaFC=capacity.mean(), thetaWP=wilting.mean(),
            theta0=start.mean(), Zrini=0.18,
            Zrmax=STATED[ROOT], pbase=0.65, Ze=0.05, REW=4.0,
        )  # fmt: skip
        weather = pyfao56.Weather()
        weather.rfcrp, weather.z, weather.lat, weather.wndht = "S", 361.0, 33.069, 3.0
        table = {name: np.full(count, np.nan) for name in weather.cnames}
        table |= {"Rain": w.rain_mm[:, n], "ETref": w.et0_mm[:, n], "Wndsp": np.full(count, 2.0)}
        table |= {"RHmin": np.full(count, 45.0), "Tmax": np.full(count, 30.0)}
        table |= {"Tmin": np.full(count, 15.0), "Tdew": np.full(count, 5.0)}
        frame = pd.DataFrame(table, index=keys)
        frame["MorP"] = "M"
        weather.wdata = frame[weather.cnames]
        irrigation = pyfao56.Irrigation()
        for t in np.flatnonzero(w.irrigation_mm[:, n]):
            irrigation.addevent(2018, 108 + int(t), float(w.irrigation_mm[t, n]), 1.0)
        model = pyfao56.Model(keys[0], keys[-1], parameters, weather, irr=irrigation, sol=layers)
        model.run()
        depleted = model.odata["Drmax"].to_numpy(float)
        rooted = np.clip(1000 * STATED[ROOT] - 200 * np.arange(6), 0, 200)
        held = rooted @ capacity + (200 - rooted) @ start
        made[: len(depleted), n] = held - depleted
    return made


def regressed(data: Data) -> np.ndarray:
    """Predict each date from the first profile and the irrigation; (D, N) mm.

    One line per date, fitted to the other plots' readings of that date: it knows the mean of the
    date, which a balance has to compute.
    """
    made = np.full(data.truth.shape, np.nan)
    irrigation = np.cumsum(data.water.irrigation_mm, axis=0)
    for t in np.flatnonzero(scored(data).any(1)):
        three_weeks = irrigation[t] - irrigation[max(t - 21, 0)]
        x = np.stack(
            [np.ones(len(data.tube)), data.truth[data.begin], irrigation[t], three_weeks], 1
        )
        for held in held_out(data):
            use = ~held & np.isfinite(data.truth[t]) & np.isfinite(x).all(1)
            line = np.linalg.lstsq(x[use], data.truth[t, use], rcond=None)[0]
            made[t, held] = x[held] @ line
    return made


def best_for_each_tube(data: Data, rows: np.ndarray, runs: list[np.ndarray]) -> float:
    """Return the RMSE where each tube takes the run (D, N) that suits its own readings best."""
    squares = np.array(
        [np.nansum(np.where(rows, (one - data.truth) ** 2, 0), axis=0) for one in runs]
    )
    return float(np.sqrt(squares.min(0).sum() / rows.sum()))


def print_sources(data: Data, made: np.ndarray) -> None:
    """Print the error of ``made`` (D, N) by source, and what knowledge of a tube would give."""
    rows = scored(data)
    error = np.where(rows, made - data.truth, np.nan)
    of_tube = np.nanmean(error, axis=0)
    of_date = np.full(len(error), np.nan)
    of_date[rows.any(1)] = np.nanmean(error[rows.any(1)], axis=1)

    def root(values: np.ndarray) -> float:
        return float(np.sqrt(np.nanmean(values**2)))

    def say(title: str, value: float) -> None:
        print(f"{title:66s}{value:6.1f}")

    say("balance, fitted, left-out plots", root(error))
    say("  mean error of a tube (standard deviation over tubes)", float(of_tube.std()))
    say("  mean error of a date (standard deviation over dates)", float(np.nanstd(of_date)))
    print("  mean error by day of the year: " + ", ".join(
        f"{108 + t} {of_date[t]:+.0f}" for t in np.flatnonzero(rows.any(1))
    ))  # fmt: skip
    say("  less the mean error of each tube", root(error - of_tube))
    say("  less the mean error of each date", root(error - of_date[:, None]))
    say("  less both", root(error - of_tube - of_date[:, None] + np.nanmean(error)))
    for title, first, last in (
        ("May", 0, 44),
        ("June, July", 44, 105),
        ("from August on", 105, 999),
    ):
        say(f"  {title}", root(error[first:last]))
    days = np.isfinite(data.deep).any((1, 2))
    deep = data.deep[days].mean(1)
    shift = np.full(len(error), np.nan)
    shift[days] = 1200 * np.nanmean(deep - np.nanmean(deep, axis=0), axis=1)
    say("readings: shift of a date common to 160-200 cm, as mm in 0-120 cm", root(shift))
    both = np.isfinite(of_date) & np.isfinite(shift)
    say(
        "  its correlation with the mean error of the date",
        np.corrcoef(of_date[both], shift[both])[0, 1],
    )
    say("  the balance against readings less this shift",
        root(error + (shift - shift[data.begin])[:, None]))  # fmt: skip
    say(
        "no physics: a line for each date from the other plots' readings",
        rmse(data, regressed(data), rows),
    )
    print("stated crop, one number chosen for each tube by its own readings")
    w, factors = data.water, np.arange(0.7, 1.31, 0.05)

    def changed(which: int, values: np.ndarray) -> list[np.ndarray]:
        return [simulate(data, np.r_[STATED[:which], v, STATED[which + 1 :]]) for v in values]

    say("  none", rmse(data, simulate(data, STATED), rows))
    say("  irrigation times 0.7 to 1.3", best_for_each_tube(data, rows, [
        simulate(replace(data, water=replace(w, irrigation_mm=f * w.irrigation_mm)), STATED)
        for f in factors
    ]))  # fmt: skip
    starts = []
    for mm in range(-40, 41, 5):
        seen = data.seen.copy()
        seen[data.begin] += mm / 1200
        starts.append(simulate(replace(data, seen=seen), STATED))
    say("  first profile -40 to +40 mm", best_for_each_tube(data, rows, starts))
    for title, which, values in (
        ("root depth 0.5 to 1.2 m", ROOT, np.arange(0.5, 1.21, 0.05)),
        ("field capacity -0.03 to +0.06", CAPACITY, np.arange(-0.03, 0.061, 0.01)),
        ("K_cb mid 0.8 to 1.4", KCB_MID, np.arange(0.8, 1.41, 0.05)),
    ):
        say(f"  {title}", best_for_each_tube(data, rows, changed(which, values)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=250, help="evaluations of a fit")
    parser.add_argument("--error", type=float, default=0.06, help="of a surface value, m3/m3")
    parser.add_argument("--sources", action="store_true", help="split the error by source")
    arguments = parser.parse_args()
    data = read(arguments.folder)
    rows = scored(data)
    for fold, held in enumerate(held_out(data)):
        part = data.select(~held)
        pair = (rmse(part, simulate(part, STATED, layer_mm=mm), scored(part))
                for mm in (LAYER_MM, ONE_LAYER))  # fmt: skip
        print(
            f"  fold {fold + 1}: stated, training plots: layers, one layer:",
            *(f"{v:.1f}" for v in pair),
        )
    own = np.nanmean(np.where(rows, data.truth, np.nan), axis=0)

    def say(title: str, result: np.ndarray) -> None:
        print(f"{title:58s}{rmse(data, result, rows):6.1f}")

    print(f"{rows.sum()} readings of {len(data.tube)} tubes; RMSE of the water of 0-120 cm, mm")
    more = float(np.nanmean(data.truth[data.begin] - 200 * data.capacity.sum(0)))
    print(f"the first reading is {more:.0f} mm above the stated field capacity, on average")
    say("each tube's own mean", np.broadcast_to(own, rows.shape))
    exact = data.seen[:, 0]
    noisy = exact + np.random.default_rng(0).normal(0, arguments.error, exact.shape)
    say("balance, stated crop and limits, not fitted", simulate(data, STATED))
    say("the same with the noisy surface", simulate(data, STATED, True, noisy))
    stated_start = simulate(data, STATED, profile=False)
    say("the same, started at the stated field capacity", stated_start)
    level = np.nanmean(np.where(rows, stated_start - data.truth, np.nan), axis=0)
    say("  less each tube's mean error", stated_start - level)
    say("  with the noisy surface", simulate(data, STATED, True, noisy, profile=False))
    say("the same, irrigation not known", simulate(data, STATED, False))
    say("the same, irrigation not known, noisy surface", simulate(data, STATED, False, noisy))
    theirs = pyfao56_water(data)
    if theirs is not None:
        say("pyfao56, stated crop and limits, not fitted", theirs)
    for metres in (0.8, 0.828, 1.0, 1.2):
        x = np.r_[STATED[:ROOT], metres, STATED[ROOT + 1 :]]
        say(f"stated roots to {metres} m, layers of {LAYER_MM:g} mm", simulate(data, x))
        say(f"stated roots to {metres} m, one layer", simulate(data, x, layer_mm=ONE_LAYER))
    names = (
        "exponential filter of the exact surface",
        "exponential filter of the noisy surface",
        "balance, fitted",
        "balance of one layer, fitted",
        "the one of these two that fits the training plots better",
        "balance, fitted with the noisy surface",
        "balance, fitted, irrigation not known",
    )
    made = {name: np.full(data.truth.shape, np.nan) for name in names}
    for fold, held in enumerate(held_out(data)):
        part = data.select(~held)
        x = fit(part, arguments.most)
        one = fit(part, arguments.most, ONE_LAYER)
        updated = fit(part, arguments.most, surface=noisy[:, ~held])
        trained = [simulate(part, x), simulate(part, one, layer_mm=ONE_LAYER)]
        of_layers, of_one = (rmse(part, result, scored(part)) for result in trained)
        print(
            f"  fold {fold + 1}: training RMSE {of_layers:.1f} (one layer {of_one:.1f}), "
            + ", ".join(f"{n} {v:.3g}" for n, v in zip(NAMES, x, strict=True))
        )
        results = (
            filtered(data, exact, ~held, held),
            filtered(data, noisy, ~held, held),
            simulate(data, x),
            simulate(data, one, layer_mm=ONE_LAYER),
            simulate(data, x) if of_layers <= of_one else simulate(data, one, layer_mm=ONE_LAYER),
            simulate(data, updated, True, noisy),
            simulate(data, x, False),
        )
        for name, result in zip(names, results, strict=True):
            made[name][:, held] = result[:, held]
    for name, result in made.items():
        say(name, result)
    if arguments.sources:
        print_sources(data, made["balance, fitted"])


if __name__ == "__main__":
    main()
