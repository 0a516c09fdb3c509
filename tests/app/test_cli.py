"""The commands as a person runs them: output, exit codes, one-line reasons, no half files."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys

import numpy as np
import onnx
import pytest

import kgsm_infer
from kgsm_infer.tables.table import read_table

MODULES = {"kgsm_infer": "kgsm_infer.app.cli", "kgsm_train": "kgsm_train.cli"}
BAD_ROWS = {
    "vh_db": ("-250", "is not a backscatter in dB"),
    "ndvi": ("4500", "scaled by 10,000?"),
    "angle_deg": ("0.65", "radians?"),
    "date": ("16/06/2022", "is not an ISO 8601 date"),
}


def command(package, *args, cwd, env=None):
    return subprocess.run(
        [sys.executable, "-m", MODULES[package], *map(str, args)],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
        check=False,
    )


def infer(*args, cwd, env=None):
    return command("kgsm_infer", *args, cwd=cwd, env=env)


@pytest.fixture
def folder(tiny_model, tmp_path):
    for name in ("twin.csv", "tiny.toml", "model.onnx", "model.core.onnx"):
        shutil.copy(tiny_model / name, tmp_path / name)
    return tmp_path


def rows_of(path):
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("model", ["model.onnx", "model.core.onnx"])
def test_predict_gives_one_row_per_row_in_order(folder, model):
    done = infer("predict", model, "twin.csv", "-o", "out.csv", cwd=folder)
    assert done.returncode == 0, done.stderr
    given, got = rows_of(folder / "twin.csv"), rows_of(folder / "out.csv")
    head = ["site", "date", "sm", "sm_lower", "sm_upper", "soil_db", "flags", "source"]
    assert list(got[0]) == head
    assert [(row["site"], row["date"]) for row in got] == [(r["site"], r["date"]) for r in given]
    assert all(row["source"] == "simulated" for row in got)
    assert "trained on simulated data" in done.stderr
    for before, after in zip(given, got, strict=True):
        assert (after["sm"] == "") == (
            before["vh_db"] == "" or before["ndvi"] == "" or "soil_signal_lost" in after["flags"]
        )
        assert ("missing_input" in after["flags"]) == ("" in (before["vh_db"], before["ndvi"]))
    # the same through the library
    loaded = kgsm_infer.load(folder / model)
    table = read_table(folder / "twin.csv", features=loaded.table_features())
    sm = np.asarray([float(row["sm"] or "nan") for row in got], np.float32)
    assert np.array_equal(loaded.predict(table).sm, sm, equal_nan=True)


@pytest.mark.parametrize("column", BAD_ROWS)
def test_bad_data_exit_3_with_one_line_and_no_output(folder, column):
    value, cause = BAD_ROWS[column]
    rows = rows_of(folder / "twin.csv")
    rows[4][column] = value
    with open(folder / "bad.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    done = infer("predict", "model.onnx", "bad.csv", "-o", "out.csv", cwd=folder)
    assert done.returncode == 3
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"kgsm-infer: bad.csv: row 6, column {column}: {value} ")
    assert cause in done.stderr
    assert not (folder / "out.csv").exists()


def test_bad_models_exit_4(folder):
    good = (folder / "model.onnx").read_bytes()
    foreign = onnx.load_from_string(good)
    del foreign.metadata_props[:]
    for content in (good[:1000], b"", b"no model", foreign.SerializeToString(), None):
        if content is None:
            (folder / "m.onnx").unlink()
        else:
            (folder / "m.onnx").write_bytes(content)
        for args in (["predict", "m.onnx", "twin.csv", "-o", "out.csv"], ["info", "m.onnx"]):
            done = infer(*args, cwd=folder)
            assert done.returncode == 4, done.stderr
            assert done.stderr.startswith("kgsm-infer: m.onnx: ") and done.stderr.count("\n") == 1
    assert not (folder / "out.csv").exists()


def test_a_missing_extra_exits_5(folder, tmp_path):
    (tmp_path / "block").mkdir()
    for package in ("pyarrow", "torch"):
        (tmp_path / "block" / f"{package}.py").write_text(
            f"raise ModuleNotFoundError('blocked', name='{package}')"
        )
    env = {"PYTHONPATH": os.pathsep.join([str(tmp_path / "block"), *sys.path])}
    done = infer("predict", "model.onnx", "twin.parquet", "-o", "o.csv", cwd=folder, env=env)
    assert done.returncode == 5
    assert "pip install 'kgsm[parquet]'" in done.stderr
    done = command("kgsm_train", "simulate", "-o", "t.csv", "--sites", "2", cwd=folder, env=env)
    assert done.returncode == 0, "a table needs no torch"
    done = command("kgsm_train", "crossval", "none.toml", "-o", "r", cwd=folder, env=env)
    assert done.returncode == 5
    assert "torch is not installed; training needs: pip install 'kgsm[train]'" in done.stderr


def test_usage_exits_2(folder):
    assert infer("predict", cwd=folder).returncode == 2
    assert infer("isolate", "twin.csv", "-o", "o.csv", "--a", "-1", cwd=folder).returncode == 2
    for option in (["--angle", "steep"], ["--vegetation", "lai"], ["--polarisation", "hh"]):
        done = infer("isolate", "twin.csv", "-o", "o.csv", "--a", "0.02", *option, cwd=folder)
        assert done.returncode == 2 and option[1] in done.stderr
    done = infer("predict", "model.onnx", "twin.csv", "-o", "no/o.csv", cwd=folder)
    assert done.returncode == 2 and "make it first" in done.stderr
    done = command("kgsm_train", "fit", "none.toml", "-o", "run", cwd=folder)
    assert done.returncode == 2 and "no such file" in done.stderr


def test_isolate_and_invert_are_equations_12_and_6(folder):
    options = ["--a", "0.02", "--angle", "column"]
    done = infer("isolate", "twin.csv", "-o", "soil.csv", *options, cwd=folder)
    assert done.returncode == 0, done.stderr
    done = infer(
        "invert", "twin.csv", "-o", "sm.csv", *options, "--c", "-20", "--d", "25", cwd=folder
    )
    assert done.returncode == 0, done.stderr
    soil, inverted = rows_of(folder / "soil.csv"), rows_of(folder / "sm.csv")
    checked = 0
    for given, isolated, sm in zip(rows_of(folder / "twin.csv"), soil, inverted, strict=True):
        if isolated["soil_db"] == "":
            assert sm["sm"] == "" and isolated["flags"] == sm["flags"] != ""
            continue
        ndvi, theta = float(given["ndvi"]), np.deg2rad(float(given["angle_deg"]))
        vwc = max(0, 1.9134 * ndvi**2 - 0.3215 * ndvi)
        gamma2 = np.exp(-2 * 0.084 * vwc / np.cos(theta))
        veg = 0.02 * np.cos(theta) * (1 - gamma2)
        expected = 10 * np.log10((10 ** (float(given["vh_db"]) / 10) - veg) / gamma2)
        assert float(isolated["soil_db"]) == pytest.approx(expected, abs=1e-4)
        assert float(sm["sm"]) == pytest.approx(np.clip((expected + 20) / 25, 0, 1), abs=1e-5)
        checked += 1
    assert checked > 50


def test_info_says_what_the_model_is(folder):
    done = infer("info", "model.core.onnx", cwd=folder)
    assert done.returncode == 0
    for word in ("kg-lstm, core graph", "windows of 3 acquisitions", "doy_sin, clay", "SIMULATED"):
        assert word in done.stdout
    card = json.loads(infer("info", "model.onnx", "--json", cwd=folder).stdout)
    assert card["simulated"] is True and card["wcm"]["b"] == 0.084


def test_help_needs_nothing_heavy(folder):
    code = (
        "import sys, kgsm_infer; before = set(sys.modules)\n"
        "assert not {'numpy', 'onnxruntime', 'typer'} & before, before\n"
        "from kgsm_infer.app.cli import app\n"
        "try:\n    app(['--help'])\nexcept SystemExit:\n    pass\n"
        "assert not {'numpy', 'onnxruntime', 'torch', 'pandas'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "predict" in done.stdout and "isolate" in done.stdout


def test_the_chain_from_simulation_to_prediction(tmp_path):
    """simulate -> crossval -> fit -> predict, as the README shows it."""
    train = lambda *args: command("kgsm_train", *args, cwd=tmp_path)  # noqa: E731
    done = train("simulate", "-o", "twin.csv", "--sites", "4", "--years", "1")
    assert done.returncode == 0, done.stderr
    assert "simulated" in done.stdout
    (tmp_path / "tiny.toml").write_text(
        '[data]\ntable = "twin.csv"\n[inputs]\nsteps = 2\n[network]\nhidden = 4\nmembers = 1\n'
        "[training]\nepochs = 2\n[crossval]\nfolds = 2\ndate_blocks = 2\nbootstrap = 20\n"
        'models = ["mean", "wcm", "ridge", "lstm", "kg-lstm"]\n'
    )
    done = train("crossval", "tiny.toml", "-o", "run", "--dry-run")
    assert done.returncode == 0 and "0 of 40 parts kept" in done.stdout
    assert not (tmp_path / "run").exists()
    done = train("crossval", "tiny.toml", "-o", "run", "--jobs", "1")
    assert done.returncode == 0, done.stderr
    assert "SIMULATED DATA" in done.stdout and "KG-LSTM" in done.stdout
    done = train("fit", "tiny.toml", "-o", "run")
    assert done.returncode == 0, done.stderr
    card = json.loads((tmp_path / "run/card.json").read_text())
    board = json.loads((tmp_path / "run/metrics.json").read_text())
    headline = next(iter(board["regimes"].values()))
    assert card["validation"]["regime"] == headline["title"] == "new sites, new dates"
    assert card["validation"]["rmse"] == headline["models"]["kg-lstm"]["pooled"]["rmse"]
    done = infer("predict", "run/model.onnx", "twin.csv", "-o", "sm.csv", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = train("fit", "tiny.toml", "-o", "plain", "--model", "lstm")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "plain/card.json").read_text())["wcm"] is None


def test_map_refers_a_table_to_predict(folder):
    done = infer("map", "model.onnx", "twin.csv", "-o", "out.tif", cwd=folder)
    assert done.returncode == 2
    assert "twin.csv: is a table; use kgsm-infer predict" in done.stderr
    assert not (folder / "out.tif").exists()
