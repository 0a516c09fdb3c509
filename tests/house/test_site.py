"""Build the documentation as a site and check its pages, links and generated tables."""

from __future__ import annotations

import html
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import unquote

import pytest

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.context.definitions import CONTEXT
from kgsm_infer.gateway.http.openapi import document
from kgsm_infer.tables.columns import RULES

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site; a warning, such as a broken link, is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed ([docs])")
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed ([docs])")
    out = tmp_path_factory.mktemp("site") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", str(out)]
    env = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


def text_of(site: Path, page: str) -> str:
    """Return a page without its tags."""
    return html.unescape(re.sub(r"<[^>]+>", "", (site / page).read_text(encoding="utf-8")))


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    pages = {path: path.read_text(encoding="utf-8") for path in site.rglob("*.html")}
    assert len(pages) > 25
    ids = {path: set(re.findall(r'id="([^"]+)"', text)) for path, text in pages.items()}
    broken = []
    for path, text in pages.items():
        if path.name == "404.html":  # its links start at the root of a server
            continue
        for link in re.findall(r'(?:href|src)="([^"]+)"', text):
            link = html.unescape(link)
            if re.match(r"[a-z]+:|//", link):
                continue
            name, _, anchor = link.partition("#")
            target = (path.parent / unquote(name)).resolve() if name else path
            there = target.exists()
            if not there or (anchor and target in ids and unquote(anchor) not in ids[target]):
                broken.append((path.name, link))
    assert not broken


def test_the_reference_has_every_flag_column_and_context(site: Path) -> None:
    page = text_of(site, "reference/flags.html")
    for bit, flag in enumerate(flags.FLAGS):
        assert re.search(rf"{flag.name}\s+{bit}\s+{1 << bit}\s", page), flag.name
    assert not [n for n in RULES if n not in text_of(site, "reference/columns.html")]
    assert not [n for n in CONTEXT if n not in text_of(site, "reference/contexts.html")]


def test_the_reference_has_every_command_and_address(site: Path) -> None:
    page = text_of(site, "reference/commands.html")
    for name in ("kgsm-infer predict", "kgsm-infer prepare stack", "kgsm-train data oznet"):
        assert name in page
    assert "--boa-offset" in page and "kgsm-infer prepare --fields" in page
    http = text_of(site, "reference/http.html")
    assert not [path for path in document("x")["paths"] if path not in http]


def test_the_reference_has_every_public_name(site: Path) -> None:
    page = text_of(site, "reference/api.html")
    names = [name for name in kgsm_infer.__all__ if name != "__version__"]
    assert not [name for name in names if f"kgsm_infer.{name}" not in page]
    assert not re.search(r":(func|class|mod|meth):", page)


def test_every_figure_is_made_by_the_build() -> None:
    """tools/figures.py names all pictures of docs/."""
    spec = importlib.util.spec_from_file_location("figures", ROOT / "tools/figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    names = {name for names in figures.FIGURES for name in names.split(", ")}
    assert names == {path.name for path in (ROOT / "docs").glob("*.png")}


def test_a_figure_without_its_data_is_kept_and_named(tmp_path: Path) -> None:
    """Nothing of a demo is in this folder, so no simulated figure is made."""
    code = "import sys; sys.path.insert(0, sys.argv[1]); import figures; from pathlib import Path; "
    code += "figures.FIELDS = Path('absent'); figures.main(Path('out'))"
    done = subprocess.run(
        [sys.executable, "-c", code, ROOT / "tools"],
        cwd=tmp_path,
        env=os.environ | {"OUT": str(tmp_path / "none")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("kept as in docs/: ") == 4 and not list((tmp_path / "out").iterdir())
