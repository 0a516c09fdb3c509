"""Experiments: every key known, every mistake named."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from kgsm_infer.base.errors import UsageError
from kgsm_train.config import as_json, read_config
from kgsm_train.evaluation.experiments import read_plan

EVERY_TOML = sorted((Path(__file__).parents[2] / "examples").glob("*.toml"))
PLANS = [path for path in EVERY_TOML if "variants" in tomllib.loads(path.read_text())]
EXAMPLES = [path for path in EVERY_TOML if "data" in tomllib.loads(path.read_text())]


def read(tmp_path, text):
    path = tmp_path / "e.toml"
    path.write_text(text)
    return read_config(path)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_the_examples_are_read_as_written(path):
    config = as_json(read_config(path))
    for section, keys in tomllib.loads(path.read_text()).items():
        for key, value in keys.items():
            assert config[section][key] == value


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.name)
def test_the_plans_are_read_as_written(path):
    plan = read_plan(path)
    for name, changes in tomllib.loads(path.read_text())["variants"].items():
        config = as_json(plan.variants[name, plan.seeds[0]])
        for section, keys in changes.items():
            for key, value in keys.items():
                assert config[section][key] == value


def test_paths_start_at_the_experiment_and_the_option_wins(tmp_path):
    config = read(tmp_path, '[data]\ntable = "x/t.csv"')
    assert config.table == tmp_path / "x/t.csv"
    assert read_config(tmp_path / "e.toml", "other.csv").table == Path("other.csv").absolute()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[data", "not a TOML file"),
        ("", "[data] table is required"),
        ("[data]\ntable='t'\n[dta]\n", "unknown section [dta]; known: data"),
        ("[data]\ntable='t'\ngroups='f'", "[data] groups: unknown key; known: table, group"),
        ("data = 3", "[data] must be a section"),
        ("[data]\ntable=3", "[data] table: 3 should be of type str"),
        ("[data]\ntable='t'\n[inputs]\nsteps=2.5", "[inputs] steps: 2.5 should be of type int"),
        ("[data]\ntable='t'\n[inputs]\nsteps=true", "[inputs] steps: True should be of type int"),
        ("[data]\ntable='t'\n[inputs]\nsteps=0", "[inputs] steps must be at least 1"),
        ("[data]\ntable='t'\n[inputs]\nfeatures='ndvi'", "'ndvi' should be a list of names"),
        ("[data]\ntable='t'\n[inputs]\nfeatures=['x','x']", "[inputs] names a feature twice"),
        ("[data]\ntable='t'\n[inputs]\nfeatures=['sm']", "has the label 'sm' among the features"),
        ("[data]\ntable='t'\n[inputs]\npolarisation='hh'", "must be 'vh' or 'vv'"),
        ("[data]\ntable='t'\n[wcm]\na=-1", "[wcm] a must be positive"),
        ("[data]\ntable='t'\n[wcm]\nangle_rule='local'", "[wcm] angle_rule must be 'constant'"),
        ("[data]\ntable='t'\n[crossval]\nmodels=['svm']", "has 'svm'; known: mean, same-date-mean"),
        ("[data]\ntable='t'\n[crossval]\nfolds=1", "[crossval] folds must be 0 or at least 2"),
        ("[data]\ntable='t'\n[network]\ndropout=1", "[network] dropout must lie in [0, 1)"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "e.toml"))


def test_an_experiment_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="cannot read the configuration"):
        read_config(tmp_path / "none.toml")


def test_a_configuration_nested_without_end_is_refused(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(UsageError, match="not a TOML file"):
        read_config(tmp_path / "deep.toml")
