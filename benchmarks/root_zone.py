"""Water of 0-120 cm at 64 neutron-probe tubes: ``python benchmarks/root_zone.py FOLDER``.

FOLDER is the cotton 2018 data of pyfao56's test 09 (CC0): neutronswc.geojson, waterlimits.csv,
irrigation.csv, cotton2018.wth. The first reading of each tube is the start, the other 1,244 are
scored. What is fitted is fitted on the tubes of twelve plots and scored on the four others.
"""

from __future__ import annotations

import argparse
import csv
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from bench_sizes import full_or
from scipy.optimize import minimize

from kgsm_infer.daily.root_zone import (
    Crop,
    RootSoil,
    RootStart,
    Water,
    balance_root_zone,
    exponential_filter,
)

READ = (10, 30, 50, 70, 90, 110)  # cm, middles of layers of 20 cm
#: Stated for cotton (cotton2018.par of pyfao56): crop of FAO-56, roots to 0.83 m, planted day 108.
STATED = np.array([0.15, 1.13, 0.52, 0.828, 0.65, 0.0, 50.0, 4.0])
LOW = np.array([0.02, 0.8, 0.3, 0.3, 0.3, -0.03, 30.0, 1.0])
HIGH = np.array([0.3, 1.35, 0.9, 1.2, 0.8, 0.08, 150.0, 10.0])
NAMES = ["kcb_ini", "kcb_mid", "kcb_end", "root_m", "p", "capacity+", "ze_mm", "rew_mm"]
BEGIN = np.array([0.12, 1.05, 0.6, 0.8, 0.6, 0.01, 60.0, 5.0])


@dataclass(frozen=True)
class Data:
    """Tubes of a field: tube names (N,), observed moisture (D, 6, N), limits, water and days."""

    tube: np.ndarray
    plot: np.ndarray
    seen: np.ndarray
    wilting: np.ndarray
    capacity: np.ndarray
    water: Water

    @property
    def truth(self) -> np.ndarray:
        """Water of 0-120 cm (D, N) mm."""
        return 200 * self.seen.sum(1)


def read(folder: Path) -> Data:
    features = json.loads((folder / "neutronswc.geojson").read_text())["features"]
    features = features[:: full_or(8, 1)]
    tube = np.array(["p" + one["properties"]["tb_label"] for one in features])
    rows = [line.split() for line in (folder / "cotton2018.wth").read_text().splitlines()]
    rows = [row for row in rows if row and row[0].startswith("2018-")]
    day = np.array([int(row[0][5:]) for row in rows])
    rain, et0 = (np.array([float(row[i]) for row in rows]) for i in (9, 10))
    seen = np.full((len(day), len(READ), len(tube)), np.nan)
    for n, one in enumerate(features):
        for date, values in one["properties"]["SWLD"].items():
            for k, depth in enumerate(READ):
                seen[int(date[4:]) - day[0], k, n] = values.get(str(depth), np.nan)
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
    return Data(tube, plot, seen, wilting, capacity, Water(first, rain, et0, irrigation))


def simulate(data: Data, x: np.ndarray, irrigated: bool, surface: np.ndarray | None = None):
    """Run the balance from the first reading on; return the water of 0-120 cm (D, N).

    Below the roots the first reading stays. surface: (D, N) values of the surface.
    """
    kcb_ini, kcb_mid, kcb_end, root, p, more, ze, rew = x
    begin = int(np.flatnonzero(np.isfinite(data.truth).any(1))[0])
    crop = Crop(
        data.water.first, (32, 47, 37, 35), (kcb_ini, kcb_mid, kcb_end), (0.18, root), 1.2, p
    )
    first = data.seen[begin]
    first = np.where(np.isnan(first), np.nanmean(first, axis=0), first)
    # water that stayed through the weeks before the season is below field capacity
    capacity = np.maximum(data.capacity + more, first)
    share = np.clip((100 * root - np.arange(0, 120, 20)) / 20, 0, 1)[:, None]
    zone = share / share.sum()
    soil = RootSoil((zone * data.wilting).sum(0), (zone * capacity).sum(0), ze, rew)
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
    rows[np.flatnonzero(rows.any(1))[0]] = False
    return rows


def rmse(data: Data, made: np.ndarray, rows: np.ndarray) -> float:
    return float(np.sqrt(np.mean((made - data.truth)[rows] ** 2)))


def fit(data: Data, train: np.ndarray, most: int) -> np.ndarray:
    """Fit the balance to the tubes ``train`` (N,) by least squares."""
    part = Data(
        data.tube[train], data.plot[train], data.seen[:, :, train], data.wilting[:, train],
        data.capacity[:, train],
        Water(data.water.first, *(part[:, train] for part in (
            data.water.rain_mm, data.water.et0_mm, data.water.irrigation_mm))),
    )  # fmt: skip
    rows = scored(part)

    def inside(z: np.ndarray) -> np.ndarray:
        return LOW + (HIGH - LOW) / (1 + np.exp(-z))

    z = np.log((BEGIN - LOW) / (HIGH - BEGIN))
    simplex = np.vstack([z, z + np.diag(np.full(len(z), 0.7))])
    found = minimize(
        lambda v: rmse(part, simulate(part, inside(v), True), rows),
        z,
        method="Nelder-Mead",
        options={"maxfev": most, "initial_simplex": simplex, "adaptive": True},
    )
    return inside(found.x)


def filtered(data: Data, value: np.ndarray, train: np.ndarray, test: np.ndarray):
    """Apply the exponential filter to the surface; T and the line to mm from the training tubes."""
    day, best = np.arange(len(value), dtype=float), None
    rows = scored(data)
    scale = data.truth[np.flatnonzero(np.isfinite(data.truth).any(1))[0]]
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

    Field capacity is at least the first reading, as in the balance; below the roots (0.83 m) the
    first reading stays.
    """
    try:
        import pyfao56
    except ImportError:
        return None
    import pandas as pd

    made = np.full(data.truth.shape, np.nan)
    begin = int(np.flatnonzero(np.isfinite(data.truth).any(1))[0])
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
            Zrmax=0.828, pbase=0.65, Ze=0.05, REW=4.0,
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
        rooted = np.array([200.0, 200, 200, 200, 28, 0])
        held = rooted @ capacity + (200 - rooted) @ start
        made[: len(depleted), n] = held - depleted
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--most", type=int, default=250, help="evaluations of a fit")
    parser.add_argument("--error", type=float, default=0.06, help="of a surface value, m3/m3")
    arguments = parser.parse_args()
    data = read(arguments.folder)
    rows = scored(data)
    own = np.nanmean(np.where(rows, data.truth, np.nan), axis=0)
    print(f"{rows.sum()} readings of {len(data.tube)} tubes; RMSE of the water of 0-120 cm, mm")
    print(f"each tube's own mean                         {rmse(data, own[None], rows):6.1f}")
    rng = np.random.default_rng(0)
    exact = data.seen[:, 0]
    noisy = exact + rng.normal(0, arguments.error, exact.shape)
    made = {
        name: np.full(data.truth.shape, np.nan)
        for name in (
            "exponential filter of the exact surface",
            "exponential filter of the noisy surface",
            "balance, fitted",
            "balance, fitted, noisy surface",
            "balance, irrigation not known",
            "balance, irrigation not known, noisy surface",
        )
    }
    plots = np.unique(data.plot)
    for fold in range(4):
        held = np.isin(data.plot, plots[fold::4])
        x = fit(data, ~held, arguments.most)
        print(
            f"  fold {fold + 1}: "
            + ", ".join(f"{n} {v:.3g}" for n, v in zip(NAMES, x, strict=True))
        )
        results = (
            filtered(data, exact, ~held, held),
            filtered(data, noisy, ~held, held),
            simulate(data, x, True),
            simulate(data, x, True, noisy),
            simulate(data, x, False),
            simulate(data, x, False, noisy),
        )
        for name, result in zip(made, results, strict=True):
            made[name][:, held] = result[:, held]
    for title, irrigated, surface in (
        ("balance, stated crop and limits, not fitted  ", True, None),
        ("the same with the noisy surface              ", True, noisy),
        ("the same, irrigation not known               ", False, None),
    ):
        stated = simulate(data, STATED, irrigated, surface)
        print(f"{title}{rmse(data, stated, rows):6.1f}")
    theirs = pyfao56_water(data)
    if theirs is not None:
        print(f"pyfao56, stated crop and limits, not fitted  {rmse(data, theirs, rows):6.1f}")
    for name, result in made.items():
        print(f"{name:45s}{rmse(data, result, rows):6.1f}")


if __name__ == "__main__":
    main()
