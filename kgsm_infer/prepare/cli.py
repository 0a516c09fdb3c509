"""``kgsm-infer prepare``: parse, call one function of this wing, print."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Folder = Annotated[Path, typer.Option("--output", "-o", help="folder to write to")]
Fields = Annotated[
    Path | None, typer.Option("--fields", help="paddock outlines; their bounds are prepared")
]
Bounds = Annotated[
    str | None, typer.Option("--bounds", help="west,south,east,north in degrees, instead")
]
Crs = Annotated[str | None, typer.Option("--crs", help="CRS of the grid; its UTM zone by default")]
Resolution = Annotated[float, typer.Option("--resolution", help="m per pixel")]
Heights = Annotated[
    str | None, typer.Option("--heights", help="ellipsoid, egm96 or egm2008, if a DEM is mute")
]
Geoid = Annotated[
    Path | None, typer.Option("--geoid", help="raster of the geoid over the ellipsoid, m")
]
Gamma0 = Annotated[bool, typer.Option("--gamma0", help="terrain-flattened gamma0")]
Collection = Annotated[list[str] | None, typer.Option("--collection", help="ids; all by default")]
Radar = Annotated[
    str | None, typer.Option("--radar", help="gamma0, sigma0, gamma0_db or sigma0_db")
]
AngleDeg = Annotated[
    float | None, typer.Option("--angle", help="degrees, for items without an angle")
]
BoaOffset = Annotated[
    float | None,
    typer.Option(
        "--boa-offset",
        help="added to Sentinel-2 numbers whose processing baseline is not stated: -1000 or 0",
    ),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done")]
Method = Annotated[
    str,
    typer.Option(
        help="linear, linear-anomaly, estarfm, estarfm-v1, unbiased (the paper's) or "
        "unbiased-window"
    ),
]
FirstDay = Annotated[str | None, typer.Option("--from", help="first day, 2016-02-05")]
LastDay = Annotated[str | None, typer.Option("--to", help="last day")]
Radius = Annotated[int, typer.Option("--radius", help="half the window, pixels")]
Patch = Annotated[int, typer.Option("--patch", help="pixels that similar values are judged over")]


@app.callback(invoke_without_command=True)
def prepare(
    context: typer.Context,
    fields: Fields = None,
    bounds: Bounds = None,
    start: Annotated[str | None, typer.Option("--from", help="first day")] = None,
    end: Annotated[str | None, typer.Option("--to", help="last day")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="folder to write to")
    ] = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    safe: Annotated[
        list[Path] | None, typer.Option("--safe", help=".SAFE folders; need --dem")
    ] = None,
    dem: Annotated[list[Path] | None, typer.Option("--dem", help="heights")] = None,
    heights: Heights = None,
    geoid: Geoid = None,
    gamma0: Gamma0 = False,
    catalogue: Annotated[
        str | None, typer.Option("--catalogue", help="STAC API, or catalog.json of a static one")
    ] = None,
    collection: Collection = None,
    radar: Radar = None,
    angle: AngleDeg = None,
    optical: Annotated[
        list[Path] | None, typer.Option("--optical", help="folders of Landsat, Sentinel-2")
    ] = None,
    coarse: Annotated[
        list[Path] | None, typer.Option("--coarse", help="folders of MODIS; days are fused")
    ] = None,
    static: Annotated[
        list[str] | None, typer.Option("--static", help="clay=clay.tif; a layer without a date")
    ] = None,
    dry_run: DryRun = False,
) -> None:
    """Make the inputs that map and paddocks read.

    Without a command: all in one go, for a place and some days.
    """
    if context.invoked_subcommand is not None:
        return
    from ..base.errors import UsageError
    from ..base.progress import pixels_bar
    from .catalogue import day
    from .grids import asked_grid
    from .heights import Terrain
    from .scene import Sources, prepare_scene, statics_of

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
    grid = asked_grid(fields, bounds, resolution, crs)
    days = day(start, "--from"), day(end, "--to")
    for line in prepare_scene(sources, grid, days, output, pixels_bar, dry_run):
        print(line)


@app.command()
def sigma0(
    products: Annotated[list[Path], typer.Argument(help=".SAFE folders of GRD products")],
    output: Folder,
    dem: Annotated[list[Path], typer.Option("--dem", help="heights; several tiles may be named")],
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    heights: Heights = None,
    geoid: Geoid = None,
    polarisation: Annotated[
        list[str] | None, typer.Option("--polarisation", help="vh, vv; all by default")
    ] = None,
    gamma0: Gamma0 = False,
    keep_noise: Annotated[
        bool, typer.Option("--keep-noise", help="leave thermal noise in")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done")] = False,
) -> None:
    """Backscatter and angle from Sentinel-1 GRD.

    Calibrated, noise removed, terrain-corrected, on a grid of your choosing.
    """
    from ..base.progress import pixels_bar
    from .grids import asked_grid
    from .heights import Terrain, surface_of
    from .manifests import write_pass_manifests
    from .sampling import Options
    from .scene import pass_lines
    from .sigma0 import looks_of, passes_of, prepare_pass

    grid = asked_grid(fields, bounds, resolution, crs)
    terrain = Terrain(tuple(dem), heights, geoid)
    options = Options(tuple(polarisation or ()), gamma0, not keep_noise)
    passes = passes_of(products)
    surface = surface_of(terrain)
    looks = looks_of(grid, passes[0][0].pixel_spacing_m)
    print(f"grid: {grid.height} x {grid.width} pixels of {resolution:g} m, {looks} x {looks} looks")
    print(f"heights: {surface.how}")
    for frames in passes:
        first = frames[0]
        if dry_run:
            print(f"{first.pass_id}: {len(frames)} frames, {', '.join(first.channels)}")
            continue
        with pixels_bar(first.pass_id) as progress:
            report = prepare_pass(frames, terrain, grid, output, options, progress)
        for line in pass_lines(report):
            print(line)
    if not dry_run:
        for path in write_pass_manifests(output, "gamma0" if gamma0 else "sigma0"):
            print(path)


@app.command()
def fuse(
    pairs: Annotated[Path, typer.Argument(help="manifest of fine and coarse images, TOML")],
    output: Folder,
    method: Method = "linear-anomaly",
    start: FirstDay = None,
    end: LastDay = None,
    threads: Annotated[int, typer.Option(min=1, help="rows worked on at a time")] = 2,
    radius: Radius = 25,
    patch: Patch = 200,
    dry_run: DryRun = False,
) -> None:
    """Daily fine images of NDVI, albedo, heat.

    A stopped run goes on when called again.
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
        Path | None, typer.Option("--output", "-o", help="CSV of every image's scores")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="methods to compare; all by default")
    ] = None,
    detail: Annotated[
        int, typer.Option("--detail", min=1, help="detail: what a mean over +-pixels takes away")
    ] = 25,
    threads: Annotated[int, typer.Option(min=1, help="rows worked on at a time")] = 2,
    radius: Radius = 25,
    patch: Patch = 200,
) -> None:
    """Compare the methods of fusion.

    Each fine image is left out, predicted by every method, and compared.
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
    albedo: Annotated[bool, typer.Option("--albedo", help="broadband albedo too")] = False,
    worldcover: Annotated[
        Path | None, typer.Option("--worldcover", help="ESA WorldCover map; makes VWC and B too")
    ] = None,
    boa_offset: BoaOffset = None,
    keep_snow: Annotated[bool, typer.Option("--keep-snow", help="keep pixels under snow")] = False,
    dry_run: DryRun = False,
) -> None:
    """NDVI, clouds masked, from reflectance.

    Landsat, Sentinel-2 or MODIS; albedo and water content on request.
    """
    from ..base.progress import pixels_bar
    from .grids import asked_grid
    from .ndvi import Wanted, prepare_ndvi, summary
    from .products import find_products

    asked = fields is not None or bounds is not None
    grid = asked_grid(fields, bounds, resolution, crs) if asked else None
    search = find_products(products, boa_offset)
    found = search.images
    for name, why in search.left_out.items():
        print(f"left out {name}: {why}")
    if dry_run:
        for item in found:
            print(f"{item.day} {item.product.title}: {item.name}")
        return
    with pixels_bar(output.name) as progress:
        days = prepare_ndvi(found, output, Wanted(grid, albedo, worldcover, keep_snow), progress)
    for day in days:
        print(summary(day))


@app.command()
def stack(
    catalogue: Annotated[str, typer.Argument(help="STAC API, or catalog.json of a static one")],
    output: Folder,
    start: Annotated[str, typer.Option("--from", help="first day")],
    end: Annotated[str, typer.Option("--to", help="last day")],
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    collection: Collection = None,
    radar: Radar = None,
    angle: AngleDeg = None,
    boa_offset: BoaOffset = None,
    sign: Annotated[
        str | None, typer.Option("--sign", help="URL that signs a file's address (?href=)")
    ] = None,
    whole_mb: Annotated[
        float, typer.Option("--whole-mb", min=0, help="larger files are read by windows")
    ] = 64.0,
    dry_run: DryRun = False,
) -> None:
    """A scene from a STAC catalogue.

    Radar passes and clear NDVI over a place, relative orbits apart.
    """
    from ..base.progress import pixels_bar
    from .catalogue import Search, day, find, signer
    from .grids import asked_grid, lon_lat_box
    from .stack import planned, prepare_stack, report_lines

    grid = asked_grid(fields, bounds, resolution, crs)
    dates = day(start, "--from"), day(end, "--to")
    found = find(catalogue, Search(lon_lat_box(grid), *dates, tuple(collection or ())))
    print(f"{catalogue}: {len(found.items)} of {found.looked_at} items, {found.how}")
    if dry_run:
        print("\n".join(planned(found, radar, boa_offset)))
        return
    with pixels_bar(output.name) as progress:
        report = prepare_stack(
            catalogue,
            found,
            grid,
            output,
            radar=radar,
            boa_offset=boa_offset,
            angle_deg=angle,
            sign=signer(catalogue, sign),
            whole_mb=whole_mb,
            progress=progress,
        )
    print("\n".join(report_lines(report, output)))


@app.command()
def weather(
    output: Annotated[Path, typer.Option("--output", "-o", help=".csv or .parquet")],
    start: Annotated[str, typer.Option("--from", help="first day")],
    end: Annotated[str, typer.Option("--to", help="last day; Open-Meteo has 15 days of forecast")],
    fields: Annotated[Path, typer.Option("--fields", help="paddock outlines")],
    service: Annotated[
        str, typer.Option("--service", help="open-meteo, power (NASA) or silo (Australia)")
    ] = "open-meteo",
    id_property: Annotated[
        str | None, typer.Option("--id", help="property that names a paddock; else its id")
    ] = None,
    email: Annotated[str, typer.Option("--email", help="your address; SILO asks for it")] = "",
    cache: Annotated[
        Path | None, typer.Option("--cache", help="folder of earlier answers; the user's cache")
    ] = None,
) -> None:
    """Daily rain of paddocks from a public service.

    A weather file for daily and predict: date, rain_mm, and et0_mm and temp_c where the service
    has them. The service's terms of use are shown and written in the file.
    """
    from ..base.command import notes, say
    from ..base.files import RESULTS, preflight
    from ..scenes.outlines import read_outlines
    from .catalogue import day
    from .weather_services import WeatherRequest, places_of, prepare_weather, service_named

    chosen = service_named(service)
    preflight([output], [fields], suffixes=RESULTS, what="weather files")
    days = day(start, "--from"), day(end, "--to")
    wanted = WeatherRequest(places_of(read_outlines(fields, id_property)), *days, email)
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
