"""Relative orbit of an acquisition, from a product's name or from the variables of a cube.

Two relative orbits see a place at two incidence angles, so their backscatter is not compared: a
place has one past for each orbit, in scenes as in tables (column ``orbit``).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..base.errors import DataError
from ..tables.columns import is_fill
from ..tables.keys import canonical_orbit
from ..tables.parsing import MISSING
from ..tables.text_column import shorten

#: Absolute orbit of which a mission's relative orbits count from 1, and the day until which they
#: do; '' without an end. Later missions and periods are not computed.
_SHIFT = {"S1A": (73, ""), "S1B": (27, ""), "S1C": (172, "20260601")}
_REPEAT = 175

#: ``S1B_20211223T051122_022D_vv_sigma0.tif`` of ``kgsm-infer prepare``.
_PREPARED = re.compile(r"S1[A-D]_\d{8}T\d{6}_(\d{3}[AD])(?=[_.])")
#: ``OPERA_L2_RTC-S1_T069-147170-IW1_20220610T...``: T is the track.
_OPERA = re.compile(r"OPERA_L2_RTC-S1_T(\d{3})-")
#: ``S1A_IW_GRDH_1SDV_20220610T004812_20220610T004837_043598_05349E_1E43``: absolute orbit.
_SAFE = re.compile(
    r"(S1[A-D])_[A-Z0-9]{2}_[A-Z]{3}[A-Z_]_\d[A-Z]{3}_(\d{8})T\d{6}_\d{8}T\d{6}_(\d{6})(?=[_.]|$)"
)

#: Variables of a Dataset or cube, one value for each time: the orbit itself, or its number, which
#: the direction of flight may be joined to.
_WHOLE = ("orbit",)
_NUMBER = ("relative_orbit", "sat:relative_orbit")
_DIRECTION = ("orbit_pass", "orbit_state", "sat:orbit_state")

NO_ORBITS = (
    "passes at several times of day and no orbits, so all passes of a place are compared as one "
    "orbit"
)
#: Passes of one relative orbit begin at one time of day, within this many seconds.
SAME_CLOCK_S = 240


def relative_orbit(mission: str, absolute: int, day: str = "") -> int | None:
    """Compute the relative orbit, 1 to 175; None for a mission or period without a known shift.

    Relative = (absolute - shift) mod 175 + 1. day: YYYYMMDD of the acquisition, "" if unknown.

    >>> relative_orbit("S1A", 43598), relative_orbit("S1D", 100)
    (126, None)
    """
    shift, until = _SHIFT.get(mission, (None, ""))
    if shift is None or (until and not "" < day < until):
        return None
    return (absolute - shift) % _REPEAT + 1


def orbit_in(name: str) -> str:
    """Return the orbit that a product's path names, in canonical form; "" where it names none.

    >>> orbit_in("sentinel/S1B_20211223T051122_022D_vv_sigma0.tif")
    '22D'
    >>> orbit_in("S1A_IW_GRDH_1SDV_20220610T004812_20220610T004837_043598_05349E_rtc/vh.tif")
    '126'
    """
    for part in reversed(PurePath(name).parts):
        for pattern in (_PREPARED, _OPERA):
            if found := pattern.search(part):
                return canonical_orbit(found[1])
        if found := _SAFE.search(part):
            number = relative_orbit(found[1], int(found[3]), found[2])
            return "" if number is None else str(number)
    return ""


def read_orbits(variables: Any, time: Any, count: int, source: str) -> tuple[str, ...]:
    """Return the orbit of each time of a Dataset; () where it has no variable for it.

    variables: name -> ``xarray.DataArray``, such as the ``variables`` of a Dataset.
    time: the dimension of its ``count`` times.  source: for messages.
    DataError where the variable is not one value for each time.
    """
    whole = next((name for name in _WHOLE if name in variables), None)
    number = next((name for name in _NUMBER if name in variables), None)
    direction = next((name for name in _DIRECTION if name in variables), None)
    names = [whole] if whole else [direction, number] if number else []
    columns = [
        _texts(variables[name], name, time, count, source) for name in names if name is not None
    ]
    return tuple(
        canonical_orbit("-".join(cell for cell in row if cell))
        for row in zip(*columns, strict=True)
    )


def _texts(variable: Any, name: str, time: Any, count: int, source: str) -> list[str]:
    """Return one text for each time; "" where missing or a fill value, declared or usual."""
    if tuple(variable.dims) not in ((), (time,)):
        dims = shorten(", ".join(map(str, variable.dims)))
        raise DataError(f"{source}: {name} has dimensions {dims}; give one orbit for each time")
    values = np.broadcast_to(np.asarray(variable.values), (count,))
    fills = [np.ravel(variable.attrs.get(key, ())) for key in ("_FillValue", "missing_value")]
    absent = np.isin(values, [fill for part in fills for fill in part.tolist()])
    if values.dtype.kind in "iuf":
        absent = absent | is_fill(values)
    cells = ["" if gone else cell for cell, gone in zip(values.tolist(), absent, strict=True)]
    texts = [
        cell.decode(errors="replace") if isinstance(cell, bytes) else str(cell) for cell in cells
    ]
    missing = {word.lower() for word in MISSING}
    return ["" if text.strip().lower() in missing else text.strip() for text in texts]


def check_orbits(orbits: Sequence[str], times: NDArray[np.datetime64], remedy: str) -> None:
    """Raise DataError where the orbit of some acquisitions is known and of others is not.

    remedy: how the orbits are stated, for the message.
    """
    lacking = [at for at, orbit in enumerate(orbits) if not orbit]
    if lacking and len(lacking) < len(orbits):
        named = next(orbit for orbit in orbits if orbit)
        raise DataError(
            f"the orbit of the acquisition of {times[lacking[0]]} is not known ({len(lacking)} of "
            f"{len(orbits)}), that of others is ({named}); a place has one past for each orbit: "
            f"{remedy}"
        )


def several_clocks(times: NDArray[np.datetime64]) -> bool:
    """Return True where acquisitions begin at several times of day, so are of several orbits.

    Times at midnight are days without a time.

    >>> several_clocks(np.asarray(["2022-06-01T05:30:12", "2022-06-13T05:30:13"], "M8[s]"))
    False
    >>> several_clocks(np.asarray(["2022-06-01T05:30:12", "2022-06-03T17:02:00"], "M8[s]"))
    True
    """
    seconds = times.astype("datetime64[s]").astype(np.int64) % 86400
    known = np.unique(seconds[seconds > 0])
    if len(known) < 2:
        return False
    gaps = np.diff(known, append=known[0] + 86400)
    return bool(86400 - gaps.max() > SAME_CLOCK_S)
