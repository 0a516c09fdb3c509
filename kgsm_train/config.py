"""Read an experiment, one TOML file, into frozen dataclasses.

Constraints are declared with each field; :mod:`kgsm_infer.base.schema` checks them.
Unknown keys are refused, because an ignored misspelt option makes a different experiment.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

from kgsm_infer.base.errors import UsageError
from kgsm_infer.base.schema import (
    Choices,
    Length,
    Option,
    Pattern,
    Range,
    SettingsFile,
    read,
)
from kgsm_infer.context.definitions import CONTEXT, SPANS, SharedBy
from kgsm_infer.kernels.wcm import Wcm, default_limits
from kgsm_infer.model.card import MOST_HIDDEN, MOST_MEMBERS, MOST_STEPS
from kgsm_infer.tables.keys import canonical_name

from .models import MODELS

#: Leaks the leakage guard finds; ``[crossval] allow`` lets them pass.
LEAKS = ("identical-series", "site-in-two-folds")
_FILE = SettingsFile("configuration", UsageError)
Share = Annotated[float, Range(0, 1)]
NotNegative = Annotated[float, Range(0)]
Positive = Annotated[float, Range(above=0)]
Count = Annotated[int, Range(0)]
Feature = Annotated[str, Pattern(r"(?!sm$).+", "a column other than the label sm")]
ModelName = Annotated[str, Choices(MODELS)]


@dataclass(frozen=True)
class Data:
    """``[data]``: the table, and the rows that must stay together.

    table: path, relative to the configuration file.
    group: column whose groups are never split between folds: ``site`` by default, ``field``
        where a field has several points, ``cluster`` for leave-cluster-out. ``year`` is derived
        from the date: leave-year-out, with every place in training.
    fold: column with the authors' own folds; empty for folds drawn from the groups.
    drop: 0/1 or true/false columns; where true, the label of the row is not used.
    missing: cells that mean "not measured" in this table, as written: ``["-90.0"]``.
    licence: licence of the data, for the model card.
    weather: daily weather file from which the rain features of [inputs] are computed
        (:mod:`kgsm_infer.tables.weather`); empty for none.
    weather_utc_offset_hours: UTC offset of its days, within ±14 h.
    keep: how to resolve contradictory duplicate rows: ``first``, ``last`` or ``mean``;
        ``refuse`` refuses the table.
    indicators: name of a new column -> the text column it is made from and the beginnings that
        count: ``paddy = ["crop", "padd"]`` is 1 where the crop begins with "padd" and else 0.
    hold_vegetation_days: fill missing vegetation from the site's last acquisition that has it, at
        most so many days earlier. Such rows are marked, and scores are given with and without
        them. 0 fills nothing.
    """

    table: Annotated[str, Length(1)]
    group: str = "site"
    fold: str = ""
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    licence: str = "not stated"
    weather: str = ""
    weather_utc_offset_hours: Annotated[float, Range(-14, 14)] = 0.0
    keep: Annotated[str, Choices(("refuse", "first", "last", "mean"))] = "refuse"
    indicators: Mapping[str, Annotated[tuple[str, ...], Length(2)]] = field(default_factory=dict)
    hold_vegetation_days: Annotated[float, Range(0, 366)] = 0.0


@dataclass(frozen=True)
class Inputs:
    """``[inputs]``: inputs of the network besides the backscatter.

    polarisation: ``vh`` or ``vv``.  steps: T, acquisitions in a window.
    features: numeric columns that change with the acquisition; ``doy_sin`` and ``doy_cos`` are
        computed from the date.  statics: numeric columns that do not change.
    """

    polarisation: Annotated[str, Choices(("vh", "vv"))] = "vh"
    steps: Annotated[int, Range(1, MOST_STEPS)] = 10
    features: tuple[Feature, ...] = ()
    statics: tuple[Feature, ...] = ()

    def __post_init__(self) -> None:
        for key in ("features", "statics"):  # as tables name their columns
            object.__setattr__(self, key, tuple(map(canonical_name, getattr(self, key))))
        names = (*self.features, *self.statics)
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"features and statics name {twice[0]} twice")


@dataclass(frozen=True)
class WcmOptions:
    """``[wcm]``: the water cloud model; see :class:`kgsm_infer.kernels.wcm.Wcm`.

    a: start of training (the paper finds A near 0.019).
    learn: parameters the KG-LSTM learns, ``["a"]`` as in the paper or ``["a", "b"]``.
    residual: of the baseline's calibration, ``sm`` (the paper) or ``sigma0``.
    by: column of classes (land cover, crop), each of which gets a baseline calibration of its
        own; empty calibrates once for all.
    """

    a: Positive = 0.02
    b: NotNegative = 0.084
    e: NotNegative = 0.0
    vwc_rule: Annotated[str, Choices(("foliage", "column"))] = "foliage"
    stem_kg_m2: NotNegative = 0.0
    angle_rule: Annotated[str, Choices(("constant", "column", "normalise"))] = "constant"
    angle_ref_deg: Annotated[float, Range(above=0, below=90)] = 40.0
    angle_exponent: float = 2.0
    min_soil_fraction: Annotated[float, Range(above=0, below=1)] = 0.1
    dense_vwc_kg_m2: NotNegative = 0.0
    residual: Annotated[str, Choices(("sm", "sigma0"))] = "sm"
    learn: tuple[str, ...] = ("a",)
    by: str = ""

    def __post_init__(self) -> None:
        if self.learn not in (("a",), ("a", "b")):
            raise ValueError(f'learn is {list(self.learn)}, expected ["a"] or ["a", "b"]')

    def with_learnt(self, found: Mapping[str, float | None]) -> Wcm:
        """Return the water cloud model with the A and B found; its own where none was found."""
        a, b = found.get("A"), found.get("B")
        wcm = self.with_a(self.a if a is None else a)
        return wcm if b is None else dataclasses.replace(wcm, b=b)

    def with_a(self, a: float) -> Wcm:
        """Return the water cloud model with another A; dense_vwc_kg_m2 0 is the rule's default."""
        limits = default_limits(self.vwc_rule)
        if self.dense_vwc_kg_m2 > 0:
            limits = dataclasses.replace(limits, dense_vwc_kg_m2=self.dense_vwc_kg_m2)
        return Wcm(
            a=a,
            b=self.b,
            e=self.e,
            vwc_rule=self.vwc_rule,
            stem_kg_m2=self.stem_kg_m2,
            angle_rule=self.angle_rule,
            angle_ref_deg=self.angle_ref_deg,
            angle_exponent=self.angle_exponent,
            min_soil_fraction=self.min_soil_fraction,
            limits=limits,
        )


@dataclass(frozen=True)
class HeadOptions:
    """``[head]``: the physics head; see :mod:`kgsm_train.learning.head`.

    kind: head of the model that ``fit`` trains: ``index`` (the wetness index with fitted limits),
        ``change`` (change detection, a line), ``wcm`` (the calibrated WCM) or ``none`` (the
        network alone behind the WCM, as in the paper).
    network: False ships the head without a network (kinds ``index`` and ``change``).
    history: acquisitions that a place is compared with: ``past`` (up to the target) or ``all``.
    typical_looks: weight of the typical place, in acquisitions.
    others: further channels of the head.  look_before: add the anomaly of the previous
        acquisition (kind ``change``).
    shrink: weights of the network's estimate that are tried; one number fixes it.
    shrink_slack: the smallest weight is chosen whose RMSE on held-out groups and dates is within
        this share of the lowest.
    within_dates: train the network on departures from the mean of each date.
    """

    kind: Annotated[str, Choices(("index", "change", "wcm", "none"))] = "none"
    network: bool = True
    history: Annotated[str, Choices(SPANS)] = "past"
    typical_looks: Annotated[float, Range(0, 1e6)] = 3.0
    others: tuple[Feature, ...] = ("ndvi_over_scene",)
    look_before: bool = True
    shrink: Annotated[tuple[Share, ...], Length(1), Option.ONE_OR_MANY] = tuple(
        k / 10 for k in range(11)
    )
    shrink_slack: Annotated[float, Range(0, below=1)] = 0.01
    within_dates: bool = False


@dataclass(frozen=True)
class Network:
    """``[network]``: LSTM size; ``members`` LSTMs of different seeds are averaged."""

    hidden: Annotated[int, Range(1, MOST_HIDDEN)] = 32
    members: Annotated[int, Range(1, MOST_MEMBERS)] = 3
    dropout: Annotated[float, Range(0, below=1)] = 0.1


@dataclass(frozen=True)
class Training:
    """``[training]``: optimisation.

    physics_weight: lambda of Eq 10.  monotone_weight: of a penalty on SM that falls when
        the target's backscatter rises.  sigma0_weight: of the misfit, in dB, between the
        backscatter channel and C + D SM (Eq 3), with C and D learnt too.
    learning_rate_a: of log A (and log B), larger because the loss is flat in it.
    validation_share: fraction of the groups held out for early stopping.
    """

    epochs: Annotated[int, Range(1)] = 200
    patience: Annotated[int, Range(1)] = 25
    batch: Annotated[int, Range(1)] = 64
    learning_rate: Positive = 3e-3
    learning_rate_a: Positive = 1e-2
    weight_decay: NotNegative = 1e-4
    physics_weight: NotNegative = 1.0
    monotone_weight: NotNegative = 0.0
    sigma0_weight: NotNegative = 0.0
    validation_share: Annotated[float, Range(above=0, below=1)] = 0.2
    seed: Annotated[int, Range(0, 2**31)] = 0


@dataclass(frozen=True)
class CrossValidation:
    """``[crossval]``: folds by group, and the models compared.

    folds: number of folds; 0 leaves out one group at a time.
    date_blocks: blocks of neighbouring dates left out for the scores on new dates; 0 makes one
        of each date up to 7 dates, blocks of two up to 14 dates, and 7 blocks beyond; 1 scores
        no new dates.
    date_pairs: ``all`` trains without each pair of fold and block, ``some`` without each fold
        and each block once; ``auto`` is ``some`` where a pair has 100 labels or more.
    ours: the model the others are compared with; empty for the last of ``models``.
    models: names out of :data:`kgsm_train.models.MODELS`; ``oracle`` needs a simulated table.
    bootstrap: draws of whole groups for the intervals.
    forward: also score models trained on the past alone (new groups on later dates).
    train_groups: number of groups to train on, drawn by the seed, to see what more would
        bring; 0 trains on all.
    allow: leaks (of LEAKS) that are allowed, and printed with the scores.
    """

    folds: Count = 4
    date_blocks: Count = 0
    date_pairs: Annotated[str, Choices(("auto", "all", "some"))] = "auto"
    forward: bool = True
    models: Annotated[tuple[ModelName, ...], Length(1)] = tuple(
        name for name, model in MODELS.items() if model.usual
    )
    bootstrap: Annotated[int, Range(1, 10**6)] = 1000
    train_groups: Count = 0
    allow: tuple[Annotated[str, Choices(LEAKS)], ...] = ()
    ours: str = ""

    @property
    def compared(self) -> str:
        """Return the model the others are compared with."""
        return self.ours or self.models[-1]


@dataclass(frozen=True)
class Experiment:
    """The sections of the file."""

    data: Data
    inputs: Inputs = field(default_factory=Inputs)
    wcm: WcmOptions = field(default_factory=WcmOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    crossval: CrossValidation = field(default_factory=CrossValidation)


@dataclass(frozen=True)
class Config(Experiment):
    """An experiment and its file. ``folder`` is where relative paths start."""

    folder: Path = Path(".")
    source: str = ""

    @property
    def table(self) -> Path:
        """Return the table's path."""
        return self.folder / self.data.table

    def columns(self) -> tuple[str, ...]:
        """Return every auxiliary feature, dynamic then static."""
        return (*self.inputs.features, *self.inputs.statics)

    def head_terms(self, kind: str) -> tuple[tuple[str, int], ...]:
        """Return (channel, looks back) of each term of a head, ``index`` or ``change``."""
        pol = self.inputs.polarisation
        if kind == "index":
            names = (f"{pol}_anomaly", f"{pol}_anomaly_fields", *self.head.others)
            return tuple((name, 0) for name in names)
        terms = [(f"{pol}_anomaly", 0), (f"{pol}_anomaly_scene", 0)]
        terms += [(name, 0) for name in self.head.others]
        return (*terms, (f"{pol}_anomaly", 1)) if self.head.look_before else tuple(terms)

    def is_head_alone(self, model: str) -> bool:
        """Return True for a model that is a head (``index``, ``change``) without a network."""
        one = MODELS[model]
        return one.head in ("index", "change") and not one.network

    def unseen(self, model: str) -> tuple[str, ...]:
        """Return the channels that only the head of ``model`` reads, and not its network."""
        kind = MODELS[model].head
        if kind not in ("index", "change"):
            return ()
        names = dict.fromkeys(name for name, _ in self.head_terms(kind))
        if self.is_head_alone(model):
            return tuple(names)
        return tuple(name for name in names if name not in self.columns())

    def dynamic(self, model: str) -> tuple[str, ...]:
        """Return the features of ``model`` that change with the acquisition, in tile order."""
        if self.is_head_alone(model):
            return self.unseen(model)
        return (*self.inputs.features, *self.unseen(model))

    def statics(self, model: str) -> tuple[str, ...]:
        """Return the features of ``model`` that do not change."""
        return () if self.is_head_alone(model) else self.inputs.statics

    def steps(self, model: str) -> int:
        """Return the acquisitions in a window of ``model``."""
        if self.is_head_alone(model):
            return 1 + max(lag for _, lag in self.head_terms(MODELS[model].head))
        return self.inputs.steps

    @property
    def shipped(self) -> str:
        """Return the model that ``fit`` trains."""
        if self.head.kind in ("index", "change") and not self.head.network:
            return self.head.kind
        return {"none": "kg-lstm"}.get(self.head.kind, f"{self.head.kind}-lstm")


def read_config(
    path: str | Path,
    table: str | Path | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Config:
    """Read an experiment; ``table`` replaces the one it names.

    changes: section -> keys that replace the file's.
    UsageError names the file, the key, the value and what is allowed.
    """
    path = Path(path)
    raw = _FILE.load(path)
    changes = dict(changes or {})
    if table is not None:
        changes["data"] = {**changes.get("data", {}), "table": str(Path(table).absolute())}
    for section, keys in changes.items():
        both = isinstance(keys, dict) and isinstance(raw.get(section, {}), dict)
        raw[section] = {**raw.get(section, {}), **keys} if both else keys
    experiment = read(Experiment, raw, path, UsageError)
    config = Config(**vars(experiment), folder=path.parent, source=str(path))
    try:
        _check(config)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None
    return config


def _check(config: Config) -> None:
    """Raise ValueError where keys of several sections contradict each other."""
    crossval, head = config.crossval, config.head
    try:
        config.wcm.with_a(config.wcm.a)
    except ValueError as error:
        raise ValueError(f"wcm: {error}") from None
    if crossval.folds == 1:
        raise ValueError("crossval.folds is 1, expected 0 or at least 2")
    if crossval.ours not in ("", *crossval.models):
        raise ValueError(
            f"crossval.ours is {crossval.ours}, expected one of its models: "
            f"{', '.join(crossval.models)}"
        )
    changing = head.kind == "change" or any(
        MODELS[name].head == "change" for name in crossval.models
    )
    if changing and head.look_before and config.inputs.steps < 2:
        raise ValueError("head.look_before needs inputs.steps of at least 2")
    for name in config.columns():
        of_site = name in CONTEXT and CONTEXT[name].shared_by is SharedBy.SITE_PAST
        if of_site and head.typical_looks == 0 and head.history == "past":
            raise ValueError(
                f"head.typical_looks is 0, expected a number above 0 for {name}: a single "
                "acquisition of a place has no standard deviation"
            )


def as_json(config: Config) -> dict[str, Any]:
    """Return the experiment as plain JSON values, without the place of its file."""
    values = dataclasses.asdict(config)
    del values["folder"], values["source"]
    return {section: {k: _plain(v) for k, v in keys.items()} for section, keys in values.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value
