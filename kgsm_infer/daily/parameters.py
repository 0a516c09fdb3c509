"""Parameters of the daily model: the bucket, its residual, the errors of a pass.

``kgsm-train fit-daily`` writes them as JSON; ``oznet`` is shipped. All moisture is m3 m-3.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from ..base.errors import UsageError
from ..base.schema import Range, as_plain, parse_json, read, read_json

FORMAT = 1
#: Parameter sets in the package, by name.
SHIPPED = ("oznet",)
HEMISPHERES = ("south", "north")
_Share = Annotated[float, Range(0, 1)]
_Variance = Annotated[float, Range(above=0, high=10)]
_Decay = Annotated[float, Range(0, below=1)]


@dataclass(frozen=True)
class SoilStore:
    """One store of the bucket (:mod:`kgsm_infer.daily.bucket`).

    capacity_mm: D.  loss_per_day: L in the mean of the year.  range: moisture between empty and
    full.  power: p.  mean: the wetness w it has on average, 0 to 1.
    """

    capacity_mm: Annotated[float, Range(above=0, high=10_000)]
    loss_per_day: Annotated[float, Range(above=0, high=100)]
    range: Annotated[float, Range(-1, 1)]
    power: Annotated[float, Range(above=0, high=100)]
    mean: _Share

    def __post_init__(self) -> None:
        if self.capacity_mm <= 0 or self.loss_per_day <= 0 or self.power <= 0:
            raise ValueError("capacity_mm, loss_per_day and power must be above 0")
        if not 0 <= self.mean <= 1:
            raise ValueError(f"mean wetness {self.mean:g} must lie in 0 to 1")


@dataclass(frozen=True)
class Bucket:
    """Moisture of the rain model: dry + sum of range w^p over the stores.

    season: swing of the loss over the year, as exp(season cos).  peak_day: day of the year with
    the greatest loss.  variance: of the modelled moisture around its mean.
    """

    dry: Annotated[float, Range(-1, 1)]
    stores: tuple[SoilStore, ...]
    season: Annotated[float, Range(-10, 10)]
    peak_day: Annotated[float, Range(-366, 732)]
    variance: _Variance

    def __post_init__(self) -> None:
        if not self.stores or self.span <= 0 or self.variance <= 0:
            raise ValueError("bucket needs stores, a range and a variance above 0")

    @property
    def span(self) -> float:
        """Moisture between empty and full stores."""
        return float(sum(store.range for store in self.stores))

    @property
    def mean(self) -> float:
        """Moisture with every store at its mean wetness."""
        wet = (store.range * store.mean**store.power for store in self.stores)
        return float(self.dry + sum(wet))


@dataclass(frozen=True)
class Residual:
    """Variances and decays of what the bucket does not explain (:mod:`kgsm_infer.daily.filter`).

    mean: m, the moisture where the scale s is 1.  gamma: exponent of s.  common_var, common_phi:
    of c.  common_offset_var: of k.  offset_var: of o.  gain_var: of g.  paddock_var,
    paddock_phi: of a.  noise_var: of what lasts one day only.
    """

    mean: Annotated[float, Range(above=0, high=1)]
    gamma: Annotated[float, Range(above=0, high=10)]
    common_var: _Variance
    common_phi: _Decay
    common_offset_var: _Variance
    offset_var: _Variance
    gain_var: _Variance
    paddock_var: _Variance
    paddock_phi: _Decay
    noise_var: _Variance

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value <= 0:
                raise ValueError(f"{name} {value:g} must be above 0")
        if max(self.common_phi, self.paddock_phi) >= 1:
            raise ValueError("common_phi and paddock_phi must be below 1")


@dataclass(frozen=True)
class PassErrors:
    """Standard deviations of a pass's error, m3 m-3.

    point: of one paddock in one pass, its persistent part included.  date: shared by all
    paddocks of a pass.  persistent_share: of the point variance, the same in every pass.
    slope: of the value on the truth. A retrieval that is a conditional mean shrinks towards the
    mean of its training data; its slope is the square of its correlation with the truth.
    correlation: of the errors of a paddock's successive passes, without the persistent part.
    """

    point: float
    date: float
    persistent_share: float = 0.2
    slope: float = 1.0
    correlation: float = 0.0

    def __post_init__(self) -> None:
        if not (0 < self.point <= 1 and 0 < self.date <= 1):
            raise ValueError("errors of a pass must be above 0 and at most 1 m3/m3")
        if not 0 <= self.persistent_share < 1:
            raise ValueError("persistent_share must lie in 0 to 1")
        if not 0 < self.slope <= 1:
            raise ValueError("slope must be above 0 and at most 1")
        if not 0 <= self.correlation < 1:
            raise ValueError("correlation must lie in 0 to 1")

    @property
    def variance(self) -> float:
        """Variance of one value."""
        return self.point**2 + self.date**2


@dataclass(frozen=True)
class Parameters:
    """One parameter set.

    limits: least and greatest moisture a result may have.  band_scale: factor on the standard
    deviation that makes the 90 % band cover 90 %.  forecast_unknown: share of a rain forecast
    that counts as missing rain, for each day ahead.
    """

    name: str
    bucket: Bucket
    residual: Residual
    errors: PassErrors
    limits: tuple[float, float]
    band_scale: Annotated[float, Range(above=0, high=100)]
    hemisphere: str
    licence: str
    citation: str
    provenance: str
    simulated: bool = False
    forecast_unknown: _Share = 0.1
    scores: Mapping[str, Any] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise ValueError(f"format {self.format} is not supported; this version reads {FORMAT}")
        if self.hemisphere not in HEMISPHERES:
            raise ValueError(f"hemisphere {self.hemisphere!r} must be south or north")
        if self.band_scale <= 0 or not 0 <= self.limits[0] < self.limits[1] <= 1:
            raise ValueError("band_scale must be above 0, limits two numbers in 0 to 1")

    def to_json(self) -> str:
        """Return the set as JSON text."""
        return json.dumps(as_plain(self), indent=1, allow_nan=False) + "\n"


def read_parameters(source: str | Path) -> Parameters:
    """Read a parameter set: a name in SHIPPED, or a JSON file that ``fit-daily`` wrote.

    DataError where the file is not one, UsageError for an unknown name.

    >>> read_parameters("oznet").hemisphere
    'south'
    """
    if str(source) in SHIPPED:
        shipped = files(__package__).joinpath(f"{source}.json")
        return read(Parameters, parse_json(shipped.read_text("utf-8")), source)
    path = Path(source)
    if not path.exists():
        raise UsageError(f"{source}: no such parameter file; shipped: {', '.join(SHIPPED)}")
    return read(Parameters, read_json(path), source)
