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
        ("[data", "not a configuration in TOML"),
        ("", "data is missing, expected a table"),
        (
            "[data]\ntable='t'\n[dta]\n",
            "dta is not a known key; did you mean data? known: data, inputs",
        ),
        (
            "[data]\ntable='t'\ngroups='f'",
            "data.groups is not a known key; did you mean group? known: table",
        ),
        ("data = 3", "data is 3, expected a table"),
        ("[data]\ntable=3", "data.table is 3, expected text"),
        (
            "[data]\ntable='t'\n[inputs]\nsteps=2.5",
            "inputs.steps is 2.5, expected a whole number from 1 to 4096",
        ),
        (
            "[data]\ntable='t'\n[inputs]\nsteps=true",
            "inputs.steps is true, expected a whole number from 1 to 4096",
        ),
        (
            "[data]\ntable='t'\n[inputs]\nsteps=0",
            "inputs.steps is 0, expected a whole number from 1 to 4096",
        ),
        (
            "[data]\ntable='t'\n[inputs]\nfeatures='ndvi'",
            "inputs.features is ndvi, expected a list",
        ),
        (
            "[data]\ntable='t'\n[inputs]\nfeatures=['x','x']",
            "inputs: features and statics name x twice",
        ),
        (
            "[data]\ntable='t'\n[inputs]\nfeatures=['sm']",
            "inputs.features[0] is sm, expected a column other than",
        ),
        (
            "[data]\ntable='t'\n[inputs]\npolarisation='hh'",
            "inputs.polarisation is hh, expected one of vh, vv",
        ),
        ("[data]\ntable='t'\n[wcm]\na=-1", "wcm.a is -1, expected a number above 0"),
        (
            "[data]\ntable='t'\n[wcm]\nangle_rule='local'",
            "wcm.angle_rule is local, expected one of constant, column",
        ),
        (
            "[data]\ntable='t'\n[crossval]\nmodels=['svm']",
            "crossval.models[0] is svm, expected one of mean, same-date-mean",
        ),
        ("[data]\ntable='t'\n[crossval]\nfolds=1", "crossval.folds is 1, expected 0 or at least 2"),
        ("[data]\ntable='t'\n[crossval]\nbootstrap=0", "crossval.bootstrap is 0, expected a whole"),
        ("[data]\n", "data.table is missing, expected text"),
        ("[data]\ntable='t'\n[training]\nlearning_rate=nan", "learning_rate is nan, expected a"),
        ("[data]\ntable='t'\n[training]\nseed=-1", "training.seed is -1, expected a whole number"),
        (
            "[data]\ntable='t'\nweather_utc_offset_hours=20",
            "is 20, expected a number from -14 to 14",
        ),
        ("[data]\ntable='t'\n[wcm]\nlearn=['b']", "wcm: learn is ['b'], expected"),
        ("[data]\ntable='t'\n[crossval]\nours='lstm2'", "crossval.ours is lstm2, expected one of"),
        ("[data]\ntable='t'\n[crossval]\nallow=['all']", "allow[0] is all, expected one of identi"),
        (
            "[data]\ntable='t'\n[head]\nshrink=2",
            "head.shrink[0] is 2, expected a number from 0 to 1",
        ),
        ("[data]\ntable='t'\n[head]\nkind='change'\n[inputs]\nsteps=1", "needs inputs.steps of at"),
        (
            "[data]\ntable='t'\n[network]\ndropout=1",
            "network.dropout is 1, expected a number of at least 0 and below 1",
        ),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    with pytest.raises(UsageError) as error:
        read(tmp_path, text)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "e.toml"))


def test_an_experiment_that_is_not_there(tmp_path):
    with pytest.raises(UsageError, match="no such file"):
        read_config(tmp_path / "none.toml")


def test_a_configuration_nested_without_end_is_refused(tmp_path):
    (tmp_path / "deep.toml").write_text("a = " + "[" * 5000)
    with pytest.raises(UsageError, match="not a configuration in TOML"):
        read_config(tmp_path / "deep.toml")


@pytest.mark.parametrize("text", ["data = 3", "[data]\ntable = 3"])
def test_a_table_given_on_the_command_line_hides_no_mistake_elsewhere(tmp_path, text):
    (tmp_path / "e.toml").write_text(text)
    assert read_config(tmp_path / "e.toml", "t.csv").table == Path("t.csv").absolute()
    (tmp_path / "e.toml").write_text(text + "\n[inputs]\nsteps = 0")
    with pytest.raises(UsageError, match=r"inputs\.steps is 0"):
        read_config(tmp_path / "e.toml", "t.csv")


PLAN = """base = "e.toml"
{top}
[variants.one]
crossval.models = ["lstm", "kg-lstm"]
{more}
"""


@pytest.mark.parametrize(
    ("top", "more", "message"),
    [
        ("", "[nested]\nfoldz = 9", "nested.foldz is not a known key; did you mean folds?"),
        ("", "[nested]\nfolds = 2.5", "nested.folds is 2.5, expected a whole number of at least 2"),
        ("", "[nested]\nfolds = 1", "nested.folds is 1, expected a whole number of at least 2"),
        ("", "[nested]\nmodel = 'svm'", "nested.model is svm, expected one of mean"),
        ("", "[nested]\ncandidates = ['two']", "nested.candidates[0] is two, expected a variant"),
        ("", "inputs.steps = inf", "inputs.steps is inf, expected a whole number from 1 to 4096"),
        ("", "inputs.stepz = 1", "variants.one: "),
        ("", "inputs = 3", "variants.one.inputs is 3, expected a table"),
        ("", "[variants]\ntwo = 1", ""),
        ("nested = 3", "", "nested is 3, expected a table"),
        ("seeds = 3", "", "seeds is 3, expected a list of whole numbers"),
        ("seeds = [0.5]", "", "seeds[0] is 0.5, expected a whole number"),
        ("seeds = [-1]", "", "seeds[0] is -1, expected a whole number"),
        (
            "seeds = []",
            "",
            "seeds is a list, expected a list of whole numbers with at least 1 items",
        ),
        ("seeds = [1, 1]", "", "seeds names a seed twice"),
        ("bases = 'x'", "", "bases is not a known key; did you mean base?"),
        ("reference = 'one / ridge'", "", "reference is one / ridge, expected one of one / lstm"),
    ],
)
def test_mistakes_of_a_plan_are_named(tmp_path, top, more, message):
    (tmp_path / "e.toml").write_text("[data]\ntable = 't'")
    (tmp_path / "plan.toml").write_text(PLAN.format(top=top, more=more))
    with pytest.raises(UsageError) as error:
        read_plan(tmp_path / "plan.toml")
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "plan.toml"))


def test_a_plan_needs_variants(tmp_path):
    (tmp_path / "plan.toml").write_text("base = 'e.toml'\n[variants]\n")
    with pytest.raises(UsageError, match=r"variants is empty, expected \[variants.NAME\]"):
        read_plan(tmp_path / "plan.toml")
