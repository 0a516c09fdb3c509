"""Make the model file that kgsm ships: the label-free wetness index.

    python -m kgsm_train.export.wetness FOLDER

:mod:`kgsm_infer.model.index` has the equations. The file has the form of every other one, so
every engine, map and paddock command reads it: a head of kind ``index`` with two terms of one half
each, beside an LSTM of one unit without weights.

No label of a field that the index is scored on enters the file, except in ``error_variances``,
which change no value of the index. The typical place is that of French fields, looks of days above
5 degrees Celsius (``python benchmarks/typical_place.py`` prints it): 10 log10 of the mean linear
power, and the standard deviation over places and dates, because a new place differs by both.
"""

from __future__ import annotations

import sys
from pathlib import Path

import kgsm_infer
from kgsm_infer.context.definitions import HistoryRule, Typical
from kgsm_infer.kernels.head import Head, Term, readout_of
from kgsm_infer.kernels.wcm import Limits
from kgsm_infer.kernels.window import Layout
from kgsm_infer.model.card import Card, Channel
from kgsm_infer.tables.columns import range_of

from ..learning.network import KnowledgeGuidedLSTM, head_alone
from .files import Exported, write_files

TERMS = ("vh_anomaly", "vh_anomaly_fields")
TYPICAL = Typical(looks=3.0, usual_db=-16.8, swing_db=3.3)
#: Physical range of VH, dB: 0 dB and more is a building or a fill value.
VH_DB = (-60.0, -1e-4)
#: Of the index's error, index units squared; ``kgsm-train index-score`` prints them.
ERROR_VARIANCES = {
    "date": 0.0234,
    "field": 0.0257,
    "point": 0.0412,
    "unit": "index, 0 to 1",
    "limits": [0.05, 0.40],
    "source": "Anand, Gujarat: 20 fields, 14 dates, 1,079 labels of soil moisture (m3 m-3) between "
    "the limits .05 and .40; pass by pass; these fields' labels enter nothing else in this file",
}


def wetness_network() -> tuple[KnowledgeGuidedLSTM, Card]:
    """Build the network without weights and its card, the graphs' sha256 still missing."""
    head = Head("index", 0.0, tuple(Term(name, 0, 0.5) for name in TERMS), 0.0, (0.0, 1.0))
    scaled = 1 + len(TERMS) + 1
    layout = Layout(1, len(TERMS), 0, mean=(0.0,) * scaled, std=(1.0,) * scaled)
    names = ["vh_db", *TERMS, "gap_days"]
    network = head_alone(layout, readout_of(head, layout, names))
    card = Card(
        kind="lstm",
        polarisation="vh",
        steps=1,
        channels=(
            Channel("vh_db", "dB", "backscatter", 0.0, 1.0),
            *(Channel(name, "1", "dynamic", 0.0, 1.0, *_range(name)) for name in TERMS),
            Channel("gap_days", "day", "gap", 0.0, 1.0, 0.0, 366.0),
        ),
        hidden=1,
        members=1,
        wcm=None,
        limits=Limits(sigma0_db=VH_DB, sm=(0.0, 1.0)),
        simulated=False,
        kgsm_version=kgsm_infer.__version__,
        created="2026-11-30T00:00:00+00:00",
        head=head,
        history=HistoryRule("past", {"vh": TYPICAL}),
        quantity="wetness",
        error_variances=ERROR_VARIANCES,
        training_data={
            "name": "none: nothing is fitted",
            "licence": "MIT",
            "samples": 0,
            "sites": 0,
        },
    )
    return network, card


def _range(name: str) -> tuple[float, float]:
    low_high = range_of(name)
    assert low_high is not None, f"{name} is a column of the contract"
    return low_high


def write_wetness(folder: str | Path) -> Exported:
    """Write ``wetness.onnx`` and ``wetness.core.onnx`` into ``folder``, proven as every export."""
    network, card = wetness_network()
    return write_files(network, card, Path(folder), "wetness")


if __name__ == "__main__":
    print(write_wetness(sys.argv[1]).complete)
