"""Score the correction by a few probes on the farm, in a cross-validation.

On every new date some fields are drawn to carry probes (all their points), the level of the
date is corrected from them by :func:`kgsm_infer.model.date_effect.date_effect`, and the other
fields are scored. The variances come from residuals on other blocks of dates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from kgsm_infer.model.date_effect import Variances, date_effect

from ..models import MODELS
from .board import ProbedScores
from .crossval import Crossvalidation
from .means import days_of
from .metrics import scores

#: Draws of the probed fields that a score is the mean of.
DRAWS = 50


def variances(
    residual: NDArray[np.floating], group: NDArray[np.str_], date: NDArray[np.int64]
) -> Variances:
    """Estimate variances by moments from finite residuals (R,), observed - predicted on new dates.

    date: the mean product of two fields' mean residuals on one date: what they share.
    point: the variance of a field's points around their mean.  field: what is left.
    """
    when = np.unique(date, return_inverse=True)[1]
    pair = np.unique(group, return_inverse=True)[1] * (int(when.max(initial=0)) + 1) + when
    member = np.unique(pair, return_inverse=True)[1]
    n = np.bincount(member)
    mean = np.bincount(member, residual) / n
    spread = np.bincount(member, (residual - mean[member]) ** 2).sum()
    point = spread / max(int((n - 1).sum()), 1)
    day = np.zeros(len(n), np.int64)
    day[member] = when
    fields, total = np.bincount(day), np.bincount(day, mean)
    pairs = (fields * (fields - 1)).sum()
    shared = (total**2 - np.bincount(day, mean**2)).sum() / max(int(pairs), 1)
    of_date = max(float(shared), 0.0) if pairs else 0.0
    field = float((mean**2).mean()) - of_date - float(point * (1 / n).mean())
    return Variances(of_date, max(field, 0.0), float(point))


def shows_date_errors(group: NDArray[np.str_], date: NDArray[np.int64]) -> bool:
    """Return True if residuals (R,) of two dates or more, one of them of two fields, are there.

    Without, nothing tells the error that a date's fields share from that of a field.

    >>> day = np.array([1, 1, 2])
    >>> [shows_date_errors(np.array(list(names)), day) for names in ("aba", "aaa")]
    [True, False]
    """
    fields = {(name, when) for name, when in zip(group.tolist(), date.tolist(), strict=True)}
    dates = {when for _, when in fields}
    return 1 < len(dates) < len(fields)


def variances_of_models(result: Crossvalidation) -> dict[str, Variances]:
    """Return model -> its variances in the headline.

    None where new dates are not scored, and where no date has two fields.
    """
    if not result.design.block_names:
        return {}
    found, date = {}, days_of(result.source)
    for name, predicted in result.predicted.items():
        residual = result.source.label - predicted
        rows = np.isfinite(residual)
        of_rows = result.source.group[rows], date[rows]
        if not MODELS[name].reference and rows.sum() > 30 and shows_date_errors(*of_rows):
            found[name] = variances(residual[rows], *of_rows)
    return found


def with_probes(
    result: Crossvalidation, counts: Sequence[int], common: NDArray[np.bool_], seed: int
) -> dict[str, dict[str, ProbedScores]]:
    """Return number of probed fields -> model -> scores of the fields without a probe."""
    found: dict[str, dict[str, ProbedScores]] = {}
    if not result.design.block_names:
        return found
    for count in counts:
        found[str(count)] = {}
        for name, predicted in result.predicted.items():
            model = MODELS[name]
            if not model.reference and model.reads != "nothing":
                one = _probed(result, predicted, common, count, seed)
                if one is not None:
                    found[str(count)][name] = one
    return found


def _probed(
    result: Crossvalidation,
    predicted: NDArray[np.float32],
    common: NDArray[np.bool_],
    count: int,
    seed: int,
) -> ProbedScores | None:
    rows = np.flatnonzero(common)
    group, date = result.source.group[rows], days_of(result.source)[rows]
    block, observed = result.design.block[rows], result.source.label[rows].astype(np.float64)
    estimated = predicted[rows].astype(np.float64)
    spread: Mapping[int, Variances] = {
        int(b): variances((observed - estimated)[block != b], group[block != b], date[block != b])
        for b in np.unique(block)
        if (block != b).any()
    }
    rng, told = np.random.default_rng(seed), []
    for _ in range(DRAWS):
        corrected, kept, weights = estimated.copy(), np.ones(len(rows), bool), []
        for day in np.unique(date):
            here = np.flatnonzero(date == day)
            fields = np.unique(group[here])
            if len(fields) <= count or int(block[here[0]]) not in spread:
                kept[here] = False  # no field is left to score
                continue
            probed = here[np.isin(group[here], rng.permutation(fields)[:count])]
            residual = observed[probed] - estimated[probed]
            effect = date_effect(spread[int(block[here[0]])], residual, group[probed])
            corrected[here] = np.clip(estimated[here] + effect.correction, 0, 1)
            kept[probed] = False
            weights.append(effect.weight)
        if kept.sum() < 10:
            return None
        after = scores(observed[kept], corrected[kept])
        before = scores(observed[kept], estimated[kept])
        told.append((after.r, after.rmse, before.r, before.rmse, float(np.mean(weights))))
    r, rmse, r_without, rmse_without, weight = (float(x) for x in np.mean(told, axis=0))
    if not np.isfinite([r, rmse, r_without, rmse_without]).all():
        return None
    return ProbedScores(r, rmse, r_without, rmse_without, weight)
