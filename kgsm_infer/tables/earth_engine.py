"""Read an Earth Engine export of Sentinel-1 at points under the names of the contract.

docs/earth_engine.md has the script that writes it: ``site,time,VV,VH,angle,orbit_pass,
relative_orbit,pixels``, VV and VH sigma0 in dB (``S1_GRD``), the angle in degrees, time in UTC.
"""

from __future__ import annotations

from dataclasses import replace

from .parsing import MISSING
from .reading import Sheet
from .text_column import texts_of

#: Column of the export -> column of the contract.
NAMES = {"time": "date", "VH": "vh_db", "VV": "vv_db", "angle": "angle_deg", "NDVI": "ndvi"}
#: Columns that together are written by this script only.
SIGNATURE = ("site", "time", "angle", "orbit_pass", "relative_orbit")


def is_export(sheet: Sheet) -> bool:
    """Return True for a table with the columns of the script and no name of the contract."""
    columns = sheet.columns
    return (
        all(name in columns for name in SIGNATURE)
        and ("VH" in columns or "VV" in columns)
        and not any(name in columns for name in NAMES.values())
    )


def under_contract_names(sheet: Sheet) -> Sheet:
    """Rename the columns of an export; ``orbit`` is the pass and relative orbit as one word.

    Any other table is returned as it is.
    """
    if not is_export(sheet):
        return sheet
    columns = {NAMES.get(name, name): cells for name, cells in sheet.columns.items()}
    if "orbit" not in columns:
        parts = (texts_of(columns.pop("orbit_pass")), texts_of(columns.pop("relative_orbit")))
        words = [[cell for cell in row if cell not in MISSING] for row in zip(*parts, strict=True)]
        columns["orbit"] = ["-".join(row) for row in words]
    return replace(sheet, columns=columns)
