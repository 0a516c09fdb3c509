"""Write small files under the names that the pages use, so that their commands can run.

Every number is simulated. The folder has the layout of a clone: ``project`` is the working folder
and ``shared`` lies beside it.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
import shutil
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from documented import ROOT, Shown, documented
from made_outlines import polygon, square, write_geojson
from made_scenes import Pixels, make_pixels, write_scene, write_tif

#: Days added to the simulated twin, which begins in 2021.
LATER = 900
OZNET = {"y1": 1, "y2": 1, "y3": 2, "y4": 2, "y5": 3, "y6": 4, "y7": 4, "y8": 1, "y9": 2}
ISMN_SITE = "NETX_St1_Probe-A_0.05-0.05m"


def write_rows(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Write rows as CSV, with the keys of the first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def rows_of(path: Path) -> list[dict[str, str]]:
    """Read a CSV file."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def write_export(path: Path, sites: list[str], first: str, count: int, hour: str) -> None:
    """Write an Earth Engine export of Sentinel-1, a pass every sixth day."""
    rng = np.random.default_rng(3)
    rows = [
        {
            "site": site,
            "time": f"{np.datetime64(first) + 6 * at}T{hour}Z",
            "VV": f"{-11 + rng.normal(0, 1.5):.3f}",
            "VH": f"{-17 + rng.normal(0, 1.5):.3f}",
            "angle": "38.5",
            "orbit_pass": "DESCENDING",
            "relative_orbit": "16",
            "pixels": "78",
        }
        for at in range(count)
        for site in sites
    ]
    write_rows(path, rows)


def common(folder: Path, tiny_model: Path) -> None:
    """Write what most pages name: a model, tables, rain, outlines, a scene and examples."""
    from kgsm_train.sources.simulate import Twin, write_twin

    for name in ("model.onnx", "model.core.onnx", "card.json"):
        shutil.copy(tiny_model / name, folder / name)
    weather = folder / "rain.csv"
    write_twin(folder / "spare.csv", Twin(sites=6, years=1, seed=1), weather)
    for path, source in (("table.csv", tiny_model / "twin.csv"), ("rain.csv", weather)):
        rows = rows_of(source)
        for row in rows:
            row["date"] = str(np.datetime64(row["date"]) + LATER)
            if path == "rain.csv":
                row["et0_mm"] = "4.0"
            if "site" in row:
                row["site"] = {"sim001": "north"}.get(row["site"], row["site"])
        write_rows(folder / path, rows)
    for name in ("sites.csv", "new.csv", "observations.csv"):
        shutil.copy(folder / "table.csv", folder / name)
    sites = sorted({row["site"] for row in rows_of(folder / "table.csv")})
    pixels = make_pixels()
    write_scene(folder, pixels)
    shapes = {site: polygon(square(1 + 4 * at, 2, 4 + 4 * at, 15)) for at, site in enumerate(sites)}
    for name in ("fields.geojson", "paddocks.geojson"):
        path = write_geojson(folder / name, shapes)
        content = json.loads(path.read_text())
        for feature in content["features"]:
            feature["properties"]["name"] = feature["properties"]["id"]
            feature["id"] = feature["properties"]["id"]
        path.write_text(json.dumps(content))
    write_export(folder / "kgsm_s1.csv", [*OZNET, ISMN_SITE], "2020-01-02", 20, "19:31:05")
    days = [str(np.datetime64("2020-01-02") + 6 * at) for at in range(20)]
    write_rows(
        folder / "kgsm_ndvi.csv",
        [
            {"site": site, "time": f"{day}T00:10:00Z", "NDVI": "0.4", "sensor": "Sentinel-2"}
            for day in days
            for site in (*OZNET, ISMN_SITE)
        ],
    )
    write_rows(
        folder / "probes.csv",
        [{"site": "y1", "date": f"{day}T19:00:00Z", "sm": "0.21"} for day in days],
    )
    write_stack(folder / "stack.zarr", pixels)
    (folder / "docs").mkdir()
    shutil.copytree(ROOT / "docs/recorded", folder / "docs/recorded")
    shutil.copy(ROOT / "docs/experiments.md", folder / "docs/experiments.md")
    (folder / "examples").mkdir()
    for path in (ROOT / "examples").glob("*.toml"):
        (folder / "examples" / path.name).write_text(shortened(path.read_text()))


def shortened(experiment: str) -> str:
    """Return an experiment with the same inputs and models and the smallest training."""
    for key, value in {
        "epochs": "2",
        "members": "1",
        "hidden": "4",
        "steps": "3",
        "date_blocks": "2",
        "seeds": "[0]",
    }.items():
        experiment = re.sub(rf"^{key} = .*$", f"{key} = {value}", experiment, flags=re.M)
    experiment = re.sub(r"^folds = [1-9].*$", "folds = 2", experiment, flags=re.M)
    # the slow models, which others of their kind stand for
    experiment = re.sub(r'"(forest[\w-]*|lstm[\w-]*|ridge-radar)",?\s*', "", experiment)
    fast = "[crossval]\nbootstrap = 20\ndate_blocks = 2\n"
    return re.sub(r"^\[crossval\]\n", fast, experiment, flags=re.M)


def write_stack(path: Path, pixels: Pixels) -> None:
    """Write the pixels of a scene as a Zarr stack."""
    import xarray

    times = np.array(pixels.dates, "datetime64[ns]")
    variables: dict[str, Any] = {
        name: (("time", "y", "x") if plane.ndim == 3 else ("y", "x"), plane)
        for name, plane in pixels.planes.items()
    }
    height, width = pixels.shape
    axes = {
        "time": times,
        "y": 5650000.0 - 10 * np.arange(height),
        "x": 6e5 + 10 * np.arange(width),
    }
    xarray.Dataset(variables, axes).to_zarr(path)


def anand(folder: Path) -> None:
    """Write simulated tables with the columns of the Anand and Munich tables."""
    rng = np.random.default_rng(4)
    rows: list[dict[str, Any]] = []
    for at in range(14):
        wet = rng.uniform()
        for field in range(1, 17):
            for point in "AB":
                sm = 0.05 + 0.3 * wet + rng.normal(0, 0.03)
                rows.append(
                    {
                        "site": f"{field}{point}",
                        "field": field,
                        "lat": 22.5 + 0.01 * field,
                        "lon": 72.7,
                        "date": np.datetime64("2022-06-16") + 12 * at,
                        "vv_db": round(-18 + 20 * sm + rng.normal(0, 0.5), 3),
                        "vh_db": round(-24 + 20 * sm + rng.normal(0, 0.5), 3),
                        "angle_deg": 40.5,
                        "ndvi": round(rng.uniform(0.2, 0.6), 3),
                        "crop": ("paddy", "fallow")[field % 2],
                        "sm": round(max(sm, 0.01), 4),
                        "sm_copied": at == 3 and field == 1,
                        "source": "simulated",
                    }
                )
    write_rows(folder.parent / "shared/data/anand/dev.csv", rows)
    munich = [
        {
            "site": f"M{row['field']}",
            "date": f"{row['date']} 05:17:15",
            "vh_db": row["vh_db"],
            "vv_db": row["vv_db"],
            "angle_deg": 44.7,
            "ndvi": "",
            "sm": row["sm"],
            "vwc_kg_m2": round(2 * row["ndvi"], 4),
            "orbit": 95,
            "crop": "wheat",
            "source": "simulated",
        }
        for row in rows
        if row["site"].endswith("A")
    ]
    write_rows(folder.parent / "shared/data/mni2017/mni2017.csv", munich)


def oznet(folder: Path) -> None:
    """Write a small copy of the layout of OzNet_AOA, and an archive in ISMN's format."""
    from kgsm_train.sources.oznet import SITES_FILE, STATION_FILE

    root = folder / "OzNet_AOA"
    write_rows(
        root / SITES_FILE,
        [
            {"sitename": site, "lat": "-34.7", "lon": "146.3", "iteration": fold, "cluster": "NA"}
            for site, fold in OZNET.items()
        ],
    )
    rng = np.random.default_rng(6)
    rain = np.round(rng.gamma(0.3, 8, 180), 1)
    for number, site in enumerate(OZNET):
        wet, rows = 0.2, []
        for at in range(180):
            wet = min(0.4, max(0.05, 0.93 * wet + 0.008 * rain[at] + rng.normal(0, 0.004)))
            rows.append(
                {
                    "time": (date(2020, 1, 1) + timedelta(days=at)).isoformat(),
                    **dict.fromkeys(("lat", "lon"), "0.2"),
                    "insitu_sm": f"{wet + 0.004 * number:.4f}",
                    "dem": "127.5",
                    "awc": str(8 + number),
                    "clay": str(round(0.3 + 0.02 * number, 2)),
                    "silt": "0.06",
                    "sand": "0.32",
                    "lst_1km": "NA",
                    "lst_100m": "300.5",
                    "albedo_500m": "0.2",
                    "ndvi_500m": "0.25",
                    "albedo_100m": "0.2",
                    "ndvi_100m": f"{0.3 + 0.1 * np.sin(at / 40 + number):.3f}",
                    "et_100m": "0.2",
                    "tavg": f"{15 + 8 * np.sin(at / 50):.2f}",
                    "vpd": "12.5",
                    "srad": "20.25",
                    "rain": str(rain[at]),
                    "lst_interp_1km": "301.1",
                    "lst_interp_100m": "301.2",
                }
            )
        write_rows(root / STATION_FILE.format(site=site), rows)
    name = "NETX_NETX_St1_sm_0.050000_0.050000_Probe-A_20200101_20201231.stm"
    lines = ["NETX NETX St1 50.00000 10.00000 100.00 0.05 0.05 Probe-A"]
    for at in range(20):
        day = date(2020, 1, 2) + timedelta(days=6 * at)
        lines += [f"{day:%Y/%m/%d} {hour}:00 0.2{at % 10} G OK" for hour in ("19", "20")]
    with zipfile.ZipFile(folder / "NETWORK.zip", "w") as archive:
        archive.writestr(f"NETX/St1/{name}", "\n".join(lines) + "\n")


def daily(folder: Path) -> None:
    """Write a crop as the page prints it, and an irrigation."""
    (crop,) = [
        item.text
        for item in documented(ROOT / "docs/daily.md")
        if item.kind == "listing" and item.text.startswith("planted,")
    ]
    (folder / "crop.csv").write_text(crop.replace("2018-", "2023-"))
    write_rows(folder / "irrigation.csv", [{"paddock": "north", "date": "2023-12-01", "mm": 25}])
    oznet(folder)


def fusion(folder: Path) -> None:
    """Write three fine and four coarse images, and the pairs that the page prints."""
    (pairs,) = [item.text for item in documented(ROOT / "docs/fusion.md") if item.kind == "toml"]
    (folder / "pairs.toml").write_text(pairs)
    rng = np.random.default_rng(1)
    field = rng.random((8, 8)).repeat(5, 0).repeat(5, 1)
    for at, day in enumerate(("2016-02-01", "2016-02-04", "2016-02-07", "2016-02-10")):
        image = 0.2 + 0.1 * at * field + 0.02 * rng.normal(size=field.shape)
        coarse = image.reshape(8, 5, 8, 5).mean(axis=(1, 3)).repeat(5, 0).repeat(5, 1)
        write_tif(folder / f"ndvi/ndvi_{day}_modis.tif", coarse, nodata=-9999)
        if at != 1:
            write_tif(folder / f"ndvi/ndvi_{day}_landsat.tif", image, nodata=-9999)


def scientist(folder: Path) -> None:
    """Write the variants of an experiment."""
    (folder / "base.toml").write_text(shortened((ROOT / "examples/twin.toml").read_text()))
    (folder / "variants.toml").write_text(
        'base = "base.toml"\nseeds = [0]\nreference = "as it is / ridge"\n'
        '[variants."as it is"]\ncrossval.models = ["ridge"]\n'
        '[variants."longer"]\ncrossval.models = ["ridge"]\ninputs.steps = 4\n'
    )
    shutil.copy(folder / "table.csv", folder / "twin.csv")


def optical(folder: Path) -> None:
    """Write products of Landsat and MODIS, a land cover and outlines on them."""
    import rasterio

    crs, west, north = "EPSG:32755", 400000.0, 6150000.0
    clear = 21824

    def write(path: Path, image: Any, step: float, dtype: str = "uint16") -> None:
        transform = rasterio.Affine(step, 0, west, 0, -step, north)
        write_tif(path, image, dtype=dtype, crs=crs, transform=transform, tiled=False)

    for folder_name in (folder, folder / "scenes"):
        for day in ("20160205", "20160308"):
            name = f"LC08_L2SP_092084_{day}_20200824_02_T1"
            numbers = {2: 0.05, 3: 0.08, 4: 0.1, 5: 0.4, 6: 0.25, 7: 0.15}
            for band, value in numbers.items():
                stored = np.full((40, 40), round((value + 0.2) / 2.75e-5))
                write(folder_name / name / f"{name}_SR_B{band}.TIF", stored, 30)
            write(folder_name / name / f"{name}_QA_PIXEL.TIF", np.full((40, 40), clear), 30)
    root = folder / "mcd43a4"
    for number, stored in (
        (1, 1000),
        (2, 4000),
        (3, 500),
        (4, 800),
        (5, 2500),
        (6, 2500),
        (7, 1500),
    ):
        for kind, value in (
            ("Nadir_Reflectance", stored),
            ("BRDF_Albedo_Band_Mandatory_Quality", 0),
        ):
            stem = f"MCD43A4.061_{kind}_Band{number}_doy2016049000000_aid0001.tif"
            dtype = "int16" if kind == "Nadir_Reflectance" else "uint8"
            write(root / stem, np.full((4, 4), value), 463, dtype)
    write(
        folder / "ESA_WorldCover_10m_2021_v200_S36E144_Map.tif", np.full((60, 60), 40), 20, "uint8"
    )
    ring = [
        [west + x, north - y] for x, y in ((60, 60), (960, 60), (960, 960), (60, 960), (60, 60))
    ]
    write_geojson(folder / "paddocks.geojson", {"a": polygon(ring)}, crs)


def fewer_sites(table: Path) -> None:
    """Keep the first six sites of a table, so that training on it is quick."""
    rows = rows_of(table)
    sites = list(dict.fromkeys(row["site"] for row in rows))[:6]
    write_rows(table, [row for row in rows if row["site"] in sites])


def daily_labels(folder: Path) -> None:
    """Write the true state of every day as the labels of a daily fit."""
    rows = [
        {"site": row["site"], "date": row["date"], "sm": row["sm_true"], "source": "simulated"}
        for row in rows_of(folder / "rain.csv")
        if row["site"] != "sim006" and "2023-07" <= row["date"] < "2024-02"
    ]
    write_rows(folder / "table.csv", rows)


def over_the_catalogue(item: Shown, folder: Path, stack: ExitStack) -> Shown:
    """Serve a small catalogue, with outlines on it and a model that reads no soil."""
    from made_catalogue import BOX, Faults, served, static_catalogue
    from made_gateways import made_model

    west, south, east, north = BOX
    ring = [[west, south], [east, south], [east, north], [west, north], [west, south]]
    write_geojson(folder / "paddocks.geojson", {"a": polygon(ring)}, None)
    made_model(folder)
    catalogue = static_catalogue(folder / "catalogue")
    url = stack.enter_context(served(catalogue, Faults()))
    text = item.text.replace("https://planetarycomputer.microsoft.com/api/stac/v1", url)
    shutil.rmtree(folder / "scene", ignore_errors=True)
    return dataclasses.replace(item, text=text.replace("CATALOGUE", str(catalogue)))


def over_the_products(folder: Path, shared_data: Path) -> None:
    """Write Sentinel-1 products of 2024 from real annotation, and what goes with them."""
    from made_safe import around, landsat, of_day, outlines

    root = shared_data / "sentinel1_safe/tests/data"
    real = next(root.glob("*.SAFE"))
    for number, day in enumerate(("20240310", "20240322"), 1):
        made = of_day(real, folder / day, day, 0.02)
        made.rename(folder / made.name.replace("S1B_", f"S1A_{number}"))
    shutil.copy(root / "Rome-30m-DEM.tif", folder / "dem.tif")
    around(folder / "geoid.tif", np.full((3, 3), 48.6, np.float32), 20_000.0)
    around(folder / "clay.tif", np.full((60, 60), 0.3, np.float32), 90.0)
    for day in ("20240305", "20240401"):
        landsat(folder / "landsat", day, 0.4)
    for number, value in ((1, 1000), (2, 3000)):
        for kind, pixel in (
            ("Nadir_Reflectance", value),
            ("BRDF_Albedo_Band_Mandatory_Quality", 0),
        ):
            name = f"MCD43A4.061_{kind}_Band{number}_doy2024070000000_aid0001.tif"
            around(folder / "modis" / name, np.full((12, 12), pixel, np.int16), 500.0)
    outlines(folder / "paddocks.geojson")


#: Page -> what it needs besides :func:`common`.
MORE: dict[str, Callable[[Path], None]] = {
    "docs/accuracy.md": lambda folder: (anand(folder), oznet(folder))[0],
    "docs/daily.md": daily,
    "docs/earth_engine.md": oznet,
    "docs/experiments.md": anand,
    "docs/fusion.md": fusion,
    "docs/howto/scientist.md": scientist,
    "docs/vegetation.md": optical,
}
