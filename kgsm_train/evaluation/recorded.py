"""Recorded scores: a small JSON file of a run, and the figures that documents take from it.

``kgsm-train record runs/anand -o docs/recorded/anand.json`` writes the file. It has aggregate
figures alone, no value of a site or row. A document cites a figure with a comment behind it, which
Markdown does not show:

    RMSE 0.0923<!--anand: regimes.both-new.models.index.rmse-->

and includes a table between two comments:

    <!--table anand: scores-->
    | model | ...
    <!--end-->

:func:`mistakes` compares a document with the files, and :func:`with_tables` renews its tables.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.files import write_whole

from .board import Board, ModelScores, RegimeScores, read_board
from .experiments import variant_table
from .tables import date_rows, left_out_rows, subset_rows, table_rows

_MARK = re.compile(r"<!--(\w+): ?([^>]+?)-->")
_FIGURE = re.compile(r"([+-]?\d*\.?\d+)(\s*%)?" + _MARK.pattern)
_TABLE = re.compile(r"(<!--table (\w+): ?([\w-]+)-->\n)(.*?)(<!--end-->)", re.DOTALL)


@dataclass(frozen=True)
class Recorded:
    """Figures of one run. values: nested names -> number; tables: name -> Markdown."""

    values: Mapping[str, Any]
    tables: Mapping[str, str]

    def value(self, path: str) -> float:
        """Return the figure at ``a.b.c``; KeyError if missing."""
        found: Any = self.values
        for name in path.split("."):
            found = found[name] if isinstance(found, Mapping) else found[int(name)]
        if isinstance(found, bool) or not isinstance(found, (int, float)):
            raise KeyError(path)
        return float(found)


def record(run: Path, output: Path) -> None:
    """Write the aggregate figures of a cross-validation or of experiments to ``output``."""
    experiments = run / "experiments.json"
    if experiments.is_file():
        found = experiment_summary(json.loads(experiments.read_text(encoding="utf-8")))
    else:
        found = summary(read_board(run / "metrics.json"))
    text = json.dumps(found, indent=1, allow_nan=False)
    with write_whole(output) as out:
        out.write(text + "\n")


def write_tables(output: Path, tables: Mapping[str, str]) -> None:
    """Write a recorded file of tables alone."""
    with write_whole(output) as out:
        out.write(json.dumps({"tables": dict(tables)}, indent=1) + "\n")


def experiment_summary(board: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a plan's variants, and how often each was chosen by nesting."""
    chosen = Counter(choice["chosen"] for choice in board["choices"])
    return {
        "choices": len(board["choices"]),
        "chosen": dict(chosen.most_common()),
        "tables": {"variants": variant_table(board)},
    }


def summary(board: Board) -> dict[str, Any]:
    """Return the aggregate figures of a board as JSON values."""
    return {
        "kgsm_version": board.kgsm_version,
        "code": board.code,
        "table_sha256": board.table_sha256,
        "config": board.config,
        "labelled": board.labelled,
        "ours": board.ours,
        "regimes": {name: _regime(one) for name, one in board.regimes.items()},
        "measured": {name: _regime(one) for name, one in board.measured.items()},
        "intervals": {name: _interval(one) for name, one in board.intervals.items()},
        "variances": {name: dict(one) for name, one in board.variances.items()},
        "probed": {
            count: {name: vars(one) for name, one in models.items()}
            for count, models in board.probed.items()
        },
        "tables": {
            "scores": markdown(table_rows(board)),
            "subsets": markdown(subset_rows(board)),
            "dates": markdown(date_rows(board)),
            "labels": "\n".join(_bullet(sentence) for sentence in left_out_rows(board)),
        },
    }


def _bullet(sentence: str) -> str:
    return textwrap.fill(sentence, 100, initial_indent="- ", subsequent_indent="  ")


def _regime(regime: RegimeScores) -> dict[str, Any]:
    return {
        "title": regime.title,
        "rows": regime.rows,
        "groups": regime.groups,
        "dates": regime.dates,
        "models": {name: _model(one) for name, one in regime.models.items()},
        "ours_minus": {
            name: {"difference": gap.difference, "low": gap.interval[0], "high": gap.interval[1]}
            for name, gap in regime.ours_minus.items()
        },
    }


def _model(model: ModelScores) -> dict[str, Any]:
    mean, within = model.group_mean, model.within_date
    low, high = model.interval_95.rmse
    found = {
        "r": model.pooled.r,
        "rmse": model.pooled.rmse,
        "bias": model.pooled.bias,
        "rmse_low": low,
        "rmse_high": high,
        "within_r": within.r,
        "within_r_low": within.interval_95[0],
        "within_r_high": within.interval_95[1],
        "with_number": model.with_number,
    }
    for name, part in (("unflagged", model.unflagged), ("settled", model.settled)):
        if part is not None:
            found |= {f"{name}_n": part.n, f"{name}_r": part.r, f"{name}_rmse": part.rmse}
    if mean is not None:
        found |= {"mean_r": mean.pooled.r, "mean_rmse": mean.pooled.rmse}
    return found


def _interval(interval: Mapping[str, Any]) -> dict[str, Any]:
    """Return an interval's figures; its coverage by group as the lowest and highest alone."""
    by_group = list(interval["coverage_by_group"].values())
    found = {
        name: interval[name]
        for name in ("level", "lower", "upper", "rows", "dates", "date_variance", "cross_coverage")
    }
    found["coverage_by_date"] = dict(interval["coverage_by_date"])
    found["least_by_date"] = min(interval["coverage_by_date"].values())
    found |= {"least_by_group": min(by_group), "most_by_group": max(by_group)}
    field = interval.get("field")
    if field:
        found["field"] = {name: field[name] for name in ("lower", "upper", "cross_coverage")}
    return found


def markdown(rows: Sequence[Sequence[str]]) -> str:
    """Format text cells as a Markdown table; the first row is the heading."""
    first, *others = rows
    lines = [first, ["---"] * len(first), *others]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)


def read_recorded(path: Path) -> Recorded:
    """Read a recorded file; DataError for any other file."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Recorded(raw, raw.get("tables", {}))
    except (OSError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a recorded run ({error})") from None


def mistakes(text: str, read: Callable[[str], Recorded]) -> list[str]:
    """Compare the figures and tables of a document with their files.

    read: name of a recorded file -> its content.  Returns a sentence for each difference.
    """
    figures = {match.start(3) for match in _FIGURE.finditer(text)}
    found = [
        f"{match[1]}: {match[2]}: no figure stands before this mark"
        for match in _MARK.finditer(text)
        if match.start(1) not in figures
    ]
    for match in _FIGURE.finditer(text):
        written, percent, name, path = match.groups()
        try:
            value = read(name).value(path) * (100 if percent else 1)
        except (KeyError, IndexError, ValueError):
            found.append(f"{name}: {path}: no such figure")
            continue
        digits = len(written.partition(".")[2])
        same = f"{abs(value):.{digits}f}".lstrip("0") == written.lstrip("+-0")
        if not same or (value < 0) != written.startswith("-"):
            found.append(f"{name}: {path} is {value:.6g}, the text says {written}")
    for match in _TABLE.finditer(text):
        name, table, content = match.group(2, 3, 4)
        if read(name).tables.get(table, "").strip() != content.strip():
            found.append(f"{name}: table {table} differs; run kgsm-train record again")
    return found


def with_tables(text: str, read: Callable[[str], Recorded]) -> str:
    """Replace every recorded table of a document by the one in its file."""

    def renew(match: re.Match[str]) -> str:
        name, table = match.group(2, 3)
        return f"{match.group(1)}{read(name).tables[table]}\n{match.group(5)}"

    return _TABLE.sub(renew, text)
