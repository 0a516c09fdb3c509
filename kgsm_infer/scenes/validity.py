"""Decide which stored pixels are measurements: one rule for every file and reading path.

A pixel is missing where any of these holds, in stored numbers, before scaling, merging and
resampling:

1. it is NaN, or a fill value: the layer's ``nodata`` if stated, else what the file declares for
   the band (GDAL nodata, ``_FillValue``, ``missing_value``);
2. it lies outside the file's ``valid_range`` (``valid_min``, ``valid_max``);
3. the file's mask or alpha band says so;
4. it is a power or an amplitude of exactly 0, which no radar measures: a frame is padded with it;
5. it is averaged onto another grid and impossible for its layer, such as an NDVI of 3.2767: an
   undeclared fill value must not enter the mean. On its own grid it is kept, and flagged later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.text_column import shorten

#: Largest size of a scale or offset; beyond it decoded numbers are infinite or lost.
MOST_SCALE = 1e30
#: Relative rounding of a scale and an offset that a file holds as float32.
_SCALE_ROUNDING = 1e-6
#: One date of one column on a window, (height, width); missing is NaN.
Plane = NDArray[np.float64]


@dataclass(frozen=True)
class Validity:
    """The rule of a layer, in stored numbers.

    nodata: replaces the fill values and the valid range that the file declares; None keeps them.
    no_power: the stored number that decodes to a power or amplitude of 0, to within the rounding of
    scale and offset (:func:`stored_zero`); None for other layers.
    low, high: numbers beyond them are impossible and have no weight in an average; None keeps them,
    to be flagged later.
    """

    nodata: float | None = None
    no_power: float | None = None
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Declared:
    """Validity of a band as its file declares it, in stored numbers of ``dtype``."""

    fills: tuple[float, ...] = ()
    low: float | None = None
    high: float | None = None


def masked(
    stored: NDArray[Any],
    rule: Validity,
    declared: Declared = Declared(),
    valid: NDArray[np.bool_] | None = None,
) -> Plane:
    """Return stored numbers as float64, NaN where they are not measurements.

    stored: (height, width) of the file's own type.  valid: the file's mask or alpha, where it has
    one.

    >>> masked(np.asarray([[0, 5, 255]], np.uint8), Validity(), Declared((255.0,))).tolist()
    [[0.0, 5.0, nan]]
    >>> masked(np.asarray([[0.0, 5.0]]), Validity(no_power=0.0)).tolist()
    [[nan, 5.0]]
    """
    values = np.array(stored, np.float64)
    missing = np.zeros(values.shape, bool) if valid is None else ~valid
    fills: Sequence[float] = declared.fills if rule.nodata is None else (rule.nodata,)
    for fill in fills:
        # a float32 file holds the fill value as float32 rounds it
        as_stored = float(np.float32(fill)) if stored.dtype == np.float32 else fill
        missing |= values == as_stored
    if rule.nodata is None:
        with np.errstate(invalid="ignore"):
            if declared.low is not None:
                missing |= values < declared.low
            if declared.high is not None:
                missing |= values > declared.high
    with np.errstate(invalid="ignore"):
        if rule.no_power is not None:
            missing |= np.abs(values - rule.no_power) <= _SCALE_ROUNDING * abs(rule.no_power)
        if rule.low is not None:
            missing |= values < rule.low
        if rule.high is not None:
            missing |= values > rule.high
    values[missing] = np.nan
    return values


def stored_zero(scale: float, offset: float) -> float:
    """Return the stored number that decodes to 0, as scale and offset round it.

    >>> stored_zero(1e-4, -0.0029)
    28.999999999999996
    """
    return -offset / scale


def check_scaling(scale: float, offset: float, path: str) -> tuple[float, float]:
    """Return a file's scale and offset; DataError where they lose its numbers."""
    if not (1 / MOST_SCALE <= abs(scale) <= MOST_SCALE and abs(offset) <= MOST_SCALE):
        raise DataError(
            f"{path}: its scale is {scale:g} and its offset {offset:g}, so its numbers are lost; "
            "is its header damaged?"
        )
    return scale, offset


def read_scaling(attributes: Mapping[str, Any], source: str) -> tuple[float, float]:
    """Return scale_factor and add_offset. DataError where one is not a finite number."""
    found = {"scale_factor": 1.0, "add_offset": 0.0}
    for key in [key for key in found if key in attributes]:
        value = np.ravel(attributes[key])
        if len(value) != 1 or value.dtype.kind not in "iuf" or not np.isfinite(value[0]):
            shown = shorten(attributes[key])
            raise DataError(f"{source}: {key} is {shown!r}; expected a finite number")
        found[key] = float(value[0])
    return check_scaling(found["scale_factor"], found["add_offset"], source)


def check_attributes(attributes: Mapping[str, Any], source: str) -> None:
    """Raise DataError where the scaling or a valid range is not made of numbers."""
    read_scaling(attributes, source)
    for key, count in (("valid_range", 2), ("valid_min", 1), ("valid_max", 1)):
        if key not in attributes:
            continue
        found = np.ravel(attributes[key])
        if found.dtype.kind not in "iuf" or len(found) != count:
            shown = shorten(attributes[key])
            raise DataError(f"{source}: {key} is {shown!r}; expected {count} numbers")


def cf_declared(
    attributes: Mapping[str, Any], stored: np.dtype[Any], scale: float, offset: float
) -> Declared:
    """Read the CF attributes of a variable: fill values and valid range, in stored numbers.

    stored: type of the numbers as they are decoded, unsigned where ``_Unsigned`` says so; fill
    values of a signed type are reinterpreted with the data. A valid range belongs to packed
    numbers unless it is written as floats that decoded values can reach (CF 1.11, section 2.5.1);
    then ``scale`` and ``offset`` turn it into stored numbers.
    """
    fills = [
        _as_stored(fill, stored)
        for key in ("_FillValue", "missing_value")
        for fill in np.ravel(attributes.get(key, []))
        if np.asarray(fill).dtype.kind in "iuf"
    ]
    low, high = [*np.ravel(attributes.get("valid_range", (None, None))), None, None][:2]
    low, high = attributes.get("valid_min", low), attributes.get("valid_max", high)
    ends = [None if end is None else np.ravel(end)[0] for end in (low, high)]
    if not _are_physical([end for end in ends if end is not None], stored, scale, offset):
        return Declared(tuple(fills), *(None if e is None else _as_stored(e, stored) for e in ends))
    unpacked = [None if end is None else (float(end) - offset) / scale for end in ends]
    if scale < 0:
        unpacked.reverse()
    # half a step of tolerance: the bounds were rounded to the physical unit
    least, most = (
        None if end is None else end + half for end, half in zip(unpacked, (-0.5, 0.5), strict=True)
    )
    return Declared(tuple(fills), least, most)


#: Attributes of packed numbers, which xarray moves to a variable's encoding when it decodes them.
PACKING = ("scale_factor", "add_offset", "_Unsigned")
_VALIDITY = ("_FillValue", "missing_value", "valid_range", "valid_min", "valid_max")


def valid_range_rule(
    attributes: Mapping[str, Any], encoding: Mapping[str, Any], dtype: np.dtype[Any], source: str
) -> Callable[[NDArray[Any]], Plane] | None:
    """Return what masks the decoded numbers of an xarray variable; None where nothing is declared.

    xarray decodes fill values and scaling, and leaves the valid range, in packed units, to the
    caller. encoding: of the variable.  dtype: of its numbers.  source: for messages. DataError
    where the scaling has lost the numbers, or the valid range is not made of numbers.
    """
    scale, offset = read_scaling(encoding, source)
    stated = {key: attributes[key] for key in _VALIDITY if key in attributes}
    if dtype.kind == "f" and "dtype" not in encoding:  # computed: integers were of packed numbers
        stated = {key: of for key, of in stated.items() if np.asarray(of).dtype.kind == "f"}
    if not stated:
        return None
    check_attributes(stated, source)
    stored = np.dtype(encoding.get("dtype", dtype))
    if stored.kind == "i" and str(encoding.get("_Unsigned", "")).lower() == "true":
        stored = np.dtype(f"u{stored.itemsize}")
    declared = cf_declared(stated, stored, scale, offset)

    def rule(values: NDArray[Any]) -> Plane:
        packed = (np.asarray(values, np.float64) - offset) / scale
        packed = np.rint(packed) if stored.kind in "iu" else packed.astype(stored)
        missing = np.isnan(masked(packed, Validity(), declared))
        return np.where(missing, np.nan, np.asarray(values, np.float64))

    return rule


#: Numbers that the NetCDF library writes where nothing was written (netcdf.h, NC_FILL_*).
_UNWRITTEN = {
    "i2": -32767,
    "u2": 65535,
    "i4": -2147483647,
    "u4": 4294967295,
    "i8": -9223372036854775806,
    "u8": 18446744073709551614,
    "f4": 9.969209968386869e36,
    "f8": 9.969209968386869e36,
}


def unwritten(stored: np.dtype[Any]) -> tuple[float, ...]:
    """Return the fill value of NetCDF variables that declare none; () for single bytes.

    Every value of a byte may be data (NetCDF User's Guide, "Fill values").

    >>> unwritten(np.dtype("int16")), unwritten(np.dtype("int8"))
    ((-32767.0,), ())
    """
    found = _UNWRITTEN.get(f"{stored.kind}{stored.itemsize}")
    return () if found is None else (float(found),)


def _are_physical(ends: Sequence[Any], stored: np.dtype[Any], scale: float, offset: float) -> bool:
    """Return true for float bounds of a packed integer variable that can be decoded values.

    Floats no decoded value can reach are packed numbers, which some tools write as floats.
    """
    if stored.kind not in "iu" or (scale, offset) == (1.0, 0.0) or not ends:
        return False
    info = np.iinfo(stored)
    decoded = sorted((info.min * scale + offset, info.max * scale + offset))
    return all(
        np.asarray(end).dtype.kind == "f" and decoded[0] - 1e-6 <= end <= decoded[1] + 1e-6
        for end in ends
    )


def _as_stored(value: Any, stored: np.dtype[Any]) -> float:
    """Convert a number of an attribute to the type of the data: -1 of signed bytes is 255 unsigned.

    The attributes of Zarr 3 are JSON, where integers have no size.

    >>> _as_stored(np.int8(-1), np.dtype("u1")), _as_stored(-1, np.dtype("u1"))
    (255.0, 255.0)
    """
    number = np.asarray(value)
    signed = np.dtype(f"i{stored.itemsize}") if stored.kind == "u" else stored
    if stored.kind == "u" and number.dtype.kind == "i" and np.iinfo(signed).min <= number < 0:
        return float(number.astype(signed).view(stored))
    return float(number)
