"""One number per paddock: statistics of the pixels or points in it, and the files they go to.

Nothing here needs more than NumPy. :mod:`kgsm_infer.paddocks.of_table` takes rows of a table,
:mod:`kgsm_infer.paddocks.of_scene` pixels of a scene, weighted where partly covered.

What a paddock's line says:

    sm              weighted mean of the pixels with a number
    sm_median, sm_p10, sm_p90   weighted quantiles of them: how the paddock varies
    sm_lower, sm_upper          interval of ``sm``: the card's offsets for means of fields; where
                    it has none, those for one pixel. Errors of pixels in one paddock go
                    together (same pass, same crop, same model), so nothing is divided by the
                    root of their number. That errs to the wide side.
    valid_share     share of the paddock's area (or rows) that has a number
    pixels          how many pixels (sum of their shares inside), or rows
    flags           those on at least a tenth of what ``sm`` is the mean of; without
                    a number, the reasons on at least a tenth of the paddock
    reason          why there is no number, in words; empty where there is one
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..base import flags
from ..base.errors import UsageError
from ..base.files import whole
from ..scenes.outlines import LON_LAT, Outlines, Reason, json_value
from ..tables.table import write_csv

if TYPE_CHECKING:
    from ..model.card import Card
from ..model.interval import Width, ends, interval_of

#: A flag stands for a paddock from this share of its pixels on.
FLAG_SHARE = 0.1
#: Less of a paddock than this with a number, and the paddock has none.
MIN_VALID = 0.5


@dataclass(frozen=True)
class Paddock:
    """One paddock on one date; the module's text says what each number is. NaN: none.

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


def summarise(
    name: str,
    date: str,
    result: tuple[NDArray[np.float32], NDArray[np.uint16]],
    weight: ArrayLike,
    area: float,
    card: Card,
    min_valid: float = MIN_VALID,
) -> Paddock:
    """One paddock's line from its pixels.

    result: sm and flags, (N,).  weight: (N,) share of each pixel inside, 0 to 1.
    area: of the whole paddock, in pixels; what lies off the scene counts as without a number.
    """
    sm, mask = result
    share = np.asarray(weight, np.float64)
    there = np.isfinite(sm)
    valid = float(share[there].sum() / area) if area > 0 else 0.0
    valid = round(min(valid, 1.0), 6)
    pixels = round(float(share.sum()), 3)
    if not there.any() or valid < min_valid:
        gaps = flag_shares(mask[~there], share[~there], area)
        off = max(0.0, 1 - float(share.sum()) / area)
        told = [(what, part) for what, part in (*gaps, ("outside the scene", off)) if part >= 0.005]
        cause = told[0][0] if told else "no reason given"
        why = ", ".join(f"{what} {part:.0%}" for what, part in told) or cause
        has = "nothing" if not there.any() else f"only {valid:.0%}"
        return without_number(
            name,
            date,
            Reason(cause, f"{has} of it has a number ({why})"),
            valid,
            pixels,
            ";".join(flag for flag, part in gaps if part >= FLAG_SHARE),
        )
    values = sm[there].astype(np.float64)
    inside = share[there]
    mean = float(np.average(values, weights=inside))
    low, high = card.limits.sm
    lower = upper = math.nan
    if card.interval is not None:
        interval = interval_of(card.interval, card.names("dynamic"))
        # a card of single points knows nothing of means: their offsets are wide enough
        width = interval.field or Width(interval.point.lower, interval.point.upper)
        lower, upper = (float(end) for end in ends(width, mean, {}, (low, high)))
    middle, p10, p90 = weighted_quantile(values, inside, [0.5, 0.1, 0.9])
    doubts = flag_shares(mask[there], inside, float(inside.sum()))
    return Paddock(
        id=name,
        date=date,
        sm=round(mean, 6),
        sm_median=round(middle, 6),
        sm_p10=round(p10, 6),
        sm_p90=round(p90, 6),
        sm_lower=round(lower, 6),
        sm_upper=round(upper, 6),
        valid_share=valid,
        pixels=pixels,
        flags=";".join(flag for flag, part in doubts if part >= FLAG_SHARE),
        reason="",
    )


def without_number(
    name: str, date: str, reason: Reason, valid: float = 0.0, pixels: float = 0.0, mask: str = ""
) -> Paddock:
    """A paddock that has no number, and why."""
    nan = math.nan
    return Paddock(
        name, date, nan, nan, nan, nan, nan, nan, valid, pixels, mask, reason.text, reason.cause
    )


def weighted_quantile(
    values: ArrayLike, weight: ArrayLike, q: Sequence[float]
) -> tuple[float, ...]:
    """Quantiles of weighted values: linear between the middles of their weights.

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
    """Each flag raised anywhere and the share of ``whole_weight`` it is raised on."""
    shares = []
    for bit, name in enumerate(flags.NAMES):
        raised = (mask >> bit & 1).astype(bool)
        if raised.any():
            shares.append((name, float(weight[raised].sum() / whole_weight)))
    return shares


def write_paddocks(
    path: str | Path,
    outlines: Outlines,
    paddocks: Sequence[Paddock],
    *,
    simulated: bool = False,
    quantity: str = "sm",
) -> None:
    """GeoJSON (outlines and their properties, ours added) or CSV/Parquet, whole or not at all.

    quantity: of the model's card; the numbers are named after it.
    """
    path = Path(path)
    probed = any(paddock.probes for paddock in paddocks)
    left_out = {"cause"} if probed else {"cause", "sm_correction", "probe_weight", "probes"}
    records = [
        {
            quantity + key.removeprefix("sm") if key.startswith("sm") else key: value
            for key, value in asdict(paddock).items()
            if key not in left_out
        }
        for paddock in paddocks
    ]
    if simulated:
        records = [{**record, "source": "simulated"} for record in records]
    if path.suffix.lower() not in (".geojson", ".json"):
        if path.suffix.lower() not in (".csv", ".parquet", ".pq"):
            raise UsageError(f"{path}: paddocks are written as .geojson, .csv or .parquet")
        write_csv(path, {key: [record[key] for record in records] for key in records[0]})
        return
    own_ids = outlines.own_ids or outlines.ids
    place = {name: index for index, name in enumerate(outlines.ids)}
    features = [
        {
            "type": "Feature",
            "id": own_ids[place[record["id"]]],
            "properties": {
                **json_value(outlines.properties[place[record["id"]]]),
                **{key: json_value(value) for key, value in record.items()},
                "id": own_ids[place[record["id"]]],
            },
            "geometry": outlines.geometries[place[record["id"]]],
        }
        for record in records
    ]
    content: dict[str, Any] = {"type": "FeatureCollection"}
    if outlines.crs != LON_LAT:  # RFC 7946 has lon, lat only; this older member says otherwise
        name = outlines.crs.replace("EPSG:", "urn:ogc:def:crs:EPSG::")
        content["crs"] = {"type": "name", "properties": {"name": name}}
    with whole(path) as file:
        json.dump({**content, "features": features}, file, allow_nan=False)
        file.write("\n")


def paddock_summary(paddocks: Sequence[Paddock]) -> str:
    """Lines with and without a number, and the reasons of those without."""
    causes = Counter(paddock.cause for paddock in paddocks if paddock.cause)
    told = ", ".join(f"{cause} {count}" for cause, count in sorted(causes.items()))
    return (
        f"{len(paddocks)} paddocks, {len(paddocks) - causes.total()} with a number"
        f"{'; ' if told else ''}{told}"
    )
