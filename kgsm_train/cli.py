"""The ``kgsm-train`` command: parse, call one function of the library, print."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from kgsm_infer.base.command import note, run, say
from kgsm_infer.base.errors import MissingError, UsageError
from kgsm_infer.base.files import RESULTS, own_folder, preflight, write_whole

from .sources.cli import app as data_app

app = typer.Typer(
    help="Train soil moisture models: simulate, cross-validate, fit and export.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

app.add_typer(data_app, name="data")

ConfigArgument = Annotated[
    Path, typer.Argument(help="experiment configuration, TOML", metavar="CONFIG")
]
TableOption = Annotated[
    Path | None, typer.Option("--table", help="table to read instead of that in CONFIG")
]
#: Packages of the extra [train] that a command cannot do without. torch alone takes a second.
NEEDED_PACKAGES = {
    "crossval": ("scipy", "torch"),
    "experiments": ("scipy", "torch"),
    "fit": ("onnx", "scipy", "torch"),
    "fit-daily": ("scipy",),
    "index-score": ("scipy", "torch"),
    "isolation": ("scipy", "torch"),
    "record": ("scipy", "torch"),
}
#: Files and folders each command writes into its results folder.
CROSSVAL = ("parts", "metrics.json", "predictions.csv", "figures", "report.html")
FIT = ("model.onnx", "model.core.onnx", "card.json", "MODEL_CARD.md", "model.stac.json")
EXPERIMENTS = ("experiments.json", "experiments.md")
RunOption = Annotated[Path, typer.Option("--output", "-o", help="folder to write the results to")]


def main() -> None:
    """Run ``kgsm-train``: one-line errors on stderr, exit codes of docs/design.md, section 3."""
    run(app, "kgsm-train")


@contextmanager
def _extra() -> Iterator[None]:
    """Turn a failed import into the error of a missing extra, exit 5."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise MissingError(
            f"{error.name} is not installed; training needs: pip install 'kgsm[train]'"
        ) from None


@app.callback(invoke_without_command=True)
def _commands(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from kgsm_infer import __version__

        print(__version__)
        raise typer.Exit
    with _extra():
        for package in NEEDED_PACKAGES.get(context.invoked_subcommand or "", ()):
            import_module(package)


@app.command()
def init(
    table: Annotated[Path, typer.Argument(help="labelled table", metavar="TABLE")],
    output: Annotated[Path, typer.Option("--output", "-o", help="TOML file to write")],
) -> None:
    """Write a commented experiment that fits TABLE.

    Example: kgsm-train init table.csv -o experiment.toml
    """
    from .starter import write_starter

    preflight([output], [table], suffixes=(".toml",), what="experiments")
    experiment = write_starter(table, output)
    say(
        f"{output}: {len(experiment.crossval.models)} models, {experiment.crossval.folds} folds by "
        f"{experiment.data.group}; next: kgsm-train crossval {output} -o run"
    )


@app.command()
def simulate(
    output: Annotated[Path, typer.Option("--output", "-o", help="CSV file to write")],
    sites: Annotated[int, typer.Option(min=1, help="number of sites")] = 40,
    years: Annotated[int, typer.Option(min=1, help="length of the series, years")] = 2,
    a: Annotated[float, typer.Option("--a", help="true A of Eq 2, linear power")] = 0.02,
    looks: Annotated[float, typer.Option(help="equivalent number of looks")] = 100.0,
    seed: Annotated[int, typer.Option(help="seed of the random numbers")] = 0,
    weather: Annotated[
        Path | None, typer.Option(help="CSV file to write the daily rain to")
    ] = None,
    irrigated_every_days: Annotated[
        float, typer.Option(help="mean days between irrigations of a site; 0 for none")
    ] = 0.0,
    irrigation_mm: Annotated[float, typer.Option(help="water of one irrigation")] = 25.0,
) -> None:
    """Simulate a labelled table with known truth.

    Every file written is marked simulated.

    Example: kgsm-train simulate -o twin.csv --sites 40 --years 2
    """
    from .sources.simulate import Twin, write_twin

    preflight([output, output.with_suffix(".json"), weather], suffixes=RESULTS, what="tables")
    twin = Twin(
        sites=sites,
        years=years,
        a=a,
        looks=looks,
        seed=seed,
        irrigated_every_days=irrigated_every_days,
        irrigation_mm=irrigation_mm,
    )
    written = write_twin(output, twin, weather)
    say(f"{output}: {written} simulated rows; truth in {output.with_suffix('.json')}")


@app.command()
def crossval(
    config: ConfigArgument,
    output: RunOption,
    table: TableOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="number of processes")] = os.cpu_count() or 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and end")] = False,
    probes: Annotated[
        str, typer.Option(help="numbers of probed fields to score on new dates, such as 1,3,5")
    ] = "",
) -> None:
    """Cross-validate all models on the same folds and dates.

    Writes metrics.json, predictions.csv, figures and report.html. Call it again to continue an
    interrupted run.

    Example: kgsm-train crossval experiment.toml -o results
    """
    from .config import read_config
    from .evaluation.crossval import crossvalidate, plan
    from .evaluation.display import bars, print_scores, print_times
    from .evaluation.rundir import write_run

    experiment = read_config(config, table)
    counts = [int(item) for item in probes.split(",") if item.strip().isdecimal()]
    if 0 in counts or len(counts) != len(probes.split(",")) * bool(probes):
        raise UsageError(f"--probes {probes!r} must be whole numbers above 0, such as 1,3,5")
    say(plan(experiment, output, note))
    if dry_run:
        return
    own_folder(output, CROSSVAL)
    with bars() as progress:
        result = crossvalidate(experiment, output, jobs=jobs, progress=progress)
    board = write_run(output, result, counts)
    print_scores(board)
    print_times(result.seconds)
    say(f"{output}: report.html, metrics.json, predictions.csv, figures/")
    if board.ours in board.no_skill:  # last, so that it is not overlooked
        say(board.no_skill[board.ours])


@app.command()
def experiments(
    plan: Annotated[Path, typer.Argument(help="variants of an experiment, TOML")],
    output: RunOption,
    table: TableOption = None,
    jobs: Annotated[int, typer.Option(min=1, help="number of processes")] = os.cpu_count() or 1,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="show the plan and end")] = False,
) -> None:
    """Compare variants of an experiment, with nested selection.

    Writes experiments.json and experiments.md.

    Example: kgsm-train experiments plan.toml -o results
    """
    from .evaluation.display import bars
    from .evaluation.experiments import markdown, read_plan, run_plan

    wanted = read_plan(plan, table)
    say(
        f"{plan}: {len(wanted.names)} variants, seeds {', '.join(map(str, wanted.seeds))}, "
        f"{wanted.trainings()} trainings of networks at most"
    )
    if dry_run:
        return
    own_folder(output, EXPERIMENTS)
    with bars() as progress:
        board = run_plan(wanted, output, jobs=jobs, progress=progress)
    say(markdown(board))


@app.command()
def fit(
    config: ConfigArgument,
    output: RunOption,
    table: TableOption = None,
    model: Annotated[
        str | None, typer.Option(help="model to fit instead of that in CONFIG")
    ] = None,
) -> None:
    """Fit the final model on all labelled rows, and export it.

    Writes model.onnx, model.core.onnx, card.json, MODEL_CARD.md and model.stac.json.

    Example: kgsm-train fit experiment.toml -o results
    """
    from .config import read_config
    from .evaluation.display import bars
    from .fit import fit_and_export
    from .models import MODELS

    experiment = read_config(config, table)
    kind = experiment.shipped if model is None else model
    shippable = [
        name
        for name, one in MODELS.items()
        if (one.network and one.reads != "no-radar") or experiment.is_head_alone(name)
    ]
    if kind not in shippable:
        raise UsageError(f"--model {kind!r} must be one of {', '.join(shippable)}")
    own_folder(output, FIT)
    with bars() as progress:
        done = fit_and_export(experiment, output, progress, kind=kind, tell=note)
    say(
        f"{done.complete} and {done.core.name}: five engines agree to "
        f"{done.proof.worst_difference:.1e} m3/m3 on {done.proof.windows} windows"
    )


@app.command("index-score")
def index_score(
    table: Annotated[Path, typer.Argument(help="table with vh_db and sm", metavar="TABLE")],
    dry: Annotated[float, typer.Option(help="driest soil moisture, m3/m3")] = 0.05,
    wet: Annotated[float, typer.Option(help="wettest soil moisture, m3/m3")] = 0.40,
    drop: Annotated[
        str,
        typer.Option(
            help="columns that mark labels to leave out, comma-separated, such as sm_copied"
        ),
    ] = "",
) -> None:
    """Score the label-free index on a labelled table, pass by pass.

    Prints R, RMSE and bias for the shipped typical place and for others, and the error variances of
    the index.

    Example: kgsm-train index-score dev.csv --drop sm_copied
    """
    from kgsm_infer.model.index import stated_limits

    from .evaluation.index_score import as_text, score_index

    stated_limits(dry, wet, None, None)
    columns = [name.strip() for name in drop.split(",") if name.strip()]
    say(as_text(score_index(table, dry, wet, columns), dry, wet))


@app.command("fit-daily")
def fit_daily(
    table: Annotated[Path, typer.Argument(help="daily labels: site,date,sm", metavar="TABLE")],
    weather: Annotated[Path, typer.Option("--weather", help="daily file: site, date, rain_mm")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write")],
    name: Annotated[
        str, typer.Option(help="name of the parameter set; default: that of the file")
    ] = "",
    licence: Annotated[str, typer.Option(help="licence of the labels")] = "not stated",
    citation: Annotated[str, typer.Option(help="citation of the labels")] = "not stated",
    hemisphere: Annotated[
        str, typer.Option(help="hemisphere of the sites: south or north")
    ] = "south",
    utc_offset_hours: Annotated[float, typer.Option(help="UTC offset of labels with a time")] = 0.0,
) -> None:
    """Fit the daily model to labelled daily series and their rain.

    Sites are scored with parameters fitted without their fold, on passes simulated from the labels.

    Example: kgsm-train fit-daily labels.csv --weather rain.csv -o parameters.json
    """

    from .daily import fit_and_score, read_labelled, source_of, write_parameters
    from .evaluation.daily import markdown

    preflight([output], [table, weather], suffixes=(".json",), what="parameters")
    source = source_of(name or output.stem, licence, citation, hemisphere, table, weather)
    fitted = fit_and_score(read_labelled(table, weather, utc_offset_hours), source, tell=note)
    write_parameters(output, fitted.parameters)
    say(markdown(fitted.boards))
    say(f"{output}: parameters {fitted.parameters.name}")


@app.command()
def record(
    run_folder: Annotated[Path, typer.Argument(help="folder of a cross-validation")],
    output: Annotated[Path, typer.Option("--output", "-o", help="JSON file to write")],
    docs: Annotated[
        list[Path] | None,
        typer.Option(help="Markdown file whose recorded tables are renewed; repeatable"),
    ] = None,
) -> None:
    """Record the scores of a run for documents.

    The file has no value of a site or row.

    Example: kgsm-train record results -o scores.json
    """
    from .evaluation.recorded import read_recorded, record, with_tables

    record(run_folder, output)
    for path in docs or ():
        text = path.read_text(encoding="utf-8")
        renewed = with_tables(text, lambda name: read_recorded(output.with_name(f"{name}.json")))
        with write_whole(path) as out:
            out.write(renewed)
    say(f"{output}: recorded")


@app.command()
def isolation(
    config: ConfigArgument,
    table: TableOption = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="JSON file to record the table in")
    ] = None,
) -> None:
    """Measure the effect of isolation on backscatter.

    Prints the shift in dB, and R of backscatter with soil moisture before and after.

    Example: kgsm-train isolation experiment.toml
    """
    from .config import read_config
    from .evaluation.isolation import isolation_effects, isolation_rows
    from .evaluation.recorded import markdown, write_tables

    found = markdown(isolation_rows(isolation_effects(read_config(config, table))))
    if output is not None:
        write_tables(output, {"isolation": found})
    say(found)


if __name__ == "__main__":
    main()
