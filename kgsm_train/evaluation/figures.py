"""Pictures of a cross-validation, in the manner of the paper's Figs 2 and 3."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kgsm_infer.base.files import write_whole

from ..learning.calibrate import Profile
from ..models import MODELS, title
from .board import Board
from .crossval import Crossvalidation
from .metrics import scores
from .tables import ranked
from .trust import HeldOutDomain

#: Two colours that people with any colour vision tell apart (Okabe and Ito 2008).
BLUE, VERMILION = "#0072b2", "#d55e00"


def scatter_by_fold(
    path: Path, result: Crossvalidation, model: str, rows: NDArray[np.bool_], note: str = ""
) -> None:
    """Draw predicted against observed SM, one panel a fold: 1:1 line, RMSE, R, n.

    rows: (R,) True where a row is drawn, if it has both values.
    note: shown under the title, for example that the data are simulated.
    """
    observed, predicted = np.where(rows, result.source.label, np.nan), result.predicted[model]
    fold, fold_names = result.design.fold, result.design.fold_names
    count = len(fold_names)
    columns = min(count, 4)
    lines = -(-count // columns)
    figure = Figure(figsize=(3.1 * columns, 3.2 * lines + 0.5), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False, sharex=True, sharey=True)
    top = _upper_limit(observed, predicted)
    for k, axis in enumerate(axes.flat):
        if k >= count:
            axis.set_visible(False)
            continue
        here = (fold == k) & np.isfinite(observed) & np.isfinite(predicted)
        score = scores(observed[here], predicted[here])
        axis.plot([0, top], [0, top], color="0.6", linewidth=1, zorder=1)
        axis.scatter(
            observed[here], predicted[here], s=9, alpha=0.5, color=BLUE, linewidths=0, zorder=2
        )
        axis.text(
            0.04,
            0.96,
            f"RMSE {score.rmse:.3f}\nR {score.r:.2f}\nn {score.n}",
            transform=axis.transAxes,
            va="top",
            fontsize=8,
        )
        axis.set(xlim=(0, top), ylim=(0, top), aspect="equal")
        axis.set_title(f"fold {fold_names[k]}", fontsize=9)
    figure.supxlabel("observed SM (m³ m⁻³)", fontsize=9)
    figure.supylabel("predicted SM (m³ m⁻³)", fontsize=9)
    figure.suptitle(f"{title(model)}{': ' + note if note else ''}", fontsize=11)
    save(figure, path)


def learnt_a(path: Path, paths_of_a: Mapping[str, Sequence[float]], note: str = "") -> None:
    """Draw A over the epochs of each fold: where it settles, and whether it does."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, values in paths_of_a.items():
        axis.plot(np.arange(1, len(values) + 1), values, linewidth=1.2, label=name)
    axis.set(xlabel="epoch", ylabel="A (linear power)", yscale="log")
    axis.set_title(f"Learnt A{': ' + note if note else ''}", fontsize=11)
    axis.legend(fontsize=8)
    save(figure, path)


def score_bars(path: Path, board: Board, note: str = "") -> None:
    """Draw RMSE of every model in the headline with its interval, the best on top.

    References are hollow; small grey marks are the other regimes.
    """
    order, models = ranked(board.first)[::-1], board.first.models
    figure = Figure(figsize=(6.4, 0.34 * len(order) + 1.1), layout="constrained")
    axis = figure.subplots()
    others = {name: one for name, one in board.regimes.items() if name != board.headline}
    for y, name in enumerate(order):
        for mark, (regime, one) in zip("|x", others.items(), strict=False):
            value = one.models[name].pooled.rmse
            if value is not None:
                label = others[regime].title if y == 0 else None
                axis.plot(value, y, mark, markersize=6, color="0.45", label=label)
        rmse = models[name].pooled.rmse
        if rmse is None:
            continue
        low, high = models[name].interval_95.rmse
        color = VERMILION if name == board.ours else BLUE
        if low is not None and high is not None:
            axis.plot([low, high], [y, y], color=color, linewidth=2, alpha=0.6)
        fill = "white" if MODELS[name].reference else color
        axis.plot(rmse, y, "o", markersize=6, color=color, markerfacecolor=fill)
    names = [textwrap.fill(title(name), 32) for name in order]
    axis.set_yticks(range(len(order)), names, fontsize=8)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, loc="best")
    axis.set_xlabel("RMSE (m³ m⁻³)", fontsize=9)
    axis.grid(axis="x", color="0.9")
    # of the figure, not of the axes, which long names make narrow
    text = f"RMSE with 95 % interval, {board.first.title}{': ' + note if note else ''}"
    figure.suptitle(text, fontsize=10)
    save(figure, path)


def series(
    path: Path, board: Board, result: Crossvalidation, sites: Sequence[str], note: str = ""
) -> None:
    """Draw observed dots and the predicted line with its band, one panel a site."""
    table, label = result.source.table, result.source.label
    predicted, interval = result.predicted[board.ours], board.intervals.get(board.ours)
    figure = Figure(figsize=(7.6, 1.55 * len(sites) + 0.5), layout="constrained")
    axes = figure.subplots(len(sites), 1, squeeze=False, sharex=True, sharey=True)[:, 0]
    for axis, name in zip(axes, sites, strict=True):
        here = np.flatnonzero(table.site == name)
        here = here[np.argsort(table.date[here])]
        date, sm = table.date[here].astype("datetime64[ms]").astype(object), predicted[here]
        if interval:
            low, high = (np.clip(sm + interval[end], 0, 1) for end in ("lower", "upper"))
            axis.fill_between(date, low, high, color=BLUE, alpha=0.15, linewidth=0)
        axis.plot(date, sm, "-", color=BLUE, linewidth=1.2, label="predicted")
        axis.plot(date, label[here], "o", color=VERMILION, markersize=3, label="observed")
        error = (predicted - label)[here]
        rmse = np.sqrt(np.nanmean(error**2))
        axis.set_title(f"site {name}, RMSE {rmse:.3f}", fontsize=8, loc="left")
        axis.tick_params(labelsize=8)
    axes[0].legend(fontsize=7, loc="upper right", ncols=2, frameon=False)
    figure.supylabel("SM (m³ m⁻³)", fontsize=9)
    if note:
        figure.suptitle(note, fontsize=10)
    save(figure, path)


def coverage(path: Path, interval: Mapping[str, Any], group: str, note: str = "") -> None:
    """Draw the interval coverage of each date in time, and of each group, sorted.

    interval: as on the card, with its coverage by date and by group.
    """
    by_date = interval["coverage_by_date"]
    by_group = np.sort(np.asarray(list(interval["coverage_by_group"].values())))
    figure = Figure(figsize=(7.6, 3.0), layout="constrained")
    dates, groups = figure.subplots(1, 2, sharey=True)
    for axis, values in ((dates, list(by_date.values())), (groups, by_group)):
        axis.axhline(interval["level"], color="0.5", linewidth=1)
        axis.plot(np.arange(1, len(values) + 1), values, "o", color=BLUE, markersize=4)
        axis.set(ylim=(0, 1.03))
    step = max(1, len(by_date) // 14)
    names = list(by_date)[::step]
    dates.set_xticks(np.arange(1, len(by_date) + 1)[::step], names, rotation=60, fontsize=7)
    dates.set(ylabel="share of labels inside")
    groups.set(xlabel=f"{group}s, sorted")
    covered = interval["cross_coverage"]
    figure.suptitle(
        f"Coverage of the {interval['level']:.0%} interval: {covered:.1%} of all labels"
        + (f": {note}" if note else ""),
        fontsize=10,
    )
    save(figure, path)


def profile_of_a(path: Path, found: Profile, learnt: Sequence[float], note: str = "") -> None:
    """Draw the misfit along A relative to its lowest, the 95 % interval, and A as learnt."""
    figure = Figure(figsize=(6.4, 2.9), layout="constrained")
    axis = figure.subplots()
    axis.axvspan(*found.interval, color="0.92", zorder=0, label="as good within 95 %")
    axis.plot(found.a, found.cost / found.cost.min(), color=BLUE)
    for i, a in enumerate(learnt):
        label = "learnt by the network" if i == 0 else None
        axis.axvline(a, color=VERMILION, linewidth=1, alpha=0.7, label=label)
    axis.set(xscale="log", xlabel="A (linear power)", ylabel="misfit / lowest")
    axis.legend(fontsize=8)
    _title(axis, "A is not determined" if found.flat else "A is determined", note)
    save(figure, path)


def domain(path: Path, found: HeldOutDomain, note: str = "") -> None:
    """Draw the histogram of the dissimilarity index of test rows, with the threshold."""
    figure = Figure(figsize=(6.4, 2.6), layout="constrained")
    axis = figure.subplots()
    axis.hist(found.index, bins=40, color=BLUE, alpha=0.8)
    axis.axvline(found.threshold, color=VERMILION, linewidth=1.5, label="outside_domain")
    axis.set(xlabel="dissimilarity index", ylabel="test rows")
    axis.legend(fontsize=8)
    _title(axis, f"{found.outside_share:.1%} of test rows outside the domain", note)
    save(figure, path)


def _title(axis: Axes, text: str, note: str) -> None:
    axis.set_title(f"{text}{': ' + note if note else ''}", fontsize=10)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    with write_whole(path, "wb") as out:
        out.write(picture.getvalue())


def _upper_limit(*values: NDArray[np.floating]) -> float:
    finite = np.concatenate([value[np.isfinite(value)] for value in values])
    return float(max(0.5, np.ceil(finite.max(initial=0.0) * 20) / 20))
