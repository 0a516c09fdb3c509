"""Recorded scores, and the documents that cite them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kgsm_train.evaluation.recorded import (
    Recorded,
    markdown,
    mistakes,
    read_recorded,
    record,
    with_tables,
)

ROOT = Path(__file__).parents[2]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
FILE = Recorded(
    {"a": {"rmse": 0.09234, "gap": -0.0087, "share": 0.932, "index, crop": 54}},
    {"t": markdown([("model", "R"), ("index", "0.65")])},
)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_the_figures_of_documents_are_those_of_their_files(path):
    found = mistakes(
        path.read_text(encoding="utf-8"),
        lambda name: read_recorded(ROOT / "docs" / "recorded" / f"{name}.json"),
    )
    assert not found


@pytest.mark.parametrize("path", sorted((ROOT / "docs" / "recorded").glob("*.json")), ids=str)
def test_recorded_files_have_no_value_of_a_row_or_site(path):
    """Aggregate figures alone: the data must not be redistributed."""
    text = path.read_text()
    assert len(text) < 100_000
    for name in ("by_site", "by_group", "1A", "predictions"):
        assert f'"{name}"' not in text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("0.0923<!--x: a.rmse-->, .092<!--x: a.rmse-->, 93 %<!--x: a.share-->", ""),
        ("-0.0087<!--x: a.gap-->", ""),
        ("93\n%<!--x: a.share--> and 54<!--x: a.index, crop-->", ""),
        ("94\n%<!--x: a.share-->", "the text says 94"),
        ("55<!--x: a.index, crop-->", "the text says 55"),
        ("about <!--x: a.rmse-->", "no figure stands before"),
        ("0.0924<!--x: a.rmse-->", "the text says 0.0924"),
        ("0.0087<!--x: a.gap-->", "the text says 0.0087"),
        ("94 %<!--x: a.share-->", "the text says 94"),
        ("1<!--x: a.b-->", "no such figure"),
        ("1<!--x: a-->", "no such figure"),
        ("<!--table x: t-->\n| model | R |\n<!--end-->", "table t differs"),
    ],
)
def test_a_figure_that_differs_is_named(text, said):
    found = mistakes(text, {"x": FILE}.__getitem__)
    assert said in found[0] if said else found == []


def test_tables_are_renewed_in_place():
    text = "before\n<!--table x: t-->\nold\n<!--end-->\nafter\n"
    renewed = with_tables(text, {"x": FILE}.__getitem__)
    assert "| index | 0.65 |" in renewed and renewed.endswith("<!--end-->\nafter\n")
    assert mistakes(renewed, {"x": FILE}.__getitem__) == []


def test_experiments_are_recorded_with_their_choices(tmp_path):
    row = {
        "variant": "a",
        "model": "index",
        "pooled": {"rmse": 0.1, "r": 0.5},
        "interval_95": {"rmse": [0.08, 0.12]},
        "known_dates": None,
    }
    choices = [{"chosen": name} for name in ("a", "b", "a")]
    board = {"group": "field", "paired_to": "a / index", "variants": [row], "choices": choices}
    (tmp_path / "experiments.json").write_text(json.dumps(board))
    record(tmp_path, tmp_path / "head.json")
    found = read_recorded(tmp_path / "head.json")
    assert found.value("chosen.a") == 2 and found.value("choices") == 3
    assert "| a | Fitted index | 0.1000 | 0.080–0.120 | 0.500 | – |" in found.tables["variants"]
