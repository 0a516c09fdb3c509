"""Estimate the error that all fields of a date share from a few sensors of the same pass.

On a date outside the training data the errors of all fields share a large part, since the model
does not know the rain. The shared part is a random effect d, estimated by best linear unbiased
prediction (Henderson 1975):

    d = sum_k (r_k / v_k) / (1 / V_date + sum_k 1 / v_k)
    v_k = V_field + V_point / n_k

r_k is the mean of observed minus predicted over the n_k probes of field k. The card holds the
variances, which come from residuals on new dates. Few probes shrink d towards 0; without any it is
0. The offset of a single field is never corrected: past errors of a field did not predict its next
one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base.schema import Range, build

#: A variance of a fraction from 0 to 1.
_Variance = Annotated[float, Range(0, 1)]


@dataclass(frozen=True)
class Variances:
    """Variances of observed - predicted on new dates, (m3 m-3)**2.

    date: of the part all fields of a date share.  field: of a field's mean around that part.
    point: of the points of a field around its mean.
    """

    date: _Variance
    field: _Variance
    point: _Variance


@dataclass(frozen=True)
class DateEffect:
    """Correction of one pass, m3 m-3, the weight of its probes (0 to 1) and their number."""

    correction: float
    weight: float
    probes: int
    fields: int


def variances_of(raw: Mapping[str, Any], entry: str = "probes") -> Variances:
    """Read the variances of an entry of a card. ValueError where they are invalid."""
    own = {key: value for key, value in raw.items() if key in Variances.__dataclass_fields__}
    return build(Variances, own, entry)


def date_effect(
    variances: Variances, residual: ArrayLike, field: Sequence[str] | NDArray[np.str_]
) -> DateEffect:
    """Estimate the effect of a pass from its probes.

    residual: (P,) observed - predicted, m3 m-3.  field: (P,) the field of each.

    >>> date_effect(Variances(0.0025, 0.0025, 0.0), [0.1], ["a"])
    DateEffect(correction=0.05, weight=0.5, probes=1, fields=1)
    >>> date_effect(Variances(0.0025, 0.0025, 0.0), [], []).correction
    0.0
    """
    values, names = np.asarray(residual, np.float64), np.asarray(field, np.str_)
    known = np.isfinite(values)
    values, names = values[known], names[known]
    if not len(values) or variances.date <= 0:
        return DateEffect(0.0, 0.0, 0, 0)
    _, code, count = np.unique(names, return_inverse=True, return_counts=True)
    mean = np.bincount(code, values) / count
    precision = 1 / np.maximum(variances.field + variances.point / count, 1e-9)
    total = 1 / variances.date + precision.sum()
    correction = float((precision * mean).sum() / total)
    return DateEffect(correction, float(precision.sum() / total), len(values), len(count))


def spread_of(variances: Variances) -> dict[str, float]:
    """Return the variances as the card writes them."""
    return {key: round(value, 8) for key, value in dataclasses.asdict(variances).items()}
