"""The scores of a cross-validation, side by side and on the same rows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import kgsm_infer
from kgsm_infer.files import whole
from kgsm_infer.table import write_csv

from ..config import NETWORKS, REFERENCE, Config, as_json
from .crossval import Crossvalidation
from .figures import TITLES, learnt_a, scatter_by_fold
from .metrics import block_bootstrap, by_group, number, paired_difference, scores
from .report import write_report
from .trust import group_conformal


def common_rows(result: Crossvalidation) -> NDArray[np.bool_]:
    """(R,) labelled rows on which every model gives a number: where they can be compared.

    References do not count: they are scored where they have a number among these rows.
    """
    rows = np.isfinite(result.source.label)
    for name, predicted in result.predicted.items():
        if name not in REFERENCE:
            rows &= np.isfinite(predicted)
    return rows


def scoreboard(result: Crossvalidation, config: Config) -> dict[str, Any]:
    """Everything ``metrics.json`` says, as plain JSON values.

    Scores are on the common rows; ``coverage`` is the share of labelled rows on which a
    model gives a number at all. Intervals come from resampling whole groups.
    """
    label, group, site = result.source.label, result.source.group, result.source.table.site
    common = common_rows(result)
    # where a field has several points, the field is what "field scale" means
    several = config.data.group != "year" and result.source.several_sites_a_group
    labelled = np.isfinite(label)
    seed, count = config.training.seed, config.crossval.bootstrap
    models: dict[str, Any] = {}
    for name, predicted in result.predicted.items():
        observed, estimated = label[common], predicted[common]
        models[name] = {
            "pooled": plain(asdict(scores(observed, estimated))),
            "interval_95": plain(
                block_bootstrap(group[common], observed, estimated, n_boot=count, seed=seed)
            ),
            "by_group": plain(by_group(group[common], observed, estimated)),
            "by_site": plain(by_group(site[common], observed, estimated)),
            "by_fold": [
                plain(asdict(scores(label[common & here], predicted[common & here])))
                for here in (result.fold == k for k in range(len(result.fold_names)))
            ],
            "coverage": float(np.isfinite(predicted[labelled]).mean()),
            "learnt": [_without_log(learnt) for learnt in result.learnt[name]],
        }
        if several:
            means = group_means(result, common, predicted)
            models[name]["group_mean"] = {
                "pooled": plain(asdict(scores(means.observed, means.predicted))),
                "interval_95": plain(
                    block_bootstrap(
                        means.group, means.observed, means.predicted, n_boot=count, seed=seed
                    )
                ),
            }
        if name in NETWORKS:
            interval = group_conformal(np.where(labelled, predicted - label, np.nan), group)
            if interval is not None:
                models[name]["interval_90"] = plain(interval.as_card())
                models[name]["coverage_90_by_group"] = plain(interval.by_group)
    differences = {}
    if "kg-lstm" in result.predicted:
        ours = result.predicted["kg-lstm"]
        for name, theirs in result.predicted.items():
            if name == "kg-lstm":
                continue
            differences[name] = plain(
                paired_difference(
                    group[common], label[common], ours[common], theirs[common], count, seed
                )
            )
            if several:
                a, b = group_means(result, common, ours), group_means(result, common, theirs)
                differences[name]["group_mean"] = plain(
                    paired_difference(a.group, a.observed, a.predicted, b.predicted, count, seed)
                )
    return {
        "kgsm_version": kgsm_infer.__version__,
        "simulated": result.source.simulated,
        "table_sha256": result.source.sha256,
        "rows": len(label),
        "labelled": int(labelled.sum()),
        "common": int(common.sum()),
        "groups": len(np.unique(group)),
        "folds": list(result.fold_names),
        "group": config.data.group,
        "leaks": [asdict(leak) for leak in result.leaks],
        "reference": [name for name in REFERENCE if name in models],
        "models": models,
        "rmse_kg_lstm_minus": differences,
        "config": as_json(config),
    }


class GroupMeans(NamedTuple):
    """Means over the rows of one group and date: K of them. SM in m3 m-3."""

    group: NDArray[np.str_]
    observed: NDArray[np.float64]
    predicted: NDArray[np.float64]


def group_means(
    result: Crossvalidation, rows: NDArray[np.bool_], predicted: NDArray[np.float32]
) -> GroupMeans:
    """Observed and predicted SM averaged over the ``rows`` (R,) of each group and date."""
    group = result.source.group[rows]
    date = result.source.table.date[rows].astype("datetime64[D]").astype(str)
    _, first, code = np.unique(
        np.char.add(np.char.add(group, " "), date), return_index=True, return_inverse=True
    )
    n = np.bincount(code)
    observed = np.bincount(code, result.source.label[rows]) / n
    return GroupMeans(group[first], observed, np.bincount(code, predicted[rows]) / n)


def table_rows(board: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """The score table as text cells, a heading first, the smallest RMSE next.

    A model that reads labels of the day it predicts is marked as a reference.
    """
    group = board["group"]
    heading = ["model", "RMSE", "95 %", "R", "bias", "ubRMSE", f"median {group} RMSE"]
    models = sorted(board["models"].items(), key=lambda item: item[1]["pooled"]["rmse"] or np.inf)
    several = any("group_mean" in model for _, model in models)
    heading += [f"{group}-mean RMSE", f"{group}-mean R"] if several else []
    heading += ["coverage", "A by fold"]
    rows = [tuple(heading)]
    for name, model in models:
        pooled, interval = model["pooled"], model["interval_95"]["rmse"]
        cells = [
            TITLES.get(name, name) + (" (reference)" if name in board["reference"] else ""),
            number(pooled["rmse"], ".4f"),
            f"{number(interval[0], '.3f')}-{number(interval[1], '.3f')}",
            number(pooled["r"], ".3f"),
            number(pooled["bias"], "+.3f"),
            number(pooled["ubrmse"], ".4f"),
            number(model["by_group"]["rmse"]["median"], ".4f"),
        ]
        if several:
            mean = model["group_mean"]["pooled"]
            cells += [number(mean["rmse"], ".4f"), number(mean["r"], ".3f")]
        cells.append(f"{model['coverage']:.0%}")
        cells.append(_learnt_a(model["learnt"]))
        rows.append(tuple(cells))
    return rows


def _learnt_a(learnt: Sequence[Mapping[str, Any]]) -> str:
    """A of each fold; a star where it ended on its bound and means nothing."""
    return " ".join(
        f"{fold['a']:.4f}" + ("*" if "A" in fold.get("on_bound", ()) else "")
        for fold in learnt
        if "a" in fold
    )


def write_run(folder: Path, result: Crossvalidation, config: Config) -> dict[str, Any]:
    """Write ``metrics.json``, ``predictions.csv``, ``figures/`` and ``report.html``."""
    board = scoreboard(result, config)
    with whole(folder / "metrics.json") as out:
        out.write(json.dumps(board, indent=1, allow_nan=False) + "\n")
    table = result.source.table
    columns: dict[str, Any] = {
        "site": table.site,
        "date": table.date_text,
        "group": result.source.group,
        "fold": [result.fold_names[k] for k in result.fold],
        "sm": result.source.label,
    }
    columns |= {f"sm_{name.replace('-', '_')}": sm for name, sm in result.predicted.items()}
    if result.source.simulated:
        columns["source"] = ["simulated"] * len(table)
    write_csv(folder / "predictions.csv", columns)
    figures = folder / "figures"
    figures.mkdir(exist_ok=True)
    common = common_rows(result)
    note = "simulated data" if result.source.simulated else ""
    for name, predicted in result.predicted.items():
        scatter_by_fold(
            figures / f"scatter-{name}.png",
            name,
            np.where(common, result.source.label, np.nan),
            predicted,
            result.fold,
            result.fold_names,
            note,
        )
    if "kg-lstm" in result.learnt:
        paths = {
            fold: [line["a"] for line in learnt["log"]]
            for fold, learnt in zip(result.fold_names, result.learnt["kg-lstm"], strict=True)
        }
        learnt_a(figures / "learnt-a.png", paths, note)
    write_report(folder, board, result, config)
    return board


def _without_log(learnt: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in learnt.items() if key != "log"}


def plain(value: Any) -> Any:
    """JSON values: NumPy scalars as numbers, NaN as null, mappings and sequences inside."""
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
