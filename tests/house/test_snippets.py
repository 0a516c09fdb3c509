"""Run every command and snippet of README and docs, except those that CONTRIBUTING.md lists.

Each page is one test: its commands run in order in a folder that has the files it names
(tests/documented_inputs.py). Commands of kgsm run in this process.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from contextlib import ExitStack
from pathlib import Path

import pytest
from building import copy_sources
from documented import (
    MODULES,
    PAGES,
    ROOT,
    Shown,
    documented,
    in_process,
    in_shell,
    is_run,
    not_run,
)
from documented_inputs import (
    MORE,
    common,
    daily_labels,
    fewer_sites,
    over_the_catalogue,
    over_the_products,
    shortened,
)
from made_weather import serving

pytestmark = pytest.mark.slow
SHOWN = [item for page in PAGES for item in documented(page)]
COMMANDS = [item for item in SHOWN if item.kind == "command" and is_run(item)]
#: Commands that another test reads from the page and runs.
ELSEWHERE = {
    "docs/tutorial.md": "tests/house/test_docs.py",  # on the real data
    "docs/gateway.md": "tests/gateway/test_documented.py",  # with a running gateway
}
PAGES_HERE = sorted({item.page for item in COMMANDS} - set(ELSEWHERE))
#: A program that is not installed everywhere: a database with one table.
PSQL = '#!/bin/sh\ncase "$2" in *"to stdout"*) cat observations.csv;; *) cat > stored.csv;; esac\n'


def test_what_is_not_run_is_counted_and_has_a_reason() -> None:
    listed = not_run()
    assert len(listed) == 8
    for start, reason in listed.items():
        assert [item for item in SHOWN if start in item.text], f"{start} is on no page"
        assert len(reason.split()) > 3


def test_every_kind_of_snippet_is_run() -> None:
    """Listings are outputs, file contents, equations and trees."""
    kinds = {item.kind for item in SHOWN if is_run(item)}
    assert kinds == {"command", "listing", "python", "toml", "dockerfile"}
    assert all(Path(ROOT / test).is_file() for test in ELSEWHERE.values())


@pytest.fixture(scope="module")
def inputs(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make the files that most pages name once."""
    pytest.importorskip("rasterio", reason="scenes need kgsm[raster]")
    folder = tmp_path_factory.mktemp("pages") / "project"
    folder.mkdir()
    common(folder, tiny_model)
    return folder


@pytest.fixture
def folder(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy the files into a working folder of this test."""
    copy = tmp_path / "project"
    shutil.copytree(inputs, copy)
    monkeypatch.chdir(copy)
    return copy


def run(item: Shown, folder: Path) -> None:
    """Run one command as the page prints it, but for what is said here.

    ``pip install`` resolves and makes metadata without installing, ``make`` prints the recipe of
    its target: tests/packages installs, and .ci/run calls make. A benchmark's report is made of
    the timings of a smoke run. Archives on the internet are replaced by servers here.
    """
    words = shlex.split(item.text)
    with ExitStack() as stack:
        if words[0] == "pip":
            options = ["--dry-run", "-q", "--no-deps", "--no-build-isolation"]
            where = copy_sources(folder.parent / "sources")
            command = [sys.executable, "-m", "pip", "install", *options, *words[2:]]
            in_shell(item, where, shlex.join(command))
        elif words[0] == "make":
            in_shell(item, folder, f"make -n -C {ROOT} {shlex.join(words[1:])}")
        elif words[0] == "psql":
            in_shell(item, folder, item.text, psql=PSQL)
            assert (folder / "stored.csv").read_text().startswith("site,date,sm,")
        elif words[1:2] == ["benchmarks/report.py"]:
            pytest.importorskip("pytest_benchmark", reason="not installed ([bench])")
            shutil.copytree(ROOT / "benchmarks", folder / "benchmarks")
            shutil.copytree(ROOT / "docs", folder / "docs", dirs_exist_ok=True)
            smoke_run(folder / "demo-out/bench.json")
            in_shell(item, folder, item.text.replace(".venv/bin/python", sys.executable))
        elif words[0] not in MODULES:
            in_shell(item, folder, item.text)
        else:
            in_process(with_what_it_needs(item, folder, stack))
    if "kgsm-train init" in item.text:  # what a reader may do next
        path = folder / "experiment.toml"
        path.write_text(shortened(path.read_text()))
    if "kgsm-train simulate" in item.text:
        fewer_sites(folder / "twin.csv")


def with_what_it_needs(item: Shown, folder: Path, stack: ExitStack) -> Shown:
    """Start the server of a command that downloads, and make a fit one of few steps."""
    patch = stack.enter_context(pytest.MonkeyPatch.context())
    if "https://planetarycomputer" in item.text or "CATALOGUE" in item.text:
        return over_the_catalogue(item, folder, stack)
    if "prepare weather" in item.text:
        from kgsm_infer.prepare import weather_services

        service, _ = stack.enter_context(serving("open-meteo"))
        patch.setattr(weather_services, "SERVICES", {"open-meteo": service})
    if "fit-daily" in item.text:
        from kgsm_train.learning import daily

        patch.setattr(daily, "EVALUATIONS", 12)
        patch.setattr(daily, "BUCKET_EVALUATIONS", 4)
        patch.setattr("kgsm_train.daily.SEEDS", (0,))
    if "fit-daily table.csv" in item.text:
        daily_labels(folder)
    return item


def smoke_run(path: Path) -> None:
    """Time one benchmark on tiny inputs, as ``make bench`` times all."""
    path.parent.mkdir(exist_ok=True)
    options = ["--benchmark-max-time=0.001", "--benchmark-min-rounds=1", f"--rootdir={ROOT}"]
    options += ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:cov"]
    options.append(f"--benchmark-json={path}")
    inherited = {name: text for name, text in os.environ.items() if "PYTEST" not in name}
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    subprocess.run(
        [sys.executable, "-m", "pytest", ROOT / "benchmarks/test_isolation.py", *options],
        env={**inherited, "PYTHONPATH": paths, "KGSM_BENCH_SMOKE": "1"},
        check=True,
    )


@pytest.mark.parametrize("page", PAGES_HERE)
def test_the_commands_of_a_page_run(page: str, folder: Path) -> None:
    MORE.get(page, lambda _: None)(folder)
    for item in COMMANDS:
        if item.page == page and "S1A_…" not in item.text:
            run(item, folder)


@pytest.mark.realdata
def test_the_commands_on_sentinel_1_products_run(folder: Path, shared_data: Path) -> None:
    """A raster of the geoid replaces PROJ's grid of it, which PROJ downloads."""
    pytest.importorskip("sarsen", reason="sarsen is not installed")
    over_the_products(folder, shared_data)
    found = [item for item in COMMANDS if "S1A_…" in item.text]
    assert len(found) == 2
    for item in found:
        shutil.rmtree("scene", ignore_errors=True)
        text = item.text.replace("--heights egm2008", "--geoid geoid.tif")
        text = text.replace("--safe S1A_….SAFE", "--safe S1A_1….SAFE", 1)
        text = text.replace("--safe S1A_….SAFE", "--safe S1A_2….SAFE", 1)
        in_process(dataclasses.replace(item, text=text.replace("S1A_….SAFE", "S1A_1….SAFE")))


def blocks(page: str, kind: str) -> list[str]:
    """Return the fenced snippets of a page."""
    return [item.text for item in SHOWN if item.page == page and item.kind == kind]


def test_settings_of_an_experiment_are_read(folder: Path) -> None:
    from kgsm_train.config import read_config

    for page in ("docs/howto/scientist.md", "docs/weather.md"):
        (text,) = blocks(page, "toml")
        (folder / "experiment.toml").write_text(text)
        config = read_config(folder / "experiment.toml")
        assert Path(config.data.table).name == tomllib.loads(text)["data"]["table"]


def test_defaults_are_used(folder: Path) -> None:
    (text,) = [text for text in blocks("docs/integrate.md", "toml") if "[map]" in text]
    (folder / "defaults.toml").write_text(text)
    (example,) = [
        i for i in COMMANDS if i.page == "docs/maps.md" and "-o soil_moisture.tif" in i.text
    ]
    words = example.text.replace("kgsm-infer", "kgsm-infer --defaults defaults.toml")
    in_process(dataclasses.replace(example, text=words))


def test_settings_of_fusion_are_run() -> None:
    """tests/documented_inputs.py writes the page's pairs, which the page's commands read."""
    assert len(blocks("docs/fusion.md", "toml")) == 1


def test_lazy_arrays_are_retrieved(folder: Path) -> None:
    (maps,), (weather,) = blocks("docs/maps.md", "python"), blocks("docs/weather.md", "python")
    names: dict = {}
    exec(maps, names)
    assert (folder / "soil_moisture.zarr").is_dir()
    exec(weather, names)
    assert "sm" in names["maps"]


def test_the_other_python_is_run_elsewhere() -> None:
    text = (ROOT / "tests/house/test_docs.py").read_text()
    for page in {item.page for item in SHOWN if item.kind == "python"}:
        assert page in text or page in ("docs/maps.md", "docs/weather.md")


def test_the_json_of_predict_has_the_printed_keys(folder: Path) -> None:
    (printed,) = [
        item.text for item in SHOWN if item.page == "docs/integrate.md" and item.kind == "listing"
    ]
    (predict,) = [i for i in COMMANDS if i.page == "README.md" and "kgsm-infer predict" in i.text]
    said = in_process(dataclasses.replace(predict, text=f"{predict.text} --json"))
    (line,) = [line for line in said.splitlines() if line.startswith("{")]
    assert json.loads(line).keys() == json.loads(printed).keys()


def test_the_scripts_of_earth_engine_are_javascript(tmp_path: Path) -> None:
    if shutil.which("node") is None:
        pytest.skip("node is not installed")
    scripts = blocks("docs/earth_engine.md", "js")
    assert len(scripts) == 2
    for script in scripts:
        (tmp_path / "script.js").write_text(script)
        subprocess.run(["node", "--check", tmp_path / "script.js"], check=True)
