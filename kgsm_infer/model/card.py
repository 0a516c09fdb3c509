"""The model card: kind, inputs, limits and validation of a model.

A card is JSON in the ONNX metadata key ``kgsm.card``; both files of a model carry the
same one. It pins the graph of each file by its sha256, so a file that was cut, edited
or swapped for another is refused, and each file names its sibling.

Formats: 3 adds heads of kind ``index`` and ``error_variances``; 2 has a range for every channel.
Both are read. Cards of format 1 have no ranges and are refused.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..base.errors import ModelError
from ..base.quantities import RETRIEVED, Quantity
from ..base.schema import build, parse_json
from ..context.definitions import WHOLE_ARCHIVE, HistoryRule
from ..kernels.domain import Domain, domain_of
from ..kernels.head import Head, Readout, readout_of
from ..kernels.wcm import Limits, Wcm
from ..kernels.window import Layout, bounded
from ..tables.columns import FROZEN_BY, VEGETATION
from .date_effect import variances_of
from .inputs import InputColumns
from .interval import interval_of

CARD_KEY = "kgsm.card"
CARD_FORMAT = 3
#: The oldest format that is read.
OLDEST_FORMAT = 2
KINDS = ("kg-lstm", "lstm")
ROLES = ("backscatter", "dynamic", "static", "gap")
#: A card has a few thousand characters, mostly its domain's points.
MOST_CHARACTERS = 4 * 2**20
#: As the C core has them (kgsm.h).
MOST_HIDDEN, MOST_MEMBERS, MOST_STEPS = 2**14, 2**10, 2**12
#: Largest absolute value of a parameter of the equations, in its own unit.
MOST_PARAMETER = 1e6


@dataclass(frozen=True)
class Channel:
    """One scaled channel of the LSTM's input.

    role: ``backscatter``, ``dynamic``, ``static`` or ``gap``.
    low, high: what an input can be, closed; beyond it the acquisition (of a static, the
        window) has no number. Of the gap, days: 0 and the longest in training, beyond which a
        number is outside the domain. None of the backscatter, whose range is in ``limits``.
    """

    name: str
    unit: str
    role: str
    mean: float
    std: float
    low: float | None = None
    high: float | None = None

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"role {self.role!r} is unknown; expected {', '.join(ROLES)}")
        if self.role == "backscatter":
            if self.low is not None or self.high is not None:
                raise ValueError(f"{self.name} has a range, which belongs into limits")
        elif self.low is None or self.high is None or not self.low < self.high:
            raise ValueError(f"{self.name} has no range low < high")


@dataclass(frozen=True)
class Card:
    """Everything an engine needs besides the weights, and the provenance of the model.

    kind: ``kg-lstm`` (WCM in front) or ``lstm`` (no WCM; ``wcm`` is None).
    polarisation: ``vh`` or ``vv``, the backscatter the first channel comes from.
    steps: T.  channels: the scaled channels in order; ``valid`` follows them.
    hidden, members: LSTM size and how many LSTMs are averaged.
    limits: physical ranges (also for a plain LSTM).
    quantity: ``sm``, soil moisture in m3 m-3, or ``wetness``, an index from 0 to 1; every output
        is named after it.
    head: the physics head added to the LSTM; None without one.
    history: which acquisitions a history is made of, and the typical place.
    interval: None, or offsets added to SM as :func:`kgsm_infer.model.interval.interval_of` reads
        them, for points and for field means. domain: None, or the domain reference.
    probes: None, or the variances a few sensors are weighed by (:mod:`kgsm_infer.probes`).
    error_variances: None, or of a label-free index the variances of its error, in units of the
        index: ``date`` (shared by a pass), ``field`` and ``point``, and ``source``.
    no_skill: why the model has no skill; empty where it has. Every number of such a
        model carries the flag ``no_skill``.
    validation, training_data: scores and provenance, plain JSON objects.
    simulated: True when any of the training data was simulated.
    graph_sha256: ``{"complete": ..., "core": ...}`` of the two files' graphs.
    """

    kind: str
    polarisation: str
    steps: int
    channels: tuple[Channel, ...]
    hidden: int
    members: int
    wcm: Wcm | None
    limits: Limits
    simulated: bool
    kgsm_version: str
    created: str
    graph_sha256: Mapping[str, str] = field(default_factory=dict)
    head: Head | None = None
    history: HistoryRule = WHOLE_ARCHIVE
    quantity: str = "sm"
    interval: Mapping[str, Any] | None = None
    domain: Mapping[str, Any] | None = None
    probes: Mapping[str, Any] | None = None
    error_variances: Mapping[str, Any] | None = None
    no_skill: str = ""
    validation: Mapping[str, Any] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    format: int = CARD_FORMAT

    @property
    def retrieves(self) -> Quantity:
        """The quantity of the model's values, with its name and unit."""
        return RETRIEVED[self.quantity]

    @property
    def pass_variances(self) -> Mapping[str, Any] | None:
        """The variances of the error of a pass on a new date, in the unit of the values squared.

        None where the card has none; read them with
        :func:`kgsm_infer.model.date_effect.variances_of`.
        """
        return self.probes if self.error_variances is None else self.error_variances

    @property
    def inputs(self) -> InputColumns:
        """The columns the model reads."""
        wcm = self.wcm
        return InputColumns(
            backscatter=f"{self.polarisation}_db",
            vegetation=wcm.vegetation_name if wcm else None,
            angle="angle_deg" if wcm and wcm.needs_angle else None,
            dynamic=self.names("dynamic"),
            statics=self.names("static"),
            optional=tuple(self.optional_columns),
        )

    def names(self, role: str) -> tuple[str, ...]:
        """Return channel names of one role, in order."""
        return tuple(channel.name for channel in self.channels if channel.role == role)

    def ranges(self, role: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return (low, high) of the channels of one role but the backscatter, in order."""
        pairs = [(c.low, c.high) for c in self.channels if c.role == role]
        low, high = np.asarray(pairs, np.float32).reshape(-1, 2).T
        return low, high

    def in_range(self, role: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return (..., k) values of a role, infinite where out of range: what follows takes
        that for ``input_out_of_range``. Every engine and the training read inputs through this."""
        return bounded(values, *self.ranges(role))

    @property
    def longest_gap_days(self) -> float:
        """The longest gap between two acquisitions that training had."""
        return float(self.ranges("gap")[1][0])

    @property
    def optional_columns(self) -> tuple[str, ...]:
        """Columns that are read where they are present, and are not an input.

        Frozen soil and snow of every model; dense vegetation of a label-free index.
        """
        dense = VEGETATION if _has_index(self) else ()
        return (*FROZEN_BY, *dense)

    @cached_property
    def layout(self) -> Layout:
        """Sizes and scaling of the input tile."""
        return Layout(
            steps=self.steps,
            dynamic=len(self.names("dynamic")),
            statics=len(self.names("static")),
            mean=tuple(channel.mean for channel in self.channels),
            std=tuple(channel.std for channel in self.channels),
        )

    @property
    def readout(self) -> Readout | None:
        """The head on the scaled tile, None without one."""
        if self.head is None:
            return None
        return readout_of(self.head, self.layout, [channel.name for channel in self.channels])

    def to_json(self) -> str:
        """Return the card as one JSON object with stable key order; NaN is not allowed in it."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False)


class GraphInput(NamedTuple):
    """One input of a graph, float32. shape: sizes, ``N`` where it is free."""

    name: str
    shape: tuple[int | str, ...]
    unit: str


def graph_inputs(card: Card, role: str) -> tuple[GraphInput, ...]:
    """Return the inputs of the complete graph (windows of T acquisitions, NaN where missing) or of
    the core graph (the packed tile), in order. The export makes graphs by them."""
    if role == "core":
        shape = (card.steps, "N", card.layout.channels)
        return (GraphInput("tile", shape, "packed LSTM input"),)
    wcm, dynamic, statics = card.wcm, card.names("dynamic"), card.names("static")
    plane = ("N", card.steps)
    found = [GraphInput("sigma0_db", plane, "dB")]
    if wcm is not None:
        name = wcm.vegetation_name
        found.append(GraphInput(name, plane, "1" if name == "ndvi" else "kg m-2"))
        if wcm.needs_angle:
            found.append(GraphInput("angle_deg", plane, "degrees, incidence"))
    found.append(GraphInput("day", plane, "days, any origin; NaN is padding"))
    if dynamic:
        found.append(GraphInput("features", (*plane, len(dynamic)), ", ".join(dynamic)))
    if statics:
        found.append(GraphInput("statics", ("N", len(statics)), ", ".join(statics)))
    return tuple(found)


def graph_outputs(card: Card, role: str) -> tuple[str, ...]:
    """Return the names of a graph's outputs, in order."""
    if role == "core":
        return ("sm",)
    ends = () if card.interval is None else ("sm_lower", "sm_upper")
    return ("sm", "soil_db", "flags", *ends)


def card_from_json(text: str, source: str) -> Card:
    """Read and check a card; ModelError names ``source`` and what is wrong."""

    def refuse(reason: str) -> ModelError:
        return ModelError(f"{source}: {reason}")

    if len(text) > MOST_CHARACTERS:
        raise refuse(f"its model card is larger than {MOST_CHARACTERS >> 20} MiB")
    try:
        raw = parse_json(text)
    except ValueError as error:
        raise refuse(f"its model card is not JSON ({error})") from None
    number = raw.get("format") if isinstance(raw, dict) else None
    if not isinstance(number, int) or isinstance(number, bool):
        raise refuse("its model card has no format number; not a kgsm model")
    if number > CARD_FORMAT:
        raise refuse(
            f"its model card has format {number:.6g}, this kgsm reads format {CARD_FORMAT}; "
            "update kgsm"
        )
    if number < OLDEST_FORMAT:
        raise refuse(
            f"its model card has format {number:.6g}, of an older kgsm, without the ranges of "
            "its inputs; export the model again"
        )
    try:
        card = build(Card, raw)
        _check(card)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        raise refuse(f"its model card is inconsistent ({error})") from None
    return card


def _check(card: Card) -> None:  # noqa: C901  one rule after another, none inside another
    """Raise ValueError where a card contradicts itself."""
    if card.kind not in KINDS:
        raise ValueError(f"kind {card.kind[:40]!r} is unknown; expected {', '.join(KINDS)}")
    if (card.wcm is None) != (card.kind == "lstm"):
        raise ValueError(f"kind {card.kind!r} {'without' if card.wcm is None else 'with'} a WCM")
    if card.format < CARD_FORMAT and (card.error_variances is not None or _has_index(card)):
        raise ValueError(f"format {card.format} has no head of kind index")
    if card.quantity not in RETRIEVED:
        raise ValueError(
            f"quantity {card.quantity[:40]!r} is unknown; expected {', '.join(RETRIEVED)}"
        )
    if card.polarisation not in ("vh", "vv"):
        raise ValueError(f"polarisation {card.polarisation[:40]!r} is neither vh nor vv")
    roles = [channel.role for channel in card.channels]
    if roles != sorted(roles, key=ROLES.index) or roles.count("backscatter") != 1:
        raise ValueError(f"channel roles out of order: {', '.join(roles)}")
    if roles.count("gap") != 1:
        raise ValueError("exactly one gap channel is expected")
    names = [channel.name for channel in card.channels]
    if len(set(names)) != len(names):
        raise ValueError("two channels of one name")
    for name, most in (("steps", MOST_STEPS), ("hidden", MOST_HIDDEN), ("members", MOST_MEMBERS)):
        if not 1 <= getattr(card, name) <= most:
            raise ValueError(f"{name} is {getattr(card, name)}, expected 1 to {most}")
    if set(card.graph_sha256) != {"complete", "core"}:
        raise ValueError("graph_sha256 must name both files")
    if card.interval is not None:
        interval_of(card.interval, card.names("dynamic"))  # raises where it cannot be one
    if card.domain is not None:
        build(tuple[tuple[float, ...], ...], card.domain["points"], "domain.points")
        for key in ("mean_distance", "threshold"):
            build(float, card.domain[key], f"domain.{key}")
    if card.probes is not None:
        variances_of(card.probes)  # raises where they cannot be
    if card.error_variances is not None:
        variances_of(card.error_variances, "error_variances")
    if not isinstance(card.no_skill, str):
        raise ValueError("no_skill is not a sentence")
    card_domain(card)  # raises where it cannot be one
    _check_numbers(card)
    if not card.layout.channels == len(card.channels) + 1:  # the layout checks the scaling
        raise ValueError("channels and scaling do not fit")
    _ = card.readout  # raises where the head names a channel that is not there


def _check_numbers(card: Card) -> None:
    """Raise ValueError where a number of the equations cannot be one.

    Limits of the retrieved quantity lie within 0..1; parameters are finite and at most
    MOST_PARAMETER; ranges of channels are in float32's range.
    """
    low, high = card.limits.sm
    if not 0 <= low < high <= 1:
        raise ValueError(f"limits.sm {low:g} to {high:g} do not lie within 0..1")
    parts = {"limits": card.limits, "wcm": card.wcm, "head": card.head}
    for name, part in parts.items():
        for path, number in _numbers_in(name, part and dataclasses.asdict(part)):
            if not abs(number) <= MOST_PARAMETER:
                raise ValueError(f"{path} is {number:g}; expected at most {MOST_PARAMETER:g}")
    largest = float(np.finfo(np.float32).max)
    for channel in card.channels:
        for end in (channel.low, channel.high):
            if end is not None and not abs(end) <= largest:
                raise ValueError(f"range of {channel.name} ends at {end:g}, beyond float32")
    if card.readout is not None:
        largest_weight = max(np.abs(card.readout.weight).max(), abs(card.readout.bias))
        if not largest_weight <= MOST_PARAMETER:
            raise ValueError(f"the head has a weight of {largest_weight:g}")
    domain = card_domain(card)
    if domain is not None and np.abs(domain.points).max() > MOST_PARAMETER:
        raise ValueError(f"domain.points has a number above {MOST_PARAMETER:g}")
    _check_scores(card.validation)


def _numbers_in(path: str, value: Any) -> Iterator[tuple[str, float]]:
    """Return every number of a nested value, with its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _numbers_in(f"{path}.{key}", item)
    elif isinstance(value, (list, tuple)):
        for at, item in enumerate(value):
            yield from _numbers_in(f"{path}[{at}]", item)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, float(value)


def _check_scores(validation: Mapping[str, Any]) -> None:
    """Raise ValueError where scores are not objects: ``other`` and each regime in it."""
    other = validation.get("other")
    if other is None:
        return
    if not isinstance(other, Mapping) or not all(isinstance(s, Mapping) for s in other.values()):
        raise ValueError("validation.other must be an object of objects")


def _has_index(card: Card) -> bool:
    return card.head is not None and card.head.kind == "index"


def card_domain(card: Card) -> Domain | None:
    """Return the card's domain reference: the target step's channels but the gap; None without."""
    return None if card.domain is None else domain_of(card.domain, len(card.channels) - 1)
