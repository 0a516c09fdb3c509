"""``kgsm-train init``: the written experiment reads, and a cross-validation of it runs."""

from __future__ import annotations

import re

import pytest
from typer.testing import CliRunner

import kgsm_infer
from kgsm_infer.base.errors import DataError
from kgsm_infer.tables.table import table_from_columns
from kgsm_train.cli import app
from kgsm_train.config import read_config
from kgsm_train.evaluation.crossval import crossvalidate
from kgsm_train.sources.simulate import Twin, write_twin
from kgsm_train.starter import starter_text


def columns(sites=("a", "b"), **changes):
    """Six dates of each site; None removes a column."""
    count = 6 * len(sites)
    values = {
        "site": [site for site in sites for _ in range(6)],
        "date": [f"2024-0{month}-01" for month in range(1, 7)] * len(sites),
        "vh_db": [-17.0] * count,
        "ndvi": [0.4] * count,
        "sm": [0.2] * count,
    }
    return {name: v for name, v in {**values, **changes}.items() if v is not None}


def text_of(**changes):
    return starter_text(table_from_columns(columns(**changes)), "table.csv")


def test_the_written_file_reads_and_cross_validates(tmp_path, monkeypatch):
    write_twin(tmp_path / "twin.csv", Twin(sites=4, years=1))
    (tmp_path / "settings").mkdir()
    output = tmp_path / "settings" / "own.toml"
    done = CliRunner().invoke(app, ["init", str(tmp_path / "twin.csv"), "-o", str(output)])
    assert done.exit_code == 0, done.output
    experiment = read_config(output)
    assert experiment.table.resolve() == tmp_path / "twin.csv"
    assert experiment.data.licence == "simulated" and experiment.wcm.angle_rule == "column"
    assert experiment.shipped == experiment.crossval.compared == "index"
    tiny = {
        "network": {"hidden": 4, "members": 1},
        "training": {"epochs": 2},
        "crossval": {"folds": 2, "date_blocks": 2, "bootstrap": 20},
    }
    result = crossvalidate(read_config(output, changes=tiny), tmp_path / "run", jobs=1)
    assert result.seconds


@pytest.mark.parametrize(
    ("changes", "lines"),
    [
        ({}, ['group = "site"', 'angle_rule = "constant"', "folds = 2 "]),
        ({"field": ["f"] * 6 + ["g"] * 6}, ['group = "field"']),
        ({"angle_deg": [39.0] * 12}, ['angle_rule = "column"']),
        ({"ndvi": None, "vwc_kg_m2": [1.0] * 12}, ['vwc_rule = "column"', '["vwc_kg_m2",']),
        ({"ndvi": None}, ['features = ["vh_anomaly"]', '"same-date-mean", "wetness", "ridge"']),
        ({"vh_db": None, "vv_db": [-10.0] * 12}, ['polarisation = "vv"', '"vv_anomaly"]']),
    ],
)
def test_the_experiment_fits_the_table(tmp_path, changes, lines):
    text = text_of(**changes)
    assert not [line for line in lines if line not in text]
    (tmp_path / "own.toml").write_text(text)
    read_config(tmp_path / "own.toml")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sm": None}, "no soil moisture in a column 'sm'; without labels use kgsm-infer wetness"),
        ({"vh_db": None}, "no backscatter"),
        ({"sites": ("a",)}, "labels of one site"),
    ],
)
def test_a_table_that_cannot_be_scored_is_refused(changes, message):
    with pytest.raises(DataError, match=re.escape(message)):
        text_of(**changes)


def test_version():
    done = CliRunner().invoke(app, ["--version"])
    assert done.output.strip() == kgsm_infer.__version__
