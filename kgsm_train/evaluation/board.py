"""The content of ``metrics.json`` as frozen dataclasses, with a strict reader.

None is "no number". Two shares are kept apart: *interval coverage* is the share of labels inside
an interval; ``with_number`` is the share of labelled rows for which a model gives a number.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.files import write_whole
from kgsm_infer.base.schema import as_plain, read, read_json

from ..learning.learnt import Learnt

BOARD_FORMAT = 3
Number = float | None


@dataclass(frozen=True)
class ScoreSet:
    """n rows scored; bias, rmse, ubrmse in m3 m-3; r."""

    n: int
    bias: Number
    rmse: Number
    ubrmse: Number
    r: Number


@dataclass(frozen=True)
class Ends:
    """The 95 % interval of each score, (low, high)."""

    bias: tuple[Number, Number]
    rmse: tuple[Number, Number]
    ubrmse: tuple[Number, Number]
    r: tuple[Number, Number]


@dataclass(frozen=True)
class Quartiles:
    """A score over groups: how many have a number, median, first and third quartile."""

    groups: int
    median: Number
    iqr: tuple[Number, Number]


@dataclass(frozen=True)
class ByGroup:
    """The scores of each group, summed up; n: group -> rows scored."""

    n: Mapping[str, int]
    bias: Quartiles
    rmse: Quartiles
    ubrmse: Quartiles
    r: Quartiles


@dataclass(frozen=True)
class Pooled:
    """Scores of all rows (or of all group means) together, and their interval."""

    pooled: ScoreSet
    interval_95: Ends


@dataclass(frozen=True)
class WithinDate:
    """R of group means within dates: the skill in ranking groups on one day.

    r: of differences from the date's mean, and interval_95, its 95 % interval.
    r_centred: of what is left when each group's own mean is subtracted as well.
    dates: number of dates with three groups or more.
    """

    dates: int
    r: Number
    r_centred: Number
    interval_95: tuple[Number, Number] = (None, None)

    @property
    def ranks(self) -> bool | None:
        """True if R is above 0 with its interval; None where it is not known."""
        low, high = self.interval_95
        return None if self.r is None or low is None or high is None else low > 0


@dataclass(frozen=True)
class ModelScores:
    """One model in one regime.

    with_number: share of the regime's labelled rows for which it gives a number.
    by_date: date -> scores.  unflagged: of rows without any flag.  settled: of rows of places
    with at least five looks so far.
    """

    pooled: ScoreSet
    interval_95: Ends
    by_group: ByGroup
    by_site: ByGroup
    by_fold: tuple[ScoreSet, ...]
    with_number: float
    within_date: WithinDate
    by_date: Mapping[str, ScoreSet] = field(default_factory=dict)
    unflagged: ScoreSet | None = None
    settled: ScoreSet | None = None
    group_mean: Pooled | None = None


@dataclass(frozen=True)
class Difference:
    """RMSE of one model minus another's on the same rows, and its 95 % interval."""

    difference: Number
    interval: tuple[Number, Number]


@dataclass(frozen=True)
class Paired:
    """A difference per row, and of group means where a group has several points."""

    difference: Number
    interval: tuple[Number, Number]
    group_mean: Difference | None = None


@dataclass(frozen=True)
class RegimeScores:
    """All models on the rows common to them.

    title: in words.  rows, groups, dates: number of rows scored, and of their groups and dates.
    ours_minus: RMSE of the compared model minus each other's.
    """

    title: str
    rows: int
    groups: int
    dates: int
    models: Mapping[str, ModelScores]
    ours_minus: Mapping[str, Paired]


@dataclass(frozen=True)
class ProbedScores:
    """Fields without a probe, their date's level corrected by others' probes, and without.

    weight: of the probes in the correction, 0..1, the mean over dates.
    """

    r: float
    rmse: float
    r_without: float
    rmse_without: float
    weight: float


@dataclass(frozen=True)
class DateLabels:
    """Labels of one date. scored: in the headline.  held: of those, with vegetation held.

    why: reasons for labels that are not scored -> their number.
    """

    date: str
    labels: int
    scored: int
    held: int
    why: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LeakTold:
    """A leak let pass on purpose."""

    kind: str
    text: str


@dataclass(frozen=True)
class Board:
    """A whole cross-validation.

    headline: the first regime.  without_new_dates: why new dates are not scored.
    ours: the model the others are compared with.  repeats: labels that look copied.
    regimes: scores on all rows.  measured: scores on rows whose vegetation was measured on the
    date; empty where none was held.  dates: labels and scored rows of each date.
    dropped: [data] drop column -> labels left out.
    learnt: model -> split -> parameters.  no_skill: model -> a sentence, where it is no
    better than a mean.  intervals: model -> its interval as on the card.  variances: model ->
    variances that weigh probes, as on the card.  probed: fields with probes -> model -> scores.
    """

    kgsm_version: str
    code: str
    simulated: bool
    table_sha256: str
    rows: int
    labelled: int
    group: str
    groups: int
    folds: tuple[str, ...]
    blocks: tuple[str, ...]
    pairs: int
    without_new_dates: str
    leaks: tuple[LeakTold, ...]
    repeats: tuple[str, ...]
    headline: str
    ours: str
    regimes: Mapping[str, RegimeScores]
    learnt: Mapping[str, Mapping[str, Learnt]]
    config: Mapping[str, Any]
    measured: Mapping[str, RegimeScores] = field(default_factory=dict)
    dates: tuple[DateLabels, ...] = ()
    dropped: Mapping[str, int] = field(default_factory=dict)
    no_skill: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    probed: Mapping[str, Mapping[str, ProbedScores]] = field(default_factory=dict)
    format: int = BOARD_FORMAT

    @property
    def first(self) -> RegimeScores:
        """Return the scores of the headline."""
        return self.regimes[self.headline]

    @property
    def drawn_model(self) -> str:
        """Return the model that figures show: the compared one."""
        return self.ours


def write_board(path: Path, board: Board) -> None:
    """Write ``metrics.json``."""
    with write_whole(path) as out:
        out.write(json.dumps(as_plain(board), indent=1, allow_nan=False) + "\n")


def read_board(path: Path) -> Board:
    """Read ``metrics.json``; DataError with file and key for another version."""
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("format") != BOARD_FORMAT:
        raise DataError(
            f"{path}: format: not the metrics of a cross-validation of this kgsm; run it again"
        )
    board = read(Board, raw, str(path))
    if board.headline not in board.regimes or board.ours not in board.first.models:
        raise DataError(f"{path}: headline, ours: name no scores that are there")
    return board
