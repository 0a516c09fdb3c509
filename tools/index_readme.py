"""Adapt the README to a package index, where no other file of the repository is (setup.py)."""

from __future__ import annotations

import re


def readme_for_an_index(text: str, url: str) -> str:
    """Return the README with links that work on a package index, which has no other file.

    url: of the repository on its forge; empty where there is none. Links into the repository then
    become their text, and pictures are left out.
    """

    def link(found: re.Match[str]) -> str:
        title, target = found[1], found[2]
        if re.match(r"[a-z]+:|#", target):
            return found[0]
        return f"[{title}]({url}/blob/main/{target})" if url else title

    def picture(found: re.Match[str]) -> str:
        return f'<img src="{url}/raw/main/{found[1]}"' if url else f'<img src="{found[1]}"'

    text = re.sub(r"\[([^\]]+)\]\(([^)\s]+)\)", link, text)
    text = re.sub(r'<img src="([^":]+)"', picture, text)
    return text if url else re.sub(r'^<img src="[^":]+".*\n', "", text, flags=re.M)


def urls(url: str) -> dict[str, str]:
    """Return the addresses of the project on an index; none without a repository."""
    pages = {"Source": "", "Issues": "/issues", "Changelog": "/blob/main/CHANGELOG.md"}
    return {name: url + path for name, path in pages.items()} if url else {}
