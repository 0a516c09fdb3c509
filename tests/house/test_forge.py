"""The forge's files: every command, target, extra, action and path that they name exists."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import Any

import pytest

import kgsm_infer

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed ([test])")

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github/workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
TARGETS = set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.M))
#: Modules run as ``python -m`` that come with Python or that a step before installs.
MODULES = {"pip", "pytest", "build", "twine"}


def jobs(path: Path) -> dict[str, Any]:
    """Return the jobs of a workflow by name."""
    found: dict[str, Any] = yaml.safe_load(path.read_text())["jobs"]
    return found


def extras(word: str) -> list[str]:
    """Return the extras that a requirement of this project names (``.[a,b]``)."""
    match = re.fullmatch(r"\.\[([\w,]+)\]", word)
    return match[1].split(",") if match else []


def check_command(line: str) -> None:
    """Check one command of a step."""
    program, *words = shlex.split(line)
    if program == "make":
        assert set(words) <= TARGETS, line
    elif program == "python":
        assert words[0] == "-m" and words[1] in MODULES, line
        paths = [word for word in words[2:] if "/" in word and "*" not in word]
        assert all((ROOT / path).exists() for path in paths), line
        named = {extra for word in words for extra in extras(word)}
        assert named <= set(PROJECT["project"]["optional-dependencies"]), line
    else:
        assert (ROOT / program).is_file(), f"{line}: unknown program"


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_steps_name_commands_and_targets_that_exist(path: Path) -> None:
    steps = [step for job in jobs(path).values() for step in job["steps"]]
    assert steps
    for step in steps:
        assert ("run" in step) != ("uses" in step), step
        if "run" in step:
            for line in step["run"].splitlines():
                check_command(line)
        else:
            assert re.fullmatch(r"[\w-]+/[\w.-]+@(v\d[\w.]*|release/v1)", step["uses"]), step


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_jobs_need_jobs_that_exist_and_least_rights(path: Path) -> None:
    workflow = yaml.safe_load(path.read_text())
    assert workflow["permissions"] == {"contents": "read"}
    for job in workflow["jobs"].values():
        needs = job.get("needs", [])
        assert set([needs] if isinstance(needs, str) else needs) <= set(workflow["jobs"])


def test_three_pythons_on_three_systems() -> None:
    matrix = jobs(ROOT / ".github/workflows/tests.yml")["core"]["strategy"]["matrix"]
    assert len(matrix["os"]) == 3
    versions = {f"Programming Language :: Python :: {version}" for version in matrix["python"]}
    assert versions <= set(PROJECT["project"]["classifiers"]) and len(versions) == 3


def test_a_tag_releases_what_the_workflow_built() -> None:
    release = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())
    assert release[True]["push"] == {"tags": ["v*"]}  # YAML reads the key "on" as true
    assert release["jobs"]["publish"]["needs"] == ["wheels", "sdist"]
    assert PROJECT["tool"]["cibuildwheel"]["build"] == "cp311-*"


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_issue_forms_are_complete(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    if path.stem == "config":
        assert set(form) == {"blank_issues_enabled"}
        return
    assert {"name", "description", "body"} <= set(form)
    ids = [item["id"] for item in form["body"]]
    assert len(ids) == len(set(ids))
    assert all(item["type"] in ("textarea", "input") for item in form["body"])


def test_the_conda_recipe_agrees_with_the_project() -> None:
    text = (ROOT / "packaging/conda/meta.yaml").read_text()
    text = re.sub(r"\{\{ *compiler\('c'\) *\}\}", "c_compiler", text).replace("{{ PYTHON }}", "py")
    recipe = yaml.safe_load(text)
    project = PROJECT["project"]
    assert recipe["package"] == {"name": project["name"], "version": kgsm_infer.__version__}
    assert recipe["about"]["summary"] == project["description"]
    run = [re.sub(r"[ ]", "", item) for item in recipe["requirements"]["run"]]
    assert sorted(run) == sorted([*project["dependencies"], "python" + project["requires-python"]])
    scripts = dict(item.split(" = ") for item in recipe["build"]["entry_points"])
    assert scripts == project["scripts"]
