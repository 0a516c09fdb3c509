"""Commands ``kgsm-infer prepare``: parse, call one function of this package, print."""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from ..base.help import GroupedCommands

PLACE, RADAR, TERRAIN, OTHER = "Place and days", "Radar", "Terrain", "Other layers"

app = typer.Typer(cls=GroupedCommands, no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[
    Path, typer.Option("--output", "-o", help="folder to write to", rich_help_panel=PLACE)
]
Fields = Annotated[
    Path | None,
    typer.Option(
        "--fields", help="paddock outlines; their bounds are prepared", rich_help_panel=PLACE
    ),
]
Bounds = Annotated[
    str | None,
    typer.Option(
        "--bounds",
        help="bounds instead of --fields: west,south,east,north in degrees",
        rich_help_panel=PLACE,
    ),
]
Crs = Annotated[
    str | None,
    typer.Option("--crs", help="CRS of the grid; default: its UTM zone", rich_help_panel=PLACE),
]
Resolution = Annotated[
    float, typer.Option("--resolution", help="pixel size, m", rich_help_panel=PLACE)
]
Heights = Annotated[
    str | None,
    typer.Option(
        "--heights",
        help="vertical datum of a DEM that states none: ellipsoid, egm96 or egm2008",
        rich_help_panel=TERRAIN,
    ),
]
Geoid = Annotated[
    Path | None,
    typer.Option(
        "--geoid", help="raster of the geoid height above the ellipsoid, m", rich_help_panel=TERRAIN
    ),
]
Gamma0 = Annotated[
    bool, typer.Option("--gamma0", help="write terrain-flattened gamma0", rich_help_panel=RADAR)
]
Collection = Annotated[
    list[str] | None,
    typer.Option(
        "--collection", help="collection id; repeatable; default: all", rich_help_panel=RADAR
    ),
]
Radar = Annotated[
    str | None,
    typer.Option(
        "--radar",
        help="radar quantity: gamma0, sigma0, gamma0_db or sigma0_db",
        rich_help_panel=RADAR,
    ),
]
AngleDeg = Annotated[
    float | None,
    typer.Option(
        "--angle", help="incidence angle in degrees of items that state none", rich_help_panel=RADAR
    ),
]
BoaOffset = Annotated[
    float | None,
    typer.Option(
        "--boa-offset",
        help="added to Sentinel-2 numbers whose processing baseline is not stated: -1000 or 0",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="show the plan and end")]
Method = Annotated[
    str,
    typer.Option(
        help="linear, linear-anomaly, estarfm, estarfm-v1, unbiased (the paper's) or "
        "unbiased-window"
    ),
]
FirstDay = Annotated[str | None, typer.Option("--from", help="first day, 2016-02-05")]
LastDay = Annotated[str | None, typer.Option("--to", help="last day", rich_help_panel=PLACE)]
Radius = Annotated[int, typer.Option("--radius", help="half width of the window, pixels")]
Patch = Annotated[
    int, typer.Option("--patch", help="side of the patches over which sigma is computed, pixels")
]


@app.callback(invoke_without_command=True)
def prepare(
    context: typer.Context,
    fields: Fields = None,
    bounds: Bounds = None,
    start: Annotated[
        str | None, typer.Option("--from", help="first day", rich_help_panel=PLACE)
    ] = None,
    end: Annotated[str | None, typer.Option("--to", help="last day", rich_help_panel=PLACE)] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="folder to write to", rich_help_panel=PLACE),
    ] = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    safe: Annotated[
        list[Path] | None,
        typer.Option(
            "--safe",
            help=".SAFE folder of a GRD product; repeatable; needs --dem",
            rich_help_panel=RADAR,
        ),
    ] = None,
    dem: Annotated[
        list[Path] | None,
        typer.Option("--dem", help="DEM; repeatable for tiles", rich_help_panel=TERRAIN),
    ] = None,
    heights: Heights = None,
    geoid: Geoid = None,
    gamma0: Gamma0 = False,
    catalogue: Annotated[
        str | None,
        typer.Option(
            "--catalogue", help="STAC API, or catalog.json of a static one", rich_help_panel=RADAR
        ),
    ] = None,
    collection: Collection = None,
    radar: Radar = None,
    angle: AngleDeg = None,
    optical: Annotated[
        list[Path] | None,
        typer.Option(
            "--optical",
            help="folder of Landsat or Sentinel-2 products; repeatable",
            rich_help_panel=OTHER,
        ),
    ] = None,
    coarse: Annotated[
        list[Path] | None,
        typer.Option(
            "--coarse",
            help="folder of MODIS products for fusion; repeatable",
            rich_help_panel=OTHER,
        ),
    ] = None,
    static: Annotated[
        list[str] | None,
        typer.Option(
            "--static",
            help="static layer, such as clay=clay.tif; repeatable",
            rich_help_panel=OTHER,
        ),
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Make the inputs that map and paddocks read.

    Without a subcommand, make all of them for a place and a range of days.

    Example: kgsm-infer prepare --fields fields.geojson --from 2024-01-01 --to 2024-06-30 -o scene
    --catalogue URL
    """
    if context.invoked_subcommand is not None:
        return
    from ..base.errors import UsageError
    from ..base.progress import pixels_bar
    from .catalogue import day
    from .grids import grid_of_option
    from .heights import Terrain
    from .scene import Sources, Target, prepare_scene, statics_of

    if start is None or end is None or output is None:
        raise UsageError("name the days with --from and --to, and a folder with --output")
    sources = Sources(
        safes=tuple(safe or ()),
        terrain=Terrain(tuple(dem), heights, geoid) if dem else None,
        catalogue=catalogue,
        collections=tuple(collection or ()),
        optical=tuple(optical or ()),
        coarse=tuple(coarse or ()),
        statics=statics_of(static or []),
        radar=radar,
        angle_deg=angle,
        gamma0=gamma0,
    )
    grid = grid_of_option(fields, bounds, resolution, crs)
    target = Target(grid, (day(start, "--from"), day(end, "--to")), output)
    for line in prepare_scene(sources, target, pixels_bar, dry_run):
        print(line)


@app.command()
def sigma0(
    products: Annotated[list[Path], typer.Argument(help=".SAFE folders of GRD products")],
    output: Folder,
    dem: Annotated[
        list[Path], typer.Option("--dem", help="DEM; repeatable for tiles", rich_help_panel=TERRAIN)
    ],
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    heights: Heights = None,
    geoid: Geoid = None,
    polarisation: Annotated[
        list[str] | None, typer.Option("--polarisation", help="vh or vv; repeatable; default: all")
    ] = None,
    gamma0: Gamma0 = False,
    keep_noise: Annotated[
        bool, typer.Option("--keep-noise", help="do not remove thermal noise")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and end")] = False,
) -> None:
    """Compute backscatter and angle from Sentinel-1 GRD.

    Calibrates, removes thermal noise, corrects for terrain, and resamples to a grid.

    Example: kgsm-infer prepare sigma0 S1A.SAFE --dem dem.tif --fields fields.geojson -o scene
    """
    from ..base.errors import MissingError
    from ..base.progress import pixels_bar
    from .grids import grid_of_option
    from .heights import Terrain, surface_of
    from .manifests import write_pass_manifests
    from .sampling import Options
    from .sigma0 import looks_of, passes_of, prepare_each, prepare_pass

    grid = grid_of_option(fields, bounds, resolution, crs)
    terrain = Terrain(tuple(dem), heights, geoid)
    options = Options(tuple(polarisation or ()), gamma0, not keep_noise)
    search = passes_of(products)
    passes = search.passes
    for name, why in search.left_out.items():
        print(f"left out {name}: {why}")
    try:
        how = surface_of(terrain).how
    except MissingError as error:  # the plan needs no geoid, the run does
        if not dry_run:
            raise
        how = f"not available yet: {error}"
    looks = looks_of(grid, passes[0][0].pixel_spacing_m)
    print(f"grid: {grid.height} x {grid.width} pixels of {resolution:g} m, {looks} x {looks} looks")
    print(f"heights: {how}")
    if dry_run:
        for frames in passes:
            first = frames[0]
            print(f"{first.pass_id}: {len(frames)} frames, {', '.join(first.channels)}")
        return
    prepare = partial(prepare_pass, terrain=terrain, grid=grid, folder=output, options=options)
    for line in prepare_each(passes, prepare, pixels_bar):
        print(line)
    for path in write_pass_manifests(output, "gamma0" if gamma0 else "sigma0"):
        print(path)


@app.command()
def fuse(
    pairs: Annotated[Path, typer.Argument(help="manifest of fine and coarse images, TOML")],
    output: Folder,
    method: Method = "linear-anomaly",
    start: FirstDay = None,
    end: LastDay = None,
    threads: Annotated[
        int, typer.Option(min=1, help="number of blocks of rows computed in parallel")
    ] = 2,
    radius: Radius = 25,
    patch: Patch = 200,
    dry_run: DryRun = False,
) -> None:
    """Fuse fine and coarse images to daily fine images.

    Fuses NDVI, albedo or temperature.

    Call it again to continue an interrupted run.

    Example: kgsm-infer prepare fuse pairs.toml -o fused
    """
    from ..base.progress import pixels_bar
    from .fuse import Run, fuse_series, make_plan, present_shares
    from .pairs import read_pairs

    opened = read_pairs(pairs)
    run = Run(method, _day(start, "--from"), _day(end, "--to"), radius, patch, threads)
    run.rule(opened)
    plan = make_plan(opened, run, present_shares(opened))
    for reason in plan.skipped:
        print(f"note: {reason}")
    if dry_run:
        for interval in plan.intervals:
            ends = [str(opened.fine_days[i]) for i in (interval.before, interval.after)]
            print(f"{ends[0]} to {ends[1]}: {len(interval.days)} days by {method}")
        print(f"{len(plan.measured)} days have a measured image")
        return
    with pixels_bar(output.name) as progress:
        days = fuse_series(opened, output, run, plan, progress)
    fused = [day for day in days if day.source == "fused"]
    kept = sum(day.kept for day in days)
    missing = sum(day.missing for day in fused) / max(1, sum(day.pixels for day in fused))
    print(
        f"{output}: {len(fused)} days fused by {method}, {len(days) - len(fused)} measured, "
        f"{kept} kept from an earlier run; {missing:.1%} of the fused pixels missing"
    )
    if opened.simulated:
        print("note: made from simulated images", file=sys.stderr)


@app.command("fuse-methods")
def fuse_methods(
    pairs: Annotated[Path, typer.Argument(help="manifest of fine and coarse images, TOML")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="CSV file with the scores of each image")
    ] = None,
    method: Annotated[
        list[str] | None,
        typer.Option("--method", help="method to compare; repeatable; default: all"),
    ] = None,
    detail: Annotated[
        int,
        typer.Option(
            "--detail",
            min=1,
            help="radius in pixels of the mean that is subtracted to get the detail",
        ),
    ] = 25,
    threads: Annotated[
        int, typer.Option(min=1, help="number of blocks of rows computed in parallel")
    ] = 2,
    radius: Radius = 25,
    patch: Patch = 200,
) -> None:
    """Compare the methods of fusion.

    Leaves out each fine image, predicts it by every method and scores the result.

    Example: kgsm-infer prepare fuse-methods pairs.toml
    """
    from ..base.progress import pixels_bar
    from .compare import leave_one_out, report_text, write_scores
    from .fuse import Run
    from .methods import METHODS
    from .pairs import read_pairs

    opened = read_pairs(pairs)
    chosen = tuple(method or METHODS)
    for name in chosen:
        Run(name, radius=radius, patch=patch).rule(opened)
    run = Run(radius=radius, patch=patch, threads=threads)
    with pixels_bar(pairs.name) as progress:
        found = leave_one_out(opened, run, chosen, detail, progress)
    if output is not None:
        write_scores(output, opened, found)
    print(report_text(opened, found))


@app.command()
def ndvi(
    products: Annotated[list[Path], typer.Argument(help="folders of optical products")],
    output: Folder,
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    albedo: Annotated[bool, typer.Option("--albedo", help="also write broadband albedo")] = False,
    worldcover: Annotated[
        Path | None, typer.Option("--worldcover", help="ESA WorldCover map; also write VWC and B")
    ] = None,
    boa_offset: BoaOffset = None,
    keep_snow: Annotated[bool, typer.Option("--keep-snow", help="keep pixels under snow")] = False,
    dry_run: DryRun = False,
) -> None:
    """Compute NDVI from reflectance, with clouds masked.

    Reads Landsat, Sentinel-2 or MODIS products; also writes albedo and VWC on request.

    Example: kgsm-infer prepare ndvi S2A.SAFE --fields fields.geojson -o scene
    """
    from ..base.progress import pixels_bar
    from .grids import grid_of_option
    from .ndvi import Wanted, prepare_ndvi, summary
    from .products import find_products

    asked = fields is not None or bounds is not None
    grid = grid_of_option(fields, bounds, resolution, crs) if asked else None
    search = find_products(products, boa_offset)
    found = search.images
    for name, why in search.left_out.items():
        print(f"left out {name}: {why}")
    if dry_run:
        for item in found:
            print(f"{item.day} {item.product.title}: {item.name}")
        return
    wanted, left_out = Wanted(grid, albedo, worldcover, keep_snow), list[str]()
    with pixels_bar(output.name) as progress:
        days = prepare_ndvi(found, output, wanted, progress, left_out.append)
    for line in left_out:
        print(line)
    for day in days:
        print(summary(day))


@app.command()
def stack(
    catalogue: Annotated[
        str, typer.Argument(help="STAC API, or catalog.json of a static one", rich_help_panel=RADAR)
    ],
    output: Folder,
    start: Annotated[str, typer.Option("--from", help="first day", rich_help_panel=PLACE)],
    end: Annotated[str, typer.Option("--to", help="last day", rich_help_panel=PLACE)],
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    collection: Collection = None,
    radar: Radar = None,
    angle: AngleDeg = None,
    boa_offset: BoaOffset = None,
    sign: Annotated[
        str | None, typer.Option("--sign", help="service that signs the URL of a file (?href=)")
    ] = None,
    whole_mb: Annotated[
        float,
        typer.Option("--whole-mb", min=0, help="size in MB above which a file is read by windows"),
    ] = 64.0,
    dry_run: DryRun = False,
) -> None:
    """Make a scene from a STAC catalogue.

    Takes the radar passes and cloud-free NDVI of a place, and keeps relative orbits apart.

    Example: kgsm-infer prepare stack URL --fields fields.geojson --from 2024-01-01 --to 2024-06-30
    -o scene
    """
    from ..base.progress import pixels_bar
    from .catalogue import Search, day, find, signer
    from .grids import grid_of_option, lon_lat_box
    from .stack import StackOptions, planned, prepare_stack, report_lines

    options = StackOptions(radar, boa_offset, angle, whole_mb=whole_mb)
    grid = grid_of_option(fields, bounds, resolution, crs)
    dates = day(start, "--from"), day(end, "--to")
    found = find(catalogue, Search(lon_lat_box(grid), *dates, tuple(collection or ())))
    print(f"{catalogue}: {len(found.items)} of {found.looked_at} items, {found.how}")
    if dry_run:
        print("\n".join(planned(found, options)))
        return
    options = replace(options, sign=signer(catalogue, sign))
    with pixels_bar(output.name) as progress:
        report = prepare_stack(catalogue, found, grid, output, options, progress)
    print("\n".join(report_lines(report, output)))


@app.command()
def weather(
    output: Annotated[Path, typer.Option("--output", "-o", help=".csv or .parquet")],
    start: Annotated[str, typer.Option("--from", help="first day", rich_help_panel=PLACE)],
    end: Annotated[str, typer.Option("--to", help="last day; Open-Meteo has 15 days of forecast")],
    fields: Annotated[Path, typer.Option("--fields", help="paddock outlines")],
    service: Annotated[
        str, typer.Option("--service", help="open-meteo, power (NASA) or silo (Australia)")
    ] = "open-meteo",
    id_property: Annotated[
        str | None,
        typer.Option("--id", help="property with the name of a paddock; default: its id"),
    ] = None,
    email: Annotated[
        str, typer.Option("--email", help="your email address; required by SILO")
    ] = "",
    cache: Annotated[
        Path | None,
        typer.Option("--cache", help="folder of the download cache; default: the user's cache"),
    ] = None,
) -> None:
    """Download daily rain of paddocks from a public service.

    Writes a weather file for daily and predict: date, rain_mm, and et0_mm and temp_c if the service
    has them. The terms of use are shown and written in the file.

    Example: kgsm-infer prepare weather --fields fields.geojson --from 2024-01-01 --to 2024-06-30
    -o rain.csv
    """
    from ..base.command import notes, say
    from ..base.files import RESULTS, preflight
    from ..scenes.outlines import read_outlines
    from .catalogue import day
    from .weather_services import WeatherRequest, places_of, prepare_weather, service_named

    chosen = service_named(service)
    preflight([output], [fields], suffixes=RESULTS, what="weather files")
    days = day(start, "--from"), day(end, "--to")
    outlines = read_outlines(fields, id_property)
    notes(outlines.notes)
    places = places_of(outlines)
    notes(f"left out {name}: it has no outline" for name in outlines.ids if name not in places)
    wanted = WeatherRequest(places, *days, email)
    done = prepare_weather(output, chosen, wanted, cache)
    notes(done.notes)
    say(
        f"{output}: {done.rows} rows, {len(wanted.places)} paddocks in {done.cells} cells; "
        f"{done.requests} requests, {done.cached} from the cache",
        output,
    )


def _day(given: str | None, option: str) -> Any:
    if given is None:
        return None
    import numpy as np

    from ..base.errors import UsageError

    try:
        return np.datetime64(given, "D")
    except ValueError:
        raise UsageError(f"{option} {given!r} is not a day such as 2016-02-18") from None
