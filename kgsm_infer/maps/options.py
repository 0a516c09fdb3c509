"""Options of a map: the acquisitions to retrieve, and the execution of its blocks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..base.errors import UsageError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class RetrievalOptions:
    """Acquisitions to retrieve, and how gaps of their vegetation are filled.

    date: ISO date of one acquisition, with its time where the day has several; None for the last.
    every: all of them. UsageError with a date.
    allow_future: use acquisitions later than tomorrow, which are left out otherwise.
    hold_vegetation_days: fill missing vegetation that the model reads from the last acquisition of
        the place, at most this many days old; flagged ``vegetation_old``. 0 fills none.
    """

    date: str | None = None
    every: bool = False
    allow_future: bool = False
    hold_vegetation_days: float = 0.0

    def __post_init__(self) -> None:
        if self.every and self.date is not None:
            raise UsageError("one date or all dates, not both")


#: The last acquisition, without those of the future, and no vegetation held.
LAST_ACQUISITION = RetrievalOptions()


def ignore_note(text: str) -> None:
    """Drop a note."""


@dataclass(frozen=True)
class Execution:
    """Computation of the blocks of a map.

    threads: blocks computed at a time.  progress: called with the pixels that are done and their
    number in all.  tell: called with each note, such as on sensors that were not used.
    """

    threads: int = 1
    progress: Progress | None = None
    tell: Callable[[str], None] = ignore_note


#: One block at a time, without progress or notes.
ONE_THREAD = Execution()
