"""``kgsm-train data``: convert published files to the table of design §3."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kgsm_infer.base.command import note, say
from kgsm_infer.base.errors import DataError, KgsmError, UsageError
from kgsm_infer.base.files import RESULTS, preflight
from kgsm_infer.base.help import GroupedCommands
from kgsm_infer.base.plugins import Provided, not_callable

if TYPE_CHECKING:
    from .columns import Sourced

#: Readers of other packages: a function of a path that returns the columns of a table.
SOURCES = Provided("kgsm.sources", not_callable)


class _Commands(GroupedCommands):
    """The commands of this module, and one for each reader of another package."""

    def list_commands(self, ctx: Any) -> list[str]:
        own = super().list_commands(ctx)
        return [*own, *(name for name in SOURCES if name not in own)]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        own = super().get_command(ctx, cmd_name)
        if own is not None or cmd_name not in SOURCES:
            return own
        return _command_of(cmd_name, SOURCES[cmd_name])


app = typer.Typer(
    cls=_Commands,
    help="Tables from OzNet, ISMN and Earth Engine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

OutOption = Annotated[Path, typer.Option("--output", "-o", help="CSV or Parquet file to write")]
UnitOption = Annotated[str, typer.Option(help="unit of VV and VH: db (S1_GRD) or linear")]
ToleranceOption = Annotated[
    float, typer.Option(help="greatest gap between an acquisition and its label")
]


@app.command()
def oznet(
    folder: Annotated[Path, typer.Argument(help="copy of OzNet_AOA", metavar="FOLDER")],
    output: OutOption,
    every: Annotated[int, typer.Option(min=1, help="keep every n-th day, 6 or 12 as radar")] = 1,
    since: Annotated[str, typer.Option("--from", help="first day, such as 2016-01-01")] = "",
    until: Annotated[str, typer.Option("--to", help="last day")] = "",
    without: Annotated[str, typer.Option(help="stations to leave out, such as y7,y8,y9")] = "",
    swap_clay_sand: Annotated[
        bool, typer.Option("--swap-clay-sand", help="exchange the columns clay and sand")
    ] = False,
    backscatter: Annotated[
        Path | None, typer.Option(help="Earth Engine export of Sentinel-1 at the stations")
    ] = None,
    unit: UnitOption = "db",
    tolerance_hours: ToleranceOption = 12.0,
    simulated: Annotated[
        bool,
        typer.Option(
            "--simulate-backscatter", help="simulate VH from the labels, marked simulated"
        ),
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="seed of the simulated speckle")] = 0,
    download: Annotated[
        bool, typer.Option("--download", help="first download the files that FOLDER lacks")
    ] = False,
    commit: Annotated[str, typer.Option(help="commit to download instead of the pinned one")] = "",
) -> None:
    """Make a table of the OzNet repository.

    Daily, or one row per acquisition with --backscatter.
    Example: kgsm-train data oznet OzNet_AOA --download --every 6 -o oznet.csv
    """
    from .join import Join
    from .oznet import (
        UTC_OFFSET_HOURS,
        Choice,
        read_oznet,
        simulate_backscatter,
        with_backscatter,
    )
    from .oznet_download import COMMIT, download_oznet

    if backscatter is not None and (simulated or every > 1):
        raise UsageError(
            "--backscatter has dates and radar; omit --every and --simulate-backscatter"
        )
    if commit and not download:
        raise UsageError("--commit needs --download")
    preflight([output], [backscatter], suffixes=RESULTS, what="tables")
    choice = Choice(every, since, until, _names(without), swap_clay_sand)
    if download:
        fetched, kept = download_oznet(folder, commit=commit or COMMIT)
        note(f"{folder}: {fetched} files downloaded, {kept} already present")
    table = read_oznet(folder, choice)
    if simulated:
        table = simulate_backscatter(table, seed)
    if backscatter is not None:
        join = Join(tolerance_hours=tolerance_hours, utc_offset_hours=UTC_OFFSET_HOURS)
        table = with_backscatter(table, backscatter, unit, join)
    _write(output, table)


@app.command()
def ismn(
    archives: Annotated[list[Path], typer.Argument(help="zip files or folders", metavar="ARCHIVE")],
    output: OutOption,
    min_depth: Annotated[float, typer.Option(help="upper end of the sensors, m")] = 0.0,
    max_depth: Annotated[float, typer.Option(help="lower end of the sensors, m")] = 0.051,
    flag: Annotated[str, typer.Option(help="quality flags that are good, such as G,U")] = "G",
    when: Annotated[
        str, typer.Option(help="daily (mean of the UTC day), every, or a UTC time such as 19:30")
    ] = "daily",
) -> None:
    """Make a table of International Soil Moisture Network archives.

    Surface sensors, good readings.
    Example: kgsm-train data ismn NETWORK.zip -o in_situ.csv
    """
    from .ismn import SensorSelection, read_ismn

    preflight([output], archives, suffixes=RESULTS, what="tables")
    _write(output, read_ismn(archives, SensorSelection(min_depth, max_depth, _names(flag), when)))


@app.command()
def gee(
    backscatter: Annotated[Path, typer.Argument(help="Earth Engine export", metavar="EXPORT")],
    output: OutOption,
    in_situ: Annotated[
        Path | None,
        typer.Option("--in-situ", help="labels: table with site, date, sm; or a logger's file"),
    ] = None,
    ndvi: Annotated[Path | None, typer.Option(help="Earth Engine export of NDVI")] = None,
    ndvi_gap_days: Annotated[float, typer.Option(help="greatest gap to an NDVI")] = 16.0,
    unit: UnitOption = "db",
    tolerance_hours: ToleranceOption = 12.0,
    utc_offset_hours: Annotated[
        float | None, typer.Option(help="local time of the labels; Yanco 10")
    ] = None,
    keep: Annotated[
        str, typer.Option(help="for conflicting duplicate rows: first, last or mean")
    ] = "refuse",
    site: Annotated[str, typer.Option(help="site of a logger's file; its title by default")] = "",
    in_situ_column: Annotated[
        str, typer.Option(help="soil moisture column of a logger's file")
    ] = "",
    date_order: Annotated[str, typer.Option(help="order in a logger's 06/10/22: mdy or dmy")] = "",
) -> None:
    """Make a table of Earth Engine exports of Sentinel-1 at points.

    --in-situ adds soil moisture by site and time; --ndvi adds vegetation.
    Example: kgsm-train data gee kgsm_s1.csv --in-situ in_situ.csv -o table.csv
    """
    from .earth_engine import read_earth_engine
    from .join import Join
    from .loggers import Logger

    preflight([output], [backscatter, in_situ, ndvi], suffixes=RESULTS, what="tables")
    join = Join(tolerance_hours, utc_offset_hours, ndvi_gap_days)
    logger = Logger(site, in_situ_column, date_order)
    _write(output, read_earth_engine(backscatter, in_situ, ndvi, unit, join, keep, logger))


def _command_of(name: str, reader: Any) -> Any:
    """Return the command that writes the table of another package's reader."""
    one = typer.Typer(add_completion=False, rich_markup_mode=None)

    def convert(
        path: Annotated[Path, typer.Argument(help="file or folder to read", metavar="PATH")],
        output: OutOption,
    ) -> None:
        from .columns import Sourced

        preflight([output], [path], suffixes=RESULTS, what="tables")
        try:
            columns = dict(reader(path))
        except KgsmError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{path}: source {name} failed with {type(error).__name__}: {error}"
            ) from error
        _write(output, Sourced(columns))

    described = str(reader.__doc__ or "").strip() or f"Make a table with the source {name}."
    one.command(
        name,
        help=f"{described.splitlines()[0]}\n\nExample: kgsm-train data {name} PATH -o table.csv",
    )(convert)
    return typer.main.get_command(one)


def _write(output: Path, table: Sourced) -> None:
    from .columns import write_source

    rows = write_source(output, table)
    for remark in table.notes:
        note(remark)
    say(f"{output}: {rows} rows of {len(set(table.columns['site']))} sites", output)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())
