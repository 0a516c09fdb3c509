"""A model in use: load it, give it observations, get soil moisture with reasons.

One observation flows one way: window -> isolation -> tile -> LSTM -> retrieval. An engine
(:mod:`kgsm_infer.engines`) does all but the last, which is the same for every engine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from . import flags, kernels
from .card import Card, card_domain
from .columns import FROM_DATE
from .context import looks_back
from .engines import Engine, engine_of
from .errors import DataError, ModelError, UsageError
from .interval import ends, interval_of, known_of
from .kernels.domain import Domain, outside
from .kernels.wcm import in_own_terms, isolate_to_fit
from .kernels.window import whole_history, window_rows
from .observations import Observations, columns_to_read, frost_flags, observe
from .onnxfile import ModelFile, read_model_file
from .table import Table, table_from_columns

_T = TypeVar("_T")

#: Windows per engine call: small enough for the cache, large enough to amortise the call.
TILE = 960
#: Windows whose acquisitions are isolated together where they are given as arrays.
BLOCK = 4 * TILE


#: Days beyond this from their origin are no days: 27,000 years.
MOST_DAYS = 1e7


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

    def record(self, i: int) -> dict[str, Any]:
        """Retrieval ``i`` as plain JSON values: None where there is no number, flags by name.

        >>> one, nan = np.float32([0.25]), np.float32([np.nan])
        >>> Retrieval(one, nan, nan, nan, np.uint16([flags.SHORT_HISTORY])).record(0)["flags"]
        ['short_history']
        """
        numbers = {
            "sm": self.sm,
            "sm_lower": self.lower,
            "sm_upper": self.upper,
            "soil_db": self.soil_db,
        }
        told: dict[str, Any] = {
            name: float(values[i]) if np.isfinite(values[i]) else None
            for name, values in numbers.items()
        }
        raised = flags.names(int(self.flags[i]))
        return {**told, "flags": raised.split(";") if raised else []}


@dataclass(frozen=True, eq=False, repr=False)
class Model:
    """A loaded model; :func:`load` makes one. Safe to share between threads and processes.

    Two models are equal that are of one file's content and one engine. A pickled one is
    loaded again from its path, and refused where the file has changed since.
    """

    file: ModelFile
    runs_on: Engine
    domain: Domain | None = None
    threads: int = 1

    @property
    def card(self) -> Card:
        """What the model is."""
        return self.file.card

    @property
    def role(self) -> str:
        """``complete`` or ``core``, whichever file was loaded."""
        return self.file.role

    @property
    def path(self) -> Path | None:
        """Where it was loaded from; None of bytes."""
        return self.file.path

    def __repr__(self) -> str:
        return f"<kgsm model {self.file.name}: {self.card.kind}, {self.role}, {self.engine}>"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Model):
            return NotImplemented
        return (self.file.sha256, self.engine) == (other.file.sha256, other.engine)

    def __hash__(self) -> int:
        return hash((self.file.sha256, self.engine))

    def __copy__(self) -> Model:
        return self

    def __deepcopy__(self, memo: object) -> Model:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        path = self.file.path
        source = self.file.content if path is None else path.absolute()
        return _load_again, (source, self.file.sha256, self.engine, self.threads)

    @property
    def engine(self) -> str:
        """``native`` or ``onnxruntime``."""
        return self.runs_on.name

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

        Missing is NaN, or masked, and gives NaN with a flag. ValueError where shapes do not
        fit, or days are no days.
        """
        sigma0_db = filled(sigma0_db)
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
            return np.broadcast_to(filled(given[name]), shape)

        dynamic = _blocks(
            features, self.card.names("dynamic"), shape, "features", {**given, **date}
        )
        static = _blocks(statics, self.card.names("static"), shape[:1], "statics", {})
        vegetation = plane(wcm.vegetation_name) if wcm else None
        angle = plane("angle_deg") if wcm and wcm.needs_angle else None
        frost = np.broadcast_to(filled(False if frozen is None else frozen), shape)

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
                frozen=(frost[some] > 0).ravel(),
                frost_unknown=np.isnan(frost[some]).ravel(),
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

    def predict(
        self,
        table: Any,
        only: NDArray[np.int64] | None = None,
        thin: NDArray[np.bool_] | None = None,
    ) -> Retrieval:
        """One retrieval per row of ``table``, in its order; windows stay within a site.

        table: a :class:`kgsm_infer.Table`, or columns in memory: a mapping of arrays or lists,
            or a data frame of pandas, polars or pyarrow, checked as a file is.
        only: (N,) the rows to retrieve, in this order; the others are their past. None: all.
        thin: (R,) rows of which a context that the table gives is made of too little.

        DataError where the table lacks a column the card names.
        """
        if not isinstance(table, Table):
            read = self.table_of(table)
            result = self.predict(read)
            given = read.as_given(np.arange(len(read)))  # rows of one pass are one acquisition
            rows = given if only is None else given[only]
            return Retrieval._make(values[rows] for values in result)
        card = self.card
        observed = observe(
            table,
            polarisation=card.polarisation,
            vegetation=card.wcm.vegetation_name if card.wcm else None,
            needs_angle=bool(card.wcm and card.wcm.needs_angle),
            dynamic=card.names("dynamic"),
            statics=card.names("static"),
            history=card.history,
        )
        if thin is not None:
            observed = replace(observed, context_missing=observed.context_missing | thin)
        rows = window_rows(observed.site, table.day, card.steps)
        wanted = slice(None) if only is None else only
        return self.estimate(observed, rows[wanted], observed.statics[wanted])

    def newest(self, table: Any, site: str | None = None) -> list[dict[str, Any]]:
        """The newest acquisition of every site, or of one: ``site``, ``date`` and a
        :meth:`Retrieval.record` each. The earlier rows are its history.

        table: as in :meth:`predict`. DataError where it has no such site.
        """
        read = table if isinstance(table, Table) else self.table_of(table)
        names, code = np.unique(read.site, return_inverse=True)
        if site is not None and site not in names:
            raise DataError(f"{read.source}: no site {site!r}")
        last = np.lexsort((read.date, code))[np.cumsum(np.bincount(code)) - 1]
        last = last if site is None else last[names == site]
        result = self.predict(read, last)
        return [
            {"site": str(read.site[row]), "date": read.date_text[row], **result.record(i)}
            for i, row in enumerate(last)
        ]

    def table_of(self, columns: Any) -> Table:
        """A table of columns in memory, with all that this model reads."""
        return table_from_columns(columns, features=self.table_features())

    def looks_back(self) -> tuple[str, ...]:
        """The columns it reads that are made of a place's other dates."""
        names = (*self.card.names("dynamic"), *self.card.names("static"))
        return tuple(name for name in names if looks_back(name))

    def table_features(self) -> tuple[str, ...]:
        """The numeric columns to name to ``read_table`` beyond those it always checks."""
        return columns_to_read([*self.card.names("dynamic"), *self.card.names("static")])

    def estimate(
        self, observed: Observations, rows: NDArray[np.int64], statics: NDArray[np.float32]
    ) -> Retrieval:
        """Retrievals of N windows over R observations; what both calls above end in.

        rows: (N, T) indices into the observations, -1 is padding.  statics: (N, Fs).
        """
        card = self.card
        # what is out of range is so for every engine, and the same goes for the history
        observed = replace(observed, dynamic=card.in_range("dynamic", observed.dynamic))
        statics = card.in_range("static", statics)
        windows = self.runs_on.over(observed)
        n = len(rows)
        sm, soil_db = np.empty(n, np.float32), np.empty(n, np.float32)
        mask = np.empty(n, np.uint16)

        def work(tile: slice) -> None:
            some, outside = whole_history(rows[tile], observed.day, card.longest_gap_days)
            found = windows(some, statics[tile])
            if self.domain is not None:
                outside |= _outside_domain(
                    card, self.domain, observed, some[:, -1], statics[tile], found.soil_db
                )
            outside &= (found.flags & flags.NO_NUMBER) == 0
            sm[tile], soil_db[tile] = found.sm, found.soil_db
            mask[tile] = found.flags | outside * np.uint16(flags.OUTSIDE_DOMAIN)

        # the same tiles for any number of threads, and each writes its own part of the
        # results, so the numbers are the same too
        self._in_order(work, _tiles(n))
        last = rows[:, -1]
        # of frozen soil nothing else is asked: the engines cannot differ in what they saw
        mask |= observed.context_missing[last] * np.uint16(flags.CONTEXT_MISSING)
        frost = frost_flags(observed)[last]
        mask = np.where(frost > 0, (mask & flags.SHORT_HISTORY) | frost, mask)
        return finish(card, sm, soil_db, mask, observed.dynamic[last])

    def _in_order(self, work: Callable[[slice], _T], parts: Iterable[slice]) -> list[_T]:
        """The results of ``work`` on parts, which ``threads`` threads share."""
        if self.threads == 1:
            return [work(part) for part in parts]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, parts))


def load(source: str | Path | bytes, *, engine: str = "auto", threads: int = 1) -> Model:
    """Load ``NAME.onnx`` or ``NAME.core.onnx``; either file alone is enough.

    source: the file's path, or its content.
    engine: ``native`` needs numpy alone; ``onnxruntime``; ``auto`` as in
        :func:`kgsm_infer.engines.engine_of`.
    threads: tiles worked on at once. One is the default: a gateway has other work.

    ModelError says why a file is refused, MissingError that onnxruntime is not there,
    UsageError what the call got wrong.
    """
    if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
        raise UsageError(f"threads is {threads!r}; it must be a whole number of at least 1")
    file = read_model_file(source)
    return Model(file, engine_of(file, engine), card_domain(file.card), threads)


def _load_again(source: Path | bytes, sha256: str, engine: str, threads: int) -> Model:
    """A model that was pickled, in another process."""
    model = load(source, engine=engine, threads=threads)
    if model.file.sha256 != sha256:
        raise ModelError(f"{model.file.name}: not the file it was when the model was pickled")
    return model


def finish(
    card: Card,
    raw: NDArray[np.float32],
    soil_db: NDArray[np.float32],
    mask: NDArray[np.uint16],
    dynamic: NDArray[np.float32] | None = None,
) -> Retrieval:
    """Limits, interval and NaN, the same after every engine.

    dynamic: (N, Fd) of the target acquisitions, which the interval may read.

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
    mask = mask | np.uint16(flags.NO_SKILL if card.no_skill else 0)
    nan = np.float32(np.nan)
    sm = np.where(without, nan, np.clip(raw, low, high))
    lower, upper = np.full_like(sm, nan), np.full_like(sm, nan)
    if card.interval is not None:
        channels = card.names("dynamic")
        width = interval_of(card.interval, channels).point
        lower, upper = ends(width, sm, known_of(mask, dynamic, channels), card.limits.sm)
    no_soil = without if card.wcm else np.ones_like(without)  # a plain LSTM sees no soil
    return Retrieval(sm, lower, upper, np.where(no_soil, nan, soil_db), mask)


def _outside_domain(
    card: Card,
    domain: Domain,
    observed: Observations,
    last: NDArray[np.int64],
    statics: NDArray[np.float32],
    channel_db: NDArray[np.float32],
) -> NDArray[np.bool_]:
    """(N,) where the targets ``last`` are unlike the training data, the same for all engines.

    channel_db: (N,) the targets' backscatter channel, as the engine at hand has it.
    """
    layout, dynamic = card.layout, observed.dynamic[last]
    mean, inv_std = np.asarray(layout.mean[:-1], np.float32), layout.inv_std[:-1]
    x = (np.column_stack([channel_db, dynamic, statics]) - mean) * inv_std

    def in_float64(some: NDArray[np.bool_]) -> NDArray[np.float64]:
        rows = last[some]
        channel = observed.sigma0_db[rows].astype(np.float64)
        if card.wcm is not None and observed.vegetation is not None:
            # its soil fraction is above the limit, or there would be no number to doubt
            angle = 0.0 if observed.angle_deg is None else observed.angle_deg[rows]
            seen = in_own_terms(card.wcm, channel, observed.vegetation[rows], angle)
            channel = isolate_to_fit(card.wcm, seen)[0]
        raw = np.column_stack([channel, dynamic[some], statics[some]])
        return (raw - mean.astype(np.float64)) * inv_std.astype(np.float64)

    return outside(domain, kernels.dissimilarity(domain, x), in_float64)


def filled(values: Any, dtype: DTypeLike = np.float32) -> NDArray[Any]:
    """Numbers with NaN where they are missing: masked, or a data frame's own NA."""
    if np.ma.isMaskedArray(values):
        return np.asarray(np.ma.filled(values.astype(dtype), np.nan))
    if hasattr(values, "to_numpy") and hasattr(values, "isna"):  # pandas
        return np.asarray(values.to_numpy(dtype=dtype, na_value=np.nan))
    return np.asarray(values, dtype)


def _tiles(n: int, size: int = TILE) -> Iterator[slice]:
    for start in range(0, n, size):
        yield slice(start, min(start + size, n))


def _days(
    days: ArrayLike | None, shape: tuple[int, int]
) -> tuple[dict[str, ArrayLike | None], NDArray[np.float64]]:
    """The features made from dates, and days as they are, (N, T) on any one origin."""
    if days is None:
        if shape[1] > 1:
            raise ValueError("days is needed: the day of each acquisition, (T,) or (N, T)")
        return {}, np.zeros(shape)
    value = np.asarray(days)
    if np.ma.isMaskedArray(days):
        value = (
            np.ma.filled(days, np.datetime64("NaT"))
            if value.dtype.kind == "M"
            else filled(days, np.float64)
        )
    made: dict[str, ArrayLike | None] = {}
    if value.dtype.kind == "M":
        made = {name: make(value) for name, make in FROM_DATE.items()}
        day = (value - np.datetime64("1970-01-01")) / np.timedelta64(1, "D")
    else:
        day = value.astype(np.float64)
        known = np.abs(day[np.isfinite(day)])
        if known.size and known.min() > MOST_DAYS:
            raise ValueError(
                f"days from {known.min():g} on look like seconds; divide by 86,400, or give dates"
            )
    return made, np.broadcast_to(day, shape)


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
            views = [np.broadcast_to(filled(named[name]), shape) for name in names]
            return lambda some: np.stack([view[some] for view in views], axis=-1)
        array = np.zeros((*shape, 0), np.float32)
    else:
        array = filled(values)
    if array.shape != (*shape, len(names)):
        raise ValueError(
            f"{what} must be {(*shape, len(names))} for {', '.join(names) or 'no names'}, "
            f"got {array.shape}"
        )
    return lambda some: array[some]
