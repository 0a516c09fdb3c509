"""Networks that were never trained, their cards and files, for tests and benchmarks."""

from __future__ import annotations

import dataclasses
import hashlib

import torch

import kgsm_infer
from kgsm_infer.kernels.head import readout_of
from kgsm_infer.kernels.wcm import Limits
from kgsm_infer.kernels.window import Layout
from kgsm_infer.model.card import Card, Channel
from kgsm_train.config import Network
from kgsm_train.export.files import with_card
from kgsm_train.export.graph import complete_graph, core_graph
from kgsm_train.learning.network import KnowledgeGuidedLSTM, LabelScale, WcmIsolation


def network_of(
    wcm, *, steps=4, dynamic=1, statics=2, members=2, hidden=6, sm_std=0.4, head=None, unseen=()
):
    """An untrained network with large weights, so that its outputs really vary.

    head: stands beside it; unseen: positions of channels only the head reads.
    """
    layout = Layout(
        steps,
        dynamic,
        statics,
        mean=(-15.0, *[0.3] * dynamic, *[5.0] * statics, 9.0),
        std=(3.0, *[0.2] * dynamic, *[2.0] * statics, 4.0),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = KnowledgeGuidedLSTM(
            WcmIsolation(wcm) if wcm else None,
            layout,
            Network(hidden=hidden, members=members, dropout=0.2),
            LabelScale(0.2, sm_std),
            head and readout_of(head, layout, channel_names(wcm, dynamic, statics)),
            unseen,
        )
        if head is not None:
            network.shrink = head.shrink
        for weights in network.parameters():
            if weights.dim() > 1:
                torch.nn.init.normal_(weights, std=0.7)
    return network.eval()


def channel_names(wcm, dynamic, statics) -> list[str]:
    """The scaled channels of a made network, in order."""
    names = ["soil_db" if wcm else "vh_db"]
    names += [f"d{i}" for i in range(dynamic)] + [f"s{i}" for i in range(statics)]
    return [*names, "gap_days"]


def card_of(network, head=None) -> Card:
    layout, isolation = network.layout, network.isolation
    names = channel_names(isolation, layout.dynamic, layout.statics)
    roles = ["backscatter"] + ["dynamic"] * layout.dynamic + ["static"] * layout.statics
    channels = zip(names, [*roles, "gap"], layout.mean, layout.std, strict=True)
    ranges = {"backscatter": (None, None), "gap": (0.0, 100.0)}
    return Card(
        kind="kg-lstm" if isolation else "lstm",
        polarisation="vh",
        steps=layout.steps,
        channels=tuple(
            Channel(n, "1", r, m, s, *ranges.get(r, (m - 30 * s, m + 30 * s)))
            for n, r, m, s in channels
        ),
        hidden=network.hidden,
        members=network.members.count,
        wcm=isolation.learnt if isolation else None,
        limits=Limits(),
        simulated=False,
        kgsm_version=kgsm_infer.__version__,
        head=head,
        created="2026-11-23T00:00:00+00:00",
    )


def write_pair(folder, network, card):
    """What export writes, for networks that were never trained."""
    graphs = {"complete": complete_graph(network, card), "core": core_graph(network, card)}
    digests = {
        role: hashlib.sha256(graph.graph.SerializeToString()).hexdigest()
        for role, graph in graphs.items()
    }
    card = dataclasses.replace(card, graph_sha256=digests)
    paths = {"complete": folder / "m.onnx", "core": folder / "m.core.onnx"}
    for role, graph in graphs.items():
        paths[role].write_bytes(with_card(graph, card))
    return paths
