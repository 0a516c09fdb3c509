"""Parameters of the API's addresses; the OpenAPI document is generated from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np

from ...base.errors import DataError
from ...base.schema import Help, Length, Parse, Range
from ...tables.parsing import CellParser

#: Most values of one answer.
MOST = 10_000
_ALWAYS = -(2**62)


def _seconds(text: Any) -> int:
    try:
        return int(CellParser("since", np.ones(1, np.int64)).dates([text])[0].astype(np.int64))
    except DataError:
        raise ValueError("") from None


@dataclass(frozen=True)
class NoParameters:
    """An address without parameters."""


@dataclass(frozen=True)
class LatestParameters:
    """Present states, of one paddock or of all."""

    paddock: Annotated[str, Length(0, 256), Help("id of a paddock")] | None = None


def _day(text: Any) -> int:
    return _seconds(text) // 86400


@dataclass(frozen=True)
class DailyParameters:
    """Values of days: today's of all paddocks, or the series of one with its outlook.

    since: days since 1970, sent as ISO 8601.
    """

    paddock: Annotated[str, Length(0, 256), Help("id of a paddock")] | None = None
    since: Annotated[int, Parse(_day, "an ISO 8601 date")] = _ALWAYS
    limit: Annotated[int, Range(1, MOST), Help("the newest days")] = MOST
    revisions: Annotated[bool, Help("earlier revisions too")] = False


@dataclass(frozen=True)
class HistoryParameters:
    """The series of one paddock. since: seconds since 1970, sent as ISO 8601."""

    paddock: Annotated[str, Length(0, 256), Help("id of a paddock")]
    since: Annotated[int, Parse(_seconds, "an ISO 8601 date")] = _ALWAYS
    limit: Annotated[int, Range(1, MOST), Help("the newest values")] = MOST
    revisions: Annotated[bool, Help("earlier revisions too")] = False
