"""The scores of a cross-validation, side by side and on the same rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import kgsm_infer

from ..config import Config, as_json
from ..models import MODELS
from .crossval import Crossvalidation
from .metrics import block_bootstrap, by_group, paired_difference, scores
from .trust import group_conformal


def common_rows(result: Crossvalidation) -> NDArray[np.bool_]:
    """(R,) labelled rows on which every model gives a number: where they can be compared.

    References do not count: they are scored where they have a number among these rows.
    """
    rows = np.isfinite(result.source.label)
    for name, predicted in result.predicted.items():
        if not MODELS[name].reference:
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
        if MODELS[name].network:
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
        "reference": [name for name in models if MODELS[name].reference],
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
