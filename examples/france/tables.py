"""Write tables of kgsm from ten-day composites of French fields.

    python examples/france/tables.py dekad_2023_FRA.geoparquet OUT

The file is WorldCereal's extraction for 500 parcels of the French register, 2022-09 to 2024-01
(MIT; Copernicus, AgERA5, RPG). Needs kgsm[parquet]. ``OUT/radar.csv`` has VH, VV, NDVI and air
temperature for each composite. ``OUT/rain.csv`` has one row for each day: a tenth of the ten-day
sum, because the file has no daily rain. 65535 is missing; dB = 20 log10(DN) - 83.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
from numpy.typing import NDArray

from kgsm_infer.tables.table import write_csv

MISSING = 65535
COLUMNS = ("S1-SIGMA0-VH", "S1-SIGMA0-VV", "S2-L2A-B04", "S2-L2A-B08", "AGERA5-PRECIP",
           "AGERA5-TMEAN", "lat", "lon")  # fmt: skip


def main(source: Path, out: Path) -> None:
    """Read the composites; write ``radar.csv`` and ``rain.csv`` into ``out``."""
    file = parquet.read_table(source, columns=["sample_id", "timestamp", *COLUMNS])
    values: dict[str, NDArray[np.float64]] = {}
    for name in COLUMNS:
        stored = file[name].to_numpy().astype(np.float64)
        values[name] = np.where(stored == MISSING, np.nan, stored)
    site = np.array([name.rpartition("_")[2] for name in file["sample_id"].to_pylist()])
    day = file["timestamp"].to_numpy().astype("datetime64[D]")
    with np.errstate(divide="ignore"):
        vh_db, vv_db = (20 * np.log10(values[name]) - 83 for name in COLUMNS[:2])
    red, nir = values["S2-L2A-B04"], values["S2-L2A-B08"]
    out.mkdir(parents=True, exist_ok=True)
    radar = {
        "site": site,
        "date": day.astype(str),
        "vh_db": np.where((vh_db >= -60) & (vh_db < 0), vh_db, np.nan),
        "vv_db": np.where((vv_db >= -60) & (vv_db < 0), vv_db, np.nan),  # buildings are above 0 dB
        "ndvi": (nir - red) / (nir + red),
        "temp_c": values["AGERA5-TMEAN"] / 100 - 273.15,
        "lat": values["lat"],
        "lon": values["lon"],
    }
    rounded = {
        name: np.round(column, 6 if name in ("lat", "lon") else 3)
        if column.dtype.kind == "f"
        else column
        for name, column in radar.items()
    }
    write_csv(out / "radar.csv", rounded)
    known = np.isfinite(values["AGERA5-PRECIP"])
    days = (day[known, None] + np.arange(10)).ravel()
    rain = {
        "site": np.repeat(site[known], 10),
        "date": days.astype(str),
        "rain_mm": np.repeat(values["AGERA5-PRECIP"][known] / 1000, 10),
    }
    # months of 31 days leave an eleventh day without a composite: it stays missing
    first = np.unique(np.stack([rain["site"], rain["date"]]), axis=1, return_index=True)[1]
    write_csv(out / "rain.csv", {name: column[first] for name, column in rain.items()})
    fields = len(np.unique(site))
    print(f"{out}: {len(site)} composites of {fields} fields, {day.min()} to {day.max()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
