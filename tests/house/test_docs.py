"""README and docs: length, links, and the Python that they print."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

import kgsm_infer

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
#: Pages that tools/site_pages.py writes from the code.
GENERATED = {
    ROOT / f"docs/reference/{name}.md"
    for name in ("columns", "commands", "contexts", "flags", "http")
}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.M | re.S)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges derive them."""
    text = FENCE.sub("", page.read_text())
    titles = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def python_of(page: Path, word: str) -> str:
    """Return the one Python block of a page that contains ``word``."""
    found = [text for kind, text in FENCE.findall(page.read_text()) if kind == "python"]
    (block,) = [text for text in found if word in text]
    return block


def test_the_readme_has_at_most_150_lines():
    assert len((ROOT / "README.md").read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_internal_links_lead_somewhere(page):
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text()))
    links += re.findall(r'src="([^"]+)"', page.read_text())
    broken = []
    for link in links:
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if target in GENERATED:  # tests/house/test_site.py checks links to these
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert not broken


def test_no_paragraph_is_printed_twice():
    paragraphs = [
        " ".join(part.split())
        for page in PAGES
        for part in re.split(r"\n\s*\n", page.read_text())
        if len(part.split()) > 25
    ]
    assert sorted(paragraphs) == sorted(set(paragraphs))


@pytest.fixture
def folder(tiny_model, tmp_path, monkeypatch):
    shutil.copy(tiny_model / "model.onnx", tmp_path / "model.onnx")
    text = (tiny_model / "twin.csv").read_text()
    first = text.splitlines()[1].partition(",")[0]
    (tmp_path / "observations.csv").write_text(re.sub(f"^{first},", "north,", text, flags=re.M))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_readmes_python_runs(folder, capsys):
    names: dict = {}
    exec(python_of(ROOT / "README.md", "read_table"), names)
    assert capsys.readouterr().out.startswith("[{'site': 'north', 'date': ")
    assert len(names["result"]) == len(names["table"])


def test_the_scientists_python_runs():
    rng = np.random.default_rng(1)
    anomaly, date = rng.normal(size=(100, 2)), np.repeat(np.arange(10), 10)
    names = {"anomaly": anomaly, "sm": 0.2 + 0.05 * anomaly[:, 0], "date": date}
    exec(python_of(ROOT / "docs/howto/scientist.md", "ChangeDetection"), names)
    assert len(names["scores"]) == 5 and min(names["scores"]) > 0.99


@pytest.mark.parametrize("page", ["README.md", "docs/integrate.md"])
def test_the_fastapi_service_answers_json_rows(folder, monkeypatch, page):
    """FastAPI is not a test package: its two names are replaced, its JSON is made here."""

    class HTTPError(Exception):
        def __init__(self, status, detail):
            super().__init__(status, detail)

    app = types.SimpleNamespace(post=lambda path: lambda function: function)
    fastapi = types.SimpleNamespace(FastAPI=lambda: app, HTTPException=HTTPError)
    monkeypatch.setitem(sys.modules, "fastapi", fastapi)
    names: dict = {}
    exec(python_of(ROOT / page, "FastAPI"), names)
    model = kgsm_infer.load("model.onnx")
    table = kgsm_infer.read_table("observations.csv", features=model.table_features())
    rows = [
        {"site": str(site), "date": date}
        | {name: None if np.isnan(v[i]) else float(v[i]) for name, v in table.numbers.items()}
        for i, (site, date) in enumerate(zip(table.site, table.date_text, strict=True))
    ]
    answer = names["predict"](json.loads(json.dumps(rows)))
    wanted = model.newest(table)
    assert len(wanted) == 6 and json.loads(json.dumps(answer)) == json.loads(json.dumps(wanted))
    refused = kgsm_infer.KgsmError if page == "README.md" else HTTPError
    with pytest.raises(refused, match="no column"):
        names["predict"]([{"site": "north", "date": "2024-01-01"}])


FRANCE = ROOT.parent / "shared/data/worldcereal_fields/dekad_2023_FRA.geoparquet"


@pytest.mark.realdata
@pytest.mark.slow
@pytest.mark.skipif(not FRANCE.exists(), reason=f"needs {FRANCE.name} beside the project")
def test_the_commands_of_the_tutorial_run(tmp_path):
    """Run them in order; the counts that the page prints are those of the run."""
    page = ROOT / "docs/tutorial.md"
    lines = re.findall(r"^    ((?:python|kgsm-infer) .*)$", page.read_text(), re.M)
    assert len(lines) == 4
    programs = {
        "python": [sys.executable],
        "kgsm-infer": [sys.executable, "-m", "kgsm_infer.app.cli"],
    }
    said = ""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    for line in lines:
        program, *words = line.replace("dekad_2023_FRA.geoparquet", str(FRANCE)).split()
        done = subprocess.run(
            [*programs[program], *words],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said += done.stdout
    printed = " ".join(page.read_text().split())
    for line in said.splitlines()[:2]:
        assert line.partition(": ")[2] in printed
    assert (tmp_path / "france/fields.png").stat().st_size > 10_000
