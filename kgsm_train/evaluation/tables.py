"""Format scores as text cells and sentences, for the terminal, the report and the model card."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from ..learning.learnt import Learnt
from ..models import title
from .board import Board, DateLabels, Paired, RegimeScores, ScoreSet
from .metrics import number


def ranked(regime: RegimeScores) -> list[str]:
    """Return the models of a regime, the smallest RMSE first."""

    def rmse(name: str) -> float:
        value = regime.models[name].pooled.rmse
        return math.inf if value is None else value

    return sorted(regime.models, key=rmse)


def table_rows(board: Board) -> list[tuple[str, ...]]:
    """Return the score table of the headline as text cells: a heading, then the models."""
    first, group = board.first, board.group
    several = any(model.group_mean is not None for model in first.models.values())
    heading = ["model", "RMSE", "95 %", "R", "bias"]
    heading += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    heading += ["R within dates", "interval coverage", "rows with a number"]
    rows = [tuple(heading)]
    for name in ranked(first):
        model = first.models[name]
        low, high = model.interval_95.rmse
        cells = [
            title(name),
            number(model.pooled.rmse, ".4f"),
            f"{number(low, '.3f')}-{number(high, '.3f')}",
            number(model.pooled.r, ".3f"),
            number(model.pooled.bias, "+.3f"),
        ]
        if several:
            mean = model.group_mean
            cells.append(number(mean.pooled.rmse if mean else None, ".4f"))
            cells.append(number(mean.pooled.r if mean else None, ".3f"))
        covered = board.intervals.get(name, {}).get("cross_coverage")
        cells += [number(model.within_date.r, ".2f"), number(covered, ".0%")]
        rows.append((*cells, f"{model.with_number:.0%}"))
    return rows


def subset_rows(board: Board) -> list[tuple[str, ...]]:
    """Return R, RMSE of subsets of the headline's rows, and of the other regimes, as cells."""
    first, measured = board.first, board.measured.get(board.headline)
    others = [regime for name, regime in board.regimes.items() if name != board.headline]
    heading = ["model: R, RMSE"]
    heading += ["vegetation measured"] if measured else []
    heading += ["no flag", "five looks or more", *(regime.title for regime in others)]
    shown = first.models[board.ours]
    counts = ["rows, dates"]
    counts += [f"{measured.rows}, {measured.dates}"] if measured else []
    counts += [str(subset.n if subset else 0) for subset in (shown.unflagged, shown.settled)]
    counts += [f"{regime.rows}, {regime.dates}" for regime in others]
    rows = [tuple(heading), tuple(counts)]
    for name in ranked(first):
        model = first.models[name]
        cells = [title(name)]
        cells += [_short(measured.models[name].pooled)] if measured else []
        cells += [_short(model.unflagged), _short(model.settled)]
        cells += [_short(regime.models[name].pooled) for regime in others]
        rows.append(tuple(cells))
    return rows


def _short(scores: ScoreSet | None) -> str:
    if scores is None or not scores.n:
        return "–"
    return f"{number(scores.r, '.3f')}, {number(scores.rmse, '.4f')}"


#: More dates than this are summed up by month, and more months than this by year.
MOST_PERIODS = 40


def date_rows(board: Board) -> list[tuple[str, ...]]:
    """Return labels, error and interval coverage of the compared model by date, as cells.

    Of more than 40 dates the rows are months, of more than 40 months years.
    """
    model, interval = board.first.models[board.ours], board.intervals.get(board.ours, {})
    covered: Mapping[str, float] = interval.get("coverage_by_date", {})
    weights: Mapping[str, int] = interval.get("rows_by_date", {})
    length = _period_length(board)
    periods: dict[str, list[DateLabels]] = {}
    for one in board.dates:
        periods.setdefault(one.date[:length], []).append(one)
    period = {4: "year", 7: "month"}.get(length, "date")
    heading = (period, "labels", "scored", "vegetation held", "bias", "RMSE", "interval coverage")
    rows: list[tuple[str, ...]] = [heading]
    for name, days in periods.items():
        scored = [
            (scores.n, scores.bias, scores.rmse)
            for scores in (model.by_date.get(one.date) for one in days)
            if scores is not None and scores.bias is not None and scores.rmse is not None
        ]
        rows.append(
            (
                name,
                str(sum(one.labels for one in days)),
                str(sum(one.scored for one in days)),
                str(sum(one.held for one in days)),
                number(_mean([(n, bias) for n, bias, _ in scored]), "+.3f"),
                number(_root(_mean([(n, rmse**2) for n, _, rmse in scored])), ".3f"),
                number(
                    _mean(
                        [
                            (weights.get(one.date, 1), covered[one.date])
                            for one in days
                            if one.date in covered
                        ]
                    ),
                    ".0%",
                ),
            )
        )
    return rows


def _period_length(board: Board) -> int:
    """Return how many characters of a date name its period: 10, 7 (month) or 4 (year)."""
    for length in (10, 7):
        if len({one.date[:length] for one in board.dates}) <= MOST_PERIODS:
            return length
    return 4


def _mean(parts: Sequence[tuple[int, float]]) -> float | None:
    """Return the mean of (weight, value); None for no weight."""
    total = sum(weight for weight, _ in parts)
    return sum(weight * value for weight, value in parts) / total if total else None


def _root(value: float | None) -> float | None:
    return None if value is None else math.sqrt(value)


def left_out_rows(board: Board) -> list[str]:
    """Return a sentence on labels without a score, on dropped and on held ones.

    The dates are named up to 40; of more, their number.
    """
    said = []
    labels, scored = sum(one.labels for one in board.dates), sum(one.scored for one in board.dates)
    held = {one.date: one.held for one in board.dates if one.held}
    text = f"{scored} of {labels} labels on {sum(one.scored > 0 for one in board.dates)} of "
    said.append(f"{text}{len(board.dates)} dates are scored.")
    if len(board.dates) <= MOST_PERIODS:
        said += [
            f"Not scored on {one.date}: {count} labels ({why})."
            for one in board.dates
            for why, count in one.why.items()
        ]
    else:
        for why in dict.fromkeys(why for one in board.dates for why in one.why):
            counts = [one.why[why] for one in board.dates if why in one.why]
            said.append(f"Not scored: {sum(counts)} labels on {len(counts)} dates ({why}).")
    said += [f"Dropped by {name}: {count} labels." for name, count in board.dropped.items()]
    if held:
        each = ", ".join(f"{count} on {date}" for date, count in held.items())
        if len(held) > MOST_PERIODS:
            each = f"{sum(held.values())} on {len(held)} dates"
        said.append(
            f"Vegetation held from an earlier date: {each}. Scores without these rows are given "
            'under "vegetation measured".'
        )
    return said


def coverage_rows(board: Board) -> list[str]:
    """Return a sentence on the interval coverage by date and by group; none without an interval."""
    interval = board.intervals.get(board.ours)
    if not interval:
        return []
    by_group, by_date = (interval[f"coverage_by_{by}"] for by in ("group", "date"))
    least = min(by_group, key=by_group.__getitem__)
    return [
        f"Interval coverage: the 90 % interval of {title(board.ours)} contains "
        f"{interval['cross_coverage']:.1%} of the labels; by date from {min(by_date.values()):.0%} "
        f"to {max(by_date.values()):.0%}, by {board.group} from {by_group[least]:.0%} "
        f"({board.group} {least}) to {max(by_group.values()):.0%}."
    ]


def ranking_text(board: Board, name: str) -> str:
    """Return a sentence on a model's skill in ranking groups on one day; '' if not known."""
    within, group = board.first.models[name].within_date, board.group
    if within.ranks is None:
        return ""
    low, high = (number(end, ".2f") for end in within.interval_95)
    text = f"R within dates {number(within.r, '.2f')} (95 % interval {low} to {high})"
    if within.ranks:
        return f"{title(name)} ranks {group}s on one day: {text}."
    return f"{title(name)} cannot rank {group}s on one day: {text}."


def difference_rows(board: Board, regime: RegimeScores) -> list[str]:
    """Return the RMSE of the compared model minus each other's, a sentence each."""
    return [
        f"RMSE of {title(board.ours)} minus {title(name)}: {gap_text(gap)}"
        for name, gap in regime.ours_minus.items()
        if gap.difference is not None
    ]


def gap_text(gap: Paired) -> str:
    """Format a paired difference with its interval."""
    low, high = (number(value, "+.4f") for value in gap.interval)
    return f"{number(gap.difference, '+.4f')} (95 % interval {low} to {high})"


def learnt_rows(board: Board) -> list[tuple[str, str]]:
    """Return (model, its parameters): median and range over the splits."""
    found = []
    for model, by_split in board.learnt.items():
        text = learnt_text(by_split)
        if text:
            found.append((title(model), text))
    return found


def learnt_text(by_split: Mapping[str, Learnt]) -> str:
    """Format learnt parameters, ``A 0.0021 (0.0001* to 0.0044)``; * ended on a bound.

    >>> learnt_text({"fold1": Learnt({"A": 0.02}), "fold2": Learnt({"A": 0.04}, ("A",))})
    'A 0.03 (0.02 to 0.04*)'
    """
    told = []
    names = dict.fromkeys(name for learnt in by_split.values() for name in learnt.parameters)
    for name in names:
        pairs = [
            (learnt.parameters[name], "*" if name in learnt.on_bound else "")
            for learnt in by_split.values()
            if name in learnt.parameters
        ]
        low, high = min(pairs), max(pairs)
        median = float(np.median([value for value, _ in pairs]))
        told.append(f"{name} {median:.3g} ({low[0]:.3g}{low[1]} to {high[0]:.3g}{high[1]})")
    return ", ".join(told)


def learnt_by_split(board: Board) -> list[tuple[str, ...]]:
    """Return the parameters of every split: a heading (model, parameter, splits ...), rows."""
    splits: Sequence[str] = list(next(iter(board.learnt.values())))
    rows = [("model", "parameter", *splits)]
    for model, by_split in board.learnt.items():
        names = dict.fromkeys(name for learnt in by_split.values() for name in learnt.parameters)
        for name in names:
            cells = []
            for split in splits:
                learnt = by_split[split]
                star = "*" if name in learnt.on_bound else ""
                cells.append(number(learnt.parameters.get(name), ".4g") + star)
            rows.append((title(model), name, *cells))
    return rows


def heading_text(board: Board) -> str:
    """Return the number of rows, groups, dates and folds of the scores, in one line."""
    first = board.first
    blocks = f", {len(board.blocks)} blocks of dates, {board.pairs} pairs" if board.blocks else ""
    return (
        f"{first.title}: {first.rows} rows common to all models, {first.groups} groups, "
        f"{first.dates} dates{_held(board)}; {len(board.folds)} folds{blocks}"
        + ("  SIMULATED DATA" if board.simulated else "")
    )


def notes(board: Board) -> list[str]:
    """Return warnings: no new dates, leaks, labels that look copied."""
    said = []
    if board.without_new_dates:
        said.append(f"No score on new dates: {board.without_new_dates}.")
    said += [f"LEAK let pass on purpose ({leak.kind}): {leak.text}" for leak in board.leaks]
    said += [f"Look at these labels: {text}" for text in board.repeats[:5]]
    if len(board.repeats) > 5:
        said.append(f"... and {len(board.repeats) - 5} more labels that look copied")
    return said


def _held(board: Board) -> str:
    count = sum(one.held for one in board.dates)
    return f", vegetation held on {count} rows" if count else ""


def probed_rows(board: Board) -> list[str]:
    """Return the gain from probes, a sentence for each model and number of probed fields."""
    return [
        f"{title(name)} with {count} probed field{'s' if count != '1' else ''}: R {one.r:.3f}, "
        f"RMSE {one.rmse:.4f}; without {one.r_without:.3f}, {one.rmse_without:.4f} (the other "
        f"fields of new dates; the probes' weight {one.weight:.2f})"
        for count, models in board.probed.items()
        for name, one in models.items()
    ]
