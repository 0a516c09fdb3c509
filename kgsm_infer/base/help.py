"""Help of commands with many options: options in titled groups, in the order of their titles.

An option states its group as ``rich_help_panel``, the name that typer gives it. Without rich's
markup typer ignores it; the classes here do not.
"""

from __future__ import annotations

from typing import Any

from typer.core import TyperCommand, TyperGroup


def _write_groups(command: Any, context: Any, formatter: Any) -> None:
    """Write arguments, then options by group; those without a group come last."""
    groups: dict[str, list[tuple[str, str]]] = {"Arguments": []}
    other: list[tuple[str, str]] = []
    for param in command.get_params(context):
        record = param.get_help_record(context)
        if record is None:
            continue
        if param.param_type_name == "argument":
            groups["Arguments"].append(record)
        elif panel := getattr(param, "rich_help_panel", None):
            groups.setdefault(panel, []).append(record)
        else:
            other.append(record)
    rest = "Other options" if len(groups) > 1 else "Options"
    for title, records in [*groups.items(), (rest, other)]:
        if records:
            with formatter.section(title):
                formatter.write_dl(records)


class GroupedCommand(TyperCommand):
    """Command whose help shows options in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups."""
        _write_groups(self, ctx, formatter)


class GroupedCommands(TyperGroup):
    """Group of commands whose own options are shown in groups."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the groups, then the commands."""
        _write_groups(self, ctx, formatter)
        self.format_commands(ctx, formatter)
