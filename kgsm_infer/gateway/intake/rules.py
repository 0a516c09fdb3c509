"""Log the rules by which tables are read: outlines, column names and contradictions.

A change is a separate arrival, ``000124-DIGEST.rules``: the tables before it are read again by
the new rules. A store that is built again from the archive reads each table by the rules of its
time and comes to the same revisions.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...base.errors import DataError
from ...base.schema import as_plain, build, parse_json
from ..farm import Paddocks
from ..records import canonical
from .archive import About, Archived, write_to_archive
from .tables import TableRules


@dataclass(frozen=True)
class RulesChange:
    """A change of the rules. number: of its arrival.

    before, after: [ids, properties] of the outlines or None, columns, contradictions. ``before`` is
    None if an older kgsm made the state.
    """

    number: int
    before: tuple[Any, ...] | None
    after: tuple[Any, ...]


def rules_text(rules: TableRules) -> str:
    """Return what is logged of rules, as JSON."""
    outlines = rules.paddocks.outlines
    return json.dumps(
        [
            None if outlines is None else [outlines.ids, as_plain(outlines.properties)],
            dict(rules.columns),
            rules.contradictions,
        ],
        sort_keys=True,
        default=str,
    )


def log_change(
    before: Sequence[Any] | None, after: Sequence[Any], number: int, archive: Path
) -> Archived:
    """Write a change of the rules into the archive under its number, durably.

    before, after: as in :class:`RulesChange`.
    """
    content = {"number": number, "before": before, "after": after}
    return write_to_archive(canonical(content), archive, number, About("rules.json", "rules"))


def read_changes(items: Iterable[Archived]) -> list[RulesChange]:
    """Read the changes among archived files; DataError if one cannot be read."""
    found = []
    for item in items:
        if item.path.suffix == ".rules":
            try:
                found.append(build(RulesChange, parse_json(item.path.read_bytes())))
            except (OSError, ValueError) as error:
                raise DataError(f"{item.path}: not a change of rules ({error})") from None
    return found


def logged_rules(changes: Sequence[RulesChange], known: str) -> list[Any] | None:
    """Return the rules that the newest arrivals were read by; None without any.

    known: the text of the file of the state, which may lack a change whose arrival is on the disk;
    one of another form counts as lost.
    """
    if changes:
        return list(changes[-1].after)
    with suppress(ValueError):
        logged = json.loads(known)
        if isinstance(logged, list) and len(logged) == 3:
            return logged
    return None


def rules_at(
    number: int, changes: Sequence[RulesChange], known: str, present: TableRules
) -> TableRules:
    """Return the rules for an archived file.

    changes: in the order of their numbers.  known: as in :func:`logged_rules`.
    present: those of the configuration, which count where nothing is logged.
    """
    change = next((one for one in changes if one.number > number), None)
    if change is None:
        logged = logged_rules(changes, known)
    else:
        logged = list(change.after if change.before is None else change.before)
    if logged is None:
        return present
    farm, columns, contradictions = logged
    earlier: Mapping[str, Any] | None = None if farm is None else dict(zip(*farm, strict=True))
    paddocks = Paddocks() if earlier is None else Paddocks(earlier=earlier)
    return replace(present, paddocks=paddocks, columns=columns, contradictions=contradictions)
