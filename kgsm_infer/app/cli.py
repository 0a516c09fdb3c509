"""The ``kgsm-infer`` command: parse, call one function of the library, print."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..base.command import note, notes, run, say
from ..base.files import RESULTS, preflight
from ..gateway.cli import serve, watch
from ..prepare.cli import app as prepare_app
from .daily import daily
from .plot import plot
from .wcm_commands import OutOption, TableArgument, invert, isolate

if TYPE_CHECKING:
    from ..model.model import Model
    from ..scenes.manifest import Scene
    from ..tables.table import Table

MAPS = (".tif", ".tiff", ".nc", ".zarr")
PADDOCKS = (".geojson", ".json", *RESULTS)
PICTURES = (".png",)

app = typer.Typer(
    help="Soil moisture (0-5 cm, m3/m3) from Sentinel-1 backscatter, on a small computer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare_app, name="prepare")

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="NAME.onnx or NAME.core.onnx; or wetness, which is shipped", metavar="MODEL"
    ),
]
SceneArgument = Annotated[
    Path, typer.Argument(help="scene manifest, TOML or JSON (docs/maps.md)", metavar="SCENE")
]
Day = Annotated[str | None, typer.Option("--date", help="acquisition to use; the last by default")]
Threads = Annotated[int, typer.Option(min=1, help="blocks worked on at a time")]
Id = Annotated[
    str | None,
    typer.Option("--id", help="property that names a paddock; else its id"),
]
WeatherFile = Annotated[
    Path | None, typer.Option("--weather", help="daily file: site, date, rain_mm (et0_mm)")
]
WeatherClock = Annotated[float, typer.Option(help="of the days in the weather file")]
Keep = Annotated[
    str | None,
    typer.Option(help="of rows that contradict each other at one time: first, last or mean"),
]
Probes = Annotated[
    Path | None,
    typer.Option("--probes", help="site,date,sm of sensors: corrects the level of their dates"),
]
AllowFuture = Annotated[
    bool, typer.Option("--allow-future", help="use acquisitions later than tomorrow too")
]
Engine = Annotated[str, typer.Option(help="auto, native or onnxruntime")]
LayerOption = Annotated[
    str | None, typer.Option("--layer", help="layer of the outlines, where the file has several")
]
Network = Annotated[
    bool, typer.Option("--allow-network", help="a scene's files may be addresses that are fetched")
]
Quicklook = Annotated[Path | None, typer.Option("--quicklook", help="PNG to draw")]


def main() -> None:
    """Entry point: one-line reasons on stderr, exit codes of design §3."""
    run(app, "kgsm-infer")


@app.callback(invoke_without_command=True)
def _version(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback behind an error; anywhere.")
    ] = False,
) -> None:
    if version:
        from .. import __version__

        print(__version__)
        raise typer.Exit


@app.command()
def predict(
    model: ModelArgument,
    table: TableArgument,
    output: OutOption,
    keep: Keep = None,
    probes: Probes = None,
    weather: WeatherFile = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    past: Annotated[
        Path | None,
        typer.Option(help="file of what each place has shown; read, then TABLE is added to it"),
    ] = None,
    hold_vegetation: Annotated[
        float,
        typer.Option(
            min=0,
            max=366,
            help="largest age in days of an earlier NDVI or VWC that fills a missing one",
        ),
    ] = 0.0,
    allow_future: AllowFuture = False,
    threads: Annotated[int, typer.Option(min=1, help="tiles worked on at once")] = 1,
    engine: Engine = "auto",
) -> None:
    """Soil moisture for every row of TABLE.

    One output row per input row, in the same order. TABLE - is standard input, -o - standard
    output.
    """
    from ..model.model import load
    from ..tables.table import leave_out_future
    from .output import summary, write_retrieval

    preflight([output, past], _of_model(model, table, probes, weather), suffixes=RESULTS)
    preflight([past], suffixes=RESULTS, what="pasts")
    loaded = load(model, engine=engine, threads=threads)
    observations = _read_for(loaded, table, keep, weather, weather_utc_offset_hours)
    if not allow_future:
        observations = _noted(leave_out_future(observations), observations)
    thin, read = None, observations
    if past is not None:
        from ..context.state_file import compare_table, read_past

        state, rule = read_past(past, allow_future=allow_future), loaded.card.history
        notes(state.notes)
        steps = loaded.card.steps
        compared = compare_table(observations, loaded.looks_back(), rule, state.past, steps)
        read, thin = compared.table, compared.missing
    result = loaded.predict(read, thin=thin, hold_vegetation_days=hold_vegetation)
    beside = None
    if probes is not None:
        from ..probes import correct_rows, read_probes

        corrected = correct_rows(loaded.card, observations, result, read_probes(probes))
        result, beside = corrected.result, corrected.columns()
        for text in corrected.notes:
            note(text)
    write_retrieval(output, observations, result, beside=beside, simulated=loaded.card.simulated)
    if past is not None:  # after the numbers: a call that is cut off may be made again
        from ..context.state_file import write_past

        write_past(past, compared.past)
        note(f"{past}: the past of {len(compared.past)} places")
    sm, mask = observations.as_given(result.sm), observations.as_given(result.flags)
    say(f"{output}: {summary(sm, mask)}", output)
    _simulated(loaded)


@app.command("map")
def map_command(
    model: ModelArgument,
    scene: SceneArgument,
    output: Annotated[Path, typer.Option("--output", "-o", help=".tif (COG), .nc or .zarr")],
    date: Day = None,
    every: Annotated[bool, typer.Option("--all-dates", help="every acquisition")] = False,
    fields: Annotated[
        Path | None, typer.Option("--fields", help="outlines, for field context and quick look")
    ] = None,
    id_property: Id = None,
    layer: LayerOption = None,
    probes: Probes = None,
    weather: WeatherFile = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    quicklook: Quicklook = None,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
    network: Network = False,
    engine: Engine = "auto",
) -> None:
    """A map of a scene: soil moisture, interval, flags.

    A run that was stopped goes on when it is called again.
    """
    from ..base.progress import pixels_bar
    from ..maps.run import map_scene
    from ..model.model import load
    from ..scenes.manifest import read_scene
    from ..scenes.outlines import read_outlines

    loaded = load(model, engine=engine)
    manifest = read_scene(scene, allow_network=network)
    inputs = _of_model(model, scene, fields, probes, weather, *manifest.files())
    preflight([output, quicklook], inputs, suffixes=MAPS, what="maps")
    preflight([quicklook], suffixes=PICTURES, what="quick looks")
    manifest = _rained_on(loaded, manifest, weather, weather_utc_offset_hours)
    outlines = None if fields is None else read_outlines(fields, id_property, layer=layer)
    sensors = None
    if probes is not None:
        from ..probes import read_probes

        sensors = read_probes(probes)
    with pixels_bar(output.name) as progress:
        counts = map_scene(
            loaded,
            manifest,
            output,
            date=date,
            every=every,
            threads=threads,
            outlines=outlines,
            quicklook=quicklook,
            progress=progress,
            probes=sensors,
            tell=note,
            allow_future=allow_future,
        )
    say(_counted(output, counts))
    _simulated(loaded, manifest.simulated)


@app.command()
def paddocks(
    model: ModelArgument,
    source: Annotated[
        Path, typer.Argument(help="table, or scene manifest", metavar="TABLE_OR_SCENE")
    ],
    fields: Annotated[Path, typer.Argument(help="GeoJSON, GeoPackage, ...", metavar="FIELDS")],
    output: Annotated[Path, typer.Option("--output", "-o", help=".geojson, .csv or .parquet")],
    id_property: Id = None,
    layer: LayerOption = None,
    column: Annotated[
        str | None, typer.Option("--column", help="table column of the ids; field, else site")
    ] = None,
    date: Day = None,
    every: Annotated[bool, typer.Option("--all-dates", help="every acquisition")] = False,
    keep: Keep = None,
    probes: Probes = None,
    weather: WeatherFile = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    min_valid: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="least share of a paddock with a number")
    ] = 0.5,
    quicklook: Quicklook = None,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
    network: Network = False,
    engine: Engine = "auto",
) -> None:
    """One line per paddock, from a table or a scene.

    Mean, median, p10, p90, interval, share with a number, flags, and why there is no number.
    """
    from ..model.model import load
    from ..paddocks.of_table import paddocks_of_table, rows_without_outline
    from ..paddocks.summary import paddock_summary, write_paddocks
    from ..scenes.outlines import read_outlines
    from ..tables.table import leave_out_future

    preflight(
        [output, quicklook],
        _of_model(model, source, fields, probes, weather),
        suffixes=PADDOCKS,
        what="paddocks",
    )
    preflight([quicklook], suffixes=PICTURES, what="quick looks")
    loaded, outlines = load(model, engine=engine), read_outlines(fields, id_property, layer=layer)
    options: dict[str, Any] = {"date": date, "every": every, "min_valid": min_valid}
    made_up = False
    if source.suffix.lower() in (".toml", ".json"):
        from ..base.progress import pixels_bar
        from ..paddocks.of_scene import paddocks_of_scene
        from ..scenes.manifest import read_scene

        scene = read_scene(source, allow_network=network)
        made_up = scene.simulated
        preflight([output, quicklook], scene.files())
        scene = _rained_on(loaded, scene, weather, weather_utc_offset_hours)
        with pixels_bar(output.name) as progress:
            found = paddocks_of_scene(
                loaded,
                scene,
                outlines,
                output,
                threads=threads,
                progress=progress,
                tell=note,
                allow_future=allow_future,
                **options,
            )
    else:
        table = _read_for(loaded, source, keep, weather, weather_utc_offset_hours)
        if not allow_future:
            table = _noted(leave_out_future(table, drop=True), table)
        found = paddocks_of_table(loaded, table, outlines, column=column, **options)
        strange = rows_without_outline(table, outlines, column)
        if strange:
            note(strange)
    if probes is not None:
        from ..paddocks.probed import correct_paddocks
        from ..probes import read_probes

        found, said = correct_paddocks(loaded.card, outlines, found, read_probes(probes))
        for sentence in said:
            note(sentence)
    simulated = loaded.card.simulated or made_up
    write_paddocks(output, outlines, found, simulated=simulated)
    if quicklook is not None:
        from ..paddocks.picture import draw_paddocks

        draw_paddocks(quicklook, outlines, found, simulated=simulated)
    say(f"{output}: {paddock_summary(found)}", output)
    _simulated(loaded, made_up)


@app.command()
def wetness(
    source: Annotated[
        Path, typer.Argument(help="table, or scene manifest", metavar="TABLE_OR_SCENE")
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="a table's: .csv, .parquet; a map's: .tif, .nc, .zarr"),
    ],
    dry: Annotated[
        float | None, typer.Option(help="driest soil moisture of these fields, m3/m3")
    ] = None,
    wet: Annotated[float | None, typer.Option(help="wettest, m3/m3")] = None,
    sand: Annotated[
        float | None, typer.Option(help="mass fraction of sand, 0 to 1, instead of --dry, --wet")
    ] = None,
    clay: Annotated[float | None, typer.Option(help="mass fraction of clay, 0 to 1")] = None,
    date: Day = None,
    every: Annotated[
        bool, typer.Option("--all-dates", help="every acquisition of a scene")
    ] = False,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
) -> None:
    """Compute the label-free wetness index; no probe is needed.

    0 is dry and 1 wet by the past of each place, half of it the place and half the mean over the
    fields of the pass. VH alone is read. It becomes m3/m3 only between limits: --dry and --wet, the
    texture in --sand and --clay, or a table's columns sand and clay (fractions; Saxton & Rawls
    2006). Example: kgsm-infer wetness observations.csv -o wetness.csv
    """
    from ..model.index import stated_limits, wetness_model
    from .index_table import wetness_of_table

    limits = stated_limits(dry, wet, sand, clay)
    if source.suffix.lower() in (".toml", ".json"):
        from ..base.progress import pixels_bar
        from ..maps.run import map_scene
        from ..scenes.manifest import read_scene

        scene, model = read_scene(source), wetness_model(limits)
        preflight([output], [source, *scene.files()], suffixes=MAPS, what="maps")
        with pixels_bar(output.name) as progress:
            counts = map_scene(
                model,
                scene,
                output,
                date=date,
                every=every,
                threads=threads,
                progress=progress,
                tell=note,
                allow_future=allow_future,
            )
        say(_counted(output, counts))
        _simulated(model, scene.simulated)
        return
    preflight([output], [source], suffixes=RESULTS)
    say(f"{output}: {wetness_of_table(source, output, limits, note, allow_future)}", output)


@app.command()
def info(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="the card as JSON")] = False,
) -> None:
    """What a model is, what it reads, and how well it did."""
    from ..model.onnx_reader import other_sibling, read_model_file
    from .output import describe

    file = read_model_file(model)
    if name := other_sibling(file):
        note(f"{name} is of another export; copy both files from one, or use this one alone")
    say(file.card.to_json() if as_json else describe(file))


for command in (daily, plot, isolate, invert, watch, serve):
    app.command()(command)


def _of_model(model: Path, *others: str | Path | None) -> list[str | Path | None]:
    """A model file, its sibling beside it, and whatever else a command reads."""
    stem = model.name.removesuffix(".onnx").removesuffix(".core")
    pair = [model.with_name(f"{stem}.onnx"), model.with_name(f"{stem}.core.onnx")]
    return [model, *(file for file in pair if file.exists()), *others]


def _counted(output: Path, counts: Mapping[str, int]) -> str:
    return (
        f"{output}: {counts['dates']} dates, {counts['pixels']} pixels, "
        f"{counts['numbers']} with a number"
    )


def _simulated(model: Model, scene: bool = False) -> None:
    if model.card.simulated:
        note("this model was trained on simulated data")
    if scene:
        note("this scene holds simulated data")


def _read_for(
    model: Model, path: Path, keep: str | None, weather: Path | None, clock: float
) -> Table:
    """A table with what a model reads, the weather file's features among it."""
    from ..tables.weather import table_with_weather

    table = table_with_weather(
        path, model.table_features(), keep or "empty", weather, clock, model.columns_read()
    )
    notes(table.notes)
    return table


def _noted(table: Table, before: Table) -> Table:
    """Show the notes that ``table`` has beyond those of ``before``."""
    notes(table.notes[len(before.notes) :])
    return table


def _rained_on(model: Model, scene: Scene, weather: Path | None, clock: float) -> Scene:
    if weather is None:
        return scene
    from ..scenes.rain import scene_with_weather
    from ..tables.weather import read_weather

    return scene_with_weather(scene, read_weather(weather, clock), model.table_features())


if __name__ == "__main__":
    main()
