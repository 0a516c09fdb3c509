"""Options that many commands share: defaults from a file, JSON, advice, groups of help."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import typer

from kgsm_infer.app.cli import app
from kgsm_infer.app.defaults import read_defaults
from kgsm_infer.app.output import advice, count_rows
from kgsm_infer.base import flags
from kgsm_infer.base.errors import UsageError
from kgsm_infer.model.model import load

GROUP = typer.main.get_command(app)


@pytest.fixture
def folder(tiny_model: Path, tmp_path: Path) -> Path:
    for name in ("twin.csv", "model.onnx", "model.core.onnx"):
        shutil.copy(tiny_model / name, tmp_path / name)
    return tmp_path


def infer(*words: str, cwd: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "kgsm_infer.app.cli", *words]
    return subprocess.run(
        command, cwd=cwd, env=os.environ | env, capture_output=True, text=True, check=False
    )


def test_defaults_of_a_file_are_options_and_the_line_overrides_them(folder: Path) -> None:
    (folder / "sub").mkdir()
    (folder / "sub/farm.toml").write_text(
        '[predict]\nweather = "no.csv"\noutput = "../a.csv"\njson = true\n'
    )
    words = ("--defaults", "sub/farm.toml", "predict", "model.core.onnx", "twin.csv")
    done = infer(*words, cwd=folder)
    assert done.returncode != 0 and "sub/no.csv" in done.stderr  # relative to the file
    (folder / "sub/farm.toml").write_text('[predict]\noutput = "../a.csv"\njson = true\n')
    done = infer(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert (folder / "a.csv").exists()
    assert json.loads(done.stdout)["output"].endswith("a.csv")
    done = infer(*words[2:], "-o", "b.csv", cwd=folder, KGSM_DEFAULTS="sub/farm.toml")
    assert done.returncode == 0 and json.loads(done.stdout)["output"] == "b.csv"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[predikt]\nkeep = 'last'", "predikt is not a command of kgsm-infer; did you mean pre"),
        ("[predict]\nkepe = 'last'", "predict has no option kepe; did you mean keep?"),
        ("[predict]\nkeep = ['a', 'b']", "predict.keep takes one value, the file has a list"),
        ("[prepare.stak]\nradar = 'x'", "prepare has no option stak"),
        ("[predict]\nkeep = {a = 1}", "predict.keep must be text"),
        ("[predict]\nweather = true", "predict.weather must be text"),
        ("[predict]\nthreads = 2.7", "predict.threads must be a whole number"),
        ("[predict]\nthreads = true", "predict.threads must be a whole number"),
        ("[predict]\nhold-vegetation = '9'", "predict.hold-vegetation must be a number"),
        ("[predict]\nallow-future = 2", "predict.allow-future must be true or false"),
        ("predict = 3", "predict is a command; write its options in a table"),
        ("[predict", "farm.toml: "),
    ],
)
def test_a_wrong_file_of_defaults_is_refused_with_the_key(
    tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "farm.toml").write_text(text)
    with pytest.raises(UsageError) as refused:
        read_defaults(tmp_path / "farm.toml", GROUP)
    assert words in str(refused.value)


def test_defaults_reach_commands_below_commands(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text(
        '[prepare]\nfields = "f.geojson"\ncollection = ["a", "b"]\n'
        '[prepare.stack]\nradar = "sigma0"\n'
    )
    found = read_defaults(tmp_path / "farm.toml", GROUP)["prepare"]
    assert found["fields"] == str(tmp_path / "f.geojson")
    assert found["collection"] == ["a", "b"]
    assert found["stack"] == {"radar": "sigma0"}


def test_standard_output_as_a_default_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "farm.toml").write_text('[predict]\noutput = "-"\nhold-vegetation = 30\n')
    found = read_defaults(tmp_path / "farm.toml", GROUP)["predict"]
    assert found == {"output": "-", "hold_vegetation": 30}


def test_a_missing_file_of_defaults_is_refused(tmp_path: Path) -> None:
    done = infer("--defaults", "none.toml", "info", "wetness", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "kgsm-infer: none.toml: No such file or directory\n"


@pytest.mark.parametrize("option", ["--hold-vegetation", "--min-valid"])
def test_nan_is_no_value_of_a_range(folder: Path, option: str) -> None:
    words = ("paddocks", "wetness", "twin.csv", "f.geojson", "-o", "p.csv", option, "nan")
    done = infer(*words, cwd=folder)
    assert done.returncode == 2 and f"'{option}': nan is not a number" in done.stderr


@pytest.mark.parametrize("words", [("predict", "wetness"), ("wetness",), ("isolate",)])
def test_a_result_of_simulated_rows_says_so(folder: Path, words: tuple[str, ...]) -> None:
    coefficients = ("--a", "0.02", "--angle", "column") if words == ("isolate",) else ()
    done = infer(*words, "twin.csv", "-o", "o.csv", *coefficients, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert {one.rsplit(",")[-1] for one in (folder / "o.csv").read_text().split()[1:]} == {
        "simulated"
    }
    text = (folder / "twin.csv").read_text().replace("simulated", "measured")
    (folder / "real.csv").write_text(text)
    done = infer(*words, "real.csv", "-o", "o.csv", *coefficients, cwd=folder)
    assert done.returncode == 0 and "source" not in (folder / "o.csv").read_text()


def test_json_counts_what_the_file_has(folder: Path) -> None:
    done = infer("predict", "model.core.onnx", "twin.csv", "-o", "o.csv", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    lines = (folder / "o.csv").read_text().splitlines()
    head, rows = lines[0].split(","), [line.split(",") for line in lines[1:]]
    assert counts["rows"] == len(rows) and counts["simulated"] is True
    assert counts["with_number"] == sum(row[head.index("sm")] != "" for row in rows)
    found = [name for row in rows for name in row[head.index("flags")].split(";") if name]
    assert counts["flags"] == {name: found.count(name) for name in set(found)}


def test_json_of_paddocks_counts_lines(folder: Path) -> None:
    table = (folder / "twin.csv").read_text().splitlines()
    site = table[1].split(",")[table[0].split(",").index("site")]
    square = [[0, 0], [1, 0], [1, 1], [0, 1], [0, 0]]
    outline = {
        "type": "Feature",
        "id": site,
        "properties": {},
        "geometry": {"type": "Polygon", "coordinates": [square]},
    }
    collection = {"type": "FeatureCollection", "features": [outline]}
    (folder / "f.geojson").write_text(json.dumps(collection))
    words = ("paddocks", "model.core.onnx", "twin.csv", "f.geojson", "-o", "p.csv", "--json")
    done = infer(*words, cwd=folder)
    assert done.returncode == 0, done.stderr
    counts = json.loads(done.stdout)
    assert counts["paddocks"] == len((folder / "p.csv").read_text().splitlines()) - 1
    assert counts["with_number"] + sum(counts["causes"].values()) == counts["paddocks"]


def test_advice_names_the_option_that_helps(folder: Path) -> None:
    model = load(folder / "model.core.onnx")
    mask = np.uint16([flags.SHORT_HISTORY, flags.MISSING_INPUT, flags.SHORT_HISTORY, 0])
    short, missing = advice(model, mask, has_past=False, holds=False)
    assert short.startswith("2 rows lack history") and ("--past" in short) == bool(
        model.looks_back()
    )
    assert missing.startswith("1 rows lack an input") and "--hold-vegetation" in missing
    assert advice(model, mask, has_past=True, holds=True) == []
    index = load("wetness")
    past = np.uint16([flags.CONTEXT_MISSING] * 40)
    assert advice(index, past, has_past=False, holds=False) == [
        "40 rows lack history: put earlier acquisitions into the table, or pass --past FILE on "
        "each call"
    ]


def test_counts_are_those_of_the_flags() -> None:
    mask = np.uint16([flags.MISSING_INPUT, flags.MISSING_INPUT | flags.NO_SKILL, 0])
    counts = count_rows(np.float32([np.nan, np.nan, 0.2]), mask)
    assert counts["flags"] == {"missing_input": 2, "no_skill": 1} and counts["with_number"] == 1


@pytest.mark.parametrize(
    ("model", "table", "said"),
    [
        ("model.core.onnx", "model.core.onnx", "is a model, not a table"),
        ("twin.csv", "twin.csv", "is a table, not a model"),
    ],
)
def test_files_in_the_other_order_are_named(
    tiny_model: Path, tmp_path: Path, model: str, table: str, said: str
) -> None:
    done = infer("predict", tiny_model / model, tiny_model / table, "-o", "x.csv", cwd=tmp_path)
    assert done.returncode in (3, 4) and said in done.stderr
    assert not (tmp_path / "x.csv").exists()


@pytest.mark.parametrize("name", ["daily", "map", "paddocks", "predict", "prepare"])
def test_help_shows_options_in_groups_of_at_most_eight(name: str, tmp_path: Path) -> None:
    done = infer(name, "--help", cwd=tmp_path)
    assert done.returncode == 0
    sections = re.split(r"^(\S.*):$", done.stdout, flags=re.M)[1:]
    sizes = {
        title: len(re.findall(r"^  -", text, re.M))
        for title, text in zip(sections[::2], sections[1::2], strict=True)
    }
    assert len([size for size in sizes.values() if size]) >= 4
    assert max(sizes.values()) <= 8


def test_bash_completes_commands(tmp_path: Path) -> None:
    done = infer(
        cwd=tmp_path,
        _KGSM_INFER_COMPLETE="complete_bash",
        COMP_WORDS="kgsm-infer pad",
        COMP_CWORD="1",
    )
    assert "paddocks" in done.stdout
