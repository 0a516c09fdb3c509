"""The ``kgsm-infer`` command: parse, call one function of the library, print."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..base.command import note, notes, run, say
from ..base.errors import UsageError
from ..base.files import RESULTS, preflight
from ..base.help import GroupedCommand, GroupedCommands
from ..gateway.cli import serve, watch
from ..prepare.cli import app as prepare_app
from .daily import daily
from .plot import plot
from .wcm_commands import OutOption, TableArgument, invert, isolate

if TYPE_CHECKING:
    from ..maps.run import MapCounts
    from ..model.model import Model
    from ..scenes.manifest import Scene
    from ..tables.table import Table
    from ..tables.weather import WeatherFile

MAPS = (".tif", ".tiff", ".nc", ".zarr")
SCENES = (".toml", ".json")
PADDOCKS = (".geojson", ".json", *RESULTS)
PICTURES = (".png",)

#: Titles of groups of options.
PASSES, OUTLINES, INPUTS = "Acquisitions", "Outlines", "Other inputs"
OUTPUTS, RUN = "Outputs", "Run"

app = typer.Typer(
    cls=GroupedCommands,
    help="Soil moisture (0-5 cm, m3/m3) from Sentinel-1 backscatter, on a small computer.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
app.add_typer(prepare_app, name="prepare")

ModelArgument = Annotated[
    Path,
    typer.Argument(
        help="NAME.onnx, NAME.core.onnx, or wetness for the shipped index", metavar="MODEL"
    ),
]
SceneArgument = Annotated[
    Path, typer.Argument(help="scene manifest, TOML or JSON (docs/maps.md)", metavar="SCENE")
]


def _not_nan(value: float) -> float:
    """Return a number; BadParameter for NaN, which lies in every range of typer."""
    if math.isnan(value):
        raise typer.BadParameter("nan is not a number")
    return value


Day = Annotated[
    str | None,
    typer.Option("--date", help="acquisition to map; default: the last", rich_help_panel=PASSES),
]
Threads = Annotated[
    int, typer.Option(min=1, help="number of blocks computed in parallel", rich_help_panel=RUN)
]
Id = Annotated[
    str | None,
    typer.Option(
        "--id",
        help="property with the name of a paddock; default: its id",
        rich_help_panel=OUTLINES,
    ),
]
WeatherOption = Annotated[
    Path | None,
    typer.Option(
        "--weather", help="daily file: site, date, rain_mm (et0_mm)", rich_help_panel=INPUTS
    ),
]
WeatherClock = Annotated[
    float, typer.Option(help="UTC offset of the days in the weather file", rich_help_panel=INPUTS)
]
Keep = Annotated[
    str | None,
    typer.Option(
        help="how to resolve conflicting duplicate rows: first, last or mean; default: flag them",
        rich_help_panel=PASSES,
    ),
]
Probes = Annotated[
    Path | None,
    typer.Option(
        "--probes",
        help="table site,date,sm of probes; corrects the mean of each of their dates",
        rich_help_panel=INPUTS,
    ),
]
AllowFuture = Annotated[
    bool,
    typer.Option(
        "--allow-future", help="also use acquisitions later than tomorrow", rich_help_panel=PASSES
    ),
]
HoldVegetation = Annotated[
    float,
    typer.Option(
        min=0,
        max=366,
        callback=_not_nan,
        help="largest age in days of an earlier NDVI or VWC that fills a missing one",
        rich_help_panel=INPUTS,
    ),
]
Engine = Annotated[
    str, typer.Option(help="inference engine: auto, native or onnxruntime", rich_help_panel=RUN)
]
LayerOption = Annotated[
    str | None,
    typer.Option(
        "--layer", help="layer of a file with several layers of outlines", rich_help_panel=OUTLINES
    ),
]
Network = Annotated[
    bool,
    typer.Option(
        "--allow-network", help="download files of a scene that are URLs", rich_help_panel=RUN
    ),
]
Quicklook = Annotated[
    Path | None, typer.Option("--quicklook", help="PNG file to draw", rich_help_panel=OUTPUTS)
]
AsJson = Annotated[
    bool,
    typer.Option(
        "--json",
        help="print the counts of the result as JSON on standard output",
        rich_help_panel=OUTPUTS,
    ),
]


def main() -> None:
    """Run ``kgsm-infer``: one-line errors on stderr, exit codes of docs/design.md, section 3."""
    run(app, "kgsm-infer")


@app.callback(invoke_without_command=True)
def _common(
    context: typer.Context,
    defaults: Annotated[
        Path | None,
        typer.Option(
            "--defaults",
            envvar="KGSM_DEFAULTS",
            help="TOML file with a table of option values for each command (docs/integrate.md)",
        ),
    ] = None,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
    debug: Annotated[
        bool,
        typer.Option(
            "--debug", help="Show the traceback of an error; allowed anywhere on the line."
        ),
    ] = False,
) -> None:
    if version:
        from .. import __version__

        print(__version__)
        raise typer.Exit
    if defaults is not None:
        from .defaults import read_defaults

        context.default_map = read_defaults(defaults, context.command)


@app.command(cls=GroupedCommand)
def predict(
    model: ModelArgument,
    table: TableArgument,
    output: OutOption,
    keep: Keep = None,
    probes: Probes = None,
    weather: WeatherOption = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    past: Annotated[
        Path | None,
        typer.Option(
            help="state file with the history of each place; read, then updated with TABLE",
            rich_help_panel=INPUTS,
        ),
    ] = None,
    hold_vegetation: HoldVegetation = 0.0,
    allow_future: AllowFuture = False,
    threads: Annotated[
        int, typer.Option(min=1, help="number of tiles computed in parallel", rich_help_panel=RUN)
    ] = 1,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Retrieve soil moisture for every row of TABLE.

    Writes one row per input row, in the same order. TABLE - reads standard input, -o - writes
    standard output.

    Example: kgsm-infer predict model.onnx observations.csv -o sm.csv
    """
    from ..model.model import load
    from ..tables.table import leave_out_future
    from .output import advice, count_rows, summary, to_json, write_retrieval

    preflight([output, past], _of_model(model, table, probes, weather), suffixes=RESULTS)
    preflight([past], suffixes=RESULTS, what="pasts")
    loaded = load(model, engine=engine, threads=threads)
    rain = _weather_file(weather, weather_utc_offset_hours)
    observations = _read_for(loaded, table, keep, rain)
    if not allow_future:
        observations = _show_new_notes(leave_out_future(observations), observations)
    thin, read = None, observations
    if past is not None:
        from ..context.state_file import compare_table, read_past

        state, rule = read_past(past, allow_future=allow_future), loaded.card.history
        notes(state.notes)
        steps = loaded.card.steps
        compared = compare_table(observations, loaded.looks_back(), rule, state.past, steps)
        read, thin = compared.table, compared.missing
    result = loaded.predict(read, thin=thin, hold_vegetation_days=hold_vegetation)
    further = None
    if probes is not None:
        from ..probes import correct_rows, read_probes

        corrected = correct_rows(loaded.card, observations, result, read_probes(probes))
        result, further = corrected.result, corrected.columns()
        for text in corrected.notes:
            note(text)
    simulated = loaded.card.simulated or observations.simulated
    write_retrieval(output, observations, result, further=further, simulated=simulated)
    if past is not None:  # after the results, so that an interrupted call can be repeated
        from ..context.state_file import write_past

        write_past(past, compared.past)
        note(f"{past}: the past of {len(compared.past)} places")
    sm, mask = observations.to_file_rows(result.sm), observations.to_file_rows(result.flags)
    if as_json:
        say(to_json(output, count_rows(sm, mask), simulated), output)
    else:
        say(f"{output}: {summary(sm, mask)}", output)
    for text in advice(loaded, mask, has_past=past is not None, holds=hold_vegetation > 0):
        note(text)
    _simulated(loaded, table=observations.simulated)


@app.command("map", cls=GroupedCommand)
def map_command(
    model: ModelArgument,
    scene: SceneArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=".tif (COG), .nc or .zarr", rich_help_panel=OUTPUTS),
    ],
    date: Day = None,
    every: Annotated[
        bool, typer.Option("--all-dates", help="map every acquisition", rich_help_panel=PASSES)
    ] = False,
    fields: Annotated[
        Path | None,
        typer.Option(
            "--fields",
            help="outlines of fields, for field context and quick look",
            rich_help_panel=OUTLINES,
        ),
    ] = None,
    id_property: Id = None,
    layer: LayerOption = None,
    probes: Probes = None,
    weather: WeatherOption = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    hold_vegetation: HoldVegetation = 0.0,
    quicklook: Quicklook = None,
    sidecars: Annotated[
        bool,
        typer.Option(
            "--sidecars",
            help="also write NAME.stac.json; of a .tif NAME.qml (QGIS), NAME.colours.txt (GDAL)",
            rich_help_panel=OUTPUTS,
        ),
    ] = False,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
    network: Network = False,
    engine: Engine = "auto",
) -> None:
    """Map a scene: soil moisture, interval and flags.

    Call it again to continue an interrupted run.

    Example: kgsm-infer map model.onnx scene.toml -o sm.tif
    """
    from ..base.progress import pixels_bar
    from ..maps.options import Execution, RetrievalOptions
    from ..maps.run import map_scene
    from ..model.model import load
    from ..scenes.manifest import read_scene
    from ..scenes.outlines import read_outlines

    if scene.suffix.lower() in RESULTS:
        raise UsageError(f"{scene}: is a table; use kgsm-infer predict, or pass a scene manifest")
    options = RetrievalOptions(date, every, allow_future, hold_vegetation)
    loaded = load(model, engine=engine)
    manifest = read_scene(scene, allow_network=network)
    inputs = _of_model(model, scene, fields, probes, weather, *manifest.files())
    preflight([output, quicklook], inputs, suffixes=MAPS, what="maps")
    if sidecars:
        from ..maps.sidecars import sidecar_paths

        preflight(sidecar_paths(output), inputs)
    preflight([quicklook], suffixes=PICTURES, what="quick looks")
    rain = _weather_file(weather, weather_utc_offset_hours)
    manifest = _scene_with_weather(loaded, manifest, rain)
    outlines = None if fields is None else read_outlines(fields, id_property, layer=layer)
    notes(outlines.notes if outlines is not None else ())
    sensors = None
    if probes is not None:
        from ..probes import read_probes

        sensors = read_probes(probes)
    with pixels_bar(output.name) as progress:
        counts = map_scene(
            loaded,
            manifest,
            output,
            options,
            execution=Execution(threads, progress, note),
            outlines=outlines,
            probes=sensors,
            quicklook=quicklook,
        )
    if sidecars:
        from ..maps.sidecars import write_sidecars

        write_sidecars(output, loaded.card.retrieves)
    say(_counted(output, counts))
    _simulated(loaded, manifest.simulated)


@app.command(cls=GroupedCommand)
def paddocks(
    model: ModelArgument,
    source: Annotated[
        Path, typer.Argument(help="table, or scene manifest", metavar="TABLE_OR_SCENE")
    ],
    fields: Annotated[Path, typer.Argument(help="GeoJSON, GeoPackage, ...", metavar="FIELDS")],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help=".geojson, .csv or .parquet", rich_help_panel=OUTPUTS),
    ],
    id_property: Id = None,
    layer: LayerOption = None,
    column: Annotated[
        str | None,
        typer.Option(
            "--column",
            help="table column of the ids; default: field, else site",
            rich_help_panel=OUTLINES,
        ),
    ] = None,
    date: Day = None,
    every: Annotated[
        bool,
        typer.Option("--all-dates", help="summarise every acquisition", rich_help_panel=PASSES),
    ] = False,
    keep: Keep = None,
    probes: Probes = None,
    weather: WeatherOption = None,
    weather_utc_offset_hours: WeatherClock = 0.0,
    hold_vegetation: HoldVegetation = 0.0,
    min_valid: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=1.0,
            callback=_not_nan,
            help="smallest share of a paddock with a value, 0 to 1",
            rich_help_panel=OUTLINES,
        ),
    ] = 0.5,
    quicklook: Quicklook = None,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
    network: Network = False,
    engine: Engine = "auto",
    as_json: AsJson = False,
) -> None:
    """Summarise soil moisture per paddock, from a table or a scene.

    Writes mean, median, p10, p90, interval, share of pixels with a value and flags.

    Example: kgsm-infer paddocks model.onnx scene.toml fields.geojson -o paddocks.csv
    """
    from ..maps.options import Execution, RetrievalOptions
    from ..model.model import load
    from ..paddocks.of_table import paddocks_of_table, rows_without_outline
    from ..paddocks.summary import paddock_counts, paddock_summary, write_paddocks
    from ..scenes.outlines import read_outlines
    from ..tables.table import leave_out_future
    from .output import to_json

    options = RetrievalOptions(date, every, allow_future, hold_vegetation)
    preflight(
        [output, quicklook],
        _of_model(model, source, fields, probes, weather),
        suffixes=PADDOCKS,
        what="paddocks",
    )
    preflight([quicklook], suffixes=PICTURES, what="quick looks")
    loaded, outlines = load(model, engine=engine), read_outlines(fields, id_property, layer=layer)
    notes(outlines.notes)
    rain = _weather_file(weather, weather_utc_offset_hours)
    made_up = {"scene": False, "table": False}
    if source.suffix.lower() in SCENES:
        from ..base.progress import pixels_bar
        from ..paddocks.of_scene import paddocks_of_scene
        from ..scenes.manifest import read_scene

        scene = read_scene(source, allow_network=network)
        preflight([output, quicklook], scene.files())
        scene = _scene_with_weather(loaded, scene, rain)
        made_up["scene"] = scene.simulated
        with pixels_bar(output.name) as progress:
            found = paddocks_of_scene(
                loaded,
                scene,
                outlines,
                output,
                options,
                execution=Execution(threads, progress, note),
                min_valid=min_valid,
            )
    else:
        table = _read_for(loaded, source, keep, rain)
        if not allow_future:
            table = _show_new_notes(leave_out_future(table, drop=True), table)
        made_up["table"] = table.simulated
        found = paddocks_of_table(
            loaded, table, outlines, options, column=column, min_valid=min_valid
        )
        strange = rows_without_outline(table, outlines, column)
        if strange:
            note(strange)
    if probes is not None:
        from ..paddocks.probed import correct_paddocks
        from ..probes import read_probes

        found, said = correct_paddocks(loaded.card, outlines, found, read_probes(probes))
        for sentence in said:
            note(sentence)
    simulated = loaded.card.simulated or any(made_up.values())
    write_paddocks(output, outlines, found, simulated=simulated)
    if quicklook is not None:
        from ..paddocks.picture import draw_paddocks

        draw_paddocks(quicklook, outlines, found, simulated=simulated)
    if as_json:
        say(to_json(output, paddock_counts(found), simulated), output)
    else:
        say(f"{output}: {paddock_summary(found)}", output)
    _simulated(loaded, **made_up)


@app.command()
def wetness(
    source: Annotated[
        Path, typer.Argument(help="table, or scene manifest", metavar="TABLE_OR_SCENE")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="for a table .csv or .parquet, for a scene .tif, .nc or .zarr"
        ),
    ],
    dry: Annotated[
        float | None, typer.Option(help="driest soil moisture of these fields, m3/m3")
    ] = None,
    wet: Annotated[
        float | None, typer.Option(help="wettest soil moisture of these fields, m3/m3")
    ] = None,
    sand: Annotated[
        float | None, typer.Option(help="mass fraction of sand, 0 to 1, instead of --dry, --wet")
    ] = None,
    clay: Annotated[float | None, typer.Option(help="mass fraction of clay, 0 to 1")] = None,
    date: Day = None,
    every: Annotated[
        bool, typer.Option("--all-dates", help="map every acquisition of a scene")
    ] = False,
    allow_future: AllowFuture = False,
    threads: Threads = 2,
) -> None:
    """Compute the label-free wetness index; no probe is needed.

    0 is dry and 1 is wet, relative to the history of each place. The place and the mean over the
    fields of the pass have equal weight. Only VH is read. The index is converted to m3/m3 only
    between limits: --dry and --wet, the texture in --sand and --clay, or the columns sand and clay
    of a table (fractions; Saxton & Rawls 2006).

    Example: kgsm-infer wetness observations.csv -o wetness.csv
    """
    from ..model.index import stated_limits, wetness_model
    from .index_table import wetness_of_table

    limits = stated_limits(dry, wet, sand, clay)
    if source.suffix.lower() in SCENES:
        from ..base.progress import pixels_bar
        from ..maps.options import Execution, RetrievalOptions
        from ..maps.run import map_scene
        from ..scenes.manifest import read_scene

        options = RetrievalOptions(date, every, allow_future)
        scene, model = read_scene(source), wetness_model(limits)
        preflight([output], [source, *scene.files()], suffixes=MAPS, what="maps")
        with pixels_bar(output.name) as progress:
            execution = Execution(threads, progress, note)
            counts = map_scene(model, scene, output, options, execution=execution)
        say(_counted(output, counts))
        _simulated(model, scene.simulated)
        return
    preflight([output], [source], suffixes=RESULTS)
    say(f"{output}: {wetness_of_table(source, output, limits, note, allow_future)}", output)


@app.command()
def info(
    model: ModelArgument,
    as_json: Annotated[bool, typer.Option("--json", help="print the card as JSON")] = False,
) -> None:
    """Describe a model: kind, inputs and validation scores.

    Example: kgsm-infer info model.onnx
    """
    from ..model.onnx_reader import other_sibling, read_model_file
    from .output import describe

    file = read_model_file(model)
    if name := other_sibling(file):
        note(f"{name} belongs to another export; copy both files of one export, or remove it")
    say(file.card.to_json() if as_json else describe(file))


for command in (daily, plot, isolate, invert, watch, serve):
    app.command(cls=GroupedCommand)(command)


def _of_model(model: Path, *others: str | Path | None) -> list[str | Path | None]:
    """List the files that a command reads: the model file, its sibling, and ``others``."""
    stem = model.name.removesuffix(".onnx").removesuffix(".core")
    pair = [model.with_name(f"{stem}.onnx"), model.with_name(f"{stem}.core.onnx")]
    return [model, *(file for file in pair if file.exists()), *others]


def _counted(output: Path, counts: MapCounts) -> str:
    return f"{output}: {counts.dates} dates, {counts.pixels} pixels, {counts.numbers} with a number"


def _simulated(model: Model, scene: bool = False, table: bool = False) -> None:
    if model.card.simulated:
        note("this model was trained on simulated data")
    if scene:
        note("this scene holds simulated data")
    if table:
        note("this table holds simulated data")


def _weather_file(path: Path | None, utc_offset_hours: float) -> WeatherFile | None:
    from ..tables.weather import WeatherFile

    return None if path is None else WeatherFile(path, utc_offset_hours)


def _read_for(model: Model, path: Path, keep: str | None, weather: WeatherFile | None) -> Table:
    """Read a table with the columns of a model, including features of the weather file."""
    from ..tables.table import ReadOptions
    from ..tables.weather import table_with_weather

    options = ReadOptions(model.table_features(), keep=keep or "empty", reads=model.columns_read())
    table = table_with_weather(path, options, weather)
    notes(table.notes)
    return table


def _show_new_notes(table: Table, before: Table) -> Table:
    """Show the notes that ``table`` has beyond those of ``before``."""
    notes(table.notes[len(before.notes) :])
    return table


def _scene_with_weather(model: Model, scene: Scene, weather: WeatherFile | None) -> Scene:
    if weather is None:
        return scene
    from ..scenes.rain import scene_with_weather
    from ..tables.weather import read_weather, unused_note

    rain = read_weather(weather.path, weather.utc_offset_hours)
    names = model.table_features()
    notes(filter(None, [unused_note(rain, names, scene.layers)]))
    return scene_with_weather(scene, rain, names)


if __name__ == "__main__":
    main()
