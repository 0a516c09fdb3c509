"""Print the typical place of French fields, and the index's response to their rain.

    python benchmarks/typical_place.py dekad_2023_FRA.geoparquet

Data: 500 fields of the French parcel register, 2022-09 to 2024-01, ten-day composites of Sentinel-1
sigma0 (dB = 20 log10(DN) - 83), AgERA5 rain and temperature (WorldCereal, MIT). Needs pyarrow.

The typical place is what a look at an unknown field shows on a day above 5 degrees Celsius (the
thermal growing season): usual is 10 log10 of the mean linear power, swing the standard deviation
over fields and dates. No label enters it.

The gate asks of the shipped index a value for at least 95 % of the looks above 0 degrees Celsius,
and a median over fields of R with rain(t) + 1/2 rain(t-1) of at least .34.
"""

from __future__ import annotations

import sys

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.base import flags
from kgsm_infer.model.index import wetness_model, wetness_of
from kgsm_infer.tables.table import table_from_columns

GROWING_C, THAWED_C = 5.0, 0.0
COLUMNS = {
    "site": "sample_id",
    "time": "timestamp",
    "vh": "S1-SIGMA0-VH",
    "vv": "S1-SIGMA0-VV",
    "red": "S2-L2A-B04",
    "nir": "S2-L2A-B08",
    "rain": "AGERA5-PRECIP",
    "temp": "AGERA5-TMEAN",
}
NODATA = 65535


def read(path: str) -> dict[str, NDArray]:
    """Read the looks in order of field and time; backscatter in dB, rain in mm, degrees Celsius."""
    import pyarrow.parquet as parquet

    raw = parquet.read_table(path, columns=list(COLUMNS.values()))
    data = {name: raw[column].to_numpy() for name, column in COLUMNS.items()}
    order = np.lexsort((data["time"], data["site"]))
    data = {name: values[order] for name, values in data.items()}

    def number(name: str) -> NDArray[np.float64]:
        values = data[name].astype(np.float64)
        return np.where(values == NODATA, np.nan, values)

    with np.errstate(divide="ignore", invalid="ignore"):
        red, nir = number("red"), number("nir")
        return {
            "site": data["site"].astype(np.str_),
            "date": data["time"].astype("datetime64[s]"),
            "vh_db": 20 * np.log10(number("vh")) - 83,
            "vv_db": 20 * np.log10(number("vv")) - 83,
            "ndvi": (nir - red) / (nir + red),
            "rain_mm": number("rain") / 100,
            "temp_c": number("temp") / 100 - 273.15,
        }


def typical_place(vh_db: NDArray[np.float64]) -> tuple[float, float]:
    """Return 10 log10 of the mean power, and the standard deviation, of looks (N,), dB."""
    return 10 * np.log10(np.mean(10 ** (vh_db / 10))), float(np.std(vh_db))


def median_r(
    site: NDArray, value: NDArray[np.float64], rain: NDArray[np.float64], rows: NDArray[np.bool_]
) -> float:
    """Return the fields' median correlation of ``value`` with ``rain`` (N,), over ``rows``."""
    rows = rows & np.isfinite(value) & np.isfinite(rain)
    found = []
    for name in np.unique(site):
        here = rows & (site == name)
        if here.sum() >= 10:
            found.append(np.corrcoef(value[here], rain[here])[0, 1])
    return float(np.median(found))


def main(path: str) -> None:
    looks = read(path)
    site, vh_db, temp_c = looks["site"], looks["vh_db"], looks["temp_c"]
    known = np.isfinite(vh_db)
    usual, swing = typical_place(vh_db[known & (temp_c > GROWING_C)])
    print(
        f"typical place: usual {usual:.2f} dB, swing {swing:.2f} dB "
        f"({int((known & (temp_c > GROWING_C)).sum())} looks of {len(np.unique(site))} fields)"
    )
    columns = {name: looks[name] for name in ("site", "date", "vh_db", "vv_db", "ndvi", "temp_c")}
    reads = wetness_model().columns_read()
    table = table_from_columns(columns, path, reads=reads)
    for note in table.notes:
        print(note)
    result = wetness_of(table)
    thawed = temp_c > THAWED_C
    share = np.isfinite(result.sm[thawed]).mean()
    before = np.r_[np.nan, looks["rain_mm"][:-1]]
    before[np.r_[True, site[1:] != site[:-1]]] = np.nan
    rain = looks["rain_mm"] + 0.5 * before
    print(f"looks above 0 C: {int(thawed.sum())} of {len(site)}; with a number {share:.1%}")
    r_index = median_r(site, result.sm.astype(np.float64), rain, thawed)
    r_vh = median_r(site, vh_db, rain, thawed)
    print(
        f"median over fields of R with rain(t) + 1/2 rain(t-1): {r_index:.3f} (raw VH {r_vh:.3f})"
    )
    flagged = (result.flags & flags.DENSE_VEGETATION) != 0
    print(f"dense_vegetation: {int(flagged.sum())} looks")


if __name__ == "__main__":
    main(sys.argv[1])
