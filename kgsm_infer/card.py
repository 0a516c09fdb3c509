"""The model card: what a model is, what it reads and how far it can be trusted.

A card is JSON in the ONNX metadata key ``kgsm.card``; both files of a model carry the
same one. It pins the graph of each file by its sha256, so a file that was cut, edited
or swapped for another is refused, and each file names its sibling.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .context import WHOLE_ARCHIVE, HistoryRule, Typical
from .errors import ModelError
from .interval import interval_of
from .kernels.domain import Domain, domain_of
from .kernels.head import Head, Readout, Term, readout_of
from .kernels.wcm import Limits, Wcm
from .kernels.window import Layout

CARD_KEY = "kgsm.card"
CARD_FORMAT = 1
KINDS = ("kg-lstm", "lstm")


@dataclass(frozen=True)
class Channel:
    """One scaled channel of the LSTM's input.

    role: ``backscatter``, ``dynamic``, ``static`` or ``gap``.
    """

    name: str
    unit: str
    role: str
    mean: float
    std: float


@dataclass(frozen=True)
class Card:
    """Everything an engine needs besides the weights, and everything a reader asks.

    kind: ``kg-lstm`` (WCM in front) or ``lstm`` (no WCM; ``wcm`` is None).
    polarisation: ``vh`` or ``vv``, the backscatter the first channel comes from.
    steps: T.  channels: the scaled channels in order; ``valid`` follows them.
    hidden, members: LSTM size and how many LSTMs are averaged.
    limits: physical ranges (also for a plain LSTM).
    head: the physics head beside the LSTM; None where the LSTM stands alone.
    history: which acquisitions a history is made of, and the typical place.
    interval: None, or offsets added to SM as :func:`kgsm_infer.interval.interval_of` reads them,
        for points and for field means. domain: None, or the domain reference.
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
    interval: Mapping[str, Any] | None = None
    domain: Mapping[str, Any] | None = None
    validation: Mapping[str, Any] = field(default_factory=dict)
    training_data: Mapping[str, Any] = field(default_factory=dict)
    format: int = CARD_FORMAT

    def names(self, role: str) -> tuple[str, ...]:
        """Channel names of one role, in order."""
        return tuple(channel.name for channel in self.channels if channel.role == role)

    @property
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
        """The card as one JSON object with stable key order; NaN is not allowed in it."""
        return json.dumps(dataclasses.asdict(self), indent=1, sort_keys=True, allow_nan=False)


def card_from_json(text: str, source: str) -> Card:
    """Read and check a card; ModelError names ``source`` and what is wrong."""

    def refuse(reason: str) -> ModelError:
        return ModelError(f"{source}: {reason}")

    try:
        raw = json.loads(text)
    except ValueError as error:
        raise refuse(f"its model card is not JSON ({error})") from None
    if not isinstance(raw, dict) or not isinstance(raw.get("format"), int):
        raise refuse("its model card has no format number; not a kgsm model")
    if raw["format"] > CARD_FORMAT:
        raise refuse(
            f"its model card has format {raw['format']}, this kgsm reads up to "
            f"{CARD_FORMAT}; update kgsm"
        )
    try:
        card = _build(raw)
    except (TypeError, ValueError, KeyError) as error:
        raise refuse(f"its model card is inconsistent ({error})") from None
    return card


def _build(raw: dict[str, Any]) -> Card:
    known = {item.name for item in dataclasses.fields(Card)}
    values = {key: value for key, value in raw.items() if key in known}
    values["channels"] = tuple(Channel(**channel) for channel in raw["channels"])
    values["limits"] = _limits(raw["limits"])
    if raw["wcm"] is not None:
        values["wcm"] = Wcm(**{**raw["wcm"], "limits": _limits(raw["wcm"]["limits"])})
    if raw.get("head") is not None:
        terms = tuple(Term(**term) for term in raw["head"]["terms"])
        values["head"] = Head(**{**raw["head"], "terms": terms})
    if "history" in raw:  # a card of before there was a choice has none
        typical = {name: Typical(**place) for name, place in raw["history"]["typical"].items()}
        values["history"] = HistoryRule(raw["history"]["span"], typical)
    card = Card(**values)
    if card.kind not in KINDS:
        raise ValueError(f"kind {card.kind!r} is none of {', '.join(KINDS)}")
    if (card.wcm is None) != (card.kind == "lstm"):
        raise ValueError(f"kind {card.kind!r} {'without' if card.wcm is None else 'with'} a WCM")
    if card.polarisation not in ("vh", "vv"):
        raise ValueError(f"polarisation {card.polarisation!r} is neither vh nor vv")
    roles = [channel.role for channel in card.channels]
    order = ["backscatter", "dynamic", "static", "gap"]
    if roles != sorted(roles, key=order.index) or roles.count("backscatter") != 1:
        raise ValueError(f"channel roles out of order: {', '.join(roles)}")
    if roles.count("gap") != 1:
        raise ValueError("exactly one gap channel is expected")
    if not (isinstance(card.simulated, bool) and card.hidden > 0 and card.members > 0):
        raise ValueError("simulated, hidden or members is not what it should be")
    if set(card.graph_sha256) != {"complete", "core"}:
        raise ValueError("graph_sha256 must name both files")
    if card.interval is not None:
        interval_of(card.interval, card.names("dynamic"))  # raises where it cannot be one
    card_domain(card)  # raises where it cannot be one
    if not card.layout.channels == len(card.channels) + 1:  # the layout checks the scaling
        raise ValueError("channels and scaling do not fit")
    _ = card.readout  # raises where the head names a channel that is not there
    return card


def card_domain(card: Card) -> Domain | None:
    """The card's domain reference: the target step's channels but the gap; None without."""
    return None if card.domain is None else domain_of(card.domain, len(card.channels) - 1)


def _limits(raw: dict[str, Any]) -> Limits:
    values: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in raw.items()
    }
    return Limits(**values)
