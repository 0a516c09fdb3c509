"""Help texts: every command has a summary and an example that its options accept."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from kgsm_infer.app.cli import app as infer
from kgsm_train.cli import app as train


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Yield each command that can be called, with its name on the command line."""
    below = getattr(command, "commands", {})
    if not below:
        yield name, command
    for word, one in below.items():
        yield from commands(one, f"{name} {word}")


COMMANDS = dict(
    [
        *commands(typer.main.get_command(infer), "kgsm-infer"),
        *commands(typer.main.get_command(train), "kgsm-train"),
    ]
)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_example_is_accepted(name: str) -> None:
    command = COMMANDS[name]
    text = " ".join(command.help.split())
    example = re.search(r"Example: (.*)$", text)
    assert example, f"{name} --help has no example"
    assert example[1].startswith(f"{name} ")
    words = shlex.split(example[1].removeprefix(f"{name} "))
    # without callbacks: a missing or unknown option and a missing argument are errors
    context = command.make_context(name, words, resilient_parsing=False)
    assert context.params


@pytest.mark.parametrize("name", COMMANDS)
def test_each_option_is_explained(name: str) -> None:
    command = COMMANDS[name]
    summary = command.help.splitlines()[0]
    assert re.match(r"[A-Z][a-z-]+ .*\.$", summary) and len(summary) <= 80
    unexplained = [option.name for option in command.params if not getattr(option, "help", "")]
    assert not unexplained
    several = [option for option in command.params if getattr(option, "multiple", False)]
    assert [option.name for option in several if "repeatable" not in option.help] == []
