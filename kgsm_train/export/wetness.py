"""The model file that kgsm ships: the label-free wetness index (:mod:`kgsm_infer.model.index`).

    python -m kgsm_train.export.wetness FOLDER

Nothing in it is fitted. It has the form of every other file, so that every engine, map and
paddock takes it: a head of two terms of one half each, beside an LSTM of one unit without
weights. NDVI is read for the flag of dense vegetation alone: with B = 0 none is taken out.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

import kgsm_infer
from kgsm_infer.context.definitions import HistoryRule
from kgsm_infer.kernels.head import Head, Term, readout_of
from kgsm_infer.kernels.wcm import Limits, Wcm, default_limits
from kgsm_infer.kernels.window import Layout
from kgsm_infer.model.card import Card, Channel
from kgsm_infer.tables.columns import range_of

from ..learning.network import KnowledgeGuidedLSTM
from .files import Exported, write_files

TERMS = ("vh_between", "vh_between_scene")


def wetness_network() -> tuple[KnowledgeGuidedLSTM, Card]:
    """The network without weights, and its card; the sha256 of its graphs are still to come."""
    limits = default_limits("foliage")
    wcm = Wcm(a=0.02, b=0.0, limits=limits)
    head = Head("change", 0.0, tuple(Term(name, 0, 0.5) for name in TERMS), 0.0)
    scaled = 1 + len(TERMS) + 1
    layout = Layout(1, len(TERMS), 0, mean=(0.0,) * scaled, std=(1.0,) * scaled)
    names = ["soil_db", *TERMS, "gap_days"]
    network = KnowledgeGuidedLSTM(
        wcm,
        layout,
        hidden=1,
        members=1,
        dropout=0.0,
        sm_mean=0.0,
        sm_std=1.0,
        readout=readout_of(head, layout, names),
    )
    with torch.no_grad():
        for name, weights in network.named_parameters():
            if not name.startswith("isolation."):
                weights.zero_()
    network.shrink = 0.0
    card = Card(
        kind="kg-lstm",
        polarisation="vh",
        steps=1,
        channels=(
            Channel("soil_db", "dB", "backscatter", 0.0, 1.0),
            *(Channel(name, "1", "dynamic", 0.0, 1.0, *_range(name)) for name in TERMS),
            Channel("gap_days", "day", "gap", 0.0, 1.0, 0.0, 366.0),
        ),
        hidden=1,
        members=1,
        wcm=wcm,
        limits=Limits(dense_vwc_kg_m2=limits.dense_vwc_kg_m2, sm=(0.0, 1.0)),
        simulated=False,
        kgsm_version=kgsm_infer.__version__,
        created="2026-11-25T00:00:00+00:00",
        head=head,
        history=HistoryRule("all"),
        quantity="wetness",
        training_data={
            "name": "none: nothing is fitted",
            "licence": "MIT",
            "samples": 0,
            "sites": 0,
        },
    )
    return network.eval(), card


def _range(name: str) -> tuple[float, float]:
    low_high = range_of(name)
    assert low_high is not None, f"{name} is a column of the contract"
    return low_high


def write_wetness(folder: str | Path) -> Exported:
    """Write ``wetness.onnx`` and ``wetness.core.onnx``, proven as every export is."""
    network, card = wetness_network()
    return write_files(network, card, Path(folder), "wetness")


if __name__ == "__main__":
    print(write_wetness(sys.argv[1]).complete)
