"""Export a trained network to two verified ONNX files with one card.

Files are written only if torch, the complete graph, the core graph with C packing and the ONNX
reference evaluator agree, on random inputs and on invalid ones.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper
from onnx.reference import ReferenceEvaluator

import kgsm_infer
from kgsm_infer.base import flags
from kgsm_infer.base.errors import ModelError
from kgsm_infer.base.files import workshop, write_whole
from kgsm_infer.kernels.domain import Domain
from kgsm_infer.kernels.wcm import Limits, isolate
from kgsm_infer.kernels.window import check_history
from kgsm_infer.model.card import CARD_KEY, Card, Channel
from kgsm_infer.model.engines import GraphEngine
from kgsm_infer.model.model import Model, load
from kgsm_infer.model.observations import Observations
from kgsm_infer.model.onnx_reader import read_model_file, sealed
from kgsm_infer.model.result import Retrieval
from kgsm_infer.tables.columns import range_of

from ..config import Config, as_json
from ..learning.network import KnowledgeGuidedLSTM
from ..learning.samples import Samples, Source, complete_rows
from ..learning.training import Trained, estimate
from .graph import complete_graph, core_graph

#: Engines may differ by this much in SM, m3 m-3 (design §5).
TOLERANCE = 1e-5
UNITS = {"ndvi": "1", "angle_deg": "degree", "vwc_kg_m2": "kg m-2", "temp_c": "degree_Celsius"}


@dataclass(frozen=True)
class Proof:
    """Largest difference in SM between the engines, m3 m-3, over a number of windows."""

    worst_difference: float
    windows: int


@dataclass(frozen=True)
class Exported:
    """Paths of the files, and the proof that the engines agree on them."""

    complete: Path
    core: Path
    card: Path
    proof: Proof


@dataclass(frozen=True)
class Evidence:
    """Validation results of a model, as the card writes them.

    no_skill: reason for the flag ``no_skill``; empty for a model with skill.
    domain: reference of the training data for the flag ``outside_domain``.
    """

    validation: Mapping[str, Any] = field(default_factory=dict)
    interval: Mapping[str, Any] | None = None
    probes: Mapping[str, float] | None = None
    no_skill: str = ""
    domain: Domain | None = None


def export(
    trained: Trained, config: Config, source: Source, evidence: Evidence, folder: str | Path
) -> Exported:
    """Write ``model.onnx``, ``model.core.onnx`` and ``card.json`` into ``folder``.

    ModelError, and no file, if the engines disagree.
    """
    card = make_card(trained, config, source, evidence)
    return write_files(trained.network, card, Path(folder), "model")


def write_files(network: KnowledgeGuidedLSTM, card: Card, folder: Path, name: str) -> Exported:
    """Write and verify the two files of a network and its card; see :func:`export`."""
    folder.mkdir(parents=True, exist_ok=True)
    graphs = {
        "complete": complete_graph(network, card),
        "core": core_graph(network, card),
    }
    digests = {
        role: hashlib.sha256(model.graph.SerializeToString()).hexdigest()
        for role, model in graphs.items()
    }
    card = dataclasses.replace(card, graph_sha256=digests)
    names = {"complete": f"{name}.onnx", "core": f"{name}.core.onnx"}
    with workshop(folder) as part:
        for role, model in graphs.items():
            content = with_card(model, card)
            if read_model_file(content).role != role:
                raise ModelError(f"{names[role]}: the card does not describe the graph written")
            (part / names[role]).write_bytes(content)
        proof = prove(network, part / names["complete"])
        # each file is valid alone, so an interruption between the two leaves valid models
        for file in names.values():
            with write_whole(folder / file, "wb") as out:
                out.write((part / file).read_bytes())
    with write_whole(folder / "card.json") as out:
        out.write(card.to_json() + "\n")
    return Exported(folder / names["complete"], folder / names["core"], folder / "card.json", proof)


def with_card(model: onnx.ModelProto, card: Card) -> bytes:
    """Serialise a graph with its card as metadata, and append the seal."""
    helper.set_model_props(model, {CARD_KEY: card.to_json()})
    return sealed(model.SerializeToString())


def make_card(trained: Trained, config: Config, source: Source, evidence: Evidence) -> Card:
    """Make the card of a trained network, without the sha256 of its graphs."""
    domain = evidence.domain
    days = source.table.date[np.isfinite(source.label)].astype("datetime64[D]")
    wcm, layout = trained.wcm, trained.network.layout
    pol = config.inputs.polarisation
    names: list[tuple[str, str, str]] = [
        ("soil_db" if wcm else f"{pol}_db", "dB", "backscatter"),
        *((name, _unit(name), "dynamic") for name in trained.dynamic),
        *((name, _unit(name), "static") for name in trained.statics),
        ("gap_days", "day", "gap"),
    ]
    return Card(
        kind="kg-lstm" if wcm else "lstm",
        polarisation=pol,
        steps=layout.steps,
        channels=tuple(
            Channel(name, unit, role, mean, std, *_range(name, role, seen, std))
            for (name, unit, role), mean, std, seen in zip(
                names, layout.mean, layout.std, trained.seen, strict=True
            )
        ),
        hidden=trained.network.hidden,
        members=trained.network.members.count,
        wcm=wcm,
        limits=wcm.limits if wcm else Limits(),
        head=trained.head,
        history=trained.history,
        simulated=source.simulated,
        kgsm_version=kgsm_infer.__version__,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        interval=evidence.interval,
        probes=evidence.probes,
        no_skill=evidence.no_skill,
        domain=None
        if domain is None
        else {
            "method": "dissimilarity index, area of applicability (Meyer & Pebesma 2021)",
            "points": [[round(float(x), 4) for x in point] for point in domain.points],
            "mean_distance": domain.mean_distance,
            "threshold": domain.threshold,
        },
        validation=dict(evidence.validation),
        training_data={
            "name": Path(config.data.table).name,
            "sha256": source.sha256,
            "licence": config.data.licence,
            "samples": trained.samples,
            "sites": len(np.unique(source.table.site)),
            "first": str(source.table.date.min()),
            "last": str(source.table.date.max()),
            "dates": [str(day) for day in np.unique(days)],
            "lost_share": trained.lost_share,
            "config": as_json(config),
        },
    )


def _range(
    name: str, role: str, seen: tuple[float, float], std: float
) -> tuple[float | None, float | None]:
    """Return the valid range of a channel's input.

    A column with a range in the table contract uses that range. Other columns use the range in
    training, extended by its width on both sides.
    """
    if role == "backscatter":
        return None, None  # the card's limits have it
    low, high = seen
    if role == "gap":  # one day more: passes of one orbit differ by some seconds
        return 0.0, high + 1.0
    margin = max(high - low, std)
    return range_of(name) or (low - margin, high + margin)


def prove(network: KnowledgeGuidedLSTM, complete: Path) -> Proof:
    """Compare torch, both files and the reference evaluator.

    ModelError if SM differs by more than TOLERANCE, or any flag or NaN differs.
    """
    model = load(complete, engine="onnxruntime")
    core_path = complete.with_name(complete.name.removesuffix(".onnx") + ".core.onnx")
    core = load(core_path, engine="onnxruntime")
    native = load(core_path, engine="native")
    reference = ReferenceEvaluator(onnx.load(complete))
    worst, windows = 0.0, 0
    for observed, rows in _trials(model.card):
        statics = observed.statics[rows[:, -1]]
        results = {
            "complete graph": model.estimate(observed, rows, statics),
            "core graph with C packing": core.estimate(observed, rows, statics),
            "native engine": native.estimate(observed, rows, statics),
            "reference evaluator": _reference(model, reference, observed, rows, statics),
        }
        first = results["complete graph"]
        for engine, result in results.items():
            worst = max(worst, _difference(first.sm, result.sm, engine))
            # within rounding of a limit either result is right
            at_limit = np.isin(np.round(first.sm, 4), np.round(model.card.limits.sm, 4))
            differ = (first.flags ^ result.flags) & ~(at_limit * flags.SM_CLIPPED) != 0
            if differ.any():
                at = int(np.flatnonzero(differ)[0])
                raise ModelError(
                    f"export not proven: {engine} flags window {at} as "
                    f"{flags.names(result.flags[at])!r}, the complete graph as "
                    f"{flags.names(first.flags[at])!r}"
                )
        in_torch = _in_torch(network, model.card, observed, rows)
        worst = max(worst, _difference(first.sm, in_torch, "torch"))
        windows += len(rows)
    return Proof(worst, windows)


def _difference(expected: NDArray[np.float32], got: NDArray[np.float32], engine: str) -> float:
    if not np.array_equal(np.isnan(expected), np.isnan(got)):
        raise ModelError(f"export not proven: {engine} puts NaN elsewhere than the complete graph")
    largest = float(np.nanmax(np.abs(expected - got), initial=0.0))
    if not largest <= TOLERANCE:
        raise ModelError(f"export not proven: {engine} differs by {largest:.2e} in SM")
    return largest


def _in_torch(
    network: KnowledgeGuidedLSTM, card: Card, observed: Observations, rows: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Estimate the windows with the torch network."""
    count = len(observed.day)
    rows, _ = check_history(rows, observed.day, card.longest_gap_days)
    observed = dataclasses.replace(
        observed,
        dynamic=card.in_range("dynamic", observed.dynamic),
        statics=card.in_range("static", observed.statics),
    )
    samples = Samples(
        observed=observed,
        rows=rows,
        sm=np.full(count, np.nan, np.float32),
        group=np.zeros(count, np.str_),
        complete=complete_rows(observed, card.wcm),
        wcm_class=np.full(count, "all"),
    )
    return estimate(network, samples, np.arange(len(rows)))


def _reference(
    model: Model,
    evaluator: ReferenceEvaluator,
    observed: Observations,
    rows: NDArray[np.int64],
    statics: NDArray[np.float32],
) -> Retrieval:
    """Run the complete graph in ONNX's reference implementation."""

    class Session:  # the part of onnxruntime that GraphEngine calls
        @staticmethod
        def run(outputs: list[str], feed: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
            with np.errstate(all="ignore"):
                return list(evaluator.run(outputs, feed))

    on_reference = dataclasses.replace(model, runs_on=GraphEngine(model.card, Session()))
    return on_reference.estimate(observed, rows, statics)


def _trials(card: Card) -> list[tuple[Observations, NDArray[np.int64]]]:
    """Draw random windows, windows with missing and invalid inputs, and a batch of one."""
    rng = np.random.default_rng(0)
    n = 64
    plain = _random_observations(card, n * card.steps, rng)
    rows = np.arange(n * card.steps).reshape(n, card.steps)
    nasty = _spoil(_random_observations(card, n * card.steps, rng), rng)
    padded = np.where(np.arange(card.steps) < rng.integers(0, card.steps, (n, 1)), -1, rows)
    return [(plain, rows), (plain, rows[:1]), (nasty, rows), (plain, padded), (nasty, padded)]


def _random_observations(card: Card, r: int, rng: np.random.Generator) -> Observations:
    wcm = card.wcm
    by_role = {role: [c for c in card.channels if c.role == role] for role in ("dynamic", "static")}

    def columns(role: str) -> NDArray[np.float32]:
        low, high = card.ranges(role)
        values = [rng.normal(c.mean, c.std, r) for c in by_role[role]]
        if not values:
            return np.zeros((r, 0), np.float32)
        return np.clip(np.stack(values, 1).astype(np.float32), low, high)

    def plane(low: float, high: float) -> NDArray[np.float32]:
        return rng.uniform(low, high, r).astype(np.float32)

    sigma0_db = plane(-24.0, -8.0)  # low enough for some soil_signal_lost
    vegetation = angle_deg = None
    if wcm is not None:
        vegetation = plane(0.0, 0.9 if wcm.vwc_rule == "foliage" else 4.0)
        angle_deg = plane(30.0, 46.0) if wcm.needs_angle else None
        # avoid the limit of the soil fraction, where rounding decides
        fraction = isolate(wcm, sigma0_db, vegetation, angle_deg).soil_fraction
        sigma0_db += 0.1 * (np.abs(fraction - wcm.min_soil_fraction) < 1e-3)
    return Observations(
        site=np.zeros(r, np.str_),
        day=19000.25 + np.cumsum(rng.uniform(0.1, 1.0, r) * card.longest_gap_days),
        sigma0_db=sigma0_db,
        vegetation=vegetation,
        angle_deg=angle_deg,
        dynamic=columns("dynamic"),
        statics=columns("static"),
        frozen=np.zeros(r, bool),
        frost_unknown=np.zeros(r, bool),
        context_missing=np.zeros(r, bool),
    )


def _spoil(observed: Observations, rng: np.random.Generator) -> Observations:
    """Add NaN, infinities, values out of range, invalid days and frozen soil, each to about 3 %."""

    def spoil(values: NDArray[np.float32]) -> NDArray[np.float32]:
        values = values.copy()
        for bad in (np.nan, np.inf, -np.inf, -9999.0, 3.4e38):
            values[rng.random(values.shape) < 0.01] = bad
        return values

    sigma0_db = spoil(observed.sigma0_db)
    sigma0_db[rng.random(sigma0_db.shape) < 0.03] = 50.0
    vegetation, angle_deg = observed.vegetation, observed.angle_deg
    if vegetation is not None:
        vegetation = spoil(vegetation)
        vegetation[rng.random(vegetation.shape) < 0.03] = 4500.0
    day = observed.day.copy()
    for bad in (np.nan, np.inf, -1e9, 19000.0, 30000.0):
        day[rng.random(len(day)) < 0.01] = bad
    return dataclasses.replace(
        observed,
        day=day,
        sigma0_db=sigma0_db,
        vegetation=vegetation,
        angle_deg=None if angle_deg is None else spoil(angle_deg),
        dynamic=spoil(observed.dynamic),
        statics=spoil(observed.statics),
        frozen=rng.random(len(observed.day)) < 0.03,
        frost_unknown=rng.random(len(observed.day)) < 0.03,
    )


def _unit(name: str) -> str:
    return UNITS.get(name, "dB" if name.endswith("_db") else "1" if "doy" in name else "as given")
