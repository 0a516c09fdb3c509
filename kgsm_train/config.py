"""One TOML file per experiment, read into frozen dataclasses.

Every key has a default or is required; an unknown key is an error, because a
misspelt option that is silently ignored is a wrong experiment.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

from kgsm_infer.base.errors import UsageError
from kgsm_infer.kernels.wcm import Wcm, default_limits

from .checks import check
from .models import MODELS


@dataclass(frozen=True)
class Data:
    """``[data]``: the table and who belongs together in it.

    table: path, relative to the configuration file.
    group: column whose groups are never split between folds: ``site`` by default,
        ``field`` where a field has several points, ``cluster`` for leave-cluster-out.
        ``year`` is made from the date: leave-year-out, every place known.
    fold: column with the authors' own folds; empty for folds made from the groups.
    drop: 0/1 or true/false columns; where true, the row's label is not used.
    missing: cells that stand for "not measured" in this table, as written: ``["-90.0"]``.
    licence: of the data, for the model card.
    weather: a daily weather file, from which the rain_ features of [inputs] are made
        (:mod:`kgsm_infer.tables.weather`); empty for none.  weather_utc_offset_hours: of its days.
    keep: of rows that contradict each other at one time: ``first``, ``last`` or ``mean``;
        ``refuse`` refuses the table.
    """

    table: str
    group: str = "site"
    fold: str = ""
    drop: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    licence: str = "not stated"
    weather: str = ""
    weather_utc_offset_hours: float = 0.0
    keep: str = "refuse"


@dataclass(frozen=True)
class Inputs:
    """``[inputs]``: what the network sees besides the backscatter.

    polarisation: ``vh`` or ``vv``.  steps: T, acquisitions in a window.
    features: numeric columns that change with the acquisition; ``doy_sin`` and
    ``doy_cos`` are made from the date.  statics: numeric columns that do not.
    """

    polarisation: str = "vh"
    steps: int = 10
    features: tuple[str, ...] = ()
    statics: tuple[str, ...] = ()


@dataclass(frozen=True)
class WcmOptions:
    """``[wcm]``: the water cloud model; see :class:`kgsm_infer.kernels.wcm.Wcm`.

    a: where training starts from (the paper finds A near 0.019).
    learn: what the KG-LSTM learns, ``["a"]`` as in the paper or ``["a", "b"]``.
    residual: of the baseline's calibration, ``sm`` (the paper) or ``sigma0``.
    by: column of classes (land cover, crop) the baseline is calibrated for one by one;
        empty calibrates once for all.
    """

    a: float = 0.02
    b: float = 0.084
    e: float = 0.0
    vwc_rule: str = "foliage"
    stem_kg_m2: float = 0.0
    angle_rule: str = "constant"
    angle_ref_deg: float = 40.0
    angle_exponent: float = 2.0
    min_soil_fraction: float = 0.1
    dense_vwc_kg_m2: float = 0.0
    residual: str = "sm"
    learn: tuple[str, ...] = ("a",)
    by: str = ""

    def with_learnt(self, found: Mapping[str, float | None]) -> Wcm:
        """The parameters with the A and B found, where they are, and else those given here."""
        a, b = found.get("A"), found.get("B")
        wcm = self.with_a(self.a if a is None else a)
        return wcm if b is None else dataclasses.replace(wcm, b=b)

    def with_a(self, a: float) -> Wcm:
        """The parameters with a given A; dense_vwc_kg_m2 0 takes the rule's default."""
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
    """``[head]``: the physics that stands beside the network; see :mod:`kgsm_train.learning.head`.

    kind: what ``fit`` makes a model of: ``change`` (change detection), ``wcm`` (the calibrated
        WCM) or ``none`` (the network alone, with the WCM in front of it, as in the paper).
    history: which acquisitions a place is compared with: ``past``, those up to the one asked
        for, or ``all`` of the table, later ones too.
    typical_looks: so many looks of a typical place stand before a place's own.
    others: further channels of the change-detection line.  look_before: whether it has the
        anomaly of the look before.
    shrink: parts of the network's estimate that are tried; one number fixes it.
    shrink_slack: the largest part is taken whose RMSE on held-out groups and dates is within
        this share of the best one's, because known dates gain from more of the network.
    within_dates: the network learns how places depart from the mean of a date, and no date.
    """

    kind: str = "none"
    history: str = "past"
    typical_looks: float = 3.0
    others: tuple[str, ...] = ("ndvi_over_scene",)
    look_before: bool = True
    shrink: tuple[float, ...] = tuple(k / 10 for k in range(11))
    shrink_slack: float = 0.01
    within_dates: bool = False


@dataclass(frozen=True)
class Network:
    """``[network]``: LSTM size; ``members`` LSTMs of different seeds are averaged."""

    hidden: int = 32
    members: int = 3
    dropout: float = 0.1


@dataclass(frozen=True)
class Training:
    """``[training]``: optimisation.

    physics_weight: lambda of Eq 10.  monotone_weight: of a penalty on SM that falls when
    the target's backscatter rises.  sigma0_weight: of the misfit, in dB, between the
    backscatter channel and C + D SM of the SM found (Eq 3), C and D learnt along.
    learning_rate_a: of log A (and log B), larger because the loss is flat in it.
    validation_share: of the groups, held out for early stopping.
    """

    epochs: int = 200
    patience: int = 25
    batch: int = 64
    learning_rate: float = 3e-3
    learning_rate_a: float = 1e-2
    weight_decay: float = 1e-4
    physics_weight: float = 1.0
    monotone_weight: float = 0.0
    sigma0_weight: float = 0.0
    validation_share: float = 0.2
    seed: int = 0


@dataclass(frozen=True)
class CrossValidation:
    """``[crossval]``: folds by group, and the models set side by side.

    folds: number of folds; 0 leaves out one group at a time.
    date_blocks: blocks of neighbouring dates left out for the scores on new dates; 0 makes one
        of each date up to 7 dates, blocks of two up to 14 dates, and 7 blocks beyond; 1 scores
        no new dates.
    date_pairs: ``all`` trains without each fold and each block together, ``some`` without each
        fold and each block once; ``auto`` is ``some`` where a pair holds 100 labels or more.
    ours: the model the others are compared with; empty for the last of ``models``.
    models: names out of :data:`kgsm_train.models.MODELS`; ``oracle`` needs a simulated table.
    bootstrap: draws of whole groups for the intervals.
    train_groups: train on so many groups, drawn by the seed, to see what more would bring;
        0 trains on all.
    allow: leaks (of LEAKS) that are let pass, and printed with the scores.
    """

    folds: int = 4
    date_blocks: int = 0
    date_pairs: str = "auto"
    models: tuple[str, ...] = tuple(name for name, model in MODELS.items() if model.usual)
    bootstrap: int = 1000
    train_groups: int = 0
    allow: tuple[str, ...] = ()
    ours: str = ""

    @property
    def compared(self) -> str:
        """The model the others are compared with."""
        return self.ours or self.models[-1]


@dataclass(frozen=True)
class Config:
    """A whole experiment. ``folder`` is where relative paths start."""

    data: Data
    inputs: Inputs = field(default_factory=Inputs)
    wcm: WcmOptions = field(default_factory=WcmOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    network: Network = field(default_factory=Network)
    training: Training = field(default_factory=Training)
    crossval: CrossValidation = field(default_factory=CrossValidation)
    folder: Path = Path(".")
    source: str = ""

    @property
    def table(self) -> Path:
        """The table's path."""
        return self.folder / self.data.table

    def columns(self) -> tuple[str, ...]:
        """Every auxiliary feature, dynamic then static."""
        return (*self.inputs.features, *self.inputs.statics)

    def head_terms(self) -> tuple[tuple[str, int], ...]:
        """(channel, looks back) of the change-detection line."""
        pol = self.inputs.polarisation
        terms = [(f"{pol}_anomaly", 0), (f"{pol}_anomaly_scene", 0)]
        terms += [(name, 0) for name in self.head.others]
        return (*terms, (f"{pol}_anomaly", 1)) if self.head.look_before else tuple(terms)

    def unseen(self, model: str) -> tuple[str, ...]:
        """Channels that only the head of ``model`` reads, and not its network."""
        if MODELS[model].head != "change":
            return ()
        names = dict.fromkeys(name for name, _ in self.head_terms())
        return tuple(name for name in names if name not in self.columns())

    def dynamic(self, model: str) -> tuple[str, ...]:
        """The features of ``model`` that change with the acquisition, in the tile's order."""
        return (*self.inputs.features, *self.unseen(model))

    @property
    def shipped(self) -> str:
        """The model ``fit`` makes."""
        return {"change": "change-lstm", "wcm": "wcm-lstm", "none": "kg-lstm"}[self.head.kind]


_Section = TypeVar("_Section")


def read_config(
    path: str | Path,
    table: str | Path | None = None,
    changes: Mapping[str, Mapping[str, Any]] | None = None,
) -> Config:
    """Read an experiment; ``table`` takes the place of the one it names.

    changes: section -> keys that take the place of the file's.
    UsageError names the file, the key and what it may be.
    """
    path = Path(path)
    raw = read_toml(path)
    for section, keys in (changes or {}).items():
        if not isinstance(keys, Mapping):
            raise UsageError(f"{path}: {section} must be a section to change")
        raw[section] = {**raw.get(section, {}), **keys}
    sections = {
        "data": Data,
        "inputs": Inputs,
        "wcm": WcmOptions,
        "head": HeadOptions,
        "network": Network,
        "training": Training,
        "crossval": CrossValidation,
    }
    for name in raw:
        if name not in sections:
            raise UsageError(f"{path}: unknown section [{name}]; known: {', '.join(sections)}")
    if table is not None:
        raw.setdefault("data", {})["table"] = str(Path(table).absolute())
    parts: dict[str, Any] = {
        name: _section(path, name, kind, raw.get(name, {})) for name, kind in sections.items()
    }
    config = Config(**parts, folder=path.parent, source=str(path))
    check(path, config)
    return config


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file; UsageError where it cannot be read or is none."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: cannot read the configuration ({error.strerror})") from None
    except (ValueError, RecursionError) as error:  # no TOML, no UTF-8, or nested without end
        raise UsageError(f"{path}: not a TOML file ({error})") from None


def as_json(config: Config) -> dict[str, Any]:
    """The experiment as plain JSON values, without where it was read from."""
    values = dataclasses.asdict(config)
    del values["folder"], values["source"]
    return {
        section: {k: list(v) if isinstance(v, tuple) else v for k, v in keys.items()}
        for section, keys in values.items()
    }


def _section(path: Path, name: str, kind: type[_Section], raw: dict[str, Any]) -> _Section:
    if not isinstance(raw, dict):
        raise UsageError(f"{path}: [{name}] must be a section")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        where = f"{path}: [{name}] {key}"
        if key not in hints:
            raise UsageError(f"{where}: unknown key; known: {', '.join(hints)}")
        values[key] = _value(hints[key], value, where)
    for item in dataclasses.fields(kind):  # type: ignore[arg-type]
        if item.name not in values and item.default is dataclasses.MISSING:
            raise UsageError(f"{path}: [{name}] {item.name} is required")
    return kind(**values)


def _value(want: Any, value: Any, where: str) -> Any:
    """A key's value as its type wants it; UsageError says what it should be."""
    if want == tuple[float, ...]:
        items = value if isinstance(value, list) else [value]
        if not all(isinstance(item, int | float) and item is not True for item in items):
            raise UsageError(f"{where}: {value!r} should be a number or a list of them")
        return tuple(float(item) for item in items)
    if want == tuple[str, ...]:
        if not (isinstance(value, list) and all(isinstance(item, str) for item in value)):
            raise UsageError(f"{where}: {value!r} should be a list of names")
        return tuple(value)
    if want is bool:
        if not isinstance(value, bool):
            raise UsageError(f"{where}: {value!r} should be true or false")
        return value
    if want is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, want) or isinstance(value, bool):
        raise UsageError(f"{where}: {value!r} should be of type {want.__name__}")
    return value
