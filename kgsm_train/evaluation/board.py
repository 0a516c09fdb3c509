"""What ``metrics.json`` says, as frozen dataclasses with a strict reader. None is "no number"."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kgsm_infer.base.errors import DataError
from kgsm_infer.base.files import whole
from kgsm_infer.base.schema import as_plain, read, read_json

from ..learning.learnt import Learnt

BOARD_FORMAT = 2
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
    """What is left of R when the weather is taken away; of group means.

    r: of differences to the date's mean.  r_centred: each group's own mean taken off as well.
    dates: with three groups or more.
    """

    dates: int
    r: Number
    r_centred: Number


@dataclass(frozen=True)
class ModelScores:
    """One model in one regime. coverage: share of the regime's labelled rows with a number."""

    pooled: ScoreSet
    interval_95: Ends
    by_group: ByGroup
    by_site: ByGroup
    by_fold: tuple[ScoreSet, ...]
    coverage: float
    within_date: WithinDate
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

    title: in words.  rows, groups, dates: what the scores rest on.
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
class LeakTold:
    """A leak let pass on purpose."""

    kind: str
    text: str


@dataclass(frozen=True)
class Board:
    """A whole cross-validation.

    headline: the regime that comes first.  without_new_dates: why new dates are not scored.
    ours: the model the others are compared with.  repeats: labels that look copied.
    learnt: model -> split -> what it learnt.  no_skill: model -> a sentence, where it is no
    better than a mean.  intervals: model -> its interval as on the card.  variances: model ->
    what probes are weighed by, as on the card.  probed: fields with probes -> model -> scores.
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
    no_skill: Mapping[str, str] = field(default_factory=dict)
    intervals: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    variances: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    probed: Mapping[str, Mapping[str, ProbedScores]] = field(default_factory=dict)
    format: int = BOARD_FORMAT

    @property
    def first(self) -> RegimeScores:
        """The scores of the headline."""
        return self.regimes[self.headline]

    @property
    def shown(self) -> str:
        """The model that figures show: the compared one."""
        return self.ours


def write_board(path: Path, board: Board) -> None:
    """Write ``metrics.json``."""
    with whole(path) as out:
        out.write(json.dumps(as_plain(board), indent=1, allow_nan=False) + "\n")


def read_board(path: Path) -> Board:
    """Read ``metrics.json``; DataError with file and key where it is none of this version."""
    raw = read_json(path)
    if not isinstance(raw, dict) or raw.get("format") != BOARD_FORMAT:
        raise DataError(
            f"{path}: format: not the metrics of a cross-validation of this kgsm; run it again"
        )
    board = read(Board, raw, str(path))
    if board.headline not in board.regimes or board.ours not in board.first.models:
        raise DataError(f"{path}: headline, ours: name no scores that are there")
    return board
