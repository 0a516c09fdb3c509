"""Data contract: names, units and ranges of columns, and their computation (design §3).

Tables, layers of a scene and variables of an xarray Dataset share these names and units. Values
are float64 arrays of any shape.

    vh_db, vv_db        sigma0, dB: as given, from linear power, or from gamma0 with the angle
    ndvi                as given, or from red and nir
    doy_sin, doy_cos    from the date
    frozen or snow      from temp_c and snow_cover
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: The four ways to give one polarisation's backscatter; all become sigma0 in dB.
BACKSCATTER_FORMS = ("db", "linear", "gamma0_db", "gamma0_linear")
POLARISATIONS = ("vh", "vv")

#: Optional columns that tell frozen soil or snow.
FROZEN_BY = ("temp_c", "snow_cover")
#: Vegetation, which a label-free index reads for the flag of dense vegetation only.
VEGETATION = ("ndvi", "vwc_kg_m2")
DAYS_PER_YEAR = 365.2425

#: Common nodata values; anything beyond 1e15 (1e20, 3.4e38) is nodata too.
FILL_VALUES = (
    *(-99.0, -999.0, -9999.0, -99999.0, 9999.0, 99999.0),
    *(-32768.0, -32767.0, 32767.0, 65535.0, -2147483648.0, 2147483647.0),
)
FILL_CAUSE = "nodata value? leave the cell empty"


def is_fill(values: ArrayLike) -> NDArray[np.bool_]:
    """Find nodata values, of any unit.

    >>> is_fill([-9999.0, -3.4e38, 12.0, np.nan]).tolist()
    [True, True, False, False]
    """
    values = np.asarray(values, np.float64)
    with np.errstate(invalid="ignore"):
        return np.isin(values, FILL_VALUES) | (abs(values) >= 1e15)


@dataclass(frozen=True)
class Rule:
    """Valid closed range of a column, its description, and the likely cause of a value outside.

    below: the upper end itself is invalid (an unmasked fill value leaves 0 dB).
    outlier: closed range that physics allows for single measurements, such as a building at
        +0.8 dB; None where a value outside low .. high can only be a wrong unit or a fill value.
    """

    low: float
    high: float
    what: str
    cause: Callable[[float], str]
    below: bool = False
    outlier: tuple[float, float] | None = None

    def is_outlier(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Find single physical outliers: outside the range, of the right unit, no fill value.

        >>> RULES["vh_db"].is_outlier([0.8, -150.0, -9999.0, 0.0, -15.0]).tolist()
        [True, False, False, False, False]
        """
        values = np.asarray(values, np.float64)
        if self.outlier is None:
            return np.zeros(values.shape, bool)
        low, high = self.outlier
        at_end = (values == self.high) & self.below
        inside = (values >= low) & (values <= high)
        return np.asarray(self.outside(values) & inside & ~is_fill(values) & ~at_end, np.bool_)

    def outside(self, values: ArrayLike) -> NDArray[np.bool_]:
        """Find values outside the range; NaN is missing, not outside."""
        values = np.asarray(values, np.float64)
        with np.errstate(invalid="ignore"):
            above = values >= self.high if self.below else values > self.high
            return (values < self.low) | above

    def why(self, value: float) -> str:
        """Return the likely cause of a value outside."""
        return FILL_CAUSE if is_fill(value) else self.cause(value)


def _angle_cause(value: float) -> str:
    if 0 < value < 1.6:
        return "radians? the column is in degrees"
    return FILL_CAUSE if value < 0 else "is it the incidence angle?"


def _ndvi_cause(value: float) -> str:
    if abs(value) <= 100:
        return "in percent? divide the column by 100"
    return "scaled by 10,000? divide the column by 10,000"


def _sm_cause(value: float) -> str:
    return FILL_CAUSE if value < 0 else "in percent? divide the column by 100"


def _db_cause(value: float) -> str:
    if value == 0:
        return "an unmasked fill value? leave the cell empty"
    if value > 0:
        return "linear power, or a lost minus sign? name the column after its unit"
    if value < -1e4:
        return FILL_CAUSE
    factor = 10 if value > -500 else 100
    return f"scaled by {factor}? divide the column by {factor}"


def _linear_cause(value: float) -> str:
    return (
        "negative power: in dB?" if value < 0 else "too bright for linear power: a scaled integer?"
    )


# Below -60 dB nothing comes back that a radar could tell from its own noise (-22 to -30 dB).
# A building or a reflector reaches +20 dB. Noise removal can leave a small negative power.
_DB = Rule(-60.0, 0.0, "a backscatter in dB (-60 to below 0)", _db_cause, True, (-60.0, 20.0))
_LINEAR = Rule(0.0, 1.0, "a linear backscatter (0 to below 1)", _linear_cause, True, (-0.01, 100.0))
RULES: Mapping[str, Rule] = {
    **{f"{pol}_{form}": _DB for pol in POLARISATIONS for form in ("db", "gamma0_db")},
    **{f"{pol}_{form}": _LINEAR for pol in POLARISATIONS for form in ("linear", "gamma0_linear")},
    "angle_deg": Rule(
        1.6, 89.9, "an incidence angle in degrees (1.6 to 89.9)", _angle_cause, outlier=(1.6, 180.0)
    ),
    "ndvi": Rule(-1.0, 1.0, "an NDVI (-1 to 1)", _ndvi_cause, outlier=(-2.0, 2.0)),
    "vwc_kg_m2": Rule(
        0.0, 50.0, "a vegetation water content in kg/m2 (0 to 50)", lambda _: "in g/m2 or percent?"
    ),
    **{f"{pol}_{who}_db": _DB for pol in POLARISATIONS for who in ("field", "scene")},
    **{
        f"{pol}_over_{what}_db": Rule(
            -60.0, 60.0, "a difference in dB (-60 to 60)", lambda _: FILL_CAUSE
        )
        for pol in POLARISATIONS
        for what in ("usual", "driest")
    },
    **{
        f"{pol}_anomaly{scene}": Rule(
            -100.0, 100.0, "an anomaly in swings of the place (-100 to 100)", lambda _: "nodata?"
        )
        for pol in POLARISATIONS
        for scene in ("", "_scene", "_fields")
    },
    **{
        f"{pol}_between{scene}": Rule(
            -1.0,
            2.0,
            "a place between driest, 0, and wettest, 1 (-1 to 2)",
            lambda _: "in percent?",
        )
        for pol in POLARISATIONS
        for scene in ("", "_scene")
    },
    "ndvi_over_scene": Rule(-2.0, 2.0, "a difference of NDVI (-2 to 2)", _ndvi_cause),
    **{
        f"ndvi_{who}": Rule(-1.0, 1.0, "an NDVI (-1 to 1)", _ndvi_cause)
        for who in ("field", "scene")
    },
    "sm": Rule(0.0, 1.0, "a soil moisture in m3/m3 (0 to 1)", _sm_cause),
    "lat": Rule(-90.0, 90.0, "a latitude", lambda _: "are lat and lon swapped, or projected?"),
    "lon": Rule(-180.0, 360.0, "a longitude", lambda _: "is it projected?"),
    "temp_c": Rule(-90.0, 80.0, "a temperature in degrees Celsius", lambda _: "in kelvin?"),
    "snow_cover": Rule(0.0, 1.0, "a snow cover share (0 to 1)", lambda _: "in percent?"),
}


def _reflectance_cause(value: float) -> str:
    if 1.6 < value <= 100:
        return "in percent? state the layer's scale, 0.01"
    return "numbers as stored? state the layer's scale (1e-4) and offset (-0.1 from baseline 04.00)"


#: Rules of layers: the columns of a table, and the bands of NDVI.
LAYER_RULES: Mapping[str, Rule] = {
    **RULES,
    **{
        band: Rule(-0.1, 1.6, "a reflectance (0 to 1)", _reflectance_cause)
        for band in ("red", "nir")
    },
}

#: Other common names of the contract's columns; messages suggest them.
OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "site": ("station", "sitename", "id", "point", "location"),
    "date": ("time", "datetime", "timestamp", "day"),
    "vh_db": ("vh", "sigma0_vh", "sigma0_vh_db"),
    "vv_db": ("vv", "sigma0_vv", "sigma0_vv_db"),
    "angle_deg": ("angle", "incidence_angle", "incidence", "lia", "theta"),
    "sm": ("soil_moisture", "ssm", "vwc", "sm_obs", "insitu_sm", "moisture"),
    "vwc_kg_m2": ("vwc",),
}


def possible(column: str, values: ArrayLike) -> NDArray[np.float64]:
    """Return values of a column, NaN where they cannot be: what goes into a mean or into a past.

    >>> possible("vh_db", [-15.0, 30.0, -9999.0, -np.inf]).tolist()
    [-15.0, nan, nan, nan]
    """
    values, rule = np.asarray(values, np.float64), RULES.get(column)
    known = np.isfinite(values)
    return np.where(known if rule is None else known & ~rule.outside(values), values, np.nan)


def first_possible(column: str, values: ArrayLike, later: ArrayLike) -> NDArray[Any]:
    """Merge two frames of a pass: the first value that can be, else the first that is not missing.

    >>> first_possible("vh_db", [-15.0, 0.0, np.nan, 3.0], [-16.0, -17.0, 3.0, 0.0]).tolist()
    [-15.0, -17.0, 3.0, 3.0]
    """
    values, later = np.asarray(values), np.asarray(later)
    known, other = (np.isfinite(possible(column, part)) for part in (values, later))
    return np.where(known | (~np.isnan(values) & ~other), values, later)


def range_of(column: str) -> tuple[float, float] | None:
    """Return the closed range of a column of the contract; None for another column.

    >>> range_of("ndvi"), range_of("doy_sin"), range_of("clay")
    ((-1.0, 1.0), (-1.0, 1.0), None)
    """
    if column in FROM_DATE:
        return -1.0, 1.0
    rule = RULES.get(column)
    return None if rule is None else (rule.low, rule.high)


def find_forms(polarisation: str, names: Container[str]) -> list[str]:
    """Find the forms of a polarisation's backscatter among ``names``.

    >>> find_forms("vh", ["site", "vh_linear"])
    ['vh_linear']
    """
    return [name for form in BACKSCATTER_FORMS if (name := f"{polarisation}_{form}") in names]


def is_backscatter(name: str) -> bool:
    """Return True for a backscatter column, in any form."""
    polarisation, _, form = name.partition("_")
    return polarisation in POLARISATIONS and form in BACKSCATTER_FORMS


def rename_columns(
    columns: Mapping[str, Any], names: Mapping[str, str], known: Iterable[str]
) -> Mapping[str, Any]:
    """Return columns under the names of a format.

    names: name of the format -> name in the file. A column that has its name already keeps it.
    known: names of the format.

    >>> rename_columns({"Datum": 0, "mm": 1}, {"date": "Datum", "rain_mm": "mm"}, ["date"])
    {'date': 0, 'mm': 1}
    """
    other = {names[name]: name for name in known if name in names and name not in columns}
    return {other.get(name, name): values for name, values in columns.items()}


def origins(column: str, names: Container[str]) -> tuple[str, ...]:
    """List the columns among ``names`` that ``column`` is read or computed from; empty without.

    Columns from the date or from other rows (:mod:`kgsm_infer.context.definitions`) are not
    considered.

    >>> origins("vh_db", ["vh_gamma0_linear", "angle_deg"])
    ('vh_gamma0_linear', 'angle_deg')
    >>> origins("ndvi", ["red", "nir"]), origins("ndvi", ["red"])
    (('red', 'nir'), ())
    """
    polarisation = column.removesuffix("_db")
    if column.endswith("_db") and polarisation in POLARISATIONS:
        for form in find_forms(polarisation, names):
            if "gamma0" not in form:
                return (form,)
            if "angle_deg" in names:
                return (form, "angle_deg")
        return ()
    if column in names:
        return (column,)
    return ("red", "nir") if column == "ndvi" and "red" in names and "nir" in names else ()


def make(column: str, values: Mapping[str, ArrayLike]) -> NDArray[np.float64]:
    """Compute a column from the ``values`` that :func:`origins` names for it, in its order.

    >>> make("ndvi", {"red": np.asarray([0.1, 0.0]), "nir": np.asarray([0.3, 0.0])}).round(6)
    array([0.5, nan])
    """
    if column == "ndvi" and "ndvi" not in values:
        return ndvi_of(values["red"], values["nir"])
    given = next(iter(values))
    if is_backscatter(given):
        return sigma0_db(given, values[given], values.get("angle_deg"))
    return np.asarray(values[given], np.float64)


def sigma0_db(
    form: str, values: ArrayLike, angle_deg: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Return sigma0 in dB of a backscatter whose name ends in one of BACKSCATTER_FORMS.

    sigma0 = gamma0 cos(theta). Nothing is -inf dB, a negative power NaN.

    >>> sigma0_db("vh_gamma0_linear", np.asarray([0.02]), 60.0).round(6).tolist()
    [-20.0]
    """
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        db = 10 * np.log10(values) if form.endswith("linear") else values
        if "gamma0" not in form:
            return db
        if angle_deg is None:
            raise ValueError(f"{form} is gamma0; sigma0 = gamma0 cos(theta) needs angle_deg")
        cos_theta = np.cos(np.deg2rad(np.asarray(angle_deg, np.float64)))
        return np.asarray(db + 10 * np.log10(cos_theta), np.float64)


def ndvi_of(red: ArrayLike, nir: ArrayLike) -> NDArray[np.float64]:
    """Return (NIR - red) / (NIR + red) of two reflectances; NaN where both are dark."""
    red, nir = np.asarray(red, np.float64), np.asarray(nir, np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        total = nir + red
        return np.asarray(np.where(total > 0, (nir - red) / total, np.nan), np.float64)


def frozen_or_snow(column: str, values: ArrayLike) -> NDArray[np.bool_]:
    """Return true where one of FROZEN_BY says so: ``temp_c`` (soil or air) at or below 0 degrees,
    or any ``snow_cover``.

    Radar cannot tell frozen soil from dry soil, so nothing is inferred where both columns
    are absent.
    """
    values = np.asarray(values)
    return values <= 0 if column == "temp_c" else values > 0


def frost_of(
    columns: Mapping[str, ArrayLike], rows: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return (R,) where any of FROZEN_BY among ``columns`` says frozen or snow, and where it is not
    known: one of them is there and has no value, and no other says frozen.

    >>> [part.tolist() for part in frost_of({"temp_c": [-1.0, 9.0, np.nan]}, 3)]
    [[True, False, False], [False, False, True]]
    """
    frozen, unknown = np.zeros(rows, bool), np.zeros(rows, bool)
    for name in FROZEN_BY:
        if name in columns:
            frozen |= frozen_or_snow(name, columns[name])
            unknown |= np.isnan(np.asarray(columns[name], np.float64))
    return frozen, unknown & ~frozen


def day_of_year_sin(date: ArrayLike) -> NDArray[np.float64]:
    """Return sin of the time of year, 0 on 1 January; date: datetime64."""
    return np.sin(_year_angle(date))


def day_of_year_cos(date: ArrayLike) -> NDArray[np.float64]:
    """Return cos of the time of year, 1 on 1 January; date: datetime64."""
    return np.cos(_year_angle(date))


#: Features made from the date where the table has no such column.
FROM_DATE: Mapping[str, Callable[[ArrayLike], NDArray[np.float64]]] = {
    "doy_sin": day_of_year_sin,
    "doy_cos": day_of_year_cos,
}


def _year_angle(date: ArrayLike) -> NDArray[np.float64]:
    date = np.asarray(date, "datetime64[s]")
    day = (date - date.astype("datetime64[Y]")) / np.timedelta64(86400, "s")
    return np.asarray(2 * np.pi * day / DAYS_PER_YEAR, np.float64)
