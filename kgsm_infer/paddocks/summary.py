"""Lines of paddocks: value, spread, interval, flags and reason, and the files they go to.

:mod:`kgsm_infer.paddocks.of_table` makes them of rows of a table and
:mod:`kgsm_infer.paddocks.of_scene` of the pixels of a scene, weighted where partly covered.

    sm              of a scene: the retrieval of the paddock's averaged inputs
                    (:mod:`kgsm_infer.paddocks.averages`); of a table: the mean of its rows
    sm_median, sm_p10, sm_p90   weighted quantiles of the pixels' retrievals, the spread in the
                    paddock
    sm_lower, sm_upper          interval of ``sm``: the card's offsets for means of fields, or
                    those for one pixel where it has none. Errors of pixels in one paddock go
                    together (same pass, same crop, same model), so the offsets are not divided
                    by the root of their number. The interval is rather too wide.
    valid_share     share of the paddock's area (or rows) that has a number
    pixels          number of pixels (sum of their shares inside), or rows
    flags           those of the averaged row, and those on at least a tenth of the pixels with a
                    number; without a value, the reasons on at least a tenth of the paddock
    reason          why the paddock has no number; empty where it has one
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.errors import UsageError
from ..base.files import RESULTS, write_whole
from ..base.quantities import SOIL_MOISTURE, Quantity
from ..model.interval import Width, ends, interval_of
from ..scenes.outlines import Outlines, Reason, crs_member, json_value
from ..tables.table import write_csv

if TYPE_CHECKING:
    from ..model.card import Card
    from ..model.result import Retrieval

#: Least share of the pixels with a flag for the paddock to get it.
FLAG_SHARE = 0.1
#: Least share of a paddock with a number for the paddock to have one.
MIN_VALID = 0.5


class PaddockDate(NamedTuple):
    """Key of a line: the paddock's id, and the date as it is written."""

    id: str
    date: str


@dataclass(frozen=True)
class Paddock:
    """One paddock on one date. The module describes each field; NaN is missing.

    cause: what ``reason`` comes down to, to be counted; not written to files.
    sm_correction, probe_weight, probes: of the date, where probes were given; written then only.
    """

    id: str
    date: str
    sm: float
    sm_median: float
    sm_p10: float
    sm_p90: float
    sm_lower: float
    sm_upper: float
    valid_share: float
    pixels: float
    flags: str
    reason: str
    cause: str = ""
    sm_correction: float = math.nan
    probe_weight: float = math.nan
    probes: int = 0
    quantity: Quantity = SOIL_MOISTURE


@dataclass(frozen=True)
class Members:
    """Members of a paddock: N pixels of a scene, or rows of a table.

    sm, flags: (N,) of each.  weight: (N,) share of each inside the paddock, 0 to 1.  area: of the
    whole paddock in pixels (or rows); what lies off the scene has no number.
    """

    sm: NDArray[np.float32]
    flags: NDArray[np.uint16]
    weight: NDArray[np.float64]
    area: float

    @classmethod
    def of_rows(cls, result: Retrieval) -> Members:
        """Describe the rows of a table, which count alike."""
        n = len(result)
        return cls(result.sm, result.flags, np.ones(n), float(n))

    @property
    def valid_share(self) -> float:
        """Share of the area that has a number."""
        share = float(self.weight[np.isfinite(self.sm)].sum() / self.area) if self.area > 0 else 0.0
        return round(min(share, 1.0), 6)

    @property
    def pixels(self) -> float:
        """Number of pixels or rows, by their shares."""
        return round(float(self.weight.sum()), 3)


def summarise(
    key: PaddockDate, members: Members, card: Card, min_valid: float = MIN_VALID
) -> Paddock:
    """Return a paddock's line with the weighted mean of its members' retrievals as the value."""
    valid = members.valid_share
    there = np.isfinite(members.sm)
    if not there.any() or valid < min_valid:
        return _without_enough(key, members, card)
    inside = members.weight[there]
    mean = float(np.average(members.sm[there].astype(np.float64), weights=inside))
    return _line(key, mean, members, card)


def summarise_average(
    key: PaddockDate,
    average: Retrieval,
    members: Members,
    card: Card,
    min_valid: float = MIN_VALID,
) -> Paddock:
    """Return a paddock's line with the retrieval of its averaged inputs as the value.

    average: one retrieval, of the averaged row.  members: the pixels; they give the quantiles,
    the share with a number and further flags.
    """
    mask = int(average.flags[0])
    if math.isfinite(float(average.sm[0])):
        line = _line(key, float(average.sm[0]), members, card)
        return replace(line, flags=flags.names(flags.mask_of(line.flags) | mask))
    line = _without_enough(key, members, card)
    if members.valid_share < min_valid:
        return line
    cause = flags.names(mask & flags.NO_NUMBER).split(";")[0] or "no reason given"
    reason = Reason(cause, f"the average of its pixels has no number ({cause})")
    line = without_number(key, reason, card.retrieves, members)
    return replace(line, flags=flags.names(mask))


def _without_enough(key: PaddockDate, members: Members, card: Card) -> Paddock:
    there, share, area = np.isfinite(members.sm), members.weight, members.area
    gaps = flag_shares(members.flags[~there], share[~there], area)
    off = max(0.0, 1 - float(share.sum()) / area)
    causes = [(what, part) for what, part in (*gaps, ("outside the scene", off)) if part >= 0.005]
    cause = causes[0][0] if causes else "no reason given"
    why = ", ".join(f"{what} {part:.0%}" for what, part in causes) or cause
    has = "nothing" if not there.any() else f"only {members.valid_share:.0%}"
    reason = Reason(cause, f"{has} of it has a number ({why})")
    line = without_number(key, reason, card.retrieves, members)
    return replace(line, flags=";".join(flag for flag, part in gaps if part >= FLAG_SHARE))


def _line(key: PaddockDate, value: float, members: Members, card: Card) -> Paddock:
    """Return the line of a paddock with a value; quantiles and flags come from its members."""
    there = np.isfinite(members.sm)
    inside = members.weight[there]
    lower = upper = middle = p10 = p90 = math.nan
    if card.interval is not None:
        interval = interval_of(card.interval, card.names("dynamic"))
        # a card of single points knows nothing of means: their offsets are wide enough
        width = interval.field or Width(interval.point.lower, interval.point.upper)
        lower, upper = (float(end) for end in ends(width, value, {}, card.limits.sm))
    doubts: list[tuple[str, float]] = []
    if there.any():
        values = members.sm[there].astype(np.float64)
        middle, p10, p90 = weighted_quantile(values, inside, [0.5, 0.1, 0.9])
        doubts = flag_shares(members.flags[there], inside, float(inside.sum()))
    return Paddock(
        id=key.id,
        date=key.date,
        sm=round(value, 6),
        sm_median=round(middle, 6),
        sm_p10=round(p10, 6),
        sm_p90=round(p90, 6),
        sm_lower=round(lower, 6),
        sm_upper=round(upper, 6),
        valid_share=members.valid_share,
        pixels=members.pixels,
        flags=";".join(flag for flag, part in doubts if part >= FLAG_SHARE),
        reason="",
        quantity=card.retrieves,
    )


def without_number(
    key: PaddockDate, reason: Reason, quantity: Quantity, members: Members | None = None
) -> Paddock:
    """Return the line of a paddock without a number, with the reason.

    members: None for a paddock without pixels or rows.
    """
    nan = math.nan
    return Paddock(
        id=key.id,
        date=key.date,
        sm=nan,
        sm_median=nan,
        sm_p10=nan,
        sm_p90=nan,
        sm_lower=nan,
        sm_upper=nan,
        valid_share=0.0 if members is None else members.valid_share,
        pixels=0.0 if members is None else members.pixels,
        flags="",
        reason=reason.text,
        cause=reason.cause,
        quantity=quantity,
    )


def weighted_quantile(
    values: ArrayLike, weight: ArrayLike, q: Sequence[float]
) -> tuple[float, ...]:
    """Compute quantiles of weighted values: linear between the middles of their weights.

    With equal weights this is Hazen's rule (``numpy.quantile(..., method="hazen")``).

    >>> weighted_quantile([1, 2, 3, 4], [1, 1, 1, 1], [0.5])
    (2.5,)
    >>> weighted_quantile([0.0, 4.0], [3, 1], [0.1, 0.5])
    (0.0, 1.0)
    """
    values, weight = np.asarray(values, np.float64), np.asarray(weight, np.float64)
    order = np.argsort(values, kind="stable")
    values, weight = values[order], weight[order]
    middle = (np.cumsum(weight) - weight / 2) / weight.sum()
    return tuple(float(item) for item in np.interp(q, middle, values))


def flag_shares(
    mask: NDArray[np.uint16], weight: NDArray[np.float64], whole_weight: float
) -> list[tuple[str, float]]:
    """Return each flag raised anywhere and its share of ``whole_weight``."""
    shares = []
    anywhere = int(np.bitwise_or.reduce(mask)) if len(mask) else 0
    for bit, name in enumerate(flags.NAMES):
        if anywhere >> bit & 1:
            raised = (mask >> bit & 1).astype(bool)
            shares.append((name, float(weight[raised].sum() / whole_weight)))
    return shares


def write_paddocks(
    path: str | Path,
    outlines: Outlines,
    paddocks: Sequence[Paddock],
    *,
    simulated: bool = False,
) -> None:
    """Write GeoJSON (outlines, their properties and ours) or CSV/Parquet, whole or not at all.

    The numbers are named after the paddocks' quantity; GeoJSON names quantity and unit too.
    ValueError where the paddocks are of two quantities.
    """
    path = Path(path)
    quantities = {paddock.quantity for paddock in paddocks} or {SOIL_MOISTURE}
    if len(quantities) > 1:
        raise ValueError(f"{path}: paddocks of two quantities do not go into one file")
    (quantity,) = quantities
    probed = any(paddock.probes for paddock in paddocks)
    left_out = {"cause", "quantity"}
    if not probed:
        left_out |= {"sm_correction", "probe_weight", "probes"}
    columns = {
        item.name: quantity.column_of(item.name)
        for item in fields(Paddock)
        if item.name not in left_out
    }
    records = [
        {column: getattr(paddock, key) for key, column in columns.items()} for paddock in paddocks
    ]
    if simulated:
        records = [{**record, "source": "simulated"} for record in records]
    if path.suffix.lower() not in (".geojson", ".json"):
        if path.suffix.lower() not in RESULTS:
            raise UsageError(f"{path}: paddocks are written as .geojson, .csv or .parquet")
        write_csv(path, {key: [record[key] for record in records] for key in records[0]})
        return
    own_ids = outlines.own_ids or outlines.ids
    place = {name: index for index, name in enumerate(outlines.ids)}
    features = (
        {
            "type": "Feature",
            "id": own_ids[place[record["id"]]],
            "properties": {
                **json_value(outlines.properties[place[record["id"]]]),
                **{key: json_value(value) for key, value in record.items()},
                "id": own_ids[place[record["id"]]],
                "quantity": quantity.name,
                "unit": quantity.unit,
            },
            "geometry": outlines.geometries[place[record["id"]]],
        }
        for record in records
    )
    content = {"type": "FeatureCollection", **crs_member(outlines.crs)}
    with write_whole(path) as file:
        # one feature at a time: json.dump encodes in Python, and a whole text takes memory
        file.write(json.dumps(content)[:-1] + ', "features": [')
        for at, feature in enumerate(features):
            file.write((", " if at else "") + json.dumps(feature, allow_nan=False))
        file.write("]}\n")


def paddock_summary(paddocks: Sequence[Paddock]) -> str:
    """Count lines with and without a number, and the reasons of the latter, as text."""
    counts = paddock_counts(paddocks)
    causes = ", ".join(f"{cause} {count}" for cause, count in counts["causes"].items())
    return (
        f"{counts['paddocks']} paddocks, {counts['with_number']} with a number"
        f"{'; ' if causes else ''}{causes}"
    )


def paddock_counts(paddocks: Sequence[Paddock]) -> dict[str, Any]:
    """Count lines (``paddocks``), those ``with_number``, and the ``causes`` of the others."""
    causes = Counter(paddock.cause for paddock in paddocks if paddock.cause)
    return {
        "paddocks": len(paddocks),
        "with_number": len(paddocks) - causes.total(),
        "causes": dict(sorted(causes.items())),
    }
