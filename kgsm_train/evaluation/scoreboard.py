"""Score all models of a cross-validation on the same rows."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import kgsm_infer
from kgsm_infer.base.schema import as_plain, build
from kgsm_infer.context.definitions import SharedBy
from kgsm_infer.context.from_tables import group_rows
from kgsm_infer.kernels.wcm import vwc_from_ndvi
from kgsm_infer.model.date_effect import spread_of
from kgsm_infer.tables.columns import possible

from ..config import as_json
from ..learning.samples import Source, samples_of
from ..models import MODELS, title
from .board import (
    Board,
    ByGroup,
    DateLabels,
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
from .means import GroupMeans, days_of, group_means
from .metrics import (
    Bootstrap,
    DrawnBlocks,
    block_bootstrap,
    by_group,
    number,
    paired_difference,
    scores,
    within_date,
)
from .parts import code_of_parts
from .probed import variances_of_models, with_probes

#: Looks from which on a place's own past outweighs the typical place.
SETTLED_LOOKS = 5


def common_rows(result: Crossvalidation, regime: str) -> NDArray[np.bool_]:
    """Return (R,) True for labelled rows on which every model gives a number.

    References do not count: they are scored where they have a number among these rows.
    """
    rows = np.isfinite(result.source.label)
    for name, predicted in result.regimes[regime].items():
        if not MODELS[name].reference:
            rows &= np.isfinite(predicted)
    return rows


def scoreboard(result: Crossvalidation, probes: Sequence[int] = ()) -> Board:
    """Compute the content of ``metrics.json``.

    Scores are on the common rows of each regime. Their intervals come from resampling whole
    groups, and dates where the dates are new. probes: numbers of probed fields to try.
    """
    config, source, design = result.config, result.source, result.design
    labelled = np.isfinite(source.label)
    ours = config.crossval.compared
    subsets = subsets_of(result)
    regimes = {regime: _regime(result, regime, subsets) for regime in result.regimes}
    measured = {}
    if source.held.any():
        measured = {
            regime: _regime(result, regime, subsets, ~source.held) for regime in result.regimes
        }
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
        pairs=sum(split.block >= 0 and not split.past for split in design.splits),
        without_new_dates=design.without_new_dates,
        leaks=tuple(LeakTold(leak.kind, leak.text) for leak in design.leaks),
        repeats=design.repeats,
        headline=result.headline,
        ours=ours,
        regimes=regimes,
        measured=measured,
        dates=labels_by_date(result),
        dropped=source.dropped,
        learnt={
            model: {
                split: dataclasses.replace(learnt, log=()) for split, learnt in by_split.items()
            }
            for model, by_split in result.learnt.items()
        },
        config=as_json(config),
        no_skill=_without_skill(result, regimes[result.headline], subsets),
        intervals=intervals(result, regimes[result.headline].title),
        variances={name: spread_of(one) for name, one in variances_of_models(result).items()},
        probed=with_probes(
            result, probes, common_rows(result, result.headline), config.training.seed
        ),
    )


def regime_title(regime: str, group: str) -> str:
    """Return a regime in words.

    >>> regime_title("both-new", "field"), regime_title("new-groups", "year")
    ('new fields, new dates', 'new years')
    """
    if group == "year":
        return "new years"
    return {
        "both-new": f"new {group}s, new dates",
        "new-dates": f"known {group}s, new dates",
        "new-groups": f"new {group}s, known dates",
        "forward": f"new {group}s, later dates",
    }[regime]


def _without_skill(
    result: Crossvalidation, regime: RegimeScores, subsets: Subsets
) -> dict[str, str]:
    """Return model -> the sentence of :func:`no_skill`, for models without skill."""
    predictions, found = result.predicted, {}
    if "mean" not in predictions:
        return {}
    rows = _rows(result, result.headline, subsets)
    for name, predicted in predictions.items():
        if MODELS[name].reference or name == "mean":
            continue
        gap = _paired(rows, predicted, predictions["mean"])
        sentence = no_skill(gap, regime.models[name], regime.title, name)
        if sentence:
            found[name] = sentence
    return found


def no_skill(gap: Paired, scores: ModelScores, regime: str, model: str) -> str:
    """Return a sentence if a model is not better than the site-blind mean, else ''.

    Skill needs an RMSE below the mean's and an R above 0, both with their intervals.
    gap: RMSE of the model minus the mean's.  regime: in words.
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


@dataclass(frozen=True)
class Subsets:
    """Rows of separate scores, both (R,).

    unflagged: rows without any flag that is known in a cross-validation: short history, missing
    context, dense vegetation, held vegetation.  settled: rows of places with at least five looks.
    """

    unflagged: NDArray[np.bool_]
    settled: NDArray[np.bool_]


def subsets_of(result: Crossvalidation) -> Subsets:
    """Find the rows of separate scores, as the compared model would flag them."""
    config, source = result.config, result.source
    model = config.crossval.compared
    every = np.ones(len(source.label), bool)
    if MODELS[model].reads == "nothing":
        return Subsets(every, every)
    samples = samples_of(source, config, model)
    before = samples.rows[:, :-1]
    short = ((before < 0) | ~samples.complete[before]).any(axis=1)
    flagged = short | samples.observed.context_missing | source.held
    ndvi, limit = source.table.numbers.get("ndvi"), config.wcm.with_a(config.wcm.a).limits
    if ndvi is not None and MODELS[model].reads == "soil":
        vwc = vwc_from_ndvi(np.asarray(ndvi, np.float32))
        flagged |= np.asarray(vwc > limit.dense_vwc_kg_m2)
    looks = looks_so_far(source, f"{config.inputs.polarisation}_db")
    return Subsets(~flagged, looks >= SETTLED_LOOKS)


def looks_so_far(source: Source, column: str) -> NDArray[np.int64]:
    """Count the acquisitions of each row's site (and orbit) up to its own, (R,).

    column: backscatter; an acquisition without it does not count, where the table has it.
    """
    place, table = group_rows(source.table, SharedBy.SITE_PAST), source.table
    order = np.lexsort((table.day, place))
    new = np.diff(place[order], prepend=-1) != 0
    seen = np.ones(len(order), np.int64)
    if column in table.numbers:
        seen = np.isfinite(possible(column, table.numbers[column]))[order].astype(np.int64)
    total = np.cumsum(seen)
    before = np.maximum.accumulate(np.where(new, total - seen, 0))
    count = np.empty(len(order), np.int64)
    count[order] = total - before
    return count


def labels_by_date(result: Crossvalidation) -> tuple[DateLabels, ...]:
    """Count labels and scored rows of each date of the headline, with reasons for the others."""
    config, source, found = result.config, result.source, []
    common, day = common_rows(result, result.headline), days_of(source)
    labelled = np.isfinite(source.label)
    reads = {MODELS[name].reads for name in result.predicted}
    columns = [*config.columns()] if reads - {"nothing"} else []
    columns += [f"{config.inputs.polarisation}_db"] if reads & {"radar", "soil"} else []
    empty = {
        name: ~np.isfinite(source.table.numbers[name])
        for name in dict.fromkeys(columns)
        if name in source.table.numbers
    }
    for date in np.unique(day[labelled]):
        here = labelled & (day == date)
        why: dict[str, int] = {}
        for row in np.flatnonzero(here & ~common):
            lacking = [name for name, missing in empty.items() if missing[row]]
            none = [n for n, sm in result.predicted.items() if not np.isfinite(sm[row])]
            none = [title(n) for n in none if not MODELS[n].reference]
            reason = f"no {', '.join(lacking)}" if lacking else f"no number of {', '.join(none)}"
            why[reason] = why.get(reason, 0) + 1
        found.append(
            DateLabels(
                str(np.datetime64(int(date), "D")),
                int(here.sum()),
                int((here & common).sum()),
                int((here & common & source.held).sum()),
                why,
            )
        )
    return tuple(found)


def _regime(
    result: Crossvalidation,
    regime: str,
    subsets: Subsets,
    among: NDArray[np.bool_] | None = None,
) -> RegimeScores:
    config, source, predictions = result.config, result.source, result.regimes[regime]
    rows = _rows(result, regime, subsets, among)
    ours = config.crossval.compared
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


def _rows(
    result: Crossvalidation,
    regime: str,
    subsets: Subsets,
    among: NDArray[np.bool_] | None = None,
) -> _ScoredRows:
    config, source = result.config, result.source
    if among is None:
        among = np.ones(len(source.label), bool)
    return _ScoredRows(
        result=result,
        common=common_rows(result, regime) & among,
        due=_due(result, regime) & among,
        subsets=subsets,
        # a new date is one of many, as a new group is
        date=None if regime == "new-groups" else days_of(source),
        # where a field has several points, the field is what "field scale" means
        several=config.data.group != "year" and source.several_sites_a_group,
        bootstrap=Bootstrap(config.crossval.bootstrap, config.training.seed),
    )


def _due(result: Crossvalidation, regime: str) -> NDArray[np.bool_]:
    """Return (R,) True for rows that a training predicts in a regime."""
    due = np.zeros(len(result.source.label), bool)
    for split in result.design.splits:
        due |= result.design.counts(regime, split)
    return due


class _ScoredRows(NamedTuple):
    """Rows that all models of a regime are scored on."""

    result: Crossvalidation
    common: NDArray[np.bool_]
    due: NDArray[np.bool_]
    subsets: Subsets
    date: NDArray[np.int64] | None
    several: bool
    bootstrap: Bootstrap

    @property
    def blocks(self) -> DrawnBlocks:
        """Return what is drawn of the common rows."""
        date = None if self.date is None else self.date[self.common]
        return DrawnBlocks(self.result.source.group[self.common], date)

    def blocks_of(self, means: GroupMeans) -> DrawnBlocks:
        """Return what is drawn of the means of the common rows."""
        return DrawnBlocks(means.group, None if self.date is None else means.date)


def _model(rows: _ScoredRows, predicted: NDArray[np.float32]) -> ModelScores:
    result, common = rows.result, rows.common
    source, label = result.source, result.source.label
    observed, estimated = label[common], predicted[common]
    means = group_means(source, common, predicted)
    labelled = np.isfinite(label) & rows.due
    unflagged, settled = common & rows.subsets.unflagged, common & rows.subsets.settled
    group_mean = None
    if rows.several:
        group_mean = Pooled(
            _score_set(means.observed, means.predicted),
            _ends(rows, rows.blocks_of(means), means.observed, means.predicted),
        )
    return ModelScores(
        pooled=_score_set(observed, estimated),
        interval_95=_ends(rows, rows.blocks, observed, estimated),
        by_group=_by_group(source.group[common], observed, estimated),
        by_site=_by_group(source.table.site[common], observed, estimated),
        by_fold=tuple(
            _score_set(label[common & here], predicted[common & here])
            for here in (result.design.fold == k for k in range(len(result.design.fold_names)))
        ),
        with_number=float(np.isfinite(predicted[labelled]).mean()) if labelled.any() else 0.0,
        within_date=_within_date(rows, means),
        by_date={
            str(np.datetime64(int(day), "D")): _score_set(label[here], predicted[here])
            for day in np.unique(days_of(source)[common])
            for here in (common & (days_of(source) == day),)
        },
        unflagged=_score_set(label[unflagged], predicted[unflagged]),
        settled=_score_set(label[settled], predicted[settled]),
        group_mean=group_mean,
    )


def _within_date(rows: _ScoredRows, means: GroupMeans) -> WithinDate:
    found = within_date(means.group, means.date, means.observed, means.predicted)
    dates, r, r_centred = found.dates, found.r, found.r_centred
    blocks = DrawnBlocks(found.group, found.date)
    low, high = block_bootstrap(blocks, found.observed, found.predicted, rows.bootstrap)["r"]
    plain = {"dates": dates, "r": r, "r_centred": r_centred, "interval_95": (low, high)}
    return build(WithinDate, as_plain(plain))


def _paired(rows: _ScoredRows, ours: NDArray[np.float32], theirs: NDArray[np.float32]) -> Paired:
    source, common = rows.result.source, rows.common
    found = paired_difference(
        rows.blocks, source.label[common], ours[common], theirs[common], rows.bootstrap
    )
    of_means = None
    if rows.several:
        a, b = (group_means(source, common, sm) for sm in (ours, theirs))
        gap = paired_difference(
            rows.blocks_of(a), a.observed, a.predicted, b.predicted, rows.bootstrap
        )
        of_means = build(Difference, as_plain(gap))
    return Paired(**build(Difference, as_plain(found)).__dict__, group_mean=of_means)


def _score_set(observed: NDArray[Any], predicted: NDArray[Any]) -> ScoreSet:
    return build(ScoreSet, as_plain(asdict(scores(observed, predicted))))


def _ends(
    rows: _ScoredRows, blocks: DrawnBlocks, observed: NDArray[Any], predicted: NDArray[Any]
) -> Ends:
    found = block_bootstrap(blocks, observed, predicted, rows.bootstrap)
    return build(Ends, as_plain(found))


def _by_group(group: NDArray[np.str_], observed: NDArray[Any], predicted: NDArray[Any]) -> ByGroup:
    found: Mapping[str, Any] = by_group(group, observed, predicted)
    return build(ByGroup, as_plain(found))
