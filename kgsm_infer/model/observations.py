"""Convert a table to the arrays a model reads.

Training and inference call the same functions, so a feature cannot mean one thing
when learnt and another when used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import kernels
from ..base import flags
from ..base.errors import DataError
from ..context.definitions import CONTEXT, WHOLE_ARCHIVE, HistoryRule
from ..context.from_tables import TableContext
from ..kernels.wcm import default_limits, vwc_from_ndvi
from ..tables.columns import FROM_DATE, RULES, frost_of, possible
from .inputs import InputColumns

if TYPE_CHECKING:
    from ..kernels.wcm import Isolated, Wcm
    from ..tables.table import Table


@dataclass(frozen=True)
class Observations:
    """R acquisitions as a model reads them; missing is NaN.

    site: (R,).  day: (R,) float64, days since 1970 (or on any one origin).
    sigma0_db: (R,) float32.  vegetation: (R,) float32 NDVI or VWC (kg m-2), or None.
    angle_deg: (R,) float32, or None.  dynamic: (R, Fd).  statics: (R, Fs).
    frozen: (R,) True where the soil is frozen or under snow.
    frost_unknown: (R,) True where a column for frost is there and has no value: a missing input.
    context_missing: (R,) True where a context was made of too few rows.
    dense: (R,) True under dense vegetation, of a model that does not isolate the soil; None where
        it is not known.
    """

    site: NDArray[np.str_]
    day: NDArray[np.float64]
    sigma0_db: NDArray[np.float32]
    vegetation: NDArray[np.float32] | None
    angle_deg: NDArray[np.float32] | None
    dynamic: NDArray[np.float32]
    statics: NDArray[np.float32]
    frozen: NDArray[np.bool_]
    frost_unknown: NDArray[np.bool_]
    context_missing: NDArray[np.bool_]
    dense: NDArray[np.bool_] | None = None

    def take(self, index: NDArray[np.int64]) -> Observations:
        """Return the acquisitions at ``index``, in its order."""
        vegetation, angle_deg = self.vegetation, self.angle_deg
        return Observations(
            site=self.site[index],
            day=self.day[index],
            sigma0_db=self.sigma0_db[index],
            vegetation=None if vegetation is None else vegetation[index],
            angle_deg=None if angle_deg is None else angle_deg[index],
            dynamic=self.dynamic[index],
            statics=self.statics[index],
            frozen=self.frozen[index],
            frost_unknown=self.frost_unknown[index],
            context_missing=self.context_missing[index],
            dense=None if self.dense is None else self.dense[index],
        )


def columns_to_read(features: Sequence[str]) -> tuple[str, ...]:
    """Return the features a table itself must hold; those from date or context are computed."""
    return tuple(name for name in features if name not in FROM_DATE and name not in CONTEXT)


def columns_behind(names: Iterable[str]) -> tuple[str, ...]:
    """Return columns and those that their contexts are computed from, each once.

    >>> columns_behind(["vh_anomaly_scene", "ndvi"])
    ('vh_anomaly_scene', 'ndvi', 'vh_anomaly', 'vh_db')
    """
    names = list(names)
    bases = [CONTEXT[name].base for name in names if name in CONTEXT]
    return tuple(dict.fromkeys([*names, *(columns_behind(bases) if bases else ())]))


def column(
    table: Table,
    name: str,
    history: HistoryRule = WHOLE_ARCHIVE,
    context: TableContext | None = None,
) -> NDArray[np.float64]:
    """Return a numeric column, or one computed from date or context. DataError if neither."""
    if name in table.numbers:
        return np.asarray(table.numbers[name], np.float64)
    if name in FROM_DATE:
        return FROM_DATE[name](table.date)
    if name in CONTEXT:
        return (context or TableContext(table, history)).column(name).values
    have = ", ".join([*table.numbers, *table.text])
    raise DataError(f"{table.source}: no column {name!r}, which the model reads; it has {have}")


def observe(
    table: Table,
    inputs: InputColumns,
    history: HistoryRule = WHOLE_ARCHIVE,
) -> Observations:
    """Return the arrays a model reads from ``table``, rows in table order.

    inputs: without backscatter, sigma0_db is all NaN.  history: rule for contexts made of a
    place's other dates.  DataError where the table lacks a column.
    """
    context = TableContext(table, history)

    def single(name: str) -> NDArray[np.float32]:
        return column(table, name, history, context).astype(np.float32)

    def matrix(names: Sequence[str]) -> NDArray[np.float32]:
        columns = [single(name) for name in names]
        return np.stack(columns, axis=1) if columns else np.zeros((len(table), 0), np.float32)

    frozen, frost_unknown = frost_of(table.numbers, len(table))
    return Observations(
        site=table.site,
        day=table.day,
        sigma0_db=single(inputs.backscatter) if inputs.backscatter else no_radar(len(table)),
        vegetation=single(inputs.vegetation) if inputs.vegetation else None,
        angle_deg=single(inputs.angle) if inputs.angle else None,
        dynamic=matrix(inputs.dynamic),
        statics=matrix(inputs.statics),
        frozen=frozen,
        frost_unknown=frost_unknown,
        context_missing=context.missing([*inputs.dynamic, *inputs.statics]),
        dense=dense_vegetation(
            {name: table.numbers[name] for name in inputs.optional if name in table.numbers}
        ),
    )


def dense_vegetation(columns: Mapping[str, ArrayLike]) -> NDArray[np.bool_] | None:
    """Find acquisitions whose vegetation water content is above the limit of its column.

    columns: (R,) each of VEGETATION that is known; a missing or impossible value is not dense.
    Limits: 1.0 kg m-2 of the foliage rule from NDVI, 5.0 kg m-2 of a given water content
    (:func:`kgsm_infer.kernels.wcm.default_limits`). None without either column.

    >>> dense_vegetation({"ndvi": [0.9, 0.3, float("nan")]}).tolist()
    [True, False, False]
    """
    found: NDArray[np.bool_] | None = None
    for name, rule in (("ndvi", "foliage"), ("vwc_kg_m2", "column")):
        if name in columns:
            values = possible(name, columns[name])
            vwc_kg_m2 = vwc_from_ndvi(values) if rule == "foliage" else values
            dense = np.asarray(vwc_kg_m2 > default_limits(rule).dense_vwc_kg_m2, np.bool_)
            found = dense if found is None else found | dense
    return found


def mark_out_of_range(inputs: InputColumns, observed: Observations) -> Observations:
    """Replace inputs outside the range of their column by infinity, as every engine expects.

    The ranges are those of a table (:data:`kgsm_infer.tables.columns.RULES`): a backscatter of 0 dB
    or above is a fill value or linear power wherever it comes from. Engines flag an infinite input
    ``input_out_of_range``; in an earlier acquisition it shortens the history.
    """
    dynamic, sigma0_db = observed.dynamic, observed.sigma0_db
    outside = [_outside(name, dynamic[:, at]) for at, name in enumerate(inputs.dynamic)]
    if any(column.any() for column in outside):
        dynamic = np.where(np.stack(outside, axis=1), np.float32(np.inf), dynamic)
    if inputs.backscatter is not None:
        bad = _outside(inputs.backscatter, sigma0_db)
        sigma0_db = np.where(bad, np.float32(np.inf), sigma0_db) if bad.any() else sigma0_db
    return replace(observed, dynamic=dynamic, sigma0_db=sigma0_db)


def _outside(name: str, values: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Find values outside the range of their column; none where it has no range."""
    rule = RULES.get(name)
    return np.zeros(values.shape, bool) if rule is None else rule.outside(values)


def frost_flags(observed: Observations) -> NDArray[np.uint16]:
    """Return the flags (R,) of frost, snow and unknown frost of each acquisition."""
    return np.asarray(
        observed.frozen * np.uint16(flags.FROZEN_OR_SNOW)
        | observed.frost_unknown * np.uint16(flags.MISSING_INPUT),
        np.uint16,
    )


def no_radar(rows: int) -> NDArray[np.float32]:
    """Return the backscatter (R,) of a model that reads no radar: NaN."""
    return np.full(rows, np.nan, np.float32)


def isolate_observed(wcm: Wcm, observed: Observations) -> Isolated:
    """Isolate every acquisition. ValueError without vegetation."""
    if observed.vegetation is None:
        raise ValueError(f"isolation needs {wcm.vegetation_name}, which was not read")
    return kernels.isolate(wcm, observed.sigma0_db, observed.vegetation, observed.angle_deg)
