"""Pictures of a cross-validation, in the manner of the paper's Figs 2 and 3."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from kgsm_infer.files import whole

from .metrics import scores

TITLES = {
    "mean": "Site-blind mean",
    "same-date-mean": "Same-date mean",
    "oracle": "Oracle that knows the forward model, one look",
    "wcm": "WCM",
    "ridge-radar": "Ridge, backscatter alone",
    "ridge": "Ridge",
    "ridge-no-radar": "Ridge, no radar",
    "forest": "Random forest",
    "forest-no-radar": "Random forest, no radar",
    "lstm-no-radar": "LSTM, no radar",
    "lstm": "LSTM",
    "kg-lstm": "KG-LSTM",
}


def scatter_by_fold(
    path: Path,
    model: str,
    observed: NDArray[np.floating],
    predicted: NDArray[np.floating],
    fold: NDArray[np.int64],
    fold_names: Sequence[str],
    note: str = "",
) -> None:
    """Predicted against observed SM, one panel a fold: 1:1 line, RMSE, R, n.

    observed, predicted: (R,) m3 m-3, NaN where there is none.  fold: (R,).
    note: shown under the title, for example that the data are simulated.
    """
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
            observed[here], predicted[here], s=9, alpha=0.5, color="#1b6ca8", linewidths=0, zorder=2
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
    figure.suptitle(f"{TITLES.get(model, model)}{': ' + note if note else ''}", fontsize=11)
    save(figure, path)


def learnt_a(path: Path, paths_of_a: Mapping[str, Sequence[float]], note: str = "") -> None:
    """A over the epochs of each fold: where it settles, and whether it does."""
    figure = Figure(figsize=(5, 3.2), layout="constrained")
    axis = figure.subplots()
    for name, values in paths_of_a.items():
        axis.plot(np.arange(1, len(values) + 1), values, linewidth=1.2, label=f"fold {name}")
    axis.set(xlabel="epoch", ylabel="A (linear power)", yscale="log")
    axis.set_title(f"Learnt A{': ' + note if note else ''}", fontsize=11)
    axis.legend(fontsize=8)
    save(figure, path)


def save(figure: Figure, path: Path) -> None:
    """Write a figure as PNG, whole or not at all."""
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=130)
    with whole(path, "wb") as out:
        out.write(picture.getvalue())


def _upper_limit(*values: NDArray[np.floating]) -> float:
    finite = np.concatenate([value[np.isfinite(value)] for value in values])
    return float(max(0.5, np.ceil(finite.max(initial=0.0) * 20) / 20))
