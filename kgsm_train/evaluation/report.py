"""Write the report of a cross-validation as one HTML file.

Pictures are embedded. The page uses no script and no network, and the same run gives the same
page.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kgsm_infer.base.files import write_whole

from ..config import Config
from ..learning.calibrate import LabelledAcquisitions, Profile, profile
from ..learning.samples import Samples, samples_of
from ..models import MODELS, title
from . import figures
from .board import Board, RegimeScores
from .crossval import Crossvalidation
from .metrics import number
from .tables import (
    coverage_rows,
    date_rows,
    gap_text,
    heading_text,
    learnt_by_split,
    left_out_rows,
    notes,
    probed_rows,
    ranked,
    ranking_text,
    subset_rows,
    table_rows,
)
from .trust import HeldOutDomain, held_out_domain

#: Sites shown as time series: the best, the middle and the worst by RMSE.
SITES_SHOWN = 5
#: Fewest labels a site needs to be shown as a series.
LEAST_LABELS = 4

STYLE = """
:root { color-scheme: light dark; --ink: #1c2733; --dim: #5d6b78; --line: #d7dde3; --paper: #fff;
  --soft: #f3f6f8; --warn: #9a3b00; --warnbg: #fff1e6; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6ebf0; --dim: #9aa7b3; --line: #38434e;
  --paper: #14191e; --soft: #1d242b; --warn: #ffb27a; --warnbg: #3a2413; }
  img { background: #fff; border-radius: 4px; } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 60rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.5rem; margin: 0 0 .2rem; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p.dim, figcaption, caption { color: var(--dim); font-size: .9rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
th, td { padding: .3rem .5rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th { white-space: normal; vertical-align: bottom; } caption { text-align: left; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
thead th { border-bottom-width: 2px; }
tr.ours { background: var(--soft); font-weight: 600; } tr.reference { color: var(--dim); }
figure { margin: 1rem 0; } img { max-width: 100%; height: auto; }
.warning { background: var(--warnbg); color: var(--warn); border-left: 4px solid var(--warn);
  padding: .6rem .9rem; margin: 1rem 0; }
ul.verdict li { margin: .3rem 0; } code { font-size: .9em; } dt { color: var(--dim); }
dl { display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem; }
@media print { body { max-width: none; } figure { break-inside: avoid; } }
"""


@dataclass(frozen=True)
class Findings:
    """Content of the report besides the scores; None where a run has none."""

    profile: Profile | None
    domain: HeldOutDomain | None


def write_report(folder: Path, board: Board, result: Crossvalidation) -> Path:
    """Draw the figures of ``folder/figures`` and write ``folder/report.html``.

    board: content of ``metrics.json``.  Returns the page's path.
    """
    found = findings(board, result)
    pictures = draw(folder / "figures", board, result, found)
    path = folder / "report.html"
    with write_whole(path) as out:
        out.write(page(board, result, found, pictures))
    return path


def findings(board: Board, result: Crossvalidation) -> Findings:
    """Compute the profile of A and the distance of test rows from training."""
    config, reads = result.config, MODELS[board.ours].reads
    samples = samples_of(result.source, config, board.ours) if reads != "nothing" else None
    wcm = None
    if reads == "soil":
        wcm = config.wcm.with_learnt(
            {name: _median(board, board.ours, name) for name in ("A", "B")}
        )
    return Findings(
        profile=_profile_of_a(config, samples) if wcm and samples else None,
        domain=held_out_domain(config, samples, result.design.fold, wcm)
        if samples is not None
        else None,
    )


def _median(board: Board, model: str, name: str) -> float | None:
    values = [
        learnt.parameters[name]
        for learnt in board.learnt[model].values()
        if name in learnt.parameters
    ]
    return float(np.median(values)) if values else None


def _profile_of_a(config: Config, samples: Samples) -> Profile:
    rows = np.flatnonzero(samples.labelled)
    acquisitions = LabelledAcquisitions.of(samples.observed.take(rows), samples.sm[rows])
    wcm = config.wcm.with_a(config.wcm.a)
    return profile(wcm, acquisitions, residual=config.wcm.residual)


def draw(
    folder: Path, board: Board, result: Crossvalidation, found: Findings
) -> list[tuple[str, Path, str]]:
    """Draw the figures besides the scatters; return (heading, file, caption) in page order."""
    folder.mkdir(exist_ok=True)
    note = "simulated data" if board.simulated else ""
    pictures = []
    path = folder / "scores.png"
    figures.score_bars(path, board, note)
    text = "RMSE on the same rows; bars are 95 % intervals from resampling whole groups"
    text += ", and dates." if board.blocks else "."
    pictures.append(("Scores", path, text))

    called = title(board.ours)
    path = folder / f"scatter-{board.ours}.png"
    text = f"{called}, {board.first.title}, each fold by itself."
    pictures.append(("Predicted against observed", path, text))
    interval = board.intervals.get(board.ours)
    sites = sites_to_show(result, board.ours)
    if sites:
        path = folder / "series.png"
        figures.series(path, board, result, sites, note)
        text = f"{called} at {len(sites)} sites, from the best to the worst by RMSE. Dots are "
        text += "observed"
        text += "; the band is the 90 % interval, unscaled." if interval else "."
        pictures.append(("Time series", path, text))
    if interval:
        path = folder / "coverage.png"
        figures.coverage(path, interval, board.group, note)
        text = "Share of labels inside the 90 % interval by date and by "
        text += f"{board.group}. Each interval is made without the labels it is scored on."
        pictures.append(("Interval coverage", path, text))
    pictures += _draw_physics(folder, board, found, note)
    return pictures


def _draw_physics(
    folder: Path, board: Board, found: Findings, note: str
) -> list[tuple[str, Path, str]]:
    """Draw the profile of A, its path, and the domain; each where there is one."""
    pictures = []
    if found.profile is not None:
        path = folder / "profile-a.png"
        learnt = board.learnt[board.ours].values()
        values = [one.parameters["A"] for one in learnt if "A" in one.parameters]
        figures.profile_of_a(path, found.profile, values, note)
        text = "Misfit of the water cloud model alone along A, C and D refitted at each. "
        text += "A flat or one-sided curve means the data do not determine A."
        pictures.append(("How well A is determined", path, text))
    if (folder / "learnt-a.png").is_file():
        text = "A over the epochs of training, a line a fold."
        pictures.append(("Learnt A", folder / "learnt-a.png", text))
    if found.domain is not None:
        path = folder / "domain.png"
        figures.domain(path, found.domain, note)
        text = "How unlike each test row is to the training folds (dissimilarity index, Meyer and "
        text += "Pebesma 2021); right of the line kgsm-infer flags outside_domain."
        pictures.append(("Domain", path, text))
    return pictures


def sites_to_show(result: Crossvalidation, model: str) -> list[str]:
    """Return sites with enough labels, evenly spread from the smallest to the largest RMSE."""
    site, label = result.source.table.site, result.source.label
    error = result.predicted[model] - label
    rmse = {}
    for name in np.unique(site):
        here = np.isfinite(error) & (site == name)
        if here.sum() >= LEAST_LABELS:
            rmse[str(name)] = float(np.sqrt(np.mean(error[here] ** 2)))
    ranked = sorted(rmse, key=lambda name: (rmse[name], name))
    places = np.linspace(0, len(ranked) - 1, min(SITES_SHOWN, len(ranked)))
    return [ranked[round(place)] for place in places]


def verdict(board: Board, found: Findings) -> list[str]:
    """Return the findings in sentences, each made from the board."""
    regime, said = board.first, []
    rivals = [name for name in ranked(regime) if not MODELS[name].reference]
    first = regime.models[rivals[0]].pooled
    said.append(
        f"On {regime.title} {title(rivals[0])} has the smallest RMSE, "
        f"{number(first.rmse, '.4f')} m³/m³ (R {number(first.r, '.2f')}) on {regime.rows} rows of "
        f"{regime.groups} groups and {regime.dates} dates."
    )
    said += _compared(board, regime)
    said += _known_dates(board)
    said += _of_a(board, found)
    said += coverage_rows(board)
    ranking = ranking_text(board, board.ours)
    said += [ranking] if ranking else []
    if found.domain is not None:
        share = found.domain.outside_share
        said.append(f"{share:.1%} of the test rows lie outside the domain of their training folds.")
    ours = title(board.ours)
    return [*said, *(text for text in probed_rows(board) if text.startswith(f"{ours} with "))]


def _compared(board: Board, regime: RegimeScores) -> list[str]:
    """Compare the compared model with every other."""
    said = []
    for name, gap in regime.ours_minus.items():
        low, high = gap.interval
        if MODELS[name].reference or low is None or high is None:
            continue
        word = "better than" if high < 0 else "worse than" if low > 0 else "not told apart from"
        said.append(
            f"{title(board.ours)} is {word} {title(name)}: its RMSE minus the other's is "
            f"{gap_text(gap)}."
        )
    return said


def _known_dates(board: Board) -> list[str]:
    """Compare the scores on known and on new dates."""
    known = board.regimes.get("new-groups")
    if known is None or known is board.first:
        return []
    here, there = board.first.models[board.ours].pooled, known.models[board.ours].pooled
    return [
        f"On dates of the training data {title(board.ours)} scores R {number(there.r, '.2f')} and "
        f"RMSE {number(there.rmse, '.4f')}; on new dates R {number(here.r, '.2f')} and "
        f"{number(here.rmse, '.4f')}. A user asks about new dates."
    ]


def _of_a(board: Board, found: Findings) -> list[str]:
    """Describe whether the data determine A."""
    said = []
    learnt = list(board.learnt.get("wcm", {}).values())
    count = sum("A" in one.on_bound for one in learnt)
    if count:
        said.append(
            f"The water cloud model alone puts A on its bound in {count} of {len(learnt)} "
            "trainings: the data show no vegetation signal to remove."
        )
    if found.profile is not None and found.profile.flat:
        low, high = found.profile.interval
        said.append(
            f"A is not determined by these data: anything from {low:.4f} to {high:.4f} fits "
            "as well. A learnt value is then a by-product of training, not a property of the crop."
        )
    return said


def page(
    board: Board,
    result: Crossvalidation,
    found: Findings,
    pictures: Sequence[tuple[str, Path, str]],
) -> str:
    """Return the page as text."""
    name = Path(str(board.config["data"]["table"])).name
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{_esc(name)}: cross-validation</title><style>{STYLE}</style></head><body>",
        f"<h1>Soil moisture from {_esc(name)}</h1>",
        f'<p class="dim">Cross-validation by {_esc(board.group)}, {len(board.folds)} folds, '
        f"{len(board.blocks)} blocks of dates; {board.rows} rows, {board.labelled} labels, "
        f"{board.groups} groups; kgsm {_esc(board.kgsm_version)}</p>",
    ]
    if board.simulated:
        parts.append(
            '<p class="warning"><strong>SIMULATED DATA.</strong> No value in this table was '
            "measured. Scores compare methods; they do not tell the error on real soil.</p>"
        )
    parts += [f'<p class="dim">{_esc(sentence)}</p>' for sentence in left_out_rows(board)]
    warnings = [
        *notes(board),
        *([board.no_skill[board.ours]] if board.ours in board.no_skill else []),
    ]
    parts += [f'<p class="warning">{_esc(sentence)}</p>' for sentence in warnings]
    parts.append("<h2>Findings</h2><ul class='verdict'>")
    parts += [f"<li>{_esc(sentence)}</li>" for sentence in verdict(board, found)]
    parts.append("</ul>")
    parts += [_score_table(board), _lost_table(board, result)]
    for heading, path, caption in pictures:
        parts.append(f"<h2>{_esc(heading)}</h2>{_picture(path, caption)}")
    if found.profile is None:
        parts.append("<p class='dim'>No water cloud model was learnt: no A to profile.</p>")
    parts += _learnt_table(board)
    parts.append("<h2>Each model, fold by fold</h2>")
    for model in board.first.models:
        file = result_figure(pictures, model)
        if file.is_file() and model != board.ours:
            parts.append(_picture(file, title(model)))
    parts += ["<h2>Configuration</h2>", _configuration(board), "</body></html>"]
    return "\n".join(parts) + "\n"


def result_figure(pictures: Sequence[tuple[str, Path, str]], model: str) -> Path:
    """Return the path of a model's scatter."""
    return pictures[0][1].parent / f"scatter-{model}.png"


def _score_table(board: Board) -> str:
    heading, *rows = table_rows(board)
    cells = "".join(f"<th>{_esc(name)}</th>" for name in heading)
    lines = []
    for name, row in zip(ranked(board.first), rows, strict=True):
        kind = "ours" if name == board.ours else "reference" if MODELS[name].reference else ""
        line = "".join(f"<td>{_esc(cell)}</td>" for cell in row)
        lines.append(f'<tr class="{kind}">{line}</tr>')
    text = f"{heading_text(board)}. "
    text += "A reference reads labels of that day, or the simulator's truth."
    return (
        f"<h2>Scores</h2><div class='scroll'><table><caption>{_esc(text)}</caption><thead>"
        f"<tr>{cells}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"
        + _plain_table(
            "Subsets of rows, and other regimes",
            f"R, RMSE. The subsets are of the rows on {board.first.title}.",
            subset_rows(board),
        )
        + _plain_table("By date", f"{title(board.ours)} on {board.first.title}.", date_rows(board))
    )


def _plain_table(heading: str, caption: str, rows: Sequence[tuple[str, ...]]) -> str:
    """Return a table under a heading."""
    first, *others = rows
    head = "".join(f"<th>{_esc(name)}</th>" for name in first)
    body = "".join(
        "<tr>" + "".join(f"<td>{_esc(cell)}</td>" for cell in row) + "</tr>" for row in others
    )
    return (
        f"<h2>{_esc(heading)}</h2><div class='scroll'><table><caption>{_esc(caption)}</caption>"
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _learnt_table(board: Board) -> list[str]:
    by_parameter = learnt_by_split(board)
    if len(by_parameter) < 2:
        return []
    models, parameters, *trainings = zip(*by_parameter, strict=True)  # a row for each training
    names = (f"{model}: {name}" for model, name in zip(models[1:], parameters[1:], strict=True))
    return [
        _plain_table(
            "Parameters of each training",
            "* ended on its bound: not determined.",
            [("training", *names), *trainings],
        )
    ]


def _lost_table(board: Board, result: Crossvalidation) -> str:
    lines = [
        f"<li>{_esc(title(name))}: {1 - model.with_number:.1%}</li>"
        for name, model in board.first.models.items()
        if model.with_number < 1
    ]
    if not lines:
        return "<p>Every model gives a number on every labelled row.</p>"
    return (
        "<h2>Rows without a number</h2><p>Share of labelled rows for which an input is missing, "
        "out of range, or the soil's signal is lost:</p><ul>" + "".join(lines) + "</ul>"
    )


def _configuration(board: Board) -> str:
    lines = []
    for section, keys in board.config.items():
        text = ", ".join(f"{key} = {value}" for key, value in keys.items() if key != "table")
        lines.append(f"<dt>{_esc(section)}</dt><dd><code>{_esc(text)}</code></dd>")
    lines.append(f"<dt>table sha256</dt><dd><code>{_esc(board.table_sha256)}</code></dd>")
    return f"<dl>{''.join(lines)}</dl>"


def _picture(path: Path, caption: str) -> str:
    content = base64.b64encode(path.read_bytes()).decode("ascii")
    text = _esc(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/png;base64,{content}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def _esc(text: object) -> str:
    return html.escape(str(text))
