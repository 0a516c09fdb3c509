"""The README on a package index: no link or picture leads into a repository that is not there."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
spec = importlib.util.spec_from_file_location("index_readme", ROOT / "tools/index_readme.py")
index_readme = importlib.util.module_from_spec(spec)
spec.loader.exec_module(index_readme)
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("url", ["", "https://forge.example/kgsm"])
def test_links_are_absolute_or_text(url: str) -> None:
    text = index_readme.readme_for_an_index(README, url)
    links = re.findall(r"\]\(([^)]+)\)", text) + re.findall(r'src="([^"]+)"', text)
    assert len(links) >= 3
    assert all(re.match(r"https://|#", link) for link in links)
    titles = re.findall(r"\[([^\]]+)\]\(docs/", README)
    assert len(titles) > 8 and all(title in text for title in titles)
    assert ("<img" in text) == bool(url)
    assert index_readme.urls(url).get("Source", "") == url


def test_the_files_behind_absolute_links_exist() -> None:
    text = index_readme.readme_for_an_index(README, "https://forge.example/kgsm")
    names = re.findall(r"https://forge\.example/kgsm/(?:blob|raw)/main/([^)#\s\"]+)", text)
    assert len(names) > 10 and all((ROOT / name).exists() for name in names)
