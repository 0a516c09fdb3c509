"""Commands ``kgsm-infer isolate`` and ``invert``: the water cloud model alone, on a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.command import notes, say
from ..base.files import RESULTS, preflight

if TYPE_CHECKING:
    from ..tables.table import Table

TableArgument = Annotated[Path, typer.Argument(help="CSV or Parquet table", metavar="TABLE")]
OutOption = Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet file to write")]
A = Annotated[float, typer.Option("--a", help="A of Eq 2, linear power")]
B = Annotated[float, typer.Option("--b", help="B of Eq 5, m2 per kg")]
E = Annotated[float, typer.Option("--e", help="E of Eq 2")]
Pol = Annotated[str, typer.Option("--polarisation", help="polarisation: vh or vv")]
Vegetation = Annotated[
    str, typer.Option("--vegetation", help="column of the vegetation: ndvi or vwc_kg_m2")
]
Angle = Annotated[
    str,
    typer.Option(
        "--angle", help="incidence angle: degrees of all rows, column (angle_deg) or normalise"
    ),
]


def isolate(
    table: TableArgument,
    output: OutOption,
    a: A,
    b: B = 0.084,
    e: E = 0.0,
    polarisation: Pol = "vh",
    vegetation: Vegetation = "ndvi",
    angle: Angle = "40",
) -> None:
    """Compute the soil backscatter below the vegetation (Eq 12).

    Writes soil_db, soil_fraction and flags, one row per row of TABLE.

    Example: kgsm-infer isolate observations.csv -o soil.csv --a 0.02
    """
    from .output import summary, write_isolated
    from .wcm_table import isolate_table, wcm_of

    preflight([output], [table], suffixes=RESULTS)
    observations = read_rows(table, polarisation, vegetation)
    soil = isolate_table(observations, wcm_of(a, b, e, vegetation, angle), polarisation)
    write_isolated(output, observations, soil)
    say(f"{output}: {summary(soil.soil_db, soil.flags)}", output)


def invert(
    table: TableArgument,
    output: OutOption,
    a: A,
    c: Annotated[float, typer.Option("--c", help="C of Eq 3, dB")],
    d: Annotated[float, typer.Option("--d", help="D of Eq 3, dB per m3/m3")],
    b: B = 0.084,
    e: E = 0.0,
    polarisation: Pol = "vh",
    vegetation: Vegetation = "ndvi",
    angle: Angle = "40",
) -> None:
    """Retrieve soil moisture by the water cloud model (Eq 6).

    Writes sm, soil_db and flags, one row per row of TABLE.

    Example: kgsm-infer invert observations.csv -o sm.csv --a 0.02 --c -20 --d 25
    """
    from .output import summary, write_retrieval
    from .wcm_table import invert_table, wcm_of

    preflight([output], [table], suffixes=RESULTS)
    observations = read_rows(table, polarisation, vegetation)
    result = invert_table(observations, wcm_of(a, b, e, vegetation, angle), polarisation, c, d)
    write_retrieval(output, observations, result)
    say(f"{output}: {summary(result.sm, result.flags)}", output)


def read_rows(path: Path, polarisation: str, vegetation: str) -> Table:
    """Read the columns of the water cloud model; rows may repeat a site and time. Print notes."""
    from ..tables.columns import FROZEN_BY
    from ..tables.table import read_table

    read = (f"{polarisation}_db", vegetation, "angle_deg", *FROZEN_BY)
    table = read_table(path, once=False, reads=read)
    notes(table.notes)
    return table
