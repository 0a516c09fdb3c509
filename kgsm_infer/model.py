"""A model in use: load it, give it observations, get soil moisture with reasons.

One observation flows one way: window -> isolation -> tile -> LSTM -> retrieval.
The C core does the first three. The LSTM runs in it too (engine ``native``, from either
file of a model), or in onnxruntime from ``NAME.core.onnx``; onnxruntime with ``NAME.onnx`` has
all of it in the graph. All give the same numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import flags, kernels
from .card import Card, card_domain
from .columns import FROM_DATE
from .errors import MissingError, ModelError, UsageError
from .kernels import LstmRunner
from .kernels.domain import Domain
from .kernels.window import window_rows
from .observations import Observations, columns_to_read, isolate_observed, observe
from .onnxfile import ModelFile, read_model_file
from .weights import read_weights

if TYPE_CHECKING:
    from .table import Table

_T = TypeVar("_T")

#: Windows per engine call: small enough for the cache, large enough to amortise the call.
TILE = 960
#: Windows whose acquisitions are isolated together where they are given as arrays.
BLOCK = 4 * TILE
ENGINES = ("auto", "native", "onnxruntime")


class Retrieval(NamedTuple):
    """N retrievals. Where ``flags`` has a reason of NO_NUMBER, all numbers are NaN.

    sm, lower, upper: (N,) float32, m3 m-3; lower and upper are NaN in a model whose
        card has no interval.
    soil_db: (N,) float32, sigma_soil of the target acquisition (of a plain LSTM: NaN).
    flags: (N,) uint16, bits of :mod:`kgsm_infer.flags`.
    """

    sm: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    soil_db: NDArray[np.float32]
    flags: NDArray[np.uint16]


@dataclass(frozen=True)
class Model:
    """A loaded model; :func:`load` makes one. Safe to share between threads."""

    card: Card
    role: str
    path: Path
    session: Any  # onnxruntime.InferenceSession; None in the native engine
    domain: Domain | None = None
    lstm: LstmRunner | None = None  # the native engine
    threads: int = 1

    @property
    def engine(self) -> str:
        """``native`` or ``onnxruntime``."""
        return "onnxruntime" if self.lstm is None else "native"

    def retrieve(
        self,
        sigma0_db: ArrayLike,
        ndvi: ArrayLike | None = None,
        angle_deg: ArrayLike | None = None,
        features: ArrayLike | Mapping[str, ArrayLike] | None = None,
        *,
        statics: ArrayLike | Mapping[str, ArrayLike] | None = None,
        days: ArrayLike | None = None,
        vwc_kg_m2: ArrayLike | None = None,
        frozen: ArrayLike | None = None,
    ) -> Retrieval:
        """Soil moisture of the last acquisition of N sequences.

        sigma0_db: (N, T), sigma0 in dB of the card's polarisation, oldest first. Fewer
            than the card's T are padded in front (``short_history``), of more the last
            T are used.
        ndvi or vwc_kg_m2, angle_deg: (N, T) or broadcastable, where the card uses them.
        features: (N, T, Fd) in the card's order, or a mapping name -> (N, T). In a
            mapping, ``ndvi``, ``angle_deg`` and the features made from the date may be
            left out.
        statics: (N, Fs) in the card's order, or a mapping name -> (N,).
        days: (T,) or (N, T), numbers or datetime64; may be left out where T is 1.
        frozen: (N, T) true where the soil is frozen or under snow.

        Missing is NaN and gives NaN with a flag. ValueError where shapes do not fit.
        """
        sigma0_db = np.asarray(sigma0_db, np.float32)
        if sigma0_db.ndim != 2:
            raise ValueError(f"sigma0_db must be (N, T), got shape {sigma0_db.shape}")
        shape = sigma0_db.shape
        if shape[1] == 0:
            raise ValueError("sigma0_db has no acquisition (T is 0)")
        date, day = _days(days, shape)
        wcm = self.card.wcm
        given: dict[str, ArrayLike | None] = {"ndvi": ndvi, "vwc_kg_m2": vwc_kg_m2}
        given["angle_deg"] = angle_deg
        given[f"{self.card.polarisation}_db"] = sigma0_db

        def plane(name: str) -> NDArray[np.float32]:
            if given.get(name) is None:
                raise ValueError(f"this model reads {name}; give it")
            return np.broadcast_to(np.asarray(given[name], np.float32), shape)

        dynamic = _blocks(
            features, self.card.names("dynamic"), shape, "features", {**given, **date}
        )
        static = _blocks(statics, self.card.names("static"), shape[:1], "statics", {})
        vegetation = plane(wcm.vegetation_name) if wcm else None
        angle = plane("angle_deg") if wcm and wcm.needs_angle else None
        no_soil = np.broadcast_to(np.asarray(False if frozen is None else frozen, bool), shape)

        def block(some: slice) -> Retrieval:
            windows = sigma0_db[some]
            size = windows.size
            observed = Observations(
                site=np.empty(0, np.str_),  # windows are given, no site is looked at
                day=day[some].ravel(),
                sigma0_db=windows.ravel(),
                vegetation=None if vegetation is None else vegetation[some].ravel(),
                angle_deg=None if angle is None else angle[some].ravel(),
                dynamic=dynamic(some).reshape(size, self.card.layout.dynamic),
                statics=static(some),
                frozen=no_soil[some].ravel(),
                context_missing=np.zeros(size, bool),  # the caller's features hold it
            )
            rows = np.arange(size).reshape(windows.shape)[:, -self.card.steps :]
            padding = np.full((len(windows), self.card.steps - rows.shape[1]), -1)
            return one_thread.estimate(observed, np.hstack([padding, rows]), observed.statics)

        # block by block, so that what is held beside inputs and results does not grow
        one_thread = replace(self, threads=1)
        blocks = self._in_order(block, _tiles(shape[0], BLOCK)) or [block(slice(0, 0))]
        return (
            blocks[0]
            if len(blocks) == 1
            else Retrieval(*map(np.concatenate, zip(*blocks, strict=True)))
        )

    def predict(self, table: Table, only: NDArray[np.int64] | None = None) -> Retrieval:
        """One retrieval per row of ``table``, in its order; windows stay within a site.

        only: (N,) the rows to retrieve, in this order; the others are their past. None: all.

        DataError where the table lacks a column the card names.
        """
        card = self.card
        observed = observe(
            table,
            polarisation=card.polarisation,
            vegetation=card.wcm.vegetation_name if card.wcm else None,
            needs_angle=bool(card.wcm and card.wcm.needs_angle),
            dynamic=card.names("dynamic"),
            statics=card.names("static"),
        )
        rows = window_rows(observed.site, table.day, card.steps)
        wanted = slice(None) if only is None else only
        return self.estimate(observed, rows[wanted], observed.statics[wanted])

    def table_features(self) -> tuple[str, ...]:
        """The numeric columns to name to ``read_table`` beyond those it always checks."""
        return columns_to_read([*self.card.names("dynamic"), *self.card.names("static")])

    def estimate(
        self, observed: Observations, rows: NDArray[np.int64], statics: NDArray[np.float32]
    ) -> Retrieval:
        """Retrievals of N windows over R observations; what both calls above end in.

        rows: (N, T) indices into the observations, -1 is padding.  statics: (N, Fs).
        """
        packs = self.lstm is not None or self.role == "core"
        run = self._run_packed if packs else self._run_complete
        raw, soil_db, mask = run(observed, rows, statics)
        # of frozen soil nothing else is asked: the engines cannot differ in what they saw
        mask |= observed.context_missing[rows[:, -1]] * np.uint16(flags.CONTEXT_MISSING)
        frozen = observed.frozen[rows[:, -1]]
        mask[frozen] = (mask[frozen] & flags.SHORT_HISTORY) | flags.FROZEN_OR_SNOW
        return finish(self.card, raw, soil_db, mask)

    def _run_packed(
        self, observed: Observations, rows: NDArray[np.int64], statics: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Isolation and packing in the C core, then the LSTM of the engine."""
        channel_db, step_flags = backscatter_channel(self.card, observed)
        layout = self.card.layout
        raw = np.empty(len(rows), np.float32)
        mask = np.empty(len(rows), np.uint16)
        lstm = self.lstm or self._lstm_in_session

        def work(tile: slice) -> None:
            packed, mask[tile] = kernels.pack(
                layout,
                rows[tile],
                channel_db,
                step_flags,
                observed.day,
                observed.dynamic,
                statics[tile],
            )
            raw[tile] = lstm(packed)
            if self.domain is not None:
                target = packed[-1, :, : self.domain.points.shape[1]]
                outside = kernels.dissimilarity(self.domain, target) > self.domain.threshold
                outside &= (mask[tile] & flags.NO_NUMBER) == 0
                mask[tile] |= outside * np.uint16(flags.OUTSIDE_DOMAIN)

        self._over_tiles(len(rows), work)
        last = rows[:, -1]
        soil_db = channel_db[last] if self.card.wcm else np.full(len(rows), np.nan, np.float32)
        return raw, soil_db, mask

    def _run_complete(
        self, observed: Observations, rows: NDArray[np.int64], statics: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint16]]:
        """Everything in the graph. Frozen acquisitions enter it as missing ones."""
        sigma0_db = np.where(observed.frozen, np.float32(np.nan), observed.sigma0_db)
        planes = {
            "sigma0_db": sigma0_db,
            "day": observed.day,
            "vegetation": observed.vegetation,
            "angle_deg": observed.angle_deg,
            "features": observed.dynamic if self.card.names("dynamic") else None,
        }
        soil_db = np.empty(len(rows), np.float32)
        raw = np.empty(len(rows), np.float32)
        mask = np.empty(len(rows), np.uint16)

        def work(tile: slice) -> None:
            pad = rows[tile] < 0
            feed = {}
            for name, values in planes.items():
                if values is not None:
                    window = values[rows[tile]]
                    window[pad] = np.nan
                    feed[self._input_name(name)] = window
            if self.card.names("static"):
                feed["statics"] = statics[tile]
            raw[tile], soil_db[tile], graph_flags = self.session.run(
                ["sm", "soil_db", "flags"], feed
            )
            mask[tile] = graph_flags

        self._over_tiles(len(rows), work)
        return raw, soil_db, mask

    def _lstm_in_session(self, tile: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(self.session.run(["sm"], {"tile": tile})[0], np.float32)

    def _over_tiles(self, n: int, work: Callable[[slice], None]) -> None:
        """``work`` on every tile of n windows. Tiles are the same for any number of threads,
        and each writes its own part of the results, so the numbers are the same too."""
        self._in_order(work, _tiles(n))

    def _in_order(self, work: Callable[[slice], _T], parts: Iterable[slice]) -> list[_T]:
        """The results of ``work`` on parts, which ``threads`` threads share."""
        if self.threads == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, parts))

    def _input_name(self, name: str) -> str:
        if name == "vegetation" and self.card.wcm:
            return self.card.wcm.vegetation_name
        return name


def load(path: str | Path, *, engine: str = "auto", threads: int = 1) -> Model:
    """Load ``NAME.onnx`` or ``NAME.core.onnx``; either file alone is enough.

    engine: ``native`` needs numpy alone; ``onnxruntime``; ``auto`` is native where the C core
        has a tier for this processor or onnxruntime is not installed (docs/performance.md
        has the measurements behind that).
    threads: tiles worked on at once. One is the default: a gateway has other work.

    ModelError says why a file is refused, MissingError that onnxruntime is not there.
    """
    if engine not in ENGINES:
        raise UsageError(f"engine {engine!r} is none of {', '.join(ENGINES)}")
    file = read_model_file(path)
    domain = card_domain(file.card)
    if engine == "auto":
        vectors = kernels.tier_name() not in ("portable", "numpy")
        engine = "native" if vectors or find_spec("onnxruntime") is None else "onnxruntime"
    if engine == "native":
        layout = file.card.layout
        lstm = kernels.lstm_runner(read_weights(file), 1 + layout.dynamic, layout.statics)
        return Model(file.card, file.role, file.path, None, domain, lstm, threads)
    return Model(file.card, file.role, file.path, _session(file), domain, None, threads)


def backscatter_channel(
    card: Card, observed: Observations
) -> tuple[NDArray[np.float32], NDArray[np.uint16]]:
    """The LSTM's first channel, dB, and the flags of each of R acquisitions."""
    if card.wcm is None:
        channel_db, mask = kernels.screen(observed.sigma0_db, card.limits)
    else:
        channel_db, _, mask = isolate_observed(card.wcm, observed)
    return channel_db, mask | observed.frozen * np.uint16(flags.FROZEN_OR_SNOW)


def finish(
    card: Card, raw: NDArray[np.float32], soil_db: NDArray[np.float32], mask: NDArray[np.uint16]
) -> Retrieval:
    """Limits, interval and NaN, the same after every engine.

    An engine may turn NaN inputs into finite numbers (onnxruntime's LSTM does), so what
    has no number is set to NaN here, whatever came back.
    """
    low, high = np.float32(card.limits.sm[0]), np.float32(card.limits.sm[1])
    without = (mask & flags.NO_NUMBER) != 0
    broken = ~np.isfinite(raw) & ~without
    if broken.any():  # an engine fault must not pass for "missing input" without a word
        raise ModelError(
            f"the engine returned no finite number for {int(broken.sum())} valid windows; "
            "the model file or the runtime is broken"
        )
    clipped = ~without & ((raw < low) | (raw > high))
    mask = mask | clipped * np.uint16(flags.SM_CLIPPED)
    nan = np.float32(np.nan)
    sm = np.where(without, nan, np.clip(raw, low, high))
    lower, upper = np.full_like(sm, nan), np.full_like(sm, nan)
    if card.interval is not None:
        lower = np.clip(sm + np.float32(card.interval["lower"]), low, high)
        upper = np.clip(sm + np.float32(card.interval["upper"]), low, high)
    return Retrieval(sm, lower, upper, np.where(without, nan, soil_db), mask)


def _session(file: ModelFile) -> Any:
    """onnxruntime with one thread of its own and no spinning: the threads are ours."""
    try:
        import onnxruntime as ort
    except ImportError as error:
        raise MissingError(f"onnxruntime cannot be imported ({error})") from None
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ModelError(f"{file.path}: onnxruntime refuses the model ({reason})") from None


def _tiles(n: int, size: int = TILE) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _days(
    days: ArrayLike | None, shape: tuple[int, int]
) -> tuple[dict[str, ArrayLike | None], NDArray[np.float32]]:
    """The features made from dates, and days as float32 numbers on one origin, (N, T)."""
    if days is None:
        if shape[1] > 1:
            raise ValueError("days is needed: the day of each acquisition, (T,) or (N, T)")
        return {}, np.zeros(shape, np.float32)
    value = np.asarray(days)
    made: dict[str, ArrayLike | None] = {}
    if value.dtype.kind == "M":
        made = {name: make(value) for name, make in FROM_DATE.items()}
        day = (value - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    else:
        day = value.astype(np.float64)
    with np.errstate(invalid="ignore"):
        first = np.nanmin(day) if np.isfinite(day).any() else 0.0
        return made, np.broadcast_to((day - first).astype(np.float32), shape)


def _blocks(
    values: ArrayLike | Mapping[str, ArrayLike] | None,
    names: tuple[str, ...],
    shape: tuple[int, ...],
    what: str,
    given: Mapping[str, ArrayLike | None],
) -> Callable[[slice], NDArray[np.float32]]:
    """Named or ordered features of a block of windows, (block, *shape[1:], len(names)).

    An array is handed on as it is; a mapping is put into the card's order.
    """
    if values is None or isinstance(values, Mapping):
        named = {**given, **(values or {})}
        for name in names:
            if named.get(name) is None:
                raise ValueError(f"this model reads {what} {', '.join(names)}; {name} is not given")
        if names:
            views = [np.broadcast_to(np.asarray(named[name], np.float32), shape) for name in names]
            return lambda some: np.stack([view[some] for view in views], axis=-1)
        array = np.zeros((*shape, 0), np.float32)
    else:
        array = np.asarray(values, np.float32)
    if array.shape != (*shape, len(names)):
        raise ValueError(
            f"{what} must be {(*shape, len(names))} for {', '.join(names) or 'no names'}, "
            f"got {array.shape}"
        )
    return lambda some: array[some]
