"""The scores of a cross-validation, side by side and on the same rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import kgsm_infer
from kgsm_infer.base.schema import as_plain, build
from kgsm_infer.model.date_effect import spread_of

from ..config import Config, as_json
from ..models import MODELS, title
from .board import (
    Board,
    ByGroup,
    Difference,
    Ends,
    LeakTold,
    ModelScores,
    Paired,
    Pooled,
    RegimeScores,
    ScoreSet,
    WithinDate,
)
from .crossval import Crossvalidation
from .intervals import intervals
from .means import days_of, group_means
from .metrics import block_bootstrap, by_group, number, paired_difference, scores, within_date
from .parts import code_of_parts
from .probed import variances_of_models, with_probes


def common_rows(result: Crossvalidation, regime: str) -> NDArray[np.bool_]:
    """(R,) labelled rows on which every model gives a number: where they can be compared.

    References do not count: they are scored where they have a number among these rows.
    """
    rows = np.isfinite(result.source.label)
    for name, predicted in result.regimes[regime].items():
        if not MODELS[name].reference:
            rows &= np.isfinite(predicted)
    return rows


def scoreboard(result: Crossvalidation, config: Config, probes: Sequence[int] = ()) -> Board:
    """Everything ``metrics.json`` says.

    Scores are on the common rows of each regime; ``coverage`` is the share of the regime's
    labelled rows on which a model gives a number at all. Intervals come from resampling whole
    groups, and dates where the dates are new. probes: how many probed fields are tried.
    """
    source, design = result.source, result.design
    labelled = np.isfinite(source.label)
    ours = config.crossval.compared
    regimes = {regime: _regime(result, regime, config, ours) for regime in result.regimes}
    return Board(
        kgsm_version=kgsm_infer.__version__,
        code=code_of_parts(),
        simulated=source.simulated,
        table_sha256=source.sha256,
        rows=len(source.label),
        labelled=int(labelled.sum()),
        group=config.data.group,
        groups=len(np.unique(source.group)),
        folds=design.fold_names,
        blocks=design.block_names,
        pairs=len(design.splits) - len(design.fold_names),
        without_new_dates=design.without_new_dates,
        leaks=tuple(LeakTold(leak.kind, leak.text) for leak in design.leaks),
        repeats=design.repeats,
        headline=result.headline,
        ours=ours,
        regimes=regimes,
        learnt={
            model: {
                split: dataclasses.replace(learnt, log=()) for split, learnt in by_split.items()
            }
            for model, by_split in result.learnt.items()
        },
        config=as_json(config),
        no_skill=_without_skill(result, regimes[result.headline], config),
        intervals=intervals(result, config, regimes[result.headline].title),
        variances={name: spread_of(one) for name, one in variances_of_models(result).items()},
        probed=with_probes(
            result, probes, common_rows(result, result.headline), config.training.seed
        ),
    )


def regime_title(regime: str, group: str) -> str:
    """A regime in words.

    >>> regime_title("both-new", "field"), regime_title("new-groups", "year")
    ('new fields, new dates', 'new years')
    """
    if group == "year":
        return "new years"
    return {
        "both-new": f"new {group}s, new dates",
        "new-dates": f"known {group}s, new dates",
        "new-groups": f"new {group}s, known dates",
    }[regime]


def _without_skill(result: Crossvalidation, regime: RegimeScores, config: Config) -> dict[str, str]:
    """Model -> the sentence of :func:`no_skill`, for every model it is said of."""
    predictions, found = result.predicted, {}
    if "mean" not in predictions:
        return {}
    rows = _rows(result, result.headline, config)
    for name, predicted in predictions.items():
        if MODELS[name].reference or name == "mean":
            continue
        gap = _paired(rows, predicted, predictions["mean"])
        sentence = no_skill(gap, regime.models[name], regime.title, name)
        if sentence:
            found[name] = sentence
    return found


def no_skill(gap: Paired, scores: ModelScores, regime: str, model: str) -> str:
    """A sentence where a model is not told apart from the site-blind mean, else ''.

    gap: RMSE of the model minus the mean's: it must be below 0 with an interval that ends there,
    and R above 0 with an interval that begins there; a mean that is drawn a little nearer to
    the test rows is no skill.  regime: in words.
    """
    if gap.difference is None:
        return ""
    low, high = gap.interval
    r, (r_low, r_high) = scores.pooled.r, scores.interval_95.r
    if high is not None and high < 0 and r_low is not None and r_low > 0:
        return ""
    between = "no interval" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"
    return (
        f"There is no skill here: on {regime} {title(model)} is not better than the "
        f"site-blind mean of the labels (RMSE minus the mean's {gap.difference:+.4f}, 95 % "
        f"interval {between}; R {number(r, '.2f')}, {number(r_low, '.2f')} to "
        f"{number(r_high, '.2f')})."
    )


def _regime(result: Crossvalidation, regime: str, config: Config, ours: str) -> RegimeScores:
    source, predictions = result.source, result.regimes[regime]
    rows = _rows(result, regime, config)
    models = {name: _model(rows, predicted) for name, predicted in predictions.items()}
    minus = {
        name: _paired(rows, predictions[ours], theirs)
        for name, theirs in predictions.items()
        if name != ours
    }
    return RegimeScores(
        title=regime_title(regime, config.data.group),
        rows=int(rows.common.sum()),
        groups=len(np.unique(source.group[rows.common])),
        dates=len(np.unique(days_of(source)[rows.common])),
        models=models,
        ours_minus=minus,
    )


def _rows(result: Crossvalidation, regime: str, config: Config) -> _ScoredRows:
    source = result.source
    return _ScoredRows(
        result=result,
        common=common_rows(result, regime),
        due=_due(result, regime),
        # a new date is one of many, as a new group is
        date=None if regime == "new-groups" else days_of(source),
        # where a field has several points, the field is what "field scale" means
        several=config.data.group != "year" and source.several_sites_a_group,
        draws=config.crossval.bootstrap,
        seed=config.training.seed,
    )


def _due(result: Crossvalidation, regime: str) -> NDArray[np.bool_]:
    """(R,) rows some training is due to predict in a regime."""
    due = np.zeros(len(result.source.label), bool)
    for split in result.design.splits:
        due |= result.design.counts(regime, split)
    return due


class _ScoredRows(NamedTuple):
    """What all models of a regime are scored on."""

    result: Crossvalidation
    common: NDArray[np.bool_]
    due: NDArray[np.bool_]
    date: NDArray[np.int64] | None
    several: bool
    draws: int
    seed: int


def _model(rows: _ScoredRows, predicted: NDArray[np.float32]) -> ModelScores:
    result, common = rows.result, rows.common
    source, label = result.source, result.source.label
    observed, estimated = label[common], predicted[common]
    date = None if rows.date is None else rows.date[common]
    means = group_means(source, common, predicted)
    labelled = np.isfinite(label) & rows.due
    group_mean = None
    if rows.several:
        when = None if rows.date is None else means.date
        group_mean = Pooled(
            _score_set(means.observed, means.predicted),
            _ends(rows, means.group, means.observed, means.predicted, when),
        )
    return ModelScores(
        pooled=_score_set(observed, estimated),
        interval_95=_ends(rows, source.group[common], observed, estimated, date),
        by_group=_by_group(source.group[common], observed, estimated),
        by_site=_by_group(source.table.site[common], observed, estimated),
        by_fold=tuple(
            _score_set(label[common & here], predicted[common & here])
            for here in (result.design.fold == k for k in range(len(result.design.fold_names)))
        ),
        coverage=float(np.isfinite(predicted[labelled]).mean()) if labelled.any() else 0.0,
        within_date=build(
            WithinDate,
            as_plain(
                dict(
                    zip(
                        ("dates", "r", "r_centred"),
                        within_date(means.group, means.date, means.observed, means.predicted),
                        strict=True,
                    )
                )
            ),
        ),
        group_mean=group_mean,
    )


def _paired(rows: _ScoredRows, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Paired:
    source, common = rows.result.source, rows.common
    date = None if rows.date is None else rows.date[common]
    found = paired_difference(
        source.group[common],
        source.label[common],
        ours[common],
        theirs[common],
        rows.draws,
        rows.seed,
        date=date,
    )
    of_means = None
    if rows.several:
        a, b = (group_means(source, common, sm) for sm in (ours, theirs))
        when = None if rows.date is None else a.date
        of_means = build(
            Difference,
            as_plain(
                paired_difference(
                    a.group, a.observed, a.predicted, b.predicted, rows.draws, rows.seed, date=when
                )
            ),
        )
    return Paired(**build(Difference, as_plain(found)).__dict__, group_mean=of_means)


def _score_set(observed: NDArray[Any], predicted: NDArray[Any]) -> ScoreSet:
    return build(ScoreSet, as_plain(asdict(scores(observed, predicted))))


def _ends(
    rows: _ScoredRows,
    group: NDArray[np.str_],
    observed: NDArray[Any],
    predicted: NDArray[Any],
    date: NDArray[np.int64] | None,
) -> Ends:
    found = block_bootstrap(group, observed, predicted, rows.draws, rows.seed, date=date)
    return build(Ends, as_plain(found))


def _by_group(group: NDArray[np.str_], observed: NDArray[Any], predicted: NDArray[Any]) -> ByGroup:
    found: Mapping[str, Any] = by_group(group, observed, predicted)
    return build(ByGroup, as_plain(found))
