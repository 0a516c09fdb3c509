"""Read irrigation: a file of the spool, and irrigation that is posted or sent by MQTT.

A table is an irrigation file if it has columns ``date`` and ``mm``, names paddocks, and has neither
rain nor backscatter. Irrigation that comes as JSON is written into the spool as such a file, so
that all of it is archived and processed in one way.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from ...base.errors import DataError
from ...base.schema import Help, Length, Parse, Range, read
from ...daily.forcing import IRRIGATION_NAMES, read_irrigation
from ...tables.columns import rename_columns
from ...tables.reading import read_sheet
from ..keys import paddock_key
from ..store.daily_rows import IrrigationDay
from .rain_files import (
    BACKSCATTER,
    FORECAST_DAYS,
    MOST,
    content_as_file,
    day_refusal,
    drop_file,
    names_in_file,
    parse_day,
    refuse_refused,
    tomorrow,
)
from .tables import TableRules

#: Most irrigation of a paddock on a day, mm.
MOST_MM = 1000.0


@dataclass(frozen=True)
class PostedIrrigation:
    """The irrigation of a paddock on a local day as it is sent; 0 mm withdraws it."""

    paddock: Annotated[str, Length(1, 256)]
    date: Annotated[str, Parse(parse_day, "a day such as 2024-03-04")]
    mm: Annotated[float, Range(0, MOST_MM), Help("the day's total, or that planned for it")]


@dataclass(frozen=True)
class IrrigationMessage:
    """A message of irrigation."""

    irrigation: Annotated[tuple[PostedIrrigation, ...], Length(1, MOST)]


@dataclass(frozen=True)
class IrrigationRows:
    """Irrigation of a file: the total of each paddock and day, at least one.

    left_out: places in it that are not paddocks of the farm.  refused: days that were left out,
    each with the reason.
    """

    days: tuple[IrrigationDay, ...]
    left_out: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.days)

    @property
    def bounds(self) -> tuple[int, int]:
        """The first and the last day."""
        every = [one.day for one in self.days]
        return min(every), max(every)


def is_irrigation_table(columns: Mapping[str, Any], renamed: Mapping[str, str]) -> bool:
    """Return True for the columns of an irrigation file. renamed: ``[columns]`` of the settings.

    >>> is_irrigation_table({"paddock": [], "date": [], "mm": []}, {})
    True
    >>> is_irrigation_table({"site": [], "date": [], "mm": [], "rain_mm": []}, {})
    False
    """
    own = rename_columns(columns, renamed, IRRIGATION_NAMES)
    theirs = {renamed.get(name, name) for name in BACKSCATTER} | BACKSCATTER
    other = {"rain_mm", renamed.get("rain_mm", "rain_mm"), *theirs}
    named = bool(own.keys() & {"paddock", "site", "id"})
    return {"date", "mm"} <= own.keys() and named and not other & set(columns)


def is_irrigation_file(path: Path, renamed: Mapping[str, str]) -> bool:
    """Return True for an irrigation file; false for a file that cannot be read as a table."""
    if not names_in_file(path, {"mm", renamed.get("mm", "mm")}):
        return False
    try:
        return is_irrigation_table(read_sheet(path).columns, renamed)
    except DataError:
        return False


def irrigation_of_file(
    path: Path, source: str, rules: TableRules, today: int, number: int
) -> IrrigationRows:
    """Read an irrigation file; DataError names file, row, column and value.

    Rows of one paddock and day add up. today: local day of its arrival.  number: of the arrival.
    """
    try:
        found = read_irrigation(path, None, rules.columns)
    except DataError as error:
        raise DataError(str(error).replace(str(path), source)) from None
    total: dict[tuple[str, int], float] = {}
    keys = {name: paddock_key(name) for name in found.paddock}
    left_out = tuple(sorted({key for key in keys.values() if not rules.paddocks.known(key)}))
    for name, day, mm in zip(found.paddock, found.day.tolist(), found.mm.tolist(), strict=True):
        if keys[name] not in left_out:
            total[keys[name], day] = total.get((keys[name], day), 0.0) + mm
    if not total:
        raise DataError(
            f"{source}: none of its paddocks ({', '.join(left_out[:3])}) is in "
            f"{rules.paddocks.outlines.source if rules.paddocks.outlines else 'the farm'}"
        )
    for (place, day), mm in total.items():
        if mm > MOST_MM:
            raise DataError(
                f"{source}: the rows of {place} on {np.datetime64(day, 'D')} add up to {mm:g} mm; "
                f"at most {MOST_MM:g} mm a day"
            )
    far = {key for key in total if key[1] > today + FORECAST_DAYS}
    refused = tuple(day_refusal(source, *key) for key in sorted(far))
    days = tuple(
        IrrigationDay(*key, mm, number, int(found.simulated))
        for key, mm in sorted(total.items())
        if key not in far
    )
    if not days:
        raise DataError(f"{refused[0]} (as every row of it)")
    return IrrigationRows(days, left_out, refused)


def write_irrigation(
    content: Any, rules: TableRules, spool: Path, is_known: Callable[[str], bool] | None = None
) -> int:
    """Write ``{"irrigation": [...]}`` into the spool as an irrigation file; returns its rows.

    is_known: of :func:`~kgsm_infer.gateway.intake.rain_files.drop_file`.
    DataError names a row that is wrong, too far ahead or of an unknown paddock; nothing is written.
    """
    return drop_irrigation_file(irrigation_table(content, rules), rules, spool, is_known)


def irrigation_table(content: Any, rules: TableRules) -> bytes:
    """Return ``{"irrigation": [...]}`` as an irrigation file.

    DataError names a row that is wrong or of an unknown paddock.
    """
    paddocks = rules.paddocks
    message = read(IrrigationMessage, content, "irrigation")
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    is_rain = rules.columns.get("rain_mm") == "mm"  # then irrigation has another name, if any
    writer.writerow(("paddock", "date", rules.columns.get("mm", "mm") if is_rain else "mm"))
    for at, one in enumerate(message.irrigation):
        place = paddock_key(one.paddock)
        if not paddocks.known(place):
            raise DataError(f"irrigation: irrigation[{at}].paddock: no paddock {place[:64]!r}")
        writer.writerow((place, one.date, np.format_float_positional(one.mm, trim="-")))
    return text.getvalue().encode()


def drop_irrigation_file(
    content: bytes,
    rules: TableRules,
    spool: Path,
    is_known: Callable[[str], bool] | None = None,
) -> int:
    """Write a posted irrigation file into the spool; returns the number of its rows.

    DataError says what is wrong with it, days too far ahead included.
    """
    if rules.columns.get("rain_mm") == "mm" and "mm" not in rules.columns:
        raise DataError("the table: mm is rain by [columns]; name the column of irrigation there")
    with content_as_file(content) as path:
        if not is_irrigation_file(path, rules.columns):
            raise DataError(
                "the table: is not an irrigation file: paddock, date and mm, without rain and "
                "backscatter"
            )
        rows = irrigation_of_file(path, "the table", rules, tomorrow(), 0)
    refuse_refused(rows.refused)
    drop_file(content, spool, "irrigation", is_known)
    return len(rows)
