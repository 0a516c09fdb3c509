"""List of the models that are compared: name, title and inputs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ComparedModel:
    """One model of a cross-validation.

    name: as configurations and files write it.  title: as tables and figures write it.
    reads: ``soil`` (vegetation out of the backscatter, and features), ``radar`` (backscatter
        as it is, and features), ``no-radar`` (features that are not made of backscatter) or
        ``nothing`` (labels and dates alone).
    network: trained by gradient, with early stopping.
    reference: knows what no model may, labels of the day it predicts or the simulator's truth.
    head: kind of its physics head (``index``, ``change``, ``wcm``); empty without one.
    usual: compared by a configuration that names no models.
    """

    name: str
    title: str
    reads: str
    network: bool = False
    reference: bool = False
    head: str = ""
    usual: bool = True


#: In the order of tables and figures. The networks come last.
MODELS: Mapping[str, ComparedModel] = {
    model.name: model
    for model in (
        ComparedModel("mean", "Site-blind mean", "nothing"),
        ComparedModel("same-date-mean", "Same-date mean", "nothing", reference=True),
        ComparedModel(
            "oracle",
            "Oracle that knows the forward model, one look",
            "nothing",
            reference=True,
            usual=False,
        ),
        ComparedModel("wetness", "Wetness index, no label (.05 to .40)", "nothing", usual=False),
        ComparedModel("wcm", "WCM", "soil"),
        ComparedModel("index", "Fitted index", "radar", head="index", usual=False),
        ComparedModel("change", "Change detection", "radar", head="change", usual=False),
        ComparedModel("ridge-radar", "Ridge, backscatter alone", "radar"),
        ComparedModel("ridge", "Ridge", "radar"),
        ComparedModel("ridge-no-radar", "Ridge, no radar", "no-radar"),
        ComparedModel("forest", "Random forest", "radar"),
        ComparedModel("extra-trees", "Extra trees", "radar"),
        ComparedModel("forest-no-radar", "Random forest, no radar", "no-radar"),
        ComparedModel("lstm-no-radar", "LSTM, no radar", "no-radar", network=True),
        ComparedModel("lstm", "LSTM", "radar", network=True),
        ComparedModel("kg-lstm", "KG-LSTM", "soil", network=True),
        ComparedModel("wcm-lstm", "WCM + LSTM", "soil", network=True, head="wcm", usual=False),
        ComparedModel(
            "change-kg-lstm",
            "Change detection + KG-LSTM",
            "soil",
            network=True,
            head="change",
            usual=False,
        ),
        ComparedModel(
            "index-lstm", "Fitted index + LSTM", "radar", network=True, head="index", usual=False
        ),
        ComparedModel(
            "change-lstm",
            "Change detection + LSTM",
            "radar",
            network=True,
            head="change",
            usual=False,
        ),
    )
}


def title(name: str) -> str:
    """Return the title of a model for tables and figures.

    >>> title("kg-lstm"), title("same-date-mean")
    ('KG-LSTM', 'Same-date mean (reference)')
    """
    model = MODELS[name]
    return model.title + (" (reference)" if model.reference else "")
