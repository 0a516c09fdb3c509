"""Write the pages of the site that come from the code; a hook of MkDocs (mkdocs.yml).

Commands come from the applications, columns, contexts and flags from their tables, the HTTP API
from its OpenAPI document. README, changelog and the other pages at the top of the repository become
pages too. A link to another file of the repository leads to a copy of it below ``files/``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
TOP = {
    "README.md": "index.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}
LINK = re.compile(r'(\]\(|src=")([^)\s"]+)')


def table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [heads, ["---"] * len(heads), *rows]
    cells = [[str(cell).replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in cells) + "\n"


def flags_page() -> str:
    """List the quality flags with their bits."""
    from kgsm_infer.base import flags

    rows = [
        [f"`{flag.name}`", bit, 1 << bit, flag.meaning, "no" if flag.withheld else "yes"]
        for bit, flag in enumerate(flags.FLAGS)
    ]
    return (
        "# Flags\n\nIn tables, flags are names joined with `;`. In rasters and ONNX outputs they "
        "are a bit mask. Bits are never reused.\n\n"
        + table(["flag", "bit", "mask", "meaning", "number?"], rows)
    )


def columns_page() -> str:
    """List the columns with their ranges and other names."""
    from kgsm_infer.tables.columns import LAYER_RULES, OTHER_NAMES

    rows = [
        [f"`{name}`", rule.what, ", ".join(f"`{other}`" for other in OTHER_NAMES.get(name, ()))]
        for name, rule in LAYER_RULES.items()
    ]
    return (
        "# Columns\n\nNames carry units. `site` and `date` are required; see "
        "[Tables](../tables.md). A value outside its range is refused with file, row, column, "
        "value and likely cause. `red` and `nir` are layers of a scene only. A name of the last "
        "column is not read; the error suggests the right one.\n\n"
        + table(["column", "value", "names that are suggested from"], rows)
    )


def contexts_page() -> str:
    """List the context columns with the rows that they are computed from."""
    from kgsm_infer.context.definitions import CONTEXT

    shared = {
        "field": "all points of the field in the pass",
        "scene": "all rows of the pass",
        "fields": "mean over the fields of the pass of each field's mean",
        "departure": "the row minus the mean of the pass",
        "field past": "earlier passes of the field",
        "site past": "earlier passes of the site",
    }
    rows = [
        [f"`{name}`", f"`{of.base}`", shared[of.shared_by.value], of.minimum_rows]
        for name, of in CONTEXT.items()
    ]
    return (
        "# Context columns\n\nContext columns are computed from other rows. A column of the same "
        "name in the table overrides the computed one. With fewer rows than the minimum, a value "
        "is flagged `context_missing`. [Tables](../tables.md) explains when they are used.\n\n"
        + table(["column", "computed from", "rows", "minimum"], rows)
    )


def commands_page() -> str:
    """List every command with its arguments and options."""
    import typer

    from kgsm_infer.app.cli import app as infer
    from kgsm_train.cli import app as train

    parts = [
        "# Commands\n\n`--debug`, anywhere on the line, shows the traceback of an error. "
        "`kgsm-infer --defaults FILE COMMAND` takes options from a file "
        "([as a command](../integrate.md#as-a-command)).\n"
    ]
    for name, app in (("kgsm-infer", infer), ("kgsm-train", train)):
        for words, command in each_command(typer.main.get_command(app), name):
            parts.append(command_section(words, command))
    return "\n".join(parts)


def each_command(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that can be called, with its name on the command line."""
    below = getattr(command, "commands", {})
    if not below or "Example:" in (command.help or ""):  # prepare does something by itself
        yield name, command
    for word, one in below.items():
        yield from each_command(one, f"{name} {word}")


def command_section(name: str, command: Any) -> str:
    """Describe one command: text of its help, example, arguments and options."""
    text, _, example = command.help.partition("Example:")
    rows = []
    for param in command.params:
        if param.name == "help":
            continue
        names = param.opts if param.param_type_name == "option" else [param.human_readable_name]
        words = [getattr(param, "help", "") or ""]
        choices = getattr(param.type, "choices", None)
        words += [f"one of {', '.join(map(str, choices))}"] if choices else []
        words += ["repeatable"] if getattr(param, "multiple", False) else []
        default = param.default
        if isinstance(default, int | float | str) and not isinstance(default, bool) and default:
            words.append(f"default: {default}")
        rows.append(
            [", ".join(f"`{n}`" for n in names), "yes" if param.required else "", "; ".join(words)]
        )
    example = " ".join(example.split())
    return f"## {name}\n\n{text.strip()}\n\n    {example}\n\n" + table(
        ["argument or option", "required", "meaning"], rows
    )


def http_page() -> str:
    """List the addresses of the gateway from its OpenAPI document."""
    from kgsm_infer.gateway.http.openapi import document

    paths = document("NAME")["paths"]
    rows = []
    for path, operations in paths.items():
        for method, operation in operations.items():
            params = [f"`{p['name']}`" for p in operation.get("parameters", [])]
            answers = ", ".join(
                f"{code}: {kind}"
                for code, answer in operation["responses"].items()
                for kind in answer.get("content", {"no body": None})
                if code.startswith("2")
            )
            rows.append([method.upper(), f"`{path}`", operation["summary"],
                         ", ".join(params), answers])  # fmt: skip
    return (
        "# HTTP API\n\nThe gateway serves this as OpenAPI 3.1 at `/openapi.json`. "
        "[The field gateway](../gateway.md) explains keys, limits and errors.\n\n"
        + table(["method", "path", "does", "parameters", "answer"], rows)
    )


GENERATED = {
    "reference/flags.md": flags_page,
    "reference/columns.md": columns_page,
    "reference/contexts.md": contexts_page,
    "reference/commands.md": commands_page,
    "reference/http.md": http_page,
}


def repository_path(page: str) -> str:
    """Return the path in the repository of a page of the site."""
    for source, target in TOP.items():
        if page == target:
            return source
    return f"docs/{page}"


def rewrite_links(text: str, page: str) -> tuple[str, set[str]]:
    """Point links of a page at pages of the site, or at copies below ``files/``.

    Returns the text and the paths in the repository of the files to copy.
    """
    here = posixpath.dirname(repository_path(page))
    copies: set[str] = set()

    def replace(match: re.Match[str]) -> str:
        path, hash_sign, anchor = match[2].partition("#")
        if re.match(r"[a-z]+:", path) or not path:
            return match[0]
        wanted = posixpath.normpath(posixpath.join(here, path))
        if wanted in TOP:
            target = TOP[wanted]
        elif wanted.startswith("docs/"):
            target = wanted.removeprefix("docs/")
        elif (ROOT / wanted).is_file():
            copies.add(wanted)
            target = f"files/{wanted}"
        else:
            return match[0]  # MkDocs reports it
        start = posixpath.dirname(page) or "."
        return f"{match[1]}{posixpath.relpath(target, start)}{hash_sign}{anchor}"

    return LINK.sub(replace, text), copies


def on_files(files: Any, config: Any) -> Any:
    """Add the generated pages and the copied files."""
    from mkdocs.structure.files import File

    pages = {name: make() for name, make in GENERATED.items()}
    pages |= {target: (ROOT / source).read_text("utf-8") for source, target in TOP.items()}
    copies: set[str] = set()
    for name, text in pages.items():
        files.append(File.generated(config, name, content=text))
        copies |= rewrite_links(text, name)[1]
    for file in files.documentation_pages():
        if file.src_uri not in pages:
            text = Path(file.abs_src_path).read_text("utf-8")
            copies |= rewrite_links(text, file.src_uri)[1]
    for path in sorted((ROOT / "build/figures").glob("*.png")):  # of tools/figures.py
        shown = files.get_file_from_path(path.name)
        if shown is not None:
            shown.abs_src_path = str(path)
    for path in sorted(copies):
        files.append(File.generated(config, f"files/{path}", abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Rewrite the links of a page."""
    return rewrite_links(markdown, page.file.src_uri)[0]


def on_page_content(html: str, **_: Any) -> str:
    """Remove the roles of reStructuredText before names in docstrings."""
    return re.sub(r":(?:func|class|meth|mod|data|attr):(?=\s*<code)", "", html)
