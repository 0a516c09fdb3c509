"""Three engines, one interface: observations to the retrieved quantity.

    native     isolation, packing and the LSTM in the C core (or its NumPy twins)
    core       isolation and packing there, the LSTM of NAME.core.onnx in onnxruntime
    complete   all of it in the graph of NAME.onnx, in onnxruntime

They give the same flags, and numbers within 1e-5 of each other. :mod:`kgsm_infer.model.model`
applies what is common to all: limits, interval and domain.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import kernels
from ..base import flags
from ..base.errors import MissingError, ModelError, UsageError, is_out_of_memory
from ..kernels import LstmRunner
from ..kernels.window import Acquisitions, days_apart
from .card import Card
from .observations import Observations, frost_flags, isolate_observed
from .onnx_reader import ModelFile
from .weights import read_weights

ENGINES = ("auto", "native", "onnxruntime")


class Estimate(NamedTuple):
    """Raw output of an engine for N windows.

    sm: (N,) float32, neither clipped nor masked; anything where ``flags`` has a reason.
    soil_db: (N,) float32, of the target acquisition (of a plain LSTM: its sigma0).
    flags: (N,) uint16.
    """

    sm: NDArray[np.float32]
    soil_db: NDArray[np.float32]
    flags: NDArray[np.uint16]


#: (rows (N, T) into the acquisitions, -1 is padding; statics (N, Fs)) -> estimates
Windows = Callable[[NDArray[np.int64], NDArray[np.float32]], Estimate]


class Engine(Protocol):
    """Runs a model; safe to share between threads."""

    @property
    def name(self) -> str:
        """``native`` or ``onnxruntime``."""

    def over(self, observed: Observations) -> Windows:
        """Prepare R acquisitions once; the result is called for one tile of windows at a time."""


@dataclass(frozen=True)
class PackedEngine:
    """Isolation and packing in the C core, then the LSTM of either engine."""

    card: Card
    name: str
    lstm: LstmRunner

    def over(self, observed: Observations) -> Windows:
        """See :class:`Engine`."""
        channel_db, step_flags = backscatter_channel(self.card, observed)
        acquisitions = Acquisitions(channel_db, step_flags, observed.day, observed.dynamic)

        def windows(rows: NDArray[np.int64], statics: NDArray[np.float32]) -> Estimate:
            tile, mask = kernels.pack(self.card.layout, rows, acquisitions, statics)
            return Estimate(self.lstm(tile), channel_db[rows[:, -1]], mask)

        return windows


@dataclass(frozen=True)
class GraphEngine:
    """Everything in the graph. session: an ``onnxruntime.InferenceSession``, or its like."""

    card: Card
    session: Any
    name: str = "onnxruntime"

    def over(self, observed: Observations) -> Windows:
        """See :class:`Engine`. Frozen acquisitions enter the graph as missing ones."""
        card, unusable = self.card, observed.frozen | observed.frost_unknown
        planes = {
            "sigma0_db": np.where(unusable, np.float32(np.nan), observed.sigma0_db),
            "vegetation": observed.vegetation,
            "angle_deg": observed.angle_deg,
            "features": observed.dynamic if card.names("dynamic") else None,
        }
        if card.wcm is not None:
            planes[card.wcm.vegetation_name] = planes.pop("vegetation")
        given = {name: values for name, values in planes.items() if values is not None}

        def windows(rows: NDArray[np.int64], statics: NDArray[np.float32]) -> Estimate:
            feed = {"day": days_apart(rows, observed.day)}
            for name, values in given.items():
                feed[name] = values[rows]
                feed[name][rows < 0] = np.nan
            if card.names("static"):
                feed["statics"] = statics
            sm, soil_db, mask = _run(self.session, ["sm", "soil_db", "flags"], feed)
            if card.wcm is None:
                soil_db = observed.sigma0_db[rows[:, -1]]
            # Model checks the domain, for all engines
            return Estimate(sm, soil_db, np.asarray(mask & ~flags.OUTSIDE_DOMAIN, np.uint16))

        return windows


def engine_of(file: ModelFile, name: str = "auto") -> Engine:
    """Return the engine of that name for a model file.

    ``auto`` is native where the C core has a tier for this processor or onnxruntime is not
    installed (docs/performance.md has the measurements behind that). ModelError where the
    file does not hold what its card says, MissingError where onnxruntime is not there.
    """
    if name not in ENGINES:
        raise UsageError(f"engine {name!r} is unknown; choose {', '.join(ENGINES)}")
    if name == "auto":
        vectors = kernels.tier_name() not in ("portable", "numpy")
        name = "native" if vectors or find_spec("onnxruntime") is None else "onnxruntime"
    weights = read_weights(file)  # for every engine: onnxruntime makes numbers of NaN weights
    if name == "native":
        layout, readout = file.card.layout, file.card.readout
        lstm = kernels.lstm_runner(weights, 1 + layout.dynamic, layout.statics, readout)
        return PackedEngine(file.card, name, lstm)
    session = _session(file)
    if file.role == "complete":
        return GraphEngine(file.card, session)

    def lstm_in_session(tile: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(_run(session, ["sm"], {"tile": tile})[0], np.float32)

    return PackedEngine(file.card, name, lstm_in_session)


def backscatter_channel(
    card: Card, observed: Observations
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """Return the LSTM's first channel, dB, and the flags of each of R acquisitions."""
    if card.wcm is None:
        channel_db, mask = kernels.screen(observed.sigma0_db, card.limits)
    else:
        channel_db, _, mask = isolate_observed(card.wcm, observed)
    return channel_db, mask | frost_flags(observed)


def _run(session: Any, outputs: list[str], feed: dict[str, Any]) -> list[Any]:
    """Run a session; ModelError in one line where onnxruntime cannot."""
    try:
        found: list[Any] = session.run(outputs, feed)
    except MemoryError:
        raise
    except Exception as error:  # noqa: BLE001  its own types share no other base
        if is_out_of_memory(error):
            raise MissingError("not enough memory for onnxruntime to run the model") from None
        raise ModelError(f"onnxruntime cannot run the model ({_first_line(error)})") from None
    return found


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__


def _session(file: ModelFile) -> Any:
    """Open an onnxruntime session with one thread and no spinning; kgsm makes the threads."""
    # from 1.32 on it writes a device id and an event store into HOME when imported, unless
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingError(
            f"onnxruntime cannot be imported ({error}): pip install 'kgsm[onnxruntime]', or "
            "take engine native"
        ) from None
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(
            file.content, sess_options=options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # noqa: BLE001  its own types share no other base
        raise ModelError(
            f"{file.name}: onnxruntime refuses the model ({_first_line(error)})"
        ) from None
