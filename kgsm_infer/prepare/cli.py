"""``kgsm-infer prepare``: parse, call one function of this wing, print."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

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


@app.callback()
def prepare() -> None:
    """Make the inputs that map and paddocks read."""


@app.command()
def sigma0(
    products: Annotated[list[Path], typer.Argument(help=".SAFE folders of GRD products")],
    output: Folder,
    dem: Annotated[list[Path], typer.Option("--dem", help="heights; several tiles may be named")],
    fields: Fields = None,
    bounds: Bounds = None,
    resolution: Resolution = 10.0,
    crs: Crs = None,
    heights: Annotated[
        str | None,
        typer.Option("--heights", help="ellipsoid, egm96 or egm2008"),
    ] = None,
    geoid: Annotated[
        Path | None, typer.Option("--geoid", help="raster of the geoid over the ellipsoid, m")
    ] = None,
    polarisation: Annotated[
        list[str] | None, typer.Option("--polarisation", help="vh, vv; all by default")
    ] = None,
    gamma0: Annotated[bool, typer.Option("--gamma0", help="terrain-flattened gamma0")] = False,
    keep_noise: Annotated[
        bool, typer.Option("--keep-noise", help="leave thermal noise in")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="say what would be done")] = False,
) -> None:
    """Backscatter and incidence angle on a grid, from Sentinel-1 GRD products."""
    from ..progress import pixels_bar
    from .grids import asked_grid
    from .heights import Terrain, surface_of
    from .manifests import write_pass_manifests
    from .sampling import Options
    from .sigma0 import looks_of, passes_of, prepare_pass

    grid = asked_grid(fields, bounds, resolution, crs)
    terrain = Terrain(tuple(dem), heights, geoid)
    options = Options(tuple(polarisation or ()), gamma0, not keep_noise)
    passes = passes_of(products)
    surface = surface_of(terrain)
    looks = looks_of(grid)
    print(f"grid: {grid.height} x {grid.width} pixels of {resolution:g} m, {looks} x {looks} looks")
    print(f"heights: {surface.how}")
    simulated = False
    for frames in passes:
        first = frames[0]
        simulated |= any(frame.simulated for frame in frames)
        if dry_run:
            print(f"{first.pass_id}: {len(frames)} frames, {', '.join(first.channels)}")
            continue
        with pixels_bar(first.pass_id) as progress:
            report = prepare_pass(frames, terrain, grid, output, options, progress)
        if report.kept:
            print(f"{report.pass_id}: finished before, kept")
        for name, share in report.share.items():
            lost = report.below_noise[name]
            print(
                f"{report.pass_id}: {name} on {share:.1%} of the grid, {lost:.2%} below the noise"
            )
        for note in report.notes:
            print(f"note: {note}")
    if not dry_run:
        for path in write_pass_manifests(output, "gamma0" if gamma0 else "sigma0", simulated):
            print(path)
